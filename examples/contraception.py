"""
Who uses contraception? A multilevel logistic regression, step by step
======================================================================

In 1988-89 the Bangladesh Fertility Survey asked married women whether they used contraception. Women of one
district share a clinic, a market, a way of life: their answers are not independent. A mixed-effects logistic
regression gives each district a level of its own, drawn from a normal distribution whose width it estimates.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from sklmm import MixedLogisticRegression, accuracy_report
from sklmm.datasets import load_contraception


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


# %%
# The data
# --------
# The features become numbers. The district stays a column of X: the model is told its name and never uses it
# as a number, so the same X works wherever scikit-learn passes X on, as in cross-validation.

women, uses, district = load_contraception(return_X_y=True, as_frame=True)

X = pd.DataFrame({"age": women["age"], "age^2": women["age"] ** 2})
X["urban"] = (women["urban"] == "Y").astype(float)
for count in ["1", "2", "3+"]:
    X[f"{count} living"] = (women["livch"] == count).astype(float)
X["children"] = (women["ch"] == "Y").astype(float)
X["age:children"] = X["age"] * X["children"]
X["district"] = district

by_district = uses.groupby(district)
share, asked = by_district.mean(), by_district.size()
heading("The data")
print(f"{len(X)} women in {len(asked)} districts were asked; {uses.mean():.0%} use contraception.")
print(f"By district: {share.min():.0%} to {share.max():.0%}, with {asked.min()} to {asked.max()} women.")


# %%
# Five models
# -----------
# The first knows no districts: plain logistic regression. The others give each district its own intercept and
# differ in how age and children enter. AIC sets the log-likelihood against the number of parameters: smaller
# is better.

how_many = ["1 living", "2 living", "3+ living"]
features_of = {
    "pooled": ["age", "urban", *how_many],
    "districts": ["age", "urban", *how_many],
    "districts, age^2": ["age", "age^2", "urban", *how_many],
    "children yes/no": ["age", "age^2", "urban", "children"],
    "age x children": ["age", "age^2", "urban", "children", "age:children"],
}


def district_model():
    return MixedLogisticRegression("1 | district", group_features="district")


pooled_X = X[features_of["pooled"]]
# no penalty: maximum likelihood
pooled = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(pooled_X, uses)
log_likelihood = -log_loss(uses, pooled.predict_proba(pooled_X), normalize=False)
n_parameters = 1 + pooled_X.shape[1]
table = {"pooled": {"log-likelihood": log_likelihood, "AIC": 2 * n_parameters - 2 * log_likelihood}}

fitted = {}
for name, features in list(features_of.items())[1:]:
    fitted[name] = model = district_model().fit(X[[*features, "district"]], uses)
    variance = model.covariance_["district"].loc["intercept", "intercept"]
    table[name] = {
        "log-likelihood": model.log_likelihood_,
        "AIC": model.aic_,
        "district sd": np.sqrt(variance),
    }

table = pd.DataFrame(table).T
chosen = table["AIC"].idxmin()
model, features = fitted[chosen], features_of[chosen]
heading("Five models")
print(table.to_string(float_format="{:.2f}".format, na_rep="none"))
gain = table.loc["pooled", "AIC"] - table.loc["districts", "AIC"]
print(f"\nDistricts alone lower the AIC by {gain:.1f}. The smallest AIC: {chosen}.")


# %%
# The chosen model
# ----------------
# Coefficients are log-odds, `age` counts from the average age. Because of `age:children`, what children mean
# depends on age: a question to the model is a contrast, a weighted sum of coefficients, and `vcov_` gives its
# standard error.

heading(f"The chosen model: {chosen}")
print(model.summary())

coefficients = pd.Series([*model.intercept_, *model.coef_[0]], index=model.vcov_.index)


def odds_ratio(contrast):
    """Odds ratio and 95% confidence interval of a contrast, a dict from coefficient to weight."""
    weights = pd.Series(contrast).reindex(coefficients.index, fill_value=0.0)
    estimate, se = weights @ coefficients, np.sqrt(weights @ model.vcov_ @ weights)
    return np.exp([estimate, estimate - 1.96 * se, estimate + 1.96 * se])


heading("In words")
print(
    "Two women of the same district, alike but for one thing. The odds that the first uses contraception are"
)
for words, contrast in {
    "with children, against without; both of average age": {"children": 1},
    "with children, against without; both 10 years above it": {"children": 1, "age:children": 10},
    "in town, against in the country": {"urban": 1},
}.items():
    print("  {:4.2f} times ({:.2f} to {:.2f})  {}".format(*odds_ratio(contrast), words))
sd = np.sqrt(model.covariance_["district"].loc["intercept", "intercept"])
print(f"One standard deviation between districts, {sd:.2f}, multiplies the odds by {np.exp(sd):.2f}.")


# %%
# Predictions
# -----------
# One woman, placed in districts whose women answered, and in one the model has never seen.

effects = model.random_effects_["district"]["intercept"]
places = {
    f"lowest: district {effects.idxmin()}": effects.idxmin(),
    f"highest: district {effects.idxmax()}": effects.idxmax(),
    "a new district": district.max() + 1,
}
woman = {"age": 0.0, "age^2": 0.0, "urban": 1.0, "children": 1.0, "age:children": 0.0}
same_woman = pd.DataFrame([{**woman, "district": label} for label in places.values()], index=list(places))
same_woman = same_woman[model.feature_names_in_]
probabilities = pd.DataFrame(
    {
        how: model.predict_proba(same_woman, predict_effects=how)[:, 1]
        for how in ["posterior", "mode", "zero"]
    },
    index=list(places),
)
heading("A mother of average age, in town: probability that she uses contraception")
print(probabilities.to_string(float_format="{:.3f}".format))
print(
    "\nposterior  averages over what is not known about the district; the default"
    "\nmode       takes the most likely level of the district as if it were known"
    "\nzero       is the typical district, whichever she lives in"
)


# %%
# How well does it predict, and for whom?
# --------------------------------------
# Two questions, two ways to split the women into five folds. For new groups, whole districts are held out of the fit;
# for known groups, women of every district. Beside the chosen model stand those one would otherwise use: the marginal
# model, plain logistic regression that ignores districts, a fixed effect for each district, a model for each.

report = accuracy_report(
    {"mixed": district_model(), "gee": "gee", "pooled": "pooled", "dummies": "dummies", "separate": "separate"},
    X[[*features, "district"]],
    uses,
    group_features="district",
    random_state=0,
)
heading("How well does it predict, and for whom?")
print(report)
print(
    "\nWhat the mixed model learnt about a district helps with its next women, and it does not take the answers of a"
    "\nfew for the whole truth, as a fixed effect or a model for each district does. In a district that it knows"
    "\nnothing about there is little to gain."
)
