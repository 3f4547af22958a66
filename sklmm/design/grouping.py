"""Group labels -> integer codes, without ever making a column per level.

A grouping factor is one integer a row (its code, -1 for unknown) and one `pandas.Index` of levels. Labels
compare as Python compares them: 1, 1.0 and True are one label, "1" is another. Whatever the container (numpy,
pandas, polars, a list) and the order of the rows, equal labels get equal codes.
"""

import numpy as np
import pandas as pd

from sklmm.messages import shown_label

# A table indexed by label beats a hash table as long as it stays in the cache or near the size of the data.
_TABLE_MIN = 1 << 16
_TABLE_PER_ROW = 4
_FEW_PER_LEVEL = 16  # fewer labels than levels by this factor are not worth a table of their own

# What labels are, as pandas infers it; labels of different kinds are never equal.
_KINDS = {
    **dict.fromkeys(("boolean", "integer", "floating", "mixed-integer-float", "decimal", "complex"), "numbers"),
    **dict.fromkeys(("string", "empty"), "text"),
    **dict.fromkeys(("datetime64", "datetime"), "timestamps"),
    **dict.fromkeys(("timedelta64", "timedelta"), "durations"),
    "date": "dates",
    "period": "periods",
    "interval": "intervals",
    "bytes": "bytes",
}

_HASHABLE = "group labels must be numbers, strings, dates or other hashable values"


def encode_groups(labels, name):
    """Codes and levels of one grouping factor.

    Parameters
    ----------
    labels : 1-D array-like of length n
        Numbers, strings, categories, dates, booleans; numpy, pandas, polars or a list.
    name : str
        The factor's name, for the error message.

    Returns
    -------
    codes : ndarray of shape (n,), dtype intp
        Row i belongs to `levels[codes[i]]`.
    levels : pandas.Index
        The levels that occur: categories in their own order, others sorted. Whole floats become integers.

    Raises
    ------
    ValueError
        If labels are missing (None, NaN, NaT, pandas.NA) or cannot be hashed.
    """
    values, absent = _column(labels)
    try:
        codes, levels = _encode(values, absent)
    except TypeError as error:  # pandas.factorize on lists, sets, ...
        raise ValueError(f"factor {name!r}: {_HASHABLE} ({error})") from error
    if codes.size and codes.min() < 0:
        missing = np.flatnonzero(codes < 0)
        rows = "1 row has" if missing.size == 1 else f"{missing.size} rows have"
        raise ValueError(
            f"factor {name!r}: {rows} a missing group label (first at row {missing[0]}); drop such rows "
            "before the fit or give them a label of their own"
        )
    return codes, levels


def lookup_codes(levels, labels):
    """Codes of labels among known levels, -1 where unknown or missing.

    Parameters
    ----------
    levels : pandas.Index
        As `encode_groups` returned them.
    labels : 1-D array-like of length n
        They may come in another container or dtype than at the fit.

    Returns
    -------
    codes : ndarray of shape (n,), dtype intp
    """
    values, absent = _column(labels)
    if isinstance(values, pd.Categorical):
        codes = _take(_match(levels, values.categories), values.codes)
    elif _is_kind(values, "iu") and levels.dtype == values.dtype:
        codes = _lookup_integers(levels, values)
    elif _is_kind(values, "iufb") and levels.dtype.kind in "iuf":
        codes = levels.get_indexer(values)
    else:
        try:
            position, uniques = pd.factorize(values)
        except TypeError as error:
            raise ValueError(f"{_HASHABLE} ({error})") from error
        codes = _take(_match(levels, uniques), position)
    codes = np.asarray(codes, dtype=np.intp)
    return codes if absent is None else np.where(absent, -1, codes)


def lookup_known_codes(levels, labels, what, counted=None):
    """Codes of labels that must be known, as those of the rows of a fit.

    Parameters
    ----------
    levels, labels
        As in `lookup_codes`.
    what : str
        What needs them, for the message.
    counted : ndarray of bool or None
        Rows that must be known; None: all.

    Raises
    ------
    ValueError
        If some are not.
    """
    codes = lookup_codes(levels, labels)
    unseen = codes < 0 if counted is None else (codes < 0) & counted
    if unseen.any():
        difference = other_type(levels, labels)
        raise ValueError(
            f"{what} needs the rows of the fit: {np.count_nonzero(unseen)} rows are of groups that the fit did not see"
            + (f": {difference}" if difference else " (if they had no weight in it, pass sample_weight)")
        )
    return codes


