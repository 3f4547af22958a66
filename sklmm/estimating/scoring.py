"""Fisher scoring for the coefficients, alternated with moments for the working correlation."""

from time import perf_counter

import numpy as np

from sklmm.design.aliasing import dependent
from sklmm.estimating.clusters import Clusters
from sklmm.estimating.equations import OTHER_SQUARES, OTHER_VALUE, PLAIN_VALUE, SQUARES, VALUE, Equations, GEEFit
from sklmm.likelihood.rows import multiply_in_place
from sklmm.optimize import COARSE_TOL, FAR, FLAT, FitReport

EXACT_ROWS = 200_000  # up to here the scoring goes on to rounding error, so that covariances belong to the final point
EXACT_TOL = 1e-9
MIXED_POINTS = 6  # that an accelerated step is made of
FARTHEST_MIX = 10.0  # times as far as the plain step, that an accelerated one may go
WORSE = 4.0  # a step was too long if the next one is this many standard errors, and times the shortest so far, long
MOST_TRIES = 6  # of shorter steps from one point
SLOW = 0.7  # a step this long against the one before is no progress worth a sample's while


def fit_gee(X, y, *, correlation, codes=None, n_clusters=None, labels=None, times=None, sample_weight=None,
            fit_intercept=True, dispersion=None, ddof_correction=True, tol=1e-4, max_iter=100, n_threads=1,
            progress=None):
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


