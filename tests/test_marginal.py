"""Population-averaged coefficients and average marginal effects, against brute force."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import AliasedFeaturesWarning, NoGroupsWarning, NotEstimableWarning, SeparationWarning
from sklmm.families import bernoulli
from sklmm.prediction.population import probability_and_gradient


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        3000, 2, n_groups=150, coef=[1.0, -0.5], covariance=[[2.0, 0.3], [0.3, 0.5]], random_state=1
    )
    frame = pd.DataFrame(X, columns=["dose", "age"])
    frame["town"] = (np.arange(len(X)) % 3 == 0).astype(float)
    return frame, y, pd.Series(groups, name="clinic")


@pytest.fixture(scope="module")
def slopes(data):
    X, y, groups = data
    return MixedLogisticRegression("1 + dose | clinic").fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def gee(data):
    X, y, groups = data
    return GEELogisticRegression().fit(X, y, groups=groups)


def _moved(model, parameter, step):
    """A copy of a mixed model with one of its parameters (beta, theta) moved, and the covariance with it."""
    moved = copy.copy(model)
    n_fixed = len(model._fitted.fixed_names)
    beta = np.concatenate([model.intercept_, model.coef_[0]])
    theta = model._fitted.theta[0].copy()
    if parameter < n_fixed:
        beta[parameter] += step
    else:
        theta[parameter - n_fixed] += step
    moved.intercept_, moved.coef_ = beta[:1], beta[None, 1:]
    factor = np.zeros((2, 2))
    factor[[0, 1, 1], [0, 0, 1]] = theta[[0, 1, 2]]
    grouping = copy.copy(model._fitted.factors[0])
    grouping.covariance = factor @ factor.T
    grouping.units = replace(grouping.units, Lambda=np.linalg.solve(grouping.units.to_natural, factor))
    moved._fitted = replace(model._fitted, theta=[theta], factors=[grouping])
    return moved


def _numerical_errors(model, quantities, step=1e-4):
    """Delta-method errors of quantities(model) with the gradient by differences."""
    vcov = np.nan_to_num(model._fitted.vcov)
    up, down = (np.column_stack([quantities(_moved(model, k, s)) for k in range(len(vcov))]) for s in (step, -step))
    J = (up - down) / (2 * step)
    return np.sqrt(np.diag(J @ vcov @ J.T))


def _population(model, X):
    return model.predict_proba(X, predict_effects="marginal")[:, 1]


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")
def test_order_of_theta(slopes):
    """The helper above knows in which order the entries of the covariance factor are stored."""
    np.testing.assert_allclose(
        _moved(slopes, 0, 0.0)._fitted.factors[0].covariance, slopes.covariance_["clinic"], rtol=1e-10
    )


@pytest.mark.parametrize("sd", [0.0, 1e-4, 0.3, 1.0, 4.0, 12.0])
def test_probability_is_the_integral(slopes, sd):
    X = np.random.default_rng(0).normal(0, 2, (50, 3))

    def at(sd):
        """The model with a random intercept alone, at the mean of the slope's feature, where the fit counts it from."""
        model = copy.copy(slopes)
        factor = copy.copy(slopes._fitted.factors[0])
        factor.units = replace(factor.units, Lambda=np.diag([sd, 0.0]))
        model._fitted = replace(slopes._fitted, factors=[factor])
        return model

    model = at(sd)
    p, logit_p, gradient = probability_and_gradient(model, X)
    z = np.linspace(-9, 9, 20001)
    w = norm.pdf(z) / norm.pdf(z).sum()
    eta = slopes.intercept_[0] + X @ slopes.coef_[0]
    expected = expit(eta[:, None] + sd * z) @ w
    np.testing.assert_allclose(p, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(logit_p, logit(expected), rtol=1e-6, atol=1e-7)
    above, below = (probability_and_gradient(at(sd + step), X)[0] for step in (1e-5, -1e-5))
    np.testing.assert_allclose(gradient[:, 4], (above - below) / 2e-5, atol=1e-8)


def test_marginal_coefficients_are_the_regression_of_averaged_logits(data, slopes):
    X, _, _ = data

    def regression(model):
        design = np.column_stack([np.ones(len(X)), X])
        return np.linalg.lstsq(design, logit(_population(model, X)), rcond=None)[0]

    table = slopes.marginal_coefficients(X)
    assert list(table.index) == ["intercept", "dose", "age", "town"]
    np.testing.assert_allclose(table["estimate"], regression(slopes), rtol=1e-7)
    np.testing.assert_allclose(table["std_error"], _numerical_errors(slopes, regression), rtol=1e-5)
    np.testing.assert_allclose(table["odds_ratio"], np.exp(table["estimate"]))
    np.testing.assert_allclose(table["upper"] - table["lower"], 2 * 1.959964 * table["std_error"], rtol=1e-6)


def test_marginal_coefficients_are_those_that_independence_estimates():
    """Fitted without regard to groups, data of a mixed model have the marginal coefficients as their limit."""
    X, y, groups = make_clustered_classification(
        200_000, 2, n_groups=20_000, coef=[1.0, -0.5], covariance=2.0, random_state=3
    )
    mixed = MixedLogisticRegression(n_quadrature=7).fit(X, y, groups=groups)
    marginal = mixed.marginal_coefficients(X)
    gee = GEELogisticRegression("independence").fit(X, y, groups=groups)
    estimates = np.concatenate([gee.intercept_, gee.coef_[0]])
    np.testing.assert_allclose(marginal["estimate"], estimates, atol=0.02)
    np.testing.assert_allclose(marginal["std_error"], np.sqrt(np.diag(gee.vcov_)), rtol=0.1)
    variance = mixed.covariance_["group"].iloc[0, 0]
    attenuated = mixed.coef_[0] / np.sqrt(1 + 0.346 * variance)
    # the rule of thumb is itself a few per cent off
    np.testing.assert_allclose(marginal["estimate"].to_numpy()[1:], attenuated, rtol=0.05)


def test_marginal_coefficients_without_rows(data, slopes):
    """From the moments that the fit keeps, against the rows themselves."""
    X, y, groups = data
    intercepts = MixedLogisticRegression().fit(X, y, groups=groups)
    with_rows = intercepts.marginal_coefficients(X)
    near = 0.05 * with_rows["std_error"]
    found = intercepts.marginal_coefficients()
    assert ((found - with_rows)["estimate"].abs() < near).all()
    np.testing.assert_allclose(found["std_error"], with_rows["std_error"], rtol=0.05)
    with pytest.raises(ValueError, match="sample_weight weighs the rows of X: pass X, too"):
        slopes.marginal_coefficients(sample_weight=np.ones(len(X)))
    # with a random slope they are as near as the mean variance is a summary of all
    table = slopes.marginal_coefficients(level=0.9)
    assert ((table - slopes.marginal_coefficients(X))["estimate"].abs() < table["std_error"]).all()
    np.testing.assert_allclose(table["upper"] - table["lower"], 2 * 1.644854 * table["std_error"], rtol=1e-6)
    both = MixedLogisticRegression().fit(X, y, groups=pd.DataFrame({"clinic": groups, "day": np.arange(len(X)) % 30}))
    assert ((both.marginal_coefficients() - both.marginal_coefficients(X))["estimate"].abs() < near).all()
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    np.testing.assert_allclose(
        plain.marginal_coefficients()["estimate"], np.append(plain.intercept_, plain.coef_[0]), rtol=1e-9
    )
    np.testing.assert_allclose(plain.marginal_coefficients()["std_error"], np.sqrt(np.diag(plain.vcov_)), rtol=1e-9)


def test_marginal_coefficients_of_normal_features_need_no_rows():
    X, y, groups = make_clustered_classification(
        50_000, 2, n_groups=2_000, coef=[1.5, -1.0], intercept=-1.5, covariance=4.0, random_state=0
    )
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    ours, theirs = model.marginal_coefficients(), model.marginal_coefficients(X)
    np.testing.assert_allclose(ours["estimate"], theirs["estimate"], rtol=2e-3)
    np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=0.05)  # beta moves the mean slope, too


