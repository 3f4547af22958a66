"""Plain, group-wise and fixed-effects least squares: `unpooled`, of measured outcomes.

Standard deviations of priors are in units of the residual's, whatever that is: they are ridge penalties, such as 1/2.5²
on slopes of features with standard deviation 1, and predictions move with the units of the outcome.
"""

import numpy as np
from sklearn.base import RegressorMixin

from sklmm.accuracy.unpooled import GroupDummies, Pooled, Separate
from sklmm.design.observations import read_offset
from sklmm.design.outcomes import read_numbers


class NormalOutcome:
    """Numbers with a residual of variance 1 about the linear predictor; see `LogitOutcome`."""

    @staticmethod
    def log_likelihood(y, eta):
        """Of each row, but for a constant."""
        return -0.5 * (y - eta) ** 2

    @staticmethod
    def mean(eta):
        """The expected outcome."""
        return eta

    @staticmethod
    def curvature(mean, weights):
        """Of each row's log-likelihood, times its weight."""
        return weights

    @staticmethod
    def intercept(y, weights, offset):
        """The intercept of rows without features."""
        return np.average(y - offset, weights=weights)


class _Regressor(RegressorMixin):
    """Mixin: outcomes are numbers, fitted in standard deviations from their mean."""

    _outcome = NormalOutcome

    def _read_outcomes(self, y, weights, offset):
        beside = read_numbers(y) - offset
        self._origin = np.average(beside, weights=weights)
        self._unit = np.sqrt(np.average((beside - self._origin) ** 2, weights=weights))
        if not self._unit > 1e-14 * np.abs(self._origin):
            self._unit = 1.0
        return (beside - self._origin) / self._unit, np.zeros(len(beside))

    def predict(self, X, groups=None, offset=None):
        """Expected outcomes; `groups` and `offset` as in `fit`, groups None for unknown ones."""
        mean = self._origin + self._unit * self._linear_predictor(self._columns(X), groups)
        return mean if offset is None else mean + read_offset(offset, len(mean))


class PooledRegressor(_Regressor, Pooled):
    """See `Pooled`."""


class SeparateRegressor(_Regressor, Separate):
    """See `Separate`."""


class GroupDummiesRegressor(_Regressor, GroupDummies):
    """See `GroupDummies`."""
