"""Data that leave a marginal model without a solution or without degrees of freedom: finite numbers, and a warning."""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from contracts.estimators import clinics
from gee_fits import assert_finite

from sklmm import GEELinearRegression, GEELogisticRegression
from sklmm.estimating import Fixed
from sklmm.exceptions import ConvergenceWarning, FewClustersWarning, SeparationWarning


@pytest.fixture(scope="module")
def data():
    return clinics()


# Few groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "independence"])
def test_one_group_has_a_naive_covariance(data, structure):
    X, y, groups, time = data
    model = GEELogisticRegression(structure, cov_type="naive")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, groups=np.zeros(300), time=np.arange(300))
    assert model.n_groups_ == {"group": 1}
    assert np.isfinite(model.vcov_).all(axis=None)
    assert (np.diag(model.vcov_) > 0).all()


@pytest.mark.parametrize("n_groups", [2, 3, 4])
def test_fewer_groups_than_coefficients(data, n_groups):
    X, y, groups, time = data
    coarse = groups % n_groups
    model = GEELogisticRegression()
    with pytest.warns(FewClustersWarning, match=f"there are {n_groups} groups for 4 coefficients") as told:
        model.fit(X, y, groups=coarse)
    assert told[0].filename == __file__
    assert np.isfinite(model.coef_).all()
    assert model.df_resid_ == n_groups - 4
    table = model.summary().coefficients
    assert table["p_value"].isna().all()
    assert np.isfinite(table["std_error"]).all()
    assert np.isnan(model.conf_int()).all(axis=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GEELogisticRegression(cov_type="naive").fit(X, y, groups=coarse)
    # One more group than coefficients is a degree of freedom.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y, groups=groups % 5)
    assert model.df_resid_ == 1
    assert np.isfinite(model.conf_int()).all(axis=None)


def _indicator_of_a_group(y, groups):
    """Of one that has both classes."""
    shares = np.bincount(groups, weights=y) / np.bincount(groups)
    return (groups == np.flatnonzero(shares == 0.5)[0]).astype(float)


def test_group_that_decides_a_coefficient_alone(data):
    """The corrections that divide by 1 - leverage do not exist; the error says so, after the fit or before its end."""
    X, y, groups, time = data
    X = X.assign(own=_indicator_of_a_group(y, groups))
    model = GEELogisticRegression("independence").fit(X, y, groups=groups)
    for cov_type in ("kauermann-carroll", "mancl-derouen"):
        with pytest.raises(ValueError, match="a cluster has a leverage of 1.*use cov_type='fay-graubard'"):
            model.vcov(cov_type)
        with pytest.raises(ValueError, match="a cluster has a leverage of 1"):
            GEELogisticRegression("independence", cov_type=cov_type).fit(X, y, groups=groups)
    for cov_type in ("robust", "naive", "fay-graubard", "morel"):
        assert np.isfinite(model.vcov(cov_type)).all(axis=None)


# Separation -----------------------------------------------------------------------------------------------------------

SEPARATED = "the classes are separated by"


@cache
def _many(n):
    rng = np.random.default_rng(0)
    groups, X = np.arange(n) // 5, rng.normal(size=(n, 3))
    eta = X[:, 0] + rng.normal(size=n // 5)[groups]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame(X, columns=["age", "dose", "rare"]), y, groups


def _large(n):
    """Groups of 5; three features, of which the first one matters."""
    X, y, groups = _many(n)
    return X.copy(), y.copy(), groups


def _assert_separated(model, X, y, groups, names):
    time = np.arange(len(y)) % 5
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(X, y, groups=groups, time=time)
        str(model.summary())
        model.conf_int()
    assert [w.category for w in record] == [SeparationWarning]
    assert str(record[0].message).startswith(f"{SEPARATED} {names}:")
    assert model.converged_
    assert "no maximum" in model.fit_report_.verdict
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    assert np.isfinite([model.dispersion_, model.qic_, model.cic_, *model.correlation_params_]).all()
    assert np.isfinite(model.working_correlation_).all()
    assert np.isfinite(model.vcov("robust")).all(axis=None)
    assert np.isfinite(model.predict_proba(X)).all()

SIZES = (300, 15_000, 210_000)  # all rows at once; climbing samples of blocks; without going on to rounding error


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize("n", SIZES)
def test_complete_separation(n, structure):
    X, _, groups = _large(n)
    y = (X["dose"] > 0.3).astype(int)
    model = GEELogisticRegression(structure)
    _assert_separated(model, X, y, groups, "'dose'")
    assert model.score(X, y) == 1.0
    assert model.quasi_likelihood_ == pytest.approx(0, abs=1e-3)


def _rows_of_category(n):
    return np.random.default_rng(1).choice(n, max(4, n // 5_000), replace=False)


@cache
def _without_category(n):
    """Coefficients of the other rows, which those of the category do not touch."""
    X, y, groups = _many(n)
    others = np.delete(np.arange(n), _rows_of_category(n))
    X = X.loc[others, ["age", "dose"]]
    return GEELogisticRegression("independence").fit(X, y[others], groups=groups[others]).coef_[0]


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize("n", SIZES)
def test_rare_category_without_a_zero(n, structure):
    """Quasi-complete separation, which most rows know nothing of; nor does a sample of blocks where it is rare."""
    X, y, groups = _large(n)
    rows = _rows_of_category(n)
    X["rare"] = 0.0
    X.loc[rows, "rare"] = 1.0
    y[rows] = 1
    model = GEELogisticRegression(structure)
    _assert_separated(model, X, y, groups, "'rare'")
    assert 8 < model.coef_[0, 2] < 40
    np.testing.assert_allclose(model.coef_[0, :2], _without_category(n), rtol=1e-4)


@pytest.mark.parametrize("n", SIZES)
def test_indicator_of_one_row(n):
    X, y, groups = _large(n)
    X["rare"] = (np.arange(n) == 7).astype(float)
    _assert_separated(GEELogisticRegression(), X, y, groups, "'rare'")


@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
@pytest.mark.parametrize("n", [15_000, 210_000])
def test_column_that_samples_of_blocks_do_not_have_is_no_separation(n, structure):
    X, y, groups = _large(n)
    X["rare"] = 0.0
    X.loc[n // 2 : n // 2 + 250, "rare"] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GEELogisticRegression(structure).fit(X, y, groups=groups)
        exact = GEELogisticRegression(structure, tol=1e-10).fit(X, y, groups=groups)
    error = (model.coef_ - exact.coef_)[0] / np.sqrt(np.diag(exact.vcov_))[1:]
    assert np.abs(error).max() < 1e-4


def test_separation_by_two_columns_together(data):
    X, _, groups, time = data
    y = (X["dose"] + X["age"] > 0).astype(int)
    _assert_separated(GEELogisticRegression(), X, y, groups, "'age', 'dose'")


# No solution, or no time to find it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [49, 54, 63])
def test_equations_without_a_solution(seed):
    """No separation, but no root of the equations either (looked for from 40 starts): it stops near, and says so."""
    rng = np.random.default_rng(seed)
    X, groups, time = rng.normal(size=(60, 2)), np.arange(60) // 3, np.arange(60) % 3
    y = (2 * X[:, 0] + rng.logistic(size=60) > 0).astype(int)
    model = GEELogisticRegression(Fixed(np.where(np.eye(3), 1.0, 0.95)))
    message = "no step led nearer to a solution of the estimating equations"
    with pytest.warns(ConvergenceWarning, match=message) as record:
        model.fit(X, y, groups=groups, time=time)
    assert [w.category for w in record] == [ConvergenceWarning]
    assert not model.converged_
    assert_finite(model)
    independence = GEELogisticRegression("independence").fit(X, y, groups=groups)
    assert np.abs(model.coef_ - independence.coef_).max() < 3


def test_too_few_iterations(data):
    X, y, groups, time = data
    for max_iter in (1, 3, 6):
        model = GEELogisticRegression("ar1", max_iter=max_iter)
        with pytest.warns(ConvergenceWarning, match="did not converge: stopped after .* raise max_iter"):
            model.fit(X, y, groups=groups, time=time)
        assert not model.converged_
        assert_finite(model)
    X, y, groups = _large(210_000)
    for max_iter in (1, 3, 6):
        model = GEELogisticRegression(max_iter=max_iter)
        with pytest.warns(ConvergenceWarning, match="raise max_iter"):
            model.fit(X, y, groups=groups)
        assert_finite(model)


@pytest.mark.parametrize("kind", [GEELogisticRegression, GEELinearRegression])
def test_a_coefficient_that_a_single_group_tells(kind):
    """At the solution its scores sum to 0, and nothing else is in a robust covariance."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    X = np.column_stack([groups == 3, np.where(groups == 3, 0.0, rng.normal(size=100))]).astype(float)
    y = np.where(groups == 3, np.arange(100) % 3 == 0, rng.random(100) < 0.5).astype(int)
    model = kind("exchangeable", fit_intercept=False)
    with pytest.warns(FewClustersWarning, match="a single group tells the coefficient of 'x0': its robust"):
        model.fit(X, y, groups=groups)
    assert model.vcov_.iloc[0, 0] < 1e-20 < model.vcov("naive").iloc[0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X[:, 1:], y, groups=groups)
        model.set_params(cov_type="naive").fit(X, y, groups=groups)
