"""Nested random intercepts: the Laplace log-likelihood as a sum over trees, with its exact Hessian.

The common case of nested factors, and the fast one: Newton steps through samples of trees, as for one factor.
`CrossedLikelihood` has the general case, with slopes or factors that cross.
"""

import numpy as np

from sklmm._kernels._grouping import gather_rows, whole_blocks
from sklmm._kernels._nested import MAX_DEPTH, NestedKernel
from sklmm.design.aliasing import aliased_columns
from sklmm.design.covariance import RelativeCovariance
from sklmm.likelihood.clustered import MODE_TOL, ROUGH_MODE_TOL
from sklmm.likelihood.factorization import TreeCholesky
from sklmm.likelihood.layout import SeveralFactors, elimination_order
from sklmm.likelihood.posterior import averaged_rows, pieces
from sklmm.passes.blocks import (
    ACCUMULATOR_BYTES,
    MAX_CHUNKS,
    POLISH_ROWS,
    TILE_BYTES,
    block_ranks,
    sample_levels,
    sample_size,
)
from sklmm.passes.tables import CHUNK


def serves(factors):
    """Whether these factors are nested random intercepts."""
    intercepts = all(list(f.columns) == [-1] for f in factors)
    return intercepts and len(factors) <= MAX_DEPTH and elimination_order(factors)[1] is not None


