"""Conditional modes, values and derivatives where weights, variances and linear predictors are extreme.

A mode is judged by its equation in dense NumPy: the Newton step from it must be no longer than rounding errors make it.
Values are compared with what they are at such modes, derivatives with central differences.
"""

import copy

import numpy as np
import pandas as pd
import pytest
from designs import Coded, clustered, engine_of
from scipy.special import expit, log_expit

from sklmm import MixedLogisticRegression
from sklmm.estimating import Independence
from sklmm.estimating.clusters import Clusters
from sklmm.estimating.equations import Equations
from sklmm.families import LOGIT
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.nested import NestedLikelihood

EPS = np.finfo(float).eps


def at_mode(T, w, y, eta, u):
    """The Laplace log-likelihood with modes u of the random effects whose design, times Lambda, is T; checks u."""
    x = eta + T @ u
    success, failure = w * y * expit(-x), w * (1 - y) * expit(x)
    H = np.eye(len(u)) + (T.T * (w * expit(x) * expit(-x))) @ T
    inverse = np.linalg.inv(H)
    step = inverse @ (T.T @ (success - failure) - u)
    rounding = EPS * (20 + np.abs(x).max()) * (np.abs(T).T @ (success + failure) + np.abs(u))
    assert (np.abs(step) <= 1e-9 * (1 + np.abs(u).max()) + 10 * np.abs(inverse) @ rounding).all()
    h = w @ np.where(y == 1, log_expit(x), log_expit(-x)) - u @ u / 2
    return h - np.linalg.slogdet(H)[1] / 2


def predictors(rng, level):
    """Linear predictors of four kinds: anywhere, alike within a level, small, very large."""
    n = len(level)
    kinds = [
        rng.uniform(-500, 500, n),
        rng.uniform(-500, 500, level.max() + 1)[level] + rng.normal(size=n),
        3 * rng.normal(size=n),
        rng.uniform(-5000, 5000, n),
    ]
    return kinds[rng.integers(4)]


def outcomes(rng, level):
    return (rng.random(len(level)) < rng.choice([0.02, 0.5, 0.98], level.max() + 1)[level]).astype(np.uint8)


def starts(rng, modes):
    """Puts the modes at 0, and then at places as bad as any."""
    for scale in (0.0, 1000.0):
        for u in modes:
            u[...] = scale * rng.normal(size=u.shape)
        yield


