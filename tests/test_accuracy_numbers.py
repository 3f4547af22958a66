"""Accuracy reports of measured outcomes: metrics against scikit-learn and by hand, baselines, scenarios, pictures."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklmm import GEELinearRegression, MixedLinearRegression, accuracy_report
from sklmm.accuracy._of_counts import MetricsOfCounts
from sklmm.accuracy.html import report_html
from sklmm.accuracy.kinds import CLASSES, NUMBERS, kind_of
from sklmm.accuracy.metrics import metric_columns
from sklmm.accuracy.metrics_of_numbers import METRICS_OF_NUMBERS
from sklmm.accuracy.reading import read_report
from sklmm.accuracy.resampling import resample_metrics
from sklmm.accuracy.rows import read_number_rows
from sklmm.accuracy.unpooled_of_numbers import GroupDummiesRegressor, PooledRegressor, SeparateRegressor
from sklmm.datasets import load_insteval, load_sleepstudy

NAMES = ["mixed", "mixed, u = 0", "gee", "pooled", "dummies", "separate"]
ALL = list(METRICS_OF_NUMBERS)
FAST = {"n_resamples": 20, "random_state": 0}
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklmm.exceptions.SingularFitWarning", "ignore::sklmm.exceptions.FewClustersWarning"
)


@pytest.fixture(scope="module")
def predicted():
    """Outcomes, predictions with intervals, groups, weights (some 0) and folds of unsorted rows."""
    rng = np.random.default_rng(3)
    codes, folds, w = rng.integers(0, 12, 150), rng.integers(0, 3, 150), rng.integers(0, 4, 150).astype(float)
    mean = rng.normal(size=12)[codes] + rng.normal(size=150)
    y = 1e6 + mean + rng.normal(size=150)
    return y, 1e6 + np.column_stack([mean, mean - 1.2, mean + 2]), codes, w, folds


def by_hand(y, p, groups, parts, w):
    """The metrics, from their definitions."""
    keep = w > 0
    y, (p, lower, upper), groups, parts, w = y[keep], p[keep].T, groups[keep], parts[keep], w[keep]

    def mean(values, by):
        frame = pd.DataFrame({"w": w, "s": w * values, "by": by})
        sums = frame.groupby("by").sum()
        return (sums["s"] / sums["w"])[by].to_numpy()

    cells = pd.factorize(pd.MultiIndex.from_arrays([groups, parts]))[0]
    (my, mp), overall = (mean(values, cells) for values in (y, p)), np.average(y, weights=w)
    line = LinearRegression().fit(p[:, None], y, sample_weight=w)
    return {
        "RMSE": sk.root_mean_squared_error(y, p, sample_weight=w),
        "MAE": sk.mean_absolute_error(y, p, sample_weight=w),
        "R2": sk.r2_score(y, p, sample_weight=w),
        "R2 within groups": 1 - w @ (y - my - (p - mp)) ** 2 / (w @ (y - my) ** 2),
        "R2 between groups": 1 - w @ (my - mp) ** 2 / (w @ (my - overall) ** 2),
        "calibration slope": line.coef_[0],
        "coverage": np.average((lower <= y) & (y <= upper), weights=w),
        "width": np.average(upper - lower, weights=w),
    }


def test_metrics_are_what_they_say(predicted):
    y, p, codes, w, folds = predicted
    rows = NUMBERS.read_rows(y, p, codes, w, folds=folds)
    expected = by_hand(y, p, codes, folds, w)
    table = resample_metrics(y, {"a": p}, codes, w, folds=folds, kind=NUMBERS, **FAST).set_index("metric")
    assert list(METRICS_OF_NUMBERS) == list(expected) == metric_columns(None, METRICS_OF_NUMBERS)
    for name, metric in METRICS_OF_NUMBERS.items():
        assert metric.of_rows(rows) == pytest.approx(expected[name], rel=1e-8)
        assert table.loc[name, "estimate"] == pytest.approx(expected[name], rel=1e-8)
        assert table.loc[name, "std_error"] > 0 or name == "width"
        assert metric.bounds[0] <= expected[name] <= metric.bounds[1] and metric.meaning.endswith(".")


def test_resamples_are_rows_written_out(predicted):
    """Copies of a group are groups of their own."""
    y, p, codes, w, folds = predicted
    rng = np.random.default_rng(0)
    counts = np.array([np.bincount(rng.integers(0, 12, 12), minlength=12) for _ in range(6)]).T
    of_counts = MetricsOfCounts(read_number_rows(y, p, codes, w, folds=folds), ALL, METRICS_OF_NUMBERS)
    found = of_counts(counts.astype(float))
    for k in range(6):
        take = np.concatenate([np.flatnonzero(codes == g) for g in range(12) for _ in range(counts[g, k])])
        copies = np.concatenate([[(g, c)] * np.sum(codes == g) for g in range(12) for c in range(counts[g, k])])
        labels = pd.factorize(pd.MultiIndex.from_arrays(copies.T))[0]
        expected = by_hand(y[take], p[take], labels, folds[take], w[take])
        np.testing.assert_allclose(found[k], list(expected.values()), rtol=1e-8)


def test_parts_of_the_variance_add_up(predicted):
    """What is left of the variance is left within groups and between them."""
    y, p, codes, w, folds = predicted
    rows = NUMBERS.read_rows(y, p, codes, w, folds=folds)
    totals = {name: [part.sum() for part in METRICS_OF_NUMBERS[name]._by_group(rows)][:2] for name in ALL[2:5]}
    np.testing.assert_allclose(np.add(totals["R2 within groups"], totals["R2 between groups"]), totals["R2"], rtol=1e-9)


def test_what_is_not_defined_is_nan():
    codes, w = np.repeat(np.arange(4), 5), np.ones(20)
    value = NUMBERS.compute(np.full(20, 0.1), np.full(20, 0.3), codes, w, metrics=ALL)
    assert value["RMSE"] == pytest.approx(0.2) and value["MAE"] == pytest.approx(0.2)
    assert np.isnan([value[name] for name in ALL[2:]]).all()
    y = np.repeat([0.1, 0.2, 0.3, 0.7], 5)  # constant within groups
    value = NUMBERS.compute(y, np.full(20, 0.3), codes, w, metrics=ALL)
    assert np.isnan(value["R2 within groups"]) and np.isnan(value["calibration slope"])
    assert value["R2 between groups"] == pytest.approx(value["R2"])
    one_each = NUMBERS.compute(np.arange(20.0), np.arange(20.0) + 1, np.arange(20), w, metrics=ALL)
    assert np.isnan(one_each["R2 within groups"]) and one_each["calibration slope"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [([0.5, np.nan], [1, 2], "y must be finite numbers; row 1"), ([0.5, 1], [1, np.inf], "prediction must be finite")],
)
def test_rows_that_are_none(y, p, message):
    with pytest.raises(ValueError, match=message):
        NUMBERS.compute(y, p, [0, 1], None, metrics=ALL)


# --- baselines ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 8, 120)
    X = np.column_stack([rng.normal(5, 2, 120), rng.normal(size=120)])
    y = 1e4 + 100 * (rng.normal(size=8)[groups] + X @ [0.5, -1] + rng.normal(size=120))
    return X, y, groups, rng.integers(1, 4, 120).astype(float), rng.normal(size=120) * 50


def ridge(design, y, w, penalty, centre=0.0):
    """Coefficients that minimise sum w (y - Z b)^2 + penalty (b - centre)^2."""
    Z = design * np.sqrt(w)[:, None]
    right = np.sqrt(w) * (y - design @ np.broadcast_to(centre, design.shape[1]))
    return centre + np.linalg.solve(Z.T @ Z + np.diag(penalty), Z.T @ right)


def standardised(X, w):
    mean = np.average(X, axis=0, weights=w)
    return (X - mean) / np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))


def test_pooled_is_least_squares(rows):
    X, y, groups, w, offset = rows
    model = PooledRegressor().fit(X, y, sample_weight=w, offset=offset)
    expected = LinearRegression().fit(X, y - offset, sample_weight=w).predict(X)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X, offset=offset), expected + offset, rtol=1e-9)


def test_dummies_are_a_ridge_of_effects(rows):
    X, y, groups, w, _ = rows
    model = GroupDummiesRegressor().fit(X, y, groups, sample_weight=w)
    Z = standardised(X, w)
    design = np.column_stack([np.ones(120), Z, groups[:, None] == np.arange(8)])
    b = ridge(design, y, w, np.r_[0, 1e-6, 1e-6, np.full(8, 0.01)])
    np.testing.assert_allclose(model.predict(X, groups), design @ b, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X), design[:, :3] @ b[:3], rtol=1e-9)
    indicators = LinearRegression().fit(np.delete(design, [0, 3], axis=1), y, sample_weight=w)
    assert np.abs(model.predict(X, groups) - indicators.predict(np.delete(design, [0, 3], axis=1))).max() < 0.1


def test_separate_models_are_ridges(rows):
    X, y, groups, w, _ = rows
    model = SeparateRegressor().fit(X, y, groups, sample_weight=w)
    Z = np.column_stack([np.ones(120), standardised(X, w)])
    pooled = LinearRegression().fit(Z, y, sample_weight=w)
    centre, found = np.array([pooled.intercept_, 0, 0]), model.predict(X, groups)
    for g in range(8):
        at = groups == g
        b = ridge(Z[at], y[at], w[at], np.array([0.01, 0.16, 0.16]), centre)
        np.testing.assert_allclose(found[at], Z[at] @ b, rtol=1e-9)
    np.testing.assert_allclose(model.predict(X, np.full(120, 99)), pooled.predict(Z), rtol=1e-9)


@pytest.mark.parametrize("model", [PooledRegressor(), GroupDummiesRegressor(), SeparateRegressor()], ids=repr)
def test_units_are_the_outcome_s(rows, model):
    """Predictions move with the outcome's origin and unit; constants and collinear columns are borne."""
    X, y, groups, w, _ = rows
    X = np.column_stack([X, X[:, 0], np.ones(120)])
    more = {} if isinstance(model, PooledRegressor) else {"groups": groups}
    plain = model.fit(X, y, **more).predict(X, **more)
    moved = model.fit(X, -1e-6 * (y - 3), **more).predict(X, **more)
    np.testing.assert_allclose(moved, -1e-6 * (plain - 3), rtol=1e-8)
    order = np.random.default_rng(0).permutation(120)
    again = model.fit(X[order], y[order], **{name: value[order] for name, value in more.items()})
    np.testing.assert_allclose(again.predict(X, **more), plain, rtol=1e-10)
    constant = model.fit(X, np.full(120, 0.1), **more).predict(X, **more)
    np.testing.assert_allclose(constant, 0.1, rtol=1e-12)


