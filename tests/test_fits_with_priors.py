"""Mixed models with priors after the fit: what they say, what takes priors into account, and what is refused."""

import copy
import pickle

import numpy as np
import pytest
from priors_reference import FORMULAS, data
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from sklmm import (
    MixedLinearRegression,
    MixedLogisticRegression,
    approximate_leave_group_out,
    cluster_influence,
    compare_models,
    likelihood_ratio_test,
    term_tests,
)
from sklmm.datasets import load_sleepstudy, make_clustered_classification
from sklmm.exceptions import SeparationWarning
from sklmm.priors import LKJ, Exponential, Flat, Gamma, HalfNormal, HalfStudentT, Normal, StudentT

FEW = "sim_few_groups"
INFORMED = {"fixed": Normal(0, 0.5), "intercept": Normal(0, 1), "sd": Gamma(2, 2)}


def few(priors, **parameters):
    return MixedLogisticRegression.from_formula(FORMULAS[FEW], data(FEW), priors=priors, **parameters)


@pytest.fixture(scope="module")
def model():
    return few(INFORMED)


def test_what_it_has(model):
    assert model.log_posterior_ == model.log_likelihood_ + model.log_prior_
    beta = np.append(model.intercept_, model.coef_)
    assert model.log_prior_ == pytest.approx(model.priors_.log_density(beta, model.covariance_["g"].to_numpy()))
    assert list(model.priors_.to_frame().index) == ["intercept", "x1", "sd_intercept|g"]
    plain = few(None)
    for name in ("priors_", "log_prior_", "log_posterior_"):
        assert hasattr(model, name) and not hasattr(plain, name)
    assert model.log_likelihood_ < plain.log_likelihood_
    with pytest.raises(AttributeError, match="without priors on its parameters"):
        few("soft").priors_  # noqa: B018
    assert few("soft").log_posterior_ == pytest.approx(few("soft").log_likelihood_ + few("soft").log_prior_)


def test_flat_priors_are_none():
    plain = few(None)
    for priors in ({}, {"fixed": Flat(), "sd": Flat()}):
        flat = few(priors)
        np.testing.assert_allclose(flat.coef_, plain.coef_, rtol=1e-8)
        np.testing.assert_allclose(flat.vcov_, plain.vcov_, rtol=1e-6)
        assert flat.log_prior_ == 0.0 and flat.priors_.improper


def test_it_is_an_estimator(model):
    for priors in ("soft", "weak", INFORMED):
        other = clone(MixedLogisticRegression(priors=priors))
        assert other.priors == priors and other.get_params()["priors"] == priors
    assert pickle.loads(pickle.dumps(model)).log_posterior_ == model.log_posterior_
    assert clone(model).priors == INFORMED and repr(copy.deepcopy(model)) == repr(model)
    X, y, groups = make_clustered_classification(200, 2, n_groups=10, random_state=0)
    table = np.column_stack([X, groups])
    assert np.isfinite(cross_val_score(MixedLogisticRegression(group_features=-1, priors="weak"), table, y)).all()


def test_names_of_formulas():
    frame = data("contraception_m_03")
    formula = "use ~ age10 + urban + livch + (1 + urban | district)"
    priors = {"livch": Normal(0, 0.1), "urban*": StudentT(4), "sd_urban[T.Y]|district": HalfNormal(0.5),
              "intercept": Normal(0, 3)}  # fmt: skip
    model = MixedLogisticRegression.from_formula(formula, frame, priors=priors)
    assert list(model.priors_.to_frame().index) == [
        "intercept", "urban[T.Y]", "livch[T.1]", "livch[T.2]", "livch[T.3+]", "sd_urban[T.Y]|district"
    ]  # fmt: skip
    assert np.abs(model.coef_[0, 2:]).max() < 0.4
    with pytest.raises(ValueError, match="there is no parameter 'lichv'"):
        MixedLogisticRegression.from_formula(formula, frame, priors={"lichv": Normal()})
    with pytest.raises(ValueError, match="must be None, 'soft' or 'weak', or a dict"):
        few("strong")


def test_priors_of_events_and_columns_that_are_left_out():
    """Coefficients of the other class are the mirrored ones; a column without variance has no prior."""
    frame = data(FEW)
    X, y, groups = frame[["x1"]].to_numpy(), frame["y"].to_numpy(), frame["g"]
    plain = MixedLogisticRegression(priors="weak").fit(X, y, groups=groups)
    mirrored = MixedLogisticRegression(priors="weak", positive=0).fit(X, y, groups=groups)
    np.testing.assert_allclose(mirrored.coef_, -plain.coef_, rtol=1e-7)
    with pytest.warns(match="not identified"):
        table = np.column_stack([X, np.ones(len(X)), 2 * X])
        more = MixedLogisticRegression(priors="weak").fit(table, y, groups=groups)
    assert more.log_likelihood_ == pytest.approx(plain.log_likelihood_, abs=1e-7)
    np.testing.assert_allclose(more.coef_[0, 0], plain.coef_[0, 0], rtol=1e-6)


