"""Maximum softly penalised likelihood: its parts against differences and by hand, and what it promises."""

import numpy as np
import pytest
from designs import Coded, engine_of
from priors_reference import FORMULAS, data
from separated_designs import separated_design

from sklmm import MixedLogisticRegression
from sklmm.exceptions import SeparationWarning
from sklmm.families import CLOGLOG, LOGIT, PROBIT
from sklmm.likelihood.fit import engine_with_priors
from sklmm.likelihood.soft_penalty import SoftPenalties
from sklmm.passes.log_determinant import LogDeterminant

FAMILIES = (LOGIT, PROBIT, CLOGLOG)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_expected_information_of_a_row(family):
    eta, h = np.linspace(-6.0, 2.0, 25), 1e-5
    w, first, second = family.information(eta)
    mu = family.mean(eta)
    np.testing.assert_allclose(w, family.slope(mu, eta) ** 2 / (mu * (1 - mu)), rtol=1e-9)
    up, down = family.information(eta + h), family.information(eta - h)
    np.testing.assert_allclose(first, (up[0] - down[0]) / (2 * h), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(second, (up[1] - down[1]) / (2 * h), rtol=1e-6, atol=1e-10)
    for far in family.information(np.array([-800.0, -40.0, 40.0, 800.0])):
        assert np.isfinite(far).all()


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_the_log_determinant(family):
    rng = np.random.default_rng(0)
    X, weights, offset = rng.normal(2.0, 3.0, (5000, 4)), rng.integers(1, 4, 5000).astype(float), rng.normal(size=5000)
    center, inv_scale = X.mean(axis=0), 1 / X.std(axis=0)
    active = np.array([True, False, True, True, True])
    found = LogDeterminant(X, center, inv_scale, active, family, weights, offset)
    beta = np.array([0.3, -0.4, 0.2, -0.5])
    E = np.column_stack([((X - center) * inv_scale)[:, [0, 2, 3]], np.ones(5000)])
    w = weights * family.information(E @ beta + offset)[0]
    value, gradient, hessian = found(beta)
    assert value == pytest.approx(0.5 * np.linalg.slogdet(E.T @ (w[:, None] * E))[1])
    for step in 1e-5 * np.eye(4):
        up, down = found(beta + step), found(beta - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(gradient @ step / 1e-5, rel=1e-6)
        np.testing.assert_allclose((up[1] - down[1]) / 2e-5, hessian @ step / 1e-5, rtol=1e-5, atol=1e-6)
    with pytest.raises(FloatingPointError):
        found(np.array([1e3, 0.0, 0.0, -1e5]))


def test_the_penalty():
    """By the formula, in the user's units, and its derivatives by differences; on both sides of Huber's corner."""
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(300, 2)), np.arange(300) % 25
    y = (rng.random(300) < 0.5).astype(np.uint8)
    engine = engine_of(X, y, [Coded(codes, 25, [-1, 0], [(2, True)])])
    penalty = SoftPenalties().penalty(engine)
    for theta in ([0.8, -0.4, 1.7], [0.1, 1.6, 4.0], [-0.8, 0.3, -0.2]):
        x = np.array([0.4, -0.3, 0.2, *theta])
        value, gradient, hessian = penalty.derivatives(x)
        E = np.column_stack([np.ones(300), X])
        beta = engine.units.natural(x)[0]
        mu = LOGIT.mean(E @ beta)
        z = np.array([np.log(abs(theta[0])), theta[1], np.log(abs(theta[2]))])
        huber = np.where(np.abs(z) <= 1, z**2 / 2, np.abs(z) - 0.5).sum()
        log_det = np.linalg.slogdet(E.T @ ((mu * (1 - mu))[:, None] * E))[1]
        assert value == pytest.approx(2 * np.sqrt(3 / 300) * (0.5 * log_det - huber))
        for step in 1e-5 * np.eye(6):
            up, down = penalty.derivatives(x + step), penalty.derivatives(x - step)
            assert (up[0] - down[0]) / 2e-5 == pytest.approx(gradient @ step / 1e-5, rel=1e-5, abs=1e-7)
            np.testing.assert_allclose((up[1] - down[1]) / 2e-5, hessian @ step / 1e-5, rtol=1e-5, atol=1e-6)


def separation():
    frame = data("sim_separation")
    return frame[["x1", "z"]].to_numpy(), frame["y"].to_numpy(), frame["g"].to_numpy()


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_columns_may_be_rescaled_and_recoded(link):
    X, y, groups = separation()
    plain = MixedLogisticRegression(priors="soft", link=link).fit(X, y, groups=groups)
    T = np.array([[1000.0, 0.3], [5.0, -0.01]])
    other = MixedLogisticRegression(priors="soft", link=link).fit(X @ T + 7.0, y, groups=groups)
    np.testing.assert_allclose(T @ other.coef_[0], plain.coef_[0], rtol=1e-8)
    np.testing.assert_allclose(other.intercept_ + 7.0 * other.coef_.sum(), plain.intercept_, rtol=1e-8)
    np.testing.assert_allclose(other.covariance_["group"], plain.covariance_["group"], rtol=1e-8)


def test_rows_may_come_in_any_order_and_weights_count_them():
    rng = np.random.default_rng(1)
    X, groups = rng.normal(5.0, 2.0, (2500, 2)), np.arange(2500) % 40
    slopes = rng.normal(size=40)
    y = (rng.random(2500) < LOGIT.mean((X[:, 0] - 5) * (0.5 + slopes[groups]))).astype(int)

    def fit(X, y, **given):
        return MixedLogisticRegression("1 + x0 | group", priors="soft").fit(X, y, **given)

    plain, order = fit(X, y, groups=groups), rng.permutation(2500)
    mixed = fit(X[order], y[order], groups=groups[order])
    np.testing.assert_allclose(mixed.coef_, plain.coef_, rtol=1e-8)
    np.testing.assert_allclose(mixed.covariance_["group"], plain.covariance_["group"], rtol=1e-8)
    assert mixed.log_posterior_ == pytest.approx(plain.log_posterior_, abs=1e-8)
    weights = rng.integers(0, 3, 2500)
    weighted, written = fit(X, y, groups=groups, sample_weight=weights), np.repeat(np.arange(2500), weights)
    repeated = fit(X[written], y[written], groups=groups[written])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-7)
    scaled = fit(X * [1000.0, 1.0] - [3.0, 0.0], y, groups=groups)
    np.testing.assert_allclose(scaled.coef_ * [1000.0, 1.0], plain.coef_, rtol=1e-7)


