"""The report of the command line: table, both models, their accuracy; as text and as a page."""

import contextlib
import os
import sys
import time
import warnings
from dataclasses import fields

import numpy as np
import pandas as pd
from sklearn.base import clone

from sklmm.accuracy.baselines import DEFAULT_ESTIMATORS, without_separate
from sklmm.accuracy.html import report_html
from sklmm.accuracy.report import accuracy_report
from sklmm.command.table_encoding import read_clustered_table
from sklmm.command.table_reading import InputError, TableFile, plural
from sklmm.command.table_roles import Roles
from sklmm.design.counts import rows_at, rows_of_counts
from sklmm.exceptions import (
    ConvergenceWarning,
    LargeVarianceWarning,
    SeparationWarning,
    SingularFitWarning,
    WorkingCorrelationWarning,
)
from sklmm.gee import GEELogisticRegression
from sklmm.linear import GEELinearRegression, MixedLinearRegression
from sklmm.mixed import MixedLogisticRegression
from sklmm.reporting.findings import Findings, Outcome
from sklmm.reporting.rendering import to_html, to_text

# Warnings that a summary repeats in its own words.
_IN_SUMMARY = (
    ConvergenceWarning,
    LargeVarianceWarning,
    SeparationWarning,
    SingularFitWarning,
    WorkingCorrelationWarning,
)


class Log:
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
    roles = Roles(**{field.name: getattr(options, field.name) for field in fields(Roles)})
    table = read_clustered_table(
        file, roles, kind=options.kind, positive=options.positive, drop_missing=options.drop_missing
    )
    for note in table.notes:
        log(f"note: {note}")
    texts, findings, summaries = [to_text(table.description)], {}, {}

    mixed, gee = _models(table, options)
    data, groups, times = _rows(table)
    words, outcome = _outcome(table, options)
    for name, model, more in (
        ("mixed model", mixed, {"groups": groups}),
        ("GEE", gee, {"groups": groups.iloc[:, 0], "time": times}),
    ):
        summary = _fit(name, model, data | more, words, log)
        texts.append(str(summary))
        title = name[:1].upper() + name[1:]
        summaries[title] = summary._repr_html_()
        if options.out is not None:
            log(f"reading the {name}")
            rows = {key: data[key] for key in ("offset", "sample_weight")}
            findings[title] = Findings(model, data["X"], outcome, factors=table.factors, **rows)
    accuracy = None
    if options.cv:
        names, left_out = options.estimators, None
        if names is None:
            names, left_out = without_separate(
                DEFAULT_ESTIMATORS, pd.factorize(groups.iloc[:, 0])[0], table.X.shape[1], options.groups[0]
            )
        as_asked_for = {
            "mixed": mixed,
            "mixed, u = 0": clone(mixed).set_params(predict_effects="zero"),
            # predictions need no covariance, and the robust one warns in small folds
            "gee": clone(gee).set_params(cov_type="naive"),
        }
        estimators = {name: as_asked_for.get(name, name) for name in names}
        accuracy = _measure(estimators, table, options, log)
        if left_out is not None:
            accuracy.notes.insert(0, left_out)
        texts.append(str(accuracy))
    if options.out is not None:
        log(f"writing {options.out}")
        title = f"{options.target} by {', '.join(options.groups)}"
        facts = [value for _, value in table.description.facts[1 : 2 + len(options.groups)]]
        about = ". ".join([plural(len(table.y), "row"), *facts]) + "."
        page = report_html(
            accuracy, title, about=about, findings=findings, models=summaries, data=to_html(table.description)
        )
        _write(options.out, page)
    return "\n\n\n".join(texts)


def _outcome(table, options):
    """What is predicted, for summaries and for sentences."""
    target = options.target
    if table.trials is not None:
        words = f"probability of success in a trial: {target} of {options.trials}"
        return words, Outcome(target, f"a success ({target})", "trials")
    if table.kind == "numbers":
        return target, Outcome(target, None)
    other, one = map(repr, table.labels)
    return f"probability of {target} = {one} (against {other})", Outcome(target, f"{target} = {one}")


def _models(table, options):
    """The mixed model and the marginal model of the target's kind."""
    has_times = table.time is not None and table.trials is None  # the two rows of a line have one time
    correlation = options.correlation or ("ar1" if has_times else "exchangeable")
    if table.kind == "classes":
        how = {"link": options.link, "max_iter": options.max_iter}
        mixed = MixedLogisticRegression(table.random_effects, n_quadrature=options.n_quadrature, **how)
        return mixed, GEELogisticRegression(correlation, **how)
    for option, default in (("n_quadrature", "auto"), ("link", "logit")):
        if getattr(options, option) != default:
            option = option.replace("_", "-")
            raise InputError(f"--{option} is for a target of two classes: models of numbers have nothing like it")
    mixed = MixedLinearRegression(table.random_effects, max_iter=options.max_iter)
    return mixed, GEELinearRegression(correlation, max_iter=options.max_iter)


def _rows(table):
    """What models are fitted to: X, y, weights and offset; groups; times. Of a line of counts two rows."""
    by_row = [table.X, table.y, table.sample_weight, table.offset, table.groups, table.time]
    if table.trials is not None:
        line, y, counts = rows_of_counts(table.trials - table.y, table.y)
        by_row = [rows_at(values, line) for values in by_row]
        by_row[1:3] = y.astype(np.int8), counts if by_row[2] is None else counts * by_row[2]
    *data, groups, times = by_row
    return dict(zip(("X", "y", "sample_weight", "offset"), data, strict=True)), groups, times


def _fit(name, model, data, outcome, log):
    """Fit a model, and give its summary with the outcome as the table has it and with the warnings of the fit."""
    log(f"fitting the {name} to {plural(len(data['y']), 'row')}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(**data)
        except (ValueError, NotImplementedError, MemoryError, FloatingPointError) as error:
            raise InputError(f"the {name} can't be fitted: {error}") from error
    summary = model.summary()
    summary.facts[0] = ("Outcome", outcome)
    for message, kind in {str(warning.message): warning.category for warning in caught}.items():
        log(f"warning: {name}: {message}")
        if not issubclass(kind, _IN_SUMMARY) and f"{message}." not in summary.notes:
            summary.notes.append(f"Warning: {message}.")
    return summary


def _measure(estimators, table, options, log):
    """The accuracy report, its progress on stderr."""
    log(f"cross-validation of {', '.join(estimators)} in {options.cv} folds: {', '.join(options.scenarios)}")
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("always")
        try:
            accuracy = accuracy_report(
                estimators, table.X, pd.Series(table.y, name=options.target), groups=table.groups, time=table.time,
                sample_weight=table.sample_weight, offset=table.offset, trials=table.trials,
                random_effects=table.random_effects,
                split_by=options.groups[0], cv=options.cv, scenarios=options.scenarios,
                update_rows=options.update_rows, n_jobs=options.n_jobs, random_state=options.random_state,
                kind=table.kind, verbose=0 if options.quiet else 1,
            )  # fmt: skip
        except (ValueError, TypeError, MemoryError, RuntimeError) as error:
            raise InputError(f"accuracy: {error}".replace("update_rows", "--update-rows")) from error
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        log(f"warning: {message}")
    if table.labels is not None:
        accuracy.classes = np.array(table.labels, dtype=object)  # in place of the 0 and 1 that stand for them
    return accuracy


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
