"""An engine around an engine: the log-likelihood less penalties, such as priors and the pulls of a profile."""

import numpy as np

SAME = ("observations", "structure", "units", "covariance", "offset", "n_rows", "n_fixed", "n_params", "aliased",
        "n_quadrature", "strides", "costly_curvature")  # fmt: skip


class Pull:
    """A penalty that pulls a quantity c(x) towards a target: -stiffness (c - target)^2 / 2.

    A penalty's one method is `added`.

    Parameters
    ----------
    quantity : object with at(x) -> value, gradient, Hessian
        See `sklmm.inference.parameters`.
    stiffness, target : float
    """

    def __init__(self, quantity, stiffness, target):
        self.quantity, self.stiffness, self.target = quantity, stiffness, target

    def added(self, x, value, gradient, hessian, share):
        """A function's value, gradient and Hessian at x, or None for the last, with a share of the penalty added."""
        c, dc, ddc = self.quantity.at(x)
        stiffness = share * self.stiffness
        pull = stiffness * (c - self.target)
        if hessian is not None:
            hessian = hessian - stiffness * np.outer(dc, dc) - pull * ddc
        return value - 0.5 * pull * (c - self.target), gradient - pull * dc, hessian


class Penalised:
    """An `Engine` with penalties; with `CostlyCurvature` where the engine has it, but no sum over clusters.

    Parameters
    ----------
    engine : Engine
    penalties : list of objects with `added`, see `Pull`
    """

    has_clusters = False

    def __init__(self, engine, penalties):
        self.engine, self.penalties = engine, penalties
        for name in SAME:
            setattr(self, name, getattr(engine, name))
        self.random_effects, self.posteriors = engine.random_effects, engine.posteriors

    def with_penalties(self, x, value, gradient, hessian, share=1.0):
        """What the engine, or somebody else, found at x, with a share of each penalty."""
        for penalty in self.penalties:
            value, gradient, hessian = penalty.added(x, value, gradient, hessian, share)
        return value, gradient, hessian

    def evaluate(self, x, stride=1, rough=False):
        return self.with_penalties(x, *self.engine.evaluate(x, stride, rough), share=1.0 / stride)

    # Costly curvature -------------------------------------------------------------------------------------------

    @property
    def n_evaluations(self):
        return self.engine.n_evaluations

    def information(self, x):
        return -self._curved(x, -self.engine.information(x))

    def hessian(self, x, information, active, rough=False):
        return self._curved(x, self.engine.hessian(x, information, active, rough))

    def move(self, x, step):
        return self.engine.move(x, step)

    def _curved(self, x, hessian):
        return self.with_penalties(x, 0.0, np.zeros_like(x), hessian)[2]
