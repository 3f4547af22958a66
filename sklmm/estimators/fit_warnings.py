"""What is unusual about a fit, as warnings."""


import numpy as np
import pandas as pd

from sklmm.design.factors import parents_of
from sklmm.design.grouping import other_type
from sklmm.exceptions import (
    AliasedFeaturesWarning,
    ConvergenceWarning,
    FewClustersWarning,
    LabelTypeWarning,
    LaplaceWarning,
    LargeVarianceWarning,
    LightWeightsWarning,
    NoTimesWarning,
    SeparationWarning,
    SingularFitWarning,
    UnidentifiedEffectsWarning,
    WorkingCorrelationWarning,
)
from sklmm.likelihood.more_nodes import STILL
from sklmm.messages import listed, warn

NOTHING = 1e-12  # of a naive variance: a robust one that is rounding error
TOLD = 0.1  # standard errors, that better approximations may move an estimate by without a word
LARGE_SD = 8.0  # between groups, in logits: of 100 groups about 60 have probabilities below 0.02 or above 0.98
FINITE = (
    "Finite estimates and errors have MixedLogisticRegression(priors='soft') or (priors='weak'), and "
    "GEELogisticRegression(penalty='firth')"
)
_CALLER = 4  # from here over fit and its callback wrapper to the user's line


def warn_of_labels(name, levels, n_obs):
    """Warn of labels that differ only in type; of fractions that hardly recur, as after the columns of X have moved."""
    texts = pd.Series(list(map(str, levels)) if pd.api.types.infer_dtype(levels).startswith("mixed") else [])
    if texts.duplicated().any():
        twice = levels[np.flatnonzero(texts == texts[texts.duplicated()].iloc[0])]
        warn(
            f"{name} has labels that differ only in type, such as {' and '.join(map(repr, twice))}: they are groups of "
            "their own. Give the column one type",
            LabelTypeWarning,
        )
    if levels.dtype.kind == "f" and 2 * len(levels) >= n_obs:
        warn(
            f"{name} holds {len(levels):,} different fractions in {n_obs:,g} rows, as a measurement does: is it the "
            "column of groups?",
            UnidentifiedEffectsWarning,
        )


def warn_of_many_effects(factors, n_obs):
    """Warn where a factor has at least as many random effects as there are rows."""
    for factor in factors:
        n_levels, q = len(factor.levels), len(factor.columns)
        warn_of_labels(factor.name, factor.levels, n_obs)
        if n_levels >= n_obs:
            what = f"{factor.name} has as many groups ({n_levels}) as there are rows"
        elif n_levels * q >= n_obs:
            what = (
                f"{factor.name} has {n_levels} groups with {q} random coefficients each, "
                f"but there are {n_obs:g} rows"
            )
        else:
            continue
        warn(
            f"{what}: the data say little about the covariance of the random effects; "
            "take a coarser grouping or fewer random coefficients",
            UnidentifiedEffectsWarning,
        )


def warn_of_equal_partitions(factors, codes, coefficients):
    """Warn where two factors part the rows into the same groups and share a coefficient.

    Parameters
    ----------
    factors : list of FactorStructure
    codes : list of ndarray
        Of each factor's levels, by row.
    coefficients : list of dict of int -> str
        For each factor the names of its coefficients by their column.
    """
    for j, (one, names) in enumerate(zip(factors, coefficients, strict=True)):
        for other, other_codes in zip(factors[:j], codes, strict=False):
            shared = [names[column] for column in one.columns if column in other.columns]
            if not shared or one.n_levels != other.n_levels:
                continue
            if parents_of(codes[j], one.n_levels, other_codes) is not None:
                warn(
                    f"{other.name} and {one.name} part the rows into the same groups: the data do not say how the "
                    f"variance of {listed(map(repr, shared))} is divided between them, only what it is in sum. Leave "
                    "one of them out",
                    UnidentifiedEffectsWarning,
                )


def warn_of_label_type(name, levels, labels, codes, consequence):
    """Warn where no label is known since all are of another type, such as "7" in place of 7.

    Parameters
    ----------
    name : str
        Of the factor or column.
    levels : pandas.Index
        The known ones.
    labels : 1-D array-like
    codes : ndarray of intp
        Their places among the levels.
    consequence : str
        What follows, in words.
    """
    if (codes >= 0).any():
        return
    difference = other_type(levels, labels)
    if difference is not None:
        warn(
            f"none of the labels of {name!r} is known: {difference}. {consequence}; give labels of the type of the fit",
            LabelTypeWarning,
        )


