"""Real data sets with groups, and a generator of grouped data with known truth."""

from ._loaders import (
    load_bacteria,
    load_cbpp,
    load_contraception,
    load_guimmun,
    load_insteval,
    load_ohio,
    load_pastes,
    load_penicillin,
    load_sleepstudy,
    load_verbagg,
)
from ._samples_generator import make_clustered_classification, make_clustered_regression

__all__ = [
    "load_bacteria",
    "load_cbpp",
    "load_contraception",
    "load_guimmun",
    "load_insteval",
    "load_ohio",
    "load_pastes",
    "load_penicillin",
    "load_sleepstudy",
    "load_verbagg",
    "make_clustered_classification",
    "make_clustered_regression",
]
