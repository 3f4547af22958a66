"""The formula door: ``"use ~ age*ch + I(age**2) + urban + (1 | urban:district)"`` and a data frame -> X, y, groups.

What an estimator asks of it, in this order:

1. ``recipe.rows(data, y, sample_weight)`` for `fit`: the `FormulaDesign`, which stays with the model, and the
   `FormulaRows`. A line of counts (``"successes | trials ~ ..."``) has become two weighted rows there, of the classes
   0 and 1; the argument `y` is None then.
2. ``design.new_rows(data, groups)`` for predictions: X and groups, a row a line, whatever the response; beside it
   ``design.offset(data)``, None for a formula without one. The offset of rows that a caller has changed, such as
   those at which effects are asked for: ``design.offset_of(design.variables(data))``.
3. ``recipe.rows_of_fit(design, data, y, groups, sample_weight, time)`` for methods that see the rows of the fit again,
   or rows like them: where counts are found in the data (`y` is None) they are two rows a line again, data included.
4. ``weights_by_formula(model, data, sample_weight)`` for averages over rows: a line of counts weighs as its trials.

``design.is_counts``, ``design.has_offset``, ``design.positive`` (the event, for an ordered categorical response),
``design.response`` (its text), ``design.response_names`` and ``design.offset_names`` (columns) say what there is.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklmm.design.columns import rows_where
from sklmm.design.counts import rows_at
from sklmm.design.formula_design import FormulaDesign
from sklmm.design.formula_text import split_formula


@dataclass(frozen=True)
class FormulaRows:
    """The arguments of a fit, by row.

    Attributes
    ----------
    X : DataFrame
    y : Series
        Of counts integers, 0 and 1.
    groups : DataFrame or None
    sample_weight : ndarray or None
        Of counts never None: those of the lines times the counts.
    time : Series or None
    offset : ndarray of float64 or None
        Finite.
    line : ndarray of int
        Which row of the data each row is from, counted from 0: rows may be left out, lines of counts have two.
    """

    X: pd.DataFrame
    y: pd.Series
    groups: pd.DataFrame | None
    sample_weight: np.ndarray | None
    time: pd.Series | None
    offset: np.ndarray | None
    line: np.ndarray
    precision_weight: pd.Series | None = None

    @property
    def by_row(self):
        """All but X and y, as arguments of `fit`."""
        names = ("groups", "sample_weight", "time", "offset", "precision_weight")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class FormulaRecipe:
    """What `from_formula` was asked for: enough to read other data in the same way, as the fit of a clone does.

    Attributes
    ----------
    text : str
        The formula.
    groups, time, sample_weight, precision_weight : str or None
        Columns of the data.
    missing : {"error", "drop"}
    random_effects : list of str or None
        The estimator's parameter, as the formula has set it.
    """

    text: str
    groups: str | None = None
    time: str | None = None
    sample_weight: str | None = None
    missing: str = "error"
    random_effects: list | None = None
    precision_weight: str | None = None

    @property
    def is_counts(self):
        """Whether the response is successes of trials."""
        return split_formula(self.text)[-1] is not None

    def rows(self, data, y=None, sample_weight=None):
        """The design of `data`, and the arguments of `fit`.

        Returns
        -------
        design : FormulaDesign
        rows : FormulaRows
        """
        design, frame, X, weights, offset, line = FormulaDesign.read(
            self.text,
            data,
            y=y,
            groups=[] if self.groups is None else [self.groups],
            others=[name for name in (self.time, self.precision_weight) if name is not None],
            missing=self.missing,
            sample_weight=self.sample_weight if sample_weight is None else sample_weight,
        )
        groups = frame[design.group_names] if design.group_names else None
        time = None if self.time is None else frame[self.time]
        precision = None if self.precision_weight is None else frame[self.precision_weight]
        return design, FormulaRows(X, frame[design.response], groups, weights, time, offset, line, precision)

    def response_is_in(self, data):
        """Whether a data frame has a column that the formula's response is."""
        return split_formula(self.text)[0] in data.columns

    def rows_of_fit(self, design, data, y, groups, sample_weight, time):
        """The data frame of the fit, shown again: what is not given is found in it, the rows left out are again, and a
        line of counts is two rows again.

        Returns
        -------
        X, y, groups, sample_weight, time
            As given, or columns of `data`; None where there is none.
        """
        return self.rows_and_lines_of_fit(design, data, y, groups, sample_weight, time)[:-1]

    def rows_and_lines_of_fit(self, design, data, y, groups, sample_weight, time):
        """`rows_of_fit`, and the line of counts that each row is from; None where lines are no counts."""
        given = self.found_in(design, data, y, groups, sample_weight, time)
        kept = self.kept_rows(design, data, *given)
        data, y, groups, sample_weight, time = (rows_where(kept, values) for values in (data, *given))
        if y is not None or design.trials(data) is None:
            return data, y, groups, sample_weight, time, None
        line, y, counts = design.counts.rows(data)
        if sample_weight is not None:
            counts = counts * np.asarray(sample_weight, dtype=np.float64)[line]
        return rows_at(data, line), y.astype(np.int64), rows_at(groups, line), counts, rows_at(time, line), line

    def found_in(self, design, data, y, groups, sample_weight, time):
        """y, groups, weights and times as given, or columns of the data; None where there is none."""

        def column(name, given):
            there = given is None and name is not None and name in data.columns
            return np.asarray(data[name]) if there else given

        y = y if design.is_counts else column(design.response, y)
        return y, column(self.groups, groups), column(self.sample_weight, sample_weight), column(self.time, time)

    def kept_rows(self, design, data, *arrays):
        """Mask of the rows that a fit to a data frame and arrays by row would not leave out."""
        if self.missing == "error":
            return np.ones(len(data), dtype=bool)
        by_row = self.groups, self.time, self.sample_weight, self.precision_weight
        others = (*design.response_names, *design.group_names, *by_row)
        mask = design.defined_rows(data, others)
        for values in arrays:
            if rows_where(mask, values) is not values:  # else a later check tells of its length
                mask &= ~pd.DataFrame(values).isna().any(axis=1).to_numpy()
        return mask


def weights_by_formula(estimator, X, sample_weight):
    """Weights of rows that a model is shown: those given, else what its formula says: a column, numbers of trials."""
    recipe, columns = estimator._recipe, getattr(X, "columns", ())
    if sample_weight is not None or recipe is None:
        return sample_weight
    weights = np.asarray(X[recipe.sample_weight]) if recipe.sample_weight in columns else None
    design = estimator._fitted.formula
    trials = None if design is None or not len(columns) else design.trials(X)
    return weights if trials is None else trials if weights is None else trials * weights