# --- reports ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(return_X_y=True, as_frame=True)


@pytest.fixture(scope="module")
def report(sleep):
    X, y, groups = sleep
    return accuracy_report(
        NAMES, X, y, groups=groups, random_effects="1 + Days | Subject",
        scenarios=["new groups", "known groups", "updated groups"], n_resamples=100, random_state=0,
    )  # fmt: skip


def estimates(report, scenario, metric):
    here = report.summary[(report.summary["scenario"] == scenario) & (report.summary["metric"] == metric)]
    return here.set_index("estimator")["estimate"]


def test_predictions_are_those_of_the_estimators(report, sleep):
    X, y, groups = sleep
    table = report.predictions
    assert list(table.columns) == ["estimator", "scenario", "fold", "row", "group", "y", "prediction", "lower", "upper"]
    for scenario in ("new groups", "known groups"):
        here = table[(table["scenario"] == scenario) & (table["fold"] == 2)].set_index("estimator")
        test = here.loc["mixed", "row"].to_numpy()
        train = np.setdiff1d(np.arange(180), test)
        model = MixedLinearRegression("1 + Days | Subject").fit(X.iloc[train], y.iloc[train], groups=groups.iloc[train])
        given = X.iloc[test], groups.iloc[test]
        ends = model.predict_interval(*given, level=0.9, kind="observation")
        np.testing.assert_allclose(here.loc["mixed", "prediction"], model.predict(*given))
        np.testing.assert_allclose(here.loc["mixed", ["lower", "upper"]], ends)
        zero = model.predict(*given, predict_effects="zero")
        np.testing.assert_allclose(here.loc["mixed, u = 0", "prediction"], zero)
        assert here.loc["gee", "lower"].isna().all()
        gee = GEELinearRegression().fit(X.iloc[train], y.iloc[train], groups=groups.iloc[train])
        np.testing.assert_allclose(here.loc["gee", "prediction"], gee.predict(given[0]))
    part = table[(table["estimator"] == "gee") & (table["scenario"] == "known groups")]
    expected = sk.root_mean_squared_error(part["y"], part["prediction"])
    assert estimates(report, "known groups", "RMSE")["gee"] == pytest.approx(expected)
    folds = report.scores[report.scores["scenario"] == "known groups"].set_index(["estimator", "fold"])
    part = part[part["fold"] == 1]
    assert folds.loc[("gee", 1), "MAE"] == pytest.approx(sk.mean_absolute_error(part["y"], part["prediction"]))


