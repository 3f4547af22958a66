"""Where posteriors are sampled: coordinates z, the user's parameters and an engine's.

z holds the fixed effects of the engine (those that are estimated), for each random coefficient the square root of its
standard deviation, for each correlated term the partial correlations of its coefficients given the ones before, on
Fisher's z scale, and log sigma of a linear model. Between the logarithm, in which a posterior that is positive at 0 has
a long tail, and the standard deviation itself, which has one on the other side, the square root is the best of the
three for importance sampling; where the prior vanishes at 0, the logarithm serves. Partial correlations are those of
Lewandowski, Kurowicka and Joe (2009), who give the Jacobian.
"""

from dataclasses import dataclass

import numpy as np

from sklmm.inference.priors import ModelPriors, PriorPenalty

NEAR_0 = 1e-3, 1e-6  # of a typical size: standard deviations at which a prior shows whether it vanishes at 0
VANISHES = 0.1  # power of the standard deviation by which it does
LARGEST_Z = 6.0  # partial correlations are kept inside of +-(1 - 1e-5) at the start


@dataclass(frozen=True, eq=False)
class UserParameters:
    """Parameters in the user's units, with a row a draw.

    Attributes
    ----------
    beta : ndarray of shape (n, n_fixed)
        The intercept first; 0 for columns that were left out.
    sds : ndarray of shape (n, q)
        Of the random coefficients of all factors.
    roots : ndarray of shape (n, q, q)
        Cholesky factors of their correlations, block diagonal over terms.
    sigma : ndarray of shape (n,) or None
    """

    beta: np.ndarray
    sds: np.ndarray
    roots: np.ndarray
    sigma: np.ndarray | None

    @property
    def correlations(self):
        return self.roots @ self.roots.transpose(0, 2, 1)

    @property
    def covariances(self):
        factor = self.sds[:, :, None] * self.roots
        return factor @ factor.transpose(0, 2, 1)


