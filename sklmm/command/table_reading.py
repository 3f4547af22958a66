"""A table in a text file -> data frame, with errors for people who did not write this program."""

import difflib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError, ParserError, ParserWarning

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_KINDS = {  # first bytes of files that people take for tables of text
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP = b"\x1f\x8b"


class InputError(Exception):
    """What is wrong with the user's file or options, in one message for the terminal."""


def listed(values, most=10):
    """Values in quotes, with commas; those beyond `most` as dots."""
    values = [repr(str(value)) for value in values]
    return ", ".join(values[:most]) + (f", ... ({len(values):,} in all)" if len(values) > most else "")


def plural(count, noun):
    """A count with its noun: "1 row", "1,934 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def unknown_column(option, name, columns):
    """The error for an option that names a column which the table does not have.

    Parameters
    ----------
    option : str
    name : str
    columns : list of str

    Returns
    -------
    InputError
    """
    close = difflib.get_close_matches(name, columns, n=3, cutoff=0.6)
    close = [c for c in columns if c.casefold().strip() == name.casefold().strip() and c not in close] + close
    if close:
        advice = "did you mean " + " or ".join(map(repr, close[:3])) + "?"
    elif len(columns) == 1:
        advice = f"there is a single column, {columns[0]!r}: if others are in it, say what parts them with --sep"
    else:
        advice = f"the columns are {listed(columns, 20)}"
    return InputError(f"{option}: there is no column {name!r}; {advice}")


@dataclass
class TableFile:
    """A text file with a header and rows, and how to read it.

    Parameters
    ----------
    path : path-like
        Compressed files are recognised by their endings, as `pandas.read_csv` does.
    sep : str, default=None
        What parts the columns. None: the one of comma, semicolon, tab and bar that makes most columns of the header.
    decimal : str, default="."
    encoding : str, default="utf-8"
    na_values : list of str
        Texts that stand for missing values, besides those of pandas.

    Attributes
    ----------
    columns : list of str
        Names in the header.

    Raises
    ------
    InputError
        If there is no such file, or it is none that can be read.
    """

    path: Path
    sep: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"
    na_values: list = field(default_factory=list)

    def __post_init__(self):
        self.path = Path(self.path)
        self._compression = "infer"
        self._look()
        separators = list(_DELIMITERS) if self.sep is None else [self.sep]
        headers = [self._header(sep) for sep in separators]
        best = max(range(len(headers)), key=lambda j: len(headers[j]))  # the first of the best
        self.sep, header = separators[best], headers[best]
        self.columns = [f"Unnamed: {j}" if pd.isna(name) else name for j, name in enumerate(header)]
        twice = [name for name, count in pd.Series(self.columns).value_counts(sort=False).items() if count > 1]
        if twice:
            raise InputError(f"{self.path}: the header has two columns named {listed(twice)}; rename one of them")

    def read(self, columns, text=()):
        """Read some columns.

        Parameters
        ----------
        columns : list of str
        text : collection of str
            Those whose values stay as they are written, as a categorical: labels, not numbers.

        Returns
        -------
        frame : DataFrame
            The columns in the order of `columns`.
        """
        # As str, since pandas reads categories as numbers where it can: "007" and "7" would be one group.
        dtypes = dict.fromkeys(text, str)
        # Without usecols, with which pandas cuts surplus fields off in silence.
        frame = self._read(names=self.columns, dtype=dtypes, low_memory=False, na_values=self.na_values, header=0)
        if frame.empty:
            raise InputError(f"{self.path} has a header ({listed(self.columns)}) but no rows below it")
        return frame[columns].astype(dict.fromkeys(text, "category"))

    def missing_texts(self, absent):
        """How missing values are written.

        Parameters
        ----------
        absent : DataFrame of bool
            A column for each column of the table that has some, True where they are.

        Returns
        -------
        texts : dict of str -> str
            For each column the texts with their counts: "empty 10, 'NA' 2".
        """
        raw = self._read(
            names=self.columns, usecols=list(absent), dtype=str, keep_default_na=False, na_filter=False, header=0
        )
        texts = {}
        for name in absent:
            counts = raw.loc[absent[name].to_numpy(), name].value_counts()
            words = [f"{repr(text) if text else 'empty'} {count:,}" for text, count in counts.head(5).items()]
            texts[name] = ", ".join(words) + (", ..." if len(counts) > 5 else "")
        return texts

    def _look(self):
        """Refuse what is no file of text before it is parsed as one."""
        try:
            with self.path.open("rb") as file:
                start = file.read(8192)
        except FileNotFoundError:
            raise InputError(f"there is no file {str(self.path)!r}{self._close_file()}") from None
        except IsADirectoryError:
            raise InputError(f"{str(self.path)!r} is a folder, not a file") from None
        except OSError as error:
            raise InputError(f"can't read {str(self.path)!r}: {error.strerror or error}") from None
        if not start:
            raise InputError(f"{self.path} is empty")
        if start.startswith(_GZIP):
            self._compression = "gzip"
        if self._compression != "infer" or self.path.suffix in (".zip", ".bz2", ".xz", ".zst", ".tar"):
            return
        for magic, kind in _KINDS.items():
            if start.startswith(magic):
                raise InputError(f"{self.path} is {kind}, not a table of text: save it as CSV first")
        is_wide = self.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
        if start.startswith(_UTF16) and not is_wide:
            raise InputError(f"{self.path} is encoded as UTF-16: add --encoding utf-16")
        if b"\0" in start and not is_wide:
            raise InputError(f"{self.path} is a binary file, not a table of text: save it as CSV first")

    def _close_file(self):
        folder = self.path.parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        close = difflib.get_close_matches(self.path.name, names, n=3, cutoff=0.7)
        return "; did you mean " + " or ".join(map(repr, close)) + "?" if close else ""

    def _header(self, sep):
        header = self._read(sep=sep, header=None, nrows=1, dtype=str, keep_default_na=False, na_values=[""])
        return header.iloc[0].tolist()

    def _read(self, sep=None, **options):
        try:
            with warnings.catch_warnings():
                # pandas would cut the surplus fields of longer rows off.
                warnings.simplefilter("error", ParserWarning)
                return pd.read_csv(
                    self.path,
                    sep=sep or self.sep,
                    decimal=self.decimal,
                    encoding="utf-8-sig" if self.encoding.lower() in ("utf-8", "utf8") else self.encoding,
                    compression=self._compression,
                    index_col=False,
                    skipinitialspace=True,
                    **options,
                )
        except EmptyDataError:
            raise InputError(f"{self.path} is empty") from None
        except UnicodeError as error:
            raise InputError(
                f"{self.path} is not encoded as {self.encoding} ({error}): name its encoding, for example "
                "--encoding latin-1"
            ) from None
        except LookupError:
            raise InputError(f"--encoding: there is no encoding {self.encoding!r}") from None
        except ParserWarning:
            raise InputError(f"{self.path}: rows have more fields than the header has names") from None
        except ParserError as error:
            parted = _DELIMITERS.get(sep or self.sep, repr(sep or self.sep))
            reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
            raise InputError(
                f"{self.path} is no table whose columns are parted by a {parted} ({reason}); another delimiter is set "
                "with --sep"
            ) from None
        except (OSError, EOFError, ValueError) as error:
            raise InputError(f"can't read {self.path}: {error}") from None
