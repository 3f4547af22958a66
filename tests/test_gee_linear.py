"""The estimating equations of measured outcomes: against the dense reference implementation, and on hard data."""

import pickle
from dataclasses import fields

import numpy as np
import pytest
from dense_gee import fit_dense_gee, make_problem

from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.estimating import AR1, Exchangeable, Fixed, Independence, MDependent, Unstructured, WorkingCorrelation
from sklmm.estimating.scoring import fit_gee
from sklmm.families import GAUSSIAN
from sklmm.inference.bootstrap import MarginalRefit
from sklmm.inference.sandwich import COV_TYPES, Meats, covariance

TIMES = (0, 1, 2, 4, 5)
R = 0.5 ** np.sqrt(np.abs(np.subtract.outer(TIMES, TIMES)))


class OfMyOwn(WorkingCorrelation):
    """Exchangeable, as a user would write it."""

    name = "of my own"

    def estimate(self, moments):
        return Unstructured().estimate(moments).mean(keepdims=True)

    def matrix(self, alpha, times):
        return Exchangeable().matrix(alpha, times)


STRUCTURES = {
    "independence": Independence(), "exchangeable": Exchangeable(), "ar1": AR1(), "unstructured": Unstructured(),
    "m-dependent": MDependent(m=2), "fixed": Fixed(R, times=TIMES),
}  # fmt: skip
ALL = {**STRUCTURES, "of my own": OfMyOwn()}


def measured(seed, **shape):
    """A problem of `dense_gee` with measured outcomes, alike within a group and in time."""
    problem, rng = make_problem(seed, **shape), np.random.default_rng(seed + 100)
    codes = problem.groups - problem.groups.min()
    half = problem.time.astype(int) // 2
    shared = rng.normal(size=codes.max() + 1)[codes] + rng.normal(size=(codes.max() + 1, 6))[codes, half]
    y = 3.0 + problem.X @ [1.0, -0.1, 0.5] + 0.4 * shared + 0.8 * rng.normal(size=len(codes))
    return problem._replace(y=y)


def fit(problem, structure="exchangeable", weights=None, **options):
    codes = np.unique(problem.groups, return_inverse=True)[1].astype(np.intp)
    options = dict(n_clusters=codes.max() + 1, labels=range(codes.max() + 1), times=problem.time) | options
    options.setdefault("sample_weight", weights)
    return fit_gee(problem.X, problem.y, correlation=ALL[structure], codes=codes, family=GAUSSIAN, **options)


def vcov(found, cov_type, n_obs):
    inner = covariance(
        cov_type, found.bread, found.dispersion, Meats(*found.meats), n_obs, found.n_clusters, len(found.bread)
    )
    return found.coordinates @ inner @ found.coordinates.T


def assert_same(found, expected, rtol=1e-8):
    """Two fits say the same."""
    assert found.report.converged and expected.report.converged
    for field in fields(found):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, (float, np.ndarray)) and np.size(other):
            near = 1e-5 if field.name == "influence" else rtol  # in single precision
            np.testing.assert_allclose(one, other, rtol=near, atol=near * np.abs(other).max(), err_msg=field.name)


# Against dense matrices ------------------------------------------------------------------------------------------


def assert_dense(problem, structure, weights=None, **options):
    expected = fit_dense_gee(
        *problem[:3], structure, time=problem.time, sample_weight=weights, n_lags=2, fixed_correlation=R,
        link="identity", **options,
    )  # fmt: skip
    options["dispersion"] = None if options.get("dispersion", "estimate") == "estimate" else options["dispersion"]
    found = fit(problem, structure, weights, tol=1e-12, **options)
    assert found.report.converged, found.report.verdict
    np.testing.assert_allclose(found.beta, expected.beta, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.alpha[: expected.alpha.size], expected.alpha, rtol=1e-8, atol=1e-9)
    assert found.dispersion == pytest.approx(expected.phi, rel=1e-10)
    for cov_type in COV_TYPES:
        reference = expected.vcov(cov_type)
        se = np.sqrt(np.diag(reference))
        assert np.abs((vcov(found, cov_type, expected.total_weight) - reference) / np.outer(se, se)).max() < 1e-8
    criteria = expected.criteria()
    assert found.quasi_likelihood == pytest.approx(criteria["quasi"], rel=1e-10)
    cic = np.trace(found.independence_information @ found.bread @ found.meats[0] @ found.bread)
    assert cic == pytest.approx(criteria["CIC"], rel=1e-8)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ddof_correction", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_dense_reference(structure, ddof_correction, weighted):
    problem = measured(0)
    assert_dense(problem, structure, problem.sample_weight if weighted else None, ddof_correction=ddof_correction)


