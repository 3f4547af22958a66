"""What the displays share: axes, ticks, and the rows that a curve is computed on."""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from sklmm.design.columns import column_names, is_frame
from sklmm.design.formula import weights_by_formula
from sklmm.design.observations import read_weights
from sklmm.fitted import FittedMixed, fitted_of
from sklmm.inference import wald as intervals


def pyplot():
    """matplotlib.pyplot, or an ImportError that says how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install matplotlib, or pip install 'sklmm[plots]'") from error
    return plt


def axes_for(ax, figsize=None):
    """The figure and axes to draw into; new ones where none are given."""
    if ax is None:
        return pyplot().subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax


def check_level(level):
    """Raise unless `level` lies between 0 and 1; the normal quantile that belongs to it."""
    return stats.norm.ppf((1 + intervals.check_level(level)) / 2)


def check_mixed(display, estimator):
    """Raise unless the estimator is fitted and a mixed model."""
    check_is_fitted(estimator)
    if not isinstance(fitted_of(estimator), FittedMixed):
        raise TypeError(
            f"{display.__name__} draws random effects, which a {type(estimator).__name__} does not have; it is for "
            "mixed models"
        )


def percent(level):
    """A confidence level in words: "95 %"."""
    return f"{100 * level:.6g} %"


def odds_ratio_ticks(axis):
    """Plain numbers on a logarithmic axis: 0.5, 1, 2, 5, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    lower, upper = axis.get_view_interval()
    decades = np.log10(upper / lower)
    if decades < 0.6:
        locator = MaxNLocator(6)
    else:
        locator = LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2.5 else (1,))
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if 1e-3 <= value < 1e5 else f"{value:.0e}"))
    axis.set_minor_locator(NullLocator())


def outcome_label(estimator):
    """Label of an axis of probabilities or expected outcomes: the response by its name, where a formula gave it one."""
    fitted = fitted_of(estimator)
    response = "y" if fitted.formula is None else fitted.formula.response
    if not fitted.family.has_classes:
        return "expected outcome" if fitted.formula is None else f"expected {response}"
    return f"P({response} = {as_text(estimator.classes_[fitted.event])})"


def as_text(value):
    """A value in a legend: 1 and not 1.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def keep_within_probabilities(ax):
    """No ticks below 0 or above 1, whatever the margins."""
    lower, upper = ax.get_ylim()
    ax.set_ylim(max(lower, -0.02), min(upper, 1.02))


# Rows that curves are computed on ---------------------------------------------------------------------------


class TypicalRows:
    """Rows that differ in chosen columns only, the others held at typical values.

    Parameters
    ----------
    estimator : fitted estimator
    X : {array-like, dataframe}
        Rows such as `predict_proba` takes: they say what is typical, means of numbers and most frequent values of
        anything else.
    at : dict or None
        Values of columns that are to be held at something else.
    sample_weight : array-like or None
        Counts of the rows; None is the column that the model's formula took them from, if X has it.
    """

    def __init__(self, estimator, X, at=None, sample_weight=None):
        if estimator._fitted.takes_offset:
            raise ValueError(
                "the model was fitted with offset= as an array, for which curves have no value: name its column of X "
                "in offset_feature, whose mean they take, or what at= says"
            )
        X, sample_weight = estimator._complete_rows(X, sample_weight)
        self.weights = read_weights(weights_by_formula(estimator, X, sample_weight), len(X))
        self.as_array = not is_frame(X)
        self.formula = estimator._fitted.formula
        if self.as_array:
            X = np.asarray(X)
            if X.ndim != 2:
                raise ValueError(f"X must have rows and columns, got an array with {X.ndim} dimensions")
            names = column_names(estimator)
            if X.shape[1] != len(names):
                raise ValueError(f"X has {X.shape[1]} columns, but the model was fitted to {len(names)}")
            self.frame = pd.DataFrame(dict(enumerate(X.T))).set_axis(names, axis=1).infer_objects()
        elif hasattr(X, "iloc"):
            self.frame = X
        else:
            self.frame = pd.DataFrame({name: X[name].to_list() for name in X.columns})
        self.at = {self.column(key): value for key, value in (at or {}).items()}

    def column(self, key):
        """Name of a column given by its name, or by its position in an array."""
        names = list(self.frame.columns)
        if self.as_array and isinstance(key, (int, np.integer)) and -len(names) <= key < len(names):
            return names[key]
        if key not in names:
            raise ValueError(f"{key!r} is no column of X; its columns are {names}")
        return key

    def is_numeric(self, name):
        """Whether a column holds numbers, rather than labels."""
        if self.formula is not None and self.formula.is_factor(name):
            return False
        return pd.api.types.is_numeric_dtype(self.frame[name]) and not pd.api.types.is_bool_dtype(self.frame[name])

    def grid(self, name, resolution):
        """Values of a column to compute a curve at: its range for numbers, else its levels."""
        column = self.frame[name].dropna()
        if column.empty:
            raise ValueError(f"column {name!r} of X holds no value")
        if self.is_numeric(name):
            return np.linspace(float(column.min()), float(column.max()), resolution)
        return levels_of(column)

    def rows(self, **columns):
        """Typical rows with these columns set, in the form that the estimator takes."""
        n = max(len(values) for values in columns.values())
        data = {}
        for name in self.frame.columns:
            if name in columns:
                data[name] = columns[name]
            else:
                data[name] = self._constant(name, n)
        frame = pd.DataFrame(data, index=range(n))
        return frame.to_numpy() if self.as_array else frame

    def _constant(self, name, n):
        column = self.frame[name]
        if name in self.at:
            value = self.at[name]
        elif column.notna().any():
            value = self._typical(name)
        else:
            value = None
        if isinstance(column.dtype, pd.CategoricalDtype):
            if name in self.at and value not in column.cat.categories:
                raise ValueError(f"at: {value!r} is no level of {name!r}; there are {list(column.cat.categories)}")
            return pd.Categorical([value] * n, dtype=column.dtype)
        return [value] * n

    def _typical(self, name):
        """The mean of numbers, else the most frequent value."""
        column = self.frame[name]
        there = column.notna().to_numpy()
        column, weights = column[there], None if self.weights is None else self.weights[there]
        if self.is_numeric(name):
            return column.mean() if weights is None else np.average(column.to_numpy(dtype=float), weights=weights)
        if weights is None:
            return column.mode().iloc[0]
        return pd.Series(weights).groupby(column.array, observed=True).sum().idxmax()


def levels_of(column):
    """The values that occur in a column of labels: categories in their order, others sorted."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = column.cat.remove_unused_categories()
        return list(present.cat.categories)
    values = list(column.unique())
    try:
        return sorted(values)
    except TypeError:
        return values
