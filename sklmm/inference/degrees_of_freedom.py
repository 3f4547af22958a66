"""Degrees of freedom of t and F tests in linear mixed models, from what a fit keeps: nothing here needs the rows.

A method has `covariance`, that of the coefficients which its tests use; ``each(contrasts)``, degrees of freedom of
each contrast (a row); and ``joint(contrasts)``, those of the denominator of the F test of all at once, and the number
that the statistic is multiplied by. Infinite ones are those of the normal and the chi-squared distribution.

References
----------
Fai AHT, Cornelius PL (1996). Approximate F-tests of multiple degree of freedom hypotheses in generalized least squares
analyses of unbalanced split-plot experiments. Journal of Statistical Computation and Simulation 54.
Kenward MG, Roger JH (1997). Small sample inference for fixed effects from restricted maximum likelihood. Biometrics 53.
"""

from dataclasses import dataclass

import numpy as np

ALIKE = 1e-8  # degrees of freedom that differ by less are the same


@dataclass(frozen=True)
class FixedDegrees:
    """The same degrees of freedom for every test: residual ones, or infinite.

    Attributes
    ----------
    covariance : ndarray of shape (n, n)
    df : float
    """

    covariance: np.ndarray
    df: float

    def each(self, contrasts):
        return np.full(len(np.atleast_2d(contrasts)), float(self.df))

    def joint(self, contrasts):
        return float(self.df), 1.0


@dataclass(frozen=True)
class Satterthwaite:
    """Degrees of freedom that a contrast's variance has as an estimate: 2 variance^2 / (variance of the estimate).

    Attributes
    ----------
    covariance : ndarray of shape (n, n)
        Of the coefficients; NaN for aliased columns, whose contrasts have no degrees of freedom (NaN).
    gradient : ndarray of shape (m, n, n)
        Its derivatives in the variance parameters.
    variance_vcov : ndarray of shape (m, m)
        Covariance of these.
    """

    covariance: np.ndarray
    gradient: np.ndarray
    variance_vcov: np.ndarray

    def each(self, contrasts):
        L = np.atleast_2d(np.asarray(contrasts, dtype=float))
        aliased = np.isnan(self.covariance.diagonal())
        lost, involved = (L[:, aliased] != 0).any(axis=1), (L != 0).any(axis=0) & ~aliased
        L = L[:, involved]
        covariance, gradient = self.covariance[np.ix_(involved, involved)], self.gradient[:, involved][:, :, involved]
        variance = np.einsum("ia,ab,ib->i", L, covariance, L)
        slope = np.einsum("ia,rab,ib->ir", L, gradient, L)
        spread = np.einsum("ir,rs,is->i", slope, self.variance_vcov, slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(lost, np.nan, 2.0 * variance**2 / spread)

    def joint(self, contrasts):
        """The F statistic is a mean of squared t's of independent contrasts; its mean is that of an F (Fai and
        Cornelius 1996)."""
        L = np.atleast_2d(np.asarray(contrasts, dtype=float))
        if len(L) == 1:
            return float(self.each(L)[0]), 1.0
        used = (L != 0).any(axis=0)
        spread = L[:, used] @ self.covariance[np.ix_(used, used)] @ L[:, used].T
        scale = 1.0 / np.sqrt(spread.diagonal())  # columns may differ in scale by orders of magnitude
        _, vectors = np.linalg.eigh(spread * scale[:, None] * scale)
        nu = self.each((vectors.T * scale) @ L)
        if np.isfinite(nu).all() and np.ptp(nu) < ALIKE:
            return float(nu.mean()), 1.0
        if not (nu > 2.0).all():
            return 2.0, 1.0
        excess = np.sum(2.0 / (nu - 2.0))  # sum of nu / (nu - 2), less their number
        return float(2.0 * (excess + len(nu)) / excess) if excess > 0 else np.inf, 1.0


@dataclass(frozen=True)
class KenwardRoger:
    """Degrees of freedom and a scale for F, with a covariance that allows for the variances being estimates.

    Attributes
    ----------
    covariance : ndarray of shape (n, n)
        Adjusted.
    plain : ndarray of shape (n, n)
        As it is without the adjustment.
    gradient : ndarray of shape (m, n, n)
        Derivatives of `plain` in variances and covariances, in which the rows' covariance is linear.
    variance_vcov : ndarray of shape (m, m)
        Covariance of these, from their expected information.
    """

    covariance: np.ndarray
    plain: np.ndarray
    gradient: np.ndarray
    variance_vcov: np.ndarray

    def each(self, contrasts):
        return np.array([self.joint(row)[0] for row in np.atleast_2d(contrasts)])

    def joint(self, contrasts):
        """Kenward and Roger (1997), section 3, with the moments of F matched where it is exact."""
        L = np.atleast_2d(np.asarray(contrasts, dtype=float))
        used = (L != 0).any(axis=0)
        L, q = L[:, used], len(L)
        spread = L @ self.plain[np.ix_(used, used)] @ L.T
        changes = [np.linalg.solve(spread, L @ each[np.ix_(used, used)] @ L.T) for each in self.gradient]
        traces, W = np.array([np.trace(each) for each in changes]), self.variance_vcov
        A1 = traces @ W @ traces
        A2 = sum(W[r, s] * np.sum(one * other.T) for r, one in enumerate(changes) for s, other in enumerate(changes))
        if not A2 > 0.0:  # NaN for aliased columns
            return np.nan if np.isnan(A2) else np.inf, 1.0
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        c1, c2, c3 = np.array([g, q - g, q + 2 - g]) / (3.0 * q + 2.0 * (1.0 - g))
        mean, first, second, third = 1.0 - A2 / q, 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
        first = 0.0 if abs(first) < 1e-10 else first
        ratio = 1.0 if abs(mean) < 1e-14 and abs(second) < 1e-14 else mean / second
        rho = ratio**2 * first / (q * third)
        df = 4.0 + (q + 2) / (q * rho - 1.0)
        return float(df), 1.0 if abs(df - 2.0) < 1e-2 else float(df * mean / (df - 2.0))


def degrees_of_fit(fit, adjusts):
    """The methods of degrees of freedom that a `LinearFit` has, by name.

    Where Kenward and Roger's was asked for (`adjusts`), but there is no residual variance that could be in error,
    Satterthwaite's is in its place.
    """
    found = {
        "satterthwaite": Satterthwaite(fit.vcov, fit.vcov_gradient, fit.variance_vcov),
        "residual": FixedDegrees(fit.vcov, fit.n_counted - fit.rank),
        None: FixedDegrees(fit.vcov, np.inf),
    }
    if adjusts:
        exact = fit.kenward_roger is None
        found["kenward-roger"] = found["satterthwaite"] if exact else KenwardRoger(*fit.kenward_roger)
    return found
