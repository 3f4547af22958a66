"""Importance sampling of posteriors: smoothed weights, proposals, coordinates and their Jacobians."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.families import bernoulli
from sklmm.inference.prior_choice import Layout, Term, model_priors
from sklmm.inference.priors import ModelPriors, PriorPenalty
from sklmm.likelihood.engine import make_engine
from sklmm.likelihood.linear_fit import linear_likelihood
from sklmm.posterior import importance
from sklmm.posterior.coordinates import Coordinates
from sklmm.posterior.importance import DF, sample
from sklmm.posterior.pareto import pareto_smoothed
from sklmm.posterior.target import PriorsOfDraws
from sklmm.priors import LKJ, Gamma, HalfNormal, InverseGamma, Normal, Wishart


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_the_tail_of_weights_has_the_shape_it_was_drawn_with(k):
    weights = stats.genpareto.rvs(k, size=100_000, random_state=1)
    smoothed, found = pareto_smoothed(np.log(weights))
    assert abs(found - k) < 0.08
    assert_allclose(np.sort(smoothed)[:-2000], np.sort(np.log(weights))[:-2000])
    assert smoothed.max() <= np.log(weights.max())


def test_weights_that_are_all_the_same_are_left():
    smoothed, k = pareto_smoothed(np.zeros(500))
    assert k == -np.inf
    assert_allclose(smoothed, 0.0)


def test_a_few_draws_have_no_tail():
    assert pareto_smoothed(np.zeros(10))[1] == np.inf


def gamma_and_normal(points):
    """A gamma density of shape 1.5 beside a normal one, in z = (x, sqrt of the gamma)."""
    x, w = points.T
    with np.errstate(divide="ignore"):
        return stats.norm.logpdf(x, 1.0, 2.0) + stats.gamma.logpdf(w**2, 1.5) + np.log(2.0 * w) + np.log(7.0)


def test_a_known_density_is_found():
    """Its integral is 7; the mode of the root is at 1, near to 0."""
    found = sample(gamma_and_normal, np.array([1.0, 1.0]), np.diag([4.0, 0.25]), n=2048, folded=np.array([1]), split=1,
                   seed=3)  # fmt: skip
    assert found.trusted
    assert found.effective_size > 1000
    assert abs(found.log_evidence - np.log(7.0)) < 0.02
    mean, covariance = found.moments(np.column_stack([found.points[:, 0], found.points[:, 1] ** 2]))
    assert_allclose(mean, [1.0, 1.5], atol=0.03)
    assert_allclose(np.sqrt(np.diagonal(covariance)), [2.0, np.sqrt(1.5)], rtol=0.03)


def test_points_that_are_far_from_0_need_no_folding():
    """10 standard deviations: the sum over signs is left out, and nothing changes."""

    def density(points):
        return stats.norm.logpdf(points[:, 0], 10.0, 1.0)

    found = sample(density, np.array([10.0]), np.eye(1), n=512, folded=np.array([0]), split=0, seed=1)
    assert abs(found.log_evidence) < 0.01


def test_draws_of_equal_weight_are_as_often_as_weights_say():
    found = sample(gamma_and_normal, np.array([1.0, 1.0]), np.diag([4.0, 0.25]), n=256, folded=np.array([1]), split=1,
                   seed=3)  # fmt: skip
    counts = np.bincount(found.resampled(5000, np.random.default_rng(0)), minlength=256)
    assert np.abs(counts - 5000 * found.weights).max() <= 1.0


# Coordinates ---------------------------------------------------------------------------------------------------------

BLOCKS = {
    "intercept": ([-1], [(1, True)]),
    "correlated": ([-1, 0], [(2, True)]),
    "three": ([-1, 0, 1], [(3, True)]),
    "apart": ([-1, 0], [(1, True), (1, True)]),
    "diagonal": ([-1, 0], [(2, False)]),
}


def engine_of(blocks, linear=False):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(60, 2)) * [2.0, 30.0] + [5.0, 100.0]
    codes = np.repeat(np.arange(12), 5)
    columns, terms = BLOCKS[blocks]
    structure = Structure([FactorStructure(12, columns, terms)], True, 1, 0)
    if linear:
        return linear_likelihood(Observations(X, rng.normal(3.0, 2.0, 60), [codes]), structure)
    return make_engine(Observations(X, (rng.random(60) < 0.5).astype(np.uint8), [codes]), structure)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("blocks", list(BLOCKS))
def test_coordinates_are_the_users_parameters(blocks, linear):
    """The engine's parameters at z are, in the user's units, what z says: beta, D and sigma; and z is found again."""
    engine = engine_of(blocks, linear)
    coordinates, maps = Coordinates(engine), PriorPenalty(ModelPriors({}), engine)
    z = np.random.default_rng(2).normal(size=(3, coordinates.d)) * 0.7
    z[:, coordinates.folded] = np.abs(z[:, coordinates.folded]) + 0.2
    user, x = coordinates.user(z), coordinates.engine(z)
    for i in range(3):
        beta, D, sigma = maps.of_user(x[i])
        assert_allclose(user.beta[i], beta, rtol=1e-10)
        assert_allclose(user.covariances[i], D, rtol=1e-8, atol=1e-10 * np.abs(D).max())
        if linear:
            assert_allclose(user.sigma[i], sigma)
        inner = slice(coordinates.of_sds.start, coordinates.of_pairs.stop)
        assert_allclose(coordinates.sds_and_partials(user.sds[i], user.correlations[i]), z[i, inner], rtol=1e-8)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("blocks", list(BLOCKS))
def test_the_jacobian_is_that_of_differences(blocks, linear):
    coordinates = Coordinates(engine_of(blocks, linear))
    z = np.random.default_rng(3).normal(size=coordinates.d) * 0.5
    z[coordinates.folded] = np.abs(z[coordinates.folded]) + 0.3

    def user(z):
        at = coordinates.user(z)
        pairs = [at.correlations[:, row, col] for row, col in coordinates.pairs]
        parts = [at.beta, at.sds, np.reshape(pairs, (len(pairs), -1)).T if pairs else np.empty((len(at.beta), 0))]
        return np.hstack(parts + ([at.sigma[:, None]] if linear else []))

    step = 1e-6 * np.eye(coordinates.d)
    J = (user(z + step) - user(z - step)) / 2e-6
    assert_allclose(coordinates.log_jacobian(z)[0], np.linalg.slogdet(J)[1], atol=1e-6)


def test_partial_correlations_integrate_the_density_of_correlations_to_1():
    """LKJ(2) of three coefficients over Fisher's z of the partial correlations: a sum over a grid."""
    coordinates = Coordinates(engine_of("three"))
    z1 = np.linspace(-4.0, 4.0, 21)
    grid = np.stack(np.meshgrid(z1, z1, z1, indexing="ij"), axis=-1).reshape(-1, 3)
    z = np.zeros((len(grid), coordinates.d))
    z[:, coordinates.of_sds], z[:, coordinates.of_pairs] = 0.5, grid  # roots of 1/4: their Jacobian is 1
    R = coordinates.user(z).correlations
    log_density = np.array([LKJ(2.0).log_density(each) for each in R])
    log_density += coordinates.log_jacobian(z) - coordinates.log_volume
    assert_allclose(np.exp(log_density).sum() * (z1[1] - z1[0]) ** 3, 1.0, rtol=2e-3)


