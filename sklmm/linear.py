"""MixedLinearRegression and GEELinearRegression: the models of measured outcomes."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.factors import nested_pairs
from sklmm.design.observations import rows_by_level
from sklmm.design.row_moments import row_moments
from sklmm.estimators.fit_warnings import warn_of_linear_fit
from sklmm.estimators.linear_model import LinearModel
from sklmm.estimators.linear_prediction import check_linear_effects
from sklmm.estimators.marginal_model import MarginalModel
from sklmm.estimators.outcomes import NumericOutcomes
from sklmm.estimators.reading import nan_where_incomplete
from sklmm.estimators.running import with_callbacks
from sklmm.fitted import FittedLinear
from sklmm.inference import criteria
from sklmm.inference.degrees_of_freedom import degrees_of_fit
from sklmm.inference.prior_choice import check_priors
from sklmm.likelihood.linear_fit import fit_linear
from sklmm.passes.threads import effective_threads

METHODS = ("reml", "ml")
DEGREES = ("satterthwaite", "kenward-roger", "residual", None)


class MixedLinearRegression(NumericOutcomes, LinearModel):
    """Linear mixed-effects (multilevel) regression.

    Outcomes are measured numbers; groups have normal random effects, and residuals are normal. Fitted by restricted or
    plain maximum likelihood from cross-products of one pass over the rows.

    Parameters
    ----------
    random_effects : None, str or list of str, default=None
        None is a random intercept for every grouping factor. Else lme4's bar notation, as for
        `MixedLogisticRegression`: ``"1 + days | subject"``, ``["1 | student", "1 | lecturer"]``.
    group_features : None, str, int, list of them, or callable, default=None
        The columns of X that hold groups. They are taken out of X. None: groups, if any, come as ``groups=``.
    offset_feature : None, str, int or callable, default=None
        The column of X that is added to the expected outcome, a number whose coefficient is 1. None: an offset, if any,
        comes as ``offset=``.
    precision_weight_feature : None, str, int or callable, default=None
        The column of X that the residual variance is divided by, lme4's ``weights``: of a mean of w measurements w.
        None: such weights, if any, come as ``precision_weight=``.
    fit_intercept : bool, default=True
    method : {"reml", "ml"}, default="reml"
        Restricted maximum likelihood, whose variances allow for the coefficients being estimated, or plain maximum
        likelihood, which likelihood ratio tests of coefficients and profiles take.
    df : {"satterthwaite", "kenward-roger", "residual", None}, default="satterthwaite"
        Degrees of freedom of t and F tests and of intervals; None is the normal distribution. "kenward-roger", for
        REML, adjusts the covariance of the coefficients, too, and costs more.
    priors : None, "weak" or dict, default=None
        None is maximum likelihood. Else the fit is the mode of likelihood times prior. A dict has densities of
        `sklmm.priors` by class ("fixed": each slope, "intercept", "coefficients": all of them jointly, "sd",
        "variance", "covariance": a term's matrix, "correlation": a term's correlations, "residual_sd") or by the name
        that `conf_int` uses ("Days", "sd_Days|Subject", "covariance|Subject", "sigma"), which says more than a class. A
        density is one of the quantity it is given for, in the units of X and y, the intercept where all features are 0;
        what has none is flat. "weak", with mean m and standard deviation s of the outcome: slopes
        Normal(0, 2.5 s / sd(x)), the intercept at the features' means Normal(m, 2.5 s), standard deviations
        HalfStudentT(3, 2.5 s), of slopes over sd(z), correlations LKJ(2), the residual's Exponential(1 / s).
        Restricted likelihood allows for coefficients with flat priors: beside narrow ones take ``method="ml"``.
        Standard errors of coefficients count their priors, at the estimated variances.
    predict_effects : {"posterior", "zero"}, default="posterior"
        What a prediction is: of the row's group, where it is known (unknown ones have effects of 0), or of the typical
        group, whoever the group is.
    tol : float, default=1e-10
        The fit is done when a Newton step promises less than this in log-likelihood.
    max_iter : int, default=100
    n_threads : int or None, default=None
        Number of threads; None uses every available CPU, or as many as OMP_NUM_THREADS says, and one for few rows.
        Results do not depend on it.
    verbose : int, default=0
        1 prints a line an iteration.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of X, grouping columns included.
    feature_names_in_ : ndarray of str
        Names of all columns of X. Only where X had names.
    coef_ : ndarray of shape (n_fixed,)
        Fixed effects; 0 for columns that are constant or collinear with others.
    intercept_ : float
    vcov_ : DataFrame
        Covariance of the fixed effects.
    sigma_ : float
        Residual standard deviation.
    random_effects_ : dict of str -> DataFrame
        For each term the conditional modes: a row a level, a column a random coefficient.
    random_effects_sd_ : dict of str -> DataFrame
        Their conditional standard deviations, the fixed effects taken as known.
    group_coefficients_ : dict of str -> Table
        For each factor the coefficients of each level, fixed plus random.
    covariance_ : dict of str -> DataFrame
        For each term the covariance of its random coefficients.
    log_likelihood_ : float
        Restricted where ``method="reml"``, as lme4 has it.
    log_prior_, log_posterior_ : float
        Of a fit with priors: their log density at the estimates, and its sum with the log-likelihood. Only with priors.
    priors_ : ModelPriors
        The priors, resolved: a row a density. Only with priors.
    ml_log_likelihood_ : float
        Of maximum likelihood, at the same estimates, `sigma_` among them (lme4's ``logLik(model, REML=FALSE)`` takes
        the best sigma beside the others).
    aic_, bic_ : float
        From `log_likelihood_`, which with priors is below its maximum; `bic_` counts rows.
    n_iter_ : int
    fit_report_ : FitReport
    converged_ : bool
    is_singular_ : bool
        Whether a variance is on the boundary. The fit is valid.
    variance_partition_ : VariancePartition
        Variances of the fixed effects, of each factor's random effects, of the residual.
    icc_ : float
        Intraclass correlation, of all factors together.
    r2_ : R2
        Nakagawa's R2, `marginal` and `conditional`.
    n_groups_ : dict of str -> int
    n_obs_ : float
        Number of rows, or the sum of their weights.

    References
    ----------
    Bates D, Maechler M, Bolker B, Walker S (2015). Fitting linear mixed-effects models using lme4. Journal of
    Statistical Software 67.

    Examples
    --------
    >>> from sklmm import MixedLinearRegression
    >>> from sklmm.datasets import load_sleepstudy
    >>> data = load_sleepstudy(as_frame=True).frame
    >>> model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data)
    >>> model.coef_.round(3)
    array([10.467])
    """

    def __init__(
        self,
        random_effects=None,
        *,
        group_features=None,
        offset_feature=None,
        precision_weight_feature=None,
        fit_intercept=True,
        method="reml",
        df="satterthwaite",
        priors=None,
        predict_effects="posterior",
        tol=1e-10,
        max_iter=100,
        n_threads=None,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.group_features = group_features
        self.offset_feature = offset_feature
        self.precision_weight_feature = precision_weight_feature
        self.fit_intercept = fit_intercept
        self.method = method
        self.df = df
        self.priors = priors
        self.predict_effects = predict_effects
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.verbose = verbose

    @with_callbacks
    def fit(self, X, y=None, groups=None, sample_weight=None, offset=None, precision_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            A model that `from_formula` has made, and a clone of it, reads its formula again where X is a data frame.
        y : array-like of shape (n_samples,)
            Numbers. None, for a model with a formula and a data frame: the formula's response.
        groups : array-like, default=None
            Group labels: 1-D for one factor, or a DataFrame or 2-D array with a column a factor. Not
            together with `group_features`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row counts: weight 2 is the row twice, 0 is the row left out.
        offset : array-like of shape (n_samples,), default=None
            What is added to the expected outcome. Not together with `offset_feature`.
        precision_weight : array-like of shape (n_samples,), default=None
            What the residual variance is divided by. Not together with `precision_weight_feature`.

        Returns
        -------
        self : MixedLinearRegression
        """
        by_row = {"groups": groups, "sample_weight": sample_weight, "offset": offset}
        return self._fit(X, y, **by_row, precision_weight=precision_weight)

    def _check_parameters(self):
        if self.method not in METHODS:
            raise ValueError(f"method must be 'reml' or 'ml', got {self.method!r}")
        if self.df not in DEGREES:
            raise ValueError(f"df must be 'satterthwaite', 'kenward-roger', 'residual' or None, got {self.df!r}")
        if self.df == "kenward-roger" and self.method != "reml":
            raise ValueError("df='kenward-roger' is for restricted maximum likelihood: set method='reml'")
        check_linear_effects(self.predict_effects)
        check_priors(self.priors, soft=False)
        if self.priors is not None and self.df == "kenward-roger":
            raise ValueError("df='kenward-roger' is for fits without priors: take df='satterthwaite'")

    def _estimate(self, training, progress):
        """Fit the model: what `Fitted` holds, and the fitted attributes."""
        factors, products, observations, structure = self._read_groups(training, self._family())
        rows, weights, codes = training.rows, training.weights, observations.codes
        reml = self.method == "reml"
        names = rows.names[: len(rows.names) - structure.slopes_only]  # of the fixed effects
        fixed_names = ["intercept"] * structure.fit_intercept + names
        priors = self._read_priors(fixed_names, factors, observations, training.design)
        with progress.iterations() as told:
            settings = self._settings(effective_threads(self.n_threads, training.target.size))
            adjusts = self.df == "kenward-roger"
            how = {"reml": reml, "kenward_roger": adjusts, "priors": priors}
            fit = fit_linear(observations, structure, **how, **settings, progress=told)
        warn_of_linear_fit(fit, rows.X, names)
        for factor, *found in zip(factors, fit.lambda_, fit.effect_units, fit.posteriors, fit.mode_cov, strict=True):
            factor.learn(*found)
        slopes = fit.beta[int(structure.fit_intercept) :]
        coded = {factor.name: (code, factor.levels) for factor, code in zip(factors, codes, strict=True)}
        moments = fit.row_moments
        if moments is None:
            moments = row_moments(rows.X, slopes, fit.effect_units, weights, offset=rows.offset)
        n_variances = sum(len(theta) for theta in fit.theta) + 1
        fitted = FittedLinear(
            **self._about(training, names, fit, coded),
            family=structure.family,
            value=float(fit.log_likelihood),
            levels=factors[0].levels if len(factors) == 1 else None,
            level_rows=rows_by_level(codes[0], weights, fit.level_rows) if len(factors) == 1 else None,
            factors=factors,
            products=products,
            theta=fit.theta,
            vcov=fit.joint_vcov(),
            robust_vcov=fit.robust_vcov,
            posterior=fit.posterior,
            units=replace(fit.units, covariance=_standardised_covariance(fit)),
            nesting=nested_pairs(structure.factors, codes),
            row_moments=moments,
            sigma=fit.sigma,
            reml=reml,
            degrees=degrees_of_fit(fit, adjusts),
            df=self.df,
            fixed_covariance=fit.fixed_covariance,
            fixed_gradient=fit.fixed_gradient,
            fixed_positions=fit.fixed_positions,
            effect_slopes=fit.effect_slopes,
            variance_vcov=fit.variance_vcov,
            precision_scale=fit.precision_scale,
            no_residuals=fit.no_residuals,
            had_precision=rows.precision_weight is not None,
            priors=None if fit.log_prior is None else priors,  # they do not count beside no residuals
            log_prior=fit.log_prior,
        )
        return fitted, {
            **self._attributes_of(fit),
            "sigma_": fit.sigma,
            "log_likelihood_": fitted.value,
            "ml_log_likelihood_": float(fit.ml_log_likelihood),
            "aic_": criteria.aic(fitted.value, fit.rank + n_variances),
            "bic_": criteria.bic(fitted.value, fit.rank + n_variances, training.n_obs),
            "is_singular_": bool(fit.is_singular),
            "n_quadrature_": 1,
            "n_groups_": dict(fitted.n_groups),
        }


