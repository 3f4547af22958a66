"""MixedLogisticRegression: the generalized linear mixed model for binary outcomes."""

from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklmm.design.factors import nested_pairs
from sklmm.design.observations import rows_by_level
from sklmm.design.row_moments import row_moments
from sklmm.diagnostics.normality import LevelLogits
from sklmm.estimators.fit_warnings import error_of_approximation, large_variances, warn_of_fit
from sklmm.estimators.mixed_model import MixedModel
from sklmm.estimators.outcomes import BinaryOutcomes
from sklmm.estimators.reading import check_number
from sklmm.fitted import FittedMixed
from sklmm.inference import criteria
from sklmm.inference.prior_choice import check_priors
from sklmm.likelihood.fit import fit_mixed
from sklmm.passes.threads import effective_threads
from sklmm.prediction.population import marginal_coefficients
from sklmm.prediction.predictor import check_effects


class MixedLogisticRegression(BinaryOutcomes, MixedModel):
    """Mixed-effects (multilevel) logistic regression.

    Generalized linear mixed model: Bernoulli outcomes, a logit, probit or complementary log-log link, normal random
    effects of groups, fitted by maximum marginal likelihood (Laplace or adaptive Gauss-Hermite quadrature).

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
    link : {"logit", "probit", "cloglog"}, default="logit"
        What the linear predictor is of the event's probability p: log(p / (1 - p)), the normal quantile of p, or
        log(-log(1 - p)), the logarithm of a hazard. The last is not symmetric: it matters which class is the event.
    offset_feature : None, str, int or callable, default=None
        The column of X that is added to the linear predictor, such as the logarithm of an exposure: a number whose
        coefficient is 1. It is taken out of X; predictions find it in theirs. None: an offset, if any, comes as
        ``offset=``, to the fit and to predictions.
    positive : label, default=None
        The class that is the event: whose probability the linear predictor, coefficients, summaries and displays
        describe. None is the second one of `classes_`, whose order, and that of predicted probabilities, stays.
    fit_intercept : bool, default=True
        Whether the fixed effects have an intercept.
    n_quadrature : int or "auto", default=1
        1 is the Laplace approximation; k > 1 is adaptive Gauss-Hermite quadrature with k nodes a dimension, for a
        single grouping factor. "auto": as many nodes as make the estimates stand still to 0.01 standard errors, see
        `n_quadrature_`; with several grouping factors, or more than 3 random coefficients, 1.
    priors : None, "soft", "weak" or dict, default=None
        None is maximum likelihood. Else the fit is the mode of likelihood times prior, and standard errors are from its
        curvature. A dict has densities of `sklmm.priors` by class ("fixed": each slope, "intercept", "coefficients":
        all of them jointly, "sd", "variance", "covariance": a term's matrix, "correlation": a term's correlations) or
        by the name that `conf_int` uses ("age", "livch*", "sd_urban|district", "covariance|district"), which says more
        than a class. A density is one of the quantity it is given for, in the units of X, the intercept where all
        features are 0; what has none is flat.

        - "weak": slopes Normal(0, 2.5 / sd(x)), the intercept at the features' means Normal(0, 2.5), standard
          deviations HalfStudentT(3, 2.5), of slopes over sd(z), correlations LKJ(2). Estimates and errors are finite
          where classes are separated.
        - "soft": maximum softly penalised likelihood (Sterzinger and Kosmidis 2023): finite estimates whatever the
          data, by a penalty that vanishes as they grow; standard errors are those of the likelihood there.
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
    group_coefficients_ : dict of str -> Table
        For each factor the coefficients of each level, fixed plus random.
    covariance_ : dict of str -> DataFrame
        For each term the covariance of its random coefficients.
    log_likelihood_ : float
        Of the marginal likelihood, without priors.
    log_prior_, log_posterior_ : float
        Of a fit with priors: their log density at the estimates, and its sum with the log-likelihood. Only with priors.
    priors_ : ModelPriors
        The priors, resolved: a row a density. Only with priors other than "soft".
    aic_, bic_ : float
        Information criteria; `bic_` counts rows. With priors they are from a likelihood that is below its maximum.
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

    def __init__(
        self,
        random_effects=None,
        *,
        group_features=None,
        link="logit",
        offset_feature=None,
        positive=None,
        fit_intercept=True,
        n_quadrature=1,
        priors=None,
        predict_effects="posterior",
        tol=1e-10,
        max_iter=100,
        n_threads=None,
        verbose=0,
    ):
        self.random_effects = random_effects
        self.group_features = group_features
        self.link = link
        self.offset_feature = offset_feature
        self.positive = positive
        self.fit_intercept = fit_intercept
        self.n_quadrature = n_quadrature
        self.priors = priors
        self.predict_effects = predict_effects
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.verbose = verbose

    def _check_parameters(self):
        if not (isinstance(self.n_quadrature, str) and self.n_quadrature == "auto"):
            check_number(self, "n_quadrature", Integral, "an integer >= 1, or 'auto'", lambda value: value >= 1)
        check_effects(self.predict_effects)
        check_priors(self.priors)

    def _estimate(self, training, progress):
        """Fit the model: what `Fitted` holds, and the fitted attributes."""
        nodes = "auto" if self.n_quadrature == "auto" else int(self.n_quadrature)
        factors, products, observations, structure = self._read_groups(training, self._family(), nodes)
        rows, target, weights, codes = training.rows, training.target, training.weights, observations.codes
        names = rows.names[: len(rows.names) - structure.slopes_only]  # of the fixed effects
        fixed_names = ["intercept"] * structure.fit_intercept + names
        priors = self._read_priors(fixed_names, factors, observations, training.design)
        with progress.iterations() as told:
            settings = self._settings(effective_threads(self.n_threads, target.size))
            fit = fit_mixed(observations, structure, **settings, progress=told, compare=True, priors=priors)
        random_intercept_alone = [factor.columns for factor in factors] == [[-1]]
        # of the rows alone what a fit of simulated outcomes needs, unless coefficients have priors
        logits = np.empty(target.size) if random_intercept_alone and priors is None else None
        slopes = fit.beta[int(structure.fit_intercept) :]
        moments = row_moments(rows.X, slopes, fit.effect_units, weights, out=logits, offset=rows.offset)
        large = large_variances(fit, structure, codes, moments.random_moments, target, weights)
        approximation = error_of_approximation(fit, fixed_names, [name for f in factors for name in f.effect_names()])
        warn_of_fit(fit, rows.X, names, large, approximation)

        for factor, *found in zip(factors, fit.lambda_, fit.effect_units, fit.posteriors, fit.mode_cov, strict=True):
            factor.learn(*found)
        level_rows = rows_by_level(codes[0], weights, fit.level_rows) if len(factors) == 1 else None
        level_logits = None if logits is None else LevelLogits(codes[0], logits, weights, level_rows)
        del logits  # as many numbers as rows
        n_parameters = len(fixed_names) - len(fit.aliased) + sum(len(theta) for theta in fit.theta)
        coded = {factor.name: (code, factor.levels) for factor, code in zip(factors, codes, strict=True)}
        fitted = FittedMixed(
            **self._about(training, names, fit, coded),
            family=structure.family,
            value=float(fit.log_likelihood),
            levels=factors[0].levels if len(factors) == 1 else None,
            level_rows=level_rows,
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
            n_second=_second(target, weights, training.columns["event"]),
            large_variances=large,
            approximation=approximation,
            approximation_error=None if fit.more_nodes is None else fit.more_nodes.largest,
            far_maximum=fit.far_maximum,
            priors=priors,
            log_prior=fit.log_prior,
        )
        return fitted, {
            **self._attributes_of(fit),
            "log_likelihood_": fitted.value,
            "aic_": criteria.aic(fitted.value, n_parameters),
            "bic_": criteria.bic(fitted.value, n_parameters, training.n_obs),
            "is_singular_": bool(fit.is_singular),
            "n_quadrature_": int(fit.n_quadrature),
            "n_groups_": dict(fitted.n_groups),
        }

    @property
    def median_odds_ratio_(self):
        """Median odds ratio of each factor; there is none with other links than the logit."""
        return self._median_ratio("odds ratio")

    @property
    def median_hazard_ratio_(self):
        """Median hazard ratio of each factor; there is none with other links than cloglog."""
        return self._median_ratio("hazard ratio")

    def _median_ratio(self, what):
        try:
            return self.variance_partition_.median_ratio(what)
        except ValueError as error:  # so that hasattr and dir can ask
            raise AttributeError(str(error)) from error

    def marginal_coefficients(self, X=None, *, sample_weight=None, offset=None, level=0.95):
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
        offset : array-like of shape (n_samples,), default=None
            As in `fit`.
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
            X, sample_weight, offset = self._complete_rows(X, sample_weight, offset)
        return marginal_coefficients(self, X, sample_weight, level, offset)


def _second(target, weights, event):
    """Number of rows of the second class."""
    of_event = float(target.sum() if weights is None else weights @ target)
    return of_event if event else float(target.size if weights is None else weights.sum()) - of_event
