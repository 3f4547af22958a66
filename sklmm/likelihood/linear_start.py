"""Where a climb in theta begins: variances by moments, each factor as if it were the only one."""

import numpy as np

RATIOS = 1e-2, 1e12  # of a variance to sigma^2: at 0 there is no way up
WELL = 1e-3  # the least eigenvalue of a level's scaled Z'Z from which its own coefficients are told


def start(levels, products):
    """A theta from cross-products.

    Parameters
    ----------
    levels : list of (A, B)
        Z'Z and Z'E of each factor's levels, (n_levels, q, q) and (n_levels, q, k), in the order of `covariance`.
    products : ClusterProducts or SeveralProducts
        Of which `C`, `f`, `n_counted` and `covariance` are asked for.

    Returns
    -------
    ndarray of shape (m,)
    """
    covariance, C, f = products.covariance, products.C, products.f
    residual = np.append(-np.linalg.solve(C[:f, :f], C[:f, f]), 1.0)  # least squares
    total, whole, first = float(residual @ C @ residual), np.zeros((covariance.q, covariance.q)), 0
    for A, B in levels:
        q, sums = A.shape[1], B @ residual
        found = _covariance(A, sums, total, products.n_counted) if q > 1 else None
        if found is None:
            found = np.diag([_variance(A[:, a, a], sums[:, a], total, products.n_counted) for a in range(q)])
        whole[first : first + q, first : first + q] = found
        first += q
    Lambda = np.zeros_like(whole)
    for block, correlated in covariance.blocks:
        part = whole[block, block]
        Lambda[block, block] = np.linalg.cholesky(part) if correlated else np.diag(np.sqrt(part.diagonal()))
    return Lambda[covariance.row, covariance.col]


def _variance(squares, sums, total, n):
    """Of one coefficient, to sigma^2, from the sums of squares between levels and within them (Henderson 1953)."""
    filled = squares > 0
    between, levels = float((sums[filled] ** 2 / squares[filled]).sum()), np.count_nonzero(filled)
    within = (total - between) / (n - levels) if n > levels else 0.0
    ratio = (between / within - levels) / squares.sum() if within > 0.0 else 1.0
    return np.clip(ratio, *RATIOS)


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
