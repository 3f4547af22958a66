"""What an accuracy report says, in plain words: what was asked, who predicts best, and whether to believe it."""

import numpy as np

from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.metrics import leading_column, metric_of
from sklmm.messages import joined
from sklmm.reporting.displays.axes import percent

MEANINGS = {
    "new groups": "Rows of groups that the models had not seen: how good are predictions for a new group?",
    "known groups": "Further rows of groups that the models were fitted to: how good are predictions for them?",
    "updated groups": (
        "Groups that the models had not seen, after their first rows were shown to the fitted models that can be "
        "updated: how good are predictions for the other rows?"
    ),
}


def read_report(report):
    """The reading of a report.

    Parameters
    ----------
    report : AccuracyReport

    Returns
    -------
    reading : dict of str -> list of str
        For each scenario its sentences; the first says what was asked.
    """
    return {name: _read_scenario(report, name) for name in report.scenarios}


def _read_scenario(report, name):
    here, kind = report.summary[report.summary["scenario"] == name], KINDS[report.kind]
    tables = {column: part.set_index("estimator") for column, part in here.groupby("metric", sort=False, observed=True)}
    sentences = [MEANINGS.get(name, f"Scenario {name}.")]
    column = leading_column(tables, kind.metrics)
    best = None
    if column is not None:
        metric = metric_of(column, kind.metrics)
        best, found = _who_predicts_best(tables[column], column, metric, report)
        sentences += found
        if metric.leads:
            rows = report.predictions[report.predictions["scenario"] == name]
            sentences.append(_against_guessing(rows, metric, kind, report.classes))
    if best is not None:
        sentences += _orders(tables, best)
    for metric in kind.metrics.values():
        for column in metric.columns:
            if column in tables:
                sentences += metric.says(tables[column])
    return sentences


def _who_predicts_best(table, column, metric, report):
    """The best estimator by a metric, and what the paired differences to the first estimator say."""
    values = table["estimate"].dropna()
    if values.empty:
        return None, [f"The {column} is not defined for these rows."]
    values = values.sort_values(ascending=metric.better == "lower", kind="stable")
    best, first, level = values.index[0], report.estimators[0], percent(report.level)
    if len(report.estimators) == 1:
        return best, [f"The {column} of {best} is {values.iloc[0]:{metric.in_words}}."]
    others = ", ".join(f"{name} {value:{metric.in_words}}" for name, value in values.iloc[1:].items())
    extreme = "lowest" if metric.better == "lower" else "highest"
    sentences = [f"{best} has the {extreme} {column}, which is the best: {values.iloc[0]:{metric.in_words}}"
                 + (f", against {others}." if others else ".")]  # fmt: skip
    if best != first:
        row = table.loc[best]
        if np.isfinite(row["difference_lower"]):
            sure = _leaves_out(row["difference_lower"], row["difference_upper"], 0)
            verdict = "leaves out 0: the difference is more than chance" if sure else "includes 0: it may be chance"
            lower, upper = (f"{row[end]:+{metric.in_words}}" for end in ("difference_lower", "difference_upper"))
            interval = f"The {level} interval of its paired difference to {first}, {lower} to {upper}"
            sentences.append(f"{interval}, {verdict}.")
        return best, sentences
    rest = table.drop(index=first)
    rest = rest[np.isfinite(rest["difference_lower"])]
    sure = _leaves_out(rest["difference_lower"], rest["difference_upper"], 0)
    if sure.any():
        sentences.append(
            f"It is better than {joined(rest.index[sure])} by more than chance: the {level} interval of the paired "
            "difference leaves out 0."
        )
    if (~sure).any():
        sentences.append(
            f"Against {joined(rest.index[~sure])} the interval of the paired difference includes 0: the data do not "
            "tell which is better."
        )
    return best, sentences


def _against_guessing(rows, metric, kind, classes):
    """A metric of the predictions that tell no rows apart."""
    y, weights = rows["y"].to_numpy(), rows["weight"].to_numpy() if "weight" in rows else None
    if y.min() == y.max():
        return "All these rows have the same outcome."
    mean = np.average(y, weights=weights)
    value = kind.compute(y, np.full(len(y), mean), np.zeros(len(y)), weights, metrics=metric.columns)[metric.name]
    return f"Predicting for every row {kind.guess(mean, classes)} {metric.name} of {value:{metric.in_words}}."


def _orders(tables, best):
    parts = []
    for column, which in (("AUC within groups", "the same group"), ("AUC between groups", "different groups")):
        value = tables[column]["estimate"].get(best, np.nan) if column in tables else np.nan
        if np.isfinite(value):
            parts.append(f"{value:.0%} of the pairs of rows of {which}")
    return [f"Of rows with different outcomes, {best} puts {' and '.join(parts)} in the right order."] if parts else []


def _leaves_out(lower, upper, value):
    return (lower > value) | (upper < value)
