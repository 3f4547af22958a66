"""The rows of one call: numbers apart from groups; weights and times, read and checked."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from sklmm.design.columns import one_dimensional, take_columns, take_rows

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
    offset : ndarray of shape (n,), float64, or None
        As `read_offset` gives it.
    precision_weight : ndarray of shape (n,), float64, or None
        The residual variance is divided by it.
    line : ndarray of shape (n,), int, or None
        The line of counts that each row is from, where a formula has made rows of lines.
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
    offset: np.ndarray | None = None
    precision_weight: np.ndarray | None = None
    line: np.ndarray | None = None

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
        self.offset = None if self.offset is None else self.offset[mask]
        self.precision_weight = None if self.precision_weight is None else self.precision_weight[mask]
        self.line = None if self.line is None else self.line[mask]

    def set(self, what, values, name=None):
        """Read and keep times ("time"), an "offset" or a "precision_weight"; `name` is what messages call it."""
        n_rows = self.X.shape[0]
        if what == "time":
            self.time = one_dimensional(values, "time", n_rows)
        else:
            read = read_offset if what == "offset" else read_precision
            setattr(self, what, read(values, n_rows, name or what))


def with_products(X, products):
    """An array with the products of columns behind them: a dict of name -> the columns that are multiplied."""
    columns = [np.prod([X[:, j] for j in multiplied], axis=0) for multiplied in (products or {}).values()]
    return np.column_stack([X, *columns]) if columns else X


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
    weights = check_array(sample_weight, dtype=np.float64, ensure_2d=False, order="C", input_name="sample_weight")
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


def read_offset(offset, n_rows, name="offset"):
    """An offset as float64, or None.

    Parameters
    ----------
    offset : array-like of shape (n_rows,), a number, or None
    n_rows : int
    name : str
        What it is called, for messages: the parameter or the column of X.

    Raises
    ------
    ValueError
        If it has another number of rows, is no numbers, or is missing or infinite somewhere.
    """
    if offset is None:
        return None
    if isinstance(offset, Real):
        offset = np.full(n_rows, float(offset))
    try:
        values = pd.Series(offset).to_numpy(dtype=np.float64, na_value=np.nan) if np.ndim(offset) == 1 else offset
        values = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, which are added to the linear predictor ({error})") from error
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.ravel()
    if values.ndim != 1:
        raise ValueError(f"{name} must be 1-dimensional, got an array of shape {values.shape}")
    if values.shape[0] != n_rows:
        raise ValueError(f"{name} has {values.shape[0]} rows, but X has {n_rows}")
    lost = ~np.isfinite(values)
    if lost.any():
        raise ValueError(
            f"{name} is missing (NaN) or infinite in {np.count_nonzero(lost)} of {n_rows} rows (first: row "
            f"{np.argmax(lost)}). It is added to the linear predictor, as the logarithm of an exposure is: every row "
            "needs a finite one"
        )
    return values


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


def known_precision(column, name):
    """Precision weights of new rows as float64; NaN where they are missing, and nothing is known of errors."""
    known = column.notna().to_numpy()
    out = np.full(known.size, np.nan)
    if known.any():
        out[known] = read_precision(column[known], np.count_nonzero(known), name)
    return out


def read_precision(weights, n_rows, name="precision_weight"):
    """Precision weights as float64: finite numbers above 0."""
    values = check_array(weights, dtype=np.float64, ensure_2d=False, order="C", input_name=name)
    if values.shape != (n_rows,):
        raise ValueError(f"{name} has the shape {values.shape}, but X has {n_rows} rows")
    if not (values > 0).all():
        raise ValueError(
            f"{name} must be above 0, as a residual variance is divided by it; {np.count_nonzero(values <= 0)} are not"
        )
    return values


def rows_by_level(codes, weights, counts):
    """Rows of each level: `counts`, or the sums of their weights."""
    return counts if weights is None else np.bincount(codes, weights=weights, minlength=len(counts))
