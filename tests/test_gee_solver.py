"""The solver of the marginal model: it arrives, wherever there is something to arrive at, and never says so otherwise.

Judges are dense: Newton's method with a line search for independence, `dense_gee` for the estimating equations.
"""

import warnings

import numpy as np
import pytest
from dense_gee import Cluster, DenseGEE, fit_dense_gee
from scipy.special import expit, log_expit

from sklmm import GEELogisticRegression
from sklmm.estimating import Fixed, MDependent
from sklmm.estimating.clusters import Clusters
from sklmm.estimating.correlation import Independence, resolve_correlation
from sklmm.estimating.equations import VALUE, Equations
from sklmm.exceptions import ConvergenceWarning, SeparationWarning, SklmmWarning, WorkingCorrelationWarning
from sklmm.families import LOGIT


def log_likelihood(X, y, w, beta):
    """Of independent rows; the intercept is the first coefficient."""
    eta = beta[0] + X @ beta[1:]
    return w @ np.where(y > 0, log_expit(eta), log_expit(-eta))


def dense_logistic(X, y, w=None):
    """Coefficients of plain logistic regression, the intercept first, by Newton's method with halved steps."""
    w = np.ones(len(y)) if w is None else w
    center, spread = X.mean(axis=0), X.std(axis=0)
    Z, A = (X - center) / spread, np.column_stack([np.ones(len(y)), (X - center) / spread])
    beta = np.zeros(A.shape[1])
    for _ in range(200):
        mu = expit(A @ beta)
        score = A.T @ (w * (y - mu))
        step = np.linalg.solve((A.T * (w * mu * (1 - mu))) @ A, score)
        length = np.sqrt(step @ score)  # in standard errors
        value = log_likelihood(Z, y, w, beta)
        while log_likelihood(Z, y, w, beta + step) < value - 1e-12 * abs(value):
            step = step / 2
        beta = beta + step
        if length < 1e-10:
            slopes = beta[1:] / spread
            return np.append(beta[0] - slopes @ center, slopes)
    raise AssertionError("the dense fit does not settle")


def coefficients(model):
    return np.append(model.intercept_, model.coef_[0])


