"""Outcomes of any type."""

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import coefficients, entries

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")

LABELS = [
    *[(1, 2), (-1, 1), (0.0, 1.0), (-1.0, 1.0), (2.0, 5.0), (False, True), ("no", "yes"), (7, 3_000_000_000)],
    (np.int8(3), np.int8(7)),
]


@entries(binary=True)
@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_labels_of_classes_are_any_two(entry, labels):
    rows = entry.rows
    expected = entry.fit(rows)
    low, high = labels
    as_array = np.where(rows.y == 1, high, low)
    others = (as_array.astype(object), pd.Series(as_array), pd.Categorical(as_array), as_array.tolist())
    for given in (as_array, *(others if isinstance(low, str) else ())):
        model = entry.fit(rows._replace(y=given))
        assert model.classes_.tolist() == [low, high]
        np.testing.assert_array_equal(coefficients(model), coefficients(expected))
        np.testing.assert_array_equal(model.vcov_, expected.vcov_)
        found = model.predict(rows.X, groups=rows.groups)
        np.testing.assert_array_equal(found == high, expected.predict(rows.X, groups=rows.groups) == 1)
        assert set(found.tolist()) == {low, high}
    assert entry.fit(rows._replace(y=as_array)).classes_.dtype == as_array.dtype


@entries(binary=True)
def test_truth_values_that_are_objects(entry):
    rows = entry.rows
    """Classes are truth values, and later questions take the same objects."""
    objects = np.array([bool(value) for value in rows.y], dtype=object)
    model = entry.fit(rows._replace(y=objects))
    assert model.classes_.dtype == bool
    score = model.score(rows.X, objects, groups=rows.groups)
    assert score == model.score(rows.X, rows.y.astype(bool), groups=rows.groups) > 0.5


@entries(binary=True)
def test_whole_floats_are_printed_as_integers(entry):
    rows = entry.rows
    assert "probability of 1 (against 0)" in str(entry.fit(rows._replace(y=rows.y.astype(float))).summary())
