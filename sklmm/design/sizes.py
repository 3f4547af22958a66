"""Rows of studies of other sizes, made of the rows that there are: more or fewer groups, more or fewer rows in each.

Fewer groups, or fewer rows of a group, are a random subset. Of more, each is there as often as goes evenly, and a
random subset once more: the same size is the rows themselves. A group that is there again is a new group with the old
one's rows, and so are the groups that are nested in it; groups of other factors are shared, as subjects share items.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

from sklmm.messages import joined

PER_GROUP = "rows_per_group"
ROWS = "rows"  # of models without groups


@dataclass(frozen=True)
class Sample:
    """Rows of a data set, some of them left out or there again.

    Attributes
    ----------
    index : ndarray of shape (n,), intp
        Where each is among the rows of the data.
    codes : list of ndarray of shape (n,), intp
        Levels of each factor: 0, 1, ... without gaps.
    """

    index: np.ndarray
    codes: list


def balanced_counts(rng, within, n_items, total):
    """How often each item is there, so that every class of items has `total`.

    Parameters
    ----------
    rng : Generator
    within : ndarray of shape (n,), intp
        The class of each item.
    n_items : ndarray of shape (n_classes,), int
        Items of each class.
    total : int

    Returns
    -------
    counts : ndarray of shape (n,), intp
        Of a class with m items total // m or one more.
    """
    order = np.lexsort((rng.random(within.size), within))
    rank = np.empty(within.size, dtype=np.intp)
    rank[order] = np.arange(within.size) - np.repeat(np.cumsum(n_items) - n_items, n_items)
    whole, rest = np.divmod(total, n_items)
    return whole[within] + (rank < rest[within])


def with_groups(rng, sample, which, n_groups):
    """A sample with so many groups of the factor at position `which` of the codes."""
    own = sample.codes[which]
    n_levels = own.max() + 1
    counts = balanced_counts(rng, np.zeros(n_levels, dtype=np.intp), np.array([n_levels]), n_groups)
    rows, copy = _repeated(counts[own])
    codes = []
    for code in sample.codes:
        n = code.max() + 1
        codes.append(_without_gaps(copy * n + code[rows] if _is_nested(code, own, n) else code[rows]))
    return Sample(sample.index[rows], codes)


def with_rows_per_group(rng, sample, which, n_rows):
    """A sample with so many rows in every group of the factor at position `which`; no group is a new one."""
    own = sample.codes[which]
    rows, _ = _repeated(balanced_counts(rng, own, np.bincount(own), n_rows))
    return Sample(sample.index[rows], [_without_gaps(code[rows]) for code in sample.codes])


def _repeated(counts):
    """Rows as often as they count, copy by copy, and the number of the copy that each belongs to."""
    copies = [np.flatnonzero(counts > k) for k in range(counts.max(initial=0))]
    return np.concatenate(copies), np.repeat(np.arange(len(copies)), [copy.size for copy in copies])


def _without_gaps(codes):
    return np.unique(codes, return_inverse=True)[1].astype(np.intp)


def _is_nested(inner, outer, n_inner):
    """Whether each level of `inner` has rows of one level of `outer` alone."""
    one = np.zeros(n_inner, dtype=np.intp)
    one[inner] = outer
    return np.array_equal(one[inner], outer)


def read_sizes(sizes, names):
    """Every combination of sizes that was asked for.

    Parameters
    ----------
    sizes : None or dict of str -> int or sequence of int
        Keys are "district", the number of groups of that factor; "rows_per_group", with a single factor, or
        "rows_per_group|district"; "rows", without groups.
    names : list of str
        The factors.

    Returns
    -------
    sizes : list of dict of str -> int
        One empty one for None.

    Raises
    ------
    ValueError
    """
    if sizes is None:
        return [{}]
    keys = [*names, *[PER_GROUP][: len(names) == 1], *(f"{PER_GROUP}|{name}" for name in names)] if names else [ROWS]
    if not isinstance(sizes, dict) or not sizes:
        raise ValueError(f"sizes must be a dict such as {{{keys[0]!r}: [20, 40]}}, got {sizes!r}")
    chosen = {}
    for key, values in sizes.items():
        if key not in keys:
            raise ValueError(f"sizes: {key!r} is nothing that can be changed; there are {joined(map(repr, keys))}")
        values = [values] if np.ndim(values) == 0 else list(values)
        for value in values:
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"sizes of {key!r} must be integers >= 1, got {value!r}")
        if not values or len(set(values)) < len(values):
            raise ValueError(f"sizes of {key!r} must be different numbers, got {values!r}")
        chosen[key] = [int(value) for value in values]
    of_rows = [key for key in chosen if key.startswith(PER_GROUP)]
    if len(of_rows) > 1:
        raise ValueError(f"sizes: rows a group can be those of one factor only, got {joined(map(repr, of_rows))}")
    return [dict(zip(chosen, combination, strict=True)) for combination in product(*chosen.values())]


def resized(rng, sample, size, names):
    """The sample of a size: numbers of groups first, in the order of the factors, then of rows.

    Parameters
    ----------
    rng : Generator
    sample : Sample
        Its first codes are those of the factors; without factors those of the rows.
    size : dict of str -> int
        One of `read_sizes`.
    names : list of str

    Raises
    ------
    ValueError
        If there are fewer groups than were asked for, as some had no rows of the chosen groups of other factors.
    """
    for which, name in enumerate(names or [ROWS]):
        if name in size:
            sample = with_groups(rng, sample, which, size[name])
    for which, name in enumerate(names):
        n_rows = size.get(f"{PER_GROUP}|{name}", size.get(PER_GROUP))
        if n_rows is not None:
            sample = with_rows_per_group(rng, sample, which, n_rows)
    for which, name in enumerate(names):
        n_groups = sample.codes[which].max() + 1
        if n_groups < size.get(name, 0):
            raise ValueError(
                f"sizes: of {size[name]} groups of {name} {n_groups} have rows beside the other sizes: leave out one "
                f"of {joined(map(repr, size))}, or ask for more of the others"
            )
    return sample
