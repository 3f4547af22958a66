"""Small data sets and parameters for the clustered likelihood, and its value in a few lines of NumPy."""

from dataclasses import dataclass, field

import links
import numpy as np
from designs import clustered

from sklmm.families import bernoulli

# ---- references ------------------------------------------------------------------------------------------------


def dense_value(x, y, Z, w, codes, eta, Lambda, k=1, link="logit"):
    """Sum over clusters of the adaptive Gauss-Hermite log-likelihood; one node is Laplace."""
    node, weight = np.polynomial.hermite.hermgauss(k)
    q = Lambda.shape[0]
    grid = np.stack([a.ravel() for a in np.meshgrid(*[node] * q, indexing="ij")], axis=1)
    log_weight = sum(np.meshgrid(*[np.log(weight) + node**2] * q, indexing="ij")).ravel()
    total = 0.0
    for level in np.unique(codes):
        rows = codes == level
        A, wi, fixed, yi = Z[rows] @ Lambda, w[rows], eta[rows], y[rows]

        def h(u, A=A, yi=yi, wi=wi, fixed=fixed):
            return wi @ links.log_density(link, fixed[:, None] + A @ u.T, yi[:, None]) - 0.5 * np.sum(u**2, axis=1)

        def slope_and_curvature(u, A=A, wi=wi, fixed=fixed, yi=yi):
            eta = fixed + A @ u
            r, v = wi * links.score(link, eta, yi), wi * links.weight(link, eta, yi)
            return A.T @ r - u, np.eye(q) + (A.T * v) @ A

        u = np.zeros(q)
        for _ in range(200):
            s, H = slope_and_curvature(u)
            step, length = np.linalg.solve(H, s), 1.0
            while length > 1e-10 and h((u + length * step)[None])[0] < h(u[None])[0] - 1e-13:
                length /= 2
            u = u + length * step
            if np.abs(step).max() < 1e-13:
                break
        L = np.linalg.cholesky(slope_and_curvature(u)[1])
        nodes = u + np.sqrt(2) * np.linalg.solve(L.T, grid.T).T
        terms = log_weight - 0.5 * q * np.log(np.pi) + h(nodes)
        top = terms.max()
        total += top + np.log(np.sum(np.exp(terms - top))) - np.log(np.diag(L)).sum()
    return total


def settled(engine, x):
    """Evaluation at x from the modes that one there has found: without what its tolerance on the modes leaves."""
    engine.evaluate(x)
    return [np.copy(a) for a in engine.evaluate(x)]


def differences(f, x, h=2e-3):
    """Sixth-order central differences of f, an array or a number, along each coordinate of x."""
    columns = []
    for e in np.eye(x.size) * h:
        columns.append(
            (45 * (f(x + e) - f(x - e)) - 9 * (f(x + 2 * e) - f(x - 2 * e)) + f(x + 3 * e) - f(x - 3 * e)) / (60 * h)
        )
    return np.stack(columns, axis=-1)


