"""The Cholesky factorisation behind several grouping factors: H = T'VT + I for all their random coefficients at once.

Two kinds, one set of verbs (`factor`, `solve`, `invert`): what the engine does with H does not depend on how H is
stored. `prior` is None, or has for each factor, the leaf first, a precision (n_levels, q, q) in the place of I.

* `TreeCholesky`: every factor is nested in the next one. Each leaf has one path of ancestors, eliminating it touches
  nothing else, and everything is O(levels).
* `BorderedCholesky`: the leaf factor, the one with the most levels, is block diagonal and eliminated; the Schur
  complement of all others is dense.
"""

import os

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from sklmm._kernels._crossed import border_cells, eliminate_leaves, leaf_inverses, mirror
from sklmm.likelihood.joint_posterior import STORED_BYTES, BorderedPosterior, TreePosterior

MEMORY_SHARE = 0.5  # of the machine's memory, for the dense part
DENSE_COPIES = 3  # the factor, its inverse, and a copy while it is made
NO_MODE = "a conditional mode was not found: is X or sample_weight extreme?"


def physical_memory():
    """Bytes of memory of this machine; 8 GiB where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def check_memory(factors, n_border, limit=None):
    """Raise unless a dense Schur complement of `n_border` coefficients fits.

    Parameters
    ----------
    factors : list of (name, number of levels)
        Largest first.
    n_border : int
    limit : int or None
        Bytes; None is MEMORY_SHARE of the machine's.
    """
    limit = int(MEMORY_SHARE * physical_memory()) if limit is None else limit
    needed = DENSE_COPIES * 8 * n_border**2
    if needed <= limit:
        return
    (first, n_first), (second, n_second) = factors[:2]
    raise MemoryError(
        f"the random effects of the grouping factors other than {first!r} ({n_border:,} of them) need a dense matrix "
        f"and its inverse, {needed:,} bytes; {limit:,} bytes, {MEMORY_SHARE:.0%} of this machine's memory, are "
        f"allowed. The two largest factors are {first!r} with {n_first:,} levels and {second!r} with {n_second:,}; "
        f"neither is nested in the other. Take a coarser grouping than {second!r}, leave it out, or use a machine with "
        "more memory"
    )


class BorderedCholesky:
    """Leaves block diagonal, everything else dense.

    Parameters
    ----------
    start : ndarray of shape (n_leaves + 1,)
        First row of each leaf.
    q : int
        Coefficients of a leaf.
    levels : list of ndarray of shape (n,), int32
        Level of each border factor by row.
    n_levels, sizes : list of int
        Levels and coefficients of each border factor.
    n_threads : int
    """

    def __init__(self, start, q, levels, n_levels, sizes, n_threads):
        self.n_leaves, self.q, self.n_threads = start.size - 1, q, n_threads
        sizes = np.array(sizes, dtype=np.int64)
        base = np.append(0, np.cumsum(sizes * n_levels)).astype(np.int64)
        self.n_border, self.base, self.sizes = int(base[-1]), base, sizes
        self.first, self.index, cell, self.by_column = border_cells(
            start, np.ascontiguousarray(levels), sizes, base[:-1], self.n_border
        )
        # by coefficient: those of a level stand side by side
        self.cell = np.ascontiguousarray(
            np.concatenate([cell[f] + np.arange(size, dtype=np.int32)[:, None] for f, size in enumerate(sizes)])
        )
        self.S = np.zeros((self.n_border, self.n_border))
        self.Sinv = np.zeros_like(self.S)
        self.log_det = np.nan
        self.prior = None

    def factor(self, rows, weight, t):
        """Factorise I + sum weight t t', or with the precision of another prior in the place of I."""
        D = np.zeros((self.n_leaves, self.q, self.q))
        D[:] = np.eye(self.q) if self.prior is None else self.prior[0]
        B = np.zeros((self.index.size, self.q))
        S = self.S
        S.fill(0.0)
        self.add_prior()
        rows.border_blocks(weight, t, self.first, self.cell, D, B, S)
        self.factor_blocks(D, B)

    def add_prior(self):
        """Adds I, or the prior's precisions, to the border's matrix."""
        if self.prior is None:
            self.S.flat[:: self.n_border + 1] += 1.0
            return
        for f, block in enumerate(self.prior[1:]):
            here = np.arange(self.base[f], self.base[f + 1]).reshape(-1, self.sizes[f])
            self.S[here[:, :, None], here[:, None, :]] += block

    def factor_blocks(self, D, B):
        """Factorise the leaves' blocks D (n_leaves, q, q), B (entries, q), what they have with the border's
        coefficients that they meet, and what stands in `S`: its lower triangle is read, and overwritten."""
        S = self.S
        self.Dinv, self.log_det = _inverses(D)
        leaf = np.repeat(np.arange(self.n_leaves), np.diff(self.first))
        self.K = B * self.Dinv[leaf, :, 0] if self.q == 1 else np.einsum("eab,eb->ea", self.Dinv[leaf], B)
        eliminate_leaves(S, B, self.K, self.first, self.index, *self.by_column, self.n_threads)
        # a lower triangle in C order is an upper one in Fortran's
        factor, failed = lapack.dpotrf(S.T, lower=0, clean=0, overwrite_a=1)
        if failed:
            raise FloatingPointError(NO_MODE)
        self.U = factor
        self.log_det += 2.0 * np.log(np.diagonal(factor)).sum()
        self._K = [csr_matrix((self.K[:, a].copy(), self.index, self.first), (self.n_leaves, self.n_border))
                   for a in range(self.q)]  # fmt: skip

    def solve(self, s, s_border):
        """H^-1 applied to columns: s (n_leaves, q, m), s_border (n_border, m)."""
        right = s_border - sum(K.T @ s[:, a] for a, K in enumerate(self._K))
        x_border = lapack.dpotrs(self.U, right, lower=0)[0]
        x = self.Dinv[:, 0, 0, None, None] * s if self.q == 1 else self.Dinv @ s
        for a, K in enumerate(self._K):
            x[:, a] -= K @ x_border
        return x, x_border

    def invert(self):
        """Find the blocks of the inverse where H is not zero, and those of the border."""
        inverse, _ = lapack.dpotri(self.U, lower=0, overwrite_c=0)
        self.Sinv = inverse.T
        mirror(self.Sinv, True)
        self.own = np.empty_like(self.Dinv)
        self.X = np.empty_like(self.K)
        leaf_inverses(self.Sinv, self.K, self.Dinv, self.first, self.index, self.own, self.X, self.n_threads)

    def level_blocks(self, f):
        """Diagonal blocks of the inverse (n_levels, q, q) of the f-th factor, the leaf 0."""
        if f == 0:
            return self.own
        q = self.sizes[f - 1]
        here = np.arange(self.base[f - 1], self.base[f]).reshape(-1, q)
        return self.Sinv[here[:, :, None], here[:, None, :]]

    def posterior(self, rank):
        """What determines the whole inverse, for predictions; None if that is too much to keep."""
        if 4 * self.n_border**2 + 16 * self.K.size > STORED_BYTES:
            return None
        return BorderedPosterior(self.first, self.index, self.K, self.Sinv, self.base, self.sizes)

    def needed_blocks(self):
        """Arguments of `CrossedRows.leverages`."""
        return None, self.own, self.first, self.cell, self.X, self.Sinv


