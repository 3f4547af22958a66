"""What a fitted model found, for readers of no statistics: a few sentences in the outcome's own units."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklmm.fitted import FittedMarginal
from sklmm.messages import joined, listed, shown_label
from sklmm.prediction.population import averages, effect_variances
from sklmm.reporting.comparisons import Comparisons, shown
from sklmm.reporting.displays.axes import percent
from sklmm.reporting.narrative_effects import written

_MOST = 4  # features that are told of one by one
_CLEAR = 3.0  # standard errors between two points of a curve
_NINE_IN_TEN = stats.norm.ppf(0.95)
_EXTREMES = 3


@dataclass(frozen=True)
class Outcome:
    """What is predicted.

    Attributes
    ----------
    name : str or None
        What it is called.
    event : str or None
        The event whose probability is modelled, in words: "use = 'Y'". None of measured outcomes.
    unit : {"rows", "trials"}
        In which it occurs.
    """

    name: str | None
    event: str | None
    unit: str = "rows"

    @classmethod
    def of(cls, estimator, name=None):
        """The outcome of a fitted model, whose y may have had a name."""
        fitted = estimator._fitted
        formula = fitted.formula
        if formula is not None:
            name = formula.response
            if formula.is_counts:
                return cls(name, f"a success ({name})", "trials")
        if not fitted.family.has_classes:
            return cls(name, None)
        label = shown_label(estimator.classes_[fitted.event])
        return cls(name, f"outcome {label}" if name is None else f"{name} = {label}")


class Findings:
    """What a model says of its features and groups.

    Parameters
    ----------
    estimator : fitted estimator
    X : {array-like, dataframe}
        Rows to average over, see `Comparisons`.
    outcome : Outcome
    factors, offset, sample_weight, level
        See `Comparisons`.

    Attributes
    ----------
    comparisons : Comparisons or None
        None of a fit that did not converge: it says nothing.
    """

    def __init__(self, estimator, X, outcome, *, factors=None, offset=None, sample_weight=None, level=0.95):
        self.estimator, self.X, self.outcome, self.factors, self.level = estimator, X, outcome, factors or {}, level
        self.comparisons = None
        if estimator.converged_:
            self.comparisons = Comparisons(estimator, X, self.factors, offset, sample_weight, level)

    @property
    def lead(self):
        """What the sentences are about."""
        low = " (high and low: one row in ten lies beyond)" if any(
            found.is_number and found.is_sure for found in self.comparisons.most_certain()[:_MOST]
        ) else ""  # fmt: skip
        return f"What the model expects on average, all else being as it is in the data{low}:"

    @property
    def failure(self):
        """Why nothing is said; None if something is."""
        if self.estimator.converged_:
            return None
        verdict = self.estimator.fit_report_.verdict.strip() or "the iterations stopped early"
        return f"The model could not be fitted, so that nothing is said of effects: {verdict}."

    def of_features(self):
        """Sentences on features, the clearest first; and one on those without a clear effect."""
        found = self.comparisons.most_certain()
        curves = {curve.feature: curve for curve in self.comparisons.curves}
        told, unclear = [], []
        for comparison in found:
            curve = curves[comparison.feature]
            if comparison.is_sure:
                told.append((abs(comparison.distance), self._compared(comparison)))
            elif curve.distance > _CLEAR and len(curve.values) > 2:
                told.append((curve.distance, self._bent(curve)))
            else:
                unclear.append(comparison.feature)
        sentences = [sentence for _, sentence in sorted(told, key=lambda pair: -pair[0])]
        more = len(sentences) - _MOST
        sentences = sentences[:_MOST]
        if more > 0:
            have = "features have" if more > 1 else "feature has"
            sentences.append(f"{more:,} more {have} a clear effect; see below.")
        if unclear:
            sentences.append(f"No clear effect: {listed(unclear, 6)}.")
        if self.comparisons.separated:
            separated = listed(self.comparisons.separated, 6)
            sentences.append(
                f"No number can be given for {separated}: in some of its {self.outcome.unit} "
                f"{self.outcome.event} always, or never."
            )
        if self.comparisons.untold:
            untold = listed(self.comparisons.untold, 6)
            sentences.append(f"Nothing can be said of {untold}: other features say the same.")
        return sentences

    def of_groups(self):
        """Sentences on how much groups differ; none of a marginal model."""
        fitted = self.estimator._fitted
        if isinstance(fitted, FittedMarginal):
            return []
        if fitted.large_variances:
            return ["Groups differ so much that by how much cannot be said."] if fitted.factors else []
        variables = self.comparisons.variables
        X, offset = variables.design({})
        typical, _ = averages(self.estimator, X, offset, variables.weights, "zero")
        family = fitted.family
        center = family.link(typical) if family.has_classes else typical
        sentences = []
        for name, variance in effect_variances(self.estimator, X).items():
            who = "Groups" if name == "group" else f"Groups of {name}"
            reach = _NINE_IN_TEN * np.sqrt(variables.weights @ variance)
            if not reach > 0:
                sentences.append(f"{who} do not differ by more than chance.")
                continue
            low, high = family.mean(center - reach), family.mean(center + reach)
            what = self.outcome.event or self.outcome.name or "the outcome"
            if family.has_classes:
                low, high = _percent(low, high - low), _percent(high, high - low)
                alike = f"of {self.outcome.unit} that are alike in everything else"
                text = f"{alike}, {low} to {high} have {what}, depending on the group"
            else:
                low, high = written(low, high - low), written(high, high - low)
                text = f"for rows that are alike in everything else, {what} is {low} to {high} on average, by group"
            sentences.append(f"{who} differ: {text} (nine in ten lie between).{self._extremes(name)}")
        return sentences

    def _extremes(self, name):
        """The groups at both ends, of random intercepts."""
        effects = self.estimator.random_effects_.get(name)
        if effects is None or "intercept" not in effects or len(effects) < 2 * _EXTREMES + 2:
            return ""
        labels = effects["intercept"].sort_values(kind="stable").index
        high, low = labels[::-1][:_EXTREMES], labels[:_EXTREMES]
        return f" Highest are {joined(high)}, lowest {joined(low)}."

    def _compared(self, found):
        before, after = found.means
        width = found.upper - found.lower
        size, low, high = abs(found.difference), *sorted((abs(found.lower), abs(found.upper)))
        ends = (" (high)", " (low)") if found.is_number else ("", "")
        where = f"Where {found.feature} is {found.after}{ends[0]}, ", f"; where it is {found.before}{ends[1]}, "
        with_confidence = f"with {percent(self.level)} confidence"
        if self.outcome.event is not None:
            sign = "+" if found.difference > 0 else "−"
            return (
                f"{where[0]}{self.outcome.event} in {_percent(after, width)} of the {self.outcome.unit}{where[1]}in "
                f"{_percent(before, width)} ({sign}{_points(size, width)} percentage points; between "
                f"{_points(low, width)} and {_points(high, width)} {with_confidence})."
            )
        more = "more" if found.difference > 0 else "less"
        return (
            f"{where[0]}{self.outcome.name or 'the outcome'} is {written(after, width)} on average{where[1]}"
            f"{written(before, width)} ({written(size, width)} {more}; between {written(low, width)} and "
            f"{written(high, width)} {with_confidence})."
        )

    def _bent(self, curve):
        """Of an effect that rises and falls."""
        low, high = int(np.argmin(curve.mean)), int(np.argmax(curve.mean))
        width = curve.upper[high] - curve.lower[high]
        write = _percent if self.outcome.event is not None else written
        ends = [f"where it is {shown(curve.values[k])} ({write(curve.mean[k], width)})" for k in (high, low)]
        name = self.outcome.event or self.outcome.name or "the outcome"
        most = "most common" if self.outcome.event is not None else "highest"
        least = "least" if self.outcome.event is not None else "lowest"
        return f"With {curve.feature} {name} rises and falls (see the picture): {most} {ends[0]}, {least} {ends[1]}."


def _percent(share, width):
    """A share in per cent, with as many decimals as its uncertainty lets count."""
    return f"{_points(share, width)} %"


def _points(share, width):
    decimals = 0 if not 0 < width < 0.02 else int(np.clip(-np.floor(np.log10(50 * width)), 1, 3))
    return f"{100 * share:.{decimals}f}"
