"""Several grouping factors: passes over rows whose linear predictor is eta = x'beta + sum_a t_a u[index_a].

Rows are sorted by the *leaf* factor, the one with the most levels; all other factors make up the *border*. Random
coefficients a = 0 .. q - 1 belong to the leaf, q .. T - 1 to the border; `column[b]` is the place of coefficient q + b of each
row among the border's. t_a = (Lambda'z)_a comes as arrays of length n or, where it is the same for all rows, of length 1.

A *chunk* is a run of whole leaves with accumulators of its own; chunks are fixed and summed in order, so results are bitwise
the same for any number of threads.
"""
from cython.parallel cimport prange
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

import numpy as np


cdef extern from "_crossed.h" nogil:
    int SKLMM_LOGIT
    void crossed_response(int family, double *r, double *v, double *v1, const double *eta, const double *w, const uint8_t *y,
                          ptrdiff_t n, double *values)


cdef extern from "_search.h" nogil:
    double SKLMM_SHORT_STEP, SKLMM_SETTLED_STEP
    ctypedef struct sklmm_search:
        double share
    sklmm_search search_from(double slope)
    int search_accepts(sklmm_search *t, double rise, double along, double curvature)


SHORT_STEP, SETTLED_STEP = SKLMM_SHORT_STEP, SKLMM_SETTLED_STEP


cdef class Search:
    """How far to go along a step of Newton's method; see _search.h."""
    cdef sklmm_search search

    def __init__(self, double slope):
        self.search = search_from(slope)

    @property
    def share(self):
        return self.search.share

    def accepts(self, double rise, double along, double curvature):
        return bool(search_accepts(&self.search, rise, along, curvature))


cdef enum: MAX_T = 64


cdef struct Columns:
    ptrdiff_t T, q, n
    const double *value[MAX_T]
    ptrdiff_t step[MAX_T]            # 0: the same for all rows


cdef Columns columns_of(list arrays, ptrdiff_t q, ptrdiff_t n) except *:
    cdef Columns c
    cdef const double[::1] a
    c.T, c.q, c.n = len(arrays), q, n
    if c.T > MAX_T:
        raise ValueError(f"{c.T} random coefficients; the kernels hold at most {MAX_T}")
    for k in range(c.T):
        a = arrays[k]
        if a.shape[0] not in (1, n):
            raise ValueError("a column has the wrong length")
        c.value[k], c.step[k] = &a[0], 0 if a.shape[0] == 1 else 1
    return c


cdef inline double at(const Columns *c, ptrdiff_t a, ptrdiff_t j) noexcept nogil:
    return c.value[a][j * c.step[a]]


