"""Wald inference from arrays: against textbook formulas, statsmodels' definitions and invariances."""

import copy
import math
import pickle
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm.estimators.grouped import GroupedEstimator
from sklmm.estimators.inference import Inference
from sklmm.estimators.outcomes import BinaryOutcomes
from sklmm.families import LOGIT
from sklmm.fitted import FittedMixed
from sklmm.inference.criteria import aic, bic, cic, deviance, qic, qicu
from sklmm.inference.wald import (
    check_level,
    conf_int,
    contrast_matrix,
    correlation,
    odds_ratios,
    reference_distribution,
    standard_errors,
    wald_table,
    wald_test,
)

NAMES = ["intercept", "age", "urban"]
COEF = np.array([-1.0, 0.5, 0.2])
VCOV = np.array([[0.04, -0.01, 0.0], [-0.01, 0.09, 0.02], [0.0, 0.02, 0.16]])


def test_standard_errors_and_correlation():
    np.testing.assert_allclose(standard_errors(VCOV), [0.2, 0.3, 0.4], rtol=1e-15)
    corr = correlation(VCOV)
    np.testing.assert_allclose(np.diag(corr), 1.0)
    np.testing.assert_allclose(corr[1], [-0.01 / 0.06, 1.0, 0.02 / 0.12])
    np.testing.assert_array_equal(standard_errors([[-1e-20, 0], [0, np.nan]]), [np.nan, np.nan])


def test_correlation_of_a_zero_variance_is_nan_and_others_stay():
    corr = correlation([[0.0, 0.0, 0.0], [0.0, 4.0, -2.0], [0.0, -2.0, 1.0]])
    assert np.isnan(corr[0]).all() and np.isnan(corr[:, 0]).all()
    np.testing.assert_array_equal(corr[1:, 1:], [[1.0, -1.0], [-1.0, 1.0]])


def test_criteria():
    assert deviance(-10.0) == 20.0
    assert aic(-10.0, 3) == 26.0
    assert bic(-10.0, 3, 100) == pytest.approx(20.0 + 3 * math.log(100), rel=1e-15)


def test_quasi_likelihood_criteria_against_their_definitions():
    """On a fitted plain logistic model with clustered rows: Q, A and V from scratch."""
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(60), rng.normal(size=(60, 2))])
    y, beta = (rng.random(60) < 0.4).astype(float), np.zeros(3)
    for _ in range(30):
        mu = 1 / (1 + np.exp(-X @ beta))
        information = X.T @ np.diag(mu * (1 - mu)) @ X
        beta += np.linalg.solve(information, X.T @ (y - mu))
    phi = np.mean((y - mu) ** 2 / (mu * (1 - mu)))
    U = np.add.reduceat(X * (y - mu)[:, None], np.arange(0, 60, 5))
    robust = np.linalg.inv(information) @ U.T @ U @ np.linalg.inv(information)
    quasi = np.sum(np.log(np.where(y == 1, mu, 1 - mu)))

    penalty = sum(information[j, k] / phi * robust[k, j] for j in range(3) for k in range(3))
    assert cic(information / phi, robust) == pytest.approx(penalty, rel=1e-12)
    assert qic(quasi, information / phi, robust) == pytest.approx(-2 * quasi + 2 * penalty, rel=1e-12)
    assert qicu(quasi, 3) == pytest.approx(-2 * quasi + 6, rel=1e-15)
    # where the naive covariance is right, QIC's penalty is the number of coefficients
    assert cic(information / phi, np.linalg.inv(information / phi)) == pytest.approx(3, rel=1e-12)


def test_trace_of_matrices_that_are_not_symmetric():
    A, V = np.arange(9.0).reshape(3, 3), np.arange(9.0).reshape(3, 3)[::-1] ** 2
    assert cic(A, V) == pytest.approx(np.trace(A @ V), rel=1e-15)


