"""The Laplace likelihood of several factors: against dense algebra, central differences and the one-factor engine."""

import contextlib
import tracemalloc

import links
import numpy as np
import pytest
from designs import Coded, clustered, engine_of, fitted, posteriors
from scipy import linalg, optimize
from scipy.special import expit

from sklmm.families import bernoulli
from sklmm.likelihood import factorization
from sklmm.likelihood.crossed import CrossedLikelihood

INTERCEPT = ([-1], [(1, True)])
CORRELATED = ([-1, 0], [(2, True)])
TWO_TERMS = ([-1, 1, 2], [(1, True), (2, True)])
UNCORRELATED = ([-1, 2], [(2, False)])
SLOPE = ([1], [(1, True)])


def _codes(kind, n, rng):
    if kind == "crossed":
        return [rng.integers(0, 5, n), rng.integers(0, 12, n)]
    if kind == "three crossed":
        return [rng.integers(0, 5, n), rng.integers(0, 14, n), rng.integers(0, 3, n)]
    if kind == "nested":  # the outer factor first, inner levels in no order
        inner = rng.integers(0, 15, n)
        return [rng.integers(0, 4, 15)[inner], inner]
    if kind == "nested twice":
        inner = rng.integers(0, 20, n)
        middle = rng.integers(0, 7, 20)[inner]
        return [rng.integers(0, 3, 7)[middle], inner, middle]
    inner = rng.integers(0, 20, n)  # nested and crossed
    return [rng.integers(0, 6, 20)[inner], inner, rng.integers(0, 4, n)]


DESIGNS = {
    "crossed": ("crossed", [INTERCEPT, INTERCEPT]),
    "crossed, slopes": ("crossed", [CORRELATED, TWO_TERMS]),
    "crossed, slopes only": ("crossed", [SLOPE, UNCORRELATED]),
    "three crossed": ("three crossed", [INTERCEPT, CORRELATED, INTERCEPT]),
    "nested": ("nested", [INTERCEPT, INTERCEPT]),
    "nested, slopes": ("nested", [UNCORRELATED, TWO_TERMS]),
    "nested twice": ("nested twice", [INTERCEPT, INTERCEPT, CORRELATED]),
    "nested and crossed": ("nested and crossed", [INTERCEPT, CORRELATED, INTERCEPT]),
    "probit, three crossed": ("three crossed", [INTERCEPT, CORRELATED, INTERCEPT], "probit"),
    "probit, nested": ("nested", [INTERCEPT, INTERCEPT], "probit"),
    "cloglog, crossed": ("crossed", [INTERCEPT, INTERCEPT], "cloglog"),
    "cloglog, nested twice": ("nested twice", [INTERCEPT, INTERCEPT, CORRELATED], "cloglog"),
}


class Case:
    """Rows, factors and parameters in natural units, some levels without rows."""

    def __init__(self, kind, blocks, link="logit", n=160, weighted=True, seed=0):
        self.link = link
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(n, 3)) * [1.0, 3.0, 0.5] + [0.0, 2.0, 1.0]
        codes = _codes(kind, n, rng)
        self.factors = [
            Coded(code.astype(np.intp), int(code.max()) + 1, *block, name=f"f{i}")
            for i, (code, block) in enumerate(zip(codes, blocks, strict=True))
        ]
        effects = sum(rng.normal(size=f.n_levels)[f.codes] for f in self.factors)
        self.y = (rng.random(n) < expit(0.5 * self.X[:, 0] + effects)).astype(np.uint8)
        self.w = rng.integers(1, 4, n).astype(float) if weighted else None
        self.engine = engine_of(
            self.X, self.y, self.factors, sample_weight=self.w, standardise=False, n_threads=2,
            engine=CrossedLikelihood, family=bernoulli(link),
        )  # fmt: skip
        start = self.engine.covariance.start()
        theta = 0.7 * start + 0.2 * rng.normal(size=start.size)
        self.x = np.concatenate([0.3 * rng.normal(size=4), theta])

    @property
    def names(self):
        return [f.name for f in self.factors]


@pytest.fixture(params=DESIGNS)
def case(request):
    return Case(*DESIGNS[request.param])


