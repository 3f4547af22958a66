"""What a report measures: a class for each metric, here of outcomes, predicted probabilities and groups of rows.

Where scikit-learn has a metric, it computes it here. What it does not have are the calibration slope and intercept, the
expected calibration error, and the two halves of the ROC AUC of grouped rows (`concordance`). Metrics of measured
outcomes are in `metrics_of_numbers`.
"""

import numpy as np
from sklearn import metrics as sk

from sklmm.accuracy._calibration_of_counts import CalibrationOfCounts
from sklmm.accuracy.calibration import calibration_bins, expected_calibration_error, fit_intercept, fit_slope, logits
from sklmm.accuracy.concordance import between_groups, pair_concordance
from sklmm.accuracy.rows import read_rows
from sklmm.messages import joined


class Metric:
    """What a report must know of a metric. A new one is a class with this, listed once: in `OF_PROBABILITIES`, or in
    `metrics_of_numbers.OF_NUMBERS`.

    Attributes
    ----------
    name : str
    better : {"lower", "higher", "nearer"}
        Which of two values is better; "nearer" to `target`.
    target : float
        The value of a calibrated prediction, if "nearer" is better.
    bounds : (float, float)
        No value is below the first or above the second.
    meaning : str
        In a sentence.
    columns : tuple of str
        Names of the numbers it consists of: its own, as a rule.
    needs_both : bool
        Whether it is not defined where all outcomes are alike.
    leads : bool
        Whether it is the one by which estimators are ranked, if a report has it.
    first : bool
        Whether pages show it before others, which are folded.
    grows_by_noise : bool
        Whether resamples have larger values than the rows they are made of. Intervals are then moved to have the
        estimate for the mean of what they are made of.
    decimals : (int, int)
        Fewest and most decimals that are printed; between them two digits of the standard error are shown.
    in_units : bool
        Whether it is in the units of the outcome, whatever these are: `decimals` then count digits from the first.
    in_words : str
        How sentences format it.
    """

    name = better = meaning = target = None
    bounds = (0.0, 1.0)
    needs_both = leads = first = grows_by_noise = in_units = False
    decimals, in_words = (2, 4), ".4f"

    @property
    def columns(self):
        return (self.name,)

    @property
    def direction(self):
        """Which values are better, in words."""
        return f"nearer {self.target:g} is better" if self.better == "nearer" else f"{self.better} is better"

    def of_rows(self, rows):
        """The metric of rows that one estimator predicted: a number, or a tuple of them, one a column."""
        raise NotImplementedError

    def sums(self, rows):
        """What is summed over the groups of a resample: arrays of shape (n_groups,) by name, beside the rows' `totals`,
        which are always there. Metrics that need the same sum give it the same name.
        """
        return {}

    def of_sums(self, resamples):
        """The metric of `Resamples`: an array of shape (n_resamples,), or a tuple of them, one a column.

        NaN where it is not defined.
        """
        raise NotImplementedError

    def of_resamples(self, rows):
        """The function of `Resamples` that gives the metric: `of_sums`, unless it takes more than sums and ranks."""
        return self.of_sums

    def says(self, table):
        """Sentences on the estimates of a scenario, a row of the table an estimator; for the reading in words."""
        return []


class MeanOfRows(Metric):
    """Means over rows of what a row has of its own, `each`."""

    def each(self, rows):
        """The number of each row, an array of shape (n,)."""
        raise NotImplementedError

    def of_rows(self, rows):
        return np.average(self.each(rows), weights=rows.w)

    def sums(self, rows):
        return {self.name: rows.by_group(rows.w * self.each(rows))}

    def of_sums(self, resamples):
        return share(resamples[self.name], resamples.weight)


class LogLoss(MeanOfRows):
    name, better, bounds, leads, first = "log loss", "lower", (0.0, np.inf), True, True
    meaning = "Mean of -log(probability given to what happened): punishes bold errors."

    def of_rows(self, rows):
        return sk.log_loss(rows.y, rows.p, sample_weight=rows.w, labels=[0, 1])

    def each(self, rows):
        eps = np.finfo(float).eps  # where scikit-learn clips
        return -np.log(np.clip(np.where(rows.y == 1, rows.p, 1 - rows.p), eps, 1 - eps))


class Brier(MeanOfRows):
    name, better = "Brier", "lower"
    meaning = "Mean squared difference of probability and outcome."

    def of_rows(self, rows):
        return sk.brier_score_loss(rows.y, rows.p, sample_weight=rows.w, pos_label=1)

    def each(self, rows):
        return (rows.y - rows.p) ** 2


class RocAuc(Metric):
    name, better, needs_both, first = "ROC AUC", "higher", True, True
    meaning = (
        "Share of pairs of rows with different outcomes whose probabilities are in the right order; 0.5 is chance."
    )

    def of_rows(self, rows):
        return sk.roc_auc_score(rows.y, rows.p, sample_weight=rows.w)

    def of_sums(self, resamples):
        return share(resamples.ranks[0], resamples.pairs)


