"""Offsets: a column whose coefficient is 1, in every engine and whatever is made of a fit."""

import json

import numpy as np
import pytest
from designs import Coded, engine_of, fitted, model, posteriors
from reference_data import REFERENCE_DIR
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from sklmm.datasets import load_contraception
from sklmm.design.observations import read_offset
from sklmm.design.row_moments import row_moments
from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.estimating.correlation import resolve_correlation
from sklmm.estimating.scoring import fit_gee
from sklmm.families import LOGIT
from sklmm.inference.bootstrap import ClusterDraw, MarginalRefit, ParametricDraw
from sklmm.inference.parameters import FixedEffect
from sklmm.inference.profile import profile_interval
from sklmm.likelihood.fit import conclude, maximum
from sklmm.likelihood.leaving_out import influence, natural_factors, without_clusters
from sklmm.likelihood.objective import MixedObjective
from sklmm.passes.offsets import intercept_beside, log_likelihood_at

# ---- rows ------------------------------------------------------------------------------------------------------


def _rows(n=400, n_levels=25, seed=0, spread=1.0):
    """Unsorted rows with two features, an offset, nested and crossed codes, and counts of which some are 0."""
    rng = np.random.default_rng(seed)
    codes, item = rng.integers(0, n_levels, n), rng.integers(0, 7, n)
    codes[:n_levels], item[:7] = np.arange(n_levels), np.arange(7)
    X, offset = rng.normal(size=(n, 2)), spread * rng.normal(size=n)
    effects = rng.normal(size=n_levels)
    eta = 0.3 + X @ [0.7, -0.5] + offset + effects[codes] + 0.6 * rng.normal(size=7)[item]
    y = (rng.random(n) < expit(eta)).astype(np.uint8)
    return X, y, offset, codes, item, rng.integers(0, 3, n).astype(float)


def _factors(kind, codes, item):
    """Factors of an engine of each kind."""
    n_levels = codes.max() + 1
    outer, intercept = codes // 5, ([-1], [(1, True)])
    return {
        "none": [],
        "intercept": [Coded(codes, n_levels, *intercept)],
        "slope": [Coded(codes, n_levels, [-1, 0], [(2, True)])],
        "four": [Coded(codes, n_levels, [-1, 0, 1, 2], [(4, True)])],
        "nested": [Coded(codes, n_levels, *intercept), Coded(outer, outer.max() + 1, *intercept, "outer")],
        "crossed": [Coded(codes, n_levels, *intercept), Coded(item, 7, *intercept, "item")],
    }[kind]


KINDS = [("none", 1), ("intercept", 1), ("intercept", 5), ("slope", 1), ("slope", 3), ("nested", 1), ("crossed", 1)]