def test_without_groups_nothing_changes(data):
    X, y, _ = data
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    table = plain.marginal_coefficients(X)
    np.testing.assert_allclose(table["estimate"], np.r_[plain.intercept_, plain.coef_[0]], rtol=1e-9)
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(plain.vcov_)), rtol=1e-9)


def test_weights_count_rows(data, slopes):
    X, _, _ = data
    few, weights = X.iloc[:60], np.arange(60) % 4
    repeated = few.loc[few.index.repeat(weights)]
    for method in (slopes.marginal_coefficients, slopes.average_marginal_effects):
        pd.testing.assert_frame_equal(method(few, sample_weight=weights), method(repeated), rtol=1e-9)


def test_aliased_columns_stay_out(data):
    X, y, groups = data
    model = MixedLogisticRegression()
    with pytest.warns(UserWarning, match="twice"):
        model.fit(X.assign(twice=2 * X["dose"]), y, groups=groups)
    table = model.marginal_coefficients(X.assign(twice=2 * X["dose"]))
    assert table.loc["twice", "estimate"] == 0 and np.isnan(table.loc["twice", "std_error"])
    effects = model.average_marginal_effects(X.assign(twice=2 * X["dose"]))
    assert list(effects.index) == ["dose", "age", "town"]
    assert np.isfinite(effects.to_numpy()).all()


