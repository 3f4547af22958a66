"""MixedEffectEncoder: categories of many levels as numbers, by a mixed model of each column."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils import ClassifierTags
from sklearn.utils.validation import check_is_fitted, validate_data

from sklmm.design.columns import column_names, one_dimensional, take_columns, take_rows
from sklmm.design.counts import rows_of_counts
from sklmm.design.grouping import encode_groups, lookup_codes
from sklmm.design.observations import read_weights
from sklmm.design.outcomes import encode_target
from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.design.units import FitUnits
from sklmm.estimators.fit_warnings import warn_of_label_type
from sklmm.estimators.reading import as_table, check_number
from sklmm.exceptions import SeparationWarning
from sklmm.families import LOGIT
from sklmm.likelihood.fit import fit_mixed, posteriors_given_fit
from sklmm.messages import listed, warn
from sklmm.passes.threads import effective_threads
from sklmm.prediction.predictor import probabilities

OUTPUTS = ("logit", "probability")

# Where categories determine the target the likelihood rises with the standard deviation without end. Log-odds of
# categories that are 10 apart are as good as certain.
LARGEST_SD = 10.0


class MixedEffectEncoder(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Encode categories of a binary target by the conditional modes of a mixed model, cross-fitted.

    Each column is encoded by itself: of the logistic model with a normal random intercept for each category and no
    other features, a category gets its log-odds, the intercept plus its conditional mode. A category of few rows is
    shrunk towards the intercept as far as the variance between categories, estimated by maximum likelihood, says it
    should be. Meant for columns of many categories; the cost of a fit is that of counting successes by category.

    Parameters
    ----------
    output : {"logit", "probability"}, default="logit"
        What a category becomes:

        - "logit": the intercept plus its conditional mode; the intercept for unknown categories;
        - "probability": the mean over its posterior of the probability of the second class; for unknown categories the
          mean over the population of categories.
    cv : int, cross-validation generator or iterable, default=5
        Folds in which `fit_transform` cross-fits: an integer is a number of stratified folds. Each row must be in
        exactly one test fold.
    shuffle : bool, default=True
        Whether to shuffle rows before they are split into folds. Only where `cv` is an integer.
    random_state : int, RandomState instance or None, default=None
        Of the shuffling. Pass an int for the same folds in every call.
    n_quadrature : int, default=9
        Nodes of adaptive Gauss-Hermite quadrature, which costs little here; 1 is the Laplace approximation, which
        underestimates the variance, and so shrinks too much, where categories have few rows.

    Attributes
    ----------
    categories_ : list of ndarray
        The categories of each column, sorted. Missing values (None, NaN, NaT, pandas.NA) are one category, NaN, which
        stands last.
    encodings_ : list of ndarray
        The numbers that stand for them in `transform`.
    unknown_encodings_ : ndarray of shape (n_features,)
        The numbers for categories that fit did not see.
    intercept_ : ndarray of shape (n_features,)
        Log-odds in the typical category.
    sd_ : ndarray of shape (n_features,)
        Standard deviation of the random intercept of categories, on the logit scale. Where it is 0 categories do not
        differ by more than chance, and all have one encoding.
    classes_ : ndarray of shape (2,)
        The classes; encodings rise with the probability of the second.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Names of the columns. Only where X had names.

    Warns
    -----
    SeparationWarning
        If the categories of a column determine the target: its standard deviation has no maximum, and is held at 10.

    See Also
    --------
    sklearn.preprocessing.TargetEncoder : Shrinks means of the target instead, by a normal model.
    sklmm.MixedLogisticRegression : Takes such a column as groups, beside the other features.

    Notes
    -----
    ``fit(X, y).transform(X)`` is not ``fit_transform(X, y)``, and is not meant for training a model: there, a row's own
    outcome is part of its category's encoding, so that a model trusts the column too much. `fit_transform`, which a
    pipeline calls, encodes each row by its category's rows in other folds (cross-fitting, as scikit-learn's
    TargetEncoder does). The intercept and the standard deviation, two numbers that all rows share, are those of all
    rows in both.

    Examples
    --------
    >>> import numpy as np
    >>> from sklmm import MixedEffectEncoder
    >>> rng = np.random.default_rng(0)
    >>> shop = rng.integers(0, 500, size=5000)
    >>> y = rng.random(5000) < 1 / (1 + np.exp(-rng.normal(size=500)[shop]))
    >>> encoder = MixedEffectEncoder(random_state=0)
    >>> encoded = encoder.fit_transform(shop[:, None], y)
    >>> encoded.shape
    (5000, 1)
    >>> bool(encoder.transform([[1234]])[0, 0] == encoder.intercept_[0])    # an unknown shop
    True
    """

    def __init__(self, output="logit", *, cv=5, shuffle=True, random_state=None, n_quadrature=9):
        self.output = output
        self.cv = cv
        self.shuffle = shuffle
        self.random_state = random_state
        self.n_quadrature = n_quadrature

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        tags.classifier_tags = ClassifierTags(multi_class=False)  # two classes only
        # The folds of fit_transform are drawn anew unless somebody fixes them.
        tags.non_deterministic = isinstance(self.cv, Integral) and bool(self.shuffle) and self.random_state is None
        return tags

    def fit(self, X, y, sample_weight=None):
        """Learn the encodings of categories. To encode training rows use `fit_transform`.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            Categories: numbers, strings, dates, booleans, missing values.
        y : array-like of shape (n_samples,)
            Any two labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Row counts: weight 2 is the row twice, 0 is the row left out.

        Returns
        -------
        self : MixedEffectEncoder

        Raises
        ------
        ValueError
            If y does not hold two classes.
        """
        self._fit(X, y, sample_weight)
        return self

    def fit_transform(self, X, y, sample_weight=None):
        """Learn the encodings, and encode each row by the outcomes of rows in other folds.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        encoded : ndarray of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If y does not hold two classes, or if the test folds of `cv` do not hold every row exactly once.
        """
        codes, target, weights = self._fit(X, y, sample_weight)
        encoded = np.empty((target.size, len(codes)))
        times_tested = np.zeros(target.size, dtype=np.intp)
        for train, test in self._splitter(target).split(X, target):
            times_tested[test] += 1
            for j, code in enumerate(codes):
                cells = _count_classes(code[train], len(self.categories_[j]), target[train], weights[train])
                table = _encodings(cells, self.intercept_[j], self.sd_[j], self.output)
                encoded[test, j] = table[code[test]]
        if (times_tested != 1).any():
            raise ValueError(
                f"the test folds of cv={self.cv!r} must hold every row exactly once, but "
                f"{np.count_nonzero(times_tested != 1)} of {target.size} rows are in none or in several"
            )
        return encoded

    def transform(self, X):
        """Encode categories by the model of all rows of the fit.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)

        Returns
        -------
        encoded : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = as_table(self, X)
        validate_data(self, X, skip_check_array=True, reset=False)
        encoded = np.empty(X.shape)
        for j, levels in enumerate(self._levels):
            labels = take_columns(X, j)
            codes = lookup_codes(levels, labels)
            if len(self.categories_[j]) > len(levels):
                codes[_is_missing(labels)] = len(levels)
            consequence = "Every row gets the number of unknown categories"
            warn_of_label_type(column_names(self)[j], levels, labels, codes, consequence)
            encoded[:, j] = np.append(self.encodings_[j], self.unknown_encodings_[j])[codes]
        return encoded

    def _fit(self, X, y, sample_weight):
        """Fit all columns; their codes, the target as 0 and 1, and the weights of rows, all ones by default."""
        if not isinstance(self.output, str) or self.output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(map(repr, OUTPUTS))}; got {self.output!r}")
        check_number(self, "n_quadrature", Integral, "an integer >= 1", lambda value: value >= 1)
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        X = as_table(self, X)
        validate_data(self, X, skip_check_array=True, reset=True)
        n_rows = X.shape[0]
        weights = read_weights(sample_weight, n_rows)
        y = one_dimensional(y, "y", n_rows)
        if weights is None:
            weights = np.ones(n_rows)
        counted = weights > 0  # a row of weight 0 is no row: it makes no class and no category
        target = np.zeros(n_rows, dtype=np.uint8)
        target[counted], classes = encode_target(take_rows(y, counted))
        names = column_names(self)
        codes, levels, categories = zip(
            *(_encode_column(take_columns(X, j), counted, name) for j, name in enumerate(names)), strict=True
        )
        cells = [
            _count_classes(code, len(found), target, weights)
            for code, found in zip(codes, categories, strict=True)
        ]
        intercept, sd, diverged = np.transpose([_fit_counts(cell, int(self.n_quadrature)) for cell in cells])
        tables = [_encodings(*column, self.output) for column in zip(cells, intercept, sd, strict=True)]
        self.classes_ = classes
        self.categories_, self._levels = list(categories), list(levels)
        self.intercept_, self.sd_ = intercept, sd
        self.encodings_ = [table[:-1] for table in tables]
        self.unknown_encodings_ = np.array([table[-1] for table in tables])
        if diverged.any():
            separating = listed(repr(name) for name, does in zip(names, diverged, strict=True) if does)
            warn(
                f"the categories of {separating} determine the target, or nearly: the standard deviation between them "
                f"has no maximum, or one beyond {LARGEST_SD:g}, and is held at {LARGEST_SD:g}",
                SeparationWarning,
            )
        return codes, target, weights

    def _splitter(self, target):
        if self.cv is None or isinstance(self.cv, Integral):
            shuffle = bool(self.shuffle)
            random_state = self.random_state if shuffle else None
            return StratifiedKFold(5 if self.cv is None else self.cv, shuffle=shuffle, random_state=random_state)
        return check_cv(self.cv, target, classifier=True)


# The model of one column: without features, the rows of a category are a count of each class ----------------------


def _count_classes(codes, n_categories, target, weights):
    """Sums of weights by category and class, of shape (n_categories, 2); rows with code -1 are left out."""
    known = codes >= 0
    cells = np.bincount(2 * codes[known] + target[known], weights=weights[known], minlength=2 * n_categories)
    return cells.reshape(n_categories, 2)


def _as_rows(cells, n_quadrature=1):
    """Rows that are these counts, at most two weighted ones a category, and the structure of their model."""
    category, y, weights = rows_of_counts(*cells.T)
    rows = Observations(np.empty((y.size, 0)), y, [category], weights)
    return rows, Structure([FactorStructure(len(cells), [-1], [(1, True)])], n_quadrature=n_quadrature)


def _fit_counts(cells, n_quadrature):
    """Intercept and standard deviation of the random intercept, and whether the latter had to be held."""
    negatives, positives = cells.sum(axis=0)
    overall = np.log(positives / negatives)
    if (cells.sum(axis=1) <= 1).all():  # one row a category fits any standard deviation as well: take none
        return overall, 0.0, False
    if (cells.min(axis=1) > 0).any():
        n_threads = effective_threads(None, np.count_nonzero(cells))
        fit = fit_mixed(*_as_rows(cells, n_quadrature), n_threads=n_threads)
        if (sd := abs(fit.theta[0][0])) <= LARGEST_SD:
            return fit.beta[0], sd, False
    return overall, LARGEST_SD, True


def _encodings(cells, intercept, sd, output):
    """The number for each category, given its counts; and last, that for unknown categories."""
    units, n_threads = FitUnits.of_intercepts(intercept, sd), effective_threads(None, np.count_nonzero(cells))
    (modes,), _, (posterior,), _ = posteriors_given_fit(*_as_rows(cells), units, n_threads=n_threads)
    if output == "logit":
        return intercept + np.append(modes[:, 0], 0.0)
    known = np.flatnonzero(cells.any(axis=1))
    encoded = np.full(len(cells) + 1, probabilities(*LOGIT.tails(np.array([intercept]), np.array([sd])))[0, 1])
    tails = posterior.tails(np.full(known.size, intercept), np.full((known.size, 1), sd), known, 1)
    encoded[known] = probabilities(*tails)[:, 1]
    return encoded


# Columns of categories --------------------------------------------------------------------------------------------


def _encode_column(labels, counted, name):
    """Codes of one column's categories, -1 where only rows of weight 0 have them.

    Returns
    -------
    codes : ndarray of shape (n,), intp
    levels : pandas.Index
        The categories that are not missing.
    categories : ndarray
        All of them.
    """
    missing = _is_missing(labels)
    _, levels = encode_groups(take_rows(labels, counted & ~missing), name)
    codes = lookup_codes(levels, labels)
    categories = levels.to_numpy()
    if (missing & counted).any():
        codes[missing] = len(levels)
        if categories.dtype.kind not in "fO":
            categories = categories.astype(np.float64 if categories.dtype.kind in "iu" else object)
        categories = np.append(categories, np.nan)
    return codes, levels, categories


def _is_missing(labels):
    """Where a column holds None, NaN, NaT or pandas.NA."""
    if hasattr(labels, "to_numpy") and not hasattr(labels, "iloc"):  # polars
        labels = labels.to_numpy()
    return np.asarray(pd.isna(labels))

