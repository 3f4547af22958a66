"""The estimating equations: Fisher scoring for the coefficients alternated with moments for the working correlation.

With s = sqrt(mu (1 - mu)), Pearson residuals e = (y - mu) / s and working covariance V_i = phi diag(s) R_i diag(s), cluster i has the
estimating function U_i = D_i' V_i^-1 (y_i - mu_i) and the sensitivity M_i = D_i' V_i^-1 D_i, D_i = diag(s^2) X_i (Liang and Zeger 1986,
equations 6 and 7). In terms of rows whitened by R_i^-1/2 both are plain sums of products: see `_kernels/_gee.h`.
"""

from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from sklmm._kernels._gee import GEEKernel, Moments, Whitening
from sklmm._kernels._grouping import gather_rows, group_rows, whole_blocks
from sklmm.design.aliasing import aliased_columns
from sklmm.design.grouping import encode_groups
from sklmm.design.standardising import column_scales, natural_map, row_sample
from sklmm.estimating.correlation import MARGIN, AR1, Exchangeable, ResidualMoments, grid_positions
from sklmm.likelihood.clustered import ACCUMULATOR_BYTES, MAX_CHUNKS, TILE_BYTES, coarse_levels
from sklmm.optimize import COARSE_TOL, FAR, FLAT, FitReport

EXACT_ROWS = 200_000  # up to here the iterations go on to rounding error, so that covariances belong to the final point
EXACT_TOL = 1e-9
FAY_GRAUBARD_BOUND = 0.75  # of a leverage, as Fay and Graubard (2001) propose
LEVERAGE_ONE = 1e-8  # a cluster whose leverage is this close to 1 determines a coefficient alone
MOST_BYTES = 1 << 31  # of the factors of a structure without closed form, and of its moments
MOST_SHOWN = 1000
VALUE, SQUARES, MEAN_SQUARES, OTHER_VALUE, OTHER_SQUARES, PLAIN_VALUE = range(6)  # sums that a pass returns


