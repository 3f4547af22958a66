"""The summary of a mixed model, from a stand-in that has the public fitted attributes and nothing else."""

import html.parser
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sklmm._text import display_width
from sklmm.inference.tests import wald_table
from sklmm.reporting.summary import FitSummary, summary_of_mixed


def fitted(**changes):
    names = ["intercept", "age", "urban"]
    model = {
        "coef_": np.array([[-0.0265, 0.71]]),
        "intercept_": np.array([-1.0353]),
        "vcov_": pd.DataFrame(np.diag([0.17, 0.0079, 0.12]) ** 2, names, names),
        "covariance_": {"district": square([[0.25, -0.1], [-0.1, 0.16]], "intercept", "age")},
        "n_groups_": {"district": 60},
        "log_likelihood_": -1206.80784,
        "aic_": 2425.61568,
        "bic_": 2459.02,
        "fit_report_": SimpleNamespace(verdict="converged: the last step gained 3e-13"),
        "converged_": True,
        "is_singular_": False,
        "classes_": np.array(["N", "Y"]),
        "n_obs_": 1934.0,
        "n_quadrature": 1,
    }
    return SimpleNamespace(**(model | changes))


def square(values, *names):
    return pd.DataFrame(values, index=names, columns=names, dtype=float)


def with_names(*names):
    return fitted(vcov_=fitted().vcov_.set_axis(names, axis=0).set_axis(names, axis=1))


def test_text():
    assert str(summary_of_mixed(fitted())) == (
        "Mixed-effects logistic regression\n"
        "\n"
        "Outcome:    probability of 'Y' (against 'N')\n"
        "Rows:       1,934\n"
        "Groups:     60 of district\n"
        "Likelihood: Laplace approximation\n"
        "\n"
        "Fixed effects:\n"
        "           estimate  std. error      z  p-value     2.5 %    97.5 %  odds ratio  2.5 %  97.5 %\n"
        "intercept  -1.03530     0.17000  -6.09  1.1e-09  -1.36849  -0.70211       0.355  0.254   0.496\n"
        "age        -0.02650     0.00790  -3.35   0.0008  -0.04198  -0.01102       0.974  0.959   0.989\n"
        "urban       0.71000     0.12000   5.92  3.3e-09   0.47480   0.94520       2.034  1.608   2.573\n"
        "\n"
        "Random effects:\n"
        "term      coefficient  variance      sd  correlation\n"
        "district  intercept      0.2500  0.5000\n"
        "          age            0.1600  0.4000        -0.50\n"
        "\n"
        "Fit:\n"
        "log-likelihood  deviance      AIC      BIC\n"
        "      -1206.81   2413.62  2425.62  2459.02\n"
        "\n"
        "Converged: the last step gained 3e-13."
    )


def test_frames_have_full_precision():
    model = fitted()
    summary = summary_of_mixed(model, level=0.9)
    assert isinstance(summary, FitSummary)
    expected = wald_table(list(model.vcov_.index), [-1.0353, -0.0265, 0.71], model.vcov_.to_numpy(), 0.9)
    pd.testing.assert_frame_equal(summary.coefficients, expected)
    components = summary.variance_components
    assert list(components.index) == [("district", "intercept"), ("district", "age")]
    assert components["variance"].tolist() == [0.25, 0.16]
    np.testing.assert_allclose(components["sd"], [0.5, 0.4])
    assert components.loc[("district", "age"), "corr_intercept"] == pytest.approx(-0.5)
    assert summary.statistics["deviance"] == pytest.approx(2 * 1206.80784)
    assert summary.statistics["log-likelihood"] == -1206.80784
    assert "    5 %" in str(summary) and "95 %" in str(summary)


def test_repr_is_the_text():
    summary = summary_of_mixed(fitted())
    assert repr(summary) == str(summary)


def test_level_is_checked():
    with pytest.raises(ValueError, match="level"):
        summary_of_mixed(fitted(), level=95)


def test_quadrature_nodes_are_named():
    assert "adaptive Gauss-Hermite quadrature, 7 nodes" in str(summary_of_mixed(fitted(n_quadrature=7)))


