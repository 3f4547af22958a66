"""What kind of outcome an estimator has: how y is read, and what is predicted of it."""

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score

from sklmm.design.outcomes import encode_target, plain_labels
from sklmm.estimators.reading import nan_where_incomplete
from sklmm.inference import wald
from sklmm.inference.verdict import with_reason
from sklmm.prediction.predictor import log_probabilities, logits, probabilities


class BinaryOutcomes(ClassifierMixin):
    """Mixin: y is one of two classes.

    The kind of model says ``_tails(X, groups, predict_effects, log)``: the probability of the less likely class of each
    row, or its logarithm, and whether the second class is the likelier.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _learn_target(self, y):
        """The outcomes of a fit as 0 and 1, uint8, and the fitted attributes that describe them."""
        target, classes = encode_target(y)
        return target, {"classes_": classes}

    def _read_target(self, y):
        """Outcomes as 0 and 1, uint8; an error for labels that `fit` did not see."""
        position = pd.Index(self.classes_).get_indexer(plain_labels(y))
        if (position < 0).any():
            raise ValueError(f"y holds labels that fit did not see; the classes are {self.classes_.tolist()}")
        return position.astype(np.uint8)

    @staticmethod
    def _coefficients(intercept, slopes):
        """Estimates in the shapes that scikit-learn's classifiers have."""
        return {"coef_": slopes[None].copy(), "intercept_": np.array([intercept], dtype=np.float64)}

    @nan_where_incomplete
    def predict_proba(self, X, groups=None, *, predict_effects=None):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `fit`. A label that is missing, or that fit did not see, is an unknown group; so are all of a factor
            that is absent. A marginal model's predictions need none: they are averages over the population.
        predict_effects : {"posterior", "mode", "zero", "marginal"}, default=None
            Overrides the parameter of the same name. Marginal models have "marginal" only.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
        """
        return probabilities(*self._tails(X, groups, predict_effects))

    @nan_where_incomplete
    def predict_log_proba(self, X, groups=None, *, predict_effects=None):
        """Logarithms of `predict_proba`, with the same arguments."""
        return log_probabilities(*self._tails(X, groups, predict_effects, log=True))

    @nan_where_incomplete
    def decision_function(self, X, groups=None, *, predict_effects=None):
        """Logit of the probability of the second class, with the arguments of `predict_proba`."""
        return logits(*self._tails(X, groups, predict_effects, log=True))

    def predict(self, X, groups=None, *, predict_effects=None):
        """The more likely class, with the arguments of `predict_proba`."""
        _, positive = self._tails(X, groups, predict_effects)
        return self.classes_[positive.astype(np.intp)]

    def score(self, X, y, sample_weight=None, *, groups=None):
        """Accuracy of `predict`.

        Parameters
        ----------
        X, y, groups
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        score : float
        """
        X, y, groups, sample_weight = self._complete_rows(X, y, groups, sample_weight)
        return accuracy_score(plain_labels(y), self.predict(X, groups=groups), sample_weight=sample_weight)

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
        """
        effects, blank = self._estimated_effects()
        return with_reason(self, wald.odds_ratios(*effects, level=level, df=self._inference_df()), blank)
