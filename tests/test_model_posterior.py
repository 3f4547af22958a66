"""`model.posterior` against long chains, exact integrals and published values; its promises."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from long_chains import grid_of_linear, log_likelihood, metropolis
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import expit

from sklmm import MixedLinearRegression, MixedLogisticRegression
from sklmm.datasets import load_bacteria, load_contraception, load_penicillin, load_sleepstudy
from sklmm.exceptions import PosteriorWarning, RecurringGroupsWarning, SingularFitWarning
from sklmm.priors import LKJ, Exponential, Gamma, HalfNormal, HalfStudentT, InverseWishart, Normal, Wishart

PRIORS = {"fixed": Normal(0, 2.5), "intercept": Normal(0, 5), "sd": HalfStudentT(3, 2.5)}


def contraception():
    frame = load_contraception(as_frame=True).frame
    columns = [frame.age, frame.age**2 / 100, frame.urban == "Y", frame.ch == "Y"]
    X = np.column_stack(columns).astype(float)
    return X - X.mean(axis=0), frame.use.to_numpy(), frame.district.to_numpy()


@pytest.fixture(scope="module")
def women():
    return contraception()


@pytest.fixture(scope="module")
def contraceptive_posterior(women):
    X, y, groups = women
    model = MixedLogisticRegression(n_quadrature=9).fit(X, y, groups=groups)
    return model.posterior(X, y, groups, priors=PRIORS, random_state=1)


def test_contraception(contraceptive_posterior):
    """Means, deviations, quantiles and evidence of long NUTS chains and of many more points."""
    found = contraceptive_posterior.summary()
    means, sds = [-0.562, 0.0064, -0.4667, 0.691, 0.862, 0.504], [0.0885, 0.0079, 0.0725, 0.121, 0.148, 0.086]
    assert (np.abs(found["mean"] - means) < 0.03 * np.array(sds) + 5e-4).all()
    assert_allclose(found["sd"], sds, rtol=0.03)
    assert_allclose(contraceptive_posterior.quantile([0.05, 0.5, 0.95]).iloc[-1], [0.374, 0.499, 0.654], atol=0.006)
    assert abs(contraceptive_posterior.log_evidence_ - -1208.987) < 0.03
    assert contraceptive_posterior.pareto_k_ < 0.5
    assert contraceptive_posterior.effective_size_ > 700


def test_contraception_by_laplace(women):
    X, y, groups = women
    found = MixedLogisticRegression().fit(X, y, groups=groups).posterior(X, y, groups, priors=PRIORS, random_state=1)
    assert abs(found.log_evidence_ - -1209.135) < 0.03
    assert abs(found.summary()["mean"].iloc[-1] - 0.501) < 0.004


def test_bacteria():
    """Means with the default number of draws; quantiles, which say less a draw, with more."""
    frame = load_bacteria(as_frame=True).frame
    X = np.column_stack([frame.trt == "drug", frame.trt == "drug+", frame.week > 2]).astype(float)
    model = MixedLogisticRegression(n_quadrature=25).fit(X, frame.y, groups=frame.ID)
    found = model.posterior(X, frame.y, frame.ID, priors=PRIORS, random_state=2)
    sds = found.summary()["sd"]
    assert (np.abs(found.summary()["mean"] - [3.678, -1.263, -0.700, -1.660, 1.555]) < 0.03 * sds).all()
    assert abs(sds.iloc[-1] - 0.480) < 0.015
    assert abs(found.log_evidence_ - -105.12) < 0.03
    many = model.posterior(X, frame.y, frame.ID, priors=PRIORS, random_state=2, n_draws=8192)
    assert_allclose(many.quantile([0.05, 0.5, 0.95]).iloc[-1], [0.835, 1.518, 2.395], atol=0.03 * 0.48 + 1e-3)


# Long chains ---------------------------------------------------------------------------------------------------------


def clusters(n_groups, size, sd, seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    X = rng.normal(size=(groups.size, 1))
    y = (rng.random(groups.size) < expit(0.3 + 0.8 * X[:, 0] + sd * rng.normal(size=n_groups)[groups])).astype(int)
    return X, y, groups


@pytest.mark.parametrize(("n_groups", "size", "sd", "seed"), [(6, 20, 0.4, 3), (6, 20, 1.5, 4), (4, 8, 0.8, 5)])
def test_few_groups(n_groups, size, sd, seed):
    X, y, groups = clusters(n_groups, size, sd, seed)
    model = MixedLogisticRegression(n_quadrature=21)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        found = model.fit(X, y, groups=groups).posterior(X, y, groups, priors=PRIORS, random_state=0)
    assert found.pareto_k_ < 0.7

    def log_density(z):
        beta, deviation = z[:, :2], np.exp(z[:, 2])
        prior = stats.norm.logpdf(beta, 0.0, [5.0, 2.5]).sum(axis=1) + stats.t.logpdf(deviation / 2.5, 3) + z[:, 2]
        return log_likelihood(X, y, groups, beta, deviation) + prior

    table = found.summary()
    start = np.append(table["mean"][:2], np.log(table["median"].iloc[-1]))
    chains = metropolis(log_density, start, np.append(table["sd"][:2], 0.6), seed=seed)
    chains[:, :, 2] = np.exp(chains[:, :, 2])
    flat, by_chain = chains.reshape(-1, 3), chains.mean(axis=1)
    error = by_chain.std(axis=0, ddof=1) / np.sqrt(len(chains))
    own = flat.std(axis=0) * 0.03
    assert (np.abs(table["mean"] - flat.mean(axis=0)) < 3.5 * np.hypot(error, own)).all()
    assert_allclose(table["sd"], flat.std(axis=0), rtol=0.12)
    assert_allclose(table["median"], np.median(flat, axis=0), atol=3.5 * np.hypot(error, own).max())


def test_a_singular_fit_has_a_posterior():
    X, y, groups = clusters(6, 20, 0.0, 5)
    with pytest.warns(SingularFitWarning):
        model = MixedLogisticRegression(n_quadrature=15).fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, priors=PRIORS, random_state=0)
    assert found.pareto_k_ < 0.7
    sd = found.summary().loc["sd_intercept|group"]
    assert 0.05 < sd["mean"] < 1.0
    many = model.posterior(X, y, groups, priors=PRIORS, random_state=9, n_draws=8192)
    assert abs(many.summary().loc["sd_intercept|group", "mean"] - sd["mean"]) < 0.05 * sd["sd"]


def test_a_slope_and_its_correlation(women):
    """Two seeds and eight times the points agree; a prior of the covariance matrix is one of sds and correlation."""
    X, y, groups = women
    frame = pd.DataFrame(X, columns=["age", "age2", "urban", "ch"]).assign(district=groups, use=y)
    model = MixedLogisticRegression.from_formula("use ~ age + age2 + urban + ch + (1 + urban | district)", frame)
    priors = PRIORS | {"correlation": LKJ(2.0)}
    found = model.posterior(frame, priors=priors, random_state=0)
    many = model.posterior(frame, priors=priors, random_state=5, n_draws=2048).summary()
    assert found.pareto_k_ < 0.7
    assert (np.abs(found.summary()["mean"] - many["mean"]) < 0.06 * many["sd"]).all()
    assert -1.0 < found.summary().loc["cor_urban.intercept|district", "mean"] < -0.3
    flat = model.posterior(frame, priors=PRIORS | {"sd": HalfNormal(1.0)}, random_state=0, n_draws=64)
    assert not hasattr(flat, "log_evidence_")  # no prior of the correlation


def test_a_wishart_prior_is_of_deviations_and_correlations(women):
    """The evidence under an inverse Wishart prior, by its draws of the covariance matrix: plain Monte Carlo."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(8), 4)
    X = rng.normal(size=(32, 1))
    y = (rng.random(32) < 0.5).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model = MixedLogisticRegression("1 + x0 | group", n_quadrature=5).fit(X, y, groups=groups)
    for density in (InverseWishart(4.0, 1.0), Wishart(4.0, 0.2)):
        priors = {"fixed": Normal(0, 0.5), "intercept": Normal(0, 0.5), "covariance": density}
        found = model.posterior(X, y, groups, priors=priors, random_state=0)
        draws = density.rvs(1000, random_state=rng, dim=2)
        beta = rng.normal(0.0, 0.5, size=(1000, 2))
        units, engine = found.engine.units, found.engine
        values = []
        for b, D in zip(beta, draws, strict=True):
            root = np.linalg.cholesky(D)
            values.append(engine.value(units.internal(b, root[[0, 1, 1], [0, 0, 1]])))
        values = np.exp(np.array(values) - max(values)), max(values)
        expected = np.log(values[0].mean()) + values[1]
        error = values[0].std() / values[0].mean() / np.sqrt(1000)
        assert abs(found.log_evidence_ - expected) < 4.0 * np.hypot(error, found.log_evidence_error_)


