"""Predicted probabilities: the four kinds, against numerical integration and against what truly happens."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit, log_expit, logit
from scipy.stats import norm

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification


def _integral(mean, sd):
    """E expit(N(mean, sd^2)) by adaptive quadrature, split where the integrand bends."""
    if sd == 0:
        return expit(mean)
    bend = -mean / sd
    points = sorted({float(np.clip(bend + shift, -9, 9)) for shift in (-3 / sd, 0, 3 / sd)})
    value, _ = quad(
        lambda z: expit(mean + sd * z) * norm.pdf(z), -10, 10, points=points, epsabs=1e-13, limit=500
    )
    return value


@pytest.fixture(scope="module")
def data():
    return make_clustered_classification(
        800, 3, n_groups=40, covariance=[[4.0, 0.6], [0.6, 1.0]], random_state=5
    )


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    return MixedLogisticRegression("1 + x0 | group").fit(X, y, groups=groups)


def _pieces(model, X, groups):
    """Fixed part, z'mode, z'Vz of the posterior and z'Cz of the prior, row by row from the public tables."""
    modes = model.random_effects_["group"]
    prior = model.covariance_["group"].to_numpy()
    fixed = model.intercept_[0] + X @ model.coef_[0]
    z = np.column_stack([np.ones(len(X)), X[:, 0]])
    shift = np.sum(z * modes.loc[groups].to_numpy(), axis=1)
    return fixed, shift, z, np.einsum("ni,ij,nj->n", z, prior, z)


def test_known_groups_at_their_modes(data, model):
    X, _, groups = data
    fixed, shift, _, _ = _pieces(model, X, groups)
    np.testing.assert_allclose(
        model.predict_proba(X, groups=groups, predict_effects="mode")[:, 1], expit(fixed + shift), rtol=1e-10
    )


def test_typical_group(data, model):
    X, _, groups = data
    fixed, *_ = _pieces(model, X, groups)
    for given in (groups, None):
        found = model.predict_proba(X, groups=given, predict_effects="zero")[:, 1]
        np.testing.assert_allclose(found, expit(fixed), rtol=1e-10)


def test_population_average(data, model):
    X, _, groups = data
    fixed, _, _, variance = _pieces(model, X, groups)
    expected = [_integral(m, s) for m, s in zip(fixed[:30], np.sqrt(variance[:30]), strict=True)]
    known = model.predict_proba(X[:30], groups=groups[:30], predict_effects="marginal")[:, 1]
    unknown = model.predict_proba(X[:30], groups=np.full(30, -7))[:, 1]
    np.testing.assert_allclose(known, expected, atol=1e-8)
    np.testing.assert_allclose(unknown, expected, atol=1e-8)


