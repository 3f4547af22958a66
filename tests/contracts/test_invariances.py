"""What must not change a fit, and how it must change where it does."""

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import CASES, MAIN_CASES, assert_close, assert_same, coefficients

from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")


# Rows and groups ------------------------------------------------------------------------------------------------------


def test_row_order(case):
    rows, expected = case.rows, case.fitted
    orders = [np.random.default_rng(0).permutation(len(rows.y)), np.argsort(rows.groups, kind="stable")]
    if case.entry.takes_times:
        orders += [np.lexsort((rows.time, rows.groups)), np.lexsort((-rows.time, -rows.groups))]
    for order in orders:
        assert_same(case.entry, case.fit(rows.take(order)), expected)


def test_relabelled_groups(main_case):
    """Also where the labels' order is another; as numbers, strings, categories, dates."""
    rows, expected = main_case.rows, main_case.fitted
    shuffled = np.random.default_rng(1).permutation(1000)[rows.groups]
    text = np.char.add("child ", shuffled.astype(str))
    for labels in (
        -rows.groups,
        shuffled,
        shuffled + 0.5,
        text,
        text.astype(object),
        pd.Categorical(text),
        pd.to_datetime("2020-01-01") + pd.to_timedelta(shuffled, "D"),
    ):
        model = main_case.fit(rows._replace(groups=labels))
        in_old_order = pd.Series(labels).groupby(rows.groups).first().tolist()
        assert_same(main_case.entry, model, expected, groups=in_old_order)
        assert model.n_groups_ == {"group": len(in_old_order)}


@pytest.mark.parametrize("case", [case for case in CASES if case.entry.binary], ids=str)
def test_swapped_classes(case):
    entry, rows, expected = case.entry, case.rows, case.fitted
    if case.parameters.get("link") == "cloglog":  # which is another model then, unless the event is swapped, too
        model = case.fit(rows._replace(y=1 - rows.y), positive=0)
        assert_close(entry.numbers(model), entry.numbers(expected), rtol=1e-9)
        np.testing.assert_allclose(entry.predict(model, rows), 1 - entry.predict(expected, rows), rtol=1e-9)
        return
    model = case.fit(rows._replace(y=1 - rows.y))
    assert model.converged_
    np.testing.assert_allclose(coefficients(model), -coefficients(expected), rtol=1e-9, atol=1e-12)
    found = entry.numbers(model)
    for name in found.keys() & {"coefficients", "effects"}:
        found[name] = -found[name]
    assert_close(found, entry.numbers(expected), rtol=1e-9)
    np.testing.assert_allclose(entry.predict(model, rows), 1 - entry.predict(expected, rows), rtol=1e-9)


# Columns --------------------------------------------------------------------------------------------------------------


def test_scaled_and_shifted_columns(main_case):
    """Coefficients change as they must, and predictions not at all.

    Fay and Graubard's covariance belongs to the coordinates: it transforms where columns are only scaled. So do random
    slopes without their intercept, or not correlated with it.
    """
    entry, rows, expected, parameters = main_case.entry, main_case.rows, main_case.fitted, main_case.parameters
    p = rows.X.shape[1]
    scale, shift = np.array([50.0, 0.01, -3.0])[:p], np.array([-3.0, 1000.0, 7.0])[:p]
    movable = parameters.get("fit_intercept", True) and "||" not in (parameters.get("random_effects") or "")
    for moved in (np.zeros(p), shift) if movable else (np.zeros(p),):
        X = rows.X * scale + moved
        found = main_case.fit(rows._replace(X=X))
        # raw intercept and slopes as functions of the new ones
        J = np.diag(np.r_[1.0, scale])
        J[0, 1:] = moved
        np.testing.assert_allclose(J @ coefficients(found), coefficients(expected), rtol=1e-7)
        numbers, originals = entry.numbers(found), entry.numbers(expected)
        unchanged = {"log-likelihood", "BIC", "qic_", "qicu_", "cic_", "dispersion_", "quasi_likelihood_"}
        for name in originals.keys() & unchanged:
            np.testing.assert_allclose(numbers[name], originals[name], rtol=1e-9, err_msg=name)
        if "correlation" in originals:
            np.testing.assert_allclose(numbers["correlation"], originals["correlation"], rtol=1e-8, atol=1e-9)
        kept = slice(None) if parameters.get("fit_intercept", True) else slice(1, None)
        for name in originals:
            if name.startswith("vcov") and not (name == "vcov fay-graubard" and moved.any()):
                vcov = originals[name]
                moved_back = J[kept, kept] @ numbers[name] @ J[kept, kept].T
                se = np.sqrt(np.diag(vcov))
                assert np.abs((moved_back - vcov) / np.outer(se, se)).max() < 1e-6, name
        np.testing.assert_allclose(
            entry.predict(found, rows._replace(X=X)), entry.predict(expected, rows), rtol=1e-8
        )


