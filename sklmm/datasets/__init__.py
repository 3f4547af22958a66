"""Real data sets with groups, and a generator of grouped data with known truth."""

from ._loaders import load_bacteria, load_cbpp, load_contraception, load_ohio
from ._samples_generator import make_clustered_classification

__all__ = ["load_bacteria", "load_cbpp", "load_contraception", "load_ohio", "make_clustered_classification"]
