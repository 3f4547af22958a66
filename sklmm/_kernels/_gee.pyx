"""Generalized estimating equations: estimating function, sensitivity, residual moments and leverage corrections by cluster.

Rows come in blocks of whole clusters, see _pass.pyx, and are scaled and whitened in place.
"""
from cython.parallel cimport threadid
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

import numpy as np

from sklmm._kernels._arena cimport arena_cut, sklmm_arena
from sklmm._kernels._pass cimport (
    RowKernel,
    Rows,
    add_second_order,
    rows_ahead,
    rows_dot,
    rows_exp,
    rows_load,
    rows_square,
    rows_update,
)

GAUSSIAN = SKLMM_GAUSSIAN


cpdef enum Whitening:  # how the inverse root of a cluster's working correlation is applied
    INDEPENDENT = 0
    EXCHANGEABLE = 1
    AUTOREGRESSIVE = 2
    DENSE = 3


cpdef enum Moments:  # which products of residuals are summed up
    NO_PAIRS = 0
    ALL_PAIRS = 1      # one sum over all pairs of a cluster
    ADJACENT_PAIRS = 2  # one sum over neighbours in time, a cluster's divided by their number
    PAIRS_BY_LAG = 3   # a sum for each distance on the grid of times
    PAIRS_BY_TIMES = 4  # a sum for each pair of times


cdef enum: N_SCALARS = 8
cdef enum: VALUE = 0, SQUARES = 1, MEAN_SQUARES = 2, PLAIN_VALUE = 3


cdef struct Problem:
    const Rows *rows             # their weights are roots
    const double *numbers        # outcomes of the linear model; NULL: the rows' classes
    bint counts                  # weights are counts of rows
    ptrdiff_t m                  # coefficients
    int whitening, moments, family
    const int32_t *gap           # AUTOREGRESSIVE: which gap lies before each row, or NULL: one gap
    const int32_t *position      # by row: place on the grid of lags, or number of the time
    const int32_t *codes         # DENSE: numbers of the times of each pattern
    const int64_t *pattern       # DENSE: pattern of each cluster
    const int64_t *code_start    # DENSE: first code of each pattern
    const int64_t *factor_start  # DENSE: first entry of its factor
    ptrdiff_t n_patterns, n_times, n_moments


cdef struct State:               # what one pass is evaluated at
    const double *half_beta      # half the coefficients
    const double *offset         # of the rows, or NULL: 0
    int whitening                # the problem's, or INDEPENDENT
    double alpha                 # EXCHANGEABLE
    const double *rho            # AUTOREGRESSIVE: correlation over each gap, and 1 / sqrt(1 - rho^2)
    const double *inverse
    const double *factor         # DENSE
    const sklmm_bread *bread     # corrections of scores for leverage, or NULL
    double *trace                # receive what `correct` says, by cluster
    float *without


cdef struct Scratch:
    double *tile
    double *half
    double *h
    double *y
    double *s
    double *e
    double *sum                  # ld: of a long cluster
    double *carry                # 2 x ld
    double *M                    # m x ld
    double *scores               # 4 x clusters x ld: plain and corrected
    double *work                 # 4 x ld


cdef struct Totals:
    double *scalars
    double *moments
    double *S                    # m x ld, upper blocks; column m holds the estimating function
    double *meats                # 4 x m x ld: of the robust, Kauermann-Carroll, Mancl-DeRouen, Fay-Graubard covariances


cdef ptrdiff_t lay_out(Scratch *s, double *base, const Problem *p, ptrdiff_t clusters) noexcept nogil:
    """Points a thread's scratch into its arena at `base` (NULL: nowhere yet); returns how many doubles it takes."""
    cdef ptrdiff_t ld = p.rows.ld, rows = p.rows.rows
    cdef sklmm_arena arena
    arena.base, arena.used = base, 0
    s.tile = arena_cut(&arena, p.rows.tile_rows * ld)
    s.half = arena_cut(&arena, rows)
    s.h = arena_cut(&arena, rows)
    s.y = arena_cut(&arena, rows)
    s.s = arena_cut(&arena, rows)
    s.e = arena_cut(&arena, rows)
    s.sum = arena_cut(&arena, ld)
    s.carry = arena_cut(&arena, 2 * ld)
    s.M = arena_cut(&arena, p.m * ld)
    s.scores = arena_cut(&arena, 4 * clusters * ld)
    s.work = arena_cut(&arena, 4 * ld)
    return arena.used