def _standardised_covariance(fit):
    """Covariance of (fixed effects, theta), of standardised columns; 0 for what was not estimated."""
    n, m = fit.units.n_slopes + int(fit.units.fit_intercept), len(fit.variance_vcov) - 1
    out = np.zeros((n + m, n + m))
    out[np.ix_(fit.fixed_positions, fit.fixed_positions)] = fit.fixed_covariance
    out[n:, n:] = fit.variance_vcov[:m, :m]
    return out


class GEELinearRegression(NumericOutcomes, MarginalModel):
    """Marginal linear regression by generalized estimating equations (GEE).

    Measured outcomes of rows that come in groups: coefficients describe the average over the population; rows of a
    group may be correlated in any way, and standard errors allow for it.

    Parameters
    ----------
    correlation : str, array-like or WorkingCorrelation, default="exchangeable"
        The working correlation of the rows of a group, as for `GEELogisticRegression`.
    group_features : None, str, int or callable, default=None
        The column of X that holds groups. It is taken out of X. None: groups, if any, come as ``groups=``. Without
        groups every row is one of its own.
    time_feature : None, str, int or callable, default=None
        The column of X that holds times: numbers or dates, different within a group. It is taken out of X. None:
        times, if any, come as ``time=``.
    offset_feature : None, str, int or callable, default=None
        The column of X that is added to the expected outcome. None: an offset, if any, comes as ``offset=``.
    fit_intercept : bool, default=True
    cov_type : str, default="robust"
        Kind of `vcov_`: "robust" (the sandwich), "naive", or the sandwich corrected for few groups:
        "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel".
    dispersion : "estimate" or float, default="estimate"
        The variance of an outcome. It enters naive covariances.
    ddof_correction : bool, default=True
        True: moments are divided by their number less the number of coefficients. False: geepack's definitions.
    tol : float, default=1e-4
        The largest error of a coefficient that may be left, in standard errors. Up to 200,000 rows the fit goes on to
        rounding error.
    max_iter : int, default=100
    n_threads : int or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where X had names.
    coef_ : ndarray of shape (n_fixed,)
        Coefficients; 0 for columns that are constant or collinear with others.
    intercept_ : float
    vcov_ : DataFrame
        Covariance of the coefficients, of kind `cov_type`.
    correlation_params_ : ndarray of shape (n_parameters,)
    working_correlation_ : ndarray
    correlation_times_ : ndarray
    dispersion_ : float
        Variance of the residuals.
    qic_, qicu_, cic_ : float
        Pan's criteria; QIC and QICu are in the outcome's units, as geepack's.
    quasi_likelihood_ : float
    n_iter_ : int
    fit_report_ : FitReport
    converged_ : bool
    n_groups_ : dict of str -> int
    cluster_sizes_ : tuple of int
        Rows of the smallest and of the largest group.
    n_obs_ : float
    df_resid_ : int or None
        With fewer than 50 groups tests and intervals use t with this many degrees of freedom.

    References
    ----------
    Liang K-Y, Zeger SL (1986). Longitudinal data analysis using generalized linear models. Biometrika 73, 13-22.

    Examples
    --------
    >>> from sklmm import GEELinearRegression
    >>> from sklmm.datasets import load_sleepstudy
    >>> data = load_sleepstudy(as_frame=True).frame
    >>> model = GEELinearRegression.from_formula("Reaction ~ Days", data, groups="Subject")
    >>> model.coef_.round(3)
    array([10.467])
    """

    def __init__(
        self,
        correlation="exchangeable",
        *,
        group_features=None,
        time_feature=None,
        offset_feature=None,
        fit_intercept=True,
        cov_type="robust",
        dispersion="estimate",
        ddof_correction=True,
        tol=1e-4,
        max_iter=100,
        n_threads=None,
        verbose=0,
    ):
        self.correlation = correlation
        self.group_features = group_features
        self.time_feature = time_feature
        self.offset_feature = offset_feature
        self.fit_intercept = fit_intercept
        self.cov_type = cov_type
        self.dispersion = dispersion
        self.ddof_correction = ddof_correction
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.verbose = verbose

    @nan_where_incomplete
    def predict(self, X, groups=None, *, offset=None):
        """Expected outcomes, averaged over the population.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
        groups : array-like, default=None
            Not needed; ignored.
        offset : array-like of shape (n_samples,), default=None
            What is added to the expected outcome, for a model whose fit got one in this way.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
        """
        return self._linear_predictor(X, offset, None)

    def residuals(self, X, y=None, *, offset=None, standardise=True):
        """Residuals of rows from the expected outcomes.

        Parameters
        ----------
        X, y, offset
            As in `fit`. A model with a formula finds its outcome in a data frame.
        standardise : bool, default=True
            Whether to divide by the standard deviation of an outcome.

        Returns
        -------
        residuals : Series
        """
        check_is_fitted(self)
        X, y, offset = self._complete_rows(X, y, offset)
        X, y, _, _ = self._rows_with_outcomes(X, y, None, None)
        left = self._read_target(y) - self.predict(X, offset=offset)
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(left))
        return pd.Series(left / np.sqrt(self.dispersion_) if standardise else left, index=index, name="residual")
