"""What a report says first: verdicts against the average, failed fits, several factors."""

import io
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from sklmm import MixedLogisticRegression, accuracy_report
from sklmm.accuracy.headline import headlines
from sklmm.accuracy.html import report_html
from sklmm.accuracy.progress import Progress
from sklmm.datasets import load_contraception, load_sleepstudy

QUICK = {"n_resamples": 100, "random_state": 0, "cv": 3}


def _rows(n=900, n_groups=30, sd=0.0, slope=0.0, seed=0):
    rng = np.random.default_rng(seed)
    X, groups = pd.DataFrame({"x": rng.normal(size=n)}), rng.integers(0, n_groups, n)
    eta = slope * X["x"] + sd * rng.normal(size=n_groups)[groups]
    y = pd.Series(np.where(rng.random(n) < expit(eta), "ill", "a well one"), name="state")
    return X, y, pd.Series(groups, name="ward")


def test_ranking_is_that_of_the_summary_and_of_means():
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    report = accuracy_report(["pooled", "mixed"], X[["age", "urban"]], y, groups=groups, **QUICK)
    for scenario in report.scenarios:
        ranking = report.ranking[report.ranking["scenario"] == scenario].set_index("estimator")
        summary = report.summary[(report.summary["scenario"] == scenario) & (report.summary["metric"] == "log loss")]
        summary = summary.set_index("estimator")
        assert list(ranking.index) == [*summary["estimate"].sort_values().index, "average"]
        np.testing.assert_allclose(ranking["estimate"].drop("average"), summary["estimate"].loc[ranking.index[:-1]])
        rows = report.predictions[
            (report.predictions["scenario"] == scenario) & (report.predictions["estimator"] == "mixed")
        ]
        by_fold = rows.groupby("fold")["y"].agg(["sum", "size"])
        share = (by_fold["sum"].sum() - by_fold["sum"]) / (by_fold["size"].sum() - by_fold["size"])  # of training rows
        expected = log_loss(rows["y"], rows["fold"].map(share))
        assert ranking.loc["average", "estimate"] == pytest.approx(expected, abs=1e-12)
        differences = ranking["estimate"] - ranking.loc["average", "estimate"]
        np.testing.assert_allclose(ranking["to_average"].iloc[:-1], differences.iloc[:-1], atol=1e-12)
        best = ranking.index[0]
        if best == "pooled":  # the first of the report: the differences of the summary
            found = ranking.loc["mixed", ["to_best", "to_best_lower", "to_best_upper"]].astype(float)
            expected = summary.loc["mixed", ["difference", "difference_lower", "difference_upper"]].astype(float)
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_noise_is_no_better_than_the_average():
    X, y, groups = _rows()
    report = accuracy_report(["mixed", "pooled"], X, y, groups=groups, **QUICK)
    for headline in headlines(report).values():
        assert headline.verdict.startswith(("No model predicts better", "Every model predicts worse"))
        assert headline.verdict.count("%") == 1 and not headline.failures


def test_models_worse_than_the_average_are_said_so():
    class Contrary(LogisticRegression):
        def predict_proba(self, X):
            return super().predict_proba(X)[:, ::-1]

    X, y, groups = _rows(slope=1.5)
    estimators = {"good": LogisticRegression(), "contrary": Contrary()}
    found = headlines(accuracy_report(estimators, X, y, groups=groups, **QUICK))["new groups"]
    assert "better than the average for all" in found.verdict
    assert "Worse than the average for all, by more than chance: contrary." in found.sentences
    (alone,) = headlines(
        accuracy_report({"contrary": Contrary()}, X, y, groups=groups, scenarios="new groups", **QUICK)
    ).values()
    assert alone.verdict.startswith("contrary predicts worse than the average for all")


def test_sentences_are_of_the_predictions():
    X, y, groups = _rows(sd=1.5, slope=1.0)
    report = accuracy_report(["mixed", "pooled"], X, y, groups=groups, **QUICK)
    new, known = headlines(report).values()
    assert new.title == "For a ward that is not in the data" and known.title == "For a ward that is in the data"
    assert known.verdict.startswith("Predictions are")
    rows = report.predictions[report.predictions["scenario"] == "known groups"]
    parts = rows.groupby("estimator", observed=True)
    auc = {name: roc_auc_score(part["y"], part["probability"]) for name, part in parts}
    text = " ".join(known.sentences)
    assert "one with state = 'ill' and one without" in text
    assert f"{100 * auc['mixed']:.0f} times (pooled, plain regression, as if there were no groups: " in text
    assert f"{100 * auc['pooled']:.0f}); guessing gives 50" in text
    part = rows[rows["estimator"] == "mixed"].sort_values("probability")
    assert f"{100 * part['y'].iloc[-90:].mean():.0f} % have state = 'ill'" in text
    assert f"of the 90 with its lowest {100 * part['y'].iloc[:90].mean():.0f} %" in text
    assert "(mixed model: every group" in " ".join(new.sentences + known.sentences)
    assert (" ".join(new.sentences) + text).count("every group has a level of its own") == 1  # explained once


