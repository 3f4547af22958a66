"""Metrics of the accuracy report, against scikit-learn, brute force over pairs, and the package's own plain fit."""

import warnings

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from sklmm import MixedLogisticRegression, accuracy_report
from sklmm.accuracy.calibration import calibration_bins, fit_intercept, fit_slope, logits
from sklmm.accuracy.concordance import pair_concordance
from sklmm.accuracy.html import report_html
from sklmm.accuracy.metrics import METRICS, MeanOfRows, compute_metrics, leading_column, metric_columns
from sklmm.accuracy.resampling import resample_metrics
from sklmm.exceptions import NoGroupsWarning


def _data(n=400, n_groups=25, ties=False, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_groups, n)
    eta = rng.normal(size=n) + rng.normal(size=n_groups)[codes] - 0.5
    y = (rng.random(n) < expit(eta)).astype(int)
    p = expit(1.3 * eta + rng.normal(scale=0.7, size=n) + 0.2)
    if ties:
        p = np.round(p, 1)
    return y, p, codes, rng


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_equal_scikit_learn(ties, weighted):
    y, p, codes, rng = _data(ties=ties)
    w = rng.gamma(2.0, size=len(y)) if weighted else None
    label = (p > 0.4).astype(int)
    found = compute_metrics(y, p, codes, w, threshold=0.4)
    confusion = sk.confusion_matrix(y, label, sample_weight=w, normalize="true")
    expected = {
        "log loss": sk.log_loss(y, p, sample_weight=w),
        "Brier": sk.brier_score_loss(y, p, sample_weight=w),
        "ROC AUC": sk.roc_auc_score(y, p, sample_weight=w),
        "average precision": sk.average_precision_score(y, p, sample_weight=w),
        "accuracy": sk.accuracy_score(y, label, sample_weight=w),
        "balanced accuracy": sk.balanced_accuracy_score(y, label, sample_weight=w),
        "sensitivity": confusion[1, 1],
        "specificity": confusion[0, 0],
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-13), name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_auc_within_and_between_are_shares_of_pairs(ties, weighted):
    y, p, codes, rng = _data(n=300, ties=ties)
    w = rng.gamma(2.0, size=len(y)) if weighted else np.ones(len(y))
    ones, zeros = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    order = np.heaviside(p[ones][:, None] - p[zeros], 0.5)
    pair = w[ones][:, None] * w[zeros]
    same = codes[ones][:, None] == codes[zeros]
    found = compute_metrics(y, p, codes, w, metrics=["ROC AUC", "AUC within groups", "AUC between groups"])
    assert found["ROC AUC"] == pytest.approx((order * pair).sum() / pair.sum(), rel=1e-12)
    assert found["AUC within groups"] == pytest.approx((order * pair)[same].sum() / pair[same].sum(), rel=1e-12)
    assert found["AUC between groups"] == pytest.approx((order * pair)[~same].sum() / pair[~same].sum(), rel=1e-12)


def test_auc_within_groups_is_over_pairs_of_the_same_fold():
    y, p, codes, rng = _data(n=600)
    folds = rng.integers(0, 3, len(y))
    both = np.array([f"{group} {fold}" for group, fold in zip(codes, folds, strict=True)])
    found, by_both = compute_metrics(y, p, codes, folds=folds), compute_metrics(y, p, both)
    without = compute_metrics(y, p, codes)
    assert found["AUC within groups"] == by_both["AUC within groups"] != without["AUC within groups"]
    without["AUC within groups"] = by_both["AUC within groups"]
    assert found == without


def test_folds_undo_what_holding_rows_out_does_to_groups():
    """Predictions that know nothing but the share of ones among the other rows of a group."""
    rng = np.random.default_rng(0)
    codes, folds = np.repeat(np.arange(300), 20), np.tile(np.repeat(np.arange(5), 4), 300)
    y = (rng.random(6000) < expit(rng.normal(size=300))[codes]).astype(int)
    share = np.empty(6000)
    for fold in range(5):
        train = folds != fold
        share[~train] = (np.bincount(codes[train], y[train]) / np.bincount(codes[train]))[codes[~train]]
    naive = compute_metrics(y, share, codes, metrics="AUC within groups")["AUC within groups"]
    honest = compute_metrics(y, share, codes, folds=folds, metrics="AUC within groups")["AUC within groups"]
    assert honest == 0.5  # there is no order within a group to be known
    assert naive < 0.4