def test_criteria_leave_out_unidentified_coefficients():
    A, V = np.linalg.inv(VCOV), VCOV * 1.3
    kept = np.ix_([0, 2], [0, 2])
    expected = np.trace(A[kept] @ V[kept])
    aliased = V.copy()
    aliased[1], aliased[:, 1] = np.nan, np.nan
    for information in (A, np.where(np.isnan(aliased), np.nan, A), np.where(np.isnan(aliased), 0.0, A)):
        assert cic(information, aliased) == pytest.approx(expected, rel=1e-14)
        assert qic(-10.0, information, aliased) == pytest.approx(20 + 2 * expected, rel=1e-14)
    assert math.isnan(cic(A, np.full((3, 3), np.nan))) and math.isnan(qic(-10.0, A, np.full((3, 3), np.nan)))


def test_intervals():
    table = conf_int(NAMES, COEF, VCOV)
    assert list(table.index) == NAMES and list(table.columns) == ["lower", "upper"]
    # 1.959963984540054 is the 97.5 % point of the standard normal distribution
    expected = COEF - 1.959963984540054 * np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(table["lower"], expected, rtol=1e-14)
    np.testing.assert_allclose(table["upper"] + table["lower"], 2 * COEF, rtol=1e-14)
    narrow = conf_int(NAMES, COEF, VCOV, level=0.6826894921370859)  # one standard error
    np.testing.assert_allclose(narrow["upper"] - COEF, [0.2, 0.3, 0.4], rtol=1e-12)


def test_odds_ratios_are_exponentials():
    table = odds_ratios(NAMES, COEF, VCOV, 0.9)
    assert list(table.columns) == ["odds_ratio", "lower", "upper"]
    np.testing.assert_allclose(np.log(table["odds_ratio"]), COEF, rtol=1e-14)
    expected = conf_int(NAMES, COEF, VCOV, 0.9)
    np.testing.assert_allclose(np.log(table[["lower", "upper"]]), expected, rtol=1e-13)
    assert odds_ratios(["x"], [1000.0], [[1.0]]).loc["x", "odds_ratio"] == np.inf


def test_level_and_method_are_checked():
    for level in (0, 1, -0.5, 2, np.nan):
        with pytest.raises(ValueError, match="level must be between 0 and 1"):
            conf_int(NAMES, COEF, VCOV, level)
    with pytest.raises(ValueError, match=r"for 95 % give 0\.95"):
        check_level(95)
    for level in ("0.95", None, True):
        with pytest.raises(TypeError, match="level must be a number"):
            check_level(level)
    assert check_level(np.float32(0.5)) == 0.5


def test_coefficient_table():
    table = wald_table(NAMES, COEF, VCOV, 0.9)
    np.testing.assert_array_equal(table["estimate"], COEF)
    np.testing.assert_allclose(table["z"], [-5.0, 0.5 / 0.3, 0.5])
    # two-sided p of z = -5 and 0.5, from tables of the normal distribution
    expected = [5.733031437583869e-07, 0.6170750774519738]
    np.testing.assert_allclose(table["p_value"].iloc[[0, 2]], expected, rtol=1e-12)
    np.testing.assert_array_equal(table[["lower", "upper"]], conf_int(NAMES, COEF, VCOV, 0.9))
    np.testing.assert_array_equal(
        table[["odds_ratio", "odds_ratio_lower", "odds_ratio_upper"]], odds_ratios(NAMES, COEF, VCOV, 0.9)
    )


def test_tiny_p_values_do_not_round_to_zero():
    assert 0 < wald_table(["x"], [30.0], [[1.0]]).loc["x", "p_value"] < 1e-190


def test_coefficients_without_standard_errors_stay_nan():
    vcov = VCOV.copy()
    vcov[1], vcov[:, 1] = np.nan, np.nan
    table = wald_table(NAMES, [-1.0, 0.0, 0.2], vcov)
    assert table.loc["age"].drop(["estimate", "odds_ratio"]).isna().all()
    assert table.drop("age").notna().all(axis=None)
    assert conf_int(NAMES, COEF, vcov).loc["age"].isna().all()


