"""check_model: inflation factors against their definition, and each verdict from a fit that deserves it."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    cluster_influence,
    random_effects_normality,
)
from sklmm.datasets import (
    load_cbpp,
    load_contraception,
    load_penicillin,
    make_clustered_classification,
    make_clustered_regression,
)
from sklmm.inference.collinearity import condition_number, variance_inflation

CLASSES = [MixedLogisticRegression, GEELogisticRegression, MixedLinearRegression, GEELinearRegression]


def rows_for(estimator, n=400, n_groups=20):
    make = make_clustered_regression if "Linear" in estimator.__name__ else make_clustered_classification
    return make(n, 3, n_groups=n_groups, random_state=0)


def quietly(estimator, *rows, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(*rows, **given)


def verdicts(model, *rows, **given):
    return model.check_model(*rows, **given).table["verdict"]


# Collinearity --------------------------------------------------------------------------------------------------------


def inflation_of_a_feature(X, j):
    """1 / (1 - R2) of the regression of a column on all others and a constant."""
    A = np.column_stack([np.ones(len(X)), np.delete(X, j, axis=1)])
    left = X[:, j] - A @ np.linalg.lstsq(A, X[:, j], rcond=None)[0]
    return np.var(X[:, j]) / np.mean(left**2)


@pytest.mark.parametrize("estimator", [MixedLinearRegression, GEELinearRegression])
def test_factors_of_least_squares(estimator):
    X, y, _ = rows_for(estimator)
    X = X + 100 * X[:, [0]] + 1000
    model = quietly(estimator(), X, y)
    check = model.check_model(X, y)
    expected = [inflation_of_a_feature(X, j) for j in range(3)]
    np.testing.assert_allclose(check.inflation["gvif"], expected, rtol=1e-6)
    assert check.table.loc["collinearity", "value"] == pytest.approx(max(expected))
    assert check.table.loc["collinearity", "verdict"] == "problem"


def test_factors_of_terms_do_not_depend_on_their_coding():
    """Fox and Monette: the determinant of the correlation matrix of the design's columns, block by block."""
    random = np.random.default_rng(0)
    f = random.choice(list("abcd"), 300)
    x = random.normal(size=300) + (f == "a") + 2 * (f == "b")
    data = pd.DataFrame({"f": f, "x": x, "z": random.normal(size=300), "y": random.normal(size=300)})
    found = {}
    for coding in ("C(f)", "C(f, contr.sum)"):
        model = MixedLinearRegression.from_formula(f"y ~ {coding} + x + z", data)
        found[coding] = model.check_model().inflation.to_numpy()
    np.testing.assert_allclose(*found.values(), rtol=1e-9)
    D = np.column_stack([f == "b", f == "c", f == "d", x, data.z]).astype(float)
    R, block = np.corrcoef(D.T), [0, 1, 2]
    det = np.linalg.det
    gvif = det(R[np.ix_(block, block)]) * det(R[3:, 3:]) / det(R)
    np.testing.assert_allclose(found["C(f)"][0], [3, gvif, gvif ** (1 / 6)], rtol=1e-8)


def test_factors_that_are_not_there():
    table = variance_inflation(["a", "b"], np.diag([1.0, np.nan]), {})
    assert len(table) == 0
    table = variance_inflation(["a", "b"], np.array([[1.0, 1.0], [1.0, 1.0]]), {})
    assert np.isinf(table["gvif"]).all()


def test_condition_numbers():
    random = np.random.default_rng(0)
    Q = np.linalg.qr(random.normal(size=(50, 3)) - 0.0)[0]
    assert condition_number(Q * [1, 1e6, 1e-6], centred=False) == pytest.approx(1)
    X = random.normal(size=(50, 3)) + [1e6, 0, -5]
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    assert condition_number(X) == pytest.approx(np.linalg.cond(Z), rel=1e-6)
    w = random.integers(0, 4, 50).astype(float)
    assert condition_number(X, w) == pytest.approx(condition_number(np.repeat(X, w.astype(int), axis=0)), rel=1e-6)
    assert condition_number(np.column_stack([X[:, 0], X[:, 0]])) == np.inf


# Verdicts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", CLASSES)
def test_good_fits(estimator):
    X, y, groups = rows_for(estimator, 1200, 60)
    model = quietly(estimator(), X, y, groups=groups)
    check = model.check_model(X, y, groups)
    assert set(check.table["verdict"]) == {"ok"}, check
    assert check.verdict == "ok"
    without = model.check_model()
    missing = without.table["verdict"] == "not checked"
    assert without.table.loc[missing, "finding"].str.startswith("pass X, y, groups").all()
    assert {"condition number", "residuals"} <= set(without.table.index[missing])
    assert without.table.loc["influential groups", "verdict"] == "ok"


@pytest.mark.parametrize("estimator", CLASSES)
def test_aliased_columns_and_no_groups(estimator):
    X, y, groups = rows_for(estimator)
    model = quietly(estimator(), np.column_stack([X, X[:, 0] - X[:, 1]]), y)
    found = model.check_model().table
    assert found.loc["aliased columns", "verdict"] == "look"
    assert "'x3'" in found.loc["aliased columns", "finding"]
    assert found.loc["groups", "verdict"] == "look"
    assert "influential groups" not in found.index


