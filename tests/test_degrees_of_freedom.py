"""Satterthwaite's and Kenward and Roger's degrees of freedom, against covariance matrices of all rows written out."""

import numpy as np
import pandas as pd
import pytest
from dense_linear import DenseLinear, random_design
from scipy import linalg, stats

from sklmm import MixedLinearRegression
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.inference.degrees_of_freedom import FixedDegrees, KenwardRoger, Satterthwaite
from sklmm.likelihood.linear_fit import fit_linear

LEVELS = {"a": 15, "b": 6, "above": 5}
MODELS = {
    "intercept": {"a": ([-1], [(1, True)])},
    "slope": {"a": ([-1, 0], [(2, True)])},
    "crossed": {"a": ([-1, 0], [(2, True)]), "b": ([-1], [(1, True)])},
    "nested": {"above": ([-1], [(1, True)]), "a": ([-1], [(1, True)])},
}
SEVERAL = np.array([[0, 0, 1, 0], [0, 1, 0, 1.0]])


class Dense:
    """Fits by engine and by estimator, and the rows' covariance as a function of (covariance factors relative to sigma,
    log sigma)."""

    def __init__(self, model):
        random, self.factors = np.random.default_rng(1), MODELS[model]
        n, X = 90, random.normal(size=(90, 3)) + [5, 0, -3]
        codes = {"a": random.integers(0, 15, n), "b": random.integers(0, 6, n)}
        codes["above"] = random.integers(0, 5, 15)[codes["a"]]
        X[:, 2] = random.normal(size=15)[codes["a"]]
        b = random.normal(size=(15, 2))[codes["a"]]
        y = X @ [1, 2, 3] + b[:, 0] + b[:, 1] * X[:, 0] + random.normal(size=6)[codes["b"]] + random.normal(size=n)
        precision = random.uniform(0.5, 2.0, n)
        structure = Structure([FactorStructure(LEVELS[key], *self.factors[key], key) for key in self.factors])
        observations = Observations(X, y, [codes[key] for key in self.factors])
        self.fit = fit_linear(observations, structure, precision=precision, kenward_roger=True)
        terms = [("1 + x0 | " if len(columns) == 2 else "1 | ") + key for key, (columns, _) in self.factors.items()]
        groups = pd.DataFrame({key: codes[key] for key in self.factors})
        model = MixedLinearRegression(terms, df="kenward-roger")
        self.model = model.fit(X, y, groups, precision_weight=precision)
        terms = [f"{'1 + x0' if len(columns) == 2 else '1'} | {key}" for key, (columns, _) in self.factors.items()]
        model = MixedLinearRegression(terms, df="kenward-roger")
        groups = pd.DataFrame({key: codes[key] for key in self.factors})
        self.model = model.fit(X, y, groups, precision_weight=precision)
        designs = [random_design(X, codes[key], LEVELS[key], self.factors[key][0]) for key in self.factors]
        self.dense = DenseLinear(X, y, designs, precision)
        self.at = np.append(np.concatenate(self.fit.theta), np.log(self.fit.sigma))

    def _factors(self, z):
        out, start = [], 0
        for _, blocks in self.factors.values():
            covariance = RelativeCovariance(blocks)
            out.append(covariance.lambda_(z[start : start + covariance.m]))
            start += covariance.m
        return out

    def criterion(self, z):
        factors = self._factors(z)
        beta = self.dense.estimates(factors, True)[0]
        return self.dense.log_likelihood(beta, factors, np.exp(z[-1]), True)

    def vcov(self, z):
        V = np.exp(2 * z[-1]) * self.dense.covariance(self._factors(z))
        return np.linalg.inv(self.dense.X.T @ np.linalg.solve(V, self.dense.X))

    def _hessian(self, h):
        def mixed(a, b):
            corners = ((s, t, self.at + h * (s * a + t * b)) for s in (1, -1) for t in (1, -1))
            return sum(s * t * self.criterion(corner) for s, t, corner in corners) / (4 * h * h)

        unit = np.eye(self.at.size)
        return np.array([[mixed(a, b) for b in unit] for a in unit])

    def satterthwaite(self):
        hessian = (4.0 * self._hessian(2e-4) - self._hessian(4e-4)) / 3.0
        unit = np.eye(self.at.size)
        gradient = np.array([(self.vcov(self.at + 1e-5 * a) - self.vcov(self.at - 1e-5 * a)) / 2e-5 for a in unit])
        return Satterthwaite(self.vcov(self.at), gradient, np.linalg.inv(-hessian))

    def kenward_roger(self):
        """Section 2 of Kenward and Roger (1997), with every matrix written out."""
        X = self.dense.X
        changes = [np.diag(self.dense.noise)]
        for Z, (_, blocks) in zip(self.dense.designs, self.factors.values(), strict=True):
            covariance = RelativeCovariance(blocks)
            for row, col in zip(covariance.row, covariance.col, strict=True):
                E = np.zeros((covariance.q, covariance.q))
                E[row, col] = E[col, row] = 1.0
                changes.append(Z @ linalg.block_diag(*[E] * (Z.shape[1] // covariance.q)) @ Z.T)
        inverse = np.linalg.inv(self.fit.sigma**2 * self.dense.covariance(self._factors(self.at)))
        Phi = np.linalg.inv(X.T @ inverse @ X)
        P = [-X.T @ inverse @ dV @ inverse @ X for dV in changes]
        Q = [[X.T @ inverse @ one @ inverse @ other @ inverse @ X for other in changes] for one in changes]
        r = range(len(P))
        T = [[np.trace(inverse @ one @ inverse @ other) for other in changes] for one in changes]
        information = [
            [T[i][j] / 2 - np.trace(Phi @ Q[i][j]) + np.trace(Phi @ P[i] @ Phi @ P[j]) / 2 for j in r] for i in r
        ]
        W = np.linalg.inv(information)
        added = sum(W[i, j] * (Q[i][j] - P[i] @ Phi @ P[j]) for i in r for j in r)
        return KenwardRoger(Phi + 2 * Phi @ added @ Phi, Phi, np.array([-Phi @ p @ Phi for p in P]), W)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize("model", MODELS)
def test_against_matrices_of_all_rows(model):
    dense = Dense(model)
    fit, expected = dense.fit, dense.satterthwaite()
    found = Satterthwaite(fit.vcov, fit.vcov_gradient, fit.variance_vcov)
    np.testing.assert_allclose(found.each(np.eye(4)), expected.each(np.eye(4)), rtol=1e-5)
    assert found.joint(SEVERAL)[0] == pytest.approx(expected.joint(SEVERAL)[0], rel=1e-5)
    _assert_estimator_says(dense.model, "satterthwaite", expected)
    expected, found = dense.kenward_roger(), KenwardRoger(*fit.kenward_roger)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-9)
    np.testing.assert_allclose(found.each(np.eye(4)), expected.each(np.eye(4)), rtol=1e-9)
    np.testing.assert_allclose(found.joint(SEVERAL), expected.joint(SEVERAL), rtol=1e-9)
    np.testing.assert_allclose(found.plain, fit.vcov, rtol=1e-9)
    _assert_estimator_says(dense.model, "kenward-roger", expected)


def _assert_estimator_says(model, name, expected):
    """Summary, intervals and F test of a model are those of an expected method."""
    table, ends = model.summary(df=name).coefficients, model.conf_int(df=name).to_numpy()[:4]
    estimates, se, df = (
        np.append(model.intercept_, model.coef_),
        np.sqrt(np.diag(expected.covariance)),
        expected.each(np.eye(4)),
    )
    np.testing.assert_allclose(table["df"], df, rtol=1e-5)
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-7)
    np.testing.assert_allclose(table["p_value"], 2 * stats.t.sf(np.abs(estimates / se), df), rtol=1e-4)
    np.testing.assert_allclose((ends - estimates[:, None]).T, np.outer([-1, 1], stats.t.ppf(0.975, df) * se), rtol=1e-6)
    (df, scale), spread, L = expected.joint(SEVERAL), SEVERAL @ expected.covariance @ SEVERAL.T, SEVERAL @ estimates
    test = model.wald_test(SEVERAL, df=name)
    F = scale * L @ np.linalg.solve(spread, L) / 2
    assert (test.statistic, test.df_resid) == (pytest.approx(F, rel=1e-6), pytest.approx(df, rel=1e-5))
    assert test.p_value == pytest.approx(stats.f.sf(F, 2, df), rel=1e-4)


def test_balanced_groups_have_the_degrees_of_freedom_of_their_means():
    """A group-level effect among 10 balanced groups: 8; within groups what is left of the rows; both methods."""
    random, groups = np.random.default_rng(0), np.repeat(np.arange(10), 6)
    X = np.column_stack([random.normal(size=10)[groups], random.normal(size=60)])
    X[:, 1] -= np.array([X[groups == g, 1].mean() for g in range(10)])[groups]
    y = X @ [1, 2] + 2.0 * random.normal(size=10)[groups] + random.normal(size=60)
    structure = Structure([FactorStructure(10, [-1], [(1, True)])])
    fit = fit_linear(Observations(X, y, [groups]), structure, kenward_roger=True)
    for method in (
        Satterthwaite(fit.vcov, fit.vcov_gradient, fit.variance_vcov), KenwardRoger(*fit.kenward_roger)
    ):  # fmt: skip
        np.testing.assert_allclose(method.each(np.eye(3)), [8, 8, 49], rtol=1e-7)
        df, scale = method.joint(np.eye(3)[[1]])
        assert (df, scale) == (pytest.approx(8, rel=1e-7), pytest.approx(1.0, rel=1e-7))


def test_a_variance_of_zero_leaves_residual_degrees_of_freedom():
    random, groups = np.random.default_rng(0), np.repeat(np.arange(10), 6)
    X, e = random.normal(size=(60, 2)), random.normal(size=60)
    design = np.column_stack([np.ones(60), X])
    y = X @ [1, 2] + e - np.array([e[groups == g].mean() for g in range(10)])[groups]
    fit = fit_linear(Observations(X, y, [groups]), Structure([FactorStructure(10, [-1], [(1, True)])]))
    assert fit.is_singular and fit.lambda_[0][0, 0] == 0.0
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-12)
    residual = y - design @ beta
    assert fit.sigma == pytest.approx(np.sqrt(residual @ residual / 57), rel=1e-12)
    found = Satterthwaite(fit.vcov, fit.vcov_gradient, fit.variance_vcov)
    np.testing.assert_allclose(found.each(np.eye(3)), 57, rtol=1e-9)


def test_fixed_degrees_of_freedom():
    method = FixedDegrees(np.eye(2), 57)
    assert method.each(np.eye(2)).tolist() == [57.0, 57.0] and method.joint(np.eye(2)) == (57.0, 1.0)


def test_too_many_effects_of_several_factors_are_refused():
    random, n = np.random.default_rng(0), 8000
    codes = [random.integers(0, 2800, n), random.integers(0, 300, n)]
    structure = Structure([FactorStructure(2800, [-1], [(1, True)]), FactorStructure(300, [-1], [(1, True)])])
    y = random.normal(size=n) + random.normal(size=2800)[codes[0]] + random.normal(size=300)[codes[1]]
    with pytest.raises(ValueError, match="all 3,100 random effects of several factors, for which 3,000 are allowed"):
        fit_linear(Observations(np.zeros((n, 0)), y, codes), structure, kenward_roger=True)
