"""What each cluster of a linear model says: its part of the gradient, and of the Hessian, in (beta, theta, log sigma).

The formulas are those of `linear_criterion`, cluster by cluster, with e = Z'V^-1 r and c = E'r, r being residuals: rows
are looked at once more, since cross-products of single clusters with residuals are not kept.
"""

import numpy as np

from sklmm.likelihood.linear_criterion import LOG_2PI
from sklmm.passes.tables import CHUNK

CLUSTERS_AT_ONCE = 1024
CHUNKS_AT_ONCE = 8  # of clusters, for threads


def fixed_scores(products, theta, beta, tau, effects, to_influence):
    """The fixed effects' part of the gradient, cluster by cluster: the sum of its products, and a linear map of it.

    Without a factor each row is a cluster.

    Parameters
    ----------
    products : ClusterProducts
    theta, beta : ndarray
        beta: of the estimated fixed effects, in the engine's units.
    tau : float
        log sigma.
    effects : list of ndarray of shape (n_levels, q)
        What `products.effects` says of the residuals: for one factor or none.
    to_influence : ndarray of shape (n, f)

    Returns
    -------
    products : ndarray of shape (f, f)
    influence : ndarray of shape (n_clusters, n), float32, or None without a factor
    """
    if not products.has_clusters:
        return _row_products(products, beta, tau), None
    residual, n = np.append(-beta, 1.0), len(products.A)
    rows = products.row_products(np.arange(products.covariance.q), products.order)
    Lambda, total = products.covariance.lambda_(theta), np.zeros((products.f, products.f))
    influence = np.empty((n, len(to_influence)), dtype=np.float32)
    for first in range(0, n, CHUNK):
        part = slice(first, min(first + CHUNK, n))
        chunk = np.linspace(first, part.stop, CHUNKS_AT_ONCE + 1).astype(np.int64)
        scores = rows.residual_sums(residual, products.start, chunk, products.n_threads)[:, :-1]
        explained = effects[0][products.level_of_cluster[part]] @ Lambda.T
        for a in range(len(Lambda)):
            scores -= products.B[part, a, :-1] * explained[:, a : a + 1]
        scores *= np.exp(-2.0 * tau)
        total += scores.T @ scores
        influence[part] = scores @ to_influence.T
    return total, influence


def _row_products(products, beta, tau):
    rows, units, total = products.observations, products.units, np.zeros((products.f, products.f))
    outcome = rows.y if products.offset is None else rows.y - products.offset
    for first in range(0, products.n_rows, CHUNK):
        part = slice(first, first + CHUNK)
        E = np.ones((len(rows.X[part]), products.n_fixed))
        E[:, : units.p] = (rows.X[part] - units.center[: units.p]) * units.inv_scale[: units.p]
        E = E[:, products.kept]
        r = np.exp(-2.0 * tau) * ((outcome[part] - products.y_center) / products.y_scale - E @ beta)
        squares = r**2 if products.precision is None else (r * products.precision[part]) ** 2
        total += (E * (squares if rows.weights is None else squares * rows.weights[part])[:, None]).T @ E
    return total


def by_cluster(products, theta, beta, tau):
    """Log-likelihoods of single clusters, batch by batch; in (beta, theta, log sigma), as `fixed_scores` has them.

    Yields
    ------
    clusters : slice
    values, gradients, hessians : ndarray of shape (n,), (n, f + m + 1) and (n, f + m + 1, f + m + 1)
    """
    residual = np.append(-beta, 1.0)
    rows = products.row_products(np.arange(products.covariance.q), products.order)
    counts, log_precision = products.counted_rows(), products.log_precisions()
    for first in range(0, len(products.A), CLUSTERS_AT_ONCE):
        part = slice(first, min(first + CLUSTERS_AT_ONCE, len(products.A)))
        C = rows.squares(products.start, part.start, part.stop)
        parts, c = Parts(products, part, theta, residual), C @ residual
        values = parts.value(c, counts[part], tau) + 0.5 * log_precision[part]
        yield part, values, parts.gradient(c, counts[part], tau), parts.hessian(C, tau)


