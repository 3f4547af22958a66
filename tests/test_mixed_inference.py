"""What a fitted model says about its coefficients, without the training data."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm
from sklearn.exceptions import NotFittedError

from sklmm import MixedLogisticRegression, cluster_influence, likelihood_ratio_test
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning, SingularFitWarning


@pytest.fixture(scope="module", params=[True, False], ids=["intercept", "no intercept"])
def model(request):
    X, y, groups = make_clustered_classification(
        500, 3, n_groups=25, coef=[0.5, 0.0, -0.4], covariance=[[1.5, 0.3], [0.3, 1.0]], random_state=1
    )
    X = pd.DataFrame(X, columns=["age", "dose", "height"])
    model = MixedLogisticRegression("1 + age | ward", fit_intercept=request.param)
    model.fit(X, y, groups=pd.Series(groups, name="ward"))
    return pickle.loads(pickle.dumps(model))


def _estimates(model):
    coef = pd.Series(model.coef_[0], index=["age", "dose", "height"])
    if model.fit_intercept:
        coef = pd.concat([pd.Series(model.intercept_, index=["intercept"]), coef])
    return coef, pd.Series(np.sqrt(np.diagonal(model.vcov_)), index=model.vcov_.index)


def test_confidence_intervals(model):
    coef, se = _estimates(model)
    for level in (0.95, 0.5):
        found, reach = model.conf_int(level), norm.ppf(0.5 + level / 2) * se
        assert found.index.tolist() == coef.index.tolist()
        np.testing.assert_allclose(found["lower"], coef - reach, rtol=1e-12)
        np.testing.assert_allclose(found["upper"], coef + reach, rtol=1e-12)
    with pytest.raises(ValueError, match="method must be .*, got 'exact'"):
        model.conf_int(method="exact")


def test_odds_ratios(model):
    coef, _ = _estimates(model)
    found = model.odds_ratios(0.9)
    np.testing.assert_allclose(found["odds_ratio"], np.exp(coef), rtol=1e-12)
    np.testing.assert_allclose(found[["lower", "upper"]], np.exp(model.conf_int(0.9)), rtol=1e-12)


def test_wald_tests(model):
    coef, se = _estimates(model)
    one = model.wald_test("dose")
    assert one.statistic == pytest.approx((coef["dose"] / se["dose"]) ** 2, rel=1e-10)
    assert one.p_value == pytest.approx(2 * norm.sf(abs(coef["dose"] / se["dose"])), rel=1e-8)
    some = ["age", "height"]
    both = model.wald_test(some)
    expected = coef[some] @ np.linalg.solve(model.vcov_.loc[some, some], coef[some])
    assert (both.statistic, both.df) == (pytest.approx(expected, rel=1e-10), 2)
    assert both.p_value == pytest.approx(chi2.sf(expected, 2), rel=1e-10)
    contrast = np.zeros(len(coef))
    contrast[[-1, -3]] = 1, -1
    same = model.wald_test(pd.DataFrame({"height": [1.0], "age": [-1.0]}))
    assert model.wald_test(contrast) == pytest.approx(same)


def test_summary(model):
    coef, se = _estimates(model)
    summary = model.summary()
    np.testing.assert_allclose(summary.coefficients["estimate"], coef, rtol=1e-12)
    np.testing.assert_allclose(summary.coefficients["std_error"], se, rtol=1e-12)
    text = str(summary)
    for piece in ("ward", "dose", f"{model.log_likelihood_:.2f}", f"{model.aic_:.2f}", "500"):
        assert piece in text
    assert f"{se['dose']:.3f}" in text


def test_a_new_fit_is_needed_first():
    for method in ("conf_int", "odds_ratios", "summary"):
        with pytest.raises(NotFittedError):
            getattr(MixedLogisticRegression(), method)()
    with pytest.raises(NotFittedError):
        MixedLogisticRegression().wald_test("x0")


def test_wald_intervals_of_chosen_parameters(model):
    assert model.conf_int(parameters=["dose", "age"]).equals(model.conf_int().loc[["dose", "age"]])
    assert model.conf_int(parameters="fixed").equals(model.conf_int())
    with pytest.raises(ValueError, match=r"no intervals for sd_intercept\|ward, .*: use 'profile' or 'bootstrap'"):
        model.conf_int(parameters="random")
    with pytest.raises(ValueError, match="there is no parameter 'weight'"):
        model.conf_int(parameters="weight")


def test_what_the_fit_says_after_more_groups_were_learnt():
    """update_groups fits nothing: the summary and tests are those of the fit."""
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, random_state=0)
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    with pytest.warns(NoGroupsWarning):
        pooled = MixedLogisticRegression().fit(X, y)
    larger = MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups)
    updated = model.update_groups(X[:30], y[:30], groups=np.repeat([100, 101, 102], 10))
    assert updated.n_groups_ == {"group": 23}
    assert str(updated.summary()) == str(model.summary())
    assert likelihood_ratio_test(pooled, updated) == likelihood_ratio_test(pooled, model)
    assert likelihood_ratio_test(updated, larger) == likelihood_ratio_test(model, larger)
    assert cluster_influence(updated).equals(cluster_influence(model))
    assert updated.vcov("robust").equals(model.vcov("robust"))


def test_a_singular_slope_has_no_variance_at_all():
    """Neither diagonal entry is above 0, so that what is between them is rounding."""
    rng = np.random.default_rng(1)
    X, groups = rng.normal(size=(300, 2)) + 1, np.repeat(np.arange(30), 10)
    y = rng.random(300) < 0.5
    with pytest.warns(SingularFitWarning):
        model = MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups)
    assert not model.covariance_["group"].to_numpy().any()
    assert "the variance of intercept is 0; group: the variance of x0 is 0" in str(model.summary())