def test_weak_priors_follow_units():
    frame = data("contraception_slope")
    X = frame[["age10", "age2"]].to_numpy()
    y, groups = frame["use"].to_numpy(), frame["district"].to_numpy()
    plain = MixedLogisticRegression("1 + x0 || group", priors="weak").fit(X, y, groups=groups)
    scaled = MixedLogisticRegression("1 + x0 || group", priors="weak").fit(X * [100.0, 0.1], y, groups=groups)
    np.testing.assert_allclose(scaled.coef_ * [100.0, 0.1], plain.coef_, rtol=1e-6)
    weighted = MixedLogisticRegression(priors="weak").fit(X, y, groups=groups, sample_weight=np.full(len(X), 2.0))
    twice = MixedLogisticRegression(priors="weak").fit(np.vstack([X, X]), np.r_[y, y], groups=np.r_[groups, groups])
    np.testing.assert_allclose(weighted.coef_, twice.coef_, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize("density", [Exponential(1), Exponential(20), HalfStudentT(3, 0.1), Gamma(1.0, 5)], ids=repr)
def test_standard_deviations_may_end_at_zero(density):
    """By a search along the profile of the posterior; at 0, too, where exponential densities have a kink."""
    model = few({"sd": density}, n_quadrature=1)
    sd = float(np.sqrt(model.covariance_["g"].iloc[0, 0]))
    assert model.converged_
    at = [few({"sd": Gamma(1e6, 1e6 / s)}) for s in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5)]
    for other in at:
        there = float(np.sqrt(other.covariance_["g"].iloc[0, 0]))
        assert other.log_likelihood_ + density.log_density(there) <= model.log_posterior_ + 1e-5
    if density in (Exponential(20), Gamma(1.0, 5)):
        assert sd == 0.0 or sd > 0.02
    if sd == 0.0:
        assert model.is_singular_


def test_a_density_that_is_infinite_at_zero_is_refused():
    with pytest.raises(ValueError, match="is infinite at 0"):
        few({"sd": Gamma(0.5, 1)})


def test_partly_bounded_coefficients_may_separate_classes():
    """A prior of one coefficient says nothing of another that separates; one of all of them does."""
    frame = data("sim_separation")
    X, y, groups = frame[["x1", "z"]].to_numpy(), frame["y"], frame["g"]
    with pytest.warns(SeparationWarning):
        MixedLogisticRegression(priors={"x0": Normal(0, 1)}).fit(X, y, groups=groups)
    for priors in ({"x1": Normal(0, 2.5)}, {"fixed": StudentT(1, 0, 2.5)}):
        model = MixedLogisticRegression(priors=priors).fit(X, y, groups=groups)
        assert model.converged_ and np.isfinite(np.sqrt(np.diag(model.vcov_))).all() and not model._fitted.separated


def test_narrow_priors_whose_log_density_is_above_zero():
    """Then log posteriors are, too, which is no sign that all outcomes are certain."""
    X, y, groups = make_clustered_classification(40, 2, n_groups=5, random_state=1)
    narrow = {"fixed": Normal(0.3, 1e-9), "intercept": Normal(0, 1e-9), "sd": Gamma(400, 400)}
    model = MixedLogisticRegression(priors=narrow).fit(X, y, groups=groups)
    assert model.converged_ and model.log_posterior_ > 0 and not model._fitted.separated
    np.testing.assert_allclose(model.coef_, 0.3, atol=1e-6)


def test_correlations_with_a_prior():
    """As eta grows the fit goes to that of uncorrelated coefficients."""
    frame = data("contraception_slope")

    def fit(bars, priors):
        formula = f"use ~ age10 + age2 + urban + ch + (1 + age10 {bars} district)"
        return MixedLogisticRegression.from_formula(formula, frame, priors=priors)

    sds = {"sd": HalfNormal(1)}
    strict, apart = fit("|", {**sds, "correlation": LKJ(1e5)}), fit("||", sds)
    np.testing.assert_allclose(strict.coef_, apart.coef_, atol=1e-3)
    some = fit("|", {**sds, "correlation": LKJ(2)})
    covariance = some.covariance_["district"].to_numpy()
    rho = covariance[1, 0] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert 0.0 < abs(rho) < 0.99 and some.converged_


def test_several_factors_quadrature_and_nodes():
    frame = data("contraception_m_03")
    X, y = frame[["age10", "urban"]].assign(urban=(frame["urban"] == "Y") * 1.0).to_numpy(), frame["use"]
    groups = np.column_stack([frame["district"], np.arange(len(frame)) % 9])
    crossed = MixedLogisticRegression(priors="weak").fit(X, y, groups=groups)
    assert crossed.converged_ and len(crossed.priors_.terms) == 2
    auto = few("weak", n_quadrature="auto")
    assert auto.n_quadrature_ > 1 and auto.converged_
    nine = few("weak", n_quadrature=9)
    assert abs(nine.coef_[0, 0] - auto.coef_[0, 0]) < 0.01


