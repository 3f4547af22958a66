"""compare_models: mixed models fitted to real data; marginal models by stand-ins with their fitted attributes."""


import numpy as np
import pandas as pd
import pytest
from imagined_fits import imagined
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sklmm
from sklmm import GEELogisticRegression, MixedLogisticRegression, compare_models
from sklmm.datasets import load_contraception, load_ohio
from sklmm.fitted import FittedMarginal


def marginal(qic=100.0, **changes):
    model = {
        "quasi_likelihood_": -45.0,
        "qic_": qic,
        "qicu_": 96.0,
        "cic_": 5.0,
        "correlation_name_": "exchangeable",
        "classes_": np.array(["N", "Y"]),
        "n_obs_": 200.0,
        "n_groups_": {"ward": 20},
        "_fixed_effects": lambda: (["intercept", "x", "z"], np.zeros(3), np.eye(3)),
    }
    return imagined(FittedMarginal, {"converged_": True, **model, **changes})


@pytest.fixture(scope="module")
def fits():
    data = load_contraception(as_frame=True)
    X = pd.DataFrame({"age": data.data["age"], "urban": (data.data["urban"] == "Y").astype(float)})
    formulas = {"slope": "1 + urban | district", "intercept": "1 | district", "diagonal": "urban || district"}
    fits = {
        name: MixedLogisticRegression(formula).fit(X, data.target, groups=data.groups)
        for name, formula in formulas.items()
    }
    return fits, X, data


# --- mixed models -------------------------------------------------------------------------------------------


def test_mixed_models_lowest_aic_first(fits):
    fits, _, _ = fits
    table = compare_models(fits)
    assert list(table.columns) == ["log_likelihood", "n_parameters", "aic", "bic"]
    assert list(table.index) == sorted(fits, key=lambda name: fits[name].aic_)
    assert list(table.index) != list(fits)  # else the test could not tell
    # three coefficients; a variance, a variance and another, or these two and their covariance
    assert table["n_parameters"].to_dict() == {"intercept": 4, "diagonal": 5, "slope": 6}
    for name, fit in fits.items():
        assert table.loc[name, "log_likelihood"] == fit.log_likelihood_
        assert table.loc[name, "aic"] == pytest.approx(-2 * fit.log_likelihood_ + 2 * table.loc[name, "n_parameters"])
        assert table.loc[name, "bic"] == fit.bic_


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.AliasedFeaturesWarning")
def test_parameters_that_are_not_identified_do_not_count(fits):
    fits, X, data = fits
    wide = X.assign(twice=2 * X["age"])
    models = {
        "pooled": MixedLogisticRegression().fit(X, data.target),
        "aliased": MixedLogisticRegression("1 | district").fit(wide, data.target, groups=data.groups),
        "intercept": fits["intercept"],
    }
    assert compare_models(models)["n_parameters"].to_dict() == {"intercept": 4, "aliased": 4, "pooled": 3}


# --- marginal models ----------------------------------------------------------------------------------------


def test_marginal_models_lowest_qic_first():
    vcov = np.diag([1.0, np.nan, 2.0])
    models = {
        "independence": marginal(104.0, correlation_name_="independence", cic_=7.5),
        "ar1": marginal(101.5, correlation_name_="AR(1)", quasi_likelihood_=-44.5),
        "aliased": marginal(103.0, _fixed_effects=lambda: (["intercept", "x", "y"], np.zeros(3), vcov)),
    }
    table = compare_models(models)
    expected = pd.DataFrame(
        {
            "correlation": ["AR(1)", "exchangeable", "independence"],
            "n_coefficients": [3, 2, 3],
            "n_clusters": [20, 20, 20],
            "quasi_likelihood": [-44.5, -45.0, -45.0],
            "qic": [101.5, 103.0, 104.0],
            "qicu": [96.0, 96.0, 96.0],
            "cic": [5.0, 5.0, 7.5],
        },
        index=pd.Index(["ar1", "aliased", "independence"], name="model"),
    )
    pd.testing.assert_frame_equal(table, expected)


def test_fitted_marginal_models():
    X, y, child = load_ohio(return_X_y=True, as_frame=True)
    models = {
        name: GEELogisticRegression(name).fit(X, y, groups=child, time=X["age"])
        for name in ("independence", "exchangeable", "ar1")
    }
    table = compare_models(models)
    assert list(table.index) == sorted(models, key=lambda name: models[name].qic_)
    assert (table["n_clusters"] == 537).all() and (table["n_coefficients"] == 3).all()
    for name, model in models.items():
        assert table.loc[name, "qic"] == pytest.approx(-2 * model.quasi_likelihood_ + 2 * model.cic_, rel=1e-12)
        assert table.loc[name, "qicu"] == pytest.approx(-2 * model.quasi_likelihood_ + 2 * 3, rel=1e-12)
        assert table.loc[name, "correlation"] == model.correlation_name_
    kept = np.asarray(child) > 0
    models["fewer"] = GEELogisticRegression("ar1").fit(X[kept], y[kept], groups=child[kept], time=X["age"][kept])
    with pytest.raises(ValueError, match="'independence' and 'fewer' differ in their number of rows, 2,148 and 2,144"):
        compare_models(models)
    models["fewer"] = MixedLogisticRegression().fit(X, y, groups=child)
    with pytest.raises(ValueError, match="'fewer'.* have no criterion in common"):
        compare_models(models)


