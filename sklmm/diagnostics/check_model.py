"""One table with a verdict a line: can the fit be relied on, and do its assumptions hold?

Lines come from what the fit keeps; those that need its rows say so where there are none. A verdict is a reason to look,
not a proof: "problem" is said of what makes numbers of the fit meaningless or misleading, "look" of what may.

References
----------
Belsley DA, Kuh E, Welsch RE (1980). Regression Diagnostics. Wiley, chapter 3. Condition numbers from 30 on.

Cook RD, Weisberg S (1982). Residuals and Influence in Regression. Chapman and Hall, section 3.5. Distances from 1 on.

Maas CJM, Hox JJ (2005). Sufficient sample sizes for multilevel modeling. Methodology 1, 86-92. Numbers of groups.

O'Brien RM (2007). A caution regarding rules of thumb for variance inflation factors. Quality and Quantity 41, 673-690.
"""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from sklmm.design.columns import is_frame, rows_where
from sklmm.diagnostics.influence import cluster_influence
from sklmm.diagnostics.normality import FEWEST, needs_rows, random_effects_normality
from sklmm.diagnostics.residuals import quantile_residuals
from sklmm.fitted import FittedMarginal, FittedMixed
from sklmm.inference.collinearity import condition_number, variance_inflation
from sklmm.inference.same_rows import not_the_rows
from sklmm.inference.tables import Table
from sklmm.messages import listed
from sklmm.reporting import rendering

OK, LOOK, PROBLEM, UNKNOWN = "ok", "look", "problem", "not checked"
ROWS = "pass X, y, groups: this takes the rows of the fit"

VARIANCES = 5.0, 10.0  # inflation of variances, from which to look and from which it is a problem
CONDITION = 30.0, 100.0
DISTANCE = 0.5, 1.0  # Cook's
GROUPS = 10, 5  # random effects: fewer than these
CLUSTERS = 50, 10  # robust covariances: likewise
ERRORS = 0.1, 1.0  # standard errors that an approximation is off by
SIGNIFICANT = 0.01
DEPARTURE = 0.1  # of distribution functions, from which significant departures are a problem
DISPERSION = 1.5  # variance of residuals of counts, from which significant overdispersion is a problem
SPREADS = 0.1, 0.3  # rank correlation of the size of residuals with expected outcomes
COARSE = 300.0  # inflation of intervals, from which the fit's record of groups, in single precision, says nothing
CHEAP_ROWS, SIMULATIONS = 5_000, 49  # up to so many rows the model is fitted again to so many simulated outcomes

Line = namedtuple("Line", ["check", "verdict", "value", "finding"])


@dataclass(frozen=True)
class ModelCheck:
    """Result of `check_model`.

    Attributes
    ----------
    model : str
        The class of the model.
    table : Table
        A row a check; columns "verdict" ("ok", "look", "problem" or "not checked"), "value", the number that it is
        made from (NaN where there is none), and "finding", a sentence.
    inflation : Table
        A row a term: its generalised variance inflation factor, see `sklmm.inference.collinearity`.
    """

    model: str
    table: pd.DataFrame
    inflation: pd.DataFrame

    @property
    def verdict(self):
        """The worst of all verdicts."""
        return next(worst for worst in (PROBLEM, LOOK, OK) if (self.table["verdict"] == worst).any())

    def to_frame(self):
        """The table as a plain data frame."""
        return pd.DataFrame(self.table)

    def __str__(self):
        return rendering.to_text(self._document())

    __repr__ = __str__

    def _repr_html_(self):
        return rendering.to_html(self._document())

    def _document(self):
        counts = self.table["verdict"].value_counts()
        title = f"{self.model}: " + ", ".join(
            f"{counts[verdict]} {verdict}" for verdict in (PROBLEM, LOOK, OK, UNKNOWN) if verdict in counts
        )
        rows = [[name, verdict, finding] for name, verdict, finding in
                zip(self.table.index, self.table["verdict"], self.table["finding"], strict=True)]  # fmt: skip
        return rendering.Document(title, [], [rendering.Table("", ["check", "verdict", "finding"], rows, n_names=3)])


