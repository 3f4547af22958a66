"""Generalized estimating equations the long way: one dense matrix for every cluster.

Of binary outcomes, and with ``link="identity"`` of measured ones, whose variance function is 1.

Written from the definitions, to be read beside them and not to be fast: nothing here is shared with the package.
``fit_dense_gee`` returns the fit, ``DenseGEE.vcov(cov_type)`` its six covariance matrices.

There are two families of definitions. geepack's (``ddof_correction=False``) take moments as plain means, and weights
w as V_i^-1 = W^(1/2) S^-1 R^-1 S^-1 W^(1/2) / phi. gee's (``ddof_correction=True``) take off a degree of freedom for
each coefficient; their weights are counts, which for independence and exchangeable means that the rows are repeated.
"""

from dataclasses import dataclass
from typing import NamedTuple

import links
import numpy as np
from scipy.linalg import sqrtm
from scipy.optimize import brentq
from scipy.special import expit

TIGHT = {"xtol": 1e-15, "rtol": 1e-15}


class Cluster(NamedTuple):
    X: np.ndarray  # (n_i, p), the intercept first
    y: np.ndarray
    w: np.ndarray
    t: np.ndarray


class Pairs(NamedTuple):
    """The pairs of rows j < k of all clusters, one entry a pair; t_j <= t_k."""

    cluster: np.ndarray
    t_j: np.ndarray
    t_k: np.ndarray
    ww: np.ndarray
    ee: np.ndarray

    @property
    def gap(self):
        return self.t_k - self.t_j


def fit_dense_gee(
    X,
    y,
    groups,
    correlation,
    *,
    time=None,
    sample_weight=None,
    ddof_correction=True,
    dispersion="estimate",
    n_lags=1,
    fixed_correlation=None,
    link="logit",
):
    """Fit and return a :class:`DenseGEE`. ``X`` comes without its intercept; times are positions where not given.

    ``correlation`` is a name; ``n_lags`` belongs to ``"m-dependent"``, ``fixed_correlation`` (over the sorted distinct
    times) to ``"fixed"``.
    """
    X, y, groups = np.asarray(X, dtype=float), np.asarray(y, dtype=float), np.asarray(groups)
    X = np.column_stack([np.ones(len(X)), X])
    w = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    repeat = ddof_correction and correlation in ("independence", "exchangeable")
    clusters = []
    for label in np.unique(groups):
        rows = np.flatnonzero((groups == label) & (w > 0))
        t = np.arange(len(rows), dtype=float) if time is None else np.asarray(time, dtype=float)[rows]
        order = np.argsort(t, kind="stable")
        rows, t = rows[order], t[order]
        if repeat:
            counts = w[rows].astype(int)
            assert np.array_equal(counts, w[rows]), "rows are repeated: weights must be integers"
            rows, t, w_rows = np.repeat(rows, counts), np.repeat(t, counts), np.ones(counts.sum())
        else:
            w_rows = w[rows]
        if len(rows):
            clusters.append(Cluster(X[rows], y[rows], w_rows, t))

    times = np.unique(np.concatenate([c.t for c in clusters]))
    fit = DenseGEE(correlation, clusters, times, ddof_correction, dispersion, n_lags, fixed_correlation, link)
    fit.solve()
    return fit