# ---- engines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "long"])
@pytest.mark.parametrize(("kind", "nodes"), KINDS)
def test_an_offset_is_a_column_with_coefficient_1(kind, nodes, size):
    """Value, gradient and Hessian, of short groups and of some that are longer than a tile."""
    X, y, offset, codes, item, w = _rows() if size == "small" else _rows(6000, 5)
    if size == "long":
        codes = np.where(codes == 0, 0, codes // 2)
        codes = np.unique(codes, return_inverse=True)[1]
    settings = dict(standardise=False, sample_weight=w, n_quadrature=nodes)
    factors = _factors(kind, codes, item)
    beside = engine_of(X, y, factors, offset=offset, **settings)
    within = engine_of(np.column_stack([X, offset]), y, factors, **settings)
    rng = np.random.default_rng(1)
    theta = rng.normal(size=beside.n_params - 3) if factors else np.zeros(1)
    x, longer = np.array([0.5, -0.4, 0.2, *theta]), np.array([0.5, -0.4, 1.0, 0.2, *theta])
    for _ in range(2):  # twice: the second begins at the modes that the first has found
        found, expected = beside.evaluate(x), within.evaluate(longer)
    kept = np.delete(np.arange(longer.size), 2)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(found[1], expected[1][kept], rtol=1e-9, atol=1e-8)
    if found[2] is not None:
        scale = np.abs(expected[2]).max()
        np.testing.assert_allclose(found[2], expected[2][np.ix_(kept, kept)], rtol=1e-8, atol=1e-9 * scale)
    for one, other in zip(beside.random_effects(x)[0], within.random_effects(longer)[0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    if nodes == 1 and factors:
        for one, other in zip(beside.posteriors(x)[0], within.posteriors(longer)[0], strict=True):
            at = np.arange(one.modes.shape[0])
            np.testing.assert_allclose(one.covariances(at), other.covariances(at), atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "intercept", "slope", "nested"])
def test_samples_of_blocks_have_their_rows_offsets(kind):
    X, y, offset, codes, item, _ = _rows(30_000, 600)
    factors = _factors(kind, codes, item)
    beside = engine_of(X, y, factors, offset=offset, standardise=False)
    within = engine_of(np.column_stack([X, offset]), y, factors, standardise=False)
    assert 8 in beside.strides
    x, longer = np.array([0.5, -0.4, 0.2]), np.array([0.5, -0.4, 1.0, 0.2])
    theta = beside.covariance.start() if factors else np.zeros(1)
    # (the tiles of a row more are smaller: the same sample needs the same tiles)
    for stride in (8, 1):
        value = beside.evaluate(np.append(x, theta), stride)[0]
        if stride == 1 or beside.blocks.n == within.blocks.n:
            assert value == pytest.approx(within.evaluate(np.append(longer, theta), stride)[0], rel=1e-9)
    shifted = engine_of(X, y, factors, offset=offset + 0.7, standardise=False)
    moved = np.append(x + [0.0, 0.0, -0.7], theta)
    for stride in (8, 1):
        assert shifted.evaluate(moved, stride)[0] == pytest.approx(beside.evaluate(np.append(x, theta), stride)[0])


@pytest.mark.parametrize("kind", ["intercept", "crossed"])
def test_the_gradient_is_that_of_the_value(kind):
    X, y, offset, codes, item, w = _rows(spread=3.0)
    engine = engine_of(X, y, _factors(kind, codes, item), offset=offset + 5.0, sample_weight=w)
    x = np.array([0.6, -0.4, 0.1, *np.full(engine.n_params - 3, 0.8)])
    engine.evaluate(x)
    gradient = engine.evaluate(x)[1]
    for j, unit in enumerate(np.eye(x.size) * 1e-5):
        change = engine.evaluate(x + unit)[0] - engine.evaluate(x - unit)[0]
        assert change / 2e-5 == pytest.approx(gradient[j], rel=1e-5, abs=1e-5)


# ---- fits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "nodes"), KINDS)
def test_a_constant_offset_moves_the_intercept_alone(kind, nodes):
    X, y, _, codes, item, w = _rows()
    settings = dict(factors=_factors(kind, codes, item), sample_weight=w, n_quadrature=nodes)
    plain = fitted(X, y, **settings)
    for size in (0.3, -1e3, 1e6):
        moved = fitted(X, y, offset=np.full(len(y), size), **settings)
        assert moved.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-13)
        assert moved.beta[0] + size == pytest.approx(plain.beta[0], abs=1e-12 + 1e-9 * abs(size) ** 0.5)
        np.testing.assert_allclose(moved.beta[1:], plain.beta[1:], rtol=1e-12, atol=1e-14)
        differences = kind == "crossed"  # its Hessian is by differences of gradients
        np.testing.assert_allclose(moved.vcov, plain.vcov, rtol=1e-7 if differences else 1e-11, atol=1e-15)
        for one, other in zip(moved.modes, plain.modes, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("kind", "nodes"), KINDS)
def test_the_fit_is_the_maximum_where_the_columns_coefficient_is_1(kind, nodes, fit_intercept):
    X, y, offset, codes, item, w = _rows()
    settings = dict(sample_weight=w, n_quadrature=nodes, fit_intercept=fit_intercept)
    factors = _factors(kind, codes, item)
    fit = fitted(X, y, factors=factors, offset=offset + 2.0, **settings)
    assert fit.report.converged
    within = engine_of(np.column_stack([X, offset + 2.0]), y, factors, **settings)
    at = within.units.internal(np.append(fit.beta, 1.0), np.concatenate(fit.theta or [np.zeros(1)]))
    value, gradient, _ = within.evaluate(at)
    assert value == pytest.approx(fit.log_likelihood, rel=1e-11)
    natural = np.linalg.solve(within.units.fixed_map().T, gradient[: within.n_fixed])
    np.testing.assert_allclose(natural[:-1], 0.0, atol=2e-4)  # the last is the offset's, whose coefficient is held
    if factors:
        np.testing.assert_allclose(gradient[within.n_fixed :], 0.0, atol=2e-4)


def test_the_likelihood_is_that_of_brute_force():
    """A random intercept integrated over a fine grid, and maximised by a stranger."""
    X, y, offset, codes, _, _ = _rows(200, 12, spread=2.0)
    fit = fitted(X, y, factors=_factors("intercept", codes, codes), offset=offset, n_quadrature=41)
    nodes = np.linspace(-8, 8, 801)
    log_weight = -0.5 * nodes**2 + np.log(nodes[1] - nodes[0]) - 0.5 * np.log(2 * np.pi)
    sign = 2.0 * y - 1.0

    def minus(x):
        eta = x[0] + X @ x[1:3] + offset
        rows = log_expit(sign[:, None] * (eta[:, None] + x[3] * nodes))
        sums = np.zeros((12, nodes.size))
        np.add.at(sums, codes, rows)
        return -np.logaddexp.reduce(sums + log_weight, axis=1).sum()

    best = minimize(minus, [0.0, 0.0, 0.0, 1.0], method="BFGS", options={"gtol": 1e-7})
    assert fit.log_likelihood == pytest.approx(-best.fun, abs=1e-8)
    np.testing.assert_allclose(np.append(fit.beta, fit.lambda_[0]), best.x * [1, 1, 1, np.sign(best.x[3])], atol=1e-5)


@pytest.mark.parametrize("kind", ["intercept", "slope", "nested", "crossed"])
def test_bitwise_whatever_the_threads_and_close_whatever_the_order(kind):
    X, y, offset, codes, item, _ = _rows(3000, 60)
    settings = dict(offset=offset)
    fit = fitted(X, y, factors=_factors(kind, codes, item), **settings)
    again = fitted(X, y, factors=_factors(kind, codes, item), n_threads=2, **settings)
    assert np.array_equal(fit.beta, again.beta) and np.array_equal(fit.vcov, again.vcov)
    order = np.random.default_rng(0).permutation(len(y))
    other = fitted(X[order], y[order], factors=_factors(kind, codes[order], item[order]), offset=offset[order])
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-10)
    np.testing.assert_allclose(other.beta, fit.beta, atol=1e-5)