def check_model(
    estimator,
    X=None,
    y=None,
    groups=None,
    *,
    sample_weight=None,
    offset=None,
    precision_weight=None,
    time=None,
    random_state=0,
):
    """Check a fitted model; see the estimators' `check_model`."""
    check_is_fitted(estimator)
    by_row = {"sample_weight": sample_weight, "offset": offset}
    by_row |= {} if precision_weight is None else {"precision_weight": precision_weight}
    rows = None
    if X is not None:
        times = {} if time is None else {"time": time}
        rows, _ = estimator._rows_of_fit("check_model", X, y, groups, **by_row, **times)
        _check_rows(estimator._fitted, rows)
    fitted, inflation = estimator._fitted, _inflation(estimator)
    given = None if X is None else _found(estimator, X, y, groups, by_row)
    mixed, classes = isinstance(fitted, FittedMixed), fitted.family.has_classes
    lines = [*_of_the_fit(estimator), *_of_features(estimator, inflation, rows), *_of_groups(estimator)]
    if fitted.factors and classes:
        lines.append(_approximation(estimator))
    if not estimator.converged_:
        lines.append(Line("residuals, influence", UNKNOWN, np.nan, "the fit did not converge"))
    else:
        lines.append(_tried("residuals", _residuals, estimator, given, random_state))
        if not classes:
            lines.append(_tried("spread of residuals", _spread, estimator, given, random_state))
        if mixed and classes and fitted.factors:
            name = fitted.factors[0].name
            lines.append(_tried(f"sums by {name}", _sums, estimator, given, random_state))
            if given is not None and (given[-1]["sample_weight"] is not None or _is_of_counts(fitted)):
                lines.append(_tried("overdispersion", _overdispersion, estimator, given, random_state))
        if estimator.n_groups_:
            lines.append(_tried("influential groups", _influence, estimator, given, inflation))
        if fitted.factors:
            lines += _normality(estimator, given, random_state)
    table = Table([line[1:] for line in lines], columns=Line._fields[1:])
    table.index = pd.Index([line.check for line in lines], name="check")
    return ModelCheck(type(estimator).__name__, table, inflation)


def _check_rows(fitted, rows):
    """An error unless rows are those of the fit, as far as moments tell: verdicts on others would mislead."""
    signature, factors = fitted.row_signature, {}
    if fitted.levels is not None and rows.codes and rows.codes[0].max() < len(fitted.levels):
        factors = {next(iter(fitted.n_groups)): (rows.codes[0], fitted.levels)}
    outcome = rows.y if fitted.event else 1 - rows.y
    X = rows.X[:, : len(signature.names)]
    differ = not_the_rows(signature, X, outcome, rows.weights, factors, rows.offset)
    if differ is not None:
        raise ValueError(f"check_model needs the rows of the fit, and these are not: {differ}")


def _found(estimator, X, y, groups, by_row):
    """The rows as given, with what a formula finds in a data frame."""
    fitted, weights = estimator._fitted, by_row["sample_weight"]
    if fitted.formula is not None and is_frame(X):
        y, groups, weights, _ = estimator._recipe.found_in(fitted.formula, X, y, groups, weights, None)
    return X, y, groups, by_row | {"sample_weight": weights}


def _judged(value, limits, falling=False):
    """The verdict of a number that is to look at from the first limit on, and a problem from the second."""
    look, problem = limits
    sign = -1 if falling else 1
    return PROBLEM if sign * value >= sign * problem else LOOK if sign * value >= sign * look else OK


def _tried(name, check, *arguments):
    """The line of a check that may not be there for these rows, or this kind of model: then it says why."""
    try:
        return Line(name, *check(*arguments))
    except ValueError as error:
        return Line(name, UNKNOWN, np.nan, str(error))


# What the fit says -----------------------------------------------------------------------------------------------


def _of_the_fit(estimator):
    fitted, verdict = estimator._fitted, estimator.fit_report_.verdict.strip()
    if estimator.converged_:
        yield Line("convergence", OK, np.nan, verdict or "converged")
    else:
        why = f"NOT CONVERGED ({verdict}): there are no standard errors. More iterations (max_iter), or a simpler model"
        yield Line("convergence", PROBLEM, np.nan, why)
    if fitted.family.has_classes:
        columns = listed(map(repr, fitted.separated))
        finding = f"the classes are separated by {columns}: no finite estimate. Fit without, or with fewer categories"
        verdict = PROBLEM if fitted.separated else OK
        yield Line("separation", verdict, len(fitted.separated), finding if fitted.separated else "none found")
    elif isinstance(fitted, FittedMixed) and fitted.no_residuals:
        yield Line("residual variance", PROBLEM, 0.0, "features or groups reproduce the outcome exactly")
    if isinstance(fitted, FittedMarginal):
        if fitted.trouble:
            finding = f"the working correlation {fitted.trouble}. Another structure may fit better"
            yield Line("working correlation", LOOK, np.nan, finding)
        return
    if fitted.factors:
        if estimator.is_singular_:
            finding = "a variance is 0, or a correlation -1 or 1; a simpler random_effects would fit as well"
            yield Line("singular fit", LOOK, np.nan, finding)
        else:
            yield Line("singular fit", OK, np.nan, "variances and correlations are inside their range")
    for sentence in fitted.large_variances:
        yield Line("large variance", PROBLEM, np.nan, sentence)