def test_rows_that_do_not_determine_the_coefficients(data, slopes):
    X, _, _ = data
    with pytest.raises(ValueError, match="do not determine the coefficients"):
        slopes.marginal_coefficients(X[X["town"] == 0])


def test_average_marginal_effects_of_a_mixed_model(data, slopes):
    X, _, _ = data
    table = slopes.average_marginal_effects(X)
    assert list(table.index) == ["dose", "age", "town"]

    def effects(model):
        step = 1e-3
        found = [
            np.mean(_population(model, X.assign(**{f: X[f] + step})) - _population(model, X.assign(**{f: X[f] - step})))
            / (2 * step)
            for f in ("dose", "age")
        ]
        change = _population(model, X.assign(town=1.0)) - _population(model, X.assign(town=0.0))
        return np.array([*found, change.mean()])

    np.testing.assert_allclose(table["estimate"], effects(slopes), rtol=1e-5)
    np.testing.assert_allclose(table["std_error"], _numerical_errors(slopes, effects), rtol=1e-4)


def test_average_marginal_effects_in_the_typical_group(data, slopes):
    X, _, _ = data
    table = slopes.average_marginal_effects(X, "age", predict_effects="zero")
    p = expit(slopes.intercept_[0] + X.to_numpy() @ slopes.coef_[0])
    assert table.loc["age", "estimate"] == pytest.approx(np.mean(p * (1 - p)) * slopes.coef_[0, 1], rel=1e-7)


def test_average_marginal_effects_of_a_marginal_model(data, gee):
    X, _, _ = data
    table = gee.average_marginal_effects(X, ["age", "dose"])
    p = expit(gee.intercept_[0] + X.to_numpy() @ gee.coef_[0])
    slope = p * (1 - p)
    estimate = slope.mean() * gee.coef_[0, 1]
    assert table.loc["age", "estimate"] == pytest.approx(estimate, rel=1e-7)
    design = np.column_stack([np.ones(len(X)), X])
    gradient = design.T @ (slope * (1 - 2 * p)) / len(X) * gee.coef_[0, 1]
    gradient[2] += slope.mean()
    assert table.loc["age", "std_error"] == pytest.approx(np.sqrt(gradient @ gee.vcov_ @ gradient), rel=1e-6)


def test_few_clusters_use_t(data):
    X, y, groups = data
    few = groups < 20
    model = GEELogisticRegression().fit(X[few], y[few], groups=groups[few])
    table = model.average_marginal_effects(X[few], "age")
    assert "t" in table.columns
    assert (table["upper"] - table["estimate"]).iloc[0] > 2.05 * table["std_error"].iloc[0]


def test_groups_in_X_play_no_part(data, slopes):
    X, y, groups = data
    frame = X.assign(clinic=groups.map("clinic {}".format))
    model = MixedLogisticRegression("1 + dose | clinic", group_features="clinic").fit(frame, y)
    pd.testing.assert_frame_equal(model.average_marginal_effects(frame), slopes.average_marginal_effects(X), rtol=1e-5)


def test_bad_input(data, slopes):
    X, _, _ = data
    with pytest.raises(ValueError, match="no feature of the model"):
        slopes.average_marginal_effects(X, "weight")
    with pytest.raises(ValueError, match="'marginal' or 'zero'"):
        slopes.average_marginal_effects(X, predict_effects="mode")
    with pytest.raises(ValueError, match="level must be between"):
        slopes.marginal_coefficients(X, level=95)


