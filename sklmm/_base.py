"""What the estimators share: reading X, y, weights and groups; tags and routing; Wald inference."""

import copy
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from ._progress import CallbackSupportMixin
from .design.formula_text import split_formula
from .design.grouping import as_group_frame
from .estimating.clusters import shown_label
from .inference import intervals, tests

PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score")


@dataclass
class Rows:
    """The rows of one call: numbers apart from groups.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
        The features, without the grouping columns; a view of the caller's array where that is possible.
    names : list of str
        Their names.
    groups : dict of str -> 1-D array-like
        The grouping columns by name; empty without groups.
    raw : object
        The caller's X as a frame or array, with all its columns.
    raw_names : list of str
    time : 1-D array-like or None
        The column of times, where X has one.
    """

    X: np.ndarray
    names: list
    groups: dict
    raw: object
    raw_names: list
    time: object = None

    def column(self, name):
        """The labels of a grouping column, or a feature used as one in an interaction."""
        if name in self.groups:
            return self.groups[name]
        return take_columns(self.raw, self.raw_names.index(name))

    def keep(self, mask):
        """The rows where `mask` holds."""
        self.X = self.X[mask]
        self.groups = {name: take_rows(labels, mask) for name, labels in self.groups.items()}
        self.raw = take_rows(self.raw, mask)
        self.time = None if self.time is None else take_rows(self.time, mask)


class GroupedClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Base of the estimators: a binary classifier whose rows come in groups."""

    __metadata_request__fit = {"groups": True}

    _formula = None  # the FormulaDesign of a model made by from_formula
    _recipe = None  # its FormulaRecipe, which clones have, too

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def __sklearn_clone__(self):
        """A clone of a model with a formula has it, too, and is fitted to data frames (cross-validation, searches)."""
        clone = super().__sklearn_clone__()
        if self._recipe is not None:
            clone._recipe = self._recipe
        return clone

    def get_metadata_routing(self):
        """Get the metadata routing of this object.

        `groups` is requested, unless `group_features` or a formula says that the groups are columns of X; likewise
        `time`.

        Returns
        -------
        routing : MetadataRequest
        """
        routing = super().get_metadata_routing()
        for param, column in (("groups", "group_features"), ("time", "time_feature")):
            if getattr(self, column, None) is None and self._recipe is None:
                continue
            for method in ("fit", *PREDICTING):
                requests = getattr(routing, method)
                if param in requests.requests:
                    requests.add_request(param=param, alias=False)
        return routing

    def _check_common_parameters(self):
        check_number(self, "tol", Real, "a number > 0", lambda value: value > 0)
        check_number(self, "max_iter", Integral, "an integer >= 1", lambda value: value >= 1)
        check_number(self, "verbose", Integral, "an integer >= 0", lambda value: value >= 0)
        if self.n_threads is not None:
            check_number(self, "n_threads", Integral, "None or an integer >= 1", lambda value: value >= 1)
        if not isinstance(self.fit_intercept, (bool, np.bool_)):
            raise ValueError(f"fit_intercept must be True or False, got {self.fit_intercept!r}")

    def _through_formula(self, X, y, groups, sample_weight, time=None):
        """The arguments of fit where X is a data frame for the model's formula; else they are left as they are.

        Returns
        -------
        design : FormulaDesign or None
        arguments : tuple
            X, y, groups, sample_weight, time.
        """
        reading = self.__dict__.pop("_reading", None)
        if reading is not None:  # `from_formula` has just done it
            return reading
        recipe = self._recipe
        if recipe is None or not is_frame(X):
            return None, (X, y, groups, sample_weight, time)
        if groups is not None or time is not None:
            if split_formula(recipe.text)[0] not in X.columns:
                return None, (X, y, groups, sample_weight, time)  # features of the user's own
            raise ValueError(
                "this model has a formula, which finds its groups and times in X: leave out groups= and time="
            )
        if self.group_features is not None or getattr(self, "random_effects", None) != recipe.random_effects:
            raise ValueError(
                f"this model has a formula, {recipe.text!r}, which says what its groups and random effects are, but "
                "random_effects or group_features was set: make another model with from_formula"
            )
        return recipe.read(X, y, sample_weight)

    def _read_training_rows(self, X, y, groups, sample_weight, time=None):
        """Validate the arguments of fit, without touching what an earlier fit left on the estimator.

        Returns
        -------
        rows : Rows
        target : ndarray of uint8
        classes : ndarray
        weights : ndarray of float64 or None
        header : dict
            The fitted attributes that describe X.
        """
        if self.group_features is not None and groups is not None:
            raise ValueError(
                "groups came through both doors: group_features names columns of X, and groups= was passed "
                "too; use one of them"
            )
        probe = copy.copy(self)
        time_feature = getattr(self, "time_feature", None)
        rows, group_columns, time_column = read_rows(probe, X, groups, self.group_features, time_feature, reset=True)
        n_rows = rows.X.shape[0]
        if time is not None:
            if time_column is not None:
                raise ValueError(
                    "times came through both doors: time_feature names a column of X, and time= was passed too; use "
                    "one of them"
                )
            rows.time = one_dimensional(time, "time", n_rows)
        if n_rows == 0:
            raise ValueError("Found array with 0 sample(s): X has no rows, while a minimum of 1 is required")
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        y = one_dimensional(y, "y", n_rows)
        weights = read_weights(sample_weight, n_rows)
        if weights is not None and not weights.all():
            mask = weights > 0
            rows.keep(mask)
            y, weights = take_rows(y, mask), weights[mask]
        target, classes = encode_target(y)
        header = {
            "n_features_in_": probe.n_features_in_,
            "feature_names_in_": getattr(probe, "feature_names_in_", None),
            "_group_columns": group_columns,
            "_group_names": list(rows.groups),
            "_time_column": time_column,
        }
        return rows, target, classes, weights, header

    def _read_new_rows(self, X, groups):
        """Validate X and groups against those of fit."""
        if self._formula is not None:
            X, groups = self._formula.new_rows(X, groups)
        if self._group_columns and groups is not None:
            raise ValueError(
                "groups came through both doors: the model takes its groups from X (group_features), "
                "and groups= was passed too"
            )
        rows, _, _ = read_rows(self, X, groups, self._group_columns or None, self._time_column, reset=False)
        if groups is not None and self._group_names:
            rows.groups = match_group_names(rows.groups, self._group_names)
        return rows

    def _set_fitted(self, state, formula=None):
        """Replace an earlier fit by a new one, in one go; without a formula an earlier one is left behind."""
        if formula is None:
            self.__dict__.pop("_recipe", None)
            self.__dict__.pop("_formula", None)
        else:
            self._formula = formula
        if state["feature_names_in_"] is None:
            del state["feature_names_in_"]
            self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(state)

    def _fitted(self, attribute):
        """A stored attribute; before fit an AttributeError, so that hasattr tells the truth."""
        try:
            return self.__dict__[attribute]
        except KeyError:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet") from None

    # Inference on the fixed effects, from `coef_`, `intercept_` and `vcov_` ---------------------------------

    def _fixed_effects(self):
        """Names, estimates and covariance of the fixed effects, the intercept first."""
        check_is_fitted(self)
        vcov = self.vcov_
        slopes = self.coef_[0]
        coef = np.concatenate([self.intercept_, slopes]) if len(vcov) > slopes.size else slopes
        return vcov.index.tolist(), coef, vcov.to_numpy()

    def _inference_df(self):
        """Residual degrees of freedom of tests and intervals (t and F); None for normal and chi-squared."""
        return None

    def conf_int(self, level=0.95, method="wald"):
        """Confidence intervals of the fixed effects.

        Parameters
        ----------
        level : float, default=0.95
        method : {"wald"}, default="wald"

        Returns
        -------
        intervals : DataFrame
            A row a coefficient, columns "lower" and "upper".
        """
        return intervals.conf_int(*self._fixed_effects(), level=level, method=method, df=self._inference_df())

    def odds_ratios(self, level=0.95):
        """Odds ratios of the fixed effects with Wald intervals.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        ratios : DataFrame
            A row a coefficient, columns "odds_ratio", "lower" and "upper".
        """
        return intervals.odds_ratios(*self._fixed_effects(), level=level, df=self._inference_df())

    def wald_test(self, contrast):
        """Test that coefficients, or linear combinations of them, are all 0.

        Parameters
        ----------
        contrast : str, list of str, array-like or DataFrame
            Names of coefficients. "livch*" is all whose name begins so, interactions aside; "livch" all levels of
            a factor that are named "livch[T.1]", "livch[T.2]". Or a matrix with a row a contrast and a column a
            coefficient, the intercept first (a DataFrame names the columns it has).

        Returns
        -------
        test : WaldTest
            With `statistic`, `df` and `p_value`, and `distribution`, which says whether it is a chi-squared or
            an F test.
        """
        return tests.wald_test(*self._fixed_effects(), contrast, df=self._inference_df())

    def average_marginal_effects(
        self, X, features=None, *, sample_weight=None, level=0.95, predict_effects="marginal"
    ):
        """Average effects of features on the probability of the second class.

        The effect of a number is the derivative of the probability in it, averaged over the rows; that of a feature
        with two values, the average change from the smaller to the larger; that of a factor in a formula, the average
        change from its first level to each other one.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            The rows to average over, as `predict_proba` takes them. They are taken as given: standard errors are those
            of the estimates alone. Columns that were made from others, such as squares, count as features of their
            own, unless the model made them itself (`from_formula`).
        features : str or list of str, default=None
            None: all.
        sample_weight : array-like of shape (n_samples,), default=None
        level : float, default=0.95
        predict_effects : {"marginal", "zero"}, default="marginal"
            Of probabilities averaged over the population of groups, or of those in the typical group. Mixed models
            only: a marginal model knows no groups.

        Returns
        -------
        effects : DataFrame
            A row an effect; columns "estimate", "std_error" (delta method, from the covariance of all parameters), "z"
            or "t", "p_value", "lower" and "upper".
        """
        from .inference.marginal import average_marginal_effects

        check_is_fitted(self)
        return average_marginal_effects(self, X, features, sample_weight, level, predict_effects)


def check_number(estimator, name, kind, what, is_valid):
    """Raise a ValueError unless the parameter is a number of this kind that `is_valid`."""
    value = getattr(estimator, name)
    is_bool = isinstance(value, (bool, np.bool_)) and name != "verbose"
    if is_bool or not isinstance(value, kind) or not is_valid(value):
        raise ValueError(f"{name} must be {what}, got {value!r}")


# Reading X --------------------------------------------------------------------------------------------------


def is_frame(X):
    """Whether X is a pandas or polars DataFrame, whose columns may differ in type."""
    return hasattr(X, "iloc") or hasattr(X, "get_columns")


def take_columns(X, key):
    """Columns of a frame or 2-D array: one for an integer, else a slice or list of them."""
    return X.iloc[:, key] if hasattr(X, "iloc") else X[:, key]


def take_rows(values, mask):
    """Rows of a 1-D or 2-D array, Series or frame where a boolean mask holds."""
    if hasattr(values, "filter") and not hasattr(values, "iloc"):  # polars
        return values.filter(mask)
    return values[mask]


def read_rows(estimator, X, groups, group_columns, time_column=None, *, reset):
    """Split X into features, grouping columns and times, and validate all of them.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` if `reset`, else X is checked against them.
    groups : None or array-like
        Groups given as metadata.
    group_columns : None, str, int, list or callable
        Grouping columns of X.
    time_column : None, str, int or callable
        Column of X that holds times.

    Returns
    -------
    rows : Rows
    group_columns : list of int
        Positions of the grouping columns.
    time_column : int or None
    """
    if group_columns is None and time_column is None:
        # A model of groups alone may have no features; without groups scikit-learn wants at least one.
        raw = X
        no_features = groups is not None if reset else estimator.n_features_in_ == 0
        X = _read_features(estimator, X, reset=reset, least_features=0 if no_features else 1)
        names = column_names(estimator)
        given = {} if groups is None else as_group_frame(groups, X.shape[0])
        return Rows(X, names, given, raw if is_frame(raw) else X, names), [], None

    original, X = X, _as_table(estimator, X)
    validate_data(estimator, X, skip_check_array=True, reset=reset)
    raw_names = column_names(estimator)
    positions = [] if group_columns is None else resolve_columns(group_columns, original, raw_names)
    times = [] if time_column is None else resolve_columns(time_column, original, raw_names, "time_feature")
    if len(times) > 1 or (time_column is not None and not times):
        raise ValueError(f"time_feature must name one column of X, but {time_column!r} names {len(times)}")
    if set(times) & set(positions):
        raise ValueError(f"column {raw_names[times[0]]!r} of X is named in group_features and in time_feature")
    taken = {*positions, *times}
    kept = [j for j in range(len(raw_names)) if j not in taken]
    table = take_columns(X, _as_slice(kept))
    names = [raw_names[j] for j in kept]
    features = _to_numbers(estimator, table, names)
    labels = {raw_names[j]: take_columns(X, j) for j in positions}
    if groups is not None:
        labels = as_group_frame(groups, features.shape[0])
    time = take_columns(X, times[0]) if times else None
    return Rows(features, names, labels, X, raw_names, time), positions, (times[0] if times else None)


def _read_features(estimator, X, *, reset, least_features):
    if is_frame(X) and X.shape[1] == 0:  # it has no type to go by
        X = np.empty(X.shape)
    try:
        return validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_features=least_features
        )
    except (ValueError, TypeError):
        _name_column_without_numbers(X)
        raise


def _to_numbers(estimator, table, names):
    """The features as floats, whatever they came in; a float array stays the view it is."""
    if not names:
        return np.empty((table.shape[0], 0))
    try:
        return check_array(table, dtype=[np.float64, np.float32], input_name="X", estimator=estimator)
    except (ValueError, TypeError):
        _name_column_without_numbers(table, names)
        raise


def _as_table(estimator, X):
    """X as a frame or a 2-D array of any type, with scikit-learn's messages where it is neither."""
    if is_frame(X):
        return X
    if not hasattr(X, "dtype") and np.asarray(X).dtype.kind in "US":
        # Lists that mix labels and numbers: NumPy would turn every number into text.
        X = np.asarray(X, dtype=object)
    return check_array(X, dtype=None, ensure_all_finite=False, input_name="X", estimator=estimator)


def _name_column_without_numbers(X, names=None):
    """Where a conversion failed, raise an error that names the first column that holds no numbers."""
    if not hasattr(X, "shape") or len(X.shape) != 2:
        return
    names = [str(name) for name in (names if names is not None else getattr(X, "columns", []))]
    for j, name in enumerate(names):
        column = np.asarray(take_columns(X, j))
        if column.dtype.kind in "biuf":
            continue
        try:
            column.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise type(error)(
                f"column {name!r} of X is not numeric ({error}): encode it as numbers, "
                "or name it in group_features if it holds groups"
            ) from error


def _as_slice(columns):
    """A slice for columns that lie side by side, so that taking them from an array is a view, not a copy."""
    if columns and columns == list(range(columns[0], columns[-1] + 1)):
        return slice(columns[0], columns[-1] + 1)
    return columns


def column_names(estimator):
    """Names of the columns of X: those of the data frame, or x0, x1, ..."""
    names = getattr(estimator, "feature_names_in_", None)
    return [f"x{j}" for j in range(estimator.n_features_in_)] if names is None else list(names)


def resolve_columns(group_features, X, names, parameter="group_features"):
    """Positions of the columns that `group_features` names.

    Parameters
    ----------
    group_features : str, int, list of them, or callable
        A callable gets X, as scikit-learn's column selectors do.
    X : the caller's
    names : list of str
    parameter : str
        What `group_features` is called in messages.
    """
    chosen = group_features(X) if callable(group_features) else group_features
    if isinstance(chosen, (str, Integral)):
        chosen = [chosen]
    chosen = np.atleast_1d(chosen) if not isinstance(chosen, (list, tuple)) else chosen
    if isinstance(chosen, np.ndarray) and chosen.dtype == bool:
        chosen = np.flatnonzero(chosen)
    positions = []
    for item in chosen:
        if isinstance(item, str):
            if item not in names:
                raise ValueError(
                    f"{parameter} names {item!r}, which is no column of X; its columns are {names}"
                )
            positions.append(names.index(item))
        elif isinstance(item, Integral) and not isinstance(item, (bool, np.bool_)):
            if not -len(names) <= item < len(names):
                raise ValueError(
                    f"{parameter} asks for column {item} of X, which has {len(names)} columns"
                )
            positions.append(int(item) % len(names))
        else:
            raise TypeError(
                f"{parameter} must be a column name, a column position, a list of them, or a callable that "
                f"gives them; got {group_features!r}"
            )
    if len(set(positions)) < len(positions):
        raise ValueError(f"{parameter}={group_features!r} names a column twice")
    return positions


def match_group_names(given, fitted):
    """Groups of a new call under their names at fit; unnamed groups are matched by their order."""
    if set(fitted) <= set(given):
        return {name: given[name] for name in fitted}

    def unnamed(names):
        return names == ["group"] or names == [f"group{j}" for j in range(len(names))]

    names = list(given)
    if len(names) == len(fitted) and (unnamed(names) or unnamed(fitted)):
        return dict(zip(fitted, given.values(), strict=True))
    raise ValueError(f"groups is named {names}, but the model was fitted with groups named {fitted}")


# Reading y and weights --------------------------------------------------------------------------------------


def one_dimensional(values, name, n_rows):
    """`values` as a 1-D array with one entry a row; a categorical or string Series stays as it is."""
    if not hasattr(values, "dtype") or getattr(values, "ndim", 1) != 1 or not hasattr(values, "__len__"):
        values = column_or_1d(values, warn=True)
    if len(values) != n_rows:
        raise ValueError(f"{name} has {len(values)} rows, but X has {n_rows}")
    return values


def read_weights(sample_weight, n_rows):
    """Row counts as float64, or None for all ones."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_rows, float(sample_weight))
    weights = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, order="C", input_name="sample_weight"
    )
    if weights.ndim != 1:
        raise ValueError(f"sample_weight must be 1-dimensional, got an array of shape {weights.shape}")
    if weights.shape[0] != n_rows:
        raise ValueError(f"sample_weight has {weights.shape[0]} rows, but X has {n_rows}")
    if weights.min() < 0:
        raise ValueError(
            "sample_weight counts rows and can't be negative; "
            f"{np.count_nonzero(weights < 0)} of its values are negative"
        )
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: there is nothing to fit")
    return weights


def rows_by_level(codes, weights, counts):
    """Rows of each level: `counts`, or the sums of their weights."""
    return counts if weights is None else np.bincount(codes, weights=weights, minlength=len(counts))


def encode_target(y):
    """Code two classes as 0 and 1.

    Returns
    -------
    codes : ndarray of uint8
    classes : ndarray of shape (2,)
    """
    values = np.asarray(y)
    if values.dtype.kind in "biu" or (values.dtype.kind == "f" and float(values.min()).is_integer()):
        # The common case, two numbers, without sorting or hashing a million of them.
        low, high = values.min(), values.max()
        codes = values == high
        n_high = np.count_nonzero(codes)
        if (
            low != high
            and (n_high + np.count_nonzero(values == low) == values.size)
            and float(high).is_integer()
        ):
            return codes.view(np.uint8), np.array([low, high], dtype=values.dtype)
    if values.dtype.kind in "fc":
        assert_all_finite(values, input_name="y")
    codes, found = pd.factorize(values)
    if (codes < 0).any():
        raise ValueError(f"Input y contains NaN: {np.count_nonzero(codes < 0)} labels are missing.")
    kind = type_of_target(found, input_name="y", raise_unknown=True)
    if len(found) == 1:
        raise ValueError(f"y holds one class only ({shown_label(found[0])}); a classifier needs two classes")
    if kind == "continuous":
        raise ValueError(
            "Unknown label type: continuous. y holds numbers that are no class labels; a classifier needs "
            "two classes"
        )
    if len(found) > 2:
        raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
    order = np.argsort(found)
    return (codes == order[1]).view(np.uint8), np.asarray(found, dtype=values.dtype)[order]
