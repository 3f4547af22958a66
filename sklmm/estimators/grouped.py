"""What the estimators share: the doors for groups and times, formulas, the steps of a fit, routing."""

import copy
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from sklmm.design.columns import is_frame, match_group_names, one_dimensional, rows_where, take_rows
from sklmm.design.formula import FormulaDesign, FormulaRecipe
from sklmm.design.observations import Rows, known_precision, read_weights
from sklmm.design.values import two_values
from sklmm.estimators.reading import check_number, read_rows
from sklmm.estimators.running import CallbackSupportMixin, Progress
from sklmm.estimators.selectors import refuse_coefficients_by_position, refuse_leaving_out_groups
from sklmm.fitted import FittedLinear
from sklmm.inference.estimability import dependences
from sklmm.inference.same_rows import row_signature
from sklmm.messages import joined

DOORS = {  # what comes by row, and the parameter that names its column in X
    "groups": "group_features",
    "time": "time_feature",
    "offset": "offset_feature",
    "precision_weight": "precision_weight_feature",
}
PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score")


@dataclass
class Training:
    """The rows of a fit, read and checked.

    Attributes
    ----------
    rows : Rows
        Those of weights above 0.
    target : ndarray
        Their outcomes, as the estimator's kind of outcome codes them.
    weights : ndarray of float64 or None
    n_obs : float
        Their number, or the sum of their weights.
    attributes : dict
        The fitted attributes that describe X and y.
    columns : dict
        What `Fitted` says of the columns of X.
    design : FormulaDesign or None
    """

    rows: Rows
    target: np.ndarray
    weights: np.ndarray | None
    n_obs: float
    attributes: dict
    columns: dict
    design: FormulaDesign | None = None


class GroupedEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of the estimators: their rows come in groups.

    The kind of model says ``_check_parameters()``, ``_estimate(training, progress)``, which returns what `Fitted` holds
    and the attributes of the fit, and ``_parameters_of(design)``, its parameters that a formula sets; the kind of
    outcome how y is read (`BinaryOutcomes`).
    """

    __metadata_request__fit = {"groups": True, "offset": True}
    __metadata_request__predict = {"offset": True}
    __metadata_request__predict_proba = {"offset": True}
    __metadata_request__predict_log_proba = {"offset": True}
    __metadata_request__decision_function = {"offset": True}
    __metadata_request__score = {"offset": True}

    _recipe = None  # the FormulaRecipe of a model made by from_formula, which clones have, too
    _fitted = None  # what the fit left behind, a `Fitted`
    _objective_name = "log_likelihood"  # what a fit maximises, as its report calls it

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
        `time`, `offset` and `precision_weight`.

        Returns
        -------
        routing : MetadataRequest
        """
        routing = super().get_metadata_routing()
        for param, column in DOORS.items():
            if getattr(self, column, None) is None and self._recipe is None:
                continue
            for method in ("fit", *PREDICTING):
                requests = getattr(routing, method)
                if param in requests.requests:
                    requests.add_request(param=param, alias=False)
        return routing

    # The steps of a fit ------------------------------------------------------------------------------------------

    @classmethod
    def _of_formula(cls, formula, data, missing, sample_weight, params, **columns):
        """The model that a formula describes, fitted; `columns` are those of the data that a recipe names."""
        named = sample_weight if isinstance(sample_weight, str) else None
        recipe = FormulaRecipe(formula, sample_weight=named, missing=missing, **columns)
        if params.get("offset_feature") is not None:
            raise ValueError("with a formula, an offset is a term of it: write offset(log(exposure)), say")
        design, rows = recipe.rows(data, sample_weight=sample_weight)
        own = cls._parameters_of(design)
        model = cls(**{"fit_intercept": design.fit_intercept, **own, **params})
        model._recipe = replace(recipe, random_effects=own.get("random_effects"))
        model._reading = design, rows.X, rows.y, rows.by_row
        return model.fit(data)

    def _fit(self, X, y, **by_row):
        self._check_common_parameters()
        self._check_parameters()
        family = self._family()  # an error for a link that there is not
        design, X, y, by_row = self._through_formula(X, y, by_row)
        if design is not None and design.is_counts and not family.has_classes:
            raise ValueError(
                f"{self._recipe.text!r} is about successes of trials, which are no measured outcome: logistic models "
                "take them"
            )
        progress = Progress(self, X, y, by_row, self._objective_name)
        training = self._read_training_rows(X, y, design, **by_row)
        fitted, attributes = self._estimate(training, progress)
        self._set_fitted(fitted, training.attributes | attributes)
        progress.finish()
        return self

    def _settings(self, n_threads):
        """How a fit runs."""
        return {"tol": float(self.tol), "max_iter": int(self.max_iter), "n_threads": n_threads}

    def _refit_settings(self, n_threads):
        """How fits of other rows run, with what the fit has learnt of its own."""
        return self._settings(n_threads)

    def _check_common_parameters(self):
        check_number(self, "tol", Real, "a number > 0", lambda value: value > 0)
        check_number(self, "max_iter", Integral, "an integer >= 1", lambda value: value >= 1)
        check_number(self, "verbose", Integral, "an integer >= 0", lambda value: value >= 0)
        if self.n_threads is not None:
            check_number(self, "n_threads", Integral, "None or an integer >= 1", lambda value: value >= 1)
        if not isinstance(self.fit_intercept, (bool, np.bool_)):
            raise ValueError(f"fit_intercept must be True or False, got {self.fit_intercept!r}")

    def _through_formula(self, X, y, by_row):
        """The arguments of fit where X is a data frame for the model's formula; else they are left as they are.

        Returns
        -------
        design : FormulaDesign or None
        X, y
        by_row : dict
            The other arguments by row: groups, sample_weight and so on.
        """
        reading = self.__dict__.pop("_reading", None)
        if reading is not None:  # `from_formula` has just done it
            return reading
        recipe = self._recipe
        if recipe is None or not is_frame(X):
            return None, X, y, by_row
        given = [f"{name}=" for name, values in by_row.items() if values is not None and name != "sample_weight"]
        if given:
            if not recipe.response_is_in(X):
                return None, X, y, by_row  # features of the user's own
            raise ValueError(
                "this model has a formula, which finds its groups, times and the like in X: leave out "
                f"{joined(given)}"
            )
        if self.group_features is not None or getattr(self, "random_effects", None) != recipe.random_effects:
            raise ValueError(
                f"this model has a formula, {recipe.text!r}, which says what its groups and random effects are, but "
                "random_effects or group_features was set: make another model with from_formula"
            )
        design, rows = recipe.rows(X, y, by_row["sample_weight"])
        return design, rows.X, rows.y, rows.by_row

    def _read_training_rows(self, X, y, design, *, groups=None, sample_weight=None, **given):
        """Validate the arguments of fit, without touching what an earlier fit left on the estimator.

        Returns
        -------
        training : Training
        """
        columns = {feature: getattr(self, feature, None) for feature in DOORS.values()}
        for what, values in ({"groups": groups} | given).items():
            if columns[DOORS[what]] is not None and values is not None:
                named = "names columns" if what == "groups" else "names a column"
                these = "times" if what == "time" else what
                raise ValueError(
                    f"{these} came through both doors: {DOORS[what]} {named} of X, and {what}= was passed too; use one"
                )
        probe = copy.copy(self)
        rows, positions = read_rows(probe, X, groups, columns, reset=True)
        n_rows = rows.X.shape[0]
        for what, values in given.items():
            if values is not None:
                rows.set(what, values)
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
        target, about_target, event = self._learn_target(y, None if design is None else design.positive)
        n_obs = float(target.size) if weights is None else float(weights.sum())
        attributes = {
            "n_features_in_": probe.n_features_in_,
            "feature_names_in_": getattr(probe, "feature_names_in_", None),
            "n_obs_": n_obs,
            **about_target,
        }
        columns = {
            "positions": positions,
            "group_names": list(rows.groups),
            "takes_offset": given.get("offset") is not None and design is None,
            "takes_precision": given.get("precision_weight") is not None and design is None,
            "event": event,
            "n_weighted_rows": n_rows if is_weighted else None,
        }
        return Training(rows, target, weights, n_obs, attributes, columns, design)

    def _read_new_rows(self, X, groups, offset=None, precision_weight=None):
        """Validate X, groups, an offset and precision weights against those of fit."""
        data, formula = X, self._fitted.formula
        if formula is not None:
            X, groups = formula.new_rows(data, groups)
        fitted = self._fitted
        if fitted.group_columns and groups is not None:
            raise ValueError(
                "groups came through both doors: the model takes its groups from X (group_features), "
                "and groups= was passed too"
            )
        if fitted.takes_offset != (offset is not None):
            if offset is None:
                text = "with an offset, and these rows came without: pass offset=, or name its column in offset_feature"
            elif fitted.offset_column is None and fitted.formula is None:
                text = "without an offset: leave out offset="
            else:
                text = "with an offset that it finds in X: leave out offset="
            raise ValueError(f"the model was fitted {text}")
        columns = fitted.positions | {"group_features": fitted.group_columns or None}
        rows, _ = read_rows(self, X, groups, columns, reset=False)
        if offset is not None:
            rows.set("offset", offset)
        elif formula is not None:
            rows.offset = formula.offset(data)
        named = None if formula is None else self._recipe.precision_weight
        if precision_weight is not None:
            if named is not None or fitted.positions.get("precision_weight_feature") is not None:
                raise ValueError("the model finds its precision weights in X: leave out precision_weight=")
            if not isinstance(fitted, FittedLinear):
                raise ValueError("precision_weight is for MixedLinearRegression, whose residuals have a variance")
            rows.set("precision_weight", precision_weight)
        elif formula is not None and named in data.columns:
            rows.precision_weight = known_precision(data[named], repr(named))
        rows.add_products(fitted.products)
        if groups is not None and fitted.group_names:
            rows.groups = match_group_names(rows.groups, fitted.group_names)
            rows.absent_groups = [name for name in fitted.group_names if name not in rows.groups]
            missing = np.full(rows.X.shape[0], None)  # a label that is missing is one of an unknown group
            rows.groups |= dict.fromkeys(rows.absent_groups, missing)
        return rows

    # Rows that a formula leaves out ------------------------------------------------------------------------------

    def _complete_rows(self, X, *arrays):
        """X and arrays by row without the rows that the fit of a formula with missing="drop" would leave out."""
        if self._fitted.formula is None or not is_frame(X):
            return X, *arrays
        kept = self._recipe.kept_rows(self._fitted.formula, X, *arrays)
        return tuple(rows_where(kept, values) for values in (X, *arrays))

    def _rows_with_outcomes(self, X, y, groups, sample_weight):
        """X, y, groups and weights; with a formula, what is not given is found in X, and a line of counts is two rows.

        Rows that the fit of a formula with missing="drop" would leave out are left out.
        """
        formula = self._fitted.formula
        if formula is not None and is_frame(X):
            X, y, groups, sample_weight, _ = self._recipe.rows_of_fit(formula, X, y, groups, sample_weight, None)
        if y is None:
            where = "" if formula is None else f": X has no column {formula.response!r}"
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None{where}."
            )
        return X, y, groups, sample_weight

    def _about(self, training, names, fit, factors):
        """What `Fitted` says of any fit, and of its rows: by what they are known again, and their columns.

        Parameters
        ----------
        training : Training
        names : list of str
            Of the fixed effects besides the intercept, the first columns.
        fit : MixedFit or GEEFit
        factors : dict of str -> pair
            Codes and levels of each factor.
        """
        rows, weights, intercept = training.rows, training.weights, bool(self.fit_intercept)
        outcome = training.target if training.columns["event"] else 1 - training.target  # whatever the event is
        signature = row_signature(rows.X, rows.names, is_frame(rows.raw), outcome, weights, factors, rows.offset)
        return {
            "fixed_names": ["intercept"] * intercept + names,
            "fit_intercept": intercept,
            "separated": ["the intercept" if j < 0 else names[j] for j in fit.separated],
            "formula": training.design,
            "influence": fit.influence,
            "n_groups": {name: len(levels) for name, (_, levels) in factors.items()},
            **training.columns,
            "row_signature": signature,
            "spreads": dict(zip(rows.names, signature.columns[:, 1], strict=True)),
            "two_values": {n: two for j, n in enumerate(rows.names) if (two := two_values(rows.X[:, j])) is not None},
            "dependences": dependences(rows.X[:, : len(names)], names, fit.aliased, weights, intercept),
        }

    def _attributes_of(self, fit):
        """The fitted attributes that all fits have."""
        intercept = bool(self.fit_intercept)
        return {
            **self._coefficients(fit.beta[0] if intercept else 0.0, fit.beta[int(intercept) :]),
            "n_iter_": int(fit.report.n_iter),
            "fit_report_": fit.report,
            "converged_": bool(fit.report.converged),
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
        columns = [*fitted.group_columns, *(j for j in fitted.positions.values() if isinstance(j, int))]
        if columns:
            refuse_coefficients_by_position(self, sorted(columns))
        return self.__dict__["coef_"]

    @coef_.setter
    def coef_(self, value):
        self.__dict__["coef_"] = value
