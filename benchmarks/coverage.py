"""How often 95 % intervals cover the truth: simulated fits, Wald and profile intervals.

    python benchmarks/coverage.py [--fits 1000] [--groups 200] [--jobs 1] [--linear | --means]

prints a Markdown table: of each design and parameter the share of intervals that hold the truth, in percent. 1,000 fits
tell it to 1.4 percentage points (two standard errors). With --linear it is about linear models: how many new outcomes
their 90 % intervals hold, and how many true hypotheses about groups Satterthwaite's test rejects. With --means it is
about contrasts of a factor's estimated means, and how often Tukey's method rejects any of six true hypotheses.
"""

import argparse
import time
import warnings

import joblib
import numpy as np
import pandas as pd
from scipy import special

from sklmm import (
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    estimated_means,
)
from sklmm.datasets import make_clustered_classification, make_clustered_regression
from sklmm.exceptions import ConvergenceWarning, SingularFitWarning

COEF, INTERCEPT, SD = [0.5, -0.5, 0.0], -0.5, [1.0, 0.5]

# name -> rows of a group, random effects, nodes
DESIGNS = {
    "20 rows a group, random intercept, Laplace": (20, "1 | group", 1),
    "20 rows a group, random slope, Laplace": (20, "1 + x0 | group", 1),
    "5 rows a group, random intercept, Laplace": (5, "1 | group", 1),
    "5 rows a group, random intercept, 9 nodes": (5, "1 | group", 9),
}


def truth(random_effects):
    """True values by the names of the intervals."""
    values = {"intercept": INTERCEPT, "x0": COEF[0], "x1": COEF[1], "x2": COEF[2], "sd_intercept|group": SD[0]}
    if "x0" in random_effects:
        values |= {"sd_x0|group": SD[1], "cor_x0.intercept|group": 0.0}
    return values


def one_fit(seed, n_groups, rows, random_effects, n_quadrature):
    """Whether each interval covers: Wald's, then the profile's; NaN where there is no interval."""
    slope = "x0" in random_effects
    covariance = np.diag(np.square(SD)) if slope else SD[0] ** 2
    X, y, groups = make_clustered_classification(
        rows * n_groups, 3, n_groups=n_groups, coef=COEF, intercept=INTERCEPT, covariance=covariance, random_state=seed
    )
    model = MixedLogisticRegression(random_effects, n_quadrature=n_quadrature, n_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y, groups=groups)
        intervals = [model.conf_int(), model.conf_int(method="profile", X=X, y=y, groups=groups)]
    covered = []
    for table in intervals:
        for name, value in truth(random_effects).items():
            lower, upper = table.loc[name] if name in table.index else (np.nan, np.nan)
            covered.append(np.nan if np.isnan(lower + upper) else lower <= value <= upper)
    return covered


# of linear models: groups, rows of a group, random effects
PREDICTED = [(100, 5, "1 | group"), (100, 5, "1 + x0 | group"), (10, 5, "1 | group"), (10, 5, "1 + x0 | group"),
             (10, 20, "1 | group")]  # fmt: skip


