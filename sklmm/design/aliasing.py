"""Columns of X that say nothing that earlier ones have not said: constant, or linear combinations of them."""

import numpy as np
from scipy.linalg import lapack

# Below this share of a column's own variation, given the columns before it, the column says nothing new.
ALIASED = 1e-11
CLEAR = 1e-7  # pivots of a Gram matrix above it are right to two digits, whatever follows them
ROUNDING = 1e-10  # of a column's spread: what is no larger in any row is the rounding error of a constant
SAMPLE_ROWS = 1024  # rows that tell of most designs
CHUNK_ROWS = 1 << 16  # rows of a product that is made in pieces


def aliased_columns(X, center, inv_scale, sample_weight=None, fit_intercept=True):
    """Mask of the columns of X that are linear combinations of earlier ones (the intercept is the first).

    A dependence among the columns is one among the columns of any sample of rows: a small one acquits most designs.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    center, inv_scale : ndarray of shape (p,)
        Rough centres and inverse scales of the columns, for conditioning.
    sample_weight : ndarray of shape (n,) or None
        Rows of weight 0 are not there.
    fit_intercept : bool

    Returns
    -------
    aliased : ndarray of shape (p,), bool
    """
    n, p = X.shape

    def rows_of(rows):
        Z = np.ones((len(range(*rows.indices(n))), p + fit_intercept))
        Z[:, fit_intercept:] = (X[rows] - center) * inv_scale
        Z[:, np.abs(Z).max(axis=0, initial=0.0) < ROUNDING] = 0.0
        if sample_weight is not None:
            Z *= (sample_weight[rows] > 0)[:, None]
        return Z

    def gram(rows):
        Z = rows_of(rows)
        return Z.T @ Z

    if pivots(gram(slice(None, None, max(1, n // SAMPLE_ROWS)))).min(initial=1.0) > CLEAR:
        return np.zeros(p, dtype=bool)
    parts = [slice(first, first + CHUNK_ROWS) for first in range(0, n, CHUNK_ROWS)]
    found = pivots(sum(map(gram, parts)))
    if found[found > 0].min(initial=1.0) > CLEAR:
        return found[int(fit_intercept) :] == 0
    triangle = np.zeros((0, p + fit_intercept))
    for part in parts:
        triangle = np.linalg.qr(np.concatenate([triangle, rows_of(part)]), mode="r")
    return _dependent_by_rows(triangle)[int(fit_intercept) :]


def dependent(gram, share=ALIASED):
    """Mask of the columns that depend linearly on those before them, from their positive semidefinite Gram matrix."""
    return pivots(gram, share) == 0


def pivots(gram, share=ALIASED):
    """The share of each column that those before it lack, 0 where it is below `share`, from their Gram matrix.

    A Cholesky factorisation, scaled to a unit diagonal: the squares of its pivots. After a small one the next are wrong
    by about the rounding error divided by it.
    """
    n = gram.shape[0]
    out = np.zeros(n)
    scale = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    if scale.min(initial=np.inf) > 0:
        factor, failed = lapack.dpotrf(gram / (scale[:, None] * scale), lower=1)
        if not failed and factor.diagonal().min(initial=1.0) ** 2 > share:
            return factor.diagonal() ** 2
    kept, L = [], np.zeros((n, n))
    for j in range(n):  # one column after another, leaving out those that add nothing
        m = len(kept)
        row = gram[j, kept] / (scale[j] * scale[kept]) if scale[j] > 0 else np.zeros(m)
        for i in range(m):
            row[i] = (row[i] - row[:i] @ L[i, :i]) / L[i, i]
        pivot = 1.0 - row @ row
        if scale[j] == 0 or pivot < share:
            continue
        out[j] = pivot
        L[m, :m], L[m, m] = row, np.sqrt(pivot)
        kept.append(j)
    return out


def _dependent_by_rows(rows):
    """As `dependent`, from the columns: their pivots have all the digits, where those of a Gram matrix have half."""
    kept = list(range(rows.shape[1]))
    size = np.linalg.norm(rows, axis=0)
    while kept:
        left = np.zeros(len(kept))
        diagonal = np.abs(np.diag(np.linalg.qr(rows[:, kept], mode="r")))
        left[: diagonal.size] = diagonal
        small = np.flatnonzero(left <= np.sqrt(ALIASED) * size[kept])
        if not small.size:
            break
        del kept[small[0]]
    return ~np.isin(np.arange(rows.shape[1]), kept)
