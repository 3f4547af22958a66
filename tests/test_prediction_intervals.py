"""Intervals for probabilities of rows: the covariance of their errors, and how often they hold the truth."""

import numpy as np
import pytest
from brute_force import GroupPosterior
from scipy import optimize, stats
from scipy.special import expit, logit

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning

Z95 = 1.959963984540054


@pytest.fixture(scope="module")
def data():
    return make_clustered_classification(
        1500, 2, n_groups=30, coef=[0.8, -0.5], covariance=np.diag([1.0, 0.3, 0.2]), random_state=6
    )


def _sd(model, X, groups):
    """Standard deviation of the linear predictor that an interval stands for."""
    limits = logit(model.predict_interval(X, groups))
    return (limits[:, 1] - limits[:, 0]) / (2 * Z95)


def _exact(model, X, y, groups, row, step=1e-3):
    """Points and weights of the row's linear predictor over its group's posterior; and the variance that the errors of
    the fixed effects add, which move the posterior's mean, too."""
    (factor,) = model._fitted.factors
    own = groups == groups[row]
    Z = np.column_stack([np.ones(len(X)) if c < 0 else X[:, c] for c in factor.columns])
    design, beta = np.column_stack([np.ones(len(X)), X]), np.r_[model.intercept_, model.coef_[0]]

    def posterior(beta):
        return GroupPosterior(design[own] @ beta, Z[own], y[own], factor.covariance)

    moves = [posterior(beta + step * e).mean - posterior(beta - step * e).mean for e in np.eye(len(beta))]
    d = design[row] + np.array(moves) @ Z[row] / (2 * step)
    here = posterior(beta)
    return design[row] @ beta + here.effects @ Z[row], here.weight, d @ model.vcov_.to_numpy() @ d


def _quantiles(points, weights, variance):
    """0.025 and 0.975 of the points with independent normal errors."""

    def below(x):
        return weights @ stats.norm.cdf((x - points) / np.sqrt(variance))

    ends = points.min() - 1, points.max() + 1
    return [optimize.brentq(lambda x, level: below(x) - level, *ends, args=(level,)) for level in (0.025, 0.975)]


def test_quantiles_of_groups_with_random_slopes(data):
    """With every feature a random slope, too, the errors of the fixed effects are known exactly."""
    X, y, groups = data
    model = MixedLogisticRegression("1 + x0 + x1 | group").fit(X, y, groups=groups)
    intervals = logit(model.predict_interval(X, groups))
    for row in (0, 100, 501):
        points, weights, variance = _exact(model, X, y, groups, row)
        exact = _quantiles(points, weights, variance)
        np.testing.assert_allclose(intervals[row], exact, atol=0.02 * (exact[1] - exact[0]))


@pytest.mark.parametrize("sd", [1.0, 3.0])
def test_features_without_random_slopes(sd):
    """There the regressions over all groups stand in for each group's: close, where groups are alike. Groups of few
    rows are skewed, all the more where they have one outcome."""
    X, y, groups = make_clustered_classification(1200, 2, n_groups=100, covariance=sd**2, random_state=1)
    model = MixedLogisticRegression(n_quadrature=9).fit(X, y, groups=groups)
    intervals = logit(model.predict_interval(X, groups))
    alike = np.flatnonzero([y[groups == g].min() == y[groups == g].max() for g in groups])
    for row in [*range(0, 1200, 150), *alike[:2]]:
        points, weights, variance = _exact(model, X, y, groups, row)
        exact = _quantiles(points, weights, variance)
        np.testing.assert_allclose(intervals[row], exact, atol=0.04 * (exact[1] - exact[0]))


def test_unknown_groups(data):
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    design = np.column_stack([np.ones(len(X)), X])
    variance = model.covariance_["group"].iloc[0, 0] + np.einsum(
        "na,ab,nb->n", design, model.vcov_.to_numpy(), design
    )
    elsewhere = np.full(len(X), -1)
    np.testing.assert_allclose(_sd(model, X, elsewhere), np.sqrt(variance), rtol=1e-8)
    center = logit(model.predict_interval(X, elsewhere)).mean(axis=1)
    np.testing.assert_allclose(center, model.intercept_[0] + X @ model.coef_[0], atol=1e-8)
    with pytest.warns(NoGroupsWarning):
        np.testing.assert_allclose(model.predict_interval(X), model.predict_interval(X, elsewhere))


def test_without_random_effects_it_is_the_confidence_interval(data):
    X, y, _ = data
    with pytest.warns(NoGroupsWarning):
        model = MixedLogisticRegression().fit(X, y)
    design = np.column_stack([np.ones(len(X)), X])
    se = np.sqrt(np.einsum("na,ab,nb->n", design, model.vcov_.to_numpy(), design))
    eta = model.decision_function(X)
    np.testing.assert_allclose(
        model.predict_interval(X), expit(np.column_stack([eta - Z95 * se, eta + Z95 * se])), rtol=1e-10
    )


def test_levels(data):
    X, y, groups = data
    model = MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups)
    narrow, wide = (model.predict_interval(X, groups, level=level) for level in (0.5, 0.99))
    mode = model.predict_proba(X, groups=groups, predict_effects="mode")[:, 1]
    assert np.all(wide[:, 0] < narrow[:, 0]) and np.all(narrow[:, 0] < mode)
    assert np.all(mode < narrow[:, 1]) and np.all(narrow[:, 1] < wide[:, 1])
    with pytest.raises(ValueError, match="level must be between"):
        model.predict_interval(X, groups, level=95)


def test_coverage():
    """Intervals hold the true probability about as often as they say, in known and in unknown groups."""
    rng = np.random.default_rng(0)
    inside, total = np.zeros(2), 0
    for seed in range(40):
        X, y, groups, truth = make_clustered_classification(
            1600, 2, n_groups=80, coef=[0.8, -0.5], covariance=1.0, random_state=seed, return_truth=True
        )
        model = MixedLogisticRegression(n_quadrature=5).fit(X, y, groups=groups)
        rows = rng.choice(1600, 100, replace=False)
        true = truth.probabilities[rows]
        intervals = model.predict_interval(X[rows], groups[rows])
        inside[0] += np.sum((intervals[:, 0] < true) & (true < intervals[:, 1]))
        new = expit(X[rows] @ [0.8, -0.5] + rng.normal(size=100))
        intervals = model.predict_interval(X[rows], np.full(100, -1))
        inside[1] += np.sum((intervals[:, 0] < new) & (new < intervals[:, 1]))
        total += 100
    # 4,000 probabilities in 80 clusters a fit: standard errors of about 0.005
    assert np.all(inside / total > 0.93) and np.all(inside / total < 0.97)


def test_coverage_in_groups_of_few_rows():
    """Six rows a group that differ much: an interval at the conditional mode would hold 91 % of the probabilities."""
    rng = np.random.default_rng(0)
    inside, rounds, groups = 0, 12, np.repeat(np.arange(400), 6)
    for _ in range(rounds):
        effects = 3.0 * rng.normal(size=400)
        y = (rng.random(2400) < expit(-1 + effects[groups])).astype(int)
        model = MixedLogisticRegression(n_quadrature=15).fit(np.empty((2400, 0)), y, groups=groups)
        low, high = model.predict_interval(np.empty((400, 0)), np.arange(400)).T
        truth = expit(-1 + effects)
        inside += np.mean((low < truth) & (truth < high)) / rounds
    assert 0.935 < inside < 0.965  # 4,800 groups: a standard error of 0.004
