"""Calibration slopes and intercepts of resamples of groups: one logistic regression a resample, many solved at once.

Rows whose logits are next to each other are one cell, at the mean of the logits that a resample has there: what is left
of the rows are the weight and the sum of logits in each cell, products of sparse matrices and the groups' counts, and
sums over outcomes 1, which are exact. Newton's method works on all cells and resamples at once, from the solution of
the rows themselves. Cells of a hundredth of the logits' spread move a slope by far less than a thousandth of its
standard error; of few different logits each is a cell, and nothing moves.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from sklmm.accuracy.calibration import fit_intercept, fit_slope

MOST_EXACT = 1000  # different logits
_PER_SPREAD = 100
_MAX_ITER = 30
_SETTLED = 1e-9  # of a step, in units of the spread's inverse


class CalibrationOfCounts:
    """Calibration slope, or intercept with slope 1, as a function of how often each group counts.

    Parameters
    ----------
    x : ndarray of shape (n,)
        Logits of predictions.
    ones, zeros : ndarray of shape (n,)
        Weight of outcomes 1 and of outcomes 0 of each row.
    codes : ndarray of int, shape (n,)
        Groups, from 0.
    n_groups : int
    slope : bool
        Whether the slope is wanted, or the intercept.
    """

    def __init__(self, x, ones, zeros, codes, n_groups, *, slope):
        self.slope, self.rows = slope, (x, ones, zeros, codes)
        start = fit_slope(x, ones, zeros) if slope else (fit_intercept(x, ones, zeros), 1.0)
        self.is_defined = bool(np.isfinite(start).all())
        if not self.is_defined:
            return
        weight, cell = ones + zeros, _cells(x)
        # In units of the spread, so that the information is well conditioned however alike predictions are.
        self.centre = np.average(x, weights=weight) if slope else 0.0
        self.scale = np.sqrt(np.average((x - self.centre) ** 2, weights=weight)) if slope else 1.0
        z = (x - self.centre) / self.scale
        self.start = np.array([start[0] + start[1] * self.centre, start[1] * self.scale])
        shape = (cell.max() + 1, n_groups)
        self.weight, self.sum_z = (csr_array((part, (cell, codes)), shape=shape) for part in (weight, weight * z))
        self.of_ones = np.array([np.bincount(codes, part, n_groups) for part in (ones, ones * z)])
        self.ends = [_ends(x, part, codes, n_groups) for part in (ones, zeros)]

    def __call__(self, counts):
        """The slope, or intercept, of resamples; NaN where there is none.

        Parameters
        ----------
        counts : ndarray of shape (n_groups, n_resamples)

        Returns
        -------
        values : ndarray of shape (n_resamples,)
        """
        values = np.full(counts.shape[1], np.nan)
        if not self.is_defined:  # nor has a part of the rows two overlapping classes
            return values
        of_ones, weight, sum_z = (part @ counts for part in (self.of_ones, self.weight, self.sum_z))
        there = (of_ones[0] > 0) & (weight.sum(axis=0) > of_ones[0])
        if self.slope:
            there &= self._overlap(counts)
        if there.any():
            z = np.divide(sum_z, weight, out=np.zeros_like(weight), where=weight > 0)
            values[there] = self._solve(of_ones[:, there], weight[:, there], z[:, there])
            for r in np.flatnonzero(there & ~np.isfinite(values)):
                values[r] = self._exact(counts[:, r])
        return values

    def _solve(self, of_ones, weight, z):
        """Newton's method for every resample; NaN where it does not arrive."""
        a, b = (np.full(weight.shape[1], value) for value in self.start)
        settled = np.zeros(len(a), dtype=bool)
        with np.errstate(all="ignore"):  # what runs away is solved by other means
            for _ in range(_MAX_ITER):
                mu = expit(a + b * z)
                expected = weight * mu
                curvature = expected * (1 - mu)
                score, information = of_ones[0] - expected.sum(axis=0), curvature.sum(axis=0)
                if self.slope:
                    score_z, cross = of_ones[1] - (expected * z).sum(axis=0), (curvature * z).sum(axis=0)
                    information_z = (curvature * z * z).sum(axis=0)
                    determinant = information * information_z - cross**2
                    a = a + (information_z * score - cross * score_z) / determinant
                    step = (information * score_z - cross * score) / determinant
                    b = b + step
                else:
                    step = score / information
                    a = a + step
                settled = np.abs(step) <= _SETTLED
                if np.all(settled | ~np.isfinite(step)):
                    break
        return np.where(settled, b / self.scale if self.slope else a, np.nan)

    def _overlap(self, counts):
        """Whether neither class lies wholly on one side of the other, as `fit_slope` asks."""
        present = counts > 0
        (lowest_one, highest_one), (lowest_zero, highest_zero) = (
            (
                np.where(present, low[:, None], np.inf).min(axis=0),
                np.where(present, high[:, None], -np.inf).max(axis=0),
            )
            for low, high in self.ends
        )
        return (lowest_one < highest_zero) & (lowest_zero < highest_one)

    def _exact(self, count):
        x, ones, zeros, codes = self.rows
        ones, zeros = ones * count[codes], zeros * count[codes]
        return fit_slope(x, ones, zeros)[1] if self.slope else fit_intercept(x, ones, zeros)


def _cells(x):
    """The cell of each row, from 0: its logit, or where these are many, one of even width."""
    different, cell = np.unique(x, return_inverse=True)
    if len(different) <= MOST_EXACT:
        return cell
    step = np.floor((x - different[0]) / (x.std() / _PER_SPREAD))
    return np.unique(step, return_inverse=True)[1]


def _ends(x, weight, codes, n_groups):
    """The smallest and the largest logit of each group's rows of a class; infinite where it has none."""
    low, high = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
    there = weight > 0
    np.minimum.at(low, codes[there], x[there])
    np.maximum.at(high, codes[there], x[there])
    return low, high
