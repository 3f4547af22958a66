"""Fitted estimators as objects: clones, copies, pickles, second fits, and tables that are handed out."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import MAIN_CASES
from sklearn.base import clone

from sklmm.datasets import make_clustered_classification

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


def assert_equal(found, expected):
    """Numbers of two fits are the same to the last bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def some_other(rows, n):
    """Other rows: a few of these, with another outcome and the columns in reverse."""
    return rows.take(np.arange(n))._replace(X=rows.X[:n, ::-1], y=1 - rows.y[:n])


def test_clone(case):
    entry, rows, model = case.entry, case.rows, case.fitted
    copied = clone(model)
    assert copied.get_params().keys() == model.get_params().keys()
    for name, value in model.get_params().items():
        other = copied.get_params()[name]
        if hasattr(value, "__dict__"):  # working correlations
            assert other is not value and type(other) is type(value)
            for part, content in vars(value).items():
                np.testing.assert_array_equal(vars(other)[part], content)
        else:
            assert other == value
    assert vars(copied).keys() == copied.get_params(deep=False).keys()
    assert_equal(entry.numbers(copied.fit(rows.X, rows.y, **entry.given(rows))), entry.numbers(model))


def test_pickle_round_trip(main_case):
    entry, rows, model = main_case.entry, main_case.rows, main_case.fitted
    loaded = pickle.loads(pickle.dumps(model))
    assert_equal(entry.numbers(loaded), entry.numbers(model))
    for found, expected in zip(entry.tables(loaded), entry.tables(model), strict=True):
        if isinstance(expected(), pd.DataFrame):
            pd.testing.assert_frame_equal(found(), expected())
        np.testing.assert_array_equal(found(), expected())
    np.testing.assert_array_equal(entry.predict(loaded, rows), entry.predict(model, rows))
    pd.testing.assert_frame_equal(loaded.vcov_, model.vcov_)
    pd.testing.assert_frame_equal(loaded.conf_int(), model.conf_int())
    assert str(loaded.summary()) == str(model.summary())
    refitted = loaded.fit(rows.X, rows.y, **entry.given(rows))
    np.testing.assert_array_equal(refitted.coef_, model.coef_)


@pytest.fixture(scope="module")
def many_rows():
    """250 groups with names of some length, seen at 16 times."""
    X, y, groups = make_clustered_classification(
        4_000, 5, n_groups=250, covariance=[[1.0, 0.2], [0.2, 0.8]], size_variation=0.0, random_state=0
    )
    time = pd.Series(groups).groupby(groups).cumcount().to_numpy()
    return X, y, np.char.add("household ", groups.astype(str)), time


@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.name != "fixed"], ids=str)
def test_pickle_holds_no_rows(many_rows, case):
    """What is stored are some numbers a group, and what is of the size of the coefficients: not even a byte a row."""
    entry, rows = case.entry, case.rows._make(many_rows)
    sizes = []
    for some in (rows, rows.take(np.flatnonzero(rows.time < 8))):  # the same groups, with half of the rows
        model = case.fit(some)
        entry.predict(model, some)  # leaves no tables behind
        model.summary()
        model.fit_report_.history.clear()  # a line an iteration, whose number may differ
        sizes.append(len(pickle.dumps(model)))
    assert abs(sizes[0] - sizes[1]) < 1_000
    table = rows._replace(X=pd.DataFrame(rows.X).add_prefix("x")).in_one_table().X
    in_X = case.by_columns().fit(entry.table(table), rows.y)
    in_X.fit_report_.history.clear()
    assert len(pickle.dumps(in_X)) < sizes[0] + 4_000
    if case.name in entry.stored_a_group:
        assert sizes[0] < 8_000 + 250 * entry.stored_a_group[case.name]


def test_refit_leaves_earlier_copies_alone(main_case):
    entry, rows = main_case.entry, main_case.rows
    fitted = main_case.fit(rows)
    before, expected = entry.predict(fitted, rows), entry.numbers(fitted)
    pickled, shallow, cloned = pickle.dumps(fitted), copy.copy(fitted), clone(fitted)
    handed_out = entry.numbers(fitted)
    other = some_other(rows, len(rows.y) // 2)
    fitted.fit(other.X, other.y, **entry.given(other))
    assert not np.array_equal(entry.predict(fitted, rows), before)
    for earlier in (pickle.loads(pickled), shallow):
        np.testing.assert_array_equal(entry.predict(earlier, rows), before)
        assert_equal(entry.numbers(earlier), expected)
    assert_equal(handed_out, {name: np.array(value) for name, value in entry.numbers(main_case.fitted).items()})
    assert not hasattr(cloned, "coef_")


def test_refit_is_a_fresh_fit(main_case):
    entry, rows, fresh = main_case.entry, main_case.rows, main_case.fitted
    used = main_case.fit(some_other(rows, len(rows.y) // 2)).fit(rows.X, rows.y, **entry.given(rows))
    assert_equal(entry.numbers(used), entry.numbers(fresh))
    assert vars(used).keys() == vars(fresh).keys()


def test_tables_are_copies(main_case):
    """What a user does to a table that was handed out does not reach the model."""
    entry, rows = main_case.entry, main_case.rows
    model = main_case.fit(rows)
    expected = entry.predict(model, rows)
    for table in (lambda: model.vcov_, model.conf_int, *entry.tables(model)):
        before, given = np.array(table()), table()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(given, pd.DataFrame):
                given.iloc[:, :] = 7.0
            else:
                given[:] = 7.0
        np.testing.assert_array_equal(np.array(table()), before)
    np.testing.assert_array_equal(entry.predict(model, rows), expected)
    assert_equal(entry.numbers(model), entry.numbers(main_case.fitted))
