"""The summaries of both models, from stand-ins that have the fitted attributes and nothing else."""

import html.parser
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from imagined_fits import imagined, marginal

from sklmm import MixedLogisticRegression
from sklmm.exceptions import SeparationWarning
from sklmm.fitted import FittedMixed
from sklmm.inference.variance_partition import VariancePartition
from sklmm.inference.wald import wald_table
from sklmm.messages import display_width
from sklmm.reporting.fit_summary import FitSummary
from sklmm.reporting.summary import summary_of_gee, summary_of_mixed


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
        "n_quadrature_": 1,
        "_approximation": None,
        "_separated": [],
        "variance_partition_": VariancePartition(0.4, pd.Series({"district": 0.25})),
        "_fit_intercept": True,
    }
    return imagined(FittedMixed, model | changes)


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
        "Variance between groups and explained (latent scale):\n"
        "             ICC  median odds ratio  R2 marginal  R2 conditional\n"
        "district  0.0706              1.611       0.1015          0.1650\n"
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


def test_one_frame_of_all_parameters():
    frame = summary_of_mixed(fitted()).to_frame()
    random = ["sd_intercept|district", "sd_age|district", "cor_age.intercept|district"]  # as conf_int calls them
    assert frame.index.tolist() == ["intercept", "age", "urban", *random] and frame.index.is_unique
    assert frame["effect"].tolist() == ["fixed"] * 3 + ["sd", "sd", "correlation"]
    assert frame["term"].tolist() == [""] * 3 + ["district"] * 3
    np.testing.assert_allclose(frame["estimate"], [-1.0353, -0.0265, 0.71, 0.5, 0.4, -0.5])
    assert frame["std_error"].isna().tolist() == [False] * 3 + [True] * 3
    plain = summary_of_mixed(fitted(covariance_={}, n_groups_={})).to_frame()
    assert plain["effect"].tolist() == ["fixed"] * 3


def test_correlation_of_the_coefficients_on_request():
    vcov = np.array([[4.0, -1.0, 0.0], [-1.0, 1.0, 0.5], [0.0, 0.5, 1.0]])
    model = fitted(vcov_=fitted().vcov_ * 0 + vcov)
    assert "Correlation" not in str(summary_of_mixed(model))
    summary = summary_of_mixed(model, correlation=True)
    assert summary.correlation.loc["intercept", "age"] == pytest.approx(-0.5)
    assert (
        "Correlation of the coefficients:\n"
        "                  1     2\n"
        "1  intercept\n"
        "2  age        -0.50\n"
        "3  urban       0.00  0.50\n"
    ) in str(summary)
    assert "-0.50" in summary.to_markdown() and "$-$0.50" in summary.to_latex() and "-0.50" in summary._repr_html_()


def test_each_factor_has_its_share_of_the_variance():
    partition = VariancePartition(0.4, pd.Series({"school": 0.3, "school:class": 0.2}))
    text = str(summary_of_mixed(fitted(variance_partition_=partition)))
    lines = [line.split() for line in text.splitlines() if line.startswith(("school ", "school:class", "all"))]
    assert lines == [["school", "0.0792", "1.686"], ["school:class", "0.0528", "1.532"],
                     ["all", "0.1319", "0.0955", "0.2148"]]  # fmt: skip


def test_repr_is_the_text():
    summary = summary_of_mixed(fitted())
    assert repr(summary) == str(summary)


def test_level_is_checked():
    with pytest.raises(ValueError, match="level"):
        summary_of_mixed(fitted(), level=95)


def test_quadrature_nodes_are_named():
    assert "adaptive Gauss-Hermite quadrature, 7 nodes" in str(summary_of_mixed(fitted(n_quadrature_=7)))


def test_what_was_fitted_is_named_and_not_what_was_set_since():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(200, 2)), np.repeat(np.arange(20), 10)
    y = rng.random(200) < 1 / (1 + np.exp(-rng.normal(size=20)[groups]))
    model = MixedLogisticRegression(n_quadrature=3).fit(X, y, groups=groups)
    before = str(model.summary())
    assert "adaptive Gauss-Hermite quadrature, 3 nodes" in before and "separated" not in before
    assert str(model.set_params(n_quadrature=1).summary()) == before


def test_separation_is_noted_with_its_columns():
    summary = summary_of_mixed(fitted(_separated=["age", "the intercept"]))
    note = next(note for note in summary.notes if "separated" in note)
    assert "separated by age, the intercept:" in note and "standard errors mean nothing" in note
    assert "separated" not in str(summary_of_mixed(fitted()))


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_separation_of_a_fitted_model():
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(300, 2)), columns=["age", "dose"])
    with pytest.warns(SeparationWarning, match="separated by 'dose':"):
        model = MixedLogisticRegression().fit(X, X["dose"] > 0, groups=np.repeat(np.arange(30), 10))
    assert any("separated by dose:" in note for note in model.summary().notes)


