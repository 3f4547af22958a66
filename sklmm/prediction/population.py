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
import pandas as pd

from sklmm.design.aliasing import dependent
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.formula import weights_by_formula
from sklmm.design.observations import read_weights, with_products
from sklmm.exceptions import NotEstimableWarning
from sklmm.families import normal_rule
from sklmm.inference.estimability import warn_of_rows
from sklmm.inference.tables import Table
from sklmm.inference.verdict import not_estimated, with_reason
from sklmm.inference.wald import check_level, reference_distribution
from sklmm.messages import listed, warn

_CHUNK = 1 << 13  # rows, so that rows times nodes stay in cache
_STEP = 1e-5  # of differences, in standard deviations of a feature: one-sided ones are wrong by about as much


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
    weights = _weights(weights_by_formula(estimator, X, sample_weight), rows.X.shape[0])
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
    table = _wald_columns(names, estimate, se, level, _df(estimator, gradient))
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
    variables = _Variables(estimator, X, offset)
    weights = _weights(weights_by_formula(estimator, X, sample_weight), variables.n_rows)
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
    table = _wald_columns(names, np.array(estimates), se, level, _df(estimator, gradients))
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


def two_values_of_fit(estimator, name):
    """The values of a variable of numbers that took exactly two in the fit; else None."""
    formula = estimator._fitted.formula
    if formula is None:
        return estimator._fitted.two_values.get(name)
    return formula.numbers[name].two if name in formula.numbers else None


class _Variables:
    """The variables of a model, as its user knows them, and the design after a change of one.

    With a formula they are columns of the data frame, so that powers and products follow; else the features. What a
    change is depends on the fit alone, not on the rows that effects are averaged over.
    """

    def __init__(self, estimator, X, offset=None):
        self.estimator = estimator
        self.formula = estimator._fitted.formula
        rows = estimator._read_new_rows(X, None, offset)
        self.n_rows, self.offset = rows.X.shape[0], rows.offset
        if self.n_rows == 0:
            raise ValueError("X has no rows to average over")
        if self.formula is not None:
            self.frame = self.formula.variables(X)
        else:
            own = len(rows.names) - len(estimator._fitted.products or ())  # the model makes products itself
            array = np.asarray(rows.X[:, :own], dtype=np.float64)
            self.frame = pd.DataFrame(array, columns=pd.Index(rows.names[:own], dtype=object), copy=False)
        errors = _slope_errors(estimator)
        self.aliased = [name for name, se in zip(rows.names[: len(errors)], errors, strict=True) if np.isnan(se)]
        self.names = [name for name in self.frame.columns if self.formula is not None or name not in self.aliased]
        self._blank = self._without_inference(rows.names)

    def _without_inference(self, names):
        """The variables whose coefficients, some or all, were not estimated."""
        blank = not_estimated(self.estimator, ["intercept", *names])
        if blank.all():
            return set(self.frame.columns)
        columns = {name for name, out in zip(names, blank[1:], strict=True) if out}
        return columns if self.formula is None else self.formula.variables_of_columns(columns)

    def is_blank(self, name):
        return name in self._blank

    def chosen(self, features):
        if features is None:
            apart = () if self.formula is None else self.formula.offset_only  # an exposure has no coefficient
            return [name for name in self.names if name not in apart and len(self._levels(name) or (0, 1)) > 1]
        features = [features] if isinstance(features, str) else list(features)
        for name in features:
            if name not in self.frame.columns:
                raise ValueError(f"{name!r} is no feature of the model; there are {list(self.frame.columns)}")
            if len(self._levels(name) or (0, 1)) < 2:
                raise ValueError(f"{name!r} took one value in the fit, so that it has no effect")
        return features

    def _levels(self, name):
        """The values between which a variable changes, the first being the reference; None for one with a slope."""
        if self.formula is not None:
            numbers = self.formula.numbers.get(name)
            if self.formula.is_factor(name) or numbers is None:
                return self.formula.levels(name, self.frame[name])
            if numbers.two is None and pd.api.types.is_bool_dtype(self.frame[name]):
                return (bool(numbers.low),)
        return two_values_of_fit(self.estimator, name)

    def changes(self, name):
        """(what it is called, design after, design before, distance by row) of each change of a variable; designs are
        with their offsets."""
        levels = self._levels(name)
        if levels is None:
            values = self.frame[name].to_numpy(dtype=np.float64)
            upper, lower = values + self._step(name), values - self._step(name)
            numbers = None if self.formula is None else self.formula.numbers[name]
            if numbers is not None and numbers.low < numbers.high:  # splines end where the data did, logarithms at 0
                upper = np.minimum(upper, np.maximum(values, numbers.high))
                lower = np.maximum(lower, np.minimum(values, numbers.low))
            yield name, self.design(name, upper), self.design(name, lower), upper - lower
            return
        is_number = pd.api.types.is_numeric_dtype(self.frame[name]) and not pd.api.types.is_bool_dtype(self.frame[name])
        is_number = is_number and not (self.formula is not None and self.formula.is_factor(name))
        before = self.design(name, levels[0])
        for level in levels[1:]:
            called = name if is_number else f"{name} ({level} - {levels[0]})"
            yield called, self.design(name, level), before, np.ones(self.n_rows)

    def _step(self, name):
        spread = self.estimator._fitted.spreads[name] if self.formula is None else self.formula.numbers[name].spread
        return _STEP * (spread or 1.0)

    def not_estimable(self, name, upper, lower, distance, weights):
        """The columns that were left out of the fit and that a change takes out of line with those in it."""
        if self.formula is None and name in self.aliased:
            return [name]
        found = self.estimator._fitted.dependences
        if found is None:
            return []
        counted = weights > 0
        departs = found.departures(upper[counted]) | found.departures(lower[counted])
        if self.formula is not None:  # of features each stands for those that depend on it
            departs |= found.turns((upper - lower)[counted] / distance[counted, None])
        return [name for name, out in zip(found.names, departs.any(axis=0), strict=True) if out]

    def design(self, name, values):
        if self.formula is None:
            out = self.frame.to_numpy(copy=True)
            out[:, list(self.frame.columns).index(name)] = values
            return with_products(out, self.estimator._fitted.products), self.offset
        column = self.frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            values = pd.Categorical([values] * self.n_rows, dtype=column.dtype)
        changed = self.frame.assign(**{name: values})
        return self.formula.design(changed), self.formula.offset_of(changed)


def _slope_errors(estimator):
    _, _, vcov = estimator._fixed_effects()
    diagonal = np.diagonal(vcov)
    return diagonal[len(diagonal) - estimator.coef_.size :]


def _weights(sample_weight, n_rows):
    """Weights that sum to 1."""
    weights = read_weights(sample_weight, n_rows)
    weights = np.ones(n_rows) if weights is None else weights
    return weights / weights.sum()


def _df(estimator, gradients):
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
