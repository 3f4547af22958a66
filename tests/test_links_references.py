"""Probit and complementary log-log against glmmTMB (Laplace), the exact likelihood (quadrature) and geepack."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from designs import Coded, engine_of, fitted
from reference_data import model_data

from sklmm.datasets import load_verbagg
from sklmm.estimating.correlation import AR1, Exchangeable, Independence, Unstructured
from sklmm.estimating.scoring import fit_gee
from sklmm.families import bernoulli

RECORDS = json.loads((Path(__file__).parent / "reference" / "links.json").read_text())
LAPLACE = [name for name in RECORDS if "glmmTMB" in name]
EXACT = [name for name in RECORDS if "exact" in name]
GEE = [name for name in RECORDS if "geeglm" in name]
STRUCTURES = {"independence": Independence(), "exchangeable": Exchangeable(), "ar1": AR1(),
              "unstructured": Unstructured()}  # fmt: skip


@cache
def _rows(name):
    """X, y, codes by factor and weights, with columns in the order of the record's coefficients."""
    if "verbagg" in name:
        bunch = load_verbagg(as_frame=True)
        wanted, frame = RECORDS[name]["fixed_names"][1:], bunch.data
        text = [column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])]
        X = pd.get_dummies(frame, columns=text, prefix_sep="", dtype=float)[wanted]
        groups, weights = [bunch.groups[f] for f in ("id", "item")], None
        y = bunch.target
    else:
        dataset = next(d for d in ("contraception", "ohio", "cbpp") if d in name)
        X, y, groups, weights, _ = model_data(dataset, "m_03" if dataset == "contraception" else dataset)
        if "exact" in name and dataset == "contraception":
            X = X.assign(age=X["age"] / 10, age2=X["age2"] / 100)
        groups = [groups]
    codes = [np.unique(g.astype(str), return_inverse=True)[1].astype(np.intp) for g in groups]
    return X.to_numpy(dtype=float), y.to_numpy(dtype=np.uint8), codes, weights


def _model(name):
    X, y, codes, weights = _rows(name)
    slope = "slope_urban" in name
    columns, blocks = ([-1, 2], [(2, True)]) if slope else ([-1], [(1, True)])
    factors = [Coded(code, int(code.max()) + 1, columns, blocks, f"f{k}") for k, code in enumerate(codes)]
    return dict(X=X, y=y, factors=factors, sample_weight=weights, family=bernoulli(RECORDS[name]["link"]))


@pytest.mark.parametrize("name", LAPLACE)
def test_laplace_of_glmmtmb(name):
    """Its curvature at the modes is the observed one, as here; lme4's is the expected one."""
    expected, fit = RECORDS[name], fitted(**_model(name))
    assert fit.report.converged, fit.report.verdict
    assert fit.log_likelihood == pytest.approx(expected["log_likelihood"], abs=1e-6)
    se = np.array(expected["se"])
    assert np.max(np.abs(fit.beta - expected["coef"]) / se) < 1e-4
    n = len(se)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov)[:n]), se, rtol=1e-4)
    for Lambda, factor in zip(fit.lambda_, expected["factors"].values(), strict=True):
        covariance = Lambda @ Lambda.T
        sd = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(sd, factor["sd"], rtol=1e-5)
        np.testing.assert_allclose(covariance / np.outer(sd, sd), factor["corr"], atol=1e-5)


@pytest.mark.parametrize("name", EXACT)
def test_quadrature_and_the_exact_likelihood(name):
    expected, model = RECORDS[name], _model(name)
    natural = np.array(expected["coef"])
    for label, value in expected["at_the_estimates"].items():
        engine = engine_of(**model, n_quadrature=int(label.split("k=")[1]))
        x = engine.units.internal(natural, np.array(expected["sd"]))
        assert engine.evaluate(x)[0] == pytest.approx(value, abs=1e-8)
    nodes = fitted(**model, n_quadrature=15)
    assert nodes.log_likelihood == pytest.approx(expected["of_15_nodes"]["logLik"], abs=1e-7)
    parameters = np.append(nodes.beta, nodes.lambda_[0][0, 0])
    np.testing.assert_allclose(parameters, expected["of_15_nodes"]["parameters"], rtol=2e-6)
    fit, many_rows_a_group = fitted(**model, n_quadrature=51), "ohio" not in name
    assert fit.log_likelihood == pytest.approx(expected["log_likelihood"], abs=1e-8 if many_rows_a_group else 1e-4)
    if many_rows_a_group:
        se = np.array(expected["se"])
        assert np.max(np.abs(fit.beta - natural) / se) < 1e-6
        np.testing.assert_allclose(np.sqrt(np.diag(fit.vcov)[: len(se)]), se, rtol=1e-5)


@pytest.mark.parametrize("name", GEE)
def test_geeglm(name):
    expected = RECORDS[name]
    X, y, (codes,), _ = _rows(name)
    times = X[:, 0] if "ohio" in name else None
    fit = fit_gee(
        X, y, correlation=STRUCTURES[expected["corstr"]], codes=codes, n_clusters=int(codes.max()) + 1, times=times,
        family=bernoulli(expected["link"]), ddof_correction=False, tol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(fit.beta, expected["coef"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.alpha[: len(np.atleast_1d(expected["alpha"]))], expected["alpha"], rtol=1e-6)
    assert fit.dispersion == pytest.approx(expected["phi"], rel=1e-6)
    J, bread = fit.coordinates, fit.bread
    np.testing.assert_allclose(fit.dispersion * J @ bread @ J.T, expected["vcov_naive"], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(J @ bread @ fit.meats[0] @ bread @ J.T, expected["vcov_robust"], rtol=1e-6, atol=1e-9)
    assert fit.quasi_likelihood == pytest.approx(expected["quasi"], rel=1e-7)
    cic = np.trace(fit.independence_information @ bread @ fit.meats[0] @ bread)
    assert cic == pytest.approx(expected["CIC"], rel=1e-6)
