"""The log posterior of a mixed model's parameters in the coordinates it is sampled in, and its mode."""

import numpy as np
from scipy import optimize

from sklmm.posterior.coordinates import Coordinates

STEP = 1e-3  # of differences of gradients, in units of about a posterior standard deviation
PRIOR_STEP = 1e-4
SMALLEST = 1e-3  # eigenvalues of the curvature at the mode, relative to their median: others are raised
STEPS = 100


class PriorsOfDraws:
    """Priors of a model as a log density of many draws.

    Parameters
    ----------
    priors : ModelPriors
    held : ndarray of int
        Fixed effects that are not estimated: what is only of them counts for nothing.
    """

    def __init__(self, priors, held):
        self.priors = priors.without_effects(held)

    def log_density(self, user):
        """Of (beta, standard deviations, correlations, sigma), for `UserParameters` of n draws: (n,)."""
        total = np.zeros(len(user.beta))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for each in self.priors.effects:
                values = user.beta @ each.weights.T
                if each.density.of == "vector":
                    total += [float(each.density.log_density(value)) for value in values]
                else:
                    total += each.density.log_density(values[:, 0])
            for each in self.priors.terms:
                total += self._of_term(each, user)
            if self.priors.residual is not None:
                total += self.priors.residual.log_density(user.sigma)
        return total

    @staticmethod
    def _of_term(term, user):
        at = list(term.positions)
        sds = user.sds[:, at]
        if term.kind == "sd":
            return term.density.log_density(sds[:, 0])
        if term.kind == "variance":
            return term.density.log_density(sds[:, 0] ** 2) + np.log(2.0 * sds[:, 0])
        if term.kind == "correlation":
            R = user.correlations[:, at][:, :, at]
            return np.array([float(term.density.log_density(each)) for each in R])
        D = user.covariances[:, at][:, :, at]
        jacobian = len(at) * (np.log(2.0) + np.log(sds).sum(axis=1))
        return np.array([float(term.density.log_density(each)) for each in D]) + jacobian


class LogPosterior:
    """log p(z | y): the engine's log-likelihood, the log prior and the Jacobian of z.

    Parameters
    ----------
    engine : Engine
    priors : object with ``log_density(UserParameters)``
    """

    def __init__(self, engine, priors):
        self.engine, self.priors = engine, priors
        self.coordinates = Coordinates(engine, priors)

    def log_prior(self, z, user=None):
        """Log prior and Jacobian at points (n, d): (n,)."""
        user = self.coordinates.user(z) if user is None else user
        return self.priors.log_density(user) + self.coordinates.log_jacobian(z)

    def __call__(self, z):
        """Log density at points (n, d): (n,), -inf where there is none."""
        user = self.coordinates.user(z)
        total = self.log_prior(z, user)
        total[np.isnan(total)] = -np.inf
        x = self.coordinates.engine(z, user)
        for i in np.flatnonzero(np.isfinite(total)):
            try:
                total[i] += self.engine.value(x[i])
            except FloatingPointError:
                total[i] = -np.inf
        total[np.isnan(total)] = -np.inf
        return total

    def with_gradient(self, z):
        """Log density at one point and its gradient; -inf and zeros where there is none."""
        nothing = -np.inf, np.zeros_like(z)
        sides = z + np.concatenate([np.zeros((1, z.size)), self._steps(z), -self._steps(z)])
        if (z[self.coordinates.folded] <= 0.0).any():
            return nothing
        user = self.coordinates.user(sides)
        prior, x = self.log_prior(sides, user), self.coordinates.engine(sides, user)
        try:
            value, slope, _ = self.engine.evaluate(x[0])
        except FloatingPointError:
            return nothing
        d, value = z.size, value + prior[0]
        steps = np.diagonal(self._steps(z))
        moves = (x[1 : d + 1] - x[d + 1 :]) / (2.0 * steps[:, None])
        gradient = moves @ slope + (prior[1 : d + 1] - prior[d + 1 :]) / (2.0 * steps)
        return (float(value), gradient) if np.isfinite(value) and np.isfinite(gradient).all() else nothing

    def _steps(self, z):
        """Steps of differences of the maps, which are as smooth as z is large."""
        steps = np.full(z.size, PRIOR_STEP)
        folded = self.coordinates.folded
        steps[folded] = PRIOR_STEP * np.abs(z[folded])
        return np.diag(steps)

    def hessian(self, z, scale):
        """By differences of the gradient, in units of `scale`; of a point near the mode."""
        rows = []
        for j in range(z.size):
            step = np.zeros_like(z)
            step[j] = STEP * scale[j]
            rows.append((self.with_gradient(z + step)[1] - self.with_gradient(z - step)[1]) / (2.0 * STEP))
        H = np.array(rows) * scale
        return 0.5 * (H + H.T)

    def mode(self, x):
        """The mode, and the inverse of minus the Hessian there with small eigenvalues raised.

        Parameters
        ----------
        x : ndarray
            Parameters of the engine where the likelihood, or the posterior without Jacobians, is highest.

        Returns
        -------
        mode : ndarray of shape (d,)
        covariance : ndarray of shape (d, d)
        """
        z = self.coordinates.start(x)
        scale = self._scale(z)

        def loss(v):
            value, gradient = self.with_gradient(z + scale * v)
            return -value, -scale * gradient

        found = optimize.minimize(
            loss, np.zeros_like(z), jac=True, hess=lambda v: -self.hessian(z + scale * v, scale), method="trust-exact",
            options={"gtol": 1e-3, "initial_trust_radius": 1.0, "max_trust_radius": 30.0, "maxiter": STEPS},
        )  # fmt: skip
        mode = z + scale * found.x
        values, vectors = np.linalg.eigh(-self.hessian(mode, scale))
        values = np.maximum(values, SMALLEST * max(float(np.median(values)), 1e-8))
        root = scale[:, None] * vectors / np.sqrt(values)
        return mode, root @ root.T

    def _scale(self, z):
        """About a posterior standard deviation of each coordinate."""
        coordinates = self.coordinates
        evaluated = self.engine.evaluate(coordinates.engine(z)[0])
        hessian = evaluated[2] if evaluated[2] is not None else -self.engine.information(coordinates.engine(z)[0])
        scale = np.full(z.size, 0.2)
        free = coordinates.free
        scale[: free.size] = 1.0 / np.sqrt(np.maximum(-np.diagonal(hessian)[free], 1.0))
        scale[coordinates.folded] = 0.2 * z[coordinates.folded]
        return scale
