"""What a fit did not estimate, and what inference therefore leaves blank.

Where columns separate the classes, estimates run off to infinity and are wherever the fit stopped; where it did not
converge, all of them are. Standard errors and what follows from them, z and p-values, intervals, odds ratios, then mean
nothing, however precise they look.
"""

import numpy as np

from sklmm.exceptions import ConvergenceWarning, SeparationWarning
from sklmm.fitted import FittedMixed
from sklmm.inference.tables import Table
from sklmm.messages import listed, warn

NO_INFERENCE = "no standard errors, tests, intervals or odds ratios"
_NOTHING_LEFT = 0.1  # of log-likelihood: one row of even odds has 0.69


def not_estimated(estimator, names):
    """Mask of the coefficients, of these names, that inference says nothing of.

    Where columns predict every row, nothing of the likelihood is left that could tell of any coefficient.
    """
    return blanks(names, estimator.converged_, estimator._fitted.separated, estimator._fitted.value)


def blanks(names, converged, separated, value):
    """`not_estimated` of a fit that no estimator holds: its verdict, what separates its classes, its likelihood."""
    separated = set(separated)
    if not converged or (separated and value > -_NOTHING_LEFT):
        return np.ones(len(names), dtype=bool)
    return np.array([("the intercept" if name == "intercept" else name) in separated for name in names], dtype=bool)


def reason_of_blanks(estimator):
    """Why something is blank, and the class of warnings that this is of."""
    if not estimator.converged_:
        verdict = estimator.fit_report_.verdict.strip() or "the iterations stopped early"
        return f"the fit did not converge ({verdict}): there are {NO_INFERENCE}", ConvergenceWarning
    advice = "Fit without these columns, or with fewer categories"
    if isinstance(estimator._fitted, FittedMixed):
        advice += "; likelihood_ratio_test and conf_int(method='profile') hold under separation, too"
    return (
        f"the classes are separated by {listed(map(repr, estimator._fitted.separated))}: there are {NO_INFERENCE} of "
        f"what has no finite estimate. {advice}"
    ), SeparationWarning


def with_reason(estimator, table, blank):
    """A table in which something is blank, with the reason below it."""
    return Table(table).with_note(reason_of_blanks(estimator)[0]) if np.any(blank) else table


def warn_of_blanks(estimator, blank):
    """Warn, where something is blank, of why."""
    if np.any(blank):
        warn(*reason_of_blanks(estimator))
