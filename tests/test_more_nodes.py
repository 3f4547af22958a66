"""What is said of Laplace's error, and n_quadrature="auto", against fits with many nodes."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from designs import Coded, fitted
from sklearn.base import clone

from sklmm import MixedLogisticRegression, likelihood_ratio_test
from sklmm.datasets import load_contraception, make_clustered_classification
from sklmm.exceptions import LaplaceWarning, SingularFitWarning
from sklmm.likelihood.more_nodes import _stride, next_nodes, shift


def panel(seed, sd=4.0, n_groups=300, size=7):
    """Visits of persons, as in trials of toenail treatments: few rows a group, which differ much."""
    rng = np.random.default_rng(seed)
    groups, time = np.repeat(np.arange(n_groups), size), np.tile(np.arange(size) / 3, n_groups)
    treated = rng.integers(0, 2, n_groups)[groups]
    eta = -1.5 - 0.5 * time - 0.3 * treated * time + sd * rng.normal(size=n_groups)[groups]
    y = (rng.random(eta.size) < 1 / (1 + np.exp(-eta))).astype(int)
    return pd.DataFrame({"treated": treated, "time": time, "both": treated * time}), y, groups


def estimates(model):
    (covariance,) = model.covariance_.values()
    sds = np.sqrt(np.diagonal(covariance))
    return np.r_[model.intercept_, model.coef_[0], sds]


def errors(model):
    """Standard errors of the same, of a model with a random intercept."""
    return np.sqrt(np.diagonal(model._fitted.vcov))


def silent_fit(model, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LaplaceWarning)
        return model.fit(*args, **kwargs)


@pytest.mark.parametrize("seed", range(4))
def test_panels(seed):
    X, y, groups = panel(seed)
    with pytest.warns(LaplaceWarning, match=r"off by .*n_quadrature='auto'") as record:
        laplace = MixedLogisticRegression().fit(X, y, groups=groups)
    assert record[0].filename == __file__
    assert str(record[0].message) in " ".join(str(laplace.summary()).split())
    assert laplace.n_quadrature_ == 1
    auto = silent_fit(MixedLogisticRegression(n_quadrature="auto"), X, y, groups=groups)
    exact = silent_fit(MixedLogisticRegression(n_quadrature=51), X, y, groups=groups)
    assert 8 <= auto.n_quadrature_ <= 104
    assert f"{auto.n_quadrature_} nodes" in str(auto.summary())
    np.testing.assert_allclose((estimates(auto) - estimates(exact)) / errors(exact), 0.0, atol=0.01)
    np.testing.assert_allclose(np.asarray(auto.vcov_), np.asarray(exact.vcov_), rtol=0.01)


def test_random_slopes():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(200), 8)
    x = rng.normal(size=1600)
    u = rng.normal(size=(200, 2)) * [2.0, 1.0]
    y = (rng.random(1600) < 1 / (1 + np.exp(-(0.5 * x + u[groups, 0] + u[groups, 1] * x)))).astype(int)
    auto = silent_fit(MixedLogisticRegression("1 + x0 | group", n_quadrature="auto"), x[:, None], y, groups=groups)
    exact = MixedLogisticRegression("1 + x0 | group", n_quadrature=31).fit(x[:, None], y, groups=groups)
    assert auto.n_quadrature_ > 1
    moved = np.abs(auto._fitted.theta[0] - exact._fitted.theta[0]) / errors(exact)[2:]
    assert moved.max() < 0.01
    np.testing.assert_allclose(auto.coef_, exact.coef_, atol=0.01 * errors(exact)[1])


@pytest.mark.parametrize("n_quadrature", [1, "auto"])
def test_ordinary_data_are_silent(n_quadrature):
    women = load_contraception(as_frame=True).frame
    model = MixedLogisticRegression.from_formula(
        "use ~ age + urban + livch + (1 | district)", women, n_quadrature=n_quadrature
    )
    assert model._fitted.approximation is None
    X, y, groups = make_clustered_classification(3000, 2, n_groups=100, covariance=0.25, random_state=0)
    silent_fit(MixedLogisticRegression(n_quadrature=n_quadrature), X, y, groups=groups)


def designs(seed, n_groups, size, sd):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n_groups), size)
    X = rng.normal(size=(codes.size, 2))
    eta = X @ [0.7, -0.4] + sd * rng.normal(size=n_groups)[codes]
    y = (rng.random(codes.size) < 1 / (1 + np.exp(-eta))).astype(np.uint8)
    return X, y, [Coded(codes, n_groups, [-1], [(1, True)], "g")]


@pytest.mark.parametrize("sd", [0.5, 1.0, 2.0])
def test_what_is_said_is_what_happens(sd):
    """To first order: as far as a fit with those nodes goes, to a tenth of the way."""
    X, y, factors = designs(3, 400, 6, sd)
    laplace, finer = (fitted(X, y, factors=factors, n_quadrature=k, compare=True) for k in (1, 8))
    said = laplace.more_nodes
    assert said.nodes == 8
    moved = np.r_[finer.beta - laplace.beta, finer.theta[0] - laplace.theta[0]]
    unit = np.sqrt(np.diagonal(laplace.vcov))
    np.testing.assert_allclose(said.in_errors, moved / unit, atol=0.01 + 0.1 * np.abs(moved / unit).max())
    np.testing.assert_allclose(said.step, moved, atol=(0.01 + 0.1 * np.abs(moved / unit).max()) * unit.max())
    assert said.sds_then == pytest.approx(said.sds + said.step[-1], abs=1e-8)
    assert 0 < said.log_likelihood < finer.log_likelihood - laplace.log_likelihood + 1e-6


def test_a_sample_of_the_groups_says_the_same(monkeypatch):
    X, y, factors = designs(4, 40_000, 6, 1.5)
    seen = []

    def told(engine, x, information, nodes):
        with monkeypatch.context() as patch:
            patch.setattr("sklmm.likelihood.more_nodes._stride", lambda engine, nodes: 1)
            whole = shift(engine, x, information, nodes)
        seen.append((_stride(engine, nodes), shift(engine, x, information, nodes), whole))
        return seen[0][1]

    monkeypatch.setattr("sklmm.likelihood.fit.shift", told)
    fit = fitted(X, y, factors=factors, compare=True)
    ((stride, sample, whole),) = seen
    assert stride == 32
    assert sample.log_likelihood == pytest.approx(whole.log_likelihood, rel=0.1)
    np.testing.assert_allclose(sample.in_errors, whole.in_errors, atol=0.1 * whole.largest)
    assert fit.report.n_full_passes == sum(row["level"] == 1 for row in fit.report.history)


def test_rows_in_any_order_say_the_same():
    X, y, groups = panel(1)
    order = np.random.default_rng(0).permutation(len(y))
    models = [
        MixedLogisticRegression(n_quadrature="auto").fit(X.iloc[rows], y[rows], groups=groups[rows])
        for rows in (slice(None), order)
    ]
    assert models[0].n_quadrature_ == models[1].n_quadrature_
    np.testing.assert_allclose(models[1].coef_, models[0].coef_, rtol=1e-7)


@pytest.mark.parametrize("terms", [["1 | a", "1 | b"], "1 | a/b", "1 + x0 + x1 + x2 | a"])
def test_where_there_is_nothing_better_auto_is_laplace(terms):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 3)), rng.integers(0, 2, 600)
    groups = pd.DataFrame({"a": rng.integers(0, 30, 600), "b": rng.integers(0, 5, 600)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        if isinstance(terms, str) and "x0" in terms:
            groups = groups[["a"]]
        auto, laplace = (
            MixedLogisticRegression(terms, n_quadrature=k).fit(X, y, groups=groups) for k in ("auto", 1)
        )
    assert auto.n_quadrature_ == 1
    assert auto.log_likelihood_ == laplace.log_likelihood_


@pytest.mark.parametrize("value", ["automatic", 0, 2.5, None, True])
def test_other_values_are_errors(value):
    X, y, groups = panel(0)
    with pytest.raises((ValueError, TypeError), match="n_quadrature must be an integer >= 1, or 'auto'"):
        MixedLogisticRegression(n_quadrature=value).fit(X, y, groups=groups)


def test_everything_after_the_fit(monkeypatch):
    """Profiles, tests, copies and resamples take the nodes of the fit."""
    X, y, groups = panel(2, n_groups=100)
    model = MixedLogisticRegression(n_quadrature="auto").fit(X, y, groups=groups)
    fixed = MixedLogisticRegression(n_quadrature=model.n_quadrature_).fit(X, y, groups=groups)
    assert clone(model).n_quadrature == "auto"
    assert pickle.loads(pickle.dumps(model)).n_quadrature_ == model.n_quadrature_
    ours, theirs = (m.conf_int(method="profile", X=X, y=y, groups=groups) for m in (model, fixed))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    smaller = MixedLogisticRegression(n_quadrature=model.n_quadrature_).fit(X[["time"]], y, groups=groups)
    expected = likelihood_ratio_test(smaller, fixed).statistic
    assert likelihood_ratio_test(smaller, model).statistic == pytest.approx(expected, abs=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LaplaceWarning)
        laplace = MixedLogisticRegression().fit(X[["time"]], y, groups=groups)
    with pytest.raises(ValueError, match=f"fit both models with n_quadrature={model.n_quadrature_}"):
        likelihood_ratio_test(laplace, model)


def test_when_no_number_of_nodes_is_enough(monkeypatch):
    monkeypatch.setattr("sklmm.likelihood.more_nodes.LADDER", {1: (1, 8)})
    X, y, groups = panel(0)
    with pytest.warns(LaplaceWarning, match="even 8 quadrature nodes do not make the estimates stand still"):
        model = MixedLogisticRegression(n_quadrature="auto").fit(X, y, groups=groups)
    assert model.n_quadrature_ == 8
    assert next_nodes(1, 8) is None


def test_singular_and_separated_fits():
    rng = np.random.default_rng(1)
    X, groups = rng.normal(size=(300, 1)), np.repeat(np.arange(60), 5)
    y = rng.integers(0, 2, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = MixedLogisticRegression(n_quadrature="auto").fit(X, y, groups=groups)
        apart = MixedLogisticRegression(n_quadrature="auto").fit(X, (X[:, 0] > 0).astype(int), groups=groups)
    assert flat.n_quadrature_ >= 1 and np.isfinite(flat.vcov_).all(axis=None)
    assert apart.n_quadrature_ == 1  # there is no maximum that more nodes would move
