"""Warnings of sklmm, in one place. Errors are Python's own: ValueError, TypeError, NotImplementedError.

Every warning has a class, so that one can be silenced or turned into an error without touching the others:
``warnings.filterwarnings("error", category=sklmm.exceptions.SingularFitWarning)``.
"""

from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "AliasedFeaturesWarning",
    "ConvergenceWarning",
    "FewClustersWarning",
    "ForgottenGroupsWarning",
    "LightWeightsWarning",
    "NestingWarning",
    "NoGroupsWarning",
    "NoTimesWarning",
    "SeparationWarning",
    "SingularFitWarning",
    "SklmmWarning",
    "UnidentifiedEffectsWarning",
    "WorkingCorrelationWarning",
]


class SklmmWarning(UserWarning):
    """Base class of the warnings below."""


class NoGroupsWarning(SklmmWarning):
    """A model of grouped data was fitted without groups, or was asked to predict without them."""


class SingularFitWarning(SklmmWarning):
    """A variance was estimated as 0, or a correlation as -1 or 1: a valid fit with fewer random effects."""


class SeparationWarning(SklmmWarning):
    """Some columns separate the classes perfectly, so that their coefficients have no finite maximum."""


class AliasedFeaturesWarning(SklmmWarning):
    """Some columns are constant or linear combinations of others: their coefficients are not identified."""


class UnidentifiedEffectsWarning(SklmmWarning):
    """There are at least as many random effects as rows: their variances rest on the model alone."""


class WorkingCorrelationWarning(SklmmWarning):
    """A working correlation was estimated outside the range in which it is positive definite, and was put inside."""


class NoTimesWarning(SklmmWarning):
    """A working correlation by time was fitted without times: the order of the rows stands in for them."""


class NestingWarning(SklmmWarning):
    """The names of two models' fixed effects do not show that one model is contained in the other."""


class FewClustersWarning(SklmmWarning):
    """There are too few clusters for a robust covariance of the coefficients."""


class ForgottenGroupsWarning(SklmmWarning):
    """What a model knew of groups was replaced by what new rows say of them."""


class LightWeightsWarning(SklmmWarning):
    """Weights count rows, and sum to no more of them than there are coefficients."""