# --- moments of the residuals ---------------------------------------------------------------------------------------


cdef void add_moments(const Problem *p, Totals *t, const double *e, ptrdiff_t c0, ptrdiff_t c1) noexcept nogil:
    """Sums of products of the residuals e = sqrt(w) (y - mu) / S of clusters c0 .. c1 - 1; e[0] is the first row's."""
    cdef:
        ptrdiff_t i, j, k, n, first, base = p.rows.start[c0], T = p.n_times
        double total, squares, products, one
        const double *r
        const double *q
        const int32_t *at
        double *to
    for i in range(c0, c1):
        first, n = p.rows.start[i], p.rows.start[i + 1] - p.rows.start[i]
        r = e + (first - base)
        q = p.rows.w + first if p.rows.w != NULL else NULL
        squares = 0.0
        for j in range(n):
            squares += r[j] * r[j]
        t.scalars[SQUARES] += squares
        t.scalars[MEAN_SQUARES] += squares / n
        if n < 2 and not p.counts:
            continue
        if p.moments == ALL_PAIRS:
            total = 0.0
            for j in range(n):
                total += r[j] if q == NULL else q[j] * r[j]
            if q != NULL and not p.counts:
                squares = 0.0
                for j in range(n):
                    squares += (q[j] * r[j]) * (q[j] * r[j])
            t.moments[0] += 0.5 * (total * total - squares)
        elif n < 2:
            continue
        elif p.moments == ADJACENT_PAIRS:
            products = 0.0
            for j in range(n - 1):
                products += r[j] * r[j + 1]
            t.moments[0] += products / (n - 1)
        elif p.moments == PAIRS_BY_LAG or p.moments == PAIRS_BY_TIMES:
            at = p.position + first
            for j in range(n):
                one = r[j] if q == NULL or p.counts else q[j] * r[j]
                if p.moments == PAIRS_BY_TIMES:
                    to = t.moments + at[j] * T
                    for k in range(j + 1, n):
                        to[at[k]] += one * (r[k] if q == NULL or p.counts else q[k] * r[k])
                else:
                    to = t.moments - at[j] - 1
                    for k in range(j + 1, n):
                        if at[k] - at[j] > p.n_moments:
                            break
                        to[at[k]] += one * (r[k] if q == NULL or p.counts else q[k] * r[k])


# --- a block ----------------------------------------------------------------------------------------------------------


cdef void prepare(const Problem *p, const State *x, Scratch *s, Totals *t, ptrdiff_t c0, ptrdiff_t c1,
                  ptrdiff_t n_ahead) noexcept nogil:
    """Residuals of clusters c0 .. c1 - 1 and their moments, and the scaled rows, if they fit in a tile.

    Of a cluster longer than a tile `sum` holds what exchangeability needs of all its rows.
    """
    cdef:
        ptrdiff_t first = p.rows.start[c0], n = p.rows.start[c1] - first, r = 0, k, i
        bint long_cluster = n > p.rows.tile
        sklmm_ahead ahead
        const double *q
    for i in range(n):
        s.y[i] = p.rows.y[first + i] if p.numbers == NULL else p.numbers[first + i]
    if long_cluster:
        memset(s.sum, 0, p.rows.ld * sizeof(double))
    while r < n:
        k = min(p.rows.tile, n - r)
        q = p.rows.w + first + r if p.rows.w != NULL else NULL
        rows_load(s.tile, p.rows.ld, &p.rows.source, first + r, k)
        rows_dot(s.half, s.tile, p.rows.ld, x.half_beta, k)
        if x.offset != NULL:
            for i in range(k):
                s.half[i] += 0.5 * x.offset[first + r + i]
        if p.family == SKLMM_LOGIT:
            rows_exp(s.h, s.half, SKLMM_HALF_ETA, k)
            t.scalars[VALUE] += gee_rows(s.half, s.h, s.y + r, q, s.s + r, s.e + r, t.scalars + PLAIN_VALUE, k)
        else:
            t.scalars[VALUE] += gee_rows_of_link(p.family, s.half, s.y + r, q, s.s + r, s.e + r, t.scalars + PLAIN_VALUE, k)
        ahead = rows_ahead(&p.rows.source, first + r + k, n_ahead)
        gee_scale(s.tile, p.rows.ld, p.m, s.s + r, s.e + r, k, &ahead)
        if long_cluster and x.whitening == EXCHANGEABLE:
            gee_cluster_sum(s.sum, s.tile, p.rows.ld, q if p.counts else NULL, k)
        r += k
    add_moments(p, t, s.e, c0, c1)