def border_cells(const int64_t[::1] start, const int32_t[:, ::1] level, const int64_t[::1] size, const int64_t[::1] base,
                 Py_ssize_t n_border):
    """Which coefficients of the border each leaf meets.

    Parameters
    ----------
    start : ndarray of shape (n_leaves + 1,)
        First row of each leaf.
    level : ndarray of shape (n_factors, n), int32
        Level of each border factor by row.
    size, base : ndarray of shape (n_factors,)
        Coefficients of each factor, and where the first level's stand in the border.
    n_border : int
        Coefficients of the border.

    Returns
    -------
    first : ndarray of shape (n_leaves + 1,), int64
        Where each leaf's list begins.
    index : ndarray, int32
        The lists, sorted within a leaf.
    cell : ndarray of shape (n_factors, n), int32
        Where in the leaf's list (counted from its beginning) each row's first coefficient of each factor stands.
    by_column : (first, leaf, place)
        The transposed lists: for each coefficient its leaves in order, and where it stands in `index`.
    """
    cdef:
        Py_ssize_t n_leaves = start.shape[0] - 1, k = level.shape[0], n = level.shape[1], i, j, f, a, c, total = 0, e
        int64_t[::1] mark = np.full(n_border, -1, dtype=np.int64)
        int64_t[::1] first = np.zeros(n_leaves + 1, dtype=np.int64)
        int64_t[::1] column_first = np.zeros(n_border + 1, dtype=np.int64)
        int64_t[::1] cursor
        int32_t[::1] index, leaf, place
        int32_t[:, ::1] cell = np.empty((k, n), dtype=np.int32)
    with nogil:
        for i in range(n_leaves):
            for j in range(start[i], start[i + 1]):
                for f in range(k):
                    c = base[f] + level[f, j] * size[f]
                    if mark[c] != i:
                        mark[c] = i
                        total += size[f]
                        for a in range(size[f]):
                            column_first[c + a + 1] += 1
            first[i + 1] = total
        for c in range(n_border):
            column_first[c + 1] += column_first[c]
            mark[c] = -1
    index, leaf, place = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
    cursor = np.array(column_first[:n_border], dtype=np.int64)
    with nogil:
        for i in range(n_leaves):
            for j in range(start[i], start[i + 1]):
                for f in range(k):
                    c = base[f] + level[f, j] * size[f]
                    if mark[c] != i:
                        mark[c] = i
                        for a in range(size[f]):
                            leaf[cursor[c + a]] = i
                            cursor[c + a] += 1
    cursor = np.array(first[:n_leaves], dtype=np.int64)
    with nogil:
        for c in range(n_border):  # in order of the columns, so that each leaf's list is sorted
            for e in range(column_first[c], column_first[c + 1]):
                i = leaf[e]
                index[cursor[i]] = c
                place[e] = cursor[i]
                cursor[i] += 1
        for i in range(n_leaves):
            for e in range(first[i], first[i + 1]):
                mark[index[e]] = e - first[i]
            for j in range(start[i], start[i + 1]):
                for f in range(k):
                    cell[f, j] = mark[base[f] + level[f, j] * size[f]]
    return (np.asarray(first), np.asarray(index), np.asarray(cell),
            (np.asarray(column_first), np.asarray(leaf), np.asarray(place)))


