"""What each cluster does to a fit: its influence, and the parameters after a Newton step without it."""

import numpy as np
from scipy.linalg import pinvh

from sklmm.passes.tables import row_scores

LEAST_LEFT = 1e-3  # the share of the information in any direction that other clusters must have for a Newton step
MOST_CHANGE = 0.5  # of a column of the relative covariance factor, relative to its length, in such a step


def influence(objective):
    """What each cluster contributes to the estimates: its score times the inverse information.

    Parameters
    ----------
    objective : MixedObjective

    Returns
    -------
    influence : ndarray of shape (n_clusters, n_params)
        0 for parameters that are not active. Without random effects each row is a cluster, or each line of counts.
    counts : ndarray of shape (n_clusters,)
        How often each cluster is there: weights of rows that are clusters.

    Raises
    ------
    ValueError
        If there are several grouping factors.
    """
    engine, x = objective.engine, objective.x
    if len(engine.structure.factors) > 1:
        raise ValueError("scores of single clusters need a single grouping factor")
    scores = np.zeros((engine.structure.factors[0].n_levels if engine.has_clusters else engine.n_rows, len(x)))
    counts = np.ones(len(scores))
    if engine.has_clusters:
        engine.evaluate(x)
        for levels, _, gradients, _ in engine.by_cluster(x):
            scores[levels] = gradients
    else:
        rows, units = engine.observations, engine.units
        of_rows = row_scores(
            rows.X, rows.y, units.natural(x)[0], units.fit_intercept, engine.structure.family, rows.offset
        )
        scores[:, : engine.n_fixed] = of_rows @ units.fixed_map()
        counts = counts if rows.weights is None else rows.weights
        if rows.lines is not None:
            _, line = np.unique(rows.lines, return_inverse=True)
            scores = np.stack([np.bincount(line, weights=column) for column in (counts[:, None] * scores).T], axis=1)
            counts = np.ones(len(scores))
    out, active = np.zeros_like(scores), objective.active
    out[:, active] = np.linalg.solve(objective.information[np.ix_(active, active)], scores[:, active].T).T
    return out, counts


def without_clusters(objective):
    """The parameters after one step of Newton's method without each cluster, from x.

    The step is one in the factor Lambda of the covariance, in which the likelihood is nearly a parabola, except
    beside a variance or a correlation at the end of its range: the likelihood is even in each column of Lambda, and
    for columns next to 0 no parabola. Where the step would change a column by more than half, it is one in the
    covariance Lambda Lambda'.
    Columns of 0 stay: to first order the likelihood does not depend on them.

    Parameters
    ----------
    objective : MixedObjective

    Returns
    -------
    ndarray of shape (n_levels, n_params)
        x for levels without rows.

    Raises
    ------
    ValueError
        Unless there is a single grouping factor.
    """
    engine, x = objective.engine, objective.x
    if not engine.has_clusters:
        raise ValueError("leaving out single clusters needs a single grouping factor")
    covariance, random = engine.covariance, slice(engine.n_fixed, None)
    theta = x[random]
    _, total, hessian = engine.evaluate(x)
    same_column = covariance.col[:, None] == covariance.col
    length = np.sqrt(same_column @ theta**2)  # of the column of each entry
    on = np.flatnonzero(objective.active & np.append(np.ones(engine.n_fixed, dtype=bool), length > 0))
    information = -hessian[np.ix_(on, on)]
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

    out = np.tile(x, (engine.structure.factors[0].n_levels, 1))
    for levels, _, gradients, hessians in engine.by_cluster(x):
        rest, left = total - gradients, hessians
        left[:, on[:, None], on] += information
        step = steps(rest, left)
        out[levels] += step
        far = np.flatnonzero((np.sqrt(step[:, random] ** 2 @ same_column) > MOST_CHANGE * length).any(axis=1))
        if far.size:
            rest, left = rest[far], left[far]
            left[:, random, random] += np.tensordot(rest[:, random] @ to_covariance, S, 1)
            step = steps(rest, left)
            out[levels[far], : engine.n_fixed] = x[: engine.n_fixed] + step[:, : engine.n_fixed]
            out[levels[far], random] = _factor_entries(covariance, theta, step[:, random] @ jacobian.T)
    return out


def natural_factors(engine, points):
    """For each row of parameters beta and a factor L of the random coefficients' covariance LL', in the user's
    units."""
    covariance, units, k = engine.covariance, engine.units, engine.n_fixed
    Lambda = np.zeros((len(points), covariance.q, covariance.q))
    Lambda[:, covariance.row, covariance.col] = points[:, k:]
    n_natural = k - engine.structure.slopes_only
    beta = points[:, :k] @ units.fixed_map().T[:, :n_natural] - units.fixed_shift()[:n_natural]
    return beta, units.random_map() @ Lambda


def _factor_entries(covariance, theta, changes):
    """theta of the covariance plus each row of changes, or of the positive semi-definite one next to it."""
    Lambda = covariance.lambda_(theta)
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
