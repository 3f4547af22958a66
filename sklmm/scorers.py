"""Scorers for models whose groups come as metadata."""

import functools

from sklearn import get_config
from sklearn.metrics import check_scoring
from sklearn.utils.metadata_routing import MetadataRouter, get_routing_for_object

from sklmm.estimators.grouped import PREDICTING


def grouped_scorer(scoring):
    """A scorer that hands groups to the estimator's predictions.

    scikit-learn's scorers hand metadata to the metric, never to `predict_proba`, so that a model whose groups come as
    metadata would be scored as if all of them were unknown. This one calls
    ``estimator.predict_proba(X, groups=groups)``, or whichever method the metric needs, where the estimator takes
    groups; others, such as a plain logistic regression or a model with `group_features`, are scored as usual.

    Parameters
    ----------
    scoring : str or callable
        A name that `sklearn.metrics.get_scorer` knows, such as "neg_log_loss", or a scorer.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y, groups=None, sample_weight=None)``; for `scoring=` of cross-validation and searches.
        With metadata routing enabled it requests `groups`; ask for `sample_weight` by
        ``scorer.set_score_request(sample_weight=True)``. Without metadata routing scikit-learn gives a scorer nothing
        but X and y, and the groups must be columns of X (`group_features`).

    Raises
    ------
    ValueError
        If scikit-learn knows no such scorer, or `scoring` is a metric function rather than a scorer.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.model_selection import StratifiedKFold, cross_validate
    >>> from sklmm import MixedLogisticRegression, grouped_scorer
    >>> from sklmm.datasets import load_contraception
    >>> women, uses, district = load_contraception(return_X_y=True, as_frame=True)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     scores = cross_validate(
    ...         MixedLogisticRegression(), women[["age"]], uses, params={"groups": district},
    ...         scoring=grouped_scorer("neg_log_loss"), cv=StratifiedKFold(5),
    ...     )
    >>> scores["test_score"].shape
    (5,)
    """
    if not isinstance(scoring, str) and not callable(scoring):
        raise ValueError(f"scoring must be the name of a scorer or a scorer, got {scoring!r}")
    return _GroupedScorer(scoring)


class _GroupedScorer:
    """What `grouped_scorer` returns: a scorer around scikit-learn's."""

    def __init__(self, scoring):
        self._scoring = scoring
        self._scorer = check_scoring(scoring=scoring)
        self._request = get_routing_for_object(self._scorer)  # a copy
        self._request.score.add_request(param="groups", alias=True)

    def __repr__(self):
        return f"grouped_scorer({self._scoring!r})"

    def __call__(self, estimator, X, y_true, *, groups=None, sample_weight=None, **metadata):
        if sample_weight is not None:
            metadata["sample_weight"] = sample_weight
        if groups is not None:
            estimator = _WithGroups(estimator, groups)
        return self._scorer(estimator, X, y_true, **metadata)

    def get_metadata_routing(self):
        """The metadata that are to be passed: `groups`, and what the scorer inside requests."""
        return self._request

    def set_score_request(self, **requests):
        """Request metadata, ``sample_weight=True`` say. `groups` is requested until ``groups=False``."""
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing: sklearn.set_config(enable_metadata_routing=True)"
            )
        for param, alias in requests.items():
            self._request.score.add_request(param=param, alias=alias)
        return self

    def _accept_sample_weight(self):
        # scikit-learn asks this of scorers where there are several and metadata routing is disabled.
        accepts = getattr(self._scorer, "_accept_sample_weight", None)
        return accepts() if accepts is not None else False


class _WithGroups:
    """An estimator in its scorer's eyes, with the groups of the rows that are scored."""

    def __init__(self, estimator, groups):
        self._estimator, self._groups = estimator, groups

    def __getattr__(self, name):
        attribute = getattr(self._estimator, name)
        if name not in PREDICTING or not _takes_groups(self._estimator, name):
            return attribute

        @functools.wraps(attribute)  # scorers go by the name of the method
        def with_groups(*args, **kwargs):
            return attribute(*args, groups=self._groups, **kwargs)

        return with_groups


def _takes_groups(estimator, method):
    """Whether this method uses groups, by itself or in a step of a pipeline."""
    routing = get_routing_for_object(estimator)
    if isinstance(routing, MetadataRouter):
        return "groups" in routing.consumes(method, ["groups"])
    return getattr(routing, method).requests.get("groups", False) is not False
