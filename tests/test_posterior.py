"""What is known of a group: predictions, updates and moments against dense numerical integration of its posterior."""

import pickle
import warnings
from dataclasses import replace

import links
import numpy as np
import pandas as pd
import pytest
from brute_force import GroupPosterior
from designs import Coded, posteriors
from scipy.special import expit
from sklearn.metrics import log_loss

from sklmm import MixedEffectEncoder, MixedLogisticRegression
from sklmm.datasets import load_ohio, make_clustered_classification
from sklmm.design.structure import FactorStructure, Structure
from sklmm.design.units import FitUnits, Units
from sklmm.exceptions import ForgottenGroupsWarning, SingularFitWarning
from sklmm.families import bernoulli
from sklmm.likelihood.combining import combined
from sklmm.likelihood.posterior import MAX_NODES

SIZES = [1, 1, 2, 3, 6, 12, 25, 50]  # rows of a group


def parameters(sds, correlation=0.3):
    """Relative covariance factor of correlated random coefficients, and where its entries stand in theta."""
    q = len(sds)
    R = np.full((q, q), correlation) + (1 - correlation) * np.eye(q)
    Lambda = np.array(sds)[:, None] * np.linalg.cholesky(R)
    return Lambda, np.concatenate([Lambda[col:, col] for col in range(q)])


class Groups:
    """Rows of groups with known parameters: an intercept, two features, random coefficients of `columns`."""

    def __init__(self, columns, sds, seed=0, repeats=4, weighted=False, link="logit"):
        self.link = link
        rng = np.random.default_rng(seed)
        self.Lambda, theta = parameters(sds)
        sizes = np.tile(SIZES, repeats)
        self.codes = np.repeat(np.arange(sizes.size), sizes)
        n = self.codes.size
        self.X = rng.normal(size=(n, 2)) * np.array([1.0, 0.7])
        self.columns, self.beta, self.intercept = columns, np.array([0.8, -0.5]), 0.4
        self.eta = self.intercept + self.X @ self.beta
        b = rng.normal(size=(sizes.size, len(sds))) @ self.Lambda.T
        p = links.probability(link, self.eta + np.sum(self.design(self.X) * b[self.codes], axis=1))
        self.y = (rng.random(n) < p).astype(np.uint8)
        self.y[self.codes < len(SIZES)] = 1  # all successes, all failures
        self.y[(self.codes >= len(SIZES)) & (self.codes < 2 * len(SIZES))] = 0
        self.w = rng.integers(1, 6, n).astype(float) if weighted else None
        x = np.concatenate([self.beta, [self.intercept], theta])
        structure = Structure([FactorStructure(sizes.size, columns, [(len(columns), True)])])
        self.units = FitUnits(Units.plain(2, structure), x, 2)
        self.n_groups = sizes.size

    def design(self, X):
        return np.column_stack([np.ones(len(X)) if c < 0 else X[:, c] for c in self.columns])

    def posterior(self, rows=slice(None)):
        """What the package makes of these rows."""
        factor = Coded(self.codes[rows], self.n_groups, self.columns, [(len(self.columns), True)])
        w = None if self.w is None else self.w[rows]
        (_, _, (posterior,), joint) = posteriors(
            self.X[rows], self.y[rows], factors=[factor], units=self.units, sample_weight=w,
            family=bernoulli(self.link),
        )  # fmt: skip
        assert joint is None
        return posterior

    def exact(self, group):
        rows = self.codes == group
        w = None if self.w is None else self.w[rows]
        covariance = self.Lambda @ self.Lambda.T
        return GroupPosterior(self.eta[rows], self.design(self.X[rows]), self.y[rows], covariance, w, self.link)