def test_float32_features_and_rows_without_weight():
    X, y, offset, codes, item, w = _rows()
    factors = _factors("intercept", codes, item)
    single = X.astype(np.float32)
    fit = fitted(single, y, factors=factors, offset=offset, sample_weight=w)
    double = fitted(single.astype(float), y, factors=factors, offset=offset, sample_weight=w)
    np.testing.assert_allclose(fit.beta, double.beta, rtol=1e-9)
    wild = np.where(w > 0, offset, 1e5)  # rows that count for nothing
    other = fitted(single, y, factors=factors, offset=wild, sample_weight=w)
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-10)
    np.testing.assert_allclose(other.beta, fit.beta, atol=1e-7)


def test_extreme_offsets_have_a_fit():
    """Rows that are certain by their offset alone say nothing; the others are described as without them."""
    X, y, offset, codes, item, _ = _rows()
    sure = np.arange(len(y)) % 4 == 0
    offset = np.where(sure, np.where(y > 0, 40.0, -40.0), offset)
    factors = _factors("intercept", codes, item)
    fit = fitted(X, y, factors=factors, offset=offset)
    alone = fitted(X[~sure], y[~sure], factors=_factors("intercept", codes[~sure], item[~sure]), offset=offset[~sure])
    assert fit.report.converged
    np.testing.assert_allclose(fit.beta, alone.beta, atol=1e-6)
    assert fit.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-8)


