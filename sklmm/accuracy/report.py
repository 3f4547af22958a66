"""accuracy_report: how well estimators predict for new and for known groups, and the object that says so."""

import warnings
from functools import cached_property
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklmm.accuracy import plots
from sklmm.accuracy.baselines import resolve_estimators
from sklmm.accuracy.data import read_data
from sklmm.accuracy.evaluation import evaluate
from sklmm.accuracy.html import report_html
from sklmm.accuracy.kinds import KINDS, kind_of
from sklmm.accuracy.metrics import metric_columns
from sklmm.accuracy.resampling import resample_metrics
from sklmm.accuracy.scenarios import plan_scenarios
from sklmm.accuracy.text import notes_on_rows, notes_on_warnings, report_document
from sklmm.design.outcomes import event_of
from sklmm.messages import warn
from sklmm.reporting import rendering

DEFAULT_ESTIMATORS = ("mixed", "gee", "pooled", "dummies", "separate")


def accuracy_report(
    estimators,
    X,
    y,
    *,
    groups=None,
    group_features=None,
    split_by=None,
    cv=5,
    scenarios=("new groups", "known groups"),
    metrics=None,
    threshold=0.5,
    level=0.95,
    n_resamples=1000,
    update_rows=5,
    time=None,
    sample_weight=None,
    offset=None,
    offset_feature=None,
    trials=None,
    kind=None,
    random_effects=None,
    link="logit",
    positive=None,
    n_jobs=None,
    random_state=None,
    verbose=0,
):
    """Cross-validate estimators on rows that come in groups, and report how well they predict, and for whom.

    Outcomes are two classes or measured numbers, see `kind`.

    Parameters
    ----------
    estimators : None, str, estimator, list of these, or dict of name -> str or estimator
        Any binary classifier of scikit-learn with `predict_proba`, or any regressor, cloned for every fit, or the name
        of a known one; linear where outcomes are numbers:

        - "mixed": `MixedLogisticRegression` or `MixedLinearRegression`, a random intercept for each grouping factor or
          `random_effects`;
        - "mixed, u = 0": the same fit, predicting for the typical group (``predict_effects="zero"``);
        - "gee": `GEELogisticRegression` or `GEELinearRegression`, clusters are the groups of `split_by`;
        - "pooled": plain logistic regression or least squares, which knows no groups;
        - "dummies": a fixed effect for each group of each factor, with a normal prior of standard deviation 10 so that
          groups with one outcome have finite effects; unknown groups get the average effect;
        - "separate": a regression for each group of `split_by`, with normal priors of standard deviation 2.5
          on slopes of standardised features and 10 on the intercept; unknown groups get the pooled model. Of numbers
          these priors are in units of the residual's standard deviation.

        None is all but the second. The first in the list is the one that others are compared with. For those known by
        name, columns of strings or categories become indicators (a column of two categories keeps its name).
    X : {array-like, dataframe} of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
        Any two labels. Probabilities are those of the second. With `trials` numbers of successes. Or numbers.
    groups : array-like, default=None
        Group labels: 1-D, or a column a factor, as in the estimators' `fit`. They are handed to `fit` and
        `predict_proba` (or `predict`) of those estimators that take ``groups=`` (to the last step of a pipeline;
        elsewhere by metadata routing, where it is enabled): all factors to mixed models, the one of `split_by` to
        others, and to searches whose `cv` holds groups out. Other estimators see X, which does not hold the groups.
    group_features : None, str, int, list of them, or callable, default=None
        Columns of X that hold the groups, in place of `groups`. Estimators with a `group_features` of their own, and
        those that do not take groups, see X as it is, grouping columns included; others see it without these columns,
        and are handed the groups.
    split_by : str, default=None
        With several factors, the one whose groups are held out, or known: rows of different groups of it are taken for
        independent. None: the first.
    cv : int, splitter, iterable of (train, test), or dict of scenario -> one of these, default=5
        An int is a number of folds. A splitter must test each row at most once.
    scenarios : str or list of str, default=("new groups", "known groups")
        Whom to predict:

        - "new groups": rows of groups without a row in training (folds by `StratifiedGroupKFold`);
        - "known groups": further rows of groups that have rows in training: the rows of each group are spread evenly
          over the folds, by chance;
        - "updated groups": as "new groups", but the first `update_rows` rows of each tested group are shown to the
          fitted model by `update_groups` (of a search to the best it found), and its other rows are tested. Estimators
          without that method predict these rows as of new groups. Groups with no other rows are left out.
    metrics : list of str, default=None
        Of "log loss", "Brier", "ROC AUC", "AUC within groups", "AUC between groups", "average precision", "accuracy",
        "balanced accuracy", "in-class accuracy" (the columns "sensitivity" and "specificity"), "calibration slope",
        "calibration intercept", "expected calibration error"; see ``sklmm.accuracy.metrics.METRICS``. Of numbers
        "RMSE", "MAE", "R2", "R2 within groups", "R2 between groups", "calibration slope", and of the 90 % intervals
        of estimators that give some "coverage" and "width". None is all.
    threshold : float, default=0.5
        Probability from which on the second class is predicted, for accuracies.
    level : float, default=0.95
        Confidence level of intervals.
    n_resamples : int, default=1000
        Number of times that the groups of `split_by` are resampled for standard errors and intervals.
    update_rows : int, default=5
        See `scenarios`.
    time : array-like of shape (n_samples,), default=None
        Numbers or dates. They say which rows of a group come first (None: the order of the rows, the honest one where
        rows were recorded in time), and are handed to estimators whose `fit` takes ``time=``.
    sample_weight : array-like of shape (n_samples,), default=None
        How many rows each row counts for: in fits, of which all must take ``sample_weight=``, in updates of groups, and
        in metrics. Such a row is in one fold, and with 0 in none.
    offset : array-like of shape (n_samples,), default=None
        What is added to linear predictors, such as the logarithm of an exposure: of all estimators known by name, in
        fits, updates and predictions, and of those whose `fit` and `predict_proba` take ``offset=`` (the last step of a
        pipeline; elsewhere by metadata routing, where it is enabled). Others do not know of it.
    offset_feature : str, int or callable, default=None
        Column of X that holds the offset, in its place. It is no feature to estimators that are handed the offset;
        others see it in X as a feature, or as what their own `offset_feature` or formula says.
    trials : array-like of shape (n_samples,), default=None
        Numbers of trials, of which y are successes: a row of X is a line of counts, and two weighted rows to
        estimators (see `sklmm.expand_counts`), of the classes 0 and 1. A line is in one fold, `update_rows` and `cv`
        are of lines, and metrics count trials. A model with a formula of counts finds them in X, line by line.
    kind : {"numbers", "classes"}, default=None
        What outcomes are. None: what the estimators predict that are not given by name; if there are none, numbers
        where y holds more than two different ones.
    random_effects : None, str or list of str, default=None
        Of "mixed", see `MixedLogisticRegression`.
    link : {"logit", "probit", "cloglog"}, default="logit"
        Of "mixed" and "gee". The others that are known by name are logistic whatever it is.
    positive : label, default=None
        The event that the linear predictors of "mixed" and "gee" are of; None is the second class. With ``"cloglog"``
        another event is another model; with symmetric links predictions are the same. Reported probabilities remain
        those of the second class.
    n_jobs : int, default=None
        Number of processes, as in scikit-learn. Results do not depend on it.
    random_state : int, RandomState instance or None, default=None
        Decides the folds and the resampling. Pass an int for the same report in every call. Folds of a scenario do not
        depend on the other arguments, nor on the estimators.
    verbose : int, default=0
        1 prints a line for each fit.

    Returns
    -------
    report : AccuracyReport
        ``print`` it, or take its `summary`, `scores`, `predictions`.

    Raises
    ------
    TypeError
        For what is no classifier with probabilities; with `sample_weight` or `trials`, for one that takes no weights.
    ValueError
        For invalid arguments; where an estimator fails, with its name, the scenario and the fold.

    Warns
    -----
    What estimators warn of is warned of once for each estimator and kind of warning, with the number of fits.

    Notes
    -----
    Metrics are those of the predictions of all folds together; of the AUC within groups, pairs are of rows of one fold,
    since a row's outcome is part of what the fits of other folds know of its group. Standard errors, intervals and
    paired differences come from resampling groups, with the predictions held: they are about the groups tested, and
    leave out that another sample would have given other fits. All estimators are tested on the same rows.

    With one factor, `update_groups` gets the rows of the tested groups alone. With several it gets the training rows,
    too, as levels that both share, such as items, would otherwise be learnt anew from few rows.

    Examples
    --------
    >>> from sklmm import accuracy_report
    >>> from sklmm.datasets import load_contraception
    >>> women, uses, district = load_contraception(return_X_y=True, as_frame=True)
    >>> X = women[["age", "urban", "livch"]]
    >>> report = accuracy_report(["mixed", "pooled"], X, uses, groups=district, n_resamples=100, random_state=0)
    >>> table = report.summary.set_index(["scenario", "estimator", "metric"])["estimate"]
    >>> bool(table["known groups", "mixed", "log loss"] < table["known groups", "pooled", "log loss"])
    True

    Numbers of sick animals among those at risk, a line for each herd and period:

    >>> from sklmm.datasets import load_cbpp
    >>> rows = load_cbpp(as_frame=True).frame
    >>> lines = rows[rows["ill"] == 1]
    >>> report = accuracy_report(
    ...     "mixed", lines[["period"]], lines["incidence"], trials=lines["size"], groups=lines["herd"],
    ...     scenarios="known groups", metrics="log loss", n_resamples=100, random_state=0,
    ... )
    >>> len(lines), report.predictions["line"].nunique(), int(report.predictions["weight"].sum())
    (56, 56, 842)
    """
    kind = kind_of(kind, estimators, y, trials)
    names = _check_settings(metrics, threshold, level, n_resamples, kind)
    data = read_data(
        X, y, groups, group_features, split_by, time, sample_weight, offset, offset_feature, trials, kind
    )
    if kind.has_classes:
        event_of(data.classes, positive)
    candidates = resolve_estimators(
        DEFAULT_ESTIMATORS if estimators is None else estimators, group_features is not None, random_effects, link,
        positive, kind,
    )  # fmt: skip
    folds_seed, resampling_seed = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=2)
    plan = plan_scenarios(
        scenarios,
        data.target,
        data.codes,
        factor=data.factor,
        cv=cv,
        X=X,
        counted=None if data.weights is None else data.weights > 0,
        update_rows=update_rows,
        order=data.time,
        random_state=int(folds_seed),
        lines=data.lines,
        has_classes=kind.has_classes,
    )
    evaluation = evaluate(data, plan, candidates, n_jobs=n_jobs, verbose=verbose)
    for name, category, text in evaluation.warnings:
        warn(f"estimator {name!r}, {text}", category)

    summary = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for scenario in plan:
            table = resample_metrics(
                data.target[scenario.rows],
                evaluation.predictions[scenario.name],
                data.codes[scenario.rows],
                data.weights_of(scenario.rows),
                metrics=names,
                threshold=threshold,
                n_resamples=n_resamples,
                level=level,
                random_state=int(resampling_seed),
                folds=scenario.fold_numbers,
                kind=kind,
            )
            table.insert(0, "scenario", scenario.name)
            summary.append(table)
    of_resampling = {str(message.message): message.category for message in caught}  # each once, not by scenario
    for text, category in of_resampling.items():
        warn(text, category)
    return AccuracyReport(
        data=data,
        plan=plan,
        evaluation=evaluation,
        summary=pd.concat(summary, ignore_index=True),
        metrics=names,
        threshold=threshold,
        level=level,
        n_resamples=n_resamples,
        notes=[f"{text[0].upper()}{text[1:]}." for text in of_resampling],
    )


