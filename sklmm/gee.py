"""GEELogisticRegression: the marginal model for clustered binary outcomes, by generalized estimating equations."""

import warnings
from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklmm.design.formula import FormulaRecipe
from sklmm.design.grouping import encode_groups
from sklmm.design.observations import read_times, rows_by_level
from sklmm.estimating.correlation import resolve_correlation
from sklmm.estimating.scoring import fit_gee
from sklmm.estimators.fit_warnings import warn_of_labels, warn_of_marginal_fit, warn_of_row_order
from sklmm.estimators.grouped import GroupedClassifier
from sklmm.estimators.marginal_inference import MarginalInference
from sklmm.estimators.marginal_prediction import MarginalPrediction
from sklmm.estimators.reading import check_number
from sklmm.estimators.running import Progress, with_callbacks
from sklmm.exceptions import NoGroupsWarning
from sklmm.families import LOGIT
from sklmm.fitted import FittedMarginal
from sklmm.inference import criteria
from sklmm.inference.sandwich import Meats, check_cov_type, covariance
from sklmm.messages import shown_label
from sklmm.passes.threads import effective_threads
from sklmm.reporting.summary import summary_of_gee

FEW_CLUSTERS = 50  # below this many, tests and intervals use t


class GEELogisticRegression(MarginalPrediction, MarginalInference, GroupedClassifier):
    """Marginal logistic regression by generalized estimating equations (GEE).

    The coefficients describe the average over the population, not a member of it; rows of a group may be correlated
    in any way, and standard errors allow for it. The working correlation is a guess that makes the estimates precise
    where it is good and leaves them consistent where it is not.

    Parameters
    ----------
    correlation : str, array-like or WorkingCorrelation, default="exchangeable"
        The working correlation of the rows of a group:

        - "independence": none; the estimates of plain logistic regression;
        - "exchangeable": the same for every two rows;
        - "ar1": alpha^|t_j - t_k|, with real times;
        - "unstructured": one for every two times;
        - "m-dependent": one for rows next to each other in time, 0 beyond; for m lags
          ``sklmm.estimating.MDependent(m)``;
        - a correlation matrix, or ``sklmm.estimating.Fixed(matrix, times)`` ("fixed"): given, not estimated;
        - an instance of a subclass of ``sklmm.estimating.WorkingCorrelation``.
    group_features : None, str, int or callable, default=None
        The column of X that holds groups. It is taken out of X and never used as a number. A callable gets X and
        returns the column. None: groups, if any, come as ``groups=``. Without groups every row is one of its own.
    time_feature : None, str, int or callable, default=None
        The column of X that holds times: numbers or dates, different within a group. It is taken out of X; a time
        that is a covariate, too, needs a column of its own. None: times, if any, come as ``time=``.
    fit_intercept : bool, default=True
    cov_type : str, default="robust"
        Kind of `vcov_`, which tests and intervals rest on: "robust" (the sandwich), "naive" (which trusts the working
        correlation), or the sandwich corrected for few groups: "kauermann-carroll", "mancl-derouen", "fay-graubard",
        "morel".
    dispersion : "estimate" or float, default="estimate"
        The scale of the variance. It enters naive covariances and QIC.
    ddof_correction : bool, default=True
        True: moments are divided by their number less the number of coefficients, as R's gee does. False: geepack's
        definitions. With False AR(1) is fitted to all pairs of a group, not to neighbours; and weights are geepack's,
        see `fit`.
    tol : float, default=1e-4
        The largest error of a coefficient that may be left, in standard errors. Up to 200,000 rows the fit goes on to
        rounding error.
    max_iter : int, default=100
        Most iterations.
    n_threads : int or None, default=None
        Number of threads; None uses every available CPU, or as many as OMP_NUM_THREADS says, and one for few rows.
        Results do not depend on it. A forked process uses one: it has no threads but the one that forked.
    verbose : int, default=0
        1 prints a line an iteration.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The class labels; probabilities are those of the second.
    n_features_in_ : int
        Number of columns of X, those of groups and times included.
    feature_names_in_ : ndarray of str
        Names of all columns of X. Only where X had names.
    coef_ : ndarray of shape (1, n_fixed)
        Coefficients; 0 for columns that are constant or collinear with others.
    intercept_ : ndarray of shape (1,)
    vcov_ : DataFrame
        Covariance of the coefficients, of kind `cov_type`.
    correlation_params_ : ndarray of shape (n_parameters,)
        Of the working correlation; "unstructured": its upper triangle, row by row.
    working_correlation_ : ndarray
        The matrix over the union of times; for "independence", "exchangeable" and "ar1" that of the largest group
        (its first 1,000 rows).
    correlation_times_ : ndarray
        The times of its rows.
    dispersion_ : float
    qic_, qicu_, cic_ : float
        Criteria for choosing the working correlation (QIC, CIC) and the features (QICu): Pan (2001), Hin and Wang
        (2009).
    quasi_likelihood_ : float
        Log-likelihood of the rows at these coefficients, were they independent.
    n_iter_ : int
        Number of iterations, those for the start included.
    fit_report_ : FitReport
    converged_ : bool
    n_groups_ : dict of str -> int
        Number of groups; empty without groups.
    cluster_sizes_ : tuple of int
        Rows of the smallest and of the largest group.
    n_obs_ : float
        Number of rows, or the sum of their weights.
    df_resid_ : int or None
        With fewer than 50 groups tests and intervals use t with this many degrees of freedom: groups less coefficients.

    Notes
    -----
    Fisher scoring for the coefficients is alternated with moment estimates of the working correlation (Liang and
    Zeger 1986), from the estimates under independence. A fitted model holds no training rows.

    References
    ----------
    Liang K-Y, Zeger SL (1986). Longitudinal data analysis using generalized linear models. Biometrika 73, 13-22.

    Pan W (2001). Akaike's information criterion in generalized estimating equations. Biometrics 57, 120-125.

    Hin L-Y, Wang Y-G (2009). Working-correlation-structure identification in generalized estimating equations.
    Statistics in Medicine 28, 642-658.

    Li P, Redden DT (2015). Small sample performance of bias-corrected sandwich estimators for cluster-randomized
    trials with binary outcomes. Statistics in Medicine 34, 281-296.

    Examples
    --------
    >>> from sklmm import GEELogisticRegression
    >>> from sklmm.datasets import load_ohio
    >>> X, wheeze, child = load_ohio(return_X_y=True, as_frame=True)
    >>> model = GEELogisticRegression("exchangeable").fit(X, wheeze, groups=child)
    >>> model.correlation_params_.round(2)
    array([0.35])
    """

    __metadata_request__fit = {"groups": True, "time": True}
    # Averages over the population need no groups; scorers that are handed some leave them where they are.
    __metadata_request__predict = {"groups": False}
    __metadata_request__predict_proba = {"groups": False}
    __metadata_request__predict_log_proba = {"groups": False}
    __metadata_request__decision_function = {"groups": False}
    __metadata_request__score = {"groups": False}

    def __init__(
        self,
        correlation="exchangeable",
        *,
        group_features=None,
        time_feature=None,
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
        self.fit_intercept = fit_intercept
        self.cov_type = cov_type
        self.dispersion = dispersion
        self.ddof_correction = ddof_correction
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.verbose = verbose

    @classmethod
    def from_formula(cls, formula, data, *, groups=None, time=None, missing="error", sample_weight=None, **params):
        """Fit the model that a formula describes to a data frame.

        Parameters
        ----------
        formula : str
            The response's column, a tilde, and the features as the package formulaic reads them:
            ``"use ~ age*ch + I(age**2) + urban"``. Columns of labels become contrasts with their first level;
            ``C(ch, contr.sum)`` and other functions of formulaic choose otherwise. A dot is all other columns.
        data : DataFrame
        groups, time : str, default=None
            Columns of `data`.
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
        model : GEELogisticRegression
            Fitted. It takes data frames with the formula's columns in place of X: ``model.predict_proba(new_data)``. So
            do its clones: ``cross_val_score(model, data, data["use"])``.

        Examples
        --------
        >>> from sklmm import GEELogisticRegression
        >>> from sklmm.datasets import load_contraception
        >>> women = load_contraception(as_frame=True).frame
        >>> model = GEELogisticRegression.from_formula("use ~ age + urban", women, groups="district")
        >>> model.predict_proba(women.head(3)).shape
        (3, 2)
        """
        if "group_features" in params or "time_feature" in params:
            raise ValueError("with a formula, groups= and time= name columns of the data")
        named = sample_weight if isinstance(sample_weight, str) else None
        recipe = FormulaRecipe(formula, groups=groups, time=time, sample_weight=named, missing=missing)
        design, arguments = recipe.read(data, sample_weight=sample_weight)
        if design.random_effects:
            raise ValueError(
                "formula: terms with a bar are random effects, which a marginal model does not have: name the clusters "
                "in groups=, or use MixedLogisticRegression"
            )
        model = cls(**{"fit_intercept": design.fit_intercept, **params})
        model._recipe, model._reading = recipe, (design, arguments)
        return model.fit(data)

    # Fitting ------------------------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X, y=None, groups=None, sample_weight=None, time=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, dataframe} of shape (n_samples, n_features)
            A model that `from_formula` has made, and a clone of it, reads its formula again where X is a data frame.
        y : array-like of shape (n_samples,)
            Any two labels. None, for a model with a formula and a data frame: the formula's response.
        groups : array-like of shape (n_samples,), default=None
            Group labels: rows of different groups are independent. Not together with `group_features`.
        sample_weight : array-like of shape (n_samples,), default=None
            Row counts: under "independence" and "exchangeable" weight 2 is the row twice in its group, 0 is the row
            left out. Where rows have times of their own, a weight scales the information of its row, so that one
            weight for all of a group counts the group. With ``ddof_correction=False`` weights scale the information
            of rows under every structure, as in geepack.
        time : array-like of shape (n_samples,), default=None
            Times: numbers or dates. Not together with `time_feature`. Structures that depend on times take the order
            of a group's rows where there are none, with a warning.

        Returns
        -------
        self : GEELogisticRegression

        Raises
        ------
        ValueError
            For invalid input, and where the working correlation or the covariance asked for does not exist for these
            data.
        """
        correlation = self._check_parameters()
        design, (X, y, groups, sample_weight, time) = self._through_formula(X, y, groups, sample_weight, time)
        if design is not None:
            design.group_names = []  # a marginal model predicts without them
        progress = Progress(self, X, y, dict(groups=groups, sample_weight=sample_weight, time=time), "quasi_likelihood")

        rows, target, weights, state, columns = self._read_training_rows(X, y, groups, sample_weight, time)
        codes, levels = self._read_clusters(rows, correlation)
        factors = {} if codes is None else {next(iter(rows.groups)): (codes, levels)}
        times = None if rows.time is None or not correlation.uses_time else read_times(rows.time)
        with progress.iterations() as told:
            fit = fit_gee(
                rows.X,
                target,
                correlation=correlation,
                codes=codes,
                n_clusters=None if levels is None else len(levels),
                labels=levels,
                times=times if codes is not None else None,
                sample_weight=weights,
                fit_intercept=bool(self.fit_intercept),
                dispersion=None if self.dispersion == "estimate" else float(self.dispersion),
                ddof_correction=bool(self.ddof_correction),
                tol=float(self.tol),
                max_iter=int(self.max_iter),
                n_threads=effective_threads(self.n_threads, target.size),
                progress=told,
            )
        if codes is not None and times is None and correlation.uses_time and fit.cluster_sizes[1] > 1:
            warn_of_row_order(correlation)
        warn_of_marginal_fit(fit, rows.X, rows.names, correlation, self.cov_type)

        n_coefficients, n_clusters = fit.bread.shape[0], fit.n_clusters
        sandwich = {
            "bread": fit.bread,
            "dispersion": fit.dispersion,
            "meats": Meats(*fit.meats),
            "n_obs": state["n_obs_"],
            "n_clusters": n_clusters,
            "n_coefficients": n_coefficients,
        }
        covariance(self.cov_type, **sandwich)  # an error comes before an earlier fit is lost
        robust, A = covariance("robust", **sandwich), fit.independence_information
        quasi_likelihood, slopes = fit.quasi_likelihood, int(bool(self.fit_intercept))
        fitted = FittedMarginal(
            fixed_names=["intercept"] * slopes + rows.names,
            fit_intercept=bool(slopes),
            family=LOGIT,
            value=quasi_likelihood,
            separated=["the intercept" if j < 0 else rows.names[j] for j in fit.separated],
            formula=design,
            levels=levels,
            influence=fit.influence,
            level_rows=None if levels is None else rows_by_level(codes, weights, fit.level_rows),
            n_groups={} if levels is None else {next(iter(rows.groups)): n_clusters},
            **columns,
            **self._kept_of_rows(rows, rows.names, target, weights, factors, fit.aliased),
            correlation=correlation,
            cov_type=self.cov_type,
            sandwich=sandwich,
            coordinates=fit.coordinates,
            aliased=[j + slopes for j in fit.aliased],
            dispersion_is_fixed=self.dispersion != "estimate",
            ddof_correction=bool(self.ddof_correction),
            had_times=times is not None,
            trouble=fit.trouble,
        )
        state.update(
            coef_=fit.beta[None, slopes:].copy(),
            intercept_=fit.beta[:1].copy() if slopes else np.zeros(1),
            correlation_params_=fit.alpha,
            correlation_times_=fit.times,
            correlation_name_=correlation.name,
            dispersion_=fit.dispersion,
            quasi_likelihood_=quasi_likelihood,
            qic_=criteria.qic(quasi_likelihood, A, robust),
            qicu_=criteria.qicu(quasi_likelihood, n_coefficients),
            cic_=criteria.cic(A, robust),
            cov_type_=self.cov_type,
            n_iter_=fit.report.n_iter,
            fit_report_=fit.report,
            converged_=bool(fit.report.converged),
            n_groups_=dict(fitted.n_groups),
            cluster_sizes_=fit.cluster_sizes,
            df_resid_=n_clusters - n_coefficients if n_clusters < FEW_CLUSTERS else None,
        )
        self._set_fitted(fitted, state)
        progress.finish()
        return self

    def _check_parameters(self):
        """Raise where a parameter is out of its range; the working correlation it stands for."""
        self._check_common_parameters()
        check_cov_type(self.cov_type)
        if not (isinstance(self.dispersion, str) and self.dispersion == "estimate"):
            what = "'estimate' or a number > 0"
            check_number(self, "dispersion", Real, what, lambda value: 0 < value < np.inf)
        if not isinstance(self.ddof_correction, (bool, np.bool_)):
            raise ValueError(f"ddof_correction must be True or False, got {self.ddof_correction!r}")
        return resolve_correlation(self.correlation)

    def _read_clusters(self, rows, correlation):
        """Codes and levels of the groups; None, None without groups."""
        if len(rows.groups) > 1:
            raise ValueError(
                "estimating equations take one grouping factor, the coarsest, but got "
                f"{', '.join(map(repr, rows.groups))}: rows of different groups must be independent. Name that one "
                "alone (nested groups are inside it); for crossed factors use MixedLogisticRegression"
            )
        if not rows.groups:
            warnings.warn(
                "fit got no groups: every row is one of its own, as in plain logistic regression. Name the grouping "
                "column of X in group_features, or pass groups= (to meta-estimators: with metadata routing enabled)",
                NoGroupsWarning,
                stacklevel=4,
            )
            return None, None
        name, labels = next(iter(rows.groups.items()))
        codes, levels = encode_groups(labels, name)
        warn_of_labels(name, levels, len(codes))
        if len(levels) == 1 and self.cov_type != "naive":
            raise ValueError(
                f"{name} has one group only ({shown_label(levels[0])}): robust covariances rest on independent groups. "
                "Give more groups, or cov_type='naive'"
            )
        return codes, levels

    # What the fit says, made when it is asked for -----------------------------------------------------------

    def vcov(self, cov_type=None):
        """Covariance of the coefficients, of any kind: no data are needed.

        Parameters
        ----------
        cov_type : {"robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"}, default=None
            None is the `cov_type` of the fit.

        Returns
        -------
        vcov : DataFrame
            NaN in the rows and columns of coefficients that are not identified.

        Raises
        ------
        ValueError
            Where the correction does not exist: a group that determines a coefficient alone leaves no residual to
            correct.
        """
        check_is_fitted(self)
        return self._covariance(cov_type)

    @property
    def working_correlation_(self):
        """Working correlation matrix."""
        correlation, times, alpha = self._state.correlation, self.correlation_times_, self.correlation_params_
        if len(times) == 1 or (alpha.size == 0 and correlation.moments is not None):
            return np.eye(len(times))
        return correlation.matrix(alpha, times)

    def _inference_df(self):
        return self.df_resid_

    def summary(self, level=0.95, correlation=False):
        """Tables of the fit: coefficients, working correlation, criteria.

        Parameters
        ----------
        level : float, default=0.95
            Confidence level of the intervals.
        correlation : bool, default=False
            Whether to show the correlation of the estimated coefficients, too.

        Returns
        -------
        summary : FitSummary
            ``print`` it; or take its `coefficients`, a DataFrame, `to_frame()`, `to_markdown()`, `to_latex()`.
        """
        check_is_fitted(self)
        return summary_of_gee(self, level, correlation)
