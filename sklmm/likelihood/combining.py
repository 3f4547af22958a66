"""Posteriors of groups from two sets of rows, when only what each set said is still there.

The weights of a group's nodes are the density at the nodes. Less the prior, their logarithms are the log-likelihood of
the rows there, which is interpolated: log-likelihoods of two sets of rows add up, and with one prior they make the
posterior given both.
"""

import itertools
from math import factorial, perm

import numpy as np
from scipy.interpolate import make_interp_spline

from sklmm.likelihood.posterior import DROP, NodePosterior

GROUPS_AT_ONCE = 4096
SPLINE_DEGREE, MOST_DEGREE = 5, 6  # with one coefficient, with more
POINTS, ROUNDS = 33, 8  # of the search for where the density is not negligible
RADIUS = 3.5  # standard deviations from the mode, from which on polynomials are left for straight lines
STENCIL = 0.25  # step of differences at the mode, in standard deviations
NEWTON_STEPS = 12


def combined(first, second, units):
    """Posterior of the same groups given the rows behind both.

    Parameters
    ----------
    first, second : NodePosterior
        Of the same model, with as many groups.
    units : EffectUnits

    Returns
    -------
    posterior : NodePosterior
    curvature : ndarray of shape (n, q, q)
        Of minus the log density at the modes.
    """
    combine = _combine_one if first.modes.shape[1] == 1 else _combine_several
    parts = [
        combine(first.take(slice(i, i + GROUPS_AT_ONCE)), second.take(slice(i, i + GROUPS_AT_ONCE)), units)
        for i in range(0, len(first.modes), GROUPS_AT_ONCE)
    ]
    posterior = parts[0][0]
    for other, _ in parts[1:]:
        posterior = posterior.followed_by(other)
    return posterior, np.concatenate([curvature for _, curvature in parts])


def _log_likelihood_at_nodes(posterior):
    """Of the rows behind a posterior, up to a constant: (n, k)."""
    u = posterior.center[:, :, None] + posterior.factor @ posterior.grid.points[:, : posterior.grid.k]
    log_density = np.log(np.maximum(posterior.weights, np.finfo(np.float32).tiny).astype(np.float64))
    return log_density - posterior.grid.log_w[: posterior.grid.k] + 0.5 * np.sum(u**2, axis=1)


# One coefficient ----------------------------------------------------------------------------------------------------


class _Spline:
    """Log-likelihood of each group by a spline through its nodes.

    Beyond them the logit's curvature, that of log(1 + exp), fades with exp(-distance) on the scale of the linear
    predictor; other links', which fades to one side or not at all, is taken as constant.
    """

    def __init__(self, posterior, scale):
        k = posterior.grid.k
        values = _log_likelihood_at_nodes(posterior)
        self.low = posterior.center[:, 0] - posterior.factor[:, 0, 0]
        self.step = 2.0 * posterior.factor[:, 0, 0] / (k - 1)
        self.last, self.scale, self.fades = k - 1, abs(scale), posterior.grid.family.curvature_fades
        spline = make_interp_spline(np.arange(k), values.T, SPLINE_DEGREE)
        self.breaks = spline.t[SPLINE_DEGREE:-SPLINE_DEGREE]
        self.taylor = [spline(self.breaks[:-1], nu=m) / factorial(m) for m in range(SPLINE_DEGREE + 1)]

    def __call__(self, u):
        """At the points u (n, m)."""
        at = (u - self.low[:, None]) / self.step[:, None]
        inside = np.clip(at, 0.0, self.last)
        value = self._evaluate(inside, 0)
        beyond = at - inside  # in steps
        per_step = (self.scale * self.step)[:, None]
        slope = self._evaluate(inside, 1) * beyond
        bend = np.minimum(self._evaluate(inside, 2), 0.0)
        if not self.fades:
            return value + slope + 0.5 * bend * beyond**2
        distance = np.abs(beyond) * per_step
        with np.errstate(divide="ignore", invalid="ignore"):
            faded = bend / per_step**2 * (distance + np.expm1(-distance))
        return value + np.where(beyond == 0.0, 0.0, slope + np.where(per_step > 0.0, faded, 0.0))

    def _evaluate(self, at, derivative):
        piece = np.clip(np.searchsorted(self.breaks, at, side="right") - 1, 0, len(self.breaks) - 2)
        x, total = at - self.breaks[piece], np.zeros_like(at)
        group = np.arange(len(at))[:, None]
        for m in range(SPLINE_DEGREE, derivative - 1, -1):
            total = total * x + perm(m, derivative) * self.taylor[m][piece, group]
        return total


