"""Posteriors in the containers of arviz, which is imported here alone."""

import numpy as np


def to_arviz(posterior, log_likelihoods=None):
    """See `Posterior.to_arviz`."""
    try:
        import arviz
    except ImportError as error:
        raise ImportError("to_arviz needs arviz: pip install arviz, or pip install 'sklmm[arviz]'") from error
    draws = posterior.draws
    groups = {"posterior": {name: draws[name].to_numpy()[None] for name in draws.columns}}
    at = posterior.draw_positions
    stats = {"importance_weight": posterior.points.weights[at][None],
             "lp": posterior.points.log_density[at][None]}  # fmt: skip
    groups["sample_stats"] = stats
    if log_likelihoods is not None:
        groups["log_likelihood"] = {posterior.factor_name: np.asarray(log_likelihoods)[None]}
    attributes = {"pareto_k": posterior.pareto_k_, "effective_size": posterior.effective_size_}
    try:
        found = arviz.from_dict(**groups)
    except TypeError:  # arviz 1.x takes one dict, and returns a DataTree
        found = arviz.from_dict(groups)
        group = found["sample_stats"]
        group.attrs.update(attributes)
        return found
    found.sample_stats.attrs.update(attributes)
    return found
