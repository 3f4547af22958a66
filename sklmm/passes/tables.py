"""Tables with a row for each row of the data or for each cluster, a part at a time: scores and what they become."""

import numpy as np

from sklmm.families import LOGIT

OVERFLOWS = 1e30  # single precision does, soon after; where classes are separated information is as small
CHUNK = 1 << 14  # rows that are worked on at a time: they should stay in cache


def multiply_in_place(table, matrix):
    """table @ matrix, in the table's own memory: beside many clusters a second table would count.

    Parameters
    ----------
    table : ndarray of shape (n, k)
    matrix : ndarray of shape (k, k)

    Returns
    -------
    table : ndarray of shape (n, k)
    """
    if np.abs(matrix).max(initial=0.0) < OVERFLOWS:
        matrix = matrix.astype(table.dtype)
    for first in range(0, len(table), CHUNK):
        part = table[first : first + CHUNK]
        part[:] = part @ matrix
    return table


def in_order(values, place, n_places, default=0):
    """Values of clusters at their places, `default` at places without a cluster. No copy where they are in order."""
    if len(values) == n_places and (place[:-1] < place[1:]).all():
        return values
    out = np.empty((n_places, *values.shape[1:]), dtype=values.dtype)
    out[:] = default
    out[place] = values
    return out


def row_scores(X, y, beta, fit_intercept, family=LOGIT, offset=None):
    """Gradient of each row's log-likelihood, one of its copies' where weights count copies.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    y : ndarray of shape (n,)
    beta : ndarray
        The intercept, if any, and the slopes.
    fit_intercept : bool
    family : Bernoulli
    offset : ndarray of shape (n,) or None

    Returns
    -------
    ndarray of shape (n, n_fixed)
    """
    rows = np.asarray(X, dtype=np.float64)
    if fit_intercept:
        rows = np.column_stack([np.ones(len(rows)), rows])
    eta = rows @ beta if offset is None else rows @ beta + offset
    return family.scores(eta, y)[:, None] * rows


def row_products(X, y, beta, fit_intercept, sample_weight=None, family=LOGIT, offset=None):
    """Sum over rows of the outer products of their scores: the meat of the sandwich (White 1980).

    Returns
    -------
    ndarray of shape (n_fixed, n_fixed)
    """
    total = np.zeros((len(beta), len(beta)))
    for first in range(0, len(y), CHUNK):
        part = slice(first, first + CHUNK)
        own = None if offset is None else offset[part]
        scores = row_scores(X[part], y[part], beta, fit_intercept, family, own)
        total += scores.T @ (scores if sample_weight is None else scores * sample_weight[part, None])
    return total
