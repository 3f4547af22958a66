"""Predicted probability, or expected outcome, over one feature, with its confidence band."""

import numpy as np
import pandas as pd

from sklmm.fitted import FittedLinear
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.tables import Table
from sklmm.inference.wald import reference_distribution
from sklmm.prediction.linear import NumberPredictor
from sklmm.prediction.population import (
    check_population_effects,
    delta_errors,
    parameter_covariance,
    probability_and_gradient,
)
from sklmm.prediction.reference_rows import TypicalRows, levels_of, two_values_of_fit
from sklmm.reporting.displays.axes import (
    axes_for,
    check_level,
    drawn_name,
    keep_within_probabilities,
    marker_of,
    outcome_label,
    percent,
    pyplot,
    style_of,
)

MOST_CURVES = 8
_MOST_BANDS = 3  # in one picture: more hide each other wherever they overlap


class EffectDisplay:
    """Predicted probability, or of a measured outcome its expectation, over a feature, with a confidence band.

    Use `from_estimator`, or `compute` and, when it is to be drawn, `plot`.

    Parameters
    ----------
    feature : str
    values : array-like of shape (n_values,)
        Numbers, or the levels of a feature of labels.
    curves : dict
        For each curve its label and a dict of arrays: "probability", or of a measured outcome "mean"; "lower", "upper".
    by : str or None
        The feature in which curves differ.
    level : float, default=0.95
    ylabel : str
    of_classes : bool, default=True
        Whether curves are probabilities, or means of a measured outcome.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first one, where there are facets.
    axes_ : ndarray of matplotlib Axes
        One, or one a curve.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        One a curve.
    bands_ : list
        Their bands: filled areas, or error bars for a feature of labels.

    Examples
    --------
    >>> from sklmm import EffectDisplay, MixedLinearRegression
    >>> from sklmm.datasets import load_sleepstudy
    >>> data = load_sleepstudy(as_frame=True).frame
    >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
    >>> display = EffectDisplay.from_estimator(model, data, "Days")  # doctest: +SKIP
    """

    def __init__(self, feature, values, curves, *, by=None, level=0.95, ylabel="probability", of_classes=True):
        self.feature = feature
        self.values = values
        self.curves = curves
        self.by = by
        self.level = level
        self.ylabel = ylabel
        self.of_classes = of_classes

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
        facets=None,
        ax=None,
        **kwargs,
    ):
        """Compute and draw the effect of a feature.

        Parameters
        ----------
        estimator : fitted estimator of this package
        X : {array-like, dataframe}
            Rows such as `predict` takes. They say over what range the feature goes, and at which values the
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
            Averaged over the population of groups, or for the typical group. Mixed models only; of linear ones both are
            the same.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows, for means and frequencies. None is the column of weights that the formula of the model
            names, where X has it.
        level : float, default=0.95
            Of the band: a Wald interval on the logit scale that takes in the estimates of variances, too; of linear
            models that of `predict_interval` for the mean in the typical group.
        grid_resolution : int, default=100
        facets : bool, default=None
        ax : matplotlib Axes, or with facets a sequence of them, default=None
            See `plot`, as for `facets`.
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the curves.

        Returns
        -------
        display : EffectDisplay
        """
        return cls.compute(
            estimator,
            X,
            feature,
            by=by,
            at=at,
            sample_weight=sample_weight,
            predict_effects=predict_effects,
            level=level,
            grid_resolution=grid_resolution,
        ).plot(ax, facets=facets, **kwargs)

    @classmethod
    def compute(
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
    ):
        """What `from_estimator` draws, without drawing it.

        Parameters
        ----------
        estimator, X, feature, by, at, sample_weight, predict_effects, level, grid_resolution
            As in `from_estimator`.

        Returns
        -------
        display : EffectDisplay
            Not drawn: `to_frame` has the numbers, `plot` draws them.

        Raises
        ------
        ValueError
            If a column is not in X, if `by` has more than 8 values, or for other invalid arguments.

        Warns
        -----
        NotEstimableWarning
            If some of the rows hold combinations that the fit's data say nothing of.

        Examples
        --------
        >>> from sklmm import EffectDisplay, MixedLinearRegression
        >>> from sklmm.datasets import load_sleepstudy
        >>> data = load_sleepstudy(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> EffectDisplay.compute(model, data, "Days", grid_resolution=4).to_frame().round(1)
           Days   mean  lower  upper
        0   0.0  251.4  237.0  265.8
        1   3.0  282.8  266.5  299.1
        2   6.0  314.2  291.6  336.9
        3   9.0  345.6  314.7  376.5
        """
        check_population_effects(predict_effects)
        check_level(level)
        typical = TypicalRows(estimator, X, at, sample_weight)
        feature = typical.column(feature)
        values = typical.grid(feature, grid_resolution)
        if isinstance(values, np.ndarray):
            two = two_values_of_fit(estimator, feature)  # a column of 0 and 1 is not a continuum
            values = values if two is None else list(two)
        linear = isinstance(estimator._fitted, FittedLinear)
        if not linear:
            vcov = parameter_covariance(estimator)
            reach = reference_distribution(estimator._inference_df()).ppf((1 + level) / 2)
        family = estimator._fitted.family
        middle = "probability" if family.has_classes else "mean"

        def curve(**columns):
            rows = estimator._read_new_rows(typical.rows(**columns), None)
            unknown = warn_of_rows(estimator, rows.X)
            if linear:
                predictor, X = NumberPredictor.of(estimator, 1), np.asarray(rows.X, dtype=np.float64)
                p = linked = predictor.means(X, [], "zero", rows.offset)
                reached = estimator._reach(*predictor.errors(X, [], "zero"), level)
            else:
                p, linked, gradient = probability_and_gradient(estimator, rows.X, predict_effects, rows.offset)
                reached = reach * delta_errors(gradient / family.slope(p, linked)[:, None], vcov)
            found = {middle: p, "lower": family.mean(linked - reached), "upper": family.mean(linked + reached)}
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
        words = {"ylabel": outcome_label(estimator), "of_classes": family.has_classes}
        return cls(feature, values, curves, by=by, level=level, **words)

    def to_frame(self):
        """The numbers that are drawn.

        Returns
        -------
        frame : Table
            A row a value of the feature, and of `by` where there is one; columns "probability" or "mean", "lower",
            "upper".
        """
        tables = []
        for level, curve in self.curves.items():
            table = pd.DataFrame({self.feature: self.values, **curve})
            if self.by is not None:
                table.insert(0, self.by, level)
            tables.append(table)
        return Table(pd.concat(tables, ignore_index=True))

    def plot(self, ax=None, *, facets=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, or with facets a sequence of them, default=None
        facets : bool, default=None
            Whether every curve has axes of its own, with the other curves in grey behind it. None: where bands of more
            than three curves overlap, unless `ax` is a single one.
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the curves.

        Returns
        -------
        display : EffectDisplay

        Raises
        ------
        ValueError
            If there are not as many axes as facets.
        """
        n_curves, single = len(self.curves), ax is None or hasattr(ax, "plot")
        if facets is None:
            facets = not single or (ax is None and self._is_continuous and n_curves > _MOST_BANDS and self._overlap())
        self._make_axes(ax, n_curves if facets else 1)
        self.lines_, self.bands_ = [], []
        for k, (label, curve) in enumerate(self.curves.items()):
            panel = self.axes_[k if facets else 0]
            if self._is_continuous:
                self._draw_curve(panel, k, label, curve, facets, kwargs)
            else:
                self._draw_points(panel, k, label, curve, facets, kwargs)
        self._label_axes(facets)
        return self

    @property
    def _is_continuous(self):
        return isinstance(self.values, np.ndarray)

    @property
    def _middle(self):
        return "probability" if self.of_classes else "mean"

    def _overlap(self):
        """Whether the bands of two curves have a value in common anywhere."""
        curves = list(self.curves.values())
        return any(
            np.any((one["lower"] < other["upper"]) & (other["lower"] < one["upper"]))
            for k, one in enumerate(curves)
            for other in curves[:k]
        )

    def _make_axes(self, ax, n):
        if ax is None and n > 1:
            n_columns = n if n <= 3 else 2 if n == 4 else 3 if n <= 6 else 4
            n_rows = -(-n // n_columns)
            self.figure_, axes = pyplot().subplots(
                n_rows, n_columns, figsize=(1 + 2.7 * n_columns, 0.6 + 2.3 * n_rows), sharex=True, sharey=True,
                layout="constrained", squeeze=False,
            )  # fmt: skip
            for left_over in axes.ravel()[n:]:
                left_over.set_axis_off()
            for above in axes[:-1].ravel()[max(n - n_columns, 0) :]:  # nothing is below: the ticks are its own
                above.xaxis.set_tick_params(labelbottom=True)
            self.axes_ = axes.ravel()[:n]
        elif ax is None or hasattr(ax, "plot"):
            self.axes_ = np.array([axes_for(ax)[1]], dtype=object)
        else:
            self.axes_ = np.ravel(np.asarray(ax, dtype=object))
        if len(self.axes_) != n:
            raise ValueError(f"there are {n} curves to draw, each in axes of its own, but ax holds {len(self.axes_)}")
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure

    @property
    def _interval(self):
        return f"{percent(self.level)} confidence {'band' if self._is_continuous else 'interval'}"

    def _label_of(self, label):
        return self._interval if label is None else f"{self.by} = {drawn_name(label)}"

    def _draw_curve(self, panel, k, label, curve, facets, kwargs):
        """A curve with its band, whose edges show where others cover it."""
        style = style_of(k) | ({"linestyle": "-"} if facets else {})  # alone it needs no dashes
        (line,) = panel.plot(self.values, curve[self._middle], **{**style, "linewidth": 1.8, **kwargs})
        band = panel.fill_between(
            self.values, curve["lower"], curve["upper"], color=line.get_color(), linewidth=0,
            alpha=0.25 if facets or len(self.curves) == 1 else 0.12,
        )  # fmt: skip
        if facets:
            for other in self.curves.values():
                if other is not curve:
                    panel.plot(self.values, other[self._middle], color="0.6", linewidth=0.8, zorder=0.5)
        elif label is not None:
            for edge in ("lower", "upper"):
                panel.plot(self.values, curve[edge], color=line.get_color(), linewidth=0.7, alpha=0.8)
        (band if label is None else line).set_label(self._label_of(label))
        self.lines_.append(line)
        self.bands_.append(band)

    def _draw_points(self, panel, k, label, curve, facets, kwargs):
        n = 1 if facets else len(self.curves)
        apart = 0.3 + 0.06 * max(n - 2, 0)  # from the first to the last; there is 1 to the next level
        place = np.arange(len(self.values)) + apart * (0 if n == 1 else (k - (n - 1) / 2) / (n - 1))
        there = np.isfinite(curve[self._middle])
        lower, middle, upper = (curve[which][there] for which in ("lower", self._middle, "upper"))
        style = {"fmt": marker_of(k), "color": style_of(k)["color"], "capsize": 3, **kwargs}
        band = panel.errorbar(
            place[there], middle, yerr=[middle - lower, upper - middle], label=self._label_of(label), **style
        )
        self.lines_.append(band.lines[0])
        self.bands_.append(band)

    def _label_axes(self, facets):
        for panel, label in zip(self.axes_, self.curves, strict=False):
            if not self._is_continuous:
                panel.set_xticks(np.arange(len(self.values)), labels=[drawn_name(value) for value in self.values])
                panel.set_xlim(-0.6, len(self.values) - 0.4)
            if facets and label is not None:
                panel.set_title(self._label_of(label), fontsize="medium")
            if self.of_classes:
                keep_within_probabilities(panel)
            own = panel.get_subplotspec() is None or not facets
            if own or panel.get_subplotspec().is_first_col():
                panel.set_ylabel(f"{self.ylabel}\n({self._interval})" if facets else self.ylabel)
            if own or panel.get_subplotspec().is_last_row() or panel.xaxis.get_tick_params()["labelbottom"]:
                panel.set_xlabel(str(self.feature))
        if facets:
            return
        if not self._is_continuous and len(self.curves) > 1:  # the legend does not see error bars: room above them
            lower, upper = self.ax_.get_ylim()
            self.ax_.set_ylim(lower, upper + (0.1 + 0.06 * len(self.curves)) * (upper - lower))
            if self.of_classes:
                keep_within_probabilities(self.ax_)
        self.ax_.legend(title=None if self.by is None else f"{percent(self.level)} confidence")
