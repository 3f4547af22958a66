"""Does the model fit? Quantile residuals, influence of clusters; see `normality` for that of random effects.

A fitted model holds no rows, but what each cluster's score does to its estimates; residuals take the rows again.

References
----------
Dunn PK, Smyth GK (1996). Randomized quantile residuals. Journal of Computational and Graphical Statistics 5, 236-244.

Preisser JS, Qaqish BF (1996). Deletion diagnostics for generalised estimating equations. Biometrika 83, 551-562.
"""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklmm.design.columns import is_frame, one_dimensional, take_rows
from sklmm.design.grouping import encode_groups
from sklmm.design.observations import read_weights
from sklmm.estimators.rows_of_fit import weights_of_rows
from sklmm.families import normal_rule
from sklmm.fitted import FittedMarginal, FittedMixed
from sklmm.inference.estimability import warn_of_rows
from sklmm.prediction.predictor import Predictor, check_effects, probabilities
from sklmm.prediction.simulation import simulate_codes

# Quantile residuals ------------------------------------------------------------------------------------------


def quantile_residuals(
    estimator,
    X,
    y=None,
    groups=None,
    *,
    sample_weight=None,
    offset=None,
    precision_weight=None,
    by=None,
    n_simulations=500,
    predict_effects="marginal",
    random_state=None,
):
    """Where outcomes lie among those that the model would produce: uniform between 0 and 1 if it is right.

    A residual is the share of simulated outcomes below the observed one; ties, which 0 and 1 are full of, are broken at
    random. Without `by` there is a residual a row, which needs no simulation: the distribution of a row is its
    probability (Dunn and Smyth 1996). With `by` outcomes are summed first: sums of a group tell whether groups
    differ as the model says, which single rows cannot.

    A measured outcome is not simulated: it is normal, and so are sums. Its residual is the distribution function of the
    normal at the standardised residual, see the method `residuals` of linear models.

    Parameters
    ----------
    estimator : fitted estimator of this package
    X, y, groups
        As in `fit`: as a rule the rows of the fit. Of a formula with counts the data frame: each of its lines is one
        observation, so many successes of so many trials.
    sample_weight : array-like of shape (n_samples,), default=None
        Counts of rows, whole numbers. Rows that are alike in features and groups are then one observation, so many
        successes of so many trials, with one residual under the index of its first row. None is the column of weights
        that the formula of the model names, where X has it. Of measured outcomes they play no part.
    offset, precision_weight : array-like of shape (n_samples,), default=None
        As in `fit`.
    by : None, str or array-like of shape (n_samples,), default=None
        Labels to sum outcomes by; a str is a grouping factor of the model. Mixed models only: a marginal model does
        not say how the rows of a group are distributed together.
    n_simulations : int, default=500
        For `by`.
    predict_effects : {"marginal", "posterior", "mode", "zero"}, default="marginal"
        As in `MixedLogisticRegression.simulate`; "marginal" draws the random effects anew. Of linear models "marginal",
        or for rows of the fit "posterior": studentised residuals from the expected outcome in the row's group.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same residuals in every call.

    Returns
    -------
    residuals : Series
        By row, by observation or by label. Residuals of different groups are independent; those of rows in one group
        are not, where random effects are averaged over ("marginal").

    Raises
    ------
    ValueError
        If weights are no whole numbers; if a marginal model of groups is asked for residuals of sums, `by` labels or of
        the rows that a weight counts; if the fit had weights, and there are none for as many rows.
    """
    check_is_fitted(estimator)
    if not estimator._fitted.family.has_classes:
        found, _, _ = residuals_of_numbers(estimator, X, y, groups, by, predict_effects, offset, precision_weight)
        return pd.Series(stats.norm.cdf(found), index=found.index, name="quantile_residual")
    if precision_weight is not None:
        raise ValueError("precision_weight is for MixedLinearRegression: outcomes of classes have no residual variance")
    return residuals_and_predictions(
        estimator, X, y, groups, sample_weight, by, n_simulations, predict_effects, random_state, offset
    )[0]


