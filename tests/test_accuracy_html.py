"""The page of an accuracy report, read back by an HTML parser; and its reading in words."""

import base64
import io
import sys
import warnings
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sklmm.accuracy import accuracy_report
from sklmm.accuracy.html import report_html
from sklmm.accuracy.metrics import METRICS
from sklmm.accuracy.reading import read_report
from sklmm.datasets import load_contraception

VOID = {"meta", "img", "br", "link", "input", "hr"}


class _Page(HTMLParser):
    """Elements, texts and attributes of a page whose tags must be closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.attributes, self.tables, self.texts, self.tags = [], [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append((self.open[-1] if self.open else "", data))
        if self.open and {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data + (" " if self.open[-1] != "small" else "")

    def of(self, tag):
        return [text for where, text in self.texts if where == tag]


@pytest.fixture(scope="module")
def report():
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    estimators = {"mixed & <b>": "mixed", "pooled": "pooled", "separate": "separate"}
    return accuracy_report(estimators, X[["age", "urban"]], y, groups=groups, n_resamples=50, random_state=0)


@pytest.fixture(scope="module")
def page(report):
    pytest.importorskip("matplotlib").use("agg")
    own = {"A < B": "<p>An <em>own</em> part</p>"}
    return report_html(
        report, title="Use of <contraception> & co", models=own, data="<p>Table</p>", findings=report.findings
    )


def test_page_is_well_formed_and_in_order(page):
    parsed = _Page(page)
    assert page.startswith("<!DOCTYPE html>") and '<meta charset="utf-8">' in page
    assert parsed.of("title") == parsed.of("h1") == ["Use of <contraception> & co"]
    first = ["What was found", "How good predictions are"]
    sections = ["The effects, in words and pictures", "How good the predictions are", "The models, number by number"]
    sections += ["The data", "What the words mean"]
    assert parsed.of("h2") == first + sections
    assert parsed.of("em") == ["own"]  # bodies are HTML
    assert parsed.of("a") == sections
    assert {"A < B", "Columns and rows", "More measures"} <= set(parsed.of("summary"))
    targets = [value[1:] for tag, name, value in parsed.attributes if (tag, name) == ("a", "href")]
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert targets == ids


def test_page_asks_for_nothing(page):
    parsed = _Page(page)
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    for tag, name, value in parsed.attributes:
        if name in ("src", "href", "action", "srcset", "data", "poster"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value[:60])
        assert not name.startswith("on")
    assert "http" not in page and "url(" not in page and "@import" not in page
    assert "prefers-color-scheme: dark" in page


def test_tables_hold_the_summary(page, report):
    tables = _Page(page).tables
    first, differences, more = (tables[k::3] for k in range(3))
    assert len(first) == len(differences) == len(more) == 2
    for scenario, table, other, rest in zip(report.scenarios, first, differences, more, strict=True):
        assert [cell.strip() for cell in table[0]] == ["", "mixed & <b>", "pooled", "separate"]
        found = [row[0].strip() for row in table[1:]]
        assert found == ["log loss", "ROC AUC", "AUC within groups", "calibration slope"]
        assert sorted(found + [row[0].strip() for row in rest[1:]]) == sorted(report.metrics)
        here = report.summary[report.summary["scenario"] == scenario].set_index(["metric", "estimator"])
        for row in table[1:] + rest[1:]:
            for cell, estimator in zip(row[1:], report.estimators, strict=True):
                value, _, error, lower, _, upper = cell.split()
                expected = here.loc[(row[0].strip(), estimator), ["estimate", "std_error", "lower", "upper"]]
                found = np.array([value, error, lower, upper]).astype(float)
                rounding = 0.51 * 10.0 ** -len(value.split(".")[1])
                np.testing.assert_allclose(found, expected.astype(float), atol=rounding)
        value, lower, _, upper = other[1][2].split()
        expected = here.loc[("log loss", "separate")]
        np.testing.assert_allclose(
            [float(value), float(lower), float(upper)],
            expected[["difference", "difference_lower", "difference_upper"]].astype(float), atol=6e-5,
        )  # fmt: skip


def test_bold_is_what_leaves_out_zero(page, report):
    table = report.summary[report.summary["estimator"] != report.estimators[0]]
    clear = (table["difference_lower"] > 0) | (table["difference_upper"] < 0)
    assert 0 < clear.sum() < len(clear)
    assert page.count('<td class="clear">') == clear.sum()


def test_pictures_are_in_the_page(page):
    image = pytest.importorskip("matplotlib.image")
    parsed = _Page(page)
    sources = [value for tag, name, value in parsed.attributes if (tag, name) == ("img", "src")]
    assert len(sources) == 8  # four of the accuracy; coefficients, two features and the groups of the model
    assert len([1 for tag, name, value in parsed.attributes if (tag, name) == ("img", "alt") and value]) == 8
    for source in sources:
        picture = image.imread(io.BytesIO(base64.b64decode(source.split(",")[1])))
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.02  # something is drawn
    assert not pytest.importorskip("matplotlib.pyplot").get_fignums()  # and no figure left open


def test_page_without_matplotlib(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = report_html(report, findings=report.findings)
    parsed = _Page(page)
    assert "img" not in parsed.tags and len(parsed.tables) == 6
    assert "matplotlib is not installed" in page


def test_page_without_a_report():
    parsed = _Page(report_html(title="Models", models={"One": "<p>1</p>", "Two": "<p>2 odds ratio</p>"}))
    assert parsed.of("h2") == ["The models, number by number", "What the words mean"]
    assert parsed.of("p") == ["1", "2 odds ratio"] and parsed.of("summary") == ["One", "Two"]
    assert parsed.of("dt") == ["odds ratio"]


def test_one_estimator_and_few_metrics():
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    settings = {"groups": groups, "n_resamples": 20, "random_state": 0, "scenarios": "known groups"}
    report = accuracy_report("pooled", X[["age"]], y, metrics=["calibration slope", "in-class accuracy"], **settings)
    parsed = _Page(report_html(report))
    assert len(parsed.tables) == 2  # the calibration slope, and more measures
    assert parsed.of("dt") == ["pooled", "calibration slope", "in-class accuracy"]
    assert any(sentence.startswith("The sensitivity of pooled is") for sentence in parsed.of("li"))


def test_save_html_leaves_the_settings_of_matplotlib_alone(report, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"font.size": 30, "figure.dpi": 50}):
        report.save_html(tmp_path / "report.html", title="é ± ü")
        assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["figure.dpi"]) == (30, 50)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>é ± ü</h1>" in page and "<h2>What was found</h2>" in page


# --- the reading --------------------------------------------------------------------------------------------


def _summary(**metrics):
    """What the reading needs of a report: each metric a list of (estimate, interval, interval of the difference)."""
    names = ["first", "second", "third"]
    rows = [
        {
            "scenario": "new groups", "estimator": name, "metric": metric, "estimate": value, "lower": lower,
            "upper": upper, "difference": value - values[0][0] if name != "first" else np.nan,
            "difference_lower": low, "difference_upper": high,
        }
        for metric, values in metrics.items()
        for name, (value, (lower, upper), (low, high)) in zip(names, values, strict=False)
    ]  # fmt: skip
    summary = pd.DataFrame(rows)
    return SimpleNamespace(
        summary=summary, scenarios=["new groups"], estimators=list(summary["estimator"].unique()), level=0.9,
        kind="classes", classes=np.array(["well", "ill"]),
        predictions=pd.DataFrame({"scenario": "new groups", "y": [0, 0, 0, 1]}),
    )  # fmt: skip


NONE = (np.nan, np.nan)


def test_reading_when_the_first_is_best():
    losses = [(0.5, (0.4, 0.6), NONE), (0.51, (0.4, 0.6), (-0.01, 0.03)), (0.7, (0.6, 0.8), (0.1, 0.3))]
    found = read_report(_summary(**{"log loss": losses}))["new groups"]
    assert found[0].startswith("Rows of groups that the models had not seen")
    assert found[1] == "first has the lowest log loss, which is the best: 0.5000, against second 0.5100, third 0.7000."
    assert found[2].startswith("It is better than third by more than chance: the 90 % interval")
    assert found[3].startswith("Against second the interval of the paired difference includes 0")
    # -(log(1/4) / 4 + 3 log(3/4) / 4)
    assert found[4] == "Predicting for every row the share of 'ill' among them, 25.0%, has a log loss of 0.5623."


@pytest.mark.parametrize(("interval", "verdict"), [((0.01, 0.2), "more than chance"), ((-0.01, 0.2), "may be chance")])
def test_reading_when_another_is_best(interval, verdict):
    found = read_report(_summary(**{"ROC AUC": [(0.6, (0.5, 0.7), NONE), (0.7, (0.6, 0.8), interval)]}))["new groups"]
    assert found[1] == "second has the highest ROC AUC, which is the best: 0.7000, against first 0.6000."
    assert "90 % interval of its paired difference to first" in found[2] and verdict in found[2]


def test_reading_of_calibration():
    slopes = [(0.95, (0.8, 1.1), NONE), (0.6, (0.5, 0.7), NONE), (1.5, (1.2, 1.9), NONE)]
    shifts = [(0.0, (-0.1, 0.1), NONE), (0.3, (0.1, 0.5), NONE), (-0.3, (-0.5, -0.1), NONE)]
    reading = read_report(_summary(**{"calibration slope": slopes, "calibration intercept": shifts}))
    found = " ".join(reading["new groups"])
    assert "the interval includes 1 for first (0.95)" in found
    assert "Probabilities of second (0.60) are too extreme, slope below 1" in found
    assert "Probabilities of third (1.50) are too timid, slope above 1" in found
    assert "probabilities of second are too low (calibration intercept above 0)" in found
    assert "probabilities of third are too high (calibration intercept below 0)" in found


def test_reading_of_what_is_not_defined():
    slopes = [(np.nan, NONE, NONE), (1.0, NONE, NONE)]
    losses = [(np.nan, NONE, NONE), (np.nan, NONE, NONE)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = " ".join(read_report(_summary(**{"ROC AUC": losses, "calibration slope": slopes}))["new groups"])
    assert "The ROC AUC is not defined for these rows." in found
    assert "There is no calibration slope of first" in found


def test_reading_of_real_reports_names_every_estimator(report):
    for sentences in read_report(report).values():
        assert all(name in " ".join(sentences) for name in report.estimators)
        assert "nan" not in " ".join(sentences)
        assert all(sentence.endswith((".", "?")) for sentence in sentences)


def test_every_metric_says_what_it_means():
    assert all(metric.meaning.endswith(".") for metric in METRICS.values())
