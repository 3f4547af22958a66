"""The priors of a model: what each key stands for, and the log prior with its derivatives."""

import numpy as np
import pytest
from designs import Coded, engine_of
from scipy import stats

from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.inference.prior_choice import Layout, Spread, Term, check_priors, model_priors
from sklmm.likelihood.linear import LinearLikelihood
from sklmm.likelihood.linear_fit import linear_products
from sklmm.priors import (
    LKJ,
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfStudentT,
    InverseWishart,
    MultivariateT,
    Normal,
    StudentT,
    Wishart,
)

RANDOM = [Term("school", ["intercept", "x"], 0, [-1, 0], True), Term("class", ["intercept"], 2, [-1], True)]
LAYOUT = Layout(["intercept", "x", "livch1", "livch2"], True, RANDOM)
LINEAR = Layout(["intercept", "x", "livch1", "livch2"], True, RANDOM, linear=True)
SPREAD = Spread(np.array([10.0, 0.2, 0.5]), np.array([2.0, 0.4, 0.5]), 100.0, 20.0)


def densities(chosen, layout=LAYOUT):
    found = model_priors(chosen, layout, SPREAD)
    return found.to_frame()["density"].to_dict()


def test_classes():
    assert densities({"fixed": Normal(0, 2)}) == dict.fromkeys(["x", "livch1", "livch2"], "Normal(loc=0.0, scale=2.0)")
    assert list(densities({"intercept": Normal(), "sd": HalfNormal(1)})) == [
        "intercept", "sd_intercept|school", "sd_x|school", "sd_intercept|class"
    ]  # fmt: skip
    assert list(densities({"covariance": Wishart(4.5)})) == ["covariance|school", "covariance|class"]
    assert list(densities({"correlation": LKJ(2), "variance": Gamma(2, 1)})) == [
        "variance_intercept|school", "variance_x|school", "correlations|school", "variance_intercept|class"
    ]  # fmt: skip
    assert densities({"residual_sd": Exponential(1)}, LINEAR) == {"sigma": "Exponential(rate=1.0)"}
    assert list(densities({"coefficients": MultivariateT(3, 0, [10, 2, 2, 2])})) == ["coefficients"]


def test_names_say_more_than_classes():
    found = densities({"x": StudentT(3), "fixed": Normal(), "livch*": Normal(1), "livch2": Flat()})
    assert found == {"x": repr(StudentT(3)), "livch1": repr(Normal(1))}
    found = densities({"sd_x|school": HalfNormal(2), "sd": HalfNormal(1), "variance|class": Gamma(2)})
    assert found == {
        "sd_intercept|school": repr(HalfNormal(1)), "sd_x|school": repr(HalfNormal(2)),
        "variance_intercept|class": repr(Gamma(2)),
    }  # fmt: skip
    assert list(densities({"sd x|school": HalfNormal(2)})) == ["sd_x|school"]
    assert list(densities({"cor_x.intercept|school": LKJ(2)})) == ["correlations|school"]
    assert densities({"covariance": Wishart(4.5), "sd|class": Gamma(2.5)}) == {
        "covariance|school": repr(Wishart(4.5)), "sd_intercept|class": repr(Gamma(2.5))
    }  # fmt: skip
    both = {"sigma": Exponential(2), "residual_sd": Exponential(1)}
    assert densities(both, LINEAR) == {"sigma": repr(Exponential(2))}


def test_uncorrelated_coefficients_have_variances_alone():
    layout = Layout(["intercept"], True, [Term("id", ["intercept", "x"], 0, [-1, 0], False)])
    found = model_priors({"covariance": Wishart(3.5), "correlation": LKJ(2)}, layout, SPREAD)
    assert [each.positions for each in found.terms] == [(0,), (1,)]


