"""A linear model with priors: the mode of likelihood times prior in (beta, theta, log sigma), and what is known there.

Without priors coefficients and sigma have a best value at each theta; with them all are climbed together. The
likelihood is that of the fit's method. REML's allows for coefficients with flat priors: where theirs say much, its
variances are a little too large.
"""

from dataclasses import dataclass, replace

import numpy as np

from sklmm.likelihood.linear import LinearLikelihood
from sklmm.likelihood.penalised import Penalised
from sklmm.likelihood.polar import Polar
from sklmm.optimize.newton import maximise

TRIED = (0.1, 1.0, 10.0)  # relative standard deviations that are tried where one ends at 0
HIGHER = 1e-8  # log-likelihood units: rounding errors


class LinearPosterior(Penalised):
    """Likelihood times prior of a linear model, an `Engine`.

    Parameters
    ----------
    products : ClusterProducts or SeveralProducts
    reml : bool
    priors : ModelPriors
    precision_scale : float
        What precisions were divided by: the residual deviation that has a prior is of a row with precision 1.
    """

    def __init__(self, products, reml, priors, precision_scale=1.0):
        engine = LinearLikelihood(products, reml)
        penalty = priors.penalty(engine)
        penalty.sigma_factor = np.sqrt(precision_scale)
        super().__init__(engine, [penalty])
        self.products, self.criterion = products, engine.criterion

    def mode(self, *, tol=1e-10, max_iter=100, progress=None):
        """The highest of the modes that climbs from several standard deviations end at.

        Returns
        -------
        Optimum
            In the engine's parameters.
        """
        products, covariance = self.products, self.covariance
        best = self.climb(self.start(products.first_theta()), tol, max_iter, progress)
        theta = best.x[self.n_fixed : -1]
        zero = covariance.diagonal & (theta == 0.0)
        if not self.structure.factors or not zero.any():
            return best
        report = best.report
        verdict = report.converged, report.decrement, report.verdict
        for size in TRIED:
            try:
                start = self.start(np.where(zero, size, theta))
                found = self.climb(start, tol, report.n_iter + max_iter, progress, report)
            except FloatingPointError:
                continue
            if found.value > best.value + HIGHER:
                best, verdict = found, (report.converged, report.decrement, report.verdict)
        report.converged, report.decrement, report.verdict = verdict
        return best

    def optimum(self):
        """The mode, and the report of the climb: as `LinearLikelihood.optimum`."""
        found = self.mode()
        return found.x, found.report

    def start(self, theta):
        """The best coefficients and sigma of the likelihood at theta."""
        point = self.criterion.at(theta)
        return np.concatenate([self.products.beta(point.beta), theta, [self.criterion.log_sigma(point)]])

    def climb(self, x, tol, max_iter, progress, report=None):
        """The mode that one climb from x leads to."""
        held = np.zeros(self.n_params, dtype=bool)
        held[: self.aliased.size] = self.aliased
        held[self.n_fixed : -1] = not self.structure.factors
        settings = dict(
            held=held, snap=self.snap, tol=tol, max_iter=max_iter, progress=progress, report=report, give_up=None,
            n_rows=self.n_rows, n_fixed=self.n_fixed,
        )  # fmt: skip
        polar = Polar.of(self) if self.structure.factors else None
        return _climb(self, x, settings) if polar is None else polar.climb(x, _climb, self, settings)


def _climb(engine, x, settings):
    return maximise(engine.evaluate, x, strides=(1,), polish=True, **settings)


@dataclass(frozen=True)
class Mode:
    """What a fit's numbers need of a mode, in place of the best coefficients and sigma at its theta.

    Attributes
    ----------
    beta : ndarray of shape (f,)
        Estimated fixed effects, of the scaled outcome.
    tau : float
        log sigma.
    curvature : ndarray of shape (f + m + 1, f + m + 1)
        Hessian of the log prior.
    log_prior : float
    """

    beta: np.ndarray
    tau: float
    curvature: np.ndarray
    log_prior: float

    @classmethod
    def of(cls, posterior, x):
        """At the engine's parameters x."""
        kept = np.append(posterior.products.kept, np.arange(posterior.n_fixed, posterior.n_params))
        value, _, hessian = posterior.with_penalties(x, 0.0, np.zeros_like(x), np.zeros((x.size, x.size)))
        return cls(x[posterior.products.kept], float(x[-1]), hessian[np.ix_(kept, kept)], float(value))

    def at(self, point):
        """A `Point` with these coefficients."""
        residual = np.append(-self.beta, 1.0)
        return replace(point, beta=self.beta, squares=float(residual @ point.Q @ residual))
