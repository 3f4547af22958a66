"""What a fitted model says about its coefficients, without the training data."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm
from sklearn.exceptions import NotFittedError

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification


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
