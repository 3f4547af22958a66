"""Standard errors, intervals and paired differences of metrics, by resampling whole groups.

The cluster bootstrap: a resample is as many groups as there are, drawn with replacement, each with all its rows. Groups
are what is independent, so that this, and not resampling rows, says how far a metric could be off. A group that is
drawn twice is two groups of the resample, which matters to the AUC within and between groups: pairs of rows of two
copies are pairs of different groups. Predictions are held: the models are not fitted anew.

Intervals are percentile intervals, expanded for few groups (Hesterberg 2015): the tails are those that make the
interval of a mean the t interval, with the number of groups less one as degrees of freedom.

References
----------
Davison AC, Hinkley DV (1997). Bootstrap Methods and their Application. Cambridge University Press, section 3.8.

Hesterberg TC (2015). What teachers should know about the bootstrap: resampling in the undergraduate statistics
curriculum. The American Statistician 69, 371-386.
"""


import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils import check_random_state

from sklmm.accuracy._of_counts import MetricsOfCounts
from sklmm.accuracy.kinds import CLASSES
from sklmm.accuracy.metrics import metric_columns, metric_of
from sklmm.exceptions import FewClustersWarning
from sklmm.inference.wald import check_level
from sklmm.messages import warn

FEW_GROUPS = 10
_WIDTH = 64  # resamples at a time
_SAME = 1e-8
_MOST_COUNTS = 4_000_000  # counts at a time, where that is fewer resamples

_COLUMNS = (
    "estimate", "std_error", "lower", "upper",
    "difference", "difference_std_error", "difference_lower", "difference_upper",
)  # fmt: skip


def resample_metrics(
    y,
    predictions,
    group_codes,
    weights=None,
    *,
    metrics=None,
    threshold=0.5,
    folds=None,
    n_resamples=1000,
    level=0.95,
    random_state=None,
    kind=CLASSES,
    progress=None,
):
    """Metrics of several estimators on the same rows, with standard errors, intervals and differences to the first.

    Parameters
    ----------
    y : array-like of shape (n,)
        Outcomes: 0 or 1, or numbers.
    predictions : dict of str -> array-like
        What each estimator predicts: the probability of outcome 1, a number a row; or see `read_number_rows`.
    group_codes : array-like of shape (n,)
        Group of each row: integers or any other labels.
    weights : array-like of shape (n,), optional
        How often each row counts.
    metrics, threshold, folds
        See `compute_metrics`.
    n_resamples : int, default=1000
    level : float, default=0.95
        Confidence level of the intervals.
    random_state : int, RandomState instance or None
        The resamples depend on it and on the number of groups only: they are the same for every estimator.
    progress : callable, optional
        Is told how many resamples are done, after some of them.

    Returns
    -------
    table : DataFrame
        A row for each estimator and metric, named in the columns "estimator" and "metric": "estimate"; "std_error",
        the standard deviation over resamples; "lower" and "upper"; "difference" to the first estimator, which is
        paired, with "difference_std_error", "difference_lower" and "difference_upper" (NaN of the first itself).
        Resamples in which a metric is not defined, such as those with one class, are left out of it.
        ``table.attrs`` holds "n_groups" and "n_resamples".

    Raises
    ------
    ValueError
        For invalid arguments, see `compute_metrics`.

    Warns
    -----
    FewClustersWarning
        If there are fewer than 10 groups: there are then few different resamples, and too few groups to say how much
        groups differ. Of a single group there are estimates only.

    Notes
    -----
    The expected calibration error is a sum of absolute values, which noise makes larger: in resamples it exceeds the
    estimate on average, as the estimate exceeds the truth. Its intervals are those of the resamples shifted to have the
    estimate for their mean; they say how variable it is, not how biased. Its bins are kept in resamples.

    Estimates are those of `compute_metrics`. Those of resamples are, too, with two exceptions: calibration slopes and
    intercepts are to a thousandth of their standard errors; and of more than 10,000 different
    predictions, neighbours are taken for equal in the ROC AUC, the AUC between groups and the average precision, which
    moves an AUC by less than 1e-4.

    Examples
    --------
    >>> import numpy as np
    >>> from sklmm.accuracy.resampling import resample_metrics
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(200)
    >>> y = (rng.random(200) < p).astype(int)
    >>> groups = np.repeat(np.arange(20), 10)
    >>> table = resample_metrics(y, {"truth": p, "half": np.full(200, 0.5)}, groups, metrics="Brier", random_state=0)
    >>> table.set_index("estimator")["difference"].round(2).to_dict()
    {'truth': nan, 'half': 0.1}
    """
    columns = metric_columns(metrics, kind.metrics)
    level = check_level(level)
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, (int, np.integer)) or n_resamples < 2:
        raise ValueError(f"n_resamples must be an integer >= 2, got {n_resamples!r}")
    if not predictions:
        raise ValueError("predictions is empty: give at least one estimator's")
    of_counts = {
        name: MetricsOfCounts(
            kind.read_rows(y, predicted, group_codes, weights, threshold=threshold, folds=folds), columns, kind.metrics
        )
        for name, predicted in predictions.items()
    }
    shifted = [metric_of(column, kind.metrics).grows_by_noise for column in columns]
    n_groups = next(iter(of_counts.values())).n_groups
    _warn_of_few(n_groups)
    # The rows themselves are every group once.
    estimates = {name: metrics_of(np.ones((n_groups, 1)))[0] for name, metrics_of in of_counts.items()}

    resampled = {name: np.full((n_resamples, len(columns)), np.nan) for name in predictions}
    if n_groups > 1:
        for rows, counts in _draw(n_groups, n_resamples, random_state):
            for name, metrics_of in of_counts.items():
                resampled[name][rows] = metrics_of(counts)
            if progress is not None:
                progress(int(rows[-1]) + 1)

    first, in_units = next(iter(predictions)), [metric_of(column, kind.metrics).in_units for column in columns]
    tables = []
    for name in predictions:
        own = _spread(estimates[name], resampled[name], shifted, level, n_groups)
        change = np.full((4, len(columns)), np.nan)
        if name != first:
            difference = _difference(estimates[name], estimates[first], in_units)
            differences = _difference(resampled[name], resampled[first], in_units)
            change = [difference, *_spread(difference, differences, shifted, level, n_groups)]
        table = pd.DataFrame(dict(zip(_COLUMNS, [estimates[name], *own, *change], strict=True)))
        table.insert(0, "metric", columns)
        table.insert(0, "estimator", name)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    table.attrs |= {"n_groups": n_groups, "n_resamples": n_resamples}
    return table


