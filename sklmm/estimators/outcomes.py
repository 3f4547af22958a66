"""What kind of outcome an estimator has: how y is read, and what is predicted of it."""

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted

from sklmm.design.outcomes import encode_target, event_of, plain_labels, read_numbers
from sklmm.estimators.reading import nan_where_incomplete
from sklmm.families import GAUSSIAN, bernoulli
from sklmm.fitted import FittedLinear
from sklmm.inference import wald
from sklmm.inference.verdict import with_reason
from sklmm.prediction.predictor import log_probabilities, logits, probabilities


class BinaryOutcomes(ClassifierMixin):
    """Mixin: y is one of two classes.

    The kind of model says ``_tails(X, groups, offset, predict_effects, log, include)``: the smaller of the
    probabilities of the event and of its absence for each row, or its logarithm, and whether the event is the likelier.
    The event is one of the classes, the second one unless `positive` names the first: what the linear predictor is of.
    """

    _plain = "plain logistic regression"  # the model without groups
    _mixed = "MixedLogisticRegression"  # the model of several grouping factors
    _effects_of_no_group = "'marginal' or 'zero'"  # what predictions may be of where the group does not matter

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _family(self):
        return bernoulli(self.link)

    def _learn_target(self, y, positive=None):
        """The outcomes of a fit, 1 for the event, uint8; fitted attributes that describe them; the event's place.

        The event is the parameter `positive`, else the argument of this name, which a formula knows.
        """
        target, classes = encode_target(y)
        event = event_of(classes, positive if self.positive is None else self.positive)
        return target if event else 1 - target, {"classes_": classes}, event

    def _read_target(self, y):
        """Outcomes, 1 for the event, uint8; an error for labels that `fit` did not see."""
        position = pd.Index(self.classes_).get_indexer(plain_labels(y))
        if (position < 0).any():
            raise ValueError(f"y holds labels that fit did not see; the classes are {self.classes_.tolist()}")
        return (position == self._fitted.event).astype(np.uint8)

    def _outcome_facts(self):
        """What two models must have in common for their likelihoods to be compared, as texts; the classes first."""
        fitted, classes = self._fitted, self.classes_.tolist()
        return {
            "classes": str(classes),
            "event": repr(classes[fitted.event]),
            "link": fitted.family.name,
            "number of rows of the second class": "" if fitted.n_second is None else f"{fitted.n_second:.10g}",
        }

    def _labels(self, is_event):
        """The classes of rows."""
        return self.classes_[(is_event == bool(self._fitted.event)).astype(np.intp)]

    def _by_class(self, X, groups, offset, predict_effects, include, log=False):
        """As `_tails`, but whether the second class is the likelier."""
        small, is_event = self._tails(X, groups, offset, predict_effects, log, include)
        return small, is_event == bool(self._fitted.event)

    @staticmethod
    def _coefficients(intercept, slopes):
        """Estimates in the shapes that scikit-learn's classifiers have."""
        return {"coef_": slopes[None].copy(), "intercept_": np.array([intercept], dtype=np.float64)}

    @nan_where_incomplete
    def predict_proba(self, X, groups=None, *, offset=None, predict_effects=None, include=None):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `fit`. A label that is missing, or that fit did not see, is an unknown group; so are all of a factor
            that is absent. A marginal model's predictions need none: they are averages over the population.
        offset : array-like of shape (n_samples,), default=None
            What is added to the linear predictor, for a model whose fit got one in this way.
        predict_effects : {"posterior", "mode", "zero", "marginal"}, default=None
            Overrides the parameter of the same name. Marginal models have "marginal" only.
        include : None, str or list of str, default=None
            Of mixed models: the grouping factors whose groups count, such as ["school"]; rows are of unknown groups of
            all others. None: all; []: none.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
        """
        return probabilities(*self._by_class(X, groups, offset, predict_effects, include))

    @nan_where_incomplete
    def predict_log_proba(self, X, groups=None, *, offset=None, predict_effects=None, include=None):
        """Logarithms of `predict_proba`, with the same arguments."""
        logs = log_probabilities(*self._by_class(X, groups, offset, predict_effects, include, log=True))
        return np.maximum(logs, self._fitted.family.least_log, out=logs)

    @nan_where_incomplete
    def decision_function(self, X, groups=None, *, offset=None, predict_effects=None, include=None):
        """Logit of the probability of the second class, with the arguments of `predict_proba`."""
        return logits(*self._by_class(X, groups, offset, predict_effects, include, log=True))

    def predict(self, X, groups=None, *, offset=None, predict_effects=None, include=None):
        """The more likely class, with the arguments of `predict_proba`."""
        _, second = self._by_class(X, groups, offset, predict_effects, include)
        return self.classes_[second.astype(np.intp)]

    def score(self, X, y=None, sample_weight=None, *, groups=None, offset=None):
        """Accuracy of `predict`.

        Parameters
        ----------
        X, y, groups, offset
            As in `fit`. A model with a formula finds in a data frame what is not given: its response, of lines of
            counts every trial, and its column of weights.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        X, y, groups, sample_weight = self._rows_with_outcomes(X, y, groups, sample_weight)
        predicted = self.predict(X, groups=groups, offset=offset)
        return accuracy_score(plain_labels(y), predicted, sample_weight=sample_weight)

    def odds_ratios(self, level=0.95):
        """Odds ratios of the fixed effects with Wald intervals.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        ratios : DataFrame
            A row a coefficient, columns "odds_ratio", "lower" and "upper". NaN, with the reason below, for coefficients
            that separate the classes, and for all of a fit that did not converge.

        Raises
        ------
        ValueError
            Of other links than the logit, whose coefficients are no log odds ratios.
        """
        return self._ratios("odds ratio", wald.odds_ratios, level)

    def hazard_ratios(self, level=0.95):
        """Hazard ratios of the fixed effects of a complementary log-log model, with Wald intervals.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        ratios : DataFrame
            As of `odds_ratios`, with a column "hazard_ratio".
        """
        return self._ratios("hazard ratio", wald.hazard_ratios, level)

    def _ratios(self, what, ratios, level):
        effects, blank = self._estimated_effects()
        self._fitted.family.check_ratio(what)
        return with_reason(self, ratios(*effects, level=level, df=self._inference_df()), blank)


