"""Small fits of every kind, and the numbers that they give: what must not move while code is moved.

``CASES`` maps a name to a function without arguments, which returns a dict of arrays. ``python tests/golden/make.py``
writes down what they give; `test_golden.py` compares.
"""

import warnings

import numpy as np
import pandas as pd

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedEffectEncoder,
    MixedLinearRegression,
    MixedLogisticRegression,
    accuracy_report,
    approximate_leave_group_out,
    cluster_influence,
    likelihood_ratio_test,
    quantile_residuals,
    random_effects_normality,
)

CASES = {}


def rows(n=600, n_groups=40, sd=1.0, slope_sd=0.6, seed=0):
    """A frame with two features, a binary outcome, crossed and nested groups, times within groups and counts."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, n_groups, n))
    item = rng.integers(0, 12, n)
    x, z = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    effect, slope, of_item = sd * rng.normal(size=n_groups), slope_sd * rng.normal(size=n_groups), rng.normal(size=12)
    eta = -0.4 + 0.8 * x - 0.5 * z + effect[group] + slope[group] * x + 0.5 * of_item[item]
    time = np.arange(n) - np.searchsorted(group, group)
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "y": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int),
            "group": group,
            "school": group // 5,
            "item": item,
            "time": time,
            "count": rng.integers(0, 4, n).astype(float),
        }
    )


FRAME = rows()
X, Y = FRAME[["x", "z"]], FRAME["y"]


def case(function):
    CASES[function.__name__] = function
    return function


def numbers(model):
    """What a fit gives."""
    found = {"coef": model.coef_, "intercept": model.intercept_, "vcov": model.vcov_}
    if hasattr(model, "random_effects_"):
        found |= {"log_likelihood": model.log_likelihood_, "aic": model.aic_, "bic": model.bic_, "icc": model.icc_}
        for name, table in model.covariance_.items():
            found[f"covariance {name}"] = table
            found[f"effects {name}"] = model.random_effects_[name].head(5)
            found[f"effects_sd {name}"] = model.random_effects_sd_[name].head(5)
        if isinstance(model, MixedLinearRegression):
            found["sigma"] = model.sigma_
    else:
        found |= {"qic": model.qic_, "cic": model.cic_, "quasi": model.quasi_likelihood_, "phi": model.dispersion_}
        found["alpha"] = np.ravel(model.working_correlation_)[:9]
    return found


def mixed(terms, groups, X=X, y=Y, weights=None, kind=MixedLogisticRegression, **parameters):
    by_row = {name: parameters.pop(name) for name in ("offset", "precision_weight") if name in parameters}
    return kind(terms, n_threads=1, **parameters).fit(X, y, groups=groups, sample_weight=weights, **by_row)


def add_mixed(name, *args, **kwargs):
    CASES[name] = lambda: numbers(mixed(*args, **kwargs))


def add_gee(name, correlation="exchangeable", frame=FRAME, **parameters):
    weights = parameters.pop("weights", None)

    kind, outcome = parameters.pop("kind", GEELogisticRegression), parameters.pop("outcome", "y")

    def fit():
        model = kind(correlation, n_threads=1, **parameters)
        time = frame["time"] if correlation != "independence" else None
        model.fit(frame[["x", "z"]], frame[outcome], groups=frame["group"], time=time, sample_weight=weights)
        return numbers(model)

    CASES[name] = fit


BY_GROUP = FRAME[["group"]]
MANY = rows(12_000, 900, seed=1)  # enough rows for samples of them
MIXED_UP = FRAME.sample(frac=1.0, random_state=3)

add_mixed("intercept laplace", None, BY_GROUP)
add_mixed("intercept quadrature 7", None, BY_GROUP, n_quadrature=7)
add_mixed("intercept quadrature auto", None, BY_GROUP, n_quadrature="auto")
add_mixed("intercept weights", None, BY_GROUP, weights=FRAME["count"].to_numpy())
add_mixed("intercept weights quadrature", None, BY_GROUP, weights=FRAME["count"].to_numpy(), n_quadrature=5)
add_mixed("intercept float32", None, BY_GROUP, X=X.to_numpy(dtype=np.float32))
add_mixed("intercept unsorted", None, MIXED_UP[["group"]], X=MIXED_UP[["x", "z"]], y=MIXED_UP["y"])
add_mixed("no fixed intercept", None, BY_GROUP, fit_intercept=False)
add_mixed("many rows laplace", None, MANY[["group"]], X=MANY[["x", "z"]], y=MANY["y"])
add_mixed("many rows quadrature", None, MANY[["group"]], X=MANY[["x", "z"]], y=MANY["y"], n_quadrature=9)
add_mixed("slopes correlated", "1 + x | group", BY_GROUP)
add_mixed("slopes uncorrelated", "1 + x || group", BY_GROUP)
add_mixed("slopes quadrature", "1 + x | group", BY_GROUP, n_quadrature=5)
add_mixed("slopes alone", "0 + x | group", BY_GROUP)
add_mixed("slopes many rows", "1 + x | group", MANY[["group"]], X=MANY[["x", "z"]], y=MANY["y"])
add_mixed("three coefficients", "1 + x + z | group", BY_GROUP)
add_mixed("product", "1 + x:z | group", BY_GROUP)
add_mixed("nested", ["1 | school", "1 | group"], FRAME[["school", "group"]])
add_mixed("nested many rows", ["1 | school", "1 | group"], MANY[["school", "group"]], X=MANY[["x", "z"]], y=MANY["y"])
add_mixed("nested weights", ["1 | school", "1 | group"], FRAME[["school", "group"]], weights=FRAME["count"].to_numpy())
add_mixed("nested slopes", ["1 + x | school", "1 | group"], FRAME[["school", "group"]])
add_mixed("crossed", ["1 | group", "1 | item"], FRAME[["group", "item"]])
add_mixed("crossed slopes", ["1 + x | group", "1 | item"], FRAME[["group", "item"]])
add_mixed("crossed three", ["1 | group", "1 | item", "1 | school"], FRAME[["group", "item", "school"]])

SHORT = FRAME[FRAME["time"] < 4]
for name in ("independence", "exchangeable", "ar1", "m-dependent"):
    add_gee(f"gee {name}", name)
add_gee("gee unstructured", "unstructured", frame=SHORT)
add_gee("gee many rows", frame=MANY)
add_gee("gee weights", weights=FRAME["count"].to_numpy())
add_gee("gee geepack", ddof_correction=False)
for name in ("naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"):
    add_gee(f"gee {name}", cov_type=name)

for link in ("probit", "cloglog"):
    add_mixed(f"{link} intercept", None, BY_GROUP, link=link)
    add_mixed(f"{link} quadrature", None, BY_GROUP, link=link, n_quadrature=7)
    add_mixed(f"{link} slopes", "1 + x | group", BY_GROUP, link=link)
    add_mixed(f"{link} nested", ["1 | school", "1 | group"], FRAME[["school", "group"]], link=link)
    add_mixed(f"{link} crossed", ["1 | group", "1 | item"], FRAME[["group", "item"]], link=link)
    add_gee(f"{link} gee", link=link)
add_mixed("cloglog of the first class", None, BY_GROUP, link="cloglog", positive=0)
add_mixed("offset", "1 + x | group", BY_GROUP, offset=FRAME["count"] / 2)

MEASURED = FRAME.assign(score=50.0 + 4.0 * FRAME["x"] + 3.0 * FRAME["y"] + np.sin(np.arange(len(FRAME))))
SCORE = {"y": MEASURED["score"], "kind": MixedLinearRegression}
add_mixed("linear intercept", None, BY_GROUP, **SCORE)
add_mixed("linear ml", None, BY_GROUP, method="ml", **SCORE)
add_mixed("linear weights", None, BY_GROUP, weights=FRAME["count"].to_numpy(), **SCORE)
add_mixed("linear precision", "1 + x | group", BY_GROUP, precision_weight=1.0 + FRAME["count"], **SCORE)
add_mixed("linear slopes", "1 + x | group", BY_GROUP, **SCORE)
add_mixed("linear uncorrelated", "1 + x || group", BY_GROUP, **SCORE)
add_mixed("linear nested", ["1 | school", "1 | group"], FRAME[["school", "group"]], **SCORE)
add_mixed("linear crossed", ["1 + x | group", "1 | item"], FRAME[["group", "item"]], **SCORE)
add_mixed("linear kenward-roger", "1 + x | group", BY_GROUP, df="kenward-roger", **SCORE)
for name in ("independence", "exchangeable", "ar1", "m-dependent"):
    add_gee(f"linear gee {name}", name, frame=MEASURED, kind=GEELinearRegression, outcome="score")


@case
def linear_models():
    rows = {"X": X, "y": MEASURED["score"], "groups": BY_GROUP}
    model, new = mixed("1 + x | group", BY_GROUP, **SCORE), FRAME.head(4).assign(group=[0, 1, 999, 0])
    wald = model.conf_int()
    mean, std = model.predict(new[["x", "z"]], groups=new[["group"]], return_std=True)
    return {
        "wald": wald,
        "summary": model.summary().coefficients.select_dtypes("number"),
        "profile": model.conf_int(method="profile", **rows),
        "bootstrap": model.conf_int(method="bootstrap", n_resamples=20, random_state=0, **rows),
        "robust": model.vcov("robust"),
        "predictions": [mean, std],
        "intervals": model.predict_interval(new[["x", "z"]], groups=new[["group"]]),
        "new": model.predict_interval(new[["x", "z"]], groups=new[["group"]], kind="observation"),
        "r2": [*model.r2_],
        "residuals": model.residuals(**rows, standardise="studentised")[:20],
        "influence": cluster_influence(model).head(10),
        "left out": approximate_leave_group_out(model, *rows.values()).expected[:10],
    }


@case
def plain_logistic_regression():
    return numbers(MixedLogisticRegression(n_threads=1).fit(X, Y))


@case
def predictions():
    model = mixed("1 + x | group", BY_GROUP)
    new = FRAME.head(8).assign(group=[0, 1, 2, 3, 999, 998, 0, 1])
    found = {
        effects: model.predict_proba(new[["x", "z"]], groups=new[["group"]], predict_effects=effects)
        for effects in ("posterior", "mode", "zero", "marginal")
    }
    found["interval"] = model.predict_interval(new[["x", "z"]], groups=new[["group"]])
    found["log"] = model.predict_log_proba(new[["x", "z"]], groups=new[["group"]])
    found["simulated"] = model.simulate(new[["x", "z"]], groups=new[["group"]], n=3, random_state=0)
    for keep in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            updated = model.update_groups(X[:40], Y[:40], groups=BY_GROUP[:40], keep=keep)
        found[f"updated {keep}"] = updated.predict_proba(X[:8], groups=BY_GROUP[:8])
    return found


@case
def predictions_of_an_intercept():
    model = mixed(None, BY_GROUP)
    return {
        "known": model.predict_proba(X[:20], groups=BY_GROUP[:20]),
        "new": model.predict_proba(X[:5], predict_effects="marginal"),
    }


@case
def predictions_of_crossed_factors():
    model = mixed(["1 | group", "1 | item"], FRAME[["group", "item"]])
    new = FRAME.head(6).assign(item=[0, 1, 2, 99, 0, 1], group=[0, 0, 99, 99, 1, 2])
    return {
        "posterior": model.predict_proba(new[["x", "z"]], groups=new[["group", "item"]]),
        "interval": model.predict_interval(new[["x", "z"]], groups=new[["group", "item"]]),
    }


@case
def inference_of_mixed_models():
    model, smaller = mixed("1 + x | group", BY_GROUP), mixed(None, BY_GROUP)
    test = likelihood_ratio_test(smaller, model)
    return {
        "wald": model.conf_int(),
        "profile": model.conf_int(method="profile", X=X, y=Y, groups=BY_GROUP),
        "bootstrap": model.conf_int(method="bootstrap", X=X, y=Y, groups=BY_GROUP, n_resamples=20, random_state=0),
        "robust": model.vcov("robust"),
        "test": model.wald_test(["x", "z"]).statistic,
        "ratio": [test.statistic, test.p_value],
        "odds": model.odds_ratios(),
        "marginal": model.marginal_coefficients()[["estimate", "std_error"]],
        "marginal of rows": model.marginal_coefficients(X)[["estimate", "std_error"]],
        "effects": model.average_marginal_effects(X)[["estimate", "std_error"]],
        "r2": [*model.r2_],
        "mor": model.median_odds_ratio_,
        "influence": cluster_influence(smaller).head(10),
        "left out": approximate_leave_group_out(smaller, X, Y, BY_GROUP).probabilities[:10],
        "residuals": quantile_residuals(model, X, Y, BY_GROUP, random_state=0)[:20],
    }


@case
def normality_of_random_effects():
    model = mixed(None, BY_GROUP)
    return {"table": random_effects_normality(model, n_simulations=19, random_state=0)}


@case
def inference_of_marginal_models():
    model = GEELogisticRegression(n_threads=1).fit(X, Y, groups=FRAME["group"])
    return {
        "wald": model.conf_int(),
        "effects": model.average_marginal_effects(X)[["estimate", "std_error"]],
        "test": model.wald_test(["x", "z"]).statistic,
        "bootstrap": model.conf_int(method="bootstrap", X=X, y=Y, groups=BY_GROUP, n_resamples=20, random_state=0),
        "influence": cluster_influence(model).head(10),
        "predictions": model.predict_proba(X[:5]),
    }


@case
def formulas():
    model = MixedLogisticRegression.from_formula("y ~ x * z + I(x ** 2) + (1 + x | group)", FRAME, n_threads=1)
    return numbers(model) | {"new": model.predict_proba(FRAME.head(5))}


@case
def encoding():
    encoder = MixedEffectEncoder(cv=3, random_state=0)
    table = FRAME[["group", "item"]].astype(str)
    return {"crossed": encoder.fit_transform(table, Y)[:10], "all": encoder.transform(table)[:10]}


@case
def accuracy():
    report = accuracy_report(
        ["mixed", "gee", "pooled"], X, Y, groups=FRAME["group"], cv=3, n_resamples=30, random_state=0
    )
    return {"scores": report.scores.drop(columns=["fit_time", "predict_time"]).select_dtypes("number")}


def run(name):
    """The numbers of a case as flat arrays of floats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CASES[name]()
    return {key: np.ravel(np.asarray(value, dtype=float)) for key, value in found.items()}
