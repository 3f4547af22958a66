"""Random slopes that are no fixed effects, and whatever else may stand left of a bar."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

from sklmm import (
    CoefficientDisplay,
    EffectDisplay,
    GroupCurvesDisplay,
    MixedLogisticRegression,
    RandomEffectsDisplay,
    approximate_leave_group_out,
    cluster_influence,
    likelihood_ratio_test,
    quantile_residuals,
    random_effects_normality,
)
from sklmm.diagnostics import normality
from sklmm.exceptions import AliasedFeaturesWarning, NotEstimableWarning
from sklmm.likelihood.fit import fit_mixed

pytest.importorskip("formulaic")
from_formula = MixedLogisticRegression.from_formula


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    g = rng.integers(0, 40, 1200)
    frame = pd.DataFrame(
        {"g": g, "x": rng.normal(size=1200), "z": rng.normal(size=1200), "t": rng.uniform(0, 5, 1200),
         "f": rng.choice(list("abc"), 1200)}
    )  # fmt: skip
    b = rng.multivariate_normal(np.zeros(3), [[1.0, 0.3, 0.2], [0.3, 0.8, 0.1], [0.2, 0.1, 0.9]], size=40)
    logit = 0.5 * frame["x"] + b[g, 0] + b[g, 1] * (frame["f"] == "b") + b[g, 2] * (frame["f"] == "c")
    logit += (0.3 + 0.8 * rng.normal(size=40)[g]) * frame["x"] * frame["z"]
    return frame.assign(y=(rng.random(1200) < expit(logit)).astype(int))


def maximum(frame, slope, fixed):
    """The marginal log-likelihood of fixed effects and one random coefficient, by integration on a grid."""
    frame = frame.sort_values("g")
    y, design, slope = frame["y"].to_numpy(), fixed(frame), slope(frame)
    start = np.flatnonzero(np.r_[True, np.diff(frame["g"]) > 0])
    u = np.linspace(-8, 8, 129)
    log_density = -0.5 * u**2 - np.log(np.exp(-0.5 * u**2).sum())

    def minus(parameters):
        eta = (design @ parameters[:-1])[:, None] + np.exp(parameters[-1]) * slope[:, None] * u
        rows = np.where(y[:, None] == 1, log_expit(eta), log_expit(-eta))
        return -logsumexp(np.add.reduceat(rows, start) + log_density, axis=1).sum()

    found = minimize(minus, np.zeros(design.shape[1] + 1), method="BFGS", options={"gtol": 1e-4})
    return -found.fun, found.x[:-1], np.exp(found.x[-1])


@pytest.mark.parametrize(
    ("formula", "slope", "fixed"),
    [
        ("y ~ 1 + (0 + x | g)", lambda d: d["x"], lambda d: np.ones((len(d), 1))),
        ("y ~ 0 + z + (0 + x | g)", lambda d: d["x"], lambda d: d[["z"]]),
        ("y ~ x + (0 + x:z | g)", lambda d: d["x"] * d["z"], lambda d: np.column_stack([np.ones(len(d)), d["x"]])),
        ("y ~ x + (0 + I(t > 2) | g)", lambda d: d["t"] > 2, lambda d: np.column_stack([np.ones(len(d)), d["x"]])),
    ],
)
def test_the_likelihood_is_maximal(data, formula, slope, fixed):
    value, beta, sd = maximum(
        data, lambda d: slope(d).to_numpy(dtype=float), lambda d: np.asarray(fixed(d), dtype=float)
    )
    model = from_formula(formula, data, n_quadrature=25)
    assert model.log_likelihood_ == pytest.approx(value, abs=1e-4)
    own = np.r_[model.intercept_, model.coef_[0]] if model.fit_intercept else model.coef_[0]
    np.testing.assert_allclose(own, beta, atol=2e-3)
    assert np.sqrt(model.covariance_["g"].iloc[0, 0]) == pytest.approx(sd, abs=2e-3)
    n_parameters = len(beta) + 1
    assert model.aic_ == pytest.approx(-2 * model.log_likelihood_ + 2 * n_parameters)


def test_only_fixed_effects_are_shown(data):
    model = from_formula("y ~ x + (1 + z | g)", data)
    assert list(model.vcov_.index) == ["intercept", "x"]
    assert model.coef_.shape == (1, 1)
    assert list(model.conf_int().index) == list(model.odds_ratios().index) == ["intercept", "x"]
    assert list(model.summary().coefficients.index) == ["intercept", "x"]
    assert list(model.covariance_["g"].index) == ["intercept", "z"]
    profiled = model.conf_int(method="profile", X=data)
    assert list(profiled.index) == ["intercept", "x", "sd_intercept|g", "sd_z|g", "cor_z.intercept|g"]
    assert np.isfinite(profiled).all(axis=None)


# The same model in other words: every answer must be the same ----------------------------------------------------

SAME = {
    "a factor by its levels": ("y ~ x + f + (1 + f | g)", "y ~ x + f + (0 + f | g)"),
    "other contrasts": ("y ~ x + C(f, contr.sum) + (1 + f | g)", "y ~ x + C(f, contr.sum) + (1 + C(f, contr.sum) | g)"),
}
ANSWERS = {
    "vcov": lambda m, d: m.vcov_,
    "robust covariance": lambda m, d: m.vcov("robust"),
    "variances": lambda m, d: [m.icc_, *m.r2_, *m.median_odds_ratio_],
    **{effects: lambda m, d, effects=effects: m.predict_proba(d, predict_effects=effects)
       for effects in ("posterior", "mode", "zero", "marginal")},
    "profile": lambda m, d: m.conf_int(method="profile", X=d, parameters="fixed"),
    "effects": lambda m, d: m.average_marginal_effects(d),
    "marginal coefficients": lambda m, d: m.marginal_coefficients(d),
    "marginal coefficients without rows": lambda m, d: m.marginal_coefficients(),
    "influence": lambda m, d: cluster_influence(m),
    "updated": lambda m, d: m.update_groups(d[:300], d["y"][:300]).predict_proba(d),
    "bootstrap": lambda m, d: m.bootstrap(
        d, n_resamples=4, resampling="cluster", random_state=0).estimates.iloc[:, :4],
    "residuals": lambda m, d: quantile_residuals(m, d, d["y"], random_state=0),
    "test": lambda m, d: [m.wald_test("f" if "f[T.b]" in m.vcov_ else "C(f, contr.sum)").statistic],
}  # fmt: skip


@pytest.fixture(scope="module", params=SAME)
def pair(request, data):
    return [from_formula(text, data) for text in SAME[request.param]]


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_same_model_in_other_words(data, pair, answer):
    one, other = (np.asarray(ANSWERS[answer](model, data), dtype=float) for model in pair)
    # Nodes of a group's posterior lie along the random coefficients, which are others in other words.
    tolerance = {"rtol": 0, "atol": 2e-4} if answer in ("posterior", "updated") else {"rtol": 2e-5, "atol": 2e-6}
    np.testing.assert_allclose(other, one, **tolerance)


def test_steps_without_a_group(data, pair):
    """A step of Newton's method in the factor of the covariance is another one in other words, by the square of it."""
    one, other = (approximate_leave_group_out(model, data) for model in pair)
    np.testing.assert_allclose(other.probabilities, one.probabilities, atol=5e-3)
    errors = np.sqrt(np.diagonal(pair[0].vcov_))
    np.testing.assert_allclose((other.coefficients - one.coefficients) / errors, 0.0, atol=0.02)
    influence = (cluster_influence(model, data)["cooks_distance"] for model in pair)
    np.testing.assert_allclose(*influence, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("y ~ poly(t, 2) + (1 + t | g)", "y ~ t + I(t**2) + (1 + t | g)"),
        ("y ~ bs(t, df=4) + (1 + t | g)", "y ~ 0 + bs(t, df=5, include_intercept=True) + (1 + t | g)"),
        ("y ~ scale(t) + (1 + t | g)", "y ~ t + (1 + t | g)"),
        ("y ~ x + (1 + t | g)", "y ~ x + (1 + scale(t) | g)"),
        ("y ~ x*z + (1 + x:z | g)", "y ~ x + z + I(x * z) + (1 + I(x*z) | g)"),
        ("y ~ x*z + (1 + x:z | g)", "y ~ x*z + (1 + `x:z` | g)"),
        ("y ~ x + z + (1 + x*z | g)", "y ~ x + z + (1 + x + z + z:x | g)"),
        ("y ~ f + (1 | g) + (0 + x:f || g)", "y ~ f + (1 | g) + (0 + f:x || g)"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_the_same_likelihood(data, one, other):
    one, other = (from_formula(text, data) for text in (one, other))
    assert other.log_likelihood_ == pytest.approx(one.log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(other.predict_proba(data), one.predict_proba(data), atol=2e-5)


def test_simulations(pair, data):
    for model in pair:
        share = model.simulate(data, n=300, random_state=0).mean()
        assert share == pytest.approx(model.predict_proba(data, predict_effects="marginal")[:, 1].mean(), abs=0.01)


def test_new_rows(data):
    """Slopes keep the constants and levels of the fit, as fixed effects do; one row predicts as among others."""
    model = from_formula("y ~ x + (1 + scale(t) + f | g)", data)
    together = model.predict_proba(data)
    np.testing.assert_allclose(model.predict_proba(data.iloc[[7]]), together[[7]], rtol=1e-9)
    with pytest.raises(ValueError, match="column 'f' holds 'q', which the fit did not see; its levels are 'a', 'b'"):
        model.predict_proba(data.head(2).assign(f="q"))
    with pytest.raises(ValueError, match="names 't', which is no column"):
        model.predict_proba(data.drop(columns="t"))
    effects = model.random_effects_["g"].loc[data["g"]].to_numpy()
    z = np.column_stack([np.ones(1200), (data["t"] - data["t"].mean()) / data["t"].std(), data["f"] == "b",
                         data["f"] == "c"])  # fmt: skip
    logit = model.intercept_[0] + model.coef_[0, 0] * data["x"] + np.sum(effects * z, axis=1)
    np.testing.assert_allclose(model.predict_proba(data, predict_effects="mode")[:, 1], expit(logit), rtol=1e-9)


def test_missing_values_of_slopes(data):
    holes = data.assign(t=data["t"].mask(data.index < 3))
    with pytest.raises(ValueError, match=r"missing values, in 't' \(3\)"):
        from_formula("y ~ x + (1 + t | g)", holes)
    found = from_formula("y ~ x + (1 + t | g)", holes, missing="drop")
    expected = from_formula("y ~ x + (1 + t | g)", data[3:])
    assert found.log_likelihood_ == expected.log_likelihood_


def test_models_with_and_without_a_fixed_slope(data):
    smaller, larger = (from_formula(f"y ~ {fixed} + (1 + x | g)", data) for fixed in ("1", "x"))
    test = likelihood_ratio_test(smaller, larger)
    assert test.df == 1
    assert test.statistic == pytest.approx(2 * (larger.log_likelihood_ - smaller.log_likelihood_))


def test_displays(data):
    plt = pytest.importorskip("matplotlib.pyplot")
    model = from_formula("y ~ x + (1 + z | g)", data)
    display = EffectDisplay.from_estimator(model, data, "z", grid_resolution=5)  # through the variance alone
    rows = pd.DataFrame({"z": display.values, "x": data["x"].mean()})
    expected = model.predict_proba(rows.assign(g=-1), predict_effects="marginal")[:, 1]
    np.testing.assert_allclose(display.lines_[0].get_ydata(), expected, rtol=1e-7)
    GroupCurvesDisplay.from_estimator(model, data, "z", grid_resolution=5)
    RandomEffectsDisplay.from_estimator(model)
    CoefficientDisplay.from_estimators({"model": model})
    plt.close("all")


# Products in the other door ------------------------------------------------------------------------------------


def test_products_of_columns(data):
    X, both = data[["x", "z"]], data["x"] * data["z"]
    model = MixedLogisticRegression("1 + x:z | g").fit(X, data["y"], groups=data["g"])
    expected = from_formula("y ~ x + z + (1 + x:z | g)", data)
    assert model.log_likelihood_ == expected.log_likelihood_
    assert list(model.vcov_.index) == ["intercept", "x", "z"] and model.n_features_in_ == 2
    np.testing.assert_allclose(model.predict_proba(X, groups=data["g"]), expected.predict_proba(data), rtol=1e-10)
    effects = [found.drop(columns="p_value") for found in  # of which the relative error is that of z times its square
               (model.average_marginal_effects(X), expected.average_marginal_effects(data))]  # fmt: skip
    np.testing.assert_allclose(*effects, rtol=1e-8)
    rows = dict(X=X, y=data["y"], groups=data["g"])
    found = model.conf_int(method="profile", **rows, parameters="random")
    np.testing.assert_allclose(found, expected.conf_int(method="profile", X=data, parameters="random"), rtol=1e-6)
    in_X = MixedLogisticRegression("1 + x2:x0 | x1", group_features=1)
    in_X.fit(np.column_stack([data["x"], data["g"], data["z"]]), data["y"])
    assert in_X.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)
    # a column of the very name is that column, a fixed effect
    named = MixedLogisticRegression("1 + x:z | g").fit(X.assign(**{"x:z": both}), data["y"], groups=data["g"])
    assert named.log_likelihood_ == pytest.approx(from_formula("y ~ x*z + (1 + x:z | g)", data).log_likelihood_)
    assert list(named.vcov_.index) == ["intercept", "x", "z", "x:z"]


def test_products_with_several_factors(data):
    data = data.iloc[:600].assign(h=np.arange(600) % 10)
    X = data[["x", "z"]]
    found = MixedLogisticRegression(["0 + x*z || g", "0 + x:z | h"]).fit(X, data["y"], groups=data[["g", "h"]])
    expected = from_formula("y ~ x + z + (0 + x*z || g) + (0 + x:z | h)", data)
    assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, abs=1e-7)
    updated = [model.update_groups(*rows) for model, rows in
               ((found, (X, data["y"], data[["g", "h"]])), (expected, (data, data["y"])))]  # fmt: skip
    np.testing.assert_allclose(
        updated[0].predict_proba(X, groups=data[["g", "h"]]), updated[1].predict_proba(data), atol=1e-6
    )


# What inference keeps of columns without a fixed effect ----------------------------------------------------------


def test_columns_without_a_fixed_effect_have_no_part_in_dependences(data):
    """The slope's column depends on those of the fixed effects, too: no other column stands for it."""
    data = data.assign(twice=2 * data["x"] + 1, z=1 - data["x"])
    with pytest.warns(AliasedFeaturesWarning, match="'twice'"):
        model = from_formula("y ~ x + twice + (0 + z | g)", data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotEstimableWarning)
        model.predict_proba(data.assign(z=3.0))
    with pytest.warns(NotEstimableWarning, match="'twice' depended on other columns"):
        model.predict_proba(data.assign(twice=0.0))


def test_effects_drawn_for_the_test_of_normality_are_of_the_same_model(data, monkeypatch):
    model, sizes = from_formula("y ~ x + (1 + z || g)", data), []

    def fit(*args, **kwargs):
        found = fit_mixed(*args, **kwargs)
        sizes.append(len(found.beta))
        return found

    monkeypatch.setattr(normality, "fit_mixed", fit)
    tests = random_effects_normality(model, data, n_simulations=19)
    assert set(sizes) == {2} and list(tests.index) == [("g", "intercept"), ("g", "z")]


def test_residuals_and_curves_leave_out_what_the_fit_did(data):
    data = data.assign(w=np.arange(1200) % 3 + 1.0)
    data.loc[[3, 40], "z"] = data.loc[7, "w"] = data.loc[9, "x"] = np.nan
    complete = data.dropna()
    formula = "y ~ x + (1 + z || g)"
    dropping = from_formula(formula, data, missing="drop", sample_weight="w")
    model = from_formula(formula, complete, sample_weight="w")
    found, expected = (quantile_residuals(one, rows, rows["y"], random_state=0)
                       for one, rows in ((dropping, data), (model, complete)))  # fmt: skip
    pd.testing.assert_series_equal(found, expected)
    pytest.importorskip("matplotlib").use("Agg")
    curves = [EffectDisplay.from_estimator(one, rows, "x", grid_resolution=5).curves[None]["probability"]
              for one, rows in ((dropping, data), (model, complete))]  # fmt: skip
    np.testing.assert_array_equal(*curves)


def test_terms_of_columns_with_any_name(data):
    """Names that stand-ins stood for while formulaic read them."""
    status = np.array(["no", "a:b", "ex"])[data.index % 3]
    data = data.rename(columns={"x": "sys.bp"}).assign(**{"smoking status": status})
    model = from_formula("y ~ sys.bp*`smoking status` + (1 | g)", data)
    levels = ["smoking status[T.ex]", "smoking status[T.no]"]
    for term, columns in (("smoking status", levels), ("sys.bp:smoking status", [f"sys.bp:{name}" for name in levels]),
                          ("sys*", ["sys.bp"])):  # fmt: skip
        assert model.wald_test(term).hypotheses == [f"{name} = 0" for name in columns]
        assert model.wald_test(term) == model.wald_test(columns)
