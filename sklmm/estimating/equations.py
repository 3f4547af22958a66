"""The estimating equations: score, sensitivity and residual moments as sums over clusters.

With the standard deviations S = sqrt(mu (1 - mu)), Pearson residuals e = (y - mu) / S and working covariance V_i = phi
diag(S) R_i diag(S), cluster i has the estimating function U_i = D_i' V_i^-1 (y_i - mu_i) and the sensitivity M_i = D_i'
V_i^-1 D_i, D_i = diag(d mu / d eta) X_i (Liang and Zeger 1986, equations 6 and 7). In terms of rows whitened by
R_i^-1/2 both are plain sums of products: see `_kernels/_gee.h`.
"""

from dataclasses import dataclass, field

import numpy as np

from sklmm._kernels._gee import GEEKernel, Moments, Whitening
from sklmm._kernels._grouping import gather_rows
from sklmm.design.aliasing import aliased_columns, dependent
from sklmm.design.separation import separating_direction
from sklmm.design.units import center_of_offset, column_scales, natural_map, row_sample
from sklmm.estimating.clusters import Timing
from sklmm.estimating.correlation import AR1, MARGIN, Exchangeable, ResidualMoments
from sklmm.optimize.newton import FitReport
from sklmm.passes.blocks import Blocks, rows_of_tile
from sklmm.passes.offsets import intercept_beside, log_likelihood_at
from sklmm.passes.tables import in_order

FAY_GRAUBARD_BOUND = 0.75  # of a leverage, as Fay and Graubard (2001) propose
MOST_SEPARABLE = 1_000_000  # numbers in a linear program
NOTHING_NEW = 1e-13  # of a column's information, given those before it: rounding error
LEVERAGE_ONE = 1e-8  # a cluster whose leverage is this close to 1 determines a coefficient alone
VALUE, SQUARES, MEAN_SQUARES, PLAIN_VALUE = range(4)  # sums that a pass returns


@dataclass
class GEEFit:
    """Fitted estimating equations in numbers; beta is in the user's units, the intercept (if any) first.

    Attributes
    ----------
    beta : ndarray of shape (n_fixed,)
        0 for aliased columns.
    alpha : ndarray
    dispersion : float
    bread : ndarray of shape (k, k)
        Inverse of sum D'(S R S)^-1 D, without the dispersion; in internal coordinates, identified coefficients only.
    meats : ndarray of shape (4, k, k)
        Sums of products of the scores: plain, Kauermann-Carroll, Mancl-DeRouen, Fay-Graubard; NaN where undefined.
    coordinates : ndarray of shape (n_fixed, k)
        d(beta)/d(identified internal coefficients).
    quasi_likelihood : float
    independence_information : A = X'WX / phi of the independence fit, in internal coordinates; NaN where phi is 0.
    aliased, separated : columns of X; -1 is the intercept.
    times : ndarray
        The union of times, where the structure has a matrix over them; else those of the largest cluster (at most
        1,000).
    trouble : str or None
        What was done where the working correlation's estimate was out of range, or is not what its definition says.
    cluster_sizes : (smallest, largest)
    n_clusters : int
    too_light : whether weights left no degrees of freedom to take off.
    influence : ndarray of shape (n_clusters, n_fixed), float32, or None
        What each group adds to beta: beta less that after a step of Fisher scoring without the group. None without
        groups.
    level_rows : ndarray of shape (n_clusters,)
        Rows of each group.
    report : FitReport
    """

    beta: np.ndarray
    alpha: np.ndarray
    dispersion: float
    bread: np.ndarray
    meats: np.ndarray
    coordinates: np.ndarray
    quasi_likelihood: float
    independence_information: np.ndarray
    aliased: list
    separated: list
    times: np.ndarray
    trouble: str | None
    cluster_sizes: tuple
    n_clusters: int
    too_light: bool
    influence: np.ndarray | None
    level_rows: np.ndarray
    report: FitReport = field(default_factory=FitReport)


