"""The links by scipy's functions: log densities of outcomes, and two derivatives, apart from the package."""

import numpy as np
from scipy.special import expit, log_expit, log_ndtr, ndtr

LINKS = ("logit", "probit", "cloglog")


def probability(link, eta):
    """Of the outcome 1."""
    if link == "cloglog":
        return -np.expm1(-np.exp(eta))
    return expit(eta) if link == "logit" else ndtr(eta)


def log_density(link, eta, y):
    """Of outcomes y, which broadcast against eta."""
    if link == "cloglog":
        with np.errstate(over="ignore"):
            hazard = np.exp(eta)
            return np.where(y, np.log(-np.expm1(-hazard)), -hazard)
    sided = np.where(y, eta, -eta)
    return log_expit(sided) if link == "logit" else log_ndtr(sided)


def score(link, eta, y):
    """Derivative of the log density."""
    if link == "cloglog":
        hazard = np.exp(eta)
        return np.where(y, hazard / np.expm1(np.minimum(hazard, 700.0)), -hazard)
    sign = np.where(y, 1.0, -1.0)
    if link == "logit":
        return sign * expit(-sign * eta)
    return sign * np.exp(-0.5 * eta**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(sign * eta))


def weight(link, eta, y):
    """Minus the second derivative of the log density."""
    r = score(link, eta, y)
    if link == "cloglog":
        return np.where(y, r * (r + np.exp(eta) - 1.0), np.exp(eta))
    return expit(eta) * expit(-eta) if link == "logit" else r * (r + eta)