cdef void whiten(const Problem *p, const State *x, Scratch *s, double *T, ptrdiff_t i, ptrdiff_t r, ptrdiff_t n) noexcept nogil:
    """Rows r .. r + n - 1 of cluster i, scaled, in T; all of its rows, or a tile of a long cluster whose `sum` is known."""
    cdef:
        ptrdiff_t first = p.rows.start[i], size = p.rows.start[i + 1] - first, j
        double total = size
        const double *q = p.rows.w + first if p.rows.w != NULL and p.counts else NULL
        const int32_t *gap
    if x.whitening == EXCHANGEABLE:
        if q != NULL:
            total = 0.0
            for j in range(size):
                total += q[j] * q[j]
        if n == size:
            memset(s.sum, 0, p.rows.ld * sizeof(double))
            gee_cluster_sum(s.sum, T, p.rows.ld, q, n)
        gee_exchangeable(T, p.rows.ld, q + r if q != NULL else NULL, n, s.sum,
                         (1.0 - sqrt((1.0 - x.alpha) / (1.0 - x.alpha + x.alpha * total))) / total,
                         1.0 / sqrt(1.0 - x.alpha))
    elif x.whitening == AUTOREGRESSIVE:
        gap = p.gap + first + r if p.gap != NULL else NULL
        gee_ar1(T, p.rows.ld, n, gap, x.rho, x.inverse, s.carry if r else NULL, s.carry)
    elif x.whitening == DENSE:
        gee_solve(T, p.rows.ld, n, x.factor + p.factor_start[p.pattern[i]])


cdef void gee_block(const Problem *p, const State *x, Scratch *s, Totals *t, ptrdiff_t c0, ptrdiff_t c1,
                    ptrdiff_t n_ahead) noexcept nogil:
    """Adds the sensitivity and the estimating function of clusters c0 .. c1 - 1."""
    cdef:
        sklmm_ahead nothing = rows_ahead(&p.rows.source, p.rows.source.n, 0)
        ptrdiff_t first = p.rows.start[c0], n = p.rows.start[c1] - first, r = 0, k, i
    prepare(p, x, s, t, c0, c1, 0)
    while r < n:
        k = min(p.rows.tile, n - r)
        if n > p.rows.tile:  # one cluster longer than a tile: its rows come by again
            rows_load(s.tile, p.rows.ld, &p.rows.source, first + r, k)
            gee_scale(s.tile, p.rows.ld, p.m, s.s + r, s.e + r, k, &nothing)
            whiten(p, x, s, s.tile, c0, r, k)
        elif x.whitening != INDEPENDENT:
            for i in range(c0, c1):
                whiten(p, x, s, s.tile + (p.rows.start[i] - first) * p.rows.ld, i, 0, p.rows.start[i + 1] - p.rows.start[i])
        add_second_order(p.rows, t.S, NULL, p.m, s.tile, NULL, NULL, first + r, k, n_ahead)
        r += k


cdef void cluster_matrix(const Problem *p, const State *x, Scratch *s, ptrdiff_t i, ptrdiff_t at) noexcept nogil:
    """M = X*'X* of cluster i, whose block is prepared, with its rows from `at` on in the tile; column m holds the scores X*'e*."""
    cdef ptrdiff_t first = p.rows.start[i], n = p.rows.start[i + 1] - first, r = 0, k
    cdef double *T = s.tile + at * p.rows.ld
    cdef sklmm_ahead nothing = rows_ahead(&p.rows.source, p.rows.source.n, 0)
    memset(s.M, 0, p.m * p.rows.ld * sizeof(double))
    while r < n:
        k = min(p.rows.tile, n - r)
        if n > p.rows.tile:
            rows_load(T, p.rows.ld, &p.rows.source, first + r, k)
            gee_scale(T, p.rows.ld, p.m, s.s + r, s.e + r, k, &nothing)
        whiten(p, x, s, T, i, r, k)
        rows_update(s.M, p.rows.ld, T, p.rows.ld, 1, p.m, T, k)
        r += k


