"""Linear models of one grouping factor or none: the cross-products of each cluster, and what they say at a Lambda.

With V = I + Z Lambda Lambda' Z' in units of sigma^2 (rows divided by the root of their variance) the likelihood needs
log|V| and Q = E'V^-1 E, both sums over clusters of functions of A = Z'Z, B = Z'E (Bates, Maechler, Bolker and Walker,
2015, section 3.4; Harville, 1977). With G = Lambda Lambda', R = Z'V^-1 Z = (I + AG)^-1 A and
b = Z'V^-1 E = (I + AG)^-1 B derivatives along dG are

    d log|V| = tr(R dG)                 d2 log|V| = -tr(R dG1 R dG2) + tr(R d2G)
    dQ = -b'dG b                        d2Q = b'(dG1 R dG2 + dG2 R dG1) b - b'd2G b
"""

from dataclasses import dataclass

import numpy as np

from sklmm._kernels._grouping import group_rows
from sklmm._kernels._linear import derivative_sums, explained, weighted_sums
from sklmm.likelihood.linear_rows import LinearRows
from sklmm.likelihood.linear_start import small_inverses, start
from sklmm.passes.tables import CHUNK, in_order, multiply_in_place


@dataclass
class Derivatives:
    """Derivatives in theta of log|V|, of Q and of the log determinant of its fixed effects' part.

    Attributes
    ----------
    log_det, log_det2 : ndarray of shape (m,) and (m, m)
    Q : ndarray of shape (m, k)
        dQ r, r being the residual combination (-beta, 1) of E.
    quadratic2 : ndarray of shape (m, m)
        r'd2Q r.
    products : ndarray of shape (m, f, f), or None
        dQ of the fixed effects.
    penalty, penalty2 : ndarray of shape (m,) and (m, m); None without products
        Derivatives of log|Q of the fixed effects|.
    exact : bool
        Whether the second derivatives of the log determinants are those, or what they are on average.
    """

    log_det: np.ndarray
    log_det2: np.ndarray
    Q: np.ndarray
    quadratic2: np.ndarray
    products: np.ndarray | None = None
    penalty: np.ndarray | None = None
    penalty2: np.ndarray | None = None
    exact: bool = True


