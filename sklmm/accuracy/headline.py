"""What an accuracy report says first: for each scenario a verdict, and a few sentences that ask for no statistics."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from sklmm.accuracy.baselines import PLAIN
from sklmm.accuracy.calibration import calibration_bins
from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.metrics import metric_of
from sklmm.messages import joined
from sklmm.reporting.numbers import count

# How good predictions are that are better than the average by more than chance, by the share of pairs of rows in the
# right order, or by the share of the variance that they explain.
_HOW_GOOD = ("a little", "somewhat", "clearly", "far")
_PAIRS, _EXPLAINED = (0.6, 0.7, 0.8), (0.1, 0.3, 0.6)
_FEW_ROWS = 50  # fewer make no tenths


@dataclass(frozen=True)
class Headline:
    """What is said of one scenario.

    Attributes
    ----------
    title : str
        Whom it is about.
    failures : list of str
        Sentences on fits that did not converge.
    verdict : str
        A sentence.
    sentences : list of str
        What it rests on.
    """

    title: str
    failures: list
    verdict: str
    sentences: list


def headlines(report):
    """The headline of each scenario.

    Parameters
    ----------
    report : AccuracyReport

    Returns
    -------
    headlines : dict of str -> Headline
    """
    explained = set()  # what a model is, is said where it is first named
    return {name: _headline(report, name, explained) for name in report.scenarios}


def title_of(report, scenario):
    """Whom a scenario is about."""
    shown = f"{report.update_rows:,} {report.unit}s"
    one = f"{'an' if report.factor[:1].lower() in 'aeiou' else 'a'} {report.factor}"
    return {
        "new groups": f"For {one} that is not in the data",
        "known groups": f"For {one} that is in the data",
        "updated groups": f"For {one} that is not in the data, once its first {shown} are known",
    }.get(scenario, scenario[:1].upper() + scenario[1:])


def _headline(report, scenario, explained):
    failures, failed = _failures(report, scenario)
    ranking = report.ranking[report.ranking["scenario"] == scenario].set_index("estimator")
    rows = report.predictions[report.predictions["scenario"] == scenario]
    y = rows["y"].to_numpy()
    title = title_of(report, scenario)
    if y.min() == y.max() or len(ranking) == 0:
        why = "all outcomes are alike" if y.min() == y.max() else "the report has no measure that ranks them"
        return Headline(title, failures, f"How good predictions are cannot be said: {why}.", [])
    models, average = ranking.iloc[:-1], ranking.iloc[-1]
    usable = models[np.isfinite(models["estimate"].astype(float)) & ~models.index.isin(failed)]
    if len(usable) == 0:
        return Headline(title, failures, "How good predictions are cannot be said: no model could be fitted.", [])
    sign = 1.0 if metric_of(average["metric"], KINDS[report.kind].metrics).better == "lower" else -1.0
    # Gains over the average, from the least to the most that the data are compatible with.
    ends = sign * -usable[["to_average_upper", "to_average_lower"]].to_numpy(dtype=float)
    least, most = ends.min(axis=1), ends.max(axis=1)
    best = usable.index[0]
    of_best = rows[rows["estimator"] == best]
    verdict, better = _verdict(report, of_best, usable, least, most)
    sentences = _who(report, usable, sign, best == models.index[0], explained)
    plain = next((name for name, what in report.models.items() if what == PLAIN and name not in (best, *failed)), None)
    of_plain = None if plain is None else rows[rows["estimator"] == plain]
    sentences += _in_numbers(report, of_best, of_plain) if better or report.kind == "numbers" else []
    worse = [name for name, end in zip(usable.index, most, strict=True) if end < 0]
    if worse and len(worse) < len(usable):
        sentences.append(f"Worse than the average for all, by more than chance: {joined(worse)}.")
    return Headline(title, failures, verdict, sentences)


def _failures(report, scenario):
    """Sentences on fits that did not arrive, and whose they are."""
    fits = report._times[report._times["scenario"] == scenario]
    counts = fits.groupby("estimator", sort=False)["converged"].agg(["sum", "size"])
    counts = counts[counts["sum"] < counts["size"]]
    sentences = []
    alike = counts.groupby([counts["size"] - counts["sum"], counts["size"]], sort=False)
    for (failed, of), names in alike.groups.items():
        its, it_is = ("their", "they are") if len(names) > 1 else ("its", "it is")
        sentences.append(
            f"Fits of {joined(names)} failed in {failed} of {of} folds (they did not converge): {its} predictions are "
            f"not to be relied on, and {it_is} left out of what follows."
        )
    return sentences, set(counts.index)


def _verdict(report, of_best, models, least, most):
    """How good the best predictions are, and whether they are better than the average by more than chance."""
    average = _average(report, of_best)
    if not np.isfinite(least[0]):
        return f"Whether predictions are better than {average} cannot be said from so few groups.", False
    if least[0] > 0:
        return f"Predictions are {_how_good(report, of_best)} better than {average}.", True
    if (most < 0).all():
        worse = "Every model predicts" if len(models) > 1 else f"{models.index[0]} predicts"
        return f"{worse} worse than {average}.", False
    no = "No model predicts" if len(models) > 1 else f"{models.index[0]} does not predict"
    return f"{no} better than {average}, by more than chance.", False


def _average(report, rows):
    y, weights = rows["y"].to_numpy(dtype=float), _weights(rows)
    mean = np.average(y, weights=weights)
    return "the average for all, " + (f"{100 * mean:.1f} %" if report.kind == "classes" else f"{mean:.4g}")


def _how_good(report, rows):
    y, weights = rows["y"].to_numpy(dtype=float), _weights(rows)
    if report.kind == "classes":
        value, ends = roc_auc_score(y, rows["probability"], sample_weight=weights), _PAIRS
    else:
        spread = np.average((y - np.average(y, weights=weights)) ** 2, weights=weights)
        value = 1 - np.average((y - rows["prediction"].to_numpy()) ** 2, weights=weights) / spread
        ends = _EXPLAINED
    return _HOW_GOOD[int(np.searchsorted(ends, value, side="right"))]


def _who(report, models, sign, is_first, explained):
    """The best estimator, and how sure it is that others are worse."""
    best, others = models.index[0], models.iloc[1:]
    what = report.models.get(best)
    named = best if best in explained or what in (None, best) else f"{best} ({what})"
    explained.add(best)
    sentences = [f"The {'best predictions' if len(others) else 'predictions'} are those of {named}."]
    if not is_first:  # differences are to another, whose fits failed
        return sentences
    ends = sign * others[["to_best_lower", "to_best_upper"]].to_numpy(dtype=float)
    surely = np.nan_to_num(ends.min(axis=1)) > 0
    same = [str(name) for name in others.index[~surely]]
    worse = [str(name) for name in others.index[surely]]
    if same and worse:
        sentences.append(f"Worse by more than chance: {joined(worse)}. It may be chance for {joined(same)}.")
    elif worse:
        sentences.append(f"All others are worse by more than chance: {joined(worse)}.")
    elif same:
        sentences.append(f"That others are worse may be chance: {joined(same)}.")
    return sentences


def _in_numbers(report, rows, plain):
    """How good the best predictions are, in numbers that need no explanation; beside plain regression, if there is."""
    y, weights = rows["y"].to_numpy(dtype=float), _weights(rows)
    if report.kind == "numbers":
        return [_typical_error(y, rows["prediction"].to_numpy(dtype=float), weights)]
    p, event = rows["probability"].to_numpy(), report.event
    in_order = f"{100 * roc_auc_score(y, p, sample_weight=weights):.0f} times"
    if plain is not None:
        of_plain = 100 * roc_auc_score(plain["y"], plain["probability"], sample_weight=_weights(plain))
        in_order += f" ({plain['estimator'].iloc[0]}, {report.models[plain['estimator'].iloc[0]]}: {of_plain:.0f})"
    sentences = [
        f"Of 100 pairs of rows, one with {event} and one without, it gives the higher probability to the right one "
        f"{in_order}; guessing gives 50."
    ]
    if len(y) >= _FEW_ROWS:
        bins = calibration_bins(p, np.ones(len(y)) if weights is None else weights)
        low, high = bins == bins.min(), bins == bins.max()
        if not (low & high).any():
            w = np.ones(len(y)) if weights is None else weights
            shares = [100 * np.average(y[at], weights=w[at]) for at in (high, low)]
            counted = "trials" if report.unit == "line" else "rows"
            sentences.append(
                f"Of the {count(w[high].sum())} {counted} with its highest probabilities {shares[0]:.0f} % have "
                f"{event}, of the {count(w[low].sum())} with its lowest {shares[1]:.0f} %."
            )
    return sentences


def _typical_error(y, predicted, weights):
    """Half of the rows are nearer to their predictions than this."""
    size, of_average = (np.abs(y - value) for value in (predicted, np.average(y, weights=weights)))
    middle, of_average = (_median(values, weights) for values in (size, of_average))
    return (
        f"Half of its predictions miss the outcome by less than {middle:.3g}; predicting the average for all, half "
        f"miss it by less than {of_average:.3g}."
    )


def _median(values, weights):
    if weights is None:
        return np.median(values)
    return np.quantile(values, 0.5, weights=weights, method="inverted_cdf")


def _weights(rows):
    return rows["weight"].to_numpy(dtype=float) if "weight" in rows else None
