"""Linear models of several grouping factors: cross-products by level, and what they say at a Lambda.

The formulas are those of `linear_crossproducts`. M = Z'Z is held as blocks, scaled at each Lambda, and factorised with
all random coefficients at once: H = I + Lambda'M Lambda. With U = H^-1 Lambda'Z'E and
S = Z'V^-1 E = Z'E - M Lambda U the gradient is exact. Of the second derivatives the traces of products of inverses are
dear: they are replaced by what they are on average (the average information of Gilmour, Thompson and Cullis, 1995)
unless they are asked for.
"""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import ThreadpoolController

from sklmm.likelihood.factorization import BorderedCholesky, TreeCholesky, check_memory
from sklmm.likelihood.joint_posterior import JointPosterior
from sklmm.likelihood.layout import SeveralFactors
from sklmm.likelihood.linear_crossproducts import Derivatives
from sklmm.likelihood.linear_rows import LinearRows
from sklmm.likelihood.linear_second import pair_sums, trace_of_pairs
from sklmm.likelihood.linear_start import start

COLUMNS = 8  # that are worked on at a time
SMALLEST = 1e-4  # relative standard deviation in the place of 0 where it is divided by: derivatives differ by as much


class TreeBlocks:
    """M of nested factors: a block of each leaf and its ancestors, (n_leaves, T, T)."""

    def __init__(self, products, rows):
        self.cholesky = TreeCholesky(products.parents, products.n_levels, products.sizes)
        chunk = products.chunks(products.start, (products.n_fixed + products.T + 8) ** 2)
        self.C, self.A, B = rows.by_cluster(products.start, chunk, products.n_threads)
        self.E, self.E_border = self._to_levels(B)

    def _to_levels(self, B):
        """Sums over the rows of each level of sums over those of each leaf, by coefficient of the path."""
        tree, parts, share = self.cholesky, [], B[:, self.cholesky.sizes[0] :]
        for f, q in enumerate(tree.sizes[1:]):
            share = tree.sums_over_children(f, share)
            parts.append(share[:, :q].reshape(-1, B.shape[2]))
            share = share[:, q:]
        return B[:, : tree.sizes[0]], np.concatenate(parts)

    def own(self, f):
        """M's blocks of the levels of a factor, (n_levels, q, q)."""
        tree, part = self.cholesky, slice(*self.cholesky.first[f : f + 2])
        A = self.A[:, part, part]
        for g in range(f):
            A = tree.sums_over_children(g, A)
        return A

    def shares(self):
        """See `start`, by coefficient in the engine's order."""
        tree, A = self.cholesky, self.A
        squares, out = [np.einsum("naa->na", self.own(f)) for f in range(len(tree.sizes))], np.zeros((tree.T, tree.T))
        for f, own in enumerate(tree.sizes):
            part = slice(tree.first[f], tree.first[f] + own)
            for g, level in enumerate(tree.ancestors[f], start=f + 1):
                other = slice(tree.first[g], tree.first[g + 1])
                both = A[:, :own, other.start - part.start : other.stop - part.start] ** 2
                out[part, other] = np.einsum("nab,na->ab", both, _inverse(squares[f]))
                out[other, part] = np.einsum("nab,nb->ba", both, _inverse(squares[g])[level])
            if f + 1 < len(tree.sizes):
                A = tree.sums_over_children(f, A[:, own:, own:])
        return out

    def factor(self, Lambda):
        self.cholesky.factor_blocks(Lambda.T @ self.A @ Lambda)

    def multiply(self, x, x_border):
        """M times columns."""
        tree, base, c = self.cholesky, self.cholesky.base, x.shape[2]
        parts = [x]
        for g, level in enumerate(tree.ancestors[0]):
            parts.append(x_border[base[g] : base[g + 1]].reshape(-1, tree.sizes[g + 1], c)[level])
        return self._to_levels(self.A @ np.concatenate(parts, axis=1))

    def diagonal_sums(self, Lambda):
        """Sums over the levels of each factor of their blocks of M Lambda H^-1; `invert` comes first."""
        return np.einsum("nab,nbc->ac", self.A @ Lambda, self.cholesky.paths[0])