@pytest.mark.parametrize("estimator", CLASSES)
def test_fits_that_did_not_converge(estimator):
    X, y, groups = rows_for(estimator)
    model = quietly(estimator(max_iter=1), X, y, groups=groups)
    assert not model.converged_
    found = model.check_model(X, y, groups).table
    assert found.loc["convergence", "verdict"] == "problem"
    assert found.loc["collinearity", "verdict"] == "not checked"
    assert found.loc["residuals, influence", "verdict"] == "not checked"


@pytest.mark.parametrize("estimator", [MixedLogisticRegression, GEELogisticRegression])
def test_separation(estimator):
    X, y, groups = rows_for(estimator)
    X[:, 2] = y
    found = quietly(estimator(), X, y, groups=groups).check_model(X, y, groups).table
    assert found.loc["separation", "verdict"] == "problem"
    assert "'x2'" in found.loc["separation", "finding"]


def test_singular_fits_and_few_groups():
    random = np.random.default_rng(1)
    X, groups = random.normal(size=(120, 2)), np.arange(120) % 4
    y = X[:, 0] + random.normal(size=120)
    y -= pd.Series(y - X[:, 0]).groupby(groups).transform("mean")
    found = quietly(MixedLinearRegression(), X, y, groups=groups).check_model(X, y, groups).table
    assert found.loc["singular fit", "verdict"] == "look"
    assert found.loc["number of group", ["verdict", "value"]].tolist() == ["problem", 4]
    y = (y > 0).astype(int)
    marginal = quietly(GEELogisticRegression(), X, y, groups=np.arange(120) % 12)
    assert verdicts(marginal)["number of group"] == "look"
    marginal = quietly(GEELogisticRegression(cov_type="mancl-derouen"), X, y, groups=np.arange(120) % 12)
    assert verdicts(marginal)["number of group"] == "ok"


def test_laplaces_error_is_that_of_the_fit():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 3)
    X = random.normal(size=(240, 1))
    y = (random.uniform(size=240) < expit(X[:, 0] + 2.5 * random.normal(size=80)[groups])).astype(int)
    rough = quietly(MixedLogisticRegression(), X, y, groups=groups)
    line = rough.check_model().table.loc["approximation"]
    assert line["verdict"] in ("look", "problem")
    assert line["value"] == rough._fitted.approximation_error > 0.1
    fine = quietly(MixedLogisticRegression(n_quadrature="auto"), X, y, groups=groups)
    assert verdicts(fine)["approximation"] == "ok"
    crossed = np.column_stack([groups, np.arange(240) % 30])
    line = quietly(MixedLogisticRegression(), X, y, groups=crossed).check_model().table.loc["approximation"]
    assert line["verdict"] == "not checked"


def test_an_influential_group():
    X, y, groups = rows_for(MixedLinearRegression)
    y = y + 12.0 * (groups == 3) * X[:, 0]
    model = quietly(MixedLinearRegression(), X, y, groups=groups)
    line = model.check_model(X, y, groups).table.loc["influential groups"]
    distance = cluster_influence(model, X, y, groups)["cooks_distance"]
    assert line["value"] == pytest.approx(distance.max()) and distance.idxmax() == 3
    assert line["verdict"] == "problem" and "group 3" in line["finding"]


def test_residuals_that_are_not_normal():
    X, y, groups = rows_for(MixedLinearRegression, 1000, 50)
    random = np.random.default_rng(0)
    skewed = X[:, 0] + random.normal(size=50)[groups % 50] + 3 * (random.exponential(size=1000) ** 2)
    for estimator in (MixedLinearRegression(), GEELinearRegression()):
        for target, verdict in ((y, "ok"), (skewed, "problem")):
            found = verdicts(quietly(estimator, X, target, groups=groups), X, target, groups)
            assert found["residuals"] == verdict


def test_residuals_that_spread():
    X, y, groups = rows_for(MixedLinearRegression, 1000, 50)
    random = np.random.default_rng(0)
    spread = 5 * X[:, 0] + random.normal(size=50)[groups % 50] + np.exp(0.7 * X[:, 0]) * random.normal(size=1000)
    model = quietly(MixedLinearRegression(), X, spread, groups=groups)
    assert verdicts(model, X, spread, groups)["spread of residuals"] == "problem"
    assert verdicts(quietly(MixedLinearRegression(), X, y, groups=groups), X, y, groups)["spread of residuals"] == "ok"


