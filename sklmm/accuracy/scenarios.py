"""The questions that a report asks, as splits of the rows: new groups, known groups, groups after a few rows.

Everything here works on positions of rows, on integer codes of groups and on outcomes as numbers: neither an index nor
the type of the labels has a say in who is tested where.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

SCENARIOS = ("new groups", "known groups", "updated groups")
N_FOLDS = 5

_HOLD_GROUPS_OUT = ("new groups", "updated groups")


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of the rows of one fold.

    Attributes
    ----------
    number : int
        From 1.
    train, test : ndarray of intp
    update : ndarray of intp
        Rows of the tested groups that are shown to a model after its fit; empty but for "updated groups".
    """

    number: int
    train: np.ndarray
    test: np.ndarray
    update: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of counts, of which each is one row or two: they stay whole, and are what splits of the caller's are of.

    Attributes
    ----------
    of_row : ndarray of int, shape (n,)
        The line that each row is from, ascending.
    X : array-like with a row a line
    y, codes : ndarray with an entry a line
        Numbers of successes; groups.
    weights : ndarray with an entry a line, or None
        How often each line counts, besides its trials.
    """

    of_row: np.ndarray
    X: object
    y: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None = None

    def rows(self, lines):
        """Positions of all rows of lines."""
        first, last = np.searchsorted(self.of_row, lines), np.searchsorted(self.of_row, lines, side="right")
        size = last - first
        return np.repeat(first + size - np.cumsum(size), size) + np.arange(size.sum())


@dataclass(frozen=True, eq=False)
class Scenario:
    """A scenario and its folds.

    Attributes
    ----------
    name : str
    folds : list of Fold
        Those that share the array `train` with folds of another scenario share the fit.
    n_groups : int
        Groups with rows that are tested.
    n_unseen : int
        Tested rows of groups without a row in training. That is what new groups are; among known groups it happens to
        groups of one row.
    n_left_out : int
        Rows of groups that have too few rows to be updated and tested.
    n_tested : int
        These three count a line of counts once.
    """

    name: str
    folds: list
    n_groups: int
    n_unseen: int
    n_left_out: int
    n_tested: int

    @property
    def rows(self):
        """Positions of all tested rows, fold by fold."""
        return np.concatenate([fold.test for fold in self.folds])

    @property
    def fold_numbers(self):
        """The fold of each of `rows`."""
        return np.repeat([fold.number for fold in self.folds], [len(fold.test) for fold in self.folds])


def plan_scenarios(
    scenarios,
    y,
    codes,
    *,
    factor="group",
    cv=N_FOLDS,
    X=None,
    counted=None,
    update_rows=5,
    order=None,
    random_state=None,
    lines=None,
    has_classes=True,
):
    """Splits of the rows for each scenario.

    Parameters
    ----------
    scenarios : str or sequence of str
        Of "new groups", "known groups", "updated groups".
    y : ndarray of shape (n,)
        Outcomes.
    codes : ndarray of shape (n,)
        Group of each row, from 0.
    factor : str
        What the groups are called in messages.
    cv : int, splitter, iterable of (train, test), or dict of scenario -> one of these
        See `accuracy_report`.
    X : array-like, optional
        Passed on to a splitter.
    counted : ndarray of bool, shape (n,), optional
        Rows that may be in a fold. None: all.
    update_rows : int, default=5
        For "updated groups": rows of each group that are shown to the model, the first ones.
    order : 1-D array-like, optional
        What "first" refers to, such as times. None: the order of the rows.
    random_state : int, RandomState instance or None
        A scenario's splits do not depend on which others are asked for.
    lines : Lines, optional
        Where y and its like have a row or two for each line of counts: no line is split, and update_rows counts lines.
    has_classes : bool, default=True
        Whether outcomes are 0 or 1, of which folds of new groups then have like shares, and fits need both.

    Returns
    -------
    plan : list of Scenario

    Raises
    ------
    ValueError
        For an unknown scenario, more folds than groups or rows, folds that are none, a training fold with one class.
    """
    names = _scenario_names(scenarios)
    cv = _cv_by_scenario(cv, names)
    # Always both seeds, in this order, whatever is asked for.
    new_seed, known_seed = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=2)
    counted = np.ones(len(y), dtype=bool) if counted is None else counted
    given = (X, y, codes) if lines is None else (lines.X, lines.y, lines.codes)
    rows = _CountedRows(np.asarray(y) if has_classes else np.zeros(len(y)), codes, counted, factor, given, lines)
    plan, held_out = [], {}
    for name in names:
        if name in _HOLD_GROUPS_OUT:
            key = id(cv[name])
            if key not in held_out:
                held_out[key] = _new_group_folds(cv[name], rows, name, int(new_seed))
            folds = held_out[key]
            n_held_out = sum(rows.count(fold.test) for fold in folds)
            if name == "updated groups":
                folds = _updated(folds, rows, update_rows, order)
        else:
            folds = _known_group_folds(cv[name], rows, int(known_seed))
            n_held_out = sum(rows.count(fold.test) for fold in folds)
        n_left_out = n_held_out - sum(rows.count(fold.test) + rows.count(fold.update) for fold in folds)
        plan.append(_described(name, folds, rows, n_left_out))
    return plan


@dataclass(frozen=True, eq=False)
class _CountedRows:
    """The rows to be split.

    Attributes
    ----------
    strata : ndarray of shape (n,)
        Of which folds of new groups have like shares, and trainings all.
    codes, counted : ndarray of shape (n,)
    factor : str
    given : tuple
        X, y and groups for splitters of the caller's.
    lines : Lines or None
    """

    strata: np.ndarray
    codes: np.ndarray
    counted: np.ndarray
    factor: str
    given: tuple
    lines: Lines | None

    @property
    def word(self):
        return "row" if self.lines is None else "line"

    def units(self, rows):
        """What is dealt, of rows a line's together: the number of each row's, from 0, and the first row of each."""
        if self.lines is None:
            return np.arange(len(rows)), rows
        is_first = np.append(True, np.diff(self.lines.of_row[rows]) != 0)
        return np.cumsum(is_first) - 1, rows[is_first]

    def count(self, rows):
        """How many rows, or lines."""
        return len(rows) if self.lines is None else len(np.unique(self.lines.of_row[rows]))


def _scenario_names(scenarios):
    names = [scenarios] if isinstance(scenarios, str) else list(scenarios)
    if not names:
        raise ValueError(f"scenarios is empty; choose of {_listed(SCENARIOS)}")
    for name in names:
        if name not in SCENARIOS:
            raise ValueError(f"unknown scenario {name!r}; the scenarios are {_listed(SCENARIOS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"scenarios={names!r} names a scenario twice")
    return names


def _cv_by_scenario(cv, names):
    if isinstance(cv, Mapping):
        for name in cv:
            if name not in SCENARIOS:
                raise ValueError(f"cv is given for {name!r}, which is no scenario; they are {_listed(SCENARIOS)}")
        by_name = {name: cv.get(name, N_FOLDS) for name in names}
        if "updated groups" not in cv and "new groups" in cv:
            by_name["updated groups"] = cv["new groups"]
    else:
        by_name = dict.fromkeys(names, cv)
        if not isinstance(cv, Integral) and "known groups" in names and len(names) > 1:
            raise ValueError(
                "one cv cannot both hold groups out and know them: give an int, or a dict such as "
                "cv={'new groups': GroupKFold(5), 'known groups': 5}"
            )
    for name, value in by_name.items():
        if isinstance(value, Integral):
            if isinstance(value, (bool, np.bool_)) or value < 2:
                raise ValueError(f"cv={value!r}: {name} need at least 2 folds")
        elif isinstance(value, str) or not (hasattr(value, "split") or hasattr(value, "__iter__")):
            raise ValueError(
                f"cv must be a number of folds, a splitter of scikit-learn or an iterable of (train, test); got "
                f"{value!r}"
            )
    return by_name


# --- the three scenarios ------------------------------------------------------------------------------------


def _new_group_folds(cv, rows, name, seed):
    """Whole groups are held out."""
    codes, factor = rows.codes, rows.factor
    if isinstance(cv, Integral):
        counted = np.flatnonzero(rows.counted)
        n_groups = len(np.unique(codes[counted]))
        if n_groups < cv:
            raise ValueError(
                f"cv={cv} folds of {name} need at least {cv} groups, but {factor} has {n_groups}; lower cv"
            )
        splitter = StratifiedGroupKFold(int(cv), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # That a class has fewer rows than there are folds is no trouble unless a training fold lacks it (below).
            warnings.simplefilter("ignore", UserWarning)
            try:
                splits = list(splitter.split(np.empty(len(counted)), rows.strata[counted], codes[counted]))
            except ValueError as error:
                raise ValueError(f"cv={cv} folds of {name} cannot be made: {error}") from error
        splits = [(counted[train], counted[test]) for train, test in splits]
        folds = _as_folds(splits, rows, name)
    else:
        folds = _given_folds(cv, rows, name)
    for fold in folds:
        shared = np.intersect1d(codes[fold.train], codes[fold.test])
        if shared.size:
            raise ValueError(
                f"cv: fold {fold.number} of {name} trains on rows of {shared.size} of the groups of {factor} that it "
                "tests; hold whole groups out (GroupKFold, StratifiedGroupKFold, ...)"
            )
    return folds


def _known_group_folds(cv, rows, seed):
    """The rows of every group are spread over the folds."""
    if not isinstance(cv, Integral):
        return _given_folds(cv, rows, "known groups")
    counted = np.flatnonzero(rows.counted)
    unit, first = rows.units(counted)
    if len(first) < cv:
        raise ValueError(f"cv={cv} folds need at least {cv} {rows.word}s, but there are {len(first)}; lower cv")
    if np.bincount(rows.codes[first]).max() == 1:
        raise ValueError(
            f"every group of {rows.factor} has one {rows.word}: whichever {rows.word} is tested, its group is not "
            "known to the model. Leave out the scenario 'known groups'"
        )
    fold_of = _deal(rows.codes[first], int(cv), np.random.RandomState(seed))[unit]
    splits = [(counted[fold_of != k], counted[fold_of == k]) for k in range(cv)]
    return _as_folds(splits, rows, "known groups")


def _deal(codes, n_folds, rng):
    """Fold of each row, dealt like cards from a deck that is sorted by group and shuffled within each.

    Rows of a group lie together in the deck, so that their numbers in two folds differ by at most one. Outcomes have no
    say: were the classes spread evenly within each group, every group would have the same share of events in training
    as in the test, which no new rows would have. That flatters models that believe each group's share (log loss of
    fixed effects for 300 groups of 24 rows: 0.517 in place of the true 0.548, a tie with the mixed model's).
    """
    place = rng.permutation(codes.max() + 1)
    deck = np.lexsort((rng.random_sample(len(codes)), place[codes]))
    fold_of = np.empty(len(codes), dtype=np.intp)
    fold_of[deck] = np.arange(len(codes)) % n_folds
    return fold_of


def _updated(folds, rows, update_rows, order):
    """The folds of new groups, with the first rows of each tested group set apart."""
    if not isinstance(update_rows, Integral) or isinstance(update_rows, (bool, np.bool_)) or update_rows < 1:
        raise ValueError(f"update_rows must be an integer >= 1, got {update_rows!r}")
    codes = rows.codes
    rank = np.arange(len(codes)) if order is None else _ranks(order, len(codes))
    updated = []
    for fold in folds:
        test = np.sort(fold.test)
        unit, first = rows.units(test)
        place = np.lexsort((first, rank[first], codes[first]))
        _, start, size = np.unique(codes[first[place]], return_index=True, return_counts=True)
        is_first, tested = np.empty(len(first), dtype=bool), np.empty(len(first), dtype=bool)
        is_first[place] = np.arange(len(first)) - np.repeat(start, size) < update_rows
        # Groups that would have no row left are not shown either: nothing is learnt for nobody.
        tested[place] = np.repeat(size > update_rows, size)
        shown, kept = test[(is_first & tested)[unit]], test[(~is_first & tested)[unit]]
        if kept.size:
            updated.append(Fold(fold.number, fold.train, kept, shown))
    if not updated:
        raise ValueError(
            f"updated groups: no group of {rows.factor} has more than update_rows={update_rows} {rows.word}s, so that "
            "none is left to be tested; lower update_rows"
        )
    return updated


def _ranks(order, n_rows):
    if len(order) != n_rows:
        raise ValueError(f"time has {len(order)} rows, but X has {n_rows}")
    ranks, _ = pd.factorize(np.asarray(order), sort=True)
    if (ranks < 0).any():
        raise ValueError(f"time is missing in {np.count_nonzero(ranks < 0)} rows")
    return ranks


# --- splits -> folds ----------------------------------------------------------------------------------------


def _given_folds(cv, rows, name):
    """Folds of a splitter or of splits of the caller's, which are of lines where there are lines."""
    X, y, codes = rows.given
    if not hasattr(cv, "split"):
        splits = list(cv)
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            splits = list(cv.split(np.empty((len(y), 1)) if X is None else X, y, codes))
    return _as_folds(splits, rows, name, rows.lines)