# ---- cases -----------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One model on one made-up data set; `theta` as in the engine, `blocks` and `columns` as in FactorStructure."""

    columns: list
    blocks: list
    theta: list
    k: int = 1
    weights: bool = False
    fit_intercept: bool = True
    sizes: list = field(default_factory=lambda: [1, 1, 2, 3, 5, 9, 16, 4, 7, 12, 1, 6, 30])
    p: int = 3
    layout: str = "float64 C"
    seed: int = 0
    link: str = "logit"

    def data(self):
        """X, y, codes, weights, beta; clusters 3, 16, ... are all 0, and the next ones all 1."""
        rng = np.random.default_rng(self.seed)
        codes = rng.permutation(np.repeat(np.arange(len(self.sizes)), self.sizes))
        X = rng.normal(size=(codes.size, self.p))
        X[:, 1] = rng.integers(0, 2, codes.size)
        dtype, order = self.layout.split()
        if order == "strided":
            wide = np.zeros((2 * codes.size, 3 * self.p), dtype=dtype)
            X_given = wide[::2, 1::3]
            X_given[:] = X
        else:
            X_given = np.array(X, dtype=dtype, order=order)
        y = rng.integers(0, 2, codes.size).astype(np.uint8)
        y[codes % 13 == 3], y[codes % 13 == 4] = 0, 1
        w = None
        if self.weights:
            w = rng.choice([0.0, 1.0, 2.0, 0.37, 3.5], codes.size)
            w[codes % 13 == 7] = 0.0  # a cluster without any weight
        beta = 0.4 * rng.normal(size=self.p + self.fit_intercept) / np.sqrt(max(1, self.p / 3))
        return X_given, y, codes, w, beta

    def engine(self, **keywords):
        X, y, codes, w, beta = self.data()
        engine = clustered(
            X, y, codes, len(self.sizes), self.columns, self.blocks, sample_weight=w,
            fit_intercept=self.fit_intercept, n_quadrature=self.k, standardise=False, family=bernoulli(self.link),
            **keywords,
        )  # fmt: skip
        return engine, np.concatenate([beta, self.theta])

    def dense(self, x, k=None):
        X, y, codes, w, beta = self.data()
        X = X.astype(float)
        if self.fit_intercept:
            X = np.column_stack([X, np.ones(len(y))])
        Z = np.column_stack([np.ones(len(y)) if c < 0 else X[:, c] for c in self.columns])
        q = len(self.columns)
        Lambda, entries, first = np.zeros((q, q)), iter(x[X.shape[1] :]), 0
        for size, correlated in self.blocks:  # column by column of the lower triangle
            for j in range(size):
                for i in range(j, size) if correlated else [j]:
                    Lambda[first + i, first + j] = next(entries)
            first += size
        w = np.ones(len(y)) if w is None else w
        return dense_value(X, y, Z, w, codes, X @ x[: X.shape[1]], Lambda, self.k if k is None else k, self.link)


LONG = [3, 1100, 1, 40, 2, 1300, 5]  # two clusters that are longer than any tile
# runs of clusters of 8 rows and fewer, which are a vector's lanes, between longer ones
SHORT = [4] * 11 + [1, 2, 8, 3, 7, 9, 8, 8, 1, 6, 5, 1, 40, 2, 2, 16, 3] + [1] * 10
INTERCEPT = dict(columns=[-1], blocks=[(1, True)])
SLOPE = dict(columns=[0], blocks=[(1, True)])
CORRELATED = dict(columns=[-1, 0], blocks=[(2, True)])
UNCORRELATED = dict(columns=[-1, 1], blocks=[(2, False)])
THREE = dict(columns=[-1, 0, 1], blocks=[(3, True)])
MIXED = dict(columns=[-1, 0, 2], blocks=[(2, True), (1, False)])

