"""The displays: what their artists show, read back from matplotlib."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import t
from sklearn.exceptions import NotFittedError

import sklmm
from sklmm import (
    CoefficientDisplay,
    EffectDisplay,
    GEELogisticRegression,
    GroupCurvesDisplay,
    MixedLogisticRegression,
    RandomEffectsDisplay,
    ResidualsDisplay,
    quantile_residuals,
)
from sklmm.datasets import make_clustered_classification

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        900, 2, n_groups=30, coef=[1.0, -0.5], covariance=[[1.0, 0.2], [0.2, 0.3]], random_state=2
    )
    frame = pd.DataFrame(X, columns=["dose", "age"])
    frame["town"] = (np.arange(len(X)) % 2).astype(float)
    return frame, np.where(y == 1, "ill", "well"), pd.Series(groups, name="clinic").map("clinic {:02}".format)


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    return MixedLogisticRegression("1 + dose | clinic").fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def gee(data):
    X, y, groups = data
    return GEELogisticRegression().fit(X, y, groups=groups)


def _texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def _inside(figure):
    """Whether all of a figure's text is within it: nothing is cut off."""
    figure.canvas.draw()
    renderer, (width, height) = figure.canvas.get_renderer(), figure.bbox.size
    for ax in figure.axes:
        if not ax.axison:
            continue
        # ticks beyond the limits of an axis are not drawn
        ticks = [
            label
            for axis in (ax.xaxis, ax.yaxis)
            if axis.get_ticklabels()  # else they are those of the panel below or to the left
            for label, place in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
            if min(axis.get_view_interval()) <= place <= max(axis.get_view_interval())
        ]
        for text in [ax.xaxis.label, ax.yaxis.label, *ticks]:
            if text.get_text():
                box = text.get_window_extent(renderer)
                assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    return True


# Random effects ---------------------------------------------------------------------------------------------


def test_caterpillar(model):
    display = RandomEffectsDisplay.from_estimator(model)
    modes = model.random_effects_["clinic"]["intercept"].sort_values()
    sd = model.random_effects_sd_["clinic"]["intercept"][modes.index]
    np.testing.assert_allclose(display.points_.get_xdata(), modes)
    ends = np.array([segment[:, 0] for segment in display.intervals_.get_segments()])
    np.testing.assert_allclose(ends, np.column_stack([modes - 1.959964 * sd, modes + 1.959964 * sd]), rtol=1e-6)
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == list(modes.index)
    assert display.ax_.get_ylabel() == "clinic"
    assert display.ax_.get_xlabel() == "random intercept (95 % interval)"
    assert display.figure_ is display.ax_.figure
    assert _inside(display.figure_)


def test_caterpillar_of_a_slope_in_given_axes(model):
    figure, axes = plt.subplots(1, 2)
    display = RandomEffectsDisplay.from_estimator(model, coefficient="dose", level=0.5, ax=axes[1], color="red")
    assert display.ax_ is axes[1] and display.figure_ is figure
    assert display.ax_.get_xlabel() == "random slope of dose (50 % interval)"
    assert display.points_.get_color() == "red"
    assert not axes[0].has_data()


def test_of_many_groups_the_extremes_have_names(data):
    X, y, _ = data
    names = [f"the {k // 9}th of many schools in a row" for k in range(len(X))]
    model = MixedLogisticRegression().fit(X, y, groups=names)
    display = RandomEffectsDisplay.from_estimator(model)
    modes = model.random_effects_["group"]["intercept"].sort_values()
    extremes = [*modes.index[:5], *modes.index[:-6:-1]]
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == [
        f"{name[:12]}…{name[-11:]}" for name in extremes
    ]
    low, high = display.ax_.get_yticks()[:5], display.ax_.get_yticks()[5:]
    assert np.all(np.diff(low) > 2) and np.all(np.diff(high) < -2) and low[0] == 0 and high[0] == 99
    lines = [text for text in display.ax_.texts if text.arrow_patch is not None]
    assert [line.xy[1] for line in lines] == [*range(5), *range(99, 94, -1)]
    assert [line.xyann[1] for line in lines] == list(display.ax_.get_yticks())
    assert display.ax_.get_ylabel() == "100 levels of group, sorted"
    assert _inside(display.figure_)
    _, small = plt.subplots(figsize=(2, 0.5))
    assert len(RandomEffectsDisplay.from_estimator(model, ax=small).ax_.get_yticks()) == 0


