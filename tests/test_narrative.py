"""report(): its sentences say what the fit's numbers say, whatever the model; and nothing where there is nothing."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression
from sklmm.datasets import load_cbpp, load_contraception, load_sleepstudy, make_clustered_classification
from sklmm.estimating import AR1
from sklmm.reporting.narrative_effects import written

CLASSES = [MixedLogisticRegression, GEELogisticRegression, MixedLinearRegression, GEELinearRegression]


@pytest.fixture(scope="module")
def women():
    return load_contraception(as_frame=True).frame


@pytest.fixture(scope="module")
def rows():
    return make_clustered_classification(300, 3, n_groups=20, random_state=0)


def quietly(make, *arguments, **given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*arguments, **given)


def sections(model, **options):
    return {heading: " ".join(text) for heading, text in model.report(**options).sections.items()}


def numbers_in(text):
    return [float(number.replace(",", "")) for number in re.findall(r"-?[\d,]*\.?\d+(?:e-?\d+)?", text)]


def sentence_on(model, start, **options):
    (found,) = [text for text in model.report(**options).sections["Effects"] if text.startswith(start)]
    return found


# Effects -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_effects_on_odds(women, level):
    model = MixedLogisticRegression.from_formula("use ~ age + urban + livch + (1 | district)", women)
    table = model.odds_ratios(level)
    text = sentence_on(model, "With each unit of age more, the odds of the event are multiplied by", level=level)
    middle, percent, lower, upper, p = numbers_in(text)
    assert percent == 100 * level
    np.testing.assert_allclose([middle, lower, upper], table.loc["age"], atol=5e-4)
    assert p == pytest.approx(model.summary().coefficients.loc["age", "p_value"], abs=5e-5)
    text = sentence_on(model, "For livch 3+ rather than 0, the odds of the event", level=level)
    np.testing.assert_allclose(numbers_in(text)[2], table.loc["livch[T.3+]", "odds_ratio"], atol=0.05)
    first = sections(model)["What was fitted"]
    assert "1,934 rows, in 60 groups of district" in first
    assert f"use is 1, not 0; it happened in {100 * women['use'].mean():.1f} %" in first


@pytest.mark.parametrize(("link", "what"), [
    ("logit", "the odds of the event are multiplied by"),
    ("cloglog", "the hazard of the event is multiplied by"),
    ("probit", "the score is"),
])  # fmt: skip
@pytest.mark.parametrize("estimator", [MixedLogisticRegression, GEELogisticRegression])
def test_links(rows, estimator, link, what):
    X, y, groups = rows
    model = quietly(estimator(link=link).fit, X, y, groups=groups)
    text = sentence_on(model, "With each unit of x0 more")
    assert what in text
    value = numbers_in(text.split(" by ")[1])[0] if link != "probit" else numbers_in(text.split(" is ")[1])[0]
    expected = model.coef_[0, 0] if link == "probit" else np.exp(model.coef_[0, 0])
    assert value == pytest.approx(expected, rel=0.05)
    mixed = estimator is MixedLogisticRegression
    wording = "between rows of the same group" if mixed else "on average over the population"
    assert wording in sections(model)["Effects"]
    ratio = {"logit": "median odds ratio", "cloglog": "median hazard ratio"}.get(link)
    if mixed:
        between = sections(model)["Differences between groups"]
        assert (ratio in between) if ratio else ("median" not in between)


def test_the_event_is_the_one_that_was_chosen(rows):
    X, y, groups = rows
    model = MixedLogisticRegression(positive=0).fit(X, y, groups=groups)
    assert f"is 0, not 1; it happened in {100 * (1 - y.mean()):.3g} %" in sections(model)["What was fitted"]
    value = numbers_in(sentence_on(model, "With each unit of x0 more").split(" by ")[1])[0]
    assert value == pytest.approx(np.exp(model.coef_[0, 0]), rel=0.02)


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger", "residual", None])
def test_effects_on_measured_outcomes(df):
    data = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data, df=df)
    text = sentence_on(model, "With each unit of Days more, Reaction is")
    middle, _, lower, upper, _ = numbers_in(text)
    np.testing.assert_allclose([middle, lower, upper], [model.coef_[0], *model.conf_int().loc["Days"]], atol=0.051)
    found = sections(model)
    sd = np.sqrt(model.covariance_["Subject"].loc["Days", "Days"])
    ends = re.search(r"one unit lies between (\S+) and (\S+)\.", found["Differences between groups"]).groups()
    np.testing.assert_allclose([float(e) for e in ends], model.coef_[0] + np.array([-1.96, 1.96]) * sd, atol=0.6)
    assert f"{100 * model.icc_:.0f} % is between groups of Subject" in found["Differences between groups"]
    r2 = [f"{100 * value:.0f} %" for value in model.r2_]
    assert all(value in found["How much is explained"] for value in r2)


def test_lower_is_said_so():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 1))
    y = -3 * X[:, 0] + random.normal(size=200)
    model = quietly(GEELinearRegression().fit, X, y, groups=np.arange(200) % 60)
    expected = r"the outcome is 3\.\d+ lower \(95 % interval of the change -3\.\d+ to -2\."
    assert re.search(expected, sections(model)["Effects"])


def test_effects_that_depend_on_each_other(women):
    model = MixedLogisticRegression.from_formula("use ~ urban * livch + (1 | district)", women)
    text = sentence_on(model, "For urban Y rather than N, where livch is 0, the odds")
    assert numbers_in(text.split(" by ")[1])[0] == pytest.approx(
        model.odds_ratios().loc["urban[T.Y]", "odds_ratio"], rel=0.03
    )
    assert sentence_on(model, "The effects of urban and livch depend on each other: on top of what they do alone, "
                       "for urban[T.Y]:livch[T.1]")  # fmt: skip
    without = MixedLogisticRegression.from_formula("use ~ urban:age + (1 | district)", women)
    assert sentence_on(without, "For the column urban[N]:age, the odds")


@pytest.mark.parametrize("formula", ["use ~ bs(age, df=4) + urban", "use ~ age + I(age**2) + urban"])
def test_curves_are_told_as_a_whole(women, formula):
    model = MixedLogisticRegression.from_formula(f"{formula} + (1 | district)", women)
    text = sentence_on(model, "The effect of age is a curve of")
    columns = [name for name in model.vcov_ if "age" in name]
    assert f"curve of {len(columns)} parts" in text
    assert model.wald_test(columns).p_value < 1e-4
    assert "as a whole p < 0.0001" in text
    assert len(model.report().sections["Effects"]) == 3


def test_other_codings_and_no_intercept(women):
    sums = MixedLogisticRegression.from_formula("use ~ C(livch, contr.sum) + (1 | district)", women)
    assert "rather than" not in sections(sums)["Effects"]
    cells = MixedLogisticRegression.from_formula("use ~ 0 + urban + (1 | district)", women)
    assert sentence_on(cells, "For the column urban[N]")


def test_many_effects(rows):
    X = np.random.default_rng(0).normal(size=(300, 60))
    model = quietly(MixedLinearRegression().fit, X, rows[1].astype(float))
    assert "20 further effects are in the summary" in sections(model)["Effects"]


# What there is none of ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", CLASSES)
def test_no_features(rows, estimator):
    _, y, groups = rows
    model = quietly(estimator(group_features=0).fit, groups[:, None], y)
    text = sections(model)["Effects"]
    value, lower, upper = (numbers_in(text)[i] for i in (0, 2, 3))
    ends = model.conf_int().loc["intercept"].to_numpy()
    middle = np.ravel(model.intercept_)[0]
    expected = np.array([middle, *ends])
    if "Logistic" in estimator.__name__:
        expected = 100 * expit(expected)
    np.testing.assert_allclose([value, lower, upper], expected, rtol=0.03)
    assert "associations" not in sections(model).get("Limits", "")


@pytest.mark.parametrize("estimator", CLASSES)
def test_no_groups_and_aliased_columns(rows, estimator):
    X, y, _ = rows
    model = quietly(estimator().fit, np.column_stack([X, X[:, 0]]), y)
    found = sections(model)
    assert "No groups were given: rows count as independent." in found["What was fitted"]
    assert not {"Differences between groups", "Rows of one group"} & set(found)
    assert "With each unit of x3 more: no effect could be estimated" in found["Effects"]
    assert "'x3' apart from those of the other features" in found["Limits"]
    assert "mixed" not in found["What was fitted"]


@pytest.mark.parametrize("estimator", [MixedLogisticRegression, GEELogisticRegression])
def test_separated_and_stopped_fits(rows, estimator):
    X, y, groups = (values.copy() for values in rows)
    X[:, 2] = y * (np.arange(300) % 2)
    found = sections(quietly(estimator().fit, X, y, groups=groups))
    assert "Where x2 is 1 rather than 0: no effect could be estimated" in found["Effects"]
    assert "'x2' separates the classes" in found["Limits"]
    X[:, 2] = y
    found = sections(quietly(estimator().fit, X, y, groups=groups))
    assert "multiplied" not in found["Effects"]
    stopped = sections(quietly(estimator(max_iter=1).fit, *rows[:2], groups=groups))
    assert "did not converge" in stopped["Effects"]
    assert "multiplied" not in " ".join(stopped.values())
    assert "Differences between groups" not in stopped


def test_singular_fits_few_groups_and_poor_approximations():
    random = np.random.default_rng(0)
    X, groups = random.normal(size=(120, 1)), np.arange(120) % 4
    y = X[:, 0] + random.normal(size=120)
    y -= pd.Series(y - X[:, 0]).groupby(groups).transform("mean")
    found = sections(quietly(MixedLinearRegression().fit, X, y, groups=groups))
    assert "do not differ in their levels by more than chance" in found["Differences between groups"]
    assert "singular" in found["Limits"]
    assert "There are 4 groups of group only" in found["Limits"]
    groups = np.repeat(np.arange(200), 3)
    X = random.normal(size=(600, 1))
    y = (random.uniform(size=600) < expit(X[:, 0] + 2.5 * random.normal(size=200)[groups])).astype(int)
    found = sections(quietly(MixedLogisticRegression().fit, X, y, groups=groups))
    assert "Laplace's approximation is off by" in found["Limits"]
    exact = sections(quietly(MixedLinearRegression().fit, X, 2 * X[:, 0], groups=groups))
    assert "reproduce the outcome exactly" in exact["Limits"]


def test_groups_that_determine_the_outcome():
    groups = np.repeat(np.arange(40), 10)
    y = np.random.default_rng(0).integers(0, 2, 40)[groups]
    X = np.random.default_rng(1).normal(size=(400, 1))
    found = sections(quietly(MixedLogisticRegression().fit, X, y, groups=groups))
    assert "by how much cannot be said" in found["Differences between groups"] or "did not converge" in found["Effects"]


# Kinds of rows -------------------------------------------------------------------------------------------------------


def test_counts_offsets_and_rows_left_out(women):
    cattle = load_cbpp(as_frame=True).frame
    model = MixedLogisticRegression.from_formula("incidence | size ~ period + (1 | herd)", cattle)
    found = sections(model)["What was fitted"]
    assert "The event is a success, as counted by" in found
    assert f"it happened in {100 * cattle.incidence.sum() / cattle['size'].sum():.3g} %" in found
    holes = women.assign(age=women.age.where(women.index % 10 != 0))
    model = MixedLogisticRegression.from_formula("use ~ urban + offset(age) + (1 | district)", holes, missing="drop")
    found = sections(model)["What was fitted"]
    assert "194 more are left out" in found
    assert "the offset (age)" in found


def test_working_correlations(women):
    data = women.assign(t=women.groupby("district").cumcount())
    for correlation, text in [("independence", "were taken as independent"), ("exchangeable", "have the correlation"),
                              (AR1(), "at a distance of 1 in time")]:  # fmt: skip
        model = GEELogisticRegression.from_formula(
            "use ~ age", data, groups="district", time="t", correlation=correlation, cov_type="mancl-derouen"
        )
        found = sections(model)
        assert text in found["Rows of one group"]
        assert "corrected for few groups (mancl-derouen)" in found["What was fitted"]


def test_several_factors_and_random_slopes(women):
    women = women.assign(region=women.district % 12)
    model = quietly(MixedLogisticRegression.from_formula, "use ~ age + (1 + age | district) + (1 | region)", women)
    found = sections(model)
    assert "60 groups of district and 12 groups of region" in found["What was fitted"]
    assert "its own effect of age (random slopes)" in found["What was fitted"]
    sd = np.sqrt(model.covariance_["district"].loc["intercept", "intercept"])
    low, high = np.exp(stats.norm.ppf([0.025, 0.975]) * sd)
    ends = re.search(r"odds of the event are (\S+) to (\S+) times", found["Differences between groups"]).groups()
    np.testing.assert_allclose([float(e) for e in ends], [low, high], rtol=0.06)


# The object ----------------------------------------------------------------------------------------------------------


def test_it_prints_wrapped_and_as_html():
    random = np.random.default_rng(0)
    data = pd.DataFrame({"a<b": random.normal(size=100), "y": random.normal(size=100), "g": np.arange(100) % 20})
    report = quietly(MixedLinearRegression.from_formula, "y ~ `a<b` + (1 | g)", data).report()
    assert max(map(len, str(report).splitlines())) <= 88
    assert "a<b" in str(report)
    assert "a&lt;b" in report._repr_html_()
    assert "a<b" not in report._repr_html_()
    frame = report.to_frame()
    assert list(frame) == ["section", "sentence"]
    assert frame["sentence"].tolist() == [text for texts in report.sections.values() for text in texts]


@pytest.mark.parametrize("level", [0, 1, 95])
def test_levels(women, level):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        model.report(level=level)


@pytest.mark.parametrize(("value", "width", "text"), [
    (0.97412, 0.03, "0.974"), (10.467, 6.1, "10.5"), (12345.6, 300.0, "12,346"), (-0.0001, 0.5, "0.00"),
    (2.0, 0.0, "2"), (np.inf, 1.0, "infinity"), (1e-9, 1e-9, "1e-09"), (3.0, np.inf, "3"),
])  # fmt: skip
def test_digits(value, width, text):
    assert written(value, width) == text
