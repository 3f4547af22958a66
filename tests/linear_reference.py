"""Reference fits of linear mixed models by lme4, and the rows as those fits saw them.

`tests/reference/README.md` says where the numbers of ``lmm.json`` come from.
"""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sklmm.datasets import load_insteval, load_pastes, load_penicillin, load_sleepstudy
from sklmm.design.structure import FactorStructure, Observations, Structure


@cache
def _file():
    return json.loads((Path(__file__).parent / "reference" / "lmm.json").read_text())


def references(insteval=False):
    """Names of the fits."""
    return [name for name in _file()["fits"] if name.startswith("insteval") == insteval]


def reference(name):
    """A fit of lme4: log-likelihood, coefficients, their covariance, sigma, theta, and factor by factor the rest."""
    return _file()["fits"][name]


class Rows(NamedTuple):
    """What repeats a fit; `levels` are names of the factors' levels, in the order of the factors of the record."""

    observations: Observations
    structure: Structure
    settings: dict
    levels: dict


@cache
def rows(name):
    """What to fit for a record."""
    data, model = name.split("/")[:2]
    X, y, factors, settings = _BUILDERS[data](model)
    coded = {key: pd.factorize(values.astype(str), sort=True) for key, (values, _, _) in factors.items()}
    structure = Structure([
        FactorStructure(len(coded[key][1]), columns, blocks, key) for key, (_, columns, blocks) in factors.items()
    ])  # fmt: skip
    weights = settings.pop("weights", None)
    X, codes = np.column_stack([np.zeros((len(y), 0)), *X]), [codes for codes, _ in coded.values()]
    observations = Observations(X, np.asarray(y, dtype=float), codes, weights)
    return Rows(observations, structure, settings, {key: list(labels) for key, (_, labels) in coded.items()})


def _intercepts(**factors):
    return {key.replace("_", ":"): (values, [-1], [(1, True)]) for key, values in factors.items()}


def _frame(name):
    return pd.DataFrame(_file()["data"][name])


def frame(name):
    """The table that lme4 was given for a record, with offset and weights: columns off, w, and n for whole counts."""
    data = name.split("/")[0]
    if data in _file()["data"]:
        table, labels = _frame(data), ["Source", "Lot", "Wafer", "Block", "Variety", "replicate", "recipe"]
        return table.astype({column: str for column in labels if column in table})
    if data == "insteval":
        return load_insteval(as_frame=True, target="y").frame
    table = {"sleepstudy": load_sleepstudy, "Penicillin": load_penicillin, "Pastes": load_pastes}[data](as_frame=True)
    row = np.arange(1, len(table.frame) + 1)
    w = 0.5 + 0.5 * (row % 3)
    return table.frame.assign(off=np.round(10.0 * np.sin(row), 6), w=w, n=2.0 * w)


def _joined(*columns):
    out = columns[0].astype(str)
    for column in columns[1:]:
        out = out + ":" + column.astype(str)
    return out


def _sleepstudy(model):
    X, y, who = load_sleepstudy(return_X_y=True, as_frame=True)
    row = np.arange(1, 181)
    w = 0.5 + 0.5 * (row % 3)
    settings = {
        "slope_weighted": {"precision": w},
        "slope_replicated": {"weights": 2.0 * w},
        "slope_offset": {"offset": np.round(10.0 * np.sin(row), 6)},
    }.get(model, {})
    columns, blocks = ([-1], [(1, True)]) if model == "intercept" else ([-1, 0], [(2, model != "slope_uncorrelated")])
    return [X["Days"]], y, {"Subject": (who, columns, blocks)}, settings


def _penicillin(model):
    data = load_penicillin(as_frame=True).frame
    return [], data["diameter"], _intercepts(plate=data["plate"], sample=data["sample"]), {}


def _pastes(model):
    data = load_pastes(as_frame=True).frame
    return [], data["strength"], _intercepts(cask_batch=_joined(data["cask"], data["batch"]), batch=data["batch"]), {}


def _cake(model):
    data = _frame("cake")
    B, C, temp = (data["recipe"] == "B") * 1.0, (data["recipe"] == "C") * 1.0, data["temp"]
    groups = _intercepts(recipe_replicate=_joined(data["recipe"], data["replicate"]))
    return [B, C, temp, B * temp, C * temp], data["angle"], groups, {}


def _oxide(model):
    data = _frame("Oxide")
    factors = _intercepts(Wafer_Lot=_joined(data["Wafer"], data["Lot"]), Lot=data["Lot"])
    return [(data["Source"] == 2) * 1.0], data["Thickness"], factors, {}


def _oats(model):
    data = _frame("Oats")
    M, V, nitro = (data["Variety"] == "Marvellous") * 1.0, (data["Variety"] == "Victory") * 1.0, data["nitro"]
    factors = _intercepts(Variety_Block=_joined(data["Variety"], data["Block"]), Block=data["Block"])
    return [nitro, M, V, nitro * M, nitro * V], data["yield"], factors, {}


def _insteval(model):
    data = load_insteval(as_frame=True, target="y").frame
    factors = {key: data[key] for key in ("s", "d", "dept")[: 2 + model.endswith("dept")]}
    return [data["service"]], data["y"], _intercepts(**factors), {}


_BUILDERS = {
    "sleepstudy": _sleepstudy,
    "Penicillin": _penicillin,
    "Pastes": _pastes,
    "cake": _cake,
    "Oxide": _oxide,
    "Oats": _oats,
    "insteval": _insteval,
}