def test_normal_quantiles_of_random_effects(model):
    display = RandomEffectsDisplay.from_estimator(model, kind="qq")
    expected, values = display.points_.get_data()
    modes, sd = (table["clinic"]["intercept"] for table in (model.random_effects_, model.random_effects_sd_))
    variance = model.covariance_["clinic"].loc["intercept", "intercept"]
    np.testing.assert_allclose(values, np.sort(modes / np.sqrt(variance - sd**2)))
    assert expected[0] == pytest.approx(-expected[-1]) and np.all(np.diff(expected) > 0)
    assert _inside(display.figure_)


@pytest.mark.many_fits
def test_quantiles_lie_in_the_band_of_data_that_the_model_made(data, model):
    X, y, groups = data
    intercepts = MixedLogisticRegression().fit(X, y, groups=groups)
    for display in (
        RandomEffectsDisplay.from_estimator(intercepts, kind="qq", n_simulations=39),
        RandomEffectsDisplay.from_estimator(model, X, y, groups, kind="qq", n_simulations=39, coefficient="dose"),
    ):
        expected, values = display.points_.get_data()
        assert len(display.simulated) > 30
        lower, upper = (
            np.quantile([np.quantile(draw, (np.arange(30) + 0.5) / 30) for draw in display.simulated], tail, axis=0)
            for tail in (0.025, 0.975)
        )
        path = display.band_.get_paths()[0].vertices
        for ends in (lower, upper):
            assert all(np.isclose(path, [x, end]).all(axis=1).any() for x, end in zip(expected, ends, strict=True))
        assert ((values >= lower) & (values <= upper)).mean() > 0.6
        assert display.ax_.get_xlabel() == "normal quantile"
        assert _texts(display.ax_.get_legend()) == ["95 % band of data\nthat the model made"]
        assert _inside(display.figure_)
    plain = RandomEffectsDisplay.from_estimator(model, kind="qq")
    assert plain.band_ is None and "pass X, y, groups" in plain.ax_.get_xlabel()
    assert RandomEffectsDisplay.from_estimator(model).band_ is None


def test_random_effects_bad_input(model, data, gee):
    X, y, _ = data
    with pytest.raises(ValueError, match="'school' is no term"):
        RandomEffectsDisplay.from_estimator(model, term="school")
    with pytest.raises(ValueError, match="'age' is no random coefficient"):
        RandomEffectsDisplay.from_estimator(model, coefficient="age")
    with pytest.raises(ValueError, match="kind must be"):
        RandomEffectsDisplay.from_estimator(model, kind="dots")
    with pytest.raises(ValueError, match="level must be between"):
        RandomEffectsDisplay.from_estimator(model, level=95)
    with pytest.warns(sklmm.exceptions.NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="without groups"):
        RandomEffectsDisplay.from_estimator(plain)


# Coefficients -----------------------------------------------------------------------------------------------


def _limits(container):
    (bars,) = container.lines[2]
    return np.array([segment[:, 0] for segment in bars.get_segments()])


def test_forest_of_odds_ratios(model):
    display = CoefficientDisplay.from_estimator(model)
    ratios = model.odds_ratios().drop(index="intercept")
    (container,) = display.errorbars_
    np.testing.assert_allclose(container.lines[0].get_xdata(), ratios["odds_ratio"])
    np.testing.assert_allclose(_limits(container), ratios[["lower", "upper"]])
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["dose", "age", "town"]
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_ylim()[0] > display.ax_.get_ylim()[1]  # the first on top
    assert display.ax_.get_legend() is None
    assert _inside(display.figure_)


