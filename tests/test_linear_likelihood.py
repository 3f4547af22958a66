"""Linear models from cross-products, against the normal density of all rows with their covariance written out."""

import numpy as np
import pytest
from dense_linear import DenseLinear, random_design

from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.inference.linear_parameters import linear_quantity
from sklmm.likelihood.linear import LinearLikelihood
from sklmm.likelihood.linear_criterion import LinearCriterion
from sklmm.likelihood.linear_fit import effects_given_fit, fit_linear, linear_products
from sklmm.likelihood.linear_leaving_out import without_linear_clusters

N, LEVELS = 160, {"a": 15, "b": 6, "c": 4, "above": 5}
# columns and blocks of each factor
MODELS = {
    "no factor": {},
    "intercept": {"a": ([-1], [(1, True)])},
    "slope": {"a": ([-1, 0], [(2, True)])},
    "slope alone": {"a": ([1], [(1, True)])},
    "diagonal": {"a": ([-1, 1], [(2, False)])},
    "two terms": {"a": ([-1, 0, 2], [(1, True), (2, True)])},
    "nested": {"above": ([-1], [(1, True)]), "a": ([-1], [(1, True)])},
    "nested slopes": {"above": ([-1, 1], [(2, True)]), "a": ([-1, 0], [(2, False)])},
    "crossed": {"b": ([-1], [(1, True)]), "a": ([-1], [(1, True)])},
    "crossed slopes": {"a": ([-1, 0], [(2, True)]), "b": ([-1, 1], [(2, True)]), "c": ([-1], [(1, True)])},
}


class Case:
    """A model of random rows with weights of all kinds, and the same written out."""

    def __init__(self, model, order=None):
        random, self.factors = np.random.default_rng(0), MODELS[model]
        self.X = random.normal(size=(N, 3)) + [5, 0, -3]
        codes = {key: random.integers(0, LEVELS[key], N) for key in ("a", "b", "c")}
        codes["above"] = random.integers(0, 5, 15)[codes["a"]]
        effects = sum(random.normal(size=LEVELS[key])[codes[key]] for key in codes)
        self.y = self.X @ [1, 2, 3] + effects * (1 + 0.3 * self.X[:, 0]) + random.normal(size=N) + 100
        self.weights, self.precision = random.integers(0, 3, N).astype(float), random.uniform(0.5, 2.0, N)
        self.offset = random.normal(size=N)
        order = np.arange(N) if order is None else order
        self.X, self.y, self.weights = self.X[order], self.y[order], self.weights[order]
        self.precision, self.offset = self.precision[order], self.offset[order]
        codes = [codes[key][order] for key in self.factors]
        self.structure = Structure([FactorStructure(LEVELS[key], *self.factors[key], key) for key in self.factors])
        self.observations = Observations(self.X, self.y, codes, self.weights)
        designs = [
            random_design(self.X, code, LEVELS[key], self.factors[key][0])
            for code, key in zip(codes, self.factors, strict=True)
        ]
        self.dense = DenseLinear(self.X, self.y - self.offset, designs, self.precision, self.weights)

    def products(self, n_threads=1):
        return linear_products(
            self.observations, self.structure, n_threads=n_threads, offset=self.offset, precision=self.precision
        )

    def lambdas(self, units, theta):
        """Relative covariance factors of the user's columns."""
        whole, sizes = units.random_map() @ units.covariance.lambda_(theta), [len(f[0]) for f in self.factors.values()]
        ends = np.cumsum(sizes).tolist()
        return [whole[end - size : end, end - size : end] for size, end in zip(sizes, ends, strict=True)]


