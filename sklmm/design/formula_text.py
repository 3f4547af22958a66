"""The text of a formula taken apart: response, fixed part, terms with a bar, offsets; it knows quotes and calls."""

import keyword
import re
from typing import NamedTuple

_STAND_IN = "column_"
_TYPES = ("bool", "float", "int", "str")  # as in I(x.astype(int))
_TOKEN = re.compile(
    r"""`(?P<quoted>[^`]+)`"""
    r"""|Q\(\s*(?P<mark>['"])(?P<argument>.+?)(?P=mark)\s*\)"""
    r"""|'[^']*'|"[^"]*\""""
    r"""|(?P<word>(?:[^\W\d]|\.(?=[^\W\d]))[\w.]*)"""
    r"""|\.?\d[\w.]*|.""",
    re.DOTALL,
)
_UNSUPPORTED = {
    "offset": "stands by itself, added to the rest: y ~ x + offset(log(exposure)) + (1 | g)",
    "ns": "is R's: natural cubic splines are cr(x, df=4) here, B-splines bs(x, df=4)",
    **dict.fromkeys(
        ("s", "te", "ti", "t2"), "is mgcv's, and is not supported: splines are bs(x, df=5) or cr(x, df=5)"
    ),
    **dict.fromkeys(("factor", "as.factor"), "is R's: factors are C(x) here"),
}


class FormulaParts(NamedTuple):
    """A formula, taken apart.

    Attributes
    ----------
    response : str
        The name left of the tilde; of counts all that is left of it.
    fixed : str
        What is right of it, without the terms in brackets that hold a bar and without offsets.
    bars : list of str
        Those terms, without their brackets.
    offsets : list of str
        What stands in the brackets of offset(...).
    counts : (str, str, bool) or None
        Of counts what the successes are, what the trials or the failures are, and whether they are failures.
    """

    response: str
    fixed: str
    bars: list
    offsets: list
    counts: tuple | None


def split_formula(text):
    """The `FormulaParts` of a formula."""
    if not isinstance(text, str):
        raise TypeError(f"formula must be a str such as 'use ~ age + (1 | district)', got {type(text).__name__}")
    left, tilde, right = text.partition("~")
    if not tilde or "~" in right:
        raise ValueError(f"formula: one '~' must part the response from the rest, as in 'use ~ age'; got {text!r}")
    response, counts = _left_side(left.strip(), text)
    kept, bars, offsets, i = [], [], [], 0
    while i < len(right):
        end = _end_of_piece(right, i, text)
        if right[i:end] == "offset" and right[end:].lstrip().startswith("("):
            end = _end_of_piece(right, right.index("(", end), text)
        piece = right[i:end]
        is_offset = re.match(r"offset\s*\(", piece)
        if is_offset or (piece.startswith("(") and _has_bar(piece[1:-1])):
            before = "".join(kept).rstrip()
            if before and not before.endswith("+"):
                what = "an offset" if is_offset else "a term with a bar"
                raise ValueError(f"formula: {what} is added to the rest with '+', but {piece!r} is not")
            after = right[end:].lstrip()
            if after and not after.startswith(("+", "-")):
                raise ValueError(f"formula: expected '+' after {piece!r}")
            kept = [before[:-1].rstrip()] if before else []
            if is_offset:
                offsets.append(piece[is_offset.end() : -1].strip())
            else:
                bars.append(piece[1:-1])
            if not kept or not kept[0]:
                end += len(right[end:]) - len(after.removeprefix("+"))
                kept = []
        elif piece == "|":
            raise ValueError(
                f"formula: terms with a bar go in brackets, as in 'use ~ age + (1 | district)'; got {text!r}"
            )
        else:
            kept.append(piece)
        i = end
    return FormulaParts(response, "".join(kept).strip() or "1", bars, offsets, counts)


def _left_side(left, formula):
    """The response's name, and what counts it is, if it is."""
    if left.startswith("`") and left.endswith("`") and left.count("`") == 2 and len(left) > 2:
        return left[1:-1], None
    if re.fullmatch(r"[^\W\d][\w.]*", left):
        return left, None
    call = re.fullmatch(r"cbind\s*\((.*)\)", left, re.DOTALL)
    parts = _split_at(call[1], ",", formula) if call else _split_at(left, "|", formula)
    if len(parts) == 2 and all(parts):
        return left, (*parts, bool(call))
    counts = call or len(parts) > 1 or "/" in left
    raise ValueError(
        f"formula: left of the '~' stands the name of one column, got {left!r}; "
        + (
            "successes of trials are written 'successes | trials ~ ...' or 'cbind(successes, failures) ~ ...'"
            if counts
            else "transform the response beforehand, and put other names in back-quotes: `a name`"
        )
    )


def _split_at(text, mark, formula):
    """The parts between marks outside quotes, brackets and calls."""
    parts, i = [""], 0
    while i < len(text):
        end = _end_of_piece(text, i, formula)
        if text[i:end] == mark:
            parts.append("")
        else:
            parts[-1] += text[i:end]
        i = end
    return [part.strip() for part in parts]


