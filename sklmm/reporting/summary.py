"""The summary of a fitted model: what to show of it, and in which words."""

import math

import numpy as np
import pandas as pd

from sklmm.design.columns import column_names
from sklmm.inference.criteria import deviance
from sklmm.inference.verdict import NO_INFERENCE, not_estimated
from sklmm.inference.wald import correlation as correlation_of
from sklmm.inference.wald import standard_errors, wald_table
from sklmm.messages import listed, shown_label
from sklmm.reporting import numbers, rendering
from sklmm.reporting.fit_summary import FitSummary


def summary_of_mixed(estimator, level=0.95, correlation=False):
    """Summary of a fitted `MixedLogisticRegression`, from its fitted attributes.

    Parameters
    ----------
    estimator : MixedLogisticRegression
    level : float, default=0.95
        Confidence level of the intervals.
    correlation : bool, default=False
        Whether to show the correlation of the estimated fixed effects, too.

    Returns
    -------
    FitSummary
        `variance_components` has the rows (term, coefficient) and the columns "variance", "sd" and, where
        coefficients are correlated, "corr_<coefficient>" for every coefficient earlier in its term.
    """
    names = [str(name) for name in estimator.vcov_.index]
    slopes = np.ravel(estimator.coef_)
    coef = np.concatenate([np.ravel(estimator.intercept_), slopes]) if estimator._fitted.fit_intercept else slopes
    blank, family = not_estimated(estimator, names), estimator._fitted.family
    coefficients = wald_table(names, coef, estimator.vcov_.to_numpy(), level, blank=blank, ratio=family.ratio)

    covariance = estimator.covariance_
    facts = [*_outcome_and_rows(estimator), ("Groups", _group_counts(estimator) or "none")]
    if covariance:
        facts.append(("Likelihood", _approximation(estimator.n_quadrature_)))
    facts += _priors(estimator)

    log_likelihood = float(estimator.log_likelihood_)
    statistics = {
        "log-likelihood": log_likelihood,
        "deviance": deviance(log_likelihood),
        "AIC": float(estimator.aic_),
        "BIC": float(estimator.bic_),
        **_log_posterior(estimator),
    }
    notes = _notes_on_fit(estimator, names, estimator.vcov_)
    if estimator.is_singular_:
        notes.append(_singular(covariance))
    if estimator._fitted.approximation is not None:
        notes.append(f"{estimator._fitted.approximation}.")
    title = f"Mixed-effects {family.regression}" if covariance else f"{family.regression}, no random effects"
    return FitSummary(
        title=title[0].upper() + title[1:],
        facts=facts,
        coefficients=coefficients,
        level=level,
        statistics=statistics,
        variance_components=_variance_components(covariance) if covariance else None,
        correlation=_correlation_frame(names, estimator.vcov_) if correlation else None,
        tables=[_partition_table(estimator.variance_partition_)] if covariance else [],
        verdict=_verdict(estimator, names) + _unbounded(estimator),
        notes=notes,
    )


def summary_of_linear(estimator, level=0.95, correlation=False):
    """Summary of a fitted `MixedLinearRegression`, see `summary_of_mixed`."""
    names, coef, vcov = estimator._fixed_effects()
    names, fitted, covariance = [str(name) for name in names], estimator._fitted, estimator.covariance_
    blank, df = not_estimated(estimator, names), estimator._inference_df()
    coefficients = wald_table(names, coef, vcov, level, df=df, blank=blank, ratio=None)
    method = "restricted maximum likelihood (REML)" if fitted.reml else "maximum likelihood"
    tests = {"satterthwaite": "t, degrees of freedom by Satterthwaite", "residual": "t, residual degrees of freedom",
             "kenward-roger": "t, covariance and degrees of freedom by Kenward and Roger"}  # fmt: skip
    log_likelihood = float(estimator.log_likelihood_)
    components = _variance_components(covariance) if covariance else None
    sigma = numbers.fixed(estimator.sigma_, 4)
    notes = _notes_on_fit(estimator, names, estimator.vcov_)
    if estimator.is_singular_:
        notes.append(_singular(covariance))
    title = "Linear mixed-effects regression" if covariance else "Linear regression, no random effects"
    return FitSummary(
        title=title,
        facts=[
            *_numbers_and_rows(estimator),
            ("Groups", _group_counts(estimator) or "none"),
            ("Method", method),
            ("Tests", tests.get(fitted.df, "z (normal distribution)")),
            ("Residual", f"standard deviation {sigma}"),
            *_priors(estimator),
        ],
        coefficients=coefficients,
        level=level,
        statistics={
            "REML log-likelihood" if fitted.reml else "log-likelihood": log_likelihood,
            "deviance": deviance(log_likelihood),
            "AIC": float(estimator.aic_),
            "BIC": float(estimator.bic_),
            **_log_posterior(estimator),
        },
        variance_components=components,
        correlation=_correlation_frame(names, estimator.vcov_) if correlation else None,
        tables=[_partition_table(estimator.variance_partition_, "Variance between groups and explained")]
        if covariance
        else [],
        verdict=_verdict(estimator, names),
        notes=notes,
    )


