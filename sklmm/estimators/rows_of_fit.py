"""Rows that a fitted model is shown again: those of the fit, for methods that fit once more, or those of new groups."""

import numpy as np

from sklmm.design.columns import is_frame, one_dimensional
from sklmm.design.formula import weights_by_formula
from sklmm.design.observations import read_weights

SAME_ROWS = 1e-6  # a number of rows, or a log-likelihood, that differs by more, relatively, is not that of the fit


def read_observations(estimator, rows, y, sample_weight):
    """Coded outcomes and weights that belong to rows; rows of weight 0 are left out of all three."""
    y = one_dimensional(y, "y", rows.X.shape[0])
    weights = read_weights(sample_weight, rows.X.shape[0])
    # A weight of 0 leaves the row's label in: with a mode at its prior, the group would count as known.
    if weights is not None and not weights.all():
        mask = weights > 0
        rows.keep(mask)
        y, weights = np.asarray(y)[mask], weights[mask]
    return estimator._read_target(y), weights


def weights_of_rows(estimator, X, sample_weight):
    """The same, and an error if there are none for as many rows as a fit had that counted them by weights."""
    sample_weight = weights_by_formula(estimator, X, sample_weight)
    if sample_weight is None and len(X) == estimator._fitted.n_weighted_rows:
        raise ValueError(
            f"the fit counted its rows by sample_weight, and here are {len(X):,} rows, as many as it had: pass "
            "sample_weight, too (1 for rows that count once)"
        )
    return sample_weight


def check_precision(estimator, rows, what):
    """An error where the fit had weights that variances are divided by, and these rows come without."""
    if not estimator._fitted.had_precision:
        return
    if rows.precision_weight is not None and np.isnan(rows.precision_weight).any():
        raise ValueError(f"{what}: precision_weight is missing (NaN) in {np.isnan(rows.precision_weight).sum()} rows")
    if rows.precision_weight is None:
        raise ValueError(
            f"the model was fitted with precision weights: {what} needs those of these rows, too: pass "
            "precision_weight=, or name their column of X in precision_weight_feature (of a formula's model: in "
            "precision_weight of from_formula)"
        )


def read_rows_of_fit(
    estimator, what, X, y, groups, sample_weight, offset=None, time=None, needs_time=False, precision_weight=None
):
    """The rows of the fit, passed once more: checked as `fit` did.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression or GEELogisticRegression
    what : str
        What needs them, for messages.
    X, y, groups, sample_weight, offset, time, precision_weight
        As to `fit`. A formula finds in X what is missing.
    needs_time : bool
        Whether `time` must be given.

    Returns
    -------
    rows : Rows
    target : ndarray of uint8
    weights : ndarray or None

    Raises
    ------
    ValueError
        If something is missing, or the number of rows is not that of the fit.
    """
    formula = estimator._fitted.formula
    line = None
    if formula is not None and is_frame(X):
        given = X, y, groups, sample_weight, time
        X, y, groups, sample_weight, time, line = estimator._recipe.rows_and_lines_of_fit(formula, *given)
    needed = {"X": X, "y": y}
    if estimator.n_groups_ and not (estimator._fitted.group_columns or (formula is not None and formula.group_names)):
        needed["groups"] = groups
    if needs_time:
        needed["time"] = time
    if estimator._fitted.takes_offset:
        needed["offset"] = offset
    if estimator._fitted.takes_precision:
        needed["precision_weight"] = precision_weight
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        passed = ", ".join(f"{name}={name}" for name in missing)
        if formula is not None and X is None:
            passed = "X=data, the data frame of the fit"
        raise ValueError(f"{what} needs the rows of the fit, which a fitted model does not keep: pass {passed}")
    rows = estimator._read_new_rows(X, groups if estimator.n_groups_ else None, offset, precision_weight)
    check_precision(estimator, rows, what)
    rows.line = line
    if needs_time:
        rows.time = one_dimensional(time, "time", rows.X.shape[0])
    target, weights = read_observations(estimator, rows, y, sample_weight)
    n_obs = float(target.size if weights is None else weights.sum())
    if abs(n_obs - estimator.n_obs_) > SAME_ROWS * estimator.n_obs_:
        raise ValueError(
            f"{what} needs the rows of the fit: it had {estimator.n_obs_:,.10g} rows, here are {n_obs:,.10g}"
        )
    return rows, target, weights
