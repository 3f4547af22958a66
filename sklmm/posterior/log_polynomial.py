"""A density as the exponential of a polynomial, fitted to its logarithm at weighted points.

A posterior's logarithm is known at all points it was sampled at, without error. A normal distribution with their
moments is not one of few groups'; second and third powers of all coordinates, and fourth ones with those that bend most
(standard deviations, correlations), have it to a few hundredths where there is mass.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.linalg import solve_triangular

from sklmm.posterior.importance import moments

# Standard deviations beyond which what is not quadratic goes on as it is there. Of contraception in two halves the
# largest error of a mean over 10 splits was 0.07 posterior sds with 4, 0.05 with 5.
FARTHEST = 5.0
POINTS_A_TERM = 5


@dataclass(frozen=True, eq=False)
class LogPolynomial:
    """log density of points, as a polynomial in v, the whitened points.

    Attributes
    ----------
    order : ndarray of int
        Coordinates in the order of v, those that bend most first.
    mean : ndarray of shape (d,)
    root : ndarray of shape (d, d)
        Triangular: points[:, order] = mean[order] + v @ root.T
    terms : list of tuple of int
        Of each term, the factors v_j; those of up to two come first.
    weights : ndarray
    error : float
        Root mean squared error, over the density.
    """

    order: np.ndarray
    mean: np.ndarray
    root: np.ndarray
    terms: list
    weights: np.ndarray
    error: float

    @classmethod
    def fitted(cls, points, values, weights, bent):
        """By least squares.

        Parameters
        ----------
        points : ndarray of shape (n, d)
        values : ndarray of shape (n,)
            What the polynomial is to be.
        weights : ndarray of shape (n,)
            Of the points; they sum to 1.
        bent : ndarray of int
            Coordinates along which it departs most from a normal density.

        Returns
        -------
        LogPolynomial or None
            None where the polynomial has no maximum.
        """
        d = points.shape[1]
        order = np.append(bent, np.setdiff1d(np.arange(d), bent)).astype(int)
        mean, covariance = moments(points, weights)
        root = np.linalg.cholesky(covariance[np.ix_(order, order)])
        terms = [term for k in (0, 1, 2) for term in combinations_with_replacement(range(d), k)]
        most = len(points) // POINTS_A_TERM
        cubic = list(combinations_with_replacement(range(d), 3))
        if len(terms) + len(cubic) > most:  # the first factor is the lowest: one that bends
            cubic = [term for term in cubic if term[0] < len(bent)]
        quartic = [(j, j, k, m) for j in range(len(bent)) for k in range(j, d) for m in range(k, d)]
        for more in (cubic, quartic):
            terms += more if len(terms) + len(more) <= most else []
        found = cls(order, mean, root, terms, np.zeros(len(terms)), 0.0)
        used = np.flatnonzero(weights > 0.0)
        share = np.sqrt(weights[used])
        X = found._features(found._whitened(points[used]))
        w = np.linalg.lstsq(share[:, None] * X, share * values[used], rcond=1e-10)[0]
        curvature = np.zeros((d, d))
        for (a, b), weight in zip(terms[1 + d : 1 + d + d * (d + 1) // 2], w[1 + d :], strict=False):
            curvature[a, b] -= weight
            curvature[b, a] -= weight
        if np.linalg.eigvalsh(curvature)[0] <= 0.0:
            return None
        error = float(np.sqrt(weights[used] @ (X @ w - values[used]) ** 2))
        return cls(order, mean, root, terms, w, error)

    def _whitened(self, points):
        return solve_triangular(self.root, (points - self.mean)[:, self.order].T, lower=True).T

    def _features(self, v):
        size = np.sqrt(np.einsum("nd,nd->n", v, v))
        near = v * np.minimum(1.0, FARTHEST / np.maximum(size, 1e-300))[:, None]
        columns = [np.prod((v if len(term) < 3 else near)[:, list(term)], axis=1) for term in self.terms]
        return np.column_stack(columns)

    def __call__(self, points):
        """The polynomial at points (n, d): (n,); -inf where a coordinate is infinite."""
        finite = np.isfinite(points).all(axis=1)
        out = np.full(len(points), -np.inf)
        out[finite] = self._features(self._whitened(points[finite])) @ self.weights
        return out