def test_separated_columns_are_found_beside_an_offset():
    X, y, offset, codes, item, _ = _rows()
    X = np.column_stack([X, np.where(y > 0, 1.0, 0.0)])
    assert fitted(X, y, factors=_factors("intercept", codes, item), offset=offset).separated == [2]


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_intercept_beside_an_offset(fit_intercept):
    _, y, offset, _, _, w = _rows(spread=10.0)
    for weights in (None, w):
        at, value = intercept_beside(LOGIT, offset, y, weights, fit_intercept)
        assert value == pytest.approx(log_likelihood_at(LOGIT, offset + at, y, weights), rel=1e-14)
        around = [log_likelihood_at(LOGIT, offset + at + step, y, weights) for step in (-1e-3, 1e-3)]
        assert fit_intercept == (max(around) < value)
    at, _ = intercept_beside(LOGIT, np.where(y > 0, -300.0, 300.0), y)  # all on the wrong side
    assert abs(at) <= 300.0 + np.log(y.size)


# ---- after the fit ---------------------------------------------------------------------------------------------


def _objective(offset, kind="intercept", **keywords):
    X, y, _, codes, item, _ = _rows()
    engine = engine_of(X, y, _factors(kind, codes, item), offset=offset, **keywords)
    fit = conclude(maximum(engine))
    return MixedObjective(engine, fit.beta, fit.theta), fit


def test_quantities_and_profiles_are_in_the_users_terms():
    offset = _rows()[2]
    (near, fit), (far, shifted) = _objective(offset), _objective(offset + 100.0)
    for position in range(3):
        quantity = FixedEffect(far.engine.units, position)
        assert quantity.at(far.x)[0] == pytest.approx(shifted.beta[position], rel=1e-12)
    expected = np.array(profile_interval(near, FixedEffect(near.engine.units, 0), 0.95))
    found = np.array(profile_interval(far, FixedEffect(far.engine.units, 0), 0.95))
    np.testing.assert_allclose(found, expected - 100.0, atol=1e-6)
    assert shifted.beta[0] == pytest.approx(fit.beta[0] - 100.0)


def test_groups_left_out_are_left_out_with_their_offsets():
    offset = _rows()[2]
    (near, _), (far, _) = _objective(offset), _objective(offset + 100.0)
    one, other = (natural_factors(each.engine, without_clusters(each)) for each in (near, far))
    np.testing.assert_allclose(one[0][:, 0], other[0][:, 0] + 100.0, atol=1e-7)
    np.testing.assert_allclose(one[0][:, 1:], other[0][:, 1:], atol=1e-9)
    X, y, _, codes, item, _ = _rows()
    kept = codes != 3
    codes_left = np.unique(codes[kept], return_inverse=True)[1]
    refit = fitted(X[kept], y[kept], factors=_factors("intercept", codes_left, item[kept]), offset=offset[kept])
    np.testing.assert_allclose(one[0][3], refit.beta, atol=0.01)


def test_influence_of_rows_without_groups():
    offset = _rows()[2]
    objective, fit = _objective(offset, "none")
    change, _ = influence(objective)
    np.testing.assert_allclose(change.sum(axis=0), 0.0, atol=1e-6)  # scores sum to 0 at the maximum
    X, y, *_ = _rows()
    E = np.column_stack([np.ones(len(y)), X])
    mu = expit(E @ fit.beta + offset)
    bread = np.linalg.inv((E * (mu * (1 - mu))[:, None]).T @ E)
    np.testing.assert_allclose(fit.vcov, bread, rtol=1e-6)
    scores = (y - mu)[:, None] * E
    np.testing.assert_allclose(fit.robust_vcov, bread @ scores.T @ scores @ bread, rtol=1e-6)


