"""What a user hands to an estimator, read and checked: parameters, and X, which may hold groups and times."""

import functools

import numpy as np
import pandas as pd
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sklmm.design.columns import (
    as_slice,
    column_names,
    is_frame,
    name_column_without_numbers,
    refuse_dates,
    refuse_masked,
    resolve_columns,
    rows_where,
    take_columns,
    take_rows,
)
from sklmm.design.grouping import as_group_frame
from sklmm.design.observations import Rows

BY_ROW = ("predict", "decision_function")  # methods that predict a number a row; others predict two

def check_number(estimator, name, kind, what, is_valid):
    """Raise a ValueError unless the parameter is a number of this kind that `is_valid`."""
    value = getattr(estimator, name)
    is_bool = isinstance(value, (bool, np.bool_)) and name != "verbose"
    if is_bool or not isinstance(value, kind) or not is_valid(value):
        raise ValueError(f"{name} must be {what}, got {value!r}")


def read_rows(estimator, X, groups, columns, *, reset, checked=False):
    """Split X into features and columns of other roles, and validate all of them.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` if `reset`, else X is checked against them.
    groups : None or array-like
        Groups given as metadata.
    columns : dict of str -> None, str, int, list or callable
        By the parameter that names them: the grouping columns ("group_features"), and others of which there is one,
        "time_feature" and the like.
    checked : bool
        Whether X is known to be a data frame of finite numbers with the columns of the fit: a formula's.

    Returns
    -------
    rows : Rows
    positions : dict
        Likewise: a list of int for the groups, else an int or None.
    """
    group_columns, *others = columns.values()
    if group_columns is None and all(column is None for column in others):
        # A model of groups alone may have no features; without groups scikit-learn wants at least one.
        raw = X
        no_features = groups is not None if reset else estimator.n_features_in_ == 0
        least = 0 if no_features else 1
        X = X.to_numpy() if checked else _read_features(estimator, X, reset=reset, least_features=least)
        names = column_names(estimator)
        given = {} if groups is None else as_group_frame(groups, X.shape[0])
        positions = dict.fromkeys(columns) | {"group_features": []}
        return Rows(X, names, given, raw if is_frame(raw) else X, names), positions

    original, X = X, as_table(estimator, X)
    validate_data(estimator, X, skip_check_array=True, reset=reset)
    raw_names = column_names(estimator)
    groups_at = [] if group_columns is None else resolve_columns(group_columns, original, raw_names)
    roles, at = dict.fromkeys(groups_at, "group_features"), {"group_features": groups_at}
    for parameter, column in columns.items():
        if parameter == "group_features":
            continue
        found = [] if column is None else resolve_columns(column, original, raw_names, parameter)
        if column is not None and len(found) != 1:
            raise ValueError(f"{parameter} must name one column of X, but {column!r} names {len(found)}")
        for j in found:
            if j in roles:
                raise ValueError(f"column {raw_names[j]!r} of X is named in {roles[j]} and in {parameter}")
            roles[j] = parameter
        at[parameter] = found[0] if found else None
    kept = [j for j in range(len(raw_names)) if j not in roles]
    table = take_columns(X, as_slice(kept))
    names = [raw_names[j] for j in kept]
    features = _to_numbers(estimator, table, names)
    labels = {raw_names[j]: take_columns(X, j) for j in groups_at}
    if groups is not None:
        labels = as_group_frame(groups, features.shape[0])
    rows = Rows(features, names, labels, X, raw_names)
    for parameter, j in at.items():
        if parameter != "group_features" and j is not None:
            rows.set(parameter.removesuffix("_feature"), take_columns(X, j), f"{parameter}: column {raw_names[j]!r}")
    return rows, at


def _read_features(estimator, X, *, reset, least_features):
    refuse_masked(X, "X")
    if is_frame(X) and X.shape[1] == 0:  # it has no type to go by
        X = np.empty(X.shape)
    refuse_dates(X)
    try:
        return validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_features=least_features
        )
    except (ValueError, TypeError):
        name_column_without_numbers(X)
        raise


def _to_numbers(estimator, table, names):
    """The features as floats, whatever they came in; a float array stays the view it is."""
    if not names:
        return np.empty((table.shape[0], 0))
    refuse_dates(table, names)
    if hasattr(table, "iloc") and all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in table.dtypes):
        table = table.to_numpy()  # what scikit-learn would do in the end, after asking much of the frame
    try:
        return check_array(table, dtype=[np.float64, np.float32], input_name="X", estimator=estimator)
    except (ValueError, TypeError):
        name_column_without_numbers(table, names)
        raise


def as_table(estimator, X):
    """X as a frame or a 2-D array of any type, with scikit-learn's messages where it is neither."""
    if is_frame(X):
        return X
    refuse_masked(X, "X")
    if not hasattr(X, "dtype") and np.asarray(X).dtype.kind in "US":
        # Lists that mix labels and numbers: NumPy would turn every number into text.
        X = np.asarray(X, dtype=object)
    return check_array(X, dtype=None, ensure_all_finite=False, input_name="X", estimator=estimator)


def nan_where_incomplete(predict):
    """Decorate a method that predicts by row: NaN for rows with missing values, where a formula leaves those out.

    Else they are an error, and of other kinds of models scikit-learn's affair. With `as_frame` intervals come as a
    data frame with the index of X.
    """

    @functools.wraps(predict)
    def predict_complete_rows(self, X, groups=None, *args, offset=None, **kwargs):
        if offset is not None:
            kwargs["offset"] = offset
        if kwargs.pop("as_frame", False):
            intervals = predict_complete_rows(self, X, groups, *args, **kwargs)
            index = X.index if isinstance(X, pd.DataFrame) else None
            return pd.DataFrame(intervals, index=index, columns=["lower", "upper"])
        check_is_fitted(self)
        if self._fitted.formula is None or self._recipe.missing != "drop" or not is_frame(X):
            return predict(self, X, groups, *args, **kwargs)
        mask = self._fitted.formula.defined_rows(X)
        if mask.all():
            return predict(self, X, groups, *args, **kwargs)
        if not mask.any():
            one = np.full(len(mask) if predict.__name__ in BY_ROW else (len(mask), 2), np.nan)
            return (one, one.copy()) if kwargs.get("return_std") else one
        for name in ("offset", "precision_weight"):
            if kwargs.get(name) is not None:
                kwargs[name] = rows_where(mask, kwargs[name])
        found = predict(self, take_rows(X, mask), rows_where(mask, groups), *args, **kwargs)
        every = [_at_rows(mask, each) for each in (found if isinstance(found, tuple) else (found,))]
        return tuple(every) if isinstance(found, tuple) else every[0]

    return predict_complete_rows


def _at_rows(mask, values):
    """Values of the rows of a mask, and NaN for the others."""
    out = np.full((len(mask), *values.shape[1:]), np.nan)
    out[mask] = values
    return out
