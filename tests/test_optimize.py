"""Newton's method on objectives whose answers are known without it."""

import numpy as np
import pytest
from scipy.special import expit, log_expit

from sklmm.optimize.newton import FAR, FLAT, maximise
from sklmm.optimize.trust_region import FLAT_CURVATURE, MAX_STEP, newton_step


class _Objective:
    """A function (x, stride) -> (value, gradient, Hessian), and the calls it gets."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, x, stride=1, rough=False):
        self.calls.append((x.copy(), stride, rough))
        return self.function(x, stride)


def _maximise(function, x, n_fixed=None, **keywords):
    """`maximise` with all parameters fixed effects, no samples and no boundary unless told otherwise."""
    x = np.array(x, dtype=float)
    objective = function if isinstance(function, _Objective) else _Objective(function)
    settings = dict(
        strides=[1], n_rows=1000, n_fixed=x.size if n_fixed is None else n_fixed, held=np.zeros(x.size, dtype=bool),
        snap=np.copy, polish=False,
    )  # fmt: skip
    optimum = maximise(objective, x, **(settings | keywords))
    return optimum, objective


def _quadratic(center, information):
    def function(x, stride):
        d = x - center
        return -0.5 * d @ information @ d, -information @ d, -information

    return function


def _one(value, slope, curvature):
    """A function of one parameter from scalar functions."""
    return lambda x, stride: (value(x[0]), np.array([slope(x[0])]), np.array([[curvature(x[0])]]))


def _logistic(X, y, ridge):
    """Penalised logistic log-likelihood; stride s sees every s-th row."""

    def function(x, stride):
        A, sign = X[::stride], 2.0 * y[::stride] - 1
        eta = A @ x
        mu = expit(eta)
        return (
            log_expit(sign * eta).sum() - 0.5 * ridge * x @ x,
            A.T @ (y[::stride] - mu) - ridge * x,
            -(A.T * (mu * (1 - mu))) @ A - ridge * np.eye(x.size),
        )

    return function


@pytest.fixture
def logistic():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 4))
    y = (rng.random(6000) < expit(X @ [2.0, -1.0, 0.5, 0.0])).astype(float)
    return _logistic(X, y, 0.1)


# ---- optima ----------------------------------------------------------------------------------------------------


def test_quadratic_takes_one_step():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(5, 5))
    center, information = rng.normal(size=5), A @ A.T + np.eye(5)
    optimum, objective = _maximise(_quadratic(center, information), np.zeros(5))
    np.testing.assert_allclose(optimum.x, center, rtol=1e-10)
    np.testing.assert_allclose(objective.calls[1][0], center, rtol=1e-10)
    assert len(objective.calls) == optimum.report.n_full_passes == 2
    assert optimum.value == pytest.approx(0.0, abs=1e-20)
    np.testing.assert_array_equal(optimum.hessian, -information)


def test_optimum_of_a_logistic_likelihood(logistic):
    optimum, objective = _maximise(logistic, np.zeros(4))
    value, gradient, hessian = logistic(optimum.x, 1)
    assert 0.5 * gradient @ np.linalg.solve(-hessian, gradient) < 1e-10  # tol
    assert optimum.value == pytest.approx(value, abs=1e-7)  # the last step is not evaluated
    assert optimum.report.converged
    assert len(objective.calls) <= 7


def test_value_includes_the_last_step():
    """Which is taken without an evaluation."""
    function = _one(lambda x: -np.cosh(x), lambda x: -np.sinh(x), lambda x: -np.cosh(x))
    optimum, objective = _maximise(function, [0.8], tol=1e-3)
    reached = function(objective.calls[-1][0], 1)[0]
    assert abs(optimum.value - -1.0) < 0.1 * abs(reached - -1.0)
    assert abs(optimum.x[0]) < abs(objective.calls[-1][0][0])


def test_samples_lead_to_the_same_optimum(logistic):
    straight, _ = _maximise(logistic, np.zeros(4))
    climbed, objective = _maximise(logistic, np.zeros(4), strides=[64, 8, 1])
    np.testing.assert_allclose(climbed.x, straight.x, rtol=0, atol=1e-6)
    assert climbed.value == pytest.approx(straight.value, abs=1e-8)
    strides = [stride for _, stride, _ in objective.calls]
    assert strides == sorted(strides, reverse=True) and set(strides) == {64, 8, 1}
    assert climbed.report.n_full_passes == strides.count(1) < straight.report.n_full_passes


@pytest.mark.parametrize("strides", [[1], [8, 1]])
@pytest.mark.parametrize("polish", [False, True])
def test_rough_evaluations_are_never_the_last(logistic, strides, polish):
    optimum, objective = _maximise(logistic, np.zeros(4), strides=strides, polish=polish)
    assert not objective.calls[-1][2] and objective.calls[-1][1] == 1
    x = objective.calls[-1][0]
    np.testing.assert_array_equal(optimum.hessian, logistic(x, 1)[2])
    distance = np.abs(optimum.x - x).max()
    assert distance < (1e-6 if polish else 1e-2)


def test_polishing_goes_on_until_the_tolerance_is_met():
    """Even where the first step has promised more than the next ones hold, with twice the true curvature."""

    def function(x, stride):
        if abs(x[0]) > 1:
            return -0.5 * (x[0] - 1e-3) ** 2, -(x - 1e-3), -np.eye(1)
        return -0.5 * x[0] ** 2, -x, -2 * np.eye(1)

    optimum, objective = _maximise(function, [3.0], polish=True, tol=1e-10)
    assert optimum.report.converged and optimum.report.decrement <= 1e-10
    assert function(objective.calls[-1][0], 1)[0] > -1e-9


def test_backtracking():
    """Newton's method alone diverges on -sqrt(1 + x^2) from 3: each step goes from x to -x^3."""
    function = _one(
        lambda x: -np.sqrt(1 + x * x), lambda x: -x / np.sqrt(1 + x * x), lambda x: -((1 + x * x) ** -1.5)
    )
    optimum, objective = _maximise(function, [3.0])
    assert optimum.x[0] == pytest.approx(0.0, abs=1e-8)
    assert optimum.value == pytest.approx(-1.0, abs=1e-10)
    tried = [x[0] for x, _, _ in objective.calls]
    assert tried[1] == pytest.approx(-27.0)
    assert max(np.abs(tried[-3:])) < 1


