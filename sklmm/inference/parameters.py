"""Quantities of a mixed model, as functions of an engine's parameters x in the user's terms.

A quantity has ``at(x) -> value, gradient, Hessian``; `lowest` and `highest`, between which it is profiled; `limits`,
what an interval's end is where the likelihood has not fallen far enough there; `fades`, beyond which the slope of the
profile falls as exp(-c); and `parts`, standard deviations without which the quantity means nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg


class FixedEffect:
    """The fixed effect at a position of beta: a linear function, but for the centre of the offset."""

    lowest, highest = -np.inf, np.inf
    limits = (-np.inf, np.inf)
    fades, parts = np.inf, ()

    def __init__(self, units, position):
        self.direction = np.zeros(units.n_params)
        self.direction[: units.n_fixed] = units.fixed_map()[position]
        self.shift = units.fixed_shift()[position]

    def at(self, x):
        """Value, gradient and Hessian."""
        return self.direction @ x - self.shift, self.direction, np.zeros((len(x), len(x)))

    def off_boundary(self, x, value):
        """A point near x from which the quantity is smooth."""
        return x

    def to_user(self, value):
        """The value as users know it."""
        return value


class StandardDeviation:
    """The standard deviation of the random coefficient at a position, counted over the factors; not smooth at 0."""

    lowest, highest = 0.0, np.inf
    limits = (0.0, np.inf)
    fades, parts = np.inf, ()

    def __init__(self, units, a):
        self.Q, covariance = _quadratic(units, a, a), units.covariance
        # d(coefficient a) / d(its own entry on the diagonal of the relative covariance factor)
        self.diagonal = np.zeros(units.n_params)
        entry = np.flatnonzero((covariance.row == a) & (covariance.col == a))
        self.diagonal[units.n_fixed + entry] = units.random_map()[a, a]

    def at(self, x):
        """Value, gradient and Hessian; at 0 along the coefficient's own diagonal entry."""
        half = self.Q @ x
        value = np.sqrt(max(x @ half, 0.0))
        if value < 1e-10:
            return 0.0, self.diagonal, np.zeros_like(self.Q)
        gradient = half / value
        return value, gradient, (self.Q - np.outer(gradient, gradient)) / value

    def off_boundary(self, x, value):
        """x, its standard deviation made `value` if it is 0."""
        if self.at(x)[0] >= 1e-10:
            return x
        return x + self.diagonal * (value / (self.diagonal @ self.diagonal))

    def to_user(self, value):
        """The value as users know it."""
        return value


class Correlation:
    """The correlation of two random coefficients, on Fisher's z scale; infinite for singular covariances."""

    lowest, highest = -6.0, 6.0  # correlations of 1 - 1e-5: what is likely there is likely at 1
    limits = (-np.inf, np.inf)
    fades = 3.0  # the likelihood is smooth in sqrt(1 - rho^2), about 2 exp(-c)

    def __init__(self, units, a, b):
        self.forms = [_quadratic(units, *pair) for pair in ((a, b), (a, a), (b, b))]
        self.diagonal = np.flatnonzero(units.covariance.diagonal) + units.n_fixed
        self.parts = StandardDeviation(units, a), StandardDeviation(units, b)

    def at(self, x):
        """Value, gradient and Hessian."""
        halves = [Q @ x for Q in self.forms]
        c, a, b = (x @ half for half in halves)
        dc, da, db = (2 * half for half in halves)
        ddc, dda, ddb = (2 * Q for Q in self.forms)
        if a <= 0 or b <= 0:
            return np.nan, np.full_like(x, np.nan), np.full((len(x), len(x)), np.nan)
        root = np.sqrt(a * b)
        rho = np.clip(c / root, -1 + 1e-12, 1 - 1e-12)
        # rho = c (ab)^(-1/2): d rho = dc / root - rho dlog, with dlog = (da / a + db / b) / 2
        log = (da / a + db / b) / 2
        ddlog = (dda / a - np.outer(da, da) / a**2 + ddb / b - np.outer(db, db) / b**2) / 2
        gradient = dc / root - rho * log
        hessian = ddc / root - np.outer(dc / root, log) - np.outer(log, gradient) - rho * ddlog
        # z = atanh(rho)
        slope = 1 / (1 - rho**2)
        return np.arctanh(rho), slope * gradient, slope * hessian + 2 * rho * slope**2 * np.outer(gradient, gradient)

    def off_boundary(self, x, value):
        """x, the zeros on the diagonal of its relative covariance factor raised."""
        x = x.copy()
        zero = self.diagonal[np.abs(x[self.diagonal]) < 1e-4]
        x[zero] = 0.1
        return x

    def to_user(self, value):
        """The value as users know it."""
        return 1.0 if value == np.inf else -1.0 if value == -np.inf else float(np.tanh(value))


def _quadratic(units, a, b):
    """The symmetric matrix Q for which x'Qx is the covariance of two random coefficients."""
    covariance, R, k = units.covariance, units.random_map(), units.n_fixed
    Q = np.zeros((units.n_params, units.n_params))
    same_column = covariance.col[:, None] == covariance.col
    block = same_column * np.outer(R[a, covariance.row], R[b, covariance.row])
    Q[k:, k:] = (block + block.T) / 2
    return Q


@dataclass
class Parameter:
    """A parameter in the user's terms: a fixed effect by its position, a standard deviation or correlation by the
    positions of one or two random coefficients."""

    name: str
    kind: str
    positions: tuple
    identified: bool = True

    def quantity(self, units):
        """It as a function of an engine's parameters, of which these are the units."""
        if self.kind == "fixed":
            return FixedEffect(units, *self.positions)
        return (StandardDeviation if len(self.positions) == 1 else Correlation)(units, *self.positions)


class Estimates:
    """The parameters' estimates as a vector: of a `MixedFit`, or of coefficients and covariance matrices."""

    def __init__(self, parameters, fit_intercept):
        self.kinds, self.first = [(parameter.kind, parameter.positions) for parameter in parameters], int(fit_intercept)

    def __call__(self, fit):
        beta = fit.beta.copy()
        beta[[j + self.first for j in fit.aliased]] = np.nan
        return self.of(beta, [factor @ factor.T for factor in fit.lambda_])

    def of(self, beta, covariances):
        """Fixed effects, standard deviations and correlations, in the order of the parameters."""
        D = linalg.block_diag(*covariances) if covariances else np.zeros((0, 0))
        sd = np.sqrt(np.diagonal(D))
        with np.errstate(divide="ignore", invalid="ignore"):
            corr = D / sd[:, None] / sd
        values = (
            beta[at[0]] if kind == "fixed" else sd[at[0]] if len(at) == 1 else corr[at] for kind, at in self.kinds
        )
        return np.fromiter(values, dtype=float, count=len(self.kinds))