def test_mixed_is_best_for_known_subjects(report):
    for scenario in ("known groups", "updated groups"):
        assert estimates(report, scenario, "RMSE").idxmin() == "mixed"
    coverage = estimates(report, "known groups", "coverage")
    assert 0.85 < coverage["mixed"] < 0.97 and coverage.drop(["mixed", "mixed, u = 0"]).isna().all()


def test_mixed_is_best_for_known_lecturers():
    X, y, groups = load_insteval(return_X_y=True, as_frame=True, target="y")
    few = groups["d"].isin(groups["d"].unique()[:150]).to_numpy()
    groups = groups.loc[few, ["d", "s"]]
    options = {"scenarios": "known groups", "metrics": "RMSE", "cv": 3, **FAST}
    report = accuracy_report(NAMES, X[few], y[few], groups=groups, **options)
    rmse = report.summary.set_index("estimator")
    assert rmse["estimate"].idxmin() == "mixed" and (rmse["difference_lower"].drop("mixed") > 0).all()


def test_weights_are_rows_and_the_order_is_none(sleep):
    X, y, groups = sleep
    w = np.arange(180) % 3
    again = np.repeat(np.arange(180), w)
    folds = np.arange(180) % 2
    options = {"scenarios": "known groups", **FAST}
    splits = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(2)]
    one = accuracy_report(NAMES, X, y, groups=groups, sample_weight=w, cv=splits, **options)
    splits = [(np.flatnonzero(folds[again] != k), np.flatnonzero(folds[again] == k)) for k in range(2)]
    rows = [np.random.default_rng(0).permutation(len(again)), np.arange(len(again))]
    for order in rows:
        place = np.argsort(order)
        cv = [(np.sort(place[train]), np.sort(place[test])) for train, test in splits]
        take = again[order]
        other = accuracy_report(NAMES, X.iloc[take], y.iloc[take], groups=groups.iloc[take], cv=cv, **options)
        pd.testing.assert_frame_equal(one.summary, other.summary, rtol=1e-5, atol=1e-7)


