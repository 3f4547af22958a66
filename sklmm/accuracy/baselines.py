"""The estimators of a report: known ones by name, others as they are, and what each of them gets to see."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from sklearn import get_config
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from sklmm.accuracy.kinds import CLASSES
from sklmm.accuracy.unpooled import GroupDummies, PooledClassifier, Separate
from sklmm.accuracy.unpooled_of_numbers import PooledRegressor
from sklmm.estimators.by_posterior import ByPosterior
from sklmm.gee import GEELogisticRegression
from sklmm.linear import GEELinearRegression, MixedLinearRegression
from sklmm.mixed import MixedLogisticRegression

NAMES = {
    "mixed": "mixed model: a random intercept for each grouping factor, unless random_effects says otherwise",
    "mixed, u = 0": "the same fit, predicting at random effects of zero: the typical group",
    "gee": "marginal model, exchangeable correlation within groups",
    "pooled": "plain regression: no groups",
    "dummies": "a fixed effect for each group",
    "separate": "a regression for each group",
}
DEFAULT_ESTIMATORS = ("mixed", "gee", "pooled", "dummies", "separate")
_ROWS_A_FEATURE = 10  # of a group, for a regression of its own to make sense
PLAIN = "plain regression, as if there were no groups"
_DESCRIPTIONS = (
    (
        (MixedLogisticRegression, MixedLinearRegression),
        "mixed model: every group has a level of its own, and groups with few rows lean on all the others",
    ),
    ((GEELogisticRegression, GEELinearRegression), "marginal model (GEE): one prediction for all groups, on average"),
    ((PooledClassifier, PooledRegressor), PLAIN),
    (ByPosterior, "mixed model that reckons with the uncertainty of its parameters, too"),
    (GroupDummies, "plain regression with a separate effect for every group"),
    (Separate, "a plain regression of its own for every group"),
)
_EXPLAIN = (MixedLogisticRegression, MixedLinearRegression, GEELogisticRegression, GEELinearRegression)
_OF_SEVERAL_FACTORS = (MixedLogisticRegression, MixedLinearRegression, ByPosterior, GroupDummies)


@dataclass(frozen=True, eq=False)
class Candidate:
    """An estimator of a report, and what it is given.

    Attributes
    ----------
    name : str
    estimator : estimator
        Not fitted; to be cloned.
    table : {"encoded", "features", "X"}
        Features as numbers, features as they came, or X with its grouping columns.
    groups : {"all", "split", None}
        Whether all grouping factors, the one that is split by, or none are handed to it.
    fit_prefix : str
        Before the names of arguments of `fit`, for the last step of a pipeline.
    predicts_with_groups : bool
        Whether predictions take groups.
    takes_time : bool
        Whether `fit` takes times.
    takes_offset : bool
        Whether an offset is handed to it, in fits, updates of groups and predictions. Else a column of X that holds one
        is left in its table, unless that is "encoded".
    reads_counts : bool
        Whether it finds numbers of successes and trials in X: it is fitted to lines.
    weight_key : str or None
        Name of the argument of `fit` that takes counts of rows.
    sees_groups : bool
        Whether grouping columns of X are features to it.
    predict_params : dict
    fit_key : tuple
        Candidates with the same key share the fit.
    """

    name: str
    estimator: object
    table: str
    groups: str | None
    fit_prefix: str = ""
    predicts_with_groups: bool = True
    takes_time: bool = False
    takes_offset: bool = False
    reads_counts: bool = False
    weight_key: str | None = "sample_weight"
    sees_groups: bool = False
    predict_params: dict = field(default_factory=dict)
    fit_key: tuple = ()

    @property
    def can_explain(self):
        """Whether it is a model of this package, which says what it found."""
        return isinstance(self.estimator, _EXPLAIN) and not self.sees_groups

    @property
    def description(self):
        """What it is, for readers of the report."""
        estimator = self.estimator
        if self.predict_params or getattr(estimator, "predict_effects", None) == "zero":
            return "the mixed model's prediction for the typical group"
        last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
        return next((text for kind, text in _DESCRIPTIONS if isinstance(last, kind)), type(last).__name__)


def resolve_estimators(
    estimators, groups_in_X=False, random_effects=None, link="logit", positive=None, kind=CLASSES
):
    """The candidates that `estimators` stands for.

    Parameters
    ----------
    estimators : str, estimator, list of these, or dict of name -> str or estimator
    groups_in_X : bool
        Whether grouping columns are part of X.
    random_effects : None, str or list of str
        Of the mixed model that is known by name.
    link, positive
        Of the mixed and the marginal model that are known by name.
    kind : Kind
        What all of them predict.

    Returns
    -------
    candidates : list of Candidate

    Raises
    ------
    ValueError, TypeError
        For an unknown name, a name that occurs twice, and what does not predict this kind of outcome.
    """
    if isinstance(estimators, Mapping):
        items = list(estimators.items())
    elif isinstance(estimators, str) or hasattr(estimators, "fit"):
        items = [(None, estimators)]
    elif isinstance(estimators, Iterable):
        items = [(None, item) for item in estimators]
    else:
        raise TypeError(f"estimators must be {kind.estimators}, or names of {_known()}; got {estimators!r}")
    if not items:
        raise ValueError(f"estimators is empty; give {kind.estimators}, or names of {_known()}")
    candidates, taken, models = [], set(), kind.models(random_effects, link, positive)
    for label, estimator in items:
        if label is None:
            its_class = estimator if isinstance(estimator, type) else type(estimator)
            label = estimator if isinstance(estimator, str) else _free_name(its_class.__name__, taken)
        if not isinstance(label, str) or not label.strip():
            raise TypeError(f"names of estimators are strings, and not empty; got {label!r}")
        if label in taken:
            raise ValueError(f"two estimators are named {label!r}; a dict gives them names of their own")
        taken.add(label)
        if isinstance(estimator, str):
            candidates.append(_known_candidate(label, estimator, models))
        else:
            candidates.append(_other_candidate(label, estimator, groups_in_X, kind))
    return candidates


def default_estimators(data):
    """Names of the estimators of a report that names none, and a sentence on what is left out, or None.

    Parameters
    ----------
    data : GroupedData

    Returns
    -------
    names : tuple of str
    left_out : str or None
    """
    return without_separate(DEFAULT_ESTIMATORS, data.codes, data.encoded.shape[1], data.factor)


def without_separate(names, codes, n_features, factor):
    """Names without "separate" where groups are too small for a regression of their own; and a sentence that says so.

    Parameters
    ----------
    names : sequence of str
    codes : ndarray of shape (n,)
        Group of each row.
    n_features : int
    factor : str

    Returns
    -------
    names : tuple of str
    left_out : str or None
    """
    middle = float(np.median(np.unique(codes, return_counts=True)[1]))
    if "separate" not in names or middle >= _ROWS_A_FEATURE * n_features:
        return tuple(names), None
    return tuple(name for name in names if name != "separate"), (
        f"A regression for each group on its own (separate) is left out: half of the groups of {factor} have at most "
        f"{middle:,.10g} rows, and {n_features:,} features ask for {_ROWS_A_FEATURE * n_features:,}. It is compared "
        "where estimators= (--estimators) names it."
    )


def _free_name(name, taken):
    """The name, with a number behind it where it is taken."""
    numbered, k = name, 1
    while numbered in taken:
        k += 1
        numbered = f"{name} {k}"
    return numbered


def _known():
    return ", ".join(map(repr, NAMES))


def _known_candidate(label, name, models):
    if name not in NAMES:
        raise ValueError(f"unknown estimator {name!r}; known by name are {_known()}")
    key = name.removesuffix(", u = 0")
    which = {"mixed": "all", "gee": "split", "pooled": None, "dummies": "all", "separate": "split"}[key]
    params = {} if key == name else {"predict_effects": "zero"}
    predicts = {"predicts_with_groups": which is not None, "takes_offset": True, "predict_params": params}
    return Candidate(label, models[key], "encoded", which, **predicts, fit_key=("known", key))


def _other_candidate(label, estimator, groups_in_X, kind):
    if isinstance(estimator, type):
        raise TypeError(f"estimator {label!r} is a class; give an instance, {estimator.__name__}()")
    if not hasattr(estimator, "fit") or not hasattr(estimator, "get_params"):
        advice = "; give pairs of a name and an estimator as a dict" if isinstance(estimator, tuple) else ""
        raise TypeError(f"estimator {label!r} is neither an estimator nor one of {_known()}: {estimator!r}{advice}")
    kind.check_estimator(label, estimator)
    more = {"fit_key": ("given", label), "weight_key": _weight_key(estimator)}
    more |= {"takes_offset": _takes_offset(estimator, kind.method), "reads_counts": _reads_counts(estimator)}
    if _names_itself(estimator, "group_features"):
        by_groups = _splits_by_groups(estimator)
        prefix, which = _prefix(estimator) if by_groups or more["takes_offset"] else "", "split" if by_groups else None
        return Candidate(label, estimator, "X", which, prefix, predicts_with_groups=False, **more)
    prefix, which, predicts = _door_of(estimator, kind.method)
    if which is None:
        table = "X" if groups_in_X else "features"
        prefix = _prefix(estimator) if more["takes_offset"] else ""
        return Candidate(label, estimator, table, None, prefix, False, sees_groups=groups_in_X, **more)
    last = _last_step(estimator)
    takes_time = "time" in inspect.signature(last.fit).parameters and getattr(last, "time_feature", None) is None
    return Candidate(label, estimator, "features", which, prefix, predicts, takes_time, **more)


def _names_itself(estimator, parameter):
    """Whether it, or a part of it, finds groups or an offset in X: by this parameter, or by a formula."""
    parts = estimator.get_params(deep=True)
    named = (value is not None for name, value in parts.items() if name.rpartition("__")[2] == parameter)
    return any(named) or any(_recipe_of(part) is not None for part in (estimator, *parts.values()))


def _recipe_of(part):
    return getattr(part, "_recipe", None)


def _reads_counts(estimator):
    """Whether it, or a part of it, has a formula of successes and trials."""
    parts = map(_recipe_of, (estimator, *estimator.get_params(deep=True).values()))
    return any(recipe.is_counts for recipe in parts if recipe is not None)


def _takes_offset(estimator, method):
    """Whether both fit and predictions, by this method, take an offset, which it does not find in X."""
    if _names_itself(estimator, "offset_feature"):
        return False
    methods = "fit", method
    if get_config()["enable_metadata_routing"]:
        routing = get_routing_for_object(estimator)
        return all(routing.consumes(method, ["offset"]) for method in methods)
    last = _last_step(estimator)
    return all("offset" in inspect.signature(getattr(last, method)).parameters for method in methods)


def _door_of(estimator, method):
    """How the estimator takes groups: prefix of fit's arguments, which factors, whether predictions take them."""
    last = _last_step(estimator)
    which = "all" if isinstance(last, _OF_SEVERAL_FACTORS) else "split"
    takes = "groups" in inspect.signature(last.fit).parameters
    if get_config()["enable_metadata_routing"]:
        routing = get_routing_for_object(estimator)
        if not routing.consumes("fit", ["groups"]):
            return "", None, False
        # A meta-estimator hands them on to what may take several factors; splitters take one.
        which = which if takes or _splits_by_groups(estimator) else "all"
        return "", which, bool(routing.consumes(method, ["groups"]))
    if _splits_by_groups(estimator):
        return _prefix(estimator), "split", False
    if not takes:
        return "", None, False
    return _prefix(estimator), which, "groups" in inspect.signature(getattr(last, method)).parameters


def _splits_by_groups(estimator):
    """Whether it is a search whose folds hold groups out."""
    last = _last_step(estimator)
    return isinstance(last, BaseSearchCV) and bool(get_routing_for_object(last.cv).consumes("split", ["groups"]))


def _weight_key(estimator):
    """Name of fit's argument for counts of rows; None where it has none."""
    if "sample_weight" in inspect.signature(estimator.fit).parameters:
        return "sample_weight"
    if get_config()["enable_metadata_routing"]:
        consumed = get_routing_for_object(estimator).consumes("fit", ["sample_weight"])
        return "sample_weight" if consumed else None
    if isinstance(estimator, BaseSearchCV):
        return _weight_key(estimator.estimator)  # hands all but groups on
    if isinstance(estimator, Pipeline) and hasattr(estimator.steps[-1][1], "fit"):
        key = _weight_key(estimator.steps[-1][1])
        return key and _prefix(estimator) + key
    return None


def _prefix(estimator):
    """Before names of arguments of fit: that of a pipeline hands them to its last step."""
    if not isinstance(estimator, Pipeline) or get_config()["enable_metadata_routing"]:
        return ""
    return f"{estimator.steps[-1][0]}__"


def _last_step(estimator):
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
