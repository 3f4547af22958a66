"""Reference fits of lme4 and glmmTMB, and the data sets as those fits saw them.

``reference("contraception", "m_01/glmmTMB_laplace")`` is one fit, read from ``tests/reference/*.json``;
``model_data("contraception", "m_01")`` gives ``X``, ``y``, ``groups`` for it, with the columns of ``X`` in
the order of the fit's coefficients. ``tests/reference/README.md`` says where the numbers come from.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sklmm.datasets import load_bacteria, load_cbpp, load_contraception, load_ohio

REFERENCE_DIR = Path(__file__).parent / "reference"
DATASETS = ("contraception", "bacteria", "ohio", "cbpp")

# entries that become float arrays; conditional covariances are (levels, q, q), modes (levels, q)
_ARRAYS = (
    *("coef", "se", "vcov", "sd", "corr", "cov", "modes", "condvar"),
    *("modes_sum", "modes_sumsq", "condvar_sum", "conditional_first10", "population_first10"),
)


@cache
def _read(dataset):
    records = json.loads((REFERENCE_DIR / f"{dataset}.json").read_text())
    for record in records.values():
        record.update({key: np.array(record[key], dtype=float) for key in _ARRAYS if key in record})
    return records


def reference(dataset, name):
    """One reference fit, as a dict.

    Keys: ``engine``, ``formula``, ``n_quadrature`` (1 is Laplace; absent for ``glm``), ``weights`` (name,
    if any), ``log_likelihood`` (marginal scale), ``fixed_names``, ``coef``, ``se``, ``vcov`` (of the fixed
    effects, intercept first); for mixed models also ``sd``, ``corr``, ``cov`` of the random coefficients
    ``random_names``, ``factor``, ``n_groups``, ``levels`` (the groups shown, as strings), their ``modes``
    and ``condvar`` (given the estimates), sums over all groups (``modes_sum``, ``modes_sumsq``,
    ``condvar_sum``), and fitted probabilities at the modes (``conditional_first10``, ``conditional_sum``)
    and at zero (``population_first10``, ``population_sum``).
    """
    return _read(dataset)[name]


def reference_names(dataset, *, mixed=None):
    """Names of a data set's fits; ``mixed`` keeps the mixed models (True) or the plain ones (False)."""
    return [name for name, record in _read(dataset).items() if mixed is None or ("factor" in record) == mixed]


class ModelData(NamedTuple):
    """What ``fit`` needs to repeat a reference fit."""

    X: pd.DataFrame
    y: pd.Series
    groups: pd.Series
    sample_weight: np.ndarray | None
    random_effects: str


@cache
def model_data(dataset, name):
    """What to fit for ``name``, with or without its engine: ``m_01`` or ``m_01/glmer_nAGQ5``.

    The frames are shared between calls: copy before changing one.
    """
    model = name.split("/")[0]
    base_model = model.removesuffix("_weighted")
    X, y, groups, counts = _BUILDERS[dataset]()
    if dataset == "contraception":
        X = X[_CONTRACEPTION_COLUMNS[base_model]]
    weighted = model.endswith("_weighted") or dataset == "cbpp"
    random_effects = _RANDOM_EFFECTS.get(base_model, f"1 | {groups.name}")
    return ModelData(X, y, groups, counts if weighted else None, random_effects)


def _indicators(column):
    """0/1 columns named as R names them (``livch3+``), without the reference level, the first category."""
    return pd.get_dummies(column, prefix=column.name, prefix_sep="", drop_first=True, dtype=float)


_CONTRACEPTION_COLUMNS = {
    "m_00": ["age", "urbanY", "livch1", "livch2", "livch3+"],
    "m_01": ["age", "urbanY", "livch1", "livch2", "livch3+"],
    "m_02": ["age", "age2", "urbanY", "livch1", "livch2", "livch3+"],
    "m_03": ["age", "age2", "urbanY", "chY"],
    "m_04": ["age", "chY", "age2", "urbanY", "age:chY"],
    "m_slope_urban": ["age", "age2", "urbanY", "chY"],
    "m_slope_age_uncorr": ["age", "age2", "urbanY", "chY"],
}
_RANDOM_EFFECTS = {
    "m_slope_urban": "1 + urbanY | district",
    "m_slope_age_uncorr": "1 + age || district",
}


@cache
def _contraception():
    bunch = load_contraception(as_frame=True)
    data = bunch.data
    X = pd.concat([data[["age"]], *(_indicators(data[name]) for name in ("urban", "livch", "ch"))], axis=1)
    X["age2"] = X["age"] ** 2
    X["age:chY"] = X["age"] * X["chY"]
    counts = 1.0 + bunch.frame["woman"].to_numpy() % 3
    return X, bunch.target, bunch.groups, counts


@cache
def _bacteria():
    data, y, groups = load_bacteria(as_frame=True, return_X_y=True)
    X = _indicators(data["trt"])
    X["late"] = (data["week"] > 2).astype(float)
    return X, y, groups, None


@cache
def _ohio():
    data, y, groups = load_ohio(as_frame=True, return_X_y=True)
    X = data[["age", "smoke"]].astype(float)
    X["age:smoke"] = X["age"] * X["smoke"]
    return X, y, groups, None


@cache
def _cbpp():
    data, y, groups, animals = load_cbpp(as_frame=True, return_X_y=True)
    return _indicators(data["period"]), y, groups, animals.to_numpy()


_BUILDERS = {"contraception": _contraception, "bacteria": _bacteria, "ohio": _ohio, "cbpp": _cbpp}