def test_estimators_of_other_libraries(sleep):
    """Intervals of those that give standard deviations; groups, offsets and pipelines as for classes."""
    X, y, groups = sleep
    pipeline = make_pipeline(StandardScaler(), MixedLinearRegression())
    estimators = {"bayes": BayesianRidge(), "mixed": "mixed", "pipeline": pipeline, "forest": RandomForestRegressor(5)}
    report = accuracy_report(estimators, X, y, groups=groups, **FAST)
    assert report.kind == "numbers" and report.classes is None
    coverage = estimates(report, "new groups", "coverage")
    assert coverage[["bayes", "mixed", "pipeline"]].between(0.7, 1).all() and np.isnan(coverage["forest"])
    for metric in ("RMSE", "width"):
        found = estimates(report, "known groups", metric)
        assert found["pipeline"] == pytest.approx(found["mixed"], rel=1e-6)
    in_X = MixedLinearRegression(group_features="who")
    report = accuracy_report({"mixed": "mixed", "in X": in_X}, X.assign(who=groups), y, group_features="who", **FAST)
    for metric in ("RMSE", "width"):
        found = estimates(report, "known groups", metric)
        assert found["in X"] == pytest.approx(found["mixed"], rel=1e-9)


def test_offsets(sleep):
    X, y, groups = sleep
    offset = np.random.default_rng(0).normal(size=180) * 100
    plain = accuracy_report(NAMES, X, y, groups=groups, **FAST)
    table = X.assign(size=offset)
    moved = accuracy_report(NAMES, table, y + offset, groups=groups, offset_feature="size", **FAST)
    for metric in ("RMSE", "MAE", "width"):
        for scenario in ("new groups", "known groups"):
            one, other = (estimates(found, scenario, metric) for found in (plain, moved))
            np.testing.assert_allclose(one, other, rtol=1e-6)


