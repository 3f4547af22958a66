"""Calibration slopes and intercepts of resamples of groups, from sums over groups.

The score of a logistic regression is expanded around the estimate of all groups, up to fourth order in the change of
the coefficients; the expansion's coefficients are sums of weight * expit^(k)(linear predictor) * x^j. Those of a
resample are the groups' sums times their counts, and Newton's method solves the expanded equations of many resamples at
once. One step with the first order alone is the one-step bootstrap (Shao and Tu 1995, section 5.3.4). The higher orders
are for accuracy; where they matter too much to be the last ones, the equations themselves are solved.

References
----------
Shao J, Tu D (1995). The Jackknife and Bootstrap. Springer.
"""

from functools import cached_property
from math import comb, factorial

import numpy as np
from scipy.special import expit

from sklmm.accuracy.calibration import fit_intercept, fit_slope

ORDER = 4
TRUSTED = (5e-3, 5e-4)  # what the third and the fourth order may change, in standard errors
MANY_ROWS = 50_000
_MAX_ITER = 25


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
        self.slope = slope
        self.rows = (x, ones, zeros, codes)
        intercept, steepness = fit_slope(x, ones, zeros) if slope else (fit_intercept(x, ones, zeros), 1.0)
        self.estimate = steepness if slope else intercept
        if not np.isfinite(self.estimate):
            return
        weight, mu = ones + zeros, expit(intercept + steepness * x)
        v = mu * (1 - mu)
        derivatives = [v, v * (1 - 2 * mu), v * (1 - 6 * v), v * (1 - 2 * mu) * (1 - 12 * v)]

        def by_group(values):
            return np.bincount(codes, values, n_groups)

        # Of each order k >= 1, sums with x^j, j = 0, ..., k + 1; of order 0 the residuals take the place of -expit.
        residual = ones - weight * mu
        sums = {(0, j): by_group(residual * x**j) for j in range(1 + slope)}
        for k, derivative in enumerate(derivatives, start=1):
            for j in range(k + 2 if slope else 1):
                sums[k, j] = by_group(weight * derivative * x**j)
        self.index = {key: row for row, key in enumerate(sums)}
        self.sums = np.array(list(sums.values()))
        self.std_error = self._std_error()

    def _std_error(self):
        """Standard error of the estimate, robust to what rows of a group have in common."""
        total = {key: self.sums[row].sum() for key, row in self.index.items()}
        if not self.slope:
            return np.sqrt(np.sum(self.sums[self.index[0, 0]] ** 2)) / total[1, 0]
        score = np.array([self.sums[self.index[0, j]] for j in (0, 1)])
        information = np.array([[total[1, i + j] for j in (0, 1)] for i in (0, 1)])
        return np.sqrt(np.sum(np.linalg.solve(information, score)[1] ** 2))

    def __call__(self, counts):
        """The slope, or intercept, of resamples; NaN where there is none.

        Parameters
        ----------
        counts : ndarray of shape (n_groups, n_resamples)

        Returns
        -------
        values : ndarray of shape (n_resamples,)
        """
        if not np.isfinite(self.estimate):  # nor has a part of the rows two overlapping classes
            return np.full(counts.shape[1], np.nan)
        sums = self.sums @ counts
        change, trusted = np.zeros((2, counts.shape[1])), np.ones(counts.shape[1], dtype=bool)
        with np.errstate(all="ignore"):  # what runs away is not trusted
            for order, most in zip((ORDER - 2, ORDER - 1, ORDER), (np.inf, *TRUSTED), strict=True):
                before, change = change, self._solve(sums, order, change)
                trusted &= np.abs(change - before)[-1] <= most * self.std_error
        values = self.estimate + change[-1]
        for r in np.flatnonzero(~trusted):
            values[r] = self._exact(counts[:, r])
        return values

    def _exact(self, count):
        x, ones, zeros, codes = self._cells
        ones, zeros = ones * count[codes], zeros * count[codes]
        return fit_slope(x, ones, zeros)[1] if self.slope else fit_intercept(x, ones, zeros)

    @cached_property
    def _cells(self):
        """The rows; of very many, those of a group whose `x` are within a thousandth of its spread are one."""
        x, ones, zeros, codes = self.rows
        if len(x) <= MANY_ROWS:
            return self.rows
        grid = x.std() / 1000
        step = np.rint((x - x.min()) / grid).astype(np.int64)
        cell, first = np.unique(step * (codes.max() + 1) + codes, return_index=True, return_inverse=True)[2:0:-1]
        ones, zeros = np.bincount(cell, ones), np.bincount(cell, zeros)
        return x.min() + grid * step[first], ones, zeros, codes[first]

    def _solve(self, sums, order, start):
        """Change of intercept and slope that solves the equations of an order; NaN if Newton's method fails.

        Without a slope, both are the change of the intercept.
        """
        a, b = start
        for _ in range(_MAX_ITER):
            # (a + b x)^i / i! is a sum of x^j times these.
            terms = [
                [comb(i, j) / factorial(i) * a ** (i - j) * b**j for j in range(i + 1 if self.slope else 1)]
                for i in range(order + 1)
            ]
            if self.slope:
                score = [sums[self.index[0, m]] - self._expanded(sums, terms[1:], m) for m in (0, 1)]
                h00, h01, h11 = (self._expanded(sums, terms[:-1], m) for m in (0, 1, 2))
                determinant = h00 * h11 - h01**2
                step_a = (h11 * score[0] - h01 * score[1]) / determinant
                step_b = (h00 * score[1] - h01 * score[0]) / determinant
                a, b, step = a + step_a, b + step_b, step_b
            else:
                step = (sums[self.index[0, 0]] - self._expanded(sums, terms[1:], 0)) / self._expanded(
                    sums, terms[:-1], 0
                )
                a = a + step
            settled = np.abs(step) <= 1e-9 * self.std_error
            if np.all(settled | ~np.isfinite(step)):
                break
        return np.where(settled, [a, b if self.slope else a], np.nan)

    def _expanded(self, sums, terms, power):
        """Sum over k = 1, 2, ... of the k-th derivative's sums with x^(j + power) times the terms of the k-th entry."""
        return sum(
            sums[self.index[k, j + power]] * term for k, row in enumerate(terms, start=1) for j, term in enumerate(row)
        )
