"""Marginal fits whose numbers are known otherwise, and faults of another package that this one does not have."""

import copy
from functools import cache

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import GEE, clinics
from dense_gee import make_problem
from gee_fits import STRUCTURES, assert_finite, assert_same, fit
from sklearn.linear_model import LogisticRegression

from sklmm import GEELogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.estimating import AR1, Exchangeable, MDependent, Unstructured
from sklmm.exceptions import NoGroupsWarning


@pytest.fixture(scope="module")
def data():
    return GEE.rows


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1", "unstructured", "m-dependent"])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_row_a_group_is_plain_logistic_regression(structure, weighted):
    data = make_problem(0)
    weights = data.sample_weight if weighted else np.ones(len(data.y))
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(data.X, data.y, weights)
    Z = np.column_stack([np.ones(len(data.y)), data.X])
    mu = plain.predict_proba(data.X)[:, 1]
    bread = np.linalg.inv(Z.T @ (Z * (weights * mu * (1 - mu))[:, None]))
    meat = Z.T @ (Z * (weights * (data.y - mu))[:, None] ** 2)
    phi = weights @ ((data.y - mu) ** 2 / (mu * (1 - mu))) / (weights.sum() - 4)
    with pytest.warns(NoGroupsWarning):
        without = GEELogisticRegression(structure).fit(data.X, data.y, sample_weight=weights)
    rows = np.random.default_rng(0).permutation(len(data.y))
    arguments = dict(time=data.time if structure == "unstructured" else rows, sample_weight=weights)
    with_groups = GEELogisticRegression(structure).fit(data.X, data.y, groups=rows, **arguments)
    assert (without.n_groups_, without.cluster_sizes_) == ({}, (1, 1))
    for model in (without, with_groups):
        np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-8)
        np.testing.assert_allclose(model.intercept_, plain.intercept_, rtol=1e-8)
        np.testing.assert_allclose(model.vcov("robust"), bread @ meat @ bread, rtol=1e-8)
        np.testing.assert_allclose(model.vcov("naive"), phi * bread, rtol=1e-8)
        assert model.dispersion_ == pytest.approx(phi, rel=1e-9)
        assert not model.correlation_params_.any()
        np.testing.assert_array_equal(model.working_correlation_, [[1.0]])


def test_independence_is_plain_logistic_regression(data):
    """Groups of any kind change its covariance only."""
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(data.X, data.y)
    model = fit("independence", data)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-8)
    Z = np.column_stack([np.ones(len(data.y)), data.X])
    mu = plain.predict_proba(data.X)[:, 1]
    scores = pd.DataFrame(Z * (data.y - mu)[:, None]).groupby(data.groups).sum().to_numpy()
    bread = np.linalg.inv(Z.T @ (Z * (mu * (1 - mu))[:, None]))
    np.testing.assert_allclose(model.vcov_, bread @ scores.T @ scores @ bread, rtol=1e-7)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_same_data_twice(data, structure):
    """With other labels: half the covariances; where no degrees of freedom are taken off nothing else changes."""
    twice = data._replace(
        X=np.tile(data.X, (2, 1)), y=np.tile(data.y, 2), time=np.tile(data.time, 2),
        groups=np.r_[data.groups, data.groups + 1000],
    )  # fmt: skip
    expected, found = (fit(STRUCTURES[structure], d, ddof_correction=False) for d in (data, twice))
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9)
    np.testing.assert_allclose(found.correlation_params_, expected.correlation_params_, rtol=1e-9)
    np.testing.assert_allclose(found.vcov("robust"), expected.vcov("robust") / 2, rtol=1e-8)
    np.testing.assert_allclose(found.vcov("naive"), expected.vcov("naive") / 2, rtol=1e-8)
    assert found.quasi_likelihood_ == pytest.approx(2 * expected.quasi_likelihood_, rel=1e-10)
    assert found.cic_ == pytest.approx(expected.cic_, rel=1e-9)


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_groups_of_two_have_one_correlation(ddof_correction):
    """Whatever it is called; gee's AR(1) is a ratio of other means than its exchangeable one."""
    problem = make_problem(5, times=(0, 1), complete=True)
    weights = np.random.default_rng(0).integers(1, 3, size=1000)[problem.groups] if not ddof_correction else None
    fits = [
        GEELogisticRegression(correlation, ddof_correction=ddof_correction).fit(
            problem.X, problem.y, groups=problem.groups, time=problem.time, sample_weight=weights
        )
        for correlation in ("exchangeable", "m-dependent", "ar1", "unstructured")
    ]
    if ddof_correction:
        assert_same(fits[1], fits[0])
        assert_same(fits[3], fits[2])
    else:
        for other in fits[1:]:
            assert_same(other, fits[0])