def differences(function, x, step=1e-5):
    return np.array([(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(x.size)])


def point(engine, model):
    x = np.random.default_rng(1).normal(size=engine.n_params)
    if not MODELS[model]:
        x[engine.n_fixed] = 0.0
    return 0.5 * x


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_value_and_derivatives(model, reml):
    case = Case(model)
    engine = LinearLikelihood(case.products(), reml)
    x = point(engine, model)
    value, gradient, hessian = engine.evaluate(x)
    beta, _, sigma = engine.units.natural(x)
    lambdas = case.lambdas(engine.products.units, x[engine.n_fixed : -1])
    assert value == pytest.approx(case.dense.log_likelihood(beta, lambdas, sigma, reml), rel=1e-10)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(gradient, differences(lambda z: engine.evaluate(z)[0], x), rtol=0, atol=1e-7 * scale)
    expected = differences(lambda z: engine.evaluate(z)[1], x)
    exact = np.ones(hessian.shape, dtype=bool)
    if not engine.products.exact:
        exact[engine.n_fixed : -1, engine.n_fixed : -1] = False
    np.testing.assert_allclose(hessian[exact], expected[exact], rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_fit(model, reml):
    case = Case(model)
    settings = dict(reml=reml, offset=case.offset, precision=case.precision)
    fit = fit_linear(case.observations, case.structure, **settings)
    lambdas = [factor / fit.sigma for factor in fit.lambda_]
    beta, sigma, vcov = case.dense.estimates(lambdas, reml)
    assert fit.report.converged
    assert fit.log_likelihood == pytest.approx(case.dense.log_likelihood(beta, lambdas, sigma, reml), rel=1e-11)
    assert fit.ml_log_likelihood == pytest.approx(case.dense.log_likelihood(beta, lambdas, sigma), rel=1e-11)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fit.vcov, vcov, rtol=1e-8)
    assert fit.sigma == pytest.approx(sigma, rel=1e-10)
    if not case.factors:
        return
    modes, covariance = case.dense.modes(lambdas, beta)
    np.testing.assert_allclose(np.concatenate([m.ravel() for m in fit.modes]), modes, rtol=1e-7, atol=1e-9)
    blocks, start = [], 0
    for found in fit.mode_cov:
        for block in found:
            here = slice(start, start + len(block))
            np.testing.assert_allclose(block, fit.sigma**2 * covariance[here, here], rtol=1e-7, atol=1e-9)
            blocks.append(here)
            start += len(block)
    gradient = _profile_gradient(case, fit, reml)
    assert np.abs(gradient).max() < 1e-3  # the dense likelihood, too, is at its top

    # another order of the rows, other threads: the same fit
    order = np.random.default_rng(2).permutation(N)
    other = Case(model, order)
    again = fit_linear(other.observations, other.structure, reml=reml, offset=other.offset, precision=other.precision,
                       n_threads=2)  # fmt: skip
    np.testing.assert_allclose(again.beta, fit.beta, rtol=1e-7, atol=1e-8)
    assert again.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-12)


def _profile_gradient(case, fit, reml):
    """Of the dense likelihood of the covariance factors, at the fit."""
    shapes = [factor.shape[0] for factor in fit.lambda_]

    def value(z):
        lambdas, start = [], 0
        for q, factor in zip(shapes, fit.lambda_, strict=True):
            lower = np.tril(np.ones((q, q), dtype=bool)) & ((factor != 0) | np.eye(q, dtype=bool))
            L = np.zeros((q, q))
            L[lower] = z[start : start + lower.sum()]
            start += lower.sum()
            lambdas.append(L)
        beta, sigma, _ = case.dense.estimates(lambdas, reml)
        return case.dense.log_likelihood(beta, lambdas, sigma, reml)

    entries = [
        factor[np.tril(np.ones(factor.shape, dtype=bool)) & ((factor != 0) | np.eye(len(factor), dtype=bool))]
        for factor in fit.lambda_
    ]
    return differences(value, np.concatenate(entries) / fit.sigma, 1e-4)


@pytest.mark.parametrize("model", ["two terms", "nested slopes", "crossed slopes"])
def test_results_are_bitwise_the_same_for_any_threads(model):
    values = []
    for n_threads in (1, 2, 3):
        criterion = LinearCriterion(Case(model).products(n_threads), True)
        theta = np.linspace(0.3, 1.0, criterion.products.covariance.m)
        values.append(criterion.profile(theta))
    for other in values[1:]:
        assert other[0] == values[0][0]
        np.testing.assert_array_equal(other[1], values[0][1])
        np.testing.assert_array_equal(other[2], values[0][2])


