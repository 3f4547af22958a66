"""The estimating equations of measured outcomes: identity link, variance function 1.

With D_i = X_i and standard deviations of 1, cluster i has U_i = X_i' R_i^-1 (y_i - X_i beta) and M_i = X_i' R_i^-1 X_i
(Liang and Zeger 1986, section 3), linear in the coefficients. So outcomes may be shifted by any X beta, and are: what
the passes see are the residuals of ordinary least squares, less the offset, in units of their own size. Then no digits
are lost where outcomes are far from 0 or where little of them is left to explain, tolerances are in standard errors,
and quasi-likelihoods, sums of squares, are of the size of log-likelihoods.
"""

from dataclasses import replace

import numpy as np

from sklmm.estimating.equations import MEAN_SQUARES, SQUARES, Equations, Moments

EXACT = 4.0 * np.finfo(float).eps  # residuals of so much of what they are the difference of are its rounding error
REFINED = 1e-3  # of the residuals before: a step of least squares that leaves less may have left its own errors, too
MOST_STEPS = 5  # of least squares
WORST = 10.0  # times the sum of squares about the mean: a solution with more has run away from the data


class LinearEquations(Equations):
    """Sums over clusters at given coefficients and working correlation; see `Equations`.

    Attributes
    ----------
    unit : float
        The root mean square of the residuals of ordinary least squares, or 1 where these are 0.
    is_exact : bool
        Whether the coefficients give every outcome, to rounding.
    """

    def __init__(
        self, X, y, clusters, correlation, fit_intercept, dispersion, ddof_correction, n_threads, family, offset
    ):
        outcome = np.array(y, dtype=np.float64) if offset is None else y - offset
        settings = fit_intercept, dispersion, ddof_correction, n_threads, family
        super().__init__(X, outcome, clusters, correlation, *settings, None)
        # `self.y` is an array of its own, which the kernel looks into, and is written to from here on
        size = self._root_mean_square()
        self._outcome_center = np.average(self.y, weights=clusters.w) if fit_intercept else 0.0
        self.y -= self._outcome_center
        self._total = self.n_obs * self._root_mean_square() ** 2
        self._shift = np.zeros(self.m)
        self._take_off_least_squares(size)
        self.dispersion = None if dispersion is None else dispersion / self.unit**2
        self._given_dispersion = dispersion

    def _root_mean_square(self):
        w = self.clusters.w
        return float(np.sqrt(np.mean(self.y**2) if w is None else w @ self.y**2 / self.n_obs))

    def _take_off_least_squares(self, size):
        """Turns outcomes of this size before they were centred into residuals, and those into multiples of `unit`."""
        left = self._root_mean_square()
        for _ in range(MOST_STEPS):
            if left <= EXACT * (size + np.abs(self._shift).sum()):
                break
            _, _, S, U = self.evaluate(np.zeros(self.m), None)
            step, before = self.bread(S) @ U, left
            self._shift += step
            self.y -= self.kernel.predictors(self._half(step))
            left = self._root_mean_square()
            if left > REFINED * before:
                break
        self.is_exact = left <= EXACT * (size + np.abs(self._shift).sum())
        self.unit = 1.0 if self.is_exact else left
        self.y *= 0.0 if self.is_exact else 1.0 / left

    # What differs from two classes -------------------------------------------------------------------------

    def sample_strides(self):
        """No samples: least squares of all rows has been found in one pass."""
        return [1]

    def start(self, null):
        """Least squares, which is where the outcomes were shifted to."""
        return np.zeros(self.m)

    def intercept_only(self):
        """Coefficients of the model without slopes."""
        return -self._shift / self.unit

    def value_without_slopes(self, beta, stride=1):
        """Minus half the sum of squares about the mean (without an intercept about 0), as quasi-likelihoods are."""
        return -0.5 * self._total / self.unit**2

    def lowest(self, null, stride=1):
        """Quasi-likelihood below which there is nothing to be looked for.

        Whatever the working correlation, its solution is the best one by its own measure, and the only one. Of single
        rows it may say less than their mean does, as where effects within clusters are not those between them; but it
        should not lie far from all rows, as it can with weights that differ within strongly correlated clusters.
        """
        return WORST * self.value_without_slopes(null)

    def estimate(self, scalars, products):
        """As of two classes; residuals that are 0 are taken to be of any size, and not to be correlated."""
        if not self.is_exact:
            return super().estimate(scalars, products)
        scalars = scalars.copy()
        scalars[SQUARES], scalars[MEAN_SQUARES] = self.n_obs, self._mean_rows
        dispersion, alpha, trouble = super().estimate(scalars, np.zeros_like(products))
        if self.moments != Moments.NO_PAIRS:
            trouble = "cannot be estimated: the features give every outcome exactly, and leave no residuals"
        return 0.0 if self.dispersion is None else dispersion, alpha, trouble

    def natural(self, beta):
        """Coefficients in the user's units, the intercept (if any) first; aliased columns have none."""
        natural = super().natural(self._shift + self.unit * beta)
        natural[: int(self.fit_intercept)] += self._outcome_center
        return natural

    def in_users_units(self, fit):
        """A `GEEFit` whose outcomes were counted in `unit`."""
        square = self.unit**2
        return replace(
            fit,
            dispersion=fit.dispersion * square if self.dispersion is None else float(self._given_dispersion),
            meats=fit.meats * square,
            quasi_likelihood=fit.quasi_likelihood * square,
            independence_information=fit.independence_information / square,
            influence=None if fit.influence is None else fit.influence * np.float32(self.unit),
        )
