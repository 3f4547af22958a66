"""The response of single rows: log densities and their derivatives, for what is done with rows outside the kernels."""
from libc.stdint cimport uint8_t

import numpy as np


cdef extern from "_responses.h" nogil:
    int SKLMM_LOGIT, SKLMM_PROBIT, SKLMM_CLOGLOG
    void responses(int family, ptrdiff_t n, const double *eta, const uint8_t *y, double *l, double *r, double *v, double *v1,
                   double *v2)
    void sides(int family, ptrdiff_t n, const double *eta, double *mu, double *rest)
    void averaged_responses(int family, ptrdiff_t n, const double *m, const double *s, const uint8_t *y, ptrdiff_t k,
                            const double *z, const double *w, double *r, double *v)


CODES = {"logit": SKLMM_LOGIT, "probit": SKLMM_PROBIT, "cloglog": SKLMM_CLOGLOG}


def derivatives(int family, eta, y):
    """Of each row log density l, l', -l'', -l''' and -l'''' in the linear predictor: (5, n).

    Parameters
    ----------
    family : int
        One of `CODES`.
    eta : ndarray of shape (n,)
    y : ndarray of shape (n,)
        0 or 1.
    """
    cdef:
        const double[::1] at = np.ascontiguousarray(eta, dtype=np.float64)
        const uint8_t[::1] outcome = np.ascontiguousarray(y, dtype=np.uint8)
        ptrdiff_t n = at.shape[0]
        double[:, ::1] out = np.empty((5, n))
    if outcome.shape[0] != n:
        raise ValueError(f"eta and y differ in length: {n} and {outcome.shape[0]}")
    if n:
        responses(family, n, &at[0], &outcome[0], &out[0, 0], &out[1, 0], &out[2, 0], &out[3, 0], &out[4, 0])
    return np.asarray(out)


def probabilities(int family, eta):
    """P(y = 1) and P(y = 0) of each row, neither the difference of the other from 1: (2, n)."""
    cdef:
        const double[::1] at = np.ascontiguousarray(eta, dtype=np.float64)
        ptrdiff_t n = at.shape[0]
        double[:, ::1] out = np.empty((2, n))
    if n:
        sides(family, n, &at[0], &out[0, 0], &out[1, 0])
    return np.asarray(out)


def averaged(int family, m, s, y, const double[::1] z, const double[::1] w):
    """Means of l' and -l'' over linear predictors m + s z with the weights w of the nodes z: (2, n)."""
    cdef:
        const double[::1] mean = np.ascontiguousarray(m, dtype=np.float64)
        const double[::1] sd = np.ascontiguousarray(s, dtype=np.float64)
        const uint8_t[::1] outcome = np.ascontiguousarray(y, dtype=np.uint8)
        ptrdiff_t n = mean.shape[0]
        double[:, ::1] out = np.empty((2, n))
    if sd.shape[0] != n or outcome.shape[0] != n or w.shape[0] != z.shape[0]:
        raise ValueError("the shapes of m, s, y and of z, w do not fit together")
    if n:
        averaged_responses(family, n, &mean[0], &sd[0], &outcome[0], z.shape[0], &z[0], &w[0], &out[0, 0], &out[1, 0])
    return np.asarray(out)
