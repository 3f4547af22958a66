"""Names of several coefficients, odd names of levels, coefficients that were not estimated: in tests and intervals."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.exceptions import AliasedFeaturesWarning, ConvergenceWarning, SeparationWarning
from sklmm.inference.wald import (
    conf_int,
    contrast_matrix,
    odds_ratios,
    wald_table,
    wald_test,
)

NAMES = ["intercept", "age", "urban"]


COEF = np.array([-1.0, 0.5, 0.2])


VCOV = np.array([[0.04, -0.01, 0.0], [-0.01, 0.09, 0.02], [0.0, 0.02, 0.16]])


T_975 = {1: 12.706204736, 2: 4.302652730, 5: 2.570581836, 10: 2.228138852, 43: 2.016692199}


# --- names that stand for several coefficients ----------------------------------------------------------------


def test_a_pattern_is_all_coefficients_like_it():
    names = ["intercept", "livch1", "livch2", "livch1:age", "age", "c[T.x]", "c[T.y]", "c[T.x]:age", "a*"]
    rows = np.eye(len(names))
    np.testing.assert_array_equal(contrast_matrix(names, "livch*"), rows[[1, 2]])
    np.testing.assert_array_equal(contrast_matrix(names, "livch*:*"), rows[[3]])
    np.testing.assert_array_equal(contrast_matrix(names, ["c", "age"]), rows[[5, 6, 4]])
    np.testing.assert_array_equal(contrast_matrix(names, "a*"), rows[[8]])  # a name is itself before it is a pattern
    with pytest.raises(ValueError, match="no coefficient is like 'liv_ch\\*'"):
        contrast_matrix(names, "liv_ch*")
    with pytest.raises(ValueError, match="'livch' is not a coefficient"):
        contrast_matrix(names, "livch")
    with pytest.raises(ValueError, match="'livch1' is there twice"):
        contrast_matrix(names, ["livch1", "livch*"])


def test_all_levels_of_a_factor_by_the_name_of_its_column():
    names = ["intercept", "C(livch)[T.1]", "C(livch)[T.2]", "C(ch, contr.sum)[S.N]", "livch2[T.1]", "age:C(livch)[T.1]"]
    np.testing.assert_array_equal(contrast_matrix(names, "livch"), np.eye(6)[1:3])
    np.testing.assert_array_equal(contrast_matrix(names, ["ch", "age:C(livch)[T.1]"]), np.eye(6)[[3, 5]])
    with pytest.raises(ValueError, match="'liv' is not a coefficient"):
        contrast_matrix(names, "liv")


# --- names of levels that look like something else --------------------------------------------------------------

ODD_LEVELS = ["08:00", "a.b", "at night", "note: severe", "x[1]", "y]:z", "C(f)[T.q]"]


@pytest.fixture(scope="module")
def odd_levels():
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"f": rng.choice(ODD_LEVELS, 1400), "h": rng.choice(["m", "n:o"], 1400)})
    data["x"], data["g"], data["k"] = rng.normal(size=1400), rng.integers(0, 60, 1400), rng.choice([1, 2, 3], 1400)
    data["y"] = (rng.random(1400) < 1 / (1 + np.exp(-data["x"] + 0.5 * (data["f"] == "y]:z")))).astype(int)
    return data


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize("kind", ["mixed", "gee"])
def test_joint_tests_take_every_level_whatever_its_name(odd_levels, kind):
    formula = "y ~ f*h + f:x + C(k) + bs(x, df=4)"
    with pytest.warns(AliasedFeaturesWarning):  # the spline has the products' sum in it
        if kind == "mixed":
            model = MixedLogisticRegression.from_formula(f"{formula} + (1 | g)", odd_levels, n_threads=1)
        else:
            model = GEELogisticRegression.from_formula(formula, odd_levels, groups="g")
    names = list(model.vcov_.index)
    kept = names[: [*names].index("bs(x, df=4)[1]")]
    levels = [f"f[T.{level}]" for level in sorted(ODD_LEVELS)[1:]]
    products = [f"{level}:h[T.n:o]" for level in levels]
    assert [*levels, "h[T.n:o]", "C(k)[T.2]", "C(k)[T.3]"] == kept[1:]

    def tested(contrast):
        return [name.removesuffix(" = 0") for name in model.wald_test(contrast).hypotheses]

    for factor in ("f", "f*", "f[*"):
        assert tested(factor) == levels
        assert model.wald_test(factor) == model.wald_test(levels)
    assert tested("h") == tested("h*") == ["h[T.n:o]"]
    assert tested("f:h") == tested("h:f") == tested("f*:h*") == tested("f[T.*:h[T.n:o]") == products
    assert tested("f[T.y]:*") == ["f[T.y]:z]"]
    assert tested("k") == tested("C(k)") == ["C(k)[T.2]", "C(k)[T.3]"]
    assert tested("f[T.note: severe]:h*") == ["f[T.note: severe]:h[T.n:o]"]
    with pytest.raises(ValueError, match="'g' is not a coefficient"):
        model.wald_test("g")


def test_joint_tests_of_terms_of_a_formula(odd_levels):
    formula = "y ~ C(h, contr.sum) + bs(x, df = 4) + C(h, contr.sum):I(x**5)"
    model = GEELogisticRegression.from_formula(formula, odd_levels, groups="g")
    curve = [f"bs(x, df=4)[{k}]" for k in range(1, 5)]
    assert model.wald_test("bs(x, df=4)") == model.wald_test(curve)
    assert model.wald_test("h").df == 1
    product = model.wald_test("h:I(x**5)")
    assert product == model.wald_test("C(h, contr.sum):I(x**5)") and product.df == 2


@pytest.mark.parametrize("estimator", [MixedLogisticRegression(), GEELogisticRegression()])
def test_joint_tests_of_indicator_columns(odd_levels, estimator):
    X = pd.get_dummies(odd_levels[["f"]], drop_first=True, dtype=float).assign(x=odd_levels["x"])
    X["f_a.b:x"] = X["f_a.b"] * X["x"]
    model = estimator.fit(X, odd_levels["y"], groups=odd_levels["g"])
    levels = [name for name in X if name.startswith("f_") and name != "f_a.b:x"]
    assert len(levels) == len(ODD_LEVELS) - 1 and "f_note: severe" in levels
    assert model.wald_test("f_*") == model.wald_test(levels)
    assert model.wald_test("f_*:x") == model.wald_test("f_a.b:x")


def test_a_product_or_a_level_with_a_colon():
    """Of columns that users have made only names are there; where they do not tell, an error does."""
    names = ["f_a", "f_b:c", "f_a:x"]
    with pytest.raises(ValueError, match=r"'f_\*' may or may not stand for 'f_a:x'"):
        contrast_matrix(names, "f_*")
    np.testing.assert_array_equal(contrast_matrix([*names, "x"], "f_*"), np.eye(4)[:2])
    np.testing.assert_array_equal(contrast_matrix(names, "f_a*:*"), np.eye(3)[[2]])
    np.testing.assert_array_equal(contrast_matrix(["f_a", "f_b", "f_b:f_a:c", "f_a:c"], "f_*:*:c"), np.eye(4)[[2]])
    bracketed = ["f[T.08:00]", "f[T.b]", "f[T.b]:g[T.c]", "f[T.08:00]:x", "f[T.y]:z]"]
    np.testing.assert_array_equal(contrast_matrix(bracketed[:4], "f"), np.eye(4)[:2])
    np.testing.assert_array_equal(contrast_matrix(bracketed, "f*"), np.eye(5)[[0, 1, 4]])
    np.testing.assert_array_equal(contrast_matrix(bracketed, "f*:g*"), np.eye(5)[[2]])


def test_a_test_says_what_was_tested():
    test = wald_test(NAMES, COEF, VCOV, [[0, 1, -1], [-2, 0, 1.5]])
    assert test.hypotheses == ["age - urban = 0", "-2 intercept + 1.5 urban = 0"]
    spread = np.array([VCOV[1, 1] + VCOV[2, 2] - 2 * VCOV[1, 2], 4 * VCOV[0, 0] + 2.25 * VCOV[2, 2] - 6 * VCOV[0, 2]])
    np.testing.assert_allclose(test.estimates["estimate"], [COEF[1] - COEF[2], -2 * COEF[0] + 1.5 * COEF[2]])
    np.testing.assert_allclose(test.estimates["std_error"], np.sqrt(spread))
    ends = test.estimates["estimate"].to_numpy() + np.outer([-1, 1], 1.959963984540054 * np.sqrt(spread))
    np.testing.assert_allclose(test.estimates[["lower", "upper"]].T, ends)
    assert "hypotheses=['age = 0', 'urban = 0'], statistic=" in repr(wald_test(NAMES, COEF, VCOV, ["age", "urban"]))
    few = wald_test(NAMES, COEF, VCOV, "age", df=5).estimates
    np.testing.assert_allclose(few["upper"] - few["estimate"], T_975[5] * 0.3, rtol=1e-9)


# --- what was not estimated -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def separated():
    """Two features, and an indicator of 8 rows that all have the outcome 1."""
    rng = np.random.default_rng(13)
    X = pd.DataFrame(rng.normal(size=(480, 2)), columns=["age", "dose"])
    X["rare"] = (np.arange(480) % 60 == 0).astype(float)
    return X, np.where(X["rare"] == 1, 1, rng.integers(0, 2, 480)), np.repeat(np.arange(60), 8)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize("estimator", [MixedLogisticRegression(), GEELogisticRegression()])
def test_no_inference_on_a_coefficient_without_a_finite_estimate(separated, estimator):
    X, y, groups = separated
    with pytest.warns(SeparationWarning, match="'rare'"):
        model = clone(estimator).fit(X, y, groups=groups)
    kept = ["intercept", "age", "dose"]
    coef, vcov = np.append(model.intercept_, model.coef_[0, :2]), model.vcov_.loc[kept, kept].to_numpy()
    for table, expected in (
        (model.conf_int(), conf_int(kept, coef, vcov)),
        (model.odds_ratios(), odds_ratios(kept, coef, vcov)),
        (model.summary().coefficients, wald_table(kept, coef, vcov)),
    ):
        assert table.loc["rare"].drop("estimate", errors="ignore").isna().all()
        np.testing.assert_allclose(table.loc[kept], expected, rtol=1e-12)
    assert "the classes are separated by 'rare': there are no standard errors" in str(model.conf_int())
    assert "the classes are separated by 'rare'" in model.odds_ratios()._repr_html_()
    with pytest.warns(SeparationWarning, match="there are no standard errors, tests") as record:
        test = model.wald_test(["age", "rare"])
    assert record[0].filename == __file__
    assert np.isnan(test.statistic) and np.isnan(test.p_value) and test.df == 2
    assert test.hypotheses == ["age = 0", "rare = 0"] and test.estimates.isna().all(axis=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(model.wald_test(["age", "dose"]), wald_test(kept, coef, vcov, ["age", "dose"]))


@pytest.mark.parametrize("estimator", [MixedLogisticRegression(max_iter=1), GEELogisticRegression("ar1", max_iter=1)])
def test_no_inference_from_a_fit_that_stopped_early(separated, estimator):
    X, y, groups = separated
    with pytest.warns(ConvergenceWarning):
        model = estimator.fit(X[["age", "dose"]], y, groups=groups, **(
            {"time": np.arange(480) % 8} if isinstance(estimator, GEELogisticRegression) else {}))  # fmt: skip
    assert model.conf_int().isna().all(axis=None) and model.odds_ratios().isna().all(axis=None)
    assert f"the fit did not converge ({model.fit_report_.verdict})" in str(model.conf_int())
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        assert np.isnan(model.wald_test("age").p_value)
