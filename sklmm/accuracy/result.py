"""The object that `accuracy_report` returns: tables, pictures, a page."""

from functools import cached_property

import numpy as np
import pandas as pd

from sklmm.accuracy import plots
from sklmm.accuracy.evaluation import fit_to_all
from sklmm.accuracy.html import report_html
from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.text import about, notes_on_rows, notes_on_warnings, report_document
from sklmm.messages import shown_label
from sklmm.reporting import rendering
from sklmm.reporting.findings import Findings, Outcome


class AccuracyReport:
    """How well estimators predict, by scenario: ``print`` it, or take its tables. Made by `accuracy_report`.

    Attributes
    ----------
    summary : DataFrame
        A row for each scenario, estimator and metric: "estimate", "std_error", "lower", "upper", and of the difference
        to the first estimator "difference", "difference_std_error", "difference_lower", "difference_upper".
    ranking : DataFrame
        For each scenario the estimators, the best first, by the metric that leads, "metric" and "estimate"; with its
        difference to what predicting the average outcome of the training rows gives, "to_average", and to the best
        estimator, "to_best", and their intervals, "to_average_lower" and so on. The last row is that of the average.
    scores : DataFrame
        A row for each estimator, scenario and fold: "n_train", "n_test" (rows, or lines of counts), "fit_time",
        "predict_time" (seconds), "converged", and a column for each metric.
    predictions : DataFrame
        A row for each estimator, scenario and tested row: "estimator", "scenario", "fold", "row" (position in X),
        "group" (of `factor`), "y" (1 for the second class), "probability" (of the second class); and "weight", if there
        was a `sample_weight`. Of numbers "prediction", "lower", "upper" (of 90 % intervals, or NaN) in place of
        "probability". Of counts two for each tested line, one for its successes and one for the others, with
        "line" in place of "row", and "weight" the numbers of trials.
    estimators : list of str
    scenarios : list of str
    metrics : list of str
        Columns of `scores`, and values of "metric" in `summary`.
    kind : {"classes", "numbers"}
    classes : ndarray of shape (2,), or None of numbers
    factors : list of str
    factor : str
        Of these grouping factors the one that is split by.
    level : float
        Confidence level of the intervals.
    threshold : float
    n_resamples : int
    unit : {"row", "line"}
        What a row of X is: a line if there were `trials`.
    warnings : list of (str, type, str)
        What estimators warned of: the estimator, the kind of warning, and its text with the number of fits.
    notes : list of str
        What a reader should know of the rows tested and of warnings; shown below the tables.
    models : dict of str -> str
        What each estimator is, in words.
    outcome_name : str or None
        What y is called.
    findings : dict of str -> Findings
        What the first mixed or marginal model among the estimators says of all rows, for the page of `save_html`:
        fitted when it is asked for. Empty without such a model, and after pickling, which leaves the rows out.
    """

    def __init__(
        self, *, data, plan, candidates, evaluation, summary, ranking, metrics, threshold, level, n_resamples,
        update_rows, notes=(),
    ):  # fmt: skip
        self.summary, self.ranking = summary, ranking
        self.scenarios = [scenario.name for scenario in plan]
        self.estimators = list(evaluation.predictions[self.scenarios[0]])
        self.metrics = metrics
        self.kind, self.classes = data.kind.name, data.classes
        self.factors, self.factor = list(data.groups), data.factor
        self.outcome_name, self.update_rows = data.name, update_rows
        self.models = {candidate.name: candidate.description for candidate in candidates}
        self.threshold, self.level, self.n_resamples = threshold, level, n_resamples
        self.warnings = evaluation.warnings
        self.unit = "row" if data.lines is None else "line"
        self.notes = [*notes_on_rows(plan, data.factor, self.unit), *notes, *notes_on_warnings(evaluation.warnings)]
        self._rows_of_fits = data, candidates
        # No features: what was predicted for whom is enough for every table and picture.
        self._plan, self._predictions, self._times = plan, evaluation.predictions, evaluation.times
        self._target, self._codes, self._levels, self._weights = data.target, data.codes, data.levels, data.weights
        self._lines = None if data.lines is None else data.lines.of_row

    def __getstate__(self):
        return self.__dict__ | {"_rows_of_fits": None}

    @property
    def event(self):
        """The outcome whose probability is reported, in words; None of numbers."""
        if self.classes is None:
            return None
        if self.unit == "line":
            return "a success" if self.outcome_name is None else f"a success ({self.outcome_name})"
        label = shown_label(self.classes[1])
        return f"outcome {label}" if self.outcome_name is None else f"{self.outcome_name} = {label}"

    @property
    def about(self):
        """What was predicted for whom, in a line."""
        return about(self)

    @cached_property
    def findings(self):
        """What the first mixed or marginal model among the estimators says of all rows."""
        if self._rows_of_fits is None:
            return {}
        data, candidates = self._rows_of_fits
        chosen = next((candidate for candidate in candidates if candidate.can_explain), None)
        if chosen is None:
            return {}
        estimator, X, offset, weights = fit_to_all(chosen, data)
        factors = data.levels_of_encoded if chosen.table == "encoded" else {}
        outcome = Outcome.of(estimator, data.name) if data.lines is None else Outcome(data.name, self.event, "trials")
        how = {"factors": factors, "offset": offset, "sample_weight": weights, "level": self.level}
        return {chosen.name: Findings(estimator, X, outcome, **how)}

    @cached_property
    def predictions(self):
        """A row for each estimator, scenario and tested row."""
        parts, of_kind = [], KINDS[self.kind]
        for scenario in self._plan:
            rows = scenario.rows
            for name, predicted in self._predictions[scenario.name].items():
                parts.append(
                    {
                        "estimator": np.full(len(rows), self.estimators.index(name), dtype=np.int16),
                        "scenario": np.full(len(rows), self.scenarios.index(scenario.name), dtype=np.int16),
                        "fold": scenario.fold_numbers,
                        self.unit: rows if self._lines is None else self._lines[rows],
                        "group": self._codes[rows],
                        "y": self._target[rows],
                        **dict(zip(of_kind.columns, np.atleast_2d(predicted.T), strict=True)),
                    }
                )
                if self._weights is not None:
                    parts[-1]["weight"] = self._weights[rows]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for name, levels in (("estimator", self.estimators), ("scenario", self.scenarios), ("group", self._levels)):
            columns[name] = pd.Categorical.from_codes(columns[name], categories=levels)
        return pd.DataFrame(columns)

    @cached_property
    def scores(self):
        """A row for each estimator, scenario and fold, with the metrics of that fold's rows."""
        found = []
        for scenario in self._plan:
            rows, numbers = scenario.rows, scenario.fold_numbers
            for name, predicted in self._predictions[scenario.name].items():
                for fold in scenario.folds:
                    here = numbers == fold.number
                    values = KINDS[self.kind].compute(
                        self._target[rows[here]],
                        predicted[here],
                        self._codes[rows[here]],
                        None if self._weights is None else self._weights[rows[here]],
                        metrics=self.metrics,
                        threshold=self.threshold,
                    )
                    found.append({"estimator": name, "scenario": scenario.name, "fold": fold.number, **dict(values)})
        return self._times.merge(pd.DataFrame(found), on=["estimator", "scenario", "fold"], validate="one_to_one")

    # What it says -------------------------------------------------------------------------------------------

    def __str__(self):
        return rendering.to_text(report_document(self))

    __repr__ = __str__

    def _repr_html_(self):
        return rendering.to_html(report_document(self))

    def to_markdown(self):
        """The report in GitHub's Markdown."""
        return rendering.to_markdown(report_document(self))

    def to_latex(self):
        """The tables as LaTeX `tabular`s; no packages needed."""
        return rendering.to_latex(report_document(self))

    # Pictures and pages -------------------------------------------------------------------------------------

    def plot_roc(self, scenario=None, ax=None, **options):
        """Receiver operating characteristic of each classifier. Needs matplotlib.

        Parameters
        ----------
        scenario : str or list of str, default=None
            None: all, side by side.
        ax : matplotlib Axes or sequence of them, default=None
            One a scenario. None makes a figure.
        **options
            Of `sklmm.accuracy.plots.plot_roc`.

        Returns
        -------
        ax : matplotlib Axes, or ndarray of Axes for several panels
        """
        return plots.plot_roc(self, scenario=scenario, ax=ax, **options)

    def plot_predicted(self, scenario=None, ax=None, **options):
        """Outcomes over predictions, of numbers, a panel an estimator and scenario. Needs matplotlib.

        Parameters
        ----------
        scenario : str or list of str, default=None
            None: all, side by side.
        ax : matplotlib Axes or array of them, default=None
            One an estimator and scenario, scenarios varying fastest. None makes a figure.
        **options
            Of `sklmm.accuracy.plots.plot_predicted`.

        Returns
        -------
        ax : matplotlib Axes, or ndarray of Axes for several panels
        """
        return plots.plot_predicted(self, scenario=scenario, ax=ax, **options)

    def plot_calibration(self, scenario=None, ax=None, **options):
        """Calibration curve of each estimator. Needs matplotlib.

        Parameters
        ----------
        scenario, ax
            As in `plot_roc`.
        **options
            Of `sklmm.accuracy.plots.plot_calibration`.

        Returns
        -------
        ax : matplotlib Axes, or ndarray of Axes for several panels
        """
        return plots.plot_calibration(self, scenario=scenario, ax=ax, **options)

    def plot_comparison(self, metric=None, scenario=None, ax=None, **options):
        """Metrics of each estimator, or their differences to the first, with intervals. Needs matplotlib.

        Parameters
        ----------
        metric : str or list of str, default=None
            None: the one that estimators are ranked by, the log loss or the RMSE if the report has it.
        scenario, ax
            As in `plot_roc`.
        **options
            Of `sklmm.accuracy.plots.plot_comparison`.

        Returns
        -------
        ax : matplotlib Axes, or ndarray of Axes for several panels
        """
        return plots.plot_comparison(self, metric=metric, scenario=scenario, ax=ax, **options)

    def save_html(self, path, title="Predictive accuracy"):
        """Write what was found, tables and pictures to one self-contained HTML file. Needs matplotlib.

        The first of the report's mixed or marginal models is fitted to all rows, for what it says of features and
        groups.

        Parameters
        ----------
        path : str or path-like
        title : str, default="Predictive accuracy"
        """
        page = report_html(self, title=title, findings=self.findings)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