def test_forest_of_coefficients(gee):
    display = CoefficientDisplay.from_estimator(gee, odds_ratios=False, intercept=True, level=0.9)
    (container,) = display.errorbars_
    np.testing.assert_allclose(_limits(container), gee.conf_int(0.9))
    assert display.ax_.get_xlabel() == "log odds ratio (90 % confidence interval)"
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()][0] == "intercept"


def test_forest_of_several_models(model, gee, data):
    X, _, _ = data
    marginal = model.marginal_coefficients(X)
    display = CoefficientDisplay.from_estimators(
        {"mixed": model, "marginalised": marginal, "GEE": gee}, names=["town", "dose"]
    )
    assert _texts(display.ax_.get_legend()) == ["mixed", "marginalised", "GEE"]
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["town", "dose"]
    np.testing.assert_allclose(display.errorbars_[1].lines[0].get_xdata(), marginal["odds_ratio"][["town", "dose"]])
    heights = [container.lines[0].get_ydata()[0] for container in display.errorbars_]
    assert len(set(heights)) == 3 and max(heights) - min(heights) < 0.5
    assert _inside(display.figure_)


def test_coefficients_without_standard_error_are_not_shown(data):
    X, y, groups = data
    with pytest.warns(UserWarning, match="twice"):
        model = MixedLogisticRegression().fit(X.assign(twice=2 * X["dose"]), y, groups=groups)
    display = CoefficientDisplay.from_estimator(model)
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["dose", "age", "town"]
    with pytest.raises(ValueError, match="'twice' is no coefficient with a standard error"):
        CoefficientDisplay.from_estimator(model, names=["twice"])


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 1.0, 10.0])
def test_ticks_of_odds_ratios_are_plain_numbers(data, scale):
    """However narrow or wide the intervals, there are between two and a dozen labels that one can read."""
    table = pd.DataFrame({"estimate": [0.5 * scale], "lower": [-scale], "upper": [scale]}, index=["a"])
    display = CoefficientDisplay({"": table}).plot()
    display.figure_.canvas.draw()
    low, high = display.ax_.get_xlim()
    labels = [
        label.get_text()
        for label, place in zip(display.ax_.get_xticklabels(), display.ax_.get_xticks(), strict=True)
        if low <= place <= high and label.get_text()
    ]
    assert 2 <= len(labels) <= 13
    assert len(set(labels)) == len(labels)
    assert not any("$" in label for label in labels)


# Curves of groups -------------------------------------------------------------------------------------------


def test_group_curves_are_predictions(model, data):
    X, _, _ = data
    display = GroupCurvesDisplay.from_estimator(model, X, "dose", grid_resolution=7)
    assert len(display.group_lines_) == 30
    x = np.linspace(X["dose"].min(), X["dose"].max(), 7)
    rows = pd.DataFrame({"dose": x, "age": X["age"].mean(), "town": X["town"].mean()})
    for k in (0, 17):
        expected = model.predict_proba(rows, groups=[display.groups[k]] * 7)[:, 1]
        np.testing.assert_allclose(display.group_lines_[k].get_xydata(), np.column_stack([x, expected]))
    population = model.predict_proba(rows, predict_effects="marginal")[:, 1]
    np.testing.assert_allclose(display.population_line_.get_ydata(), population)
    assert _texts(display.ax_.get_legend()) == ["clinic (30 groups)", "population average"]
    assert display.ax_.get_xlabel() == "dose" and display.ax_.get_ylabel() == "P(y = well)"
    assert display.population_line_.get_zorder() >= max(line.get_zorder() for line in display.group_lines_)
    assert _inside(display.figure_)


