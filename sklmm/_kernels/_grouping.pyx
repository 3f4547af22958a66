"""Rows by cluster: from integer codes to an order of rows, cluster boundaries and blocks of whole clusters."""
from libc.stdint cimport int64_t, uint8_t

import numpy as np

from sklmm._kernels._rows cimport rows_gather


def group_rows(const Py_ssize_t[::1] codes, Py_ssize_t n_levels):
    """Order of rows that brings each level together, and where its rows start.

    Parameters
    ----------
    codes : ndarray of shape (n,), intp
        Levels 0 .. n_levels - 1.
    n_levels : int

    Returns
    -------
    order : ndarray of shape (n,), int64, or None
        None when every level's rows are already next to each other: nothing needs to be moved.
    start : ndarray of shape (n_clusters + 1,), int64
    level : ndarray of shape (n_clusters,), int64
        The level of each cluster. With rows in place the clusters come in the order of the rows, and levels without
        rows have none; otherwise cluster i is level i.
    """
    cdef:
        Py_ssize_t n = codes.shape[0], i, code, previous = -1, n_runs = 0
        uint8_t[::1] seen = np.zeros(n_levels, dtype=np.uint8)
        int64_t[::1] start = np.empty(n_levels + 1, dtype=np.int64)
        int64_t[::1] level = np.empty(n_levels, dtype=np.int64)
        int64_t[::1] cursor, order
        bint in_place = True
    with nogil:
        for i in range(n):
            code = codes[i]
            if code != previous:
                if seen[code]:
                    in_place = False
                    break
                seen[code] = 1
                start[n_runs] = i
                level[n_runs] = code
                n_runs += 1
                previous = code
    if in_place:
        start[n_runs] = n
        return None, np.asarray(start)[:n_runs + 1], np.asarray(level)[:n_runs]
    order = np.empty(n, dtype=np.int64)
    cursor = np.zeros(n_levels + 1, dtype=np.int64)
    with nogil:
        for i in range(n):
            cursor[codes[i] + 1] += 1
        for i in range(n_levels):
            cursor[i + 1] += cursor[i]
        for i in range(n_levels + 1):
            start[i] = cursor[i]
        for i in range(n):
            order[cursor[codes[i]]] = i
            cursor[codes[i]] += 1
    return np.asarray(order), np.asarray(start), np.arange(n_levels)


def gather_rows(X, const int64_t[::1] order):
    """X[order] in C order, for a 2-D X of any strides."""
    n, p = X.shape
    out = np.empty((n, p), dtype=X.dtype)
    if n == 0 or p == 0:
        return out
    cdef size_t to = out.__array_interface__["data"][0], source = X.__array_interface__["data"][0]
    cdef ptrdiff_t rows = n, row_bytes = p * X.itemsize, stride = X.strides[0], i, piece = 4096
    if X.strides[1] == X.itemsize and stride > 0:
        with nogil:
            rows_gather(<char *> to, <const char *> source, stride, row_bytes, &order[0], rows)
        return out
    index = np.asarray(order)
    for i in range(0, rows, piece):  # column by column, a cache's worth of rows at a time
        for j in range(p):
            np.take(X[:, j], index[i:i + piece], out=out[i:i + piece, j])
    return out


def whole_blocks(const int64_t[::1] start, Py_ssize_t rows):
    """First cluster of each block of consecutive clusters of at most `rows` rows together; a longer cluster is a block."""
    cdef:
        Py_ssize_t n = start.shape[0] - 1, i, first = 0, n_blocks = 1
        int64_t[::1] block = np.empty(n + 1, dtype=np.int64)
    block[0] = 0
    for i in range(1, n):
        if start[i + 1] - start[first] > rows:
            block[n_blocks] = first = i
            n_blocks += 1
    block[n_blocks] = n
    return np.asarray(block)[:n_blocks + 1].copy()
