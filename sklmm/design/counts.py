"""k successes of n trials are two weighted rows, n - k times 0 and k times 1: the one place that knows it."""

import numpy as np
import pandas as pd

from sklmm.messages import shown_label

_WHOLE = 1e-9  # relative: what arithmetic leaves of whole numbers


def expand_counts(X, successes, trials, groups=None):
    """Make two weighted rows of each line that has numbers of successes and trials.

    A line with k successes of n trials becomes a row of the class 0 with weight n - k and a row of the class 1 with
    weight k, in this order; rows of weight 0 are left out. A fit of these rows is that of all trials written out one
    by one: the log-likelihood differs from that of binomial counts by the logarithms of the binomial coefficients.

    Parameters
    ----------
    X : {array-like, dataframe} of shape (n_lines, n_features)
    successes, trials : array-like of shape (n_lines,)
        Whole numbers, successes no more than trials.
    groups : array-like or dataframe with a row a line, default=None

    Returns
    -------
    X : {ndarray, dataframe} of shape (n_rows, n_features)
        Frames keep their index, dtypes and categories: both rows of a line have its label.
    y : ndarray of shape (n_rows,)
        0 or 1.
    groups : as given, of n_rows rows, or None
    sample_weight : ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If numbers are missing, negative or not whole, or successes more than trials: with the first such line, counted
        from 0.

    Examples
    --------
    >>> from sklmm import expand_counts
    >>> X, y, groups, weights = expand_counts([[0.5], [1.5]], [2, 0], [5, 3], groups=["a", "b"])
    >>> X.ravel().tolist(), y.tolist(), groups.tolist(), weights.tolist()
    ([0.5, 0.5, 1.5], [0, 1, 0], ['a', 'a', 'b'], [3.0, 2.0, 3.0])
    """
    n_lines = X.shape[0] if hasattr(X, "shape") else len(X)
    if groups is not None and len(groups) != n_lines:
        raise ValueError(f"groups has {len(groups)} rows, but X has {n_lines}")
    successes, trials = read_counts(successes, trials, n_lines)
    line, y, weights = rows_of_counts(trials - successes, successes)
    if not line.size:
        raise ValueError("there are no trials: all numbers are 0")
    return rows_at(X, line), y.astype(np.int64), rows_at(groups, line), weights


def rows_of_counts(failures, successes, *, empty=False):
    """The rows of lines with these counts, a line's together, its failures first.

    Parameters
    ----------
    failures, successes : ndarray of shape (n_lines,)
    empty : bool
        Whether to keep rows of weight 0.

    Returns
    -------
    line : ndarray of int
        Of each row.
    y : ndarray of uint8
    weights : ndarray of float64
    """
    counts = np.column_stack([failures, successes]).astype(np.float64).ravel()
    rows = np.arange(counts.size) if empty else np.flatnonzero(counts)
    return rows // 2, (rows % 2).astype(np.uint8), counts[rows]


def read_counts(successes, other, n_lines, names=("successes", "trials"), failures=False):
    """Numbers of successes and of trials as float64, checked.

    Parameters
    ----------
    successes, other : array-like of shape (n_lines,)
    n_lines : int
    names : pair of str
        What both are called, for messages.
    failures : bool
        Whether the other numbers are those of failures, not of trials.

    Returns
    -------
    successes, trials : ndarray of shape (n_lines,)
    """
    read = [_whole_numbers(values, name, n_lines) for values, name in zip((successes, other), names, strict=True)]
    if failures:
        return read[0], read[0] + read[1]
    more = read[0] > read[1]
    if more.any():
        at = int(np.argmax(more))
        raise ValueError(
            f"{names[0]} are more than {names[1]} in {_lines(more)}: {read[0][at]:g} of {read[1][at]:g}; "
            f"{names[1]} are all trials, successes and failures"
        )
    return tuple(read)


def _whole_numbers(values, name, n_lines):
    """Counts as float64."""
    column = pd.Series(np.asarray(values).ravel() if not hasattr(values, "to_numpy") else values.to_numpy())
    if len(column) != n_lines:
        raise ValueError(f"{name} must have a number for each of the {n_lines} lines, but has {len(column)}")
    if column.isna().any():
        raise ValueError(f"{name} are missing in {_lines(column.isna().to_numpy())}")
    try:
        counts = column.to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        first = next(value for value in column if not isinstance(value, (int, float, np.number)))
        raise ValueError(f"{name} must be numbers, but hold {shown_label(first)}") from None
    whole = np.rint(counts)
    wrong = {
        "infinite": ~np.isfinite(counts),
        "negative": counts < 0,
        "no whole numbers": ~np.isclose(counts, whole, rtol=_WHOLE, atol=_WHOLE),
    }
    for what, lines in wrong.items():
        if lines.any():
            advice = "" if what != "no whole numbers" else (
                ". If these are shares, multiply them by the trials; weights of lines multiply the weights of both rows"
            )
            raise ValueError(f"{name} are {what} in {_lines(lines)}: {counts[np.argmax(lines)]:g}{advice}")
    return whole


def _lines(mask):
    n, first = np.count_nonzero(mask), int(np.argmax(mask))
    return f"line {first}" if n == 1 else f"{n:,} lines (first: line {first})"


def rows_at(values, index):
    """Rows of an array, a Series or a frame, of pandas or polars; None for None."""
    if values is None:
        return None
    if hasattr(values, "iloc"):
        return values.iloc[index]
    return (values if hasattr(values, "dtype") or hasattr(values, "get_columns") else np.asarray(values))[index]
