"""Several fitted models side by side."""

import warnings
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklmm.fitted import FittedLinear, FittedMarginal, fitted_of
from sklmm.inference import criteria
from sklmm.inference.likelihood_ratio import likelihood_ratio_test
from sklmm.inference.same_rows import check_rows
from sklmm.inference.tables import Table
from sklmm.messages import listed


def compare_models(models, likelihood_ratio=False):
    """Compare models of the same rows by their information criteria, the best first.

    Parameters
    ----------
    models : dict of str -> fitted model
        All `MixedLogisticRegression`, or all `GEELogisticRegression`: there is no common measure for the two, since a
        quasi-likelihood is no likelihood.
    likelihood_ratio : bool, default=False
        Mixed models only: order them by their number of parameters instead, and test each against the one before, see
        `likelihood_ratio_test`.

    Returns
    -------
    table : Table
        A data frame that prints whole, with remarks below it. A row a model. Of mixed models the columns
        "log_likelihood", "n_parameters", "aic", "bic", lowest AIC first; of marginal models "correlation",
        "n_coefficients", "n_clusters", "quasi_likelihood", "qic", "qicu", "cic", lowest QIC first. With
        `likelihood_ratio` also "statistic", "df" and "p_value" of the test against the row above, and "note": why they
        are NaN, such as that the model above is not nested in this one as far as names show.

    Raises
    ------
    ValueError
        If the models were not fitted to the same rows and outcomes, as far as numbers of rows and clusters, classes and
        the values of columns and groups that they have in common show that; if marginal and mixed models are mixed; if
        there is no model.

    Notes
    -----
    QIC and CIC choose among working correlations, QICu among features. Likelihoods of different approximations
    (`n_quadrature`) differ by the error of the approximation, too.

    The quasi-likelihood of a measured outcome is minus half a sum of squares, in units of the outcome. Here it is
    divided by one dispersion for all models, that of the one with the most coefficients (Pan 2001, section 3).

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, compare_models
    >>> from sklmm.datasets import load_contraception
    >>> data = load_contraception(as_frame=True)
    >>> X, y = data.data[["age"]], data.target
    >>> pooled_slope = MixedLogisticRegression("1 | district").fit(X, y, groups=data.groups)
    >>> slopes = MixedLogisticRegression("1 + age | district").fit(X, y, groups=data.groups)
    >>> compare_models({"pooled slope": pooled_slope, "slopes": slopes})["n_parameters"].tolist()
    [3, 5]
    """
    if not isinstance(models, Mapping):
        raise TypeError(
            f"compare_models takes a dict of names and fitted models, such as {{'a': model_a, 'b': model_b}}; "
            f"got a {type(models).__name__}"
        )
    if not models:
        raise ValueError("compare_models needs at least one model; the dict is empty")
    marginal = [name for name, model in models.items() if _is_marginal(name, model)]
    if marginal and len(marginal) < len(models):
        mixed = [name for name in models if name not in marginal]
        raise ValueError(
            f"marginal models ({listed(map(repr, marginal))}) and mixed models ({listed(map(repr, mixed))}) have no "
            "criterion in common: estimating equations have a quasi-likelihood, which takes rows for independent and "
            "is no likelihood. Compare each kind on its own, or their predictions by cross-validation"
        )
    _check_same_rows(models, with_clusters=bool(marginal))
    if marginal and likelihood_ratio:
        raise ValueError(
            "likelihood_ratio=True needs models with a likelihood, but these are marginal models; test their "
            "coefficients with wald_test"
        )
    describe, criterion = (_marginal_row, "qic") if marginal else (_mixed_row, "aic")
    rows = [describe(model) for model in models.values()]
    largest = _divide_by_one_dispersion(models, rows) if marginal else None
    index = pd.Index(list(models), name="model", tupleize_cols=False)
    table = Table(rows, index=index).sort_values("n_parameters" if likelihood_ratio else criterion, kind="stable")
    if likelihood_ratio:
        names = list(table.index)
        tests = [(np.nan, np.nan, np.nan, ""), *(_test_or_why(models, *pair) for pair in pairwise(names))]
        *numbers, table["note"] = zip(*tests, strict=True)
        table[["statistic", "df", "p_value"]] = np.array(numbers, dtype=float).T
        table["note"] = table.pop("note")  # comes last
    for note in _remarks(models):
        table.with_note(note)
    if largest is not None:
        table.with_note(
            f"Quasi-likelihoods are divided by one dispersion, that of {largest!r}, which has the most coefficients; "
            "those of single models are in units of the outcome."
        )
    return table


def _test_or_why(models, name, its):
    """Statistic, degrees of freedom and p-value of the test of one model against a larger one, or why there is none."""
    smaller, larger = models[name], models[its]
    if smaller._fitted.factors and smaller.n_quadrature_ != larger.n_quadrature_:
        return np.nan, np.nan, np.nan, f"n_quadrature differs: {smaller.n_quadrature_} and {larger.n_quadrature_}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # remarked on below the table
            return *likelihood_ratio_test(smaller, larger, nested=False), ""
    except ValueError as error:
        return np.nan, np.nan, np.nan, f"{name!r}: {error}"


