"""The two kinds of report, of classes and of numbers: all that differs between them, and the place that decides.

Everything else in this folder asks the report's kind. `Kind` says what it may ask.
"""

import inspect
from collections.abc import Mapping

import numpy as np
from scipy import stats
from sklearn.base import is_classifier, is_regressor
from sklearn.ensemble import StackingClassifier
from sklearn.pipeline import Pipeline

from sklmm.accuracy import unpooled, unpooled_of_numbers
from sklmm.accuracy.metrics import METRICS, metrics_of_rows
from sklmm.accuracy.metrics_of_numbers import LEVEL, METRICS_OF_NUMBERS
from sklmm.accuracy.rows import read_number_rows, read_rows
from sklmm.design.outcomes import encode_target, plain_labels, read_numbers
from sklmm.gee import GEELogisticRegression
from sklmm.linear import GEELinearRegression, MixedLinearRegression
from sklmm.messages import shown_label
from sklmm.mixed import MixedLogisticRegression


class Kind:
    """What a report must know of its outcomes.

    Attributes
    ----------
    name : {"classes", "numbers"}
    has_classes : bool
    metrics : dict of str -> Metric
    estimators : str
        What those of this kind are called.
    method : str
        By which they predict.
    columns : tuple of str
        Columns of predictions in the table of them; the first is what is predicted.
    bounds : (float, float)
        Between which predictions and outcomes lie.
    axes : (str, str)
        What bins of predictions have: along both axes of calibration curves. The second has a place for the outcome.
    """

    name = metrics = estimators = method = columns = axes = None
    has_classes, bounds = True, (0.0, 1.0)

    def read_target(self, y):
        """Labels that fits are given, outcomes as numbers, and the two classes or None."""
        raise NotImplementedError

    def models(self, random_effects, link, positive):
        """Estimators by name, "mixed", "gee", "pooled", "dummies", "separate"; an error for settings of other kinds."""
        raise NotImplementedError

    def check_estimator(self, name, estimator):
        """A TypeError for an estimator of another kind."""
        raise NotImplementedError

    def predict(self, model, X, params, event):
        """Predictions of rows: a number each, or a row of numbers, one a column of `columns`."""
        raise NotImplementedError

    def read_rows(self, y, predicted, codes, weights=None, *, threshold=0.5, folds=None):
        """What metrics take: the rows that count, checked."""
        raise NotImplementedError

    def compute(self, y, predicted, codes, weights, *, metrics, threshold=0.5):
        """Numbers by column, of predictions."""
        rows = self.read_rows(y, predicted, codes, weights, threshold=threshold)
        return metrics_of_rows(rows, metrics, self.metrics)

    def outcome(self, y, weights, classes, of_all):
        """What is predicted, in words; `of_all` says what rows count for."""
        raise NotImplementedError

    def guess(self, mean, classes):
        """What the prediction that tells no rows apart is, in words that end in an article."""
        raise NotImplementedError


class Classes(Kind):
    """One of two classes; what is predicted is the probability of the second."""

    name, metrics, estimators, method = "classes", METRICS, "classifiers", "predict_proba"
    columns, axes = ("probability",), ("mean predicted probability", "share with {}")

    def read_target(self, y):
        target, classes = encode_target(y)
        return np.asarray(y), target, classes

    def models(self, random_effects, link, positive):
        return {  # predictions of the GEE need no covariance, and the naive one always exists
            "mixed": MixedLogisticRegression(random_effects, link=link, positive=positive),
            "gee": GEELogisticRegression(cov_type="naive", link=link, positive=positive),
            "pooled": unpooled.PooledClassifier(),
            "dummies": unpooled.GroupDummiesClassifier(),
            "separate": unpooled.SeparateClassifier(),
        }

    def check_estimator(self, name, estimator):
        if not is_classifier(estimator):
            raise TypeError(f"estimator {name!r} is no classifier: {estimator!r}")
        if not hasattr(estimator, "predict_proba") and not _will_predict(estimator):
            raise TypeError(
                f"estimator {name!r} has no predict_proba, and a report scores probabilities; wrap it in "
                "CalibratedClassifierCV"
            )

    def predict(self, model, X, params, event):
        probability = np.asarray(model.predict_proba(X, **params), dtype=np.float64)
        n_rows = X.shape[0]
        if probability.shape != (n_rows, 2):
            raise ValueError(f"predict_proba gives an array of shape {probability.shape} in place of {(n_rows, 2)}")
        column = probability[:, int(np.flatnonzero(np.asarray(model.classes_) == event)[0])]
        if not ((column >= 0) & (column <= 1)).all():  # NaN included
            raise ValueError("predict_proba gives values that are no probabilities")
        return column

    def read_rows(self, y, predicted, codes, weights=None, *, threshold=0.5, folds=None):
        return read_rows(y, predicted, codes, weights, threshold=threshold, folds=folds)

    def outcome(self, y, weights, classes, of_all):
        other, one = map(shown_label, classes)
        share = np.average(y, weights=weights)
        return f"probability of {one} (against {other}), which {share:.1%} of the {of_all} have"

    def guess(self, mean, classes):
        return f"the share of {shown_label(classes[1])} among them, {mean:.1%}, has a"


