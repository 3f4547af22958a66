"""Posteriors of one group by the trapezoidal rule on dense grids: from its rows, without the package."""

import itertools

import links
import numpy as np
from scipy.optimize import minimize


class GroupPosterior:
    """Random effects b ~ N(0, covariance) of a group, given its rows.

    Parameters
    ----------
    eta : fixed part of the rows' linear predictors
    Z : columns that multiply b
    y, w : outcomes 0 and 1, counts
    link : see `links`
    """

    def __init__(self, eta, Z, y, covariance, w=None, link="logit"):
        q, self.link, y = Z.shape[1], link, np.asarray(y)
        w = np.ones(len(y)) if w is None else w
        root = np.linalg.cholesky(covariance)  # b = root @ u
        T = Z @ root

        def log_density(u):
            return w @ links.log_density(link, eta[:, None] + T @ u.T, y[:, None]) - 0.5 * np.sum(u**2, axis=1)

        def slope(u):
            return -(T.T @ (w * links.score(link, eta + T @ u, y)) - u)

        mode = minimize(lambda u: -log_density(u[None])[0], np.zeros(q), jac=slope, method="BFGS").x
        # Around the mode, as far as the prior goes; then only where the density is above e^-28 of its maximum.
        low, high = mode - 7.5, mode + 7.5
        for n in ({1: 401, 2: 61, 3: 25, 4: 15}[q], {1: 2001, 2: 81, 3: 33, 4: 17}[q]):
            u = np.array(list(itertools.product(*(np.linspace(*ends, n) for ends in zip(low, high, strict=True)))))
            value = log_density(u)
            inside = u[value > value.max() - 28.0]
            step = (high - low) / (n - 1)
            low, high = inside.min(axis=0) - step, inside.max(axis=0) + step
        weight = np.exp(value - value.max())
        self.effects, self.weight = u @ root.T, weight / weight.sum()

    def probability(self, eta, z):
        """Mean probability at eta + z'b of new rows."""
        mean = links.probability
        return np.array([self.weight @ mean(self.link, e + self.effects @ row) for e, row in zip(eta, z, strict=True)])

    @property
    def mean(self):
        return self.weight @ self.effects

    @property
    def covariance(self):
        deviation = self.effects - self.mean
        return (deviation * self.weight[:, None]).T @ deviation
