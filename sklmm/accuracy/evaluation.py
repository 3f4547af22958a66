"""Cross-validation of several estimators in several scenarios: every fit once, predictions of every tested row."""

import time
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from sklmm.exceptions import ForgottenGroupsWarning

# Errors that keep their class once it is said whose they are; others may not be made from a text.
_AS_THEY_ARE = (ValueError, TypeError, MemoryError, NotImplementedError)


@dataclass(eq=False)
class Evaluation:
    """What cross-validation gives.

    Attributes
    ----------
    predictions : dict of scenario -> dict of estimator -> ndarray
        For the tested rows of the scenario, fold by fold; see `Kind.predict`.
    times : DataFrame
        A row for each estimator, scenario and fold, with "fit_time" and "predict_time" in seconds, and "converged":
        whether the fit gave no `ConvergenceWarning`. A fit that serves several of them is in each.
    warnings : list of (str, type, str)
        Estimator, category and text of each kind of warning that fits or predictions gave, with the number of fits.
    """

    predictions: dict
    times: pd.DataFrame
    warnings: list


def evaluate(data, plan, candidates, *, n_jobs=None, progress=None):
    """Fit every candidate on every training fold, and predict the rows tested.

    Parameters
    ----------
    data : GroupedData
    plan : list of Scenario
    candidates : list of Candidate
    n_jobs : int or None
        Number of processes, as in scikit-learn. Results do not depend on it.
    progress : Progress, optional
        Is told of each fit.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError
        If rows have weights, and an estimator takes none.
    ValueError
        If an estimator fails; the message says which one, where, and why.
    """
    _check(candidates, data)
    tasks = _tasks(plan, candidates)
    inputs = {key: _Inputs.of(group[0], data) for key, group in _by_fit(candidates).items()}
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    results = parallel(delayed(_fit_and_predict)(group, folds, inputs[group[0].fit_key]) for group, folds in tasks)
    records, caught = [], []
    for done, (found, messages) in enumerate(results, start=1):
        records += found
        caught += messages
        if progress is not None:
            group, folds = tasks[done - 1]
            progress(done, len(tasks), f"fits: {group[0].name}, {folds[0][0]}, fold {folds[0][1].number}")
    by_key = {(r["estimator"], r["scenario"], r["fold"]): r for r in records}
    predictions, times = {}, []
    for scenario in plan:
        of_scenario = predictions[scenario.name] = {}
        for candidate in candidates:
            parts = [by_key[candidate.name, scenario.name, fold.number] for fold in scenario.folds]
            of_scenario[candidate.name] = np.concatenate([part.pop("predicted") for part in parts])
            times += parts
    return Evaluation(predictions, pd.DataFrame(times), _summarised(caught, tasks))


def fit_to_all(candidate, data):
    """A candidate fitted to all rows.

    Parameters
    ----------
    candidate : Candidate
    data : GroupedData

    Returns
    -------
    estimator : fitted estimator
    X : frame or array
        The rows, as it was given them.
    offset, weights : ndarray or None
        Of the rows.
    """
    inputs = _Inputs.of(candidate, data)
    X, y, by_row = inputs.of_fit(np.arange(len(data.target)))
    estimator = clone(candidate.estimator)
    if candidate.fit_key[0] == "known" and "cov_type" in estimator.get_params():
        estimator.set_params(cov_type="robust")  # predictions needed none
    estimator.fit(X, y, **_params_of_fit(candidate, by_row))
    return estimator, X, by_row["offset"], by_row["sample_weight"]


def _by_fit(candidates):
    """Candidates that share a fit, in order."""
    groups = {}
    for candidate in candidates:
        groups.setdefault(candidate.fit_key, []).append(candidate)
    return groups


def _tasks(plan, candidates):
    """Pairs of candidates that share a fit and of (scenario, fold) that share its training rows."""
    folds = {}
    for scenario in plan:
        for fold in scenario.folds:
            folds.setdefault(id(fold.train), []).append((scenario.name, fold))
    return [(group, shared) for shared in folds.values() for group in _by_fit(candidates).values()]


