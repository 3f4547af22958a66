"""Do features say the same? Variance inflation factors of terms, and the condition number of a design.

The factor of a coefficient is how many times larger its variance is than if its feature were uncorrelated with the
others. Fox and Monette's generalised factor is that of a term with several coefficients, such as a factor's:

    GVIF = det(R_11) det(R_22) / det(R)

with R the correlation matrix of the estimated slopes, R_11 its block of the term and R_22 that of all others. It does
not depend on how the term is coded. For least squares with an intercept R is that of the inverse of the features'
cross-products, and GVIF of one coefficient is 1 / (1 - R^2). Taken from the covariance of the estimates it holds for
any model, as weighted by what rows say. GVIF^(1 / (2 df)), how many times wider intervals are, compares terms of
different size.

References
----------
Belsley DA, Kuh E, Welsch RE (1980). Regression Diagnostics. Wiley, chapter 3.

Fox J, Monette G (1992). Generalized collinearity diagnostics. Journal of the American Statistical Association 87,
178-183.
"""

import numpy as np

from sklmm.inference.tables import Table


def variance_inflation(names, vcov, terms):
    """Generalised variance inflation factors, a row a term.

    Parameters
    ----------
    names : list of str
        Of the slopes; the intercept is left out.
    vcov : ndarray of shape (n, n)
        Their model-based covariance; slopes with NaN or a variance of 0 are left out.
    terms : dict of str -> list of str
        Which slopes belong together; those in none are terms of their own.

    Returns
    -------
    Table
        Columns "df", "gvif" and "inflation": GVIF^(1 / (2 df)), how many times wider the term's intervals are than
        without collinearity. Infinite where the covariance is singular to rounding. Empty for fewer than two terms.
    """
    diagonal = np.diagonal(vcov)
    kept = np.flatnonzero(np.isfinite(diagonal) & (diagonal > 0))
    place = {str(names[j]): k for k, j in enumerate(kept)}
    own = {term: [place[name] for name in columns if name in place] for term, columns in terms.items()}
    taken = {name for columns in terms.values() for name in columns}
    blocks = {term: at for term, at in own.items() if at} | {n: [k] for n, k in place.items() if n not in taken}
    if len(blocks) < 2:
        return Table({"df": [], "gvif": [], "inflation": []})
    sd = np.sqrt(diagonal[kept])
    R = vcov[np.ix_(kept, kept)] / sd[:, None] / sd
    whole, found = _log_det(R), {}
    for term, at in blocks.items():
        others = np.setdiff1d(np.arange(len(kept)), at)
        log = _log_det(R[np.ix_(at, at)]) + _log_det(R[np.ix_(others, others)]) - whole
        with np.errstate(over="ignore"):
            gvif = np.inf if np.isnan(log) else max(float(np.exp(log)), 1.0)
        found[term] = {"df": len(at), "gvif": gvif, "inflation": gvif ** (0.5 / len(at))}
    return Table.from_dict(found, orient="index")


def _log_det(R):
    """The logarithm of a determinant; -inf or NaN where the matrix is singular."""
    sign, log = np.linalg.slogdet(R)
    return log if sign > 0 else -np.inf


def condition_number(X, weights=None, centred=True):
    """Ratio of the largest to the smallest singular value of a design whose columns have length 1.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Columns without one that is constant, if they are `centred`, and none that is 0.
    weights : ndarray of shape (n,) or None
        Counts of the rows.
    centred : bool
        Whether columns are taken from their means, as a model with an intercept has them: where 0 is on a feature's
        scale then plays no part.

    Returns
    -------
    float
        1 for orthogonal columns; infinite where one is a combination of others, to rounding.
    """
    weights = np.ones(len(X)) if weights is None else weights
    first = np.average(X, axis=0, weights=weights) if centred else 0.0
    Z = (X - first) * np.sqrt(weights)[:, None]
    Z /= np.linalg.norm(Z, axis=0)
    eigenvalues = np.linalg.eigvalsh(Z.T @ Z)
    smallest = eigenvalues[0]
    return float(np.sqrt(eigenvalues[-1] / smallest)) if smallest > len(Z.T) * np.finfo(float).eps else np.inf