def test_without_an_intercept():
    model = fitted(_fit_intercept=False, vcov_=fitted().vcov_.iloc[1:, 1:], intercept_=np.zeros(1))
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
    assert str(summary_of_mixed(fitted(fit_report_=SimpleNamespace(verdict="")))).endswith("\n\nConverged.")


def _cells(text, name):
    """The cells of a coefficient's row, whatever the markup."""
    row = next(line for line in text.splitlines() if re.sub(r"<[^>]*>|[|&]", " ", line).split()[:1] == [name])
    return re.sub(r"<[^>]*>|[|&]|\\\\$", " ", row).split()[1:]


@pytest.mark.parametrize("kind", ["mixed", "marginal"])
def test_no_inference_from_a_fit_that_did_not_converge(kind):
    report = SimpleNamespace(verdict="stopped after 100 iterations")
    changes = {"converged_": False, "fit_report_": report}
    summary = summary_of_mixed(fitted(**changes)) if kind == "mixed" else summary_of_gee(marginal(**changes))
    words = "NOT CONVERGED: estimates are where the fit stopped; there are no standard errors, tests, intervals or"
    table = summary.coefficients
    assert table["estimate"].notna().all() and table.drop(columns="estimate").isna().all(axis=None)
    for text in (str(summary), summary._repr_html_(), summary.to_markdown(), summary.to_latex()):
        assert text.index(words) < text.index("Rows")
        assert _cells(text, "age")[1:] == ["-"] * 8


@pytest.mark.parametrize("kind", ["mixed", "marginal"])
def test_no_inference_on_what_separates_the_classes(kind):
    if kind == "mixed":
        summary = summary_of_mixed(fitted(_separated=["age"]))
        whole = summary_of_mixed(fitted())
    else:
        summary = summary_of_gee(marginal(_separated=["age"]))
        whole = summary_of_gee(marginal())
    assert summary.verdict == [
        "SEPARATED by age: there are no standard errors, tests, intervals or odds ratios of these."
    ]
    assert whole.verdict == []
    assert summary.coefficients.loc["age"].drop("estimate").isna().all()
    pd.testing.assert_frame_equal(summary.coefficients.drop("age"), whole.coefficients.drop("age"))
    assert summary.coefficients.loc["age", "estimate"] == whole.coefficients.loc["age", "estimate"]
    for text in (str(summary), summary._repr_html_(), summary.to_markdown(), summary.to_latex()):
        assert text.index("SEPARATED by age") < text.index("Rows")
        assert _cells(text, "age")[1:] == ["-"] * 8
        assert "-" not in _cells(text, "intercept")


def test_nothing_is_estimated_where_every_outcome_is_predicted():
    summary = summary_of_mixed(fitted(_separated=["age"], log_likelihood_=-1e-6))
    assert summary.verdict[0].endswith("odds ratios of any coefficient, as every outcome is predicted.")
    assert summary.coefficients.drop(columns="estimate").isna().all(axis=None)


def test_notes_list_the_first_of_many_names():
    names = [f"x{j}" for j in range(400)]
    note = next(n for n in summary_of_mixed(fitted(_separated=names)).notes if "separated" in n)
    assert "x9 and 390 more:" in note and len(note) < 300


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


def test_no_standard_error_for_want_of_a_maximum():
    """A negative variance is no sign that the data do not identify a coefficient."""
    names = ["intercept", "age", "urban"]
    text = str(summary_of_mixed(fitted(vcov_=pd.DataFrame(np.diag([0.1, -0.2, 0.1]), names, names), converged_=False)))
    assert "No standard error, as the likelihood is not at a maximum where the fit stopped: age." in text
    assert "not identified" not in text


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


def test_html_takes_its_colours_from_the_page():
    """Light or dark; styles are in the elements, so that nothing else on the page changes."""
    page = summary_of_mixed(with_names("a", "b", "c"))._repr_html_()
    assert "<style" not in page and "class=" not in page and "background" not in page
    assert set(re.findall(r"(?<![-\w])color: (\w+)", page)) == {"inherit"}
    assert "tabular-nums" in page
    for cell in re.findall(r"<td style=.*?</td>", page):
        assert ("right" in cell) == bool(re.search(r"\d</td>", cell)) or cell.endswith("></td>"), cell


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
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
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
