"""What comes in, read and checked: tables and their columns, grouping columns, weights, times, parameters."""

import datetime
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import validate_data

from ._text import listed, similar_names
from .design.grouping import as_group_frame

# What all rows may count for together. The rounding error of a log-likelihood is some 1e-16 of it, which leaves two
# decimals to 1e13 rows; squares of less than the other number underflow.
FEWEST_ROWS, MOST_ROWS = 1e-150, 1e13


@dataclass
class Rows:
    """The rows of one call: numbers apart from groups.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
        The features, without the grouping columns; a view of the caller's array where that is possible.
    names : list of str
        Their names.
    groups : dict of str -> 1-D array-like
        The grouping columns by name; empty without groups.
    raw : object
        The caller's X as a frame or array, with all its columns.
    raw_names : list of str
    time : 1-D array-like or None
        The column of times, where X has one.
    absent_groups : sequence of str
        Grouping columns of the fit that new rows came without: their labels are missing in `groups`.
    """

    X: np.ndarray
    names: list
    groups: dict
    raw: object
    raw_names: list
    time: object = None
    absent_groups: tuple = ()

    def column(self, name):
        """The labels of a grouping column, or a feature used as one in an interaction."""
        if name in self.groups:
            return self.groups[name]
        return take_columns(self.raw, self.raw_names.index(name))

    def add_products(self, products):
        """Put products of features behind them, see `with_products`."""
        if products:
            self.X, self.names = with_products(self.X, products), [*self.names, *products]

    def keep(self, mask):
        """The rows where `mask` holds."""
        self.X = self.X[mask]
        self.groups = {name: take_rows(labels, mask) for name, labels in self.groups.items()}
        self.raw = take_rows(self.raw, mask)
        self.time = None if self.time is None else take_rows(self.time, mask)


def with_products(X, products):
    """An array with the products of columns behind them: a dict of name -> the columns that are multiplied."""
    columns = [np.prod([X[:, j] for j in multiplied], axis=0) for multiplied in (products or {}).values()]
    return np.column_stack([X, *columns]) if columns else X


def check_number(estimator, name, kind, what, is_valid):
    """Raise a ValueError unless the parameter is a number of this kind that `is_valid`."""
    value = getattr(estimator, name)
    is_bool = isinstance(value, (bool, np.bool_)) and name != "verbose"
    if is_bool or not isinstance(value, kind) or not is_valid(value):
        raise ValueError(f"{name} must be {what}, got {value!r}")


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


def read_rows(estimator, X, groups, group_columns, time_column=None, *, reset):
    """Split X into features, grouping columns and times, and validate all of them.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` if `reset`, else X is checked against them.
    groups : None or array-like
        Groups given as metadata.
    group_columns : None, str, int, list or callable
        Grouping columns of X.
    time_column : None, str, int or callable
        Column of X that holds times.

    Returns
    -------
    rows : Rows
    group_columns : list of int
        Positions of the grouping columns.
    time_column : int or None
    """
    if group_columns is None and time_column is None:
        # A model of groups alone may have no features; without groups scikit-learn wants at least one.
        raw = X
        no_features = groups is not None if reset else estimator.n_features_in_ == 0
        X = _read_features(estimator, X, reset=reset, least_features=0 if no_features else 1)
        names = column_names(estimator)
        given = {} if groups is None else as_group_frame(groups, X.shape[0])
        return Rows(X, names, given, raw if is_frame(raw) else X, names), [], None

    original, X = X, as_table(estimator, X)
    validate_data(estimator, X, skip_check_array=True, reset=reset)
    raw_names = column_names(estimator)
    positions = [] if group_columns is None else resolve_columns(group_columns, original, raw_names)
    times = [] if time_column is None else resolve_columns(time_column, original, raw_names, "time_feature")
    if len(times) > 1 or (time_column is not None and not times):
        raise ValueError(f"time_feature must name one column of X, but {time_column!r} names {len(times)}")
    if set(times) & set(positions):
        raise ValueError(f"column {raw_names[times[0]]!r} of X is named in group_features and in time_feature")
    taken = {*positions, *times}
    kept = [j for j in range(len(raw_names)) if j not in taken]
    table = take_columns(X, as_slice(kept))
    names = [raw_names[j] for j in kept]
    features = _to_numbers(estimator, table, names)
    labels = {raw_names[j]: take_columns(X, j) for j in positions}
    if groups is not None:
        labels = as_group_frame(groups, features.shape[0])
    time = take_columns(X, times[0]) if times else None
    return Rows(features, names, labels, X, raw_names, time), positions, (times[0] if times else None)


def _read_features(estimator, X, *, reset, least_features):
    _refuse_masked(X, "X")
    if is_frame(X) and X.shape[1] == 0:  # it has no type to go by
        X = np.empty(X.shape)
    _refuse_dates(X)
    try:
        return validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_features=least_features
        )
    except (ValueError, TypeError):
        _name_column_without_numbers(X)
        raise


