"""log|X'W X| / 2 of independent rows, W their expected information: Jeffreys' prior, with two derivatives."""

import numpy as np
from scipy.linalg import solve_triangular

# What is left of a column of W^(1/2) X beside those before it, of its length. Less is rounding error: so far out steps
# are refused, in place of being judged by it. Estimates are nearer: of a row that is separated from a million others
# 1e-5 is left, of classes that nearly touch less.
LEAST = 1e-12
_CHUNK, _PRODUCTS = 1 << 12, 150_000  # most rows, and products of two columns in them, that are taken at once


class LogDeterminant:
    """A function of the coefficients of standardised columns, those of some columns only and of the intercept.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    center, inv_scale : ndarray
        Of its columns, the first p.
    active : ndarray of shape (p,) or (p + 1,), bool
        The columns that count; the last entry, where there is one more, is the intercept.
    family : Bernoulli
    weights, offset : ndarray of shape (n,) or None
        The offset is centred.
    """

    def __init__(self, X, center, inv_scale, active, family, weights=None, offset=None):
        self.X, self.family, self.weights, self.offset = X, family, weights, offset
        self.columns, self.n = np.flatnonzero(active[: X.shape[1]]), int(np.count_nonzero(active))
        self.center, self.inv_scale = center[self.columns], inv_scale[self.columns]

    def __call__(self, beta):
        """Value, gradient and Hessian.

        Raises
        ------
        FloatingPointError
            So far out that no numbers are left.
        """
        p = self.n
        R, total = np.zeros((0, p)), np.zeros(p)
        for E, (w, _, _) in self._chunks(beta):  # triangular: X'W X would lose half of the digits
            rows = E * np.sqrt(w)[:, None]
            total += np.einsum("ij,ij->j", rows, rows)
            R = np.linalg.qr(np.vstack([R, rows]), mode="r")
        pivots = np.abs(R.diagonal())
        if len(R) < p or not np.isfinite(R).all() or (pivots <= LEAST * np.sqrt(total)).any():
            raise FloatingPointError("some combination of columns has next to no information")
        to = solve_triangular(R, np.eye(p))  # to to' is the inverse of X'W X
        row, col = np.triu_indices(p)
        gradient, hessian, turns = np.zeros(p), np.zeros((p, p)), np.zeros((row.size, p))
        for E, (_, first, second) in self._chunks(beta):
            Q = E @ to
            leverage = np.einsum("ij,ij->i", Q, Q)
            gradient += E.T @ (first * leverage)
            hessian += (E * (second * leverage)[:, None]).T @ E
            Q = np.ascontiguousarray(Q.T)
            turns += (Q[row] * Q[col]) @ (E * first[:, None])
        hessian -= (turns.T * np.where(row == col, 1.0, 2.0)) @ turns
        return np.log(pivots).sum(), 0.5 * gradient, 0.5 * hessian

    def _chunks(self, beta):
        """Rows of the standardised columns, and their information with its derivatives."""
        n_rows = int(np.clip(2 * _PRODUCTS // max(self.n * (self.n + 1), 1), 64, _CHUNK))
        for start in range(0, len(self.X), n_rows):
            part = slice(start, start + n_rows)
            E = np.ones((len(self.X[part]), self.n))
            E[:, : self.columns.size] = (self.X[part, self.columns] - self.center) * self.inv_scale
            eta = E @ beta
            if self.offset is not None:
                eta = eta + self.offset[part]
            found = self.family.information(eta)
            yield E, found if self.weights is None else [each * self.weights[part] for each in found]
