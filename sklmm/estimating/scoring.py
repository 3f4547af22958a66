"""Regression of independent rows by Fisher scoring; from there on alternated with moments for the working correlation.

Of the logit, Fisher scoring is Newton's method where rows are independent.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from sklmm.estimating.clusters import Clusters
from sklmm.estimating.equations import PLAIN_VALUE, SQUARES, VALUE, Equations, GEEFit, Whitening
from sklmm.estimating.linear import LinearEquations
from sklmm.estimating.penalties import PenalisedEquations
from sklmm.families import LOGIT
from sklmm.optimize.newton import FitReport
from sklmm.passes.tables import multiply_in_place

EXACT_ROWS = 200_000  # up to here fits go on to rounding error, so that covariances belong to the final point
EXACT_TOL = 1e-9  # of their last step, in standard errors
SURE = 1e-7  # what rounding error may leave of it
LARGE_TOL = 1e-8  # of independence models of more rows, which cost little to solve: an error, in standard errors
ROUGH_TOL = 0.5  # of the independence model that many rows begin with
SAMPLE_TOL, SAMPLE_STEPS = 0.3, 12  # a sample's own noise is more; one that takes more steps is no help
# What is tried in turn: a share of the scoring step, and the growth of the distance that ends an acceleration.
ATTEMPTS = ((1.0, np.inf), (1.0, 1.0), (0.5, 1.0), (0.2, 1.0))
PATIENCE = 20  # evaluations in a row that lead no nearer
ASTRAY = 10.0  # times as far from a solution as before: the step was too long
MIXED_POINTS = 6  # that an accelerated step is made of
FARTHEST_MIX = 10.0  # times as far as the plain step, that an accelerated one may go
FAR, FLAT = 0.5, 1e-6  # a step that moves linear predictors so far, and gains so little, leads to infinity
NOTHING_LEFT = 0.1  # of log-likelihood: one row of even odds has 0.69
CERTAIN = 15.0  # a linear predictor so far towards the row's outcome
POOR = 5.0  # times what the coefficients' covariance explains, that a solution may be worse than the intercept alone


def fit_gee(X, y, *, correlation, codes=None, n_clusters=None, labels=None, times=None, sample_weight=None,
            offset=None, fit_intercept=True, family=LOGIT, dispersion=None, ddof_correction=True, penalty=None,
            tol=1e-4, max_iter=100, n_threads=1, progress=None):
    """Solve the estimating equations of a marginal model.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32, finite, any strides
    y : ndarray of shape (n,), uint8, or with `GAUSSIAN` float64, finite
    correlation : WorkingCorrelation
    codes : ndarray of shape (n,), intp, or None
        Cluster of each row; None: every row is one.
    n_clusters : int
    labels : sequence
        Names of the clusters, for messages.
    times : ndarray of shape (n,), float64, finite, or None
        None: the order of a cluster's rows.
    sample_weight : ndarray of shape (n,), float64, or None
    offset : ndarray of shape (n,), float64, finite, or None
        What is added to the linear predictors.
    fit_intercept : bool
    family : Bernoulli or Gaussian
    dispersion : float or None
        None: estimated.
    ddof_correction : bool
        Which definitions of the moments, see `ResidualMoments`.
    penalty : None, "firth" or float
        Of classes: see `sklmm.estimating.penalties`.
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
    settings = fit_intercept, dispersion, ddof_correction, n_threads, family, offset
    given = X, y, clusters, correlation, *settings
    if penalty is None:
        equations = (Equations if family.has_classes else LinearEquations)(*given)
    else:
        equations = PenalisedEquations(penalty, *given)
    return Solver(equations, tol, max_iter, progress).result()