def other_type(levels, labels):
    """What differs, in words, where labels are of another type than the known levels, so that none can be equal.

    Parameters
    ----------
    levels : pandas.Index
    labels : 1-D array-like

    Returns
    -------
    str or None
        None also where either holds labels of several types, or none at all.
    """
    values, absent = _column(labels)
    missing = np.asarray(pd.isna(values)) if absent is None else absent
    values = values[~missing]
    if len(values) == 0 or len(levels) == 0:
        return None
    known, given = _kind(levels), _kind(values)
    if known is None or given is None or known == given:
        return None
    return f"they are {given} here ({shown_label(values[0])}), but were {known} at the fit ({shown_label(levels[0])})"


def _kind(labels):
    labels = getattr(labels, "categories", labels)
    kind = _KINDS.get(pd.api.types.infer_dtype(labels))
    return "timestamps with a time zone" if getattr(labels.dtype, "tz", None) is not None else kind


def as_group_frame(groups, n_rows):
    """The grouping columns that came as metadata, by name.

    A 1-D `groups` is one factor, named after its Series, else "group"; a data frame has a factor a column; a
    2-D array the factors "group0", "group1", ...

    Returns
    -------
    dict of str to 1-D array-like

    Raises
    ------
    ValueError
        On a wrong shape, a wrong number of rows or a name that occurs twice.
    """
    if _is_polars(groups) and hasattr(groups, "collect"):
        groups = groups.collect()
    if isinstance(groups, pd.DataFrame):
        names, columns = list(groups.columns), [groups.iloc[:, j] for j in range(groups.shape[1])]
    elif _is_polars(groups) and hasattr(groups, "columns"):
        names, columns = list(groups.columns), groups.get_columns()
    elif isinstance(groups, (pd.Series, pd.Index, pd.Categorical)) or _is_polars(groups):
        name = getattr(groups, "name", None)
        names, columns = ["group" if name is None or name == "" else name], [groups]
    else:
        if isinstance(groups, (list, tuple)):
            groups = np.array(groups, dtype=object)  # no dtype of its own: [1, "1"] are two labels
        array = groups if isinstance(groups, pd.api.extensions.ExtensionArray) else np.asanyarray(groups)
        if array.ndim == 1:
            names, columns = ["group"], [array]
        elif array.ndim == 2:
            names = [f"group{j}" for j in range(array.shape[1])]
            columns = [array[:, j] for j in range(array.shape[1])]
        else:
            raise ValueError(f"groups must be 1-D or 2-D (a column per factor), got {array.ndim} dimensions")
    if not columns:
        raise ValueError("groups has no columns; leave it out, or give at least one grouping column")
    frame = {}
    for name, column in zip(names, columns, strict=True):
        if str(name) in frame:
            raise ValueError(f"groups has two columns named {str(name)!r}; rename one")
        if len(column) != n_rows:
            raise ValueError(f"groups has {len(column)} rows, but X has {n_rows}")
        frame[str(name)] = column
    return frame


def interact(columns):
    """Labels of the interaction of several columns, such as "Y:35" for urban:district.

    Parameters
    ----------
    columns : list of 1-D array-like
        Grouping columns or whole-number features.

    Returns
    -------
    pandas.Categorical
        Of strings, ordered by the levels of the first column, then of the second, ...; missing where any
        column is. A colon or backslash inside a label is escaped with a backslash, so that different pairs
        stay different.
    """
    codes, names = None, None
    for column in columns:
        values, absent = _column(column)
        column_codes, levels = _encode(values, absent)
        texts = [_label_text(level) for level in levels]
        if len(set(texts)) < len(texts):
            raise ValueError(
                "an interaction of grouping columns has labels that differ only in type, such as 1 and '1'; "
                "give the column one type"
            )
        if codes is None:
            codes, names = column_codes, texts
            continue
        pair = codes * len(texts) + column_codes
        pair[(codes < 0) | (column_codes < 0)] = -1
        codes, pairs = _encode_sortable(pair)
        if pairs.size and pairs[0] < 0:  # the missing pair sorts first
            codes, pairs = codes - 1, pairs[1:]
        names = [f"{names[k // len(texts)]}:{texts[k % len(texts)]}" for k in pairs.tolist()]
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))


