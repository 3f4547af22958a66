"""Pareto-smoothed weights: the largest ones replaced by quantiles of the tail that was fitted to them.

The shape k of the tail says whether the weights have a variance, and so whether averages are to be trusted (Vehtari,
Simpson, Gelman, Yao and Gabry 2024). The tail is a generalised Pareto distribution, fitted as Zhang and Stephens (2009)
do: the mean of a grid of its scale over the profile likelihood, with k drawn slightly to 0.5 where points are few.
"""

import numpy as np
from scipy.special import logsumexp

FEWEST = 5  # points of a tail that can be fitted
TRUSTED = 0.7  # k above it: no number of draws that is affordable makes averages reliable


def trusted_below(n):
    """k below which averages of n draws are to be trusted."""
    return min(1.0 - 1.0 / np.log10(max(n, 11)), TRUSTED)


def pareto_smoothed(log_weights):
    """Smoothed weights.

    Parameters
    ----------
    log_weights : ndarray of shape (n,)
        -inf is a weight of 0.

    Returns
    -------
    log_weights : ndarray of shape (n,)
    k : float
        Shape of the tail; infinite where too few weights are not 0.
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    n = log_weights.size
    tail = int(np.ceil(min(0.2 * n, 3.0 * np.sqrt(n))))
    order = np.argsort(log_weights, kind="stable")
    if tail < FEWEST or not np.isfinite(log_weights[order[-tail - 1]]):
        return log_weights, np.inf
    top, largest = order[-tail:], log_weights[order[-1]]
    cut = np.exp(log_weights[order[-tail - 1]] - largest)
    above = np.exp(log_weights[top] - largest) - cut
    if above[-1] <= 1e-13:  # all are the same
        return log_weights, -np.inf
    k, sigma = _fitted(np.maximum(above, 1e-300))
    smoothed = log_weights.copy()
    at = (np.arange(tail) + 0.5) / tail
    quantiles = -sigma * np.log1p(-at) if abs(k) < 1e-12 else sigma * np.expm1(-k * np.log1p(-at)) / k
    smoothed[top] = np.minimum(largest + np.log(cut + quantiles), largest)
    return smoothed, float(k)


def _fitted(x):
    """Shape and scale of a generalised Pareto distribution of the sorted numbers x."""
    n = x.size
    m = 30 + int(np.sqrt(n))
    b = 1.0 / x[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * x[int(n / 4 + 0.5) - 1])
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = n * (np.log(-b / k) - k - 1.0)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    b = np.exp(profile - logsumexp(profile)) @ b
    shape = np.log1p(-b * x).mean()
    sigma = -shape / b
    return (n * shape + 10.0 * 0.5) / (n + 10.0), sigma