cdef class CrossedRows:
    """The rows of a fit, sorted by leaf.

    Parameters
    ----------
    y : ndarray of shape (n,), uint8
    w : ndarray of shape (n,) or None
    start : ndarray of shape (n_leaves + 1,), int64
    chunk : ndarray, int64
        First leaf of each chunk, and the number of leaves.
    column : ndarray of shape (T - q, n), int32
    q : int
    n_border : int
    n_threads : int
    """
    cdef:
        const uint8_t[::1] y
        const double[::1] w
        const int64_t[::1] start, chunk
        const int32_t[:, ::1] column
        ptrdiff_t n, q, T, n_leaves, n_border, n_chunks
        int n_threads, family
        bint weighted
        readonly object eta, r, v, v1, c
        readonly double moved, bent

    def __init__(self, y, w, start, chunk, column, ptrdiff_t q, ptrdiff_t n_border, int n_threads, int family=SKLMM_LOGIT):
        self.y, self.start, self.chunk, self.column = y, start, chunk, column
        self.weighted = w is not None
        self.w = w
        self.n, self.q, self.T = y.shape[0], q, q + column.shape[0]
        self.n_leaves, self.n_border, self.n_chunks = start.shape[0] - 1, n_border, chunk.shape[0] - 1
        self.n_threads, self.family = n_threads, family
        self.eta, self.r, self.v, self.v1, self.c = (np.zeros(self.n) for _ in range(5))

    def state(self, const double[::1] fixed, list t, const double[:, ::1] u, const double[::1] u_border,
              double[:, ::1] s, double[::1] s_border):
        """Log-likelihood at eta = fixed + t'u; fills eta, r, v, v1 and the sums of r t by level.

        `moved` and `bent` are the largest abs(change) of eta since the last call, and the sum of v change^2.
        """
        cdef:
            Columns T = columns_of(t, self.q, self.n)
            double[:, ::1] values = np.zeros((self.n_chunks, 3))
            double[:, ::1] border = np.zeros((self.n_chunks, self.n_border + 1))
            double[::1] eta = self.eta, r = self.r, v = self.v, v1 = self.v1
            ptrdiff_t k
        for k in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            self.state_chunk(k, &T, &fixed[0], &u[0, 0], &u_border[0] if self.n_border else NULL, &s[0, 0], &border[k, 0],
                             &eta[0], &r[0], &v[0], &v1[0], &values[k, 0])
        np.add.reduce(np.asarray(border)[:, :self.n_border], axis=0, out=np.asarray(s_border))
        value, self.bent, _ = np.add.reduce(np.asarray(values), axis=0)
        self.moved = np.max(values[:, 2])
        return float(value)

    cdef void state_chunk(self, ptrdiff_t k, const Columns *t, const double *fixed, const double *u, const double *u_border,
                          double *s, double *border, double *eta, double *r, double *v, double *v1,
                          double *values) noexcept nogil:
        cdef ptrdiff_t i, j, a, q = t.q, T = t.T, first = self.start[self.chunk[k]], last = self.start[self.chunk[k + 1]]
        cdef double total
        for i in range(self.chunk[k], self.chunk[k + 1]):
            for j in range(self.start[i], self.start[i + 1]):
                total = fixed[j]
                for a in range(q):
                    total += at(t, a, j) * u[i * q + a]
                for a in range(q, T):
                    total += at(t, a, j) * u_border[self.column[a - q, j]]
                v1[j], eta[j] = total - eta[j], total
        if last > first:
            crossed_response(self.family, r + first, v + first, v1 + first, eta + first,
                             &self.w[first] if self.weighted else NULL, &self.y[first], last - first, values)
        for i in range(self.chunk[k], self.chunk[k + 1]):
            for a in range(q):
                total = 0.0
                for j in range(self.start[i], self.start[i + 1]):
                    total += r[j] * at(t, a, j)
                s[i * q + a] = total
        for a in range(q, T):
            for j in range(first, last):
                border[self.column[a - q, j]] += r[j] * at(t, a, j)

    def sums(self, const double[::1] weight, list t, const double[:, ::1] E, double[:, ::1] s, double[:, ::1] s_border):
        """s[level coefficient, :] += sum of weight t E over the rows of each level."""
        cdef:
            Columns T = columns_of(t, self.q, self.n)
            ptrdiff_t i, j, a, b, m = E.shape[1], q = self.q
            double f
            double *row
        with nogil:
            for i in range(self.n_leaves):
                for j in range(self.start[i], self.start[i + 1]):
                    for a in range(self.T):
                        f = weight[j] * at(&T, a, j)
                        row = &s[i * q + a, 0] if a < q else &s_border[self.column[a - q, j], 0]
                        for b in range(m):
                            row[b] += f * E[j, b]

    def path_blocks(self, const double[::1] weight, list t, double[:, :, ::1] M):
        """M[i] = sum of weight t t' over the rows of leaf i, T x T: for nested factors, whose leaves have one path."""
        cdef Columns T = columns_of(t, self.q, self.n)
        cdef ptrdiff_t k
        for k in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            self.path_chunk(k, &T, &weight[0], &M[0, 0, 0])

    cdef void path_chunk(self, ptrdiff_t k, const Columns *t, const double *weight, double *M) noexcept nogil:
        cdef ptrdiff_t i, j, a, b, T = t.T
        cdef double f
        cdef double *here
        for i in range(self.chunk[k], self.chunk[k + 1]):
            here = M + i * T * T
            memset(here, 0, T * T * sizeof(double))
            for j in range(self.start[i], self.start[i + 1]):
                for a in range(T):
                    f = weight[j] * at(t, a, j)
                    for b in range(a + 1):
                        here[a * T + b] += f * at(t, b, j)
            for a in range(T):
                for b in range(a):
                    here[b * T + a] = here[a * T + b]

    def border_blocks(self, const double[::1] weight, list t, const int64_t[::1] first, const int32_t[:, ::1] cell,
                      double[:, :, ::1] D, double[:, ::1] B, double[:, ::1] S):
        """Adds sum of weight t t' to the leaves' blocks D (n_leaves, q, q), to B (entries, q), the leaves' coefficients by
        those of the border they meet, and to the lower triangle of S (n_border, n_border). `cell` is by coefficient."""
        cdef:
            Columns T = columns_of(t, self.q, self.n)
            ptrdiff_t k, j, a, b, x, y, q = self.q
            double f
        for k in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            self.border_chunk(k, &T, &weight[0], &first[0], &cell[0, 0], &D[0, 0, 0], &B[0, 0])
        with nogil:
            for j in range(self.n):
                for a in range(q, self.T):
                    f = weight[j] * at(&T, a, j)
                    x = self.column[a - q, j]
                    for b in range(q, a + 1):
                        y = self.column[b - q, j]
                        if y <= x:
                            S[x, y] += f * at(&T, b, j)
                        else:
                            S[y, x] += f * at(&T, b, j)

    cdef void border_chunk(self, ptrdiff_t k, const Columns *t, const double *weight, const int64_t *first, const int32_t *cell,
                           double *D, double *B) noexcept nogil:
        cdef ptrdiff_t i, j, a, b, q = t.q, T = t.T, n = t.n
        cdef double f
        for i in range(self.chunk[k], self.chunk[k + 1]):
            for j in range(self.start[i], self.start[i + 1]):
                for a in range(q):
                    f = weight[j] * at(t, a, j)
                    for b in range(q):
                        D[(i * q + a) * q + b] += f * at(t, b, j)
                    for b in range(q, T):
                        B[(first[i] + cell[(b - q) * n + j]) * q + a] += f * at(t, b, j)

    def leverages(self, list t, list z, object path, object own, object first, object cell, object X, object Sinv,
                  double[:, ::1] theta, double[:, ::1] m, double[::1] m_border):
        """c_j = -t'Sigma t / 2, Sigma the needed block of the inverse of H.

        Either `path` (n_leaves, T, T) holds it by leaf, or `own` (n_leaves, q, q), `first`, `cell`, X (entries, q) with
        Sigma[leaf, border] = -X, and Sinv (n_border, n_border) do. Fills c, adds 2 sum v z_a y_b to theta (T, T), where
        y = -Sigma t / 2, and puts sum v1 c t into m by level.
        """
        cdef:
            Columns ct = columns_of(t, self.q, self.n), cz = columns_of(z, self.q, self.n)
            const double[:, :, ::1] blocks = path if path is not None else own
            const int64_t[::1] lists = first if path is None else self.start
            const int32_t[:, ::1] cells = cell if path is None else self.column
            const double[:, ::1] across = X if path is None else np.zeros((1, 1))
            const double[:, ::1] inverse = Sinv if path is None else np.zeros((1, 1))
            double[:, ::1] thetas = np.zeros((self.n_chunks, self.T * self.T))
            double[:, ::1] border = np.zeros((self.n_chunks, self.n_border + 1))
            double[::1] v = self.v, v1 = self.v1, c = self.c
            bint nested = path is not None
            ptrdiff_t k, n_border = self.n_border
        for k in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            self.leverages_chunk(k, &ct, &cz, nested, &blocks[0, 0, 0], &lists[0], &cells[0, 0] if cells.shape[0] else NULL,
                                 &across[0, 0] if across.shape[0] else NULL, &inverse[0, 0], &v[0], &v1[0], &c[0],
                                 &thetas[k, 0], &m[0, 0], &border[k, 0])
        np.asarray(theta).ravel()[:] += np.add.reduce(np.asarray(thetas), axis=0)
        np.add.reduce(np.asarray(border)[:, :n_border], axis=0, out=np.asarray(m_border))

    cdef void leverages_chunk(self, ptrdiff_t k, const Columns *t, const Columns *z, bint nested, const double *blocks,
                              const int64_t *first, const int32_t *cell, const double *X, const double *Sinv, const double *v,
                              const double *v1, double *c, double *theta, double *m, double *border) noexcept nogil:
        cdef:
            ptrdiff_t i, j, a, b, q = t.q, T = t.T, n = t.n, nb = self.n_border
            double y[MAX_T]
            double tj[MAX_T]
            double f, total
            const double *S
        for i in range(self.chunk[k], self.chunk[k + 1]):
            for a in range(q):
                m[i * q + a] = 0.0
            for j in range(self.start[i], self.start[i + 1]):
                for a in range(T):
                    tj[a], y[a] = at(t, a, j), 0.0
                if nested:
                    S = blocks + i * T * T
                    for a in range(T):
                        for b in range(T):
                            y[a] += S[a * T + b] * tj[b]
                else:
                    for a in range(q):
                        for b in range(q):
                            y[a] += blocks[(i * q + a) * q + b] * tj[b]
                    for b in range(q, T):
                        S = X + (first[i] + cell[(b - q) * n + j]) * q
                        for a in range(q):
                            y[a] -= S[a] * tj[b]
                            y[b] -= S[a] * tj[a]
                        S = Sinv + self.column[b - q, j] * nb
                        for a in range(q, T):
                            y[a] += S[self.column[a - q, j]] * tj[b]
                total = 0.0
                for a in range(T):
                    y[a] *= -0.5
                    total += tj[a] * y[a]
                c[j] = total
                f = v1[j] * total
                for a in range(q):
                    m[i * q + a] += f * tj[a]
                for a in range(q, T):
                    border[self.column[a - q, j]] += f * tj[a]
                for a in range(T):
                    f = 2.0 * v[j] * at(z, a, j)
                    for b in range(T):
                        theta[a * T + b] += f * y[b]

    def gradients(self, list t, list z, const double[:, ::1] u, const double[::1] u_border, const double[:, ::1] kappa,
                  const double[::1] kappa_border, double[::1] g, double[:, ::1] theta):
        """g_j = r + v1 c - v t'kappa; adds sum z_a (g u_b + r kappa_b) to theta."""
        cdef:
            Columns ct = columns_of(t, self.q, self.n), cz = columns_of(z, self.q, self.n)
            double[:, ::1] thetas = np.zeros((self.n_chunks, self.T * self.T))
            double[::1] r = self.r, v = self.v, v1 = self.v1, c = self.c
            ptrdiff_t k
            const double *ub = &u_border[0] if self.n_border else NULL
            const double *kb = &kappa_border[0] if self.n_border else NULL
        for k in prange(self.n_chunks, nogil=True, schedule="dynamic", num_threads=self.n_threads):
            self.gradients_chunk(k, &ct, &cz, &u[0, 0], ub, &kappa[0, 0], kb, &r[0], &v[0], &v1[0], &c[0], &g[0],
                                 &thetas[k, 0])
        np.asarray(theta).ravel()[:] += np.add.reduce(np.asarray(thetas), axis=0)

    cdef void gradients_chunk(self, ptrdiff_t k, const Columns *t, const Columns *z, const double *u, const double *u_border,
                              const double *kappa, const double *kappa_border, const double *r, const double *v,
                              const double *v1, const double *c, double *g, double *theta) noexcept nogil:
        cdef:
            ptrdiff_t i, j, a, b, q = t.q, T = t.T
            double uj[MAX_T]
            double kj[MAX_T]
            double total, f
        for i in range(self.chunk[k], self.chunk[k + 1]):
            for a in range(q):
                uj[a], kj[a] = u[i * q + a], kappa[i * q + a]
            for j in range(self.start[i], self.start[i + 1]):
                for a in range(q, T):
                    uj[a], kj[a] = u_border[self.column[a - q, j]], kappa_border[self.column[a - q, j]]
                total = 0.0
                for a in range(T):
                    total += at(t, a, j) * kj[a]
                total = r[j] + v1[j] * c[j] - v[j] * total
                g[j] = total
                for a in range(T):
                    f = at(z, a, j)
                    for b in range(T):
                        theta[a * T + b] += f * (total * uj[b] + r[j] * kj[b])


