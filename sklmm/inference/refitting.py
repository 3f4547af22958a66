"""A mixed model fitted again with contrasts of its fixed effects held at 0."""

from dataclasses import replace

import numpy as np
from scipy import linalg

from sklmm.fitted import FittedLinear
from sklmm.likelihood.fit import fit_mixed
from sklmm.likelihood.linear_fit import fit_linear
from sklmm.passes.threads import effective_threads


def log_likelihood_under(model, rows_of_fit):
    """The log-likelihood of a mixed model under linear hypotheses.

    With the hypotheses L beta = 0 the fixed effects are N gamma, N a basis of the null space of L: the features X N
    are fitted in the place of X. Random slopes keep their columns.

    Parameters
    ----------
    model : fitted MixedLogisticRegression or MixedLinearRegression
        By maximum likelihood.
    rows_of_fit : tuple
        X, y, groups, sample_weight, offset, precision_weight.

    Returns
    -------
    maximum : callable
        ``maximum(contrasts)``, of shape (m, n_coefficients), is the highest log-likelihood where all of them are 0;
        None if that fit did not converge. With no contrasts it is the model's own.

    Raises
    ------
    ValueError
        If these are not the rows of the fit, or the fit has priors.
    """
    if model._fitted.priors is not None:
        raise ValueError(
            "method='lr' compares maxima of likelihoods, and this model was fitted with priors or penalties: use "
            "method='wald', or fit it without (priors=None)"
        )
    X, y, groups, sample_weight, offset, precision = rows_of_fit
    given = {} if precision is None else {"precision_weight": precision}
    rows, structure = model._rows_of_fit("method='lr'", X, y, groups, sample_weight, offset=offset, **given)
    model._objective(rows, structure)  # an error for other rows
    fitted, found = model._fitted, {}
    is_linear = isinstance(fitted, FittedLinear)
    settings = model._settings(effective_threads(model.n_threads, rows.y.size))
    k = int(fitted.fit_intercept)
    features = np.asarray(rows.X[:, : rows.X.shape[1] - structure.slopes_only], dtype=np.float64)
    center = np.average(features, axis=0, weights=rows.weights) if k else np.zeros(features.shape[1])
    spread = np.sqrt(np.average((features - center) ** 2, axis=0, weights=rows.weights))
    spread = np.where(spread > 1e-12 * np.abs(center), spread, 1.0)

    def maximum(contrasts):
        if not len(contrasts):
            return model.log_likelihood_
        key = contrasts.tobytes()
        if key not in found:
            basis = linalg.null_space(contrasts[:, k:] / spread, rcond=1e-10)
            if not k and not basis.shape[1]:
                raise ValueError("method='lr': without this term the model has no fixed effects at all; use 'wald'")
            reduced = (features - center) / spread @ basis
            shift = reduced.shape[1]
            columns = [[c if c < 0 else c + shift for c in factor.columns] for factor in structure.factors]
            factors = [replace(f, columns=own) for f, own in zip(structure.factors, columns, strict=True)]
            smaller = replace(structure, factors=factors, slopes_only=rows.X.shape[1])
            observations = replace(rows, X=np.column_stack([reduced, rows.X]))
            how = {"reml": False} if is_linear else {}
            fit = (fit_linear if is_linear else fit_mixed)(observations, smaller, **settings, **how)
            found[key] = float(fit.log_likelihood) if fit.report.converged else None
        return found[key]

    return maximum
