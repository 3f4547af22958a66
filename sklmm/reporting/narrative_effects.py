"""Coefficients in sentences: what a unit, or a level, of a feature goes with."""

import numpy as np

from sklmm.fitted import FittedMarginal
from sklmm.inference.verdict import not_estimated
from sklmm.inference.wald import wald_table, wald_test
from sklmm.messages import joined, shown_label

_MOST = 40  # coefficients; a reader of more wants a table


def effects_in_words(estimator, level, outcome=None, factors=None):
    """Sentences on the coefficients of a fit that converged.

    Parameters
    ----------
    estimator : fitted estimator
    level : float
        Of the intervals.
    outcome, factors
        As in `report_of`.

    Returns
    -------
    list of str
    """
    names, coef, vcov = estimator._fixed_effects()
    names, fitted = [str(name) for name in names], estimator._fitted
    blank, family = not_estimated(estimator, names), fitted.family
    if blank.all():
        return ["The features predict every outcome of the data: no effect has a finite estimate."]
    table = wald_table(names, coef, vcov, level, df=estimator._inference_df(), blank=blank, ratio=None)
    if len(names) == int(fitted.fit_intercept):
        return [_typical(estimator, table.iloc[0], level)]
    write = _Writer(family, fitted, level, outcome)
    sentences = [_introduction(estimator, level)]
    told = list(_subjects(fitted, names, factors or {}))
    known = np.isfinite(np.diagonal(vcov)) & ~blank
    for subject, at in told[:_MOST]:
        if len(at) == 1:
            sentences.append(write.sentence(subject, table.iloc[at[0]]))
            continue
        kept = [j for j in at if known[j]]
        if kept:
            contrast = np.eye(len(names))[kept]
            test = wald_test(names, coef, vcov, contrast, df=estimator._inference_df())
            sentences.append(f"{subject}; as a whole {_p_value(test.p_value)}.")
    if len(told) > _MOST:
        sentences.append(f"{len(told) - _MOST:,} further effects are in the summary.")
    return sentences


def written(value, width):
    """A number with two digits of the width of its interval, or three of its own."""
    if not np.isfinite(value):
        return "infinity" if value > 0 else "minus infinity" if value < 0 else "unknown"
    if not width > 0 or not np.isfinite(width) or abs(value) >= 1e6 or 0 < abs(value) < 1e-4:
        return f"{value:.3g}"
    decimals = int(np.clip(1 - np.floor(np.log10(width)), 0, 6))
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def _p_value(p):
    return "no test" if np.isnan(p) else "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"


def _interval(lower, upper, level, width=None):
    width = upper - lower if width is None else width
    return f"{100 * level:.6g} % interval {written(lower, width)} to {written(upper, width)}"


def _introduction(estimator, level):
    fitted = estimator._fitted
    family = fitted.family
    if isinstance(fitted, FittedMarginal):
        of = "on average over the population" if fitted.n_groups else "between rows"
    else:
        of = f"between rows of the same {joined(fitted.n_groups, 'and')}" if fitted.n_groups else "between rows"
    of += ", other features being equal"
    text = {
        "odds ratio": "Effects are on the odds of the event, its probability divided by that of the other outcome",
        "hazard ratio": "Effects are on the hazard of the event, the rate at which it comes about",
        None: "Effects are on a hidden score that is normal with standard deviation 1 around what features say (probit)"
        ": the higher the score, the likelier the event",
    }[family.ratio] if family.has_classes else "Effects are on the expected outcome"  # fmt: skip
    return (
        f"{text}, {of}. In brackets: the values that the data are compatible with (intervals at a confidence of "
        f"{100 * level:.6g} %), and the p-value, the probability of data at least as far from no effect if there were "
        "none."
    )


def _typical(estimator, row, level):
    """The only coefficient, as what it says of the outcome."""
    fitted = estimator._fitted
    family, marginal = fitted.family, isinstance(fitted, FittedMarginal)
    where = "in the typical group" if fitted.n_groups and not marginal else "overall"
    where += ", where the offset is 0," if fitted.has_offset else ""
    ends = row[["estimate", "lower", "upper"]].astype(float)
    if np.isnan(ends["lower"]):
        return "The model has no features."
    if family.has_classes:
        p, lower, upper = 100 * family.mean(ends.to_numpy())
        width = upper - lower
        return (
            f"The model has no features: {where} the event has the probability {written(p, width)} % "
            f"({_interval(lower, upper, level)})."
        )
    middle = written(ends["estimate"], ends["upper"] - ends["lower"])
    interval = _interval(ends["lower"], ends["upper"], level)
    return f"The model has no features: {where} the mean is {middle} ({interval})."


