"""The table of the data sets that come with the package, and the one function that reads them.

A new data set needs its data, ``data/NAME.csv.gz``; its description with source and licence, ``data/NAME.rst``; an
entry in the table; and a function ``load_NAME`` in ``_loaders.py``, which documents what it returns.
"""

from dataclasses import dataclass, field, replace
from importlib import resources

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from sklmm.design.counts import rows_of_counts

_MODULE = "sklmm.datasets.data"
_NO_YES = ("N", "Y")


@dataclass(frozen=True)
class DataSet:
    """What the columns of a data file are.

    Attributes
    ----------
    response : str
        The outcome's column: integers 0 and 1, or the `labels`; or numbers.
    labels : tuple of str
        Names of the classes 0 and 1; () where the outcome is a number.
    groups : str or tuple of str
        Column of the grouping factor; of several factors a tuple.
    features : tuple of str
        Columns of ``data``, in this order. Other columns are in ``frame`` only.
    categories : dict of str -> tuple of str
        Levels of each categorical feature, the reference level first. These columns are read as text.
    counts : tuple of str
        Of a file with a line for each count the columns of successes and of trials, and the name of the weight: a line
        becomes two rows. () where a line is a row.
    """

    response: str
    labels: tuple
    groups: str | tuple
    features: tuple
    categories: dict = field(default_factory=dict)
    counts: tuple = ()


DATA_SETS = {
    "contraception": DataSet(
        response="use",
        labels=_NO_YES,
        groups="district",
        features=("livch", "age", "urban", "ch"),
        categories={"livch": ("0", "1", "2", "3+"), "urban": _NO_YES, "ch": _NO_YES},
    ),
    "bacteria": DataSet(
        response="y",
        labels=("n", "y"),
        groups="ID",
        features=("ap", "hilo", "week", "trt"),
        categories={"ap": ("a", "p"), "hilo": ("hi", "lo"), "trt": ("placebo", "drug", "drug+")},
    ),
    "ohio": DataSet(response="resp", labels=("no", "yes"), groups="id", features=("age", "smoke")),
    "cbpp": DataSet(
        response="ill",
        labels=("healthy", "ill"),
        groups="herd",
        features=("period",),
        categories={"period": ("1", "2", "3", "4")},
        counts=("incidence", "size", "animals"),
    ),
    "verbagg": DataSet(
        response="r2",
        labels=_NO_YES,
        groups=("id", "item"),
        features=("Anger", "Gender", "btype", "situ", "mode"),
        categories={
            "Gender": ("F", "M"),
            "btype": ("curse", "scold", "shout"),
            "situ": ("other", "self"),
            "mode": ("want", "do"),
        },
    ),
    "guimmun": DataSet(
        response="immun",
        labels=_NO_YES,
        groups=("mom", "comm"),
        features=("kid2p", "mom25p", "ord", "ethn", "momEd", "husEd", "momWork", "rural", "pcInd81"),
        categories={
            "kid2p": _NO_YES,
            "mom25p": _NO_YES,
            "ord": ("01", "23", "46", "7p"),
            "ethn": ("L", "N", "S"),
            "momEd": ("N", "P", "S"),
            "husEd": ("N", "P", "S", "U"),
            "momWork": _NO_YES,
            "rural": _NO_YES,
        },
    ),
    "insteval": DataSet(
        response="y4",
        labels=("below 4", "4 or 5"),
        groups=("s", "d", "dept"),
        features=("studage", "lectage", "service"),
    ),
    "sleepstudy": DataSet(response="Reaction", labels=(), groups="Subject", features=("Days",)),
    "penicillin": DataSet(response="diameter", labels=(), groups=("plate", "sample"), features=()),
    "pastes": DataSet(response="strength", labels=(), groups=("batch", "sample"), features=()),
}


def read_data_set(name, return_X_y, as_frame, response=None):
    """What ``load_NAME`` returns; see there. `response`: a column of numbers in the place of the target."""
    for option, value in (("return_X_y", return_X_y), ("as_frame", as_frame)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"load_{name}: {option} must be True or False, got {value!r}.")
    columns, filename = DATA_SETS[name], f"{name}.csv.gz"
    if response is not None:
        columns = replace(columns, response=response, labels=())
    features, response = list(columns.features), columns.response
    categories = {column: list(levels) for column, levels in columns.categories.items()}
    group = columns.groups if isinstance(columns.groups, str) else list(columns.groups)

    with (resources.files(_MODULE) / filename).open("rb") as file:
        # "0" of livch is text; no value is missing
        frame = pd.read_csv(file, compression="gzip", dtype=dict.fromkeys(categories, str), na_filter=False)
    if columns.counts:
        frame = _rows_of_counts(frame, response, *columns.counts)
    for column, levels in categories.items():
        frame[column] = pd.Categorical(frame[column], categories=levels)
    if not columns.labels:
        frame[response] = frame[response].astype(np.float64)
    elif not pd.api.types.is_integer_dtype(frame[response]):
        frame[response] = (frame[response] == columns.labels[1]).astype(np.int64)

    parts = {"data": frame[features], "target": frame[response], "groups": frame[group]}
    if columns.counts:
        parts["sample_weight"] = frame[columns.counts[-1]]
    if not as_frame:
        codes = [frame[c].cat.codes if c in categories else frame[c] for c in features]
        parts = {part: values.to_numpy() for part, values in parts.items()}
        parts["data"], frame = np.array(codes, dtype=np.float64).reshape(len(codes), len(frame)).T.copy(), None
    if return_X_y:
        return tuple(parts.values())
    return Bunch(
        **parts,
        frame=frame,
        feature_names=features,
        **({"target_names": list(columns.labels)} if columns.labels else {}),
        group_names=[group] if isinstance(group, str) else group,
        categories=categories,
        DESCR=description(name),
        filename=filename,
        data_module=_MODULE,
    )


def description(name):
    """The description of a data set: what it is, its columns, its source."""
    return (resources.files(_MODULE) / f"{name}.rst").read_text(encoding="utf-8")


def _rows_of_counts(frame, response, successes, trials, weight):
    """For k successes of n a row of weight k with response 1, and below all of these one of weight n - k with 0."""
    line, outcome, counts = rows_of_counts(frame[trials] - frame[successes], frame[successes], empty=True)
    order = np.argsort(1 - outcome.astype(np.int64), kind="stable")
    columns = {response: outcome[order].astype(np.int64), weight: counts[order]}
    return frame.iloc[line[order]].reset_index(drop=True).assign(**columns)
