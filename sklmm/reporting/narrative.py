"""A fit in sentences, for readers who are no statisticians: what was fitted, the effects, groups, and what to doubt.

Every number is one of the fit; no rows are needed. Terms of the trade are explained where they stand. Sentences on
single coefficients are in `narrative_effects`.
"""

import html
import re
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sklmm.fitted import FittedLinear, FittedMarginal
from sklmm.inference.verdict import not_estimated
from sklmm.inference.wald import check_level
from sklmm.messages import joined, listed, shown_label
from sklmm.reporting import numbers
from sklmm.reporting.narrative_effects import effects_in_words, written
from sklmm.reporting.summary import (
    _boundary,
    _offset,
    _precision,
    _rows_left_out,
    _working_correlation,
    with_priors_in_words,
)

_WIDTH = 88
_FEW_CLUSTERS, _FEW_GROUPS = 50, 10
_ROBUST = {
    "robust": "standard errors hold whatever the rows of a group have in common (robust, or sandwich, errors)",
    "naive": "standard errors take the working correlation to be right (naive errors)",
}


@dataclass(frozen=True)
class Report:
    """A fit in sentences: ``print`` it; a notebook shows it as HTML.

    Attributes
    ----------
    sections : dict of str -> list of str
        Sentences by heading.
    """

    sections: dict

    def __str__(self):
        blocks = []
        for heading, sentences in self.sections.items():
            blocks.append("\n".join([heading, "-" * len(heading), textwrap.fill(" ".join(sentences), _WIDTH)]))
        return "\n\n".join(blocks)

    __repr__ = __str__

    def _repr_html_(self):
        parts = []
        for heading, sentences in self.sections.items():
            parts.append(f"<h4>{html.escape(heading)}</h4>\n<p>{html.escape(' '.join(sentences), quote=False)}</p>")
        return "<div>\n" + "\n".join(parts) + "\n</div>"

    def to_frame(self):
        """A row a sentence: the columns "section" and "sentence"."""
        pairs = [(heading, sentence) for heading, sentences in self.sections.items() for sentence in sentences]
        return pd.DataFrame(pairs, columns=["section", "sentence"])


def report_of(estimator, level=0.95):
    """The report of a fitted model; see the estimators' `report`."""
    level = check_level(level)
    sections = {"What was fitted": list(_model(estimator))}
    if not estimator.converged_:
        why = estimator.fit_report_.verdict.strip() or "the iterations stopped early"
        sections["Effects"] = [f"The fit did not converge ({why}): no effect of it can be reported."]
    else:
        sections["Effects"] = effects_in_words(estimator, level)
        if isinstance(estimator._fitted, FittedMarginal):
            sections["Rows of one group"] = list(_working(estimator))
        elif estimator._fitted.factors:
            sections["Differences between groups"] = list(_groups(estimator))
        if not isinstance(estimator._fitted, FittedMarginal):
            sections["How much is explained"] = list(_explained(estimator))
    sections["Limits"] = list(_limits(estimator))
    return Report({heading: sentences for heading, sentences in sections.items() if sentences})


# What was fitted -------------------------------------------------------------------------------------------------


def _model(estimator):
    fitted = estimator._fitted
    family, marginal = fitted.family, isinstance(fitted, FittedMarginal)
    regression = family.regression if family.has_classes else "linear regression"
    counts = [f"{n:,} groups of {name}" for name, n in fitted.n_groups.items()]
    kind = f"A {regression}"
    if marginal:
        kind += " by generalized estimating equations (GEE, a marginal model)"
    elif counts:
        kind = f"A mixed-effects {regression}"
    weighted = "" if fitted.n_weighted_rows is None else ", counted by their weights"
    rows = f"{numbers.count(estimator.n_obs_)} rows{weighted}{_rows_left_out(estimator)}"
    yield f"{kind} was fitted to {rows}" + (f", in {joined(counts)}." if counts else ".")
    if family.has_classes:
        other, event = (shown_label(estimator.classes_[at]) for at in (1 - fitted.event, fitted.event))
        share = fitted.row_signature.share
        share = share if fitted.event else 1 - share
        if fitted.formula is not None and fitted.formula.is_counts:
            what = f"a success, as counted by {fitted.formula.response}"
        else:
            name = "the outcome" if fitted.formula is None else fitted.formula.response
            what = f"that {name} is {event}, not {other}"
        yield f"The event is {what}; it happened in {100 * share:.3g} % of the rows."
    else:
        mean, sd = fitted.row_signature.outcome
        called = "The outcome" if fitted.formula is None else f"The outcome, {fitted.formula.response},"
        yield f"{called} has the mean {mean:.4g} and the standard deviation {sd:.4g}."
    yield from _how(estimator, counts)
    if (offset := _offset(estimator)) is not None:
        yield f"A known part, the offset ({offset}), was added to what the features predict."
    if (precision := _precision(estimator)) is not None:
        yield f"Rows differ in how precise they are, by known weights ({precision})."


