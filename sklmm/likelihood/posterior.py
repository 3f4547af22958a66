"""What a model knows of the groups it has seen: the posterior distribution of each group's random effects.

The parameters are those of the fit. u are a factor's effects as independent standard normals, t a row's loadings (see
`EffectUnits`): the linear predictor is x'beta + t'u.

* One factor of up to MAX_Q random coefficients: `NodePosterior`, the posterior itself as a few values of u and their
  weights, whatever the fit approximates the likelihood by. A prediction is a weighted sum.
* Anything else: `NormalPosterior`, which `SeveralFactors.posteriors` finds.

A fitted model has no rows, so these are made once, at the end of the fit: a few numbers for each group.
"""

import numpy as np

from sklmm._kernels._posterior import tails, weigh_nodes
from sklmm.families import LOGIT
from sklmm.likelihood.quadrature import hermite_grid
from sklmm.passes.tables import CHUNK

MAX_Q = 3  # random coefficients, up to which posteriors are nodes
MAX_NODES = 216  # of a group
GROWTH = {2: 4.0, 3: 2.0}  # nodes a dimension that a standard deviation of 1 more calls for, by number of coefficients
DROP = 9.0  # nodes of one coefficient go as far as the density is above exp(-DROP) of its maximum


class NodeGrid:
    """Where nodes lie before they are scaled for a group, and their weights.

    The logistic function has its poles pi from the real line, so that the distance of nodes on the scale of the linear
    predictor decides the error. With one coefficient nodes are even steps (the trapezoidal rule; Trefethen and Weideman
    2014), 2.5 apart at most where a group says nothing of itself: probabilities err by less than 1e-4 up to a
    standard deviation of 18. With more they are those of adaptive Gauss-Hermite quadrature, as many a dimension as keep
    the error below 3e-3: up to a standard deviation of the whole random part of about 4 for two coefficients, and
    of 1.7 for three. There MAX_NODES is reached. Other links want nodes that are closer by their `sharpness`, and so
    reach as far on the scale of their latent error.

    Attributes
    ----------
    points : ndarray of shape (q, padded)
        A column a node.
    log_w : ndarray of shape (padded,)
        -inf from the k-th on.
    k : int
    family : Bernoulli
    """

    def __init__(self, Lambda, constant, family=LOGIT):
        q, self.family = len(Lambda), family
        size = family.sharpness * np.sqrt(np.sum(Lambda**2))
        if q == 1:
            size *= 1.0 if constant else 2.5  # columns are scaled to 1, but have larger values
            self.k = 8 * min(max(1, int(np.ceil((size + 1.5) / 2.5))), 8)
            points, log_w = np.linspace(-1.0, 1.0, self.k)[:, None], np.zeros(self.k)
        else:
            most = int(MAX_NODES ** (1 / q) + 1e-9)
            points, log_w = hermite_grid(min(max(4, int(np.ceil(3.5 + GROWTH[q] * size))), most), q)
            points, self.k = points * np.sqrt(2.0), len(log_w)
        padding = -self.k % 8  # whole vectors
        self.points = np.ascontiguousarray(np.pad(points, ((0, padding), (0, 0))).T)
        self.log_w = np.pad(log_w, (0, padding), constant_values=-np.inf)


class NodePosterior:
    """Posteriors of groups on nodes.

    Attributes
    ----------
    grid : NodeGrid
    modes : ndarray of shape (n, q)
        Conditional modes.
    center : ndarray of shape (n, q)
    factor : ndarray of shape (n, q, q)
        Node k of a group is center + factor @ grid.points[:, k].
    weights : ndarray of shape (n, k), float32
        They sum to 1.
    """

    def __init__(self, grid, modes, center, factor, weights):
        self.grid, self.modes, self.center, self.factor, self.weights = grid, modes, center, factor, weights

    def _map(self, function, *others):
        """The same function of each of the arrays with a row a group."""
        parts = [
            function(*(getattr(posterior, name) for posterior in (self, *others)))
            for name in ("modes", "center", "factor", "weights")
        ]
        if self.center is self.modes:
            parts[1] = parts[0]
        return NodePosterior(self.grid, *parts)

    def take(self, groups):
        """The posteriors of these groups."""
        return self._map(lambda values: values[groups])

    def followed_by(self, other):
        """These groups and then those of another posterior of the same model."""
        return self._map(lambda *values: np.concatenate(values), other)

    def replaced(self, groups, other):
        """These posteriors, but for some groups another one's."""

        def put(values, new):
            values = values.copy()
            values[groups] = new
            return values

        return self._map(put, other)

    def tails(self, eta, t, groups, n_threads):
        """Probability of the less likely outcome of each row, and whether 1 is the likelier; eta: the fixed part."""
        return tails(
            eta, t, groups, self.grid.points, self.grid.k, self.center, self.factor, self.weights, n_threads,
            self.grid.family.code,
        )  # fmt: skip

    def draw(self, random):
        """Effects of each group drawn from its nodes, (n, q)."""
        cumulative = np.cumsum(self.weights, axis=1, dtype=np.float64)
        below = cumulative < random.uniform(size=(len(cumulative), 1)) * cumulative[:, -1:]
        points = self.grid.points[:, np.count_nonzero(below, axis=1)]
        return self.center + np.einsum("nab,bn->na", self.factor, points)

    def covariances(self, groups):
        """Covariance of the effects of these groups, (n, q, q)."""
        weights = self.weights[groups].astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        points = self.grid.points[:, : self.grid.k]
        mean = weights @ points.T
        second = (weights @ (points[:, None, :] * points[None, :, :]).reshape(-1, self.grid.k).T).reshape(
            len(weights), len(points), len(points)
        )
        factor = self.factor[groups]
        return factor @ (second - mean[:, :, None] * mean[:, None, :]) @ np.swapaxes(factor, 1, 2)

    def predictors(self, eta, t, groups):
        """Linear predictors of each row at its group's nodes, and the nodes' weights: (n, k)."""
        along = np.einsum("na,nab->nb", t, self.factor[groups])
        at = (eta + np.einsum("na,na->n", t, self.center[groups]))[:, None] + along @ self.grid.points[:, : self.grid.k]
        return at, self.weights[groups].astype(np.float64)


