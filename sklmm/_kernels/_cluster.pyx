"""One grouping factor: value, gradient and Hessian of the Laplace or adaptive Gauss-Hermite log-likelihood.

Rows come in blocks of whole clusters, see _pass.pyx.
"""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

import numpy as np

from sklmm._kernels._arena cimport arena_cut, sklmm_arena
from sklmm._kernels._intercept cimport (
    SKLMM_CLAMP,
    intercept_assemble,
    intercept_laplace,
    intercept_modes,
    intercept_node_gradients,
    intercept_node_residuals,
    intercept_quadrature,
    intercept_quadrature_value,
    intercept_rows,
    sklmm_block,
    sklmm_modes,
    sklmm_node_means,
    sklmm_node_values,
    sklmm_nodes,
)
from sklmm._kernels._pass cimport (
    RowKernel,
    Rows,
    add_second_order,
    hessian_of,
    load_block,
    rows_cluster_sums,
    rows_exp,
    rows_load,
    rows_square,
    rows_update,
)
from sklmm._kernels._slopes cimport (
    SKLMM_LOGIT,
    SKLMM_MAX_Q,
    sklmm_cluster,
    sklmm_factor,
    sklmm_grid,
    sklmm_mode,
    sklmm_quadrature,
    slopes_assemble,
    slopes_laplace,
    slopes_mode,
    slopes_node_gradients,
    slopes_node_rows,
    slopes_quadrature,
    slopes_rows,
    slopes_times_z,
)


cdef struct Problem:
    const Rows *rows
    sklmm_nodes nodes            # padded = 0: Laplace
    sklmm_grid grid              # k = 1: Laplace
    ptrdiff_t n_params, slot
    ptrdiff_t q, m               # q = 0: a random intercept of the logit
    int family
    const int64_t *entry_row
    const int64_t *entry_col


cdef struct State:               # what a pass is evaluated at
    const double *beta
    const double *theta
    const double *Lambda
    double *u                    # modes of all clusters
    double *H                    # their curvatures
    double mode_tol
    float *gradients             # receives those of the clusters, or NULL
    bint value_only              # whether derivatives are left out


cdef enum: NODE_ROWS = 256  # rows of node gradients that are summed up together


cdef struct Scratch:
    double *tile                 # rows of X, see _rows.h
    double *eta
    double *E
    double *w
    double *wy
    double *W                    # v, v1, omega (, vz) apart by `rows`: weights of sums by cluster
    double *g
    double *q
    double *sums                 # clusters x (3 or 4) x ld
    double *left
    double *right
    double *moves
    double *node_rows            # tile x padded nodes
    double *node_sums            # rows of nodes x ld
    double *gradients            # clusters x ld
    int64_t *start
    double *z                    # q x rows
    double *vz                   # q x tile
    double *work
    double *pi                   # weights of those rows
    ptrdiff_t node_batch
    sklmm_mode mode
    sklmm_quadrature quadrature
    sklmm_block block
    sklmm_modes modes
    sklmm_node_values values


cdef struct Totals:
    double *value                # value, then padding
    double *gradient             # ld
    double *symmetric            # n_params x ld: upper blocks of sum omega x x'
    double *half                 # n_params x ld: F of Hessian = symmetric + F + F'
    double *products             # n_params x ld: upper blocks of the sum of products of the clusters' gradients; or NULL
    float *gradients             # clusters x n_params: those gradients, if there are products


cdef ptrdiff_t lay_out(Scratch *s, double *base, const Problem *p, ptrdiff_t clusters) noexcept nogil:
    """Points a thread's scratch into its arena at `base` (NULL: nowhere yet); returns how many doubles it takes."""
    cdef sklmm_arena arena
    arena.base, arena.used = base, 0
    s.tile = arena_cut(&arena, p.rows.tile_rows * p.rows.ld)
    s.eta = arena_cut(&arena, p.rows.rows)
    s.w = arena_cut(&arena, p.rows.rows)
    s.wy = arena_cut(&arena, p.rows.rows)
    s.gradients = arena_cut(&arena, clusters * p.rows.ld)
    s.block.start, s.block.eta, s.block.w, s.block.wy = s.start, s.eta, s.w, s.wy
    s.block.unweighted = p.rows.w == NULL
    if p.q:
        lay_out_slopes(s, &arena, p)
    else:
        lay_out_intercept(s, &arena, p, clusters)
    return arena.used


