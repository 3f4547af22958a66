"""What inference and prediction know of a link: means over normal linear predictors, tails, derivatives, words."""

import pickle

import links
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import log_ndtr

from sklmm.design.structure import Structure
from sklmm.families import CLOGLOG, LOGIT, PROBIT, bernoulli
from sklmm.inference.variance_partition import VariancePartition
from sklmm.inference.wald import hazard_ratios, odds_ratios, wald_table
from sklmm.passes.tables import row_scores

FAMILIES = [LOGIT, PROBIT, CLOGLOG]
BY_NAME = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def _normal_mean(function, m, s):
    """E function(m + s z) by adaptive quadrature, in pieces that end where a link bends."""
    if s == 0:
        return float(function(m))
    ends = np.unique(np.clip([-12, -4, 0, 4, 12, *((d - m) / s for d in (-40, -10, -3, 0, 1.5, 3, 6, 10))], -12, 12))
    density = stats.norm.pdf
    pieces = zip(ends[:-1], ends[1:], strict=True)
    return sum(quad(lambda z: density(z) * function(m + s * z), *ab, epsabs=1e-13, epsrel=1e-12)[0] for ab in pieces)


@BY_NAME
def test_names(family):
    assert bernoulli(family.name) is family
    assert pickle.loads(pickle.dumps(family)) is family
    assert family.name in repr(family)
    latent = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6}
    assert family.latent_variance == pytest.approx(latent[family.name])
    assert Structure([]).family is LOGIT


@pytest.mark.parametrize("link", ["identity", "Logit", None, 3])
def test_no_such_link(link):
    with pytest.raises(ValueError, match="'logit', 'probit', 'cloglog'"):
        bernoulli(link)


@BY_NAME
def test_mean_link_and_slope(family):
    eta = np.linspace(-6.0, 2.0, 41)
    np.testing.assert_allclose(family.mean(eta), links.probability(family.name, eta), rtol=1e-13)
    np.testing.assert_allclose(family.link(family.mean(eta)), eta, rtol=1e-8, atol=1e-8)
    differences = (family.mean(eta + 1e-5) - family.mean(eta - 1e-5)) / 2e-5
    np.testing.assert_allclose(family.slope(family.mean(eta), eta), differences, rtol=1e-7)
    assert family.start(0.3) == pytest.approx(family.link(0.3))
    assert family.mean(np.array([-800.0, 800.0])).tolist() == [0.0, 1.0]


@BY_NAME
def test_scores_of_rows(family):
    rng = np.random.default_rng(0)
    X, y, beta = rng.normal(size=(50, 2)), rng.integers(0, 2, 50).astype(np.uint8), np.array([0.2, 0.5, -0.7])
    eta = beta[0] + X @ beta[1:]
    np.testing.assert_allclose(family.scores(eta, y), links.score(family.name, eta, y), rtol=1e-12)
    np.testing.assert_allclose(family.log_density(eta, y), links.log_density(family.name, eta, y), rtol=1e-12)
    expected = links.score(family.name, eta, y)[:, None] * np.column_stack([np.ones(50), X])
    np.testing.assert_allclose(row_scores(X, y, beta, True, family), expected, rtol=1e-12)


@BY_NAME
def test_tails_without_variance(family):
    eta = np.concatenate([np.linspace(-30, 6, 73), [-700.0, -100.0, -0.3665, -0.3666]])
    mu, log_mu = links.probability(family.name, eta), links.log_density(family.name, eta, True)
    log_rest = links.log_density(family.name, eta, False)
    small, positive = family.tails(eta)
    np.testing.assert_array_equal(positive, log_mu > log_rest)
    np.testing.assert_array_equal(positive, mu > 0.5)
    log_small = np.minimum(log_mu, log_rest)
    near = log_small > -650.0
    np.testing.assert_allclose(np.log(small[near]), log_small[near], rtol=1e-12)
    np.testing.assert_allclose(family.tails(eta, log=True)[0], log_small, rtol=1e-12)


