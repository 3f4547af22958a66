"""Whole fits: against lme4 and glmmTMB, plain logistic regression, tighter fits, and on the edges of the model."""

import numpy as np
import pytest
from conditional_modes import conditional_modes
from designs import Coded, clustered, fitted
from reference_data import DATASETS, model_data, reference, reference_names
from scipy.special import expit, log_expit, logit

from sklmm.datasets import make_clustered_classification

# ---- references ------------------------------------------------------------------------------------------------

FITS = {mixed: [(d, name) for d in DATASETS for name in reference_names(d, mixed=mixed)] for mixed in (True, False)}
SLOPES = {"m_slope_urban": ("urbanY", True), "m_slope_age_uncorr": ("age", False)}


def _arrays(dataset, name):
    data = model_data(dataset, name)
    levels, codes = np.unique(data.groups.astype(str), return_inverse=True)
    slope, correlated = SLOPES.get(name.split("/")[0], (None, True))
    columns = [-1] if slope is None else [-1, data.X.columns.get_loc(slope)]
    factor = Coded(codes.astype(np.intp), levels.size, columns, [(len(columns), correlated)])
    return data.X.to_numpy(dtype=float), data.y.to_numpy(dtype=np.uint8), factor, data.sample_weight, levels.tolist()


@pytest.mark.parametrize("dataset, name", FITS[True])
def test_mixed_models_of_lme4_and_glmmtmb(dataset, name):
    """As near as the reference is known itself: see tests/reference/README.md."""
    expected = reference(dataset, name)
    X, y, factor, w, levels = _arrays(dataset, name)
    fit = fitted(X, y, factors=[factor], sample_weight=w, n_quadrature=expected["n_quadrature"])
    assert fit.report.converged and not fit.is_singular and fit.aliased == fit.separated == []
    exact_gradient = "glmmTMB" in name
    assert fit.log_likelihood == pytest.approx(expected["log_likelihood"], abs=5e-8)
    distance = np.abs(fit.beta - expected["coef"]) / expected["se"]
    assert distance.max() < (1e-7 if exact_gradient else 1e-4)
    n_fixed = len(fit.beta)
    vcov = fit.vcov[:n_fixed, :n_fixed]
    scale = np.outer(expected["se"], expected["se"])
    assert np.abs((vcov - expected["vcov"]) / scale).max() < (1e-6 if exact_gradient else 2e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(vcov)), expected["se"], rtol=1e-6 if exact_gradient else 1e-5)

    Lambda = fit.lambda_[0]
    covariance = Lambda @ Lambda.T
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(sd, expected["sd"], rtol=1e-8 if exact_gradient else 1e-5)
    np.testing.assert_allclose(covariance / np.outer(sd, sd), expected["corr"], atol=1e-6)
    shown = [levels.index(level) for level in expected["levels"]]
    assert len(levels) == expected["n_groups"]
    np.testing.assert_allclose(fit.modes[0][shown], expected["modes"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(fit.mode_cov[0][shown], expected["condvar"], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(fit.modes[0].sum(axis=0), expected["modes_sum"], rtol=1e-6, atol=1e-6 * len(levels))
    np.testing.assert_allclose(np.sum(fit.modes[0] ** 2, axis=0), expected["modes_sumsq"], rtol=1e-5)
    np.testing.assert_allclose(fit.mode_cov[0].sum(axis=0), expected["condvar_sum"], rtol=1e-5)


@pytest.mark.parametrize("dataset, name", FITS[False])
def test_plain_models_of_r(dataset, name):
    expected = reference(dataset, name)
    X, y, _, w, _ = _arrays(dataset, name)
    fit = fitted(X, y, factors=[], sample_weight=w)
    assert fit.log_likelihood == pytest.approx(expected["log_likelihood"], abs=1e-8)
    np.testing.assert_allclose(fit.beta, expected["coef"], rtol=1e-8)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov)), expected["se"], rtol=1e-7)
    np.testing.assert_allclose(fit.vcov, expected["vcov"], rtol=1e-6)
    assert fit.theta == fit.lambda_ == fit.modes == fit.mode_cov == [] and not fit.is_singular


