"""Exact second derivatives of a linear model of crossed factors: sums over all pairs of levels.

In units in which the random effects are independent standard normals J = I - H^-1 is Lambda'Z'V^-1 Z Lambda, and

    tr(Z'V^-1 Z dG1 Z'V^-1 Z dG2) = tr(J N1 J N2),  N = Lambda^-1 dLambda + its transpose

Sums over pairs of levels of products of the entries of H^-1 need no matrix of leaves by leaves: H^-1 of the leaves is
D^-1 + K Sigma K', where Sigma is the border's dense inverse, so that such sums are traces of products of Sigma and K'K.
"""

import numpy as np

from sklmm._kernels._crossed import eliminate_leaves, mirror


def pair_sums(blocks, sizes):
    """Sums T[a, b, c, d] of J[(i, a), (j, b)] J[(i, c), (j, d)] over the levels i, j of each pair of factors.

    Parameters
    ----------
    blocks : BorderedBlocks
        After `invert`.
    sizes : list of int
        Coefficients of each factor, the leaf first.

    Returns
    -------
    dict of (f, g) -> ndarray of shape (q_f, q_g, q_f, q_g)
    """
    tree, q = blocks.cholesky, sizes[0]
    Sigma, n_factors = tree.Sinv, len(sizes)
    parts = [slice(*tree.base[f : f + 2]) for f in range(n_factors - 1)]
    Y = {(a, c): _cross(tree, a, c) @ Sigma for a in range(q) for c in range(q)}
    T = {}
    both = np.einsum("nab,ncd->abcd", tree.Dinv, tree.own)
    T[0, 0] = both + both.transpose(2, 3, 0, 1) - np.einsum("nab,ncd->abcd", tree.Dinv, tree.Dinv)
    for a, b, c, d in np.ndindex(q, q, q, q):
        T[0, 0][a, b, c, d] += np.einsum("xy,yx->", Y[d, b], Y[a, c])
    for f, (rows, m) in enumerate(zip(parts, sizes[1:], strict=True), start=1):
        T[0, f] = np.empty((q, m, q, m))
        left = Sigma[rows].reshape(-1, m, len(Sigma))
        for (a, c), product in Y.items():
            right = product[:, rows].reshape(len(Sigma), -1, m)
            T[0, f][a, :, c, :] = np.einsum("jbx,xjd->bd", left, right, optimize=m > 1)
        T[f, 0] = T[0, f].transpose(1, 0, 3, 2)
        for g, (cols, n) in enumerate(zip(parts, sizes[1:], strict=True), start=1):
            block = Sigma[rows, cols].reshape(-1, m, (cols.stop - cols.start) // n, n)
            T[f, g] = np.einsum("iajb,icjd->abcd", block, block, optimize=m * n > 1)
    for f, m in enumerate(sizes):  # from H^-1 to J
        own, unit = tree.level_blocks(f), np.eye(m)
        total = own.sum(axis=0)
        crossed = np.multiply.outer(unit, total)
        T[f, f] += len(own) * np.multiply.outer(unit, unit) - crossed - crossed.transpose(2, 3, 0, 1)
    return T


def _cross(tree, a, c):
    """K_a'K_c, dense."""
    out, first, second = np.zeros_like(tree.S), *(np.ascontiguousarray(tree.K[:, [i]]) for i in (a, c))
    # row x, column y <= x of what it takes away: K_c of x times K_a of y, here the other way round
    eliminate_leaves(out, second, first, tree.first, tree.index, *tree.by_column, tree.n_threads)
    if a == c:
        mirror(out, True)
    else:
        other = np.zeros_like(out)
        eliminate_leaves(other, first, second, tree.first, tree.index, *tree.by_column, tree.n_threads)
        out += np.triu(other.T, 1)
    np.negative(out, out=out)
    return out


def trace_of_pairs(T, inverses, factor_of, row, col):
    """tr(J N1 J N2) for each pair of entries of Lambda.

    Parameters
    ----------
    T : dict
        See `pair_sums`.
    inverses : list of ndarray of shape (q, q)
        Lambda^-1 of each factor.
    factor_of, row, col : ndarray of shape (m,)
        Factor and position in it of each entry.

    Returns
    -------
    ndarray of shape (m, m)
    """
    N = []
    for f, r, c in zip(factor_of, row, col, strict=True):
        half = np.zeros_like(inverses[f])
        half[:, c] = inverses[f][:, r]
        N.append(half + half.T)
    out = np.empty((len(N), len(N)))
    for k, (f, one) in enumerate(zip(factor_of, N, strict=True)):
        for m, (g, other) in enumerate(zip(factor_of, N, strict=True)):
            out[k, m] = np.einsum("xy,zw,xwyz->", one, other, T[f, g])
    return 0.5 * (out + out.T)
