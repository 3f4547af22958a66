"""Cross-products of the rows of a linear model in one pass: all that its likelihood needs of them.

Rows are sorted by cluster, or taken in an order that sorts them. A tile holds the rows [x standardised | 1 if intercept | y
standardised | z]; a *chunk* is a run of whole clusters with accumulators of its own, and chunks are summed in a fixed order, so
that results are bitwise the same for any number of threads.
"""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

import numpy as np

from sklmm._kernels._grouping import gather_rows

cimport sklmm._kernels._rows as c
from sklmm._kernels._pass cimport Rows, add_second_order, rows_dot, rows_load, rows_update


cdef struct Job:
    Rows rows                   # its source and ld alone
    const double *y
    const double *offset        # or NULL
    const double *weight        # or NULL: all ones
    double y_center, y_inv_scale
    const int64_t *start
    const int64_t *order        # or NULL: the rows are sorted
    const int64_t *kept         # columns of a tile that products are kept of
    const char *data            # the first row, if there is an order
    ptrdiff_t stride, bytes     # of a row
    ptrdiff_t q, k, y_slot, tile, size


cdef class RowProducts:
    """Rows, ready for passes that sum up cross-products.

    E are the columns `kept` of [X | 1 | y], Z those of the random coefficients.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32, of any strides
    center, inv_scale : ndarray of shape (p,), and zeros up to whole vectors
        Columns are (X - center) * inv_scale.
    intercept : bool
    kept : ndarray of shape (k,)
        Columns of X, p for the intercept, and last p + intercept for y; they ascend.
    y : ndarray of shape (n,)
        It enters as (y - offset - y_center) * y_inv_scale.
    offset, weight : ndarray of shape (n,) or None
    z_column : ndarray of shape (q,)
        Column of X, or -1 for the constant 1; q may be 0.
    z_center, z_inv_scale : ndarray of shape (q,)
    order : ndarray of shape (n,), int64, or None
        Of the rows; None if they are to be taken as they are.
    tile : int
        Rows that are worked on at a time.
    """
    cdef:
        Job job
        object keep_alive

    def __init__(self, X, const double[::1] center, const double[::1] inv_scale, bint intercept, const int64_t[::1] kept,
                 const double[::1] y, offset, weight, double y_center, double y_inv_scale, const int64_t[::1] z_column,
                 const double[::1] z_center, const double[::1] z_inv_scale, order, ptrdiff_t tile):
        cdef Job *job = &self.job
        cdef const double[::1] offsets, weights
        cdef const int64_t[::1] orders
        if order is not None and not (X.strides[1] == X.itemsize and X.strides[0] > 0 and X.dtype == np.float64 and X.size):
            X, y = gather_rows(X, order), np.asarray(y)[order]
            offset = None if offset is None else offset[order]
            weight = None if weight is None else weight[order]
            order = None
        job.y_slot = X.shape[1] + intercept
        job.q, job.k, job.tile = z_column.shape[0], kept.shape[0], tile
        job.rows.ld = (job.y_slot + 1 + job.q + 7) // 8 * 8
        s = &job.rows.source
        cdef size_t address = X.__array_interface__["data"][0]
        job.data = <const char *> address
        s.data = <const void *> address
        job.stride, job.bytes = X.strides[0], X.shape[1] * X.itemsize
        s.row, s.col = X.strides[0] // X.itemsize, X.strides[1] // X.itemsize
        s.n, s.p = X.shape
        s.is_float32 = X.dtype == np.float32
        s.center, s.inv_scale, s.intercept = &center[0], &inv_scale[0], intercept
        s.q, s.z_slot = job.q, job.y_slot + 1
        s.z_column, s.z_center, s.z_inv_scale = NULL, NULL, NULL
        if job.q:
            s.z_column, s.z_center, s.z_inv_scale = &z_column[0], &z_center[0], &z_inv_scale[0]
        job.offset = job.weight = NULL
        job.order = NULL
        if offset is not None:
            offsets = offset
            job.offset = &offsets[0]
        if weight is not None:
            weights = weight
            job.weight = &weights[0]
        if order is not None:
            orders = order
            job.order = &orders[0]
        job.y, job.y_center, job.y_inv_scale, job.kept = &y[0], y_center, y_inv_scale, &kept[0]
        job.size = tile * (job.rows.ld + job.q + 1 + (s.p if order is not None else 0)) + job.q * job.rows.ld + 64
        self.keep_alive = [X, center, inv_scale, np.asarray(kept), y, offset, weight, z_column, z_center, z_inv_scale, order]

    def by_cluster(self, const int64_t[::1] start, const int64_t[::1] chunk, int n_threads):
        """Cross-products of all rows, and of each cluster.

        Parameters
        ----------
        start : ndarray of shape (n_clusters + 1,)
            First row of each cluster.
        chunk : ndarray
            First cluster of each chunk, and their number.
        n_threads : int

        Returns
        -------
        total : ndarray of shape (k, k)
            E'WE.
        A : ndarray of shape (n_clusters, q, q)
            Z'WZ.
        B : ndarray of shape (n_clusters, q, k)
            Z'WE.
        """
        cdef Job *job = &self.job
        cdef ptrdiff_t i, q = job.q, ld = job.rows.ld, n_chunks = chunk.shape[0] - 1, n = start.shape[0] - 1
        cdef double[:, :, ::1] A = np.zeros((n, q, q)), B = np.zeros((n, q, job.k))
        cdef double[:, ::1] arenas = np.zeros((n_threads, job.size)), totals = np.zeros((n_chunks, ld * ld))
        cdef double *a = &A[0, 0, 0] if q else NULL
        cdef double *b = &B[0, 0, 0] if q else NULL
        job.start = &start[0]
        for i in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=n_threads):
            add_clusters(job, chunk[i], chunk[i + 1], &arenas[threadid(), 0], &totals[i, 0], a, b)
        kept = self.keep_alive[3]
        upper = np.triu(np.add.reduce(np.asarray(totals), axis=0).reshape(ld, ld)[np.ix_(kept, kept)])
        return upper + np.triu(upper, 1).T, np.asarray(A), np.asarray(B)

    def residual_sums(self, const double[::1] residual, const int64_t[::1] start, const int64_t[::1] chunk, int n_threads):
        """E'W E residual of each cluster in the chunks, (n, k); start, chunk and n_threads as in `by_cluster`. Z has columns."""
        cdef Job *job = &self.job
        cdef ptrdiff_t i, n_chunks = chunk.shape[0] - 1
        cdef double[:, ::1] out = np.zeros((chunk[n_chunks] - chunk[0], job.k)), arenas = np.zeros((n_threads, job.size))
        cdef double[::1] beta = np.zeros(job.rows.ld)
        np.asarray(beta)[self.keep_alive[3]] = residual
        job.start = &start[0]
        for i in prange(n_chunks, nogil=True, schedule="dynamic", num_threads=n_threads):
            add_residuals(job, &beta[0], chunk[i], chunk[i + 1], &arenas[threadid(), 0], &out[0, 0] - chunk[0] * job.k)
        return np.asarray(out)

    def squares(self, const int64_t[::1] start, ptrdiff_t first, ptrdiff_t last):
        """E'W E of each of the clusters first .. last - 1, (n, k, k)."""
        cdef Job job = self.job
        cdef ptrdiff_t i, ld = job.rows.ld
        cdef double[:, ::1] arena = np.zeros((1, job.size)), totals = np.zeros((last - first, ld * ld))
        job.start, job.q = &start[0], 0  # without sums by cluster
        with nogil:
            for i in range(first, last):
                add_clusters(&job, i, i + 1, &arena[0, 0], &totals[i - first, 0], NULL, NULL)
        kept = self.keep_alive[3]
        upper = np.triu(np.asarray(totals).reshape(-1, ld, ld)[:, kept[:, None], kept])
        return upper + np.swapaxes(np.triu(upper, 1), 1, 2)

    def of_border(self, const int64_t[::1] start, const int32_t[:, ::1] column, const int64_t[::1] first,
                  const int32_t[:, ::1] cell, ptrdiff_t q, double[:, ::1] B, double[:, ::1] S, double[:, ::1] E):
        """Adds what the border's coefficients have with the leaves', with each other, and with E.

        Parameters
        ----------
        start : ndarray of shape (n_leaves + 1,)
            First row of each leaf.
        column : ndarray of shape (T - q, n), int32
            Place among the border's coefficients, by row in the order.
        first, cell
            As in `border_cells`, `cell` by coefficient.
        q : int
            Coefficients of a leaf, the first of Z.
        B : ndarray of shape (entries, q)
        S : ndarray of shape (n_border, n_border)
        E : ndarray of shape (n_border, k)
        """
        cdef:
            Job own = self.job
            ptrdiff_t ld = own.rows.ld, T = own.q, n = column.shape[1], r = 0, i = 0, j, a, b, m, x, at, z = own.y_slot + 1
            double[::1] arena = np.zeros(own.size)
            double *tile = &arena[0]
            double *w = tile + own.tile * (ld + T)
            double *row
            double f
        with nogil:
            while r < n:
                m = min(own.tile, n - r)
                load(&own, r, m, tile)
                for j in range(m):
                    while start[i + 1] <= r + j:
                        i += 1
                    row = tile + j * ld
                    for b in range(q, T):
                        x, f = column[b - q, r + j], w[j] * row[z + b]
                        at = first[i] + cell[b - q, r + j]
                        for a in range(q):
                            B[at, a] += f * row[z + a]
                        for a in range(q, T):
                            S[x, column[a - q, r + j]] += f * row[z + a]
                        for a in range(own.k):
                            E[x, a] += f * row[own.kept[a]]
                r += m