def _how(estimator, counts):
    fitted = estimator._fitted
    if isinstance(fitted, FittedMarginal):
        corrected = "standard errors hold whatever the rows of a group have in common, corrected for few groups"
        if counts:
            errors = _ROBUST.get(fitted.cov_type, f"{corrected} ({fitted.cov_type})")
            yield f"Effects are averages over all groups; {errors}."
        else:
            yield "No groups were given: rows count as independent."
        return
    if not counts:
        yield "No groups were given: rows count as independent."
    else:
        for factor in fitted.factors:
            yield from _random_effects(factor)
    if fitted.priors is not None:
        integral = _integral(estimator) if counts and fitted.family.has_classes else "."
        yield f"{_likeliest_with_priors(fitted)}{integral}"
        return
    if isinstance(fitted, FittedLinear):
        if fitted.reml:
            yield (
                "It was fitted by restricted maximum likelihood (REML), which does not take variances for smaller than "
                "they are because effects are estimated, too."
            )
        else:
            yield "Effects and variances are those under which the data are the likeliest (maximum likelihood)."
        return
    likeliest = "Effects and variances are those under which the data are the likeliest (maximum likelihood)"
    yield likeliest + (_integral(estimator) if counts else ".")


def _integral(estimator):
    return "; the groups' own levels, which are not observed, were averaged out by " + (
        "Laplace's approximation."
        if estimator.n_quadrature_ == 1
        else f"numerical integration (adaptive quadrature, {estimator.n_quadrature_} points)."
    )


def _likeliest_with_priors(fitted):
    if fitted.priors.chosen == "soft":
        return (
            "Effects and variances are those under which the data are nearly the likeliest: by maximum likelihood with "
            "soft penalties, which keep estimates finite and vanish as data grow (Sterzinger and Kosmidis 2023)"
        )
    priors = ", ".join(f"{of} ~ {density}" for of, density in fitted.priors.to_frame()["density"].items())
    priors = re.sub(r"\d+\.\d+", lambda number: f"{float(number.group()):.4g}", priors)
    return (
        "Effects and variances are the likeliest ones given the data and what was assumed of them before, the priors "
        f"({priors})"
    )


def _random_effects(factor):
    names = [name for _, coefficients in factor.terms for name in coefficients]
    slopes = list(dict.fromkeys(name for name in names if name != "intercept"))
    own = ["a level of its own (a random intercept)"] if "intercept" in names else []
    own += [f"its own effect of {joined(slopes)} (random slopes)"] if slopes else []
    yield f"Each group of {factor.name} has {joined(own)}, taken to be normally distributed over the groups."


# Groups ----------------------------------------------------------------------------------------------------------


def _groups(estimator):
    fitted = estimator._fitted
    if fitted.large_variances:
        yield "Groups differ so much that by how much cannot be said; see the limits below."
        return
    for term, matrix in estimator.covariance_.items():
        sds = np.sqrt(np.maximum(np.diagonal(matrix.to_numpy(dtype=float)), 0.0))
        others = [str(name) for name in matrix.index if name != "intercept"]
        for name, sd in zip(map(str, matrix.index), sds, strict=True):
            if sd == 0:
                what = "levels" if name == "intercept" else f"effects of {name}"
                yield f"Groups of {term} do not differ in their {what} by more than chance (a variance of 0)."
            elif name == "intercept":
                yield _levels(fitted.family, str(term), sd, others)
            else:
                yield _slopes(estimator, str(term), name, sd)
    partition = estimator.variance_partition_
    scale = ""
    if partition.measured is None:
        scale = (
            ", if the outcome is thought of as a hidden score that is above a threshold where the event happens "
            "(the latent scale)"
        )
    for j, (name, icc) in enumerate(partition.icc_by_factor.items()):
        if np.isfinite(icc):
            yield (
                f"Of the variation that features leave, {100 * icc:.2g} % is between groups of {name} (the intraclass "
                f"correlation, {icc:.2g}){scale if j == 0 else ''}."
            )
    if partition.measured is None and fitted.family.ratio is not None:
        plural = "odds" if fitted.family.ratio == "odds ratio" else "hazards"
        for name, ratio in partition.median_ratio().items():
            if ratio > 1:
                yield (
                    f"Of two rows with the same features in two groups of {name} that are drawn at random, one has "
                    f"{plural} that are {written(ratio, ratio - 1)} times the other's, in the median (the median "
                    f"{fitted.family.ratio})."
                )
    if isinstance(fitted, FittedLinear):
        sigma = estimator.sigma_
        yield f"Around what is expected in its group, a single outcome varies with a standard deviation of {sigma:.4g}."


