"""Tables in files: delimiters, encodings, headers, and what is refused."""

import gzip

import pandas as pd
import pytest

from sklmm.command.table_reading import InputError, TableFile, unknown_column


@pytest.fixture
def write(tmp_path):
    def written(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_parts_the_header(write, sep):
    file = TableFile(write(f'a{sep}"b, or {sep} c"{sep}d\n1{sep}x{sep}0\n2{sep}y{sep}0\n'))
    assert file.sep == sep and file.columns == ["a", f"b, or {sep} c", "d"]
    assert file.read(file.columns[1::-1]).to_dict("list") == {f"b, or {sep} c": ["x", "y"], "a": [1, 2]}


@pytest.mark.parametrize(
    ("content", "name", "options"),
    [
        (b"\xef\xbb\xbfa;b\r\n1,5;x\r\n", "bom_and_crlf.csv", {"decimal": ","}),
        (gzip.compress(b"a,b\n1.5,x\n", mtime=0), "compressed.csv.gz", {}),
        (gzip.compress(b"a,b\n1.5,x\n", mtime=0), "compressed_without_saying_so.csv", {}),
        ("a,b\n1.5,x\n".encode("utf-16"), "utf16.csv", {"encoding": "utf-16"}),
        (b"a, b\n\n1.5, x", "spaces_and_no_end_of_line.csv", {}),
    ],
)
def test_forms_of_one_table(write, content, name, options):
    file = TableFile(write(content, name), **options)
    assert file.read(["a", "b"]).to_dict("list") == {"a": [1.5], "b": ["x"]}


def test_labels_stay_as_written(write):
    frame = TableFile(write("g,t\n007,1\n7,1.0\n7.0,TRUE\nNA,no\n")).read(["g", "t"], text=["g", "t"])
    assert frame["g"].cat.categories.tolist() == ["007", "7", "7.0"]
    assert frame["g"].isna().tolist() == [False, False, False, True]
    assert frame["t"].tolist() == ["1", "1.0", "TRUE", "no"]


def test_missing_values_and_how_they_are_written(write):
    file = TableFile(write("a,b\n1,NA\n,x\n?,\n2,-\n"), na_values=["?", "-"])
    frame = file.read(["a", "b"])
    assert frame["a"].dtype.kind == "f"
    texts = {name: sorted(text.split(", ")) for name, text in file.missing_texts(frame.isna()).items()}
    assert texts == {"a": ["'?' 1", "empty 1"], "b": ["'-' 1", "'NA' 1", "empty 1"]}


def test_names_of_columns_without_one(write):
    assert TableFile(write(",x\n1,2\n")).columns == ["Unnamed: 0", "x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "has a header ('a', 'b') but no rows"),
        (b"a,b,a\n1,2,3\n", "two columns named 'a'"),
        (b"a,b\n1,2,3\n", "more fields than the header"),
        (b"a,b\n1,2\n1,2,3\n", "Expected 2 fields in line 3, saw 3"),
        (b'a,b\n1,"2\n', "no table whose columns are parted by a comma"),
        (b"a,b\n\xe9,2\n", "not encoded as utf-8"),
        ("a,b\n1,2\n".encode("utf-16"), "--encoding utf-16"),
        (b"PK\x03\x04\0\0", "Excel"),
        (b"PAR1\0\0", "Parquet"),
        (b"a,b\n1,\0\n", "binary"),
        (gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:30], "can't read"),
    ],
)
def test_files_that_are_no_tables(write, content, message):
    with pytest.raises(InputError) as error:
        file = TableFile(write(content))
        file.read(file.columns)
    assert message in str(error.value) and "table.csv" in str(error.value)


def test_files_that_are_not_there(write, tmp_path):
    write("a\n1\n", "women.csv")
    with pytest.raises(InputError, match=r"there is no file .*did you mean 'women.csv'"):
        TableFile(tmp_path / "woman.csv")
    with pytest.raises(InputError, match="is a folder"):
        TableFile(tmp_path)
    with pytest.raises(InputError, match="there is no encoding 'klingon'"):
        TableFile(tmp_path / "women.csv", encoding="klingon")


def test_an_encoding_fault_far_down_the_file(write):
    file = TableFile(write(b"a,b\n" + b"1,2\n" * 200_000 + b"\xe9,3\n"))
    with pytest.raises(InputError, match="not encoded as utf-8"):
        file.read(["a"])


@pytest.mark.parametrize(
    ("name", "columns", "advice"),
    [
        ("distrikt", ["use", "district"], "did you mean 'district'?"),
        ("USE ", ["use", "district"], "did you mean 'use'?"),
        ("zzz", ["use", "district"], "the columns are 'use', 'district'"),
        ("use", ["use\u00a4district"], "a single column"),
    ],
)
def test_advice_about_unknown_columns(name, columns, advice):
    assert advice in str(unknown_column("--target", name, columns))


def test_columns_are_read_in_the_order_asked_for(write):
    frame = TableFile(write("a,b,c\n1,2,3\n")).read(["c", "a"])
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"c": [3], "a": [1]}))
