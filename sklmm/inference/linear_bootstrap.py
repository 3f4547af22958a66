"""Resamples of linear mixed models: outcomes drawn anew, or whole clusters; see `bootstrap`."""

from dataclasses import replace

import numpy as np

from sklmm.inference.parameters import Estimates
from sklmm.likelihood.linear_fit import fit_linear


class LinearRefit:
    """Draws rows and fits the linear model to them.

    Parameters
    ----------
    draw : callable Generator -> (Observations, Structure)
        `NumbersDraw` or `ClusterDraw`.
    settings : dict
        Arguments of `fit_linear` besides rows, structure, offset and precision.
    parameters : list of Parameter
        The last one is the residual standard deviation.
    """

    def __init__(self, draw, settings, parameters, fit_intercept):
        self.draw, self.settings = draw, settings
        self.estimates_of = Estimates(parameters[:-1], fit_intercept)

    def __call__(self, rng):
        rows, structure = self.draw(rng)
        try:
            fit = fit_linear(rows, structure, **self.settings)
        except ValueError:  # a resample may leave no residual variance
            return None
        return np.append(self.estimates_of(fit), fit.sigma) if fit.report.converged else None


class NumbersDraw:
    """New outcomes: random effects and residuals drawn from their distributions.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    mean : ndarray of shape (n,)
        Fixed part of the linear predictor, with the offset.
    factors : list of ndarray of shape (q, q)
        Covariance factors of the random coefficients.
    sigma : float
    """

    def __init__(self, observations, structure, mean, factors, sigma):
        weights = observations.weights
        if weights is not None and np.any(weights != np.rint(weights)):
            raise ValueError(
                "resampling='parametric' simulates rows, but some sample_weight are no whole numbers; use "
                "resampling='cluster'"
            )
        self.structure, self.factors = structure, factors
        rows = np.arange(len(mean)) if weights is None else np.repeat(np.arange(len(mean)), weights.astype(np.intp))
        self.observations, self.mean = replace(observations.take(rows), weights=None), mean[rows]
        precision = self.observations.precision
        self.sd = sigma if precision is None else sigma / np.sqrt(precision)

    def __call__(self, rng):
        rows, y = self.observations, self.mean.copy()
        for factor, codes, Lambda in zip(self.structure.factors, rows.codes, self.factors, strict=True):
            b = rng.standard_normal((factor.n_levels, len(Lambda))) @ Lambda.T
            for a, column in enumerate(factor.columns):
                y += b[codes, a] if column < 0 else b[codes, a] * rows.X[:, column]
        return replace(rows, y=y + self.sd * rng.standard_normal(len(y))), self.structure
