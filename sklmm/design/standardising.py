"""Rough centres and scales of columns, from a sample of rows: for conditioning, which any rough value serves."""

import numpy as np

SAMPLE_ROWS = 1024
CHUNK_ROWS = 1 << 16


def row_sample(X, sample_weight):
    """About 1,000 rows and their shares of the weight: as counts here, too, as the path of a fit depends on them."""
    every = max(1, X.shape[0] // SAMPLE_ROWS)
    sample = X[::every].astype(np.float64)
    share = np.ones(len(sample)) if sample_weight is None else sample_weight[::every]
    return sample, share / share.sum() if share.any() else np.full(len(share), 1 / len(share))


def column_scales(sample, share, fit_intercept, X, sample_weight):
    """Centre (0 without an intercept to absorb it) and inverse scale of each column, padded to a multiple of 8.

    Columns without spread in the sample, such as indicators of rare categories, are looked at in all rows of X.
    """
    p = sample.shape[1]
    padded = max(8, (p + 7) // 8 * 8)
    center, inv_scale = np.zeros(padded), np.zeros(padded)

    def moments(rows, weight):
        middle = weight @ rows if fit_intercept else np.zeros(rows.shape[1])
        return middle, np.sqrt(weight @ (rows - middle) ** 2), np.sqrt(weight @ rows**2)

    center[:p], spread, size = moments(sample, share)
    for j in np.flatnonzero(spread <= 1e-12 * size) if len(sample) < X.shape[0] else ():
        weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        column = X[:, j : j + 1].astype(np.float64)
        (center[j],), (spread[j],), (size[j],) = moments(column, weight / weight.sum())
    # a constant column has no spread but rounding error; its size keeps it from being blown up
    spread = np.where(spread > 1e-12 * size, spread, size)
    inv_scale[:p] = 1.0 / np.where(spread > 0, spread, 1.0)
    return center, inv_scale


def natural_map(center, inv_scale, p, fit_intercept):
    """d(natural)/d(internal) of the fixed effects: internal are the standardised slopes and then the intercept, natural
    the intercept and then the slopes in the user's units."""
    k = int(fit_intercept)
    J = np.zeros((p + k, p + k))
    J[k:, :p] = np.diag(inv_scale[:p])
    if k:
        J[0, :p] = -inv_scale[:p] * center[:p]
        J[0, p] = 1.0
    return J


def largest_move(X, center, inv_scale, step):
    """How far a step in standardised coefficients, that of the intercept (if any) behind the slopes, moves the linear
    predictor of some row at most."""
    p = X.shape[1]
    slopes = inv_scale[:p] * step[:p]
    shift = step[p:].sum() - slopes @ center[:p]
    return max((np.abs(X[first : first + CHUNK_ROWS] @ slopes + shift).max() for first in range(0, len(X), CHUNK_ROWS)),
               default=0.0)
