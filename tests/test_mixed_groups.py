"""Groups through their two doors, and the names and kinds of labels they come with."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        500, 3, n_groups=25, covariance=[[1.5, 0.3], [0.3, 1.0]], random_state=1
    )
    return X, y, groups


@pytest.fixture(scope="module")
def by_metadata(data):
    X, y, groups = data
    return MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups)


def _same_fit(model, other, rtol=1e-6):
    assert model.log_likelihood_ == pytest.approx(other.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(model.coef_, other.coef_, rtol=rtol, atol=1e-7)
    (modes,), (expected,) = model.random_effects_.values(), other.random_effects_.values()
    np.testing.assert_allclose(modes, expected, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("position", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float", "object"])
def test_column_of_an_array(data, by_metadata, position, dtype):
    X, y, groups = data
    labels = groups if dtype == "float" else np.array([f"g{label:02d}" for label in groups], dtype=object)
    with_groups = np.insert(X.astype(dtype), position, labels, axis=1)
    slope = "x1" if position == 0 else "x0"  # columns are counted in X as it is given
    model = MixedLogisticRegression(f"1 + {slope} | x{position}", group_features=position).fit(with_groups, y)
    _same_fit(model, by_metadata)
    assert model.n_features_in_ == 4
    assert model.coef_.shape == (1, 3)
    names = [f"x{j}" for j in range(4) if j != position]
    assert model.vcov_.index.tolist() == ["intercept", *names]
    np.testing.assert_allclose(
        model.predict_proba(with_groups), by_metadata.predict_proba(X, groups=groups), rtol=1e-6
    )


def test_features_beside_the_groups_are_a_view(data):
    """Nothing is copied where the features lie side by side."""
    from sklmm.estimators.reading import read_rows

    X, y, groups = data
    with_groups = np.column_stack([X, groups])
    model = MixedLogisticRegression(group_features=-1)
    rows, positions = read_rows(model, with_groups, None, {"group_features": -1}, reset=True)
    assert positions == {"group_features": [3]}
    assert np.shares_memory(rows.X, with_groups)
    single = X.astype(np.float32)
    rows, _ = read_rows(MixedLogisticRegression(), single, groups, {"group_features": None}, reset=True)
    assert rows.X is single or np.shares_memory(rows.X, single)


def test_fitted_tables(data):
    X, y, groups = data
    frame = pd.DataFrame(X, columns=["age", "dose", "b"]).assign(clinic=[f"c{label:02d}" for label in groups])
    model = MixedLogisticRegression("1 + dose || clinic", group_features="clinic").fit(frame, y)
    labels = sorted(set(frame["clinic"]))
    for table in (model.random_effects_["clinic"], model.random_effects_sd_["clinic"]):
        assert table.index.tolist() == labels
        assert table.columns.tolist() == ["intercept", "dose"]
    assert (model.random_effects_sd_["clinic"] >= 0).all(axis=None)
    covariance = model.covariance_["clinic"]
    assert covariance.index.tolist() == covariance.columns.tolist() == ["intercept", "dose"]
    assert covariance.loc["intercept", "dose"] == 0
    assert model.vcov_.columns.tolist() == ["intercept", "age", "dose", "b"]
    k = 4 + 2
    assert model.aic_ == pytest.approx(2 * k - 2 * model.log_likelihood_)
    assert model.bic_ == pytest.approx(np.log(500) * k - 2 * model.log_likelihood_)
    assert model.n_obs_ == 500


def test_two_terms_on_one_factor(data):
    X, y, groups = data
    model = MixedLogisticRegression(["1 | group", "0 + x0 | group"]).fit(X, y, groups=groups)
    assert list(model.covariance_) == ["group", "group.1"]
    assert model.random_effects_["group.1"].columns.tolist() == ["x0"]
    uncorrelated = MixedLogisticRegression("x0 || group").fit(X, y, groups=groups)
    assert model.log_likelihood_ == pytest.approx(uncorrelated.log_likelihood_, rel=1e-10)


def test_one_of_several_group_columns(data):
    X, y, groups = data
    both = pd.DataFrame({"school": groups // 5, "class": groups})
    model = MixedLogisticRegression("1 | class").fit(X, y, groups=both)
    assert model.n_groups_ == {"class": 25}
    _same_fit(model, MixedLogisticRegression().fit(X, y, groups=groups))
    expected = model.predict_proba(X, groups=both)
    # Columns are found by name, whatever their order; columns the model does not know are left alone.
    other = both[["class", "school"]].assign(room=1)
    np.testing.assert_array_equal(model.predict_proba(X, groups=other), expected)
    np.testing.assert_array_equal(model.predict_proba(X, groups=both.to_numpy()), expected)
    with pytest.raises(ValueError, match="fitted with groups named"):
        model.predict_proba(X, groups=both.rename(columns={"class": "klass"}))


@pytest.mark.parametrize("door", ["metadata", "frame", "array"])
def test_interaction_with_a_feature(data, door):
    X, y, groups = data
    urban = (X[:, 2] > 0).astype(int)
    features = np.column_stack([X[:, 0], urban])
    labels = np.array([f"{u}:{label}" for u, label in zip(urban, groups, strict=True)])
    expected = MixedLogisticRegression().fit(features, y, groups=labels)
    frame = pd.DataFrame({"age": X[:, 0], "urban": urban})
    if door == "metadata":
        model = MixedLogisticRegression("1 | urban:district")
        arguments = (frame, y, pd.Series(groups, name="district"))
        predicted = model.fit(*arguments).predict_proba(frame, groups=arguments[2])
    elif door == "frame":
        model = MixedLogisticRegression("1 | urban:district", group_features="district")
        frame["district"] = groups
        predicted = model.fit(frame, y).predict_proba(frame)
    else:
        model = MixedLogisticRegression("1 | x1:x2", group_features=2)
        array = np.column_stack([features, groups])
        predicted = model.fit(array, y).predict_proba(array)
    assert model.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(predicted, expected.predict_proba(features, groups=labels), rtol=1e-6)
    name = "x1:x2" if door == "array" else "urban:district"
    assert model.n_groups_ == {name: len(set(labels))}
    assert set(model.random_effects_[name].index) == set(labels)


def test_interaction_of_two_group_columns(data):
    X, y, groups = data
    both = pd.DataFrame({"school": groups // 5, "class": groups % 5})
    model = MixedLogisticRegression("1 | school:class").fit(X, y, groups=both)
    expected = MixedLogisticRegression().fit(X, y, groups=groups)
    assert model.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(
        model.predict_proba(X, groups=both), expected.predict_proba(X, groups=groups), rtol=1e-6
    )


def test_unknown_and_missing_labels_are_silent(data, by_metadata):
    X, _, groups = data
    unknown = np.array([1e9, np.nan, groups[2]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = by_metadata.predict_proba(X[:3], groups=unknown)
        marginal = by_metadata.predict_proba(X[:3], predict_effects="marginal")
    np.testing.assert_array_equal(found[:2], marginal[:2])
    assert found[2, 1] != marginal[2, 1]
    texts = by_metadata.predict_proba(X[:2], groups=np.array(["new", None], dtype=object))
    np.testing.assert_array_equal(texts, marginal[:2])


def test_unknown_label_in_X(data):
    X, y, groups = data
    frame = pd.DataFrame(X).add_prefix("f").assign(g=groups.astype(str))
    model = MixedLogisticRegression(group_features="g").fit(frame, y)
    new = frame.iloc[:4].copy()
    new["g"] = ["nowhere", None, np.nan, new["g"].iloc[3]]
    found = model.predict_proba(new)
    np.testing.assert_array_equal(found[:3], model.predict_proba(new, predict_effects="marginal")[:3])
    np.testing.assert_allclose(found[3], model.predict_proba(frame)[3], rtol=1e-8)


def test_predictions_that_need_no_groups(data, by_metadata):
    X, _, _ = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_metadata.predict_proba(X, predict_effects="zero")
        by_metadata.predict_proba(X, predict_effects="marginal")


# update_groups ----------------------------------------------------------------------------------------------


def test_update_with_the_training_rows_changes_nothing(data, by_metadata):
    X, y, groups = data
    updated = by_metadata.update_groups(X, y, groups=groups)
    pd.testing.assert_frame_equal(
        updated.random_effects_["group"].sort_index(), by_metadata.random_effects_["group"], rtol=1e-6
    )
    pd.testing.assert_frame_equal(
        updated.random_effects_sd_["group"].sort_index(), by_metadata.random_effects_sd_["group"], rtol=1e-6
    )


def test_update_learns_new_groups_and_relearns_known_ones(data, by_metadata):
    X, y, groups = data
    before = by_metadata.predict_proba(X, groups=groups)
    rows = groups < 2
    # Group 0 comes again under a new name, group 1 under its own with half of its rows.
    half = rows & ((groups == 0) | (np.arange(500) % 2 == 0))
    labels = np.where(groups[half] == 0, 99, groups[half])
    updated = by_metadata.update_groups(X[half], y[half], groups=labels)
    assert updated.n_groups_ == {"group": 26}
    np.testing.assert_allclose(
        updated.random_effects_["group"].loc[99], by_metadata.random_effects_["group"].loc[0], rtol=1e-5
    )
    sd = updated.random_effects_sd_["group"].loc[1]
    assert (sd > by_metadata.random_effects_sd_["group"].loc[1]).all()
    unchanged = groups > 1
    np.testing.assert_allclose(
        updated.predict_proba(X[unchanged], groups=groups[unchanged]), before[unchanged], rtol=1e-8
    )
    np.testing.assert_allclose(
        updated.predict_proba(X[groups == 0], groups=np.full((groups == 0).sum(), 99)),
        before[groups == 0],
        rtol=1e-5,
    )
    # The model it came from is as it was.
    assert by_metadata.n_groups_ == {"group": 25}
    np.testing.assert_array_equal(by_metadata.predict_proba(X, groups=groups), before)
    np.testing.assert_array_equal(updated.coef_, by_metadata.coef_)


def test_update_through_X_with_weights_and_one_class(data):
    X, y, groups = data
    frame = pd.DataFrame(X).add_prefix("f").assign(g=groups.astype(str))
    model = MixedLogisticRegression(group_features="g").fit(frame, np.where(y == 1, "yes", "no"))
    new = frame.iloc[:6].assign(g="new")
    always = model.update_groups(new, ["yes"] * 6)
    doubled = model.update_groups(
        pd.concat([new, new.assign(g="left out")]), ["yes"] * 12, sample_weight=[2] * 6 + [0] * 6
    )
    repeated = model.update_groups(pd.concat([new, new]), ["yes"] * 12)
    effect = [m.random_effects_["g"].loc["new", "intercept"] for m in (always, doubled, repeated)]
    assert 0 < effect[0] < effect[1]
    assert effect[1] == pytest.approx(effect[2], rel=1e-7)
    assert "left out" not in doubled.random_effects_["g"].index


def test_update_needs_groups_and_known_classes(data, by_metadata):
    X, y, groups = data
    with pytest.raises(ValueError, match="needs groups"):
        by_metadata.update_groups(X, y)
    with pytest.raises(ValueError, match="labels that fit did not see"):
        by_metadata.update_groups(X, y + 1, groups=groups)
    with pytest.raises(ValueError, match="group.*missing"):
        by_metadata.update_groups(X, y, groups=np.where(groups == 0, np.nan, groups))
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="fitted without groups"):
        plain.update_groups(X, y, groups=groups)
