"""One grouping factor: the marginal log-likelihood as a sum over independent clusters.

Prepares the rows for the compiled passes.
"""

import copy

import numpy as np

from sklmm._kernels._cluster import ClusterKernel
from sklmm._kernels._grouping import gather_rows, group_rows, whole_blocks
from sklmm.design.aliasing import aliased_columns
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.units import Units
from sklmm.likelihood.quadrature import hermite_grid
from sklmm.passes.blocks import (
    ACCUMULATOR_BYTES,
    MAX_CHUNKS,
    POLISH_ROWS,
    TILE_BYTES,
    block_ranks,
    cluster_order,
    sample_levels,
    sample_size,
)
from sklmm.passes.tables import in_order

MODE_TOL, ROUGH_MODE_TOL = 1e-10, 1e-4  # of the conditional modes, relative to 1 + |u|
BATCH_BYTES = 1 << 24  # derivatives of single clusters that are held at a time


class ClusteredLikelihood(Units):
    """Laplace or adaptive Gauss-Hermite log-likelihood of (beta, theta) for the rows given.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32, any strides
        Referred to, not copied, unless the levels' rows must be brought together.
    y : ndarray of shape (n,), uint8
        0 or 1.
    codes : ndarray of shape (n,), intp, or None
        Level of the grouping factor by row; None: no random effects (theta is held at 0).
    n_levels : int
    columns : sequence of int
        Column of X for each random coefficient, -1 for the intercept.
    blocks : sequence of (size, correlated)
        The coefficients' terms, see `RelativeCovariance`.
    sample_weight : ndarray of shape (n,) or None
        Counts of rows.
    fit_intercept : bool
    n_quadrature : int
        Nodes a dimension; 1 is Laplace.
    n_threads : int
    standardise : bool
        False leaves the units alone (for tests).
    units : FitUnits or None
        Those of an earlier fit, to use here.

    Attributes
    ----------
    n_params, n_fixed : int
        Internal parameters are the slopes, the intercept if there is one, and theta.
    modes : ndarray of shape (n_clusters, q)
        Spherical conditional modes of the last evaluation of each cluster.
    curvature : ndarray of shape (n_clusters, q (q + 1) / 2)
        Packed H = I + Lambda' Z'WZ Lambda there.
    rows : tuple
        X, y and weights by cluster, and the first row of each cluster.
    level_of_cluster, cluster_rows : ndarray of shape (n_clusters,)
        Level and number of rows of each cluster.
    cluster_gradients : ndarray of shape (n_clusters, n_params), float32, or None
        Gradient of each cluster's log-likelihood at the last evaluation over all rows that was not rough; None before,
        and without random effects.
    gradient_products : ndarray of shape (n_params, n_params)
        Sum of their outer products, in double precision.
    aliased : ndarray of shape (p,), bool
        Columns of X that are constant or linear combinations of earlier ones.
    """

    def __init__(self, X, y, codes, n_levels, columns, blocks, *, sample_weight=None, fit_intercept=True,
                 n_quadrature=1, n_threads=1, standardise=True, units=None):
        n, p = X.shape
        if not X.flags.aligned or any(step % X.itemsize for step in X.strides):
            X = np.ascontiguousarray(X)  # a field of a structured array, for one
        self.n_rows, self.p, self.fit_intercept, self.n_threads = n, p, bool(fit_intercept), n_threads
        self.n_levels, self.columns = n_levels, np.array(columns, dtype=np.int64)
        self.covariance = RelativeCovariance(blocks)
        self.n_fixed = p + self.fit_intercept
        self.n_params = self.n_fixed + self.covariance.m
        self._scale_columns(X, sample_weight, standardise, units)
        self.aliased = aliased_columns(X, self._center[:p], self._inv_scale[:p], sample_weight, self.fit_intercept)
        tile = int(np.clip(TILE_BYTES // (8 * (self.n_params + self.covariance.q)), 64, 1024) // 8 * 8)
        if codes is None:
            order, start = None, np.append(np.arange(0, n, tile), n)
            self.level_of_cluster = np.arange(start.size - 1)
        else:
            place = cluster_order(n_levels, n, tile)
            codes = np.ascontiguousarray(codes if place is None else place[codes], dtype=np.intp)
            order, start, self.level_of_cluster = group_rows(codes, n_levels)
            if place is not None:
                self.level_of_cluster = np.argsort(place)[self.level_of_cluster]
        if order is not None:
            X, y = gather_rows(X, order), y[order]
            sample_weight = None if sample_weight is None else sample_weight[order]
        self.rows = X, y, sample_weight, start
        self._block, self._tile = whole_blocks(start, tile), tile
        n_blocks = self._block.size - 1
        self.n_quadrature, self.kernel = n_quadrature, self._make_kernel(n_quadrature)
        q = self.covariance.q
        self.cluster_rows = np.diff(start)
        self._has_clusters = codes is not None
        self.cluster_gradients = self._products = None
        self.modes = np.zeros((start.size - 1, q))
        self.curvature = np.zeros((start.size - 1, q * (q + 1) // 2))
        self._rank = block_ranks(n_blocks)
        n_clusters = n if codes is None else len(self.modes)
        self.levels = sample_levels(X, y, start[self._block], self._rank, n_clusters, self.n_params)
        self._beta = np.zeros(self.kernel.ld)

    def _make_kernel(self, n_quadrature):
        X, y, sample_weight, start = self.rows
        n_blocks = self._block.size - 1
        accumulators = 2 * 8 * self.n_params * (self.n_params + 8)
        n_chunks = min(n_blocks, MAX_CHUNKS, max(4, ACCUMULATOR_BYTES // accumulators))
        return ClusterKernel(
            X, self._center, self._inv_scale, self.fit_intercept, self.columns, self._z_center, self._z_inv_scale,
            self.covariance.row, self.covariance.col, y, sample_weight, start, self._block,
            np.linspace(0, n_blocks, n_chunks + 1).astype(np.int64), *self._nodes(n_quadrature), self._tile,
            self.n_threads,
        )  # fmt: skip

    def with_nodes(self, n_quadrature):
        """A likelihood of the same rows with other nodes, its modes those found here."""
        other = copy.copy(self)
        other.n_quadrature, other.kernel = n_quadrature, other._make_kernel(n_quadrature)
        other.modes, other.curvature = self.modes.copy(), self.curvature.copy()
        other.cluster_gradients = other._products = None
        other._beta = np.zeros(other.kernel.ld)
        return other

    def sampled_rows(self, level):
        """Rows in the sample of one block of clusters in `level`."""
        chosen = self._rank < sample_size(len(self._rank), level)
        return int(np.diff(self.rows[3][self._block])[chosen].sum())

    def _nodes(self, n_quadrature):
        q = self.covariance.q
        zeta, log_w = hermite_grid(n_quadrature, q)
        if q == 1 and self.columns[0] < 0:  # lanes are nodes there: whole vectors of them
            padding = -len(log_w) % 8
            zeta = np.pad(zeta, ((0, padding), (0, 0)))
            log_w = np.pad(log_w, (0, padding), constant_values=-np.inf)
        return zeta, log_w

    def evaluate(self, x, level=1, rough=False):
        """Value, gradient and Hessian in the internal parameters, over a sample of one block of clusters in `level`.

        `rough` asks for conditional modes that are good enough to point the way.
        """
        mode_tol = ROUGH_MODE_TOL if rough and self.n_rows > POLISH_ROWS else MODE_TOL
        state = *self._parameters(x), self.modes, self.curvature, mode_tol
        if level > 1:
            return self.kernel.evaluate(*state, self._rank, sample_size(len(self._rank), level))
        if not self._has_clusters or rough:
            return self.kernel.evaluate(*state)
        if self.cluster_gradients is None:
            self.cluster_gradients = np.zeros((len(self.modes), self.n_params), dtype=np.float32)
        *found, self._products = self.kernel.evaluate(*state, gradients=self.cluster_gradients)
        return tuple(found)

    @property
    def gradient_products(self):
        upper = np.triu(self._products)
        return upper + np.triu(upper, 1).T

    def by_cluster(self, x):
        """Value, gradient and Hessian of each cluster's log-likelihood, batch by batch.

        Yields
        ------
        levels : ndarray of shape (n,)
        values, gradients, hessians : ndarrays of shapes (n,), (n, n_params) and (n, n_params, n_params)
        """
        parameters, n = self._parameters(x), len(self.modes)
        batch = max(1, BATCH_BYTES // (8 * self.n_params * (2 * self.kernel.ld + self.n_params)))
        for first in range(0, n, batch):
            last = min(n, first + batch)
            derivatives = self.kernel.by_cluster(*parameters, self.modes, self.curvature, MODE_TOL, first, last)
            yield self.level_of_cluster[first:last], *derivatives

    def _parameters(self, x):
        """The kernel's beta, theta and Lambda."""
        self._beta[: self.n_fixed] = x[: self.n_fixed]
        theta = x[self.n_fixed :].copy()
        return self._beta, theta, self.covariance.lambda_(theta)

    def by_level(self, values):
        """Values of clusters in the order of the levels; 0 for levels without rows."""
        return in_order(values, self.level_of_cluster, self.n_levels)

    def random_effects(self, x):
        """Conditional modes b (n_levels, q) and covariances (n_levels, q, q) at the last evaluation, in user's units.

        A level without rows has its prior: mode 0, covariance Lambda Lambda'.
        """
        q = self.covariance.q
        Lambda = self.random_map() @ self.covariance.lambda_(x[self.n_fixed :])
        modes = self.by_level(self.modes @ Lambda.T)
        if q == 1:
            cov = (Lambda**2 / self.curvature)[:, :, None]
        else:
            H = np.empty((len(self.curvature), q, q))
            lower = np.tril_indices(q)
            H[:, lower[0], lower[1]] = H[:, lower[1], lower[0]] = self.curvature
            root = np.linalg.solve(np.linalg.cholesky(H), np.broadcast_to(Lambda.T, H.shape))
            cov = np.swapaxes(root, 1, 2) @ root
        return modes, in_order(cov, self.level_of_cluster, self.n_levels, default=Lambda @ Lambda.T)
