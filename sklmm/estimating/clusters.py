"""Rows by cluster in the order of their times, and what a working correlation needs to know of these times."""

import numpy as np

from sklmm._kernels._gee import Moments, Whitening
from sklmm._kernels._grouping import group_rows
from sklmm.design.grouping import encode_groups
from sklmm.estimating.correlation import grid_positions
from sklmm.messages import shown_label

MOST_BYTES = 1 << 31  # of the factors of a structure without closed form, and of its moments
MOST_SHOWN = 1000  # rows of a cluster in a working correlation that is shown

_WHITENING = {
    "independent": Whitening.INDEPENDENT,
    "exchangeable": Whitening.EXCHANGEABLE,
    "autoregressive": Whitening.AUTOREGRESSIVE,
    "dense": Whitening.DENSE,
}
_MOMENTS = {
    None: Moments.NO_PAIRS,
    "pairs": Moments.ALL_PAIRS,
    "adjacent": Moments.ADJACENT_PAIRS,
    "lags": Moments.PAIRS_BY_LAG,
    "times": Moments.PAIRS_BY_TIMES,
}


class Clusters:
    """Which rows belong together, in the order of their times.

    Attributes
    ----------
    order : ndarray of shape (n,), int64, or None
        None: the rows are in place.
    start : ndarray of shape (n_clusters + 1,), int64
    times : ndarray of shape (n,), or None
        In cluster order.
    w : ndarray of shape (n,) or None
        Likewise.
    """

    def __init__(self, codes, n, n_clusters, labels, times, sample_weight):
        if codes is None:
            self.order, self.start, self.level = None, np.arange(n + 1, dtype=np.int64), np.arange(n)
        else:
            codes = np.ascontiguousarray(codes, dtype=np.intp)
            self.order, self.start, self.level = group_rows(codes, n_clusters)
        self.labels = labels
        self.times = None if times is None else self.in_order(times)
        if times is not None and self._unsorted_times():
            by_time = _sorted_order(times)
            order, self.start, self.level = group_rows(codes[by_time], n_clusters)
            self.order = by_time if order is None else by_time[order]
            self.times = times[self.order]
        self.sizes = np.diff(self.start)
        if self.times is not None:
            self._refuse_duplicate_times()
        self.w = None if sample_weight is None else np.ascontiguousarray(self.in_order(sample_weight))

    def in_order(self, values):
        """Values of rows in the order of the clusters."""
        return values if self.order is None else values[self.order]

    def steps(self):
        """Time of each row less that of the row before it in its cluster; infinite for the first."""
        steps = np.empty(self.times.size)
        steps[1:] = np.diff(self.times)
        steps[self.start[:-1]] = np.inf
        return steps

    def _unsorted_times(self):
        return self.steps().min(initial=0.0) < 0

    def _refuse_duplicate_times(self):
        twice = np.flatnonzero(self.steps() == 0)
        if twice.size:
            cluster = int(np.searchsorted(self.start, twice[0], side="right")) - 1
            raise ValueError(
                f"{twice.size} rows share their group and time with another row (first: group {self.label(cluster)}, "
                f"time {self.times[twice[0]]:g}); a working correlation by time needs one row at each time of a group"
            )

    def label(self, cluster):
        return shown_label(self.labels[self.level[cluster]]) if self.labels is not None else str(cluster)

    @property
    def largest(self):
        return int(self.sizes.max())

    def place(self):
        """Position of each row in its cluster."""
        return np.arange(self.start[-1]) - np.repeat(self.start[:-1], self.sizes)

    def sums(self, values):
        """Sums of a row's values by cluster."""
        return np.add.reduceat(values, self.start[:-1])


