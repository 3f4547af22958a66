"""Linear models through the estimators where little can be told, and where numbers are far from 0."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import GEELinearRegression, MixedLinearRegression
from sklmm.datasets import make_clustered_regression
from sklmm.exceptions import AliasedFeaturesWarning, NoGroupsWarning, SingularFitWarning, UnidentifiedEffectsWarning

N, GROUPS = 200, np.repeat(np.arange(20), 10)


def _rows(seed=0):
    random = np.random.default_rng(seed)
    X = random.normal(size=(N, 3))
    return X, X @ [1, 2, 3] + random.normal(size=20)[GROUPS] + random.normal(size=N), random


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_variance_of_zero_is_least_squares_in_all_numbers(method):
    X, _, random = _rows()
    e = random.normal(size=N)
    y = X @ [1, 2, 3] + e - (np.bincount(GROUPS, e) / 10)[GROUPS]  # less than nothing between groups
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegression(method=method).fit(X, y, GROUPS)
    design = np.column_stack([np.ones(N), X])
    beta, (squares,), *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = squares / (N - 4 * (method == "reml"))
    vcov = variance * np.linalg.inv(design.T @ design)
    expected = stats.norm.logpdf(y, design @ beta, np.sqrt(variance)).sum()
    if method == "reml":
        expected += 2 * np.log(2 * np.pi) + np.linalg.slogdet(vcov)[1] / 2
    np.testing.assert_allclose(np.append(model.intercept_, model.coef_), beta, rtol=1e-10)
    np.testing.assert_allclose(model.vcov_, vcov, rtol=1e-10, atol=1e-12)
    assert model.log_likelihood_ == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(model.predict(X, GROUPS), design @ beta, rtol=1e-10)
    np.testing.assert_allclose(model.summary().coefficients["df"], N - 4 * (method == "reml"), rtol=1e-9)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_an_outcome_that_is_constant_in_groups_is_a_regression_of_groups(method):
    X, _, random = _rows()
    z, v = random.normal(size=(2, 20))
    v += 2 * z
    X[:, 0] = z[GROUPS]
    with pytest.warns(
        UnidentifiedEffectsWarning, match="reproduce the outcome exactly, as where each group has one"
    ) as told:
        model = MixedLinearRegression(method=method).fit(X[:, :2], v[GROUPS], GROUPS)
    assert model.converged_ and len(told) == 1
    design = np.column_stack([np.ones(20), z])
    beta, (squares,), *_ = np.linalg.lstsq(design, v, rcond=None)
    variance = squares / (20 - 2 * (method == "reml"))
    np.testing.assert_allclose([model.intercept_, *model.coef_], [*beta, 0], atol=1e-6)
    assert model.covariance_["group"].iloc[0, 0] == pytest.approx(variance, rel=1e-5)
    se = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
    np.testing.assert_allclose(np.sqrt(np.diag(model.vcov_))[:2], se, rtol=1e-5)
    np.testing.assert_allclose(model.predict(X[:, :2], GROUPS), v[GROUPS], atol=1e-5)


def test_an_outcome_without_residuals_has_the_variances_of_the_groups_values():
    """Of several variances the shares, too, are those of a model of one row a group."""
    random = np.random.default_rng(2)
    v, above = random.normal(size=20) + random.normal(size=5)[np.arange(20) // 4], np.arange(20) // 4
    with pytest.warns(UnidentifiedEffectsWarning):
        model = MixedLinearRegression().fit(np.zeros((N, 0)), v[GROUPS], np.column_stack([GROUPS, above[GROUPS]]))
    small = MixedLinearRegression().fit(np.zeros((20, 0)), v, above)
    found = [covariance.iloc[0, 0] for covariance in model.covariance_.values()]
    np.testing.assert_allclose(found, [small.sigma_**2, small.covariance_["group"].iloc[0, 0]], rtol=1e-3)


@pytest.mark.parametrize("what", ["one group", "one slope", "indicators", "weights"])
def test_levels_that_the_fixed_effects_tell_apart_have_no_variance(what):
    """REML's likelihood does not depend on it, so that any number would be as good: its 0 says so, in words."""
    X, y, _ = _rows()
    random_effects, groups, weights = None, np.zeros(N), None
    if what == "one slope":
        random_effects = "1 + x0 | group"
    elif what == "indicators":
        X, groups = np.column_stack([X, np.eye(20)[GROUPS][:, 1:]]), GROUPS
    elif what == "weights":
        groups, weights = GROUPS, (GROUPS == 0).astype(float)
    with pytest.warns(UnidentifiedEffectsWarning, match="tell the levels of 'group' apart already"):
        model = MixedLinearRegression(random_effects).fit(X, y, groups, sample_weight=weights)
    kept = np.ones(N, dtype=bool) if weights is None else weights > 0
    design = np.column_stack([np.ones(kept.sum()), X[kept]])
    beta, (squares,), *_ = np.linalg.lstsq(design, y[kept], rcond=None)
    df = len(design) - design.shape[1]
    assert not model.covariance_["group"].any(axis=None)
    np.testing.assert_allclose([model.intercept_, *model.coef_], beta, rtol=1e-9)
    assert model.sigma_ == pytest.approx(np.sqrt(squares / df), rel=1e-10)
    np.testing.assert_allclose(model.summary().coefficients["df"], df, rtol=1e-8)