# What takes priors into account ---------------------------------------------------------------------------------------


def test_profiles_are_of_the_posterior(model):
    """Ends lie where twice the log posterior is a chi-squared quantile lower: checked by refits with the value held."""
    frame = data(FEW)
    ends = model.conf_int(method="profile", X=frame)
    assert list(ends.index) == ["intercept", "x1", "sd_intercept|g"]
    for end in ends.loc["x1"]:
        held = few({**INFORMED, "x1": Normal(end, 1e-6)})
        there = held.log_likelihood_ + model.priors_.log_density(
            np.append(held.intercept_, held.coef_), held.covariance_["g"].to_numpy()
        )
        assert model.log_posterior_ - there == pytest.approx(1.920729, abs=1e-3)
    assert 0.0 < ends.loc["sd_intercept|g", "lower"]
    weak = few("weak").conf_int(method="profile", X=frame, parameters=["sd_intercept|g"])
    assert weak["lower"].iloc[0] == 0.0


def test_bootstrap_fits_have_the_priors(model):
    frame = data(FEW)
    result = model.bootstrap(frame, n_resamples=15, random_state=0)
    plain = few(None).bootstrap(frame, n_resamples=15, random_state=0)
    assert result.std_errors()["x1"] < plain.std_errors()["x1"]
    assert (result.estimates["sd_intercept|g"] > 0.05).all()
    few("soft").bootstrap(frame, n_resamples=3, resampling="cluster", random_state=0)


def test_groups_left_out():
    """The step without a group has the priors, as the refit without it has."""
    frame = data("contraception_m_03")
    formula, priors = FORMULAS["contraception_m_03"], {"fixed": Normal(0, 0.2), "sd": Gamma(2, 2)}
    model = MixedLogisticRegression.from_formula(formula, frame, priors=priors)
    without = approximate_leave_group_out(model, frame)
    group = frame["district"].iloc[0]
    refit = MixedLogisticRegression.from_formula(formula, frame[frame["district"] != group], priors=priors)
    se = np.sqrt(np.diag(model.vcov_))
    expected = np.append(refit.intercept_, refit.coef_)
    assert (np.abs(without.coefficients.loc[group] - expected) / se).max() < 0.02
    assert len(cluster_influence(model)) == 60
    assert (np.diag(model.vcov("robust")) > 0).all()


def test_what_it_says(model):
    for fit in (model, few("soft"), few("weak")):
        summary, report = str(fit.summary()), str(fit.report())
        assert "Priors:" in summary and "log posterior" in summary and "AIC and BIC" in summary
        assert "AIC and BIC" in " ".join(report.split())
    assert "fixed: Normal(loc=0.0, scale=0.5)" in str(model.summary())
    assert "x1 ~ Normal(loc=0, scale=0.5)" in " ".join(str(model.report()).split())
    assert "Sterzinger" in str(few("soft").report())
    plain = few(None)
    assert "prior" not in str(plain.summary()).lower() and "prior" not in str(plain.report()).lower()


def test_what_is_refused(model):
    plain = MixedLogisticRegression.from_formula("y ~ 1 + (1 | g)", data(FEW))
    with pytest.raises(ValueError, match="larger was fitted with priors or penalties"):
        likelihood_ratio_test(plain, model)
    with pytest.raises(ValueError, match="compares maxima of likelihoods"):
        term_tests(model, type="drop", method="lr", X=data(FEW))
    table = compare_models({"a": plain, "b": model}, likelihood_ratio=True)
    assert "fitted with priors" in repr(table) and table["p_value"].isna().all()


# Linear models --------------------------------------------------------------------------------------------------------


def test_linear_models_say_it_too():
    frame = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", frame, priors="weak")
    assert "Priors:" in str(model.summary()) and "sigma ~ Exponential" in " ".join(str(model.report()).split())
    with pytest.raises(ValueError, match="this linear model was fitted with priors"):
        approximate_leave_group_out(model, frame)
    with pytest.raises(ValueError, match="'soft' is for binary outcomes"):
        MixedLinearRegression(priors="soft").fit(frame[["Days"]], frame["Reaction"], groups=frame["Subject"])
    with pytest.raises(ValueError, match="df='kenward-roger' is for fits without priors"):
        MixedLinearRegression(priors="weak", df="kenward-roger").fit(
            frame[["Days"]], frame["Reaction"], groups=frame["Subject"]
        )


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_second_looks_compare_with_the_priors():
    """A prior far from the data makes any fit worse than the intercept alone is without it."""
    X, y, groups = make_clustered_classification(300, 2, n_groups=20, random_state=0)
    priors = {"fixed": Normal(5, 0.05), "sd": HalfNormal(0.01)}
    model = MixedLogisticRegression(priors=priors).fit(X, y, groups=groups)
    assert model.converged_
