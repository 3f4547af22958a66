"""An offset is a feature whose coefficient is 1; it comes through one of two doors, and predictions need it again."""

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import MAIN_CASES, coefficients
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from sklmm import approximate_leave_group_out, cluster_influence, make_grouped_pipeline, quantile_residuals
from sklmm.fitted import FittedMixed

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")

with_intercept = [case for case in MAIN_CASES if case.parameters.get("fit_intercept", True)]


def _offset(rows):
    return np.random.default_rng(5).normal(size=len(rows.y))


@pytest.fixture(scope="module")
def fits():
    """The fit of each case with an offset that is passed, made once."""
    found = {}

    def fit(case):
        if case not in found:
            given = case.entry.given(case.rows)
            model = case.entry.estimator(**case.parameters)
            found[case] = model.fit(case.rows.X, case.rows.y, offset=_offset(case.rows), **given)
        return found[case]

    return fit


def _in_one_table(case, offset):
    X = pd.DataFrame(np.asarray(case.rows.X), columns=[f"x{j}" for j in range(case.rows.X.shape[1])])
    table = case.rows._replace(X=X).in_one_table().X.assign(off=offset)
    return case.entry.table(table, "off", *X.columns)


@pytest.mark.parametrize("case", MAIN_CASES, ids=str)
def test_both_doors(case, fits):
    offset, expected = _offset(case.rows), fits(case)
    table = _in_one_table(case, offset)
    model = case.by_columns(offset_feature="off").fit(table, case.rows.y)
    np.testing.assert_allclose(coefficients(model), coefficients(expected), rtol=1e-8)
    assert "off" not in model.vcov_.index
    given = {"groups": case.rows.groups, "offset": offset}
    found = case.entry.predictions(model, table)
    np.testing.assert_allclose(found, case.entry.predictions(expected, case.rows.X, **given), rtol=1e-8)


