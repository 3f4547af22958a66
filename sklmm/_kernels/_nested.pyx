"""Nested random intercepts: value, gradient and Hessian of the Laplace log-likelihood, as a sum over trees.

Blocks, chunks and threads are those of _cluster.pyx, with trees (a top level and all below it) for clusters.
"""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

import numpy as np

from sklmm._kernels._arena cimport arena_cut, sklmm_arena
from sklmm._kernels._intercept cimport SKLMM_CLAMP, intercept_rows, sklmm_block, sklmm_modes
from sklmm._kernels._rows cimport (
    rows_ahead,
    rows_cluster_sums,
    rows_dot,
    rows_exp,
    rows_load,
    rows_second_order,
    rows_update,
    sklmm_ahead,
    sklmm_source,
)


cdef extern from "_nested.h" nogil:
    enum: SKLMM_MAX_DEPTH  # 8, as in the arrays below
    ctypedef struct sklmm_depth:
        double theta
        ptrdiff_t slot
        const int64_t *parent
        ptrdiff_t first, n
        double *u
        double *R
        double *W
        double *D
        double *s
        double *Y
        double *O
        double *x
        double *kappa
        double *rho
        double *lambda_ "lambda"
        double *d
        double *base
        double *A0
        double *G
        double *Yv
        double *Ov
        double *du
        double *dW
    ctypedef struct sklmm_forest:
        ptrdiff_t depths, ld
        sklmm_depth at[8]
        const int64_t *span[8]
    int nested_modes(sklmm_block *b, sklmm_forest *t, const sklmm_modes *m, ptrdiff_t first, ptrdiff_t n, double tol)
    double nested_adjoints(sklmm_forest *t, const sklmm_modes *m)
    ptrdiff_t nested_assemble(sklmm_forest *t, const sklmm_modes *m, const double *sums, double *left, double *right,
                              double *theta_rows, ptrdiff_t slot, double *gradient)


MAX_DEPTH = 8


cdef struct Scratch:
    double *tile
    double *eta
    double *E
    double *w
    double *wy
    double *W
    double *g
    double *q
    double *sums
    double *left
    double *right
    int64_t *start
    ptrdiff_t rows, tile_rows
    sklmm_block block
    sklmm_modes modes
    sklmm_forest forest