def test_auc_by_group_equals_scikit_learn_in_each_group():
    y, p, codes, _ = _data(ties=True)
    concordant, pairs = pair_concordance(y, p, codes)
    for group in range(codes.max() + 1):
        here = codes == group
        assert pairs[group] == y[here].sum() * (1 - y[here]).sum()
        assert concordant[group] / pairs[group] == pytest.approx(sk.roc_auc_score(y[here], p[here]), rel=1e-13)


def test_probabilities_constant_within_groups_order_no_pair_within_them():
    y, p, codes, rng = _data()
    p = rng.random(codes.max() + 1)[codes]
    found = compute_metrics(y, p, codes, metrics=["AUC within groups", "AUC between groups"])
    assert found["AUC within groups"] == 0.5
    assert found["AUC between groups"] != 0.5


@pytest.mark.parametrize("groups", ["one", "single rows"])
def test_auc_is_undefined_without_pairs(groups):
    y, p, codes, _ = _data()
    codes = np.zeros(len(y), dtype=int) if groups == "one" else np.arange(len(y))
    found = compute_metrics(y, p, codes, metrics=["ROC AUC", "AUC within groups", "AUC between groups"])
    missing, there = ("between", "within") if groups == "one" else ("within", "between")
    assert np.isnan(found[f"AUC {missing} groups"])
    assert found[f"AUC {there} groups"] == pytest.approx(found["ROC AUC"], rel=1e-13)


def test_weight_two_is_the_row_twice_and_weight_zero_no_row():
    y, p, codes, rng = _data(ties=True)
    w = rng.integers(0, 4, len(y))
    again = np.repeat(np.arange(len(y)), w)
    weighted, repeated = compute_metrics(y, p, codes, w), compute_metrics(y[again], p[again], codes[again])
    assert list(weighted) == metric_columns()
    for name in weighted:
        assert weighted[name] == pytest.approx(repeated[name], rel=1e-10), name


