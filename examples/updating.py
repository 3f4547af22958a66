"""
Bayesian updating: half of the districts, then the other half
=============================================================

Today's posterior is tomorrow's prior. The survey of contraceptive use in Bangladesh comes from 60 districts. Say that
30 of them report first: their posterior is drawn, and becomes the prior of the other 30. Whoever waits for all 60 and
looks at them at once should arrive at the same place.
"""

import pandas as pd

from sklmm import MixedLogisticRegression, bayes_factor
from sklmm.datasets import load_contraception
from sklmm.priors import HalfStudentT, Normal

FORMULA = "use ~ age + I(age**2 / 100) + urban + ch + (1 | district)"
PRIORS = {"fixed": Normal(0, 2.5), "intercept": Normal(0, 5), "sd": HalfStudentT(3, 2.5)}

women = load_contraception(as_frame=True).frame
first = women[women["district"] % 2 == 0]
second = women[women["district"] % 2 == 1]


def posterior(rows, priors, formula=FORMULA):
    """The posterior of the model's parameters given these women."""
    model = MixedLogisticRegression.from_formula(formula, rows, n_quadrature=9)
    return model.posterior(rows, priors=priors, random_state=0)


# %%
# The first half, under weak priors; then the second, under what the first one said. `as_priors` is a joint density
# of coefficients, roots of standard deviations and correlations, close to normal, in the shape of the posterior.

early = posterior(first, PRIORS)
updated = posterior(second, early.as_priors())
at_once = posterior(women, PRIORS)

# %%
# Updated, and all at once: the same to a few hundredths of a standard deviation.

table = pd.concat(
    {name: found.summary()[["mean", "sd"]] for name, found in
     {"first half": early, "updated": updated, "all at once": at_once}.items()}, axis=1,
)  # fmt: skip
print(table.round(3).to_string())
shift = (updated.summary()["mean"] - at_once.summary()["mean"]) / at_once.summary()["sd"]
print(f"\nLargest difference of means: {shift.abs().max():.3f} posterior standard deviations.")

# %%
# What the posterior says in words that need no test.

print(f"\nP(urban women use it more often) = {at_once.probability('urban[T.Y] > 0'):.4f}")
print(f"P(districts' sd is between 0.3 and 0.7) = {at_once.probability('0.3 < sd_intercept|district < 0.7'):.3f}")

# %%
# Is the curve in age needed? The Bayes factor compares the two models with their priors: a parameter that the data do
# not ask for costs what its prior was spread over.

straight = posterior(women, PRIORS, "use ~ age + urban + ch + (1 | district)")
print(f"\n{bayes_factor(at_once, straight)}.")
