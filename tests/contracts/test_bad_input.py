"""Bad input: errors that say what is wrong, where, and what to do; an earlier fit is kept."""

import copy
import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import ENTRIES, clinics, entries
from scipy import sparse
from sklearn.exceptions import NotFittedError

from sklmm.exceptions import AliasedFeaturesWarning, SklmmWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")


class Bad(NamedTuple):
    """What is wrong: changes to the arguments of fit (values, or functions of the good rows) and to the parameters."""

    message: str
    changes: dict
    parameters: dict = {}
    error: type = ValueError
    needs: str = "estimator"  # what an entry must be for this to be wrong


def _with(values, position, value):
    """A copy with another value at a position; of a table, in its first column."""
    if isinstance(values, pd.DataFrame):
        values = values.copy()
        values.iloc[position, 0] = value
    else:
        values = np.array(values, dtype=float)
        values[position] = value
    return values


def _lacking(name, value):
    kind = "NaN" if np.isnan(value) else "infinity"
    change = {"X": lambda d: _with(d.X, 3, value), "y": lambda d: _with(d.y, 3, value)}
    change["sample_weight"] = lambda d: _with(np.ones(300), 3, value)
    return Bad(f"Input {name} contains {kind}", {name: change[name]})


def _weights(weight, trouble, **needs):
    message = f"sample_weight counts rows, and these add up to .*; {trouble}"
    return Bad(message, {"sample_weight": np.full(300, weight)}, **needs)


DAYS = pd.date_range("2020", periods=300)
DATES = "column 'admitted' of X holds dates: make them numbers"
PRECISION = r"beyond 1e\+13, double precision"
TOO_FEW = "fewer than 0.001 are too few"
UNDERFLOW = "numbers so small underflow"
IN_X = {"groups": None}