def test_labels_of_groups_do_not_matter():
    y, p, codes, _ = _data()
    assert compute_metrics(y, p, codes) == pytest.approx(compute_metrics(y, p, np.array([f"g{c}" for c in codes])))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_nan_where_classes_are_compared(label):
    _, p, codes, _ = _data()
    y = np.full(len(p), label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compute_metrics(y, p, codes)
    own, other = ("sensitivity", "specificity") if label else ("specificity", "sensitivity")
    defined = {"log loss", "Brier", "accuracy", "expected calibration error", own}
    assert {name for name, value in found.items() if np.isfinite(value)} == defined
    assert found["log loss"] == pytest.approx(-np.mean(np.log(p if label else 1 - p)), rel=1e-13)
    assert found[own] == found["accuracy"]
    assert np.isnan(found[other])


def test_no_rows_give_nan():
    assert np.isnan(list(compute_metrics([], [], []).values())).all()
    assert np.isnan(list(compute_metrics([0, 1], [0.2, 0.4], [0, 0], [0, 0]).values())).all()


# --- calibration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_calibration_slope_is_a_plain_logistic_fit(weighted):
    y, p, codes, rng = _data()
    w = rng.gamma(2.0, size=len(y)) if weighted else None
    reference = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    reference.fit(logit(p)[:, None], y, sample_weight=w)
    found = compute_metrics(y, p, codes, w, metrics="calibration slope")
    assert found["calibration slope"] == pytest.approx(reference.coef_[0, 0], rel=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGroupsWarning)
        own = MixedLogisticRegression().fit(logit(p)[:, None], y, sample_weight=w)
    assert found["calibration slope"] == pytest.approx(own.coef_[0, 0], rel=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_calibration_intercept_makes_the_mean_right(weighted):
    y, p, codes, rng = _data()
    w = rng.gamma(2.0, size=len(y)) if weighted else np.ones(len(y))
    shift = compute_metrics(y, p, codes, w, metrics="calibration intercept")["calibration intercept"]
    assert np.average(expit(logit(p) + shift), weights=w) == pytest.approx(np.average(y, weights=w), rel=1e-11)


def test_recalibrated_probabilities_have_slope_one_and_intercept_zero():
    y, p, codes, _ = _data()
    intercept, slope = fit_slope(logit(p), y.astype(float), 1.0 - y)
    found = compute_metrics(y, expit(intercept + slope * logit(p)), codes)
    assert found["calibration slope"] == pytest.approx(1, abs=1e-9)
    assert found["calibration intercept"] == pytest.approx(0, abs=1e-9)


def test_truth_is_calibrated_and_doubled_log_odds_have_half_the_slope():
    rng = np.random.default_rng(1)
    eta = rng.normal(size=200_000)
    y = (rng.random(eta.size) < expit(eta)).astype(int)
    codes = np.zeros(eta.size, dtype=int)
    names = ["calibration slope", "calibration intercept", "expected calibration error"]
    truth, bold = (compute_metrics(y, expit(k * eta), codes, metrics=names) for k in (1, 2))
    assert truth["calibration slope"] == pytest.approx(1, abs=0.03)
    assert truth["calibration intercept"] == pytest.approx(0, abs=0.02)
    assert truth["expected calibration error"] < 0.006
    assert bold["calibration slope"] == pytest.approx(truth["calibration slope"] / 2, rel=1e-10)
    assert bold["expected calibration error"] > 0.05


def test_probabilities_of_zero_and_one_are_clipped():
    assert logits(np.array([0.0, 0.5, 1.0])) == pytest.approx([-36.04365, 0, 36.04365], abs=1e-4)
    y = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    p = np.array([0, 0, 1, 1, 1, 0, 0.5, 0.5])
    found = compute_metrics(y, p, np.arange(8) // 2)
    assert np.isfinite([value for name, value in found.items() if "within" not in name]).all()
    assert found["log loss"] == pytest.approx(sk.log_loss(y, p), rel=1e-13)
    # two of three bold predictions are right: expit(36.04 * slope) is 2/3
    assert found["calibration slope"] == pytest.approx(np.log(2) / 36.04365, rel=1e-5)
    assert found["calibration intercept"] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_of_wild_predictions_is_the_maximum(seed):
    rng = np.random.default_rng(seed)
    x = rng.choice([-36.0, -1.0, 0.3, 2.0, 36.0], size=40) + rng.normal(scale=1e-3, size=40)
    y = rng.integers(0, 2, 40).astype(float)
    intercept, slope = fit_slope(x, y, 1 - y)
    residual = y - expit(intercept + slope * x)
    assert residual.sum() == pytest.approx(0, abs=1e-9)
    assert residual @ x == pytest.approx(0, abs=1e-7)
    assert np.sum(y - expit(fit_intercept(x, y, 1 - y) + x)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("p", [[0.2, 0.3, 0.6, 0.7], [0.7, 0.6, 0.3, 0.2], [0.4, 0.4, 0.4, 0.4], [0.2, 0.4, 0.4, 0.7]])
def test_calibration_slope_without_a_maximum(p):
    found = compute_metrics([0, 0, 1, 1], p, [0, 0, 1, 1])
    assert np.isnan(found["calibration slope"])
    assert np.isfinite(found["calibration intercept"])


def test_bins_hold_the_same_weight():
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    bins = calibration_bins(p)
    assert np.bincount(bins).tolist() == [100] * 10
    assert np.all(np.diff(bins[np.argsort(p)]) >= 0)
    w = rng.integers(1, 5, 1000)
    heavy = np.bincount(calibration_bins(p, w), weights=w)
    assert np.abs(heavy - w.sum() / 10).max() <= 4


def test_ties_stay_in_one_bin():
    p = np.repeat([0.1, 0.2, 0.9], [50, 900, 50])
    bins = calibration_bins(p)
    assert len(np.unique(bins)) == 3
    assert all(len(np.unique(bins[p == value])) == 1 for value in (0.1, 0.2, 0.9))
    assert np.unique(calibration_bins(np.full(7, 0.3))).size == 1


def test_expected_calibration_error_by_hand():
    p, y = np.repeat([0.1, 0.6], 5), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    found = compute_metrics(y, p, np.zeros(10), metrics="expected calibration error")
    assert found["expected calibration error"] == pytest.approx((0.1 + 0.2) / 2)


# --- what is asked for --------------------------------------------------------------------------------------


def test_metrics_by_name():
    assert metric_columns(["in-class accuracy", "Brier", "Brier"]) == ["sensitivity", "specificity", "Brier"]
    assert metric_columns("specificity") == ["specificity"]
    assert metric_columns() == [column for metric in METRICS.values() for column in metric.columns]
    with pytest.raises(ValueError, match="unknown metric 'auc'; the metrics are 'log loss'"):
        metric_columns(["auc"])
    with pytest.raises(ValueError, match="metrics is empty"):
        metric_columns([])


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_keeps_the_contract(metric):
    assert METRICS[metric.name] is metric and set(metric.columns) <= set(metric_columns())
    assert metric.better in ("lower", "higher", "nearer") and (metric.target is not None) == (metric.better == "nearer")
    lowest, highest = metric.bounds
    y, p, codes, rng = _data(n=60, n_groups=9, ties=True)
    w = rng.integers(0, 3, len(y))
    values = compute_metrics(y, p, codes, w, metrics=metric.name, threshold=0.3)
    table = resample_metrics(y, {"a": p}, codes, w, metrics=metric.name, threshold=0.3, n_resamples=20, random_state=0)
    assert list(values) == table["metric"].tolist() == list(metric.columns)
    for value, (estimate, error) in zip(values.values(), table[["estimate", "std_error"]].to_numpy(), strict=True):
        assert lowest <= value <= highest and error > 0
        assert estimate == pytest.approx(value, rel=1e-10)
    one_class = compute_metrics(np.ones(60, dtype=int), p, codes, metrics=metric.name)
    assert np.isnan(list(one_class.values())).all() or not metric.needs_both


def test_estimators_are_ranked_by_the_metric_that_leads():
    assert leading_column(["Brier", "log loss"]) == "log loss"
    assert leading_column(["calibration slope", "specificity", "Brier"]) == "specificity"
    assert leading_column(["calibration slope"]) is None


class MeanAbsoluteError(MeanOfRows):
    name, better, meaning = "MAE", "lower", "Mean distance of probability and outcome."

    def each(self, rows):
        return abs(rows.y - rows.p)


def test_a_listed_metric_is_in_the_report(monkeypatch):
    monkeypatch.setitem(METRICS, "MAE", MeanAbsoluteError())
    y, p, codes, rng = _data()
    report = accuracy_report("pooled", p[:, None], y, groups=codes, metrics=["MAE"], n_resamples=20, random_state=0)
    of_pooled = report.predictions[report.predictions["scenario"] == "new groups"]
    distance = abs(of_pooled["y"] - of_pooled["probability"]).mean()
    assert report.summary["estimate"][0] == pytest.approx(distance, rel=1e-12)
    page = report_html(report)
    assert "Mean distance of probability and outcome. Lower is better." in page
    assert f"The MAE of pooled is {distance:.4f}." in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [0, 2, 1]}, "y must hold 0 and 1 only; it holds \\[2\\]"),
        ({"probability": [0.1, 1.2, 0.3]}, "row 1 has 1.2"),
        ({"probability": [0.1, np.nan, 0.3]}, "row 1 has nan"),
        ({"probability": [0.1, 0.2]}, "probability has shape \\(2,\\), but there are 3 rows in y"),
        ({"folds": [1, 1]}, "folds has shape \\(2,\\), but there are 3 rows in y"),
        ({"weights": [1, -1, 1]}, "weights must be finite and not negative"),
        ({"group_codes": [1, None, 2]}, "no group .NaN or None. in rows: 1"),
    ],
)
def test_bad_input(change, message):
    arguments = {"y": [0, 1, 1], "probability": [0.1, 0.2, 0.3], "group_codes": [0, 0, 1]} | change
    with pytest.raises(ValueError, match=message):
        compute_metrics(**arguments)
