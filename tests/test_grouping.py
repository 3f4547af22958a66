"""Group labels to codes and back: any container, any order, equal labels get equal codes."""

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklmm.design.grouping import as_group_frame, encode_groups, interact, lookup_codes

STRINGS = ["b", "a", "c", "a", "b", "b"]
NUMBERS = [30, 10, 20, 10, 30, 30]
CODES = [1, 0, 2, 0, 1, 1]
NUMBER_CODES = [2, 0, 1, 0, 2, 2]
DAYS = [dt.datetime(2020, 1, d) for d in NUMBERS]


def same(codes, expected):
    assert codes.dtype == np.intp
    np.testing.assert_array_equal(codes, expected)


# --- encode_groups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        STRINGS,
        tuple(STRINGS),
        np.array(STRINGS),
        np.array(STRINGS, dtype=object),
        np.array(STRINGS, dtype="S1"),
        pd.Series(STRINGS),
        pd.Series(STRINGS, dtype=object),
        pd.Series(STRINGS, dtype="string"),
        pd.Index(STRINGS),
        pd.array(STRINGS),
        pd.Series(STRINGS, index=[5, 5, 4, 4, 0, 1]),
        pl.Series(STRINGS),
        pl.Series(STRINGS, dtype=pl.Categorical),
    ],
    ids=lambda labels: f"{type(labels).__module__}.{type(labels).__name__}-{getattr(labels, 'dtype', '')}",
)
def test_strings(labels):
    codes, levels = encode_groups(labels, "g")
    same(codes, CODES)
    assert [x if isinstance(x, str) else x.decode() for x in levels] == ["a", "b", "c"]
    same(lookup_codes(levels, labels), CODES)


@pytest.mark.parametrize(
    "labels",
    [
        NUMBERS,
        *(np.array(NUMBERS, dtype=t) for t in "i1 u1 i2 i4 u4 i8 u8 >i4 >f8 f4 f8 O".split()),
        np.array([NUMBERS, NUMBERS], dtype=float).T[:, 1],
        pd.Series(NUMBERS, dtype="Int64"),
        pd.Series(NUMBERS, dtype="Float64"),
        pd.Series([float(x) for x in NUMBERS], dtype=object),
        pl.Series(NUMBERS),
        pl.Series(NUMBERS, dtype=pl.Float32),
    ],
    ids=lambda labels: f"{type(labels).__module__}.{type(labels).__name__}-{getattr(labels, 'dtype', '')}",
)
def test_numbers(labels):
    codes, levels = encode_groups(labels, "g")
    same(codes, NUMBER_CODES)
    assert levels.tolist() == [10, 20, 30]
    assert levels.dtype.kind in "iu", "whole numbers are shown without a decimal point"
    same(lookup_codes(levels, labels), NUMBER_CODES)


@pytest.mark.parametrize(
    "labels",
    [
        DAYS,
        np.array(DAYS, dtype="M8[D]"),
        np.array(DAYS, dtype="M8[ns]"),
        pd.Series(DAYS),
        pd.Series(DAYS).dt.tz_localize("UTC"),
        pl.Series(DAYS),
    ],
    ids=lambda labels: f"{type(labels).__module__}.{type(labels).__name__}-{getattr(labels, 'dtype', '')}",
)
def test_dates(labels):
    codes, levels = encode_groups(labels, "g")
    same(codes, NUMBER_CODES)
    assert list(levels.day) == [10, 20, 30]
    same(lookup_codes(levels, labels), NUMBER_CODES)


def test_booleans():
    codes, levels = encode_groups(np.array([True, False, True]), "g")
    same(codes, [1, 0, 1])
    assert levels.tolist() == [False, True]
    same(lookup_codes(levels, [1.0, 0, "True", None]), [1, 0, -1, -1])


def test_categories_keep_their_order_and_only_those_in_use():
    labels = pd.Categorical(["lo", "hi", "lo"], categories=["none", "lo", "mid", "hi"])
    codes, levels = encode_groups(labels, "g")
    same(codes, [0, 1, 0])
    assert levels.tolist() == ["lo", "hi"]
    same(lookup_codes(levels, labels), codes)
    same(lookup_codes(levels, pd.Series(["hi", "mid", None, "lo"]).astype("category")), [1, -1, -1, 0])
    same(lookup_codes(levels, ["hi", "mid", "lo"]), [1, -1, 0])


def test_many_categories():  # their codes are no int8 any more
    labels = pd.Series(np.arange(1000)[::-1]).astype(str).astype("category")
    codes, levels = encode_groups(labels, "g")
    assert (levels[codes] == labels).all()