def test_a_gamma_prior_is_sampled_on_the_log_scale(women):
    """The evidence under gamma(2.5) is that under half-t, reweighted."""
    X, y, groups = clusters(6, 20, 1.0, 4)
    model = MixedLogisticRegression(n_quadrature=15).fit(X, y, groups=groups)
    plain = model.posterior(X, y, groups, priors=PRIORS, random_state=0)
    gamma = model.posterior(X, y, groups, priors=PRIORS | {"sd": Gamma(2.5, 1.0)}, random_state=0)
    assert gamma.coordinates.logarithms.all()
    sd = plain.values[:, -1]
    ratio = np.exp(Gamma(2.5, 1.0).log_density(sd) - HalfStudentT(3, 2.5).log_density(sd))
    expected = plain.log_evidence_ + np.log(plain.points.weights @ ratio)
    assert abs(gamma.log_evidence_ - expected) < 0.05


def test_the_linear_model_is_its_exact_posterior():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(7), 4)
    X = np.column_stack([np.ones(28), rng.normal(size=28)])
    y = X @ [1.0, 0.5] + 0.8 * rng.normal(size=7)[groups] + rng.normal(size=28)
    priors = {"fixed": Normal(0, 2), "intercept": Normal(0, 3), "sd": HalfNormal(1.5), "residual_sd": Exponential(1)}
    model = MixedLinearRegression().fit(X[:, 1:], y, groups=groups)
    found = model.posterior(X[:, 1:], y, groups, priors=priors, random_state=0)
    sds, sigmas = np.arange(0.05, 5.0, 0.1), np.arange(0.4, 2.8, 0.1)  # midpoints
    evidence, mean, sd = grid_of_linear(
        X, y, groups, sds, sigmas, np.array([3.0, 2.0]),
        lambda a, b: stats.halfnorm.logpdf(a, scale=1.5) + stats.expon.logpdf(b),
    )  # fmt: skip
    assert found.pareto_k_ < 0.7
    assert abs(found.log_evidence_ - evidence) < 0.02
    assert (np.abs(found.summary()["mean"] - mean) < 0.03 * sd).all()
    assert_allclose(found.summary()["sd"], sd, rtol=0.04)


