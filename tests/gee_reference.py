"""Reference fits of geepack and gee, and the data sets as those fits saw them.

``gee_reference("ohio", "main/geeglm/ar1/scale_fix_FALSE")`` is one fit, read from ``tests/reference/gee_*.json``;
``gee_data("ohio", name)`` gives ``X``, ``y``, ``groups``, ``time``, ``sample_weight`` for it, with the columns of
``X`` in the order of the fit's coefficients. ``tests/reference/README.md`` says where the numbers come from.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from reference_data import model_data

from sklmm.datasets import load_bacteria

GEE_DATASETS = ("ohio", "bacteria", "contraception")

_ARRAYS = ("coef", "vcov_robust", "vcov_naive", "alpha", "working_correlation")


@cache
def _read(dataset):
    records = json.loads((Path(__file__).parent / "reference" / f"gee_{dataset}.json").read_text())
    for record in records.values():
        record.update({key: np.array(record[key], dtype=float) for key in _ARRAYS if key in record})
    return records


def gee_reference(dataset, name):
    """One reference fit, as a dict.

    Keys: ``engine``, ``corstr`` (the structure, as the package calls it), ``formula``, ``weights`` (name, if any),
    ``time`` (what counts as time, for structures that use it), ``scale_fix``, ``phi``, ``fixed_names``, ``coef``,
    ``vcov_robust``, ``vcov_naive``, ``alpha`` (unstructured: the upper triangle row by row); ``quasi``, ``QIC``,
    ``QICu``, ``CIC`` for geeglm; ``working_correlation`` where it was given.
    """
    return _read(dataset)[name]


def gee_names(dataset, *, engine=None, corstr=None, weighted=None):
    """Names of a data set's fits: those of an engine (geeglm, geese or gee), a structure, with or without weights."""
    return [
        name
        for name, record in _read(dataset).items()
        if (engine is None or name.split("/")[1] == engine)
        and (corstr is None or record["corstr"] == corstr)
        and (weighted is None or ("weights" in record) == weighted)
    ]


def gee_settings(dataset, name):
    """What makes sklmm repeat a fit: ``correlation`` (a name), ``dispersion``, ``ddof_correction``.

    gee estimates with degrees of freedom taken off; its fixed scale of 1 enters the naive covariance only. geepack
    does without; its fixed scale is the record's ``phi`` and enters everything.
    """
    record = gee_reference(dataset, name)
    return {
        "correlation": "ar1" if record["corstr"] == "AR-M" else record["corstr"],
        "dispersion": record["phi"] if record["scale_fix"] else "estimate",
        "ddof_correction": record["engine"].startswith("gee "),
    }


class GEEData(NamedTuple):
    """What ``fit`` needs to repeat a reference fit; ``time`` is None where the structure has no use for it."""

    X: pd.DataFrame
    y: pd.Series
    groups: pd.Series
    time: np.ndarray | None
    sample_weight: np.ndarray | None


@cache
def gee_data(dataset, name):
    """What to fit for ``name``. The frames are shared between calls: copy before changing one."""
    record = gee_reference(dataset, name)
    X, y, groups, weights, _ = model_data(dataset, name)
    if "weights" in record and weights is None:
        weights = 1.0 + np.arange(1, len(y) + 1) % 3
    time = _TIMES[record["time"]](dataset, groups) if "time" in record else None
    return GEEData(X, y, groups, time, weights)


def _times(dataset, groups):
    data = load_bacteria(as_frame=True).data["week"] if dataset == "bacteria" else model_data(dataset, "main").X["age"]
    return data.to_numpy(dtype=float)


def _waves(dataset, groups):
    """Ranks of the times: geeglm puts them in the times' place."""
    return np.unique(_times(dataset, groups), return_inverse=True)[1] + 1.0


def _positions(dataset, groups):
    return groups.groupby(groups).cumcount().to_numpy(dtype=float)


_TIMES = {"time": _times, "wave": _waves, "position": _positions}
