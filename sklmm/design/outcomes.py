"""Outcomes: labels of two classes, read and coded; numbers."""

import numpy as np
import pandas as pd
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.multiclass import type_of_target

from sklmm.messages import listed, shown_label

_NUMBERS = ("floating", "mixed-integer-float", "decimal")  # as pandas calls objects that are numbers
_COUNTS = (
    "If these are {} of successes among trials, a line is two weighted rows: sklmm.expand_counts(X, successes, trials, "
    "groups) makes them, or a formula: 'successes | trials ~ ...'"
)
TINY = 1e-140  # numbers whose squares are still numbers, products of a few included


def plain_labels(labels):
    """Labels as an array; objects that are all truth values or numbers (Decimals, too) become an array of these."""
    values = np.asarray(labels)
    if values.dtype != object:
        return values
    kind = pd.api.types.infer_dtype(values, skipna=False)
    if kind in ("boolean", "integer"):
        return pd.Series(values).infer_objects().to_numpy()
    return values.astype(np.float64) if kind in _NUMBERS else values


def encode_target(y):
    """Code two classes as 0 and 1.

    Returns
    -------
    codes : ndarray of uint8
    classes : ndarray of shape (2,)
    """
    values = np.asarray(y)
    if values.dtype.kind in "biu" or (values.dtype.kind == "f" and float(values.min()).is_integer()):
        # The common case, two numbers, without sorting or hashing a million of them.
        low, high = values.min(), values.max()
        codes = values == high
        n_high = np.count_nonzero(codes)
        if low != high and n_high + np.count_nonzero(values == low) == values.size and float(high).is_integer():
            return codes.view(np.uint8), np.array([low, high], dtype=values.dtype)
    if values.dtype.kind in "fc":
        assert_all_finite(values, input_name="y")
    codes, found = pd.factorize(values)
    if (codes < 0).any():
        raise ValueError(f"Input y contains NaN: {np.count_nonzero(codes < 0)} labels are missing.")
    found = plain_labels(np.asarray(found, dtype=values.dtype))
    kind = type_of_target(found, input_name="y", raise_unknown=True)
    if len(found) == 1:
        raise ValueError(f"y holds one class only ({shown_label(found[0])}); a classifier needs two classes")
    if kind == "continuous":
        raise ValueError(
            "Unknown label type: continuous. y holds numbers that are no class labels; a classifier needs "
            "two classes" + (f". {_COUNTS.format('shares')}" if found.min() >= 0 and found.max() <= 1 else "")
        )
    if len(found) > 2:
        counts = found.dtype.kind in "iuf" and found.min() >= 0
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}. It holds "
            f"{listed(map(shown_label, found), 5)}" + (f". {_COUNTS.format('numbers')}" if counts else "")
        )
    order = np.argsort(found)
    return (codes == order[1]).view(np.uint8), found[order]


def event_of(classes, positive):
    """Position in the two classes of the event: of `positive`, or 1 where that is None.

    Raises
    ------
    ValueError
        If `positive` is no class.
    """
    if positive is None:
        return 1
    found = [j for j, label in enumerate(classes.tolist()) if label == positive]
    if not found:
        raise ValueError(f"positive={positive!r} is none of the classes of y, {listed(map(shown_label, classes))}")
    return found[0]


def read_numbers(y):
    """A measured outcome as float64: finite numbers."""
    y = plain_labels(y)
    if y.dtype.kind in "mM":
        raise ValueError(f"y holds dates or durations ({y.dtype}), and outcomes are numbers: of days, say")
    try:
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    except ValueError as error:
        if y.dtype.kind not in "OSU" or y.ndim != 1 or "could not convert" not in str(error):
            raise
        raise ValueError(
            f"y holds labels, such as {shown_label(y[0])}, and outcomes of linear models are numbers; two classes are "
            "outcomes of logistic models"
        ) from error
    largest = max(y.max(initial=0.0), -y.min(initial=0.0))
    if largest and not TINY < largest < 1.0 / TINY:
        raise ValueError(f"y has numbers of up to {largest:.0e}, whose squares no float64 holds: give y another unit")
    return y
