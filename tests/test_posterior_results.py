"""What a posterior says: statements, evidence, groups, new rows, pictures; its place in reports."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from sklmm import (
    ByPosterior,
    MixedLinearRegression,
    MixedLogisticRegression,
    PosteriorDisplay,
    accuracy_report,
    bayes_factor,
)
from sklmm.datasets import load_bacteria, load_sleepstudy, make_clustered_classification
from sklmm.posterior.conditional import effects_at
from sklmm.posterior.densities import of_correlation, prior_density
from sklmm.posterior.leaving_out import log_likelihoods_by_level
from sklmm.posterior.result import weighted_quantiles
from sklmm.posterior.statements import holds
from sklmm.priors import LKJ, HalfNormal, Normal

PRIORS = {"fixed": Normal(0, 2), "intercept": Normal(0, 3), "sd": HalfNormal(1.5)}


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, coef=[0.8, 0.0], covariance=0.7, random_state=3)
    frame = pd.DataFrame(X, columns=["dose", "age"])
    return frame, y, pd.Series(groups, name="clinic").map("c{:02}".format)


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    return MixedLogisticRegression(n_quadrature=9).fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def posterior(model, data):
    return model.posterior(*data, priors=PRIORS, random_state=0)


# Statements ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("age > 0", lambda d: d["age"] > 0),
        ("age<=0", lambda d: d["age"] <= 0),
        ("dose > 2*age + 0.1", lambda d: d["dose"] > 2 * d["age"] + 0.1),
        ("0.2 < sd_intercept|g < 0.5", lambda d: (d["sd_intercept|g"] > 0.2) & (d["sd_intercept|g"] < 0.5)),
        ("age > 0 and dose > 0", lambda d: (d["age"] > 0) & (d["dose"] > 0)),
        ("age > 0 & -0.1 < dose", lambda d: (d["age"] > 0) & (d["dose"] > -0.1)),
        ("I(x > 3)[T.True] < dose", lambda d: d["I(x > 3)[T.True]"] < d["dose"]),
        ("`I(x > 3)[T.True]` > 0", lambda d: d["I(x > 3)[T.True]"] > 0),
        (lambda d: (d["age"] > 0).to_numpy(), lambda d: d["age"] > 0),
    ],
)
def test_statements(statement, expected):
    names = ["age", "dose", "sd_intercept|g", "I(x > 3)[T.True]"]
    draws = pd.DataFrame(np.random.default_rng(0).normal(0.2, 0.3, size=(200, 4)), columns=names)
    assert (holds(statement, draws) == expected(draws).to_numpy()).all()


@pytest.mark.parametrize(
    ("statement", "message"),
    [("age", "compares nothing"), ("age > ", "side of a comparison is missing"), ("agee > 0", "'agee'"),
     ("age * dose > 0", "must be linear"), (3, "takes a statement")],
)  # fmt: skip
def test_statements_that_say_nothing(posterior, statement, message):
    with pytest.raises((ValueError, TypeError), match=message):
        posterior.probability(statement)


def test_probabilities_are_weights(posterior):
    weights = posterior.points.weights
    assert posterior.probability("dose > 0") == pytest.approx(weights[posterior.values[:, 1] > 0].sum())
    assert posterior.probability("age > 0") + posterior.probability("age < 0") == pytest.approx(1.0)


def test_weighted_quantiles_are_those_of_repeated_numbers():
    rng = np.random.default_rng(0)
    values, counts = rng.normal(size=300), rng.integers(1, 5, 300)
    found = weighted_quantiles(values, counts / counts.sum(), [0.1, 0.5, 0.9])
    assert_allclose(found, np.quantile(np.repeat(values, counts), [0.1, 0.5, 0.9]), atol=0.03)


# Evidence ------------------------------------------------------------------------------------------------------------


def test_a_bayes_factor_is_the_ratio_of_densities_at_0(model, data):
    """Savage and Dickey: against the model without age, prior over posterior density of its coefficient at 0."""
    X, y, groups = data
    smaller = MixedLogisticRegression(n_quadrature=9).fit(X[["dose"]], y, groups=groups)
    without = smaller.posterior(X[["dose"]], y, groups, priors=PRIORS, random_state=0, n_draws=4096)
    posterior = model.posterior(X, y, groups, priors=PRIORS, random_state=0, n_draws=4096)
    found = bayes_factor(posterior, without)
    kernel = stats.gaussian_kde(posterior.values[:, 2], weights=posterior.points.weights, bw_method=0.2)
    expected = np.log(Normal(0, 2).scale ** -1 / np.sqrt(2 * np.pi)) - np.log(kernel(0.0)[0])
    assert abs(found.log_bayes_factor - expected) < 0.08
    assert bayes_factor(without, posterior).log_bayes_factor == -found.log_bayes_factor
    assert "second" in str(found)
    assert 0.0 < found.probability < 0.5
    assert list(found.to_frame().columns) == ["log_bayes_factor", "error", "bayes_factor", "probability"]


def test_bayes_factors_that_mean_nothing_are_refused(posterior, model, data):
    X, y, groups = data
    improper = model.posterior(X, y, groups, priors={"sd": HalfNormal(1)}, random_state=0, n_draws=64)
    with pytest.raises(ValueError, match="second: the prior of 'intercept'.*improper"):
        bayes_factor(posterior, improper)
    other = MixedLogisticRegression(n_quadrature=9).fit(X, 1 - y, groups=groups)
    flipped = other.posterior(X, 1 - y, groups, priors=PRIORS, random_state=0, n_draws=64)
    with pytest.raises(ValueError, match="outcomes"):
        bayes_factor(posterior, flipped)
    with pytest.raises(TypeError, match="must be a Posterior"):
        bayes_factor(model, posterior)


# Groups --------------------------------------------------------------------------------------------------------------


def test_group_effects(posterior, model):
    """Near the modes of the fit, with more spread; quantiles of draws go with means and deviations of integrals."""
    found = posterior.group_effects("clinic", level=0.9)
    assert list(found.columns) == ["mean", "sd", "lower", "upper"]
    assert found.index.names == ["clinic", "coefficient"]
    modes, sds = (table["clinic"]["intercept"] for table in (model.random_effects_, model.random_effects_sd_))
    assert np.abs(found["mean"].to_numpy() - modes.to_numpy()).max() < 0.15
    assert (found["sd"].to_numpy() > sds.to_numpy()).mean() > 0.8
    width = (found["upper"] - found["lower"]) / (2 * stats.norm.ppf(0.95) * found["sd"])
    assert abs(width.mean() - 1.0) < 0.03
    with pytest.raises(ValueError, match="no term 'town'"):
        posterior.group_effects("town")


def test_group_effects_of_slopes_are_those_of_a_linear_model():
    frame = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", frame)
    found = model.posterior(frame, random_state=0, n_draws=256)
    effects = found.group_effects()
    shift = effects["mean"].unstack()["Days"] - model.random_effects_["Subject"]["Days"]
    assert np.abs(shift).max() < 1.5
    mean, std = found.predict(frame, return_std=True)
    assert_allclose(mean, model.predict(frame), atol=3.0)
    assert_allclose(std, model.predict(frame, return_std=True)[1], rtol=0.06)


def test_effects_of_two_coefficients_are_drawn_from_their_posterior(data):
    """Draws at given parameters have the means and variances of integrals there."""
    X, y, groups = data
    model = MixedLogisticRegression("1 + dose | clinic").fit(X, y, groups=groups)
    found, rng = model.posterior(X, y, groups, random_state=1, n_draws=64), np.random.default_rng(0)
    x = found.coordinates.engine(found.points.points[:1])[0]
    mean, variance, draws = effects_at(found.engine, x, 0, rng, n_draws=400)
    z = (draws.mean(axis=0) - mean) / np.sqrt(variance / 400)
    assert np.sqrt((z**2).mean()) < 1.4
    assert abs((draws.var(axis=0) / variance).mean() - 1.0) < 0.05


def test_clusters_add_up_to_the_likelihood(posterior):
    x = posterior.coordinates.engine(posterior.points.points[:5])
    values = log_likelihoods_by_level(posterior.engine, x)
    assert_allclose(values.sum(axis=1), [posterior.engine.value(each) for each in x])
    assert_allclose([posterior.engine.evaluate(each)[0] for each in x], [posterior.engine.value(each) for each in x])


def test_a_group_that_is_left_out_is_predicted_as_by_a_refit(posterior, data):
    """The evidence of all less that of all others is the group's log predictive density."""
    X, y, groups = data
    table = posterior.leave_group_out()
    assert table["pareto_k"].max() < 0.7
    for level in ("c03", "c11"):
        kept = (groups != level).to_numpy()
        rest = MixedLogisticRegression(n_quadrature=9).fit(X[kept], y[kept], groups=groups[kept])
        found = rest.posterior(X[kept], y[kept], groups[kept], priors=PRIORS, random_state=0)
        assert abs(table.loc[level, "elpd"] - (posterior.log_evidence_ - found.log_evidence_)) < 0.05


