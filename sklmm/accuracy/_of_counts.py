"""Metrics of resamples that are made of whole groups, from how often each group is in them.

Nothing here goes over the rows of a resample one by one. Means and shares are ratios of sums over groups, and so is
the AUC within groups; ranks need the weight of each distinct prediction, a sparse matrix times the counts; calibration
slopes and intercepts solve equations whose coefficients are sums over groups.
"""

from functools import cached_property

import numpy as np

from sklmm.accuracy.metrics import METRICS, metric_of


class MetricsOfCounts:
    """Metrics of one estimator as functions of how often each group counts.

    Parameters
    ----------
    rows : PredictedRows or NumberRows
    columns : list of str
        See `metric_columns`.
    listed : dict of str -> Metric
        Those that columns are of.

    Attributes
    ----------
    rows, columns
        As given.
    n_groups : int
    """

    def __init__(self, rows, columns, listed=METRICS):
        self.rows, self.columns, self.n_groups = rows, columns, rows.n_groups
        self._metrics = {metric_of(column, listed): None for column in columns} if len(rows) else {}
        sums = rows.totals
        for metric in self._metrics:
            sums |= metric.sums(rows)
            self._metrics[metric] = metric.of_resamples(rows)
        self._names, self._sums = list(sums), np.array(list(sums.values()))

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
        resamples = Resamples(self.rows, counts, dict(zip(self._names, self._sums @ counts, strict=True)))
        values = dict.fromkeys(self.columns, np.full(counts.shape[1], np.nan))
        for metric, evaluate in self._metrics.items():
            values |= zip(metric.columns, np.atleast_2d(evaluate(resamples)), strict=True)
        return np.stack([values[column] for column in self.columns], axis=1)


class Resamples:
    """What metrics take of resamples: sums by name, as ``resamples["ones"]``, and ranks, found once for all of them.

    Attributes
    ----------
    rows : PredictedRows or NumberRows
    counts : ndarray of shape (n_groups, n_resamples)
    weight : ndarray of shape (n_resamples,)
        Of all rows.
    pairs : ndarray of shape (n_resamples,)
        Of classes: pairs of a row with outcome 1 and one with outcome 0.
    """

    def __init__(self, rows, counts, sums):
        self.rows, self.counts, self._sums = rows, counts, sums
        self.weight = sums["weight"]

    def __getitem__(self, name):
        return self._sums[name]

    @property
    def pairs(self):
        return self["ones"] * self["zeros"]

    @cached_property
    def ranks(self):
        """Concordant pairs, and average precision times ones."""
        return self.rows.ranks(self.counts, self["ones"], self.pairs)
