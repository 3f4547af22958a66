"""The formula door: ``"use ~ age*ch + I(age**2) + urban + (1 | urban:district)"`` and a data frame -> X, y, groups.

The fixed part is formulaic's; terms with a bar are split off and left to `random_effects`. What a formula learnt from
the data of the fit (levels, contrasts, the constants of transforms, never rows) stays with the model, so that new data
frames go through the same door.
"""

import difflib
import re
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .formula_text import names_in, quote_calls, split_formula
from .random_effects import _quoted, parse_random_effects
from .values import numbers_of

__all__ = ["FormulaDesign", "FormulaRecipe"]


@dataclass(frozen=True)
class FormulaRecipe:
    """What `from_formula` was asked for: enough to read other data in the same way, as the fit of a clone does.

    Attributes
    ----------
    text : str
        The formula.
    groups, time, sample_weight : str or None
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

    def read(self, data, y=None, sample_weight=None):
        """The design of `data`, and the arguments of `fit` besides time: X, y, groups and weights by row.

        Returns
        -------
        design : FormulaDesign
        arguments : tuple
            X, y, groups, sample_weight, time.
        """
        design, rows, X, weights = FormulaDesign.read(
            self.text,
            data,
            y=y,
            groups=[] if self.groups is None else [self.groups],
            others=[] if self.time is None else [self.time],
            missing=self.missing,
            sample_weight=self.sample_weight if sample_weight is None else sample_weight,
        )
        groups = rows[design.group_names] if design.group_names else None
        time = None if self.time is None else rows[self.time]
        return design, (X, rows[design.response], groups, weights, time)

    def rows_of_fit(self, design, data, y, groups, sample_weight, time):
        """The data frame of the fit, shown again: what is not given is found in it, the rows left out are again.

        Returns
        -------
        X, y, groups, sample_weight, time
            As given, or columns of `data`; None where there is none.
        """

        def column(name, given):
            there = given is None and name is not None and name in data.columns
            return np.asarray(data[name]) if there else given

        given = [column(design.response, y), column(self.groups, groups), column(self.sample_weight, sample_weight),
                 column(self.time, time)]  # fmt: skip
        if self.missing == "error":
            return data, *given
        names = [name for name in (*design.variable_names, *design.group_names) if name in data.columns]
        mask = _complete(_columns(data, names, "formula"), "drop")
        for values in given:
            if values is not None and len(values) == len(mask):  # else a later check says so
                mask &= ~pd.DataFrame(values).isna().any(axis=1).to_numpy()
        kept = data[mask] if hasattr(data, "iloc") else data.filter(mask)
        return kept, *(
            values
            if values is None or len(values) != len(mask)
            else values[mask] if hasattr(values, "iloc") else np.asarray(values)[mask]
            for values in given
        )


class FormulaDesign:
    """A formula, and what it learnt from the data of a fit.

    Parameters
    ----------
    text : str
        The formula.
    data : DataFrame
    groups : list of str
        Grouping columns besides those of terms with a bar.
    others : list of str
        Further columns that may not be missing, such as times.
    missing : {"error", "drop"}
        What to do about missing values.
    sample_weight : None, str or array-like
        A column of `data`, or weights by row.
    y : None or array-like
        The response by row, in place of its column.

    Attributes
    ----------
    text, response : str
    random_effects : list of str
        The terms with a bar, a factor's slope written as those of its columns.
    group_names : list of str
    fit_intercept : bool
    n_dropped : int
        Rows with missing values that were left out.
    numbers : dict of str -> Numbers
        Of the variables that hold numbers or truth values: which of them they took.
    """

    @classmethod
    def read(cls, text, data, *, groups=(), others=(), missing="error", sample_weight=None, y=None):
        """The design of a formula, and the rows of `data` for `fit`.

        Returns
        -------
        design : FormulaDesign
        rows : DataFrame
            The rows that are used, with all columns that are.
        X : DataFrame
        sample_weight : ndarray or None
        """
        formulaic = _formulaic()
        if missing not in ("error", "drop"):
            raise ValueError(f"missing must be 'error' or 'drop', got {missing!r}")
        self = cls()
        self.text = text
        self.response, fixed, bars = split_formula(text)
        terms = self._parse_bars(bars)
        sources = [source for term in terms for source in term.factor]
        self.group_names = list(dict.fromkeys([*groups, *sources]))
        try:
            formula = formulaic.Formula(fixed)
            required = map(str, formula.required_variables)  # it overlooks those within stateful transforms
        except Exception as error:  # formulaic's own errors are not ValueErrors
            raise ValueError(f"formula: can't read {fixed!r} ({error})") from error
        written = names_in(fixed)
        variables = sorted({*required, *(name for name in getattr(data, "columns", ()) if name in written)})
        weights = [sample_weight] if isinstance(sample_weight, str) else []
        response = [self.response] if y is None else []
        needed = list(dict.fromkeys([*response, *variables, *self.group_names, *others, *weights]))
        frame = _columns(data, needed, "formula")
        if y is not None:
            if len(y) != len(frame):
                raise ValueError(f"y has {len(y)} rows, but X has {len(frame)}")
            frame = frame.assign(**{self.response: np.asarray(y)})
        mask = _complete(frame, missing)
        if weights:
            sample_weight = frame[sample_weight]
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            if sample_weight.shape != (len(frame),):
                raise ValueError(f"sample_weight has the shape {sample_weight.shape}, but data has {len(frame)} rows")
            sample_weight = sample_weight[mask]
        self.n_dropped = int(len(frame) - mask.sum())
        frame = frame[mask]
        if frame.empty:
            raise ValueError("data has no rows without missing values" if self.n_dropped else "data has no rows")
        for name in variables:  # as R does: a level that does not occur has no coefficient
            if isinstance(frame[name].dtype, pd.CategoricalDtype):
                frame = frame.assign(**{name: frame[name].cat.remove_unused_categories()})
        try:
            matrix = formula.get_model_matrix(frame, context={}, na_action="ignore")
        except Exception as error:
            hint = "; a power is written **, as in I(age**2)" if "^" in fixed else ""
            raise ValueError(f"formula: can't evaluate {fixed!r} ({error}){hint}") from error
        self.spec = matrix.model_spec
        self.variable_names = sorted(set(map(str, self.spec.required_variables)) & set(variables))
        used = frame if sample_weight is None else frame[sample_weight != 0]
        self.numbers = {
            name: numbers_of(used[name])
            for name in self.variable_names
            if pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype.kind != "c"
        }
        self.fit_intercept = "Intercept" in matrix.columns
        self.random_effects = [self._in_columns(term) for term in terms]
        return self, frame, self._features(matrix), sample_weight

    def _parse_bars(self, bars):
        try:
            return parse_random_effects([quote_calls(bar) for bar in bars], []) if bars else []
        except ValueError as error:
            raise ValueError(re.sub(r"^random_effects\[\d+\]", "formula", str(error))) from None

    def _in_columns(self, term):
        """A term in bar notation over the design's columns: a factor's slope is one for each of its columns."""
        names = []
        written = term.source.replace("`", "").strip()
        for feature in term.features:
            columns = next(
                (
                    [self.spec.column_names[j] for j in indices]
                    for fixed, indices in self.spec.term_indices.items()
                    if "".join(str(fixed).split()).strip("`") == "".join(feature.split())
                ),
                [feature] if feature in self.spec.column_names else None,
            )
            if columns is None:
                raise ValueError(
                    f"formula: the random slope of {feature!r} in ({written}) needs {feature!r} among the "
                    "fixed effects, too"
                )
            n_levels = self._n_levels(feature)
            if not term.intercept and len(columns) < n_levels:
                raise ValueError(
                    f"formula: in ({written}) each of the {n_levels} levels of {feature!r} would have a random effect, "
                    f"but the fixed effects have columns for {len(columns)}. It is the model with 1 in place of 0, "
                    "whose effects are those of the first level and differences to it: write that"
                )
            names += columns
        left = " + ".join(["1" if term.intercept else "0", *map(_quoted, names)])
        right = ":".join(map(_quoted, term.factor))
        return f"{left} {'|' if term.correlated else '||'} {right}"

    def _n_levels(self, feature):
        """Levels of a factor, as it is written in the formula; 0 for anything else."""
        return next(
            (len(contrasts.levels) for factor, contrasts in self.spec.factor_contrasts.items()
             if "".join(str(factor).split()).strip("`") == "".join(feature.split())),
            0,
        )  # fmt: skip

    # New data -----------------------------------------------------------------------------------------------

    def new_rows(self, data, groups=None):
        """X and groups of a new data frame; groups are None where it has none of the grouping columns."""
        X = self._features(self._matrix(self.variables(data)))
        if groups is not None or not self.group_names:
            return X, groups
        there = [name for name in self.group_names if name in data.columns]
        if not there:
            return X, None
        return X, _columns(data, self.group_names, "the model's formula")

    def variables(self, data):
        """The columns of a data frame that the fixed effects are made of; none of their values may be missing."""
        frame = _columns(data, self.variable_names, "the model's formula")
        _complete(frame, "error", "fill them in or leave these rows out")
        return frame if self.variable_names else pd.DataFrame(index=range(len(data)))

    def design(self, frame):
        """Features of rows as an array, from their variables."""
        return self._features(self._matrix(frame)).to_numpy()

    def is_factor(self, name):
        """Whether a variable enters by its levels, be they numbers, as in C(year)."""
        return any(self._variables_of(factor) == {name} for factor in self.spec.factor_contrasts)

    def levels(self, name, column):
        """Levels of a variable of labels: those of the fit, the reference first."""
        for factor, contrasts in self.spec.factor_contrasts.items():
            if self._variables_of(factor) == {name}:
                return list(contrasts.levels)
        return sorted(column.unique())

    def variables_of_columns(self, names):
        """The variables that these columns of the design are made of."""
        found = set()
        for term, indices in self.spec.term_indices.items():
            if names & {self.spec.column_names[j] for j in indices}:
                found.update(*(self._variables_of(factor) for factor in term.factors))
        return found

    def _variables_of(self, factor):
        return {str(v) for v in self.spec.factor_variables.get(factor, ())} & set(self.variable_names)

    def _matrix(self, frame):
        from formulaic.errors import DataMismatchWarning

        if not self.variable_names:  # a formula without variables still has rows
            return pd.DataFrame({"Intercept": np.ones(len(frame))})
        with warnings.catch_warnings():
            warnings.simplefilter("error", DataMismatchWarning)
            try:
                return self.spec.get_model_matrix(frame, context={}, na_action="ignore")
            except DataMismatchWarning as warning:
                raise ValueError(self._unseen_levels(frame) or str(warning)) from None

    def _unseen_levels(self, frame):
        for factor, contrasts in self.spec.factor_contrasts.items():
            for name in self._variables_of(factor):
                unseen = [value for value in frame[name].unique() if value not in contrasts.levels]
                if unseen:
                    return (
                        f"column {name!r} holds {_listed(unseen)}, which the fit did not see; its levels are "
                        f"{_listed(list(contrasts.levels))}"
                    )
        return None

    def _features(self, matrix):
        columns = [name for name in matrix.columns if name != "Intercept"]
        X = pd.DataFrame(matrix)[columns].astype(np.float64).reset_index(drop=True)
        X.columns = pd.Index(columns, dtype=object)
        return X


def _formulaic():
    try:
        import formulaic
    except ImportError as error:
        raise ImportError(
            "formulas need the package formulaic: pip install formulaic, or pip install 'sklmm[formula]'"
        ) from error
    return formulaic


def _columns(data, names, where):
    """Columns of a pandas or polars data frame as a pandas one."""
    if not hasattr(data, "columns"):
        raise TypeError(
            f"{where} takes its variables from a data frame with the columns {_listed(names)}; got "
            f"{type(data).__name__}"
        )
    known = list(data.columns)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, map(str, known), n=3, cutoff=0.6)
            advice = "did you mean " + " or ".join(map(repr, close)) + "?" if close else f"there are {_listed(known)}"
            raise ValueError(f"{where} names {name!r}, which is no column of the data; {advice}")
    if hasattr(data, "iloc"):
        return data[names]
    return pd.DataFrame({name: data[name].to_list() for name in names})


def _complete(frame, missing, advice="fill them in or drop these rows (from_formula: missing='drop')"):
    """Mask of the rows without missing values; an error where there are others and they may not be dropped."""
    absent = frame.isna()
    mask = ~absent.any(axis=1).to_numpy()
    if missing == "error" and not mask.all():
        counts = ", ".join(f"{name!r} ({n:,})" for name, n in absent.sum().items() if n)
        raise ValueError(
            f"{np.count_nonzero(~mask):,} of {len(mask):,} rows have missing values, in {counts}: {advice}"
        )
    return mask


def _listed(names, most=10):
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