# New rows ------------------------------------------------------------------------------------------------------------


def test_probabilities_are_averages_over_the_draws(posterior, model, data):
    """Of unknown groups: the mean over draws of integrals over the population."""
    X, _, groups = data
    unknown = ["nobody"] * 4
    rows = X[:4].to_numpy()
    z = np.linspace(-6, 6, 201)
    weights, values = posterior.points.weights, posterior.values
    eta = values[:, :1] + values[:, 1:3] @ rows.T
    p = 1 / (1 + np.exp(-(eta[:, :, None] + values[:, 3][:, None, None] * z)))
    expected = weights @ (p @ (stats.norm.pdf(z) * (z[1] - z[0])))
    found = posterior.predict_proba(X[:4], unknown, n_draws=1024)
    assert_allclose(found[:, 1], expected, atol=2e-3)
    assert_allclose(found.sum(axis=1), 1.0)
    known = posterior.predict_proba(X, groups)
    assert np.abs(known - model.predict_proba(X, groups=groups)).max() < 0.03
    assert (posterior.predict(X, groups) == (known[:, 1] > 0.5)).all()


def test_groups_are_learned_from_new_rows(posterior, data):
    """The rows of the fit again: the same predictions. A new group's: as the fit's one that had the same rows."""
    X, y, groups = data
    own = (groups == "c03").to_numpy()
    renamed = pd.Series(["new"] * own.sum(), name="clinic")
    updated = posterior.update_groups(X[own], y[own], renamed)
    assert_allclose(updated.predict_proba(X[own], renamed), posterior.predict_proba(X[own], groups[own]), atol=1e-6)


