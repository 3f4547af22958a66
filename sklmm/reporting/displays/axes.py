"""What pictures share: axes, ticks, names, and colours with line styles and markers that tell curves apart.

The colours are Okabe and Ito's, which the colour-blind can tell apart, without yellow, which is lost on white.

Okabe M, Ito K (2008). Color universal design (CUD): how to make figures and presentations that are friendly to
colorblind people.
"""

import numpy as np
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from sklmm.fitted import FittedMixed, fitted_of
from sklmm.inference import wald as intervals

_TEXT = "text.color"  # black, or what a dark style has in its place
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", _TEXT, "#999999")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
_LONGEST = 24  # characters of a name


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


def style_of(place):
    """Colour and line of the curve in a place, from 0; they come again together after 56 places."""
    colour = _COLOURS[place % len(_COLOURS)]
    colour = pyplot().rcParams[_TEXT] if colour == _TEXT else colour
    return {"color": colour, "linestyle": _LINES[place % len(_LINES)]}


def marker_of(place):
    """Marker of the points in a place, from 0."""
    return _MARKERS[place % len(_MARKERS)]


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


def drawn_name(name):
    """A name as text of a picture, cut in the middle if it is long, since names often differ at their ends.

    Dollars would start a formula, and a legend leaves out what starts with an underscore.
    """
    text = as_text(name)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]}…{text[1 - _LONGEST // 2 :]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def keep_within_probabilities(ax):
    """No ticks below 0 or above 1, whatever the margins."""
    lower, upper = ax.get_ylim()
    ax.set_ylim(max(lower, -0.02), min(upper, 1.02))