@pytest.mark.parametrize(
    "dataset, name", [("contraception", "m_slope_urban/glmmTMB_laplace"), ("ohio", "main/glmer_nAGQ25")]
)
def test_modes_from_given_parameters(dataset, name):
    """The references' own estimates give the references' modes."""
    expected = reference(dataset, name)
    X, y, factor, w, levels = _arrays(dataset, name)
    L = np.linalg.cholesky(expected["cov"])
    theta = L[np.tril_indices(len(L))] if len(L) == 1 else np.array([L[0, 0], L[1, 0], L[1, 1]])
    modes, cov = conditional_modes(X, y, factors=[factor], sample_weight=w, beta=expected["coef"], theta=[theta])
    shown = [levels.index(level) for level in expected["levels"]]
    np.testing.assert_allclose(modes[0][shown], expected["modes"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(cov[0][shown], expected["condvar"], rtol=1e-6, atol=1e-9)


# ---- many rows -------------------------------------------------------------------------------------------------

LARGE = {
    "intercept": dict(columns=[-1], blocks=[(1, True)], n_quadrature=1),
    "quadrature": dict(columns=[-1], blocks=[(1, True)], n_quadrature=5),
    "correlated slope": dict(columns=[-1, 0], blocks=[(2, True)], n_quadrature=1),
    "uncorrelated slope": dict(columns=[-1, 0], blocks=[(2, False)], n_quadrature=1),
}


@pytest.fixture(scope="module")
def large():
    coef = np.array([0.8, -0.5, 0.3, 0.0, 0.2, -0.1, 0.4, -0.3, 0.1, 0.05])
    return {
        slope: make_clustered_classification(
            100_000, 10, n_groups=2000, coef=coef, intercept=-0.5, size_variation=0.3, shuffle=slope, random_state=1,
            covariance=[[0.8, 0.2], [0.2, 0.3]] if slope else 0.8,
        )
        for slope in (False, True)
    }  # fmt: skip


def _fit(X, y, groups, columns, blocks, **keywords):
    factor = Coded(groups.astype(np.intp), int(groups.max()) + 1, columns, blocks)
    return fitted(X, y.astype(np.uint8), factors=[factor], **keywords)


def _engine_at(fit, X, y, groups, columns, blocks, **keywords):
    engine = clustered(
        X, y.astype(np.uint8), groups.astype(np.intp), int(groups.max()) + 1, columns, blocks, **keywords
    )
    x = engine.units.internal(fit.beta, fit.theta[0])
    engine.evaluate(x)
    return engine.evaluate(x)


@pytest.mark.parametrize("name", LARGE)
def test_full_passes(large, name):
    """A count, so there is no noise in it: samples of the blocks do the rest of the way."""
    model = LARGE[name]
    fit = _fit(*large["slope" in name], **model, n_threads=2)
    assert fit.report.converged
    assert fit.report.n_full_passes <= 4
    assert [row["level"] for row in fit.report.history].count(1) == fit.report.n_full_passes


@pytest.mark.parametrize("name", LARGE)
def test_default_tolerance_reaches_the_optimum(large, name):
    data, model = large["slope" in name], LARGE[name]
    fit = _fit(*data, **model, n_threads=2)
    tight = _fit(*data, **model, n_threads=2, tol=1e-14, max_iter=200)
    assert fit.log_likelihood == pytest.approx(tight.log_likelihood, abs=1e-7)
    value, gradient, hessian = _engine_at(fit, *data, **model)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-7)  # it was predicted, not evaluated
    assert 0 <= 0.5 * gradient @ np.linalg.solve(-hessian, gradient) < 1e-9
    se = np.sqrt(np.diag(tight.vcov))
    np.testing.assert_allclose(np.concatenate([fit.beta, *fit.theta]), np.concatenate([tight.beta, *tight.theta]),
                               rtol=0, atol=1e-4 * se.max())  # fmt: skip
    # with many rows the information is that of the point before the last step
    np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov)), se, rtol=1e-3)


@pytest.mark.parametrize("name", LARGE)
def test_thread_count_changes_no_bit_of_a_fit(large, name):
    X, y, groups = large["slope" in name]
    keep = groups < 700  # levels of samples are climbed through, still
    fits = [_fit(X[keep], y[keep], groups[keep], **LARGE[name], n_threads=n) for n in (1, 2, 4)]
    assert {row["level"] for row in fits[0].report.history} >= {1, 8}
    for fit in fits[1:]:
        assert fit.log_likelihood == fits[0].log_likelihood
        for part in ("beta", "vcov"):
            np.testing.assert_array_equal(getattr(fit, part), getattr(fits[0], part))
        for part in ("theta", "lambda_", "modes", "mode_cov"):
            np.testing.assert_array_equal(getattr(fit, part)[0], getattr(fits[0], part)[0])
        for a, b in zip(fit.report.history, fits[0].report.history, strict=True):
            assert {k: a[k] for k in a if k != "seconds"} == {k: b[k] for k in b if k != "seconds"}


