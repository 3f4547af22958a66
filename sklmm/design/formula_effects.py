"""The columns of a formula's terms as sums of effects, which are the same whatever the coding of the factors.

Over the levels of a factor, a column is its mean and what departs from it. A term of the factors A and numbers N so
holds an effect of each subset of A: averaged over the factors that are not in the subset, summing to zero over those
that are, for each column of N. Which effects a term's columns span does not depend on contrasts or reference levels;
how coefficients make effects up does, and is the matrix here.

Scheffe H (1959). The Analysis of Variance. Wiley, chapter 4.
"""

import math
import re
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class TermEffects:
    """Which effects the terms of a model span, and the effects as contrasts of its coefficients.

    Attributes
    ----------
    names : list of str
        Of the terms, but for the intercept, in the order of the formula.
    factors : list of frozenset
        What each term is a product of.
    spans : list of list
        The effects that each term's columns span: pairs (factors, numbers) of frozensets.
    rows : dict of effect -> ndarray of shape (n_rows, n_coefficients)
        Sum-to-zero coefficients of each effect from those of the model.
    columns : list of list of int
        Positions of each term's coefficients.
    fit_intercept : bool
    """

    names: list
    factors: list
    spans: list
    rows: dict
    columns: list
    fit_intercept: bool

    def owned(self, term):
        """The effects that a term holds and no term before it: those that it is there for."""
        before = {(frozenset(), frozenset())} if self.fit_intercept else set()
        before = before.union(*self.spans[:term])
        return [effect for effect in self.spans[term] if effect not in before]

    def lost_without(self, terms):
        """The effects that only these terms span."""
        kept = {(frozenset(), frozenset())} if self.fit_intercept else set()
        kept = kept.union(*(span for t, span in enumerate(self.spans) if t not in terms))
        return [effect for effect in self.rows if effect not in kept]

    def relatives(self, term):
        """The terms that contain a term, as a:b contains a."""
        return [t for t, own in enumerate(self.factors) if own > self.factors[term]]

    def contrasts(self, effects):
        """Rows of these effects, one below the other."""
        width = next(iter(self.rows.values())).shape[1] if self.rows else 0
        return np.concatenate([np.zeros((0, width)), *(self.rows[effect] for effect in effects)])


def effects_of_features(names, fit_intercept):
    """Each feature is a term and an effect."""
    k, spans = int(fit_intercept), [[(frozenset(), frozenset([j]))] for j in range(len(names))]
    identity = np.eye(k + len(names))
    rows = {span[0]: identity[[k + j]] for j, span in enumerate(spans)}
    columns = [[k + j] for j in range(len(names))]
    return TermEffects(list(names), [frozenset([j]) for j in range(len(names))], spans, rows, columns, fit_intercept)


def effects_of_formula(formula, n_coefficients, fit_intercept):
    """The effects of the fixed part of a formula.

    Parameters
    ----------
    formula : FormulaDesign
    n_coefficients : int
        The intercept first, if there is one; then the columns of the formula in their order.
    fit_intercept : bool

    Returns
    -------
    TermEffects
    """
    spec, back = formula.spec, formula.stand_ins.back
    coding = _Coding(formula)
    rows, names, factors, spans, columns = {}, [], [], [], []
    at = int(fit_intercept)
    if fit_intercept:
        rows[frozenset(), frozenset()] = np.eye(1, n_coefficients)
    for part in spec.structure:
        if part.columns == ["Intercept"]:
            continue
        texts = [str(factor) for factor in part.term.factors]
        keys = coding.keys([text for text in texts if text in coding.contrasts])
        numbers = frozenset(text for text in texts if text not in keys and not _is_literal(text))
        sizes, first = coding.sizes(part, numbers), at
        for scoped in part.scoped_terms:
            width = 0
            for effect, found in coding.effects(scoped, keys, sizes):
                width = found.shape[1]
                whole = rows.setdefault(effect, np.zeros((len(found), n_coefficients)))
                whole[:, at : at + width] += found
            at += width
        own = [(frozenset(chosen), numbers) for k in range(len(keys) + 1) for chosen in combinations(keys.values(), k)]
        for effect in own:  # of a factor with one level: no rows
            rows.setdefault(effect, np.zeros((0, n_coefficients)))
        names.append(":".join(map(back, texts)))
        factors.append(frozenset([*keys.values(), *numbers]))
        spans.append(own)
        columns.append(list(range(first, at)))
    if at != n_coefficients:
        raise ValueError(f"the formula's terms have {at} columns, but the model has {n_coefficients} coefficients")
    return TermEffects(names, factors, spans, rows, columns, bool(fit_intercept))


