"""What each cluster does to the estimates."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklmm.fitted import FittedMixed
from sklmm.inference.tables import Table


def cluster_influence(
    estimator, X=None, y=None, groups=None, sample_weight=None, *, offset=None, precision_weight=None
):
    """What each cluster does to the fixed effects: the change when it is left out, without refits.

    It comes from the clusters' scores, which the fit keeps. For a marginal model it is one step of Fisher scoring
    without the cluster (Preisser and Qaqish 1996). For a mixed model, whose clusters are the groups of its one factor,
    it is the change to first order, score times covariance, covariance parameters moving along (those of linear models
    stay). With the rows of the fit it is what `approximate_leave_group_out` finds: a step of Newton's method, which
    knows how much the cluster itself contributes to the information, or of linear models with few groups the fit
    without it.

    Parameters
    ----------
    estimator : fitted estimator of this package
    X, y, groups, sample_weight, offset, precision_weight : optional
        The rows of the fit, as `fit` got them; for mixed models only.

    Returns
    -------
    influence : Table
        A row a cluster. "n_rows", the sum of weights where there are any; "cooks_distance": the change d of the
        identified fixed effects as d'V^-1 d / p, with their covariance V, so that values near 1 move all estimates by
        about a standard error; and a column a coefficient with its change, estimate without the cluster less estimate
        with it.

    Raises
    ------
    ValueError
        For models without groups or with several grouping factors.
    """
    check_is_fitted(estimator)
    names, beta, vcov = estimator._fixed_effects()
    if not estimator.n_groups_:
        raise ValueError("the model was fitted without groups: there are no clusters to leave out")
    if len(estimator.n_groups_) > 1:
        raise ValueError(
            "with several grouping factors the likelihood is no sum over clusters: there is none to leave out alone"
        )
    if X is None:
        change = -estimator._fitted.influence[:, : len(names)].astype(float)
    elif isinstance(estimator._fitted, FittedMixed):
        given = X, y, groups, sample_weight, offset, *([] if precision_weight is None else [precision_weight])
        change = estimator._without_clusters("this step", *given)[0] - beta
    else:
        raise ValueError("a marginal model keeps what this needs: leave out the rows")
    kept = np.isfinite(np.diagonal(vcov))
    change[:, ~kept] = 0.0
    inner = vcov[np.ix_(kept, kept)]  # 0 where a linear model leaves no residuals: then nothing changes, by no measure
    solved = np.linalg.solve(inner, change[:, kept].T).T if inner.any() else np.full((len(change), kept.sum()), np.nan)
    table = Table(change, index=estimator._fitted.levels, columns=names)
    table.insert(0, "cooks_distance", np.sum(change[:, kept] * solved, axis=1) / kept.sum())
    table.insert(0, "n_rows", estimator._fitted.level_rows.copy())
    return table
