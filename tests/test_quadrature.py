"""Gauss-Hermite grids integrate polynomials against the normal density exactly; factors of singular covariances."""

import itertools
import math
import re
import warnings

import numpy as np
import pytest
from designs import Coded, clustered, engine_of, fitted

from sklmm.likelihood.objective import MixedObjective
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


# --- singular covariances, whose factor quadrature depends on ---------------------------------------------------


def _small_data(seed):
    rng = np.random.default_rng(seed)
    n_groups, size = rng.integers(4, 10), rng.integers(2, 6)
    groups = np.repeat(np.arange(n_groups), size)
    x = rng.normal(size=groups.size) + rng.choice([0, 1, 5])
    eta = rng.normal() + rng.normal() * x + 1.5 * rng.normal(size=n_groups)[groups] * (x - x.mean())
    y = (rng.random(groups.size) < 1 / (1 + np.exp(-eta))).astype(np.uint8)
    return x[:, None], y, Coded(groups, int(n_groups), [-1, 0], [(2, True)])


@pytest.mark.parametrize("theta", [[0, 0.3, 0.4], [0, 0, 0.5], [0, -0.5, 0], [0.7, 0.2, 0], [0.7, 0.2, 0.3], [0, 0, 0]])
def test_parameters_in_other_units_come_back(theta):
    X, y, factor = _small_data(176)
    engine = clustered(X, y, factor.codes, factor.n_levels, factor.columns, factor.blocks, n_quadrature=2)
    x = np.array([0.2, -0.1, *theta])
    back = engine.units.internal(*engine.units.natural(x))
    np.testing.assert_allclose(back[:2], x[:2], atol=1e-12)
    found, expected = engine.covariance.lambda_(back[2:]), engine.covariance.lambda_(x[2:])
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-7)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-7)
    assert engine.evaluate(back)[0] == pytest.approx(engine.evaluate(x)[0], abs=1e-6)


@pytest.mark.parametrize("seed", [216, 473, 784, 938])
def test_objective_of_a_singular_fit_is_what_the_fit_reached(seed):
    """A zero beside a random slope, and two nodes: the factor turned at random lost 0.01 to 0.2 of the value."""
    X, y, factor = _small_data(seed)
    fit = fitted(X, y, factors=[factor], n_quadrature=2)
    assert fit.is_singular
    objective = MixedObjective(engine_of(X, y, [factor], n_quadrature=2), fit.beta, fit.theta)
    assert objective.value == pytest.approx(fit.log_likelihood, abs=1e-6)