def error_of_approximation(fit, names, effects):
    """A sentence on what more quadrature nodes would change, or None where that is little.

    Parameters
    ----------
    fit : MixedFit
    names : list of str
        Of the fixed effects, the intercept included.
    effects : list of str
        Of the random coefficients.
    """
    change = fit.more_nodes
    if change is None:
        return None
    known = change.nodes > fit.n_quadrature  # else there are no more of them
    if change.largest <= (TOLD if known else STILL):
        return None
    if not known:
        return (
            f"even {change.nodes} quadrature nodes do not make the estimates stand still: against fewer of them they "
            f"moved by {change.largest:.2g} standard errors. Groups that differ this much say little of how much"
        )
    what = f"{change.nodes} quadrature nodes change the log-likelihood there by {change.log_likelihood:+.3g}"
    if change.largest > 1.0:  # farther than first-order steps tell
        off = "more than a standard error"
    else:
        off = f"{change.largest:.2g} standard errors"
        fixed = change.in_errors[: len(names)]
        moves = [
            f"the standard deviation of {name} from {now:.3g} to {then:.3g}"
            for name, now, then in zip(effects, change.sds, change.sds_then, strict=True)
        ]
        if len(names):
            j = int(np.abs(fixed).argmax())
            moves.append(f"the coefficient of {names[j]} by {fixed[j]:+.2g} standard errors")
        what += f" and move {', '.join(moves)}, to first order"
    return f"Laplace's approximation is off by {off}: {what}. Fit with n_quadrature='auto'"


def warn_of_fit(fit, X, names, large, approximation=None):
    """Warn of columns without a finite or unique coefficient, of singularity, and only then of convergence.

    Parameters
    ----------
    fit : MixedFit
    X : ndarray
        The features that were fitted.
    names : list of str
        Their names.
    large : list of str
        See `large_variances`.
    approximation : str or None
        See `error_of_approximation`.
    """
    _warn_of_columns(fit, X, names)
    if fit.unidentified:
        lost = ", ".join("the intercept" if j < 0 else repr(names[j]) for j in fit.unidentified)
        warn(
            f"beside the other coefficients the data say nothing of {lost} where the fit ended: standard errors are "
            "NaN, and the estimates are one choice of many. Leave columns out, or find more rows of either outcome",
            AliasedFeaturesWarning,
        )
    for sentence in large:
        warn(sentence, LargeVarianceWarning)
    if fit.is_singular:
        _warn_of_boundary()
    if fit.far_maximum is not None:
        value, sds = fit.far_maximum
        warn(
            f"the approximate log-likelihood has another maximum, {value - fit.log_likelihood:.3g} higher, with "
            f"standard deviations of the random effects up to {sds.max():.3g}; it is taken for an error of the "
            "approximation. More nodes (n_quadrature, with one grouping factor) or larger groups would tell",
            LaplaceWarning,
        )
    if approximation is not None:
        warn(approximation, LaplaceWarning)
    _warn_of_convergence(fit.report)


def warn_of_linear_fit(fit, X, names):
    """The same for linear models.

    Parameters
    ----------
    fit : LinearFit
    X, names
        As in `warn_of_fit`.
    """
    _warn_of_columns(fit, X, names)
    for sentence in fit.trouble:
        warn(sentence, UnidentifiedEffectsWarning)
    if fit.is_singular and not fit.trouble:
        _warn_of_boundary()
    _warn_of_convergence(fit.report)


def _warn_of_boundary():
    warn(
        "the fit is singular: a variance of the random effects is estimated as 0, or a correlation "
        "as -1 or 1 (see covariance_). The fit is valid; a simpler random_effects would fit as well",
        SingularFitWarning,
    )


def large_variances(fit, structure, codes, moments, y, sample_weight):
    """A sentence for each factor between whose groups linear predictors differ too much for an estimate.

    Parameters
    ----------
    fit : MixedFit
    structure : Structure
    codes : list of ndarray
        Of each factor's levels, by row.
    moments : list of ndarray
        For each factor the mean of z z', see `RowMoments`.
    y : ndarray of uint8
    sample_weight : ndarray or None
    """
    family, sentences = structure.family, []
    ratios = "" if family.ratio is None else f"{family.ratio}s, "
    for factor, code, units, second in zip(structure.factors, codes, fit.effect_units, moments, strict=True):
        sd = np.sqrt(np.sum(units.Lambda * (second @ units.Lambda)))
        if sd <= LARGE_SD * family.scale:
            continue
        rows = np.bincount(code, weights=sample_weight, minlength=factor.n_levels)
        ones = np.bincount(code[y > 0], weights=None if sample_weight is None else sample_weight[y > 0],
                           minlength=factor.n_levels)  # fmt: skip
        constant = np.count_nonzero((ones == 0) | (ones == rows))
        if constant == factor.n_levels:
            what = f"all rows of a group of {factor.name} have the same outcome, so that its variance has no maximum"
            advice = f"The outcome is one of groups, not of rows: fit one row a group, with features of {factor.name}"
        else:
            what = f"few rows decide on the variance of {factor.name}, so that it"
            if constant:
                groups = f"{constant:,} of {factor.n_levels:,} groups of {factor.name}"
                what = f"{groups} have one outcome in all their rows, so that its variance"
            what = f"{what} has next to no upper bound"
            advice = (
                "See conf_int(method='profile') and compare with more nodes (n_quadrature=15), or take larger groups "
                "or fewer random coefficients"
            )
        sentences.append(
            f"{what}: the standard deviation between groups is {sd:.3g} on the {family.name} scale, where "
            f"{ratios}intraclass correlation and predictions of new groups mean little. {advice}"
        )
    return sentences