def silent_fit(model, *data, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(*data, **parameters)


# Rare categories --------------------------------------------------------------------------------------------


def zipf_table(n, n_categories, seed):
    """Indicators of categories whose shares fall as 1, 1/2, 1/3, ...; each has rows of both outcomes."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_categories + 1)
    category, groups = rng.choice(n_categories, n, p=share / share.sum()), rng.integers(0, n // 10, n)
    x, effects, shifts = rng.normal(size=n), rng.normal(size=n_categories), rng.normal(size=n // 10)
    y = (rng.random(n) < expit(0.5 * x + effects[category] + 0.7 * shifts[groups] - 0.5)).astype(int)
    for one in range(n_categories):
        rows = np.flatnonzero(category == one)
        y[rows[:2]] = 0, 1
    X = np.column_stack([x, *(category == one for one in range(1, n_categories))]).astype(float)
    return X, y, groups, category


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("n, n_categories, seed", [(4_000, 60, 0), (10_000, 80, 1), (10_000, 80, 2), (40_000, 25, 3)])
def test_rare_categories_under_independence(n, n_categories, seed, listed):
    X, y, groups, category = zipf_table(n, n_categories, seed)
    if listed:
        order = np.lexsort((y, category))
        X, y, groups = X[order], y[order], groups[order]
    model = silent_fit(GEELogisticRegression("independence"), X, y, groups=groups)
    expected = dense_logistic(X, y)
    np.testing.assert_allclose(coefficients(model), expected, rtol=0, atol=1e-8)
    assert model.quasi_likelihood_ == pytest.approx(log_likelihood(X, y, np.ones(n), expected), rel=1e-12)
    assert model.converged_ and model.n_iter_ <= 15


def test_rare_categories_of_many_rows():
    """210,000 rows climb samples; here these lack a category, or know it with one outcome."""
    rng = np.random.default_rng(0)
    n = 210_000
    groups, X = np.arange(n) // 10, rng.normal(size=(n, 3))
    X[:, 2] = 0
    X[n // 3 : n // 3 + 60, 2] = 1
    y = (rng.random(n) < expit(X[:, 0] + rng.normal(size=n // 10)[groups])).astype(int)
    y[n // 3 : n // 3 + 4] = 1, 0, 1, 1
    expected = dense_logistic(X, y)
    for order in (np.arange(n), np.argsort(y, kind="stable")):
        model = silent_fit(GEELogisticRegression("independence"), X[order], y[order], groups=groups[order])
        assert model.converged_ and model.n_iter_ <= 15
        np.testing.assert_allclose(coefficients(model), expected, rtol=0, atol=1e-8)
    found, exact = (silent_fit(GEELogisticRegression(tol=tol), X, y, groups=groups) for tol in (1e-4, 1e-10))
    errors = np.abs(coefficients(found) - coefficients(exact)) / np.sqrt(np.diag(exact.vcov_))
    assert found.converged_ and exact.converged_ and errors.max() < 1e-4


@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "m-dependent"])
def test_rare_categories_with_a_working_correlation(structure):
    X, y, groups, _ = zipf_table(600, 9, 4)
    time = np.random.default_rng(0).permutation(600)  # no two rows of a group share one
    model = silent_fit(GEELogisticRegression(structure), X, y, groups=groups, time=time)
    solution = fit_dense_gee(X, y, groups, structure, time=time)
    assert model.converged_
    np.testing.assert_allclose(coefficients(model), solution.beta, rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.correlation_params_, solution.alpha, rtol=0, atol=1e-8)


@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
def test_rare_categories_that_separate_are_named(structure):
    X, y, groups, category = zipf_table(10_000, 60, 5)
    y[category == 40], y[category == 50] = 1, 0
    model = GEELogisticRegression(structure)
    with pytest.warns(SeparationWarning, match="are separated by 'x40', 'x50': the maximum"):
        model.fit(X, y, groups=groups)
    assert 8 < model.coef_[0, 40] < 40
    assert -40 < model.coef_[0, 50] < -8
    # what is reported belongs together
    beta = coefficients(model)
    assert model.quasi_likelihood_ == pytest.approx(log_likelihood(X, y, np.ones(10_000), beta), rel=1e-12)
    rest = (category != 40) & (category != 50)
    X, y, kept = X[rest], y[rest], np.delete(np.arange(60), [40, 50])
    expected = dense_logistic(X[:, kept], y)
    np.testing.assert_allclose(np.delete(beta, [41, 51]), expected, atol=1e-4)


# Hostile data -----------------------------------------------------------------------------------------------


def panel(seed=0, n_groups=40, size=5, base=0.0, effect=1.0):
    rng = np.random.default_rng(seed)
    n = n_groups * size
    groups, time, X = np.repeat(np.arange(n_groups), size), np.tile(np.arange(size), n_groups), rng.normal(size=(n, 3))
    eta = base + effect * X[:, 0] + rng.normal(size=n_groups)[groups]
    return {"X": X, "y": (rng.random(n) < expit(eta)).astype(int), "groups": groups, "time": time}


def _weights(low, high):
    return lambda d, rng: d | {"sample_weight": rng.integers(low, high, len(d["y"])).astype(float)}


def _columns(change):
    return lambda d, rng: d | {"X": change(d["X"], rng)}


def _outlier(X, rng):
    X = X.copy()
    X[::50, 0] *= 300
    return X


HOSTILE = {
    "weights in the hundreds": (_weights(1, 1000), {}),
    "weights of 0": (_weights(0, 3), {}),
    "fractional weights": (lambda d, rng: d | {"sample_weight": rng.uniform(0.01, 2, len(d["y"]))}, {}),
    "units of 1e-8 and 1e8": (_columns(lambda X, rng: X * [1e-8, 1e8, 1.0]), {}),
    "far from zero": (_columns(lambda X, rng: X + [1e6, -1e6, 0.0]), {}),
    "nearly collinear": (_columns(lambda X, rng: np.column_stack([X, X[:, 0] + 1e-4 * rng.normal(size=len(X))])), {}),
    "linear predictors of hundreds": (_columns(_outlier), {}),
    "rows listed by outcome": (
        lambda d, rng: {name: values[np.argsort(d["y"], kind="stable")] for name, values in d.items()},
        {},
    ),
    "two groups": (lambda d, rng: d, {"n_groups": 2, "size": 20}),
    "groups of one row": (lambda d, rng: d, {"n_groups": 200, "size": 1}),
    "successes of 1 in 100": (lambda d, rng: d, {"base": -6.5, "n_groups": 300}),
    "strong effects": (lambda d, rng: d, {"effect": 5.0, "n_groups": 100}),
}


def predicted_step(model, structure, data):
    """Length in standard errors of the scoring step at a fit's coefficients, by dense matrices, and alpha there."""
    X, w = data["X"], data.get("sample_weight", np.ones(len(data["y"])))
    center, spread = X.mean(axis=0), X.std(axis=0)
    beta = np.append(model.intercept_ + model.coef_[0] @ center, model.coef_[0] * spread)
    Z, clusters = np.column_stack([np.ones(len(X)), (X - center) / spread]), []
    for group in np.unique(data["groups"]):
        rows = np.flatnonzero((data["groups"] == group) & (w > 0))
        rows = rows[np.argsort(data["time"][rows])]
        if rows.size:
            clusters.append(Cluster(Z[rows], data["y"][rows], w[rows], data["time"][rows].astype(float)))
    times = np.unique(np.concatenate([c.t for c in clusters]))
    dense = DenseGEE(structure, clusters, times, False, "estimate", 1, None)
    dense.p, dense.total_weight, dense.beta = beta.size, w.sum(), beta
    dense.phi, dense.alpha = dense.moments()
    score, sensitivity = dense.score_and_sensitivity()
    return np.sqrt(score @ np.linalg.solve(sensitivity, score) * dense.phi * len(w) / w.sum()), dense.alpha


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_data(name, structure):
    change, shape = HOSTILE[name]
    data = change(panel(**shape), np.random.default_rng(1))
    model = GEELogisticRegression(structure, ddof_correction=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", SklmmWarning)
        model.fit(**data)
    assert model.converged_
    assert np.isfinite(model.vcov_).all(axis=None)
    length, alpha = predicted_step(model, "independence" if name == "groups of one row" else structure, data)
    assert length < 1e-6
    if alpha.size:
        np.testing.assert_allclose(model.correlation_params_, alpha, atol=1e-6)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_data_under_independence_are_plain_logistic_regression(name):
    change, shape = HOSTILE[name]
    data = change(panel(**shape), np.random.default_rng(1))
    model = GEELogisticRegression("independence", cov_type="naive").fit(**data)
    w = data.get("sample_weight", np.ones(len(data["y"])))
    best = log_likelihood(data["X"], data["y"], w, dense_logistic(data["X"], data["y"], w))
    assert model.converged_
    assert model.quasi_likelihood_ == pytest.approx(best, rel=1e-10)


def test_likelihood_of_rows_far_on_the_wrong_side():
    """exp(eta / 2) is kept in bounds, the log-likelihood is not: else it would be flat where a step went astray."""
    X, y = np.array([[600.0], [-450.0], [30.0], [-500.0], [700.0]]), np.array([0, 1, 0, 0, 1], dtype=np.uint8)
    w = np.array([1.0, 2.0, 0.5, 1.0, 3.0])
    clusters = Clusters(np.array([0, 0, 1, 1, 1]), 5, 2, ["a", "b"], None, w)
    equations = Equations(X, y, clusters, Independence(), False, None, True, 1, LOGIT, None)
    found = equations.evaluate(np.array([X.std() * np.sqrt(1 + (X.mean() / X.std()) ** 2)]), None)[0][VALUE]
    slope = equations.coordinates[0, 0] * X.std() * np.sqrt(1 + (X.mean() / X.std()) ** 2)
    assert found == pytest.approx(log_likelihood(X, y, w, np.array([0.0, slope])), rel=1e-12)


# Equations that are hard to solve ---------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("seed", range(6))
def test_converged_means_solved(seed, rho):
    """A working correlation much too strong, strong effects, few rows: some have a solution, some have none."""
    rng = np.random.default_rng(seed)
    groups, time, X = np.repeat(np.arange(25), 4), np.tile(np.arange(4), 25), rng.normal(size=(100, 3))
    y = (2.5 * X[:, 0] + rng.logistic(size=100) > 0).astype(int)
    R = np.where(np.eye(4), 1.0, rho)
    model = GEELogisticRegression(Fixed(R))
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.fit(X, y, groups=groups, time=time)
    assert {w.category for w in record} <= {ConvergenceWarning}
    assert model.converged_ == (not record)
    A, beta = np.column_stack([np.ones(100), X]), coefficients(model)

    def scoring(beta):
        mu = expit(A @ beta)
        s = np.sqrt(mu * (1 - mu))
        score, information = np.zeros(4), np.zeros((4, 4))
        for group in range(25):
            rows = groups == group
            D = A[rows] * (s[rows] ** 2)[:, None]
            V = s[rows][:, None] * R * s[rows]
            score += D.T @ np.linalg.solve(V, y[rows] - mu[rows])
            information += D.T @ np.linalg.solve(V, D)
        step = np.linalg.solve(information, score)
        return step, np.sqrt(step @ score)

    if model.converged_:
        assert scoring(beta)[1] < 1e-7
        return
    start = dense_logistic(X, y)
    for share in (1.0, 0.5, 0.2):  # nor does damped scoring find a solution
        beta = start
        for _ in range(200):
            step, length = scoring(beta)
            if not length < 1e6:
                break
            beta = beta + share * step
        assert not length < 1e-6
    assert "no step led nearer" in model.fit_report_.verdict


def test_estimates_that_lead_away_first():
    """Whole steps of scoring lead away from the solution for a while, and acceleration loses it."""
    rng = np.random.default_rng(171)
    sizes = rng.integers(1, 9, 60)
    groups = np.repeat(np.arange(60), sizes)
    x = rng.normal(size=(len(groups), 2))
    X = np.column_stack([x, x[:, 0] + 1e-3 * rng.normal(size=len(groups))])
    y = (rng.random(len(groups)) < expit(x[:, 1] - 0.5)).astype(int)
    model = silent_fit(GEELogisticRegression(ddof_correction=False), X, y, groups=groups)
    time = np.arange(len(groups))
    length, alpha = predicted_step(model, "exchangeable", {"X": X, "y": y, "groups": groups, "time": time})
    assert model.converged_ and length < 1e-7
    np.testing.assert_allclose(model.correlation_params_, alpha, atol=1e-8)


# Few pairs --------------------------------------------------------------------------------------------------


def _few_pairs(seed=0):
    """Three groups of two rows among 37 of one, for five coefficients."""
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.repeat([0, 1, 2], 2), np.arange(3, 40)])
    X = rng.normal(size=(43, 4))
    return X, rng.integers(0, 2, 43), groups, np.arange(43) % 2


