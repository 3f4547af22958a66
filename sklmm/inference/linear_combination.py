"""Linear combinations of the coefficients of a fitted model: estimates, errors, tests and intervals."""

from types import SimpleNamespace

import numpy as np

from sklmm.exceptions import NotEstimableWarning
from sklmm.inference import wald
from sklmm.inference.hypotheses import equations, in_words, read_hypotheses
from sklmm.inference.tables import Table
from sklmm.inference.verdict import not_estimated, warn_of_blanks, with_reason
from sklmm.messages import listed, warn


def linear_combination(model, combination, level=0.95):
    """Estimates of linear combinations; see the estimators' `linear_combination`."""
    level = wald.check_level(level)
    names, coef, vcov = model._fixed_effects()
    fitted = model._fitted
    what = {"formula": fitted.formula, "what": "linear_combination", "expressions": True}
    matrix, right = read_hypotheses(names, combination, **what)
    if not len(matrix) or not np.isfinite(matrix).all() or not matrix.any(axis=1).all():
        raise ValueError("linear_combination needs rows of finite numbers, not all of which are 0")
    words = in_words(matrix, [str(name) for name in names])
    kept = np.isfinite(np.diagonal(vcov))
    departs = np.zeros(len(matrix), dtype=bool)
    if fitted.dependences is not None:
        departs = (fitted.dependences.excess(matrix, fitted.fit_intercept) != 0).any(axis=1)
    lost = departs & (matrix[:, ~kept] != 0).any(axis=1)
    blanked = not_estimated(model, names)
    blank = (matrix[:, blanked] != 0).any(axis=1)
    matrix = np.where(kept, matrix, 0.0)  # where it is estimable, columns that were left out are made of the others
    values = np.where(lost, np.nan, matrix @ np.where(kept, coef, 0.0))
    errors = wald.standard_errors(matrix @ np.where(np.outer(kept, kept), vcov, 0.0) @ matrix.T)
    errors[lost] = np.nan
    df = model._inference_df()
    if hasattr(df, "each"):
        each = np.full(len(matrix), np.nan)
        each[~lost] = df.each(matrix[~lost])
        df = SimpleNamespace(each=lambda _: each)
    ratio = fitted.family.ratio
    table = Table(wald.wald_table(words, values, np.diag(errors**2), level, df, blank | lost, ratio, right))
    table = with_reason(model, table, blank)
    table.with_note(f"Tested: {listed(equations(words, right), 20)}.")
    if lost.any():
        sentence = (
            f"not estimable, and NaN: {listed(repr(word) for word, out in zip(words, lost, strict=True) if out)}. "
            f"{listed(map(repr, fitted.dependences.names))} depended on other columns in the fit, and here not in the "
            "same way"
        )
        table.with_note(sentence)
        warn(sentence, NotEstimableWarning)
    if (departs & ~lost).any():
        which = [repr(word) for word, out in zip(words, departs & ~lost, strict=True) if out]
        table.with_note(
            f"{listed(which)}: as if {listed(map(repr, fitted.dependences.names))}, which the fit left out for "
            "depending on other columns, had coefficients of 0; had it left out others, this would be another number."
        )
    warn_of_blanks(model, blank)
    return table