# Promises ------------------------------------------------------------------------------------------------------------


def test_same_seed_same_draws_for_any_number_of_threads(women):
    X, y, groups = women
    found = []
    for n_threads in (1, 3):
        model = MixedLogisticRegression(n_quadrature=3, n_threads=n_threads).fit(X, y, groups=groups)
        found.append(model.posterior(X, y, groups, random_state=7, n_draws=256).draws)
    pd.testing.assert_frame_equal(*found, check_exact=True)
    other = model.posterior(X, y, groups, random_state=8, n_draws=256).draws
    assert not other.equals(found[0])


def test_the_order_of_rows_does_not_matter(women):
    X, y, groups = women
    order = np.random.default_rng(0).permutation(len(y))
    tables = []
    for rows in (slice(None), order):
        model = MixedLogisticRegression().fit(X[rows], y[rows], groups=groups[rows])
        tables.append(model.posterior(X[rows], y[rows], groups[rows], random_state=0, n_draws=256).summary())
    assert_allclose(tables[0]["mean"], tables[1]["mean"], atol=0.05 * tables[0]["sd"].min())


def test_weights_count_rows(women):
    X, y, groups = (part[:300] for part in women)
    twice = [np.concatenate([part, part]) for part in (X, y, groups)]
    one = MixedLogisticRegression().fit(X, y, groups=groups, sample_weight=np.full(300, 2.0))
    two = MixedLogisticRegression().fit(twice[0], twice[1], groups=twice[2])
    first = one.posterior(X, y, groups, sample_weight=np.full(300, 2.0), random_state=0, n_draws=256)
    second = two.posterior(*twice, random_state=0, n_draws=256)
    assert_allclose(first.log_evidence_, second.log_evidence_, atol=0.05)