@pytest.mark.parametrize("random_effects", ["1 | group", "1 + x0 | group", ["1 + x0 | group", "1 | other"]])
def test_all_numbers_are_those_of_centred_data(random_effects):
    """A year, a time in seconds and a tiny feature; an outcome of a million and a noise of 1."""
    X, y, random = _rows()
    units, origin = np.array([1.0, 86400.0, 1e-6]), np.array([2000.0, 1.7e9, 1e-3])
    groups = {"group": GROUPS, "other": random.integers(0, 7, N)}
    names = ["group", "other"][: 1 + isinstance(random_effects, list)]
    y = y + random.normal(size=20)[GROUPS] * X[:, 0] + random.normal(size=7)[groups["other"]]

    frame = pd.DataFrame(groups)[names]
    numbers = []
    for scale, shift, top in ((np.ones(3), np.zeros(3), 0.0), (units, origin, 1e6)):
        features = X * scale + shift
        model = MixedLinearRegression(random_effects, tol=1e-13).fit(features, y + top, frame)
        table = model.summary().coefficients
        rows, known = features[::10], frame[::10]
        unknown = known + 100
        _, std = model.predict(rows, known, return_std=True)
        numbers.append({
            "coefficients": model.coef_ * scale,
            "errors": table["std_error"].to_numpy()[1:] * scale,
            "intervals": model.conf_int().to_numpy()[1:4] * scale[:, None],
            "df": table["df"].to_numpy()[1:],
            "log-likelihood": model.log_likelihood_ + np.log(np.prod(scale)),  # restricted
            "sigma": model.sigma_,
            "sd of predictions": std,
            "predictions": model.predict(rows, known) - top,
            "known": model.predict_interval(rows, known, kind="observation") - top,
            "unknown": model.predict_interval(rows, unknown) - top,
        })  # fmt: skip
    for name, expected in numbers[0].items():
        np.testing.assert_allclose(
            numbers[1][name], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).mean(), err_msg=name
        )


def test_intervals_of_the_typical_group_are_those_of_its_coefficients():
    """Few groups leave few degrees of freedom to whatever differs between them: predictions, too."""
    X, y, groups = make_clustered_regression(60, 2, n_groups=10, random_state=0)
    model = MixedLinearRegression().fit(X, y, groups)
    ends = model.predict_interval(np.zeros((1, 2)), groups=[0], level=0.9, predict_effects="zero")[0]
    np.testing.assert_allclose(ends, model.conf_int(0.9).loc["intercept"], rtol=1e-9)
    assert model.summary().coefficients.loc["intercept", "df"] < 12
    # a new group's own effect has the uncertain variance, too
    with pytest.warns(NoGroupsWarning, match="ask for predict_effects='zero'"):
        (low, high), normal = model.predict_interval(X[:1])[0], model._with_df(None).predict_interval(X[:1])[0]
    assert high - low > 1.1 * (normal[1] - normal[0])


