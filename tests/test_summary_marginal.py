"""Summaries of marginal models."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from imagined_fits import marginal

from sklmm import GEELogisticRegression
from sklmm.datasets import load_ohio
from sklmm.inference.sandwich import COV_TYPES
from sklmm.inference.wald import wald_table
from sklmm.reporting.summary import COVARIANCES, summary_of_gee

# --- the marginal model -------------------------------------------------------------------------------------


def facts_of(model):
    return dict(summary_of_gee(model).facts)


def test_text_of_the_marginal_model():
    assert str(summary_of_gee(marginal())) == (
        "Marginal logistic regression (generalized estimating equations)\n"
        "\n"
        "Outcome:     probability of 1 (against 0)\n"
        "Rows:        2,148\n"
        "Clusters:    537 of child, 4 rows each\n"
        "Correlation: exchangeable, 0.354 between two rows of a cluster\n"
        "Dispersion:  0.9996, estimated\n"
        "Covariance:  robust (sandwich)\n"
        "Tests:       z (normal distribution)\n"
        "\n"
        "Coefficients:\n"
        "           estimate  std. error       z  p-value     2.5 %    97.5 %  odds ratio  2.5 %  97.5 %\n"
        "intercept  -1.88000     0.11400  -16.49   <2e-16  -2.10344  -1.65656       0.153  0.122   0.191\n"
        "age        -0.11340     0.04390   -2.58   0.0098  -0.19944  -0.02736       0.893  0.819   0.973\n"
        "smoke       0.26510     0.17800    1.49   0.1364  -0.08377   0.61397       1.304  0.920   1.848\n"
        "\n"
        "Fit:\n"
        "    QIC     QICu   CIC\n"
        "1831.75  1829.60  4.08\n"
        "\n"
        "Converged after 4 iterations.\n"
        "Coefficients and probabilities are population-averaged: over all clusters, not within one."
    )


def test_frames_of_the_marginal_model():
    names, coef, vcov = marginal()._fixed_effects()
    for df in (None, 12):
        summary = summary_of_gee(marginal(df=df), level=0.8)
        pd.testing.assert_frame_equal(summary.coefficients, wald_table(names, coef, vcov, 0.8, df=df))
        assert summary.statistics.to_dict() == {"QIC": 1831.7541, "QICu": 1829.6, "CIC": 4.08}
    assert summary.variance_components is None


def test_few_clusters_are_tested_by_t():
    summary = summary_of_gee(marginal(df=43))
    assert dict(summary.facts)["Tests"] == "t with 43 degrees of freedom (fewer than 50 clusters)"
    head = str(summary).split("Coefficients:\n")[1].split("\n")[0].split()
    assert head[:4] == ["estimate", "std.", "error", "t"]
    age = summary.coefficients.loc["age"]
    assert (age["upper"] - age["estimate"]) / age["std_error"] == pytest.approx(2.016692199, rel=1e-9)  # t(43), 97.5 %
    assert facts_of(marginal(df=1))["Tests"].startswith("t with 1 degree of freedom (")


@pytest.mark.parametrize("df", [0, -2])
def test_fewer_clusters_than_coefficients_leave_no_tests(df):
    summary = summary_of_gee(marginal(df=df))
    assert dict(summary.facts)["Tests"] == f"none: {df} degrees of freedom, clusters less coefficients"
    row = next(line for line in str(summary).split("\n") if line.startswith("age")).split()
    assert row == ["age", "-0.11340", "0.04390", "-2.58", "-", "-", "-", "0.893", "-", "-"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"n_groups_": {"ward": 60}, "cluster_sizes_": (2, 1180)}, "60 of ward, 2 to 1,180 rows each"),
        ({"cluster_sizes_": (1, 1)}, "537 of child, 1 row each"),
        ({"n_groups_": {}, "cluster_sizes_": (1, 1)}, "none given: every row is its own"),
    ],
)
def test_clusters(changes, words):
    assert facts_of(marginal(**changes))["Clusters"] == words


@pytest.mark.parametrize("cov_type", COV_TYPES)
def test_every_covariance_has_words(cov_type):
    assert facts_of(marginal(cov_type))["Covariance"] == COVARIANCES[cov_type]
    assert len(set(COVARIANCES.values())) == len(COV_TYPES)


def test_dispersion_estimated_or_fixed():
    model = marginal(dispersion_=1.0, _dispersion_is_fixed=True, dispersion="estimate")
    assert facts_of(model)["Dispersion"] == "1.0000, fixed"


@pytest.mark.parametrize(
    "name, alpha, times, words",
    [
        ("independence", [], None, "independence"),
        ("AR(1)", [0.4979], [-2, -1, 0, 1], "AR(1), 0.498 at a distance of 1 in time"),
        ("m-dependent", [0.37, 0.25], None, "m-dependent, 0.370 at lag 1, 0.250 at lag 2"),
        ("m-dependent", np.linspace(0.9, 0.1, 9), None, "m-dependent, 9 correlations from 0.100 to 0.900"),
        ("unstructured", [0.1], [0, 1], "unstructured, correlation 0.100"),
        ("unstructured", [0.1, 0.3, 0.2], [0, 1, 2], "unstructured, 3 correlations from 0.100 to 0.300"),
        ("fixed", [], [0, 1], "fixed"),
        ("Toeplitz", [0.25], None, "Toeplitz, parameter 0.250"),
        ("Toeplitz", [0.3, 0.1], None, "Toeplitz, 2 parameters from 0.100 to 0.300"),
    ],
)
def test_working_correlation_in_words(name, alpha, times, words):
    model = marginal(correlation_name_=name, correlation_params_=np.array(alpha), correlation_times_=times)
    assert facts_of(model)["Correlation"] == words


def with_matrix(name, n, times=None):
    R = 0.6 ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    alpha = R[np.triu_indices(n, 1)]
    return marginal(correlation_name_=name, correlation_params_=alpha, correlation_times_=times, working_correlation_=R)


def test_matrix_of_the_working_correlation():
    table = str(summary_of_gee(with_matrix("unstructured", 3, times=np.array([7.0, 8.0, 10.5])))).split("\n\n")[3]
    assert table == (
        "Working correlation:\n"
        "time      7      8   10.5\n"
        "7     1.000  0.600  0.360\n"
        "8     0.600  1.000  0.600\n"
        "10.5  0.360  0.600  1.000"
    )
    table = str(summary_of_gee(with_matrix("fixed", 2))).split("\n\n")[3]
    assert table == "Working correlation:\nrow      1      2\n1    1.000  0.600\n2    0.600  1.000"


@pytest.mark.parametrize(
    "name, n, shown",
    [
        ("unstructured", 8, True),
        ("unstructured", 9, False),
        ("unstructured", 1, False),
        ("m-dependent", 4, True),
        ("Toeplitz", 4, True),
        ("exchangeable", 4, False),
        ("AR(1)", 4, False),
        ("independence", 4, False),
    ],
)
def test_matrices_that_are_shown(name, n, shown):
    assert ("Working correlation:" in str(summary_of_gee(with_matrix(name, n)))) == shown


def test_notes_of_the_marginal_model():
    vcov = np.diag([0.114, np.nan, 0.178]) ** 2
    vcov[1], vcov[:, 1] = np.nan, np.nan
    model = marginal(
        vcov=vcov,
        coef=(-1.88, 0.0, 0.2651),
        converged_=False,
        fit_report_=SimpleNamespace(verdict="stopped after 100 iterations"),
        _separated=["smoke"],
        _trouble="is out of range: 0.98 was put at 0.9",
    )
    notes = summary_of_gee(model).notes
    assert notes[0] == "NOT CONVERGED: stopped after 100 iterations."
    assert notes[1].startswith("The classes are separated by smoke:")
    assert notes[2] == "No standard error, not identified by the data: age."
    assert notes[3] == "The working correlation is out of range: 0.98 was put at 0.9."
    assert "population-averaged" in notes[4] and len(notes) == 5


def test_markups_of_the_marginal_model():
    summary = summary_of_gee(with_matrix("unstructured", 3))
    latex, markdown, page = summary.to_latex(), summary.to_markdown(), summary._repr_html_()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    assert r"Working correlation \\" in latex and "1 & 1.000 & 0.600 & 0.360" in latex
    assert "| row | 1 | 2 | 3 |" in markdown and "| 3 | 0.360 | 0.600 | 1.000 |" in markdown
    assert page.count("<table ") == page.count("</table>") == 3 and ">Working correlation</caption>" in page
    for text in (latex, markdown, page):
        assert "Coefficients" in text and "Fixed effects" not in text and "1831.75" in text


def test_level_of_the_marginal_model_is_checked():
    with pytest.raises(ValueError, match="level"):
        summary_of_gee(marginal(), level=95)


@pytest.mark.parametrize(
    "every, clusters, tests", [(1, 537, "z (normal distribution)"), (15, 36, "t with 33 degrees of freedom")]
)
def test_summary_of_a_fitted_marginal_model(every, clusters, tests):
    X, y, child = load_ohio(return_X_y=True, as_frame=True)
    kept = np.asarray(child) % every == 0
    model = GEELogisticRegression("unstructured", cov_type="mancl-derouen", dispersion=1.0)
    model.fit(X[kept], y[kept], groups=child[kept], time=X["age"][kept])
    summary = model.summary(level=0.9)
    facts = dict(summary.facts)
    assert facts["Clusters"] == f"{clusters} of id, 4 rows each"
    assert facts["Dispersion"] == "1.0000, fixed" and facts["Covariance"].startswith("Mancl-DeRouen")
    assert facts["Correlation"].startswith("unstructured, 6 correlations from ") and facts["Tests"].startswith(tests)
    np.testing.assert_array_equal(summary.coefficients[["lower", "upper"]], model.conf_int(0.9))
    np.testing.assert_array_equal(
        summary.coefficients[["odds_ratio", "odds_ratio_lower", "odds_ratio_upper"]], model.odds_ratios(0.9)
    )
    for name in ("age", "smoke"):
        assert summary.coefficients.loc[name, "p_value"] == pytest.approx(model.wald_test(name).p_value, rel=1e-9)
    assert "time     -2     -1      0      1\n" in str(summary)
    assert summary.statistics.tolist() == [model.qic_, model.qicu_, model.cic_]
    # what was fitted is named, and not what was set since
    before = str(model.summary())
    assert str(model.set_params(correlation="ar1", dispersion="estimate", cov_type="naive").summary()) == before