def _end_of_piece(text, start, formula):
    """End of the piece that begins at `start`: brackets, a quoted text, a name or call, or one character."""
    char = text[start]
    if char in "`'\"":
        end = text.find(char, start + 1)
        if end < 0:
            raise ValueError(f"formula: a quote is never closed in {formula!r}")
        return end + 1
    if char in "([{":
        closing = {"(": ")", "[": "]", "{": "}"}[char]
        i = start + 1
        while i < len(text) and text[i] != closing:
            i = _end_of_piece(text, i, formula)
        if i >= len(text):
            raise ValueError(f"formula: {char!r} is never closed in {formula!r}")
        return i + 1
    name = re.compile(r"[^\W\d][\w.]*").match(text, start)
    if name is None:
        return start + 1
    call = text[name.end() : name.end() + 1] == "("
    return _end_of_piece(text, name.end(), formula) if call else name.end()


class StandIns:
    """Names that Python can read, in place of those of columns that it cannot: "sys.bp", "body mass", "class".

    Parameters
    ----------
    functions : collection of str
        Names of functions in formulas, which columns may share.

    Attributes
    ----------
    names : dict of str -> str
        The column that each name stands for.
    """

    def __init__(self, functions):
        self._functions, self.names = set(functions), {}

    def of(self, name):
        """The name itself, if it is one that formulas can hold, or what stands for it."""
        # formulaic's own column for the intercept must stay the only one of that name
        taken = name == "Intercept" or name in self._functions or name.startswith(_STAND_IN)
        if name.isidentifier() and not keyword.iskeyword(name) and not taken:
            return name
        for stand_in, column in self.names.items():
            if column == name:
                return stand_in
        stand_in = f"{_STAND_IN}{len(self.names)}_"
        self.names[stand_in] = name
        return stand_in

    def is_function(self, name):
        """Whether a name is that of a function, or of a module of them."""
        return name in self._functions

    def back(self, text):
        """A text with the names of columns again."""
        return re.sub(rf"{_STAND_IN}\d+_", lambda match: self.names.get(match[0], match[0]), text)


def translate(text, columns, stand_ins, others=()):
    """A formula with stand-ins for names of columns.

    Parameters
    ----------
    text : str
        Right of the tilde, or left of a bar.
    columns : collection of str
        Names may have dots, in back-quotes or not. "day.dt.month" is an attribute of a column "day", unless there is a
        column of just that name.
    stand_ins : StandIns
    others : list of str
        The columns that a dot stands for.

    Returns
    -------
    translated : str
    names : list of str
        Of columns, those of which there is none included.
    """
    out, names = [], []

    def column(name, rest=""):
        names.append(name)
        out.append(stand_ins.of(name) + rest)

    for match in _TOKEN.finditer(text):
        after = text[match.end() :].lstrip()
        word, call = match["word"], after.startswith("(")
        if match["quoted"] or match["argument"]:
            column(match["quoted"] or match["argument"])
        elif match[0] == ".":
            out.append(f"({' + '.join(map(stand_ins.of, others)) or '1'})")
            names += others
        elif word is None or (after.startswith("=") and not after.startswith("==")):
            out.append(match[0])  # the name of an argument, in the second case
        elif word in columns and not call:
            column(word)
        else:
            if call and word in _UNSUPPORTED:
                raise ValueError(f"formula: {word}(...) {_UNSUPPORTED[word]}")
            parts = word.split(".")
            heads = [".".join(parts[:k]) for k in range(len(parts) - 1, 0, -1)]
            head = next((head for head in heads if head in columns), None)
            if head is not None and not stand_ins.is_function(parts[0]):
                column(head, word[len(head) :])
            elif call or stand_ins.is_function(parts[0]) or keyword.iskeyword(word) or word in _TYPES:
                out.append(word)
            elif word.startswith("."):  # an attribute of what stands before it
                out.append(word)
            else:
                column(word)
    return "".join(out), names


def quote_calls(bar):
    """A term with a bar, the calls left of it in back-quotes: they are columns of the design by these names."""
    kept, i = [], 0
    while i < len(bar) and bar[i] != "|":
        end = _end_of_piece(bar, i, bar)
        piece = bar[i:end]
        if piece.endswith(")") and not piece.startswith("("):
            piece = "`" + re.sub(r"`([^`]+)`", r'Q("\1")', piece) + "`"  # back-quotes can't hold back-quotes
        kept.append(piece)
        i = end
    return "".join(kept) + bar[i:]


def _has_bar(text):
    """Whether there is a bar outside quotes and calls."""
    i = 0
    while i < len(text):
        if text[i] == "|":
            return True
        if text[i] == "(":  # brackets within brackets: (1 + (x) | g)
            end = _end_of_piece(text, i, text)
            if _has_bar(text[i + 1 : end - 1]):
                return True
            i = end
        else:
            i = _end_of_piece(text, i, text)
    return False
