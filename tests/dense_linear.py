"""A linear mixed model by its definition: the normal density of all rows with their covariance matrix written out."""

import numpy as np
from scipy import linalg


def random_design(X, codes, n_levels, columns):
    """Z of one factor, dense: the coefficients of a level side by side."""
    Z = np.zeros((len(X), n_levels, len(columns)))
    for a, column in enumerate(columns):
        Z[np.arange(len(X)), codes, a] = 1.0 if column < 0 else X[:, column]
    return Z.reshape(len(X), -1)


class DenseLinear:
    """y = X beta + sum Z b + e, Cov(b) = sigma^2 Lambda Lambda' for each level, Var(e) = sigma^2 / precision.

    Everything is in the user's units. `weights` write rows out so many times.
    """

    def __init__(self, X, y, designs=(), precision=None, weights=None, intercept=True):
        counts = np.ones(len(X), dtype=int) if weights is None else np.asarray(weights, dtype=int)
        rows = np.repeat(np.arange(len(X)), counts)
        self.X = np.column_stack([np.ones(rows.size), X[rows]]) if intercept else X[rows]
        self.y, self.designs = y[rows], [Z[rows] for Z in designs]
        self.noise = np.ones(rows.size) if precision is None else 1.0 / precision[rows]

    def covariance(self, lambdas):
        """V in units of sigma^2, from the relative covariance factor of each design."""
        V = np.diag(self.noise)
        for Z, L in zip(self.designs, lambdas, strict=True):
            ZL = Z @ linalg.block_diag(*[L] * (Z.shape[1] // len(L)))
            V = V + ZL @ ZL.T
        return V

    def log_likelihood(self, beta, lambdas, sigma, reml=False):
        """Of the data, or REML's."""
        V = sigma**2 * self.covariance(lambdas)
        r, (_, log_det) = self.y - self.X @ beta, np.linalg.slogdet(V)
        value = -0.5 * (len(r) * np.log(2 * np.pi) + log_det + r @ np.linalg.solve(V, r))
        if reml:
            p = self.X.shape[1]
            _, log_fixed = np.linalg.slogdet(self.X.T @ np.linalg.solve(V, self.X))
            value += 0.5 * (p * np.log(2 * np.pi) - log_fixed)
        return value

    def estimates(self, lambdas, reml=False):
        """beta, sigma and the covariance of beta, given the relative covariance factors."""
        V = self.covariance(lambdas)
        inverse = np.linalg.inv(self.X.T @ np.linalg.solve(V, self.X))
        beta = inverse @ (self.X.T @ np.linalg.solve(V, self.y))
        r = self.y - self.X @ beta
        sigma = np.sqrt(r @ np.linalg.solve(V, r) / (len(r) - reml * len(beta)))
        return beta, sigma, sigma**2 * inverse

    def modes(self, lambdas, beta):
        """Conditional means of the random coefficients of each design, and their covariance, beta being known."""
        V, r = self.covariance(lambdas), self.y - self.X @ beta
        Z = np.hstack(self.designs)
        parts = [(L, Z.shape[1] // len(L)) for Z, L in zip(self.designs, lambdas, strict=True)]
        G = linalg.block_diag(*[L @ L.T for L, n in parts for _ in range(n)])
        return G @ Z.T @ np.linalg.solve(V, r), G - G @ Z.T @ np.linalg.solve(V, Z @ G)
