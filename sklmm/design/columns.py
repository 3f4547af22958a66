"""Tables and their columns: taken, found by name or position, and refused where they hold no numbers."""

import datetime
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d

from sklmm.messages import listed, similar_names

# Reading X --------------------------------------------------------------------------------------------------


def is_frame(X):
    """Whether X is a pandas or polars DataFrame, whose columns may differ in type."""
    return hasattr(X, "iloc") or hasattr(X, "get_columns")


def take_columns(X, key):
    """Columns of a frame or 2-D array: one for an integer, else a slice or list of them."""
    return X.iloc[:, key] if hasattr(X, "iloc") else X[:, key]


def take_rows(values, mask):
    """Rows of a 1-D or 2-D array, Series or frame where a boolean mask holds."""
    if hasattr(values, "filter") and not hasattr(values, "iloc"):  # polars
        return values.filter(mask)
    return values[mask]


def rows_where(mask, values):
    """Rows of an argument where a mask holds; what has no entry a row (None, a name) as it is."""
    if values is None or isinstance(values, str) or not hasattr(values, "__len__") or len(values) != len(mask):
        return values
    return take_rows(values if hasattr(values, "filter") else np.asarray(values), mask)


def refuse_masked(values, name):
    """Raise for masked values, which scikit-learn would take for those under the mask."""
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        raise ValueError(f"{name} is a masked array, {values.mask.sum():,} of whose values are missing")


def refuse_dates(X, names=None):
    """Raise where a column holds dates or lengths of time, which would become numbers of some unit in silence."""
    if is_frame(X):
        columns = {name: take_columns(X, j) for j, name in enumerate(X.columns if names is None else names)}
    else:
        X = X if hasattr(X, "dtype") else np.asarray(X, dtype=object)
        if X.dtype.kind not in "mMO" or X.ndim != 2:
            return
        columns = {name: X[:, j] for j, name in enumerate(names or [f"x{j}" for j in range(X.shape[1])])}
    for name, column in columns.items():
        kind = getattr(column.dtype, "kind", None)
        if kind == "O":
            kind = pd.api.types.infer_dtype(column, skipna=True)
        elif kind is None:  # polars
            kind = str(column.dtype).split("(")[0].lower()
        if kind in ("M", "date", "datetime", "datetime64", "period"):
            raise ValueError(
                f"column {name!r} of X holds dates: make them numbers, for example days since the first; in pandas, "
                f"(X[{name!r}] - X[{name!r}].min()) / pd.Timedelta(days=1)"
            )
        if kind in ("m", "time", "duration", "timedelta", "timedelta64"):
            raise ValueError(
                f"column {name!r} of X holds lengths of time: make them numbers of a unit of your choice; in pandas, "
                f"X[{name!r}] / pd.Timedelta(days=1)"
            )


def is_temporal(dtype):
    """Whether a column of this type, of pandas or polars, holds dates, times or durations."""
    if hasattr(dtype, "is_temporal"):  # polars
        return dtype.is_temporal()
    return dtype.kind in "mM" or dtype.type in (pd.Period, datetime.date, datetime.time)  # the last two: Arrow


def name_column_without_numbers(X, names=None):
    """Where a conversion failed, raise an error that names the first column that holds no numbers."""
    if not hasattr(X, "shape") or len(X.shape) != 2:
        return
    names = [str(name) for name in (names if names is not None else getattr(X, "columns", []))]
    for j, name in enumerate(names):
        column = np.asarray(take_columns(X, j))
        if column.dtype.kind in "biuf":
            continue
        try:
            column.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise type(error)(
                f"column {name!r} of X is not numeric ({error}): encode it as numbers, "
                "or name it in group_features if it holds groups"
            ) from error


def as_slice(columns):
    """A slice for columns that lie side by side, so that taking them from an array is a view, not a copy."""
    if columns and columns == list(range(columns[0], columns[-1] + 1)):
        return slice(columns[0], columns[-1] + 1)
    return columns


def column_names(estimator):
    """Names of the columns of X: those of the data frame, or x0, x1, ..."""
    names = getattr(estimator, "feature_names_in_", None)
    return [f"x{j}" for j in range(estimator.n_features_in_)] if names is None else list(names)


def resolve_columns(group_features, X, names, parameter="group_features"):
    """Positions of the columns that `group_features` names.

    Parameters
    ----------
    group_features : str, int, list of them, or callable
        A callable gets X, as scikit-learn's column selectors do.
    X : the caller's
    names : list of str
    parameter : str
        What `group_features` is called in messages.
    """
    chosen = group_features(X) if callable(group_features) else group_features
    if isinstance(chosen, (str, Integral)):
        chosen = [chosen]
    chosen = np.atleast_1d(chosen) if not isinstance(chosen, (list, tuple)) else chosen
    if isinstance(chosen, np.ndarray) and chosen.dtype == bool:
        chosen = np.flatnonzero(chosen)
    positions = []
    for item in chosen:
        if isinstance(item, str):
            if item not in names:
                raise ValueError(f"{parameter} names {item!r}, which is no column of X{_advice(item, X, names)}")
            positions.append(names.index(item))
        elif isinstance(item, Integral) and not isinstance(item, (bool, np.bool_)):
            if not -len(names) <= item < len(names):
                raise ValueError(
                    f"{parameter} asks for column {item} of X, which has {len(names)} columns; where columns come and "
                    "go, as in feature selection, put it last and count from the end (-1)"
                )
            positions.append(int(item) % len(names))
        else:
            raise TypeError(
                f"{parameter} must be a column name, a column position, a list of them, or a callable that "
                f"gives them; got {group_features!r}"
            )
    if len(set(positions)) < len(positions):
        raise ValueError(f"{parameter}={group_features!r} names a column twice")
    return positions


def _advice(name, X, names):
    """What to do about a name that no column has."""
    if not is_frame(X):
        return (
            f": its {len(names)} columns came without names, as those of arrays do, and feature selectors, bagging and "
            "transformers make arrays of data frames. Give the position where columns stay in place (-1 is the last), "
            "pass groups= with metadata routing, or put transformers into make_grouped_pipeline"
        )
    similar = similar_names(name, [str(known) for known in names])
    if not similar:
        return f"; its columns are {listed(map(repr, names))}"
    return f"; did you mean {' or '.join(map(repr, similar))}?" + (
        " ColumnTransformer puts such prefixes before names, unless verbose_feature_names_out=False; see also "
        "make_grouped_pipeline"
        if similar[0].endswith(f"__{name}")
        else ""
    )


def match_group_names(given, fitted):
    """Groups of a new call under their names at fit; unnamed groups are matched by their order, some may be absent."""
    if set(fitted) <= set(given) or set(given) < set(fitted):
        return {name: given[name] for name in fitted if name in given}

    def unnamed(names):
        return names == ["group"] or names == [f"group{j}" for j in range(len(names))]

    names = list(given)
    if len(names) == len(fitted) and (unnamed(names) or unnamed(fitted)):
        return dict(zip(fitted, given.values(), strict=True))
    raise ValueError(f"groups is named {names}, but the model was fitted with groups named {fitted}")


# Reading y and weights --------------------------------------------------------------------------------------


def one_dimensional(values, name, n_rows):
    """`values` as a 1-D array with one entry a row; a categorical or string Series stays as it is."""
    refuse_masked(values, name)
    if not hasattr(values, "dtype") or getattr(values, "ndim", 1) != 1 or not hasattr(values, "__len__"):
        values = column_or_1d(values, warn=True)
    if len(values) != n_rows:
        raise ValueError(f"{name} has {len(values)} rows, but X has {n_rows}")
    return values


