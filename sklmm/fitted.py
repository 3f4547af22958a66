"""What a fit leaves behind: one frozen object, which inference, prediction and reports read in place of the estimator.

It holds no rows. The kind of a model is asked here: a `FittedMixed` has groups with random effects, a `FittedMarginal`
estimating equations. What a user may see of it, `coef_` and its like, the estimators keep themselves.
"""

from dataclasses import dataclass

import numpy as np

from sklmm.inference.sandwich import covariance_of_coefficients


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What all fits have.

    Attributes
    ----------
    fixed_names : list of str
        Of the coefficients, the intercept first if there is one.
    fit_intercept : bool
    family : Bernoulli
    value : float
        The log-likelihood; the quasi-likelihood of a marginal model.
    separated : list of str
        Coefficients that separate the classes.
    formula : FormulaDesign or None
        Of a model made by `from_formula`.
    positions : dict of str -> list of int, int or None
        Of columns in X, by the parameter that names them: "group_features", "time_feature" and so on.
    takes_offset, takes_precision : bool
        Whether the fit got an offset, or precision weights, as metadata, so that what sees its rows again needs them.
    event : int
        Position in the classes of what the linear predictor is of.
    n_second : float or None
        Rows of the second class.
    priors : ModelPriors, SoftPenalties or None
        Of a mixed model: what was added to its log-likelihood.
    log_prior : float or None
        What they are at the estimates.
    group_names : list of str
    levels : Index or None
        Labels of the one factor's groups; None without groups and for several factors.
    influence : ndarray of shape (n_levels, n_params), float32, or None
        What each of its groups adds to the estimates, to first order.
    n_groups : dict of str -> int
        Levels of each factor in the fit; `update_groups` learns more.
    level_rows : ndarray of shape (n_levels,) or None
        Its groups' rows, or sums of weights.
    n_weighted_rows : int or None
        Number of rows passed, where weights counted them.
    row_signature : RowSignature
        By which the rows are known again.
    spreads : dict of str -> float
        Standard deviations of the features.
    two_values : dict of str -> pair
        The values of features that have but two.
    dependences : Dependences or None
        Of collinear columns.
    """

    fixed_names: list
    fit_intercept: bool
    family: object
    value: float
    separated: list
    formula: object
    positions: dict
    takes_offset: bool
    group_names: list
    levels: object
    influence: np.ndarray | None
    level_rows: np.ndarray | None
    n_groups: dict
    n_weighted_rows: int | None
    row_signature: object
    spreads: dict
    two_values: dict
    dependences: object

    takes_precision: bool = False
    event: int = 1
    n_second: float | None = None
    priors: object = None
    log_prior: float | None = None

    @property
    def group_columns(self):
        return self.positions["group_features"]

    @property
    def time_column(self):
        return self.positions["time_feature"]

    @property
    def offset_column(self):
        return self.positions["offset_feature"]

    @property
    def has_offset(self):
        """Whether something is added to the linear predictor."""
        of_formula = self.formula is not None and self.formula.has_offset
        return self.takes_offset or self.offset_column is not None or of_formula

    # What marginal models do not have.
    factors, products, units, nesting, had_precision = (), None, None, (), False


@dataclass(frozen=True, kw_only=True)
class FittedMixed(Fitted):
    """A mixed model's fit.

    Attributes
    ----------
    factors : list of Factor
        Grouping factors: terms, levels, covariance, posterior of each level.
    products : dict of str -> list of int
        Features that are products of columns, for random slopes.
    theta : list of ndarray
        Relative covariance factors, an entry a factor.
    vcov : ndarray
        Covariance of (beta, theta).
    robust_vcov : ndarray or None
        Likewise, the cluster sandwich.
    posterior : JointPosterior or None
        Covariances across several factors.
    units : FitUnits
    nesting : list of pairs
        Factors that are nested in others.
    row_moments : RowMoments
    level_logits : LevelLogits or None
    large_variances, approximation
        What was unusual, as the summary says it.
    approximation_error : float or None
        Standard errors that more quadrature nodes move an estimate by, to first order; None where nothing was compared.
    far_maximum : tuple or None
        Of a higher maximum that was taken for an error of the approximation.
    """

    factors: list
    products: dict
    theta: list
    vcov: np.ndarray
    robust_vcov: np.ndarray | None
    posterior: object
    units: object
    nesting: list
    row_moments: object
    level_logits: object
    large_variances: list
    approximation: object
    approximation_error: float | None = None
    far_maximum: tuple | None = None

    def covariance(self, cov_type=None):
        """Covariance of the coefficients."""
        n = len(self.fixed_names)
        return self.vcov[:n, :n].copy()


@dataclass(frozen=True, kw_only=True)
class FittedLinear(FittedMixed):
    """A linear mixed model's fit: what the logistic one's has, and the residual variance.

    Attributes
    ----------
    sigma : float
        Residual standard deviation.
    reml : bool
    degrees : dict of str -> method
        Methods of `sklmm.inference.degrees_of_freedom` that the fit has, by name.
    df : str or None
        The one that was asked for; None is the normal distribution.
    units : FitUnits
        x are the fixed effects, theta, and log sigma.
    had_precision : bool
        Whether residual variances were divided by weights.
    no_residuals : bool
        Whether features or random effects reproduce the outcome exactly.
    fixed_covariance, fixed_gradient, fixed_positions, effect_slopes, variance_vcov, precision_scale
        Of `LinearFit`: errors of fixed effects and of the groups' effects jointly, in standardised columns.
    """

    sigma: float
    reml: bool
    degrees: dict
    df: str | None
    fixed_covariance: np.ndarray
    fixed_gradient: np.ndarray
    fixed_positions: np.ndarray
    effect_slopes: list
    variance_vcov: np.ndarray
    precision_scale: float
    no_residuals: bool
    had_precision: bool
    level_logits: object = None
    large_variances: tuple = ()
    approximation: object = None

    def covariance(self, cov_type=None):
        """Covariance of the coefficients, of the method of degrees of freedom."""
        return self.degrees[self.df].covariance.copy()


@dataclass(frozen=True, kw_only=True)
class FittedMarginal(Fitted):
    """A marginal model's fit.

    Attributes
    ----------
    correlation : WorkingCorrelation
    cov_type : str
        The kind of covariance that was asked for.
    sandwich : dict
        What `sklmm.inference.sandwich.covariance` makes covariances of any kind from.
    coordinates : ndarray
        Coefficients from those of the equations.
    aliased : list of int
        Positions of coefficients that are not identified.
    penalty : None, "firth" or float
    dispersion_is_fixed, ddof_correction, had_times : bool
    trouble : str or None
        What the working correlation could not be.
    """

    correlation: object
    cov_type: str
    sandwich: dict
    coordinates: np.ndarray
    aliased: list
    dispersion_is_fixed: bool
    ddof_correction: bool
    had_times: bool
    trouble: object
    penalty: object = None

    def covariance(self, cov_type=None):
        """Covariance of the coefficients, of a kind; None is that of the fit."""
        cov_type = self.cov_type if cov_type is None else cov_type
        return covariance_of_coefficients(cov_type, self.sandwich, self.coordinates, self.aliased)


def fitted_of(model):
    """The fit of one of this package's estimators; None for other models, and before the fit."""
    return getattr(model, "_fitted", None)