@BY_NAME
@pytest.mark.parametrize("s", [0.0, 0.3, 1.0, 3.0, 8.0, 40.0])
def test_tails_of_normal_linear_predictors(family, s):
    m = np.array([-40.0, -9.0, -3.0, -1.0, -0.37, 0.0, 0.5, 2.0, 6.0, 30.0])
    small, positive = family.tails(m, np.full(m.size, s))
    upper = np.array([_normal_mean(lambda t: links.probability(family.name, t), x, s) for x in m])
    np.testing.assert_allclose(np.where(positive, 1.0 - small, small), upper, rtol=0, atol=2e-9)
    assert (small <= 0.5 + 1e-9).all()
    logs, same = family.tails(m, np.full(m.size, s), log=True)
    np.testing.assert_array_equal(same, positive)
    np.testing.assert_allclose(np.exp(logs), small, rtol=1e-9, atol=2e-9)


def test_cloglog_beyond_the_last_rule():
    m, s = np.array([-100.0, -5.0, 0.0, 60.0]), np.full(4, 120.0)
    small, positive = CLOGLOG.tails(m, s)
    exact = [_normal_mean(lambda t: links.probability("cloglog", t), x, 120.0) for x in m]
    np.testing.assert_allclose(np.where(positive, 1.0 - small, small), exact, rtol=0, atol=3e-6)


@BY_NAME
def test_logarithms_survive_where_numbers_underflow(family):
    m, s = np.array([-900.0, -750.0]), np.array([0.5, 1.0])
    logs, positive = family.tails(m, s, log=True)
    expected = log_ndtr(m / np.hypot(1.0, s)) if family is PROBIT else m + s**2 / 2
    np.testing.assert_allclose(logs, expected, rtol=1e-11)
    assert not positive.any()
    logs, positive = family.tails(np.array([8.0, 7.5]), np.array([0.1, 0.2]), log=True)
    assert np.isfinite(logs).all() and positive.all()
    if family is CLOGLOG:  # by the integrand's maximum on a grid
        z = np.linspace(-30, 30, 600_001)
        for m, s, log in ((8.0, 0.1, logs[0]), (7.5, 0.2, logs[1])):
            exponents = -np.exp(m + s * z) - z**2 / 2
            expected = exponents.max() + np.log(np.exp(exponents - exponents.max()).sum() * 1e-4 / np.sqrt(2 * np.pi))
            assert log == pytest.approx(expected, abs=1e-9)


@BY_NAME
def test_logarithms_of_means_over_nodes(family):
    rng = np.random.default_rng(1)
    eta, weights = rng.normal(-1.0, 2.0, (6, 5)), rng.dirichlet(np.ones(5), 6)
    mean = np.sum(weights * links.probability(family.name, eta), axis=1)
    np.testing.assert_allclose(family.log_tails(eta, weights), np.log(np.minimum(mean, 1.0 - mean)), rtol=1e-10)
    assert np.isfinite(family.log_tails(np.full((1, 5), -800.0 if family is not PROBIT else -40.0), weights[:1])).all()


@BY_NAME
def test_derivatives_of_means(family):
    eta = np.array([-8.0, -2.0, -0.4, 0.0, 0.7, 2.0, 4.0])
    for v in (0.0, 0.04, 1.0, 9.0, 60.0):
        variance = np.full(eta.size, v)
        p, linked, first, second = family.mean_derivatives(eta, variance)
        exact = [_normal_mean(lambda t: links.probability(family.name, t), x, np.sqrt(v)) for x in eta]
        np.testing.assert_allclose(p, exact, atol=1e-10)
        inside = p < 1.0 - 1e-9
        np.testing.assert_allclose(family.mean(linked), p, rtol=1e-8)
        np.testing.assert_allclose(family.slope(p, linked)[inside],
                                   (family.mean(linked + 1e-5) - family.mean(linked - 1e-5))[inside] / 2e-5,
                                   rtol=1e-5, atol=1e-12)  # fmt: skip
        h = 1e-4
        up, down = (family.mean_derivatives(eta + step, variance)[0] for step in (h, -h))
        np.testing.assert_allclose(first, (up - down) / (2 * h), rtol=1e-5, atol=1e-9)
        if v:
            up, down = (family.mean_derivatives(eta, variance + step)[0] for step in (h, -h))
            np.testing.assert_allclose(0.5 * second, (up - down) / (2 * h), rtol=1e-4, atol=1e-8)