@pytest.mark.parametrize("ddof_correction", [False, True])
def test_fixed_dispersion(ddof_correction):
    found = assert_dense(measured(1), "exchangeable", ddof_correction=ddof_correction, dispersion=2.5)
    assert found.dispersion == 2.5


def test_structure_of_ones_own():
    """Complete groups: the mean of the correlations of pairs of times."""
    problem = measured(2, times=(0, 1, 2, 3), complete=True)
    found, expected = fit(problem, "of my own", ddof_correction=False), fit(problem, ddof_correction=False)
    assert_same(found, expected, rtol=1e-7)


def test_groups_larger_than_a_tile():
    rng = np.random.default_rng(3)
    n = 6000
    X = rng.normal(size=(n, 2))
    groups = np.where(np.arange(n) < 5000, 0, np.arange(n) // 50)
    y = X @ [1.0, 2.0] + rng.normal(size=groups.max() + 1)[groups] + rng.normal(size=n)
    problem = measured(0)._replace(X=X, y=y, groups=groups, time=np.arange(float(n)))
    found = fit(problem, "exchangeable", ddof_correction=False)
    # V^-1 of each group by hand, at the solution
    alpha, U = found.alpha[0], np.zeros(3)
    Z = np.column_stack([np.ones(n), X])
    residual = y - Z @ found.beta
    for group in np.unique(groups):
        rows = groups == group
        size = rows.sum()
        u = residual[rows] - alpha * residual[rows].sum() / (1 + (size - 1) * alpha)
        U += Z[rows].T @ u / (1 - alpha)
    assert np.abs(U).max() < 1e-7 * np.abs(Z.T @ np.abs(residual)).max()
    sums = np.bincount(groups, residual)
    sizes = np.bincount(groups)
    pairs = ((sums**2).sum() - residual @ residual) / (sizes @ (sizes - 1.0))
    assert alpha == pytest.approx(pairs / np.mean(residual**2), rel=1e-8)


# Units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ALL)
def test_far_from_zero(structure):
    """Outcomes and features that are multiples of 2^-12, so that the shifted ones hold the same numbers."""
    problem = measured(4, n_clusters=60)
    near = problem._replace(X=np.round(problem.X * 4096) / 4096, y=np.round(problem.y * 4096) / 4096)
    center = np.array([1e6, -2e6, 1.76e9])
    far = near._replace(X=near.X + center, y=near.y + 1e6)
    found, expected = fit(far, structure), fit(near, structure)
    np.testing.assert_allclose(found.beta[1:], expected.beta[1:], rtol=1e-8)
    assert found.beta[0] == pytest.approx(expected.beta[0] + 1e6 - center @ expected.beta[1:], rel=1e-8)
    for name in ("alpha", "dispersion", "quasi_likelihood"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8, atol=1e-8, err_msg=name)
    for cov_type in COV_TYPES[:4]:  # Fay and Graubard's depends on where features are 0
        one, other = (vcov(one, cov_type, 200.0)[1:, 1:] for one in (found, expected))
        se = np.sqrt(np.diag(other))
        np.testing.assert_allclose(one / np.outer(se, se), other / np.outer(se, se), atol=1e-8)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units_of_the_outcome(scale):
    problem = measured(5, n_clusters=60)
    expected = fit(problem, dispersion=2.0)
    found = fit(problem._replace(y=scale * problem.y), dispersion=2.0 * scale**2)
    np.testing.assert_allclose(found.beta, scale * expected.beta, rtol=1e-10)
    np.testing.assert_allclose(found.alpha, expected.alpha, rtol=1e-10)
    assert found.quasi_likelihood == pytest.approx(scale**2 * expected.quasi_likelihood, rel=1e-10)
    for cov_type in COV_TYPES:
        new, old = (vcov(one, cov_type, 200.0) for one in (found, expected))
        np.testing.assert_allclose(new, scale**2 * old, rtol=1e-9, atol=1e-9 * scale**2)


@pytest.mark.parametrize("noise", [1.0, 1e-4, 1e-8])
def test_little_left_to_explain(noise):
    """Coefficients are found to a share of their standard errors, however small these are."""
    problem, rng = measured(6, n_clusters=60), np.random.default_rng(0)
    codes = problem.groups - problem.groups.min()
    errors = rng.normal(size=60)[codes] + rng.normal(size=len(codes))
    found = fit(problem._replace(y=noise * errors + problem.X @ [1.0, -1.0, 2.0]))
    expected = fit(problem._replace(y=errors))
    assert found.report.converged
    np.testing.assert_allclose(
        (found.beta - [0.0, 1.0, -1.0, 2.0]) / noise, expected.beta, rtol=1e-10, atol=1e-6 if noise < 1e-6 else 1e-9
    )
    np.testing.assert_allclose(found.alpha, expected.alpha, rtol=1e-5)


def test_offset_is_taken_off_the_outcome():
    problem, rng = measured(7), np.random.default_rng(1)
    offset = 1e6 + rng.normal(size=len(problem.y))
    for intercept in (True, False):
        found = fit(problem._replace(y=problem.y + offset), offset=offset, fit_intercept=intercept)
        assert_same(found, fit(problem, fit_intercept=intercept))


# Hard data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ALL)
@pytest.mark.parametrize("far", [0.0, 1e6])
def test_exact_fits(structure, far):
    problem = measured(8)
    beta = np.array([3.0, 1.0, -2.0, 0.5])
    found = fit(problem._replace(y=far + beta[0] + problem.X @ beta[1:]), structure)
    assert found.report.converged
    np.testing.assert_allclose(found.beta, beta + [far, 0, 0, 0], rtol=1e-9)
    assert found.dispersion == 0.0 == found.quasi_likelihood
    assert not found.meats[0].any() and np.isfinite(found.bread).all() and not found.influence.any()
    assert not found.alpha.any()
    assert found.trouble is None or "no residuals" in found.trouble
    assert (found.trouble is None) == (structure in ("independence", "fixed"))
    for cov_type in COV_TYPES:
        assert not vcov(found, cov_type, len(problem.y)).any()


@pytest.mark.parametrize("value", [0.0, 7.0, 1e6 + 0.1])
def test_constant_outcomes(value):
    problem = measured(9)
    found = fit(problem._replace(y=np.full(len(problem.y), value)))
    assert found.report.converged and found.dispersion == 0.0
    np.testing.assert_allclose(found.beta, [value, 0, 0, 0], rtol=1e-14, atol=1e-12 * max(value, 1.0))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_as_many_coefficients_as_rows(n):
    problem = type(measured(0))(*(part[:n] for part in measured(10)))
    found = fit(problem)
    assert found.report.converged and found.dispersion == 0.0
    assert len(found.aliased) == 4 - n
    np.testing.assert_allclose(found.beta[0] + problem.X @ found.beta[1:], problem.y, rtol=1e-9)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_one_row_a_group_is_least_squares(structure):
    problem = measured(11)
    found = fit(problem._replace(groups=np.arange(len(problem.y))), structure, problem.sample_weight)
    Z, w = np.column_stack([np.ones(len(problem.y)), problem.X]), problem.sample_weight
    bread = np.linalg.inv(Z.T * w @ Z)
    beta = bread @ (Z.T @ (w * problem.y))
    residual = problem.y - Z @ beta
    np.testing.assert_allclose(found.beta, beta, rtol=1e-9)
    assert found.dispersion == pytest.approx(w @ residual**2 / (w.sum() - 4), rel=1e-9)
    robust = bread @ (Z.T * (w * residual) ** 2 @ Z) @ bread
    np.testing.assert_allclose(vcov(found, "robust", w.sum()), robust, rtol=1e-8)


def test_columns_that_say_nothing():
    problem = measured(12)
    X = np.column_stack([problem.X[:, 0], np.full(len(problem.y), 5.0), problem.X, problem.X @ [1, 1, 0]])
    found, expected = fit(problem._replace(X=X)), fit(problem)
    assert found.aliased == [1, 2, 5]
    np.testing.assert_allclose(found.beta[[0, 1, 4, 5]], expected.beta, rtol=1e-8)
    assert found.dispersion == pytest.approx(expected.dispersion, rel=1e-10)
    without = fit(problem._replace(X=np.zeros((len(problem.y), 0))))
    assert without.report.converged and without.beta.shape == (1,)
    alone = fit(problem._replace(X=np.ones((len(problem.y), 1))), fit_intercept=False)
    np.testing.assert_allclose(alone.beta, without.beta, rtol=1e-10)


@pytest.mark.parametrize("structure", ALL)
def test_order_of_rows_and_threads(structure):
    problem, rng = measured(13), np.random.default_rng(2)
    order = rng.permutation(len(problem.y))
    one, three = (fit(problem, structure, n_threads=k) for k in (1, 3))
    np.testing.assert_array_equal(one.beta, three.beta)
    np.testing.assert_array_equal(one.meats, three.meats)
    assert_same(fit(type(problem)(*(part[order] for part in problem)), structure), one, 1e-9)


def test_many_rows_without_polish():
    """More rows than are solved to rounding error: the same estimates, to a share of a standard error."""
    rng = np.random.default_rng(4)
    n, k = 210_000, 30_000
    codes = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, 3)) + [0.0, 1e4, 0.0]
    y = 5.0 + X @ [1.0, 0.1, 0.0] + rng.normal(size=k)[codes] + rng.normal(size=n)
    found = fit_gee(X, y, correlation=Exchangeable(), codes=codes, n_clusters=k, family=GAUSSIAN, tol=1e-8)
    assert found.report.converged
    Z, size = np.column_stack([np.ones(n), X - X.mean(axis=0)]), np.bincount(codes, minlength=k)
    residual = y - found.beta[0] - X @ found.beta[1:]
    alpha = found.alpha[0]
    shrunk = (alpha / (1 + (size - 1) * alpha) * np.bincount(codes, residual, k))[codes]
    step = found.bread @ np.roll(Z.T @ (residual - shrunk) / (1 - alpha), -1) / 1.0
    assert np.abs(step).max() < 1e-2  # of the size of standardised coefficients
    assert found.alpha[0] == pytest.approx(0.5, abs=0.01) and found.dispersion == pytest.approx(2.0, rel=0.02)