BAD = {
    **{f"NaN in {name}": _lacking(name, np.nan) for name in ("X", "y", "sample_weight")},
    **{f"inf in {name}": _lacking(name, np.inf) for name in ("X", "y", "sample_weight")},
    "None in y": Bad(
        "Input y contains NaN: 1 label", {"y": np.array(["a", None, *["b"] * 298], dtype=object)}, needs="binary"
    ),
    "negative weights": Bad(
        "sample_weight counts rows and can't be negative; 1 of",
        {"sample_weight": lambda d: _with(np.ones(300), 3, -1.0)},
    ),
    "zero weights": Bad("sample_weight is zero for every row", {"sample_weight": np.zeros(300)}),
    **{f"weights of {weight:g}": _weights(weight, PRECISION) for weight in (1e11, 1e15, 1e100, 1e306, 1e308)},
    **{f"weights of {weight:g}": _weights(weight, TOO_FEW, needs="by_likelihood") for weight in (1e-6, 1e-10)},
    **{f"weights of {weight:g}": _weights(weight, UNDERFLOW) for weight in (1e-300, 1e-320)},
    "dates alone": Bad(DATES, {"X": pd.DataFrame({"admitted": DAYS})}),
    "dates": Bad(DATES, {"X": lambda d: d.X.assign(admitted=DAYS)}),
    "dates with a zone": Bad(DATES, {"X": lambda d: d.X.assign(admitted=DAYS.tz_localize("Europe/Berlin"))}),
    "dates with groups in X": Bad(
        DATES,
        {"X": lambda d: d.X.assign(g=d.groups, admitted=DAYS.tz_localize("UTC")), **IN_X},
        {"group_features": "g"},
    ),
    "dates of Python's": Bad(DATES, {"X": lambda d: d.X.assign(admitted=DAYS.date)}),
    "an array of dates": Bad("column 'x0' of X holds dates: make them", {"X": DAYS.to_numpy()[:, None]}),
    "an array of dates and numbers": Bad(
        "column 'x1' of X holds dates: make them", {"X": lambda d: np.column_stack([d.X["age"].astype(object), DAYS])}
    ),
    "lists of dates": Bad("column 'x0' of X holds dates", {"X": [[date] for date in DAYS.to_numpy()]}),
    "periods": Bad(DATES, {"X": lambda d: d.X.assign(admitted=DAYS.to_period("M"))}),
    "periods alone": Bad(DATES, {"X": pd.DataFrame({"admitted": DAYS.to_period("M")})}),
    "dates alone with a zone": Bad(DATES, {"X": pd.DataFrame({"admitted": DAYS.tz_localize("Europe/Berlin")})}),
    "lengths of time alone": Bad(
        r"column 'stay' of X holds lengths of time: make them numbers.* X\['stay'\] / pd.Timedelta",
        {"X": pd.DataFrame({"stay": pd.to_timedelta(np.arange(300), "h")})},
    ),
    "lengths of time": Bad(
        r"column 'stay' of X holds lengths of time: make them numbers.* X\['stay'\] / pd.Timedelta",
        {"X": lambda d: d.X.assign(stay=DAYS - DAYS[0])},
    ),
    "missing group labels": Bad(
        "factor 'clinic': 4 rows have a missing group label", {"groups": lambda d: d.groups.where(d.groups > 0, None)}
    ),
    **{
        f"missing group labels: {missing}": Bad(
            r"factor 'group': 3 rows have a missing group label \(first at row 4\); drop",
            {"groups": lambda d, missing=missing: _labels_without(d.groups, missing)},
        )
        for missing in (np.nan, None, pd.NaT)
    },
    "missing group labels in X": Bad(
        "factor 'g': 4 rows have a missing group label",
        {"X": lambda d: d.X.assign(g=d.groups.where(d.groups > 0)), **IN_X},
        {"group_features": "g"},
    ),
    "short y": Bad("y has 299 rows, but X has 300", {"y": lambda d: d.y[:-1]}),
    "short groups": Bad("groups has 299 rows, but X has 300", {"groups": lambda d: d.groups[:-1]}),
    "short weights": Bad("sample_weight has 299 rows, but X has 300", {"sample_weight": np.ones(299)}),
    "no y": Bad("requires y to be passed, but the target y is None", {"y": None}),
    "one class": Bad("y holds one class only", {"y": np.ones(300)}, needs="binary"),
    "one class with a weight": Bad(
        "y holds one class only", {"sample_weight": lambda d: (d.y == 1).astype(float)}, needs="binary"
    ),
    "three classes": Bad(
        r"Only binary classification is supported. The type of the target is multiclass.",
        {"y": np.arange(300) % 3},
        needs="binary",
    ),
    "a measurement as y": Bad("Unknown label type: continuous", {"y": lambda d: d.X["age"]}, needs="binary"),
    "two-column y": Bad("y should be a 1d array", {"y": lambda d: np.column_stack([d.y, d.y])}),
    "no rows": Bad(
        r"0 sample\(s\)",
        {name: lambda d, name=name: getattr(d, name)[:0] for name in ("X", "y", "groups", "time")},
    ),
    "no rows, groups in X": Bad(
        r"0 sample\(s\)",
        {"X": lambda d: d.X[["age"]][:0], "y": lambda d: d.y[:0], "time": lambda d: d.time[:0], **IN_X},
        {"group_features": 0},
    ),
    "one-dimensional X": Bad("Expected 2D array", {"X": lambda d: d.X["age"].to_numpy()}),
    "one-dimensional X with groups in it": Bad(
        "Expected 2D array", {"X": lambda d: d.X["age"].to_numpy(), **IN_X}, {"group_features": 0}
    ),
    "sparse X": Bad("[Ss]parse", {"X": lambda d: sparse.csr_array(d.X.to_numpy())}, error=TypeError),
    "sparse X with groups in it": Bad(
        "[Ss]parse", {"X": lambda d: sparse.csr_array(d.X.to_numpy()), **IN_X}, {"group_features": 0}, TypeError
    ),
    "text among the features": Bad("column 'urban' of X is not numeric", {"X": lambda d: d.X.assign(urban="Y")}),
    "text among the features beside groups": Bad(
        "column 'urban' of X is not numeric",
        {"X": lambda d: d.X.assign(urban="Y", g=d.groups), **IN_X},
        {"group_features": "g"},
    ),
    "nothing to fit": Bad("there is nothing to fit", {"X": np.empty((300, 0))}, {"fit_intercept": False}),
    "both doors": Bad("groups came through both doors", {}, {"group_features": "age"}),
    "unknown column in group_features": Bad(
        "group_features names 'clinik', which is no column of X", IN_X, {"group_features": "clinik"}
    ),
    "position out of range": Bad(
        "group_features asks for column 3 of X, which has 3 columns", IN_X, {"group_features": 3}
    ),
    "a column named twice": Bad("names a column twice", IN_X, {"group_features": ["age", 0]}),
    "group_features of a wrong type": Bad("group_features must be", IN_X, {"group_features": [1.5]}, TypeError),
    "missing values of a masked array": Bad(
        "X is a masked array, 1 of whose values are missing",
        {"X": lambda d: np.ma.masked_array(d.X, mask=np.arange(900).reshape(300, 3) == 5)},
    ),
    "missing values of a masked array with groups in it": Bad(
        "X is a masked array, 1 of whose values are missing",
        {"X": lambda d: np.ma.masked_array(d.X, mask=np.arange(900).reshape(300, 3) == 5), **IN_X},
        {"group_features": 1},
    ),
    "missing outcomes of a masked array": Bad(
        "y is a masked array, 1 of", {"y": lambda d: np.ma.masked_array(d.y, mask=np.arange(300) == 5)}
    ),
    "missing labels of a masked array": Bad(
        "4 rows have a missing group label", {"groups": lambda d: np.ma.masked_array(d.groups, mask=d.groups == 3)}
    ),
    "labels that have lost their last digits": Bad(
        r"floating-point numbers of 2\^53 .* give them as integers or text",
        {"groups": lambda d: (10**16 + d.groups).astype(float)},
    ),
    "labels that have lost their last digits beside missing ones": Bad(
        r"floating-point numbers of 2\^53 .* give them as integers or text",
        {"groups": lambda d: np.where(d.groups == 3, np.nan, 10**16 + d.groups)},
    ),
}