@dataclass
class DenseGEE:
    correlation: str
    clusters: list
    times: np.ndarray
    ddof_correction: bool
    dispersion: float | str
    n_lags: int
    fixed_correlation: np.ndarray | None
    link: str = "logit"

    def solve(self):
        """Fisher scoring steps in turn with moments, until neither moves."""
        X, y, w = (np.concatenate([c[k] for c in self.clusters]) for k in range(3))
        self.p, self.total_weight = X.shape[1], w.sum()
        self.glm_beta = self.beta = plain_regression(self.link, X, y, w)
        self.glm_phi = self.dispersion_given(self.residuals())
        moments = np.inf
        for _ in range(500):
            before = moments
            self.phi, self.alpha = self.moments()
            moments = np.r_[self.phi, self.alpha]
            score, sensitivity = self.score_and_sensitivity()
            step = np.linalg.solve(sensitivity, score)
            self.beta = self.beta + step
            length = np.sqrt(max(step @ score, 0.0))  # in standard errors
            if length < 1e-12 and np.abs(moments - before).max() < 1e-12:
                return
        raise AssertionError(f"{self.correlation}: the dense fit still moves by {step} at {self.beta}, {moments}")

    # ---- the estimating equations

    def mean(self, cluster):
        return mean_of(self.link, cluster.X @ self.beta)

    def sd(self, mu):
        """Square root of the variance function."""
        return np.ones_like(mu) if self.link == "identity" else np.sqrt(mu * (1 - mu))

    def slope(self, cluster, beta):
        """d mu / d eta."""
        return slope_of(self.link, cluster.X @ beta)

    def D_Vinv_residual(self, cluster):
        """D = d mu / d beta, V^-1 and y - mu of a cluster."""
        mu = self.mean(cluster)
        root_w, S_inverse = np.diag(np.sqrt(cluster.w)), np.diag(1 / self.sd(mu))
        R_inverse = np.linalg.inv(self.working_correlation(cluster.t))
        V_inverse = root_w @ S_inverse @ R_inverse @ S_inverse @ root_w / self.phi
        return np.diag(self.slope(cluster, self.beta)) @ cluster.X, V_inverse, cluster.y - mu

    def score_and_sensitivity(self):
        parts = [self.D_Vinv_residual(c) for c in self.clusters]
        return sum(D.T @ Vinv @ r for D, Vinv, r in parts), sum(D.T @ Vinv @ D for D, Vinv, _ in parts)

    def working_correlation(self, t):
        """R over the times ``t``."""
        gap = np.abs(np.subtract.outer(t, t))
        if self.correlation == "independence":
            return np.eye(len(t))
        if self.correlation == "exchangeable":
            return np.where(np.eye(len(t)), 1.0, self.alpha[0])
        if self.correlation == "ar1":
            return self.alpha[0] ** gap
        if self.correlation == "m-dependent":
            return np.eye(len(t)) + sum(alpha * (gap == lag) for lag, alpha in enumerate(self.alpha, start=1))
        R = self.fixed_correlation
        if self.correlation == "unstructured":
            R = np.eye(len(self.times))
            j, k = np.triu_indices(len(R), 1)
            R[j, k] = R[k, j] = self.alpha
        place = np.searchsorted(self.times, t)
        return R[np.ix_(place, place)]

    # ---- moments

    def residuals(self):
        """Pearson residuals of each cluster."""
        mus = map(self.mean, self.clusters)
        return [(c.y - mu) / self.sd(mu) for c, mu in zip(self.clusters, mus, strict=True)]

    def pairs(self, residuals):
        parts = []
        for i, (c, e) in enumerate(zip(self.clusters, residuals, strict=True)):
            j, k = np.triu_indices(len(e), 1)
            parts.append([np.full(len(j), i), c.t[j], c.t[k], c.w[j] * c.w[k], e[j] * e[k]])
        return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def estimated_dispersion(self, residuals):
        squares = sum(c.w @ e**2 for c, e in zip(self.clusters, residuals, strict=True))
        return squares / (self.total_weight - self.p * self.ddof_correction)

    def dispersion_given(self, residuals):
        return self.estimated_dispersion(residuals) if self.dispersion == "estimate" else self.dispersion

    def moments(self):
        """phi and alpha."""
        residuals = self.residuals()
        phi = self.dispersion_given(residuals)
        if self.correlation in ("independence", "fixed"):
            return phi, np.zeros(0)
        of_family = self.alpha_of_gee if self.ddof_correction else self.alpha_of_geepack
        return phi, of_family(phi, residuals, self.pairs(residuals))

    def alpha_of_geepack(self, phi, residuals, pairs):
        def mean(chosen):
            return np.sum(pairs.ww[chosen] * pairs.ee[chosen]) / (phi * np.sum(pairs.ww[chosen]))

        if self.correlation == "exchangeable":
            return np.array([mean(slice(None))])
        if self.correlation == "m-dependent":
            return np.array([mean(pairs.gap == lag) for lag in range(1, self.n_lags + 1)])
        if self.correlation == "unstructured":
            return np.array([mean((pairs.t_j == a) & (pairs.t_k == b)) for a, b in self.pairs_of_times()])
        # ar1: the alpha at which alpha^gap is nearest to ee / phi
        return np.array([least_squares_alpha(pairs.gap, pairs.ee / phi, pairs.ww)])

    def alpha_of_gee(self, phi, residuals, pairs):
        phi = self.estimated_dispersion(residuals)  # even where the dispersion is fixed
        root_ww = np.sqrt(pairs.ww)
        if self.correlation == "exchangeable":  # every weight is 1: rows were repeated
            return np.array([pairs.ee.sum() / (phi * (len(pairs.ee) - self.p))])
        if self.correlation == "m-dependent":
            lags = [pairs.gap == lag for lag in range(1, self.n_lags + 1)]
            return np.array([(root_ww * pairs.ee)[lag].sum() / (phi * (root_ww[lag].sum() - self.p)) for lag in lags])

        mean_squares = [np.sum(c.w * e**2) / len(e) for c, e in zip(self.clusters, residuals, strict=True)]
        phi_by_cluster = np.sum(mean_squares) / np.sum([c.w.mean() for c in self.clusters])
        if self.correlation == "unstructured":
            chosen = [(pairs.t_j == a) & (pairs.t_k == b) for a, b in self.pairs_of_times()]
            return np.array([np.average(pairs.ee[c], weights=root_ww[c]) for c in chosen]) / phi_by_cluster

        # ar1: neighbours only, cluster by cluster
        products, weights, gaps = [], [], []
        for c, e in zip(self.clusters, residuals, strict=True):
            products.extend(e[:-1] * e[1:])
            weights.extend(np.sqrt(c.w[:-1] * c.w[1:]) / max(len(e) - 1, 1))
            gaps.extend(np.diff(c.t))
        products, weights, gaps = np.array(products), np.array(weights), np.array(gaps)

        def excess(alpha):
            return np.sum(weights * (phi_by_cluster * alpha**gaps - products))

        return np.array([brentq(excess, *((0, 0.999) if excess(0.0) < 0 else (-0.999, 0)), **TIGHT)])

    def pairs_of_times(self):
        return [(a, b) for j, a in enumerate(self.times) for b in self.times[j + 1 :]]

    # ---- covariances and criteria

    def vcov(self, cov_type):
        """The six covariance matrices of beta."""
        parts = [self.D_Vinv_residual(c) for c in self.clusters]
        bread = np.linalg.inv(sum(D.T @ Vinv @ D for D, Vinv, _ in parts))
        if cov_type == "naive":
            return bread

        def score(D, Vinv, residual):
            n = len(residual)
            H = D @ bread @ D.T @ Vinv
            if cov_type == "kauermann-carroll":
                residual = np.linalg.solve(np.real(sqrtm(np.eye(n) - H)), residual)
            elif cov_type == "mancl-derouen":
                residual = np.linalg.solve(np.eye(n) - H, residual)
            U = D.T @ Vinv @ residual
            if cov_type == "fay-graubard":
                U = U / np.sqrt(1 - np.minimum(0.75, np.diag(D.T @ Vinv @ D @ bread)))
            return U

        meat = sum(np.outer(U, U) for U in (score(*part) for part in parts))
        sandwich = bread @ meat @ bread
        if cov_type != "morel":
            return sandwich
        N, K, p = self.total_weight, len(self.clusters), self.p
        k = (N - 1) / (N - p) * K / (K - 1)
        delta = min(0.5, p / (K - p)) if K > p else 0.5
        return k * sandwich + delta * max(1.0, k * np.trace(bread @ meat) / p) * bread

    def criteria(self):
        """Quasi-likelihood, CIC, QIC and QICu."""
        quasi, A = 0.0, 0.0
        for c in self.clusters:
            mu, glm_mu = self.mean(c), mean_of(self.link, c.X @ self.glm_beta)
            information = self.slope(c, self.glm_beta) ** 2 / self.sd(glm_mu) ** 2
            w = c.w if self.ddof_correction else 1.0  # geepack's quasi-likelihood leaves them out
            if self.link == "identity":
                quasi -= np.sum(w * (c.y - mu) ** 2) / 2
            else:
                quasi += np.sum(w * (c.y * np.log(mu) + (1 - c.y) * np.log1p(-mu)))
            A = A + c.X.T @ np.diag(c.w * information) @ c.X / self.glm_phi
        cic = np.trace(A @ self.vcov("robust"))
        return {"quasi": quasi, "CIC": cic, "QIC": -2 * quasi + 2 * cic, "QICu": -2 * quasi + 2 * self.p}