def test_names_may_repeat_in_a_table():
    table = wald_table(["a", "a"], [1.0, 2.0], np.eye(2))
    assert table["lower"].tolist() == pytest.approx([1 - 1.959963984540054, 2 - 1.959963984540054])


# --- few clusters: t and F ----------------------------------------------------------------------------------

# 97.5 % points of Student's t, as printed in every table of it
T_975 = {1: 12.706204736, 2: 4.302652730, 5: 2.570581836, 10: 2.228138852, 43: 2.016692199}


@pytest.mark.parametrize("df", T_975)
def test_intervals_by_t(df):
    reach = T_975[df] * np.array([0.2, 0.3, 0.4])
    table = conf_int(NAMES, COEF, VCOV, df=df)
    np.testing.assert_allclose(table["lower"], COEF - reach, rtol=1e-9)
    np.testing.assert_allclose(table["upper"], COEF + reach, rtol=1e-9)
    np.testing.assert_allclose(
        np.log(odds_ratios(NAMES, COEF, VCOV, df=df)[["lower", "upper"]]), table, rtol=1e-12
    )


def test_coefficient_table_by_t():
    table = wald_table(NAMES, COEF, VCOV, 0.9, df=2)
    assert list(table.columns[:4]) == ["estimate", "std_error", "t", "p_value"]
    t = COEF / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(table["t"], t, rtol=1e-14)
    # with 2 degrees of freedom the distribution has a closed form
    np.testing.assert_allclose(table["p_value"], 1 - np.abs(t) / np.sqrt(2 + t**2), rtol=1e-12)
    np.testing.assert_array_equal(table[["lower", "upper"]], conf_int(NAMES, COEF, VCOV, 0.9, df=2))
    np.testing.assert_array_equal(
        table[["odds_ratio", "odds_ratio_lower", "odds_ratio_upper"]], odds_ratios(NAMES, COEF, VCOV, 0.9, df=2)
    )


def test_many_degrees_of_freedom_are_the_normal_distribution():
    np.testing.assert_allclose(conf_int(NAMES, COEF, VCOV, df=1e9), conf_int(NAMES, COEF, VCOV), rtol=1e-7)
    f = wald_test(NAMES, COEF, VCOV, ["age", "urban"], df=1e9)
    assert f.p_value == pytest.approx(wald_test(NAMES, COEF, VCOV, ["age", "urban"]).p_value, rel=1e-7)


def test_joint_test_by_f():
    chi2 = wald_test(NAMES, COEF, VCOV, ["age", "urban"])
    f = wald_test(NAMES, COEF, VCOV, ["age", "urban"], df=7)
    assert (f.distribution, chi2.distribution) == ("F", "chi-squared")
    assert f.statistic == pytest.approx(chi2.statistic / 2, rel=1e-13)
    assert (f.df, f.df_resid, chi2.df_resid) == (2, 7, None)
    # with 2 degrees of freedom in the numerator F has a closed form
    assert f.p_value == pytest.approx((1 + 2 * f.statistic / 7) ** -3.5, rel=1e-12)


def test_one_coefficient_is_the_square_of_t():
    table = wald_table(NAMES, COEF, VCOV, df=4)
    for name in NAMES:
        test = wald_test(NAMES, COEF, VCOV, name, df=4)
        assert test.statistic == pytest.approx(table.loc[name, "t"] ** 2, rel=1e-13)
        assert test.p_value == pytest.approx(table.loc[name, "p_value"], rel=1e-10)


