"""Hard fits of probit and cloglog: far linear predictors, extreme weights, separation, lone rows, large variances."""

import numpy as np
import pytest
from designs import Coded, clustered, fitted

from sklmm.families import bernoulli
from sklmm.likelihood.leaving_out import influence, without_clusters
from sklmm.likelihood.objective import MixedObjective

LINKS = pytest.mark.parametrize("link", ["probit", "cloglog"])
INTERCEPT, SLOPE = ([-1], [(1, True)]), ([-1, 0], [(2, True)])


def _data(link, n_groups=40, rows=25, sd=0.7, seed=0, steep=0.5):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), rows)
    X = rng.normal(size=(codes.size, 2))
    eta = -0.3 + steep * X[:, 0] + sd * rng.normal(size=n_groups)[codes]
    y = (rng.random(codes.size) < bernoulli(link).mean(eta)).astype(np.uint8)
    return X, y, codes


def _fit(link, X, y, codes, shape=INTERCEPT, **keywords):
    return fitted(X, y, factors=[Coded(codes, int(codes.max()) + 1, *shape)], family=bernoulli(link), **keywords)


@LINKS
@pytest.mark.parametrize("shape", [INTERCEPT, SLOPE], ids=["intercept", "slope"])
@pytest.mark.parametrize("k", [1, 5])
def test_far_linear_predictors_and_extreme_weights(link, shape, k):
    """The Newton equations of the modes hold, values and derivatives are numbers and consistent."""
    X, y, codes = _data(link)
    rng = np.random.default_rng(1)
    w = rng.choice([0.0, 1.0, 1e6], len(y))
    engine = clustered(X, y, codes, 40, *shape, sample_weight=w, n_quadrature=k, family=bernoulli(link),
                       standardise=False)  # fmt: skip
    reach = 40.0 if link == "probit" else 4.0  # of cloglog exp(exp(4)) is as far
    for beta in ([0.5, 0.0, -0.3], [reach / 3.0, 1.0, 0.0], [0.0, 0.0, reach], [0.0, 0.0, -40.0]):
        x = np.concatenate([beta, 0.5 * engine.covariance.start()])
        value, gradient, hessian = engine.evaluate(x)
        assert np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(hessian).all()
        direction = np.random.default_rng(2).normal(size=x.size)
        h = 1e-6
        rise = (engine.evaluate(x + h * direction)[0] - engine.evaluate(x - h * direction)[0]) / (2 * h)
        assert gradient @ direction == pytest.approx(rise, rel=2e-4, abs=1e-9 * abs(value) / h)


@LINKS
def test_weights_are_counts(link):
    X, y, codes = _data(link)
    w = np.random.default_rng(3).integers(0, 3, len(y))
    for k in (1, 9):
        fit = _fit(link, X, y, codes, sample_weight=w.astype(float), n_quadrature=k)
        rows = np.repeat(np.arange(len(y)), w)
        repeated = _fit(link, X[rows], y[rows], codes[rows], n_quadrature=k)
        assert fit.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-7)
        np.testing.assert_allclose(fit.beta, repeated.beta, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(fit.vcov, repeated.vcov, rtol=1e-5, atol=1e-9)


@LINKS
def test_order_of_rows_and_threads(link):
    X, y, codes = _data(link, rows=60)
    fit = _fit(link, X, y, codes)
    order = np.random.default_rng(4).permutation(len(y))
    moved = _fit(link, X[order], y[order], codes[order], n_threads=3)
    assert moved.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-9)
    np.testing.assert_allclose(moved.beta, fit.beta, rtol=1e-7)
    np.testing.assert_allclose(moved.modes[0], fit.modes[0], atol=1e-6)
    three = _fit(link, X, y, codes, n_threads=3)
    np.testing.assert_array_equal(three.beta, fit.beta)
    np.testing.assert_array_equal(three.posteriors[0].weights, fit.posteriors[0].weights)


@LINKS
def test_separated_classes_are_told(link):
    X, _, codes = _data(link)
    fit = _fit(link, X, (X[:, 1] > 0.2).astype(np.uint8), codes)
    assert 1 in fit.separated


@LINKS
def test_collinear_columns_lone_rows_and_no_variance(link):
    X, y, codes = _data(link, n_groups=600, rows=1)
    fit = _fit(link, np.column_stack([X, X[:, 0] - X[:, 1]]), y, codes)
    assert fit.aliased == [2] and np.isfinite(fit.log_likelihood)
    X, y, codes = _data(link, sd=0.0, seed=8)
    fit = _fit(link, X, y, codes)
    plain = fitted(X, y, factors=[], family=bernoulli(link))
    assert fit.report.converged and plain.report.converged
    assert fit.log_likelihood >= plain.log_likelihood - 1e-9
    if fit.is_singular:
        np.testing.assert_allclose(fit.beta, plain.beta, rtol=1e-6)
    np.testing.assert_allclose(np.diag(plain.robust_vcov), np.diag(plain.vcov), rtol=0.3)


@LINKS
def test_large_variances_and_huge_groups(link):
    X, y, codes = _data(link, n_groups=60, rows=40, sd=6.0, steep=1.0)
    fit = _fit(link, X, y, codes, n_quadrature=31)
    assert fit.report.converged and 3.0 < fit.lambda_[0][0, 0] < 12.0
    X, y, codes = _data(link, n_groups=3, rows=4000)
    fit = _fit(link, X, y, codes)
    assert fit.report.converged and np.isfinite(fit.posteriors[0].weights).all()


@LINKS
def test_leaving_clusters_out(link):
    """One Newton step without a group is next to the refit, and the influence to first order near it."""
    X, y, codes = _data(link, n_groups=30, rows=30)
    factor = Coded(codes, 30, *INTERCEPT)
    fit = fitted(X, y, factors=[factor], family=bernoulli(link))
    engine = clustered(X, y, codes, 30, *INTERCEPT, family=bernoulli(link))
    objective = MixedObjective(engine, fit.beta, fit.theta)
    steps, first_orders = without_clusters(objective), influence(objective)[0]
    for group in (0, 7):
        rest = codes != group
        others = Coded(np.unique(codes[rest], return_inverse=True)[1], 29, *INTERCEPT)
        refit = fitted(X[rest], y[rest], factors=[others], family=bernoulli(link))
        natural = engine.units.natural(steps[group])[0]
        change = refit.beta - fit.beta
        assert np.abs(natural - refit.beta).max() < 0.15 * np.abs(change).max()
        first_order = engine.units.natural(objective.x - first_orders[group])[0]
        assert np.abs(first_order - refit.beta).max() < 0.4 * np.abs(change).max()
