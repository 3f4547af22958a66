"""WithinBetween: groups' means and deviations, as pandas' groupby finds them; in pipelines, folds and containers."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    WithinBetween,
    make_grouped_pipeline,
)
from sklmm.estimating import AR1
from sklmm.exceptions import LabelTypeWarning


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    school = random.choice(list("abcdefgh"), 200)
    level = dict(zip("abcdefgh", random.normal(size=8), strict=True))
    x = np.array([level[s] for s in school]) + random.normal(size=200)
    return pd.DataFrame({"x": x, "sex": random.integers(0, 2, 200), "z": random.normal(size=200), "school": school},
                        index=np.arange(200) + 7)  # fmt: skip


def test_parts_are_those_of_groupby(table):
    found = WithinBetween(["x", "z"], group_features="school").fit_transform(table)
    assert list(found) == ["sex", "x_within", "x_between", "z_within", "z_between", "school"]
    for name in ("x", "z"):
        mean = table.groupby("school")[name].transform("mean")
        np.testing.assert_allclose(found[f"{name}_between"], mean, rtol=0, atol=1e-14)
        np.testing.assert_allclose(found[f"{name}_within"] + found[f"{name}_between"], table[name], atol=1e-15)
    assert found.index.equals(table.index)
    pd.testing.assert_series_equal(found["school"], table["school"])


def test_known_groups_have_the_means_of_the_fit_and_unknown_ones_their_own(table):
    train, test = table[table.school < "f"].iloc[::2], table[table.school >= "d"]
    split = WithinBetween("x", group_features="school").fit(train)
    found = split.transform(test)
    known, new = test.school < "f", test.school >= "f"
    np.testing.assert_allclose(
        found.x_between[known], test.school[known].map(train.groupby("school").x.mean()), atol=1e-14
    )
    np.testing.assert_allclose(found.x_between[new], test[new].groupby("school").x.transform("mean"), atol=1e-14)
    alone = split.transform(test[new].iloc[:1])
    assert alone.x_within.item() == 0
    nobody = split.transform(test.assign(school=[None] * len(test)))
    np.testing.assert_allclose(nobody.x_between, train.x.mean(), atol=1e-14)


def test_weights_are_counts_and_those_of_0_leave_rows_out(table):
    weights = np.random.default_rng(1).integers(0, 4, len(table))
    weights[table.school == "a"] = 0
    split = WithinBetween("x", group_features="school")
    repeated = clone(split).fit(table.loc[table.index.repeat(weights)])
    weighted = clone(split).fit(table, sample_weight=weights)
    pd.testing.assert_frame_equal(weighted.group_means_, repeated.group_means_)
    pd.testing.assert_frame_equal(weighted.transform(table), repeated.transform(table))
    assert "a" not in weighted.group_means_.index


def test_constant_features_of_groups_have_no_deviations(table):
    """Rounding errors of a mean would be a feature that varies."""
    constant = table.school.map(dict(zip("abcdefgh", 1e6 + 0.1 * np.arange(8), strict=True)))
    found = WithinBetween("x", group_features="school").fit_transform(table.assign(x=constant))
    assert (found.x_within == 0).all()


def test_features_far_from_0(table):
    split = WithinBetween("x", group_features="school")
    near, far = (split.fit_transform(table.assign(x=np.round(table.x * 2**20) / 2**20 + s)) for s in (0.0, 2.0**30))
    np.testing.assert_allclose(far.x_within, near.x_within, atol=4e-7)


def test_arrays_and_positions(table):
    array = np.column_stack([table.x, table.sex, table.school.map(ord)])
    found = WithinBetween(0, group_features=-1).fit_transform(array)
    assert found.dtype == float
    expected = WithinBetween("x", group_features="school").fit_transform(table[["x", "sex", "school"]])
    np.testing.assert_allclose(found[:, :3], expected.iloc[:, :3].to_numpy(float))
    np.testing.assert_array_equal(found[:, 3], array[:, 2])
    labels = np.column_stack([table.x.astype(object), table.school])
    assert WithinBetween([0], group_features=1).fit_transform(labels)[:, 2].tolist() == table.school.tolist()


def test_output_containers(table):
    split = WithinBetween("x", group_features="school").set_output(transform="pandas")
    array = table[["x", "sex"]].assign(school=table.school.map(ord)).to_numpy()
    found = clone(split).set_params(columns=0, group_features=2).fit_transform(array)
    assert list(found) == ["x1", "x0_within", "x0_between", "x2"]
    polars = pytest.importorskip("polars")
    found = WithinBetween("x", group_features="school").fit_transform(polars.DataFrame(table.to_dict("list")))
    assert found.columns == ["sex", "z", "x_within", "x_between", "school"]
    expected = WithinBetween("x", group_features="school").fit_transform(table)
    np.testing.assert_allclose(found["x_within"].to_numpy(), expected.x_within)


def test_classes_within_schools(table):
    """Groups of two columns; a second split of the means is that of the coarser level."""
    table = table.assign(room=np.tile([1, 2], 100))
    inner = WithinBetween("x", group_features=["school", "room"], by=["school", "room"])
    outer = WithinBetween("x_between", group_features=["school", "room"], by="school")
    found = make_pipeline(inner, outer).fit_transform(table)
    room = table.groupby(["school", "room"]).x.transform("mean")
    np.testing.assert_allclose(found.x_within, table.x - room, atol=1e-13)
    np.testing.assert_allclose(found.x_between_between, room.groupby(table.school).transform("mean"), atol=1e-13)
    with pytest.raises(ValueError, match="say in by="):
        WithinBetween("x", group_features=["school", "room"]).fit(table)


@pytest.mark.parametrize(
    ("change", "parameters", "message"),
    [
        ({"x": np.nan}, {}, "column 'x' has 1 missing values"),
        ({"x": np.inf}, {}, "column 'x' holds infinity"),
        ({"x": "many"}, {}, "column 'x' of X is not numeric"),
        ({"school": None}, {}, "factor 'school': 1 row has a missing group label"),
        ({}, {"columns": "age"}, "columns names 'age', which is no column"),
        ({}, {"columns": "school"}, "'school' holds groups"),
        ({}, {"group_features": None}, "needs groups"),
    ],
)
def test_bad_input(table, change, parameters, message):
    for name, value in change.items():
        table[name] = table[name].astype(object)
        table.loc[9, name] = value
    with pytest.raises(ValueError, match=message):
        WithinBetween(**{"columns": "x", "group_features": "school"} | parameters).fit(table)


def test_missing_values_at_transform_and_labels_of_another_type(table):
    split = WithinBetween("x", group_features="school").fit(table.assign(school=table.school.map(ord)))
    with pytest.raises(ValueError, match="column 'x' has 1 missing"):
        split.transform(table.assign(x=[np.nan, *table.x[1:]]))
    with pytest.warns(LabelTypeWarning, match="none of the labels"):
        split.transform(table.assign(school=table.school.map(lambda s: str(ord(s)))))
    with pytest.raises(NotFittedError):
        WithinBetween("x", group_features="school").transform(table)
    with pytest.raises(ValueError, match="as a split column would be called"):
        WithinBetween("x", group_features="school").fit_transform(table.assign(x_within=1.0))


MODELS = [MixedLinearRegression(), GEELinearRegression(), MixedLogisticRegression(), GEELogisticRegression()]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_pipelines(table, model):
    """The fit is that of columns made by hand, and of a fold it takes means of the training rows alone."""
    random = np.random.default_rng(2)
    y = table.x + table.school.map(dict(zip("abcdefgh", 0.8 * random.normal(size=8), strict=True)))
    y += 2 * random.normal(size=len(table))
    y = y if "Linear" in type(model).__name__ else (y > 0).astype(int)
    X = table[["x", "z", "school"]]
    pipeline = make_grouped_pipeline(WithinBetween("x"), StandardScaler(), clone(model), group_features="school")
    pipeline.fit(X, y)
    mean = X.groupby("school").x.transform("mean")
    made = pd.DataFrame({"z": X.z, "x_within": X.x - mean, "x_between": mean})
    by_hand = clone(model).fit((made - made.mean()) / made.std(ddof=0), y, groups=X.school)
    np.testing.assert_allclose(pipeline[-1].coef_, by_hand.coef_, rtol=1e-6)
    assert pipeline[-1].vcov_.columns.tolist() == ["intercept", "z", "x_within", "x_between"]

    pipeline.set_params(standardscaler__transformer="passthrough")
    folds = list(GroupKFold(3).split(X, y, X.school))
    out = cross_val_predict(pipeline, X, y, cv=folds)
    train, test = folds[0]
    mean = X.iloc[train].groupby("school").x.transform("mean")
    made = pd.DataFrame({"z": X.z.iloc[train], "x_within": X.x.iloc[train] - mean, "x_between": mean})
    own = X.iloc[test].groupby("school").x.transform("mean")
    new = pd.DataFrame({"z": X.z.iloc[test], "x_within": X.x.iloc[test] - own, "x_between": own})
    fold = clone(model).fit(made, y.iloc[train], groups=X.school.iloc[train])
    np.testing.assert_allclose(out[test], fold.predict(new, groups=X.school.iloc[test]), atol=1e-6)


def test_pipelines_with_times_go_by_names(table):
    table = table.assign(t=table.groupby("school").cumcount())
    model = GEELinearRegression(correlation=AR1(), time_feature="t")
    make_grouped_pipeline(WithinBetween(["x"]), model, group_features="school").fit(table, table.x)
    with pytest.raises(ValueError, match="which features to split"):
        make_grouped_pipeline(WithinBetween(), model, group_features="school")
    with pytest.raises(ValueError, match="set already"):
        make_grouped_pipeline(WithinBetween(group_features="school"), MixedLinearRegression(), group_features="school")


def test_it_tells_effects_apart():
    """Between groups the outcome falls with x, within them it rises: one slope for both is neither."""
    random = np.random.default_rng(3)
    g = np.repeat(np.arange(300), 10)
    level = random.normal(size=300)
    x = level[g] + random.normal(size=3000)
    y = 1.0 * (x - level[g]) - 2.0 * level[g] + random.normal(size=300)[g] + random.normal(size=3000)
    X = pd.DataFrame({"x": x, "g": g})
    model = make_grouped_pipeline(WithinBetween("x"), MixedLinearRegression(), group_features="g").fit(X, y)[-1]
    assert model.coef_[0] == pytest.approx(1.0, abs=4 * np.sqrt(model.vcov_.iloc[1, 1]))
    # the mean of ten rows is that of the group with an error: reliability 10/11 draws -2 towards 1
    assert model.coef_[1] == pytest.approx(-2 * 10 / 11 + 1 / 11, abs=4 * np.sqrt(model.vcov_.iloc[2, 2]))


@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks():
    check_estimator(WithinBetween(group_features=-1))


def test_no_warnings_of_its_own(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WithinBetween("x", group_features="school").fit(table).transform(table)


def test_weights_by_routing_and_by_name(table):
    weights = np.random.default_rng(4).integers(1, 4, len(table))
    X, y = table[["x", "school"]], table.x + np.random.default_rng(5).normal(size=len(table))
    by_hand = WithinBetween("x", group_features="school").fit(X, sample_weight=weights).group_means_
    pipeline = make_grouped_pipeline(WithinBetween("x"), GEELinearRegression(), group_features="school")
    pipeline.fit(X, y, withinbetween__sample_weight=weights)
    pd.testing.assert_frame_equal(pipeline[0].group_means_, by_hand)
    with config_context(enable_metadata_routing=True):
        pipeline[0].set_fit_request(sample_weight=True)
        pipeline[1].set_fit_request(sample_weight=True)
        pipeline.fit(X, y, sample_weight=weights)
    pd.testing.assert_frame_equal(pipeline[0].group_means_, by_hand)
    assert pipeline[1].n_obs_ == weights.sum()
