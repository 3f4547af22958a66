"""Estimating equations with a penalty: Firth's against dense formulas, a ridge, separated classes."""

import numpy as np
import pytest
from priors_reference import data
from scipy import linalg
from sklearn.base import clone

from sklmm import GEELogisticRegression, compare_models
from sklmm.datasets import load_ohio
from sklmm.exceptions import ConvergenceWarning, SeparationWarning
from sklmm.families import bernoulli

CORRELATIONS = ["independence", "exchangeable", "ar1", "unstructured"]


def rows(n_groups=60):
    bunch = load_ohio(as_frame=True)
    frame = bunch.data.assign(y=bunch.target, id=bunch.groups)
    ids = frame["id"].unique()
    frame = frame[frame["id"].isin(ids[:: len(ids) // n_groups])]
    X = frame[["age", "smoke"]].to_numpy(dtype=float)
    return X, frame["y"].to_numpy(), frame["id"].to_numpy(), frame["age"].to_numpy()


def estimating_function(model, X, y, groups, penalty):
    """U and the penalty's gradient, by dense matrices and the derivative of each cluster's S."""
    E, family = np.column_stack([np.ones(len(X)), X]), model._fitted.family
    beta = np.append(model.intercept_, model.coef_)
    eta = E @ beta
    mu, h = family.mean(eta), 1e-6
    root = np.sqrt(family.information(eta)[0])
    bend = (np.sqrt(family.information(eta + h)[0]) - np.sqrt(family.information(eta - h)[0])) / (2 * h)
    R = linalg.block_diag(*(model.working_correlation_[: np.sum(groups == g), : np.sum(groups == g)]
                            for g in dict.fromkeys(groups)))  # fmt: skip
    inverse = np.linalg.inv(R)
    U = E.T @ (root * (inverse @ ((y - mu) / np.sqrt(mu * (1 - mu)))))
    S = E.T @ (root[:, None] * inverse * root) @ E
    if penalty == "firth":
        for k in range(3):
            dS = E.T @ ((bend * E[:, k])[:, None] * inverse * root) @ E
            U[k] += 0.5 * np.trace(np.linalg.solve(S, dS + dS.T))
    else:
        U[1:] -= penalty * X.var(axis=0) * beta[1:]
    return U, S


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("penalty", ["firth", 2.5])
def test_the_equations_are_solved(penalty, correlation, link):
    X, y, groups, time = rows()
    model = GEELogisticRegression(correlation, link=link, penalty=penalty, cov_type="naive", dispersion=1.0)
    model.fit(X, y, groups=groups, time=time)
    assert model.converged_ and bernoulli(link) is model._fitted.family
    U, S = estimating_function(model, X, y, groups, penalty)
    assert np.abs(U @ np.linalg.inv(S) / np.sqrt(np.diag(np.linalg.inv(S)))).max() < 1e-6
    whole = S if penalty == "firth" else S + np.diag(np.r_[0.0, penalty * X.var(axis=0)])
    np.testing.assert_allclose(model.vcov_, np.linalg.inv(whole), rtol=1e-6)


def test_firths_logistic_regression():
    """Of independent rows: fixed-point iterations of Firth's modified score."""
    frame = data("sim_separation")
    X, y, groups = frame[["x1", "z"]].to_numpy(), frame["y"].to_numpy(), frame["g"].to_numpy()
    model = GEELogisticRegression("independence", penalty="firth").fit(X, y, groups=groups)
    E, beta = np.column_stack([np.ones(len(X)), X]), np.zeros(3)
    for _ in range(300):
        mu = 1 / (1 + np.exp(-E @ beta))
        w = mu * (1 - mu)
        inverse = np.linalg.inv(E.T @ (w[:, None] * E))
        leverage = w * np.einsum("ij,jk,ik->i", E, inverse, E)
        beta = beta + np.clip(inverse @ (E.T @ (y - mu + leverage * (0.5 - mu))), -1, 1)
    np.testing.assert_allclose(np.append(model.intercept_, model.coef_), beta, rtol=1e-7)


@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("penalty", ["firth", 1.0])
def test_separated_classes(penalty, correlation, recwarn):
    frame = data("sim_separation")
    X, y, groups = frame[["x1", "z"]].to_numpy(), frame["y"].to_numpy(), frame["g"].to_numpy()
    time = np.arange(len(y)) % 12
    model = GEELogisticRegression(correlation, penalty=penalty).fit(X, y, groups=groups, time=time)
    assert model.converged_ and not recwarn.list
    assert 1.0 < model.coef_[0, 1] < 10.0 and np.isfinite(np.diag(model.vcov_)).all()
    with pytest.warns(SeparationWarning, match="priors='soft'.*penalty='firth'"):
        GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)


def test_all_classes_told_apart():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(120, 2)), np.arange(120) % 12
    y = (X[:, 0] > 0).astype(int)
    for penalty in ("firth", 0.5):
        model = GEELogisticRegression("independence", penalty=penalty).fit(X, y, groups=groups)
        assert model.converged_ and not model._fitted.separated and (model.predict(X) == y).mean() > 0.97


def test_invariances():
    X, y, groups, _ = rows()
    plain = GEELogisticRegression(penalty="firth").fit(X, y, groups=groups)
    T = np.array([[1000.0, 0.3], [5.0, -0.01]])
    other = GEELogisticRegression(penalty="firth").fit(X @ T + 7.0, y, groups=groups)
    np.testing.assert_allclose(T @ other.coef_[0], plain.coef_[0], rtol=1e-6)
    ridge = [GEELogisticRegression(penalty=2.0).fit(X * size, y, groups=groups).coef_ * size
             for size in ([1.0, 1.0], [1000.0, 0.01])]  # fmt: skip
    np.testing.assert_allclose(*ridge, rtol=1e-7)
    order = np.random.default_rng(0).permutation(len(y))
    mixed = GEELogisticRegression(penalty="firth").fit(X[order], y[order], groups=groups[order])
    np.testing.assert_allclose(mixed.coef_, plain.coef_, rtol=1e-7)
    weights = np.random.default_rng(1).integers(0, 3, len(y))
    weighted, written = (
        GEELogisticRegression("independence", penalty="firth").fit(X, y, groups=groups, sample_weight=weights),
        np.repeat(np.arange(len(y)), weights),
    )
    given = X[written], y[written], groups[written]
    repeated = GEELogisticRegression("independence", penalty="firth").fit(*given)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6)