class Parts:
    """Of some clusters: R, b, e = b residual, and derivatives dG of the covariance, as in `linear_crossproducts`."""

    def __init__(self, products, part, theta, residual):
        covariance = products.covariance
        self.f, self.residual, self.row, self.col = products.f, residual, covariance.row, covariance.col
        Lambda = covariance.lambda_(theta)
        self.G, self.A, self.B = Lambda @ Lambda.T, products.A[part], products.B[part]
        q = len(Lambda)
        if q == 1:
            W = 1.0 / (1.0 + self.A * self.G)
            self.R, self.b = W * self.A, W * self.B
        else:
            both = np.concatenate([self.A, self.B], axis=2)
            both = np.linalg.solve(np.eye(q) + self.A @ self.G, both)
            self.R, self.b = both[:, :, :q], both[:, :, q:]
        self.e = self.b @ residual
        self.dG = np.zeros((covariance.m, q, q))
        for entry in range(covariance.m):
            self.dG[entry, self.row[entry]] = Lambda[:, self.col[entry]]
        self.dG += np.swapaxes(self.dG, 1, 2)
        self.same = 2.0 * (self.col[:, None] == self.col)  # d2G = e_row e_row2' + its transpose

    def log_det_derivatives(self):
        """First and second derivatives of log|V| in theta, (n, m) and (n, m, m)."""
        RdG = np.einsum("nab,rbc->nrac", self.R, self.dG)
        second = self.same * self.R[:, self.row[:, None], self.row]
        return np.trace(RdG, axis1=2, axis2=3), second - np.einsum("nrab,nsba->nrs", RdG, RdG)

    def value(self, c, counts, tau):
        """`c`, `counts`: as in `gradient`. Of the scaled outcome, and of rows with precision 1."""
        _, log_det = np.linalg.slogdet(np.eye(len(self.G)) + self.A @ self.G)
        squares = c @ self.residual - np.sum((self.B @ self.residual) * (self.e @ self.G), axis=1)
        return -0.5 * (counts * (LOG_2PI + 2.0 * tau) + log_det + np.exp(-2.0 * tau) * squares)

    def gradient(self, c, counts, tau):
        """`c`: E'r of each cluster; `counts`: its rows."""
        f, scale = self.f, np.exp(-2.0 * tau)
        Ge = self.e @ self.G
        along = c - np.einsum("nak,na->nk", self.B, Ge)  # E'V^-1 r
        theta, _ = self.log_det_derivatives()
        theta -= scale * np.einsum("na,rab,nb->nr", self.e, self.dG, self.e, optimize=True)
        last = scale * (along @ self.residual) - counts
        return np.column_stack([scale * along[:, :f], -0.5 * theta, last])

    def hessian(self, C, tau):
        """`C`: E'E of each cluster."""
        f, m, scale = self.f, len(self.dG), np.exp(-2.0 * tau)
        Q = C - np.swapaxes(self.B, 1, 2) @ (self.G @ self.b)
        along = Q @ self.residual
        de = np.einsum("rab,nb->nra", self.dG, self.e)
        out = np.empty((len(C), f + m + 1, f + m + 1))
        random = slice(f, f + m)
        out[:, :f, :f] = -scale * Q[:, :f, :f]
        out[:, :f, random] = -scale * np.einsum("nra,nak->nkr", de, self.b[:, :, :f])
        out[:, :f, -1] = -2.0 * scale * along[:, :f]
        _, second = self.log_det_derivatives()
        quadratic = 2.0 * np.einsum("nra,nab,nsb->nrs", de, self.R, de, optimize=True)
        quadratic -= self.same * self.e[:, self.row, None] * self.e[:, None, self.row]
        out[:, random, random] = -0.5 * (second + scale * quadratic)
        out[:, random, -1] = -scale * np.einsum("nra,na->nr", de, self.e)
        out[:, -1, -1] = -2.0 * scale * (along @ self.residual)
        for a in range(f + m + 1):
            out[:, a, :a] = out[:, :a, a]
        return out
