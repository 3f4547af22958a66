"""Columns of a table in their roles: target, groups, times, features; what is coded, left out and refused."""

import numpy as np
import pandas as pd
import pytest

from sklmm.command.table_encoding import read_clustered_table
from sklmm.command.table_reading import InputError, TableFile
from sklmm.command.table_roles import Roles
from sklmm.reporting.rendering import to_text

N = 60
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "y": np.where(np.arange(N) % 3 == 0, "yes", "no"),
        "g": [f"{k:03d}" for k in np.arange(N) % 7],
        "item": np.arange(N) % 5,
        "age": RNG.normal(size=N).round(3),
        "urban": RNG.choice(["N", "Y"], N),
        "livch": RNG.choice(["0", "1", "2", "3+"], N),
        "code": RNG.integers(1, 4, N),
    }
)


@pytest.fixture
def read(tmp_path):
    def read(table=TABLE, positive=None, kind=None, drop_missing=False, decimal=".", na_values=(), **roles):
        table.to_csv(tmp_path / "table.csv", index=False)
        file = TableFile(tmp_path / "table.csv", decimal=decimal, na_values=list(na_values))
        roles = Roles(**{"target": "y", "groups": ["g"], **roles})
        return read_clustered_table(file, roles, kind=kind, positive=positive, drop_missing=drop_missing)

    return read


def message(read, *args, **kwargs):
    with pytest.raises(InputError) as error:
        read(*args, **kwargs)
    return str(error.value)


def test_targets_that_are_numbers(read):
    values = np.random.default_rng(0).normal(size=N)
    table = read(TABLE.assign(y=values))
    np.testing.assert_array_equal(table.y, values)
    assert table.kind == "numbers" and table.labels is None
    assert f"y: numbers from {values.min():.5g} to {values.max():.5g}" in to_text(table.description)
    commas = TABLE[["g", "item"]].assign(y=[f"{value:.3f}".replace(".", ",") for value in values])
    table = read(commas, decimal=",")
    np.testing.assert_array_equal(table.y, values.round(3))
    two = TABLE.assign(y=np.arange(N) % 2)
    assert read(two).kind == "classes" and read(two, kind="numbers").y.tolist() == two["y"].tolist()
    assert read(TABLE.assign(y=np.arange(N) % 3)).y.tolist() == (np.arange(N) % 3).tolist()


def test_labels_become_contrasts_with_the_first_level(read):
    table = read()
    assert table.X.columns.tolist() == ["item", "age", "urban[Y]", "livch[1]", "livch[2]", "livch[3+]", "code"]
    assert (table.X.dtypes == np.float64).all()
    np.testing.assert_array_equal(table.X["livch[3+]"], TABLE["livch"] == "3+")
    np.testing.assert_array_equal(table.X["age"], TABLE["age"])
    np.testing.assert_array_equal(table.y, TABLE["y"] == "yes")
    assert table.labels == ("no", "yes") and table.notes == []
    assert table.groups["g"].astype(str).tolist() == TABLE["g"].tolist()


def test_numbers_can_be_labels(read):
    table = TABLE.assign(code=np.arange(N) % 11 * 5)
    X = read(table, features=["code"], categorical=["code"]).X
    assert X.columns.tolist() == [f"code[{5 * k}]" for k in range(1, 11)]  # in the order of numbers, not of texts
    assert read(TABLE.assign(urban=TABLE["urban"] == "Y"), features=["urban"]).X.columns.tolist() == ["urban[True]"]


@pytest.mark.parametrize(
    ("labels", "positive", "expected"),
    [
        (("no", "yes"), None, ("no", "yes")),
        (("no", "yes"), "no", ("yes", "no")),
        (("0", "1"), None, ("0", "1")),
        (("10", "9"), None, ("9", "10")),
        (("False", "True"), "False", ("True", "False")),
    ],
)
def test_the_positive_label(read, labels, positive, expected):
    y = np.where(TABLE["y"] == "yes", *labels)
    table = read(TABLE.assign(y=y), positive=positive)
    assert table.labels == expected
    np.testing.assert_array_equal(table.y, y == expected[1])


