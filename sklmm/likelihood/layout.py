"""Several grouping factors: which is eliminated first, where each level stands in the engine, the order of rows."""

import numpy as np

from sklmm._kernels._grouping import group_rows
from sklmm.design.factors import parents_of
from sklmm.likelihood.joint_posterior import JointPosterior
from sklmm.likelihood.posterior import NormalPosterior
from sklmm.likelihood.prepared import PreparedRows
from sklmm.passes.blocks import cluster_order


def elimination_order(codes, factors):
    """Positions of the factors by number of levels, largest first, and for each but the last the parents of its levels.

    Parameters
    ----------
    codes : list of ndarray
        Of each factor's levels, by row.
    factors : list of FactorStructure

    Returns
    -------
    order : list of int
    parents : list of ndarray or None
        None unless each factor is nested in the next.
    """
    order = sorted(range(len(factors)), key=lambda f: -factors[f].n_levels)
    parents = []
    for f, g in zip(order, order[1:], strict=False):
        parent = parents_of(codes[f], factors[f].n_levels, codes[g])
        if parent is None:
            return order, None
        parents.append(parent)
    return order, parents


class SeveralFactors(PreparedRows):
    """Base of the engines for several factors.

    An engine has for `random_effects` modes `u` (n_leaves, q), `u_border` and a `cholesky`; for `posteriors` also
    `_smoothed`, which finds means in the place of the modes, and leaves a `cholesky` that belongs to them.

    Attributes
    ----------
    order : list of int
        The factors, most levels first; the first is the leaf factor, the others are the border.
    nested : bool
        Whether each is nested in the next.
    parents : list of ndarray or None
        If nested: parent of each level of every factor but the last, both as they stand in the engine.
    sizes, n_levels : list of int
        Coefficients and levels of each factor in this order; q, n_leaves: of the leaf; T: all coefficients of a row.
    rank : list of ndarray
        Where each level of each factor stands in the engine.
    base : ndarray
        First coefficient of each factor of the border.
    start : ndarray
        First row of each leaf.
    """

    def _order_factors(self, tile=0):
        """Leaf first; coefficients of a row are counted in this order, `_place` of those in the order given.

        `tile`: rows that are worked on at a time, if samples of them are drawn.
        """
        factors = self.structure.factors
        self.order, self.parents = elimination_order(self.observations.codes, factors)
        ordered = [factors[f] for f in self.order]
        self.nested = self.parents is not None
        self.sizes = [len(f.columns) for f in ordered]
        self.n_levels = [f.n_levels for f in ordered]
        given = np.append(0, np.cumsum(self._given_sizes()))
        self._coefficients = np.concatenate([np.arange(given[f], given[f + 1]) for f in self.order])
        self._place = np.argsort(self._coefficients)
        self.q, self.T, self.n_leaves = self.sizes[0], sum(self.sizes), self.n_levels[0]
        self.base = np.append(0, np.cumsum([n * q for n, q in zip(self.n_levels[1:], self.sizes[1:], strict=True)]))
        self.n_border = int(self.base[-1])
        # where each level of each factor stands in the engine: a tree's children side by side
        self.rank = [np.arange(n) for n in self.n_levels]
        if self.nested:
            order = cluster_order(self.n_levels[-1], self.n_rows, tile)
            if order is not None:
                self.rank[-1] = order
            for f in range(len(self.parents) - 1, -1, -1):
                above = self.rank[f + 1][self.parents[f]]
                by_parent = np.argsort(above, kind="stable")
                self.rank[f][by_parent] = np.arange(self.n_levels[f])
                self.parents[f] = above[by_parent]

    def _sort_rows(self):
        """Order of the rows that brings each leaf's together, or None if they are in it."""
        leaf = self.rank[0][self.observations.codes[self.order[0]]]
        order, start, level = group_rows(np.ascontiguousarray(leaf, dtype=np.intp), self.n_leaves)
        if order is None and np.any(np.diff(level) < 0):
            order = np.argsort(leaf, kind="stable")
        if order is not None or level.size < self.n_leaves:
            start = np.append(0, np.cumsum(np.bincount(leaf, minlength=self.n_leaves)))
        self.start = np.ascontiguousarray(start, dtype=np.int64)
        return order

    def random_effects(self, x):
        scales = [units.natural for units in self.units.effect_units(x, self._given_sizes())]
        modes = [u @ scale.T for u, scale in zip(self._by_factor(self.u, self.u_border), scales, strict=True)]
        blocks = self._level_blocks()
        return modes, [scale @ block @ scale.T for block, scale in zip(blocks, scales, strict=True)]

    def posteriors(self, x):
        """Normal ones, and their joint one; `random_effects` comes first.

        They are those of one step of the Gaussian variational approximation (Opper and Archambeau
        2009) from the modes: where Laplace's has a row's residual and weight at the mode, it has their means over the
        row's linear predictor. Its means err by about a tenth of what modes do.
        """
        modes = self._by_factor(self.u, self.u_border)
        means = self._by_factor(*self._smoothed(x))
        posteriors = [NormalPosterior(*each) for each in zip(modes, means, self._level_blocks(), strict=True)]
        n_levels = [factor.n_levels for factor in self.structure.factors]
        sigma = self.cholesky.posterior(self.rank)
        return posteriors, JointPosterior(n_levels, self.order, self._given_sizes(), sigma)

    def _given_sizes(self):
        return [len(factor.columns) for factor in self.structure.factors]

    def _by_factor(self, u, u_border):
        """Effects in the engine's order as a table for each factor given, in the order of its levels."""
        tables = [None] * len(self.order)
        for f, position in enumerate(self.order):
            own = u if f == 0 else u_border[self.base[f - 1] : self.base[f]].reshape(-1, self.sizes[f])
            tables[position] = own[self.rank[f]]
        return tables

    def _level_blocks(self):
        """Each level's block of the inverse of what was factorised last, by factor given."""
        blocks = [None] * len(self.order)
        for f, position in enumerate(self.order):
            blocks[position] = self.cholesky.level_blocks(f)[self.rank[f]]
        return blocks