def summary_of_gee(estimator, level=0.95, correlation=False):
    """Summary of a fitted `GEELogisticRegression`, from its fitted attributes.

    Parameters
    ----------
    estimator : GEELogisticRegression
    level : float, default=0.95
        Confidence level of the intervals.
    correlation : bool, default=False
        Whether to show the correlation of the estimated coefficients, too.

    Returns
    -------
    FitSummary
    """
    names, coef, vcov = estimator._fixed_effects()
    df = estimator._inference_df()
    names = [str(name) for name in names]
    blank, family = not_estimated(estimator, names), estimator._fitted.family
    coefficients = wald_table(names, coef, vcov, level, df=df, blank=blank, ratio=family.ratio)
    estimated = "fixed" if estimator._fitted.dispersion_is_fixed else "estimated"
    outcome = _outcome_and_rows(estimator) if family.has_classes else _numbers_and_rows(estimator)
    facts = [
        *outcome,
        ("Clusters", _clusters(estimator)),
        ("Correlation", _working_correlation(estimator)),
        ("Dispersion", f"{numbers.fixed(estimator.dispersion_, 4)}, {estimated}"),
        ("Covariance", COVARIANCES[estimator.cov_type_]),
        ("Tests", _reference(df)),
        *_penalty(estimator),
    ]
    notes = _notes_on_fit(estimator, names, vcov)
    if estimator._fitted.trouble:
        notes.append(f"The working correlation {estimator._fitted.trouble}.")
    what = "probabilities" if family.has_classes else "means"
    notes.append(f"Coefficients and {what} are population-averaged: over all clusters, not within one.")
    return FitSummary(
        title=f"Marginal {family.regression} (generalized estimating equations)",
        facts=facts,
        coefficients=coefficients,
        level=level,
        statistics={
            "QIC": float(estimator.qic_),
            "QICu": float(estimator.qicu_),
            "CIC": float(estimator.cic_),
        },
        coefficients_title="Coefficients",
        correlation=_correlation_frame(names, vcov) if correlation else None,
        tables=_correlation_tables(estimator),
        verdict=_verdict(estimator, names),
        notes=notes,
    )


# --- both models --------------------------------------------------------------------------------------------


def _outcome_and_rows(estimator):
    other, one = (shown_label(estimator.classes_[at]) for at in (1 - estimator._fitted.event, estimator._fitted.event))
    return [("Outcome", f"probability of {one} (against {other})"), *_rows_and_offset(estimator)]


def _numbers_and_rows(estimator):
    formula = estimator._fitted.formula
    return [("Outcome", "y" if formula is None else formula.response), *_rows_and_offset(estimator)]


def _rows_and_offset(estimator):
    return [
        ("Rows", numbers.count(estimator.n_obs_) + _rows_left_out(estimator)),
        *([("Offset", offset)] if (offset := _offset(estimator)) else []),
        *([("Precision", precision)] if (precision := _precision(estimator)) else []),
    ]


def _offset(estimator):
    """What is added to the linear predictor, in words; None where there is nothing."""
    fitted = estimator._fitted
    if not fitted.has_offset:
        return None
    if fitted.formula is not None:
        return " + ".join(offset.text for offset in fitted.formula.offsets)
    return "as passed to fit" if fitted.takes_offset else repr(str(column_names(estimator)[fitted.offset_column]))


def _precision(estimator):
    """What the residual variance is divided by, in words; None where that is 1."""
    fitted = estimator._fitted
    if not fitted.had_precision:
        return None
    column = fitted.positions.get("precision_weight_feature")
    if fitted.formula is not None:
        return repr(estimator._recipe.precision_weight)
    return "as passed to fit" if column is None else repr(str(column_names(estimator)[column]))


def _rows_left_out(estimator):
    dropped = 0 if (formula := estimator._fitted.formula) is None else formula.n_dropped
    return f" ({dropped:,} more are left out: values are missing)" if dropped else ""


def _group_counts(estimator):
    within, counts = dict(estimator._fitted.nesting), estimator._fitted.n_groups  # which the other numbers are of
    return ", ".join(f"{count:,} of {_nested(factor, within)}" for factor, count in counts.items())


def _nested(factor, within):
    """ "class within school", for a factor class or school:class."""
    outer = within.get(factor)
    return factor if outer is None else f"{factor.removeprefix(outer + ':')} within {outer}"


