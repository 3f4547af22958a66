"""Rows that are not those of the data: with variables set to chosen values, or to typical ones."""

from itertools import product

import numpy as np
import pandas as pd

from sklmm.design.columns import column_names, is_frame
from sklmm.design.formula import weights_by_formula
from sklmm.design.observations import read_weights, with_products
from sklmm.inference.verdict import not_estimated

_STEP = 1e-5  # of differences, in standard deviations of a feature: one-sided ones are wrong by about as much
MOST_ROWS = 1_000_000  # of a reference grid


def two_values_of_fit(estimator, name):
    """The values of a variable of numbers that took exactly two in the fit; else None."""
    formula = estimator._fitted.formula
    if formula is None:
        return estimator._fitted.two_values.get(name)
    return formula.numbers[name].two if name in formula.numbers else None


class Variables:
    """The variables of a model, as its user knows them, and the design after a change of one.

    With a formula they are columns of the data frame, so that powers and products follow; else the features. What a
    change is depends on the fit alone, not on the rows that effects are averaged over. `weights` are the rows' shares.
    """

    def __init__(self, estimator, X, offset=None, sample_weight=None):
        self.estimator = estimator
        self.formula = estimator._fitted.formula
        rows = estimator._read_new_rows(X, None, offset)
        self.n_rows, self.offset = rows.X.shape[0], rows.offset
        if self.n_rows == 0:
            raise ValueError("X has no rows to average over")
        self.weights = shares(weights_by_formula(estimator, X, sample_weight), self.n_rows)
        if self.formula is not None:
            self.frame = self.formula.variables(X)
        else:
            own = len(rows.names) - len(estimator._fitted.products or ())  # the model makes products itself
            array = np.asarray(rows.X[:, :own], dtype=np.float64)
            self.frame = pd.DataFrame(array, columns=pd.Index(rows.names[:own], dtype=object), copy=False)
        errors = _slope_errors(estimator)
        self.aliased = [name for name, se in zip(rows.names[: len(errors)], errors, strict=True) if np.isnan(se)]
        self.names = [name for name in self.frame.columns if self.formula is not None or name not in self.aliased]
        self._blank = self._without_inference(rows.names)

    def _without_inference(self, names):
        """The variables whose coefficients, some or all, were not estimated."""
        blank = not_estimated(self.estimator, ["intercept", *names])
        if blank.all():
            return set(self.frame.columns)
        columns = {name for name, out in zip(names, blank[1:], strict=True) if out}
        return columns if self.formula is None else self.formula.variables_of_columns(columns)

    def is_blank(self, name):
        return name in self._blank

    def chosen(self, features):
        if features is None:
            apart = () if self.formula is None else self.formula.offset_only  # an exposure has no coefficient
            return [name for name in self.names if name not in apart and len(self.levels(name) or (0, 1)) > 1]
        features = [features] if isinstance(features, str) else list(features)
        for name in features:
            if name not in self.frame.columns:
                raise ValueError(f"{name!r} is no feature of the model; there are {list(self.frame.columns)}")
            if len(self.levels(name) or (0, 1)) < 2:
                raise ValueError(f"{name!r} took one value in the fit, so that it has no effect")
        return features

    def levels(self, name):
        """The values between which a variable changes, the first being the reference; None for one with a slope."""
        if self.formula is not None:
            numbers = self.formula.numbers.get(name)
            if self.formula.is_factor(name) or numbers is None:
                return self.formula.levels(name, self.frame[name])
            if numbers.two is None and pd.api.types.is_bool_dtype(self.frame[name]):
                return (bool(numbers.low),)
        return two_values_of_fit(self.estimator, name)

    def changes(self, name):
        """(what it is called, design after, design before, distance by row) of each change of a variable; designs are
        with their offsets."""
        levels = self.levels(name)
        if levels is None:
            values = self.frame[name].to_numpy(dtype=np.float64)
            upper, lower = values + self._step(name), values - self._step(name)
            numbers = None if self.formula is None else self.formula.numbers[name]
            if numbers is not None and numbers.low < numbers.high:  # splines end where the data did, logarithms at 0
                upper = np.minimum(upper, np.maximum(values, numbers.high))
                lower = np.maximum(lower, np.minimum(values, numbers.low))
            yield name, self.design({name: upper}), self.design({name: lower}), upper - lower
            return
        is_number = pd.api.types.is_numeric_dtype(self.frame[name]) and not pd.api.types.is_bool_dtype(self.frame[name])
        is_number = is_number and not (self.formula is not None and self.formula.is_factor(name))
        before = self.design({name: levels[0]})
        for level in levels[1:]:
            called = name if is_number else f"{name} ({level} - {levels[0]})"
            yield called, self.design({name: level}), before, np.ones(self.n_rows)

    def _step(self, name):
        spread = self.estimator._fitted.spreads[name] if self.formula is None else self.formula.numbers[name].spread
        return _STEP * (spread or 1.0)

    def not_estimable(self, name, upper, lower, distance, weights):
        """The columns that were left out of the fit and that a change takes out of line with those in it."""
        if self.formula is None and name in self.aliased:
            return [name]
        found = self.estimator._fitted.dependences
        if found is None:
            return []
        counted = weights > 0
        departs = found.departures(upper[counted]) | found.departures(lower[counted])
        if self.formula is not None:  # of features each stands for those that depend on it
            departs |= found.turns((upper - lower)[counted] / distance[counted, None])
        return [name for name, out in zip(found.names, departs.any(axis=0), strict=True) if out]

    def design(self, changes, frame=None):
        """Features and offsets, or None, of the rows with variables set to values: one for all rows, or one a row.

        Parameters
        ----------
        changes : dict of str -> value or array-like of shape (n,)
        frame : DataFrame or None
            Variables of other rows than those of X, which have no offset but a formula's.

        Returns
        -------
        X : ndarray of shape (n, p)
        offset : ndarray of shape (n,) or None
        """
        before = self.frame if frame is None else frame
        if self.formula is None:
            changed, names = before.to_numpy(dtype=np.float64, copy=True), list(before.columns)
            for name, values in changes.items():
                changed[:, names.index(name)] = values
            offset = self.offset
            if frame is not None and offset is not None:
                offset = np.full(len(changed), self.weights @ offset)
            return with_products(changed, self.estimator._fitted.products), offset
        changed = before.copy(deep=False)
        for name, values in changes.items():
            dtype = changed[name].dtype
            if isinstance(dtype, pd.CategoricalDtype):
                values = pd.Categorical([values] * len(changed), dtype=dtype)
            changed[name] = values
        return self.formula.design(changed), self.formula.offset_of(changed)

    def grid(self, fixed):
        """Variables of the rows of a reference grid: numbers at their means, and every combination of the levels of
        factors. Those of `fixed` are set later; they are at any value here.

        Lenth RV (2016). Least-squares means: the R package lsmeans. Journal of Statistical Software 69(1).
        """
        if self.formula is None:
            return pd.DataFrame([self.weights @ self.frame.to_numpy()], columns=self.frame.columns)
        factors = [name for name in self.frame.columns if self.is_factor(name) and name not in fixed]
        levels = [self.levels(name) for name in factors]
        n = int(np.prod([len(each) for each in levels], dtype=float))
        if n > MOST_ROWS:
            raise ValueError(
                f"the reference grid has {n:,} rows, every combination of {', '.join(map(repr, factors))}: take "
                "over='rows'"
            )
        values = dict(zip(factors, zip(*product(*levels), strict=True), strict=True)) if factors else {}
        columns = {}
        for name, column in self.frame.items():
            if name in values:
                columns[name] = pd.Series(values[name], dtype=column.dtype)
            elif name in fixed:
                columns[name] = pd.Series([column.iloc[0]] * n, dtype=column.dtype)
            else:
                columns[name] = pd.Series(np.full(n, self.weights @ column.to_numpy(dtype=np.float64)))
        return pd.DataFrame(columns, index=range(n))

    def is_factor(self, name):
        """Whether a variable has levels, and no mean."""
        return self.formula.is_factor(name) or self.frame[name].dtype.kind not in "iuf"


def _slope_errors(estimator):
    _, _, vcov = estimator._fixed_effects()
    diagonal = np.diagonal(vcov)
    return diagonal[len(diagonal) - estimator.coef_.size :]


def shares(sample_weight, n_rows):
    """Weights that sum to 1."""
    weights = read_weights(sample_weight, n_rows)
    weights = np.ones(n_rows) if weights is None else weights
    return weights / weights.sum()


# Typical rows, of curves ------------------------------------------------------------------------------------


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
