"""ICC, median odds ratio and R2: against performance and insight (R), and against their definitions."""

import json
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from reference_data import REFERENCE_DIR, model_data

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.design.row_moments import row_moments
from sklmm.design.units import EffectUnits
from sklmm.exceptions import NoGroupsWarning, SingularFitWarning

PARTITIONS = json.loads((REFERENCE_DIR / "inference.json").read_text())["variance_partition"]


def fit(name):
    data = model_data("contraception", name)
    model = MixedLogisticRegression(data.random_effects)
    return model.fit(data.X, data.y, groups=data.groups, sample_weight=data.sample_weight)


@pytest.mark.parametrize("name", [name for name in PARTITIONS if name.startswith("m_")])
def test_against_performance(name):
    model, expected = fit(name), PARTITIONS[name]
    assert model.icc_ == pytest.approx(expected["icc"], abs=1e-6)
    assert model.r2_.marginal == pytest.approx(expected["r2_marginal"], abs=1e-6)
    assert model.r2_.conditional == pytest.approx(expected["r2_conditional"], abs=1e-6)
    assert model.variance_partition_.fixed == pytest.approx(expected["fixed"], abs=1e-5)
    assert model.variance_partition_.random.sum() == pytest.approx(expected["random"], abs=1e-5)


def test_nothing_needs_the_rows():
    model = fit("m_slope_urban")
    again = pickle.loads(pickle.dumps(model))
    assert (again.icc_, again.r2_) == (model.icc_, model.r2_)
    assert again.icc_ == pytest.approx(float(again.variance_partition_.icc_by_factor["district"]), rel=1e-12)


def test_median_odds_ratio_is_the_median_over_pairs_of_groups():
    model = fit("m_01")
    b = np.sqrt(model.covariance_["district"].iloc[0, 0]) * np.random.default_rng(0).standard_normal((2, 400_000))
    ratios = np.exp(np.abs(b[0] - b[1]))
    assert model.median_odds_ratio_["district"] == pytest.approx(np.median(ratios), rel=3e-3)


def test_variance_zero():
    rng = np.random.default_rng(3)
    X, groups = rng.normal(size=(600, 2)), np.repeat(np.arange(30), 20)
    y = np.tile([0, 1], 300)  # half of each group: no variance between groups
    with pytest.warns(SingularFitWarning):
        model = MixedLogisticRegression().fit(X, y, groups=groups)
    assert model.icc_ == 0 and model.median_odds_ratio_["group"] == 1
    fixed = np.var(X @ model.coef_[0], ddof=1)
    assert model.r2_ == pytest.approx((fixed / (fixed + np.pi**2 / 3),) * 2, rel=1e-12)
    assert "1.000" in str(model.summary())


def test_without_groups():
    X = np.random.default_rng(0).normal(size=(100, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGroupsWarning)
        model = MixedLogisticRegression().fit(X, np.tile([0, 1], 50))
    assert model.icc_ == 0 and model.r2_.marginal == model.r2_.conditional
    assert "latent" not in str(model.summary())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_moments_in_chunks(dtype):
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(40_000, 3)) + [1e4, 0, 1]).astype(dtype)  # counted from far away: nothing may cancel
    weights = rng.integers(1, 4, len(X)).astype(float)
    slopes = np.array([0.5, -1.0, 2.0])
    def units(columns, center):
        q = len(columns)
        return EffectUnits(columns, np.array(center), np.full(q, 2.0), np.eye(q), np.eye(q))

    found = row_moments(X, slopes, [units([-1], [0.0]), units([-1, 0], [0.0, 1e4]), units([1], [0.0])], weights)
    rows = np.repeat(X.astype(np.float64), weights.astype(int), axis=0)
    assert found.fixed_variance == pytest.approx(np.var(rows @ slopes, ddof=1), rel=1e-9)
    Z = np.column_stack([np.ones(len(rows)), 2 * (rows[:, 0] - 1e4)])
    np.testing.assert_allclose(found.random_moments[0], 1.0)
    np.testing.assert_allclose(found.random_moments[1], Z.T @ Z / len(rows), rtol=1e-10)
    np.testing.assert_allclose(found.random_moments[2], 4 * np.mean(rows[:, 1] ** 2), rtol=1e-10)


def test_weights_count_rows():
    data = model_data("contraception", "m_slope_urban")
    weights = 1.0 + np.arange(len(data.y)) % 2
    repeated = np.repeat(np.arange(len(data.y)), weights.astype(int))
    model = MixedLogisticRegression(data.random_effects)
    counted = model.fit(data.X, data.y, groups=data.groups, sample_weight=weights).variance_partition_
    rows = model.fit(data.X.iloc[repeated], data.y.iloc[repeated], groups=data.groups.iloc[repeated])
    assert counted.fixed == pytest.approx(rows.variance_partition_.fixed, rel=1e-7)
    pd.testing.assert_series_equal(counted.random, rows.variance_partition_.random, rtol=1e-6)


def test_a_ratio_that_a_link_has_not_is_no_attribute():
    X, y, groups = make_clustered_classification(200, 1, n_groups=10, random_state=0)
    model = MixedLogisticRegression(link="probit").fit(X, y, groups=groups)
    assert "icc_" in dir(model) and not hasattr(model, "median_odds_ratio_")
    with pytest.raises(AttributeError, match="there is no median odds ratio with link='probit': see icc"):
        model.median_odds_ratio_  # noqa: B018
