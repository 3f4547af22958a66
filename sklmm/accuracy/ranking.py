"""Who predicts best, and whether better than the average: the leading metric against two references."""

import numpy as np
import pandas as pd

from sklmm.accuracy.metrics import leading_column, metric_of
from sklmm.accuracy.resampling import resample_metrics

AVERAGE = "average"
_OF_DIFFERENCE = ("difference", "difference_lower", "difference_upper")
_COLUMNS = ("to_average", "to_average_lower", "to_average_upper", "to_best", "to_best_lower", "to_best_upper")


def rank(data, scenario, predictions, metrics, **resampling):
    """Estimators by the metric that leads, the best first, each against the average and against the best.

    The average predicts for every tested row the mean outcome of its fold's training rows: what is known without any
    model. Differences are paired, from resampling groups.

    Parameters
    ----------
    data : GroupedData
    scenario : Scenario
    predictions : dict of str -> ndarray
        Of the tested rows, by estimator.
    metrics : list of str
        Columns of the report.
    **resampling
        Of `resample_metrics`: level, n_resamples, random_state.

    Returns
    -------
    ranking : DataFrame
        A row an estimator, and a last one, "average"; columns "estimator", "metric", "estimate", and the difference to
        both references with its interval: "to_average", "to_average_lower", "to_average_upper", "to_best",
        "to_best_lower", "to_best_upper". Without rows where no metric ranks.
    """
    column = leading_column(metrics, data.kind.metrics)
    columns = ["estimator", "metric", "estimate", *_COLUMNS]
    if column is None:
        return pd.DataFrame(columns=columns)
    rows = scenario.rows

    def compare(reference):
        first = {reference: everyone[reference]}  # differences are to it
        return resample_metrics(
            data.target[rows], first | everyone,
            data.codes[rows], data.weights_of(rows), metrics=column, folds=scenario.fold_numbers, kind=data.kind,
            **resampling,
        ).set_index("estimator").loc[list(everyone)]  # fmt: skip

    average = _free(AVERAGE, predictions)
    everyone = {**predictions, average: _averages(data, scenario)}
    to_average = compare(average)
    values = to_average["estimate"].drop(average).dropna()
    ascending = metric_of(column, data.kind.metrics).better == "lower"
    best = values.sort_values(ascending=ascending, kind="stable").index
    to_best = None if best.empty else compare(best[0])
    if to_best is not None:
        to_best.loc[best[0], list(_OF_DIFFERENCE)] = 0.0
        # Of estimators that agree to rounding the first in the report leads.
        best = sorted(best, key=lambda name: (abs(to_best.loc[name, "difference"]), list(predictions).index(name)))
    table = to_average[["metric", "estimate"]].copy()
    for prefix, found in (("to_average", to_average), ("to_best", to_best)):
        for suffix, name in zip(("", "_lower", "_upper"), _OF_DIFFERENCE, strict=True):
            table[prefix + suffix] = np.nan if found is None else found[name]
    order = [*best, *(name for name in predictions if name not in best), average]
    return table.loc[order].rename_axis("estimator").reset_index()[columns]


def _averages(data, scenario):
    """The mean outcome of the training rows, for each tested row."""
    found = []
    for fold in scenario.folds:
        mean = np.average(data.target[fold.train], weights=data.weights_of(fold.train))
        found.append(np.full(len(fold.test), mean))
    mean = np.concatenate(found)
    n_columns = len(data.kind.columns)
    return mean if n_columns == 1 else np.column_stack([mean, np.full((len(mean), n_columns - 1), np.nan)])


def _free(name, taken):
    """A key that no estimator has."""
    while name in taken:
        name += "_"
    return name