def test_effects_within_groups_against_those_between_them():
    """The solution follows the slope within groups, and describes rows worse than their mean does; so it should."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(200), 5)
    between, within = 3.0 * rng.normal(size=200), rng.normal(size=1000)
    y = within - 0.5 * between[codes] + 0.05 * rng.normal(size=1000)
    found = fit_gee(
        (between[codes] + within)[:, None], y, correlation=Exchangeable(), codes=codes, n_clusters=200, family=GAUSSIAN
    )
    assert found.report.converged
    assert found.beta[1] > 0.9 and -2 * found.quasi_likelihood > 1.5 * 1000 * y.var()


def test_extreme_weights():
    problem = measured(14)
    weights = np.where(np.arange(len(problem.y)) % 7 == 0, 1e-6, 1e6)
    kept = type(problem)(*(part[weights > 1] for part in problem))
    found = fit(problem, "independence", weights)
    assert found.report.converged
    np.testing.assert_allclose(found.beta, fit(kept, "independence").beta, rtol=1e-7)


# Around a fit ----------------------------------------------------------------------------------------------------


def test_influence_is_a_step_without_the_group():
    problem = measured(15, n_clusters=30)
    found = fit(problem)
    held = Fixed(np.full((5, 5), found.alpha[0]) + (1 - found.alpha[0]) * np.eye(5), times=TIMES)
    for group in (0, 7):
        kept = np.unique(problem.groups, return_inverse=True)[1] != group
        rest = type(problem)(*(part[kept] for part in problem))
        codes = np.unique(rest.groups, return_inverse=True)[1].astype(np.intp)
        without = fit_gee(
            rest.X, rest.y, correlation=held, codes=codes, n_clusters=29, times=rest.time, family=GAUSSIAN
        )
        np.testing.assert_allclose(found.beta - without.beta, found.influence[group], rtol=1e-4, atol=1e-5)


def test_bootstrap_of_clusters():
    """A resample is a fit to whole groups, also where all of its outcomes are alike."""
    problem = measured(16)
    codes = np.unique(problem.groups, return_inverse=True)[1].astype(np.intp)
    for y in (problem.y, np.full(len(codes), 2.0)):
        rows = Observations(problem.X, y, [codes], None, problem.time)
        structure = Structure([FactorStructure(codes.max() + 1, [], [])], family=GAUSSIAN)
        settings = {"correlation": Exchangeable(), "fit_intercept": True, "dispersion": None, "ddof_correction": True}
        refit = pickle.loads(pickle.dumps(MarginalRefit(rows, structure, settings)))
        beta = refit(np.random.default_rng(3))
        assert beta is not None and np.isfinite(beta).all()
        np.testing.assert_array_equal(beta, refit(np.random.default_rng(3)))
