"""Power of a test by simulation: how often it rejects in studies that the model makes.

Outcomes are drawn from the fitted model, or from effects that are stated; each time the model is fitted and the test is
done. Every study has a generator of its own, so that results are bitwise the same however studies are spread over
processes, and more of them go on where fewer ended.

References
----------
Green P, MacLeod CJ (2016). SIMR: an R package for power analysis of generalized linear mixed models by simulation.
Methods in Ecology and Evolution 7, 493-498.

Wilson EB (1927). Probable inference, the law of succession, and statistical inference. Journal of the American
Statistical Association 22, 209-212.
"""

from dataclasses import replace
from numbers import Real

import joblib
import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sklmm.design.sizes import PER_GROUP, ROWS, read_sizes
from sklmm.diagnostics.power_result import PowerResult
from sklmm.diagnostics.studies import ClassesDraw, CorrelatedDraw, MeasuredDraw, Study, Truth, changed_factors
from sklmm.diagnostics.whole_fits import LikelihoodRatio, WholeFitTest
from sklmm.exceptions import ConvergenceWarning
from sklmm.fitted import FittedLinear, FittedMixed, fitted_of
from sklmm.inference import wald
from sklmm.inference.bootstrap import resample, seed_sequence
from sklmm.inference.marginal_draw import MarginalDraw
from sklmm.inference.parameters import Estimates
from sklmm.inference.refit_tests import Contrasts, LinearTest, MarginalTest, MixedTest
from sklmm.inference.same_rows import check_same_columns
from sklmm.inference.verdict import not_estimated, reason_of_blanks
from sklmm.messages import listed, warn
from sklmm.passes.threads import effective_threads


