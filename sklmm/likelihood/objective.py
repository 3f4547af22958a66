"""The log-likelihood of a fitted mixed model as a function to move about in, and the quantities it is profiled over."""

import numpy as np
from scipy.linalg import pinvh

from sklmm.likelihood.base import _engine
from sklmm.passes.tables import row_scores

LEAST_LEFT = 1e-3  # the share of the information in any direction that other clusters must have for a Newton step
MOST_CHANGE = 0.5  # of a column of the relative covariance factor, relative to its length, in such a step


class MixedObjective:
    """Log-likelihood around a fit.

    Parameters
    ----------
    X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads
        As in `fit_mixed`.
    beta : ndarray
        Fitted fixed effects, the intercept first. The last columns of X, if it has none for them, are there for random
        slopes alone.
    theta : list of ndarray
        Fitted relative covariance factors, one entry per factor.

    Attributes
    ----------
    x : ndarray
        The fit, in the engine's own parameters.
    active : mask of the parameters that are estimated.
    n_fixed : int
        The first so many of x are fixed effects.
    value : float
        Log-likelihood at x.
    information : ndarray
        Minus the Hessian at x; 0 in the rows and columns of parameters that are not active.
    """

    def __init__(self, X, y, *, factors, sample_weight, fit_intercept, n_quadrature, n_threads, beta, theta):
        slopes_only = X.shape[1] + bool(fit_intercept) - len(beta)
        self._engine = engine = _engine(
            X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, slopes_only
        )
        beta = np.append(beta, np.zeros(slopes_only))
        self._n_effects = engine.n_fixed - slopes_only
        self._rows, self._n_factors = (X, y, sample_weight), len(factors)
        self.n_fixed = engine.n_fixed
        self.active = np.ones(engine.n_params, dtype=bool)
        self.active[: engine.p] = ~engine.aliased
        if not factors:
            self.active[engine.n_fixed :] = False
            theta = [np.zeros(engine.covariance.m)]
        self.x = engine.internal(beta, np.concatenate(theta))
        self.value, _, information = self.evaluate(self.x)
        if information is None:
            information = self._differences()
        self.information = np.where(self.active[:, None] & self.active, information, 0.0)

    def evaluate(self, x):
        """Value, gradient and minus the Hessian, which is None where the engine has none."""
        value, gradient, *hessian = self._engine.evaluate(x)
        return value, gradient, -hessian[0] if hessian else None

    def _differences(self):
        """Minus the Hessian at x by central differences of the gradient."""
        step = 1e-4
        rows = []
        for unit in np.eye(len(self.x)):
            change = self.evaluate(self.x - step * unit)[1] - self.evaluate(self.x + step * unit)[1]
            rows.append(change / (2 * step))
        return (np.array(rows) + np.array(rows).T) / 2

    def influence(self):
        """What each cluster contributes to the estimates: its score times the inverse information.

        Returns
        -------
        influence : ndarray of shape (n_clusters, n_params)
            0 for parameters that are not active. Without random effects each row is a cluster.
        counts : ndarray of shape (n_clusters,)
            How often each cluster is there: weights of rows that are clusters.

        Raises
        ------
        ValueError
            If there are several grouping factors.
        """
        if self._n_factors > 1:
            raise ValueError("scores of single clusters need a single grouping factor")
        X, y, weights = self._rows
        if not self._n_factors:
            beta = self._engine.natural(self.x)[0]
            scores = row_scores(X, y, beta, self._engine.fit_intercept) @ self._engine._fixed_map()
            scores = np.column_stack([scores, np.zeros((len(y), len(self.x) - self.n_fixed))])
            return self._times_inverse(scores), np.ones(len(y)) if weights is None else weights
        self.evaluate(self.x)
        scores = np.zeros((self._engine.n_levels, len(self.x)))
        for levels, _, gradients, _ in self._engine.by_cluster(self.x):
            scores[levels] = gradients
        return self._times_inverse(scores), np.ones(len(scores))

    def _times_inverse(self, scores):
        out, active = np.zeros_like(scores), self.active
        out[:, active] = np.linalg.solve(self.information[np.ix_(active, active)], scores[:, active].T).T
        return out

    def without_clusters(self):
        """The parameters after one step of Newton's method without each cluster, from x.

        The step is one in the factor Lambda of the covariance, in which the likelihood is nearly a parabola, except
        beside a variance or a correlation at the end of its range: the likelihood is even in each column of Lambda, and
        for columns next to 0 no parabola. Where the step would change a column by more than half, it is one in the
        covariance Lambda Lambda'.
        Columns of 0 stay: to first order the likelihood does not depend on them.

        Returns
        -------
        ndarray of shape (n_levels, n_params)
            x for levels without rows.

        Raises
        ------
        ValueError
            Unless there is a single grouping factor.
        """
        if self._n_factors != 1:
            raise ValueError("leaving out single clusters needs a single grouping factor")
        covariance, random = self._engine.covariance, slice(self.n_fixed, None)
        theta = self.x[random]
        _, total, information = self.evaluate(self.x)
        same_column = covariance.col[:, None] == covariance.col
        length = np.sqrt(same_column @ theta**2)  # of the column of each entry
        on = np.flatnonzero(self.active & np.append(np.ones(self.n_fixed, dtype=bool), length > 0))
        information = information[np.ix_(on, on)]
        # Entry k of the covariance is theta'S_k theta / 2.
        of_row, of_col = covariance.row == covariance.row[:, None], covariance.row == covariance.col[:, None]
        S = (of_row[:, :, None] & of_col[:, None, :] & same_column).astype(float)
        S += S.transpose(0, 2, 1)
        jacobian = S @ theta
        to_covariance = np.linalg.pinv(jacobian)

        def steps(gradients, left):
            found = np.zeros_like(gradients)
            found[:, on] = _newton_steps(gradients[:, on], left[:, on[:, None], on], information)
            return found

        out = np.tile(self.x, (self._engine.n_levels, 1))
        for levels, _, gradients, hessians in self._engine.by_cluster(self.x):
            rest, left = total - gradients, hessians
            left[:, on[:, None], on] += information
            step = steps(rest, left)
            out[levels] += step
            far = np.flatnonzero((np.sqrt(step[:, random] ** 2 @ same_column) > MOST_CHANGE * length).any(axis=1))
            if far.size:
                rest, left = rest[far], left[far]
                left[:, random, random] += np.tensordot(rest[:, random] @ to_covariance, S, 1)
                step = steps(rest, left)
                out[levels[far], : self.n_fixed] = self.x[: self.n_fixed] + step[:, : self.n_fixed]
                out[levels[far], random] = self._factor_entries(step[:, random] @ jacobian.T)
        return out

    def _factor_entries(self, changes):
        """theta of the covariance at x plus each row of changes, or of the positive semi-definite one next to it."""
        covariance = self._engine.covariance
        Lambda = covariance.lambda_(self.x[self.n_fixed :])
        matrices = np.tile(Lambda @ Lambda.T, (len(changes), 1, 1))
        matrices[:, covariance.row, covariance.col] += changes
        factors = np.zeros_like(matrices)
        for part, correlated in covariance.blocks:
            if not correlated:
                i = np.arange(part.start, part.stop)
                factors[:, i, i] = np.sqrt(np.maximum(matrices[:, i, i], 0.0))
                continue
            values, vectors = np.linalg.eigh(matrices[:, part, part])  # reads the lower triangle
            root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
            triangle = np.linalg.qr(np.swapaxes(root, 1, 2), mode="r")
            factors[:, part, part] = np.swapaxes(triangle, 1, 2)
        return factors[:, covariance.row, covariance.col]

    def natural_factors(self, points):
        """For each row of parameters beta and a factor L of the random coefficients' covariance LL', in the user's
        units."""
        covariance = self._engine.covariance
        Lambda = np.zeros((len(points), covariance.q, covariance.q))
        Lambda[:, covariance.row, covariance.col] = points[:, self.n_fixed :]
        beta = points[:, : self.n_fixed] @ self._engine._fixed_map().T[:, : self._n_effects]
        return beta, self._engine.random_map() @ Lambda

    def fixed_effect(self, position):
        """The fixed effect at a position of beta."""
        direction = np.zeros(len(self.x))
        direction[: self.n_fixed] = self._engine._fixed_map()[position]
        return FixedEffect(direction)

    def standard_deviation(self, a):
        """The standard deviation of the random coefficient at a position, counted over the factors."""
        return StandardDeviation(self._quadratic(a, a), self._diagonal(a))

    def correlation(self, a, b):
        """The correlation of two random coefficients, on Fisher's z scale."""
        forms = [self._quadratic(*pair) for pair in ((a, b), (a, a), (b, b))]
        parts = tuple(map(self.standard_deviation, (a, b)))
        return Correlation(*forms, np.flatnonzero(self._engine.covariance.diagonal) + self.n_fixed, parts)

    def _quadratic(self, a, b):
        """The symmetric matrix Q for which x'Qx is the covariance of two random coefficients."""
        covariance, R = self._engine.covariance, self._engine.random_map()
        Q = np.zeros((len(self.x), len(self.x)))
        same_column = covariance.col[:, None] == covariance.col
        block = same_column * np.outer(R[a, covariance.row], R[b, covariance.row])
        Q[self.n_fixed :, self.n_fixed :] = (block + block.T) / 2
        return Q

    def _diagonal(self, a):
        """d(coefficient a) / d(its own entry on the diagonal of the relative covariance factor)."""
        covariance = self._engine.covariance
        direction = np.zeros(len(self.x))
        entry = np.flatnonzero((covariance.row == a) & (covariance.col == a))
        direction[self.n_fixed + entry] = self._engine.random_map()[a, a]
        return direction


