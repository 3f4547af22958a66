"""Newton's method for an objective that is a sum over blocks, from coarse to fine, and one verdict on convergence.

Knows nothing of models: it sees value, gradient and Hessian.
"""

from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from scipy.linalg import eigh, lapack

# A sample of the blocks need not be fitted better than its own sampling error: a decrement of this much is noise.
COARSE_TOL = 0.05
# A step this long, in a standardised fixed effect, that gains less than this leads to infinity: separation. Going on
# would only wear the information down to rounding error.
FAR, FLAT = 0.5, 1e-6
# The largest step in a relative standard deviation, in which the likelihood is far from quadratic.
MAX_STEP = 2.0
# Quasi-Newton: pairs of steps and gradients that are kept, and the decrement below which the exact Hessian takes over.
MAX_PAIRS = 10
EXACT_BELOW = 1e-9
SHORT = 1.0  # steps that gain more are too long to tell the curvature
TROUBLE = 3  # so many steps that were too long or gained little, and the curvature itself is asked for, roughly
REJECTED = 4  # so many more that were too long, and it is asked for in full


@dataclass
class FitReport:
    """How a fit went.

    Attributes
    ----------
    history : list of dict
        One row per evaluation: iteration, level (1: all rows; s: every s-th block of them), rows, log_likelihood (of
        those rows), decrement, seconds.
    n_full_passes : int
        Evaluations over all rows; a noise-free measure of the work.
    n_iter : int
        Evaluations on all levels.
    decrement : float
        Newton decrement g'H^-1 g / 2 at the last evaluation: what the last step gained in log-likelihood, nearly.
    converged : bool
    verdict : str
        In words.
    """

    history: list = field(default_factory=list)
    n_full_passes: int = 0
    n_iter: int = 0
    decrement: float = np.inf
    converged: bool = False
    verdict: str = "not started"


@dataclass
class Optimum:
    x: np.ndarray
    value: float
    hessian: np.ndarray
    last_step: np.ndarray
    report: FitReport


def newton_step(gradient, information, active, n_fixed):
    """Step towards the maximum, and its gain to second order (Newton's decrement where the Hessian is definite).

    The parameters behind the n_fixed first ones, in which the likelihood is far from quadratic, move by MAX_STEP at
    most: their curvature is raised until they do, and until the Hessian is definite, so that the step goes uphill.
    Where a direction curves upwards, and more is to gain along it, that is the step: it leaves saddle points, such as a
    variance of 0 that should not be.
    """
    g, A = (gradient, information) if active.all() else (gradient[active], information[np.ix_(active, active)])
    far = np.flatnonzero(active) >= n_fixed
    scale = np.abs(A.diagonal())
    scale = 1.0 / np.sqrt(np.where(scale > 0, scale, 1.0))
    A, g = A * (scale[:, None] * scale), g * scale
    step = np.zeros_like(gradient)
    definite, ridge, on = True, 0.0, np.where(far, scale**2, 0.0)
    while True:
        factor, failed = lapack.dpotrf(A + np.diag(ridge * on) if ridge else A, lower=1)
        definite &= not failed
        if not failed:
            direction = lapack.dpotrs(factor, g, lower=1)[0]
            if np.abs((direction * scale)[far]).max(initial=0.0) <= MAX_STEP:
                break
        elif ridge > 1e12:  # not the far ones alone
            on = np.ones_like(g)
            ridge = 1e-10
        ridge = 10 * ridge if ridge else 1e-8
    step[active] = direction * scale
    gain = 0.5 * float(g @ direction)
    if definite:
        return step, gain
    w, V = eigh(A)
    kick = V[:, 0] * scale * (1.0 if g @ V[:, 0] >= 0 else -1.0)
    length = min(1.0, MAX_STEP / max(np.abs(kick[far]).max(initial=0.0), 1e-300))
    upward = -0.5 * w[0] * length**2 if w[0] < -1e-8 * np.abs(w).max() else 0.0
    if upward > gain:
        step[active] = kick * length
        return step, upward
    return step, gain


@dataclass
class _Point:
    """Where a climb stands: the last evaluation and the Newton step from it."""

    x: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    level: int
    rough: bool
    step: np.ndarray = None
    decrement: float = np.inf
    guess: np.ndarray = None


