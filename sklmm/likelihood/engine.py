"""What an engine is, and which one serves: (beta, theta) -> log-likelihood, gradient, Hessian; conditional modes.

An engine is made of `Observations` and a `Structure`, by `make_engine`. It knows neither how it is climbed nor what the
user's columns are called. Engines around engines have the same members, so that `fit` and profiles do not see them.

Parameters x are the slopes of all columns of X, the intercept if there is one, and theta: the entries of Lambda factor
by factor, in the order of `RelativeCovariance`. All are those of centred and scaled columns; `Engine.units` knows how,
and translates.
"""

from typing import Protocol

from sklmm.likelihood import nested
from sklmm.likelihood.clustered import ClusteredLikelihood
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.nested import NestedLikelihood


class Engine(Protocol):
    """The log-likelihood of some rows.

    Attributes
    ----------
    observations : Observations
    structure : Structure
    units : Units
    covariance : RelativeCovariance
        Of all factors.
    offset : ndarray of shape (n_rows,) or None
        Of the observations, less what the intercept has taken in.
    n_rows, n_fixed, n_params : int
        Rows, and entries of x: the first n_fixed are fixed effects.
    aliased : ndarray of shape (p,), bool
        Slopes to be held at 0: of columns that are constant, linear combinations of earlier ones, or for random
        coefficients alone.
    n_quadrature : int
        Nodes a dimension that the integral is approximated by; 1 is Laplace's approximation.
    strides : sequence of int
        Samples to climb through, coarsest first: one block of rows in so many; the last is 1, all of them.
    most : float
        No value is above it: 0 for outcomes of classes; infinite where there are penalties.
    bounded : bool
        Whether penalties keep all fixed effects from infinity.
    has_clusters, costly_curvature : bool
        Whether it is a `SumOverClusters`, whether it has `CostlyCurvature`.
    """

    def evaluate(self, x, stride=1, rough=False):
        """Value, gradient (n_params,) and Hessian (n_params, n_params); None for a Hessian that is costly.

        Over one block of rows in `stride`. `rough` asks for conditional modes that are good enough to point the way.
        What follows is of the point that was evaluated last, over all rows and not roughly.

        Raises
        ------
        FloatingPointError
            Where there is no value: x is too far out.
        """

    def value(self, x):
        """The value of `evaluate` alone, over all rows; what follows is of x then, too."""

    def random_effects(self, x):
        """Conditional modes b and their covariances at x, where it was evaluated last, in the user's units.

        Levels without rows have what the model says of any: mode 0, covariance Lambda Lambda'.

        Returns
        -------
        modes : list of ndarray of shape (n_levels, q)
        mode_cov : list of ndarray of shape (n_levels, q, q)
            An entry a factor.
        """

    def posteriors(self, x):
        """Posteriors of the effects of each factor's levels; `random_effects` comes first.

        Returns
        -------
        posteriors : list of NodePosterior or NormalPosterior
            An entry a factor.
        joint : JointPosterior or None
            Of several factors.
        """


class SumOverClusters(Engine, Protocol):
    """A sum over the levels of one factor, which are independent: its clusters are the levels that have rows.

    Attributes
    ----------
    cluster_rows : ndarray of shape (n_clusters,)
        Number of rows of each.
    cluster_gradients : ndarray of shape (n_clusters, n_params), float32, or None
        Gradient of each cluster's log-likelihood at the last evaluation over all rows that was not rough; None before.
    gradient_products : ndarray of shape (n_params, n_params)
        Sum of their outer products, in double precision.
    """

    def by_cluster(self, x):
        """Derivatives of single clusters, batch by batch.

        Yields
        ------
        levels : ndarray of shape (n,)
        values, gradients, hessians : ndarrays of shapes (n,), (n, n_params) and (n, n_params, n_params)
        """

    def cluster_values(self, x):
        """Log-likelihoods of the clusters, (n_clusters,), in the order of `cluster_rows`."""

    def by_level(self, values):
        """Values of clusters in the order of the levels; 0 for levels without rows."""

    def with_nodes(self, n_quadrature):
        """The engine of the same rows with other nodes, its modes those found here."""

    def sampled_rows(self, stride):
        """How many rows are in a sample."""


class CostlyCurvature(Engine, Protocol):
    """An engine whose Hessian costs many evaluations: `maximise_by_gradients` climbs it.

    Attributes
    ----------
    n_evaluations : int
        So far, those for the Hessian included.
    """

    def information(self, x):
        """A guess of minus the Hessian at x, where `evaluate` was last."""

    def hessian(self, x, information, active, rough=False):
        """Hessian at x, where `evaluate` and `information` were last, of the parameters that are active (a mask).

        `information` is what was guessed. `rough`: cheaper, and good enough to point the way.
        """

    def move(self, x, step):
        """x + step to first order, along a curve on which the likelihood is nearer to a parabola."""


def make_engine(observations, structure, n_threads=1, units=None, priors=None):
    """The engine for these rows: the place where more of them join.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    n_threads : int
    units : Units or None
        Those of an earlier fit, or of other rows, to use here; None: those that suit these rows.
    priors : list of (mean, precision) or None
        In the place of N(0, I), for the effects of each factor's levels: (n_levels, q) and (n_levels, q, q).

    Returns
    -------
    Engine
    """
    factors = structure.factors
    if len(factors) > 1 and structure.nodes > 1:
        names = ", ".join(repr(factor.name) for factor in factors)
        raise ValueError(
            f"n_quadrature={structure.nodes} needs a single grouping factor, but there are {len(factors)} ({names}): "
            "their random effects are integrated out together, for which there is the Laplace approximation only, "
            "n_quadrature=1"
        )
    if priors is not None:
        engine = CrossedLikelihood(observations, structure, n_threads, units)
        engine.set_prior(*zip(*priors, strict=True))
        return engine
    if len(factors) <= 1:
        return ClusteredLikelihood(observations, structure, n_threads, units)
    serves = NestedLikelihood if nested.serves(observations, structure) else CrossedLikelihood
    return serves(observations, structure, n_threads, units)
