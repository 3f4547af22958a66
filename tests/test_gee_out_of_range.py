"""Moments that no correlation matrix has: the nearest that is one is used, with a warning that says so."""

import warnings

import numpy as np
import pytest
from gee_fits import NAMES, assert_finite

from sklmm import GEELogisticRegression
from sklmm.exceptions import ConvergenceWarning, SklmmWarning, WorkingCorrelationWarning


def _opposites(n_groups, size, seed=0):
    """Groups of which just half of the rows are ones, and a feature of the group: residuals of a group sum to 0."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([rng.permutation(np.arange(size) % 2) for _ in range(n_groups)])
    groups, time = np.repeat(np.arange(n_groups), size), np.tile(np.arange(size), n_groups)
    return rng.normal(size=(n_groups, 1))[groups], y, groups, time


def _fit_out_of_range(correlation, X, y, groups, time, match, **parameters):
    model = GEELogisticRegression(correlation, **parameters)
    with pytest.warns(WorkingCorrelationWarning, match=match):
        model.fit(X, y, groups=groups, time=time)
    assert_finite(model)
    return model


@pytest.mark.parametrize("size, low", [(2, "-1"), (4, r"-0\.3333"), (6, r"-0\.2")])
def test_exchangeable_below_its_range(size, low):
    message = f"exchangeable working correlation.*estimated as -.* must lie between {low} and 1, .*positive definite"
    model = _fit_out_of_range("exchangeable", *_opposites(100, size), message, ddof_correction=False)
    alpha = -1 / (size - 1)
    assert alpha < model.correlation_params_[0] < 0.99 * alpha


def test_exchangeable_above_its_range():
    """Every group all zeros or all ones; the leverage of the coefficients lifts the estimate over 1."""
    rng = np.random.default_rng(1)
    y = np.repeat(rng.permutation(np.arange(40) % 2), 3)
    X, groups = rng.normal(size=(120, 4)), np.repeat(np.arange(40), 3)
    model = _fit_out_of_range("exchangeable", X, y, groups, None, r"must lie between -0\.5 and 1, ")
    assert 0.99 < model.correlation_params_[0] < 1


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_ar1_at_both_ends(ddof_correction):
    X, _, groups, time = _opposites(60, 4)
    start = np.random.default_rng(0).permutation(np.arange(60) % 2)
    swinging, constant = (np.repeat(start, 4) + time) % 2, np.repeat(start, 4)
    # residuals as they are, or divided by a mean square that the coefficients made smaller, reach the ends
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WorkingCorrelationWarning)
        low, high = (
            GEELogisticRegression("ar1", ddof_correction=ddof_correction).fit(X, y, groups=groups, time=time)
            for y in (swinging, constant)
        )
    assert -1 < low.correlation_params_[0] < -0.98
    assert 0.98 < high.correlation_params_[0] < 1
    assert_finite(low)
    assert_finite(high)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("unit", [2, 0.5, 30])
def test_ar1_cannot_be_negative_for_every_times(unit, ddof_correction):
    """alpha^gap of a negative alpha: positive for even gaps, undefined for gaps that are not whole."""
    X, y, groups, time = _opposites(100, 2)
    message = r"AR\(1\).*estimated as -.* must lie between 0 and 1, since distances in time .*; 0 is used"
    model = _fit_out_of_range("ar1", X, y, groups, unit * time, message, ddof_correction=ddof_correction)
    independence = GEELogisticRegression("independence").fit(X, y, groups=groups)
    np.testing.assert_allclose(model.coef_, independence.coef_, rtol=1e-9)


def _conflict():
    """Times 0 and 1 agree, so do 1 and 2, but 0 and 2 are opposites: in pairs; a few groups have all three."""
    rng = np.random.default_rng(5)
    y, groups, time = [], [], []
    for i in range(330):
        first = rng.integers(2)
        at = [(0, 1), (1, 2), (0, 2)][i % 3] if i < 300 else (0, 1, 2)
        swap = rng.random() < 0.05
        values = [first, (1 - first if at == (0, 2) else first) ^ swap, first][: len(at)]
        y += values
        groups += [i] * len(at)
        time += at
    y, groups, time = map(np.array, (y, groups, time))
    return rng.normal(size=(y.size, 2)), y, groups, time


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_unstructured_that_is_not_positive_definite(ddof_correction):
    message = r"unstructured.*smallest eigenvalue -0\.\d+, which must be above 0\.001\); the correlations are multipl"
    _fit_out_of_range("unstructured", *_conflict(), message, ddof_correction=ddof_correction)


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_m_dependent_that_is_not_positive_definite(ddof_correction):
    """A correlation near 1 with the next row and none with the one after next cannot be, for five rows."""
    rng = np.random.default_rng(0)
    y = np.repeat(rng.permutation(np.arange(60) % 2), 5)
    X, groups, time = rng.normal(size=(300, 1)), np.repeat(np.arange(60), 5), np.tile(np.arange(5), 60)
    message = "m-dependent.*smallest eigenvalue -.*; the correlations are multiplied by 0"
    model = _fit_out_of_range("m-dependent", X, y, groups, time, message, ddof_correction=ddof_correction)
    assert 0.5 < model.correlation_params_[0] < 1 / (2 * np.cos(np.pi / 6))


@pytest.mark.parametrize("structure", ["unstructured", "m-dependent"])
def test_matrix_that_is_singular_but_for_rounding_error(structure):
    """Rows that are opposites: a Cholesky factorisation may succeed, on noise."""
    message = "smallest eigenvalue .*, which must be above 0.001"
    model = _fit_out_of_range(structure, *_opposites(100, 2), message, ddof_correction=False)
    assert np.linalg.eigvalsh(model.working_correlation_)[0] == pytest.approx(1e-3)


@pytest.mark.parametrize("structure", NAMES)
@pytest.mark.parametrize("seed", range(6))
def test_small_odd_data_end_in_finite_numbers(structure, seed):
    """A dozen groups with strong effects, where equations have no solution as often as not: warnings, not NaN."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, 12)
    groups = np.repeat(np.arange(12), sizes)
    time = np.concatenate([np.sort(rng.choice(6, size, replace=False)) for size in sizes])
    X = (rng.normal(size=(len(groups), 3)) > 0).astype(float)
    y = (3 * X[:, 0] + 3 * rng.normal(size=12)[groups] - 1.5 + rng.logistic(size=len(groups)) > 0).astype(int)
    model = GEELogisticRegression(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (SklmmWarning))
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("error", RuntimeWarning)
        model.fit(X, y, groups=groups, time=time)
        assert np.isfinite(model.coef_).all() and np.abs(model.coef_).max() < 1e3
        assert np.isfinite(model.vcov_).all(axis=None)
        assert np.isfinite([model.dispersion_, model.qic_, model.cic_, *model.correlation_params_]).all()
        str(model.summary())
    assert isinstance(model.fit_report_.verdict, str)


def test_warning_points_at_the_caller():
    with pytest.warns(WorkingCorrelationWarning) as told:
        GEELogisticRegression().fit(*_opposites(100, 2)[:3])
    assert told[0].filename == __file__
