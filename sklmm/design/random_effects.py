"""lme4's bar notation for random effects: text -> `RandomTerm`.

    spec  := term | "(" spec ")" { "+" "(" spec ")" }
    term  := left ( "|" | "||" ) right
    left  := [ "-" ] item { ( "+" | "-" ) item }          item := "1" | "0" | names { "*" names }
    right := names { "/" names }                          names := name { ":" name }

"1 + age | district" is a random intercept and a random slope of age, correlated, for every district. As in
lme4 the intercept is there unless "0 +" or "-1" takes it away, "||" sets the correlations to zero, "a/b" is
short for the two factors a and a:b, and ":" binds tighter than "/" and "*". Left of the bar "x:z" is the product of two
features, and "x*z" is short for x + z + x:z. A name is a letter or an underscore or a
dot, followed by these or digits; any other name goes in back-quotes.

A scanner and one method a rule. Every error points with a caret at the place in the user's own text.
"""

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

from sklmm.messages import display_width, listed, similar_names

_INTERCEPT = "intercept"  # the public name of the intercept among random coefficients


@dataclass(frozen=True)
class RandomTerm:
    """Random coefficients of one grouping factor with one covariance matrix.

    Attributes
    ----------
    factor : tuple of str
        Grouping columns; an interaction such as urban:district has several.
    intercept : bool
        Whether the intercept is among the coefficients.
    features : tuple of str
        The slopes, as named in the text; a product is "x:z".
    correlated : bool
        False for "||": a diagonal covariance matrix.
    source : str
        The text the term came from.
    """

    factor: tuple[str, ...]
    intercept: bool
    features: tuple[str, ...]
    correlated: bool
    source: str
    products: tuple = ()  # (name, names of the features multiplied) of each slope that is a product
    # For error messages only: which argument the text was, and where in it each name stands.
    where: str = field(default="random_effects", compare=False, repr=False)
    places: dict = field(default_factory=dict, compare=False, repr=False)

    def multiplied(self, feature):
        """Names of the features whose product a slope is; of one that is no product, its own."""
        return dict(self.products).get(feature, (feature,))

    @property
    def factor_name(self):
        """The factor as written: "district", "urban:district"."""
        return ":".join(self.factor)

    @property
    def coefficient_names(self):
        """Names of the random coefficients, "intercept" first where there is one."""
        return (_INTERCEPT, *self.features) if self.intercept else self.features


def parse_random_effects(spec, factor_names):
    """Parse the `random_effects` parameter.

    Parameters
    ----------
    spec : None, str or list of str
        Bar notation; None is a random intercept for every factor.
    factor_names : sequence of str
        The grouping factors that came with the data. Names in `spec` are not checked against them: right of
        the bar the features of X count too, see `unknown_name_error`.

    Returns
    -------
    list of RandomTerm
        In the order of the text. Terms of one factor share its first spelling (b:a after a:b is a:b).
    """
    factor_names = [str(name) for name in factor_names]
    if spec is None:
        return [RandomTerm((name,), True, (), True, f"1 | {quoted(name)}") for name in factor_names]
    if isinstance(spec, str):
        entries = [("random_effects", spec)]
    elif isinstance(spec, (list, tuple)):
        if not spec:
            raise ValueError(
                "random_effects is empty: give at least one term such as '1 | district', or None for a "
                "random intercept for every grouping factor"
            )
        for i, entry in enumerate(spec):
            if not isinstance(entry, str):
                raise TypeError(f"random_effects[{i}] must be a str, got {type(entry).__name__}")
        entries = [(f"random_effects[{i}]", entry) for i, entry in enumerate(spec)]
    else:
        raise TypeError(f"random_effects must be None, a str or a list of str, got {type(spec).__name__}")

    example = quoted(factor_names[0]) if factor_names else "district"
    terms = [term for where, text in entries for term in _Parser(where, text, example).parse()]
    return _unified(terms)


