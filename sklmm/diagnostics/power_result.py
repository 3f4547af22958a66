"""What a power simulation found: how often a test rejected, how certain that is, and every p-value."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sklmm.inference.tables import Table
from sklmm.reporting.displays.power import PowerDisplay


@dataclass(frozen=True, repr=False, eq=False)
class PowerResult:
    """Power of a test by simulation; see `power`.

    Attributes
    ----------
    hypothesis : str
        What is tested, in words.
    alpha : float
        Significance level.
    level : float
        Confidence level of the intervals of the power.
    sizes : list of dict of str -> int
        Of each row of the table; an empty one for the size of the data.
    p_values : DataFrame
        A row a simulated study, a column a size. NaN where there was no test: the fit did not converge, classes were
        separated or all outcomes the same, the rows did not tell the coefficient.
    singular : DataFrame
        Likewise, whether a variance of the fit is on the boundary, 1 or 0; NaN for marginal models.
    parameters : Series
        Those that the outcomes were drawn with.
    seed : SeedSequence
        From which every study has its own: `power` goes on from there.
    """

    hypothesis: str
    alpha: float
    level: float
    sizes: list
    p_values: pd.DataFrame
    singular: pd.DataFrame
    parameters: pd.Series
    seed: np.random.SeedSequence

    @property
    def table(self):
        """A row a size: "power" with its standard error and the ends of its interval, by Wilson's method; the number
        of studies, of those that rejected, of those without a test ("n_failed"), which count as not rejected, and, of
        mixed models, of those whose fit was singular, which count as any."""
        rows = []
        for k, size in enumerate(self.sizes):
            values = self.p_values.iloc[:, k]
            n, rejected = len(values), int((values < self.alpha).sum())
            share = rejected / n
            interval = stats.binomtest(rejected, n).proportion_ci(self.level, method="wilson")
            row = {
                **size,
                "power": share,
                "std_error": np.sqrt(share * (1 - share) / n),
                "lower": interval.low,
                "upper": interval.high,
                "n_simulations": n,
                "n_rejected": rejected,
                "n_failed": int(values.isna().sum()),
            }
            singular = self.singular.iloc[:, k]
            if self.is_mixed:
                row["n_singular"] = int(singular.sum())
            rows.append(row)
        table = Table(rows)
        return table if self.note is None else table.with_note(self.note)

    @property
    def is_mixed(self):
        """Whether the model has variances of random effects."""
        return bool(self.singular.notna().any(axis=None))

    @property
    def note(self):
        """What there is to say of studies without a test, or None."""
        failed = int(self.p_values.isna().sum().sum())
        if failed:
            return (
                f"{failed:,} of {self.p_values.size:,} simulated studies gave no test and count as not rejected: the "
                "fit did not converge, classes were separated or all outcomes the same, or the rows did not tell the "
                "coefficient or its error"
            )

    def to_frame(self):
        """The table as a plain data frame."""
        return self.table.to_frame()

    def plot(self, ax=None, **kwargs):
        """Draw the power over the sizes, see `PowerDisplay`.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        display : PowerDisplay
        """
        display = PowerDisplay(self.to_frame(), list(self.sizes[0]), level=self.level, alpha=self.alpha)
        return display.plot(ax, **kwargs)

    def _title(self):
        return (
            f"Power of the test of {self.hypothesis} at alpha = {self.alpha:g}, with {100 * self.level:g} % intervals, "
            f"from {len(self.p_values):,} simulated studies"
        )

    def __repr__(self):
        table = self.table.round(4)
        table.attrs = self.table.attrs
        return f"{self._title()}\n\n{table!r}"

    def _repr_html_(self):
        return f"<p>{self._title()}</p>\n{self.table._repr_html_()}"
