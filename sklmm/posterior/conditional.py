"""What a draw of the parameters says of groups and of new rows."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from sklmm.design.units import FitUnits
from sklmm.likelihood.posterior import NodePosterior
from sklmm.prediction.predictor import Predictor

CANDIDATES = 4  # effects proposed for a group, of which one is kept
DF = 5.0


@dataclass
class DrawPredictor(Predictor):
    """A model at one draw of its parameters; `sigma` of a linear model."""

    units: FitUnits = None
    sigma: float | None = None

    def fixed(self, X):
        return self.units.linear_predictor(X)

    def __post_init__(self):
        self.coef = self.intercept = None


def predictor_at(engine, x, n_threads):
    """The predictor of new rows at the engine's parameters x, of the groups in the engine's rows."""
    structure, units = engine.structure, engine.units
    linear = hasattr(units, "y_scale")
    inner, y_scale, sigma = (units.units, units.y_scale, None) if linear else (units, 1.0, None)
    if linear:
        sigma = y_scale * float(np.exp(x[-1]))
    else:
        engine.value(x)
    engine.random_effects(x)
    posteriors, joint = engine.posteriors(x)
    sizes = [len(factor.columns) for factor in structure.factors]
    scales = inner.effect_units(x[: inner.n_params], sizes) if sizes else []
    if linear:
        scales = [replace(each, Lambda=sigma * each.Lambda) for each in scales]
    fixed = x[: inner.n_params].copy()
    fixed[: inner.n_fixed] *= y_scale
    if linear and inner.fit_intercept:
        fixed[inner.n_fixed - 1] += units.y_center
    factors = [SimpleNamespace(units=unit, posterior=own) for unit, own in zip(scales, posteriors, strict=True)]
    family = structure.family
    own = FitUnits(inner, fixed, inner.p - structure.slopes_only)
    return DrawPredictor(None, None, factors, joint, n_threads, family, own, sigma)


def effects_at(engine, x, f, rng, n_threads=1, n_draws=1):
    """Random coefficients of a factor's levels given parameters x, in the user's units.

    Returns
    -------
    mean, variance : ndarray of shape (n_levels, q)
    draws : ndarray of shape (n_draws, n_levels, q)
    """
    predictor = predictor_at(engine, x, n_threads)
    factor = predictor.factors[f]
    posterior, natural = factor.posterior, factor.units.natural
    if isinstance(posterior, NodePosterior):
        weights = posterior.weights.astype(np.float64)
        weights /= weights.sum(axis=1, keepdims=True)
        points = weights @ posterior.grid.points[:, : posterior.grid.k].T
        mean = posterior.center + np.einsum("nab,nb->na", posterior.factor, points)
        cov = posterior.covariances(slice(None))
        draws = [_drawn(engine, predictor, rng) for _ in range(n_draws)]
    else:
        mean, cov, draws = posterior.mean, posterior.cov, [posterior.draw(rng) for _ in range(n_draws)]
    variance = np.einsum("ab,nbc,ac->na", natural, cov, natural)
    return mean @ natural.T, variance, np.array(draws) @ natural.T


def _drawn(engine, predictor, rng):
    """Spherical effects of each level of the one factor: of four that are drawn from a t distribution around the mode,
    one, with probability proportional to the posterior density over that of the t."""
    (X, y, w, start), units = engine.rows, predictor.factors[0].units
    n, q = engine.modes.shape
    H = np.zeros((n, q, q))
    lower = np.tril_indices(q)
    H[:, lower[0], lower[1]] = H[:, lower[1], lower[0]] = engine.curvature
    root = np.linalg.cholesky(np.linalg.inv(H))
    z = rng.standard_normal((CANDIDATES, n, q)) * np.sqrt(DF / rng.chisquare(DF, (CANDIDATES, n, 1)))
    u = engine.modes + np.einsum("nab,cnb->cna", root, z)
    X = np.asarray(X, dtype=np.float64)
    fixed, t = predictor.units.design(X) @ predictor.units.beta, units.loadings(X)
    if engine.row_offset is not None:
        fixed = fixed + engine.row_offset
    of_row = np.repeat(np.arange(n), np.diff(start))
    filled = np.flatnonzero(np.diff(start) > 0)
    log_ratio = -0.5 * np.einsum("cna,cna->cn", u, u) + 0.5 * (DF + q) * np.log1p(np.einsum("cna,cna->cn", z, z) / DF)
    for c in range(CANDIDATES):
        eta = fixed + np.einsum("na,na->n", t, u[c][of_row])
        rows = predictor.family.log_density(eta, y)
        rows = rows if w is None else w * rows
        if filled.size:
            log_ratio[c, filled] += np.add.reduceat(rows, start[filled])
    gumbel = rng.gumbel(size=log_ratio.shape)
    chosen = u[np.argmax(log_ratio + gumbel, axis=0), np.arange(n)]
    out = rng.standard_normal((len(predictor.factors[0].posterior.modes), q))  # of levels without rows
    out[engine.level_of_cluster] = chosen
    return out
