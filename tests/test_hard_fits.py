"""Fits of data on which optimisers fail: they arrive, or say that they have not, and soon."""

import warnings

import numpy as np
import pandas as pd
import pytest
from designs import clustered, fitted
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logsumexp

from sklmm import MixedLogisticRegression
from sklmm.exceptions import AliasedFeaturesWarning, LaplaceWarning, SeparationWarning, SingularFitWarning
from sklmm.likelihood.second_look import look_again
from sklmm.optimize.newton import FitReport, Optimum


def _quadrature(x, y, groups, weights=None, n=801, reach=9.0):
    """The exact log-likelihood of intercept, slopes and standard deviation, by the trapezoidal rule."""
    u, step = np.linspace(-reach, reach, n, retstep=True)
    w = np.ones(len(y)) if weights is None else weights
    sign, n_groups = 2.0 * y - 1, groups.max() + 1

    def log_likelihood(parameters):
        eta = parameters[0] + x @ parameters[1:-1]
        rows = w[:, None] * log_expit(sign[:, None] * (eta[:, None] + parameters[-1] * u))
        total = np.zeros((n_groups, n))
        np.add.at(total, groups, rows)
        return logsumexp(total - u**2 / 2 - 0.5 * np.log(2 * np.pi) + np.log(step), axis=1).sum()

    return log_likelihood


def _parameters(model):
    sd = np.sqrt(model.covariance_["group"].iloc[0, 0])
    return np.concatenate([model.intercept_, model.coef_[0], [sd]])


def _intercept_engine(X, y, groups, weights=None, nodes=1):
    n_levels = int(groups.max()) + 1
    return clustered(X, y.astype(np.uint8), groups, n_levels, [-1], [(1, True)], sample_weight=weights,
                     n_quadrature=nodes)  # fmt: skip


def _check_maximum(model, X, y, groups, weights=None, nodes=1):
    """By the exact derivatives where the fit ended."""
    engine, at = _intercept_engine(X, y, groups, weights, nodes), _parameters(model)
    x = engine.units.internal(at[:-1], at[-1:])
    engine.evaluate(x)
    value, gradient, hessian = engine.evaluate(x)
    assert value == pytest.approx(model.log_likelihood_, abs=1e-6)
    assert 0 <= 0.5 * gradient @ np.linalg.solve(-hessian, gradient) < 1e-9


# --- the order of the rows --------------------------------------------------------------------------------------------


def _panel(seed=0, n_subjects=4900, sd=3.5):
    """One to three visits of each subject, listed by sex and by the pattern of their outcomes."""
    rng = np.random.default_rng(seed)
    visits = rng.choice([1, 2, 3], n_subjects, p=[0.34, 0.29, 0.37])
    subject = np.repeat(np.arange(n_subjects), visits)
    visit = np.arange(subject.size) - np.repeat(np.cumsum(visits) - visits, visits)
    girl, age = rng.integers(0, 2, n_subjects), rng.integers(0, 5, n_subjects) * 2.0 - 4
    time = age[subject] + 2.0 * visit - 2
    X = np.column_stack([girl[subject], time, time**2])
    eta = -3.1 + X @ [0.3, 0.09, -0.04] + sd * rng.normal(size=n_subjects)[subject]
    y = (rng.random(subject.size) < expit(eta)).astype(int)
    order = np.lexsort((age, -np.bincount(subject, y), -visits, girl))
    place = np.argsort(order)[subject]
    rows = np.argsort(place, kind="stable")
    return X[rows], y[rows], place[rows]


@pytest.mark.parametrize("nodes", [1, 9, 15, 25, 51])
def test_the_order_of_the_rows_decides_nothing(nodes):
    X, y, subject = _panel()
    rng = np.random.default_rng(1)
    by_cohort = np.argsort(X[:, 1], kind="stable")
    relabelled = rng.permutation(subject.max() + 1)[subject]
    orders = {
        "as listed": (slice(None), subject),
        "by age": (by_cohort, subject[by_cohort]),
        "subjects shuffled": (np.argsort(relabelled, kind="stable"), np.sort(relabelled)),
    }
    reached = []
    for rows, groups in orders.values():
        model = MixedLogisticRegression(n_quadrature=nodes, n_threads=1).fit(X[rows], y[rows], groups=groups)
        assert model.converged_ and model.n_iter_ <= 25
        reached.append(model.log_likelihood_)
    np.testing.assert_allclose(reached, reached[0], rtol=0, atol=1e-7)


