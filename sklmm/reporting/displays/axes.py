"""What the displays share: axes, ticks, and the rows that a curve is computed on."""

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from sklmm.fitted import FittedMixed, fitted_of
from sklmm.inference import wald as intervals


def pyplot():
    """matplotlib.pyplot, or an ImportError that says how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install matplotlib, or pip install 'sklmm[plots]'") from error
    return plt


def axes_for(ax, figsize=None):
    """The figure and axes to draw into; new ones where none are given."""
    if ax is None:
        return pyplot().subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax


def check_level(level):
    """Raise unless `level` lies between 0 and 1; the normal quantile that belongs to it."""
    return stats.norm.ppf((1 + intervals.check_level(level)) / 2)


def check_mixed(display, estimator):
    """Raise unless the estimator is fitted and a mixed model."""
    check_is_fitted(estimator)
    if not isinstance(fitted_of(estimator), FittedMixed):
        raise TypeError(
            f"{display.__name__} draws random effects, which a {type(estimator).__name__} does not have; it is for "
            "mixed models"
        )


def percent(level):
    """A confidence level in words: "95 %"."""
    return f"{100 * level:.6g} %"


def odds_ratio_ticks(axis):
    """Plain numbers on a logarithmic axis: 0.5, 1, 2, 5, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    lower, upper = axis.get_view_interval()
    decades = np.log10(upper / lower)
    if decades < 0.6:
        locator = MaxNLocator(6)
    else:
        locator = LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 2.5 else (1,))
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if 1e-3 <= value < 1e5 else f"{value:.0e}"))
    axis.set_minor_locator(NullLocator())


def outcome_label(estimator):
    """Label of an axis of probabilities or expected outcomes: the response by its name, where a formula gave it one."""
    fitted = fitted_of(estimator)
    response = "y" if fitted.formula is None else fitted.formula.response
    if not fitted.family.has_classes:
        return "expected outcome" if fitted.formula is None else f"expected {response}"
    return f"P({response} = {as_text(estimator.classes_[fitted.event])})"


def as_text(value):
    """A value in a legend: 1 and not 1.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def keep_within_probabilities(ax):
    """No ticks below 0 or above 1, whatever the margins."""
    lower, upper = ax.get_ylim()
    ax.set_ylim(max(lower, -0.02), min(upper, 1.02))
