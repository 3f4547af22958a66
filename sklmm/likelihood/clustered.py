"""One grouping factor: the marginal log-likelihood as a sum over independent clusters.

Prepares the rows for the compiled passes.
"""

import copy

import numpy as np

from sklmm._kernels._cluster import ClusterKernel
from sklmm._kernels._grouping import group_rows
from sklmm.design.structure import Observations
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.posterior import MAX_Q, node_posterior
from sklmm.likelihood.prepared import PreparedRows
from sklmm.likelihood.quadrature import hermite_grid
from sklmm.passes.blocks import POLISH_ROWS, Blocks, cluster_order, rows_of_tile
from sklmm.passes.tables import in_order

MODE_TOL, ROUGH_MODE_TOL = 1e-10, 1e-4  # of the conditional modes, relative to 1 + |u|
BATCH_BYTES = 1 << 24  # derivatives of single clusters that are held at a time


class ClusteredLikelihood(PreparedRows):
    """Laplace or adaptive Gauss-Hermite log-likelihood of (beta, theta): an `Engine`, and with a factor a
    `SumOverClusters`.

    Parameters
    ----------
    observations : Observations
        X is referred to, not copied, unless the levels' rows must be brought together.
    structure : Structure
        Of one factor or none: without random effects theta is held at 0.
    n_threads : int
    units : Units or None

    Attributes
    ----------
    modes : ndarray of shape (n_clusters, q)
        Spherical conditional modes of the last evaluation of each cluster.
    curvature : ndarray of shape (n_clusters, q (q + 1) / 2)
        Packed H = I + Lambda' Z'WZ Lambda there.
    rows : tuple
        X, y and weights by cluster, and the first row of each cluster.
    level_of_cluster : ndarray of shape (n_clusters,)
    """

    def __init__(self, observations, structure, n_threads=1, units=None):
        super().__init__(observations, structure, n_threads, units)
        self.has_clusters = bool(structure.factors)
        self.n_quadrature = structure.nodes
        self._n_levels = structure.factors[0].n_levels if self.has_clusters else 1
        n, q = self.n_rows, self.covariance.q
        self._tile = tile = rows_of_tile(self.n_params + q)
        if not self.has_clusters:
            order, start = None, np.append(np.arange(0, n, tile), n)
            self.level_of_cluster = np.arange(start.size - 1)
        else:
            codes, place = observations.codes[0], cluster_order(self._n_levels, n, tile)
            codes = np.ascontiguousarray(codes if place is None else place[codes], dtype=np.intp)
            order, start, self.level_of_cluster = group_rows(codes, self._n_levels)
            if place is not None:
                self.level_of_cluster = np.argsort(place)[self.level_of_cluster]
        self.rows = X, y, _, _ = *self.sorted_rows(order), start
        self._offset = self.sorted_offset(order)
        self.blocks = Blocks(start, tile, self.accumulator)
        self.kernel = self._make_kernel(self.n_quadrature)
        self.cluster_rows = np.diff(start)
        self.cluster_gradients = self._products = None
        self.modes = np.zeros((start.size - 1, q))
        self.curvature = np.zeros((start.size - 1, q * (q + 1) // 2))
        n_clusters = len(self.modes) if self.has_clusters else n
        self.strides = self.blocks.strides(X, y, n_clusters, self.n_params)
        self._beta = np.zeros(self.kernel.ld)

    def _make_kernel(self, n_quadrature):
        (X, y, sample_weight, start), units = self.rows, self.units
        kernel = ClusterKernel(
            X, units.center, units.inv_scale, units.fit_intercept, units.columns, units.z_center, units.z_inv_scale,
            self.covariance.row, self.covariance.col, y, sample_weight, start,
            self.blocks.first, self.blocks.chunk, *self._nodes(n_quadrature), self._tile, self.n_threads,
            self.structure.family.code,
        )  # fmt: skip
        kernel.add_offset(self._offset)
        return kernel

    def with_nodes(self, n_quadrature):
        other = copy.copy(self)
        other.n_quadrature, other.kernel = n_quadrature, other._make_kernel(n_quadrature)
        other.modes, other.curvature = self.modes.copy(), self.curvature.copy()
        other.cluster_gradients = other._products = None
        other._beta = np.zeros(other.kernel.ld)
        return other

    def sampled_rows(self, stride):
        return np.count_nonzero(self.blocks.sampled_rows(stride))

    def _nodes(self, n_quadrature):
        q = self.covariance.q
        zeta, log_w = hermite_grid(n_quadrature, q)
        if q == 1 and self.units.columns[0] < 0:  # lanes are nodes there: whole vectors of them
            padding = -len(log_w) % 8
            zeta = np.pad(zeta, ((0, padding), (0, 0)))
            log_w = np.pad(log_w, (0, padding), constant_values=-np.inf)
        return zeta, log_w

    def evaluate(self, x, stride=1, rough=False):
        mode_tol = ROUGH_MODE_TOL if rough and self.n_rows > POLISH_ROWS else MODE_TOL
        state = *self._parameters(x), self.modes, self.curvature, mode_tol
        if stride > 1:
            return self.kernel.evaluate(*state, *self.blocks.sample(stride))
        if not self.has_clusters or rough:
            return self.kernel.evaluate(*state)
        if self.cluster_gradients is None:
            self.cluster_gradients = np.zeros((len(self.modes), self.n_params), dtype=np.float32)
        *found, self._products = self.kernel.evaluate(*state, gradients=self.cluster_gradients)
        return tuple(found)

    @property
    def row_offset(self):
        """The centred offset in the order of `rows`, or None."""
        return self._offset

    def value(self, x):
        return self.kernel.value(*self._parameters(x), self.modes, self.curvature, MODE_TOL)

    def cluster_values(self, x):
        return self.kernel.cluster_values(*self._parameters(x), self.modes, self.curvature, MODE_TOL)

    @property
    def gradient_products(self):
        upper = np.triu(self._products)
        return upper + np.triu(upper, 1).T

    def by_cluster(self, x):
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
        return in_order(values, self.level_of_cluster, self._n_levels)

    def random_effects(self, x):
        if not self.has_clusters:
            return [], []
        q = self.covariance.q
        Lambda = self.units.random_map() @ self.covariance.lambda_(x[self.n_fixed :])
        modes = self.by_level(self.modes @ Lambda.T)
        if q == 1:
            cov = (Lambda**2 / self.curvature)[:, :, None]
        else:
            H = np.empty((len(self.curvature), q, q))
            lower = np.tril_indices(q)
            H[:, lower[0], lower[1]] = H[:, lower[1], lower[0]] = self.curvature
            root = np.linalg.solve(np.linalg.cholesky(H), np.broadcast_to(Lambda.T, H.shape))
            cov = np.swapaxes(root, 1, 2) @ root
        return [modes], [in_order(cov, self.level_of_cluster, self._n_levels, default=Lambda @ Lambda.T)]

    def posteriors(self, x):
        if not self.has_clusters:
            return [], None
        X, y, w, start = self.rows
        if self.covariance.q <= MAX_Q:
            beta = self.units.fixed_map() @ x[: self.n_fixed]  # beside the centred offset
            (effect_units,) = self.units.effect_units(x, [self.covariance.q])
            # one group more, without rows: what is known of a level that has none
            modes = np.concatenate([self.modes, np.zeros((1, self.covariance.q))])
            posterior = node_posterior(
                X, y, w, np.append(start, start[-1]), beta, self.units.fit_intercept, effect_units, modes,
                self.n_threads, self.structure.family, self._offset,
            )  # fmt: skip
            cluster = np.full(self._n_levels, len(self.modes))
            cluster[self.level_of_cluster] = np.arange(len(self.modes))
            in_place = self._n_levels == len(self.modes) and (np.diff(cluster) > 0).all()
            return [posterior.take(slice(-1) if in_place else cluster)], None
        codes = np.repeat(self.level_of_cluster, self.cluster_rows)
        offset = None if self._offset is None else self._offset + self.units.offset_center
        rows = Observations(X, y, [codes], w, offset=offset)
        general = CrossedLikelihood(rows, self.structure, self.n_threads, self.units)
        general.u = self.by_level(self.modes)
        general.evaluate(x)
        return general.posteriors(x)[0], None
