"""Tables of features and groups side by side: data frames stay data frames, arrays become one array."""

import numpy as np
import pandas as pd
from scipy import sparse

from sklmm.design.columns import is_frame, take_columns


def library_of(X):
    """The library whose DataFrame X is, or None for an array."""
    return ("pandas" if hasattr(X, "iloc") else "polars") if is_frame(X) else None


def infer_numbers(features):
    """Columns of an object array as numbers, if all of them are: strings beside them were groups."""
    if is_frame(features) or features.dtype != object:
        return features
    inferred = pd.DataFrame(features).infer_objects()
    return inferred.to_numpy() if all(dtype.kind in "biuf" for dtype in inferred.dtypes) else features


def join(features, groups, names, library):
    """Features and groups side by side: a DataFrame of `library`, or for None an array."""
    if sparse.issparse(features):
        features = features.toarray()
    if library is None:
        return _stack(np.asarray(features), np.asarray(groups))
    if library == "pandas":
        index = next((table.index for table in (groups, features) if isinstance(table, pd.DataFrame)), None)
        tables = [_to_pandas(table).set_axis(range(table.shape[1]), axis=1) for table in (features, groups)]
        tables = [table if index is None else table.set_axis(index, axis=0) for table in tables]
        return pd.concat(tables, axis=1).set_axis(names, axis=1)
    import polars

    columns = [_polars_column(table, j) for table in (features, groups) for j in range(table.shape[1])]
    return polars.DataFrame([polars.Series(name, column) for name, column in zip(names, columns, strict=True)])


def _to_pandas(table):
    if isinstance(table, pd.DataFrame):
        return table
    if is_frame(table):
        return pd.DataFrame({j: table[:, j].to_numpy() for j in range(table.shape[1])})
    frame = pd.DataFrame(table)
    return frame.infer_objects() if table.dtype == object else frame


def _polars_column(table, j):
    column = take_columns(table, j)
    if hasattr(column, "to_frame") and not hasattr(column, "iloc"):  # polars
        return column
    column = np.asarray(column)
    return column.tolist() if column.dtype == object else column  # polars reads types off lists, not object arrays


def _stack(features, groups):
    """Arrays side by side, in the numbers that hold both or else as objects."""
    kinds = features.dtype.kind + groups.dtype.kind
    dtype = np.result_type(features, groups) if set(kinds) <= set("biuf") else np.dtype(object)
    if dtype.kind == "f" and groups.dtype.kind in "iu" and groups.size:
        # Labels that floats round to one another would become one group.
        largest = max(int(groups.max()), -int(groups.min()))
        dtype = np.dtype(object) if largest > 2 ** (np.finfo(dtype).nmant + 1) else dtype
    return np.hstack([features.astype(dtype, copy=False), groups.astype(dtype, copy=False)])
