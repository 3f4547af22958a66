"""Bayes factors: how much more probable the data are under one model, with its priors, than under another."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklmm.exceptions import PosteriorWarning
from sklmm.inference.same_rows import check_rows
from sklmm.messages import warn

# Kass and Raftery (1995): 2 log K
WORDS = ((2.0, "not worth more than a bare mention"), (6.0, "positive"), (10.0, "strong"), (np.inf, "very strong"))


@dataclass(frozen=True)
class BayesFactor:
    """What `bayes_factor` found.

    Attributes
    ----------
    log_bayes_factor : float
        Log evidence of the first model less that of the second.
    error : float
        Its standard error by simulation: as if draws were independent, which quasi-random ones beat.
    log_evidences : tuple of float
    """

    log_bayes_factor: float
    error: float
    log_evidences: tuple

    @property
    def bayes_factor(self):
        """How many times more probable the data are under the first model."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_bayes_factor))

    @property
    def probability(self):
        """Posterior probability of the first model, where both were equally probable before."""
        return float(1.0 / (1.0 + np.exp(-np.clip(self.log_bayes_factor, -700.0, 700.0))))

    def to_frame(self):
        """The numbers in a data frame of one row."""
        values = {"log_bayes_factor": self.log_bayes_factor, "error": self.error, "bayes_factor": self.bayes_factor}
        return pd.DataFrame([values | {"probability": self.probability}])

    def __str__(self):
        size = 2.0 * abs(self.log_bayes_factor)
        word = next(word for limit, word in WORDS if size <= limit)
        which = "first" if self.log_bayes_factor >= 0.0 else "second"
        return (
            f"Bayes factor {self.bayes_factor:.4g} of the first model over the second (log "
            f"{self.log_bayes_factor:.3f}, standard error {self.error:.3f}): evidence for the {which} model that is "
            f"{word} (Kass and Raftery 1995)"
        )


def bayes_factor(first, second):
    """Bayes factor of two models of the same rows, from the evidence of their posteriors.

    It compares models with their priors: a wider prior on a parameter that only one of them has makes that one less
    probable, however much data there are.

    Parameters
    ----------
    first, second : Posterior
        Of models that were fitted to the same rows, nested or not, with proper priors on all parameters.

    Returns
    -------
    BayesFactor

    Raises
    ------
    ValueError
        Where a prior is improper, so that there is no evidence, and where rows, outcomes, links or quadrature differ.

    References
    ----------
    Kass RE, Raftery AE (1995). Bayes factors. Journal of the American Statistical Association 90, 773-795.

    Examples
    --------
    >>> from sklmm import MixedLogisticRegression, bayes_factor
    >>> from sklmm.datasets import load_bacteria
    >>> children = load_bacteria(as_frame=True).frame
    >>> both = ("y ~ week + trt + (1 | ID)", "y ~ week + (1 | ID)")
    >>> models = [MixedLogisticRegression.from_formula(formula, children) for formula in both]
    >>> found = bayes_factor(*(model.posterior(children, random_state=0) for model in models))
    >>> found.log_bayes_factor < 0
    True
    """
    for name, one in (("first", first), ("second", second)):
        if not hasattr(one, "prior") or not hasattr(one, "model"):
            raise TypeError(f"{name} must be a Posterior, from model.posterior(...), got a {type(one).__name__}")
        if one.prior.improper:
            raise ValueError(f"{name}: {one.refusal}")
    models = first.model, second.model
    facts = {
        "number of rows": [f"{model.n_obs_:.10g}" for model in models],
        "kind": [type(model).__name__ for model in models],
        "link": [model._fitted.family.name if hasattr(model._fitted.family, "name") else "" for model in models],
        "number of quadrature nodes": [
            getattr(model, "n_quadrature_", 1) if model._fitted.factors else None for model in models
        ],
    }
    for what, (one, other) in facts.items():
        if one != other and None not in (one, other):
            raise ValueError(f"evidence can be compared for the same rows only: the models differ in their {what}, "
                             f"{one} and {other}")  # fmt: skip
    check_rows(*models, "first", "second")
    difference = first.log_evidence_ - second.log_evidence_
    error = float(np.hypot(first.log_evidence_error_, second.log_evidence_error_))
    if error > 0.5:
        warn(f"the log Bayes factor has a standard error of {error:.2f}: draw more, by n_draws", PosteriorWarning)
    return BayesFactor(float(difference), error, (first.log_evidence_, second.log_evidence_))