def test_without_an_intercept():
    model = fitted(vcov_=fitted().vcov_.iloc[1:, 1:], intercept_=np.zeros(1))
    summary = summary_of_mixed(model)
    assert list(summary.coefficients.index) == ["age", "urban"]
    assert summary.coefficients["estimate"].tolist() == [-0.0265, 0.71]


def test_without_groups():
    text = str(summary_of_mixed(fitted(covariance_={}, n_groups_={})))
    assert text.startswith("Logistic regression, no random effects\n")
    assert "Groups:  none" in text
    assert "Random effects" not in text and "Laplace" not in text


def test_labels_of_any_type_and_fractional_rows():
    text = str(summary_of_mixed(fitted(classes_=np.array([1, 2]), n_obs_=12.5)))
    assert "probability of 2 (against 1)" in text
    assert re.search(r"Rows: +12\.5\n", text)


def test_several_terms_each_begin_their_triangle_in_the_first_column():
    covariance = {
        "b": square(np.eye(3) + 0.5, "intercept", "x", "z"),
        "a": square(np.diag([1.0, 4.0]), "intercept", "x"),
        "b.1": square([[1.0, 0.3], [0.3, 1.0]], "u", "v"),
    }
    text = str(summary_of_mixed(fitted(covariance_=covariance, n_groups_={"b": 5, "a": 1234})))
    table = text.split("Random effects:\n")[1].split("\n\n")[0].split("\n")
    assert [line.split() for line in table] == [
        ["term", "coefficient", "variance", "sd", "correlation"],
        ["b", "intercept", "1.500", "1.225"],
        ["x", "1.500", "1.225", "0.33"],
        ["z", "1.500", "1.225", "0.33", "0.33"],
        ["a", "intercept", "1.000", "1.000"],
        ["x", "4.000", "2.000"],
        ["b.1", "u", "1.000", "1.000"],
        ["v", "1.000", "1.000", "0.30"],
    ]
    first = {line.index(number) for line, number in zip(table[2:4], ["0.33", "0.33"], strict=True)}
    assert first == {table[7].index("0.30")}
    assert "5 of b, 1,234 of a" in text


def test_small_variances_keep_their_digits():
    covariance = {"g": square(np.diag([1.0, 9e-6]), "intercept", "x")}
    row = str(summary_of_mixed(fitted(covariance_=covariance))).split(" x ")[1].split("\n")[0]
    assert [float(number) for number in row.split()] == [9e-6, 0.003]


def test_verdicts():
    report = SimpleNamespace(verdict="stopped after 100 iterations")
    text = str(summary_of_mixed(fitted(converged_=False, fit_report_=report)))
    assert text.endswith("NOT CONVERGED: stopped after 100 iterations.")
    assert str(summary_of_mixed(fitted(fit_report_=SimpleNamespace()))).endswith("\n\nConverged.")


def test_singular_fit_says_where():
    covariance = {
        "a": square([[0.0, 0.0], [0.0, 1.0]], "intercept", "x"),
        "b": square([[1.0, -2.0], [-2.0, 4.0]], "intercept", "z"),
    }
    note = summary_of_mixed(fitted(is_singular_=True, covariance_=covariance)).notes[-1]
    assert note.startswith("Singular fit")
    assert "a: the variance of intercept is 0; b: the correlation of intercept and z is -1" in note


def test_singular_fit_of_rank_two_has_no_single_entry_to_blame():
    basis = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    covariance = {"a": square(basis @ basis.T, "intercept", "x", "z")}
    note = summary_of_mixed(fitted(is_singular_=True, covariance_=covariance)).notes[-1]
    assert note.startswith("Singular fit: a variance is on the boundary. The fit is valid")


