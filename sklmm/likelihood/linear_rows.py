"""What cross-products of all kinds begin with: rows, units of the outcome, weights, the columns that are kept."""

import numpy as np

from sklmm._kernels._crossproducts import RowProducts
from sklmm.design.row_moments import RowMoments
from sklmm.design.units import row_sample
from sklmm.likelihood.prepared import PreparedRows
from sklmm.passes.blocks import ACCUMULATOR_BYTES, MAX_CHUNKS, rows_of_tile


class LinearRows(PreparedRows):
    """Base of what has the cross-products of a linear model's rows.

    The model is y = offset + X beta + Z b + e with b ~ N(0, sigma^2 Lambda Lambda') and e ~ N(0, sigma^2 / precision);
    a row counts as often as its weight says. E are the columns of X that are estimated, the intercept's, and y, all
    centred and scaled, so that cross-products of numbers far from 0 do not cancel.

    Parameters
    ----------
    observations : Observations
        y : ndarray of float64.
    structure : Structure
    n_threads : int
    units : Units or None
    offset, precision : ndarray of shape (n,) or None
    y_units : (float, float) or None
        Centre and scale of the outcome; None: those that suit it.
    keep_all : bool
        Whether columns are kept that these rows do not tell apart: where coefficients are known already.

    Attributes
    ----------
    kept : ndarray
        Positions in the engine's parameters of the fixed effects that are estimated.
    f, k : int
        How many they are, and the columns of E.
    y_center, y_scale : float
    n_counted : float
        Rows as often as they count.
    log_precision : float
        Sum of the logarithms of the rows' precisions.
    log_scales : float
        log|det| of d(natural)/d(internal) of the estimated fixed effects.
    """

    def __init__(self, observations, structure, n_threads, units=None, offset=None, precision=None, y_units=None,
                 keep_all=False):
        super().__init__(observations, structure, n_threads, units)
        rows, units = self.observations, self.units
        self.offset, self.precision, weights = offset, precision, rows.weights
        left_out = self.aliased & (not keep_all)
        self.kept = np.append(np.flatnonzero(~left_out), np.arange(units.p, self.n_fixed))
        self.f = self.kept.size
        self.k = self.f + 1
        self.columns = np.append(self.kept, self.n_fixed).astype(np.int64)
        self.n_counted = float(rows.n_counted)
        self.log_precision = 0.0
        if precision is not None:
            logs = np.log(precision)
            self.log_precision = float(logs.sum() if weights is None else weights @ logs)
        self.row_weights = weights if precision is None else precision if weights is None else weights * precision
        self.log_scales = float(np.log(units.inv_scale[self.kept[self.kept < units.p]]).sum())
        self.y_center, self.y_scale = self._outcome_units() if y_units is None else y_units

    def _outcome_units(self):
        rows = self.observations
        outcome = rows.y if self.offset is None else rows.y - self.offset
        sample, share = row_sample(outcome[:, None], rows.weights)
        center = float(share @ sample[:, 0]) if self.units.fit_intercept else 0.0
        scale = float(np.sqrt(share @ (sample[:, 0] - center) ** 2))
        if not scale > 1e-12 * abs(center):
            whole = np.abs(outcome - center).max(initial=0.0)
            scale = float(whole) if whole > 0 else 1.0
        return center, scale

    def chunks(self, start, numbers):
        """First cluster of each chunk of about as many rows: so many that their accumulators do not fill memory."""
        n, n_clusters = int(start[-1]), len(start) - 1
        most = min(MAX_CHUNKS, max(4, ACCUMULATOR_BYTES // (8 * max(1, numbers))))
        first = np.searchsorted(start[:-1], np.linspace(0, n, most + 1)[:-1])
        return np.unique(np.append(np.minimum(first, n_clusters), [0, n_clusters])).astype(np.int64)

    def row_products(self, coefficients, order):
        """The rows in an order, ready for passes; Z are these random coefficients."""
        units, rows = self.units, self.observations
        y = np.ascontiguousarray(rows.y, dtype=np.float64)
        z = (np.ascontiguousarray(part[coefficients]) for part in (units.columns, units.z_center, units.z_inv_scale))
        tile = rows_of_tile(self.n_fixed + 1 + 2 * len(coefficients))
        return RowProducts(
            rows.X, units.center, units.inv_scale, units.fit_intercept, self.columns, y, self.offset, self.row_weights,
            self.y_center, 1.0 / self.y_scale, *z, order, tile,
        )  # fmt: skip

    def beta(self, estimated):
        """Fixed effects in the engine's order, 0 for those that are not estimated."""
        out = np.zeros(self.n_fixed)
        out[self.kept] = estimated
        return out

    def row_moments(self, beta):
        """Moments of the rows at the estimated fixed effects, from the cross-products.

        None where these are not counted by `sample_weight` alone, where there is an offset, or nothing to centre by.
        """
        if not self.units.fit_intercept or self.offset is not None or self.precision is not None:
            return None
        n, slopes = self.n_counted, self.y_scale * beta[:-1]
        of_slopes = np.append(slopes, [0.0, 0.0])
        shift = float(of_slopes @ self.C[-2]) / n
        variance = (float(of_slopes @ self.C @ of_slopes) - n * shift**2) / max(n - 1.0, 1.0)
        columns = self.kept[:-1]
        mean = shift + float(slopes @ (self.units.inv_scale[columns] * self.units.center[columns]))
        return RowMoments(mean, max(variance, 0.0), [squares / n for squares in self.random_squares()])

    def natural_beta(self, beta):
        """Fixed effects in the user's units, the intercept first, from all fixed effects of the engine."""
        out = self.y_scale * (self.units.fixed_map() @ beta)
        if self.units.fit_intercept:
            out[0] += self.y_center
        return out
