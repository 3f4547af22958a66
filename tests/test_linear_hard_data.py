"""Linear models on the edges: numbers far from 0, variances of 0, perfect correlations, nothing left to estimate."""

import numpy as np
import pytest

from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.likelihood.linear_fit import effects_given_fit, fit_linear

N, GROUPS = 400, np.repeat(np.arange(40), 10)


def one(columns=(-1,), blocks=None, n_levels=40, **settings):
    return Structure([FactorStructure(n_levels, list(columns), blocks or [(len(columns), True)])], **settings)


def two():
    return Structure([FactorStructure(40, [-1], [(1, True)], "a"), FactorStructure(8, [-1], [(1, True)], "b")])


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    X, u = random.normal(size=(N, 3)), random.normal(size=(40, 2))
    return X, X @ [1, 2, 3] + u[GROUPS, 0] + 0.7 * u[GROUPS, 1] * X[:, 0] + random.normal(size=N), u, random


@pytest.mark.parametrize("columns", [(-1,), (-1, 0)])
@pytest.mark.parametrize("shift, scale", [(1e6, 1.0), (-3e7, 100.0), (0.0, 1e-8)])
def test_numbers_far_from_zero_give_the_fit_of_centred_ones(data, columns, shift, scale):
    """Years, timestamps, and tiny or huge units of features and outcome."""
    X, y, _, _ = data
    units, origin = np.array([1.0, 1e6, 1e-6]), np.array([2000.0, 1.7e9, 1e-3])
    plain = fit_linear(Observations(X, y, [GROUPS]), one(columns))
    far = fit_linear(Observations(X * units + origin, y * scale + shift, [GROUPS]), one(columns))
    np.testing.assert_allclose(far.beta[1:] * units / scale, plain.beta[1:], rtol=1e-8)
    assert far.sigma / scale == pytest.approx(plain.sigma, rel=1e-8)
    # REML's has the columns' units, too, whose product is 1
    assert far.log_likelihood + (N - 4) * np.log(scale) == pytest.approx(plain.log_likelihood, rel=1e-8)
    np.testing.assert_allclose(far.posteriors[0].modes, plain.posteriors[0].modes, rtol=1e-6, atol=1e-7)


def test_perfectly_correlated_slopes(data):
    X, _, u, random = data
    e = random.normal(size=N)
    E = np.column_stack([np.ones(N), X[:, 0]])
    for g in range(40):  # nothing that a slope of its own would explain
        own = GROUPS == g
        e[own] -= E[own] @ np.linalg.lstsq(E[own], e[own], rcond=None)[0]
    y = X @ [1, 2, 3] + u[GROUPS, 0] * (1 + 2 * X[:, 0]) + e
    fit = fit_linear(Observations(X, y, [GROUPS]), one((-1, 0)))
    assert fit.report.converged and fit.is_singular
    covariance = fit.lambda_[0] @ fit.lambda_[0].T
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) == pytest.approx(1.0, abs=1e-9)
    assert np.isfinite(fit.vcov).all() and np.isfinite(fit.variance_vcov).all()


def test_crossed_factors_without_variance_are_least_squares(data):
    X, _, _, random = data
    other = np.tile(np.arange(8), 50)
    e = random.normal(size=N)
    for _ in range(60):
        for codes in (GROUPS, other):
            e -= (np.bincount(codes, e) / np.bincount(codes))[codes]
    X = X - np.array([X[GROUPS == g].mean(axis=0) for g in range(40)])[GROUPS]
    y = X @ [1, 2, 3] + e
    fit = fit_linear(Observations(X, y, [GROUPS, other]), two())
    design = np.column_stack([np.ones(N), X])
    assert fit.is_singular and fit.report.converged
    np.testing.assert_allclose(fit.beta, np.linalg.lstsq(design, y, rcond=None)[0], rtol=1e-10, atol=1e-10)
    assert all(np.all(modes == 0.0) for modes in fit.modes)
    again = effects_given_fit(Observations(X, y, [GROUPS, other]), two(), fit)
    assert all(np.all(modes == 0.0) for modes in again["modes"])


@pytest.mark.parametrize("sd", [1e2, 1e4])
def test_groups_far_apart(data, sd):
    X, y, u, _ = data
    fit = fit_linear(Observations(X, y + sd * u[GROUPS, 1], [GROUPS]), one())
    assert fit.report.converged and fit.sigma == pytest.approx(1.2, abs=0.3)
    within = X - np.array([X[GROUPS == g].mean(axis=0) for g in range(40)])[GROUPS]
    np.testing.assert_allclose(fit.beta[1:], np.linalg.lstsq(within, y, rcond=None)[0], atol=0.05)


def test_collinear_columns_and_columns_of_random_effects_alone(data):
    X, y, _, _ = data
    plain = fit_linear(Observations(X, y, [GROUPS]), one())
    more = fit_linear(Observations(np.column_stack([X, X[:, 0] - X[:, 1], np.ones(N)]), y, [GROUPS]), one())
    assert more.aliased == [3, 4] and more.rank == 4
    np.testing.assert_allclose(more.beta, [*plain.beta, 0, 0], rtol=1e-9)
    assert np.isnan(more.vcov[4:]).all() and more.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(more.vcov[:4, :4], plain.vcov, rtol=1e-8)
    alone = fit_linear(Observations(X, y, [GROUPS]), one((-1, 2), slopes_only=1))
    assert alone.beta.shape == (3,) and alone.vcov.shape == (3, 3) and alone.report.converged


