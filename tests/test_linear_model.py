"""The linear mixed model as its users see it: predictions with their errors, tests, intervals, updates."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import (
    MixedLinearRegression,
    cluster_influence,
    compare_models,
    likelihood_ratio_test,
    quantile_residuals,
)
from sklmm.datasets import load_penicillin, load_sleepstudy, make_clustered_regression
from sklmm.exceptions import SingularFitWarning, UnidentifiedEffectsWarning


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(as_frame=True).frame


@pytest.fixture(scope="module")
def model(sleep):
    return MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", sleep)


def _henderson(X, Z, y, G, R):
    """Estimates of (b, u) and the covariance of their errors: the mixed model equations."""
    W = np.column_stack([X, Z])
    C = (W.T / R) @ W
    C[X.shape[1] :, X.shape[1] :] += np.linalg.inv(G)
    C = np.linalg.inv(C)
    return C @ ((W.T / R) @ y), C


def _designs(frame):
    X = np.column_stack([np.ones(len(frame)), frame["Days"]])
    dummies = pd.get_dummies(frame["Subject"], dtype=float).to_numpy()
    return X, np.concatenate([dummies * column[:, None] for column in X.T], axis=1)


def _joint_covariance(model, n_levels):
    return np.kron(model.covariance_["Subject"].to_numpy(), np.eye(n_levels))


def test_predictions_and_their_errors_of_the_mixed_model_equations(sleep, model):
    X, Z = _designs(sleep)
    estimate, C = _henderson(X, Z, sleep["Reaction"], _joint_covariance(model, 18), np.full(len(X), model.sigma_**2))
    W = np.column_stack([X, Z])
    np.testing.assert_allclose(model.predict(sleep), W @ estimate, rtol=1e-9)
    variance = np.einsum("ij,jk,ik->i", W, C, W)
    mean, std = model.predict(sleep, return_std=True)
    np.testing.assert_allclose(std, np.sqrt(variance + model.sigma_**2), rtol=1e-8)
    normal = model._with_df(None)
    interval = normal.predict_interval(sleep, level=0.9)
    reach = stats.norm.ppf(0.95) * np.sqrt(variance)
    np.testing.assert_allclose(interval, np.column_stack([mean - reach, mean + reach]), rtol=1e-7)


def test_unknown_groups_add_their_variance(sleep, model):
    new = sleep.head(4).assign(Subject=9999)
    X, _ = _designs(new)
    G, V = model.covariance_["Subject"].to_numpy(), model.vcov_.to_numpy()
    variance = np.einsum("ij,jk,ik->i", X, G + V, X)
    np.testing.assert_allclose(model.predict(new), X @ [model.intercept_, *model.coef_], rtol=1e-10)
    _, std = model.predict(new, return_std=True)
    np.testing.assert_allclose(std, np.sqrt(variance + model.sigma_**2), rtol=1e-8)
    np.testing.assert_allclose(model.predict(sleep, predict_effects="zero")[:4], model.predict(new), rtol=1e-12)


def test_several_factors_have_a_joint_error():
    data = load_penicillin(as_frame=True).frame
    model = MixedLinearRegression.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", data, df=None)
    Z = [pd.get_dummies(data[name], dtype=float).to_numpy() for name in ("plate", "sample")]
    variances = [model.covariance_[name].iloc[0, 0] for name in ("plate", "sample")]
    G = np.diag(np.repeat(variances, [z.shape[1] for z in Z]))
    X = np.ones((len(data), 1))
    estimate, C = _henderson(X, np.column_stack(Z), data["diameter"], G, np.full(len(X), model.sigma_**2))
    W = np.column_stack([X, *Z])
    np.testing.assert_allclose(model.predict(data), W @ estimate, rtol=1e-9)
    _, std = model.predict(data, return_std=True)
    np.testing.assert_allclose(std**2, np.einsum("ij,jk,ik->i", W, C, W) + model.sigma_**2, rtol=1e-7)


def test_groups_in_two_halves_are_groups_at_once(sleep, model):
    """The first half of a new group's rows, then the second, give what both give."""
    rows = sleep[sleep["Subject"] == 308].assign(Subject=5000)
    at_once = model.update_groups(rows, rows["Reaction"])
    first = model.update_groups(rows.head(5), rows["Reaction"].head(5))
    both = first.update_groups(rows.tail(5), rows["Reaction"].tail(5), keep=True)
    asked = rows.assign(Days=np.linspace(0, 12, 10))
    np.testing.assert_allclose(both.predict(asked), at_once.predict(asked), rtol=1e-9)
    _, std = both.predict(asked, return_std=True)
    np.testing.assert_allclose(std, at_once.predict(asked, return_std=True)[1], rtol=1e-8)


