"""Weights count rows."""

import numpy as np
import pytest
from contracts.estimators import CASES, assert_same

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")


# Under working correlations by time rows that come twice would have one time: there weights are those of groups. So are
# they in geepack's moments.
REPEATABLE = [
    case
    for case in CASES
    if case.parameters.get("correlation", "exchangeable") in ("independence", "exchangeable")
    and case.parameters.get("ddof_correction", True)
]


@pytest.mark.parametrize("case", REPEATABLE, ids=str)
def test_whole_weights_count_rows(case):
    """Weight 2 is the row twice in its group, 0 the row left out: everything, to 1e-10."""
    entry, rows = case.entry, case.rows
    weights = np.random.default_rng(2).integers(0, 4, size=len(rows.y))
    weights[rows.groups == rows.groups[0]] = 0
    repeated = rows.take(np.repeat(np.arange(len(rows.y)), weights))
    repeated = repeated._replace(time=np.arange(len(repeated.y)))
    found, expected = case.fit(rows, weights), case.fit(repeated)
    assert_same(entry, found, expected, rtol=1e-10)
    assert found.n_obs_ == expected.n_obs_ == weights.sum()
    assert found.n_groups_ == expected.n_groups_
    np.testing.assert_allclose(entry.predict(found, rows), entry.predict(expected, rows), rtol=1e-9)


def test_rows_without_weight_are_not_there(case):
    """They take their groups, times and classes along."""
    rows = case.rows
    odd = np.arange(len(rows.y)) == 5
    spoilt = rows._replace(y=np.where(odd, 2, rows.y), time=np.where(odd, np.nan, rows.time))  # a third class
    kept = (rows.groups > np.quantile(rows.groups, 0.1)) & ~odd
    found = case.fit(spoilt, kept.astype(float))
    assert_same(case.entry, found, case.fit(rows.take(np.flatnonzero(kept))))
    assert found.n_groups_ == {"group": len(np.unique(rows.groups[kept]))}
    if case.entry.binary:
        assert found.classes_.tolist() == [0, 1]


def test_unit_weights_are_none(case):
    assert_same(case.entry, case.fit(case.rows, np.ones(len(case.rows.y))), case.fitted, rtol=1e-11)