cdef class NestedKernel:
    """Rows sorted along the trees, ready for passes.

    Parameters
    ----------
    X, center, inv_scale, intercept, y, w, n_threads
        As in `ClusterKernel`.
    start : ndarray (n_leaves + 1,), int64
        First row of each leaf.
    parents : list of ndarray, int64
        Parent of each node of every depth but the top.
    spans : list of ndarray (n_trees + 1,), int64
        First node of each tree at each depth, leaves first.
    block : ndarray, int64
        First tree of each block.
    chunk : ndarray, int64
        First block of each chunk.
    tile : int
    """
    cdef:
        sklmm_source source
        const uint8_t *y
        const double *w
        const int64_t *start
        object keep
        list parents, spans
        const int64_t *parent[8]
        const int64_t *span[8]
        ptrdiff_t depths, tile, n_chunks, n_blocks, slot, rows
        ptrdiff_t most[8]
        readonly ptrdiff_t ld, n_params
        const int64_t[::1] block, chunk
        double[:, ::1] arena
        int64_t[:, ::1] starts
        int n_threads
        double mode_tol

    def __init__(self, X, const double[::1] center, const double[::1] inv_scale, bint intercept, const uint8_t[::1] y,
                 const double[::1] w, const int64_t[::1] start, list parents, list spans, const int64_t[::1] block,
                 const int64_t[::1] chunk, ptrdiff_t tile, int n_threads):
        cdef const int64_t[::1] view
        cdef ptrdiff_t f, i
        cdef size_t address = X.__array_interface__["data"][0]
        cdef Scratch scratch
        if len(spans) > SKLMM_MAX_DEPTH:
            raise ValueError(f"{len(spans)} nested factors; the kernel holds at most {SKLMM_MAX_DEPTH}")
        s = &self.source
        s.data = <const void *> address
        s.row, s.col = X.strides[0] // X.itemsize, X.strides[1] // X.itemsize
        s.n, s.p = X.shape
        s.is_float32 = X.dtype == np.float32
        s.center, s.inv_scale, s.intercept = &center[0], &inv_scale[0], intercept
        s.q, s.z_column, s.z_center, s.z_inv_scale = 0, NULL, NULL, NULL
        self.depths = len(spans)
        self.slot = s.p + intercept
        self.n_params = self.slot + self.depths
        s.z_slot = self.n_params
        self.ld = (self.n_params + 7) // 8 * 8
        self.y, self.start = &y[0], &start[0]
        self.w = NULL
        if w is not None:
            self.w = &w[0]
        self.block, self.chunk, self.tile, self.n_threads = block, chunk, tile, n_threads
        self.n_blocks, self.n_chunks = block.shape[0] - 1, chunk.shape[0] - 1
        for f in range(self.depths):
            view = spans[f]
            self.span[f] = &view[0]
            self.parent[f] = NULL
            if f + 1 < self.depths:
                view = parents[f]
                self.parent[f] = &view[0]
            self.most[f] = 0
            for i in range(self.n_blocks):
                self.most[f] = max(self.most[f], self.span[f][block[i + 1]] - self.span[f][block[i]])
        for i in range(self.n_blocks):
            self.rows = max(self.rows, start[self.span[0][block[i + 1]]] - start[self.span[0][block[i]]])
        self.keep = (X, center, inv_scale, y, w, start, parents, spans, block, chunk)
        self.starts = np.zeros((n_threads, self.most[0] + 1), dtype=np.int64)
        scratch.start = NULL
        self.arena = np.zeros((n_threads, self.lay_out(&scratch, NULL)))

    cdef ptrdiff_t lay_out(self, Scratch *s, double *base) noexcept nogil:
        """As in _cluster.pyx."""
        cdef:
            sklmm_arena arena
            ptrdiff_t f, n, nodes = 0, ld = self.ld, leaves = self.most[0]
            sklmm_depth *a
        arena.base, arena.used = base, 0
        s.rows, s.tile_rows = (self.rows + 15) // 8 * 8, (min(self.rows, self.tile) + 15) // 8 * 8
        s.tile = arena_cut(&arena, s.tile_rows * ld)
        s.eta, s.E = arena_cut(&arena, s.rows), arena_cut(&arena, s.rows)
        s.w, s.wy = arena_cut(&arena, s.rows), arena_cut(&arena, s.rows)
        s.W = arena_cut(&arena, 3 * s.rows)
        s.g, s.q = arena_cut(&arena, s.rows), arena_cut(&arena, s.rows)
        s.sums = arena_cut(&arena, 3 * leaves * ld)
        s.block.start, s.block.eta, s.block.E, s.block.w, s.block.wy = s.start, s.eta, s.E, s.w, s.wy
        s.block.unweighted = self.w == NULL
        s.modes.u, s.modes.B = arena_cut(&arena, leaves), arena_cut(&arena, leaves)
        s.modes.V1, s.modes.c = arena_cut(&arena, leaves), arena_cut(&arena, leaves)
        s.modes.k, s.modes.N = arena_cut(&arena, leaves), arena_cut(&arena, leaves)
        s.modes.means = NULL
        s.forest.depths, s.forest.ld = self.depths, ld
        for f in range(self.depths):
            a, n = &s.forest.at[f], self.most[f]
            nodes += n
            a.slot, a.parent = self.slot + f, self.parent[f]
            s.forest.span[f] = self.span[f]
            a.u, a.R, a.W, a.D = arena_cut(&arena, n), arena_cut(&arena, n), arena_cut(&arena, n), arena_cut(&arena, n)
            a.s, a.Y, a.O, a.x = arena_cut(&arena, n), arena_cut(&arena, n), arena_cut(&arena, n), arena_cut(&arena, n)
            a.kappa, a.rho, a.lambda_ = arena_cut(&arena, n), arena_cut(&arena, n), arena_cut(&arena, n)
            a.d, a.base = arena_cut(&arena, n), arena_cut(&arena, n)
            a.A0, a.G, a.Yv = arena_cut(&arena, n * ld), arena_cut(&arena, n * ld), arena_cut(&arena, n * ld)
            a.Ov, a.du, a.dW = arena_cut(&arena, n * ld), arena_cut(&arena, n * ld), arena_cut(&arena, n * ld)
        s.left = arena_cut(&arena, (leaves + 2 * nodes) * ld)
        s.right = arena_cut(&arena, (leaves + 2 * nodes) * ld)
        return arena.used

    def evaluate(self, const double[::1] beta, const double[::1] theta, list modes, list curvature, double mode_tol=1e-10,
                 const int64_t[::1] rank=None, ptrdiff_t n_sampled=0):
        """Value, gradient (n_params,) and Hessian over all blocks, or those of rank below n_sampled.

        `modes`: by depth, starting values of the spherical modes; receives the modes. `curvature`: by depth, receives W.
        """
        cdef:
            ptrdiff_t P = self.n_params, ld = self.ld, size = 8 + ld + 2 * P * ld, i, f, a, b
            double[:, ::1] totals = np.zeros((self.n_chunks, size))
            int[::1] status = np.zeros(self.n_chunks, dtype=np.intc)
            double *u[8]
            double *W[8]
            double[::1] view
            const int64_t *ranks = NULL
        if rank is not None:
            if rank.shape[0] != self.n_blocks:
                raise ValueError("rank must have an entry a block")
            ranks = &rank[0]
        for f in range(self.depths):
            view = modes[f]
            u[f] = &view[0]
            view = curvature[f]
            W[f] = &view[0]
        self.mode_tol = mode_tol
        for i in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            status[i] = self.run_chunk(i, &totals[i, 0], &beta[0], &theta[0], u, W, ranks, n_sampled)
        if np.any(status):
            raise FloatingPointError("a conditional mode was not found: is X or sample_weight extreme?")
        cdef double[::1] out = np.add.reduce(np.asarray(totals), axis=0)
        hessian = np.empty((P, P))
        cdef double[:, ::1] h = hessian
        cdef ptrdiff_t symmetric = 8 + ld, half = 8 + ld + P * ld
        for a in range(P):
            for b in range(a, P):
                h[a, b] = h[b, a] = out[symmetric + a * ld + b] + (out[half + a * ld + b] + out[half + b * ld + a])
        return out[0], np.asarray(out)[8:8 + P].copy(), hessian

    cdef int run_chunk(self, ptrdiff_t chunk, double *totals, const double *beta, const double *theta, double **u, double **W,
                       const int64_t *rank, ptrdiff_t n_sampled) noexcept nogil:
        cdef:
            Scratch s
            ptrdiff_t i, f
            int status = 0
        s.start = &self.starts[threadid(), 0]
        self.lay_out(&s, &self.arena[threadid(), 0])
        for f in range(self.depths):
            s.forest.at[f].theta = theta[f]
        for i in range(self.chunk[chunk], self.chunk[chunk + 1]):
            if rank == NULL or rank[i] < n_sampled:
                status |= self.run_block(&s, totals, beta, u, W, self.block[i], self.block[i + 1],
                                         self.tile if rank == NULL else 0)
        return status

    cdef int run_block(self, Scratch *s, double *totals, const double *beta, double **u, double **W, ptrdiff_t t0,
                       ptrdiff_t t1, ptrdiff_t n_ahead) noexcept nogil:
        cdef:
            ptrdiff_t ld = self.ld, P = self.n_params, f, i, r, k, l, begin, end, pairs
            ptrdiff_t leaf = self.span[0][t0], nl = self.span[0][t1] - leaf
            ptrdiff_t first = self.start[leaf], n = self.start[leaf + nl] - first
            double *gradient = totals + 8
            double *symmetric = gradient + ld
            double *half = symmetric + P * ld
            double *omega = s.W + 2 * s.rows
            sklmm_depth *a
            sklmm_ahead ahead
        s.block.nc = nl
        for i in range(nl + 1):
            s.start[i] = self.start[leaf + i] - first
        for i in range(n):
            s.w[i] = self.w[first + i] if self.w != NULL else 1.0
            s.wy[i] = s.w[i] if self.y[first + i] else 0.0
        r = 0
        while r < n:
            k = min(self.tile, n - r)
            rows_load(s.tile, ld, &self.source, first + r, k)
            rows_dot(s.eta + r, s.tile, ld, beta, k)
            r += k
        s.block.far = rows_exp(s.E, s.eta, SKLMM_CLAMP, n)
        for f in range(self.depths):
            a = &s.forest.at[f]
            a.first = self.span[f][t0]
            a.n = self.span[f][t1] - a.first
            for i in range(a.n):
                a.u[i] = u[f][a.first + i]
        if nested_modes(&s.block, &s.forest, &s.modes, t0, t1 - t0, self.mode_tol):
            return 1
        totals[0] += nested_adjoints(&s.forest, &s.modes)
        totals[0] += intercept_rows(&s.block, &s.modes, NULL, 1.0, s.W, s.W + s.rows, omega, s.g, s.q)
        for f in range(self.depths):
            a = &s.forest.at[f]
            for i in range(a.n):
                u[f][a.first + i] = a.u[i] + a.d[i]
                W[f][a.first + i] = a.W[i]
        if n > self.tile:
            memset(s.sums, 0, 3 * nl * ld * sizeof(double))
        r, l = 0, 0
        while r < n:
            k = min(self.tile, n - r)
            if n > self.tile:  # a tree longer than a tile: its rows come by again, tile by tile
                rows_load(s.tile, ld, &self.source, first + r, k)
                while l < nl and s.start[l] < r + k:
                    begin, end = max(s.start[l], r), min(s.start[l + 1], r + k)
                    rows_update(s.sums + 3 * l * ld, ld, s.W + begin, 1, s.rows, 3, s.tile + (begin - r) * ld, end - begin)
                    if s.start[l + 1] > r + k:
                        break
                    l += 1
            else:
                rows_cluster_sums(s.sums, ld, nl, s.start, s.W, 1, s.rows, 3, s.tile)
            ahead = rows_ahead(&self.source, first + r + k, n_ahead)
            rows_second_order(symmetric, gradient, ld, P, s.tile, omega + r, s.g + r, k, &ahead)
            r += k
        for i in range(nl):
            s.modes.N[i] = 0.0
            for r in range(s.start[i], s.start[i + 1]):
                s.modes.N[i] += omega[r]
        pairs = nested_assemble(&s.forest, &s.modes, s.sums, s.left, s.right, half + self.slot * ld, self.slot, gradient)
        rows_update(half, ld, s.left, ld, 1, P, s.right, pairs)
        return 0