def test_weights_of_zero_and_a_million(data):
    X, y, _, _ = data
    w = np.concatenate([np.zeros(50), np.ones(350)])
    some = fit_linear(Observations(X, y, [GROUPS], w), one())
    less = fit_linear(Observations(X[50:], y[50:], [GROUPS[50:]]), one())
    np.testing.assert_allclose(some.beta, less.beta, rtol=1e-8)
    assert some.log_likelihood == pytest.approx(less.log_likelihood, rel=1e-11) and some.n_counted == 350
    np.testing.assert_allclose(some.modes[0][:5], 0.0)
    np.testing.assert_allclose(some.mode_cov[0][:5, 0, 0], some.lambda_[0][0, 0] ** 2, rtol=1e-12)
    assert fit_linear(Observations(X, y, [GROUPS], np.full(N, 1e6)), one()).report.converged


LAYOUTS = [np.asfortranarray, lambda X: X.astype(np.float32), lambda X: np.repeat(X, 2, axis=1)[:, ::2]]


@pytest.mark.parametrize("unit", [1e-20, 1e8])
def test_units_of_precision_weights(data, unit):
    X, y, _, _ = data
    w = np.random.default_rng(1).uniform(0.5, 2.0, N)
    plain = fit_linear(Observations(X, y, [GROUPS]), one(), precision=w)
    other = fit_linear(Observations(X, y, [GROUPS]), one(), precision=w * unit)
    np.testing.assert_allclose(other.beta, plain.beta, rtol=1e-9)
    np.testing.assert_allclose(other.lambda_[0], plain.lambda_[0], rtol=1e-7)
    assert other.sigma == pytest.approx(plain.sigma * np.sqrt(unit), rel=1e-8)
    assert other.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-11)
    again = effects_given_fit(Observations(X, y, [GROUPS]), one(), other, precision=w * unit)
    np.testing.assert_allclose(again["modes"][0], plain.modes[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", LAYOUTS)
def test_features_of_any_layout(data, make):
    X, y, _, _ = data
    order = np.random.default_rng(1).permutation(N)
    plain = fit_linear(Observations(X, y, [GROUPS]), one((-1, 0)))
    other = fit_linear(Observations(make(X[order]), y[order], [GROUPS[order]]), one((-1, 0)))
    np.testing.assert_allclose(other.beta, plain.beta, rtol=1e-5)


@pytest.mark.parametrize(
    "what, message",
    [
        ("constant in groups", "the random effects of 'group' reproduce the outcome exactly"),
        ("constant", "the outcome is constant: there is no residual variance"),
        ("exact", "4 coefficients reproduce the outcome of 200 rows exactly"),
        ("one row", "no level of 'group' has more than one row"),
        ("many columns", "10 coefficients reproduce the outcome of 10 rows exactly"),
    ],
)
def test_what_cannot_be_estimated_is_told_of(data, what, message):
    """The features' coefficients are those of least squares all the same, and predictions those of the rows."""
    X, y, u, random = data
    X, y, codes = {
        "constant in groups": (X[:, :1], u[GROUPS, 0], GROUPS),
        "constant": (X, np.full(N, 3.0), GROUPS),
        "exact": (X, X @ [1, 2, 3] + 5, GROUPS),
        "one row": (X, y, np.arange(N)),
        "many columns": (random.normal(size=(10, 30)), y[:10], GROUPS[:10]),
    }[what]
    fit = fit_linear(Observations(X, y, [codes]), one(n_levels=N if what == "one row" else 40))
    assert len(fit.trouble) == 1 and message in fit.trouble[0].replace(f"outcome of {N} rows", "outcome of 200 rows")
    fitted = X @ fit.beta[1:] + fit.beta[0]
    if what == "one row":
        expected, *_ = np.linalg.lstsq(np.column_stack([np.ones(N), X]), y, rcond=None)
        np.testing.assert_allclose(fit.beta, expected, rtol=1e-8)
        assert fit.is_singular
    elif what == "constant in groups":
        np.testing.assert_allclose(fitted + fit.modes[0][codes, 0], y, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_allclose(fitted, y, rtol=1e-7)
        assert fit.sigma < 1e-6


def test_what_is_wrong_is_refused(data):
    X, y, *_ = data
    with pytest.raises(ValueError, match="precision weights must be positive and finite"):
        fit_linear(Observations(X, y, [GROUPS]), one(), precision=np.zeros(N))
    with pytest.raises(ValueError, match="n_samples = 1"):
        fit_linear(Observations(X[:1], y[:1], [np.zeros(1, dtype=np.intp)]), one(n_levels=1))
    with pytest.raises(ValueError, match="Kenward and Roger's method is for REML fits"):
        fit_linear(Observations(X, y, [GROUPS]), one(), reml=False, kenward_roger=True)
