"""Predictions: their methods agree with each other, and do not depend on how rows come."""

import numpy as np
import pytest
from contracts.estimators import MAIN_CASES
from scipy.special import expit, ndtr

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.entry.binary], ids=str)
def test_the_methods_agree(case):
    rows, model = case.rows, case.fitted
    given = {"groups": np.where(np.arange(len(rows.y)) % 5 == 0, -1, rows.groups)}  # a fifth of the groups unknown
    probabilities = model.predict_proba(rows.X, **given)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(model.predict_log_proba(rows.X, **given), np.log(probabilities), rtol=1e-9)
    log_odds = np.log(probabilities[:, 1] / probabilities[:, 0])
    np.testing.assert_allclose(model.decision_function(rows.X, **given), log_odds, rtol=1e-9, atol=1e-12)
    predicted = model.predict(rows.X, **given)
    np.testing.assert_array_equal(predicted, model.classes_[(probabilities[:, 1] > 0.5).astype(int)])
    assert model.score(rows.X, rows.y, **given) == np.mean(predicted == rows.y)
    weights = np.arange(len(rows.y))
    expected = np.average(predicted == rows.y, weights=weights)
    assert model.score(rows.X, rows.y, sample_weight=weights, **given) == pytest.approx(expected)


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if not case.entry.predicts_groups], ids=str)
def test_population_averages_are_of_the_linear_predictor(case):
    rows, model = case.rows, case.fitted
    expected = rows.X @ np.ravel(model.coef_) + model.intercept_
    if not case.entry.binary:
        np.testing.assert_allclose(model.predict(rows.X), expected, rtol=1e-12, atol=1e-12)
        return
    mean = {"logit": expit, "probit": ndtr, "cloglog": lambda eta: -np.expm1(-np.exp(eta))}
    expected = mean[case.parameters.get("link", "logit")](expected)
    np.testing.assert_allclose(model.predict_proba(rows.X)[:, 1], expected, rtol=1e-12)
    log_odds = np.log(expected) - np.log1p(-expected)
    np.testing.assert_allclose(model.decision_function(rows.X), log_odds, rtol=1e-12, atol=1e-12)


def test_single_precision(main_case):
    entry, rows, model = main_case.entry, main_case.rows, main_case.fitted
    found = entry.predict(model, rows._replace(X=rows.X.astype(np.float32)))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, entry.predict(model, rows), rtol=1e-5, atol=0.0 if entry.binary else 1e-6)


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.name in case.entry.usual], ids=str)
def test_many_rows_are_as_few(case):
    """Rows are worked through in chunks; where one ends makes no difference."""
    entry, rows, model = case.entry, case.rows, case.fitted
    times = 2**17 // len(rows.y) + 1
    many = rows._replace(X=np.tile(rows.X, (times, 1)), groups=np.tile(rows.groups, times))
    found = entry.predict(model, many).reshape(times, -1)
    np.testing.assert_allclose(found, np.broadcast_to(entry.predict(model, rows), found.shape), rtol=1e-8)


def test_rows_alone_are_as_among_others(main_case):
    entry, rows, model = main_case.entry, main_case.rows, main_case.fitted
    expected = entry.predict(model, rows)
    for row in (0, 1, len(rows.y) - 1):
        found = entry.predict(model, rows.take([row]))
        np.testing.assert_allclose(found, expected[[row]], rtol=1e-12)
