"""What pictures, average effects and resampled calibration cost, once a model is fitted.

    OMP_NUM_THREADS=1 python benchmarks/pictures.py

prints two Markdown tables of processor time in seconds, the least of three runs. Models are fitted to 4,000 rows with
400 groups, or with 300 and 40 crossed ones; the features are like those of contraception, as a formula or, where it
says "frame", as columns of numbers. Partial dependence is scikit-learn's, with its default grid of 100 values, of 10 x
10 for a pair; of individual curves it draws 1,000, which alone takes about half a second. Calibration slopes are those
of 1,000 resamples of 1,600 groups with 27,000 rows.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.inspection import PartialDependenceDisplay

from sklmm import (
    EffectDisplay,
    GEELinearRegression,
    GEELogisticRegression,
    GroupCurvesDisplay,
    MixedLinearRegression,
    MixedLogisticRegression,
    estimated_means,
)
from sklmm.accuracy.resampling import resample_metrics

FIXED = "age + I(age**2) + livch + urban + educ"


def rows(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"district": 400, "doctor": 300, "ward": 40}
    frame = pd.DataFrame(
        {
            "age": rng.normal(scale=8, size=n),
            "urban": rng.choice(["N", "Y"], n),
            "livch": rng.choice(["0", "1", "2", "3+"], n),
            "educ": rng.integers(0, 18, n).astype(float),
            **{name: rng.integers(size, size=n) for name, size in sizes.items()},
        }
    )
    eta = 0.03 * frame["age"] - 0.0005 * frame["age"] ** 2 + 0.5 * (frame["urban"] == "Y") + (frame["livch"] != "0") - 1
    for name, size in sizes.items():
        eta += rng.normal(scale=0.6, size=size)[frame[name]]
        frame[name] = frame[name].map((name + " {:03}").format)
    return frame.assign(use=(rng.random(n) < expit(eta)).astype(int), score=eta + rng.normal(size=n))


def models(frame):
    """Fitted models and their rows by name."""
    logistic, linear = MixedLogisticRegression.from_formula, MixedLinearRegression.from_formula
    crossed = "(1 | doctor) + (1 | ward)"
    numbers = frame[["age", "educ", "district"]].assign(urban_Y=(frame["urban"] == "Y").astype(float))
    yield "logistic, Laplace", logistic(f"use ~ {FIXED} + (1 | district)", frame), frame
    yield "logistic, quadrature", logistic(f"use ~ {FIXED} + (1 | district)", frame, n_quadrature=8), frame
    yield "logistic, slopes", logistic(f"use ~ {FIXED} + (1 + age | district)", frame), frame
    yield (
        "logistic, slopes, quadrature",
        logistic(f"use ~ {FIXED} + (1 + age | district)", frame, n_quadrature=5),
        frame,
    )
    yield "logistic, crossed", logistic(f"use ~ {FIXED} + {crossed}", frame), frame
    yield "logistic, frame", MixedLogisticRegression(group_features="district").fit(numbers, frame["use"]), numbers
    yield "linear", linear(f"score ~ {FIXED} + (1 | district)", frame), frame
    yield "linear, crossed", linear(f"score ~ {FIXED} + {crossed}", frame), frame
    yield "GEE, logistic", GEELogisticRegression.from_formula(f"use ~ {FIXED}", frame, groups="district"), frame
    yield "GEE, linear", GEELinearRegression.from_formula(f"score ~ {FIXED}", frame, groups="district"), frame


def tasks(model, X):
    draw, by = PartialDependenceDisplay.from_estimator, "urban" if "urban" in X else "urban_Y"
    yield "partial dependence", lambda: draw(model, X, ["age"])
    yield "of a pair", lambda: draw(model, X, [("age", "educ")], grid_resolution=10)
    yield "individual", lambda: draw(model, X, ["age"], kind="individual")
    groups = hasattr(model, "random_effects_")
    yield "group curves", (lambda: GroupCurvesDisplay.from_estimator(model, X, "age")) if groups else None
    yield "effect", lambda: EffectDisplay.from_estimator(model, X, "age", by=by)
    yield "average effects", lambda: model.average_marginal_effects(X)
    yield "estimated means", lambda: estimated_means(model, X, by)


def seconds(task):
    if task is None:
        return ""
    spent = []
    for _ in range(3):
        start = time.process_time()
        task()
        spent.append(time.process_time() - start)
        plt.close("all")
    return f"{min(spent):.2f}"


def calibration():
    """Slopes of predictions that are right, and of those that are each group's share of the other rows."""
    for shape in (1.2, 0.5):
        rng = np.random.default_rng(0)
        share = rng.pareto(shape, 1600) + 0.01
        group = rng.choice(1600, 27_000, p=share / share.sum())
        p = expit(rng.normal(size=27_000) + 2 * rng.normal(size=1600)[group])
        y = (rng.random(27_000) < p).astype(int)
        n, ones = np.bincount(group)[group], np.bincount(group, y)[group]
        shares = np.clip((ones - y + 1e-6) / (n - 1 + 2e-6), 1e-9, 1 - 1e-9)
        for name, predicted in (("right", p), ("shares", shares)):
            what = f"{name}, {100 * np.bincount(group).max() / 27_000:.0f} % of the rows in one group"
            yield what, seconds(
                lambda predicted=predicted, y=y, group=group: resample_metrics(
                    y, {"a": predicted}, group, metrics="calibration slope", random_state=0
                )
            )


def main():
    plt.switch_backend("agg")
    warnings.simplefilter("ignore")
    head = None
    for name, model, X in models(rows()):
        found = {task: seconds(run) for task, run in tasks(model, X)}
        if head is None:
            head = ["seconds", *found]
            print("|", " | ".join(head), "|\n|" + "---|" * len(head), flush=True)
        print("|", " | ".join([name, *found.values()]), "|", flush=True)
    print("\n| calibration slope of 1,000 resamples | seconds |\n|---|---|")
    for name, spent in calibration():
        print(f"| {name} | {spent} |", flush=True)


if __name__ == "__main__":
    main()