def _is_literal(text):
    """Whether a factor is a number that scales a term, as in 2:x."""
    return text.replace(".", "", 1).isdigit()


class _Coding:
    """How the factors of a formula are coded."""

    def __init__(self, formula):
        spec, back, columns = formula.spec, formula.stand_ins.back, set(formula.variable_names)
        self.contrasts = {str(factor): state for factor, state in spec.factor_contrasts.items()}
        self._variables = {
            str(factor): tuple(sorted(columns & {back(str(name)) for name in names}))
            for factor, names in spec.factor_variables.items()
        }

    def keys(self, texts):
        """What each factor is known by in all terms: "f" and "C(f, contr.sum)" have the same levels of one variable."""
        found = {}
        for text in texts:
            variables = self._variables.get(text, ())
            levels = tuple(sorted(map(str, self.contrasts[text].levels)))
            found[text] = (variables, levels) if len(variables) == 1 else text
        return found if len(set(found.values())) == len(found) else {text: text for text in texts}

    def columns(self, text, reduced):
        """What each column of a factor is of 1 and of sum-to-zero contrasts, (n_levels, n_columns)."""
        state = self.contrasts[text]
        levels = list(state.levels)
        if len(levels) == 1:
            return np.ones((1, 0 if reduced else 1))
        matrix = np.asarray(state.get_coding_matrix(reduced_rank=reduced), dtype=np.float64)
        matrix = matrix[sorted(range(len(levels)), key=lambda i: str(levels[i]))]  # whatever the order of levels
        mean = matrix.mean(axis=0)
        return np.vstack([mean, matrix[:-1] - mean])

    def effects(self, scoped, keys, sizes):
        """Yield (effect, its rows) of the columns of a product, which vary fastest in the first of its factors."""
        order = [(str(factor.factor.expr), factor.reduced) for factor in scoped.factors]
        whole, shape = np.ones((1, 1)), []
        for text, reduced in reversed(order):
            own = self.columns(text, reduced) if text in keys else np.eye(sizes[text])
            whole, shape = np.kron(whole, own), [*shape, len(own)]
        n_columns = whole.shape[1]
        if not n_columns:
            return
        axes = {text: axis for axis, (text, _) in enumerate(reversed(order))}
        labels = sorted((text for text in axes if text in keys), key=lambda text: str(keys[text]))
        axis_order = [axes[text] for text in (*labels, *sorted(text for text in axes if text in sizes))]
        whole = whole.reshape([*shape, n_columns]).transpose([*axis_order, len(shape)])
        whole = whole * (1.0 if scoped.scale is None else scoped.scale)
        for k in range(len(labels) + 1):
            for chosen in combinations(labels, k):
                place = tuple(slice(1, None) if text in chosen else 0 for text in labels)
                effect = frozenset(keys[text] for text in chosen), frozenset(sizes)
                yield effect, whole[place].reshape(-1, n_columns)

    def sizes(self, part, numbers):
        """How many columns each number of a term has: bs(x, df=4) has four."""
        products = 0
        for scoped in part.scoped_terms:
            own = [(str(factor.factor.expr), factor.reduced) for factor in scoped.factors]
            products += math.prod(self.columns(*each).shape[1] for each in own if each[0] in self.contrasts)
        if not numbers or not products:
            return dict.fromkeys(numbers, 1)
        total, rest = divmod(len(part.columns), products)
        sizes = dict.fromkeys(numbers, total)
        if len(numbers) > 1 and total > 1:
            pieces = {text: re.compile(rf"{re.escape(text)}(?:\[[^\]]*\])?") for text in numbers}
            sizes = {text: len({one for name in part.columns for one in like.findall(name)})
                     for text, like in pieces.items()}  # fmt: skip
        if rest or math.prod(sizes.values()) != total:
            raise ValueError(
                f"the columns of the term {':'.join(map(str, part.term.factors))!r} cannot be told apart by their "
                "names: rename the levels of its factors"
            )
        return sizes