class TreeCholesky:
    """Every factor nested in the next.

    Parameters
    ----------
    parents : list of ndarray
        Level of the next factor for each level of every factor but the last; children stand side by side.
    n_levels, sizes : list of int
        Levels and coefficients of each factor, the leaf first.
    """

    def __init__(self, parents, n_levels, sizes):
        self.n_levels, self.sizes = n_levels, sizes
        self.first = np.append(0, np.cumsum(sizes))
        self.T = int(self.first[-1])
        self.base = np.append(0, np.cumsum([n * q for n, q in zip(n_levels[1:], sizes[1:], strict=True)]))
        # levels that have children, and the first child of each
        self.occupied = [np.unique(p, return_index=True) for p in parents]
        self.ancestors = []  # [f][g]: level of factor f + 1 + g
        for f in range(len(n_levels)):
            above, here = [], np.arange(n_levels[f])
            for p in parents[f:]:
                here = p[here]
                above.append(here)
            self.ancestors.append(above)
        self.parents = parents
        self.log_det = np.nan
        self.prior = None

    def sums_over_children(self, f, values):
        """Sums over the children of each level of factor f + 1."""
        level, first = self.occupied[f]
        out = np.zeros((self.n_levels[f + 1], *values.shape[1:]))
        out[level] = np.add.reduceat(values, first, axis=0)
        return out

    def factor(self, rows, weight, t):
        """Factorise I + sum weight t t'."""
        A = np.empty((self.n_levels[0], self.T, self.T))
        rows.path_blocks(weight, t, A)
        self.factor_blocks(A)

    def factor_blocks(self, A):
        """Factorise I, or the prior's precision, + the leaves' blocks A (n_leaves, T, T)."""
        self.Dinv, self.K, self.log_det = [], [], 0.0
        for f, q in enumerate(self.sizes):
            Dinv, log_det = _inverses(A[:, :q, :q] + (np.eye(q) if self.prior is None else self.prior[f]))
            self.log_det += log_det
            B = A[:, :q, q:]
            K = Dinv @ B
            self.Dinv.append(Dinv)
            self.K.append(K)
            if f + 1 < len(self.sizes):
                A = self.sums_over_children(f, A[:, q:, q:] - np.swapaxes(B, 1, 2) @ K)

    def _split(self, s, s_border):
        m = s.shape[2]
        parts = [s_border[self.base[f] : self.base[f + 1]].reshape(n, q, m)
                 for f, (n, q) in enumerate(zip(self.n_levels[1:], self.sizes[1:], strict=True))]  # fmt: skip
        return [s, *parts]

    def solve(self, s, s_border):
        """H^-1 applied to columns: s (n_leaves, q, m), s_border (sum of the others' coefficients, m)."""
        parts = [p.copy() for p in self._split(s, s_border)]
        for f in range(len(parts) - 1):
            share = np.swapaxes(self.K[f], 1, 2) @ parts[f]  # what the ancestors' sums lose, path by path
            for g in range(f + 1, len(parts)):
                share = self.sums_over_children(g - 1, share)
                parts[g] -= share[:, : self.sizes[g]]
                share = share[:, self.sizes[g] :]
        for f in range(len(parts) - 1, -1, -1):
            parts[f] = self.Dinv[f] @ parts[f]
            if f + 1 < len(parts):
                path = [parts[f + 1 + g][level] for g, level in enumerate(self.ancestors[f])]
                parts[f] -= self.K[f] @ np.concatenate(path, axis=1)
        m = s.shape[2]
        border = [p.reshape(-1, m) for p in parts[1:]]
        return parts[0], np.concatenate(border) if border else np.zeros((0, m))

    def invert(self):
        """Find the block of the inverse that belongs to each level and its ancestors."""
        self.paths = [None] * len(self.sizes)
        for f in range(len(self.sizes) - 1, -1, -1):
            q = self.sizes[f]
            if f + 1 == len(self.sizes):
                self.paths[f] = self.Dinv[f]
                continue
            above = self.paths[f + 1][self.parents[f]]
            X = self.K[f] @ above
            path = np.empty((self.n_levels[f], q + above.shape[1], q + above.shape[1]))
            path[:, :q, :q] = self.Dinv[f] + X @ np.swapaxes(self.K[f], 1, 2)
            path[:, :q, q:] = -X
            path[:, q:, :q] = -np.swapaxes(X, 1, 2)
            path[:, q:, q:] = above
            self.paths[f] = path

    def level_blocks(self, f):
        """Diagonal blocks of the inverse (n_levels, q, q) of the f-th factor, the leaf 0."""
        q = self.sizes[f]
        return self.paths[f][:, :q, :q]

    def posterior(self, rank):
        """What determines the whole inverse, for predictions; `rank`: where each level of each factor stands here."""
        parents = [np.argsort(rank[f + 1])[p[rank[f]]] for f, p in enumerate(self.parents)]
        K = [K[r] for K, r in zip(self.K, rank, strict=True)]
        own = [self.level_blocks(f)[r] for f, r in enumerate(rank)]
        return TreePosterior(parents, K, own)

    def needed_blocks(self):
        """Arguments of `CrossedRows.leverages`."""
        return np.ascontiguousarray(self.paths[0]), None, None, None, None, None


def _inverses(D):
    """Inverses of small positive definite matrices (n, q, q), and the sum of their log determinants."""
    if D.shape[1] == 1:
        return 1.0 / D, float(np.log(D).sum())
    try:
        L = np.linalg.cholesky(D)
    except np.linalg.LinAlgError as error:
        raise FloatingPointError(NO_MODE) from error
    root = np.linalg.inv(L)
    return np.swapaxes(root, 1, 2) @ root, 2.0 * float(np.log(np.diagonal(L, axis1=1, axis2=2)).sum())
