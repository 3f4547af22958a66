"""Bar notation: what each text means, and where each error points."""

import copy
import pickle

import pytest

from sklmm.design.random_effects import parse_random_effects, term_names, unknown_name_error


def meaning(spec, factors=("g",)):
    return [(t.factor_name, t.coefficient_names, t.correlated) for t in parse_random_effects(spec, factors)]


@pytest.mark.parametrize(
    "text, coefficients, correlated",
    [
        ("1 | g", ("intercept",), True),
        ("(1 | g)", ("intercept",), True),
        ("((1|g))", ("intercept",), True),
        ("x | g", ("intercept", "x"), True),
        ("1+x|g", ("intercept", "x"), True),
        ("x + 1 | g", ("intercept", "x"), True),
        ("\t1  +\nx |g ", ("intercept", "x"), True),
        ("0 + x | g", ("x",), True),
        ("x + 0 | g", ("x",), True),
        ("-1 + x | g", ("x",), True),
        ("x - 1 | g", ("x",), True),
        ("1 || g", ("intercept",), False),
        ("1 + x + z || g", ("intercept", "x", "z"), False),
        ("0 + z + x || g", ("z", "x"), False),
        ("`body mass` + `a|b` | g", ("intercept", "body mass", "a|b"), True),
        ("`x` | `g`", ("intercept", "x"), True),
        ("a.b + _c + .d + x10 | g", ("intercept", "a.b", "_c", ".d", "x10"), True),
        ("größe + 年齢 + বয়স | g", ("intercept", "größe", "年齢", "বয়স"), True),
        ("`1` | g", ("intercept", "1"), True),
        ("0 + intercept | g", ("intercept",), True),
        ("1 + x:z | g", ("intercept", "x:z"), True),
        ("x*z || g", ("intercept", "x", "z", "x:z"), False),
        ("0 + x + x*z:w | g", ("x", "z:w", "x:z:w"), True),
        ("0 + a*b*c | g", ("a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"), True),
        ("0 + `x:z` + x:w | g", ("x:z", "x:w"), True),
    ],
)
def test_left_of_the_bar(text, coefficients, correlated):
    assert meaning(text) == [("g", coefficients, correlated)]


@pytest.mark.parametrize(
    "right, factors",
    [
        ("a", [("a",)]),
        ("a:b", [("a", "b")]),
        ("a/b", [("a",), ("a", "b")]),
        ("a / b/c", [("a",), ("a", "b"), ("a", "b", "c")]),
        ("a/b:c", [("a",), ("a", "b", "c")]),
        ("a:b/c", [("a", "b"), ("a", "b", "c")]),
        ("`a/b`", [("a/b",)]),
        ("école:`my class`", [("école", "my class")]),
    ],
)
def test_right_of_the_bar(right, factors):
    assert [t.factor for t in parse_random_effects(f"1 | {right}", [])] == factors


def test_nesting_repeats_coefficients_and_bar():
    assert meaning("x || a/b") == [
        ("a", ("intercept", "x"), False),
        ("a:b", ("intercept", "x"), False),
    ]


def test_several_terms_in_one_text_or_a_list():
    expected = [("a", ("intercept",), True), ("b", ("intercept", "x"), True)]
    assert meaning("(1 | a) + (x | b)") == expected
    assert meaning("((1 | a) + (x | b))") == expected
    assert meaning(["1 | a", "(x | b)"]) == expected
    assert meaning(("1 | a", "x | b")) == expected
    assert meaning(["(1 | a) + (x | b)", "1 | c"]) == [*expected, ("c", ("intercept",), True)]


def test_none_is_a_random_intercept_for_every_factor():
    intercept = ("intercept",)
    assert meaning(None, ["a", "my group"]) == [("a", intercept, True), ("my group", intercept, True)]
    assert meaning(None, []) == []
    for term in parse_random_effects(None, ["a", "my group", "2nd"]):  # the source says the same
        again = parse_random_effects(term.source, [])
        assert again[0].factor == term.factor


def test_term_names_number_the_terms_of_a_factor():
    terms = parse_random_effects(["1 | id", "0 + x | id", "1 | g", "0 + z | id"], [])
    assert term_names(terms) == ["id", "id.1", "g", "id.2"]


def test_one_factor_has_one_spelling():
    terms = parse_random_effects(["1 | a:b", "0 + x | b:a"], [])
    assert [t.factor for t in terms] == [("a", "b"), ("a", "b")]
    assert term_names(terms) == ["a:b", "a:b.1"]


