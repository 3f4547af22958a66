"""Offsets, and the model that has nothing beside them but an intercept."""

import numpy as np
from scipy.special import expit

STILL, MOST_STEPS = 1e-12, 200


def log_likelihood_at(eta, y, weights=None):
    """Log-likelihood of independent rows with these linear predictors."""
    logs = -np.logaddexp(0.0, np.where(y > 0, -eta, eta))
    return float(logs.sum() if weights is None else weights @ logs)


def intercept_beside(offset, y, weights=None, fit_intercept=True):
    """The intercept with which an offset describes independent rows best, and the log-likelihood there.

    Newton's method between bounds: at the intercept that gives all rows the mean outcome of all, less the largest
    offset, each row's mean is at most that, and less the smallest one at least.

    Parameters
    ----------
    offset : ndarray of shape (n,)
    y : ndarray of shape (n,)
        0 or 1, and both of them occur.
    weights : ndarray of shape (n,) or None
    fit_intercept : bool
        False: the intercept is 0.

    Returns
    -------
    intercept, log_likelihood : float
    """
    if not fit_intercept:
        return 0.0, log_likelihood_at(offset, y, weights)
    w = np.ones(len(y)) if weights is None else weights
    successes = w @ y
    share = successes / w.sum()
    level = np.log(share / (1.0 - share))
    low, high = level - offset[w > 0].max(), level - offset[w > 0].min()
    at = level - w @ offset / w.sum()
    for _ in range(MOST_STEPS):
        mean = expit(offset + at)
        score, information = successes - w @ mean, w @ (mean * (1.0 - mean))
        low, high = (at, high) if score > 0 else (low, at)
        step = score / information if information > 0 else np.inf
        there = at + step if low < at + step < high else 0.5 * (low + high)
        settled = abs(there - at) <= STILL * (1.0 + abs(at))
        at = there
        if settled:
            break
    return float(at), log_likelihood_at(offset + at, y, weights)
