"""`positive` names the event that coefficients are of; classes, and what is predicted of them, stay as they are."""

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import ENTRIES, MAIN_CASES, assert_same, coefficients
from sklearn.base import clone
from sklearn.calibration import calibration_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score

from sklmm import approximate_leave_group_out, compare_models, quantile_residuals

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")

CASES = [case for case in MAIN_CASES if case.entry.binary and case.parameters.get("link") != "cloglog"]
BINARY = pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.binary], ids=str)


def _both(case):
    """Fits of either event, and the labels."""
    y = np.where(case.rows.y == 1, "yes", "no")
    rows = case.rows._replace(y=y)
    return rows, case.fit(rows), case.fit(rows, positive="no")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_logit_of_the_other_class_has_the_other_sign(case):
    rows, second, first = _both(case)
    np.testing.assert_allclose(coefficients(first), -coefficients(second), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(first.vcov_, second.vcov_, rtol=1e-5, atol=1e-9)
    assert first.classes_.tolist() == second.classes_.tolist() == ["no", "yes"]
    groups = {"groups": rows.groups}
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        found, expected = (getattr(model, method)(rows.X, **groups) for model in (first, second))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert (first.predict(rows.X, **groups) == second.predict(rows.X, **groups)).all()
    assert first.score(rows.X, rows.y, **groups) == second.score(rows.X, rows.y, **groups)
    explicit = case.fit(rows, positive="yes")
    assert_same(case.entry, explicit, second)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in case.entry.usual], ids=str)
def test_words_and_questions(case):
    rows, second, first = _both(case)
    assert "probability of 'no' (against 'yes')" in str(first.summary())
    found, expected = (model.average_marginal_effects(rows.X)["estimate"] for model in (first, second))
    np.testing.assert_allclose(found, -expected, rtol=1e-5, atol=1e-8)
    asked = {"groups": rows.groups} if case.entry.predicts_groups else {}
    found, expected = (approximate_leave_group_out(model, rows.X, rows.y, rows.groups).probabilities
                       for model in (first, second))  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    residuals = quantile_residuals(first, rows.X, rows.y, **asked, random_state=0)
    assert ((residuals > 0) & (residuals < 1)).all()
    assert compare_models({"first": first, "second": second}) is not None
    if case.entry.predicts_groups:
        found, expected = (model.predict_interval(rows.X, **asked) for model in (first, second))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        draws = [model.simulate(rows.X, rows.groups, n=200, random_state=0) == "yes" for model in (first, second)]
        np.testing.assert_allclose(draws[0].mean(), draws[1].mean(), atol=0.02)
        new = first.update_groups(rows.X, rows.y, rows.groups, keep=True).predict_proba(rows.X, **asked)
        expected = second.update_groups(rows.X, rows.y, rows.groups, keep=True).predict_proba(rows.X, **asked)
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)


@BINARY
def test_scores_and_calibration_do_not_depend_on_it(entry):
    rows = entry.rows
    table = entry.table(rows._replace(X=_frame(rows)).in_one_table().X, "x0", "x1")
    estimators = [entry.by_columns(), entry.by_columns(positive=0)]
    for scoring in ("neg_log_loss", "roc_auc", "neg_brier_score", "accuracy"):
        by_event = [cross_val_score(clone(e), table, rows.y, cv=3, scoring=scoring) for e in estimators]
        np.testing.assert_allclose(*by_event, rtol=1e-6)
    folds = list(StratifiedKFold(3).split(table, rows.y))
    scored = cross_val_score(estimators[1], table, rows.y, cv=folds, scoring="neg_log_loss")
    for (train, test), score in zip(folds, scored, strict=True):
        fitted = clone(estimators[1]).fit(table.iloc[train], rows.y[train])
        p = fitted.predict_proba(table.iloc[test])[:, 1]
        assert score == pytest.approx(np.mean(np.log(np.where(rows.y[test] == 1, p, 1 - p))), rel=1e-12)
    found = [cross_val_predict(e, table, rows.y, cv=3, method="predict_proba")[:, 1] for e in estimators]
    curves = [calibration_curve(rows.y, p, n_bins=5) for p in found]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-6)


def _frame(rows):
    return pd.DataFrame(np.asarray(rows.X)[:, :2], columns=["x0", "x1"])


@BINARY
def test_a_label_that_is_none(entry):
    with pytest.raises(ValueError, match="positive='maybe' is none of the classes of y, 0, 1"):
        entry.fit(entry.rows, positive="maybe")
