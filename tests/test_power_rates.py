"""Power by simulation where power is known, or found in another way."""

import numpy as np
import pytest
from scipy import stats

from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression, power
from sklmm.datasets import load_contraception, load_sleepstudy

pytestmark = pytest.mark.many_fits


@pytest.fixture(scope="module")
def women():
    frame = load_contraception(as_frame=True).frame
    return frame[frame["district"] <= 25].reset_index(drop=True)


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(as_frame=True).frame


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_studies_made_by_hand(women):
    """Outcomes drawn here and fitted from scratch reject as often, within Monte Carlo error."""
    n, rng, rejected = 150, np.random.default_rng(5), 0
    X, district = np.column_stack([women["age"], women["urban"] == "Y"]).astype(float), women["district"].to_numpy()
    model = MixedLogisticRegression().fit(X, women["use"], groups=district)
    arguments = dict(effects={"x1": 0.4}, n_simulations=300, random_state=1)
    found = power(model, "x1", X, women["use"], district, **arguments)
    fixed = model.intercept_[0] + model.coef_[0, 0] * X[:, 0] + 0.4 * X[:, 1]
    sd = np.sqrt(model.covariance_["group"].iloc[0, 0])
    for _ in range(n):
        eta = fixed + rng.normal(scale=sd, size=district.max() + 1)[district]
        again = MixedLogisticRegression().fit(X, rng.random(len(eta)) < 1 / (1 + np.exp(-eta)), groups=district)
        rejected += again.wald_test("x1").p_value < 0.05
    share = found.table["power"].iloc[0]
    assert 0.3 < share < 0.8
    assert abs(share - rejected / n) < 3.5 * np.sqrt(0.25 * (1 / n + 1 / 300))


def test_power_of_a_balanced_design():
    """Of a feature of groups of the same size the F test is exact, and its power that of the noncentral F."""
    rng = np.random.default_rng(0)
    treated, group = np.repeat([0.0, 1.0], 60), np.repeat(np.arange(20), 6)
    y = treated + rng.normal(size=20)[group] + rng.normal(size=120)
    model = MixedLinearRegression().fit(treated[:, None], y, groups=group)
    effects = {"x0": 1.0, "sd_intercept|group": 0.6, "sigma": 1.0}
    arguments = dict(n_simulations=400, random_state=0, effects=effects)
    found = power(model, "x0", treated[:, None], y, group, **arguments).table.iloc[0]
    noncentrality = 1.0**2 / (4 * (0.6**2 + 1.0 / 6) / 20)
    exact = stats.ncf.sf(stats.f.isf(0.05, 1, 18), 1, 18, noncentrality)
    assert abs(found["power"] - exact) < 3.5 * np.sqrt(exact * (1 - exact) / 400)
    assert found["lower"] < found["power"] < found["upper"]
    interval = stats.binomtest(int(found["n_rejected"]), 400).proportion_ci(method="wilson")
    assert (found["lower"], found["upper"]) == pytest.approx(tuple(interval))


@pytest.mark.parametrize("kind", ["mixed", "gee", "linear", "gee linear"])
def test_no_effect_is_rejected_as_often_as_alpha(kind, women, sleep):
    if kind == "gee linear":
        model = GEELinearRegression.from_formula("Reaction ~ Days", sleep, groups="Subject", cov_type="mancl-derouen")
        data, test, effects = sleep, "Days", {"Days": 0.0}
    elif kind == "linear":
        model = MixedLinearRegression.from_formula("Reaction ~ Days + (Days | Subject)", sleep)
        data, test, effects = sleep, "Days", {"Days": 0.0}
    else:
        model = {"mixed": MixedLogisticRegression, "gee": GEELogisticRegression}[kind]
        bar, given = (" + (1 | district)", {}) if kind == "mixed" else ("", {"groups": "district"})
        model = model.from_formula("use ~ age + urban" + bar, women, **given)
        data, test, effects = women, "age", {"age": 0.0}
    found = power(model, test, data, effects=effects, n_simulations=250, random_state=2).table.iloc[0]
    assert found["n_failed"] == 0
    assert abs(found["power"] - 0.05) < 3.5 * np.sqrt(0.05 * 0.95 / 250)