def test_slopes_name_columns_of_the_table(read):
    table = read(groups=["g", "item"], random_effects=["1 + livch + age || g", "(0 + urban | item)"])
    assert table.random_effects == ["1 + `livch[1]` + `livch[2]` + `livch[3+]` + age || g", "0 + `urban[Y]` | item"]
    table = read(random_effects=["1 | urban:g"])
    assert table.random_effects == ["1 | urban:g"]
    assert table.groups.columns.tolist() == ["g", "urban"] and "urban[Y]" in table.X


def test_columns_that_say_nothing_are_left_out(read):
    table = TABLE.assign(
        row=np.arange(1, N + 1), name=[f"n{k}" for k in range(N)], constant=3, one="z", empty=np.nan, shuffled=0
    )
    table["shuffled"] = RNG.permutation(N)
    data = read(table)
    assert data.X.columns.tolist() == read().X.columns.tolist()
    for name in ("row", "name", "constant", "one", "empty", "shuffled"):
        assert any(repr(name) in note for note in data.notes)
    assert "row" in read(table, features=["row", "age"]).X  # asked for by name
    assert "shuffled" in message(read, table, random_effects=["1 + shuffled | g"])
    assert "no feature is left" in message(read, table, features=["constant"])


def test_missing_values(read):
    table = TABLE.astype({"item": float})
    table.loc[[0, 1], "age"] = np.nan
    table.loc[[1, 2], "y"] = None
    table.loc[3, "g"] = "NA"
    table.loc[4, "item"] = np.nan
    text = message(read, table)
    assert "5 of 60 rows miss values" in text and "--drop-missing" in text
    assert "'y' in 2 rows (empty 2)" in text and "'g' in 1 row ('NA' 1)" in text
    data = read(table, drop_missing=True)
    assert len(data.X) == len(data.y) == len(data.groups) == 55
    np.testing.assert_array_equal(data.X["age"], TABLE["age"][5:])
    assert any("5 of 60 rows" in note for note in data.notes)
    assert len(read(table, exclude=["item"], drop_missing=True).X) == 56
    assert "column 'y' has no values" in message(read, TABLE.assign(y=np.nan), drop_missing=True)
    table["age"] = np.where(np.arange(N) > 3, np.nan, 1.0)
    table["item"] = np.where(np.arange(N) > 3, 1.0, np.nan)
    assert "No row is left" in message(read, table, drop_missing=True)


def test_levels_of_rows_that_are_left_out_are_gone(read):
    table = TABLE.astype({"age": float})
    table.loc[5, ["g", "urban"]] = ["lonely", "?"]
    table.loc[5, "age"] = np.nan
    data = read(table, drop_missing=True)
    assert "lonely" not in data.groups["g"].cat.categories
    assert "urban[Y]" in data.X and "urban[N]" not in data.X