cdef void correct_block(const Problem *p, const State *x, Scratch *s, Totals *t, ptrdiff_t c0, ptrdiff_t c1) noexcept nogil:
    """Adds the sums of products of the scores, plain and corrected for leverage, of clusters c0 .. c1 - 1."""
    cdef:
        ptrdiff_t nc = c1 - c0, i, a, ld = p.rows.ld
        double *u
        double *kc
        double *md
        double *fg
    prepare(p, x, s, t, c0, c1, p.rows.tile)
    for i in range(nc):
        u, kc, md, fg = s.scores + i * ld, s.scores + (nc + i) * ld, s.scores + (2 * nc + i) * ld, s.scores + (3 * nc + i) * ld
        cluster_matrix(p, x, s, c0 + i, p.rows.start[c0 + i] - p.rows.start[c0])
        gee_add(t.S, u, s.M, ld, p.m, p.m)
        memset(kc, 0, ld * sizeof(double))
        memset(md, 0, ld * sizeof(double))
        x.trace[c0 + i] = gee_correct(x.bread, s.M, u, md, kc, fg, s.work)
        for a in range(p.m if x.without != NULL else 0):
            x.without[(c0 + i) * p.m + a] = <float> md[a]
    for a in range(4):
        rows_square(t.meats + a * p.m * ld, ld, p.m, s.scores + a * nc * ld, NULL, nc)


