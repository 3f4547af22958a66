"""Densities of single parameters: of the posterior from weighted points, of the prior from its formula."""

import numpy as np
from scipy import stats

from sklmm.posterior.joint_prior import JointPrior
from sklmm.priors import LKJ, Normal


def posterior_density(values, weights, grid, lowest=-np.inf):
    """Kernel density of weighted numbers, reflected at the end of their range."""
    if np.ptp(values) == 0.0:
        return np.full(len(grid), np.nan)
    kernel = stats.gaussian_kde(values, weights=weights)
    found = kernel(grid)
    if np.isfinite(lowest):
        found = np.where(grid >= lowest, found + kernel(2.0 * lowest - grid), 0.0)
    return found


def prior_density(prior, parameter, names, grid):
    """Marginal density of a parameter's prior.

    Parameters
    ----------
    prior : ModelPriors or JointPrior
    parameter : Parameter
    names : list of str
        Of the parameters, in their order.
    grid : ndarray

    Returns
    -------
    density : ndarray, or None where the prior is flat or has no formula for one parameter alone
    """
    if isinstance(prior, JointPrior):
        return _of_joint(prior, parameter, names, grid)
    at = parameter.positions
    with np.errstate(divide="ignore", invalid="ignore"):
        if parameter.kind == "fixed":
            return _of_effect(prior, at[0], grid)
        if not at:
            return None if prior.residual is None else np.exp(prior.residual.log_density(grid))
        for term in prior.terms:
            if len(at) == 1 and at == term.positions and term.kind == "sd":
                return np.exp(term.density.log_density(grid))
            if len(at) == 1 and at == term.positions and term.kind == "variance":
                return np.exp(term.density.log_density(grid**2)) * 2.0 * grid
            if len(at) == 2 and term.kind == "correlation" and set(at) <= set(term.positions):
                return of_correlation(term.density, len(term.positions), grid)
    return None


def _of_effect(prior, j, grid):
    effects = prior.effects
    involved = [each for each in effects if each.weights[:, j].any()]
    if len(involved) == 1 and len(involved[0].weights) == 1 and np.count_nonzero(involved[0].weights) == 1:
        weight, density = involved[0].weights[0, j], involved[0].density
        return np.exp(density.log_density(weight * grid)) * abs(weight)
    normal = all(isinstance(each.density, Normal) for each in effects)
    W = np.vstack([each.weights for each in effects]) if normal and effects else np.zeros((0, 1))
    if W.shape[0] != W.shape[1] or np.linalg.matrix_rank(W) < len(W):
        return None
    row = np.linalg.inv(W)[j]
    mean = row @ [each.density.loc for each in effects]
    return stats.norm.pdf(grid, mean, np.sqrt(row**2 @ [each.density.scale**2 for each in effects]))


def of_correlation(density, q, grid):
    """Of one of the correlations of q coefficients (Lewandowski, Kurowicka and Joe 2009)."""
    if not isinstance(density, LKJ):
        return None
    shape = density.eta + 0.5 * q - 1.0
    return 0.5 * stats.beta.pdf(0.5 * (grid + 1.0), shape, shape)


def _of_joint(prior, parameter, names, grid):
    j, at, k = names.index(parameter.name), parameter.positions, prior.kept.size
    if len(at) == 2 and any(at[0] in pair for pair in prior.pairs if pair != at):
        return None  # partial correlations are normal, and this is none
    sds = np.flatnonzero([name.startswith("sd_") for name in names[k:]])
    if parameter.kind == "fixed":
        column = j
    elif not at:
        column = len(prior.mean) - 1
    elif len(at) == 1:
        column = k + at[0]
    else:
        column = k + len(sds) + prior.pairs.index(at)
    mean, sd = prior.mean[column], np.sqrt(prior.covariance[column, column])
    with np.errstate(divide="ignore", invalid="ignore"):
        if parameter.kind == "fixed":
            return stats.norm.pdf(grid, mean, sd)
        if not at or (len(at) == 1 and prior.logarithms[at[0]]):
            return stats.norm.pdf(np.log(grid), mean, sd) / grid
        if len(at) == 1:
            root = np.sqrt(grid)
            return (stats.norm.pdf(root, mean, sd) + stats.norm.pdf(-root, mean, sd)) / (2.0 * root)
        return stats.norm.pdf(np.arctanh(grid), mean, sd) / (1.0 - grid**2)
