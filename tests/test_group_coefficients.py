"""Coefficients of groups, fixed plus random; predictions with some of the grouping factors."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from sklmm import GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression
from sklmm.exceptions import AliasedFeaturesWarning, NoGroupsWarning


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    n = 500
    data = pd.DataFrame({
        "x": rng.normal(size=n), "z": rng.normal(size=n),
        "school": rng.integers(0, 25, n), "town": rng.integers(0, 8, n),
    })  # fmt: skip
    mean = 0.5 * data.x + rng.normal(size=25)[data.school] * (1 + 0.5 * data.x) + rng.normal(size=8)[data.town]
    mean += 0.5 * rng.normal(size=25)[data.school] * data.z
    data["r"] = mean + rng.normal(size=n)
    data["y"] = np.where(rng.random(n) < expit(mean), "yes", "no")
    return data


MODELS = {"y": MixedLogisticRegression, "r": MixedLinearRegression}
FACTORS = ["school", "town"]


@pytest.fixture(scope="module", params=list(MODELS))
def model(request, data):
    return MODELS[request.param](["1 + x | school", "1 | town"]).fit(
        data[["x"]], data[request.param], groups=data[FACTORS]
    )


def _predict(model, *rows, **how):
    return (model.predict_proba if hasattr(model, "classes_") else model.predict)(*rows, **how)


# --- coefficients -------------------------------------------------------------------------------------------------


def test_fixed_plus_random(data, model):
    found = model.group_coefficients_
    assert list(found) == FACTORS and list(found["school"].columns) == ["intercept", "x"]
    for name in FACTORS:
        random = model.random_effects_[name]
        assert found[name].index.equals(random.index)
        for column, fixed in (("intercept", np.ravel(model.intercept_)[0]), ("x", np.ravel(model.coef_)[0])):
            expected = fixed + (random[column] if column in random else 0.0)
            np.testing.assert_allclose(found[name][column], expected)


@pytest.mark.parametrize("outcome", MODELS)
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning", "ignore::sklmm.exceptions.LaplaceWarning")
def test_they_predict_with_slopes_that_have_no_fixed_effect(data, outcome):
    """Terms on one factor are in one table; columns of random slopes alone count from 0."""
    model = MODELS[outcome].from_formula(f"{outcome} ~ 0 + x + (1 | school) + (0 + x + z | school)", data)
    table = model.group_coefficients_["school"]
    assert list(table.columns) == ["x", "intercept", "z"]
    assert "'intercept', 'z': random effects without a fixed effect" in str(table)
    own = table.loc[data.school].to_numpy()
    eta = np.einsum("ij,ij->i", own, np.column_stack([data.x, np.ones(len(data)), data.z]))
    if outcome == "r":
        np.testing.assert_allclose(model.predict(data), eta, atol=1e-10)
    else:
        np.testing.assert_allclose(model.predict_proba(data, predict_effects="mode")[:, 1], expit(eta), atol=1e-10)


def test_columns_left_out_nested_labels_and_no_groups(data):
    with pytest.warns(AliasedFeaturesWarning):
        model = MixedLinearRegression.from_formula("r ~ x + x2 + (1 | town/school)", data.assign(x2=2 * data.x))
    found = model.group_coefficients_
    assert list(found) == list(model.n_groups_) == list(model.random_effects_)
    for name, table in found.items():
        assert table.index.equals(model.random_effects_[name].index)
        assert (table.x2 == 0).all() and "'x2': left out of the fit" in str(table)
    with pytest.warns(NoGroupsWarning):
        assert MixedLinearRegression().fit(data[["x"]], data.r).group_coefficients_ == {}
    assert not hasattr(MixedLinearRegression(), "group_coefficients_")


# --- some of the factors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("include", [["school"], ["town"], "town", ["town", "school"], []])
def test_other_factors_count_as_unknown_groups(data, model, include):
    X, groups = data[["x"]], data[FACTORS]
    unknown = groups.copy()
    for name in FACTORS:
        if name not in ([include] if isinstance(include, str) else include):
            unknown[name] = -1
    np.testing.assert_array_equal(_predict(model, X, groups, include=include), _predict(model, X, unknown))
    np.testing.assert_array_equal(
        model.predict_interval(X, groups, include=include), model.predict_interval(X, unknown)
    )
    if hasattr(model, "classes_"):
        modes = {"predict_effects": "mode"}
        for method in (model.predict_proba, model.decision_function, model.predict, model.predict_log_proba):
            np.testing.assert_array_equal(method(X, groups, include=include), method(X, unknown))
            np.testing.assert_array_equal(method(X, groups, include=include, **modes), method(X, unknown, **modes))
    else:
        pairs = zip(*(model.predict(X, g, return_std=True, **h) for g, h in
                      ((groups, {"include": include}), (unknown, {}))), strict=True)  # fmt: skip
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)


def test_against_random_effects_added_by_hand(data, model):
    X, groups = data[["x"]], data[FACTORS]
    eta = model.group_coefficients_["school"].loc[data.school].to_numpy()
    eta = eta[:, 0] + eta[:, 1] * data.x.to_numpy()
    if hasattr(model, "classes_"):
        found = model.predict_proba(X, groups, include=["school"], predict_effects="mode")[:, 1]
        np.testing.assert_allclose(found, expit(eta), atol=1e-10)
    else:
        np.testing.assert_allclose(model.predict(X, groups, include=["school"]), eta, atol=1e-10)


def test_none_is_all_and_an_empty_list_needs_no_groups(data, model, recwarn):
    X, groups = data[["x"]], data[FACTORS]
    np.testing.assert_array_equal(_predict(model, X, groups, include=None), _predict(model, X, groups))
    recwarn.clear()
    nobody = _predict(model, X, include=[])
    one = _predict(model, X, data[["school"]], include="school")
    assert not recwarn.list  # no groups are missed that do not count
    effects = "marginal" if hasattr(model, "classes_") else "zero"
    np.testing.assert_allclose(nobody, _predict(model, X, predict_effects=effects), atol=1e-12)
    np.testing.assert_array_equal(one, _predict(model, X, groups, include="school"))
    with pytest.warns(NoGroupsWarning):
        _predict(model, X, data[["school"]], include="town")


def test_data_frames_of_a_formula(data):
    model = MixedLinearRegression.from_formula("r ~ x + (1 | school) + (1 | town)", data)
    found = model.predict(data.drop(columns="town"), include=["school"])
    np.testing.assert_array_equal(found, model.predict(data.assign(town=-1)))


def test_bad_names(data, model):
    X, groups = data[["x"]], data[FACTORS]
    with pytest.raises(ValueError, match="include names 'district', no grouping factor .*'school', 'town'"):
        _predict(model, X, groups, include=["district", "school"])
    with pytest.raises(ValueError, match="with predict_effects='zero' none do"):
        _predict(model, X, groups, include=["school"], predict_effects="zero")
    with pytest.raises(ValueError, match="include names 'x'"):
        model.predict_interval(X, groups, include="x")
    marginal = GEELogisticRegression().fit(X, data.y, groups=data.school)
    with pytest.raises(ValueError, match="a marginal model has none"):
        marginal.predict_proba(X, include=["school"])
