"""Splits of a report: who is tested where."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, RepeatedKFold

from sklmm.accuracy.scenarios import SCENARIOS, plan_scenarios


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat(np.arange(30), rng.integers(2, 20, 30)))
    y = (rng.random(len(codes)) < 0.4).astype(np.uint8)
    return y, codes


def plan(rows, scenarios, **options):
    return plan_scenarios(scenarios, *rows, **{"random_state": 0, **options})


def test_every_row_is_tested_once_and_never_trained_on(rows):
    for scenario in plan(rows, ("new groups", "known groups")):
        assert np.array_equal(np.sort(scenario.rows), np.arange(len(rows[0])))
        for fold in scenario.folds:
            together = np.concatenate([fold.train, fold.test])
            assert np.array_equal(np.sort(together), np.arange(len(rows[0])))
            assert np.all(scenario.fold_numbers[np.isin(scenario.rows, fold.test)] == fold.number)


def test_new_groups_are_new(rows):
    (scenario,) = plan(rows, "new groups")
    codes = rows[1]
    for fold in scenario.folds:
        assert not set(codes[fold.train]) & set(codes[fold.test])
    assert scenario.n_unseen == len(codes) and scenario.n_groups == 30


def test_rows_of_known_groups_are_spread_evenly(rows):
    (scenario,) = plan(rows, "known groups")
    codes = rows[1]
    counts = np.array([np.bincount(codes[fold.test], minlength=30) for fold in scenario.folds])
    assert np.all(counts.max(axis=0) - counts.min(axis=0) <= 1)
    assert np.ptp(counts.sum(axis=1)) <= 1
    assert scenario.n_unseen == 0


def test_known_groups_are_split_without_regard_to_outcomes(rows):
    """Else the share of events in training would tell that in the test, see `_deal`."""
    y, codes = rows
    (one,), (other,) = plan((y, codes), "known groups"), plan((1 - y[::-1], codes), "known groups")
    for fold, same in zip(one.folds, other.folds, strict=True):
        assert np.array_equal(fold.test, same.test)


def test_rows_of_groups_of_one_row_are_counted():
    codes = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 3])
    y = np.tile([0, 1], 5).astype(np.uint8)
    (scenario,) = plan((y, codes), "known groups", cv=2)
    assert scenario.n_unseen == 2


def test_first_rows_of_new_groups_are_shown(rows):
    new, updated = plan(rows, ("new groups", "updated groups"), update_rows=3)
    codes = rows[1]
    sizes = np.bincount(codes)
    assert updated.n_groups == np.count_nonzero(sizes > 3)
    assert updated.n_left_out == sizes[sizes <= 3].sum() > 0
    for fold, whole in zip(updated.folds, new.folds, strict=True):
        assert fold.train is whole.train  # the fit is shared
        for group in np.unique(codes[whole.test]):
            own = np.flatnonzero(codes == group)
            shown, tested = (own[:3], own[3:]) if len(own) > 3 else (own[:0], own[:0])
            assert np.array_equal(np.intersect1d(fold.update, own), shown)
            assert np.array_equal(np.intersect1d(fold.test, own), tested)


def test_time_says_which_rows_come_first(rows):
    codes = rows[1]
    day = np.datetime64("2020-01-01") + np.arange(len(codes))[::-1]
    (updated,) = plan(rows, "updated groups", update_rows=2, order=day)
    for fold in updated.folds:
        for group in np.unique(codes[fold.update]):
            own = np.flatnonzero(codes == group)
            assert np.array_equal(np.intersect1d(fold.update, own), own[-2:])


def test_seeded_whatever_else_is_asked_for(rows):
    def tested(scenario):
        return [fold.test.tolist() for fold in scenario.folds]

    alone = {name: tested(plan(rows, name)[0]) for name in SCENARIOS}
    together = {scenario.name: tested(scenario) for scenario in plan(rows, SCENARIOS[::-1])}
    assert alone == together
    assert alone["known groups"] != tested(plan(rows, "known groups", random_state=1)[0])
    assert alone["new groups"] != tested(plan(rows, "new groups", random_state=1)[0])


def test_splitters_and_given_splits(rows):
    y, codes = rows
    (by_splitter,) = plan(rows, "new groups", cv=GroupKFold(3))
    given = [(codes % 3 != k, np.flatnonzero(codes % 3 == k)) for k in range(3)]
    (by_masks,) = plan(rows, "new groups", cv=iter(given))
    assert len(by_splitter.folds) == len(by_masks.folds) == 3
    assert np.array_equal(by_masks.folds[1].test, given[1][1])
    assert np.array_equal(by_masks.folds[1].train, np.flatnonzero(given[1][0]))
    new, known = plan(rows, ("new groups", "known groups"), cv={"new groups": LeaveOneGroupOut(), "known groups": 2})
    assert len(new.folds) == 30 and len(known.folds) == 2


@pytest.mark.parametrize(
    ("scenarios", "options", "message"),
    [
        ("old groups", {}, "unknown scenario 'old groups'; the scenarios are 'new groups', 'known groups', 'updated"),
        ((), {}, "scenarios is empty"),
        (["new groups"] * 2, {}, "names a scenario twice"),
        ("new groups", {"cv": 31, "factor": "district"}, "at least 31 groups, but district has 30"),
        ("known groups", {"cv": 1}, "at least 2 folds"),
        ("new groups", {"cv": "GroupKFold"}, "cv must be a number of folds, a splitter"),
        ("new groups", {"cv": {"old groups": 5}}, "'old groups', which is no scenario"),
        (SCENARIOS, {"cv": GroupKFold(3)}, "one cv cannot both hold groups out and know them"),
        ("new groups", {"cv": KFold(3, shuffle=True, random_state=0)}, r"fold 1 of new groups trains on rows of \d+"),
        ("known groups", {"cv": RepeatedKFold(n_splits=3, n_repeats=2)}, "more than once"),
        ("known groups", {"cv": [([0, 1, 2], [2, 3])]}, "fold 1 of known groups trains on rows that it tests"),
        ("known groups", {"cv": [([0, 1, 2], [10**6])]}, "names row 1000000"),
        ("known groups", {"cv": [([0, 1, 2], [])]}, "fold 1 of known groups tests no row"),
        ("known groups", {"cv": [0, 1]}, "not a pair"),
        ("updated groups", {"update_rows": 0}, "update_rows must be an integer >= 1"),
        ("updated groups", {"update_rows": 1000}, "more than update_rows=1000 rows"),
        ("updated groups", {"order": [1.0]}, "time has 1 rows"),
    ],
)
def test_errors(rows, scenarios, options, message):
    with pytest.raises(ValueError, match=message):
        plan(rows, scenarios, **options)


def test_a_training_fold_of_one_class_is_an_error():
    codes = np.repeat(np.arange(6), 5)
    y = (codes == 0).astype(np.uint8)
    with pytest.raises(ValueError, match="one class only to train on"):
        plan((y, codes), "new groups", cv=3)


def test_groups_of_one_row_cannot_be_known(rows):
    y, _ = rows
    with pytest.raises(ValueError, match="every group of group has one row"):
        plan((y, np.arange(len(y))), "known groups")