class Numbers(Kind):
    """A measured number; what is predicted is its expectation and, by some, the interval of a new outcome."""

    name, metrics, estimators, method = "numbers", METRICS_OF_NUMBERS, "regressors", "predict"
    columns, axes = ("prediction", "lower", "upper"), ("mean prediction", "mean of {}")
    has_classes, bounds = False, (-np.inf, np.inf)

    def read_target(self, y):
        target = read_numbers(y)
        return target, target, None

    def models(self, random_effects, link, positive):
        if link != "logit" or positive is not None:
            raise ValueError("link and positive are settings of classes, and this is a report of numbers")
        return {
            "mixed": MixedLinearRegression(random_effects),
            "gee": GEELinearRegression(cov_type="naive"),
            "pooled": unpooled_of_numbers.PooledRegressor(),
            "dummies": unpooled_of_numbers.GroupDummiesRegressor(),
            "separate": unpooled_of_numbers.SeparateRegressor(),
        }

    def check_estimator(self, name, estimator):
        if not is_regressor(estimator):
            raise TypeError(f"estimator {name!r} is no regressor, and this is a report of numbers: {estimator!r}")

    def predict(self, model, X, params, event):
        n_rows = X.shape[0]
        if isinstance(model, Pipeline):  # which hands on arguments, but knows no intervals
            X, model = model[:-1].transform(X) if len(model.steps) > 1 else X, model.steps[-1][1]
        ends = np.full((n_rows, 2), np.nan)
        if hasattr(model, "predict_interval"):
            ends = model.predict_interval(X, level=LEVEL, kind="observation", **params)
            mean = model.predict(X, **params)
        elif "return_std" in inspect.signature(model.predict).parameters:
            mean, std = model.predict(X, return_std=True, **params)
            ends = np.asarray(mean)[:, None] + np.outer(std, stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        else:
            mean = model.predict(X, **params)
        mean = np.asarray(mean, dtype=np.float64)
        if mean.shape != (n_rows,):
            raise ValueError(f"predict gives an array of shape {mean.shape} in place of {(n_rows,)}")
        if not np.isfinite(mean).all():
            raise ValueError("predict gives values that are no finite numbers")
        return np.column_stack([mean, ends])

    def read_rows(self, y, predicted, codes, weights=None, *, threshold=0.5, folds=None):
        return read_number_rows(y, predicted, codes, weights, folds=folds)

    def outcome(self, y, weights, classes, of_all):
        mean = np.average(y, weights=weights)
        sd = np.sqrt(np.average((y - mean) ** 2, weights=weights))
        return f"a number, of mean {mean:.5g} and standard deviation {sd:.5g}"

    def guess(self, mean, classes):
        return f"the mean of them all, {mean:.5g}, has an"


CLASSES, NUMBERS = Classes(), Numbers()
KINDS = {kind.name: kind for kind in (CLASSES, NUMBERS)}


def kind_of(kind, estimators, y, trials=None):
    """The kind of a report: the one named, else that of the estimators given, else that of the outcomes.

    Parameters
    ----------
    kind : {"numbers", "classes"} or None
    estimators, y, trials
        As in `accuracy_report`. Regressors predict numbers, other estimators classes. Where all are given by name,
        outcomes are numbers if they are more than two different ones.

    Returns
    -------
    kind : Kind
    """
    if kind is not None:
        if kind not in KINDS:
            raise ValueError(f"kind must be 'numbers', 'classes' or None, got {kind!r}")
        return KINDS[kind]
    items = estimators.values() if isinstance(estimators, Mapping) else estimators
    items = items if isinstance(items, (list, tuple)) or isinstance(estimators, Mapping) else [items]
    given = [item for item in items if hasattr(item, "__sklearn_tags__") and not isinstance(item, type)]
    if given or trials is not None:
        return NUMBERS if any(map(is_regressor, given)) else CLASSES
    values = plain_labels([] if y is None else y)
    if values.dtype.kind not in "iuf":
        return CLASSES
    return NUMBERS if len(np.unique(values[np.isfinite(values)])) > 2 else CLASSES


def _will_predict(estimator):
    """Whether a part of it is a stack by default: that has its logistic regression once fitted, not before."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return any(isinstance(part, StackingClassifier) and part.final_estimator is None for part in parts)