def _levels(family, term, sd, others):
    where = f", where {joined(others)} {'is' if len(others) == 1 else 'are'} 0," if others else ""
    if family.has_classes and family.ratio is not None:
        odds = family.ratio == "odds ratio"
        of, they = ("odds of the event are", "they are") if odds else ("hazard of the event is", "it is")
        low, high = np.exp(stats.norm.ppf([0.025, 0.975]) * sd)
        times = f"{written(low, low)} to {written(high, high)} times what {they} in the typical group"
        return f"Groups of {term} differ{where} in their levels: in 95 % of them the {of} {times}."
    if family.has_classes:
        return f"Groups of {term} differ{where} in their levels: the standard deviation of their scores is {sd:.3g}."
    return f"Groups of {term} differ{where} in their levels, with a standard deviation of {sd:.4g}."


def _slopes(estimator, term, name, sd):
    names, coef, _ = estimator._fixed_effects()
    family = estimator._fitted.family
    center = dict(zip(map(str, names), coef, strict=True)).get(name, 0.0)
    reach = stats.norm.ppf(0.975) * sd
    low, high = center - reach, center + reach
    start = f"The effect of {name} differs between groups of {term}: in 95 % of them"
    if family.has_classes and family.ratio is not None:
        low, high = np.exp([low, high])
        return f"{start} the {family.ratio} of one unit lies between {written(low, low)} and {written(high, high)}."
    return f"{start} that of one unit lies between {written(low, 2 * reach)} and {written(high, 2 * reach)}."


def _working(estimator):
    if not estimator.n_groups_:
        return
    name, alpha = estimator.correlation_name_, np.ravel(estimator.correlation_params_)
    if name == "independence":
        yield "While estimating, the rows of a group were taken as independent."
    elif name == "exchangeable" and alpha.size == 1:
        yield f"Two rows of one group have the correlation {alpha[0]:.2g}, beyond what features say of them."
    else:
        text = _working_correlation(estimator)
        yield f"How rows of one group hang together beyond their features, the working correlation, is {text}."


def _explained(estimator):
    partition = estimator.variance_partition_
    fixed, both = partition.r2
    if not np.isfinite([fixed, both]).all() or estimator._fitted.large_variances:
        return
    scale = "the variation of the outcome" if partition.measured is not None else "the variation on the latent scale"
    if estimator.coef_.size:
        yield f"The features explain {100 * fixed:.2g} % of {scale}" + (
            f", together with the groups {100 * both:.2g} % (Nakagawa's R2)." if estimator._fitted.factors else "."
        )
    elif estimator._fitted.factors:
        yield f"The groups explain {100 * both:.2g} % of {scale} (Nakagawa's R2)."


# Limits ----------------------------------------------------------------------------------------------------------


def _limits(estimator):
    fitted = estimator._fitted
    names, _, vcov = estimator._fixed_effects()
    marginal = isinstance(fitted, FittedMarginal)
    if not estimator.converged_:
        yield "The fit did not converge: its numbers are where it stopped, and mean little."
    elif fitted.separated:
        yield (
            f"{listed(map(repr, fitted.separated))} separates the classes: the event always, or never, happens there, "
            "so that there is no finite estimate of the effect."
        )
    if (meaning := with_priors_in_words(fitted)) is not None:
        yield meaning
    aliased = [str(name) for name, out in zip(names, np.isnan(np.diagonal(vcov)), strict=True) if out]
    if aliased and estimator.converged_ and not not_estimated(estimator, names).all():
        yield f"The data do not tell the effect of {listed(map(repr, aliased))} apart from those of the other features."
    if not marginal and fitted.factors and estimator.is_singular_ and estimator.converged_:
        where = "; ".join(_boundary(estimator.covariance_))
        yield f"The fit is singular{f' ({where})' if where else ''}: fewer random effects would fit as well."
    if isinstance(fitted, FittedLinear) and fitted.no_residuals:
        yield "The features or groups reproduce the outcome exactly, so that standard errors mean nothing."
    for sentence in fitted.large_variances if not marginal else ():
        yield f"{sentence[0].upper()}{sentence[1:]}."
    if not marginal and fitted.approximation is not None:
        yield f"{fitted.approximation}."
    for name, count in fitted.n_groups.items():
        few = _FEW_CLUSTERS if marginal else _FEW_GROUPS
        if count < few and not (marginal and fitted.cov_type == "naive"):
            consequence = "standard errors rest on so few groups, and may be too small"
            if not marginal:
                consequence = "how much they differ is hardly known"
            yield f"There are {count:,} groups of {name} only: {consequence}."
    if marginal and fitted.trouble:
        yield f"The working correlation {fitted.trouble}."
    if estimator.coef_.size:
        yield "Effects are associations: they say what goes together in these data, not by themselves what causes what."