def warn_of_marginal_fit(fit, X, names, correlation, cov_type):
    """The same for estimating equations, with clusters that are too few and working correlations out of range.

    Parameters
    ----------
    fit : GEEFit
    X, names
        As in `warn_of_fit`.
    correlation : WorkingCorrelation
    cov_type : str
    """
    _warn_of_columns(fit, X, names)
    if fit.trouble:
        warn(
            f"the {correlation.name} working correlation {fit.trouble}. Another structure may fit better",
            WorkingCorrelationWarning,
        )
    n_coefficients = fit.bread.shape[0]
    if fit.too_light:
        warn(
            "sample_weight counts rows and pairs of them, and there are too few to take one off for each of "
            f"{n_coefficients} coefficients: the dispersion and the working correlation are estimated without. Scale "
            "the weights to sum to the number of rows, or use ddof_correction=False",
            LightWeightsWarning,
        )
    if cov_type != "naive" and fit.n_clusters <= n_coefficients:
        warn(
            f"there are {fit.n_clusters} groups for {n_coefficients} coefficients: a robust covariance needs more "
            "groups than "
            "coefficients (better, dozens of them). There are no degrees of freedom for tests; use fewer features, "
            "or cov_type='naive'",
            FewClustersWarning,
        )
    elif cov_type != "naive" and not fit.separated:
        _warn_of_lone_groups(fit, names)
    _warn_of_convergence(fit.report)


def _warn_of_lone_groups(fit, names):
    """Warn of coefficients that a single group tells: its scores sum to 0 at the solution, and are all that a robust
    covariance knows."""
    half = fit.coordinates @ fit.bread
    naive = fit.dispersion * (half * fit.coordinates).sum(axis=1)  # in the outcome's units, as robust ones are
    robust = (half @ fit.meats[0] * half).sum(axis=1)
    lone = np.flatnonzero(robust < NOTHING * naive)  # an aliased column has neither
    if lone.size and fit.dispersion > 0:
        first = len(naive) - len(names)  # the intercept's place, if there is one
        lost = ", ".join("the intercept" if j < first else repr(names[j - first]) for j in lone)
        warn(
            f"a single group tells the coefficient of {lost}: its robust standard error is 0, which says nothing of "
            "its error. Use cov_type='naive', or find more groups in which these columns differ",
            FewClustersWarning,
        )


def warn_of_row_order(correlation):
    """Warn that the order of a group's rows is taken for their times."""
    warn(
        f"no times were given: the {correlation.name} working correlation takes the rows of a group, in their order, "
        "as equally spaced in time. Pass time=, or name the column in time_feature",
        NoTimesWarning,
    )


def _warn_of_columns(fit, X, names):
    def named(columns):
        return listed("the intercept" if j < 0 else repr(names[j]) for j in columns)

    if fit.aliased:
        constant = [j for j in fit.aliased if np.ptp(X[:, j]) == 0]
        collinear = [j for j in fit.aliased if j not in constant]
        parts = [f"constant: {named(constant)}"] * bool(constant)
        parts += [f"collinear with other columns: {named(collinear)}"] * bool(collinear)
        warn(
            f"columns of X whose coefficients are not identified ({'; '.join(parts)}): "
            "they are left out, with coefficient 0 and standard error NaN",
            AliasedFeaturesWarning,
        )
    if fit.separated:
        warn(
            f"the classes are separated by {named(fit.separated)}: the maximum of the likelihood is "
            "at infinity, the estimates are where the fit stopped, and their standard errors mean nothing. "
            f"{FINITE}",
            SeparationWarning,
        )


def _warn_of_convergence(report):
    if not report.converged:
        warn(f"the fit did not converge: {report.verdict}", ConvergenceWarning)
