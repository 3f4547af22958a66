"""Metrics of resamples that are made of whole groups, from how often each group is in them.

Nothing here goes over the rows of a resample one by one. Means and shares are ratios of sums over groups, and so is
the AUC within groups; ranks need the weight of each distinct prediction, a sparse matrix times the counts; calibration
slopes and intercepts solve equations whose coefficients are sums over groups.
"""

import numpy as np
from scipy import sparse

from ._calibration_of_counts import CalibrationOfCounts
from .calibration import calibration_bins, logits
from .metrics import between_groups, pair_concordance

__all__ = ["MetricsOfCounts"]

MOST_VALUES = 10_000  # distinct predictions that are told apart in ranks
_BLOCK = 128  # of these at a time: times 64 resamples they fit the processor's cache

_RANKS = ("ROC AUC", "AUC between groups", "average precision")


class MetricsOfCounts:
    """Metrics of one estimator as functions of how often each group counts.

    Parameters
    ----------
    y, p, codes, w, parts : ndarray of shape (n,)
        See `check_rows`.
    columns : list of str
        See `metric_columns`.
    threshold : float

    Attributes
    ----------
    n_groups : int
        Groups with rows of positive weight.
    """

    def __init__(self, y, p, codes, w, parts, *, columns, threshold):
        keep = w > 0
        y, p, w, parts = y[keep], p[keep], w[keep], parts[keep]
        levels, codes = np.unique(codes[keep], return_inverse=True)
        self.columns, self.n_groups = columns, len(levels)
        one, zero = w * y, w * (1 - y)
        rows = {"one": one, "zero": zero, "right one": one * (p > threshold), "right zero": zero * (p <= threshold)}
        if "log loss" in columns:
            eps = np.finfo(float).eps  # where scikit-learn clips
            rows["log loss"] = -w * np.log(np.clip(np.where(y == 1, p, 1 - p), eps, 1 - eps))
        if "Brier" in columns:
            rows["Brier"] = w * (y - p) ** 2
        sums = {name: np.bincount(codes, values, self.n_groups) for name, values in rows.items()}
        if "AUC between groups" in columns and len(y):
            sums["concordant inside"], sums["pairs inside"] = pair_concordance(y, p, codes, w)
        if "AUC within groups" in columns and len(y):
            group = np.zeros(parts.max() + 1, dtype=np.intp)  # a part without rows has no pairs to give to group 0
            group[parts] = codes
            sums["concordant"], sums["pairs"] = (
                np.bincount(group, found, self.n_groups) for found in pair_concordance(y, p, parts, w)
            )
        self._names, self._sums = list(sums), np.array(list(sums.values()))
        self._bins = self._ranks = None
        if "expected calibration error" in columns and len(y):
            self._bins = _matrix(calibration_bins(p, w), codes, w * (y - p), self.n_groups)
        if any(column in _RANKS for column in columns) and len(y):
            self._ranks = _Ranks(p, one, zero, codes, self.n_groups)
        x = logits(p)
        self._calibration = {
            column: CalibrationOfCounts(x, one, zero, codes, self.n_groups, slope=column.endswith("slope"))
            for column in columns
            if column in ("calibration slope", "calibration intercept")
        }

    def __call__(self, counts):
        """Metrics of resamples.

        Parameters
        ----------
        counts : ndarray of shape (n_groups, n_resamples)
            How often each group is in each resample. Copies of a group count as different groups.

        Returns
        -------
        values : ndarray of shape (n_resamples, n_columns)
            NaN where a metric is not defined, see `compute_metrics`.
        """
        sums = dict(zip(self._names, self._sums @ counts, strict=True))
        ones, zeros = sums["one"], sums["zero"]
        values = {}
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not defined is 0 / 0
            for column in ("log loss", "Brier"):
                if column in sums:
                    values[column] = sums[column] / (ones + zeros)
            values["accuracy"] = (sums["right one"] + sums["right zero"]) / (ones + zeros)
            values["sensitivity"], values["specificity"] = sums["right one"] / ones, sums["right zero"] / zeros
            values["balanced accuracy"] = (values["sensitivity"] + values["specificity"]) / 2
            if "pairs" in sums:
                values["AUC within groups"] = sums["concordant"] / sums["pairs"]
            if self._bins is not None:
                values["expected calibration error"] = np.abs(self._bins @ counts).sum(axis=0) / (ones + zeros)
            if self._ranks is not None:
                pairs = ones * zeros
                concordant, precision = self._ranks(counts, ones, pairs)
                values["ROC AUC"] = concordant / pairs
                values["average precision"] = np.where(pairs > 0, precision / ones, np.nan)
                if "pairs inside" in sums:
                    values["AUC between groups"] = between_groups(
                        concordant, pairs, sums["concordant inside"], sums["pairs inside"]
                    )
        for column, calibration in self._calibration.items():
            values[column] = calibration(counts)
        return np.stack([values[column] for column in self.columns], axis=1)


