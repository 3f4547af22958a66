"""A report as one HTML page that needs nothing else: style and pictures are in it, and no scripts.

The first screen is for readers of no statistics: what was found, and for whom predictions are how good. What it rests
on follows, the long tables folded.
"""

from sklmm.accuracy import page_figures
from sklmm.accuracy.glossary import terms_in
from sklmm.accuracy.headline import headlines, title_of
from sklmm.accuracy.kinds import KINDS
from sklmm.accuracy.metrics import metric_of
from sklmm.accuracy.page_style import STYLE, as_html, capital
from sklmm.accuracy.reading import MEANINGS, read_report
from sklmm.accuracy.text import number_writer
from sklmm.messages import joined
from sklmm.reporting.displays.axes import percent
from sklmm.reporting.narrative import report_of

_MOST_SENTENCES = 9  # of a paragraph; a list of more is folded


def report_html(report=None, title="Predictive accuracy", *, about=None, findings=None, models=None, data=None):
    """The report as a page.

    Parameters
    ----------
    report : AccuracyReport, default=None
    title : str, default="Predictive accuracy"
    about : str, default=None
        A line on the rows; None is what the report says of them.
    findings : dict of str -> Findings, default=None
        What fitted models found, by their names; the first is told of on the first screen.
    models : dict of str -> str, default=None
        Summaries of models by their names. They are HTML, and are taken as they are: who makes them escapes what is in
        them.
    data : str, default=None
        A description of the table, as HTML likewise.

    Returns
    -------
    page : str
        A whole document in UTF-8. It asks for nothing over the network. Without matplotlib it has no pictures, and says
        so.

    Examples
    --------
    >>> from sklmm.accuracy.html import report_html
    >>> page = report_html(title="A & B", models={"One": "<p>None yet.</p>"})
    >>> "<h1>A &amp; B</h1>" in page
    True
    """
    findings, models = findings or {}, models or {}
    sections = []
    if findings:
        sections.append(("The effects, in words and pictures", _effects(findings)))
    if report is not None:
        sections.append(("How good the predictions are", _accuracy(report)))
    if models:
        body = "\n".join(_folded(name, f'<div class="scroll">{body}</div>') for name, body in models.items())
        sections.append(("The models, number by number", body))
    if data is not None:
        sections.append(("The data", _folded("Columns and rows", f'<div class="scroll">{data}</div>')))
    if report is not None and report.notes:
        sections.append(("Notes", "\n".join(f"<p>{as_html(note)}</p>" for note in report.notes)))
    glossary = _glossary(report, " ".join(models.values()))
    if glossary:
        sections.append(("What the words mean", glossary))
    links = "\n".join(f'<li><a href="#s{i}">{as_html(name)}</a></li>' for i, (name, _) in enumerate(sections))
    parts = "\n".join(
        f'<section id="s{i}">\n<h2>{as_html(name)}</h2>\n{body}\n</section>' for i, (name, body) in enumerate(sections)
    )
    if about is None and report is not None:
        about = report.about
    lead = "" if about is None else f'<p class="about">{as_html(about)}</p>\n'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{as_html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{as_html(title)}</h1>\n"
        f"{lead}{_short(report, findings)}<nav><ul>\n{links}\n</ul></nav>\n{parts}\n</body>\n</html>\n"
    )


# --- the first screen ---------------------------------------------------------------------------------------


def _short(report, findings):
    """What was found, and how good predictions are."""
    cards = []
    if findings:
        first = next(iter(findings.values()))
        failures = [(name, found.failure) for name, found in findings.items() if found.failure is not None]
        body = [f'<p class="failed">{as_html(f"{name}: {text}")}</p>' for name, text in failures]
        if first.failure is None:
            body += [f"<p>{as_html(first.lead)}</p>", _list([*first.of_features(), *first.of_groups()])]
        cards.append('<div>\n<h2>What was found</h2>\n' + "\n".join(body) + "\n</div>")
    if report is not None:
        body = [] if len(report.factors) == 1 else [f"<p>{as_html(_on_factors(report))}</p>"]
        for headline in headlines(report).values():
            body.append(f"<h3>{as_html(headline.title)}</h3>")
            body += [f'<p class="failed">{as_html(sentence)}</p>' for sentence in headline.failures]
            body += [f'<p class="verdict">{as_html(headline.verdict)}</p>', _list(headline.sentences)]
        cards.append("<div>\n<h2>How good predictions are</h2>\n" + "\n".join(body) + "\n</div>")
    return '<div class="short">\n' + "\n".join(cards) + "\n</div>\n" if cards else ""


def _on_factors(report):
    """Which of several grouping columns does what."""
    return (
        f"Rows belong to groups of {joined(report.factors)}. The mixed model knows them all; new and known groups, and "
        f"those of the marginal model, are groups of {report.factor}."
    )


