"""Means that a model expects, at levels or values of its variables, and their contrasts.

A mean is m = sum_i w_i p_i over rows i with variables set to values, p_i a probability or an expected outcome with the
gradient g_i in all parameters (see `population`): its gradient is sum_i w_i g_i. On the link's scale linear predictors
are averaged, those of the population where probabilities are: eta_i = h^-1(p_i) with the gradient g_i / h'(eta_i).
Covariances are G V G' (delta method), contrasts L m have L G V G' L'.

References
----------
Lenth RV (2016). Least-squares means: the R package lsmeans. Journal of Statistical Software 69(1), 1-33.

Williams R (2012). Using the margins command to estimate and interpret adjusted predictions and marginal effects. Stata
Journal 12, 308-331.
"""

from itertools import product

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.exceptions import NotEstimableWarning
from sklmm.inference.tables import Table
from sklmm.inference.verdict import not_estimated, reason_of_blanks
from sklmm.inference.wald import check_level, reference_distribution
from sklmm.messages import listed, shown_label, warn
from sklmm.prediction.contrasts import EstimatedMeans, check_one_of
from sklmm.prediction.population import (
    averages,
    check_population_effects,
    degrees_of_freedom,
    delta_errors,
    parameter_covariance,
)
from sklmm.prediction.reference_rows import Variables

OVER, SCALES = ("rows", "grid"), ("response", "link")
MOST_CELLS = 10_000


def estimated_means(
    model,
    X,
    factor,
    by=None,
    *,
    over="rows",
    predict_effects="marginal",
    scale="response",
    level=0.95,
    sample_weight=None,
    offset=None,
):
    """Estimated means of the levels of a factor, and contrasts among them.

    Parameters
    ----------
    model : fitted estimator
        Of any of the four kinds.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Rows to average over, as `predict` takes them, such as those of the fit. They are taken as given: errors are
        those of the estimates alone.
    factor : str or list of str
        A variable of the formula with levels, or a feature with two values; of several, every combination of levels.
    by : str or list of str, default=None
        Variables within whose levels means are compared.
    over : {"rows", "grid"}, default="rows"
        "rows": predictions are averaged over the rows of X, each set to the levels (average adjusted predictions).
        "grid": predictions at the means of numbers over the rows, averaged over all combinations of the levels of other
        factors, each of which counts the same, on the scale of the link (estimated marginal means of a reference grid).
    predict_effects : {"marginal", "zero"}, default="marginal"
        Of mixed models: averages over the population of groups, or the typical group, whose effects are 0. Linear and
        marginal models know no difference.
    scale : {"response", "link"}, default="response"
        Probabilities or expected outcomes, or linear predictors, contrasts of which are log odds ratios with the logit.
    level : float, default=0.95
    sample_weight : array-like of shape (n_samples,), default=None
        Counts of the rows. None is the column of weights that the formula of the model names, where X has it.
    offset : array-like of shape (n_samples,), default=None
        As in `fit`.

    Returns
    -------
    means : EstimatedMeans

    Raises
    ------
    ValueError
        If a name is no variable of the model, or has no levels.

    Warns
    -----
    NotEstimableWarning
        If rows would be set to combinations that the fit's data say nothing of; their means are NaN.

    Notes
    -----
    Intervals of probabilities are symmetric on the scale of the link, so that they end within 0 and 1.

    References
    ----------
    Lenth RV (2016). Least-squares means: the R package lsmeans. Journal of Statistical Software 69(1), 1-33.

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, estimated_means
    >>> from sklmm.datasets import load_contraception
    >>> data = load_contraception(as_frame=True).frame
    >>> model = MixedLogisticRegression.from_formula("use ~ age + livch + urban + (1 | district)", data)
    >>> means = estimated_means(model, data, "livch")
    >>> means.to_frame()["estimate"].round(3).to_list()
    [0.203, 0.416, 0.477, 0.469]
    >>> means.contrasts("reference")["estimate"].round(2).to_dict()
    {'1 - 0': 0.21, '2 - 0': 0.27, '3+ - 0': 0.27}
    """
    check_is_fitted(model)
    check_one_of("over", over, OVER)
    check_one_of("scale", scale, SCALES)
    check_population_effects(predict_effects)
    X, sample_weight, offset = model._complete_rows(X, sample_weight, offset)
    variables = Variables(model, X, offset, sample_weight)
    own, apart = _names(factor), [] if by is None else _names(by)
    cells = _cells(variables, own, apart)
    frame, weights = None, variables.weights
    if over == "grid":
        frame = variables.grid({*own, *apart})
        weights = np.full(len(frame), 1.0 / len(frame))
    averaged = "link" if over == "grid" else scale
    settings = [dict(zip(cells.columns, values, strict=True)) for values in cells.itertuples(index=False, name=None)]
    rows = ((*variables.design(each, frame), weights) for each in settings)
    found = _Averages(model, rows, averaged, predict_effects)
    if averaged != scale:
        found.to_response()
    words = {
        "rows": f"Averages over {variables.n_rows:,} rows, each set to the levels",
        "grid": "At the means of numbers, and over all levels of other factors, each counting the same",
    }
    notes = [f"{words[over]}; {_kind(model, scale, predict_effects)}."]
    return EstimatedMeans(model, cells, len(own), scale, check_level(level), found, [*notes, *found.notes])


