"""Predicted numbers of a linear mixed model, with the joint error of the fixed effects and of the groups' effects."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklmm.design.covariance import RelativeCovariance
from sklmm.fitted import FittedLinear
from sklmm.passes.tables import CHUNK
from sklmm.prediction.predictor import Predictor

UNTOLD = 1e15  # a variance of a mean beyond it, relative to that of the residual: the data do not tell the mean


@dataclass
class NumberPredictor(Predictor):
    """What a fitted linear model needs to predict rows of numbers.

    Fixed effects are those of standardised columns: from the user's own, far from 0, predictions would be small
    differences of huge numbers.
    """

    fit: FittedLinear = None

    @classmethod
    def of(cls, estimator, n_threads):
        """The predictor of a fitted `MixedLinearRegression`."""
        fit = estimator._fitted
        return cls(None, None, fit.factors, fit.posterior, n_threads, fit.family, fit)

    def fixed(self, X):
        return self.fit.units.linear_predictor(X)

    def errors(self, X, codes, effects):
        """Variances of the errors of predicted means, and degrees of freedom that they have as estimates.

        With the fixed effects b estimated, the error of a mean in known groups is a'(b^ - b) + t'(u~ - u), where u~ are
        the modes if b were known and a = x + S't takes in how the modes follow b^ (S, their slopes): both parts are
        independent (Henderson 1975; McCulloch and Searle 2001, section 6.4). An unknown group adds its variance t't.

        Parameters
        ----------
        X : ndarray of shape (n, p), float64
        codes : list of ndarray of shape (n,)
            Level of each factor by row, -1 where the group is unknown.
        effects : {"posterior", "zero"}

        Returns
        -------
        variance : ndarray of shape (n,)
        slopes : ndarray of shape (m + 1, n)
            Derivatives of the variances in (theta, log sigma). Of rows whose groups are all known those in theta are
            left out, which are small: their errors are residuals' above all.
        """
        fit = self.fit
        a = fit.units.design(X)[:, fit.fixed_positions]
        slopes, within = np.zeros((len(fit.variance_vcov), len(X))), np.zeros(len(X))
        unknown = np.full(len(X), effects == "zero" or not self.factors)
        if effects == "posterior" and self.factors:
            _, sd, _ = self.linear_predictor(X, codes, "posterior")
            within, first = sd**2, 0
            for factor, S, code in zip(self.factors, fit.effect_slopes, codes, strict=True):
                t, known = factor.units.loadings(X), code >= 0
                unknown |= ~known
                a[known] += np.einsum("nq,nqf->nf", t[known], S[code[known]])
                z, entries = fit.sigma * factor.units.design(X), RelativeCovariance(factor.blocks)
                for row, column in zip(entries.row, entries.col, strict=True):
                    slopes[first] = np.where(known, 0.0, 2.0 * t[:, column] * z[:, row])
                    first += 1
        variance = within + np.einsum("nf,fg,ng->n", a, fit.fixed_covariance, a)
        a = a[unknown]
        for row, change in zip(slopes, fit.fixed_gradient[:-1], strict=False):
            row[unknown] += np.einsum("nf,fg,ng->n", a, change, a)
        slopes[-1] = 2.0 * variance
        return variance, slopes


def predictions_without(fit, without, rows, code, effects):
    """Expected outcomes by fits without the rows' groups, and standard deviations of new outcomes around them.

    Parameters
    ----------
    fit : FittedLinear
    without : LinearWithout
        Of the one factor.
    rows : Rows
    code : ndarray of shape (n,)
        Level that is left out for each row; -1: none.
    effects : {"posterior", "zero"}
        Whether the variance between groups adds to those of the means.

    Returns
    -------
    mean, std : ndarray of shape (n,)
    """
    products, factors, sigma = without.products, without.factors(), without.sigma_of_outcome()
    mean, variance = np.empty((2, len(code)))
    for first in range(0, len(code), CHUNK):
        part = slice(first, first + CHUNK)
        X, own = np.asarray(rows.X[part], dtype=np.float64), code[part]
        a = fit.units.design(X)[:, fit.fixed_positions]
        mean[part] = products.y_center + products.y_scale * np.einsum("nf,nf->n", a, without.beta[own])
        of_mean = products.y_scale**2 * np.einsum("nf,nfg,ng->n", a, without.covariance[own], a)
        of_mean = np.where(of_mean > UNTOLD * sigma[own] ** 2, np.inf, np.maximum(of_mean, 0.0))
        t = np.einsum("na,nab->nb", fit.factors[0].units.design(X), factors[own])
        variance[part] = of_mean + (np.einsum("nb,nb->n", t, t) if effects == "posterior" else 0.0)
    mean += 0.0 if rows.offset is None else rows.offset
    noise = sigma[code] ** 2 / (1.0 if rows.precision_weight is None else rows.precision_weight)
    return mean, np.sqrt(variance + noise)


def degrees_of_predictions(variance, slopes, variance_vcov):
    """Satterthwaite's: those of a variance v, an estimate itself, are 2 v^2 / Var(v)."""
    spread = np.einsum("in,ij,jn->n", slopes, variance_vcov, slopes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 2.0 * variance**2 / spread, np.inf)


def quantiles(level, df):
    """Of t, the normal where `df` is None."""
    return stats.norm.ppf((1 + level) / 2) if df is None else stats.t.ppf((1 + level) / 2, np.maximum(df, 1.0))