class Ascent:
    """Newton's method for the independence model, whose likelihood tells when a step was too long.

    Attributes
    ----------
    point : ndarray
        Where to evaluate next.
    base : ndarray
        The last point that was better than those before; the step from there is `step`.
    """

    def __init__(self, point):
        self.point, self.base, self.step, self.value = point, point, np.zeros_like(point), -np.inf

    def advance(self, value, step):
        """Take in what was found at `point`. Returns whether it was better; if not, the step is shortened."""
        better = not value < self.value - 1e-12 * abs(self.value)
        if better:
            self.base, self.value = self.point, value
        self.step = step if better else 0.25 * self.step
        self.point = self.base + self.step
        return better


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
        self.other = Ascent(self.beta)
        self.alpha = self.S = None
        self.shrinking = 1.0  # of a step's length from one iteration to the next
        self.independence = None  # once known: its sensitivity and the sum of its squared residuals
        self.separated, self.converged = [], False
        # weights that are shares must not look like imprecision; counts stop where the rows repeated would ...
        self.unit = min(1.0, equations.n_obs / equations.n_rows)
        self.heavy = max(1.0, equations.n_obs / equations.n_rows)  # ... as far as numbers can hold that

    def solve(self):
        levels = self.equations.levels
        if not self.solve_independence(levels[0]):
            return
        for level in levels:
            settled = self.solve_level(level)
            if self.spent or self.separated:
                break
        self.converged = bool(self.separated) or (settled and level == 1)
        if not (self.converged or self.spent):
            self.look_for_separation()

    def look_for_separation(self):
        """Where the scoring found no solution: whether it is the data that have none."""
        point = self.beta, self.alpha, self.S, self.report.decrement
        self.solve_independence(1)
        if not self.separated:
            self.beta, self.alpha, self.S, self.report.decrement = point

    def evaluate(self, beta, alpha, other, level):
        out = self.equations.evaluate(beta, alpha, other, level)
        self.report.n_iter += 1
        self.report.n_full_passes += level == 1
        return out

    def bread(self, S):
        """The inverse sensitivity, 0 for aliased columns and those that S tells nothing of: in a sample without rows
        that have them, or where all probabilities are 0 and 1."""
        order = np.roll(np.flatnonzero(self.equations.active), int(self.equations.fit_intercept))  # the intercept first
        on, out = np.ix_(order, order), np.zeros_like(S)
        free = order[~dependent(S[on])]
        on = np.ix_(free, free)
        scale = 1.0 / np.sqrt(S[on].diagonal())
        inverse = np.linalg.inv(scale[:, None] * S[on] * scale)
        out[on] = scale[:, None] * (0.5 * (inverse + inverse.T)) * scale
        return out

    def step(self, S, U):
        """The scoring step, and half its squared length in standard errors (naive ones, with a dispersion of 1)."""
        step = self.bread(S) @ U
        return step, 0.5 * float(step @ U) / self.unit

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

    def goes_far(self, step):
        """Whether a step moves the linear predictor of some row far."""
        most = np.abs(step).max(initial=0.0) * np.sqrt(self.equations.n_rows)  # at least what any row moves, nearly
        return most >= FAR and self.equations.farthest(step) >= FAR

    def separating(self, step, decrement):
        """Columns (-1: the intercept) along which a long step gains next to nothing: those that separate the classes.

        Rows tell how long it is: short steps of its standardised column separate a rare category.
        """
        if decrement > FLAT or not self.goes_far(step):
            return []
        spread = self.equations.spread(step)
        return np.flatnonzero(spread >= 0.3 * spread.max(initial=0.0)).tolist() or [-1]

    def solve_independence(self, level):
        """Plain logistic regression by Newton's method. Returns whether there is a point to go on from."""
        tol = 0.5 * EXACT_TOL**2 if level == 1 else COARSE_TOL
        other = self.other = Ascent(self.other.point)
        while True:
            scalars, moments, S, U, _, _ = self.evaluate(other.point, None, None, level)
            step, decrement = self.step(S, U)
            if other.advance(scalars[VALUE], step):
                self.S = S
                self.note(level, other.value, decrement)
                if level == 1 and self.stop_separated(step, decrement, S):
                    return False
                if decrement <= tol:
                    break
            if self.spent:
                self.beta = other.base
                return False
        if level == 1:
            self.independence = S, scalars[SQUARES]
        self.beta = other.point
        self.alpha = self.correlation(scalars, moments, level)
        return True

    def stop_separated(self, step, decrement, S):
        """Stop at the independence model's last point if its next step shows that the classes are separated."""
        self.separated = self.separating(step, decrement)
        if self.separated:
            self.converged, self.report.decrement = True, decrement  # as far as can be
            self.beta, self.S = self.other.base, S
            self.alpha = None  # residuals that vanish say nothing of it
        return bool(self.separated)

    def correlation(self, scalars, moments, level):
        """New moment estimates; sums over a sample of the blocks count as if over all, as their divisors do."""
        n_blocks = self.equations.kernel.n_blocks
        share = len(range(level // 2, n_blocks, level)) / n_blocks
        return self.equations.estimate(scalars / share, moments / share)[1]

    def solve_level(self, level):
        """Scoring on every level-th block. Returns whether it converged; if not, the best point stands."""
        before, last, scale, points = np.inf, np.inf, 1.0, []
        best, tries, start = None, 0, None
        if not self.independence:
            start = self.beta if level == 1 else None
            self.begin_level(level)
        while True:
            other = None if self.independence else self.other.point
            scalars, moments, self.S, U, other_S, other_U = self.evaluate(self.beta, self.alpha, other, level)
            rest = 0.0
            if other is not None:
                other_step, rest = self.step(other_S, other_U)
                if not self.other.advance(scalars[OTHER_VALUE], other_step):
                    rest = np.inf
                    if start is not None and not self.spent:  # both had taken that step
                        self.beta = start + self.other.step
                        continue
                elif level == 1:
                    if self.stop_separated(other_step, rest, other_S):
                        return False
                    if rest <= 1e-16 or (not self.exact and rest <= 1e-2 and not self.goes_far(other_step)):
                        self.independence = other_S, scalars[OTHER_SQUARES]
                start = None
            step, decrement = self.step(self.S, U)
            self.note(level, scalars[VALUE], decrement)
            alpha = self.correlation(scalars, moments, level)
            moved = 0.0 if alpha is None else np.abs(alpha - self.alpha).max(initial=0.0)
            length = np.sqrt(2.0 * decrement / self.heavy)
            if best is None or length < best[0]:
                best, tries = (length, self.beta, self.alpha, self.S, step, alpha), 0
            elif length > WORSE * max(best[0], 1.0):
                tries += 1
                if self.spent or tries > MOST_TRIES:
                    return self.keep(best)
                before, last, scale = np.inf, np.inf, 0.25**tries
                points.clear()
                self.beta, self.alpha = self.between(best, scale)
                continue
            if level == 1 and self.separating(step, decrement):
                return self.keep(best)
            # how far both still are from settled, in about standard errors
            distance = length + moved * np.sqrt(self.equations.clusters.sizes.size)
            scale = max(0.5 * scale, 1 / 64) if distance > 2.0 * last else min(1.0, 2.0 * scale)
            if before < np.inf:
                self.shrinking = np.sqrt(decrement / before)
            if level == 1:
                settled = self.near_enough(decrement, moved) and self.independence is not None
            else:
                settled = rest <= COARSE_TOL and (decrement <= COARSE_TOL or decrement > SLOW**2 * before)
            if settled or scale < 1.0 or alpha is None:
                points.clear()
                self.beta, self.alpha = self.beta + scale * step, alpha
            else:
                self.beta, self.alpha = self.mixed(points, step, alpha, distance)
            if settled and scale == 1.0:
                self.shrinking *= 0.5  # for the next level: it falls with the root of the number of rows
                return True
            if self.spent:
                return self.keep(best)
            before, last = decrement, distance

    def keep(self, best):
        length, self.beta, self.alpha, self.S, _, _ = best
        self.report.decrement = 0.5 * length**2 * self.heavy
        return False

    def between(self, best, share):
        """A share of the way from the best point to where its step led, which was too far."""
        _, beta, alpha, _, step, there = best
        if there is not None:
            alpha = self.equations.within_range(alpha + share * (there - alpha))[0]
        return beta + share * step, alpha

    def mixed(self, points, step, alpha, distance):
        """The next coefficients and correlation, by Anderson's (1965) acceleration of the alternation.

        Where neither changes the other much it has nothing to speed up; with many correlations from few clusters it can
        save hundreds of iterations.
        """
        m = step.size
        here, there = np.append(self.beta, self.alpha), np.append(self.beta + step, alpha)
        points.append((here, there - here))
        if len(points) > 1:
            del points[:-MIXED_POINTS]
            x, f = (np.array(column) for column in zip(*points, strict=True))
            share = np.linalg.lstsq(np.diff(f, axis=0).T, f[-1])[0]
            mix = there - share @ (np.diff(x, axis=0) + np.diff(f, axis=0))
            move = mix[:m] - self.beta
            if move @ self.S @ move <= (FARTHEST_MIX * distance) ** 2 * self.unit * self.heavy:
                there = mix
        return there[:m], self.equations.within_range(there[m:])[0]

    def begin_level(self, level):
        """Another sample has another likelihood. On all rows both estimates are moved by the independence model's step:
        it is nearly the same for both."""
        self.other = Ascent(self.other.point)
        if level == 1:
            scalars, _, S, U, _, _ = self.evaluate(self.other.point, None, None, 1)
            step, decrement = self.step(S, U)
            self.note(1, scalars[VALUE], decrement)
            self.other.advance(scalars[VALUE], step)
            self.beta = self.beta + step

    def near_enough(self, decrement, moved):
        """Whether the error is below tol after this step and, on large data, the one that the last pass adds.

        Fisher scoring converges linearly: each step is shorter than the one before it by about the same factor. To be
        exact the working correlation must have settled, too; it moved by `moved`.
        """
        length = np.sqrt(2.0 * decrement)
        if self.exact:
            return length <= self.tol * np.sqrt(self.heavy) and moved <= self.tol
        return self.shrinking < 0.1 and length * self.shrinking**2 <= self.tol

    def result(self):
        """One last pass at the final point, and what it tells."""
        equations, report = self.equations, self.report
        scalars, moments, S, U, meats, without = equations.correct(self.beta, self.alpha, self.bread(self.S))
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
        bread, coordinates = self.bread(S)[on], equations.coordinates
        influence = None
        if without is not None:
            to_natural = np.zeros((equations.m, equations.m))
            to_natural[equations.active] = bread @ coordinates.T
            influence = equations.by_level(multiply_in_place(without, to_natural))
        report.converged = self.converged
        report.verdict = self.verdict()
        return GEEFit(
            beta=coordinates @ self.beta[equations.active],
            alpha=equations.no_correlation if alpha is None else alpha,
            dispersion=float(dispersion),
            bread=bread,
            meats=np.stack([meat[on] for meat in meats]),
            coordinates=coordinates,
            # geepack's QIC leaves weights out of the quasi-likelihood
            quasi_likelihood=float(scalars[VALUE if equations.ddof_correction else PLAIN_VALUE]),
            independence_information=information[on] / other_dispersion,
            aliased=np.flatnonzero(~equations.active[: equations.p]).tolist(),
            separated=self.separated,
            times=equations.timing.shown(),
            trouble=trouble,
            cluster_sizes=(int(equations.clusters.sizes.min()), equations.clusters.largest),
            n_clusters=equations.clusters.sizes.size,
            too_light=equations.too_light,
            influence=influence,
            level_rows=equations.by_level(equations.clusters.sizes),
            report=report,
        )

    def verdict(self):
        report = self.report
        if self.separated:
            return (
                f"stopped where long steps gain next to nothing (the last {report.decrement:.1e} log-likelihood "
                "units): the likelihood has no maximum along them"
            )
        length = np.sqrt(2 * max(report.decrement, 0.0))
        if report.converged:
            return f"converged: the last step was {length:.1e} standard errors long"
        if self.spent:
            return (
                f"stopped after {report.n_iter} iterations with a step of {length:.1e} standard errors left; raise "
                "max_iter, or try a simpler working correlation"
            )
        return (
            f"no step led nearer to a solution of the estimating equations than {length:.1e} standard errors; try a "
            "simpler working correlation, or fewer features"
        )