def predictions(model, X, at=None, by=None, predict_effects="marginal", level=0.95, sample_weight=None, offset=None):
    """Averages of predictions at chosen values; see the estimators' `predictions`."""
    check_population_effects(predict_effects)
    level = check_level(level)
    X, sample_weight, offset = model._complete_rows(X, sample_weight, offset)
    variables = Variables(model, X, offset, sample_weight)
    at = {name: _values(variables, name, values) for name, values in (at or {}).items()}
    if np.prod([len(values) for values in at.values()], dtype=float) > MOST_CELLS:
        raise ValueError(f"at= has more than {MOST_CELLS:,} combinations of values")
    apart = [] if by is None else _names(by)
    groups = _groups_of_rows(variables, X, apart)
    cells, rows = [], []
    for values in product(*at.values()):
        design, own_offset = variables.design(dict(zip(at, values, strict=True)))
        for label, mask in groups:
            cells.append((*label, *values))
            share = variables.weights[mask]
            rows.append((design[mask], None if own_offset is None else own_offset[mask], share / share.sum()))
    found = _Averages(model, rows, "response", predict_effects)
    table = found.table(level)
    table = pd.concat([pd.DataFrame(cells, columns=[*apart, *at], dtype=object).infer_objects(), table], axis=1)
    out = Table(table)
    for note in (f"{_kind(model, 'response', predict_effects).capitalize()}, averaged over rows.", *found.notes):
        out.with_note(note)
    return out


class _Averages:
    """Averages of predictions over rows, a set of rows a mean.

    Attributes
    ----------
    estimate : ndarray of shape (n_means,)
        NaN where the fit's data say nothing.
    gradient : ndarray of shape (n_means, n_params)
    blank : ndarray of bool, shape (n_means,)
        Means of coefficients that the fit did not estimate.
    notes : list of str
    """

    def __init__(self, model, rows, scale, effects):
        self.model, self.scale, self.notes = model, scale, []
        names, _, _ = model._fixed_effects()
        unknown = not_estimated(model, [str(name) for name in names])
        of_intercept = int(model._fitted.fit_intercept)
        found = model._fitted.dependences
        estimates, gradients, lost, blank = [], [], set(), []
        for X, offset, weights in rows:
            counted = X[weights > 0]
            departs = [] if found is None else found.departures(counted).any(axis=0)
            lost |= {name for name, out in zip(getattr(found, "names", ()), departs, strict=True) if out}
            estimate, gradient = averages(model, X, offset, weights, effects, scale)
            estimates.append(np.nan if np.any(departs) else estimate)
            gradients.append(np.full(gradient.shape, np.nan) if np.any(departs) else gradient)
            involved = (counted[:, : len(names) - of_intercept] != 0).any(axis=0)
            blank.append((unknown & np.concatenate([[True] * of_intercept, involved])).any())
        self.estimate, self.gradient = np.array(estimates, dtype=float), np.array(gradients, dtype=float)
        self.blank = np.array(blank, dtype=bool)
        if lost:
            sentence = (
                f"not estimable, and NaN: {np.isnan(self.estimate).sum()} of {self.estimate.size} means. Rows would be "
                "set to combinations of columns that did not occur in the fit, in which "
                f"{listed(map(repr, sorted(lost)))} depended on other columns: the answer would depend on which of "
                "them was left out"
            )
            self.notes.append(sentence)
            warn(sentence, NotEstimableWarning)
        if self.blank.any():
            self.notes.append(reason_of_blanks(model)[0])

    def to_response(self):
        """From averages of linear predictors to the probabilities or means that belong to them."""
        family = self.model._fitted.family
        mean = family.mean(self.estimate)
        self.gradient = self.gradient * family.slope(mean, self.estimate)[:, None]
        self.estimate, self.scale = mean, "response"

    def table(self, level):
        """Estimates, errors and intervals."""
        family, vcov = self.model._fitted.family, parameter_covariance(self.model)
        df = degrees_of_freedom(self.model, np.nan_to_num(self.gradient))
        se = np.where(self.blank, np.nan, delta_errors(self.gradient, vcov))
        reach = reference_distribution(df).ppf((1 + level) / 2)
        if self.scale == "link" or not family.has_classes:
            ends = self.estimate - reach * se, self.estimate + reach * se
        else:
            linked = family.link(self.estimate)
            with np.errstate(divide="ignore", invalid="ignore"):
                away = reach * se / family.slope(self.estimate, linked)
            ends = family.mean(linked - away), family.mean(linked + away)
        return pd.DataFrame({"estimate": self.estimate, "std_error": se, "lower": ends[0], "upper": ends[1]})