def _verdict(estimator, names):
    """What must be read before any number: that there are none, or none of some coefficients."""
    if not estimator.converged_:
        return [f"NOT CONVERGED: estimates are where the fit stopped; there are {NO_INFERENCE}."]
    blank = not_estimated(estimator, names)
    if blank.any():
        which = "any coefficient, as every outcome is predicted" if blank.all() else "these"
        return [f"SEPARATED by {listed(estimator._fitted.separated)}: there are {NO_INFERENCE} of {which}."]
    return []


def _notes_on_fit(estimator, names, vcov):
    notes = []
    verdict = estimator.fit_report_.verdict.strip()
    if estimator.converged_:
        verdict = verdict or "converged"
        notes.append(f"{verdict[0].upper()}{verdict[1:]}.")
    else:
        notes.append(f"NOT CONVERGED: {verdict or 'the iterations stopped early'}.")
    if (meaning := with_priors_in_words(estimator._fitted)) is not None:
        notes.append(meaning)
    if estimator._fitted.separated:
        notes.append(
            f"The classes are separated by {listed(estimator._fitted.separated)}: coefficients run off to infinity. "
            "The estimates are where the fit stopped, and their standard errors mean nothing."
        )
    without = np.isnan(standard_errors(vcov))
    aliased = np.isnan(np.diagonal(vcov))
    if aliased.any():
        notes.append(f"No standard error, not identified by the data: {listed(np.array(names)[aliased])}.")
    if (without & ~aliased).any():
        flat = listed(np.array(names)[without & ~aliased])
        notes.append(f"No standard error, as the likelihood is not at a maximum where the fit stopped: {flat}.")
    return notes


def _priors(estimator):
    priors = estimator._fitted.priors
    return [] if priors is None else [("Priors", priors.told())]


def _penalty(estimator):
    penalty = estimator._fitted.penalty
    if penalty is None:
        return []
    return [("Penalty", "Firth's" if penalty == "firth" else f"ridge, {penalty:g} on standardised slopes")]


def _log_posterior(estimator):
    return {} if estimator._fitted.priors is None else {"log posterior": float(estimator.log_posterior_)}


def with_priors_in_words(fitted):
    """What numbers of a fit with priors mean, and what they do not; None without."""
    if getattr(fitted, "penalty", None) is not None:
        return (
            "With a penalty: estimates are finite whatever the data, and drawn a little to 0. The quasi-likelihood is "
            "not the highest, and so QIC and QICu are too high."
        )
    if fitted.priors is None:
        return None
    if fitted.priors.chosen == "soft":
        return (
            "Softly penalised: estimates are finite whatever the data, and the penalties vanish as rows grow. Standard "
            "errors, tests and intervals are those of the likelihood at the estimates. The log-likelihood is a little "
            "below its maximum, and so are what AIC and BIC are made of."
        )
    return (
        "With priors: estimates are the mode of likelihood times prior, and standard errors come from its curvature, "
        "so that intervals are approximate posterior intervals; p-values are against 0 in units of these errors, the "
        "prior included. The log-likelihood is not the highest: AIC and BIC are too high, and likelihood ratios mean "
        "nothing."
    )


def _correlation_frame(names, vcov):
    names = [str(name) for name in names]
    return pd.DataFrame(correlation_of(np.asarray(vcov)), index=names, columns=names)


# --- the mixed model ----------------------------------------------------------------------------------------


def _approximation(n_quadrature):
    if n_quadrature == 1:
        return "Laplace approximation"
    return f"adaptive Gauss-Hermite quadrature, {n_quadrature} nodes"


def _variance_components(covariance):
    rows = {}
    for term, matrix in covariance.items():
        values = matrix.to_numpy(dtype=float)
        corr = correlation_of(values)
        # A diagonal matrix is what "||" asks for (or a boundary): there is no correlation to show.
        correlated = np.any(values[~np.eye(len(values), dtype=bool)] != 0)
        for j, name in enumerate(matrix.index):
            row = {"variance": values[j, j], "sd": math.sqrt(max(values[j, j], 0.0))}
            if correlated:
                row |= {f"corr_{earlier}": corr[j, k] for k, earlier in enumerate(matrix.index[:j])}
            rows[str(term), str(name)] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["term", "coefficient"])
    return table


