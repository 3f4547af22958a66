"""Conditional modes and covariances given parameters, by the engines alone."""

import numpy as np
from designs import engine_of


def conditional_modes(X, y, *, factors, beta, theta, sample_weight=None, fit_intercept=True):
    """Lists with an entry a factor, as in `MixedFit`."""
    engine = engine_of(X, y, factors, sample_weight=sample_weight, fit_intercept=fit_intercept)
    x = engine.units.internal(beta, np.concatenate(theta))
    engine.evaluate(x)
    return engine.random_effects(x)