@dataclass
class GEEFit:
    """Fitted estimating equations in numbers; beta is in the user's units, the intercept (if any) first.

    Attributes
    ----------
    beta : ndarray of shape (n_fixed,)
        0 for aliased columns.
    alpha : ndarray
    dispersion : float
    bread : inverse of sum D'(S R S)^-1 D, without the dispersion; in internal coordinates, identified coefficients only.
    meats : ndarray of shape (4, k, k)
        Sums of products of the scores: plain, Kauermann-Carroll, Mancl-DeRouen, Fay-Graubard; NaN where undefined.
    coordinates : ndarray of shape (n_fixed, k)
        d(beta)/d(identified internal coefficients).
    quasi_likelihood : float
    independence_information : A = X'WX / phi of the independence fit, in internal coordinates.
    aliased, separated : columns of X; -1 is the intercept.
    times : the union of times, where the structure has a matrix over them; else those of the largest cluster (at most 1,000).
    trouble : what was done where the working correlation's estimate was out of range, or None.
    cluster_sizes : (smallest, largest)
    n_clusters : int
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
    report: FitReport = field(default_factory=FitReport)


def fit_gee(X, y, *, correlation, codes=None, n_clusters=None, labels=None, times=None, sample_weight=None, fit_intercept=True,
            dispersion=None, ddof_correction=True, tol=1e-4, max_iter=100, n_threads=1, progress=None):
    """Solve the estimating equations of a marginal logistic model.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32, finite, any strides
    y : ndarray of shape (n,), uint8
    correlation : WorkingCorrelation
    codes : ndarray of shape (n,), intp, or None
        Cluster of each row; None: every row is one.
    n_clusters : int
    labels : sequence
        Names of the clusters, for messages.
    times : ndarray of shape (n,), float64, finite, or None
        None: the order of a cluster's rows.
    sample_weight : ndarray of shape (n,), float64, or None
    fit_intercept : bool
    dispersion : float or None
        None: estimated.
    ddof_correction : bool
        Which definitions of the moments, see `ResidualMoments`.
    tol : float
        The largest error of a coefficient that may be left, in standard errors.
    max_iter : int
    n_threads : int
    progress : callable or None
        Called with a row of the report's history after each evaluation.

    Returns
    -------
    GEEFit
    """
    clusters = Clusters(codes, X.shape[0], n_clusters, labels, times if correlation.uses_time else None, sample_weight)
    equations = Equations(X, y, clusters, correlation, fit_intercept, dispersion, ddof_correction, n_threads)
    solver = Solver(equations, tol, max_iter, progress)
    solver.solve()
    return solver.result()


class Clusters:
    """Which rows belong together, in the order of their times.

    Attributes
    ----------
    order : ndarray of shape (n,), int64, or None
        None: the rows are in place.
    start : ndarray of shape (n_clusters + 1,), int64
    times : ndarray of shape (n,), or None
        In cluster order.
    w : ndarray of shape (n,) or None
        Likewise.
    """

    def __init__(self, codes, n, n_clusters, labels, times, sample_weight):
        if codes is None:
            self.order, self.start, self.level = None, np.arange(n + 1, dtype=np.int64), np.arange(n)
        else:
            codes = np.ascontiguousarray(codes, dtype=np.intp)
            self.order, self.start, self.level = group_rows(codes, n_clusters)
        self.labels = labels
        self.times = None if times is None else self._in_order(times)
        if times is not None and self._unsorted_times():
            by_time = np.lexsort((times, codes))
            self.order, self.level = by_time.astype(np.int64), np.arange(n_clusters)
            self.start = np.append(0, np.cumsum(np.bincount(codes, minlength=n_clusters))).astype(np.int64)
            self.times = times[by_time]
        self.sizes = np.diff(self.start)
        if self.times is not None:
            self._refuse_duplicate_times()
        self.w = None if sample_weight is None else np.ascontiguousarray(self._in_order(sample_weight))

    def _in_order(self, values):
        return values if self.order is None else values[self.order]

    def _steps(self):
        """Time of each row less that of the row before it in its cluster; infinite for the first."""
        steps = np.empty(self.times.size)
        steps[1:] = np.diff(self.times)
        steps[self.start[:-1]] = np.inf
        return steps

    def _unsorted_times(self):
        return self._steps().min(initial=0.0) < 0

    def _refuse_duplicate_times(self):
        twice = np.flatnonzero(self._steps() == 0)
        if twice.size:
            cluster = int(np.searchsorted(self.start, twice[0], side="right")) - 1
            raise ValueError(
                f"{twice.size} rows share their group and time with another row (first: group {self.label(cluster)}, time "
                f"{self.times[twice[0]]:g}); a working correlation by time needs one row at each time of a group"
            )

    def label(self, cluster):
        return repr(self.labels[self.level[cluster]]) if self.labels is not None else str(cluster)

    @property
    def largest(self):
        return int(self.sizes.max())

    def place(self):
        """Position of each row in its cluster."""
        return np.arange(self.start[-1]) - np.repeat(self.start[:-1], self.sizes)

    def sums(self, values):
        """Sums of a row's values by cluster."""
        return np.add.reduceat(values, self.start[:-1])