def test_terms_are_values():
    term = parse_random_effects("1 + x | g", [])[0]
    assert term == parse_random_effects(["1 + x | g"], [])[0]
    assert hash(term) == hash(copy.deepcopy(term))
    assert pickle.loads(pickle.dumps(term)) == term


def test_products_name_what_is_multiplied():
    (term,) = parse_random_effects("0 + `a:b` + a*`c d` | g", [])
    assert [term.multiplied(name) for name in term.features] == [("a:b",), ("a",), ("c d",), ("a", "c d")]
    error = unknown_name_error(term, "c d", [], "feature")
    assert str(error).splitlines()[-1].index("^") - 4 == len("0 + `a:b` + a*")


def test_message_has_the_text_and_a_caret():
    with pytest.raises(ValueError) as caught:
        parse_random_effects("1 + age + | district", ["district"])
    assert str(caught.value) == (
        "random_effects: expected a name after '+' at position 9\n"
        "    1 + age + | district\n"
        "              ^"
    )


# The second text ends where the caret must stand.
@pytest.mark.parametrize(
    "text, before_caret, words",
    [
        ("1 + age", "1 + age", "no '|' here"),
        ("district", "district", "'1 | district'"),
        ("", "", "empty"),
        ("  ", "  ", "empty"),
        ("| g", "", "nothing left of the bar"),
        ("1 |", "1 |", "nothing right of the bar"),
        ("(1 | ) + (1 | b)", "(1 | ", "nothing right of the bar"),
        ("1 ||| g", "1 ", "too many bars"),
        ("1 | a | b", "1 | a ", "a second bar"),
        ("1 | a || b", "1 | a ", "a second bar"),
        ("1 | a + 1 | b", "1 | a ", "brackets"),
        ("(1 | a", "(1 | a", "'(' at position 1 is never closed"),
        ("((1 | a)", "((1 | a)", "'(' at position 1 is never closed"),
        ("1 | a)", "1 | a", "')' without"),
        ("(1 | a))", "(1 | a)", "')' without"),
        ("(1 | a) (1 | b)", "(1 | a) ", "expected '+'"),
        ("(1 + x) | g", "(1 + x", "whole term"),
        ("x + (1 | g)", "x + ", "fixed effects are the columns of X"),
        ("(1 | g) + x", "(1 | g) + ", "fixed effects are the columns of X"),
        ("(1 | g) +", "(1 | g) +", "expected a term in brackets"),
        ("y ~ (1 | g)", "y ", "fixed effects are the columns of X"),
        ("1 & x | g", "1 ", "unexpected character '&'"),
        ("1 | g, 1 | h", "1 | g", "unexpected character ','"),
        ("I(x^2) | g", "I(x", "transform the column before the fit"),
        ("x^2 | g", "x", "transform the column before the fit"),
        ("1 + log(x) | g", "1 + ", "transform the column before the fit"),
        ("1 | f(g)", "1 | ", "function calls"),
        ("x:1 | g", "x:", "name of a feature after ':' at position 2"),
        ("z + x*(y) | g", "z + x*", "name of a feature after '*' at position 6"),
        ("x*log(z) | g", "x*", "function calls"),
        ("x:z + z:x | g", "x:z + ", "'z:x' is there twice"),
        ("(0 + x:z | g) + (0 + z:x | g)", "(0 + x:z | g) + (0 + ", "'z:x' of the factor 'g' is already"),
        ("x/z | g", "x", "right of the bar"),
        ("1 | a*b", "1 | a", "a/b or a:b"),
        ("x z | g", "x ", "expected '+'"),
        ("1 | g h", "1 | g ", "end of the term"),
        ("1 | 1", "1 | ", "name of a grouping column after '|' at position 3"),
        ("1 | a:", "1 | a:", "after ':' at position 6"),
        ("1 | a/+", "1 | a/", "after '/' at position 6"),
        ("1 | a:a", "1 | a:", "'a' is there twice"),
        ("1 | a/b/a", "1 | a/b/", "'a' is there twice"),
        ("0 | g", "", "no coefficient"),
        ("-1 | g", "", "no coefficient"),
        ("1 + 0 | g", "1 + ", "both asked for and taken away"),
        ("1 + x - 1 | g", "1 + x - ", "both asked for and taken away"),
        ("1 + 1 | g", "1 + ", "the intercept is there twice"),
        ("x - z | g", "x - ", "only '1' can be taken away"),
        ("x - 0 | g", "x - ", "only '1' can be taken away"),
        ("x - | g", "x - ", "expected 1 after '-' at position 3"),
        ("+ x | g", "", "expected 1, 0 or the name"),
        ("x + z + x | g", "x + z + ", "'x' is there twice"),
        ("intercept | g", "", "written 1"),
        ("2 | g", "", "neither 0 nor 1"),
        ("2nd | g", "", "back-quotes: `2nd`"),
        ("1 + `x | g", "1 + ", "never closed"),
        ("1 + `` | g", "1 + ", "empty"),
        ("(1 | a) + (x | a)", "(1 | a) + (", "'intercept' of the factor 'a' is already in an earlier"),
        ("(x | a) + (0 + x | a)", "(x | a) + (0 + ", "'x' of the factor 'a' is already"),
        ("(1 | a/b) + (1 | b:a)", "(1 | a/b) + (", "'a:b' is already"),
        ("年齢 + | g", "年齢 + ", "expected a name"),
        ("x\n+ | g", "x + ", "expected a name after '+' at position 3"),
    ],
)
def test_errors_point_at_the_place(text, before_caret, words):
    with pytest.raises(ValueError) as caught:
        parse_random_effects(text, ["district"])
    message, shown, caret = str(caught.value).rsplit("\n", 2)
    assert message.startswith("random_effects: ")
    assert words in message
    assert shown == "    " + text.replace("\n", " ")
    wide = sum(char > "\u2e80" for char in before_caret)  # two columns of a terminal each
    assert caret == " " * (4 + len(before_caret) + wide) + "^"


