"""The clustered likelihood: values against dense linear algebra and brute force, derivatives against differences.

`dense_value` states the approximation in a few lines of NumPy; the brute-force integrals know nothing of modes.
"""

import mpmath
import numpy as np
import pytest
from clustered_cases import CASES, INTERCEPT, Case, differences, settled
from designs import Coded, clustered, engine_of
from scipy.special import log_expit

from sklmm.likelihood.clustered import ClusteredLikelihood


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


# ---- values and derivatives ------------------------------------------------------------------------------------


def test_value(case):
    engine, x = case.engine()
    assert engine.evaluate(x)[0] == pytest.approx(case.dense(x), rel=1e-11)


def test_gradient(case):
    engine, x = case.engine()
    gradient = settled(engine, x)[1]
    expected = differences(lambda x: settled(engine, x)[0], x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-10 * np.abs(gradient).max())


def test_hessian(case):
    engine, x = case.engine()
    hessian = settled(engine, x)[2]
    np.testing.assert_array_equal(hessian, hessian.T)
    expected = differences(lambda x: settled(engine, x)[1], x)
    error = np.abs(hessian - expected)
    assert error.max() <= 1e-10 * np.abs(hessian).max()
    own = np.sqrt(np.abs(hessian.diagonal()) + 1e-6 * np.abs(hessian).max())
    assert (error / np.outer(own, own)).max() <= 1e-9  # also of parameters that matter little


def test_bitwise_the_same_with_any_number_of_threads(case):
    expected = []
    for n_threads in (1, 2, 4):
        engine, x = case.engine(n_threads=n_threads)
        for _ in range(2):  # from modes of 0, and from warm ones
            evaluated = engine.evaluate(x)
            (modes,), (mode_cov,) = engine.random_effects(x)
            found = [*evaluated, engine.modes, engine.curvature, modes, mode_cov]
        expected = expected or found
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_history_leaves_no_trace(case):
    """One evaluation, the first or after others, is as that from settled modes: modes are found, not remembered."""
    engine, x = case.engine()
    fresh = engine.evaluate(x)
    for factor in (3.0, -1.0, 0.0):
        engine.evaluate(factor * x)
    again = engine.evaluate(x)
    for a, b, expected in zip(fresh, again, engine.evaluate(x), strict=True):
        np.testing.assert_allclose(a, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())
        np.testing.assert_allclose(b, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["intercept", "intercept, AGHQ 3", "correlated"])
@pytest.mark.parametrize("step", [2, 8])
def test_levels_are_a_partition(name, step):
    """What the samples of blocks give adds up to the whole."""
    engine, x = CASES[f"{name}, many blocks"].engine()
    assert engine.kernel.n_blocks > 2
    Lambda = engine.covariance.lambda_(x[engine.n_fixed :])
    beta = np.zeros(engine.kernel.ld)
    beta[: engine.n_fixed] = x[: engine.n_fixed]
    whole = settled(engine, x)
    blocks = np.arange(engine.kernel.n_blocks)
    parts = [
        engine.kernel.evaluate(
            beta, x[engine.n_fixed :].copy(), Lambda, engine.modes, engine.curvature, 1e-10, (blocks - i) % step, 1
        )
        for i in range(step)
    ]
    for total, expected in zip(map(sum, zip(*parts, strict=True)), whole, strict=True):
        np.testing.assert_allclose(total, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["intercept", "intercept, AGHQ 5", "slope, AGHQ 5", "correlated", "three, AGHQ 3"])
def test_modes_and_conditional_covariances(name):
    """The slope of a cluster's log-density vanishes at b, and the covariance is its inverse curvature there."""
    case = CASES[name]
    engine, x = case.engine()
    engine.evaluate(x)
    (b,), (cov,) = engine.random_effects(x)
    X, y, codes, _, beta = case.data()
    Z = np.column_stack([np.ones(len(y)) if c < 0 else X[:, c] for c in case.columns])
    Lambda = engine.covariance.lambda_(np.array(case.theta))
    precision = np.linalg.inv(Lambda @ Lambda.T)
    for level in range(len(case.sizes)):
        rows = codes == level
        mu = np.exp(log_expit(X[rows] @ beta[:-1] + beta[-1] + Z[rows] @ b[level]))
        np.testing.assert_allclose(Z[rows].T @ (y[rows] - mu), precision @ b[level], atol=1e-8)
        curvature = precision + (Z[rows].T * (mu * (1 - mu))) @ Z[rows]
        np.testing.assert_allclose(cov[level] @ curvature, np.eye(len(Lambda)), atol=1e-9)