def test_failed_fits_are_left_out_and_said_first():
    X, y, groups = _rows(sd=1.0, slope=1.0)
    estimators = {"mixed": MixedLogisticRegression(max_iter=1), "pooled": "pooled"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = accuracy_report(estimators, X, y, groups=groups, **QUICK)
        found = headlines(report)["known groups"]
        assert found.failures == [
            "Fits of mixed failed in 3 of 3 folds (they did not converge): its predictions are not to be relied on, "
            "and it is left out of what follows."
        ]
        assert "those of pooled" in found.sentences[0] and "mixed" not in " ".join(found.sentences)
        assert not report.scores.set_index("estimator").loc["mixed", "converged"].any()
        assert report.scores.set_index("estimator").loc["pooled", "converged"].all()
        page = report_html(report, findings=report.findings)
    assert "could not be fitted" in page and 'class="failed"' in page
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = accuracy_report({"mixed": MixedLogisticRegression(max_iter=1)}, X, y, groups=groups, **QUICK)
        assert "no model could be fitted" in headlines(alone)["new groups"].verdict


def test_numbers_miss_by_so_much():
    X, y, groups = load_sleepstudy(return_X_y=True, as_frame=True)
    report = accuracy_report(["mixed", "pooled"], X, y, groups=groups, **QUICK)
    found = headlines(report)["known groups"]
    rows = report.predictions[
        (report.predictions["scenario"] == "known groups") & (report.predictions["estimator"] == "mixed")
    ]
    miss = np.median(np.abs(rows["y"] - rows["prediction"]))
    assert f"Half of its predictions miss the outcome by less than {miss:.3g}" in " ".join(found.sentences)
    assert report.event is None and report.outcome_name == "Reaction"


def test_several_factors_are_told_of():
    X, y, ward = _rows(slope=1.0)
    groups = pd.DataFrame({"item": np.arange(len(X)) % 12, "ward": ward})
    report = accuracy_report(["mixed", "pooled"], X, y, groups=groups, **QUICK)
    assert report.factors == ["item", "ward"]
    assert "Rows belong to groups of item and ward." in report_html(report)
    assert headlines(report)["new groups"].title == "For an item that is not in the data"


def test_separate_models_need_rows():
    X, y, groups = _rows(n_groups=30)  # 30 rows a group
    settings = {**QUICK, "scenarios": "new groups"}
    assert "separate" in accuracy_report(None, X, y, groups=groups, **settings).estimators
    wide = X.assign(**{f"x{j}": np.roll(X["x"], j) for j in range(1, 5)})
    report = accuracy_report(None, wide, y, groups=groups, **settings)
    assert "separate" not in report.estimators and "(separate) is left out" in report.notes[0]
    assert accuracy_report(["separate"], wide, y, groups=groups, **settings).estimators == ["separate"]


def test_findings_of_a_report_and_its_pickle():
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    report = accuracy_report(["pooled", "gee"], X[["age", "urban"]], y, groups=groups, **QUICK)
    (name, found), = report.findings.items()
    assert name == "gee" and found.factors == {"urban": {"N": None, "Y": "urban"}}
    assert found.estimator.cov_type == "robust" and "Where urban is Y" in " ".join(found.of_features())
    assert found.of_groups() == []
    again = pickle.loads(pickle.dumps(accuracy_report("pooled", X[["age"]], y, groups=groups, **QUICK)))
    assert again.findings == {} and str(again)


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_one_line_on_a_terminal(monkeypatch):
    terminal, file = _Terminal(), io.StringIO()
    for stream in (terminal, file):
        monkeypatch.setattr("sys.stdout", stream)
        progress = Progress(1, "report")
        for done in range(1, 41):
            progress(done, 40, "fits: " + "x" * (done % 7))
    assert terminal.getvalue().count("\n") == 1 and terminal.getvalue().count("\r") == 40
    assert file.getvalue().splitlines()[-1].startswith("[report] 40 of 40 fits") and file.getvalue().count("\n") == 4
    monkeypatch.setattr("sys.stdout", silent := io.StringIO())
    Progress(0, "report")(1, 1, "fit")
    assert silent.getvalue() == ""
