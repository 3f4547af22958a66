"""Profile likelihood intervals: against lme4 and glmmTMB, against direct maximisation, and at boundaries."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from designs import Coded, engine_of
from reference_data import REFERENCE_DIR, model_data
from scipy.optimize import minimize
from scipy.stats import chi2

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning, SeparationWarning, SingularFitWarning
from sklmm.likelihood.clustered import ClusteredLikelihood

CONFINT = json.loads((REFERENCE_DIR / "inference.json").read_text())["confint_m_03"]


def fit(dataset, name, random_effects=None, **parameters):
    data = model_data(dataset, name)
    model = MixedLogisticRegression(random_effects or data.random_effects, n_threads=1, **parameters)
    rows = dict(X=data.X, y=data.y, groups=data.groups, sample_weight=data.sample_weight)
    return model.fit(**rows), rows


def clustered(covariance, seed=0, n_samples=600):
    X, y, groups = make_clustered_classification(
        n_samples, 2, n_groups=40, coef=[0.5, -0.5], covariance=covariance, random_state=seed
    )
    return dict(X=X, y=y, groups=groups)


def test_wald_against_glmmTMB():
    model, _ = fit("contraception", "m_03")
    for name, row in model.conf_int().iterrows():
        np.testing.assert_allclose(row, CONFINT["wald_glmmTMB"][name], atol=5e-5)


@pytest.mark.parametrize("engine", ["glmer", "glmmTMB"])
def test_profile_against(engine):
    model, rows = fit("contraception", "m_03")
    found = model.conf_int(method="profile", **rows)
    expected = CONFINT[f"profile_{engine}"]
    assert len(expected) == len(found) == 6
    for name, ends in expected.items():
        if name.startswith("theta"):
            ends = np.exp(ends)
        name = "sd_intercept|district" if name.startswith(("theta", ".sig")) else name
        np.testing.assert_allclose(found.loc[name], ends, atol=5e-5 if engine == "glmer" else 4e-4)


def natural_log_likelihood(rows, random_effects_columns, blocks, n_quadrature=1):
    """The likelihood in the user's own parameters, without anything that profiles use."""
    X, y = np.asarray(rows["X"], dtype=float), np.asarray(rows["y"], dtype=np.uint8)
    codes = np.asarray(pd.factorize(np.asarray(rows["groups"]))[0], dtype=np.intp)
    factor = Coded(codes, codes.max() + 1, random_effects_columns, blocks)
    engine = engine_of(X, y, [factor], n_quadrature=n_quadrature)
    return lambda beta, theta: engine.evaluate(engine.units.internal(beta, theta))[0]


def test_ends_are_where_a_direct_maximum_is_lower_by_half_the_quantile():
    """Intercept, standard deviations and correlation, each maximised over the rest by a simplex-free quasi-Newton."""
    rows = clustered([[1.0, 0.4], [0.4, 1.0]], seed=2)
    model = MixedLogisticRegression("1 + x0 | group", n_threads=1).fit(**rows)
    level = 0.9
    ends = model.conf_int(level, method="profile", **rows)
    log_likelihood = natural_log_likelihood(rows, [-1, 0], [(2, True)])

    def value(parameters):  # three fixed effects, two log standard deviations, the correlation's z
        sd, rho = np.exp(parameters[3:5]), np.tanh(parameters[5])
        theta = [sd[0], rho * sd[1], np.sqrt(1 - rho**2) * sd[1]]
        return -log_likelihood(parameters[:3], theta)

    covariance = model.covariance_["group"].to_numpy()
    sd = np.sqrt(np.diagonal(covariance))
    rho = covariance[0, 1] / sd.prod()
    start = np.concatenate([model.intercept_, model.coef_[0], np.log(sd), [np.arctanh(rho)]])
    assert -value(start) == pytest.approx(model.log_likelihood_, abs=1e-7)
    places = {"intercept": 0, "x1": 2, "sd_intercept|group": 3, "sd_x0|group": 4, "cor_x0.intercept|group": 5}
    for name, k in places.items():
        for end in ends.loc[name]:
            held = end if k < 3 else np.log(end) if k < 5 else np.arctanh(end)
            rest = np.delete(np.arange(6), k)
            others = minimize(lambda z, k=k, held=held: value(np.insert(z, k, held)), start[rest], tol=1e-9)
            assert 2 * (model.log_likelihood_ + others.fun) == pytest.approx(chi2.ppf(level, 1), abs=2e-4)