def test_what_it_says_and_takes(recwarn):
    X, y, groups, _ = rows()
    model = GEELogisticRegression(penalty="firth").fit(X, y, groups=groups)
    assert clone(model).penalty == "firth" and "Penalty:     Firth's" in str(model.summary())
    assert "QIC and QICu are too high" in str(model.summary())
    assert "ridge, 2 on" in str(GEELogisticRegression(penalty=2).fit(X, y, groups=groups).summary())
    table = compare_models({"a": model, "b": GEELogisticRegression().fit(X, y, groups=groups)})
    assert "'a': fitted with a penalty" in repr(table)
    assert np.isfinite(model.bootstrap(X, y, groups, n_resamples=3, random_state=0).std_errors()).all()
    for penalty in ("ridge", 0, -1.0, np.inf, True):
        with pytest.raises(ValueError, match="penalty must be None, 'firth' or a number above 0"):
            GEELogisticRegression(penalty=penalty).fit(X, y, groups=groups)
    assert "enalt" not in str(GEELogisticRegression().fit(X, y, groups=groups).summary())


def test_a_fit_that_does_not_converge_says_what_to_do():
    X, y, groups, _ = rows()
    with pytest.warns(ConvergenceWarning, match="Equations with a penalty can fail to converge: try"):
        GEELogisticRegression(penalty="firth", max_iter=2).fit(X, y, groups=groups)