@pytest.mark.parametrize(
    "name",
    ["intercept", "intercept, AGHQ 5", "intercept, short, AGHQ 10", "correlated", "correlated, AGHQ 3", "three"],
)
@pytest.mark.parametrize("moved", [True, False], ids=["rows moved", "rows in place"])
def test_levels_without_rows(name, moved):
    """They add nothing, and their random coefficients keep their prior."""
    case = CASES[name]
    engine, x = case.engine()
    X, y, codes, _, _ = case.data()
    n_levels = len(case.sizes)
    rows = np.arange(len(y)) if moved else np.argsort(codes, kind="stable")
    codes, occupied, empty = 2 * codes[rows] + 1, np.arange(1, 2 * n_levels, 2), np.arange(0, 2 * n_levels + 1, 2)
    with_empty = clustered(
        X[rows], y[rows], codes, 2 * n_levels + 1, case.columns, case.blocks, n_quadrature=case.k, standardise=False
    )
    for found, expected in zip(settled(with_empty, x), settled(engine, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10 * np.abs(expected).max())
    Lambda = engine.covariance.lambda_(np.array(case.theta))
    ((b,), (cov,)), expected = with_empty.random_effects(x), [table for (table,) in engine.random_effects(x)]
    np.testing.assert_array_equal(b[empty], 0.0)
    np.testing.assert_allclose(cov[empty], np.tile(Lambda @ Lambda.T, (n_levels + 1, 1, 1)), rtol=1e-12)
    np.testing.assert_allclose(b[occupied], expected[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cov[occupied], expected[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("columns", [[-1], [1]], ids=["own kernel", "general kernel"])
@pytest.mark.parametrize("rows", [1, 2, 12])
@pytest.mark.parametrize("weight", [None, 0.5, 100.0])
@pytest.mark.parametrize("theta", [0.3, 3.0, 7.0, 7.0836, 30.0, 100.0])
def test_modes_are_found_from_a_cold_start(columns, rows, weight, theta):
    """A Newton step that is too long, to where the curvature is low, may lead back to where it came from, and so on."""
    eta = np.repeat(np.linspace(-120, 120, 1501), rows)
    X = np.column_stack([eta + np.tile(np.linspace(-1, 1, rows), 1501), np.ones(eta.size)])
    y = np.tile(np.arange(rows) % 3 == 1, 1501).astype(np.uint8)
    w = None if weight is None else np.full(eta.size, weight)
    codes = np.repeat(np.arange(1501), rows)
    engine = clustered(
        X, y, codes, 1501, columns, [(1, True)], sample_weight=w, fit_intercept=False, standardise=False
    )
    engine.evaluate(np.array([1.0, 0.0, theta]))
    u = engine.modes[:, 0]
    residual = (1.0 if w is None else w) * (y - np.exp(log_expit(X[:, 0] + theta * np.repeat(u, rows))))
    slope = theta * np.add.reduceat(residual, np.arange(0, eta.size, rows)) - u
    noise = 1e-14 * theta * rows * (weight or 1) + 1e-9 * (1 + np.abs(u))
    assert np.all(np.abs(slope / engine.curvature[:, 0]) < noise)


@pytest.mark.parametrize("theta", [(1.0, 0.5, 2.0), (7.0, -8.0, 21.0), (20.0, 0.0, 40.0), (45.0, -20.0, 30.0)])
@pytest.mark.parametrize("rows", [1, 3, 9])
@pytest.mark.parametrize("weights", [False, True])
def test_modes_of_two_coefficients_are_found_from_a_cold_start(theta, rows, weights):
    rng, n_clusters = np.random.default_rng(rows), 4000
    n = n_clusters * rows
    X = np.column_stack([np.repeat(rng.normal(0, 12, n_clusters), rows) + rng.normal(size=n), rng.normal(size=n)])
    y = rng.integers(0, 2, n).astype(np.uint8)
    w = rng.choice([0.0, 0.5, 1.0, 2.0, 100.0], n) if weights else None
    codes = np.repeat(np.arange(n_clusters), rows)
    engine = clustered(
        X, y, codes, n_clusters, [-1, 1], [(2, True)], sample_weight=w, fit_intercept=False, standardise=False
    )
    engine.evaluate(np.array([1.0, 0.0, *theta]))
    Lambda, Z = np.array([[theta[0], 0.0], [theta[1], theta[2]]]), np.column_stack([np.ones(n), X[:, 1]])
    mu = np.exp(log_expit(X[:, 0] + np.sum(Z * (engine.modes @ Lambda.T)[codes], axis=1)))
    residual = (np.ones(n) if w is None else w) * (y - mu)
    slope = np.add.reduceat(residual[:, None] * (Z @ Lambda), np.arange(0, n, rows)) - engine.modes
    H = np.empty((n_clusters, 2, 2))
    H[:, 0, 0], H[:, 0, 1], H[:, 1, 0], H[:, 1, 1] = engine.curvature[:, [0, 1, 1, 2]].T
    step = np.linalg.solve(H, slope[:, :, None])[:, :, 0]
    assert np.all(np.abs(step).max(axis=1) < 1e-8 * (1 + np.abs(engine.modes).max(axis=1)))


@pytest.mark.parametrize("columns, blocks", [([-1], [(1, True)]), ([0], [(1, True)]), ([-1, 0], [(2, False)])])
@pytest.mark.parametrize("weights", [False, True])
def test_modes_of_separated_clusters(columns, blocks, weights):
    """Where all rows are predicted with certainty the density is flat but for rounding errors, from whatever start."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=4000), 300 * rng.normal(size=4000)])
    y, codes = (X[:, 1] > 0).astype(np.uint8), np.repeat(np.arange(200), 20)
    w = rng.choice([0.5, 1.0, 2.0], 4000) if weights else None
    engine = clustered(
        X, y, codes, 200, columns, blocks, sample_weight=w, fit_intercept=False, standardise=False
    )
    x = np.concatenate([[0.0, 1.0], np.full(len(columns), 0.02)])
    values = []
    for start in (0.0, 1e-9, 1.3e-9, 1e-6, 1e-3, 1.0):
        engine.modes[:] = start * rng.normal(size=engine.modes.shape)
        values.append(engine.evaluate(x)[0])
        assert np.all(np.abs(engine.modes) < 200 if weights else np.abs(engine.modes) < 0.1)
    np.testing.assert_allclose(values, values[0], rtol=1e-9)


@pytest.mark.parametrize("n_quadrature, correlated", [(1, True), (1, False), (3, False)])
def test_standardising_changes_coordinates_only(n_quadrature, correlated):
    """With correlated coefficients quadrature's nodes turn with the coordinates; the Laplace approximation does not."""
    case = CASES["three, AGHQ 3"]
    X, y, codes, _, beta = case.data()
    X = 3.0 + 20.0 * X
    keywords = dict(columns=case.columns, blocks=[(3, correlated)], n_quadrature=n_quadrature)
    raw = clustered(X, y, codes, len(case.sizes), **keywords, standardise=False)
    scaled = clustered(X, y, codes, len(case.sizes), **keywords)
    natural, theta = 0.05 * np.append(beta[-1], beta[:-1]), np.array([0.3, 0.05, -0.02, 0.06, 0.01, 0.04])
    theta = theta if correlated else theta[[0, 3, 5]]
    x0, x = raw.units.internal(natural, theta), scaled.units.internal(natural, theta)
    value, gradient, hessian = raw.evaluate(x0)
    found = scaled.evaluate(x)
    np.testing.assert_allclose(np.concatenate(scaled.units.natural(x)), np.concatenate([natural, theta]), rtol=1e-9)
    # chain rule: natural = J internal, on both sides
    J = np.linalg.solve(raw.units.jacobian(x0), scaled.units.jacobian(x))
    np.testing.assert_allclose(found[0], value, rtol=1e-12)
    np.testing.assert_allclose(found[1], J.T @ gradient, rtol=1e-8, atol=1e-7)
    linear = slice(None) if not correlated else slice(raw.n_fixed)  # theta's map is not linear then
    np.testing.assert_allclose(found[2][linear], (J.T @ hessian @ J)[linear], rtol=1e-8, atol=1e-7)
    for a, b in zip(scaled.random_effects(x), raw.random_effects(x0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


# ---- equivalent models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [0.01, 0.8, 4.0])
@pytest.mark.parametrize("k", [1, 2, 5, 15])
@pytest.mark.parametrize("weights", [False, True])
def test_intercept_kernel_is_the_general_kernel_on_ones(theta, k, weights):
    case = Case(**INTERCEPT, theta=[theta], k=k, weights=weights, sizes=[1, 2, 30, 1200, 9, 5, 17])
    X, y, codes, w, beta = case.data()
    X[:, 2] = 1.0
    engines = [
        clustered(
            X, y, codes, len(case.sizes), columns, [(1, True)], sample_weight=w, n_quadrature=k, fit_intercept=False,
            standardise=False,
        )
        for columns in ([-1], [2])
    ]  # fmt: skip
    x = np.append(beta[:3], theta)
    special, general = (settled(engine, x) for engine in engines)
    for a, b in zip(special, general, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())
    np.testing.assert_allclose(engines[0].modes, engines[1].modes, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(engines[0].curvature, engines[1].curvature, rtol=1e-9)


class _AtTheMode(ClusteredLikelihood):
    """Quadrature whose three nodes all lie at the mode."""

    def _nodes(self, n_quadrature):
        zeta, log_w = super()._nodes(3)
        return np.zeros_like(zeta), np.where(np.isfinite(log_w), -np.log(np.isfinite(log_w).sum()), -np.inf)


@pytest.mark.parametrize("name", ["intercept", "intercept, weights", "intercept, long", "slope", "correlated", "three"])
def test_quadrature_with_all_nodes_at_the_mode_is_laplace(name):
    """The two approximations run different code, with the same derivatives here."""
    case = CASES[name]
    X, y, codes, w, _ = case.data()
    engine, x = case.engine()
    factor = Coded(codes, len(case.sizes), case.columns, case.blocks)
    quadrature = engine_of(X, y, [factor], sample_weight=w, standardise=False, engine=_AtTheMode)
    for found, expected in zip(settled(quadrature, x), settled(engine, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


def test_weight_is_a_count_of_rows():
    case = CASES["correlated, AGHQ 3"]
    X, y, codes, _, beta = case.data()
    count = np.random.default_rng(3).integers(0, 4, y.size)
    count[np.unique(codes, return_index=True)[1]] = 2  # no level loses all its rows
    keywords = dict(columns=case.columns, blocks=case.blocks, n_quadrature=3, standardise=False)
    rows = np.repeat(np.arange(y.size), count)
    weighted = clustered(X, y, codes, len(case.sizes), sample_weight=count.astype(float), **keywords)
    repeated = clustered(X[rows], y[rows], codes[rows], len(case.sizes), **keywords)
    x = np.concatenate([beta, case.theta])
    for a, b in zip(settled(weighted, x), settled(repeated, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())


def test_no_groups_is_logistic_regression():
    case = CASES["intercept, many blocks"]
    X, y, _, _, beta = case.data()
    engine = clustered(X, y, None, 1, [-1], [(1, True)], standardise=False)
    value, gradient, hessian = engine.evaluate(np.append(beta, 0.0))
    X1 = np.column_stack([X, np.ones(len(y))])
    mu = np.exp(log_expit(X1 @ beta))
    assert value == pytest.approx(log_expit((2.0 * y - 1) * (X1 @ beta)).sum(), rel=1e-13)
    np.testing.assert_allclose(gradient[:-1], X1.T @ (y - mu), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(hessian[:-1, :-1], -(X1.T * (mu * (1 - mu))) @ X1, rtol=1e-11)


# ---- brute force -----------------------------------------------------------------------------------------------

# (y, weights) of small clusters
SMALL = {
    "one 1": ([1], None),
    "one 0": ([0], None),
    "all 0": ([0, 0, 0, 0], None),
    "all 1": ([1, 1, 1, 1, 1, 1], None),
    "half": ([0, 1, 0, 1], None),
    "weights": ([0, 1, 0, 1, 1], [2.0, 0.5, 0.0, 3.0, 1.5]),
}


def _trapezoid(y, w, eta, A, reach=14.0, h=0.05):
    """log of the integral over u ~ N(0, I) by the trapezoidal rule; its error is about exp(-2 pi^2 / (h |A|))."""
    u = np.arange(-reach, reach + h / 2, h)
    q = A.shape[1]
    grid = np.stack([a.ravel() for a in np.meshgrid(*[u] * q, indexing="ij")])
    terms = -0.5 * (grid**2).sum(axis=0) - 0.5 * q * np.log(2 * np.pi) + q * np.log(h)
    for j in range(len(y)):
        terms += w[j] * log_expit((2 * y[j] - 1) * (eta[j] + A[j] @ grid))
    return terms.max() + np.log(np.exp(terms - terms.max()).sum())


def _engine_on(X, y, w, columns, k):
    codes, w = np.zeros(len(y), dtype=np.intp), None if w is None else np.array(w)
    return clustered(
        X, np.array(y, dtype=np.uint8), codes, 1, columns, [(len(columns), True)], sample_weight=w, n_quadrature=k,
        fit_intercept=False, standardise=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("sd", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("eta", [0.0, -1.5])
def test_intercept_quadrature_against_brute_force(name, sd, eta):
    y, w = SMALL[name]
    X = eta + np.linspace(-0.5, 0.5, len(y))[:, None]
    mpmath.mp.dps = 30

    def density(u):
        terms = (
            (1 + mpmath.exp((1 - 2 * yj) * (mpmath.mpf(ej) + sd * u))) ** -wj
            for yj, ej, wj in zip(y, X[:, 0], w or [1] * len(y), strict=True)
        )
        return mpmath.fprod(terms) * mpmath.npdf(u)

    expected = float(mpmath.log(mpmath.quad(density, range(-14, 15, 2))))
    weights = np.ones(len(y)) if w is None else np.array(w)
    assert _trapezoid(y, weights, X[:, 0], np.full((len(y), 1), sd)) == pytest.approx(expected, abs=1e-13)
    for columns in ([-1], [1]):  # the kernel of its own, and the general one on a column of ones
        engine = _engine_on(np.column_stack([X, np.ones(len(y))]), y, w, columns, 200)
        assert engine.evaluate(np.array([1.0, 0.0, sd]))[0] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("theta", [(0.5, 0.2, 0.7), (2.0, -1.0, 1.0), (5.0, -2.0, 3.0)])
def test_slope_quadrature_against_brute_force(name, theta):
    y, w = SMALL[name]
    x = np.linspace(-0.6, 1.0, len(y))
    X = np.column_stack([np.ones(len(y)), x])
    Lambda = np.array([[theta[0], 0.0], [theta[1], theta[2]]])
    weights = np.ones(len(y)) if w is None else np.array(w)
    expected = _trapezoid(y, weights, -1.0 + 0.5 * x, X @ Lambda)
    engine = _engine_on(X, y, w, [-1, 1], 141)
    assert engine.evaluate(np.array([-1.0, 0.5, *theta]))[0] == pytest.approx(expected, abs=1e-10)


def test_three_dimensions_against_brute_force():
    y, rng = [0, 1, 1, 0, 1], np.random.default_rng(0)
    X = np.column_stack([np.ones(5), rng.normal(size=(5, 2))])
    theta = [1.0, 0.3, -0.4, 0.8, 0.2, 0.6]
    Lambda = np.array([[1.0, 0, 0], [0.3, 0.8, 0], [-0.4, 0.2, 0.6]])
    expected = _trapezoid(y, np.ones(5), X @ [0.2, -0.5, 0.3], X @ Lambda, reach=9.0, h=0.25)
    engine = _engine_on(X, y, None, [-1, 1, 2], 20)
    assert engine.evaluate(np.array([0.2, -0.5, 0.3, *theta]))[0] == pytest.approx(expected, abs=1e-10)


# ---- extreme linear predictors ---------------------------------------------------------------------------------


def _laplace_mp(y, eta, sd):
    """Laplace log-likelihood of one cluster with a random intercept, in 60 digits."""
    mpmath.mp.dps = 60
    eta = [mpmath.mpf(float(e)) for e in eta]

    def expit(x):
        return 1 / (1 + mpmath.exp(-x))

    def slope(u):
        return sd * sum(yj - expit(e + sd * u) for yj, e in zip(y, eta, strict=True)) - u

    # decreasing in u, and no further from 0 than sd times the number of rows
    reach = sd * len(y) + 1
    u = mpmath.findroot(slope, (-reach, reach), solver="anderson", tol=1e-80, maxsteps=500)
    variance = sum(expit(e + sd * u) * expit(-e - sd * u) for e in eta)
    value = -sum(mpmath.log(1 + mpmath.exp((1 - 2 * yj) * (e + sd * u))) for yj, e in zip(y, eta, strict=True))
    return float(value - u**2 / 2 - mpmath.log(1 + sd**2 * variance) / 2)


@pytest.mark.parametrize("y, sign", [([1, 1, 1], 1), ([0, 0], -1), ([1], 1), ([0, 0, 1, 1], 1), ([0], 1)])
@pytest.mark.parametrize("size", [50.0, 340.0, 500.0, 1000.0])
@pytest.mark.parametrize("sd", [0.5, 3.0])
def test_extreme_linear_predictors(y, sign, size, sd):
    eta = sign * size * (1 + 0.01 * np.arange(len(y)))
    X = np.column_stack([eta, np.ones(len(y))])
    expected = _laplace_mp(y, eta, sd)
    for columns in ([-1], [1]):
        for k in (1, 7):
            engine = _engine_on(X, y, None, columns, k)
            value, gradient, hessian = engine.evaluate(np.array([1.0, 0.0, sd]))
            assert np.isfinite(value) and np.all(np.isfinite(gradient)) and np.all(np.isfinite(hessian))
            # beyond exp(-350) the intercept's kernel keeps a probability at exp(-350), to save an exponential
            if k == 1 and (columns == [1] or expected > -340):
                assert value == pytest.approx(expected, rel=1e-12, abs=1e-15)
