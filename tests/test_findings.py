"""What a model says to readers of no statistics: average predictions at settings of features, and how groups differ."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from sklmm import (
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    estimated_means,
)
from sklmm.datasets import load_contraception, load_sleepstudy
from sklmm.reporting.comparisons import Comparisons
from sklmm.reporting.findings import Findings, Outcome


@pytest.fixture(scope="module")
def women():
    return load_contraception(as_frame=True).frame


@pytest.fixture(scope="module")
def formula_model(women):
    return MixedLogisticRegression.from_formula("use ~ age + I(age**2) + urban + livch + (1 | district)", women)


def test_comparisons_of_levels_are_differences_of_estimated_means(formula_model, women):
    found = Comparisons(formula_model, women)
    means = estimated_means(formula_model, women, "livch")
    table, contrasts = means.to_frame(), means.contrasts("reference", adjust="none").to_frame()
    here = [comparison for comparison in found.comparisons if comparison.feature == "livch"]
    assert [comparison.after for comparison in here] == ["1", "2", "3+"]
    for comparison, mean, (_, contrast) in zip(here, table["estimate"].iloc[1:], contrasts.iterrows(), strict=True):
        assert comparison.means == pytest.approx((table["estimate"].iloc[0], mean), abs=1e-12)
        assert comparison.difference == pytest.approx(comparison.means[1] - comparison.means[0], abs=1e-12)
        assert np.sign(comparison.distance) == np.sign(contrast["estimate"])
    effects = formula_model.average_marginal_effects(women)
    for comparison in here:
        row = effects.loc[f"livch ({comparison.after} - 0)"]
        expected = row[["estimate", "lower", "upper"]].to_numpy(dtype=float)
        np.testing.assert_allclose([comparison.difference, comparison.lower, comparison.upper], expected, rtol=1e-9)
    curve = next(curve for curve in found.curves if curve.feature == "livch")
    np.testing.assert_allclose(curve.mean, table["estimate"], rtol=1e-12)
    assert (curve.lower < curve.mean).all() and (curve.mean < curve.upper).all()


def test_indicators_of_one_feature_change_together(women):
    """Of the model of indicators each level is compared with the reference, never with two levels at once."""
    X = pd.get_dummies(women[["livch"]], drop_first=True, dtype=float).assign(age=women["age"])
    model = MixedLogisticRegression().fit(X, women["use"], groups=women["district"])
    factors = {"livch": {"0": None, **{level: f"livch_{level}" for level in ("1", "2", "3+")}}}
    found = Comparisons(model, X, factors)
    by_formula = MixedLogisticRegression.from_formula("use ~ livch + age + (1 | district)", women)
    expected = Comparisons(by_formula, women)
    pairs = zip(*([c for c in each.comparisons if c.feature == "livch"] for each in (found, expected)), strict=True)
    for one, other in pairs:
        assert (one.feature, one.before, one.after) == (other.feature, other.before, other.after)
        np.testing.assert_allclose([one.difference, one.lower], [other.difference, other.lower], rtol=1e-6)


def test_numbers_are_compared_between_their_tails(women):
    rng = np.random.default_rng(0)
    women = women.assign(weight=rng.integers(1, 4, len(women)))
    model = GEELogisticRegression().fit(women[["age"]], women["use"], groups=women["district"])
    found = Comparisons(model, women[["age"]], sample_weight=women["weight"].to_numpy()).comparisons[0]
    repeated = np.sort(np.repeat(women["age"].to_numpy(), women["weight"]))
    low, high = repeated[[int(np.ceil(0.1 * len(repeated))) - 1, int(np.ceil(0.9 * len(repeated))) - 1]]
    assert (found.before, found.after) == (f"{low:.4g}", f"{high:.4g}") and found.is_number
    expected = expit(model.intercept_ + model.coef_.ravel() * np.array([low, high]))
    np.testing.assert_allclose(found.means, expected, rtol=1e-9)


def test_many_rows_are_thinned(women, monkeypatch):
    monkeypatch.setattr("sklmm.reporting.comparisons.MOST_ROWS", 500)
    X = women[["age"]]
    model = MixedLogisticRegression().fit(X, women["use"], groups=women["district"])
    thin = Comparisons(model, X)
    assert thin.variables.n_rows == 500 and thin.comparisons[0].means[0] > 0


def test_sentences_of_classes(formula_model, women):
    outcome = Outcome.of(formula_model)
    assert outcome == Outcome("use", "use = 1")
    findings = Findings(formula_model, women, outcome)
    told = findings.of_features()
    assert told[0].startswith("With age use = 1 rises and falls")  # the clearest effect is a parabola
    assert "Where urban is Y, use = 1 in 49 % of the rows; where it is N, in 34 %" in told[1]
    assert "+15 percentage points; between 10 and 20 with 95 % confidence" in told[1]
    (groups,) = findings.of_groups()
    assert "22 % to 57 % have use = 1" in groups and "Highest are 34, 16 and 14, lowest 1, 11 and 61" in groups


def test_groups_lie_where_simulated_ones_do(women):
    """The range of nine in ten groups, by drawing groups with random slopes at the features of the rows."""
    X = (women[["urban"]] == "Y").astype(float)
    model = MixedLogisticRegression("1 + urban | district").fit(X, women["use"], groups=women["district"])
    (sentence,) = Findings(model, X, Outcome("use", "use")).of_groups()
    rng = np.random.default_rng(0)
    covariance = next(iter(model.covariance_.values())).to_numpy()
    effects = rng.multivariate_normal([0, 0], covariance, 4000) @ np.column_stack([np.ones(len(X)), X]).T
    typical = expit(model.intercept_ + X.to_numpy().ravel() * model.coef_.ravel()).mean()
    drawn = expit(np.log(typical / (1 - typical)) + effects[:, ::40].ravel())
    low, high = (int(text) / 100 for text in sentence.split("else, ")[1].split(" % have")[0].split(" % to "))
    np.testing.assert_allclose([low, high], np.quantile(drawn, [0.05, 0.95]), atol=0.02)


def test_sentences_of_numbers():
    rows = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", rows)
    findings = Findings(model, rows, Outcome.of(model))
    (sentence,) = findings.of_features()
    assert sentence.startswith("Where Days is 8 (high), Reaction is 335 on average; where it is 0 (low), 251 (84 more")
    (groups,) = findings.of_groups()
    sd = float(np.sqrt(model.covariance_["Subject"].iloc[0, 0]))
    center = model.predict(rows, predict_effects="zero").mean()
    low, high = groups.split("Reaction is ")[1].split(" on average")[0].split(" to ")
    np.testing.assert_allclose([float(low), float(high)], center + 1.6449 * sd * np.array([-1, 1]), atol=0.5)


def test_what_can_not_be_told():
    rng = np.random.default_rng(0)
    n = 300
    X = pd.DataFrame({"x": rng.normal(size=n), "rare": (rng.random(n) < 0.05).astype(float)})
    X["twice"], groups = 2 * X["x"], rng.integers(0, 30, n)
    y = ((rng.random(n) < expit(X["x"])) | (X["rare"] == 1)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLogisticRegression().fit(X, y, groups=groups)
        told = " ".join(Findings(model, X, Outcome("ill", "ill = 1")).of_features())
        assert "No number can be given for rare" in told
        assert "Nothing can be said of x: other features say the same" in told
        stopped = MixedLogisticRegression(max_iter=1).fit(X[["x"]], y, groups=groups)
    findings = Findings(stopped, X[["x"]], Outcome("ill", "ill = 1"))
    assert findings.comparisons is None and "could not be fitted" in findings.failure


def test_no_variance_between_groups():
    rng = np.random.default_rng(1)
    X, groups = rng.normal(size=(400, 1)), np.repeat(np.arange(40), 10)
    y = np.tile([0, 1], 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLogisticRegression().fit(X, y, groups=groups)
    found = Findings(model, X, Outcome.of(model))
    assert found.of_groups() == ["Groups do not differ by more than chance."]
    assert found.of_features() == ["No clear effect: x0."]
