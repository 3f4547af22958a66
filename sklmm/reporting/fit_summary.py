"""The object that a summary is: tables as DataFrames, and the document that shows them."""

import numpy as np
import pandas as pd

from sklmm.inference.tables import Table
from sklmm.reporting import numbers, rendering


class FitSummary:
    """Tables of a fitted model: ``print`` them, or take them as DataFrames.

    Parameters
    ----------
    title : str
        The model in words.
    facts : list of (str, str)
        What was fitted to what: rows, groups, approximation.
    coefficients : DataFrame
        As `sklmm.inference.wald.wald_table` makes it.
    level : float
        Confidence level of its intervals.
    statistics : dict of str -> float
        Fit statistics by name.
    coefficients_title : str, default="Fixed effects"
        Heading of the coefficients.
    variance_components : DataFrame, optional
        A row a random coefficient, see `summary_of_mixed`. For models without random effects None.
    correlation : DataFrame, optional
        Correlation of the estimated coefficients.
    tables : list of Table, optional
        Further tables, shown between the coefficients and the fit statistics.
    verdict : list of str, optional
        Sentences above all else: what must be known before any number is read.
    notes : list of str, optional
        Sentences below the tables: convergence, warnings.

    Attributes
    ----------
    coefficients : DataFrame
    variance_components : DataFrame or None
    correlation : DataFrame or None
    statistics : Series
    verdict, notes : list of str
    """

    def __init__(
        self,
        *,
        title,
        facts,
        coefficients,
        level,
        statistics,
        coefficients_title="Fixed effects",
        variance_components=None,
        correlation=None,
        tables=(),
        verdict=(),
        notes=(),
    ):
        self.title = title
        self.facts = list(facts)
        self.coefficients = coefficients
        self.level = level
        self.statistics = pd.Series(statistics, dtype=float)
        self.coefficients_title = coefficients_title
        self.variance_components = variance_components
        self.correlation = correlation
        self.tables = list(tables)
        self.verdict = list(verdict)
        self.notes = list(notes)

    def __str__(self):
        return rendering.to_text(self._document())

    __repr__ = __str__

    def _repr_html_(self):
        return rendering.to_html(self._document())

    def to_markdown(self):
        """The summary in GitHub's Markdown."""
        return rendering.to_markdown(self._document())

    def to_latex(self):
        """The summary as LaTeX `tabular`s; no packages needed."""
        return rendering.to_latex(self._document())

    def to_frame(self):
        """Every estimated parameter in one DataFrame, fixed effects first.

        Returns
        -------
        frame : Table
            A data frame that prints whole: the columns of `coefficients` and, before them, "effect" ("fixed", "sd",
            "correlation") and "term" (the random-effects term, empty for fixed effects); what only fixed effects have
            is NaN for the others. The index has the names of `conf_int(method="profile")`: "age", "sd_age|district",
            "cor_age.intercept|district".
        """
        fixed = self.coefficients.copy()
        fixed.insert(0, "effect", "fixed")
        fixed.insert(1, "term", "")
        if self.variance_components is None:
            return Table(fixed)
        random, names = [], []
        for (term, name), row in self.variance_components.iterrows():
            random.append({"effect": "sd", "term": term, "estimate": row["sd"]})
            names.append(f"sd_{name}|{term}")
            for column, value in row.items():
                if column.startswith("corr_") and not np.isnan(value):
                    random.append({"effect": "correlation", "term": term, "estimate": value})
                    names.append(f"cor_{name}.{column.removeprefix('corr_')}|{term}")
        random = pd.DataFrame(random, index=names).reindex(columns=fixed.columns)
        # By records: concatenating frames with empty columns is not settled in pandas.
        records = [*fixed.to_dict("records"), *random.to_dict("records")]
        return Table(records, index=[*fixed.index, *names], columns=fixed.columns)

    def _document(self):
        tables = [_coefficient_table(self.coefficients_title, self.coefficients, self.level)]
        if self.correlation is not None and len(self.correlation) > 1:
            tables.append(_correlation_table(self.correlation))
        if self.variance_components is not None:
            tables.append(_variance_table(self.variance_components))
        tables += self.tables
        if len(self.statistics):
            values = [numbers.fixed(value, 2) for value in self.statistics]
            tables.append(rendering.Table("Fit", list(self.statistics.index), [values], n_names=0))
        return rendering.Document(self.title, self.facts, tables, self.notes, self.verdict)


def _coefficient_table(title, table, level):
    ends = [f"{50 * (1 - level):.6g} %", f"{50 * (1 + level):.6g} %"]
    statistic = "t" if "t" in table.columns else "z"
    ratio = next((name for name in ("odds_ratio", "hazard_ratio") if name in table.columns), None)
    head = ["", "estimate", "std. error", statistic, "p-value", *ends]
    head += [] if ratio is None else [ratio.replace("_", " "), *ends]
    decimals = numbers.column_decimals(table["std_error"])
    rows = []
    for name, row in zip(table.index, table.to_dict("records"), strict=True):
        write = numbers.writer(row["std_error"], decimals)
        rows.append(
            [
                name,
                write(row["estimate"]),
                write(row["std_error"]),
                numbers.fixed(row[statistic], 2),
                numbers.p_value(row["p_value"]),
                write(row["lower"]),
                write(row["upper"]),
                *(numbers.ratio(row[ratio + end]) for end in ("", "_lower", "_upper") if ratio is not None),
            ]
        )
    return rendering.Table(title, head, rows)


def _correlation_table(correlation):
    """The lower triangle; columns are numbered, since names would not fit."""
    values = correlation.to_numpy()
    rows = [
        [f"{i + 1}", name, *(numbers.fixed(values[i, j], 2) if j < i else "" for j in range(len(values) - 1))]
        for i, name in enumerate(correlation.index)
    ]
    head = ["", "", *(str(j + 1) for j in range(len(values) - 1))]
    return rendering.Table("Correlation of the coefficients", head, rows, n_names=2)


def _variance_table(table):
    corr = [column for column in table.columns if column.startswith("corr_")]
    decimals = numbers.column_decimals(table["sd"])
    rows, width, before = [], 0, None
    for (term, name), row in table.iterrows():
        if term != before:
            earlier = []
        # A triangle: each term's correlations begin in the first column, whatever the names.
        cells = ["" if np.isnan(row[c]) else numbers.fixed(row[c], 2) for c in earlier if c in corr]
        width = max(width, len(cells))
        spread = [numbers.writer(row[column], decimals)(row[column]) for column in ("variance", "sd")]
        rows.append(["" if term == before else term, name, *spread, *cells])
        earlier.append(f"corr_{name}")
        before = term
    rows = [row + [""] * (4 + width - len(row)) for row in rows]
    head = ["term", "coefficient", "variance", "sd", *["correlation", *[""] * width][:width]]
    return rendering.Table("Random effects", head, rows, n_names=2)
