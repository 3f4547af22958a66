"""MixedLogisticRegression: the generalized linear mixed model for binary outcomes."""

import warnings
from dataclasses import replace
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.factors import nested_pairs, plan_factors
from sklmm.design.formula import FormulaRecipe
from sklmm.design.grouping import encode_groups
from sklmm.design.observations import rows_by_level
from sklmm.design.row_moments import row_moments
from sklmm.design.structure import Observations, Structure
from sklmm.diagnostics.normality import LevelLogits
from sklmm.estimators.fit_warnings import (
    error_of_approximation,
    large_variances,
    warn_of_equal_partitions,
    warn_of_fit,
    warn_of_many_effects,
)
from sklmm.estimators.grouped import GroupedClassifier
from sklmm.estimators.mixed_inference import MixedInference
from sklmm.estimators.mixed_prediction import MixedPrediction
from sklmm.estimators.reading import check_number
from sklmm.estimators.running import Progress, with_callbacks
from sklmm.exceptions import NoGroupsWarning
from sklmm.families import LOGIT
from sklmm.fitted import FittedMixed
from sklmm.inference import criteria
from sklmm.likelihood.fit import fit_mixed
from sklmm.passes.threads import effective_threads
from sklmm.prediction.population import marginal_coefficients
from sklmm.prediction.predictor import check_effects
from sklmm.reporting.summary import summary_of_mixed

FEWEST_ROWS = 1e-3  # the log-likelihood of fewer is hardly above what fits leave to gain


