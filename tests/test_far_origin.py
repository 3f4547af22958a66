"""Features counted from far away, as times in seconds since 1970: the same model, and so the same numbers."""

import numpy as np
import pytest
from scipy.special import expit

from sklmm import MixedLogisticRegression, approximate_leave_group_out

ORIGINS = [1e6, 1.76e9, 1e11]  # times are spread by about 170: the last ones are 6e8 standard deviations from 0


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(16)
    groups, time = np.repeat(np.arange(60), 40), rng.integers(0, 600, 2400).astype(float)
    other = rng.normal(size=2400)
    slope = 0.004 + 0.004 * rng.normal(size=60)
    eta = rng.normal(size=60)[groups] + slope[groups] * (time - 300) + 0.5 * other
    return np.column_stack([time - 300, other]), (rng.random(2400) < expit(eta)).astype(int), groups


def moved(X, origin):
    return X + np.array([origin, 0.0])


@pytest.fixture(scope="module", params=["1 + x0 | group", "1 | group"])
def models(request, data):
    X, y, groups = data
    return {
        origin: MixedLogisticRegression(request.param).fit(moved(X, origin), y, groups=groups)
        for origin in (0.0, *ORIGINS)
    }


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("effects", ["posterior", "mode", "marginal"])
def test_probabilities(data, models, origin, effects):
    X, _, groups = data
    labels = np.where(groups < 50, groups, -1)  # some unknown
    expected = models[0.0].predict_proba(X, groups=labels, predict_effects=effects)
    found = models[origin].predict_proba(moved(X, origin), groups=labels, predict_effects=effects)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("origin", ORIGINS)
def test_variances(models, origin):
    expected, found = models[0.0], models[origin]
    assert found.icc_ == pytest.approx(expected.icc_, abs=1e-6)
    assert found.r2_ == pytest.approx(expected.r2_, abs=1e-6)


@pytest.mark.parametrize("origin", ORIGINS)
def test_intervals(data, models, origin):
    X, _, groups = data
    labels = np.where(groups < 50, groups, -1)
    expected = models[0.0].predict_interval(X, groups=labels)
    np.testing.assert_allclose(models[origin].predict_interval(moved(X, origin), groups=labels), expected, atol=1e-5)


@pytest.mark.parametrize("origin", ORIGINS)
def test_population(data, models, origin):
    """Averages over the population, and their standard errors, with and without rows."""
    X, _, _ = data
    expected, found = models[0.0], models[origin]
    for rows in (False, True):
        tables = [
            model.marginal_coefficients(moved(X, start) if rows else None)[["estimate", "std_error"]].loc[["x0", "x1"]]
            for model, start in ((expected, 0.0), (found, origin))
        ]
        np.testing.assert_allclose(tables[1], tables[0], rtol=1e-5)
    effects = [
        model.average_marginal_effects(moved(X, start))[["estimate", "std_error"]]
        for model, start in ((expected, 0.0), (found, origin))
    ]
    np.testing.assert_allclose(effects[1].loc["x1"], effects[0].loc["x1"], rtol=1e-5)
    if origin < 1e10:  # the step of a difference is 1e-4 standard deviations: of 1e11 there are few digits left
        np.testing.assert_allclose(effects[1].loc["x0"], effects[0].loc["x0"], rtol=1e-3)


@pytest.mark.parametrize("origin", ORIGINS)
def test_updates(data, models, origin):
    """A few rows of a new group, whose own mean and spread are not those of the fit."""
    X, y, groups = data
    expected, found = models[0.0], models[origin]
    part, rest = slice(0, 5), slice(5, 40)
    new, labels = np.full(5, 1000), np.full(40, 1000)
    for keep in (False, True):
        both = [
            model.update_groups(moved(X, start)[part], y[part], groups=new).update_groups(
                moved(X, start)[rest], y[rest], groups=labels[rest], keep=True
            )
            if keep
            else model.update_groups(moved(X, start)[part], y[part], groups=new)
            for model, start in ((expected, 0.0), (found, origin))
        ]
        p = [
            model.predict_proba(moved(X, start)[:40], groups=labels)
            for model, start in zip(both, (0.0, origin), strict=True)
        ]
        np.testing.assert_allclose(p[1], p[0], atol=1e-5)


@pytest.mark.parametrize("origin", [1e6, 1.76e9])
def test_leaving_groups_out(data, models, origin):
    X, y, groups = data
    expected, found = (
        approximate_leave_group_out(models[start], moved(X, start), y, groups).probabilities for start in (0.0, origin)
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_simulation(data, models):
    X, _, groups = data
    for effects in ("marginal", "posterior"):
        near, far = (
            models[start].simulate(moved(X, start), groups, 20, random_state=0, predict_effects=effects)
            for start in (0.0, 1.76e9)
        )
        assert np.mean(near != far) < 1e-3
