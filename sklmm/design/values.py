"""The values that a column of numbers takes in a fit: whether it has a slope, and how far it goes."""

from dataclasses import dataclass

import numpy as np

from sklmm.design.formula_columns import is_number

_FIRST = 256


@dataclass(frozen=True)
class Numbers:
    """What a fit keeps of a variable.

    Attributes
    ----------
    low, high, spread : float
        Smallest and largest value, standard deviation.
    two : tuple of two values, or None
        The values of a variable that takes two: its effect is the change from one to the other.
    """

    low: float
    high: float
    spread: float
    two: tuple | None


def numbers_by_column(frame, sample_weight):
    """`Numbers` of those columns of a frame that hold numbers or truth values, by their names.

    Rows of weight 0 do not count, unless there are no others.
    """
    if sample_weight is not None and (sample_weight != 0).any():
        frame = frame[sample_weight != 0]
    return {name: _numbers_of(frame[name]) for name in frame if is_number(frame[name])}


def _numbers_of(column):
    values = column.to_numpy(dtype=np.float64)
    two = two_values(values)
    if two is not None and column.dtype.kind == "b":
        two = (False, True)
    return Numbers(float(values.min()), float(values.max()), float(values.std()), two)


def two_values(values):
    """The values of an array that takes exactly two, the smaller one first; else None."""
    if np.unique(values[:_FIRST]).size > 2:
        return None
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if low < high and np.all((values == low) | (values == high)):
        return float(low), float(high)
    return None
