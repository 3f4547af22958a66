"""Nested random intercepts: value, gradient and Hessian of the Laplace log-likelihood, as a sum over trees.

Rows come in blocks, see _pass.pyx, of whole trees: a top level and all below it. The clusters there are leaves here.
"""
from cython.parallel cimport threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

import numpy as np

from sklmm._kernels._arena cimport arena_cut, sklmm_arena
from sklmm._kernels._intercept cimport SKLMM_CLAMP, intercept_rows, sklmm_block, sklmm_modes
from sklmm._kernels._pass cimport (
    RowKernel,
    Rows,
    add_second_order,
    hessian_of,
    load_block,
    rows_cluster_sums,
    rows_exp,
    rows_load,
    rows_update,
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
    sklmm_block block
    sklmm_modes modes
    sklmm_forest forest


cdef struct State:               # what a pass is evaluated at
    const double *beta
    const double *theta          # by depth, as all below
    double *u[8]                 # modes
    double *W[8]                 # their curvatures
    double mode_tol


cdef class NestedKernel(RowKernel):
    """Rows sorted along the trees, ready for passes.

    Parameters
    ----------
    X, center, inv_scale, intercept, y, w, n_threads
        As in `RowKernel.read`.
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
        list parents, spans
        const int64_t *parent[8]
        const int64_t *span[8]
        const int64_t[::1] tree   # first of each block
        ptrdiff_t depths, slot
        ptrdiff_t most[8]         # nodes of a block
        readonly ptrdiff_t n_params

    def __init__(self, X, const double[::1] center, const double[::1] inv_scale, bint intercept, const uint8_t[::1] y,
                 const double[::1] w, const int64_t[::1] start, list parents, list spans, const int64_t[::1] block,
                 const int64_t[::1] chunk, ptrdiff_t tile, int n_threads):
        cdef const int64_t[::1] view
        cdef ptrdiff_t f, i
        cdef Scratch scratch
        if len(spans) > SKLMM_MAX_DEPTH:
            raise ValueError(f"{len(spans)} nested factors; the kernel holds at most {SKLMM_MAX_DEPTH}")
        first = np.asarray(block)
        self.read(X, center, inv_scale, intercept, y, w, start, spans[0][first], chunk, tile, n_threads)
        self.parents, self.spans, self.tree, self.depths = parents, spans, block, len(spans)
        self.slot = self.data.source.p + intercept
        self.n_params = self.data.source.z_slot = self.slot + self.depths
        self.data.ld = (self.n_params + 7) // 8 * 8
        for f in range(self.depths):
            view = spans[f]
            self.span[f], self.parent[f] = &view[0], NULL
            self.most[f] = np.diff(spans[f][first]).max(initial=0)
            if f + 1 < self.depths:
                view = parents[f]
                self.parent[f] = &view[0]
        scratch.start = NULL
        self.allocate(self.lay_out(&scratch, NULL), sizeof(Scratch))
        for i in range(n_threads):
            self.scratch(i).start = &self.starts[i, 0]
            self.lay_out(self.scratch(i), &self.arenas[i, 0])

    @property
    def ld(self):
        return self.data.ld

    cdef Scratch *scratch(self, int thread) noexcept nogil:
        return <Scratch *> &self.scratches[thread, 0]

    cdef ptrdiff_t lay_out(self, Scratch *s, double *base) noexcept nogil:
        """Points a thread's scratch into its arena at `base` (NULL: nowhere yet); returns how many doubles it takes."""
        cdef:
            sklmm_arena arena
            ptrdiff_t f, n, nodes = 0, ld = self.data.ld, rows = self.data.rows, leaves = self.most[0]
            sklmm_depth *a
        arena.base, arena.used = base, 0
        s.tile = arena_cut(&arena, self.data.tile_rows * ld)
        s.eta, s.E = arena_cut(&arena, rows), arena_cut(&arena, rows)
        s.w, s.wy = arena_cut(&arena, rows), arena_cut(&arena, rows)
        s.W = arena_cut(&arena, 3 * rows)
        s.g, s.q = arena_cut(&arena, rows), arena_cut(&arena, rows)
        s.sums = arena_cut(&arena, 3 * leaves * ld)
        s.block.start, s.block.eta, s.block.E, s.block.w, s.block.wy = s.start, s.eta, s.E, s.w, s.wy
        s.block.unweighted = self.data.w == NULL
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
            ptrdiff_t P = self.n_params, ld = self.data.ld, f
            State x
            double[::1] view
        x.beta, x.theta, x.mode_tol = &beta[0], &theta[0], mode_tol
        for f in range(self.depths):
            view = modes[f]
            x.u[f] = &view[0]
            view = curvature[f]
            x.W[f] = &view[0]
        cdef double[::1] total = self.sums(8 + ld + 2 * P * ld, &x, rank, n_sampled)
        return total[0], np.array(total[8:8 + P]), hessian_of(&total[8 + ld], &total[8 + ld + P * ld], P, ld)

    cdef int add_block(self, ptrdiff_t number, double *totals, const void *at, ptrdiff_t n_ahead) noexcept nogil:
        cdef:
            Scratch *s = self.scratch(threadid())
            const Rows *p = &self.data
            const State *x = <const State *> at
            ptrdiff_t ld = p.ld, tile = p.tile, apart = p.rows, P = self.n_params, f, i, r, k, l, begin, end, pairs
            ptrdiff_t leaf = self.block[number], nl = self.block[number + 1] - leaf
            ptrdiff_t t0 = self.tree[number], t1 = self.tree[number + 1]
            ptrdiff_t first = p.start[leaf], n = p.start[leaf + nl] - first
            double *gradient = totals + 8
            double *symmetric = gradient + ld
            double *half = symmetric + P * ld
            double *omega = s.W + 2 * apart
            sklmm_depth *a
        load_block(p, leaf, leaf + nl, x.beta, s.tile, s.start, s.w, s.wy, s.eta, NULL)
        s.block.nc = nl
        s.block.far = rows_exp(s.E, s.eta, SKLMM_CLAMP, n)
        for f in range(self.depths):
            a = &s.forest.at[f]
            a.theta, a.first = x.theta[f], self.span[f][t0]
            a.n = self.span[f][t1] - a.first
            for i in range(a.n):
                a.u[i] = x.u[f][a.first + i]
        if nested_modes(&s.block, &s.forest, &s.modes, t0, t1 - t0, x.mode_tol):
            return 1
        totals[0] += nested_adjoints(&s.forest, &s.modes)
        totals[0] += intercept_rows(&s.block, &s.modes, NULL, 1.0, s.W, s.W + apart, omega, s.g, s.q)
        for f in range(self.depths):
            a = &s.forest.at[f]
            for i in range(a.n):
                x.u[f][a.first + i] = a.u[i] + a.d[i]
                x.W[f][a.first + i] = a.W[i]
        if n > tile:
            memset(s.sums, 0, 3 * nl * ld * sizeof(double))
        r, l = 0, 0
        while r < n:
            k = min(tile, n - r)
            if n > tile:  # a tree longer than a tile: its rows come by again, tile by tile
                rows_load(s.tile, ld, &p.source, first + r, k)
                while l < nl and s.start[l] < r + k:
                    begin, end = max(s.start[l], r), min(s.start[l + 1], r + k)
                    rows_update(s.sums + 3 * l * ld, ld, s.W + begin, 1, apart, 3, s.tile + (begin - r) * ld, end - begin)
                    if s.start[l + 1] > r + k:
                        break
                    l += 1
            else:
                rows_cluster_sums(s.sums, ld, nl, s.start, s.W, 1, apart, 3, s.tile)
            add_second_order(p, symmetric, gradient, P, s.tile, omega + r, s.g + r, first + r, k, n_ahead)
            r += k
        for i in range(nl):
            s.modes.N[i] = 0.0
            for r in range(s.start[i], s.start[i + 1]):
                s.modes.N[i] += omega[r]
        pairs = nested_assemble(&s.forest, &s.modes, s.sums, s.left, s.right, half + self.slot * ld, self.slot, gradient)
        rows_update(half, ld, s.left, ld, 1, P, s.right, pairs)
        return 0
