"""The columns of a learnt formula for new rows, from tables of levels.

formulaic encodes a factor by way of frames of indicators, which for a few thousand rows takes longer than the
predictions that they are for. But a factor's columns are known by its level: here they are looked up, and products are
multiplied out. Numbers, and what remembers nothing of the fit, such as I(age**2), are evaluated as Python; formulaic is
left with calls that do, such as splines.
"""

import ast
from functools import reduce

import numpy as np
import pandas as pd

_MOST_CHECKED = 2000  # rows of the fit on which both ways must agree


class LevelTables:
    """The columns of one of formulaic's specifications.

    Attributes
    ----------
    names : dict of str -> str
        The variable that each name in factors stands for.
    labels : dict of str -> (str, Index, dict of bool -> ndarray)
        By factor: the variable, its levels, and their columns, of full and of reduced rank.
    expressions : set of str
        Factors of numbers that remember nothing.
    calls : ModelSpec or None
        The terms that are a call which does; `places` has the columns of each factor in it.
    terms : list of (float, list of (str, bool))
        What is multiplied to get one or several columns: a constant, and factors with whether their rank is reduced.
    """

    @classmethod
    def of(cls, spec, stand_ins, frame, matrix):
        """The tables, or None if they do not say all of the specification.

        Parameters
        ----------
        spec : ModelSpec
        stand_ins : StandIns
        frame : DataFrame
            Variables of the rows of the fit, plain columns under the user's names.
        matrix : ModelMatrix
            What formulaic makes of them: tables that say anything else are none.
        """
        self = cls()
        self.names = {stand_ins.of(name): name for name in frame}
        self.labels, self.expressions, self.terms, alone = {}, set(), [], {}
        contrasts = {str(factor): found for factor, found in spec.factor_contrasts.items()}
        for structure in spec.structure:
            scoped = structure.scoped_terms
            for term in scoped:
                self.terms.append((float(term.scale), [(each.factor.expr, each.reduced) for each in term.factors]))
                for each in term.factors:
                    expr = each.factor.expr
                    if expr in contrasts:
                        variable = self.names.get(_labelled(expr))
                        if variable is None:
                            return None
                        tables = {reduced: _table(contrasts[expr], reduced) for reduced in (False, True)}
                        self.labels[expr] = variable, _as_index(contrasts[expr].levels), tables
                    elif spec.encoder_state[expr][0].value == "numerical" and _remembers_nothing(expr):
                        self.expressions.add(expr)
                    elif len(scoped) == len(term.factors) == 1 and term.scale == 1:
                        alone[expr] = structure.term
        known = {*self.labels, *self.expressions, *alone}
        if any(expr not in known for _, factors in self.terms for expr, _ in factors):
            return None
        self.calls, self.places = None, {}
        if alone:
            self.calls = spec.subset(list(alone.values())).update(output="numpy")
            self.places = {expr: self.calls.term_indices[term] for expr, term in alone.items()}
        rows = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), _MOST_CHECKED)).astype(np.intp))
        found, expected = self.columns(frame.iloc[rows]), pd.DataFrame(matrix).iloc[rows].to_numpy(dtype=np.float64)
        agree = found is not None and found.shape == expected.shape
        return self if agree and np.allclose(found, expected, rtol=1e-13, atol=0.0, equal_nan=True) else None

    def columns(self, frame):
        """The columns for the rows of a frame of plain columns, of shape (n, k); None if there is a level that the fit
        did not see."""
        named = {name: frame[column] for name, column in self.names.items()}
        codes = {expr: _codes(frame[name], levels) for expr, (name, levels, _) in self.labels.items()}
        if any((code < 0).any() for code in codes.values()):
            return None
        with np.errstate(all="ignore"):  # what is not defined is told of by its term
            values = {expr: _numbers(expr, named, len(frame)) for expr in self.expressions}
            if self.calls is not None:
                found = self.calls.get_model_matrix(pd.DataFrame(named), context={}, na_action="ignore")
                values |= {expr: np.asarray(found)[:, places] for expr, places in self.places.items()}
        parts = [np.empty((len(frame), 0))]
        for scale, factors in self.terms:
            own = [self.labels[expr][2][reduced].take(codes[expr], axis=0) if expr in codes else values[expr]
                   for expr, reduced in factors]  # fmt: skip
            columns = reduce(_products, own) if own else np.ones((len(frame), 1))
            parts.append(columns if scale == 1.0 else scale * columns)
        return np.concatenate(parts, axis=1)


def _labelled(expr):
    """The variable whose levels a factor has: of "ch" and of "C(ch, contr.sum)" it is ch. None for anything else."""
    node = ast.parse(expr, mode="eval").body
    if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "C" and node.args:
        node = node.args[0]
    return getattr(node, "id", None)


def _remembers_nothing(expr):
    """Whether a factor is made of columns alone, and not of what the fit has learnt of them."""
    from formulaic.transforms import TRANSFORMS

    names = {node.id for node in ast.walk(ast.parse(expr, mode="eval")) if isinstance(node, ast.Name)}
    return not any(getattr(TRANSFORMS.get(name), "__is_stateful_transform__", False) for name in names)


def _numbers(expr, named, n):
    """A column of numbers by row, as formulaic evaluates it."""
    if expr in named:
        return named[expr].to_numpy(dtype=np.float64)[:, None]
    from formulaic.transforms import TRANSFORMS

    return np.asarray(eval(expr, {}, TRANSFORMS | named), dtype=np.float64).reshape(n, 1)


def _table(contrasts, reduced):
    """Columns of each level."""
    return np.asarray(contrasts.get_coding_matrix(reduced_rank=reduced), dtype=np.float64)


def _as_index(levels):
    """Levels as labels are looked up in them: numbers as numbers, all else as it is."""
    index = pd.Index(levels)
    return index if index.dtype.kind in "iuf" else index.astype(object)


def _codes(column, levels):
    """Positions of a column's labels among the levels of the fit, -1 where there is none."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return levels.get_indexer(column.cat.categories)[column.cat.codes.to_numpy()]
    return levels.get_indexer(column)


def _products(left, right):
    """Products of columns, by row; those of the left vary fastest."""
    return (right[:, :, None] * left[:, None, :]).reshape(len(left), -1)
