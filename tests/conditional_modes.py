"""Conditional modes and covariances given parameters, by the engines alone."""

import numpy as np

from sklmm.likelihood.base import _engine, _random_effects


def conditional_modes(X, y, *, factors, beta, theta, sample_weight=None, fit_intercept=True):
    """Lists with an entry a factor, as in `MixedFit`."""
    engine = _engine(X, y, factors, sample_weight, fit_intercept, 1, 1)
    x = engine.internal(beta, np.concatenate(theta))
    engine.evaluate(x)
    return _random_effects(engine, x, factors)
