"""Weights of rows and of groups in a marginal model, and weights that count next to nothing."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import COV_TYPES, GEE, clinics
from dense_gee import make_problem
from gee_fits import NAMES, STRUCTURES, assert_finite, assert_same, fit

from sklmm import GEELogisticRegression
from sklmm.exceptions import LightWeightsWarning


@pytest.fixture(scope="module")
def data():
    return clinics()


@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
def test_whole_weights_count_rows_of_few_groups(structure):
    """Where leverages are large, and tests use t."""
    problem = make_problem(19, n_clusters=12, complete=True)
    weights = problem.sample_weight.astype(int)
    found = GEELogisticRegression(structure).fit(
        problem.X, problem.y, groups=problem.groups, sample_weight=weights
    )
    rows = np.repeat(np.arange(len(problem.y)), weights)
    expected = GEELogisticRegression(structure).fit(problem.X[rows], problem.y[rows], groups=problem.groups[rows])
    assert_same(found, expected, rtol=1e-10)
    pd.testing.assert_frame_equal(found.conf_int(), expected.conf_int(), rtol=1e-9)


# Not exchangeable: there a weight repeats the row within its group, as the tests above say.
@pytest.mark.parametrize("structure", [name for name in STRUCTURES if name != "exchangeable"])
def test_weight_of_a_group_counts_the_group(structure):
    """Under structures by time: one weight for all of a group is the group as often, under labels of its own.

    Only robust covariances tell the group with a weight from several. (Not with geepack's definitions: its moments
    take a product of residuals as often as the product of the weights says.)
    """
    data, correlation = GEE.rows, STRUCTURES[structure]
    weights = np.random.default_rng(3).integers(1, 4, size=1000)[data.groups]
    found = GEELogisticRegression(correlation)
    found.fit(data.X, data.y, groups=data.groups, time=data.time, sample_weight=weights)
    rows = np.repeat(np.arange(len(data.y)), weights)
    labels = data.groups[rows] * 10 + np.concatenate([np.arange(weight) for weight in weights])
    expected = GEELogisticRegression(correlation)
    expected.fit(data.X[rows], data.y[rows], groups=labels, time=data.time[rows])
    assert expected.n_groups_["group"] > 1.5 * found.n_groups_["group"]
    robust = [f"vcov {cov_type}" for cov_type in COV_TYPES if cov_type != "naive"]
    assert_same(found, expected, leave_out=["qic_", "cic_", *robust])


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("structure", ["exchangeable", "unstructured"])
def test_weighted_correlation_does_not_know_the_labels_of_groups(structure, ddof_correction):
    """In statsmodels row weights are looked up by group: another order of labels gives another correlation."""
    data = GEE.rows
    weights = np.where(data.groups % 3 == 0, 4.0, 1.0)
    labels = np.random.default_rng(4).permutation(1000)
    fits = [
        GEELogisticRegression(structure, ddof_correction=ddof_correction).fit(
            data.X, data.y, groups=groups, time=data.time, sample_weight=weights
        )
        for groups in (data.groups, labels[data.groups])
    ]
    assert_same(*fits)
    unweighted = fit(structure, data, ddof_correction=ddof_correction)
    assert np.abs(unweighted.correlation_params_ - fits[0].correlation_params_).max() > 0.005


# Light weights --------------------------------------------------------------------------------------------------------


@cache
def _without_weights(structure):
    X, y, groups, time = clinics()
    return GEELogisticRegression(structure, ddof_correction=False).fit(X, y, groups=groups, time=time)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("structure", NAMES)
def test_weights_that_are_shares(data, structure, ddof_correction):
    """They sum to 1: no row to spare for a coefficient. Nothing becomes negative or NaN, and the fit says so."""
    X, y, groups, time = data
    model = GEELogisticRegression(structure, ddof_correction=ddof_correction)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.fit(X, y, groups=groups, time=time, sample_weight=np.full(300, 1 / 300))
    expected = [LightWeightsWarning] if ddof_correction else []
    assert [w.category for w in record] == expected
    assert model.n_obs_ == pytest.approx(1.0)
    assert_finite(model, [c for c in COV_TYPES if c != "morel"])
    with pytest.raises(ValueError, match="1 rows leave nothing for 4 coefficients"):
        model.vcov("morel")
    plain = _without_weights(structure)
    if structure != "exchangeable" or not ddof_correction:
        shares = GEELogisticRegression(structure, ddof_correction=False)
        shares.fit(X, y, groups=groups, time=time, sample_weight=np.full(300, 1 / 300))
        np.testing.assert_allclose(shares.coef_, plain.coef_, rtol=1e-8)
        np.testing.assert_allclose(shares.vcov_, plain.vcov_, rtol=1e-7)
        np.testing.assert_allclose(shares.correlation_params_, plain.correlation_params_, rtol=1e-7)


def test_groups_lighter_than_a_row_have_no_pairs(data):
    X, y, groups, time = data
    with pytest.warns(LightWeightsWarning, match="pairs.*Scale the weights to sum to the number of rows"):
        model = GEELogisticRegression().fit(X, y, groups=groups, sample_weight=np.full(300, 0.2))
    assert model.correlation_params_[0] == 0
    assert_finite(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, groups=groups, sample_weight=np.full(300, 0.9))


@pytest.mark.parametrize("weight", [1e-12, 1e-4, 1e4, 1e9])
@pytest.mark.parametrize("structure", NAMES)
def test_scale_of_geepacks_weights(data, structure, weight):
    """With geepack's definitions only naive covariances and the quasi-likelihood know the weights' scale."""
    X, y, groups, time = data
    plain = _without_weights(structure)
    scaled = GEELogisticRegression(structure, ddof_correction=False)
    scaled.fit(X, y, groups=groups, time=time, sample_weight=np.full(300, weight))
    assert scaled.converged_
    np.testing.assert_allclose(scaled.coef_, plain.coef_, rtol=1e-8)
    np.testing.assert_allclose(scaled.vcov_, plain.vcov_, rtol=1e-7)
    assert scaled.dispersion_ == pytest.approx(plain.dispersion_, rel=1e-9)


def test_warning_points_at_the_caller(data):
    X, y, groups, _ = data
    with pytest.warns(LightWeightsWarning) as told:
        GEELogisticRegression().fit(X, y, groups=groups, sample_weight=np.full(300, 0.001))
    assert told[0].filename == __file__
