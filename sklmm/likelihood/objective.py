"""The log-likelihood of a fitted model as a function to move about in, from where the fit ended."""

import numpy as np


class MixedObjective:
    """Log-likelihood around a fit.

    Parameters
    ----------
    engine : Engine
        Of the rows of the fit.
    beta : ndarray
        Fitted fixed effects, the intercept first.
    theta : list of ndarray
        Fitted relative covariance factors, one entry per factor.

    Attributes
    ----------
    engine : Engine
    x : ndarray
        The fit, in the engine's own parameters.
    active : mask of the parameters that are estimated.
    value : float
        Log-likelihood at x.
    information : ndarray
        Minus the Hessian at x; 0 in the rows and columns of parameters that are not active.
    """

    def __init__(self, engine, beta, theta):
        self.engine, structure = engine, engine.structure
        self.active = np.ones(engine.n_params, dtype=bool)
        self.active[: engine.aliased.size] = ~engine.aliased
        if not structure.factors:
            self.active[engine.n_fixed :] = False
            theta = [np.zeros(engine.covariance.m)]
        beta = np.append(beta, np.zeros(structure.slopes_only))
        self.x = engine.units.internal(beta, np.concatenate(theta))
        self.value, _, hessian = engine.evaluate(self.x)
        information = self._differences() if hessian is None else -hessian
        self.information = np.where(self.active[:, None] & self.active, information, 0.0)

    def _differences(self):
        """Minus the Hessian at x by central differences of the gradient."""
        step = 1e-4
        rows = []
        for unit in np.eye(len(self.x)):
            change = self.engine.evaluate(self.x - step * unit)[1] - self.engine.evaluate(self.x + step * unit)[1]
            rows.append(change / (2 * step))
        return (np.array(rows) + np.array(rows).T) / 2