class NestedLikelihood(SeveralFactors):
    """Laplace log-likelihood of (beta, theta) for random intercepts of nested factors.

    Parameters
    ----------
    X, y, factors, sample_weight, fit_intercept, n_threads, standardise, units
        As in `CrossedLikelihood`. X is referred to, not copied, where its rows are in the order of the trees.

    Attributes
    ----------
    n_params, n_fixed : int
        Internal parameters are the slopes, the intercept if there is one, and theta, in the order of the factors.
    levels : list of int
        Samples of blocks to climb through.
    aliased : ndarray of shape (p,), bool
    """

    def __init__(self, X, y, factors, *, sample_weight=None, fit_intercept=True, n_threads=1, standardise=True,
                 units=None):
        n, p = X.shape
        if not X.flags.aligned or any(step % X.itemsize for step in X.strides):
            X = np.ascontiguousarray(X)
        self.n_rows, self.p, self.fit_intercept, self.n_threads = n, p, bool(fit_intercept), n_threads
        self.factors = factors
        self.columns = np.full(len(factors), -1, dtype=np.int64)
        self.covariance = RelativeCovariance([(1, True)] * len(factors))
        self.n_fixed = p + self.fit_intercept
        self.n_params = self.n_fixed + len(factors)
        self._scale_columns(X, sample_weight, standardise, units)
        self.aliased = aliased_columns(X, self._center[:p], self._inv_scale[:p], sample_weight, self.fit_intercept)
        tile = int(np.clip(TILE_BYTES // (8 * self.n_params), 64, 1024) // 8 * 8)
        self._order_factors(tile)
        order = self._sort_rows()
        if order is not None:
            X, y = gather_rows(X, order), y[order]
            sample_weight = None if sample_weight is None else sample_weight[order]
        self.rows = X, y, sample_weight
        parents = [np.ascontiguousarray(parent, dtype=np.int64) for parent in self.parents]
        # first node of each tree at each depth: a tree is a top level
        spans = [np.arange(self.n_levels[-1] + 1, dtype=np.int64)]
        for parent, n_above in zip(parents[::-1], self.n_levels[:0:-1], strict=True):
            first = np.searchsorted(parent, np.arange(n_above + 1))
            spans.insert(0, first[spans[0]])
        tile = int(np.clip(TILE_BYTES // (8 * self.n_params), 64, 1024) // 8 * 8)
        tree = np.ascontiguousarray(self.start[spans[0]])  # first row of each
        block = whole_blocks(tree, tile)
        n_blocks = block.size - 1
        accumulators = 2 * 8 * self.n_params * (self.n_params + 8)
        n_chunks = min(n_blocks, MAX_CHUNKS, max(4, ACCUMULATOR_BYTES // accumulators))
        self.kernel = NestedKernel(
            X, self._center, self._inv_scale, self.fit_intercept, y, sample_weight, self.start, parents, spans, block,
            np.linspace(0, n_blocks, n_chunks + 1).astype(np.int64), tile, n_threads,
        )  # fmt: skip
        self.modes = [np.zeros(n_levels) for n_levels in self.n_levels]
        self.curvature = [np.zeros(n_levels) for n_levels in self.n_levels]
        self._rank = block_ranks(n_blocks)
        self.levels = sample_levels(X, y, tree[block], self._rank, self.n_levels[-1], self.n_params)
        self._beta = np.zeros(self.kernel.ld)
        # the kernel's parameters in the order of the factors given
        self._given = np.append(np.arange(self.n_fixed), self.n_fixed + self._place)

    def evaluate(self, x, level=1, rough=False):
        """Value, gradient and Hessian over a sample of one block in `level`; `rough`: modes that are good enough to
        point the way."""
        mode_tol = ROUGH_MODE_TOL if rough and self.n_rows > POLISH_ROWS else MODE_TOL
        self._beta[: self.n_fixed] = x[: self.n_fixed]
        theta = np.ascontiguousarray(x[self.n_fixed :][self._coefficients])
        sample = (self._rank, sample_size(len(self._rank), level)) if level > 1 else ()
        value, gradient, hessian = self.kernel.evaluate(
            self._beta, theta, self.modes, self.curvature, mode_tol, *sample
        )
        return value, gradient[self._given], hessian[np.ix_(self._given, self._given)]

    def random_effects(self, x):
        theta = x[self.n_fixed :][self._coefficients]
        self.u, self.u_border = self.modes[0][:, None], np.concatenate(self.modes[1:])
        self.cholesky = TreeCholesky(self.parents, self.n_levels, self.sizes)
        self.cholesky.factor_blocks(self.curvature[0][:, None, None] * np.outer(theta, theta))
        self.cholesky.invert()
        return super().random_effects(x)

    def _smoothed(self, x):
        X, y, w = self.rows
        theta, (beta, _) = x[self.n_fixed :][self._coefficients], self.natural(x)
        parts = np.split(self.u_border, self.base[1:-1])
        levels = [np.arange(self.n_leaves), *self.cholesky.ancestors[0]]
        effects = zip(theta, [self.u[:, 0], *parts], levels, strict=True)
        offset = sum(scale * part[level] for scale, part, level in effects)
        sd = np.sqrt(np.einsum("a,nab,b->n", theta, self.cholesky.paths[0], theta))
        R, V = np.zeros(self.n_leaves), np.zeros(self.n_leaves)
        for first, last in pieces(self.start, CHUNK * self.n_threads):
            rows, filled = slice(self.start[first], self.start[last]), np.diff(self.start[first : last + 1])
            eta = np.asarray(X[rows], dtype=np.float64) @ beta[int(self.fit_intercept) :]
            eta += np.repeat(offset[first:last], filled) + (beta[0] if self.fit_intercept else 0.0)
            weights = None if w is None else w[rows]
            r, v = averaged_rows(eta, np.repeat(sd[first:last], filled), y[rows], weights, self.n_threads)
            begin = (self.start[first:last] - self.start[first])[filled > 0]
            R[first:last][filled > 0] = np.add.reduceat(r, begin)
            V[first:last][filled > 0] = np.add.reduceat(v, begin)
        s = [theta[0] * R - self.u[:, 0]]
        for f, part in enumerate(parts):
            R = self.cholesky.sums_over_children(f, R)
            s.append(theta[f + 1] * R - part)
        self.cholesky.factor_blocks(V[:, None, None] * np.outer(theta, theta))
        step, step_border = self.cholesky.solve(s[0][:, None, None], np.concatenate(s[1:])[:, None])
        self.cholesky.invert()
        return self.u + step[:, :, 0], self.u_border + step_border[:, 0]
