"""Where a climb in theta begins: variances by moments."""

import numpy as np

RATIOS = 1e-4, 1e12  # of a variance to sigma^2: at 0 there is no way up
WELL = 1e-3  # the least eigenvalue of a level's scaled Z'Z from which its own coefficients are told


def start(levels, products, shares=None):
    """A theta from cross-products.

    Parameters
    ----------
    levels : list of (A, B)
        Z'Z and Z'E of each factor's levels, (n_levels, q, q) and (n_levels, q, k), in the order of `covariance`.
    products : ClusterProducts or SeveralProducts
        Of which `C`, `f`, `n_counted` and `covariance` are asked for.
    shares : ndarray of shape (q, q) or None
        For coefficients of different factors sums over pairs of levels of M[a, b]^2 / M[a, a]; for one factor None.

    Returns
    -------
    ndarray of shape (m,)
    """
    covariance, C, f = products.covariance, products.C, products.f
    residual = np.append(-np.linalg.solve(C[:f, :f], C[:f, f]), 1.0)  # least squares
    total, n, first = float(residual @ C @ residual), products.n_counted, 0
    sums = [(A, B @ residual) for A, B in levels]
    whole = np.diag(_variances(sums, total, n, shares))
    for A, own in sums:
        part = slice(first, first + A.shape[1])
        found = _covariance(A, own, total, n) if A.shape[1] > 1 else None
        whole[part, part] = whole[part, part] if found is None else found
        first = part.stop
    Lambda = np.zeros_like(whole)
    for block, correlated in covariance.blocks:
        part = whole[block, block]
        Lambda[block, block] = np.linalg.cholesky(part) if correlated else np.diag(np.sqrt(part.diagonal()))
    return Lambda[covariance.row, covariance.col]


def _variances(levels, total, n, shares):
    """Of each coefficient, to sigma^2, where the sums of squares between levels, of all coefficients, and of all rows
    are what is expected of them (Henderson's first method, 1953)."""
    q = sum(A.shape[1] for A, _ in levels)
    expected, found, first = np.zeros((q + 1, q + 1)), np.empty(q + 1), 0
    expected[:q, :q] = 0.0 if shares is None else shares
    for A, sums in levels:
        own = slice(first, first + A.shape[1])
        squares = np.einsum("naa->na", A)
        share = np.divide(1.0, squares, out=np.zeros_like(squares), where=squares > 0)
        found[own] = np.einsum("na,na->a", sums**2, share)
        expected[own, own] = np.einsum("nab,na->ab", A**2, share)
        expected[own, q], expected[q, own] = np.count_nonzero(share, axis=0), squares.sum(axis=0)
        first = own.stop
    expected[q, q], found[q] = n, total
    variances = np.linalg.lstsq(expected, found)[0]
    return np.clip(variances[:q] / variances[q], *RATIOS) if variances[q] > 0.0 else np.ones(q)


def _covariance(A, sums, total, n):
    """Of several coefficients, to sigma^2, from least squares level by level (Swamy 1970), made positive definite.

    None where too few levels tell their coefficients.
    """
    q, size = A.shape[1], np.einsum("naa->na", A)
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    if q == 2:
        least = 1.0 - np.abs(A[:, 0, 1]) / (scale[:, 0] * scale[:, 1])
    else:
        least = np.linalg.eigvalsh(A / scale[:, :, None] / scale[:, None, :])[:, 0]
    told = np.flatnonzero((least > WELL) & (size > 0).all(axis=1))
    df = n - q * told.size
    if told.size < 2 * q or df <= 0:
        return None
    inverse = small_inverses(A[told])
    b = np.einsum("nab,nb->na", inverse, sums[told])
    variance = (total - np.vdot(sums[told], b)) / df
    if not variance > 0.0:
        return None
    w, vectors = np.linalg.eigh((b.T @ b / variance - inverse.sum(axis=0)) / told.size)
    return (vectors * np.clip(w, *RATIOS)) @ vectors.T


def small_inverses(H):
    """Inverses of many small positive definite matrices."""
    if H.shape[1] == 1:
        return 1.0 / H
    if H.shape[1] > 2:
        return np.linalg.inv(H)
    out = np.empty_like(H)
    determinant = H[:, 0, 0] * H[:, 1, 1] - H[:, 0, 1] ** 2
    out[:, 0, 0], out[:, 1, 1] = H[:, 1, 1] / determinant, H[:, 0, 0] / determinant
    out[:, 0, 1] = out[:, 1, 0] = -H[:, 0, 1] / determinant
    return out
