"""
Patients of many doctors: a random slope, in pictures
=====================================================

Does a longer stay in hospital go with remission? Patients share doctors, and doctors differ: in how their patients
fare, and in what a further day means for them. The data are simulated, so that estimates can be held against the
truth. Pictures go to the folder ``pictures``.
"""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from scipy.special import expit

from sklmm import CoefficientDisplay, EffectDisplay, GroupCurvesDisplay, MixedLogisticRegression, RandomEffectsDisplay

matplotlib.use("agg")  # pictures are written, not shown
pictures = Path("pictures")
pictures.mkdir(exist_ok=True)


# %%
# The data
# --------
# 60 doctors with 20 to 80 patients each. The level of a doctor and the effect of a day have standard deviations of 1.0
# and 0.3 between doctors, and a correlation of -0.3.

rng = np.random.default_rng(2024)
truth = {"stay": -0.25, "stage": -0.5, "experience": 0.06}
doctors = pd.DataFrame({"experience": rng.normal(18, 4, 60).round()}, index=[f"{k:02}" for k in range(1, 61)])
effects = rng.multivariate_normal([0, 0], [[1.0, -0.3 * 0.3], [-0.3 * 0.3, 0.3**2]], size=60)

who = np.repeat(np.arange(60), rng.integers(20, 81, size=60))
patients = pd.DataFrame(
    {
        "doctor": doctors.index[who],
        "stay": rng.gamma(8, 0.7, size=who.size).round(1),
        "stage": rng.choice(["I", "II", "III", "IV"], p=[0.3, 0.4, 0.2, 0.1], size=who.size),
        "experience": doctors["experience"].to_numpy()[who],
    }
)
logit = (
    0.3
    + truth["stay"] * (patients["stay"] - 5.6)
    + truth["stage"] * patients["stage"].map({"I": 0, "II": 1, "III": 2, "IV": 3})
    + truth["experience"] * (patients["experience"] - 18)
    + effects[who, 0]
    + effects[who, 1] * (patients["stay"] - 5.6)
)
patients["remission"] = np.where(rng.random(who.size) < expit(logit), "yes", "no")
share = np.mean(patients["remission"] == "yes")
print(f"{len(patients):,} patients of {len(doctors)} doctors; {share:.0%} in remission")


# %%
# The model
# ---------
# Days are counted from 5.6, about the mean, so that the random intercept is a doctor's level for an average stay.

patients["days"] = patients["stay"] - 5.6
model = MixedLogisticRegression.from_formula(
    "remission ~ days + stage + I(experience - 18) + (1 + days | doctor)", patients
)
print()
print(model.summary())
covariance = model.covariance_["doctor"]
slope, sd = model.coef_[0, model.vcov_.index.get_loc("days") - 1], np.sqrt(covariance.loc["days", "days"])
print(f"\nA further day: {slope:.2f} on average (truth -0.25), sd {sd:.2f} between doctors (truth 0.30)")


# %%
# One curve a doctor
# ------------------
# Some doctors' patients fare better the longer they stay. The black line is the average over doctors.

display = GroupCurvesDisplay.from_estimator(model, patients, "days", at={"stage": "II"})
display.ax_.set_title("Remission by length of stay: one curve a doctor")
display.ax_.set_xlabel("days in hospital, less 5.6")
display.figure_.savefig(pictures / "doctors_curves.png")

most = patients["doctor"].value_counts().index[:4]
display = GroupCurvesDisplay.from_estimator(model, patients, "days", groups=list(most), at={"stage": "II"})
display.ax_.set_title("The four doctors with the most patients")
display.figure_.savefig(pictures / "doctors_four.png")


# %%
# Levels, slopes, odds ratios, probabilities

for coefficient in ("intercept", "days"):
    display = RandomEffectsDisplay.from_estimator(model, coefficient=coefficient)
    display.figure_.savefig(pictures / f"doctors_{coefficient}.png")
display = CoefficientDisplay.from_estimator(model)
display.ax_.set_title("Odds ratios of remission")
display.figure_.savefig(pictures / "doctors_odds_ratios.png")
display = EffectDisplay.from_estimator(model, patients, "stage")
display.ax_.set_title("Remission by stage, averaged over doctors")
display.figure_.savefig(pictures / "doctors_stage.png")


# %%
# What a doctor's next patient may expect
# ---------------------------------------
# The interval of a known doctor allows for what is not known about the doctor; that of a new one for all doctors
# there may be.

patient = pd.DataFrame({"days": 0.0, "stage": "II", "experience": 18.0, "doctor": [*most[:2], "new"]})
limits = model.predict_interval(patient)
print("\nA patient at stage II, staying 5.6 days: probability of remission, 95 % interval")
for doctor, p, (lower, upper) in zip(patient["doctor"], model.predict_proba(patient)[:, 1], limits, strict=True):
    print(f"  doctor {doctor:<4} {p:.2f} ({lower:.2f} to {upper:.2f})")
print(f"\nPictures are in {pictures.resolve()}")