def _to_numbers(estimator, table, names):
    """The features as floats, whatever they came in; a float array stays the view it is."""
    if not names:
        return np.empty((table.shape[0], 0))
    _refuse_dates(table, names)
    if hasattr(table, "iloc") and all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in table.dtypes):
        table = table.to_numpy()  # what scikit-learn would do in the end, after asking much of the frame
    try:
        return check_array(table, dtype=[np.float64, np.float32], input_name="X", estimator=estimator)
    except (ValueError, TypeError):
        _name_column_without_numbers(table, names)
        raise


def as_table(estimator, X):
    """X as a frame or a 2-D array of any type, with scikit-learn's messages where it is neither."""
    if is_frame(X):
        return X
    _refuse_masked(X, "X")
    if not hasattr(X, "dtype") and np.asarray(X).dtype.kind in "US":
        # Lists that mix labels and numbers: NumPy would turn every number into text.
        X = np.asarray(X, dtype=object)
    return check_array(X, dtype=None, ensure_all_finite=False, input_name="X", estimator=estimator)


def _refuse_masked(values, name):
    """Raise for masked values, which scikit-learn would take for those under the mask."""
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        raise ValueError(f"{name} is a masked array, {values.mask.sum():,} of whose values are missing")


def _refuse_dates(X, names=None):
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


def _name_column_without_numbers(X, names=None):
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
    _refuse_masked(values, name)
    if not hasattr(values, "dtype") or getattr(values, "ndim", 1) != 1 or not hasattr(values, "__len__"):
        values = column_or_1d(values, warn=True)
    if len(values) != n_rows:
        raise ValueError(f"{name} has {len(values)} rows, but X has {n_rows}")
    return values


def read_weights(sample_weight, n_rows):
    """Row counts as float64, or None for all ones.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or if they add up to 0, to less than FEWEST_ROWS or more than MOST_ROWS.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_rows, float(sample_weight))
    weights = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, order="C", input_name="sample_weight"
    )
    if weights.ndim != 1:
        raise ValueError(f"sample_weight must be 1-dimensional, got an array of shape {weights.shape}")
    if weights.shape[0] != n_rows:
        raise ValueError(f"sample_weight has {weights.shape[0]} rows, but X has {n_rows}")
    if weights.min() < 0:
        raise ValueError(
            "sample_weight counts rows and can't be negative; "
            f"{np.count_nonzero(weights < 0)} of its values are negative"
        )
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: there is nothing to fit")
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not FEWEST_ROWS <= total <= MOST_ROWS:
        trouble = "numbers so small underflow"
        if total > MOST_ROWS:
            trouble = f"beyond {MOST_ROWS:g}, double precision loses differences of 0.01 between log-likelihoods"
        raise ValueError(
            f"sample_weight counts rows, and these add up to {total:.3g}; {trouble}. Weights that are no counts can be "
            "divided by their mean"
        )
    return weights


def read_times(time):
    """Times as floats: numbers as they are, dates as days, periods as their numbers.

    Raises
    ------
    ValueError
        If times are missing or not finite.
    ValueError or TypeError
        If they are neither numbers nor dates.
    """
    values = time.array if isinstance(time, (pd.Series, pd.Index)) else time
    values = pd.Series(values if isinstance(values, pd.api.extensions.ExtensionArray) else np.asarray(values))
    missing = values.isna().to_numpy()
    if not missing.any():
        if values.dtype == object:
            kind = pd.api.types.infer_dtype(values)
            if kind in ("date", "datetime", "datetime64", "timedelta", "timedelta64", "period"):
                values = pd.Series(pd.PeriodIndex(values) if kind == "period" else pd.Series(values.tolist()))
            if kind == "date":
                values = pd.to_datetime(values)
        if isinstance(values.dtype, pd.PeriodDtype):
            values = values.astype("int64")
        elif values.dtype.kind == "M":
            values = (values - values.min()) / pd.Timedelta(days=1)
        elif values.dtype.kind == "m":
            values = values / pd.Timedelta(days=1)
        elif isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
            values = values.cat.codes
        elif values.dtype.kind == "c":
            raise ValueError("time must hold numbers or dates, not complex numbers")
        try:
            values = values.to_numpy(dtype=np.float64)
        except (ValueError, TypeError) as error:
            advice = "; pandas.to_datetime makes text dates" if values.dtype.kind not in "biuf" else ""
            raise type(error)(f"time must hold numbers or dates ({error}){advice}") from error
        missing = ~np.isfinite(values)
    if missing.any():
        raise ValueError(
            f"time is missing (NaN) or infinite in {np.count_nonzero(missing)} rows (first: row {np.argmax(missing)}); "
            "drop these rows before the fit"
        )
    return values


def rows_by_level(codes, weights, counts):
    """Rows of each level: `counts`, or the sums of their weights."""
    return counts if weights is None else np.bincount(codes, weights=weights, minlength=len(counts))