def _check(candidates, data):
    """An error for candidates that cannot be fitted to such rows."""
    for candidate in candidates:
        if candidate.reads_counts and data.lines is None:
            raise ValueError(
                f"estimator {candidate.name!r} has a formula of successes and trials: pass y=, the numbers of "
                "successes, and trials="
            )
        if data.weights is not None and candidate.weight_key is None and not candidate.reads_counts:
            what = "so that it cannot be compared with those that do; leave it out, or repeat rows"
            if data.lines is not None:
                what = "and a line of counts is two weighted rows; leave it out, or write out all trials"
            raise TypeError(f"estimator {candidate.name!r} takes no sample_weight in fit, {what}")


@dataclass(eq=False)
class _Inputs:
    """All rows of a report, as one candidate and those that share its fit are given them.

    Attributes
    ----------
    table : frame or array
    groups : DataFrame, Series or None
    labels : ndarray
    time, offset, weights : 1-D array-likes or None
    several_factors : bool
    line : ndarray or None
        The line of counts that each row is from.
    reads_counts : bool
        Whether fits are to lines, whose counts are in the table; weights have an entry a line then.
    kind : Kind
    event : label or None
        The class whose probability is predicted.
    """

    table: object
    groups: object
    labels: np.ndarray
    time: object
    offset: np.ndarray | None
    weights: np.ndarray | None
    several_factors: bool
    line: np.ndarray | None
    reads_counts: bool
    kind: object
    event: object

    @classmethod
    def of(cls, candidate, data):
        with_groups = candidate.table == "X"
        table = data.encoded if candidate.table == "encoded" else data.columns(with_groups, not candidate.takes_offset)
        offset = data.offset if candidate.takes_offset else None
        line, counts = None if data.lines is None else data.lines.of_row, candidate.reads_counts
        weights, several = data.lines.weights if counts else data.weights, data.groups.shape[1] > 1
        event = None if data.classes is None else data.classes[1]
        return cls(
            table, _groups_for(candidate, data), data.labels, data.time, offset, weights, several, line, counts,
            data.kind, event,
        )  # fmt: skip

    def of_fit(self, rows):
        """X, y and what else is by row, of rows that a model learns from: of the lines that they are from."""
        labels, weighed = self.labels[rows], rows
        if self.reads_counts:
            weighed, first = np.unique(self.line[rows], return_index=True)
            rows, labels = rows[first], None
        weights = None if self.weights is None else self.weights[weighed]
        return _safe_indexing(self.table, rows), labels, self._by_row(rows) | {"sample_weight": weights}

    def count(self, rows):
        """How many rows, or lines."""
        return len(rows) if self.line is None else len(np.unique(self.line[rows]))

    def of_prediction(self, rows):
        """X, and what else is by row."""
        return _safe_indexing(self.table, rows), self._by_row(rows)

    def _by_row(self, rows):
        return {
            "groups": None if self.groups is None else self.groups.iloc[rows],
            "time": None if self.time is None else np.asarray(self.time)[rows],
            "offset": None if self.offset is None else self.offset[rows],
        }


def _groups_for(candidate, data):
    """The groups that a candidate is handed: a frame of several factors, or one column."""
    if candidate.groups is None:
        return None
    if candidate.groups == "all" and data.groups.shape[1] > 1:
        return data.groups
    return data.groups[data.factor]


# --- one fit ------------------------------------------------------------------------------------------------