def dense_design(case, x):
    """T = Z Lambda with a column for every level of every coefficient, factor by factor, level by level."""
    Lambda = case.engine.covariance.lambda_(x[4:])
    columns, first = [], 0
    for f in case.factors:
        q = len(f.columns)
        Z = np.column_stack([np.ones(len(case.y)) if c < 0 else case.X[:, c] for c in f.columns])
        t = Z @ Lambda[first : first + q, first : first + q]
        columns += [t * (f.codes == level)[:, None] for level in range(f.n_levels)]
        first += q
    return np.concatenate(columns, axis=1)


def dense_laplace(case, x):
    """Value, spherical modes and their covariance, by Newton's method with dense matrices."""
    T, w = dense_design(case, x), np.ones(len(case.y)) if case.w is None else case.w
    fixed = np.column_stack([case.X, np.ones(len(case.y))]) @ x[:4]

    def h(u):
        eta = fixed + T @ u
        return w @ links.log_density(case.link, eta, case.y) - 0.5 * u @ u

    u = np.zeros(T.shape[1])
    for _ in range(100):
        eta = fixed + T @ u
        H = (T * (w * links.weight(case.link, eta, case.y))[:, None]).T @ T + np.eye(u.size)
        step = np.linalg.solve(H, T.T @ (w * links.score(case.link, eta, case.y)) - u)
        while h(u + step) < h(u) - 1e-12:
            step *= 0.5
        u = u + step
        if np.abs(step).max() < 1e-14:
            break
    H = (T * (w * links.weight(case.link, fixed + T @ u, case.y))[:, None]).T @ T + np.eye(u.size)
    return h(u) - 0.5 * np.linalg.slogdet(H)[1], u, np.linalg.inv(H)


def central_differences(function, x, h=1e-3):
    """Derivatives with an error of h^6."""
    out = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = h
        d = [function(x + k * step) - function(x - k * step) for k in (1, 2, 3)]
        out.append((45 * d[0] - 9 * d[1] + d[2]) / (60 * h))
    return np.array(out)


def test_value_of_dense_algebra(case):
    value = case.engine.evaluate(case.x)[0]
    assert value == pytest.approx(dense_laplace(case, case.x)[0], abs=1e-9)


def test_value_does_not_depend_on_what_was_evaluated_before(case):
    first, gradient, _ = case.engine.evaluate(case.x)
    case.engine.information(case.x)
    case.engine.evaluate(case.x + 0.7)
    again, gradient_again, _ = case.engine.evaluate(case.x)
    assert again == pytest.approx(first, abs=1e-9)
    np.testing.assert_allclose(gradient_again, gradient, atol=1e-8)


def test_a_point_far_away_leaves_no_trace(case):
    """With theta of 1e17 the factor is singular in double precision, or calls every step at other points short."""
    with np.errstate(all="ignore"), contextlib.suppress(FloatingPointError):
        case.engine.evaluate(np.append(case.x[:4], 1e17 * case.x[4:]))
    assert case.engine.evaluate(case.x)[0] == pytest.approx(dense_laplace(case, case.x)[0], abs=1e-9)


def test_gradient_of_central_differences(case):
    _, gradient, _ = case.engine.evaluate(case.x)
    numeric = central_differences(lambda x: case.engine.evaluate(x)[0], case.x)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["crossed", "nested", "nested and crossed"])
def test_gradient_where_a_variance_is_zero(name):
    case = Case(*DESIGNS[name])
    case.x[4] = 0.0
    value, gradient, _ = case.engine.evaluate(case.x)
    assert value == pytest.approx(dense_laplace(case, case.x)[0], abs=1e-9)
    numeric = central_differences(lambda x: case.engine.evaluate(x)[0], case.x)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-6)
    if len(case.factors[0].columns) == 1:
        assert gradient[4] == pytest.approx(0.0, abs=1e-10)  # the likelihood is even there


def test_hessian_of_central_differences(case):
    case.engine.evaluate(case.x)
    information = case.engine.information(case.x)
    hessian = case.engine.hessian(case.x, information, np.ones(case.x.size, dtype=bool))
    numeric = central_differences(lambda x: case.engine.evaluate(x)[1], case.x)
    scale = np.sqrt(np.outer(np.diag(information), np.diag(information)))
    np.testing.assert_allclose(hessian / scale, numeric / scale, atol=2e-6)