def power(
    model,
    test,
    X=None,
    y=None,
    groups=None,
    *,
    sizes=None,
    effects=None,
    n_simulations=1000,
    alpha=0.05,
    level=0.95,
    sample_weight=None,
    offset=None,
    time=None,
    precision_weight=None,
    random_state=None,
    n_jobs=None,
    verbose=0,
    resume=None,
):
    """Power of a test by simulation, for the size of the data or for other sizes.

    Parameters
    ----------
    model : fitted estimator of this package
        Outcomes are drawn from it. A mixed model's random effects are drawn anew for each study. A marginal model's
        outcomes correlate within groups by its working correlation: measured ones are normal, classes are signs of
        normal variables (Emrich and Piedmonte 1991), which have these means and correlations exactly.
    test : str, list of str, array-like, DataFrame, callable, or ("lr", smaller)
        What `wald_test` takes, such as the name of a coefficient: it is Wald's test, with the model's own kind of
        covariance and degrees of freedom. Or a function of (model, X, y, groups) that returns a p-value, or a result
        with a `p_value`: it gets a model fitted to the study, which takes several times as long. ("lr", smaller) is
        `likelihood_ratio_test` against the model `smaller`, an estimator that is fitted to each study, too.
    X, y, groups, sample_weight, offset, time, precision_weight
        The rows of the fit, as `fit` got them; of a model with a formula the data frame is enough. Weights are counts.
    sizes : dict of str -> int or list of int, default=None
        ``{"district": [20, 40, 80]}``: studies with so many groups of a factor. Fewer are a random subset; of more,
        groups are there again as new groups, all of them equally often but for a random subset, with groups that are
        nested in them. ``{"rows_per_group": [10, 20]}``: so many rows in each group, drawn likewise; with several
        factors ``{"rows_per_group|school": ...}``. ``{"rows": ...}``, of a model without groups. Every combination,
        where there are several. Rows are drawn for each study anew. None: the size of the data.
    effects : dict of str -> float, default=None
        Parameters to draw with in the place of estimates, named as in ``conf_int``: ``{"age": 0.3,
        "sd_intercept|district": 0.5}``.
    n_simulations : int, default=1000
        Studies of each size.
    alpha : float, default=0.05
        Significance level.
    level : float, default=0.95
        Confidence level of the intervals of the power.
    random_state : int, SeedSequence, Generator, RandomState or None, default=None
        The results depend on it alone, whatever `n_jobs`.
    n_jobs : int or None, default=None
        Processes, as joblib counts them: None is 1 outside a joblib context, -1 all.
    verbose : int, default=0
        1 prints how many studies are done.
    resume : PowerResult, default=None
        An earlier result of the same question, to go on from: the result is that of one run of `n_simulations`.

    Returns
    -------
    result : PowerResult
        With `table`, `p_values`, `to_frame()` and `plot()`. Studies without a test, such as those whose fit does not
        converge, count as not rejected; their number is in the table, and a `ConvergenceWarning` tells of them.

    Raises
    ------
    TypeError
        If the model is none of this package's, such as a pipeline around one.
    ValueError
        If the fit did not converge, if these are not its rows, if there is no such test, size or effect, or if outcomes
        of a marginal model cannot be drawn.

    References
    ----------
    Green P, MacLeod CJ (2016). SIMR: an R package for power analysis of generalized linear mixed models by simulation.
    Methods in Ecology and Evolution 7, 493-498.

    Emrich LJ, Piedmonte MR (1991). A method for generating high-dimensional multivariate binary variates. The American
    Statistician 45, 302-304.

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, power
    >>> from sklmm.datasets import load_contraception
    >>> women = load_contraception(as_frame=True).frame
    >>> model = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women)
    >>> found = power(model, "age", women, sizes={"district": [20, 60]}, n_simulations=50, random_state=0)
    >>> found.table["district"].tolist()
    [20, 60]
    >>> bool(found.table["power"].is_monotonic_increasing)
    True
    """
    check_is_fitted(model)
    fitted = fitted_of(model)
    if fitted is None:
        raise TypeError(
            "power needs a mixed or marginal model of this package (of a pipeline the last step, with X as that step "
            f"gets it); got {type(model).__name__}"
        )
    _check_numbers(n_simulations, alpha)
    level = wald.check_level(level)
    by_row = {"offset": offset, "time": time, "precision_weight": precision_weight}
    by_row = {name: values for name, values in by_row.items() if values is not None}
    rows, structure = model._rows_of_fit("power", X, y, groups, sample_weight, **by_row)
    if not isinstance(fitted, FittedMixed):
        check_same_columns(fitted.row_signature, rows.X, rows.y if fitted.event else 1 - rows.y, rows.weights)
    elif not (isinstance(fitted, FittedLinear) and fitted.no_residuals):
        model._objective(rows, structure)  # an error for other rows
    sizes = read_sizes(sizes, [factor.name for factor in structure.factors])
    truth = _truth(model, structure, effects)
    n_threads = effective_threads(model.n_threads) if joblib.effective_n_jobs(n_jobs) == 1 else 1  # processes share
    own = _own_test(test)
    if own is None:
        done, hypothesis = _wald_test(model, test, truth, structure, model._refit_settings(n_threads))
    else:
        resized = [factor.name for factor in structure.factors if factor.name in sizes[0]]
        done = WholeFitTest(model, own, X, y, groups, sample_weight, by_row, resized, n_threads)
        hypothesis = _described(test)
    rows = _counted_rows(model, rows, sizes, own is not None)
    study = Study(rows, structure, _draw(model, rows, structure, truth), done, {})
    seed, begun = _begun(resume, random_state, n_simulations, hypothesis, sizes, truth)

    labels = [", ".join(f"{name}={value}" for name, value in size.items()) or "size of the data" for size in sizes]
    found = []
    for k, (size, label, before) in enumerate(zip(sizes, labels, begun, strict=True)):
        seeds = [_seed(seed, k, i) for i in range(len(before), n_simulations)]
        told = f"[power] {label}: {{}} of {{}} studies" if verbose else None
        found.append(np.concatenate([before, resample(replace(study, size=size), 2, seeds, n_jobs, told)]))
    p_values, singular = (pd.DataFrame(dict(zip(labels, [one[:, j] for one in found], strict=True))) for j in (0, 1))
    result = PowerResult(hypothesis, float(alpha), level, sizes, p_values, singular, truth.values, seed)
    if result.note is not None:
        warn(result.note, ConvergenceWarning)
    return result


