"""Calibration slopes and intercepts of resamples of groups, from sums over groups.

The score of a logistic regression is expanded around the estimate of all groups, up to fourth order in the change of
the coefficients; the expansion's coefficients are sums of weight * expit^(k)(linear predictor) * x^j. Those of a
resample are the groups' sums times their counts, and Newton's method solves the expanded equations of many resamples at
once. One step with the first order alone is the one-step bootstrap (Shao and Tu 1995, section 5.3.4). The higher orders
are for accuracy; where they matter too much to be the last ones, as where one group holds much of the rows, the
equations themselves are solved, of many resamples at once: with each group's weight at a grid of values of x, which it
takes only for what the score changes by from the estimate. Its error is then a small part of that change.

References
----------
Shao J, Tu D (1995). The Jackknife and Bootstrap. Springer.
"""

from functools import cached_property
from math import comb, factorial

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from sklmm.accuracy.calibration import fit_intercept, fit_slope

ORDER = 4
TRUSTED = (5e-3, 5e-4)  # what the third and the fourth order may change, in standard errors
POINTS = 2048  # of the grid; fewer different values are their own
# From a point to the next: change of the linear predictor at most, and share of the standard deviation of x. Errors are
# of the order of their squares, divided by 24 and by 6, times what changes from the estimate.
STEEPEST, WIDEST = 0.1, 0.05
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
        self.coefficients = intercept, steepness
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
        rest = np.flatnonzero(~trusted)
        if rest.size:
            values[rest] = np.nan
            rest = rest[self._has_maximum(counts[:, rest])]
        if rest.size:
            values[rest] = self._solved(counts[:, rest])
        for r in rest[np.isnan(values[rest])]:
            values[r] = self._exact(counts[:, r])
        return values

    def _exact(self, count):
        x, ones, zeros, codes = self.rows
        ones, zeros = ones * count[codes], zeros * count[codes]
        return fit_slope(x, ones, zeros)[1] if self.slope else fit_intercept(x, ones, zeros)

    # The equations themselves ---------------------------------------------------------------------------------

    def _has_maximum(self, counts):
        """Which resamples have both classes, and for a slope classes that no value of `x` separates."""
        reach = [np.where(counts > 0, ends[:, None], np.inf).min(axis=0) for ends in self._ends]
        lowest_one, least_one, lowest_zero, least_zero = reach  # the highest are minus the least of -x
        both = np.isfinite(lowest_one) & np.isfinite(lowest_zero)
        return both & (lowest_one < -least_zero) & (lowest_zero < -least_one) if self.slope else both

    @cached_property
    def _ends(self):
        """By group the lowest `x` and the lowest -x of outcomes 1, then of outcomes 0; infinity where there is none."""
        x, ones, zeros, codes = self.rows
        ends = np.full((4, self.sums.shape[1]), np.inf)
        for k, (weight, values) in enumerate([(ones, x), (ones, -x), (zeros, x), (zeros, -x)]):
            np.minimum.at(ends[k], codes[weight > 0], values[weight > 0])
        return ends

    @cached_property
    def _grid(self):
        """Values of `x`, the largest distance between them, and the weight of each group at each of them.

        A row between two points counts at both, the nearer the more, so that sums of weights times x stay right.
        """
        x, ones, zeros, codes = self.rows
        points, place = np.unique(x, return_inverse=True)
        share, apart = np.zeros(len(x)), 0.0
        if len(points) > POINTS:
            points, apart = np.linspace(points[0], points[-1], POINTS, retstep=True)
            place = np.minimum(((x - points[0]) / apart).astype(np.intp), POINTS - 2)
            share = np.clip((x - points[place]) / apart, 0.0, 1.0)
        weight, above = ones + zeros, np.minimum(place + 1, len(points) - 1)
        entries = np.concatenate([weight * (1 - share), weight * share])
        cells = np.concatenate([place, above]), np.concatenate([codes, codes])
        return points, apart, csr_array((entries, cells), shape=(len(points), self.sums.shape[1]))

    def _solved(self, counts):
        """The slope, or intercept, of resamples that have one; NaN where Newton's method or the grid is not enough."""
        x, apart, weight_of = self._grid
        weight, powers = weight_of @ counts, np.stack([np.ones_like(x), x, x**2])
        start = self.sums[[self.index[0, j] for j in range(1 + self.slope)]] @ counts  # exact, at the estimate
        at_start = expit(self.coefficients[0] + self.coefficients[1] * x)[:, None]
        moments = powers @ weight
        a, b = np.tile(np.reshape(self.coefficients, (2, 1)), counts.shape[1])
        for _ in range(_MAX_ITER):
            mu = expit(a + b * x[:, None])
            score = start - powers[: len(start)] @ (weight * (mu - at_start))
            h = powers @ (weight * mu * (1 - mu))
            if self.slope:
                determinant = h[0] * h[2] - h[1] ** 2
                step_a = (h[2] * score[0] - h[1] * score[1]) / determinant
                step_b = (h[0] * score[1] - h[1] * score[0]) / determinant
            else:
                step_a, step_b = score[0] / h[0], np.zeros(counts.shape[1])
            # Steps that change the linear predictors by 1 at most, on average, do not run away.
            size = (step_a**2 * moments[0] + 2 * step_a * step_b * moments[1] + step_b**2 * moments[2]) / moments[0]
            short = 1 / np.maximum(np.sqrt(np.maximum(size, 0.0)), 1.0)
            a, b = a + short * step_a, b + short * step_b
            last = step_b if self.slope else step_a
            settled = np.abs(last) <= 1e-5 * self.std_error  # and the next step is its square
            if np.all(settled | ~np.isfinite(last)):
                break
        spread = np.sqrt(np.maximum(moments[2] / moments[0] - (moments[1] / moments[0]) ** 2, 0.0))
        fine = (np.abs(b) * apart <= STEEPEST) & (apart <= WIDEST * spread)
        return np.where(settled & fine, b if self.slope else a, np.nan)

    # The expanded ones ----------------------------------------------------------------------------------------

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