def _warn_of_few(n_groups):
    if n_groups == 1:
        text = "all rows are of one group: no standard errors and intervals, which come from resampling groups"
    elif n_groups < FEW_GROUPS:
        text = (
            f"standard errors and intervals come from resampling {n_groups} groups, which are too few to know how much "
            "groups differ: take them for a rough guess"
        )
    else:
        return
    warn(text, FewClustersWarning)


def _draw(n_groups, n_resamples, random_state):
    """Numbers of some resamples at a time, and how often each group is in each, of shape (n_groups, some)."""
    rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    width = int(np.clip(_MOST_COUNTS // n_groups, 8, _WIDTH))
    for start in range(0, n_resamples, width):
        rows = np.arange(start, min(start + width, n_resamples))
        counts = np.empty((n_groups, len(rows)))
        for j in range(len(rows)):
            counts[:, j] = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
        yield rows, counts


def _difference(values, of_first, in_units):
    """Differences, a metric a column; 0 where they are what fits leave: of balanced rows many linear models agree."""
    size = np.maximum(np.abs(values), np.abs(of_first))
    difference = values - of_first
    return np.where(np.abs(difference) <= _SAME * np.where(in_units, size, np.maximum(size, 1.0)), 0.0, difference)


def _spread(estimates, resampled, shifted, level, n_groups):
    """Standard errors and limits of intervals, a number a column."""
    if n_groups < 2:
        return np.full((3, len(shifted)), np.nan)
    reach = np.sqrt(n_groups / (n_groups - 1)) * stats.t.ppf((1 + level) / 2, n_groups - 1)
    tails = stats.norm.cdf([-reach, reach])
    out = np.full((3, len(shifted)), np.nan)
    for j, is_shifted in enumerate(shifted):
        values = resampled[:, j]
        values = values[np.isfinite(values)]
        if len(values) < 2 or not np.isfinite(estimates[j]):
            continue
        shift = estimates[j] - values.mean() if is_shifted else 0.0
        out[:, j] = values.std(ddof=1), *(np.quantile(values, tails) + shift)
    return out
