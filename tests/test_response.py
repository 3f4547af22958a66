"""The response of single rows, compiled: log densities and four derivatives of each link against 60 digits."""

import mpmath
import numpy as np
import pytest

from sklmm._kernels._response import CODES, averaged, derivatives, probabilities

ETA = [-300.0, -40.0, -38.5, -20.0, -8.3, -5.0, -2.5, -1.0, -0.3665, -1e-3, 0.0, 1e-3, 0.4, 1.0, 2.2, 3.7, 5.5, 8.3,
       20.0, 38.5, 40.0, 300.0]  # fmt: skip
NO_MORE = {"cloglog": 6.4}  # beyond, P(y = 0) is below the smallest number


def _log_density(link, y):
    """log p(y | eta) without cancellation."""
    if link == "logit":
        return lambda t: -mpmath.log1p(mpmath.exp(-t if y else t))
    if link == "probit":

        def of_side(t):
            t = t if y else -t
            tail = mpmath.erfc(abs(t) / mpmath.sqrt(2)) / 2
            return mpmath.log(tail) if t < 0 else mpmath.log1p(-tail)

        return of_side
    if not y:
        return lambda t: -mpmath.exp(t)
    return lambda t: (mpmath.log(-mpmath.expm1(-mpmath.exp(t))) if t < 0 else mpmath.log1p(-mpmath.exp(-mpmath.exp(t))))


def _exact(link, y, eta):
    with mpmath.workdps(60):
        series = mpmath.taylor(_log_density(link, y), mpmath.mpf(eta), 4)
        return [float(factor * c) for factor, c in zip((1, 1, -2, -6, -24), series, strict=True)]


@pytest.mark.parametrize("y", [0, 1])
@pytest.mark.parametrize("link", CODES)
def test_log_density_and_derivatives(link, y):
    eta = np.array([e for e in ETA if not (link == "cloglog" and e > NO_MORE[link])])
    found, exact = derivatives(CODES[link], eta, np.full(eta.size, y)), np.array([_exact(link, y, e) for e in eta]).T
    likely = exact[0] > -1e-8  # a sum of log densities sees these to an absolute error alone
    np.testing.assert_allclose(found[0][~likely], exact[0][~likely], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-13, atol=3e-16)
    for k in range(1, 5):
        # what is next to a sign change, and what exp can no longer hold, is exact to an absolute error
        np.testing.assert_allclose(found[k], exact[k], rtol=1e-12, atol=3e-16 * min(1.0, np.abs(exact[k]).max()))


@pytest.mark.parametrize("link", CODES)
def test_far_tails_keep_their_digits(link):
    """Of the less likely outcome, where derivatives are differences of numbers that agree to many digits."""
    for y, sign in ((0, 1.0), (1, -1.0)):
        eta = sign * np.array([10.0, 25.0, 40.0, 100.0, 250.0])
        found, exact = derivatives(CODES[link], eta, np.full(5, y)), np.array([_exact(link, y, e) for e in eta]).T
        first = 5 if link == "probit" else 2  # the others' higher ones are those of exp
        np.testing.assert_allclose(found[:first], exact[:first], rtol=1e-13)


@pytest.mark.parametrize("link", CODES)
def test_differences(link):
    rng, h = np.random.default_rng(0), 1e-4
    eta, y = rng.normal(0, 2.0 if link == "cloglog" else 5.0, 1000), rng.integers(0, 2, 1000)
    here, up, down = (derivatives(CODES[link], eta + step, y) for step in (0.0, h, -h))
    for k, sign in ((0, 1), (1, -1), (2, 1), (3, 1)):
        scale = 1.0 + np.abs(here[k + 1])
        np.testing.assert_allclose(sign * (up[k] - down[k]) / (2 * h) / scale, here[k + 1] / scale, atol=2e-6)


@pytest.mark.parametrize("link", CODES)
def test_curvature_is_positive_and_numbers_stay_numbers(link):
    eta = np.array([-1e300, -1e5, -750.0, -40.0, 0.0, 40.0, 299.0, 750.0, 1e5, 1e300])
    for y in (0, 1):
        found = derivatives(CODES[link], eta, np.full(eta.size, y))
        assert np.isfinite(found[1:]).all()
        assert (found[2] >= 0).all()
        assert (derivatives(CODES[link], np.linspace(-6, 5, 400), np.full(400, y))[2] > 0).all()
        assert not np.isnan(found[0]).any()


@pytest.mark.parametrize("link", CODES)
def test_probabilities_of_both_outcomes(link):
    eta = np.array([e for e in ETA if not (link == "cloglog" and e > NO_MORE[link]) and abs(e) < 38.0])
    mu, rest = probabilities(CODES[link], eta)
    for y, found in ((1, mu), (0, rest)):
        with mpmath.workdps(60):
            exact = [float(mpmath.exp(_log_density(link, y)(mpmath.mpf(e)))) for e in eta]
        np.testing.assert_allclose(found, exact, rtol=2e-14)


@pytest.mark.parametrize("link", CODES)
def test_averages_over_nodes(link):
    rng = np.random.default_rng(1)
    m, s, y = rng.normal(size=21), rng.uniform(0, 2, 21), rng.integers(0, 2, 21)
    z, w = rng.normal(size=5), rng.dirichlet(np.ones(5))
    found = averaged(CODES[link], m, s, y, z, w)
    by_hand = sum(wk * derivatives(CODES[link], m + s * zk, y)[1:3] for zk, wk in zip(z, w, strict=True))
    np.testing.assert_allclose(found, by_hand, rtol=1e-13)