def residuals_and_predictions(
    estimator, X, y, groups, sample_weight, by, n_simulations, predict_effects, random_state, offset=None
):
    """`quantile_residuals` of classes, the mean predicted probability of what each is of, and what that is in words."""
    random = check_random_state(random_state)
    X, y, groups, sample_weight, by, offset = estimator._complete_rows(X, y, groups, sample_weight, by, offset)
    mixed = isinstance(estimator._fitted, FittedMixed)
    if by is not None and not mixed:
        raise ValueError(
            "a marginal model does not say how the rows of a group are distributed together, so that their sums have "
            "no residuals: leave out by, or fit a MixedLogisticRegression"
        )
    if isinstance(n_simulations, bool) or not isinstance(n_simulations, (int, np.integer)) or n_simulations < 1:
        raise ValueError(f"n_simulations must be an integer >= 1, got {n_simulations!r}")
    rows = estimator._read_new_rows(X, groups if mixed else None, offset)
    n = rows.X.shape[0]
    lines = _lines(estimator, X, y, sample_weight)
    if lines is None:
        _, y, _, _ = estimator._rows_with_outcomes(X, y, groups, sample_weight)  # a formula finds them in X
        counts = _counts(read_weights(weights_of_rows(estimator, X, sample_weight), n))
        mask = np.ones(n, dtype=bool) if counts is None else counts > 0
        successes = estimator._read_target(take_rows(one_dimensional(y, "y", n), mask))
    else:
        successes, counts = map(_counts, lines)
        mask = counts > 0
        successes = successes[mask]
    if counts is not None:
        rows.keep(mask)
        counts = counts[mask]
        successes = successes if lines is not None else successes * counts
    p = _probability(estimator, rows, predict_effects)
    if by is not None:
        by = by if isinstance(by, str) else take_rows(one_dimensional(by, "by", n), mask)
        code, levels = labels_of_rows(estimator, rows, by)
        simulated = simulate_codes(estimator, rows, int(n_simulations), random, predict_effects, counts)
        residuals = _ranks(successes, simulated, code, len(levels), random)
        weights = np.ones(len(p)) if counts is None else counts
        mean = np.bincount(code, weights=weights * p) / np.bincount(code, weights=weights)
        of = by if isinstance(by, str) else None
        return pd.Series(residuals, index=levels, name="quantile_residual"), mean, f"levels of {of}" if of else "labels"
    labels = (X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(n))[mask]
    if counts is None or (counts == 1).all():
        u = random.uniform(size=p.size)
        residuals = np.where(successes, 1.0 - p * (1.0 - u), (1.0 - p) * u)
        return pd.Series(residuals, index=labels, name="quantile_residual"), p, "rows"
    code, first = _alike(rows) if lines is None else (np.arange(len(p)),) * 2
    trials = np.bincount(code, weights=counts)
    if not mixed and estimator.n_groups_ and (trials > 1).any():
        raise ValueError(
            "a marginal model does not say how the rows of a group are distributed together, so that those which a "
            "weight counts have no residuals: pass every row once, or fit a MixedLogisticRegression"
        )
    successes = np.bincount(code, weights=successes)
    if mixed:
        codes = estimator._lookup(rows) if predict_effects in ("posterior", "mode") else []
        own = [factor_codes[first] for factor_codes in codes]
        offset = None if rows.offset is None else rows.offset[first]
        lower, upper = _cdf_of_counts(estimator, rows.X[first], own, successes, trials, predict_effects, offset)
    else:
        lower, upper = (stats.binom.cdf(k, trials, p[first]) for k in (successes - 1, successes))
    residuals = lower + (upper - lower) * random.uniform(size=len(first))
    return pd.Series(residuals, index=labels[first], name="quantile_residual"), p[first], "observations"