# --- the kind -----------------------------------------------------------------------------------------------


def test_the_kind_is_decided_once():
    few, many = [0, 1, 1], [0.5, 1.5, 2.5]
    assert kind_of(None, "mixed", few) is CLASSES and kind_of(None, ["mixed", "gee"], many) is NUMBERS
    assert kind_of(None, None, ["a", "b", "c"]) is CLASSES and kind_of(None, None, [0, 1, np.nan]) is CLASSES
    assert kind_of(None, ["mixed", Ridge()], few) is NUMBERS and kind_of(None, LogisticRegression(), many) is CLASSES
    assert kind_of("numbers", "mixed", few) is NUMBERS and kind_of("classes", {"a": Ridge()}, many) is CLASSES
    assert kind_of(None, "mixed", [1, 2, 3], trials=[4, 4, 4]) is CLASSES
    with pytest.raises(ValueError, match="kind must be 'numbers', 'classes' or None, got 'counts'"):
        kind_of("counts", "mixed", few)


class Odd(RegressorMixin, BaseEstimator):
    def __init__(self, gives=np.nan):
        self.gives = gives

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.full((len(X), 2) if self.gives == 2 else len(X), self.gives)


@pytest.mark.parametrize(
    ("estimators", "options", "error", "message"),
    [
        ([LogisticRegression(), Ridge()], {}, TypeError, "'LogisticRegression' is no regressor"),
        ("mixed", {"link": "probit"}, ValueError, "link and positive are settings of classes"),
        ("mixed", {"metrics": "log loss"}, ValueError, "unknown metric 'log loss'; the metrics are 'RMSE', 'MAE'"),
        ("mixed", {"trials": np.full(180, 500), "kind": "numbers"}, ValueError, "trials are of classes"),
        ("mixed", {"kind": "classes"}, ValueError, "needs two classes"),
        (Odd(), {}, ValueError, "'Odd', new groups, fold 1: predict gives values that are no finite numbers"),
        (Odd(2), {}, ValueError, "predict gives an array of shape"),
    ],
)
def test_errors(sleep, estimators, options, error, message):
    X, y, groups = sleep
    with pytest.raises(error, match=message):
        accuracy_report(estimators, X, y, groups=groups, **FAST, **options)


def test_two_values_can_be_numbers_and_constants_are_borne(sleep):
    X, y, groups = sleep
    long = (y > 300).astype(float)
    report = accuracy_report(["pooled", DummyRegressor()], X, long, groups=groups, **FAST)
    assert report.kind == "numbers" and "RMSE" in str(report)
    report = accuracy_report("pooled", X, np.full(180, 2.5), groups=groups, kind="numbers", **FAST)
    assert estimates(report, "new groups", "RMSE")["pooled"] == pytest.approx(0, abs=1e-12)
    assert read_report(report)["new groups"][2] == "All these rows have the same outcome."


