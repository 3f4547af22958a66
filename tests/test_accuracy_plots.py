"""Pictures of accuracy reports: what their artists show, read back from matplotlib."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import auc, roc_auc_score

from sklmm.accuracy import accuracy_report
from sklmm.accuracy.plots import calibration_curve, plot_calibration, plot_comparison, plot_roc
from sklmm.accuracy.resampling import resample_metrics
from sklmm.datasets import load_contraception

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def report():
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    estimators = ["mixed", "pooled", "dummies", "separate"]
    return accuracy_report(estimators, X[["age", "urban"]], y, groups=groups, n_resamples=50, random_state=0)


def _hand_made(probabilities, y, codes, scenarios=("new groups",), **settings):
    """What pictures need of a report, from the same predictions in every scenario."""
    predictions, summary = [], []
    for scenario in scenarios:
        table = resample_metrics(y, probabilities, codes, n_resamples=50, random_state=0, **settings)
        table.insert(0, "scenario", scenario)
        summary.append(table)
        for name, p in probabilities.items():
            rows = {"estimator": name, "scenario": scenario, "group": codes, "y": y, "probability": p}
            predictions.append(pd.DataFrame(rows))
    return SimpleNamespace(
        predictions=pd.concat(predictions, ignore_index=True),
        summary=pd.concat(summary, ignore_index=True),
        estimators=list(probabilities),
        scenarios=list(scenarios),
        level=0.95,
        event="outcome 1",
        outcome_name=None,
        kind="classes",
    )


def _inside(figure):
    """Whether all of a figure's text is within it, and no panel's text on another's: nothing is cut off."""
    figure.canvas.draw()
    renderer, (width, height) = figure.canvas.get_renderer(), figure.bbox.size
    boxes = [ax.get_tightbbox(renderer) for ax in figure.axes]
    for box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    return True


def _labels(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def test_roc_curves_have_the_area_they_say(report):
    axes = plot_roc(report)
    assert [panel.get_title() for panel in axes] == report.scenarios
    for panel, scenario in zip(axes, report.scenarios, strict=True):
        here = (report.summary["scenario"] == scenario) & (report.summary["metric"] == "ROC AUC")
        table = report.summary[here].set_index("estimator")
        labels = [f"{name} (AUC {table['estimate'][name]:.3f})" for name in report.estimators]
        assert _labels(panel) == labels
        curves = {line.get_label(): line for line in panel.get_lines()}
        for name, label in zip(report.estimators, labels, strict=True):
            assert auc(*curves[label].get_data()) == pytest.approx(table["estimate"][name], abs=1e-9)
    assert _inside(axes[0].figure)


def test_curves_of_many_points_are_thinned():
    rng = np.random.default_rng(0)
    p = rng.random(60_000)
    y = (rng.random(60_000) < p).astype(int)
    report = _hand_made({"a": p}, y, rng.integers(0, 50, 60_000), metrics="ROC AUC")
    (line,) = [line for line in plot_roc(report).get_lines() if "AUC" in line.get_label()]
    assert len(line.get_xdata()) <= 2000
    assert auc(*line.get_data()) == pytest.approx(report.summary["estimate"][0], abs=1e-3)
    assert [line.get_data()[axis][end] for axis in (0, 1) for end in (0, -1)] == [0, 1, 0, 1]


def test_estimators_differ_in_colour_and_line(report):
    for draw in (plot_roc, plot_calibration):
        first, second = ([line for line in panel.get_lines() if "(" in line.get_label()] for panel in draw(report))
        looks = [(line.get_color(), line.get_linestyle()) for line in first]
        assert len(set(colour for colour, _ in looks)) == len(looks) == 4
        assert len(set(style for _, style in looks)) == 4
        assert looks == [(line.get_color(), line.get_linestyle()) for line in second]


def test_calibration_curve_by_hand():
    p, y = np.repeat([0.2, 0.7], 50), np.concatenate([np.repeat([0, 1], [35, 15]), np.repeat([0, 1], [10, 40])])
    curve = calibration_curve(y, p, np.arange(100))
    np.testing.assert_allclose(curve["predicted"], [0.2, 0.7])
    np.testing.assert_allclose(curve["observed"], [0.3, 0.8])
    np.testing.assert_allclose(curve["count"], [50, 50])
    # Wilson's interval of 15 of 50: statsmodels' proportion_confint(15, 50, method="wilson")
    np.testing.assert_allclose([curve["lower"][0], curve["upper"][0]], [0.19103, 0.43751], atol=2e-5)


def test_intervals_of_calibration_know_of_groups():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(50), 40)
    y = (rng.random(2000) < expit(2 * rng.normal(size=50))[codes]).astype(int)
    p = np.full(2000, 0.5)
    rows, groups = (calibration_curve(y, p, code) for code in (np.arange(2000), codes))
    width = [curve["upper"][0] - curve["lower"][0] for curve in (rows, groups)]
    assert width[1] > 3 * width[0]
    # The standard error of the mean of 50 groups of the same size.
    shares = y.reshape(50, 40).mean(axis=1)
    assert width[1] == pytest.approx(2 * 1.96 * shares.std() / np.sqrt(50), rel=0.1)