def residuals_of_numbers(estimator, X, y, groups=None, by=None, effects="marginal", offset=None, precision_weight=None):
    """Residuals of a measured outcome, standard normal if the model is right, of rows or of sums by label.

    A sum of outcomes has the variance of its residuals and, of each level in it, that of its summed loadings t'u.

    Returns
    -------
    residuals : Series
    expected : ndarray
        Expected outcome of each, of sums the mean.
    what : str
        What residuals are of.
    """
    if isinstance(estimator._fitted, FittedMarginal):
        if by is not None:
            raise ValueError(
                "a marginal model does not say how the rows of a group are distributed together, so that their sums "
                "have no residuals: leave out by, or fit a MixedLinearRegression"
            )
        left = estimator.residuals(X, y, offset=offset)
        return left, estimator.predict(*estimator._complete_rows(X), offset=offset), "rows"
    kinds = {"marginal": "marginal", "posterior": "conditional"}
    if effects not in kinds or (by is not None and effects != "marginal"):
        which = "'marginal' or 'posterior' for a linear model" if by is None else "'marginal' for residuals of sums"
        raise ValueError(f"predict_effects must be {which}, got {effects!r}")
    arrays = y, groups, by, offset, precision_weight
    X, y, groups, by, offset, precision_weight = estimator._complete_rows(X, *arrays)
    given = {"offset": offset, "precision_weight": precision_weight}
    how = "studentised" if effects == "posterior" else by is None
    left = estimator.residuals(X, y, groups, kind=kinds[effects], standardise=how, **given)
    mean = estimator.predict(X, groups, offset=offset, predict_effects="zero" if effects == "marginal" else "posterior")
    if by is None:
        return left, mean, "rows"
    rows, fitted = estimator._read_new_rows(X, groups, **given), estimator._fitted
    code, levels = labels_of_rows(estimator, rows, by)
    precision = np.ones(len(code)) if rows.precision_weight is None else rows.precision_weight
    variance = fitted.sigma**2 * np.bincount(code, weights=1.0 / precision)
    for factor in fitted.factors:
        t = pd.DataFrame(factor.units.loadings(np.asarray(rows.X, dtype=np.float64)))
        if not rows.groups:
            raise ValueError("residuals of sums need the groups of the rows: pass groups, as to fit")
        own, _ = pd.factorize(np.asarray(factor.labels(rows.column)))
        own[own < 0] = len(own) + np.flatnonzero(own < 0)  # a row without a label is a group of its own
        sums = t.groupby([code, own]).sum()
        variance += np.bincount(sums.index.get_level_values(0), weights=np.sum(sums.to_numpy() ** 2, axis=1))
    sums = np.bincount(code, weights=left) / np.sqrt(variance)
    found = pd.Series(sums, index=levels, name="standardised_residual")
    what = f"levels of {by}" if isinstance(by, str) else "labels"
    return found, np.bincount(code, weights=mean) / np.bincount(code), what


def _lines(estimator, X, y, sample_weight):
    """Numbers of events and trials of the lines of a data frame; None for rows that come with their outcomes."""
    design, recipe = estimator._fitted.formula, estimator._recipe
    if y is not None or design is None or not is_frame(X) or design.trials(X) is None:
        return None
    line, outcome, weights = design.counts.rows(X)
    if sample_weight is None and recipe.sample_weight in X.columns:
        sample_weight = X[recipe.sample_weight]
    if sample_weight is not None:
        weights = weights * np.asarray(sample_weight, dtype=np.float64)[line]
    happened = outcome == estimator._fitted.event
    return [np.bincount(line, weights=values, minlength=len(X)) for values in (weights * happened, weights)]


def _counts(weights):
    """Weights as whole numbers."""
    if weights is None:
        return None
    counts = np.rint(weights).astype(np.int64)
    if (np.abs(weights - counts) > 1e-9 * weights).any():
        raise ValueError("residuals are of counts, but some sample_weight are no whole numbers")
    return counts


def _ranks(outcome, simulated, code, n_levels, random):
    """Ranks of sums by label among those simulated, between 0 and 1."""

    def sums(values):
        return np.bincount(code, weights=values, minlength=n_levels)

    observed, n = sums(outcome), 0
    below, equal = np.zeros(n_levels), np.zeros(n_levels)
    for values in simulated:
        total, n = sums(values), n + 1
        below += total < observed
        equal += total == observed
    # The observed sum is one of n + 1 that are alike if the model is right: its rank, ties broken, is uniform.
    return (below + random.uniform(size=n_levels) * (equal + 1.0)) / (n + 1.0)


