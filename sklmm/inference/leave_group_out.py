"""Leave-one-group-out predictions from one fit: the parameters without each group by one step of Newton's method.

The step goes from the fit towards the maximum of the likelihood without the group, with the exact gradient and Hessian
of that likelihood at the fit: psi - (H - H_g)^-1 (s - s_g), where s, H and s_g, H_g are the derivatives of the whole
log-likelihood and of the group's. The infinitesimal jackknife leaves H_g out.

References
----------
Beirami A, Razaviyayn M, Shahrampour S, Tarokh V (2017). On optimal generalizability in parametric learning. Advances in
Neural Information Processing Systems 30.

Giordano R, Stephenson W, Liu R, Jordan M, Broderick T (2019). A Swiss army infinitesimal jackknife. AISTATS 22,
1139-1147.

Preisser JS, Qaqish BF (1996). Deletion diagnostics for generalised estimating equations. Biometrika 83, 551-562.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm._prediction import normal_tails, probabilities
from sklmm._progress import effective_threads
from sklmm._validation import read_weights
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.grouping import lookup_codes

__all__ = ["LeaveGroupOut", "approximate_leave_group_out"]


@dataclass
class LeaveGroupOut:
    """What is known of each group from all the others.

    Attributes
    ----------
    probabilities : ndarray of shape (n_samples, 2)
        Of each row's classes, by the model without the row's group, for which the group is a new one.
    coefficients : DataFrame
        A row a group, a column a fixed effect: the estimates without the group.
    covariances : ndarray of shape (n_groups, q, q), or None
        For a mixed model: the covariance of the random coefficients without each group, in the order of `coefficients`.
    """

    probabilities: np.ndarray
    coefficients: pd.DataFrame
    covariances: np.ndarray | None = None


def approximate_leave_group_out(estimator, X, y, groups=None, sample_weight=None):
    """Leave-one-group-out cross-validation at the cost of about one fit.

    For each group the parameters without it are taken from one step of Newton's method from the fit (for a marginal
    model one of Fisher scoring, which the fit has made already), and the group's rows are predicted with them as those
    of a new group. No model is fitted again. Good where single groups weigh little. Where one group holds much of what
    is known (few groups, one very large one, categories that occur in one group alone) fit again without it.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression or GEELogisticRegression
        With groups of one factor. A mixed model's `predict_effects` says what a prediction for a new group is:
        integrated over the random effects ("posterior", "marginal"), or at 0 ("mode", "zero").
    X, y, groups, sample_weight
        The rows of the fit, as `fit` got them. For a marginal model y plays no part.

    Returns
    -------
    result : LeaveGroupOut
        With `probabilities`, `coefficients` and `covariances`.

    Raises
    ------
    TypeError
        If the estimator is neither of the two, such as a pipeline around one.
    ValueError
        If the model has no groups or several grouping factors, or if these are not the rows of the fit: for a marginal
        model if some are of groups that it did not see.

    Examples
    --------
    >>> from sklearn.metrics import log_loss
    >>> from sklmm import MixedLogisticRegression, approximate_leave_group_out
    >>> from sklmm.datasets import make_clustered_classification
    >>> X, y, groups = make_clustered_classification(600, 2, n_groups=40, random_state=0)
    >>> model = MixedLogisticRegression().fit(X, y, groups=groups)
    >>> left_out = approximate_leave_group_out(model, X, y, groups)
    >>> log_loss(y, model.predict_proba(X, groups=groups)) < log_loss(y, left_out.probabilities)
    True
    """
    if not hasattr(estimator, "_fixed_effects"):
        raise TypeError(
            "approximate_leave_group_out needs a MixedLogisticRegression or GEELogisticRegression (of a pipeline the "
            f"last step, with X as that step gets it); got {type(estimator).__name__}"
        )
    check_is_fitted(estimator)
    if not estimator.n_groups_:
        raise ValueError("the model was fitted without groups: there are none to leave out")
    if len(estimator.n_groups_) > 1:
        raise ValueError(
            f"the model has several grouping factors ({', '.join(estimator.n_groups_)}): no group can be left out "
            "alone. Fit a model with one of them, or fit again without each group"
        )
    names, full, _ = estimator._fixed_effects()
    recipe = estimator._recipe
    if groups is None and recipe is not None and recipe.groups in getattr(X, "columns", ()):
        groups = X[recipe.groups]
    covariances = Lambda = None
    if hasattr(estimator, "_factors"):
        factor = estimator._factors[0]
        beta, Lambda = estimator._without_clusters("approximate_leave_group_out", X, y, groups, sample_weight)
        covariances = Lambda @ np.swapaxes(Lambda, 1, 2)
    else:
        beta = full - estimator._influence.astype(float)
    rows = estimator._read_new_rows(X, groups)
    if not rows.groups:
        raise ValueError("approximate_leave_group_out needs the groups of the rows: pass groups, as to fit")
    labels = factor.labels(rows.column) if covariances is not None else next(iter(rows.groups.values()))
    code = lookup_codes(estimator._levels, labels)
    weights = read_weights(sample_weight, len(code))
    unseen = (code < 0) if weights is None else (code < 0) & (weights > 0)
    if unseen.any():
        raise ValueError(
            f"approximate_leave_group_out needs the rows of the fit: {np.count_nonzero(unseen)} rows are of groups "
            "that the fit did not see (if they had no weight in it, pass sample_weight)"
        )
    # a group that has no weight at all was left out from the start
    beta_of = np.concatenate([beta, full[None]])
    features = np.asarray(rows.X, dtype=np.float64)
    mean = np.einsum("ij,ij->i", features, beta_of[code, len(names) - features.shape[1] :])
    if len(names) > features.shape[1]:
        mean += beta_of[code, 0]
    sd = None
    if covariances is not None and estimator.predict_effects in ("posterior", "marginal"):
        Z = np.column_stack([np.ones(len(mean)) if column < 0 else features[:, column] for column in factor.columns])
        factor_of = np.concatenate([Lambda, RelativeCovariance(factor.blocks).lambda_(estimator._theta[0])[None]])
        sd = np.linalg.norm(np.einsum("ia,iab->ib", Z, factor_of[code]), axis=1)
    found = probabilities(*normal_tails(mean, sd, effective_threads(estimator.n_threads, len(mean))))
    return LeaveGroupOut(found, pd.DataFrame(beta, index=estimator._levels, columns=names), covariances)
