"""Densities of a posterior, with the prior beside them."""

import numpy as np
import pandas as pd

from sklmm.inference.wald import check_level
from sklmm.posterior.densities import posterior_density, prior_density
from sklmm.reporting.displays.axes import axes_for, percent, pyplot

POINTS = 201


class PosteriorDisplay:
    """Posterior densities of parameters, with the prior's beside them: a panel a parameter.

    Use `from_posterior`.

    Parameters
    ----------
    densities : dict of str -> DataFrame
        For each parameter columns "value", "posterior" and "prior" (NaN where the prior is flat or has no formula).
    intervals : DataFrame
        A row a parameter, columns "lower", "median" and "upper".
    level : float, default=0.95

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One a parameter.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, PosteriorDisplay
    >>> from sklmm.datasets import load_bacteria
    >>> children = load_bacteria(as_frame=True).frame
    >>> model = MixedLogisticRegression.from_formula("y ~ week + (1 | ID)", children)
    >>> posterior = model.posterior(children, random_state=0)
    >>> display = PosteriorDisplay.from_posterior(posterior)  # doctest: +SKIP
    """

    def __init__(self, densities, intervals, *, level=0.95):
        self.densities, self.intervals, self.level = densities, intervals, check_level(level)

    @classmethod
    def from_posterior(cls, posterior, *, names=None, level=0.95, ax=None, **kwargs):
        """Draw the parameters of a posterior.

        Parameters
        ----------
        posterior : Posterior
        names : list of str, default=None
            The parameters to show, in order; None: all.
        level : float, default=0.95
            Of the credible interval that is shaded.
        ax : matplotlib Axes or array of them, default=None
            One a parameter; None makes a figure.
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, for the posterior.

        Returns
        -------
        display : PosteriorDisplay
        """
        level = check_level(level)
        names = posterior.names if names is None else list(names)
        unknown = [name for name in names if name not in posterior.names]
        if unknown or not names:
            raise ValueError(f"{unknown[0] if unknown else 'names'!r} is no parameter; there are {posterior.names}")
        tails = posterior.quantile([0.5 - level / 2, 0.5, 0.5 + level / 2])
        tails.columns = ["lower", "median", "upper"]
        densities = {name: _densities(posterior, name) for name in names}
        return cls(densities, tails.loc[names], level=level).plot(ax, **kwargs)

    def to_frame(self):
        """The numbers that are drawn: a row a parameter and value."""
        return pd.concat(self.densities, names=["parameter"]).reset_index(level=1, drop=True)

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : PosteriorDisplay
        """
        n = len(self.densities)
        if ax is not None:
            self.axes_ = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            if len(self.axes_) < n:
                k = len(self.axes_)
                raise ValueError(f"there are {n} parameters to draw, and {k} axes: name {k} parameters")
            self.figure_, _ = axes_for(self.axes_[0])
        else:
            columns = min(n, 3)
            rows = -(-n // columns)
            self.figure_, axes = pyplot().subplots(rows, columns, figsize=(3.2 * columns, 2.3 * rows), squeeze=False,
                                                   layout="constrained")  # fmt: skip
            self.axes_ = axes.ravel()
            for empty in self.axes_[n:]:
                empty.set_axis_off()
        for axes, (name, table) in zip(self.axes_, self.densities.items(), strict=False):
            value, density = table["value"].to_numpy(), table["posterior"].to_numpy()
            lower, median, upper = self.intervals.loc[name, ["lower", "median", "upper"]]
            (line,) = axes.plot(value, density, **{"label": "posterior", **kwargs})
            inside = (value >= lower) & (value <= upper)
            axes.fill_between(value, density, where=inside, alpha=0.25, color=line.get_color(), linewidth=0,
                              label=f"{percent(self.level)} interval")  # fmt: skip
            axes.axvline(median, color=line.get_color(), linewidth=1)
            if table["prior"].notna().any():
                axes.plot(value, table["prior"], color="0.4", linestyle="--", label="prior")
            axes.set_ylim(bottom=0.0)
            axes.set_yticks([])
            axes.set_title(name, fontsize="medium")
        self.axes_ = self.axes_[:n]
        self.axes_[0].legend(fontsize="small")
        return self


def _densities(posterior, name):
    """Values of one parameter with both densities."""
    j = posterior.names.index(name)
    parameter, values = posterior.parameters[j], posterior.values[:, j]
    mean, sd = posterior.summary().loc[name, ["mean", "sd"]]
    low, high = mean - 4.0 * sd, mean + 4.0 * sd
    positive = parameter.kind != "fixed" and len(parameter.positions) < 2
    if positive:
        low = max(low, 0.0)
    elif parameter.kind != "fixed":
        low, high = max(low, -0.999), min(high, 0.999)
    grid = np.linspace(low, high, POINTS)
    prior = prior_density(posterior.prior, parameter, posterior.names, grid)
    prior = np.full(POINTS, np.nan) if prior is None else np.where(np.isfinite(prior), prior, np.nan)
    found = posterior_density(values, posterior.points.weights, grid, 0.0 if positive else -np.inf)
    return pd.DataFrame({"value": grid, "posterior": found, "prior": prior})