@pytest.mark.parametrize(
    ("changes", "roles", "expected"),
    [
        ({"y": "yes"}, {}, "only one value: 'yes' (60 rows)"),
        ({"y": np.arange(N) % 3}, {"kind": "classes"}, "3 values: '0' (20 rows), '1' (20 rows), '2' (20 rows)"),
        ({"y": ["a", "b", "c"] * 20}, {}, "3 values: 'a' (20 rows), 'b' (20 rows), 'c' (20 rows)"),
        ({"y": ["1", "b", "c"] * 20}, {"kind": "numbers"}, "--target 'y' holds 'b', 'c': no numbers, as --kind says"),
        ({"y": [1.5, 2, "inf"] * 20}, {"kind": "numbers"}, "--target 'y' holds 'inf': no numbers"),
        ({"y": 1.5}, {"kind": "numbers"}, "only one value: '1.5' (60 rows). There is nothing to predict"),
        ({"y": np.arange(N) / 7}, {"kind": "numbers", "positive": "0"}, "--positive names a class"),
        ({"y": TABLE["age"] * 3 + 1}, {}, "column 'age' is the target 'y' in other units: leave it out"),
        ({}, {"target": "Y"}, "--target: there is no column 'Y'; did you mean 'y'?"),
        ({}, {"groups": ["g", "itm"]}, "--groups: there is no column 'itm'; did you mean 'item'?"),
        ({}, {"features": ["ages"]}, "--features: there is no column 'ages'; did you mean 'age'?"),
        ({}, {"positive": "maybe"}, "'maybe' is no value of the target 'y', which has 'no', 'yes'"),
        ({}, {"groups": ["y"]}, "'y' is named in --target and in --groups"),
        ({}, {"features": ["g"]}, "'g' is named in --groups and in --features"),
        ({}, {"time": "g"}, "'g' is named in --groups and in --time"),
        ({}, {"groups": ["g", "g"]}, "--groups names a column twice"),
        ({"g": "a"}, {}, "--groups 'g' has a single group, 'a'"),
        ({"g": np.arange(N)}, {}, "--groups 'g' has another label in every row"),
        ({}, {"time": "urban"}, "--time 'urban' needs numbers or dates like 2024-01-31, but 60 rows"),
        ({}, {"sample_weight": "urban"}, "--sample-weight 'urban' needs numbers"),
        ({}, {"sample_weight": "age"}, "--sample-weight 'age' needs numbers of at least 0"),
        ({"age": [np.inf, -np.inf, *range(N - 2)]}, {}, "'age' is infinite in 2 rows (first: row 1 below"),
        ({"age": [f"{k},5" for k in range(N)]}, {}, "--decimal ,"),
        ({"age": ["?", *range(N - 1)]}, {}, "'age' holds numbers, but also '?' (1 row): correct them, add --na '?'"),
        ({"copy": TABLE["y"].str.upper()}, {}, "column 'copy' determines the target 'y'"),
        ({}, {"random_effects": ["1 + agee | g"]}, "unknown feature 'agee'; did you mean 'age'?"),
        ({}, {"random_effects": ["1 | gg"]}, "unknown grouping column 'gg'"),
        ({}, {"random_effects": ["1 | item"]}, "name it in --groups, too"),
        ({}, {"random_effects": ["1 + age"]}, "--random-effects: no '|' here"),
        ({"urban[Y]": TABLE["age"]}, {}, "rename column"),
    ],
)
def test_what_is_refused(read, changes, roles, expected):
    assert expected in message(read, TABLE.assign(**changes), **roles)


def test_too_many_labels(read):
    many = pd.concat([TABLE] * 4, ignore_index=True)
    many["street"] = [f"street {k % 150}" for k in range(len(many))]
    assert "'street' has 150 different labels" in message(read, many)
    assert "street" not in " ".join(read(many, exclude=["street"]).X)
    assert read(many, groups=["g", "street"]).groups.shape == (240, 2)


def test_a_target_in_disguise_may_be_asked_for(read):
    table = TABLE.assign(copy=TABLE["y"].str.upper())
    assert read(table, features=["copy", "age"]).X.columns.tolist() == ["copy[YES]", "age"]


def test_times(read):
    visits = TABLE.assign(day=pd.date_range("2024-03-01", periods=N).astype(str))
    table = read(visits, time="day")
    np.testing.assert_array_equal(table.time, np.arange(N))
    np.testing.assert_array_equal(table.X["day"], np.arange(N))
    assert ("Time", "day, days since 2024-03-01") in table.description.facts
    assert "day" not in read(visits, time="day", exclude=["day"]).X
    np.testing.assert_array_equal(read(time="age").time, TABLE["age"])
    visits.loc[7, "day"] = "soon"
    assert "1 row hold" in message(read, visits, time="day") and "'soon'" in message(read, visits, time="day")


def test_weights(read):
    table = read(TABLE.assign(n=np.arange(N) % 4), sample_weight="n")
    np.testing.assert_array_equal(table.sample_weight, np.arange(N) % 4)
    assert "n" not in table.X


