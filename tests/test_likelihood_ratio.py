"""Likelihood ratio tests: against glmmTMB's anova, and the mixtures against closed forms and simulation."""

import json
import pickle
import warnings
from functools import cache

import numpy as np
import pytest
from reference_data import REFERENCE_DIR, model_data
from scipy.stats import chi2
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from sklmm import GEELogisticRegression, MixedLogisticRegression, compare_models, likelihood_ratio_test
from sklmm.datasets import load_contraception, make_clustered_classification
from sklmm.exceptions import NestingWarning, SingularFitWarning
from sklmm.inference.likelihood_ratio import _Cone, _simulated_tail, _tail

ANOVA = json.loads((REFERENCE_DIR / "inference.json").read_text())["likelihood_ratio"]
pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")


@cache
def fit(name, random_effects=None, n_quadrature=1):
    data = model_data("contraception", name)
    model = MixedLogisticRegression(random_effects or data.random_effects, n_quadrature=n_quadrature)
    return model.fit(data.X, data.y, groups=data.groups)


@cache
def plain(name):
    data = model_data("contraception", name)
    return MixedLogisticRegression().fit(data.X, data.y)


@pytest.mark.parametrize("pair", list(ANOVA))
def test_against_anova(pair):
    smaller, larger = map(fit, pair.split("/"))
    # "has children" is the sum of the indicators of 1, 2, 3+ children: nested, though the names do not show it
    test = likelihood_ratio_test(smaller, larger, nested=True if pair == "m_03/m_02" else None)
    expected = ANOVA[pair]
    assert test.statistic == pytest.approx(expected["chi2"], abs=1e-6)
    assert test.df == expected["df"]
    assert test.p_value_chi2 == pytest.approx(expected["p_value"], rel=1e-6)
    if pair != "m_03/m_slope_urban":
        assert test.p_value == test.p_value_chi2


def test_one_variance_is_half_and_half():
    test = likelihood_ratio_test(plain("m_03"), fit("m_03"))
    assert (test.df, test.distribution) == (1, "chi-bar-square: 0.5 at 0 + 0.5 chi-squared(1)")
    assert test.p_value == pytest.approx(chi2.sf(test.statistic, 1) / 2, rel=1e-12)
    statistic, df, p_value = pickle.loads(pickle.dumps(test))
    assert (statistic, df, p_value) == tuple(test)


def test_a_correlated_slope_is_a_mixture_of_one_and_two():
    test = likelihood_ratio_test(fit("m_03"), fit("m_slope_urban"))
    expected = (chi2.sf(test.statistic, 1) + chi2.sf(test.statistic, 2)) / 2
    assert test.p_value == pytest.approx(expected, rel=1e-12)
    assert "0.5 chi-squared(1) + 0.5 chi-squared(2)" in test.distribution


def test_fixed_effects_beside_a_variance():
    test = likelihood_ratio_test(fit("m_03"), fit("m_04", "1 + urbanY || district"))
    assert (test.df, test.distribution) == (2, "chi-bar-square: 0.5 chi-squared(1) + 0.5 chi-squared(2)")


def test_a_correlation_alone_is_an_ordinary_parameter():
    test = likelihood_ratio_test(fit("m_03", "1 + urbanY || district"), fit("m_03", "1 + urbanY | district"))
    assert (test.df, test.distribution) == (1, "chi-squared(1)")


def test_several_variances_are_simulated():
    test = likelihood_ratio_test(plain("m_03"), fit("m_slope_urban"))
    again = likelihood_ratio_test(plain("m_03"), fit("m_slope_urban"))
    other = likelihood_ratio_test(plain("m_03"), fit("m_slope_urban"), random_state=1)
    assert test == again and "simulated" in test.distribution and test.df == 3
    assert other.p_value == pytest.approx(test.p_value, rel=0.05) and other != test
    # between the mixtures that bound every cone in three dimensions
    assert 0.5 * chi2.sf(test.statistic, 1) < test.p_value < 0.5 * (chi2.sf(test.statistic, [2, 3]).sum())