def _remarks(models):
    """What to know before criteria are compared."""
    for name, model in models.items():
        if not model.converged_:
            yield f"{name!r} did not converge: its criteria are those of where it stopped."
    if any(isinstance(model._fitted, FittedLinear) and model._fitted.reml for model in models.values()):
        effects = {tuple(model._fitted.fixed_names) for model in models.values()}
        if len(effects) > 1:
            raise ValueError(
                "restricted likelihoods (REML) of models that differ in their fixed effects cannot be ranked: fit all "
                'with method="ml"'
            )
    penalised = [name for name, model in models.items() if getattr(model._fitted, "penalty", None) is not None]
    if penalised:
        yield (
            f"{listed(map(repr, penalised))}: fitted with a penalty, so that the quasi-likelihood is not the highest: "
            "QIC and QICu are no rule to compare with fits without."
        )
    with_priors = [name for name, model in models.items() if model._fitted.priors is not None]
    if with_priors:
        yield (
            f"{listed(map(repr, with_priors))}: fitted with priors or penalties, so that the log-likelihood is below "
            "its maximum and parameters count for less than one each: AIC and BIC are too high by that, and no rule to "
            "compare with fits without."
        )
    nodes = {name: model.n_quadrature_ for name, model in models.items() if model._fitted.factors}
    if len(set(nodes.values())) > 1:
        each = ", ".join(f"{name!r} {number}" for name, number in nodes.items())
        yield (
            f"Likelihoods of different n_quadrature ({each}) differ by the error of the approximation, too, and so do "
            "AIC and BIC: fit all with the same."
        )


def _is_marginal(name, model):
    """Whether a model is marginal, else it is a mixed one; an error if it is neither or not fitted."""
    if fitted_of(model) is not None:
        return isinstance(fitted_of(model), FittedMarginal)
    try:
        check_is_fitted(model)
    except NotFittedError:
        raise NotFittedError(f"{name!r} is not fitted: call its fit method before comparing it") from None
    except TypeError:  # not an estimator at all
        pass
    what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
    raise TypeError(
        f"{name!r} is {what}; compare_models takes fitted MixedLogisticRegression or GEELogisticRegression models "
        "(of a pipeline its last step, of a search its best_estimator_)"
    )


def _marginal_row(model):
    _, _, vcov = model._fixed_effects()
    return {
        "correlation": model.correlation_name_,
        "n_coefficients": int(np.count_nonzero(~np.isnan(np.diagonal(vcov)))),
        "n_clusters": _n_clusters(model),
        "quasi_likelihood": model.quasi_likelihood_,
        "qic": model.qic_,
        "qicu": model.qicu_,
        "cic": model.cic_,
    }


def _divide_by_one_dispersion(models, rows):
    """Puts quasi-likelihoods of measured outcomes on the scale of log-likelihoods.

    Returns
    -------
    largest : str or None
        The model whose dispersion it is, of several of its size the one that leaves least; None for classes.
    """
    if all(hasattr(model, "classes_") for model in models.values()):
        return None
    sizes = {name: (-row["n_coefficients"], models[name].dispersion_) for name, row in zip(models, rows, strict=True)}
    largest = min(sizes, key=sizes.get)
    dispersion = models[largest].dispersion_ or np.nan
    for row in rows:
        value = row["quasi_likelihood"] = row["quasi_likelihood"] / dispersion
        row["qic"] = criteria.deviance(value) + 2.0 * row["cic"]
        row["qicu"] = criteria.qicu(value, row["n_coefficients"])
    return largest


def _mixed_row(model):
    return {
        "log_likelihood": model.log_likelihood_,
        # What AIC has counted: coefficients that are identified and covariance parameters.
        "n_parameters": round(model.aic_ / 2 + model.log_likelihood_),
        "aic": model.aic_,
        "bic": model.bic_,
    }


def _n_clusters(model):
    """Number of clusters; without groups every row is one."""
    n_clusters = sum(model.n_groups_.values()) if model.n_groups_ else model.n_obs_
    return int(n_clusters) if float(n_clusters).is_integer() else n_clusters


def _check_same_rows(models, with_clusters):
    """Every model must have seen what the first one has."""

    def seen(model):
        facts = {
            "number of rows": float(f"{model.n_obs_:.10g}"),  # sums of weights may differ by their order
            "classes": model.classes_.tolist() if hasattr(model, "classes_") else "none, as outcomes are numbers",
        }
        return facts | {"number of clusters": _n_clusters(model)} if with_clusters else facts

    (first, reference), *others = models.items()
    expected = seen(reference)
    for name, model in others:
        for what, found in seen(model).items():
            if found != expected[what]:
                raise ValueError(
                    f"only models of the same rows can be compared: {first!r} and {name!r} differ in their {what}, "
                    f"{_plain(expected[what])} and {_plain(found)}"
                )
        check_rows(reference, model, repr(first), repr(name))


def _plain(value):
    return f"{value:,.10g}" if isinstance(value, float) else str(value)