@pytest.mark.parametrize("kind", ["intercept", "four", "nested"])
def test_what_new_rows_say_of_groups(kind):
    """Posteriors given a fit: from the rows of the fit those of the fit, and offsets count for new rows, too."""
    X, y, offset, codes, item, _ = _rows(300, 15)
    X = np.column_stack([X, X[:, 0] ** 2])
    factors = _factors(kind, codes, item)
    fit = fitted(X, y, factors=factors, offset=offset + 50.0)
    modes, cov, found, _ = posteriors(X, y, factors=factors, units=fit.units, offset=offset + 50.0)
    np.testing.assert_allclose(modes[0], fit.modes[0], atol=1e-6)
    np.testing.assert_allclose(cov[0], fit.mode_cov[0], atol=1e-6)
    at = np.arange(len(modes[0]))
    np.testing.assert_allclose(found[0].covariances(at), fit.posteriors[0].covariances(at), atol=1e-5)
    other = posteriors(X, y, factors=factors, units=fit.units, offset=offset + 52.0)
    moved = np.delete(fit.units.x, np.zeros(0, dtype=int))
    moved[fit.units.units.p] += 2.0
    expected = engine_of(X, y, factors, offset=offset + 50.0)
    expected.evaluate(moved)
    np.testing.assert_allclose(other[0][0], expected.random_effects(moved)[0][0], atol=1e-6)
    without = posteriors(X, y, factors=factors, units=fit.units)  # no offset is one of 0
    zeros = posteriors(X, y, factors=factors, units=fit.units, offset=np.zeros(len(y)))
    np.testing.assert_array_equal(without[0][0], zeros[0][0])


def test_resamples_have_their_rows_offsets():
    X, y, offset, codes, item, _ = _rows(4000, 40)
    rows, structure = model(X, y, _factors("intercept", codes, item), offset=offset)
    drawn, _ = ParametricDraw(rows, structure, np.array([0.2, 0.5, 0.0]), [np.zeros(1)])(np.random.default_rng(0))
    expected = expit(0.2 + 0.5 * X[:, 0] + offset)
    assert abs(np.sum(drawn.y - expected)) < 4 * np.sqrt(np.sum(expected * (1 - expected)))
    assert abs(offset @ (drawn.y - expected)) < 4 * np.sqrt(offset**2 @ (expected * (1 - expected)))
    assert drawn.offset is offset
    again, _ = ClusterDraw(rows, structure)(np.random.default_rng(0))
    matching = [np.flatnonzero((X == row).all(axis=1))[0] for row in again.X[:50]]
    np.testing.assert_array_equal(again.offset[:50], offset[matching])
    counts = {"offset": offset, "sample_weight": np.full(4000, 3.0)}
    counted, structure = model(X, y, _factors("intercept", codes, item), **counts)
    drawn, _ = ParametricDraw(counted, structure, np.array([0.2, 0.5, 0.0]), [np.zeros(1)])(np.random.default_rng(0))
    assert drawn.offset.size == drawn.y.size == drawn.weights.size


def test_moments_of_rows_tell_the_offset_apart():
    X, _, offset, _, _, w = _rows(5000)
    slopes, out = np.array([0.7, -0.5]), np.empty(5000)
    for weights in (None, w):
        found = row_moments(X, slopes, [], weights, out=out, offset=offset)
        plain = row_moments(X, slopes, [], weights)
        assert (found.fixed_mean, found.fixed_variance) == (plain.fixed_mean, plain.fixed_variance)
        eta = X @ slopes + offset
        np.testing.assert_allclose(out, eta)
        total = 5000 if weights is None else weights.sum()
        assert found.offset_mean == pytest.approx(np.average(offset, weights=weights))
        expected = np.average((eta - np.average(eta, weights=weights)) ** 2, weights=weights) * total / (total - 1)
        assert found.variance_with_offset == pytest.approx(expected)
        assert plain.variance_with_offset is None and plain.offset_mean == 0.0


# ---- marginal models -------------------------------------------------------------------------------------------

STRUCTURES = ["independence", "exchangeable", "ar1", "unstructured", "m-dependent"]


def _gee(X, y, codes, structure="exchangeable", **keywords):
    correlation = resolve_correlation(structure)
    return fit_gee(X, y, correlation=correlation, codes=codes, n_clusters=int(codes.max()) + 1,
                   labels=np.arange(codes.max() + 1), **keywords)  # fmt: skip


