"""The optimiser that sees gradients and a guess of the curvature, on objectives whose answers are known without it."""

import numpy as np
import pytest
from scipy.special import expit, log_expit

from sklmm.optimize.quasi_newton import EXACT_BELOW, maximise_by_gradients


class _Objective:
    """Value and gradient of a function, a guess of its curvature, and its Hessian; counts the calls."""

    def __init__(self, function, guess):
        self.function, self.guess = function, guess
        self.evaluations, self.hessians = [], []

    def evaluate(self, x):
        self.evaluations.append(x.copy())
        return *self.function(x)[:2], None

    def information(self, x):
        return self.guess(x)

    def hessian(self, x, information, active, rough=False):
        self.hessians.append((x.copy(), rough))
        out = np.zeros((x.size, x.size))
        out[np.ix_(active, active)] = self.function(x)[2][np.ix_(active, active)]
        return out

    def maximise(self, x, **keywords):
        x = np.array(x, dtype=float)
        settings = dict(n_rows=100, n_fixed=x.size, held=np.zeros(x.size, dtype=bool), snap=np.copy)
        return maximise_by_gradients(
            self.evaluate, self.information, self.hessian, lambda x, step: x + step, x, **(settings | keywords)
        )


def _logistic():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(200, 4))
    y = rng.random(200) < expit(A @ [1.0, -0.5, 0.2, 0.0])
    sign = 2.0 * y - 1

    def function(x):
        mu = expit(A @ x)
        value = log_expit(sign * (A @ x)).sum() - 0.5 * x @ x
        return value, A.T @ (y - mu) - x, -(A.T * (mu * (1 - mu))) @ A - np.eye(4)

    return function


@pytest.mark.parametrize("factor", [1.0, 1.5, 0.7])
def test_optimum_with_a_guess_that_is_wrong(factor):
    """The guess shapes the path; the optimum, the Hessian there and the verdict are exact."""
    function = _logistic()
    objective = _Objective(function, lambda x: -factor * function(x)[2])
    optimum = objective.maximise(np.zeros(4))
    value, gradient, hessian = function(optimum.x)
    assert np.abs(gradient).max() < 1e-6
    assert optimum.value == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(optimum.hessian, hessian, rtol=1e-4)
    report = optimum.report
    assert report.converged and report.decrement < EXACT_BELOW and "converged" in report.verdict
    assert [rough for _, rough in objective.hessians] == [False]
    assert len(objective.evaluations) == len(report.history) <= 12


def test_a_useless_guess_is_given_up():
    """Where the guess misses a strong coupling, the curvature itself is asked for."""
    A = np.array([[1.0, 0.999], [0.999, 1.0]])

    def function(x):
        d = x - [3.0, -2.0]
        quartic = 0.01 * np.sum(d**4)
        return -0.5 * d @ A @ d - quartic, -A @ d - 0.04 * d**3, -A - np.diag(0.12 * d**2)

    objective = _Objective(function, lambda x: 0.01 * np.eye(2))
    optimum = objective.maximise([0.0, 0.0])
    assert optimum.report.converged
    np.testing.assert_allclose(optimum.x, [3.0, -2.0], atol=1e-4)
    assert any(rough for _, rough in objective.hessians)


def test_held_parameters_stay():
    function = _logistic()
    objective = _Objective(function, lambda x: -function(x)[2])
    held = np.array([False, True, False, False])
    optimum = objective.maximise([0.0, 0.3, 0.0, 0.0], held=held)
    assert optimum.x[1] == 0.3
    assert np.abs(function(optimum.x)[1][~held]).max() < 1e-6


def test_no_maximum():
    """Two points apart: the slope runs away, and the verdict says so."""

    def function(x):
        return -np.log1p(np.exp(-x[0])), np.array([expit(-x[0])]), np.array([[-expit(x[0]) * expit(-x[0])]])

    optimum = _Objective(function, lambda x: -function(x)[2]).maximise([0.0], farthest=lambda step: np.abs(step).max())
    assert "no maximum" in optimum.report.verdict
    assert np.isfinite(optimum.x).all() and optimum.x[0] > 5


@pytest.mark.parametrize("max_iter", [1, 2])
def test_max_iter(max_iter):
    function = _logistic()
    objective = _Objective(function, lambda x: -3.0 * function(x)[2])
    optimum = objective.maximise(np.zeros(4), max_iter=max_iter)
    assert not optimum.report.converged and optimum.report.n_iter == max_iter
    assert "raise max_iter" in optimum.report.verdict
    np.testing.assert_allclose(optimum.hessian, function(optimum.x)[2])


def test_snap_applies_to_the_final_point_only():
    function = _logistic()
    objective = _Objective(function, lambda x: -function(x)[2])
    optimum = objective.maximise(np.zeros(4), snap=np.round)
    np.testing.assert_array_equal(optimum.x, np.round(optimum.x))
    assert not np.array_equal(objective.evaluations[-1], np.round(objective.evaluations[-1]))


def test_progress_sees_every_evaluation():
    rows = []
    function = _logistic()
    optimum = _Objective(function, lambda x: -1.3 * function(x)[2]).maximise(np.zeros(4), progress=rows.append)
    assert rows == optimum.report.history
    assert [row["iteration"] for row in rows] == list(range(1, optimum.report.n_iter + 1))
