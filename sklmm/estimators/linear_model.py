"""Linear mixed models: predictions with errors, inference with degrees of freedom, the rows again."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklmm.design.grouping import lookup_codes
from sklmm.design.structure import Structure
from sklmm.estimators.mixed_model import MixedModel
from sklmm.estimators.mixed_prediction import warn_of_forgotten, with_levels
from sklmm.estimators.reading import nan_where_incomplete
from sklmm.estimators.rows_of_fit import SAME_ROWS, check_precision
from sklmm.inference.bootstrap import ClusterDraw
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.linear_bootstrap import LinearRefit, NumbersDraw
from sklmm.inference.linear_parameters import linear_quantity
from sklmm.inference.parameters import Estimates, Parameter
from sklmm.inference.variance_partition import variance_partition
from sklmm.inference.wald import check_level
from sklmm.likelihood.linear import LinearLikelihood, LinearObjective
from sklmm.likelihood.linear_criterion import LinearCriterion
from sklmm.likelihood.linear_fit import effects_given_fit, linear_products
from sklmm.passes.threads import effective_threads
from sklmm.prediction.linear import NumberPredictor, degrees_of_predictions, quantiles
from sklmm.prediction.simulation import rows_to_simulate, simulated_predictors
from sklmm.reporting.summary import summary_of_linear

EFFECTS = ("posterior", "zero")
KINDS = ("mean", "observation")


class LinearModel(MixedModel):
    """Base of the linear mixed models: what differs from those of classes."""

    __metadata_request__fit = {"groups": True, "offset": True, "precision_weight": True}

    @classmethod
    def from_formula(cls, formula, data, *, missing="error", sample_weight=None, precision_weight=None, **params):
        """Fit the model that a formula describes to a data frame.

        Parameters
        ----------
        formula : str
            As for `MixedLogisticRegression`: ``"Reaction ~ Days + (1 + Days | Subject)"``.
        data : DataFrame
        missing : {"error", "drop"}, default="error"
            What to do about rows with missing values in a column that is used: raise, or leave them out.
        sample_weight : str or array-like, default=None
            A column of `data`, or counts by row.
        precision_weight : str, default=None
            A column of `data`.
        **params
            Parameters of the estimator.

        Returns
        -------
        model : estimator
            Fitted. It takes data frames with the formula's columns in place of X, and finds the groups in them.

        Examples
        --------
        >>> from sklmm import MixedLinearRegression
        >>> from sklmm.datasets import load_penicillin
        >>> data = load_penicillin(as_frame=True).frame
        >>> model = MixedLinearRegression.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
        >>> round(model.sigma_, 3)
        0.55
        """
        cls._refuse_roles(params)
        named = {"precision_weight": precision_weight}
        return cls._of_formula(formula, data, missing, sample_weight, params, **named)

    # Predictions -------------------------------------------------------------------------------------------------

    @nan_where_incomplete
    def predict(self, X, groups=None, *, offset=None, predict_effects=None, return_std=False):
        """Expected outcomes of rows, in their groups where these are known.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            As in `fit`. A label that is missing, or that fit did not see, is an unknown group, whose effects are 0.
        offset : array-like of shape (n_samples,), default=None
            What is added to the linear predictor, for a model whose fit got one in this way.
        predict_effects : {"posterior", "zero"}, default=None
            Overrides the parameter of the same name.
        return_std : bool, default=False
            Whether to return standard deviations of new outcomes, too: of the residual, the effects of the group and
            the errors of estimates together.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        std : ndarray of shape (n_samples,)
            Only if `return_std`.
        """
        if not return_std:
            return self._predicted(X, groups, offset, predict_effects)[0]
        mean, variance, _, precision = self._with_errors(X, groups, offset, predict_effects)
        return mean, np.sqrt(variance + self._fitted.sigma**2 / precision)

    @nan_where_incomplete
    def predict_interval(self, X, groups=None, level=0.95, kind="mean", *, offset=None, predict_effects=None):
        """Intervals for expected outcomes, or for new ones.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups, offset : array-like, default=None
            As in `predict`.
        level : float, default=0.95
        kind : {"mean", "observation"}, default="mean"
            Of the expected outcome in the row's group, or of a new outcome, which has a residual, too.
        predict_effects : {"posterior", "zero"}, default=None
            As in `predict`; "zero": of the typical group.

        Returns
        -------
        intervals : ndarray of shape (n_samples, 2)
            Lower and upper limits.

        Notes
        -----
        Errors of the fixed effects and of the group's effects are taken jointly; an unknown group adds the variance
        between groups. Quantiles are those of t with Satterthwaite's degrees of freedom for the variance of the error,
        residual ones, or of the normal distribution, as `df` says.
        """
        level = check_level(level)
        if kind not in KINDS:
            raise ValueError(f"kind must be 'mean' or 'observation', got {kind!r}")
        mean, variance, slopes, precision = self._with_errors(X, groups, offset, predict_effects)
        fitted = self._fitted
        if kind == "observation":
            own = fitted.sigma**2 / precision
            variance, slopes = variance + own, slopes + 2.0 * own * np.eye(len(slopes))[:, -1:]
        df = {"residual": self.n_obs_ - len(fitted.fixed_positions), None: None}.get(fitted.df, "variance")
        if isinstance(df, str):
            df = degrees_of_predictions(variance, slopes, fitted.variance_vcov)
        reach = quantiles(level, df) * np.sqrt(variance)
        return np.column_stack([mean - reach, mean + reach])

    def _predicted(self, X, groups, offset, effects):
        """Means of rows, the rows, codes of their groups, the predictor and the kind of effects."""
        check_is_fitted(self)
        effects = self.predict_effects if effects is None else effects
        check_linear_effects(effects)
        rows = self._read_new_rows(X, groups, offset)
        warn_of_rows(self, rows.X)
        codes = self._lookup(rows) if effects == "posterior" else []
        predictor = NumberPredictor.of(self, effective_threads(self.n_threads, rows.X.shape[0]))
        return predictor.means(rows.X, codes, effects, rows.offset), rows, codes, predictor, effects

    def _with_errors(self, X, groups, offset, effects):
        """Means, variances of their errors with derivatives, and precision weights of rows."""
        mean, rows, codes, predictor, effects = self._predicted(X, groups, offset, effects)
        variance = np.empty(mean.size)
        slopes = np.empty((len(self._fitted.variance_vcov), mean.size))
        for part, block, code, _ in predictor.chunks(rows.X, codes):
            variance[part], slopes[:, part] = predictor.errors(block, code, effects)
        precision = np.ones(mean.size) if rows.precision_weight is None else rows.precision_weight
        return mean, variance, slopes, precision

    def residuals(self, X, y, groups=None, *, sample_weight=None, offset=None, kind="conditional", standardise=True):
        """Residuals of rows.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            As in `fit`.
        kind : {"conditional", "marginal"}, default="conditional"
            From the expected outcome in the row's group, or from the fixed part alone.
        standardise : bool, default=True
            Whether to divide by standard deviations: of the residual, or of the outcome given the features alone.

        Returns
        -------
        residuals : Series
        """
        if kind not in ("conditional", "marginal"):
            raise ValueError(f"kind must be 'conditional' or 'marginal', got {kind!r}")
        X, y, groups, sample_weight, offset = self._complete_rows(X, y, groups, sample_weight, offset)
        effects = "posterior" if kind == "conditional" else "zero"
        mean, rows, _, predictor, _ = self._predicted(X, groups, offset, effects)
        left = self._read_target(y) - mean
        if standardise:
            check_precision(self, rows, "standardise=True")
            precision = np.ones(mean.size) if rows.precision_weight is None else rows.precision_weight
            variance = self._fitted.sigma**2 / precision
            if kind == "marginal":
                for factor in predictor.factors:
                    t = factor.units.loadings(np.asarray(rows.X, dtype=np.float64))
                    variance = variance + np.einsum("nq,nq->n", t, t)
            left = left / np.sqrt(variance)
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(left))
        return pd.Series(left, index=index, name=f"{kind}_residual")

    def simulate(self, X, groups=None, n=1, random_state=None, *, offset=None, predict_effects="marginal"):
        """Simulate outcomes from the fitted model.

        Parameters
        ----------
        X, groups, offset
            As in `predict`. Rows with the same label share their random effects; a row without one is a group of its
            own.
        n : int, default=1
        random_state : int, RandomState instance or None, default=None
        predict_effects : {"marginal", "posterior", "zero"}, default="marginal"
            Random effects drawn anew for every group, drawn from each known group's posterior, or none.

        Returns
        -------
        outcomes : ndarray of shape (n, n_samples)
        """
        check_is_fitted(self)
        if predict_effects not in ("marginal", "posterior", "zero"):
            raise ValueError(f"predict_effects must be 'marginal', 'posterior' or 'zero', got {predict_effects!r}")
        rows, random = rows_to_simulate(self, X, groups, n, predict_effects, offset), check_random_state(random_state)
        predictors = simulated_predictors(self._fitted, NumberPredictor.of(self, 1), rows, n, random, predict_effects)
        sd = self._fitted.sigma / np.sqrt(1.0 if rows.precision_weight is None else rows.precision_weight)
        return np.array([eta + sd * random.standard_normal(eta.size) for eta in predictors])

    def update_groups(self, X, y, groups=None, sample_weight=None, keep=False, *, offset=None):
        """Learn the random effects of groups from their rows, without a refit.

        Parameters
        ----------
        X, y, groups, sample_weight, offset
            As in `fit`. Groups may be new or known.
        keep : bool, default=False
            What becomes of groups that the model knows. False: what is known of them are these rows alone. True: these
            rows add to it, exactly so with one factor.

        Returns
        -------
        model : MixedLinearRegression
            A copy that knows these groups, with the same fixed effects and variances. `self` is left as it was.
        """
        observations, factors, encoded, known = self._groups_to_learn(X, y, groups, sample_weight, offset)
        if not keep:
            warn_of_forgotten(factors, encoded, known)
        fitted = self._fitted
        priors = None
        if keep:
            priors = [_prior(*each) for each in zip(factors, fitted.effect_slopes, known, strict=True)]
        structure = Structure(
            [factor.structure(len(levels)) for factor, (_, levels) in zip(factors, encoded, strict=True)],
            fitted.fit_intercept,
            slopes_only=observations.X.shape[1] - fitted.units.n_slopes,
        )
        threads = effective_threads(self.n_threads)
        found = effects_given_fit(observations, structure, fitted, priors=priors, n_threads=threads)
        parts = zip(factors, encoded, found["posteriors"], found["mode_cov"], strict=True)
        changed = [with_levels(factor, levels, posterior, cov) for factor, (_, levels), posterior, cov in parts]
        kept = [lookup_codes(levels, factor.levels) < 0 for factor, (_, levels) in zip(factors, encoded, strict=True)]
        slopes = [np.concatenate([old[stays], new]) for old, stays, new in
                  zip(fitted.effect_slopes, kept, found["effect_slopes"], strict=True)]  # fmt: skip
        return self._knowing(changed, encoded, found["posterior"], effect_slopes=slopes)

    # Inference ---------------------------------------------------------------------------------------------------

    def _with_df(self, df):
        """The model itself, or one with other degrees of freedom."""
        if df == "fit":
            return self
        self._inference_df(df)
        other = copy.copy(self)
        other._fitted = replace(self._fitted, df=df)
        return other

    def conf_int(self, level=0.95, method="wald", *, df="fit", **options):
        """Confidence intervals.

        Parameters
        ----------
        level, method, **options
            As for `MixedLogisticRegression`; `parameters` has "sigma", too. "profile" is of the likelihood, whatever
            the method of the fit was.
        df : {"satterthwaite", "kenward-roger", "residual", None}
            In place of the model's own, for "wald".

        Returns
        -------
        intervals : DataFrame
        """
        return super(LinearModel, self._with_df(df)).conf_int(level, method, **options)

    def wald_test(self, contrast, df="fit"):
        """Test that coefficients, or linear combinations of them, are all 0: F, with the model's degrees of freedom.

        Parameters
        ----------
        contrast : str, list of str, array-like or DataFrame
            As for `MixedLogisticRegression`.
        df : {"satterthwaite", "kenward-roger", "residual", None}
            In place of the model's own. None: chi-squared.

        Returns
        -------
        test : WaldTest
        """
        return super(LinearModel, self._with_df(df)).wald_test(contrast)

    def summary(self, level=0.95, correlation=False, df="fit"):
        """Tables of the fit: coefficients, variance components, fit statistics.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level of the intervals.
        correlation : bool, default=False
            Whether to show the correlation of the estimated fixed effects, too.
        df : {"satterthwaite", "kenward-roger", "residual", None}
            In place of the model's own.

        Returns
        -------
        summary : FitSummary
        """
        check_is_fitted(self)
        return summary_of_linear(self._with_df(df), level, correlation)

    @property
    def variance_partition_(self):
        """Variances: of the fixed effects, of each factor's random effects, of the residual."""
        fitted = self._state
        factors = {factor.name: factor.units.Lambda for factor in fitted.factors}
        return variance_partition(fitted.row_moments, factors, fitted.family, measured=fitted.sigma**2)

    def _inference_df(self, df="fit"):
        """The method of degrees of freedom: of the fit, or another by name."""
        fitted = self._fitted
        df = fitted.df if df == "fit" else df
        if df not in fitted.degrees:
            if df == "kenward-roger":
                raise ValueError(
                    "df='kenward-roger' takes what only its own fit finds: fit with df='kenward-roger', method='reml'"
                )
            raise ValueError(f"df must be 'satterthwaite', 'kenward-roger', 'residual' or None, got {df!r}")
        return fitted.degrees[df]

    def _parameters(self):
        """Every parameter of the model, the residual standard deviation last."""
        return [*super()._parameters(), Parameter("sigma", "random", ())]

    def _objective(self, rows, structure):
        """The log-likelihood of the fit's rows around its maximum, by maximum likelihood."""
        if self._fitted.no_residuals:
            raise ValueError(
                "the fit left no residuals, so that its likelihood has no maximum: there are no profiles of it, and no "
                "steps from it"
            )
        return LinearObjective(LinearLikelihood(self._products_of_fit(rows, structure)))

    def _products_of_fit(self, rows, structure):
        """The cross-products of these rows; an error if they are not those of the fit."""
        fitted = self._fitted
        products = linear_products(rows, structure, n_threads=effective_threads(self.n_threads))
        theta = np.zeros(products.covariance.m)
        if fitted.factors:
            beta = np.zeros(products.n_fixed)  # the covariance alone is asked for
            theta = products.units.internal(beta, np.concatenate(fitted.theta))[products.n_fixed :]
        try:
            value = LinearCriterion(products, fitted.reml).profile_value(theta)
        except FloatingPointError:
            value = np.inf
        if abs(value - self.log_likelihood_) > SAME_ROWS * (1 + abs(self.log_likelihood_)):
            raise ValueError(
                f"these are not the rows of the fit: their log-likelihood is {value:.6f}, and the fit's was "
                f"{self.log_likelihood_:.6f}"
            )
        return products

    def _quantity(self, parameter, units):
        kind = "fixed" if parameter.kind == "fixed" else "random" if parameter.positions else "sigma"
        return linear_quantity(kind, parameter.positions, units)

    def _refit(self, rows, structure, resampling, settings):
        """How a resample is fitted, and the estimates of the fit itself."""
        fitted, parameters = self._fitted, self._parameters()
        if not fitted.no_residuals:
            self._products_of_fit(rows, structure)
        mean = fitted.units.linear_predictor(np.asarray(rows.X, dtype=np.float64))
        mean = mean if rows.offset is None else mean + rows.offset
        factors = [factor.units.natural for factor in fitted.factors]
        if resampling == "parametric":
            draw = NumbersDraw(rows, structure, mean, factors, fitted.sigma)
        else:
            draw = ClusterDraw(rows, structure)
        _, beta, _ = self._fixed_effects()
        covariances = [factor.covariance for factor in fitted.factors]
        estimates = Estimates(parameters[:-1], fitted.fit_intercept).of(beta, covariances)
        refit = LinearRefit(draw, settings | {"reml": fitted.reml}, parameters, fitted.fit_intercept)
        return refit, np.append(estimates, fitted.sigma), None


def check_linear_effects(value):
    if not isinstance(value, str) or value not in EFFECTS:
        raise ValueError(f"predict_effects must be one of 'posterior', 'zero'; got {value!r}")


def _prior(factor, slopes, known):
    """What is known of levels: posteriors and slopes, those of unknown ones N(0, I) and 0."""
    q, at = len(factor.columns), known >= 0
    mean, cov = np.zeros((known.size, q)), np.broadcast_to(np.eye(q), (known.size, q, q)).copy()
    of = np.zeros((known.size, *slopes.shape[1:]))
    posterior = factor.posterior
    mean[at], cov[at], of[at] = posterior.modes[known[at]], posterior.cov[known[at]], slopes[known[at]]
    return type(posterior)(mean, mean, cov), of