def test_linear_groups_are_learned_from_new_rows():
    frame = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", frame)
    found = model.posterior(frame, random_state=0, n_draws=128)
    one = frame[frame["Subject"] == frame["Subject"].iloc[0]]
    assert_allclose(found.update_groups(one).predict(one), found.predict(one), rtol=1e-8)


# Pictures and containers ---------------------------------------------------------------------------------------------


def test_the_display_shows_the_prior_beside_the_posterior(posterior):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    display = PosteriorDisplay.from_posterior(posterior)
    assert [axes.get_title() for axes in display.axes_] == posterior.names
    table = display.to_frame().loc["sd_intercept|clinic"]
    step = table["value"].diff().iloc[-1]
    assert abs(table["posterior"].sum() * step - 1.0) < 0.03
    assert_allclose(table["prior"], stats.halfnorm.pdf(table["value"], scale=1.5))
    lines = [line.get_label() for line in display.axes_[0].get_lines()]
    assert {"posterior", "prior"} <= set(lines)
    with pytest.raises(ValueError, match="'nothing' is no parameter"):
        PosteriorDisplay.from_posterior(posterior, names=["nothing"])
    plt.close("all")


def test_marginal_priors_integrate_to_1(data):
    X, y, groups = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLogisticRegression("1 + dose | clinic").fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, random_state=0, n_draws=64)
    joint = found.as_priors()
    for parameter in found.parameters:
        grid = np.linspace(-60.0, 60.0, 100_001)
        if parameter.kind != "fixed":  # positive numbers closer at 0, where the density of roots has a pole
            grids = np.linspace(1e-3, 25.0, 100_001) ** 2, np.linspace(-0.9999, 0.9999, 20_001)
            grid = grids[len(parameter.positions) - 1]
        for prior in (found.prior, joint):
            density = prior_density(prior, parameter, found.names, grid)
            assert abs(np.trapezoid(np.nan_to_num(density), grid) - 1.0) < 0.02


def test_the_prior_of_one_of_three_correlations():
    """Of LKJ draws."""
    draws = LKJ(1.5).rvs(20_000, random_state=0, dim=3)[:, 0, 2]
    grid = np.linspace(-0.999, 0.999, 1001)
    below = np.cumsum(of_correlation(LKJ(1.5), 3, grid)) * (grid[1] - grid[0])
    assert np.abs(below - np.searchsorted(np.sort(draws), grid) / len(draws)).max() < 0.02


def test_arviz(posterior):
    arviz = pytest.importorskip("arviz")
    found = posterior.to_arviz()
    assert arviz is not None
    assert found["posterior"]["dose"].shape == (1, 1024)
    assert found["log_likelihood"]["clinic"].shape == (1, 1024, 20)
    assert found["sample_stats"].attrs["pareto_k"] == posterior.pareto_k_


def test_without_arviz_its_absence_is_told(posterior, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install arviz"):
        posterior.to_arviz()


# Estimators and reports ----------------------------------------------------------------------------------------------


def test_a_posterior_in_an_accuracy_report():
    children = load_bacteria(as_frame=True).frame
    X = pd.DataFrame({"week": children.week.astype(float), "drug": (children.trt == "drug").astype(float)})
    estimators = {"mixed": "mixed", "posterior": ByPosterior(MixedLogisticRegression(), n_draws=64, random_state=0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = accuracy_report(estimators, X, children.y, groups=children.ID, random_state=0)
    text = repr(report)
    assert "posterior" in text


def test_the_estimator_is_a_classifier_or_a_regressor(data):
    from sklearn.base import clone, is_classifier, is_regressor

    X, y, groups = data
    model = ByPosterior(MixedLogisticRegression(), n_draws=64, random_state=0)
    assert is_classifier(model)
    linear = ByPosterior(MixedLinearRegression(), n_draws=64, random_state=0)
    assert is_regressor(linear)
    assert not hasattr(linear, "predict_proba")
    fitted = clone(model).fit(X, y, groups=groups)
    assert fitted.predict_proba(X, groups).shape == (len(y), 2)
    assert fitted.score(X, y, groups=groups) > 0.6
    assert linear.fit(X, y.astype(float), groups=groups).predict(X, groups).shape == (len(y),)
