"""One curve a group over the population's."""

import numpy as np
import pandas as pd

from sklmm.design.grouping import lookup_codes
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.tables import Table
from sklmm.passes.threads import effective_threads
from sklmm.prediction.linear import NumberPredictor
from sklmm.prediction.predictor import Predictor, probabilities
from sklmm.prediction.reference_rows import TypicalRows
from sklmm.reporting.displays.axes import (
    axes_for,
    check_mixed,
    keep_within_probabilities,
    outcome_label,
    pyplot,
)

MOST_COLOURS = 8  # up to so many groups each has its colour and its name in the legend


class GroupCurvesDisplay:
    """Predicted probability, or expected outcome, over a feature: one curve a group, and the population's on top.

    Use `from_estimator`, or `compute` and, when it is to be drawn, `plot`.

    Parameters
    ----------
    feature : str
    values : ndarray of shape (n_values,)
    curves : ndarray of shape (n_groups, n_values)
        Probabilities in each group, or expected outcomes.
    groups : sequence of length n_groups
        Their labels.
    population : ndarray of shape (n_values,)
    factor : str
        What groups are called.
    population_label : str
        What the population's curve is, in the legend.
    ylabel : str
    of_classes : bool, default=True
        Whether curves are probabilities, or means of a measured outcome.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    group_lines_ : list of matplotlib Line2D
        The groups' curves, in the order of `groups`.
    population_line_ : matplotlib Line2D

    Examples
    --------
    >>> from sklmm import GroupCurvesDisplay, MixedLinearRegression
    >>> from sklmm.datasets import load_sleepstudy
    >>> data = load_sleepstudy(as_frame=True).frame
    >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
    >>> display = GroupCurvesDisplay.from_estimator(model, data, "Days")  # doctest: +SKIP
    """

    def __init__(
        self,
        feature,
        values,
        curves,
        groups,
        population,
        *,
        factor,
        population_label,
        ylabel="probability",
        of_classes=True,
    ):
        self.feature = feature
        self.values = values
        self.curves = curves
        self.groups = groups
        self.population = population
        self.factor = factor
        self.population_label = population_label
        self.ylabel = ylabel
        self.of_classes = of_classes

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        feature,
        *,
        factor=None,
        groups=None,
        at=None,
        sample_weight=None,
        predict_effects=None,
        population="marginal",
        grid_resolution=100,
        ax=None,
        **kwargs,
    ):
        """Compute and draw the curves.

        Parameters
        ----------
        estimator : fitted MixedLogisticRegression or MixedLinearRegression
        X : {array-like, dataframe}
            Rows such as `predict` takes. They say over what range the feature goes, and at which values the
            others are held: means of numbers, most frequent values of anything else. Columns that were made from the
            feature, such as its square, do not follow it, unless the model made them itself (`from_formula`).
        feature : str or int
            A numeric column of X.
        factor : str, default=None
            The grouping factor, where there are several. None is the first; groups of the others count as unknown.
        groups : list, default=None
            Labels of the groups to draw. None: all.
        at : dict, default=None
            Values of other columns to hold them at.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows, for means and frequencies. None is the column of weights that the formula of the model
            names, where X has it.
        predict_effects : {"posterior", "mode"}, default=None
            Curves of groups: averaged over the group's posterior, or at its conditional modes. None: as the estimator
            predicts, "posterior" unless it was set to "mode". Of linear models both are the same.
        population : {"marginal", "zero"}, default="marginal"
            The curve on top: averaged over the population of groups, or of the typical group. Of linear models both are
            the same.
        grid_resolution : int, default=100
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the groups' curves.

        Returns
        -------
        display : GroupCurvesDisplay
        """
        return cls.compute(
            estimator,
            X,
            feature,
            factor=factor,
            groups=groups,
            at=at,
            sample_weight=sample_weight,
            predict_effects=predict_effects,
            population=population,
            grid_resolution=grid_resolution,
        ).plot(ax, **kwargs)

    @classmethod
    def compute(
        cls,
        estimator,
        X,
        feature,
        *,
        factor=None,
        groups=None,
        at=None,
        sample_weight=None,
        predict_effects=None,
        population="marginal",
        grid_resolution=100,
    ):
        """What `from_estimator` draws, without drawing it.

        Parameters
        ----------
        estimator, X, feature, factor, groups, at, sample_weight, predict_effects, population, grid_resolution
            As in `from_estimator`.

        Returns
        -------
        display : GroupCurvesDisplay
            Not drawn: `to_frame` has the numbers, `plot` draws them.

        Raises
        ------
        TypeError
            If the model has no random effects.
        ValueError
            If a column, factor or group is not there, or for other invalid arguments.

        Examples
        --------
        >>> from sklmm import GroupCurvesDisplay, MixedLinearRegression
        >>> from sklmm.datasets import load_sleepstudy
        >>> data = load_sleepstudy(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> curves = GroupCurvesDisplay.compute(model, data, "Days", groups=[308, 309], grid_resolution=4)
        >>> curves.to_frame().round(1).reset_index()
           Days  population    308    309
        0   0.0       251.4  253.7  211.0
        1   3.0       282.8  312.7  216.5
        2   6.0       314.2  371.7  222.1
        3   9.0       345.6  430.7  227.6
        """
        check_mixed(cls, estimator)
        names = list(estimator.n_groups_)
        if not names:
            raise ValueError("the model was fitted without groups: draw it with EffectDisplay")
        factor = names[0] if factor is None else factor
        if factor not in names:
            raise ValueError(f"{factor!r} is no grouping factor of the model; there are {names}")
        which = names.index(factor)
        if predict_effects is None:
            predict_effects = "mode" if estimator.predict_effects == "mode" else "posterior"
        if predict_effects not in ("posterior", "mode"):
            raise ValueError(f"predict_effects must be 'posterior' or 'mode' here, got {predict_effects!r}")
        if population not in ("marginal", "zero"):
            raise ValueError(f"population must be 'marginal' or 'zero', got {population!r}")

        levels = estimator._fitted.factors[which].levels
        chosen = np.arange(len(levels)) if groups is None else lookup_codes(levels, list(groups))
        if (chosen < 0).any():
            unknown = [label for label, code in zip(groups, chosen, strict=True) if code < 0]
            raise ValueError(f"the model knows no {factor} {unknown[0]!r}")

        typical = TypicalRows(estimator, X, at, sample_weight)
        feature = typical.column(feature)
        if not typical.is_numeric(feature):
            raise ValueError(f"{feature!r} holds labels, no numbers to draw curves over")
        values = typical.grid(feature, grid_resolution)
        rows = estimator._read_new_rows(typical.rows(**{feature: values}), None)
        gap = np.where(warn_of_rows(estimator, rows.X), np.nan, 0.0)
        curves = np.empty((len(chosen), len(values)))
        for k, code in enumerate(chosen):
            codes = [np.full(len(values), code if f == which else -1) for f in range(len(names))]
            curves[k] = _expected(estimator, rows, codes, predict_effects) + gap
        unknown = [np.full(len(values), -1)] * len(names)
        return cls(
            feature,
            values,
            curves,
            levels[chosen],
            _expected(estimator, rows, unknown, population) + gap,
            factor=factor,
            population_label="population average" if population == "marginal" else f"typical {factor}",
            ylabel=outcome_label(estimator),
            of_classes=estimator._fitted.family.has_classes,
        )

    def to_frame(self):
        """The numbers that are drawn.

        Returns
        -------
        frame : Table
            A row a value of the feature, which is the index; a column a group, and before them "population".
        """
        table = pd.DataFrame(self.curves.T, index=pd.Index(self.values, name=self.feature), columns=list(self.groups))
        table.insert(0, "population", self.population)
        return Table(table)

    def plot(self, ax=None, *, population_kw=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        population_kw : dict, default=None
            Passed on to `matplotlib.axes.Axes.plot`, which draws the population's curve.
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the groups' curves.

        Returns
        -------
        display : GroupCurvesDisplay
        """
        text_color = pyplot().rcParams["text.color"]  # black, or what a dark style has in its place
        self.figure_, self.ax_ = axes_for(ax)
        few = len(self.groups) <= MOST_COLOURS
        if few:
            styles = [{"color": f"C{k}", "linewidth": 1.3} for k in range(len(self.groups))]
        else:
            fine = {"color": "C0", "linewidth": 0.9, "alpha": 0.45 if len(self.groups) <= 100 else 0.2}
            styles = [fine] * len(self.groups)
        self.group_lines_ = [
            self.ax_.plot(self.values, curve, **{**style, **kwargs})[0]
            for curve, style in zip(self.curves, styles, strict=True)
        ]
        style = {"color": text_color, "linewidth": 2.5, "label": self.population_label}
        (self.population_line_,) = self.ax_.plot(self.values, self.population, **{**style, **(population_kw or {})})
        if few:
            for label, line in zip(self.groups, self.group_lines_, strict=True):
                line.set_label(f"{self.factor} {label}")
        else:
            self.group_lines_[0].set_label(f"{self.factor} ({len(self.groups):,} groups)")
        # Finding the emptiest corner looks at every curve.
        self.ax_.legend(loc="best" if len(self.groups) <= 200 else "upper left")
        self.ax_.set_xlabel(str(self.feature))
        self.ax_.set_ylabel(self.ylabel)
        if self.of_classes:
            keep_within_probabilities(self.ax_)
        return self


def _expected(estimator, rows, codes, effects):
    n_threads = effective_threads(estimator.n_threads)
    if not estimator._fitted.family.has_classes:
        return NumberPredictor.of(estimator, n_threads).means(rows.X, codes, effects, rows.offset)
    return probabilities(*Predictor.of(estimator, n_threads).tails(rows.X, codes, effects, offset=rows.offset))[:, 1]
