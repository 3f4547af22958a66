"""Penalties around engines: their derivatives, and where the penalised maximum is."""

import numpy as np
import pytest
from designs import Coded, engine_of

from sklmm.datasets import make_clustered_classification
from sklmm.inference.parameters import Correlation, FixedEffect, StandardDeviation
from sklmm.likelihood.clustered import ClusteredLikelihood
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.fit import conclude, maximum
from sklmm.likelihood.nested import NestedLikelihood
from sklmm.likelihood.penalised import Penalised, Pull

INTERCEPT, SLOPES = ([-1], [(1, True)]), ([-1, 0], [(2, True)])


def engine(kind):
    X, y, groups = make_clustered_classification(600, 2, n_groups=40, covariance=np.eye(2), random_state=0)
    groups, y = groups.astype(np.intp), y.astype(np.uint8)
    if kind == "one factor":
        return engine_of(X, y, [Coded(groups, 40, *SLOPES)])
    other = groups // 5 if kind == "nested" else np.arange(600) % 7
    return engine_of(X, y, [Coded(groups, 40, *INTERCEPT), Coded(other, int(other.max()) + 1, *INTERCEPT)])


def test_the_engines_are_those_that_are_meant():
    kinds = [type(engine(kind)) for kind in ("one factor", "nested", "crossed")]
    assert kinds == [ClusteredLikelihood, NestedLikelihood, CrossedLikelihood]


@pytest.mark.parametrize(
    "quantity", [lambda units: FixedEffect(units, 1), lambda units: StandardDeviation(units, 1),
                 lambda units: Correlation(units, 1, 0)], ids=["effect", "deviation", "correlation"]
)  # fmt: skip
@pytest.mark.parametrize("stride", [1, 4])
def test_derivatives_and_samples(quantity, stride):
    plain = engine("one factor")
    pull = Pull(quantity(plain.units), 30.0, 0.4)
    penalised, x = Penalised(plain, [pull, Pull(FixedEffect(plain.units, 0), 2.0, 1.0)]), np.full(plain.n_params, 0.6)

    def penalty(x):
        n = len(x)
        return penalised.with_penalties(x, 0.0, np.zeros(n), np.zeros((n, n)), 1.0 / stride)

    value, gradient, hessian = penalty(x)
    c = [pull.quantity.at(x)[0] for pull in penalised.penalties]
    assert value == pytest.approx(-(15.0 * (c[0] - 0.4) ** 2 + (c[1] - 1.0) ** 2) / stride)
    for step in 1e-5 * np.eye(len(x)):
        up, down = penalty(x + step), penalty(x - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(gradient @ step / 1e-5, rel=1e-6, abs=1e-6)
        np.testing.assert_allclose((up[1] - down[1]) / 2e-5, hessian @ step / 1e-5, rtol=1e-6, atol=1e-6)
    plain.evaluate(x, stride)
    for whole, part, own in zip(penalised.evaluate(x, stride), plain.evaluate(x, stride), penalty(x), strict=True):
        np.testing.assert_allclose(whole, part + own, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("kind", ["one factor", "nested", "crossed"])
def test_a_penalised_maximum(kind):
    """There the log-likelihood's slope is the pull's; fits go through an engine around an engine as through any."""
    plain = engine(kind)
    quantity = FixedEffect(plain.units, 1)
    free = quantity.at(maximum(engine(kind)).optimum.x)[0]
    penalised = Penalised(plain, [Pull(quantity, 40.0, free + 0.3)])
    found = maximum(penalised)
    assert found.optimum.report.converged
    x = found.optimum.x
    c, dc, _ = quantity.at(x)
    assert free + 0.02 < c < free + 0.28
    fit = conclude(found)
    assert fit.beta[1] == pytest.approx(c) and len(fit.modes) == len(fit.posteriors) == len(plain.structure.factors)
    value, gradient, _ = plain.evaluate(x)
    np.testing.assert_allclose(gradient, 40.0 * (c - free - 0.3) * dc, atol=1e-4)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-6)
    assert fit.log_prior == pytest.approx(-20.0 * (c - free - 0.3) ** 2, abs=1e-9)


@pytest.mark.parametrize("kind", ["one factor", "nested", "crossed"])
def test_a_penalty_is_information(kind):
    plain, alone = engine(kind), conclude(maximum(engine(kind)))
    pull = Pull(FixedEffect(plain.units, 1), 40.0, alone.beta[1])
    fit = conclude(maximum(Penalised(plain, [pull])))
    np.testing.assert_allclose(fit.beta, alone.beta, atol=1e-6)
    assert 1 / fit.vcov[1, 1] == pytest.approx(1 / alone.vcov[1, 1] + 40.0, rel=1e-4)