# --- what it says -------------------------------------------------------------------------------------------


def test_text(report):
    text = str(report)
    assert "a number, of mean 298.51 and standard deviation 56.172" in text
    assert re.search(r"RMSE +\d\d\.\d+ ± \d\.\d+", text)
    assert "probabilit" not in text and "class" not in text
    reading = " ".join(read_report(report)["known groups"])
    assert "mixed has the lowest RMSE, which is the best: 29.9" in reading
    assert "Predicting for every row the mean of them all, 298.51, has an RMSE of 56.172." in reading
    assert "mixed explains most of the variance of the rows of a group: 58%" in reading
    assert "Predictions of separate (0.91) are too extreme" in reading


def test_decimals_follow_the_units(sleep):
    X, y, groups = sleep
    for unit in (1e-9, 1e9):
        found = accuracy_report(["mixed", "pooled"], X, unit * y, groups=groups, metrics=["RMSE", "R2"], **FAST)
        line = [line for line in str(found).splitlines() if line.startswith("RMSE ")][-2]  # estimates for known groups
        written = [float(number) for number in re.findall(r"([\d.e+-]+) ±", line)]
        np.testing.assert_allclose(written, estimates(found, "known groups", "RMSE"), rtol=2e-3)
        assert len(line) < 80


def test_models_that_agree_differ_by_nothing(report):
    """Of balanced rows the population's line is the same in all models: rounding is no difference."""
    table = report.summary.query("scenario == 'new groups' and estimator == 'gee' and metric != 'coverage'")
    assert (table[["difference", "difference_lower", "difference_upper"]].dropna() == 0).all(axis=None)


def test_the_page_and_its_pictures(report, sleep):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    X, y, groups = sleep
    small = accuracy_report(["mixed", "pooled"], X, y, groups=groups, scenarios="known groups", cv=2, **FAST)
    page = report_html(small, title="Sleep")
    assert page.count("<img") == 4 and "predictions are right" in page and "probabilit" not in page
    places = re.findall("""(?:src|href)=["'](data:|.)""", page)
    assert set(places) == {"data:", "#"} and "url(" not in page and "@import" not in page
    axes = report.plot_predicted(scenario="known groups")
    points = axes[0].get_lines()[1].get_xydata()
    part = report.predictions.query("scenario == 'known groups' and estimator == 'mixed'")
    expected = part[["prediction", "y"]].sort_values("prediction").to_numpy()
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(expected, axis=0))
    panel = report.plot_calibration("known groups")
    curve = panel.get_lines()[0].get_xydata()
    part = part.sort_values("prediction", kind="stable")
    tenth = part.iloc[:18]
    np.testing.assert_allclose(curve[0], [tenth["prediction"].mean(), tenth["y"].mean()])
    assert report.plot_comparison("R2 within groups")[0].get_xlabel().startswith("R2 within groups (higher")
    assert report.plot_comparison(scenario="new groups").get_xlabel().startswith("RMSE")
    with pytest.raises(ValueError, match="a report of numbers has no ROC curves: see plot_predicted"):
        report.plot_roc()
    plt.close("all")


def test_intervals_of_calibration_curves_know_groups():
    """With whole groups in bins, the interval is that of the mean of group means."""
    from sklmm.accuracy.plots import calibration_curve

    rng = np.random.default_rng(0)
    means = rng.normal(size=40)
    y, p, groups = np.repeat(means, 5), np.repeat(np.arange(40) >= 20, 5) * 1.0, np.repeat(np.arange(40), 5)
    curve = calibration_curve(y, p, groups, n_bins=2, kind=NUMBERS)
    for k, half in enumerate((means[:20], means[20:])):
        assert curve["observed"][k] == pytest.approx(half.mean())
        assert curve["upper"][k] - half.mean() == pytest.approx(1.959964 * half.std() / np.sqrt(20), rel=1e-6)
