"""Linear hypotheses about coefficients as their user writes them: in words, as names, numbers, or a table.

"2*x - z = 1" is read from left to right. Names may hold anything, brackets, colons, blanks, signs: at each place the
longest name of a coefficient that stands there is meant; in back-quotes stands a name for certain. What looks like a
number is one.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sklmm.inference.terms import Terms
from sklmm.messages import listed, similar_names

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_OF_A_NAME = re.compile(rf"\s*(?P<left>.*?)\s*==?\s*(?P<right>[-+]?{_NUMBER.pattern})\s*", re.DOTALL)
_AFTER_A_NAME = re.compile(r"\s*(?:[-+*/=)]|$)")


def read_hypotheses(names, contrast, formula=None, what="wald_test", expressions=False):
    """Linear hypotheses as a matrix with a column a coefficient, and the numbers that its rows are to be.

    Parameters
    ----------
    names : sequence of str
        Names of all coefficients.
    contrast : str, list of str, dict, array-like or DataFrame
        Hypotheses in words: "age = 0", "f[T.b] = f[T.c]", "2*x - z = 1", "(f[T.b] + f[T.c]) / 2 = f[T.d]", "f = 0".
        Coefficients that are all 0, by name. "livch*" is all whose name begins with "livch", interactions
        ("livch1:age") aside; "livch" all levels of a factor that are named "livch[T.1]", "livch[T.2]", or
        "C(livch)[T.1]"; with a formula also any of its terms, such as "livch:age" or "bs(age, df=4)".
        Or the contrasts themselves, one (1-D) or one a row (2-D), over all coefficients in order. A DataFrame has a
        column for each coefficient it involves, a dict, of one contrast, their weights.
    formula : FormulaDesign or None
        Says which columns belong to a term; else their names do.
    what : str
        The method that reads them, for messages.
    expressions : bool
        Whether "f[T.b] - f[T.c]" stands for "f[T.b] - f[T.c] = 0".

    Returns
    -------
    matrix : ndarray of shape (n_contrasts, n)
    right : ndarray of shape (n_contrasts,)

    Raises
    ------
    TypeError, ValueError
        If it is none of these, is not linear, or names what is no coefficient.
    """
    names = [str(name) for name in names]
    if isinstance(contrast, str):
        contrast = [contrast]
    if isinstance(contrast, Mapping):
        contrast = pd.DataFrame([list(contrast.values())], columns=list(contrast))
    if isinstance(contrast, pd.DataFrame):
        columns = [str(column) for column in contrast.columns]
        matrix = np.zeros((len(contrast), len(names)))
        matrix[:, _positions(names, columns)] = contrast.to_numpy(dtype=float)
        return matrix, np.zeros(len(matrix))
    if isinstance(contrast, (list, tuple, np.ndarray, pd.Index, pd.Series)):
        entries = list(contrast)
        if entries and all(isinstance(entry, str) for entry in entries):
            return _of_texts(names, entries, Terms(names, formula), expressions)
    try:
        if np.ndim(contrast) == 0:
            raise TypeError
        matrix = np.atleast_2d(np.asarray(contrast, dtype=float))
    except (TypeError, ValueError):
        raise TypeError(
            f"{what} takes a hypothesis such as 'age = 0', the name of a coefficient, a list of names, or a matrix of "
            f"numbers with a column for each of {listed(map(repr, names))}"
        ) from None
    if matrix.ndim != 2 or matrix.shape[1] != len(names):
        raise ValueError(
            f"a contrast matrix needs {len(names)} columns, one for each of {listed(map(repr, names))}; got the shape "
            f"{np.shape(contrast)}"
        )
    return matrix, np.zeros(len(matrix))


def in_words(matrix, names):
    """Contrasts such as "age", "livch2 - livch1", "2 age + 3 dose"."""
    words = []
    for row in matrix:
        text = ""
        for j in np.flatnonzero(row):
            size = "" if abs(row[j]) == 1 else f"{abs(row[j]):.6g} "
            sign = (" - " if text else "-") if row[j] < 0 else " + " if text else ""
            text += f"{sign}{size}{names[j]}"
        words.append(text)
    return words


def equations(words, right):
    """Hypotheses such as "livch2 - livch1 = 0"."""
    return [f"{text} = {value:.6g}" for text, value in zip(words, right, strict=True)]


def _of_texts(names, entries, terms, expressions):
    rows, right, found_by_name = [], [], []
    for entry in entries:
        of_names, value = _by_name(entry, names, terms, expressions)
        if of_names is None:
            for row, number in _Reader(entry, names).hypotheses(expressions):
                rows.append(row)
                right.append(number)
        else:
            positions = _positions(names, of_names, () if expressions else found_by_name)
            found_by_name += positions
            rows += list(np.eye(len(names))[positions])
            right += [value] * len(positions)
    return np.array(rows), np.array(right)


def _by_name(entry, names, terms, expressions):
    """The coefficients that an entry stands for as a name, a term or a pattern, and what they are to be; None, 0 where
    it is more than that."""

    def known(text):
        try:
            found = terms.matching(text)
        except ValueError:  # no pattern of names
            return None
        return found if set(found) <= set(names) else None

    if "=" not in entry and not (expressions and re.search(r"[-+*/`]", entry)):
        return terms.matching(entry), 0.0
    if found := known(entry):
        return found, 0.0
    equation = _OF_A_NAME.fullmatch(entry)
    if equation and "*" not in equation["left"][:-1] and (found := known(equation["left"])):
        return found, float(equation["right"])
    return None, 0.0


def _positions(names, wanted, before=()):
    positions = []
    for name in wanted:
        if names.count(name) != 1:
            what = "is the name of several coefficients" if name in names else "is not a coefficient"
            raise ValueError(f"{name!r} {what}; there are {listed(map(repr, names))}")
        position = names.index(name)
        if position in positions or position in before:
            raise ValueError(f"{name!r} is there twice")
        positions.append(position)
    return positions


class _Reader:
    """Reads one text of hypotheses. What stands in brackets or by itself is a row of weights and a constant."""

    def __init__(self, text, names):
        self.text, self.names, self.at = text, names, 0
        by_length = sorted(set(names), key=len, reverse=True)
        self.plain = [name for name in by_length if name.strip(" -+*/=()") and not _NUMBER.fullmatch(name)]

    def hypotheses(self, expressions):
        """(row, right) of each equation; of an expression alone, if that may be, with 0."""
        sides = [self._sum()]
        while self._next("="):
            self._next("=")  # "==" says the same
            sides.append(self._sum())
        if self.at < len(self.text):
            raise ValueError(f"hypothesis {self.text!r}: can't read {self.text[self.at :]!r}{self._advice()}")
        if len(sides) == 1:
            if not expressions:
                raise ValueError(f"hypothesis {self.text!r} has no '='")
            sides.append((np.zeros(len(self.names)), 0.0))
        found = []
        for (left, constant), (row, other) in zip(sides[:-1], sides[1:], strict=True):
            difference = left - row
            if not difference.any():
                raise ValueError(f"hypothesis {self.text!r} says nothing of any coefficient")
            found.append((difference, other - constant))
        return found

    def _advice(self):
        mark = self.text[self.at]
        if mark in ",;":
            return "; give several hypotheses as a list"
        return "; tests are two-sided, of equations" if mark in "<>≤≥" else ""

    def _sum(self):
        row, constant = self._product()
        while True:
            if self._next("+"):
                sign = 1.0
            elif self._next("-"):
                sign = -1.0
            else:
                return row, constant
            other, more = self._product()
            row, constant = row + sign * other, constant + sign * more

    def _product(self):
        row, constant = self._factor()
        while True:
            if self._next("*"):
                other, factor = self._factor()
            elif self._next("/"):
                other, factor = self._factor()
                if other.any():
                    raise ValueError(f"hypothesis {self.text!r} divides by coefficients: hypotheses must be linear")
                if factor == 0.0:
                    raise ValueError(f"hypothesis {self.text!r} divides by 0")
                factor = 1.0 / factor
            elif not row.any() and self._a_name_follows():  # "2 age"
                other, factor = self._factor()
            else:
                return row, constant
            if row.any() and other.any():
                raise ValueError(
                    f"hypothesis {self.text!r} multiplies coefficients: hypotheses must be linear. (The coefficient of "
                    "a product of columns has a colon in its name)"
                )
            row, constant = row * factor + other * constant, constant * factor

    def _factor(self):
        if self._next("-"):
            row, constant = self._factor()
            return -row, -constant
        if self._next("+"):
            return self._factor()
        name = self._name()
        if name is not None:
            row = np.zeros(len(self.names))
            row[_positions(self.names, [name])] = 1.0
            return row, 0.0
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            return np.zeros(len(self.names)), float(number[0])
        if self._next("("):
            found = self._sum()
            if not self._next(")"):
                raise ValueError(f"hypothesis {self.text!r}: a bracket is never closed{self._rest()}")
            return found
        raise ValueError(self._unknown())

    def _a_name_follows(self):
        start = self.at
        found = self._name() is not None
        self.at = start
        return found or self._next("(", move=False)

    def _name(self):
        """The longest name at this place, which is then behind it; None if there is none."""
        self._skip()
        if self.text.startswith("`", self.at):
            end = self.text.find("`", self.at + 1)
            if end < 0:
                raise ValueError(f"hypothesis {self.text!r}: a back-quote is never closed")
            name = self.text[self.at + 1 : end]
            if name in self.names and _AFTER_A_NAME.match(self.text, end + 1):
                self.at = end + 1
                return name
            # a quoted column in a name, as in `body mass`[T.b]
            self.text = self.text[: self.at] + name + self.text[end + 1 :]
        for name in self.plain:
            end = self.at + len(name)
            if self.text.startswith(name, self.at) and _AFTER_A_NAME.match(self.text, end):
                self.at = end
                return name
        return None

    def _next(self, mark, move=True):
        self._skip()
        found = self.text.startswith(mark, self.at)
        self.at += len(mark) if found and move else 0
        return found

    def _skip(self):
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _rest(self):
        return f" before {self.text[self.at :]!r}" if self.at < len(self.text) else ""

    def _unknown(self):
        """An error about what stands here, as far as it looks like one name."""
        word, depth = "", 0
        for mark in self.text[self.at :]:
            depth += (mark in "([") - (mark in ")]")
            if depth < 0 or (depth == 0 and mark in "+-*/= \t\n"):
                break
            word += mark
        if not word:
            return f"hypothesis {self.text!r}: a coefficient or a number is missing{self._rest()}"
        similar = similar_names(word, self.names)
        advice = f"did you mean {' or '.join(map(repr, similar))}? " if similar else ""
        known = listed(map(repr, self.names))
        return f"hypothesis {self.text!r}: {word!r} is not a coefficient; {advice}there are {known}"