def test_dropped_columns():
    vcov = fitted().vcov_
    vcov.loc["age"] = vcov["age"] = np.nan
    model = fitted(vcov_=vcov, coef_=np.array([[0.0, 0.71]]))
    summary = summary_of_mixed(model)
    assert np.isnan(summary.coefficients.loc["age", "std_error"])
    assert "not identified by the data: age." in str(summary)
    row = next(line for line in str(summary).split("\n") if line.startswith("age"))
    assert row.split()[2:] == ["-", "-", "-", "-", "-", "1.000", "-", "-"]


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e-3, 1.0, 1e3, 1e9, 1e15])
def test_numbers_of_any_size_keep_their_digits(scale):
    se = np.array([0.17, 0.0079 * scale, 0.12])
    model = fitted(vcov_=fitted().vcov_ * 0 + np.diag(se**2), coef_=np.array([[-0.0265 * scale, 0.71]]))
    row = next(line for line in str(summary_of_mixed(model)).split("\n") if line.startswith("age"))
    estimate, std_error, z = map(float, row.split()[1:4])
    assert std_error == pytest.approx(0.0079 * scale, rel=0.01)
    assert estimate == pytest.approx(-0.0265 * scale, rel=0.01)
    assert z == pytest.approx(-3.35, abs=0.005)


def test_extremes_of_separation():
    model = fitted(coef_=np.array([[900.0, -900.0]]), vcov_=fitted().vcov_ * 1e8)
    text = str(summary_of_mixed(model))
    assert "inf" in text and "nan" not in text


# --- names as they come from users' columns -----------------------------------------------------------------

ODD = ["年齢", "a|b_c*d", r"x\y $5% & <b>{~^}#"]


def test_widths_of_unicode_names():
    text = str(summary_of_mixed(with_names("(i)", "年齢", "e\u0301tat")))
    lines = text.split("Fixed effects:\n")[1].split("\n\n")[0].split("\n")
    assert len({display_width(line) for line in lines}) == 1
    assert display_width("年齢") == 4 and display_width("e\u0301tat") == 4 and display_width("ﾃｽﾄ") == 3


def test_line_breaks_in_names_do_not_break_tables():
    summary = summary_of_mixed(with_names("a\nb", "c\td", "e\u2028f"))
    assert "\na b " in str(summary) and "\nc d " in str(summary) and "\ne f " in str(summary)
    assert "| a b |" in summary.to_markdown()


def test_html_is_well_formed_and_escaped():
    class Cells(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.cells = [], []

        def handle_starttag(self, tag, attrs):
            if tag != "br":
                self.open.append(tag)
            if tag in ("td", "th"):
                self.cells.append("")

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_data(self, data):
            if self.open and self.open[-1] in ("td", "th"):
                self.cells[-1] += data

    parser = Cells()
    parser.feed(summary_of_mixed(with_names(*ODD))._repr_html_())
    parser.close()
    assert parser.open == []
    assert set(ODD) <= set(parser.cells)
    assert "-0.02650" in parser.cells


def test_markdown_tables_are_rectangular_and_escaped():
    markdown = summary_of_mixed(with_names(*ODD)).to_markdown()
    table = [line for line in markdown.split("\n") if line.startswith("|")][:5]
    columns = [re.split(r"(?<!\\)(?:\\\\)*\|", line) for line in table]
    assert {len(row) for row in columns} == {12}
    assert r"a\|b\_c\*d" in markdown
    assert r"x\\y \$5% \& \<b\>{\~^}\#" in markdown
    assert markdown.endswith("\n")


def test_latex_is_escaped_and_rectangular():
    latex = summary_of_mixed(with_names(*ODD)).to_latex()
    assert r"a\textbar{}b\_c*d" in latex
    assert r"x\textbackslash{}y \$5\% \& \textless{}b\textgreater{}" in latex
    assert r"\{\textasciitilde{}\textasciicircum{}\}\#" in latex
    assert "$-$0.02650" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    body = latex.split(r"\begin{tabular}{lrrrrrrrrr}")[1].split(r"\end{tabular}")[0]
    rows = [line for line in body.split("\n") if line.endswith(r"\\")]
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)&", row)) == 9 for row in rows)


def test_latex_row_that_begins_like_an_optional_argument():
    latex = summary_of_mixed(with_names("i", "[0, 1)", "*")).to_latex()
    assert "\n{}[0, 1) &" in latex and "\n{}* &" in latex


def test_further_tables_and_statistics_are_the_callers():
    summary = FitSummary(
        title="T",
        facts=[],
        coefficients=wald_table(["x"], [1.0], [[1.0]]),
        level=0.95,
        statistics={"QIC": 12.3456},
    )
    assert summary.variance_components is None
    assert str(summary).endswith("Fit:\n  QIC\n12.35")
