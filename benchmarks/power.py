"""Power by simulation: what `power` finds, against studies made by hand; and what it costs.

    python benchmarks/power.py --studies 2000

prints two Markdown tables. By hand: outcomes are drawn here, with NumPy alone, from the parameters of a model fitted to
contraception (1,934 women, 60 districts); the model is fitted to each study from scratch by `fit`, and tested by
`wald_test`. The difference is in units of its Monte Carlo error. Time: wall time of 1,000 refits, start included.
"""

import argparse
import time
import warnings

import numpy as np
from scipy.special import expit

from sklmm import MixedLogisticRegression, power
from sklmm.datasets import load_contraception
from sklmm.exceptions import SklmmWarning

QUESTIONS = (
    ("age, as estimated", "1 | district", "age", {}),
    ("urban = 0.25", "1 | district", "urban", {"urban": 0.25}),
    ("no effect of urban", "1 | district", "urban", {"urban": 0.0}),
    ("urban = 0.4, a random slope", "1 + urban | district", "urban", {"urban": 0.4}),
)


def rows():
    X, y, district = load_contraception(return_X_y=True, as_frame=True)
    X = X.assign(urban=X["urban"] == "Y", ch=X["ch"] == "Y")[["age", "urban", "ch"]].astype(float)
    return X, y, district


def by_hand(model, test, effects, X, district, n_studies, seed):
    """The share of studies that reject."""
    rng, code = np.random.default_rng(seed), np.unique(district, return_inverse=True)[1]
    beta = dict(zip(X.columns, model.coef_[0], strict=True)) | effects
    fixed = model.intercept_[0] + X.to_numpy() @ np.array(list(beta.values()))
    covariance = model.covariance_["district"].to_numpy()
    Z = np.column_stack([np.ones(len(X)), X["urban"]])[:, : len(covariance)]
    again, rejected = MixedLogisticRegression(model.random_effects, n_threads=1), 0
    for _ in range(n_studies):
        b = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=code.max() + 1)
        drawn = rng.random(len(X)) < expit(fixed + (Z * b[code]).sum(axis=1))
        rejected += again.fit(X, drawn, groups=district).wald_test(test).p_value < 0.05
    return rejected / n_studies


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", SklmmWarning)
    X, y, district = rows()
    n = arguments.studies
    print(f"| {n:,} studies each | power | by hand | difference / error |\n|---|---:|---:|---:|")
    for name, terms, test, effects in QUESTIONS:
        model = MixedLogisticRegression(terms, n_threads=1).fit(X, y, groups=district)
        found = power(model, test, X, y, district, effects=effects, n_simulations=n, random_state=0)
        ours, theirs = found.table["power"].iloc[0], by_hand(model, test, effects, X, district, n, 1)
        share = (ours + theirs) / 2
        error = np.sqrt(2 * share * (1 - share) / n)
        print(f"| {name} | {ours:.4f} | {theirs:.4f} | {(ours - theirs) / error:.2f} |", flush=True)
    model = MixedLogisticRegression("1 | district", n_threads=1).fit(X, y, groups=district)
    print("\n| processes | wall time of 1,000 studies, s |\n|---|---:|")
    for jobs in sorted({1, arguments.jobs}):
        began = time.perf_counter()
        power(model, "age", X, y, district, n_simulations=1000, random_state=0, n_jobs=jobs)
        print(f"| {jobs} | {time.perf_counter() - began:.1f} |", flush=True)


if __name__ == "__main__":
    main()
