"""Linear models without each cluster: one step of Newton's method from the fit."""

import numpy as np

from sklmm.likelihood.leaving_out import MOST_CHANGE


def without_linear_clusters(engine, x):
    """The parameters after a step without each level of the one factor.

    Given theta and sigma the step is exact in beta. Where it would change a column of the covariance factor by more
    than half, or has no maximum ahead, theta and sigma stay: what a level says of them is little, as a rule. Columns of
    0 stay.

    Parameters
    ----------
    engine : LinearLikelihood
        With one factor; REML's takes the clusters' likelihoods from its own.
    x : ndarray
        The fit.

    Returns
    -------
    ndarray of shape (n_levels, n_params)
        x for levels without rows.

    Raises
    ------
    ValueError
        Unless there is a single grouping factor.
    """
    if not engine.has_clusters:
        raise ValueError("leaving out single clusters needs a single grouping factor")
    covariance, k = engine.covariance, engine.n_fixed
    theta, random = x[k:-1], slice(k, -1)
    same_column = covariance.col[:, None] == covariance.col
    length = np.sqrt(same_column @ theta**2)  # of the column of each entry
    fixed = engine.products.kept
    others = np.append(k + np.flatnonzero(length > 0), engine.n_params - 1)
    on = np.append(fixed, others)
    value, total, hessian = engine.evaluate(x)
    out = np.tile(x, (engine.structure.factors[0].n_levels, 1))
    for levels, _, gradients, hessians in engine.by_cluster(x):
        rest = total - gradients
        left = hessians - hessian  # the information that stays
        step = np.zeros_like(rest)
        step[:, on] = _steps(left[:, on[:, None], on], rest[:, on])
        change = np.sqrt(step[:, random] ** 2 @ same_column)
        far = ~((change <= MOST_CHANGE * length).all(axis=1) & (np.abs(step[:, -1]) <= MOST_CHANGE))
        if far.any():
            step[far] = 0.0
            step[np.ix_(far, fixed)] = _steps(left[far][:, fixed[:, None], fixed], rest[np.ix_(far, fixed)])
        out[levels] += step
    return out


def _steps(information, gradients):
    """Newton steps; NaN where the information is not positive definite."""
    found = np.full_like(gradients, np.nan)
    if gradients.shape[1] == 0:
        return found
    smallest = np.linalg.eigvalsh(information)[:, 0]
    good = smallest > 0.0
    found[good] = np.linalg.solve(information[good], gradients[good][:, :, None])[:, :, 0]
    return found
