"""What a formula learns from the data of a fit (levels, contrasts, the constants of transforms, never rows), with which
new data frames become rows in the same way.

The fixed part is formulaic's, and so is what stands left of a bar, in an offset and in counts; terms with a bar are
split off and left to `random_effects`.
"""

import re
import warnings

import numpy as np
import pandas as pd

from sklmm.design.formula_columns import (
    complete_rows,
    in_which_not_defined,
    is_number,
    plain_columns,
    refuse_dates,
    refuse_incomplete,
    refuse_infinite,
    take_columns,
    undefined_rows,
    warn_of_numbers,
)
from sklmm.design.formula_expression import Expression, LinesOfCounts
from sklmm.design.formula_tables import LevelTables
from sklmm.design.formula_text import StandIns, quote_calls, split_formula, translate
from sklmm.design.random_effects import parse_random_effects, quoted
from sklmm.design.values import numbers_by_column
from sklmm.exceptions import DroppedRowsWarning
from sklmm.messages import listed, shown_label, warn


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
        What to do about missing values, and about rows in which a term is not defined.
    sample_weight : None, str or array-like
        A column of `data`, or weights by row.
    y : None or array-like
        The response by row, in place of its column.

    Attributes
    ----------
    text, response : str
        The formula; what is left of its tilde.
    counts : LinesOfCounts or None
        Of successes and trials: a line of the data is then two weighted rows, of the classes 0 and 1.
    response_names : list of str
        The columns in it.
    positive : object or None
        The label of the event where the response is an ordered categorical: the higher one.
    offsets : list of Expression
    random_effects : list of str
        The terms with a bar, over the design's columns: a factor's slope is one for each of its columns.
    group_names : list of str
    fit_intercept : bool
    offset_names, offset_only : list of str
        The columns of offsets; those that fixed effects and slopes are without.
    n_slopes_only : int
        So many columns, the last ones, are there for random slopes alone, and no fixed effects.
    n_dropped : int
        Rows that were left out.
    variable_names : list of str
        The columns that the design is made of.
    numbers : dict of str -> Numbers
        Of the columns that hold numbers or truth values: which of them they took.
    """

    @classmethod
    def read(cls, text, data, *, groups=(), others=(), missing="error", sample_weight=None, y=None):
        """The design of a formula, and the rows of `data` for `fit`; two of a line of counts.

        Returns
        -------
        design : FormulaDesign
        rows : DataFrame
            The rows that are used, with all columns that are, and that of the response.
        X : DataFrame
        sample_weight : ndarray or None
        offset : ndarray or None
        line : ndarray of int
            Which row of `data` each of these rows is from.

        Raises
        ------
        ValueError
            If the formula can't be read, names what is no column, or is not defined in some rows; if values are
            missing (unless they may be).
        """
        if missing not in ("error", "drop"):
            raise ValueError(f"missing must be 'error' or 'drop', got {missing!r}")
        self = cls()
        self.text = text
        self.response, fixed, bars, offsets, counts = split_formula(text)
        terms = _parse_bars(bars)
        self.group_names = list(dict.fromkeys([*groups, *(source for term in terms for source in term.factor)]))
        weights = [sample_weight] if isinstance(sample_weight, str) else []
        self._read_numbers(data, offsets, counts)
        reserved = [*self.response_names, *self.group_names, *weights, *self.offset_names]
        parts, variables = self._translate(fixed, terms, data, reserved)
        variables = sorted({*variables, *self.offset_names})
        response = self.response_names if y is None or self.is_counts else []
        needed = list(dict.fromkeys([*response, *variables, *self.group_names, *others, *weights]))
        frame = take_columns(data, needed, "formula")
        if y is not None:
            if self.is_counts:
                raise ValueError(f"the formula finds its counts, {self.response!r}, in the data: leave out y")
            if len(y) != len(frame):
                raise ValueError(f"y has {len(y)} rows, but X has {len(frame)}")
            frame = frame.assign(**{self.response: np.asarray(y)})
        if weights:
            sample_weight = frame[sample_weight]
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            if sample_weight.shape != (len(frame),):
                raise ValueError(f"sample_weight has the shape {sample_weight.shape}, but data has {len(frame)} rows")
        kept = complete_rows(frame)
        if missing == "error":
            refuse_incomplete(frame)
        if not kept.any():
            raise ValueError("data has no rows without missing values" if len(kept) else "data has no rows")
        X, kept[kept], values, offset = self._fit_design(fixed, parts, terms, frame.loc[kept, variables], missing)
        self.n_dropped = int(len(frame) - kept.sum())
        frame, line = frame[kept], np.flatnonzero(kept)
        sample_weight = None if sample_weight is None else sample_weight[kept]
        if self.is_counts:
            row, outcome, counts = self.counts.rows(frame)
            frame = frame.iloc[row].assign(**{self.response: outcome.astype(np.int64)})
            X, values, line = X.iloc[row].reset_index(drop=True), values.iloc[row], line[row]
            sample_weight = counts if sample_weight is None else sample_weight[row].astype(np.float64) * counts
            offset = None if offset is None else offset[row]
        self.positive = _higher_label(frame[self.response])
        self.numbers = numbers_by_column(values, sample_weight)
        return self, frame, X, sample_weight, offset, line

    @property
    def is_counts(self):
        return self.counts is not None

    @property
    def has_offset(self):
        return bool(self.offsets)

    # Reading the text -----------------------------------------------------------------------------------------

    def _read_numbers(self, data, offsets, counts):
        """The expressions of offsets and counts."""
        formulaic = _formulaic()
        self.stand_ins = StandIns(formulaic.transforms.TRANSFORMS)
        self.offsets = [Expression(text, data, self.stand_ins, f"offset({text})") for text in offsets]
        self.offset_names = list(dict.fromkeys(name for part in self.offsets for name in part.names))
        self.counts = None if counts is None else LinesOfCounts(*counts, data, self.stand_ins)
        self.response_names = [self.response] if counts is None else self.counts.names

    def _translate(self, fixed, terms, data, reserved):
        """The fixed part and what is left of each bar, for formulaic; the columns that they name.

        Returns
        -------
        parts : list
            Parsed by formulaic; None for bars that have an intercept only.
        variables : list of str
        """
        formulaic, columns = _formulaic(), list(getattr(data, "columns", ()))
        others = [name for name in columns if isinstance(name, str) and name not in reserved]
        texts = [fixed]
        for term in terms:
            direct = _design_columns(term, columns)
            products = [":".join(_as_written(own, columns) for own in term.multiplied(name))
                        for name in term.features if name not in direct]  # fmt: skip
            texts.append(" + ".join(["1" if term.intercept else "0", *products]) if products else None)
        parts, variables = [], set()
        for text in texts:
            if text is None:
                parts.append(None)
                continue
            translated, names = translate(text, columns, self.stand_ins, others)
            take_columns(data, names, "formula")
            try:
                part = formulaic.Formula(translated)
            except Exception as error:  # formulaic's own errors are not ValueErrors
                raise ValueError(f"formula: can't read {text!r} ({self.stand_ins.back(str(error))})") from error
            parts.append(part)
            written = " ".join(factor.expr for term in part for factor in term.factors)
            variables |= {name for name in names if re.search(rf"(?<![\w.]){self.stand_ins.of(name)}(?!\w)", written)}
        return parts, sorted(variables)

    # The design -----------------------------------------------------------------------------------------------

    def _fit_design(self, fixed, parts, terms, frame, missing):
        """Learn the design from complete rows.

        Returns
        -------
        X : DataFrame
        kept : ndarray of bool
            The rows in which it is defined, those of X.
        variables : DataFrame
            Their plain columns.
        offset : ndarray or None
        """
        kept = np.ones(len(frame), dtype=bool)
        undefined = {}
        while True:
            variables = plain_columns(frame[kept])
            alone = {self.stand_ins.back(factor.expr) for part in parts if part for term in part
                     for factor in term.factors} & set(variables)  # fmt: skip
            refuse_dates(variables, alone)
            refuse_infinite(variables)
            X = self._learn(fixed, parts, terms, variables)
            found = {part.called: part.learn(variables) for part in self.offsets}
            missed = undefined_rows(X.assign(**found))
            if not missed:
                break
            if missing == "error" or any(len(rows) == len(X) for rows in missed.values()):
                raise ValueError(in_which_not_defined(missed, len(X)))
            places = np.flatnonzero(kept)
            for name, rows in missed.items():
                undefined[name] = undefined.get(name, 0) + len(rows)
                kept[places[rows]] = False
            if not kept.any():
                raise ValueError("no rows are left: " + in_which_not_defined(missed, len(X)))
        if undefined:
            counts = listed(f"{name!r} ({n:,})" for name, n in undefined.items())
            warn(
                f"{len(kept) - kept.sum():,} rows are left out, in which terms are not defined: {counts}",
                DroppedRowsWarning,
            )
        warn_of_numbers(variables, sorted(alone))
        return X, kept, variables, sum(found.values()) if found else None

    def _learn(self, fixed, parts, terms, frame):
        """Fit formulaic's specifications of all parts to a frame; the features."""
        matrices = [None if part is None else self._evaluate(part, frame, fixed) for part in parts]
        self.spec = matrices[0].model_spec
        self.fit_intercept = "Intercept" in matrices[0].columns
        names = self._names(matrices[0])
        self._slopes, self.random_effects, used = [], [], matrices[:1]
        for term, matrix in zip(terms, matrices[1:], strict=True):
            own = _design_columns(term, frame.columns)
            for name in own:
                if name not in names:
                    raise ValueError(
                        f"formula: {name!r}, a random slope, is no column of the fixed effects; there are "
                        f"{listed(map(repr, names))}"
                    )
            own += [] if matrix is None else self._names(matrix)
            new = [name for name in own if name not in names]
            if new:
                self._slopes.append((matrix.model_spec, new))
                used.append(matrix)
            names += new
            left = " + ".join(["1" if term.intercept else "0", *map(quoted, own)])
            right = ":".join(map(quoted, term.factor))
            self.random_effects.append(f"{left} {'|' if term.correlated else '||'} {right}")
        self.n_slopes_only = sum(len(new) for _, new in self._slopes)
        required = {str(name) for spec in self._specs() for name in spec.required_variables}
        self.offset_only = [name for name in self.offset_names if self.stand_ins.of(name) not in required]
        known = required.union(map(self.stand_ins.of, self.offset_only))
        self.variable_names = [name for name in frame if self.stand_ins.of(name) in known]
        self._tables = [LevelTables.of(spec, self.stand_ins, frame, matrix)
                        for spec, matrix in zip(self._specs(), used, strict=True)]  # fmt: skip
        self._kept = []  # of each matrix the columns that are features
        for matrix, new in zip(used, [names, *(new for _, new in self._slopes)], strict=True):
            places = {self.stand_ins.back(name): j for j, name in enumerate(matrix.columns) if name != "Intercept"}
            self._kept.append([j for name, j in places.items() if name in new])
        X = self._features(used)
        self._columns = X.columns
        return X

    def _evaluate(self, part, frame, written):
        frame = frame.rename(columns=self.stand_ins.of)
        with np.errstate(all="ignore"):  # what is not defined is told of by its term
            try:
                return part.get_model_matrix(frame, context={}, na_action="ignore")
            except Exception as error:
                hint = "; a power is written **, as in I(age**2)" if "^" in written else ""
                reason = self.stand_ins.back(str(error))
                raise ValueError(f"formula: can't evaluate {written!r} ({reason}){hint}") from error

    def _specs(self):
        return [self.spec, *(spec for spec, _ in self._slopes)]

    def _names(self, matrix):
        """Names of a matrix's columns besides the intercept, with those of the user's columns in them."""
        names = [self.stand_ins.back(name) for name in matrix.columns if name != "Intercept"]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"formula: two columns of the design would be named {twice[0]!r}: rename that of the data")
        return names

    def _features(self, matrices):
        """The columns of all matrices: of the first all but the intercept, of the others those that are new."""
        fixed, *others = matrices
        parts = [pd.DataFrame(fixed).loc[:, fixed.columns != "Intercept"].set_axis(self._names(fixed), axis=1)]
        for matrix, (_, new) in zip(others, self._slopes, strict=True):
            own = pd.DataFrame(matrix).loc[:, matrix.columns != "Intercept"].set_axis(self._names(matrix), axis=1)
            parts.append(own[new])
        X = pd.concat(parts, axis=1).astype(np.float64).reset_index(drop=True)
        X.columns = X.columns.astype(object)
        return X

    # New data -----------------------------------------------------------------------------------------------

    def new_rows(self, data, groups=None):
        """X and groups of a new data frame; groups are those grouping columns that it has, None for none."""
        X = pd.DataFrame(self.design(self.variables(data)), columns=self._columns, copy=False)
        if not np.isfinite(X.to_numpy()).all():
            raise ValueError(in_which_not_defined(undefined_rows(X), len(X)))
        if groups is not None or not self.group_names:
            return X, groups
        there = [name for name in self.group_names if name in data.columns]
        return X, take_columns(data, there, "the model's formula") if there else None

    def offset(self, data):
        """The offset of the rows of a data frame, None for a formula without one.

        Raises
        ------
        ValueError
            Where it is missing or not defined: it names the column or the expression.
        """
        if not self.has_offset:
            return None
        variables = self.variables(data)
        found = {part.called: part.of(variables) for part in self.offsets}
        missed = undefined_rows(pd.DataFrame(found))
        if missed:
            raise ValueError(in_which_not_defined(missed, len(variables)))
        return sum(found.values())

    def offset_of(self, variables):
        """The offset of rows from their variables, as `variables` gives them; None for a formula without one."""
        return sum(part.of(variables) for part in self.offsets) if self.has_offset else None

    def trials(self, data):
        """How many trials each line of a data frame stands for; None where it lacks the columns, or there are none."""
        if not self.is_counts or not set(self.response_names) <= set(data.columns):
            return None
        line, _, weights = self.counts.rows(data)
        return np.bincount(line, weights=weights, minlength=len(data))

    def defined_rows(self, data, others=()):
        """Mask of the rows of a data frame in which nothing is missing and every term is defined.

        Parameters
        ----------
        data : DataFrame
        others : iterable of str or None
            Further columns that may not be missing, where the data have them.
        """
        there = [name for name in others if name is not None and name in data.columns]
        names = list(dict.fromkeys([*self.variable_names, *there]))
        frame = take_columns(data, names, "the model's formula")
        mask = complete_rows(frame)
        if mask.any():
            variables = self._as_at_the_fit(plain_columns(frame.loc[mask, self.variable_names]))
            defined = np.isfinite(self.design(variables)).all(axis=1)
            if self.has_offset:
                defined &= np.isfinite(self.offset_of(variables))
            mask[mask] = defined
        return mask

    def variables(self, data):
        """The columns of a data frame that effects and offsets are made of; none of their values may be missing."""
        frame = take_columns(data, self.variable_names, "the model's formula")
        refuse_incomplete(frame, "fill them in or leave these rows out")
        return self._as_at_the_fit(plain_columns(frame))

    def _as_at_the_fit(self, frame):
        """Numbers must be numbers again; what was labels is taken for labels."""
        for name, column in frame.items():
            if name in self.numbers and not is_number(column):
                held = shown_label(column.iloc[0])
                raise ValueError(f"column {name!r} held numbers at the fit, but holds {held} here")
            if name not in self.numbers and is_number(column):
                frame = frame.assign(**{name: column.astype(object)})
        return frame

    def design(self, frame):
        """Features of rows as an array, from their variables."""
        found = [None if tables is None else tables.columns(frame) for tables in self._tables]
        if any(columns is None for columns in found):
            return self._features(self._matrices(frame)).to_numpy()
        return np.hstack([columns[:, kept] for columns, kept in zip(found, self._kept, strict=True)])

    def is_factor(self, name):
        """Whether a variable enters by its levels, be they numbers, as in C(year)."""
        return any(self._variables_of(spec, factor) == {name} for spec, factor, _ in self._factors())

    def levels(self, name, column):
        """Levels of a variable of labels: those of the fit, the reference first."""
        for spec, factor, contrasts in self._factors():
            if self._variables_of(spec, factor) == {name}:
                return list(contrasts.levels)
        return sorted(column.unique())

    def _factors(self):
        for spec in self._specs():
            for factor, contrasts in spec.factor_contrasts.items():
                yield spec, factor, contrasts

    def terms(self):
        """The terms of the fixed effects, in the user's names: factors, and columns of the design.

        Yields
        ------
        factors : list of (str, set of str, bool)
            The text, the variables in it, and whether it enters by its levels.
        columns : list of str
        """
        spec, back = self.spec, self.stand_ins.back
        for term, indices in spec.term_indices.items():
            factors = [
                (back(str(factor)), self._variables_of(spec, factor), factor in spec.factor_contrasts)
                for factor in term.factors
            ]
            names = [spec.column_names[j] for j in indices]
            yield factors, [back(name) for name in names if name != "Intercept"]

    def variables_of_columns(self, names):
        """The variables that these columns of the fixed effects are made of."""
        found = set()
        for factors, columns in self.terms():
            if names & set(columns):
                found.update(*(variables for _, variables, _ in factors))
        return found

    def _variables_of(self, spec, factor):
        return {self.stand_ins.back(str(v)) for v in spec.factor_variables.get(factor, ())} & set(self.variable_names)

    def _matrices(self, frame):
        from formulaic.errors import DataMismatchWarning

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error", DataMismatchWarning)
            try:
                named = frame.rename(columns=self.stand_ins.of)
                return [spec.get_model_matrix(named, context={}, na_action="ignore") for spec in self._specs()]
            except DataMismatchWarning as warning:
                raise ValueError(self._unseen_levels(frame) or str(warning)) from None

    def _unseen_levels(self, frame):
        for spec, factor, contrasts in self._factors():
            for name in self._variables_of(spec, factor):
                unseen = [value for value in frame[name].unique() if value not in contrasts.levels]
                if unseen:
                    return (
                        f"column {name!r} holds {listed(map(shown_label, unseen))}, which the fit did not see; its "
                        f"levels are {listed(map(shown_label, contrasts.levels))}"
                    )
        return None


def _higher_label(column):
    """The higher one of two labels of an ordered categorical; None for any other column."""
    if not isinstance(column.dtype, pd.CategoricalDtype) or not column.cat.ordered:
        return None
    there = [label for label in column.cat.categories if (column == label).any()]
    return there[-1] if len(there) == 2 else None


def _parse_bars(bars):
    try:
        return parse_random_effects([quote_calls(bar) for bar in bars], []) if bars else []
    except ValueError as error:
        raise ValueError(re.sub(r"^random_effects\[\d+\]", "formula", str(error))) from None


def _design_columns(term, columns):
    """The random slopes that are named as columns of the design, "urban[T.Y]" or "x:z" in back-quotes."""
    single = [name for name in term.features if term.multiplied(name) == (name,) and name not in columns]
    return [name for name in single if not name.endswith(")") and ("]" in name or ":" in name)]


def _as_written(name, columns):
    """A random slope for formulaic: a call as it is, a column in back-quotes."""
    return name if name.endswith(")") and name not in columns else f"`{name}`"


def _formulaic():
    try:
        import formulaic
    except ImportError as error:
        raise ImportError(
            "formulas need the package formulaic: pip install formulaic, or pip install 'sklmm[formula]'"
        ) from error
    return formulaic
