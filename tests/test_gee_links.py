"""The estimating equations of other links than the logit, against the dense reference implementation."""

import numpy as np
import pytest
from dense_gee import fit_dense_gee, make_problem

from sklmm.estimating import MDependent
from sklmm.estimating.correlation import AR1, Exchangeable, Independence, Unstructured
from sklmm.estimating.scoring import fit_gee
from sklmm.families import bernoulli

STRUCTURES = {
    "independence": Independence(), "exchangeable": Exchangeable(), "ar1": AR1(), "unstructured": Unstructured(),
    "m-dependent": MDependent(m=2),
}  # fmt: skip
MEATS = ("robust", "kauermann-carroll", "mancl-derouen", "fay-graubard")


def _fit(problem, structure, link, weights=None, **options):
    codes = np.unique(problem.groups, return_inverse=True)[1].astype(np.intp)
    return fit_gee(
        problem.X, problem.y.astype(np.uint8), correlation=STRUCTURES[structure], codes=codes,
        n_clusters=codes.max() + 1,
        labels=None, times=problem.time, sample_weight=weights, family=bernoulli(link), tol=1e-12, **options,
    )  # fmt: skip


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_dense_reference(link, structure):
    problem = make_problem(4, n_clusters=50)
    weights = problem.sample_weight if structure in ("exchangeable", "ar1") else None
    for ddof_correction in (False, True):
        settings = dict(time=problem.time, sample_weight=weights, ddof_correction=ddof_correction, n_lags=2, link=link)
        expected = fit_dense_gee(*problem[:3], structure, **settings)
        found = _fit(problem, structure, link, weights, ddof_correction=ddof_correction)
        assert found.report.converged, found.report.verdict
        np.testing.assert_allclose(found.beta, expected.beta, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.alpha[: expected.alpha.size], expected.alpha, rtol=1e-8, atol=1e-9)
        assert found.dispersion == pytest.approx(expected.phi, rel=1e-9)
        criteria = expected.criteria()
        assert found.quasi_likelihood == pytest.approx(criteria["quasi"], rel=1e-10)
        J, bread = found.coordinates, found.bread
        np.testing.assert_allclose(found.dispersion * J @ bread @ J.T, expected.vcov("naive"), rtol=1e-8, atol=1e-12)
        cic = np.trace(found.independence_information @ bread @ found.meats[0] @ bread)
        assert cic == pytest.approx(criteria["CIC"], rel=1e-8)
        for kind, meat in zip(MEATS, found.meats, strict=True):
            vcov = J @ bread @ meat @ bread @ J.T
            np.testing.assert_allclose(vcov, expected.vcov(kind), rtol=1e-7, atol=1e-12, err_msg=kind)


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_far_linear_predictors(link):
    """Steep coefficients, a share of certain outcomes: a maximum, or separation, and nothing that is no number."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2)) * [1.0, 4.0]
    codes = rng.integers(0, 80, 4000).astype(np.intp)
    noisy = bernoulli(link).mean(0.3 * X[:, 0] + 2.0 * X[:, 1]) > rng.random(4000)
    for y in (noisy, X[:, 1] > 0):
        settings = dict(correlation=Exchangeable(), codes=codes, n_clusters=80, family=bernoulli(link))
        fit = fit_gee(X, y.astype(np.uint8), **settings)
        assert np.isfinite(fit.beta).all() and np.isfinite(fit.quasi_likelihood)
        assert fit.report.converged, fit.report.verdict
    assert fit.separated


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_rows_in_any_order_and_large_weights(link):
    problem, rng = make_problem(5), np.random.default_rng(1)
    order = rng.permutation(len(problem.y))
    weights = np.where(np.arange(len(problem.y)) % 7 == 0, 1.0, 1e6)
    one = _fit(problem, "independence", link, weights)
    moved = type(problem)(*(part[order] for part in problem))
    other = _fit(moved, "independence", link, weights[order])
    np.testing.assert_allclose(other.beta, one.beta, rtol=1e-9)
    kept = type(problem)(*(part[weights > 1] for part in problem))  # the others hardly count
    np.testing.assert_allclose(one.beta, _fit(kept, "independence", link).beta, rtol=1e-4)
