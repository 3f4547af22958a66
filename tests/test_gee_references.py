"""GEELogisticRegression repeats the reference fits of geepack and gee."""

import numpy as np
import pytest
from gee_reference import GEE_DATASETS, gee_data, gee_names, gee_reference, gee_settings

from sklmm import GEELogisticRegression
from sklmm.estimating import Fixed, MDependent

RECORDS = [(dataset, name) for dataset in GEE_DATASETS for name in gee_names(dataset)]
GEEGLM = [(dataset, name) for dataset in GEE_DATASETS for name in gee_names(dataset, engine="geeglm")]


def _fit(dataset, name, **options):
    record, data, settings = gee_reference(dataset, name), gee_data(dataset, name), gee_settings(dataset, name)
    if settings["correlation"] == "m-dependent":
        settings["correlation"] = MDependent(m=len(record["alpha"]))
    elif settings["correlation"] == "fixed":
        settings["correlation"] = Fixed(record["working_correlation"])
    model = GEELogisticRegression(**settings, **options)
    return model.fit(data.X, data.y, groups=data.groups, sample_weight=data.sample_weight, time=data.time)


@pytest.mark.parametrize("dataset, name", RECORDS)
def test_estimates_and_covariances(dataset, name):
    expected, model = gee_reference(dataset, name), _fit(dataset, name)
    assert model.converged_
    np.testing.assert_allclose(np.r_[model.intercept_, model.coef_[0]], expected["coef"], rtol=1e-6)
    np.testing.assert_allclose(model.correlation_params_, expected["alpha"], rtol=1e-6)
    assert model.dispersion_ == pytest.approx(expected["phi"], rel=1e-6)
    for cov_type in ("robust", "naive"):
        reference = expected[f"vcov_{cov_type}"]
        vcov = model.vcov(cov_type)
        assert list(vcov.columns) == list(vcov.index) == expected["fixed_names"]
        se = np.sqrt(np.diag(reference))
        assert np.abs((vcov.to_numpy() - reference) / np.outer(se, se)).max() < 1e-6


@pytest.mark.parametrize("dataset, name", GEEGLM)
def test_information_criteria(dataset, name):
    expected, model = gee_reference(dataset, name), _fit(dataset, name)
    assert model.quasi_likelihood_ == pytest.approx(expected["quasi"], rel=1e-6)
    assert model.cic_ == pytest.approx(expected["CIC"], rel=1e-6)
    assert model.qic_ == pytest.approx(expected["QIC"], rel=1e-6)
    assert model.qicu_ == pytest.approx(expected["QICu"], rel=1e-6)


@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "unstructured", "m-dependent", "fixed"])
def test_working_correlation_is_the_matrix_of_the_parameters(structure):
    """Over the five weeks of the bacteria data; the longest cluster has all of them."""
    name = f"main/geeglm/{structure}/scale_fix_FALSE"
    alpha = gee_reference("bacteria", name)["alpha"]
    expected = np.eye(5)
    j, k = np.triu_indices(5, 1)
    expected[j, k] = {
        "exchangeable": lambda: np.repeat(alpha, 10),
        "ar1": lambda: alpha ** (k - j),
        "unstructured": lambda: alpha,
        "m-dependent": lambda: np.r_[alpha, 0, 0][k - j - 1],
        "fixed": lambda: gee_reference("bacteria", name)["working_correlation"][j, k],
    }[structure]()
    expected = expected + np.triu(expected, 1).T
    np.testing.assert_allclose(_fit("bacteria", name).working_correlation_, expected, rtol=1e-6)


@pytest.mark.parametrize("cov_type", ["naive", "mancl-derouen"])
def test_criteria_use_the_robust_covariance_whatever_is_reported(cov_type):
    name = "main/geeglm/exchangeable/scale_fix_FALSE"
    expected, model = gee_reference("bacteria", name), _fit("bacteria", name, cov_type=cov_type)
    assert model.qic_ == pytest.approx(expected["QIC"], rel=1e-6)
    np.testing.assert_array_equal(model.vcov_, model.vcov(cov_type))
    assert np.abs(np.diag(model.vcov_) / np.diag(expected["vcov_robust"]) - 1).max() > 0.01


def test_weight_two_is_the_row_twice_in_gee_and_not_in_geepack():
    """The two meanings of weights differ: the records say by how much."""
    gee, geepack = (
        gee_reference("bacteria", f"main_weighted/{engine}/exchangeable/scale_fix_FALSE")
        for engine in ("gee", "geeglm")
    )
    assert abs(gee["alpha"][0] - geepack["alpha"][0]) > 0.1
    data = gee_data("bacteria", "main_weighted/gee/exchangeable/scale_fix_FALSE")
    rows = np.repeat(np.arange(len(data.y)), data.sample_weight.astype(int))
    model = GEELogisticRegression().fit(data.X.iloc[rows], data.y.iloc[rows], groups=data.groups.iloc[rows])
    assert model.correlation_params_[0] == pytest.approx(gee["alpha"][0], rel=1e-6)
