"""Leaving groups out of linear models, influence, residuals and normality, against refits and dense algebra."""

import numpy as np
import pandas as pd
import pytest

from sklmm import (
    MixedLinearRegression,
    approximate_leave_group_out,
    cluster_influence,
)
from sklmm.datasets import load_sleepstudy, make_clustered_regression


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(as_frame=True).frame


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_regression(240, 2, n_groups=16, coef=[1.0, 2.0], random_state=3)
    return X, y + 0.7 * X[:, 0] * np.random.default_rng(3).normal(size=16)[groups], groups


def check_against_refits(model, X, y, groups, levels=None, rtol=1e-6, **by_row):
    """`approximate_leave_group_out` and influence of the rows, against fits that never saw each group."""
    model.fit(X, y, groups=groups, **by_row)
    found = approximate_leave_group_out(model, X, y, groups, **by_row)
    influence = cluster_influence(model, X, y, groups, **by_row)
    vcov, beta = model.vcov_.to_numpy(), np.append(model.intercept_, model.coef_)
    for level in np.unique(groups) if levels is None else levels:
        own, at = groups == level, found.coefficients.index.get_loc(level)
        other = type(model)(**model.get_params()).fit(
            X[~own], y[~own], groups=groups[~own], **{name: values[~own] for name, values in by_row.items()}
        )
        new = {name: values[own] for name, values in by_row.items() if name != "sample_weight"}
        mean, std = other.predict(X[own], groups=groups[own], return_std=True, **new)
        np.testing.assert_allclose(found.expected[own], mean, rtol=rtol, atol=1e-8)
        np.testing.assert_allclose(found.std[own], std, rtol=rtol)
        coefficients = np.append(other.intercept_, other.coef_)
        np.testing.assert_allclose(found.coefficients.iloc[at], coefficients, rtol=rtol, atol=1e-8)
        (covariance,) = other.covariance_.values()
        np.testing.assert_allclose(found.covariances[at], covariance, rtol=1e3 * rtol, atol=1e-5)
        assert found.sigma[at] == pytest.approx(other.sigma_, rel=rtol)
        change = coefficients - beta
        np.testing.assert_allclose(influence.iloc[at, 2:], change, rtol=rtol, atol=1e-8)
        assert influence["cooks_distance"].iloc[at] == pytest.approx(
            change @ np.linalg.solve(vcov, change) / beta.size, rel=1e2 * rtol
        )
    return model, found


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("random_effects", ["1 | group", "1 + x0 | group", "x0 || group", "0 + x0 | group"])
def test_fits_without_each_group(data, random_effects, method):
    model, found = check_against_refits(MixedLinearRegression(random_effects, method=method), *data)
    assert found.probabilities is None and "expected outcomes of 240 rows" in repr(found)
    X, y, groups = data
    assert np.mean((y - found.expected) ** 2) > np.mean((y - model.predict(X, groups=groups)) ** 2)


def test_what_comes_by_row(data):
    random, n = np.random.default_rng(0), len(data[1])
    by_row = {
        "offset": random.normal(size=n), "precision_weight": random.uniform(50.0, 4000.0, n),
        "sample_weight": random.integers(0, 3, n).astype(float),
    }  # fmt: skip
    model, _ = check_against_refits(MixedLinearRegression("1 + x0 | group"), *data, **by_row)
    with pytest.raises(ValueError, match="pass precision_weight=precision_weight"):
        approximate_leave_group_out(model, *data, by_row["sample_weight"], offset=by_row["offset"])
    typical = MixedLinearRegression("1 | group", predict_effects="zero")
    check_against_refits(typical, *data, **by_row)


def test_groups_of_all_sizes(data):
    """Half of the rows in one group, and groups of one row."""
    X, y, groups = data
    groups = np.where(np.arange(240) < 120, 0, groups)
    groups[-5:] = np.arange(100, 105)
    check_against_refits(MixedLinearRegression(), X, y, groups)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_a_variance_of_zero_may_rise_without_a_group():
    random, groups = np.random.default_rng(1), np.repeat(np.arange(12), 10)
    X, e = random.normal(size=(120, 1)), random.normal(size=120)
    within = e - (np.bincount(groups, e) / 10)[groups]
    model = MixedLinearRegression()
    check_against_refits(model, X, X[:, 0] + within, groups)
    assert model.is_singular_
    single = within + 1.2 * np.where(groups == 3, np.sign(np.arange(120) % 2 - 0.5), 0.0)  # hides what others show
    check_against_refits(model, X, X[:, 0] + single + 0.3 * random.normal(size=12)[groups], groups)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.UnidentifiedEffectsWarning")
