"""Rows by cluster and time, and what is numbered for working correlations: gaps, lags, times, patterns."""

import tracemalloc

import numpy as np
import pytest

from sklmm._kernels._gee import Moments, Whitening
from sklmm.estimating import AR1, Exchangeable, Fixed, Independence, MDependent, Unstructured, WorkingCorrelation
from sklmm.estimating.clusters import MOST_SHOWN, Clusters, Timing
from sklmm.messages import shown_label


def _clusters(codes, times=None, weights=None, labels=None):
    codes = np.asarray(codes)
    times = None if times is None else np.asarray(times, dtype=float)
    weights = None if weights is None else np.asarray(weights, dtype=float)
    return Clusters(codes, codes.size, codes.max() + 1, labels, times, weights)


def _rows(clusters, n):
    """The rows of each cluster, whatever their order in memory is."""
    order = np.arange(n) if clusters.order is None else clusters.order
    return [order[a:b].tolist() for a, b in zip(clusters.start[:-1], clusters.start[1:], strict=True)]


# Clusters ---------------------------------------------------------------------------------------------------


def test_rows_in_place_stay_there():
    clusters = _clusters([0, 0, 1, 2, 2], times=[1, 2, 5, 0, 4], weights=[1, 2, 3, 4, 5])
    assert clusters.order is None
    assert _rows(clusters, 5) == [[0, 1], [2], [3, 4]]
    assert clusters.times.tolist() == [1, 2, 5, 0, 4]
    assert clusters.sizes.tolist() == [2, 1, 2]
    assert clusters.largest == 2
    assert clusters.place().tolist() == [0, 1, 0, 0, 1]
    assert clusters.sums(clusters.w).tolist() == [3, 3, 9]
    assert clusters.steps().tolist() == [np.inf, 1, np.inf, np.inf, 4]


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_brought_together_in_the_order_of_their_times(seed):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(30), rng.integers(1, 9, 30)))
    n = codes.size
    times, weights = rng.permutation(n) * 0.5 - 20, rng.random(n)
    clusters = _clusters(codes, times, weights)
    rows = _rows(clusters, n)
    assert sorted(sum(rows, [])) == list(range(n))
    for cluster in rows:
        assert len(set(codes[cluster])) == 1
        assert (np.diff(times[cluster]) > 0).all()
    np.testing.assert_array_equal(clusters.times, times[clusters.order])
    np.testing.assert_array_equal(clusters.w, weights[clusters.order])
    assert clusters.start.dtype == clusters.order.dtype == np.int64


def test_without_times_the_order_of_rows_is_kept():
    clusters = _clusters([1, 0, 1, 0, 1])
    assert sorted(_rows(clusters, 5)) == [[0, 2, 4], [1, 3]]
    assert clusters.times is None


def test_without_groups_every_row_is_a_cluster():
    clusters = Clusters(None, 4, None, None, None, np.array([1.0, 2, 3, 4]))
    assert clusters.order is None
    assert clusters.sizes.tolist() == [1, 1, 1, 1]
    assert clusters.w.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("labels, shown", [(["a", "b"], "'b'"), (np.array([3.0, 7.5]), "7.5"), (None, "1")])
def test_duplicate_times_are_found_in_any_order(labels, shown):
    message = rf"2 rows share their group and time with another row .first: group {shown}, time 3\)"
    for rows in ([0, 1, 2, 3, 4, 5], [4, 2, 0, 5, 3, 1]):
        codes, times = np.array([0, 0, 1, 1, 1, 1])[rows], np.array([3, 4, 3, 3, 8, 8])[rows]
        with pytest.raises(ValueError, match=message):
            _clusters(codes, times, labels=labels)
    _clusters([0, 1], times=[3, 3])  # of different groups


def test_labels_are_shown_as_they_are_written():
    assert [shown_label(label) for label in ("a", np.int64(3), np.float64(0.5), np.str_("b"), 7)] == [
        "'a'", "3", "0.5", "'b'", "7",
    ]  # fmt: skip


# Timing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "correlation, ddof_correction, whitening, moments",
    [
        (Independence(), True, Whitening.INDEPENDENT, Moments.NO_PAIRS),
        (Exchangeable(), True, Whitening.EXCHANGEABLE, Moments.ALL_PAIRS),
        (AR1(), True, Whitening.AUTOREGRESSIVE, Moments.ADJACENT_PAIRS),
        (AR1(), False, Whitening.AUTOREGRESSIVE, Moments.PAIRS_BY_LAG),
        (Unstructured(), True, Whitening.DENSE, Moments.PAIRS_BY_TIMES),
        (MDependent(), False, Whitening.DENSE, Moments.PAIRS_BY_LAG),
        (Fixed(np.eye(2)), True, Whitening.DENSE, Moments.NO_PAIRS),
        (WorkingCorrelation(), True, Whitening.DENSE, Moments.PAIRS_BY_TIMES),
    ],
)
def test_what_each_structure_asks_for(correlation, ddof_correction, whitening, moments):
    timing = Timing(_clusters([0, 0, 1, 1], times=[0, 1, 0, 1]), correlation, ddof_correction)
    assert (timing.whitening, timing.moments) == (whitening, moments)
    alone = Timing(_clusters([0, 1, 2], times=[0, 1, 0]), correlation, ddof_correction)
    assert (alone.whitening, alone.moments) == (Whitening.INDEPENDENT, Moments.NO_PAIRS)