class Equations:
    """Sums over clusters at given coefficients and working correlation.

    Coefficients are those of standardised columns, the intercept behind the slopes; it takes in the mean of the offset,
    as `sklmm.design.units.Units` has it. `sklmm.estimating.linear` has those of measured outcomes, which are
    standardised, too: one `unit` is so much in the user's numbers.
    """

    unit, bounded = 1.0, False  # bounded: a penalty keeps coefficients from infinity

    def __init__(
        self, X, y, clusters, correlation, fit_intercept, dispersion, ddof_correction, n_threads, family, offset
    ):
        if not X.flags.aligned or any(step % X.itemsize for step in X.strides):
            X = np.ascontiguousarray(X)
        self.clusters, self.correlation, self.family = clusters, correlation, family
        self.dispersion, self.ddof_correction = dispersion, ddof_correction
        n, p = X.shape
        self.n_rows, self.p, self.m, self.fit_intercept = n, p, p + fit_intercept, fit_intercept
        w = clusters.w
        self.n_obs = float(n) if w is None else float(w.sum())
        X = X if clusters.order is None else gather_rows(X, clusters.order)
        self.X, self.y = X, y if clusters.order is None else y[clusters.order]
        self._center, self._inv_scale = column_scales(*row_sample(X, w), fit_intercept, X, w)
        aliased = aliased_columns(X, self._center[:p], self._inv_scale[:p], w, fit_intercept)
        self.active = np.append(~aliased, np.ones(int(fit_intercept), dtype=bool))
        self.n_coefficients = int(self.active.sum())
        self.timing = timing = Timing(clusters, correlation, ddof_correction)
        self.whitening, self.moments = timing.whitening, timing.moments
        self._factor = None  # the last alpha and its factors
        if timing.whitening == Whitening.DENSE:  # where these have their diagonals
            sizes = np.diff(timing.patterns[1])
            first = np.append(0, np.cumsum(sizes**2)[:-1])
            row = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            self._diagonal = np.repeat(first, sizes) + row * (np.repeat(sizes, sizes) + 1)
        root_w = None if w is None else np.sqrt(w)
        ld = (self.m + 8) // 8 * 8
        tile = rows_of_tile(ld)
        if self.whitening == Whitening.DENSE:  # a cluster is factored as a whole
            tile = max(tile, (clusters.largest + 7) // 8 * 8)
        self.blocks = blocks = Blocks(clusters.start, tile, 8 * (5 * self.m * ld + self.timing.n_moments))
        self.kernel = GEEKernel(
            X, self._center, self._inv_scale, fit_intercept, self.y, root_w, ddof_correction, clusters.start,
            blocks.first, blocks.chunk, tile, min(n_threads, blocks.chunk.size - 1),
            int(timing.whitening), int(timing.moments), timing.n_moments, timing.gap, timing.position, timing.n_times,
            *timing.patterns, family=family.code,
        )  # fmt: skip
        offset = None if offset is None else clusters.in_order(offset)
        self._offset_center = center_of_offset(offset, w, fit_intercept)
        self.offset = None if offset is None else offset - self._offset_center
        self.kernel.add_offset(self.offset)
        self._count_moments(w)

    def sample_strides(self):
        """The samples of blocks to climb through, see `sklmm.passes.blocks`."""
        return self.blocks.strides(self.X, self.y, self.clusters.sizes.size, self.m)

    # Moments -----------------------------------------------------------------------------------------------

    def _count_moments(self, w):
        """What the sums of residual products are divided by."""
        clusters = self.clusters
        self._cluster_rows = clusters.sizes.astype(float) if w is None else clusters.sums(w)
        self._mean_rows = float((self._cluster_rows / clusters.sizes).sum())
        self.counts = np.zeros(1)
        if self.moments == Moments.ADJACENT_PAIRS:
            share = np.ones(self.n_rows)
            if w is not None:
                share[1:] = np.sqrt(w[1:] * w[:-1])
            share /= np.repeat(np.maximum(clusters.sizes - 1, 1), clusters.sizes)
            share[clusters.start[:-1]] = 0.0
            gap = self.timing.gap
            self.counts = np.array([share.sum()]) if gap is None else np.bincount(gap, share, len(self.timing.gaps))
        elif self.moments != Moments.NO_PAIRS:
            self.counts = self.kernel.count()

    def scale(self, squares):
        """The dispersion that residuals with this sum of squares show."""
        spare = self.n_obs - self.n_coefficients
        return squares / (spare if self.ddof_correction and spare > 0 else self.n_obs)

    def estimate(self, scalars, products):
        """Dispersion, and the working correlation's parameters within their range.

        Returns
        -------
        dispersion : float
        alpha : ndarray
        trouble : str or None
            What was done where the estimates were out of range, or are not what their definitions say.
        """
        estimated = self.scale(scalars[SQUARES])
        dispersion = estimated if self.dispersion is None else self.dispersion
        if self.moments == Moments.NO_PAIRS and self.correlation.moments is not None:  # nothing to estimate it from
            return dispersion, None, None
        if self.moments in (Moments.PAIRS_BY_LAG, Moments.PAIRS_BY_TIMES):
            shape = (self.timing.n_times, -1) if self.moments == Moments.PAIRS_BY_TIMES else -1
            products, counts = products.reshape(shape), self.counts.reshape(shape)
        else:
            products, counts = products[0], self.counts if self.moments == Moments.ADJACENT_PAIRS else self.counts[0]
        moments = ResidualMoments(
            products=products,
            counts=counts,
            # gee takes the dispersion for alpha from the residuals even where it is fixed; geepack takes the fixed one
            scale=estimated if self.ddof_correction else dispersion,
            cluster_scale=scalars[MEAN_SQUARES] / self._mean_rows,
            n_coefficients=self.n_coefficients,
            ddof_correction=self.ddof_correction,
            gaps=self.timing.gaps if self.moments == Moments.ADJACENT_PAIRS else None,
            times=self.timing.lags if self.moments == Moments.PAIRS_BY_LAG else self.timing.times,
        )
        alpha = self.correlation.estimate(moments)
        try:
            alpha = np.atleast_1d(np.asarray(alpha, dtype=float))
            valid = alpha.ndim == 1 and np.isfinite(alpha).all()
        except (ValueError, TypeError):
            valid = False
        if not valid:
            raise ValueError(f"{self.correlation!r}.estimate must give a 1-D array of finite parameters, got {alpha!r}")
        inside, trouble = self.within_range(alpha)
        if trouble is None and not self.too_light:
            trouble = self.correlation.remark(alpha, moments)
        return dispersion, inside, trouble

    @property
    def no_correlation(self):
        """Parameters where there is nothing to estimate them from."""
        return np.zeros(1 if self.correlation.whitening in ("exchangeable", "autoregressive") else 0)

    @property
    def too_light(self):
        """Whether weights leave no degrees of freedom to take off where the rows would."""
        if self.clusters.w is None or not self.ddof_correction:
            return False
        p, sizes = self.n_coefficients, self.clusters.sizes
        pairs = self.moments == Moments.ALL_PAIRS and self.counts[0] <= p < (sizes * (sizes - 1)).sum() / 2
        return bool(pairs or self.n_obs <= p < self.n_rows)

    def within_range(self, alpha):
        """Parameters for which every cluster's working correlation is positive definite, and what was changed."""
        if self.whitening in (Whitening.EXCHANGEABLE, Whitening.AUTOREGRESSIVE):
            near = 1.0 - MARGIN
            if self.whitening == Whitening.EXCHANGEABLE:
                counted = self._cluster_rows.max() if self.ddof_correction else 0.0
                low, high = Exchangeable.bounds(max(counted, self.clusters.largest))
            else:  # the margin is that of the correlation over the smallest gap
                low, high = AR1.bounds(self.timing.gaps)
                near **= 1.0 / self.timing.gaps.min()
            inside = np.clip(alpha, low * near, high * near)
            if inside[0] == alpha[0]:
                return alpha, None
            reason = "to be positive definite for every group"
            if self.whitening == Whitening.AUTOREGRESSIVE and alpha[0] < low == 0.0:
                reason = "since distances in time that are not whole, or are all even, allow no negative one"
            return inside, (
                f"is out of range: its parameter is estimated as {alpha[0]:.4g}, but must lie between {low:.4g} and "
                f"{high:.4g}, {reason}; {inside[0]:.4g} is used"
            )
        if self.whitening != Whitening.DENSE:
            return alpha, None
        R = self.matrix(alpha)
        self._factor = alpha, self.kernel.factor(R)
        if self._is_definite(*self._factor):
            return alpha, None
        smallest = np.linalg.eigvalsh(R)[0]
        share = (1.0 - MARGIN) / (1.0 - smallest)
        shrunk = self.correlation.shrink(alpha, share)
        self._factor = shrunk, self.kernel.factor(self.matrix(shrunk))
        if not self._is_definite(*self._factor):
            raise ValueError(
                f"{self.correlation!r} gave a matrix that is not positive definite (smallest eigenvalue "
                f"{smallest:.4g}), and shrink(alpha, {share:.4g}) did not mend it"
            )
        return shrunk, (
            f"is out of range: its estimate is not positive definite (smallest eigenvalue {smallest:.4g}, which must "
            f"be above {MARGIN:g}); the correlations are multiplied by {share:.4g}"
        )

    def _is_definite(self, alpha, factor):
        """Whether the factored matrices are positive definite; estimated ones by a margin, in their pivots."""
        if isinstance(factor, int) or not alpha.size:
            return not isinstance(factor, int)
        return factor[self._diagonal].max() ** 2 <= (1.0 + 1e-6) / MARGIN

    def matrix(self, alpha):
        """The correlation matrix over all times, checked."""
        R, shape = self.correlation.matrix(alpha, self.timing.times), (self.timing.n_times,) * 2
        try:
            R = np.ascontiguousarray(R, dtype=float)
            valid = R.shape == shape and np.isfinite(R).all() and np.allclose(np.diag(R), 1.0) and np.allclose(R, R.T)
        except (ValueError, TypeError):
            valid = False
        if not valid:
            raise ValueError(
                f"{self.correlation!r}.matrix must give a symmetric matrix of shape {shape} with ones on its diagonal, "
                f"got {R!r}"
            )
        return R

    # Passes ------------------------------------------------------------------------------------------------

    def _whitener(self, alpha):
        """The kernel's arguments for a working correlation; None is independence."""
        if alpha is None:
            return {"whiten": False}
        if self.whitening == Whitening.EXCHANGEABLE:
            return {"alpha": float(alpha[0])}
        if self.whitening == Whitening.AUTOREGRESSIVE:
            rho = AR1.powers(alpha[0], self.timing.gaps)
            return {"rho": rho, "inverse": 1.0 / np.sqrt(1.0 - rho**2)}
        if self.whitening == Whitening.INDEPENDENT:
            return {}
        if self._factor is None or self._factor[0] is not alpha:
            self._factor = alpha, self.kernel.factor(self.matrix(alpha))
        return {"factor": self._factor[1]}

    def moves(self, step):
        """How far a step moves each row's linear predictor towards the row's outcome."""
        slopes = self._inv_scale[: self.p] * step[: self.p]
        shift = (step[self.p] if self.fit_intercept else 0.0) - slopes @ self._center[: self.p]
        return np.where(self.y > 0, 1.0, -1.0) * (self.X @ slopes + shift)

    def certainty(self, beta):
        """How far each row's linear predictor is on the side of the row's outcome."""
        sides = self.moves(beta)
        return sides if self.offset is None else sides + np.where(self.y > 0, self.offset, -self.offset)

    def separable(self):
        """Whether some linear predictors are never on the wrong side, and not all 0: the likelihood has no maximum then
        (Albert and Anderson 1984). True where that would take long to find out."""
        if self.n_rows * self.m > MOST_SEPARABLE:
            return True
        Z = np.ones((self.n_rows, self.m))
        Z[:, : self.p] = (self.X - self._center[: self.p]) * self._inv_scale[: self.p]
        return separating_direction(Z[:, self.active], self.y) is not None

    def spread(self, step):
        """How far a step moves linear predictors apart along each column."""
        return np.ptp(self.X, axis=0) * np.abs(self._inv_scale[: self.p] * step[: self.p])

    def _half(self, beta):
        half = np.zeros(self.kernel.ld)
        half[: self.m] = 0.5 * beta
        return half

    def evaluate(self, beta, alpha, stride=1, beside_offset=True):
        """Sums over all rows, or over a sample of one block in `stride`."""
        return self.kernel.evaluate(
            self._half(beta), *self.blocks.sample(stride), beside_offset=beside_offset, **self._whitener(alpha)
        )

    def bread(self, S):
        """The inverse sensitivity, 0 for aliased columns and those that S tells nothing of: in a sample without rows
        that have them, or where all probabilities are 0 and 1."""
        order = np.roll(np.flatnonzero(self.active), int(self.fit_intercept))  # the intercept first
        on, out = np.ix_(order, order), np.zeros_like(S)
        free = order[~dependent(S[on], NOTHING_NEW)]
        on = np.ix_(free, free)
        scale = 1.0 / np.sqrt(S[on].diagonal())
        inverse = np.linalg.inv(scale[:, None] * S[on] * scale)
        out[on] = scale[:, None] * (0.5 * (inverse + inverse.T)) * scale
        return out

    def information(self, point):
        """The sensitivity at a point, without penalties."""
        return point.S

    def start(self, null):
        """Coefficients to begin with, given those of the model without slopes."""
        return null

    def intercept_only(self):
        """Coefficients of the model without slopes."""
        beta, w = np.zeros(self.m), self.clusters.w
        if self.offset is not None:
            beta[self.p :] = intercept_beside(self.family, self.offset, self.y, w, self.fit_intercept)[0]
            return beta
        if self.fit_intercept:
            share = self.y.mean() if w is None else w @ self.y / w.sum()
            beta[-1] = self.family.start(share)
        return beta

    def value_without_slopes(self, beta, stride=1):
        """Log-likelihood of independent rows of the intercept alone."""
        w, intercept = self.clusters.w, beta[self.p :].sum()
        rows = self.blocks.sampled_rows(stride) if stride > 1 else slice(None)
        if self.offset is not None:
            eta = self.offset[rows] + intercept
            return log_likelihood_at(self.family, eta, self.y[rows], None if w is None else w[rows])
        one, zero = self.family.log_means(intercept)
        y = self.y[rows] > 0
        successes, total = (y.sum(), y.size) if w is None else (w[rows][y].sum(), w[rows].sum())
        return successes * one + (total - successes) * zero

    def lowest(self, null, stride=1):
        """Log-likelihood below which there is nothing to be looked for."""
        return 2.0 * self.value_without_slopes(null, stride)

    def share(self, stride):
        """Of the blocks, in a sample."""
        return self.blocks.sample(stride)[1] / self.blocks.n

    def correct(self, beta, alpha, bread):
        """One last pass: sensitivity, scores and sums of their products, plain and corrected for leverage.

        Beside them the sensitivity times what leaving out each cluster would take off the coefficients: (n_clusters,
        m), float32, or None where each row is a cluster.
        """
        padded = np.zeros((self.m, self.kernel.ld))
        padded[:, : self.m] = bread
        origin = None
        if self.fit_intercept:
            origin = np.zeros(self.kernel.ld)
            origin[: self.p] = (self._center * self._inv_scale)[: self.p]
        half, whitener = self._half(beta), self._whitener(alpha)
        without = None
        if self.clusters.labels is not None:
            without = np.zeros((len(self.clusters.level), self.m), dtype=np.float32)
        scalars, moments, S, U, meats, trace = self.kernel.correct(
            half, padded, origin, FAY_GRAUBARD_BOUND, without, **whitener
        )
        for cluster in np.flatnonzero(~(trace < 0.5)):
            scores = self._corrected_scores(*self.kernel.cluster(int(cluster), half, **whitener), bread)
            meats[1:3] += scores[:, :, None] * scores[:, None, :]
            if without is not None:
                without[cluster] = scores[1]
        return scalars, moments, S, U, meats, without

    def _corrected_scores(self, M, u, bread):
        """One cluster's scores times (I - M S^-1)^-1/2 and (I - M S^-1)^-1, by eigenvalues: (2, m).

        With S^-1 = LL' and the eigenvalues c and eigenvectors V of L'ML, (I - M S^-1)^-k u = u + M L V g(c) V'L'u where
        g(c) = ((1 - c)^-k - 1) / c: S^-1 may be singular.
        """
        values, vectors = np.linalg.eigh(bread)
        L = vectors * np.sqrt(np.maximum(values, 0.0))
        leverage, V = np.linalg.eigh(L.T @ M @ L)
        if leverage[-1] > 1.0 - LEVERAGE_ONE:
            return np.full((2, self.m), np.nan)
        c = np.where(leverage > 1e-15, leverage, 1e-15)
        out = np.empty((2, self.m))
        for k, power in enumerate((0.5, 1.0)):
            g = np.expm1(-power * np.log1p(-c)) / c
            out[k] = u + M @ (L @ (V @ (g * (V.T @ (L.T @ u)))))
        return out

    def by_level(self, values):
        """Values of clusters in the order of the groups' codes."""
        return in_order(values, self.clusters.level, len(values))

    def natural(self, beta):
        """Coefficients in the user's units, the intercept (if any) first; aliased columns have none."""
        natural = self.coordinates @ beta[self.active]
        natural[: int(self.fit_intercept)] -= self._offset_center
        return natural

    def in_users_units(self, fit):
        """A `GEEFit` whose outcomes were counted in `unit`."""
        return fit

    @property
    def coordinates(self):
        """d(natural)/d(identified internal coefficients)."""
        return natural_map(self._center, self._inv_scale, self.p, self.fit_intercept)[:, self.active]