def test_weak():
    found = model_priors("weak", LINEAR, lambda: SPREAD)
    assert found.to_frame()["density"].to_dict() == {
        "intercept at the features' means": repr(Normal(100, 50)),
        "x": repr(Normal(0, 25)), "livch1": repr(Normal(0, 125)), "livch2": repr(Normal(0, 100)),
        "sd_intercept|school": repr(HalfStudentT(3, 50)), "sd_x|school": repr(HalfStudentT(3, 25)),
        "correlations|school": repr(LKJ(2)), "sd_intercept|class": repr(HalfStudentT(3, 50)),
        "sigma": repr(Exponential(0.05)),
    }  # fmt: skip
    assert not found.improper and found.bounds(4).all()
    beta = np.array([1.0, 2.0, 3.0, 4.0])
    middle = 1 + 2 * 10 + 3 * 0.2 + 4 * 0.5
    D = np.diag([4.0, 0.25, 1.0])
    expected = stats.norm(100, 50).logpdf(middle) + stats.norm(0, [25, 125, 100]).logpdf(beta[1:]).sum()
    expected += np.log(2) * 3 + stats.t(3, 0, [50, 25, 50]).logpdf([2.0, 0.5, 1.0]).sum() + np.log(0.75)
    assert found.log_density(beta, D, 3.0) == pytest.approx(expected + stats.expon(scale=20).logpdf(3.0))


def test_which_parameters_have_no_proper_prior():
    assert model_priors({"fixed": Normal()}, LINEAR, SPREAD).flat == (
        "intercept", "sd_intercept|school", "sd_x|school", "correlations|school", "sd_intercept|class", "sigma"
    )  # fmt: skip
    joint = {"coefficients": MultivariateT(3), "covariance": Wishart(5, 1.0)}
    assert not model_priors(joint, LAYOUT, SPREAD).improper
    assert model_priors({**joint, "covariance|class": Wishart(3.5)}, LAYOUT, SPREAD).flat == ("sd_intercept|class",)


def test_densities_of_deviations():
    """Of standard deviations and correlations: d(matrix) / d(those) by differences."""
    priors = model_priors({"covariance|school": InverseWishart(4), "variance|class": Gamma(2, 1)}, LAYOUT, SPREAD)

    def matrix(z):
        s, t, rho, u = z
        return np.array([[s**2, s * t * rho, 0], [s * t * rho, t**2, 0], [0, 0, u**2]])

    z, h = np.array([0.7, 1.3, -0.4, 0.6]), 1e-6
    columns = [(matrix(z + e) - matrix(z - e)) / (2 * h) for e in h * np.eye(4)]
    J = np.array([[c[0, 0], c[1, 1], c[0, 1], c[2, 2]] for c in columns])
    beta, D = np.zeros(4), matrix(z)
    change = priors.log_density(beta, D, of_deviations=True) - priors.log_density(beta, D)
    assert change == pytest.approx(np.log(abs(np.linalg.det(J))), rel=1e-6)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"fixed": HalfNormal(1)}, "'fixed' takes a density of a coefficient, such as Normal"),
        ({"sd": Normal()}, "'sd' takes a density of positive numbers, such as HalfNormal"),
        ({"x": LKJ(2)}, "'x' takes a density of a coefficient"),
        ({"covariance": LKJ(2)}, "of a covariance matrix, such as Wishart"),
        ({"age": Normal()}, "there is no parameter 'age'; there are 'intercept', 'x'.*'sd_x|school'.* classes 'fixed'"),
        ({"sd_age|school": HalfNormal(1)}, "there is no parameter 'sd_age|school'"),
        ({"correlation|class": LKJ(2)}, "the random coefficients of 'class' have no correlations"),
        ({"residual_sd": Exponential()}, "no residual standard deviation"),
        ({"coefficients": MultivariateT(3), "x": Normal()}, "is of all of them jointly, and there is 'x'"),
        ({"coefficients": MultivariateT(3, 0, [1, 2])}, "has numbers for 2 coefficients, but there are 4"),
        ({"sd": HalfNormal(1), "variance": Gamma(2)}, "'sd' and 'variance' are both about the same parameter"),
        ({"livch1*": Normal(), "livch*": Normal()}, "'livch1.*' and 'livch.*' are both about the same"),
        ({"covariance": Wishart(4), "sd": HalfNormal(1)}, "the whole covariance of 'school', and 'sd'"),
        ({"covariance": Wishart(4, np.eye(2))}, "has 2 rows, but the matrix is of 1"),
    ],
)
def test_what_is_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        model_priors(chosen, LAYOUT, SPREAD)