# One factor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("seed", range(16))
def test_modes_of_clusters(q, seed):
    """Weights from 1e-3 to 1e6 or none, standard deviations from 0.01 to 50, clusters of 1 to 300 rows."""
    rng = np.random.default_rng([seed, q])
    sizes = np.where(rng.random(10) < 0.3, rng.integers(17, 301, 10), rng.integers(1, 17, 10))
    codes = np.repeat(np.arange(10), sizes)
    n = codes.size
    w = 10 ** rng.uniform(-3, 6, n) if rng.random() < 0.7 else None
    X = np.column_stack([predictors(rng, codes), rng.normal(size=(n, q - 1))])
    y = outcomes(rng, codes)
    sd = 10 ** rng.uniform(-2, np.log10(50), q)
    Lambda = np.tril(rng.normal(size=(q, q))) * sd[:, None]
    Z = np.column_stack([np.ones(n), X[:, 1:]])
    for n_quadrature in (1, 3):
        engine = clustered(
            X, y, codes, 10, [-1, *range(1, q)], [(q, True)], sample_weight=w, fit_intercept=False,
            n_quadrature=n_quadrature, standardise=False,
        )  # fmt: skip
        x = np.r_[1.0, np.zeros(q - 1), Lambda[engine.covariance.row, engine.covariance.col]]
        for _ in starts(rng, [engine.modes]):
            value, gradient, hessian = engine.evaluate(x)
            assert np.isfinite(gradient).all() and np.isfinite(hessian).all()
            expected = 0.0
            for i in range(10):
                rows = codes == i
                weights = np.ones(rows.sum()) if w is None else w[rows]
                expected += at_mode(Z[rows] @ Lambda, weights, y[rows], X[rows, 0], engine.modes[i])
            if n_quadrature == 1:
                assert value == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_laplace_value_does_not_cancel():
    """Beside linear predictors of 20 to 45 and weights of a million the log-likelihood is next to nothing."""
    rng = np.random.default_rng(0)
    n, codes = 60, np.repeat(np.arange(12), 5)
    y = rng.integers(0, 2, n).astype(np.uint8)
    eta = rng.uniform(20, 45, n) * (2.0 * y - 1)
    w = rng.integers(1, 10, n) * 1e5
    expected = w @ log_expit(np.abs(eta))
    accuracy = 2 * EPS * w.sum()  # of the logarithm of a number next to 1
    X = np.column_stack([eta, rng.normal(size=n)])
    for columns, theta in (([-1], [0.0]), ([-1, 1], [0.0, 0.0, 0.0])):
        for n_quadrature in (1, 5):
            engine = clustered(
                X, y, codes, 12, columns, [(len(columns), True)], sample_weight=w, fit_intercept=False,
                n_quadrature=n_quadrature, standardise=False,
            )  # fmt: skip
            weights_of_nodes = 1e-11 if n_quadrature > 1 else 0.0
            assert engine.evaluate(np.r_[1.0, 0.0, theta])[0] == pytest.approx(
                expected, abs=accuracy + weights_of_nodes
            )
    for kind, factors in (("nested", [codes, codes // 4]), ("crossed", [codes, rng.integers(0, 3, n)])):
        engine = several(kind, factors, X[:, :1], y, w)
        assert engine.evaluate(np.array([1.0, 0.0, 0.0]))[0] == pytest.approx(expected, abs=accuracy)


# Several factors --------------------------------------------------------------------------------------------


def several(kind, codes, X, y, w):
    factors = [Coded(c.astype(np.intp), int(c.max()) + 1, [-1], [(1, True)]) for c in codes]
    engine = CrossedLikelihood if kind == "crossed" else NestedLikelihood
    return engine_of(X, y, factors, sample_weight=w, fit_intercept=False, standardise=False, engine=engine)


def modes_of(engine):
    """Arrays of modes in the engine's order of the factors."""
    return engine.modes if isinstance(engine, NestedLikelihood) else [engine.u, engine.u_border]


@pytest.mark.parametrize("kind", ["nested", "nested twice", "crossed"])
@pytest.mark.parametrize("seed", range(12))
def test_modes_of_several_factors(kind, seed):
    rng = np.random.default_rng(seed)
    n, n_leaves = 400, int(rng.integers(3, 60))
    leaf = np.concatenate([np.arange(n_leaves), rng.integers(0, n_leaves, n - n_leaves)])
    codes = {"nested": [leaf, leaf // 4], "nested twice": [leaf, leaf // 3, leaf // 9]}.get(kind)
    if codes is None:
        codes = [leaf, np.concatenate([np.arange(7), rng.integers(0, 7, n - 7)])]
    w = 10 ** rng.uniform(-3, 6, n) if rng.random() < 0.5 else None
    eta, y = predictors(rng, leaf), outcomes(rng, leaf)
    theta = 10 ** rng.uniform(-2, np.log10(50), len(codes))
    engine = several(kind, codes, eta[:, None], y, w)
    for _ in starts(rng, modes_of(engine)):
        engine._moves, engine._fresh = None, False
        value = engine.evaluate(np.r_[1.0, theta])[0]
        u = [None] * len(codes)
        if kind == "crossed":
            engine.u_border = engine.u_border.copy()
            places = [engine.u[:, 0], *np.split(engine.u_border, engine.base[1:-1])]
        else:
            places = engine.modes
        for place, f in enumerate(engine.order):
            u[f] = places[place][engine.rank[place]]
        levels = [c[:, None] == np.arange(c.max() + 1) for c in codes]
        T = np.concatenate([t * here for t, here in zip(theta, levels, strict=True)], axis=1)
        expected = at_mode(T, np.ones(n) if w is None else w, y, eta, np.concatenate(u))
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-7)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize("largest, branches, intercept, sd, seed", [(5, 3, -12, 20, 0), (2000, 100, -6, 20, 0)])
def test_nested_modes_are_found_anew(largest, branches, intercept, sd, seed, n=2500):
    """Rare outcomes and large variances: a Newton step from 0 leads hundreds of logits too far in most levels."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(np.ceil(rng.pareto(1.1, n) + 0.01), largest).astype(int)
    sizes = sizes[: np.searchsorted(np.cumsum(sizes), n) + 1]
    lower = np.repeat(np.arange(len(sizes)), sizes)
    upper = (np.arange(len(sizes)) // branches)[lower]
    x, uniform = rng.normal(size=len(lower)), rng.random(len(lower))
    eta = intercept + x + sd * rng.normal(size=len(sizes))[lower] + rng.normal(size=upper.max() + 1)[upper]
    X, y, groups = x[:, None], (uniform < expit(eta)).astype(int), pd.DataFrame({"a": lower, "b": upper})
    fit = MixedLogisticRegression(["1 | a", "1 | b"]).fit(X, y, groups=groups)
    again = copy.deepcopy(fit).update_groups(X, y, groups=groups)
    for name, effects in fit.random_effects_.items():
        np.testing.assert_allclose(again.random_effects_[name], effects, atol=1e-6)


# Derivatives ------------------------------------------------------------------------------------------------

SIZES = [20, 100, 300, 345, 350, 355, 500, 1e3, 1e4]


def far_rows(size, weighted):
    """Clusters whose rows are `size` from 0 on either side, with outcomes that draw modes back; a second feature."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(14), [3, 5, 8, 2, 20, 6, 1, 4, 30, 7, 3, 9, 2, 40])
    n = codes.size
    side = np.where(codes % 3 == 0, 1.0, -1.0)
    side[codes % 5 == 4] = rng.choice([-1.0, 1.0], (codes % 5 == 4).sum())  # both sides in one cluster
    X = np.column_stack([side + 2 / size * rng.normal(size=n), rng.normal(size=n)])
    y = (side < 0).astype(np.uint8)
    y[rng.random(n) < 0.3] = 1
    return X, y, codes, rng.integers(1, 500, n).astype(float) if weighted else None


def differences(f, x, steps):
    """Fourth-order central differences."""
    columns = []
    for e, h in zip(np.diag(steps), steps, strict=True):
        columns.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h))
    return np.stack(columns, axis=-1)


def assert_derivatives(engine, x, w):
    """Gradient of value and Hessian of gradient, each relative to what its sums over rows are made of."""

    def evaluate(x):
        engine.evaluate(x)
        return engine.evaluate(x)  # from the modes there: without what their tolerance leaves

    steps = np.full(x.size, 2e-4)
    value, gradient, hessian = evaluate(x)
    unit = engine.n_rows if w is None else w.sum()
    found = differences(lambda x: evaluate(x)[0], x, steps)
    np.testing.assert_allclose(gradient / unit, found / unit, atol=2e-8)
    if hessian is not None:
        found = differences(lambda x: evaluate(x)[1], x, steps)
        scale = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1.0))
        np.testing.assert_allclose(hessian / np.outer(scale, scale), found / np.outer(scale, scale), atol=2e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "columns, n_quadrature", [([-1], 1), ([-1], 5), ([-1], 40), ([-1, 1], 1), ([-1, 1], 3)], ids=str
)
def test_derivatives_of_one_factor(columns, n_quadrature, size, weighted):
    for spread in (0.8, 30.0):  # 30: modes that lead back to where outcomes are in the balance
        X, y, codes, w = far_rows(size, weighted)
        engine = clustered(
            X, y, codes, 14, columns, [(len(columns), True)], sample_weight=w, fit_intercept=False,
            n_quadrature=n_quadrature, standardise=False,
        )  # fmt: skip
        assert_derivatives(engine, np.r_[size, 0.3, [spread] if len(columns) == 1 else [spread, 0.2, 0.5]], w)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["nested", "crossed"])
