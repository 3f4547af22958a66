"""The summary of a fitted model."""

import math
from functools import partial

import numpy as np
import pandas as pd

from sklmm.inference.criteria import deviance
from sklmm.inference.tests import wald_table
from sklmm.inference.vcov import correlation

from . import _render

__all__ = ["FitSummary", "summary_of_mixed"]


class FitSummary:
    """Tables of a fitted model: ``print`` them, or take them as DataFrames.

    Parameters
    ----------
    title : str
        The model in words.
    facts : list of (str, str)
        What was fitted to what: rows, groups, approximation.
    coefficients : DataFrame
        As `sklmm.inference.tests.wald_table` makes it.
    level : float
        Confidence level of its intervals.
    statistics : dict of str -> float
        Fit statistics by name.
    variance_components : DataFrame, optional
        A row a random coefficient, see `summary_of_mixed`. For models without random effects None.
    tables : list of Table, optional
        Further tables, shown between the coefficients and the fit statistics.
    notes : list of str, optional
        Sentences below the tables: convergence, warnings.

    Attributes
    ----------
    coefficients : DataFrame
    variance_components : DataFrame or None
    statistics : Series
    notes : list of str
    """

    def __init__(
        self,
        *,
        title,
        facts,
        coefficients,
        level,
        statistics,
        variance_components=None,
        tables=(),
        notes=(),
    ):
        self.title = title
        self.facts = list(facts)
        self.coefficients = coefficients
        self.level = level
        self.statistics = pd.Series(statistics, dtype=float)
        self.variance_components = variance_components
        self.tables = list(tables)
        self.notes = list(notes)

    def __str__(self):
        return _render.to_text(self._document())

    __repr__ = __str__

    def _repr_html_(self):
        return _render.to_html(self._document())

    def to_markdown(self):
        """The summary in GitHub's Markdown."""
        return _render.to_markdown(self._document())

    def to_latex(self):
        """The summary as LaTeX `tabular`s; no packages needed."""
        return _render.to_latex(self._document())

    def _document(self):
        tables = [_coefficient_table(self.coefficients, self.level)]
        if self.variance_components is not None:
            tables.append(_variance_table(self.variance_components))
        tables += self.tables
        if len(self.statistics):
            values = [_fixed(value, 2) for value in self.statistics]
            tables.append(_render.Table("Fit", list(self.statistics.index), [values], n_names=0))
        return _render.Document(self.title, self.facts, tables, self.notes)


def summary_of_mixed(estimator, level=0.95):
    """Summary of a fitted `MixedLogisticRegression`, from its public fitted attributes.

    Parameters
    ----------
    estimator : MixedLogisticRegression
    level : float, default=0.95
        Confidence level of the intervals.

    Returns
    -------
    FitSummary
        `variance_components` has the rows (term, coefficient) and the columns "variance", "sd" and, where
        coefficients are correlated, "corr_<coefficient>" for every coefficient earlier in its term.
    """
    names = [str(name) for name in estimator.vcov_.index]
    slopes = np.ravel(estimator.coef_)
    coef = np.concatenate([np.ravel(estimator.intercept_), slopes]) if len(names) > slopes.size else slopes
    coefficients = wald_table(names, coef, estimator.vcov_.to_numpy(), level)

    covariance = estimator.covariance_
    within = dict(getattr(estimator, "_nesting", ()))
    groups = ", ".join(f"{count:,} of {_nested(factor, within)}" for factor, count in estimator.n_groups_.items())
    other, one = (_label(label) for label in estimator.classes_)
    facts = [
        ("Outcome", f"probability of {one} (against {other})"),
        ("Rows", _count(estimator.n_obs_)),
        ("Groups", groups or "none"),
    ]
    if covariance:
        facts.append(("Likelihood", _approximation(estimator.n_quadrature)))

    log_likelihood = float(estimator.log_likelihood_)
    statistics = {
        "log-likelihood": log_likelihood,
        "deviance": deviance(log_likelihood),
        "AIC": float(estimator.aic_),
        "BIC": float(estimator.bic_),
    }
    title = "Mixed-effects logistic regression" if covariance else "Logistic regression, no random effects"
    return FitSummary(
        title=title,
        facts=facts,
        coefficients=coefficients,
        level=level,
        statistics=statistics,
        variance_components=_variance_components(covariance) if covariance else None,
        notes=_notes(estimator, coefficients, covariance),
    )


# --- what the fit says --------------------------------------------------------------------------------------


def _nested(factor, within):
    """ "class within school", for a factor class or school:class."""
    outer = within.get(factor)
    return factor if outer is None else f"{factor.removeprefix(outer + ':')} within {outer}"


def _approximation(n_quadrature):
    if n_quadrature == 1:
        return "Laplace approximation"
    return f"adaptive Gauss-Hermite quadrature, {n_quadrature} nodes"


