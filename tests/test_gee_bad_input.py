"""Bad input that only marginal models know: times, working correlations, groups that are not one factor."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import clinics
from sklearn.exceptions import NotFittedError

from sklmm import GEELogisticRegression
from sklmm.estimating import AR1, Exchangeable, Fixed, MDependent, Unstructured, WorkingCorrelation
from sklmm.exceptions import SklmmWarning


@pytest.fixture(scope="module")
def data():
    return clinics()


def _with(values, position, value):
    values = np.array(values, dtype=object if isinstance(value, str) or value is None else float)
    values[position] = value
    return values


# Each case: parameters, changes to the arguments of fit (functions of X, y, g, t), error, message.
BAD = {
    "short times": ({}, {"time": lambda X, y, g, t: t[:-1]}, ValueError, "time has 299 rows, but X has 300"),
    "short times that are not used": (
        {"correlation": "exchangeable"},
        {"time": lambda X, y, g, t: t[:-1]},
        ValueError,
        "time has 299 rows, but X has 300",
    ),
    "times in two columns": (
        {},
        {"time": lambda X, y, g, t: np.column_stack([t, t])},
        ValueError,
        "should be a 1d array, got an array of shape",
    ),
    "times through both doors": ({"time_feature": "age"}, {}, ValueError, "times came through both doors"),
    "unknown column of times": (
        {"time_feature": "visitt"},
        {"time": None},
        ValueError,
        "time_feature names 'visitt', which is no column of X",
    ),
    "position of times out of range": (
        {"time_feature": 3},
        {"time": None},
        ValueError,
        "time_feature asks for column 3 of X, which has 3 columns",
    ),
    "two columns of times": (
        {"time_feature": ["age", "dose"]},
        {"time": None},
        ValueError,
        "time_feature must name one column of X, but .* names 2",
    ),
    "time_feature of a wrong type": (
        {"time_feature": 1.5},
        {"time": None},
        TypeError,
        "time_feature must be a column name, .*got 1.5",
    ),
    "one column as groups and times": (
        {"group_features": "age", "time_feature": "age"},
        {"groups": None, "time": None},
        ValueError,
        "column 'age' of X is named in group_features and in time_feature",
    ),
    "two grouping columns": (
        {},
        {"groups": lambda X, y, g, t: pd.DataFrame({"clinic": g, "rater": np.arange(300) % 7})},
        ValueError,
        "(?s)one grouping factor, the coarsest, but got 'clinic', 'rater'.*MixedLogisticRegression",
    ),
    "two grouping columns of X": (
        {"group_features": ["age", "dose"]},
        {"groups": None},
        ValueError,
        "one grouping factor, the coarsest, but got 'age', 'dose'",
    ),
    "one group": (
        {},
        {"groups": lambda X, y, g, t: np.full(300, "all"), "time": lambda X, y, g, t: np.arange(300)},
        ValueError,
        "group has one group only .'all'.*or cov_type='naive'",
    ),
    "one group with a weight": (
        {},
        {"sample_weight": lambda X, y, g, t: (g == g[np.argmax((y == 1) & (np.roll(y, 1) == 0))]).astype(float)},
        ValueError,
        "clinic has one group only",
    ),
    "duplicate times": (
        {},
        {"time": lambda X, y, g, t: t.where(t < 3, 2)},
        ValueError,
        r"75 rows share their group and time with another row \(first: group 0, time 2\)",
    ),
    "duplicate times of a group with a name": (
        {"correlation": "unstructured"},
        {"groups": lambda X, y, g, t: "c" + g.astype(str), "time": lambda X, y, g, t: np.where(g == 7, 0, t)},
        ValueError,
        r"3 rows share their group and time with another row \(first: group 'c7', time 0\)",
    ),
    "NaN in times": (
        {},
        {"time": lambda X, y, g, t: _with(t, 5, np.nan)},
        ValueError,
        r"time is missing \(NaN\) or infinite in 1 rows \(first: row 5\)",
    ),
    "inf in times": (
        {},
        {"time": lambda X, y, g, t: _with(t, 5, -np.inf)},
        ValueError,
        r"time is missing \(NaN\) or infinite in 1 rows \(first: row 5\)",
    ),
    "None in times": (
        {},
        {"time": lambda X, y, g, t: _with(t, [2, 9], None)},
        ValueError,
        r"time is missing \(NaN\) or infinite in 2 rows \(first: row 2\)",
    ),
    "a missing date": (
        {},
        {"time": lambda X, y, g, t: pd.Series(pd.to_datetime("2020-01-01") + pd.to_timedelta(t, "D")).where(t < 3)},
        ValueError,
        r"time is missing \(NaN\) or infinite in 75 rows",
    ),
    "words for times": (
        {},
        {"time": lambda X, y, g, t: _with(t, 5, "later")},
        ValueError,
        "time must hold numbers or dates .*'later'",
    ),
    "words for times in X": (
        {"time_feature": "when"},
        {"X": lambda X, y, g, t: X.assign(when="later"), "time": None},
        ValueError,
        "time must hold numbers or dates .*'later'",
    ),
    "complex times": (
        {},
        {"time": lambda X, y, g, t: t.to_numpy() + 1j},
        ValueError,
        "time must hold numbers or dates, not complex",
    ),
    "unstructured, groups of several sizes, no times": (
        {"correlation": "unstructured"},
        {"sample_weight": lambda X, y, g, t: np.where(np.arange(300) == 4, 0.0, 1.0), "time": None},
        ValueError,
        "the unstructured working correlation needs times: the groups have between 3 and 4 rows",
    ),
    "fixed, groups of several sizes, no times": (
        {"correlation": Fixed(np.eye(4))},
        {"sample_weight": lambda X, y, g, t: np.where(np.arange(300) == 4, 0.0, 1.0), "time": None},
        ValueError,
        "the fixed working correlation needs times",
    ),
    "fixed matrix that is too small": (
        {"correlation": Fixed(np.eye(3))},
        {},
        ValueError,
        "the fixed correlation matrix has 3 rows, but the data have 4 times",
    ),
    "fixed matrix without a time": (
        {"correlation": Fixed(np.eye(4), times=[0, 1, 2, 4])},
        {},
        ValueError,
        r"the fixed correlation matrix has no row \(or several\) for the times \[.*3.*\]",
    ),
    "fixed matrix with a time twice": (
        {"correlation": Fixed(np.eye(5), times=[0, 1, 2, 3, 3])},
        {},
        ValueError,
        r"the fixed correlation matrix has no row \(or several\) for the times \[.*3.*\]",
    ),
    "times on no grid": (
        {"correlation": "m-dependent"},
        {"time": lambda X, y, g, t: t + np.sqrt(np.arange(300)) / 40},
        ValueError,
        "the times lie on no regular grid, which lags are counted on",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data(data, case):
    parameters, changes, error, message = BAD[case]
    X, y, groups, time = data
    arguments = {"X": X, "y": y, "groups": groups, "time": time}
    for name, change in changes.items():
        arguments[name] = change if change is None else change(*data)
    model = GEELogisticRegression(**{"correlation": "ar1", **parameters})
    with pytest.raises(error, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore", SklmmWarning)
        model.fit(**arguments)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert not [name for name in vars(model) if name.endswith("_")]


BAD_PARAMETERS = [
    ("correlation", "exchangable", "correlation must be one of 'independence', 'exchangeable'.*got 'exchangable'"),
    ("correlation", "AR1", "correlation must be one of .*'ar1'.*got 'AR1'"),
    ("correlation", "fixed", r"correlation='fixed' needs its matrix.*Fixed\(matrix, times\)"),
    ("correlation", None, "correlation must be a name, a matrix or a WorkingCorrelation; got None"),
    ("correlation", 0.3, "correlation must be a name, a matrix or a WorkingCorrelation; got 0.3"),
    ("correlation", AR1, r"correlation must be an instance: write AR1\(\)"),
    ("correlation", [[1.0, 0.5], [0.4, 1.0]], "the fixed correlation matrix is not symmetric"),
    ("correlation", np.eye(2) * 2, "the diagonal of the fixed correlation matrix must be 1"),
    ("correlation", np.ones((2, 2)), "the fixed correlation matrix is not positive definite: its smallest eigenvalue"),
    ("correlation", [[1.0, np.nan], [np.nan, 1.0]], "the fixed correlation matrix holds values that are not finite"),
    ("correlation", np.eye(3)[:2], r"must be a square matrix, got an array of shape \(2, 3\)"),
    ("correlation", ["ar1"], "a fixed correlation must be a square matrix"),
    ("cov_type", "HC3", "cov_type must be one of 'robust', 'naive', 'kauermann-carroll'.*got 'HC3'"),
    ("cov_type", None, "cov_type must be one of"),
    ("dispersion", "pearson", "dispersion must be 'estimate' or a number > 0, got 'pearson'"),
    ("dispersion", 0, "dispersion must be 'estimate' or a number > 0"),
    ("dispersion", -1.0, "dispersion must be 'estimate' or a number > 0"),
    ("dispersion", np.nan, "dispersion must be 'estimate' or a number > 0"),
    ("dispersion", np.inf, "dispersion must be 'estimate' or a number > 0"),
    ("dispersion", True, "dispersion must be 'estimate' or a number > 0"),
    ("dispersion", None, "dispersion must be 'estimate' or a number > 0"),
    ("ddof_correction", 1, "ddof_correction must be True or False, got 1"),
    ("ddof_correction", "yes", "ddof_correction must be True or False"),
]


@pytest.mark.parametrize("parameter, value, message", BAD_PARAMETERS)
def test_bad_parameters(data, parameter, value, message):
    X, y, groups, time = data
    model = GEELogisticRegression(**{parameter: value})
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, groups=groups, time=time)


def test_the_other_structures_named_by_their_classes(data):
    X, y, groups, time = data
    for name, correlation in (("exchangeable", Exchangeable()), ("unstructured", Unstructured())):
        named, given = (GEELogisticRegression(c).fit(X, y, groups=groups, time=time) for c in (name, correlation))
        np.testing.assert_array_equal(named.vcov_, given.vcov_)


def test_matrices_are_fixed_structures(data):
    """A list, an array, and a DataFrame whose index are the times, in any order."""
    X, y, groups, time = data
    R = 0.4 ** np.sqrt(np.abs(np.subtract.outer(range(4), range(4))))
    expected = GEELogisticRegression(Fixed(R)).fit(X, y, groups=groups, time=time)
    order = [2, 0, 3, 1]
    frame = pd.DataFrame(R[np.ix_(order, order)], index=order, columns=order)
    for correlation in (R, R.tolist(), frame, Fixed(R, times=[0, 1, 2, 3])):
        model = GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-12)
        np.testing.assert_array_equal(model.working_correlation_, R)
        assert model.correlation_params_.size == 0
    with pytest.raises(ValueError, match="the times of a fixed correlation matrix must be numbers"):
        Fixed(frame.rename(index={0: "first"}))
    with pytest.raises(ValueError, match="the fixed correlation matrix has 4 rows, but there are 3 times"):
        Fixed(R, times=[0, 1, 2])
    with pytest.raises(ValueError, match="m must be an integer >= 1"):
        MDependent(0)


def test_wrong_cov_type_after_the_fit(data):
    X, y, groups, time = data
    model = GEELogisticRegression().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="cov_type must be one of"):
        model.vcov("HC1")


def test_predictions_do_not_know_groups_and_times(data):
    X, y, groups, time = data
    model = GEELogisticRegression("ar1", group_features="clinic", time_feature="visit")
    model.fit(X.assign(clinic=groups, visit=time), y)
    missing = X.assign(clinic=None, visit=np.nan)
    np.testing.assert_array_equal(model.predict(missing), model.predict(X.assign(clinic=groups, visit=time)))


class Nothing(WorkingCorrelation):
    """A structure whose estimate is none."""

    def estimate(self, moments):
        return np.nan

    def matrix(self, alpha, times):
        return np.eye(4)


def _with_indicator_of_a_group(rows):
    """Of one that has both classes: it decides a coefficient alone, and a correction divides by 0."""
    shares = np.bincount(rows.groups, weights=rows.y) / np.bincount(rows.groups)
    return rows.X.assign(own=(rows.groups == np.flatnonzero(shares == 0.5)[0]).astype(float))


BAD_REFITS = {  # the last two go wrong half-way through the fit, and at its end
    "time": dict(time=lambda d: np.zeros(300)),
    "correlation": dict(correlation=Nothing()),
    "covariance": dict(X=_with_indicator_of_a_group, cov_type="mancl-derouen"),
}


@pytest.mark.parametrize("bad", BAD_REFITS)
def test_failed_refit_leaves_the_earlier_fit(data, bad):
    X, y, groups, time = data
    original = GEELogisticRegression("ar1").fit(X, y, groups=groups, time=time)
    model = copy.copy(original)
    changes = BAD_REFITS[bad]
    parameters = {name: value for name, value in changes.items() if not callable(value)}
    arguments = {"X": X, "y": y, "groups": groups, "time": time}
    arguments |= {name: value(data) for name, value in changes.items() if callable(value)}
    with pytest.raises((ValueError, TypeError)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(**parameters).fit(**arguments)
    model.set_params(correlation="ar1", cov_type="robust")
    assert vars(model) == vars(original)
    np.testing.assert_array_equal(model.vcov_, original.vcov_)
    np.testing.assert_array_equal(model.predict_proba(X), original.predict_proba(X))