@pytest.mark.parametrize("case", with_intercept, ids=str)
def test_a_constant_moves_the_intercept_alone(case):
    expected = case.fitted
    given, constant = case.entry.given(case.rows), np.full(len(case.rows.y), 2.5)
    model = case.entry.estimator(**case.parameters).fit(case.rows.X, case.rows.y, offset=constant, **given)
    moved = coefficients(expected) - 2.5 * np.eye(len(coefficients(expected)))[0]
    np.testing.assert_allclose(coefficients(model), moved, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(model.vcov_, expected.vcov_, rtol=1e-6, atol=1e-9)
    found = case.entry.predictions(model, case.rows.X, groups=case.rows.groups, offset=constant)
    np.testing.assert_allclose(found, case.entry.predict(expected, case.rows), rtol=1e-7)


def test_its_coefficient_is_1(main_case):
    """Taken off a feature's, whatever that is: the offset x1 leaves a coefficient of x1 that is 1 less."""
    rows, entry = main_case.rows, main_case.entry
    X = np.asarray(rows.X)
    model = entry.estimator(**main_case.parameters).fit(X, rows.y, offset=X[:, 1], **entry.given(rows))
    expected = np.ravel(main_case.fitted.coef_) - np.eye(X.shape[1])[1]
    np.testing.assert_allclose(np.ravel(model.coef_), expected, rtol=1e-6, atol=1e-6)


def test_without_it_and_with_two(main_case, fits):
    model, rows = fits(main_case), main_case.rows
    groups = {"groups": rows.groups}
    for method in main_case.entry.predicting:
        with pytest.raises(ValueError, match="fitted with an offset, and these rows came without: pass offset="):
            getattr(model, method)(rows.X, **groups)
    with pytest.raises(ValueError, match="fitted without an offset: leave out offset="):
        main_case.fitted.predict(rows.X, offset=np.zeros(len(rows.y)), **groups)
    with pytest.raises(ValueError, match=r"offset is missing \(NaN\) or infinite in 1 of"):
        model.predict(rows.X, offset=np.where(np.arange(len(rows.y)) == 3, np.nan, 0.0), **groups)
    with pytest.raises(ValueError, match="offset has 3 rows, but X has"):
        model.predict(rows.X, offset=np.zeros(3), **groups)
    table = _in_one_table(main_case, _offset(rows))
    estimator = main_case.by_columns(offset_feature="off")
    with pytest.raises(ValueError, match="offset came through both doors"):
        estimator.fit(table, rows.y, offset=np.zeros(len(rows.y)))
    with pytest.raises(ValueError, match=r"'off'.* is missing \(NaN\)"):
        estimator.fit(table.assign(off=np.nan), rows.y)
    with pytest.raises(ValueError, match="is named in group_features and in offset_feature"):
        main_case.by_columns(offset_feature="g").fit(table, rows.y)


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.name in case.entry.usual], ids=str)
def test_whatever_takes_rows_takes_it(case, fits):
    """Every method with an offset that is passed gives what it gives with the column."""
    rows, offset, passed = case.rows, _offset(case.rows), fits(case)
    table = _in_one_table(case, offset)
    column = case.by_columns(offset_feature="off").fit(table, rows.y)
    given = case.entry.given(rows)

    def both(ask, rtol=1e-6):
        expected, found = ask(column, table, {}), ask(passed, rows.X, {"offset": offset})
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=rtol, atol=1e-9)

    labels = {"groups": rows.groups}
    few = {"n_resamples": 3, "random_state": 0}
    both(lambda model, X, more: model.average_marginal_effects(X, **more))
    both(lambda model, X, more: model.bootstrap(X, rows.y, **(given if more else {}), **more, **few).estimates, 1e-4)

    def with_groups(ask, rtol=1e-6):
        both(lambda model, X, more: ask(model, X, more | labels if more else {}), rtol)

    with_groups(lambda model, X, more: model.score(X, rows.y, **more))
    with_groups(lambda model, X, more: quantile_residuals(model, X, rows.y, **more, random_state=0))
    if case.entry.binary:
        with_groups(lambda model, X, more: approximate_leave_group_out(model, X, rows.y, **more).probabilities)
    if not isinstance(passed._fitted, FittedMixed):
        return
    profile = {"method": "profile", "y": rows.y, "parameters": ["x0"]}
    with_groups(lambda model, X, more: model.conf_int(X=X, **profile, **more), 1e-4)
    with_groups(lambda model, X, more: model.predict_interval(X, **more))
    with_groups(lambda model, X, more: cluster_influence(model, X, rows.y, **more))
    learnt = case.entry.predictions
    with_groups(lambda model, X, more: learnt(model.update_groups(X, rows.y, keep=True, **more), X, **more))
    if case.entry.binary:
        with_groups(lambda model, X, more: model.simulate(X, random_state=0, **more) == rows.y[0])
        both(lambda model, X, more: model.marginal_coefficients(X, **more))
    else:
        with_groups(lambda model, X, more: model.simulate(X, random_state=0, **more))
        with_groups(lambda model, X, more: model.residuals(X, rows.y, **more))


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.name in case.entry.usual], ids=str)
def test_in_cross_validation_and_pipelines(case):
    rows, offset = case.rows, _offset(case.rows)
    table = _in_one_table(case, offset)
    scores = cross_val_score(case.by_columns(offset_feature="off"), table, rows.y, cv=3, scoring=case.entry.scoring)
    assert np.isfinite(scores).all()
    moved = cross_val_score(
        case.by_columns(offset_feature="off"), table.assign(off=offset + 3.0), rows.y, cv=3, scoring=case.entry.scoring
    )
    if case.parameters.get("fit_intercept", True):
        np.testing.assert_allclose(moved, scores, rtol=1e-6)
    estimator = case.entry.estimator(**case.by_columns(offset_feature="off").get_params() | {"group_features": None})
    pipeline = make_grouped_pipeline(StandardScaler(), estimator, group_features="g").fit(table, rows.y)
    expected = case.by_columns(offset_feature="off").fit(table, rows.y)
    found, expected = case.entry.predictions(pipeline, table), case.entry.predictions(expected, table)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