def _check_numbers(n_simulations, alpha):
    is_integer = isinstance(n_simulations, (int, np.integer)) and not isinstance(n_simulations, bool)
    if not is_integer or n_simulations < 1:
        raise ValueError(f"n_simulations must be an integer >= 1, got {n_simulations!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, Real) or not 0 < alpha < 1:
        raise ValueError(f"alpha must be a number between 0 and 1, got {alpha!r}")


# What outcomes are drawn with --------------------------------------------------------------------------------------


def _truth(model, structure, effects):
    """The fit's parameters, some of them replaced."""
    fitted, given = model._fitted, dict(effects or {})
    names, beta, _ = model._fixed_effects()
    beta = beta.copy()
    if not model.converged_:
        raise ValueError(f"there is nothing to draw outcomes from: {reason_of_blanks(model)[0]}")
    changes = {}
    for parameter in model._chosen_parameters(list(given)):
        value = given[parameter.name]
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not np.isfinite(value):
            raise ValueError(f"effects: {parameter.name} must be a finite number, got {value!r}")
        if not parameter.identified:
            raise ValueError(f"effects: {parameter.name} is not identified by the rows of the fit, nor would it be")
        changes[parameter.kind, parameter.positions] = parameter.name, float(value)
    infinite = [n for j, n in enumerate(names) if not_estimated(model, names)[j] and ("fixed", (j,)) not in changes]
    if infinite:
        raise ValueError(
            f"there is nothing to draw outcomes from: {reason_of_blanks(model)[0]}. Or state effects of "
            f"{listed(map(repr, infinite))}"
        )
    for (kind, positions), (_, value) in changes.items():
        if kind == "fixed":
            beta[positions] = value
    parameters = model._parameters()
    if not isinstance(fitted, FittedMixed):
        values = np.concatenate([beta, model.correlation_params_, [model.dispersion_]])
        correlations = [f"correlation {k}" for k in range(len(model.correlation_params_))]
        return Truth(pd.Series(values, [*names, *correlations, "dispersion"]), beta, [], np.sqrt(model.dispersion_))
    random = {at: change for (kind, at), change in changes.items() if kind == "random" and at}
    covariances = [factor.covariance for factor in fitted.factors]
    lambdas = [factor.units.natural for factor in fitted.factors]
    if random:
        lambdas = changed_factors(structure.factors, covariances, random)
        covariances = [Lambda @ Lambda.T for Lambda in lambdas]
    sigma = None
    if isinstance(fitted, FittedLinear):
        if fitted.no_residuals and ("random", ()) not in changes:
            raise ValueError(
                "the fit left no residuals, so that outcomes drawn from it would have none: state their standard "
                "deviation, effects={'sigma': ...}"
            )
        name, sigma = changes.get(("random", ()), ("sigma", fitted.sigma))
        if not sigma > 0:
            raise ValueError(f"effects: {name} is the residual standard deviation, which must be > 0, got {sigma!r}")
        parameters = parameters[:-1]
    values = Estimates(parameters, fitted.fit_intercept).of(beta, covariances)
    values = pd.Series(values, [parameter.name for parameter in parameters])
    if sigma is not None:
        values["sigma"] = sigma
    return Truth(values, beta, lambdas, sigma)


def _draw(model, rows, structure, truth):
    """How outcomes are drawn."""
    fitted = model._fitted
    if isinstance(fitted, FittedMixed) and not isinstance(fitted, FittedLinear):
        return ClassesDraw(truth.beta, truth.thetas(structure.factors))
    _, estimates, _ = model._fixed_effects()
    X = np.asarray(rows.X, dtype=np.float64)
    first, n_slopes = int(fitted.fit_intercept), len(estimates) - int(fitted.fit_intercept)
    if isinstance(fitted, FittedLinear):
        mean = fitted.units.linear_predictor(X)  # more exact far from 0
        change = truth.beta - estimates
        mean = mean + X[:, :n_slopes] @ change[first:] + change[:first].sum()
    else:
        mean = X[:, :n_slopes] @ truth.beta[first:] + truth.beta[:first].sum()
    mean = mean if rows.offset is None else mean + rows.offset
    if isinstance(fitted, FittedLinear):
        return MeasuredDraw(mean, truth.lambdas, truth.sigma)
    draw = MarginalDraw(
        fitted.family, fitted.correlation, model.correlation_params_, model.correlation_times_, truth.sigma
    )
    draw.prepare(mean, rows.codes[0] if structure.factors else None, rows.times, fitted.levels)
    return CorrelatedDraw(mean, draw)


def _counted_rows(model, rows, sizes, own):
    """The rows of the fit, each as often as it counts, where rows are drawn or handed to a test of the user's."""
    fitted, weights = model._fitted, rows.weights
    marginal = not isinstance(fitted, FittedMixed)
    counts_rows = [name for name in sizes[0] if name == ROWS or name.startswith(PER_GROUP)]
    if weights is not None and np.any(weights != np.rint(weights)):
        raise ValueError("power simulates rows, but some sample_weight are no whole numbers")
    if weights is not None and (weights == 1).all():
        rows, weights = replace(rows, weights=None), None
    if weights is not None and marginal and fitted.correlation.uses_time:
        raise ValueError(
            f"weights scale the information of rows under the {fitted.correlation.name} working correlation: they are "
            "no counts of rows, which power could simulate"
        )
    if weights is not None and (marginal or counts_rows or own):
        rows = replace(rows.take(np.repeat(np.arange(len(weights)), weights.astype(np.intp))), weights=None)
    if rows.times is not None and counts_rows:
        most = max(size[name] for size in sizes for name in counts_rows)
        least = int(np.bincount(rows.codes[0]).min())
        if most > least:
            raise ValueError(
                f"sizes: {counts_rows[0]} can be at most {least}, the rows of the smallest group, as rows have times "
                f"and none can be there twice; got {most}"
            )
    return rows


# What is tested ----------------------------------------------------------------------------------------------------


def _own_test(test):
    """The test as a function of a fitted model; None for contrasts of coefficients."""
    if callable(test):
        return test
    if isinstance(test, tuple) and len(test) == 2 and isinstance(test[0], str) and test[0] == "lr":
        if fitted_of(test[1]) is None:
            raise TypeError('("lr", smaller) takes a model of this package, fitted to the same rows')
        return LikelihoodRatio(test[1])
    return None


def _described(test):
    if isinstance(test, tuple):
        smaller = test[1]
        what = ", ".join(smaller._fitted.fixed_names) if smaller._recipe is None else smaller._recipe.text
        return f"the smaller model ({what}), by likelihood ratio"
    return getattr(test, "__qualname__", type(test).__qualname__)


def _wald_test(model, test, truth, structure, settings):
    """Wald's test as it is done in simulated studies, and what it tests in words."""
    fitted = model._fitted
    names, coef, vcov = model._fixed_effects()
    matrix = wald.contrast_matrix(names, test, fitted.formula)
    words = wald.wald_test(names, coef, vcov, matrix).hypotheses  # an error for what cannot be tested
    contrasts = Contrasts([str(name) for name in names], matrix, bool(fitted.fit_intercept))
    if isinstance(fitted, FittedLinear):
        done = LinearTest(contrasts, fitted.df, settings | {"reml": fitted.reml})
    elif isinstance(fitted, FittedMixed):
        done = MixedTest(contrasts, (truth.beta, truth.thetas(structure.factors)), settings)
    else:
        settings |= {
            "correlation": fitted.correlation,
            "fit_intercept": fitted.fit_intercept,
            "dispersion": float(model.dispersion_) if fitted.dispersion_is_fixed else None,
            "ddof_correction": fitted.ddof_correction,
        }
        done = MarginalTest(contrasts, fitted.cov_type, settings)
    return done, listed(words)


# Seeds, and going on -----------------------------------------------------------------------------------------------


def _seed(root, k, i):
    """Of study i of size k, as if spawned, whatever else was."""
    return np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, k, i), pool_size=root.pool_size)


