"""How often 95 % intervals cover the truth: simulated fits, Wald and profile intervals.

    python benchmarks/coverage.py [--fits 1000] [--groups 200] [--jobs 1]

prints a Markdown table: of each design and parameter the share of intervals that hold the truth, in percent. 1,000 fits
tell it to 1.4 percentage points (two standard errors).
"""

import argparse
import time
import warnings

import joblib
import numpy as np

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
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
