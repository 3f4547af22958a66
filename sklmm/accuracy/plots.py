"""Pictures of an accuracy report: ROC curves or outcomes over predictions, calibration curves, metrics with intervals.

Every estimator has its colour (Okabe and Ito's, which the colour-blind can tell apart), line style and marker, the same
in all pictures of a report. matplotlib is imported when something is drawn.
"""

import numpy as np
from sklearn.metrics import roc_curve

from sklmm.accuracy.calibration import N_BINS, calibration_bins
from sklmm.accuracy.kinds import CLASSES, KINDS, NUMBERS
from sklmm.accuracy.metrics import leading_column, metric_columns, metric_of
from sklmm.reporting.displays.axes import check_level, drawn_name, marker_of, percent, pyplot, style_of

_MOST_POINTS = 2000  # of a curve: more than a picture shows


def plot_roc(report, scenario=None, ax=None, **kwargs):
    """Receiver operating characteristic of each classifier.

    Parameters
    ----------
    report : AccuracyReport
        Of classes.
    scenario : str or list of str, default=None
        None: all, side by side.
    ax : matplotlib Axes or sequence of them, default=None
        One a scenario. None makes a figure.
    **kwargs
        Passed on to `matplotlib.axes.Axes.plot`.

    Returns
    -------
    ax : matplotlib Axes, or ndarray of Axes for several scenarios

    Raises
    ------
    ValueError
        If the report has no such scenario or another kind, or there are not as many axes as scenarios.
    ImportError
        Without matplotlib.
    """
    _check_kind(report, CLASSES, "ROC curves", "plot_predicted")
    names = _scenarios(report, scenario)
    axes = _panels(len(names), ax, width=4.6, height=4.9)
    for panel, name in zip(axes, names, strict=True):
        panel.plot([0, 1], [0, 1], color="0.5", linewidth=1, zorder=0)
        aucs = _estimates(report, name, "ROC AUC")
        for estimator, y, p, _, weights in _predictions(report, name):
            line, label = _style(report, estimator), drawn_name(estimator)
            if y.min() == y.max():
                continue
            x, sensitivity, _ = roc_curve(y, p, sample_weight=weights)
            if np.isfinite(aucs.get(estimator, np.nan)):
                label += f" (AUC {aucs[estimator]:.3f})"
            keep = _thinned(len(x))
            panel.plot(x[keep], sensitivity[keep], **{**line, "label": label, **kwargs})
        found = f"sensitivity (found of {_outcome(report)})"
        panel.set(xlabel="1 - specificity (false alarms)", ylabel=found, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        panel.set_aspect("equal", anchor="N")
        _title(panel, name, len(names), ax)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(loc="lower right", fontsize="small")
        else:
            panel.text(0.5, 0.25, "one class only: no curve", ha="center")
    return _result(axes, ax)


def plot_predicted(report, scenario=None, ax=None, **kwargs):
    """Outcomes over predictions, a panel an estimator and scenario.

    Parameters
    ----------
    report : AccuracyReport
        Of numbers.
    scenario : str or list of str, default=None
        None: all, side by side.
    ax : matplotlib Axes or array of them, default=None
        One an estimator and scenario, scenarios varying fastest. None makes a figure.
    **kwargs
        Passed on to `matplotlib.axes.Axes.plot`.

    Returns
    -------
    ax : matplotlib Axes, or ndarray of Axes for several panels

    Raises
    ------
    ValueError, ImportError
        As in `plot_roc`.
    """
    _check_kind(report, NUMBERS, "outcomes over predictions", "plot_roc")
    names, n = _scenarios(report, scenario), len(report.estimators)
    axes = _panels(len(names), ax, width=3.2, height=3.0, n_rows=n, sharex=True, sharey=True)
    explained = [_estimates(report, name, "R2") for name in names]
    for column, name in enumerate(names):
        for row, (estimator, y, p, _, _) in enumerate(_predictions(report, name)):
            panel, label = axes[row * len(names) + column], drawn_name(estimator)
            if np.isfinite(explained[column].get(estimator, np.nan)):
                label += f" (R2 {explained[column][estimator]:.3f})"
            keep = np.argsort(p, kind="stable")[_thinned(len(p))]
            panel.axline((y[0], y[0]), slope=1, color="0.5", linewidth=1, zorder=0)
            style = {"marker": ".", "linestyle": "", "alpha": 0.5, "color": _style(report, estimator)["color"]}
            panel.plot(p[keep], y[keep], **{**style, "label": label, **kwargs})
            _title(panel, f"{name}\n{label}" if row == 0 else label, len(names) * n, ax)
            if row == n - 1:
                panel.set_xlabel(f"prediction of {_outcome(report)}")
            if column == 0:
                panel.set_ylabel(_outcome(report))
    return _result(axes, ax)


def plot_calibration(report, scenario=None, ax=None, *, n_bins=N_BINS, intervals=None, **kwargs):
    """Share of outcomes 1 over predicted probability, or mean outcome over prediction, in bins of the predictions.

    Parameters
    ----------
    report : AccuracyReport
    scenario, ax
        As in `plot_roc`.
    n_bins : int, default=10
        Bins by quantile of the predictions, see `calibration_bins`.
    intervals : bool, default=None
        Whether to draw confidence intervals of what was observed, at the report's level, see `calibration_curve`. None:
        where there are at most three estimators.
    **kwargs
        Passed on to `matplotlib.axes.Axes.plot`.

    Returns
    -------
    ax : matplotlib Axes, or ndarray of Axes for several scenarios

    Raises
    ------
    ValueError, ImportError
        As in `plot_roc`.
    """
    names, kind = _scenarios(report, scenario), KINDS[report.kind]
    n_columns = 2 if max(len(drawn_name(estimator)) for estimator in report.estimators) <= 12 else 1
    axes = _panels(len(names), ax, width=4.6, height=5.0 + 0.2 * np.ceil(len(report.estimators) / n_columns))
    if intervals is None:
        intervals = len(report.estimators) <= 3
    for panel, name in zip(axes, names, strict=True):
        slopes = _estimates(report, name, "calibration slope")
        reach, sizes = list(kind.bounds[::-1]), []
        for estimator, y, p, group, weights in _predictions(report, name):
            curve = calibration_curve(y, p, group, weights, n_bins=n_bins, level=report.level, kind=kind)
            style, label = _style(report, estimator), drawn_name(estimator)
            if np.isfinite(slopes.get(estimator, np.nan)):
                label += f" (slope {slopes[estimator]:.2f})"
            marker = {"marker": marker_of(report.estimators.index(estimator)), "markersize": 4.5}
            panel.plot(curve["predicted"], curve["observed"], **{**style, **marker, "label": label, **kwargs})
            shown = [curve["predicted"], curve["observed"]]
            if intervals:
                panel.vlines(
                    curve["predicted"], curve["lower"], curve["upper"], color=style["color"], linewidth=1, alpha=0.6
                )
                shown += [curve["lower"], curve["upper"]]
            reach = [min(reach[0], *map(np.min, shown)), max(reach[1], *map(np.max, shown))]
            sizes += list(curve["count"])
        margin = 0.04 * (reach[1] - reach[0])
        limits = max(reach[0] - margin, kind.bounds[0] - 0.01), min(reach[1] + margin, kind.bounds[1] + 0.01)
        panel.plot(np.clip(limits, *kind.bounds), np.clip(limits, *kind.bounds), color="0.5", linewidth=1, zorder=0)
        panel.set(xlim=limits, ylim=limits)
        panel.set_aspect("equal", anchor="N")
        smallest, largest = (f"{np.rint(end):,.0f}" for end in (min(sizes), max(sizes)))
        size = smallest if smallest == largest else f"{smallest} to {largest}"
        panel.set_xlabel(f"{kind.axes[0]} (bins of {size} rows)")
        observed = kind.axes[1].format(_outcome(report))
        panel.set_ylabel(observed + (f", {percent(report.level)} interval" if intervals else ""))
        _title(panel, name, len(names), ax)
        # Below the picture: curves may be anywhere in it.
        panel.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=n_columns, frameon=False, fontsize="small"
        )
    return _result(axes, ax)


