"""Intervals for the probability of a row in its group.

The error of a linear predictor x'beta + z'b has two independent parts: that of b where beta is known, which is the
posterior of its group; and that of beta, which moves the posterior's mean, too. With the weights W of the group's rows
and the posterior covariance C, db/dbeta = -C Z'WX = -(I - C Sigma^-1) B, where B = (Z'WZ)^-1 Z'WX holds the regressions
of the group's features on its columns Z. So

    variance = z'Cz + d'Vd,    d = x - B'(I - C Sigma^-1)'z

B is exact for features that are columns of Z themselves, such as the intercept. For the others a model without its
training rows knows the regressions over all groups, which the covariance V of the fixed effects contains. A group
that is unknown has C = Sigma: the variance is z'Sigma z + x'Vx. With several grouping factors d = x is used throughout,
which takes the errors of b and beta for independent: as a rule they cancel in part, so that intervals are rather too
wide. So it is for columns of Z that are no fixed effects: V says nothing of the regressions in them.

All of it is computed in the units of the fit, of centred and scaled columns: x'Vx of the user's would cancel where
features are far from 0. The posterior of a group of few rows is skewed: quantiles are those of its first four cumulants
(Cornish and Fisher 1938), to which the second part adds a variance.

Cornish EA, Fisher RA (1938). Moments and cumulants in the specification of distributions. Review of the International
Statistical Institute 5, 307-320.

Henderson CR (1975). Best linear unbiased estimation and prediction under a selection model. Biometrics 31, 423-447.
"""

import numpy as np
from scipy import stats

from sklmm.inference.wald import check_level


def prediction_interval(estimator, X, codes, cumulants, level):
    """Interval for the probability of the second class, (n, 2).

    Parameters
    ----------
    estimator : MixedLogisticRegression
        Fitted.
    X : ndarray of shape (n, p)
    codes : list of ndarray of shape (n,)
        For each factor the level of each row, -1 where it is unknown.
    cumulants : ndarray of shape (4, n)
        Of the linear predictors for known fixed effects.
    level : float
    """
    level = check_level(level)
    names, _, vcov = estimator._fixed_effects()
    units, X = estimator._fitted.units, np.asarray(X, dtype=np.float64)
    d, V = units.design(X), units.covariance[: len(names), : len(names)]
    varying = [pair for pair in zip(estimator._fitted.factors, codes, strict=True) if pair[0].covariance.any()]
    if len(varying) == 1:
        ((factor, code),) = varying
        known, effects = np.flatnonzero(code >= 0), factor.units
        places = [c + units.fit_intercept if c < units.n_slopes else -1 for c in effects.columns]
        B = _regressions(places, np.nan_to_num(vcov, nan=0.0))
        B = np.linalg.solve(effects.to_natural, B @ units.natural_map())
        Lambda, left = effects.Lambda, np.eye(len(B)) - factor.posterior.covariances(code[known])
        learnt = Lambda @ left @ (Lambda.T @ np.linalg.pinv(Lambda @ Lambda.T, hermitian=True))
        d[known] -= np.einsum("na,nab->nb", effects.design(X[known]), learnt) @ B
    mean, variance, third, fourth = cumulants
    variance = variance + np.einsum("ij,jk,ik->i", d, V, d)
    sd = np.sqrt(variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness, excess = np.nan_to_num(third / sd**3), np.nan_to_num(fourth / variance**2)
    z = stats.norm.ppf((1 + level) / 2) * np.array([-1.0, 1.0])[:, None]
    quantiles = z + (z**2 - 1) * skewness / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * skewness**2 / 36
    return estimator._fitted.family.mean(mean + sd * quantiles).T


def _regressions(positions, V):
    """Coefficients of all fixed-effect columns in those at `positions` (-1: none), as the information weights rows."""
    B = np.zeros((len(positions), len(V)))
    identified = np.diagonal(V) > 0
    inside = [k for k, at in enumerate(positions) if at >= 0 and identified[at]]
    own = [positions[k] for k in inside]
    B[inside, own] = 1.0
    others = [j for j in range(len(V)) if identified[j] and j not in own]
    if own and others:
        B[np.ix_(inside, others)] = -np.linalg.solve(V[np.ix_(others, others)], V[np.ix_(others, own)]).T
    return B