# --- columns ------------------------------------------------------------------------------------------------


def _is_polars(obj):
    return type(obj).__module__.partition(".")[0] == "polars"


def _column(labels):
    """One column as a numpy or pandas array, and where it is absent if the array cannot say so itself."""
    absent = None
    if isinstance(labels, np.ma.MaskedArray):
        absent, labels = np.ma.getmaskarray(labels), labels.data
    if isinstance(labels, (pd.Series, pd.Index)):
        values = labels.array
    elif _is_polars(labels):
        if labels.null_count() and labels.dtype.is_integer():  # polars would make them floats and lose digits
            absent = labels.is_null().to_numpy()
            labels = labels.fill_null(0)
        values = labels.to_numpy()
    elif isinstance(labels, (np.ndarray, pd.api.extensions.ExtensionArray)):
        values = labels
    else:
        values = np.array(labels, dtype=object)
    if isinstance(values, pd.arrays.NumpyExtensionArray):
        values = values.to_numpy()
    if values.ndim != 1:
        raise ValueError(f"group labels must be 1-D, got {values.ndim} dimensions")
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f" and values.dtype.itemsize != 8:
            values = values.astype(np.float64)
        elif not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
        if values.dtype.kind == "f" and ((np.abs(values) >= 2.0**53) & np.isfinite(values)).any():
            raise ValueError(
                "group labels are floating-point numbers of 2^53 (9e15) and more, among which whole numbers can't be "
                "told apart: give them as integers or text, in a column of their own"
            )
        if values.dtype.kind in "iu" and values.dtype.itemsize < 8:
            values = values.astype(np.int64)  # differences of labels must not overflow
        elif values.dtype.kind in "US":
            values = values.astype(object)
    return values, absent


def _is_kind(values, kinds):
    return isinstance(values, np.ndarray) and values.dtype.kind in kinds


# --- encoding -----------------------------------------------------------------------------------------------


def _encode(values, absent=None):
    """Codes (-1 where missing) and the sorted levels that occur."""
    if isinstance(values, pd.Categorical):
        used = np.bincount(values.codes[values.codes >= 0], minlength=len(values.categories)) > 0
        rank = np.cumsum(used) - 1
        return _take(rank, values.codes), _as_levels(values.categories[used])
    if absent is not None:
        codes = np.full(len(values), -1, dtype=np.intp)
        codes[~absent], levels = _encode(values[~absent])
        return codes, levels
    if _is_kind(values, "iub") or (_is_kind(values, "f") and not np.isnan(values).any()):
        codes, levels = _encode_sortable(values)
        return codes, _as_levels(levels)
    codes, uniques = pd.factorize(values)
    levels = _as_levels(uniques)
    rank, levels = _sorted(levels)
    return _take(rank, codes), levels


def _encode_sortable(values):
    """Codes and sorted levels of a numeric array without NaN."""
    n = values.size
    if n == 0:
        return np.zeros(0, dtype=np.intp), values
    values = np.ascontiguousarray(values)
    # Rows that are already grouped cost a comparison and a repeat: only one value a run is worked on.
    starts = np.flatnonzero(values[1:] != values[:-1]) + 1
    if starts.size > n // 2 and not (values[1:] >= values[:-1]).all():
        return _encode_scattered(values)
    starts = np.concatenate((np.zeros(1, dtype=np.intp), starts))
    runs = values[starts]
    if (runs[1:] > runs[:-1]).all():
        run_codes, levels = np.arange(runs.size, dtype=np.intp), runs
    else:
        run_codes, levels = _encode_scattered(runs)
    return np.repeat(run_codes, np.diff(starts, append=n)), levels


