"""GEELogisticRegression: the marginal model for clustered binary outcomes, by generalized estimating equations."""

from sklmm.estimating.penalties import check_penalty
from sklmm.estimators.marginal_model import MarginalModel
from sklmm.estimators.outcomes import BinaryOutcomes


class GEELogisticRegression(BinaryOutcomes, MarginalModel):
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
    penalty : None, "firth" or float, default=None
        "firth": Firth-type equations (Mondol and Rahman 2019), whose coefficients are finite where classes are
        separated, and less biased in small samples; each iteration takes four passes a coefficient more. Their
        iterations can fail to converge, which a `ConvergenceWarning` says. A number is a ridge: so much times half the
        sum of squared slopes of standardised columns is taken off the quasi-likelihood.
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
        Rows of the smallest and of the largest group; as for `n_obs_` sums of weights.
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

    def __init__(
        self,
        correlation="exchangeable",
        *,
        group_features=None,
        time_feature=None,
        link="logit",
        offset_feature=None,
        positive=None,
        fit_intercept=True,
        cov_type="robust",
        dispersion="estimate",
        ddof_correction=True,
        penalty=None,
        tol=1e-4,
        max_iter=100,
        n_threads=None,
        verbose=0,
    ):
        self.correlation = correlation
        self.group_features = group_features
        self.time_feature = time_feature
        self.link = link
        self.offset_feature = offset_feature
        self.positive = positive
        self.fit_intercept = fit_intercept
        self.cov_type = cov_type
        self.dispersion = dispersion
        self.ddof_correction = ddof_correction
        self.penalty = penalty
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.verbose = verbose

    def _check_parameters(self):
        super()._check_parameters()
        check_penalty(self.penalty)

    def _tails(self, X, groups, offset, predict_effects, log=False, include=None):
        if include is not None:
            raise ValueError("include names random effects that count, and a marginal model has none: leave it out")
        eta = self._linear_predictor(X, offset, predict_effects)
        return self._fitted.family.tails(eta, log=log)
