"""Times of the rows of a group: what they may be, what stands in for them, and how they enter working correlations."""

import re
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import GEE, TIMES, clinics
from dense_gee import make_problem
from gee_fits import STRUCTURES, assert_finite, assert_same, fit, fitted

from sklmm import GEELogisticRegression
from sklmm.estimating import Fixed, MDependent
from sklmm.exceptions import NoTimesWarning


@pytest.fixture(scope="module")
def data():
    return clinics()


# What stands for times ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", ["ar1", "m-dependent", "unstructured", "exchangeable", "independence"])
def test_order_stands_in_for_times_with_a_warning(data, correlation):
    X, y, groups, time = data
    expected = GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)
    model = GEELogisticRegression(correlation)
    if correlation in ("exchangeable", "independence"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(X, y, groups=groups)
    else:
        with pytest.warns(NoTimesWarning, match=re.escape(expected.correlation_name_) + ".*equally spaced in time"):
            model.fit(X, y, groups=groups)
    np.testing.assert_array_equal(model.coef_, expected.coef_)


def test_order_stands_in_for_times_of_groups_of_several_sizes(data):
    X, y, groups, time = data
    keep = np.random.default_rng(0).random(300) < 0.8
    position = groups[keep].groupby(groups[keep]).cumcount()
    for correlation in ("ar1", MDependent(2)):
        with pytest.warns(NoTimesWarning):
            model = GEELogisticRegression(correlation).fit(X[keep], y[keep], groups=groups[keep])
        expected = GEELogisticRegression(correlation).fit(X[keep], y[keep], groups=groups[keep], time=position)
        np.testing.assert_array_equal(model.coef_, expected.coef_)


def test_every_kind_of_time(data):
    """Whole numbers, dates (days), time differences (days), ordered categories, objects, pandas' own types."""
    X, y, groups, time = data
    start = pd.Timestamp("2020-02-27")
    dates = pd.Series(start + pd.to_timedelta(time, "D"))
    times = {
        "small integers": time.to_numpy().astype(np.int8),
        "unsigned": time.to_numpy().astype(np.uint16),
        "objects": time.to_numpy().astype(object),
        "a list": time.tolist(),
        "text": time.astype(str).to_numpy(),
        "pandas' integers": time.astype("Int64"),
        "categories": pd.Series(np.array(["a", "b", "c", "d"])[time]).astype(
            pd.CategoricalDtype(["a", "b", "c", "d"], ordered=True)
        ),
        "dates": dates,
        "dates as NumPy": dates.to_numpy(),
        "dates as objects": dates.astype(object),
        "dates with a zone": dates.dt.tz_localize("UTC"),
        "Python's dates": dates.dt.date,
        "periods": dates.dt.to_period("D"),
        "periods as objects": dates.dt.to_period("D").astype(object),
        "decimals": [Decimal(int(value)) for value in time],
        "differences": dates - start,
        "shifted": time - 17.0,
    }
    expected = GEELogisticRegression("ar1").fit(X, y, groups=groups, time=time)
    for name, given in times.items():
        model = GEELogisticRegression("ar1").fit(X, y, groups=groups, time=given)
        np.testing.assert_allclose(model.correlation_params_, expected.correlation_params_, rtol=1e-12, err_msg=name)
        in_X = GEELogisticRegression("ar1", time_feature="when").fit(X.assign(when=given), y, groups=groups)
        np.testing.assert_array_equal(in_X.correlation_params_, model.correlation_params_, err_msg=name)


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_irregular_real_times(data, ddof_correction):
    X, y, groups, time = data
    times = time + np.random.default_rng(3).random(300) * 0.9
    for correlation in ("ar1", "exchangeable", "independence"):
        model = GEELogisticRegression(correlation, ddof_correction=ddof_correction)
        if correlation == "ar1" and not ddof_correction:  # all pairs, by their lag on a grid
            times = times.round(3)
        model.fit(X, y, groups=groups, time=times)
        assert model.converged_
        assert_finite(model)


def test_unstructured_for_real_times_says_how_much_memory_it_takes():
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(20_000, 1)), rng.integers(0, 2, 20_000), np.arange(20_000) // 4
    message = r"unstructured working correlation over 20,000 distinct times needs 3\.2 GB for each.*round the times"
    with pytest.raises(ValueError, match=message):
        GEELogisticRegression("unstructured").fit(X, y, groups=groups, time=rng.random(20_000))