# Quantities have `lowest` and `highest`, between which they are profiled; `limits`, what an interval's end is where the
# likelihood has not fallen far enough there; `fades`, beyond which the slope of the profile falls as exp(-c); and
# `parts`, standard deviations without which the quantity means nothing.


def _newton_steps(gradients, informations, information):
    """Newton steps without each cluster; by the infinitesimal jackknife where a direction is known from it alone.

    Parameters
    ----------
    gradients : ndarray of shape (n_clusters, n_params)
    informations : ndarray of shape (n_clusters, n_params, n_params)
        Without each cluster.
    information : ndarray of shape (n_params, n_params)
        Of all clusters.
    """
    try:
        np.linalg.cholesky(informations - LEAST_LEFT * information)
        return np.linalg.solve(informations, gradients[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        if len(gradients) == 1:
            return gradients @ pinvh(information)
        half = len(gradients) // 2
        parts = slice(None, half), slice(half, None)
        return np.concatenate([_newton_steps(gradients[part], informations[part], information) for part in parts])


class FixedEffect:
    """A linear function of the parameters."""

    lowest, highest = -np.inf, np.inf
    limits = (-np.inf, np.inf)
    fades, parts = np.inf, ()

    def __init__(self, direction):
        self.direction = direction

    def at(self, x):
        """Value, gradient and Hessian."""
        return self.direction @ x, self.direction, np.zeros((len(x), len(x)))

    def off_boundary(self, x, value):
        """A point near x from which the quantity is smooth."""
        return x

    def to_user(self, value):
        """The value as users know it."""
        return value


class StandardDeviation:
    """The root of a quadratic form; not smooth at 0."""

    lowest, highest = 0.0, np.inf
    limits = (0.0, np.inf)
    fades, parts = np.inf, ()

    def __init__(self, Q, diagonal):
        self.Q, self.diagonal = Q, diagonal

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
    """A correlation on Fisher's z scale, from three quadratic forms; infinite for singular covariances."""

    lowest, highest = -6.0, 6.0  # correlations of 1 - 1e-5: what is likely there is likely at 1
    limits = (-np.inf, np.inf)
    fades = 3.0  # the likelihood is smooth in sqrt(1 - rho^2), about 2 exp(-c)

    def __init__(self, cross, first, second, diagonal, parts):
        self.forms, self.diagonal, self.parts = (cross, first, second), diagonal, parts

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