def level_slices(case):
    """Where the effects of each level of each factor stand in dense vectors."""
    slices, at = [], 0
    for f in case.factors:
        q = len(f.columns)
        slices.append([slice(at + level * q, at + (level + 1) * q) for level in range(f.n_levels)])
        at += q * f.n_levels
    return slices


def test_modes_and_their_curvature_of_dense_algebra(case):
    _, u, Sigma = dense_laplace(case, case.x)
    case.engine.evaluate(case.x)
    modes, mode_cov = case.engine.random_effects(case.x)
    scales = [units.natural for units in case.engine.units.effect_units(case.x, [len(f.columns) for f in case.factors])]
    for f, (scale, slices) in enumerate(zip(scales, level_slices(case), strict=True)):
        np.testing.assert_allclose(modes[f], [scale @ u[here] for here in slices], atol=1e-9)
        np.testing.assert_allclose(mode_cov[f], [scale @ Sigma[here, here] @ scale.T for here in slices], atol=1e-9)


def dense_smoothed(case, x, u, Sigma, mean=0.0, precision=None):
    """Mean and covariance after one step of the Gaussian variational approximation from a normal distribution."""
    T, w = dense_design(case, x), np.ones(len(case.y)) if case.w is None else case.w
    z = np.linspace(-8, 8, 801)
    density = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    eta = np.column_stack([case.X, np.ones(len(case.y))]) @ x[:4] + T @ u
    eta, y = eta[:, None] + np.sqrt(np.sum(T @ Sigma * T, axis=1))[:, None] * z, case.y[:, None]
    r, v = links.score(case.link, eta, y) @ density, links.weight(case.link, eta, y) @ density
    precision = np.eye(u.size) if precision is None else precision
    H = (T * (w * v)[:, None]).T @ T + precision
    return u + np.linalg.solve(H, T.T @ (w * r) - precision @ (u - mean)), np.linalg.inv(H)


def check_posteriors(case, posteriors, joint, mean, cov):
    """Means, and every covariance of any two levels, whether they met in the data or not."""
    slices = level_slices(case)
    for f, posterior in enumerate(posteriors):
        np.testing.assert_allclose(posterior.mean, [mean[here] for here in slices[f]], atol=1e-8)
        np.testing.assert_allclose(posterior.cov, [cov[here, here] for here in slices[f]], atol=1e-8)
        for g in range(len(posteriors)):
            if f == g:
                continue
            left, right = (a.ravel() for a in np.meshgrid(range(len(slices[f])), range(len(slices[g])), indexing="ij"))
            got = joint.covariance(f, left, g, right)
            expected = [cov[slices[f][i], slices[g][j]] for i, j in zip(left, right, strict=True)]
            np.testing.assert_allclose(got, expected, atol=1e-8)
            assert np.abs(got).max() > 1e-4


def test_joint_posterior_of_dense_algebra(case):
    _, u, Sigma = dense_laplace(case, case.x)
    case.engine.evaluate(case.x)
    check_posteriors(case, *case.engine.posteriors(case.x), *dense_smoothed(case, case.x, u, Sigma))


def test_posterior_with_another_prior(case):
    """What is known of levels, level by level, in the place of N(0, I)."""
    rng = np.random.default_rng(5)
    sizes = [(f.n_levels, len(f.columns)) for f in case.factors]
    means = [rng.normal(size=size) for size in sizes]
    roots = [np.eye(q) + 0.3 * rng.normal(size=(n, q, q)) for n, q in sizes]
    precisions = [root @ np.swapaxes(root, 1, 2) for root in roots]
    case.engine.set_prior(means, precisions)
    case.engine.evaluate(case.x)
    mean = np.concatenate([m.ravel() for m in means])
    precision = linalg.block_diag(*(block for blocks in precisions for block in blocks))
    T, w = dense_design(case, case.x), np.ones(len(case.y)) if case.w is None else case.w
    fixed = np.column_stack([case.X, np.ones(len(case.y))]) @ case.x[:4]

    def height(u):
        eta, d = fixed + T @ u, u - mean
        return -w @ links.log_density(case.link, eta, case.y) + 0.5 * d @ precision @ d

    def slope(u):
        return -T.T @ (w * links.score(case.link, fixed + T @ u, case.y)) + precision @ (u - mean)

    def curvature(u):
        return (T * (w * links.weight(case.link, fixed + T @ u, case.y))[:, None]).T @ T + precision

    u = optimize.minimize(height, mean, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-11}).x
    u, H = u - np.linalg.solve(curvature(u), slope(u)), curvature(u)
    check_posteriors(
        case, *case.engine.posteriors(case.x), *dense_smoothed(case, case.x, u, np.linalg.inv(H), mean, precision)
    )