def test_the_curvature_at_the_modes(data, model):
    """Conditional standard deviations are those of the inverse of the penalised information of the group."""
    X, _, groups = data
    fixed, shift, z, _ = _pieces(model, X, groups)
    p = expit(fixed + shift)
    precision = np.linalg.inv(model.covariance_["group"].to_numpy())
    label = groups[0]
    zg, weight = z[groups == label], (p * (1 - p))[groups == label]
    V = np.linalg.inv(zg.T @ (weight[:, None] * zg) + precision)
    np.testing.assert_allclose(
        model.random_effects_sd_["group"].loc[label], np.sqrt(np.diagonal(V)), rtol=1e-5
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spec", ["1 + x0 | group", "x0 || group", "1 + x0 + x1 | group"])
def test_fit_and_update_know_the_same_posterior(spec, seed):
    """Two ways to the modes and their covariances; where a column of the factor of the covariance changed its
    sign on the way to the optimum, the covariances must follow."""
    X, y, groups = make_clustered_classification(500, 2, n_groups=25, covariance=np.eye(3), random_state=seed)
    model = MixedLogisticRegression(spec).fit(X, y, groups=groups)
    updated = model.update_groups(X, y, groups=groups)
    np.testing.assert_allclose(
        model.predict_proba(X, groups=groups), updated.predict_proba(X, groups=groups), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("effects", ["posterior", "mode", "zero", "marginal"])
def test_the_methods_agree(data, model, effects):
    X, y, groups = data
    mixed = np.where(np.arange(len(y)) % 5 == 0, -1, groups)  # a fifth of the groups unknown
    proba = model.predict_proba(X, groups=mixed, predict_effects=effects)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(
        model.decision_function(X, groups=mixed, predict_effects=effects), logit(proba[:, 1]), rtol=1e-9
    )
    np.testing.assert_allclose(
        model.predict_log_proba(X, groups=mixed, predict_effects=effects), np.log(proba), rtol=1e-9
    )
    np.testing.assert_array_equal(
        model.predict(X, groups=mixed, predict_effects=effects),
        model.classes_[(proba[:, 1] > 0.5).astype(int)],
    )
    if effects == "posterior":
        accuracy = np.mean(model.predict(X, groups=mixed) == y)
        assert model.score(X, y, groups=mixed) == accuracy
        weights = np.arange(len(y))
        assert model.score(X, y, sample_weight=weights, groups=mixed) == pytest.approx(
            np.average(model.predict(X, groups=mixed) == y, weights=weights)
        )


def test_the_keyword_wins_over_the_parameter(data):
    X, y, groups = data
    mode = MixedLogisticRegression(predict_effects="mode").fit(X, y, groups=groups)
    posterior = MixedLogisticRegression().fit(X, y, groups=groups)
    np.testing.assert_array_equal(
        mode.predict_proba(X, groups=groups),
        posterior.predict_proba(X, groups=groups, predict_effects="mode"),
    )
    np.testing.assert_array_equal(
        mode.predict_proba(X, groups=groups, predict_effects="posterior"),
        posterior.predict_proba(X, groups=groups),
    )


def test_far_from_the_data(model):
    """Probabilities that round to 0 or 1 keep their logit and their logarithm, and their order."""
    X = np.array([[0.0, 0.0, 1.0]]) * np.linspace(-4000, 4000, 41)[:, None] / model.coef_[0, 2]
    for effects in ("zero", "marginal"):
        decision = model.decision_function(X, predict_effects=effects)
        assert np.isfinite(decision).all()
        assert (np.diff(decision) > 0).all()
        logs = model.predict_log_proba(X, predict_effects=effects)
        assert np.isfinite(logs).all()
        np.testing.assert_allclose(logs[:, 1], log_expit(decision), rtol=1e-6, atol=1e-300)
        proba = model.predict_proba(X, predict_effects=effects)
        assert ((proba >= 0) & (proba <= 1)).all()


def _calibration_slope(probability, y):
    """Slope of a logistic regression of y on the predicted logit: below 1 where predictions are too sure."""
    x = logit(probability)
    slope, intercept = 1.0, 0.0
    for _ in range(30):
        p = expit(intercept + slope * x)
        w = p * (1 - p)
        H = np.array([[w.sum(), w @ x], [w @ x, w @ x**2]])
        intercept, slope = np.array([intercept, slope]) + np.linalg.solve(H, [(y - p).sum(), (y - p) @ x])
    return slope


def test_new_groups_are_calibrated():
    """With a random-effect sd of 2, predicting new groups at 0 is too sure; the population average is not."""
    X, y, groups = make_clustered_classification(
        60_000, 2, n_groups=6_000, coef=[1.0, -0.8], covariance=4.0, random_state=0
    )
    old = groups < 3_000
    model = MixedLogisticRegression(n_quadrature=7).fit(X[old], y[old], groups=groups[old])
    integrated = model.predict_proba(X[~old], groups=groups[~old])[:, 1]
    at_zero = model.predict_proba(X[~old], groups=groups[~old], predict_effects="mode")[:, 1]
    assert _calibration_slope(integrated, y[~old]) == pytest.approx(1.0, abs=0.05)
    assert _calibration_slope(at_zero, y[~old]) == pytest.approx(0.63, abs=0.06)


def test_known_groups_are_calibrated():
    """The posterior mean allows for what is not known about a group; its mode alone does not."""
    X, y, groups = make_clustered_classification(
        40_000, 2, n_groups=4_000, coef=[1.0, -0.8], covariance=4.0, random_state=1
    )
    first = np.arange(len(y)) % 2 == 0
    model = MixedLogisticRegression(n_quadrature=7).fit(X[first], y[first], groups=groups[first])
    slopes = [
        _calibration_slope(
            model.predict_proba(X[~first], groups=groups[~first], predict_effects=e)[:, 1], y[~first]
        )
        for e in ("posterior", "mode")
    ]
    assert slopes[0] == pytest.approx(1.0, abs=0.07)
    assert slopes[1] < slopes[0] - 0.05


@pytest.mark.parametrize("kind", [np.int64, str])
def test_one_row_is_predicted_without_going_through_all_groups(kind):
    """No table of the groups is copied, nor one of their labels made anew."""
    groups = np.repeat(np.arange(40_000), 2)
    labels = groups if kind is np.int64 else np.char.add("g", groups.astype(str)).astype(object)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80_000, 2)), rng.integers(0, 2, 80_000)
    model = MixedLogisticRegression(n_threads=1, max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y, groups=labels)
    again = pickle.loads(pickle.dumps(model))
    for known in (model, again):
        known.predict_proba(X[:1], groups=labels[:1])  # the index of labels is made once
        tracemalloc.start()
        for row in (0, 77_777):
            known.predict_proba(X[row : row + 1], groups=labels[row : row + 1])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40_000  # bytes: a column of the tables has 320,000
