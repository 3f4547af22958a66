"""Linear models of one grouping factor: sums over clusters of what their cross-products say at a covariance factor Lambda.

E has k columns, f fixed effects and the outcome; A = Z'WZ and B = Z'WE of each cluster are what `_crossproducts` has left of the
rows. Chunks are runs of clusters, summed in a fixed order: results are bitwise the same for any number of threads.
"""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t

import numpy as np

from sklmm._kernels._pass cimport rows_square, rows_update

cdef extern from "_linear.h" nogil:
    double linear_whitened(ptrdiff_t q, ptrdiff_t k, const double *Lambda, const double *A, const double *B, double *T,
                           ptrdiff_t apart, double *work)
    void linear_residuals(ptrdiff_t q, ptrdiff_t k, const double *G, const double *A, const double *B, double *b,
                          ptrdiff_t apart, double *R, double *work)
    void linear_add(ptrdiff_t q, ptrdiff_t k, ptrdiff_t f, const double *R, const double *b, ptrdiff_t apart,
                    const double *residual, const double *root, double *sums, double *work)

cdef enum: TILE = 128            # clusters that are worked on at a time


cdef struct Clusters:
    const double *A
    const double *B
    const double *matrix         # Lambda, or G
    const double *residual
    const double *root
    const int64_t *row           # where derivatives of G are asked for
    const int64_t *col
    ptrdiff_t q, k, f, m, ld, size


cdef Clusters clusters_of(const double[:, :, ::1] A, const double[:, :, ::1] B, const double[:, ::1] matrix):
    cdef Clusters p
    p.q, p.k = B.shape[1], B.shape[2]
    p.A, p.B, p.matrix, p.ld = &A[0, 0, 0], &B[0, 0, 0], &matrix[0, 0], (p.k + 7) // 8 * 8
    p.residual = p.root = NULL
    p.row = p.col = NULL
    p.f = p.m = 0
    return p


def explained(const double[:, :, ::1] A, const double[:, :, ::1] B, const double[:, ::1] Lambda, const int64_t[::1] chunk,
              int n_threads):
    """What the random coefficients explain.

    Parameters
    ----------
    A, B : ndarray of shape (n, q, q) and (n, q, k)
    Lambda : ndarray of shape (q, q)
    chunk : ndarray
        First cluster of each chunk, and their number.
    n_threads : int

    Returns
    -------
    log_det : float
        Sum of log|I + Lambda'A Lambda|.
    total : ndarray of shape (k, k)
        Sum of B'Lambda (I + Lambda'A Lambda)^-1 Lambda'B.
    """
    cdef Clusters p = clusters_of(A, B, Lambda)
    cdef ptrdiff_t i, n_chunks = chunk.shape[0] - 1
    p.size = p.k * p.ld + 1
    cdef double[:, ::1] totals = np.zeros((n_chunks, p.size))
    cdef double[:, ::1] arenas = np.zeros((n_threads, TILE * p.q * p.ld + 3 * p.q * p.q + 16))
    for i in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=n_threads):
        add_explained(&p, chunk[i], chunk[i + 1], &totals[i, 0], &arenas[threadid(), 0])
    total = np.add.reduce(np.asarray(totals), axis=0)
    upper = np.triu(total[:p.k * p.ld].reshape(p.k, p.ld)[:, :p.k])
    return float(total[p.size - 1]), upper + np.triu(upper, 1).T


cdef void add_explained(const Clusters *p, ptrdiff_t first, ptrdiff_t last, double *total, double *arena) noexcept nogil:
    cdef ptrdiff_t i, n, a, j, q = p.q
    cdef double *work = arena + TILE * q * p.ld + 8
    i = first
    while i < last:
        n = min(<ptrdiff_t> TILE, last - i)
        for j in range(n):
            total[p.size - 1] += linear_whitened(q, p.k, p.matrix, p.A + (i + j) * q * q, p.B + (i + j) * q * p.k,
                                                 arena + j * p.ld, TILE * p.ld, work)
        for a in range(q):
            rows_square(total, p.ld, p.k, arena + a * TILE * p.ld, NULL, n)
        i += n


def weighted_sums(const double[:, :, ::1] A, const double[:, :, ::1] B, double G, const int64_t[::1] chunk, int n_threads):
    """For a single random coefficient what derivatives of any order are made of, with R and b as in `derivative_sums`.

    Returns
    -------
    R, RR : float
    bb, bRb : ndarray of shape (k, k)
        Sums of b'b and b'R b.
    """
    cdef double[:, ::1] matrix = np.full((1, 1), G)
    cdef Clusters p = clusters_of(A, B, matrix)
    cdef ptrdiff_t i, n_chunks = chunk.shape[0] - 1, square = p.k * p.ld
    p.size = 2 * square + 2
    cdef double[:, ::1] totals = np.zeros((n_chunks, p.size)), arenas = np.zeros((n_threads, TILE * (p.ld + 1) + 16))
    for i in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=n_threads):
        add_weighted(&p, chunk[i], chunk[i + 1], &totals[i, 0], &arenas[threadid(), 0])
    total = np.add.reduce(np.asarray(totals), axis=0)
    upper = [np.triu(total[j * square:(j + 1) * square].reshape(p.k, p.ld)[:, :p.k]) for j in range(2)]
    bb, bRb = (half + np.triu(half, 1).T for half in upper)
    return float(total[2 * square]), float(total[2 * square + 1]), bb, bRb


