"""
Pupils in schools: test scores, a random slope, and what a school adds
======================================================================

Pupils of a school share its teachers and its neighbourhood, so their scores are not independent. A linear multilevel
model says how a pupil's score follows from earlier attainment, how much schools differ, and what is known of each.

The data are simulated by `make_clustered_regression`, so that estimates can be held against the truth: no real school
is in them.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from sklmm import MixedLinearRegression, accuracy_report, likelihood_ratio_test
from sklmm.datasets import make_clustered_regression


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


# %%
# The data
# --------
# 2,000 pupils of 60 schools, some large and some small. Earlier attainment and hours of homework are standardised. A
# point of attainment is worth 5 points on average; schools differ in their level (sd 3) and in what attainment is worth
# (sd 1). The last column is the school's: whether it has a new building, which in truth matters not at all.

X, score, school, truth = make_clustered_regression(
    2000, 2, n_groups=60, coef=[5.0, 1.0], intercept=50.0, covariance=[[9.0, -1.0], [-1.0, 1.0]], noise=9.0,
    size_variation=0.6, random_state=1, return_truth=True,
)  # fmt: skip
building = np.random.default_rng(0).random(60) < 0.5
pupils = pd.DataFrame({"attainment": X[:, 0], "homework": X[:, 1], "building": building[school] * 1.0})
pupils = pupils.assign(school=[f"S{number:02}" for number in school], score=score)
known, later = train_test_split(pupils, test_size=0.3, random_state=0)
sizes = known["school"].value_counts()
print(f"{len(known):,} pupils of {len(sizes)} schools, {sizes.min()} to {sizes.max()} in each; {len(later)} kept back")


# %%
# What is wrong with least squares
# --------------------------------
# It takes pupils for independent, and so believes that it has seen a new building as often as there are pupils. The
# multilevel model knows that there are 60 schools: its degrees of freedom say so.

formula = "score ~ attainment + homework + building + (1 + attainment | school)"
model = MixedLinearRegression.from_formula(formula, known)
design = np.column_stack([np.ones(len(known)), known[["attainment", "homework", "building"]]])
pooled = LinearRegression().fit(design[:, 1:], known["score"])
residual = known["score"] - pooled.predict(design[:, 1:])
error = np.sqrt(np.linalg.inv(design.T @ design)[3, 3] * (residual @ residual) / (len(known) - 4))
row = model.summary().coefficients.loc["building"]
heading("A new building, whose true effect is 0")
print(f"least squares:    {pooled.coef_[2]:6.2f}, standard error {error:.2f}")
print(f"multilevel model: {row['estimate']:6.2f}, standard error {row['std_error']:.2f}, with {row['df']:.0f} df")


# %%
# The model
# ---------
# Standard deviations between schools and of pupils around their school's line, and whether lines differ in slope.

heading("The model")
print(model.summary())
sd = np.sqrt(np.diag(model.covariance_["school"]))
print(
    f"\nLevels of schools: sd {sd[0]:.2f} (truth 3.00), slopes: {sd[1]:.2f} (1.00), residual: {model.sigma_:.2f} (9.00)"
)
parallel = MixedLinearRegression.from_formula(formula.replace("1 + attainment |", "1 |"), known)
test = likelihood_ratio_test(parallel, model)
print(f"Do slopes differ? Likelihood ratio {test.statistic:.1f}, p = {test.p_value:.2g}")


# %%
# What a school adds
# ------------------
# The expected score of an average pupil in each school. Least squares and the mean residual of the school's pupils are
# noisy where it has few. The model pulls schools towards the average by as much as they are uncertain, which brings
# small ones closer to the truth.

schools = pd.DataFrame({"attainment": 0.0, "homework": 0.0, "building": building * 1.0})
schools["school"] = [f"S{number:02}" for number in range(60)]
raw = pooled.predict(schools[["attainment", "homework", "building"]].to_numpy())
raw += residual.groupby(known["school"]).mean().loc[schools["school"]].to_numpy()
expected = truth.intercept + truth.random_effects[:, 0]
heading("An average pupil in each school: error against the truth (root mean square)")
for name, estimate in {"mean residual": raw, "multilevel model": model.predict(schools)}.items():
    few = sizes.loc[schools["school"]].to_numpy() < 15
    errors = (np.sqrt(np.mean((estimate - expected)[of] ** 2)) for of in (few, ~few))
    print("  {:.2f} in schools of under 15 pupils, {:.2f} in others".format(*errors), name, sep="  ")


# %%
# The next pupil
# --------------
# The standard deviation of a new score has the pupil's own part, and what is not known of the school: nothing is known
# of a new one. 90 % intervals hold some 90 % of the scores that were kept back.

case = pd.DataFrame(
    {"attainment": 0.0, "homework": 0.0, "building": 0.0, "school": [sizes.index[0], sizes.index[-1], "new"]}
)
mean, std = model.predict(case, return_std=True)
heading("An average pupil")
for name, m, s in zip(["largest school", "smallest school", "new school"], mean, std, strict=True):
    print(f"  {m:5.1f} +- {s:.2f}  {name}")
ends = model.predict_interval(later, level=0.9, kind="observation")
inside = np.mean((ends[:, 0] < later["score"]) & (later["score"] < ends[:, 1]))
print(f"{inside:.1%} of {len(later)} scores are within their 90 % interval")


# %%
# Is it worth it?
# ---------------
# For pupils of known schools it is: least squares knows no schools, and an indicator of each ("dummies") believes the
# small ones too much. For new schools the models are much alike.

report = accuracy_report(
    ["mixed", "pooled", "dummies"], pupils[["attainment", "homework", "building"]], pupils["score"],
    groups=pupils["school"], random_effects="1 | school", metrics=["RMSE", "R2"], n_resamples=200,
    random_state=0,
)  # fmt: skip
print()
print(report)
