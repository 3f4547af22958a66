"""What comes in, read rightly: targets, times, dates among the features."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.design.observations import read_times
from sklmm.design.outcomes import encode_target


@pytest.fixture(scope="module")
def data():
    return make_clustered_classification(300, 2, n_groups=15, covariance=1.0, random_state=2)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([True, False, True], dtype=object), [False, True]),  # what is left of rows with missing values
        (pd.array([True, False, True], dtype="boolean"), [False, True]),
        (np.array([1.0, 0, True], dtype=object), [0, 1]),
        (np.array([Decimal(1), Decimal(0), Decimal(1)]), [0, 1]),
        (pd.Series(["b", "a", "b"], dtype="string"), ["a", "b"]),
        (pd.Series([2, 1, 2], dtype="Int64"), [1, 2]),
        (pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"]), ["a", "b"]),
    ],
)
def test_labels_of_any_type(labels, classes):
    codes, found = encode_target(labels)
    assert codes.tolist() == [1, 0, 1] and found.tolist() == classes


def test_truth_values_that_are_objects(data):
    """Later questions take the same objects."""
    X, y, groups = data
    objects = np.array([bool(value) for value in y], dtype=object)
    model = MixedLogisticRegression().fit(X, objects, groups=groups)
    assert model.conf_int(method="profile", X=X, y=objects, groups=groups, parameters=["x0"]).shape == (1, 2)


def test_counts_and_shares_as_outcome():
    way = r"successes among trials, a line is two weighted rows: sklmm.expand_counts\(X.*'successes \| trials ~"
    held = "Only binary classification.*multiclass. It holds 0, 1, 2, 3, 4 and 2 more.*"
    with pytest.raises(ValueError, match=held + way):
        encode_target(np.arange(7))
    with pytest.raises(ValueError, match="Unknown label type: continuous.*" + way):
        encode_target(np.linspace(0, 1, 9))
    with pytest.raises(ValueError, match="Only binary classification.*It holds 'a', 'b', 'c'$"):
        encode_target(np.array(["a", "b", "c"]))


def test_times_of_polars():
    polars = pytest.importorskip("polars")
    days = [datetime.date(2024, 2, 28), datetime.date(2024, 3, 1)]
    np.testing.assert_array_equal(read_times(polars.Series(days)), [0, 2])
    moments = [datetime.datetime(2024, 2, 28, 12), datetime.datetime(2024, 3, 1)]
    np.testing.assert_array_equal(read_times(polars.Series(moments)), [0, 1.5])


def test_months_are_a_month_apart():
    months = pd.Series(pd.period_range("2024-01", periods=4, freq="M"))
    np.testing.assert_array_equal(np.diff(read_times(months)), 1)


def test_missing_python_dates():
    with pytest.raises(ValueError, match=r"time is missing.* in 1 rows \(first: row 1\)"):
        read_times([datetime.date(2024, 1, 1), None])
