"""The coefficients of each group: fixed effects plus the group's random effects."""

import numpy as np

from sklmm.inference.tables import Table
from sklmm.messages import listed


def group_coefficients(model):
    """Coefficients of each level of each grouping factor; see `MixedModel.group_coefficients_`."""
    fitted = model._fitted
    names, coef, vcov = model._fixed_effects()
    names, k = [str(name) for name in names], int(fitted.fit_intercept)
    aliased = [name for name, variance in zip(names, np.diagonal(vcov), strict=True) if np.isnan(variance)]
    tables = {}
    for factor in fitted.factors:
        own, alone, added = list(names), [], np.tile(coef, (len(factor.levels), 1))
        random = [name for _, coefficients in factor.terms for name in coefficients]
        for column, name, modes in zip(factor.columns, random, factor.modes.T, strict=True):
            place = 0 if column < 0 and k else column + k
            if column < 0 and not k or place >= len(names):  # no fixed effect
                if name not in alone:
                    alone.append(name)
                    own.append(name)
                    added = np.column_stack([added, np.zeros(len(added))])
                place = len(names) + alone.index(name)
            added[:, place] += modes
        table = Table(added, index=factor.levels, columns=own)
        if alone:
            table.with_note(f"{listed(map(repr, alone))}: random effects without a fixed effect, counted from 0.")
        if aliased:
            table.with_note(
                f"{listed(map(repr, aliased))}: left out of the fit for depending on other columns, so that the fixed "
                "effect counts as 0."
            )
        tables[factor.name] = table
    return tables
