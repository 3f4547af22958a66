"""Results as objects: they print whole, as text and as HTML, and hand out their numbers as data frames."""

import pickle

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import (
    CoefficientDisplay,
    EffectDisplay,
    GEELinearRegression,
    GEELogisticRegression,
    GroupCurvesDisplay,
    MixedLinearRegression,
    MixedLogisticRegression,
    RandomEffectsDisplay,
    ResidualsDisplay,
    approximate_leave_group_out,
    cluster_influence,
    compare_models,
    likelihood_ratio_test,
)
from sklmm.datasets import load_contraception, load_sleepstudy

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def women():
    return load_contraception(as_frame=True).frame


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(as_frame=True).frame


@pytest.fixture(scope="module")
def logistic(women):
    return MixedLogisticRegression.from_formula("use ~ age + urban + livch + (1 | district)", women)


@pytest.fixture(scope="module")
def linear(sleep):
    return MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", sleep)


@pytest.fixture(scope="module")
def marginal(sleep):
    return GEELinearRegression.from_formula("Reaction ~ Days", sleep, groups="Subject")


@pytest.fixture(scope="module")
def marginal_logistic(women):
    return GEELogisticRegression.from_formula("use ~ age + urban", women, groups="district")


def prints_whole(result, *texts):
    with pd.option_context("display.width", 80, "display.max_columns", 4):
        text, html = str(result), result._repr_html_()
    assert "..." not in text
    for piece in texts:
        assert piece in text
        assert piece in html
    assert isinstance(result.to_frame(), pd.DataFrame)


def test_comparisons(logistic, women):
    smaller = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women)
    table = compare_models({"small": smaller, "large": logistic}, likelihood_ratio=True)
    prints_whole(table, *table.columns)
    test = likelihood_ratio_test(smaller, logistic)
    prints_whole(test, "chi-squared(3)")
    frame = test.to_frame()
    assert frame.iloc[0].tolist() == [*test, test.p_value_chi2, test.distribution]
    assert pickle.loads(pickle.dumps(test)).to_frame().equals(frame)


@pytest.mark.parametrize("model", ["logistic", "linear", "marginal", "marginal_logistic"])
def test_tests_and_effects(model, women, sleep, request):
    fitted = request.getfixturevalue(model)
    name = "Days" if model in ("linear", "marginal") else "age"
    test = fitted.wald_test(name)
    assert test.to_frame().iloc[0][["statistic", "df", "p_value"]].tolist() == list(test)
    assert f"{name} = 0" in test._repr_html_()
    effects = fitted.average_marginal_effects(sleep if name == "Days" else women)
    prints_whole(effects, *effects.columns)
    influence = cluster_influence(fitted)
    prints_whole(influence.iloc[:5], *influence.columns)


@pytest.mark.parametrize("model", ["logistic", "linear", "marginal", "marginal_logistic"])
def test_groups_left_out(model, women, sleep, request):
    fitted = request.getfixturevalue(model)
    data = sleep if model in ("linear", "marginal") else women
    result = approximate_leave_group_out(fitted, data)
    assert "each from a fit without its group" in str(result)
    assert "Days" in result._repr_html_() or "age" in result._repr_html_()
    frame = result.to_frame()
    assert len(frame) == len(data)
    if result.probabilities is not None:
        assert list(frame) == [f"probability_{label}" for label in fitted.classes_]
        np.testing.assert_array_equal(frame, result.probabilities)
    else:
        np.testing.assert_array_equal(frame["expected"], result.expected)
        assert ("std" in frame) == (model == "linear")


def test_bootstrap_and_variances(linear, sleep):
    result = linear.bootstrap(sleep, n_resamples=20, random_state=0)
    prints_whole(result, "20 resamples (parametric)", "sd_Days|Subject", "std_error")
    frame = result.to_frame(0.9)
    np.testing.assert_allclose(frame["bias"], result.estimates.mean() - result.original)
    np.testing.assert_allclose(frame[["lower", "upper"]], result.conf_int(0.9))
    parts = linear.variance_partition_
    frame = parts.to_frame()
    assert frame.index.tolist() == ["fixed", "Subject", "residual"]
    assert frame.loc["Subject", "variance"] / frame["variance"].iloc[1:].sum() == pytest.approx(parts.icc)