def test_chosen_groups_have_names_and_colours(model, data):
    X, _, _ = data
    display = GroupCurvesDisplay.from_estimator(
        model, X, "dose", groups=["clinic 03", "clinic 11"], population="zero", predict_effects="mode",
        at={"town": 1.0}, grid_resolution=5,
    )  # fmt: skip
    assert _texts(display.ax_.get_legend()) == ["clinic clinic 03", "clinic clinic 11", "typical clinic"]
    colours = {line.get_color() for line in display.group_lines_}
    assert len(colours) == 2
    rows = pd.DataFrame({"dose": display.values, "age": X["age"].mean(), "town": 1.0})
    expected = model.predict_proba(rows, groups=["clinic 11"] * 5, predict_effects="mode")[:, 1]
    np.testing.assert_allclose(display.group_lines_[1].get_ydata(), expected)


def test_group_curves_of_arrays_and_groups_in_X(data):
    X, y, groups = data
    codes = groups.str[-2:].astype(int)
    both = np.column_stack([X, codes])
    model = MixedLogisticRegression(group_features=3).fit(both, y)
    display = GroupCurvesDisplay.from_estimator(model, both, 0, groups=[4], grid_resolution=5)
    rows = np.column_stack([display.values, np.full(5, X["age"].mean()), np.full(5, X["town"].mean()), np.full(5, 4)])
    np.testing.assert_allclose(display.group_lines_[0].get_ydata(), model.predict_proba(rows)[:, 1])
    assert display.ax_.get_xlabel() == "x0"


def test_group_curves_bad_input(model, data):
    X, y, _ = data
    with pytest.raises(ValueError, match="knows no clinic 'clinic 99'"):
        GroupCurvesDisplay.from_estimator(model, X, "dose", groups=["clinic 99"])
    with pytest.raises(ValueError, match="'weight' is no column of X"):
        GroupCurvesDisplay.from_estimator(model, X, "weight")
    with pytest.raises(ValueError, match="'ward' is no grouping factor"):
        GroupCurvesDisplay.from_estimator(model, X, "dose", factor="ward")
    with pytest.raises(ValueError, match="'posterior' or 'mode'"):
        GroupCurvesDisplay.from_estimator(model, X, "dose", predict_effects="zero")


# Effects ----------------------------------------------------------------------------------------------------


def _band(band):
    """Lower and upper edge of a filled area, over ascending x."""
    vertices = band.get_paths()[0].vertices
    x = np.unique(vertices[:, 0])
    return np.array([[vertices[vertices[:, 0] == at, 1].min(), vertices[vertices[:, 0] == at, 1].max()] for at in x])


def test_effect_of_a_marginal_model(gee, data):
    X, _, _ = data
    display = EffectDisplay.from_estimator(gee, X, "dose", grid_resolution=9)
    design = np.column_stack(
        [np.ones(9), display.values, np.full(9, X["age"].mean()), np.full(9, X["town"].mean())]
    )
    eta = design @ np.r_[gee.intercept_, gee.coef_[0]]
    np.testing.assert_allclose(display.lines_[0].get_ydata(), expit(eta))
    se = np.sqrt(np.einsum("ij,jk,ik->i", design, gee.vcov_, design))
    reach = t.ppf(0.975, gee.df_resid_) * se  # 30 clusters
    np.testing.assert_allclose(_band(display.bands_[0]), expit(np.column_stack([eta - reach, eta + reach])), rtol=1e-9)
    assert _texts(display.ax_.get_legend()) == ["95 % confidence band"]
    assert _inside(display.figure_)


def test_effect_of_a_mixed_model_by_another_feature(model, data):
    X, _, _ = data
    display = EffectDisplay.from_estimator(model, X, "dose", by="town", at={"age": 1.0}, grid_resolution=5)
    assert _texts(display.ax_.get_legend()) == ["town = 0", "town = 1"]
    for town in (0.0, 1.0):
        rows = pd.DataFrame({"dose": display.values, "age": 1.0, "town": town})
        p = model.predict_proba(rows, predict_effects="marginal")[:, 1]
        np.testing.assert_allclose(display.lines_[int(town)].get_ydata(), p, rtol=1e-8)
        edges = _band(display.bands_[int(town)])
        assert np.all(edges[:, 0] < p) and np.all(p < edges[:, 1])
    typical = EffectDisplay.from_estimator(model, X, "dose", predict_effects="zero", grid_resolution=5)
    rows = pd.DataFrame({"dose": typical.values, "age": X["age"].mean(), "town": X["town"].mean()})
    np.testing.assert_allclose(
        typical.lines_[0].get_ydata(), model.predict_proba(rows, predict_effects="zero")[:, 1]
    )


