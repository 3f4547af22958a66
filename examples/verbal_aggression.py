"""
Persons x items: an explanatory item response model
===================================================

In the data of De Boeck and Wilson (2004) 316 persons say of 24 situations whether they would be verbally aggressive in
them. Each answer belongs to a person and to an item at once: two grouping factors that cross. In the language of item
response theory, the person's random intercept is the ability, the item's (with its sign changed) what is left of its
difficulty once its features are known.
"""

import numpy as np
import pandas as pd

from sklmm import MixedLogisticRegression
from sklmm.datasets import load_verbagg


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


# %%
# The data
# --------
# The features of an answer are those of the person (anger, gender) and of the item (behaviour, who is to blame, want or
# do).

answers, aggressive, who = load_verbagg(return_X_y=True, as_frame=True)

X = pd.DataFrame({"anger": answers["Anger"] - 20.0})  # from about the average
X["man"] = (answers["Gender"] == "M").astype(float)
X["scold"] = (answers["btype"] == "scold").astype(float)
X["shout"] = (answers["btype"] == "shout").astype(float)
X["self to blame"] = (answers["situ"] == "self").astype(float)
X["do"] = (answers["mode"] == "do").astype(float)
X = X.join(who)
FACTORS = list(who.columns)

heading("The data")
print(f"{who['id'].nunique()} persons x {who['item'].nunique()} items, {aggressive.mean():.0%} aggressive answers.")


# %%
# The model
# ---------
# A random intercept for every person and for every item. Laplace is the approximation for several factors; a person has
# 24 answers and an item 316, enough for it to be good.

model = MixedLogisticRegression(["1 | id", "1 | item"], group_features=FACTORS).fit(X, aggressive)
heading("Persons and items")
print(model.summary())

spread = {name: np.sqrt(table.loc["intercept", "intercept"]) for name, table in model.covariance_.items()}
print(
    f"\nPersons differ by a standard deviation of {spread['id']:.2f}, items of the same features by "
    f"{spread['item']:.2f}.\nDoing is rarer than wanting, shouting rarer than cursing, and self-blame makes for less "
    "aggression."
)


# %%
# Do items need their random effect?
# ----------------------------------
# Without it, the features of the items are taken to say everything about them. Their standard errors then forget that
# there are only 24 items.

persons = MixedLogisticRegression("1 | id", group_features=FACTORS).fit(X, aggressive)
compared = pd.DataFrame(
    {
        "log-likelihood": [persons.log_likelihood_, model.log_likelihood_],
        "AIC": [persons.aic_, model.aic_],
        "SE of shout": [np.sqrt(m.vcov_.loc["shout", "shout"]) for m in (persons, model)],
        "SE of man": [np.sqrt(m.vcov_.loc["man", "man"]) for m in (persons, model)],
    },
    index=["persons only", "persons and items"],
)
heading("With and without items")
print(compared.to_string(float_format="{:.3f}".format))


# %%
# Abilities and difficulties
# --------------------------
# Conditional modes with their standard deviations, given the estimates.

ability, sd = model.random_effects_["id"]["intercept"], model.random_effects_sd_["id"]["intercept"]
left = -model.random_effects_["item"]["intercept"]
heading("Extremes")
for label, word in ((ability.idxmin(), "least"), (ability.idxmax(), "most")):
    print(f"The {word} aggressive person for anger and gender: {label} ({ability[label]:+.2f}, sd {sd[label]:.2f})")
print(
    f"Easiest item for its features: {left.idxmin()} ({left.min():+.2f}); hardest: {left.idxmax()} ({left.max():+.2f})"
)


# %%
# New answers
# -----------
# What is known of the person or of the item is used; what is unknown is averaged over its distribution.

row = X.iloc[[0]].assign(id=ability.idxmax(), item="S1WantCurse")
cases = {
    "this person, this item": row,
    "a new person, this item": row.assign(id=0),
    "this person, a new item": row.assign(item="new"),
    "a new person, a new item": row.assign(id=0, item="new"),
}
heading("Probability of an aggressive answer")
for words, case in cases.items():
    print(f"  {model.predict_proba(case)[0, 1]:.3f}  {words}")


# %%
# A person joins
# --------------
# Twelve answers of somebody new place them among the others without a new fit. `update_groups` learns every level that
# occurs in the rows it is given from these rows alone; so that the items are not learnt anew from twelve answers, the
# model of persons is asked.

rng = np.random.default_rng(0)
questions = X[X["id"] == 1].sample(12, random_state=0).assign(id=0)
said = (rng.random(12) < 0.9).astype(int)
joined = persons.update_groups(questions, said)
heading("After twelve answers, ten or so of them aggressive")
print(f"The newcomer's ability: {joined.random_effects_['id'].loc[0, 'intercept']:+.2f}, "
      f"sd {joined.random_effects_sd_['id'].loc[0, 'intercept']:.2f}")  # fmt: skip