def plot_comparison(report, metric=None, scenario=None, ax=None, *, difference=False, **kwargs):
    """Metrics of each estimator with their intervals.

    Parameters
    ----------
    report : AccuracyReport
    metric : str or list of str, default=None
        Several are several rows of panels. None: the one that estimators are ranked by.
    scenario : str or list of str, default=None
        None: all, side by side.
    ax : matplotlib Axes or array of them, default=None
        One a metric and scenario, scenarios varying fastest. None makes a figure.
    difference : bool, default=False
        Whether to draw differences to the first estimator. They are paired: their intervals say which estimators
        differ, which those of the estimates do not.
    **kwargs
        Passed on to `matplotlib.axes.Axes.errorbar`.

    Returns
    -------
    ax : matplotlib Axes, or ndarray of Axes for several scenarios or metrics

    Raises
    ------
    ValueError
        If the report has no such metric; with `difference`, if there is one estimator only; and as in `plot_roc`.
    ImportError
        Without matplotlib.
    """
    names, listed = _scenarios(report, scenario), KINDS[report.kind].metrics
    if metric is None:
        found = list(report.summary["metric"].unique())
        metric = leading_column(found, listed) or found
    metrics = metric_columns(metric, listed)
    missing = [column for column in metrics if column not in set(report.summary["metric"])]
    if missing:
        raise ValueError(f"the report has no metric {missing[0]!r}; it has {sorted(set(report.summary['metric']))}")
    shown = list(report.estimators)[1:] if difference else list(report.estimators)
    if not shown:
        raise ValueError("difference=True needs a second estimator to compare with the first")
    longest = max(len(drawn_name(estimator)) for estimator in shown)
    axes = _panels(
        len(names), ax, width=3.4 + 0.07 * longest / len(names), height=1.1 + 0.32 * len(shown), n_rows=len(metrics),
        sharex=False if difference else "row", sharey=True,
    )  # fmt: skip
    columns = ["difference", "difference_lower", "difference_upper"] if difference else ["estimate", "lower", "upper"]
    pairs = [(column, name) for column in metrics for name in names]
    for place, (panel, (column, name)) in enumerate(zip(axes, pairs, strict=True)):
        here = report.summary[(report.summary["metric"] == column) & (report.summary["scenario"] == name)]
        table = here.set_index(here["estimator"].astype(object))
        for row, estimator in enumerate(shown):
            value, lower, upper = table.loc[estimator, columns].astype(float)
            if not np.isfinite(value):
                continue
            style = _style(report, estimator)
            spread = [[max(value - lower, 0)], [max(upper - value, 0)]] if np.isfinite([lower, upper]).all() else None
            panel.errorbar(
                value, row, xerr=spread,
                **{"fmt": marker_of(report.estimators.index(estimator)), "color": style["color"],
                   "capsize": 2.5, "markersize": 5, **kwargs},
            )  # fmt: skip
        metric = metric_of(column, listed)
        reference = 0.0 if difference else metric.target
        if reference is not None:
            panel.axvline(reference, color="0.5", linestyle="--", linewidth=1, zorder=0)
        panel.set_yticks(range(len(shown)), labels=[drawn_name(estimator) for estimator in shown])
        panel.set_ylim(len(shown) - 0.4, -0.6)  # the first on top, as in a table
        what = column
        if difference:  # in a line of its own where it would reach into the next panel
            first = drawn_name(report.estimators[0]).strip()
            what = f"{column}, difference{' ' if len(column) + len(first) < 20 else chr(10)}to {first}"
        if difference:
            panel.set_xlabel(what if metric.better == "nearer" else f"{what}\n({metric.direction})")
        else:
            panel.set_xlabel(f"{what} ({metric.direction})")
        panel.locator_params(axis="x", nbins=5)
        if place < len(names):  # scenarios head their columns
            _title(panel, name, len(names), ax)
    return _result(axes, ax)


