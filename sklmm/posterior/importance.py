"""Adaptive importance sampling of a density around its mode, with quasi-random points.

Rounds of N/4, N/4 and N/2 points of one scrambled Sobol sequence. The first proposal is a t distribution with 5 degrees
of freedom at the mode; the next ones are 0.2 of it and 0.8 in t components with the moments of parts of the weighted
draws so far. Weights are against the mixture of all proposals (Cornuet, Marin, Mira and Robert 2012), and smoothed (see
`pareto`). Some coordinates are folded: a point is the absolute value of what was drawn, and the density there is
the sum over both signs, so that 0, where a half-line ends, is an ordinary point.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri
from scipy.stats import qmc

from sklmm.posterior.pareto import pareto_smoothed, trusted_below

DF = 5.0
WIDER = 1.1  # the first proposal than the curvature at the mode says
FIRST_SHARE, OVERALL_SHARE = 0.2, 0.05  # of the first proposal in later ones; of all draws' covariance in a part's
PARTS = 3
# Of a component for small values of the first standard deviation, so many deviations below the mean, where the
# posterior's tail is longer than a t's. Of 50 runs with 40 groups k was above 0.67 in 8 without it, in none with 0.05,
# in 2 with 0.02; 0.1 costs a tenth of the accuracy.
LOW_SHARE, LOWER = 0.05, 2.5
MOST_FOLDED, FAR_FROM_0 = 6, 6.0  # sums over signs have 2^6 terms; beyond 6 standard deviations a sign is lost


@dataclass(frozen=True, eq=False)
class WeightedPoints:
    """What a sampler found.

    Attributes
    ----------
    points : ndarray of shape (n, d)
    log_density : ndarray of shape (n,)
        Of the density that was sampled, not normalised.
    weights : ndarray of shape (n,)
        Pareto-smoothed; they sum to 1.
    pareto_k : float
    log_evidence, log_evidence_error : float
        Logarithm of the density's integral, and its standard error as if points were independent: quasi-random ones do
        better.
    """

    points: np.ndarray
    log_density: np.ndarray
    weights: np.ndarray
    pareto_k: float
    log_evidence: float
    log_evidence_error: float

    @property
    def effective_size(self):
        """How many independent draws have as much variance as independent points with these weights."""
        return 1.0 / float(self.weights @ self.weights)

    @property
    def trusted(self):
        """Whether the tail of the weights lets averages be relied on."""
        return self.pareto_k <= trusted_below(len(self.weights))

    def moments(self, values=None):
        """Weighted mean and covariance of the points, or of other values with a row a point."""
        return moments(self.points if values is None else values, self.weights)

    def resampled(self, n, rng):
        """Positions of n draws of equal weight, by systematic resampling, in random order."""
        cumulative = np.cumsum(self.weights)
        at = (np.arange(n) + rng.random()) / n
        return rng.permutation(np.minimum(np.searchsorted(cumulative / cumulative[-1], at), len(self.weights) - 1))


def sample(log_density, mode, covariance, *, n, folded, split, seed):
    """Weighted points of a density.

    Parameters
    ----------
    log_density : callable
        Of points (m, d), those of `folded` coordinates not negative: (m,), -inf where the density is 0.
    mode : ndarray of shape (d,)
    covariance : ndarray of shape (d, d)
        Inverse of minus the Hessian of the log density at the mode.
    n : int
        Number of points: a power of 2, of at least 8.
    folded : ndarray of int
        Coordinates that are not negative, for which both signs stand for one point.
    split : int
        The coordinate by which draws are parted for the components of later proposals.
    seed : int

    Returns
    -------
    WeightedPoints
    """
    first = _Component(mode, WIDER * np.linalg.cholesky(covariance))
    proposal = _Proposal([first], np.ones(1), _worth_folding(folded, mode, covariance))
    sobol = qmc.Sobol(mode.size + 2, scramble=True, seed=np.random.default_rng(seed))
    points, values, parts = np.empty((0, mode.size)), np.empty(0), []
    for m in (n // 4, n // 4, n // 2):
        drawn = proposal.points(sobol.random(m), folded)
        outside = (drawn[:, folded] < 0.0).any(axis=1)
        found = np.full(m, -np.inf)
        found[~outside] = log_density(drawn[~outside])
        points, values = np.vstack([points, drawn]), np.append(values, found)
        parts.append((m, proposal))
        log_q = logsumexp([np.log(k / len(points)) + each.log_density(points) for k, each in parts], axis=0)
        raw = values - log_q
        if not np.isfinite(raw).any():
            raise FloatingPointError("no point of the first proposal has a posterior density")
        log_weights, k = pareto_smoothed(raw)
        total = logsumexp(log_weights)
        weights = np.exp(log_weights - total)
        proposal = proposal.adapted(first, points, weights, split)
    share = np.exp(log_weights - total) * n
    error = float(np.sqrt(np.mean((share - 1.0) ** 2) / n))
    return WeightedPoints(points, values, weights, k, float(total - np.log(n)), error)


def moments(points, weights):
    """Weighted mean and covariance."""
    mean = weights @ points
    centred = points - mean
    return mean, (weights[:, None] * centred).T @ centred


def _worth_folding(folded, mode, covariance):
    """The coordinates whose other sign is likely enough to be counted, the nearest to 0 if there are many."""
    distance = mode[folded] / np.sqrt(np.diagonal(covariance)[folded])
    near = np.argsort(distance, kind="stable")[:MOST_FOLDED]
    return folded[near[distance[near] < FAR_FROM_0]]


class _Component:
    """A t distribution with DF degrees of freedom: its center, and the triangular root of its scale."""

    def __init__(self, center, root):
        self.center, self.root = center, root
        d = center.size
        self.constant = gammaln(0.5 * (DF + d)) - gammaln(0.5 * DF) - 0.5 * d * np.log(DF * np.pi)
        self.constant -= np.log(root.diagonal()).sum()

    def log_density(self, points):
        r = solve_triangular(self.root, (points - self.center).T, lower=True)
        return self.constant - 0.5 * (DF + len(r)) * np.log1p(np.einsum("dn,dn->n", r, r) / DF)


class _Proposal:
    """A mixture of components, folded in some coordinates."""

    def __init__(self, components, shares, both_signs):
        self.components, self.shares, self.both_signs = components, shares, both_signs

    def points(self, uniform, folded):
        """Points from rows of uniform numbers: d normals, the chi-squared of the t, and the component.

        What is not worth folding keeps its sign.
        """
        d = uniform.shape[1] - 2
        uniform = np.clip(uniform, 1e-12, 1.0 - 1e-12)
        spread = ndtri(uniform[:, :d]) * np.sqrt(0.5 * DF / gammaincinv(0.5 * DF, uniform[:, d]))[:, None]
        which = np.minimum(np.searchsorted(np.cumsum(self.shares), uniform[:, -1]), len(self.shares) - 1)
        out = np.empty_like(spread)
        for j, each in enumerate(self.components):
            out[which == j] = each.center + spread[which == j] @ each.root.T
        out[:, self.both_signs] = np.abs(out[:, self.both_signs])
        return out

    def log_density(self, points):
        terms, signed = [], points.copy()
        for signs in product((1.0, -1.0), repeat=len(self.both_signs)):
            signed[:, self.both_signs] = points[:, self.both_signs] * signs
            terms += [np.log(share) + each.log_density(signed)
                      for share, each in zip(self.shares, self.components, strict=True)]  # fmt: skip
        return logsumexp(terms, axis=0)

    def adapted(self, first, points, weights, split):
        """The next proposal, from the weighted points so far."""
        d, size = points.shape[1], 1.0 / float(weights @ weights)
        whole_mean, whole = moments(points, weights)
        # few effective draws say little of a covariance: the first one stands beside theirs
        whole = (size * whole + d * first.root @ first.root.T) / (size + d)
        order = np.argsort(points[:, split], kind="stable")
        part = np.minimum((PARTS * np.cumsum(weights[order])).astype(int), PARTS - 1)
        # the low tail: of many groups' standard deviation it is longer than that of a t
        low = whole_mean - LOWER * whole[split] / np.sqrt(whole[split, split])
        components = [first, _Component(low, np.linalg.cholesky(whole))]
        for j in range(PARTS):
            own = order[part == j]
            share = weights[own].sum()
            if share <= 0.0:
                components.append(_Component(whole_mean, np.linalg.cholesky(whole)))
                continue
            mean, covariance = moments(points[own], weights[own] / share)
            components.append(_Component(mean, np.linalg.cholesky(covariance + OVERALL_SHARE * whole)))
        rest = (1.0 - FIRST_SHARE - LOW_SHARE) / PARTS
        shares = np.array([FIRST_SHARE, LOW_SHARE, *[rest] * PARTS])
        return _Proposal(components, shares, self.both_signs)