# What a change is, is for the fit to say -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(7)
    g, age = rng.integers(0, 40, 1500), rng.uniform(20, 80, 1500)
    frame = pd.DataFrame({"g": g, "age": age, "dose": rng.normal(size=1500), "arm": rng.integers(0, 2, 1500)})
    frame["arm"], frame["treated"] = frame["arm"] + 1, rng.random(1500) < 0.4
    frame["grade"] = rng.choice([1, 2, 3], 1500)
    eta = np.sin(age / 12) + 0.8 * frame["dose"] + 0.7 * frame["treated"] - 0.5 * frame["arm"] + rng.normal(size=40)[g]
    frame["y"] = (rng.random(1500) < expit(eta)).astype(int)
    return frame


@pytest.fixture(scope="module", params=["mixed", "gee"])
def formula_model(table, request):
    fixed = "y ~ bs(age, df=5) + dose + arm + treated + C(grade) + log(age)"
    if request.param == "mixed":
        return MixedLogisticRegression.from_formula(f"{fixed} + (1 | g)", table, n_threads=1)
    return GEELogisticRegression.from_formula(fixed, table, groups="g", n_threads=1)


def _p(model, rows):
    if isinstance(model, MixedLogisticRegression):
        return _population(model, rows)
    return model.predict_proba(rows)[:, 1]


def _slope(model, rows, name, low=-np.inf, high=np.inf, step=1e-3):
    """The mean slope by differences that stay in a range."""
    upper, lower = np.minimum(rows[name] + step, high), np.maximum(rows[name] - step, low)
    change = _p(model, rows.assign(**{name: upper})) - _p(model, rows.assign(**{name: lower}))
    return np.mean(change / (upper - lower))


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")
@pytest.mark.parametrize("rows", ["all", "two", "one", "edges", "at a value", "treated", "mean"])
def test_effects_over_any_rows(table, formula_model, rows):
    X = {
        "all": table,
        "two": table.iloc[[3, 8]],
        "one": table.iloc[[5]],
        "edges": table.loc[[table["age"].idxmin(), table["age"].idxmax()]],
        "at a value": table.assign(age=50.0, dose=0.0, arm=2, grade=1),
        "treated": table[table["treated"]],
        "mean": table.iloc[:1].assign(age=table["age"].mean(), dose=table["dose"].mean()),
    }[rows]
    found = formula_model.average_marginal_effects(X)
    grades = ["grade (2 - 1)", "grade (3 - 1)"]
    assert sorted(found.index) == sorted(["age", "arm", "dose", *grades, "treated (True - False)"])
    assert np.isfinite(found.to_numpy()).all()
    ends = table["age"].min(), table["age"].max()
    rtol = 1e-4 if rows in ("edges", "all") else 2e-5
    assert found.loc["age", "estimate"] == pytest.approx(_slope(formula_model, X, "age", *ends), rel=rtol, abs=2e-7)
    assert found.loc["dose", "estimate"] == pytest.approx(_slope(formula_model, X, "dose"), rel=1e-6)

    def change(**values):
        name, (low, high) = next(iter(values.items()))
        return np.mean(_p(formula_model, X.assign(**{name: high})) - _p(formula_model, X.assign(**{name: low})))

    assert found.loc["arm", "estimate"] == pytest.approx(change(arm=(1, 2)), rel=1e-8)
    assert found.loc["treated (True - False)", "estimate"] == pytest.approx(change(treated=(False, True)), rel=1e-8)
    for name, grade in zip(grades, (2, 3), strict=True):
        assert found.loc[name, "estimate"] == pytest.approx(change(grade=(1, grade)), rel=1e-8)


@pytest.mark.parametrize("estimator", [MixedLogisticRegression(), GEELogisticRegression()])
def test_effects_of_batches_are_those_of_all_rows(table, estimator):
    X = table[["dose", "age", "arm"]].astype(float)
    model = estimator.fit(X, table["y"], groups=table["g"])
    rows = X.iloc[:40]
    whole = model.average_marginal_effects(rows)["estimate"]
    for size in (1, 2, 5):
        batches = [model.average_marginal_effects(rows.iloc[i : i + size])["estimate"] for i in range(0, 40, size)]
        np.testing.assert_allclose(np.mean(batches, axis=0), whole, rtol=1e-7)
    at = X.assign(dose=0.0, arm=2.0)
    found = model.average_marginal_effects(at)["estimate"]
    assert found["dose"] == pytest.approx(_slope(model, at, "dose", step=1e-4), rel=1e-6)
    assert found["arm"] == pytest.approx(np.mean(_p(model, at) - _p(model, at.assign(arm=1.0))), rel=1e-8)