def _combine_one(first, second, units):
    likelihoods = [_Spline(posterior, units.Lambda[0, 0]) for posterior in (first, second)]

    def log_density(u):
        return likelihoods[0](u) + likelihoods[1](u) - 0.5 * u**2

    ends = [np.stack([p.center[:, 0] - p.factor[:, 0, 0], p.center[:, 0] + p.factor[:, 0, 0]]) for p in (first, second)]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    low, high = low - (high - low), high + (high - low)  # where both lean the same way, they lean further together
    low, high = _interval(log_density, low, high, DROP)
    mode = np.mean(_interval(log_density, low, high, 1e-6), axis=0)
    step = STENCIL * (high - low) / np.sqrt(8.0 * DROP)
    around = log_density(mode[:, None] + step[:, None] * np.array([-1.0, 0.0, 1.0]))
    curvature = np.maximum((2.0 * around[:, 1] - around[:, 0] - around[:, 2]) / step**2, 1.0)
    center, factor = 0.5 * (low + high), 0.5 * (high - low)
    u = center[:, None] + factor[:, None] * first.grid.points[:, : first.grid.k]
    posterior = NodePosterior(
        first.grid, mode[:, None], center[:, None], factor[:, None, None], _normalised(log_density(u))
    )
    return posterior, curvature[:, None, None]


def _interval(log_density, low, high, drop):
    """Where concave functions are less than `drop` below their maximum, to a thirtieth of that interval's length."""
    share = np.linspace(0.0, 1.0, POINTS)
    rows = np.arange(len(low))
    for _ in range(ROUNDS):
        u = low[:, None] + (high - low)[:, None] * share
        value = log_density(u)
        inside = value > value.max(axis=1, keepdims=True) - drop
        first, last = inside.argmax(axis=1), POINTS - 1 - inside[:, ::-1].argmax(axis=1)
        low, high = u[rows, np.maximum(first - 1, 0)], u[rows, np.minimum(last + 1, POINTS - 1)]
    return low, high


# Several coefficients -----------------------------------------------------------------------------------------------


class _Polynomial:
    """Log-likelihood of each group by least squares on its nodes; beyond them it goes on straight along each ray."""

    def __init__(self, posterior):
        grid = posterior.grid
        q, k = len(grid.points), grid.k
        points = grid.points[:, :k].T
        per_dimension = round(k ** (1 / q))
        self.exponents = _exponents(q, min(per_dimension - 1, MOST_DEGREE))
        self.radius = min(RADIUS, np.abs(points).max())
        # as the normal density weighs the nodes, to the power 1/2: where the mass is, but not there alone
        weight = np.exp(0.5 * (grid.log_w[:k] - 0.5 * np.sum(points**2, axis=1)))[:, None]
        inverse = np.linalg.pinv(weight * _monomials(points, self.exponents)) * weight.T
        self.coefficients = _log_likelihood_at_nodes(posterior) @ inverse.T
        self.center, self.inverse = posterior.center, np.linalg.inv(posterior.factor)

    def __call__(self, u):
        """At the points u (n, m, q)."""
        xi = np.einsum("nab,nmb->nma", self.inverse, u - self.center[:, None, :])
        length = np.linalg.norm(xi, axis=2)
        beyond = np.maximum(length / self.radius, 1.0)
        xi = xi / beyond[:, :, None]
        value, before = self._evaluate(xi), self._evaluate(0.999 * xi)
        return value + (value - before) / 0.001 * (beyond - 1.0)

    def _evaluate(self, xi):
        return np.einsum("nmc,nc->nm", _monomials(xi, self.exponents), self.coefficients)


