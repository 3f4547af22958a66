"""What a report measures: each metric from outcomes, predicted probabilities and groups of rows.

Where scikit-learn has a metric, it computes it here. What it does not have are the calibration slope and intercept, the
expected calibration error, and the two halves of the ROC AUC of grouped rows.

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

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from sklmm.accuracy.calibration import calibration_bins, fit_intercept, fit_slope, logits

__all__ = ["METRICS", "Metric", "compute_metrics", "expected_calibration_error", "metric_columns", "pair_concordance"]


@dataclass(frozen=True)
class Metric:
    """A metric of the report.

    Attributes
    ----------
    name : str
    better : {"lower", "higher", "nearer"}
        Which of two values is better; "nearer" to `target`.
    target : float
        The best value there is; of "nearer" the value of a calibrated prediction.
    meaning : str
        In a sentence.
    columns : tuple of str
        Names of the numbers it consists of: its own, as a rule.
    """

    name: str
    better: str
    target: float
    meaning: str
    columns: tuple = ()

    def __post_init__(self):
        if not self.columns:
            object.__setattr__(self, "columns", (self.name,))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("log loss", "lower", 0.0, "Mean of -log(probability given to what happened): punishes bold errors."),
        Metric("Brier", "lower", 0.0, "Mean squared difference of probability and outcome."),
        Metric(
            "ROC AUC", "higher", 1.0,
            "Share of pairs of rows with different outcomes whose probabilities are in the right order; 0.5 is chance.",
        ),
        Metric(
            "AUC within groups", "higher", 1.0,
            "The same of pairs of rows of one group and one fold of cross-validation: who in a group is likelier. All "
            "such pairs count alike.",
        ),
        Metric(
            "AUC between groups", "higher", 1.0,
            "The same of pairs of rows of different groups: also whether groups are in the right order.",
        ),
        Metric(
            "average precision", "higher", 1.0,
            "Precision, averaged over recall; the share of outcomes 1 is chance.",
        ),
        Metric("accuracy", "higher", 1.0, "Share of rows whose class is right, at the threshold."),
        Metric("balanced accuracy", "higher", 1.0, "Mean of sensitivity and specificity; 0.5 is chance."),
        Metric(
            "in-class accuracy", "higher", 1.0,
            "Share of the rows of a class whose class is right: sensitivity of outcomes 1, specificity of outcomes 0.",
            columns=("sensitivity", "specificity"),
        ),
        Metric(
            "calibration slope", "nearer", 1.0,
            "Slope of the logistic regression of the outcome on the logit of the probability: below 1, probabilities "
            "are too extreme; above 1, too timid.",
        ),
        Metric(
            "calibration intercept", "nearer", 0.0,
            "The same regression's intercept with the slope fixed to 1 (calibration in the large): below 0, "
            "probabilities are too high on the whole; above 0, too low.",
        ),
        Metric(
            "expected calibration error", "lower", 0.0,
            "Mean distance of mean probability and share of outcomes 1, over ten bins by quantile of the probability.",
        ),
    )
}  # fmt: skip

# Each number's own name, and its metric.
_METRIC_OF = {column: metric for metric in METRICS.values() for column in metric.columns}

# What needs both classes to be defined.
_NEEDS_BOTH = (
    "ROC AUC", "AUC within groups", "AUC between groups", "average precision", "balanced accuracy",
    "calibration slope", "calibration intercept",
)  # fmt: skip


def metric_columns(metrics=None):
    """Names of the numbers that metrics consist of.

    Parameters
    ----------
    metrics : str or sequence of str, optional
        Keys of `METRICS`, or single numbers of them such as "sensitivity". None: all.

    Returns
    -------
    columns : list of str
        In the order given, each once.

    Raises
    ------
    ValueError
        If there is no such metric, or none is named.

    Examples
    --------
    >>> from sklmm.accuracy.metrics import metric_columns
    >>> metric_columns(["Brier", "in-class accuracy"])
    ['Brier', 'sensitivity', 'specificity']
    """
    names = list(METRICS) if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    columns = {}
    for name in names:
        if name in METRICS:
            columns |= dict.fromkeys(METRICS[name].columns)
        elif name in _METRIC_OF:
            columns[name] = None
        else:
            raise ValueError(f"unknown metric {name!r}; the metrics are {', '.join(map(repr, METRICS))}")
    if not columns:
        raise ValueError(f"metrics is empty; choose of {', '.join(map(repr, METRICS))}")
    return list(columns)


def metric_of(column):
    """The `Metric` that a column belongs to."""
    return _METRIC_OF[column]


def compute_metrics(y, probability, group_codes, weights=None, *, metrics=None, threshold=0.5, folds=None, bins=None):
    """Metrics of predicted probabilities.

    Parameters
    ----------
    y : array-like of shape (n,)
        Outcomes, 0 or 1.
    probability : array-like of shape (n,)
        Predicted probability of outcome 1.
    group_codes : array-like of shape (n,)
        Group of each row: integers or any other labels.
    weights : array-like of shape (n,), optional
        How often each row counts; 0 leaves it out.
    metrics : str or sequence of str, optional
        See `metric_columns`. None: all.
    threshold : float, default=0.5
        A row is put in class 1 if its probability is above it.
    folds : array-like of shape (n,), optional
        Fold of cross-validation in which each row was tested. The AUC within groups is over pairs of the same fold.
    bins : array-like of int, shape (n,), optional
        Bins of the expected calibration error; see `calibration_bins`. None: ten by quantile of the probability.

    Returns
    -------
    values : dict of str -> float
        A number a column. NaN where it is not defined: of one class only for all that compares classes ("sensitivity"
        and "specificity" need their own class), without a pair of rows of the same (of different) groups for the AUC
        within (between) groups, for a calibration slope of constant predictions or of classes that the predictions
        separate, and of no rows.

    Raises
    ------
    ValueError
        For arrays of different lengths, outcomes other than 0 and 1, probabilities outside [0, 1], negative weights,
        missing groups or an unknown metric.

    Examples
    --------
    >>> from sklmm.accuracy.metrics import compute_metrics
    >>> values = compute_metrics([0, 1, 1, 0], [0.1, 0.4, 0.8, 0.6], [0, 0, 1, 1], metrics=["Brier", "ROC AUC"])
    >>> {name: round(value, 4) for name, value in values.items()}
    {'Brier': 0.1925, 'ROC AUC': 0.75}
    """
    columns = metric_columns(metrics)
    y, p, codes, w, parts = check_rows(y, probability, group_codes, weights, folds)
    keep = w > 0
    if not keep.all():
        y, p, codes, w, parts = y[keep], p[keep], codes[keep], w[keep], parts[keep]
        bins = None if bins is None else np.asarray(bins)[keep]
    has = {label: bool(np.any(y == label)) for label in (0, 1)}
    assigned = (p > threshold).astype(int)
    values = {}
    for column in columns:
        if not y.size or (column in _NEEDS_BOTH and not (has[0] and has[1])):
            values[column] = np.nan
        else:
            values[column] = float(_one(column, y, p, codes, w, parts, assigned, has, bins))
    return values


def _one(column, y, p, codes, w, parts, assigned, has, bins):
    match column:
        case "log loss":
            return sk.log_loss(y, p, sample_weight=w, labels=[0, 1])
        case "Brier":
            return sk.brier_score_loss(y, p, sample_weight=w, pos_label=1)
        case "ROC AUC":
            return sk.roc_auc_score(y, p, sample_weight=w)
        case "AUC within groups":
            return _share(*(found.sum() for found in pair_concordance(y, p, parts, w)))
        case "AUC between groups":
            inside, inside_pairs = (found.sum() for found in pair_concordance(y, p, codes, w))
            (total,), (pairs,) = pair_concordance(y, p, np.zeros(len(y), dtype=np.intp), w)
            return between_groups(total, pairs, inside, inside_pairs)
        case "average precision":
            return sk.average_precision_score(y, p, sample_weight=w)
        case "accuracy":
            return sk.accuracy_score(y, assigned, sample_weight=w)
        case "balanced accuracy":
            return sk.balanced_accuracy_score(y, assigned, sample_weight=w)
        case "sensitivity":
            return sk.recall_score(y, assigned, sample_weight=w) if has[1] else np.nan
        case "specificity":
            return sk.recall_score(y, assigned, sample_weight=w, pos_label=0) if has[0] else np.nan
        case "calibration slope":
            return fit_slope(logits(p), w * y, w * (1 - y))[1]
        case "calibration intercept":
            return fit_intercept(logits(p), w * y, w * (1 - y))
        case "expected calibration error":
            return expected_calibration_error(y, p, w, bins)


def expected_calibration_error(y, probability, weights=None, bins=None):
    """Mean over bins of |mean probability - share of outcomes 1|, weighted by what is in a bin.

    Noise alone makes it positive: of n rows it is at least of the order of sqrt(number of bins / n).

    Parameters
    ----------
    y, probability : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    bins : array-like of int, shape (n,), optional
        None: `calibration_bins`.
    """
    weights = np.ones(len(y)) if weights is None else weights
    bins = calibration_bins(probability, weights) if bins is None else bins
    return np.abs(np.bincount(bins, weights=weights * (y - probability))).sum() / weights.sum()


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


def _share(part, whole):
    return part / whole if whole > 0 else np.nan


def check_rows(y, probability, group_codes, weights=None, folds=None):
    """The rows as arrays; an error unless they are of one length and valid.

    Returns
    -------
    y, p, codes, w, parts : ndarray of shape (n,)
        Outcomes, probabilities, codes of groups from 0 in the order of their labels, weights, and codes of the rows of
        a group that belong to the same fold.
    """
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
    fold, labels = pd.factorize(folds, use_na_sentinel=False)
    parts, _ = pd.factorize(codes * np.int64(len(labels)) + fold)
    return y.astype(int), p, codes, w, parts