class _Writer:
    """Sentences on single coefficients."""

    def __init__(self, family, fitted, level, outcome):
        self.family, self.level = family, level
        name = outcome.name if outcome is not None else None if fitted.formula is None else fitted.formula.response
        self.outcome = "the outcome" if name is None else name

    def sentence(self, subject, row):
        estimate, lower, upper, p = (float(row[key]) for key in ("estimate", "lower", "upper", "p_value"))
        if np.isnan(float(row["std_error"])):
            return f"{subject}: no effect could be estimated (see the limits)."
        p = _p_value(p)
        if self.family.has_classes and self.family.ratio is not None:
            with np.errstate(over="ignore"):
                estimate, lower, upper = np.exp([estimate, lower, upper])
            width = min(upper - lower, lower)  # digits of the smaller end, too
            what = "odds of the event are" if self.family.ratio == "odds ratio" else "hazard of the event is"
            neutral, text = 1.0, f"the {what} multiplied by {written(estimate, width)}"
        else:
            width, neutral, direction = upper - lower, 0.0, "higher" if estimate >= 0 else "lower"
            what = "the score" if self.family.has_classes else self.outcome
            text = f"{what} is {written(abs(estimate), width)} {direction}"
        if np.isnan(lower):
            return f"{subject}, {text} ({p})."
        interval = _interval(lower, upper, self.level, width)
        interval = interval if neutral else interval.replace("interval", "interval of the change")
        none = ", compatible with no effect" if lower <= neutral <= upper else ""
        return f"{subject}, {text} ({interval}; {p}){none}."


# Who a coefficient speaks of -------------------------------------------------------------------------------------


def _subjects(fitted, names, factors):
    """Beginnings of sentences with the positions of the coefficients that they are about: one, or all of a curve."""
    if fitted.formula is not None:
        for subject, columns in _of_formula(fitted.formula):
            yield subject, [names.index(name) for name in columns]
        return
    levels = {
        column: f"For {feature} {level} rather than {next(iter(of_feature))}"
        for feature, of_feature in factors.items() for level, column in of_feature.items() if column is not None
    }  # fmt: skip
    for j in range(int(fitted.fit_intercept), len(names)):  # by position: two columns may share a name
        if names[j] in levels:
            yield levels[names[j]], [j]
            continue
        yield _of_number(names[j], fitted.two_values.get(names[j])), [j]


def _of_number(text, two):
    if two is None:
        return f"With each unit of {text} more"
    low, high = (f"{value:g}" for value in two)
    return f"Where {text} is {high} rather than {low}" if float(high) - float(low) == 1 else (
        f"With each unit of {text} more (it is {low} or {high})"
    )  # fmt: skip


def _of_formula(formula):
    terms = [(factors, columns) for factors, columns in formula.terms() if columns and factors]
    single = {}  # terms of one factor by its variables
    for factors, columns in terms:
        if len(factors) == 1:
            single.setdefault(frozenset(factors[0][1]), []).append((factors[0], columns))
    curves = set()
    for factors, columns in terms:
        if len(factors) > 1:
            text = joined([_called(factor) for factor in factors])
            alone = all(any(factor == found[0] for found, _ in terms if len(found) == 1) for factor in factors)
            start = f"The effects of {text} depend on each other: on top of what they do alone, for"
            for name in columns:
                yield f"{start if alone else 'For the column'} {name}", [name]
            continue
        (text, variables, levels) = factors[0]
        own = single[frozenset(variables)]
        of = joined(sorted(variables)) if variables else text
        if (len(own) > 1 or len(columns) > 1) and not levels:
            if frozenset(variables) not in curves:
                curves.add(frozenset(variables))
                parts = [name for _, found in own for name in found]
                yield (
                    f"The effect of {of} is a curve of {len(parts)} parts, which have no meaning one by one "
                    "(EffectDisplay draws it)"
                ), parts
            continue
        condition = _condition(formula, factors[0], terms)
        if levels:
            yield from _of_levels(formula, factors[0], columns, condition)
        else:
            two = formula.numbers[text].two if text in formula.numbers else None
            yield _of_number(text, two) + condition, columns


def _called(factor):
    text, variables, levels = factor
    return next(iter(variables)) if levels and len(variables) == 1 else text


def _of_levels(formula, factor, columns, condition):
    """A sentence a level, of treatment contrasts; of others the coefficient by its name."""
    text = factor[0]
    reference = _reference(formula, factor)
    for name in columns:
        if reference is not None and name.startswith(f"{text}[T.") and name.endswith("]"):
            level = name[len(text) + 3 : -1]
            yield f"For {_called(factor)} {level} rather than {reference}{condition}", [name]
        else:
            yield f"For the column {name}{condition}", [name]


def _reference(formula, factor):
    _, variables, levels = factor
    if not levels or len(variables) != 1:
        return None
    name = next(iter(variables))
    return shown_label(formula.levels(name, None)[0]).strip("'") if formula.is_factor(name) else None


def _condition(formula, factor, terms):
    """Where the effect is meant, if it depends on other variables."""
    others = {}
    for factors, _ in terms:
        if len(factors) > 1 and any(text == factor[0] for text, _, _ in factors):
            for other in factors:
                if other[0] != factor[0]:
                    reference = _reference(formula, other)
                    others[other[0]] = f"{_called(other)} is {0 if reference is None else reference}"
    return f", where {joined(others.values())}" if others else ""