def test_the_models_own_priors_are_the_default(women):
    X, y, groups = women
    model = MixedLogisticRegression(priors=PRIORS).fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, random_state=0, n_draws=256)
    assert found.prior is model.priors_
    plain = MixedLogisticRegression().fit(X, y, groups=groups)
    assert plain.posterior(X, y, groups, random_state=0, n_draws=256).prior.chosen == "weak"


def test_improper_priors_have_no_evidence(women):
    X, y, groups = women
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, priors={"sd": HalfNormal(1.0)}, random_state=0, n_draws=256)
    with pytest.raises(AttributeError, match="'intercept', 'x0'.*is improper"):
        found.log_evidence_  # noqa: B018
    assert "evidence" not in repr(found)


def test_wrong_rows_and_arguments(women):
    X, y, groups = women
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="not the rows of the fit"):
        model.posterior(X, 1 - y, groups)
    with pytest.raises(ValueError, match="needs the rows of the fit"):
        model.posterior(X[:-1], y[:-1], groups[:-1])
    with pytest.raises(ValueError, match="n_draws must be an integer"):
        model.posterior(X, y, groups, n_draws=0)
    with pytest.raises(ValueError, match="'soft' is for binary outcomes|must be None, 'weak'"):
        model.posterior(X, y, groups, priors="soft")
    with pytest.raises(ValueError, match="no parameter 'nothing'"):
        model.posterior(X, y, groups, priors={"nothing": Normal(0, 1)})


def test_columns_that_were_left_out_are_not_among_the_draws(women):
    X, y, groups = women
    X = np.column_stack([X, X[:, 0]])
    with pytest.warns(UserWarning, match="x4"):
        model = MixedLogisticRegression().fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, random_state=0, n_draws=256)
    assert "x4" not in found.draws
    assert np.isfinite(found.predict_proba(X[:3], groups[:3])).all()


def test_separated_classes():
    rng = np.random.default_rng(0)
    X = np.repeat([0.0, 1.0], 60)[:, None]
    y = np.where(X[:, 0] == 1, 1, (rng.random(120) < 0.5)).astype(int)
    groups = np.tile(np.arange(12), 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLogisticRegression().fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, random_state=0)
    slope = found.summary().loc["x0"]
    assert 2.0 < slope["mean"] < 10.0
    assert found.probability("x0 > 0") > 0.999


def test_crossed_factors_and_no_groups():
    plates = load_penicillin(as_frame=True).frame
    model = MixedLinearRegression.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", plates)
    found = model.posterior(plates, random_state=0, n_draws=256)
    assert found.pareto_k_ < 0.7
    assert abs(found.summary().loc["sigma", "mean"] - 0.55) < 0.02
    effects = found.group_effects("sample")
    shift = effects["mean"].to_numpy() - model.random_effects_["sample"]["intercept"].to_numpy()
    assert np.abs(shift - shift.mean()).max() < 0.1  # the intercept's uncertainty moves all of them
    with pytest.raises(ValueError, match="several grouping factors"):
        found.leave_group_out()
    assert_allclose(found.predict(plates), model.predict(plates), atol=0.05)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 2)), rng.integers(0, 2, 80)
    with pytest.warns(UserWarning, match="no groups"):
        plain = MixedLogisticRegression().fit(X, y)
    table = plain.posterior(X, y, random_state=0).summary()
    assert list(table.index) == ["intercept", "x0", "x1"]


