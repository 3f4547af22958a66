"""Leave-one-group-out predictions: one Newton step a group against a refit without each group.

    python benchmarks/leave_group_out.py

prints a Markdown table: the log loss of both and of the fit's own rows, the correlation of the predictions, and the
time of the refits in units of the approximation's (median of repetitions, one thread).
"""

import time
import warnings

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import log_loss

from sklmm import GEELogisticRegression, MixedLogisticRegression, approximate_leave_group_out
from sklmm.datasets import load_contraception, load_ohio, make_clustered_classification
from sklmm.exceptions import SklmmWarning

REPETITIONS = 20


def problems():
    """Name, estimator and rows of each comparison."""
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    X = pd.DataFrame(
        {
            "age": X["age"],
            "age2": X["age"] ** 2 / 100,
            "urban": (X["urban"] == "Y").astype(float),
            "ch": (X["ch"] == "Y").astype(float),
        }
    )
    women = X, y, groups
    yield "contraception, 60 districts: random intercept", MixedLogisticRegression(n_threads=1), women
    yield "with a slope", MixedLogisticRegression("1 + urban | district", n_threads=1), women
    yield "with a slope, 5 nodes", MixedLogisticRegression("1 + urban | district", n_quadrature=5, n_threads=1), women
    yield "GEE", GEELogisticRegression(n_threads=1), women
    ohio = load_ohio(return_X_y=True, as_frame=True)
    yield "ohio, 537 children: 9 nodes", MixedLogisticRegression(n_quadrature=9, n_threads=1), ohio
    few = make_clustered_classification(2000, 3, n_groups=12, covariance=2.0, random_state=1)
    few = pd.DataFrame(few[0]), pd.Series(few[1]), pd.Series(few[2], name="group")
    yield "simulated, 12 groups, sd 1.4", MixedLogisticRegression(n_threads=1), few


def refits(estimator, X, y, groups):
    """Probabilities of each group's rows by a model that never saw it."""
    found = np.empty(len(y))
    for level in np.unique(groups):
        kept = (groups != level).to_numpy()
        model = clone(estimator).fit(X[kept], y[kept], groups=groups[kept])
        found[~kept] = model.predict_proba(X[~kept], groups=groups[~kept])[:, 1]
    return found


def main():
    print("| | one step | refits | own rows | correlation | refits' time |\n|---|---:|---:|---:|---:|---:|")
    for name, estimator, (X, y, groups) in problems():
        estimator.fit(X, y, groups=groups)
        seconds = []
        for _ in range(REPETITIONS):
            begin = time.process_time()
            left_out = approximate_leave_group_out(estimator, X, y, groups)
            seconds.append(time.process_time() - begin)
        begin = time.process_time()
        exact = refits(estimator, X, y, groups)
        ratio = (time.process_time() - begin) / np.median(seconds)
        how = {"predict_effects": "marginal"} if isinstance(estimator, MixedLogisticRegression) else {}
        own = estimator.predict_proba(X, groups=groups, **how)
        correlation = np.corrcoef(left_out.probabilities[:, 1], exact)[0, 1]
        losses = " | ".join(f"{log_loss(y, p):.4f}" for p in (left_out.probabilities, exact, own))
        print(f"| {name} | {losses} | {correlation:.5f} | {ratio:.0f} |")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SklmmWarning)
        main()