def _variance_components(covariance):
    rows = {}
    for term, matrix in covariance.items():
        values = matrix.to_numpy(dtype=float)
        corr = correlation(values)
        # A diagonal matrix is what "||" asks for (or a boundary): there is no correlation to show.
        correlated = np.any(values[~np.eye(len(values), dtype=bool)] != 0)
        for j, name in enumerate(matrix.index):
            row = {"variance": values[j, j], "sd": math.sqrt(max(values[j, j], 0.0))}
            if correlated:
                row |= {f"corr_{earlier}": corr[j, k] for k, earlier in enumerate(matrix.index[:j])}
            rows[str(term), str(name)] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["term", "coefficient"])
    return table


def _notes(estimator, coefficients, covariance):
    notes = []
    verdict = str(getattr(estimator.fit_report_, "verdict", "")).strip()
    if estimator.converged_:
        verdict = verdict or "converged"
        notes.append(f"{verdict[0].upper()}{verdict[1:]}.")
    else:
        notes.append(f"NOT CONVERGED: {verdict or 'the iterations stopped early'}.")
    dropped = coefficients.index[coefficients["std_error"].isna()]
    if len(dropped):
        notes.append("No standard error, not identified by the data: " + ", ".join(dropped) + ".")
    if estimator.is_singular_:
        where = "; ".join(_boundary(covariance))
        notes.append(
            "Singular fit: a variance is on the boundary"
            + (f" ({where})" if where else "")
            + ". The fit is valid; fewer random coefficients would fit as well."
        )
    return notes


def _boundary(covariance):
    """Where a covariance matrix is singular, as far as single entries show it."""
    for term, matrix in covariance.items():
        values = matrix.to_numpy(dtype=float)
        names, corr = list(matrix.index), correlation(values)
        for j, name in enumerate(names):
            if values[j, j] <= 0:
                yield f"{term}: the variance of {name} is 0"
            for k in range(j):
                if abs(corr[j, k]) > 1 - 1e-6:
                    yield f"{term}: the correlation of {names[k]} and {name} is {round(corr[j, k])}"


# --- numbers as text ----------------------------------------------------------------------------------------


def _coefficient_table(table, level):
    ends = [f"{50 * (1 - level):.6g} %", f"{50 * (1 + level):.6g} %"]
    head = ["", "estimate", "std. error", "z", "p-value", *ends, "odds ratio", *ends]
    decimals = _decimals(table["std_error"])
    rows = []
    for name, row in zip(table.index, table.to_dict("records"), strict=True):
        number = _number(row["std_error"], decimals)
        rows.append(
            [
                name,
                number(row["estimate"]),
                number(row["std_error"]),
                _fixed(row["z"], 2),
                _p_value(row["p_value"]),
                number(row["lower"]),
                number(row["upper"]),
                _ratio(row["odds_ratio"]),
                _ratio(row["odds_ratio_lower"]),
                _ratio(row["odds_ratio_upper"]),
            ]
        )
    return _render.Table("Fixed effects", head, rows)


def _variance_table(table):
    corr = [column for column in table.columns if column.startswith("corr_")]
    decimals = _decimals(table["sd"])
    rows, width, before = [], 0, None
    for (term, name), row in table.iterrows():
        if term != before:
            earlier = []
        # A triangle: each term's correlations begin in the first column, whatever the names.
        cells = ["" if np.isnan(row[c]) else _fixed(row[c], 2) for c in earlier if c in corr]
        width = max(width, len(cells))
        spread = [_number(row[column], decimals)(row[column]) for column in ("variance", "sd")]
        rows.append(["" if term == before else term, name, *spread, *cells])
        earlier.append(f"corr_{name}")
        before = term
    rows = [row + [""] * (4 + width - len(row)) for row in rows]
    head = ["term", "coefficient", "variance", "sd", *["correlation", *[""] * width][:width]]
    return _render.Table("Random effects", head, rows, n_names=2)


def _decimals(scales):
    """Decimals that show four digits of the smallest of some scales, between 2 and 5."""
    scales = np.asarray(scales, dtype=float)
    scales = scales[np.isfinite(scales) & (scales > 0)]
    return int(np.clip(3 - np.floor(np.log10(scales.min())), 2, 5)) if scales.size else 4


def _number(scale, decimals):
    """How to write a row's numbers: a scale too fine for the column's decimals gets exponents."""
    return _scientific if 0 < scale < 10.0 ** (1 - decimals) else partial(_fixed, decimals=decimals)


def _fixed(value, decimals):
    if not np.isfinite(value):
        return _special(value)
    if abs(value) >= 1e7:
        return _scientific(value)
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text  # no "-0.00"


def _scientific(value):
    return f"{value:.3e}" if np.isfinite(value) else _special(value)


def _special(value):
    return "-" if np.isnan(value) else f"{value:g}"


def _p_value(value):
    if np.isnan(value):
        return "-"
    if value < 2e-16:
        return "<2e-16"
    return f"{value:.1e}" if value < 1e-4 else f"{value:.4f}"


def _ratio(value):
    if not np.isfinite(value):
        return _special(value)
    return f"{value:.3f}" if 0.01 <= value < 1e4 else f"{value:.2e}"


def _count(value):
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.10g}"


def _label(label):
    return repr(label.item() if isinstance(label, np.generic) else label)