WITHOUT_SLOPES = [case for case in MAIN_CASES if "x0" not in (case.parameters.get("random_effects") or "")]


@pytest.mark.parametrize("case", WITHOUT_SLOPES, ids=str)
def test_another_basis_of_the_columns(case):
    entry, rows, expected = case.entry, case.rows, case.fitted
    p = rows.X.shape[1]
    A = np.array([[1.0, 0.3, 0.0], [0.2, 1.0, -0.5], [0.0, 0.1, 2.0]])[:p, :p]
    found = case.fit(rows._replace(X=rows.X @ A))
    np.testing.assert_allclose(A @ np.ravel(found.coef_), np.ravel(expected.coef_), rtol=1e-7)
    numbers, originals = entry.numbers(found), entry.numbers(expected)
    for name in originals:
        if name.startswith("vcov") and name != "vcov fay-graubard":  # that belongs to the coordinates
            np.testing.assert_allclose(A @ numbers[name][1:, 1:] @ A.T, originals[name][1:, 1:], rtol=1e-6)
    predicted = entry.predict(found, rows._replace(X=rows.X @ A))
    np.testing.assert_allclose(predicted, entry.predict(expected, rows), rtol=1e-8, atol=entry.zero)


WITH_INTERCEPT = [case for case in MAIN_CASES if case.parameters.get("fit_intercept", True)]


@pytest.mark.parametrize("case", WITH_INTERCEPT, ids=str)
def test_a_constant_column_is_an_intercept(case):
    entry, rows, expected = case.entry, case.rows, case.fitted
    X = pd.DataFrame(rows.X).add_prefix("x")
    X.insert(0, "one", 1.0)
    found = case.fit(rows._replace(X=X), fit_intercept=False)
    assert np.ravel(found.intercept_).tolist() == [0.0]
    numbers, originals = entry.numbers(found), entry.numbers(expected)
    assert numbers["coefficients"][0] == 0
    numbers["coefficients"] = numbers["coefficients"][1:]
    assert_close(numbers, originals, rtol=1e-6)
    for name in ("coefficients", "log-likelihood", "qic_", "correlation"):
        found_, expected_ = numbers.get(name, 0.0), originals.get(name, 0.0)
        np.testing.assert_allclose(found_, expected_, rtol=1e-8, atol=entry.zero, err_msg=name)
    np.testing.assert_allclose(found.vcov_, expected.vcov_, rtol=1e-6)
    predicted = entry.predict(found, rows._replace(X=X))
    np.testing.assert_allclose(predicted, entry.predict(expected, rows), rtol=1e-8, atol=entry.zero)


def test_memory_layout_and_precision(main_case):
    entry, rows, expected = main_case.entry, main_case.rows, main_case.fitted
    X = rows.X
    wide = np.zeros((len(X), 2 * X.shape[1] + 1))
    wide[:, 1::2] = X
    beside = np.zeros((len(X), 7))
    beside[:, 1 : 1 + X.shape[1]] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(X.nbytes + 1, dtype=np.uint8)[1:].view(float).reshape(X.shape)
    unaligned[:] = X
    for same in (
        np.asfortranarray(X),
        wide[:, 1::2],
        beside[:, 1 : 1 + X.shape[1]],
        X[::-1][::-1],
        read_only,
        X.tolist(),
        pd.DataFrame(X).add_prefix("x"),
        pd.DataFrame(X).add_prefix("x").astype("Float64"),
        unaligned,
        X.astype(">f8"),
    ):
        assert_same(entry, main_case.fit(rows._replace(X=same)), expected, rtol=1e-11)
    single = X.astype(np.float32)
    doubled = main_case.fit(rows._replace(X=single.astype(np.float64)))
    for same in (single, np.asfortranarray(single), np.repeat(single, 2, axis=0)[::2]):
        assert_same(entry, main_case.fit(rows._replace(X=same)), doubled, rtol=entry.rounding)


