"""Predicted probability over one feature, with its confidence band."""

import numpy as np

from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.wald import reference_distribution
from sklmm.prediction.population import (
    check_population_effects,
    delta_errors,
    parameter_covariance,
    probability_and_gradient,
    two_values_of_fit,
)
from sklmm.reporting.displays.axes import (
    TypicalRows,
    as_text,
    axes_for,
    check_level,
    keep_within_probabilities,
    levels_of,
    percent,
    probability_label,
)

MOST_CURVES = 8


class EffectDisplay:
    """Predicted probability over a feature, with a confidence band.

    Use `from_estimator`.

    Parameters
    ----------
    feature : str
    values : array-like of shape (n_values,)
        Numbers, or the levels of a feature of labels.
    curves : dict
        For each curve its label and a DataFrame with the columns "probability", "lower" and "upper".
    by : str or None
        The feature in which curves differ.
    level : float, default=0.95
    ylabel : str

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a curve.
    bands_ : list
        Their bands: filled areas, or error bars for a feature of labels.
    """

    def __init__(self, feature, values, curves, *, by=None, level=0.95, ylabel="probability"):
        self.feature = feature
        self.values = values
        self.curves = curves
        self.by = by
        self.level = level
        self.ylabel = ylabel

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        feature,
        *,
        by=None,
        at=None,
        sample_weight=None,
        predict_effects="marginal",
        level=0.95,
        grid_resolution=100,
        ax=None,
        **kwargs,
    ):
        """Compute and draw the effect of a feature.

        Parameters
        ----------
        estimator : fitted MixedLogisticRegression or GEELogisticRegression
        X : {array-like, dataframe}
            Rows such as `predict_proba` takes. They say over what range the feature goes, and at which values the
            others are held: means of numbers, most frequent values of anything else. Columns that were made from the
            feature, such as its square, do not follow it, unless the model made them itself (`from_formula`). Where
            that leads to combinations which the fit's data say nothing of, there is a gap and a `NotEstimableWarning`.
        feature : str or int
            A column of X.
        by : str or int, default=None
            A column of X with at most 8 values: one curve for each.
        at : dict, default=None
            Values of other columns to hold them at.
        predict_effects : {"marginal", "zero"}, default="marginal"
            Averaged over the population of groups, or for the typical group. Mixed models only.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows, for means and frequencies. None is the column of weights that the formula of the model
            names, where X has it.
        level : float, default=0.95
            Of the band: a Wald interval on the logit scale that takes in the estimates of variances, too.
        grid_resolution : int, default=100
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the curves.

        Returns
        -------
        display : EffectDisplay
        """
        check_population_effects(predict_effects)
        check_level(level)
        typical = TypicalRows(estimator, X, at, sample_weight)
        feature = typical.column(feature)
        values = typical.grid(feature, grid_resolution)
        if isinstance(values, np.ndarray):
            two = two_values_of_fit(estimator, feature)  # a column of 0 and 1 is not a continuum
            values = values if two is None else list(two)
        vcov = parameter_covariance(estimator)
        reach = reference_distribution(estimator._inference_df()).ppf((1 + level) / 2)

        def curve(**columns):
            rows = estimator._read_new_rows(typical.rows(**columns), None)
            unknown = warn_of_rows(estimator, rows.X)
            family = estimator._fitted.family
            p, linked, gradient = probability_and_gradient(estimator, rows.X, predict_effects)
            reached = reach * delta_errors(gradient / family.slope(p, linked)[:, None], vcov)
            found = {"probability": p, "lower": family.mean(linked - reached), "upper": family.mean(linked + reached)}
            return {name: np.where(unknown, np.nan, numbers) for name, numbers in found.items()}

        if by is None:
            curves = {None: curve(**{feature: values})}
        else:
            by = typical.column(by)
            levels = levels_of(typical.frame[by].dropna())
            if by == feature or len(levels) > MOST_CURVES:
                raise ValueError(
                    f"by={by!r} has {len(levels)} values; it must be another column of X than the feature, with at "
                    f"most {MOST_CURVES} values"
                )
            curves = {level: curve(**{feature: values, by: [level] * len(values)}) for level in levels}
        return cls(
            feature, values, curves, by=by, level=level, ylabel=probability_label(estimator)
        ).plot(ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the curves.

        Returns
        -------
        display : EffectDisplay
        """
        self.figure_, self.ax_ = axes_for(ax)
        self.lines_, self.bands_ = [], []
        continuous = isinstance(self.values, np.ndarray)
        n_curves = len(self.curves)
        for k, (label, curve) in enumerate(self.curves.items()):
            interval = f"{percent(self.level)} confidence {'band' if continuous else 'interval'}"
            text = interval if label is None else f"{self.by} = {as_text(label)}"
            if continuous:
                (line,) = self.ax_.plot(self.values, curve["probability"], **kwargs)
                band = self.ax_.fill_between(
                    self.values, curve["lower"], curve["upper"], color=line.get_color(), alpha=0.2, linewidth=0
                )
                (band if label is None else line).set_label(text)
            else:
                place = np.arange(len(self.values)) + 0.3 * (k - (n_curves - 1) / 2) / max(n_curves - 1, 1)
                there = np.isfinite(curve["probability"])
                lower, middle, upper = (curve[name][there] for name in ("lower", "probability", "upper"))
                band = self.ax_.errorbar(
                    place[there], middle, yerr=[middle - lower, upper - middle], label=text,
                    **{"fmt": "o", "capsize": 3, **kwargs},
                )  # fmt: skip
                line = band.lines[0]
            self.lines_.append(line)
            self.bands_.append(band)
        if not continuous:
            self.ax_.set_xticks(np.arange(len(self.values)), labels=[as_text(value) for value in self.values])
            self.ax_.set_xlim(-0.6, len(self.values) - 0.4)
            if n_curves > 1:  # the legend does not see error bars: leave it room above them
                lower, upper = self.ax_.get_ylim()
                self.ax_.set_ylim(lower, upper + (0.1 + 0.06 * n_curves) * (upper - lower))
        self.ax_.legend(title=None if self.by is None else f"{percent(self.level)} confidence")
        self.ax_.set_xlabel(str(self.feature))
        self.ax_.set_ylabel(self.ylabel)
        keep_within_probabilities(self.ax_)
        return self
