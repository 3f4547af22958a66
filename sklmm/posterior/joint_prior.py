"""The posterior of one data set as the prior of the next: its logarithm in the coordinates of sampling."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from sklmm.posterior.importance import FAR_FROM_0, MOST_FOLDED, moments
from sklmm.posterior.log_polynomial import LogPolynomial

LOG_2PI = np.log(2.0 * np.pi)


@dataclass(frozen=True, eq=False)
class JointPrior:
    """A joint prior of all parameters of a model, what `Posterior.as_priors` gives.

    Its coordinates are the coefficients, the square roots (or logarithms) of standard deviations, correlations on
    Fisher's z scale (of three and more coefficients their partial correlations), and the logarithm of a residual
    standard deviation. In these the posterior is about normal, and its logarithm a polynomial that is little more than
    quadratic. It goes into ``model.posterior(..., priors=)`` of a model with the same coefficients and random effects.

    Attributes
    ----------
    names : list of str
        Of the parameters.
    mean : ndarray of shape (d,)
    covariance : ndarray of shape (d, d)
    kept : ndarray of int
        Which fixed effects are among them.
    pairs : list of (int, int)
        Of random coefficients whose partial correlations are.
    after : ndarray of shape (len(pairs),)
        Powers of their Jacobian, see `Coordinates`.
    logarithms : ndarray of shape (q,), bool
        Which standard deviations are on the log scale.
    shape : LogPolynomial or None
        The log density of coefficients, standard deviations and what there is besides in its coordinates; None where
        the posterior is far from any such, and a normal density with its moments has to do.
    labels : dict of str -> Index
        The groups that it comes from: data of the same ones would count twice.
    """

    names: list
    mean: np.ndarray
    covariance: np.ndarray
    kept: np.ndarray
    pairs: list
    after: np.ndarray
    logarithms: np.ndarray
    labels: dict
    shape: LogPolynomial | None

    improper, flat, chosen = False, (), "the posterior of other data"

    @classmethod
    def of(cls, names, coordinates, points, labels):
        """Of `WeightedPoints` in a model's `Coordinates`."""
        user, weights, z = coordinates.user(points.points), points.weights, points.points
        kept = np.setdiff1d(np.arange(user.beta.shape[1]), coordinates.held)
        empty = cls(names, np.empty(0), np.empty((0, 0)), kept, coordinates.pairs, coordinates.after,
                    coordinates.logarithms, labels, None)  # fmt: skip
        values = empty.values(user)
        mean, covariance = moments(values, weights)
        # as a density of standard deviations where their roots are coordinates: it is smooth at 0
        roots = z[:, coordinates.folded]
        with np.errstate(divide="ignore", invalid="ignore"):
            target = points.log_density - points.log_evidence - np.log(2.0 * roots).sum(axis=1)
        target = np.where(np.isfinite(target), target, 0.0) - coordinates.log_volume
        shape = LogPolynomial.fitted(values, target, weights, np.arange(kept.size, values.shape[1]))
        return replace(empty, mean=mean, covariance=covariance, shape=shape)

    def values(self, user):
        """Coordinates of `UserParameters`, (n, d)."""
        with np.errstate(divide="ignore"):
            scales = np.where(self.logarithms, np.log(user.sds), np.sqrt(user.sds))
        parts = [user.beta[:, self.kept], scales, np.arctanh(self._partial(user.roots))]
        if user.sigma is not None:
            parts.append(np.log(user.sigma)[:, None])
        return np.hstack(parts)

    def _partial(self, roots):
        partial, left = np.empty((len(roots), len(self.pairs))), np.ones(roots.shape[:2])
        for j, (row, col) in enumerate(self.pairs):
            partial[:, j] = np.clip(roots[:, row, col] / np.sqrt(left[:, row]), -1.0 + 1e-15, 1.0 - 1e-15)
            left[:, row] *= (1.0 - partial[:, j]) * (1.0 + partial[:, j])
        return partial

    def log_density(self, user):
        """Of (beta, standard deviations, correlations, sigma), for `UserParameters` of n draws: (n,)."""
        z, k = self.values(user), self.kept.size
        of_sds = z[:, k : k + self.logarithms.size]
        jacobian = np.where(self.logarithms, of_sds, 0.0).sum(axis=1)
        if self.shape is None:
            with np.errstate(divide="ignore"):
                total = self.normal(z) - np.where(self.logarithms, 0.0, np.log(2.0 * np.abs(of_sds))).sum(axis=1)
        else:
            total = self.shape(z)
        total = total - jacobian
        if self.pairs:
            of_pairs = z[:, k + self.logarithms.size :][:, : len(self.pairs)]
            total += ((1.0 + 0.5 * self.after) * 2.0 * np.log(np.cosh(of_pairs))).sum(axis=1)
        return total if user.sigma is None else total - np.log(user.sigma)

    def normal(self, z):
        """Log density of the normal with its moments, folded in square roots that may be near 0: (n,)."""
        root = np.linalg.cholesky(self.covariance)
        constant = -0.5 * len(self.mean) * LOG_2PI - np.log(root.diagonal()).sum()
        roots = self.kept.size + np.flatnonzero(~self.logarithms)
        distance = self.mean[roots] / np.sqrt(np.diagonal(self.covariance)[roots])
        near = roots[np.argsort(distance, kind="stable")[:MOST_FOLDED]]
        near = near[self.mean[near] < FAR_FROM_0 * np.sqrt(np.diagonal(self.covariance)[near])]
        terms, signed = [], z.copy()
        for signs in product((1.0, -1.0), repeat=len(near)):
            signed[:, near] = z[:, near] * signs
            r = solve_triangular(root, (signed - self.mean).T, lower=True)
            terms.append(constant - 0.5 * np.einsum("dn,dn->n", r, r))
        return logsumexp(terms, axis=0)

    def to_frame(self):
        """Means and standard deviations of the coordinates, a row a parameter."""
        table = {"mean": self.mean, "sd": np.sqrt(np.diagonal(self.covariance))}
        return pd.DataFrame(table, index=self.names)

    def __repr__(self):
        return self.to_frame().to_string()

    def told(self):
        """The prior in words."""
        return self.chosen
