"""Warnings say what a fit could not do, once, at the line of the caller; the numbers are finite and right."""

import warnings

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import assert_close, clinics, coefficients, entries

from sklmm.exceptions import (
    AliasedFeaturesWarning,
    ConvergenceWarning,
    LabelTypeWarning,
    NoGroupsWarning,
    SeparationWarning,
    UnidentifiedEffectsWarning,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")


def assert_finite(entry, model):
    assert all(np.isfinite(number).all() for name, number in entry.numbers(model).items() if name != "df_resid_")
    assert np.abs(model.coef_).max(initial=0.0) < 1e4


@pytest.mark.parametrize("door", ["groups", "columns"])
def test_constant_and_collinear_columns(main_case, door):
    """They get coefficients of 0 and no standard errors; all else is as without them."""
    entry, rows, p = main_case.entry, main_case.rows, main_case.rows.X.shape[1]
    rows = rows._replace(X=pd.DataFrame(rows.X).add_prefix("x"))
    constant = 2.5 if main_case.parameters.get("fit_intercept", True) else 0.0  # else it would be an intercept
    more = rows._replace(X=rows.X.assign(same=constant, total=rows.X["x0"] + 2 * rows.X["x1"]))
    if door == "groups":
        model, table, given = entry.estimator(**main_case.parameters), more.X, entry.given(rows)
        clean = main_case.fit(rows)
    else:
        model, table, given = main_case.by_columns(), entry.table(more.in_one_table().X), {}
        clean = main_case.by_columns().fit(entry.table(rows.in_one_table().X), rows.y)
    message = "constant: 'same'; collinear with other columns: 'total'"
    with pytest.warns(AliasedFeaturesWarning, match=message) as told:
        model.fit(table, rows.y, **given)
    assert {warning.filename for warning in told} == {__file__}
    np.testing.assert_array_equal(np.ravel(model.coef_)[p:], 0)
    assert model.vcov_.index[np.isnan(np.diag(model.vcov_))].tolist() == ["same", "total"]
    numbers, expected = entry.numbers(model), entry.numbers(clean)
    for name in expected:
        if name.startswith("vcov"):
            assert np.isnan(np.diag(numbers[name])[-2:]).all()
            numbers[name] = numbers[name][: len(expected[name]), : len(expected[name])]
    numbers["coefficients"] = numbers["coefficients"][: p + 1]
    assert_close(numbers, expected, rtol=1e-7)


def test_warnings_about_many_columns_stay_short(entry):
    rows = clinics()
    constant = pd.DataFrame(np.ones((300, 100)), columns=[f"column number {j}" for j in range(100)])
    with pytest.warns(AliasedFeaturesWarning, match="'column number 9' and 90 more") as told:
        model = entry.fit(rows._replace(X=constant.assign(x=rows.X["age"])))
    assert max(len(str(warning.message)) for warning in told) < 500
    assert "column number 9 and 90 more" in str(model.summary())


@entries(binary=True)
def test_separation(entry):
    rows = clinics()
    y = (rows.X["dose"] > 0.2).astype(int).to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(SeparationWarning, match="separated by 'dose'") as told:
            model = entry.fit(rows._replace(y=y))
    assert [w.category for w in told].count(SeparationWarning) == 1
    assert_finite(entry, model)
    assert -1 < getattr(model, entry.objective[1]) <= 0
    assert model.score(rows.X, y, groups=rows.groups) == 1.0
    assert np.isfinite(model.predict_proba(rows.X, groups=rows.groups)).all()


@entries(binary=True)
def test_separation_by_many_columns_is_told_in_short(entry):
    rows = clinics().take(np.arange(100))
    separating = pd.get_dummies(pd.Series(np.arange(100) // 2 * 2 + rows.y), dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(SeparationWarning, match=r" and \d+ more: the maximum"):
            entry.fit(rows._replace(X=separating.set_axis(list(map(str, separating)), axis=1)), max_iter=30)


@pytest.mark.parametrize("max_iter", [1, 2])
def test_too_few_iterations(main_case, max_iter):
    entry, rows = main_case.entry, main_case.rows
    max_iter = max_iter if entry.binary else 1  # linear fits may need no more than two
    with pytest.warns(ConvergenceWarning, match="did not converge: stopped after .* raise max_iter"):
        model = main_case.fit(rows, max_iter=max_iter)
    assert not model.converged_
    assert_finite(entry, model)


def test_no_groups(entry):
    rows = clinics()
    with pytest.warns(NoGroupsWarning) as told:
        model = entry.estimator().fit(rows.X, rows.y)
    assert [warning.category for warning in told] == [NoGroupsWarning]
    if entry.predicts_groups:
        with pytest.warns(NoGroupsWarning, match="ignored"):
            model.predict(rows.X, groups=rows.groups)


def test_warnings_point_at_the_caller(entry):
    rows, given = clinics(), entry.given(clinics())
    records = []
    with pytest.warns(NoGroupsWarning) as record:
        entry.estimator().fit(rows.X, rows.y)
    records.append(record)
    with pytest.warns(AliasedFeaturesWarning) as record:
        entry.estimator().fit(rows.X.assign(c=0.0), rows.y, **given)
    records.append(record)
    with pytest.warns(ConvergenceWarning) as record:
        entry.estimator(max_iter=2 if entry.binary else 1).fit(rows.X, rows.y, **given)
    records.append(record)
    if entry.binary:
        with pytest.warns(SeparationWarning) as record, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            entry.estimator().fit(rows.X, (rows.X["age"] > 0).astype(int), **given)
        records.append(record)
    assert all(record[0].filename == __file__ for record in records)


# What is taken for groups ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_measurements_named_as_groups(entry):
    rows = clinics()
    message = "dose holds 300 different fractions in 300 rows.* is it the col"
    with pytest.warns(UnidentifiedEffectsWarning, match=message):
        entry.estimator(group_features="dose").fit(rows.X, rows.y)


def test_labels_that_differ_only_in_type(entry):
    rows = clinics()
    labels = rows.groups.astype(object)
    labels.iloc[::2] = labels.iloc[::2].astype(str)
    with pytest.warns(LabelTypeWarning, match="clinic has labels that differ only in type, such as 0 and '0'"):
        model = entry.fit(rows._replace(groups=labels))
    assert model.n_groups_ == {"clinic": len(set(labels))}
    assert 75 < len(set(labels)) <= 150
    assert np.isfinite(coefficients(model)).all()
