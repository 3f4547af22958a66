"""Offsets of rows that a fitted model is shown: the rows' reader puts them beside the features."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from sklmm import GEELogisticRegression, MixedLogisticRegression, approximate_leave_group_out, quantile_residuals
from sklmm.design.covariance import RelativeCovariance
from sklmm.prediction.intervals import prediction_interval
from sklmm.prediction.population import average_marginal_effects, marginal_coefficients, probability_and_gradient
from sklmm.prediction.predictor import Predictor
from sklmm.prediction.simulation import simulate_codes

EFFECTS = ("posterior", "mode", "zero", "marginal")


def _fit(random_effects=None, n=600):
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(n, 2)), rng.integers(0, 30, n)
    effects = rng.normal(size=(2, 30))[:, groups]
    y = (rng.random(n) < expit(X @ [0.8, -0.5] + effects[0] + 0.6 * effects[1] * X[:, 0])).astype(int)
    return MixedLogisticRegression(random_effects).fit(X, y, groups=groups), X, y, groups


def _moved(model, step):
    """The model with another intercept, where its parameters are kept."""
    moved, fit = copy.copy(model), model._fitted
    moved.intercept_ = model.intercept_ + step
    if fit.units is not None:
        x = fit.units.x.copy()
        x[fit.units.units.p] += step
        moved._fitted = replace(fit, units=replace(fit.units, x=x))
    return moved


def _beside(model, given):
    """A model whose rows have this offset when they are read."""
    beside = copy.copy(model)

    def read(X, groups, offset=None):
        rows = model._read_new_rows(X, groups)
        rows.offset = np.broadcast_to(given, rows.X.shape[0]).astype(float)
        return rows

    beside._read_new_rows = read
    return beside


@pytest.mark.parametrize("random_effects", [None, "1 + x0 | group"])
@pytest.mark.parametrize("effects", EFFECTS)
def test_predictions_by_row(random_effects, effects):
    """Each row as by the model whose intercept has the row's offset in it."""
    model, X, _, groups = _fit(random_effects)
    rows, offset = model._read_new_rows(X[:40], groups[:40]), np.linspace(-3, 3, 40)
    codes = model._lookup(rows)
    codes[0][::5] = -1
    predictor = Predictor.of(model, 1)
    small, positive = predictor.tails(X[:40], codes, effects, offset=offset)
    log_small, _ = predictor.tails(X[:40], codes, effects, log=True, offset=offset)
    np.testing.assert_allclose(np.exp(log_small), small, rtol=1e-10)
    moments = predictor.moments(X[:40], codes, offset)
    for i in range(0, 40, 3):
        one = Predictor.of(_moved(model, offset[i]), 1)
        expected = one.tails(X[i : i + 1], [codes[0][i : i + 1]], effects)
        assert small[i] == pytest.approx(expected[0][0], rel=1e-8) and positive[i] == expected[1][0]
        np.testing.assert_allclose(moments[:, i], one.moments(X[i : i + 1], [codes[0][i : i + 1]])[:, 0], atol=1e-12)
    np.testing.assert_allclose(predictor.means(X[:40], codes, "zero", offset), predictor.fixed(X[:40]) + offset)


def test_intervals_lie_around_the_moved_prediction():
    model, X, _, groups = _fit()
    codes, predictor = model._lookup(model._read_new_rows(X, groups)), Predictor.of(model, 1)
    offset = np.full(len(X), 0.7)
    found = prediction_interval(model, X, codes, predictor.moments(X, codes, offset), 0.9)
    moved = _moved(model, 0.7)
    expected = prediction_interval(moved, X, codes, Predictor.of(moved, 1).moments(X, codes), 0.9)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("effects", ["marginal", "zero"])
def test_population_averages_by_row(effects):
    """Brute force over the random effect, and gradients against differences."""
    model, X, _, _ = _fit("1 + x0 | group")
    offset = np.linspace(-4, 4, len(X))
    p, logit, gradient = probability_and_gradient(model, X, effects, offset)
    (factor,) = model._fitted.factors
    rng_nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    Z = np.column_stack([np.ones(len(X)), X[:, 0]])
    sd = np.sqrt(np.einsum("ia,ab,ib->i", Z, factor.covariance, Z)) * (effects == "marginal")
    eta = model.intercept_[0] + X @ model.coef_[0] + offset
    expected = expit(eta[:, None] + sd[:, None] * rng_nodes) @ (weight / weight.sum())
    np.testing.assert_allclose(p, expected, rtol=1e-7)
    np.testing.assert_allclose(logit, np.log(p) - np.log1p(-p), rtol=1e-7, atol=1e-9)
    units = model._fitted.units
    for j in range(3):
        sides = []
        for step in (1e-5, -1e-5):
            x = units.x.copy()
            x[j] += step
            moved = copy.copy(model)
            moved._fitted = replace(model._fitted, units=replace(units, x=x))
            sides.append(probability_and_gradient(moved, X, effects, offset)[0])
        np.testing.assert_allclose((sides[0] - sides[1]) / 2e-5, gradient[:, j], atol=1e-8)
    assert gradient.shape[1] == 3 + RelativeCovariance(factor.blocks).m