def test_intervals_as_a_frame(linear, logistic, sleep, women):
    for model, data in ((linear, sleep), (logistic, women)):
        data = data.set_axis([f"row {i}" for i in range(len(data))])
        frame = model.predict_interval(data, level=0.8, as_frame=True)
        assert list(frame) == ["lower", "upper"]
        assert frame.index.equals(data.index)
        np.testing.assert_array_equal(frame, model.predict_interval(data, level=0.8))
    frame = linear.predict_interval(sleep, kind="observation", as_frame=True)
    np.testing.assert_array_equal(frame, linear.predict_interval(sleep, kind="observation"))


def test_intervals_of_incomplete_rows(sleep):
    holes = sleep.assign(Days=sleep.Days.where(sleep.index % 10 != 0))
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", holes, missing="drop")
    frame = model.predict_interval(holes, as_frame=True)
    assert frame.index.equals(holes.index)
    assert frame["lower"].isna().equals(holes.Days.isna())
    nothing = model.predict_interval(holes[holes.Days.isna()], as_frame=True)
    assert nothing.shape == (18, 2)
    assert nothing.isna().all().all()


def test_intervals_of_arrays(women):
    X, y = women[["age"]].to_numpy(), women["use"]
    model = MixedLogisticRegression().fit(X, y, groups=women.district)
    frame = model.predict_interval(X, women.district, as_frame=True)
    assert frame.index.equals(pd.RangeIndex(len(X)))


# Displays hand out what they draw ------------------------------------------------------------------------------------


def test_coefficients(logistic, marginal_logistic):
    display = CoefficientDisplay.from_estimator(logistic, level=0.9)
    np.testing.assert_allclose(display.to_frame()[["lower", "upper"]], logistic.conf_int(0.9).drop("intercept"))
    both = CoefficientDisplay.from_estimators({"mixed": logistic, "gee": marginal_logistic}).to_frame()
    assert both.loc[("gee", "age"), "estimate"] == marginal_logistic.coef_[0, 0]
    assert np.isnan(both.loc[("gee", "livch[T.1]"), "estimate"])


def test_effects(linear, logistic, sleep, women):
    display = EffectDisplay.from_estimator(linear, sleep, "Days", grid_resolution=11)
    frame = display.to_frame()
    assert list(frame) == ["Days", "mean", "lower", "upper"]
    np.testing.assert_allclose(frame["mean"], display.lines_[0].get_ydata())
    frame = EffectDisplay.from_estimator(logistic, women, "age", by="urban", grid_resolution=5).to_frame()
    assert list(frame) == ["urban", "age", "probability", "lower", "upper"]
    assert len(frame) == 10


def test_group_curves(linear, sleep):
    display = GroupCurvesDisplay.from_estimator(linear, sleep, "Days", grid_resolution=4)
    frame = display.to_frame()
    assert frame.shape == (4, 19)
    np.testing.assert_array_equal(frame[308], display.group_lines_[list(display.groups).index(308)].get_ydata())
    np.testing.assert_array_equal(frame["population"], display.population_line_.get_ydata())


def test_random_effects(linear):
    display = RandomEffectsDisplay.from_estimator(linear, coefficient="Days", level=0.9)
    frame = display.to_frame()
    np.testing.assert_array_equal(frame["effect"], display.points_.get_xdata())
    sd = linear.random_effects_sd_["Subject"]["Days"].loc[frame.index]
    np.testing.assert_allclose(frame["upper"] - frame["effect"], stats.norm.ppf(0.95) * sd)
    np.testing.assert_array_equal(np.sort(frame["standardised"]), display.plot(kind="qq").points_.get_ydata())


def test_residuals(linear, sleep):
    display = ResidualsDisplay.from_estimator(linear, sleep, predict_effects="posterior")
    frame = display.to_frame().sort_values("residual")
    np.testing.assert_array_equal(frame["residual"], display.points_.get_ydata())
    np.testing.assert_allclose(frame["quantile"], display.points_.get_xdata())
