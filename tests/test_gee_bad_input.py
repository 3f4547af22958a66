"""Bad input to GEELogisticRegression: errors that name the culprit, warnings with finite results, earlier fits kept."""

import copy
import re
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

from sklmm import GEELogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.estimating import AR1, Exchangeable, Fixed, MDependent, Unstructured, WorkingCorrelation
from sklmm.exceptions import (
    AliasedFeaturesWarning,
    ConvergenceWarning,
    FewClustersWarning,
    LightWeightsWarning,
    NoGroupsWarning,
    NoTimesWarning,
    SeparationWarning,
    SklmmWarning,
    WorkingCorrelationWarning,
)

STRUCTURES = ("independence", "exchangeable", "ar1", "unstructured", "m-dependent")
COV_TYPES = ("robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel")
SEPARATED = "the classes are separated by"


@pytest.fixture(scope="module")
def data():
    """75 clinics that were seen at the times 0, 1, 2, 3."""
    X, y, groups = make_clustered_classification(
        300, 3, n_groups=75, covariance=1.0, size_variation=0.0, random_state=2
    )
    time = pd.Series(groups).groupby(groups).cumcount().rename("visit")
    assert (np.bincount(groups) == 4).all()
    return pd.DataFrame(X, columns=["age", "dose", "b"]), y, pd.Series(groups, name="clinic"), time


def assert_finite(model, cov_types=COV_TYPES):
    """Everything that a fit gives is a finite number, whatever it warned of."""
    numbers = [model.coef_, model.intercept_, model.correlation_params_, model.working_correlation_]
    numbers += [model.dispersion_, model.quasi_likelihood_, model.qic_, model.qicu_, model.cic_]
    numbers += [model.vcov(cov_type).to_numpy() for cov_type in cov_types]
    assert all(np.isfinite(number).all() for number in numbers)
    assert model.dispersion_ > 0
    assert np.linalg.eigvalsh(model.working_correlation_)[0] > 0
    assert np.abs(model.coef_).max(initial=0.0) < 1e4


def _with(values, position, value):
    values = np.array(values, dtype=object if isinstance(value, str) or value is None else float)
    values[position] = value
    return values


def _frame_with(X, value):
    X = X.copy()
    X.iloc[3, 0] = value
    return X


