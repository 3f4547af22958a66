"""``python -m sklmm report``: from a table in a file to models, their accuracy and one HTML page.

Progress and errors go to stderr, the report as text to stdout. Exit status: 0, or 2 with one message where the file or
the options are at fault.
"""

import argparse
import os
import sys
from pathlib import Path

from sklmm import __version__

ESTIMATORS = ("mixed", "gee", "pooled", "dummies", "separate", "mixed, u = 0")
SCENARIOS = ("new groups", "known groups", "updated groups")
LINKS = ("logit", "probit", "cloglog")
CORRELATIONS = ("independence", "exchangeable", "ar1", "unstructured", "m-dependent")

_EXAMPLES = """\
examples:
  python -m sklmm report women.csv --target use --groups district --out report.html
  python -m sklmm report women.csv --target use --groups district --exclude woman \\
      --random-effects "1 + urban | district"
  python -m sklmm report answers.csv --target r2 --groups id item --exclude resp
  python -m sklmm report visits.csv --target wheeze --groups child --time age --drop-missing
  python -m sklmm report herds.csv --target sick --trials animals --groups herd --offset log_days --link cloglog
  python -m sklmm report sleep.csv --target Reaction --groups Subject --random-effects "1 + Days | Subject"

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
    options.scenarios = options.scenarios or list(SCENARIOS[:-1])
    # Only now: help should not wait for scikit-learn.
    from sklmm.command.report import Log, report
    from sklmm.command.table_reading import InputError

    try:
        text = report(options, Log(options.quiet))
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
        prog="python -m sklmm", description="Mixed-effects and marginal regression for clustered data."
    )
    parser.add_argument("--version", action="version", version=f"sklmm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    command = commands.add_parser(
        "report",
        help="fit models to a table in a file and report how well they predict",
        description="Fit a mixed model and a marginal model (GEE) to a table of rows in groups, and measure by\n"
        "cross-validation how well they and simpler models predict, for new groups and for known ones.",
        usage="%(prog)s data.csv --target COLUMN --groups COLUMN [COLUMN ...] [options]",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("data", type=Path, metavar="data.csv", help="table with a header; also compressed (.csv.gz)")
    _add_columns(command.add_argument_group("columns"))
    _add_models(command.add_argument_group("models and their accuracy"))
    _add_file(command.add_argument_group("the file"))
    output = command.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="report.html", help="write the report as one HTML page, too")
    output.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


class _Once(argparse.Action):
    """Stores the value of an option that may be given once: argparse would take the last one in silence."""

    def __call__(self, parser, namespace, value, option_string=None):
        if getattr(namespace, self.dest) not in (None, value):
            raise argparse.ArgumentError(self, f"given twice, as {getattr(namespace, self.dest)!r} and as {value!r}")
        setattr(namespace, self.dest, value)


def _add_columns(group):
    one = {"metavar": "COLUMN", "action": _Once}
    some = {"metavar": "COLUMN", "nargs": "+", "action": "extend"}  # options given twice add up
    text = "what to predict: a column of two values, or of numbers, or see --trials"
    group.add_argument("--target", **one, required=True, help=text)
    text = "what the target is (default: numbers, if it has more than two values, and all are numbers)"
    group.add_argument("--kind", choices=("numbers", "classes"), help=text)
    text = "the value whose probability is modelled (default: the last in order)"
    group.add_argument("--positive", metavar="LABEL", action=_Once, help=text)
    text = (
        "what rows belong to: the first column defines the groups of the GEE and of cross-validation, each is a factor "
        "of the mixed model"
    )
    group.add_argument("--groups", **some, required=True, help=text)
    group.add_argument("--features", **some, help="what to predict from (default: all other columns)")
    group.add_argument("--exclude", **some, default=[], help="columns to leave out")
    group.add_argument("--categorical", **some, default=[], help="columns whose numbers are labels")
    text = (
        "times within a group, numbers or dates, for the GEE's working correlation; a feature, too, unless excluded"
    )
    group.add_argument("--time", **one, help=text)
    text = "how many rows each row counts for, in the models and in their accuracy"
    group.add_argument("--sample-weight", **one, help=text)
    text = "what is added to the linear predictors, such as the logarithm of an exposure, in models and their accuracy"
    group.add_argument("--offset", **one, help=text)
    text = "numbers of trials, of which --target counts the successes: each row is a line of counts, and stays whole"
    group.add_argument("--trials", **one, help=text)


def _add_models(group):
    text = 'terms such as "1 + age | district" (default: an intercept for each column of --groups)'
    group.add_argument("--random-effects", nargs="+", action="extend", metavar="TERM", help=text)
    text = f"link of the mixed model and the GEE: {', '.join(LINKS)} (default: logit); other models stay logistic"
    group.add_argument("--link", choices=LINKS, default="logit", metavar="NAME", help=text)
    text = f"working correlation of the GEE: {', '.join(CORRELATIONS)} (default: exchangeable; with --time ar1, unless "
    text += "there are --trials)"
    group.add_argument("--correlation", choices=CORRELATIONS, metavar="NAME", help=text)
    names = ", ".join(f"'{name}'" if " " in name else name for name in ESTIMATORS)
    text = f"models to compare: {names}; differences are to the first (default: all but the last, and "
    text += "without 'separate' where groups have few rows)"
    group.add_argument("--estimators", nargs="+", action="extend", choices=ESTIMATORS, metavar="NAME", help=text)
    names = ", ".join(name.replace(" ", "-") for name in SCENARIOS)
    text = f"what is predicted: {names} (default: all but the last)"
    group.add_argument(
        "--scenarios", nargs="+", action="extend", type=_words, choices=SCENARIOS, metavar="NAME", help=text
    )
    text = (
        "quadrature nodes of the mixed model's fits, 1 for Laplace's approximation (default: auto, as many as make the "
        "estimates stand still; 1 with several columns of groups)"
    )
    group.add_argument("--n-quadrature", type=_nodes, default="auto", metavar="N", help=text)
    text = "most iterations of a fit of the mixed model or the GEE (default: 100)"
    group.add_argument("--max-iter", type=_at_least_one, default=100, metavar="N", help=text)
    text = "rows of each group that updated-groups shows to the models (default: 5)"
    group.add_argument("--update-rows", type=int, default=5, metavar="ROWS", help=text)
    text = "folds of cross-validation; 0 leaves the accuracy out (default: 5)"
    group.add_argument("--cv", type=_folds, default=5, metavar="FOLDS", help=text)
    text = "processes for cross-validation (default: 1; -1: all processors)"
    group.add_argument("--n-jobs", type=int, metavar="N", help=text)
    text = "seed of folds and resamples (default: 0)"
    group.add_argument("--random-state", type=int, default=0, metavar="SEED", help=text)


def _add_file(group):
    group.add_argument("--drop-missing", action="store_true", help="leave out rows with missing values")
    text = "texts that stand for missing values, besides nothing, NA, NaN, null and the like"
    group.add_argument("--na", nargs="+", action="extend", default=[], metavar="TEXT", help=text)
    text = "what parts the columns (default: the one of comma, semicolon, tab and bar that parts the header)"
    group.add_argument("--sep", type=_delimiter, metavar="CHARACTER", help=text)
    group.add_argument("--decimal", default=".", metavar="CHARACTER", help="decimal sign (default: .)")
    group.add_argument("--encoding", default="utf-8", metavar="NAME", help="of its text (default: utf-8)")


def _at_least_one(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _nodes(text):
    return text if text == "auto" else _at_least_one(text)


def _folds(text):
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