def term_names(terms):
    """Public names of terms: the factor's name; a second term on the same factor is "id.1", then "id.2"."""
    seen, names = {}, []
    for term in terms:
        name = term.factor_name
        count = seen.get(name, 0)
        seen[name] = count + 1
        names.append(f"{name}.{count}" if count else name)
    return names


def unknown_name_error(term, name, known, kind):
    """The ValueError for a name that the data do not have, with the place in the text and close matches.

    Parameters
    ----------
    term : RandomTerm
    name : str
        The unknown name, one of `term.features` or `term.factor`.
    known : iterable of str
        The names there are.
    kind : {"feature", "group"}
        Which side of the bar the name stands on.
    """
    known = [str(k) for k in known]
    thing = "feature of X" if kind == "feature" else "grouping column"
    similar = similar_names(name, known)
    if similar:
        advice = "did you mean " + " or ".join(map(repr, similar)) + "?"
    elif known:
        advice = f"there are {listed(map(repr, known))}"
    else:
        advice = f"there is no {thing} at all"
    position = term.places.get((kind, name))
    message = f"unknown {thing} {name!r}; {advice}"
    if position is None:  # a term that no text was parsed for
        return ValueError(f"{term.where}: {message} (in {term.source!r})")
    return _error(term.where, term.source, position, message)


def _unified(terms):
    """Give one factor one spelling, and refuse the same coefficient twice on one factor."""
    spelling, seen, out = {}, set(), []
    for term in terms:
        key = frozenset(term.factor)
        factor = spelling.setdefault(key, term.factor)
        for coefficient in term.coefficient_names:
            multiplied = frozenset(term.multiplied(coefficient))  # x:z is z:x
            if (key, multiplied) in seen:
                position = term.places.get(("feature", coefficient), term.places.get("left", 0))
                hint = "; leave it out with '0 +'" if coefficient == _INTERCEPT and term.features else ""
                raise _error(
                    term.where,
                    term.source,
                    position,
                    f"the coefficient {coefficient!r} of the factor {':'.join(factor)!r} is already in an "
                    f"earlier term{hint}",
                )
            seen.add((key, multiplied))
        out.append(term if factor == term.factor else replace(term, factor=factor))
    return out


# --- the scanner --------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str  # "name", "number", "end" or the operator itself
    text: str
    start: int


def _is_name_part(char):
    # str.isidentifier knows the combining vowel signs of Indic scripts, which \w does not.
    return char == "." or ("_" + char).isidentifier()


def quoted(name):
    plain = name and not name[0].isdigit() and all(_is_name_part(char) for char in name)
    return name if plain else f"`{name}`"


def _error(where, text, position, message):
    """A ValueError with the text and a caret under `position`."""
    line = "".join(" " if char.isspace() else char for char in text)
    caret = " " * display_width(line[:position]) + "^"
    return ValueError(f"{where}: {message}\n    {line}\n    {caret}")


_UNSUPPORTED = {
    "^": "powers are not supported: transform the column before the fit",
    "~": "random_effects holds only the terms with a bar; the fixed effects are the columns of X",
}
_BRACKETED = "'(1 | a) + (1 | b)'"


def _scan(where, text):
    tokens, i = [], 0
    while i < len(text):
        char = text[i]
        start = i
        if char.isspace():
            i += 1
            continue
        if char == "`":
            end = text.find("`", i + 1)
            if end < 0:
                raise _error(where, text, i, "this back-quote is never closed")
            if end == i + 1:
                raise _error(where, text, i, "a name between back-quotes is empty")
            tokens.append(_Token("name", text[i + 1 : end], start))
            i = end + 1
            continue
        if char == "|":
            while i < len(text) and text[i] == "|":
                i += 1
            if i - start > 2:
                raise _error(where, text, start, "too many bars: '|' is correlated, '||' is uncorrelated")
            tokens.append(_Token(text[start:i], text[start:i], start))
            continue
        if char in "+-/:()*":
            i += 1
            tokens.append(_Token(char, char, start))
            continue
        if _is_name_part(char):
            while i < len(text) and _is_name_part(text[i]):
                i += 1
            word = text[start:i]
            if not word[0].isdigit():
                tokens.append(_Token("name", word, start))
            elif word in ("0", "1"):
                tokens.append(_Token("number", word, start))
            else:
                raise _error(
                    where,
                    text,
                    start,
                    f"{word!r} is neither 0 nor 1; a name that begins with a digit goes in back-quotes: "
                    f"`{word}`",
                )
            continue
        unexpected = f"unexpected character {char!r}; odd names go in back-quotes: `a name`"
        raise _error(where, text, i, _UNSUPPORTED.get(char, unexpected))
    tokens.append(_Token("end", "", len(text)))
    return tokens