def _begun(resume, random_state, n_simulations, hypothesis, sizes, truth):
    """The seed, and by size what earlier simulations found: ndarrays of shape (n, 2)."""
    if resume is None:
        return seed_sequence(random_state), [np.empty((0, 2))] * len(sizes)
    if not isinstance(resume, PowerResult):
        raise TypeError(f"resume takes an earlier result of power, got {type(resume).__name__}")
    if random_state is not None:
        seed = seed_sequence(random_state)
        if (seed.entropy, seed.spawn_key) != (resume.seed.entropy, resume.seed.spawn_key):
            raise ValueError("resume goes on with the seed of the earlier result: leave out random_state")
    if resume.sizes != sizes:
        raise ValueError(f"resume: the earlier result has the sizes {resume.sizes}, and these are {sizes}")
    if resume.hypothesis != hypothesis:
        raise ValueError(f"resume: the earlier result is of {resume.hypothesis}, and this is of {hypothesis}")
    if not resume.parameters.equals(truth.values):
        raise ValueError("resume: the earlier result is of another model, or of other effects")
    if len(resume.p_values) > n_simulations:
        raise ValueError(
            f"resume: the earlier result has {len(resume.p_values):,} studies; n_simulations, which counts them, is "
            f"{n_simulations:,}"
        )
    pairs = zip(resume.p_values.to_numpy().T, resume.singular.to_numpy().T, strict=True)
    return resume.seed, [np.column_stack(pair) for pair in pairs]
