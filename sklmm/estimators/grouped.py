"""What the estimators share: the doors for groups and times, formulas, tags and routing; Wald inference."""

import copy
import functools
from numbers import Integral, Real

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sklmm.design.columns import is_frame, match_group_names, one_dimensional, rows_where, take_rows
from sklmm.design.formula_text import split_formula
from sklmm.design.observations import read_weights
from sklmm.design.outcomes import encode_target
from sklmm.design.values import two_values
from sklmm.estimators.reading import check_number, read_rows
from sklmm.estimators.running import CallbackSupportMixin
from sklmm.estimators.selectors import refuse_coefficients_by_position, refuse_leaving_out_groups
from sklmm.inference import wald
from sklmm.inference.estimability import dependences
from sklmm.inference.same_rows import row_signature
from sklmm.inference.verdict import not_estimated, warn_of_blanks, with_reason
from sklmm.passes.threads import effective_threads

PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score")


def nan_where_incomplete(predict):
    """Decorate a method that predicts by row: NaN for rows with missing values, where a formula leaves those out.

    Else they are an error, and of other kinds of models scikit-learn's affair.
    """

    @functools.wraps(predict)
    def predict_complete_rows(self, X, groups=None, *args, **kwargs):
        check_is_fitted(self)
        if self._fitted.formula is None or self._recipe.missing != "drop" or not is_frame(X):
            return predict(self, X, groups, *args, **kwargs)
        mask = self._fitted.formula.defined_rows(X)
        if mask.all():
            return predict(self, X, groups, *args, **kwargs)
        out = np.full(len(mask) if predict.__name__ == "decision_function" else (len(mask), 2), np.nan)
        if mask.any():
            out[mask] = predict(self, take_rows(X, mask), rows_where(mask, groups), *args, **kwargs)
        return out

    return predict_complete_rows


class GroupedClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Base of the estimators: a binary classifier whose rows come in groups."""

    __metadata_request__fit = {"groups": True}

    _recipe = None  # the FormulaRecipe of a model made by from_formula, which clones have, too
    _fitted = None  # what the fit left behind, a `Fitted`

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def __sklearn_clone__(self):
        """A clone of a model with a formula has it, too, and is fitted to data frames (cross-validation, searches)."""
        refuse_leaving_out_groups(self)
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
        weights : ndarray of float64 or None
        header : dict
            The fitted attributes that describe X.
        columns : dict
            What `Fitted` says of its columns.
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
        if self.fit_intercept and "intercept" in rows.names:
            raise ValueError(
                "a column of X is named 'intercept', as the model's own intercept is: rename it, or leave it out if it "
                "is constant; or set fit_intercept=False"
            )
        if not self.fit_intercept and not rows.names:
            raise ValueError("there is nothing to fit: X has no features, and fit_intercept is False")
        if n_rows == 0:
            raise ValueError("Found array with 0 sample(s): X has no rows, while a minimum of 1 is required")
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        y = one_dimensional(y, "y", n_rows)
        weights = read_weights(sample_weight, n_rows)
        is_weighted = weights is not None and (weights != 1).any()
        if weights is not None and not weights.all():
            mask = weights > 0
            rows.keep(mask)
            y, weights = take_rows(y, mask), weights[mask]
        target, classes = encode_target(y)
        header = {
            "n_features_in_": probe.n_features_in_,
            "feature_names_in_": getattr(probe, "feature_names_in_", None),
            "classes_": classes,
            "n_obs_": float(target.size) if weights is None else float(weights.sum()),
        }
        columns = {
            "group_columns": group_columns,
            "group_names": list(rows.groups),
            "time_column": time_column,
            "n_weighted_rows": n_rows if is_weighted else None,
        }
        return rows, target, weights, header, columns

    def _read_new_rows(self, X, groups):
        """Validate X and groups against those of fit."""
        if self._fitted.formula is not None:
            X, groups = self._fitted.formula.new_rows(X, groups)
        if self._fitted.group_columns and groups is not None:
            raise ValueError(
                "groups came through both doors: the model takes its groups from X (group_features), "
                "and groups= was passed too"
            )
        columns = self._fitted.group_columns or None
        rows, _, _ = read_rows(self, X, groups, columns, self._fitted.time_column, reset=False)
        rows.add_products(self._fitted.products)
        if groups is not None and self._fitted.group_names:
            rows.groups = match_group_names(rows.groups, self._fitted.group_names)
            rows.absent_groups = [name for name in self._fitted.group_names if name not in rows.groups]
            missing = np.full(rows.X.shape[0], None)  # a label that is missing is one of an unknown group
            rows.groups |= dict.fromkeys(rows.absent_groups, missing)
        return rows

    # Fits to resamples ---------------------------------------------------------------------------------------------

    def _settings_of_refits(self, n_jobs):
        """How resamples are fitted: as the model was, on one thread where processes share the work."""
        n_threads = effective_threads(self.n_threads) if joblib.effective_n_jobs(n_jobs) == 1 else 1
        return {"tol": float(self.tol), "max_iter": int(self.max_iter), "n_threads": n_threads}

    # Rows that a formula leaves out ------------------------------------------------------------------------------

    def _complete_rows(self, X, *arrays):
        """X and arrays by row without the rows that the fit of a formula with missing="drop" would leave out."""
        if self._fitted.formula is None or not is_frame(X):
            return X, *arrays
        kept = self._recipe.kept_rows(self._fitted.formula, X, *arrays)
        return tuple(rows_where(kept, values) for values in (X, *arrays))

    def _kept_of_rows(self, rows, names, target, weights, factors, aliased):
        """What `Fitted` has of the rows of a fit: by what they are known again, and their columns.

        `names` are those of the fixed effects, the first columns.
        """
        signature = row_signature(rows.X, rows.names, is_frame(rows.raw), target, weights, factors)
        return {
            "row_signature": signature,
            "spreads": dict(zip(rows.names, signature.columns[:, 1], strict=True)),
            "two_values": {n: two for j, n in enumerate(rows.names) if (two := two_values(rows.X[:, j])) is not None},
            "dependences": dependences(rows.X[:, : len(names)], names, aliased, weights, bool(self.fit_intercept)),
        }

    def _set_fitted(self, fitted, state):
        """Replace an earlier fit by a new one, in one go; without a formula an earlier one is left behind."""
        if fitted.formula is None:
            self.__dict__.pop("_recipe", None)
        self._fitted = fitted
        if state["feature_names_in_"] is None:
            del state["feature_names_in_"]
            self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(state)

    @property
    def _state(self):
        """What the fit left behind; before it an AttributeError, so that hasattr tells the truth of properties."""
        if self._fitted is None:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet")
        return self._fitted

    @property
    def coef_(self):
        """Coefficients of the features, of shape (1, n_fixed)."""
        fitted = self._state
        columns = [*fitted.group_columns, *([] if fitted.time_column is None else [fitted.time_column])]
        if columns:
            refuse_coefficients_by_position(self, sorted(columns))
        return self.__dict__["coef_"]

    @coef_.setter
    def coef_(self, value):
        self.__dict__["coef_"] = value

    # Inference on the fixed effects, from `coef_`, `intercept_` and `vcov_` ---------------------------------

    @property
    def vcov_(self):
        """Covariance of the coefficients, of the kind that was asked for."""
        return self._covariance()

    def _covariance(self, cov_type=None):
        names = self._state.fixed_names
        return pd.DataFrame(self._fitted.covariance(cov_type), index=names, columns=names)

    def _fixed_effects(self):
        """Names, estimates and covariance of the fixed effects, the intercept first."""
        check_is_fitted(self)
        slopes = self.coef_[0]
        coef = np.concatenate([self.intercept_, slopes]) if self._fitted.fit_intercept else slopes
        return list(self._fitted.fixed_names), coef, self._fitted.covariance()

    def _estimated_effects(self):
        """`_fixed_effects` with NaN in place of what was not estimated, and the mask of that."""
        names, coef, vcov = self._fixed_effects()
        blank = not_estimated(self, names)
        vcov[blank, :] = vcov[:, blank] = np.nan
        return (names, np.where(blank, np.nan, coef), vcov), blank

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
            A row a coefficient, columns "lower" and "upper". NaN, with the reason below, for coefficients that separate
            the classes, and for all of a fit that did not converge.
        """
        effects, blank = self._estimated_effects()
        table = wald.conf_int(*effects, level=level, method=method, df=self._inference_df())
        return with_reason(self, table, blank)

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

    def wald_test(self, contrast):
        """Test that coefficients, or linear combinations of them, are all 0.

        Parameters
        ----------
        contrast : str, list of str, array-like or DataFrame
            Names of coefficients. "livch*" is all whose name begins so, interactions aside; "livch" all levels of
            a factor that are named "livch[T.1]", "livch[T.2]"; with a formula also those of any of its terms, such as
            "livch:age". Or a matrix with a row a contrast and a column a coefficient, the intercept first (a DataFrame
            names the columns it has).

        Returns
        -------
        test : WaldTest
            With `statistic`, `df` and `p_value`; `distribution`, which says whether it is a chi-squared or
            an F test; `hypotheses` and `estimates`, what was tested. NaN, with a warning, where it involves
            coefficients that separate the classes, and for a fit that did not converge.
        """
        names, coef, vcov = self._fixed_effects()
        blank = not_estimated(self, names)
        options = {"df": self._inference_df(), "formula": self._fitted.formula, "blank": blank}
        test = wald.wald_test(names, coef, vcov, contrast, **options)
        warn_of_blanks(self, blank & np.isnan(test.statistic))
        return test

    def average_marginal_effects(
        self, X, features=None, *, sample_weight=None, level=0.95, predict_effects="marginal"
    ):
        """Average effects of features on the probability of the second class.

        The effect of a number is the derivative of the probability in it, averaged over the rows; that of a feature
        with two values in the fit, the average change from the smaller to the larger; that of a factor in a formula,
        the average change from its first level to each other one. Which of these is for the fit to say, so that rows
        may be few, or all have one value: an effect at the mean, at a chosen value, on those treated.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            The rows to average over, as `predict_proba` takes them. They are taken as given: standard errors are those
            of the estimates alone. Columns that were made from others, such as squares, count as features of their
            own, unless the model made them itself (`from_formula`).
        features : str or list of str, default=None
            None: all.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows. None is the column of weights that the formula of the model names, where X has it.
        level : float, default=0.95
        predict_effects : {"marginal", "zero"}, default="marginal"
            Of probabilities averaged over the population of groups, or of those in the typical group. Mixed models
            only: a marginal model knows no groups.

        Returns
        -------
        effects : DataFrame
            A row an effect; columns "estimate", "std_error" (delta method, from the covariance of all parameters), "z"
            or "t", "p_value", "lower" and "upper". NaN, with a `NotEstimableWarning`, where rows would be set to
            combinations that the fit's data say nothing of, such as a cell of two factors without data.
        """
        from sklmm.prediction.population import average_marginal_effects

        check_is_fitted(self)
        X, sample_weight = self._complete_rows(X, sample_weight)
        return average_marginal_effects(self, X, features, sample_weight, level, predict_effects)


