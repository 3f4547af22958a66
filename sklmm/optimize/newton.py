"""Trust-region Newton and quasi-Newton methods for log-likelihoods, from coarse samples to all rows, and one verdict.

Knows nothing of models: it sees value, gradient and Hessian, and how far a step moves linear predictors.
"""

from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from scipy.linalg import eigh

from sklmm.optimize.trust_region import Step, newton_step

# A sample of the blocks need not be fitted better than its own sampling error: a decrement of this much is noise.
COARSE_TOL = 0.05
# On all rows a sample's optimum lacks about half a unit a parameter for each time that it has fewer rows. Where it
# lacks so many times as much, the sample was not like the data.
BELIEVABLE = 20.0
# A step that moves the linear predictor of some row this far and gains less than this leads to infinity: separation.
# Going on would only wear the information down to rounding error.
FAR, FLAT = 0.5, 1e-6
LEAST_FAR = 0.07 * FAR  # in linear predictors, of any link: `farthest` measures in the steps of its own
# No step moves the linear predictor of a row farther than this; one that moves it by more than the second number goes
# along no direction of so little information. Only steps that are long in standardised coefficients are looked at.
MOST_MOVE, LONG_MOVE, LITTLE, IDLE, LONG = 1e4, 30.0, 1e-4, 1e-8, 10.0
# Rounding errors of a log-likelihood: sums of rows, and conditional modes that are found to a tolerance.
NOISE, RELATIVE_NOISE = 1e-9, 1e-12
# A step is taken if it gains this share of what the quadratic model promises; below the second share the model is
# trusted less far from there on, above the third farther.
TAKEN, POOR, GOOD = 1e-4, 0.25, 0.75
MOST_STALLED = 3  # steps that gain less than rounding errors, or would, without coming nearer