@pytest.mark.parametrize("blocks", [INTERCEPT, CORRELATED, TWO_TERMS], ids=["intercept", "slope", "two terms"])
def test_one_factor_equals_the_clustered_engine(blocks):
    case = Case("crossed", [INTERCEPT, blocks])
    factor = case.factors[1]
    one = clustered(case.X, case.y, factor.codes, factor.n_levels, *blocks, sample_weight=case.w)
    several = engine_of(case.X, case.y, [factor], sample_weight=case.w, engine=CrossedLikelihood)
    x = np.concatenate([case.x[:4], 0.8 * one.covariance.start()])
    value, gradient, hessian = one.evaluate(x)
    assert several.evaluate(x)[0] == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(several.evaluate(x)[1], gradient, atol=1e-8)
    (modes,), (mode_cov,) = one.random_effects(x)
    several_modes, several_cov = several.random_effects(x)
    np.testing.assert_allclose(several_modes[0], modes, atol=1e-8)
    np.testing.assert_allclose(several_cov[0], mode_cov, atol=1e-8)
    information = several.information(x)
    scale = np.sqrt(np.outer(np.diag(information), np.diag(information)))
    differences = several.hessian(x, information, np.ones(x.size, bool))
    np.testing.assert_allclose(differences / scale, hessian / scale, atol=2e-6)


def test_a_second_factor_of_variance_zero_adds_nothing():
    case = Case(*DESIGNS["crossed"])
    factor = case.factors[1]
    one = clustered(case.X, case.y, factor.codes, factor.n_levels, *INTERCEPT, sample_weight=case.w,
                              standardise=False)  # fmt: skip
    case.x[4] = 0.0
    value, gradient, _ = one.evaluate(np.delete(case.x, 4))
    assert case.engine.evaluate(case.x)[0] == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(np.delete(case.engine.evaluate(case.x)[1], 4), gradient, atol=1e-8)


def test_nested_design_through_the_dense_factorisation(monkeypatch):
    """What the tree says is what the Schur complement says."""
    case = Case(*DESIGNS["nested twice"])
    value, gradient, _ = case.engine.evaluate(case.x)
    monkeypatch.setattr("sklmm.likelihood.layout.parents_of", lambda *args: None)
    dense = engine_of(case.X, case.y, case.factors, sample_weight=case.w, standardise=False, engine=CrossedLikelihood)
    assert not dense.nested and case.engine.nested
    assert dense.evaluate(case.x)[0] == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(dense.evaluate(case.x)[1], gradient, atol=1e-8)


@pytest.mark.parametrize("name", ["crossed, slopes", "three crossed", "nested twice"])
def test_thread_count_changes_no_bit(name, monkeypatch):
    monkeypatch.setattr("sklmm.likelihood.crossed.ROWS_PER_THREAD", 100)
    results = []
    for n_threads in (1, 2, 3, 5):
        case = Case(*DESIGNS[name], n=1500)
        engine = engine_of(
            case.X, case.y, case.factors, sample_weight=case.w, n_threads=n_threads, engine=CrossedLikelihood
        )
        value, gradient, _ = engine.evaluate(case.x)
        results.append((value, gradient, engine.information(case.x), *engine.random_effects(case.x)[1]))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


# ---- fits --------------------------------------------------------------------------------------------------------


def _fit(case, factors=None, **keywords):
    keywords.setdefault("family", bernoulli(case.link))
    return fitted(case.X, case.y, factors=factors or case.factors, sample_weight=case.w, **keywords)


def _large(kind, blocks, link="logit", seed=1):
    return Case(kind, blocks, link, n=3000, weighted=False, seed=seed)