def test_intervals_are_labels():
    labels = pd.cut([1, 5, 9, 5], 3)
    codes, levels = encode_groups(labels, "g")
    same(codes, [0, 1, 2, 1])
    same(lookup_codes(levels, labels), codes)
    same(lookup_codes(levels, [5.0]), [-1])


def test_labels_that_python_tells_apart():
    labels = [1, "1", 2.5, "a", decimal.Decimal("7"), ("a", 1)]
    codes, levels = encode_groups(pd.Series(labels, dtype=object), "g")
    assert len(set(codes.tolist())) == len(levels) == 6
    assert [levels[c] for c in codes] == labels


def test_tuples_are_labels():
    labels = pd.Series([("b", 1), ("a", 2), ("b", 1)])
    codes, levels = encode_groups(labels, "g")
    same(codes, [1, 0, 1])
    assert levels.tolist() == [("a", 2), ("b", 1)]
    same(lookup_codes(levels, labels[:1]), [1])


@pytest.mark.parametrize(
    "labels",
    [
        np.random.default_rng(0).integers(0, 50, 400),
        np.random.default_rng(0).integers(0, 10**15, 400) // 10**13,
        np.random.default_rng(0).integers(0, 50, 400) * 10**15,
        np.random.default_rng(0).integers(0, 50, 400) / 7,
        np.random.default_rng(0).integers(0, 2, 400).astype(bool),
        np.repeat(np.random.default_rng(0).permutation(50), 8),
        np.repeat(np.random.default_rng(0).permutation(50), 8) * 10**15,
        np.repeat(np.arange(200), 2),
        np.arange(400),
        np.arange(400)[::-1],
        np.zeros(400, dtype=int),
        np.r_[np.arange(200), np.arange(200)],
        pd.Series([1, "1", "a", 2.5] * 100, dtype=object).to_numpy(),
        np.array(["x", "y", "zz", "y"] * 100),
    ],
    ids="few medium ids parts bool runs id-runs pairs ascending descending one twice mixed strings".split(),
)
def test_definition_and_row_order(labels):
    codes, levels = encode_groups(labels, "g")
    assert codes.dtype == np.intp and codes.flags.c_contiguous
    assert np.array_equal(np.unique(codes), np.arange(len(levels))), "every level occurs"
    assert all(levels[c] == label for c, label in zip(codes, labels, strict=True))
    same(lookup_codes(levels, labels), codes)
    if labels.dtype != object:
        assert levels.is_monotonic_increasing
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(400)
        shuffled, again = encode_groups(labels[order], "g")
        same(shuffled, codes[order])
        assert again.equals(levels)


def test_extreme_integers():
    big = np.array([2**63 - 1, -(2**63), 0, 2**63 - 1])
    codes, levels = encode_groups(big, "g")
    same(codes, [2, 0, 1, 2])
    same(lookup_codes(levels, big), codes)
    same(lookup_codes(levels, np.array([5, -1])), [-1, -1])
    unsigned = np.array([2**63 + 1, 2**63, 2**63 + 1], dtype="u8")
    codes, levels = encode_groups(unsigned, "g")
    same(codes, [1, 0, 1])
    same(lookup_codes(levels, [2**63 + 1, -1, 3]), [1, -1, -1])
    small = np.array([127, -128, 127], dtype="i1")
    codes, levels = encode_groups(small, "g")
    same(codes, [1, 0, 1])
    same(lookup_codes(levels, np.array([127, 300, -300])), [1, -1, -1])
    same(lookup_codes(levels, np.array([2**63 - 1, -(2**63), 127])), [-1, -1, 1])


def test_read_only_strided_and_empty():
    labels = np.arange(20)[::2]
    labels.setflags(write=False)
    codes, levels = encode_groups(labels, "g")
    same(codes, np.arange(10))
    for empty in ([], np.zeros(0), np.zeros(0, dtype=int), pd.Series([], dtype=str)):
        codes, levels = encode_groups(empty, "g")
        same(codes, [])
        assert len(levels) == 0
        same(lookup_codes(levels, [1, "a"]), [-1, -1])


def test_levels_do_not_share_memory_with_labels():
    labels = np.arange(10)
    _, levels = encode_groups(labels, "g")
    labels[:] = 0
    assert levels.tolist() == list(range(10))