def eliminate_leaves(double[:, ::1] S, const double[:, ::1] B, const double[:, ::1] K, const int64_t[::1] first,
                     const int32_t[::1] index, const int64_t[::1] column_first, const int32_t[::1] leaf,
                     const int32_t[::1] place, int n_threads):
    """S -= B'K, lower triangle, where K = D^-1 B: the Schur complement of the leaves. Rows of S are independent."""
    cdef ptrdiff_t n = S.shape[0], q = B.shape[1], c
    if B.shape[0] == 0:
        return
    for c in prange(n, nogil=True, schedule="dynamic", num_threads=n_threads, chunksize=8):
        eliminate_row(&S[c, 0], q, &B[0, 0], &K[0, 0], &first[0], &index[0], column_first[c], column_first[c + 1],
                      &leaf[0], &place[0])


cdef void eliminate_row(double *row, ptrdiff_t q, const double *B, const double *K, const int64_t *first, const int32_t *index,
                        ptrdiff_t begin, ptrdiff_t end, const int32_t *leaf, const int32_t *place) noexcept nogil:
    cdef ptrdiff_t e, x, y, a
    cdef double f
    for e in range(begin, end):
        x = place[e]
        for a in range(q):
            f = K[x * q + a]
            for y in range(first[leaf[e]], x + 1):
                row[index[y]] -= f * B[y * q + a]


