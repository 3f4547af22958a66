"""Pictures of a fitted model, in scikit-learn's idiom: ``XDisplay.from_estimator(...)``, ``.plot(ax=None)``.

A display is what has been computed and how to draw it: `compute` computes, `plot` draws, into other axes if they are
given and as often as one likes, and `from_estimator` does both. matplotlib is imported when something is drawn and not
before.
"""

from .coefficients import CoefficientDisplay
from .effect import EffectDisplay
from .group_curves import GroupCurvesDisplay
from .posterior import PosteriorDisplay
from .power import PowerDisplay
from .random_effects import RandomEffectsDisplay
from .residuals import ResidualsDisplay

__all__ = [
    "CoefficientDisplay",
    "EffectDisplay",
    "GroupCurvesDisplay",
    "PosteriorDisplay",
    "PowerDisplay",
    "RandomEffectsDisplay",
    "ResidualsDisplay",
]