def test_words_are_those_of_linear_models():
    X, y, _ = _rows()
    for model in (MixedLinearRegression(), GEELinearRegression()):
        with pytest.warns(NoGroupsWarning, match="least squares"):
            model.fit(X, y)
        with pytest.raises(ValueError, match="y holds dates or durations"):
            model.fit(X, np.datetime64("2020-01-01") + np.arange(N), GROUPS)
        with pytest.raises(ValueError, match="numbers of up to 1e[+]200, .* give y another unit"):
            model.fit(X, np.full(N, 1e200), GROUPS)
    with pytest.raises(ValueError, match="for crossed factors use MixedLinearRegression"):
        GEELinearRegression().fit(X, y, np.column_stack([GROUPS, GROUPS]))


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger", "residual", None])
def test_a_column_that_depends_on_others_leaves_their_inference_as_it_is(df):
    X, y, groups = make_clustered_regression(60, 2, n_groups=10, random_state=0)
    plain = MixedLinearRegression(df=df).fit(X, y, groups)
    wider = np.column_stack([X, X[:, 0] - X[:, 1]])
    with pytest.warns(AliasedFeaturesWarning):
        more = MixedLinearRegression(df=df).fit(wider, y, groups)
    expected, found = plain.summary().coefficients, more.summary().coefficients
    np.testing.assert_allclose(found[list(expected)].iloc[:3], expected, rtol=1e-7)
    assert found.drop(columns="estimate").loc["x2"].drop("df", errors="ignore").isna().all()
    assert more.wald_test(["x0", "x1"]).p_value == pytest.approx(plain.wald_test(["x0", "x1"]).p_value, rel=1e-7)
    effects = more.average_marginal_effects(wider)
    if df != "kenward-roger":  # whose covariance is another
        np.testing.assert_allclose(effects["p_value"], expected["p_value"].iloc[1:], rtol=1e-6)


def test_what_a_model_without_residuals_or_classes_does_not_have():
    X, y, random = _rows()
    with pytest.warns(UnidentifiedEffectsWarning):
        adjusted = MixedLinearRegression(df="kenward-roger").fit(X[:, :1], random.normal(size=20)[GROUPS], GROUPS)
    assert np.isfinite(adjusted.vcov_).all(axis=None)  # there is nothing to adjust
    with pytest.raises(ValueError, match="no median odds ratio with link='identity'"):
        _ = MixedLinearRegression().fit(X, y, GROUPS).variance_partition_.median_odds_ratio