def test_where_the_prior_vanishes_at_0_logarithms_serve():
    engine = engine_of("intercept")
    layout = Layout(["intercept", "a", "b"], True, [Term("group", ["intercept"], 0, [-1], True)])
    cases = {"sd": [(HalfNormal(1.0), False), (Gamma(2.5, 1.0), True)], "covariance": [(Wishart(3.5), True)],
             "variance": [(InverseGamma(1.0, 1.0), True)]}  # fmt: skip
    for kind, densities in cases.items():
        for density, logarithm in densities:
            priors = model_priors({"fixed": Normal(0.0, 1.0), kind: density}, layout, None)
            assert Coordinates(engine, PriorsOfDraws(priors, [])).logarithms.tolist() == [logarithm]


def test_the_normal_constant_of_t_proposals():
    """A t density in two dimensions integrates to 1, by its constant: scipy's."""
    root = np.array([[1.5, 0.0], [0.4, 0.7]])
    points = np.random.default_rng(0).normal(size=(5, 2))
    expected = stats.multivariate_t.logpdf(points, [0.1, -0.2], root @ root.T, df=DF)
    assert_allclose(importance._Component(np.array([0.1, -0.2]), root).log_density(points), expected)


# Values alone --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("family", ["logit", "probit"])
@pytest.mark.parametrize("nodes", [1, 5, 40])
@pytest.mark.parametrize("columns", [[-1], [-1, 0]])
def test_values_alone_are_those_of_evaluations(columns, nodes, family, weighted):
    """Of one huge cluster, singletons and an empty level; at small and at large standard deviations."""
    if len(columns) > 1 and nodes > 5:
        nodes = 7
    rng = np.random.default_rng(1)
    sizes = [900, *[1] * 20, *[9] * 10, *[2] * 15]
    codes = np.repeat(np.arange(len(sizes)) + 1, sizes)
    X, y = rng.normal(size=(codes.size, 3)), (rng.random(codes.size) < 0.4).astype(np.uint8)
    weights = rng.uniform(0.5, 3.0, codes.size) if weighted else None
    factor = FactorStructure(len(sizes) + 2, columns, [(len(columns), True)])
    structure = Structure([factor], True, nodes, 0, family=bernoulli(family))
    engine = make_engine(Observations(X, y, [codes], weights), structure)
    for size in (0.0, 0.3, 2.0, 40.0):
        x = np.append([0.5, -0.2, 0.1, 0.3], np.full(engine.covariance.m, size))
        for _ in range(2):  # nodes stand around the modes, which the second time are found to the last digit
            engine.evaluate(x)
        expected = engine.evaluate(x)[0]
        assert_allclose(engine.value(x), expected, rtol=1e-12)
        assert_allclose(engine.cluster_values(x).sum(), expected, rtol=1e-12)