def _approximation(estimator):
    fitted, nodes = estimator._fitted, estimator.n_quadrature_
    name, what = "approximation", "Laplace's approximation" if nodes == 1 else f"quadrature with {nodes} nodes"
    error = fitted.approximation_error
    if fitted.far_maximum is not None:
        finding = f"{what} has another, higher maximum far out, taken for its error: more nodes or larger groups"
        return Line(name, LOOK, np.nan, finding)
    if error is None:
        return Line(name, UNKNOWN, np.nan, f"{what}: there are no better ones for this structure to compare with")
    if fitted.approximation is not None:
        verdict = PROBLEM if error >= ERRORS[1] else LOOK
        return Line(name, verdict, error, fitted.approximation)
    return Line(name, OK, error, f"{what}: more nodes move no estimate by more than {error:.2g} standard errors")


# Features --------------------------------------------------------------------------------------------------------


def _inflation(estimator):
    """Variance inflation of the terms, from the model-based covariance; empty where the fit says nothing of it."""
    fitted = estimator._fitted
    names, _, _ = estimator._fixed_effects()
    kind = "naive" if isinstance(fitted, FittedMarginal) else None
    vcov, first = fitted.covariance(kind), int(fitted.fit_intercept)
    lost = np.array([name in fitted.separated for name in names], dtype=bool)
    vcov[lost] = vcov[:, lost] = np.nan
    if not estimator.converged_:
        vcov[:] = np.nan
    terms = {}
    if fitted.formula is not None:
        for factors, columns in fitted.formula.terms():
            if columns:
                terms[":".join(text for text, _, _ in factors)] = columns
    return variance_inflation([str(name) for name in names[first:]], vcov[first:, first:], terms)


def _of_features(estimator, inflation, rows):
    fitted = estimator._fitted
    names, _, vcov = estimator._fixed_effects()
    first = int(fitted.fit_intercept)
    aliased = [str(name) for name in np.array(names, dtype=object)[np.isnan(np.diagonal(vcov))]]
    if aliased and estimator.converged_:
        finding = f"not identified, as constant or made of other columns: {listed(map(repr, aliased))}"
        yield Line("aliased columns", LOOK, len(aliased), finding)
    if len(names) - first < 2:
        return
    if len(inflation):
        worst = inflation["inflation"].idxmax()
        value, intervals = inflation.loc[worst, "inflation"] ** 2, inflation.loc[worst, "inflation"]
        finding = f"at most of {worst}: its intervals are {intervals:.2f} times as wide as without the other features"
        if value >= VARIANCES[0]:
            finding += ". The estimates hold, but tell less; products and powers are so by construction"
        yield Line("collinearity", _judged(value, VARIANCES), value, finding)
    elif not estimator.converged_:
        yield Line("collinearity", UNKNOWN, np.nan, "the fit did not converge")
    if rows is None:
        yield Line("condition number", UNKNOWN, np.nan, ROWS)
        return
    kept = ~np.isnan(np.diagonal(vcov))[first:]
    X = np.asarray(rows.X[:, : kept.size], dtype=np.float64)[:, kept & (np.ptp(rows.X[:, : kept.size], axis=0) > 0)]
    if X.shape[1] > 1:
        value = condition_number(X, rows.weights, centred=bool(first))
        scaled = "centred and scaled" if first else "scaled"
        yield Line("condition number", _judged(value, CONDITION), value, f"{value:.3g}, of the {scaled} design")


# Groups ----------------------------------------------------------------------------------------------------------