cdef void add_residuals(const Job *job, const double *beta, ptrdiff_t first, ptrdiff_t last, double *arena,
                        double *out) noexcept nogil:
    """Fills the rows of `out` of clusters first .. last - 1."""
    cdef:
        ptrdiff_t ld = job.rows.ld, tile = job.tile, r = job.start[first], end = job.start[last], i = first, n, j, a, stop
        double *residual = arena + tile * ld  # in the place of weights times Z
        double *w = residual + tile * job.q
        double *sums = w + tile
        Job own = job[0]
    memset(sums, 0, ld * sizeof(double))
    while r < end:
        n = min(tile, end - r)
        load(&own, r, n, arena)
        rows_dot(residual, arena, ld, beta, n)
        for j in range(n):
            residual[j] *= w[j]
        j = 0
        while j < n:
            stop = min(n, job.start[i + 1] - r)
            if stop > j:
                rows_update(sums, ld, residual + j, 1, 0, 1, arena + j * ld, stop - j)
            j = stop
            if job.start[i + 1] > r + n:
                break
            for a in range(job.k):
                out[i * job.k + a] = sums[job.kept[a]]
            memset(sums, 0, ld * sizeof(double))
            i += 1
        r += n


cdef void load(Job *job, ptrdiff_t r, ptrdiff_t n, double *arena) noexcept nogil:
    """Rows r .. r + n - 1 in the order: the tile, behind it weights times Z, by coefficient, and weights."""
    cdef ptrdiff_t ld = job.rows.ld, tile = job.tile, q = job.q, j, a, at, z = job.y_slot + 1
    cdef double *W = arena + tile * ld
    cdef double *w = W + tile * q
    cdef double *gathered = w + tile + q * ld + 8
    cdef double f
    if job.order != NULL:
        c.rows_gather(<char *> gathered, job.data, job.stride, job.bytes, job.order + r, n)
        job.rows.source.data, job.rows.source.row, job.rows.source.n = gathered, job.rows.source.p, n + 8
    rows_load(arena, ld, &job.rows.source, r if job.order == NULL else 0, n)
    for j in range(n):
        at = r + j if job.order == NULL else job.order[r + j]
        f = job.y[at] - job.y_center
        if job.offset != NULL:
            f = f - job.offset[at]
        arena[j * ld + job.y_slot] = f * job.y_inv_scale
        w[j] = 1.0 if job.weight == NULL else job.weight[at]
        for a in range(q):
            W[a * tile + j] = w[j] * arena[j * ld + z + a]


