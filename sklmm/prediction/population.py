"""From groups to the population: probabilities averaged over random effects, with delta-method errors.

Of measured outcomes h is the identity, and nothing changes by averaging.

In a row with the features x and the random-effect columns z the linear predictor is normal over the population of
groups, with mean eta = x'beta and variance v = |Lambda'z|^2, so that

    P = E h(eta + sqrt(v) u),    dP/deta = E h',    dP/dv = E h'' / 2    (u standard normal, h the inverse link)

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

from sklmm.design.aliasing import dependent
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.formula import weights_by_formula
from sklmm.exceptions import NotEstimableWarning
from sklmm.families import normal_rule
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.tables import Table
from sklmm.inference.verdict import not_estimated, with_reason
from sklmm.inference.wald import check_level, reference_distribution
from sklmm.messages import listed, warn
from sklmm.prediction.reference_rows import Variables, shares

_CHUNK = 1 << 13  # rows, so that rows times nodes stay in cache


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
        self.has_intercept = estimator._fitted.fit_intercept
        self.kept = np.isfinite(np.diagonal(vcov))
        self.units = estimator._fitted.units
        self.factors = estimator._fitted.factors
        self.covariance, self.natural_map = np.nan_to_num(vcov, nan=0.0), np.eye(len(names))
        if self.units is not None:
            self.covariance = self.units.covariance
            if not self.factors:
                self.covariance = self.covariance[: len(names), : len(names)]
            self.natural_map = self.units.natural_map()
            self.kept = np.roll(self.kept, -int(self.has_intercept))  # slopes first

    def design(self, X):
        """Columns of the fixed effects, in these units."""
        if self.units is not None:
            return self.units.design(X)
        return np.column_stack([np.ones(len(X)), X]) if self.has_intercept else X

    def linear_predictor(self, X, offset=None):
        if self.units is not None:
            return self.units.linear_predictor(X, offset)
        slopes = self.beta[int(self.has_intercept) :]
        X = X[:, : slopes.size]
        eta = X @ slopes + self.beta[0] if self.has_intercept else X @ slopes
        return eta if offset is None else eta + offset


def parameter_covariance(estimator):
    """Covariance of all parameters, as `probability_and_gradient` counts them; 0 for what is not estimated."""
    return _Parameters(estimator).covariance


def probability_and_gradient(estimator, X, effects="marginal", offset=None):
    """Probability of the second class, averaged over the population of groups, and its gradient.

    Parameters
    ----------
    estimator : fitted estimator
    X : ndarray of shape (n, p)
        Features, without grouping columns; the last ones may have random slopes only.
    effects : {"marginal", "zero"}
    offset : ndarray of shape (n,) or None

    Returns
    -------
    p : ndarray of shape (n,)
    linked : ndarray of shape (n,)
        The linear predictor of p, of the population: of the logit its log odds.
    gradient : ndarray of shape (n, n_params)
        Of p in the parameters whose covariance is `parameter_covariance`.
    """
    parameters = _Parameters(estimator)
    X = np.asarray(X, dtype=np.float64)
    design, eta = parameters.design(X), parameters.linear_predictor(X, offset)
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
    p, linked, first, second = estimator._fitted.family.mean_derivatives(eta, variance)
    return p, linked, np.column_stack([first[:, None] * design, 0.5 * second[:, None] * moves])


def effect_variances(estimator, X):
    """The variance of each grouping factor's random effects in the linear predictor, an array by row."""
    X = np.asarray(X, dtype=np.float64)
    return {
        factor.name: np.sum((factor.units.design(X) @ factor.units.Lambda) ** 2, axis=1)
        for factor in estimator._fitted.factors
    }


def delta_errors(gradient, vcov):
    """Standard errors of quantities with these gradients, (n, n_params)."""
    variance = np.einsum("ij,jk,ik->i", gradient, vcov, gradient)
    return np.sqrt(np.maximum(variance, 0.0))


