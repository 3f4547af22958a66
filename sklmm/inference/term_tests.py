"""A test of every term of a model: of factors and products as a whole, whatever their coding.

A term's columns are sums of effects (`design/formula_effects.py`), so that hypotheses are written in effects, as rows
of contrasts of the coefficients:

* type 3: the effects that the term is there for are 0. Of a factor f beside f:g it says that means of the levels of f,
  over those of g with equal weight, are equal; beside f:x with a number x, that they are equal where x is 0.
* type 2: the term adds nothing to the terms that do not contain it. With H the effects that only the term and those
  containing it span, and R among them those that only the latter span, W(H) - W(R) is the Wald statistic of
  L = H - H V R' (R V R')^-1 R, of which the estimates are uncorrelated with those of R.
* "drop": the same of terms that no other contains.

Rows that are not estimable are left out of a hypothesis, as far as it has others.

References
----------
Fox J (2016). Applied Regression Analysis and Generalized Linear Models, third edition. Sage, section 8.2.

Searle SR (1971). Linear Models. Wiley, chapter 5.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, stats
from sklearn.utils.validation import check_is_fitted

from sklmm.design.formula_effects import effects_of_features, effects_of_formula
from sklmm.exceptions import NotEstimableWarning
from sklmm.fitted import FittedLinear, FittedMarginal, fitted_of
from sklmm.inference import wald
from sklmm.inference.refitting import log_likelihood_under
from sklmm.inference.tables import Table
from sklmm.inference.verdict import not_estimated, with_reason
from sklmm.messages import joined, listed, warn

TYPES = (2, 3, "drop")
_ROUNDING = 1e-6  # of a log-likelihood: so much higher may that of the smaller model be
_DEPENDENT = 1e-9  # of a row's size: what is left of one that follows from those before it


def term_tests(
    model,
    type=2,
    *,
    method="wald",
    df="fit",
    X=None,
    y=None,
    groups=None,
    sample_weight=None,
    offset=None,
    precision_weight=None,
):
    """Test every term of a model.

    Parameters
    ----------
    model : fitted estimator
        Mixed or marginal. Of a model with a formula the terms are the formula's, a factor being one whatever the number
        of its levels; else every feature is one.
    type : {2, 3, "drop"}, default=2
        2: each term adjusted for all others but those that contain it, as "age:f" contains "age" and "f". 3: each
        adjusted for all others; of a factor that others contain it is a test of equal means over the levels of the
        other factors with equal weight, and where the numbers are 0 that it is multiplied by. It is the same under
        every coding of the factors. "drop": what leaving the term out would change, of terms that no other contains.
    method : {"wald", "lr"}, default="wald"
        "lr": likelihood ratios, which fit the model again and need the rows of the fit. Of linear mixed models fitted
        with ``method="ml"``; marginal models have no likelihood.
    df : {"satterthwaite", "kenward-roger", "residual", None}
        Of linear mixed models, for "wald": in place of the model's own degrees of freedom.
    X, y, groups, sample_weight, offset, precision_weight
        The rows of the fit, as `fit` got them, for "lr".

    Returns
    -------
    tests : Table
        A data frame that prints whole, with remarks below it. A row a term; columns "chi2", "df" and "p_value", or, for
        tests with degrees of freedom of a denominator, "F", "df", "df_resid", "p_value". `df` counts what is estimable
        of a term; NaN where nothing is, with the reason below.

    Raises
    ------
    ValueError
        For likelihood ratios of marginal models, or of restricted likelihoods.

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, term_tests
    >>> from sklmm.datasets import load_contraception
    >>> women = load_contraception(as_frame=True).frame
    >>> model = MixedLogisticRegression.from_formula("use ~ age + urban*livch + (1 | district)", women)
    >>> term_tests(model, type=3).df.tolist()
    [1, 1, 3, 3]
    """
    if fitted_of(model) is None:
        check_is_fitted(model)
        raise TypeError(f"model must be one of this package's fitted models, got a {model.__class__.__name__}")
    if isinstance(type, bool) or type not in TYPES:
        raise ValueError(f"type must be 2, 3 or 'drop', got {type!r}")
    if method not in ("wald", "lr"):
        raise ValueError(f"method must be 'wald' or 'lr', got {method!r}")
    fitted = model._fitted
    if df != "fit":
        if not isinstance(fitted, FittedLinear):
            raise ValueError(f"df={df!r} is for linear mixed models: leave it out")
        model = model._with_df(df)
    rows = X, y, groups, sample_weight, offset, precision_weight
    if method == "wald" and any(values is not None for values in rows):
        raise ValueError("method='wald' takes no rows: leave out X and what belongs to it, or ask for method='lr'")
    tests = _Tests(model, _effects(fitted), None if method == "wald" else _refits(model, rows))
    terms = range(len(tests.effects.names))
    if type == "drop":
        terms = [term for term in terms if not tests.effects.relatives(term)]
    return tests.table(terms, type)


def _effects(fitted):
    if fitted.formula is None:
        return effects_of_features(fitted.fixed_names[int(fitted.fit_intercept) :], fitted.fit_intercept)
    return effects_of_formula(fitted.formula, len(fitted.fixed_names), fitted.fit_intercept)


def _refits(model, rows):
    """See `log_likelihood_under`; an error where there is no likelihood that could be compared."""
    fitted = model._fitted
    if isinstance(fitted, FittedMarginal):
        raise ValueError(
            "method='lr' needs a likelihood, which estimating equations do not have: ask for method='wald'"
        )
    if isinstance(fitted, FittedLinear) and fitted.reml:
        raise ValueError(
            "method='lr': restricted likelihoods (REML) of models that differ in their fixed effects cannot be "
            "compared; fit with method='ml', or ask for method='wald'"
        )
    return log_likelihood_under(model, rows)


class _Tests:
    """The tests of a model's terms.

    Parameters
    ----------
    model : fitted estimator
    effects : TermEffects
    refit : callable or None
        For likelihood ratios.
    """

    def __init__(self, model, effects, refit):
        self.model, self.effects, self.refit = model, effects, refit
        self.names, self.coef, self.vcov = model._fixed_effects()
        self.blank = not_estimated(model, self.names)
        self.kept = np.isfinite(np.diagonal(self.vcov))
        errors = wald.standard_errors(self.vcov)
        self.scale = np.where(self.kept & ~self.blank & (errors > 0), errors, 1.0)

    def table(self, terms, type):
        """The tests of these terms, with remarks."""
        names, found = [self.effects.names[term] for term in terms], [self.test(term, type) for term in terms]
        statistic, residual = "chi2", {}
        if any(test.df_resid is not None for test in found):
            found = [test.as_f() for test in found]
            statistic, residual = "F", {"df_resid": [test.df_resid for test in found]}
        columns = {statistic: [test.statistic for test in found], "df": [test.df for test in found], **residual}
        table = Table({**columns, "p_value": [test.p_value for test in found]}, index=names)
        table = with_reason(self.model, table, [np.isnan(test.statistic) and not test.reason for test in found])
        for sentence in self.remarks(terms, found, type):
            table.with_note(sentence)
        lost = [name for name, test in zip(names, found, strict=True) if test.reason]
        if lost:
            warn(f"not tested, and NaN: {listed(map(repr, lost))}; the table says why", NotEstimableWarning)
        return table

    def test(self, term, type):
        """The test of a term."""
        if type == 3:
            wanted, given = self.effects.owned(term), []
        else:
            relatives = self.effects.relatives(term)
            wanted, given = self.effects.lost_without([term, *relatives]), self.effects.lost_without(relatives)
        all_rows = self.effects.contrasts(wanted)
        adjusted = self.estimable(self.effects.contrasts(given))
        # of effects where all is estimable: their rows do not depend on the coding, as a basis of what is would
        own = [effect for effect in wanted if effect not in given] if self.kept.all() else wanted
        rows = self.estimable(self.effects.contrasts(own))
        contrasts = self.uncorrelated(rows, adjusted)
        if not len(contrasts):
            return _untested(self.why_not(term, all_rows))
        if self.refit is not None:
            return self.ratio(len(contrasts), all_rows, self.effects.contrasts(given))
        try:
            options = {"df": self.model._inference_df(), "blank": self.blank}
            test = wald.wald_test(self.names, self.coef, self.vcov, contrasts, **options)
        except ValueError as error:  # fewer clusters than coefficients
            return _untested(str(error), len(contrasts))
        return _Test(test.statistic, test.df, test.df_resid, test.p_value)

    def ratio(self, df, smaller, larger):
        """The likelihood ratio test of contrasts that are 0, given that others are."""
        if self.blank.all():
            return _Test(np.nan, df, None, np.nan)
        low, high = self.refit(smaller), self.refit(larger)
        if low is None or high is None:
            return _untested("a model without it did not converge", df)
        statistic = 2.0 * (high - low)
        if statistic < -_ROUNDING * (1.0 + abs(high)):
            return _untested("the model without it has the higher likelihood, so that one of them did not converge", df)
        statistic = max(statistic, 0.0)
        return _Test(statistic, df, None, float(stats.chi2.sf(statistic, df)))

    def estimable(self, rows):
        """Independent contrasts that span what is estimable of some, in the columns of the fit."""
        found = self.model._fitted.dependences
        if found is not None and len(rows):
            size = np.linalg.norm(rows * self.scale, axis=1)
            rows = rows / np.where(size > 0, size, 1.0)[:, None]  # whatever the units of columns
            excess = found.excess(rows, self.effects.fit_intercept)
            size = np.abs(excess).max(axis=0)
            excess = (excess / np.where(size > 0, size, 1.0))[:, size > 0]
            if excess.size:
                rows = linalg.null_space(excess.T, rcond=1e-8).T @ rows
        return _independent(np.where(self.kept, rows, 0.0), self.scale)

    def uncorrelated(self, rows, others):
        """What contrasts say beyond others, of which their estimates are then uncorrelated."""
        if not len(others) or not len(rows):
            return rows
        n_left = len(_independent(np.concatenate([others, rows]), self.scale)) - len(others)
        V = np.where(np.outer(self.kept, self.kept), self.vcov, 0.0)
        size = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", others, V, others), 0.0))
        others = others / np.where(size > 0, size, 1.0)[:, None]
        with_others, among = rows @ V @ others.T, others @ V @ others.T
        return _independent(rows - with_others @ np.linalg.pinv(among, hermitian=True) @ others, self.scale, n_left)

    # In words ----------------------------------------------------------------------------------------------------

    def why_not(self, term, rows):
        name = self.effects.names[term]
        if not len(rows):
            if not self.effects.columns[term]:
                return f"{name!r} took one value in the fit"
            return f"{name!r} holds nothing that other terms do not hold, too"
        found = self.model._fitted.dependences
        tied = f": {listed(map(repr, found.names))} depended on other columns" if found is not None else ""
        return f"nothing of {name!r} is estimable beside the other terms{tied}"

    def remarks(self, terms, found, type):
        """What was tested, in sentences."""
        what = {
            2: "Type 2: each term adjusted for all others but those that contain it",
            3: "Type 3: each term adjusted for all others",
            "drop": "Each term left out, of those that no other contains",
        }[type]
        yield f"{what}; {'Wald tests' if self.refit is None else 'likelihood ratio tests'}."
        effects = self.effects
        if not effects.names:
            yield "The model has no terms but the intercept."
        for term in terms if type == 3 else ():
            yield from self.remarks_on_means(term)
        if any(test.df_resid is not None and test.df_resid <= 0 for test in found):
            yield "There are no p-values: no residual degrees of freedom are left."
        for term, test in zip(terms, found, strict=True):
            if test.reason:
                yield f"NaN for {effects.names[term]!r}: {test.reason}."
            elif not self.kept.all() and test.df < len(effects.columns[term]):
                yield f"{effects.names[term]!r}: {test.df} of {len(effects.columns[term])} columns are estimable."


    def remarks_on_means(self, term):
        """What a hypothesis of type 3 says of a term that others contain, or that stands for others."""
        effects, name, owned = self.effects, self.effects.names[term], self.effects.owned(term)
        numbers = set()
        for containing in effects.relatives(term):
            numbers |= effects.spans[containing][-1][1] - effects.factors[term]
        if numbers:
            texts = sorted(map(self.model._fitted.formula.stand_ins.back, numbers))
            yield f"{name!r} is tested where {joined(texts)} {'is' if len(texts) == 1 else 'are'} 0."
        if (frozenset(), frozenset()) in owned:
            yield f"The model has no intercept: of {name!r} all means are tested to be 0."
        elif len(owned) > 1:
            yield (
                f"{name!r} stands for terms within it, too, which the model does not have by themselves: all that they "
                "hold is tested with it."
            )


@dataclass(frozen=True)
class _Test:
    """The result of a test, chi-squared where `df_resid` is None; `reason` says why there is none."""

    statistic: float
    df: int
    df_resid: float | None
    p_value: float
    reason: str = ""

    def as_f(self):
        """Chi-squared as an F with infinitely many degrees of freedom."""
        if self.reason:
            return replace(self, df_resid=np.nan)
        return self if self.df_resid is not None else replace(self, statistic=self.statistic / self.df, df_resid=np.inf)


def _untested(reason, df=0):
    return _Test(np.nan, df, None, np.nan, reason)


def _independent(rows, scale, rank=None):
    """The rows themselves if they are independent, else as many of them as are: `rank`, where that is known.

    Parameters
    ----------
    rows : ndarray of shape (m, n)
    scale : ndarray of shape (n,)
        Of the coefficients: units in which rows are compared.
    rank : int, optional
    """
    if not rows.size:
        return rows[:0]
    scaled = rows * scale
    if rank is None:
        size = np.linalg.norm(scaled, axis=1)
        scaled = scaled / np.where(size > 0, size, 1.0)[:, None]
    _, triangle, order = linalg.qr(scaled.T, mode="economic", pivoting=True)
    if rank is None:
        rank = int(np.count_nonzero(np.abs(np.diagonal(triangle)) > _DEPENDENT))
    return rows if rank == len(rows) else rows[np.sort(order[:rank])]