def calibration_curve(y, probability, group_codes, weights=None, *, n_bins=N_BINS, level=0.95, kind=CLASSES):
    """Mean prediction and mean outcome, a share of classes, in bins of the predictions; intervals for grouped rows.

    Parameters
    ----------
    y, probability, group_codes : array-like of shape (n,)
    weights : array-like of shape (n,), optional
        How many rows each row counts for.
    n_bins : int, default=10
    level : float, default=0.95
    kind : Kind

    Returns
    -------
    curve : dict of str -> ndarray of shape (n_bins_used,)
        "predicted", "observed", "lower", "upper", "count". Empty bins are left out.

    Notes
    -----
    The interval of a share is Wilson's, with the number of independent rows that would have the same standard error as
    the share has when rows of a group are not independent (its linearised between-group variance), but no more than
    there are. That of a mean of numbers is normal, from the same variance.
    """
    quantile = check_level(level)
    y, p = np.asarray(y), np.asarray(probability, dtype=float)
    groups, code = np.unique(np.asarray(group_codes), return_inverse=True)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    bins = np.unique(calibration_bins(p, w, n_bins), return_inverse=True)[1]
    count = np.bincount(bins, w)
    predicted, observed = np.bincount(bins, w * p) / count, np.bincount(bins, w * y) / count
    # Sums of residuals by bin and group; only pairs that occur.
    pair, where = np.unique(bins * np.int64(len(groups)) + code, return_inverse=True)
    residual = np.bincount(where, w * (y - observed[bins]))
    variance = np.bincount(pair // len(groups), residual**2) / count**2
    found = {"predicted": predicted, "observed": observed, "count": count}
    if not kind.has_classes:
        half = quantile * np.sqrt(variance)
        return found | {"lower": observed - half, "upper": observed + half}
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.fmin(count, observed * (1 - observed) / variance)  # 0/0 where all outcomes are alike: the count
    lower, upper = _wilson(observed, n, quantile)
    return found | {"lower": lower, "upper": upper}


def _wilson(share, n, quantile):
    centre = (share + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    half = quantile / (1 + quantile**2 / n) * np.sqrt(share * (1 - share) / n + quantile**2 / (4 * n**2))
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


# What the pictures share ------------------------------------------------------------------------------------


def _check_kind(report, kind, what, instead):
    if report.kind != kind.name:
        raise ValueError(f"a report of {report.kind} has no {what}: see {instead}")


def _outcome(report):
    """What is predicted: the event, or the outcome's name."""
    name = report.event or report.outcome_name or "outcome"
    return name.replace("$", r"\$")


def _scenarios(report, scenario):
    """The names asked for, in the report's order."""
    found = list(report.scenarios)
    if scenario is None:
        return found
    names = [scenario] if isinstance(scenario, str) else list(scenario)
    unknown = [name for name in names if name not in found]
    if unknown or not names:
        raise ValueError(f"the report has no scenario {unknown[0] if unknown else scenario!r}; it has {found}")
    return names


def _panels(n_columns, ax, *, width, height, n_rows=1, **shared):
    """Axes to draw into, flat, row by row; new ones where none are given."""
    if ax is None:
        _, axes = pyplot().subplots(
            n_rows, n_columns, figsize=(width * n_columns, height * n_rows), layout="constrained", squeeze=False,
            **shared,
        )  # fmt: skip
        return axes.ravel()
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) != n_rows * n_columns:
        raise ValueError(
            f"there are {n_rows * n_columns} panels to draw, but ax holds {len(axes)}: choose a scenario, or give an "
            "Axes for each"
        )
    return axes


def _result(axes, ax):
    return axes[0] if len(axes) == 1 else axes


def _title(panel, name, n_scenarios, ax):
    """Which scenario a panel shows: always said, unless axes of the user's own show a single one."""
    if n_scenarios > 1 or ax is None:
        panel.set_title(str(name), fontsize="medium")


def _style(report, estimator):
    return style_of(list(report.estimators).index(estimator)) | {"linewidth": 1.6}


def _predictions(report, scenario):
    """Outcomes, predictions, groups and weights (or None) of a scenario, estimator by estimator."""
    rows = report.predictions[report.predictions["scenario"] == scenario]
    for estimator in report.estimators:
        part = rows[rows["estimator"] == estimator]
        groups = part["group"].cat.codes if hasattr(part["group"], "cat") else part["group"]
        weights = part["weight"].to_numpy() if "weight" in part else None
        predicted = part[KINDS[report.kind].columns[0]].to_numpy()
        yield estimator, part["y"].to_numpy(), predicted, groups.to_numpy(), weights


def _estimates(report, scenario, column):
    """A metric by estimator; empty if the report does not have it."""
    here = report.summary[(report.summary["scenario"] == scenario) & (report.summary["metric"] == column)]
    return dict(zip(here["estimator"], here["estimate"], strict=True))


def _thinned(n):
    """Positions of points that show a curve of n points, both ends among them."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_POINTS)).round().astype(np.intp))
