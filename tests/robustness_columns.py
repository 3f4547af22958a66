"""Fixed effects of a design in well conditioned coordinates; separation; plain logistic regression."""

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import linprog
from scipy.special import expit, log_expit


class MoreColumnsThanRows(ValueError):
    """So many coefficients cannot be identified."""


class FixedColumns:
    """Columns as users have them, and orthogonal ones: natural coefficients are ``to_natural`` times gamma.

    Attributes
    ----------
    F : ndarray of shape (n, k)
        Orthogonal, of length sqrt(n), the intercept first.
    to_natural : ndarray of shape (k, k)
        For the intercept (if any) and the slopes of the columns in ``kept``.
    """

    def __init__(self, X, kept, fit_intercept):
        X = X.astype(np.longdouble)[:, kept]
        n = len(X)
        self.kept, self.fit_intercept = kept, fit_intercept
        mean = X.mean(axis=0) if fit_intercept else np.zeros(X.shape[1], dtype=np.longdouble)
        Z = X - mean
        scale = np.sqrt((Z**2).mean(axis=0))
        scale[scale == 0] = 1
        Z = (Z / scale).astype(float)
        A = np.column_stack([np.ones(n), Z]) if fit_intercept else Z
        if A.shape[1] > n:
            raise MoreColumnsThanRows(f"{A.shape[1]} coefficients of {n} rows count as identified")
        Q, R = np.linalg.qr(A)
        self.F, R = Q * np.sqrt(n), R / np.sqrt(n)
        self.R = R
        inverse = solve_triangular(R, np.eye(len(R)))
        J = np.diag(1 / scale.astype(float))
        if fit_intercept:
            J = np.block([[np.ones((1, 1)), -(mean / scale).astype(float)[None]], [np.zeros((len(J), 1)), J]])
        self.to_natural = J @ inverse
        self.X = X

    def gamma(self, intercept, slopes):
        eta = (self.X @ slopes[self.kept].astype(np.longdouble) + np.longdouble(intercept)).astype(float)
        return self.F.T @ eta / len(eta)

    def shares(self):
        """Of each column's length, what the columns before it lack."""
        return np.abs(np.diag(self.R)) / np.sqrt((self.R**2).sum(axis=0))


def separated(F, sign):
    """Whether some direction raises no row's fit for the worse and some row's for the better: beta has no maximum."""
    if not F.shape[1]:  # no columns, no direction
        return False
    A = sign[:, None] * F
    distinct = np.unique(A, axis=0)
    k = F.shape[1]
    found = linprog(-distinct.sum(axis=0) / len(distinct), A_ub=-distinct, b_ub=np.zeros(len(distinct)),
                    bounds=[(-1, 1)] * k, method="highs")  # fmt: skip
    if found.x is None:
        return False
    gain = A @ found.x
    return bool(gain.max() > 1e-5 and gain.min() > -1e-7)


def logistic_regression(F, y, w, start=None):
    """Newton's method with halving; gamma and log-likelihood. Stops where nothing is gained."""
    sign = 2.0 * y - 1
    gamma = np.zeros(F.shape[1]) if start is None else start
    value = w @ log_expit(sign * (F @ gamma))
    for _ in range(100):
        p = expit(sign * (F @ gamma))
        g = F.T @ (w * sign * (1 - p))
        H = (F.T * (w * p * (1 - p))) @ F
        H += 1e-13 * np.trace(H) / len(H) * np.eye(len(H)) + 1e-300 * np.eye(len(H))
        step = np.linalg.lstsq(H, g)[0]
        a = 1.0
        while a > 1e-10:
            new = w @ log_expit(sign * (F @ (gamma + a * step)))
            if new >= value:
                break
            a /= 2
        else:
            break
        gamma, value = gamma + a * step, new
        if g @ step < 1e-14:
            break
    return gamma, value