def test_no_features():
    """Groups alone: the log odds of the share, with a standard error that knows the groups."""
    _, y, groups, _ = clinics()
    share = y.mean()
    given = GEELogisticRegression("independence").fit(np.empty((300, 0)), y, groups=groups)
    in_X = GEELogisticRegression("independence", group_features="clinic").fit(pd.DataFrame({"clinic": groups}), y)
    for model in (given, in_X):
        assert model.intercept_[0] == pytest.approx(np.log(share / (1 - share)), rel=1e-12)
        assert model.coef_.shape == (1, 0)
        sums = np.bincount(groups, weights=y - share)
        variance = (sums @ sums) / (300 * share * (1 - share)) ** 2
        assert model.vcov_.iloc[0, 0] == pytest.approx(variance, rel=1e-10)
    model = GEELogisticRegression().fit(np.empty((300, 0)), y, groups=groups)
    assert_finite(model)
    empty = GEELogisticRegression().fit(pd.DataFrame(index=range(300)), y, groups=groups)
    np.testing.assert_array_equal(empty.intercept_, model.intercept_)


# Large data -----------------------------------------------------------------------------------------------------------


@cache
def _large(n_groups):
    X, y, groups = make_clustered_classification(
        205_000, 6, n_groups=n_groups, covariance=1.0, size_variation=0.0, random_state=0
    )
    return X, y, groups, pd.Series(groups).groupby(groups).cumcount().to_numpy()


@pytest.mark.parametrize(
    "structure, n_groups",
    [
        ("exchangeable", 2_500),
        ("exchangeable", 51_250),
        ("ar1", 2_500),
        ("ar1", 51_250),
        ("unstructured", 51_250),
        ("2-dependent", 51_250),
        ("independence", 2_500),
    ],
)
def test_large_data_stop_within_the_tolerance(structure, n_groups):
    """Fits of more than 200,000 rows do not go on to rounding error."""
    structure = STRUCTURES[structure]
    X, y, groups, time = _large(n_groups)
    found, exact = (
        GEELogisticRegression(structure, **options).fit(X, y, groups=groups, time=time)
        for options in ({}, {"tol": 1e-10})
    )
    assert found.converged_ and exact.converged_
    assert found.fit_report_.n_full_passes <= 5
    se = np.sqrt(np.diag(exact.vcov_))
    error = np.r_[found.intercept_ - exact.intercept_, found.coef_[0] - exact.coef_[0]] / se
    assert np.abs(error).max() < 1e-4
    np.testing.assert_allclose(np.sqrt(np.diag(found.vcov_)), se, rtol=1e-3)
    np.testing.assert_allclose(found.correlation_params_, exact.correlation_params_, atol=1e-4)
    assert found.dispersion_ == pytest.approx(exact.dispersion_, rel=1e-4)
    assert found.qic_ == pytest.approx(exact.qic_, rel=1e-6)


def test_climbing_samples_changes_the_path_only():
    """Many rows climb samples of blocks of groups. Listed by their outcomes or not, they end at one point."""
    X, y, groups = make_clustered_classification(220_000, 2, n_groups=22_000, covariance=1.0, random_state=1)
    model = GEELogisticRegression(tol=1e-10).fit(X, y, groups=groups)
    levels = [row["level"] for row in model.fit_report_.history]
    assert levels[0] > 1 and levels[-1] == 1
    by_successes = np.argsort(np.argsort(np.bincount(groups, y), kind="stable"))
    other = GEELogisticRegression(tol=1e-10).fit(X, y, groups=by_successes[groups])
    assert_same(other, model, rtol=1e-8, leave_out=["qic_", "cic_"])


# Faults of statsmodels that this package does not have ----------------------------------------------------------------


def test_qic_weighs_by_the_variance_function():
    """Its trace leaves out 1 / v(mu): on independent rows CIC is near the number of coefficients, not a fraction."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    y = (rng.random(4000) < 1 / (1 + np.exp(-0.5 - X[:, 0]))).astype(int)
    model = GEELogisticRegression("independence").fit(X, y, groups=np.arange(4000) // 4)
    assert model.cic_ == pytest.approx(3, abs=0.2)
    # with 1 / v(mu) naive and model-based covariance cancel exactly
    A = np.linalg.inv(model.vcov("naive"))
    assert model.cic_ == pytest.approx(np.trace(A @ model.vcov("robust")), rel=1e-8)


@pytest.mark.parametrize("shared", [Exchangeable(), AR1(), Unstructured(), MDependent(), STRUCTURES["fixed"]])
def test_structure_used_twice_does_not_rewrite_the_first_result(data, shared):
    state = copy.deepcopy(vars(shared))
    first = fit(shared, data)
    before, vcov, R_before = first.correlation_params_.copy(), first.vcov_, first.working_correlation_
    summary = str(first.summary())
    rng = np.random.default_rng(0)
    second = GEELogisticRegression(shared).fit(
        rng.normal(size=data.X.shape), rng.permutation(data.y), groups=data.groups, time=data.time
    )
    if before.size:
        assert np.abs(second.correlation_params_ - before).max() > 0.05
    np.testing.assert_array_equal(first.correlation_params_, before)
    np.testing.assert_array_equal(first.working_correlation_, R_before)
    np.testing.assert_array_equal(first.vcov_, vcov)
    assert str(first.summary()) == summary
    assert vars(shared).keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(vars(shared)[name], value)