def test_plot_again(gee, data):
    X, _, _ = data
    display = EffectDisplay.from_estimator(gee, X, "dose")
    _, ax = plt.subplots()
    again = display.plot(ax, color="green")
    assert again is display and display.ax_ is ax
    assert display.lines_[0].get_color() == "green"


def test_computing_is_not_drawing(model, gee, data):
    """`compute` takes what `from_estimator` takes, draws nothing, and `plot` draws the same numbers."""
    X, y, groups = data
    for display, args, kwargs in (
        (EffectDisplay, (model, X, "dose"), {"by": "town", "level": 0.9}),
        (GroupCurvesDisplay, (model, X, "dose"), {"population": "zero", "grid_resolution": 7}),
        (RandomEffectsDisplay, (model,), {"coefficient": "dose"}),
        (RandomEffectsDisplay, (model, X, y, groups), {"kind": "qq", "n_simulations": 3}),
        (CoefficientDisplay, (gee,), {"names": ["age"]}),
        (ResidualsDisplay, (model, X, y, groups), {"by": "clinic", "random_state": 0}),
    ):
        computed = display.compute(*args, **kwargs)
        assert not plt.get_fignums() and not hasattr(computed, "ax_")
        drawn = display.from_estimator(*args, **kwargs)
        pd.testing.assert_frame_equal(computed.to_frame(), drawn.to_frame())
        _, ax = plt.subplots()
        again = computed.plot(ax)
        assert again is computed and again.ax_ is ax
        assert again.ax_.get_xlabel() == drawn.ax_.get_xlabel() and again.ax_.get_ylabel() == drawn.ax_.get_ylabel()
        plt.close("all")
    both = CoefficientDisplay.compute({"mixed": model, "GEE": gee})
    pd.testing.assert_frame_equal(
        both.to_frame(), CoefficientDisplay.from_estimators({"mixed": model, "GEE": gee}).to_frame()
    )


def test_effect_bad_input(model, data):
    X, _, _ = data
    with pytest.raises(ValueError, match="at most 8 values"):
        EffectDisplay.from_estimator(model, X, "dose", by="age")
    with pytest.raises(ValueError, match="'marginal' or 'zero'"):
        EffectDisplay.from_estimator(model, X, "dose", predict_effects="posterior")


# Residuals --------------------------------------------------------------------------------------------------


def test_residuals_against_uniform_quantiles(model, data):
    X, y, groups = data
    display = ResidualsDisplay.from_estimator(model, X, y, groups, by="clinic", random_state=0)
    expected = quantile_residuals(model, X, y, groups, by="clinic", random_state=0)
    x, values = display.points_.get_data()
    np.testing.assert_allclose(values, np.sort(expected))
    np.testing.assert_allclose(x, (np.arange(30) + 0.5) / 30)
    assert display.ax_.get_ylabel() == "quantile residual (30 levels of clinic)"
    assert _texts(display.ax_.get_legend()) == ["95 % band, if independent"]
    assert _inside(display.figure_)


def test_residuals_over_predicted_probabilities(gee, data):
    X, y, groups = data
    display = ResidualsDisplay.from_estimator(gee, X, y, groups, kind="predicted", random_state=0)
    p = gee.predict_proba(X)[:, 1]
    x, values = display.points_.get_data()
    np.testing.assert_allclose(x, np.sort(p))
    np.testing.assert_allclose(values, quantile_residuals(gee, X, y, random_state=0).to_numpy()[np.argsort(p)])
    assert len(display.quantile_lines_) == 3
    lower, middle, upper = (line.get_ydata() for line in display.quantile_lines_)
    assert np.all(lower < middle) and np.all(middle < upper)
    assert abs(np.mean(middle) - 0.5) < 0.1
    assert _inside(display.figure_)
    with pytest.raises(ValueError, match="kind must be"):
        display.plot(kind="fitted")


