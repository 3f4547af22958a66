"""What mixed models are to scikit-learn: formulas, parameters, the random effects of a fit."""

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.factors import plan_factors
from sklmm.design.grouping import encode_groups
from sklmm.design.structure import Observations, Structure
from sklmm.estimators.fit_warnings import warn_of_equal_partitions, warn_of_many_effects
from sklmm.estimators.grouped import GroupedEstimator
from sklmm.estimators.mixed_inference import MixedInference
from sklmm.estimators.mixed_posterior import MixedPosterior
from sklmm.estimators.mixed_prediction import MixedPrediction
from sklmm.estimators.running import with_callbacks
from sklmm.exceptions import NoGroupsWarning
from sklmm.inference.group_coefficients import group_coefficients
from sklmm.inference.prior_choice import Layout, Spread, model_priors
from sklmm.likelihood.soft_penalty import SoftPenalties
from sklmm.messages import warn
from sklmm.reporting.summary import summary_of_mixed

FEWEST_ROWS = 1e-3  # the log-likelihood of fewer is hardly above what fits leave to gain


class MixedModel(MixedPrediction, MixedPosterior, MixedInference, GroupedEstimator):
    """Base of the mixed models: groups have random effects."""

    __metadata_request__predict = {"groups": True}
    __metadata_request__predict_proba = {"groups": True}
    __metadata_request__predict_log_proba = {"groups": True}
    __metadata_request__decision_function = {"groups": True}
    __metadata_request__score = {"groups": True}

    @classmethod
    def from_formula(cls, formula, data, *, missing="error", sample_weight=None, **params):
        """Fit the model that a formula describes to a data frame.

        Parameters
        ----------
        formula : str
            The response's column, a tilde, the fixed effects as the package formulaic reads them, and terms with a bar
            in brackets: ``"use ~ age*ch + I(age**2) + urban + (1 | urban:district)"``. Columns of labels become
            contrasts with their first level; ``C(ch, contr.sum)`` and other functions of formulaic choose otherwise.
            Left of a bar stands what may stand among the fixed effects, too: numbers, factors, products, calls. A dot
            is all other columns.
        data : DataFrame
        missing : {"error", "drop"}, default="error"
            What to do about rows with missing values in a column that is used: raise, with their number by column, or
            leave them out, and those in which a term is not defined, such as the logarithm of 0. Later questions leave
            the same out; the probabilities of such rows are NaN. New rows may miss their groups, nothing else.
        sample_weight : str or array-like, default=None
            A column of `data`, or counts by row.
        **params
            Parameters of the estimator.

        Returns
        -------
        model : estimator
            Fitted. It takes data frames with the formula's columns in place of X, and finds the groups in them:
            ``model.predict_proba(new_data)``. So do its clones: ``cross_val_score(model, data, data["use"])``.

        Examples
        --------
        >>> from sklmm import MixedLogisticRegression
        >>> from sklmm.datasets import load_contraception
        >>> women = load_contraception(as_frame=True).frame
        >>> model = MixedLogisticRegression.from_formula("use ~ age*ch + I(age**2) + urban + (1 | district)", women)
        >>> model.predict_proba(women.head(3)).shape
        (3, 2)
        """
        cls._refuse_roles(params)
        return cls._of_formula(formula, data, missing, sample_weight, params)

    @staticmethod
    def _refuse_roles(params):
        """Raise where parameters are set that a formula sets."""
        if "random_effects" in params or "group_features" in params:
            raise ValueError("random effects and groups are the formula's: write them as terms such as (1 | district)")

    @staticmethod
    def _parameters_of(design):
        """The parameters that a formula sets."""
        return {"random_effects": design.random_effects or None}

    def set_params(self, **params):
        """Set parameters, as scikit-learn's estimators do.

        Parameters
        ----------
        **params

        Returns
        -------
        self : MixedLogisticRegression

        Raises
        ------
        ValueError
            If random effects are set that contradict the model's formula, as a search over `random_effects` does: it
            would go on without, every other candidate failing.
        """
        named = params.get("random_effects")
        if self._recipe is not None and named is not None and named != self._recipe.random_effects:
            raise ValueError(
                f"this model has a formula, {self._recipe.text!r}, which says what its groups and random effects are, "
                "but random_effects or group_features was set: make another model with from_formula. To search over "
                "random effects, compare one model a formula by cross_val_score or compare_models, or pass "
                "features and group_features in place of a formula"
            )
        return super().set_params(**params)

    # Fitting ------------------------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X, y=None, groups=None, sample_weight=None, offset=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            A model that `from_formula` has made, and a clone of it, reads its formula again where X is a data frame.
        y : array-like of shape (n_samples,)
            Any two labels. None, for a model with a formula and a data frame: the formula's response.
        groups : array-like, default=None
            Group labels: 1-D for one factor, or a DataFrame or 2-D array with a column a factor. Not
            together with `group_features`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row counts: weight 2 is the row twice, 0 is the row left out.
        offset : array-like of shape (n_samples,), default=None
            What is added to the linear predictor, such as the logarithm of an exposure: a feature whose coefficient is
            1. Not together with `offset_feature`.

        Returns
        -------
        self : MixedLogisticRegression
        """
        return self._fit(X, y, groups=groups, sample_weight=sample_weight, offset=offset)

    def _read_groups(self, training, family, nodes=1):
        """The factors of a fit with their levels, the rows as engines take them, and what is fitted to them.

        Products of features that have random slopes are put behind the columns of the training rows.

        Returns
        -------
        factors : list of Factor
        products : dict of str -> list of int
        observations : Observations
        structure : Structure
        """
        rows, design = training.rows, training.design
        random_effects = self.random_effects if design is None else design.random_effects or None
        factors, products = self._plan_factors(rows, random_effects)
        rows.add_products(products)
        codes = []
        for factor in factors:
            code, factor.levels = encode_groups(factor.labels(rows.column), factor.name)
            codes.append(code)
        if training.n_obs < FEWEST_ROWS:
            raise ValueError(
                f"sample_weight counts rows, and these add up to {training.n_obs:.3g}; fewer than {FEWEST_ROWS:g} are "
                "too few to fit anything to. Weights that are no counts can be divided by their mean"
            )
        warn_of_many_effects(factors, training.n_obs)
        slopes_only = len(products) if design is None else design.n_slopes_only
        terms = [factor.structure() for factor in factors]
        structure = Structure(terms, bool(self.fit_intercept), nodes, slopes_only, family=family)
        warn_of_equal_partitions(structure.factors, codes, [factor.names_by_column() for factor in factors])
        observations = Observations(
            rows.X, training.target, codes, training.weights, offset=rows.offset, precision=rows.precision_weight
        )
        return factors, products, observations, structure

    def _read_priors(self, names, factors, observations, formula):
        """What is added to the log-likelihood of a fit: `ModelPriors`, `SoftPenalties` or None.

        `names`: of the fixed effects, the intercept first if there is one.
        """
        if self.priors is None:
            return None
        if isinstance(self.priors, str) and self.priors == "soft":
            return SoftPenalties()
        linear = not self._family().has_classes
        layout = Layout.of(names, self.fit_intercept, factors, linear=linear, formula=formula)
        found = model_priors(self.priors, layout, lambda: Spread.of(observations, linear))
        found.check_mode()
        return found

    def _refit_settings(self, n_threads):
        """Fits of other rows have the same priors: scales that came from the data stay."""
        priors = self._fitted.priors
        return self._settings(n_threads) | ({} if priors is None else {"priors": priors})

    def _plan_factors(self, rows, random_effects):
        """The factors and products that `random_effects` asks for, checked against the columns there are."""
        if rows.groups:
            return plan_factors(random_effects, list(rows.groups), rows.names)
        if random_effects is not None:
            raise ValueError(
                f"random_effects={random_effects!r} needs groups, but fit got none: name their columns "
                "of X in group_features, or pass groups= (within cross-validation and meta-estimators: "
                "through metadata routing)"
            )
        warn(
            f"fit got no groups: this is {self._plain}. Name the grouping columns of X in "
            "group_features, or pass groups= (to meta-estimators: with metadata routing enabled)",
            NoGroupsWarning,
        )
        return [], {}

    # What the fit says, made when it is asked for -----------------------------------------------------------

    @property
    def priors_(self):
        """The priors of the fit, resolved: `to_frame()` lists them; there are none of a fit without, or of "soft"."""
        priors = self._state.priors
        if not hasattr(priors, "to_frame"):
            raise AttributeError("the model was fitted without priors on its parameters")
        return priors

    @property
    def log_prior_(self):
        """What the priors, or the soft penalties, add to the log-likelihood at the estimates."""
        if self._state.log_prior is None:
            raise AttributeError("the model was fitted without priors")
        return self._state.log_prior

    @property
    def log_posterior_(self):
        """Log-likelihood and log prior at the estimates, of which they are the maximum; without a constant."""
        return self.log_likelihood_ + self.log_prior_

    def summary(self, level=0.95, correlation=False):
        """Tables of the fit: coefficients, variance components, fit statistics.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level of the intervals.
        correlation : bool, default=False
            Whether to show the correlation of the estimated fixed effects, too.

        Returns
        -------
        summary : FitSummary
            ``print`` it; or take its `coefficients`, a DataFrame, `to_frame()`, `to_markdown()`, `to_latex()`.
        """
        check_is_fitted(self)
        return summary_of_mixed(self, level, correlation)

    @property
    def random_effects_(self):
        """Conditional modes by term."""
        return self._tables(lambda factor: factor.modes)

    @property
    def random_effects_sd_(self):
        """Conditional standard deviations by term."""
        return self._tables(lambda factor: np.sqrt(np.diagonal(factor.mode_cov, axis1=1, axis2=2)))

    @property
    def group_coefficients_(self):
        """Coefficients of each group, fixed plus random, as lme4's ``coef``: for each factor a row a level.

        A table (a data frame with remarks) a factor, the columns those of the fixed effects, and behind them random
        slopes that have no fixed effect, which count from 0. Of several factors each table is with the others' effects
        at 0. What was left out of the fit counts as 0, as in `coef_`.
        """
        self._state  # noqa: B018  an AttributeError before the fit
        return group_coefficients(self)

    @property
    def covariance_(self):
        """Covariance of the random coefficients by term."""
        return {
            name: pd.DataFrame(factor.covariance[part, part], index=coefficients, columns=coefficients, copy=True)
            for factor in self._state.factors
            for name, coefficients, part in factor.term_slices()
        }

    def _tables(self, values_of):
        tables = {}
        for factor in self._state.factors:
            values = values_of(factor)
            for name, coefficients, part in factor.term_slices():
                tables[name] = pd.DataFrame(values[:, part], index=factor.levels, columns=coefficients, copy=True)
        return tables
