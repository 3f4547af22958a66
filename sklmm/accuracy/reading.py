"""What an accuracy report says, in plain words: what was asked, who predicts best, and whether to believe it."""

import numpy as np

from sklmm.accuracy.metrics import METRICS, compute_metrics, leading_column, metric_of
from sklmm.messages import joined, shown_label
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
    here = report.summary[report.summary["scenario"] == name]
    tables = {column: part.set_index("estimator") for column, part in here.groupby("metric", sort=False, observed=True)}
    sentences = [MEANINGS.get(name, f"Scenario {name}.")]
    column = leading_column(tables)
    best = None
    if column is not None:
        best, found = _who_predicts_best(tables[column], column, report)
        sentences += found
        if metric_of(column).leads:
            rows = report.predictions[report.predictions["scenario"] == name]
            sentences.append(_against_guessing(rows, column, report.classes[1]))
    if best is not None:
        sentences += _orders(tables, best)
    for metric in METRICS.values():
        for column in metric.columns:
            if column in tables:
                sentences += metric.says(tables[column])
    return sentences


def _who_predicts_best(table, column, report):
    """The best estimator by a metric, and what the paired differences to the first estimator say."""
    values = table["estimate"].dropna()
    if values.empty:
        return None, [f"The {column} is not defined for these rows."]
    values = values.sort_values(ascending=metric_of(column).better == "lower", kind="stable")
    best, first, level = values.index[0], report.estimators[0], percent(report.level)
    if len(report.estimators) == 1:
        return best, [f"The {column} of {best} is {values.iloc[0]:.4f}."]
    others = ", ".join(f"{name} {value:.4f}" for name, value in values.iloc[1:].items())
    extreme = "lowest" if metric_of(column).better == "lower" else "highest"
    sentences = [f"{best} has the {extreme} {column}, which is the best: {values.iloc[0]:.4f}"
                 + (f", against {others}." if others else ".")]  # fmt: skip
    if best != first:
        row = table.loc[best]
        if np.isfinite(row["difference_lower"]):
            sure = _leaves_out(row["difference_lower"], row["difference_upper"], 0)
            verdict = "leaves out 0: the difference is more than chance" if sure else "includes 0: it may be chance"
            sentences.append(
                f"The {level} interval of its paired difference to {first}, {row['difference_lower']:+.4f} to "
                f"{row['difference_upper']:+.4f}, {verdict}."
            )
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


def _against_guessing(rows, column, label):
    """A metric of the predictions that tell no rows apart."""
    share = np.average(rows["y"], weights=rows.get("weight"))
    if share in (0, 1):
        return "All these rows have the same outcome."
    alike = np.full(len(rows), share)
    value = compute_metrics(rows["y"], alike, np.zeros(len(rows)), rows.get("weight"), metrics=column)[column]
    of_label = f"the share of {shown_label(label)} among them, {share:.1%}"
    return f"Predicting for every row {of_label}, has a {column} of {value:.4f}."


def _orders(tables, best):
    parts = []
    for column, which in (("AUC within groups", "the same group"), ("AUC between groups", "different groups")):
        value = tables[column]["estimate"].get(best, np.nan) if column in tables else np.nan
        if np.isfinite(value):
            parts.append(f"{value:.0%} of the pairs of rows of {which}")
    return [f"Of rows with different outcomes, {best} puts {' and '.join(parts)} in the right order."] if parts else []


def _leaves_out(lower, upper, value):
    return (lower > value) | (upper < value)