def test_derivatives_of_several_factors(kind, size, weighted):
    for spread in (0.8, 30.0):
        X, y, codes, w = far_rows(size, weighted)
        second = codes // 4 if kind == "nested" else np.arange(y.size) % 5
        engine = several(kind, [codes, second], X, y, w)
        assert_derivatives(engine, np.r_[size, 0.3, spread, 1.2], w)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_quasi_likelihood_of_independent_rows(size, weighted):
    X, y, codes, w = far_rows(size, weighted)
    clusters = Clusters(codes, y.size, 14, None, None, w)
    equations = Equations(X, y, clusters, Independence(), False, None, True, 1, LOGIT, None)
    counts = np.ones(y.size) if w is None else w
    beta = np.array([size, 0.3])

    def value(beta):
        return equations.evaluate(beta, None)[0][0]

    x = X @ (beta * equations._inv_scale[:2])
    assert value(beta) == pytest.approx(counts @ np.where(y, log_expit(x), log_expit(-x)), rel=1e-13)
    score = equations.evaluate(beta, None)[3]
    np.testing.assert_allclose(score, differences(value, beta, np.full(2, 2e-4)), rtol=1e-7, atol=1e-7 * counts.sum())


# Fits -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(6))
def test_weights_in_the_hundreds(seed):
    """Survey weights and a random slope: a few rows with linear predictors of 20 to 40."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(60), 3)
    X = rng.normal(size=(180, 2))
    w = rng.integers(1, 1000, 180) + 0.0
    y = (rng.random(180) < expit(0.5 * X[:, 0] + rng.normal(size=60)[groups])).astype(int)
    with_slope = MixedLogisticRegression("1 + x0 | group", max_iter=300).fit(X, y, groups=groups, sample_weight=w)
    without = MixedLogisticRegression().fit(X, y, groups=groups, sample_weight=w)
    assert with_slope.log_likelihood_ >= without.log_likelihood_ - 1e-6
