"""Linear mixed models against lme4, by maximum likelihood and REML; profiles against dense likelihoods."""

import re

import numpy as np
import pytest
from linear_reference import frame, reference, references, rows

from sklmm import MixedLinearRegression
from sklmm.inference.linear_parameters import linear_quantity
from sklmm.inference.profile import profile_interval
from sklmm.likelihood.linear import LinearLikelihood, LinearObjective
from sklmm.likelihood.linear_fit import fit_linear, linear_products

INSTEVAL = ["insteval/s_d/lmer_ML", "insteval/s_d_dept/lmer_REML"]  # the others take as long and say no more


@pytest.mark.parametrize("name", references() + INSTEVAL)
def test_fits_of_lme4(name):
    expected, (observations, structure, settings, levels) = reference(name), rows(name)
    fit = fit_linear(observations, structure, reml=name.endswith("REML"), **settings)
    assert fit.report.converged and not fit.is_singular and fit.aliased == []
    assert fit.log_likelihood == pytest.approx(expected["log_likelihood"], rel=1e-11)
    assert fit.n_counted == expected["n_obs"]
    se = np.sqrt(np.diag(expected["vcov"]))
    assert np.abs((fit.beta - expected["coef"]) / se).max() < 1e-6
    assert np.abs((fit.vcov - expected["vcov"]) / np.outer(se, se)).max() < 1e-5
    assert fit.sigma == pytest.approx(expected["sigma"], rel=1e-7)
    for f, factor in enumerate(structure.factors):
        found = expected["factors"][factor.name]
        sd = found["sd"] + expected["factors"].get(f"{factor.name}.1", {"sd": []})["sd"]
        covariance = fit.lambda_[f] @ fit.lambda_[f].T
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), sd, rtol=5e-6)
        if len(sd) == 2 and factor.blocks[0][1]:
            correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
            assert correlation == pytest.approx(found["corr"][0][1], abs=1e-7)
        shown = [levels[factor.name].index(level) for level in found["modes"]]
        np.testing.assert_allclose(fit.modes[f][shown], list(found["modes"].values()), rtol=1e-5, atol=1e-6 * sd[0])
        if "condvar" in found:
            shown = [levels[factor.name].index(level) for level in found["condvar"]]
            condvar = np.array(list(found["condvar"].values())).reshape(fit.mode_cov[f][shown].shape)
            # lme4 has no covariances between the terms of one factor
            own = np.ones(condvar.shape) if factor.blocks[0][1] else np.eye(condvar.shape[1])
            np.testing.assert_allclose(own * fit.mode_cov[f][shown], condvar, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", [*references(), "insteval/s_d/lmer_REML"])
def test_estimators_repeat_lme4(name):
    """The formula of lme4's call, and the table that the call was given."""
    expected, data = reference(name), frame(name)
    formula = re.search(r"lmer\(([^,]*~[^,]*), data", expected["call"])[1]
    weights = {"slope_weighted": {"precision_weight": "w"}, "slope_replicated": {"sample_weight": "n"}}
    model = MixedLinearRegression.from_formula(
        formula, data, method="reml" if name.endswith("REML") else "ml", **weights.get(name.split("/")[1], {})
    )
    assert model.converged_ and not model.is_singular_ and model.n_obs_ == expected["n_obs"]
    n_parameters = len(expected["coef"]) + len(expected["theta"]) + 1
    aic = -2.0 * expected["log_likelihood"] + 2.0 * n_parameters
    bic = aic + (np.log(expected["n_obs"]) - 2.0) * n_parameters
    assert (model.log_likelihood_, model.aic_, model.bic_) == pytest.approx(
        (expected["log_likelihood"], aic, bic), rel=1e-11
    )
    se = np.sqrt(np.diag(expected["vcov"]))
    assert np.abs((np.append(model.intercept_, model.coef_) - expected["coef"]) / se).max() < 1e-6
    assert np.abs((model.vcov_.to_numpy() - expected["vcov"]) / np.outer(se, se)).max() < 1e-5
    np.testing.assert_allclose(model.summary().coefficients["std_error"], se, rtol=5e-6)
    assert model.sigma_ == pytest.approx(expected["sigma"], rel=1e-7)
    for key, covariance in model.covariance_.items():
        turned = ":".join(reversed(key.split(":")))  # lme4 writes the inner factor of a nested pair first
        found = expected["factors"].get(key) or expected["factors"][turned]
        sd = found["sd"] + expected["factors"].get(f"{key}.1", {"sd": []})["sd"]
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), sd, rtol=5e-6)
        labels = [label if key in expected["factors"] else ":".join(reversed(label.split(":")))
                  for label in found["modes"]]  # fmt: skip
        modes = model.random_effects_[key].rename(index=str).loc[labels]
        np.testing.assert_allclose(modes, list(found["modes"].values()), rtol=1e-5, atol=1e-6 * sd[0])


QUANTITIES = {".sig01": ("random", (0,)), ".sigma": ("sigma", ()), "(Intercept)": ("fixed", (0,)),
              "Days": ("fixed", (1,))}  # fmt: skip
SLOPE = {".sig02": ("random", (0, 1)), ".sig03": ("random", (1,))}


@pytest.mark.parametrize("name", ["sleepstudy/slope/lmer_ML", "Penicillin/crossed/lmer_ML"])
def test_profile_intervals_are_those_of_a_dense_likelihood(name):
    expected = reference(name)["profile"]
    quantities = QUANTITIES | (SLOPE if name.startswith("sleepstudy") else {".sig02": ("random", (1,))})
    objective = LinearObjective(LinearLikelihood(linear_products(rows(name).observations, rows(name).structure)))
    assert objective.value == pytest.approx(reference(name)["log_likelihood"], rel=1e-11)
    for parameter, lower, upper in zip(*(expected[key] for key in ("parameters", "lower", "upper")), strict=True):
        found = profile_interval(objective, linear_quantity(*quantities[parameter], objective.engine.units), 0.95)
        np.testing.assert_allclose(found, (lower, upper), rtol=0, atol=1e-6 * (upper - lower))