class Coordinates:
    """The map from z to parameters.

    Parameters
    ----------
    engine : Engine
    priors : object or None
        With ``log_density(UserParameters)``; it decides between square roots and logarithms. None: square roots.

    Attributes
    ----------
    d : int
    free : ndarray of int
        Fixed effects of the engine that are estimated.
    held : ndarray of int
        The user's fixed effects that are not.
    folded : ndarray of int
        Positions of square roots of standard deviations in z.
    split : int
        The first standard deviation, or what there is in its place.
    """

    def __init__(self, engine, priors=None):
        units = engine.units
        self.linear = hasattr(units, "y_scale")
        self.inner = inner = units.units if self.linear else units
        maps = PriorPenalty(ModelPriors({}), engine)
        self.to_beta, self.shift, self.y_scale = maps.to_beta, maps.shift, maps.scale
        self.n_fixed, self.n_params = inner.n_fixed, engine.n_params
        held = np.zeros(inner.n_fixed, dtype=bool)
        held[: engine.aliased.size] = engine.aliased
        self.free = np.flatnonzero(~held)
        n_effects, first = len(self.to_beta), int(inner.fit_intercept)
        self.held = np.flatnonzero(held[: n_effects - first]) + first
        self.covariance = inner.covariance
        self.q = inner.covariance.q if engine.structure.factors else 0
        self.from_natural = np.linalg.inv(inner.random_map())
        self.pairs = [
            (block.start + row, block.start + col)
            for block, correlated in (inner.covariance.blocks if self.q else ())
            for row in range(block.stop - block.start) for col in range(row if correlated else 0)
        ]  # fmt: skip
        # how many coefficients of the term come after the one that is paired: of the Jacobian
        ends = np.concatenate([np.full(block.stop - block.start, block.stop) for block, _ in inner.covariance.blocks])
        self.after = np.array([ends[col] - col - 2 for _, col in self.pairs])
        k = self.free.size
        self.of_sds, self.of_pairs = slice(k, k + self.q), slice(k + self.q, k + self.q + len(self.pairs))
        self.d = k + self.q + len(self.pairs) + self.linear
        kept = np.setdiff1d(np.arange(n_effects), self.held)
        self.log_volume = float(np.linalg.slogdet(self.to_beta[np.ix_(kept, self.free)])[1]) if k else 0.0
        self.logarithms = np.zeros(self.q, dtype=bool)
        if priors is not None and self.q:
            self.logarithms = self._vanishing(priors)
        self.folded = k + np.flatnonzero(~self.logarithms)
        self.split = k if self.d > k else 0

    def _vanishing(self, priors):
        """Which standard deviations have a prior that is 0 at 0."""
        sizes = self.y_scale * np.diagonal(self.inner.random_map())
        values = []
        for share in NEAR_0:
            sds = np.where(np.eye(self.q, dtype=bool), share * sizes, sizes)
            n = self.q
            at = UserParameters(np.zeros((n, len(self.to_beta))), sds, np.tile(np.eye(n), (n, 1, 1)),
                                np.full(n, self.y_scale) if self.linear else None)  # fmt: skip
            with np.errstate(all="ignore"):
                values.append(priors.log_density(at))
        with np.errstate(invalid="ignore"):
            power = (values[0] - values[1]) / np.log(NEAR_0[0] / NEAR_0[1])
        return ~(power < VANISHES)  # not a number: 0 at both

    # From z --------------------------------------------------------------------------------------------------------

    def user(self, z):
        """`UserParameters` of points of shape (n, d)."""
        z = np.atleast_2d(z)
        sds = np.where(self.logarithms, np.exp(z[:, self.of_sds]), z[:, self.of_sds] ** 2)
        beta = z[:, : self.free.size] @ self.to_beta[:, self.free].T + self.shift
        beta[:, self.held] = 0.0
        sigma = self.y_scale * np.exp(z[:, -1]) if self.linear else None
        return UserParameters(beta, sds, self._roots(np.tanh(z[:, self.of_pairs])), sigma)

    def _roots(self, partial):
        roots = np.zeros((len(partial), self.q, self.q))
        left = np.ones((len(partial), self.q))  # of the squares in each row
        for j, (row, col) in enumerate(self.pairs):
            roots[:, row, col] = partial[:, j] * np.sqrt(left[:, row])
            left[:, row] *= (1.0 - partial[:, j]) * (1.0 + partial[:, j])
        at = np.arange(self.q)
        roots[:, at, at] = np.sqrt(left)
        return roots

    def engine(self, z, user=None):
        """The engine's parameters (n, n_params) at points of shape (n, d)."""
        z = np.atleast_2d(z)
        user = self.user(z) if user is None else user
        x = np.zeros((len(z), self.n_params))
        x[:, self.free] = z[:, : self.free.size]
        if self.linear:
            x[:, -1] = z[:, -1]
        if self.q:
            covariance = self.covariance
            factor = self.from_natural @ (user.sds[:, :, None] * user.roots)
            if self.linear:
                factor = factor / user.sigma[:, None, None]
            for block, correlated in covariance.blocks:
                part = factor[:, block, block]
                if correlated and np.triu(part, 1).any():
                    part = np.linalg.qr(part.transpose(0, 2, 1), mode="r").transpose(0, 2, 1)
                diagonal = np.diagonal(part, axis1=1, axis2=2)
                factor[:, block, block] = part * np.where(diagonal < 0, -1.0, 1.0)[:, None, :]
            x[:, self.n_fixed : self.n_fixed + covariance.m] = factor[:, covariance.row, covariance.col]
        return x

    def log_jacobian(self, z):
        """log |d(beta, standard deviations, correlations, sigma) / dz| of points, (n,)."""
        z = np.atleast_2d(z)
        total = np.full(len(z), self.log_volume)
        of_sds = z[:, self.of_sds]
        with np.errstate(divide="ignore", invalid="ignore"):
            total += np.where(self.logarithms, of_sds, np.log(2.0 * of_sds)).sum(axis=1)
        if self.pairs:  # 1 - tanh(z)^2, to a power
            total += ((1.0 + 0.5 * self.after) * -2.0 * np.log(np.cosh(z[:, self.of_pairs]))).sum(axis=1)
        if self.linear:
            total += z[:, -1] + np.log(self.y_scale)
        return total

    # To z ----------------------------------------------------------------------------------------------------------

    def sds_and_partials(self, sds, correlations):
        """Coordinates of standard deviations (q,) and of a correlation matrix (q, q), of full rank."""
        roots = np.zeros((self.q, self.q))
        for block, _ in self.covariance.blocks if self.q else ():
            roots[block, block] = np.linalg.cholesky(correlations[block, block])
        with np.errstate(divide="ignore"):
            scales = np.where(self.logarithms, np.log(sds), np.sqrt(sds))
        partial, left = np.empty(len(self.pairs)), np.ones(self.q)
        for j, (row, col) in enumerate(self.pairs):
            partial[j] = roots[row, col] / np.sqrt(left[row])
            left[row] *= max(1.0 - partial[j] ** 2, 1e-12)
        largest = np.tanh(LARGEST_Z)
        return np.concatenate([scales, np.arctanh(np.clip(partial, -largest, largest))])

    def start(self, x):
        """A point near the engine's parameters x, with standard deviations away from 0."""
        rest = []
        if self.q:
            sigma = self.y_scale * np.exp(x[-1]) if self.linear else 1.0
            theta = x[self.n_fixed : self.n_fixed + self.covariance.m]
            T = self.inner.random_map()
            factor = sigma * (T @ self.covariance.lambda_(theta))
            D = factor @ factor.T + 0.01 * sigma**2 * np.diag(np.diagonal(T) ** 2)
            sds = np.sqrt(np.diagonal(D))
            rest = self.sds_and_partials(sds, D / sds[:, None] / sds)
        return np.concatenate([x[self.free], rest, x[-1:] if self.linear else []])
