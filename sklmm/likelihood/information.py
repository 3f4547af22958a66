"""The observed information at an optimum, its inverse, and both in the user's units."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from sklmm.design.aliasing import dependent

LEAST = 1e-14  # of the information, scaled to a diagonal of 1


class Information:
    """The inverse of the observed information of the parameters, and what it becomes in the user's units.

    Attributes
    ----------
    inverse : ndarray
        In internal parameters; 0 for those that are held or of which the information says nothing.
    unidentified : ndarray
        Fixed effects that are not held, and of which the information says nothing.
    natural_inverse : ndarray
        In the user's units; NaN where a column is aliased or unidentified.
    to_natural : ndarray
        What a gradient in internal parameters is multiplied by for its Newton step in the user's units.
    """

    def __init__(self, engine, optimum, held):
        hessian = _at_boundary(optimum.hessian, engine, optimum.x)
        # the intercept first: of parameters that the information cannot tell apart the later ones are lost
        k, p = engine.n_fixed, engine.units.p
        order = np.concatenate([np.arange(p, k), np.arange(p), np.arange(k, engine.n_params)])
        order = order[~held[order]]
        without = np.zeros(engine.n_params, dtype=bool)
        without[order] = dependent(-hessian[np.ix_(order, order)])
        self.unidentified = np.flatnonzero(without[:k])
        kept = np.flatnonzero(~(held | without))
        self._kept, self._information = kept, -hessian[np.ix_(kept, kept)]
        information = self._information
        scale = 1.0 / np.sqrt(information.diagonal())
        scaled = information * scale[:, None] * scale
        try:
            root = np.linalg.inv(np.linalg.cholesky(scaled)) * scale
        except np.linalg.LinAlgError:  # of a fit that goes to infinity, as a rule: variances are huge, but numbers
            size, vectors = np.linalg.eigh(scaled)
            root = (vectors / np.sqrt(np.maximum(size, LEAST))).T * scale
        self.inverse = np.zeros_like(hessian)
        self.inverse[np.ix_(kept, kept)] = root.T @ root
        held = held | (without & (np.arange(engine.n_params) < k))
        self._jacobian = engine.units.jacobian(optimum.x)
        # an aliased slope is exactly 0 and does not move the intercept
        self._lost = np.concatenate([without[p:k], held[:p], held[k:]])
        self.natural_inverse = self.natural_covariance(self.inverse)
        self.to_natural = self.inverse @ self._jacobian.T

    def natural_covariance(self, covariance):
        """A covariance of internal parameters in the user's units; NaN for what is not identified."""
        out = self._jacobian @ covariance @ self._jacobian.T
        out[self._lost, :] = out[:, self._lost] = np.nan
        return out

    def newton_step(self, gradient, hessian):
        """The step to the maximum of another log-likelihood, from its gradient here and how its Hessian differs."""
        kept, step = self._kept, np.zeros(len(self.inverse))
        try:
            root = cho_factor(self._information - hessian[np.ix_(kept, kept)])
            step[kept] = cho_solve(root, gradient[kept])
        except np.linalg.LinAlgError:  # it has no maximum near here
            step = self.inverse @ gradient
        return step

    def to_user(self, step):
        """A step in internal parameters in the user's units, and in standard errors: 0 for what is not estimated."""
        natural = self._jacobian @ step
        errors = np.sqrt(np.diagonal(self.natural_inverse))
        return natural, np.divide(natural, errors, out=np.zeros_like(natural), where=np.isfinite(errors) & (errors > 0))


def _at_boundary(hessian, engine, x):
    """The Hessian where standard deviations are exactly 0, from the one nearby, where the climb ended.

    The likelihood is an even function of the entries of a column of Lambda that is 0.
    """
    covariance, k = engine.covariance, engine.n_fixed
    zero = ~covariance.lambda_(x[k:]).any(axis=0)[covariance.col]
    if not zero.any():
        return hessian
    hessian = hessian.copy()
    inner, outer = k + np.flatnonzero(zero), np.append(np.arange(k), k + np.flatnonzero(~zero))
    hessian[np.ix_(inner, outer)] = hessian[np.ix_(outer, inner)] = 0.0
    return hessian
