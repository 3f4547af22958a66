"""Effects drawn where they are hard to read: many curves, combinations without data, legends over error bars."""

import numpy as np
import pandas as pd
import pytest

from sklmm import EffectDisplay, GEELogisticRegression, GroupCurvesDisplay, MixedLogisticRegression
from sklmm.datasets import load_contraception, make_clustered_classification
from sklmm.exceptions import AliasedFeaturesWarning, NotEstimableWarning

pytest.importorskip("matplotlib").use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def _band(band):
    """Lower and upper edge of a filled area, over ascending x."""
    vertices = band.get_paths()[0].vertices
    x = np.unique(vertices[:, 0])
    return np.array([[vertices[vertices[:, 0] == at, 1].min(), vertices[vertices[:, 0] == at, 1].max()] for at in x])


def test_overlapping_bands_of_many_curves_have_axes_of_their_own():
    """Each with the other curves in grey; apart, in given axes or if told, they stay in one picture."""
    X, y, groups = make_clustered_classification(
        900, 2, n_groups=30, coef=[1.0, -0.5], covariance=1.0, random_state=2
    )
    X = pd.DataFrame(X, columns=["dose", "age"]).assign(town=np.arange(900) % 5)
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    display = EffectDisplay.from_estimator(model, X, "dose", by="town", grid_resolution=9)
    assert len(display.axes_) == 5 and display.ax_ is display.axes_[0]
    assert [panel.get_title() for panel in display.axes_] == [f"town = {k}" for k in range(5)]
    for k, panel in enumerate(display.axes_):
        line, *others = sorted(panel.lines, key=lambda line: -line.get_zorder())
        assert line is display.lines_[k] and {other.get_color() for other in others} == {"0.6"}
        curves = [display.curves[j]["probability"] for j in range(5) if j != k]
        np.testing.assert_array_equal([other.get_ydata() for other in others], curves)
        assert _band(display.bands_[k])[:, 1] == pytest.approx(display.curves[k]["upper"])
    assert len({line.get_color() for line in display.lines_}) == 5
    assert display.ax_.get_ylabel() == "P(y = 1)\n(95 % confidence band)"
    assert [bool(panel.get_xlabel()) for panel in display.axes_] == [False, False, True, True, True]
    figure, ax = plt.subplots()
    for drawn in (display.plot(facets=False), display.plot(ax)):
        assert len(drawn.axes_) == 1 and len({line.get_linestyle() for line in drawn.lines_}) > 3
        assert [text.get_text() for text in drawn.ax_.get_legend().get_texts()] == [f"town = {k}" for k in range(5)]
    assert len(EffectDisplay.from_estimator(model, X[X["town"] < 3], "dose", by="town").axes_) == 1
    wide = {k: {name: values + 9 * k for name, values in curve.items()} for k, curve in display.curves.items()}
    assert len(EffectDisplay("dose", display.values, wide, by="town").plot().axes_) == 1
    _, axes = plt.subplots(1, 5)
    assert display.plot(axes).axes_.tolist() == list(axes)
    with pytest.raises(ValueError, match="5 curves to draw, each in axes of its own, but ax holds 2"):
        display.plot(axes[:2])
    labels = EffectDisplay.from_estimator(model, X, "town", facets=True)
    assert len(labels.axes_) == 1


def test_effects_at_a_level_that_is_none():
    pytest.importorskip("formulaic")
    women = load_contraception(as_frame=True).frame
    model = GEELogisticRegression.from_formula("use ~ age + livch", women, groups="district")
    with pytest.raises(ValueError, match="at: '4' is no level of 'livch'; there are"):
        EffectDisplay.from_estimator(model, women, "age", at={"livch": "4"})


def test_legends_do_not_cover_error_bars():
    pytest.importorskip("formulaic")
    women = load_contraception(as_frame=True).frame
    with pytest.warns(AliasedFeaturesWarning):
        model = GEELogisticRegression.from_formula(
            "use ~ age*ch + I(age**2) + urban + livch", women, groups="district"
        )
    display = EffectDisplay.from_estimator(model, women, "livch", by="urban")
    display.figure_.canvas.draw()
    legend = display.ax_.get_legend().get_window_extent()
    for band in display.bands_:
        for segment in band.lines[2][0].get_segments():
            (x, low), (_, high) = display.ax_.transData.transform(segment)
            assert not (legend.x0 <= x <= legend.x1 and low < legend.y1 and high > legend.y0)


def test_gaps_where_the_data_say_nothing():
    """Women without living children have none: a combination of both that contradicts is not estimable."""
    pytest.importorskip("formulaic")
    women = load_contraception(as_frame=True).frame
    with pytest.warns(AliasedFeaturesWarning):
        model = GEELogisticRegression.from_formula("use ~ age + ch + livch", women, groups="district")
    with pytest.warns(NotEstimableWarning, match="1 of 4 rows hold combinations"):
        display = EffectDisplay.from_estimator(model, women, "livch", at={"ch": "Y"})
    probability = display.curves[None]["probability"]
    assert np.isnan(probability).tolist() == [True, False, False, False]
    assert display.lines_[0].get_xdata().tolist() == [1, 2, 3]
    with pytest.warns(AliasedFeaturesWarning):
        mixed = MixedLogisticRegression.from_formula("use ~ age + ch + livch + (1 | district)", women)
    with pytest.warns(NotEstimableWarning, match="100 of 100 rows"):
        display = GroupCurvesDisplay.from_estimator(mixed, women, "age", at={"ch": "N", "livch": "2"})
    assert np.isnan(display.curves).all() and np.isnan(display.population).all()
