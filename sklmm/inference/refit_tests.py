"""Fits to simulated outcomes, and the Wald tests of coefficients that they give: what an estimator would say, without
one.

Each is called with rows as engines take them, and returns the p-value, NaN where there is no test, and whether a
variance of the fit is on the boundary (NaN for models without variances). They are picklable.
"""

from dataclasses import dataclass

import numpy as np

from sklmm.estimating.scoring import fit_gee
from sklmm.inference import wald
from sklmm.inference.degrees_of_freedom import degrees_of_fit
from sklmm.inference.sandwich import covariance_of_coefficients, residual_df, sandwich_of
from sklmm.inference.verdict import blanks
from sklmm.likelihood.fit import fit_mixed
from sklmm.likelihood.linear_fit import fit_linear

NO_TEST = np.nan, np.nan


@dataclass(frozen=True)
class Contrasts:
    """The hypothesis that contrasts of coefficients are all 0.

    Attributes
    ----------
    names : list of str
        Of all coefficients, the intercept first.
    matrix : ndarray of shape (n_contrasts, n_coefficients)
    fit_intercept : bool
        Whether there is one.
    """

    names: list
    matrix: np.ndarray
    fit_intercept: bool

    def p_value(self, fit, coef, vcov, value, df=None):
        """Of Wald's test; NaN where the fit has not estimated what is tested."""
        separated = ["the intercept" if j < 0 else self.names[j + self.fit_intercept] for j in fit.separated]
        blank = blanks(self.names, fit.report.converged, separated, value)
        try:
            return wald.wald_test(self.names, coef, vcov, self.matrix, df=df, blank=blank).p_value
        except ValueError:  # these rows do not tell a coefficient from others
            return np.nan


@dataclass(frozen=True)
class MixedTest:
    """By `fit_mixed`, from the parameters that the outcomes were drawn with.

    Attributes
    ----------
    contrasts : Contrasts
    start : (beta, theta)
    settings : dict
        Arguments of `fit_mixed` besides.
    """

    contrasts: Contrasts
    start: tuple
    settings: dict

    def __call__(self, rows, structure, sample=None):
        fit = fit_mixed(rows, structure, start=self.start, **self.settings)
        n = len(fit.beta)
        return self.contrasts.p_value(fit, fit.beta, fit.vcov[:n, :n], fit.log_likelihood), float(fit.is_singular)


@dataclass(frozen=True)
class LinearTest:
    """By `fit_linear`, with the degrees of freedom of a method.

    Attributes
    ----------
    contrasts : Contrasts
    df : str or None
    settings : dict
        Arguments of `fit_linear`.
    """

    contrasts: Contrasts
    df: str | None
    settings: dict

    def __call__(self, rows, structure, sample=None):
        adjusts = self.df == "kenward-roger"
        try:
            fit = fit_linear(rows, structure, kenward_roger=adjusts, **self.settings)
        except ValueError:  # there may be no residual variance
            return NO_TEST
        degrees = degrees_of_fit(fit, adjusts)[self.df]
        p_value = self.contrasts.p_value(fit, fit.beta, degrees.covariance.copy(), fit.log_likelihood, degrees)
        return p_value, float(fit.is_singular)


@dataclass(frozen=True)
class MarginalTest:
    """By `fit_gee`, with a covariance of a kind.

    Attributes
    ----------
    contrasts : Contrasts
    cov_type : str
    settings : dict
        Arguments of `fit_gee` besides the rows.
    """

    contrasts: Contrasts
    cov_type: str
    settings: dict

    def __call__(self, rows, structure, sample=None):
        groups = {}
        if structure.factors:
            groups = {"codes": rows.codes[0], "n_clusters": structure.factors[0].n_levels}
        own = {"times": rows.times, "offset": rows.offset, "family": structure.family}
        first = int(self.settings["fit_intercept"])
        try:
            fit = fit_gee(rows.X, rows.y, **own, **groups, **self.settings)
            aliased = [j + first for j in fit.aliased]
            sandwich = sandwich_of(fit, float(rows.y.size))
            vcov = covariance_of_coefficients(self.cov_type, sandwich, fit.coordinates, aliased)
        except ValueError:  # the working correlation, or this kind of covariance, does not exist for these outcomes
            return NO_TEST
        df = residual_df(fit.n_clusters, len(fit.bread))
        return self.contrasts.p_value(fit, fit.beta, vcov, fit.quasi_likelihood, df), np.nan
