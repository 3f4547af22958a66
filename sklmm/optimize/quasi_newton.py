"""A quasi-Newton method for log-likelihoods whose Hessian is expensive, within the trust region of `optimize`."""

import numpy as np

from sklmm.optimize.newton import Climber

# Quasi-Newton: pairs of steps and gradients that are kept, and the decrement below which the exact Hessian takes over.
MAX_PAIRS = 10
EXACT_BELOW = 1e-9
SHORT = 1.0  # steps that gain more are too long to tell the curvature
TROUBLE = 3  # so many steps that were too long or gained little, and the curvature itself is asked for, roughly
REJECTED = 4  # so many more that were too long, and it is asked for in full


class SecantClimber(Climber):
    """A climber without a Hessian: a guess of the information, corrected by how the gradient fell along earlier steps.

    Attributes
    ----------
    exact : ndarray or None
        The information by differences of gradients, once it is worth its price; it stays, as the rest is short.
    trouble, rejected : int
        Steps that disappointed; many of them, and the guess is replaced by differences at every point.
    """

    def __init__(self, evaluate, information, hessian, move, *common):
        super().__init__(evaluate, *common)
        self.guess_at, self.hessian, self.move = information, hessian, move
        self.pairs, self.exact, self.trouble, self.rejected = [], None, 0, 0
        self.before = None  # the point that the next evaluation comes from

    def look(self, x, stride, rough):
        value, gradient, _ = self.evaluate(x)
        self.guess = self.guess_at(x)
        if self.before is not None and self.before.decrement < SHORT:
            self.pairs.append((x - self.before.x, self.before.gradient - gradient))
        if self.exact is not None:
            information = self.exact
        elif self.trouble >= TROUBLE:
            information = -self.hessian(x, self.guess, self.active, rough=self.rejected < REJECTED)
        else:
            information = _with_secants(self.guess, self.pairs[-MAX_PAIRS:])
        return value, gradient, information

    def look_closer(self, point):
        """Exact information at the point that was evaluated last, and the step with it."""
        self.exact = point.information = -self.hessian(point.x, self.guess, self.active)
        self.plan(point)

    def settled(self, point, tol):
        """Newton's method squares the error: from here the last step ends below tol."""
        return self.exact is not None and point.decrement <= max(tol, 0.1 * np.sqrt(tol))

    def climb(self, point, tol):
        stalled = 0
        while True:
            if self.exact is None and point.decrement <= EXACT_BELOW:
                self.look_closer(point)
                if point.decrement > np.sqrt(EXACT_BELOW):  # the guess was far too steep: not there yet
                    self.exact, self.trouble = None, TROUBLE
            self.arrived = self.settled(point, tol) or (self.exact is not None and self.runs_away(point))
            self.arrived |= self.has_stalled(point, stalled)
            if self.arrived or self.ends(point, stalled):
                break
            self.before = point
            trial = self.at(self.move(point.x, point.next.step))
            least = min(point.decrement, point.next.gain) <= point.noise
            if self.accepts(point, trial):
                self.trouble += trial.decrement > 0.3 * point.decrement
                stalled = stalled + 1 if least and trial.decrement > 0.5 * point.decrement else 0
                point = trial
                continue
            stalled += least
            self.trouble += self.report.n_iter > 4
            self.rejected += self.trouble >= TROUBLE
            if self.trouble >= TROUBLE and not self.spent:  # what was guessed at this point misleads
                self.before, rejected = None, point.next.step
                point = self.at(point.x) or point
                if point.next.gain <= point.noise < point.decrement:  # the guess knew not how long the step was
                    self.radius = 0.25 * np.sqrt(np.abs(rejected @ point.information @ rejected))
                    self.plan(point)
            else:
                self.plan(point)
        if self.evaluated is not point.x:
            self.revisit(point)
            self.guess = self.guess_at(point.x)
        if self.exact is None:
            self.look_closer(point)
        return point


def maximise_by_gradients(evaluate, information, hessian, move, x, *, n_rows, n_fixed, held, snap, farthest=None,
                          tol=1e-10, max_iter=100, progress=None, report=None, give_up=None, most=0.0,
                          bounded=False):
    """Maximise by quasi-Newton steps, with the exact Hessian at the end, where it is the observed information.

    Parameters
    ----------
    evaluate : callable x -> (value, gradient, None)
    information : callable x -> matrix
        A guess of minus the Hessian where `evaluate` was last; differences of gradients correct it.
    hessian : callable (x, information, active, rough=False) -> matrix
        The Hessian there; expensive, less so if it may be rough.
    move : callable (x, step) -> x
        x + step to first order.
    x, n_rows, n_fixed, held, snap, farthest, tol, max_iter, progress, report, give_up, most, bounded
        As in `maximise`.

    Returns
    -------
    Optimum
    """
    climber = SecantClimber(
        evaluate, information, hessian, move, farthest, n_rows, n_fixed, held, max_iter, progress, report, give_up,
        most, bounded,
    )  # fmt: skip
    return climber.finish(climber.climb(climber.begin([x], rough=False), tol), tol, snap)


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
