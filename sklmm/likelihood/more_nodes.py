"""What more quadrature nodes would do to a fit: how far Laplace's approximation is off, and how many nodes are enough.

At the optimum the log-likelihood with more nodes has a gradient g and a Hessian H. The step -H^-1 g is how far the
estimates are from its own maximum, to first order; a unit of it is a parameter's standard error. Of many rows a fixed
pseudo-random sample of the groups is enough: what more nodes change is much the same in all of them.
"""

from dataclasses import dataclass

import numpy as np

# Nodes a dimension, by number of random coefficients: one after the other until the estimates stand still.
# For one coefficient multiples of 8, as vectors are of 8 nodes.
LADDER = {1: (1, 8, 16, 24, 40, 64, 104), 2: (1, 5, 9, 15, 25, 41), 3: (1, 3, 5, 9, 15)}
STILL = 0.005  # standard errors that the next number of nodes moves no estimate by; what all others add is no more
SAMPLE_ROWS, SAMPLE_SHARE, SAMPLE_CLUSTERS, MANY_ROWS = 20_000, 32, 50, 100_000  # rows times nodes


@dataclass
class Shift:
    """How more nodes would change a fit, to first order.

    Attributes
    ----------
    nodes : int
        A dimension.
    log_likelihood : float
        The change where the fit is now.
    step : ndarray
        Of the intercept, if any, the slopes and theta, in the user's units.
    in_errors : ndarray
        The same in standard errors; 0 for what is not estimated.
    sds, sds_then : ndarray
        Standard deviations of the random coefficients, in the user's units, now and then.
    """

    nodes: int
    log_likelihood: float
    step: np.ndarray
    in_errors: np.ndarray
    sds: np.ndarray
    sds_then: np.ndarray

    @property
    def largest(self):
        """The longest step, in standard errors."""
        return float(np.abs(self.in_errors).max(initial=0.0))


def next_nodes(q, n_quadrature):
    """The number of nodes to compare with, or None where there is none."""
    return next((nodes for nodes in LADDER.get(q, ()) if nodes > n_quadrature), None)


def shift(engine, x, information, nodes):
    """How `nodes` would change the fit with the engine's nodes that ended at x.

    Parameters
    ----------
    engine : SumOverClusters
    x : ndarray
    information : Information
        There.
    nodes : int

    Returns
    -------
    Shift or None
        None where the likelihood has no numbers.
    """
    stride = _stride(engine, nodes)
    finer = engine.with_nodes(nodes)
    try:
        value, gradient, hessian = finer.evaluate(x, stride, rough=True)
        before = engine.with_nodes(engine.n_quadrature).evaluate(x, stride, rough=True)
    except FloatingPointError:
        return None
    times = engine.n_rows / engine.sampled_rows(stride)
    change = [times * (now - then) for now, then in zip((value, gradient, hessian), before, strict=True)]
    step = information.newton_step(change[1], change[2])
    natural, errors = information.to_user(step)
    return Shift(
        nodes, float(change[0]), natural, errors, engine.units.standard_deviations(x),
        engine.units.standard_deviations(x + step),
    )  # fmt: skip


def _stride(engine, nodes):
    """One block of clusters in how many is looked at."""
    n, n_clusters = engine.n_rows, len(engine.cluster_rows)
    stride = n / max(SAMPLE_ROWS / nodes**engine.covariance.q, n / SAMPLE_SHARE)
    if n < MANY_ROWS:
        stride = min(stride, n_clusters / SAMPLE_CLUSTERS)
    return max(1, int(stride))