class NumericOutcomes(RegressorMixin):
    """Mixin: y is a number. The kind of model says ``predict``."""

    _plain, _mixed, _effects_of_no_group = "least squares", "MixedLinearRegression", "'zero'"

    def _family(self):
        return GAUSSIAN

    def _outcome_facts(self):
        """See `BinaryOutcomes._outcome_facts`."""
        fitted = self._fitted
        restricted = isinstance(fitted, FittedLinear) and fitted.reml
        return {"classes": "none", "method": "restricted maximum likelihood" if restricted else "maximum likelihood"}

    def _learn_target(self, y, positive=None):
        """The outcomes of a fit; nothing else describes them, and there is no event."""
        target = read_numbers(y)
        if target.size == 1:
            raise ValueError("there is 1 sample (n_samples = 1): a residual variance takes more than one row")
        return target, {}, 1

    def _read_target(self, y):
        """Outcomes as numbers."""
        return read_numbers(y)

    @staticmethod
    def _coefficients(intercept, slopes):
        """Estimates in the shapes that scikit-learn's regressors have."""
        return {"coef_": slopes.copy(), "intercept_": float(intercept)}

    def score(self, X, y=None, sample_weight=None, *, groups=None, offset=None):
        """R2 of `predict`.

        Parameters
        ----------
        X, y, groups, offset
            As in `fit`. A model with a formula finds in a data frame what is not given.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        X, y, groups, sample_weight = self._rows_with_outcomes(X, y, groups, sample_weight)
        return r2_score(y, self.predict(X, groups=groups, offset=offset), sample_weight=sample_weight)
