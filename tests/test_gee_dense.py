"""GEELogisticRegression against the dense reference implementation on random problems."""

import numpy as np
import pytest
from dense_gee import fit_dense_gee, make_problem

from sklmm import GEELogisticRegression
from sklmm.estimating import Fixed, MDependent

STRUCTURES = ("independence", "exchangeable", "ar1", "unstructured", "m-dependent", "fixed")
TIMES = (0, 1, 2, 4, 5)
R = 0.5 ** np.sqrt(np.abs(np.subtract.outer(TIMES, TIMES)))


def assert_same_fit(problem, structure, *, time, sample_weight=None, **options):
    """Fits both, compares all estimates and criteria, and returns the dense fit."""
    expected = fit_dense_gee(
        *problem[:3], structure, time=time, sample_weight=sample_weight, n_lags=2, fixed_correlation=R, **options
    )
    assert np.linalg.eigvalsh(expected.working_correlation(expected.times))[0] > 0.01  # an ordinary problem
    correlation = {"m-dependent": MDependent(m=2), "fixed": Fixed(R)}.get(structure, structure)
    model = GEELogisticRegression(correlation, tol=1e-12, **options)
    model.fit(problem.X, problem.y, groups=problem.groups, time=time, sample_weight=sample_weight)
    assert model.converged_
    np.testing.assert_allclose(np.r_[model.intercept_, model.coef_[0]], expected.beta, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(model.correlation_params_, expected.alpha, rtol=1e-9, atol=1e-10)
    assert model.dispersion_ == pytest.approx(expected.phi, rel=1e-10)
    criteria = {"quasi": model.quasi_likelihood_, "CIC": model.cic_, "QIC": model.qic_, "QICu": model.qicu_}
    assert criteria == pytest.approx(expected.criteria(), rel=1e-9)
    return expected


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_clusters_that_miss_times(structure, ddof_correction, weighted, seed):
    problem = make_problem(seed)
    weights = problem.sample_weight if weighted else None
    assert_same_fit(problem, structure, time=problem.time, sample_weight=weights, ddof_correction=ddof_correction)


@pytest.mark.parametrize(
    "structure, ddof_correction",
    # as counts, dense_gee repeats rows: whole weights only
    [(s, False) for s in STRUCTURES] + [(s, True) for s in STRUCTURES[2:]],
)
def test_fractional_weights(structure, ddof_correction):
    problem = make_problem(3)
    weights = problem.sample_weight * 0.7 + 0.1
    assert_same_fit(problem, structure, time=problem.time, sample_weight=weights, ddof_correction=ddof_correction)


@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_weight_zero_is_the_row_left_out(structure, ddof_correction):
    """Whole clusters, too: they do not count as clusters."""
    problem = make_problem(3, n_clusters=120)
    weights = np.where(np.arange(len(problem.y)) % 6 == 0, 0.0, problem.sample_weight)
    weights[problem.groups == problem.groups[0]] = 0.0
    assert_same_fit(problem, structure, time=problem.time, sample_weight=weights, ddof_correction=ddof_correction)


@pytest.mark.parametrize("dispersion", [1.0, 1.4])
@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_fixed_dispersion(structure, ddof_correction, dispersion):
    problem = make_problem(4)
    assert_same_fit(
        problem,
        structure,
        time=problem.time,
        sample_weight=problem.sample_weight,
        ddof_correction=ddof_correction,
        dispersion=dispersion,
    )


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoTimesWarning")
@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_positions_stand_in_for_times(structure, ddof_correction):
    """Without times the first, second, ... row of each cluster belong together."""
    problem = make_problem(5, complete=True)
    assert_same_fit(problem, structure, time=None, sample_weight=problem.sample_weight, ddof_correction=ddof_correction)


@pytest.mark.parametrize("ddof_correction", [False, True])
def test_ar1_with_times_that_are_no_whole_numbers(ddof_correction):
    problem = make_problem(6, times=(0, 0.25, 0.75, 1.75, 2.5))
    fit = assert_same_fit(
        problem, "ar1", time=problem.time, sample_weight=problem.sample_weight, ddof_correction=ddof_correction
    )
    assert fit.alpha[0] > 0.1


@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "unstructured", "m-dependent"])
def test_negative_correlation(structure, ddof_correction):
    problem = make_problem(7, times=(0, 1, 2), n_clusters=150, complete=True, alternating=True)
    fit = assert_same_fit(problem, structure, time=problem.time, ddof_correction=ddof_correction)
    assert fit.alpha[0] < -0.05