def _panel(seed=0, n_clusters=120, size=4):
    rng = np.random.default_rng(seed)
    codes, times = np.repeat(np.arange(n_clusters), size), np.tile(np.arange(size, dtype=float), n_clusters)
    n = codes.size
    X, offset = rng.normal(size=(n, 2)), rng.normal(size=n)
    y = (rng.random(n) < expit(X @ [0.6, -0.4] + offset + rng.normal(size=n_clusters)[codes])).astype(np.uint8)
    order = rng.permutation(n)
    return X[order], y[order], offset[order], codes[order], times[order]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_estimating_equations_beside_an_offset(structure):
    """They are solved where those of the dense definitions are, and a constant moves the intercept alone."""
    X, y, offset, codes, times = _panel()
    fit = _gee(X, y, codes, structure, times=times, offset=offset)
    assert fit.report.converged
    shifted = _gee(X, y, codes, structure, times=times, offset=offset - 1e3)
    assert shifted.beta[0] - 1e3 == pytest.approx(fit.beta[0], abs=1e-9)
    np.testing.assert_allclose(shifted.beta[1:], fit.beta[1:], rtol=1e-8)
    np.testing.assert_allclose(shifted.alpha, fit.alpha, rtol=1e-8)
    R = np.eye(4)
    if structure == "exchangeable":
        R = np.where(np.eye(4) > 0, 1.0, fit.alpha[0])
    elif fit.alpha.size:
        R = resolve_correlation(structure).matrix(fit.alpha, np.arange(4.0))
    U, M = np.zeros(3), np.zeros((3, 3))
    for level in range(120):
        rows = np.flatnonzero(codes == level)
        rows = rows[np.argsort(times[rows])]
        E = np.column_stack([np.ones(4), X[rows]])
        mu = expit(E @ fit.beta + offset[rows])
        root = np.sqrt(mu * (1 - mu))
        D, inverse = E * (root**2)[:, None], np.linalg.inv(R * np.outer(root, root))
        U += D.T @ inverse @ (y[rows] - mu)
        M += D.T @ inverse @ D
    np.testing.assert_allclose(np.linalg.solve(M, U), 0.0, atol=1e-7)
    np.testing.assert_allclose(fit.coordinates @ fit.bread @ fit.coordinates.T, np.linalg.inv(M), rtol=1e-6)
    threads = _gee(X, y, codes, structure, times=times, offset=offset, n_threads=2)
    assert np.array_equal(threads.beta, fit.beta)


def test_estimating_equations_without_an_intercept_and_with_weights():
    X, y, offset, codes, _ = _panel()
    w = np.random.default_rng(3).integers(1, 4, len(y)).astype(float)
    fit = _gee(X, y, codes, offset=offset, sample_weight=w, fit_intercept=False)
    times = np.repeat(np.arange(len(y)), w.astype(int))
    repeated = _gee(X[times], y[times], codes[times], offset=offset[times], fit_intercept=False)
    np.testing.assert_allclose(fit.beta, repeated.beta, rtol=1e-7)
    np.testing.assert_allclose(fit.bread, repeated.bread, rtol=1e-6)


def test_hard_equations_beside_an_offset():
    """Steps that need the largest information there can be: offsets on the wrong side; and separation is found."""
    X, y, offset, codes, _ = _panel()
    hard = np.where(y > 0, -6.0, 6.0) + offset
    fit = _gee(X, y, codes, "independence", offset=hard)
    sign = np.where(y > 0, 1.0, -1.0)

    def minus(beta):
        return -log_expit(sign * (beta[0] + X @ beta[1:] + hard)).sum()

    best = minimize(minus, np.zeros(3), method="BFGS", options={"gtol": 1e-8})
    assert fit.report.converged and fit.quasi_likelihood == pytest.approx(-best.fun, rel=1e-10)
    separated = np.column_stack([X, np.where(y > 0, 1.0, 0.0)])
    assert _gee(separated, y, codes, "independence", offset=offset).separated == [2]


def test_resampled_clusters_of_estimating_equations():
    X, y, offset, codes, _ = _panel()
    rows = Observations(X, y, [codes], offset=offset)
    settings = dict(correlation=resolve_correlation("exchangeable"), fit_intercept=True)
    refit = MarginalRefit(rows, Structure([FactorStructure(120, [], [])]), settings)
    index, copies = refit.draw.index(np.random.default_rng(0))
    expected = _gee(X[index], y[index], copies, offset=offset[index])
    np.testing.assert_array_equal(refit(np.random.default_rng(0)), expected.beta)


