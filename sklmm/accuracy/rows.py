"""The rows that metrics are computed from: outcomes, predicted probabilities, groups, weights; checked once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from sklmm.accuracy.concordance import Ranks


@dataclass(eq=False)
class PredictedRows:
    """Rows of positive weight, predicted by one estimator.

    Attributes
    ----------
    y : ndarray of int, shape (n,)
        Outcomes, 0 or 1.
    p : ndarray of shape (n,)
        Predicted probability of outcome 1.
    codes : ndarray of int, shape (n,)
        Group of each row, from 0, in the order of the groups' labels; every group has rows.
    parts : ndarray of int, shape (n,)
        The same for all rows of a group that belong to one fold, and for no others.
    w : ndarray of shape (n,)
        Weights.
    threshold : float
        A row is put in class 1 if its probability is above it.
    bins : ndarray of int, shape (n,), or None
        Bins of the expected calibration error, where they are given.
    n_groups : int
    ones, zeros : ndarray of shape (n,)
        Weight of outcome 1, and of outcome 0, of each row.
    assigned : ndarray of int, shape (n,)
        The class that each row is put in.
    """

    y: np.ndarray
    p: np.ndarray
    codes: np.ndarray
    parts: np.ndarray
    w: np.ndarray
    threshold: float = 0.5
    bins: np.ndarray | None = None

    def __post_init__(self):
        self.n_groups = int(self.codes.max()) + 1 if len(self) else 0
        self.ones, self.zeros = self.w * self.y, self.w * (1 - self.y)
        self.assigned = (self.p > self.threshold).astype(int)

    def __len__(self):
        return len(self.y)

    @cached_property
    def ranks(self):
        """What metrics of ranks need of the rows, see `Ranks`."""
        return Ranks(self)

    def has(self, label):
        """Whether a row has this outcome."""
        return bool(np.any(self.y == label))

    def by_group(self, values):
        """Sums over the rows of each group."""
        return np.bincount(self.codes, values, self.n_groups)

    def by_place_and_group(self, places, values, n_places=None):
        """Sums over the rows of each place and group, a sparse matrix; places are integers from 0."""
        n_places = int(places.max()) + 1 if n_places is None else n_places
        matrix = sparse.csr_array((values, (places, self.codes)), shape=(n_places, self.n_groups))
        matrix.eliminate_zeros()
        return matrix


def read_rows(y, probability, group_codes, weights=None, *, threshold=0.5, folds=None, bins=None):
    """The rows that count; an error unless all are of one length and valid. See `compute_metrics` for what they are."""
    y, p, codes = np.asarray(y), np.asarray(probability, dtype=float), np.asarray(group_codes)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    folds = np.zeros(len(y)) if folds is None else np.asarray(folds)
    arrays = {"y": y, "probability": p, "group_codes": codes, "weights": w, "folds": folds}
    for name, array in arrays.items():
        if array.ndim != 1 or len(array) != len(y):
            raise ValueError(f"{name} has shape {array.shape}, but there are {len(y)} rows in y: give one value a row")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"y must hold 0 and 1 only; it holds {np.unique(y[~np.isin(y, (0, 1))])[:3].tolist()}")
    if not ((p >= 0) & (p <= 1)).all():
        row = int(np.flatnonzero(~((p >= 0) & (p <= 1)))[0])
        raise ValueError(f"probability must lie between 0 and 1; row {row} has {p[row]}")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError("weights must be finite and not negative")
    codes, _ = pd.factorize(codes, sort=True)  # so that resamples do not depend on the order of the rows
    if (codes < 0).any():
        raise ValueError(f"group_codes: no group (NaN or None) in rows: {(codes < 0).sum()}; leave them out")
    keep = w > 0
    codes = np.unique(codes[keep], return_inverse=True)[1]
    fold, labels = pd.factorize(folds[keep], use_na_sentinel=False)
    parts, _ = pd.factorize(codes * np.int64(len(labels)) + fold)
    bins = None if bins is None else np.asarray(bins)[keep]
    return PredictedRows(y[keep].astype(int), p[keep], codes, parts, w[keep], threshold, bins)