def largest_error(groups, posterior, which, spread=1.0):
    """Of probabilities of new rows in these groups: from far below the group's own level to far above it."""
    rng, worst = np.random.default_rng(1), 0.0
    for group in which:
        exact = groups.exact(group)
        X = spread * rng.normal(size=(24, 2))
        z = groups.design(X)
        eta = np.linspace(-6, 6, 24)
        eta[::2] -= z[::2] @ exact.mean  # half of them where the probability depends most on the group
        small, positive = posterior.tails(eta, z @ groups.Lambda, np.full(24, group), 1)
        found = np.where(positive, 1 - small, small)
        worst = max(worst, np.abs(found - exact.probability(eta, z)).max())
    return worst


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sd", [0.1, 0.3, 1.0, 2.0, 3.5, 5.0, 10.0])
def test_random_intercept(sd, weighted):
    groups = Groups([-1], [sd], weighted=weighted)
    assert largest_error(groups, groups.posterior(), range(groups.n_groups)) < 1e-4


@pytest.mark.parametrize("sd", [0.1, 1.0, 2.5, 5.0])
@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_random_intercept_of_other_links(link, sd):
    groups = Groups([-1], [sd], weighted=sd == 1.0, link=link)
    assert largest_error(groups, groups.posterior(), range(groups.n_groups)) < 1e-4


@pytest.mark.parametrize(
    "columns, sds, bound",
    [([0], [1.0], 1e-3), ([-1, 0], [0.5, 0.3], 1e-3), ([-1, 0], [1.0, 0.6], 3e-3), ([-1, 0, 1], [0.5, 0.3, 0.3], 2e-3)],
)
@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_random_slopes_of_other_links(link, columns, sds, bound):
    groups = Groups(columns, sds, weighted=len(sds) == 2, link=link)
    assert largest_error(groups, groups.posterior(), range(0, groups.n_groups, 1 if len(sds) < 3 else 5)) < bound


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
def test_what_two_sets_of_rows_said_of_other_links(link):
    """Their combined posterior is that of all rows."""
    groups = Groups([-1], [0.8], link=link)
    half = np.arange(len(groups.y)) % 2 == 0
    (units,) = groups.units.units.effect_units(groups.units.x, [1])
    both, _ = combined(groups.posterior(half), groups.posterior(~half), units)
    assert largest_error(groups, both, range(groups.n_groups)) < 1e-3


@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0])
def test_random_slope_alone(sd):
    groups = Groups([0], [sd], weighted=True)
    assert largest_error(groups, groups.posterior(), range(groups.n_groups)) < 1e-3


@pytest.mark.parametrize(
    "columns, sds, bound",
    [
        ([-1, 0], [0.6, 0.3], 3e-4),
        ([-1, 0], [1.0, 1.0], 3e-3),
        ([-1, 0], [2.0, 1.0], 3e-3),
        ([-1, 0, 1], [1.0, 0.5, 0.5], 1e-3),
        ([-1, 0, 1], [1.0, 0.8, 0.8], 3e-3),
    ],
)
def test_random_slopes(columns, sds, bound):
    groups = Groups(columns, sds, weighted=True)
    posterior = groups.posterior()
    assert posterior.grid.k <= MAX_NODES
    assert largest_error(groups, posterior, range(0, groups.n_groups, 1 if len(sds) == 2 else 5)) < bound


def test_very_large_groups_and_weights():
    """The posterior is narrow, and far out where all outcomes are alike."""
    groups = Groups([-1], [1.5])
    groups.w = np.full(len(groups.y), 3000.0)
    assert largest_error(groups, groups.posterior(), range(groups.n_groups)) < 1e-4


def test_moments():
    groups = Groups([-1, 0], [1.0, 0.6])
    posterior = groups.posterior()
    levels = np.arange(0, groups.n_groups, 3)
    for level, covariance in zip(levels, posterior.covariances(levels), strict=True):
        exact = groups.exact(level).covariance
        np.testing.assert_allclose(groups.Lambda @ covariance @ groups.Lambda.T, exact, atol=2e-3)