cdef class GEEKernel(RowKernel):
    """Rows grouped by cluster, ready for passes; see `sklmm.estimating.equations` for the meaning of the arguments."""
    cdef Problem p
    cdef readonly ptrdiff_t n_clusters

    def __init__(self, X, const double[::1] center, const double[::1] inv_scale, bint intercept, y,
                 const double[::1] root_w, bint counts, const int64_t[::1] start, const int64_t[::1] block,
                 const int64_t[::1] chunk, ptrdiff_t tile, int n_threads, int whitening, int moments, ptrdiff_t n_moments,
                 const int32_t[::1] gap=None, const int32_t[::1] position=None, ptrdiff_t n_times=0,
                 const int32_t[::1] codes=None, const int64_t[::1] code_start=None, const int64_t[::1] pattern=None,
                 int family=SKLMM_LOGIT):
        cdef const int64_t[::1] factor_start = np.zeros(1, dtype=np.int64)
        cdef const double[::1] numbers = None
        cdef Scratch scratch
        cdef ptrdiff_t i
        self.p.numbers = NULL
        if family == SKLMM_GAUSSIAN:
            numbers, y = y, np.zeros(1, dtype=np.uint8)
            self.p.numbers = &numbers[0]
        if root_w is not None:
            root_w = np.append(root_w, np.zeros(8))  # room for reads past the end
        self.read(X, center, inv_scale, intercept, y, root_w, start, block, chunk, tile, n_threads)
        self.n_clusters = start.shape[0] - 1
        self.p.rows, self.p.counts = &self.data, counts
        self.p.m = self.data.source.p + intercept
        self.data.ld = (self.p.m + 8) // 8 * 8
        self.p.whitening, self.p.moments, self.p.n_moments, self.p.family = whitening, moments, n_moments, family
        self.p.n_times = n_times
        self.p.gap = NULL if gap is None else &gap[0]
        self.p.position = NULL if position is None else &position[0]
        if whitening == DENSE:
            sizes = np.diff(code_start)
            factor_start = np.concatenate([[0], np.cumsum(sizes * sizes)]).astype(np.int64)
            self.p.codes, self.p.code_start, self.p.pattern = &codes[0], &code_start[0], &pattern[0]
            self.p.factor_start = &factor_start[0]
            self.p.n_patterns = sizes.size
        self.keep += [numbers, gap, position, codes, code_start, pattern, factor_start]
        self.allocate(lay_out(&scratch, NULL, &self.p, self.most_clusters), sizeof(Scratch))
        for i in range(n_threads):
            lay_out(self.scratch(i), &self.arenas[i, 0], &self.p, self.most_clusters)

    cdef Scratch *scratch(self, int thread) noexcept nogil:
        return <Scratch *> &self.scratches[thread, 0]

    @property
    def ld(self):
        return self.data.ld

    def factor(self, const double[:, ::1] R):
        """Cholesky factors of every pattern's part of R (n_times, n_times), or the pattern whose part is not positive definite."""
        cdef ptrdiff_t i, failed = -1
        cdef const int64_t *start = self.p.code_start
        cdef double[::1] factors = np.zeros(max(1, self.p.factor_start[self.p.n_patterns]))
        with nogil:
            for i in range(self.p.n_patterns):
                if gee_factor(&factors[self.p.factor_start[i]], &R[0, 0], self.p.n_times, self.p.codes + start[i],
                              start[i + 1] - start[i]):
                    failed = i
                    break
        return failed if failed >= 0 else np.asarray(factors)

    cdef State state(self, const double[::1] half_beta, bint whiten, double alpha, const double[::1] rho,
                     const double[::1] inverse, const double[::1] factor):
        cdef State x
        x.half_beta, x.offset = &half_beta[0], self.data.offset
        x.whitening = self.p.whitening if whiten else INDEPENDENT
        x.alpha = alpha
        x.rho = NULL if rho is None else &rho[0]
        x.inverse = NULL if inverse is None else &inverse[0]
        x.factor = NULL if factor is None else &factor[0]
        x.bread = NULL
        return x

    def evaluate(self, const double[::1] half_beta, const int64_t[::1] rank, ptrdiff_t n_sampled, *, bint whiten=True,
                 bint beside_offset=True, double alpha=0.0, const double[::1] rho=None, const double[::1] inverse=None,
                 const double[::1] factor=None):
        """Sums over the blocks with a rank below `n_sampled`; without whitening those of independent rows, and where not
        `beside_offset` those of linear predictors without it.

        Returns
        -------
        scalars : quasi-likelihood, sum of squared residuals, the same with each cluster's divided by its rows, the quasi-likelihood
            without weights.
        moments : (n_moments,)
        S, U : sensitivity (m, m) and estimating function (m,), without the dispersion.
        """
        cdef:
            ptrdiff_t m = self.p.m, ld = self.data.ld, n_moments = self.p.n_moments
            State x = self.state(half_beta, whiten, alpha, rho, inverse, factor)
        if not beside_offset:
            x.offset = NULL
        out = self.sums(N_SCALARS + n_moments + m * ld, &x, rank, n_sampled)
        scalars, moments, rest = np.split(out, [N_SCALARS, N_SCALARS + n_moments])
        S = rest.reshape(m, ld)
        return scalars, moments, mirrored(S[:, :m]), S[:, m].copy()

    cdef int add_block(self, ptrdiff_t i, double *totals, const void *at, ptrdiff_t n_ahead) noexcept nogil:
        cdef const State *x = <const State *> at
        cdef Scratch *s = self.scratch(threadid())
        cdef Totals t
        self.point(&t, totals)
        if x.bread == NULL:
            gee_block(&self.p, x, s, &t, self.block[i], self.block[i + 1], n_ahead)
        else:
            correct_block(&self.p, x, s, &t, self.block[i], self.block[i + 1])
        return 0

    cdef void point(self, Totals *t, double *total) noexcept nogil:
        t.scalars = total
        t.moments = t.scalars + N_SCALARS
        t.S = t.moments + self.p.n_moments
        t.meats = t.S + self.p.m * self.data.ld

    def correct(self, const double[::1] half_beta, const double[:, ::1] bread, const double[::1] origin, double bound,
                float[:, ::1] without=None, *, bint whiten=True, double alpha=0.0, const double[::1] rho=None,
                const double[::1] inverse=None, const double[::1] factor=None):
        """Scores of all clusters and their sums of products.

        `bread` (m, ld) is the inverse sensitivity, `origin` (ld,) the zero of the user's features in standardised units, or None without an
        intercept, `bound` that of the leverages in Fay and Graubard's correction. `without` (n_clusters, m) receives (I - M S^-1)^-1 U of
        each cluster, of which S^-1 is what leaving it out takes off the coefficients; 0 where the leverage is 1/2 or more.

        Returns
        -------
        scalars, moments, S, U : as from `evaluate`.
        meats : (4, m, m), sums of products of the scores: plain, Kauermann-Carroll, Mancl-DeRouen, Fay-Graubard.
        trace : (n_clusters,), of each cluster's leverage. Those with 1/2 or more are not in the second and third meat.
        """
        cdef:
            ptrdiff_t m = self.p.m, ld = self.data.ld, n_moments = self.p.n_moments
            double[::1] trace = np.zeros(self.n_clusters)
            State x = self.state(half_beta, whiten, alpha, rho, inverse, factor)
            sklmm_bread b
        b.ld, b.m, b.bread, b.bound = ld, m, &bread[0, 0], bound
        b.origin = NULL if origin is None else &origin[0]
        x.bread, x.trace, x.without = &b, &trace[0], NULL
        if without is not None:
            if without.shape[0] != self.n_clusters or without.shape[1] != m:
                raise ValueError("without must have a row a cluster and a column a coefficient")
            x.without = &without[0, 0]
        out = self.sums(N_SCALARS + n_moments + 5 * m * ld, &x, None, 0)
        scalars, moments, rest = np.split(out, [N_SCALARS, N_SCALARS + n_moments])
        squares = rest.reshape(5, m, ld)
        meats = np.stack([mirrored(meat[:, :m]) for meat in squares[1:]])
        S, U = mirrored(squares[0, :, :m]), squares[0, :, m].copy()
        return scalars, moments, S, U, meats, np.asarray(trace)

    def cluster(self, ptrdiff_t i, const double[::1] half_beta, *, bint whiten=True, double alpha=0.0,
                const double[::1] rho=None, const double[::1] inverse=None, const double[::1] factor=None):
        """Sensitivity (m, m) and scores (m,) of one cluster."""
        cdef:
            ptrdiff_t m = self.p.m, ld = self.data.ld
            double[::1] total = np.zeros(N_SCALARS + self.p.n_moments + 5 * m * ld)
            State x = self.state(half_beta, whiten, alpha, rho, inverse, factor)
            Scratch *s = self.scratch(0)
            Totals t
        self.point(&t, &total[0])
        prepare(&self.p, &x, s, &t, i, i + 1, 0)
        cluster_matrix(&self.p, &x, s, i, 0)
        M = np.asarray(<double[:m, :ld]> s.M).copy()
        return M[:, :m], M[:, m].copy()

    def predictors(self, const double[::1] half_beta):
        """Linear predictors of all rows, without an offset: (n,)."""
        cdef ptrdiff_t n = self.data.source.n, room = self.data.tile_rows - 8, first, k
        cdef double[::1] half = np.empty(n)
        cdef Scratch *s = self.scratch(0)
        for first in range(0, n, room):
            k = min(room, n - first)
            rows_load(s.tile, self.data.ld, &self.data.source, first, k)
            rows_dot(&half[first], s.tile, self.data.ld, &half_beta[0], k)
        return 2.0 * np.asarray(half)

    def count(self):
        """The moments where every residual is 1: what sums of products are divided by."""
        cdef:
            double[::1] total = np.zeros(N_SCALARS + self.p.n_moments + 5 * self.p.m * self.data.ld)
            double[::1] ones = np.ones(self.data.source.n)
            ptrdiff_t i, n = self.data.source.n
            Totals t
        self.point(&t, &total[0])
        if self.data.w != NULL:
            for i in range(n):
                ones[i] = self.data.w[i]
        with nogil:
            add_moments(&self.p, &t, &ones[0], 0, self.n_clusters)
        return np.array(total[N_SCALARS:N_SCALARS + self.p.n_moments])


def mirrored(upper):
    """A symmetric matrix from one whose blocks on and right of the diagonal are filled."""
    full = np.triu(upper)
    return full + np.triu(upper, 1).T
