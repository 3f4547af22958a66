"""Statements about parameters in words, such as "age > 0" or "0.2 < sd_intercept|district < 0.5": do they hold?"""

import re

import numpy as np

from sklmm.inference.hypotheses import read_hypotheses
from sklmm.messages import listed

_COMPARISON = re.compile(r"<=|>=|<|>|≤|≥")
_BELOW = {"<", "<=", "≤"}


def holds(statement, draws, formula=None):
    """Whether a statement holds in each draw.

    Parameters
    ----------
    statement : str or callable
        Linear expressions of parameters compared, several parts joined by "and" or "&"; or a function of the draws.
    draws : DataFrame
        A column a parameter.
    formula : FormulaDesign or None

    Returns
    -------
    holds : ndarray of shape (n_draws,), bool
    """
    if callable(statement):
        found = np.asarray(statement(draws))
        if found.shape != (len(draws),) or found.dtype != bool:
            raise ValueError("a function for probability takes the frame of draws and returns True or False for each")
        return found
    if not isinstance(statement, str):
        raise TypeError(f"probability takes a statement such as 'age > 0', or a function, got {statement!r}")
    names, values = list(draws.columns), draws.to_numpy()
    out = np.ones(len(draws), dtype=bool)
    for part in _parts(statement, names):
        for left, sign, right in part:
            matrix, number = read_hypotheses(names, f"{left} = {right}", formula, what="probability")
            difference = values @ matrix.T - number
            out &= ((difference < 0.0) if sign in _BELOW else (difference > 0.0)).all(axis=1)
    return out


def _parts(statement, names):
    """The comparisons of each part of a statement."""
    masked = _masked(statement, names)
    ends = [(m.start(), m.end()) for m in re.finditer(r"\s+and\s+|&", masked)]
    starts = [0, *(end for _, end in ends)]
    stops = [*(start for start, _ in ends), len(statement)]
    for start, stop in zip(starts, stops, strict=True):
        text, cover = statement[start:stop], masked[start:stop]
        marks = list(_COMPARISON.finditer(cover))
        if not marks:
            raise ValueError(
                f"statement {text.strip()!r} compares nothing: write one such as 'age > 0'. The parameters are "
                f"{listed(map(repr, names))}"
            )
        sides = [text[a:b].strip() for a, b in zip([0, *(m.end() for m in marks)],
                                                   [*(m.start() for m in marks), len(text)], strict=True)]  # fmt: skip
        if not all(sides):
            raise ValueError(f"statement {text.strip()!r}: a side of a comparison is missing")
        yield [(a, mark[0], b) for a, mark, b in zip(sides[:-1], marks, sides[1:], strict=True)]


def _masked(statement, names):
    """The statement with the names of parameters covered, which may hold signs of comparison."""
    masked = statement
    for name in sorted(names, key=len, reverse=True):
        if re.search(r"[<>≤≥&]|\sand\s", name):
            masked = masked.replace(name, "x" * len(name))
    return masked
