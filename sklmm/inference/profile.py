"""Profile likelihood intervals: the values of one quantity that the likelihood ratio test does not reject.

The profile of a quantity c is the highest log-likelihood for each of its values; an end of the interval is where the
root zeta = sign(c - estimate) sqrt(2 (maximum - profile)) reaches the normal quantile. Points of the profile come from
maximising ``l(x) - K (c(x) - target)^2 / 2``: its maximum is the highest of all points with the same c, a point of the
profile exactly, whatever K is, and K (c - target) is the profile's slope there. Each such fit is Newton's method with
exact derivatives from where the last one ended; with the slopes, Newton's method finds the end, too.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklmm.likelihood.penalised import Penalised, Pull
from sklmm.optimize.trust_region import newton_step

STIFFNESS = 20.0  # K, in units of the profile's curvature
TOL = 1e-9  # of a constrained fit, in log-likelihood units
NEAR = 1e-4  # so near to the quantile a last Newton step ends within its square
MAX_STEPS, MAX_ENDS = 60, 40
BETTER = 1e-5  # a profile this much above the fit: the fit was no maximum


@dataclass
class _Point:
    x: np.ndarray
    c: float
    root: float  # |zeta|
    slope: float  # of the profile


def profile_interval(objective, quantity, level):
    """Both ends of a profile likelihood interval.

    Parameters
    ----------
    objective : MixedObjective
    quantity : FixedEffect, StandardDeviation or Correlation
    level : float

    Returns
    -------
    lower, upper : float
        In the user's terms. A bound of the quantity (0 for standard deviations, -1 and 1 for correlations) where the
        likelihood does not fall to the quantile before it; infinite where it never does; NaN where the end was not
        found.
    """
    quantile = float(stats.norm.isf((1 - level) / 2))
    for part in quantity.parts:
        # Where a standard deviation may as well be 0, its correlations may be anything: the model is the same.
        if _Profiler(objective, part, quantile).end(-1) == 0.0:
            return tuple(map(quantity.to_user, quantity.limits))
    profiler = _Profiler(objective, quantity, quantile)
    return tuple(quantity.to_user(profiler.end(side)) for side in (-1, 1))


class _Profiler:
    def __init__(self, objective, quantity, quantile):
        self.objective, self.quantity, self.quantile = objective, quantity, quantile
        self.estimate, gradient, _ = quantity.at(objective.x)
        self.on_boundary = not quantity.lowest < self.estimate < quantity.highest
        x = quantity.off_boundary(objective.x, 1.0) if self.on_boundary else objective.x
        if self.on_boundary:
            gradient = quantity.at(x)[1]
            self.estimate = np.clip(self.estimate, quantity.lowest, quantity.highest)
        active = objective.active
        information = objective.information[np.ix_(active, active)]
        scale = 1.0 / np.sqrt(np.maximum(np.diagonal(information), 1e-300))
        w, V = np.linalg.eigh(information * scale[:, None] * scale)
        along = V.T @ (gradient[active] * scale)
        self.se = float(np.sqrt(np.sum(along**2 / np.maximum(w, 1e-6 * w[-1]))))
        self.gain = objective.value

    def end(self, side):
        """The value on one side of the estimate at which the root reaches the quantile."""
        quantity = self.quantity
        bound, limit = ((quantity.lowest, quantity.limits[0]), (quantity.highest, quantity.limits[1]))[side > 0]
        if side * (self.estimate - bound) >= 0:
            return limit
        inner, outer = self.estimate, None  # roots below and above the quantile
        x, slope_of_root = self.objective.x, 1.0 / self.se
        goal = self.estimate + side * self.quantile * self.se
        x = quantity.off_boundary(x, abs(goal))
        for _ in range(MAX_ENDS):
            at_bound = side * (goal - bound) >= 0
            goal = bound if at_bound else goal
            point = self.constrained(goal, side, slope_of_root, x)
            if point is None:
                goal = 0.5 * (inner + goal)
                continue
            error = self.quantile - point.root
            if at_bound and error > 0:
                return limit
            x = point.x
            rises = -side * point.slope > 0 and point.root > 0
            slope_of_root = -side * point.slope / point.root if rises else 1e-9 / self.se
            if side * point.c > quantity.fades and error > 2 * slope_of_root:
                return limit
            goal = point.c + side * error / slope_of_root
            if abs(error) < NEAR:
                return goal
            inner, outer = (point.c, outer) if error > 0 else (inner, point.c)
            goal = self._inside(goal, inner, outer, side)
            if side * (point.c - self.estimate) > 1e6 * self.se:
                return side * np.inf
        return np.nan

    def _inside(self, goal, inner, outer, side):
        """The next goal, within the bracket; beyond the last point by at most the distance covered so far."""
        if outer is not None:
            share = (goal - inner) / (outer - inner) if outer != inner else 0.5
            return goal if 0 < share < 1 else inner + 0.5 * (outer - inner)
        reach = max(abs(inner - self.estimate), self.se)
        ahead = side * (goal - inner)
        return inner + side * (min(ahead, 2 * reach) if ahead > 0 else reach)

    def constrained(self, goal, side, slope_of_root, x):
        """The point of the profile near `goal`, where the root is to reach the quantile; None if it is not found."""
        slope = -side * self.quantile * slope_of_root
        stiffness = STIFFNESS * max(1.0 / self.se, slope_of_root) ** 2
        if self.quantity.lowest == 0.0:  # the target must not be below 0, where the penalty has a kink
            if goal <= 0:
                return self._climb(1e4 * stiffness, 0.0, x)
            stiffness = max(stiffness, 2 * slope / goal)
        return self._climb(stiffness, goal - slope / stiffness, x)

    def _climb(self, stiffness, target, x):
        objective, quantity, free = self.objective, self.quantity, None
        engine, active = objective.engine, objective.active
        penalised = Penalised(engine, [Pull(quantity, stiffness, target)])
        value, gradient, hessian = engine.evaluate(x)
        for _ in range(MAX_STEPS):
            if hessian is None:  # that of the fit, corrected by what gradients did since
                free = objective.information if free is None else free
                hessian = -free
            height, slope, curvature = penalised.with_penalties(x, value, gradient, hessian)
            planned = newton_step(slope, -curvature, active, engine.n_fixed, x)
            step = planned.step
            if planned.decrement <= TOL:
                excess = value - self.gain
                if excess > BETTER:
                    raise ValueError(
                        f"profiling found parameters with a log-likelihood {excess:.2g} above the fit's: the fit did "
                        "not converge (see fit_report_), or is at one of several maxima, as happens where groups are "
                        "few and small; more quadrature nodes (n_quadrature) or a simpler random_effects may help"
                    )
                c = quantity.at(x)[0]
                return _Point(x, c, np.sqrt(max(-2.0 * excess, 0.0)), stiffness * (c - target))
            while True:
                trial = _evaluated(engine, x + step)
                if trial and penalised.with_penalties(x + step, *trial)[0] >= height - 1e-12 * (1.0 + abs(height)):
                    break
                step = 0.25 * step
                if np.abs(step).max() < 1e-12:
                    return None
            if free is not None:
                free = _with_secant(free, step, gradient - trial[1], active)
            x, (value, gradient, hessian) = x + step, trial
        return None


def _evaluated(engine, x):
    """The engine's value and derivatives at x; None where a prior has no density."""
    try:
        return engine.evaluate(x)
    except FloatingPointError:
        return None


def _with_secant(information, step, fall, active):
    """The information corrected so that it explains how the gradient fell along a step (symmetric rank one)."""
    rest = np.where(active, fall - information @ step, 0.0)
    scale = rest @ step
    if abs(scale) < 1e-8 * np.linalg.norm(rest) * np.linalg.norm(step):
        return information
    return information + np.outer(rest, rest) / scale