@pytest.mark.parametrize("structure", ["exchangeable", "m-dependent"])
def test_fewer_pairs_than_coefficients(structure):
    """None can be taken off for each coefficient: the plain mean is used, and the fit says so."""
    X, y, groups, time = _few_pairs()
    model = GEELogisticRegression(structure)
    message = f"{resolve_correlation(structure).name} working correlation rests on few pairs of rows: 3.*5 coefficients"
    with pytest.warns(WorkingCorrelationWarning, match=message):
        model.fit(X, y, groups=groups, time=time)
    mu = model.predict_proba(X)[:, 1]
    e = (y - mu) / np.sqrt(mu * (1 - mu))
    mean = (e[0] * e[1] + e[2] * e[3] + e[4] * e[5]) / 3
    assert model.correlation_params_[0] == pytest.approx(mean / (e @ e / 38), rel=1e-7)
    assert "rests on few pairs" in str(model.summary())
    silent_fit(GEELogisticRegression(structure, ddof_correction=False), X, y, groups=groups, time=time)


def test_few_pairs_at_some_distances():
    X, y, groups, time = _few_pairs()
    more = np.repeat(np.arange(3, 40), 2)  # the other groups have two rows, too, next to each other
    groups, time = np.append([0, 0, 1, 1, 2, 2], more), np.append([0, 2, 0, 2, 0, 2], np.tile([0, 1], 37))
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(80, 4)), rng.integers(0, 2, 80)
    with pytest.warns(WorkingCorrelationWarning, match="few pairs of rows: 3 at some distances in time, not more than"):
        GEELogisticRegression(MDependent(2)).fit(X, y, groups=groups, time=time)


def test_neighbours_that_no_autoregression_has():
    """alpha + 3 alpha^2 is never below -1/12: opposites two times apart have no alpha. The nearest is -1/6."""
    rng = np.random.default_rng(3)
    gap = np.tile([2, 2, 2, 1], 20)
    first = rng.integers(0, 2, 80)
    y = np.column_stack([first, 1 - first]).ravel()
    groups, time = np.repeat(np.arange(80), 2), np.column_stack([np.zeros(80), gap]).ravel()
    model = GEELogisticRegression("ar1")
    with pytest.warns(WorkingCorrelationWarning, match="has no value with which neighbours.*correlate as they do, -1"):
        model.fit(rng.normal(size=(80, 1))[groups], y, groups=groups, time=time)
    assert model.correlation_params_[0] == pytest.approx(-1 / 6, abs=1e-6)
    assert model.converged_