def _of_groups(estimator):
    counts = estimator._fitted.n_groups
    if not counts:
        yield Line("groups", LOOK, 0, "the model was fitted without groups: rows count as independent")
        return
    marginal = isinstance(estimator._fitted, FittedMarginal)
    if marginal and estimator._fitted.cov_type == "naive":
        yield Line("number of groups", OK, next(iter(counts.values())), "naive standard errors rest on the working "
                   "correlation, not on the number of groups")  # fmt: skip
        return
    corrected = marginal and estimator._fitted.cov_type != "robust"
    limits = (CLUSTERS[1],) * 2 if corrected else CLUSTERS if marginal else GROUPS
    for name, count in counts.items():
        verdict = _judged(count, (limits[0] - 1, limits[1] - 1), falling=True)
        finding = f"{count:,} of {name}"
        if marginal:
            if count <= len(estimator._fixed_effects()[0]):
                verdict, finding = PROBLEM, f"{finding}, no more than coefficients: there are no tests"
            elif verdict != OK:
                finding += ": robust standard errors tend to be too small" + (
                    "" if corrected else "; a cov_type such as 'mancl-derouen' corrects them"
                )
        elif verdict != OK:
            finding += ": their variance is hardly known, and standard errors of what differs between them even less"
        yield Line(f"number of {name}", verdict, count, finding)


def _influence(estimator, given, inflation):
    """Cook's distances of groups, of models with one factor."""
    exact = isinstance(estimator._fitted, FittedMixed) and given is not None
    if not exact and inflation["inflation"].max() > COARSE:
        return UNKNOWN, np.nan, "features are too collinear for what the fit keeps of groups"
    if exact:
        X, y, groups, by_row = given
        table = cluster_influence(estimator, X, y, groups, **by_row)
    else:
        table = cluster_influence(estimator)
    distance = table["cooks_distance"]
    if not np.isfinite(distance).any():
        return UNKNOWN, np.nan, "the fit leaves nothing that a group could change"
    value, worst = float(distance.max()), distance.idxmax()
    many = int((distance >= DISTANCE[0]).sum())
    finding = f"without group {worst!s} the estimates move most: Cook's distance {value:.2g}"
    finding += f"; {many:,} groups above {DISTANCE[0]:g}. See cluster_influence" if many > 1 else ""
    return _judged(value, DISTANCE), value, finding


def _normality(estimator, given, random_state):
    """Lines on the normality of random effects, a coefficient each, where that takes little."""
    name = "normality of random effects"
    if estimator._fitted.separated:
        return [Line(name, UNKNOWN, np.nan, "the classes are separated")]
    rows = needs_rows(estimator)
    if rows and given is None:
        return [Line(name, UNKNOWN, np.nan, ROWS)]
    refits = rows or estimator._fitted.family.has_classes
    if refits and estimator.n_obs_ > CHEAP_ROWS:
        return [Line(name, UNKNOWN, np.nan, "takes many fits: call random_effects_normality")]
    how = {"n_simulations": SIMULATIONS, "random_state": random_state}
    try:
        if given is None or not rows:  # what the fit keeps is enough
            tests = random_effects_normality(estimator, **how)
        else:
            X, y, groups, by_row = given
            tests = random_effects_normality(estimator, X, y, groups, **by_row, **how)
    except ValueError as error:
        return [Line(name, UNKNOWN, np.nan, str(error))]
    lines = []
    for (term, coefficient), row in tests.iterrows():
        called, p = f"normality of {coefficient} | {term}", row["p_value"]
        if np.isnan(p):
            why = f"fewer than {FEWEST} groups" if row["n_groups"] < FEWEST else "the variance is 0"
            lines.append(Line(called, UNKNOWN, np.nan, why))
            continue
        shape = f"skewness {row['skewness']:+.2f}, excess kurtosis {row['excess_kurtosis']:+.2f}, p = {p:.2g}"
        finding = f"{shape}; fixed effects hold, predictions of extreme groups may not" if p < SIGNIFICANT else shape
        lines.append(Line(called, LOOK if p < SIGNIFICANT else OK, p, finding))
    return lines


# Residuals -------------------------------------------------------------------------------------------------------


def _residuals(estimator, given, random_state):
    """Whether quantile residuals are uniform: of all rows of linear mixed models, given their groups; else of rows
    of which no two are in one group, as residuals of one group are alike."""
    if given is None:
        return UNKNOWN, np.nan, ROWS
    residuals = _independent_residuals(estimator, given, random_state)
    residuals = residuals[np.isfinite(residuals)]
    test = stats.kstest(residuals, "uniform")
    departs = test.pvalue < SIGNIFICANT
    verdict = (PROBLEM if test.statistic >= DEPARTURE else LOOK) if departs else OK
    finding = f"Kolmogorov-Smirnov distance {test.statistic:.2g} of {len(residuals):,} residuals, p = {test.pvalue:.2g}"
    return verdict, test.pvalue, f"{finding}. See ResidualsDisplay" if departs else finding