def _labels_without(labels, missing):
    labels = labels.to_numpy().astype(object)
    labels[[4, 9, 11]] = missing
    return labels


def _arguments(entry, rows, changes):
    arguments = {"X": rows.X, "y": rows.y, **entry.given(rows)}
    changes = {name: value for name, value in changes.items() if name != "time" or entry.takes_times}
    return arguments | {name: value(rows) if callable(value) else value for name, value in changes.items()}


@pytest.mark.parametrize(
    "entry, bad",
    [
        pytest.param(entry, bad, id=f"{entry}-{name}")
        for entry in ENTRIES
        for name, bad in BAD.items()
        if getattr(entry, bad.needs)
    ],
)
def test_bad_data(entry, bad):
    rows = clinics()
    model = entry.estimator(**entry.all_used | bad.parameters)
    with pytest.raises(bad.error, match=bad.message), warnings.catch_warnings():
        warnings.simplefilter("ignore", SklmmWarning)
        model.fit(**_arguments(entry, rows, bad.changes))
    with pytest.raises(NotFittedError):
        model.predict(rows.X)
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside numbers"])
def test_dates_of_polars(entry, beside):
    polars = pytest.importorskip("polars")
    rows = clinics()
    columns = {"admitted": DAYS.to_list()} | ({"age": rows.X["age"].to_list()} if beside else {})
    with pytest.raises(ValueError, match=DATES):
        entry.fit(rows._replace(X=polars.DataFrame(columns)), **entry.all_used)


@pytest.mark.parametrize(
    "parameter, value",
    [
        *[("tol", value) for value in (0, np.nan, "tight")],
        *[("max_iter", value) for value in (0, 2.5)],
        *[("n_threads", value) for value in (0, -1)],
        ("verbose", -1),
        ("fit_intercept", "yes"),
    ],
)
def test_bad_parameters(entry, parameter, value):
    with pytest.raises(ValueError, match=f"{parameter} must be"):
        entry.fit(clinics(), **{parameter: value})


