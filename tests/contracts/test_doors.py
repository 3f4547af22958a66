"""Groups and times come through one of two doors, as arguments or as columns of X, in whatever tables hold them."""

import datetime

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import assert_same, clinics, coefficients
from sklearn.compose import make_column_selector
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")


@pytest.fixture(scope="module")
def rows():
    """Rows of arrays, with labels from 0 without gaps."""
    given = clinics()
    return given._replace(X=given.X.to_numpy(), groups=given.groups.to_numpy(), time=given.time.to_numpy())


@pytest.fixture(scope="module")
def by_arguments(rows):
    """For each entry the fit that others are compared with."""
    fits = {}

    def fit(entry):
        if entry not in fits:
            fits[entry] = entry.fit(rows, **entry.all_used)
        return fits[entry]

    return fit


KINDS = {
    "array": lambda g: g,
    "series": lambda g: pd.Series(g, name="group"),
    "categorical": lambda g: pd.Series(g, name="group").astype("category"),
    "more categories": lambda g: pd.Categorical(g, categories=np.arange(90, -1, -1)),
    "string": lambda g: pd.Series([f"{label:03d}" for label in g], name="group", dtype="string"),
    "pandas' integers": lambda g: pd.Series(g, name="group", dtype="Int64"),
    "frame": lambda g: pd.DataFrame({"group": g}),
    "list": lambda g: [f"{label:03d}" for label in g],
    "objects": lambda g: g.astype(object),
    "float": lambda g: g.astype(float),
    "uint8": lambda g: g.astype(np.uint8),
    "above 2^53": lambda g: 10**16 + g,
    "dates": lambda g: np.datetime64("2020-01-01") + g,
    "Python's dates": lambda g: [datetime.date(2024, 1, 1) + datetime.timedelta(int(label)) for label in g],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_labels(entry, rows, by_arguments, kind):
    labels = KINDS[kind]
    model = entry.fit(rows._replace(groups=labels(rows.groups)), **entry.all_used)
    assert model.n_groups_ == {"group": 75}
    expected = by_arguments(entry)
    np.testing.assert_allclose(coefficients(model), coefficients(expected), rtol=1e-9)
    found = entry.predictions(model, rows.X[:40], groups=labels(rows.groups[:40]))
    np.testing.assert_allclose(found, entry.predict(expected, rows)[:40], rtol=1e-9)


@pytest.mark.parametrize("position", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float", "object"])
def test_columns_of_an_array(entry, rows, by_arguments, position, dtype):
    labels = rows.groups if dtype == "float" else np.array([f"g{label:02d}" for label in rows.groups], dtype=object)
    X = np.insert(rows.X.astype(dtype), position, labels, axis=1)
    times = {}
    if entry.takes_times:
        X, times = np.column_stack([X, rows.time]).astype(dtype), {"time_feature": -1}
    model = entry.estimator(group_features=position, **times, **entry.all_used).fit(X, rows.y)
    in_old_order = sorted(set(labels))
    expected = by_arguments(entry)
    assert_same(entry, model, expected, groups=in_old_order)
    assert model.n_features_in_ == X.shape[1]
    assert model.coef_.shape == ((1, 3) if entry.binary else (3,))
    names = [f"x{j}" for j in range(4) if j != position]
    assert model.vcov_.index.tolist() == ["intercept", *names]
    np.testing.assert_allclose(entry.predictions(model, X), entry.predict(expected, rows), rtol=1e-9)


WAYS = {
    "name": "g",
    "names": ["g"],
    "position": 1,
    "position from the end": None,
    "tuple": ("g",),
    "selector": make_column_selector(pattern="^g$"),
    "function": lambda X: "g",
    "array": np.array(["g"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_name_the_column(entry, rows, by_arguments, way):
    X = pd.DataFrame({"x0": rows.X[:, 0], "g": rows.groups, "x1": rows.X[:, 1], "x2": rows.X[:, 2], "t": rows.time})
    X = entry.table(X)
    spec = [1 - X.shape[1]] if way == "position from the end" else WAYS[way]
    model = entry.by_columns(**entry.all_used).set_params(group_features=spec).fit(X, rows.y)
    assert_same(entry, model, by_arguments(entry))
    assert model.feature_names_in_.tolist() == list(X)
    assert model.n_features_in_ == X.shape[1]
    assert list(model.n_groups_) == ["g"]


def test_polars(entry, rows, by_arguments):
    polars = pytest.importorskip("polars")
    columns = {"x0": rows.X[:, 0], "g": rows.groups.astype(str), "x1": rows.X[:, 1], "x2": rows.X[:, 2]}
    frame = polars.DataFrame(columns | ({"t": rows.time} if entry.takes_times else {}))
    if not hasattr(StandardScaler().fit(frame.drop("g")), "feature_names_in_"):
        pytest.skip("this scikit-learn does not know the columns of this polars")
    expected = by_arguments(entry)
    model = entry.by_columns(**entry.all_used).fit(frame, polars.Series(rows.y))
    features = frame.select(["x0", "x1", "x2"])
    apart = entry.estimator(**entry.all_used).fit(features, rows.y, **entry.given(frame_of(frame, rows)))
    for found, X, given in ((model, frame, {}), (apart, features, {"groups": frame["g"]})):
        np.testing.assert_allclose(coefficients(found), coefficients(expected), rtol=1e-9)
        np.testing.assert_allclose(entry.predictions(found, X, **given), entry.predict(expected, rows), rtol=1e-9)


def frame_of(frame, rows):
    """Groups and times as columns of polars."""
    return rows._replace(groups=frame["g"], time=frame["t"] if "t" in frame.columns else None)


def test_frame_of_several_types(entry, rows):
    """Integers, truth values, pandas' own numbers and floats side by side are numbers; labels are categories."""
    X = pd.DataFrame(
        {
            "x0": pd.array(rows.X[:, 0], dtype="Float64"),
            "count": np.round(rows.X[:, 1] * 10).astype(int),
            "flag": rows.X[:, 2] > 0,
            "small": pd.array((rows.X[:, 2] * 3).astype(int), dtype="Int8"),
            "g": pd.Categorical(rows.groups),
            "t": pd.array(rows.time, dtype="Int64"),
        }
    )
    model = entry.by_columns(**entry.all_used).fit(entry.table(X), rows.y)
    numbers = X[["x0", "count", "flag", "small"]].to_numpy(dtype=float)
    assert_same(entry, model, entry.fit(rows._replace(X=numbers), **entry.all_used))


def test_nested_lists_of_labels_and_numbers(entry, rows, by_arguments):
    lists = [[*x, f"g{g:02d}", *([int(t)] if entry.takes_times else [])]
             for x, g, t in zip(rows.X.tolist(), rows.groups, rows.time, strict=True)]  # fmt: skip
    times = {"time_feature": 4} if entry.takes_times else {}
    model = entry.estimator(group_features=3, **times, **entry.all_used).fit(lists, rows.y.tolist())
    expected = by_arguments(entry)
    np.testing.assert_allclose(coefficients(model), coefficients(expected), rtol=1e-9)
    np.testing.assert_allclose(entry.predictions(model, lists), entry.predict(expected, rows), rtol=1e-9)


def test_names_of_factors(entry, rows):
    for groups, name in (
        (rows.groups, "group"),
        (rows.groups[:, None], "group0"),
        (pd.Series(rows.groups, name="district"), "district"),
        (pd.DataFrame({"town": rows.groups}), "town"),
    ):
        assert list(entry.fit(rows._replace(groups=groups)).n_groups_) == [name]
