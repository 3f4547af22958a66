"""Power over the size of a study."""

import numpy as np

from sklmm.inference.wald import check_level
from sklmm.reporting.displays.axes import axes_for, percent


class PowerDisplay:
    """Power by simulation with its intervals: a curve over the sizes.

    Use `PowerResult.plot`, or `from_result`.

    Parameters
    ----------
    table : DataFrame
        A row a size, with the sizes and the columns "power", "lower" and "upper".
    sizes : list of str
        Columns of the sizes: the first one is the horizontal axis, and there is a curve for every combination of the
        others. Empty: one point.
    level : float, default=0.95
        Confidence level of the intervals.
    alpha : float, default=0.05
        Significance level of the test, which is drawn as a dotted line: the power where there is no effect.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        One a curve.
    """

    def __init__(self, table, sizes, *, level=0.95, alpha=0.05):
        self.table, self.sizes = table, list(sizes)
        self.level, self.alpha = check_level(level), alpha

    @classmethod
    def from_result(cls, result, *, ax=None, **kwargs):
        """Draw the result of `power`.

        Parameters
        ----------
        result : PowerResult
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        display : PowerDisplay
        """
        return result.plot(ax, **kwargs)

    def to_frame(self):
        """What is drawn, a row a size."""
        return self.table.copy()

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        display : PowerDisplay
        """
        self.figure_, self.ax_ = axes_for(ax)
        self.errorbars_ = []
        others = self.sizes[1:]
        curves = self.table.groupby(others, sort=False) if others else [((), self.table)]
        for values, part in curves:
            label = ", ".join(f"{_words(name)}: {value}" for name, value in zip(others, values, strict=True))
            if self.sizes:
                part = part.sort_values(self.sizes[0])
            x = part[self.sizes[0]].to_numpy() if self.sizes else np.zeros(1)
            middle, lower, upper = (part[column].to_numpy() for column in ("power", "lower", "upper"))
            style = {"marker": "o", "capsize": 2.5, "markersize": 5, "label": label or None, **kwargs}
            spread = np.array([middle - lower, upper - middle])
            self.errorbars_.append(self.ax_.errorbar(x, middle, yerr=spread, **style))
        self.ax_.axhline(self.alpha, color="0.5", linestyle=":", linewidth=1, zorder=0)
        self.ax_.set_ylim(-0.02, 1.02)
        self.ax_.set_ylabel(f"power ({percent(self.level)} interval)")
        if self.sizes:
            self.ax_.set_xlabel(_words(self.sizes[0]))
        else:
            self.ax_.set_xticks([])
        if others:
            self.ax_.legend()
        return self


def _words(size):
    """What a size is of: "rows a group", "groups of district"."""
    if size == "rows":
        return "rows"
    if size.startswith("rows_per_group"):
        _, _, factor = size.partition("|")
        return f"rows a group of {factor}" if factor else "rows a group"
    return f"groups of {size}"