def _as_folds(splits, rows, name, lines=None):
    """Folds of the rows that count, from pairs of positions or masks, of rows or of lines, checked."""
    if not splits:
        raise ValueError(f"cv gives no splits for {name}")
    strata, counted = rows.strata, rows.counted
    folds, times_tested = [], np.zeros(len(strata), dtype=np.intp)
    for number, split in enumerate(splits, start=1):
        where = f"cv: fold {number} of {name}"
        try:
            train, test = split
        except (TypeError, ValueError):
            raise ValueError(f"{where} is not a pair (train, test)") from None
        if lines is None:
            train, test = (_positions(part, len(strata), where) for part in (train, test))
        else:
            train, test = (lines.rows(_positions(part, len(lines.y), where, "line")) for part in (train, test))
        train, test = train[counted[train]], test[counted[test]]
        if not test.size:
            raise ValueError(f"{where} tests no row")
        times_tested += np.bincount(test, minlength=len(strata))
        if np.isin(test, train).any():
            raise ValueError(f"{where} trains on rows that it tests")
        if train.size == 0 or len(np.unique(strata[train])) < len(np.unique(strata)):
            raise ValueError(
                f"{where} has {'one class only' if train.size else 'no row'} to train on; lower the number of folds, "
                "or give more rows"
            )
        folds.append(Fold(number, train, test))
    if times_tested.max() > 1:
        raise ValueError(
            f"cv tests {np.count_nonzero(times_tested > 1)} rows more than once in {name}: a report scores each row "
            "once. Use a splitter without repetitions, such as GroupKFold"
        )
    return folds


def _positions(part, n_rows, where, word="row"):
    part = np.asarray(part)
    if part.dtype == bool:
        if part.shape != (n_rows,):
            raise ValueError(f"{where} is a mask of shape {part.shape}, but there are {n_rows} {word}s")
        return np.flatnonzero(part)
    if part.ndim != 1 or (part.dtype.kind not in "iu" and part.size):
        raise ValueError(f"{where} holds neither positions of {word}s nor a mask of them")
    part = part.astype(np.intp)
    if part.size and (part.min() < 0 or part.max() >= n_rows):
        raise ValueError(f"{where} names {word} {part.min() if part.min() < 0 else part.max()} of {n_rows}")
    return part


def _described(name, folds, rows, n_left_out):
    codes, tested = rows.codes, np.concatenate([fold.test for fold in folds])
    n_unseen = 0
    for fold in folds:
        seen = np.zeros(codes.max() + 1, dtype=bool)
        seen[codes[fold.train]] = True
        seen[codes[fold.update]] = True
        n_unseen += rows.count(fold.test[~seen[codes[fold.test]]])
    return Scenario(name, folds, len(np.unique(codes[tested])), int(n_unseen), n_left_out, rows.count(tested))


def _listed(names):
    return ", ".join(map(repr, names))
