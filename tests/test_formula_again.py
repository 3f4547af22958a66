"""What a formula's model does with data frames after the fit: clones of it, and the rows of the fit again."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score

from sklmm import (
    GEELogisticRegression,
    MixedLogisticRegression,
    approximate_leave_group_out,
    cluster_influence,
)
from sklmm.datasets import load_cbpp, load_contraception, load_ohio

pytest.importorskip("formulaic")


@pytest.fixture(scope="module")
def women():
    return load_contraception(as_frame=True).frame


@pytest.fixture(scope="module")
def model(women):
    return MixedLogisticRegression.from_formula(
        "use ~ age*ch + I(age**2) + urban + (1 | urban:district)", women
    )


# Clones: cross-validation, searches ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixed", "marginal"])
def test_clones_read_the_formula_again(women, kind):
    """As cross_val_score makes them: a fit by the formula on the rows of each fold, labels in place of 0 and 1."""
    women = women.assign(use=np.where(women["use"] == 1, "yes", "no"))
    formula = "use ~ scale(age) + urban + C(livch, contr.sum)"

    def fit(rows):
        if kind == "mixed":
            return MixedLogisticRegression.from_formula(formula + " + (1 + urban | district)", rows)
        return GEELogisticRegression.from_formula(formula, rows, groups="district")

    folds = list(KFold(3, shuffle=True, random_state=0).split(women))
    found = cross_val_score(fit(women), women, women["use"], cv=folds, scoring="neg_log_loss")
    for score, (train, test) in zip(found, folds, strict=True):
        p = fit(women.iloc[train]).predict_proba(women.iloc[test])
        assert score == pytest.approx(-log_loss(women["use"].iloc[test], p), rel=1e-9)


def test_a_clone_does_not_take_the_response_for_a_feature(women):
    """With numbers alone nothing else would stop it."""
    numbers = women[["use", "age", "district"]]
    model = clone(clone(GEELogisticRegression.from_formula("use ~ age", numbers, groups="district")))
    again = model.fit(numbers, numbers["use"])
    assert list(again.feature_names_in_) == ["age"]
    assert again.n_groups_ == {"district": 60}
    alone = clone(model).fit(numbers.drop(columns="use"), numbers["use"])
    np.testing.assert_array_equal(alone.coef_, again.coef_)
    np.testing.assert_array_equal(alone.predict_proba(numbers), again.predict_proba(numbers))


def test_search_over_other_parameters(women):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    search = GridSearchCV(model, {"n_quadrature": [1, 5]}, scoring="neg_log_loss", cv=2).fit(women, women["use"])
    assert search.best_estimator_.n_groups_ == {"district": 60}


def test_groups_are_not_requested_where_a_formula_finds_them(women):
    with sklearn.config_context(enable_metadata_routing=True):
        model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
        scores = cross_val_score(
            model, women, women["use"], cv=GroupKFold(3), params={"groups": women["district"]}, scoring="neg_log_loss"
        )
    assert np.isfinite(scores).all()


def test_clones_refuse_what_contradicts_the_formula(women):
    model = clone(MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women))
    with pytest.raises(ValueError, match="leave out groups="):
        model.fit(women, women["use"], groups=women["district"])
    with pytest.raises(ValueError, match="names 'age', which is no column of the data"):
        model.fit(women[["district"]], women["use"])
    with pytest.raises(ValueError, match="y has 3 rows"):
        model.fit(women, women["use"].head(3))
    with pytest.raises(ValueError, match="random_effects or group_features was set"):
        model.set_params(random_effects="1 + age | district").fit(women, women["use"])


# The rows of the fit again: found in the data frame -----------------------------------------------------------


def test_refits_find_weights_groups_and_the_rows_that_were_left_out():
    herds = load_cbpp(as_frame=True).frame
    gaps = pd.concat([herds, herds.head(7).assign(period=None)], ignore_index=True)
    model = MixedLogisticRegression.from_formula(
        "ill ~ period + (1 | herd)", gaps, sample_weight="animals", missing="drop", n_quadrature=9
    )
    by_hand = MixedLogisticRegression.from_formula(
        "ill ~ period + (1 | herd)", herds, sample_weight=herds["animals"], n_quadrature=9
    )
    expected = by_hand.conf_int(method="profile", X=herds, sample_weight=herds["animals"])
    np.testing.assert_allclose(model.conf_int(method="profile", X=gaps), expected, rtol=1e-6)
    influence = cluster_influence(by_hand, herds, sample_weight=herds["animals"])
    np.testing.assert_allclose(cluster_influence(model, gaps), influence, rtol=1e-6)


def test_marginal_refits_find_groups_and_times():
    visits = load_ohio(as_frame=True).frame
    model = GEELogisticRegression.from_formula("resp ~ age + smoke", visits, groups="id", time="age",
                                               correlation="ar1")  # fmt: skip
    resampling = dict(method="bootstrap", n_resamples=5, random_state=0)
    found = model.conf_int(X=visits, **resampling)
    expected = model.conf_int(X=visits, y=visits["resp"], groups=visits["id"], time=visits["age"], **resampling)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="pass X=data, the data frame of the fit"):
        model.conf_int(method="bootstrap")


def test_refits_of_polars(model, women):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({name: women[name].astype(str).to_list() if women[name].dtype == "category"
                          else women[name].to_list() for name in women.columns})  # fmt: skip
    found = model.conf_int(method="profile", X=frame, parameters=["age"])
    np.testing.assert_allclose(found, model.conf_int(method="profile", X=women, parameters=["age"]), rtol=1e-9)


def test_leaving_groups_out_finds_them(women):
    model = GEELogisticRegression.from_formula("use ~ age", women, groups="district")
    found = approximate_leave_group_out(model, women, women["use"])
    expected = approximate_leave_group_out(model, women, women["use"], groups=women["district"])
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_new_rows_with_missing_values(women):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women, missing="drop")
    rows = women.head(3).assign(age=[1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match=r"in 'age' \(1\): fill them in or leave these rows out"):
        model.predict(rows)
    assert np.isnan(model.predict_proba(rows)).all(axis=1).tolist() == [False, True, False]
    assert np.isnan(model.decision_function(rows.assign(age=np.nan))).all()
    strict = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    with pytest.raises(ValueError, match=r"in 'age' \(1\): fill them in or leave these rows out"):
        strict.predict_proba(rows)


def test_a_search_over_random_effects_says_that_a_formula_has_its_own(women):
    """Not a search whose candidates, all but the formula's own, fail one by one."""
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    grid = {"random_effects": [["1 | district"], "1 + age | district"]}
    with pytest.raises(ValueError, match="To search over random effects, compare one model a formula"):
        GridSearchCV(model, grid, cv=GroupKFold(2)).fit(women, women["use"], groups=women["district"])
    search = GridSearchCV(model, {"n_quadrature": [1, 3], "random_effects": [model.random_effects]}, cv=GroupKFold(2))
    assert np.isfinite(search.fit(women, women["use"], groups=women["district"]).cv_results_["mean_test_score"]).all()
