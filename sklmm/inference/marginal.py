"""From groups to the population: probabilities averaged over random effects, with delta-method errors.

In a row with the features x and the random-effect columns z the linear predictor is normal over the population of
groups, with mean eta = x'beta and variance v = |Lambda'z|^2, so that

    P = E expit(eta + sqrt(v) u),    dP/deta = E expit',    dP/dv = E expit'' / 2    (u standard normal)

and dv/dtheta_l = 2 z_row (Lambda'z)_col. Standard errors come from the joint covariance of beta and theta, so that they
allow for variances that are estimated, too. The rows themselves are taken as given.

References
----------
Hedeker D, du Toit SHC, Demirtas H, Gibbons RD (2018). A note on marginalization of regression parameters from mixed
models of binary outcomes. Biometrics 74, 354-361.

Zeger SL, Liang K-Y, Albert PS (1988). Models for longitudinal data: a generalized estimating equation approach.
Biometrics 44, 1049-1060.
"""

import numpy as np
import pandas as pd
from scipy.special import expit

from sklmm._validation import read_weights
from sklmm.design.aliasing import dependent
from sklmm.design.covariance import RelativeCovariance

from .intervals import check_level, reference_distribution

__all__ = ["average_marginal_effects", "delta_errors", "marginal_coefficients", "probability_and_gradient"]

_CHUNK = 1 << 13  # rows, so that rows times nodes stay in cache
_STEP = 1e-4  # of differences, in standard deviations of a feature: the error of a central difference is its square


def check_population_effects(effects):
    """Raise unless `effects` needs no group: what is averaged here is the population, or its typical member."""
    if effects not in ("marginal", "zero"):
        raise ValueError(f"predict_effects must be 'marginal' or 'zero' here, got {effects!r}")


class _Parameters:
    """The parameters of a fitted model in the units of its fit: of centred and scaled columns.

    In the user's units the variance of a row's linear predictor is a small difference of huge numbers where features
    are far from 0. A marginal model has no others than the user's.
    """

    def __init__(self, estimator):
        names, self.beta, vcov = estimator._fixed_effects()
        self.has_intercept = len(names) > estimator.coef_.size
        self.kept = np.isfinite(np.diagonal(vcov))
        self.units = getattr(estimator, "_units", None)
        self.factors = getattr(estimator, "_factors", [])
        self.covariance, self.natural_map = np.nan_to_num(vcov, nan=0.0), np.eye(len(names))
        if self.units is not None:
            n = len(self.units.x) if self.factors else len(names)
            self.covariance = self.units.covariance[:n, :n]
            self.natural_map = self.units.natural_map()
            self.kept = np.roll(self.kept, -int(self.has_intercept))  # slopes first

    def design(self, X):
        """Columns of the fixed effects, in these units."""
        if self.units is not None:
            return self.units.design(X)
        return np.column_stack([np.ones(len(X)), X]) if self.has_intercept else X

    def linear_predictor(self, X):
        slopes = self.beta[int(self.has_intercept) :]
        return X @ slopes + self.beta[0] if self.has_intercept else X @ slopes


def parameter_covariance(estimator):
    """Covariance of all parameters, as `probability_and_gradient` counts them; 0 for what is not estimated."""
    return _Parameters(estimator).covariance


def probability_and_gradient(estimator, X, effects="marginal"):
    """Probability of the second class, averaged over the population of groups, and its gradient.

    Parameters
    ----------
    estimator : fitted estimator
    X : ndarray of shape (n, p)
        Features, without grouping columns.
    effects : {"marginal", "zero"}

    Returns
    -------
    p : ndarray of shape (n,)
    logit : ndarray of shape (n,)
    gradient : ndarray of shape (n, n_params)
        Of p in the parameters whose covariance is `parameter_covariance`.
    """
    parameters = _Parameters(estimator)
    X = np.asarray(X, dtype=np.float64)
    design, eta = parameters.design(X), parameters.linear_predictor(X)
    variance = np.zeros(len(X))
    moves = np.zeros((len(X), len(parameters.covariance) - design.shape[1]))
    if effects == "marginal":
        start = 0
        for factor in parameters.factors:
            structure, Z = RelativeCovariance(factor.blocks), factor.units.design(X)
            T = Z @ factor.units.Lambda
            variance += np.sum(T * T, axis=1)
            moves[:, start : start + structure.m] = 2.0 * Z[:, structure.row] * T[:, structure.col]
            start += structure.m
    p, logit, first, second = _logistic_normal(eta, variance)
    return p, logit, np.column_stack([first[:, None] * design, 0.5 * second[:, None] * moves])