CASES = {
    "intercept": Case(**INTERCEPT, theta=[0.8]),
    "intercept, near 0": Case(**INTERCEPT, theta=[0.01]),
    "intercept, large": Case(**INTERCEPT, theta=[4.0]),
    "intercept, negative": Case(**INTERCEPT, theta=[-0.8], seed=1),
    "intercept, weights": Case(**INTERCEPT, theta=[1.2], weights=True),
    "intercept, no fixed intercept": Case(**INTERCEPT, theta=[0.7], fit_intercept=False),
    "intercept, float32 F": Case(**INTERCEPT, theta=[0.7], layout="float32 F"),
    "intercept, F": Case(**INTERCEPT, theta=[0.7], layout="float64 F"),
    "intercept, strided": Case(**INTERCEPT, theta=[0.7], layout="float64 strided"),
    "intercept, only fixed intercept": Case(**INTERCEPT, theta=[0.7], p=2),
    "intercept, 8 columns": Case(**INTERCEPT, theta=[0.7], p=8),
    "intercept, 19 columns": Case(**INTERCEPT, theta=[0.7], p=19),
    "intercept, long": Case(**INTERCEPT, theta=[0.9], sizes=LONG),
    "intercept, long, weights": Case(**INTERCEPT, theta=[0.9], sizes=LONG, weights=True),
    "intercept, many blocks": Case(**INTERCEPT, theta=[1.1], sizes=[7, 1, 20, 55] * 30),
    "intercept, AGHQ 2": Case(**INTERCEPT, theta=[0.8], k=2),
    "intercept, AGHQ 5": Case(**INTERCEPT, theta=[0.8], k=5),
    "intercept, AGHQ 8": Case(**INTERCEPT, theta=[0.8], k=8, weights=True),
    "intercept, AGHQ 11, near 0": Case(**INTERCEPT, theta=[0.01], k=11),
    "intercept, AGHQ 11, large": Case(**INTERCEPT, theta=[4.0], k=11),
    "intercept, AGHQ 7, negative": Case(**INTERCEPT, theta=[-1.5], k=7),
    "intercept, AGHQ 20, weights": Case(**INTERCEPT, theta=[1.2], k=20, weights=True, fit_intercept=False),
    "intercept, AGHQ 5, float32": Case(**INTERCEPT, theta=[0.8], k=5, layout="float32 C", p=9),
    "intercept, AGHQ 5, long": Case(**INTERCEPT, theta=[0.9], k=5, sizes=LONG),
    "intercept, AGHQ 9, long, weights": Case(**INTERCEPT, theta=[0.9], k=9, sizes=LONG, weights=True),
    "intercept, AGHQ 3, many blocks": Case(**INTERCEPT, theta=[1.1], k=3, sizes=[7, 1, 20, 55] * 30),
    "intercept, short": Case(**INTERCEPT, theta=[1.3], sizes=SHORT, weights=True),
    "intercept, short, large": Case(**INTERCEPT, theta=[4.0], sizes=[4] * 37),
    "intercept, short, AGHQ 2": Case(**INTERCEPT, theta=[1.3], k=2, sizes=SHORT),
    "intercept, short, AGHQ 10": Case(**INTERCEPT, theta=[4.0], k=10, sizes=[4] * 37),
    "intercept, short, AGHQ 16, weights": Case(**INTERCEPT, theta=[-1.3], k=16, sizes=SHORT, weights=True),
    "intercept, short, AGHQ 32": Case(**INTERCEPT, theta=[1.3], k=32, sizes=SHORT, fit_intercept=False),
    "intercept, short, AGHQ 33": Case(**INTERCEPT, theta=[1.3], k=33, sizes=SHORT),
    "intercept, short, AGHQ 5, near 0": Case(**INTERCEPT, theta=[0.01], k=5, sizes=SHORT),
    "intercept, one cluster, AGHQ 6": Case(**INTERCEPT, theta=[0.8], k=6, sizes=[0, 0, 0, 0, 0, 4, 0, 1]),
    "slope": Case(**SLOPE, theta=[0.8]),
    "slope, near 0": Case(**SLOPE, theta=[0.01], weights=True),
    "slope, large": Case(**SLOPE, theta=[4.0], fit_intercept=False),
    "slope, AGHQ 5": Case(**SLOPE, theta=[0.8], k=5),
    "slope, AGHQ 12, large": Case(**SLOPE, theta=[4.0], k=12, weights=True),
    "slope, AGHQ 4, long": Case(**SLOPE, theta=[0.8], k=4, sizes=LONG),
    "correlated": Case(**CORRELATED, theta=[0.9, 0.3, 0.5]),
    "correlated, negative": Case(**CORRELATED, theta=[-0.9, 0.7, -0.5]),
    "correlated, near 0": Case(**CORRELATED, theta=[0.01, 0.01, 0.01]),
    "correlated, singular": Case(**CORRELATED, theta=[0.7, -0.6, 0.0]),
    "correlated, large, weights": Case(**CORRELATED, theta=[4.0, -2.0, 3.0], weights=True),
    "correlated, F": Case(**CORRELATED, theta=[0.9, 0.3, 0.5], layout="float64 F"),
    "correlated, float32": Case(**CORRELATED, theta=[0.9, 0.3, 0.5], layout="float32 C"),
    "correlated, long": Case(**CORRELATED, theta=[0.9, 0.3, 0.5], sizes=LONG, weights=True),
    "correlated, many blocks": Case(**CORRELATED, theta=[0.9, 0.3, 0.5], sizes=[7, 1, 20, 55] * 30),
    "correlated, AGHQ 3": Case(**CORRELATED, theta=[0.9, 0.3, 0.5], k=3),
    "correlated, AGHQ 5, weights": Case(**CORRELATED, theta=[1.5, -0.8, 0.9], k=5, weights=True),
    "correlated, AGHQ 4, near 0": Case(**CORRELATED, theta=[0.01, 0.01, 0.01], k=4),
    "correlated, AGHQ 7, large": Case(**CORRELATED, theta=[4.0, -2.0, 3.0], k=7),
    "correlated, AGHQ 3, long": Case(**CORRELATED, theta=[0.9, 0.3, 0.5], k=3, sizes=LONG),
    "uncorrelated": Case(**UNCORRELATED, theta=[0.9, 0.5]),
    "uncorrelated, weights": Case(**UNCORRELATED, theta=[0.01, 1.5], weights=True, fit_intercept=False),
    "uncorrelated, AGHQ 4": Case(**UNCORRELATED, theta=[0.9, 0.5], k=4, weights=True),
    "three": Case(**THREE, theta=[0.9, 0.3, -0.2, 0.6, 0.25, 0.4]),
    "three, long, weights": Case(**THREE, theta=[0.9, 0.3, -0.2, 0.6, 0.25, 0.4], weights=True, sizes=LONG),
    "three, AGHQ 3": Case(**THREE, theta=[0.9, 0.3, -0.2, 0.6, 0.25, 0.4], k=3),
    "three, AGHQ 4, weights": Case(**THREE, theta=[2.0, 0.3, -1.2, 0.01, 0.25, 1.4], k=4, weights=True),
    "terms of 2 and 1": Case(**MIXED, theta=[0.9, 0.3, 0.5, 0.7]),
    "terms of 2 and 1, AGHQ 3": Case(**MIXED, theta=[0.9, -0.3, 0.5, 0.7], k=3, weights=True),
}
for link in ("probit", "cloglog"):
    for name, settings in {
        "intercept": dict(**INTERCEPT, theta=[0.6], layout="float32 F"),
        "intercept, near 0, weights": dict(**INTERCEPT, theta=[0.01], weights=True),
        "intercept, large, no fixed intercept": dict(**INTERCEPT, theta=[3.0], fit_intercept=False),
        "intercept, long": dict(**INTERCEPT, theta=[-0.6], sizes=LONG),
        "intercept, AGHQ 5": dict(**INTERCEPT, theta=[0.6], k=5, sizes=SHORT),
        "intercept, AGHQ 8, weights": dict(**INTERCEPT, theta=[1.5], k=8, weights=True),
        "slope, AGHQ 4, long": dict(**SLOPE, theta=[0.6], k=4, sizes=LONG),
        "correlated, weights": dict(**CORRELATED, theta=[0.9, 0.3, 0.5], weights=True),
        "correlated, AGHQ 3": dict(**CORRELATED, theta=[0.9, -0.3, 0.5], k=3),
        "three": dict(**THREE, theta=[0.7, 0.3, -0.2, 0.6, 0.25, 0.4]),
        "terms of 2 and 1, AGHQ 3": dict(**MIXED, theta=[0.5, -0.3, 0.5, 0.7], k=3),
    }.items():
        CASES[f"{link}, {name}"] = Case(**settings, link=link)