@pytest.mark.parametrize("order", ["C", "F"])
def test_fit_does_not_touch_its_input(main_case, order):
    """Arrays that cannot be written to are fitted, and tables are as they were."""
    entry, rows = main_case.entry, main_case.rows
    given = [np.array(rows.X, order=order), *(np.array(part) for part in rows[1:])]
    weights = np.full(len(rows.y), 2.0)
    before = [array.copy() for array in (*given, weights)]
    for array in (*given, weights):
        array.flags.writeable = False
    model = main_case.fit(rows._make(given), weights)
    entry.predictions(model, given[0], groups=given[2])
    for array, copied in zip((*given, weights), before, strict=True):
        np.testing.assert_array_equal(array, copied)
    frame = rows._replace(X=pd.DataFrame(np.array(rows.X, order=order)).add_prefix("x")).in_one_table().X
    expected = frame.copy(deep=True)
    main_case.by_columns().fit(entry.table(frame), rows.y)
    pd.testing.assert_frame_equal(frame, expected)


# Threads --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many_rows():
    X, y, groups = make_clustered_classification(
        20_000, 4, n_groups=1_500, covariance=[[1.0, 0.2], [0.2, 0.5]], random_state=0
    )
    return X, y, groups, pd.Series(groups).groupby(groups).cumcount().to_numpy()


# The correlation that is fixed has no entries for the many times of these rows.
THREADED = [case for case in MAIN_CASES if case.name != "fixed"]


@pytest.mark.parametrize("case", THREADED, ids=str)
def test_thread_count_changes_no_bit(many_rows, case):
    entry, rows = case.entry, case.rows._make(many_rows)
    one, *others = (case.fit(rows, n_threads=n) for n in (1, 2, 4))
    expected = entry.numbers(one)
    for other in others:
        for name, value in entry.numbers(other).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
        np.testing.assert_array_equal(other.n_iter_, one.n_iter_)
        np.testing.assert_array_equal(entry.predict(other, rows), entry.predict(one, rows))


# Special cases --------------------------------------------------------------------------------------------------------


def test_without_groups_it_is_the_plain_model(entry):
    rows = entry.rows
    with pytest.warns(NoGroupsWarning) as told:
        model = entry.estimator().fit(rows.X, rows.y)
    assert [warning.category for warning in told] == [NoGroupsWarning]
    plain = entry.plain.fit(rows.X, rows.y)
    np.testing.assert_allclose(coefficients(model), coefficients(plain), rtol=1e-8)
    np.testing.assert_allclose(
        entry.predictions(model, rows.X), entry.predictions(plain, rows.X), rtol=1e-8
    )
    assert model.n_groups_ == {}


def test_groups_alone(entry):
    """Groups may come without any features, through either door."""
    rows = entry.rows
    model = entry.fit(rows._replace(X=np.empty((len(rows.y), 0))))
    assert model.coef_.size == 0
    assert np.isfinite(coefficients(model)).all()
    assert model.vcov_.shape == (1, 1)
    assert model.vcov_.iloc[0, 0] > 0
    assert entry.predictions(model, np.empty((2, 0)), groups=rows.groups[:2]).shape == (2,)
    frame = rows._replace(X=pd.DataFrame(index=range(len(rows.y))))
    in_X = entry.by_columns().fit(entry.table(frame.in_one_table().X), rows.y)
    for other in (entry.fit(frame), in_X):
        assert_same(entry, other, model, rtol=1e-12)
    with pytest.raises(ValueError, match="0 feature"):
        entry.estimator().fit(np.empty((len(rows.y), 0)), rows.y)
