"""Intervals for the probability of a row in its group.

The error of a linear predictor x'beta + z'b has two independent parts: that of b where beta is known, with the
posterior covariance C of its group; and that of beta, which moves the conditional mode, too. With the weights W of the
group's rows db/dbeta = -C Z'WX = -(I - C Sigma^-1) B, where B = (Z'WZ)^-1 Z'WX holds the regressions of the group's
features on its columns Z. So

    variance = z'Cz + d'Vd,    d = x - B'(I - C Sigma^-1)'z

B is exact for features that are columns of Z themselves, such as the intercept. For the others a model without its
training rows knows the regressions over all groups, which the covariance V of the fixed effects contains. A group
that is unknown has C = Sigma: the variance is z'Sigma z + x'Vx. With several grouping factors d = x is used throughout,
which takes the errors of b and beta for independent: as a rule they cancel in part, so that intervals are rather too
wide. So it is for columns of Z that are no fixed effects: V says nothing of the regressions in them.

Henderson CR (1975). Best linear unbiased estimation and prediction under a selection model. Biometrics 31, 423-447.
"""

import numpy as np
from scipy import stats
from scipy.special import expit

from sklmm.design.grouping import lookup_codes

from .intervals import check_level

__all__ = ["prediction_interval"]


def prediction_interval(estimator, rows, mean, sd, level):
    """Interval for the probability of the second class, (n, 2).

    Parameters
    ----------
    estimator : MixedLogisticRegression
        Fitted.
    rows : Rows
    mean, sd : ndarray of shape (n,)
        Posterior of the linear predictors for known fixed effects; sd None is 0.
    level : float
    """
    level = check_level(level)
    n = rows.X.shape[0]
    names, _, vcov = estimator._fixed_effects()
    V = np.nan_to_num(vcov, nan=0.0)
    X = np.asarray(rows.X, dtype=np.float64)
    n_slopes = estimator.coef_.size  # of the first columns of X; others have random slopes only
    has_intercept = len(names) > n_slopes
    d = np.column_stack([np.ones((n, int(has_intercept))), X[:, :n_slopes]])
    factors = [factor for factor in estimator._factors if factor.covariance.any()]
    if len(factors) == 1 and rows.groups:
        (factor,) = factors
        code = lookup_codes(factor.levels, factor.labels(rows.column))
        known = np.flatnonzero(code >= 0)
        Z = np.column_stack([np.ones(known.size) if c < 0 else X[known, c] for c in factor.columns])
        B = _regressions([c + has_intercept if c < n_slopes else -1 for c in factor.columns], V)
        learnt = (factor.covariance - factor.mode_cov) @ np.linalg.pinv(factor.covariance, hermitian=True)
        d[known] -= np.einsum("na,nab->nb", Z, learnt[code[known]]) @ B
    variance = np.einsum("ij,jk,ik->i", d, V, d)
    if sd is not None:
        variance = variance + sd**2
    reach = stats.norm.ppf((1 + level) / 2) * np.sqrt(variance)
    return expit(np.column_stack([mean - reach, mean + reach]))


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
