"""Predictions averaged over a mixed model's posterior, as an estimator: for accuracy reports and cross-validation."""

import copy

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted


def _of_classes(self):
    return hasattr(self.estimator, "predict_proba")


class ByPosterior(BaseEstimator):
    """A mixed model whose predictions are averaged over the posterior of its parameters.

    `fit` fits the model and draws from its posterior (`model.posterior`); predictions are those of the `Posterior`, in
    which the parameters' uncertainty counts. It goes into `accuracy_report` beside other estimators.

    Parameters
    ----------
    estimator : MixedLogisticRegression or MixedLinearRegression
        Not fitted, or made by `from_formula`; it is cloned.
    priors : None, "weak", dict or JointPrior, default=None
        As in `posterior`; None: the model's own, else "weak".
    n_draws : int, default=1024
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    estimator_ : estimator
        The fitted model.
    posterior_ : Posterior
    classes_ : ndarray of shape (2,)
        Only of models of classes.

    Examples
    --------
    >>> from sklmm import ByPosterior, MixedLogisticRegression
    >>> from sklmm.datasets import make_clustered_classification
    >>> X, y, groups = make_clustered_classification(300, 2, n_groups=15, random_state=0)
    >>> model = ByPosterior(MixedLogisticRegression(), random_state=0).fit(X, y, groups=groups)
    >>> model.predict_proba(X[:2], groups=groups[:2]).shape
    (2, 2)
    """

    __metadata_request__fit = {"groups": True, "offset": True}
    __metadata_request__predict = {"groups": True, "offset": True}
    __metadata_request__predict_proba = {"groups": True, "offset": True}
    __metadata_request__score = {"groups": True, "offset": True}

    def __init__(self, estimator, *, priors=None, n_draws=1024, random_state=None):
        self.estimator = estimator
        self.priors = priors
        self.n_draws = n_draws
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags, own = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type, tags.input_tags, tags.target_tags = own.estimator_type, own.input_tags, own.target_tags
        tags.classifier_tags, tags.regressor_tags = own.classifier_tags, own.regressor_tags
        return tags

    def fit(self, X, y=None, groups=None, sample_weight=None, *, offset=None):
        """Fit the model, and draw from the posterior of its parameters.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            As to the model's `fit`.

        Returns
        -------
        self : ByPosterior
        """
        rows = {"groups": groups, "sample_weight": sample_weight, "offset": offset}
        self.estimator_ = clone(self.estimator).fit(X, y, **rows)
        settings = {"priors": self.priors, "n_draws": self.n_draws, "random_state": self.random_state}
        self.posterior_ = self.estimator_.posterior(X, y, **rows, **settings)
        return self

    @property
    def classes_(self):
        """The class labels."""
        return self.estimator_.classes_

    @property
    def n_features_in_(self):
        """Number of columns of X."""
        return self.estimator_.n_features_in_

    @available_if(_of_classes)
    def predict_proba(self, X, groups=None, *, offset=None):
        """Probabilities of the classes, see `Posterior.predict_proba`."""
        check_is_fitted(self)
        return self.posterior_.predict_proba(X, groups, offset=offset)

    def predict(self, X, groups=None, *, offset=None):
        """The likelier class, or the expected outcome, see `Posterior.predict`."""
        check_is_fitted(self)
        return self.posterior_.predict(X, groups, offset=offset)

    def score(self, X, y, sample_weight=None, *, groups=None, offset=None):
        """Accuracy, or R2, of `predict`."""
        measure = accuracy_score if _of_classes(self) else r2_score
        predicted = self.predict(X, groups, offset=offset)
        return float(measure(np.asarray(y), predicted, sample_weight=sample_weight))

    def update_groups(self, X, y=None, groups=None, sample_weight=None, *, offset=None):
        """A copy that knows the groups of these rows, see `Posterior.update_groups`."""
        check_is_fitted(self)
        updated = copy.copy(self)
        updated.posterior_ = self.posterior_.update_groups(X, y, groups, sample_weight=sample_weight, offset=offset)
        updated.estimator_ = updated.posterior_.model
        return updated
