"""Population-averaged coefficients and average marginal effects, against brute force."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning
from sklmm.inference.marginal import probability_and_gradient


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        3000, 2, n_groups=150, coef=[1.0, -0.5], covariance=[[2.0, 0.3], [0.3, 0.5]], random_state=1
    )
    frame = pd.DataFrame(X, columns=["dose", "age"])
    frame["town"] = (np.arange(len(X)) % 3 == 0).astype(float)
    return frame, y, pd.Series(groups, name="clinic")


@pytest.fixture(scope="module")
def slopes(data):
    X, y, groups = data
    return MixedLogisticRegression("1 + dose | clinic").fit(X, y, groups=groups)


@pytest.fixture(scope="module")
def gee(data):
    X, y, groups = data
    return GEELogisticRegression().fit(X, y, groups=groups)


def _moved(model, parameter, step):
    """A copy of a mixed model with one of its parameters (beta, theta) moved, and the covariance with it."""
    moved = copy.copy(model)
    n_fixed = len(model._fixed_names)
    beta = np.concatenate([model.intercept_, model.coef_[0]])
    theta = model._theta[0].copy()
    if parameter < n_fixed:
        beta[parameter] += step
    else:
        theta[parameter - n_fixed] += step
    moved.intercept_, moved.coef_, moved._theta = beta[:1], beta[None, 1:], [theta]
    factor = np.zeros((2, 2))
    factor[[0, 1, 1], [0, 0, 1]] = theta[[0, 1, 2]]
    moved._factors = [copy.copy(model._factors[0])]
    moved._factors[0].covariance = factor @ factor.T
    units = model._factors[0].units
    moved._factors[0].units = replace(units, Lambda=np.linalg.solve(units.to_natural, factor))
    return moved


def _numerical_errors(model, quantities, step=1e-4):
    """Delta-method errors of quantities(model) with the gradient by differences."""
    vcov = np.nan_to_num(model._vcov)
    up, down = (np.column_stack([quantities(_moved(model, k, s)) for k in range(len(vcov))]) for s in (step, -step))
    J = (up - down) / (2 * step)
    return np.sqrt(np.diag(J @ vcov @ J.T))


def _population(model, X):
    return model.predict_proba(X, predict_effects="marginal")[:, 1]


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")
def test_order_of_theta(slopes):
    """The helper above knows in which order the entries of the covariance factor are stored."""
    np.testing.assert_allclose(
        _moved(slopes, 0, 0.0)._factors[0].covariance, slopes.covariance_["clinic"], rtol=1e-10
    )


@pytest.mark.parametrize("sd", [0.0, 1e-4, 0.3, 1.0, 4.0, 12.0])
def test_probability_is_the_integral(slopes, sd):
    X = np.random.default_rng(0).normal(0, 2, (50, 3))

    def at(sd):
        """The model with a random intercept alone, at the mean of the slope's feature, where the fit counts it from."""
        model = copy.copy(slopes)
        model._factors = [copy.copy(slopes._factors[0])]
        model._factors[0].units = replace(slopes._factors[0].units, Lambda=np.diag([sd, 0.0]))
        return model

    model = at(sd)
    p, logit_p, gradient = probability_and_gradient(model, X)
    z = np.linspace(-9, 9, 20001)
    w = norm.pdf(z) / norm.pdf(z).sum()
    eta = slopes.intercept_[0] + X @ slopes.coef_[0]
    expected = expit(eta[:, None] + sd * z) @ w
    np.testing.assert_allclose(p, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(logit_p, logit(expected), rtol=1e-6, atol=1e-7)
    above, below = (probability_and_gradient(at(sd + step), X)[0] for step in (1e-5, -1e-5))
    np.testing.assert_allclose(gradient[:, 4], (above - below) / 2e-5, atol=1e-8)


def test_marginal_coefficients_are_the_regression_of_averaged_logits(data, slopes):
    X, _, _ = data

    def regression(model):
        design = np.column_stack([np.ones(len(X)), X])
        return np.linalg.lstsq(design, logit(_population(model, X)), rcond=None)[0]

    table = slopes.marginal_coefficients(X)
    assert list(table.index) == ["intercept", "dose", "age", "town"]
    np.testing.assert_allclose(table["estimate"], regression(slopes), rtol=1e-7)
    np.testing.assert_allclose(table["std_error"], _numerical_errors(slopes, regression), rtol=1e-5)
    np.testing.assert_allclose(table["odds_ratio"], np.exp(table["estimate"]))
    np.testing.assert_allclose(table["upper"] - table["lower"], 2 * 1.959964 * table["std_error"], rtol=1e-6)


def test_marginal_coefficients_are_those_that_independence_estimates():
    """Fitted without regard to groups, data of a mixed model have the marginal coefficients as their limit."""
    X, y, groups = make_clustered_classification(
        200_000, 2, n_groups=20_000, coef=[1.0, -0.5], covariance=2.0, random_state=3
    )
    mixed = MixedLogisticRegression(n_quadrature=7).fit(X, y, groups=groups)
    marginal = mixed.marginal_coefficients(X)
    gee = GEELogisticRegression("independence").fit(X, y, groups=groups)
    estimates = np.concatenate([gee.intercept_, gee.coef_[0]])
    np.testing.assert_allclose(marginal["estimate"], estimates, atol=0.02)
    np.testing.assert_allclose(marginal["std_error"], np.sqrt(np.diag(gee.vcov_)), rtol=0.1)
    variance = mixed.covariance_["group"].iloc[0, 0]
    attenuated = mixed.coef_[0] / np.sqrt(1 + 0.346 * variance)
    # the rule of thumb is itself a few per cent off
    np.testing.assert_allclose(marginal["estimate"].to_numpy()[1:], attenuated, rtol=0.05)


def test_marginal_coefficients_without_rows(data, slopes):
    """From the moments that the fit keeps, against the rows themselves."""
    X, y, groups = data
    intercepts = MixedLogisticRegression().fit(X, y, groups=groups)
    with_rows = intercepts.marginal_coefficients(X)
    near = 0.05 * with_rows["std_error"]
    found = intercepts.marginal_coefficients()
    assert ((found - with_rows)["estimate"].abs() < near).all()
    np.testing.assert_allclose(found["std_error"], with_rows["std_error"], rtol=0.05)
    with pytest.raises(ValueError, match="sample_weight weighs the rows of X: pass X, too"):
        slopes.marginal_coefficients(sample_weight=np.ones(len(X)))
    # with a random slope they are as near as the mean variance is a summary of all
    table = slopes.marginal_coefficients(level=0.9)
    assert ((table - slopes.marginal_coefficients(X))["estimate"].abs() < table["std_error"]).all()
    np.testing.assert_allclose(table["upper"] - table["lower"], 2 * 1.644854 * table["std_error"], rtol=1e-6)
    both = MixedLogisticRegression().fit(X, y, groups=pd.DataFrame({"clinic": groups, "day": np.arange(len(X)) % 30}))
    assert ((both.marginal_coefficients() - both.marginal_coefficients(X))["estimate"].abs() < near).all()
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    np.testing.assert_allclose(
        plain.marginal_coefficients()["estimate"], np.append(plain.intercept_, plain.coef_[0]), rtol=1e-9
    )
    np.testing.assert_allclose(plain.marginal_coefficients()["std_error"], np.sqrt(np.diag(plain.vcov_)), rtol=1e-9)


def test_marginal_coefficients_of_normal_features_need_no_rows():
    X, y, groups = make_clustered_classification(
        50_000, 2, n_groups=2_000, coef=[1.5, -1.0], intercept=-1.5, covariance=4.0, random_state=0
    )
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    ours, theirs = model.marginal_coefficients(), model.marginal_coefficients(X)
    np.testing.assert_allclose(ours["estimate"], theirs["estimate"], rtol=2e-3)
    np.testing.assert_allclose(ours["std_error"], theirs["std_error"], rtol=0.05)  # beta moves the mean slope, too


def test_without_groups_nothing_changes(data):
    X, y, _ = data
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    table = plain.marginal_coefficients(X)
    np.testing.assert_allclose(table["estimate"], np.r_[plain.intercept_, plain.coef_[0]], rtol=1e-9)
    np.testing.assert_allclose(table["std_error"], np.sqrt(np.diag(plain.vcov_)), rtol=1e-9)


def test_weights_count_rows(data, slopes):
    X, _, _ = data
    few, weights = X.iloc[:60], np.arange(60) % 4
    repeated = few.loc[few.index.repeat(weights)]
    for method in (slopes.marginal_coefficients, slopes.average_marginal_effects):
        pd.testing.assert_frame_equal(method(few, sample_weight=weights), method(repeated), rtol=1e-9)


def test_aliased_columns_stay_out(data):
    X, y, groups = data
    model = MixedLogisticRegression()
    with pytest.warns(UserWarning, match="twice"):
        model.fit(X.assign(twice=2 * X["dose"]), y, groups=groups)
    table = model.marginal_coefficients(X.assign(twice=2 * X["dose"]))
    assert table.loc["twice", "estimate"] == 0 and np.isnan(table.loc["twice", "std_error"])
    effects = model.average_marginal_effects(X.assign(twice=2 * X["dose"]))
    assert list(effects.index) == ["dose", "age", "town"]
    assert np.isfinite(effects.to_numpy()).all()


def test_rows_that_do_not_determine_the_coefficients(data, slopes):
    X, _, _ = data
    with pytest.raises(ValueError, match="do not determine the coefficients"):
        slopes.marginal_coefficients(X[X["town"] == 0])


def test_average_marginal_effects_of_a_mixed_model(data, slopes):
    X, _, _ = data
    table = slopes.average_marginal_effects(X)
    assert list(table.index) == ["dose", "age", "town"]

    def effects(model):
        step = 1e-3
        found = [
            np.mean(_population(model, X.assign(**{f: X[f] + step})) - _population(model, X.assign(**{f: X[f] - step})))
            / (2 * step)
            for f in ("dose", "age")
        ]
        change = _population(model, X.assign(town=1.0)) - _population(model, X.assign(town=0.0))
        return np.array([*found, change.mean()])

    np.testing.assert_allclose(table["estimate"], effects(slopes), rtol=1e-5)
    np.testing.assert_allclose(table["std_error"], _numerical_errors(slopes, effects), rtol=1e-4)


def test_average_marginal_effects_in_the_typical_group(data, slopes):
    X, _, _ = data
    table = slopes.average_marginal_effects(X, "age", predict_effects="zero")
    p = expit(slopes.intercept_[0] + X.to_numpy() @ slopes.coef_[0])
    assert table.loc["age", "estimate"] == pytest.approx(np.mean(p * (1 - p)) * slopes.coef_[0, 1], rel=1e-7)


def test_average_marginal_effects_of_a_marginal_model(data, gee):
    X, _, _ = data
    table = gee.average_marginal_effects(X, ["age", "dose"])
    p = expit(gee.intercept_[0] + X.to_numpy() @ gee.coef_[0])
    slope = p * (1 - p)
    estimate = slope.mean() * gee.coef_[0, 1]
    assert table.loc["age", "estimate"] == pytest.approx(estimate, rel=1e-7)
    design = np.column_stack([np.ones(len(X)), X])
    gradient = design.T @ (slope * (1 - 2 * p)) / len(X) * gee.coef_[0, 1]
    gradient[2] += slope.mean()
    assert table.loc["age", "std_error"] == pytest.approx(np.sqrt(gradient @ gee.vcov_ @ gradient), rel=1e-6)


def test_few_clusters_use_t(data):
    X, y, groups = data
    few = groups < 20
    model = GEELogisticRegression().fit(X[few], y[few], groups=groups[few])
    table = model.average_marginal_effects(X[few], "age")
    assert "t" in table.columns
    assert (table["upper"] - table["estimate"]).iloc[0] > 2.05 * table["std_error"].iloc[0]


def test_groups_in_X_play_no_part(data, slopes):
    X, y, groups = data
    frame = X.assign(clinic=groups.map("clinic {}".format))
    model = MixedLogisticRegression("1 + dose | clinic", group_features="clinic").fit(frame, y)
    pd.testing.assert_frame_equal(
        model.average_marginal_effects(frame), slopes.average_marginal_effects(X), rtol=1e-5
    )


def test_bad_input(data, slopes):
    X, _, _ = data
    with pytest.raises(ValueError, match="no feature of the model"):
        slopes.average_marginal_effects(X, "weight")
    with pytest.raises(ValueError, match="'marginal' or 'zero'"):
        slopes.average_marginal_effects(X, predict_effects="mode")
    with pytest.raises(ValueError, match="constant in these rows"):
        slopes.average_marginal_effects(X.assign(age=1.0), "age")
    with pytest.raises(ValueError, match="level must be between"):
        slopes.marginal_coefficients(X, level=95)
