"""Columns of X that say nothing that earlier ones have not said: constant, or linear combinations of them."""

import numpy as np
from scipy.linalg import lapack

# Below this share of a column's own variation, given the columns before it, the column says nothing new.
ALIASED = 1e-11
SAMPLE_ROWS = 1024
CHUNK_ROWS = 1 << 16


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

    def gram(rows):
        Z = np.ones((len(range(*rows.indices(n))), p + fit_intercept))
        Z[:, fit_intercept:] = (X[rows] - center) * inv_scale
        if sample_weight is not None:
            Z *= (sample_weight[rows] > 0)[:, None]
        return Z.T @ Z

    if not dependent(gram(slice(None, None, max(1, n // SAMPLE_ROWS)))).any():
        return np.zeros(p, dtype=bool)
    total = sum(gram(slice(first, first + CHUNK_ROWS)) for first in range(0, n, CHUNK_ROWS))
    return dependent(total)[int(fit_intercept) :]


def dependent(gram, share=ALIASED):
    """Mask of the columns that depend linearly on those before them, from their positive semidefinite Gram matrix.

    A Cholesky factorisation, scaled to a unit diagonal: the square of each pivot is the share of the column that the
    earlier columns lack.
    """
    n = gram.shape[0]
    out = np.zeros(n, dtype=bool)
    scale = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    if scale.min(initial=np.inf) > 0:
        factor, failed = lapack.dpotrf(gram / (scale[:, None] * scale), lower=1)
        if not failed and factor.diagonal().min(initial=1.0) ** 2 > share:
            return out
    kept, L = [], np.zeros((n, n))
    for j in range(n):  # one column after another, leaving out those that add nothing
        m = len(kept)
        row = gram[j, kept] / (scale[j] * scale[kept]) if scale[j] > 0 else np.zeros(m)
        for i in range(m):
            row[i] = (row[i] - row[:i] @ L[i, :i]) / L[i, i]
        pivot = 1.0 - row @ row
        if scale[j] == 0 or pivot < share:
            out[j] = True
            continue
        L[m, :m], L[m, m] = row, np.sqrt(pivot)
        kept.append(j)
    return out