def _partition_table(partition, title="Variance between groups and explained (latent scale)"):
    """Intraclass correlation, median ratio (of a link that has one) and R2; a row a factor where there are several."""
    r2 = [numbers.fixed(value, 4) for value in partition.r2]
    icc, ratio = partition.icc_by_factor, None if partition.measured is not None else partition.family.ratio
    several, ratios = len(icc) > 1, [] if ratio is None else [partition.median_ratio()]
    rows = [
        [name, *(numbers.fixed(values[name], digits) for values, digits in zip([icc, *ratios], (4, 3), strict=False)),
         *(["", ""] if several else r2)]
        for name in icc.index
    ]  # fmt: skip
    if several:
        rows.append(["all", numbers.fixed(partition.icc, 4), *[""] * len(ratios), *r2])
    head = ["", "ICC", *[f"median {ratio}"] * len(ratios), "R2 marginal", "R2 conditional"]
    return rendering.Table(title, head, rows)


def _unbounded(estimator):
    """Variances that are too large to be estimates."""
    return [f"LARGE VARIANCE: {sentence}." for sentence in estimator._fitted.large_variances]


def _singular(covariance):
    where = "; ".join(_boundary(covariance))
    where = f" ({where})" if where else ""
    advice = "The fit is valid; fewer random coefficients would fit as well."
    return f"Singular fit: a variance is on the boundary{where}. {advice}"


def _boundary(covariance):
    """Where a covariance matrix is singular, as far as single entries show it."""
    for term, matrix in covariance.items():
        values = matrix.to_numpy(dtype=float)
        names, corr = list(matrix.index), correlation_of(values)
        for j, name in enumerate(names):
            if values[j, j] <= 0:
                yield f"{term}: the variance of {name} is 0"
            for k in range(j):
                if abs(corr[j, k]) > 1 - 1e-6:
                    yield f"{term}: the correlation of {names[k]} and {name} is {round(corr[j, k])}"


# --- the marginal model -------------------------------------------------------------------------------------

COVARIANCES = {
    "robust": "robust (sandwich)",
    "naive": "naive (model-based: assumes the working correlation)",
    "kauermann-carroll": "Kauermann-Carroll, bias-corrected sandwich",
    "mancl-derouen": "Mancl-DeRouen, bias-corrected sandwich",
    "fay-graubard": "Fay-Graubard, bias-corrected sandwich",
    "morel": "Morel-Bokossa-Neerchal, sandwich corrected for few clusters",
}

# Working correlations that a number or no number at all describes.
_WITHOUT_TABLE = ("independence", "exchangeable", "AR(1)")
_MOST_SHOWN = 8


def _clusters(estimator):
    smallest, largest = (numbers.count(size) for size in estimator.cluster_sizes_)
    if not estimator.n_groups_:
        return "none given: every row is its own"
    sizes = f"{smallest} to {largest} rows" if smallest != largest else f"{largest} row{'s' * (largest != '1')}"
    return f"{_group_counts(estimator)}, {sizes} each"


def _reference(df):
    """The distribution of the test statistics, in words."""
    if df is None:
        return "z (normal distribution)"
    number = numbers.count(df)
    if df <= 0:
        return f"none: {number} degrees of freedom, clusters less coefficients"
    return f"t with {number} degree{'s' * (df != 1)} of freedom (fewer than 50 clusters)"


def _working_correlation(estimator):
    """The working correlation and its parameters in words."""
    name = estimator.correlation_name_
    alpha = [numbers.fixed(value, 3) for value in np.ravel(estimator.correlation_params_)]
    if not alpha:
        return name
    if name == "exchangeable":
        return f"{name}, {alpha[0]} between two rows of a cluster"
    if name == "AR(1)":
        return f"{name}, {alpha[0]} at a distance of 1 in time"
    if name == "m-dependent" and len(alpha) <= _MOST_SHOWN:
        return f"{name}, " + ", ".join(f"{value} at lag {lag}" for lag, value in enumerate(alpha, start=1))
    what = "correlation" if name in ("m-dependent", "unstructured") else "parameter"
    if len(alpha) == 1:
        return f"{name}, {what} {alpha[0]}"
    low, high = (numbers.fixed(end(estimator.correlation_params_), 3) for end in (np.min, np.max))
    return f"{name}, {len(alpha)} {what}s from {low} to {high}"


def _correlation_tables(estimator):
    """The working correlation matrix, where words do not say it all and it is small enough to read."""
    R = np.asarray(estimator.working_correlation_, dtype=float)
    if estimator.correlation_name_ in _WITHOUT_TABLE or not 2 <= len(R) <= _MOST_SHOWN:
        return []
    times = estimator.correlation_times_
    if times is None or len(times) != len(R):
        corner, labels = "row", [str(position) for position in range(1, len(R) + 1)]
    else:
        corner, labels = "time", [f"{float(time):.10g}" for time in times]
    rows = [[label, *(numbers.fixed(value, 3) for value in values)] for label, values in zip(labels, R, strict=True)]
    return [rendering.Table("Working correlation", [corner, *labels], rows)]
