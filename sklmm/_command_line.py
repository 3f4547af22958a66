"""``python -m sklmm report``: from a table in a file to models, their accuracy and one HTML page.

Progress and errors go to stderr, the report as text to stdout. Exit status: 0, or 2 with one message where the file or
the options are at fault.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

from . import __version__
from ._table_encoding import read_clustered_table
from ._table_reading import InputError, TableFile, plural
from ._table_roles import Roles
from .exceptions import ConvergenceWarning, SeparationWarning, SingularFitWarning, WorkingCorrelationWarning
from .gee import GEELogisticRegression
from .mixed import MixedLogisticRegression
from .reporting._render import to_html, to_text

__all__ = ["main"]

ESTIMATORS = ("mixed", "gee", "pooled", "dummies", "separate")
SCENARIOS = ("new groups", "known groups", "updated groups")
CORRELATIONS = ("independence", "exchangeable", "ar1", "unstructured", "m-dependent")

# Warnings that a summary repeats in its own words.
_IN_SUMMARY = (ConvergenceWarning, SeparationWarning, SingularFitWarning, WorkingCorrelationWarning)

_EXAMPLES = """\
examples:
  python -m sklmm report women.csv --target use --groups district --out report.html
  python -m sklmm report women.csv --target use --groups district --exclude woman \\
      --random-effects "1 + urban | district"
  python -m sklmm report answers.csv --target r2 --groups id item --exclude resp
  python -m sklmm report visits.csv --target wheeze --groups child --time age --drop-missing