class NormalPosterior:
    """Posteriors of groups as normal distributions.

    Attributes
    ----------
    modes, mean : ndarray of shape (n, q)
        Conditional modes, and means.
    cov : ndarray of shape (n, q, q)
    """

    def __init__(self, modes, mean, cov):
        self.modes, self.mean, self.cov = modes, mean, cov

    def take(self, groups):
        """The posteriors of these groups."""
        return NormalPosterior(self.modes[groups], self.mean[groups], self.cov[groups])

    def followed_by(self, other):
        """These groups and then those of another posterior of the same model."""
        pairs = ((self.modes, other.modes), (self.mean, other.mean), (self.cov, other.cov))
        return NormalPosterior(*(np.concatenate(pair) for pair in pairs))

    def draw(self, random):
        """Effects of each group, (n, q)."""
        value, vector = np.linalg.eigh(self.cov)
        root = vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]
        return self.mean + np.einsum("nab,nb->na", root, random.standard_normal(self.mean.shape))

    def covariances(self, groups):
        """Covariance of the effects of these groups, (n, q, q)."""
        return self.cov[groups]


def averaged_rows(family, eta, sd, y, w, n_threads):
    """Means of w l' and -w l'' of rows with normal linear predictors."""
    r, v = family.averaged(eta, sd, y, n_threads)
    return (r, v) if w is None else (w * r, w * v)


def pieces(start, n_rows):
    """(first, last) of runs of whole groups of about n_rows rows, and no more groups than that."""
    n_groups, first = len(start) - 1, 0
    while first < n_groups:
        last = max(first + 1, int(np.searchsorted(start, start[first] + n_rows, side="right")) - 1)
        last = min(last, n_groups, first + n_rows)
        yield first, last
        first = last


def node_posterior(X, y, w, start, beta, fit_intercept, units, modes, n_threads, family=LOGIT, offset=None):
    """Posteriors of groups from their rows, which stand together.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    y : ndarray of shape (n,), uint8
    w : ndarray of shape (n,) or None
    start : ndarray of shape (n_groups + 1,)
        First row of each group; a group may have none.
    beta : ndarray
        Fixed effects in the user's units, the intercept first if there is one.
    units : EffectUnits
    modes : ndarray of shape (n_groups, q)
    family : Bernoulli
    offset : ndarray of shape (n,) or None

    Returns
    -------
    NodePosterior
    """
    n_groups, q = modes.shape
    constant = units.columns == [-1]
    grid = NodeGrid(units.Lambda, constant, family)
    modes = np.ascontiguousarray(modes)
    center, factor = np.empty((n_groups, q)), np.empty((n_groups, q, q))
    weights = np.empty((n_groups, grid.k), dtype=np.float32)
    for first, last in pieces(start, CHUNK * n_threads):
        rows, here = slice(start[first], start[last]), slice(first, last)
        part = np.asarray(X[rows], dtype=np.float64)
        eta = np.zeros(len(part) + 8)
        np.dot(part, beta[int(fit_intercept) :], out=eta[: len(part)])
        if fit_intercept:
            eta[: len(part)] += beta[0]
        if offset is not None:
            eta[: len(part)] += offset[rows]
        t = units.Lambda if constant and family is LOGIT else np.ascontiguousarray(units.loadings(part).T)
        weigh_nodes(
            eta, t, y[rows], None if w is None else w[rows], start[first : last + 1] - start[first], modes[here],
            grid.points, grid.log_w, grid.k, DROP, center[here], factor[here], weights[here], n_threads,
            family.code,
        )  # fmt: skip
    return NodePosterior(grid, modes, modes if q > 1 else center, factor, weights)
