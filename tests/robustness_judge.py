"""Fits designs of :mod:`robustness_designs` and judges the fits: ``run(design)`` returns a :class:`Verdict`.

Is what was reported the maximum (the solution), and does the fit say so where it is not? The judges of mixed models
and of estimating equations, :mod:`robustness_mixed` and :mod:`robustness_gee`, share no code with the package and
look at the fit only to compare.
"""

import time
import warnings
from dataclasses import dataclass, field

import numpy as np
from robustness_gee import fit_gee_design, judge_gee
from robustness_mixed import fit_mixed_design, judge_mixed

DEEP_SHARE = 10  # one design in so many is judged deeply whatever it looks like


@dataclass
class Verdict:
    """What the judge says of a design.

    Attributes
    ----------
    faults : list of (kind of fault, diagnosis)
    state : str
        In a word or two, for counts of those without fault.
    log : list of str
        What was done, for ``--verbose``.
    """

    name: str
    faults: list = field(default_factory=list)
    state: str = "ok"
    log: list = field(default_factory=list)
    fit_seconds: float = 0.0
    judge_seconds: float = 0.0

    def fault(self, kind, text):
        self.faults.append((kind, text))

    def note(self, text):
        self.log.append(text)


class Caught:
    """The warnings of a fit."""

    def __init__(self, records):
        self.names = [w.category.__name__ for w in records]
        self.texts = [str(w.message) for w in records]

    def __contains__(self, name):
        return name in self.names

    def mentions(self, *words):
        return any(word in text for text in self.texts for word in words)


def run(design, deep=None, fitted=lambda: None):
    """Fit and judge. ``fitted`` is called between the two."""
    verdict = Verdict(design.name)
    began = time.process_time()
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        try:
            fit = fit_gee_design(design) if design.kind == "gee" else fit_mixed_design(design)
            error = None
        except Exception as problem:  # any exception is a verdict
            fit, error = None, problem
    verdict.fit_seconds = time.process_time() - began
    fitted()
    caught = Caught(records)
    verdict.note(f"fit: {verdict.fit_seconds:.3f} s, warnings {caught.names}")
    for text in caught.texts:
        verdict.note(f"  {text[:300]}")
    if isinstance(error, ValueError) and "regular grid" in str(error):  # lags are not counted on such times
        verdict.state = "refused"
        return verdict
    if error is not None:
        verdict.fault("exception", f"{type(error).__name__}: {str(error)[:160]}")
        verdict.state = "exception"
        return verdict
    judge = judge_gee if design.kind == "gee" else judge_mixed
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        judge(design, fit, caught, verdict, int(design.name.split(":")[-1]) % DEEP_SHARE == 0 if deep is None else deep)
    verdict.judge_seconds = time.process_time() - began - verdict.fit_seconds
    return verdict
