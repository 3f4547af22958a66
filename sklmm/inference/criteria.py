"""Information criteria."""

import math

__all__ = ["aic", "bic", "deviance"]


def deviance(log_likelihood):
    """-2 times the log-likelihood."""
    return -2.0 * log_likelihood


def aic(log_likelihood, n_parameters):
    """Akaike's information criterion."""
    return deviance(log_likelihood) + 2.0 * n_parameters


def bic(log_likelihood, n_parameters, n_obs):
    """Schwarz's information criterion; `n_obs` is the number of rows, or the sum of their weights."""
    return deviance(log_likelihood) + math.log(n_obs) * n_parameters