Columns of labels are coded as contrasts with their first level, named column[level]; columns of numbers stay numbers,
but for those named in --categorical. Random effects are in lme4's bar notation, names with spaces and the like in
back-quotes: "1 + `body mass` | ward".
"""


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    status : int
        0; 2 where the file or the options are at fault; 130 after an interrupt.

    Raises
    ------
    SystemExit
        From argparse: after ``--help`` and ``--version``, and with status 2 for options it can't read.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of columns may not exist in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        text = report(options, _Log(options.quiet))
        print(text, flush=True)
    except InputError as error:
        print(f"sklmm: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("sklmm: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sklmm", description="Mixed-effects and marginal logistic regression for clustered data."
    )
    parser.add_argument("--version", action="version", version=f"sklmm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    report = commands.add_parser(
        "report",
        help="fit models to a table in a file and report how well they predict",
        description="Fit a mixed model and a marginal model (GEE) to a table of rows in groups, and measure by "
        "cross-validation how well they and simpler models predict, for new groups and for known ones.",
        usage="%(prog)s data.csv --target COLUMN --groups COLUMN [COLUMN ...] [options]",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    report.add_argument("data", type=Path, metavar="data.csv", help="table with a header; also compressed (.csv.gz)")

    columns = report.add_argument_group("columns")
    columns.add_argument("--target", required=True, metavar="COLUMN", help="what to predict: a column of two values")
    columns.add_argument("--positive", metavar="LABEL", help="the value whose probability is modelled (default: the "
                         "last in order)")  # fmt: skip
    columns.add_argument("--groups", required=True, nargs="+", metavar="COLUMN", help="what rows belong to: the first "
                         "column defines the groups of the GEE and of cross-validation, each is a factor of the mixed "
                         "model")  # fmt: skip
    columns.add_argument("--features", nargs="+", metavar="COLUMN", help="what to predict from (default: all other "
                         "columns)")  # fmt: skip
    columns.add_argument("--exclude", nargs="+", default=[], metavar="COLUMN", help="columns to leave out")
    columns.add_argument("--categorical", nargs="+", default=[], metavar="COLUMN", help="columns whose numbers are "
                         "labels")  # fmt: skip
    columns.add_argument("--time", metavar="COLUMN", help="times within a group, numbers or dates, for the GEE's "
                         "working correlation; a feature, too, unless excluded")  # fmt: skip
    columns.add_argument("--sample-weight", metavar="COLUMN", help="how many rows each row counts for")

    models = report.add_argument_group("models and their accuracy")
    models.add_argument("--random-effects", nargs="+", metavar="TERM", help='terms such as "1 + age | district" '
                        "(default: an intercept for each column of --groups)")  # fmt: skip
    models.add_argument("--correlation", choices=CORRELATIONS, metavar="NAME", help="working correlation of "
                        "the GEE, of " + ", ".join(CORRELATIONS) + " (default: exchangeable; with --time "
                        "ar1)")  # fmt: skip
    models.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS), metavar="NAME",
                        help="models to compare, of " + ", ".join(ESTIMATORS) + "; differences are to the first "
                        "(default: all)")  # fmt: skip
    models.add_argument("--scenarios", nargs="+", type=_words, choices=SCENARIOS, default=list(SCENARIOS[:2]),
                        metavar="NAME", help="what is predicted, of new-groups, known-groups, updated-groups (default: "
                        "the first two)")  # fmt: skip
    models.add_argument("--cv", type=_count, default=5, metavar="FOLDS", help="folds of cross-validation; 0 leaves the "
                        "accuracy out (default: 5)")  # fmt: skip
    models.add_argument("--n-jobs", type=int, metavar="N", help="processes for cross-validation (default: 1; -1: all "
                        "processors)")  # fmt: skip
    models.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed of folds and resamples "
                        "(default: 0)")  # fmt: skip

    table = report.add_argument_group("the file")
    table.add_argument("--drop-missing", action="store_true", help="leave out rows with missing values")
    table.add_argument("--na", nargs="+", default=[], metavar="TEXT", help="texts that stand for missing values, "
                       "besides nothing, NA, NaN, null and the like")  # fmt: skip
    table.add_argument("--sep", type=_delimiter, metavar="CHARACTER", help="what parts the columns (default: the one "
                       "of comma, semicolon, tab and bar that parts the header)")  # fmt: skip
    table.add_argument("--decimal", default=".", metavar="CHARACTER", help="decimal sign (default: .)")
    table.add_argument("--encoding", default="utf-8", metavar="NAME", help="(default: utf-8)")

    output = report.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="report.html", help="write the report as one HTML page, too")
    output.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _count(text):
    value = int(text)
    if value < 0 or value == 1:
        raise argparse.ArgumentTypeError("must be 0, or at least 2")
    return value


def _words(text):
    """The name of a scenario, which shells take more gladly with a hyphen."""
    return text.replace("-", " ")


def _delimiter(text):
    """A delimiter as shells can pass it: a tab is also ``\\t`` or ``tab``."""
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text) != 1:
        raise argparse.ArgumentTypeError(f"must be one character, got {text!r}")
    return text


class _Log:
    """Plain lines of progress on stderr, with the seconds since the start."""

    def __init__(self, quiet):
        self.quiet, self.start = quiet, time.perf_counter()

    def __call__(self, message):
        if not self.quiet:
            print(f"[{time.perf_counter() - self.start:6.1f} s] {message}", file=sys.stderr, flush=True)


def report(options, log):
    """Read the table, fit the models, measure their accuracy, write the page.

    Parameters
    ----------
    options : argparse.Namespace
    log : callable
        Gets lines of progress.

    Returns
    -------
    text : str
        The report for a terminal.

    Raises
    ------
    InputError
        In words for the user, where the file or the options are at fault.
    """
    if options.out is not None:
        _check_out(options.out, options.data)
    log(f"reading {options.data}")
    file = TableFile(options.data, options.sep, options.decimal, options.encoding, options.na)
    roles = Roles(
        target=options.target,
        groups=options.groups,
        features=options.features,
        exclude=options.exclude,
        categorical=options.categorical,
        time=options.time,
        sample_weight=options.sample_weight,
        random_effects=options.random_effects,
    )
    table = read_clustered_table(file, roles, positive=options.positive, drop_missing=options.drop_missing)
    for note in table.notes:
        log(f"note: {note}")
    sections = [(to_text(table.description), to_html(table.description))]

    mixed = MixedLogisticRegression(table.random_effects)
    gee = GEELogisticRegression(options.correlation or ("ar1" if table.time is not None else "exchangeable"))
    data = {"X": table.X, "y": table.y, "sample_weight": table.sample_weight}
    clusters = table.groups.iloc[:, 0]
    for name, model, extra in (
        ("mixed model", mixed, {"groups": table.groups}),
        ("GEE", gee, {"groups": clusters, "time": table.time}),
    ):
        summary = _fit(name, model, data | extra, table.labels, options.target, log)
        sections.append((str(summary), summary._repr_html_()))
    title = f"{options.target} by {', '.join(options.groups)}"
    return "\n\n\n".join(text for text, _ in sections)


def _fit(name, model, data, labels, target, log):
    """Fit a model, and give its summary with the labels of the table and with the warnings of the fit."""
    log(f"fitting the {name} to {plural(len(data['y']), 'row')}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(**data)
        except (ValueError, NotImplementedError, MemoryError, FloatingPointError) as error:
            raise InputError(f"the {name} can't be fitted: {error}") from error
    summary = model.summary()
    other, one = labels
    summary.facts[0] = ("Outcome", f"probability of {target} = {one!r} (against {other!r})")
    for message, kind in {str(warning.message): warning.category for warning in caught}.items():
        log(f"warning: {name}: {message}")
        if not issubclass(kind, _IN_SUMMARY):
            summary.notes.append(f"Warning: {message}.")
    return summary


# Output ------------------------------------------------------------------------------------------------------


def _check_out(out, data):
    """Refuse, before hours of work, a place that can't be written to."""
    folder = out.resolve().parent
    if out.is_dir():
        raise InputError(f"--out {str(out)!r} is a folder: name a file in it")
    if not folder.is_dir():
        raise InputError(f"--out {str(out)!r}: there is no folder {str(folder)!r}; make it first")
    if not os.access(out if out.exists() else folder, os.W_OK):
        raise InputError(f"--out {str(out)!r}: no permission to write there")
    if out.exists() and data.exists() and out.samefile(data):
        raise InputError(f"--out {str(out)!r} is the table itself, which would be lost")


def _write(out, text):
    """Write a file whole or not at all: what was there stays until the new text is complete."""
    out = out.resolve()
    if out.exists() and not out.is_file():  # a device or a pipe
        out.write_text(text, encoding="utf-8")
        return
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise InputError(f"--out: can't write {str(out)!r}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