def test_leaves_a_saddle():
    """x^2 - x^4 from 0, where its slope is 0 and it curves upwards; the way of a variance from its boundary."""
    function = _one(lambda x: x**2 - x**4, lambda x: 2 * x - 4 * x**3, lambda x: 2 - 12 * x**2)
    optimum, _ = _maximise(function, [0.0], n_fixed=0)
    assert abs(optimum.x[0]) == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert optimum.value == pytest.approx(0.25, abs=1e-10)
    assert optimum.report.converged


def test_leaves_a_saddle_beside_a_slope():
    """A fixed effect that is not at its optimum, either, and a coupling between the two."""

    def function(x, stride):
        b, t = x
        value = -((b - 1) ** 2) + (0.5 + 0.2 * b) * t**2 - t**4
        gradient = np.array([-2 * (b - 1) + 0.2 * t**2, 2 * (0.5 + 0.2 * b) * t - 4 * t**3])
        hessian = np.array([[-2, 0.4 * t], [0.4 * t, 2 * (0.5 + 0.2 * b) - 12 * t**2]])
        return value, gradient, hessian

    optimum, _ = _maximise(function, [0.0, 0.0], n_fixed=1, tol=1e-12)
    # at the optimum t^2 = (0.5 + 0.2 b) / 2 and b = 1 + 0.1 t^2
    t2 = 0.35 / 0.99
    np.testing.assert_allclose(np.abs(optimum.x), [1 + 0.1 * t2, np.sqrt(t2)], rtol=1e-6)


def test_stays_at_a_maximum_that_is_a_boundary():
    """The likelihood is even in a standard deviation: where it falls on both sides, 0 is the estimate."""
    function = _one(lambda x: -(x**2) - x**4, lambda x: -2 * x - 4 * x**3, lambda x: -2 - 12 * x**2)
    optimum, _ = _maximise(function, [1.0], n_fixed=0, snap=lambda x: np.where(np.abs(x) < 1e-4, 0.0, x))
    assert optimum.x[0] == 0.0


def test_steps_in_the_parameters_behind_the_fixed_effects_are_bounded():
    """With the optimum 100 away, in a direction that is nearly flat, a step goes about MAX_STEP, or twice as far as the
    parameter is from 0, and the fixed effect beside it as far as it should."""
    function = _quadratic(np.array([100.0, 100.0]), np.diag([1.0, 1e-3]))
    optimum, objective = _maximise(function, [0.0, 0.0], n_fixed=1)
    points = np.array([x for x, _, _ in objective.calls])
    allowed = np.maximum(MAX_STEP, 2 * np.abs(points[:-1, 1]))
    assert np.all(np.abs(np.diff(points[:, 1])) <= np.sqrt(2) * allowed * (1 + 1e-12))
    assert points[1, 0] == pytest.approx(100.0, rel=0.01)
    np.testing.assert_allclose(optimum.x, 100.0, rtol=1e-9)
    assert len(points) <= 6


