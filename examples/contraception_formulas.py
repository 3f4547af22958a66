"""
Five models by formula: tests, averages over the population, diagnostics
========================================================================

The contraception data once more, for users of R's lme4: models are formulas, nested ones are compared by likelihood
ratio tests, and the chosen one is looked at from several sides. Pictures go to the folder ``pictures``.
"""

from pathlib import Path

import matplotlib
import pandas as pd
from scipy import stats

from sklmm import (
    CoefficientDisplay,
    EffectDisplay,
    GEELogisticRegression,
    MixedLogisticRegression,
    RandomEffectsDisplay,
    ResidualsDisplay,
    cluster_influence,
    quantile_residuals,
    random_effects_normality,
)
from sklmm.datasets import load_contraception

matplotlib.use("agg")  # pictures are written, not shown
pictures = Path("pictures")
pictures.mkdir(exist_ok=True)


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}")


# %%
# Five models
# -----------
# Age enters as a parabola or not; children by their number or as yes or no; and districts, or the urban and the rural
# part of each district, have their own level.

women = load_contraception(as_frame=True).frame
formulas = {
    "linear age": "use ~ age + urban + livch + (1 | district)",
    "parabola": "use ~ age + I(age**2) + urban + livch + (1 | district)",
    "children yes/no": "use ~ age + I(age**2) + urban + ch + (1 | district)",
    "age x children": "use ~ age*ch + I(age**2) + urban + (1 | district)",
    "parts of districts": "use ~ age*ch + I(age**2) + urban + (1 | urban:district)",
}
models = {name: MixedLogisticRegression.from_formula(formula, women) for name, formula in formulas.items()}

heading("Five models")
print(
    pd.DataFrame(
        {
            name: {
                "formula": formulas[name],
                "parameters": round((model.aic_ + 2 * model.log_likelihood_) / 2),
                "log-likelihood": f"{model.log_likelihood_:.2f}",
                "AIC": f"{model.aic_:.1f}",
            }
            for name, model in models.items()
        }
    ).T.to_string()
)


# %%
# Likelihood ratio tests
# ----------------------
# Twice the difference of log-likelihoods is about chi-squared, with as many degrees of freedom as the larger model has
# parameters more. Models that are not nested, such as the last two, are compared by AIC.

heading("Likelihood ratio tests")
for smaller, larger in [
    ("linear age", "parabola"),
    ("children yes/no", "parabola"),
    ("children yes/no", "age x children"),
]:
    chi2 = 2 * (models[larger].log_likelihood_ - models[smaller].log_likelihood_)
    df = round((models[larger].aic_ + chi2 - models[smaller].aic_) / 2)
    print(f"{smaller:>16} in {larger:<16} chi2 = {chi2:6.2f}, df = {df}, p = {stats.chi2.sf(chi2, df):.2g}")
print("The parabola is needed, the number of children is not, and what children mean depends on age.")


# %%
# In a district, and over all of them
# -----------------------------------
# A mixed model's odds ratios compare two women of one district. Averaged over districts they shrink towards 1: that is
# what a marginal model (GEE) estimates directly. Effects in percentage points are more telling: age, its square and
# its product with children move together, since the formula knows how they are made.

model = models["parts of districts"]
marginal = model.marginal_coefficients(women)
fixed = formulas["parts of districts"].rsplit("+", 1)[0]
gee = GEELogisticRegression.from_formula(fixed, women, groups="district")
ratios = pd.DataFrame(
    {
        "mixed model": model.odds_ratios()["odds_ratio"],
        "averaged over districts": marginal["odds_ratio"],
        "GEE": gee.odds_ratios()["odds_ratio"],
    }
)
heading("Odds ratios")
print(ratios.drop(index="intercept").to_string(float_format="{:.3f}".format))
heading("Average marginal effects on the probability")
print(model.average_marginal_effects(women).to_string(float_format="{:.4f}".format))

display = CoefficientDisplay.from_estimators(
    {"mixed model": model, "averaged over districts": marginal, "GEE": gee}, names=["ch[T.Y]", "urban[T.Y]"]
)
display.figure_.savefig(pictures / "contraception_odds_ratios.png")
display = EffectDisplay.from_estimator(model, women, "age", by="ch", at={"urban": "Y"})
display.ax_.set_title("A woman in town, by age and whether she has children")
display.figure_.savefig(pictures / "contraception_age.png")


# %%
# Does the model fit?
# -------------------
# Sums of answers by part of a district, against what the model simulates; whether random effects look normal; and which
# parts of districts the estimates depend on.

residuals = quantile_residuals(model, women, women["use"], by="urban:district", random_state=0)
uniform = stats.kstest(residuals, "uniform")
heading("Diagnostics")
print(f"Quantile residuals by part of a district: Kolmogorov-Smirnov p = {uniform.pvalue:.2f}")
print(f"Normality of random effects: Shapiro-Wilk p = {random_effects_normality(model)['p_value'].iloc[0]:.2f}")
influence = cluster_influence(model)
print("\nThe most influential, with the change of each coefficient when they are left out:")
print(influence.nlargest(3, "cooks_distance").to_string(float_format="{:.3f}".format))

display = ResidualsDisplay.from_estimator(model, women, women["use"], by="urban:district", random_state=0)
display.figure_.savefig(pictures / "contraception_residuals.png")
display = RandomEffectsDisplay.from_estimator(models["age x children"])
display.figure_.savefig(pictures / "contraception_districts.png")
print(f"\nPictures are in {pictures.resolve()}")
