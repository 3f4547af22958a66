"""The rows that metrics are computed from: outcomes, predictions, groups, weights; checked once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from sklmm.accuracy.concordance import Ranks


@dataclass(eq=False)
class GroupedRows:
    """Rows of positive weight, predicted by one estimator.

    Attributes
    ----------
    y : ndarray of shape (n,)
        Outcomes.
    p : ndarray of shape (n,)
        What is predicted of each.
    codes : ndarray of int, shape (n,)
        Group of each row, from 0, in the order of the groups' labels; every group has rows.
    parts : ndarray of int, shape (n,)
        The same for all rows of a group that belong to one fold, and for no others.
    w : ndarray of shape (n,)
        Weights.
    n_groups : int
    totals : dict of str -> ndarray of shape (n_groups,)
        Sums by group that any metric may use.
    """

    y: np.ndarray
    p: np.ndarray
    codes: np.ndarray
    parts: np.ndarray
    w: np.ndarray

    def __post_init__(self):
        self.n_groups = int(self.codes.max()) + 1 if len(self) else 0

    def __len__(self):
        return len(self.y)

    @property
    def totals(self):
        return {"weight": self.by_group(self.w)}

    @property
    def differ(self):
        """Whether the outcomes are not all alike."""
        return len(self) > 0 and bool(self.y.min() < self.y.max())

    def by_group(self, values):
        """Sums over the rows of each group."""
        return np.bincount(self.codes, values, self.n_groups)


@dataclass(eq=False)
class PredictedRows(GroupedRows):
    """Rows of two classes.

    Attributes
    ----------
    y : ndarray of int, shape (n,)
        Outcomes, 0 or 1.
    p : ndarray of shape (n,)
        Predicted probability of outcome 1.
    threshold : float
        A row is put in class 1 if its probability is above it.
    bins : ndarray of int, shape (n,), or None
        Bins of the expected calibration error, where they are given.
    ones, zeros : ndarray of shape (n,)
        Weight of outcome 1, and of outcome 0, of each row.
    assigned : ndarray of int, shape (n,)
        The class that each row is put in.
    """

    threshold: float = 0.5
    bins: np.ndarray | None = None

    def __post_init__(self):
        super().__post_init__()
        self.ones, self.zeros = self.w * self.y, self.w * (1 - self.y)
        self.assigned = (self.p > self.threshold).astype(int)

    @property
    def totals(self):
        """Weight of outcomes 1, of outcomes 0, of both."""
        ones, zeros = self.by_group(self.ones), self.by_group(self.zeros)
        return {"ones": ones, "zeros": zeros, "weight": ones + zeros}

    @cached_property
    def ranks(self):
        """What metrics of ranks need of the rows, see `Ranks`."""
        return Ranks(self)

    def has(self, label):
        """Whether a row has this outcome."""
        return bool(np.any(self.y == label))

    def by_place_and_group(self, places, values, n_places=None):
        """Sums over the rows of each place and group, a sparse matrix; places are integers from 0."""
        n_places = int(places.max()) + 1 if n_places is None else n_places
        matrix = sparse.csr_array((values, (places, self.codes)), shape=(n_places, self.n_groups))
        matrix.eliminate_zeros()
        return matrix


@dataclass(eq=False)
class NumberRows(GroupedRows):
    """Rows of a measured outcome, y, and its prediction, p.

    Attributes
    ----------
    lower, upper : ndarray of shape (n,)
        Ends of the intervals of new outcomes; NaN where there are none.
    """

    lower: np.ndarray
    upper: np.ndarray

    @cached_property
    def outcomes(self):
        """Outcomes less their mean: sums of their squares then lose no digits."""
        return self.centred(self.y)

    @cached_property
    def predictions(self):
        """Predictions less their mean."""
        return self.centred(self.p)

    def centred(self, values, parts=None):
        """Values less their mean, or less the mean of each part: exactly 0 where all are alike."""
        parts = np.zeros(len(self), dtype=np.intp) if parts is None else parts
        least = np.full(parts.max() + 1, np.inf)
        np.minimum.at(least, parts, values)
        above = values - least[parts]
        return above - (np.bincount(parts, self.w * above) / np.bincount(parts, self.w))[parts]


def read_rows(y, probability, group_codes, weights=None, *, threshold=0.5, folds=None, bins=None):
    """The rows that count; an error unless all are of one length and valid. See `compute_metrics` for what they are."""
    y, p = np.asarray(y), np.asarray(probability, dtype=float)
    keep, *of_rows = _read_groups(y, {"probability": p}, group_codes, weights, folds)
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"y must hold 0 and 1 only; it holds {np.unique(y[~np.isin(y, (0, 1))])[:3].tolist()}")
    if not ((p >= 0) & (p <= 1)).all():
        row = int(np.flatnonzero(~((p >= 0) & (p <= 1)))[0])
        raise ValueError(f"probability must lie between 0 and 1; row {row} has {p[row]}")
    bins = None if bins is None else np.asarray(bins)[keep]
    return PredictedRows(y[keep].astype(int), p[keep], *of_rows, threshold, bins)


def read_number_rows(y, prediction, group_codes, weights=None, *, folds=None):
    """The rows that count, of measured outcomes, see `read_rows`.

    A prediction is a number a row, or three: the prediction, and the ends of an interval or NaN.
    """
    y, prediction = np.asarray(y, dtype=float), np.asarray(prediction, dtype=float)
    if prediction.ndim == 1:
        prediction = np.column_stack([prediction, np.full((len(prediction), 2), np.nan)])
    p, lower, upper = prediction.T
    keep, *of_rows = _read_groups(y, {"prediction": p}, group_codes, weights, folds)
    for name, values in (("y", y), ("prediction", p)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"{name} must be finite numbers; row {row} has {values[row]}")
    return NumberRows(y[keep], p[keep], *of_rows, lower[keep], upper[keep])


def _read_groups(y, predicted, group_codes, weights, folds):
    """Which rows count, and their groups, parts and weights; an error unless all is of one length and valid."""
    codes = np.asarray(group_codes)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    folds = np.zeros(len(y)) if folds is None else np.asarray(folds)
    for name, array in {"y": y, **predicted, "group_codes": codes, "weights": w, "folds": folds}.items():
        if array.ndim != 1 or len(array) != len(y):
            raise ValueError(f"{name} has shape {array.shape}, but there are {len(y)} rows in y: give one value a row")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights must be finite and not negative")
    codes, _ = pd.factorize(codes, sort=True)  # so that resamples do not depend on the order of the rows
    if (codes < 0).any():
        raise ValueError(f"group_codes: no group (NaN or None) in rows: {(codes < 0).sum()}; leave them out")
    keep = w > 0
    codes = np.unique(codes[keep], return_inverse=True)[1]
    fold, labels = pd.factorize(folds[keep], use_na_sentinel=False)
    parts, _ = pd.factorize(codes * np.int64(len(labels)) + fold)
    return keep, codes, parts, w[keep]
