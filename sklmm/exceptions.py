"""Warnings of sklmm, in one place. Errors are Python's own: ValueError, TypeError, NotImplementedError.

Every warning has a class, so that one can be silenced or turned into an error without touching the others:
``warnings.filterwarnings("error", category=sklmm.exceptions.SingularFitWarning)``.
"""


from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "AliasedFeaturesWarning",
    "ConvergenceWarning",
    "DifferentRowsWarning",
    "DroppedRowsWarning",
    "FewClustersWarning",
    "ForgottenGroupsWarning",
    "LabelTypeWarning",
    "LaplaceWarning",
    "LargeVarianceWarning",
    "LightWeightsWarning",
    "NestingWarning",
    "NoGroupsWarning",
    "NoTimesWarning",
    "NotEstimableWarning",
    "NumbersAsLabelsWarning",
    "PosteriorWarning",
    "RecurringGroupsWarning",
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


class DroppedRowsWarning(SklmmWarning):
    """Rows were left out since a term of the formula is not defined in them, such as the logarithm of 0."""


class NumbersAsLabelsWarning(SklmmWarning):
    """A formula's column of text is made of numbers, all but a few of its values: each of them is a level."""


class LabelTypeWarning(SklmmWarning):
    """Labels differ in type only: those of new rows from the fit's, so that none is known, or some from others."""


class SingularFitWarning(SklmmWarning):
    """A variance was estimated as 0, or a correlation as -1 or 1: a valid fit with fewer random effects."""


class SeparationWarning(SklmmWarning):
    """Some columns separate the classes perfectly, so that their coefficients have no finite maximum."""


class LargeVarianceWarning(SklmmWarning):
    """A variance between groups is so large that it has next to no upper bound: groups determine the outcome."""


class AliasedFeaturesWarning(SklmmWarning):
    """Some columns are constant or linear combinations of others: their coefficients are not identified."""


class NotEstimableWarning(SklmmWarning):
    """What was asked for is not determined by the data: a combination of columns that did not occur in the fit."""


class UnidentifiedEffectsWarning(SklmmWarning):
    """The data say nothing about a variance: as many random effects as rows, or one partition of them named twice."""


class WorkingCorrelationWarning(SklmmWarning):
    """A working correlation was estimated outside the range in which it is positive definite, and was put inside; or
    its definition gives none for these data, and another estimate was used in place."""


class NoTimesWarning(SklmmWarning):
    """A working correlation by time was fitted without times: the order of the rows stands in for them."""


class NestingWarning(SklmmWarning):
    """The names of two models' fixed effects do not show that one model is contained in the other."""


class DifferentRowsWarning(SklmmWarning):
    """Nothing shows whether two models that are compared were fitted to the same rows."""


class LaplaceWarning(SklmmWarning):
    """The approximation of the integrals over random effects (Laplace's, or few nodes) is poor for these data."""


class FewClustersWarning(SklmmWarning):
    """There are too few clusters for a robust covariance of the coefficients."""


class ForgottenGroupsWarning(SklmmWarning):
    """What a model knew of groups was replaced by what new rows say of them."""


class PosteriorWarning(SklmmWarning):
    """Averages over a posterior's draws are not to be trusted: a few draws have most of the weight."""


class RecurringGroupsWarning(SklmmWarning):
    """Groups that a prior comes from are in the data again, so that they count twice."""


class LightWeightsWarning(SklmmWarning):
    """Weights count rows, and sum to no more of them than there are coefficients."""


