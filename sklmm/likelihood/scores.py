"""Scores of single clusters: the gradient of each one's Laplace or adaptive Gauss-Hermite log-likelihood.

The compiled passes sum over clusters as they go; this is the same gradient (its formulas are in ARCHITECTURE.md),
cluster by cluster, for one grouping factor.
"""

import numpy as np
from scipy import sparse
from scipy.special import expit

from sklmm.likelihood.quadrature import hermite_grid


def cluster_scores(engine, x, X, y, codes, sample_weight, n_quadrature):
    """Gradient of each cluster's log-likelihood.

    Parameters
    ----------
    engine : ClusteredLikelihood
        Evaluated last at x.
    x : ndarray of shape (n_params,)
        In the engine's own parameters.
    X, y, codes, sample_weight, n_quadrature
        What the engine was made from; codes None is no random effects, and each row a cluster.

    Returns
    -------
    scores : ndarray of shape (n_levels, n_params)
        0 for levels without rows. Without random effects each row's score, one of its copies' where weights count
        copies, and 0 for theta.
    """
    n, k = len(y), engine.n_fixed
    rows = (np.asarray(X, dtype=np.float64) - engine._center[: engine.p]) * engine._inv_scale[: engine.p]
    if engine.fit_intercept:
        rows = np.column_stack([rows, np.ones(n)])
    eta = rows @ x[:k]
    if codes is None:
        return np.column_stack([(y - expit(eta))[:, None] * rows, np.zeros((n, engine.n_params - k))])

    q, C, weight = engine.covariance.q, engine.n_levels, 1.0 if sample_weight is None else sample_weight
    Z = np.column_stack(
        [
            np.ones(n) if j < 0 else (np.asarray(X[:, j], dtype=np.float64) - center) * scale
            for j, center, scale in zip(engine.columns, engine._z_center, engine._z_inv_scale, strict=True)
        ]
    )
    Lambda = engine.covariance.lambda_(x[k:])
    T = Z @ Lambda  # a row's derivative by u
    u, H = np.zeros((C, q)), np.tile(np.eye(q), (C, 1, 1))
    u[engine.level_of_cluster] = engine.modes
    row, col = np.tril_indices(q)
    for a, b, packed in zip(row, col, engine.curvature.T, strict=True):
        H[engine.level_of_cluster, a, b] = H[engine.level_of_cluster, b, a] = packed
    L = np.linalg.cholesky(H)
    indicator = sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=(C, n))

    def sums(values):
        """Sums by cluster of an array whose first axis is rows."""
        return (indicator @ values.reshape(n, -1)).reshape(C, *values.shape[1:])

    mu = expit(eta + np.einsum("ja,ja->j", T, u[codes]))
    r, v = weight * (y - mu), weight * mu * (1 - mu)
    dv = v * (1 - 2 * mu)

    # The nodes: their posterior weights, and means over them of residuals and of what goes with them.
    zeta, log_w = hermite_grid(n_quadrature, q)
    inverse = np.linalg.inv(L)
    nodes = u + np.sqrt(2.0) * np.einsum("cba,kb->kca", inverse, zeta)  # L'^-1 zeta
    log_post = np.empty((len(zeta), C))
    residuals = []
    for i in range(len(zeta)):
        at = eta + np.einsum("ja,ja->j", T, nodes[i, codes])
        density = weight * (y * at - np.logaddexp(0.0, at))
        log_post[i] = sums(density) - 0.5 * np.einsum("ca,ca->c", nodes[i], nodes[i]) + log_w[i]
        residuals.append(weight * (y - expit(at)))
    post = np.exp(log_post - log_post.max(axis=0))
    post /= post.sum(axis=0)
    mean_r, m, Y = np.zeros(n), np.zeros((C, q)), np.zeros((C, q, q))
    theta_part = np.zeros((C, q, q))  # sums of z_row r u_col, means over the nodes
    for i in range(len(zeta)):
        share, residual = post[i], residuals[i]
        mean_r += share[codes] * residual
        s = sums(T * residual[:, None]) - nodes[i]
        m += share[:, None] * s
        Y += share[:, None, None] * s[:, :, None] * zeta[i]
        by_z = sums(Z * residual[:, None])
        theta_part += share[:, None, None] * by_z[:, :, None] * nodes[i, :, None, :]
    Y = inverse @ Y
    upper = np.triu(Y, 1) / 2
    Psi = upper + np.swapaxes(upper, 1, 2)
    diagonal = np.arange(q)
    Psi[:, diagonal, diagonal] = Y[:, diagonal, diagonal] / 2
    curve = np.swapaxes(inverse, 1, 2) @ (-np.sqrt(2.0) * Psi - 0.5 * np.eye(q)) @ inverse

    c = np.einsum("ja,jab,jb->j", T, curve[codes], T)
    m = m + sums(T * (dv * c)[:, None])
    kappa = np.linalg.solve(H, m[:, :, None])[:, :, 0]
    rest = dv * c - v * np.einsum("ja,ja->j", T, kappa[codes])
    scores = np.empty((C, engine.n_params))
    scores[:, :k] = sums(rows * (mean_r + rest)[:, None])
    M = sums((Z * v[:, None])[:, :, None] * Z[:, None, :])
    R = sums(Z * r[:, None])
    theta = theta_part + sums(Z * rest[:, None])[:, :, None] * u[:, None, :]
    theta += 2 * M @ Lambda @ np.swapaxes(curve, 1, 2) + R[:, :, None] * kappa[:, None, :]
    scores[:, k:] = theta[:, engine.covariance.row, engine.covariance.col]
    return scores