class MixedLogisticRegression(MixedPrediction, MixedInference, GroupedClassifier):
    """Mixed-effects (multilevel) logistic regression.

    Generalized linear mixed model: Bernoulli outcomes, logit link, normal random effects of groups, fitted by
    maximum marginal likelihood (Laplace or adaptive Gauss-Hermite quadrature).

    Parameters
    ----------
    random_effects : None, str or list of str, default=None
        None is a random intercept for every grouping factor. Else lme4's bar notation, brackets
        optional: ``"1 + age | district"``, ``"age || id"`` (uncorrelated), ``"0 + age | id"``,
        ``"1 | urban:district"``, ``"1 | school/class"``, or a list of such terms. Left of the bar stand
        numeric features of X and products of them (``age:urban``; ``age*urban`` is short for both and their product),
        right of it grouping columns and, within an interaction, also features of X. Columns without names are ``x0``,
        ``x1``, ...
    group_features : None, str, int, list of them, or callable, default=None
        The columns of X that hold groups. They are taken out of X and never used as numbers. A callable
        gets X and returns columns, like scikit-learn's column selectors. None: groups, if any, come as
        ``groups=``.
    fit_intercept : bool, default=True
        Whether the fixed effects have an intercept.
    n_quadrature : int or "auto", default=1
        1 is the Laplace approximation; k > 1 is adaptive Gauss-Hermite quadrature with k nodes a dimension, for a
        single grouping factor. "auto": as many nodes as make the estimates stand still to 0.01 standard errors, see
        `n_quadrature_`; with several grouping factors, or more than 3 random coefficients, 1.
    predict_effects : {"posterior", "mode", "zero", "marginal"}, default="posterior"
        What a predicted probability is, for a row of a known group / of an unknown one:

        - "posterior": averaged over the group's posterior / over the population of groups;
        - "mode": at the group's conditional modes / at 0;
        - "zero": at 0, the typical group, whoever the group is;
        - "marginal": averaged over the population of groups, whoever the group is.
    tol : float, default=1e-10
        The fit is done when a Newton step promises less than this in log-likelihood.
    max_iter : int, default=100
        Most outer (Newton) iterations.
    n_threads : int or None, default=None
        Number of threads; None uses every available CPU, or as many as OMP_NUM_THREADS says, and one for few rows.
        Results do not depend on it. A forked process uses one: it has no threads but the one that forked.
    verbose : int, default=0
        1 prints a line an outer iteration.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The class labels; probabilities are those of the second.
    n_features_in_ : int
        Number of columns of X, grouping columns included.
    feature_names_in_ : ndarray of str
        Names of all columns of X. Only where X had names.
    coef_ : ndarray of shape (1, n_fixed)
        Fixed effects; 0 for columns that are constant or collinear with others. Columns that are there for random
        slopes alone, behind those of the fixed effects, have none.
    intercept_ : ndarray of shape (1,)
    vcov_ : DataFrame
        Covariance of the fixed effects, from the joint observed information of fixed effects and covariance
        parameters.
    random_effects_ : dict of str -> DataFrame
        For each term the conditional modes: a row a level, a column a random coefficient.
    random_effects_sd_ : dict of str -> DataFrame
        Their conditional standard deviations.
    covariance_ : dict of str -> DataFrame
        For each term the covariance of its random coefficients.
    log_likelihood_ : float
        Of the marginal likelihood.
    aic_, bic_ : float
        Information criteria; `bic_` counts rows.
    n_iter_ : int
        Number of outer iterations.
    fit_report_ : FitReport
        History, full passes over the data, final decrement and the verdict in words.
    converged_ : bool
    is_singular_ : bool
        Whether a variance is on the boundary. The fit is valid.
    n_quadrature_ : int
        Quadrature nodes a dimension of the fit; 1 is Laplace's approximation.
    variance_partition_ : VariancePartition
        Variances on the latent scale: of the fixed effects, of each factor's random effects, of the error.
    icc_ : float
        Intraclass correlation on the latent scale, of all factors together.
    median_odds_ratio_ : Series
        Of each factor: how far the odds of two of its groups are apart.
    r2_ : R2
        Nakagawa's R2, `marginal` and `conditional`.
    n_groups_ : dict of str -> int
        Number of levels of each factor.
    n_obs_ : float
        Number of rows, or the sum of their weights.

    Notes
    -----
    Groups reach the model through one of two doors: as columns of X (`group_features`), which works
    everywhere in scikit-learn, scorers and meta-estimators included; or as metadata (``groups=``), which with
    metadata routing enabled is requested by default.

    A fitted model holds no training rows. With several grouping factors it also holds what determines the posterior
    covariance across them: for nested factors a few numbers a level; for crossed ones a triangular matrix over the
    levels of all factors but the largest, and a number for each pair of levels that occurred together.

    Examples
    --------
    >>> import numpy as np
    >>> from sklmm import MixedLogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(100), 20)
    >>> X = rng.normal(size=(2000, 2))
    >>> logit = X[:, 0] + rng.normal(size=100)[groups]
    >>> y = rng.random(2000) < 1 / (1 + np.exp(-logit))
    >>> model = MixedLogisticRegression().fit(X, y, groups=groups)
    >>> model.predict_proba(X[:1], groups=groups[:1]).shape
    (1, 2)
    """

    __metadata_request__predict = {"groups": True}
    __metadata_request__predict_proba = {"groups": True}
    __metadata_request__predict_log_proba = {"groups": True}
    __metadata_request__decision_function = {"groups": True}
    __metadata_request__score = {"groups": True}

    def __init__(
        self,
        random_effects=None,
        *,
        group_features=None,
        fit_intercept=True,
        n_quadrature=1,
        predict_effects="posterior",
        tol=1e-10,
        max_iter=100,
        n_threads=None,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.group_features = group_features
        self.fit_intercept = fit_intercept
        self.n_quadrature = n_quadrature
        self.predict_effects = predict_effects
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.verbose = verbose

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
        model : MixedLogisticRegression
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
        if "random_effects" in params or "group_features" in params:
            raise ValueError("random effects and groups are the formula's: write them as terms such as (1 | district)")
        named = sample_weight if isinstance(sample_weight, str) else None
        recipe = FormulaRecipe(formula, sample_weight=named, missing=missing)
        design, arguments = recipe.read(data, sample_weight=sample_weight)
        terms = design.random_effects or None
        model = cls(terms, **{"fit_intercept": design.fit_intercept, **params})
        model._recipe, model._reading = replace(recipe, random_effects=terms), (design, arguments)
        return model.fit(data)

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
    def fit(self, X, y=None, groups=None, sample_weight=None):
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

        Returns
        -------
        self : MixedLogisticRegression
        """
        self._check_common_parameters()
        if not (isinstance(self.n_quadrature, str) and self.n_quadrature == "auto"):
            check_number(self, "n_quadrature", Integral, "an integer >= 1, or 'auto'", lambda value: value >= 1)
        check_effects(self.predict_effects)
        design, (X, y, groups, sample_weight, _) = self._through_formula(X, y, groups, sample_weight)
        progress = Progress(self, X, y, {"groups": groups, "sample_weight": sample_weight})

        rows, target, weights, state, columns = self._read_training_rows(X, y, groups, sample_weight)
        random_effects = self.random_effects if design is None else design.random_effects or None
        factors, products = self._plan_factors(rows, random_effects)
        rows.add_products(products)
        slopes_only = len(products) if design is None else design.n_slopes_only
        names = rows.names[: len(rows.names) - slopes_only]  # of the fixed effects
        codes = []
        for factor in factors:
            code, factor.levels = encode_groups(factor.labels(rows.column), factor.name)
            codes.append(code)
        n_obs = state["n_obs_"]
        if n_obs < FEWEST_ROWS:
            raise ValueError(
                f"sample_weight counts rows, and these add up to {n_obs:.3g}; fewer than {FEWEST_ROWS:g} are too few "
                "to fit anything to. Weights that are no counts can be divided by their mean"
            )
        warn_of_many_effects(factors, n_obs)

        nodes = "auto" if self.n_quadrature == "auto" else int(self.n_quadrature)
        structure = Structure([factor.structure() for factor in factors], bool(self.fit_intercept), nodes, slopes_only)
        warn_of_equal_partitions(structure.factors, codes, [factor.names_by_column() for factor in factors])
        with progress.iterations() as told:
            fit = fit_mixed(
                Observations(rows.X, target, codes, weights),
                structure,
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                n_threads=effective_threads(self.n_threads, target.size),
                progress=told,
                compare=True,
            )
        n_fixed = len(names) + bool(self.fit_intercept)
        slopes = fit.beta[n_fixed - len(names) :]
        random_intercept_alone = [factor.columns for factor in factors] == [[-1]]
        logits = np.empty(target.size) if random_intercept_alone else None
        moments = row_moments(rows.X, slopes, fit.effect_units, weights, out=logits)
        large = large_variances(fit, structure.factors, codes, moments.random_moments, target, weights)
        fixed_names = ["intercept"] * bool(self.fit_intercept) + names
        approximation = error_of_approximation(fit, fixed_names, [name for f in factors for name in f.effect_names()])
        warn_of_fit(fit, rows.X, names, large, approximation)

        for factor, *found in zip(factors, fit.lambda_, fit.effect_units, fit.posteriors, fit.mode_cov, strict=True):
            factor.learn(*found)
        level_rows = rows_by_level(codes[0], weights, fit.level_rows) if len(factors) == 1 else None
        level_logits = None if logits is None else LevelLogits(codes[0], logits, weights, level_rows)
        del logits  # as many numbers as rows
        n_parameters = n_fixed - len(fit.aliased) + sum(len(theta) for theta in fit.theta)
        coded = {factor.name: (code, factor.levels) for factor, code in zip(factors, codes, strict=True)}
        n_groups = {factor.name: len(factor.levels) for factor in factors}
        fitted = FittedMixed(
            fixed_names=fixed_names,
            fit_intercept=bool(self.fit_intercept),
            family=LOGIT,
            value=float(fit.log_likelihood),
            separated=["the intercept" if j < 0 else names[j] for j in fit.separated],
            formula=design,
            levels=factors[0].levels if len(factors) == 1 else None,
            influence=fit.influence,
            level_rows=level_rows,
            **columns,
            **self._kept_of_rows(rows, names, target, weights, coded, fit.aliased),
            factors=factors,
            products=products,
            theta=fit.theta,
            vcov=fit.vcov,
            robust_vcov=fit.robust_vcov,
            posterior=fit.posterior,
            units=fit.units,
            nesting=nested_pairs(structure.factors, codes),
            row_moments=moments,
            level_logits=level_logits,
            n_groups=n_groups,
            n_successes=float(target.sum() if weights is None else weights @ target),
            large_variances=large,
            approximation=approximation,
        )
        state.update(
            coef_=slopes[None].copy(),
            intercept_=fit.beta[:1].copy() if self.fit_intercept else np.zeros(1),
            log_likelihood_=fitted.value,
            aic_=criteria.aic(fitted.value, n_parameters),
            bic_=criteria.bic(fitted.value, n_parameters, n_obs),
            n_iter_=int(fit.report.n_iter),
            fit_report_=fit.report,
            converged_=bool(fit.report.converged),
            is_singular_=bool(fit.is_singular),
            n_quadrature_=int(fit.n_quadrature),
            n_groups_=dict(n_groups),
        )
        self._set_fitted(fitted, state)
        progress.finish()
        return self

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
        warnings.warn(
            "fit got no groups: this is plain logistic regression. Name the grouping columns of X in "
            "group_features, or pass groups= (to meta-estimators: with metadata routing enabled)",
            NoGroupsWarning,
            stacklevel=4,
        )
        return [], {}

    def marginal_coefficients(self, X=None, *, sample_weight=None, level=0.95):
        """Population-averaged coefficients, to set beside those of `GEELogisticRegression`.

        A mixed model's coefficients compare members of one group. These compare averages over the population of groups:
        the probability of each row is averaged over the random effects, and the logits of these averages are regressed
        on the features by least squares (Hedeker et al. 2018). For a random intercept with variance v they are about
        1 / sqrt(1 + 0.346 v) of the mixed model's (Zeger et al. 1988).

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features), default=None
            The rows to average over, as `predict_proba` takes them: as a rule those of the fit. Groups play no part.
            None: what the fit keeps of its rows, mean and variance of the linear predictor, as if it were normal, and
            the mean variance of the random effects. Close for random intercepts; where slopes are random, averages bend
            in ways that only rows show.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows. None is the column of weights that the formula of the model names, where X has it.
        level : float, default=0.95

        Returns
        -------
        coefficients : DataFrame
            A row a coefficient; columns "estimate", "std_error" (delta method, from the covariance of fixed effects and
            covariance parameters), "z", "p_value", "lower", "upper", "odds_ratio", "odds_ratio_lower",
            "odds_ratio_upper".

        References
        ----------
        Hedeker D, du Toit SHC, Demirtas H, Gibbons RD (2018). A note on marginalization of regression parameters from
        mixed models of binary outcomes. Biometrics 74, 354-361.

        Zeger SL, Liang K-Y, Albert PS (1988). Models for longitudinal data: a generalized estimating equation approach.
        Biometrics 44, 1049-1060.
        """
        check_is_fitted(self)
        if X is not None:
            X, sample_weight = self._complete_rows(X, sample_weight)
        return marginal_coefficients(self, X, sample_weight, level)

    # What the fit says, made when it is asked for -----------------------------------------------------------

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
