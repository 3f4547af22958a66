"""Densities of `sklmm.priors`: against scipy's, their derivatives against differences, draws against both."""

import copy
import pickle

import numpy as np
import pytest
from scipy import integrate, stats

from sklmm.priors import (
    LKJ,
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfStudentT,
    InverseGamma,
    InverseWishart,
    MultivariateT,
    Normal,
    StudentT,
    Wishart,
)

V = np.array([[0.7, 0.2], [0.2, 0.5]])
S = np.array([[1.3, -0.4], [-0.4, 0.6]])
NUMBERS = {
    Normal(1, 2): stats.norm(1, 2),
    StudentT(3, 1, 2): stats.t(3, 1, 2),
    HalfNormal(2): stats.halfnorm(scale=2),
    HalfStudentT(1, 2): stats.halfcauchy(scale=2),
    Exponential(3): stats.expon(scale=1 / 3),
    Gamma(2, 0.5): stats.gamma(2, scale=2),
    Gamma(1, 0.5): stats.gamma(1, scale=2),
    InverseGamma(2, 1.5): stats.invgamma(2, scale=1.5),
}
VECTORS = [MultivariateT(3, 0, [10, 2.5]), MultivariateT(7, [1, -1], 2.5), MultivariateT(4, 0, V.tolist())]
MATRICES = [Wishart(5, V), Wishart(5, 0.5), Wishart(4.5), InverseWishart(4, V), InverseWishart(4, 0.5), LKJ(2),
            LKJ(0.7)]  # fmt: skip
ALL = [*NUMBERS, *VECTORS, *MATRICES, HalfStudentT(3, 2.5), Gamma(2.5), Flat()]


@pytest.mark.parametrize("density", NUMBERS, ids=repr)
def test_numbers_are_scipys(density):
    x = np.array([-0.5, 0.01, 0.3, 1.0, 4.0])
    np.testing.assert_allclose(density.log_density(x), NUMBERS[density].logpdf(x), rtol=1e-12)
    assert density.log_density(1.0) == pytest.approx(NUMBERS[density].logpdf(1.0))
    draws = density.rvs(20_000, random_state=0)
    assert stats.kstest(draws, NUMBERS[density].cdf).pvalue > 1e-3
    assert np.ndim(density.rvs(random_state=1)) == 0


def test_vectors_and_matrices_are_scipys():
    b = np.array([0.5, -1.0])
    for density, shape in zip(VECTORS, (np.diag([100, 6.25]), 6.25 * np.eye(2), V), strict=True):
        loc = np.broadcast_to(density.loc, 2)
        assert density.log_density(b) == pytest.approx(stats.multivariate_t(loc, shape, density.df).logpdf(b))
    assert Wishart(5, V).log_density(S) == pytest.approx(stats.wishart(5, V).logpdf(S))
    assert Wishart(5, 0.5).log_density(S) == pytest.approx(stats.wishart(5, 0.5 * np.eye(2)).logpdf(S))
    assert InverseWishart(4, V).log_density(S) == pytest.approx(stats.invwishart(4, V).logpdf(S))
    assert Wishart(4.5).log_density(S) == pytest.approx(0.75 * np.log(np.linalg.det(S)))
    assert Wishart(3.5).log_density([[0.8]]) == pytest.approx(Gamma(2.5).log_density(np.sqrt(0.8)))


def test_lkj_integrates_to_one():
    def density(rho, eta):
        return np.exp(LKJ(eta).log_density([[1, rho], [rho, 1]]))

    for eta in (0.7, 1.0, 2.0, 5.0):
        assert integrate.quad(density, -1, 1, args=(eta,))[0] == pytest.approx(1.0, abs=1e-6)
    # 3 x 3: the mean of the unnormalised density over uniform matrices is the ratio of the constants
    R = LKJ(1).rvs(20_000, random_state=0, dim=3)
    mean = np.mean(np.linalg.det(R))
    assert np.exp(LKJ(1).log_density(np.eye(3)) - LKJ(2).log_density(np.eye(3))) == pytest.approx(mean, rel=0.02)
    # of any size a correlation is 2 Beta - 1 with eta - 1 + q / 2 twice
    for q in (2, 4):
        draws = LKJ(2.0).rvs(4000, random_state=1, dim=q)
        law = stats.beta(1.0 + q / 2, 1.0 + q / 2, loc=-1, scale=2)
        assert stats.kstest(draws[:, q - 1, 0], law.cdf).pvalue > 1e-3
        assert stats.kstest(draws[:, q - 1, q - 2], law.cdf).pvalue > 1e-3


def test_lkj_knows_covariances_by_their_correlations():
    sd = np.array([0.3, 0.0, 2.0])
    R = LKJ(1).rvs(random_state=0, dim=3)
    R[1] = R[:, 1] = np.eye(3)[1]
    assert LKJ(2).log_density(R * sd[:, None] * sd) == pytest.approx(LKJ(2).log_density(R))
    assert LKJ(2).log_density(np.ones((2, 2))) == -np.inf