def _fit_and_predict(candidates, folds, inputs):
    """Fit once; predict the tested rows of each fold by each candidate that shares the fit."""
    first = candidates[0]
    records, caught = [], []
    where = (first.name, *folds[0])
    try:
        # Sums in BLAS depend on its number of threads, and that on n_jobs.
        with warnings.catch_warnings(record=True) as caught, threadpool_limits(1, user_api="blas"):
            warnings.simplefilter("always")
            train = folds[0][1].train
            begin = time.perf_counter()
            estimator = clone(first.estimator)
            X, y, by_row = inputs.of_fit(train)
            estimator.fit(X, y, **_params_of_fit(first, by_row))
            if isinstance(estimator, BaseSearchCV):
                estimator = estimator.best_estimator_  # predicts for it, and can be updated
            fit_time = time.perf_counter() - begin
            for scenario, fold in folds:
                begin = time.perf_counter()
                # An estimator that predicts without groups, and does not find them in X, could not use an update.
                finds_groups = first.predicts_with_groups or first.table == "X"
                updates = fold.update.size and finds_groups and _final(estimator) is not None
                model = _shown(estimator, first, fold, inputs) if updates else estimator
                update_time = time.perf_counter() - begin
                X_test, by_row = inputs.of_prediction(fold.test)
                for candidate in candidates:
                    where = (candidate.name, scenario, fold)
                    begin = time.perf_counter()
                    params = _params(by_row, groups=candidate.predicts_with_groups, offset=True)
                    predicted = inputs.kind.predict(model, X_test, params | candidate.predict_params, inputs.event)
                    records.append(
                        {
                            "estimator": candidate.name,
                            "scenario": scenario,
                            "fold": fold.number,
                            "n_train": inputs.count(train),
                            "n_test": inputs.count(fold.test),
                            "fit_time": fit_time,
                            "predict_time": time.perf_counter() - begin + update_time,
                            "predicted": predicted,
                        }
                    )
    except Exception as error:
        name, scenario, fold = where
        kind = type(error) if type(error) in _AS_THEY_ARE else RuntimeError
        what = str(error) if kind is not RuntimeError else f"{type(error).__name__}: {error}"
        if first.sees_groups:
            what += " (It sees X with its grouping columns; where these are in its way, pass groups= in their place.)"
        raise kind(f"estimator {name!r}, {scenario}, fold {fold.number}: {what}") from error
    converged = not any(issubclass(message.category, ConvergenceWarning) for message in caught)
    records = [record | {"converged": converged} for record in records]
    first_texts = {message.category: str(message.message) for message in reversed(caught)}
    return records, [(first.name, category, text) for category, text in first_texts.items()]


def _params(by_row, **taken):
    """What a method takes of it, without what there is not."""
    return {name: by_row[name] for name, takes in taken.items() if takes and by_row[name] is not None}


def _params_of_fit(candidate, by_row):
    taken = _params(by_row, groups=candidate.groups is not None, time=candidate.takes_time, offset=True)
    params = {candidate.fit_prefix + name: value for name, value in taken.items()}
    if by_row["sample_weight"] is not None:
        params[candidate.weight_key] = by_row["sample_weight"]
    return params


def _shown(estimator, candidate, fold, inputs):
    """A copy of the fitted estimator that has seen the rows of the tested groups that are for it to see."""
    # Of several factors, the update teaches every level that occurs: the training rows go along, so that the levels
    # shared with them keep what they have learnt.
    shown = np.concatenate([fold.train, fold.update]) if inputs.several_factors else fold.update
    X, y, by_row = inputs.of_fit(shown)
    params = _params(by_row, groups=candidate.predicts_with_groups, offset=True, sample_weight=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForgottenGroupsWarning)
        return _updated(estimator, X, y, **params)


def _final(estimator):
    """The estimator that can be updated: itself, or the last step of a pipeline; else None."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return last if hasattr(last, "update_groups") else None


def _updated(estimator, X, y, **params):
    """A copy of the fitted estimator that has seen these rows of its groups."""
    if not isinstance(estimator, Pipeline):
        return estimator.update_groups(X, y, **params)
    name, last = estimator.steps[-1]
    features = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
    return Pipeline([*estimator.steps[:-1], (name, last.update_groups(features, y, **params))])


def _summarised(caught, tasks):
    """Each kind of warning of an estimator once: its first text, and how many of the fits gave it."""
    n_fits = Counter(group[0].name for group, _ in tasks)
    counts = Counter((name, category) for name, category, _ in caught)
    texts = {}
    for name, category, text in caught:
        texts.setdefault((name, category), text)
    return [
        (name, category, f"in {counts[name, category]} of {n_fits[name]} fits: {text}")
        for (name, category), text in texts.items()
    ]
