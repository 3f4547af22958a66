"""Climbs in standard deviations and partial correlations: the coordinates, and their function's derivatives."""

import numpy as np
import pytest
from designs import Coded, engine_of

from sklmm.inference.prior_choice import Layout, Spread, Term, model_priors
from sklmm.likelihood.penalised import Penalised
from sklmm.likelihood.polar import Polar
from sklmm.priors import LKJ, HalfNormal


def engine(q=3):
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(300, q - 1)), np.arange(300) % 25
    y = (rng.random(300) < 0.5).astype(np.uint8)
    columns = [-1, *range(q - 1)]
    found = engine_of(X, y, [Coded(codes, 25, columns, [(q, True)])], standardise=False)
    names = ["intercept", *(f"x{j}" for j in range(q - 1))]
    layout = Layout(names, True, [Term("group", names, 0, columns, True)])
    spread = Spread(np.zeros(q - 1), np.ones(q - 1))
    priors = model_priors({"correlation": LKJ(2.5), "sd": HalfNormal(1)}, layout, spread)
    return Penalised(found, [priors.penalty(found)])


def test_coordinates_go_both_ways():
    plain = engine()
    polar = Polar.of(plain)
    x = np.array([0.1, 0.2, 0.3, 0.8, -0.5, 0.4, 0.7, -0.2, 0.5])
    z = polar.from_x(x)
    np.testing.assert_allclose(polar.to_x(z), x, rtol=1e-12)
    Lambda = plain.covariance.lambda_(x[3:])
    sds = np.linalg.norm(Lambda, axis=1)
    at = 3 + np.flatnonzero(plain.covariance.diagonal)
    np.testing.assert_allclose(z[at], sds, rtol=1e-12)
    rho = (Lambda @ Lambda.T)[1, 0] / sds[0] / sds[1]
    assert np.tanh(z[4]) == pytest.approx(rho)
    mirrored = x.copy()
    mirrored[at[2]] *= -1.0
    np.testing.assert_allclose(polar.to_x(polar.from_x(mirrored)), mirrored, rtol=1e-12)
    x[[5, 7, 8]] = 0.0
    np.testing.assert_allclose(polar.to_x(polar.from_x(x)), x)


def test_the_function_and_its_derivatives():
    """It is the penalised engine's; where a standard deviation is 0 derivatives hold on."""
    plain = engine()
    polar = Polar.of(plain)
    x = np.array([0.1, 0.2, 0.3, 0.8, -0.5, 0.4, 0.7, -0.2, 0.5])
    z = polar.from_x(x)
    assert polar.evaluate(z)[0] == pytest.approx(plain.evaluate(x)[0], abs=1e-9)
    zero = z.copy()
    zero[6] = 0.0
    for at in (z, zero):
        _, gradient, hessian = polar.evaluate(at)
        for step in 1e-5 * np.eye(z.size):
            up, down = polar.evaluate(at + step), polar.evaluate(at - step)
            assert (up[0] - down[0]) / 2e-5 == pytest.approx(gradient @ step / 1e-5, rel=1e-5, abs=1e-5)
            np.testing.assert_allclose((up[1] - down[1]) / 2e-5, hessian @ step / 1e-5, rtol=1e-5, atol=2e-4)


def test_there_is_none_without_priors_of_correlations():
    plain = engine()
    assert Polar.of(Penalised(plain.engine, [plain.penalties[0].without_correlations])) is None