class BorderedBlocks:
    """M of crossed factors: the leaves' own blocks D, their products B with those that they meet, the border's S."""

    def __init__(self, products, rows):
        p, q = products, products.q
        levels, column = p.border_columns()
        self.cholesky = tree = BorderedCholesky(p.start, q, levels, p.n_levels[1:], p.sizes[1:], p.n_threads)
        chunk = p.chunks(p.start, (p.n_fixed + p.T + 8) ** 2)
        self.C, A, B = rows.by_cluster(p.start, chunk, p.n_threads)
        self.D, self.E = np.ascontiguousarray(A[:, :q, :q]), np.ascontiguousarray(B[:, :q])
        self.B, self.S = np.zeros((tree.index.size, q)), np.zeros((p.n_border, p.n_border))
        self.E_border = np.zeros((p.n_border, p.k))
        rows.of_border(p.start, column, tree.first, tree.cell, q, self.B, self.S, self.E_border)
        shape = p.n_leaves, p.n_border
        self.met = [csr_matrix((self.B[:, a].copy(), tree.index, tree.first), shape) for a in range(q)]
        self.first = np.append(0, np.cumsum(p.sizes))  # coefficients of a row
        # entries of each factor, those of a level side by side
        factor = np.searchsorted(tree.base, tree.index, side="right") - 1
        self.entries = [np.flatnonzero(factor == f).reshape(-1, size) for f, size in enumerate(p.sizes[1:])]

    def own(self, f):
        """M's blocks of the levels of a factor, (n_levels, q, q)."""
        if f == 0:
            return self.D
        here = np.arange(*self.cholesky.base[f - 1 : f + 1]).reshape(-1, self.cholesky.sizes[f - 1])
        return self.S[here[:, :, None], here[:, None, :]]

    def shares(self):
        """See `start`, by coefficient in the engine's order."""
        tree, q, T = self.cholesky, self.first[1], self.first[-1]
        kind = np.concatenate([self.first[f + 1] + np.tile(np.arange(size), n // size)
                               for f, (size, n) in enumerate(zip(tree.sizes, np.diff(tree.base), strict=True))])
        leaf = np.repeat(np.arange(tree.n_leaves), np.diff(tree.first))
        own, border = _inverse(np.einsum("naa->na", self.D)), _inverse(self.S.diagonal())
        squares, of, out = self.B**2, kind[tree.index], np.zeros((T, T))
        for a in range(q):
            out[a] = np.bincount(of, squares[:, a] * own[leaf, a], T)
            out[:, a] = np.bincount(of, squares[:, a] * border[tree.index], T)
        which = np.eye(T)[kind]
        out[q:, q:] = ((which * border[:, None]).T @ (self.S**2 @ which))[q:, q:]
        return out

    def _blocks(self, Lambda):
        """Lambda of each factor of the border, and its coefficients there."""
        for f, base in enumerate(self.cholesky.base[:-1]):
            own = slice(self.first[f + 1], self.first[f + 2])
            yield f, Lambda[own, own], slice(base, self.cholesky.base[f + 1])

    def factor(self, Lambda):
        tree, q = self.cholesky, self.first[1]
        leaf = Lambda[:q, :q]
        D = (np.eye(q) if tree.prior is None else tree.prior[0]) + leaf.T @ self.D @ leaf
        B, S = self.B @ leaf, tree.S
        S[:] = self.S
        for f, own, part in self._blocks(Lambda):
            if len(own) == 1:
                B[self.entries[f][:, 0]] *= own
                S[part] *= own
                S[:, part] *= own
                continue
            B[self.entries[f]] = own.T @ B[self.entries[f]]
            S[part] = (own.T @ S[part].reshape(-1, len(own), len(S))).reshape(-1, len(S))
            S[:, part] = _times(S[:, part], own)
        tree.add_prior()
        tree.factor_blocks(D, B)

    def multiply(self, x, x_border):
        """M times columns."""
        out, out_border = self.D @ x, self.S @ x_border
        for a, met in enumerate(self.met):
            out[:, a] += met @ x_border
            out_border += met.T @ x[:, a]
        return out, out_border

    def diagonal_sums(self, Lambda):
        """Sums over the levels of each factor of their blocks of M Lambda H^-1; `invert` comes first."""
        tree, q = self.cholesky, self.first[1]
        leaf, out = Lambda[:q, :q], np.zeros_like(Lambda)
        out[:q, :q] = np.einsum("nab,nbc->ac", self.D @ leaf, tree.own)
        across = tree.X @ leaf.T  # minus the leaves' part of Lambda H^-1
        scaled = np.empty_like(tree.Sinv)
        for _, own, part in self._blocks(Lambda):
            scaled[:, part] = _times(tree.Sinv[:, part], own.T)
        for f, own, part in self._blocks(Lambda):
            here, place = self.entries[f], slice(self.first[f + 1], self.first[f + 2])
            B = self.B[here]
            left = B.reshape(-1, q) * own[0, 0] if len(own) == 1 else (own.T @ B).reshape(-1, q)
            out[:q, :q] -= left.T @ tree.X[here].reshape(-1, q)
            out[place, place] -= np.tensordot(B, across[here], axes=((0, 2), (0, 2)))
            both = [block[part].reshape(-1, len(own), len(scaled)) for block in (self.S, scaled)]
            out[place, place] += np.tensordot(*both, axes=((0, 2), (0, 2)))
        return out


def _inverse(squares):
    """1 / squares, 0 for 0."""
    return np.divide(1.0, squares, out=np.zeros_like(squares), where=squares > 0)


def _times(columns, own):
    """The columns of each level, side by side, times a matrix."""
    if len(own) == 1:
        return columns * own[0, 0]
    return (columns.reshape(len(columns), -1, len(own)) @ own).reshape(columns.shape)


class SeveralProducts(LinearRows, SeveralFactors):
    """Cross-products of the rows of several factors' levels; see `LinearRows` and `SeveralFactors`."""

    exact = False

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self._blas = ThreadpoolController()
        self._order_factors()
        if not self.nested:
            ordered = [self.structure.factors[f] for f in self.order]
            check_memory([(factor.name, factor.n_levels) for factor in ordered], self.n_border)
        self.row_order = self._sort_rows()
        rows = self.row_products(self._coefficients, self.row_order)
        with self._one_blas_thread():
            self.blocks = (TreeBlocks if self.nested else BorderedBlocks)(self, rows)
        self.cholesky, self.C, self.factorised = self.blocks.cholesky, self.blocks.C, None
        first = np.append(0, np.cumsum(self.sizes))
        self.rows_of = [slice(first[f], first[f + 1]) for f in range(len(self.sizes))]
        self.row, self.col = self._place[self.covariance.row], self._place[self.covariance.col]
        self.factor_of = np.searchsorted(first, self.row, side="right") - 1

    def _one_blas_thread(self):
        return self._blas.limit(limits=1, user_api="blas") if self._blas.lib_controllers else nullcontext()

    def border_columns(self):
        """Level of each border factor by row, in the order of the rows, and the place of each coefficient."""
        codes, order = self.observations.codes, self.row_order
        levels = [rank[codes[f]].astype(np.int32) for f, rank in zip(self.order[1:], self.rank[1:], strict=True)]
        levels = levels if order is None else [level[order] for level in levels]
        firsts = (base + level * q for base, level, q in zip(self.base[:-1], levels, self.sizes[1:], strict=True))
        columns = [first + a for first, q in zip(firsts, self.sizes[1:], strict=True) for a in range(q)]
        return levels, np.array(columns, dtype=np.int32).reshape(self.T - self.q, self.n_rows)

    def first_theta(self):
        """A theta to begin with."""
        parts = self._parts(self.blocks.E, self.blocks.E_border)
        shares = self.blocks.shares()[np.ix_(self._place, self._place)]
        return start([(self.blocks.own(f), parts[f]) for f in np.argsort(self.order)], self, shares)

    def random_squares(self):
        """Z'Z of all rows, of each factor."""
        return [self.blocks.own(f).sum(axis=0) for f in np.argsort(self.order)]

    def _lambda(self, theta):
        """Lambda with its coefficients in the engine's order."""
        return self.covariance.lambda_(theta)[np.ix_(self._coefficients, self._coefficients)]

    def _scaled(self, Lambda, x, x_border):
        """Lambda' times columns."""
        parts = [Lambda[own, own].T @ part for own, part in zip(self.rows_of, self._parts(x, x_border), strict=True)]
        return parts[0], np.concatenate([part.reshape(-1, x.shape[2]) for part in parts[1:]])

    def _parts(self, x, x_border):
        """Columns by factor: (n_levels, q, c) each."""
        c = x.shape[2]
        return [x, *(x_border[self.base[f] : self.base[f + 1]].reshape(-1, q, c) for f, q in enumerate(self.sizes[1:]))]

    def evaluate(self, theta):
        """log|V| and Q."""
        if not theta.any():
            return 0.0, self.C
        with self._one_blas_thread():
            return self._evaluate(theta)

    def _evaluate(self, theta):
        if self.factorised is None or not np.array_equal(theta, self.factorised):
            Lambda, blocks = self._lambda(theta), self.blocks
            self.factorised, self._inverted = None, False
            blocks.factor(Lambda)
            s, s_border = self._scaled(Lambda, blocks.E, blocks.E_border)
            self.U = self.cholesky.solve(s, s_border)
            Q = self.C - np.einsum("nak,naj->kj", s, self.U[0], optimize=True) - s_border.T @ self.U[1]
            self.Q, self.factorised = 0.5 * (Q + Q.T), theta.copy()
        return self.cholesky.log_det, self.Q

    def _invert(self):
        if not self._inverted:
            self.cholesky.invert()
            self._inverted = True

    def derivatives(self, theta, residual, root=None):
        """Derivatives at theta; see `ClusterProducts.derivatives`."""
        with self._one_blas_thread():
            self._evaluate(theta)
            return self._derivatives(self._lambda(theta), residual, root)

    def exact_derivatives(self, average):
        """What `derivatives` has found last, with exact second ones: for crossed factors and an invertible Lambda."""
        Lambda, U, S, root, log_det2, penalty2, turned = self._last
        with self._one_blas_thread():
            found = replace(average, exact=True, log_det2=log_det2 - self._pairs(Lambda))
            if root is not None:
                found.penalty2 = penalty2 + 2.0 * self._between_effects(Lambda, U, S, root)
                found.penalty2 -= np.einsum("lxy,kyx->lk", turned, turned)
        return found

    def _derivatives(self, Lambda, residual, root):
        blocks, m, f = self.blocks, self.covariance.m, self.f
        self._invert()
        sums = blocks.diagonal_sums(Lambda)
        back = self._scaled(Lambda.T, *self.U)  # Lambda U
        taken = blocks.multiply(*back)
        U, S = self._parts(*self.U), self._parts(blocks.E - taken[0], blocks.E_border - taken[1])
        found = Derivatives(
            log_det=2.0 * sums[self.row, self.col], log_det2=np.zeros((m, m)), Q=np.empty((m, self.k)),
            quadratic2=np.zeros((m, m)), exact=False,
        )  # fmt: skip
        products, penalty2 = np.empty((m, f, f)), np.zeros((m, m))
        e_S, e_U = [s @ residual for s in S], [u @ residual for u in U]
        moves = self._moves(Lambda, e_U, e_S)
        for entry, (g, r, c) in enumerate(zip(self.factor_of, self.row, self.col, strict=True)):
            own = self.rows_of[g]
            r, c = r - own.start, c - own.start
            found.Q[entry] = -(e_U[g][:, c] @ S[g][:, r] + e_S[g][:, r] @ U[g][:, c])
            half = S[g][:, r, :f].T @ U[g][:, c, :f]
            products[entry] = -(half + half.T)
        for g, own in enumerate(self.rows_of):
            L = Lambda[own, own].copy()
            L.flat[:: len(L) + 1] = np.where(np.abs(L.diagonal()) < SMALLEST, SMALLEST, L.diagonal())
            R = sums[own, own] @ np.linalg.inv(L)  # sum of the levels' blocks of Z'V^-1 Z
            ee = e_S[g].T @ e_S[g]
            along = S[g][:, :, :f] @ (np.eye(f) if root is None else root)
            cc = np.einsum("nax,nbx->ab", along, along, optimize=True)
            mine = np.flatnonzero(self.factor_of == g)
            rows = self.row[mine] - own.start
            same = 2.0 * (self.col[mine][:, None] == self.col[mine])
            at = np.ix_(mine, mine), np.ix_(rows, rows)
            found.log_det2[at[0]] += same * (0.5 * (R + R.T))[at[1]]
            found.quadratic2[at[0]] -= same * ee[at[1]]
            penalty2[at[0]] -= same * cc[at[1]]
        between, turned = self._between(Lambda, moves), None
        found.quadratic2 += 2.0 * between
        if root is not None:
            turned = root.T @ products @ root
            found.products, found.penalty2 = products, penalty2
            found.penalty = np.trace(turned, axis1=1, axis2=2)
        self._last = Lambda, U, S, root, found.log_det2, penalty2, turned
        inverse = np.linalg.inv(self.Q[:f, :f])
        between -= found.Q[:, :f] @ inverse @ found.Q[:, :f].T
        found.log_det2 = found.log_det2 - between / (float(residual @ self.Q @ residual) / (self.n_counted - f))
        return found

    def _moves(self, Lambda, e_U, e_S):
        """dG Z'V^-1 E times a combination of E, by factor: (n_levels, q, m); U and S at that combination are given."""
        moves = [np.zeros((*u.shape, self.covariance.m)) for u in e_U]
        for entry, (g, r, c) in enumerate(zip(self.factor_of, self.row, self.col, strict=True)):
            own = self.rows_of[g]
            moves[g][:, :, entry] = np.outer(e_S[g][:, r - own.start], Lambda[own, c])
            moves[g][:, r - own.start, entry] += e_U[g][:, c - own.start]
        return moves

    def _pairs(self, Lambda):
        """tr(R dG1 R dG2)."""
        place = np.array([own.start for own in self.rows_of])[self.factor_of]
        inverses = [np.linalg.inv(Lambda[own, own]) for own in self.rows_of]
        sums = pair_sums(self.blocks, self.sizes)
        return trace_of_pairs(sums, inverses, self.factor_of, self.row - place, self.col - place)

    def _between_effects(self, Lambda, U, S, root):
        """Sum over the columns c of Z'V^-1 X root of c'dG1 R dG2 c."""
        total, m = 0.0, self.covariance.m
        U, S = ([part[:, :, : self.f] @ root for part in parts] for parts in (U, S))
        for first in range(0, self.f, COLUMNS):
            columns = range(first, min(first + COLUMNS, self.f))
            moves = [self._moves(Lambda, [u[:, :, c] for u in U], [s[:, :, c] for s in S]) for c in columns]
            found = self._between(Lambda, [np.concatenate(of_factor, axis=2) for of_factor in zip(*moves, strict=True)])
            total = total + np.einsum("clck->lk", found.reshape(len(columns), m, len(columns), m))
        return total

    def _between(self, Lambda, moves):
        """v'Z'V^-1 Z v for columns v by level."""
        m = moves[0].shape[2]
        v, v_border = moves[0], np.concatenate([move.reshape(-1, m) for move in moves[1:]])
        M, M_border = self.blocks.multiply(v, v_border)
        s, s_border = self._scaled(Lambda, M, M_border)
        h, h_border = self.cholesky.solve(s, s_border)
        found = np.einsum("nal,nak->lk", v, M, optimize=True) + v_border.T @ M_border
        found -= np.einsum("nal,nak->lk", s, h, optimize=True) + s_border.T @ h_border
        return 0.5 * (found + found.T)

    def effects(self, theta, combinations, priors=None, last=False):
        """See `ClusterProducts.effects`; the joint posterior of all factors comes third."""
        with self._one_blas_thread():
            self._evaluate(theta)
            u, u_border = self.U[0] @ combinations, self.U[1] @ combinations
            if priors is not None:
                u, u_border = self._with_priors(theta, combinations, priors)
            self._invert()
            parts = self._parts(u, u_border)
        effects = [None] * len(parts)
        for f, position in enumerate(self.order):
            effects[position] = parts[f][self.rank[f]]
        n_levels = [factor.n_levels for factor in self.structure.factors]
        joint = JointPosterior(n_levels, self.order, self._given_sizes(), self.cholesky.posterior(self.rank))
        return effects, self._level_blocks(), joint

    def _with_priors(self, theta, combinations, priors):
        """Effects with other means and precisions than 0 and I; they stay with the factor."""
        places = zip(self.order, map(np.argsort, self.rank), strict=True)
        priors = [[part[place] for part in priors[position]] for position, place in places]
        Lambda, c = self._lambda(theta), combinations.shape[1]
        self.cholesky.prior = [precisions for _, precisions in priors]
        self.factorised, self._inverted = None, False
        self.blocks.factor(Lambda)
        s, s_border = self._scaled(Lambda, self.blocks.E @ combinations, self.blocks.E_border @ combinations)
        pulls = [precisions @ means for means, precisions in priors]
        s_border = s_border + np.concatenate([pull.reshape(-1, c) for pull in pulls[1:]])
        found = self.cholesky.solve(s + pulls[0], s_border)
        return found

    def written_out(self, theta, most):
        """Z'V^-1 X and Z'V^-1 Z of all random effects at once, and the positions of each entry of theta.

        Returns
        -------
        b : ndarray of shape (n, f)
        R : ndarray of shape (n, n)
        where : list of (rows, cols)

        Raises
        ------
        ValueError
            If there are more random effects than `most`.
        """
        n_leaf = self.n_leaves * self.q
        n = n_leaf + self.n_border
        if n > most:
            raise ValueError(
                f"Kenward and Roger's method writes out the covariance of all {n:,} random effects of several factors, "
                f"for which {most:,} are allowed: with so many, df='satterthwaite' hardly differs"
            )
        first = np.append(0, n_leaf + self.base)
        where = []
        for g, r, c in zip(self.factor_of, self.row, self.col, strict=True):
            levels = first[g] + self.sizes[g] * np.arange(self.n_levels[g]) - self.rows_of[g].start
            where.append((levels + r, levels + c))
        with self._one_blas_thread():
            self._evaluate(theta)
            Lambda = self._lambda(theta)
            unit = np.eye(n)
            M = self.blocks.multiply(unit[:n_leaf].reshape(self.n_leaves, self.q, n), unit[n_leaf:])
            M = np.concatenate([M[0].reshape(n_leaf, n), M[1]])
            taken = self.blocks.multiply(*self._scaled(Lambda.T, *self.U))
            b = np.concatenate([
                (self.blocks.E - taken[0]).reshape(n_leaf, self.k), self.blocks.E_border - taken[1]
            ])[:, : self.f]  # fmt: skip
            right = self._scaled(Lambda, M[:n_leaf].reshape(self.n_leaves, self.q, n), M[n_leaf:])
            h = self.blocks.multiply(*self._scaled(Lambda.T, *self.cholesky.solve(*right)))
            R = M - np.concatenate([h[0].reshape(n_leaf, n), h[1]])
        return b, R, where
