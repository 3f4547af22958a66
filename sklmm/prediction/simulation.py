"""New outcomes from a fitted mixed model."""


import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from sklmm.design.grouping import encode_groups, lookup_codes
from sklmm.exceptions import NoGroupsWarning
from sklmm.inference.estimability import warn_of_rows
from sklmm.messages import warn
from sklmm.prediction.predictor import Predictor, check_effects


def simulate_codes(estimator, rows, n, random_state, effects, weights=None):
    """Yield n arrays of simulated outcomes, True for the event; with weights how often a row has it.

    Parameters
    ----------
    estimator : MixedLogisticRegression
        Fitted.
    rows : Rows
    n : int
    random_state : int, RandomState instance or None
    effects : {"marginal", "posterior", "mode", "zero"}
        See `MixedLogisticRegression.simulate`.
    weights : ndarray of int, or None
        How many outcomes each row stands for.
    """
    check_effects(effects)
    random = check_random_state(random_state)
    fitted = estimator._fitted
    for eta in simulated_predictors(fitted, Predictor.of(estimator, 1), rows, n, random, effects):
        yield fitted.family.draw(random, eta, weights)


def simulated_predictors(fitted, predictor, rows, n, random, effects):
    """Yield n arrays of linear predictors, with random effects drawn or not, as `effects` says.

    Parameters
    ----------
    fitted : FittedMixed
    predictor : Predictor
    rows : Rows
    n : int
    random : RandomState
    effects : {"marginal", "posterior", "mode", "zero"}
    """
    drawn = effects in ("marginal", "posterior")
    draws = [_Effects(factor, rows, effects) for factor in fitted.factors if drawn]
    codes = [_known(factor, rows) for factor in fitted.factors] if effects == "mode" else []
    eta = predictor.means(rows.X, codes, "zero" if drawn else effects, rows.offset)
    for _ in range(n):
        yield eta + sum(effect.draw(random) for effect in draws)


class _Effects:
    """Draws of one factor's contribution to the linear predictor: rows of a group share theirs."""

    def __init__(self, factor, rows, effects):
        n = rows.X.shape[0]
        self.t = factor.units.loadings(np.asarray(rows.X, dtype=np.float64))
        self.code, levels = _codes_of(factor, rows, n)
        self.n_groups = int(self.code.max(initial=-1)) + 1
        self.known, self.posterior = np.zeros(0, dtype=np.intp), None
        if effects == "posterior":
            at = lookup_codes(factor.levels, levels)
            self.known, self.posterior = np.flatnonzero(at >= 0), factor.posterior.take(at[at >= 0])

    def draw(self, random):
        u = random.standard_normal((self.n_groups, self.t.shape[1]))
        if self.known.size:
            u[self.known] = self.posterior.draw(random)
        return np.einsum("na,na->n", self.t, u[self.code])


def _codes_of(factor, rows, n):
    """Codes of the rows' groups and their labels; a row without a label is a group of its own, after the others."""
    if not rows.groups:
        return np.arange(n), pd.Index([])
    labels = factor.labels(rows.column)
    missing = np.asarray(pd.isna(labels.to_numpy() if hasattr(labels, "to_numpy") else labels), dtype=bool)
    code = np.empty(n, dtype=np.intp)
    if not missing.any():
        return encode_groups(labels, factor.name)
    values = pd.Series(labels)
    code[~missing], levels = encode_groups(values[~missing], factor.name)
    code[missing] = len(levels) + np.arange(missing.sum())
    return code, levels


def _known(factor, rows):
    n = rows.X.shape[0]
    return lookup_codes(factor.levels, factor.labels(rows.column)) if rows.groups else np.full(n, -1)


def rows_to_simulate(estimator, X, groups, n, effects, offset, precision_weight=None):
    """The rows of a simulation, and warnings about their groups; `n` is checked."""
    if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n must be an integer >= 1, got {n!r}")
    rows = estimator._read_new_rows(X, groups, offset, precision_weight)
    warn_of_rows(estimator, rows.X)
    of = f" of {', '.join(map(repr, rows.absent_groups))}" if rows.absent_groups else ""
    if estimator._fitted.factors and effects != "zero" and (not rows.groups or rows.absent_groups):
        warn(
            f"the model was fitted with groups and got none{of}: every row is simulated as a group of its own. Pass "
            "groups=, or ask for predict_effects='zero'",
            NoGroupsWarning,
        )
    elif effects in ("posterior", "mode"):
        estimator._lookup(rows)  # which warns of labels of another type
    return rows


def simulate(estimator, X, groups, n, random_state, effects, offset=None):
    """Simulated labels, or numbers of successes, (n, n_rows); see `MixedLogisticRegression.simulate`."""
    rows = rows_to_simulate(estimator, X, groups, n, effects, offset)
    formula = estimator._fitted.formula
    if formula is not None and formula.is_counts:
        trials = formula.counts.trials(X).astype(np.int64)
        drawn = np.array([*simulate_codes(estimator, rows, n, random_state, effects, trials)])
        return drawn if estimator._fitted.event else trials - drawn
    out = np.empty((n, rows.X.shape[0]), dtype=estimator.classes_.dtype)
    for k, positive in enumerate(simulate_codes(estimator, rows, n, random_state, effects)):
        out[k] = estimator._labels(positive)
    return out
