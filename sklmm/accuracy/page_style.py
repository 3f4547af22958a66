"""The look of the page of a report: one style sheet, for wide and narrow screens, light and dark; and text as HTML."""

import html
import re

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --back: #ffffff; --line: #d1d9e0; --band: #f4f6f8;
  --accent: #0072B2; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa4af; --back: #12161b; --line: #333c46;
  --band: #1b2129; --accent: #56B4E9; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 68rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
h4 { font-size: 1rem; margin: 1.1rem 0 .3rem; }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: break-word; }
a { color: var(--accent); }
.about { color: var(--soft); margin: 0 0 .9rem; }
.short { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 0 2rem; }
.short h2 { margin-top: .6rem; }
.short h3 { margin: .9rem 0 .2rem; }
.short p, .short li { margin: .25rem 0; overflow-wrap: anywhere; }
.verdict { font-weight: 650; }
.failed { color: var(--bad); font-weight: 650; }
nav { margin-top: 1.5rem; border-top: 1px solid var(--line); padding-top: .75rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { display: block; } dd { margin: 0 0 .5rem 1rem; } }
ul { max-width: 46rem; margin: .3rem 0; padding-left: 1.2rem; }
details { margin: .6rem 0; border-left: 3px solid var(--line); padding-left: .8rem; }
summary { cursor: pointer; color: var(--accent); font-weight: 550; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; margin: 0 0 .8rem; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { caption-side: top; text-align: left; color: var(--soft); padding: .2rem 0 .4rem; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { background: var(--band); white-space: normal; overflow-wrap: break-word; vertical-align: bottom; }
tbody th { font-weight: 500; }
td small { display: block; color: var(--soft); }
td.clear { font-weight: 650; }
.pictures { display: flex; flex-wrap: wrap; gap: 0 1.5rem; align-items: flex-start; }
figure { margin: 1rem 0 1.5rem; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; padding: .4rem; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .35rem; max-width: 32rem; }
"""


def as_html(value):
    """Text as HTML; control characters are no text, and a number keeps its per cent sign on its line."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return html.escape(re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text))


def capital(text):
    """Text as a sentence begins."""
    return text[:1].upper() + text[1:]
