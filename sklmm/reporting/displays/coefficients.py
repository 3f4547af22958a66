"""Forest plot of odds ratios, or of what else exp of a coefficient is."""

import numpy as np
import pandas as pd

from sklmm.families import LOGIT
from sklmm.inference.tables import Table
from sklmm.reporting.displays.axes import axes_for, check_level, odds_ratio_ticks, percent


class CoefficientDisplay:
    """Fixed effects with confidence intervals: a forest plot of odds ratios, or of what the link has.

    Use `from_estimator` or `from_estimators`, or `compute` and, when it is to be drawn, `plot`.

    Parameters
    ----------
    tables : dict of str -> DataFrame
        For each model a row a coefficient with the columns "estimate", "lower" and "upper", on the scale of the linear
        predictor.
    level : float, default=0.95
        Confidence level of the intervals, for the label of the axis.
    ratio : str or None, default="odds ratio"
        What exp of a coefficient is, None where it is nothing: of models with a probit link, or with different ones.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        One a model.

    Examples
    --------
    >>> from sklmm import CoefficientDisplay, GEELogisticRegression
    >>> from sklmm.datasets import load_ohio
    >>> X, wheeze, child = load_ohio(return_X_y=True, as_frame=True)
    >>> model = GEELogisticRegression().fit(X, wheeze, groups=child)
    >>> display = CoefficientDisplay.from_estimator(model)  # doctest: +SKIP
    """

    def __init__(self, tables, *, level=0.95, ratio="odds ratio"):
        self.tables = tables
        self.level = level
        self.ratio = ratio

    @classmethod
    def from_estimator(cls, estimator, *, names=None, intercept=False, level=0.95, odds_ratios=None, ax=None, **kwargs):
        """Draw the fixed effects of a fitted model.

        Parameters
        ----------
        estimator : fitted MixedLogisticRegression or GEELogisticRegression
        names : list of str, default=None
            The coefficients to show, in order. None: all that have a standard error.
        intercept : bool, default=False
            Whether to show the intercept, where `names` is None: it is no odds ratio but odds.
        level : float, default=0.95
        odds_ratios : bool, default=None
            Odds ratios, or hazard ratios, on a logarithmic axis; False: coefficients. None: ratios, where the link has
            them.
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        display : CoefficientDisplay
        """
        return cls.from_estimators(
            {"": estimator}, names=names, intercept=intercept, level=level, odds_ratios=odds_ratios, ax=ax, **kwargs
        )

    @classmethod
    def compute(cls, estimator, *, names=None, intercept=False, level=0.95):
        """What `from_estimator` draws, without drawing it.

        Parameters
        ----------
        estimator : fitted estimator, or dict of str -> fitted estimator
            A dict as in `from_estimators`.
        names, intercept, level
            As in `from_estimator`.

        Returns
        -------
        display : CoefficientDisplay
            Not drawn: `to_frame` has the numbers, `plot` draws them.

        Raises
        ------
        ValueError
            If there is no model or no coefficient to show, or no coefficient of a name.

        Examples
        --------
        >>> from sklmm import CoefficientDisplay, GEELogisticRegression
        >>> from sklmm.datasets import load_ohio
        >>> X, wheeze, child = load_ohio(return_X_y=True, as_frame=True)
        >>> model = GEELogisticRegression().fit(X, wheeze, groups=child)
        >>> CoefficientDisplay.compute(model).to_frame().round(2)
               estimate  lower  upper
        age       -0.11  -0.20  -0.03
        smoke      0.27  -0.08   0.61
        """
        estimators = estimator if isinstance(estimator, dict) else {"": estimator}
        check_level(level)
        tables = {label: _table(each, level) for label, each in estimators.items()}
        if not tables:
            raise ValueError("estimators is empty: give at least one fitted model")
        found = list(dict.fromkeys(name for table in tables.values() for name in table.index))
        if names is None:
            names = [name for name in found if intercept or name != "intercept"]
        unknown = [name for name in names if name not in found]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no coefficient with a standard error; there are {found}")
        if not names:
            raise ValueError("there is no coefficient to show")
        tables = {label: table.reindex(names) for label, table in tables.items()}
        families = [_family(each) for each in estimators.values()]
        ratio = families[0].ratio if all(family is families[0] for family in families) else None
        return cls(tables, level=level, ratio=ratio)

    @classmethod
    def from_estimators(
        cls, estimators, *, names=None, intercept=False, level=0.95, odds_ratios=None, ax=None, **kwargs
    ):
        """Draw the fixed effects of several models side by side.

        Parameters
        ----------
        estimators : dict of str -> fitted estimator
            The models by the names of the legend. A table as `marginal_coefficients` returns it may take the place of
            an estimator.
        names, intercept, level, odds_ratios, ax, **kwargs
            As in `from_estimator`. A coefficient that a model does not have leaves a gap.

        Returns
        -------
        display : CoefficientDisplay
        """
        display = cls.compute(dict(estimators), names=names, intercept=intercept, level=level)
        if odds_ratios and display.ratio is None:
            _family(list(estimators.values())[-1]).check_ratio("odds ratio")
        return display.plot(ax, odds_ratios=odds_ratios, **kwargs)

    def to_frame(self):
        """The numbers that are drawn.

        Returns
        -------
        frame : Table
            A row a coefficient, of several models a row a model and coefficient; columns "estimate", "lower" and
            "upper", on the scale of the linear predictor.
        """
        tables = {label: table[["estimate", "lower", "upper"]] for label, table in self.tables.items()}
        if list(tables) == [""]:
            return Table(tables[""])
        return Table(pd.concat(tables, names=["model", "coefficient"]))

    def plot(self, ax=None, *, odds_ratios=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure whose height fits the number of coefficients.
        odds_ratios : bool, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        display : CoefficientDisplay
        """
        odds_ratios = self.ratio is not None if odds_ratios is None else odds_ratios
        names = next(iter(self.tables.values())).index
        n_rows, n_models = len(names), len(self.tables)
        height = 1.3 + 0.32 * n_rows * (1 + 0.45 * (n_models - 1))
        self.figure_, self.ax_ = axes_for(ax, (6.4, min(max(height, 2.0), 24.0)))
        offsets = 0.5 * (np.arange(n_models) - (n_models - 1) / 2) / n_models
        self.errorbars_ = []
        for offset, (label, table) in zip(offsets, self.tables.items(), strict=True):
            estimate, lower, upper = (table[column].to_numpy() for column in ("estimate", "lower", "upper"))
            if odds_ratios:
                estimate, lower, upper = np.exp([estimate, lower, upper])
            style = {"fmt": "o", "capsize": 2.5, "markersize": 5, "label": label or None, **kwargs}
            spread = np.array([estimate - lower, upper - estimate])
            self.errorbars_.append(self.ax_.errorbar(estimate, np.arange(n_rows) + offset, xerr=spread, **style))
        self.ax_.axvline(1.0 if odds_ratios else 0.0, color="0.5", linestyle="--", linewidth=1, zorder=0)
        if odds_ratios:
            self.ax_.set_xscale("log")
            odds_ratio_ticks(self.ax_.xaxis)
        self.ax_.set_yticks(np.arange(n_rows), labels=[str(name) for name in names])
        self.ax_.set_ylim(n_rows - 0.4, -0.6)  # the first coefficient on top, as in a table
        what = self.ratio if odds_ratios else "coefficient" if self.ratio is None else f"log {self.ratio}"
        self.ax_.set_xlabel(f"{what} ({percent(self.level)} confidence interval)")
        if n_models > 1:
            self.ax_.legend()
        return self


def _family(estimator):
    """Its family; a table as `marginal_coefficients` returns it is of a logit link, unless models beside it say not."""
    return LOGIT if isinstance(estimator, pd.DataFrame) else estimator._fitted.family


def _table(estimator, level):
    """Estimates and limits of the identified coefficients."""
    if isinstance(estimator, pd.DataFrame):
        table = estimator[["estimate", "lower", "upper"]]
    else:
        names, coef, _ = estimator._fixed_effects()
        table = estimator.conf_int(level).assign(estimate=coef)
        if len(set(names)) < len(names):
            raise ValueError("two coefficients have the same name; rename a column of X")
    return table[np.isfinite(table[["lower", "upper"]]).all(axis=1)]
