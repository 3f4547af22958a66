"""
Do children of smoking mothers wheeze more? A marginal logistic regression, step by step
========================================================================================

The Six Cities study asked once a year, from age 7 to 10, whether a child wheezed. Four answers of one child
are not independent. A marginal model (generalized estimating equations, GEE) describes the average over
children and allows for the correlation in its standard errors; a mixed model describes each child. Their
coefficients differ, and both are right: they answer different questions.
"""

import textwrap

import numpy as np
import pandas as pd

from sklmm import GEELogisticRegression, MixedLogisticRegression, compare_models
from sklmm.datasets import load_ohio


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


def say(text):
    print("\n" + textwrap.fill(text, 100))


def show(table, decimals):
    print(table.to_string(float_format=f"{{:.{decimals}f}}".format))


# %%
# The data
# --------
# Age counts from the ninth birthday. It is a feature, and it is also the time that says which of a child's
# answers are close to each other.

X, wheezes, child = load_ohio(return_X_y=True, as_frame=True)
X = X.rename(columns={"smoke": "mother smokes"}).astype(float)
age = X["age"]

heading("The data")
print(f"{child.nunique()} children, {len(X)} answers; {wheezes.mean():.0%} are yes. Share of yes by age:\n")
share = wheezes.groupby([X["mother smokes"], 9 + age]).mean().unstack()
share.index, share.columns = ["mother does not smoke", "mother smokes"], [f"{a:.0f}" for a in share.columns]
show(share, 2)
yes = wheezes.groupby(child).sum()
say(f"Of the children {(yes == 0).sum()} never wheezed and {(yes == 4).sum()} did so all four years.")


# %%
# Four working correlations
# -------------------------
# The coefficients are consistent whichever is chosen; a better guess makes them more precise. QIC (smaller is
# better) chooses among the guesses, and its penalty CIC does so with less noise; QICu chooses features.

fitted = {
    name: GEELogisticRegression(name).fit(X, wheezes, groups=child, time=age)
    for name in ["independence", "exchangeable", "ar1", "unstructured"]
}
table = compare_models(fitted)
chosen = table.index[0]
model = fitted[chosen]

heading("Four working correlations of a child's answers")
show(table[["qic", "qicu", "cic"]], 2)
say(
    f"The lowest QIC: {chosen}, by very little. Every child answered four times, and its mother smokes in all"
    " four years or in none: then the coefficients hardly depend on the working correlation."
)
say("Correlations of the answers at the four ages, where they are free to differ (unstructured):")
print()
ages = [f"age {9 + time:.0f}" for time in fitted["unstructured"].correlation_times_]
show(pd.DataFrame(fitted["unstructured"].working_correlation_, index=ages, columns=ages), 2)
after_one_year = fitted["ar1"].correlation_params_[0]
say(
    "They hardly fall with the distance in time, as ar1 says they must:"
    f" {after_one_year:.2f} after one year, {after_one_year**3:.2f} after three."
    f" One number for all of them, {fitted['exchangeable'].correlation_params_[0]:.2f}, does well."
)

with_product = X.assign(**{"age x smokes": age * X["mother smokes"]})
larger = GEELogisticRegression(chosen).fit(with_product, wheezes, groups=child, time=age)
say(
    "Does the slope of age depend on smoking? The product of the two would raise QICu from"
    f" {model.qicu_:.1f} to {larger.qicu_:.1f}: leave it out."
)


# %%
# Standard errors: naive and robust
# ---------------------------------
# Naive standard errors take the working correlation for the truth. Robust ones (the sandwich) compare the
# children with each other, and hold for any correlation.


def standard_errors(fit, cov_type):
    return pd.Series(np.sqrt(np.diag(fit.vcov(cov_type))), index=fit.vcov_.index)


errors = pd.DataFrame(
    {
        (feature, kind): {name: standard_errors(fit, kind)[feature] for name, fit in fitted.items()}
        for feature in X.columns
        for kind in ["naive", "robust"]
    }
)

heading("Standard errors, naive and robust")
show(errors, 4)
naive, robust = errors.loc["independence", "mother smokes"]
say(
    "Independence is plain logistic regression. Its naive standard error of smoking,"
    f" {naive:.3f}, is too small: it counts {len(X)} answers where there are {child.nunique()} mothers"
    f" (robust: {robust:.3f}). That of age is too large: every child is seen at all four ages, so that what is"
    " peculiar to the child cancels. Under exchangeable correlation, a good guess, naive and robust agree."
)


# %%
# The chosen model
# ----------------