@pytest.mark.parametrize(
    ("priors", "message"),
    [("strong", "must be None, 'soft' or 'weak', or a dict"), ({1: Normal()}, "got 1: Normal"),
     ({"fixed": 2.5}, "from a class or a parameter's name to a density.*got 'fixed': 2.5"), (Normal(), "must be None")],
)  # fmt: skip
def test_what_is_no_choice(priors, message):
    with pytest.raises(ValueError, match=message):
        check_priors(priors)
    with pytest.raises(ValueError, match="'soft' is for binary outcomes"):
        check_priors("soft", soft=False)


@pytest.mark.parametrize(
    "density", [{"sd": Gamma(0.5, 1)}, {"covariance": Wishart(2.5, 1.0)}, {"correlation": LKJ(0.5)}]
)
def test_densities_without_a_mode(density):
    with pytest.raises(ValueError, match="is infinite at .*which would be the mode"):
        model_priors(density, LAYOUT, SPREAD).check_mode()


CHOSEN = {
    "weak": "weak",
    "matrices": {"coefficients": MultivariateT(3, 0, 2.5), "covariance": InverseWishart(4, [[1.0, 0.2], [0.2, 0.5]])},
    "classes": {"intercept": StudentT(4, 1, 2), "x0": Normal(1, 0.3), "sd": Gamma(2, 0.5), "correlation": LKJ(3)},
    "variances": {"variance": Gamma(1.5, 1), "fixed": StudentT(1)},
    "mixed": {"sd_intercept|group": Exponential(2), "correlation": LKJ(1.5), "sd_x0|group": HalfStudentT(3, 2)},
}


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("chosen", CHOSEN)
def test_derivatives(chosen, linear):
    """Of the log prior in an engine's parameters, whose columns are centred and scaled; linear ones have log sigma."""
    rng = np.random.default_rng(0)
    X, codes = rng.normal([3.0, -1.0], [2.0, 0.5], (200, 2)), np.arange(200) % 20
    layout = Layout(["intercept", "x0", "x1"], True, [Term("group", ["intercept", "x0"], 0, [-1, 0], True)], linear)
    factor = FactorStructure(20, [-1, 0], [(2, True)])
    if linear:
        rows = Observations(X, 50 + 7 * rng.normal(size=200), [codes])
        engine = LinearLikelihood(linear_products(rows, Structure([factor])))
        x = np.array([0.3, -0.2, 0.1, 0.8, -0.5, 0.6, -0.3])
    else:
        rows = Observations(X, (rng.random(200) < 0.5).astype(np.uint8), [codes])
        engine = engine_of(X, rows.y, [Coded(codes, 20, [-1, 0], [(2, True)])])
        x = np.array([0.3, -0.2, 0.1, 0.8, -0.5, 0.6])
    priors = model_priors(CHOSEN[chosen], layout, Spread.of(rows, linear))
    penalty = priors.penalty(engine)
    value, gradient, hessian = penalty.derivatives(x)
    beta, D, sigma = penalty.of_user(x)
    assert value == pytest.approx(priors.log_density(beta, D, sigma), abs=1e-9)
    if not linear:
        np.testing.assert_allclose(beta, engine.units.natural(x)[0], rtol=1e-12)
        np.testing.assert_allclose(np.sqrt(np.diag(D)), engine.units.standard_deviations(x), rtol=1e-12)
    else:
        natural = engine.units.natural(x)
        np.testing.assert_allclose(beta, natural[0], rtol=1e-12)
        Lambda = engine.covariance.lambda_(natural[1])
        np.testing.assert_allclose(D, sigma**2 * Lambda @ Lambda.T, rtol=1e-10)
    for step in 1e-5 * np.eye(len(x)):
        up, down = penalty.derivatives(x + step), penalty.derivatives(x - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(gradient @ step / 1e-5, rel=1e-6, abs=1e-7)
        np.testing.assert_allclose((up[1] - down[1]) / 2e-5, hessian @ step / 1e-5, rtol=1e-5, atol=1e-6)