class ClusterProducts(LinearRows):
    """Cross-products of the rows of one factor's levels; without a factor of all rows. See `LinearRows`.

    Attributes
    ----------
    C : ndarray of shape (k, k)
        E'E.
    A, B : ndarray of shape (n_clusters, q, q) and (n_clusters, q, k)
    level_of_cluster : ndarray of shape (n_clusters,)
    """

    exact, factorised = True, None

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        factors, n = self.structure.factors, self.n_rows
        self.has_clusters = bool(factors)
        if factors:
            codes = np.ascontiguousarray(self.observations.codes[0], dtype=np.intp)
            self.n_levels = [factors[0].n_levels]
            self.order, self.start, self.level_of_cluster = group_rows(codes, self.n_levels[0])
        else:
            self.n_levels, self.order, self.level_of_cluster = [], None, np.zeros(1, dtype=np.intp)
            self.start = np.linspace(0, n, min(n, 32) + 1).astype(np.int64)
        self.C, self.A, self.B = self._products()
        q, m = self.covariance.q, self.covariance.m
        if not factors:  # a cluster without rows: all sums are 0
            self.A, self.B = np.zeros((1, q, q)), np.zeros((1, q, self.k))
        sizes = np.arange(len(self.A) + 1)
        self._chunk = self.chunks(sizes, 3 * q**4 + q * q * self.k + (m + 1) * self.f * (self.f + 8))

    def _products(self):
        q = len(self.structure.factors[0].columns) if self.structure.factors else 0
        chunk = self.chunks(self.start, (self.n_fixed + q + 8) ** 2)
        return self.row_products(np.arange(q), self.order).by_cluster(self.start, chunk, self.n_threads)

    def first_theta(self):
        """A theta to begin with."""
        return start([(self.A, self.B)], self)

    def random_squares(self):
        """Z'Z of all rows, of each factor."""
        return [self.A.sum(axis=0)] if self.has_clusters else []

    def evaluate(self, theta):
        """log|V| and Q."""
        if not theta.any():
            return 0.0, self.C
        Lambda = self.covariance.lambda_(theta)
        log_det, total = explained(self.A, self.B, Lambda, self._chunk, self.n_threads)
        return log_det, self.C - total

    def derivatives(self, theta, residual, root=None):
        """Derivatives where `evaluate` was.

        Parameters
        ----------
        theta : ndarray of shape (m,)
        residual : ndarray of shape (k,)
            The combination of E that residuals are.
        root : ndarray of shape (f, f) or None
            root root' is the inverse of the fixed effects' part of Q; None: nothing is asked of it.
        """
        covariance = self.covariance
        row, col = covariance.row, covariance.col
        Lambda = covariance.lambda_(theta)
        G = Lambda @ Lambda.T
        R, ee, cc, RR, Re, Rc, eb, products = self._sums(G, residual, root)
        dG = np.zeros((covariance.m, covariance.q, covariance.q))
        for entry in range(covariance.m):
            dG[entry, row[entry]] = Lambda[:, col[entry]]
        dG += np.swapaxes(dG, 1, 2)
        same = 2.0 * (col[:, None] == col)  # d2G = e_row e_row2' + its transpose
        directions = dG.reshape(covariance.m, -1)

        def sums(X, *axes):
            """X, of four axes, times dG1 at the first two of `axes` and dG2 at the others."""
            return directions @ X.transpose(axes).reshape(2 * directions.shape[1:]) @ directions.T

        def second(X):
            return same * X[row[:, None], row]

        found = Derivatives(
            log_det=directions @ R.ravel(),
            log_det2=second(R) - sums(RR, 1, 2, 3, 0),
            Q=-directions @ eb.reshape(-1, self.k),
            quadratic2=2.0 * sums(Re, 2, 0, 1, 3) - second(ee),
        )
        if root is not None:
            found.products = -np.tensordot(dG[:, row, col], products, axes=1)
            turned = root.T @ found.products @ root
            found.penalty = np.trace(turned, axis1=1, axis2=2)
            found.penalty2 = 2.0 * sums(Rc, 2, 0, 1, 3) - second(cc) - np.einsum("lxy,kyx->lk", turned, turned)
        return found

    def _sums(self, G, residual, root):
        """See `derivative_sums`; of a single coefficient from two sums that know neither residuals nor root."""
        if len(G) > 1:
            entries = self.covariance.row, self.covariance.col
            return derivative_sums(self.A, self.B, G, residual, root, *entries, self._chunk, self.n_threads)
        R, RR, bb, bRb = weighted_sums(self.A, self.B, G[0, 0], self._chunk, self.n_threads)
        f, inverse = self.f, np.zeros((self.f, self.f)) if root is None else root @ root.T
        small = [R, residual @ bb @ residual, np.sum(inverse * bb[:f, :f])]
        large = [RR, residual @ bRb @ residual, np.sum(inverse * bRb[:f, :f])]
        return (
            *(np.full((1, 1), value) for value in small), *(np.full((1, 1, 1, 1), value) for value in large),
            (bb @ residual)[None, None], bb[None, :f, :f],
        )  # fmt: skip

    def by_level(self, values):
        """Values of clusters in the order of the levels; 0 for levels without rows."""
        return in_order(values, self.level_of_cluster, self.n_levels[0])

    def counted_rows(self):
        """Rows of each cluster, as often as they count."""
        weights = self.observations.weights
        return np.diff(self.start).astype(np.float64) if weights is None else self._cluster_sums(np.ones(self.n_rows))

    def log_precisions(self):
        """Sum of the logarithms of the precisions of the rows of each cluster."""
        return np.zeros(len(self.A)) if self.precision is None else self._cluster_sums(np.log(self.precision))

    def _cluster_sums(self, values):
        weights = self.observations.weights
        values = values if weights is None else values * weights
        values = values if self.order is None else values[self.order]
        filled = np.diff(self.start) > 0
        out = np.zeros(len(self.A))
        out[filled] = np.add.reduceat(values, self.start[:-1][filled])
        return out

    def effects(self, theta, combinations, priors=None, last=False):
        """H^-1 Lambda'Z'E times columns of combinations, and the blocks of H^-1, H = I + Lambda'Z'Z Lambda.

        Parameters
        ----------
        theta : ndarray of shape (m,)
        combinations : ndarray of shape (k, c)
        priors : list of (ndarray of shape (n_levels, q, c), ndarray of shape (n_levels, q, q)), or None
            Means, for each combination, and precisions of each factor's effects in the place of 0 and I.
        last : bool
            Whether B is of no use any more: its memory is that of the effects, then, if they are as many.

        Returns
        -------
        effects : list of ndarray of shape (n_levels, q, c)
        blocks : list of ndarray of shape (n_levels, q, q)
            An entry a factor; 0 and I for levels without rows.
        joint : None
            Of several factors.
        """
        if not self.has_clusters:
            return [], [], None
        Lambda, q, n = self.covariance.lambda_(theta), self.covariance.q, len(self.A)
        n_levels = self.n_levels[0]
        if last and combinations.shape[1] == self.k:
            u, self.B = multiply_in_place(self.B.reshape(n * q, self.k), combinations).reshape(n, q, self.k), None
        else:
            u = (self.B.reshape(n * q, self.k) @ combinations).reshape(n, q, -1)
        if priors is not None:
            ((means, precisions),) = priors
            A, Z = (in_order(part, self.level_of_cluster, n_levels) for part in (self.A, u))
            blocks = small_inverses(precisions + Lambda.T @ A @ Lambda)
            return [blocks @ (Lambda.T @ Z + precisions @ means)], [blocks], None
        if q == 1:
            blocks = 1.0 / (1.0 + Lambda**2 * self.A)
            u *= Lambda * blocks
        else:
            blocks = small_inverses(np.eye(q) + Lambda.T @ self.A @ Lambda)
            for first in range(0, n, CHUNK):
                part = slice(first, first + CHUNK)
                u[part] = (blocks[part] @ Lambda.T) @ u[part]
        return (
            [in_order(u, self.level_of_cluster, n_levels)],
            [in_order(blocks, self.level_of_cluster, n_levels, default=np.eye(q))],
            None,
        )