@pytest.mark.parametrize(
    "name", ["crossed", "three crossed", "nested", "nested and crossed", "probit, nested", "cloglog, crossed"]
)
def test_fit_is_a_maximum(name):
    case = _large(*DESIGNS[name])
    fit = _fit(case)
    assert fit.report.converged, fit.report.verdict
    engine = engine_of(case.X, case.y, case.factors, engine=CrossedLikelihood, family=bernoulli(case.link))
    x = engine.units.internal(fit.beta, np.concatenate(fit.theta))
    value, gradient, _ = engine.evaluate(x)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-8)
    information = engine.information(x)
    free = x[4:] > 0 if engine.covariance.diagonal.all() else np.ones(x.size - 4, bool)
    active = np.append(np.ones(4, bool), free)
    hessian = engine.hessian(x, information, active)[np.ix_(active, active)]
    assert np.linalg.eigvalsh(hessian).max() < 0
    assert 0 <= 0.5 * gradient[active] @ np.linalg.solve(-hessian, gradient[active]) < 1e-9


def test_order_of_factors_rows_and_labels():
    case = _large(*DESIGNS["three crossed"])
    fit = _fit(case)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(case.y))
    names = [rng.permutation(f.n_levels) for f in case.factors]
    order = [2, 0, 1]
    factors = [
        Coded(names[i][case.factors[i].codes[rows]], case.factors[i].n_levels, case.factors[i].columns,
                     case.factors[i].blocks)
        for i in order
    ]  # fmt: skip
    other = fitted(case.X[rows], case.y[rows], factors=factors)
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(other.beta, fit.beta, atol=1e-7)
    for k, i in enumerate(order):
        np.testing.assert_allclose(other.theta[k], fit.theta[i], atol=1e-6)
        np.testing.assert_allclose(other.modes[k][names[i]], fit.modes[i], atol=1e-6)
        np.testing.assert_allclose(other.mode_cov[k][names[i]], fit.mode_cov[i], atol=1e-6)


def test_weights_are_counts():
    case = Case(*DESIGNS["nested and crossed"], n=800)
    fit = _fit(case)
    rows = np.repeat(np.arange(len(case.y)), case.w.astype(int))
    factors = [Coded(f.codes[rows], f.n_levels, f.columns, f.blocks) for f in case.factors]
    repeated = fitted(case.X[rows], case.y[rows], factors=factors)
    assert fit.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(fit.beta, repeated.beta, atol=1e-7)
    np.testing.assert_allclose(np.concatenate(fit.theta), np.concatenate(repeated.theta), atol=1e-6)


def test_affine_changes_of_x_and_swapped_classes():
    case = _large("crossed", [CORRELATED, INTERCEPT])
    fit = _fit(case)
    scale, shift = np.array([10.0, 0.1, -3.0]), np.array([5.0, 0.0, -1.0])
    moved = fitted(case.X * scale + shift, case.y, factors=case.factors)
    assert moved.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(moved.beta[1:] * scale, fit.beta[1:], atol=1e-6)
    slope = moved.lambda_[0] @ moved.lambda_[0].T
    original = fit.lambda_[0] @ fit.lambda_[0].T
    assert slope[1, 1] * scale[0] ** 2 == pytest.approx(original[1, 1], rel=1e-5)
    swapped = fitted(case.X, 1 - case.y, factors=case.factors)
    assert swapped.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(swapped.beta, -fit.beta, atol=1e-6)
    np.testing.assert_allclose(swapped.vcov[:4, :4], fit.vcov[:4, :4], rtol=1e-4, atol=1e-7)


def test_threads_change_no_bit_of_a_fit(monkeypatch):
    monkeypatch.setattr("sklmm.likelihood.crossed.ROWS_PER_THREAD", 100)
    case = _large("crossed", [CORRELATED, INTERCEPT])
    one, three = (_fit(case, n_threads=n) for n in (1, 3))
    assert one.log_likelihood == three.log_likelihood
    assert np.array_equal(one.vcov, three.vcov, equal_nan=True) and np.array_equal(one.modes[0], three.modes[0])


def test_variance_on_the_boundary():
    """Groups at random have no variance: the fit says so, and is that of the other factor alone."""
    rng = np.random.default_rng(3)
    case = _large(*DESIGNS["crossed"])
    noise = Coded(rng.integers(0, 8, len(case.y)), 8, *INTERCEPT, name="noise")
    singular = None
    for seed in range(20):
        codes = np.random.default_rng(seed).permutation(noise.codes)
        fit = fitted(case.X, case.y, factors=[case.factors[1], Coded(codes, 8, *INTERCEPT)])
        assert fit.report.converged
        if fit.is_singular:
            singular = fit
            break
    assert singular is not None, "no permutation gave a variance of zero"
    alone = fitted(case.X, case.y, factors=[case.factors[1]])
    assert singular.theta[1] == [0.0]
    assert singular.log_likelihood == pytest.approx(alone.log_likelihood, abs=1e-7)
    np.testing.assert_allclose(singular.beta, alone.beta, atol=1e-5)
    np.testing.assert_allclose(singular.modes[1], 0.0, atol=1e-12)