def test_errors_in_a_list_say_which_entry():
    with pytest.raises(ValueError, match=r"^random_effects\[1\]: expected a name after '\+'"):
        parse_random_effects(["1 | a", "1 + | b"], [])
    with pytest.raises(ValueError, match=r"^random_effects\[1\]: the coefficient 'intercept' .* earlier"):
        parse_random_effects(["1 | a", "x | a"], [])


@pytest.mark.parametrize("spec", [1, 1.5, {"a": 1}, b"1 | g", True])
def test_wrong_types(spec):
    with pytest.raises(TypeError, match="random_effects must be None, a str or a list of str"):
        parse_random_effects(spec, [])


def test_wrong_type_of_an_entry_and_no_entry():
    with pytest.raises(TypeError, match=r"random_effects\[1\] must be a str, got int"):
        parse_random_effects(["1 | g", 3], [])
    with pytest.raises(ValueError, match="random_effects is empty"):
        parse_random_effects([], [])


def test_unknown_names_are_pointed_at_with_close_matches():
    first, second = parse_random_effects("(1 | g) + (1 + aeg | distrct)", [])
    error = unknown_name_error(second, "aeg", ["age", "urban"], "feature")
    assert isinstance(error, ValueError)
    assert str(error) == (
        "random_effects: unknown feature of X 'aeg'; did you mean 'age'?\n"
        "    (1 | g) + (1 + aeg | distrct)\n"
        "                   ^"
    )
    message, _, caret = str(unknown_name_error(second, "distrct", ["district"], "group")).rsplit("\n", 2)
    assert message == "random_effects: unknown grouping column 'distrct'; did you mean 'district'?"
    assert caret.index("^") - 4 == "(1 | g) + (1 + aeg | distrct)".index("distrct")


def test_unknown_name_on_both_sides_of_the_bar():
    text = "1 + `a b` | `a b`"
    term = parse_random_effects(text, [])[0]
    for kind, place in [("feature", 4), ("group", 12)]:
        caret = str(unknown_name_error(term, "a b", [], kind)).rsplit("\n", 1)[1]
        assert caret.index("^") - 4 == place


def test_advice_for_unknown_names():
    term = parse_random_effects(["1 | AGE"], [])[0]
    assert str(unknown_name_error(term, "AGE", ["age"], "group")).startswith("random_effects[0]: ")
    assert "did you mean 'age'?" in str(unknown_name_error(term, "AGE", ["age"], "group"))
    assert "there are 'q', 'r'" in str(unknown_name_error(term, "AGE", ["q", "r"], "group"))
    assert "there is no grouping column" in str(unknown_name_error(term, "AGE", [], "group"))
    many = str(unknown_name_error(term, "AGE", [f"q{i}" for i in range(99)], "group"))
    assert "'q9' and 89 more" in many and "q10" not in many