class AucWithinGroups(Metric):
    name, better, needs_both, first = "AUC within groups", "higher", True, True
    meaning = (
        "The same of pairs of rows of one group and one fold of cross-validation: who in a group is likelier. All "
        "such pairs count alike."
    )

    def of_rows(self, rows):
        return share(*(found.sum() for found in pair_concordance(rows.y, rows.p, rows.parts, rows.w)))

    def sums(self, rows):
        group = np.empty(rows.parts.max() + 1, dtype=np.intp)
        group[rows.parts] = rows.codes
        concordant, pairs = pair_concordance(rows.y, rows.p, rows.parts, rows.w)
        return {
            "concordant in parts": np.bincount(group, concordant, rows.n_groups),
            "pairs in parts": np.bincount(group, pairs, rows.n_groups),
        }

    def of_sums(self, resamples):
        return share(resamples["concordant in parts"], resamples["pairs in parts"])


class AucBetweenGroups(Metric):
    name, better, needs_both = "AUC between groups", "higher", True
    meaning = "The same of pairs of rows of different groups: also whether groups are in the right order."

    def of_rows(self, rows):
        inside, inside_pairs = (found.sum() for found in pair_concordance(rows.y, rows.p, rows.codes, rows.w))
        (total,), (pairs,) = pair_concordance(rows.y, rows.p, np.zeros(len(rows), dtype=np.intp), rows.w)
        return between_groups(total, pairs, inside, inside_pairs)

    def sums(self, rows):
        return dict(zip(("concordant", "pairs"), pair_concordance(rows.y, rows.p, rows.codes, rows.w), strict=True))

    def of_sums(self, resamples):
        return between_groups(resamples.ranks[0], resamples.pairs, resamples["concordant"], resamples["pairs"])


class AveragePrecision(Metric):
    name, better, needs_both = "average precision", "higher", True
    meaning = "Precision, averaged over recall; the share of outcomes 1 is chance."

    def of_rows(self, rows):
        return sk.average_precision_score(rows.y, rows.p, sample_weight=rows.w)

    def of_sums(self, resamples):
        return np.where(resamples.pairs > 0, share(resamples.ranks[1], resamples["ones"]), np.nan)


class _OfClasses(Metric):
    """Metrics of the classes that rows are put in: functions of the weight that is right, by outcome."""

    better = "higher"

    def sums(self, rows):
        right = rows.assigned == rows.y
        return {"right ones": rows.by_group(rows.ones * right), "right zeros": rows.by_group(rows.zeros * right)}


class Accuracy(_OfClasses):
    name = "accuracy"
    meaning = "Share of rows whose class is right, at the threshold."

    def of_rows(self, rows):
        return sk.accuracy_score(rows.y, rows.assigned, sample_weight=rows.w)

    def of_sums(self, resamples):
        return share(resamples["right ones"] + resamples["right zeros"], resamples.weight)


class InClassAccuracy(_OfClasses):
    name, columns = "in-class accuracy", ("sensitivity", "specificity")
    meaning = "Share of the rows of a class whose class is right: sensitivity of outcomes 1, specificity of outcomes 0."

    def of_rows(self, rows):
        return tuple(
            sk.recall_score(rows.y, rows.assigned, sample_weight=rows.w, pos_label=label) if rows.has(label) else np.nan
            for label in (1, 0)
        )

    def of_sums(self, resamples):
        return tuple(share(resamples[f"right {outcome}"], resamples[outcome]) for outcome in ("ones", "zeros"))


class BalancedAccuracy(InClassAccuracy):
    name, columns, needs_both = "balanced accuracy", ("balanced accuracy",), True
    meaning = "Mean of sensitivity and specificity; 0.5 is chance."

    def of_rows(self, rows):
        return sk.balanced_accuracy_score(rows.y, rows.assigned, sample_weight=rows.w)

    def of_sums(self, resamples):
        return sum(super().of_sums(resamples)) / 2


class SlopeOfCalibration(Metric):
    """What slopes of recalibration say, whatever is predicted.

    Attributes
    ----------
    predictions : str
        What they are called.
    """

    name, target, better, bounds = "calibration slope", 1.0, "nearer", (-np.inf, np.inf)
    needs_both = first = True
    predictions = None

    def says(self, table):
        """Verdicts, estimators of the same verdict together."""
        found = {"fine": [], "extreme": [], "timid": [], "none": []}
        for name, row in table.iterrows():
            slope, lower, upper = row["estimate"], row["lower"], row["upper"]
            if not np.isfinite(slope):
                found["none"].append(str(name))
                continue
            verdict = "extreme" if upper < 1 else "timid" if lower > 1 else "fine"
            found[verdict].append(f"{name} ({slope:.2f})")
        what = self.predictions
        sentences = {
            "fine": f"Calibration slope: the interval includes 1 for {{}}, so that nothing says that these {what} "
            "are too extreme or too timid.",
            "extreme": f"{what.capitalize()} of {{}} are too extreme, slope below 1: high ones are too high, low ones "
            "too low.",
            "timid": f"{what.capitalize()} of {{}} are too timid, slope above 1: too near to the average.",
            "none": "There is no calibration slope of {}: it is not defined.",
        }
        return [sentences[verdict].format(joined(names)) for verdict, names in found.items() if names]


