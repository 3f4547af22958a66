"""Ranks of predictions: pairs of rows that are in the right order, and average precision, of rows and of resamples.

The ROC AUC is the share of pairs of a row with outcome 1 and one with outcome 0 that a prediction puts in the right
order. Some pairs are of rows of the same group, the others of rows of different groups, and a model may order the one
kind well and the other badly: that is what "AUC within groups" and "AUC between groups" tell apart.

Out-of-fold predictions of rows of one group are not comparable across folds where the group has rows in training: where
a row with outcome 1 is held out, the share of ones among the group's other rows is smaller for it, and so is the
prediction, the more so the more a model believes that share. The rows of a group are then put in the wrong order
against those of other folds (Forman and Scholz 2010 warn of comparing across folds in general). Told the folds, the AUC
within groups takes pairs of rows of the same group and the same fold.

References
----------
Forman G, Scholz M (2010). Apples-to-apples in cross-validation studies: pitfalls in classifier performance measurement.
ACM SIGKDD Explorations 12, 49-57.
"""

import numpy as np

MOST_VALUES = 10_000  # distinct predictions that are told apart in ranks
_BLOCK = 128  # of these at a time: times 64 resamples they fit the processor's cache


def pair_concordance(y, probability, codes, weights=None):
    """Pairs of a row with outcome 1 and one with outcome 0 of the same group, and how many are in the right order.

    Parameters
    ----------
    y, probability : ndarray of shape (n,)
    codes : ndarray of int, shape (n,)
        Groups, from 0.
    weights : ndarray of shape (n,), optional
        A pair counts the product of its rows' weights.

    Returns
    -------
    concordant, pairs : ndarray of shape (n_groups,)
        Equal probabilities count 1/2.

    Notes
    -----
    One sort, O(n log n): a row with outcome 1 is concordant with the weight of the zeros of its group below it.
    """
    weights = np.ones(len(y)) if weights is None else weights
    order = np.lexsort((probability, codes))
    p, code = probability[order], codes[order]
    one, zero = (weights * y)[order], (weights * (1 - y))[order]
    # First row of each run of equal probabilities, and of each group.
    new_group = np.append(True, code[1:] != code[:-1])
    run = np.flatnonzero(new_group | np.append(True, p[1:] != p[:-1]))
    ones, zeros, code = np.add.reduceat(one, run), np.add.reduceat(zero, run), code[run]
    n_groups = int(codes.max()) + 1
    total_ones, total_zeros = (np.bincount(code, weights=part, minlength=n_groups) for part in (ones, zeros))
    before = np.cumsum(total_zeros) - total_zeros  # zeros of earlier groups
    below = np.cumsum(zeros) - zeros - before[code]
    return np.bincount(code, weights=ones * (below + zeros / 2), minlength=n_groups), total_ones * total_zeros


def between_groups(total, pairs, inside, inside_pairs):
    """Concordance of the pairs of rows of different groups: all pairs less those within groups."""
    outside = np.asarray(pairs - inside_pairs, dtype=float)
    # A difference of rounding errors is no pair.
    outside = np.where(outside > 1e-12 * np.asarray(pairs), outside, np.nan)
    return (total - inside) / outside


class Ranks:
    """Concordant pairs and average precision times ones, from the weights of outcomes at each distinct prediction.

    More than `MOST_VALUES` distinct predictions are put in so many bins, each with about the same share of all ones
    plus that of all zeros, and those in a bin are taken for equal. A bin then has about 2 / MOST_VALUES of either class
    at the most, so that an AUC moves by less than 1e-4. What AUC and average precision of all groups move by is taken
    off those of every resample; what is left is small beside that.
    """

    def __init__(self, rows):
        one, zero = rows.ones, rows.zeros
        values, place = np.unique(rows.p, return_inverse=True)
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
        ones, zeros = (rows.by_place_and_group(place, weight, n_places) for weight in (one, zero))
        blocks = [slice(start, start + _BLOCK) for start in range(0, n_places, _BLOCK)]
        self.blocks = [(ones[block], zeros[block]) for block in blocks]

    def __call__(self, counts, ones, pairs):
        """The same of resamples, from counts of groups, and their weights of ones and of all pairs."""
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
