"""Caterpillar and normal quantile plots of random effects."""

import numpy as np
from scipy import stats

from sklmm.diagnostics.normality import needs_rows, simulated_effects, standardised_effects
from sklmm.inference.tables import Table
from sklmm.reporting.displays.axes import axes_for, check_level, check_mixed, drawn_name, percent

MOST_LABELS = 80  # beyond, the names of groups cannot be read
_EXTREMES = 5  # lowest and highest groups that have names nevertheless
_LINE = 11  # points from one name to the next


class RandomEffectsDisplay:
    """Random effects of the groups with intervals, from the lowest to the highest: a caterpillar plot.

    Use `from_estimator`, or `compute` and, when it is to be drawn, `plot`.

    Parameters
    ----------
    effects : Series
        Conditional modes by level.
    sd : Series
        Their conditional standard deviations.
    prior_sd : float
        Standard deviation of the random coefficient.
    term, coefficient : str
        What they are called.
    level : float, default=0.95
        Of the intervals.
    simulated : list of ndarray, optional
        Standardised effects of data that the model has made: what quantiles look like where random effects are normal.
    kind : {"caterpillar", "qq"}, default="caterpillar"
        What `plot` draws unless it is told.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    intervals_ : matplotlib LineCollection
        The intervals; None for "qq".
    points_ : matplotlib Line2D
    band_ : matplotlib PolyCollection
        Where quantiles lie in simulations; None without, and for "caterpillar".
    """

    def __init__(self, effects, sd, prior_sd, *, term, coefficient, level=0.95, simulated=None, kind="caterpillar"):
        self.effects = effects
        self.sd = sd
        self.prior_sd = prior_sd
        self.term = term
        self.coefficient = coefficient
        self.level = level
        self.simulated = simulated
        self.kind = kind

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        y=None,
        groups=None,
        *,
        sample_weight=None,
        offset=None,
        precision_weight=None,
        term=None,
        coefficient=None,
        level=0.95,
        kind="caterpillar",
        n_simulations=99,
        random_state=0,
        ax=None,
        **kwargs,
    ):
        """Draw a random coefficient of a fitted model.

        Parameters
        ----------
        estimator : fitted MixedLogisticRegression or MixedLinearRegression
        X, y, groups, sample_weight, offset, precision_weight
            The rows of the fit, for "qq" with several grouping factors and, of models of classes, with random slopes,
            see `sklmm.random_effects_normality`.
        term : str, default=None
            A key of `random_effects_`. None is the first.
        coefficient : str, default=None
            A random coefficient of the term. None is the first, the intercept where there is one.
        level : float, default=0.95
            Of the intervals: conditional modes with multiples of their conditional standard deviations.
        kind : {"caterpillar", "qq"}, default="caterpillar"
            "qq" draws the standardised effects against normal quantiles, with the band in which each of them lies with
            this probability in data that the model has made. Without it, where the rows are needed and not there, the
            picture of a model of classes says little: with few rows a group points do not follow the line, whatever the
            random effects.
        n_simulations : int, default=99
        random_state : int, SeedSequence, Generator, RandomState or None, default=0
            For "qq".
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the points.

        Returns
        -------
        display : RandomEffectsDisplay
        """
        return cls.compute(
            estimator,
            X,
            y,
            groups,
            sample_weight=sample_weight,
            offset=offset,
            precision_weight=precision_weight,
            term=term,
            coefficient=coefficient,
            level=level,
            kind=kind,
            n_simulations=n_simulations,
            random_state=random_state,
        ).plot(ax, **kwargs)

    @classmethod
    def compute(
        cls,
        estimator,
        X=None,
        y=None,
        groups=None,
        *,
        sample_weight=None,
        offset=None,
        precision_weight=None,
        term=None,
        coefficient=None,
        level=0.95,
        kind="caterpillar",
        n_simulations=99,
        random_state=0,
    ):
        """What `from_estimator` draws, without drawing it.

        Parameters
        ----------
        estimator, X, y, groups, sample_weight, offset, precision_weight
            As in `from_estimator`.
        term, coefficient, level, kind, n_simulations, random_state
            As in `from_estimator`.

        Returns
        -------
        display : RandomEffectsDisplay
            Not drawn: `to_frame` has the numbers, `plot` draws them.

        Raises
        ------
        TypeError
            If the model has no random effects.
        ValueError
            If it was fitted without groups, if a term or coefficient is not there, or for other invalid arguments.

        Examples
        --------
        >>> from sklmm import MixedLinearRegression, RandomEffectsDisplay
        >>> from sklmm.datasets import load_sleepstudy
        >>> data = load_sleepstudy(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> RandomEffectsDisplay.compute(model, coefficient="Days").to_frame().head(2).round(1)
             effect   sd  lower  upper  standardised
        335   -10.8  2.3  -15.3   -6.2          -2.0
        309    -8.6  2.3  -13.1   -4.1          -1.6
        """
        _check_kind(kind)
        check_level(level)
        check_mixed(cls, estimator)
        tables = estimator.random_effects_
        if not tables:
            raise ValueError("the model was fitted without groups: it has no random effects to draw")
        term = _chosen(term, list(tables), "term")
        coefficient = _chosen(coefficient, list(tables[term].columns), f"random coefficient of {term!r}")
        variance = estimator.covariance_[term].loc[coefficient, coefficient]
        simulated = None
        if kind == "qq" and (X is not None or not needs_rows(estimator)):
            rows = X, y, groups, sample_weight, offset, *([] if precision_weight is None else [precision_weight])
            draws = simulated_effects(estimator, "kind='qq'", rows, int(n_simulations), random_state)
            simulated = [effects[term, coefficient] for effects in draws]
        return cls(
            tables[term][coefficient],
            estimator.random_effects_sd_[term][coefficient],
            float(np.sqrt(variance)),
            term=term,
            coefficient=coefficient,
            level=level,
            simulated=simulated,
            kind=kind,
        )

    def to_frame(self):
        """The numbers that are drawn.

        Returns
        -------
        frame : Table
            A row a level, from the lowest effect to the highest; columns "effect", the conditional mode, "sd", its
            standard deviation, "lower" and "upper", the ends of the interval, and "standardised", what is drawn against
            normal quantiles.
        """
        reach = check_level(self.level) * self.sd
        standardised = standardised_effects(self.effects.to_numpy(), self.sd.to_numpy(), self.prior_sd)
        if len(standardised) != len(self.effects):  # a variance of 0
            standardised = np.nan
        table = {"effect": self.effects, "sd": self.sd, "lower": self.effects - reach, "upper": self.effects + reach}
        return Table(table).assign(standardised=standardised).sort_values("effect", kind="stable")

    def plot(self, ax=None, *, kind=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure whose height fits the number of groups. Of more than 80 groups the five lowest and the
            five highest have their names.
        kind : {"caterpillar", "qq"}, default=None
            None: that of the display.
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the points.

        Returns
        -------
        display : RandomEffectsDisplay
        """
        kind = self.kind if kind is None else kind
        _check_kind(kind)
        if kind == "qq":
            return self._plot_quantiles(ax, kwargs)
        self.band_ = None
        n_levels = len(self.effects)
        labelled = n_levels <= MOST_LABELS
        height = min(max(1.2 + 0.17 * n_levels, 2.5), 13.0) if labelled else 6.0
        self.figure_, self.ax_ = axes_for(ax, (6.4, height))
        order = np.argsort(self.effects.to_numpy(), kind="stable")
        mode, sd = self.effects.to_numpy()[order], self.sd.to_numpy()[order]
        reach, position = check_level(self.level) * sd, np.arange(n_levels)
        style = {"marker": "o", "linestyle": "none", "markersize": 4 if labelled else 2, "color": "C0", **kwargs}
        self.intervals_ = self.ax_.hlines(
            position, mode - reach, mode + reach, color=style["color"], linewidth=1.2 if labelled else 0.6, alpha=0.7
        )
        self.intervals_.set_snap(labelled)  # to pixels: many lines would make a pattern
        (self.points_,) = self.ax_.plot(mode, position, **style)
        self.ax_.axvline(0.0, color="0.5", linestyle="--", linewidth=1, zorder=0)
        if labelled:
            names = [drawn_name(name) for name in self.effects.index[order]]
            self.ax_.set_yticks(position, labels=names, fontsize="small" if n_levels <= 40 else "x-small")
            self.ax_.set_ylabel(self.term)
        else:
            self.ax_.set_yticks([])
            self.ax_.set_ylabel(f"{n_levels:,} levels of {self.term}, sorted")
            self._name_extremes(order, mode - reach)
        self.ax_.set_ylim(-0.8, n_levels - 0.2)
        self.ax_.set_xlabel(f"{_in_words(self.coefficient)} ({percent(self.level)} interval)")
        return self

    def _name_extremes(self, order, ends):
        """Names of the lowest and of the highest groups in the margin, as far apart as names need, each with a line to
        its interval."""
        n, ax = len(order), self.ax_
        height = 72 * self.figure_.get_figheight() * ax.get_position().height
        apart = max(n * _LINE / height, 1.0)
        most = min(_EXTREMES, int(n / apart / 3))  # two thirds of the margin at most
        if most < 1 or self.effects.min() == self.effects.max():
            return
        lowest, highest = np.arange(most), n - 1 - np.arange(most)
        ranks, places = np.concatenate([lowest, highest]), np.concatenate([lowest * apart, n - 1 - lowest * apart])
        ax.set_yticks(places, labels=[drawn_name(self.effects.index[order[rank]]) for rank in ranks], fontsize="small")
        ax.tick_params(axis="y", length=0)
        for rank, place in zip(ranks, places, strict=True):
            ax.annotate(
                "", (ends[rank], rank), (0.0, place), textcoords=ax.get_yaxis_transform(),
                arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 1},
            )  # fmt: skip

    def _plot_quantiles(self, ax, kwargs):
        self.figure_, self.ax_ = axes_for(ax, (5.4, 4.8))
        self.intervals_ = self.band_ = None
        values = np.sort(standardised_effects(self.effects.to_numpy(), self.sd.to_numpy(), self.prior_sd))
        share = (np.arange(1, len(values) + 1) - 0.5) / max(len(values), 1)
        expected = stats.norm.ppf(share)
        style = {"marker": "o", "linestyle": "none", "markersize": 4, "color": "C0", **kwargs}
        (self.points_,) = self.ax_.plot(expected, values, **style)
        drawn = [np.quantile(draw, share) for draw in self.simulated or () if draw.size and share.size]
        if drawn:
            tails = [(1 - self.level) / 2, 0.5, (1 + self.level) / 2]
            lower, middle, upper = np.quantile(drawn, tails, axis=0)
            self.band_ = self.ax_.fill_between(
                expected, lower, upper, color="0.5", alpha=0.25, linewidth=0,
                label=f"{percent(self.level)} band of data\nthat the model made",
            )  # fmt: skip
            self.ax_.plot(expected, middle, color="0.5", linestyle="--", linewidth=1, zorder=0)
            self.ax_.legend(loc="upper left")
        else:
            self.ax_.axline((0, 0), slope=1, color="0.5", linestyle="--", linewidth=1, zorder=0)
        self.ax_.set_xlabel("normal quantile" + (" (for a band pass X, y, groups)" if self.simulated is None else ""))
        self.ax_.set_ylabel(f"standardised {_in_words(self.coefficient)} of {self.term}")
        return self


def _check_kind(kind):
    if kind not in ("caterpillar", "qq"):
        raise ValueError(f"kind must be 'caterpillar' or 'qq', got {kind!r}")


def _in_words(coefficient):
    return "random intercept" if coefficient == "intercept" else f"random slope of {coefficient}"


def _chosen(name, names, what):
    if name is None:
        return names[0]
    if name not in names:
        raise ValueError(f"{name!r} is no {what}; there are {names}")
    return name