def test_tests_and_degrees_of_freedom(sleep, model):
    table = model.summary().coefficients
    np.testing.assert_allclose(table["df"], 17.0, rtol=1e-6)  # lmerTest's, of balanced data
    test = model.wald_test("Days")
    assert test.df_resid == pytest.approx(17.0) and test.statistic == pytest.approx(table.loc["Days", "t"] ** 2)
    assert test.p_value == pytest.approx(table.loc["Days", "p_value"], rel=1e-8)
    assert model.wald_test("Days", df=None).distribution == "chi-squared"
    assert "df" not in model.summary(df=None).coefficients
    residual = model.conf_int(df="residual").loc["Days"]
    reach = stats.t.ppf(0.975, 178) * np.sqrt(model.vcov_.loc["Days", "Days"])
    np.testing.assert_allclose(residual, model.coef_[0] + np.array([-reach, reach]), rtol=1e-10)
    with pytest.raises(ValueError, match="fit with df='kenward-roger', method='reml'"):
        model.conf_int(df="kenward-roger")
    adjusted = MixedLinearRegression.from_formula(
        "Reaction ~ Days + (1 + Days | Subject)", sleep, df="kenward-roger"
    ).summary().coefficients  # fmt: skip
    np.testing.assert_allclose(adjusted["df"], 17.0, rtol=1e-5)  # pbkrtest's
    np.testing.assert_allclose(adjusted["std_error"], table["std_error"], rtol=1e-5)


def test_restricted_likelihoods_are_compared_with_equal_fixed_effects_only(sleep, model):
    formulas = ["Reaction ~ Days + (1 | Subject)", "Reaction ~ 1 + (1 + Days | Subject)"]
    intercepts, no_days = (MixedLinearRegression.from_formula(formula, sleep) for formula in formulas)
    test = likelihood_ratio_test(intercepts, model)
    assert test.statistic == pytest.approx(42.837, abs=2e-3)  # of REML fits, as anova(refit = FALSE) prints it
    for ask in (lambda: likelihood_ratio_test(no_days, model), lambda: compare_models({"a": no_days, "b": model})):
        with pytest.raises(ValueError, match='fit (both|all) with method="ml"'):
            ask()
    small, large = (MixedLinearRegression.from_formula(f, sleep, method="ml")
                    for f in (formulas[1], "Reaction ~ Days + (1 + Days | Subject)"))  # fmt: skip
    test = likelihood_ratio_test(small, large)
    assert (test.statistic, test.df) == (pytest.approx(23.537, abs=2e-3), 1)  # lme4's anova
    assert list(compare_models({"small": small, "large": large}).index) == ["large", "small"]