def test_poor_weights_are_told(women, monkeypatch):
    X, y, groups = (part[:200] for part in women)
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    found = model.posterior(X, y, groups, random_state=0, n_draws=64)
    object.__setattr__(found.points, "pareto_k", 0.9)
    with pytest.warns(PosteriorWarning, match="Pareto k of 0.90.*n_draws=128"):
        found.warn_if_poor()


def test_it_can_be_pickled(contraceptive_posterior, women):
    X, _, groups = women
    again = pickle.loads(pickle.dumps(contraceptive_posterior))
    assert_allclose(again.predict_proba(X[:5], groups[:5]), contraceptive_posterior.predict_proba(X[:5], groups[:5]))


# Updating ------------------------------------------------------------------------------------------------------------


def test_half_of_the_districts_and_then_the_others(women):
    X, y, groups = women
    half = groups % 2 == 0
    prior = PRIORS
    for part in (half, ~half):
        model = MixedLogisticRegression(n_quadrature=9).fit(X[part], y[part], groups=groups[part])
        found = model.posterior(X[part], y[part], groups[part], priors=prior, random_state=0)
        prior = found.as_priors()
    model = MixedLogisticRegression(n_quadrature=9).fit(X, y, groups=groups)
    both = model.posterior(X, y, groups, priors=PRIORS, random_state=0).summary()
    assert (np.abs(found.summary()["mean"] - both["mean"]) < 0.05 * both["sd"]).all()
    assert_allclose(found.summary()["sd"], both["sd"], rtol=0.03)
    with pytest.warns(RecurringGroupsWarning, match="30 of 60 groups|60 groups"):
        model.posterior(X, y, groups, priors=prior, random_state=0, n_draws=64)


def test_a_prior_of_other_parameters_is_refused(women, contraceptive_posterior):
    X, y, groups = women
    model = MixedLogisticRegression().fit(X[:, :2], y, groups=groups)
    with pytest.raises(ValueError, match="update a model of the same terms"):
        model.posterior(X[:, :2], y, groups, priors=contraceptive_posterior.as_priors())


def test_a_joint_prior_is_the_posterior():
    """Its log density at the draws is the posterior's, normalised; its normal part integrates to 1."""
    frame = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", frame)
    found = model.posterior(frame, random_state=0)
    prior, coordinates = found.as_priors(), found.coordinates
    z = found.points.points
    expected = found.points.log_density - found.log_evidence_ - coordinates.log_jacobian(z)
    error = prior.log_density(coordinates.user(z)) - expected
    assert np.sqrt(found.points.weights @ error**2) < 0.25
    assert prior.names[-1] == "sigma"
    normal = stats.multivariate_normal(prior.mean, prior.covariance)
    draws = normal.rvs(50, random_state=0)
    assert_allclose(prior.normal(draws), normal.logpdf(draws), atol=1e-6)


# Calibration ---------------------------------------------------------------------------------------------------------


def test_ranks_of_true_parameters_are_uniform():
    """Parameters and outcomes drawn from the model: how often draws are below the truth (Cook, Gelman, Rubin 2006)."""
    priors = {"fixed": Normal(0, 1), "intercept": Normal(0, 1), "sd": HalfNormal(1.0)}
    rng, ranks = np.random.default_rng(21), []
    for _ in range(40):
        beta, sd = rng.normal(size=2), abs(rng.normal())
        groups = np.repeat(np.arange(10), 6)
        X = rng.normal(size=(60, 1))
        eta = beta[0] + beta[1] * X[:, 0] + sd * rng.normal(size=10)[groups]
        y = (rng.random(60) < expit(eta)).astype(int)
        if y.min() == y.max():
            y[0] = 1 - y[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = MixedLogisticRegression(n_quadrature=15).fit(X, y, groups=groups)
            found = model.posterior(X, y, groups, priors=priors, random_state=0, n_draws=128)
        ranks.append(found.points.weights @ (found.values < [*beta, sd]))
    counts = [np.histogram(column, np.linspace(0, 1, 5))[0] for column in np.array(ranks).T]
    assert min(stats.chisquare(each).pvalue for each in counts) > 0.01