@pytest.mark.parametrize("df", [0, -1, -2.5])
def test_without_residual_degrees_of_freedom_nothing_is_claimed(df):
    assert np.isnan(reference_distribution(df).isf(0.025))
    assert conf_int(NAMES, COEF, VCOV, df=df).isna().all(axis=None)
    table = wald_table(NAMES, COEF, VCOV, df=df)
    known = ["estimate", "std_error", "t", "odds_ratio"]
    assert table[known].notna().all(axis=None)
    assert table.drop(columns=known).isna().all(axis=None)
    ratios = odds_ratios(NAMES, COEF, VCOV, df=df)
    np.testing.assert_allclose(ratios["odds_ratio"], np.exp(COEF))
    assert ratios[["lower", "upper"]].isna().all(axis=None)
    test = wald_test(NAMES, COEF, VCOV, ["age", "urban"], df=df)
    assert np.isnan(test.p_value) and test.statistic > 0 and test.df_resid == df


def test_a_test_result_unpacks_prints_and_is_copied():
    for df, text in ((None, "df=1, p_value="), (9, "df=1, df_resid=9, p_value=")):
        test = wald_test(NAMES, COEF, VCOV, "age", df=df)
        statistic, contrasts, p_value = test
        assert (statistic, contrasts, p_value) == (test.statistic, test.df, test.p_value)
        assert text in repr(test) and repr(test).endswith(f"distribution={test.distribution!r})")
        for twin in (copy.deepcopy(test), pickle.loads(pickle.dumps(test))):
            assert repr(twin) == repr(test) and type(twin) is type(test)


@pytest.mark.parametrize("df", [None, 6])
def test_an_estimator_says_which_distribution_its_methods_use(df):
    class Model(BinaryOutcomes, Inference, GroupedEstimator):
        def fit(self, X, y):
            raise NotImplementedError

        def _inference_df(self):
            return df

    model = Model()
    model.intercept_, model.coef_, model.converged_ = COEF[:1], COEF[None, 1:], True
    state = {field.name: None for field in fields(FittedMixed)}
    about = {"fixed_names": NAMES, "fit_intercept": True, "vcov": VCOV, "separated": []}
    about |= {"positions": {"group_features": []}, "family": LOGIT}
    model._fitted = FittedMixed(**(state | about))
    np.testing.assert_array_equal(model.conf_int(0.8), conf_int(NAMES, COEF, VCOV, 0.8, df=df))
    np.testing.assert_array_equal(model.odds_ratios(0.8), odds_ratios(NAMES, COEF, VCOV, 0.8, df=df))
    assert repr(model.wald_test(["age", "urban"])) == repr(wald_test(NAMES, COEF, VCOV, ["age", "urban"], df=df))
    assert Inference()._inference_df() is None


# --- wald_test ----------------------------------------------------------------------------------------------


def test_one_coefficient_is_the_square_of_z():
    table = wald_table(NAMES, COEF, VCOV)
    for name in NAMES:
        test = wald_test(NAMES, COEF, VCOV, name)
        assert test.df == 1
        assert test.statistic == pytest.approx(table.loc[name, "z"] ** 2, rel=1e-13)
        assert test.p_value == pytest.approx(table.loc[name, "p_value"], rel=1e-12)


def test_joint_test_is_the_quadratic_form():
    test = wald_test(NAMES, COEF, VCOV, ["age", "urban"])
    expected = COEF[1:] @ np.linalg.inv(VCOV[1:, 1:]) @ COEF[1:]
    assert test.statistic == pytest.approx(expected, rel=1e-13)
    assert test.df == 2
    assert test.p_value == pytest.approx(math.exp(-expected / 2), rel=1e-12)  # chi-squared with 2 df
    assert tuple(test) == (test.statistic, test.df, test.p_value)


def test_contrasts():
    expected = (COEF[1] - COEF[2]) ** 2 / (VCOV[1, 1] + VCOV[2, 2] - 2 * VCOV[1, 2])
    for contrast in (
        [0, 1, -1],
        [[0, 1, -1]],
        np.array([0, 2.0, -2.0]),
        pd.DataFrame({"urban": [-1], "age": [1]}),
    ):
        test = wald_test(NAMES, COEF, VCOV, contrast)
        assert (test.statistic, test.df) == (pytest.approx(expected, rel=1e-13), 1)