def test_a_step_is_exact_within_its_region():
    """No point of the region is better, whatever the curvature: checked on a fine grid of two parameters."""
    rng = np.random.default_rng(7)
    angles = np.linspace(0, 2 * np.pi, 2001)
    for _ in range(200):
        A = rng.normal(size=(2, 2))
        information, gradient, radius = A + A.T, rng.normal(size=2), rng.uniform(0.1, 2.0)
        found = newton_step(gradient, information, np.ones(2, dtype=bool), 2, radius=radius)
        w, V = np.linalg.eigh(information / np.sqrt(np.abs(np.outer(*[information.diagonal()] * 2))))
        scale = np.sqrt(np.abs(information.diagonal()))
        size = np.maximum(np.abs(w), FLAT_CURVATURE * max(np.abs(w).max(), 1.0)) if w[0] < 0 else w
        metric = (V * size) @ V.T * np.outer(scale, scale)
        root = np.linalg.inv(np.linalg.cholesky(metric)).T
        edge = np.sqrt(found.step @ metric @ found.step)
        for share in np.linspace(0.02, 1, 50):
            s = share * edge * np.column_stack([np.cos(angles), np.sin(angles)]) @ root.T
            gains = s @ gradient - 0.5 * np.einsum("na,ab,nb->n", s, information, s)
            assert gains.max() <= found.gain * (1 + 1e-6) + 1e-12
        promised = found.step @ gradient - 0.5 * found.step @ information @ found.step
        assert found.gain == pytest.approx(promised, rel=1e-6)
        assert edge <= np.sqrt(2) * radius * (1 + 1e-6)


def test_a_failed_evaluation_is_a_rejected_step():
    """Beyond 2 the function raises, or is no number: the climb takes shorter steps and arrives."""
    for failure in (np.nan, None):

        def function(x, stride, failure=failure):
            if abs(x[0]) > 2:
                if failure is None:
                    raise FloatingPointError
                return failure, np.full(1, failure), np.full((1, 1), failure)
            return -np.sqrt(1 + x[0] ** 2), -x / np.sqrt(1 + x[0] ** 2), -np.eye(1) * (1 + x[0] ** 2) ** -1.5

        optimum, objective = _maximise(function, [1.9])
        assert any(abs(x[0]) > 2 for x, _, _ in objective.calls)
        assert optimum.x[0] == pytest.approx(0.0, abs=1e-8) and optimum.report.converged


def test_a_start_without_a_value_is_an_error():
    with pytest.raises(FloatingPointError, match="start"):
        _maximise(lambda x, stride: (np.nan, np.full(1, np.nan), np.full((1, 1), np.nan)), [0.0])


def test_a_misleading_sample_is_not_believed(logistic):
    """A sample that ends far off: the climb on all rows begins where it would without."""

    def function(x, stride):
        if stride > 1:
            return logistic(x - 40.0, 1)
        return logistic(x, 1)

    straight, _ = _maximise(logistic, np.zeros(4))
    optimum, objective = _maximise(function, np.zeros(4), strides=[8, 1])
    assert optimum.value == pytest.approx(straight.value, abs=1e-8)
    full = [x for x, stride, _ in objective.calls if stride == 1]
    np.testing.assert_array_equal(full[1], 0.0)
    assert len(full) <= straight.report.n_full_passes + 2


def test_rounding_errors_do_not_use_up_the_iterations():
    """A value that is known to 1e-9 only, and steps that promise less."""
    rng = np.random.default_rng(0)

    def function(x, stride):
        value = -0.5 * x @ x + 1e-9 * rng.normal()
        return value, -x + 1e-5 * rng.normal(size=2), -np.eye(2)

    optimum, objective = _maximise(function, [1.0, -1.0], tol=1e-13)
    assert optimum.report.converged and len(objective.calls) < 15


def test_no_maximum():
    """log expit(b) rises for ever: the climb stops at a finite value, soon, and says so."""
    function = _one(log_expit, lambda b: expit(-b), lambda b: -expit(b) * expit(-b))
    optimum, objective = _maximise(function, [0.0], farthest=lambda step: np.abs(step).max())
    assert optimum.runs_away and optimum.value == log_expit(optimum.x[0])  # the value is that of the point reported
    assert 10 < optimum.x[0] < 20
    assert -2 * FLAT < optimum.value <= 0
    assert abs(optimum.last_step[0]) >= FAR
    assert len(objective.calls) < 25
    assert optimum.report.converged and "no maximum" in optimum.report.verdict


def test_held_parameters_stay():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(3, 3))
    information, center = A @ A.T + np.eye(3), np.array([1.0, 2.0, 3.0])
    optimum, objective = _maximise(
        _quadratic(center, information), [0.0, 0.5, 0.0], held=np.array([False, True, False])
    )
    assert all(x[1] == 0.5 for x, _, _ in objective.calls) and optimum.x[1] == 0.5
    active = [0, 2]
    conditional = center[active] - np.linalg.solve(
        information[np.ix_(active, active)], information[active, 1] * (0.5 - 2.0)
    )
    np.testing.assert_allclose(optimum.x[active], conditional, rtol=1e-10)


