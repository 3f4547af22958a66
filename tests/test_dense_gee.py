"""The dense reference implementation of GEE against geepack and gee, and against its own definitions."""

import numpy as np
import pytest
from dense_gee import fit_dense_gee
from gee_reference import GEE_DATASETS, gee_data, gee_names, gee_reference, gee_settings
from scipy.linalg import fractional_matrix_power

RECORDS = [(dataset, name) for dataset in GEE_DATASETS for name in gee_names(dataset)]


@pytest.mark.parametrize("dataset, name", RECORDS)
def test_dense_fit_is_that_of_the_package(dataset, name):
    expected, data = gee_reference(dataset, name), gee_data(dataset, name)
    assert ["intercept", *data.X.columns] == expected["fixed_names"]
    fit = fit_dense_gee(
        data.X,
        data.y,
        data.groups,
        time=data.time,
        sample_weight=data.sample_weight,
        n_lags=2,
        fixed_correlation=expected.get("working_correlation"),
        **gee_settings(dataset, name),
    )
    np.testing.assert_allclose(fit.beta, expected["coef"], rtol=1e-6)
    np.testing.assert_allclose(fit.alpha, expected["alpha"], rtol=1e-6, atol=1e-9)
    assert fit.phi == pytest.approx(expected["phi"], rel=1e-6)
    for cov_type in ("robust", "naive"):
        vcov = expected[f"vcov_{cov_type}"]
        se = np.sqrt(np.diag(vcov))
        assert np.abs((fit.vcov(cov_type) - vcov) / np.outer(se, se)).max() < 1e-6
    if "QIC" in expected:
        criteria = fit.criteria()
        assert {key: expected[key] for key in criteria} == pytest.approx(criteria, rel=1e-6)


@pytest.mark.parametrize("correlation", ["exchangeable", "ar1"])
@pytest.mark.parametrize("ddof_correction", [False, True])
def test_covariances_from_sums_of_a_cluster(correlation, ddof_correction):
    """H_i, n_i x n_i, enters by U_i and M_i = D'V^-1 D, p x p, only: (I - H)^-a (y - mu) gives (I - M S^-1)^-a U."""
    data = gee_data("bacteria", "main_weighted/geeglm/ar1/scale_fix_FALSE")
    fit = fit_dense_gee(
        *data[:3], correlation, time=data.time, sample_weight=data.sample_weight, ddof_correction=ddof_correction
    )
    parts = [fit.D_Vinv_residual(c) for c in fit.clusters]
    U = [D.T @ Vinv @ r for D, Vinv, r in parts]
    M = [D.T @ Vinv @ D for D, Vinv, _ in parts]
    bread = np.linalg.inv(sum(M))
    for cov_type, power in [("kauermann-carroll", -0.5), ("mancl-derouen", -1.0)]:
        changed = [
            np.real(fractional_matrix_power(np.eye(4) - Mi @ bread, power)) @ Ui for Mi, Ui in zip(M, U, strict=True)
        ]
        expected = bread @ sum(np.outer(v, v) for v in changed) @ bread
        np.testing.assert_allclose(fit.vcov(cov_type), expected, rtol=1e-10)
