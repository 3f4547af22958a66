"""What a printed accuracy report says: tables of estimates and of differences, and what to know of the rows."""

import numpy as np

from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.metrics import metric_of
from sklmm.reporting import numbers as _numbers
from sklmm.reporting import rendering as _render


def report_document(report):
    """The document that a report prints, see `sklmm.reporting.rendering`."""
    n, counted = _counts(report)
    of_all = "rows" if report._lines is None else "trials"
    folds = sorted({len(scenario.folds) for scenario in report._plan})
    facts = [
        ("Outcome", KINDS[report.kind].outcome(report._target, report._weights, report.classes, of_all)),
        (f"{report.unit}s".capitalize(), f"{n:,} in {len(report._levels):,} groups of {report.factor}{counted}"),
        ("Folds", " or ".join(map(str, folds))),
        ("Standard errors", f"from resampling groups {report.n_resamples:,} times"),
    ]
    tables = [table for scenario in report._plan for table in scenario_tables(report, scenario)]
    return _render.Document("Predictive accuracy by cross-validation", facts, tables, report.notes)


def about(report):
    """What was predicted for whom, in a line."""
    n, counted = _counts(report)
    rows = f"{n:,} {report.unit}s in {len(report._levels):,} groups of {report.factor}{counted}"
    y, weights = report._target, report._weights
    mean = np.average(y, weights=weights)
    if report.kind == "classes":
        return f"{rows}; {report.event} in {100 * mean:.1f} % of the {'trials' if report.unit == 'line' else 'rows'}."
    sd = np.sqrt(np.average((y - mean) ** 2, weights=weights))
    name = report.outcome_name or "the outcome"
    return f"{rows}; {name} is {mean:.4g} on average, with a standard deviation of {sd:.3g}."


def _counts(report):
    """How many rows or lines, and what these count for, in words."""
    if report._lines is not None:
        return len(np.unique(report._lines)), f", {_numbers.count(report._weights.sum())} trials"
    counted = "" if report._weights is None else f", which count for {_numbers.count(report._weights.sum())}"
    return len(report._target), counted


def scenario_tables(report, scenario):
    """Estimates, and intervals of differences to the first estimator; a row a metric."""
    table = report.summary[report.summary["scenario"] == scenario.name]
    first, *others = report.estimators
    estimates, differences = [], []
    for metric, part in table.groupby("metric", sort=False, observed=True):
        part = part.set_index("estimator").reindex(report.estimators)
        write = number_writer(part, metric_of(metric, KINDS[report.kind].metrics))
        estimates.append([metric, *(f"{write(row.estimate)} ± {write(row.std_error)}" for row in part.itertuples())])
        differences.append([metric, *(_interval(row, write) for row in part.loc[others].itertuples())])
    name = scenario.name.capitalize()
    title = f"{name} ({scenario.n_tested:,} {report.unit}s of {scenario.n_groups:,} groups), estimate ± standard error"
    tables = [_render.Table(title, ["", *report.estimators], estimates)]
    if others:
        title = f"{name}, difference to {first}: {100 * report.level:.6g} % interval, * where it leaves out 0"
        tables.append(_render.Table(title, ["", *others], differences))
    return tables


def notes_on_rows(plan, factor, unit="row"):
    """What to know of the rows tested, or lines of counts, in sentences."""
    notes = []
    for scenario in plan:
        if scenario.name == "known groups" and scenario.n_unseen:
            notes.append(
                f"Known groups: {scenario.n_unseen:,} of {scenario.n_tested:,} {unit}s are of groups of {factor} "
                f"without a {unit} in training, as groups of one {unit} always are; they are predicted as of new "
                "groups."
            )
        if scenario.n_left_out:
            notes.append(
                f"Updated groups: {scenario.n_left_out:,} {unit}s are left out, of groups of {factor} that have too "
                f"few {unit}s to be both shown and tested."
            )
    return notes


def notes_on_warnings(found):
    """What estimators warned of, a sentence for each kind."""
    return [f"{name}, {category.__name__} {text}" for name, category, text in found]


def number_writer(part, metric):
    """How to write a metric's numbers: so many decimals that two digits show of the smallest standard error.

    Errors of differences count: they are smaller, and decimals matter as long as they tell estimators apart.
    """
    scales = part[["std_error", "difference_std_error"]].to_numpy(dtype=float)
    scales = scales[np.isfinite(scales) & (scales > 0)]
    fewest, most = metric.decimals
    largest = part["estimate"].max()
    if metric.in_units and largest > 0:
        fewest, most = (int(max(digits - 1 - np.floor(np.log10(largest)), 0)) for digits in metric.decimals)
    decimals = int(np.clip(1 - np.floor(np.log10(scales.min())), fewest, most)) if scales.size else most
    return lambda value: _numbers.fixed(value, decimals)


def _interval(row, write):
    lower, upper = row.difference_lower, row.difference_upper
    mark = "*" if lower > 0 or upper < 0 else " "
    return f"({_signed(lower, write)}, {_signed(upper, write)}){mark}"


def _signed(value, write):
    text = write(value)
    return f"+{text}" if np.isfinite(value) and float(text) > 0 else text
