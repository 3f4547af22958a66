"""Columns of a user's data frame as a formula takes them: NumPy's numbers, truth values, text and categories."""

import numpy as np
import pandas as pd

from sklmm.design.columns import is_temporal
from sklmm.design.outcomes import plain_labels
from sklmm.exceptions import NumbersAsLabelsWarning
from sklmm.messages import listed, shown_label, similar_names, warn

FEW_LEVELS, NUMBERS = 10, 0.8  # with more levels, of which so many are numbers, text is a column of numbers gone wrong


def take_columns(data, names, where):
    """Columns of a pandas or polars data frame as a pandas one, rows numbered.

    Parameters
    ----------
    data : DataFrame
    names : list of str
    where : str
        What names them, for messages.

    Raises
    ------
    TypeError
        If there is no data frame.
    ValueError
        If it lacks one of the columns, or has two of its name.
    """
    if not hasattr(data, "columns"):
        raise TypeError(
            f"{where} takes its variables from a data frame with the columns {listed(map(repr, names))}; got "
            f"{type(data).__name__}"
        )
    known = list(data.columns)
    for name in names:
        if name not in known:
            similar = similar_names(name, list(map(str, known)))
            advice = f"did you mean {' or '.join(map(repr, similar))}?" if similar else "there are " + listed(
                map(repr, known)
            )
            raise ValueError(f"{where} names {name!r}, which is no column of the data; {advice}")
        if known.count(name) > 1:
            raise ValueError(f"{where} names {name!r}, but the data have {known.count(name)} columns of that name")
    if hasattr(data, "iloc"):
        return data[names].reset_index(drop=True)
    return pd.DataFrame({name: _from_polars(data[name]) for name in names}, index=range(len(data)))


def _from_polars(column):
    if column.dtype.is_temporal():
        return column.to_numpy()
    if hasattr(column.dtype, "categories") and str(column.dtype).startswith("Enum"):
        return pd.Categorical(column.to_list(), categories=column.dtype.categories.to_list())
    return column.to_list()


def complete_rows(frame):
    """Mask of the rows without missing values."""
    return ~frame.isna().any(axis=1).to_numpy()


def refuse_incomplete(frame, advice="fill them in or drop these rows (from_formula: missing='drop')"):
    """Raise where values are missing, with their number by column."""
    absent = frame.isna()
    n_rows = np.count_nonzero(absent.any(axis=1))
    if n_rows:
        counts = listed(f"{name!r} ({n:,})" for name, n in absent.sum().items() if n)
        raise ValueError(f"{n_rows:,} of {len(frame):,} rows have missing values, in {counts}: {advice}")


def plain_columns(frame):
    """A frame without missing values whose columns formulaic can read: no nullable, Arrow or sparse types."""
    return pd.DataFrame({name: _plain(frame[name]) for name in frame}, index=frame.index)


def _plain(column):
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biuf":
        return column
    if isinstance(dtype, pd.CategoricalDtype):
        # as in R: a level that does not occur has no coefficient
        values = column.array.remove_unused_categories()
        if not isinstance(values.categories.dtype, np.dtype):
            values = values.rename_categories(_plain(values.categories.to_series()).tolist())
        return pd.Series(values, index=column.index)
    if isinstance(dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    elif is_temporal(dtype):
        return column
    elif isinstance(dtype, pd.api.extensions.ExtensionDtype):
        kind = object
        if pd.api.types.is_numeric_dtype(dtype):
            whole = pd.api.types.is_integer_dtype(dtype)
            kind = bool if pd.api.types.is_bool_dtype(dtype) else np.int64 if whole else np.float64
        column = pd.Series(column.to_numpy(dtype=kind), index=column.index, dtype=kind)
    values = plain_labels(column.to_numpy())
    if values.dtype == object and pd.api.types.infer_dtype(values) == "integer":
        values = values.astype(np.float64)  # too large for integers
    if values.dtype.kind == "c":
        raise ValueError(f"formula: column {column.name!r} holds complex numbers")
    return pd.Series(values, index=column.index, dtype=values.dtype)


def is_number(column):
    """Whether a plain column holds numbers or truth values, rather than labels or dates."""
    return column.dtype.kind in "biuf"


def refuse_infinite(frame):
    for name in frame:
        infinite = np.isinf(frame[name].to_numpy()) if frame[name].dtype.kind == "f" else np.zeros(1, dtype=bool)
        if infinite.any():
            raise ValueError(f"formula: column {name!r} is infinite in {np.count_nonzero(infinite):,} rows")


def refuse_dates(frame, alone):
    """Raise for a column of dates that a formula names by itself, in no call.

    Parameters
    ----------
    frame : DataFrame
        Plain columns.
    alone : collection of str
        The columns that are terms, or factors of products, by themselves.
    """
    for name in frame:
        column = frame[name]
        dates = is_temporal(column.dtype) or pd.api.types.infer_dtype(column) in ("date", "datetime", "timedelta")
        if dates and name in alone:
            raise ValueError(
                f"formula: column {name!r} holds dates or durations: make it a column of numbers, such as the days "
                f"since the first date, (d - d.min()).dt.days, or its parts, as in C({name}.dt.month)"
            )


def warn_of_numbers(frame, alone):
    """Warn of text that is numbers but for a few values, such as "?": each of its numbers is a level.

    Parameters
    ----------
    frame, alone
        As in `refuse_dates`.
    """
    for name in alone:
        column = frame[name]
        if column.dtype != object and not isinstance(column.dtype, pd.CategoricalDtype):
            continue
        levels = pd.Series(column.unique(), dtype=object)
        numbers = pd.to_numeric(levels, errors="coerce")
        others = levels[numbers.isna()]
        if len(levels) <= FEW_LEVELS or len(others) > (1 - NUMBERS) * len(levels):
            continue
        # whole numbers alone may well be codes, such as those of post
        if len(others) or (numbers % 1 != 0).any():
            beside = f", and among them {listed(map(shown_label, others), 3)}" if len(others) else ""
            warn(
                f"column {name!r} holds numbers as text{beside}: each of its {len(levels):,} values is a level of a "
                "factor. If numbers are meant, use pandas.to_numeric(..., errors='coerce'); if levels, write "
                f"C({name})",
                NumbersAsLabelsWarning,
            )


# Columns of the design ----------------------------------------------------------------------------------------


def undefined_rows(X):
    """The rows in which columns are not defined, by the first such column."""
    seen, missed = np.zeros(len(X), dtype=bool), {}
    for name in X:
        rows = ~np.isfinite(X[name].to_numpy()) & ~seen
        if rows.any():
            missed[name] = np.flatnonzero(rows)
            seen |= rows
    return missed


def in_which_not_defined(missed, n_rows):
    """What is not defined where, in words, with what to do."""
    texts = [f"{name!r} is not defined in {len(rows):,} of {n_rows:,} rows" for name, rows in missed.items()]
    advice = "leave these rows out (from_formula: missing='drop')"
    if any(len(rows) == n_rows > 1 for rows in missed.values()):
        advice = "of calls within calls make the inner ones columns of the data"
    return f"formula: {listed(texts, 3)}; {advice}"