class _Climber:
    """Newton's method on one level after another; owns the report."""

    def __init__(self, evaluate, n_rows, n_fixed, held, max_iter, progress):
        self.evaluate, self.n_rows, self.n_fixed, self.active = evaluate, n_rows, n_fixed, ~held
        self.max_iter, self.progress = max_iter, progress
        self.report, self.began = FitReport(), perf_counter()

    def at(self, x, level, rough):
        """Evaluate at x and find the Newton step."""
        value, gradient, hessian = self.evaluate(x, level, rough)
        point = _Point(x, value, gradient, hessian, level, rough)
        point.step, point.decrement = newton_step(gradient, -hessian, self.active, self.n_fixed)
        self.record(point)
        return point

    def record(self, point):
        self.report.n_iter += 1
        self.report.n_full_passes += point.level == 1
        row = {
            "iteration": self.report.n_iter,
            "level": point.level,
            "rows": self.n_rows // point.level,
            "log_likelihood": float(point.value),
            "decrement": float(point.decrement),
            "seconds": perf_counter() - self.began,
        }
        self.report.history.append(row)
        if self.progress is not None:
            self.progress(row)

    def climb(self, x, level, tol, polish=False):
        """Newton steps, shortened while the value falls, until the decrement is below tol, or will be after the last.

        `polish`: the climb goes on where another ended, and only an evaluated decrement counts.
        """
        point, before = self.at(x, level, not polish), np.inf
        while not self.done(point, before, tol, polish):
            step = point.step
            while True:
                if self.report.n_iter >= self.max_iter:
                    return point
                trial = self.at(point.x + step, level, level > 1)
                if trial.value >= point.value - 1e-12 * (1.0 + abs(point.value)):
                    break
                step = 0.25 * step
            point, before = trial, point.decrement
        return point

    def done(self, point, before, tol, strict):
        if point.level == 1 and point.rough:
            return False
        if self.runs_away(point):
            tol = max(tol, FLAT)
        return point.decrement <= tol or (not strict and self.near_enough(point.decrement, before, tol))

    def runs_away(self, point):
        return np.abs(point.step[: self.n_fixed]).max(initial=0.0) >= FAR

    @staticmethod
    def near_enough(decrement, before, tol):
        """Whether the Newton step from here ends with a decrement below tol.

        Newton's method squares the error, so successive decrements d0, d1, d2 have d2 / d1 = (d1 / d0)^2, once they are
        small; a factor of 10 is kept in reserve.
        """
        small = 1e-4 if tol < COARSE_TOL else 1.0
        return decrement <= small and before < np.inf and 10 * decrement * (decrement / before) ** 2 <= tol


def maximise(evaluate, x, *, levels, n_rows, n_fixed, held, snap, polish, tol=1e-10, max_iter=100,
             progress=None):
    """Maximise a sum over blocks by Newton's method with the exact Hessian.

    Parameters
    ----------
    evaluate : callable (x, level, rough) -> (value, gradient, hessian)
        Over every level-th block. Rough evaluations, on samples and where the climb on all rows begins, are never the
        last.
    x : ndarray
        Start.
    levels : sequence of int
        Ends with 1, e.g. (64, 8, 1): the samples of blocks to climb through. They change the path, not the optimum.
    n_rows : int
        For the report.
    n_fixed : int
        The first so many parameters are fixed effects: the likelihood is concave in them, or nearly.
    held : mask of parameters to keep at their start.
    snap : callable x -> x
        Puts parameters that have reached a boundary on it; for the final point.
    polish : bool
        Evaluate once more at the final point, so that the Hessian, too, belongs to it.
    tol : float
        Converged when the decrement, after the last step, is below it; that step is taken without an evaluation.

    Returns
    -------
    Optimum
    """
    climber = _Climber(evaluate, n_rows, n_fixed, held, max_iter, progress)
    for level in levels[:-1]:
        point = climber.climb(x, level, COARSE_TOL)
        x = point.x + point.step
    point = climber.climb(x, 1, tol)
    report = climber.report
    if polish and report.n_iter < max_iter:
        point = climber.climb(snap(point.x + point.step), 1, tol, polish=True)
    report.decrement = float(point.decrement)
    report.converged = report.n_iter < max_iter or report.decrement <= tol
    report.verdict = _verdict(report, tol, climber.runs_away(point))
    x = snap(point.x + point.step) if report.converged else point.x
    value = point.value + (point.decrement if report.converged else 0.0)
    return Optimum(x, value, point.hessian, point.step, report)


