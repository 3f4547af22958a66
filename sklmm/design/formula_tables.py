"""The columns of a learnt formula for new rows, from tables of levels.

formulaic encodes a factor by way of frames of indicators, which for a few thousand rows takes longer than the
predictions that they are for. But a factor's columns are known by its level: here they are looked up, numbers are taken
as they are, and products are multiplied out. Only what is a call, such as I(age**2), is evaluated by formulaic.
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
    labels : dict of str -> (str, Index, dict of bool -> ndarray)
        By factor: the variable, its levels, and their columns, of full and of reduced rank.
    numbers : dict of str -> str
        By factor that is nothing but a variable of numbers: that variable.
    calls : ModelSpec or None
        The terms that are one call each, such as I(age**2); `places` has the columns of each factor in it.
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
        names = {stand_ins.of(name): name for name in frame}
        self.labels, self.numbers, self.terms, alone = {}, {}, [], {}
        contrasts = {str(factor): found for factor, found in spec.factor_contrasts.items()}
        for structure in spec.structure:
            scoped = structure.scoped_terms
            for term in scoped:
                self.terms.append((float(term.scale), [(each.factor.expr, each.reduced) for each in term.factors]))
                for each in term.factors:
                    expr = each.factor.expr
                    if expr in contrasts:
                        variable = names.get(_labelled(expr))
                        if variable is None:
                            return None
                        tables = {reduced: _table(contrasts[expr], reduced) for reduced in (False, True)}
                        self.labels[expr] = variable, _as_index(contrasts[expr].levels), tables
                    elif expr in names:
                        self.numbers[expr] = names[expr]
                    elif len(scoped) == len(term.factors) == 1 and term.scale == 1:
                        alone[expr] = structure.term
        known = {*self.labels, *self.numbers, *alone}
        if any(expr not in known for _, factors in self.terms for expr, _ in factors):
            return None
        self.calls, self.places = None, {}
        if alone:
            self.calls = spec.subset(list(alone.values())).update(output="numpy")
            self.places = {expr: self.calls.term_indices[term] for expr, term in alone.items()}
        self.renamed = {name: stand_in for stand_in, name in names.items() if stand_in != name}
        rows = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), _MOST_CHECKED)).astype(np.intp))
        found, expected = self.columns(frame.iloc[rows]), pd.DataFrame(matrix).iloc[rows].to_numpy(dtype=np.float64)
        agree = found is not None and found.shape == expected.shape
        return self if agree and np.allclose(found, expected, rtol=1e-13, atol=0.0, equal_nan=True) else None

    def columns(self, frame):
        """The columns for the rows of a frame of plain columns, of shape (n, k); None if there is a level that the fit
        did not see."""
        given = dict(frame.items())
        values = {expr: given[name].to_numpy(dtype=np.float64)[:, None] for expr, name in self.numbers.items()}
        codes = {expr: _codes(given[name], levels) for expr, (name, levels, _) in self.labels.items()}
        if any((code < 0).any() for code in codes.values()):
            return None
        if self.calls is not None:
            named = frame.rename(columns=self.renamed) if self.renamed else frame
            with np.errstate(all="ignore"):  # what is not defined is told of by its term
                found = np.asarray(self.calls.get_model_matrix(named, context={}, na_action="ignore"))
            values |= {expr: found[:, places] for expr, places in self.places.items()}
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
