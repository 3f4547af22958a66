"""Transformers for rows that come in groups: KeepGroups carries the grouping columns around any of scikit-learn's."""

from numbers import Integral

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from sklmm.design.columns import as_slice, column_names, resolve_columns, take_columns
from sklmm.design.tables import infer_numbers, join, library_of
from sklmm.estimators.reading import as_table
from sklmm.estimators.within_between import WithinBetween


def _transformer_has(method):
    def has(self):
        inner = getattr(self, "transformer_", self.transformer)
        return _is_passthrough(inner) or hasattr(inner, method)

    return has


def _is_passthrough(transformer):
    return transformer is None or (isinstance(transformer, str) and transformer == "passthrough")


class KeepGroups(TransformerMixin, BaseEstimator):
    """Transform every column of X but the grouping ones, and hand those on as they are.

    In the result the transformer's columns come first and the grouping columns last, in the order of `group_features`.
    The next step finds them by their names, or by position counted from the end: ``group_features=-1`` for one
    grouping column, ``[-2, -1]`` for two.

    Parameters
    ----------
    transformer : transformer, "passthrough" or None
        Gets the other columns. "passthrough" and None leave them as they are.
    group_features : None, str, int, list of them, or callable, default=None
        The columns of X that hold groups, as in the package's estimators: names, positions, or a callable that gets X
        and returns them. None: there are none, and all columns are transformed. A column of times that is to stay as it
        is, for `GEELogisticRegression`, may be named here, too.

    Attributes
    ----------
    transformer_ : transformer
        The fitted transformer.
    group_columns_ : list of int
        Positions of the grouping columns in X.
    n_features_in_ : int
        Number of columns of X, grouping columns included.
    feature_names_in_ : ndarray of str
        Names of all columns of X. Only where X had names.

    See Also
    --------
    make_grouped_pipeline : Wraps every step of a pipeline.
    sklearn.compose.ColumnTransformer : Different transformers for different columns; may be the `transformer` here.

    Notes
    -----
    A DataFrame, of pandas or polars, comes out as a DataFrame, so that columns keep their names and types; `set_output`
    may ask for another kind. An array comes out as an array: of numbers where grouping columns are numbers, of
    objects where they are not, or are integers too large for floats to tell apart. Sparse output of the transformer
    is made dense, as estimators that use groups take dense rows only.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklmm import KeepGroups, MixedLogisticRegression
    >>> from sklmm.datasets import load_contraception
    >>> women, uses, district = load_contraception(return_X_y=True, as_frame=True)
    >>> X = women[["age"]].assign(district=district)
    >>> model = make_pipeline(
    ...     KeepGroups(StandardScaler(), group_features="district"),
    ...     MixedLogisticRegression("1 + age | district", group_features="district"),
    ... )
    >>> model.fit(X, uses)[-1].n_groups_
    {'district': 60}
    """

    def __init__(self, transformer, *, group_features=None):
        self.transformer = transformer
        self.group_features = group_features

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if _is_passthrough(self.transformer):
            tags.input_tags.allow_nan = tags.input_tags.string = True
            return tags
        inner = get_tags(self.transformer)
        inner.estimator_type = tags.estimator_type
        inner.array_api_support = inner.input_tags.sparse = False
        return inner

    def get_metadata_routing(self):
        """Get the metadata routing of this object: all metadata goes to the transformer.

        Returns
        -------
        routing : MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit").add(caller="transform", callee="transform")
        if hasattr(self.transformer, "fit_transform"):
            mapping.add(caller="fit_transform", callee="fit_transform")
        else:
            mapping.add(caller="fit_transform", callee="fit").add(caller="fit_transform", callee="transform")
        mapping.add(caller="inverse_transform", callee="inverse_transform")
        return MetadataRouter(owner=self).add(transformer=self.transformer, method_mapping=mapping)

    def fit(self, X, y=None, **params):
        """Fit the transformer to all columns but the grouping ones.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
        **params : dict
            Handed to the transformer's `fit`, such as `sample_weight`; with metadata routing enabled, what it requests.

        Returns
        -------
        self : KeepGroups

        Raises
        ------
        ValueError
            If `group_features` names no column of X.
        TypeError
            If `transformer` is none.
        """
        X, features = self._read_training_rows(X)
        self.transformer_.fit(features, y, **self._route("fit", params)["fit"])
        return self

    def fit_transform(self, X, y=None, **params):
        """Fit the transformer and transform, by its own `fit_transform`.

        Parameters
        ----------
        X, y, **params
            As in `fit`.

        Returns
        -------
        transformed : {ndarray, dataframe} of shape (n_samples, n_features_out)
        """
        X, features = self._read_training_rows(X)
        routed = self._route("fit_transform", params)
        if hasattr(self.transformer_, "fit_transform"):
            transformed = self.transformer_.fit_transform(features, y, **routed["fit_transform"])
        else:
            fitted = self.transformer_.fit(features, y, **routed["fit"])
            transformed = fitted.transform(features, **routed["transform"])
        return self._with_groups(transformed, X)

    def transform(self, X, **params):
        """Transform all columns but the grouping ones, and put those behind them.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        **params : dict
            Handed to the transformer's `transform`.

        Returns
        -------
        transformed : {ndarray, dataframe} of shape (n_samples, n_features_out)
        """
        check_is_fitted(self)
        X = as_table(self, X)
        validate_data(self, X, skip_check_array=True, reset=False)
        transformed = self.transformer_.transform(self._features(X), **self._route("transform", params)["transform"])
        return self._with_groups(transformed, X)

    @available_if(_transformer_has("inverse_transform"))
    def inverse_transform(self, X, **params):
        """Undo `transform`: the columns of X in their places.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features_out)
        **params : dict
            Handed to the transformer's `inverse_transform`.

        Returns
        -------
        X : {ndarray, dataframe} of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = as_table(self, X)
        n_transformed = X.shape[1] - len(self.group_columns_)
        features = infer_numbers(take_columns(X, slice(0, n_transformed)))
        routed = self._route("inverse_transform", params)
        features = self.transformer_.inverse_transform(features, **routed["inverse_transform"])
        groups = take_columns(X, slice(n_transformed, X.shape[1]))
        order = self._feature_columns + self.group_columns_
        names = [column_names(self)[j] for j in order]
        back = np.argsort(order).tolist()
        return take_columns(join(features, groups, names, library_of(X)), back)

    @available_if(_transformer_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features=None):
        """Names of the transformed columns, and behind them those of the grouping columns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X; None: those it had at fit, or x0, x1, ...

        Returns
        -------
        names : ndarray of str

        Raises
        ------
        ValueError
            If the transformer gives a column the name of a grouping column.
        """
        check_is_fitted(self)
        names = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        groups = names[self.group_columns_]
        transformed = np.asarray(self.transformer_.get_feature_names_out(names[self._feature_columns]), dtype=object)
        shared = set(transformed) & set(groups)
        if shared:
            raise ValueError(
                f"{type(self.transformer_).__name__} names a column {min(shared)!r}, which is the name of a grouping "
                "column: rename that column of X"
            )
        return np.concatenate([transformed, groups])

    def _read_training_rows(self, X):
        """X as a table, and its columns for the transformer, of which there is a new one."""
        transformer = self.transformer
        if not _is_passthrough(transformer):
            if isinstance(transformer, type) or not (hasattr(transformer, "fit") and hasattr(transformer, "transform")):
                raise TypeError(
                    "transformer must be a transformer, with fit and transform, or 'passthrough' or None; got "
                    f"{transformer!r}"
                )
            transformer = clone(transformer)
        original, X = X, as_table(self, X)
        validate_data(self, X, skip_check_array=True, reset=True)
        names = column_names(self)
        self.group_columns_ = (
            [] if self.group_features is None else resolve_columns(self.group_features, original, names)
        )
        self._feature_columns = [j for j in range(len(names)) if j not in self.group_columns_]
        # A model of groups alone has no features, and most transformers do not take none.
        if _is_passthrough(transformer) or not self._feature_columns:
            transformer = FunctionTransformer(feature_names_out="one-to-one", check_inverse=False)
        self.transformer_ = transformer
        return X, self._features(X)

    def _features(self, X):
        return infer_numbers(take_columns(X, as_slice(self._feature_columns)))

    def _route(self, method, params):
        """The parameters for each method of the transformer."""
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, method, **params)["transformer"]
        # As in a pipeline: what fit_transform gets is for fit.
        return {"fit": params, "fit_transform": params, "transform": {}, method: params}

    def _with_groups(self, transformed, X):
        """The transformed columns beside the grouping columns of X."""
        if transformed.shape[0] != X.shape[0]:
            raise ValueError(
                f"{type(self.transformer_).__name__} made {transformed.shape[0]} rows of {X.shape[0]}, so that their "
                "groups are lost"
            )
        groups = take_columns(X, self.group_columns_)
        library = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        if library == "default" or not hasattr(self, "get_feature_names_out"):
            library = library_of(X) or library_of(transformed)
        names = self._names_of(transformed) if library else None
        return join(transformed, groups, names, library)

    def _names_of(self, transformed):
        """Names of the columns of the result, also of transformers that do not name theirs."""
        try:
            return self.get_feature_names_out().tolist()
        except AttributeError:
            prefix = type(self.transformer_).__name__.lower()
            names = getattr(transformed, "columns", [f"{prefix}{j}" for j in range(transformed.shape[1])])
            return [*map(str, names), *(column_names(self)[j] for j in self.group_columns_)]