class Timing:
    """Numbers of gaps, lags, times and patterns of times: those that a working correlation asks for.

    Attributes
    ----------
    whitening, moments : Whitening, Moments
        Independent, without pairs, where every cluster is one row.
    n_moments : int
        How many sums of products there are.
    gap : ndarray of shape (n,), int32, or None
        Which of `gaps` lies before each row; None: all gaps are alike.
    gaps : ndarray
    position : ndarray of shape (n,), int32
        Place on the grid of lags, or number of the time, for sums of products.
    lags : ndarray
    times : ndarray
        The distinct times.
    patterns : codes, first code, pattern by cluster
        The distinct sets of times that clusters have, as numbers of times.
    """

    def __init__(self, clusters, correlation, ddof_correction):
        self.clusters, self.correlation = clusters, correlation
        self.gap = self.gaps = self.position = self.lags = self.times = None
        self.patterns, self.n_moments = (None, None, None), 1
        kind = correlation.moments_for(ddof_correction)
        whitening = correlation.whitening
        if clusters.largest == 1:
            kind, whitening = None, "independent"
        self.whitening, self.moments = _WHITENING[whitening], _MOMENTS[kind]
        if whitening == "autoregressive" or kind == "adjacent":
            self._number_gaps()
        if whitening == "dense" or kind == "times":
            codes = self._number_times()
        if whitening == "dense":
            self.patterns = self._number_patterns(codes)
        if kind == "lags":
            self._number_lags()
        if kind == "times":
            self.n_moments, self.position = self.times.size**2, codes

    @property
    def n_times(self):
        return 0 if self.times is None else self.times.size

    def _number_gaps(self):
        clusters = self.clusters
        if clusters.times is None:
            self.gaps = np.ones(1)
            return
        gaps = clusters.steps()
        first = gaps.min()
        gaps[clusters.start[:-1]] = first  # no gap lies before a cluster's first row; whichever number does
        if (gaps == first).all():
            self.gaps = np.array([first])
            return
        codes, levels = encode_groups(gaps, "gap between times")
        self.gap, self.gaps = codes.astype(np.int32), levels.to_numpy(dtype=float)

    def _number_times(self):
        clusters, name = self.clusters, self.correlation.name
        if clusters.times is None:
            if not self.correlation.order_suffices and (clusters.sizes != clusters.largest).any():
                raise ValueError(
                    f"the {name} working correlation needs times: the groups have between {clusters.sizes.min()} and "
                    f"{clusters.largest} rows, so that their order does not say which time each row belongs to. Pass "
                    "time=, or name the column in time_feature"
                )
            codes, self.times = clusters.place(), np.arange(clusters.largest, dtype=float)
        else:
            codes, levels = encode_groups(clusters.times, "time")
            self.times = levels.to_numpy(dtype=float)
        size = 8 * self.n_times**2
        if 8 * size > MOST_BYTES:
            raise ValueError(
                f"the {name} working correlation over {self.n_times:,} distinct times needs {size / 1e9:.1f} GB for "
                "each of several matrices; round the times, or use 'exchangeable' or 'ar1', which need no matrix"
            )
        return codes.astype(np.int32)

    def _number_patterns(self, codes):
        sizes, start = self.clusters.sizes, self.clusters.start
        pattern, pieces = np.empty(sizes.size, dtype=np.int64), []
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            which, rows = _distinct_rows(codes[start[members][:, None] + np.arange(size)], self.n_times)
            pattern[members] = len(pieces) + which
            pieces += list(rows)
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        needed = 8 * int((lengths**2).sum())
        if needed > MOST_BYTES:
            largest = self.clusters.label(int(np.argmax(sizes)))
            raise ValueError(
                f"the {self.correlation.name} working correlation needs {needed / 1e9:.1f} GB for the factors of "
                f"{len(pieces):,} patterns of times (the largest group, {largest}, has {sizes.max():,} rows); use "
                "'exchangeable' or 'ar1', which need none"
            )
        code_start = np.append(0, np.cumsum(lengths)).astype(np.int64)
        return np.concatenate(pieces).astype(np.int32), code_start, pattern

    def _number_lags(self):
        clusters = self.clusters
        position, unit = (clusters.place(), 1.0) if clusters.times is None else grid_positions(clusters.times)
        self.position = position.astype(np.int32)
        span = int((position[clusters.start[1:] - 1] - position[clusters.start[:-1]]).max())
        self.n_moments = max(1, min(span, getattr(self.correlation, "m", span)))
        self.lags = unit * np.arange(1, self.n_moments + 1)

    def shown(self):
        """The union of times, or where no matrix is formed those of the largest cluster's first rows."""
        if self.times is not None:
            return self.times
        clusters = self.clusters
        largest = int(np.argmax(clusters.sizes))
        first, n = clusters.start[largest], min(clusters.largest, MOST_SHOWN)
        return np.arange(n, dtype=float) if clusters.times is None else clusters.times[first : first + n].copy()


def _sorted_order(times):
    """Indices that sort; of few distinct times through their numbers, which take a radix sort."""
    codes, levels = encode_groups(times, "time")
    small = len(levels) <= np.iinfo(np.uint16).max
    return np.argsort(codes.astype(np.uint16) if small else codes, kind="stable").astype(np.int64, copy=False)


def _distinct_rows(table, n_values):
    """Number of each row among the distinct ones, and these."""
    if (table == table[0]).all():
        return np.zeros(len(table), dtype=np.int64), table[:1]
    if table.shape[1] * np.log2(max(n_values, 2)) < 62:  # as numbers of that base: quicker to tell apart
        keys = table @ (n_values ** np.arange(table.shape[1], dtype=np.int64))
        which, _ = encode_groups(keys, "pattern of times")
        first = np.full(which.max() + 1, len(table))
        np.minimum.at(first, which, np.arange(len(table)))
        return which, table[first]
    rows, which = np.unique(table, axis=0, return_inverse=True)
    return which.ravel(), rows
