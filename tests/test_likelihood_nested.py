"""Nested random intercepts: the compiled passes against the general engine, which is checked against dense algebra."""

import numpy as np
import pytest
from designs import Coded, clustered, engine_of, fitted, model
from test_likelihood_crossed import CORRELATED, INTERCEPT, Case, central_differences, dense_laplace

from sklmm.likelihood import nested
from sklmm.likelihood.nested import NestedLikelihood

KINDS = {"nested": 2, "nested twice": 3}


@pytest.fixture(params=[(kind, n, weighted) for kind in KINDS for n in (160, 2500) for weighted in (False, True)],
                ids=str)  # fmt: skip
def case(request):
    kind, n, weighted = request.param
    return Case(kind, [INTERCEPT] * KINDS[kind], n=n, weighted=weighted)


def nested_engine(case, **keywords):
    return engine_of(case.X, case.y, case.factors, sample_weight=case.w, **keywords, engine=NestedLikelihood)


def at(engine, x):
    """Evaluated twice: the second time the modes begin where the first left off, and are exact."""
    engine.evaluate(x)
    return engine.evaluate(x)


def test_value_gradient_and_hessian_of_the_general_engine(case):
    value, gradient, hessian = at(nested_engine(case, standardise=False), case.x)
    expected, expected_gradient, _ = case.engine.evaluate(case.x)
    assert value == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)
    information = case.engine.information(case.x)
    differences = case.engine.hessian(case.x, information, np.ones(case.x.size, dtype=bool))
    scale = np.sqrt(np.maximum(np.diag(information), np.abs(np.diag(hessian))))
    np.testing.assert_allclose(hessian / np.outer(scale, scale), differences / np.outer(scale, scale), atol=3e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero", [None, 0, 1])
def test_derivatives_of_central_differences(kind, zero):
    case = Case(kind, [INTERCEPT] * KINDS[kind])
    if zero is not None:
        case.x[4 + zero] = 0.0
    engine = nested_engine(case, standardise=False)
    value, gradient, hessian = at(engine, case.x)
    assert value == pytest.approx(dense_laplace(case, case.x)[0], abs=1e-9)
    np.testing.assert_allclose(gradient, central_differences(lambda x: at(engine, x)[0], case.x), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(hessian, central_differences(lambda x: at(engine, x)[1], case.x), rtol=1e-7, atol=1e-7)


def test_trees_longer_than_a_tile():
    """One school of 6,000 rows, of which one class has 4,000, beside small ones."""
    rng = np.random.default_rng(0)
    room = np.concatenate([np.zeros(4000, int), np.repeat(np.arange(1, 41), 50), rng.integers(41, 60, 800)])
    school = np.where(room < 41, 0, 1 + room % 5)
    order = rng.permutation(room.size)
    room, school = room[order], school[order]
    X = rng.normal(size=(room.size, 3))
    y = (rng.random(room.size) < 1 / (1 + np.exp(-X[:, 0] - rng.normal(size=60)[room]))).astype(np.uint8)
    factors = [Coded(school, 6, *INTERCEPT), Coded(room, 60, *INTERCEPT)]
    x = np.array([0.5, 0.1, -0.1, 0.2, 0.6, 0.9])
    engine = engine_of(X, y, factors, standardise=False, engine=NestedLikelihood)
    value, gradient, hessian = at(engine, x)
    assert engine.kernel.ld == 8
    split = engine_of(X, y, factors, standardise=False, n_threads=2, engine=NestedLikelihood)
    assert at(split, x)[0] == value
    np.testing.assert_allclose(gradient, central_differences(lambda x: at(engine, x)[0], x), rtol=1e-7, atol=2e-6)
    np.testing.assert_allclose(hessian, central_differences(lambda x: at(engine, x)[1], x), rtol=1e-7, atol=2e-6)


def test_outer_factor_of_variance_zero_is_one_factor(case):
    """... and the same with the leaves' variance zero."""
    engine = nested_engine(case, standardise=False)
    for keep in range(len(case.factors)):
        f = case.factors[keep]
        one = clustered(
            case.X, case.y, f.codes, f.n_levels, *INTERCEPT, sample_weight=case.w, standardise=False
        )
        x = np.append(case.x[:4], np.zeros(len(case.factors)))
        x[4 + keep] = 0.8
        value, gradient, hessian = one.evaluate(np.append(case.x[:4], 0.8))
        got = engine.evaluate(x)
        shared = [0, 1, 2, 3, 4 + keep]
        assert got[0] == pytest.approx(value, abs=1e-9)
        np.testing.assert_allclose(got[1][shared], gradient, atol=1e-8)
        np.testing.assert_allclose(got[2][np.ix_(shared, shared)], hessian, atol=1e-7)


def test_modes_are_found_from_anywhere(case):
    engine = nested_engine(case, standardise=False)
    expected = engine.evaluate(case.x)[0]
    for scale in (5.0, 100.0, -1e4):
        for u in engine.modes:
            u[:] = scale * np.random.default_rng(0).normal(size=u.size)
        assert engine.evaluate(case.x)[0] == pytest.approx(expected, abs=1e-8)


def test_samples_of_blocks_add_up():
    case = Case("nested", [INTERCEPT] * 2, n=6000, weighted=False)
    rng = np.random.default_rng(0)
    leaf = rng.integers(0, 900, 6000)
    factors = [Coded(leaf // 3, 300, *INTERCEPT), Coded(leaf, 900, *INTERCEPT)]
    engine = engine_of(case.X, case.y, factors, engine=NestedLikelihood)
    x = np.array([0.1, 0.2, 0.3, 0.1, 0.7, 0.7])
    beta, theta, state = np.append(x[:4], np.zeros(4)), x[4:][engine._coefficients], (engine.modes, engine.curvature)
    blocks = np.arange(engine.blocks.n)
    parts = [engine.kernel.evaluate(beta, theta, *state, 1e-10, (blocks - k) % 3, 1) for k in range(3)]
    whole = engine.evaluate(x)
    assert sum(part[0] for part in parts) == pytest.approx(whole[0], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_thread_count_changes_no_bit(kind):
    fits = []
    for n_threads in (1, 2, 5):
        case = Case(kind, [INTERCEPT] * KINDS[kind], n=4000)
        fits.append(fitted(case.X, case.y, factors=case.factors, sample_weight=case.w, n_threads=n_threads))
    for other in fits[1:]:
        assert other.log_likelihood == fits[0].log_likelihood
        assert np.array_equal(other.beta, fits[0].beta) and np.array_equal(other.vcov, fits[0].vcov)
        for f in range(KINDS[kind]):
            assert np.array_equal(other.modes[f], fits[0].modes[f])
            assert np.array_equal(other.mode_cov[f], fits[0].mode_cov[f])


def test_fit_of_the_general_engine(monkeypatch):
    case = Case("nested twice", [INTERCEPT] * 3, n=4000)
    fast = fitted(case.X, case.y, factors=case.factors, sample_weight=case.w)
    monkeypatch.setattr(nested, "serves", lambda *model: False)
    general = fitted(case.X, case.y, factors=case.factors, sample_weight=case.w)
    assert fast.log_likelihood == pytest.approx(general.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(fast.beta, general.beta, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(fast.theta), np.concatenate(general.theta), atol=2e-5)
    np.testing.assert_allclose(fast.vcov[:4, :4], general.vcov[:4, :4], rtol=1e-4, atol=1e-8)
    for f in range(3):
        np.testing.assert_allclose(fast.modes[f], general.modes[f], atol=2e-5)
        np.testing.assert_allclose(fast.mode_cov[f], general.mode_cov[f], atol=2e-5)


def test_posteriors_of_the_general_engine(case):
    engine = nested_engine(case, standardise=False)
    at(engine, case.x)
    engine.random_effects(case.x)
    (fast, joint), _ = engine.posteriors(case.x), case.engine.evaluate(case.x)
    general, general_joint = case.engine.posteriors(case.x)
    for f in range(len(fast)):
        np.testing.assert_allclose(fast[f].modes, general[f].modes, atol=1e-7)
        np.testing.assert_allclose(fast[f].mean, general[f].mean, atol=1e-7)
        np.testing.assert_allclose(fast[f].cov, general[f].cov, atol=1e-7)
    pairs = np.array([0, 1, 2]), np.array([1, 0, 1])
    np.testing.assert_allclose(
        joint.covariance(0, pairs[0], 1, pairs[1]), general_joint.covariance(0, pairs[0], 1, pairs[1]), atol=1e-8
    )


def test_which_designs_are_served():
    case = Case("nested", [INTERCEPT, INTERCEPT])
    def serves(case):
        return nested.serves(*model(case.X, case.y, case.factors))

    assert serves(case)
    assert not serves(Case("nested", [INTERCEPT, CORRELATED]))
    assert not serves(Case("crossed", [INTERCEPT, INTERCEPT]))


def test_sorted_rows_are_not_copied():
    n = 4000
    leaf = np.arange(n) // 10
    X = np.random.default_rng(0).normal(size=(n, 3))
    factors = [Coded(leaf // 8, 50, *INTERCEPT), Coded(leaf, 400, *INTERCEPT)]
    engine = engine_of(X, (np.arange(n) % 3 == 0).astype(np.uint8), factors, engine=NestedLikelihood)
    assert engine._sort_rows() is None
    before = engine.evaluate(np.full(6, 0.5))[0]
    X[:, 0] *= 2.0  # the kernel refers to X itself
    assert engine.evaluate(np.full(6, 0.5))[0] != before
