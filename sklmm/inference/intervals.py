"""Wald intervals for coefficients and for odds ratios."""

from numbers import Real

import numpy as np
import pandas as pd
from scipy import stats

from .vcov import standard_errors

__all__ = ["check_level", "conf_int", "odds_ratios", "reference_distribution"]


def reference_distribution(df=None):
    """Distribution of an estimate's error in units of its standard error.

    Parameters
    ----------
    df : float or None, default=None
        None: standard normal. Else Student's t with so many degrees of freedom; with none left (`df` <= 0) whatever
        the distribution is asked for is NaN.

    Returns
    -------
    scipy.stats distribution
    """
    return stats.norm() if df is None else stats.t(df)


def check_level(level):
    """The confidence level as a float; an error unless it lies between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, Real):
        raise TypeError(f"level must be a number between 0 and 1, got {level!r}")
    if not 0 < level < 1:
        hint = f"; for {level:g} % give {level / 100:g}" if 1 < level < 100 else ""
        raise ValueError(f"level must be between 0 and 1, got {level!r}{hint}")
    return float(level)


def conf_int(names, coef, vcov, level=0.95, method="wald", df=None):
    """Confidence intervals of the coefficients.

    Parameters
    ----------
    names : sequence of str
    coef : array-like of shape (n,)
    vcov : array-like of shape (n, n)
    level : float, default=0.95
    method : {"wald"}, default="wald"
    df : float or None, default=None
        Residual degrees of freedom, see `reference_distribution`.

    Returns
    -------
    DataFrame
        A row a coefficient, columns "lower" and "upper"; NaN where the standard error is, and without residual
        degrees of freedom.
    """
    if method != "wald":
        raise ValueError(f"method must be 'wald', got {method!r}")
    level = check_level(level)
    coef = np.asarray(coef, dtype=float)
    reach = reference_distribution(df).isf((1 - level) / 2) * standard_errors(vcov)
    return pd.DataFrame({"lower": coef - reach, "upper": coef + reach}, index=list(names))


def odds_ratios(names, coef, vcov, level=0.95, df=None):
    """Odds ratios, the exponentials of the coefficients, with intervals.

    Parameters
    ----------
    names, coef, vcov, level, df
        As in `conf_int`.

    Returns
    -------
    DataFrame
        A row a coefficient, columns "odds_ratio", "lower" and "upper".
    """
    table = conf_int(names, coef, vcov, level, df=df)
    table.insert(0, "odds_ratio", np.asarray(coef, dtype=float))
    with np.errstate(over="ignore"):  # under separation exp overflows to inf, which is what there is to say
        return np.exp(table)