cdef void add_clusters(const Job *job, ptrdiff_t first, ptrdiff_t last, double *arena, double *total, double *A,
                       double *B) noexcept nogil:
    """Adds the rows of clusters first .. last - 1 to the total, and fills their A and B."""
    cdef:
        ptrdiff_t ld = job.rows.ld, q = job.q, tile = job.tile, r = job.start[first], end = job.start[last], i = first
        ptrdiff_t n, j, stop
        double *W = arena + tile * ld
        double *w = W + tile * q
        double *sums = w + tile
        Job own = job[0]
    memset(sums, 0, q * ld * sizeof(double))
    while r < end:
        n = min(tile, end - r)
        load(&own, r, n, arena)
        add_second_order(&own.rows, total, NULL, job.y_slot + 1, arena, NULL if job.weight == NULL else w, NULL, r, n,
                         tile if job.order == NULL else 0)
        j = 0
        while q and j < n:
            stop = min(n, job.start[i + 1] - r)
            if stop > j:
                rows_update(sums, ld, W + j, 1, tile, q, arena + j * ld, stop - j)
            j = stop
            if job.start[i + 1] > r + n:
                break
            keep(job, sums, A + i * q * q, B + i * q * job.k)
            i += 1
        r += n
    while q and i < last:  # clusters without rows at the end
        keep(job, sums, A + i * q * q, B + i * q * job.k)
        i += 1


cdef void keep(const Job *job, double *sums, double *A, double *B) noexcept nogil:
    """The sums of a cluster are whole: they go to A and B, and the next one's begin."""
    cdef ptrdiff_t a, b, q = job.q, k = job.k, ld = job.rows.ld
    for a in range(q):
        for b in range(q):
            A[a * q + b] = sums[a * ld + job.y_slot + 1 + b]
        for b in range(k):
            B[a * k + b] = sums[a * ld + job.kept[b]]
    memset(sums, 0, q * ld * sizeof(double))