# --- the parser ---------------------------------------------------------------------------------------------


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, where, text, example):
        self.where, self.text, self.example = where, text, example
        self.tokens = _scan(where, text)
        self.at = 0

    def parse(self):
        if self.peek.kind == "end":
            raise self.error(f"the text is empty; a random intercept is '1 | {self.example}'")
        terms = self.spec()
        if self.peek.kind == ")":
            raise self.error("')' without a '(' before it")
        return terms

    def spec(self):
        if self.peek.kind != "(":
            return self.term()
        terms = []
        while True:
            opening = self.take("(", f"expected a term in brackets, as in {_BRACKETED}")
            terms += self.spec()
            self.take(")", f"the '(' at position {opening.start + 1} is never closed")
            if self.peek.kind in ("end", ")"):
                return terms
            self.take("+", "expected '+' between two terms in brackets")
            if self.peek.kind in ("name", "number"):
                raise self.error(
                    f"expected a term in brackets, as in {_BRACKETED}; the fixed effects are the columns of X"
                )

    def term(self):
        start = self.peek
        intercept, features, products, places = self.left()
        bar = self.peek
        if bar.kind == ")" and self.tokens[self.at + 1].kind in ("|", "||"):
            raise self.error("brackets go around the whole term: '(1 + x | g)', not '(1 + x) | g'")
        if bar.kind in ("end", ")"):
            alone = len(features) == 1 and intercept is None and features[0]
            suggestion = f"1 | {quoted(alone)}" if alone else f"1 + age | {self.example}"
            raise self.error(
                f"no '|' here: a term is the coefficients, a bar and the grouping factor: {suggestion!r}"
            )
        self.take(("|", "||"), "expected '+', '|' or '||'")
        factors, group_places = self.right(bar)
        if self.peek.kind in ("|", "||"):
            raise self.error(f"a second bar: put each term in brackets, {_BRACKETED}, or give a list")
        if self.peek.kind in ("+", "-"):
            raise self.error(f"expected the end of the term: put each term in brackets, {_BRACKETED}, or give a list")
        if self.peek.kind not in ("end", ")"):
            raise self.error("expected '/', ':' or the end of the term")
        intercept = intercept is not False
        if not intercept and not features:
            raise self.error("this term has no coefficient; a random intercept is '1'", start)
        if intercept and _INTERCEPT in features:
            position = places["feature", _INTERCEPT]
            raise _error(
                self.where,
                self.text,
                position,
                "the coefficient 'intercept' is there twice: the intercept is written 1, and a feature of "
                "that name needs '0 +' or another name",
            )
        places = {**places, **group_places, "left": start.start}
        return [
            RandomTerm(
                factor, intercept, tuple(features), bar.kind == "|", self.text, tuple(products), self.where, places
            )
            for factor in factors
        ]

    def left(self):
        """Coefficients -> (intercept: True, False or None when not mentioned, features, products, places)."""
        intercept, features, products, places, seen = None, [], [], {}, set()
        sign = None
        if self.peek.kind == "-":
            sign = self.next()
        while True:
            item = self.peek
            if item.kind == "number":
                self.next()
                if sign is not None and sign.kind == "-" and item.text == "0":
                    raise self.error("only '1' can be taken away", item)
                keep = item.text == "1" and (sign is None or sign.kind == "+")
                if intercept is not None:
                    what = "there twice" if intercept == keep else "both asked for and taken away"
                    raise self.error(f"the intercept is {what}", item)
                intercept = keep
            elif item.kind == "name":
                if sign is not None and sign.kind == "-":
                    raise self.error("only '1' can be taken away", item)
                expanded = self.names_multiplied(places)
                for names in expanded:
                    name = ":".join(names)
                    if frozenset(names) in seen and len(expanded) == 1:
                        raise self.error(f"the coefficient {name!r} is there twice", item)
                    if frozenset(names) in seen:
                        continue
                    seen.add(frozenset(names))
                    features.append(name)
                    places.setdefault(("feature", name), item.start)
                    if len(names) > 1:
                        products.append((name, names))
            else:
                self.fail_at_item(sign)
            if self.peek.kind not in ("+", "-"):
                break
            sign = self.next()
        if self.peek.kind == "/":
            raise self.error("'/' belongs right of the bar; left of it make the ratio a column first")
        return intercept, features, products, places

    def names_multiplied(self, places):
        """An item -> the tuples of names that are multiplied: of a:b one, of a*b those of a, b and a:b."""
        factors, before = [()], None
        while True:
            item = self.peek
            if item.kind != "name":
                raise self.error(
                    f"expected the name of a feature after {before.text!r} at position {before.start + 1}"
                )
            self.next()
            if self.peek.kind == "(":
                raise self.error(
                    f"function calls such as {item.text}(...) are not supported: transform the column "
                    "before the fit",
                    item,
                )
            places.setdefault(("feature", item.text), item.start)
            factors[-1] = (*factors[-1], item.text)
            if self.peek.kind not in (":", "*"):
                break
            before = self.next()
            factors += [()] * (before.kind == "*")
        several = (chosen for size in range(1, len(factors) + 1) for chosen in combinations(factors, size))
        return [tuple(dict.fromkeys(name for names in chosen for name in names)) for chosen in several]

    def fail_at_item(self, sign):
        item = self.peek
        if sign is None and item.kind in ("|", "||"):
            raise self.error(f"nothing left of the bar; a random intercept is '1 | {self.example}'")
        if item.kind == "(":
            raise self.error(f"brackets go around a whole term, {_BRACKETED}; the fixed effects are the columns of X")
        if sign is None:
            raise self.error("expected 1, 0 or the name of a feature")
        if sign.kind == "-":
            raise self.error(f"expected 1 after '-' at position {sign.start + 1}")
        raise self.error(f"expected a name after '+' at position {sign.start + 1}")

    def right(self, bar):
        """Grouping factor -> (factors, places); a/b/c is a, a:b and a:b:c."""
        levels, places, before = [], {}, bar
        while True:
            names = []
            while True:
                item = self.peek
                if item.kind != "name":
                    if before is bar and item.kind in ("end", ")"):
                        raise self.error(f"nothing right of the bar; a random intercept is '1 | {self.example}'")
                    raise self.error(
                        f"expected the name of a grouping column after {before.text!r} at position "
                        f"{before.start + 1}"
                    )
                if ("group", item.text) in places:
                    raise self.error(f"the grouping column {item.text!r} is there twice")
                self.next()
                if self.peek.kind == "(":
                    raise self.error(
                        f"function calls such as {item.text}(...) are not supported: make the groups a "
                        "column before the fit",
                        item,
                    )
                names.append(item.text)
                places["group", item.text] = item.start
                if self.peek.kind != ":":
                    break
                before = self.next()
            levels.append(names)
            if self.peek.kind != "/":
                break
            before = self.next()
        if self.peek.kind == "*":
            raise self.error("'*' is not supported right of the bar: write a/b or a:b")
        factors = [tuple(name for names in levels[: i + 1] for name in names) for i in range(len(levels))]
        return factors, places

    # --- tokens

    @property
    def peek(self):
        return self.tokens[self.at]

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def take(self, kinds, message):
        if self.peek.kind not in ((kinds,) if isinstance(kinds, str) else kinds):
            raise self.error(message)
        return self.next()

    def error(self, message, token=None):
        return _error(self.where, self.text, (token or self.peek).start, message)
