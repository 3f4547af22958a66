"""All covariances of GEELogisticRegression against dense matrices, cluster by cluster."""

import numpy as np
import pytest
from dense_gee import fit_dense_gee, make_problem

from sklmm import GEELogisticRegression
from sklmm.estimating import Fixed, MDependent

COV_TYPES = ("robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel")
STRUCTURES = ("independence", "exchangeable", "ar1", "unstructured", "m-dependent", "fixed")
TIMES = (0, 1, 2, 4, 5)
R = 0.5 ** np.sqrt(np.abs(np.subtract.outer(TIMES, TIMES)))


def assert_same_covariances(X, problem, structure, *, weights, ddof_correction, dispersion="estimate"):
    options = {"ddof_correction": ddof_correction, "dispersion": dispersion}
    expected = fit_dense_gee(
        X,
        problem.y,
        problem.groups,
        structure,
        time=problem.time,
        sample_weight=weights,
        n_lags=2,
        fixed_correlation=R,
        **options,
    )
    correlation = {"m-dependent": MDependent(m=2), "fixed": Fixed(R)}.get(structure, structure)
    model = GEELogisticRegression(correlation, tol=1e-13, **options)
    model.fit(X, problem.y, groups=problem.groups, time=problem.time, sample_weight=weights)
    for cov_type in COV_TYPES:
        dense = expected.vcov(cov_type)
        se = np.sqrt(np.diag(dense))
        assert np.abs((model.vcov(cov_type).to_numpy() - dense) / np.outer(se, se)).max() < 1e-10, cov_type
    return expected


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_unequal_clusters(structure, ddof_correction, weighted):
    problem = make_problem(11)
    weights = problem.sample_weight if weighted else None
    assert_same_covariances(problem.X, problem, structure, weights=weights, ddof_correction=ddof_correction)


@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", [s for s in STRUCTURES if s != "unstructured"])
def test_few_clusters_one_of_which_nearly_decides_a_coefficient(structure, ddof_correction):
    """Where Fay and Graubard's bound of 0.75 acts, and Morel's share of the naive covariance is 1/2."""
    problem = make_problem(19, n_clusters=9, complete=True)
    own = (problem.groups == problem.groups[0]) * np.linspace(-1, 2, len(problem.y))
    X = np.column_stack([problem.X, own + 0.12 * np.sin(3 * np.arange(len(problem.y)))])
    expected = assert_same_covariances(
        X, problem, structure, weights=problem.sample_weight, ddof_correction=ddof_correction
    )
    parts = [expected.D_Vinv_residual(c) for c in expected.clusters]
    leverages = [np.diag(D.T @ Vinv @ D @ expected.vcov("naive")) for D, Vinv, _ in parts]
    assert 0.75 < np.max(leverages) < 0.999
    assert expected.p / (len(expected.clusters) - expected.p) > 0.5


@pytest.mark.parametrize("structure", STRUCTURES)
def test_fixed_dispersion(structure):
    """It scales the naive covariance, decides Morel's, and leaves the others as they are."""
    problem = make_problem(13)
    expected = assert_same_covariances(
        problem.X, problem, structure, weights=problem.sample_weight, ddof_correction=True, dispersion=2.5
    )
    assert expected.phi == 2.5