cdef void lay_out_intercept(Scratch *s, sklmm_arena *arena, const Problem *p, ptrdiff_t clusters) noexcept nogil:
    cdef ptrdiff_t ld = p.rows.ld, rows = p.rows.rows, tile_rows = p.rows.tile_rows, K = p.nodes.padded, pairs = 3 if K else 2
    s.E = arena_cut(arena, rows)
    s.block.E = s.E
    s.W = arena_cut(arena, (pairs + 1) * rows)
    s.g = arena_cut(arena, rows)
    s.q = arena_cut(arena, rows)
    s.sums = arena_cut(arena, (pairs + 1) * clusters * ld)
    s.left = arena_cut(arena, pairs * clusters * ld)
    s.right = arena_cut(arena, pairs * clusters * ld)
    s.modes.u = arena_cut(arena, clusters)
    s.modes.B = arena_cut(arena, clusters)
    s.modes.R = arena_cut(arena, clusters)
    s.modes.V = arena_cut(arena, clusters)
    s.modes.V1 = arena_cut(arena, clusters)
    s.modes.H = arena_cut(arena, clusters)
    s.modes.C = arena_cut(arena, clusters)
    s.modes.c = arena_cut(arena, clusters)
    s.modes.k = arena_cut(arena, clusters)
    s.modes.kappa = arena_cut(arena, clusters)
    s.modes.xi = arena_cut(arena, clusters)
    s.modes.N = arena_cut(arena, clusters)
    s.modes.next = arena_cut(arena, clusters)
    s.modes.means = NULL
    if K:
        s.modes.means = <sklmm_node_means *> arena_cut(arena, clusters * (sizeof(sklmm_node_means) // sizeof(double)))
        s.moves = arena_cut(arena, 2 * clusters * ld)
        s.node_rows = arena_cut(arena, tile_rows * K)
        s.values.v = arena_cut(arena, tile_rows * K)
        s.values.r_mean = arena_cut(arena, rows)
        s.values.v_mean = arena_cut(arena, rows)
        s.values.vz = s.W + 3 * rows
        s.node_batch = min(clusters, max(1, NODE_ROWS // p.nodes.k))
        s.node_sums = arena_cut(arena, s.node_batch * p.nodes.k * ld)
        s.pi = arena_cut(arena, s.node_batch * p.nodes.k)
        s.values.u = arena_cut(arena, clusters * K)
        s.values.B = arena_cut(arena, clusters * K)
        s.values.R = arena_cut(arena, clusters * K)
        s.values.V = arena_cut(arena, clusters * K)
        s.values.s = arena_cut(arena, clusters * K)
        s.values.pi = arena_cut(arena, clusters * K)


cdef void lay_out_slopes(Scratch *s, sklmm_arena *arena, const Problem *p) noexcept nogil:
    cdef ptrdiff_t ld = p.rows.ld, tile_rows = p.rows.tile_rows, k = p.grid.k, q = p.q, d = q * (q + 1) // 2
    cdef ptrdiff_t q1 = 1 if k == 1 else q + 1
    s.z = arena_cut(arena, q * p.rows.rows)
    s.W = arena_cut(arena, (q + d + q1 * q) * tile_rows)
    s.g = arena_cut(arena, tile_rows)
    s.q = arena_cut(arena, tile_rows)
    s.sums = arena_cut(arena, (q + d + q1 * q) * ld)
    s.left = arena_cut(arena, (2 * q1 * q + d) * ld)
    s.right = arena_cut(arena, (2 * q1 * q + d) * ld)
    s.moves = arena_cut(arena, q1 * q * ld)
    s.work = arena_cut(arena, (q1 * q + 2 * d + 1) * ld)
    if k > 1:
        s.vz = arena_cut(arena, q * tile_rows)
        s.node_rows = arena_cut(arena, 8 * tile_rows)
        s.node_sums = arena_cut(arena, k * ld)
        s.quadrature.u = arena_cut(arena, k * q)
        s.quadrature.s = arena_cut(arena, k * q)
        s.quadrature.R = arena_cut(arena, k * q)
        s.quadrature.V = arena_cut(arena, k * d)
        s.quadrature.pi = arena_cut(arena, k)
        s.quadrature.moment = arena_cut(arena, q1 * q1)
        s.quadrature.V2 = arena_cut(arena, q1 * q1 * d)
        s.quadrature.R1 = arena_cut(arena, q1 * q)
        s.quadrature.Xi = arena_cut(arena, d * d)
        s.quadrature.Lt = arena_cut(arena, q * q)


cdef void keep_gradients(const Problem *p, const Scratch *s, Totals *t, ptrdiff_t c0, ptrdiff_t nc) noexcept nogil:
    """Adds the products of the block's gradients, and keeps the gradients."""
    cdef ptrdiff_t i, a
    rows_square(t.products, p.rows.ld, p.n_params, s.gradients, NULL, nc)
    for i in range(nc):
        for a in range(p.n_params):
            t.gradients[(c0 + i) * p.n_params + a] = <float> s.gradients[i * p.rows.ld + a]


cdef int intercept_block(const Problem *p, const State *x, Scratch *s, Totals *t, ptrdiff_t c0, ptrdiff_t c1,
                         ptrdiff_t n_ahead) noexcept nogil:
    cdef:
        ptrdiff_t nc = c1 - c0, first = p.rows.start[c0], n = p.rows.start[c1] - first, i, r, k, ld = p.rows.ld
        ptrdiff_t K = p.nodes.padded, tile = p.rows.tile, apart = p.rows.rows
        int nw = 4 if K else 3
        double theta = x.theta[0]
        double *omega = s.W + 2 * apart
    load_block(p.rows, c0, c1, x.beta, s.tile, s.start, s.w, s.wy, s.eta, NULL)
    s.block.nc = nc
    s.block.far = rows_exp(s.E, s.eta, SKLMM_CLAMP, n)
    for i in range(nc):
        s.modes.u[i] = x.u[c0 + i]
    if intercept_modes(&s.block, &s.modes, theta, x.mode_tol):
        return 1
    if K and x.value_only:
        s.values.r = s.node_rows if n <= tile else NULL
        t.value[0] += intercept_quadrature_value(&s.block, &s.modes, &p.nodes, &s.values, theta)
    elif K:
        s.values.r = s.node_rows if n <= tile else NULL
        t.value[0] += intercept_quadrature(&s.block, &s.modes, &p.nodes, &s.values, theta)
    else:
        t.value[0] += intercept_laplace(nc, &s.modes, theta)
    if not (K and x.value_only):
        t.value[0] += intercept_rows(&s.block, &s.modes, &s.values if K else NULL, theta, s.W, s.W + apart, omega, s.g, s.q)
    for i in range(nc):
        x.u[c0 + i] = s.modes.next[i]
        x.H[c0 + i] = s.modes.H[i]
    if n == 0 or x.value_only:  # derivatives of clusters without rows are 0
        return 0
    if n > tile:  # one cluster longer than a tile: its rows come by again, tile by tile
        memset(s.sums, 0, nw * ld * sizeof(double))
        memset(s.gradients, 0, ld * sizeof(double))
        if K:
            memset(s.node_sums, 0, p.nodes.k * ld * sizeof(double))
    r = 0
    while r < n:
        k = min(tile, n - r)
        if n > tile:
            rows_load(s.tile, ld, &p.rows.source, first + r, k)
        if K and n > tile:
            intercept_node_residuals(&s.block, 0, r, k, &p.nodes, &s.values, theta, s.node_rows)
            rows_update(s.node_sums, ld, s.node_rows, K, 1, p.nodes.k, s.tile, k)
        if n > tile:
            rows_update(s.sums, ld, s.W + r, 1, apart, nw, s.tile, k)
            if t.products != NULL:
                rows_update(s.gradients, ld, s.g + r, 1, apart, 1, s.tile, k)
        else:
            rows_cluster_sums(s.sums, ld, nc, s.start, s.W, 1, apart, nw, s.tile)
            if t.products != NULL:
                rows_cluster_sums(s.gradients, ld, nc, s.start, s.g, 1, apart, 1, s.tile)
        add_second_order(p.rows, t.symmetric, t.gradient, p.n_params, s.tile, omega + r, s.g + r, first + r, k, n_ahead)
        r += k
    for i in range(nc):
        s.modes.N[i] = 0.0
        for r in range(s.start[i], s.start[i + 1]):
            s.modes.N[i] += omega[r]
    t.gradient[p.slot] += intercept_assemble(nc, ld, p.slot, &s.modes, theta, s.sums, s.left, s.right,
                                             t.half + p.slot * ld, s.moves, s.gradients)
    rows_update(t.half, ld, s.left, ld, 1, p.n_params, s.right, (nw - 1) * nc)
    if t.products != NULL:
        keep_gradients(p, s, t, c0, nc)
    i = 0
    while K and i < nc:
        k = min(nc, i + s.node_batch)
        if n <= tile:
            rows_cluster_sums(s.node_sums, ld, k - i, s.start + i, s.node_rows, K, 1, p.nodes.k, s.tile)
        intercept_node_gradients(i, k, ld, p.slot, &p.nodes, &s.values, s.moves, s.node_sums, s.pi)
        rows_square(t.symmetric, ld, p.n_params, s.node_sums, s.pi, (k - i) * p.nodes.k)
        i = k
    return 0


cdef int slopes_block(const Problem *p, const State *x, Scratch *s, Totals *t, ptrdiff_t c0, ptrdiff_t c1,
                      ptrdiff_t n_ahead) noexcept nogil:
    cdef:
        ptrdiff_t q = p.q, d = q * (q + 1) // 2, q1 = 1 if p.grid.k == 1 else q + 1, nw = q + d + q1 * q, ld = p.rows.ld
        ptrdiff_t first = p.rows.start[c0], n_block = p.rows.start[c1] - first, tile = p.rows.tile, apart = p.rows.tile_rows
        ptrdiff_t i, a, b, e, r, n, k, at, rows
        bint laplace = p.grid.k == 1, long_cluster = n_block > tile
        sklmm_factor f
        sklmm_cluster whole, part
        sklmm_quadrature *v = NULL if p.grid.k == 1 else &s.quadrature
        double *omega = s.q
        double *own = NULL
        double *gradient = NULL
        int64_t span[2]
    f.q, f.d, f.m, f.entry_row, f.entry_col, f.Lambda = q, d, p.m, p.entry_row, p.entry_col, x.Lambda
    load_block(p.rows, c0, c1, x.beta, s.tile, s.start, s.w, s.wy, s.eta, s.z)
    whole.stride, whole.family = p.rows.rows, p.family
    for i in range(c1 - c0):
        at = s.start[i]
        whole.n = s.start[i + 1] - at
        whole.eta, whole.w, whole.wy, whole.z = s.eta + at, s.w + at, s.wy + at, s.z + at
        for a in range(q):
            s.mode.u[a] = x.u[(c0 + i) * q + a]
        if slopes_mode(&whole, &f, &s.mode, x.mode_tol):
            return 1
        for a in range(q):
            x.u[(c0 + i) * q + a] = s.mode.next[a]
            for b in range(a + 1):
                x.H[(c0 + i) * d + a * (a + 1) // 2 + b] = s.mode.H[a * q + b]
        if laplace:
            t.value[0] += slopes_laplace(&whole, &f, &s.mode)
        else:
            t.value[0] += slopes_quadrature(&whole, &f, &p.grid, &s.mode, v)
            memset(s.node_sums, 0, p.grid.k * ld * sizeof(double))
        if x.value_only:
            r = 0
            while laplace and r < whole.n:
                part = whole
                part.n = min(tile, whole.n - r)
                part.eta, part.w, part.wy, part.z = whole.eta + r, whole.w + r, whole.wy + r, whole.z + r
                t.value[0] += slopes_rows(&part, &f, &s.mode, laplace, s.W, apart, omega, s.g)
                r += part.n
            continue
        if long_cluster or whole.n == 0:
            memset(s.sums, 0, nw * ld * sizeof(double))
        gradient = s.gradients + i * ld
        memset(gradient, 0, ld * sizeof(double))
        r = 0
        while r < whole.n:
            n = min(tile, whole.n - r)
            if long_cluster:  # its rows come by again, tile by tile
                rows_load(s.tile, ld, &p.rows.source, first + r, n)
                at = 0
            part = whole
            part.n = n
            part.eta, part.w, part.wy, part.z = whole.eta + r, whole.w + r, whole.wy + r, whole.z + r
            own = s.W + at
            t.value[0] += slopes_rows(&part, &f, &s.mode, laplace, own, apart, omega + at, s.g + at)
            if not laplace:
                for a in range(q):
                    memset(s.vz + a * apart + at, 0, ((n + 7) // 8 * 8) * sizeof(double))
                k = 0
                while k < p.grid.k:
                    e = min(8, p.grid.k - k)
                    slopes_node_rows(&part, &f, &p.grid, v, k, e, s.node_rows, apart, omega + at, s.g + at, s.vz + at)
                    rows_update(s.node_sums + k * ld, ld, s.node_rows, 1, apart, e, s.tile + at * ld, n)
                    k += e
            slopes_times_z(&part, q, omega + at, own + (q + d) * apart, apart)
            if not laplace:
                for b in range(q):
                    slopes_times_z(&part, q, s.vz + b * apart + at, own + (2 * q + d + b * q) * apart, apart)
            if t.products != NULL:
                rows_update(gradient, ld, s.g + at, 1, apart, 1, s.tile + at * ld, n)
            span[0], span[1] = 0, n
            if long_cluster:
                rows_update(s.sums, ld, own, 1, apart, nw, s.tile, n)
            else:
                rows_cluster_sums(s.sums, ld, 1, span, own, 1, apart, nw, s.tile + at * ld)
            if long_cluster:
                add_second_order(p.rows, t.symmetric, t.gradient, p.n_params, s.tile, omega, s.g, first + r, n, n_ahead)
            r += n
        rows = slopes_assemble(&f, &s.mode, v, ld, p.slot, p.rows.source.z_slot, s.sums, s.left, s.right,
                               t.half + p.slot * ld, s.moves, s.work, gradient)
        rows_update(t.half, ld, s.left, ld, 1, p.n_params, s.right, rows)
        if not laplace:
            slopes_node_gradients(&f, &p.grid, v, ld, p.slot, s.moves, s.node_sums, s.work, gradient)
            rows_square(t.symmetric, ld, p.n_params, s.node_sums, v.pi, p.grid.k)
        for a in range(p.slot, p.n_params):
            t.gradient[a] += gradient[a]
    if t.products != NULL:
        keep_gradients(p, s, t, c0, c1 - c0)
    if not long_cluster and not x.value_only:
        add_second_order(p.rows, t.symmetric, t.gradient, p.n_params, s.tile, omega, s.g, first, n_block, n_ahead)
    return 0


cdef class ClusterKernel(RowKernel):
    """Rows grouped by cluster, ready for passes; see `sklmm.likelihood.clustered` for the meaning of the arguments."""
    cdef Problem p
    cdef readonly ptrdiff_t n_clusters

    def __init__(self, X, const double[::1] center, const double[::1] inv_scale,
                 bint intercept, const int64_t[::1] z_column, const double[::1] z_center, const double[::1] z_inv_scale,
                 const int64_t[::1] entry_row, const int64_t[::1] entry_col, const uint8_t[::1] y,
                 const double[::1] w, const int64_t[::1] start, const int64_t[::1] block, const int64_t[::1] chunk,
                 const double[:, ::1] zeta, const double[::1] log_w, ptrdiff_t tile, int n_threads,
                 int family=SKLMM_LOGIT):
        cdef ptrdiff_t i, q = z_column.shape[0], n_nodes = np.count_nonzero(np.isfinite(log_w))
        cdef Scratch scratch
        if q > SKLMM_MAX_Q:
            raise ValueError(f"{q} random coefficients for one grouping factor; the kernels hold at most {SKLMM_MAX_Q}")
        self.read(X, center, inv_scale, intercept, y, w, start, block, chunk, tile, n_threads)
        self.keep += [z_column, z_center, z_inv_scale, entry_row, entry_col, zeta, log_w]
        self.n_clusters = start.shape[0] - 1
        s = &self.data.source
        # the logit's random intercept has kernels of its own, which need no z
        self.p.q = s.q = 0 if family == SKLMM_LOGIT and q == 1 and z_column[0] < 0 else q
        self.p.family = family
        s.z_column, s.z_center, s.z_inv_scale = &z_column[0], &z_center[0], &z_inv_scale[0]
        self.p.rows = &self.data
        self.p.m, self.p.entry_row, self.p.entry_col = entry_row.shape[0], &entry_row[0], &entry_col[0]
        self.p.slot = s.p + intercept
        self.p.n_params = s.z_slot = self.p.slot + self.p.m
        self.data.ld = (self.p.n_params + s.q + 7) // 8 * 8
        if self.p.q:
            self.p.grid.k, self.p.grid.zeta, self.p.grid.log_w = n_nodes, &zeta[0, 0], &log_w[0]
        else:
            self.p.nodes.k, self.p.nodes.padded = n_nodes, 0 if n_nodes < 2 else zeta.shape[0]
            self.p.nodes.zeta, self.p.nodes.log_w = &zeta[0, 0], &log_w[0]
        scratch.start = NULL
        self.allocate(lay_out(&scratch, NULL, &self.p, self.most_clusters), sizeof(Scratch))
        for i in range(n_threads):
            self.scratch(i).start = &self.starts[i, 0]
            lay_out(self.scratch(i), &self.arenas[i, 0], &self.p, self.most_clusters)

    cdef Scratch *scratch(self, int thread) noexcept nogil:
        return <Scratch *> &self.scratches[thread, 0]

    @property
    def ld(self):
        return self.data.ld

    @property
    def n_params(self):
        return self.p.n_params

    def evaluate(self, const double[::1] beta, const double[::1] theta, const double[:, ::1] Lambda, double[:, ::1] u,
                 double[:, ::1] H, double mode_tol=1e-10, const int64_t[::1] rank=None, ptrdiff_t n_sampled=0,
                 float[:, ::1] gradients=None):
        """Value, gradient (n_params,) and Hessian (n_params, n_params) over all blocks, or those of rank below n_sampled.

        beta (ld,) is zero behind the fixed effects. u (n_clusters, q) holds starting values of the conditional modes
        and receives the modes, found to `mode_tol` relative to 1 + |u|; H (n_clusters, q (q + 1) / 2) receives the packed curvatures.
        With `gradients` (n_clusters, n_params), which receives those of the single clusters, there is a fourth result: the sum of
        their outer products, on and right of the diagonal.
        """
        cdef:
            ptrdiff_t P = self.p.n_params, ld = self.data.ld
            State x = State(&beta[0], &theta[0], &Lambda[0, 0], &u[0, 0], &H[0, 0], mode_tol, NULL, False)
        if gradients is not None:
            if gradients.shape[0] != self.n_clusters or gradients.shape[1] != P:
                raise ValueError("gradients must have a row a cluster and a column a parameter")
            x.gradients = &gradients[0, 0]
        cdef double[::1] total = self.sums(8 + ld + (2 if gradients is None else 3) * P * ld, &x, rank, n_sampled)
        found = self.numbers(&total[0])
        if gradients is None:
            return found
        return *found, np.asarray(total)[8 + ld + 2 * P * ld:].reshape(P, ld)[:, :P]

    def value(self, const double[::1] beta, const double[::1] theta, const double[:, ::1] Lambda, double[:, ::1] u,
              double[:, ::1] H, double mode_tol=1e-10):
        """The value over all blocks alone, as `evaluate` finds it."""
        cdef State x = State(&beta[0], &theta[0], &Lambda[0, 0], &u[0, 0], &H[0, 0], mode_tol, NULL, True)
        cdef double[::1] total = self.sums(8, &x, None, 0)
        return total[0]

    def cluster_values(self, const double[::1] beta, const double[::1] theta, const double[:, ::1] Lambda,
                       double[:, ::1] u, double[:, ::1] H, double mode_tol=1e-10):
        """The value of each cluster, (n_clusters,)."""
        cdef:
            ptrdiff_t i, n = self.n_clusters
            double[:, ::1] totals = np.zeros((n, 8))
            int[::1] status = np.zeros(n, dtype=np.intc)
            State x = State(&beta[0], &theta[0], &Lambda[0, 0], &u[0, 0], &H[0, 0], mode_tol, NULL, True)
        for i in prange(n, nogil=True, schedule="static", num_threads=self.n_threads):
            status[i] = self.add_clusters(i, i + 1, &totals[i, 0], &x, 0)
        if np.any(status):
            raise FloatingPointError("a conditional mode was not found: is X or sample_weight extreme?")
        return np.ascontiguousarray(np.asarray(totals)[:, 0])

    cdef numbers(self, double *total):
        """Value, gradient and Hessian."""
        cdef Totals t = self.totals(total)
        return total[0], np.array(<double[:self.p.n_params]> t.gradient), hessian_of(t.symmetric, t.half, self.p.n_params,
                                                                                     self.data.ld)

    def by_cluster(self, const double[::1] beta, const double[::1] theta, const double[:, ::1] Lambda, double[:, ::1] u,
                   double[:, ::1] H, double mode_tol, ptrdiff_t first, ptrdiff_t last):
        """As `evaluate`, for each of the clusters first .. last - 1 alone: values (n,), gradients (n, n_params) and Hessians
        (n, n_params, n_params)."""
        cdef:
            ptrdiff_t P = self.p.n_params, i, n = last - first
            double[:, ::1] totals = np.zeros((n, 8 + self.data.ld + 2 * P * self.data.ld))
            int[::1] status = np.zeros(n, dtype=np.intc)
            State x = State(&beta[0], &theta[0], &Lambda[0, 0], &u[0, 0], &H[0, 0], mode_tol, NULL, False)
        if not 0 <= first <= last <= self.n_clusters:
            raise ValueError("there are no such clusters")
        for i in prange(n, nogil=True, schedule="static", num_threads=self.n_threads):
            status[i] = self.add_clusters(first + i, first + i + 1, &totals[i, 0], &x, 0)
        if np.any(status):
            raise FloatingPointError("a conditional mode was not found: is X or sample_weight extreme?")
        values, gradients, hessians = np.empty(n), np.empty((n, P)), np.empty((n, P, P))
        for i in range(n):
            values[i], gradients[i], hessians[i] = self.numbers(&totals[i, 0])
        return values, gradients, hessians

    cdef Totals totals(self, double *total) noexcept nogil:
        cdef Totals t
        t.value = total
        t.gradient = total + 8
        t.symmetric = t.gradient + self.data.ld
        t.half = t.symmetric + self.p.n_params * self.data.ld
        t.products, t.gradients = NULL, NULL
        return t

    cdef int add_clusters(self, ptrdiff_t c0, ptrdiff_t c1, double *total, const State *x, ptrdiff_t n_ahead) noexcept nogil:
        cdef Totals t = self.totals(total)
        if x.gradients != NULL:
            t.products, t.gradients = t.half + self.p.n_params * self.data.ld, x.gradients
        if self.p.q:
            return slopes_block(&self.p, x, self.scratch(threadid()), &t, c0, c1, n_ahead)
        return intercept_block(&self.p, x, self.scratch(threadid()), &t, c0, c1, n_ahead)

    cdef int add_block(self, ptrdiff_t i, double *totals, const void *at, ptrdiff_t n_ahead) noexcept nogil:
        return self.add_clusters(self.block[i], self.block[i + 1], totals, <const State *> at, n_ahead)
