"""An accuracy report as one HTML file that needs nothing else: style and pictures are in it, and no scripts."""

import base64
import html
import io

import numpy as np

from sklmm.accuracy import plots
from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.metrics import leading_column, metric_of
from sklmm.accuracy.reading import MEANINGS, read_report
from sklmm.accuracy.text import number_writer, report_document
from sklmm.reporting.displays.axes import percent

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --back: #ffffff; --line: #d1d9e0; --band: #f4f6f8;
  --accent: #0072B2; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa4af; --back: #12161b; --line: #333c46;
  --band: #1b2129; --accent: #56B4E9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul.reading { max-width: 46rem; margin: .3rem 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; margin: 0 0 .8rem; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { caption-side: top; text-align: left; color: var(--soft); padding: .2rem 0 .4rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--band); white-space: normal; overflow-wrap: break-word; vertical-align: bottom; }
tbody th { font-weight: 500; }
td small { display: block; color: var(--soft); }
td.clear { font-weight: 650; }
figure { margin: 1rem 0 1.5rem; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; padding: .4rem; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .35rem; max-width: 46rem; }
"""

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


def report_html(report, title="Predictive accuracy", sections_before=()):
    """The report as a page.

    Parameters
    ----------
    report : AccuracyReport or None
        None makes a page of the other sections alone.
    title : str, default="Predictive accuracy"
    sections_before : sequence of (str, str), default=()
        Titles and bodies of sections that come before the tables and pictures of the report. Bodies are HTML, and are
        taken as they are: who makes them escapes what is in them. Titles are text.

    Returns
    -------
    page : str
        A whole document in UTF-8. It asks for nothing over the network. Without matplotlib it has no pictures, and says
        so.

    Examples
    --------
    >>> from sklmm.accuracy.html import report_html
    >>> page = report_html(None, title="A & B", sections_before=[("Models", "<p>None yet.</p>")])
    >>> "<h1>A &amp; B</h1>" in page
    True
    """
    before = [(str(name), f'<div class="scroll">{body}</div>') for name, body in sections_before]
    sections = before if report is None else [*before, *_accuracy_sections(report)]
    lead = "" if report is None else _lead(report)
    links = "\n".join(f'<li><a href="#s{i}">{_text(name)}</a></li>' for i, (name, _) in enumerate(sections))
    parts = "\n".join(
        f'<section id="s{i}">\n<h2>{_text(name)}</h2>\n{body}\n</section>' for i, (name, body) in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n"
        f"<nav><ul>\n{links}\n</ul></nav>\n{lead}\n{parts}\n</body>\n</html>\n"
    )


def _lead(report):
    """What was done, and the results in plain words."""
    facts = [f"<dt>{_text(label)}</dt><dd>{_text(value)}</dd>" for label, value in report_document(report).facts]
    parts = ["<dl>", *facts, "</dl>", "<h2>What it says</h2>"]
    for name, (asked, *found) in read_report(report).items():
        items = "\n".join(f"<li>{_text(sentence)}</li>" for sentence in found)
        parts += [f"<h3>{_text(_capital(name))}</h3>", f"<p>{_text(asked)}</p>", '<ul class="reading">', items, "</ul>"]
    return "\n".join(parts)


def _accuracy_sections(report):
    sections = [("Pictures", _pictures(report))]
    for name in report.scenarios:
        body = [f"<p>{_text(MEANINGS.get(name, ''))}</p>", _estimates(report, name)]
        if len(report.estimators) > 1:
            body.append(_differences(report, name))
        sections.append((_capital(name), "\n".join(body)))
    notes = "\n".join(f"<p>{_text(note)}</p>" for note in report.notes)
    if notes:
        sections.append(("Notes", notes))
    return [*sections, ("What the metrics mean", _glossary(report))]


# --- tables -------------------------------------------------------------------------------------------------


def _estimates(report, scenario):
    rows = []
    for column, part in _by_metric(report, scenario):
        write = number_writer(part, metric_of(column, KINDS[report.kind].metrics))
        cells = []
        for row in part.itertuples():
            value = f"{write(row.estimate)} ± {write(row.std_error)}"
            cells.append((value, f"{write(row.lower)} to {write(row.upper)}", False))
        rows.append((column, cells))
    caption = f"Estimate ± standard error, and {percent(report.level)} interval"
    return _table(caption, report.estimators, rows)


def _differences(report, scenario):
    first, *others = report.estimators
    rows = []
    for column, part in _by_metric(report, scenario):
        write = number_writer(part, metric_of(column, KINDS[report.kind].metrics))
        cells = []
        for row in part.loc[others].itertuples():
            clear = row.difference_lower > 0 or row.difference_upper < 0
            interval = f"{write(row.difference_lower)} to {write(row.difference_upper)}"
            cells.append((write(row.difference), interval, clear))
        rows.append((column, cells))
    caption = (
        f"Difference to {first} on the same rows, and its {percent(report.level)} interval; bold where the interval "
        "leaves out 0"
    )
    return _table(caption, others, rows)


def _by_metric(report, scenario):
    here = report.summary[report.summary["scenario"] == scenario]
    for column, part in here.groupby("metric", sort=False, observed=True):
        yield column, part.set_index("estimator").reindex(report.estimators)


def _table(caption, head, rows):
    """A table with a row a metric; cells are (text, second line, whether to stress it)."""
    lines = [f'<div class="scroll"><table>\n<caption>{_text(caption)}</caption>']
    names = "".join(f'<th scope="col">{_text(name)}</th>' for name in head)
    lines.append(f"<thead><tr><th></th>{names}</tr></thead>\n<tbody>")
    for name, cells in rows:
        texts = "".join(
            f'<td class="{"clear" if stress else ""}">{_text(value)}<small>{_text(second)}</small></td>'
            for value, second, stress in cells
        )
        lines.append(f'<tr><th scope="row">{_text(name)}</th>{texts}</tr>')
    return "\n".join([*lines, "</tbody>\n</table></div>"])


def _glossary(report):
    items = "\n".join(
        f"<dt>{_text(metric.name)}</dt><dd>{_text(metric.meaning)} {_capital(metric.direction)}.</dd>"
        for metric in dict.fromkeys(metric_of(column, KINDS[report.kind].metrics) for column in report.metrics)
    )
    return f"<dl>\n{items}\n</dl>"


# --- pictures -----------------------------------------------------------------------------------------------


def _pictures(report):
    try:
        import matplotlib
    except ImportError:
        return (
            "<p>There are no pictures on this page, since matplotlib is not installed; "
            "<code>pip install matplotlib</code>, and make the page again.</p>"
        )
    from matplotlib import rc_context


    leading = leading_column(report.metrics, KINDS[report.kind].metrics)
    wanted = []
    if leading is not None and len(report.estimators) > 1:
        text = (
            f"{_capital(leading)}, difference to {report.estimators[0]} with its {percent(report.level)} "
            "interval: one that leaves out 0 says that the two differ by more than chance."
        )
        wanted.append((lambda: plots.plot_comparison(report, leading, difference=True), text))
    compared = [column for column in (leading, "calibration slope") if column in report.metrics]
    if compared:
        text = f"{_capital(' and '.join(compared))} with {percent(report.level)} intervals."
        wanted.append((lambda: plots.plot_comparison(report, compared), text))
    draw, predictions, text = _OF_KIND[report.kind]
    wanted.append((lambda: draw(report), text))
    text = f"Calibration: on the diagonal, {predictions} are right; above it they are too low, below it too high."
    wanted.append((lambda: plots.plot_calibration(report), text))
    # The reader's own settings would change fonts and colours under the layout.
    with rc_context():
        matplotlib.rcdefaults()
        return "\n".join(_figure(draw, caption) for draw, caption in wanted)


def _figure(draw, caption):
    import matplotlib.pyplot as plt

    figure = np.ravel(draw())[0].figure
    buffer = io.BytesIO()
    width, height = (round(96 * side) for side in figure.get_size_inches())
    figure.savefig(buffer, format="png", dpi=192, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<figure><div class="scroll"><img src="data:image/png;base64,{data}" alt="{_text(caption)}" width="{width}" '
        f'height="{height}" style="min-width: {min(width, 576)}px"></div>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _text(value):
    """Text as HTML; control characters are no text."""
    return html.escape("".join(char if char.isprintable() else " " for char in str(value)))


def _capital(text):
    return text[:1].upper() + text[1:]