def test_matplotlib_is_imported_by_drawing_only():
    code = "import sys, sklmm; sklmm.GroupCurvesDisplay; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_displays_of_random_effects_say_what_they_need(data, gee):
    X, _, _ = data
    with pytest.raises(TypeError, match="GEELogisticRegression does not have"):
        RandomEffectsDisplay.from_estimator(gee)
    with pytest.raises(TypeError, match="GEELogisticRegression does not have"):
        GroupCurvesDisplay.from_estimator(gee, X, "dose")
    with pytest.raises(NotFittedError):
        RandomEffectsDisplay.from_estimator(MixedLogisticRegression())


def test_effect_of_a_feature_with_two_values(data):
    """0 and 1 are no continuum: two points, and room for a legend above their error bars."""
    X, y, groups = data
    X = X.assign(dose=(X["dose"] > 0).astype(float))
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    display = EffectDisplay.from_estimator(model, X, "dose")
    assert display.values == [0.0, 1.0]
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["0", "1"]
    np.testing.assert_allclose(
        display.lines_[0].get_ydata(),
        model.predict_proba(X.head(2).assign(dose=[0.0, 1.0], **{n: X[n].mean() for n in X if n != "dose"}),
                            groups=[None, None], predict_effects="marginal")[:, 1],
        rtol=1e-9,
    )  # fmt: skip


def test_a_feature_is_a_continuum_by_the_fit(model, data):
    X, _, _ = data
    display = EffectDisplay.from_estimator(model, X.iloc[:2], "age", grid_resolution=7)
    np.testing.assert_allclose(display.values, np.linspace(X["age"][:2].min(), X["age"][:2].max(), 7))
    assert EffectDisplay.from_estimator(model, X[X["town"] == 1], "town").values == [0.0, 1.0]


def test_displays_count_rows(data, model):
    """Weighted rows are the same rows that often."""
    X, y, groups = data
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    repeated = X.index.repeat(weights)
    for at, expected in (
        (EffectDisplay.from_estimator(model, X, "dose", sample_weight=weights, by="town"),
         EffectDisplay.from_estimator(model, X.loc[repeated], "dose", by="town")),
        (GroupCurvesDisplay.from_estimator(model, X, "dose", sample_weight=weights),
         GroupCurvesDisplay.from_estimator(model, X.loc[repeated], "dose")),
    ):  # fmt: skip
        inside = (at.values >= expected.values[0]) & (at.values <= expected.values[-1])
        assert inside.sum() > 90
        curves = [at.curves[0.0]["probability"], at.curves[1.0]["upper"]] if isinstance(at.curves, dict) else at.curves
        others = (
            [expected.curves[0.0]["probability"], expected.curves[1.0]["upper"]]
            if isinstance(at.curves, dict) else expected.curves
        )  # fmt: skip
        for curve, other in zip(curves, others, strict=True):
            np.testing.assert_allclose(np.interp(expected.values, at.values, curve)[1:-1], other[1:-1], rtol=1e-2)
    display = ResidualsDisplay.from_estimator(
        model, X, y, groups, by="clinic", sample_weight=weights, random_state=0, kind="predicted"
    )
    p = model.predict_proba(X, groups=groups, predict_effects="marginal")[:, 1]
    mean = pd.Series(weights * p).groupby(groups).sum() / pd.Series(weights).groupby(groups).sum()
    np.testing.assert_allclose(np.sort(display.predicted), np.sort(mean))
    display = ResidualsDisplay.from_estimator(model, X, y, groups, sample_weight=weights, random_state=0)
    assert display.what == "observations" and len(display.residuals) == (weights > 0).sum()
    expected = quantile_residuals(model, X, y, groups, sample_weight=weights, random_state=0)
    np.testing.assert_array_equal(display.residuals, expected)