def _spread(estimator, given, random_state):
    """Whether the size of residuals of measured outcomes depends on what is expected."""
    if given is None:
        return UNKNOWN, np.nan, ROWS
    residuals, expected = _independent_residuals(estimator, given, random_state, with_expected=True)
    there = np.isfinite(residuals)
    if np.ptp(expected[there]) == 0:
        return UNKNOWN, np.nan, "all rows have one expected outcome"
    test = stats.spearmanr(np.abs(residuals[there] - 0.5), expected[there])
    departs = test.pvalue < SIGNIFICANT and abs(test.statistic) >= SPREADS[0]
    verdict = _judged(abs(test.statistic), SPREADS) if departs else OK
    if isinstance(estimator._fitted, FittedMarginal) and estimator._fitted.cov_type != "naive":
        verdict = LOOK if departs else OK  # robust standard errors hold whatever it is
    what = f"their size and expected outcomes have the rank correlation {test.statistic:+.2f}, p = {test.pvalue:.2g}"
    return verdict, test.statistic, f"{what}. A transformed outcome, or weights, may help" if departs else what


def _sums(estimator, given, random_state):
    """Whether sums of outcomes by group lie among those that the model makes."""
    if given is None:
        return UNKNOWN, np.nan, ROWS
    X, y, groups, by_row = given
    name = estimator._fitted.factors[0].name
    residuals = quantile_residuals(estimator, X, y, groups, **by_row, by=name, random_state=random_state)
    test = stats.kstest(residuals, "uniform")
    verdict = (PROBLEM if test.statistic >= DEPARTURE else LOOK) if test.pvalue < SIGNIFICANT else OK
    finding = f"Kolmogorov-Smirnov distance {test.statistic:.2g} of {len(residuals):,} sums, p = {test.pvalue:.2g}"
    return verdict, test.pvalue, finding


def _is_of_counts(fitted):
    return fitted.formula is not None and fitted.formula.is_counts


def _overdispersion(estimator, given, random_state):
    """Whether counts of successes vary more around what is expected in their group than binomials do.

    Residuals that rows were fitted to vary less, so that the test, of their squares on the normal scale, is careful.
    """
    X, y, groups, by_row = given
    how = {"predict_effects": "posterior", "random_state": random_state}
    residuals = quantile_residuals(estimator, X, y, groups, **by_row, **how)
    squares = stats.norm.ppf(np.clip(residuals, 1e-12, 1 - 1e-12)) ** 2
    value, p = float(squares.mean()), float(stats.chi2.sf(squares.sum(), squares.size))
    verdict = OK if p >= SIGNIFICANT else _judged(value, (0.0, DISPERSION))
    finding = f"residuals of counts vary {value:.2f} times as much as binomial ones, p = {p:.2g}"
    return verdict, value, finding + (". A random effect of each line would take it up" if verdict != OK else "")


def _independent_residuals(estimator, given, random_state, with_expected=False):
    """Quantile residuals that are nearly independent, and what was expected of their rows."""
    X, y, groups, by_row = given
    fitted, how = estimator._fitted, {}
    if fitted.factors and not fitted.family.has_classes:
        how["predict_effects"] = "posterior"
    elif estimator.n_groups_:
        X, y, groups, by_row = _one_row_a_group(estimator, given, random_state)
    residuals = quantile_residuals(estimator, X, y, groups, **by_row, **how, random_state=random_state).to_numpy()
    if not with_expected:
        return residuals
    X, groups, offset = estimator._complete_rows(X, groups, by_row["offset"])
    return residuals, estimator.predict(X, groups if fitted.factors else None, offset=offset)


def _one_row_a_group(estimator, given, random_state):
    """The rows of a fit, or its lines of counts, one drawn from each group of the first factor."""
    X, y, groups, by_row = given
    fitted = estimator._fitted
    X, y, groups, *by_row_values = estimator._complete_rows(X, y, groups, *by_row.values())
    by_row = dict(zip(by_row, by_row_values, strict=True))
    weights = by_row["sample_weight"]
    rows = estimator._read_new_rows(X, groups, **{name: by_row[name] for name in by_row if name != "sample_weight"})
    labels = fitted.factors[0].labels(rows.column) if fitted.factors else next(iter(rows.groups.values()))
    order = np.random.default_rng(random_state).permutation(len(rows.X))
    if weights is not None:
        order = order[np.asarray(weights)[order] > 0]
    _, first = np.unique(pd.factorize(np.asarray(labels))[0][order], return_index=True)
    mask = np.zeros(len(rows.X), dtype=bool)
    mask[order[first]] = True
    X, y, groups = (rows_where(mask, values) for values in (X, y, groups))
    return X, y, groups, {name: rows_where(mask, values) for name, values in by_row.items()}
