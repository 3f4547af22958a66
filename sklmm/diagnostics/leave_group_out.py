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

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.columns import is_frame, rows_where
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.grouping import lookup_known_codes
from sklmm.design.observations import read_weights
from sklmm.fitted import FittedLinear, FittedMixed, fitted_of
from sklmm.inference.tables import Table
from sklmm.passes.threads import effective_threads
from sklmm.prediction.linear import predictions_without
from sklmm.prediction.predictor import probabilities


@dataclass
class LeaveGroupOut:
    """What is known of each group from all the others.

    Attributes
    ----------
    probabilities : ndarray of shape (n_samples, 2), or None
        Of each row's classes, by the model without the row's group, for which the group is a new one. NaN for rows with
        missing values that a formula has left out of the fit.
    coefficients : Table
        A row a group, a column a fixed effect: the estimates without the group.
    covariances : ndarray of shape (n_groups, q, q), or None
        For a mixed model: the covariance of the random coefficients without each group, in the order of `coefficients`.
    expected : ndarray of shape (n_samples,), or None
        Of a measured outcome, in the place of probabilities: what each row is expected to be.
    std : ndarray of shape (n_samples,), or None
        Of a measured outcome and a mixed model: the standard deviation of a new outcome around `expected`, as `predict`
        returns it: of the residual, a new group's effects and the errors of estimates together. Infinite where the
        other groups do not tell a coefficient that the row has.
    sigma : ndarray of shape (n_groups,), or None
        Likewise: the residual standard deviation without each group.
    classes : ndarray of shape (2,), or None
        What the probabilities are of.
    """

    probabilities: np.ndarray | None
    coefficients: pd.DataFrame
    covariances: np.ndarray | None = None
    expected: np.ndarray | None = None
    std: np.ndarray | None = None
    sigma: np.ndarray | None = None
    classes: np.ndarray | None = None

    def __repr__(self):
        groups, coefficients = self.coefficients.shape
        predicted, what = self.probabilities, "probabilities"
        if predicted is None:
            predicted, what = self.expected, "expected outcomes"
        return (
            f"LeaveGroupOut: {what} of {len(predicted):,} rows, each from a fit without its group; "
            f"coefficients ({groups:,} x {coefficients})"
            + ("" if self.covariances is None else f" and covariances {self.covariances.shape}")
            + " without each group"
        )

    def to_frame(self):
        """What is predicted of each row: the probabilities by class, or "expected" and "std"."""
        if self.probabilities is not None:
            labels = [0, 1] if self.classes is None else self.classes
            return Table(self.probabilities, columns=[f"probability_{label}" for label in labels])
        return Table({"expected": self.expected} | ({} if self.std is None else {"std": self.std}))

    def _repr_html_(self):
        return f"<p>{html.escape(repr(self))}</p>\n{self.coefficients._repr_html_()}"