def test_weights_count_rows_in_pictures():
    rng = np.random.default_rng(0)
    p, codes, counts = rng.random(300), np.arange(300) % 20, rng.integers(1, 4, size=300)
    y, more = (rng.random(300) < p).astype(int), np.repeat(np.arange(300), counts)
    weighted, repeated = calibration_curve(y, p, codes, counts), calibration_curve(y[more], p[more], codes[more])
    for name, values in repeated.items():
        np.testing.assert_allclose(weighted[name], values, err_msg=name)
    report = _hand_made({"a": p}, y, codes)
    report.predictions["weight"] = counts.astype(float)
    x, sensitivity = plot_roc(report).lines[1].get_data()
    assert auc(x, sensitivity) == pytest.approx(roc_auc_score(y[more], p[more]))


def test_bins_with_one_class_have_intervals():
    curve = calibration_curve([0] * 20 + [1] * 20, np.repeat([0.1, 0.9], 20), np.arange(40) % 7)
    assert curve["lower"][0] == pytest.approx(0) and 0.05 < curve["upper"][0] < 0.3
    assert curve["upper"][1] == pytest.approx(1) and 0.7 < curve["lower"][1] < 0.95


def test_calibration_plot_shows_the_curves(report):
    axes = plot_calibration(report, intervals=True)
    for panel, scenario in zip(axes, report.scenarios, strict=True):
        lines = [line for line in panel.get_lines() if "(slope" in line.get_label()]
        assert [line.get_label().split(" (")[0] for line in lines] == report.estimators
        here = report.predictions[report.predictions["scenario"] == scenario].query("estimator == 'mixed'")
        curve = calibration_curve(here["y"], here["probability"], here["group"])
        np.testing.assert_allclose(lines[0].get_data(), [curve["predicted"], curve["observed"]])
        segments = np.array(panel.collections[0].get_segments())
        np.testing.assert_allclose(segments[:, :, 1].T, [curve["lower"], curve["upper"]])
        lower, upper = panel.get_xlim()
        assert lower < curve["lower"].min() and curve["upper"].max() < upper
        assert panel.get_ylim() == (lower, upper)
        assert "rows)" in panel.get_xlabel()
    assert _inside(axes[0].figure)


def test_comparison_shows_estimates_and_intervals(report):
    panel = plot_comparison(report, "Brier", scenario="known groups")
    table = report.summary.query("scenario == 'known groups' and metric == 'Brier'")
    for container, (_, row) in zip(panel.containers, table.iterrows(), strict=True):
        point, _, (interval,) = container
        assert point.get_xdata() == pytest.approx([row["estimate"]])
        np.testing.assert_allclose(interval.get_segments()[0][:, 0], [row["lower"], row["upper"]])
    assert [label.get_text() for label in panel.get_yticklabels()] == report.estimators
    assert panel.yaxis_inverted() and panel.get_xlabel() == "Brier (lower is better)"
    assert _inside(panel.figure)