@pytest.mark.parametrize("density", ALL, ids=repr)
def test_derivatives(density):
    value = np.array([0.5, -1.0]) if density in VECTORS else S if density in MATRICES else 0.8
    _, gradient, hessian = density.derivatives(value)
    changes = [np.array([1.0, 0.0]), np.array([0.3, 1.0])] if density in VECTORS else [1.0]
    if density in MATRICES:
        changes = [np.diag([1.0, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.2, 0.5], [0.5, 1.0]])]
    h = 1e-5
    for change in changes:
        up, down = (density.derivatives(value + step * np.asarray(change)) for step in (h, -h))
        assert np.sum(gradient * change) == pytest.approx((up[0] - down[0]) / (2 * h), rel=1e-6, abs=1e-8)
        along = np.tensordot(hessian, change, np.ndim(change)) if np.ndim(change) else hessian * change
        numeric = (up[1] - down[1]) / (2 * h)
        for other in changes:  # symmetric changes alone mean anything
            assert np.sum(along * other) == pytest.approx(np.sum(numeric * other), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("density", [d for d in ALL if d.of in ("positive", "any")], ids=repr)
def test_densities_of_a_root(density):
    v, h = 0.64, 1e-5
    value, first, second = density.of_square(v)
    assert value == pytest.approx(density.log_density(0.8), abs=1e-10)
    up, down = density.of_square(v + h), density.of_square(v - h)
    assert first == pytest.approx((up[0] - down[0]) / (2 * h), rel=1e-6)
    assert second == pytest.approx((up[1] - down[1]) / (2 * h), rel=1e-6)


def test_at_zero():
    assert HalfNormal(2).of_square(0.0)[:2] == pytest.approx((HalfNormal(2).log_density(0.0), -0.125))
    assert HalfStudentT(3, 2).of_square(0.0)[1] == pytest.approx(-0.5 * 4 / 12)
    assert Exponential(2).of_square(0.0)[0] == pytest.approx(np.log(2), abs=2e-6)
    assert Gamma(2, 1).of_square(0.0)[0] == InverseGamma(2, 1).of_square(0.0)[0] == -np.inf
    assert Gamma(2, 1).log_density(0.0) == InverseGamma(2, 1).log_density(0.0) == -np.inf
    assert Gamma(2).has_mode and not Gamma(0.5, 1).has_mode
    assert Wishart(4).has_mode_of(2) and not Wishart(2.5, 1.0).has_mode_of(2) and InverseWishart(3).has_mode_of(2)


def test_which_are_improper():
    assert [density for density in ALL if density.improper] == [Wishart(4.5), Gamma(2.5), Flat()]
    for density in (Wishart(4.5), Gamma(2.5), Flat()):
        with pytest.raises(ValueError, match="improper"):
            density.rvs(random_state=0)


def test_draws_of_vectors_and_matrices():
    draws = MultivariateT(7, [1, -1], 2.5).rvs(20_000, random_state=0)
    np.testing.assert_allclose(draws.mean(axis=0), [1, -1], atol=0.1)
    np.testing.assert_allclose(np.cov(draws.T), 6.25 * 7 / 5 * np.eye(2), atol=0.6)
    np.testing.assert_allclose(Wishart(5, V).rvs(20_000, random_state=0).mean(axis=0), 5 * V, atol=0.05)
    np.testing.assert_allclose(InverseWishart(7, V).rvs(20_000, random_state=0).mean(axis=0), V / 4, atol=0.01)
    assert Wishart(5, 0.5).rvs(3, random_state=0, dim=3).shape == (3, 3, 3)
    assert Wishart(5, V).rvs(random_state=0).shape == (2, 2) == LKJ(2).rvs(random_state=0).shape
    assert MultivariateT(3).rvs(2, random_state=0, dim=4).shape == (2, 4)


@pytest.mark.parametrize("density", ALL, ids=repr)
def test_densities_are_values(density):
    assert pickle.loads(pickle.dumps(density)) == density == copy.deepcopy(density)
    assert hash(density) == hash(copy.deepcopy(density))
    assert eval(repr(density), {**globals(), "inf": np.inf}) == density
    with pytest.raises(AttributeError):
        density.eta = 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0, 0), "scale of Normal must be a finite number above 0, got 0"),
        (lambda: Normal("a", 1), "loc of Normal must be a finite number, got 'a'"),
        (lambda: Normal(0, np.inf), "scale of Normal"),
        (lambda: StudentT(0), "df of StudentT"),
        (lambda: Gamma(2, -1), "rate of Gamma must be a finite number of at least 0"),
        (lambda: HalfNormal(True), "scale of HalfNormal"),
        (lambda: Wishart(3, [[1, 2], [2, 1]]), "scale of Wishart must be a symmetric, positive definite"),
        (lambda: InverseWishart(3, np.inf), "scale of InverseWishart must hold finite"),
        (lambda: MultivariateT(3, [0, 0], [1, 1, 1]), "has numbers for 2 coefficients, but there are 3"),
        (lambda: MultivariateT(3, 0, [1, -1]), "scale of MultivariateT must be above 0"),
        (lambda: MultivariateT(3, 0, [1, 2]).log_density([1, 2, 3]), "has numbers for 2 coefficients, but there are 3"),
        (lambda: Wishart(1, 1.0).log_density(S), "df must be above 1"),
        (lambda: Wishart(5, V).log_density(np.eye(3)), "has 2 rows, but the matrix is of 3"),
        (lambda: LKJ(0), "eta of LKJ"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