def test_a_giant_group_beside_counted_rows():
    """A sample without the giant group asks for an ever larger variance; all rows have a maximum."""
    rng = np.random.default_rng(5)
    n = 16_000
    groups = np.r_[np.zeros(n // 2, dtype=int), np.arange(1, n // 2 + 1)]
    X = np.column_stack([rng.normal(size=n), rng.standard_t(2, n)])
    y = (rng.random(n) < expit(-1 + X @ [1.0, -0.5] + rng.normal(size=n // 2 + 1)[groups])).astype(int)
    w = rng.integers(0, 5, n).astype(float)
    model = MixedLogisticRegression(n_quadrature=15, n_threads=1).fit(X, y, groups=groups, sample_weight=w)
    assert model.converged_ and model.n_iter_ <= 40
    _check_maximum(model, X, y, groups, w, nodes=15)


# --- rare categories --------------------------------------------------------------------------------------------------


def _zipf(n, n_categories, seed):
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_categories + 1)
    category = rng.choice(n_categories, n, p=share / share.sum())
    X = np.column_stack([category[:, None] == np.arange(1, n_categories), rng.normal(size=(n, 2))]).astype(float)
    groups = rng.integers(0, n // 40, n)
    eta = -0.3 + X[:, -2:] @ [0.5, -0.3] + 0.7 * rng.normal(size=n_categories)[category]
    y = (rng.random(n) < expit(eta + 0.6 * rng.normal(size=n // 40)[groups])).astype(int)
    cells = np.bincount(category, minlength=n_categories), np.bincount(category, y, n_categories)
    separated = ((cells[1] == 0) | (cells[1] == cells[0])).any()
    return X, y, groups, separated


@pytest.mark.parametrize("n, n_categories, seed", [(4000, 20, 0), (10_000, 60, 3), (10_000, 80, 1), (40_000, 80, 3)])
def test_rare_categories(n, n_categories, seed):
    """The fit is at a maximum, by exact derivatives where it ended, and quickly."""
    X, y, groups, separated = _zipf(n, n_categories, seed)
    assert not separated
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    assert model.converged_ and model.n_iter_ <= 15
    assert np.abs(model.coef_).max() < 5
    _check_maximum(model, X, y, groups)


@pytest.mark.parametrize("seed", range(4))
def test_a_rare_category_that_separates_is_named(seed):
    """Rounding errors of the last digits do not use up the iterations, and the value is that of the parameters."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(60), 4)
    X = np.column_stack([rng.normal(size=240), np.arange(240) % 90 == 7]).astype(float)
    y = (rng.random(240) < expit(X[:, 0] + 3 * rng.normal(size=60)[groups])).astype(int)
    y[X[:, 1] > 0] = 1
    model = MixedLogisticRegression(n_quadrature=25, n_threads=1)
    with pytest.warns(SeparationWarning, match="x1"):
        model.fit(X, y, groups=groups)
    assert model.converged_ and model.n_iter_ <= 40 and "no maximum" in model.fit_report_.verdict
    exact = _quadrature(X, y, groups, reach=12.0)(_parameters(model))
    assert model.log_likelihood_ == pytest.approx(exact, abs=2e-3)  # of quadrature; of the point to rounding error:
    engine = _intercept_engine(X, y, groups, nodes=25)
    at = _parameters(model)
    assert engine.evaluate(engine.units.internal(at[:-1], at[-1:]))[0] == pytest.approx(model.log_likelihood_, abs=1e-8)


# --- several maxima ---------------------------------------------------------------------------------------------------


def _counted_rows(seed):
    """One large group beside many small ones, rows that count several times: often two maxima in the variance."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum(np.ceil(rng.pareto(1.1, 40) + 0.01), 2000).astype(int)
    sizes[0] = 400
    groups = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=len(groups))
    uniform = rng.random(len(groups))
    y = (uniform < expit(2.9 - 2.2 * x + 0.3 * rng.normal(size=len(sizes))[groups])).astype(int)
    return x[:, None], y, groups, rng.integers(0, 5, len(groups)).astype(float)


@pytest.mark.parametrize("seed", [2, 295])
def test_a_variance_is_0_only_where_that_is_the_maximum(seed):
    X, y, groups, w = _counted_rows(seed)
    log_likelihood = _quadrature(X, y, groups, w)
    best = minimize(lambda p: -log_likelihood(p), [3.0, -2.0, 1.5], method="Nelder-Mead")
    at_zero = max(log_likelihood([a, b, 0.0]) for a in np.linspace(2, 4, 9) for b in np.linspace(-3, -1.5, 9))
    assert -best.fun > at_zero + 3  # a point at 0 that is near the best there; the other is higher
    model = MixedLogisticRegression(n_quadrature=25, n_threads=1).fit(X, y, groups=groups, sample_weight=w)
    assert log_likelihood(_parameters(model)) == pytest.approx(-best.fun, abs=1e-4)


def test_a_small_variance_gives_way_to_0_where_that_is_higher():
    """What another start finds counts, and the first is kept where nothing is higher."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), 5)
    found = 0
    for _ in range(20):
        X = rng.normal(size=(60, 1))
        y = (rng.random(60) < expit(X[:, 0])).astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            model = MixedLogisticRegression(n_quadrature=15, n_threads=1).fit(X, y, groups=groups)
        log_likelihood = _quadrature(X, y, groups, n=201)
        starts = [[0.0, 1.0, 0.01], [0.0, 1.0, 0.5], [0.0, 1.0, 2.0]]
        best = max(-minimize(lambda p, f=log_likelihood: -f(p), x, method="BFGS").fun for x in starts)
        assert log_likelihood(_parameters(model)) > best - 1e-4
        found += model.is_singular_
    assert 0 < found < 20


def test_a_fit_below_the_intercept_alone_has_not_converged():
    """Where no start leads above the intercept-only model, the verdict says so."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100).astype(np.uint8)
    engine = _intercept_engine(rng.normal(size=(100, 1)), y, np.arange(100) // 5)
    report = FitReport(converged=True, verdict="converged", decrement=0.0, n_iter=3)
    low = Optimum(np.array([0.0, 0.0, 5.0]), -100.0, -np.eye(3), np.zeros(3), False, report)
    null = (np.zeros(3), -70.0)
    asked = []

    def climb(x, report, held, give_up):
        asked.append(x)
        report.n_iter += 1
        return low

    found, _ = look_again(low, climb, engine, np.zeros(3, dtype=bool), null)
    assert any(x is null[0] for x in asked)
    assert not found.report.converged and "below" in found.report.verdict


def test_a_maximum_far_out_is_taken_only_if_a_better_approximation_confirms_it():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100).astype(np.uint8)
    engine = _intercept_engine(rng.normal(size=(100, 1)), y, np.arange(100) // 10)
    report = FitReport(converged=True, verdict="converged", decrement=0.0, n_iter=3)
    near = Optimum(np.array([0.0, 0.0, 4.0]), -60.0, -1e3 * np.eye(3), np.zeros(3), False, report)
    far = Optimum(np.array([0.0, 0.0, 40.0]), -55.0, -np.eye(3), np.zeros(3), False, report)

    def climb(x, report, held, give_up):
        assert abs(x[2]) > 10 and give_up is not None
        assert give_up(near.x, -61.0) and not give_up(near.x, -59.0) and not give_up(far.x, -61.0)
        return far

    settings = climb, engine, np.zeros(3, dtype=bool), (np.zeros(3), -70.0)
    assert look_again(near, *settings, better=lambda x: abs(x[2])) == (far, None)
    assert look_again(near, *settings, better=lambda x: -abs(x[2])) == (near, far)
    assert look_again(near, *settings) == (near, far)


def test_what_another_start_finds_is_taken():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 100).astype(np.uint8)
    engine = _intercept_engine(rng.normal(size=(100, 1)), y, np.arange(100) // 5)
    report = FitReport(converged=True, verdict="converged", decrement=0.0, n_iter=3)
    low = Optimum(np.array([0.0, 0.0, 5.0]), -100.0, -np.eye(3), np.zeros(3), False, report)
    null = (np.zeros(3), -70.0)
    high = Optimum(np.array([0.1, 0.0, 0.0]), -69.0, -np.eye(3), np.zeros(3), False, report)

    def climb_well(x, report, held, give_up):
        report.converged, report.verdict = True, "converged"
        return high

    report.converged, report.verdict = True, "converged"
    found, _ = look_again(low, climb_well, engine, np.zeros(3, dtype=bool), null)
    assert found is high and found.report.converged


@pytest.mark.parametrize("seed", [5, 7])
def test_large_variances_are_reached(seed):
    """Groups of two rows that differ much. With 9 nodes the maximum is at a standard deviation of 60; a maximum at 9,
    which 51 nodes prefer, is kept with a warning."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(130), 2)
    X = rng.normal(size=(260, 2))
    uniform = rng.random(260)
    y = (uniform < expit(X[:, 0] + 15 * rng.normal(size=130)[groups])).astype(int)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = MixedLogisticRegression(n_quadrature=9, n_threads=1).fit(X, y, groups=groups)
    assert model.converged_ and model.n_iter_ <= 60
    engines = {nodes: _intercept_engine(X, y, groups, nodes=nodes) for nodes in (9, 51)}

    def fall(x):
        return [-part for part in engines[9].evaluate(x)[:2]]

    at = _parameters(model)
    starts = [engines[9].units.internal(at[:-1], [sd]) for sd in (2.0, 20.0, 80.0)]
    ends = [minimize(fall, start, jac=True, options={"gtol": 1e-7}) for start in starts]
    highest = min(ends, key=lambda end: end.fun)
    if any(issubclass(w.category, LaplaceWarning) for w in caught):
        here = engines[51].evaluate(engines[51].units.internal(at[:-1], at[-1:]))[0]
        assert -highest.fun > model.log_likelihood_ and here > engines[51].evaluate(highest.x)[0]
    else:
        assert model.log_likelihood_ >= -highest.fun - 1e-6


def test_weights_in_the_hundreds_with_a_random_slope():
    """A model is at least as likely as one that is nested in it, and the fit ends."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(40), 10)
        X, w = rng.normal(size=(400, 2)), rng.integers(1, 1000, 400).astype(float)
        y = (rng.random(400) < expit(0.5 * X[:, 0] + rng.normal(size=40)[groups])).astype(int)
        fits = [
            MixedLogisticRegression(terms, n_threads=1).fit(X, y, groups=groups, sample_weight=w)
            for terms in ("1 | group", "1 + x0 || group", "1 + x0 | group")
        ]
        assert all(model.converged_ for model in fits)
        values = [model.log_likelihood_ for model in fits]
        assert values[1] >= values[0] - 1e-6 and values[2] >= values[1] - 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_trial_steps_that_go_too_far_are_taken_back(seed):
    """Crossed factors, few rows a level, rare categories: no fit ends in an error about conditional modes."""
    rng = np.random.default_rng(seed)
    n = 500
    groups = pd.DataFrame({"a": np.repeat(np.arange(n // 2), 2), "b": rng.integers(0, 10, n)})
    X = np.column_stack([rng.random(n) < 0.01, rng.random(n) < 0.02, rng.normal(size=(n, 2))]).astype(float)
    eta = -2 + 1.5 * X[:, 2] + 8 * rng.normal(size=n // 2)[groups["a"]] + 0.3 * rng.normal(size=10)[groups["b"]]
    y = (rng.random(n) < expit(eta)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLogisticRegression(["1 | a", "1 | b"], n_threads=1).fit(X, y, groups=groups)
        alone = MixedLogisticRegression("1 | a", n_threads=1).fit(X, y, groups=groups["a"])
    assert model.converged_ and np.isfinite(model.coef_).all()
    assert model.log_likelihood_ >= alone.log_likelihood_ - 1e-6


# --- what the data do not say -----------------------------------------------------------------------------------------


def test_coefficients_that_the_information_does_not_tell_apart():
    """A column that differs from another in rows alone whose outcomes are certain has no standard error of its own."""
    rng = np.random.default_rng(0)
    n = 400
    x = rng.normal(size=n)
    far = np.zeros(n)
    far[:3] = [300.0, 400.0, 500.0]
    X = np.column_stack([x, far, x + 1e-9 * rng.normal(size=n) + far])
    y = (rng.random(n) < expit(x)).astype(np.uint8)
    fit = fitted(X, y, factors=[])
    variances = np.diag(fit.vcov)
    lost = np.isnan(variances)
    assert lost.sum() == len(fit.unidentified) + len(fit.aliased) > 0
    assert (variances[~lost] > 0).all() and np.isfinite(variances[~lost]).all()


def test_nothing_but_a_variance():
    """No intercept and a column of zeros: where the variance is 0, too, no parameter is left to move."""
    y = np.tile([0, 1, 0, 1, 1, 0, 0, 1], 4)
    X, groups = np.zeros((32, 1)), np.repeat(np.arange(4), 8)
    with pytest.warns(AliasedFeaturesWarning, match="x0"), pytest.warns(SingularFitWarning):
        model = MixedLogisticRegression(fit_intercept=False).fit(X, y, groups)
    assert model.log_likelihood_ == pytest.approx(32 * np.log(0.5), abs=1e-10)
    np.testing.assert_allclose(model.predict_proba(X, groups), 0.5)
