"""Linear predictors and probabilities of new rows, from the stored tables of random effects.

Given a row's group, its linear predictor is normal with mean m and standard deviation s, so that every kind
of prediction is one integral E expit(m + s z) over one dimension, whatever the number of factors and random
coefficients.
"""

import numpy as np
from scipy.special import expit

from ._kernels._links import logistic_normal_mean

EFFECTS = ("posterior", "mode", "zero", "marginal")

_CHUNK = 1 << 16  # rows whose temporaries stay in cache


def check_effects(value):
    """Raise unless `value` is one of the four kinds of prediction."""
    if not isinstance(value, str) or value not in EFFECTS:
        raise ValueError(f"predict_effects must be one of {', '.join(map(repr, EFFECTS))}; got {value!r}")


def linear_predictor(X, coef, intercept, factors, codes, effects, posterior=None):
    """Mean and standard deviation of each row's linear predictor.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32
    coef : ndarray
        Of the first columns of X; others have random slopes only.
    intercept : float
    factors : list of Factor
    codes : list of ndarray of shape (n,)
        Row of the factor's tables for each row of X; -1 where the group is unknown.
    effects : {"posterior", "mode", "zero", "marginal"}
    posterior : JointPosterior or None
        Covariances across factors, for rows whose groups are known in several.

    Returns
    -------
    mean : ndarray of shape (n,)
    sd : ndarray of shape (n,) or None
        None where nothing is to be integrated.
    """
    n = X.shape[0]
    mean = np.full(n, float(intercept))
    variance = np.zeros(n) if factors and effects in ("posterior", "marginal") else None
    tables = [] if effects == "zero" else [_tables(factor, effects) for factor in factors]
    for start in range(0, n, _CHUNK):
        part = slice(start, min(start + _CHUNK, n))
        rows = np.asarray(X[part], dtype=np.float64)
        mean[part] += rows[:, : coef.size] @ coef
        for factor, code, (modes, covariances) in zip(factors, codes, tables, strict=False):
            code = code[part]
            z = [None if column < 0 else rows[:, column] for column in factor.columns]
            if modes is not None:
                for a in range(len(z)):
                    mean[part] += _times(modes[code, a], z[a])
            if variance is not None:
                for a in range(len(z)):
                    for b in range(a + 1):
                        twice = 1.0 if a == b else 2.0
                        variance[part] += twice * _times(_times(covariances[code, a, b], z[a]), z[b])
        if posterior is not None and effects == "posterior":
            _add_across(variance[part], rows, factors, [code[part] for code in codes], posterior)
    if variance is None:
        return mean, None
    return mean, np.sqrt(np.maximum(variance, 0.0, out=variance), out=variance)


def _add_across(variance, rows, factors, codes, posterior):
    """Add twice the covariances between the effects of different factors, where both groups are known."""
    for f in range(len(factors)):
        for g in range(f):
            known = np.flatnonzero((codes[f] >= 0) & (codes[g] >= 0))
            if known.size == 0:
                continue
            block = posterior.covariance(f, codes[f][known], g, codes[g][known])
            for a, left in enumerate(factors[f].columns):
                for b, right in enumerate(factors[g].columns):
                    share = _times(block[:, a, b], None if left < 0 else rows[known, left])
                    variance[known] += 2.0 * _times(share, None if right < 0 else rows[known, right])


def _times(values, z):
    return values if z is None else values * z


def _tables(factor, effects):
    """Modes and covariances by level, with one row more for the groups that are unknown: code -1 finds it."""
    q = len(factor.columns)
    if effects == "marginal":  # every code, -1 included, is to find the same row
        return None, np.broadcast_to(factor.covariance, (len(factor.levels) + 1, q, q))
    modes = np.concatenate([factor.modes, np.zeros((1, q))])
    if effects == "mode":
        return modes, None
    return modes, np.concatenate([factor.mode_cov, factor.covariance[None]])


def smaller_probability(mean, sd, n_threads):
    """Probability of the less likely class.

    It is computed in the lower tail, where it is small without being the difference of two numbers near 1.
    """
    lower = -np.abs(mean)
    return expit(lower) if sd is None else logistic_normal_mean(lower, sd, n_threads)


def probabilities(mean, sd, n_threads):
    """Probabilities of both classes, of shape (n, 2)."""
    small = smaller_probability(mean, sd, n_threads)
    large = 1.0 - small
    positive = mean > 0
    result = np.empty((mean.size, 2))
    np.copyto(result[:, 0], np.where(positive, small, large))
    np.copyto(result[:, 1], np.where(positive, large, small))
    return result


def log_probabilities(mean, sd, n_threads):
    """Logarithms of `probabilities`, exact for small ones too."""
    log_small = _log_smaller(mean, sd, n_threads)
    log_large = np.log1p(-np.exp(log_small))
    positive = mean > 0
    return np.column_stack(
        [np.where(positive, log_small, log_large), np.where(positive, log_large, log_small)]
    )


def logits(mean, sd, n_threads):
    """Logit of the probability of the second class."""
    if sd is None:
        return mean
    log_small = _log_smaller(mean, sd, n_threads)
    return np.copysign(np.log1p(-np.exp(log_small)) - log_small, mean)


def _log_smaller(mean, sd, n_threads):
    if sd is None:
        return -np.logaddexp(0.0, np.abs(mean))
    small = smaller_probability(mean, sd, n_threads)
    # Far out, expit is exp and its mean that of a lognormal: the logarithm survives where the number
    # underflows.
    return np.where(small > 1e-300, np.log(np.maximum(small, 1e-300)), sd**2 / 2 - np.abs(mean))