# Coefficients of the population ------------------------------------------------------------------------------


def marginal_coefficients(estimator, X, sample_weight=None, level=0.95, offset=None):
    """Population-averaged coefficients of a mixed model; see `MixedLogisticRegression.marginal_coefficients`."""
    names, _, vcov = estimator._fixed_effects()
    identified = np.isfinite(np.diagonal(vcov))
    parameters = _Parameters(estimator)
    if X is None:
        if sample_weight is not None:
            raise ValueError("sample_weight weighs the rows of X: pass X, too")
        return _coefficient_table(estimator, names, identified, *_from_moments(estimator, parameters), level)
    rows = estimator._read_new_rows(X, None, offset)
    warn_of_rows(estimator, rows.X)
    weights = shares(weights_by_formula(estimator, X, sample_weight), rows.X.shape[0])
    kept, n_params = parameters.kept, len(parameters.covariance)
    gram, image, gradient = np.zeros((kept.sum(),) * 2), np.zeros(kept.sum()), np.zeros((kept.sum(), n_params))
    for begin in range(0, rows.X.shape[0], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        block = np.asarray(rows.X[part], dtype=np.float64)
        offset = None if rows.offset is None else rows.offset[part]
        p, linked, G = probability_and_gradient(estimator, block, offset=offset)
        linked = linked if offset is None else linked - offset
        design = parameters.design(block)[:, kept]
        weighted = design * weights[part, None]
        gram += weighted.T @ design
        image += weighted.T @ linked
        gradient += weighted.T @ (G / estimator._fitted.family.slope(p, linked)[:, None])
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
    mean slope of the averaged probability's linear predictor (Stein's lemma). An offset is taken off, as with rows, and
    counts as uncorrelated with the features.
    """
    moments, beta, variance, moves = estimator._fitted.row_moments, parameters.beta, 0.0, []
    for factor, second in zip(parameters.factors, moments.random_moments, strict=True):
        structure = RelativeCovariance(factor.blocks)
        image = second @ factor.units.Lambda
        variance += np.sum(factor.units.Lambda * image)
        moves.append(2.0 * image[structure.row, structure.col])
    z, w = normal_rule(1.0)
    over_rows = moments.fixed_variance if moments.variance_with_offset is None else moments.variance_with_offset
    eta = estimator.intercept_[0] + moments.fixed_mean + moments.offset_mean + np.sqrt(over_rows) * z

    def coefficients(v):
        family = estimator._fitted.family
        p, linked, first, _ = family.mean_derivatives(eta, np.full(eta.size, v))
        slope = w @ (first / family.slope(p, linked))
        out = beta * slope
        if parameters.has_intercept:
            out[0] = w @ linked - slope * moments.fixed_mean - moments.offset_mean
        return out, slope

    estimate, slope = coefficients(variance)
    step = 1e-4 * max(variance, 1.0)
    low = max(variance - step, 0.0)
    by_variance = (coefficients(variance + step)[0] - coefficients(low)[0]) / (variance + step - low)
    # How the mean slope depends on beta is left out: it hardly does, and the moments do not say.
    by_theta = np.outer(by_variance, np.concatenate([[], *moves]))
    return estimate, np.column_stack([slope * parameters.natural_map, by_theta])


def _coefficient_table(estimator, names, kept, estimate, gradient, level):
    blank = not_estimated(estimator, names)
    se = np.where(kept & ~blank, delta_errors(gradient, parameter_covariance(estimator)), np.nan)
    table = _wald_columns(names, estimate, se, level, degrees_of_freedom(estimator, gradient))
    ratio = (estimator._fitted.family.ratio or "").replace(" ", "_")
    with np.errstate(over="ignore"):  # under separation
        for end, column in (("", "estimate"), ("_lower", "lower"), ("_upper", "upper")) if ratio else ():
            table[ratio + end] = np.where(blank, np.nan, np.exp(table[column]))
    return with_reason(estimator, table, blank)


# Average marginal effects ------------------------------------------------------------------------------------


def average_marginal_effects(
    estimator, X, features=None, sample_weight=None, level=0.95, predict_effects="marginal", offset=None
):
    """Average marginal effects of a fitted model; see the estimators' `average_marginal_effects`."""
    check_population_effects(predict_effects)
    variables = Variables(estimator, X, offset, sample_weight)
    weights = variables.weights
    covariance = parameter_covariance(estimator)
    names, estimates, gradients, lost, blank = [], [], [], {}, []
    for feature in variables.chosen(features):
        for name, upper, lower, distance in variables.changes(feature):
            names.append(name)
            blank.append(variables.is_blank(feature))
            undetermined = variables.not_estimable(feature, upper[0], lower[0], distance, weights)
            if undetermined:
                lost[name] = undetermined
                estimates.append(np.nan)
                gradients.append(np.full(len(covariance), np.nan))
                continue
            change, gradient = _mean_change(estimator, upper, lower, weights / distance, predict_effects)
            estimates.append(change)
            gradients.append(gradient)
    gradients = np.reshape(gradients, (-1, len(covariance)))
    se = delta_errors(gradients, covariance)
    se[np.array(blank, dtype=bool)] = np.nan
    table = _wald_columns(names, np.array(estimates), se, level, degrees_of_freedom(estimator, gradients))
    if lost:
        tied = listed(map(repr, dict.fromkeys(name for names in lost.values() for name in names)))
        sentence = (
            f"not estimable, and NaN: {listed(map(repr, lost))}. Rows would be set to combinations of columns that did "
            f"not occur in the fit, in which {tied} depended on other columns: the answer would depend on which of "
            "them was left out. Choose rows or levels that occur together, or a model without this dependence"
        )
        table.with_note(sentence)
        warn(sentence, NotEstimableWarning)
    return with_reason(estimator, table, blank)


