"""One grouping factor: value, gradient and Hessian of the Laplace or adaptive Gauss-Hermite log-likelihood.

A *block* is a run of whole clusters of about a tile of rows; its rows are loaded once, and everything that needs them (linear
predictor, conditional modes, row weights, sums by cluster, rank update) happens while they are in cache. A *chunk* is a
run of blocks with accumulators of its own; chunks are summed in a fixed order, so results are bitwise the same for any
number of threads.
"""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

import numpy as np


cdef extern from "_rows.h" nogil:
    ctypedef struct sklmm_source:
        const void *data
        ptrdiff_t row, col, n, p
        int is_float32
        const int64_t *order
        const double *center
        const double *inv_scale
        int intercept
        ptrdiff_t q, z_slot
        const int64_t *z_column
        const double *z_inv_scale
    void rows_load(double *T, ptrdiff_t ld, const sklmm_source *s, ptrdiff_t first, ptrdiff_t n)
    void rows_dot(double *out, const double *T, ptrdiff_t ld, const double *beta, ptrdiff_t n)
    void rows_exp(double *out, const double *x, double limit, ptrdiff_t n)
    void rows_update(double *F, ptrdiff_t ld, const double *L, ptrdiff_t row, ptrdiff_t col, ptrdiff_t na,
                     const double *R, const double *w, ptrdiff_t n, int upper)
    void rows_sum(double *out, const double *w, const double *R, ptrdiff_t ld, ptrdiff_t n)
    void rows_cluster_sums(double *S, ptrdiff_t ld, ptrdiff_t nc, const int64_t *start, const double *W,
                           ptrdiff_t stride, int nw, const double *R)

cdef extern from "_intercept.h" nogil:
    double SKLMM_CLAMP
    ctypedef struct sklmm_block:
        ptrdiff_t nc
        const int64_t *start
        const double *eta
        const double *E
        const double *w
        const double *wy
        int unweighted
    ctypedef struct sklmm_node_means:
        double r0, r1, v0, v1, v2, z1, z2, ru
    ctypedef struct sklmm_modes:
        double *u
        double *B
        double *R
        double *V
        double *V1
        double *H
        double *C
        double *c
        double *k
        double *kappa
        double *xi
        double *N
        double *lo
        double *hi
        sklmm_node_means *means
    ctypedef struct sklmm_nodes:
        ptrdiff_t k, padded
        const double *zeta
        const double *log_w
    ctypedef struct sklmm_node_values:
        double *u
        double *B
        double *R
        double *V
        double *s
        double *pi
    int intercept_modes(const sklmm_block *b, const sklmm_modes *m, double theta, double tol)
    double intercept_laplace(ptrdiff_t nc, const sklmm_modes *m, double theta)
    double intercept_quadrature(const sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                const sklmm_node_values *values, double theta)
    double intercept_rows(const sklmm_block *b, const sklmm_modes *m, double theta, double *v, double *v1, double *omega,
                          double *g, double *q)
    void intercept_node_rows(const sklmm_block *b, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n, const sklmm_nodes *nodes,
                             const sklmm_node_values *values, double *r, double *omega, double *g, double *vz)
    double intercept_assemble(ptrdiff_t nc, ptrdiff_t ld, ptrdiff_t slot, const sklmm_modes *m, double theta,
                              const double *sums, double *left, double *right, double *theta_row, double *moves)
    void intercept_node_gradients(ptrdiff_t i, ptrdiff_t ld, ptrdiff_t slot, const sklmm_nodes *nodes,
                                  const sklmm_node_values *values, const double *moves, double *rx, double *weights)


cdef struct Problem:
    sklmm_source source
    const uint8_t *y             # in cluster order
    const double *w              # in cluster order, or NULL
    const int64_t *start         # first row of each cluster
    const int64_t *block         # first cluster of each block
    sklmm_nodes nodes            # padded = 0: Laplace
    ptrdiff_t n_params, ld, slot, tile
    double mode_tol


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
    double *node_sums            # padded nodes x ld
    double *node_weights
    int64_t *start
    ptrdiff_t rows, clusters
    sklmm_block block
    sklmm_modes modes
    sklmm_node_values values


cdef struct Totals:
    double *value                # value, then padding
    double *gradient             # ld
    double *theta_row            # ld
    double *symmetric            # n_params x ld: upper blocks of sum omega x x'
    double *half                 # n_params x ld: F of Hessian = symmetric + F + F'


