"""Information criteria, of likelihoods and of quasi-likelihoods.

The quasi-likelihood criteria are those of generalized estimating equations: QIC and QICu (Pan 2001), and QIC's penalty
alone, CIC (Hin and Wang 2009).

References
----------
Pan W (2001). Akaike's information criterion in generalized estimating equations. Biometrics 57, 120-125.

Hin L-Y, Wang Y-G (2009). Working-correlation-structure identification in generalized estimating equations.
Statistics in Medicine 28, 642-658.
"""

import math

import numpy as np


def deviance(log_likelihood):
    """-2 times the log-likelihood."""
    return -2.0 * log_likelihood


def aic(log_likelihood, n_parameters):
    """Akaike's information criterion."""
    return deviance(log_likelihood) + 2.0 * n_parameters


def bic(log_likelihood, n_parameters, n_obs):
    """Schwarz's information criterion; `n_obs` is the number of rows, or the sum of their weights."""
    return deviance(log_likelihood) + math.log(n_obs) * n_parameters


def cic(independence_information, robust_vcov):
    """Correlation information criterion: the trace of A V.

    The mean models being the same, the lowest CIC points to the best working correlation, with less noise than QIC.

    Parameters
    ----------
    independence_information : array-like of shape (n, n)
        A, the inverse of the naive covariance of the coefficients fitted under independence.
    robust_vcov : array-like of shape (n, n)
        V, the robust covariance under the working correlation. Coefficients that are not identified, NaN on the
        diagonal of A or of V, are left out.

    Returns
    -------
    float
        NaN if no coefficient is left.
    """
    information = np.asarray(independence_information, dtype=float)
    vcov = np.asarray(robust_vcov, dtype=float)
    kept = ~np.isnan(np.diagonal(information)) & ~np.isnan(np.diagonal(vcov))
    if not kept.any():
        return math.nan
    return float(np.einsum("jk,kj->", information[np.ix_(kept, kept)], vcov[np.ix_(kept, kept)]))


def qic(quasi_likelihood, independence_information, robust_vcov):
    """Quasi-likelihood under the independence model criterion: -2 Q + 2 trace(A V).

    Parameters
    ----------
    quasi_likelihood : float
        Q, that of independent rows at the coefficients fitted under the working correlation.
    independence_information, robust_vcov
        See `cic`.

    Returns
    -------
    float
    """
    return deviance(quasi_likelihood) + 2.0 * cic(independence_information, robust_vcov)


def qicu(quasi_likelihood, n_coefficients):
    """QIC for choosing among features, its penalty replaced by what it approximates: -2 Q + 2 p.

    Parameters
    ----------
    quasi_likelihood : float
    n_coefficients : int
        p, the number of identified coefficients.

    Returns
    -------
    float
    """
    return deviance(quasi_likelihood) + 2.0 * n_coefficients