def maximise_by_gradients(evaluate, information, hessian, move, x, *, n_rows, n_fixed, held, snap, tol=1e-10,
                          max_iter=100, progress=None):
    """Maximise by quasi-Newton steps, with the exact Hessian at the end, where it is the observed information.

    Parameters
    ----------
    evaluate : callable x -> (value, gradient)
    information : callable x -> matrix
        A guess of minus the Hessian where `evaluate` was last; differences of gradients correct it.
    hessian : callable (x, information, active, rough=False) -> matrix
        The Hessian there; expensive, less so if it may be rough.
    move : callable (x, step) -> x
        x + step to first order.
    x, n_rows, n_fixed, held, snap, tol, max_iter, progress
        As in `maximise`.

    Returns
    -------
    Optimum
    """
    climber = _Climber(None, n_rows, n_fixed, held, max_iter, progress)
    report, active = climber.report, climber.active
    pairs, exact, trouble, rejected = [], None, 0, 0

    def at(x, before=None):
        value, gradient = evaluate(x)
        point = _Point(x, value, gradient, None, 1, False)
        point.guess = information(x)
        if before is not None and before.decrement < SHORT:
            pairs.append((x - before.x, before.gradient - gradient))
        if exact is not None:
            use = exact
        elif trouble >= TROUBLE:
            use = -hessian(x, point.guess, active, rough=rejected < REJECTED)
        else:
            use = _with_secants(point.guess, pairs[-MAX_PAIRS:])
        point.step, point.decrement = newton_step(gradient, use, active, n_fixed)
        climber.record(point)
        return point

    def not_below(point, before):
        return point.value >= before.value - 1e-10 * (1.0 + abs(before.value))

    def settled(point):
        """Newton's method squares the error: from here the last step ends below tol."""
        return exact is not None and point.decrement <= max(tol, 0.1 * np.sqrt(tol))

    point = at(x)
    while report.n_iter < max_iter:
        if exact is None and point.decrement <= EXACT_BELOW:
            exact = -hessian(point.x, point.guess, active)
            point.step, point.decrement = newton_step(point.gradient, exact, active, n_fixed)
            if point.decrement > np.sqrt(EXACT_BELOW):  # the guess was far too steep: not there yet
                exact, trouble = None, TROUBLE
        if settled(point) or (climber.runs_away(point) and point.decrement <= FLAT):
            break
        step = point.step
        trial = at(move(point.x, step), point)
        while not not_below(trial, point) and report.n_iter < max_iter:
            trouble += report.n_iter > 4
            rejected += trouble >= TROUBLE
            step = 0.25 * step
            trial = at(move(point.x, step), point)
        trouble += trial.decrement > 0.3 * point.decrement
        if not_below(trial, point):
            point = trial
    if exact is None:
        evaluate(point.x)
        exact = -hessian(point.x, information(point.x), active)
        point.step, point.decrement = newton_step(point.gradient, exact, active, n_fixed)
    runaway = climber.runs_away(point)
    report.decrement = float(point.decrement)
    report.converged = settled(point) or (runaway and point.decrement <= FLAT)
    report.verdict = _verdict(report, tol, runaway)
    x = snap(point.x + point.step) if report.converged else point.x
    value = point.value + (point.decrement if report.converged else 0.0)
    return Optimum(x, value, -exact, point.step, report)


def _with_secants(information, pairs):
    """Broyden-Fletcher-Goldfarb-Shanno updates of the information, one a pair (step, fall of the gradient)."""
    B = information
    for s, y in pairs:
        Bs = B @ s
        curvature = s @ Bs
        if s @ y <= 1e-3 * curvature or curvature <= 0:  # it curves upwards there
            continue
        B = B - np.outer(Bs, Bs) / curvature + np.outer(y, y) / (s @ y)
    return B


def _verdict(report, tol, runaway):
    if report.converged and runaway:
        return (
            f"stopped where long steps gain next to nothing (the last {report.decrement:.1e} log-likelihood units): "
            "the likelihood has no maximum along them"
        )
    if report.converged:
        return f"converged: the last step gained {report.decrement:.1e} log-likelihood units (tol={tol:g})"
    return (
        f"stopped after {report.n_iter} iterations with {report.decrement:.1e} log-likelihood units left to gain "
        f"(tol={tol:g}); raise max_iter, or look for separation or a variance without bound"
    )
