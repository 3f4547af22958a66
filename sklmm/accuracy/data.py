"""What a report is about: rows, outcomes and groups, read once, and the features as numbers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import scipy.sparse

from sklmm.accuracy.kinds import CLASSES, Kind
from sklmm.accuracy.scenarios import Lines
from sklmm.design.columns import is_frame, one_dimensional, resolve_columns, take_columns
from sklmm.design.counts import read_counts, rows_at, rows_of_counts
from sklmm.design.grouping import as_group_frame, encode_groups
from sklmm.design.observations import read_offset, read_weights

_MOST_CATEGORIES = 1000


@dataclass(eq=False)
class GroupedData:
    """The rows of a report.

    Attributes
    ----------
    X : frame or array
        As the caller gave it; a line of counts twice.
    group_columns : list of int
        Columns of X that hold the groups.
    offset_column : list of int
        Likewise the offset: one or none.
    labels : ndarray of shape (n,)
        Class labels, or numbers.
    target : ndarray of shape (n,)
        1 for the second of `classes`; or the numbers.
    classes : ndarray of shape (2,) or None
    groups : DataFrame
        A column a grouping factor.
    factor : str
        The one whose groups are split by.
    codes : ndarray of shape (n,)
        Its groups.
    levels : Index
        Their labels.
    time : 1-D array-like or None
    weights : ndarray of shape (n,) or None
        How many rows each row counts for.
    offset : ndarray of shape (n,) or None
        What is added to linear predictors.
    lines : Lines or None
        Where y counts successes: which line each row is from.
    kind : Kind
    name : str or None
        What the outcome is called.
    """

    X: object
    group_columns: list
    offset_column: list
    labels: np.ndarray
    target: np.ndarray
    classes: np.ndarray | None
    groups: pd.DataFrame
    factor: str
    codes: np.ndarray
    levels: pd.Index
    time: object = None
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None
    lines: Lines | None = None
    kind: Kind = CLASSES
    name: str | None = None

    def weights_of(self, rows):
        """How many rows each of these counts for, None for one each."""
        return None if self.weights is None else self.weights[rows]

    def columns(self, with_groups, with_offset):
        """X with or without the columns of groups and of the offset."""
        return self.features if not (with_groups or with_offset) else self._columns(with_groups, with_offset)

    def _columns(self, with_groups, with_offset):
        left_out = {*([] if with_groups else self.group_columns), *([] if with_offset else self.offset_column)}
        if not left_out:
            return self.X
        return take_columns(self.X, [j for j in range(self.X.shape[1]) if j not in left_out])

    @cached_property
    def features(self):
        """X without groups and offset."""
        return self._columns(False, False)

    @cached_property
    def encoded(self):
        """The features as a data frame of floats, see `encode_features`."""
        return encode_features(self.features)

    @property
    def levels_of_encoded(self):
        """Features of labels, for each level the column of `encoded` that indicates it; None for the reference."""
        found = {}
        for name, column in _as_frame(self.features).items():
            if pd.api.types.is_numeric_dtype(column.dtype):  # truth values included
                continue
            _, levels = encode_groups(column, str(name))
            if len(levels) > 1:
                columns = [str(name)] if len(levels) == 2 else [f"{name}_{level}" for level in levels[1:]]
                found[str(name)] = dict(zip(map(str, levels), [None, *columns], strict=True))
        return found


def read_data(
    X, y, groups=None, group_features=None, split_by=None, time=None, sample_weight=None, offset=None,
    offset_feature=None, trials=None, kind=CLASSES,
):  # fmt: skip
    """Read the rows of a report.

    Parameters
    ----------
    X, y, groups, group_features, split_by, time, sample_weight, offset, offset_feature, trials
        As in `accuracy_report`.
    kind : Kind

    Returns
    -------
    data : GroupedData

    Raises
    ------
    ValueError
        Without groups or with groups from both doors, for missing labels of groups, for a `split_by` that is no
        factor, for a target that has not two classes or is no number, for counts that are none, for weights that count
        no rows, for a missing offset, where lengths differ.
    """
    _check_doors(groups, group_features, offset, offset_feature)
    if not is_frame(X) and not scipy.sparse.issparse(X) and not isinstance(X, np.ndarray):
        values = np.asarray(X)
        X = np.asarray(X, dtype=object) if values.dtype.kind in "US" else values
    if len(X.shape) != 2:
        raise ValueError(f"X must be 2-dimensional, a row a sample; got an array of shape {X.shape}")
    n_rows, names = X.shape[0], _column_names(X)
    if y is None:
        raise ValueError("an accuracy report needs the target y")
    if trials is not None and not kind.has_classes:
        raise ValueError("trials are of classes, and this is a report of numbers")
    name = getattr(y, "name", None)
    y = one_dimensional(y, "y", n_rows)
    weights = read_weights(sample_weight, n_rows)
    group_columns, given = _read_groups(X, names, groups, group_features)
    encoded = {name: encode_groups(labels, name) for name, labels in given.items()}  # complains of missing labels
    factor = next(iter(given)) if split_by is None else split_by
    if factor not in given:
        raise ValueError(f"split_by={split_by!r} is no grouping factor; they are {', '.join(map(repr, given))}")
    codes, levels = encoded[factor]
    offset_column, offset = _read_offset(X, names, offset, offset_feature, group_columns)
    if time is not None:
        time = one_dimensional(time, "time", n_rows)
    frame, lines = pd.DataFrame({name: _plain(labels) for name, labels in given.items()}), None
    if trials is None:
        y, target, classes = kind.read_target(y)
    else:
        line, target, counts = _read_counts(y, trials, n_rows)
        lines, y, classes = Lines(line, X, np.asarray(y), codes, weights), target.astype(np.int64), np.array([0, 1])
        weights = counts if weights is None else counts * weights[line]
        X, frame, codes, time, offset = (rows_at(values, line) for values in (X, frame, codes, time, offset))
        frame = frame.reset_index(drop=True)
    if kind.has_classes and weights is not None and len(np.unique(target[weights > 0])) < 2:
        raise ValueError("sample_weight leaves rows of one class only; a classifier needs two classes")
    return GroupedData(
        X, group_columns, offset_column, np.asarray(y), target, classes, frame, factor, codes, levels, time, weights,
        offset, lines, kind, name if isinstance(name, str) else None,
    )  # fmt: skip


def _check_doors(groups, group_features, offset, offset_feature):
    if groups is not None and group_features is not None:
        raise ValueError(
            "groups came through both doors: group_features names columns of X, and groups= was passed too; use one "
            "of them"
        )
    if groups is None and group_features is None:
        raise ValueError(
            "an accuracy report needs groups: name their column of X in group_features, or pass groups=. For rows "
            "without groups scikit-learn's cross_validate does"
        )
    if offset is not None and offset_feature is not None:
        raise ValueError(
            "offset came through both doors: offset_feature names a column of X, and offset= was passed too; use one"
        )


def _read_groups(X, names, groups, group_features):
    """Positions of the grouping columns of X, and the grouping factors by name."""
    if group_features is None:
        return [], as_group_frame(groups, X.shape[0])
    positions = resolve_columns(group_features, X, names)
    if not positions:
        raise ValueError(f"group_features={group_features!r} names no column of X")
    return positions, {names[j]: take_columns(X, j) for j in positions}


def _read_offset(X, names, offset, offset_feature, group_columns):
    """Positions of the columns of X that hold the offset, one or none, and the offset."""
    if offset_feature is None:
        return [], read_offset(offset, X.shape[0])
    positions = resolve_columns(offset_feature, X, names, "offset_feature")
    if len(positions) != 1:
        raise ValueError(f"offset_feature must name one column of X, but {offset_feature!r} names {len(positions)}")
    name = names[positions[0]]
    if positions[0] in group_columns:
        raise ValueError(f"column {name!r} of X is named in group_features and in offset_feature")
    column = take_columns(X, positions[0])
    column = column.toarray() if scipy.sparse.issparse(column) else column
    return positions, read_offset(column, X.shape[0], f"offset_feature: column {name!r}")


def _read_counts(y, trials, n_lines):
    """Line, outcome and weight of each row that numbers of successes and trials stand for."""
    successes, trials = read_counts(y, trials, n_lines, ("successes (y)", "trials"))
    if not successes.any() or (successes == trials).all():
        what = ("all trials succeeded" if successes.any() else "all trials failed") if trials.any() else "no trials"
        raise ValueError(f"successes (y) and trials: {what}; a classifier needs successes and failures")
    return rows_of_counts(trials - successes, successes)


def encode_features(features):
    """Features as floats: labels become indicators, as in a regression formula.

    A column of numbers or truth values stays as it is. A column of labels (strings, categories) with two categories
    becomes one of 0 and 1 under its own name, one with k > 2 categories k - 1 indicators "column_category"; the first
    category is the reference. The categories are those of all rows: outcomes play no part, so that nothing leaks from
    test rows into a fit, and a category that a training fold lacks counts as the reference there.

    Parameters
    ----------
    features : DataFrame (pandas or polars), array or sparse matrix

    Returns
    -------
    encoded : DataFrame of float64

    Raises
    ------
    ValueError
        For missing values, dates and other columns that are no numbers, columns of very many labels.
    """
    table = _as_frame(features)
    missing = table.isna().sum()
    missing = missing[missing > 0]
    if len(missing):
        counts = ", ".join(f"{name} ({count})" for name, count in missing.items())
        raise ValueError(
            f"X has missing values: {counts}. Drop such rows or impute them; only estimators of your own that take "
            "missing values can be reported without"
        )
    columns = {}
    for name, column in table.items():
        for new_name, values in _encode_column(str(name), column):
            if new_name in columns:
                raise ValueError(f"two columns of X would be named {new_name!r} once encoded; rename one")
            columns[new_name] = values
    encoded = pd.DataFrame(columns, index=pd.RangeIndex(len(table)), dtype=np.float64)
    infinite = ~np.isfinite(encoded.to_numpy()).all(axis=0)
    if infinite.any():
        raise ValueError(f"X has infinite values in {', '.join(encoded.columns[infinite])}")
    return encoded


def _encode_column(name, column):
    dtype = column.dtype
    if pd.api.types.is_bool_dtype(dtype) or (
        pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)
    ):
        return [(name, column.to_numpy(dtype=np.float64))]
    if not (
        isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(dtype) or dtype == np.dtype(object)
    ):
        raise ValueError(f"column {name!r} of X holds {dtype}, neither numbers nor labels: turn it into numbers")
    codes, levels = encode_groups(column, name)
    if len(levels) > max(20, min(_MOST_CATEGORIES, len(column) // 2)):
        raise ValueError(
            f"column {name!r} of X holds {len(levels)} different labels in {len(column)} rows, too many for "
            "indicators: name it in group_features (or pass it in groups=), encode it as numbers, or leave it out"
        )
    if len(levels) <= 2:
        return [(name, codes.astype(np.float64))] if len(levels) == 2 else []
    return [(f"{name}_{level}", (codes == k).astype(np.float64)) for k, level in enumerate(levels) if k > 0]


def _as_frame(features):
    """Any table as a pandas frame."""
    if isinstance(features, pd.DataFrame):
        if not features.columns.is_unique:
            raise ValueError(f"columns of X have the same name: {list(features.columns)}")
        return features
    if is_frame(features):  # polars; to_pandas() would need pyarrow
        return pd.DataFrame({name: _plain(features[name]) for name in features.columns})
    if scipy.sparse.issparse(features):
        raise TypeError("the estimators that are known by name take dense X: convert it by X.toarray()")
    frame = pd.DataFrame(features, columns=[f"x{j}" for j in range(features.shape[1])])
    return frame.infer_objects()


def _column_names(X):
    """Names of the columns as estimators know them."""
    names = list(getattr(X, "columns", []))
    return names if names and all(isinstance(name, str) for name in names) else [f"x{j}" for j in range(X.shape[1])]


def _plain(labels):
    """A column without its index."""
    if isinstance(labels, (pd.Series, pd.Index)):
        return labels.array
    if hasattr(labels, "to_numpy") and not isinstance(labels, pd.api.extensions.ExtensionArray):
        return labels.to_numpy()  # polars
    return labels