def test_start_at_the_optimum():
    optimum, objective = _maximise(_quadratic(np.ones(2), np.eye(2)), [1.0, 1.0])
    np.testing.assert_array_equal(optimum.x, 1.0)
    assert optimum.report.converged and len(objective.calls) <= 2


# ---- the step --------------------------------------------------------------------------------------------------


def test_step_and_decrement_are_newtons():
    rng = np.random.default_rng(5)
    for n in (1, 2, 5, 12):
        A = rng.normal(size=(n, n))
        information, gradient = np.diag(10.0 ** rng.uniform(-3, 3, n)), rng.normal(size=n)
        information = information @ (A @ A.T + np.eye(n)) @ information
        found = newton_step(gradient, information, np.ones(n, dtype=bool), n)
        step, decrement = found.step, found.decrement
        assert found.newton
        exact = np.linalg.solve(information, gradient)
        np.testing.assert_allclose(step, exact, rtol=1e-6)
        assert decrement == pytest.approx(0.5 * gradient @ exact, rel=1e-8)


def test_step_of_active_parameters_only():
    gradient, information = np.array([1.0, 2.0, 3.0]), np.diag([1.0, 2.0, 4.0])
    found = newton_step(gradient, information, np.array([True, False, True]), 3)
    np.testing.assert_allclose(found.step, [1.0, 0.0, 0.75])
    assert found.decrement == pytest.approx(0.5 * (1 + 9 / 4))


@pytest.mark.parametrize("n_fixed", [0, 1, 3])
def test_step_goes_uphill_whatever_the_curvature(n_fixed):
    rng = np.random.default_rng(6)
    for _ in range(100):
        A = rng.normal(size=(3, 3))
        information, gradient = A + A.T, rng.normal(size=3)
        found = newton_step(gradient, information, np.ones(3, dtype=bool), n_fixed)
        assert np.all(np.isfinite(found.step)) and found.decrement >= found.gain > 0
        assert gradient @ found.step > 0
        assert np.abs(found.step[n_fixed:]).max(initial=0.0) <= np.sqrt(2) * MAX_STEP * (1 + 1e-9)


# ---- report ----------------------------------------------------------------------------------------------------


def test_report(logistic):
    rows = []
    optimum, objective = _maximise(logistic, np.zeros(4), strides=[8, 1], progress=rows.append, tol=1e-10)
    report = optimum.report
    assert rows == report.history
    assert report.n_iter == len(rows) == len(objective.calls)
    assert report.n_full_passes == sum(row["level"] == 1 for row in rows)
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    for row, (x, stride, _) in zip(rows, objective.calls, strict=True):
        value, gradient, hessian = logistic(x, stride)
        assert (row["level"], row["rows"]) == (stride, 1000 // stride)
        assert row["log_likelihood"] == value
        assert row["decrement"] == pytest.approx(0.5 * gradient @ np.linalg.solve(-hessian, gradient), rel=1e-6)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] >= 0
    assert report.decrement == rows[-1]["decrement"]
    assert report.converged and report.verdict.startswith("converged") and "tol=1e-10" in report.verdict


def test_tolerance_is_a_decrement(logistic):
    """What is left to gain after the last step is below it, though that step is not evaluated."""
    best = _maximise(logistic, np.zeros(4), tol=1e-14, polish=True)[0]
    passes = []
    for tol in (1e-1, 1e-4, 1e-8, 1e-12):
        optimum, objective = _maximise(logistic, np.zeros(4), tol=tol)
        assert logistic(best.x, 1)[0] - logistic(optimum.x, 1)[0] <= max(tol, 1e-10)
        assert optimum.report.converged
        passes.append(len(objective.calls))
    assert passes == sorted(passes) and passes[0] < passes[-1]


@pytest.mark.parametrize("max_iter", [1, 2, 3, 4])
@pytest.mark.parametrize("polish", [False, True])
def test_max_iter(logistic, max_iter, polish):
    optimum, objective = _maximise(logistic, np.zeros(4), max_iter=max_iter, polish=polish)
    report = optimum.report
    assert len(objective.calls) == report.n_iter == max_iter
    assert not report.converged
    assert f"stopped after {max_iter} iterations" in report.verdict and "max_iter" in report.verdict
    # what it has reached is one of the points it has seen
    assert any(np.array_equal(optimum.x, x) for x, _, _ in objective.calls)
    assert optimum.value == logistic(optimum.x, 1)[0]


def test_progress_may_stop_the_fit(logistic):
    class Stop(Exception):
        pass

    def progress(row):
        if row["iteration"] == 3:
            raise Stop

    objective = _Objective(logistic)
    with pytest.raises(Stop):
        _maximise(objective, np.zeros(4), progress=progress)
    assert len(objective.calls) == 3
