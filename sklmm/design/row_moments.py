"""What inference needs to know of the rows once they are gone: moments, in one pass."""

from dataclasses import dataclass

import numpy as np

_CHUNK_SIZE = 1 << 13  # numbers that are taken at once: they stay in cache, and BLAS wakes no threads for so few


@dataclass(frozen=True)
class RowMoments:
    """Moments over the rows of a fit, each row counted by its weight.

    Attributes
    ----------
    fixed_mean, fixed_variance : float
        Of the slopes' part of the linear predictor (divisor of the variance: rows less 1).
    random_moments : list of ndarray of shape (q, q)
        For each grouping factor the mean of z z', where z multiplies its random coefficients.
    """

    fixed_mean: float
    fixed_variance: float
    random_moments: list


def row_moments(X, slopes, columns, sample_weight=None):
    """Moments of the rows of a fit.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32
    slopes : ndarray
        Of the first columns of X; others have random slopes only.
    columns : list of list of int
        For each grouping factor the column of X that multiplies each random coefficient; -1 is the intercept.
    sample_weight : ndarray of shape (n,) or None
        Counts of rows.

    Returns
    -------
    RowMoments
    """
    n = X.shape[0]
    total = mean = squares = 0.0
    moments = [np.zeros((len(own), len(own))) for own in columns]
    sloped = [f for f, own in enumerate(columns) if any(column >= 0 for column in own)]
    n_rows = int(np.clip(_CHUNK_SIZE // max(X.shape[1], 1), 256, 2048))
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        rows = np.asarray(X[part], dtype=np.float64)
        weight = None if sample_weight is None else sample_weight[part]
        share = float(len(rows)) if weight is None else weight.sum()
        eta = rows[:, : slopes.size] @ slopes
        # Sums about each chunk's own mean, joined as Chan, Golub and LeVeque (1983) do: nothing cancels.
        here = eta.sum() / share if weight is None else weight @ eta / share
        eta -= here
        shift, joined = here - mean, total + share
        squares += eta @ (eta if weight is None else weight * eta) + shift**2 * total * share / joined
        mean += shift * share / joined
        total = joined
        for f in sloped:
            Z = np.column_stack([np.ones(len(rows)) if j < 0 else rows[:, j] for j in columns[f]])
            moments[f] += (Z if weight is None else Z * weight[:, None]).T @ Z
    for f, own in enumerate(columns):
        moments[f] = moments[f] / total if f in sloped else np.ones((len(own), len(own)))
    return RowMoments(float(mean), float(squares / max(total - 1, 1.0)), moments)