def test_posteriors_from_given_parameters_are_those_of_the_fit():
    case = _large(*DESIGNS["nested and crossed"])
    fit = _fit(case)
    modes, mode_cov, known, joint = posteriors(case.X, case.y, factors=case.factors, units=fit.units)
    for f in range(3):
        np.testing.assert_allclose(modes[f], fit.modes[f], atol=1e-7)
        np.testing.assert_allclose(mode_cov[f], fit.mode_cov[f], atol=1e-7)
        np.testing.assert_allclose(known[f].mean, fit.posteriors[f].mean, atol=1e-7)
        np.testing.assert_allclose(known[f].cov, fit.posteriors[f].cov, atol=1e-7)
    np.testing.assert_allclose(
        joint.covariance(0, np.array([0]), 2, np.array([1])),
        fit.posterior.covariance(0, np.array([0]), 2, np.array([1])), atol=1e-8,
    )  # fmt: skip


def test_quadrature_is_refused():
    case = Case(*DESIGNS["crossed"])
    with pytest.raises(ValueError, match="n_quadrature=5 needs a single grouping factor.*'f0', 'f1'.*Laplace"):
        _fit(case, n_quadrature=5)


def test_too_large_a_schur_complement_is_refused_before_it_is_allocated(monkeypatch):
    n = 40_000
    rng = np.random.default_rng(0)
    factors = [Coded(rng.integers(0, k, n), k, *INTERCEPT, name=name)
               for name, k in (("item", 15_000), ("person", 20_000))]  # fmt: skip
    monkeypatch.setattr(factorization, "physical_memory", lambda: 8 << 30)
    monkeypatch.setattr(factorization, "BorderedCholesky", None)  # it is not reached
    needed = f"{24 * 15_000**2:,} bytes"  # the matrix, its factor and its inverse
    with pytest.raises(MemoryError, match=f"{needed}.*'person' with 20,000 levels and 'item' with 15,000"):
        engine_of(rng.normal(size=(n, 1)), rng.integers(0, 2, n).astype(np.uint8), factors, engine=CrossedLikelihood)


@pytest.mark.parametrize("nested", [False, True])
def test_peak_memory_is_rows_plus_the_dense_border(nested):
    """Far below rows x levels: 3 copies of the border's matrix, and a few numbers a row."""
    n, n_leaves, n_border = 60_000, 8_000, 400
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    leaf = np.sort(rng.integers(0, n_leaves, n))
    outer = leaf // 20 if nested else rng.integers(0, n_border, n)
    y = (rng.random(n) < expit(X[:, 0] + rng.normal(size=n_leaves)[leaf])).astype(np.uint8)
    factors = [Coded(leaf, n_leaves, *INTERCEPT), Coded(outer, n_border, *INTERCEPT)]
    fitted(X[:200], y[:200], factors=[Coded(f.codes[:200], f.n_levels, *INTERCEPT) for f in factors])
    tracemalloc.start()
    fit = fitted(X, y, factors=factors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fit.report.converged
    dense = 0 if nested else 8 * factorization.DENSE_COPIES * n_border**2
    assert peak < dense + 8 * n * 40 < 8 * n * n_border / 5


def test_nested_factors_need_no_dense_matrix(monkeypatch):
    n = 60_000
    inner = np.arange(n) // 3
    factors = [Coded(inner // 2, 10_000, *INTERCEPT), Coded(inner, 20_000, *INTERCEPT)]
    monkeypatch.setattr(factorization, "physical_memory", lambda: 1 << 20)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n).astype(np.uint8)
    engine = engine_of(rng.normal(size=(n, 1)), y, factors, engine=CrossedLikelihood)
    assert np.isfinite(engine.evaluate(np.array([0.1, 0.2, 0.5, 0.5]))[0])
