"""
How much slower do we react without sleep? A linear mixed model, step by step
==============================================================================

18 persons slept three hours a night; their reaction times were measured on ten days (Belenky et al., 2003). Persons
differ, in how fast they react and in how much they suffer. A linear mixed model estimates the average, how much persons
differ, and each person's own line; it predicts for persons it knows and for new ones, and says how sure it is.

Give a folder as an argument to get the accuracy report as an HTML page, too: ``python sleepstudy.py reports/``
"""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from sklmm import GEELinearRegression, MixedLinearRegression, accuracy_report, likelihood_ratio_test
from sklmm.datasets import load_sleepstudy


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


def say(text):
    print("\n" + textwrap.fill(text, 100))


# %%
# The model
# ---------
# A line for each person, about the average line. Both ends of the line may differ, and go together.

X, reaction, person = load_sleepstudy(return_X_y=True, as_frame=True)
model = MixedLinearRegression("1 + Days | Subject").fit(X, reaction, groups=person)

heading("Reaction time by days without sleep")
print(model.summary())
spread = np.sqrt(np.diag(model.covariance_["Subject"]))
say(
    f"A day costs {model.coef_[0]:.1f} milliseconds on average. Persons differ: in their slopes by a standard deviation"
    f" of {spread[1]:.1f}, so that some hardly suffer and others suffer twice as much."
)


# %%
# Tests
# -----
# Do slopes differ at all? Variances cannot be negative, and the test knows: its distribution is a mixture. Standard
# errors of the average line need no model of the persons: those of estimating equations are nearly the same.

levels = MixedLinearRegression("1 | Subject").fit(X, reaction, groups=person)
gee = GEELinearRegression().fit(X, reaction, groups=person)

heading("Do slopes differ?")
slopes, days = likelihood_ratio_test(levels, model), model.wald_test("Days")
say(f"Slopes against none: {slopes.statistic:.1f}, {slopes.distribution}, p = {slopes.p_value:.1e}.")
say(f"The average slope: F = {days.statistic:.1f} with 1 and {days.df_resid:.1f} degrees of freedom.")
errors = {name: np.sqrt(fit.vcov_.loc["Days", "Days"]) for name, fit in
          {"the model with slopes": model, "with levels only": levels, "robust": gee}.items()}  # fmt: skip
say("Standard error of a day: " + ", ".join(f"{name} {error:.2f}" for name, error in errors.items()) + ".")
say(
    "Leave the slopes out, and the average slope looks twice as sure as it is: ten days of one person are then taken"
    " for ten independent witnesses of it."
)


# %%
# Persons it knows, and a new one
# -------------------------------
# Predicted for day 12, with 90 % intervals of a new measurement. For a new person the interval holds the spread
# between persons, too.

later = pd.DataFrame({"Days": [12.0, 12.0, 12.0]})
who = [308, 309, 999]
predicted = model.predict(later, groups=who)
limits = model.predict_interval(later, groups=who, level=0.9, kind="observation")

heading("Day 12")
table = {"reaction": predicted, "from": limits[:, 0], "to": limits[:, 1]}
table = pd.DataFrame(table, index=["person 308", "person 309", "a new person"])
print(table.to_string(float_format="{:.0f}".format))


# %%
# A new person after three days
# -----------------------------
# A few measurements tell who the new person is like. The fit stays as it is.

first_days = pd.DataFrame({"Days": [0.0, 1.0, 2.0]})
seen = model.update_groups(first_days, [210.0, 212.0, 209.0], groups=[999, 999, 999], keep=True)
expected = seen.predict(later[:1], groups=[999])[0]
before, after = (
    fit.predict_interval(later[:1], groups=[999], level=0.9, kind="observation")[0] for fit in (model, seen)
)
heading("The new person after three measurements of about 210")
say(
    f"Day 12 is now expected at {expected:.0f} ({after[0]:.0f} to {after[1]:.0f}); before it was"
    f" {predicted[2]:.0f} ({before[0]:.0f} to {before[1]:.0f})."
)


# %%
# How well does it predict, and for whom?
# ---------------------------------------

report = accuracy_report(
    ["mixed", "gee", "pooled", "dummies", "separate"],
    X,
    reaction,
    groups=person,
    random_effects="1 + Days | Subject",
    scenarios=["new groups", "known groups", "updated groups"],
    random_state=0,
)
heading("Accuracy for new persons, known ones, and new ones after five days")
print(report)
known = report.summary.query("scenario == 'known groups' and metric == 'RMSE'").set_index("estimator")["estimate"]
known = known.map("{:.1f}".format)
say(
    f"For further days of known persons the mixed model is off by {known['mixed']} milliseconds, root mean square: less"
    f" than a line for each person fitted alone ({known['separate']}), a level for each ({known['dummies']}), and one"
    f" line for all ({known['pooled']})."
)
if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    report.save_html(folder / "sleepstudy.html", title="Reaction time without sleep")