@dataclass
class FitReport:
    """How a fit went.

    Attributes
    ----------
    history : list of dict
        One row per evaluation: iteration, level (1: all rows; s: one block of them in s), rows, log_likelihood (of
        those rows), decrement, seconds.
    n_full_passes : int
        Evaluations over all rows; a noise-free measure of the work.
    n_iter : int
        Evaluations on all samples.
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
    """Where a climb ended.

    Attributes
    ----------
    x, value : ndarray, float
        The best point, and the log-likelihood there (with what the last, short step gains if that was not evaluated).
    hessian : ndarray
    last_step : ndarray
        The step that would come next (or came last, unevaluated).
    runs_away : bool
        That step moves linear predictors far and gains nothing: there is no maximum along it.
    report : FitReport
    """

    x: np.ndarray
    value: float
    hessian: np.ndarray
    last_step: np.ndarray
    runs_away: bool
    report: FitReport


@dataclass
class _Point:
    """Where a climb stands: an evaluation and the step from it.

    `unbounded` is the step before it is kept from moving rows out of sight.
    """

    x: np.ndarray
    value: float
    gradient: np.ndarray
    information: np.ndarray
    stride: int = 1
    rough: bool = False
    next: Step = None
    unbounded: np.ndarray = None

    @property
    def decrement(self):
        return self.next.decrement

    @property
    def noise(self):
        """Rounding errors of the value."""
        return NOISE + RELATIVE_NOISE * abs(self.value)


class Climber:
    """Steps within a trust region, and the report of them.

    Attributes
    ----------
    radius : float
        Of the trust region; infinite until a step has disappointed.
    arrived : bool
        Whether the last climb ended where it should, and not for want of iterations or of steps that gain.
    evaluated : ndarray
        Where the likelihood was looked at last.
    """

    def __init__(self, evaluate, farthest, n_rows, n_fixed, held, max_iter, progress, report, give_up, most=0.0,
                 bounded=False):
        self.evaluate, self.farthest, self.give_up = evaluate, farthest, give_up
        self.n_rows, self.n_fixed, self.active = n_rows, n_fixed, ~held
        self.max_iter, self.progress, self.certain, self.bounded = max_iter, progress, most - FLAT, bounded
        self.report = FitReport() if report is None else report
        self.began = perf_counter() - (self.report.history[-1]["seconds"] if self.report.history else 0.0)
        self.radius, self.arrived, self.evaluated = np.inf, False, None

    @staticmethod
    def has_stalled(point, stalled):
        """Whether steps gain nothing any more at the top: what seems to curve upwards there is rounding error."""
        return stalled >= MOST_STALLED and not point.rough and point.next.slope <= point.noise

    def ends(self, point, stalled):
        """Whether a climb ends here though it has not arrived."""
        spent = self.spent or stalled >= MOST_STALLED
        return spent or (self.give_up is not None and self.give_up(point.x, point.value))

    @property
    def spent(self):
        return self.report.n_iter >= self.max_iter

    def at(self, x, stride=1, rough=False):
        """The evaluation at x and the step from there; None where it fails or gives no numbers."""
        self.evaluated, point = x, None
        try:
            value, gradient, information = self.look(x, stride, rough)
        except FloatingPointError:
            value = np.nan
        if np.isfinite(value) and np.isfinite(gradient).all() and np.isfinite(information).all():
            point = _Point(x, value, gradient, information, stride, rough)
            self.plan(point)
        self.record(stride, point)
        return point

    def look(self, x, stride, rough):
        """Value, gradient and information at x."""
        value, gradient, hessian = self.evaluate(x, stride, rough)
        return value, gradient, -hessian

    def plan(self, point):
        planned = newton_step(point.gradient, point.information, self.active, self.n_fixed, point.x, self.radius)
        fixed, point.unbounded = planned.step[: self.n_fixed], planned.step
        if self.farthest is not None and np.abs(fixed).max(initial=0.0) > LONG:
            planned = self.shortened(point, planned)
        point.next = planned

    def shortened(self, point, planned):
        """A step that moves no row out of sight: where outcomes are certain no information bounds one."""
        step, far = planned.step, self.farthest(planned.step[: self.n_fixed])
        if far > LONG_MOVE and not self.bounded:
            step = step - self.idle_part(point, step)
            if _gain(point, step) <= point.noise:
                step = planned.step
            far = self.farthest(step[: self.n_fixed])
        if step is planned.step and far <= MOST_MOVE:
            return planned
        share = min(1.0, MOST_MOVE / max(far, MOST_MOVE))
        step = step * share
        return replace(planned, step=step, gain=_gain(point, step), length=planned.length * share, newton=False)

    def idle_part(self, point, vector):
        """The part of a vector in directions in which it moves rows far that have next to no information.

        Along them a coefficient that goes to infinity is far out already: how far, and which way, is rounding error.
        Columns that are nearly collinear have little information, too, but they move rows that have a weight.
        """
        on, out = self.active, np.zeros_like(vector)
        A = point.information[np.ix_(on, on)]
        scale = np.sqrt(np.maximum(np.abs(A.diagonal()), 1e-30 * np.abs(A.diagonal()).max(initial=1e-30)))
        w, V = eigh(A / scale / scale[:, None])
        for j in np.flatnonzero(np.abs(w) < LITTLE):
            alone, along = np.zeros_like(vector), V[:, j] @ (vector[on] * scale)
            alone[on] = V[:, j] * along / scale
            far = self.farthest(alone[: self.n_fixed])
            if far > LONG_MOVE and np.abs(w[j]) * along**2 < IDLE * far**2:  # rows without a weight
                out += alone
        return out

    def record(self, stride, point):
        self.report.n_iter += 1
        self.report.n_full_passes += stride == 1
        row = {
            "iteration": self.report.n_iter,
            "level": stride,
            "rows": self.n_rows // stride,
            "log_likelihood": np.nan if point is None else float(point.value),
            "decrement": np.nan if point is None else float(point.decrement),
            "seconds": perf_counter() - self.began,
        }
        self.report.history.append(row)
        if self.progress is not None:
            self.progress(row)

    def begin(self, candidates, stride=1, coarser=0.0, rough=True):
        """The best of the points to begin a sample with; the first alone if it is as good as it should be.

        `coarser`: how many times fewer rows have led to the first; 0 if it is not from a sample.
        """
        self.radius, best = np.inf, None
        for x in candidates:
            point = self.at(x, stride, rough)
            if point is not None and (best is None or point.value > best.value):
                best = point
            if self.spent or (best and (not coarser or best.decrement <= BELIEVABLE * coarser * self.active.sum())):
                break
        if best is None:
            raise FloatingPointError("the log-likelihood has no value at the start: is X or sample_weight extreme?")
        return best

    def climb(self, point, tol, polish=False):
        """Steps until the decrement is below tol, or will be after the last.

        `polish`: the climb goes on where another ended, and only an evaluated decrement counts.
        """
        before, stalled = np.inf, 0
        while True:
            self.arrived = self.done(point, before, tol, polish) or self.has_stalled(point, stalled)
            if self.arrived or self.ends(point, stalled):
                return point
            trial = self.at(point.x + point.next.step, point.stride, point.stride > 1)
            least = min(point.decrement, point.next.gain) <= point.noise
            if self.accepts(point, trial):
                # where steps gain less than rounding errors a climb that does not come nearer has arrived
                stalled = stalled + 1 if least and trial.decrement > 0.5 * point.decrement else 0
                point, before = trial, point.decrement if point.next.newton else np.inf
            else:
                stalled += least
                self.plan(point)

    def accepts(self, point, trial):
        """Whether the step to the trial is taken; adapts the radius to how well it was foreseen."""
        if trial is None:
            self.radius = 0.1 * point.next.length
            return False
        gained, promised = trial.value - point.value, point.next.gain
        if promised <= point.noise:
            share = 1.0 if gained >= -point.noise else 0.0
        else:
            share = gained / promised
        if share < POOR:
            self.radius = 0.25 * point.next.length
        elif share > GOOD and point.next.length >= 0.5 * self.radius:
            self.radius *= 4.0
        if share < TAKEN:
            return False
        if np.isfinite(self.radius):
            self.plan(trial)
        return True

    def done(self, point, before, tol, strict):
        if point.stride == 1 and point.rough:
            return False
        if point.decrement <= tol or self.runs_away(point):
            return True
        return not strict and point.next.newton and self.near_enough(point.decrement, before, tol)

    def runs_away(self, point):
        """Whether the next step moves the linear predictor of some row far, and gains nothing; or all is certain."""
        if self.farthest is None or self.bounded or (point.decrement > FLAT and point.value <= self.certain):
            return False
        if point.value > self.certain:
            return True
        step = point.unbounded[: self.n_fixed]  # rows are looked at only where one could move so far
        return np.abs(step).sum() * np.sqrt(self.n_rows) >= LEAST_FAR and self.farthest(step) >= FAR

    @staticmethod
    def near_enough(decrement, before, tol):
        """Whether the Newton step from here ends with a decrement below tol.

        Newton's method squares the error, so successive decrements d0, d1, d2 have d2 / d1 = (d1 / d0)^2, once they are
        small; a factor of 10 is kept in reserve.
        """
        small = 1e-4 if tol < COARSE_TOL else 1.0
        return decrement <= small and before < np.inf and 10 * decrement * (decrement / before) ** 2 <= tol

    def revisit(self, point):
        """Evaluate where the climb has ended, as the likelihood keeps what belongs to its last evaluation."""
        self.evaluated = point.x
        self.report.n_full_passes += 1
        self.evaluate(point.x)

    def finish(self, point, tol, snap):
        """The optimum where a climb ended, and the verdict; the likelihood was looked at last at this point."""
        report, away = self.report, self.runs_away(point)
        may_run = self.farthest is not None and not self.bounded
        if not away and may_run and np.abs(point.x[: self.n_fixed]).max(initial=0.0) > FAR:
            outward = self.idle_part(point, point.x)  # so far out that no step tells of it any more
            if outward.any():
                point.unbounded, away = outward, True
        if self.evaluated is not point.x:
            self.revisit(point)
        report.decrement = float(point.next.slope if self.arrived else point.decrement)
        report.converged = bool(self.arrived or away or (not point.rough and report.decrement <= max(tol, point.noise)))
        report.verdict = _verdict(report, tol, away)
        x, value = point.x, point.value
        if report.converged and not away:
            x, value = snap(x + point.next.step), value + point.next.gain
        return Optimum(x, float(value), -point.information, point.unbounded, away, report)


def maximise(evaluate, x, *, strides, n_rows, n_fixed, held, snap, polish, farthest=None, tol=1e-10, max_iter=100,
             progress=None, report=None, give_up=None, most=0.0, bounded=False):
    """Maximise a sum over blocks by trust-region Newton steps with the exact Hessian.

    Parameters
    ----------
    evaluate : callable (x, stride=1, rough=False) -> (value, gradient, hessian)
        Over one block in `stride`. Rough evaluations, on samples and where the climb on all rows begins, are never the
        last. Where it raises FloatingPointError or gives no numbers the step to x was too long.
    x : ndarray
        Start.
    strides : sequence of int
        Ends with 1, e.g. (64, 8, 1): the samples of blocks to climb through. They change the path, not the optimum.
    n_rows : int
    n_fixed : int
        The first so many parameters are fixed effects: the likelihood is concave in them, or nearly.
    held : mask of parameters to keep at their start.
    snap : callable x -> x
        Puts parameters that have reached a boundary on it; for the final point.
    polish : bool
        Evaluate once more at the final point, so that the Hessian, too, belongs to it.
    farthest : callable step -> float, or None
        How far a step in the fixed effects moves the linear predictor of some row at most; None: it is not asked.
    tol : float
        Converged when the decrement, after the last step, is below it; that step is taken without an evaluation.
    max_iter : int
        Evaluations, those already in `report` included.
    progress : callable or None
        Called with each row of the history.
    report : FitReport or None
        Of earlier climbs on the same likelihood, to go on with.
    give_up : callable (x, value) -> bool, or None
        Whether a climb that has come here is of no use any more.
    most : float
        No value is above it, and next to it all outcomes are certain.
    bounded : bool
        Whether no fixed effect can go to infinity.

    Returns
    -------
    Optimum
    """
    climber = Climber(
        evaluate, farthest, n_rows, n_fixed, held, max_iter, progress, report, give_up, most, bounded
    )
    candidates, coarser = [x], 0.0
    for stride, finer in zip(strides, [*strides[1:], None], strict=True):
        point = climber.climb(climber.begin(candidates, stride, coarser), COARSE_TOL if finer else tol)
        if finer:
            candidates, coarser = [point.x + point.next.step, x], stride / finer
    if polish and not (climber.spent or climber.runs_away(point)):
        last = climber.at(snap(point.x + point.next.step))
        if last is not None and last.value >= point.value - point.noise:
            point = climber.climb(last, tol, polish=True)
    return climber.finish(point, tol, snap)


def _gain(point, step):
    """What the quadratic model promises."""
    return float(point.gradient @ step - 0.5 * step @ point.information @ step)


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
        f"(tol={tol:g}); raise max_iter, or look for a coefficient (separation) or a variance without bound"
    )
