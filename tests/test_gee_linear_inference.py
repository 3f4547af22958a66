"""Inference from marginal models of measured outcomes: comparisons, groups left out, influence, the bootstrap."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_gee_linear import measured

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    approximate_leave_group_out,
    cluster_influence,
    compare_models,
    quantile_residuals,
)
from sklmm.inference.same_rows import check_rows, row_signature


def _fit(problem, correlation="exchangeable", y=None, columns=(0, 1, 2), **parameters):
    X = pd.DataFrame(problem.X, columns=["a", "b", "c"]).iloc[:, list(columns)]
    y = problem.y if y is None else y
    return GEELinearRegression(correlation, **parameters).fit(X, y, groups=problem.groups), X


def test_comparison_divides_by_one_dispersion():
    """Pan (2001): quasi-likelihoods over the dispersion of the largest model, whatever the units of the outcome."""
    problem = measured(0)
    tables = []
    for unit in (1.0, 1000.0):
        models = {
            "small": _fit(problem, y=unit * problem.y, columns=(0,))[0],
            "large": _fit(problem, y=unit * problem.y)[0],
            "independent": _fit(problem, "independence", y=unit * problem.y)[0],
        }
        tables.append(compare_models(models))
    table = tables[0]
    pd.testing.assert_frame_equal(*tables, rtol=1e-9)
    phi = min(models[name].dispersion_ for name in ("large", "independent")) / unit**2
    for name, model in models.items():
        row = table.loc[name]
        assert row["quasi_likelihood"] == pytest.approx(model.quasi_likelihood_ / unit**2 / phi, rel=1e-9)
        assert row["qic"] == pytest.approx(-2 * row["quasi_likelihood"] + 2 * model.cic_, rel=1e-9)
        assert row["qicu"] == pytest.approx(-2 * row["quasi_likelihood"] + 2 * row["n_coefficients"], rel=1e-9)
    assert list(table.index)[-1] == "small"
    assert "one dispersion, that of 'independent'" in repr(table)


def test_other_outcomes_are_told():
    problem, rng = measured(1), np.random.default_rng(0)
    one, _ = _fit(problem)
    for y, message in (
        (problem.y + 0.01, "means of"),
        (rng.permutation(problem.y), "hold the same values, but beside other outcomes"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_models({"one": one, "other": _fit(problem, y=y)[0]})


def test_numbers_are_not_compared_with_classes():
    problem = measured(1)
    one, X = _fit(problem)
    other = GEELogisticRegression().fit(X, problem.y > problem.y.mean(), groups=problem.groups)
    with pytest.raises(ValueError, match="differ in their classes, none, as outcomes are numbers and"):
        compare_models({"one": one, "other": other})


@pytest.mark.parametrize("far", [0.0, 1e9])
def test_rows_are_known_again_in_any_order(far):
    problem, rng = measured(2), np.random.default_rng(1)
    y, order = problem.y + far, rng.permutation(len(problem.y))
    codes = problem.groups - problem.groups.min()

    def seen(X, y, codes):
        signature = row_signature(X, ["a", "b", "c"], True, y, None, {"g": (codes, np.arange(90))})
        return SimpleNamespace(_fitted=SimpleNamespace(row_signature=signature))

    one = seen(problem.X, y, codes)
    assert check_rows(one, seen(problem.X[order], y[order], codes[order]), "one", "other") == []
    with pytest.raises(ValueError, match="differ in their outcomes"):
        check_rows(one, seen(problem.X[order], y, codes[order]), "one", "other")


def test_leave_group_out():
    problem = measured(3)
    model, X = _fit(problem)
    found = approximate_leave_group_out(model, X, groups=problem.groups)
    assert found.probabilities is None and "expected outcomes of" in repr(found)
    beta = found.coefficients.loc[problem.groups].to_numpy()
    np.testing.assert_allclose(found.expected, beta[:, 0] + (beta[:, 1:] * problem.X).sum(axis=1), rtol=1e-12)
    assert np.mean((problem.y - found.expected) ** 2) > np.mean((problem.y - model.predict(X)) ** 2)
    label = problem.groups[0]
    rest = problem.groups != label
    without = GEELinearRegression().fit(X[rest], problem.y[rest], groups=problem.groups[rest])
    np.testing.assert_allclose(found.expected[~rest], without.predict(X[~rest]), atol=0.01)


def test_influence():
    problem = measured(4)
    model, X = _fit(problem)
    table = cluster_influence(model)
    assert (table["cooks_distance"] > 0).all()
    np.testing.assert_allclose(table[["intercept", "a", "b", "c"]], -model._fitted.influence, rtol=1e-6)
    exact, _ = _fit(problem, "independence", y=problem.X @ [1.0, 2.0, 3.0])
    assert cluster_influence(exact)["cooks_distance"].isna().all()
    assert np.isnan(exact.qic_) and not exact.vcov("naive").to_numpy().any()


def test_bootstrap_agrees_with_the_sandwich():
    problem = measured(5)
    model, X = _fit(problem)
    drawn = model.bootstrap(X, problem.y, groups=problem.groups, resampling="cluster", n_resamples=200, random_state=0)
    assert drawn.n_failed == 0
    np.testing.assert_allclose(drawn.std_errors() / np.sqrt(np.diag(model.vcov_)), 1.0, atol=0.2)


def test_residuals():
    problem = measured(6)
    model, X = _fit(problem)
    found = quantile_residuals(model, X, problem.y)
    standardised = (problem.y - model.predict(X)) / np.sqrt(model.dispersion_)
    np.testing.assert_allclose(found, stats.norm.cdf(standardised), rtol=1e-12)
    assert list(found.index) == list(X.index)
    with pytest.raises(ValueError, match="leave out by"):
        quantile_residuals(model, X, problem.y, by=problem.groups)