@pytest.mark.parametrize("dataset", ["contraception_m_03", "contraception_slope"])
def test_it_vanishes_where_data_are_many(dataset):
    """And standard errors are those of the likelihood's information there."""
    plain, soft = (MixedLogisticRegression.from_formula(FORMULAS[dataset], data(dataset), priors=p)
                   for p in (None, "soft"))  # fmt: skip
    se = np.sqrt(np.diag(plain.vcov_))
    assert (np.abs(soft.coef_ - plain.coef_) / se[1:]).max() < 0.01
    np.testing.assert_allclose(np.sqrt(np.diag(soft.vcov_)), se, rtol=0.01)
    observations, structure = soft._rows_of_fit("a test", data(dataset), None, None, None)
    engine = engine_with_priors(observations, structure, soft._fitted.priors).engine
    x = soft._fitted.units.x
    information = -engine.evaluate(x)[2]
    inverse = engine.units.jacobian(x) @ np.linalg.inv(information) @ engine.units.jacobian(x).T
    np.testing.assert_allclose(inverse[:5, :5], soft.vcov_, rtol=1e-5)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
@pytest.mark.parametrize("priors", ["soft", "weak"])
def test_separated_classes(priors, link, recwarn):
    X, y, groups = separation()
    model = MixedLogisticRegression(priors=priors, link=link).fit(X, y, groups=groups)
    assert model.converged_ and not recwarn.list
    assert np.isfinite(model.coef_).all() and 1.0 < model.coef_[0, 1] < 10.0
    assert (np.sqrt(np.diag(model.vcov_)) < 5.0).all() and model.covariance_["group"].iloc[0, 0] > 0.1
    assert np.isfinite(model.conf_int()).all(axis=None)
    with pytest.warns(SeparationWarning, match="priors='soft'.*penalty='firth'"):
        MixedLogisticRegression(link=link).fit(X, y, groups=groups)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")
@pytest.mark.filterwarnings("error::sklmm.exceptions.SeparationWarning")
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("priors", ["soft", "weak"])
@pytest.mark.parametrize("seed", [0, 1, 3, 4, 12, 18, 30, 34, 35, 43, 227])
def test_random_separated_designs(seed, priors):
    """`benchmarks/separation.py` has 500 of them."""
    X, y, groups, random_effects = separated_design(seed)
    model = MixedLogisticRegression(random_effects, priors=priors, n_threads=1).fit(X, y, groups=groups)
    assert model.converged_ and np.isfinite(model.coef_).all()
    assert np.isfinite(np.sqrt(np.diag(model.vcov_))).all()
    if priors == "soft":
        assert (np.linalg.eigvalsh(model.covariance_["group"]) > 0).all() and not model.is_singular_


def test_variances_stay_off_zero():
    """Where groups do not differ maximum likelihood has a variance of 0."""
    rng = np.random.default_rng(3)
    X, groups = rng.normal(size=(200, 1)), np.arange(200) % 20
    y = (np.arange(200) // 20) % 2  # the same share in each group
    with pytest.warns(match="singular"):
        MixedLogisticRegression().fit(X, y, groups=groups)
    model = MixedLogisticRegression(priors="soft").fit(X, y, groups=groups)
    assert model.covariance_["group"].iloc[0, 0] > 1e-4 and not model.is_singular_


def test_several_factors_and_none():
    X, y, groups = separation()
    other = np.arange(len(y)) % 7
    both = MixedLogisticRegression(priors="soft").fit(X, y, groups=np.column_stack([groups, other]))
    assert both.converged_ and len(both.covariance_) == 2 and (np.sqrt(np.diag(both.vcov_)) < 5).all()
    with pytest.warns(match="no groups"):
        alone = MixedLogisticRegression(priors="soft").fit(X, y)
    E = np.column_stack([np.ones(len(y)), X])
    beta, c = np.append(alone.intercept_, alone.coef_), 2 * np.sqrt(3 / len(y))
    mu = LOGIT.mean(E @ beta)
    w = mu * (1 - mu)
    leverage = np.einsum("ij,jk,ik->i", E, np.linalg.inv(E.T @ (w[:, None] * E)), E) * w
    np.testing.assert_allclose(E.T @ (y - mu + c * leverage * (0.5 - mu)), 0.0, atol=1e-6)
