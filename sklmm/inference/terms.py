"""Which coefficients a name stands for: those of a formula's terms by its structure, else by their names alone.

A coefficient's name does not say by itself what it is: "f[T.08:00]" is a level, "f[T.a]:x" a product. A formula knows.
Of columns that a user has made only the names are there: a colon parts a product where both sides are columns
themselves, or stand whole outside of brackets; where one side is a column and the other is not, names do not tell, and
an error says so.
"""

import re
from itertools import product

from sklmm.messages import listed

_TIMES = "\0"  # between the parts of a product, in place of the colon that level names may hold


class Terms:
    """The coefficients of a model, and what they are called together.

    Parameters
    ----------
    names : list of str
        Of all coefficients.
    formula : FormulaDesign or None
        Where the model has one.
    """

    def __init__(self, names, formula=None):
        self.names, self._terms = names, {}
        if formula is None:
            known = set(names)
            self._parts = [_parts_by_name(name, known) for name in names]
        else:
            parts = self._read(formula)
            self._parts = [parts.get(name, (name,)) for name in names]

    def _read(self, formula):
        """The parts of each column; on the way each term's columns by all that it may be called."""
        parts = {}
        for factors, columns in formula.terms():
            calls = []
            for text, variables, levels in factors:
                calls.append({text, *variables} if levels and len(variables) == 1 else {text})
            for called in product(*calls):
                found = self._terms.setdefault(_key(called), [])
                found += [name for name in columns if name not in found]
            split = re.compile(":".join(f"({re.escape(text)}.*)" for text, _, _ in factors), re.DOTALL)
            for name in columns:
                match = split.fullmatch(name)
                parts[name] = match.groups() if match else (name,)
        return parts

    def matching(self, entry):
        """The coefficients that an entry stands for: one of that name, a term's, or those like a pattern.

        Raises
        ------
        ValueError
            If nothing is like a pattern, or names do not tell whether something is.
        """
        if entry in self.names:
            return [entry]
        of_term = self._terms.get(_key(re.split(r":(?![^(]*\))", entry))) or self._terms.get(_key([entry]))
        if of_term:
            return of_term
        if "*" in entry:
            return self._like(entry)
        name = re.escape(entry)
        level = re.compile(rf"({name}|C\({name}(,.*)?\))\[.*\]", re.DOTALL)
        return self._alone(entry, level) or [entry]

    def _like(self, entry):
        text = f"[^{_TIMES}]*".join(re.escape(piece).replace(":", f"[:{_TIMES}]") for piece in entry.split("*"))
        pattern = re.compile(text, re.DOTALL)
        if ":" not in entry:  # products are asked for as such: "livch*" stands for no "livch1:age"
            found = self._alone(entry, pattern)
        else:
            found = [
                (name, parts) for name, parts in zip(self.names, self._parts, strict=True)
                if pattern.fullmatch(_TIMES.join(parts or (name,)))
            ]  # fmt: skip
            products = [name for name, parts in found if parts is None or len(parts) > 1]
            found = products or [name for name, _ in found]
        if not found:
            raise ValueError(f"no coefficient is like {entry!r}; there are {listed(map(repr, self.names))}")
        return found

    def _alone(self, entry, pattern):
        """Coefficients like a pattern, products aside."""
        found = [
            (name, parts) for name, parts in zip(self.names, self._parts, strict=True) if pattern.fullmatch(name)
        ]
        doubtful = [name for name, parts in found if parts is None]
        if doubtful:
            raise ValueError(
                f"{entry!r} may or may not stand for {listed(map(repr, doubtful))}: names do not tell whether that is "
                "a product or a level with a colon in its name. List the coefficients instead"
            )
        return [name for name, parts in found if len(parts) == 1]


def _key(factors):
    """A term's factors, whatever their order, spaces and back-quotes."""
    return frozenset("".join(factor.split()).strip("`") for factor in factors)


def _parts_by_name(name, known):
    """The parts of a product, as far as names show them; None where they do not."""
    pieces = name.split(":")
    if len(pieces) == 1:
        return (name,)
    found = _joined(pieces, known - {name})
    if found:
        return found
    outside = re.split(r":(?![^\[]*\])", name)
    if "[" in name and all(map(_is_whole, outside)):
        return tuple(outside)
    ends = {":".join(pieces[:k]) for k in range(1, len(pieces))} | {":".join(pieces[k:]) for k in range(1, len(pieces))}
    return None if ends & known else (name,)


def _joined(pieces, known):
    """The pieces joined again so that each is a known name; an empty tuple where that can't be done."""
    for k in range(len(pieces), 0, -1):
        if ":".join(pieces[:k]) in known:
            rest = _joined(pieces[k:], known)
            if rest or k == len(pieces):
                return (":".join(pieces[:k]), *rest)
    return ()


def _is_whole(piece):
    """Whether a part of a name has no bracket, or closes the one that it opens at its end."""
    return "[" not in piece and "]" not in piece or bool(re.fullmatch(r"[^\[\]]+\[[^\[\]]*\]", piece))
