"""Expectations of the inverse link under a normal linear predictor."""
from cython.parallel cimport prange
from libc.stdint cimport int64_t

import numpy as np
from scipy.special import ndtr


cdef extern from "_expectations.h" nogil:
    int logistic_normal_rows(double *out, double *slope, const double *m, const double *s, ptrdiff_t n, const double *reach,
                             ptrdiff_t rules, const int64_t *first, const double *z, const double *w)
    int cloglog_normal_rows(double *upper, double *lower, const double *m, const double *s, ptrdiff_t n, const double *reach,
                            ptrdiff_t rules, const int64_t *first, const double *z, const double *w)


def _trapezoidal_rules(largest=100.0, ratio=2.0**0.25, digits=24.0, tail=6.7):
    """Steps h for growing s: the trapezoidal rule on phi(z) expit(m + s z) errs by about exp(d^2/2 - 2 pi d / h), d = pi / s the
    distance of the poles (at most 2 pi / h, where the normal density alone decides: exp(-2 pi^2 / h^2)); Trefethen & Weideman (2014).
    """
    h = np.pi * np.sqrt(2.0 / digits)
    reach, counts, z, w, served = [], [0], [], [], 0.0
    while served < largest:
        # the largest s that h serves: its d is the smaller root of d^2/2 - 2 pi d / h + digits = 0
        root = (2 * np.pi / h) ** 2 - 2 * digits
        served = np.pi / (2 * np.pi / h - np.sqrt(max(root, 0.0)))
        reach.append(served)
        k = np.arange(-np.ceil(tail / h), np.ceil(tail / h) + 1)
        weight = np.exp(-0.5 * (k * h) ** 2)
        z.append(k * h)
        w.append(weight / weight.sum())
        counts.append(k.size)
        h /= ratio
    return np.array(reach), np.cumsum(counts, dtype=np.int64), np.concatenate(z), np.concatenate(w)


_REACH, _FIRST, _Z, _W = _trapezoidal_rules()


def logistic_normal_mean(m, s, int n_threads=1, slopes=False):
    """E expit(m + s z), z standard normal, row by row.

    Parameters
    ----------
    m, s : array-like of shape (n,)
        Means and standard deviations (s >= 0) of the linear predictor.
    n_threads : int, default=1
    slopes : bool, default=False
        Whether to return the derivatives in m, too.

    Returns
    -------
    ndarray of shape (n,), or two of them
        Absolute error below 1e-9 up to s = 100, and below 1e-8 beyond (where the logistic density's variance is
        added to the normal one's: expit is then nearly a step).
    """
    cdef:
        double[::1] mean = np.ascontiguousarray(m, dtype=np.float64)
        double[::1] sd = np.ascontiguousarray(s, dtype=np.float64)
        ptrdiff_t n = mean.shape[0], piece = 1 << 15, pieces = (n + piece - 1) // piece, i
        double[::1] out = np.empty(n), derivative = np.empty(n if slopes else 0)
        double *slope = &derivative[0] if slopes and n else NULL
        int[::1] beyond = np.zeros(pieces, dtype=np.intc)
        const double[::1] reach = _REACH, z = _Z, w = _W
        const int64_t[::1] first = _FIRST
    if sd.shape[0] != n:
        raise ValueError(f"m and s differ in length: {n} and {sd.shape[0]}")
    for i in prange(pieces, nogil=True, schedule="static", num_threads=n_threads):
        beyond[i] = logistic_normal_rows(&out[i * piece], slope + i * piece if slope != NULL else NULL, &mean[i * piece],
                                         &sd[i * piece], min(piece, n - i * piece), &reach[0], reach.shape[0], &first[0],
                                         &z[0], &w[0])
    result, change = np.asarray(out), np.asarray(derivative)
    if np.any(beyond):
        far = np.asarray(sd) > _REACH.max()
        size = np.sqrt(np.asarray(sd)[far] ** 2 + np.pi**2 / 3)
        result[far] = ndtr(np.asarray(mean)[far] / size)
        if slopes:
            change[far] = np.exp(-0.5 * (np.asarray(mean)[far] / size) ** 2) / (size * np.sqrt(2.0 * np.pi))
    return (result, change) if slopes else result


def cloglog_normal_means(m, s, int n_threads=1):
    """E mu(m + s z) and E (1 - mu(m + s z)), mu = 1 - exp(-exp), z standard normal, row by row.

    Parameters
    ----------
    m, s : array-like of shape (n,)
        Means and standard deviations (s >= 0) of the linear predictor.
    n_threads : int, default=1

    Returns
    -------
    upper, lower : ndarray of shape (n,)
        Absolute error below 1e-9 up to s = 50, and below 3e-6 beyond (where the latent error, of mean -0.577 and
        variance pi^2 / 6, is added to the normal one).
    """
    cdef:
        double[::1] mean = np.ascontiguousarray(m, dtype=np.float64)
        double[::1] sd = np.ascontiguousarray(s, dtype=np.float64)
        ptrdiff_t n = mean.shape[0], piece = 1 << 15, pieces = (n + piece - 1) // piece, i
        double[::1] upper = np.empty(n), lower = np.empty(n)
        int[::1] beyond = np.zeros(pieces, dtype=np.intc)
        const double[::1] reach = _REACH, z = _Z, w = _W
        const int64_t[::1] first = _FIRST
    if sd.shape[0] != n:
        raise ValueError(f"m and s differ in length: {n} and {sd.shape[0]}")
    for i in prange(pieces, nogil=True, schedule="static", num_threads=n_threads):
        beyond[i] = cloglog_normal_rows(&upper[i * piece], &lower[i * piece], &mean[i * piece], &sd[i * piece],
                                        min(piece, n - i * piece), &reach[0], reach.shape[0], &first[0], &z[0], &w[0])
    high, low = np.asarray(upper), np.asarray(lower)
    if np.any(beyond):
        far = 2.0 * np.asarray(sd) > _REACH.max()
        at = (np.asarray(mean)[far] + np.euler_gamma) / np.sqrt(np.asarray(sd)[far] ** 2 + np.pi**2 / 6)
        high[far], low[far] = ndtr(at), ndtr(-at)
    return high, low