def test_four_coefficients_are_normal():
    """Beyond three random coefficients the posterior is taken as normal: better than at the mode, not exact."""
    columns, rng = [-1, 0, 1, 2], np.random.default_rng(0)
    X = np.column_stack([Groups([-1], [1.0]).X, rng.normal(size=len(Groups([-1], [1.0]).X))])
    codes = Groups([-1], [1.0]).codes
    b = 0.6 * rng.normal(size=(codes.max() + 1, 4))
    Z = np.column_stack([np.ones(len(X)), X])
    y = (rng.random(len(X)) < expit(0.3 + np.sum(Z * b[codes], axis=1))).astype(np.uint8)
    Lambda, theta = parameters([0.6] * 4, correlation=0.0)
    x = np.concatenate([np.zeros(3), [0.3], theta])
    factor = Coded(codes, int(codes.max()) + 1, columns, [(4, True)])
    units = FitUnits(Units.plain(3, Structure([factor])), x, 3)
    _, _, (posterior,), _ = posteriors(X, y, factors=[factor], units=units)
    for level in (5, 6, 7, 20):
        rows = codes == level
        exact = GroupPosterior(np.full(rows.sum(), 0.3), Z[rows], y[rows], 0.36 * np.eye(4))
        np.testing.assert_allclose(0.6 * posterior.mean[level], exact.mean, atol=0.02)
        distance = np.abs(0.6 * posterior.modes[level] - exact.mean).max()
        assert np.abs(0.6 * posterior.mean[level] - exact.mean).max() < 0.3 * distance + 1e-3


# Fitted models ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        900, 2, n_groups=150, covariance=[[4.0, 0.5], [0.5, 1.0]], random_state=3
    )
    return X, y, groups


@pytest.fixture(scope="module", params=["1 | group", "0 + x0 | group", "1 + x0 | group", "1 + x0 + x1 | group"])
def model(request, data):
    X, y, groups = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return MixedLogisticRegression(request.param).fit(X, y, groups=groups)


def test_predictions_are_means_over_the_posterior(data, model):
    """Rows of the fit, whatever units the fit has: the intercept, slopes and covariance are those it reports."""
    X, y, groups = data
    covariance = model.covariance_["group"].to_numpy() + 1e-9 * np.eye(len(model.covariance_["group"]))
    Z = np.column_stack([np.ones(len(X)) if c < 0 else X[:, c] for c in model._fitted.factors[0].columns])
    eta = model.intercept_[0] + X @ model.coef_[0]
    p = model.predict_proba(X, groups=groups)[:, 1]
    for group in (0, 1, 17, 149):
        rows = groups == group
        exact = GroupPosterior(eta[rows], Z[rows], y[rows], covariance).probability(eta[rows], Z[rows])
        np.testing.assert_allclose(p[rows], exact, atol=3e-3 if Z.shape[1] > 1 else 5e-4)


def test_the_posterior_does_not_depend_on_how_the_likelihood_is_approximated(data):
    """Laplace's parameters, given to a model that integrates: the same posteriors."""
    X, y, groups = data
    laplace, nodes = (MixedLogisticRegression(n_quadrature=k).fit(X, y, groups=groups) for k in (1, 7))
    expected = laplace.predict_proba(X, groups=groups)
    for name in ("coef_", "intercept_"):
        setattr(nodes, name, getattr(laplace, name))
    nodes._fitted = replace(nodes._fitted, units=laplace._fitted.units)
    nodes._fitted.factors[0].units = laplace._fitted.factors[0].units
    with pytest.warns(ForgottenGroupsWarning):
        again = nodes.update_groups(X, y, groups=groups)
    np.testing.assert_allclose(again.predict_proba(X, groups=groups), expected, atol=1e-7)