def test_quadrature_has_a_profile_of_its_own():
    model, rows = fit("bacteria", "main", n_quadrature=15)
    laplace, _ = fit("bacteria", "main")
    found = model.conf_int(method="profile", parameters="random", **rows)
    other = laplace.conf_int(method="profile", parameters="random", **rows)
    assert found.index.tolist() == ["sd_intercept|ID"]
    end = found.loc["sd_intercept|ID", "upper"]
    assert abs(end - other.loc["sd_intercept|ID", "upper"]) > 0.05
    log_likelihood = natural_log_likelihood(rows, [-1], [(1, True)], 15)
    start = np.concatenate([model.intercept_, model.coef_[0]])
    rest = minimize(lambda beta: -log_likelihood(beta, [end]), start, tol=1e-9)
    assert 2 * (model.log_likelihood_ + rest.fun) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-4)


def test_weights_count_rows():
    model, rows = fit("cbpp", "main")
    counts = rows["sample_weight"].astype(int)
    repeated = {key: np.repeat(np.asarray(rows[key]), counts, axis=0) for key in ("X", "y", "groups")}
    again = MixedLogisticRegression(n_threads=1).fit(**repeated).conf_int(method="profile", **repeated)
    np.testing.assert_allclose(model.conf_int(method="profile", **rows), again, rtol=1e-5)


def test_units_do_not_matter():
    rows = clustered([[1.0, 0.4], [0.4, 1.0]], seed=1)
    one = MixedLogisticRegression("1 + x0 | group", n_threads=1).fit(**rows).conf_int(method="profile", **rows)
    other_rows = rows | {"X": rows["X"] * [1000.0, 0.01]}
    other = MixedLogisticRegression("1 + x0 | group", n_threads=1).fit(**other_rows)
    scale = np.array([1, 1000, 0.01, 1, 1000, 1])[:, None]
    np.testing.assert_allclose(other.conf_int(method="profile", **other_rows) * scale, one, rtol=1e-5)


def test_without_the_hessian_the_ends_are_the_same(monkeypatch):
    rows = clustered([[1.0, 0.4], [0.4, 1.0]], seed=2)
    model = MixedLogisticRegression("1 + x0 | group", n_threads=1).fit(**rows)
    exact = model.conf_int(method="profile", **rows)
    evaluate = ClusteredLikelihood.evaluate
    monkeypatch.setattr(ClusteredLikelihood, "evaluate", lambda self, x: (*evaluate(self, x)[:2], None))
    np.testing.assert_allclose(model.conf_int(method="profile", **rows), exact, atol=1e-6)


def test_variance_zero():
    rows = clustered(0.0)
    with pytest.warns(SingularFitWarning):
        model = MixedLogisticRegression("1 + x0 | group", n_threads=1).fit(**rows)
    found = model.conf_int(method="profile", **rows)
    lower, upper = found.loc["sd_intercept|group"]
    assert lower == 0 and 0.1 < upper < 1
    assert found.loc["cor_x0.intercept|group"].tolist() == [-1, 1]
    # the upper end: the restricted maximum is lower by half the quantile
    log_likelihood = natural_log_likelihood(rows, [-1, 0], [(2, True)])
    start = np.concatenate([model.intercept_, model.coef_[0], [0.1, 0.1]])
    rest = minimize(lambda z: -log_likelihood(z[:3], [upper, *z[3:]]), start, tol=1e-9)
    assert 2 * (model.log_likelihood_ + rest.fun) == pytest.approx(chi2.ppf(0.95, 1), abs=1e-3)


