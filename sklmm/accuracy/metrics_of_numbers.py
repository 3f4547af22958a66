"""Metrics of measured outcomes: how far predictions are off, what they explain, and what their intervals hold.

The contract is `Metric`. Each is a function of sums over groups, so that resamples are exact.
"""

import numpy as np
from sklearn import metrics as sk

from sklmm.accuracy.metrics import MeanOfRows, Metric, SlopeOfCalibration, share
from sklmm.messages import joined

LEVEL = 0.9  # of the intervals whose coverage and width are reported
_ROUNDING = 1e-12  # a variance is none if it is a smaller part of the squares that it is the difference of


class _InUnits(MeanOfRows):
    """Metrics in the units of the outcome, whatever these are."""

    better, bounds, in_units, in_words = "lower", (0.0, np.inf), True, ".5g"


class Rmse(_InUnits):
    name, leads, first = "RMSE", True, True
    meaning = "Root of the mean squared difference of prediction and outcome, in the outcome's units."

    def of_rows(self, rows):
        return sk.root_mean_squared_error(rows.y, rows.p, sample_weight=rows.w)

    def sums(self, rows):
        return {"squared errors": rows.by_group(rows.w * (rows.y - rows.p) ** 2)}

    def of_sums(self, resamples):
        return np.sqrt(share(resamples["squared errors"], resamples.weight))


class Mae(_InUnits):
    name, first = "MAE", True
    meaning = "Mean absolute difference of prediction and outcome, in the outcome's units."

    def each(self, rows):
        return np.abs(rows.y - rows.p)


class _Explained(Metric):
    """1 less a sum of squared errors over a sum of squares of outcomes about their mean.

    Attributes
    ----------
    whose : str
        Of which differences it is a share.
    """

    better, bounds, needs_both = "higher", (-np.inf, 1.0), True
    whose = None

    def of_rows(self, rows):
        errors, squares, sums, weight = (sum_.sum() for sum_ in self._by_group(rows))
        return _explained(errors, squares, sums, weight)

    def sums(self, rows):
        errors, squares, sums, _ = self._by_group(rows)
        return {f"{self.name}: errors": errors, f"{self.name}: squares": squares, f"{self.name}: sums": sums}

    def of_sums(self, resamples):
        return _explained(*(resamples[f"{self.name}: {what}"] for what in ("errors", "squares", "sums")),
                          resamples.weight)  # fmt: skip

    def _by_group(self, rows):
        """Sums by group: of squared errors, of squares, of what is squared, of weights."""
        raise NotImplementedError

    def says(self, table):
        """How much the best explains."""
        values = table["estimate"].dropna()
        if values.empty or values.max() <= 0:
            return []
        return [f"{values.idxmax()} explains most of the variance of {self.whose}: {values.max():.0%}."]


class R2(_Explained):
    name, whose, first = "R2", "these outcomes", True
    meaning = "Share of the outcomes' variance that predictions explain; 0 is predicting the mean of the rows tested."

    def of_rows(self, rows):
        return sk.r2_score(rows.y, rows.p, sample_weight=rows.w)

    def _by_group(self, rows):
        w, y = rows.w, rows.outcomes
        return [rows.by_group(values) for values in (w * (rows.y - rows.p) ** 2, w * y**2, w * y, w)]


class R2WithinGroups(_Explained):
    name, whose = "R2 within groups", "the rows of a group"
    meaning = (
        "The same of differences to the mean of the rows of one group and one fold of cross-validation: who in a group "
        "has more."
    )

    def _by_group(self, rows):
        errors, y = rows.centred(rows.y - rows.p, rows.parts), rows.centred(rows.y, rows.parts)
        squares = [rows.by_group(rows.w * values**2) for values in (errors, y)]
        return [*squares, np.zeros(rows.n_groups), rows.by_group(rows.w)]


class R2BetweenGroups(_Explained):
    name, whose = "R2 between groups", "the groups' means"
    meaning = (
        "The same of the means of such rows, each as often as it has rows: which groups have more. Means over all "
        "folds would flatter: a row is predicted from the other rows of such a mean."
    )

    def _by_group(self, rows):
        errors = rows.y - rows.p
        errors = errors - rows.centred(errors, rows.parts)  # means
        y = rows.outcomes - rows.centred(rows.y, rows.parts)
        return [rows.by_group(rows.w * values) for values in (errors**2, y**2, y, np.ones(len(rows)))]


class SlopeOfNumbers(SlopeOfCalibration):
    predictions = "predictions"
    meaning = (
        "Slope of the regression of the outcome on the prediction: below 1, predictions are too extreme; above 1, too "
        "timid."
    )

    def of_rows(self, rows):
        return _slope(rows.w.sum(), *(values.sum() for values in self.sums(rows).values()))

    def sums(self, rows):
        w, y, p = rows.w, rows.outcomes, rows.predictions
        moments = {"outcomes": w * y, "predictions": w * p, "products": w * y * p, "squared predictions": w * p**2}
        return {name: rows.by_group(values) for name, values in moments.items()}

    def of_sums(self, resamples):
        names = "outcomes", "predictions", "products", "squared predictions"
        return _slope(resamples.weight, *(resamples[name] for name in names))


class Coverage(MeanOfRows):
    name, better, target = "coverage", "nearer", LEVEL
    meaning = (
        f"Share of outcomes that lie in their {LEVEL:.0%} intervals, of estimators that give some: by "
        "predict_interval, or normal ones by predict(return_std=True)."
    )

    def each(self, rows):
        inside = (rows.lower <= rows.y) & (rows.y <= rows.upper)
        return np.where(np.isnan(rows.lower), np.nan, inside)

    def says(self, table):
        few, many = table.index[table["upper"] < LEVEL], table.index[table["lower"] > LEVEL]
        return [
            f"Intervals of {joined(names)} are too {what}: they hold {more} outcomes than the {LEVEL:.0%} they should."
            for names, what, more in ((few, "narrow", "fewer"), (many, "wide", "more"))
            if len(names)
        ]


class Width(_InUnits):
    name, meaning = "width", f"Mean width of the {LEVEL:.0%} intervals, in the outcome's units."

    def each(self, rows):
        return rows.upper - rows.lower


# In the order of tables.
OF_NUMBERS = (
    Rmse(), Mae(), R2(), R2WithinGroups(), R2BetweenGroups(), SlopeOfNumbers(), Coverage(), Width(),
)  # fmt: skip
METRICS_OF_NUMBERS = {metric.name: metric for metric in OF_NUMBERS}


def _explained(errors, squares, sums, weight):
    with np.errstate(divide="ignore", invalid="ignore"):
        total = squares - sums**2 / weight
        return np.where(total > _ROUNDING * squares, 1 - errors / total, np.nan)


def _slope(weight, y, p, products, squares):
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = squares - p**2 / weight
        return np.where(variance > _ROUNDING * squares, (products - y * p / weight) / variance, np.nan)