def test_a_criterion_that_is_undefined_comes_last():
    table = compare_models({"a": marginal(np.nan), "b": marginal(3.0), "c": marginal(2.0)})
    assert list(table.index) == ["c", "b", "a"]


def test_without_groups_every_row_is_a_cluster():
    assert compare_models({"a": marginal(n_groups_={})}).loc["a", "n_clusters"] == 200


def test_names_of_any_kind():
    table = compare_models({("ar1", 1): marginal(2.0), 7: marginal(1.0)})
    assert list(table.index) == [7, ("ar1", 1)]


# --- what cannot be compared --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"n_obs_": 1999.5}, "'first' and 'other' differ in their number of rows, 200 and 1,999.5"),
        ({"classes_": np.array(["N", "P"])}, r"differ in their classes, \['N', 'Y'\] and \['N', 'P'\]"),
        ({"classes_": np.array([0, 1])}, r"differ in their classes, \['N', 'Y'\] and \[0, 1\]"),
        ({"n_groups_": {"block": 10}}, "differ in their number of clusters, 20 and 10"),
        ({"n_groups_": {}}, "differ in their number of clusters, 20 and 200"),
    ],
)
def test_marginal_models_of_other_rows(changes, words):
    models = {"first": marginal(), "second": marginal(90.0), "other": marginal(**changes)}
    with pytest.raises(ValueError, match=f"only models of the same rows can be compared: .*{words}"):
        compare_models(models)


def test_mixed_models_of_other_rows(fits):
    fits, X, data = fits
    fewer = MixedLogisticRegression().fit(X[1:], data.target[1:], groups=data.groups[1:])
    with pytest.raises(ValueError, match="'slope' and 'fewer' differ in their number of rows, 1,934 and 1,933"):
        compare_models(fits | {"fewer": fewer})


def test_grouping_factors_of_mixed_models_may_differ(fits):
    fits, X, data = fits
    blocks = np.arange(len(X)) // 10
    other = MixedLogisticRegression().fit(X, data.target, groups=blocks)
    assert len(compare_models({"districts": fits["intercept"], "blocks": other})) == 2


def test_rounding_of_weights_is_no_difference():
    weights = np.random.default_rng(0).random(1000)
    sums = weights.sum(), np.add.reduce(weights[::-1]), sum(weights.tolist())
    assert len(set(map(float, sums))) > 1
    compare_models({i: marginal(n_obs_=float(total)) for i, total in enumerate(sums)})


def test_marginal_and_mixed_models_have_no_common_measure(fits):
    models = {"gee": marginal(), **fits[0]}
    with pytest.raises(ValueError, match=r"\('gee'\) and mixed models \('slope', 'intercept', 'diagonal'\)") as error:
        compare_models(models)
    assert "is no likelihood" in str(error.value)


def test_models_that_are_not_fitted(fits):
    with pytest.raises(NotFittedError, match="'b' is not fitted"):
        compare_models(fits[0] | {"b": MixedLogisticRegression()})


@pytest.mark.parametrize(
    "model, what",
    [
        (LogisticRegression().fit([[0.0], [1.0]], [0, 1]), "a LogisticRegression"),
        (make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [1.0]], [0, 1]), "a Pipeline"),
        (MixedLogisticRegression, "the class MixedLogisticRegression"),
        (None, "a NoneType"),
    ],
)
def test_other_models(model, what):
    with pytest.raises(TypeError, match=f"'other' is {what}; compare_models takes fitted"):
        compare_models({"a": marginal(), "other": model})


def test_what_is_not_a_dict_of_models(fits):
    fits, _, _ = fits
    for models, what in ((list(fits.values()), "list"), (fits["slope"], "MixedLogisticRegression"), (None, "None")):
        with pytest.raises(TypeError, match=f"takes a dict of names and fitted models.*got a {what}"):
            compare_models(models)
    with pytest.raises(ValueError, match="at least one model"):
        compare_models({})


def test_public_name():
    assert "compare_models" in sklmm.__all__ and "compare_models" in dir(sklmm)
    assert sklmm.compare_models is compare_models