def test_one_row_a_group():
    X, y, _ = make_clustered_regression(40, 2, random_state=0)
    check_against_refits(MixedLinearRegression(), X, y, np.arange(40))


def test_a_category_of_one_group_alone(data):
    """Without the group the column is constant: its coefficient is 0 then, as of a fit that leaves the column out."""
    X, y, groups = data
    wide = np.column_stack([X, groups == 7])
    _, found = check_against_refits(MixedLinearRegression(), wide, y, groups, levels=[0, 3, 11])
    own = groups == 7
    other = MixedLinearRegression().fit(X[~own], y[~own], groups=groups[~own])
    np.testing.assert_allclose(found.expected[own], other.predict(X[own], groups=groups[own]), rtol=1e-3)
    assert np.isinf(found.std[own]).all() and np.isfinite(found.std[~own]).all()


def test_many_groups_take_one_step():
    X, y, groups = make_clustered_regression(2000, 2, n_groups=400, random_state=5)
    model = MixedLinearRegression().fit(X, y, groups=groups)
    found = approximate_leave_group_out(model, X, y, groups)
    for level in (0, 17, 211):
        own = groups == level
        other = MixedLinearRegression().fit(X[~own], y[~own], groups=groups[~own])
        for one, exact, typical in zip(
            (found.expected, found.std), other.predict(X[own], groups=groups[own], return_std=True),
            model.predict(X[own], return_std=True, groups=np.full(own.sum(), -1)), strict=True,
        ):  # fmt: skip
            assert np.abs(one[own] - exact).max() < 0.03 * np.abs(typical - exact).max() + 1e-5


def test_doors(sleep):
    formula = "Reaction ~ Days + (1 + Days | Subject)"
    weighted = sleep.assign(w=np.random.default_rng(0).uniform(0.5, 3.0, len(sleep)))
    model = MixedLinearRegression.from_formula(formula, weighted, precision_weight="w")
    found = approximate_leave_group_out(model, weighted)
    column = MixedLinearRegression("1 + Days | Subject", group_features="Subject", precision_weight_feature="w")
    X, y = weighted[["Days", "Subject", "w"]], weighted["Reaction"]
    other = approximate_leave_group_out(column.fit(X, y), X, y)
    for name in ("expected", "std", "sigma"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=1e-7)
    with pytest.raises(ValueError, match="these are not the rows of the fit"):
        approximate_leave_group_out(model, weighted.assign(w=1.0))
    missing = weighted.copy()
    missing.loc[[3, 50], "Days"] = np.nan
    model = MixedLinearRegression.from_formula(formula, missing, missing="drop")
    found = approximate_leave_group_out(model, missing)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found.expected)), [3, 50])
    np.testing.assert_array_equal(np.isnan(model.predict(missing)), np.isnan(found.expected))
    for part in model.predict(missing, return_std=True):
        np.testing.assert_array_equal(np.isnan(part), np.isnan(found.std))


def test_far_from_zero(sleep):
    moved = sleep.assign(Reaction=sleep["Reaction"] + 1e6, Days=1.6e9 + 86400.0 * sleep["Days"])
    near, far = (
        approximate_leave_group_out(
            MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", data), data
        )
        for data in (sleep, moved)
    )
    np.testing.assert_allclose(far.expected - 1e6, near.expected, rtol=1e-6)
    np.testing.assert_allclose(far.std, near.std, rtol=1e-6)


def test_what_leaving_out_refuses(data, sleep):
    X, y, groups = data
    crossed = MixedLinearRegression().fit(X, y, groups=pd.DataFrame({"a": groups, "b": np.arange(240) % 7}))
    for ask in (approximate_leave_group_out, cluster_influence):
        with pytest.raises(ValueError, match="several grouping factors"):
            ask(crossed, X, y, groups)
    model = MixedLinearRegression().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="these are not the rows of the fit"):
        approximate_leave_group_out(model, X, y[::-1], groups)
    formula, frame = "Reaction ~ Days + (1 | Subject)", sleep.assign(w=1.0)
    by_column = MixedLinearRegression.from_formula(formula, frame, precision_weight="w")
    with pytest.raises(ValueError, match="leave out precision_weight"):
        by_column.predict(frame, precision_weight=frame["w"])