def test_huge_groups_say_how_much_memory_they_take():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20_000, 1)), rng.integers(0, 2, 20_000)
    with pytest.raises(ValueError, match=r"over 10,000 distinct times needs 0\.8 GB"):
        GEELogisticRegression("unstructured").fit(X, y, groups=np.arange(20_000) // 10_000)
    # Many patterns of times, each with a factor of its own.
    groups, time = np.repeat(np.arange(150), 1500), np.tile(np.arange(1500), 150)
    keep = rng.random(225_000) < 0.99
    X, y = rng.normal(size=(keep.sum(), 1)), rng.integers(0, 2, keep.sum())
    message = r"unstructured working correlation needs 2\.\d GB for the factors of 150 patterns of times .the largest"
    with pytest.raises(ValueError, match=message):
        GEELogisticRegression("unstructured").fit(X, y, groups=groups[keep], time=time[keep])


# How they enter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "unstructured", "2-dependent"])
def test_shifted_times(structure, ddof_correction):
    data, correlation, expected = GEE.rows, STRUCTURES[structure], fitted(structure, ddof_correction)
    for shift in (-3.0, 0.5, 2020.0, 1e6):
        assert_same(fit(correlation, data._replace(time=data.time + shift), ddof_correction=ddof_correction), expected)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("unit", [3.0, 0.25, 1 / 12, 86_400.0])
def test_unit_of_time(unit, ddof_correction):
    """The same correlation over the same time: alpha is that over one of the new units."""
    data = GEE.rows
    for structure in ("ar1", "unstructured", "2-dependent"):
        expected = fitted(structure, ddof_correction)
        found = fit(STRUCTURES[structure], data._replace(time=data.time * unit), ddof_correction=ddof_correction)
        if structure == "ar1":
            assert 0 < expected.correlation_params_[0] < 1
            found.correlation_params_ = found.correlation_params_**unit
        assert_same(found, expected, rtol=1e-7)


def test_relabelled_times():
    """To an unstructured or exchangeable correlation times are names: they may come in another order."""
    data = GEE.rows
    other = np.array([7.0, -1.0, 3.5, 100.0, 2.0])  # instead of 0, 1, 2, 4, 5
    renamed = data._replace(time=other[np.searchsorted(TIMES, data.time)])
    expected, found = fitted("exchangeable"), fit("exchangeable", renamed)
    np.testing.assert_array_equal(found.vcov_, expected.vcov_)
    expected, found = fitted("unstructured"), fit("unstructured", renamed)
    rank = np.argsort(other)
    np.testing.assert_array_equal(found.correlation_times_, other[rank])
    np.testing.assert_allclose(
        found.working_correlation_, expected.working_correlation_[np.ix_(rank, rank)], rtol=1e-9, atol=1e-10
    )
    found.correlation_params_ = expected.correlation_params_
    assert_same(found, expected)


def test_reversed_times():
    """Correlations do not know the arrow of time."""
    reversed_times = GEE.rows._replace(time=-GEE.rows.time)
    for structure in ("ar1", "2-dependent"):
        assert_same(fit(STRUCTURES[structure], reversed_times), fitted(structure))


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_autoregression_estimates_and_applies_the_same_times(ddof_correction):
    """Its parameter is estimated from times and applied to positions."""
    problem = make_problem(8, times=(0, 1, 7, 30), n_clusters=200, complete=True)
    model = fit("ar1", problem, ddof_correction=ddof_correction)
    alpha = model.correlation_params_[0]
    np.testing.assert_allclose(model.working_correlation_[0], alpha ** np.array([0, 1, 7, 30]), rtol=1e-12)
    # The coefficients solve the equations of that matrix.
    fixed = fit(Fixed(model.working_correlation_), problem, ddof_correction=ddof_correction)
    np.testing.assert_allclose(model.coef_, fixed.coef_, rtol=1e-8)
    by_position = fit("ar1", problem._replace(time=np.searchsorted([0, 1, 7, 30], problem.time)))
    assert abs(by_position.correlation_params_[0] - alpha) > 0.01
    assert np.abs(by_position.coef_ - model.coef_).max() > 1e-4


def test_warning_points_at_the_caller(data):
    X, y, groups, _ = data
    with pytest.warns(NoTimesWarning) as told:
        GEELogisticRegression("ar1").fit(X, y, groups=groups)
    assert told[0].filename == __file__
