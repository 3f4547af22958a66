"""One small document, title, facts, tables and notes, in four markups.

Cells are plain text until here; each markup escapes them itself, since names come from the user's columns.
"""

import html
import re
from dataclasses import dataclass, field

from sklmm.messages import display_width


@dataclass(frozen=True)
class Table:
    """A titled table of strings; the first `n_names` columns hold names and are set flush left."""

    title: str
    head: list
    rows: list
    n_names: int = 1


@dataclass(frozen=True)
class Document:
    """What a summary shows; facts are pairs of a label and a value, the verdict is set below the title."""

    title: str
    facts: list
    tables: list
    notes: list = field(default_factory=list)
    verdict: list = field(default_factory=list)


def _plain(text):
    """Text without line breaks and control characters, which would tear a table apart."""
    return "".join(char if char.isprintable() else " " for char in str(text))


# --- text ---------------------------------------------------------------------------------------------------


def to_text(document):
    """The document for a terminal."""
    blocks = [_plain(document.title), *map(_plain, document.verdict)]
    if document.facts:
        width = max(display_width(label) for label, _ in document.facts) + 2
        blocks.append("\n".join(_pad(label + ":", width) + _plain(value) for label, value in document.facts))
    blocks += [_text_table(table) for table in document.tables]
    if document.notes:
        blocks.append("\n".join(_plain(note) for note in document.notes))
    return "\n\n".join(blocks)


def _text_table(table):
    rows = [[_plain(cell) for cell in row] for row in [table.head, *table.rows]]
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = [table.title + ":"] if table.title else []
    for row in rows:
        cells = [
            _pad(cell, width, right=j >= table.n_names)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _pad(text, width, right=False):
    space = " " * (width - display_width(text))
    return space + text if right else text + space


# --- HTML ---------------------------------------------------------------------------------------------------


# Styles stand in the elements: pages and notebooks have rules of their own for tables, some of them drop style sheets,
# and nothing else on the page is to change. Colours are the page's, be it light or dark; a rule's grey is seen on both.
_RULE = "1px solid rgba(128, 128, 128, 0.4)"
_PARAGRAPH = "margin: 0.5em 0"
_FACTS = f"{_PARAGRAPH}; columns: 26em"  # side by side where there is room
_WIDE = "overflow-x: auto; margin: 0.8em 0"
_TABLE = "border-collapse: collapse; border: none; margin: 0; font-variant-numeric: tabular-nums"
_CAPTION = "caption-side: top; text-align: left; font-weight: bold; color: inherit; padding: 0.1em 0"
_CELL = "padding: 0.15em 0.5em; border: none"


def to_html(document):
    """The document as an HTML fragment for notebooks and pages, light or dark."""
    heads = (document.title, *document.verdict)
    parts = ["<div>", *(f'<p style="{_PARAGRAPH}"><strong>{_html(text)}</strong></p>' for text in heads)]
    if document.facts:
        facts = "<br>".join(f"{_html(label)}: {_html(value)}" for label, value in document.facts)
        parts.append(f'<p style="{_FACTS}">{facts}</p>')
    for table in document.tables:
        parts += [f'<div style="{_WIDE}">', f'<table style="{_TABLE}">']
        if table.title:
            parts.append(f'<caption style="{_CAPTION}">{_html(table.title)}</caption>')
        parts.append("<thead>" + _html_row(table.head, "th", table.n_names, f"; border-bottom: {_RULE}") + "</thead>")
        parts.append("<tbody>")
        parts += [_html_row(row, "td", table.n_names) for row in table.rows]
        parts += ["</tbody>", "</table>", "</div>"]
    parts += [f'<p style="{_PARAGRAPH}">{_html(note)}</p>' for note in document.notes]
    return "\n".join([*parts, "</div>"])


def _html(text):
    return html.escape(_plain(text))


def _html_row(cells, tag, n_names, more=""):
    styles = (
        f"{_CELL}; text-align: left{more}" if j < n_names else f"{_CELL}; text-align: right; white-space: nowrap{more}"
        for j in range(len(cells))
    )
    return (
        "<tr>"
        + "".join(f'<{tag} style="{style}">{_html(cell)}</{tag}>' for cell, style in zip(cells, styles, strict=True))
        + "</tr>"
    )


# --- Markdown -----------------------------------------------------------------------------------------------


def to_markdown(document):
    """The document in GitHub's Markdown."""
    blocks = [f"**{_markdown(text)}**" for text in (document.title, *document.verdict)]
    if document.facts:
        facts = [f"- {_markdown(label)}: {_markdown(value)}" for label, value in document.facts]
        blocks.append("\n".join(facts))
    for table in document.tables:
        if table.title:
            blocks.append(_markdown(table.title))
        marks = ["---" if j < table.n_names else "---:" for j in range(len(table.head))]
        lines = [[_markdown(cell) for cell in table.head], marks]
        lines += [[_markdown(cell) for cell in row] for row in table.rows]
        blocks.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    blocks += [_markdown(note) for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def _markdown(text):
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", _plain(text))


# --- LaTeX --------------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}


def to_latex(document):
    """The tables of the document as LaTeX, without packages; titles, facts and notes are paragraphs."""
    blocks = [rf"\textbf{{{_latex(text)}}}" for text in (document.title, *document.verdict)]
    if document.facts:
        facts = [f"{_latex(label)}: {_latex(value)}" for label, value in document.facts]
        blocks.append(" \\\\\n".join(facts))
    for table in document.tables:
        lines = [_latex(table.title) + r" \\"] if table.title else []
        columns = "l" * table.n_names + "r" * (len(table.head) - table.n_names)
        lines.append(rf"\begin{{tabular}}{{{columns}}}")
        lines += [r"\hline", _latex_row(table.head), r"\hline"]
        lines += [_latex_row(row) for row in table.rows]
        lines += [r"\hline", r"\end{tabular}"]
        blocks.append("\n".join(lines))
    blocks += [_latex(note) for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def _latex(text):
    return "".join(_LATEX.get(char, char) for char in _plain(text))


def _latex_row(cells):
    # A number's minus is a minus sign, not a hyphen.
    texts = [_latex(cell).replace("-", "$-$") if _is_number(cell) else _latex(cell) for cell in cells]
    if texts[0].startswith(("[", "*")):  # would be read as arguments of the "\\" before
        texts[0] = "{}" + texts[0]
    return " & ".join(texts) + r" \\"


def _is_number(text):
    try:
        float(text.lstrip("<"))
    except ValueError:
        return False
    return True