def test_hypothesis_and_not_its_writing_counts():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    vcov, coef, names = root @ root.T, rng.normal(size=6), list("abcdef")
    contrast = rng.normal(size=(3, 6))
    first = wald_test(names, coef, vcov, contrast)
    second = wald_test(names, coef, vcov, rng.normal(size=(3, 3)) @ contrast)
    assert second.statistic == pytest.approx(first.statistic, rel=1e-9)
    scale = 10.0 ** np.arange(-9, 9, 3)  # the columns of X in other units
    third = wald_test(names, coef * scale, vcov * np.outer(scale, scale), contrast / scale)
    assert third.statistic == pytest.approx(first.statistic, rel=1e-9)


def test_distribution_under_the_hypothesis():
    draws = np.random.default_rng(0).multivariate_normal([0, 0, 0], VCOV, size=2000)
    p_values = [wald_test(NAMES, draw, VCOV, ["age", "urban"]).p_value for draw in draws]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_contrast_matrix_of_names():
    np.testing.assert_array_equal(contrast_matrix(NAMES, ["urban", "intercept"]), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(contrast_matrix(NAMES, pd.Index(["age"])), [[0, 1, 0]])
    np.testing.assert_array_equal(contrast_matrix(NAMES, np.array(["age"])), [[0, 1, 0]])


@pytest.mark.parametrize(
    "contrast, error, words",
    [
        ("income", ValueError, "'income' is not a coefficient; there are 'intercept', 'age', 'urban'"),
        (["age", "age"], ValueError, "'age' is there twice"),
        (["age", 1], TypeError, "a list of names, or a matrix"),
        (None, TypeError, "a list of names, or a matrix"),
        ([], ValueError, "needs 3 columns"),
        (np.zeros((0, 3)), ValueError, "no contrast"),
        ([0, 1], ValueError, "needs 3 columns, one for each of 'intercept', 'age', 'urban'"),
        ([[0, 1], [1, 0]], ValueError, "needs 3 columns"),
        ([0, 0, 0], ValueError, "row 0 of the contrast matrix is all 0"),
        ([0, np.nan, 0], ValueError, "finite"),
        ([[0, 1, 0], [1, 0, 0], [1, 1, 0]], ValueError, "linearly dependent: row 2 follows"),
        ([[0, 1, 3], [0, 0.1, 0.3]], ValueError, "linearly dependent: row 1 follows"),
        (np.vstack([np.eye(3), [1, 0, 0]]), ValueError, "linearly dependent: row 3"),
        (pd.DataFrame({"income": [1]}), ValueError, "'income' is not a coefficient"),
    ],
)
def test_bad_contrasts(contrast, error, words):
    with pytest.raises(error, match=words):
        wald_test(NAMES, COEF, VCOV, contrast)


def test_repeated_names_need_a_matrix():
    with pytest.raises(ValueError, match="'a' is the name of several coefficients"):
        wald_test(["a", "a"], [1.0, 2.0], np.eye(2), "a")
    assert wald_test(["a", "a"], [1.0, 2.0], np.eye(2), [0, 1]).statistic == pytest.approx(4.0)


def test_unidentified_coefficients():
    vcov = VCOV.copy()
    vcov[1], vcov[:, 1] = np.nan, np.nan
    with pytest.raises(ValueError, match="no standard error for 'age'"):
        wald_test(NAMES, COEF, vcov, ["age", "urban"])
    assert wald_test(NAMES, COEF, vcov, "urban").statistic == pytest.approx(0.25)
    with pytest.raises(ValueError, match="singular"):
        wald_test(["a", "b"], [1.0, 1.0], np.ones((2, 2)), ["a", "b"])
