"""
How well does it predict, and for whom?
=======================================

A model of grouped data is asked two questions that are easily mixed up: about new rows of groups that it knows, and
about groups that it has never seen. An accuracy report asks each question by itself, of a mixed model and of the models
one would otherwise use, and says how sure the answers are.

Give a folder as an argument to get the reports as HTML pages, too: ``python accuracy_report.py reports/``
"""

import sys
from pathlib import Path

import pandas as pd

from sklmm import accuracy_report
from sklmm.datasets import load_contraception, load_verbagg, make_clustered_classification

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else None
ESTIMATORS = ["mixed", "mixed, u = 0", "gee", "pooled", "dummies", "separate"]
MAIN = ["log loss", "ROC AUC", "AUC within groups", "calibration slope"]


def heading(text):
    print(f"\n\n{text}\n{'=' * len(text)}\n")


def save(report, name):
    if FOLDER is not None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        report.save_html(FOLDER / f"{name}.html", title=name.replace("_", " ").capitalize())


# %%
# Women in districts
# ------------------
# Who uses contraception? 1,934 women in 60 districts. In the first scenario whole districts are held out of the fit, in
# the second women of every district.

women, uses, district = load_contraception(return_X_y=True, as_frame=True)
X = women[["age", "urban", "ch"]].assign(age2=women["age"] ** 2 / 100)  # labels are encoded
report = accuracy_report(ESTIMATORS, X, uses, groups=district, random_state=0)

heading("Contraception: women of new and of known districts")
print(report)
save(report, "contraception")

known = report.summary.query("scenario == 'known groups' and metric == 'log loss'").set_index("estimator")
loss = known["estimate"].map("{:.4f}".format)
print(f"""
For a woman of a known district it pays to know what her neighbours do, and not to believe a few of them too much: the
mixed model's log loss is {loss["mixed"]}. Without districts it is {loss["pooled"]}, with a fixed effect for each
{loss["dummies"]}, with a model for each {loss["separate"]}. In a new district there is nothing to know, and the models
are much alike.""")


# %%
# Answers of persons
# ------------------
# 316 persons say of 24 situations whether they would be verbally aggressive in them. Persons and items are two factors;
# persons are held out (``split_by``), while items are always known. In the third scenario the first five answers of a
# new person are shown to the mixed model, without a new fit.

answers, aggressive, who = load_verbagg(return_X_y=True, as_frame=True)
X = pd.DataFrame({"anger": answers["Anger"] / 10.0, "do": (answers["mode"] == "do").astype(float)})
report = accuracy_report(
    ESTIMATORS,
    X,
    aggressive,
    groups=who,
    split_by="id",
    scenarios=["new groups", "known groups", "updated groups"],
    metrics=MAIN,
    random_state=0,
)
heading("Verbal aggression: new persons, known ones, and new ones after five answers")
print(report)
save(report, "verbal_aggression")


# %%
# What is the use of averaging over groups?
# -----------------------------------------
# Groups differ by a standard deviation of 2 on the logit scale. For a row of an unknown group, the probability at a
# random effect of zero is that of a typical group. It is too extreme for what happens on the average over groups: its
# calibration slope is far below 1. The mixed model averages by itself.

X, y, groups = make_clustered_classification(6000, 4, n_groups=300, covariance=2.0**2, random_state=0)
report = accuracy_report(ESTIMATORS[:4], X, y, groups=groups, scenarios="new groups", metrics=MAIN, random_state=0)
slopes = report.summary.query("metric == 'calibration slope'").set_index("estimator")[["estimate", "lower", "upper"]]
heading("Simulated groups with standard deviation 2: calibration slopes for new groups")
print(slopes.to_string(float_format="{:.2f}".format))
save(report, "simulated")
