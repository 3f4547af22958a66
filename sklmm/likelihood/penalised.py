"""An engine around an engine: the log-likelihood less penalties, such as priors and the pulls of a profile."""

import numpy as np
from scipy.linalg import null_space

from sklmm.design.covariance import SINGULAR

SAME = ("observations", "structure", "units", "covariance", "offset", "n_rows", "n_fixed", "n_params", "aliased",
        "n_quadrature", "strides", "costly_curvature")  # fmt: skip


class Pull:
    """A penalty that pulls a quantity c(x) towards a target: -stiffness (c - target)^2 / 2.

    A penalty has `added`, and

    Attributes
    ----------
    informs : bool
        Whether standard errors count its curvature as information.
    held_back : None, or ndarray of shape (k, n_fixed)
        Combinations of the engine's fixed effects that the penalty keeps from infinity.

    Parameters
    ----------
    quantity : object with at(x) -> value, gradient, Hessian
        See `sklmm.inference.parameters`.
    stiffness, target : float
    """

    informs, held_back = True, None

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
    """An `Engine` with penalties; with `CostlyCurvature` or as a `SumOverClusters` where the engine is one.

    What is said of single clusters is of their own log-likelihoods: penalties belong to none.

    Parameters
    ----------
    engine : Engine
    penalties : list of objects with `added`, see `Pull`
    """

    most = np.inf  # a density may be any number

    def __init__(self, engine, penalties):
        self.engine, self.penalties = engine, penalties
        for name in SAME:
            setattr(self, name, getattr(engine, name))
        self.random_effects, self.posteriors = engine.random_effects, engine.posteriors
        self.free = self._free_directions()

    def _free_directions(self):
        """Directions of the fixed effects that are estimated in which no penalty bounds them, as columns."""
        active = np.ones(self.n_fixed, dtype=bool)
        active[: self.aliased.size] = ~self.aliased
        free = np.eye(self.n_fixed)[:, active]
        for penalty in self.penalties:
            if penalty.held_back is not None and free.size:
                free = free @ null_space(penalty.held_back @ free, rcond=1e-10)
        return free

    @property
    def bounded(self):
        """Whether no fixed effect can go to infinity."""
        return not self.free.shape[1]

    def log_penalty(self, x):
        """What the penalties add at x; -inf where there is no number."""
        try:
            return float(self.with_penalties(x, 0.0, np.zeros_like(x), None)[0])
        except FloatingPointError:
            return -np.inf

    def with_penalties(self, x, value, gradient, hessian, share=1.0):
        """What the engine, or somebody else, found at x, with a share of each penalty."""
        for penalty in self.penalties:
            value, gradient, hessian = penalty.added(x, value, gradient, hessian, share)
        return value, gradient, hessian

    def evaluate(self, x, stride=1, rough=False):
        return self.with_penalties(x, *self.engine.evaluate(x, stride, rough), share=1.0 / stride)

    def value(self, x):
        return self.engine.value(x) + self.log_penalty(x)

    def snap(self, x):
        """x with variances of next to 0 at 0, but for priors that have no density there."""
        if not self.structure.factors:
            return x
        before, x = x, x.copy()
        theta = x[self.n_fixed : self.n_fixed + self.covariance.m]
        theta[self.covariance.on_boundary(theta)] = 0.0
        sizes = np.linalg.norm(self.covariance.lambda_(theta), axis=1)
        theta[sizes[self.covariance.row] < SINGULAR] = 0.0  # the correlations of such coefficients, too
        return before if self.log_penalty(x) == -np.inf else x

    # Sums over clusters ------------------------------------------------------------------------------------------

    @property
    def has_clusters(self):
        return self.engine.has_clusters

    @property
    def cluster_rows(self):
        return self.engine.cluster_rows

    @property
    def cluster_gradients(self):
        return self.engine.cluster_gradients

    @property
    def gradient_products(self):
        return self.engine.gradient_products

    def by_cluster(self, x):
        return self.engine.by_cluster(x)

    def cluster_values(self, x):
        return self.engine.cluster_values(x)

    def by_level(self, values):
        return self.engine.by_level(values)

    def with_nodes(self, n_quadrature):
        return Penalised(self.engine.with_nodes(n_quadrature), self.penalties)

    def sampled_rows(self, stride):
        return self.engine.sampled_rows(stride)

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
