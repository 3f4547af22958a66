"""The formula door: ``"use ~ age*ch + I(age**2) + urban + (1 | urban:district)"`` and a data frame -> X, y, groups.

The fixed part is formulaic's; terms with a bar are split off and left to `random_effects`. What a formula learnt from
the data of the fit (levels, contrasts, the constants of transforms, never rows) stays with the model, so that new data
frames go through the same door.
"""

import difflib
import re
import warnings

import numpy as np
import pandas as pd

from .random_effects import _quoted, parse_random_effects

__all__ = ["FormulaDesign", "split_formula"]


def split_formula(text):
    """Take a formula apart.

    Parameters
    ----------
    text : str

    Returns
    -------
    response : str
        The name left of the tilde.
    fixed : str
        What is right of it, without the terms in brackets that hold a bar.
    bars : list of str
        Those terms, without their brackets.
    """
    if not isinstance(text, str):
        raise TypeError(f"formula must be a str such as 'use ~ age + (1 | district)', got {type(text).__name__}")
    left, tilde, right = text.partition("~")
    if not tilde or "~" in right:
        raise ValueError(f"formula: one '~' must part the response from the rest, as in 'use ~ age'; got {text!r}")
    response = left.strip()
    if response.startswith("`") and response.endswith("`") and len(response) > 2:
        response = response[1:-1]
    elif not re.fullmatch(r"[^\W\d][\w.]*", response):
        raise ValueError(
            f"formula: left of the '~' stands the name of one column, got {left.strip()!r}; transform the response "
            "beforehand, and put other names in back-quotes: `a name`"
        )
    kept, bars, i = [], [], 0
    while i < len(right):
        end = _end_of_piece(right, i, text)
        piece = right[i:end]
        if piece.startswith("(") and _has_bar(piece[1:-1]):
            before = "".join(kept).rstrip()
            if before and not before.endswith("+"):
                raise ValueError(f"formula: a term with a bar is added to the rest with '+', but {piece!r} is not")
            after = right[end:].lstrip()
            if after and not after.startswith(("+", "-")):
                raise ValueError(f"formula: expected '+' after {piece!r}")
            kept = [before[:-1].rstrip()] if before else []
            bars.append(piece[1:-1])
            if not kept or not kept[0]:
                end += len(right[end:]) - len(after.removeprefix("+"))
                kept = []
        elif piece == "|":
            raise ValueError(
                f"formula: terms with a bar go in brackets, as in 'use ~ age + (1 | district)'; got {text!r}"
            )
        else:
            kept.append(piece)
        i = end
    return response, "".join(kept).strip() or "1", bars


def _end_of_piece(text, start, formula):
    """End of the piece that begins at `start`: brackets, a quoted text, a name or call, or one character."""
    char = text[start]
    if char in "`'\"":
        end = text.find(char, start + 1)
        if end < 0:
            raise ValueError(f"formula: a quote is never closed in {formula!r}")
        return end + 1
    if char in "([{":
        closing = {"(": ")", "[": "]", "{": "}"}[char]
        i = start + 1
        while i < len(text) and text[i] != closing:
            i = _end_of_piece(text, i, formula)
        if i >= len(text):
            raise ValueError(f"formula: {char!r} is never closed in {formula!r}")
        return i + 1
    name = re.compile(r"[^\W\d][\w.]*").match(text, start)
    if name is None:
        return start + 1
    call = text[name.end() : name.end() + 1] == "("
    return _end_of_piece(text, name.end(), formula) if call else name.end()


def _names_in(text):
    """The names in a formula that may be those of columns: neither functions nor keywords of theirs."""
    quoted = set(re.findall(r"`([^`]+)`", text))
    text = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", " ", text)
    return quoted | set(re.findall(r"(?<![\w.])[^\W\d]\w*(?![\w.]|\s*\(|\s*=(?!=))", text))


def _has_bar(text):
    """Whether there is a bar outside quotes and calls."""
    i = 0
    while i < len(text):
        if text[i] == "|":
            return True
        if text[i] == "(":  # brackets within brackets: (1 + (x) | g)
            end = _end_of_piece(text, i, text)
            if _has_bar(text[i + 1 : end - 1]):
                return True
            i = end
        else:
            i = _end_of_piece(text, i, text)
    return False


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

    Attributes
    ----------
    text, response : str
    random_effects : list of str
        The terms with a bar, a factor's slope written as those of its columns.
    group_names : list of str
    fit_intercept : bool
    n_dropped : int
        Rows with missing values that were left out.
    """

    @classmethod
    def read(cls, text, data, *, groups=(), others=(), missing="error", sample_weight=None):
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
        written = _names_in(fixed)
        variables = sorted({*required, *(name for name in getattr(data, "columns", ()) if name in written)})
        weights = [sample_weight] if isinstance(sample_weight, str) else []
        needed = list(dict.fromkeys([self.response, *variables, *self.group_names, *others, *weights]))
        frame = _columns(data, needed, "formula")
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
        self.fit_intercept = "Intercept" in matrix.columns
        self.random_effects = [self._in_columns(term) for term in terms]
        return self, frame, self._features(matrix), sample_weight

    def _parse_bars(self, bars):
        try:
            return parse_random_effects(bars, []) if bars else []
        except ValueError as error:
            raise ValueError(re.sub(r"^random_effects\[\d+\]", "formula", str(error))) from None

    def _in_columns(self, term):
        """A term in bar notation over the design's columns: a factor's slope is one for each of its columns."""
        names = []
        for feature in term.features:
            columns = next(
                (
                    [self.spec.column_names[j] for j in indices]
                    for fixed, indices in self.spec.term_indices.items()
                    if str(fixed) in (feature, f"`{feature}`")
                ),
                [feature] if feature in self.spec.column_names else None,
            )
            if columns is None:
                raise ValueError(
                    f"formula: the random slope of {feature!r} in ({term.source.strip()}) needs {feature!r} among the "
                    "fixed effects, too"
                )
            names += columns
        left = " + ".join(["1" if term.intercept else "0", *map(_quoted, names)])
        right = ":".join(map(_quoted, term.factor))
        return f"{left} {'|' if term.correlated else '||'} {right}"

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
        _complete(frame, "error")
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


def _complete(frame, missing):
    """Mask of the rows without missing values; an error where there are others and they may not be dropped."""
    absent = frame.isna()
    mask = ~absent.any(axis=1).to_numpy()
    if missing == "error" and not mask.all():
        counts = ", ".join(f"{name!r} ({n:,})" for name, n in absent.sum().items() if n)
        raise ValueError(
            f"{np.count_nonzero(~mask):,} of {len(mask):,} rows have missing values, in {counts}: fill them in or drop "
            "these rows (from_formula: missing='drop')"
        )
    return mask


def _listed(names, most=10):
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