class Equations:
    """Sums over clusters at given coefficients and working correlation, in standardised coordinates (slopes, then the intercept)."""

    def __init__(self, X, y, clusters, correlation, fit_intercept, dispersion, ddof_correction, n_threads):
        if not X.flags.aligned or any(step % X.itemsize for step in X.strides):
            X = np.ascontiguousarray(X)
        self.clusters, self.correlation = clusters, correlation
        self.dispersion, self.ddof_correction = dispersion, ddof_correction
        n, p = X.shape
        self.n_rows, self.p, self.m, self.fit_intercept = n, p, p + fit_intercept, fit_intercept
        w = clusters.w
        self.n_obs = float(n) if w is None else float(w.sum())
        X = X if clusters.order is None else gather_rows(X, clusters.order)
        self.y = y if clusters.order is None else y[clusters.order]
        self._center, self._inv_scale = column_scales(*row_sample(X, w), fit_intercept)
        aliased = aliased_columns(X, self._center[:p], self._inv_scale[:p], w, fit_intercept)
        self.active = np.append(~aliased, np.ones(int(fit_intercept), dtype=bool))
        self.n_coefficients = int(self.active.sum())
        self._plan(w)
        root_w = None if w is None else np.sqrt(w)
        ld = (self.m + 8) // 8 * 8
        tile = int(np.clip(TILE_BYTES // (8 * ld), 64, 1024) // 8 * 8)
        if self.whitening == Whitening.DENSE:  # a cluster is factored as a whole
            tile = max(tile, (clusters.largest + 7) // 8 * 8)
        block = whole_blocks(clusters.start, tile)
        n_blocks = block.size - 1
        accumulators = 8 * (5 * self.m * ld + self.n_moments)
        n_chunks = min(n_blocks, MAX_CHUNKS, max(4, ACCUMULATOR_BYTES // accumulators))
        self.kernel = GEEKernel(
            X, self._center, self._inv_scale, fit_intercept, self.y, root_w, ddof_correction, clusters.start, block,
            np.linspace(0, n_blocks, n_chunks + 1).astype(np.int64), tile, n_threads, int(self.whitening), int(self.moments),
            self.n_moments, self._gap, self._position, self._n_times, *self._patterns,
        )  # fmt: skip
        self.levels = coarse_levels(n, n_blocks)
        self._count_moments(w)

    # What the working correlation needs to know of the times ------------------------------------------------

    def _plan(self, w):
        """Numbers of gaps, lags, times and patterns, whatever of these the working correlation asks for."""
        correlation, clusters = self.correlation, self.clusters
        self._gap = self._position = self.gaps = self.times = None
        self._patterns, self._n_times, self.n_moments = (None, None, None), 0, 1
        self._factor = None  # the last alpha and its factors
        kind = correlation.moments_for(self.ddof_correction)
        whitening = correlation.whitening
        if clusters.largest == 1:
            kind, whitening = None, "independent"
        self.whitening, self.moments = _WHITENING[whitening], _MOMENTS[kind]
        if whitening == "autoregressive":
            self._plan_gaps()
        if whitening == "dense" or kind == "times":
            self._plan_times()
        if whitening == "dense":
            self._patterns = self._plan_patterns()
        if kind == "lags":
            self._plan_lags()
        if kind == "times":
            self.n_moments = self._n_times**2
            self._position = self._time_codes

    def _plan_gaps(self):
        clusters = self.clusters
        if clusters.times is None:
            self.gaps = np.ones(1)
            return
        gaps = np.empty(self.n_rows)
        gaps[1:] = np.diff(clusters.times)
        within = np.ones(self.n_rows, dtype=bool)
        within[clusters.start[:-1]] = False
        first = gaps[np.argmax(within)]
        gaps[~within] = first
        if (gaps == first).all():
            self.gaps = np.array([first])
            return
        codes, levels = encode_groups(gaps, "gap between times")
        self._gap, self.gaps = codes.astype(np.int32), levels.to_numpy(dtype=float)

    def _plan_times(self):
        clusters = self.clusters
        if clusters.times is None:
            if not self.correlation.order_suffices and (clusters.sizes != clusters.largest).any():
                raise ValueError(
                    f"the {self.correlation.name} working correlation needs times: the groups have between {clusters.sizes.min()} and "
                    f"{clusters.largest} rows, so that their order does not say which time each belongs to. Pass time=, or name the "
                    "column in time_feature"
                )
            codes, self.times = clusters.place(), np.arange(clusters.largest, dtype=float)
        else:
            codes, levels = encode_groups(clusters.times, "time")
            self.times = levels.to_numpy(dtype=float)
        self._time_codes, self._n_times = codes.astype(np.int32), self.times.size
        size = 8 * self._n_times**2
        if 2 * size > MOST_BYTES:
            raise ValueError(
                f"the {self.correlation.name} working correlation over {self._n_times:,} distinct times needs {size / 1e9:.1f} GB for "
                "each matrix; round the times, or use 'exchangeable' or 'ar1', which need no matrix"
            )

    def _plan_patterns(self):
        """The distinct sets of times that clusters have, one factorisation each: codes, where each begins, pattern by cluster."""
        sizes, start, codes = self.clusters.sizes, self.clusters.start, self._time_codes
        pattern, pieces = np.empty(sizes.size, dtype=np.int64), []
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            table = codes[start[members][:, None] + np.arange(size)]
            which, rows = _distinct_rows(table, self._n_times)
            pattern[members] = len(pieces) + which
            pieces += list(rows)
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        needed = 8 * int((lengths**2).sum())
        if needed > MOST_BYTES:
            raise ValueError(
                f"the {self.correlation.name} working correlation needs {needed / 1e9:.1f} GB for the factors of {len(pieces):,} patterns "
                f"of times (the largest group, {self.clusters.label(int(np.argmax(sizes)))}, has {sizes.max():,} rows); use "
                "'exchangeable' or 'ar1', which need none"
            )
        code_start = np.append(0, np.cumsum(lengths)).astype(np.int64)
        return np.concatenate(pieces).astype(np.int32), code_start, pattern

    def _plan_lags(self):
        clusters = self.clusters
        position, unit = (clusters.place(), 1.0) if clusters.times is None else grid_positions(clusters.times)
        self._position = position.astype(np.int32)
        span = int((position[clusters.start[1:] - 1] - position[clusters.start[:-1]]).max())
        self.n_moments = max(1, min(span, getattr(self.correlation, "m", span)))
        self.lags = unit * np.arange(1, self.n_moments + 1)

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
            self.counts = np.array([share.sum()]) if self._gap is None else np.bincount(self._gap, share, len(self.gaps))
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
            What was done where the estimates were out of range.
        """
        estimated = self.scale(scalars[SQUARES])
        dispersion = estimated if self.dispersion is None else self.dispersion
        if self.moments == Moments.NO_PAIRS and self.correlation.moments is not None:  # nothing to estimate it from
            return dispersion, None, None
        if self.moments in (Moments.PAIRS_BY_LAG, Moments.PAIRS_BY_TIMES):
            shape = (self._n_times, self._n_times) if self.moments == Moments.PAIRS_BY_TIMES else (self.n_moments,)
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
            gaps=self.gaps if self.moments == Moments.ADJACENT_PAIRS else None,
            times=self.lags if self.moments == Moments.PAIRS_BY_LAG else self.times,
        )
        alpha = np.atleast_1d(np.asarray(self.correlation.estimate(moments), dtype=float))
        if not np.isfinite(alpha).all():
            raise ValueError(f"{self.correlation!r}.estimate gave parameters that are not finite: {alpha}")
        return dispersion, *self.within_range(alpha)

    @property
    def no_correlation(self):
        """Parameters where there is nothing to estimate them from."""
        return np.zeros(1 if isinstance(self.correlation, (Exchangeable, AR1)) else 0)

    def within_range(self, alpha):
        """Parameters for which every cluster's working correlation is positive definite, and what was changed."""
        if isinstance(self.correlation, (Exchangeable, AR1)):
            if isinstance(self.correlation, Exchangeable):
                rows = self._cluster_rows.max() if self.ddof_correction else self.clusters.largest
                low, high = self.correlation.bounds(rows)
            else:
                low, high = self.correlation.bounds(self.gaps)
            inside = np.clip(alpha, low + MARGIN * abs(low), high - MARGIN * abs(high))
            if inside[0] == alpha[0]:
                return alpha, None
            return inside, (
                f"its parameter is estimated as {alpha[0]:.4g}, but must lie between {low:.4g} and {high:.4g} to be positive definite "
                f"for every group; {inside[0]:.4g} is used"
            )
        if self.whitening != Whitening.DENSE:
            return alpha, None
        R = self.matrix(alpha)
        factor = self.kernel.factor(R)
        if not isinstance(factor, int):
            self._factor = alpha, factor
            return alpha, None
        smallest = np.linalg.eigvalsh(R)[0]
        share = (1.0 - MARGIN) / (1.0 - smallest)
        return self.correlation.shrink(alpha, share), (
            f"its estimate is not positive definite (smallest eigenvalue {smallest:.4g}, which must be above 0); the correlations are "
            f"multiplied by {share:.4g}"
        )

    def matrix(self, alpha):
        """The correlation matrix over all times, checked."""
        R = np.ascontiguousarray(self.correlation.matrix(alpha, self.times), dtype=float)
        if R.shape != (self._n_times, self._n_times) or not np.allclose(np.diag(R), 1.0) or not np.allclose(R, R.T):
            raise ValueError(
                f"{self.correlation!r}.matrix must give a symmetric matrix of shape {(self._n_times, self._n_times)} with ones on its "
                "diagonal"
            )
        return R

    def shown_times(self):
        """The union of times, or where no matrix is formed those of the largest cluster's first rows."""
        if self.times is not None:
            return self.times
        largest = int(np.argmax(self.clusters.sizes))
        first, n = self.clusters.start[largest], min(self.clusters.largest, MOST_SHOWN)
        return np.arange(n, dtype=float) if self.clusters.times is None else self.clusters.times[first : first + n].copy()

    # Passes ------------------------------------------------------------------------------------------------

    def _whitener(self, alpha):
        """The kernel's arguments for a working correlation; None is independence."""
        if alpha is None or self.whitening == Whitening.INDEPENDENT:
            return self._identity()
        if self.whitening == Whitening.EXCHANGEABLE:
            return {"alpha": float(alpha[0])}
        if self.whitening == Whitening.AUTOREGRESSIVE:
            rho = AR1.powers(alpha[0], self.gaps)
            return {"rho": rho, "inverse": 1.0 / np.sqrt(1.0 - rho**2)}
        if self._factor is None or self._factor[0] is not alpha:
            factor = self.kernel.factor(self.matrix(alpha))
            if isinstance(factor, int):
                raise FloatingPointError(f"the {self.correlation.name} working correlation is not positive definite")
            self._factor = alpha, factor
        return {"factor": self._factor[1]}

    def _identity(self):
        if self.whitening == Whitening.AUTOREGRESSIVE:
            return {"rho": np.zeros(len(self.gaps)), "inverse": np.ones(len(self.gaps))}
        if self.whitening == Whitening.DENSE:
            return {"factor": self.kernel.factor(np.eye(self._n_times))}
        return {}

    def _half(self, beta):
        half = np.zeros(self.kernel.ld)
        half[: self.m] = 0.5 * beta
        return half

    def evaluate(self, beta, alpha, other=None, level=1):
        """Sums over every level-th block; `other` are coefficients of the independence model, evaluated beside."""
        return self.kernel.evaluate(
            self._half(beta),
            None if other is None else self._half(other),
            step=level,
            offset=level // 2,
            **self._whitener(alpha),
        )

    def correct(self, beta, alpha, bread):
        """One last pass: sensitivity, scores, and the sums of products of the scores, plain and corrected for leverage."""
        padded = np.zeros((self.m, self.kernel.ld))
        padded[:, : self.m] = bread
        origin = None
        if self.fit_intercept:
            origin = np.zeros(self.kernel.ld)
            origin[: self.p] = (self._center * self._inv_scale)[: self.p]
        half, whitener = self._half(beta), self._whitener(alpha)
        scalars, moments, S, U, meats, trace = self.kernel.correct(half, padded, origin, FAY_GRAUBARD_BOUND, **whitener)
        for cluster in np.flatnonzero(~(trace < 0.5)):
            meats[1:3] += self._corrected_scores(*self.kernel.cluster(int(cluster), half, **whitener), bread)
        return scalars, moments, S, U, meats

    def _corrected_scores(self, M, u, bread):
        """Products of one cluster's scores times (I - M S^-1)^-1/2 and (I - M S^-1)^-1, by eigenvalues: for large leverages."""
        on = np.ix_(self.active, self.active)
        L = np.linalg.cholesky(bread[on])
        leverage, V = np.linalg.eigh(L.T @ M[on] @ L)
        out = np.zeros((2, self.m, self.m))
        if leverage[-1] > 1.0 - LEVERAGE_ONE:
            out[:] = np.nan
            return out
        back = np.linalg.solve(L.T, V)
        inner = V.T @ (L.T @ u[self.active])
        for k, power in enumerate((-0.5, -1.0)):
            score = back @ ((1.0 - leverage) ** power * inner)
            out[k][on] = np.outer(score, score)
        return out

    @property
    def coordinates(self):
        """d(natural)/d(identified internal coefficients)."""
        return natural_map(self._center, self._inv_scale, self.p, self.fit_intercept)[:, self.active]


class Solver:
    """Fisher scoring from coarse samples of the clusters to all of them; owns the report.

    The independence model, where the scoring starts from and which QIC compares with, is solved in the same passes.
    """

    def __init__(self, equations, tol, max_iter, progress):
        self.equations, self.max_iter, self.progress = equations, max_iter, progress
        self.exact = equations.n_rows <= EXACT_ROWS
        self.tol = min(tol, EXACT_TOL) if self.exact else tol
        self.report, self.began = FitReport(), perf_counter()
        self.beta = np.zeros(equations.m)
        if equations.fit_intercept:
            w = equations.clusters.w
            share = equations.y.mean() if w is None else w @ equations.y / w.sum()
            self.beta[-1] = np.log(share / (1.0 - share))
        self.alpha = self.S = None
        self.shrinking = 1.0  # of a step's length from one iteration to the next
        self.independence = None  # once known: its sensitivity and the sum of its squared residuals
        self.separated, self.converged = [], False

    def solve(self):
        levels = self.equations.levels
        if not self.solve_independence(levels[0]):
            return
        for level in levels:
            if not self.solve_level(level):
                return
        self.converged = True

    def evaluate(self, beta, alpha, other, level):
        out = self.equations.evaluate(beta, alpha, other, level)
        self.report.n_iter += 1
        self.report.n_full_passes += level == 1
        return out


    def step(self, S, U):
        """The scoring step, and half its squared length in standard errors (naive ones, with a dispersion of 1)."""
        active = self.equations.active
        step, on = np.zeros_like(U), np.ix_(active, active)
        try:
            step[active] = np.linalg.solve(S[on], U[active])
        except np.linalg.LinAlgError:  # fitted probabilities of 0 and 1
            step[active] = np.linalg.lstsq(S[on], U[active])[0]
        return step, 0.5 * float(step @ U)

    def note(self, level, value, decrement):
        row = {
            "iteration": self.report.n_iter,
            "level": level,
            "rows": self.equations.n_rows // level,
            "quasi_likelihood": float(value),
            "decrement": float(decrement),
            "seconds": perf_counter() - self.began,
        }
        self.report.history.append(row)
        self.report.decrement = float(decrement)
        if self.progress is not None:
            self.progress(row)

    @property
    def spent(self):
        return self.report.n_iter >= self.max_iter

    def runs_away(self, step, decrement):
        """Whether a long step gains next to nothing: separation. Remembers the columns."""
        length = np.abs(step)
        if length.max(initial=0.0) < FAR or decrement > FLAT:
            return False
        slopes = np.flatnonzero(length[: self.equations.p] >= 0.3 * length.max())
        self.separated = slopes.tolist() or [-1]
        return True

    def solve_independence(self, level):
        """Plain logistic regression by Newton's method. Returns whether there is a point to go on from."""
        tol = 0.5 * EXACT_TOL**2 if level == 1 else COARSE_TOL
        point, value, step = self.beta, -np.inf, np.zeros_like(self.beta)
        while True:
            scalars, moments, S, U, _, _ = self.evaluate(point, None, None, level)
            if scalars[VALUE] < value - 1e-12 * abs(value) and not self.spent:  # the step was too long
                step = 0.25 * step
                point = self.beta + step
                continue
            self.beta, value, self.S = point, scalars[VALUE], S
            step, decrement = self.step(S, U)
            self.note(level, value, decrement)
            if self.runs_away(step, decrement):
                self.converged = True  # as far as can be; residuals that vanish say nothing of a correlation
                return False
            if decrement <= tol:
                break
            if self.spent:
                return False
            point = self.beta + step
        if level == 1:
            self.independence = S, scalars[SQUARES]
        self.beta = self.other = self.beta + step
        self.update_correlation(scalars, moments, level)
        return True

    def update_correlation(self, scalars, moments, level):
        """New moment estimates; sums over a sample of the blocks count as if over all, as what they are divided by does."""
        n_blocks = self.equations.kernel.n_blocks
        share = len(range(level // 2, n_blocks, level)) / n_blocks
        _, self.alpha, _ = self.equations.estimate(scalars / share, moments / share)

    def solve_level(self, level):
        """Scoring on every level-th block. Returns whether it converged."""
        before, scale = np.inf, 1.0
        if level == 1 and not self.independence:  # what all rows change in the one estimate they nearly change in the other
            self.move_with_independence()
        while True:
            other = None if self.independence else self.other
            scalars, moments, self.S, U, other_S, other_U = self.evaluate(self.beta, self.alpha, other, level)
            step, decrement = self.step(self.S, U)
            self.note(level, scalars[VALUE], decrement)
            rest = 0.0
            if other is not None:
                other_step, rest = self.step(other_S, other_U)
                if self.runs_away(other_step, rest):
                    self.converged = True
                    return False
                self.other = other + other_step
                if level == 1 and rest <= (1e-16 if self.exact else 1e-2):
                    self.independence = other_S, scalars[OTHER_SQUARES]
            self.update_correlation(scalars, moments, level)
            scale = max(0.5 * scale, 1 / 64) if decrement > before else min(1.0, 2.0 * scale)
            self.beta = self.beta + scale * step
            if before < np.inf:
                self.shrinking = np.sqrt(decrement / before)
            if scale == 1.0 and (
                self.near_enough(decrement) and self.independence if level == 1 else max(decrement, rest) <= COARSE_TOL
            ):
                self.shrinking *= 0.5  # for the next level: it falls with the root of the number of rows
                return True
            if self.spent:
                return False
            before = decrement

    def move_with_independence(self):
        """Move both estimates by the independence model's step on all rows."""
        scalars, moments, S, U, _, _ = self.evaluate(self.other, None, None, 1)
        step, decrement = self.step(S, U)
        self.note(1, scalars[VALUE], decrement)
        self.other = self.other + step
        self.beta = self.beta + step

    def near_enough(self, decrement):
        """Whether the error is below tol after this step and, on large data, the one that the last pass adds.

        Fisher scoring converges linearly: each step is shorter than the one before it by about the same factor.
        """
        length = np.sqrt(2.0 * decrement)
        if self.exact:
            return length <= self.tol
        return self.shrinking < 0.1 and length * self.shrinking**2 <= self.tol

    def bread(self, S):
        """The inverse sensitivity, 0 for aliased columns."""
        active = self.equations.active
        on, out = np.ix_(active, active), np.zeros_like(S)
        out[on] = np.linalg.pinv(S[on], hermitian=True) if self.separated else np.linalg.inv(S[on])
        return 0.5 * (out + out.T)

    def result(self):
        """One last pass at the final point, and what it tells."""
        equations, report = self.equations, self.report
        scalars, moments, S, U, meats = equations.correct(self.beta, self.alpha, self.bread(self.S))
        report.n_iter += 1
        report.n_full_passes += 1
        dispersion, alpha, trouble = equations.scale(scalars[SQUARES]), self.alpha, None
        if not self.separated:
            if self.converged:
                step, report.decrement = self.step(S, U)
                self.beta = self.beta + step
            dispersion, alpha, trouble = equations.estimate(scalars, moments)
        information, squares = self.independence or (S, scalars[SQUARES])
        if equations.dispersion is not None:
            dispersion = other_dispersion = equations.dispersion
        else:
            other_dispersion = equations.scale(squares)
        on = np.ix_(equations.active, equations.active)
        report.converged = self.converged
        report.verdict = self.verdict()
        return GEEFit(
            beta=equations.coordinates @ self.beta[equations.active],
            alpha=equations.no_correlation if alpha is None else alpha,
            dispersion=float(dispersion),
            bread=self.bread(S)[on],
            meats=np.stack([meat[on] for meat in meats]),
            coordinates=equations.coordinates,
            # geepack's QIC leaves weights out of the quasi-likelihood
            quasi_likelihood=float(scalars[VALUE if equations.ddof_correction else PLAIN_VALUE]),
            independence_information=information[on] / other_dispersion,
            aliased=np.flatnonzero(~equations.active[: equations.p]).tolist(),
            separated=self.separated,
            times=equations.shown_times(),
            trouble=trouble,
            cluster_sizes=(int(equations.clusters.sizes.min()), equations.clusters.largest),
            n_clusters=equations.clusters.sizes.size,
            report=report,
        )

    def verdict(self):
        report = self.report
        if self.separated:
            return (
                f"stopped where long steps gain next to nothing (the last {report.decrement:.1e} log-likelihood units): the "
                "likelihood has no maximum along them"
            )
        length = np.sqrt(2 * max(report.decrement, 0.0))
        if report.converged:
            return f"converged: the last step was {length:.1e} standard errors long"
        return (
            f"stopped after {report.n_iter} iterations with a step of {length:.1e} standard errors left; raise max_iter, or try a "
            "simpler working correlation"
        )


def _distinct_rows(table, n_values):
    """Number of each row among the distinct ones, and these."""
    if (table == table[0]).all():
        return np.zeros(len(table), dtype=np.int64), table[:1]
    if float(n_values) ** table.shape[1] < 2**62:  # as numbers of that base: quicker to tell apart
        keys = table @ (n_values ** np.arange(table.shape[1], dtype=np.int64))
        which, _ = encode_groups(keys, "pattern of times")
        first = np.full(which.max() + 1, len(table))
        np.minimum.at(first, which, np.arange(len(table)))
        return which, table[first]
    rows, which = np.unique(table, axis=0, return_inverse=True)
    return which.ravel(), rows


_WHITENING = {
    "independent": Whitening.INDEPENDENT,
    "exchangeable": Whitening.EXCHANGEABLE,
    "autoregressive": Whitening.AUTOREGRESSIVE,
    "dense": Whitening.DENSE,
}
_MOMENTS = {
    None: Moments.NO_PAIRS,
    "pairs": Moments.ALL_PAIRS,
    "adjacent": Moments.ADJACENT_PAIRS,
    "lags": Moments.PAIRS_BY_LAG,
    "times": Moments.PAIRS_BY_TIMES,
}