@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4])
@pytest.mark.parametrize("statistic", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("r", [0, 2])
def test_two_variances_against_the_closed_form(rho, statistic, r):
    spread = np.array([[4.0, 2 * rho], [2 * rho, 1.0]])
    cones = [_Cone(0, [0]), _Cone(0, [1])]
    found = _simulated_tail(statistic, r, cones, spread, 40_000, np.random.default_rng(0))
    both = 0.5 - np.arccos(rho) / (2 * np.pi)  # that both estimates are positive: the quadrant's probability
    weights = [0.5 - both, 0.5, both]
    expected = sum(w * chi2.sf(statistic, r + j) for j, w in enumerate(weights) if r + j)
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("statistic", [1.0, 8.0])
def test_a_covariance_matrix_against_the_closed_form(statistic):
    # 2 x 2 matrices with independent entries, the off-diagonal one of half the variance: the cone is a circular one
    found = _simulated_tail(statistic, 0, [_Cone(0, [0, 1])], np.diag([1.0, 0.5, 1.0]), 40_000,
                            np.random.default_rng(0))  # fmt: skip
    w3 = (1 - np.cos(np.pi / 4)) / 2
    expected = w3 * chi2.sf(statistic, 3) + (0.5 - w3) * chi2.sf(statistic, 2) + (0.5 - w3) * chi2.sf(statistic, 1)
    assert found == pytest.approx(expected, rel=0.02)


def test_a_singular_larger_fit_gets_a_bound():
    larger = fit("m_03", "1 + urbanY + chY || district")
    assert not larger.is_singular_
    cones = [_Cone(0, [1]), _Cone(0, [2])]
    exact, _ = _tail(2.0, 0, cones, larger, 10_000, 0)
    changed = pickle.loads(pickle.dumps(larger))
    changed.is_singular_ = True
    bound, words = _tail(2.0, 0, cones, changed, 10_000, 0)
    assert exact < bound == pytest.approx(chi2.sf(2.0, [1, 2]).mean()) and "upper bound" in words


@pytest.mark.many_fits
def test_size_under_the_hypothesis():
    """The mixture's p-values are uniform where there is no variance; chi-squared's are twice as large."""
    p_values = []
    for seed in range(300):
        X, y, groups = make_clustered_classification(
            1000, 1, n_groups=100, coef=[0.5], covariance=0.0, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            one = MixedLogisticRegression(n_threads=1).fit(X, y)
            other = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
        p_values.append(likelihood_ratio_test(one, other).p_value)
    rejected = np.mean(np.array(p_values) < 0.1)
    assert 0.06 < rejected < 0.14  # 0.1 within 2.5 standard errors; 0.05 would be chi-squared's


def test_models_that_are_not_nested():
    with pytest.raises(ValueError, match="smaller model has fixed effects that the larger one has not: 'chY'"):
        likelihood_ratio_test(fit("m_03"), fit("m_02"), nested=False)
    with pytest.warns(NestingWarning, match="has not: 'chY'.*pass nested=True"):
        test = likelihood_ratio_test(fit("m_03"), fit("m_02"))
    assert test == likelihood_ratio_test(fit("m_03"), fit("m_02"), nested=True)
    with pytest.raises(ValueError, match="smaller model has fixed effects|the other way round"):
        likelihood_ratio_test(fit("m_04"), fit("m_03"))
    with pytest.raises(ValueError, match="more fixed effects .6. than the larger one .5.; is it the other way round"):
        likelihood_ratio_test(fit("m_04"), fit("m_03"), nested=True)
    with pytest.raises(ValueError, match="random coefficients that the larger one has not: urbanY of district"):
        likelihood_ratio_test(fit("m_slope_urban"), fit("m_04"))
    with pytest.raises(ValueError, match="a correlation that the larger one has not: of intercept and urbanY"):
        likelihood_ratio_test(fit("m_slope_urban"), fit("m_04", "1 + urbanY || district"))
    with pytest.raises(ValueError, match="same parameters"):
        likelihood_ratio_test(fit("m_03"), fit("m_03"))
    with pytest.raises(ValueError, match="1 and 5 quadrature nodes differ .* fit both models with n_quadrature=5"):
        likelihood_ratio_test(fit("m_03"), fit("m_04", n_quadrature=5))


def test_models_of_other_rows():
    data = model_data("contraception", "m_04")
    rows = np.arange(len(data.y)) > 0
    fewer = MixedLogisticRegression().fit(data.X[rows], data.y[rows], groups=data.groups[rows])
    with pytest.raises(ValueError, match="number of rows, 1934 and 1933"):
        likelihood_ratio_test(fit("m_03"), fewer)
    other = MixedLogisticRegression().fit(data.X, 1 - data.y, groups=data.groups)
    with pytest.raises(ValueError, match="rows of the second class"):
        likelihood_ratio_test(fit("m_03"), other)


def test_the_larger_likelihood_must_be_the_larger():
    worse = pickle.loads(pickle.dumps(fit("m_04")))
    worse.log_likelihood_ = fit("m_03").log_likelihood_ - 1
    with pytest.raises(ValueError, match="below the smaller one's"):
        likelihood_ratio_test(fit("m_03"), worse)


def test_what_is_no_fitted_mixed_model():
    data = model_data("contraception", "m_03")
    marginal = GEELogisticRegression().fit(data.X, data.y, groups=data.groups)
    with pytest.raises(TypeError, match="larger is a marginal model"):
        likelihood_ratio_test(fit("m_03"), marginal)
    with pytest.raises(NotFittedError, match="smaller is not fitted"):
        likelihood_ratio_test(MixedLogisticRegression(), fit("m_03"))
    with pytest.raises(TypeError, match="got a LogisticRegression"):
        likelihood_ratio_test(LogisticRegression().fit(data.X, data.y), fit("m_03"))


def test_compare_models_tests_each_against_the_one_before():
    models = {"slope": fit("m_slope_urban"), "plain": plain("m_03"), "intercept": fit("m_03"), "other": fit("m_02")}
    table = compare_models(models, likelihood_ratio=True)
    assert table.index.tolist() == ["plain", "intercept", "slope", "other"]
    assert table["statistic"].isna().tolist() == [True, False, False, True]  # "other" is not nested in "slope"
    expected = likelihood_ratio_test(models["intercept"], models["slope"])
    assert tuple(table.loc["slope", ["statistic", "df", "p_value"]]) == tuple(expected)
    assert "p_value" not in compare_models(models)
    data = model_data("contraception", "m_03")
    marginal = GEELogisticRegression().fit(data.X, data.y, groups=data.groups)
    with pytest.raises(ValueError, match="needs models with a likelihood"):
        compare_models({"a": marginal}, likelihood_ratio=True)


def test_the_order_of_an_interaction_does_not_matter():
    data = load_contraception(as_frame=True)
    product = data.frame["age"] * (data.frame["ch"] == "Y")

    def fit(name, random_effects):
        X = data.frame[["age"]].assign(**{name: product})
        return MixedLogisticRegression(random_effects).fit(X, data.target, groups=data.groups)

    smaller, larger = fit("age:ch[T.a:b]", "1 | district"), fit("ch[T.a:b]:age", "1 + age | district")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NestingWarning)
        assert likelihood_ratio_test(smaller, larger).df == 2
    other = fit("ch[T.b:a]:age", "1 + age | district")
    with pytest.raises(ValueError, match="fixed effects that the larger one has not"):
        likelihood_ratio_test(smaller, other)