# Each case: parameters, changes to the arguments of fit (functions of X, y, g, t), error, message.
BAD = {
    "NaN in X": ({}, {"X": lambda X, y, g, t: _frame_with(X, np.nan)}, ValueError, "Input X contains NaN"),
    "inf in X": ({}, {"X": lambda X, y, g, t: _frame_with(X, np.inf)}, ValueError, "Input X contains infinity"),
    "NaN in y": ({}, {"y": lambda X, y, g, t: _with(y, 3, np.nan)}, ValueError, "Input y contains NaN"),
    "negative weights": (
        {},
        {"sample_weight": lambda X, y, g, t: _with(np.ones(300), 3, -1.0)},
        ValueError,
        "sample_weight counts rows and can't be negative; 1 of",
    ),
    "NaN in weights": (
        {},
        {"sample_weight": lambda X, y, g, t: _with(np.ones(300), 3, np.nan)},
        ValueError,
        "Input sample_weight contains NaN",
    ),
    "dates": (
        {},
        {"X": lambda X, y, g, t: X.assign(admitted=pd.date_range("2020", periods=300))},
        ValueError,
        "column 'admitted' of X holds dates",
    ),
    "zero weights": (
        {},
        {"sample_weight": lambda X, y, g, t: np.zeros(300)},
        ValueError,
        "sample_weight is zero for every row",
    ),
    "short weights": (
        {},
        {"sample_weight": lambda X, y, g, t: np.ones(299)},
        ValueError,
        "sample_weight has 299 rows, but X has 300",
    ),
    "short y": ({}, {"y": lambda X, y, g, t: y[:-1]}, ValueError, "y has 299 rows, but X has 300"),
    "short groups": ({}, {"groups": lambda X, y, g, t: g[:-1]}, ValueError, "groups has 299 rows, but X has 300"),
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
    "missing group labels": (
        {},
        {"groups": lambda X, y, g, t: g.where(g > 0, None)},
        ValueError,
        "factor 'clinic': 4 rows have a missing group label",
    ),
    "one class": ({}, {"y": lambda X, y, g, t: np.ones(300)}, ValueError, "y holds one class only"),
    "one class with a weight": (
        {},
        {"sample_weight": lambda X, y, g, t: (y == 1).astype(float)},
        ValueError,
        "y holds one class only",
    ),
    "three classes": (
        {},
        {"y": lambda X, y, g, t: np.arange(300) % 3},
        ValueError,
        r"Only binary classification is supported. The type of the target is multiclass.",
    ),
    "a measurement as y": ({}, {"y": lambda X, y, g, t: X["age"]}, ValueError, "Unknown label type: continuous"),
    "no rows": (
        {},
        {
            "X": lambda X, y, g, t: X[:0],
            "y": lambda X, y, g, t: y[:0],
            "groups": lambda X, y, g, t: g[:0],
            "time": lambda X, y, g, t: t[:0],
        },
        ValueError,
        r"0 sample\(s\)",
    ),
    "sparse X": ({}, {"X": lambda X, y, g, t: sparse.csr_array(X.to_numpy())}, TypeError, "[Ss]parse"),
    "text among the features": (
        {},
        {"X": lambda X, y, g, t: X.assign(urban="Y")},
        ValueError,
        "column 'urban' of X is not numeric",
    ),
    "groups through both doors": ({"group_features": "age"}, {}, ValueError, "groups came through both doors"),
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
    "no features and no intercept": (
        {"fit_intercept": False},
        {"X": lambda X, y, g, t: np.empty((300, 0))},
        ValueError,
        "there is nothing to fit",
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
    ("tol", 0, "tol must be"),
    ("tol", np.nan, "tol must be"),
    ("max_iter", 0, "max_iter must be"),
    ("max_iter", 2.5, "max_iter must be"),
    ("n_threads", 0, "n_threads must be"),
    ("verbose", -1, "verbose must be"),
    ("fit_intercept", "yes", "fit_intercept must be"),
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


def test_bad_input_of_predict(data):
    X, y, groups, time = data
    model = GEELogisticRegression().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_proba(X.rename(columns={"age": "years"}))
    with pytest.raises(ValueError, match="X has 2 features"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no names, either
        model.predict_proba(X.to_numpy()[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        model.predict_proba(_frame_with(X, np.nan))
    in_X = GEELogisticRegression("ar1", group_features="clinic", time_feature="visit")
    in_X.fit(X.assign(clinic=groups, visit=time), y)
    with pytest.raises(ValueError, match="feature names should match"):
        in_X.predict_proba(X)
    missing = X.assign(clinic=None, visit=np.nan)  # neither enters the prediction
    np.testing.assert_array_equal(in_X.predict(missing), in_X.predict(X.assign(clinic=groups, visit=time)))


# Structures of one's own that do not keep to the contract ---------------------------------------------------


class _Custom(WorkingCorrelation):
    def __init__(self, alpha=0.2, R=None):
        self.alpha, self.R = alpha, R

    def estimate(self, moments):
        return self.alpha

    def matrix(self, alpha, times):
        return np.eye(4) if self.R is None else self.R


ESTIMATES = (np.nan, [0.1, np.inf], None, "much", np.zeros((2, 2)))
MATRICES = {
    "another shape": np.eye(3),
    "a vector": np.ones(4),
    "asymmetric": np.eye(4) + 0.1 * np.eye(4, k=1),
    "a covariance": 2 * np.eye(4),
    "NaN": np.where(np.eye(4), 1.0, np.nan),
    "inf": np.where(np.eye(4), 1.0, np.inf),
    "nothing": None,
    "words": "AR(1)",
}


@pytest.mark.parametrize("alpha", ESTIMATES, ids=str)
def test_estimate_that_gives_garbage(data, alpha):
    X, y, groups, time = data
    if alpha is None:
        alpha = [None]
    with pytest.raises(ValueError, match="estimate must give a 1-D array of finite parameters, got"):
        GEELogisticRegression(_Custom(alpha)).fit(X, y, groups=groups, time=time)


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_that_is_garbage(data, name):
    X, y, groups, time = data
    correlation = _Custom()
    correlation.matrix = lambda alpha, times: MATRICES[name]
    with pytest.raises(ValueError, match=r"matrix must give a symmetric matrix of shape \(4, 4\) with ones on its"):
        GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)


def test_matrix_that_is_not_positive_definite_whatever_its_parameters(data):
    X, y, groups, time = data
    with pytest.raises(ValueError, match=r"is not positive definite.*shrink\(alpha, 0.\d+\) did not mend it"):
        GEELogisticRegression(_Custom(R=np.where(np.eye(4), 1, -0.9))).fit(X, y, groups=groups, time=time)


def test_incomplete_structures(data):
    X, y, groups, time = data

    class Nothing(WorkingCorrelation):
        pass

    class Nonsense(_Custom):
        moments = "triples"

    class Quack:
        def estimate(self, moments): ...

        def matrix(self, alpha, times): ...

    for correlation, error, message in (
        (Nothing(), NotImplementedError, r"Nothing must define estimate\(moments\)"),
        (Nonsense(), ValueError, "Nonsense.moments must be one of None, 'pairs', .*got 'triples'"),
        (Quack(), ValueError, "must derive from sklmm.estimating.WorkingCorrelation"),
    ):
        with pytest.raises(error, match=message):
            GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)


# Times ------------------------------------------------------------------------------------------------------


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


# Working correlations out of range --------------------------------------------------------------------------


def _opposites(n_groups, size, seed=0):
    """Groups of which just half of the rows are ones, and a feature of the group: residuals of a group sum to 0."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([rng.permutation(np.arange(size) % 2) for _ in range(n_groups)])
    groups, time = np.repeat(np.arange(n_groups), size), np.tile(np.arange(size), n_groups)
    return rng.normal(size=(n_groups, 1))[groups], y, groups, time


def _fit_out_of_range(correlation, X, y, groups, time, match, **parameters):
    model = GEELogisticRegression(correlation, **parameters)
    with pytest.warns(WorkingCorrelationWarning, match=match):
        model.fit(X, y, groups=groups, time=time)
    assert_finite(model)
    return model


@pytest.mark.parametrize("size, low", [(2, "-1"), (4, r"-0\.3333"), (6, r"-0\.2")])
def test_exchangeable_below_its_range(size, low):
    message = f"exchangeable working correlation.*estimated as -.* must lie between {low} and 1, .*positive definite"
    model = _fit_out_of_range("exchangeable", *_opposites(100, size), message, ddof_correction=False)
    alpha = -1 / (size - 1)
    assert alpha < model.correlation_params_[0] < 0.99 * alpha


def test_exchangeable_above_its_range():
    """Every group all zeros or all ones; the leverage of the coefficients lifts the estimate over 1."""
    rng = np.random.default_rng(1)
    y = np.repeat(rng.permutation(np.arange(40) % 2), 3)
    X, groups = rng.normal(size=(120, 4)), np.repeat(np.arange(40), 3)
    model = _fit_out_of_range("exchangeable", X, y, groups, None, r"must lie between -0\.5 and 1, ")
    assert 0.99 < model.correlation_params_[0] < 1


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_ar1_at_both_ends(ddof_correction):
    X, _, groups, time = _opposites(60, 4)
    start = np.random.default_rng(0).permutation(np.arange(60) % 2)
    swinging, constant = (np.repeat(start, 4) + time) % 2, np.repeat(start, 4)
    # residuals as they are, or divided by a mean square that the coefficients made smaller, reach the ends
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkingCorrelationWarning)
        low, high = (
            GEELogisticRegression("ar1", ddof_correction=ddof_correction).fit(X, y, groups=groups, time=time)
            for y in (swinging, constant)
        )
    assert -1 < low.correlation_params_[0] < -0.98
    assert 0.98 < high.correlation_params_[0] < 1
    assert_finite(low)
    assert_finite(high)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("unit", [2, 0.5, 30])
def test_ar1_cannot_be_negative_for_every_times(unit, ddof_correction):
    """alpha^gap of a negative alpha: positive for even gaps, undefined for gaps that are not whole."""
    X, y, groups, time = _opposites(100, 2)
    message = r"AR\(1\).*estimated as -.* must lie between 0 and 1, since distances in time .*; 0 is used"
    model = _fit_out_of_range("ar1", X, y, groups, unit * time, message, ddof_correction=ddof_correction)
    independence = GEELogisticRegression("independence").fit(X, y, groups=groups)
    np.testing.assert_allclose(model.coef_, independence.coef_, rtol=1e-9)


def _conflict():
    """Times 0 and 1 agree, so do 1 and 2, but 0 and 2 are opposites: in pairs; a few groups have all three."""
    rng = np.random.default_rng(5)
    y, groups, time = [], [], []
    for i in range(330):
        first = rng.integers(2)
        at = [(0, 1), (1, 2), (0, 2)][i % 3] if i < 300 else (0, 1, 2)
        swap = rng.random() < 0.05
        values = [first, (1 - first if at == (0, 2) else first) ^ swap, first][: len(at)]
        y += values
        groups += [i] * len(at)
        time += at
    y, groups, time = map(np.array, (y, groups, time))
    return rng.normal(size=(y.size, 2)), y, groups, time


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_unstructured_that_is_not_positive_definite(ddof_correction):
    message = r"unstructured.*smallest eigenvalue -0\.\d+, which must be above 0\.001\); the correlations are multipl"
    _fit_out_of_range("unstructured", *_conflict(), message, ddof_correction=ddof_correction)


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_m_dependent_that_is_not_positive_definite(ddof_correction):
    """A correlation near 1 with the next row and none with the one after next cannot be, for five rows."""
    rng = np.random.default_rng(0)
    y = np.repeat(rng.permutation(np.arange(60) % 2), 5)
    X, groups, time = rng.normal(size=(300, 1)), np.repeat(np.arange(60), 5), np.tile(np.arange(5), 60)
    message = "m-dependent.*smallest eigenvalue -.*; the correlations are multiplied by 0"
    model = _fit_out_of_range("m-dependent", X, y, groups, time, message, ddof_correction=ddof_correction)
    assert 0.5 < model.correlation_params_[0] < 1 / (2 * np.cos(np.pi / 6))


@pytest.mark.parametrize("structure", ["unstructured", "m-dependent"])
def test_matrix_that_is_singular_but_for_rounding_error(structure):
    """Rows that are opposites: a Cholesky factorisation may succeed, on noise."""
    message = "smallest eigenvalue .*, which must be above 0.001"
    model = _fit_out_of_range(structure, *_opposites(100, 2), message, ddof_correction=False)
    assert np.linalg.eigvalsh(model.working_correlation_)[0] == pytest.approx(1e-3)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("seed", range(6))
def test_small_odd_data_end_in_finite_numbers(structure, seed):
    """A dozen groups with strong effects, where equations have no solution as often as not: warnings, not NaN."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, 12)
    groups = np.repeat(np.arange(12), sizes)
    time = np.concatenate([np.sort(rng.choice(6, size, replace=False)) for size in sizes])
    X = (rng.normal(size=(len(groups), 3)) > 0).astype(float)
    y = (3 * X[:, 0] + 3 * rng.normal(size=12)[groups] - 1.5 + rng.logistic(size=len(groups)) > 0).astype(int)
    model = GEELogisticRegression(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (SklmmWarning))
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(X, y, groups=groups, time=time)
        assert np.isfinite(model.coef_).all() and np.abs(model.coef_).max() < 1e3
        assert np.isfinite(model.vcov_).all(axis=None)
        assert np.isfinite([model.dispersion_, model.qic_, model.cic_, *model.correlation_params_]).all()
        str(model.summary())
    assert isinstance(model.fit_report_.verdict, str)


# Few groups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "independence"])
def test_one_group_has_a_naive_covariance(data, structure):
    X, y, groups, time = data
    model = GEELogisticRegression(structure, cov_type="naive")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, groups=np.zeros(300), time=np.arange(300))
    assert model.n_groups_ == {"group": 1}
    assert np.isfinite(model.vcov_).all(axis=None)
    assert (np.diag(model.vcov_) > 0).all()


@pytest.mark.parametrize("n_groups", [2, 3, 4])
def test_fewer_groups_than_coefficients(data, n_groups):
    X, y, groups, time = data
    coarse = groups % n_groups
    model = GEELogisticRegression()
    with pytest.warns(FewClustersWarning, match=f"there are {n_groups} groups for 4 coefficients"):
        model.fit(X, y, groups=coarse)
    assert np.isfinite(model.coef_).all()
    assert model.df_resid_ == n_groups - 4
    table = model.summary().coefficients
    assert table["p_value"].isna().all()
    assert np.isfinite(table["std_error"]).all()
    assert np.isnan(model.conf_int()).all(axis=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GEELogisticRegression(cov_type="naive").fit(X, y, groups=coarse)
    # One more group than coefficients is a degree of freedom.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, groups=groups % 5)
    assert model.df_resid_ == 1
    assert np.isfinite(model.conf_int()).all(axis=None)


def _indicator_of_a_group(y, groups):
    """Of one that has both classes."""
    shares = np.bincount(groups, weights=y) / np.bincount(groups)
    return (groups == np.flatnonzero(shares == 0.5)[0]).astype(float)


def test_group_that_decides_a_coefficient_alone(data):
    """The corrections that divide by 1 - leverage do not exist; the error says so, after the fit or before its end."""
    X, y, groups, time = data
    X = X.assign(own=_indicator_of_a_group(y, groups))
    model = GEELogisticRegression("independence").fit(X, y, groups=groups)
    for cov_type in ("kauermann-carroll", "mancl-derouen"):
        with pytest.raises(ValueError, match="a cluster has a leverage of 1.*use cov_type='fay-graubard'"):
            model.vcov(cov_type)
        with pytest.raises(ValueError, match="a cluster has a leverage of 1"):
            GEELogisticRegression("independence", cov_type=cov_type).fit(X, y, groups=groups)
    for cov_type in ("robust", "naive", "fay-graubard", "morel"):
        assert np.isfinite(model.vcov(cov_type)).all(axis=None)


# Separation -------------------------------------------------------------------------------------------------


def _large(n, seed=0):
    """Groups of 5; three features, of which the first one matters."""
    rng = np.random.default_rng(seed)
    groups, X = np.arange(n) // 5, rng.normal(size=(n, 3))
    eta = X[:, 0] + rng.normal(size=n // 5)[groups]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame(X, columns=["age", "dose", "rare"]), y, groups


def _assert_separated(model, X, y, groups, names):
    time = np.arange(len(y)) % 5
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(X, y, groups=groups, time=time)
        str(model.summary())
        model.conf_int()
    assert [w.category for w in record] == [SeparationWarning]
    assert str(record[0].message).startswith(f"{SEPARATED} {names}:")
    assert model.converged_
    assert "no maximum" in model.fit_report_.verdict
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    assert np.isfinite([model.dispersion_, model.qic_, model.cic_, *model.correlation_params_]).all()
    assert np.isfinite(model.working_correlation_).all()
    assert np.isfinite(model.vcov("robust")).all(axis=None)
    assert np.isfinite(model.predict_proba(X)).all()


SIZES = (300, 15_000, 210_000)  # all rows at once; climbing samples of blocks; without going on to rounding error


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize("n", SIZES)
def test_complete_separation(n, structure):
    X, _, groups = _large(n)
    y = (X["dose"] > 0.3).astype(int)
    model = GEELogisticRegression(structure)
    _assert_separated(model, X, y, groups, "'dose'")
    assert model.score(X, y) == 1.0
    assert model.quasi_likelihood_ == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize("n", SIZES)
def test_rare_category_without_a_zero(n, structure):
    """Quasi-complete separation, which most rows know nothing of; nor does a sample of blocks where it is rare."""
    X, y, groups = _large(n)
    X["rare"] = 0.0
    rows = np.random.default_rng(1).choice(n, max(4, n // 5_000), replace=False)
    X.loc[rows, "rare"] = 1.0
    y[rows] = 1
    model = GEELogisticRegression(structure)
    _assert_separated(model, X, y, groups, "'rare'")
    assert 8 < model.coef_[0, 2] < 40
    others = X["rare"] == 0  # which the category's rows do not touch
    rest = GEELogisticRegression("independence").fit(X.loc[others, ["age", "dose"]], y[others], groups=groups[others])
    np.testing.assert_allclose(model.coef_[0, :2], rest.coef_[0], rtol=1e-4)


@pytest.mark.parametrize("n", SIZES)
def test_indicator_of_one_row(n):
    X, y, groups = _large(n)
    X["rare"] = (np.arange(n) == 7).astype(float)
    _assert_separated(GEELogisticRegression(), X, y, groups, "'rare'")


@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
@pytest.mark.parametrize("n", [15_000, 210_000])
def test_column_that_samples_of_blocks_do_not_have_is_no_separation(n, structure):
    X, y, groups = _large(n)
    X["rare"] = 0.0
    X.loc[n // 2 : n // 2 + 250, "rare"] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GEELogisticRegression(structure).fit(X, y, groups=groups)
        exact = GEELogisticRegression(structure, tol=1e-10).fit(X, y, groups=groups)
    error = (model.coef_ - exact.coef_)[0] / np.sqrt(np.diag(exact.vcov_))[1:]
    assert np.abs(error).max() < 1e-4


def test_separation_by_two_columns_together(data):
    X, _, groups, time = data
    y = (X["dose"] + X["age"] > 0).astype(int)
    _assert_separated(GEELogisticRegression(), X, y, groups, "'age', 'dose'")


@pytest.mark.parametrize("seed", [49, 54, 63])
def test_equations_without_a_solution(seed):
    """No separation, but no root of the equations either (looked for from 40 starts): it stops near, and says so."""
    rng = np.random.default_rng(seed)
    X, groups, time = rng.normal(size=(60, 2)), np.arange(60) // 3, np.arange(60) % 3
    y = (2 * X[:, 0] + rng.logistic(size=60) > 0).astype(int)
    model = GEELogisticRegression(Fixed(np.where(np.eye(3), 1.0, 0.95)))
    message = "no step led nearer to a solution of the estimating equations"
    with pytest.warns(ConvergenceWarning, match=message) as record:
        model.fit(X, y, groups=groups, time=time)
    assert [w.category for w in record] == [ConvergenceWarning]
    assert not model.converged_
    assert_finite(model)
    independence = GEELogisticRegression("independence").fit(X, y, groups=groups)
    assert np.abs(model.coef_ - independence.coef_).max() < 3


# Weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("structure", STRUCTURES)
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
    plain = GEELogisticRegression(structure, ddof_correction=False).fit(X, y, groups=groups, time=time)
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
@pytest.mark.parametrize("structure", STRUCTURES)
def test_scale_of_geepacks_weights(data, structure, weight):
    """With geepack's definitions only naive covariances and the quasi-likelihood know the weights' scale."""
    X, y, groups, time = data
    plain = GEELogisticRegression(structure, ddof_correction=False).fit(X, y, groups=groups, time=time)
    scaled = GEELogisticRegression(structure, ddof_correction=False)
    scaled.fit(X, y, groups=groups, time=time, sample_weight=np.full(300, weight))
    assert scaled.converged_
    np.testing.assert_allclose(scaled.coef_, plain.coef_, rtol=1e-8)
    np.testing.assert_allclose(scaled.vcov_, plain.vcov_, rtol=1e-7)
    assert scaled.dispersion_ == pytest.approx(plain.dispersion_, rel=1e-9)


# Columns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", STRUCTURES)
def test_constant_and_collinear_columns(data, structure):
    X, y, groups, time = data
    more = X.assign(same=2.5, total=X["age"] + 2 * X["dose"])
    model = GEELogisticRegression(structure)
    with pytest.warns(AliasedFeaturesWarning, match="constant: 'same'; collinear with other columns: 'total'"):
        model.fit(more, y, groups=groups, time=time)
    clean = GEELogisticRegression(structure).fit(X, y, groups=groups, time=time)
    np.testing.assert_allclose(model.coef_[0, :3], clean.coef_[0], rtol=1e-7)
    np.testing.assert_array_equal(model.coef_[0, 3:], 0)
    np.testing.assert_allclose(model.correlation_params_, clean.correlation_params_, rtol=1e-7)
    assert model.dispersion_ == pytest.approx(clean.dispersion_, rel=1e-9)
    assert model.qic_ == pytest.approx(clean.qic_, rel=1e-9)
    assert model.qicu_ == pytest.approx(clean.qicu_, rel=1e-9)
    for cov_type in COV_TYPES:
        vcov = model.vcov(cov_type)
        assert list(vcov.columns[np.isnan(np.diag(vcov))]) == ["same", "total"]
        np.testing.assert_allclose(vcov.iloc[:4, :4], clean.vcov(cov_type), rtol=1e-6)


def test_no_features(data):
    """Groups alone: the log odds of the share, with a standard error that knows the groups."""
    _, y, groups, time = data
    share = y.mean()
    given = GEELogisticRegression("independence").fit(np.empty((300, 0)), y, groups=groups)
    in_X = GEELogisticRegression("independence", group_features="clinic").fit(pd.DataFrame({"clinic": groups}), y)
    for model in (given, in_X):
        assert model.intercept_[0] == pytest.approx(np.log(share / (1 - share)), rel=1e-12)
        assert model.coef_.shape == (1, 0)
        sums = np.bincount(groups, weights=y - share)
        variance = (sums @ sums) / (300 * share * (1 - share)) ** 2
        assert model.vcov_.iloc[0, 0] == pytest.approx(variance, rel=1e-10)
    model = GEELogisticRegression().fit(np.empty((300, 0)), y, groups=groups)
    assert_finite(model)
    assert model.predict_proba(np.empty((2, 0))).shape == (2, 2)
    empty = GEELogisticRegression().fit(pd.DataFrame(index=range(300)), y, groups=groups)
    np.testing.assert_array_equal(empty.intercept_, model.intercept_)
    with pytest.raises(ValueError, match="0 feature"):
        GEELogisticRegression().fit(np.empty((300, 0)), y)


def test_no_groups_is_plain_logistic_regression_and_says_so(data):
    X, y, groups, time = data
    with pytest.warns(NoGroupsWarning, match="every row is one of its own") as record:
        model = GEELogisticRegression().fit(X, y)
    assert [w.category for w in record] == [NoGroupsWarning]
    assert model.n_groups_ == {}
    assert model.cluster_sizes_ == (1, 1)
    np.testing.assert_array_equal(model.working_correlation_, [[1.0]])


# Labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "low, high", [(1, 2), (-1, 1), (0.0, 1.0), (False, True), ("no", "yes"), (7, 3000000000)]
)
def test_any_two_labels(data, low, high):
    X, y, groups, time = data
    expected = GEELogisticRegression().fit(X, y, groups=groups)
    for dtype in (None, object) if isinstance(low, str) else (None,):
        model = GEELogisticRegression().fit(X, np.array([low, high], dtype=dtype)[y], groups=groups)
        assert model.classes_.tolist() == [low, high]
        np.testing.assert_array_equal(model.coef_, expected.coef_)
        np.testing.assert_array_equal(model.vcov_, expected.vcov_)
        assert set(model.predict(X).tolist()) <= {low, high}


# Fits and what they leave -----------------------------------------------------------------------------------


def test_too_few_iterations(data):
    X, y, groups, time = data
    for max_iter in (1, 3, 6):
        model = GEELogisticRegression("ar1", max_iter=max_iter)
        with pytest.warns(ConvergenceWarning, match="did not converge: stopped after .* raise max_iter"):
            model.fit(X, y, groups=groups, time=time)
        assert not model.converged_
        assert_finite(model)
    X, y, groups = _large(210_000)
    for max_iter in (1, 3, 6):
        model = GEELogisticRegression(max_iter=max_iter)
        with pytest.warns(ConvergenceWarning, match="raise max_iter"):
            model.fit(X, y, groups=groups)
        assert_finite(model)


BAD_REFITS = {
    "X": dict(X=lambda d: _frame_with(d[0], np.nan)),
    "another X": dict(X=lambda d: d[0][["age"]], y=lambda d: np.arange(300) % 3),
    "groups": dict(groups=lambda d: d[2][1:]),
    "time": dict(time=lambda d: np.zeros(300)),
    "weights": dict(sample_weight=lambda d: -np.ones(300)),
    "correlation": dict(correlation=_Custom(np.nan)),
    "covariance": dict(X=lambda d: d[0].assign(own=_indicator_of_a_group(d[1], d[2])), cov_type="mancl-derouen"),
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


def test_warning_turned_into_an_error_leaves_the_earlier_fit(data):
    X, y, groups, time = data
    model = GEELogisticRegression().fit(X, y, groups=groups)
    before = model.coef_
    with warnings.catch_warnings():
        warnings.simplefilter("error", SklmmWarning)
        with pytest.raises(AliasedFeaturesWarning):
            model.fit(X.assign(c=1.0), y, groups=groups)
    assert model.coef_ is before
    assert model.n_features_in_ == 3


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_fit_does_not_touch_its_input(data, structure, order):
    X, y, groups, time = data
    rows = np.random.default_rng(0).permutation(300)
    given = [np.array(X.to_numpy()[rows], order=order), y[rows], groups.to_numpy()[rows], np.full(300, 2.0)]
    given.append(time.to_numpy()[rows].astype(float))
    before = [array.copy() for array in given]
    for array in given:
        array.flags.writeable = False
    correlation = MDependent(2) if structure == "m-dependent" else structure
    model = GEELogisticRegression(correlation).fit(*given[:3], sample_weight=given[3], time=given[4])
    model.predict_proba(given[0])
    for array, copied in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copied)
    frame = X.assign(clinic=groups, visit=time)
    expected = frame.copy(deep=True)
    GEELogisticRegression(correlation, group_features="clinic", time_feature="visit").fit(frame, y)
    pd.testing.assert_frame_equal(frame, expected)


def test_warnings_point_at_the_caller(data):
    X, y, groups, time = data
    with pytest.warns(NoGroupsWarning) as no_groups:
        GEELogisticRegression().fit(X, y)
    with pytest.warns(NoTimesWarning) as no_times:
        GEELogisticRegression("ar1").fit(X, y, groups=groups)
    with pytest.warns(AliasedFeaturesWarning) as aliased:
        GEELogisticRegression().fit(X.assign(c=0.0), y, groups=groups)
    with pytest.warns(FewClustersWarning) as few:
        GEELogisticRegression().fit(X, y, groups=groups % 2)
    with pytest.warns(WorkingCorrelationWarning) as out_of_range:
        GEELogisticRegression().fit(*_opposites(100, 2)[:3])
    with pytest.warns(LightWeightsWarning) as light:
        GEELogisticRegression().fit(X, y, groups=groups, sample_weight=np.full(300, 0.001))
    with pytest.warns(ConvergenceWarning) as unfinished:
        GEELogisticRegression(max_iter=2).fit(X, y, groups=groups)
    with pytest.warns(SeparationWarning) as separated:
        GEELogisticRegression().fit(X, (X["age"] > 0).astype(int), groups=groups)
    for record in (no_groups, no_times, aliased, few, out_of_range, light, unfinished, separated):
        assert record[0].filename == __file__