def _names(names):
    return [names] if isinstance(names, str) else list(names)


def _kind(model, scale, effects):
    """What is averaged, in words."""
    family = model._fitted.family
    if not family.has_classes:
        return "expected outcomes"
    what = "probabilities" if scale == "response" else f"linear predictors ({family.name} scale)"
    if not model._fitted.factors:
        return what
    return f"{what} {'of the population of groups' if effects == 'marginal' else 'in the typical group'}"


def _cells(variables, own, apart):
    """Every combination of levels: the factor's vary fastest within those of `by`."""
    names = [*own, *apart]
    if not own or len(set(names)) < len(names):
        raise ValueError(f"factor and by must be different variables, got {own} and {apart}")
    levels = [_levels(variables, name) for name in names]
    if np.prod([len(each) for each in levels], dtype=float) > MOST_CELLS:
        raise ValueError(f"{listed(map(repr, names))} have more than {MOST_CELLS:,} combinations of levels")
    rows = [(*of_own, *of_by) for of_by in product(*levels[len(own) :]) for of_own in product(*levels[: len(own)])]
    return pd.DataFrame({name: [row[j] for row in rows] for j, name in enumerate(names)})


def _known(variables, name):
    if name not in variables.frame.columns:
        raise ValueError(f"{name!r} is no variable of the model; there are {list(variables.frame.columns)}")


def _levels(variables, name):
    _known(variables, name)
    levels = variables.levels(name)
    if levels is None:
        raise ValueError(
            f"{name!r} is a number, which has no levels: write C({name}) in the formula of the model to make it a "
            f"factor, or choose values in model.predictions(X, at={{{name!r}: [...]}})"
        )
    return list(levels)


def _values(variables, name, values):
    """Values of at=, checked against the levels of a factor."""
    _known(variables, name)
    values = [values] if isinstance(values, str) or np.ndim(values) == 0 else list(values)
    if not values:
        raise ValueError(f"at: there are no values of {name!r}")
    if variables.formula is not None and variables.is_factor(name):
        levels = variables.levels(name)
        unknown = [value for value in values if value not in levels]
        if unknown:
            raise ValueError(
                f"at: {listed(map(shown_label, unknown))} is no level of {name!r}; its levels are "
                f"{listed(map(shown_label, levels))}"
            )
        return values
    numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
    if not np.isfinite(numbers).all():
        raise ValueError(f"at: the values of {name!r} must be finite numbers, got {values}")
    return values


def _groups_of_rows(variables, X, names):
    """(label, mask) of the rows with each combination of values of columns; of all rows where there are none."""
    if not names:
        return [((), np.ones(variables.n_rows, dtype=bool))]
    columns = {}
    for name in names:
        if name in variables.frame.columns:
            columns[name] = variables.frame[name].to_numpy()
        elif name in getattr(X, "columns", ()):
            columns[name] = pd.Series(np.asarray(X[name])).to_numpy()
        else:
            raise ValueError(f"by: {name!r} is neither a variable of the model nor a column of X")
    found = pd.DataFrame(columns).groupby(names, sort=True, observed=True).indices
    out = []
    for key, places in found.items():
        mask = np.zeros(variables.n_rows, dtype=bool)
        mask[places] = True
        if variables.weights[mask].sum() > 0:
            out.append((key if isinstance(key, tuple) else (key,), mask))
    return out