def mean_of(link, eta):
    """mu at eta."""
    return eta if link == "identity" else links.probability(link, eta)


def slope_of(link, eta):
    """d mu / d eta."""
    if link == "identity":
        return np.ones_like(eta)
    return links.score(link, eta, True) * links.probability(link, eta)


def plain_regression(link, X, y, w):
    """Fisher scoring of independent rows."""
    if link == "identity":
        return np.linalg.solve(X.T * w @ X, X.T @ (w * y))
    beta = np.zeros(X.shape[1])
    for _ in range(80):
        eta = X @ beta
        mu, slope = links.probability(link, eta), slope_of(link, eta)
        residual = slope * (y - mu) / (mu * (1 - mu))
        beta = beta + np.linalg.solve(X.T * (w * slope**2 / (mu * (1 - mu))) @ X, X.T @ (w * residual))
    return beta


def least_squares_alpha(gap, target, weight):
    """The minimum of sum weight (target - alpha^gap)^2: a fine grid, then the root of the derivative near its best."""
    whole = np.array_equal(gap, np.round(gap))
    grid = np.linspace(-1 if whole else 0, 1, 4001)[1:-1]
    totals = {g: (weight[gap == g].sum(), weight[gap == g] @ target[gap == g]) for g in np.unique(gap)}
    loss = sum(w * grid ** (2 * g) - 2 * wz * grid**g for g, (w, wz) in totals.items())
    best = np.argmin(loss)

    def slope(alpha):
        return sum(g * alpha ** (g - 1) * (w * alpha**g - wz) for g, (w, wz) in totals.items())

    return brentq(slope, grid[best - 1], grid[best + 1], **TIGHT)