def test_bad_input_of_predict(entry):
    rows = clinics()
    model = entry.fit(rows)
    for method in map(model.__getattribute__, entry.predicting):
        with pytest.raises(ValueError, match="feature names should match"):
            method(rows.X.rename(columns={"age": "years"}), groups=rows.groups)
        with pytest.raises(ValueError, match="X has 2 features"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no names, either
            method(rows.X.to_numpy()[:, :2], groups=rows.groups)
        with pytest.raises(ValueError, match="NaN"):
            method(_with(rows.X, 0, np.nan), groups=rows.groups)
    with pytest.raises(ValueError, match="feature names should match"):
        entry.by_columns().fit(rows.in_one_table().X, rows.y).predict(rows.X)


@entries(predicts_groups=True)
def test_bad_groups_of_predict(entry):
    rows = clinics()
    model, table = entry.fit(rows), rows.in_one_table().X
    with pytest.raises(ValueError, match="groups.*299"):
        model.predict(rows.X, groups=rows.groups[:-1])
    in_X = entry.by_columns().fit(table, rows.y)
    with pytest.raises(ValueError, match="both doors"):
        in_X.predict(table, groups=rows.groups)
    with pytest.raises(ValueError, match="both doors"):
        in_X.update_groups(table, rows.y, groups=rows.groups)
    large = 10**16 + rows.groups.to_numpy()
    model = entry.fit(rows._replace(groups=large))
    assert model.n_groups_ == {"group": 75}
    with pytest.raises(ValueError, match=r"floating-point numbers of 2\^53"):
        model.predict(rows.X, groups=large.astype(float))


# What a failed fit leaves ---------------------------------------------------------------------------------------------


REFITS = {  # each goes wrong after other things were read, which must not be left behind
    "X": {"X": lambda d: _with(d.X, 0, np.nan)},
    "X without names": {"X": lambda d: _with(d.X, 0, np.nan).to_numpy()[:, :2]},
    "y": {"X": lambda d: d.X[["age"]], "y": lambda d: np.r_[np.arange(299) % 3, np.nan]},
    "kind of y": {"X": lambda d: d.X[["age"]], "y": np.resize(["a", "b", "c"], 300)},  # text; and three classes
    "groups": {"X": lambda d: d.X.rename(columns={"age": "years"}), "groups": lambda d: d.groups[1:]},
    "names": {"X": lambda d: d.X.assign(more=1.0).set_axis(["a", 1, "c", "d"], axis=1)},
    "weights": {"X": lambda d: d.X.iloc[:, :1], "sample_weight": -np.ones(300)},
    "parameters": {"X": lambda d: d.X.to_numpy()},
}


@pytest.mark.parametrize("bad", REFITS)
def test_failed_refit_leaves_the_earlier_fit(entry, bad):
    rows = clinics()
    original = entry.fit(rows, **entry.all_used)
    model = copy.copy(original)
    before = entry.numbers(model)
    with pytest.raises((ValueError, TypeError)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if bad == "parameters":
            model.set_params(**entry.wrong_with_clinics)
        model.fit(**_arguments(entry, rows, REFITS[bad]))
    model.set_params(**{name: getattr(original, name) for name in entry.wrong_with_clinics})
    assert vars(model) == vars(original)
    for name, value in entry.numbers(model).items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(entry.predict(model, rows), entry.predict(original, rows))


def test_warning_turned_into_an_error_leaves_the_earlier_fit(entry):
    rows = clinics()
    model = entry.fit(rows)
    before = model.coef_
    with warnings.catch_warnings():
        warnings.simplefilter("error", SklmmWarning)
        with pytest.raises(AliasedFeaturesWarning):
            model.fit(rows.X.assign(c=1.0), rows.y, groups=rows.groups)
    assert model.coef_ is before
    assert model.n_features_in_ == 3