heading(f"The chosen model: {chosen}")
summary = model.summary()
print(summary)
ratios = summary.coefficients[["odds_ratio", "odds_ratio_lower", "odds_ratio_upper"]]
by_age, by_smoking = ("{:.2f} ({:.2f} to {:.2f})".format(*ratios.loc[name]) for name in X.columns)
say(
    f"From one year to the next the odds of wheezing are multiplied by {by_age}. Among children of smoking"
    f" mothers they are {by_smoking} times those of the others: the data leave open whether there is a"
    " difference."
)


# %%
# Few children
# ------------
# The sandwich averages over clusters; with few of them it is too small on average. Four corrections allow for
# this, and below 50 clusters tests use the t distribution. `vcov(cov_type)` gives each covariance from the
# fitted model, without data.

n_few = 40
few = child.isin(np.random.default_rng(1).permutation(child.unique())[:n_few])
of_few = GEELogisticRegression(chosen).fit(X[few], wheezes[few], groups=child[few], time=age[few])
kinds = ["robust", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"]
errors = pd.DataFrame(
    {
        f"{fit.n_groups_['id']} children": {
            kind: standard_errors(fit, kind)["mother smokes"] for kind in kinds
        }
        for fit in [model, of_few]
    }
)

heading("Few children: the standard error of smoking")
show(errors, 4)
say(
    f"With {child.nunique()} children the corrections change nothing. With {n_few} of them, drawn at random, they"
    " matter: ask for one, such as cov_type='kauermann-carroll'. Tests use t without being asked, here with"
    f" {of_few.df_resid_} degrees of freedom."
)


# %%
# The average child and each child
# --------------------------------
# The mixed model gives every child a level of its own. The children differ much and answer only four times
# each: the Laplace approximation is rough here, and 25 nodes of quadrature are better.

mixed = MixedLogisticRegression("1 | id", n_quadrature=25).fit(X, wheezes, groups=child)
marginal_coef = np.r_[model.intercept_, model.coef_[0]]
conditional_coef = np.r_[mixed.intercept_, mixed.coef_[0]]
variance = mixed.covariance_["id"].loc["intercept", "intercept"]
attenuation = np.sqrt(1 + 0.346 * variance)


def odds_ratios(coef, vcov):
    half = 1.96 * np.sqrt(np.diag(vcov))
    ends = np.exp([coef, coef - half, coef + half]).T
    return [f"{ratio:.2f} ({low:.2f} to {high:.2f})" for ratio, low, high in ends]


table = pd.DataFrame(
    {
        "marginal (GEE)": odds_ratios(marginal_coef, model.vcov_),
        "conditional (mixed)": odds_ratios(conditional_coef, mixed.vcov_),
        "conditional, attenuated": [f"{ratio:.2f}" for ratio in np.exp(conditional_coef / attenuation)],
    },
    index=["odds at age 9, no smoking", "odds ratio of a year", "odds ratio of smoking"],
)
heading("The average child and each child")
print(table.to_string())
say("Marginal: the odds among all children of smoking mothers over those among all others of that age.")
say("Conditional: the odds of one child, were its mother a smoker, over those of that child, were she not.")
say(
    "Conditional ratios are further from 1. A child who is nearly sure to wheeze, or not to, changes little"
    " whatever its mother does; the average over all children includes these, and so changes less than a child"
    f" in between. With a standard deviation of {np.sqrt(variance):.2f} between children, coefficients are"
    f" attenuated by about sqrt(1 + 0.346 x {variance:.2f}) = {attenuation:.2f}. Dividing the mixed model's by that"
    " gives the last column, close to the first. Neither model is biased: public health asks for the first"
    " ratio, a parent for the second."
)


# %%
# Both predict the same averages
# ------------------------------
# Averaged over the children, the mixed model gives the probabilities of the marginal model. The typical
# child, in the middle of the children's levels, is less likely to wheeze than the average says.

cases = pd.DataFrame({"age": [-2.0, 1.0, -2.0, 1.0], "mother smokes": [0.0, 0.0, 1.0, 1.0]})
labels = [
    f"age {9 + a:.0f}, mother {'smokes' if s else 'does not smoke'}" for a, s in cases.itertuples(index=False)
]
probabilities = pd.DataFrame(
    {
        "GEE": model.predict_proba(cases)[:, 1],
        "mixed, averaged": mixed.predict_proba(cases, predict_effects="marginal")[:, 1],
        "mixed, typical child": mixed.predict_proba(cases, predict_effects="zero")[:, 1],
    },
    index=labels,
)
heading("Probability of wheezing")
show(probabilities, 3)
say("Few children wheeze often, most never do: the average is above the child in the middle.")