class _Calibration(Metric):
    """Logistic recalibration of the predictions: its slope, or its intercept with slope 1."""

    better, bounds, needs_both = "nearer", (-np.inf, np.inf), True

    def of_resamples(self, rows):
        slope = isinstance(self, CalibrationSlope)
        of_counts = CalibrationOfCounts(logits(rows.p), rows.ones, rows.zeros, rows.codes, rows.n_groups, slope=slope)
        return lambda resamples: of_counts(resamples.counts)


class CalibrationSlope(SlopeOfCalibration, _Calibration):
    predictions = "probabilities"
    meaning = (
        "Slope of the logistic regression of the outcome on the logit of the probability: below 1, probabilities "
        "are too extreme; above 1, too timid."
    )

    def of_rows(self, rows):
        return fit_slope(logits(rows.p), rows.ones, rows.zeros)[1]


class CalibrationIntercept(_Calibration):
    name, target = "calibration intercept", 0.0
    meaning = (
        "The same regression's intercept with the slope fixed to 1 (calibration in the large): below 0, "
        "probabilities are too high on the whole; above 0, too low."
    )

    def of_rows(self, rows):
        return fit_intercept(logits(rows.p), rows.ones, rows.zeros)

    def says(self, table):
        low = table.index[table["lower"] > 0]
        high = table.index[table["upper"] < 0]
        return [
            f"On the whole, probabilities of {joined(names)} are too {what} (calibration intercept {sign} 0)."
            for names, what, sign in ((low, "low", "above"), (high, "high", "below"))
            if len(names)
        ]


class ExpectedCalibrationError(Metric):
    name, better, grows_by_noise = "expected calibration error", "lower", True
    meaning = "Mean distance of mean probability and share of outcomes 1, over ten bins by quantile of the probability."

    def of_rows(self, rows):
        return expected_calibration_error(rows.y, rows.p, rows.w, rows.bins)

    def of_resamples(self, rows):
        bins = calibration_bins(rows.p, rows.w) if rows.bins is None else rows.bins
        excess = rows.by_place_and_group(bins, rows.w * (rows.y - rows.p))
        return lambda resamples: share(np.abs(excess @ resamples.counts).sum(axis=0), resamples.weight)


# In the order of tables.
OF_PROBABILITIES = (
    LogLoss(), Brier(), RocAuc(), AucWithinGroups(), AucBetweenGroups(), AveragePrecision(), Accuracy(),
    BalancedAccuracy(), InClassAccuracy(), CalibrationSlope(), CalibrationIntercept(), ExpectedCalibrationError(),
)  # fmt: skip
METRICS = {metric.name: metric for metric in OF_PROBABILITIES}


def metric_of(column, listed=METRICS):
    """The metric of those listed that a number belongs to, None if there is no such number."""
    return next((metric for metric in listed.values() if column in metric.columns), None)


def metric_columns(metrics=None, listed=METRICS):
    """Names of the numbers that metrics consist of.

    Parameters
    ----------
    metrics : str or sequence of str, optional
        Names of metrics, or of single numbers of them such as "sensitivity". None: all.
    listed : dict of str -> Metric
        Those there are.

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
    names = list(listed) if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
    columns = {}
    for name in names:
        if name in listed:
            columns |= dict.fromkeys(listed[name].columns)
        elif metric_of(name, listed):
            columns[name] = None
        else:
            raise ValueError(f"unknown metric {name!r}; the metrics are {', '.join(map(repr, listed))}")
    if not columns:
        raise ValueError(f"metrics is empty; choose of {', '.join(map(repr, listed))}")
    return list(columns)


def leading_column(columns, listed=METRICS):
    """The number by which estimators are ranked: the metric that leads, else the first with a best end, else None."""
    ranking = [column for column in columns if metric_of(column, listed).better != "nearer"]
    return next((column for column in ranking if metric_of(column, listed).leads), next(iter(ranking), None))


def metrics_of_rows(rows, columns, listed=METRICS):
    """Numbers by column of rows that one estimator predicted; NaN where one is not defined."""
    found = dict.fromkeys(columns, np.nan)
    for metric in dict.fromkeys(metric_of(column, listed) for column in columns):
        if len(rows) and (rows.differ or not metric.needs_both):
            found |= zip(metric.columns, np.ravel(metric.of_rows(rows)).tolist(), strict=True)
    return {column: found[column] for column in columns}


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
    rows = read_rows(y, probability, group_codes, weights, threshold=threshold, folds=folds, bins=bins)
    return metrics_of_rows(rows, columns)


def share(part, whole):
    """The ratio of two sums; NaN of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(part, whole)