def test_counts_with_more_variation_than_binomial():
    """Lines of successes that differ more than binomials do, in a model without an effect for that."""
    random = np.random.default_rng(0)
    herd = np.repeat(np.arange(60), 4)
    p = expit(-1 + 1.5 * random.normal(size=240))
    data = pd.DataFrame({"herd": herd, "size": 40, "x": random.normal(size=240), "k": random.binomial(40, p)})
    model = MixedLogisticRegression.from_formula("k | size ~ x + (1 | herd)", data)
    found = model.check_model(data).table
    assert found.loc["overdispersion", "verdict"] == "problem"
    cattle = load_cbpp(as_frame=True).frame
    model = MixedLogisticRegression.from_formula("incidence | size ~ period + (1 | herd)", cattle)
    assert "not checked" not in set(model.check_model(cattle).table["verdict"])


def test_false_alarms_are_rare():
    """Tests of rows that the model has made reject at about their level, groups and all: 1 % of 60 fits."""
    random, alarms = np.random.default_rng(0), 0
    groups = np.repeat(np.arange(30), 8)
    for _ in range(60):
        X = random.normal(size=(240, 1))
        y = X[:, 0] + 2 * random.normal(size=30)[groups] + random.normal(size=240)
        model = quietly(GEELinearRegression(), X, y, groups=groups)
        found = verdicts(model, X, y, groups)
        alarms += (found["residuals"] != "ok") + (found["spread of residuals"] != "ok")
    assert alarms <= stats.binom.ppf(0.999, 120, 0.01)


def test_normality_of_random_effects():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 10)
    level = random.exponential(size=80) ** 2
    y = level[groups] + 0.3 * random.normal(size=800)
    model = quietly(MixedLinearRegression(), np.zeros((800, 0)), y, groups=groups)
    line = model.check_model().table.loc["normality of intercept | group"]
    assert line["verdict"] == "look"
    assert line["value"] == random_effects_normality(model, n_simulations=49).loc[("group", "intercept"), "p_value"]


# Rows ----------------------------------------------------------------------------------------------------------------


def test_formulas_weights_and_several_factors():
    women = load_contraception(as_frame=True).frame.iloc[::3].reset_index(drop=True)
    weights = np.random.default_rng(0).integers(0, 3, len(women))
    data = women.assign(w=weights)
    given = {"sample_weight": "w"}
    mixed = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", data, **given)
    assert "not checked" not in set(mixed.check_model(data).table["verdict"])
    marginal = GEELogisticRegression.from_formula("use ~ age + urban", data, groups="district", **given)
    found = marginal.check_model(data).table
    assert found.loc["residuals", "verdict"] == "not checked"
    assert "pass every row once" in found.loc["residuals", "finding"]
    holes = women.assign(age=women.age.where(women.index % 9 != 0))
    dropped = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", holes, missing="drop")
    assert "not checked" not in set(dropped.check_model(holes).table["verdict"])
    plates = load_penicillin(as_frame=True).frame
    crossed = MixedLinearRegression.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", plates)
    found = crossed.check_model(plates).table
    assert found.loc["influential groups", "verdict"] == "not checked"
    assert found.loc["residuals", "verdict"] == "ok"


@pytest.mark.parametrize("estimator", CLASSES)
def test_other_rows_are_refused(estimator):
    X, y, groups = rows_for(estimator)
    model = quietly(estimator(), X, y, groups=groups)
    with pytest.raises(ValueError, match="needs the rows of the fit"):
        model.check_model(X[:-1], y[:-1], groups[:-1])
    with pytest.raises(ValueError, match="pass y=y"):
        model.check_model(X)
    shuffled = np.random.default_rng(0).permutation(len(y))
    for other in [(X + 1e-3, y, groups), (X, y[shuffled], groups), (X, y, groups[shuffled])]:
        with pytest.raises(ValueError, match="these are not: "):
            model.check_model(*other)
    model.check_model(X[shuffled], y[shuffled], groups[shuffled])


def test_offsets_and_precision():
    X, y, groups = rows_for(MixedLinearRegression)
    offset, precision = X[:, 2], np.exp(X[:, 1] / 3)
    model = quietly(MixedLinearRegression(), X[:, :2], y, groups, offset=offset, precision_weight=precision)
    check = model.check_model(X[:, :2], y, groups, offset=offset, precision_weight=precision)
    assert "not checked" not in set(check.table["verdict"])


def test_it_prints_whole():
    X, y, groups = rows_for(MixedLogisticRegression)
    check = quietly(MixedLogisticRegression(), X, y, groups=groups).check_model()
    text, html = str(check), check._repr_html_()
    assert text.startswith("MixedLogisticRegression: ")
    for name in check.table.index:
        assert name in text
        assert name in html
    assert check.to_frame().equals(pd.DataFrame(check.table))


def test_many_rows_are_not_fitted_again():
    """A hundred fits of many rows are for the user to ask for; a linear model with one factor needs none."""
    X, y, groups = rows_for(MixedLinearRegression, 6000, 60)
    found = quietly(MixedLinearRegression(), X, y, groups=groups).check_model(X, y, groups).table
    assert found.loc["normality of intercept | group", "verdict"] != "not checked"
    X, y, groups = rows_for(MixedLogisticRegression, 6000, 60)
    found = quietly(MixedLogisticRegression(), X, y, groups=groups).check_model().table
    assert "random_effects_normality" in found.loc["normality of random effects", "finding"]