def averages(estimator, X, offset, weights, effects="marginal", scale="response"):
    """Weighted sum of the probabilities of rows, or of their linear predictors ("link"), and its gradient."""
    average, gradient = 0.0, 0.0
    for begin in range(0, weights.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        p, linked, G = probability_and_gradient(
            estimator, X[part], effects, None if offset is None else offset[part]
        )
        if scale == "link":
            p, G = linked, G / estimator._fitted.family.slope(p, linked)[:, None]
        average += weights[part] @ p
        gradient = gradient + weights[part] @ G
    return average, gradient


def _mean_change(estimator, upper, lower, weights, effects):
    """Weighted sum of the changes of rows' probabilities, and its gradient; of designs with their offsets or None."""
    change, gradient = 0.0, 0.0
    for begin in range(0, weights.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        (p1, _, G1), (p0, _, G0) = (
            probability_and_gradient(estimator, X[part], effects, None if offset is None else offset[part])
            for X, offset in (upper, lower)
        )
        change += weights[part] @ (p1 - p0)
        gradient = gradient + weights[part] @ (G1 - G0)
    return change, gradient


def degrees_of_freedom(estimator, gradients):
    """Degrees of freedom of quantities with these gradients; in linear models each is a contrast of coefficients."""
    df = estimator._inference_df()
    if not hasattr(df, "each"):
        return df
    parameters = _Parameters(estimator)
    to_natural = parameters.natural_map
    contrasts = np.linalg.solve(to_natural.T, gradients[:, : len(to_natural)].T).T
    _, _, vcov = estimator._fixed_effects()
    contrasts[:, ~np.isfinite(np.diagonal(vcov))] = 0.0
    df = df.each(contrasts)
    return None if np.isinf(df).all() else df


def _wald_columns(names, estimate, se, level, df):
    level = check_level(level)
    reference = reference_distribution(df)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = estimate / se
    reach = reference.ppf((1 + level) / 2) * se
    return Table(
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
