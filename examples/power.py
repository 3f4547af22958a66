"""
How many clinics does a trial need? Power by simulation
=======================================================

A pilot study tells how much clinics differ and how patients fare. The trial is to randomise clinics, not patients, to
a new treatment. Its power is the share of simulated trials that find an effect: simulate from a model, fit, test,
count.
"""

import copy
import warnings

import numpy as np
import pandas as pd

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import SingularFitWarning

TRIALS = 100
FORMULA = "well ~ treated + severity + (1 | clinic)"

# %%
# The pilot: 30 clinics of 20 patients, half of the clinics with the treatment. It is too small to tell its effect, but
# shows how clinics differ.

X, well, clinic = make_clustered_classification(
    600, 2, n_groups=30, coef=[0.0, 0.4], intercept=-0.4, covariance=0.5, random_state=0
)
pilot = pd.DataFrame({"treated": clinic % 2.0, "severity": X[:, 1], "clinic": clinic, "well": well})
model = MixedLogisticRegression.from_formula(FORMULA, pilot)
sd = np.sqrt(model.covariance_["clinic"].iloc[0, 0])
print(f"Pilot: {well.mean():.0%} get well; the standard deviation between clinics is {sd:.2f} on the logit scale.")


# %%
# The model of the trial is the pilot's with the effect put in that is not to be missed: a treatment that multiplies the
# odds by 1.75. `simulate` draws the clinics of every trial anew.


def planned(odds_ratio):
    """The pilot's model with this effect of the treatment."""
    plan = copy.deepcopy(model)
    plan.coef_[0, 0] = np.log(odds_ratio)
    return plan


def power(plan, n_clinics, n_patients, rng):
    """Share of trials in which the treatment's p-value is below 0.05."""
    clinic = np.repeat(np.arange(n_clinics), n_patients)
    trial = pd.DataFrame({"treated": clinic % 2.0, "severity": rng.choice(pilot["severity"], clinic.size)})
    trial["clinic"] = clinic
    seed = int(rng.integers(2**31))
    found = 0
    for well in plan.simulate(trial, n=TRIALS, random_state=seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)  # clinics may happen to be alike
            fit = MixedLogisticRegression(n_threads=1).fit(trial[["treated", "severity"]], well, groups=clinic)
        found += fit.wald_test("treated").p_value < 0.05
    return found / TRIALS


rng = np.random.default_rng(0)
plan, sizes = planned(1.75), (15, 30)
table = pd.DataFrame(
    {
        f"{n_clinics} clinics": {f"{size} patients each": power(plan, n_clinics, size, rng) for size in sizes}
        for n_clinics in (20, 40, 80)
    }
)
print(f"\nPower to find an odds ratio of 1.75, from {TRIALS} simulated trials each:")
print(table.to_string(float_format="{:.2f}".format))
false = power(planned(1.0), 40, 30, rng)
print(f"A treatment that does nothing is 'found' to work in {false:.0%} of the trials with 40 clinics of 30 patients.")
print("More clinics help more than more patients in each: the treatment is the clinic's.")