def test_last_visit_of_the_ohio_children():
    """Predicted from the first three: the exact posterior means score 0.293, a normal at the mode 0.305."""
    visits, wheezes, child = load_ohio(return_X_y=True, as_frame=True)
    last = (visits["age"] == visits["age"].max()).to_numpy()
    model = MixedLogisticRegression(n_quadrature=25).fit(visits[~last], wheezes[~last], groups=child[~last])
    found = model.predict_proba(visits[last], groups=child[last])[:, 1]
    assert log_loss(wheezes[last], found) == pytest.approx(0.293, abs=6e-4)
    rows = np.flatnonzero(last)[::40]
    first = visits[~last].to_numpy(), wheezes[~last].to_numpy(), child[~last].to_numpy()
    for row in rows:
        own = first[2] == child.iloc[row]
        eta = model.intercept_[0] + first[0][own] @ model.coef_[0]
        (covariance,) = model.covariance_.values()
        exact = GroupPosterior(eta, np.ones((own.sum(), 1)), first[1][own], covariance.to_numpy())
        new = model.intercept_ + visits.iloc[row].to_numpy() @ model.coef_[0]
        assert found[np.flatnonzero(last) == row] == pytest.approx(exact.probability(new, np.ones((1, 1))), abs=1e-4)


def test_methods_agree_where_the_posterior_is_skewed():
    """A class is predicted by its probability: a skewed distribution carries it across 1/2."""
    groups = np.repeat(np.arange(60), 4)
    y = np.where(groups < 40, 0, np.arange(240) % 2)
    model = MixedLogisticRegression().fit(np.empty((240, 0)), y, groups=groups)
    labels = np.array([0, 59, 999])
    X = np.empty((3, 0))
    proba = model.predict_proba(X, groups=labels)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(model.predict_log_proba(X, groups=labels), np.log(proba), rtol=1e-10)
    np.testing.assert_allclose(
        model.decision_function(X, groups=labels), np.log(proba[:, 1]) - np.log(proba[:, 0]), rtol=1e-9
    )
    np.testing.assert_array_equal(model.predict(X, groups=labels), (proba[:, 1] > 0.5).astype(int))
    shifts = np.linspace(-8, 8, 4001)
    posterior, Lambda = model._fitted.factors[0].posterior, model._fitted.factors[0].units.Lambda
    small, positive = posterior.tails(shifts, np.full((4001, 1), Lambda[0, 0]), np.zeros(4001, dtype=int), 1)
    assert (small <= 0.5).all() and (np.diff(positive.astype(int)) >= 0).all()
    at_mode = shifts + Lambda[0, 0] * posterior.modes[0, 0] > 0
    assert (positive != at_mode).any()


@pytest.mark.parametrize("spec", ["1 | group", "1 + x0 | group"])
def test_far_from_the_data(data, spec):
    """Logits and logarithms of probabilities that underflow go on, in order."""
    X, y, groups = data
    model = MixedLogisticRegression(spec).fit(X, y, groups=groups)
    far = np.zeros((41, 2))
    far[:, 1] = np.linspace(-3000, 3000, 41) / model.coef_[0, 1]
    logits = model.decision_function(far, groups=np.full(41, groups[0]))
    assert np.isfinite(logits).all() and (np.diff(logits) > 0).all()
    logs = model.predict_log_proba(far, groups=np.full(41, groups[0]))
    assert np.isfinite(logs).all()
    assert logs[0, 1] == pytest.approx(logits[0], abs=1e-6)