cdef void add_weighted(const Clusters *p, ptrdiff_t first, ptrdiff_t last, double *total, double *arena) noexcept nogil:
    cdef ptrdiff_t i = first, j, n, square = p.k * p.ld
    cdef double *R = arena + TILE * p.ld + 8
    while i < last:
        n = min(<ptrdiff_t> TILE, last - i)
        for j in range(n):
            linear_residuals(1, p.k, p.matrix, p.A + i + j, p.B + (i + j) * p.k, arena + j * p.ld, 0, R + j, NULL)
            total[2 * square] += R[j]
            total[2 * square + 1] += R[j] * R[j]
        rows_square(total, p.ld, p.k, arena, NULL, n)
        rows_square(total + square, p.ld, p.k, arena, R, n)
        i += n


def derivative_sums(const double[:, :, ::1] A, const double[:, :, ::1] B, const double[:, ::1] G, const double[::1] residual,
                    root, const int64_t[::1] row, const int64_t[::1] col, const int64_t[::1] chunk, int n_threads):
    """Sums that derivatives in G are made of; with R = Z'V^-1 Z and b = Z'V^-1 E of each cluster, e = b residual, c = b root.

    Parameters
    ----------
    A, B, chunk, n_threads
        As in `explained`.
    G : ndarray of shape (q, q)
    residual : ndarray of shape (k,)
    root : ndarray of shape (f, f) or None
        None: without what follows of c, which is 0, and without `products`.
    row, col : ndarray of shape (m,)
        Entries of G.

    Returns
    -------
    R, ee, cc : ndarray of shape (q, q)
    RR, Re, Rc : ndarray of shape (q, q, q, q)
        Sums of the products of the entries of R and those of R, ee', cc'.
    eb : ndarray of shape (q, q, k)
        Of e_a b_b.
    products : ndarray of shape (m, f, f) or None
        Of b_row'b_col and its transpose (once where row = col), fixed effects alone.
    """
    cdef Clusters p = clusters_of(A, B, G)
    cdef const double[:, ::1] roots
    cdef ptrdiff_t i, n_chunks = chunk.shape[0] - 1, q = p.q, small, per
    p.residual, p.row, p.col = &residual[0], &row[0], &col[0]
    if root is not None:
        roots = root
        p.f, p.m = roots.shape[0], row.shape[0]
        p.root = &roots[0, 0] if p.f else NULL
    small, per = 3 * q * q + 3 * q ** 4 + q * q * p.k, p.f * p.ld
    p.size = small + p.m * per
    cdef double[:, ::1] totals = np.zeros((n_chunks, p.size + 8))
    cdef double[:, ::1] arenas = np.zeros((n_threads, TILE * q * p.ld + 4 * q * q + q + q * p.f + 32))
    for i in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=n_threads):
        add_derivatives(&p, chunk[i], chunk[i + 1], &totals[i, 0], &totals[i, small], &arenas[threadid(), 0])
    total = np.add.reduce(np.asarray(totals), axis=0)
    shapes = [(q, q)] * 3 + [(q, q, q, q)] * 3 + [(q, q, p.k)]
    parts = np.split(total[:small], np.cumsum([np.prod(shape) for shape in shapes[:6]]))
    out = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    if root is None:
        return *out, None
    products = total[small:p.size].reshape(p.m, p.f, p.ld)[:, :, :p.f]
    for i in range(p.m):
        if row[i] == col[i]:
            products[i] = np.triu(products[i]) + np.triu(products[i], 1).T
        else:
            products[i] = products[i] + products[i].T
    return *out, products


cdef void add_derivatives(const Clusters *p, ptrdiff_t first, ptrdiff_t last, double *sums, double *products,
                          double *arena) noexcept nogil:
    cdef ptrdiff_t i, j, a, n, q = p.q
    cdef double *R = arena + TILE * q * p.ld + 8
    cdef double *work = R + q * q
    i = first
    while i < last:
        n = min(<ptrdiff_t> TILE, last - i)
        for j in range(n):
            linear_residuals(q, p.k, p.matrix, p.A + (i + j) * q * q, p.B + (i + j) * q * p.k, arena + j * p.ld, TILE * p.ld,
                             R, work)
            linear_add(q, p.k, p.f, R, arena + j * p.ld, TILE * p.ld, p.residual, p.root, sums, work)
        for a in range(p.m):
            if p.row[a] == p.col[a]:
                rows_square(products + a * p.f * p.ld, p.ld, p.f, arena + p.row[a] * TILE * p.ld, NULL, n)
            else:
                rows_update(products + a * p.f * p.ld, p.ld, arena + p.row[a] * TILE * p.ld, p.ld, 1, p.f,
                            arena + p.col[a] * TILE * p.ld, n)
        i += n