def _check_settings(metrics, threshold, level, n_resamples, kind):
    """The columns of the metrics, everything checked before the first fit."""
    columns = metric_columns(metrics, kind.metrics)
    for value, what in ((threshold, "threshold"), (level, "level")):
        if isinstance(value, (bool, str)) or not 0 < value < 1:
            raise ValueError(f"{what} must be a number between 0 and 1, got {value!r}")
    if not isinstance(n_resamples, Integral) or isinstance(n_resamples, bool) or n_resamples < 2:
        raise ValueError(f"n_resamples must be an integer >= 2, got {n_resamples!r}")
    return columns


class AccuracyReport:
    """How well estimators predict, by scenario: ``print`` it, or take its tables. Made by `accuracy_report`.

    Attributes
    ----------
    summary : DataFrame
        A row for each scenario, estimator and metric: "estimate", "std_error", "lower", "upper", and of the difference
        to the first estimator "difference", "difference_std_error", "difference_lower", "difference_upper".
    scores : DataFrame
        A row for each estimator, scenario and fold: "n_train", "n_test" (rows, or lines of counts), "fit_time",
        "predict_time" (seconds), and a column for each metric.
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
    factor : str
        The grouping factor that is split by.
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
    """

    def __init__(self, *, data, plan, evaluation, summary, metrics, threshold, level, n_resamples, notes=()):
        self.summary = summary
        self.scenarios = [scenario.name for scenario in plan]
        self.estimators = list(evaluation.predictions[self.scenarios[0]])
        self.metrics = metrics
        self.kind, self.classes = data.kind.name, data.classes
        self.factor = data.factor
        self.threshold, self.level, self.n_resamples = threshold, level, n_resamples
        self.warnings = evaluation.warnings
        self.unit = "row" if data.lines is None else "line"
        self.notes = [*notes_on_rows(plan, data.factor, self.unit), *notes, *notes_on_warnings(evaluation.warnings)]
        # No features: what was predicted for whom is enough for every table and picture.
        self._plan, self._predictions, self._times = plan, evaluation.predictions, evaluation.times
        self._target, self._codes, self._levels, self._weights = data.target, data.codes, data.levels, data.weights
        self._lines = None if data.lines is None else data.lines.of_row

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
        """Write tables and pictures to one self-contained HTML file. Needs matplotlib.

        Parameters
        ----------
        path : str or path-like
        title : str, default="Predictive accuracy"
        """
        page = report_html(self, title=title)
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
