"""WithinBetween: each feature as its group's mean and the deviation from it."""

import numpy as np
import pandas as pd
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from sklmm.design.columns import (
    column_names,
    name_column_without_numbers,
    refuse_dates,
    resolve_columns,
    take_columns,
    take_rows,
)
from sklmm.design.grouping import encode_groups, interact, lookup_codes
from sklmm.design.observations import read_weights
from sklmm.design.tables import infer_numbers, join, library_of
from sklmm.estimators.fit_warnings import warn_of_label_type
from sklmm.estimators.reading import as_table

_ROUNDING = 1e-13  # of the largest number of a column: smaller deviations are of numbers that are the same


class WithinBetween(TransformerMixin, BaseEstimator):
    """Split features into the mean of their group and the deviation from it (Mundlak 1978).

    One coefficient for a feature that differs both within groups and between them mixes two effects: of a patient's
    visits, of being older than usual and of being an older patient. With x = m_g + (x - m_g) each gets its own. The
    coefficient of "x_within" is then free of whatever else distinguishes groups; that of "x_between" is not.

    In the result come first the columns that are not split, then "x_within" and "x_between" of each that is, last the
    grouping columns, as `KeepGroups` has them: the next step finds them by name, or from the end.

    Parameters
    ----------
    columns : str, int, list of them, or callable, default=None
        The features to split, as names or positions. None: all but the grouping columns.
    group_features : str, int, list of them, or callable
        The grouping columns of X, which stay in it.
    by : str, int, list of them, or callable, default=None
        The grouping column whose groups' means are meant; several are taken together, as in classes that are numbered
        within schools. None is the only one.

    Attributes
    ----------
    columns_, group_columns_, by_ : list of int
        Positions in X.
    group_means_ : DataFrame
        A row a group of the fit, a column a feature: means of its rows.
    means_ : Series
        Over all rows, which stand for the group's where a row has no label.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where X had names.

    Raises
    ------
    ValueError
        At fit and transform: where a column does not hold numbers or some are missing; at fit, where group labels are
        missing, names are no columns, or it is not said by which of several grouping columns to split.

    See Also
    --------
    make_grouped_pipeline : Hands grouping columns to this transformer, too.

    Notes
    -----
    Groups of the fit have the mean of their rows of the fit, wherever they are met again, so that a test fold does not
    change what a feature means. Groups that the fit did not see have that of the rows that are being transformed, which
    takes no outcome: a group's rows belong in one call. Where the mean of few rows stands for the group's, the
    coefficient of "x_between" is drawn towards that of "x_within".

    References
    ----------
    Mundlak Y (1978). On the pooling of time series and cross section data. Econometrica 46, 69-85.

    Bell A, Fairbrother M, Jones K (2019). Fixed and random effects models: making an informed choice. Quality and
    Quantity 53, 1051-1074.

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, WithinBetween, make_grouped_pipeline
    >>> from sklmm.datasets import load_contraception
    >>> women, uses, district = load_contraception(return_X_y=True, as_frame=True)
    >>> X = women[["age"]].assign(district=district)
    >>> model = make_grouped_pipeline(WithinBetween("age"), MixedLogisticRegression(), group_features="district")
    >>> model.fit(X, uses)[-1].vcov_.columns.tolist()
    ['intercept', 'age_within', 'age_between']
    """

    def __init__(self, columns=None, *, group_features=None, by=None):
        self.columns = columns
        self.group_features = group_features
        self.by = by

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags

    def fit(self, X, y=None, sample_weight=None):
        """Find the groups' means.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        y : ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows; those of weight 0 are left out.

        Returns
        -------
        self : WithinBetween
        """
        original, X = X, as_table(self, X)
        validate_data(self, X, skip_check_array=True, reset=True)
        if X.shape[0] == 0:
            raise ValueError("Found array with 0 sample(s): X has no rows, while a minimum of 1 is required")
        names = column_names(self)
        if self.group_features is None:
            raise ValueError(
                "WithinBetween needs groups: name the columns of X that hold them in group_features, or put it into "
                "make_grouped_pipeline"
            )
        groups = resolve_columns(self.group_features, original, names)
        by = groups if self.by is None else resolve_columns(self.by, original, names, "by")
        if self.by is None and len(groups) != 1:
            raise ValueError(
                f"group_features names {len(groups)} columns: say in by= whose groups' means are meant, or several for "
                "the groups that they make together"
            )
        if self.columns is None:
            columns = [j for j in range(len(names)) if j not in groups and j not in by]
        else:
            columns = resolve_columns(self.columns, original, names, "columns")
        shared = [names[j] for j in columns if j in groups or j in by]
        if shared:
            raise ValueError(f"column {shared[0]!r} holds groups, and is named in columns, too")
        self.columns_, self.group_columns_, self.by_ = columns, groups, by
        values, labels = self._values(X), self._labels(X)
        weights = read_weights(sample_weight, X.shape[0])
        if weights is not None and not weights.all():
            mask = weights > 0
            values, weights, labels = values[mask], weights[mask], take_rows(labels, mask)
        codes, levels = encode_groups(labels, self._factor())
        center, means = _means(values, codes, len(levels), weights)
        called = [names[j] for j in columns]
        self.means_ = pd.Series(center, index=called)
        self.group_means_ = pd.DataFrame(means, index=levels, columns=called)
        return self

    def transform(self, X):
        """Split the features of rows.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        transformed : {ndarray, dataframe} of shape (n_samples, n_features + n_split)
        """
        check_is_fitted(self)
        X = as_table(self, X)
        validate_data(self, X, skip_check_array=True, reset=False)
        values, labels, levels = self._values(X), self._labels(X), self.group_means_.index
        codes = lookup_codes(levels, labels)
        warn_of_label_type(self._factor(), levels, labels, codes, "Their means are taken from these rows")
        between = np.tile(self.means_.to_numpy(), (len(values), 1))
        between[codes >= 0] = self.group_means_.to_numpy()[codes[codes >= 0]]
        new = (codes < 0) & (pd.factorize(np.asarray(labels))[0] >= 0)  # with labels, of other groups
        if new.any():
            own, known = encode_groups(take_rows(labels, new), self._factor())
            between[new] = _means(values[new], own, len(known))[1][own]
        within = values - between
        largest = np.maximum(np.abs(values).max(axis=0, initial=0.0), np.abs(self.group_means_).max().to_numpy())
        within[np.abs(within) <= _ROUNDING * largest] = 0.0
        split = np.stack([within, between], axis=2).reshape(len(values), -1)
        return self._joined(X, split)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of the result.

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
            If a split column would have the name of another column.
        """
        check_is_fitted(self)
        names = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        others, groups = [names[j] for j in self._others()], [names[j] for j in self.group_columns_]
        split = [f"{names[j]}_{part}" for j in self.columns_ for part in ("within", "between")]
        shared = set(split) & {*others, *groups}
        if shared:
            raise ValueError(f"X has a column {min(shared)!r}, as a split column would be called: rename it")
        return np.array([*others, *split, *groups], dtype=object)

    def _others(self):
        """Positions of the columns that are handed on and hold no groups."""
        return [j for j in range(self.n_features_in_) if j not in self.columns_ and j not in self.group_columns_]

    def _factor(self):
        return ":".join(str(column_names(self)[j]) for j in self.by_)

    def _labels(self, X):
        """The labels of the rows' groups."""
        labels = [take_columns(X, j) for j in self.by_]
        return labels[0] if len(labels) == 1 else interact(labels)

    def _values(self, X):
        """The features to split, as numbers; an error that names those which are none."""
        names = [str(column_names(self)[j]) for j in self.columns_]
        table = take_columns(X, self.columns_)
        refuse_dates(table, names)
        try:
            values = np.asarray(table, dtype=np.float64)
        except (ValueError, TypeError):
            name_column_without_numbers(table, names)
            raise
        for name, column in zip(names, values.T, strict=True):
            if np.isnan(column).any():
                raise ValueError(
                    f"column {name!r} has {np.isnan(column).sum():,} missing values (NaN), of which there is no mean: "
                    "fill them in before (SimpleImputer), or leave these rows out"
                )
            if np.isinf(column).any():
                raise ValueError(f"column {name!r} holds infinity")
        return values

    def _joined(self, X, split):
        library = getattr(self, "_sklearn_output_config", {}).get("transform", get_config()["transform_output"])
        library = library_of(X) if library == "default" else library
        names = self.get_feature_names_out().tolist()
        others, groups = infer_numbers(take_columns(X, self._others())), take_columns(X, self.group_columns_)
        n = len(names) - len(self.group_columns_)
        left = join(others, split, names[:n], library) if self._others() else split
        return join(left, groups, names, library)


def _means(values, codes, n_groups, weights=None):
    """Means over all rows, and of groups, of columns; from their overall means, so that they may be far from 0."""
    weights = np.ones(len(values)) if weights is None else weights
    center = np.average(values, axis=0, weights=weights)
    size = np.bincount(codes, weights=weights, minlength=n_groups)
    sums = [np.bincount(codes, weights=weights * column, minlength=n_groups) for column in (values - center).T]
    return center, center + np.reshape(sums, (values.shape[1], n_groups)).T / size[:, None]