def test_a_variable_of_one_value_has_no_effect(table):
    with pytest.warns(AliasedFeaturesWarning):
        rows = table.assign(flag=True, one=1.0)
        model = MixedLogisticRegression.from_formula("y ~ dose + flag + one + (1 | g)", rows)
    with pytest.raises(ValueError, match="'flag' took one value in the fit"):
        model.average_marginal_effects(rows, "flag")
    with pytest.warns(NotEstimableWarning, match="not estimable, and NaN: 'one'"):
        effects = model.average_marginal_effects(rows)
    assert effects["estimate"].isna().to_dict() == {"dose": False, "one": True}


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(2)
    g = rng.integers(0, 30, 2000)
    frame = pd.DataFrame({"g": g, "f": rng.choice(list("abc"), 2000), "k": rng.choice(list("uv"), 2000)})
    frame["x"] = rng.normal(size=2000)
    eta = 0.5 * (frame["f"] == "b") - 0.4 * (frame["f"] == "c") + 0.8 * ((frame["f"] == "b") & (frame["k"] == "v"))
    frame["y"] = (rng.random(2000) < expit(eta + rng.normal(size=30)[g])).astype(int)
    return frame[~((frame["f"] == "a") & (frame["k"] == "u"))]


ORDERS = [["a", "b", "c"], ["b", "a", "c"], ["c", "b", "a"]]


@pytest.mark.parametrize("kind", ["mixed", "gee"])
def test_a_cell_without_data_has_no_prediction_and_no_effect(cells, kind):
    found = []
    for order in ORDERS:
        frame = cells.assign(f=pd.Categorical(cells["f"], order))
        with pytest.warns(AliasedFeaturesWarning):
            if kind == "mixed":
                model = MixedLogisticRegression.from_formula("y ~ f*k + x + (1 | g)", frame)
            else:
                model = GEELogisticRegression.from_formula("y ~ f*k + x", frame, groups="g")
        with warnings.catch_warnings():
            warnings.simplefilter("error", NotEstimableWarning)
            model.predict_proba(frame), model.predict(frame), model.decision_function(frame)
            here = model.average_marginal_effects(frame[frame["k"] == "v"], "f")["estimate"]
            assert np.isfinite(model.average_marginal_effects(frame, "x")).all(axis=None)
        empty = frame.iloc[:4].assign(f=pd.Categorical(["a", "b", "a", "c"], order), k=["u", "u", "v", "u"])
        for method in (model.predict_proba, model.predict, model.predict_log_proba, model.decision_function):
            with pytest.warns(NotEstimableWarning, match="1 of 4 rows hold combinations of columns that did") as record:
                method(empty)
            assert record[0].filename == __file__
        with pytest.warns(NotEstimableWarning, match="not estimable, and NaN: ") as record:
            effects = model.average_marginal_effects(frame, "f")
        assert record[0].filename == __file__ and "not estimable" in str(effects)
        for name, row in effects.iterrows():
            assert row.isna().all() == ("a" in name.split("(")[1])
        ends = {level: p for level, p in zip(order, [0.0, *here], strict=True)}
        finite = effects["estimate"].dropna()
        found.append([ends["b"] - ends["a"], ends["c"] - ends["a"], *(finite.abs() if len(finite) else [])])
        if kind == "mixed":
            with pytest.warns(NotEstimableWarning):
                model.simulate(empty, random_state=0)
            with pytest.warns(NotEstimableWarning):
                model.predict_interval(empty)
    for other in found[1:]:  # what is estimable does not depend on the reference level
        np.testing.assert_allclose(other[:2], found[0][:2], atol=1e-7)
    np.testing.assert_allclose(found[1][2], found[2][2], atol=1e-7)