def test_gaps_are_numbered():
    timing = Timing(_clusters([0, 0, 0, 1, 2, 2], times=[0, 1, 4, 7, 2, 3]), AR1(), True)
    assert timing.gaps.tolist() == [1.0, 3.0]
    inner = [1, 2, 5]  # rows that have one before them
    assert timing.gaps[timing.gap[inner]].tolist() == [1.0, 3.0, 1.0]
    assert timing.gap.dtype == np.int32
    assert timing.position is None


@pytest.mark.parametrize("times", [[0, 2, 4, 7, 1, 3], None])
def test_equal_gaps_need_no_numbers(times):
    timing = Timing(_clusters([0, 0, 0, 1, 2, 2], times=times), AR1(), True)
    assert timing.gap is None
    assert timing.gaps.tolist() == [2.0 if times else 1.0]


def test_lags_are_counted_on_the_grid_of_times():
    clusters = _clusters([0, 0, 0, 1, 1], times=[10, 16, 25, 13, 16])
    timing = Timing(clusters, AR1(), False)
    assert timing.lags.tolist() == [3.0, 6.0, 9.0, 12.0, 15.0]  # as far as the cluster that spans most
    assert timing.n_moments == 5
    assert (timing.position - timing.position.min()).tolist() == [0, 2, 5, 1, 2]
    assert timing.position.dtype == np.int32
    two = Timing(clusters, MDependent(2), False)
    assert two.lags.tolist() == [3.0, 6.0]
    assert two.n_moments == 2
    by_position = Timing(_clusters([0, 0, 0, 1, 1]), MDependent(7), True)
    assert by_position.lags.tolist() == [1.0, 2.0]
    assert by_position.position.tolist() == [0, 1, 2, 0, 1]


def _patterns(timing):
    """The times of each cluster, read back from the pattern it has."""
    codes, code_start, pattern = timing.patterns
    return [timing.times[codes[code_start[k] : code_start[k + 1]]].tolist() for k in pattern]


def test_patterns_of_times():
    clusters = _clusters([0, 0, 1, 1, 2, 2, 3, 4, 4, 4], times=[0, 5, 0, 2, 0, 5, 2, 0, 2, 5])
    timing = Timing(clusters, Unstructured(), True)
    assert timing.times.tolist() == [0.0, 2.0, 5.0]
    assert timing.n_moments == 9
    assert timing.times[timing.position].tolist() == clusters.times.tolist()
    assert _patterns(timing) == [[0, 5], [0, 2], [0, 5], [2], [0, 2, 5]]
    assert len(timing.patterns[1]) == 5  # four patterns, told apart
    assert timing.patterns[0].dtype == np.int32


@pytest.mark.parametrize("n_times", [3, 12, 70, 400])
def test_patterns_of_many_times(n_times):
    """However they are told apart: as numbers, or row by row where no number can hold them."""
    rng = np.random.default_rng(n_times)
    chosen = [np.sort(rng.choice(n_times, rng.integers(1, n_times + 1), replace=False)) for _ in range(40)]
    chosen += chosen[:15] + [np.arange(n_times)] * 2
    codes = np.repeat(np.arange(len(chosen)), [len(times) for times in chosen])
    timing = Timing(_clusters(codes, times=np.concatenate(chosen)), Unstructured(), True)
    assert _patterns(timing) == [times.tolist() for times in chosen]
    assert len(timing.patterns[1]) - 1 == len({tuple(times) for times in chosen})


def test_order_in_place_of_times():
    timing = Timing(_clusters([0, 0, 0, 1, 1, 1]), Unstructured(), True)
    assert timing.times.tolist() == [0.0, 1.0, 2.0]
    assert _patterns(timing) == [[0, 1, 2], [0, 1, 2]]
    unequal = _clusters([0, 0, 0, 1, 1])
    assert _patterns(Timing(unequal, MDependent(), True)) == [[0, 1, 2], [0, 1]]
    for correlation in (Unstructured(), Fixed(np.eye(3)), WorkingCorrelation()):
        with pytest.raises(ValueError, match="working correlation needs times: the groups have between 2 and 3 rows"):
            Timing(unequal, correlation, True)


def test_memory_is_asked_for_before_it_is_taken():
    n = 12_000
    clusters = _clusters(np.repeat([0, 1], n), times=np.tile(np.arange(n), 2))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"over 12,000 distinct times needs 1\.2 GB for each of several matrices"):
        Timing(clusters, Unstructured(), True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    # Structures with closed forms need none.
    for correlation in (Exchangeable(), AR1(), Independence()):
        assert Timing(clusters, correlation, True).times is None


def test_times_that_are_shown():
    clusters = _clusters([0, 0, 1, 1, 1, 2], times=[4, 5, 0, 1, 7, 9])
    assert Timing(clusters, Exchangeable(), True).shown().tolist() == [0, 1, 7]  # of the largest cluster
    assert Timing(clusters, Unstructured(), True).shown().tolist() == [0, 1, 4, 5, 7, 9]
    assert Timing(_clusters([0, 0, 1, 1, 1]), AR1(), True).shown().tolist() == [0, 1, 2]
    long = Timing(_clusters(np.repeat([0, 1], [5, 3000])), AR1(), True)
    assert long.shown().tolist() == list(range(MOST_SHOWN))