def leaf_inverses(const double[:, ::1] Sinv, const double[:, ::1] K, const double[:, :, ::1] Dinv, const int64_t[::1] first,
                  const int32_t[::1] index, double[:, :, ::1] own, double[:, ::1] X, int n_threads):
    """Blocks of the inverse: X = K Sinv where the leaf meets the border (minus the inverse's block), own = Dinv + X K'."""
    cdef ptrdiff_t n = Dinv.shape[0], q = Dinv.shape[1], i
    if X.shape[0] == 0:
        np.asarray(own)[:] = Dinv
        return
    for i in prange(n, nogil=True, schedule="dynamic", num_threads=n_threads, chunksize=16):
        leaf_inverse(&Sinv[0, 0], Sinv.shape[0], &K[0, 0], &Dinv[i, 0, 0], first[i], first[i + 1], &index[0], q,
                     &own[i, 0, 0], &X[0, 0])


cdef void leaf_inverse(const double *Sinv, ptrdiff_t nb, const double *K, const double *Dinv, ptrdiff_t begin, ptrdiff_t end,
                       const int32_t *index, ptrdiff_t q, double *own, double *X) noexcept nogil:
    cdef ptrdiff_t e, f, a, b
    cdef double total, k
    cdef const double *row
    for e in range(begin, end):
        row = Sinv + index[e] * nb
        if q == 1:
            total = 0.0
            for f in range(begin, end):
                total += K[f] * row[index[f]]
            X[e] = total
            continue
        for a in range(q):
            X[e * q + a] = 0.0
        for f in range(begin, end):
            k = row[index[f]]
            for a in range(q):
                X[e * q + a] += K[f * q + a] * k
    for a in range(q):
        for b in range(q):
            total = Dinv[a * q + b]
            for e in range(begin, end):
                total += X[e * q + a] * K[e * q + b]
            own[a * q + b] = total


def mirror(double[:, ::1] A, bint lower):
    """Copies one triangle (lower or upper) of a square matrix to the other, tile by tile."""
    cdef ptrdiff_t n = A.shape[0], I, J, i, j
    with nogil:
        for I in range(0, n, 64):
            for J in range(0, I + 1, 64):
                for i in range(I, min(I + 64, n)):
                    for j in range(J, min(J + 64, i)):
                        if lower:
                            A[j, i] = A[i, j]
                        else:
                            A[i, j] = A[j, i]