# ---- boundary --------------------------------------------------------------------------------------------------


def _logistic_regression(X, y):
    """Coefficients (intercept first) and log-likelihood by Newton's method, run until it stands still."""
    X1, beta = np.column_stack([np.ones(len(y)), X]), np.zeros(X.shape[1] + 1)
    for _ in range(50):
        mu = expit(X1 @ beta)
        beta = beta + np.linalg.solve((X1.T * (mu * (1 - mu))) @ X1, X1.T @ (y - mu))
    return beta, log_expit((2.0 * y - 1) * (X1 @ beta)).sum()


@pytest.fixture
def alike():
    """Groups that are more alike than chance would have them: of each 20 rows 9 or 10 are successes."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 20)
    y = np.tile([0, 1], 600)
    y[::200] = 0
    y[1::200] = 0
    X = rng.normal(size=(1200, 2)) + 0.3 * y[:, None]
    return X, y, groups


BOUNDARY = {
    "Laplace": dict(columns=[-1], blocks=[(1, True)]),
    "quadrature": dict(columns=[-1], blocks=[(1, True)], n_quadrature=9),
    "slope": dict(columns=[-1, 0], blocks=[(2, False)]),
}


@pytest.mark.parametrize("name", ["Laplace", "quadrature"])
def test_variance_zero_is_the_plain_model(alike, name):
    fit = _fit(*alike, **BOUNDARY[name])
    beta, log_likelihood = _logistic_regression(*alike[:2])
    assert fit.theta[0][0] == 0.0 and fit.lambda_[0][0, 0] == 0.0
    assert fit.is_singular and fit.report.converged
    assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-9)
    np.testing.assert_allclose(fit.beta, beta, rtol=0, atol=1e-7)
    plain = fitted(alike[0], alike[1].astype(np.uint8), factors=[])
    assert plain.log_likelihood == pytest.approx(log_likelihood, abs=1e-9)
    np.testing.assert_allclose(plain.beta, beta, rtol=0, atol=1e-8)
    np.testing.assert_allclose(fit.vcov[:3, :3], plain.vcov, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(fit.modes[0], 0.0)
    np.testing.assert_array_equal(fit.mode_cov[0], 0.0)


def test_one_of_two_variances_zero(alike):
    """A slope that differs between groups whose intercepts do not."""
    X, y, groups = alike
    b = np.random.default_rng(1).normal(size=60)[groups]
    X = X.copy()
    X[:, 0] = np.abs(X[:, 0]) * np.where(y == 1, 1, -1) * np.sign(b) * (np.arange(1200) % 3 > 0) + 0.5 * X[:, 1]
    fit = _fit(X, y, groups, **BOUNDARY["slope"])
    assert fit.theta[0][0] == 0.0 and fit.theta[0][1] > 0.3
    assert fit.is_singular and fit.report.converged
    alone = _fit(X, y, groups, [0], [(1, True)])
    assert not alone.is_singular
    assert fit.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(fit.beta, alone.beta, rtol=0, atol=1e-6)
    assert fit.theta[0][1] == pytest.approx(alone.theta[0][0], abs=1e-6)


@pytest.mark.parametrize("correlation", [1, -1])
def test_perfect_correlation(correlation):
    """Effects on a line: with few groups the estimated correlation is +-1, a boundary of the parameter space."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), 25)
    X = rng.normal(size=(750, 1))
    b = rng.normal(size=30)[groups]
    y = (rng.random(750) < expit(0.3 + b + (0.5 + 0.8 * correlation * b) * X[:, 0])).astype(np.uint8)
    model = dict(columns=[-1, 0], blocks=[(2, True)])
    fit = _fit(X, y, groups, **model)
    assert fit.is_singular and fit.report.converged
    covariance = fit.lambda_[0] @ fit.lambda_[0].T
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) == pytest.approx(correlation, abs=1e-12)
    assert fit.theta[0][2] == 0.0
    # a maximum: lower on both sides of the boundary, and in every other direction
    engine = clustered(X, y, groups, 30, **model, standardise=False)
    x = engine.units.internal(fit.beta, fit.theta[0])
    assert fit.log_likelihood == pytest.approx(engine.evaluate(x)[0], abs=1e-8)
    for step in np.vstack([np.eye(x.size), -np.eye(x.size)]) * 0.02:
        assert engine.evaluate(x + step)[0] < fit.log_likelihood


