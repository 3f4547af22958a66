"""Each group predicted from the others, under the posterior of the parameters without it: no refits.

Weights of the draws are divided by the group's own likelihood and Pareto-smoothed (Vehtari, Gelman and Gabry 2017). The
unit that is left out is a group, as marginal likelihoods have it (Merkle, Furr and Rabe-Hesketh 2019).
"""

import numpy as np
from scipy.special import logsumexp

from sklmm.exceptions import PosteriorWarning
from sklmm.inference.tables import Table
from sklmm.messages import listed, warn
from sklmm.posterior.pareto import pareto_smoothed, trusted_below

MOST_NUMBERS = 50_000_000  # draws times groups that are held


def log_likelihoods_by_level(engine, x):
    """Log-likelihood of each level of the one factor at engine parameters x (n, n_params): (n, n_levels)."""
    return np.array([engine.by_level(engine.cluster_values(each)) for each in x])


def leave_group_out(log_likelihoods, log_weights, levels, name):
    """Expected log predictive density of each group.

    Parameters
    ----------
    log_likelihoods : ndarray of shape (n_draws, n_levels)
    log_weights : ndarray of shape (n_draws,)
    levels : Index
    name : str
        Of the factor.

    Returns
    -------
    table : Table
        Columns "elpd", "pareto_k".
    """
    found = np.empty((len(levels), 2))
    for j, own in enumerate(log_likelihoods.T):
        smoothed, k = pareto_smoothed(log_weights - own) if own.any() else (log_weights, -np.inf)
        found[j] = logsumexp(smoothed + own) - logsumexp(smoothed), k
    table = Table(found, index=levels.rename(name), columns=["elpd", "pareto_k"])
    n, total = len(levels), found[:, 0].sum()
    error = float(np.sqrt(n * found[:, 0].var(ddof=1))) if n > 1 else np.nan
    table.attrs["elpd"], table.attrs["standard_error"] = float(total), error
    table.with_note(f"Sum of the expected log predictive densities: {total:.2f}, standard error {error:.2f}.")
    lost = found[:, 1] > trusted_below(len(log_weights))
    if lost.any():
        text = (
            f"{np.count_nonzero(lost)} of {n} groups matter so much to the posterior that it says little of what it "
            f"would be without them (pareto_k above {trusted_below(len(log_weights)):.2f}): "
            f"{listed(map(repr, table.index[lost]), 10)}. Refit without these"
        )
        table.with_note(text + ".")
        warn(text, PosteriorWarning)
    return table
