"""Linear mixed models: formulas, inference with degrees of freedom, the rows again."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklmm.estimators.linear_prediction import LinearPrediction
from sklmm.estimators.mixed_model import MixedModel
from sklmm.estimators.rows_of_fit import SAME_ROWS
from sklmm.inference.bootstrap import ClusterDraw
from sklmm.inference.linear_bootstrap import LinearRefit, NumbersDraw
from sklmm.inference.linear_parameters import linear_quantity
from sklmm.inference.parameters import Estimates, Parameter
from sklmm.inference.variance_partition import variance_partition
from sklmm.likelihood.linear import LinearLikelihood, LinearObjective
from sklmm.likelihood.linear_criterion import LinearCriterion
from sklmm.likelihood.linear_fit import linear_likelihood, linear_products
from sklmm.likelihood.linear_leaving_out import without_linear_clusters
from sklmm.likelihood.linear_limits import unidentified
from sklmm.likelihood.linear_priors import LinearPosterior
from sklmm.passes.threads import effective_threads
from sklmm.reporting.summary import summary_of_linear


class LinearModel(LinearPrediction, MixedModel):
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
        """Test hypotheses about coefficients: F, with the model's degrees of freedom.

        Parameters
        ----------
        contrast : str, list of str, dict, array-like or DataFrame
            As for `MixedLogisticRegression`: "Days = 10", names, a matrix.
        df : {"satterthwaite", "kenward-roger", "residual", None}
            In place of the model's own. None: chi-squared.

        Returns
        -------
        test : WaldTest
        """
        return super(LinearModel, self._with_df(df)).wald_test(contrast)

    def linear_combination(self, combination, level=0.95, df="fit"):
        """Estimates of linear combinations of the coefficients, with standard errors, tests and intervals.

        Parameters
        ----------
        combination, level
            As for `MixedLogisticRegression`.
        df : {"satterthwaite", "kenward-roger", "residual", None}
            In place of the model's own. None: the normal distribution.

        Returns
        -------
        table : Table
        """
        return super(LinearModel, self._with_df(df)).linear_combination(combination, level)

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
        """The log-likelihood of the fit's rows, with its priors, around its maximum, by maximum likelihood."""
        products, priors = self._products_of_fit(rows, structure)[0], self._fitted.priors
        return LinearObjective(
            LinearLikelihood(products) if priors is None else LinearPosterior(products, False, priors)
        )

    def _posterior_engine(self, rows, structure):
        """The likelihood of the fit's rows, of which the posterior is, and the parameters where it is highest."""
        self._products_of_fit(rows, structure)
        return self._engine_of_rows(rows, structure), lambda engine: engine.optimum()[0]

    def _engine_of_rows(self, rows, structure, like=None):
        """How the likelihood of some rows is made, in the units of the fit; `like`: that of the fit's, for others."""
        fitted = self._fitted
        settings = {"units": fitted.units.units, "n_threads": effective_threads(self.n_threads)}
        if like is not None:
            settings |= {"y_units": (like.units.y_center, like.units.y_scale), "keep_all": True}
        return partial(linear_likelihood, rows, structure, **settings)

    def _products_of_fit(self, rows, structure, scale=1.0):
        """Cross-products of the rows of the fit in the units that it had, and its theta; an error for other rows.

        `scale`: what precisions are divided by, so that theta is relative to a row's with this precision.
        """
        fitted, precision = self._fitted, rows.precision
        if fitted.no_residuals:
            raise ValueError(
                "the fit left no residuals, so that its likelihood has no maximum: there are no profiles of it, and no "
                "steps from it"
            )
        settings = {"units": fitted.units.units, "n_threads": effective_threads(self.n_threads)}
        if precision is not None or scale != 1.0:
            precision = (np.ones(rows.y.size) if precision is None else precision) / scale
        products = linear_products(rows, structure, precision=precision, **settings)
        theta = fitted.units.x[products.n_fixed : -1] * np.sqrt(scale / fitted.precision_scale)
        try:
            if fitted.priors is None:
                value = LinearCriterion(products, fitted.reml).profile_value(theta)
            else:
                value = self._value_at_fit(products, theta, scale)
        except FloatingPointError:
            value = np.inf
        if abs(value - self.log_likelihood_) > SAME_ROWS * (1 + abs(self.log_likelihood_)):
            raise ValueError(
                f"these are not the rows of the fit: their log-likelihood is {value:.6f}, and the fit's was "
                f"{self.log_likelihood_:.6f}"
            )
        return products, theta

    def _value_at_fit(self, products, theta, scale):
        """The log-likelihood at the fit, whose coefficients and sigma are not the best ones at its theta."""
        fitted, k = self._fitted, products.n_fixed
        x = fitted.units.x.copy()
        x[products.units.p : k] -= products.y_center
        x[:k] /= products.y_scale
        x[k:-1] = theta
        x[-1] += 0.5 * np.log(fitted.precision_scale / scale) - np.log(products.y_scale)
        return LinearLikelihood(products, fitted.reml).evaluate(x)[0]

    def _without_clusters(self, what, *rows):
        """Fixed effects (n_levels, n) and Lambda (n_levels, q, q) of the model without each group."""
        beta, Lambda = self._linear_without(what, *rows).natural()
        return beta[:-1], Lambda[:-1]

    def _linear_without(self, what, *rows):
        """The model without each group: a `LinearWithout`."""
        fitted = self._fitted
        if fitted.priors is not None:
            raise ValueError(
                f"{what} steps from the maximum of a likelihood, and this linear model was fitted with priors: fit it "
                "without each group, or without priors"
            )
        if len(fitted.levels) == 1:
            raise ValueError(f"there is one group only: {what} has no others to fit to")
        products, theta = self._products_of_fit(*self._rows_of_fit(what, *rows), fitted.precision_scale)
        held, _ = unidentified(products, fitted.reml)
        return without_linear_clusters(products, theta, fitted.reml, held, fitted.precision_scale)

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
