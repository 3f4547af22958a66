"""Posteriors by importance sampling: calibration, accuracy and cost.

    python benchmarks/posterior.py calibration --designs 500
    python benchmarks/posterior.py accuracy --seeds 12
    python benchmarks/posterior.py time

calibration: data sets drawn from the prior; ranks of the true parameters among the draws, chi-squared against uniform
(Cook, Gelman and Rubin 2006), for 10 and for 40 groups, 15 nodes. accuracy: errors of posterior means over seeds, in
posterior standard deviations, against 32,768 points. time: 1,024 points in units of the model's fit, one thread.
"""

import argparse
import time
import warnings

import numpy as np
from scipy import stats
from scipy.special import expit

from sklmm import MixedLogisticRegression
from sklmm.datasets import load_bacteria, load_contraception
from sklmm.priors import HalfNormal, HalfStudentT, Normal

PRIORS = {"fixed": Normal(0, 2.5), "intercept": Normal(0, 5), "sd": HalfStudentT(3, 2.5)}
TRUTH = {"fixed": Normal(0, 1), "intercept": Normal(0, 1), "sd": HalfNormal(1.0)}
ROWS, BINS = 12, 10


def rank_of_truth(n_groups, rng):
    """Share of the posterior below the true intercept, slope and standard deviation, and the Pareto k."""
    while True:
        beta, sd = rng.normal(size=2), abs(rng.normal())
        groups = np.repeat(np.arange(n_groups), ROWS)
        X = rng.normal(size=(groups.size, 1))
        y = rng.random(groups.size) < expit(beta[0] + X[:, 0] * beta[1] + sd * rng.normal(size=n_groups)[groups])
        # of one class alone no model is fitted: a data set in thousands, which is drawn again
        if 0 < y.sum() < y.size:
            break
    model = MixedLogisticRegression(n_quadrature=15, n_threads=1).fit(X, y.astype(int), groups=groups)
    found = model.posterior(X, y.astype(int), groups, priors=TRUTH, random_state=int(rng.integers(2**31)))
    return *(found.points.weights @ (found.values < [*beta, sd])), found.pareto_k_


def calibration(n_designs):
    print("| groups | parameter | chi-squared p | lowest and highest bin |\n|---|---|---:|---|")
    for n_groups in (10, 40):
        rng = np.random.default_rng(n_groups)
        ranks = np.array([rank_of_truth(n_groups, rng) for _ in range(n_designs)])
        for name, column in zip(("intercept", "slope", "sd"), ranks.T, strict=False):
            counts = np.histogram(column, np.linspace(0.0, 1.0, BINS + 1))[0]
            p = stats.chisquare(counts).pvalue
            print(f"| {n_groups} | {name} | {p:.3f} | {counts.min()} to {counts.max()} of {n_designs / BINS:g} |")
        print(f"| {n_groups} | Pareto k | | 99 % below {np.quantile(ranks[:, -1], 0.99):.2f}, largest "
              f"{ranks[:, -1].max():.2f} |", flush=True)  # fmt: skip


def problems():
    """Name, rows and nodes of each."""
    women = load_contraception(as_frame=True).frame
    X = np.column_stack([women.age, women.age**2 / 100, women.urban == "Y", women.ch == "Y"]).astype(float)
    yield "contraception", X - X.mean(axis=0), women.use, women.district, 9
    children = load_bacteria(as_frame=True).frame
    X = np.column_stack([children.trt == "drug", children.trt == "drug+", children.week > 2]).astype(float)
    yield "bacteria", X, children.y, children.ID, 25
    for sd in (0.0, 0.4, 1.5):
        rng = np.random.default_rng(int(10 * sd))
        groups, X = np.repeat(np.arange(6), 20), rng.normal(size=(120, 1))
        y = rng.random(120) < expit(X[:, 0] + sd * rng.normal(size=6)[groups])
        yield f"6 groups of 20, sd {sd:g}", X, y.astype(int), groups, 15


def accuracy(n_seeds):
    print("| | rms error of means | largest | share of N | largest k | sd of log evidence |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, X, y, groups, nodes in problems():
        model = MixedLogisticRegression(n_quadrature=nodes, n_threads=1).fit(X, y, groups=groups)
        long = model.posterior(X, y, groups, priors=PRIORS, random_state=99, n_draws=32_768).summary()
        runs = [model.posterior(X, y, groups, priors=PRIORS, random_state=seed) for seed in range(n_seeds)]
        error = np.array([(run.summary()["mean"] - long["mean"]) / long["sd"] for run in runs])
        size, k = np.mean([run.effective_size_ for run in runs]) / 1024, max(run.pareto_k_ for run in runs)
        spread = np.std([run.log_evidence_ for run in runs])
        rms, largest = np.sqrt((error**2).mean()), np.abs(error).max()
        print(f"| {name} | {rms:.4f} | {largest:.3f} | {size:.2f} | {k:.2f} | {spread:.4f} |", flush=True)


def fastest(function, repetitions=9):
    """Seconds of the quickest of some calls."""
    found = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def cost():
    print("| contraception | fit, ms | 1,024 points, ms | fits |\n|---|---:|---:|---:|")
    _, X, y, groups, _ = next(problems())
    for nodes in (1, 9, 25):
        estimator = MixedLogisticRegression(n_quadrature=nodes, n_threads=1)
        fit = fastest(lambda model=estimator: model.fit(X, y, groups=groups))
        model = estimator.fit(X, y, groups=groups)
        points = fastest(lambda model=model: model.posterior(X, y, groups, priors=PRIORS, random_state=0), 5)
        print(f"| {nodes} nodes | {1e3 * fit:.1f} | {1e3 * points:.0f} | {points / fit:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["calibration", "accuracy", "time"])
    parser.add_argument("--designs", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=12)
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular fits, and the like: of random designs
        if arguments.what == "calibration":
            calibration(arguments.designs)
        elif arguments.what == "accuracy":
            accuracy(arguments.seeds)
        else:
            cost()


if __name__ == "__main__":
    main()
