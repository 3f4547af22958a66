"""The formula door: what it reads, what it keeps for new data, what it refuses."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from reference_data import reference

from sklmm import (
    EffectDisplay,
    GEELogisticRegression,
    GroupCurvesDisplay,
    MixedLogisticRegression,
)
from sklmm.datasets import load_contraception, load_ohio
from sklmm.design.formula_text import split_formula
from sklmm.exceptions import NoGroupsWarning

pytest.importorskip("formulaic")

# the tutorial's models, and the fits of other software they are to repeat
TUTORIAL = {
    "m_01/glmmTMB_laplace": "use ~ age + urban + livch + (1 | district)",
    "m_02/glmmTMB_laplace": "use ~ age + I(age**2) + urban + livch + (1 | district)",
    "m_04/glmmTMB_laplace": "use ~ age*ch + I(age**2) + urban + (1 | district)",
}


@pytest.fixture(scope="module")
def women():
    return load_contraception(as_frame=True).frame


@pytest.fixture(scope="module")
def model(women):
    return MixedLogisticRegression.from_formula(
        "use ~ age*ch + I(age**2) + urban + (1 | urban:district)", women
    )


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y ~ a + (1|g) + b", ("y", "a + b", ["1|g"])),
        ("y ~ (1|g)", ("y", "1", ["1|g"])),
        ("y ~ (1|g) + b", ("y", "b", ["1|g"])),
        ("y ~ a*(b+c) + (1+a|g/h) + (0+b||k)", ("y", "a*(b+c)", ["1+a|g/h", "0+b||k"])),
        ("y~I(a|b)+f(x, (1))", ("y", "I(a|b)+f(x, (1))", [])),
        ("y ~ 0 + (1 | g)", ("y", "0", ["1 | g"])),
        ("y ~ x - 1 + (1|g)", ("y", "x - 1", ["1|g"])),
        ("`odd y` ~ `a | b` + (1 | `c (d`)", ("odd y", "`a | b`", ["1 | `c (d`"])),
        ("y ~ C(a, levels=['(', '|']) + ((1 | g))", ("y", "C(a, levels=['(', '|'])", ["(1 | g)"])),
    ],
)
def test_bars_are_split_off(formula, expected):
    assert split_formula(formula) == (*expected, [], None)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ a + 1 | g", "go in brackets"),
        ("y ~ a * (1 | g)", "is added to the rest with '\\+'"),
        ("y ~ a (1 | g)", "is added to the rest with '\\+'"),
        ("y ~ (1 | g) b", "expected '\\+' after"),
        ("log(y) ~ a", "the name of one column"),
        ("y + a", "one '~'"),
        ("y ~ (a", "'\\(' is never closed"),
        ("y ~ `a", "quote is never closed"),
    ],
)
def test_formulas_that_cannot_be_split(formula, message):
    with pytest.raises(ValueError, match=message):
        split_formula(formula)


@pytest.mark.parametrize("name", TUTORIAL)
def test_the_fits_of_other_software(women, name):
    expected = reference("contraception", name)
    model = MixedLogisticRegression.from_formula(TUTORIAL[name], women)
    assert model.log_likelihood_ == pytest.approx(expected["log_likelihood"], abs=1e-5)
    found = dict(zip(model.vcov_.index, np.r_[model.intercept_, model.coef_[0]], strict=True))
    assert found["age"] == pytest.approx(expected["coef"][expected["fixed_names"].index("age")], rel=1e-3)


def test_names_and_groups(model, women):
    assert list(model.vcov_.index) == ["intercept", "age", "ch[T.Y]", "I(age ** 2)", "urban[T.Y]", "age:ch[T.Y]"]
    assert list(model.n_groups_) == ["urban:district"]
    assert model.random_effects == ["1 | urban:district"]
    assert "I(age ** 2)" in str(model.summary())


def test_predictions_are_those_of_the_design_by_hand(model, women):
    ch, urban = (women[c] == "Y" for c in ("ch", "urban"))
    X = pd.DataFrame(
        {"age": women.age, "ch": ch, "age2": women.age**2, "urban": urban, "both": women.age * ch}, dtype=float
    )
    groups = women[["urban", "district"]]
    by_hand = MixedLogisticRegression("1 | urban:district").fit(X, women["use"], groups=groups)
    np.testing.assert_allclose(model.predict_proba(women), by_hand.predict_proba(X, groups=groups), atol=1e-6)
    assert model.score(women, women["use"]) == by_hand.score(X, women["use"], groups=groups)


def test_new_rows_alone_predict_as_among_others(model, women):
    together = model.predict_proba(women)
    for k in (0, 700):  # one row has one level of every factor
        np.testing.assert_allclose(model.predict_proba(women.iloc[[k]]), together[[k]], rtol=1e-8)
    shuffled = women.iloc[::-1].assign(use=None)[["district", "ch", "urban", "age"]]
    np.testing.assert_allclose(model.predict_proba(shuffled), together[::-1], rtol=1e-8)


def test_unknown_groups(model, women):
    rows = women.head(4)
    population = model.predict_proba(rows, predict_effects="marginal")
    elsewhere = rows.assign(district=[999, -1, 12345, 998])
    np.testing.assert_allclose(model.predict_proba(elsewhere), population)


def test_data_without_the_grouping_columns(women):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    rows = women.head(4)
    with pytest.warns(NoGroupsWarning, match="every row is predicted as one of an unknown group"):
        found = model.predict_proba(rows[["age"]])
    np.testing.assert_allclose(found, model.predict_proba(rows, predict_effects="marginal"))
    missing = model.predict_proba(rows.assign(district=None))
    np.testing.assert_allclose(missing, found)


def test_part_of_the_grouping_columns(model, women):
    population = model.predict_proba(women, predict_effects="marginal")
    rows = women.drop(columns="district")  # urban is a fixed effect, too
    with pytest.warns(NoGroupsWarning, match="no column 'district': .* an unknown group of urban:district"):
        np.testing.assert_allclose(model.predict_proba(rows), population)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.predict_proba(rows, predict_effects="marginal"), population)
        np.testing.assert_array_equal(
            model.predict_proba(rows, predict_effects="zero"), model.predict_proba(women, predict_effects="zero")
        )
        pd.testing.assert_frame_equal(model.average_marginal_effects(rows), model.average_marginal_effects(women))
        pd.testing.assert_frame_equal(model.marginal_coefficients(rows), model.marginal_coefficients(women))


def test_random_slope_of_a_factor(women):
    model = MixedLogisticRegression.from_formula("use ~ age + livch + urban + (1 + urban | district)", women)
    assert list(model.covariance_["district"]) == ["intercept", "urban[T.Y]"]
    X = pd.get_dummies(women[["age", "livch", "urban"]], drop_first=True, dtype=float)
    by_hand = MixedLogisticRegression("1 + urban_Y | district").fit(X, women["use"], groups=women["district"])
    assert model.log_likelihood_ == pytest.approx(by_hand.log_likelihood_, abs=1e-8)
    no_intercept = MixedLogisticRegression.from_formula("use ~ 0 + urban + age + (0 + urban | district)", women)
    assert list(no_intercept.covariance_["district"]) == ["urban[N]", "urban[Y]"]
    assert no_intercept.fit_intercept is False and no_intercept.intercept_[0] == 0
    levels = MixedLogisticRegression.from_formula("use ~ age + livch + urban + (0 + urban | district)", women)
    assert list(levels.covariance_["district"]) == ["urban[N]", "urban[Y]"]
    assert levels.log_likelihood_ == pytest.approx(by_hand.log_likelihood_, abs=1e-6)  # in other words
    assert list(levels.vcov_.index) == list(model.vcov_.index)


def test_random_slope_of_a_transform(women):
    by_hand = women.assign(z=(women["age"] - women["age"].mean()) / women["age"].std())
    expected = MixedLogisticRegression.from_formula("use ~ z + (1 + z | district)", by_hand)
    for slope in ("scale(age)", "`scale(age)`"):
        model = MixedLogisticRegression.from_formula(f"use ~ scale(age) + (1 + {slope} | district)", women)
        assert list(model.covariance_["district"]) == ["intercept", "scale(age)"]
        assert model.log_likelihood_ == pytest.approx(expected.log_likelihood_, abs=1e-7)
    square = MixedLogisticRegression.from_formula("use ~ I(age**2 / 100) + (0 + I(age**2/100) | district)", women)
    assert list(square.covariance_["district"]) == ["I(age ** 2 / 100)"]


def test_stateful_transforms_keep_the_constants_of_the_fit(women):
    model = MixedLogisticRegression.from_formula("use ~ poly(age, 2) + scale(woman) + (1 | district)", women.head(900))
    all_rows = model.predict_proba(women)
    np.testing.assert_allclose(model.predict_proba(women.iloc[-5:]), all_rows[-5:], rtol=1e-8)


def test_missing_values_within_transforms(women):
    holes = women.copy()
    holes.loc[7, "age"] = np.nan
    for term in ("scale(age)", "C(livch) * poly(age, 2)", "np.exp(age / 10)"):
        with pytest.raises(ValueError, match=r"missing values, in 'age' \(1\)"):
            MixedLogisticRegression.from_formula(f"use ~ {term} + (1 | district)", holes)


def test_contrasts(women):
    treatment = MixedLogisticRegression.from_formula("use ~ livch + (1 | district)", women)
    sums = MixedLogisticRegression.from_formula("use ~ C(livch, contr.sum) + (1 | district)", women)
    other = MixedLogisticRegression.from_formula("use ~ C(livch, contr.treatment('3+')) + (1 | district)", women)
    assert list(treatment.vcov_.index) == ["intercept", "livch[T.1]", "livch[T.2]", "livch[T.3+]"]
    assert any("T.0" in name for name in other.vcov_.index)
    for model in (sums, other):
        assert model.log_likelihood_ == pytest.approx(treatment.log_likelihood_, abs=1e-7)
        np.testing.assert_allclose(model.predict_proba(women), treatment.predict_proba(women), atol=1e-5)


def test_levels_that_do_not_occur_have_no_coefficient(women):
    few = women[women["livch"].isin(["0", "2"])]
    assert "3+" in few["livch"].cat.categories
    model = MixedLogisticRegression.from_formula("use ~ livch + (1 | district)", few)
    assert list(model.vcov_.index) == ["intercept", "livch[T.2]"]


def test_unseen_levels(model, women):
    message = "column 'urban' holds 'Z', which the fit did not see; its levels are 'N', 'Y'"
    with pytest.raises(ValueError, match=message):
        model.predict_proba(women.head(3).astype({"urban": object}).assign(urban=["Z", "N", "Y"]))


def test_missing_values(women):
    holes = women.astype({"urban": object}).copy()
    holes.loc[[3, 5], "age"] = np.nan
    holes.loc[5, "urban"] = None
    holes.loc[9, "district"] = np.nan
    formula = "use ~ age + urban + (1 | district)"
    message = r"3 of 1,934 rows have missing values, in 'age' \(2\), 'urban' \(1\), 'district' \(1\)"
    with pytest.raises(ValueError, match=message):
        MixedLogisticRegression.from_formula(formula, holes)
    dropped = MixedLogisticRegression.from_formula(formula, holes, missing="drop")
    complete = MixedLogisticRegression.from_formula(formula, women.drop(index=[3, 5, 9]))
    assert dropped.n_obs_ == 1931
    assert dropped.log_likelihood_ == pytest.approx(complete.log_likelihood_, abs=1e-9)
    unused = women.assign(note=None)
    assert MixedLogisticRegression.from_formula(formula, unused).n_obs_ == 1934
    with pytest.raises(ValueError, match=r"1 of 4 rows have missing values, in 'age' \(1\)"):
        complete.predict_proba(holes.loc[2:5, :].assign(age=[1.0, None, 1.0, 1.0], urban="Y"))
    with pytest.raises(ValueError, match="missing must be 'error' or 'drop'"):
        MixedLogisticRegression.from_formula(formula, women, missing="ignore")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("use ~ agee + (1 | district)", "names 'agee', which is no column of the data; did you mean 'age'"),
        ("use ~ age + (1 | distrikt)", "names 'distrikt'"),
        ("used ~ age", "names 'used'"),
        ("use ~ urban + (1 + agee | district)", "names 'agee', which is no column of the data; did you mean 'age'"),
        ("use ~ urban + (1 + `urban[T.Z]` | district)", "'urban.T.Z.', a random slope, is no .* 'urban.T.Y.'"),
        ("use ~ I(age^2) + (1 | district)", r"a power is written \*\*"),
        ("use ~ age + + * (1 | district)", "formula"),
        ("use ~ age + (age)(1 | district)", "formula"),
        ("use ~ age + (1 | district | urban)", "formula: a second bar"),
    ],
)
def test_formulas_that_do_not_fit_the_data(women, formula, message):
    with pytest.raises(ValueError, match=message):
        MixedLogisticRegression.from_formula(formula, women)


def test_not_a_data_frame(model, women):
    with pytest.raises(TypeError, match="takes its variables from a data frame with the columns 'age', 'ch', 'urban'"):
        model.predict_proba(np.zeros((3, 4)))
    with pytest.raises(TypeError, match="formula must be a str"):
        MixedLogisticRegression.from_formula(["use ~ age"], women)
    with pytest.raises(ValueError, match="groups are the formula's"):
        MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women, group_features="district")


def test_pickle_holds_no_rows(women):
    formula = "use ~ age*ch + scale(age**2) + urban + (1 + age | district)"
    model = MixedLogisticRegression.from_formula(formula, women)
    many = pd.concat([women] * 20)
    size, of_many = (
        len(pickle.dumps(m)) for m in (model, MixedLogisticRegression.from_formula(formula, many))
    )
    # the fit's history and the nodes of 60 districts' posteriors may differ; 36,746 rows more take 300 kB at least
    assert abs(of_many - size) < 40_000
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict_proba(women), model.predict_proba(women))


def test_sample_weight(women):
    formula = "use ~ age + (1 | district)"
    counts = np.arange(len(women)) % 3
    weighted = MixedLogisticRegression.from_formula(formula, women.assign(n=counts), sample_weight="n")
    by_array = MixedLogisticRegression.from_formula(formula, women, sample_weight=counts)
    repeated = MixedLogisticRegression.from_formula(formula, women.loc[women.index.repeat(counts)])
    assert weighted.log_likelihood_ == by_array.log_likelihood_
    assert weighted.log_likelihood_ == pytest.approx(repeated.log_likelihood_, abs=1e-7)


def test_polars(model, women):
    polars = pytest.importorskip("polars")
    plain = women.astype({"urban": str, "ch": str, "livch": str})
    frame = polars.DataFrame({name: plain[name].to_list() for name in plain})
    fitted = MixedLogisticRegression.from_formula("use ~ age*ch + I(age**2) + urban + (1 | urban:district)", frame)
    np.testing.assert_allclose(fitted.predict_proba(frame), model.predict_proba(women), atol=1e-8)


def test_refit_leaves_the_formula_behind(women):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    X = women[["age"]].to_numpy()
    model.set_params(random_effects=None).fit(X, women["use"], groups=women["district"])
    assert model.predict_proba(X[:3], groups=[1, 2, 3]).shape == (3, 2)


def test_update_groups(women):
    old, new = women[women["district"] <= 40], women[women["district"] > 40]
    model = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", old)
    updated = model.update_groups(new, new["use"])
    assert updated.n_groups_["district"] == women["district"].nunique()
    assert np.abs(updated.predict_proba(new) - model.predict_proba(new)).max() > 0.05
    np.testing.assert_allclose(updated.predict_proba(old), model.predict_proba(old))


# Marginal models --------------------------------------------------------------------------------------------


def test_marginal_model(women):
    model = GEELogisticRegression.from_formula("use ~ age*ch + I(age**2) + urban", women, groups="district")
    ch, urban = (women[c] == "Y" for c in ("ch", "urban"))
    X = pd.DataFrame(
        {"age": women.age, "ch": ch, "age2": women.age**2, "urban": urban, "both": women.age * ch}, dtype=float
    )
    by_hand = GEELogisticRegression().fit(X, women["use"], groups=women["district"])
    np.testing.assert_allclose(model.vcov_, by_hand.vcov_, rtol=1e-6)
    rows = women.drop(columns="district").head(7)  # no groups are needed
    np.testing.assert_allclose(model.predict_proba(rows), by_hand.predict_proba(X.head(7)), atol=1e-9)


def test_marginal_model_with_times():
    children = load_ohio(as_frame=True).frame
    response = next(c for c in children if c not in ("id", "child", "age", "smoke"))
    group = next(c for c in children if c in ("id", "child"))
    formula = f"{response} ~ age + smoke"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # times that did not arrive would warn
        model = GEELogisticRegression.from_formula(formula, children, groups=group, time="age", correlation="ar1")
    by_hand = GEELogisticRegression("ar1").fit(
        children[["age", "smoke"]], children[response], groups=children[group], time=children["age"]
    )
    np.testing.assert_allclose(model.coef_, by_hand.coef_, rtol=1e-8)


def test_marginal_model_refuses_bars(women):
    with pytest.raises(ValueError, match="random effects, which a marginal model does not have"):
        GEELogisticRegression.from_formula("use ~ age + (1 | district)", women)


# What else takes data frames --------------------------------------------------------------------------------


def test_marginal_effects_follow_powers_and_products(model, women):
    effects = model.average_marginal_effects(women)
    assert list(effects.index) == ["age", "ch (Y - N)", "urban (Y - N)"]
    step = 1e-3

    def mean(frame):
        return model.predict_proba(frame, predict_effects="marginal")[:, 1].mean()

    slope = (mean(women.assign(age=women["age"] + step)) - mean(women.assign(age=women["age"] - step))) / (2 * step)
    assert effects.loc["age", "estimate"] == pytest.approx(slope, rel=1e-5)
    change = mean(women.assign(ch="Y")) - mean(women.assign(ch="N"))
    assert effects.loc["ch (Y - N)", "estimate"] == pytest.approx(change, rel=1e-8)


def test_displays_follow_powers_and_products(model, women):
    plt = pytest.importorskip("matplotlib.pyplot")
    display = EffectDisplay.from_estimator(model, women, "age", by="ch", at={"urban": "Y"}, grid_resolution=5)
    rows = pd.DataFrame({"age": display.values, "ch": "Y", "urban": "Y"})
    p = model.predict_proba(rows.assign(district=-1), predict_effects="marginal")[:, 1]
    np.testing.assert_allclose(display.lines_[1].get_ydata(), p, rtol=1e-8)
    labels = EffectDisplay.from_estimator(model, women, "urban")
    assert [tick.get_text() for tick in labels.ax_.get_xticklabels()] == ["N", "Y"]
    assert labels.ax_.get_ylabel() == "P(use = 1)"
    assert [text.get_text() for text in labels.ax_.get_legend().get_texts()] == ["95 % confidence interval"]
    curves = GroupCurvesDisplay.from_estimator(model, women, "age", grid_resolution=5)
    assert len(curves.group_lines_) == 102
    with pytest.raises(ValueError, match="holds labels, no numbers"):
        GroupCurvesDisplay.from_estimator(model, women, "ch")
    plt.close("all")


def test_numbers_that_are_levels(women):
    """C(year): no average year, no derivative in it."""
    plt = pytest.importorskip("matplotlib.pyplot")
    coded = women.assign(children=women["livch"].cat.codes.astype(int))
    model = MixedLogisticRegression.from_formula("use ~ age + C(children) + (1 | district)", coded)
    by_label = MixedLogisticRegression.from_formula("use ~ age + livch + (1 | district)", women)
    effects = model.average_marginal_effects(coded)
    assert list(effects.index) == ["age", "children (1 - 0)", "children (2 - 0)", "children (3 - 0)"]
    np.testing.assert_allclose(effects, by_label.average_marginal_effects(women), rtol=1e-6, atol=1e-12)
    over_age = EffectDisplay.from_estimator(model, coded, "age", grid_resolution=5)
    same = EffectDisplay.from_estimator(by_label, women, "age", grid_resolution=5)
    np.testing.assert_allclose(over_age.lines_[0].get_ydata(), same.lines_[0].get_ydata(), rtol=1e-7)
    levels = EffectDisplay.from_estimator(model, coded, "children")
    assert [tick.get_text() for tick in levels.ax_.get_xticklabels()] == ["0", "1", "2", "3"]
    plt.close("all")


def test_refits_take_the_data_frame_alone(women):
    mixed = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women)
    X = pd.DataFrame({"age": women["age"], "urban[Y]": (women["urban"] == "Y").astype(float)})
    by_hand = MixedLogisticRegression().fit(X, women["use"], groups=women["district"])
    rows = dict(X=X, y=women["use"], groups=women["district"])
    resampling = dict(method="bootstrap", n_resamples=20, random_state=0)
    for arguments in (dict(method="profile", parameters=["age"]), resampling):
        found, expected = mixed.conf_int(X=women, **arguments), by_hand.conf_int(**rows, **arguments)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    gee = GEELogisticRegression.from_formula("use ~ age", women, groups="district")
    assert gee.conf_int(X=women, **resampling).shape == (2, 2)
    with pytest.raises(ValueError, match="pass y=y"):
        mixed.conf_int(method="profile", X=women.drop(columns="use"))