def approximate_leave_group_out(
    estimator, X, y=None, groups=None, sample_weight=None, *, offset=None, precision_weight=None
):
    """Leave-one-group-out cross-validation at the cost of about one fit.

    For each group the parameters without it are taken from one step of Newton's method from the fit (for a marginal
    model one of Fisher scoring, which the fit has made already), and the group's rows are predicted with them as those
    of a new group. No model is fitted again. Good where single groups weigh little. Where one group holds much of what
    is known (few groups, one very large one, categories that occur in one group alone) fit again without it.

    Of a linear mixed model what is known without a group is exact for given variances, and these take the step. With up
    to 300 groups they take as many steps as they need, none of which looks at rows: the result is that of fits without
    each group, up to rounding errors.

    Parameters
    ----------
    estimator : fitted estimator of this package
        With groups of one factor. A mixed model's `predict_effects` says what a prediction for a new group is:
        integrated over the random effects ("posterior", "marginal"), or at 0 ("mode", "zero").
    X, y, groups, sample_weight, offset, precision_weight
        The rows of the fit, as `fit` got them; of a model with a formula the data frame is enough. For a marginal model
        y plays no part.

    Returns
    -------
    result : LeaveGroupOut
        With `probabilities`, or of a measured outcome `expected` and `std`; `coefficients`, `covariances`, `sigma`.

    Raises
    ------
    TypeError
        If the estimator is none of this package's, such as a pipeline around one.
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
    check_is_fitted(estimator)
    if fitted_of(estimator) is None:
        raise TypeError(
            "approximate_leave_group_out needs a mixed or marginal model of this package (of a pipeline the last "
            f"step, with X as that step gets it); got {type(estimator).__name__}"
        )
    if not estimator.n_groups_:
        raise ValueError("the model was fitted without groups: there are none to leave out")
    if len(estimator.n_groups_) > 1:
        raise ValueError(
            f"the model has several grouping factors ({', '.join(estimator.n_groups_)}): no group can be left out "
            "alone. Fit a model with one of them, or fit again without each group"
        )
    what, fitted = "approximate_leave_group_out", estimator._fitted
    names, full, _ = estimator._fixed_effects()
    recipe, formula = estimator._recipe, fitted.formula
    kept = np.ones(X.shape[0] if hasattr(X, "shape") else len(X), dtype=bool)
    if formula is not None and is_frame(X):
        y, groups, sample_weight, _ = recipe.found_in(formula, X, y, groups, sample_weight, None)
        kept = recipe.kept_rows(formula, X, y, groups, sample_weight)
        X, y, groups, sample_weight = (rows_where(kept, values) for values in (X, y, groups, sample_weight))
    covariances = Lambda = without = None
    if isinstance(fitted, FittedLinear):
        without = estimator._linear_without(what, X, y, groups, sample_weight, offset, precision_weight)
        beta, Lambda = (values[:-1] for values in without.natural())
    elif isinstance(fitted, FittedMixed):
        beta, Lambda = estimator._without_clusters(what, X, y, groups, sample_weight, offset)
    else:
        beta = full - fitted.influence.astype(float)
    if Lambda is not None:
        covariances = Lambda @ np.swapaxes(Lambda, 1, 2)
    rows = estimator._read_new_rows(X, groups, offset, precision_weight)
    if not rows.groups:
        raise ValueError(f"{what} needs the groups of the rows: pass groups, as to fit")
    labels = fitted.factors[0].labels(rows.column) if fitted.factors else next(iter(rows.groups.values()))
    weights = read_weights(sample_weight, rows.X.shape[0])
    counted = None if weights is None else weights > 0
    code = lookup_known_codes(fitted.levels, labels, what, counted)
    coefficients = Table(beta, index=fitted.levels, columns=names)
    if without is not None:
        numbers = np.full((2, len(kept)), np.nan)
        numbers[:, kept] = predictions_without(fitted, without, rows, code, estimator.predict_effects)
        return LeaveGroupOut(None, coefficients, covariances, *numbers, without.sigma_of_outcome()[:-1])
    # a group that has no weight at all was left out from the start
    beta_of = np.concatenate([beta, full[None]])
    features = np.asarray(rows.X, dtype=np.float64)
    n_slopes = estimator.coef_.size  # of the first columns; others have random slopes only
    mean = np.einsum("ij,ij->i", features[:, :n_slopes], beta_of[code, len(names) - n_slopes :])
    if fitted.fit_intercept:
        mean += beta_of[code, 0]
    if rows.offset is not None:
        mean += rows.offset
    if not fitted.family.has_classes:
        found = np.full(len(kept), np.nan)
        found[kept] = mean
        return LeaveGroupOut(None, coefficients, covariances, found)
    averaged = covariances is not None and estimator.predict_effects in ("posterior", "marginal")
    sd = _spread(fitted, features, Lambda, code) if averaged else None
    found = np.full((len(kept), 2), np.nan)
    n_threads = effective_threads(estimator.n_threads, len(mean))
    small, is_event = fitted.family.tails(mean, sd, n_threads)
    found[kept] = probabilities(small, is_event == bool(fitted.event))
    return LeaveGroupOut(found, coefficients, covariances, classes=estimator.classes_)


def _spread(fitted, features, Lambda, code):
    """Standard deviations of rows' linear predictors between groups, Lambda being without each row's own."""
    factor = fitted.factors[0]
    Z = np.column_stack([np.ones(len(code)) if column < 0 else features[:, column] for column in factor.columns])
    of_all = RelativeCovariance(factor.blocks).lambda_(fitted.theta[0])
    return np.linalg.norm(np.einsum("ia,iab->ib", Z, np.concatenate([Lambda, of_all[None]])[code]), axis=1)