def test_a_correlation_that_may_be_one():
    model, rows = fit("contraception", "m_03", "1 + urbanY + chY | district")
    found = model.conf_int(method="profile", parameters=["cor_chY.urbanY|district"], **rows)
    assert 0 < found.iloc[0, 0] < 0.5 and found.iloc[0, 1] == 1


def test_without_groups():
    data = model_data("contraception", "m_03")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGroupsWarning)
        model = MixedLogisticRegression(n_threads=1).fit(data.X, data.y)
    found = model.conf_int(method="profile", X=data.X, y=data.y)
    assert found.index.tolist() == ["intercept", *data.X.columns]
    np.testing.assert_allclose(found, model.conf_int(), atol=4e-3)
    assert np.abs(found - model.conf_int()).to_numpy().max() > 1e-5


def test_columns_that_are_left_out_have_no_interval():
    rows = clustered(1.0)
    rows["X"] = np.column_stack([rows["X"], rows["X"][:, 0]])
    with pytest.warns(UserWarning, match="collinear"):
        model = MixedLogisticRegression(n_threads=1).fit(**rows)
    found = model.conf_int(method="profile", **rows)
    assert found.isna().all(axis=1).tolist() == [False, False, False, True, False]


def test_separation_has_an_end_at_infinity():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.repeat([0, 1], 200), rng.normal(size=400)])
    y = np.where(X[:, 0] == 1, 1, rng.random(400) < 0.5).astype(int)
    rows = dict(X=X, y=y, groups=rng.integers(0, 20, 400))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        with pytest.warns(SeparationWarning):
            model = MixedLogisticRegression(n_threads=1).fit(**rows)
    lower, upper = model.conf_int(method="profile", parameters=["x0"], **rows).loc["x0"]
    assert 3 < lower < 10 and upper == np.inf


# --- the rows of the fit --------------------------------------------------------------------------------------


def test_what_is_missing_is_named():
    model, rows = fit("contraception", "m_03")
    with pytest.raises(ValueError, match="method='profile' needs the rows of the fit.*pass X=X, y=y, groups=groups"):
        model.conf_int(method="profile")
    with pytest.raises(ValueError, match="pass groups=groups"):
        model.conf_int(method="profile", X=rows["X"], y=rows["y"])


def test_groups_within_X_need_no_second_door():
    _, rows = fit("contraception", "m_03")
    X = rows["X"].assign(district=rows["groups"])
    model = MixedLogisticRegression("1 | district", group_features="district", n_threads=1).fit(X, rows["y"])
    found = model.conf_int(method="profile", X=X, y=rows["y"], parameters=["sd_intercept|district"])
    np.testing.assert_allclose(found.iloc[0], CONFINT["profile_glmer"][".sig01"], atol=5e-5)


def test_other_rows_are_refused():
    model, rows = fit("contraception", "m_03")
    with pytest.raises(ValueError, match="it had 1,934 rows, here are 1,933"):
        model.conf_int(method="profile", **{key: values[1:] for key, values in rows.items() if values is not None})
    with pytest.raises(ValueError, match="these are not the rows of the fit: their log-likelihood is"):
        model.conf_int(method="profile", **rows | {"y": rows["y"].to_numpy()[::-1]})
    with pytest.raises(ValueError, match="labels that fit did not see"):
        model.conf_int(method="profile", **rows | {"y": rows["y"] + 1})


def test_parameters_are_chosen_by_name():
    model, rows = fit("contraception", "m_03")
    assert model.conf_int(method="profile", parameters="fixed", **rows).index.tolist() == list(model.vcov_.index)
    chosen = model.conf_int(method="profile", parameters=["sd_intercept|district", "age"], **rows)
    assert chosen.index.tolist() == ["sd_intercept|district", "age"]
    with pytest.raises(ValueError, match="no parameter 'sd'; there are 'intercept', 'age', .*'sd_intercept.district'"):
        model.conf_int(method="profile", parameters="sd", **rows)
    with pytest.raises(ValueError, match="level"):
        model.conf_int(95, method="profile", **rows)
