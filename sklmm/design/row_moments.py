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
        Of the slopes' part of the linear predictor (divisor of the variance: rows less 1). Without the offset, which
        no feature explains: R2 is of what coefficients were estimated for, as in R's performance.
    random_moments : list of ndarray of shape (q, q)
        For each grouping factor the mean of z z', where z are the columns of its random coefficients, centred and
        scaled as its `EffectUnits` do.
    offset_mean : float
    variance_with_offset : float or None
        Of the slopes' part and the offset together; None without an offset.
    """

    fixed_mean: float
    fixed_variance: float
    random_moments: list
    offset_mean: float = 0.0
    variance_with_offset: float | None = None


def row_moments(X, slopes, units, sample_weight=None, out=None, offset=None):
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
        Gets the linear predictors of the rows, with the offset, without the intercept.
    offset : ndarray of shape (n,) or None

    Returns
    -------
    RowMoments
    """
    n = X.shape[0]
    fixed, whole, total = _Moments(), _Moments(), 0.0
    moments = [np.ones((len(own.columns),) * 2) for own in units]
    sloped = [f for f, own in enumerate(units) if any(column >= 0 for column in own.columns)]
    for f in sloped:
        moments[f][:] = 0.0
    n_rows = int(np.clip(_CHUNK_SIZE // max(X.shape[1], 1), 256, 2048))
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        rows = np.asarray(X[part], dtype=np.float64)
        weight = None if sample_weight is None else sample_weight[part]
        total += float(len(rows)) if weight is None else weight.sum()
        eta = rows[:, : slopes.size] @ slopes
        with_offset = eta if offset is None else eta + offset[part]
        if out is not None:
            out[part] = with_offset
        if offset is not None:
            whole.add(with_offset, weight)
        fixed.add(eta, weight)
        for f in sloped:
            Z = units[f].design(rows)
            moments[f] += (Z if weight is None else Z * weight[:, None]).T @ Z
    for f in sloped:
        moments[f] /= total
    if offset is None:
        return RowMoments(fixed.mean, fixed.variance, moments)
    return RowMoments(fixed.mean, fixed.variance, moments, whole.mean - fixed.mean, whole.variance)


class _Moments:
    """Mean and variance of values that come in chunks: sums about each chunk's own mean, joined as Chan, Golub and
    LeVeque (1983) do, so that nothing cancels."""

    def __init__(self):
        self.total = self._mean = self._squares = 0.0

    def add(self, values, weight):
        """Values, which are overwritten, and their weights or None."""
        share = float(len(values)) if weight is None else weight.sum()
        if share == 0.0:
            return
        here = values.sum() / share if weight is None else weight @ values / share
        values -= here
        shift, joined = here - self._mean, self.total + share
        within = values @ (values if weight is None else weight * values)
        self._squares += within + shift**2 * self.total * share / joined
        self._mean += shift * share / joined
        self.total = joined

    @property
    def mean(self):
        return float(self._mean)

    @property
    def variance(self):
        return float(self._squares / max(self.total - 1, 1.0))