@dataclass
class Point:
    """An evaluation, and where it leads.

    Attributes
    ----------
    beta, alpha : ndarray
        alpha is None for the independence model.
    sums : tuple
        Scalars, moments, S and U, see `Equations.evaluate`.
    step : ndarray
        The scoring step S^-1 U.
    length : float
        Of the step in standard errors: naive ones, with a dispersion of 1 and weights of mean 1 (of measured outcomes
        the dispersion that ordinary least squares leaves, which is their unit).
    target : ndarray or None
        alpha by the residuals here.
    distance : float
        Of beta and alpha from where they lead, in about standard errors.
    """

    beta: np.ndarray
    alpha: np.ndarray | None
    sums: tuple
    step: np.ndarray
    length: float
    target: np.ndarray | None
    distance: float

    @property
    def value(self):
        return self.sums[0][VALUE]

    @property
    def S(self):
        return self.sums[2]

    @property
    def U(self):
        return self.sums[3]


class Solver:
    """From the intercept-only model to the independence model, and from there to the working correlation's solution.

    Owns the report. Many rows are begun with samples of them.
    """

    def __init__(self, equations, tol, max_iter, progress):
        self.equations, self.max_iter, self.progress = equations, max_iter, progress
        self.structured = equations.whitening != Whitening.INDEPENDENT
        self.exact = equations.n_rows <= EXACT_ROWS
        self.tol = min(tol, EXACT_TOL) if self.exact else tol
        self.report, self.began = FitReport(), perf_counter()
        self.weight = equations.n_obs / equations.n_rows
        self.null = equations.intercept_only()
        self.rate = 1.0  # of the distance from a solution to that of the point before
        self.settled, self.separated, self.poor, self.tried = False, [], False, 0
        self.far = FAR * equations.family.certain_step

    @property
    def spent(self):
        return self.report.n_iter >= self.max_iter

    def solve(self):
        """The last point: next to the solution if `settled`, else the best that there was."""
        beta, alpha, shift = self.climb_samples()
        point = self.independence = self.maximise(beta, 1, self.tol if self.exact else ROUGH_TOL)
        if self.structured and self.settled and not self.separated:
            if self.spent:  # before a step under the working correlation
                self.settled = False
                return point
            alpha = self.moments(point.sums) if alpha is None else alpha
            point = self.score(point.beta + point.step + shift, alpha, 1)
        return point

    def climb_samples(self):
        """Where to begin on all rows: coefficients of the independence model, the working correlation, and what that
        adds to the coefficients."""
        beta, alpha, shift, point = self.equations.start(self.null), None, 0.0, None
        strides = [1] if self.exact else self.equations.sample_strides()
        for stride in strides[:-1]:
            point = self.maximise(beta, stride, SAMPLE_TOL)
            if not self.settled:
                return self.null, None, 0.0
            beta = point.beta + point.step
        if self.structured and point is not None:
            scored = self.score(beta, self.moments(point.sums, strides[-2]), strides[-2])
            if self.settled:
                alpha, shift = scored.target, scored.beta + scored.step - beta
                self.rate *= 0.5  # it falls with the root of the number of rows
            else:
                self.rate = 1.0
        return beta, alpha, shift

    # Evaluations -------------------------------------------------------------------------------------------

    def at(self, beta, alpha, stride=1, beside_offset=True):
        point = self.point(beta, alpha, self.equations.evaluate(beta, alpha, stride, beside_offset), stride)
        row = {
            "iteration": self.report.n_iter,
            "level": stride,
            "rows": self.equations.n_rows // stride,
            "quasi_likelihood": float(point.value) * self.equations.unit**2,
            "decrement": 0.5 * point.length**2,
            "seconds": perf_counter() - self.began,
        }
        self.report.history.append(row)
        if self.progress is not None:
            self.progress(row)
        return point

    def point(self, beta, alpha, sums, stride=1):
        """Count an evaluation, and see where it leads."""
        self.report.n_iter += 1
        self.report.n_full_passes += stride == 1
        step, length = self.step(*sums[2:])
        if alpha is None:
            return Point(beta, alpha, sums, step, length, None, length)
        target = self.moments(sums, stride)
        moved = np.abs(target - alpha).max(initial=0.0) * np.sqrt(self.equations.clusters.sizes.size)
        return Point(beta, alpha, sums, step, length, target, length + moved)

    def moments(self, sums, stride=1):
        """The working correlation by the residuals of a pass; sums over a sample count as if over all rows."""
        share = self.equations.share(stride)
        return self.equations.estimate(sums[0] / share, sums[1] / share)[1]

    def step(self, S, U):
        """The scoring step, and its length in standard errors."""
        step = self.equations.bread(S) @ U
        return step, float(np.sqrt(max(step @ U, 0.0) / self.weight))

    # The independence model --------------------------------------------------------------------------------

    def maximise(self, beta, stride, tol):
        """Regression of independent rows by Fisher scoring from `beta`, or from the intercept alone if that is better.

        Steps that gain less than they should are taken again with a ridge, up to the largest information that there
        can be, with which every step gains (Boehning and Lindsay 1988). `settled` if a maximum was reached, or columns
        are `separated`.
        """
        self.settled, ridge, bound, before, first = False, 0.0, None, np.inf, self.report.n_iter
        point = self.at(beta, None, stride)
        if point.value < (1.0 + 1e-9) * self.equations.value_without_slopes(self.null, stride):
            point = self.at(self.null, None, stride)
        while True:
            slow = point.length > 0.3 * before  # Newton's method squares errors, but on the way to infinity
            gain = 0.5 * point.length**2 * max(1.0, self.weight)  # what it is for rows repeated, where weights count
            if stride == 1 and slow and gain <= FLAT and not self.equations.bounded:
                self.separated = self.separating(point)
            done = point.length <= (SURE if slow else tol)
            if not self.structured and before < np.inf:  # the last pass evaluates the point after this step
                done |= point.length**3 / before**2 <= 0.1 * tol
            if done and stride == 1 and not self.exact and self.far < np.inf:
                done = np.abs(self.equations.moves(point.step)).max() < self.far
            if done and not (self.separated or self.equations.bounded) and point.value > -NOTHING_LEFT:
                self.separated = self.all_certain(point)
            self.settled = done or bool(self.separated)
            if self.settled or self.spent or (stride > 1 and self.report.n_iter - first >= SAMPLE_STEPS):
                return point
            step = self.equations.bread(point.S + ridge * bound) @ point.U if ridge else point.step
            trial = self.at(point.beta + step, None, stride)
            gain, expected = trial.value - point.value, step @ (point.U - 0.5 * point.S @ step)
            if gain < 0.1 * expected - 1e-12 * abs(point.value):
                if bound is None:
                    bound = self.at(np.zeros_like(beta), None, stride, beside_offset=False).S
                ridge = max(30.0 * ridge, 1e-6)
                continue
            before = np.inf if ridge else point.length
            point = trial
            if gain > 0.75 * expected:
                ridge = 0.1 * ridge if ridge > 1e-8 else 0.0

    def separating(self, point):
        """Columns (-1: the intercept) along whose step rows move far, and none of them away from its outcome.

        Rows that are certain of theirs do not keep a step from moving them; then a linear program knows.
        """
        moves = self.equations.moves(point.step)
        away = moves < -0.01 * moves.max()
        if moves.max() < self.far:
            return []
        if away.any() and (self.equations.certainty(point.beta) + moves)[away].min() < CERTAIN:
            return []
        if away.any() and not self.equations.separable():
            return []
        return self._columns_along(point.step)

    def all_certain(self, point):
        """Columns that tell every row's outcome, if they do: a step may lead so far at once that no other follows."""
        return self._columns_along(point.beta) if (self.equations.moves(point.beta) > 0.0).all() else []

    def _columns_along(self, direction):
        """The columns (-1: the intercept) along which a direction moves rows apart."""
        spread = self.equations.spread(direction)
        return np.flatnonzero(spread >= 0.3 * spread.max(initial=0.0)).tolist() or [-1]

    # The working correlation -------------------------------------------------------------------------------

    def score(self, beta, alpha, stride):
        """Fisher scoring alternated with moments, by whole steps and then by shares of them.

        `settled` if that came to an end; if not, the best point stands. There is no likelihood to climb: steps may lead
        away for a while, but not far at once.
        """
        start, best, self.settled = (beta, alpha), None, False
        lowest = self.equations.lowest(self.null, stride)
        for most, growth in ATTEMPTS if stride == 1 else ATTEMPTS[:1]:
            (beta, alpha), share, last, points, waited, least = start, most, None, [], 0, np.inf
            while not self.spent and waited <= PATIENCE:
                point = self.at(beta, alpha, stride)
                waited = 0 if point.distance < least else waited + 1
                least = min(least, point.distance)
                if best is None or point.distance < best.distance:
                    best = point
                if last is not None:
                    self.rate = point.distance / max(last.distance, 1e-300)
                if self.near_enough(point, stride, waited, last):
                    self.settled = True
                    return best
                if last is not None and not (
                    point.distance <= ASTRAY * max(last.distance, 1.0) and point.value >= lowest
                ):
                    share *= 0.2
                    points.clear()
                else:
                    last, share = point, min(2.0 * share, most)
                    if self.rate > growth:
                        points.clear()
                beta, alpha = self.mixed(points, last, share)
            self.rate = 1.0
            self.tried += stride == 1 and not self.spent
        return best

    def near_enough(self, point, stride, waited, last):
        """Whether the error is below tol after this step and, on large data, the one that the last pass adds.

        Fisher scoring converges linearly: each step is shorter than the one before it by about the same factor.
        """
        if stride > 1:
            return last is not None and (point.length <= SAMPLE_TOL or self.rate > 0.7)
        if self.exact:
            return point.distance * min(self.rate, 1.0) <= self.tol or (waited > 2 and point.distance <= SURE)
        return self.rate < 0.1 and point.length * self.rate**2 <= self.tol

    def mixed(self, points, point, share):
        """The next coefficients and correlation, by Anderson's (1965) acceleration of the alternation.

        Where neither changes the other much it has nothing to speed up; with many correlations from few clusters it can
        save hundreds of iterations.
        """
        m = point.step.size
        here, move = np.append(point.beta, point.alpha), np.append(point.step, point.target - point.alpha)
        there = here + share * move
        points.append((here, move))
        if len(points) > 1:
            del points[:-MIXED_POINTS]
            x, f = (np.array(column) for column in zip(*points, strict=True))
            weights = np.linalg.lstsq(np.diff(f, axis=0).T, f[-1])[0]
            mix = there - weights @ (np.diff(x, axis=0) + share * np.diff(f, axis=0))
            change = mix[:m] - point.beta
            if change @ point.S @ change <= (FARTHEST_MIX * point.distance) ** 2 * self.weight:
                there = mix
        return there[:m], self.equations.within_range(there[m:])[0]

    # The end -----------------------------------------------------------------------------------------------

    def result(self):
        """One last pass at the final point, and what it tells. Its step is free, and is taken; if that is long, the fit
        had not ended."""
        equations, report = self.equations, self.report
        point = self.solve()
        while True:
            beta, alpha, goes_on = point.beta, point.alpha, self.settled and not self.separated
            if goes_on:
                beta, alpha = point.beta + point.step, point.target
            scalars, moments, S, U, meats, without = equations.correct(beta, alpha, equations.bread(point.S))
            last = self.point(beta, alpha, (scalars, moments, S, U))
            if not goes_on or self.ended(last, point):
                break
            self.settled = last.length < 0.5 * point.length and not self.spent
            if self.spent:
                break
            without = None  # a table as long as there are clusters
            if self.settled:
                point = last
            else:
                point = self.score(beta, alpha, 1) if self.structured else self.maximise(beta, 1, self.tol)
        if self.settled and not self.separated:
            beta = beta + last.step
        report.decrement = 0.5 * last.length**2
        dispersion, estimated, trouble = equations.scale(scalars[SQUARES]), None, None
        if not self.separated:  # residuals that vanish say nothing of the correlation
            dispersion, estimated, trouble = equations.estimate(scalars, moments)
        information, squares = S, scalars[SQUARES]
        if self.structured:
            information, squares = equations.information(self.independence), self.independence.sums[0][SQUARES]
        if equations.dispersion is not None:
            dispersion = other_dispersion = equations.dispersion
        else:
            other_dispersion = equations.scale(squares) or np.nan
        on = np.ix_(equations.active, equations.active)
        bread, coordinates = equations.bread(S)[on], equations.coordinates
        influence = None
        if without is not None:
            to_natural = np.zeros((equations.m, equations.m))
            to_natural[equations.active] = bread @ coordinates.T
            influence = equations.by_level(multiply_in_place(without, to_natural))
        penalty = np.trace(information[on] @ bread @ meats[0][on] @ bread) / other_dispersion  # CIC
        if self.settled and self.worse_than_the_intercept(scalars[VALUE], alpha, penalty):
            self.settled, self.poor = False, True
        report.converged = self.settled
        report.verdict = self.verdict()
        fit = GEEFit(
            beta=equations.natural(beta),
            alpha=equations.no_correlation if estimated is None else estimated,
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
        return equations.in_users_units(fit)

    def ended(self, last, before):
        """Whether the last pass's step, after that of the point before it, leaves no more of an error than it may."""
        if self.exact:
            return last.distance <= SURE
        rate = min(last.length / max(before.length, 1e-300), 1.0)
        return last.length * rate <= self.tol if self.structured else last.length * rate**2 <= LARGE_TOL

    def worse_than_the_intercept(self, value, alpha, penalty):
        """Whether the quasi-likelihood is lower than that of the intercept alone, under the same working correlation,
        by more than uncertain coefficients make it: equations may have solutions far from the data."""
        equations, family, mean = self.equations, self.equations.family, 0.0
        if not family.has_classes:
            return value < equations.lowest(self.null)
        alone = equations.value_without_slopes(self.null)
        if value >= alone:
            return False
        if alpha is not None and equations.fit_intercept and equations.offset is not None:
            point, found = self.at(self.null, alpha), self.null.copy()
            found[-1] += point.U[-1] / point.S[-1, -1]  # solves its equation to first order
            alone = equations.value_without_slopes(found)
        elif alpha is not None and equations.fit_intercept:
            point = self.at(self.null, alpha)
            eta = self.null[-1]
            mean = family.mean(eta)
            mean += point.U[-1] / point.S[-1, -1] * family.slope(mean, eta)  # solves its equation
        if 0.0 < mean < 1.0:
            alone = equations.value_without_slopes(np.append(self.null[:-1], family.link(mean)))
        return value < alone - POOR * max(equations.n_coefficients, penalty)

    def verdict(self):
        """What became of the fit, in words."""
        verdict = self._verdict()
        if self.equations.bounded and not self.report.converged:
            verdict += (
                ". Equations with a penalty can fail to converge: try correlation='independence', or a ridge, such as "
                "penalty=1.0, that is larger"
            )
        return verdict

    def _verdict(self):
        report = self.report
        if self.separated:
            return (
                f"stopped where long steps gain next to nothing (the last {report.decrement:.1e} log-likelihood "
                "units): the likelihood has no maximum along them"
            )
        length = np.sqrt(2 * max(report.decrement, 0.0))
        if report.converged:
            return f"converged: the last step was {length:.1e} standard errors long"
        if self.poor:
            return (
                "the solution of the estimating equations describes the rows worse than the intercept alone; try a "
                "simpler working correlation, or fewer features"
            )
        if self.tried:
            return (
                f"no step led nearer to a solution of the estimating equations than {length:.1e} standard errors; try "
                "a simpler working correlation, or fewer features" + ", or raise max_iter" * self.spent
            )
        return (
            f"stopped after {report.n_iter} iterations with a step of {length:.1e} standard errors left; raise "
            "max_iter, or try a simpler working correlation"
        )