@pytest.mark.parametrize("estimator", [MixedLogisticRegression(), GEELogisticRegression()])
def test_columns_that_depend_on_others(cells, estimator):
    """Without a formula: products of indicators, and indicators of all levels."""
    X = pd.get_dummies(cells["f"], dtype=float).assign(v=(cells["k"] == "v").astype(float), x=1e3 + cells["x"])
    X = X.assign(bv=X["b"] * X["v"], cv=X["c"] * X["v"], two=2 * X["x"], one=5.0)
    with pytest.warns(AliasedFeaturesWarning):
        model = estimator.fit(X, cells["y"], groups=cells["g"])
    row = X.iloc[[0]]
    changes = {
        "another level at once": {"a": 1.0, "b": 1.0, "c": 0.0},
        "no level": {"a": 0.0, "b": 0.0, "c": 0.0, "bv": 0.0, "cv": 0.0},
        "twice and a little": {"x": 1000.0, "two": 2001.0},
        "another constant": {"one": 6.0},
        "the empty cell": {"a": 1.0, "b": 0.0, "c": 0.0, "v": 0.0, "bv": 0.0, "cv": 0.0},
    }
    for name, change in changes.items():
        with pytest.warns(NotEstimableWarning, match="1 of 1 rows"):
            _p(model, row.assign(**change)), name
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotEstimableWarning)
        _p(model, X)
        _p(model, row.assign(a=0.0, b=1.0, c=0.0, v=1.0, bv=1.0, cv=0.0))
        _p(model, row.assign(x=-50.0, two=-100.0))
        assert np.isfinite(model.average_marginal_effects(X, "x")).all(axis=None)
    with pytest.warns(NotEstimableWarning, match="NaN: 'b'.*"):
        assert model.average_marginal_effects(X, "b").isna().all(axis=None)
    with pytest.warns(NotEstimableWarning):
        assert model.average_marginal_effects(X, ["two", "x"])["estimate"].isna().tolist() == [True, False]


def test_single_precision_weights_and_no_intercept(cells):
    X = pd.get_dummies(cells["f"], dtype=np.float32).assign(x=1e4 + cells["x"].astype(np.float32))
    X["y2"] = X["a"] - 3 * X["b"]
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    with pytest.warns(AliasedFeaturesWarning):
        model = GEELogisticRegression(fit_intercept=False).fit(X, cells["y"], groups=cells["g"], sample_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotEstimableWarning)
        model.predict_proba(X)
        model.predict_proba(X.iloc[:1].assign(a=0.0, b=0.0, c=0.0, y2=0.0))  # there is no intercept to lose
    with pytest.warns(NotEstimableWarning):
        model.predict_proba(X.iloc[:1].assign(y2=7.0))


def test_a_slope_where_a_variable_did_not_vary(cells):
    """x is 0 in all rows of b, so that nothing is known of its slope there."""
    frame = cells.assign(x=cells["x"].where(cells["f"] != "b", 0.0))
    with pytest.warns(AliasedFeaturesWarning):
        model = GEELogisticRegression.from_formula("y ~ f*x", frame, groups="g")
    assert np.isfinite(model.average_marginal_effects(frame[frame["f"] == "c"], "x")).all(axis=None)
    with pytest.warns(NotEstimableWarning, match=r"'f\[T.b\]:x' depended"):
        assert model.average_marginal_effects(frame, "x").isna().all(axis=None)


def test_no_inference_on_effects_of_what_was_not_estimated(cells):
    frame = cells.assign(rare=(np.arange(len(cells)) % 200 == 0).astype(float), far=cells["x"] ** 2)
    frame.loc[frame["rare"] == 1, "y"] = 1
    with pytest.warns(SeparationWarning):
        model = MixedLogisticRegression.from_formula("y ~ x + rare + (1 | g)", frame)
    coefficients = model.marginal_coefficients(frame), model.marginal_coefficients()
    for table in (model.average_marginal_effects(frame), *coefficients):
        assert table.loc["rare"].drop("estimate").isna().all() and np.isfinite(table.loc["x"]).all()
        assert np.isfinite(table.loc["rare", "estimate"]) and "separated by 'rare'" in str(table)


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_coefficients_of_the_population_with_other_links(link):
    """A fit's numbers read with another link: a random intercept divides a probit's coefficients by sqrt(1 + sd^2)."""
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, random_state=3)
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    model._fitted = replace(model._fitted, family=bernoulli(link))
    table, variance = model.marginal_coefficients(X), float(model.covariance_["group"].iloc[0, 0])
    beta = np.append(model.intercept_, model.coef_)
    p, linked, gradient = probability_and_gradient(model, X)
    np.testing.assert_allclose(bernoulli(link).mean(linked), p, rtol=1e-9)
    if link == "probit":
        np.testing.assert_allclose(table["estimate"], beta / np.sqrt(1 + variance), rtol=1e-9)
        assert not any("ratio" in column for column in table.columns)
    else:
        assert "hazard_ratio" in table.columns
        least_squares = np.linalg.lstsq(np.column_stack([np.ones(len(X)), X]), linked)[0]
        np.testing.assert_allclose(table["estimate"], least_squares, rtol=1e-8)
    assert (table["std_error"] > 0).all()