def one_prediction(seed, n_groups, rows, random_effects):
    """Shares of new outcomes within their 90 % intervals: two more rows of each group, and as many groups again."""
    n = 2 * n_groups * (rows + 2)
    covariance = [[1.0, 0.0], [0.0, 0.25]] if "x0" in random_effects else 1.0
    X, y, groups = make_clustered_regression(
        n, 2, n_groups=2 * n_groups, coef=[1.0, 0.5], covariance=covariance, shuffle=False, random_state=seed
    )
    place = np.arange(n) - np.searchsorted(groups, groups)  # of a row in its group
    fitted = (groups < n_groups) & (place < rows)
    model = MixedLinearRegression(random_effects, n_threads=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model.fit(X[fitted], y[fitted], groups[fitted])
    inside = []
    for asked in ((groups < n_groups) & ~fitted, groups >= n_groups):
        ends = model.predict_interval(X[asked], groups[asked], level=0.9, kind="observation")
        inside.append(np.mean((ends[:, 0] <= y[asked]) & (y[asked] <= ends[:, 1])))
    return inside


def one_test(seed, n_groups=10, rows=8):
    """p-value of a feature of the groups that has no effect, where groups vary as much as the rows in them."""
    random, groups = np.random.default_rng(seed), np.repeat(np.arange(n_groups), rows)
    X = random.normal(size=n_groups)[groups]
    y = random.normal(size=n_groups)[groups] + random.normal(size=groups.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return MixedLinearRegression(n_threads=1).fit(X[:, None], y, groups).wald_test("x0").p_value


def linear(options):
    parallel = joblib.Parallel(n_jobs=options.jobs)
    print(f"{options.fits:,} fits, new outcomes within their 90 % interval in %\n")
    print("| design | known groups | new groups |\n|---|---:|---:|")
    for design in PREDICTED:
        inside = parallel(joblib.delayed(one_prediction)(seed, *design) for seed in range(options.fits))
        known, new = 100 * np.mean(inside, axis=0)
        what = f"{design[0]} groups of {design[1]}, {'random slope' if 'x0' in design[2] else 'random intercept'}"
        print(f"| {what} | {known:.1f} | {new:.1f} |", flush=True)
    p = np.array(parallel(joblib.delayed(one_test)(seed) for seed in range(5 * options.fits)))
    shares = ", ".join(f"{100 * np.mean(p < level):.1f} % at {level:.0%}" for level in (0.1, 0.05, 0.01))
    print(f"\nSatterthwaite's test of a feature of 10 groups of 8 rejects {shares} of {len(p):,} true hypotheses")


def one_factor(seed, kind, effects, n_groups=60, rows=20):
    """Whether intervals of a factor's pairwise contrasts cover, one at a time, and the least of Tukey's p-values.

    The factor has four levels with these `effects`; what is true is averaged over the rows.
    """
    random, groups = np.random.default_rng(seed), np.repeat(np.arange(n_groups), rows)
    frame = pd.DataFrame({"x": random.normal(size=groups.size), "f": random.choice(list("abcd"), groups.size)})
    at = -0.5 + 0.5 * frame["x"].to_numpy()
    eta = at + np.asarray(effects)[frame["f"].map("abcd".index)] + random.normal(size=n_groups)[groups]
    logistic = kind is not MixedLinearRegression
    y = random.random(groups.size) < special.expit(eta) if logistic else eta + random.normal(size=groups.size)
    frame = frame.assign(y=y * 1.0, g=groups)
    formula = "y ~ x + f" + ("" if kind is GEELogisticRegression else " + (1 | g)")
    options = {"groups": "g"} if kind is GEELogisticRegression else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        means = estimated_means(kind.from_formula(formula, frame, n_threads=1, **options), frame, "f")
    nodes, weights = np.polynomial.hermite_e.hermegauss(40) if logistic else ([0.0], [1.0])
    averages = [(at + effect)[:, None] + nodes for effect in effects]
    averages = [((special.expit(each) if logistic else each) @ weights).mean() / np.sum(weights) for each in averages]
    true = [averages[j] - averages[i] for i in range(4) for j in range(i + 1, 4)]
    alone = means.contrasts(adjust="none")
    return alone["lower"].le(true) & alone["upper"].ge(true), means.contrasts(adjust="tukey")["p_value"].min()


def means(options):
    parallel = joblib.Parallel(n_jobs=options.jobs)
    print("| model | contrasts covered by 95 % intervals | any of 6 true hypotheses rejected |\n|---|---:|---:|")
    for kind in (MixedLogisticRegression, GEELogisticRegression, MixedLinearRegression):
        ask = joblib.delayed(one_factor)
        covered = [each for each, _ in parallel(ask(seed, kind, [0, 0.5, 1, -0.5]) for seed in range(options.fits))]
        least = [p for _, p in parallel(ask(seed, kind, [0] * 4) for seed in range(options.fits))]
        shares = ", ".join(f"{100 * share:.1f}" for share in np.mean(covered, axis=0))
        print(f"| {kind.__name__} | {shares} | {100 * np.mean(np.less(least, 0.05)):.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--linear", action="store_true")
    parser.add_argument("--means", action="store_true")
    options = parser.parse_args()
    if options.linear:
        return linear(options)
    if options.means:
        return means(options)
    print(f"{options.fits:,} fits of {options.groups} groups, coverage of 95 % intervals in %\n")
    print("| design | parameter | Wald | profile |\n|---|---|---:|---:|")
    began, n_missing = time.perf_counter(), 0
    for name, design in DESIGNS.items():
        parallel = joblib.Parallel(n_jobs=options.jobs)
        covered = parallel(joblib.delayed(one_fit)(seed, options.groups, *design) for seed in range(options.fits))
        covered = np.array(covered, dtype=float)
        n_missing += int(np.isnan(covered[:, covered.shape[1] // 2 :]).any(axis=1).sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # parameters without a Wald interval
            shares = 100 * np.nanmean(covered, axis=0).reshape(2, -1)
        for parameter, wald, profile in zip(truth(design[1]), *shares, strict=True):
            cells = ["-" if np.isnan(share) else f"{share:.1f}" for share in (wald, profile)]
            print(f"| {name} | {parameter.replace('|', ' of ')} | {cells[0]} | {cells[1]} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; {n_missing} fits had a profile end that was not found")


if __name__ == "__main__":
    main()
