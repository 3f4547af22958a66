"""Calibration of predicted probabilities: logistic recalibration, and bins by quantile of the predictions.

References
----------
Cox DR (1958). Two further applications of a model for binary regression. Biometrika 45, 562-565.

Van Calster B, McLernon DJ, van Smeden M, Wynants L, Steyerberg EW (2019). Calibration: the Achilles heel of predictive
analytics. BMC Medicine 17, 230.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

N_BINS = 10
_EPS = np.finfo(float).eps
_MAX_ITER = 100


def logits(probability):
    """Log odds of probabilities, which are clipped to [eps, 1 - eps] with the eps of double precision: to +-36.04.

    A prediction of 0 or 1 that is right then costs nothing; one that is wrong counts as a very bold error, not as an
    infinite one. `sklearn.metrics.log_loss` clips at the same place.
    """
    return logit(np.clip(probability, _EPS, 1 - _EPS))


def fit_slope(x, ones, zeros):
    """Intercept and slope of the logistic regression of outcomes on one column, by maximum likelihood.

    Parameters
    ----------
    x : ndarray of shape (n,)
        As a rule the logits of predictions.
    ones, zeros : ndarray of shape (n,)
        How much weight outcomes of 1 and of 0 have at each value of `x`.

    Returns
    -------
    intercept, slope : float
        NaN where there is no maximum: one class only, a constant `x`, or classes that a value of `x` separates.
    """
    ones_at, zeros_at = x[ones > 0], x[zeros > 0]
    if not ones_at.size or not zeros_at.size:
        return np.nan, np.nan
    if ones_at.min() >= zeros_at.max() or zeros_at.min() >= ones_at.max():
        return np.nan, np.nan
    # In units of its spread, so that the Hessian is well conditioned however alike the predictions are.
    weight = ones + zeros
    centre = np.average(x, weights=weight)
    scale = np.sqrt(np.average((x - centre) ** 2, weights=weight))
    z = (x - centre) / scale
    theta = np.array([logit(ones.sum() / weight.sum()), 0.0])
    value = _log_likelihood(theta, z, ones, zeros)
    for _ in range(_MAX_ITER):
        mu = expit(theta[0] + theta[1] * z)
        residual, curvature = ones - weight * mu, weight * mu * (1 - mu)
        gradient = np.array([residual.sum(), residual @ z])
        cross = curvature @ z
        step = _solve(curvature.sum(), cross, curvature @ (z * z), gradient)
        decrement = gradient @ step
        if not np.isfinite(decrement):
            return np.nan, np.nan
        if decrement <= 1e-18 * weight.sum():
            theta = theta + step
            break
        theta, value = _ascend(theta, step, value, lambda at: _log_likelihood(at, z, ones, zeros))
    else:
        return np.nan, np.nan
    slope = theta[1] / scale
    return theta[0] - slope * centre, slope


def fit_intercept(x, ones, zeros):
    """Intercept of the logistic regression of outcomes with the offset `x`: the shift that makes the mean right.

    Parameters and what NaN means are those of `fit_slope`; only one class has no maximum.

    Returns
    -------
    intercept : float
    """
    weight, total = ones + zeros, ones.sum()
    if not total > 0 or not zeros.sum() > 0:
        return np.nan
    present = x[weight > 0]
    centre = logit(total / weight.sum())

    def excess(shift):
        return weight @ expit(shift + x) - total

    # Between these the sign changes: were all x the smallest or the largest of them, the ends would be the answer.
    lower, upper = centre - present.max(), centre - present.min()
    margin = 1e-6 * (1 + upper - lower)
    return brentq(excess, lower - margin, upper + margin, xtol=1e-13, rtol=8.9e-16)


def calibration_bins(probability, weights=None, n_bins=N_BINS):
    """Bin of each row, by quantile of its prediction.

    Bins hold the same weight as far as ties let them: rows with the same prediction are always in the same bin, that of
    their mid-rank. A row of weight 2 is a row twice.

    Parameters
    ----------
    probability : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    n_bins : int, default=10

    Returns
    -------
    bins : ndarray of int, shape (n,)
        From 0 to `n_bins` - 1, rising with the prediction; some may be empty.
    """
    _, value = np.unique(probability, return_inverse=True)
    mass = np.bincount(value, weights=weights).astype(float)
    middle = np.cumsum(mass) - mass / 2
    # The bin's number is floored: what lies on an edge but for rounding goes to the upper bin.
    share = n_bins * middle / mass.sum()
    return np.clip(np.floor(share + 1e-9), 0, n_bins - 1).astype(np.intp)[value]


def expected_calibration_error(y, probability, weights=None, bins=None):
    """Mean over bins of |mean probability - share of outcomes 1|, weighted by what is in a bin.

    Noise alone makes it positive: of n rows it is at least of the order of sqrt(number of bins / n).

    Parameters
    ----------
    y, probability : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    bins : array-like of int, shape (n,), optional
        None: `calibration_bins`.
    """
    weights = np.ones(len(y)) if weights is None else weights
    bins = calibration_bins(probability, weights) if bins is None else bins
    return np.abs(np.bincount(bins, weights=weights * (y - probability))).sum() / weights.sum()


def _log_likelihood(theta, z, ones, zeros):
    eta = theta[0] + theta[1] * z
    return -(ones @ np.logaddexp(0, -eta) + zeros @ np.logaddexp(0, eta))


def _solve(a, b, c, gradient):
    """Solution of [[a, b], [b, c]] step = gradient; not finite where the matrix is singular."""
    determinant = a * c - b * b
    if not determinant > 0:
        return np.full(2, np.nan)
    return np.array([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / determinant


def _ascend(theta, step, value, objective):
    """The longest of the steps 1, 1/2, 1/4, ... that loses nothing but rounding."""
    for _ in range(60):
        found = objective(theta + step)
        if found >= value - 1e-14 * abs(value):
            return theta + step, found
        step = step / 2
    return theta, value
