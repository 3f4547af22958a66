"""A table's columns -> target, groups and numeric features, and a description of them.

Columns of labels become contrasts with their first level, "column[level]"; columns of numbers stay what they are.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from sklmm.command.table_reading import InputError, listed, plural
from sklmm.command.table_roles import over_encoded
from sklmm.design.counts import read_counts
from sklmm.reporting.numbers import count
from sklmm.reporting.rendering import Document, Table

MOST_LEVELS = 100  # of a column of labels; each level but one is a coefficient
_OTHER_DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
FEW_LEVELS = 10  # so few labels are meant as labels, though some look like numbers: "0", "1", "2", "3+"


@dataclass
class ClusteredTable:
    """The rows of a table, ready for the estimators.

    Attributes
    ----------
    X : DataFrame of float64
        Features; a column of labels is a contrast with its first level for each other one.
    y : ndarray
        1 where the target has its second label; with trials numbers of successes; or the target's numbers.
    labels : tuple of (str, str) or None
        None of numbers.
    groups : DataFrame
        The grouping columns; the first defines the clusters.
    random_effects : list of str or None
        Terms in bar notation over the columns of `X` and `groups`.
    time, sample_weight, offset, trials : ndarray of float64 or None
    description : Document
        What was read, for people.
    notes : list of str
        What was left out or taken otherwise than a user may expect.
    factors : dict of str -> dict of str -> str or None
        Features of labels: for each level its contrast's column, None for the first.
    """

    X: pd.DataFrame
    y: np.ndarray
    labels: tuple | None
    groups: pd.DataFrame
    random_effects: list | None
    time: np.ndarray | None
    sample_weight: np.ndarray | None
    description: Document
    notes: list
    offset: np.ndarray | None = None
    trials: np.ndarray | None = None
    factors: dict = field(default_factory=dict)

    @property
    def kind(self):
        """What the target is."""
        return "numbers" if self.labels is None else "classes"


def read_clustered_table(file, roles, *, kind=None, positive=None, drop_missing=False):
    """Read a table and encode its columns.

    Parameters
    ----------
    file : TableFile
    roles : Roles
    kind : {"numbers", "classes"}, default=None
        What the target is. None: numbers, if it has more than two values, and all are numbers.
    positive : str, default=None
        The label of the target that counts as 1. None: the last one in alphabetical (for numbers, numerical) order.
    drop_missing : bool, default=False
        Whether to leave out rows with missing values.

    Returns
    -------
    ClusteredTable

    Raises
    ------
    InputError
        In words for the user, if the table can't be analysed in these roles.
    """
    features, terms = roles.resolve(file.columns)
    sources = [name for term in terms or [] for name in term.factor]
    if positive is not None and roles.trials is not None:
        raise InputError("--positive is a label of the target, but with --trials that counts successes: leave it out")
    labels = [*([] if roles.trials is not None else [roles.target]), *roles.groups, *roles.categorical]
    numbers = [roles.time, roles.sample_weight, roles.offset, roles.trials]
    needed = [roles.target, *roles.groups, *features, *numbers, *sources]
    needed = [name for name in dict.fromkeys(needed) if name is not None]
    frame = file.read(needed, text=[name for name in needed if name in labels])

    notes, left_out = [], {}
    for name in features:
        reason = _useless(frame[name], explicit=roles.features is not None)
        if reason is not None and name != roles.time:
            left_out[name] = reason
            notes.append(f"Column {name!r} is left out: {reason}.")
    features = [name for name in features if name not in left_out]
    frame = frame[[name for name in needed if name not in left_out or name in sources]]

    time_unit = None
    if roles.time is not None:
        times, time_unit = _read_time(frame[roles.time])
        frame = frame.assign(**{roles.time: times})
    _refuse_infinite(frame)
    n_read = len(frame)
    frame, missing = _complete_rows(file, frame, drop_missing)
    if missing:
        notes.append(f"{missing} These rows are left out.")

    trials = None
    if roles.trials is None:
        y, outcome = _read_target(frame[roles.target], kind, positive, file.decimal)
    elif kind == "numbers":
        raise InputError("--trials says that the target counts successes, but --kind that it is numbers")
    else:
        y, trials = _read_counts(frame[roles.target], frame[roles.trials])
        outcome = ("failure", "success")
    offset = None if roles.offset is None else _numbers(frame[roles.offset], "--offset")
    groups = _read_groups(frame, roles.groups, sources)
    unused = [name for name in roles.groups if terms is not None and name not in sources]
    notes += [f"Column {name!r} is in --groups, but in no term of --random-effects." for name in unused]
    weights = _read_weights(frame[roles.sample_weight]) if roles.sample_weight else None

    columns, levels = {}, {}
    for name in features:
        encoded, levels_of = _encode(frame[name], notes, file.decimal)
        if not encoded:
            left_out[name] = f"it has the same value in every row ({str(levels_of[0])!r})"
            notes.append(f"Column {name!r} is left out: {left_out[name]}.")
            continue
        if roles.features is None and trials is None:
            _refuse_target_in_disguise(frame[name], y, roles.target, has_classes=outcome is not None)
        both = [column for column in encoded if column in columns]
        if both:
            raise InputError(f"two columns of features would be named {both[0]!r}: rename column {name!r}")
        columns.update(encoded)
        if levels_of is not None:
            levels[name] = levels_of
    if not columns:
        raise InputError(f"no feature is left: every column has another role or is left out. {' '.join(notes)}")
    encoded = {name: [f"{name}[{level}]" for level in levels[name][1:]] if name in levels else [name]
               for name in features if name not in left_out}  # fmt: skip
    X = pd.DataFrame(columns)
    table = ClusteredTable(
        X=X,
        y=y,
        labels=outcome,
        groups=groups,
        random_effects=over_encoded(terms, encoded, left_out),
        time=None if roles.time is None else frame[roles.time].to_numpy(np.float64),
        sample_weight=weights,
        description=None,
        notes=notes,
        offset=offset,
        trials=trials,
        factors={
            name: {level: f"{name}[{level}]" if k else None for k, level in enumerate(found)}
            for name, found in levels.items()
        },
    )
    table.description = _describe(file, roles, table, levels, frame, n_read, time_unit)
    return table


# Whole columns and rows --------------------------------------------------------------------------------------


def _useless(column, explicit):
    """Why a feature is left out whatever the other columns are; None if it is not."""
    if column.isna().all():
        return "it has no values"
    if explicit or len(column) <= FEW_LEVELS:
        return None
    if column.dtype.kind in "iu":
        low = int(column.min())
        if low in (0, 1) and int(column.max()) == low + len(column) - 1 and column.is_unique:
            return "it numbers the rows (to use it all the same, name it in --features)"
    elif not is_numeric_dtype(column.dtype) and column.is_unique:
        points = column.str.replace(",", ".", regex=False)
        if pd.to_numeric(points, errors="coerce").notna().mean() < 0.5:
            return "it has another text in every row"
    return None


def _complete_rows(file, frame, drop_missing):
    """The rows without missing values, and in words what the others miss."""
    absent = frame.isna()
    counts = absent.sum()
    if not counts.any():
        return frame, ""
    absent = absent.loc[:, counts > 0]
    empty = [name for name in absent if counts[name] == len(frame)]
    if empty:
        raise InputError(f"column {empty[0]!r} has no values")
    texts = file.missing_texts(absent)
    rows = absent.any(axis=1).to_numpy()
    words = "; ".join(f"{name!r} in {plural(int(counts[name]), 'row')} ({texts[name]})" for name in absent)
    message = f"{np.count_nonzero(rows):,} of {plural(len(frame), 'row')} miss values: {words}."
    if not drop_missing:
        raise InputError(
            f"{message} Fill them in, leave these rows out with --drop-missing, or leave out columns with --exclude"
        )
    if rows.all():
        raise InputError(f"{message} No row is left")
    frame = frame[~rows].reset_index(drop=True)
    for name in frame:  # levels that only the rows without values had
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            frame[name] = frame[name].cat.remove_unused_categories()
    return frame, message


def _refuse_infinite(frame):
    for name in frame:
        if frame[name].dtype.kind != "f":
            continue
        infinite = np.isinf(frame[name].to_numpy())
        if infinite.any():
            raise InputError(
                f"column {name!r} is infinite in {plural(np.count_nonzero(infinite), 'row')} (first: row "
                f"{int(np.argmax(infinite)) + 1} below the header): correct the numbers, or leave the column out with "
                "--exclude"
            )


# Columns by role ---------------------------------------------------------------------------------------------


def _read_target(column, kind, positive, decimal):
    """The target as 0 and 1, and its two labels; or as numbers, and None."""
    name, counts = column.name, column.value_counts()
    counts = counts[counts > 0]
    texts = counts.index.astype(str).str.replace(decimal, ".", regex=False)
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce").to_numpy(np.float64)
    if kind is None and positive is None and len(counts) > 2 and np.isfinite(numbers).all():
        kind = "numbers"
    if kind == "numbers":
        if positive is not None:
            raise InputError("--positive names a class, but --kind says that the target is numbers")
        wrong = counts[~np.isfinite(numbers)]
        if len(wrong):
            raise InputError(f"--target {name!r} holds {listed(wrong.index, 5)}: no numbers, as --kind says they are")
        if len(counts) > 1:
            exact = texts.to_numpy(dtype=str).astype(np.float64)  # which pandas' fast reader is not
            return exact[counts.index.get_indexer(column)], None
    if len(counts) != 2:
        values = ", ".join(f"{label!r} ({plural(count, 'row')})" for label, count in counts.head(10).items())
        values += ", ..." if len(counts) > 10 else ""
        how_many = "only one value" if len(counts) == 1 else f"{len(counts):,} values"
        raise InputError(
            f"--target {name!r} needs two values, but has {how_many}: {values}. "
            + ("There is nothing to predict" if len(counts) == 1 else "Make it a column of two, or choose another")
        )
    labels = _sorted_levels(counts.index)
    if positive is not None:
        if positive not in labels:
            raise InputError(f"--positive: {positive!r} is no value of the target {name!r}, which has {listed(labels)}")
        labels = [label for label in labels if label != positive] + [positive]
    return (column == labels[1]).to_numpy().astype(np.int8), tuple(labels)


def _read_groups(frame, names, sources):
    """The grouping columns, those that occur in interactions only last."""
    for name in names:
        counts = frame[name].value_counts()
        if len(counts) == 1:
            raise InputError(f"--groups {name!r} has a single group, {counts.index[0]!r}: nothing to compare it with")
    first = frame[names[0]]
    if first.is_unique:
        raise InputError(f"--groups {names[0]!r} has another label in every row: these are no groups")
    return frame[list(dict.fromkeys([*names, *sources]))]


def _read_time(column):
    """Times as numbers, and their unit if they were dates; missing ones stay missing."""
    if is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype):
        return column.astype(np.float64), None
    texts = column.astype(str).where(column.notna())
    dates = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
    wrong = (dates.isna() & column.notna()).to_numpy()
    if wrong.any():
        raise InputError(
            f"--time {column.name!r} needs numbers or dates like 2024-01-31, but "
            f"{plural(np.count_nonzero(wrong), 'row')} hold others, first {texts.iloc[int(np.argmax(wrong))]!r}"
        )
    start = dates.min()
    return (dates - start) / pd.Timedelta(days=1), f"days since {start:%Y-%m-%d}"


def _numbers(column, option):
    if not is_numeric_dtype(column.dtype):
        raise InputError(f"{option} {column.name!r} needs numbers, but holds {listed(column.unique(), 5)}")
    return column.to_numpy(np.float64)


def _read_counts(target, trials):
    """Numbers of successes and of trials."""
    named = (target, "--target"), (trials, "--trials")
    numbers = [_numbers(column, option) for column, option in named]
    try:
        successes, trials = read_counts(*numbers, len(target), [f"{o} {column.name!r}" for column, o in named])
    except ValueError as error:
        raise InputError(f"{error} (lines are the rows that are used, counted from 0)") from None
    if not successes.any() or (successes == trials).all():
        raise InputError("every trial has the same outcome: there is nothing to predict")
    return successes, trials


def _read_weights(column):
    weights = _numbers(column, "--sample-weight")
    if weights.min() < 0 or weights.sum() == 0:
        raise InputError(f"--sample-weight {column.name!r} needs numbers of at least 0, and some above")
    return weights


def _encode(column, notes, decimal):
    """A feature as columns of numbers.

    Returns
    -------
    columns : dict of str -> ndarray
        Empty for a constant.
    levels : list of str or None
        The levels of a column of labels, the reference first; for a constant its value.
    """
    name = column.name
    if is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype):
        values = column.to_numpy(np.float64)
        return ({}, [column.iloc[0]]) if np.ptp(values) == 0 else ({name: values}, None)
    is_chosen = isinstance(column.dtype, pd.CategoricalDtype)  # by --categorical
    labels = column.astype(str)
    levels = _sorted_levels(labels.unique())
    if not is_chosen:
        _refuse_numbers_in_disguise(name, labels, levels, notes, decimal)
        _refuse_dates(name, levels)
    if len(levels) > MOST_LEVELS:
        raise InputError(
            f"column {name!r} has {len(levels):,} different labels ({listed(levels, 3)}), too many for a coefficient "
            "each: name it in --groups if its rows belong together, or leave it out with --exclude"
        )
    if len(levels) == 1:
        return {}, levels
    codes = pd.Categorical(labels, categories=levels).codes
    return {f"{name}[{level}]": (codes == k).astype(np.float64) for k, level in enumerate(levels) if k}, levels


def _refuse_target_in_disguise(column, y, target, has_classes):
    """A column that nobody named and that says what the target is leaves nothing to model."""
    advice = "leave it out with --exclude; or, if it is no other form of the target, name it in --features"
    if not has_classes:
        if is_numeric_dtype(column.dtype) and abs(np.corrcoef(column.to_numpy(np.float64), y)[0, 1]) > 1 - 1e-12:
            raise InputError(f"column {column.name!r} is the target {target!r} in other units: {advice}")
        return
    if is_numeric_dtype(column.dtype):
        if not column.isin([column.min(), column.max()]).all():
            return
    elif column.nunique() > FEW_LEVELS:
        return
    share = pd.Series(y).groupby(column.to_numpy(), observed=True).mean()
    if share.isin([0, 1]).all():
        raise InputError(
            f"column {column.name!r} determines the target {target!r}: each of its values goes with one of the "
            f"target's; {advice}"
        )


def _refuse_numbers_in_disguise(name, labels, levels, notes, decimal):
    """Numbers with decimal commas, or with some texts among them, would become contrasts of every single number."""
    texts = pd.Series(levels)
    others = texts[pd.to_numeric(texts, errors="coerce").isna()]
    with_points = texts.str.replace(",", ".", regex=False)
    if decimal == "." and pd.to_numeric(with_points, errors="coerce").notna().all():
        commas = listed(others, 3)
        if len(levels) > FEW_LEVELS:
            raise InputError(
                f"column {name!r} holds numbers with commas ({commas}): if these are decimal commas, add --decimal ,"
            )
        notes.append(f"Column {name!r} is taken as labels: {commas}. If these are numbers, add --decimal ,")
    elif len(levels) > FEW_LEVELS and len(others) <= 0.2 * len(levels):
        counts = labels[labels.isin(others)].value_counts().head(5)
        words = ", ".join(f"{text!r} ({plural(count, 'row')})" for text, count in counts.items())
        raise InputError(
            f"column {name!r} holds numbers, but also {words}{', ...' if len(others) > 5 else ''}: correct them, add "
            f"--na {' '.join(map(repr, counts.index))} if they stand for missing values, or --categorical {name!r} if "
            "all are labels"
        )


def _refuse_dates(name, levels):
    """Dates would become contrasts of every single day."""
    if len(levels) <= FEW_LEVELS:
        return
    levels = pd.Series(levels)
    parsed = {form: pd.to_datetime(levels, format=form, errors="coerce") for form in ("ISO8601", *_OTHER_DATES)}
    written = [form for form, dates in parsed.items() if dates.notna().all()]
    if written:
        first = "" if written[0] == "ISO8601" else "write them as 2024-01-31, and "
        raise InputError(
            f"column {name!r} holds dates ({listed(levels, 3)}): {first}name it in --time, which makes days of them, "
            f"leave it out with --exclude, or name it in --categorical if each date is to have a coefficient"
        )


def _sorted_levels(levels):
    """Labels in the order of numbers, if all are, else in that of texts."""
    levels = pd.Series(list(levels), dtype=object)
    numbers = pd.to_numeric(levels, errors="coerce")
    order = np.argsort(levels.to_numpy(dtype=str) if numbers.isna().any() else numbers.to_numpy(), kind="stable")
    return levels.iloc[order].tolist()


# Description -------------------------------------------------------------------------------------------------


def _target_in_words(table, roles):
    y, n = table.y, len(table.y)
    if table.trials is not None:
        successes, trials = int(y.sum()), int(table.trials.sum())
        return f"{successes:,} successes of {trials:,} trials, {roles.trials} ({100 * successes / trials:.1f} %)"
    if table.kind == "numbers":
        return f"numbers from {y.min():.5g} to {y.max():.5g}, mean {y.mean():.5g}, standard deviation {y.std():.5g}"
    n_one, (other, one) = int(y.sum()), table.labels
    return f"{one!r} in {n_one:,} rows ({100 * n_one / n:.1f} %), {other!r} in {n - n_one:,}"


def _describe(file, roles, table, levels, frame, n_read, time_unit):
    n = len(table.y)
    rows = f"{n:,}" if n == n_read else f"{n:,} of {n_read:,}; {n_read - n:,} with missing values are left out"
    facts = [("Rows", rows), ("Target", f"{roles.target}: {_target_in_words(table, roles)}")]
    for name in roles.groups:
        sizes = frame[name].value_counts()
        low, middle, high = sizes.min(), sizes.median(), sizes.max()
        size = plural(low, "row") + " each" if low == high else f"{low:,} to {high:,} rows, median {middle:,.10g}"
        facts.append(("Groups", f"{name}: {len(sizes):,} groups of {size}"))
    if roles.time is not None:
        facts.append(("Time", f"{roles.time}, {time_unit}" if time_unit else roles.time))
    if roles.sample_weight is not None:
        facts.append(("Weights", f"{roles.sample_weight}, {count(table.sample_weight.sum())} in all"))
    if roles.offset is not None:
        facts.append(("Offset", f"{roles.offset}, {table.offset.min():.4g} to {table.offset.max():.4g}"))

    contrasts = {f"{name}[{level}]" for name, found in levels.items() for level in found}
    numbers = [name for name in table.X if name not in contrasts]
    tables = []
    if numbers:
        spread = table.X[numbers].agg(["mean", "std", "min", "max"])
        cells = [[name, *(f"{value:.4g}" for value in spread[name])] for name in numbers]
        tables.append(Table("Numbers", ["", "mean", "sd", "smallest", "largest"], cells))
    if levels:
        cells = []
        for name, found in levels.items():
            counts = frame[name].astype(str).value_counts()
            cells += [
                [name if k == 0 else "", level, "reference" if k == 0 else f"{name}[{level}]", f"{counts[level]:,}"]
                for k, level in enumerate(found)
            ]
        tables.append(Table("Labels", ["column", "level", "coded as", "rows"], cells, n_names=3))
    return Document(f"Table {file.path.name}", facts, tables, table.notes)
