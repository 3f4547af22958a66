"""The linear model as an engine: (beta, theta, log sigma) -> log-likelihood, gradient, Hessian, from cross-products."""

from dataclasses import dataclass

import numpy as np

from sklmm.design.units import Units
from sklmm.likelihood.linear_criterion import LinearCriterion
from sklmm.likelihood.linear_crossproducts import ClusterProducts
from sklmm.likelihood.linear_scores import by_cluster
from sklmm.likelihood.linear_search import best_theta
from sklmm.likelihood.posterior import NormalPosterior


@dataclass(frozen=True, eq=False)
class LinearUnits:
    """Parameters of a linear model as its engine has them, and as users know them.

    Internal parameters are slopes and intercept of standardised columns, for an outcome that is centred and scaled;
    theta, the entries of the covariance factor relative to sigma; and log sigma, of the scaled outcome.

    Attributes
    ----------
    units : Units
        Of the columns.
    y_center, y_scale : float
        Of the outcome.
    """

    units: Units
    y_center: float
    y_scale: float

    @property
    def n_fixed(self):
        return self.units.n_fixed

    @property
    def n_params(self):
        return self.units.n_params + 1

    def natural(self, x):
        """(beta, theta, sigma) in the user's units."""
        beta, theta = self.units.natural(x[:-1])
        beta *= self.y_scale
        if self.units.fit_intercept:
            beta[0] += self.y_center
        return beta, theta, self.y_scale * np.exp(x[-1])

    def internal(self, beta, theta, sigma):
        """Internal parameters of (beta, theta, sigma)."""
        beta = np.array(beta, dtype=float)
        if self.units.fit_intercept:
            beta[0] -= self.y_center
        return np.append(self.units.internal(beta / self.y_scale, theta), np.log(sigma / self.y_scale))


class LinearLikelihood:
    """The log-likelihood of a linear model in (beta, theta, log sigma): an `Engine`.

    With several factors the Hessian in theta alone is what it is on average; gradients are exact.

    Parameters
    ----------
    products : ClusterProducts or SeveralProducts
    reml : bool
        Whether -log|X'V^-1 X| / 2 is added: a penalty in theta and sigma.
    """

    strides, n_quadrature, costly_curvature, offset = (1,), 1, False, None

    def __init__(self, products, reml=False):
        self.products, self.criterion = products, LinearCriterion(products, reml)
        self.observations, self.structure, self.aliased = products.observations, products.structure, products.aliased
        self.units = LinearUnits(products.units, products.y_center, products.y_scale)
        self.covariance, self.n_rows = products.covariance, products.n_rows
        self.n_fixed, self.n_params = products.n_fixed, products.n_params + 1
        self._kept = np.append(products.kept, np.arange(self.n_fixed, self.n_params))

    def _point(self, x):
        return self.criterion.at(x[self.n_fixed : -1]), x[self.products.kept]

    def evaluate(self, x, stride=1, rough=False):
        x = np.asarray(x, dtype=np.float64)
        point, beta = self._point(x)
        value, inner, curvature, _ = self.criterion.joint(point, beta, x[-1])
        gradient, hessian = np.zeros(self.n_params), np.zeros((self.n_params, self.n_params))
        gradient[self._kept] = inner
        hessian[np.ix_(self._kept, self._kept)] = curvature
        return value, gradient, hessian

    def value(self, x):
        x = np.asarray(x, dtype=np.float64)
        point, beta = self._point(x)
        residual = np.append(-beta, 1.0)
        return self.criterion.value(point, float(residual @ point.Q @ residual), x[-1])

    @property
    def has_clusters(self):
        return isinstance(self.products, ClusterProducts) and self.products.has_clusters

    def by_cluster(self, x):
        """See `SumOverClusters.by_cluster`: of the likelihood that is not restricted."""
        products, n = self.products, self.n_params
        estimated = x[products.kept], x[-1]
        for part, values, inner, curvature in by_cluster(products, x[self.n_fixed : -1], *estimated):
            gradients, hessians = np.zeros((len(inner), n)), np.zeros((len(inner), n, n))
            gradients[:, self._kept] = inner
            hessians[:, self._kept[:, None], self._kept] = curvature
            values = values - products.counted_rows()[part] * np.log(products.y_scale)
            yield products.level_of_cluster[part], values, gradients, hessians

    def cluster_values(self, x):
        return np.concatenate([values for _, values, _, _ in self.by_cluster(x)])

    def by_level(self, values):
        return self.products.by_level(values)

    def optimum(self, tol=1e-10, max_iter=100, progress=None):
        """The parameters of the highest likelihood, and the report of the climb."""
        found = best_theta(self.criterion, tol=tol, max_iter=max_iter, progress=progress)
        point = self.criterion.at(found.x)
        return np.concatenate(
            [self.products.beta(point.beta), found.x, [self.criterion.log_sigma(point)]]
        ), found.report  # fmt: skip

    def _effects(self, x):
        residual = np.append(-x[self.products.kept], 1.0) / np.exp(x[-1])
        effects, blocks, joint = self.products.effects(x[self.n_fixed : -1], residual[:, None])
        return [u[:, :, 0] for u in effects], blocks, joint

    def random_effects(self, x):
        sizes = [len(factor.columns) for factor in self.structure.factors]
        units, sigma = self.products.units, self.units.y_scale * np.exp(x[-1])
        scales = [sigma * each.natural for each in units.effect_units(x[:-1], sizes)]
        modes, blocks, _ = self._effects(x)
        return (
            [u @ scale.T for u, scale in zip(modes, scales, strict=True)],
            [scale @ block @ scale.T for block, scale in zip(blocks, scales, strict=True)],
        )

    def posteriors(self, x):
        modes, blocks, joint = self._effects(x)
        return [NormalPosterior(u, u, block) for u, block in zip(modes, blocks, strict=True)], joint


class LinearObjective:
    """The log-likelihood around its maximum; the members are those of `MixedObjective`.

    Parameters
    ----------
    engine : LinearLikelihood
        By maximum likelihood for profiles, whatever the fit was.
    """

    def __init__(self, engine):
        self.engine = engine
        self.active = np.ones(engine.n_params, dtype=bool)
        self.active[: engine.aliased.size] = ~engine.aliased
        if not engine.structure.factors:
            self.active[engine.n_fixed : -1] = False
        self.x, self.report = engine.optimum()
        self.value, _, hessian = engine.evaluate(self.x)
        self.information = np.where(self.active[:, None] & self.active, -hessian, 0.0)