def test_comparison_of_differences_and_several_metrics(report):
    axes = plot_comparison(report, ["log loss", "calibration slope"], difference=True)
    assert len(axes) == 4 and _inside(axes[0].figure)
    table = report.summary.query("metric == 'log loss' and scenario == 'new groups' and estimator != 'mixed'")
    shown = [container[0].get_xdata()[0] for container in axes[0].containers]
    np.testing.assert_allclose(shown, table["difference"])
    assert axes[0].get_xlabel() == "log loss, difference to mixed\n(lower is better)"
    dashed = [line for line in axes[0].get_lines() if line.get_linestyle() == "--"]
    assert dashed[0].get_xdata() == [0, 0]


def test_draws_into_given_axes(report):
    _, axes = plt.subplots(1, 2)
    assert list(plot_roc(report, ax=axes)) == list(axes)
    panel = plt.figure().gca()
    assert plot_calibration(report, "known groups", ax=panel) is panel
    assert panel.get_title() == ""
    with pytest.raises(ValueError, match="there are 2 panels to draw, but ax holds 1"):
        plot_roc(report, ax=panel)


def test_what_the_report_does_not_have(report):
    with pytest.raises(ValueError, match="no scenario 'old groups'; it has .'new groups', 'known groups'"):
        plot_roc(report, scenario="old groups")
    with pytest.raises(ValueError, match="unknown metric 'AUC'"):
        plot_comparison(report, metric="AUC")
    rng = np.random.default_rng(0)
    small = _hand_made({"a": rng.random(100)}, rng.integers(0, 2, 100), np.arange(100) % 20, metrics="Brier")
    with pytest.raises(ValueError, match="the report has no metric 'log loss'; it has .'Brier'"):
        plot_comparison(small, "log loss")
    assert plot_comparison(small).get_xlabel().startswith("Brier")
    with pytest.raises(ValueError, match="needs a second estimator"):
        plot_comparison(small, "Brier", difference=True)
    assert _labels(plot_roc(small)) == ["a"]  # no AUC in the summary, none in the legend
    assert _labels(plot_calibration(small)) == ["a"]


@pytest.mark.filterwarnings("error::UserWarning")
def test_strange_names_and_single_classes():
    rng = np.random.default_rng(0)
    p = {"mixed: a_b$ & <c>": rng.random(120), "_hidden": np.full(120, 0.5), "very long " * 9 + "name": np.ones(120)}
    with np.errstate(all="raise"):
        report = _hand_made(p, np.zeros(120, dtype=int), np.arange(120) % 20)
        assert "one class only: no curve" in [text.get_text() for text in plot_roc(report).texts]
        below = plot_calibration(report, intervals=True)
        assert len(_labels(below)) == 3 and _inside(below.figure)
        panel = plot_comparison(report, ["log loss", "ROC AUC"])[0]
    assert [label.get_text().strip() for label in panel.get_yticklabels()] == [
        r"mixed: a_b\$ & <c>", "_hidden", "very long ve…y long name",
    ]  # fmt: skip
    assert _inside(panel.figure)


def test_a_long_first_name_does_not_reach_into_the_next_panel():
    rng = np.random.default_rng(0)
    p = {"the first of many long names": rng.random(120), "b": rng.random(120)}
    report = _hand_made(p, np.arange(120) % 2, np.arange(120) % 20, ["new groups", "known groups", "updated groups"])
    axes = plot_comparison(report, ["log loss", "expected calibration error"], difference=True)
    assert _inside(axes[0].figure)


def test_matplotlib_is_imported_by_drawing_only():
    code = "import sys, sklmm.accuracy.plots; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