def test_effects_and_coefficients_of_the_population():
    model, X, _, _ = _fit()
    offset = np.linspace(-1, 1, len(X))
    table = average_marginal_effects(_beside(model, offset), X)
    step = 1e-4
    for j, name in enumerate(["x0", "x1"]):
        up, down = X.copy(), X.copy()
        up[:, j] += step
        down[:, j] -= step
        change = probability_and_gradient(model, up, offset=offset)[0] - probability_and_gradient(
            model, down, offset=offset)[0]  # fmt: skip
        assert table.loc[name, "estimate"] == pytest.approx(np.mean(change) / (2 * step), rel=1e-6)
    # a constant offset of the rows, taken off the averaged logits, is one of the intercept of the mixed model
    found = marginal_coefficients(_beside(model, 0.8), X)["estimate"]
    expected = marginal_coefficients(_moved(model, 0.8), X)["estimate"]
    assert found.iloc[0] + 0.8 == pytest.approx(expected.iloc[0], rel=1e-10)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=1e-10)
    fit = model._fitted
    moments = replace(fit.row_moments, offset_mean=0.8, variance_with_offset=fit.row_moments.fixed_variance)
    beside = copy.copy(model)
    beside._fitted = replace(fit, row_moments=moments)
    alone = marginal_coefficients(beside, None)["estimate"], marginal_coefficients(_moved(model, 0.8), None)["estimate"]
    assert alone[0].iloc[0] + 0.8 == pytest.approx(alone[1].iloc[0], rel=1e-6)


def test_simulated_outcomes_and_residuals():
    model, X, y, groups = _fit()
    beside, moved = _beside(model, -1.5), _moved(model, -1.5)
    rows = beside._read_new_rows(X, groups)
    found = np.array(list(simulate_codes(model, rows, 3, 0, "posterior")))
    expected = np.array(list(simulate_codes(moved, model._read_new_rows(X, groups), 3, 0, "posterior")))
    np.testing.assert_array_equal(found, expected)
    for weight in (None, np.full(len(y), 2)):
        for effects in ("marginal", "posterior"):
            settings = dict(sample_weight=weight, predict_effects=effects, random_state=0)
            one = quantile_residuals(beside, X, y, groups, **settings)
            other = quantile_residuals(moved, X, y, groups, **settings)
            np.testing.assert_allclose(one, other, atol=1e-12)
    marginal = GEELogisticRegression().fit(X, y, groups=groups)
    one = quantile_residuals(_beside(marginal, -1.5), X, y, groups, random_state=0)
    np.testing.assert_allclose(one, quantile_residuals(_moved(marginal, -1.5), X, y, groups, random_state=0))


def test_rows_that_differ_in_their_offset_are_not_alike():
    model, X, y, groups = _fit()
    X, groups, y = np.repeat(X[:1], 40, axis=0), np.repeat(groups[:1], 40), y[:40]
    weights = np.full(40, 2.0)
    settings = dict(sample_weight=weights, random_state=0)
    assert len(quantile_residuals(model, X, y, groups, **settings)) == 1
    offset = np.repeat([0.0, 1.0, 2.0, 3.0], 10)
    assert len(quantile_residuals(_beside(model, offset), X, y, groups, **settings)) == 4


def test_groups_left_out_are_predicted_with_their_rows_offsets():
    _, X, y, groups = _fit()
    offset = np.random.default_rng(1).normal(size=len(y))
    model = MixedLogisticRegression().fit(X, y, groups=groups, offset=offset)
    result = approximate_leave_group_out(model, X, y, groups, offset=offset)
    level = model._fitted.levels.get_loc(groups[0])
    eta = result.coefficients.iloc[level] @ np.array([1.0, *X[0]]) + offset[0]
    nodes, weight = np.polynomial.hermite_e.hermegauss(60)
    sd = np.sqrt(result.covariances[level, 0, 0])
    assert result.probabilities[0, 1] == pytest.approx(expit(eta + sd * nodes) @ weight / weight.sum(), rel=1e-7)