def _combine_several(first, second, units):
    likelihoods = [_Polynomial(posterior) for posterior in (first, second)]

    def log_density(u):
        return likelihoods[0](u) + likelihoods[1](u) - 0.5 * np.sum(u**2, axis=2)

    q = first.modes.shape[1]
    H = [np.linalg.inv(p.factor @ np.swapaxes(p.factor, 1, 2)) for p in (first, second)]
    pull = sum(np.einsum("nab,nb->na", h, p.modes) for h, p in zip(H, (first, second), strict=True))
    H = H[0] + H[1] - np.eye(q)
    mode = np.linalg.solve(H, pull[:, :, None])[:, :, 0]
    stencil = np.array(list(itertools.product((-STENCIL, 0.0, STENCIL), repeat=q)))
    exponents = _exponents(q, 2)
    fit = np.linalg.pinv(_monomials(stencil, exponents))
    for _ in range(NEWTON_STEPS):  # on differences, in the units of the curvature
        factor = np.linalg.inv(np.swapaxes(np.linalg.cholesky(H), 1, 2))
        around = log_density(mode[:, None, :] + np.einsum("nab,mb->nma", factor, stencil))
        gradient, hessian = _quadratic((around - around.max(axis=1, keepdims=True)) @ fit.T, exponents, q)
        value, vector = np.linalg.eigh(-hessian)
        value = np.clip(value, 0.1, 10.0)
        step = np.einsum("nab,nb,ncb,nc->na", vector, 1.0 / value, vector, gradient)
        step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1.0)
        mode = mode + np.einsum("nab,nb->na", factor, step)
        root = np.swapaxes(np.linalg.cholesky(H), 1, 2)
        H = np.swapaxes(root, 1, 2) @ (vector * value[:, None, :] @ np.swapaxes(vector, 1, 2)) @ root
        H = 0.5 * (H + np.swapaxes(H, 1, 2))
        if np.abs(step).max() < 1e-4:
            break
    factor = np.linalg.inv(np.swapaxes(np.linalg.cholesky(H), 1, 2))
    points = first.grid.points[:, : first.grid.k]
    u = mode[:, None, :] + np.einsum("nab,bk->nka", factor, points)
    log_weights = log_density(u) + first.grid.log_w[: first.grid.k]
    return NodePosterior(first.grid, mode, mode, factor, _normalised(log_weights)), H


def _quadratic(coefficients, exponents, q):
    """Gradient and Hessian at 0 of polynomials of degree 2."""
    gradient, hessian = np.zeros((len(coefficients), q)), np.zeros((len(coefficients), q, q))
    for column, exponent in zip(coefficients.T, exponents, strict=True):
        where = np.flatnonzero(exponent)
        if sum(exponent) == 1:
            gradient[:, where[0]] = column
        elif sum(exponent) == 2:
            a, b = where[0], where[-1]
            hessian[:, a, b] = hessian[:, b, a] = 2.0 * column if a == b else column
    return gradient, hessian


def _exponents(q, degree):
    return [e for e in itertools.product(range(degree + 1), repeat=q) if sum(e) <= degree]


def _monomials(points, exponents):
    """Products of powers of the coordinates, which are last: (..., number of exponents)."""
    found = {exponents[0]: np.ones(points.shape[:-1])}
    for exponent in exponents[1:]:  # lower ones come before
        a = next(a for a, power in enumerate(exponent) if power)
        lower = (*exponent[:a], exponent[a] - 1, *exponent[a + 1 :])
        found[exponent] = found[lower] * points[..., a]
    return np.stack([found[exponent] for exponent in exponents], axis=-1)


def _normalised(log_weights):
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
