"""Linear mixed models with priors: against a dense log posterior, and what standard errors are."""

import numpy as np
import pytest
from scipy import stats

from sklmm import MixedLinearRegression
from sklmm.datasets import load_penicillin, load_sleepstudy
from sklmm.priors import LKJ, Exponential, Gamma, HalfNormal, InverseWishart, MultivariateT, Normal

SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
PRIORS = {
    "weak": "weak",
    "informed": {"Days": Normal(5, 1), "sd": HalfNormal(10), "correlation": LKJ(4), "residual_sd": Gamma(5, 0.3)},
    "matrices": {"coefficients": MultivariateT(4, [250, 0], [20, 5]), "covariance": InverseWishart(5, 100.0)},
    "variances": {"variance": Gamma(2, 0.01), "sigma": Exponential(0.1)},
}


def sleep(frame=None, **parameters):
    frame = load_sleepstudy(as_frame=True).frame if frame is None else frame
    return MixedLinearRegression.from_formula(SLEEP, frame, **parameters)


def dense(beta, D, sigma, reml, frame):
    """Log-likelihood of the sleep study's rows."""
    X, y, V = np.column_stack([np.ones(len(frame)), frame["Days"]]), frame["Reaction"].to_numpy(), 0.0
    same = frame["Subject"].to_numpy()[:, None] == frame["Subject"].to_numpy()
    V = np.where(same, X @ D @ X.T, 0.0) + sigma**2 * np.eye(len(frame))
    value = stats.multivariate_normal(X @ beta, V).logpdf(y)
    if reml:
        value += np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(X.T @ np.linalg.solve(V, X))[1]
    return value, X.T @ np.linalg.solve(V, X)


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("priors", PRIORS)
def test_the_mode(priors, method):
    """No small step from it is higher, and the log posterior is the dense one."""
    frame = load_sleepstudy(as_frame=True).frame
    model = sleep(priors=PRIORS[priors], method=method)
    beta, D = np.append(model.intercept_, model.coef_), model.covariance_["Subject"].to_numpy()
    assert model.converged_

    def posterior(z):
        L = np.array([[z[2], 0.0], [z[3], z[4]]])
        value = dense(z[:2], L @ L.T, np.exp(z[5]), method == "reml", frame)[0]
        return value + model.priors_.log_density(z[:2], L @ L.T, np.exp(z[5]))

    L = np.linalg.cholesky(D)
    z = np.array([*beta, L[0, 0], L[1, 0], L[1, 1], np.log(model.sigma_)])
    top = posterior(z)
    assert top == pytest.approx(model.log_posterior_, abs=1e-6)
    for step in np.diag([0.3, 0.1, 0.5, 0.3, 0.2, 0.01]):
        up, down = posterior(z + 0.05 * step), posterior(z - 0.05 * step)
        curvature = 2 * top - up - down
        assert curvature > 0 and abs(up - down) < 0.01 * curvature + 1e-8
    # standard errors count the priors of coefficients, at the estimated variances
    information = dense(beta, D, model.sigma_, False, frame)[1] - model.priors_.at(beta, D, model.sigma_).beta2
    np.testing.assert_allclose(model.vcov_, np.linalg.inv(information), rtol=1e-6)


def test_flat_priors_are_none():
    for method in ("ml", "reml"):
        plain, flat = sleep(method=method), sleep(method=method, priors={})
        np.testing.assert_allclose(flat.coef_, plain.coef_, rtol=1e-8)
        np.testing.assert_allclose(flat.vcov_, plain.vcov_, rtol=1e-7)
        assert flat.sigma_ == pytest.approx(plain.sigma_, rel=1e-7)
        assert flat.log_likelihood_ == pytest.approx(plain.log_likelihood_, abs=1e-8)
        df = [model._inference_df().each(np.eye(2)) for model in (flat, plain)]
        np.testing.assert_allclose(*df, rtol=1e-4)
        np.testing.assert_allclose(flat.vcov("robust"), plain.vcov("robust"), rtol=1e-6)


def test_crossed_factors():
    frame, formula = load_penicillin(as_frame=True).frame, "diameter ~ 1 + (1 | plate) + (1 | sample)"
    flat = MixedLinearRegression.from_formula(formula, frame, priors={}, method="ml")
    plain = MixedLinearRegression.from_formula(formula, frame, method="ml")
    np.testing.assert_allclose(flat.covariance_["sample"], plain.covariance_["sample"], rtol=1e-6)
    np.testing.assert_allclose(flat._inference_df().each([[1.0]]), plain._inference_df().each([[1.0]]), rtol=1e-3)
    narrow = MixedLinearRegression.from_formula(formula, frame, priors={"sd|sample": Gamma(900, 900)}, method="ml")
    assert np.sqrt(narrow.covariance_["sample"].iloc[0, 0]) == pytest.approx(1.0, abs=0.1)


def test_units_of_the_outcome_and_of_weights():
    """Weak priors follow them; the residual deviation with a prior is of a row with precision 1."""
    frame = load_sleepstudy(as_frame=True).frame.assign(w=np.random.default_rng(0).uniform(0.5, 30.0, 180))
    plain, scaled = (
        sleep(priors="weak", frame=frame.assign(Reaction=size * frame["Reaction"] + shift))
        for size, shift in ((1.0, 0.0), (1000.0, 1e6))
    )
    np.testing.assert_allclose(scaled.coef_, 1000.0 * plain.coef_, rtol=1e-6)
    np.testing.assert_allclose(scaled.sigma_, 1000.0 * plain.sigma_, rtol=1e-6)
    fit = MixedLinearRegression.from_formula(SLEEP, frame, priors={"sigma": Gamma(1e6, 1e4)}, precision_weight="w")
    assert fit.sigma_ == pytest.approx(100.0, rel=0.01)
    ends = fit.conf_int(method="profile", X=frame, parameters=["sigma"])
    assert ends["lower"].iloc[0] == pytest.approx(100.0 * (1 - 1.96e-3), rel=1e-3)


def test_a_variance_of_zero_and_no_groups():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(100, 1)), np.arange(100) % 10
    y = X[:, 0] + np.where(np.arange(100) // 10 % 2, 1.0, -1.0)
    with pytest.warns(match="singular"):
        model = MixedLinearRegression(priors="weak").fit(X, y, groups=groups)
    assert model.is_singular_ and model.converged_
    with pytest.warns(match="no groups"):
        alone = MixedLinearRegression(priors={"fixed": Normal(0, 0.05)}).fit(X, y)
    assert 0.0 < alone.coef_[0] < 0.5
    with pytest.warns(match="priors do not count"):
        exact = MixedLinearRegression(priors="weak").fit(X, 3.0 * X[:, 0], groups=groups)
    assert not hasattr(exact, "log_posterior_")
    with pytest.warns(match="priors do not count"):
        MixedLinearRegression(priors="weak").fit(X, X[:, 0] + np.resize([1.0, -1.0], 100), groups=groups)
