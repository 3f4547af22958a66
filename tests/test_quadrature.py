"""Gauss-Hermite grids integrate polynomials against the normal density exactly."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest

from sklmm.likelihood.quadrature import MAX_GRID, hermite_grid


def _normal_rule(k, q):
    """Points and probabilities for N(0, I), by the formula of `hermite_grid` at mode 0 with unit curvature."""
    zeta, log_w = hermite_grid(k, q)
    return np.sqrt(2) * zeta, np.exp(log_w - np.sum(zeta**2, axis=1))


def _moment(power):
    """E z^power, z standard normal."""
    return 0.0 if power % 2 else float(math.prod(range(power - 1, 0, -2)))


@pytest.mark.parametrize("q, k", [(1, 1), (1, 2), (1, 5), (1, 12), (2, 1), (2, 3), (2, 6), (3, 2), (3, 4), (4, 3)])
def test_polynomials_are_exact(q, k):
    """Up to degree 2 k - 1 in each coordinate."""
    u, probability = _normal_rule(k, q)
    assert u.shape == (k**q, q) and probability.shape == (k**q,)
    assert probability.sum() == pytest.approx(1.0, rel=1e-13)
    for powers in itertools.product(range(min(2 * k, 12 // q + 2)), repeat=q):
        exact = math.prod(_moment(a) for a in powers)
        size = probability @ np.prod(np.abs(u) ** powers, axis=1)
        assert probability @ np.prod(u**powers, axis=1) == pytest.approx(exact, abs=1e-12 * max(1.0, size))


def test_one_node_is_the_mode_with_weight_one():
    for q in (1, 2, 3):
        zeta, log_w = hermite_grid(1, q)
        np.testing.assert_array_equal(zeta, np.zeros((1, q)))
        np.testing.assert_allclose(log_w, 0.0, atol=1e-15)


def test_largest_grids():
    for q in (1, 2, 3, 4):
        k = 200 if q == 1 else int(MAX_GRID ** (1 / q) + 1e-9)
        zeta, log_w = hermite_grid(k, q)
        assert len(zeta) == k**q <= MAX_GRID
        assert np.all(np.isfinite(zeta)) and np.all(np.isfinite(log_w))


@pytest.mark.parametrize("k, q", [(142, 2), (28, 3), (12, 4), (8, 5), (20_001, 1), (2, 16)])
def test_too_many_nodes_says_what_to_use(k, q):
    with pytest.raises(ValueError, match=f"n_quadrature={k}") as error:
        hermite_grid(k, q)
    advised = int(re.search(r"use n_quadrature <= (\d+)", str(error.value))[1])
    assert "Laplace" in str(error.value)
    assert advised**q <= MAX_GRID < (advised + 1) ** q
    if q > 1:
        assert len(hermite_grid(advised, q)[1]) == advised**q


def test_underflowing_weights_are_an_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of numpy, on the way
        with pytest.raises(ValueError, match="n_quadrature=500 is too large"):
            hermite_grid(500, 1)
