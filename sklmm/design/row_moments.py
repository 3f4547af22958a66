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
        For each grouping factor the mean of z z', where z are the columns of its random coefficients, centred and
        scaled as its `EffectUnits` do.
    """

    fixed_mean: float
    fixed_variance: float
    random_moments: list


def row_moments(X, slopes, units, sample_weight=None, out=None):
    """Moments of the rows of a fit.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32
    slopes : ndarray
        Of the first columns of X; others have random slopes only.
    units : list of EffectUnits
        Of each grouping factor.
    sample_weight : ndarray of shape (n,) or None
        Counts of rows.
    out : ndarray of shape (n,) or None
        Gets the linear predictors of the rows, without the intercept.

    Returns
    -------
    RowMoments
    """
    n = X.shape[0]
    total = mean = squares = 0.0
    moments = [np.ones((len(own.columns),) * 2) for own in units]
    sloped = [f for f, own in enumerate(units) if any(column >= 0 for column in own.columns)]
    for f in sloped:
        moments[f][:] = 0.0
    n_rows = int(np.clip(_CHUNK_SIZE // max(X.shape[1], 1), 256, 2048))
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        rows = np.asarray(X[part], dtype=np.float64)
        weight = None if sample_weight is None else sample_weight[part]
        share = float(len(rows)) if weight is None else weight.sum()
        eta = rows[:, : slopes.size] @ slopes
        if out is not None:
            out[part] = eta
        # Sums about each chunk's own mean, joined as Chan, Golub and LeVeque (1983) do: nothing cancels.
        here = eta.sum() / share if weight is None else weight @ eta / share
        eta -= here
        shift, joined = here - mean, total + share
        squares += eta @ (eta if weight is None else weight * eta) + shift**2 * total * share / joined
        mean += shift * share / joined
        total = joined
        for f in sloped:
            Z = units[f].design(rows)
            moments[f] += (Z if weight is None else Z * weight[:, None]).T @ Z
    for f in sloped:
        moments[f] /= total
    return RowMoments(float(mean), float(squares / max(total - 1, 1.0)), moments)