class _Ranks:
    """Concordant pairs and average precision times ones, from the weights of outcomes at each distinct prediction.

    More than `MOST_VALUES` distinct predictions are put in so many bins, each with about the same share of all ones
    plus that of all zeros, and those in a bin are taken for equal. A bin then has about 2 / MOST_VALUES of either class
    at the most, so that an AUC moves by less than 1e-4. What AUC and average precision of all groups move by is taken
    off those of every resample; what is left is small beside that.
    """

    def __init__(self, p, one, zero, codes, n_groups):
        values, place = np.unique(p, return_inverse=True)
        place = len(values) - 1 - place  # from the highest prediction to the lowest
        self.auc_shift = self.precision_shift = 0.0
        if len(values) > MOST_VALUES:
            exact = _of_ranks(place, one, zero)
            share = np.bincount(place, one) / one.sum() + np.bincount(place, zero) / zero.sum()
            place = np.floor(MOST_VALUES * (np.cumsum(share) - share / 2) / 2).astype(np.intp)[place]
            place = np.unique(place, return_inverse=True)[1]
            self.auc_shift, self.precision_shift = np.subtract(exact, _of_ranks(place, one, zero)) / (
                one.sum() * zero.sum(),
                one.sum(),
            )
        n_places = int(place.max()) + 1
        ones, zeros = (_matrix(place, codes, weight, n_groups, n_places) for weight in (one, zero))
        blocks = [slice(start, start + _BLOCK) for start in range(0, n_places, _BLOCK)]
        self.blocks = [(ones[block], zeros[block]) for block in blocks]

    def __call__(self, counts, ones, pairs):
        parts = (tuple(matrix @ counts for matrix in block) for block in self.blocks)
        concordant, precision = _accumulate(parts, counts.shape[1])
        return concordant + self.auc_shift * pairs, precision + self.precision_shift * ones


def _of_ranks(place, one, zero):
    """Concordant pairs, and average precision times ones, of rows at these places."""
    parts = [(np.bincount(place, one)[:, None], np.bincount(place, zero)[:, None])]
    return np.concatenate(_accumulate(parts, 1))


def _accumulate(parts, width):
    """The same of weights of ones and of zeros by place, given in blocks of places from the highest on."""
    ones_above, zeros_above, concordant, precision = np.zeros((4, width))
    for ones, zeros in parts:
        # Those of this place and above it.
        ones_here, zeros_here = ones_above + np.cumsum(ones, axis=0), zeros_above + np.cumsum(zeros, axis=0)
        concordant += np.einsum("ij,ij->j", zeros, ones_here) - np.einsum("ij,ij->j", zeros, ones) / 2
        predicted = ones_here + zeros_here
        predicted[predicted == 0] = 1  # then there are no ones to weigh, either
        precision += np.einsum("ij,ij->j", ones, ones_here / predicted)
        ones_above, zeros_above = ones_here[-1], zeros_here[-1]
    return concordant, precision


def _matrix(rows, codes, weights, n_groups, n_rows=None):
    """Sums of weights by row and group, sparse."""
    n_rows = int(rows.max()) + 1 if n_rows is None else n_rows
    matrix = sparse.csr_array((weights, (rows, codes)), shape=(n_rows, n_groups))
    matrix.eliminate_zeros()
    return matrix