def test_diagonal_of_lambda_is_not_negative():
    X, y, groups = make_clustered_classification(
        2000, 2, n_groups=50, covariance=[[1.0, -0.4], [-0.4, 0.5]], random_state=2
    )
    fit = _fit(X, y, groups, [-1, 0], [(2, True)])
    assert np.all(np.diag(fit.lambda_[0]) > 0)
    np.testing.assert_array_equal(fit.lambda_[0][[0, 1, 1], [0, 0, 1]], fit.theta[0])
    np.testing.assert_array_equal(np.triu(fit.lambda_[0], 1), 0.0)


# ---- separation ------------------------------------------------------------------------------------------------


@pytest.fixture
def noise():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 3))
    return X, (rng.random(400) < expit(X[:, 1])).astype(np.uint8), rng.integers(0, 20, 400)


@pytest.mark.parametrize("n_quadrature", [1, 5])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_separation_with_groups(noise, n_quadrature, scale):
    X, _, groups = noise
    X = X * [1.0, 1.0, scale]
    y = X[:, 2] > 0.1 * scale
    fit = _fit(X, y, groups, [-1], [(1, True)], n_quadrature=n_quadrature)
    assert fit.separated == [2]
    assert np.all(np.isfinite(fit.beta)) and np.all(np.isfinite(fit.theta[0]))
    assert fit.beta[3] * scale > 10
    assert -1e-2 < fit.log_likelihood <= 0
    assert "no maximum" in fit.report.verdict


def test_separation_without_groups(noise):
    X, _, _ = noise
    fit = fitted(X, (X[:, 2] > 0.1).astype(np.uint8), factors=[])
    assert fit.separated == [2] and np.all(np.isfinite(fit.beta))
    assert -1e-2 < fit.log_likelihood <= 0


@pytest.mark.parametrize("groups", [True, False])
def test_quasi_separation(noise, groups):
    """An indicator of rows that are all successes: its coefficient runs away, the others are those of other rows."""
    X, y, codes = noise
    X = X.copy()
    X[:, 2] = np.arange(400) < 30
    y = np.where(X[:, 2] == 1, 1, y).astype(np.uint8)
    factors = [Coded(codes, 20, [-1], [(1, True)])] if groups else []
    fit = fitted(X, y, factors=factors)
    assert fit.separated == [2] and np.isfinite(fit.beta).all() and fit.beta[3] > 8
    if not groups:
        beta, log_likelihood = _logistic_regression(X[30:, :2], y[30:])
        np.testing.assert_allclose(fit.beta[:3], beta, atol=1e-4)
        assert fit.log_likelihood == pytest.approx(log_likelihood, abs=1e-4)


def test_separation_by_the_intercept(noise):
    """Without features, almost all successes are no separation; a likelihood that has a maximum names nobody."""
    X, _, _ = noise
    y = np.ones(400, dtype=np.uint8)
    y[7] = 0
    fit = fitted(X[:, :0], y, factors=[])
    assert fit.separated == []
    assert fit.beta[0] == pytest.approx(logit(399 / 400), abs=1e-8)


def test_no_separation_is_reported_for_strong_effects(noise):
    X, _, groups = noise
    y = np.random.default_rng(0).random(400) < expit(6 * X[:, 1])
    assert _fit(X, y, groups, [-1], [(1, True)]).separated == []
    assert fitted(X, y.astype(np.uint8), factors=[]).separated == []


