"""accuracy_report: how well estimators predict for new and for known groups."""

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklmm.accuracy.baselines import default_estimators, resolve_estimators
from sklmm.accuracy.data import read_data
from sklmm.accuracy.evaluation import evaluate
from sklmm.accuracy.kinds import kind_of
from sklmm.accuracy.metrics import metric_columns
from sklmm.accuracy.progress import Progress
from sklmm.accuracy.ranking import rank
from sklmm.accuracy.resampling import resample_metrics
from sklmm.accuracy.result import AccuracyReport
from sklmm.accuracy.scenarios import plan_scenarios
from sklmm.design.outcomes import event_of
from sklmm.messages import warn


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

        None is all but the second, and without the last one where groups are small: the median of their rows below
        ten a feature. The first in the list is the one that others are compared with. For those known by
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
        1 shows a line of progress.

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
    left_out = None
    if estimators is None:
        estimators, left_out = default_estimators(data)
    candidates = resolve_estimators(
        estimators, group_features is not None, random_effects, link, positive, kind
    )
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
    progress = Progress(verbose, "accuracy_report")
    evaluation = evaluate(data, plan, candidates, n_jobs=n_jobs, progress=progress)
    for name, category, text in evaluation.warnings:
        warn(f"estimator {name!r}, {text}", category)

    summary, ranking = [], []
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
                progress=lambda done, name=scenario.name: progress(done, n_resamples, f"resamples of groups: {name}"),
            )
            table.insert(0, "scenario", scenario.name)
            summary.append(table)
            table = rank(
                data, scenario, evaluation.predictions[scenario.name], names, n_resamples=n_resamples, level=level,
                random_state=int(resampling_seed),
            )  # fmt: skip
            table.insert(0, "scenario", scenario.name)
            ranking.append(table)
    of_resampling = {str(message.message): message.category for message in caught}  # each once, not by scenario
    for text, category in of_resampling.items():
        warn(text, category)
    return AccuracyReport(
        data=data,
        plan=plan,
        candidates=candidates,
        evaluation=evaluation,
        summary=pd.concat(summary, ignore_index=True),
        ranking=pd.concat(ranking, ignore_index=True),
        metrics=names,
        threshold=threshold,
        level=level,
        n_resamples=n_resamples,
        update_rows=update_rows,
        notes=[*([] if left_out is None else [left_out]), *(f"{text[0].upper()}{text[1:]}." for text in of_resampling)],
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
