"""Nested random intercepts of the logit: the Laplace log-likelihood as a sum over trees, with its exact Hessian.

The common case of nested factors, and the fast one: Newton steps through samples of trees, as for one factor.
`CrossedLikelihood` has the general case, with slopes, other links or factors that cross.
"""

import numpy as np

from sklmm._kernels._nested import MAX_DEPTH, NestedKernel
from sklmm.families import LOGIT
from sklmm.likelihood.clustered import MODE_TOL, ROUGH_MODE_TOL
from sklmm.likelihood.factorization import TreeCholesky
from sklmm.likelihood.layout import SeveralFactors, elimination_order
from sklmm.likelihood.posterior import averaged_rows, pieces
from sklmm.passes.blocks import POLISH_ROWS, Blocks, rows_of_tile
from sklmm.passes.tables import CHUNK


def serves(observations, structure):
    """Whether these factors are nested random intercepts of the logit."""
    intercepts = all(list(f.columns) == [-1] for f in structure.factors)
    if structure.family is not LOGIT or not intercepts or len(structure.factors) > MAX_DEPTH:
        return False
    return elimination_order(observations.codes, structure.factors)[1] is not None


class NestedLikelihood(SeveralFactors):
    """Laplace log-likelihood of (beta, theta) for random intercepts of nested factors: an `Engine`.

    Parameters
    ----------
    observations : Observations
        X is referred to, not copied, where its rows are in the order of the trees.
    structure : Structure
    n_threads : int
    units : Units or None
    """

    def __init__(self, observations, structure, n_threads=1, units=None):
        super().__init__(observations, structure, n_threads, units)
        tile = rows_of_tile(self.n_params)
        self._order_factors(tile)
        order = self._sort_rows()
        self.rows = X, y, sample_weight = self.sorted_rows(order)
        parents = [np.ascontiguousarray(parent, dtype=np.int64) for parent in self.parents]
        # first node of each tree at each depth: a tree is a top level
        spans = [np.arange(self.n_levels[-1] + 1, dtype=np.int64)]
        for parent, n_above in zip(parents[::-1], self.n_levels[:0:-1], strict=True):
            first = np.searchsorted(parent, np.arange(n_above + 1))
            spans.insert(0, first[spans[0]])
        tree = np.ascontiguousarray(self.start[spans[0]])  # first row of each
        self.blocks = Blocks(tree, tile, self.accumulator)
        self.kernel = NestedKernel(
            X, self.units.center, self.units.inv_scale, self.units.fit_intercept, y, sample_weight, self.start, parents,
            spans, self.blocks.first, self.blocks.chunk, tile, n_threads,
        )  # fmt: skip
        self._offset = self.sorted_offset(order)
        self.kernel.add_offset(self._offset)
        self.modes = [np.zeros(n_levels) for n_levels in self.n_levels]
        self.curvature = [np.zeros(n_levels) for n_levels in self.n_levels]
        self.strides = self.blocks.strides(X, y, self.n_levels[-1], self.n_params)
        self._beta = np.zeros(self.kernel.ld)
        # the kernel's parameters in the order of the factors given
        self._given = np.append(np.arange(self.n_fixed), self.n_fixed + self._place)

    def evaluate(self, x, stride=1, rough=False):
        mode_tol = ROUGH_MODE_TOL if rough and self.n_rows > POLISH_ROWS else MODE_TOL
        self._beta[: self.n_fixed] = x[: self.n_fixed]
        theta = np.ascontiguousarray(x[self.n_fixed :][self._coefficients])
        sample = self.blocks.sample(stride) if stride > 1 else ()
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
        (X, y, w), fit_intercept = self.rows, self.units.fit_intercept
        theta = x[self.n_fixed :][self._coefficients]
        beta = self.units.fixed_map() @ x[: self.n_fixed]  # beside the centred offset
        parts = np.split(self.u_border, self.base[1:-1])
        levels = [np.arange(self.n_leaves), *self.cholesky.ancestors[0]]
        effects = zip(theta, [self.u[:, 0], *parts], levels, strict=True)
        of_leaf = sum(scale * part[level] for scale, part, level in effects)
        sd = np.sqrt(np.einsum("a,nab,b->n", theta, self.cholesky.paths[0], theta))
        R, V = np.zeros(self.n_leaves), np.zeros(self.n_leaves)
        for first, last in pieces(self.start, CHUNK * self.n_threads):
            rows, filled = slice(self.start[first], self.start[last]), np.diff(self.start[first : last + 1])
            eta = np.asarray(X[rows], dtype=np.float64) @ beta[int(fit_intercept) :]
            eta += np.repeat(of_leaf[first:last], filled) + (beta[0] if fit_intercept else 0.0)
            if self._offset is not None:
                eta += self._offset[rows]
            weights = None if w is None else w[rows]
            spread = np.repeat(sd[first:last], filled)
            r, v = averaged_rows(LOGIT, eta, spread, y[rows], weights, self.n_threads)
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