def test_the_unit_of_the_outcome_changes_no_word():
    X, y, _ = _rows()
    for model in (MixedLinearRegression(), GEELinearRegression()):
        ratios = []
        for unit in (1.0, 1e-12, 1e12):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model.fit(X, unit * y, GROUPS)
            ratios.append(model.summary().coefficients[["t", "p_value"]].to_numpy())
        np.testing.assert_allclose(ratios[1:], [ratios[0]] * 2, rtol=1e-8)


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_precision_weights_are_known_after_the_fit(method):
    """By a formula's column as by that of X; what came as an array is asked for."""
    X, _, random = _rows()
    p = random.uniform(0.5, 40.0, N)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(g=GROUPS, p=p)
    y = X @ [1, 2, 3] + random.normal(size=20)[GROUPS] + random.normal(size=N) / np.sqrt(p)
    column = MixedLinearRegression(group_features="g", precision_weight_feature="p", method=method).fit(frame, y)
    formula = MixedLinearRegression.from_formula(
        "y ~ a + b + c + (1 | g)", frame.assign(y=y), precision_weight="p", method=method
    )
    array = MixedLinearRegression(group_features="g", method=method).fit(frame.drop(columns="p"), y, precision_weight=p)
    for model, where in ((column, "'p'"), (formula, "'p'"), (array, "as passed to fit")):
        assert f"Precision: {where}" in str(model.summary())
    answers = {
        "errors": lambda model, X: model.predict(X, return_std=True)[1],
        "intervals": lambda model, X: model.predict_interval(X, kind="observation"),
        "residuals": lambda model, X: model.residuals(X, y),
        "profile": lambda model, X: model.conf_int(method="profile", X=X, y=y, parameters=["sigma"]),
        "bootstrap": lambda model, X: model.conf_int(method="bootstrap", X=X, y=y, n_resamples=5, random_state=0),
        "update": lambda model, X: model.update_groups(X.assign(g=GROUPS + 99), y).random_effects_["g"].loc[99:],
    }
    for name, answer in answers.items():
        np.testing.assert_allclose(answer(formula, frame), answer(column, frame), rtol=1e-8, err_msg=name)
        if name not in ("errors", "intervals"):  # of rows with the precision 1
            with pytest.raises(ValueError, match="needs those of these rows|pass precision_weight="):
                answer(array, frame.drop(columns="p"))
    np.testing.assert_allclose(answers["update"](column, frame), column.random_effects_["g"].loc[:19], rtol=1e-8)
    others = y + 0.01 * random.normal(size=N)
    for ask in (
        lambda: column.conf_int(method="profile", X=frame, y=others),
        lambda: column.bootstrap(frame, others, n_resamples=2),
    ):
        with pytest.raises(ValueError, match="these are not the rows of the fit"):
            ask()


def test_no_profile_without_residuals():
    X, _, random = _rows()
    with pytest.warns(UnidentifiedEffectsWarning):
        model = MixedLinearRegression().fit(X, random.normal(size=20)[GROUPS], GROUPS)
    with pytest.raises(ValueError, match="left no residuals, so that its likelihood has no maximum"):
        model.conf_int(method="profile", X=X, y=random.normal(size=N), groups=GROUPS)


def test_rows_with_missing_values_are_predicted_as_nan():
    X, y, random = _rows()
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=y, g=GROUPS, p=random.uniform(1.0, 2.0, N))
    frame.loc[3, "a"] = frame.loc[5, "p"] = np.nan
    settings = {"missing": "drop", "precision_weight": "p"}
    model = MixedLinearRegression.from_formula("y ~ a + b + (1 | g)", frame, **settings)
    assert model.n_obs_ == N - 2
    mean, std = model.predict(frame, return_std=True)
    assert np.flatnonzero(np.isnan(mean)).tolist() == [3] and np.flatnonzero(np.isnan(std)).tolist() == [3, 5]
    np.testing.assert_allclose(model.predict(frame), mean)
    assert np.flatnonzero(np.isnan(model.predict_interval(frame)[:, 0])).tolist() == [3]
    assert np.isnan(model.predict(frame.iloc[[3]], return_std=True)).tolist() == [[True], [True]]
    gee = GEELinearRegression.from_formula("y ~ a + b", frame, groups="g", missing="drop")
    assert np.flatnonzero(np.isnan(gee.predict(frame))).tolist() == [3]
    with pytest.raises(ValueError, match="update_groups: precision_weight is missing .NaN. in 1 rows"):
        MixedLinearRegression.from_formula("y ~ b + (1 | g)", frame.drop(5), precision_weight="p").update_groups(
            frame[["b", "g", "p"]], y
        )


def test_outcomes_that_are_no_numbers_are_refused():
    X, y, _ = _rows()
    for model in (MixedLinearRegression(), GEELinearRegression()):
        with pytest.raises(
            ValueError, match="y holds labels, such as '(yes|no)', and outcomes of linear models are numbers"
        ):
            model.fit(X, np.where(y > 0, "no", "yes"), GROUPS)
    frame = pd.DataFrame({"k": 1, "n": 2, "x": X[:, 0], "g": GROUPS})
    with pytest.raises(ValueError, match="successes of trials, which are no measured outcome"):
        MixedLinearRegression.from_formula("k | n ~ x + (1 | g)", frame)
