"""The text of a formula taken apart: the response, the fixed part, the terms with a bar; it knows quotes and calls."""

import re

__all__ = ["names_in", "quote_calls", "split_formula"]


def split_formula(text):
    """Take a formula apart.

    Parameters
    ----------
    text : str

    Returns
    -------
    response : str
        The name left of the tilde.
    fixed : str
        What is right of it, without the terms in brackets that hold a bar.
    bars : list of str
        Those terms, without their brackets.
    """
    if not isinstance(text, str):
        raise TypeError(f"formula must be a str such as 'use ~ age + (1 | district)', got {type(text).__name__}")
    left, tilde, right = text.partition("~")
    if not tilde or "~" in right:
        raise ValueError(f"formula: one '~' must part the response from the rest, as in 'use ~ age'; got {text!r}")
    response = left.strip()
    if response.startswith("`") and response.endswith("`") and len(response) > 2:
        response = response[1:-1]
    elif not re.fullmatch(r"[^\W\d][\w.]*", response):
        raise ValueError(
            f"formula: left of the '~' stands the name of one column, got {left.strip()!r}; transform the response "
            "beforehand, and put other names in back-quotes: `a name`"
        )
    kept, bars, i = [], [], 0
    while i < len(right):
        end = _end_of_piece(right, i, text)
        piece = right[i:end]
        if piece.startswith("(") and _has_bar(piece[1:-1]):
            before = "".join(kept).rstrip()
            if before and not before.endswith("+"):
                raise ValueError(f"formula: a term with a bar is added to the rest with '+', but {piece!r} is not")
            after = right[end:].lstrip()
            if after and not after.startswith(("+", "-")):
                raise ValueError(f"formula: expected '+' after {piece!r}")
            kept = [before[:-1].rstrip()] if before else []
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
    return response, "".join(kept).strip() or "1", bars


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


def names_in(text):
    """The names in a formula that may be those of columns: neither functions nor keywords of theirs."""
    quoted = set(re.findall(r"`([^`]+)`", text))
    text = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", " ", text)
    return quoted | set(re.findall(r"(?<![\w.])[^\W\d]\w*(?![\w.]|\s*\(|\s*=(?!=))", text))


def quote_calls(bar):
    """A term with a bar, the calls left of it in back-quotes: they are columns of the design by these names."""
    kept, i = [], 0
    while i < len(bar) and bar[i] != "|":
        end = _end_of_piece(bar, i, bar)
        piece = bar[i:end]
        kept.append(f"`{piece}`" if piece.endswith(")") and not piece.startswith("(") else piece)
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
