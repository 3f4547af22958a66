"""Posteriors of groups on nodes, and means of probabilities over them; see `sklmm.likelihood.posterior`."""
from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint8_t

import numpy as np


cdef extern from "_posterior.h" nogil:
    int SKLMM_LOGIT, SKLMM_NODE_Q
    ctypedef struct sklmm_group:
        int family
        ptrdiff_t n, q, stride
        const double *eta
        const double *E
        const double *w
        const double *t
        const uint8_t *y
    void exponentials(double *E, double *eta, ptrdiff_t n)
    int group_nodes(sklmm_group *g, const double *u, ptrdiff_t k, ptrdiff_t padded, const double *grid, const double *log_w,
                    double drop, double *work, double *center, double *factor, float *weights)
    void node_tails(int family, double *small, uint8_t *positive, ptrdiff_t n, const double *eta, const double *t,
                    const int64_t *level, ptrdiff_t q, ptrdiff_t k, ptrdiff_t padded, const double *grid,
                    const double *center, const double *factor, const float *weights)


cdef enum:
    ROWS_AT_ONCE = 4096
    GROUPS_AT_ONCE = 64


def weigh_nodes(double[::1] eta, const double[:, ::1] t, const uint8_t[::1] y, const double[::1] w,
                const int64_t[::1] start, const double[:, ::1] u, const double[:, ::1] grid, const double[::1] log_w,
                ptrdiff_t k, double drop, double[:, ::1] center, double[:, :, ::1] factor, float[:, ::1] weights,
                int n_threads=1, int family=SKLMM_LOGIT):
    """Nodes of the posterior of each group, and their weights.

    Parameters
    ----------
    eta : ndarray of shape (n + 8,)
        Fixed part of the linear predictor, by group; the last 8 entries are room for whole vectors.
    t : ndarray of shape (q, n)
        Loadings Lambda'z; (1, 1) for a random intercept of the logit.
    y : ndarray of shape (n,)
    w : ndarray of shape (n,) or None
    start : ndarray of shape (n_groups + 1,)
        First row of each group, which may have none.
    u : ndarray of shape (n_groups, q)
        Conditional modes.
    grid : ndarray of shape (q, padded)
    log_w : ndarray of shape (padded,)
        Logarithms of the nodes' weights over those of the density; -inf behind the first k.
    drop : float
        With q = 1: nodes go as far as the density is above exp(-drop) of its maximum.
    center, factor, weights : ndarray of shapes (n_groups, q), (n_groups, q, q), (n_groups, k)
        What is found: node k of a group is center + factor @ grid[:, k].
    """
    cdef:
        ptrdiff_t n_groups = start.shape[0] - 1, n = y.shape[0], q = u.shape[1], padded = grid.shape[1], i
        ptrdiff_t pieces = (n_groups + GROUPS_AT_ONCE - 1) // GROUPS_AT_ONCE
        bint intercept = family == SKLMM_LOGIT and t.shape[1] == 1 and q == 1 and n != 1
        double[::1] E = np.empty(eta.shape[0] if intercept else 1)
        double[:, ::1] work = np.empty((n_threads, (q + 1) * padded))
        int[::1] status = np.zeros(max(pieces, 1), dtype=np.intc)
        sklmm_group g
    if q > SKLMM_NODE_Q or t.shape[0] != q or grid.shape[0] != q or padded % 8 or eta.shape[0] < n + 8:
        raise ValueError("the shapes of eta, t, u and grid do not fit together")
    if intercept and n:
        for i in prange((n + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE, nogil=True, schedule="static", num_threads=n_threads):
            exponentials(&E[i * ROWS_AT_ONCE], &eta[i * ROWS_AT_ONCE], min(ROWS_AT_ONCE, n - i * ROWS_AT_ONCE))
    g.family, g.q, g.stride = family, q, t.shape[1]
    g.eta, g.t = &eta[0], &t[0, 0]
    g.E = g.w = NULL
    g.y = NULL
    if intercept:
        g.E = &E[0]
    if n:
        g.y = &y[0]
        if w is not None:
            g.w = &w[0]
    for i in prange(pieces, nogil=True, schedule="dynamic", num_threads=n_threads):
        status[i] = weigh_piece(g, i * GROUPS_AT_ONCE, min(n_groups, (i + 1) * GROUPS_AT_ONCE), &start[0], &u[0, 0], k,
                                padded, &grid[0, 0], &log_w[0], drop, &work[threadid(), 0], &center[0, 0],
                                &factor[0, 0, 0], &weights[0, 0])
    if np.any(status):
        raise FloatingPointError("the posterior of a group is no number: is X or sample_weight extreme?")


cdef int weigh_piece(const sklmm_group all_rows, ptrdiff_t first, ptrdiff_t last, const int64_t *start, const double *u,
                     ptrdiff_t k, ptrdiff_t padded, const double *grid, const double *log_w, double drop, double *work,
                     double *center, double *factor, float *weights) noexcept nogil:
    cdef sklmm_group g
    cdef ptrdiff_t i, q = all_rows.q
    cdef int status = 0
    for i in range(first, last):
        g = all_rows
        g.n = start[i + 1] - start[i]
        g.eta = all_rows.eta + start[i]
        g.y = all_rows.y + start[i]
        if all_rows.w != NULL:
            g.w = all_rows.w + start[i]
        if all_rows.E != NULL:
            g.E = all_rows.E + start[i]
        else:
            g.t = all_rows.t + start[i]
        status |= group_nodes(&g, u + i * q, k, padded, grid, log_w, drop, work, center + i * q, factor + i * q * q,
                              weights + i * k)
    return status


def tails(const double[::1] eta, const double[:, ::1] t, const int64_t[::1] level, const double[:, ::1] grid, ptrdiff_t k,
          const double[:, ::1] center, const double[:, :, ::1] factor, const float[:, ::1] weights, int n_threads=1,
          int family=SKLMM_LOGIT):
    """Mean probability over the posterior of each row's group.

    Parameters
    ----------
    eta : ndarray of shape (n,)
    t : ndarray of shape (n, q)
    level : ndarray of shape (n,)
        Rows of `center`, `factor` and `weights`, see `weigh_nodes`.

    Returns
    -------
    small : ndarray of shape (n,)
        Probability of the less likely outcome.
    positive : ndarray of shape (n,), bool
        Whether 1 is the likelier.
    """
    cdef:
        ptrdiff_t n = eta.shape[0], q = t.shape[1], i
        double[::1] small = np.empty(n)
        uint8_t[::1] positive = np.empty(n, dtype=np.uint8)
    if n and (t.shape[0] != n or level.shape[0] != n or center.shape[1] != q or grid.shape[0] != q):
        raise ValueError("the shapes of eta, t, level and grid do not fit together")
    if n:
        for i in prange((n + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE, nogil=True, schedule="static", num_threads=n_threads):
            node_tails(family, &small[i * ROWS_AT_ONCE], &positive[i * ROWS_AT_ONCE],
                       min(ROWS_AT_ONCE, n - i * ROWS_AT_ONCE), &eta[i * ROWS_AT_ONCE], &t[i * ROWS_AT_ONCE, 0], &level[i * ROWS_AT_ONCE], q, k, grid.shape[1],
                       &grid[0, 0], &center[0, 0], &factor[0, 0, 0], &weights[0, 0])
    return np.asarray(small), np.asarray(positive).view(bool)
