"""Prediction of the marginal model: the methods that `GEELogisticRegression` gets from here."""

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from sklmm.design.outcomes import plain_labels
from sklmm.estimators.grouped import nan_where_incomplete
from sklmm.inference.estimability import warn_of_rows
from sklmm.prediction.predictor import Predictor, log_probabilities, probabilities


class MarginalPrediction:
    """Mixin: probabilities averaged over the population, whatever the group."""

    @nan_where_incomplete
    def predict_proba(self, X, groups=None):
        """Population-averaged probabilities of the classes.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            Not needed; ignored.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
        """
        return probabilities(*self._fitted.family.tails(self._linear_predictor(X)))

    @nan_where_incomplete
    def predict_log_proba(self, X, groups=None):
        """Logarithms of `predict_proba`, with the same arguments."""
        return log_probabilities(*self._fitted.family.tails(self._linear_predictor(X), log=True))

    @nan_where_incomplete
    def decision_function(self, X, groups=None):
        """Logit of the probability of the second class, with the arguments of `predict_proba`."""
        return self._linear_predictor(X)

    def predict(self, X, groups=None):
        """The more likely class, with the arguments of `predict_proba`."""
        is_second = self._linear_predictor(X) > 0
        return self.classes_[is_second.astype(np.intp)]

    def score(self, X, y, sample_weight=None, *, groups=None):
        """Accuracy of `predict`.

        Parameters
        ----------
        X, y
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
        groups
            Not needed; ignored.

        Returns
        -------
        score : float
        """
        X, y, sample_weight = self._complete_rows(X, y, sample_weight)
        return accuracy_score(plain_labels(y), self.predict(X), sample_weight=sample_weight)

    def _linear_predictor(self, X):
        check_is_fitted(self)
        rows = self._read_new_rows(X, None)
        warn_of_rows(self, rows.X)
        return Predictor(self.coef_[0], self.intercept_[0], []).means(rows.X, [], "zero")
