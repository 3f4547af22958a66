"""What a model is fitted to, in two halves: `Observations` have rows, a `Structure` has none.

What resamples, refits or cuts rows makes new observations; the structure stays, but for the numbers of levels.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from sklmm.families import LOGIT


@dataclass(frozen=True)
class Observations:
    """All that has a row a sample.

    Attributes
    ----------
    X : ndarray of shape (n, p), float64 or float32, finite, any strides
    y : ndarray of shape (n,)
        uint8, 0 or 1; of linear models float64.
    codes : list of ndarray of shape (n,), intp
        Levels of each grouping factor.
    weights : ndarray of shape (n,), float64, or None
        Counts of rows.
    times : ndarray of shape (n,) or None
        Of marginal models.
    offset : ndarray of shape (n,), float64, finite, or None
        What is added to the linear predictors, as by a column whose coefficient is 1.
    precision : ndarray of shape (n,), float64, positive, or None
        Of linear models: the residual variance is divided by it.
    lines : ndarray of shape (n,), int, or None
        The line of counts that each row is from: without groups its two rows are one cluster to resampling.
    """

    X: np.ndarray
    y: np.ndarray
    codes: list = field(default_factory=list)
    weights: np.ndarray | None = None
    times: np.ndarray | None = None
    offset: np.ndarray | None = None
    precision: np.ndarray | None = None
    lines: np.ndarray | None = None

    def take(self, rows):
        """Some of the rows, or some of them several times."""
        parts = self.X, self.y, self.weights, self.times, self.offset, self.precision, self.lines
        X, y, *others = (None if part is None else part[rows] for part in parts)
        return Observations(X, y, [code[rows] for code in self.codes], *others)

    def aligned(self):
        """The same with an X that compiled code can read: a field of a structured array is copied."""
        if self.X.flags.aligned and not any(step % self.X.itemsize for step in self.X.strides):
            return self
        return replace(self, X=np.ascontiguousarray(self.X))

    @property
    def n_counted(self):
        """Rows, as often as weights count them."""
        return self.y.size if self.weights is None else self.weights.sum()

    @property
    def n_successes(self):
        return self.y.sum() if self.weights is None else self.weights @ self.y


@dataclass(frozen=True)
class FactorStructure:
    """Random coefficients of one grouping factor.

    Attributes
    ----------
    n_levels : int
    columns : list of int
        Column of X for each coefficient, -1 for the intercept.
    blocks : list of (size, correlated)
        One per term, see `RelativeCovariance`.
    name : str
        For messages.
    """

    n_levels: int
    columns: list
    blocks: list
    name: str = "group"


@dataclass(frozen=True)
class Structure:
    """What is fitted.

    Attributes
    ----------
    factors : list of FactorStructure
        Empty: no random effects.
    fit_intercept : bool
    n_quadrature : int or "auto"
        Nodes a dimension, 1 is Laplace's approximation; "auto": as many as make the estimates stand still, one with
        several factors.
    slopes_only : int
        So many columns, the last ones of X, are there for random coefficients alone: they are no fixed effects.
    family : Bernoulli
    """

    factors: list
    fit_intercept: bool = True
    n_quadrature: int | str = 1
    slopes_only: int = 0
    family: object = LOGIT

    @property
    def nodes(self):
        """Nodes a dimension that a fit begins with."""
        return 1 if self.n_quadrature == "auto" or not self.factors else self.n_quadrature
