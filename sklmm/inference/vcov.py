"""What covariance matrices say: standard errors and correlations."""

import numpy as np

__all__ = ["correlation", "standard_errors"]


def standard_errors(vcov):
    """Square roots of the diagonal; NaN where it is NaN or negative.

    Parameters
    ----------
    vcov : array-like of shape (n, n)

    Returns
    -------
    ndarray of shape (n,)
    """
    variances = np.diagonal(np.asarray(vcov, dtype=float))
    return np.sqrt(np.where(variances >= 0, variances, np.nan))


def correlation(vcov):
    """Correlation matrix of a covariance matrix; NaN in the rows and columns of variances that are 0 or NaN.

    Parameters
    ----------
    vcov : array-like of shape (n, n)

    Returns
    -------
    ndarray of shape (n, n)
    """
    vcov = np.asarray(vcov, dtype=float)
    se = standard_errors(vcov)
    se = np.where(se > 0, se, np.nan)
    corr = np.clip(vcov / se[:, None] / se, -1.0, 1.0)
    np.fill_diagonal(corr, np.where(np.isnan(se), np.nan, 1.0))
    return corr
