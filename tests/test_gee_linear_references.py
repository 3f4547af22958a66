"""The estimating equations of measured outcomes repeat the reference fits of geepack and gee."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sklmm import GEELinearRegression
from sklmm.estimating.correlation import resolve_correlation
from sklmm.estimating.scoring import fit_gee
from sklmm.families import GAUSSIAN
from sklmm.inference import criteria

_FILE = json.loads((Path(__file__).parent / "reference" / "gee_gaussian.json").read_text())
FITS = _FILE["fits"]


@cache
def rows(name):
    """X, y, codes, times and settings of a record: all groups are complete, and listed one after another."""
    data, columns = name.split("/")[0], _FILE["data"][name.split("_")[0].split("/")[0]]
    settings = {}
    if data.startswith("sleepstudy"):
        y, row = np.array(columns["Reaction"]), np.arange(1, 181)
        time = np.tile(np.arange(10.0), 18)
        X = time[:, None]
        if data.endswith("weighted"):
            settings["sample_weight"] = 0.5 + 0.5 * (row % 3)
        if data.endswith("offset"):
            settings["offset"] = np.round(10.0 * np.sin(row), 6)
    elif data == "Oats":
        y, time = np.array(columns["yield"], dtype=float), np.tile(np.arange(4.0), 18)
        X = np.tile(columns["nitro"], 18)[:, None]
    else:
        y, time = np.array(columns["size"]), np.tile(np.arange(8.0), 79)
        days, ozone = np.tile(columns["days"], 79), np.repeat(columns["ozone"], 8)
        X = np.column_stack([days, ozone, days * ozone])
    per_group = int(time.max()) + 1
    return X, y, np.arange(len(y)) // per_group, time, settings


@pytest.mark.parametrize("name", FITS)
def test_records(name):
    expected = FITS[name]
    X, y, codes, time, settings = rows(name)
    fit = fit_gee(
        X, y, correlation=resolve_correlation(name.split("/")[2]), codes=codes, n_clusters=codes.max() + 1,
        times=time, family=GAUSSIAN, ddof_correction=expected["engine"].startswith("gee "), **settings,
    )  # fmt: skip
    assert fit.report.converged, fit.report.verdict
    np.testing.assert_allclose(fit.beta, expected["coef"], rtol=1e-7)
    np.testing.assert_allclose(fit.alpha[: len(expected["alpha"])], expected["alpha"], rtol=1e-7)
    assert fit.dispersion == pytest.approx(expected["phi"], rel=1e-7)
    J, B = fit.coordinates, fit.bread
    for vcov, kind in ((fit.dispersion * J @ B @ J.T, "naive"), (J @ B @ fit.meats[0] @ B @ J.T, "robust")):
        se = np.sqrt(np.diag(expected[f"vcov_{kind}"]))
        assert np.abs((vcov - expected[f"vcov_{kind}"]) / np.outer(se, se)).max() < 1e-7, kind
    if "quasi" in expected:
        A, V = fit.independence_information, B @ fit.meats[0] @ B
        found = {
            "quasi": fit.quasi_likelihood,
            "CIC": criteria.cic(A, V),
            "QIC": criteria.qic(fit.quasi_likelihood, A, V),
            "QICu": criteria.qicu(fit.quasi_likelihood, len(B)),
        }
        assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-7)


@pytest.mark.parametrize("name", FITS)
def test_estimators_repeat_the_records(name):
    expected = FITS[name]
    X, y, codes, time, settings = rows(name)
    as_geepack = not expected["engine"].startswith("gee ")
    model = GEELinearRegression(name.split("/")[2], ddof_correction=not as_geepack)
    model.fit(X, y, groups=codes, time=time, **settings)
    np.testing.assert_allclose(np.append(model.intercept_, model.coef_), expected["coef"], rtol=1e-7)
    np.testing.assert_allclose(model.correlation_params_[: len(expected["alpha"])], expected["alpha"], rtol=1e-7)
    assert model.dispersion_ == pytest.approx(expected["phi"], rel=1e-7)
    for kind in ("naive", "robust"):
        se = np.sqrt(np.diag(expected[f"vcov_{kind}"]))
        found = model.vcov(kind).to_numpy()
        assert np.abs((found - expected[f"vcov_{kind}"]) / np.outer(se, se)).max() < 1e-7, kind
    np.testing.assert_allclose(model.summary().coefficients["std_error"], se, rtol=1e-7)
    if "quasi" in expected:
        found = {"quasi": model.quasi_likelihood_, "CIC": model.cic_, "QIC": model.qic_, "QICu": model.qicu_}
        assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-7)