def _encode_scattered(values):
    """`_encode_sortable` for any order: through a table if integers lie close enough, else hashed."""
    if values.dtype.kind in "iu":
        low, high = values.min(), values.max()
        span = int(high) - int(low) + 1
        if span <= max(_TABLE_MIN, _TABLE_PER_ROW * values.size):
            offset = (values - low).astype(np.intp, copy=False)
            present = np.zeros(span, dtype=bool)
            present[offset] = True
            rank = np.cumsum(present, dtype=np.intp) - 1
            return rank[offset], np.flatnonzero(present).astype(values.dtype) + low
    codes, uniques = pd.factorize(values)
    order = np.argsort(uniques, kind="stable")
    rank = np.empty(order.size, dtype=np.intp)
    rank[order] = np.arange(order.size)
    return rank[codes], uniques[order]


def _as_levels(uniques):
    """Distinct labels as an Index with the dtype they deserve: whole floats and Python ints become int64."""
    if isinstance(uniques, np.ndarray) and uniques.dtype.kind != "O":
        values = uniques
    else:
        uniques = np.asarray(uniques, dtype=object) if _is_nullable(uniques) else uniques
        levels = pd.Index(uniques, tupleize_cols=False)
        levels = levels if levels.name is None else levels.rename(None)
        # An IntervalIndex would look numbers up in its intervals; here an interval is a label like any other.
        levels = levels.astype(object) if isinstance(levels, pd.IntervalIndex) else levels.infer_objects()
        if levels.dtype.kind not in "fiu":
            return levels
        values = levels.to_numpy()
    if values.dtype.kind == "f" and (np.abs(values) < 2**53).all() and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    elif values.dtype.kind in "iu" and values.dtype.itemsize < 8:
        values = values.astype(np.int64)
    return pd.Index(values)


def _is_nullable(uniques):
    """pandas' nullable and Arrow arrays: their levels are to be plain ones."""
    own = (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray, pd.arrays.PeriodArray, pd.arrays.IntervalArray)
    return isinstance(uniques, pd.api.extensions.ExtensionArray) and not isinstance(uniques, own)


def _sorted(levels):
    """Rank of every level and the sorted levels; labels that do not compare are sorted by type, then text."""
    try:
        order = levels.argsort()
    except TypeError:
        keys = [_type_and_text(level) for level in levels]
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return rank, levels[order]


def _type_and_text(label):
    return type(label).__name__, label if isinstance(label, str) else repr(label)


def _label_text(label):
    whole = isinstance(label, (bool, np.bool_, int, np.integer))
    whole |= isinstance(label, float) and label.is_integer()  # whole beside fractions in one table, not in another
    text = str(int(label)) if whole else str(label)
    return text.replace("\\", "\\\\").replace(":", "\\:")


# --- looking up ---------------------------------------------------------------------------------------------


def _take(table, codes):
    """`table[codes]`, -1 where the code is -1."""
    return np.append(table, -1).astype(np.intp, copy=False)[codes]


def _match(levels, uniques):
    """Position among `levels` of distinct labels, -1 where there is none."""
    uniques = _as_levels(uniques)
    if uniques.dtype == levels.dtype:
        return levels.get_indexer(uniques)
    # Across dtypes pandas converts (text to dates, say); a label is to match only what Python calls equal.
    position = {label: i for i, label in enumerate(levels.tolist())}
    return np.array([position.get(label, -1) for label in uniques.tolist()], dtype=np.intp)


def _lookup_integers(levels, values):
    known = levels.to_numpy()
    if known.size == 0 or values.size == 0:
        return np.full(values.size, -1, dtype=np.intp)
    if _FEW_PER_LEVEL * values.size < known.size:  # pandas keeps its hash table with the levels
        return levels.get_indexer(values)
    low, high = int(known.min()), int(known.max())
    span = high - low + 1
    if span > max(_TABLE_MIN, _TABLE_PER_ROW * max(values.size, known.size)):
        return levels.get_indexer(values)
    table = np.full(span + 1, -1, dtype=np.intp)
    table[known - low] = np.arange(known.size)  # the last entry stays -1: for labels outside
    if int(values.min()) < low or int(values.max()) > high:
        outside = (values < low) | (values > high)
        return table[np.where(outside, span, (values - low).astype(np.intp))]
    return table[values - low]
