"""Relative covariance factors: theta -> Lambda."""

import numpy as np
import pytest

from sklmm.design.covariance import SINGULAR, RelativeCovariance

BLOCKS = {
    "intercept": [(1, True)],
    "correlated 2": [(2, True)],
    "correlated 4": [(4, True)],
    "uncorrelated 3": [(3, False)],
    "2 + 1": [(2, True), (1, True)],
    "uncorrelated 2 + correlated 3": [(2, False), (3, True)],
    "1 + 1 + 1": [(1, True), (1, False), (1, True)],
}


@pytest.fixture(params=BLOCKS)
def blocks(request):
    return BLOCKS[request.param]


def _free(blocks):
    """Mask of the entries of Lambda that vary, from the definition."""
    q = sum(size for size, _ in blocks)
    free, first = np.zeros((q, q), dtype=bool), 0
    for size, correlated in blocks:
        part = np.tril(np.ones((size, size), dtype=bool)) if correlated else np.eye(size, dtype=bool)
        free[first : first + size, first : first + size] = part
        first += size
    return free


def test_lambda_has_the_pattern_of_the_terms(blocks):
    covariance, free = RelativeCovariance(blocks), _free(blocks)
    assert (covariance.q, covariance.m) == (len(free), free.sum())
    theta = np.random.default_rng(0).normal(size=covariance.m)
    Lambda = covariance.lambda_(theta)
    np.testing.assert_array_equal(Lambda != 0, free)
    assert sorted(Lambda[free]) == sorted(theta)
    np.testing.assert_array_equal(Lambda[covariance.row, covariance.col], theta)


def test_lambda_is_linear(blocks):
    """What the kernels build on."""
    covariance = RelativeCovariance(blocks)
    a, b = np.random.default_rng(1).normal(size=(2, covariance.m))
    np.testing.assert_allclose(
        covariance.lambda_(2 * a - b), 2 * covariance.lambda_(a) - covariance.lambda_(b), rtol=1e-14
    )


def test_order_of_theta_is_that_of_lme4():
    """Column by column of the lower triangle, term by term."""
    Lambda = RelativeCovariance([(3, True), (2, False)]).lambda_(np.arange(1.0, 9.0))
    expected = [[1, 0, 0, 0, 0], [2, 4, 0, 0, 0], [3, 5, 6, 0, 0], [0, 0, 0, 7, 0], [0, 0, 0, 0, 8]]
    np.testing.assert_array_equal(Lambda, expected)


def test_start_is_the_identity(blocks):
    covariance = RelativeCovariance(blocks)
    np.testing.assert_array_equal(covariance.lambda_(covariance.start()), np.eye(covariance.q))


def test_any_covariance_is_reached(blocks):
    """The factor of a positive definite matrix with the terms' pattern gives that matrix back."""
    covariance, free = RelativeCovariance(blocks), _free(blocks)
    root = np.where(free, np.random.default_rng(2).normal(size=free.shape), 0.0) + 2 * np.eye(len(free))
    L = np.linalg.cholesky(root @ root.T)
    Lambda = covariance.lambda_(L[covariance.row, covariance.col])
    np.testing.assert_allclose(Lambda @ Lambda.T, root @ root.T, rtol=1e-12, atol=1e-14)


def test_normal_form_has_a_positive_diagonal_and_keeps_the_covariance(blocks):
    covariance, rng = RelativeCovariance(blocks), np.random.default_rng(3)
    for _ in range(20):
        before = covariance.lambda_(rng.normal(size=covariance.m))
        # turned within correlated terms, mirrored in the others
        turn = np.zeros_like(before)
        for block, correlated in covariance.blocks:
            n = block.stop - block.start
            turn[block, block] = (
                np.linalg.qr(rng.normal(size=(n, n)))[0] if correlated else np.diag(rng.choice([-1, 1], n))
            )
        after = covariance.normal_form(before @ turn)
        assert np.all(np.diag(after) > 0)
        np.testing.assert_allclose(after @ after.T, before @ before.T, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(covariance.lambda_(after[covariance.row, covariance.col]), after, atol=1e-14)
    assert not covariance.normal_form(np.zeros_like(before)).any()


def test_normal_jacobian_against_differences(blocks):
    covariance, rng = RelativeCovariance(blocks), np.random.default_rng(4)
    turn = np.eye(covariance.q) + 0.3 * np.triu(rng.normal(size=(covariance.q, covariance.q)), 1)
    for block, correlated in covariance.blocks:
        if not correlated:
            turn[block, block] = np.diag(rng.uniform(0.5, 2, block.stop - block.start))
    mask = covariance.lambda_(np.ones(covariance.m))
    turn *= np.maximum(mask, mask.T)  # terms stay apart
    theta, step = rng.normal(size=covariance.m) + 2 * covariance.diagonal, 1e-5
    for entry in np.eye(covariance.m):

        def at(h, entry=entry):
            return covariance.normal_form(turn @ covariance.lambda_(theta + h * entry))[covariance.row, covariance.col]

        found = covariance.normal_jacobian(turn @ covariance.lambda_(theta), turn @ covariance.lambda_(entry))
        np.testing.assert_allclose(found, (at(step) - at(-step)) / (2 * step), rtol=1e-6, atol=1e-8)


def test_boundary():
    covariance = RelativeCovariance([(2, True), (1, False)])
    theta = np.array([0.5, 0.0, 0.1 * SINGULAR, -0.1 * SINGULAR])
    np.testing.assert_array_equal(covariance.on_boundary(theta), [False, False, True, True])
    np.testing.assert_array_equal(covariance.on_boundary(np.array([0.0, 1.0, 1.0, -1.0])), [True, False, False, False])
    # covariances between the coefficients may be anything
    assert not covariance.on_boundary(np.array([1.0, 0.0, 1.0, 1.0])).any()


def test_what_is_between_two_zeros_on_the_diagonal_is_zero():
    """An off-diagonal entry beside one that is not 0 stays: it is a correlation of 1 or -1."""
    covariance, small = RelativeCovariance([(2, True)]), SINGULAR / 10
    assert covariance.on_boundary(np.array([small, small, small])).tolist() == [True, True, True]
    assert covariance.on_boundary(np.array([small, 0.5, small])).tolist() == [True, False, True]
    assert covariance.on_boundary(np.array([0.5, small, small])).tolist() == [False, False, True]