def _alike(rows):
    """Codes of rows that are alike in features, groups and offset, and the first row of each."""
    table = pd.DataFrame(np.asarray(rows.X)).assign(
        **{f"g{j}": pd.factorize(np.asarray(labels))[0] for j, labels in enumerate(rows.groups.values())}
    )
    if rows.offset is not None:
        table["offset"] = rows.offset
    if table.shape[1] == 0:
        return np.zeros(len(table), dtype=np.intp), np.zeros(1, dtype=np.intp)
    code = table.groupby(list(table.columns), sort=False).ngroup().to_numpy()
    return code, np.unique(code, return_index=True)[1]


def _cdf_of_counts(estimator, X, codes, successes, trials, effects, offset):
    """P(K < k) and P(K <= k) for the number K of successes among trials that share a row's linear predictor."""
    predictor = Predictor.of(estimator, 1)
    mean, sd, nodes = predictor.linear_predictor(np.asarray(X, dtype=np.float64), codes, effects, offset)
    if nodes is None:
        return _binomial_cdf(successes, trials, mean, sd, predictor.family)
    known, t, levels = nodes
    eta, weights = estimator._fitted.factors[0].posterior.predictors(mean[known], t, levels)
    weights /= weights.sum(axis=1, keepdims=True)
    out = np.empty((2, len(mean)))
    for at, k in enumerate((successes - 1, successes)):
        cdf = stats.binom.cdf(k[known, None], trials[known, None], predictor.family.mean(eta))
        out[at, known] = np.einsum("nk,nk->n", cdf, weights)
    unknown = np.ones(len(mean), dtype=bool)
    unknown[known] = False
    left = (values[unknown] for values in (successes, trials, mean, sd))
    out[:, unknown] = _binomial_cdf(*left, predictor.family)
    return out


def _binomial_cdf(successes, trials, mean, sd, family):
    """P(K < k) and P(K <= k) for binomial K, its linear predictor normal with these means and standard deviations."""
    if sd is None:
        p = family.mean(mean)
        return stats.binom.cdf(successes - 1, trials, p), stats.binom.cdf(successes, trials, p)
    out = np.empty((2, len(mean)))
    order = np.argsort(sd * np.sqrt(trials))  # rows that need as fine a rule
    for part in np.array_split(order, max(1, len(order) // 256)) if len(order) else ():
        # A distribution function of n trials rises within about 2 / sqrt(n) of a logit, and nodes must be as near.
        steepness = max(sd[part].max(), 0.3 * (sd[part] * np.sqrt(trials[part])).max())
        z, w = normal_rule(family.sharpness * steepness, most=600.0)
        p = family.mean(mean[part, None] + sd[part, None] * z)
        for at, k in enumerate((successes[part] - 1, successes[part])):
            out[at, part] = stats.binom.cdf(k[:, None], trials[part, None], p) @ w
    return out


def _probability(estimator, rows, effects):
    """Probability of the event in each row."""
    warn_of_rows(estimator, rows.X)
    if not isinstance(estimator._fitted, FittedMixed):
        return probabilities(*estimator._fitted.family.tails(_marginal_predictor(estimator, rows)))[:, 1]
    check_effects(effects)
    codes = estimator._lookup(rows) if effects in ("posterior", "mode") else []
    return probabilities(*Predictor.of(estimator, 1).tails(rows.X, codes, effects, offset=rows.offset))[:, 1]


def _marginal_predictor(estimator, rows):
    """Linear predictors of a marginal model."""
    return Predictor(estimator.coef_[0], estimator.intercept_[0], []).means(rows.X, [], "zero", rows.offset)


def labels_of_rows(estimator, rows, by):
    """Codes and levels of the labels that `by` stands for."""
    if not isinstance(by, str):
        return encode_groups(one_dimensional(by, "by", rows.X.shape[0]), "by")
    for factor in estimator._fitted.factors:
        if factor.name == by:
            if not rows.groups:
                raise ValueError(f"by={by!r} needs the groups of the rows: pass groups, as to fit")
            return encode_groups(factor.labels(rows.column), by)
    raise ValueError(f"{by!r} is no grouping factor of the model; there are {list(estimator.n_groups_)}")


# Influence of clusters ---------------------------------------------------------------------------------------