@pytest.mark.parametrize(
    "labels",
    [
        ["a", None, "b", np.nan, pd.NA],
        np.array([1.0, np.nan, 2.0, np.nan, np.nan]),
        np.array([1.0, np.nan, 2.0, np.nan, np.nan], dtype="f4"),
        pd.Series([1, None, 2, None, None], dtype="Int64"),
        pd.Series(["a", None, "b", None, None], dtype="string"),
        pd.Categorical(["a", None, "b", None, None]),
        pd.to_datetime(["2020-01-01", None, "2020-01-02", None, None]),
        np.array(["2020-01-01", "NaT", "2020-01-02", "NaT", "NaT"], dtype="M8[D]"),
        pl.Series([1, None, 2, None, None]),
        pl.Series(["a", None, "b", None, None]),
    ],
    ids=lambda labels: f"{type(labels).__module__}.{type(labels).__name__}-{getattr(labels, 'dtype', '')}",
)
def test_missing_labels(labels):
    with pytest.raises(
        ValueError, match=r"^factor 'district': 3 rows have a missing group label \(first at row 1\); drop"
    ):
        encode_groups(labels, "district")
    known = encode_groups(["a", "b"], "g")[1]
    assert lookup_codes(known, labels)[[1, 3, 4]].tolist() == [-1, -1, -1]


def test_one_missing_label_and_labels_that_cannot_be_hashed():
    with pytest.raises(ValueError, match="factor 'g': 1 row has a missing group label"):
        encode_groups([1, None], "g")
    with pytest.raises(ValueError, match="factor 'g': group labels must be numbers, strings"):
        encode_groups(pd.Series([[1], [2]]), "g")
    with pytest.raises(ValueError, match="1-D, got 2 dimensions"):
        encode_groups(np.zeros((3, 2)), "g")


# --- lookup_codes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_type", ["i8", "i2", "f8", "O", "Int64"])
@pytest.mark.parametrize("predict_type", ["i8", "i2", "u8", "f8", "f4", "O", "Int64", "category"])
def test_numbers_match_across_types(fit_type, predict_type):
    _, levels = encode_groups(pd.Series([1, 3, 200], dtype=fit_type), "g")
    same(lookup_codes(levels, pd.Series([200, 1, 2, 201, 0], dtype=predict_type)), [2, 0, -1, -1, -1])


@pytest.mark.parametrize("fit_type", ["O", "str", "string", "category"])
@pytest.mark.parametrize("predict_type", ["O", "str", "string", "category"])
def test_strings_match_across_types(fit_type, predict_type):
    _, levels = encode_groups(pd.Series(["x", "y"], dtype=fit_type), "g")
    same(lookup_codes(levels, pd.Series(["y", "z", "x", None], dtype=predict_type)), [1, -1, 0, -1])
    same(lookup_codes(levels, pl.Series(["y", "z", "x", None])), [1, -1, 0, -1])


def test_numbers_and_their_text_differ():
    _, levels = encode_groups([1, 2], "g")
    for labels in (["1", "2"], np.array(["1", "2"]), pd.Categorical(["1", "2"]), [b"1", b"2"]):
        same(lookup_codes(levels, labels), [-1, -1])
    _, levels = encode_groups(["1", "2"], "g")
    for labels in ([1, 2], np.array([1, 2]), np.array([1.0, 2.0]), pd.Categorical([1, 2])):
        same(lookup_codes(levels, labels), [-1, -1])
    _, levels = encode_groups([1, "1"], "g")
    assert sorted(lookup_codes(levels, ["1", 1, 2]).tolist()) == [-1, 0, 1]


def test_fractions_do_not_match_whole_numbers():
    _, levels = encode_groups(np.array([1.0, 2.0]), "g")
    same(lookup_codes(levels, [1.5, 2.0, np.inf, -np.inf, 1e300, np.nan]), [-1, 1, -1, -1, -1, -1])
    _, levels = encode_groups(np.array([1.0, 2.5]), "g")
    same(lookup_codes(levels, [1, 2, 2.5]), [0, -1, 1])


def test_dates_match_across_units_and_not_text():
    _, levels = encode_groups(np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), "g")
    same(lookup_codes(levels, pd.to_datetime(["2020-01-02", "2021-01-01"])), [1, -1])
    same(lookup_codes(levels, [dt.datetime(2020, 1, 1), None, "2020-01-01", 1577836800]), [0, -1, -1, -1])


def test_missing_integers_of_polars_keep_their_digits():
    big = 2**53 + 1  # not a float
    _, levels = encode_groups([big - 1, big], "g")
    same(lookup_codes(levels, pl.Series([big, None, big - 1])), [1, -1, 0])


