"""Residuals against what they should be: quantile residuals of classes, standardised ones of measured outcomes."""

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from sklmm.diagnostics.residuals import residuals_and_predictions, residuals_of_numbers
from sklmm.fitted import FittedMixed
from sklmm.inference.tables import Table
from sklmm.reporting.displays.axes import axes_for, check_level, outcome_label, percent

KINDS = ("qq", "predicted")


class ResidualsDisplay:
    """Residuals: against the quantiles that they should have, or over what was predicted.

    Of models of classes quantile residuals, of measured outcomes standardised ones. Use `from_estimator`, or `compute`
    and, when it is to be drawn, `plot`.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Uniform between 0 and 1 where the model is right; standard normal, of measured outcomes.
    predicted : ndarray of shape (n,)
        Predicted probability or expected outcome of each row, or its mean over the rows of a label.
    what : str, default="rows"
        What residuals are of.
    distribution : scipy.stats distribution, default=scipy.stats.uniform
        Of the residuals where the model is right.
    label, predicted_label : str
        What residuals and predictions are called.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : matplotlib Line2D
    quantile_lines_ : list of matplotlib Line2D
        Quartiles of the residuals in bins of predictions; empty for "qq".

    Examples
    --------
    >>> from sklmm import MixedLinearRegression, ResidualsDisplay
    >>> from sklmm.datasets import load_sleepstudy
    >>> data = load_sleepstudy(as_frame=True).frame
    >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
    >>> display = ResidualsDisplay.from_estimator(model, data, predict_effects="posterior")  # doctest: +SKIP
    """

    def __init__(
        self,
        residuals,
        predicted,
        *,
        what="rows",
        distribution=stats.uniform,
        label="quantile residual",
        predicted_label="predicted probability",
    ):
        self.residuals = residuals
        self.predicted = predicted
        self.what = what
        self.distribution = distribution
        self.label = label
        self.predicted_label = predicted_label

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        groups=None,
        *,
        sample_weight=None,
        offset=None,
        precision_weight=None,
        by=None,
        kind="qq",
        n_simulations=500,
        predict_effects="marginal",
        random_state=None,
        ax=None,
        **kwargs,
    ):
        """Compute and draw residuals.

        Parameters
        ----------
        estimator : fitted estimator of this package
        X, y, groups
            As in `fit`: as a rule the rows of the fit.
        sample_weight, offset, precision_weight, by, n_simulations, predict_effects, random_state
            See `sklmm.quantile_residuals`. Of a linear model "marginal" residuals are from the fixed part alone,
            "posterior" ones, called conditional, from the expected outcome in the row's group, which takes the rows of
            the fit: they are divided by what residuals of rows vary by that have been fitted to.
        kind : {"qq", "predicted"}, default="qq"
            Sorted residuals against uniform or, of measured outcomes, normal quantiles, with the band in which each of
            so many independent residuals lies with a probability of 95 %; or residuals over predicted probabilities or
            expected outcomes, with their quartiles, which should be flat.
        ax : matplotlib Axes, default=None
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the points.

        Returns
        -------
        display : ResidualsDisplay
        """
        return cls.compute(
            estimator,
            X,
            y,
            groups,
            sample_weight=sample_weight,
            offset=offset,
            precision_weight=precision_weight,
            by=by,
            n_simulations=n_simulations,
            predict_effects=predict_effects,
            random_state=random_state,
        ).plot(ax, kind=kind, **kwargs)

    @classmethod
    def compute(
        cls,
        estimator,
        X,
        y=None,
        groups=None,
        *,
        sample_weight=None,
        offset=None,
        precision_weight=None,
        by=None,
        n_simulations=500,
        predict_effects="marginal",
        random_state=None,
    ):
        """What `from_estimator` draws, without drawing it.

        Parameters
        ----------
        estimator, X, y, groups, sample_weight, offset, precision_weight
            As in `from_estimator`.
        by, n_simulations, predict_effects, random_state
            As in `from_estimator`.

        Returns
        -------
        display : ResidualsDisplay
            Not drawn: `to_frame` has the numbers, `plot` draws them.

        Raises
        ------
        ValueError
            For invalid arguments.

        Examples
        --------
        >>> from sklmm import MixedLinearRegression, ResidualsDisplay
        >>> from sklmm.datasets import load_sleepstudy
        >>> data = load_sleepstudy(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
        >>> ResidualsDisplay.compute(model, data).to_frame().head(2).round(2)
           predicted  residual  quantile
        0     251.41     -0.05     -0.10
        1     261.87     -0.09     -0.16
        """
        check_is_fitted(estimator)
        if estimator._fitted.family.has_classes:
            residuals, p, what = residuals_and_predictions(
                estimator, X, y, groups, sample_weight, by, n_simulations, predict_effects, random_state, offset
            )
            return cls(residuals.to_numpy(), p, what=what)
        residuals, mean, what = residuals_of_numbers(
            estimator, X, y, groups, by, predict_effects, offset, precision_weight
        )
        label = "standardised residual"
        if isinstance(estimator._fitted, FittedMixed):
            label = f"marginal {label}" if predict_effects == "marginal" else "conditional studentised residual"
        there = np.isfinite(residuals.to_numpy())  # rows that determine their expectation have none
        residuals, mean = residuals[there], mean[there]
        words = {"distribution": stats.norm, "label": label, "predicted_label": outcome_label(estimator)}
        return cls(residuals.to_numpy(), mean, what=what, **words)

    def to_frame(self):
        """The numbers that are drawn.

        Returns
        -------
        frame : Table
            A row a residual; columns "predicted", "residual" and "quantile", where the residual should lie among the
            others if the model is right.
        """
        n = self.residuals.size
        quantile = self.distribution.ppf((stats.rankdata(self.residuals, method="ordinal") - 0.5) / n)
        return Table({"predicted": self.predicted, "residual": self.residuals, "quantile": quantile})

    def plot(self, ax=None, *, kind="qq", level=0.95, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        kind : {"qq", "predicted"}, default="qq"
        level : float, default=0.95
            Of the band of "qq".
        **kwargs
            Passed on to `matplotlib.axes.Axes.plot`, which draws the points.

        Returns
        -------
        display : ResidualsDisplay
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be 'qq' or 'predicted', got {kind!r}")
        check_level(level)
        self.figure_, self.ax_ = axes_for(ax, (5.4, 4.8) if kind == "qq" else None)
        n = self.residuals.size
        style = {"marker": "o", "linestyle": "none", "color": "C0", "markersize": 4 if n <= 300 else 2, **kwargs}
        what = f"{self.label} ({n:,} {self.what})"
        if kind == "qq":
            return self._plot_quantiles(n, what, level, style)
        style = {"alpha": min(1.0, max(0.05, 300 / n)), **style}
        order = np.argsort(self.predicted, kind="stable")
        x, residuals = self.predicted[order], self.residuals[order]
        (self.points_,) = self.ax_.plot(x, residuals, **style)
        bins = np.array_split(np.arange(n), min(n, int(np.clip(n // 25, 4, 20))))
        middle = [np.median(x[part]) for part in bins]
        self.quantile_lines_ = []
        for quantile in (0.25, 0.5, 0.75):
            self.ax_.axhline(self.distribution.ppf(quantile), color="0.5", linestyle="--", linewidth=1)
            values = [np.quantile(residuals[part], quantile) for part in bins]
            (line,) = self.ax_.plot(middle, values, color="C1", linewidth=2, marker="." if len(bins) == 1 else None)
            self.quantile_lines_.append(line)
        self.quantile_lines_[0].set_label("quartiles")
        if self.distribution is stats.uniform:
            self.ax_.set_ylim(-0.02, 1.02)
        self.ax_.set_xlabel(self.predicted_label)
        self.ax_.set_ylabel(what)
        self.ax_.legend(loc="upper right")
        return self

    def _plot_quantiles(self, n, what, level, style):
        rank = np.arange(1, n + 1)
        expected = self.distribution.ppf((rank - 0.5) / n)
        tails = (1 - level) / 2, (1 + level) / 2
        lower, upper = (self.distribution.ppf(stats.beta.ppf(tail, rank, n + 1 - rank)) for tail in tails)
        self.ax_.fill_between(
            expected, lower, upper, color="0.5", alpha=0.25, linewidth=0,
            label=f"{percent(level)} band, if independent",
        )  # fmt: skip
        uniform = self.distribution is stats.uniform
        line = [0, 1] if uniform else expected[[0, -1]]
        self.ax_.plot(line, line, color="0.5", linestyle="--", linewidth=1)
        (self.points_,) = self.ax_.plot(expected, np.sort(self.residuals), **style)
        self.quantile_lines_ = []
        self.ax_.set_xlabel("uniform quantile" if uniform else "normal quantile")
        self.ax_.set_ylabel(what)
        if uniform:
            self.ax_.set_xlim(-0.02, 1.02)
            self.ax_.set_ylim(-0.02, 1.02)
        self.ax_.legend(loc="upper left")
        return self
