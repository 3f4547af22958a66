"""Pictures of a page: what is drawn of a report and of a model, as images that are part of the HTML."""

import base64
import io
from functools import partial

import numpy as np

from sklmm.accuracy import plots
from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.metrics import leading_column
from sklmm.accuracy.page_style import as_html, capital
from sklmm.reporting.displays.axes import percent
from sklmm.reporting.displays.coefficients import CoefficientDisplay
from sklmm.reporting.displays.effect import EffectDisplay
from sklmm.reporting.displays.random_effects import RandomEffectsDisplay

WITHOUT = (
    "<p>There are no pictures on this page, since matplotlib is not installed; "
    "<code>pip install matplotlib</code>, and make the page again.</p>"
)
_MOST_CURVES, _MOST_COEFFICIENTS = 4, 30
_PANEL = 640  # pixels: the widest picture of one panel

_OF_KIND = {  # a picture, and what predictions are called
    "classes": (
        plots.plot_roc, "probabilities",
        "Receiver operating characteristic: the further above the diagonal, the better a model orders the rows.",
    ),
    "numbers": (
        plots.plot_predicted, "predictions",
        "Outcomes over predictions: the nearer to the diagonal, the better.",
    ),
}  # fmt: skip


def has_matplotlib():
    """Whether pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def figures(wanted):
    """HTML of pictures.

    Parameters
    ----------
    wanted : iterable of (callable, str)
        What draws each, into axes that it returns, and its caption.

    Returns
    -------
    str
    """
    if not has_matplotlib():
        return WITHOUT
    import matplotlib

    # The reader's own settings would change fonts and colours under the layout.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        return '<div class="pictures">\n' + "\n".join(_figure(*pair) for pair in wanted) + "\n</div>"


def of_accuracy(report):
    """Pictures of an accuracy report."""
    leading = leading_column(report.metrics, KINDS[report.kind].metrics)
    if leading is not None and len(report.estimators) > 1:
        text = (
            f"{capital(leading)}, difference to {report.estimators[0]} with its {percent(report.level)} "
            "interval: one that leaves out 0 says that the two differ by more than chance."
        )
        yield (lambda: plots.plot_comparison(report, leading, difference=True)), text
    compared = [column for column in (leading, "calibration slope") if column in report.metrics]
    if compared:
        text = f"{capital(' and '.join(compared))} with {percent(report.level)} intervals."
        yield (lambda: plots.plot_comparison(report, compared)), text
    draw, predictions, text = _OF_KIND[report.kind]
    yield (lambda: draw(report)), text
    text = f"Calibration: on the diagonal, {predictions} are right; above it they are too low, below it too high."
    yield (lambda: plots.plot_calibration(report)), text


def of_findings(findings):
    """Pictures of what a model found: its coefficients, what goes with its clearest features, its groups."""
    estimator, level, outcome = findings.estimator, findings.level, findings.outcome
    if findings.comparisons is None:
        return
    named = _clearest(estimator)
    if named:
        draw = partial(CoefficientDisplay.from_estimator, estimator, names=named, level=level)
        yield (lambda: draw().ax_), _on_ratios(estimator, level)
    what = f"share with {outcome.event}" if outcome.event is not None else f"mean of {outcome.name or 'the outcome'}"
    curves = sorted(findings.comparisons.curves, key=lambda curve: -curve.distance)
    for curve in curves[:_MOST_CURVES]:
        text = f"{capital(what)} over {curve.feature}, all else as it is in the rows, with {percent(level)} intervals."
        yield (lambda curve=curve: _draw_curve(curve, outcome, what, level)), text
    for term, effects in (getattr(estimator, "random_effects_", None) or {}).items():
        if len(effects) > 1 and (effects.iloc[:, 0] != 0).any():
            text = (
                f"Groups of {term}, from the lowest to the highest, by how far they are from the average, with "
                f"{percent(level)} intervals. Of those whose interval leaves out 0 it is sure on which side they are."
            )
            yield (lambda term=term: RandomEffectsDisplay.from_estimator(estimator, term=term, level=level).ax_), text


def _clearest(estimator):
    """Names of coefficients with an interval, those with the largest z where they are many, in the model's order."""
    table = estimator.conf_int()
    names, coef, vcov = estimator._fixed_effects()
    ratio = np.abs(np.divide(coef, np.sqrt(np.diagonal(vcov)), where=np.diagonal(vcov) > 0, out=np.zeros(len(names))))
    known = np.isfinite(table[["lower", "upper"]].to_numpy(dtype=float)).all(axis=1)
    known &= np.array([name != "intercept" for name in names]) & (np.diagonal(vcov) > 0)
    kept = sorted(sorted(np.flatnonzero(known), key=lambda j: -ratio[j])[:_MOST_COEFFICIENTS])
    found = [names[j] for j in kept]
    return found if len(set(names)) == len(names) else []


def _on_ratios(estimator, level):
    ratio = estimator._fitted.family.ratio
    what = f"{capital(ratio)}s" if ratio else "Coefficients, what a unit more of a feature adds,"
    none = 1 if ratio else 0
    return (
        f"{what} with {percent(level)} intervals: right of {none} more of a feature goes with more of the outcome, "
        f"left of it with less; an interval with {none} in it is compatible with no effect."
    )


def _draw_curve(curve, outcome, ylabel, level):
    name = "probability" if outcome.event is not None else "mean"
    numbers = {name: curve.mean, "lower": curve.lower, "upper": curve.upper}
    display = EffectDisplay(
        curve.feature, curve.values, {None: numbers}, level=level, ylabel=ylabel, of_classes=outcome.event is not None
    )
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(4.8, 3.6), layout="constrained")
    return display.plot(ax).ax_


def _figure(draw, caption):
    import matplotlib.pyplot as plt

    figure = np.ravel(draw())[0].figure
    buffer = io.BytesIO()
    width, height = (round(96 * side) for side in figure.get_size_inches())
    figure.savefig(buffer, format="png", dpi=192, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    # On a phone a single panel shrinks to the screen; several would be too small to read, and scroll.
    least = 0 if width <= _PANEL else min(width, 576)
    data, text = base64.b64encode(buffer.getvalue()).decode("ascii"), as_html(caption)
    return (
        f'<figure><div class="scroll"><img src="data:image/png;base64,{data}" alt="{text}" width="{width}" '
        f'height="{height}" style="min-width: {least}px"></div><figcaption>{text}</figcaption></figure>'
    )
