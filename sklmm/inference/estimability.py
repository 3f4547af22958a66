"""Which rows a fit says something of, where columns depend on one another.

A column that is constant or a linear combination of others is left out of a fit, with coefficient 0. For rows in which
it is what the others make of it, as in all rows of the fit, it does not matter which column was left out. For any other
row it does: a cell of two factors without data, or indicators of two levels that are 1 at once. Such a prediction is
not estimable, whatever number the coefficients give.

Searle SR (1971). Linear Models. Wiley, chapter 5.
"""

from dataclasses import dataclass

import numpy as np

from sklmm.exceptions import NotEstimableWarning
from sklmm.messages import listed, warn

_CHUNK = 1 << 13
# Of a column's spread: far more than rounding, and more than what was left of columns that count as dependent.
_DEPARTS = 1e-3
_ROUNDING = 1e-7  # of the coefficients of standardised columns: as small as what made columns count as dependent


@dataclass(frozen=True)
class Dependences:
    """The columns that were left out of a fit, as linear combinations of those in it.

    Attributes
    ----------
    names : list of str
        Of the columns that were left out.
    aliased : ndarray of int
        Their positions among the features.
    coefficients : ndarray of shape (1 + p, n_aliased)
        The combinations of standardised columns, that of the constant first.
    center, scale : ndarray of shape (p,)
    """

    names: list
    aliased: np.ndarray
    coefficients: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    def departures(self, X):
        """Mask, (n, n_aliased), of the columns that are not what the others make of them."""
        Z = (self._fixed(X) - self.center) / self.scale
        return self._differ(Z, self.coefficients[0], 1.0)

    def turns(self, directions):
        """The same of directions in which rows move."""
        Z = self._fixed(directions) / self.scale
        return self._differ(Z, 0.0, np.abs(Z).max(axis=1, initial=0.0)[:, None])

    def excess(self, contrasts, fit_intercept):
        """How far contrasts of coefficients are from being estimable, (n, n_aliased): they are where it is 0.

        A contrast is estimable if it is a combination of rows of the fit: in its columns, too, those that were left out
        are then what the others make of them.

        Parameters
        ----------
        contrasts : ndarray of shape (n, n_coefficients)
        fit_intercept : bool
            Whether the first coefficient is an intercept.
        """
        k = int(fit_intercept)
        constant = contrasts[:, :k].sum(axis=1)
        Z = (contrasts[:, k:] - constant[:, None] * self.center) / self.scale
        expected = constant[:, None] * self.coefficients[0] + Z @ self.coefficients[1:]
        size = np.abs(Z[:, self.aliased]) + np.abs(Z) @ np.abs(self.coefficients[1:]) + np.abs(constant)[:, None]
        excess = Z[:, self.aliased] - expected
        rounding = _ROUNDING * (np.abs(Z).max(axis=1, initial=0.0) + np.abs(constant))[:, None]  # of the coefficients
        return np.where(np.abs(excess) > np.maximum(_DEPARTS * size, rounding), excess, 0.0)

    def _fixed(self, X):
        """The columns that have coefficients; those behind them have random slopes only."""
        return np.asarray(X[:, : self.center.size], dtype=np.float64)

    def _differ(self, Z, constant, room):
        found = Z[:, self.aliased]
        expected = constant + Z @ self.coefficients[1:]
        size = np.abs(found) + np.abs(constant) + np.abs(Z) @ np.abs(self.coefficients[1:]) + room
        return np.abs(found - expected) > _DEPARTS * size


def dependences(X, names, aliased, sample_weight, fit_intercept):
    """The dependences among the columns of a fit; None where there are none.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    names : list of str
    aliased : list of int
        The columns that were left out.
    sample_weight : ndarray of shape (n,) or None
    fit_intercept : bool

    Returns
    -------
    Dependences or None
    """
    if not aliased:
        return None
    n, p = X.shape
    center = np.average(X, axis=0, weights=sample_weight) if fit_intercept else np.zeros(p)
    gram = np.zeros((1 + p, 1 + p))
    scale = np.ones(p)
    for step in range(2):  # the first pass finds the scales
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            Z = np.column_stack([np.full(len(X[part]), float(fit_intercept)), (X[part] - center) / scale])
            gram += (Z if sample_weight is None else Z * sample_weight[part, None]).T @ Z
        if step == 0:
            size = np.sqrt(np.diagonal(gram)[1:] / (n if sample_weight is None else sample_weight.sum()))
            constant = size <= 1e-12 * np.abs(center)
            rounding = 1e-6 * np.where(center == 0, 1.0, np.abs(center))  # no other value of a constant counts as near
            scale = np.where(constant | (size == 0), rounding, size)
            gram[:] = 0.0
    left_out = np.concatenate([[not fit_intercept], np.isin(np.arange(p), aliased)])
    coefficients = np.zeros((1 + p, len(aliased)))
    kept = np.flatnonzero(~left_out)
    if kept.size:
        columns = 1 + np.asarray(aliased)
        coefficients[kept] = np.linalg.solve(gram[np.ix_(kept, kept)], gram[np.ix_(kept, columns)])
    return Dependences([names[j] for j in aliased], np.asarray(aliased), coefficients, center, scale)


def warn_of_rows(estimator, X):
    """Warn of rows whose predictions are not estimable; their mask."""
    found = estimator._fitted.dependences
    if found is None:
        return np.zeros(X.shape[0], dtype=bool)
    departs = np.concatenate([found.departures(X[start : start + _CHUNK]) for start in range(0, X.shape[0], _CHUNK)])
    rows = departs.any(axis=1)
    if rows.any():
        which = [name for name, any_row in zip(found.names, departs.any(axis=0), strict=True) if any_row]
        warn(
            f"{np.count_nonzero(rows):,} of {len(rows):,} rows hold combinations of columns that did not occur in the "
            f"fit: {listed(map(repr, which))} depended on other columns there, and here not in the same way. The data "
            "say nothing of such rows: their predictions depend on which column was left out of the fit",
            NotEstimableWarning,
        )
    return rows