# --- as_group_frame -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "groups, names",
    [
        ([1, 2], ["group"]),
        ((1, 2), ["group"]),
        (np.array([1, 2]), ["group"]),
        (pd.Series([1, 2]), ["group"]),
        (pd.Series([1, 2], name="id"), ["id"]),
        (pd.Series([1, 2], name=0), ["0"]),
        (pd.Index([1, 2], name="id"), ["id"]),
        (pd.Categorical([1, 2]), ["group"]),
        (pd.array([1, 2]), ["group"]),
        (pl.Series([1, 2]), ["group"]),
        (pl.Series("id", [1, 2]), ["id"]),
        (pd.DataFrame({"a": [1, 2], 3: [1, 2]}), ["a", "3"]),
        (pl.DataFrame({"a": [1, 2], "b": [1, 2]}), ["a", "b"]),
        (np.ones((2, 1)), ["group0"]),
        (np.ones((2, 2)), ["group0", "group1"]),
        ([[1, "x"], [2, "y"]], ["group0", "group1"]),
    ],
)
def test_names_of_factors(groups, names):
    frame = as_group_frame(groups, 2)
    assert list(frame) == names
    for column in frame.values():
        assert len(encode_groups(column, "g")[0]) == 2


def test_lists_keep_the_types_of_their_labels():
    assert encode_groups(as_group_frame([1, "1"], 2)["group"], "g")[1].tolist() != ["1"]
    rows = as_group_frame([[1, "x"], [2, "y"]], 2)
    assert encode_groups(rows["group0"], "g")[1].tolist() == [1, 2]


@pytest.mark.parametrize(
    "groups, words",
    [
        ([1, 2, 3], "groups has 3 rows, but X has 2"),
        (pd.DataFrame({"a": [1, 2, 3]}), "groups has 3 rows, but X has 2"),
        (3, "1-D or 2-D"),
        (np.zeros((2, 2, 2)), "got 3 dimensions"),
        (pd.DataFrame(index=[0, 1]), "no columns"),
        (np.zeros((2, 0)), "no columns"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), "two columns named 'a'"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["1", 1]), "two columns named '1'"),
    ],
)
def test_bad_groups(groups, words):
    with pytest.raises(ValueError, match=words):
        as_group_frame(groups, 2)


# --- interact -----------------------------------------------------------------------------------------------


def test_interaction():
    labels = interact([["Y", "N", "Y", "Y"], np.array([35.0, 35, 1, 35])])
    codes, levels = encode_groups(labels, "urban:district")
    assert levels.tolist() == ["N:35", "Y:1", "Y:35"]
    same(codes, [2, 0, 1, 2])


def test_interaction_is_the_same_at_predict_in_another_container_and_order():
    _, levels = encode_groups(interact([["Y", "N", "Y"], [35, 35, 1]]), "g")
    new = interact([pd.Categorical(["Y", None, "N", "Q"]), pd.Series([35.0, 35.0, np.nan, 1.0])])
    same(lookup_codes(levels, new), [2, -1, -1, -1])
    same(lookup_codes(levels, interact([pl.Series(["N", "Y"]), pl.Series([35, 1])])), [0, 1])


def test_interaction_levels_follow_the_columns_levels():
    _, levels = encode_groups(interact([[2, 10, 2], [True, False, False]]), "g")
    assert levels.tolist() == ["2:0", "2:1", "10:0"]
    _, levels = encode_groups(interact([["a", "b"], ["x", "x"], [10, 9]]), "g")
    assert levels.tolist() == ["a:x:10", "b:x:9"]


def test_interaction_equals_the_pairs():
    rng = np.random.default_rng(3)
    a, b, c = rng.integers(0, 7, 300), rng.integers(0, 5, 300), rng.integers(0, 3, 300)
    codes, _ = encode_groups(interact([a, b, c]), "g")
    same(codes, pd.MultiIndex.from_arrays([a, b, c]).factorize(sort=True)[0])


def test_different_pairs_never_share_a_label():
    labels = interact([["a:b", "a", "a\\", "a"], ["c", "b:c", ":c", "\\:c"]])
    assert len(set(labels)) == 4
    with pytest.raises(ValueError, match="differ only in type"):
        interact([[1, "1"], ["a", "a"]])


def test_missing_in_an_interaction_is_missing():
    with pytest.raises(ValueError, match="factor 'a:b': 2 rows have a missing"):
        encode_groups(interact([["x", None, "y"], [1, 1, np.nan]]), "a:b")
