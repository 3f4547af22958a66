"""E expit(m + s z) against adaptive quadrature."""

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit

from sklmm._kernels._expectations import logistic_normal_mean

ROOT = np.sqrt(2 * np.pi)


def _exact(m, s):
    """By adaptive quadrature, over pieces that end where the integrand bends."""
    if s == 0:
        return expit(m)
    ends = np.unique(np.clip([-12, -4, 0, 4, 12, *((d - m) / s for d in (-40, -10, -3, 0, 3, 10, 40))], -12, 12))

    def density(z):
        return np.exp(-0.5 * z * z) / ROOT * expit(m + s * z)

    return sum(quad(density, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in zip(ends[:-1], ends[1:], strict=True))


def test_the_reference_itself():
    for m, s in ((-3.0, 2.0), (1.0, 50.0)):
        with mpmath.workdps(25):
            ends = [-12, *sorted([-m / s - 1 / s, -m / s, -m / s + 1 / s, 0]), 12]
            exact = mpmath.quad(lambda z, m=m, s=s: mpmath.npdf(z) / (1 + mpmath.exp(-(m + s * z))), ends, maxdegree=9)
        assert _exact(m, s) == pytest.approx(float(exact), abs=1e-13)


M = [-40.0, -12.0, -6.0, -2.5, -1.0, -0.1, 0.0, 0.7, 3.0, 8.0, 30.0]


@pytest.mark.parametrize("s", [0.0, 1e-8, 1e-3, 0.1, 0.5, 1.0, 1.7, 2.5, 3.3, 4.2, 5.0, 7.0, 11.0, 20.0, 60.0, 99.0])
def test_against_adaptive_quadrature(s):
    found = logistic_normal_mean(M, np.full(len(M), s))
    np.testing.assert_allclose(found, [_exact(m, s) for m in M], rtol=0, atol=1e-9)


@pytest.mark.parametrize("s", [100.0, 120.0, 300.0, 1e4])
def test_very_large_variances(s):
    m = [-2.0 * s, -0.5 * s, -3.0, 0.0, 0.1 * s, s]
    found = logistic_normal_mean(m, np.full(len(m), s))
    np.testing.assert_allclose(found, [_exact(x, s) for x in m], rtol=0, atol=1e-8)


def test_random_points():
    rng = np.random.default_rng(0)
    m, s = rng.normal(0, 4, 120), rng.uniform(0, 5, 120)
    expected = [_exact(a, b) for a, b in zip(m, s, strict=True)]
    np.testing.assert_allclose(logistic_normal_mean(m, s), expected, rtol=0, atol=1e-9)


def test_no_variance_is_expit():
    m = np.concatenate([np.linspace(-800, 800, 1001), [0.0, -0.0, 1e300, -1e300]])
    np.testing.assert_allclose(logistic_normal_mean(m, np.zeros(m.size)), expit(m), rtol=1e-14, atol=1e-300)


def test_symmetric():
    rng = np.random.default_rng(1)
    m, s = rng.normal(0, 5, 1000), rng.uniform(0, 8, 1000)
    np.testing.assert_allclose(logistic_normal_mean(m, s) + logistic_normal_mean(-m, s), 1.0, rtol=0, atol=1e-14)
    np.testing.assert_allclose(logistic_normal_mean(np.zeros(1000), s), 0.5, rtol=0, atol=1e-14)


@pytest.mark.parametrize("s", [0.0, 0.3, 2.0, 5.0, 50.0, 200.0])
def test_increases_with_the_mean_and_stays_a_probability(s):
    m = np.linspace(-60, 60, 4001)
    found = logistic_normal_mean(m, np.full(m.size, s))
    assert np.all(np.diff(found) >= -1e-15)
    assert found[0] >= 0 and found[-1] <= 1


def test_shrinks_towards_one_half_as_the_variance_grows():
    """Across the edges between the rules, and from the last one to the limit, there is no jump."""
    s = np.linspace(0, 150, 20_001)
    found = logistic_normal_mean(np.full(s.size, 2.0), s)
    assert np.all(np.diff(found) <= 1e-8)
    assert np.all(np.diff(found)[s[1:] < 90] <= 1e-12)


def test_a_row_is_the_same_in_any_company():
    """Rows are computed eight at a time with the rule of the largest s among them, in pieces, by threads."""
    rng = np.random.default_rng(2)
    m, s = rng.normal(0, 3, 100_003), rng.uniform(0, 5, 100_003)
    found = logistic_normal_mean(m, s)
    for n_threads in (2, 4):
        np.testing.assert_array_equal(logistic_normal_mean(m, s, n_threads), found)
    for n in (0, 1, 7, 8, 9, 33):
        np.testing.assert_allclose(logistic_normal_mean(m[:n], s[:n]), found[:n], rtol=0, atol=1e-9)
    far = s.copy()
    far[::11] = 250.0
    near = np.arange(s.size) % 11 != 0
    np.testing.assert_allclose(logistic_normal_mean(m, far)[near], found[near], rtol=0, atol=1e-9)


def test_strided_and_integer_input():
    m, s = np.arange(-10, 10)[::2], np.ones(30, dtype=np.float32)[::3]
    expected = [_exact(float(x), 1.0) for x in m]
    np.testing.assert_allclose(logistic_normal_mean(m, s), expected, rtol=0, atol=1e-9)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="differ in length: 3 and 2"):
        logistic_normal_mean(np.zeros(3), np.zeros(2))