class Problem(NamedTuple):
    """Data to compare fits on; the rows are in no order."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    time: np.ndarray
    sample_weight: np.ndarray


def make_problem(seed, *, times=(0, 1, 2, 4, 5), n_clusters=90, complete=False, alternating=False):
    """A random problem of clusters that have one row at some (``complete``: all) of the times.

    The second feature is far from zero, the third one of the cluster; weights are 1, 2 or 3. Rows of a cluster are
    alike, or unlike the row before if ``alternating``.
    """
    rng = np.random.default_rng(seed)
    sizes = np.full(n_clusters, len(times)) if complete else rng.integers(1, len(times) + 1, n_clusters)
    sizes[0] = len(times)
    time = np.concatenate([np.sort(rng.choice(times, size, replace=False)) for size in sizes]).astype(float)
    groups = np.repeat(np.arange(n_clusters), sizes)
    X = np.column_stack([rng.normal(size=len(time)), rng.normal(20, 4, len(time)), rng.normal(size=n_clusters)[groups]])
    eta = (
        0.5 * X[:, 0]
        - 0.1 * (X[:, 1] - 20)
        + 0.4 * X[:, 2]
        + 1.5 * rng.normal(size=n_clusters)[groups] * (not alternating)
    )
    y = (rng.random(len(time)) < expit(eta)).astype(int)
    if alternating:
        for row in np.flatnonzero(np.diff(groups, prepend=-1) == 0):
            y[row] = 1 - y[row - 1] if rng.random() < 0.5 else y[row]
    order = rng.permutation(len(time))
    return Problem(X[order], y[order], 100 + groups[order], time[order], rng.integers(1, 4, len(time)).astype(float))