@BY_NAME
def test_means_of_scores_and_weights(family):
    rng = np.random.default_rng(2)
    m, s, y = rng.normal(-0.3, 1.5, 8), rng.uniform(0, 1.2, 8), rng.integers(0, 2, 8).astype(np.uint8)
    r, v = family.averaged(m, s, y)
    for k in range(8):
        for found, function in ((r[k], links.score), (v[k], links.weight)):
            exact = _normal_mean(lambda t, k=k, f=function: float(f(family.name, np.float64(t), y[k])), m[k], s[k])
            assert found == pytest.approx(exact, rel=1e-7, abs=1e-8)


@BY_NAME
def test_draws(family):
    random, eta = np.random.RandomState(0), np.full(40_000, -0.5)
    mean = links.probability(family.name, -0.5)
    assert family.draw(random, eta).mean() == pytest.approx(mean, abs=0.01)
    assert family.draw(random, eta[:4000], np.full(4000, 10)).mean() == pytest.approx(10 * mean, abs=0.1)


def test_ratios():
    names, coef, vcov = ["a", "b"], np.array([0.5, -1.0]), np.diag([0.04, 0.09])
    table = hazard_ratios(names, coef, vcov)
    assert list(table.columns) == ["hazard_ratio", "lower", "upper"]
    np.testing.assert_array_equal(table.to_numpy(), odds_ratios(names, coef, vcov).to_numpy())
    assert "hazard_ratio_upper" in wald_table(names, coef, vcov, ratio=CLOGLOG.ratio).columns
    assert list(wald_table(names, coef, vcov, ratio=PROBIT.ratio).columns)[-1] == "upper"
    LOGIT.check_ratio("odds ratio")
    CLOGLOG.check_ratio("hazard ratio")
    with pytest.raises(ValueError, match="no odds ratios with link='cloglog'.*hazard_ratios"):
        CLOGLOG.check_ratio("odds ratio")
    with pytest.raises(ValueError, match="no odds ratios with link='probit'.*average_marginal_effects"):
        PROBIT.check_ratio("odds ratio")
    with pytest.raises(ValueError, match="no hazard ratios with link='logit'.*odds_ratios"):
        LOGIT.check_ratio("hazard ratio")


def test_partition_on_each_latent_scale():
    random = pd.Series({"g": 0.5})
    for family, latent in ((LOGIT, np.pi**2 / 3), (PROBIT, 1.0), (CLOGLOG, np.pi**2 / 6)):
        partition = VariancePartition(0.3, random, family)
        assert partition.icc == pytest.approx(0.5 / (0.5 + latent))
        assert partition.r2.conditional == pytest.approx(0.8 / (0.8 + latent))
    median = np.exp(np.sqrt(2 * 0.5) * stats.norm.ppf(0.75))
    assert VariancePartition(0.3, random).median_odds_ratio["g"] == pytest.approx(median)
    assert VariancePartition(0.3, random, CLOGLOG).median_hazard_ratio["g"] == pytest.approx(median)
    with pytest.raises(ValueError, match="median_hazard_ratio"):
        VariancePartition(0.3, random, CLOGLOG).median_odds_ratio  # noqa: B018
    with pytest.raises(ValueError, match="icc"):
        VariancePartition(0.3, random, PROBIT).median_odds_ratio  # noqa: B018