# ---- other programs --------------------------------------------------------------------------------------------


def _contraception():
    frame = load_contraception(as_frame=True).frame
    children = frame["livch"].astype(str).str.rstrip("+").astype(float)
    age = frame["age"].to_numpy()
    X = np.column_stack([age, age**2, frame["urban"] == "Y"]).astype(float)
    codes = np.unique(frame["district"].to_numpy(), return_inverse=True)[1]
    y = frame["use"].to_numpy().astype(np.uint8)
    return X, y, 0.3 * children.to_numpy(), codes


@pytest.mark.parametrize("name", ["glmmTMB_laplace_offset", "glmer_nAGQ15_offset"])
def test_mixed_fits_of_others(name, records):
    expected = records[f"offset/contraception_livch/{name}"]
    X, y, offset, codes = _contraception()
    factors = [Coded(codes, 60, [-1], [(1, True)])]
    fit = fitted(X, y, factors=factors, offset=offset, n_quadrature=expected["n_quadrature"])
    se = np.sqrt(np.diagonal(fit.vcov)[:4])
    precise = name.startswith("glmmTMB")
    assert fit.log_likelihood == pytest.approx(expected["log_likelihood"], abs=1e-6)
    np.testing.assert_allclose((fit.beta - expected["coef"]) / se, 0.0, atol=1e-4 if precise else 1e-3)
    np.testing.assert_allclose(se, expected["se"], rtol=1e-4 if precise else 1e-3)
    np.testing.assert_allclose(np.abs(fit.lambda_[0].ravel()), expected["sd"], rtol=1e-5 if precise else 1e-4)
    eta = fit.beta[0] + X[:10] @ fit.beta[1:] + offset[:10]
    np.testing.assert_allclose(expit(eta), expected["population_first10"], atol=1e-5)
    np.testing.assert_allclose(expit(eta + fit.modes[0][codes[:10], 0]), expected["conditional_first10"], atol=1e-5)


@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
def test_marginal_fits_of_others(structure, records):
    expected = records[f"gee/contraception_livch_offset/geeglm/{structure}/scale_fix_FALSE"]
    X, y, offset, codes = _contraception()
    fit = _gee(X, y, codes, structure, offset=offset, ddof_correction=False)
    se = np.sqrt(np.diagonal(expected["vcov_robust"]))
    np.testing.assert_allclose((fit.beta - expected["coef"]) / se, 0.0, atol=1e-6)
    J = fit.coordinates @ fit.bread
    np.testing.assert_allclose(J @ fit.meats[0] @ J.T, expected["vcov_robust"], rtol=2e-6, atol=1e-12)
    naive = fit.dispersion * fit.coordinates @ fit.bread @ fit.coordinates.T
    np.testing.assert_allclose(naive, expected["vcov_naive"], rtol=2e-6, atol=1e-12)
    assert fit.dispersion == pytest.approx(expected["phi"], rel=1e-6)
    assert fit.quasi_likelihood == pytest.approx(expected["quasi"], rel=1e-8)
    np.testing.assert_allclose(fit.alpha[: len(expected["alpha"])], expected["alpha"], rtol=1e-6)


@pytest.fixture(scope="module")
def records():
    return json.loads((REFERENCE_DIR / "offsets_counts.json").read_text())


# ---- what users pass -------------------------------------------------------------------------------------------


def test_offsets_are_read_and_checked():
    assert read_offset(None, 3) is None
    np.testing.assert_array_equal(read_offset(2, 3), [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(read_offset([[1], [2]], 2), [1.0, 2.0])
    with pytest.raises(ValueError, match=r"offset is missing \(NaN\) or infinite in 2 of 3 rows \(first: row 1\)"):
        read_offset([0.0, np.nan, -np.inf], 3)
    with pytest.raises(ValueError, match="'log_pop' has 2 rows, but X has 3"):
        read_offset([0.0, 1.0], 3, "'log_pop'")
    with pytest.raises(ValueError, match="1-dimensional"):
        read_offset(np.zeros((3, 2)), 3)
    with pytest.raises(ValueError, match="must hold numbers"):
        read_offset(["a", "b"], 2)