def test_profile_and_bootstrap(sleep, model):
    profile = model.conf_int(method="profile", X=sleep)
    expected = {  # confint(lmer(...)), which is of the likelihood, too
        "sd_intercept|Subject": (14.3815, 37.716), "cor_Days.intercept|Subject": (-0.4815, 0.685),
        "sd_Days|Subject": (3.8012, 8.7534), "sigma": (22.8983, 28.858),
        "intercept": (237.6807, 265.1295), "Days": (7.3587, 13.5759),
    }  # fmt: skip
    for name, ends in expected.items():
        np.testing.assert_allclose(profile.loc[name], ends, rtol=2e-4, err_msg=name)
    for resampling in ("parametric", "cluster"):
        again = model.bootstrap(sleep, n_resamples=30, random_state=0, resampling=resampling)
        assert list(again.estimates.columns) == list(profile.index)
        ratio = again.std_errors()["Days"] / np.sqrt(model.vcov_.loc["Days", "Days"])
        assert 0.6 < ratio < 1.5
    one, two = (model.bootstrap(sleep, n_resamples=4, random_state=1, n_jobs=n).estimates for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_weights(sleep):
    """Counts are rows written out; precisions divide the residual variance, as a dense likelihood has it."""
    rng = np.random.default_rng(0)
    w = rng.integers(0, 3, len(sleep))
    counted = MixedLinearRegression.from_formula("Reaction ~ Days + (1 | Subject)", sleep, sample_weight=w)
    written = MixedLinearRegression.from_formula(
        "Reaction ~ Days + (1 | Subject)", sleep.iloc[np.repeat(np.arange(len(sleep)), w)]
    )
    assert counted.log_likelihood_ == pytest.approx(written.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(counted.vcov_, written.vcov_, rtol=1e-8)
    frame = sleep.assign(p=rng.uniform(0.5, 3.0, len(sleep)))
    formula, settings = "Reaction ~ Days + (1 | Subject)", {"precision_weight": "p", "method": "ml"}
    model = MixedLinearRegression.from_formula(formula, frame, **settings)
    X, dummies = np.column_stack([np.ones(len(frame)), frame["Days"]]), pd.get_dummies(frame["Subject"], dtype=float)
    V = model.covariance_["Subject"].iloc[0, 0] * dummies @ dummies.T + np.diag(model.sigma_**2 / frame["p"])
    mean = X @ [model.intercept_, *model.coef_]
    dense = stats.multivariate_normal(mean, V).logpdf(frame["Reaction"])
    assert model.log_likelihood_ == pytest.approx(dense, rel=1e-10)
    column = MixedLinearRegression(group_features="Subject", precision_weight_feature="p", method="ml")
    column.fit(frame[["Days", "Subject", "p"]], frame["Reaction"])
    passed = MixedLinearRegression(group_features="Subject", method="ml")
    passed.fit(frame[["Days", "Subject"]], frame["Reaction"], precision_weight=frame["p"])
    for other in (column, passed):
        np.testing.assert_allclose(other.coef_, model.coef_, rtol=1e-9)
    _, std = column.predict(frame[["Days", "Subject", "p"]], return_std=True)
    assert (np.diff(std[np.argsort(frame["p"])]) < 0).mean() > 0.6  # less noise where precision is higher


def test_numbers_far_from_zero(sleep):
    moved = sleep.assign(Reaction=sleep["Reaction"] + 1e6, Days=1.6e9 + 86400.0 * sleep["Days"])
    near = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", sleep)
    far = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", moved)
    assert far.sigma_ == pytest.approx(near.sigma_, rel=1e-8)
    np.testing.assert_allclose(far.predict(moved) - 1e6, near.predict(sleep), rtol=1e-7)
    for found, expected in zip(far.predict(moved, return_std=True), near.predict(sleep, return_std=True), strict=True):
        np.testing.assert_allclose(found - 1e6 * (found > 1e5), expected, rtol=1e-6)


def test_residuals_and_influence(sleep, model):
    left = model.residuals(sleep, sleep["Reaction"], standardise=False)
    np.testing.assert_allclose(left, sleep["Reaction"] - model.predict(sleep), atol=1e-10)
    X, Z = _designs(sleep)
    V = Z @ _joint_covariance(model, 18) @ Z.T + model.sigma_**2 * np.eye(len(X))
    marginal = model.residuals(sleep, sleep["Reaction"], kind="marginal")
    mean = X @ [model.intercept_, *model.coef_]
    np.testing.assert_allclose(marginal, (sleep["Reaction"] - mean) / np.sqrt(np.diag(V)), rtol=1e-9)
    np.testing.assert_allclose(quantile_residuals(model, sleep, sleep["Reaction"]), stats.norm.cdf(marginal), rtol=1e-9)
    influence = cluster_influence(model)
    assert influence.shape == (18, 4) and np.isfinite(influence).all(axis=None)


def test_a_variance_of_zero_is_least_squares():
    rng = np.random.default_rng(3)
    X, groups = rng.normal(size=(200, 3)), np.repeat(np.arange(20), 10)
    e = rng.normal(size=200)
    y = X @ [1.0, 2.0, 3.0] + e - (np.bincount(groups, e) / 10)[groups]  # less than nothing between groups
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegression().fit(X, y, groups)
    design = np.column_stack([np.ones(200), X])
    expected, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    np.testing.assert_allclose(model.coef_, expected[1:], rtol=1e-10)
    assert model.sigma_ == pytest.approx(np.sqrt(squares[0] / 196), rel=1e-10)


def test_one_row_a_group_is_least_squares():
    X, y, _ = make_clustered_regression(100, 2, random_state=0)
    with pytest.warns(UnidentifiedEffectsWarning, match="can't be told from the residual variance"):
        model = MixedLinearRegression().fit(X, y, np.arange(100))
    expected, *_ = np.linalg.lstsq(np.column_stack([np.ones(100), X]), y, rcond=None)
    np.testing.assert_allclose(model.coef_, expected[1:], rtol=1e-9)


@pytest.mark.parametrize("known", [True, False])
def test_intervals_cover_new_observations(known):
    """Of 12 groups, where normal quantiles of unknown ones would cover less than they say."""
    inside = []
    for seed in range(60):
        X, y, groups = make_clustered_regression(240, 1, n_groups=24, coef=[1.0], random_state=seed)
        fitted = groups % 2 == 0
        fitted &= np.random.default_rng(seed).random(240) < 0.8 if known else True
        tested = (groups % 2 == 0) & ~fitted if known else ~fitted
        model = MixedLinearRegression().fit(X[fitted], y[fitted], groups[fitted])
        ends = model.predict_interval(X[tested], groups[tested], level=0.9, kind="observation")
        inside.append(np.mean((ends[:, 0] < y[tested]) & (y[tested] < ends[:, 1])))
    assert 0.87 < np.mean(inside) < 0.93


def test_what_is_refused(sleep, model):
    with pytest.raises(ValueError, match="method must be 'reml' or 'ml'"):
        MixedLinearRegression(method="REML").fit(sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(ValueError, match="df must be"):
        MixedLinearRegression(df=3).fit(sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(ValueError, match="set method='reml'"):
        MixedLinearRegression(method="ml", df="kenward-roger").fit(sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(ValueError, match="kind must be"):
        model.predict_interval(sleep, kind="new")
    with pytest.raises(ValueError, match="predict_effects must be one of"):
        model.predict(sleep, predict_effects="mode")
    with pytest.raises(ValueError, match="precision_weight must be above 0"):
        MixedLinearRegression().fit(
            sleep[["Days"]], sleep["Reaction"], sleep["Subject"], precision_weight=np.zeros(len(sleep))
        )
