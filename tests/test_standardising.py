"""Rough centres and scales of columns."""

import numpy as np
import pytest

from sklmm.design.units import column_scales, row_sample


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("weighted", [False, True])
def test_columns_without_spread_in_the_sample(fit_intercept, unit, weighted):
    """An indicator of a few rows that the sample lacks, in any unit, is scaled by all rows; a constant by its size."""
    rng = np.random.default_rng(0)
    n = 50_000
    w = rng.uniform(0.5, 2.0, n) if weighted else None
    X = np.column_stack([rng.normal(size=n), np.zeros(n), np.full(n, 3.0), np.zeros(n)])
    X[[11, 30_001, 40_001], 1] = unit
    sample, share = row_sample(X, w)
    assert np.ptp(sample[:, 1]) == 0
    center, inv_scale = column_scales(sample, share, fit_intercept, X, w)
    mean = np.average(X[:, 1], weights=w) if fit_intercept else 0.0
    assert center[1] == pytest.approx(mean, rel=1e-12)
    assert 1 / inv_scale[1] == pytest.approx(np.sqrt(np.average((X[:, 1] - mean) ** 2, weights=w)), rel=1e-12)
    assert 1 / inv_scale[0] == pytest.approx(1, rel=0.2)
    assert inv_scale[2] == pytest.approx(1 / 3)
    assert inv_scale[3] == 1
    assert (center[4:] == 0).all() and (inv_scale[4:] == 0).all()
