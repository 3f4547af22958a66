"""Intervals for probabilities of rows: the covariance of their errors, and how often they hold the truth."""

import numpy as np
import pytest
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


def _modes(model, X, y, groups, beta):
    factor = model._factors[0]
    design = FactorDesign(groups, len(factor.levels), factor.columns, factor.blocks)
    result = posterior_modes(X, y.astype(np.uint8), factors=[design], beta=beta, theta=model._theta)
    return result[0][0]


def test_errors_of_groups_and_fixed_effects_are_correlated(data):
    """With every feature a random slope, too, the variance is the exact one: modes move with the fixed effects."""
    X, y, groups = data
    model = MixedLogisticRegression("1 + x0 + x1 | group").fit(X, y, groups=groups)
    beta, step = np.r_[model.intercept_, model.coef_[0]], 1e-4
    moves = np.stack(
        [
            (_modes(model, X, y, groups, beta + step * e) - _modes(model, X, y, groups, beta - step * e)) / (2 * step)
            for e in np.eye(3)
        ],
        axis=2,
    )
    z = np.column_stack([np.ones(len(X)), X])
    d = z + np.einsum("na,nab->nb", z, moves[groups])
    variance = np.einsum("na,nab,nb->n", z, model._factors[0].mode_cov[groups], z)
    variance += np.einsum("na,ab,nb->n", d, model.vcov_.to_numpy(), d)
    np.testing.assert_allclose(_sd(model, X, groups), np.sqrt(variance), rtol=1e-4)


def test_features_without_random_slopes(data):
    """There the regressions over all groups stand in for each group's: close, where groups are alike."""
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    beta, step = np.r_[model.intercept_, model.coef_[0]], 1e-4
    moves = np.stack(
        [
            (_modes(model, X, y, groups, beta + step * e) - _modes(model, X, y, groups, beta - step * e)) / (2 * step)
            for e in np.eye(3)
        ],
        axis=2,
    )
    design = np.column_stack([np.ones(len(X)), X])
    d = design + moves[groups][:, 0, :]
    exact = model._factors[0].mode_cov[groups, 0, 0] + np.einsum("na,ab,nb->n", d, model.vcov_.to_numpy(), d)
    ignoring = model._factors[0].mode_cov[groups, 0, 0] + np.einsum(
        "na,ab,nb->n", design, model.vcov_.to_numpy(), design
    )
    ratio = _sd(model, X, groups) / np.sqrt(exact)
    apart = np.abs(ratio - 1).max()
    assert abs(ratio.mean() - 1) < 0.005 and apart < 0.05
    # leaving the correlation out would err by more in any row than this does in its worst
    assert np.sqrt(ignoring / exact).min() - 1 > apart


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
