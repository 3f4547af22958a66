"""Leaving groups out of linear models, influence, residuals and normality, against refits and dense algebra."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import (
    GEELinearRegression,
    MixedLinearRegression,
    approximate_leave_group_out,
    cluster_influence,
    quantile_residuals,
    random_effects_normality,
)
from sklmm.datasets import load_penicillin, load_sleepstudy, make_clustered_regression
from sklmm.diagnostics.normality import simulated_effects, standardised_effects
from sklmm.exceptions import AliasedFeaturesWarning


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


def test_influence_that_the_fit_keeps_is_that_of_the_rows_to_first_order():
    X, y, groups = make_clustered_regression(300, 2, n_groups=20, random_state=0)
    model = MixedLinearRegression().fit(X, y, groups=groups)
    kept, exact = cluster_influence(model), cluster_influence(model, X, y, groups)
    error = kept.iloc[:, 2:].to_numpy() - exact.iloc[:, 2:].to_numpy()
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(exact.iloc[:, 2:])
    assert stats.spearmanr(kept["cooks_distance"], exact["cooks_distance"]).statistic > 0.97


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
    missing["w"] = missing["w"].where(missing.index != 70)
    model = MixedLinearRegression.from_formula(formula, missing, missing="drop", precision_weight="w")
    found = approximate_leave_group_out(model, missing)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found.expected)), [3, 50, 70])
    assert quantile_residuals(model, missing).size == len(missing) - 3
    assert np.isnan(model.predict(missing)).sum() == 2  # means are known without precisions, errors are not
    assert np.isnan(model.predict(missing, return_std=True)[1]).sum() == 3
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


# Residuals ---------------------------------------------------------------------------------------------------


def written_out(model, X, groups, precision=1.0):
    """Covariance of the outcomes of a model of one factor with a random intercept and a slope of the first column."""
    Z = np.column_stack([np.ones(len(X)), X[:, 0]])
    (G,) = model.covariance_.values()
    same = groups[:, None] == groups
    return same * (Z @ G.to_numpy() @ Z.T) + np.diag(model.sigma_**2 / (precision * np.ones(len(X))))


def test_residuals_of_rows_and_of_sums(data):
    """Of the normal density with its covariance written out."""
    X, y, groups = data
    w, offset = np.random.default_rng(1).uniform(0.5, 3.0, len(y)), X[:, 1] ** 2
    by_row = {"offset": offset, "precision_weight": w}
    model = MixedLinearRegression("1 + x0 | group").fit(X, y, groups=groups, **by_row)
    V, r = written_out(model, X, groups, w), y - model.intercept_ - X @ model.coef_ - offset
    found = quantile_residuals(model, X, y, groups, **by_row)
    np.testing.assert_allclose(stats.norm.ppf(found), r / np.sqrt(np.diag(V)), rtol=1e-8)
    for by, labels in (("group", groups), (np.arange(len(y)) % 5, np.arange(len(y)) % 5)):
        sums = quantile_residuals(model, X, y, groups, by=by, **by_row)
        for label in np.unique(labels):
            own = (labels == label).astype(float)
            assert stats.norm.ppf(sums[label]) == pytest.approx(own @ r / np.sqrt(own @ V @ own), rel=1e-7)
    conditional = model.residuals(X, y, groups, **by_row)
    left = y - model.predict(X, groups, offset=offset)
    np.testing.assert_allclose(conditional, left * np.sqrt(w) / model.sigma_, rtol=1e-8)
    E, R = np.column_stack([np.ones(len(y)), X]), model.sigma_**2 / w
    P = np.linalg.inv(V)
    P -= P @ E @ np.linalg.solve(E.T @ P @ E, E.T @ P)
    np.testing.assert_allclose(left, R * (P @ (y - offset)), rtol=1e-7, atol=1e-9)  # of which R P R is the covariance
    studentised = left / np.sqrt(R * np.diag(P) * R)
    found = quantile_residuals(model, X, y, groups, predict_effects="posterior", **by_row)
    np.testing.assert_allclose(stats.norm.ppf(found), studentised, rtol=1e-7)
    marginal = model.residuals(X, y, groups, kind="marginal", standardise="studentised", **by_row)
    covariance = V - E @ np.linalg.solve(E.T @ np.linalg.solve(V, E), E.T)
    np.testing.assert_allclose(marginal, r / np.sqrt(np.diag(covariance)), rtol=1e-7)
    with pytest.raises(ValueError, match="standardise must be"):
        model.residuals(X, y, groups, standardise="student", **by_row)
    with pytest.raises(ValueError, match="standardise=True needs those of these rows"):
        quantile_residuals(model, X, y, groups, offset=offset)
    with pytest.raises(ValueError, match="must be 'marginal' for residuals of sums"):
        quantile_residuals(model, X, y, groups, by="group", predict_effects="posterior", **by_row)


def test_studentised_residuals_of_few_rows_a_group():
    """Of right models with groups of three they have variance 1; in units of sigma alone it is less."""
    random, groups, found = np.random.default_rng(0), np.repeat(np.arange(60), 3), []
    for _ in range(20):
        y = 2.0 * random.normal(size=60)[groups] + random.normal(size=180)
        model = MixedLinearRegression().fit(np.empty((180, 0)), y, groups=groups)
        rows = np.empty((180, 0)), y, groups
        found.append([np.var(model.residuals(*rows, standardise=how)) for how in ("studentised", True)])
    studentised, plain = np.mean(found, axis=0)
    assert 0.97 < studentised < 1.03 and plain < 0.75
    own = np.column_stack([np.arange(180) == 7])  # a row with a coefficient of its own
    model = MixedLinearRegression().fit(own, y, groups=groups)
    assert np.flatnonzero(np.isnan(model.residuals(own, y, groups, standardise="studentised"))) == [7]


def test_sums_over_crossed_factors():
    random, n = np.random.default_rng(2), 200
    a, b = random.integers(0, 12, n), random.integers(0, 9, n)
    X = random.normal(size=(n, 1))
    y = X[:, 0] + random.normal(size=12)[a] + random.normal(size=9)[b] + random.normal(size=n)
    groups = pd.DataFrame({"a": a, "b": b})
    model = MixedLinearRegression().fit(X, y, groups=groups)
    V = sum(model.covariance_[name].iloc[0, 0] * (code[:, None] == code) for name, code in (("a", a), ("b", b)))
    V = V + model.sigma_**2 * np.eye(n)
    r = y - model.intercept_ - X @ model.coef_
    found = quantile_residuals(model, X, y, groups, by="b")
    for label in range(9):
        own = (b == label).astype(float)
        assert stats.norm.ppf(found[label]) == pytest.approx(own @ r / np.sqrt(own @ V @ own), rel=1e-7)
    missing = groups.astype(object)
    missing.loc[:4, "a"] = None  # rows of groups of their own
    found = quantile_residuals(model, X, y, missing, by="b")
    other = np.where(np.arange(n) < 5, 100 + np.arange(n), a)
    V += model.covariance_["a"].iloc[0, 0] * ((other[:, None] == other) * 1.0 - (a[:, None] == a))
    own = (b == b[0]).astype(float)
    assert stats.norm.ppf(found[b[0]]) == pytest.approx(own @ r / np.sqrt(own @ V @ own), rel=1e-7)


def test_outcomes_are_found_in_the_frame(sleep):
    mixed = MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", sleep)
    marginal = GEELinearRegression.from_formula("Reaction ~ Days", sleep, groups="Subject")
    for model in (mixed, marginal):
        pd.testing.assert_series_equal(
            quantile_residuals(model, sleep), quantile_residuals(model, sleep, sleep["Reaction"])
        )
    with pytest.raises(ValueError, match="leave out by, or fit a MixedLinearRegression"):
        quantile_residuals(marginal, sleep, by="Subject")


# Normality of random effects ---------------------------------------------------------------------------------


def test_standardised_modes_of_balanced_groups_have_mean_0_and_variance_1():
    """Exactly so, by REML; by maximum likelihood with their number as the divisor."""
    groups = np.repeat(np.arange(20), 10)
    y = np.random.default_rng(0).normal(size=20)[groups] + np.random.default_rng(1).normal(size=200)
    for method, ddof in (("reml", 1), ("ml", 0)):
        model = MixedLinearRegression(method=method).fit(np.empty((200, 0)), y, groups=groups)
        modes, sd = (table["group"]["intercept"].to_numpy() for table in
                     (model.random_effects_, model.random_effects_sd_))  # fmt: skip
        z = standardised_effects(modes, sd, np.sqrt(model.covariance_["group"].iloc[0, 0]))
        assert z.mean() == pytest.approx(0, abs=1e-6) and z.std(ddof=ddof) == pytest.approx(1, rel=1e-6)
        for draw in simulated_effects(model, "a test", (None,) * 5, 3, 0):
            values = draw["group", "intercept"]
            assert values.size == 20 and values.mean() == pytest.approx(0, abs=1e-12)
            assert values.std(ddof=ddof) == pytest.approx(1, rel=1e-12)


@pytest.mark.many_fits
@pytest.mark.parametrize("with_rows", [False, True])
def test_normality_is_rejected_as_often_as_it_should_be(with_rows):
    """Of normal effects in 1 of 20 data sets; nearly always of skewed ones."""
    groups, rejected = np.repeat(np.arange(60), 5), {"normal": 0, "skewed": 0}
    for seed in range(12):
        random = np.random.default_rng(seed)
        X, e = random.normal(size=(300, 1)), 0.3 * random.normal(size=300)
        for name, effects in {"normal": random.normal(size=60), "skewed": random.exponential(size=60)}.items():
            model = MixedLinearRegression().fit(X, X[:, 0] + effects[groups] + e, groups=groups)
            rows = (X, X[:, 0] + effects[groups] + e, groups) if with_rows else ()
            table = random_effects_normality(model, *rows, n_simulations=19)
            rejected[name] += table.loc[("group", "intercept"), "p_value"] < 0.05
    assert rejected["normal"] <= 2 and rejected["skewed"] >= 11


def test_p_values_without_rows_are_shapiros(sleep):
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", sleep)
    table = random_effects_normality(model, n_simulations=999)
    for name in ("intercept", "Days"):
        modes, sd = (values["Subject"][name].to_numpy() for values in (model.random_effects_, model.random_effects_sd_))
        z = standardised_effects(modes, sd, np.sqrt(model.covariance_["Subject"].loc[name, name]))
        assert table.loc[("Subject", name), "p_value"] == pytest.approx(stats.shapiro(z).pvalue, abs=0.06)


def test_normality_of_several_factors_takes_the_rows():
    data = load_penicillin(as_frame=True).frame
    model = MixedLinearRegression.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    with pytest.raises(ValueError, match="needs the rows of the fit.*pass X=data"):
        random_effects_normality(model)
    table = random_effects_normality(model, data, n_simulations=19)
    assert table.loc[("plate", "intercept"), "p_value"] > 0.05
    assert np.isnan(table.loc[("sample", "intercept"), "p_value"])  # of six levels nothing is said
    with pytest.raises(TypeError, match="has no random effects"):
        random_effects_normality(GEELinearRegression.from_formula("diameter ~ 1", data, groups="plate"))


# What else is known of a fit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("df", ["satterthwaite", "residual", None])
def test_typical_groups_have_the_degrees_of_freedom_of_coefficients(sleep, df):
    """Intervals of predictions and average effects, where they are those of coefficients."""
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", sleep, df=df)
    expected = model.conf_int()
    at_zero = model.predict_interval(sleep.head(1).assign(Days=0.0), predict_effects="zero")
    np.testing.assert_allclose(at_zero[0], expected.loc["intercept"], rtol=1e-8)
    effects = model.average_marginal_effects(sleep)
    np.testing.assert_allclose(effects.loc["Days", ["lower", "upper"]].astype(float), expected.loc["Days"], rtol=1e-7)
    p_value = model.summary().coefficients.loc["Days", "p_value"]
    assert effects.loc["Days", "p_value"] == pytest.approx(p_value, rel=1e-6)


def test_average_effects_of_products(sleep):
    """A combination of coefficients, with the degrees of freedom of its test."""
    frame = sleep.assign(late=(sleep.index % 3 == 0).astype(float))
    model = MixedLinearRegression.from_formula("Reaction ~ Days * late + (1 | Subject)", frame)
    effects, share = model.average_marginal_effects(frame), frame["late"].mean()
    test = model.wald_test(np.array([[0.0, 1.0, 0.0, share]]))
    assert effects.loc["Days", "estimate"] == pytest.approx(np.ravel(test.estimates)[0], rel=1e-6)
    assert effects.loc["Days", "p_value"] == pytest.approx(test.p_value, rel=1e-5)


def test_there_is_no_median_odds_ratio(sleep):
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", sleep)
    assert model.icc_ == pytest.approx(
        model.covariance_["Subject"].iloc[0, 0] / (model.covariance_["Subject"].iloc[0, 0] + model.sigma_**2), rel=1e-9
    )
    with pytest.raises(ValueError, match="see icc"):
        model.variance_partition_.median_odds_ratio  # noqa: B018


def test_aliased_columns_leave_other_coefficients_their_degrees_of_freedom(data):
    X, y, groups = data
    wide = np.column_stack([X, 2.0 * X[:, 0]])
    with pytest.warns(AliasedFeaturesWarning):
        model = MixedLinearRegression().fit(wide, y, groups=groups)
    other = MixedLinearRegression().fit(X, y, groups=groups)
    np.testing.assert_allclose(model.conf_int().iloc[:3], other.conf_int(), rtol=1e-8)
    assert model.conf_int().iloc[3].isna().all()
    columns = ["df", "p_value"]
    np.testing.assert_allclose(
        model.summary().coefficients[columns].iloc[:3], other.summary().coefficients[columns], rtol=1e-7
    )


def test_precision_weights_reach_profiles_and_bootstraps(data):
    X, y, groups = data
    w = np.random.default_rng(2).uniform(0.5, 3.0, len(y))
    passed = MixedLinearRegression().fit(X, y, groups=groups, precision_weight=w)
    named = MixedLinearRegression(precision_weight_feature=2).fit(np.column_stack([X, w]), y, groups=groups)
    rows, weighted = dict(X=X, y=y, groups=groups), dict(X=np.column_stack([X, w]), y=y, groups=groups)
    for options in ({"method": "profile", "parameters": ["x0", "sigma"]},
                    {"method": "bootstrap", "n_resamples": 4, "random_state": 0}):  # fmt: skip
        one = passed.conf_int(**options, **rows, precision_weight=w)
        np.testing.assert_allclose(one, named.conf_int(**options, **weighted), rtol=1e-7)
        with pytest.raises(ValueError, match="pass precision_weight=precision_weight"):
            passed.conf_int(**options, **rows)
    new = X[:5], groups[:5]
    for found, expected in zip(passed.predict(*new, return_std=True, precision_weight=w[:5]),
                               named.predict(weighted["X"][:5], groups[:5], return_std=True), strict=True):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    one, other = passed.update_groups(X[:9], y[:9], np.full(9, 99), precision_weight=w[:9]), named.update_groups(
        weighted["X"][:9], y[:9], np.full(9, 99)
    )
    np.testing.assert_allclose(one.random_effects_["group"].loc[99], other.random_effects_["group"].loc[99], rtol=1e-9)
    with pytest.raises(ValueError, match="update_groups needs those of these rows"):
        passed.update_groups(X[:9], y[:9], np.full(9, 99))
    draws = passed.simulate(X[:3], groups[:3], n=4000, random_state=0, precision_weight=[1e8, 1.0, 0.25])
    spread = draws.std(axis=0) ** 2 - passed.covariance_["group"].iloc[0, 0]
    np.testing.assert_allclose(spread / passed.sigma_**2, [0.0, 1.0, 4.0], atol=0.35)


def test_odd_fits_are_told_of(data):
    X, y, groups = data
    exact = MixedLinearRegression().fit(X, 2.0 * X[:, 0] + 1.0, groups=groups)
    with pytest.raises(ValueError, match="the fit left no residuals"):
        approximate_leave_group_out(exact, X, 2.0 * X[:, 0] + 1.0, groups)
    one = MixedLinearRegression().fit(X, y, groups=np.zeros(len(y)))
    for ask in (approximate_leave_group_out, cluster_influence):
        with pytest.raises(ValueError, match="there is one group only"):
            ask(one, X, y, np.zeros(len(y)))
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    weighted = MixedLinearRegression().fit(X, y, groups=groups, sample_weight=weights)
    assert random_effects_normality(weighted, n_simulations=19)["p_value"].between(0, 1).all()
    with pytest.raises(ValueError, match="no whole numbers"):
        random_effects_normality(weighted, X, y, groups, sample_weight=weights)
    two = MixedLinearRegression().fit(X, y, groups=groups % 2)  # what one group of half of the rows says
    assert np.isfinite(approximate_leave_group_out(two, X, y, groups % 2).expected).all()
