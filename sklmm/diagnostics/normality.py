"""Are random effects normal? Their conditional modes, against those of data that the fitted model makes.

A conditional mode is shrunk towards 0, so that over groups its variance is that of the random coefficient less the
conditional one; divided by the root of it, modes of groups with very many rows are about standard normal (Goldstein
2011). With 5 or 50 binary rows a group they are not, whatever the random effects: they take few values, and those of
groups with one outcome only lie apart. What they look like where random effects are normal is found by simulation:
random effects and outcomes are drawn from the fit, and the model is fitted to them. In a linear model modes are sums of
normal outcomes, and normal whatever the number of rows, those of different groups of one factor independent but for
the estimates: there nothing needs to be fitted.

References
----------
Goldstein H (2011). Multilevel Statistical Models, 4th ed. Wiley.

Davison AC, Hinkley DV (1997). Bootstrap Methods and their Application. Cambridge University Press, chapter 4.
"""

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from sklmm.design.structure import Observations, Structure
from sklmm.fitted import FittedLinear, FittedMixed, fitted_of
from sklmm.inference.bootstrap import ParametricDraw, seed_sequence
from sklmm.inference.tables import Table
from sklmm.likelihood.fit import fit_mixed
from sklmm.likelihood.linear_fit import fit_linear
from sklmm.passes.threads import effective_threads

MOST_SHAPIRO = 5000  # scipy's Shapiro-Wilk statistic is for samples up to this size
FEWEST = 8  # groups
_BINS = 200
_CHUNK = 1 << 16  # rows at a time
_TOL = 1e-6  # of refits, in log-likelihood: far below what modes differ by from one simulation to the next