def test_order_of_rows_threads_and_pickles(data, model):
    X, y, groups = data
    expected = model.predict_proba(X, groups=groups)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X, groups=groups), expected)
    spec, order = model.random_effects, np.random.default_rng(0).permutation(len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        shuffled = MixedLogisticRegression(spec).fit(X[order], y[order], groups=groups[order])
        threads = MixedLogisticRegression(spec, n_threads=3).fit(X, y, groups=groups)
    np.testing.assert_allclose(shuffled.predict_proba(X, groups=groups), expected, atol=1e-6)
    np.testing.assert_array_equal(threads.predict_proba(X, groups=groups), expected)
    labels = np.char.add("g", groups.astype(str))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        named = MixedLogisticRegression(spec).fit(X, y, groups=labels)
    np.testing.assert_allclose(named.predict_proba(X, groups=labels), expected, atol=1e-6)


def test_size_of_the_model():
    """A few numbers a group: eight nodes where the standard deviation is at most 1."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20_000), 3)
    y = (rng.random(60_000) < expit(0.8 * rng.normal(size=20_000)[groups])).astype(int)
    model = MixedLogisticRegression(n_quadrature=5).fit(np.empty((60_000, 0)), y, groups=groups)
    posterior = model._fitted.factors[0].posterior
    assert posterior.weights.shape == (20_000, 8) and posterior.weights.dtype == np.float32
    assert len(pickle.dumps(posterior)) < 60 * 20_000


# Updates ------------------------------------------------------------------------------------------------------------


def update(model, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForgottenGroupsWarning)
        return model.update_groups(*args, **kwargs)


def test_update_with_the_rows_of_the_fit(data, model):
    X, y, groups = data
    again = update(model, X, y, groups=groups)
    np.testing.assert_allclose(again.predict_proba(X, groups=groups), model.predict_proba(X, groups=groups), atol=1e-7)


@pytest.mark.parametrize("share", [0.5, 0.15])
def test_rows_in_two_halves_are_all_rows_at_once(data, model, share):
    X, y, groups = data
    labels = groups + 1000
    first = np.random.default_rng(0).random(len(y)) < share
    halves = model.update_groups(X[first], y[first], groups=labels[first])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        halves = halves.update_groups(X[~first], y[~first], groups=labels[~first], keep=True)
    once = model.update_groups(X, y, groups=labels)
    difference = np.abs(halves.predict_proba(X, groups=labels) - once.predict_proba(X, groups=labels))
    several = len(model._fitted.factors[0].columns) > 1
    assert difference.max() < (0.015 if several else 2e-4) and difference.mean() < (6e-4 if several else 1e-5)
    modes, expected = (m.random_effects_["group"].sort_index().to_numpy() for m in (halves, once))
    np.testing.assert_allclose(modes, expected, atol=0.15 if several else 0.02)
    sds, expected = (m.random_effects_sd_["group"].sort_index().to_numpy() for m in (halves, once))
    np.testing.assert_allclose(sds, expected, rtol=0.2 if several else 0.03)
    # what neither half has touched is as it was
    np.testing.assert_array_equal(halves.predict_proba(X, groups=groups), model.predict_proba(X, groups=groups))


@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0, 6.0])
def test_one_row_more(sd):
    """Row by row, eight times over: what is known is the posterior of all the rows."""
    groups = Groups([-1], [sd], repeats=3)
    labels = np.arange(groups.n_groups)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = np.tile([0, 1], 100)
    model = MixedLogisticRegression().fit(X, y, groups=np.tile(labels[:10], 20))
    factor = model._fitted.factors[0]
    model.coef_, model.intercept_ = groups.beta[None], np.array([groups.intercept])
    model._fitted = replace(model._fitted, units=groups.units)
    factor.units.Lambda[:] = sd
    factor.levels, factor.posterior, factor.mode_cov = pd.Index(labels), groups.posterior(), np.zeros((24, 1, 1))
    rows_X, rows_y, rows_g = [groups.X], [groups.y], [groups.codes]
    for step in range(8):
        new = rng.normal(size=(24, 2)), rng.integers(0, 2, 24) if step < 6 else np.ones(24, int)
        model = model.update_groups(*new, groups=labels, keep=True)
        for kept, more in zip((rows_X, rows_y, rows_g), (*new, labels), strict=True):
            kept.append(more)
    groups.X, groups.y, groups.codes = np.concatenate(rows_X), np.concatenate(rows_y), np.concatenate(rows_g)
    groups.eta = groups.intercept + groups.X @ groups.beta
    at = model._fitted.factors[0].levels.get_indexer(labels)
    assert largest_error(groups, model._fitted.factors[0].posterior.take(at), range(groups.n_groups)) < 1e-3


def test_forty_rows_are_not_forgotten():
    """One more row of a group known from 40 moves it by a row, not to where that row alone would have it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 40)
    y = (rng.random(1200) < expit(1.5 * rng.normal(size=30)[groups])).astype(int)
    y[:40] = np.arange(40) % 10 > 0
    X = np.empty((1200, 0))
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    before = model.predict_proba(X[:1], groups=[0])[0, 1]
    with pytest.warns(ForgottenGroupsWarning, match=r"of group 0 by what these rows say; pass keep=True"):
        forgot = model.update_groups(X[:1], [0], groups=[0])
    assert forgot.predict_proba(X[:1], groups=[0])[0, 1] < 0.5 < before
    added = model.update_groups(X[:1], [0], groups=[0], keep=True).predict_proba(X[:1], groups=[0])[0, 1]
    exact = GroupPosterior(
        np.full(41, model.intercept_[0]), np.ones((41, 1)), np.append(y[:40], 0), model.covariance_["group"].to_numpy()
    )
    assert added == pytest.approx(exact.probability(model.intercept_, np.ones((1, 1)))[0], abs=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.update_groups(X[:1], [0], groups=[1000])
    with pytest.warns(ForgottenGroupsWarning, match="of group 0 and of 2 other groups"):
        model.update_groups(X[:3], [0, 1, 1], groups=[0, 1, 2])


@pytest.mark.parametrize("factors", [["1 | a", "1 | b"], ["1 + x0 | a", "1 | b"], "1 | a/b", "1 + x0 + x1 + x2 | a"])
def test_two_halves_where_posteriors_are_normal(factors):
    """Several factors, or more than three coefficients: what is known counts as normal, and groups as independent."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 3))
    groups = pd.DataFrame({"a": rng.integers(0, 40, 3000), "b": rng.integers(0, 12, 3000)})
    effects = rng.normal(size=40)[groups["a"]] + 0.7 * rng.normal(size=(40, 12))[groups["a"], groups["b"]]
    y = (rng.random(3000) < expit(0.5 * X[:, 0] + effects)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model = MixedLogisticRegression(factors).fit(X, y, groups=groups[["a"]] if "x2" in factors else groups)
    labels = groups + 1000
    labels = labels[["a"]] if "x2" in factors else labels
    first = rng.random(3000) < 0.5
    half = model.update_groups(X[first], y[first], groups=labels[first])
    both = half.update_groups(X[~first], y[~first], groups=labels[~first], keep=True)
    once = model.update_groups(X, y, groups=labels).predict_proba(X, groups=labels)
    difference = np.abs(both.predict_proba(X, groups=labels) - once)
    forgotten = np.abs(update(half, X[~first], y[~first], groups=labels[~first]).predict_proba(X, groups=labels) - once)
    nested = factors == "1 | a/b"  # a class and its school, known from the same rows, are far from independent
    assert difference.mean() < (0.01 if nested else 5e-3)
    assert difference.mean() < (0.4 if nested else 0.2) * forgotten.mean()


# The encoder --------------------------------------------------------------------------------------------------------


def test_encoded_probabilities():
    rng = np.random.default_rng(4)
    shop = rng.integers(0, 200, 900)
    y = (rng.random(900) < expit(-1 + 2.5 * rng.normal(size=200)[shop])).astype(int)
    encoder = MixedEffectEncoder("probability").fit(shop[:, None], y)
    covariance = encoder.sd_[None] ** 2
    for category in range(0, 200, 20):
        own = y[shop == encoder.categories_[0][category]]
        eta = np.full(own.size, encoder.intercept_[0])
        exact = GroupPosterior(eta, np.ones((own.size, 1)), own, covariance).probability(eta[:1], np.ones((1, 1)))
        assert encoder.encodings_[0][category] == pytest.approx(exact[0], abs=1e-4)
