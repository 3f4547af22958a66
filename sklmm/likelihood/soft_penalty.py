"""Maximum softly penalised likelihood: finite estimates whatever the data, by a penalty that vanishes as they grow.

To the log-likelihood are added, times 2 sqrt(p / n) with p fixed effects and n rows (Sterzinger and Kosmidis 2023),

    log|X'W X| / 2 - sum h(log L_aa) - sum h(L_ab),  h(z) = z^2 / 2 up to 1 and |z| - 1/2 beyond,

where W is the rows' expected information with all random effects at 0, and L the Cholesky factor of the covariance of
the random coefficients. The first part is Jeffreys' prior of the model without random effects, whose logarithm falls
without end as coefficients grow (Firth 1993; Kosmidis and Firth 2021); the others keep variances off 0 and infinity and
correlations off -1 and 1. Coefficients of linearly transformed columns are the transformed ones: log|X'W X| changes by
a constant. So are variances of random slopes whose columns are scaled, as L is of scaled columns (centred where
they are beside a correlated intercept), which the paper leaves to the user.

References
----------
Kosmidis I, Firth D (2021). Jeffreys-prior penalty, finiteness and shrinkage in binomial-response generalized linear
models. Biometrika 108, 71-82.

Sterzinger P, Kosmidis I (2023). Maximum softly-penalized likelihood for mixed effects logistic regression. Statistics
and Computing 33, 53.
"""

from dataclasses import dataclass, replace

import numpy as np

from sklmm.design.units import Units
from sklmm.passes.log_determinant import LogDeterminant

SADDLE = 1e-3  # log-likelihood units that a step gains: less is next to a maximum, or to a saddle


@dataclass(frozen=True)
class SoftPenalties:
    """The choice of soft penalties, in the place of `ModelPriors`."""

    chosen = "soft"
    flat = ()

    def units(self, observations, structure):
        """The engine's units with scales of random slopes from all rows, whatever their order."""
        units, X, weights = Units.of(observations, structure), observations.X, observations.weights
        inv_scale = units.z_inv_scale.copy()
        for a in np.flatnonzero(units.columns >= 0):
            column = X[:, units.columns[a]].astype(np.float64) - units.z_center[a]
            scale = np.sqrt(np.average(column**2, weights=weights))
            inv_scale[a] = 1.0 / scale if scale > 0.0 else inv_scale[a]
        return replace(units, z_inv_scale=inv_scale)

    def penalty(self, engine):
        """The penalty of an engine, see `Penalised`."""
        return SoftPenalty(engine)

    def check_mode(self):
        """There is one."""

    def told(self):
        """In words, for a summary."""
        return "'soft'"


class SoftPenalty:
    """The penalty as a function of an engine's parameters: fixed effects, intercept, theta.

    Parameters
    ----------
    engine : Engine
    """

    informs = False  # standard errors are from the likelihood's information at the estimates

    def __init__(self, engine):
        units, rows = engine.units, engine.observations
        active = np.ones(engine.n_fixed, dtype=bool)
        active[: engine.aliased.size] = ~engine.aliased
        self.active, self.n_fixed = np.flatnonzero(active), engine.n_fixed
        self.log_determinant = LogDeterminant(
            rows.X, units.center, units.inv_scale, active, engine.structure.family, rows.weights, engine.offset
        )
        self.size = 2.0 * np.sqrt(self.active.size / rows.n_counted)
        self.held_back = np.eye(engine.n_fixed)[self.active]
        self.diagonal = units.covariance.diagonal if engine.structure.factors else None
        self.in_user_units = -np.log(np.abs(self.log_determinant.inv_scale)).sum()  # of log|X'W X| / 2

    def derivatives(self, x):
        """Value, gradient and Hessian at x.

        Raises
        ------
        FloatingPointError
            Where a variance is 0, or no row has information.
        """
        gradient, hessian = np.zeros_like(x), np.zeros((x.size, x.size))
        on = self.active
        value, gradient[on], hessian[np.ix_(on, on)] = self.log_determinant(x[on])
        value += self.in_user_units
        if self.diagonal is not None:
            theta = x[self.n_fixed :]
            if not theta[self.diagonal].all():
                raise FloatingPointError("the penalty of a variance of 0 is infinite")
            at = np.arange(self.n_fixed, x.size)
            z = np.where(self.diagonal, np.log(np.abs(np.where(self.diagonal, theta, 1.0))), theta)
            inside = np.abs(z) <= 1.0
            value -= np.where(inside, 0.5 * z**2, np.abs(z) - 0.5).sum()
            slope, curvature = -np.clip(z, -1.0, 1.0), -inside.astype(float)
            to = np.where(self.diagonal, 1.0 / np.where(self.diagonal, theta, 1.0), 1.0)  # dz / d theta
            gradient[at] = slope * to
            hessian[at, at] = curvature * to**2 - np.where(self.diagonal, slope * to**2, 0.0)
        return self.size * value, self.size * gradient, self.size * hessian

    def added(self, x, value, gradient, hessian, share):
        """A function's value, gradient and Hessian at x, or None for the last, with a share of the penalty added."""
        found, slope, curvature = self.derivatives(x)
        if hessian is not None:
            hessian = self._sum(hessian, share * curvature, gradient + share * slope)
        return value + share * found, gradient + share * slope, hessian

    def _sum(self, hessian, curvature, gradient):
        """The sum of both Hessians; far out, where it is of no maximum, without what of the penalty curves upwards.

        There the penalty falls along a line, or less, and only the likelihood tells how far steps may go. Where next to
        nothing is to be gained a direction that curves upwards leads away from a saddle.
        """
        on = np.ix_(self.active, self.active)
        size = np.sqrt(np.abs(np.diagonal(hessian)[self.active]))
        if not size.all():
            return hessian + curvature
        scaled = size[:, None] * size
        if np.linalg.eigvalsh((hessian + curvature)[on] / scaled)[-1] < 0.0:
            return hessian + curvature
        w, V = np.linalg.eigh(curvature[on] / scaled)
        concave = (V * np.minimum(w, 0.0)) @ V.T * scaled
        w, V = np.linalg.eigh((hessian[on] + concave) / scaled)
        along = V.T @ (gradient[self.active] / size)
        if w[-1] < 0.0 and -0.5 * np.sum(along**2 / w) < SADDLE:
            return hessian + curvature
        curvature = curvature.copy()
        curvature[on] = concave
        return hessian + curvature
