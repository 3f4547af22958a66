"""Passes over rows that are sorted by cluster: blocks, chunks, threads, and what every kernel does with rows.

A *block* is a run of whole clusters of about a tile of rows; its rows are loaded once, and everything that needs them (linear
predictor, conditional modes, row weights, sums by cluster, rank update) happens while they are in cache. A *chunk* is a
run of blocks with accumulators of its own; chunks are summed in a fixed order, so results are bitwise the same for any
number of threads.

The functions of _rows.h are compiled here, once for all kernels.
"""
from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t

import numpy as np

cimport sklmm._kernels._rows as c


cdef class RowKernel:
    """What the kernels of this folder that load rows have in common. One of them says in `add_block` what a block adds."""

    cdef read(self, X, const double[::1] center, const double[::1] inv_scale, bint intercept, const uint8_t[::1] y,
              const double[::1] w, const int64_t[::1] start, const int64_t[::1] block, const int64_t[::1] chunk,
              ptrdiff_t tile, int n_threads):
        """Points `data` at the rows.

        Parameters
        ----------
        X : ndarray of shape (n, p), float64 or float32, of any strides
        center, inv_scale : ndarray of shape (p,), and zeros up to whole vectors
            Tiles hold (X - center) * inv_scale.
        intercept : bool
            Whether a 1 follows.
        y : ndarray of shape (n,)
        w : ndarray of shape (n,) or None
        start : ndarray of shape (n_clusters + 1,)
            First row of each cluster.
        block : ndarray
            First cluster of each block, and the number of clusters.
        chunk : ndarray
            First block of each chunk, and the number of blocks.
        """
        cdef size_t address = X.__array_interface__["data"][0]
        s = &self.data.source
        s.data = <const void *> address
        s.row, s.col = X.strides[0] // X.itemsize, X.strides[1] // X.itemsize
        s.n, s.p = X.shape
        s.is_float32 = X.dtype == np.float32
        s.center, s.inv_scale, s.intercept = &center[0], &inv_scale[0], intercept
        s.q, s.z_slot, s.z_column, s.z_center, s.z_inv_scale = 0, 0, NULL, NULL, NULL
        self.data.y, self.data.w, self.data.start = &y[0], NULL if w is None else &w[0], &start[0]
        self.data.tile, self.n_threads = tile, n_threads
        self.block, self.chunk = block, chunk
        self.n_blocks, self.n_chunks = block.shape[0] - 1, chunk.shape[0] - 1
        first_rows = np.asarray(start)[np.asarray(block)]
        rows = np.diff(first_rows).max(initial=0)
        self.most_clusters = np.diff(block).max(initial=0)
        # a vector store may run past the last row of one array of a family into the next, hence the rounding
        self.data.rows, self.data.tile_rows = (rows + 15) // 8 * 8, (min(rows, tile) + 15) // 8 * 8
        self.keep = [X, center, inv_scale, y, w, start]

    def add_offset(self, const double[::1] offset):
        """Adds an offset (n,) to the linear predictors of all that follows; None is none."""
        if offset is not None and offset.shape[0] != self.data.source.n:
            raise ValueError("offset must have an entry a row")
        self.data.offset = NULL if offset is None else &offset[0]
        self.keep.append(offset)

    cdef allocate(self, ptrdiff_t size, size_t scratch):
        """For each thread an arena of `size` doubles, room for a struct of `scratch` bytes that points into it, and for the starts
        of a block's clusters."""
        self.arenas, self.scratches = np.zeros((self.n_threads, size)), np.zeros((self.n_threads, scratch // 8 + 1))
        self.starts = np.zeros((self.n_threads, self.most_clusters + 1), dtype=np.int64)

    cdef sums(self, ptrdiff_t size, const void *at, const int64_t[::1] rank, ptrdiff_t n_sampled):
        """The sum of what the blocks add to `size` totals: all, or those of a rank below n_sampled."""
        cdef:
            double[:, ::1] totals = np.zeros((self.n_chunks, size))
            int[::1] status = np.zeros(self.n_chunks, dtype=np.intc)
            const int64_t *ranks = NULL
            ptrdiff_t i
        if rank is not None:
            if rank.shape[0] != self.n_blocks:
                raise ValueError("rank must have an entry a block")
            ranks = &rank[0]
        for i in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            status[i] = self.run_chunk(i, &totals[i, 0], at, ranks, n_sampled)
        if np.any(status):
            raise FloatingPointError("a conditional mode was not found: is X or sample_weight extreme?")
        return np.add.reduce(np.asarray(totals), axis=0)

    cdef int run_chunk(self, ptrdiff_t i, double *totals, const void *at, const int64_t *rank,
                       ptrdiff_t n_sampled) noexcept nogil:
        cdef int status = 0
        cdef ptrdiff_t b
        cdef bint every = rank == NULL or n_sampled == self.n_blocks
        for b in range(self.chunk[i], self.chunk[i + 1]):
            if every or rank[b] < n_sampled:  # the rows of the next block are fetched ahead
                status |= self.add_block(b, totals, at, self.data.tile if every else 0)
        return status

    cdef int add_block(self, ptrdiff_t i, double *totals, const void *at, ptrdiff_t n_ahead) noexcept nogil:
        """Adds block i to the totals, at the parameters `at`; returns whether it failed."""
        return 1


cdef void load_block(const Rows *p, ptrdiff_t c0, ptrdiff_t c1, const double *beta, double *tile, int64_t *start, double *w,
                     double *wy, double *eta, double *z) noexcept nogil:
    """Starts, weights, responses and linear predictors of clusters c0 .. c1 - 1, and the columns of z, p.rows apart; the tile
    holds the rows if they fit."""
    cdef ptrdiff_t first = p.start[c0], n = p.start[c1] - first, i, a, r = 0, k
    for i in range(c1 - c0 + 1):
        start[i] = p.start[c0 + i] - first
    for i in range(n):
        w[i] = p.w[first + i] if p.w != NULL else 1.0
        wy[i] = w[i] if p.y[first + i] else 0.0
    while r < n:
        k = min(p.tile, n - r)
        c.rows_load(tile, p.ld, &p.source, first + r, k)
        c.rows_dot(eta + r, tile, p.ld, beta, k)
        if p.offset != NULL:
            for i in range(k):
                eta[r + i] += p.offset[first + r + i]
        for a in range(p.source.q):
            for i in range(k):
                z[a * p.rows + r + i] = tile[i * p.ld + p.source.z_slot + a]
        r += k


cdef void add_second_order(const Rows *p, double *S, double *G, ptrdiff_t m, const double *T, const double *w, const double *g,
                           ptrdiff_t first, ptrdiff_t n, ptrdiff_t n_ahead) noexcept nogil:
    """S += T'diag(w) T and G += T'g for the rows first .. first + n - 1; fetches the n_ahead behind them meanwhile."""
    cdef sklmm_ahead ahead = c.rows_ahead(&p.source, first + n, n_ahead)
    c.rows_second_order(S, G, p.ld, m, T, w, g, n, &ahead)


cdef hessian_of(const double *symmetric, const double *half, ptrdiff_t m, ptrdiff_t ld):
    """S + F + F' from the upper blocks of S and from F, both m x ld."""
    cdef ptrdiff_t a, b
    hessian = np.empty((m, m))
    cdef double[:, ::1] h = hessian
    for a in range(m):
        for b in range(a, m):
            h[a, b] = h[b, a] = symmetric[a * ld + b] + (half[a * ld + b] + half[b * ld + a])
    return hessian


# --- the functions of _rows.h ---------------------------------------------------------------------------------------


cdef void rows_load(double *T, ptrdiff_t ld, const sklmm_source *s, ptrdiff_t first, ptrdiff_t n) noexcept nogil:
    c.rows_load(T, ld, s, first, n)


cdef void rows_dot(double *out, const double *T, ptrdiff_t ld, const double *beta, ptrdiff_t n) noexcept nogil:
    c.rows_dot(out, T, ld, beta, n)


cdef int rows_exp(double *out, const double *x, double limit, ptrdiff_t n) noexcept nogil:
    return c.rows_exp(out, x, limit, n)


cdef void rows_update(double *F, ptrdiff_t ld, const double *L, ptrdiff_t row, ptrdiff_t col, ptrdiff_t na, const double *R,
                      ptrdiff_t n) noexcept nogil:
    c.rows_update(F, ld, L, row, col, na, R, n)


cdef void rows_square(double *S, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w, ptrdiff_t n) noexcept nogil:
    c.rows_square(S, ld, na, R, w, n)


cdef void rows_cluster_sums(double *S, ptrdiff_t ld, ptrdiff_t nc, const int64_t *start, const double *W, ptrdiff_t row,
                            ptrdiff_t col, ptrdiff_t nw, const double *R) noexcept nogil:
    c.rows_cluster_sums(S, ld, nc, start, W, row, col, nw, R)


cdef sklmm_ahead rows_ahead(const sklmm_source *s, ptrdiff_t first, ptrdiff_t n) noexcept nogil:
    return c.rows_ahead(s, first, n)
