"""Simulated outcomes: their moments, and who shares what."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        600, 2, n_groups=20, coef=[1.0, -0.5], covariance=[[2.0, 0.5], [0.5, 0.5]], random_state=4
    )
    return X, np.where(y == 1, "yes", "no"), groups


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    return MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups)


def _share(outcomes):
    return (outcomes == "yes").mean(axis=0)


@pytest.mark.parametrize("effects", ["marginal", "posterior", "mode", "zero"])
def test_shares_are_the_predicted_probabilities(data, model, effects):
    X, _, groups = data
    n = 4000
    outcomes = model.simulate(X[:40], groups[:40], n, random_state=0, predict_effects=effects)
    assert outcomes.shape == (n, 40) and set(np.unique(outcomes)) == {"no", "yes"}
    p = model.predict_proba(X[:40], groups=groups[:40], predict_effects=effects)[:, 1]
    z = (_share(outcomes) - p) / np.sqrt(p * (1 - p) / n)
    # 40 correlated normal numbers, whose largest stays below 4.5 with a probability of 0.9997
    assert np.abs(z).max() < 4.5


def test_rows_of_a_group_share_its_effects(data, model):
    X, _, _ = data
    x, n = np.array([[0.7, 0.2]]), 8000
    same = model.simulate(np.repeat(x, 2, axis=0), [1, 1], n, random_state=1) == "yes"
    apart = model.simulate(np.repeat(x, 2, axis=0), [1, 2], n, random_state=1) == "yes"
    unlabelled = model.simulate(np.repeat(x, 2, axis=0), [None, None], n, random_state=1) == "yes"
    # P(both) of the model: the mean of expit^2 over the linear predictor's distribution
    z = np.array([1.0, 0.7])
    sd = np.sqrt(z @ model.covariance_["group"].to_numpy() @ z)
    eta = model.intercept_[0] + x[0] @ model.coef_[0]
    nodes = np.linspace(-8, 8, 4001)
    weights = np.exp(-(nodes**2) / 2) / np.exp(-(nodes**2) / 2).sum()
    both, one = (weights @ expit(eta + sd * nodes) ** k for k in (2, 1))
    assert np.mean(same.all(axis=1)) == pytest.approx(both, abs=4 * np.sqrt(both * (1 - both) / n))
    for pairs in (apart, unlabelled):
        assert np.mean(pairs.all(axis=1)) == pytest.approx(one**2, abs=4 * np.sqrt(one**2 * (1 - one**2) / n))
    assert both - one**2 > 0.03  # what the two bounds above tell apart


def test_unknown_groups_are_drawn_from_the_population(data, model):
    x = np.repeat([[0.7, 0.2]], 2, axis=0)
    outcomes = model.simulate(x, [999, 0], 8000, random_state=2, predict_effects="posterior")
    p = model.predict_proba(x, groups=[999, 0], predict_effects="posterior")[:, 1]
    np.testing.assert_allclose(_share(outcomes), p, atol=4 * np.sqrt(0.25 / 8000))


def test_seeds(data, model):
    X, _, groups = data
    first, second, third = (model.simulate(X, groups, 3, random_state=s) for s in (7, 7, 8))
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()
    # what a simulation draws does not depend on how many there are
    np.testing.assert_array_equal(first[:1], model.simulate(X, groups, 1, random_state=7))


def test_refits_find_the_truth(data, model):
    X, _, _ = data
    many, groups = np.tile(X, (20, 1)), np.arange(12_000) // 12
    y = model.simulate(many, groups, random_state=3)[0]
    again = MixedLogisticRegression("1 + x0 | group").fit(many, y, groups=groups)
    error = np.r_[again.intercept_ - model.intercept_, again.coef_[0] - model.coef_[0]]
    assert np.all(np.abs(error) < 4 * np.sqrt(np.diag(again.vcov_)))
    np.testing.assert_allclose(again.covariance_["group"], model.covariance_["group"], rtol=0.25, atol=0.1)


def test_without_groups(data, model):
    X, y, groups = data
    with pytest.warns(NoGroupsWarning, match="got none"):
        assert model.simulate(X[:5]).shape == (1, 5)
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    assert plain.simulate(X, n=2).shape == (2, 600)


def test_formula(data):
    pytest.importorskip("formulaic")
    X, y, groups = data
    frame = pd.DataFrame({"dose": X[:, 0], "clinic": groups, "well": y})
    model = MixedLogisticRegression.from_formula("well ~ dose + (1 | clinic)", frame)
    arrays = MixedLogisticRegression().fit(X[:, :1], y, groups=groups)
    np.testing.assert_array_equal(
        model.simulate(frame, n=2, random_state=0), arrays.simulate(X[:, :1], groups, 2, random_state=0)
    )


def test_bad_input(data, model):
    X, _, groups = data
    for n in (0, 1.5, True):
        with pytest.raises(ValueError, match="n must be an integer"):
            model.simulate(X, groups, n)
    with pytest.raises(ValueError, match="predict_effects must be one of"):
        model.simulate(X, groups, predict_effects="new")


def test_without_groups_the_warning_says_what_is_done(data, model):
    with pytest.warns(NoGroupsWarning, match="every row is simulated as a group of its own"):
        model.simulate(data[0], random_state=0)
