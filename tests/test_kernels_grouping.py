"""Rows by cluster: properties that any order, set of boundaries and division into blocks must have."""

import numpy as np
import pytest

from sklmm._kernels._grouping import gather_rows, group_rows, whole_blocks


def _codes(rng, kind):
    n_levels = int(rng.integers(1, 40))
    n = int(rng.integers(1, 200))
    if kind == "scattered":
        return rng.integers(0, n_levels, n), n_levels
    if kind == "sorted":
        return np.sort(rng.integers(0, n_levels, n)), n_levels
    if kind == "contiguous":  # each level's rows together, the levels in any order, some without rows
        present = rng.permutation(n_levels)[: int(rng.integers(1, n_levels + 1))]
        return np.repeat(present, rng.integers(1, 9, present.size)), n_levels
    if kind == "one level":
        return np.full(n, n_levels - 1), n_levels
    return rng.permutation(n), n  # a level for each row


KINDS = ["scattered", "sorted", "contiguous", "one level", "own level"]


@pytest.mark.parametrize("kind", KINDS)
def test_group_rows(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(200):
        codes, n_levels = _codes(rng, kind)
        codes = codes.astype(np.intp)
        order, start, level = group_rows(codes, n_levels)
        together = np.count_nonzero(np.diff(codes)) + 1 == np.unique(codes).size
        assert (order is None) == together
        assert start[0] == 0 and start[-1] == codes.size and np.all(np.diff(start) >= 0)
        assert level.size == start.size - 1 == np.unique(level).size
        rows = np.arange(codes.size) if order is None else order
        np.testing.assert_array_equal(np.sort(rows), np.arange(codes.size))
        np.testing.assert_array_equal(codes[rows], np.repeat(level, np.diff(start)))
        if order is None:
            assert set(level) == set(codes)
        else:
            np.testing.assert_array_equal(order, np.argsort(codes, kind="stable"))  # rows keep their order in a level
            np.testing.assert_array_equal(level, np.arange(n_levels))


def test_read_only_codes():
    codes = np.array([2, 0, 2], dtype=np.intp)
    codes.flags.writeable = False
    order, start, _ = group_rows(codes, 3)
    assert order.tolist() == [1, 0, 2] and start.tolist() == [0, 1, 1, 3]


def _layouts(X):
    n, p = X.shape
    wide = np.zeros((3 * n, 2 * p + 1), dtype=X.dtype)
    wide[::3, : 2 * p : 2] = X
    tall = np.zeros((2 * n, p), dtype=X.dtype)
    tall[::2] = X
    return {
        "C": np.ascontiguousarray(X),
        "F": np.asfortranarray(X),
        "every third row, second column": wide[::3, : 2 * p : 2],
        "every second row": tall[::2],
        "reversed rows": np.ascontiguousarray(X[::-1])[::-1],
        "reversed columns": np.ascontiguousarray(X[:, ::-1])[:, ::-1],
        "one row repeated": np.broadcast_to(X[:1], X.shape),
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (57, 1), (400, 10), (9001, 5), (6, 0)])
def test_gather_rows(dtype, shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape).astype(dtype)
    order = rng.permutation(shape[0])
    for name, given in _layouts(X).items():
        given.flags.writeable = False
        found = gather_rows(given, order)
        assert found.dtype == dtype and found.flags.c_contiguous, name
        np.testing.assert_array_equal(found, given[order], err_msg=name)


def test_gather_nothing():
    assert gather_rows(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)).shape == (0, 2)


def test_whole_blocks():
    rng = np.random.default_rng(1)
    for _ in range(500):
        sizes = rng.integers(0, 30, int(rng.integers(1, 50)))
        if rng.random() < 0.3:
            sizes[rng.integers(sizes.size)] = 500
        start = np.concatenate([[0], np.cumsum(sizes)])
        rows = int(rng.integers(1, 100))
        block = whole_blocks(start, rows)
        assert block[0] == 0 and block[-1] == sizes.size and np.all(np.diff(block) > 0)
        for a, b in zip(block[:-1], block[1:], strict=True):
            assert sizes[a:b].sum() <= rows or b == a + 1  # a cluster is never cut
        for i in block[1:-1]:  # and no block ends while the next cluster would fit
            first = block[block < i][-1]
            assert sizes[first : i + 1].sum() > rows
