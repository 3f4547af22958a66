"""Offsets, and the model that has nothing beside them but an intercept."""

import numpy as np

from sklmm._kernels._response import derivatives

STILL, MOST_STEPS, LONGEST = 1e-12, 200, 8.0


def log_likelihood_at(family, eta, y, weights=None):
    """Log-likelihood of independent rows with these linear predictors."""
    logs = family.log_density(eta, y)
    return float(logs.sum() if weights is None else weights @ logs)


def intercept_beside(family, offset, y, weights=None, fit_intercept=True):
    """The intercept with which an offset describes independent rows best, and the log-likelihood there.

    Newton's method between bounds that close in, as the log-likelihood is concave.

    Parameters
    ----------
    family : Bernoulli
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
        return 0.0, log_likelihood_at(family, offset, y, weights)
    w = np.ones(len(y)) if weights is None else weights
    low, high = -np.inf, np.inf
    at = family.start(w @ y / w.sum()) - w @ offset / w.sum()
    for _ in range(MOST_STEPS):
        _, r, v, *_ = derivatives(family.code, offset + at, y)
        score, information = w @ r, w @ v
        low, high = (at, high) if score > 0 else (low, at)
        step = score / information if information > 0 else np.copysign(np.inf, score)
        if abs(step) <= STILL * (1.0 + abs(at)):
            break
        there = at + np.clip(step, -LONGEST, LONGEST)
        at = there if low < there < high else 0.5 * (low + high)
    return float(at), log_likelihood_at(family, offset + at, y, weights)