# --- sections -----------------------------------------------------------------------------------------------


def _effects(findings):
    """Each model in sentences and pictures, those after the first folded."""
    parts = []
    for name, found in findings.items():
        body = []
        told = report_of(found.estimator, found.level, found.outcome, found.factors)
        for heading, sentences in told.sections.items():
            shown, rest = (sentences, []) if len(sentences) <= _MOST_SENTENCES else (sentences[:1], sentences[1:])
            body += [f"<h4>{as_html(heading)}</h4>", f"<p>{as_html(' '.join(shown))}</p>"]
            body += [_folded(f"{len(rest):,} effects, one by one", _list(rest))] if rest else []
        body.append(page_figures.figures(page_figures.of_findings(found)))
        parts.append(_folded(name, "\n".join(body)) if parts else f"<h3>{as_html(name)}</h3>\n" + "\n".join(body))
    return "\n".join(parts)


def _accuracy(report):
    """Tables of each scenario, the metrics that matter most first, and pictures."""
    first, rest = _columns(report)
    parts = ["<p>Compared are:</p>", _meanings(report.models)]
    parts += ["<p>Measured are:</p>", _meanings(_metrics(report, first))]
    for name, (_, *found) in read_report(report).items():
        asked = MEANINGS.get(name, title_of(report, name))
        parts += [f"<h3>{as_html(capital(name))}</h3>", f"<p>{as_html(asked)}</p>"]
        parts.append(_estimates(report, name, first))
        if len(report.estimators) > 1:
            folded = _differences(report, name, report.metrics)
            parts.append(_folded(f"Differences to {report.estimators[0]}", folded))
        if rest:
            parts.append(_folded("More measures", _estimates(report, name, rest)))
        parts.append(_folded("What the numbers say, one by one", _list(found)))
    return "\n".join([*parts, page_figures.figures(page_figures.of_accuracy(report))])


def _folded(title, body):
    return f"<details>\n<summary>{as_html(title)}</summary>\n{body}\n</details>"


def _list(sentences):
    items = "\n".join(f"<li>{as_html(sentence)}</li>" for sentence in sentences)
    return f"<ul>\n{items}\n</ul>" if items else ""


# --- tables -------------------------------------------------------------------------------------------------


def _estimates(report, scenario, columns):
    rows = []
    for column, part in _by_metric(report, scenario, columns):
        write = number_writer(part, metric_of(column, KINDS[report.kind].metrics))
        cells = []
        for row in part.itertuples():
            value = f"{write(row.estimate)} ± {write(row.std_error)}"
            cells.append((value, f"{write(row.lower)} to {write(row.upper)}", False))
        rows.append((column, cells))
    caption = f"Estimate ± standard error, and {percent(report.level)} interval"
    return _table(caption, report.estimators, rows)


def _differences(report, scenario, columns):
    first, *others = report.estimators
    rows = []
    for column, part in _by_metric(report, scenario, columns):
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


def _by_metric(report, scenario, columns):
    here = report.summary[report.summary["scenario"] == scenario]
    for column in columns:
        yield column, here[here["metric"] == column].set_index("estimator").reindex(report.estimators)


def _table(caption, head, rows):
    """A table with a row a metric; cells are (text, second line, whether to stress it)."""
    lines = [f'<div class="scroll"><table>\n<caption>{as_html(caption)}</caption>']
    names = "".join(f'<th scope="col">{as_html(name)}</th>' for name in head)
    lines.append(f"<thead><tr><th></th>{names}</tr></thead>\n<tbody>")
    for name, cells in rows:
        texts = "".join(
            f'<td class="{"clear" if stress else ""}">{as_html(value)}<small>{as_html(second)}</small></td>'
            for value, second, stress in cells
        )
        lines.append(f'<tr><th scope="row">{as_html(name)}</th>{texts}</tr>')
    return "\n".join([*lines, "</tbody>\n</table></div>"])


def _columns(report):
    """The report's metrics that pages show first, and the others."""
    first = [column for column in report.metrics if metric_of(column, KINDS[report.kind].metrics).first]
    return (first, [column for column in report.metrics if column not in first]) if first else (report.metrics, [])


def _metrics(report, columns):
    """What metrics mean, by their names."""
    metrics = dict.fromkeys(metric_of(column, KINDS[report.kind].metrics) for column in columns)
    return {metric.name: f"{metric.meaning} {capital(metric.direction)}." for metric in metrics}


def _glossary(report, models):
    """Words of the models and metrics on the page that were not explained where they stand."""
    return _meanings(terms_in(models) | ({} if report is None else _metrics(report, _columns(report)[1])))


def _meanings(meanings):
    items = "\n".join(f"<dt>{as_html(name)}</dt><dd>{as_html(meaning)}</dd>" for name, meaning in meanings.items())
    return f"<dl>\n{items}\n</dl>" if items else ""