cdef inline double *carve(double **cursor, ptrdiff_t n) noexcept nogil:
    """The next n doubles of an arena, rounded up to whole vectors plus a spare one for reads past the end. Without an arena
    (a first pass that measures) only the cursor moves."""
    cdef double *here = cursor[0]
    cursor[0] = here + ((n + 15) // 8) * 8
    return here


cdef double *lay_out(Scratch *s, double *arena, const Problem *p, ptrdiff_t rows, ptrdiff_t clusters) noexcept nogil:
    """Points a thread's scratch into its arena; returns the end of what it takes."""
    cdef ptrdiff_t ld = p.ld, K = p.nodes.padded, nodes = 1 if K == 0 else K, pairs = 2 if K == 0 else 3
    cdef double *cursor = arena
    s.clusters = clusters
    rows = (rows + 15) // 8 * 8  # a vector store may run past the last row of one array of W into the next
    s.rows = rows
    s.tile = carve(&cursor, p.tile * ld)
    s.eta = carve(&cursor, rows)
    s.E = carve(&cursor, rows)
    s.w = carve(&cursor, rows)
    s.wy = carve(&cursor, rows)
    s.W = carve(&cursor, (pairs + 1) * rows)
    s.g = carve(&cursor, rows)
    s.q = carve(&cursor, rows)
    s.sums = carve(&cursor, (pairs + 1) * clusters * ld)
    s.left = carve(&cursor, pairs * clusters * ld)
    s.right = carve(&cursor, pairs * clusters * ld)
    s.modes.u = carve(&cursor, clusters)
    s.modes.B = carve(&cursor, clusters)
    s.modes.R = carve(&cursor, clusters)
    s.modes.V = carve(&cursor, clusters)
    s.modes.V1 = carve(&cursor, clusters)
    s.modes.H = carve(&cursor, clusters)
    s.modes.C = carve(&cursor, clusters)
    s.modes.c = carve(&cursor, clusters)
    s.modes.k = carve(&cursor, clusters)
    s.modes.kappa = carve(&cursor, clusters)
    s.modes.xi = carve(&cursor, clusters)
    s.modes.N = carve(&cursor, clusters)
    s.modes.lo = carve(&cursor, clusters)
    s.modes.hi = carve(&cursor, clusters)
    s.modes.means = NULL
    if K:
        s.modes.means = <sklmm_node_means *> carve(&cursor, clusters * (sizeof(sklmm_node_means) // sizeof(double)))
        s.moves = carve(&cursor, 2 * clusters * ld)
        s.node_rows = carve(&cursor, p.tile * K)
        s.node_sums = carve(&cursor, K * ld)
        s.node_weights = carve(&cursor, K)
        s.values.u = carve(&cursor, clusters * K)
        s.values.B = carve(&cursor, clusters * K)
        s.values.R = carve(&cursor, clusters * K)
        s.values.V = carve(&cursor, clusters * K)
        s.values.s = carve(&cursor, clusters * K)
        s.values.pi = carve(&cursor, clusters * K)
    s.block.start, s.block.eta, s.block.E, s.block.w, s.block.wy = s.start, s.eta, s.E, s.w, s.wy
    s.block.unweighted = p.w == NULL
    return cursor


cdef void load_block(const Problem *p, Scratch *s, const double *beta, ptrdiff_t c0, ptrdiff_t c1) noexcept nogil:
    """Responses and linear predictors of clusters c0 .. c1 - 1; the tile holds the rows if they fit."""
    cdef ptrdiff_t first = p.start[c0], n = p.start[c1] - first, i, r = 0, k
    s.block.nc = c1 - c0
    for i in range(c1 - c0 + 1):
        s.start[i] = p.start[c0 + i] - first
    for i in range(n):
        s.w[i] = p.w[first + i] if p.w != NULL else 1.0
        s.wy[i] = s.w[i] if p.y[first + i] else 0.0
    while r < n:
        k = min(p.tile, n - r)
        rows_load(s.tile, p.ld, &p.source, first + r, k)
        rows_dot(s.eta + r, s.tile, p.ld, beta, k)
        r += k


cdef int intercept_block(const Problem *p, Scratch *s, Totals *t, const double *beta, double theta, double *u_all,
                         double *H_all, ptrdiff_t c0, ptrdiff_t c1) noexcept nogil:
    cdef:
        ptrdiff_t nc = c1 - c0, first = p.start[c0], n = p.start[c1] - first, i, r, k, ld = p.ld, K = p.nodes.padded
        int nw = 4 if K else 3
        double *omega = s.W + 2 * s.rows
        double *vz = s.W + 3 * s.rows
        int64_t whole[2]
        const int64_t *start = s.start
    load_block(p, s, beta, c0, c1)
    rows_exp(s.E, s.eta, SKLMM_CLAMP, n)
    for i in range(nc):
        s.modes.u[i] = u_all[c0 + i]
    if intercept_modes(&s.block, &s.modes, theta, p.mode_tol):
        return 1
    if K:
        t.value[0] += intercept_quadrature(&s.block, &s.modes, &p.nodes, &s.values, theta)
    else:
        t.value[0] += intercept_laplace(nc, &s.modes, theta)
    t.value[0] += intercept_rows(&s.block, &s.modes, theta, s.W, s.W + s.rows, omega, s.g, s.q)
    for i in range(nc):
        u_all[c0 + i] = s.modes.u[i]
        H_all[c0 + i] = s.modes.H[i]
    memset(s.sums, 0, nw * nc * ld * sizeof(double))
    if n > p.tile:  # one cluster longer than a tile: its rows come by again, tile by tile
        start = whole
        if K:
            memset(s.node_sums, 0, K * ld * sizeof(double))
    r = 0
    while r < n:
        k = min(p.tile, n - r)
        if n > p.tile:
            rows_load(s.tile, ld, &p.source, first + r, k)
            whole[0], whole[1] = 0, k
        if K:
            for i in range(nc):
                if n > p.tile:
                    intercept_node_rows(&s.block, i, r, k, &p.nodes, &s.values, s.node_rows, omega, s.g, vz)
                    rows_update(s.node_sums, ld, s.node_rows, K, 1, K, s.tile, NULL, k, 0)
                else:
                    intercept_node_rows(&s.block, i, start[i], start[i + 1] - start[i], &p.nodes, &s.values,
                                        s.node_rows + start[i] * K, omega, s.g, vz)
        rows_cluster_sums(s.sums, ld, nc, start, s.W + r, s.rows, nw, s.tile)
        rows_sum(t.gradient, s.g + r, s.tile, ld, k)
        rows_update(t.symmetric, ld, s.tile, ld, 1, p.n_params, s.tile, omega + r, k, 1)
        r += k
    for i in range(nc):
        s.modes.N[i] = 0.0
        for r in range(s.start[i], s.start[i + 1]):
            s.modes.N[i] += omega[r]
    t.gradient[p.slot] += intercept_assemble(nc, ld, p.slot, &s.modes, theta, s.sums, s.left, s.right, t.theta_row,
                                             s.moves)
    rows_update(t.half, ld, s.left, ld, 1, p.n_params, s.right, NULL, (nw - 1) * nc, 0)
    if K:
        for i in range(nc):
            if n <= p.tile:
                memset(s.node_sums, 0, K * ld * sizeof(double))
                rows_update(s.node_sums, ld, s.node_rows + start[i] * K, K, 1, K, s.tile + start[i] * ld, NULL,
                            start[i + 1] - start[i], 0)
            intercept_node_gradients(i, ld, p.slot, &p.nodes, &s.values, s.moves, s.node_sums, s.node_weights)
            rows_update(t.half, ld, s.node_sums, ld, 1, p.n_params, s.node_sums, s.node_weights, p.nodes.k, 0)
    return 0


cdef class ClusterKernel:
    """Rows grouped by cluster, ready for passes; see `sklmm.likelihood.clustered` for the meaning of the arguments."""
    cdef:
        Problem p
        object keep                # every array that the pointers above look into
        readonly ptrdiff_t n_clusters, n_blocks, n_chunks, rows, clusters
        readonly int n_threads
        const int64_t[::1] chunk
        double[:, ::1] arena
        int64_t[:, ::1] start_arena

    def __init__(self, X, const int64_t[::1] order, const double[::1] center, const double[::1] inv_scale,
                 bint intercept, const int64_t[::1] z_column, const double[::1] z_inv_scale, const uint8_t[::1] y,
                 const double[::1] w, const int64_t[::1] start, const int64_t[::1] block, const int64_t[::1] chunk,
                 ptrdiff_t n_theta, const double[::1] zeta, const double[::1] log_w, ptrdiff_t n_nodes,
                 ptrdiff_t tile, int n_threads, double mode_tol=1e-8):
        cdef sklmm_source *s = &self.p.source
        cdef ptrdiff_t i, q = 0 if z_column is None else z_column.shape[0]
        cdef size_t address = X.__array_interface__["data"][0]
        cdef Scratch scratch
        s.data = <const void *> address
        s.row, s.col = X.strides[0] // X.itemsize, X.strides[1] // X.itemsize
        s.n, s.p = X.shape
        s.is_float32 = X.dtype == np.float32
        s.order = NULL if order is None else &order[0]
        s.center, s.inv_scale = &center[0], &inv_scale[0]
        s.intercept = intercept
        s.q = q
        s.z_column = NULL if q == 0 else &z_column[0]
        s.z_inv_scale = NULL if q == 0 else &z_inv_scale[0]
        self.p.slot = s.p + intercept
        self.p.n_params = self.p.slot + n_theta
        s.z_slot = self.p.n_params
        self.p.ld = (self.p.n_params + q + 7) // 8 * 8
        self.p.y, self.p.w = &y[0], NULL if w is None else &w[0]
        self.p.start, self.p.block = &start[0], &block[0]
        self.p.tile, self.p.mode_tol = tile, mode_tol
        self.p.nodes.k, self.p.nodes.padded = n_nodes, 0 if n_nodes < 2 else zeta.shape[0]
        self.p.nodes.zeta, self.p.nodes.log_w = &zeta[0], &log_w[0]
        self.keep = (X, order, center, inv_scale, z_column, z_inv_scale, y, w, start, block, zeta, log_w)
        self.n_clusters, self.n_blocks, self.n_chunks = start.shape[0] - 1, block.shape[0] - 1, chunk.shape[0] - 1
        self.chunk, self.n_threads = chunk, n_threads
        for i in range(self.n_blocks):
            self.clusters = max(self.clusters, block[i + 1] - block[i])
            self.rows = max(self.rows, start[block[i + 1]] - start[block[i]])
        self.start_arena = np.zeros((n_threads, self.clusters + 1), dtype=np.int64)
        scratch.start = NULL
        self.arena = np.zeros((n_threads, <size_t> lay_out(&scratch, NULL, &self.p, self.rows, self.clusters)
                               // sizeof(double)))

    @property
    def ld(self):
        return self.p.ld

    @property
    def n_params(self):
        return self.p.n_params

    def evaluate(self, const double[::1] beta, const double[::1] theta, double[:, ::1] u, double[:, ::1] H,
                 ptrdiff_t step=1, ptrdiff_t offset=0):
        """Value, gradient (n_params,), Hessian (n_params, n_params) over the blocks offset, offset + step, ..."""
        cdef:
            ptrdiff_t P = self.p.n_params, ld = self.p.ld, size = 8 + 2 * ld + 2 * P * ld, i
            double[:, ::1] totals = np.zeros((self.n_chunks, size))
            int[::1] status = np.zeros(self.n_chunks, dtype=np.intc)
        for i in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            status[i] = self.run_chunk(i, &totals[i, 0], &beta[0], &theta[0], &u[0, 0], &H[0, 0], step, offset)
        if np.any(status):
            raise FloatingPointError("a conditional mode was not found: is X or sample_weight extreme?")
        out = np.add.reduce(np.asarray(totals), axis=0)
        gradient = out[8:8 + P].copy()
        symmetric = out[8 + 2 * ld:8 + 2 * ld + P * ld].reshape(P, ld)[:, :P]
        half = out[8 + 2 * ld + P * ld:].reshape(P, ld)[:, :P].copy()
        half[self.p.slot] += out[8 + ld:8 + ld + P]
        hessian = np.triu(symmetric)
        hessian += np.triu(symmetric, 1).T
        hessian += half
        hessian += half.T
        return out[0], gradient, hessian

    cdef int run_chunk(self, ptrdiff_t i, double *total, const double *beta, const double *theta, double *u,
                       double *H, ptrdiff_t step, ptrdiff_t offset) noexcept nogil:
        cdef Scratch s
        cdef Totals t
        cdef ptrdiff_t b, ld = self.p.ld
        cdef int status = 0, thread = threadid()
        s.start = &self.start_arena[thread, 0]
        lay_out(&s, &self.arena[thread, 0], &self.p, self.rows, self.clusters)
        t.value = total
        t.gradient = total + 8
        t.theta_row = t.gradient + ld
        t.symmetric = t.theta_row + ld
        t.half = t.symmetric + self.p.n_params * ld
        for b in range(self.chunk[i], self.chunk[i + 1]):
            if b % step == offset:
                status |= intercept_block(&self.p, &s, &t, beta, theta[0], u, H, self.p.block[b], self.p.block[b + 1])
        return status