def test_decimal_commas_in_few_values_are_only_pointed_out(read):
    table = TABLE.assign(age=np.where(TABLE["urban"] == "Y", "1,5", "2,5"))
    assert any("--decimal ," in note for note in read(table).notes)


def test_description(read):
    table = read(groups=["g", "item"])
    facts = table.description.facts
    assert ("Target", "y: 'yes' in 20 rows (33.3 %), 'no' in 40") in facts
    assert ("Groups", "g: 7 groups of 8 to 9 rows, median 9") in facts
    assert ("Groups", "item: 5 groups of 12 rows each") in facts
    numbers, labels = table.description.tables
    assert [row[0] for row in numbers.rows] == ["age", "code"]
    assert [row[:3] for row in labels.rows[:2]] == [["urban", "N", "reference"], ["", "Y", "urban[Y]"]]
    assert sum(int(row[3]) for row in labels.rows) == 2 * N


def test_a_group_that_random_effects_do_not_use_is_pointed_out(read):
    assert any("'item'" in note for note in read(groups=["g", "item"], random_effects=["1 | g"]).notes)


def test_names_may_be_separated_by_commas():
    columns = ["y", "g", "item", "age", "urban", "a,b"]
    features, _ = Roles("y", ["g,item"], features=["age,urban", "a,b"]).resolve(columns)
    assert features == ["age", "urban", "a,b"]
    roles = Roles("y", ["g, item"], exclude=["age,"])
    assert roles.resolve(columns)[0] == ["urban", "a,b"] and roles.groups == ["g", "item"]


def test_dates_among_the_features(tmp_path):
    path = tmp_path / "visits.csv"
    days = pd.date_range("2024-01-01", periods=40).strftime("%Y-%m-%d")
    pd.DataFrame({"id": np.repeat(range(20), 2), "day": days, "y": [0, 1] * 20, "x": np.arange(40.0) ** 2}).to_csv(
        path, index=False
    )
    roles = {"target": "y", "groups": ["id"]}
    with pytest.raises(InputError, match="column 'day' holds dates .*--time, .* --exclude"):
        read_clustered_table(TableFile(path), Roles(features=["day", "x"], **roles))
    assert list(read_clustered_table(TableFile(path), Roles(time="day", **roles)).X) == ["day", "x"]
    chosen = read_clustered_table(TableFile(path), Roles(features=["day"], categorical=["day"], **roles))
    assert chosen.X.shape == (40, 39)
    days = pd.date_range("2024-01-01", periods=40).strftime("%d.%m.%Y")
    pd.read_csv(path).assign(day=days).to_csv(path, index=False)
    with pytest.raises(InputError, match="column 'day' holds dates .*write them as 2024-01-31, and name it in --time"):
        read_clustered_table(TableFile(path), Roles(features=["day", "x"], **roles))


def test_products_of_encoded_columns(tmp_path):
    path = tmp_path / "table.csv"
    rng = np.random.default_rng(0)
    pd.DataFrame({"g": rng.integers(0, 9, 90), "f": rng.choice(list("abc"), 90), "body mass": rng.normal(size=90),
                  "y": rng.integers(0, 2, 90)}).to_csv(path, index=False)  # fmt: skip
    terms = ["1 + f:`body mass` | g", "0 + f*`body mass` | g:f"]
    table = read_clustered_table(TableFile(path), Roles(target="y", groups=["g"], random_effects=terms))
    assert table.random_effects == [
        "1 + `f[b]`:`body mass` + `f[c]`:`body mass` | g",
        "0 + `f[b]` + `f[c]` + `body mass` + `f[b]`:`body mass` + `f[c]`:`body mass` | g:f",
    ]
    with pytest.raises(InputError, match="unknown feature 'body'; did you mean 'body mass'"):
        read_clustered_table(TableFile(path), Roles(target="y", groups=["g"], random_effects=["1 + f:body | g"]))