def make_grouped_pipeline(*steps, group_features, memory=None, verbose=False):
    """A pipeline whose transformers leave the grouping columns of X alone, and whose last step uses them.

    Every transformer is wrapped in `KeepGroups`, under the name that `sklearn.pipeline.make_pipeline` would give it.
    Its parameters are found one level down: ``pca__transformer__n_components``. A `WithinBetween`, which needs the
    groups itself, is not wrapped, but gets `group_features`. Columns that the last step names in
    `time_feature` or `offset_feature` are left alone like the groups.

    Parameters
    ----------
    *steps : transformers and, last, an estimator with a parameter `group_features`
    group_features : str, int, list of them, or callable
        The columns of X that hold groups. Positions are those in the X that the pipeline gets. A callable is called at
        every step, with what the step gets.
    memory, verbose
        Of `sklearn.pipeline.Pipeline`.

    Returns
    -------
    pipeline : Pipeline

    Raises
    ------
    ValueError
        If the last step has no parameter `group_features`, or one that is set; or if its `time_feature` or
        `offset_feature` is set, and it or `group_features` is callable.

    Examples
    --------
    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklmm import MixedLogisticRegression, make_grouped_pipeline
    >>> model = make_grouped_pipeline(
    ...     SimpleImputer(), StandardScaler(), MixedLogisticRegression(), group_features="district"
    ... )
    >>> list(model.named_steps)
    ['simpleimputer', 'standardscaler', 'mixedlogisticregression']
    """
    if not steps:
        raise ValueError("make_grouped_pipeline needs at least one step, the estimator")
    *transformers, (last, estimator) = make_pipeline(*steps).steps
    parameters = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    if "group_features" not in parameters:
        raise ValueError(
            f"the last step must be an estimator with a parameter group_features, such as MixedLogisticRegression; "
            f"got {estimator!r}"
        )
    if parameters["group_features"] is not None:
        raise ValueError(
            f"group_features of {type(estimator).__name__} is set already; give it to make_grouped_pipeline alone"
        )
    others = {name: parameters.get(name) for name in ("time_feature", "offset_feature", "precision_weight_feature")}
    others = {name: column for name, column in others.items() if column is not None}
    for name, column in others.items():
        if callable(group_features) or callable(column):
            raise ValueError(f"with {name}, give both it and group_features by name or position, not as callables")
    columns = [*_as_list(group_features), *others.values()] if others else group_features
    wrapped = []
    for name, transformer in transformers:
        if isinstance(transformer, WithinBetween):
            wrapped.append((name, _with_groups_of(transformer, columns, others)))
        else:
            wrapped.append((name, KeepGroups(transformer, group_features=columns)))
        columns = _behind_features(columns)
    estimator = clone(estimator)
    first = len(columns) - len(others) if others else None
    estimator.set_params(group_features=columns[:first] if others else columns)
    estimator.set_params(**dict(zip(others, columns[first:] if others else (), strict=True)))
    return Pipeline([*wrapped, (last, estimator)], memory=memory, verbose=verbose)


def _with_groups_of(transformer, columns, others):
    """A `WithinBetween` that finds its groups in these columns, the last of which are others that stay in place."""
    if transformer.group_features is not None:
        raise ValueError("group_features of WithinBetween is set already; give it to make_grouped_pipeline alone")
    if others:
        named = all(isinstance(column, str) for column in columns)
        if transformer.columns is None or not named:
            raise ValueError(
                f"with {', '.join(others)}, say in WithinBetween(columns=...) which features to split, and give "
                "grouping columns and the like by name: else they would be split, too, or not be found behind it"
            )
        columns = columns[: len(columns) - len(others)]
    return clone(transformer).set_params(group_features=columns)


def _as_list(columns):
    if isinstance(columns, (str, Integral)):
        return [columns]
    columns = np.asarray(columns, dtype=None if isinstance(columns, np.ndarray) else object)
    return (np.flatnonzero(columns) if columns.dtype == bool else columns).tolist()


def _behind_features(columns):
    """The same columns once they stand last; names and callables find them wherever they are."""
    if callable(columns) or all(isinstance(column, str) for column in _as_list(columns)):
        return columns
    return list(range(-len(_as_list(columns)), 0))