def random_effects_normality(
    estimator,
    X=None,
    y=None,
    groups=None,
    *,
    sample_weight=None,
    offset=None,
    precision_weight=None,
    n_simulations=99,
    random_state=0,
):
    """Are random effects normal? Tests on standardised conditional modes, term by term.

    The statistic is Shapiro and Wilk's, or with more than 5,000 groups D'Agostino and Pearson's; its distribution,
    where random effects are normal, is found from data that the fitted model makes. Where groups have few rows the
    modes say little about the distribution of the random effects, and a large p-value says little, too.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression or MixedLinearRegression
    X, y, groups, sample_weight, offset, precision_weight
        The rows of the fit, as `fit` got them. They are needed for several grouping factors, and of models of classes
        for random slopes. For a random intercept the fit keeps enough: the rows and the mean linear predictor of each
        group, and the spread within groups. A linear model with one factor needs nothing; with the rows its p-values
        allow for the estimates, too.
    n_simulations : int, default=99
    random_state : int, SeedSequence, Generator, RandomState or None, default=0
        For the simulations.

    Returns
    -------
    tests : DataFrame
        A row a random coefficient, (term, coefficient); columns "n_groups", "skewness", "excess_kurtosis", "statistic"
        and "p_value": the share of simulated statistics that are as extreme, or where none is, what a normal
        distribution fitted to their logarithms gives. NaN for a variance of 0, and for fewer than 8 groups.

    Raises
    ------
    ValueError
        If the rows are needed and not there, or if the model has learnt of other groups since its fit.
    """
    check_is_fitted(estimator)
    if not isinstance(fitted_of(estimator), FittedMixed):
        raise TypeError(f"a {type(estimator).__name__} has no random effects; this is for mixed models")
    if isinstance(n_simulations, bool) or not isinstance(n_simulations, (int, np.integer)) or n_simulations < 19:
        raise ValueError(f"n_simulations must be an integer >= 19, got {n_simulations!r}")
    factors = estimator._fitted.factors
    kept = ([getattr(factor, name) for factor in factors] for name in ("covariance", "modes", "mode_cov"))
    observed = _standardised(_terms(factors), *kept)
    simulated = {key: [] for key in observed}
    if any(values.size >= FEWEST for values in observed.values()):
        what = "random_effects_normality"
        rows = X, y, groups, sample_weight, offset, *([] if precision_weight is None else [precision_weight])
        for effects in simulated_effects(estimator, what, rows, n_simulations, random_state):
            for key, values in effects.items():
                if values.size >= FEWEST:
                    simulated[key].append(_log_departure(values))
    found = {}
    for key, values in observed.items():
        row = dict.fromkeys(("skewness", "excess_kurtosis", "statistic", "p_value"), np.nan)
        if values.size >= FEWEST:
            row = {
                "skewness": stats.skew(values),
                "excess_kurtosis": stats.kurtosis(values),
                "statistic": _test(values).statistic,
                "p_value": _share_beyond(_log_departure(values), np.array(simulated[key])),
            }
        found[key] = {"n_groups": values.size, **row}
    columns = ["n_groups", "skewness", "excess_kurtosis", "statistic", "p_value"]
    table = Table.from_dict(found, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(list(found) or [("", "")], names=["term", "coefficient"])[: len(found)]
    return table


def _test(values):
    return (stats.shapiro if values.size <= MOST_SHAPIRO else stats.normaltest)(values)


def _log_departure(values):
    """The logarithm of a statistic that grows with the departure from a normal distribution."""
    statistic = _test(values).statistic
    return np.log(max(1.0 - statistic if values.size <= MOST_SHAPIRO else statistic, np.finfo(float).tiny))


def _share_beyond(value, simulated):
    """P-value of a statistic among simulated ones, of which it is one more if the model is right."""
    if simulated.size < 2:
        return np.nan
    beyond, n = np.count_nonzero(simulated >= value), simulated.size + 1
    if beyond:
        return (beyond + 1) / n
    return float(min(1 / n, stats.norm.sf(value, simulated.mean(), simulated.std(ddof=1))))


# Modes of data that the model makes ---------------------------------------------------------------------------


def simulated_effects(estimator, what, given, n, random_state):
    """Yield n dicts (term, coefficient) -> standardised modes, of fits to outcomes drawn from the fit; fewer where some
    can't be fitted.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression or MixedLinearRegression
    what : str
        Who asks, for messages.
    given : tuple
        The rows of the fit: X, y, groups, sample_weight and offset, or None each; precision weights, if there are any.
    n : int
    random_state : int, SeedSequence, Generator, RandomState or None
    """
    factors = estimator._fitted.factors
    if len(factors) == 1 and factors[0].levels is not estimator._fitted.levels:
        raise ValueError(f"the model has learnt of other groups since its fit: {what} needs the one that was fitted")
    if isinstance(estimator._fitted, FittedLinear):
        yield from _of_linear_model(estimator, what, given, n, np.random.default_rng(seed_sequence(random_state)))
        return
    _, beta, _ = estimator._fixed_effects()
    if given[0] is None and estimator._fitted.level_logits is not None:
        family, nodes = estimator._fitted.family, estimator.n_quadrature_
        structure = Structure([factors[0].structure()], n_quadrature=nodes, family=family)
        rows_of, beta = estimator._fitted.level_logits.rows, np.array([estimator.intercept_[0], 1.0])
    else:
        rows, structure = estimator._rows_of_fit(what, *given)

        def rows_of(rng):
            return rows

    rng = np.random.default_rng(seed_sequence(random_state))
    draw, terms = None, _terms(factors)
    settings = {
        "tol": max(float(estimator.tol), _TOL),
        "max_iter": int(estimator.max_iter),
        "n_threads": effective_threads(estimator.n_threads),
        "priors": estimator._fitted.priors,
    }
    for _ in range(n):
        if draw is None or given[0] is None:
            draw = ParametricDraw(rows_of(rng), structure, beta, estimator._fitted.theta)
        drawn, _ = draw(rng)
        if drawn.y.min() == drawn.y.max():
            continue
        try:
            fit = fit_mixed(drawn, structure, **settings)
        except (FloatingPointError, np.linalg.LinAlgError):
            continue
        if fit.report.converged:
            yield _of_fit(terms, fit)


def needs_rows(estimator):
    """Whether `simulated_effects` needs the rows of the fit."""
    fitted = estimator._fitted
    return fitted.level_logits is None and not (isinstance(fitted, FittedLinear) and len(fitted.factors) == 1)


def _of_linear_model(estimator, what, given, n, rng):
    """`simulated_effects` of a linear model: of refits, or without the rows of one factor normal numbers, of which the
    estimates have taken mean and spread as they do where groups have equally many rows."""
    fitted = estimator._fitted
    factors, terms = fitted.factors, _terms(fitted.factors)
    if given[0] is None and not needs_rows(estimator):
        kept = ([getattr(factor, name) for factor in factors] for name in ("covariance", "modes", "mode_cov"))
        sizes = {key: values.size for key, values in _standardised(terms, *kept).items()}
        for _ in range(n):
            draws = {key: rng.standard_normal(size) for key, size in sizes.items()}
            for (_, coefficient), z in draws.items():
                has_mean = coefficient in fitted.fixed_names and z.size > 1
                z -= z.mean() if has_mean else 0.0
                z *= np.sqrt((z.size - (has_mean and fitted.reml)) / np.sum(z**2)) if z.size else 1.0
            yield draws
        return
    settings = {"tol": _TOL, "max_iter": int(estimator.max_iter), "n_threads": effective_threads(estimator.n_threads)}
    settings["priors"] = fitted.priors
    observations, structure = estimator._rows_of_fit(what, *given)
    if observations.weights is not None and (observations.weights % 1.0).any():
        raise ValueError(f"{what} simulates rows, but some sample_weight are no whole numbers")
    refit, _, _ = estimator._refit(observations, structure, "parametric", settings)
    for _ in range(n):
        fit = fit_linear(*refit.draw(rng), **refit.settings)
        if fit.report.converged:
            yield _of_fit(terms, fit)


def _of_fit(terms, fit):
    """Standardised modes of a `MixedFit` or a `LinearFit`."""
    return _standardised(terms, [root @ root.T for root in fit.lambda_], fit.modes, fit.mode_cov)


class LevelLogits:
    """What a fit with a random intercept keeps of its rows, from which rows like them can be drawn.

    Parameters
    ----------
    codes : ndarray of shape (n,)
    logits : ndarray of shape (n,)
        Of the rows, without the intercept; overwritten.
    sample_weight : ndarray or None
    counts : ndarray of shape (n_levels,)
        Rows of each level, or sums of their weights.
    """

    def __init__(self, codes, logits, sample_weight, counts):
        weighted = logits if sample_weight is None else logits * sample_weight
        mean = np.bincount(codes, weights=weighted, minlength=len(counts)) / np.maximum(counts, 1e-300)
        parts = [slice(first, first + _CHUNK) for first in range(0, len(codes), _CHUNK)]
        for part in parts:
            logits[part] -= mean[codes[part]]
        low, share = logits.min(), np.zeros(_BINS)
        width = (logits.max() - low) / _BINS or 1.0
        for part in parts:
            place = ((logits[part] - low) * ((1.0 - 1e-12) / width)).astype(np.intp)  # the last bin holds the end
            share += np.bincount(place, weights=None if sample_weight is None else sample_weight[part], minlength=_BINS)
        self.within, self.share = low + width * (np.arange(_BINS) + 0.5), share / share.sum()
        self.counts, self.mean = counts, mean.astype(np.float32)

    def rows(self, rng):
        """Rows of these groups: one feature, the linear predictor, around the mean of the group."""
        counts = np.rint(self.counts).astype(np.int64)
        codes = np.repeat(np.arange(len(counts)), counts)
        within = rng.choice(self.within, len(codes), p=self.share)
        within -= (np.bincount(codes, weights=within, minlength=len(counts)) / np.maximum(counts, 1))[codes]
        within *= np.sqrt(counts / np.maximum(counts - 1, 1))[codes]  # whose mean square it has again
        logit = self.mean[codes] + within
        return Observations(logit[:, None], np.zeros(len(codes), dtype=np.uint8), [codes])


def _terms(factors):
    """(term, coefficient) -> number of the factor, and position in it, of each random coefficient."""
    return {
        (term, name): (f, part.start + a)
        for f, factor in enumerate(factors)
        for term, names, part in factor.term_slices()
        for a, name in enumerate(names)
    }


def _standardised(terms, covariances, modes, mode_covariances):
    """Standardised modes of each random coefficient, from lists with an entry a factor."""
    return {
        key: standardised_effects(
            modes[f][:, a], np.sqrt(mode_covariances[f][:, a, a]), float(np.sqrt(covariances[f][a, a]))
        )
        for key, (f, a) in terms.items()
    }


def standardised_effects(modes, sd, prior_sd):
    """Modes in units of their standard deviation between groups, of which shrinkage leaves prior^2 - sd^2.

    Modes whose groups say nothing (all shrunk to 0) are left out.
    """
    spread = np.sqrt(np.maximum(prior_sd**2 - sd**2, 0.0))
    informed = spread > 1e-6 * max(prior_sd, np.finfo(float).tiny)
    return modes[informed] / spread[informed]