# ---- aliased columns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [True, False])
def test_aliased_columns_change_nothing(noise, groups):
    X, y, codes = noise
    factors = [Coded(codes, 20, [-1], [(1, True)])] if groups else []
    expected = fitted(X, y, factors=factors)
    more = np.column_stack([X[:, 0], np.full(400, 7.0), X[:, 1], X[:, 0] - 2 * X[:, 1] + 5, X[:, 2], np.zeros(400)])
    fit = fitted(more, y, factors=factors)
    assert fit.aliased == [1, 3, 5]
    assert fit.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-9)
    kept = [0, 1, 3, 5]  # with the intercept
    np.testing.assert_allclose(fit.beta[kept], expected.beta, atol=1e-7)
    np.testing.assert_array_equal(fit.beta[[2, 4, 6]], 0.0)
    parameters = [*kept, 7] if groups else kept
    np.testing.assert_allclose(fit.vcov[np.ix_(parameters, parameters)], expected.vcov, rtol=1e-6, atol=1e-10)
    assert np.isnan(fit.vcov[[2, 4, 6]]).all() and np.isnan(fit.vcov[:, [2, 4, 6]]).all()


@pytest.mark.parametrize("complement", [True, False])
def test_column_that_samples_of_the_blocks_do_not_see(large, complement):
    """Indicators of a few rows have no information on the way up; they must not lead the others astray."""
    X, y, groups = large[False]
    X = X[:, :4].copy()
    X[:, 2] = np.isin(np.arange(len(y)), [5, 40_000, 40_001, 99_000])
    X[:, 3] = 1 - X[:, 2] if complement else np.isin(np.arange(len(y)), [6, 40_002, 40_003, 40_005, 99_001])
    y = y.copy()
    y[[5, 6, 40_001, 40_002]], y[[40_000, 40_003, 99_000, 99_001]] = 1, 0
    fit = _fit(X, y, groups, **LARGE["intercept"], n_threads=2)
    assert fit.report.converged and fit.aliased == ([3] if complement else []) and fit.separated == []
    assert fit.report.n_full_passes <= 7
    value, gradient, hessian = _engine_at(fit, X, y, groups, **LARGE["intercept"])
    active = np.ones(gradient.size, dtype=bool)
    active[fit.aliased] = False
    step = np.linalg.solve(-hessian[np.ix_(active, active)], gradient[active])
    assert 0.5 * gradient[active] @ step < 1e-8


@pytest.mark.parametrize("blocks", [[(2, True)], [(2, False)]])
@pytest.mark.parametrize("seed", range(4))
def test_heavy_tails_are_not_aliased(seed, blocks):
    """A slope with unit variance where it does not belong bends the likelihood upwards in the fixed effect, too."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.exp(3 * rng.normal(size=2000)), rng.normal(size=2000)])
    groups = rng.integers(0, 400, 2000)
    y = (rng.random(2000) < expit(-0.5 + 0.5 * X[:, 1] + rng.normal(size=400)[groups])).astype(np.uint8)
    fit = _fit(X, y, groups, [-1, 0], blocks)
    assert fit.aliased == []
    assert np.isfinite(fit.vcov[:3, :3]).all()  # of theta there is none where a correlation is 1
    assert fit.log_likelihood > _fit(X, y, groups, [-1], [(1, True)]).log_likelihood - 1e-6


@pytest.mark.parametrize("n_quadrature", [1, 3])
def test_slope_of_a_feature_far_from_zero(n_quadrature):
    """Calendar years: a correlated intercept and slope are the same model wherever the years are counted from."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(150), 20)
    year = 2000.0 + rng.integers(0, 20, 3000)
    b = rng.normal(size=(150, 2))[groups] * [1.0, 0.15]
    y = rng.random(3000) < expit(b[:, 0] + (0.05 + b[:, 1]) * (year - 2010))
    model = dict(columns=[-1, 0], blocks=[(2, True)], n_quadrature=n_quadrature)
    expected, fit = (_fit((year - origin)[:, None], y, groups, **model) for origin in (2010, 0))
    assert fit.report.converged and not fit.is_singular
    assert fit.report.n_iter <= expected.report.n_iter + 20
    assert fit.log_likelihood == pytest.approx(expected.log_likelihood, abs=1e-6)
    shift = np.array([[1.0, -2010.0], [0.0, 1.0]])  # intercept and slope at year 0 from those at 2010
    np.testing.assert_allclose(fit.beta, shift @ expected.beta, rtol=1e-4)
    covariance = shift @ expected.lambda_[0] @ expected.lambda_[0].T @ shift.T
    np.testing.assert_allclose(fit.lambda_[0] @ fit.lambda_[0].T, covariance, rtol=1e-3)
    np.testing.assert_allclose(fit.modes[0], expected.modes[0] @ shift.T, rtol=1e-3, atol=1e-4)