@pytest.mark.parametrize("model", ["slope", "crossed slopes"])
def test_errors_of_predictions_are_of_fixed_effects_and_effects_jointly(model):
    """Henderson's covariance of (beta, u - estimate of u), for known and unknown levels."""
    case = Case(model)
    fit = fit_linear(case.observations, case.structure, offset=case.offset, precision=case.precision)
    D, rows = case.dense, [3, 8, 40]
    factors = [factor / fit.sigma for factor in fit.lambda_]
    V, Z = D.covariance(factors), np.hstack(D.designs)
    G = np.zeros((Z.shape[1], Z.shape[1]))
    start = 0
    for L, design in zip(factors, D.designs, strict=True):
        for _ in range(design.shape[1] // len(L)):
            G[start : start + len(L), start : start + len(L)] = L @ L.T
            start += len(L)
    Phi = np.linalg.inv(D.X.T @ np.linalg.solve(V, D.X))
    weights = G @ Z.T @ np.linalg.inv(V)  # u = weights (y - X beta)
    error = (D.X - Z @ weights @ D.X) @ Phi @ (D.X - Z @ weights @ D.X).T + Z @ (G - weights @ Z @ G) @ Z.T
    counts = np.repeat(np.arange(N), case.weights.astype(int))
    rows = np.flatnonzero(case.weights)[rows]
    X, E = case.X[rows], fit.units.design(case.X[rows])[:, fit.fixed_positions]
    np.testing.assert_allclose(fit.units.design(X) @ fit.units.beta, fit.beta[0] + X @ fit.beta[1:], rtol=1e-12)
    loadings = [units.loadings(X) for units in fit.effect_units]
    codes = [code[rows] for code in case.observations.codes]
    slope, variance = E.copy(), np.zeros(len(rows))
    for f, (t, code) in enumerate(zip(loadings, codes, strict=True)):
        slope += np.einsum("na,nak->nk", t, fit.effect_slopes[f][code])
        variance += np.einsum("na,nab,nb->n", t, fit.posteriors[f].covariances(code), t)
        for g in range(f):
            across = fit.posterior.covariance(g, codes[g], f, code)
            variance += 2.0 * np.einsum("na,nab,nb->n", loadings[g], across, t)
    variance += np.einsum("nk,kl,nl->n", slope, fit.fixed_covariance, slope)
    first = [np.flatnonzero(counts == row)[0] for row in rows]
    np.testing.assert_allclose(variance, fit.sigma**2 * np.diag(error)[first], rtol=1e-8)


@pytest.mark.parametrize("model", ["two terms", "crossed slopes"])
def test_quantities_and_their_derivatives(model):
    engine = LinearLikelihood(Case(model).products())
    x, units = point(engine, model), engine.units
    beta, theta, sigma = units.natural(x)
    np.testing.assert_allclose(units.internal(beta, theta, sigma)[: engine.n_fixed], x[: engine.n_fixed], atol=1e-12)
    factor = sigma * engine.products.units.random_map() @ engine.covariance.lambda_(x[engine.n_fixed : -1])
    covariance = factor @ factor.T
    sd = np.sqrt(np.diag(covariance))
    wanted = {("fixed", (0,)): beta[0], ("fixed", (2,)): beta[2], ("random", (1,)): sd[1], ("sigma", ()): sigma,
              ("random", (1, 2) if model == "two terms" else (0, 1)): None}  # fmt: skip
    for (kind, positions), expected in wanted.items():
        quantity = linear_quantity(kind, positions, units)
        value, gradient, hessian = quantity.at(x)
        if expected is None:
            a, b = positions
            expected = np.arctanh(covariance[a, b] / (sd[a] * sd[b]))
        assert value == pytest.approx(expected, rel=1e-10)
        size = 1 + abs(value)
        np.testing.assert_allclose(gradient, differences(lambda z, q=quantity: q.at(z)[0], x), atol=1e-6 * size)
        np.testing.assert_allclose(hessian, differences(lambda z, q=quantity: q.at(z)[1], x), atol=1e-5 * size)


@pytest.mark.parametrize("model", ["crossed", "crossed slopes", "nested slopes"])
def test_exact_hessian_of_several_factors(model):
    criterion = LinearCriterion(Case(model).products(), True)
    diagonal = criterion.products.covariance.diagonal
    inside = np.random.default_rng(3).normal(size=diagonal.size)
    for theta in (inside, np.where(np.cumsum(diagonal) * diagonal == 1, 0.0, inside)):  # the last: a variance of 0
        # a singular Lambda is replaced by one that is nearly so
        expected = differences(lambda z: criterion.profile(z)[1], theta, 1e-4)
        found, tol = criterion.exact_hessian(theta), 1e-5 if theta.all() else 2e-4
        np.testing.assert_allclose(found, expected, rtol=0, atol=tol * np.abs(expected).max())


@pytest.mark.parametrize("model", ["intercept", "slope", "two terms", "diagonal"])
@pytest.mark.parametrize("in_order", [False, True])
def test_clusters_add_up_to_the_whole(model, in_order):
    case = Case(model, np.argsort(Case(model).observations.codes[0]) if in_order else None)
    engine = LinearLikelihood(case.products(2))
    x, levels = point(engine, model), []
    whole = [np.zeros(()), np.zeros(engine.n_params), np.zeros((engine.n_params, engine.n_params))]
    for level, *parts in engine.by_cluster(x):
        levels.extend(level)
        whole = [total + part.sum(axis=0) for total, part in zip(whole, parts, strict=True)]
    assert sorted(levels) == list(range(15))
    for total, expected in zip(whole, engine.evaluate(x), strict=True):
        np.testing.assert_allclose(total, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("model", ["no factor", "intercept", "slope", "diagonal"])
def test_cluster_sandwich_and_influence(model):
    case = Case(model)
    fit = fit_linear(case.observations, case.structure, offset=case.offset, precision=case.precision)
    D = case.dense
    V = fit.sigma**2 * D.covariance([factor / fit.sigma for factor in fit.lambda_])
    weighted, Phi = np.linalg.solve(V, D.y - D.X @ fit.beta), np.linalg.inv(D.X.T @ np.linalg.solve(V, D.X))
    scores = D.X * weighted[:, None]
    if case.factors:
        cluster = np.repeat(case.observations.codes[0], case.weights.astype(int))
        scores = np.array([scores[cluster == level].sum(axis=0) for level in range(15)])
        np.testing.assert_allclose(fit.influence, scores @ Phi, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(fit.level_rows, np.bincount(cluster, minlength=15))
    np.testing.assert_allclose(fit.robust_vcov, Phi @ scores.T @ scores @ Phi, rtol=1e-9)


@pytest.mark.parametrize("model", ["intercept", "slope", "nested slopes", "crossed slopes"])
def test_effects_given_a_fit(model):
    """All rows say what the fit says; for one factor the second half of the rows, after the first, too."""
    case = Case(model)
    fit = fit_linear(case.observations, case.structure, offset=case.offset, precision=case.precision)

    def given(rows, priors=None):
        return effects_given_fit(
            case.observations.take(rows), case.structure, fit, offset=case.offset[rows], precision=case.precision[rows],
            priors=priors,
        )  # fmt: skip

    whole = given(np.arange(N))
    first = given(np.arange(N // 2))
    levels = [(fit.posteriors[f], fit.effect_slopes[f]) for f in range(len(case.factors))]
    for name, expected in (("modes", fit.modes), ("mode_cov", fit.mode_cov), ("effect_slopes", fit.effect_slopes)):
        for found, values in zip(whole[name], expected, strict=True):
            np.testing.assert_allclose(found, values, rtol=1e-8, atol=1e-9)
    if len(levels) == 1:
        second = given(np.arange(N // 2, N), [(first["posteriors"][0], first["effect_slopes"][0])])
        np.testing.assert_allclose(second["modes"][0], fit.modes[0], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(second["mode_cov"][0], fit.mode_cov[0], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(second["effect_slopes"][0], fit.effect_slopes[0], rtol=1e-8, atol=1e-9)
    nothing = given(np.flatnonzero(case.weights == 0)[:5], levels)  # rows that count for nothing: what was known
    for found, values in zip(nothing["modes"], fit.modes, strict=True):
        np.testing.assert_allclose(found, values, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("model", ["intercept", "slope", "slope alone", "diagonal"])
def test_parameters_without_each_level(model, reml):
    """As of fits without it where theta goes to its maximum; given theta by brute force where it does not move."""
    case = Case(model)
    products, code = case.products(), case.observations.codes[0]
    engine = LinearLikelihood(products, reml)
    theta = engine.optimum()[0][engine.n_fixed : -1]
    found = without_linear_clusters(products, theta, reml)
    beta, factors = found.natural()
    still = without_linear_clusters(products, 0.0 * theta, reml, exact=False)
    to_user = products.y_scale * products.units.fixed_map()[:, products.kept]
    counts = case.weights.astype(int)
    for level in range(4):
        rows = code != level
        fit = fit_linear(case.observations.take(rows), case.structure, offset=case.offset[rows],
                         precision=case.precision[rows], reml=reml)  # fmt: skip
        np.testing.assert_allclose(beta[level], fit.beta, rtol=1e-7)
        np.testing.assert_allclose(to_user @ found.covariance[level] @ to_user.T, fit.vcov, rtol=1e-5)
        np.testing.assert_allclose(found.sigma_of_outcome()[level], fit.sigma, rtol=1e-7)
        np.testing.assert_allclose(factors[level] @ factors[level].T, fit.lambda_[0] @ fit.lambda_[0].T, rtol=1e-4,
                                   atol=1e-6)  # fmt: skip
        w, X = (counts * case.precision)[rows], np.column_stack([np.ones(rows.sum()), case.X[rows]])
        least = np.linalg.solve((X.T * w) @ X, (X.T * w) @ (case.y - case.offset)[rows])
        left = w @ ((case.y - case.offset)[rows] - X @ least) ** 2
        sigma = np.sqrt(left / (counts[rows].sum() - 4 * reml))
        np.testing.assert_allclose(still.natural()[0][level], least, rtol=1e-8)
        assert still.sigma_of_outcome()[level] == pytest.approx(sigma, rel=1e-8)


@pytest.mark.parametrize("columns", [[-1], [-1, 0]])
@pytest.mark.parametrize("reml", [True, False])
def test_one_step_without_each_of_many_levels(columns, reml):
    random = np.random.default_rng(2)
    code = np.repeat(np.arange(150), random.integers(3, 12, 150))
    X = random.normal(size=(code.size, 2))
    effects = random.normal(size=(2, 150))
    y = X @ [1.0, 2.0] + effects[0][code] + effects[1][code] * X[:, 0] + random.normal(size=code.size)
    structure = Structure([FactorStructure(150, columns, [(len(columns), True)], "g")])
    products = linear_products(Observations(X, y, [code]), structure)
    engine = LinearLikelihood(products, reml)
    x, _ = engine.optimum()
    theta = x[engine.n_fixed : -1]
    exact, step = (without_linear_clusters(products, theta, reml, exact=way) for way in (True, False))
    for name in ("beta", "theta", "sigma", "covariance"):
        error, move = (getattr(exact, name) - getattr(other, name)[part]
                       for other, part in ((step, slice(None)), (exact, slice(-1, None))))  # fmt: skip
        assert np.linalg.norm(error) < 0.1 * np.linalg.norm(move), name