def _logistic_normal(eta, variance):
    """E expit, its logit, E expit' and E expit'' of normal linear predictors."""
    p, first, second = (np.empty_like(eta) for _ in range(3))
    logit = np.empty_like(eta)
    for begin in range(0, eta.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        sd = np.sqrt(variance[part])
        z, w = _normal_rule(sd.max(initial=0.0))
        at = eta[part, None] + sd[:, None] * z
        mu = expit(at)
        slope = mu * (1.0 - mu)
        p[part], first[part] = mu @ w, slope @ w
        second[part] = (slope * (1.0 - 2.0 * mu)) @ w
        if z.size == 1:
            logit[part] = eta[part]
        else:
            with np.errstate(divide="ignore"):  # beyond about 745 both are infinite
                logit[part] = np.log(p[part]) - np.log(expit(-at) @ w)
    return p, logit, first, second


def _normal_rule(sd):
    """Nodes and weights of the standard normal for functions of expit(. + sd z): the trapezoidal rule.

    Its error is about exp(-2 pi d / h), d = pi / sd the distance of the poles (Trefethen and Weideman, 2014).
    """
    if sd == 0:
        return np.zeros(1), np.ones(1)
    h = min(0.6, 0.6 / min(sd, 50.0))
    z = h * np.arange(-np.ceil(8.0 / h), np.ceil(8.0 / h) + 1)
    w = np.exp(-0.5 * z * z)
    return z, w / w.sum()


def delta_errors(gradient, vcov):
    """Standard errors of quantities with these gradients, (n, n_params)."""
    variance = np.einsum("ij,jk,ik->i", gradient, vcov, gradient)
    return np.sqrt(np.maximum(variance, 0.0))


# Coefficients of the population ------------------------------------------------------------------------------


def marginal_coefficients(estimator, X, sample_weight=None, level=0.95):
    """Population-averaged coefficients of a mixed model; see `MixedLogisticRegression.marginal_coefficients`."""
    names, _, vcov = estimator._fixed_effects()
    identified = np.isfinite(np.diagonal(vcov))
    parameters = _Parameters(estimator)
    if X is None:
        if sample_weight is not None:
            raise ValueError("sample_weight weighs the rows of X: pass X, too")
        return _coefficient_table(estimator, names, identified, *_from_moments(estimator, parameters), level)
    rows = estimator._read_new_rows(X, None)
    weights = _weights(sample_weight, rows.X.shape[0])
    kept, n_params = parameters.kept, len(parameters.covariance)
    gram, image, gradient = np.zeros((kept.sum(),) * 2), np.zeros(kept.sum()), np.zeros((kept.sum(), n_params))
    for begin in range(0, rows.X.shape[0], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        block = np.asarray(rows.X[part], dtype=np.float64)
        p, logit, G = probability_and_gradient(estimator, block)
        design = parameters.design(block)[:, kept]
        weighted = design * weights[part, None]
        gram += weighted.T @ design
        image += weighted.T @ logit
        gradient += weighted.T @ (G / (p * (1.0 - p))[:, None])
    if dependent(gram).any():
        raise ValueError(
            "the rows of X do not determine the coefficients (columns are constant or collinear in them): pass the "
            "rows that the model was fitted to, or others like them"
        )
    scale = np.sqrt(np.diagonal(gram))
    solved = np.linalg.solve(gram / scale / scale[:, None], np.column_stack([image, gradient]) / scale[:, None])
    solved /= scale[:, None]
    out = parameters.natural_map[:, kept] @ solved
    return _coefficient_table(estimator, names, identified, out[:, 0], out[:, 1:], level)


def _from_moments(estimator, parameters):
    """Coefficients of the population and their gradient, from the moments of the rows that the fit keeps.

    Were the linear predictor normal over the rows, the regression's slopes would be those of the mixed model times the
    mean slope of the averaged logit (Stein's lemma).
    """
    moments, beta, variance, moves = estimator._row_moments, parameters.beta, 0.0, []
    for factor, second in zip(parameters.factors, moments.random_moments, strict=True):
        structure = RelativeCovariance(factor.blocks)
        image = second @ factor.units.Lambda
        variance += np.sum(factor.units.Lambda * image)
        moves.append(2.0 * image[structure.row, structure.col])
    z, w = _normal_rule(1.0)
    eta = estimator.intercept_[0] + moments.fixed_mean + np.sqrt(moments.fixed_variance) * z

    def coefficients(v):
        p, logit, first, _ = _logistic_normal(eta, np.full(eta.size, v))
        slope = w @ (first / (p * (1.0 - p)))
        out = beta * slope
        if parameters.has_intercept:
            out[0] = w @ logit - slope * moments.fixed_mean
        return out, slope

    estimate, slope = coefficients(variance)
    step = 1e-4 * max(variance, 1.0)
    low = max(variance - step, 0.0)
    by_variance = (coefficients(variance + step)[0] - coefficients(low)[0]) / (variance + step - low)
    # How the mean slope depends on beta is left out: it hardly does, and the moments do not say.
    by_theta = np.outer(by_variance, np.concatenate([[], *moves]))
    return estimate, np.column_stack([slope * parameters.natural_map, by_theta])


def _coefficient_table(estimator, names, kept, estimate, gradient, level):
    se = np.where(kept, delta_errors(gradient, parameter_covariance(estimator)), np.nan)
    table = _wald_columns(names, estimate, se, level, estimator._inference_df())
    with np.errstate(over="ignore"):  # under separation
        for ratio, column in (("odds_ratio", "estimate"), ("odds_ratio_lower", "lower"), ("odds_ratio_upper", "upper")):
            table[ratio] = np.exp(table[column])
    return table


# Average marginal effects ------------------------------------------------------------------------------------


def average_marginal_effects(
    estimator, X, features=None, sample_weight=None, level=0.95, predict_effects="marginal"
):
    """Average marginal effects of a fitted model; see the estimators' `average_marginal_effects`."""
    check_population_effects(predict_effects)
    variables = _Variables(estimator, X)
    weights = _weights(sample_weight, variables.n_rows)
    names, estimates, gradients = [], [], []
    for feature in variables.chosen(features):
        for name, upper, lower, distance in variables.changes(feature):
            p1, g1 = _mean_probability(estimator, upper, weights, predict_effects)
            p0, g0 = _mean_probability(estimator, lower, weights, predict_effects)
            names.append(name)
            estimates.append((p1 - p0) / distance)
            gradients.append((g1 - g0) / distance)
    n_params = len(parameter_covariance(estimator))
    se = delta_errors(np.reshape(gradients, (-1, n_params)), parameter_covariance(estimator))
    return _wald_columns(names, np.array(estimates), se, level, estimator._inference_df())


def _mean_probability(estimator, X, weights, effects):
    p, gradient = 0.0, 0.0
    for begin in range(0, X.shape[0], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        values, _, G = probability_and_gradient(estimator, X[part], effects)
        p += weights[part] @ values
        gradient = gradient + weights[part] @ G
    return p, gradient


class _Variables:
    """The variables of a model, as its user knows them, and the design after a change of one.

    With a formula they are columns of the data frame, so that powers and products follow; else the features.
    """

    def __init__(self, estimator, X):
        self.estimator = estimator
        self.formula = getattr(estimator, "_formula", None)
        rows = estimator._read_new_rows(X, None)
        self.n_rows = rows.X.shape[0]
        if self.n_rows == 0:
            raise ValueError("X has no rows to average over")
        if self.formula is not None:
            self.frame = self.formula.variables(X)
        else:
            array = np.asarray(rows.X, dtype=np.float64)
            self.frame = pd.DataFrame(array, columns=pd.Index(rows.names, dtype=object), copy=False)
        aliased = [name for name, se in zip(rows.names, _slope_errors(estimator), strict=True) if np.isnan(se)]
        self.names = [name for name in self.frame.columns if self.formula is not None or name not in aliased]

    def chosen(self, features):
        if features is None:
            return self.names
        features = [features] if isinstance(features, str) else list(features)
        for name in features:
            if name not in self.frame.columns:
                raise ValueError(f"{name!r} is no feature of the model; there are {list(self.frame.columns)}")
        return features

    def changes(self, name):
        """(what it is called, design after, design before, distance) of each change of a variable."""
        column = self.frame[name]
        is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if is_number and not (self.formula is not None and self.formula.is_factor(name)):
            values = column.to_numpy(dtype=np.float64)
            distinct = pd.unique(column)
            if len(distinct) == 1:
                raise ValueError(f"{name!r} is constant in these rows: choose other features, or other rows")
            if len(distinct) > 2:
                step = _STEP * values.std()
                yield name, self.design(name, values + step), self.design(name, values - step), 2.0 * step
                return
            low, high = sorted(distinct)
            yield name, self.design(name, high), self.design(name, low), 1.0
            return
        levels = self.formula.levels(name, column)
        before = self.design(name, levels[0])
        for level in levels[1:]:
            yield f"{name} ({level} - {levels[0]})", self.design(name, level), before, 1.0

    def design(self, name, values):
        if self.formula is None:
            out = self.frame.to_numpy(copy=True)
            out[:, list(self.frame.columns).index(name)] = values
            return out
        column = self.frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            values = pd.Categorical([values] * self.n_rows, dtype=column.dtype)
        return self.formula.design(self.frame.assign(**{name: values}))


def _slope_errors(estimator):
    _, _, vcov = estimator._fixed_effects()
    diagonal = np.diagonal(vcov)
    return diagonal[len(diagonal) - estimator.coef_.size :]


def _weights(sample_weight, n_rows):
    """Weights that sum to 1."""
    weights = read_weights(sample_weight, n_rows)
    weights = np.ones(n_rows) if weights is None else weights
    return weights / weights.sum()


def _wald_columns(names, estimate, se, level, df):
    level = check_level(level)
    reference = reference_distribution(df)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = estimate / se
    reach = reference.ppf((1 + level) / 2) * se
    return pd.DataFrame(
        {
            "estimate": estimate,
            "std_error": se,
            "z" if df is None else "t": ratio,
            "p_value": 2 * reference.sf(np.abs(ratio)),
            "lower": estimate - reach,
            "upper": estimate + reach,
        },
        index=list(names),
    )
