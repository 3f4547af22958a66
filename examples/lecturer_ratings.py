"""
Students rate lecturers: who gives the best lectures?
=====================================================

73,421 ratings by 2,972 students of 1,128 lecturers in 14 departments: students and lecturers are crossed factors.

The mean rating of a lecturer with ten ratings says little, and it depends on who rates.
The model gives students, lecturers and departments random intercepts of their own and estimates them together.
"""

from time import perf_counter

import numpy as np
import pandas as pd

from sklmm import MixedLinearRegression, MixedLogisticRegression
from sklmm.datasets import load_insteval


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


# %%
# The data
# --------
# A rating of 4 or 5 of 5 counts as good. The groups stay columns of X.

ratings, good, who = load_insteval(return_X_y=True, as_frame=True)
X = ratings.astype(float).join(who.rename(columns={"s": "student", "d": "lecturer"}))
GROUPS = ["student", "lecturer", "dept"]
heading("The data")
counts = X.groupby("lecturer").size()
print(f"{len(X):,} ratings, {good.mean():.0%} good; a lecturer has {counts.min()} to {counts.max()} of them.")


# %%
# Two models
# ----------
# The students are eliminated one by one, the lecturers and departments as one dense block: no matrix is as large as
# students x lecturers.

models = {}
for name, factors in {
    "students, lecturers": ["1 | student", "1 | lecturer"],
    "students, lecturers, departments": ["1 | student", "1 | lecturer", "1 | dept"],
}.items():
    began = perf_counter()
    models[name] = MixedLogisticRegression(factors, group_features=GROUPS).fit(X, good)
    print(f"{name}: log-likelihood {models[name].log_likelihood_:.2f}, AIC {models[name].aic_:.1f}, "
          f"{perf_counter() - began:.1f} s")  # fmt: skip
model = models["students, lecturers, departments"]
heading("With departments")
print(model.summary())


# %%
# The best and the worst
# ----------------------
# Raw means favour lecturers with few ratings: the extremes of many noisy numbers. The conditional modes are pulled
# towards the average by as much as they are uncertain.

effect = model.random_effects_["lecturer"]["intercept"]
sd = model.random_effects_sd_["lecturer"]["intercept"]
table = pd.DataFrame(
    {
        "ratings": counts,
        "share good": good.groupby(X["lecturer"]).mean(),
        "effect": effect,
        "sd": sd,
        "lower": effect - 1.96 * sd,
        "upper": effect + 1.96 * sd,
    }
).sort_values("effect")
heading("Lecturers, log-odds of a good rating against the average lecturer")
print(pd.concat([table.tail(5).iloc[::-1], table.head(5)]).to_string(float_format="{:.2f}".format))
clear = ((table["lower"] > 0) | (table["upper"] < 0)).sum()
print(f"\n{clear} of {len(table)} lecturers differ clearly from the average.")
by_mean = table["share good"].nlargest(20).index
print(
    f"Of the 20 with the best means, {np.isin(by_mean, effect.nlargest(20).index).sum()} are among the 20 best effects."
)


# %%
# A new student of a known lecturer
# ---------------------------------
# What is known of the lecturer is used with its uncertainty; the student is averaged over all students.

row = X.iloc[[0]]
best, worst = effect.idxmax(), effect.idxmin()
cases = pd.concat(
    [row.assign(student="new", lecturer=label) for label in (best, worst, "new")] + [row.assign(lecturer=best)]
)
names = [
    "new student, best lecturer",
    "new student, worst lecturer",
    "new student, new lecturer",
    "student 1, best lecturer",
]
heading("Probability of a good rating")
for name, p in zip(names, model.predict_proba(cases)[:, 1], strict=True):
    print(f"  {p:.3f}  {name}")


# %%
# Ratings as numbers
# ------------------
# Good or not throws away whether a rating was 1 or 3. The linear model takes the ratings from 1 to 5 as they are; its
# cross-products of one pass over the rows make it fast. Residuals of five values are not normal: means, effects and
# their order are well described, the tails of single ratings are not.

numbers = load_insteval(return_X_y=True, as_frame=True, target="y")[1]
began = perf_counter()
linear = MixedLinearRegression(["1 | student", "1 | lecturer", "1 | dept"], group_features=GROUPS).fit(X, numbers)
heading(f"Ratings from 1 to 5, {perf_counter() - began:.1f} s")
print(linear.summary())
of_numbers = linear.random_effects_["lecturer"]["intercept"]
print(f"\nLecturers' effects correlate {of_numbers.corr(effect):.3f} with those on the log-odds of a good rating.")
print(f"Of the 20 best, {np.isin(of_numbers.nlargest(20).index, effect.nlargest(20).index).sum()} are the same.")

mean, std = linear.predict(cases, return_std=True)
heading("Expected rating, and the standard deviation of a single one")
for name, m, s in zip(names, mean, std, strict=True):
    print(f"  {m:.2f} +- {s:.2f}  {name}")
