"""The bootstrap: reproducible whatever n_jobs, in agreement with the likelihood, and right about what it draws."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from designs import Coded
from designs import model as model_of
from reference_data import model_data
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import norm

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.datasets import load_ohio, make_clustered_classification
from sklmm.design.structure import FactorStructure
from sklmm.exceptions import ConvergenceWarning, NoGroupsWarning
from sklmm.inference.bootstrap import BootstrapResult, ClusterDraw, ParametricDraw, acceleration, independent_clusters


def fit(dataset, name, **parameters):
    data = model_data(dataset, name)
    model = MixedLogisticRegression(data.random_effects, n_threads=1, **parameters)
    rows = dict(X=data.X, y=data.y, groups=data.groups, sample_weight=data.sample_weight)
    return model.fit(**rows), rows


@pytest.mark.parametrize("resampling", ["parametric", "cluster"])
def test_bitwise_the_same_whatever_n_jobs(resampling):
    model, rows = fit("bacteria", "main")
    arguments = dict(n_resamples=60, resampling=resampling, random_state=7)
    one = model.bootstrap(**rows, **arguments)
    two = model.bootstrap(**rows, **arguments, n_jobs=2)
    np.testing.assert_array_equal(one.estimates.to_numpy(), two.estimates.to_numpy())
    other = model.bootstrap(**rows, **arguments | {"random_state": 8})
    assert not np.array_equal(one.estimates.to_numpy(), other.estimates.to_numpy())
    first = model.bootstrap(**rows, **arguments | {"n_resamples": 30})
    np.testing.assert_array_equal(first.estimates.to_numpy(), one.estimates.to_numpy()[:30])
    ends = model.conf_int(method="bootstrap", parameters=["late"], kind="percentile", **rows, **arguments)
    np.testing.assert_allclose(ends.to_numpy()[0], np.quantile(one.estimates["late"], [0.025, 0.975]), rtol=1e-12)


@pytest.mark.many_fits
def test_profile_and_bootstrap_agree():
    """On bacteria, with quadrature: Laplace's error depends on the variance, which bends the profile."""
    model, rows = fit("bacteria", "main", n_quadrature=15)
    profile = model.conf_int(method="profile", **rows)
    result = model.bootstrap(**rows, n_resamples=1000, random_state=0)
    found = result.conf_int()
    # the Monte Carlo error of the ends: resamples of the resamples
    rng, ends = np.random.default_rng(0), []
    for _ in range(60):
        again = result.estimates.iloc[rng.integers(0, 1000, 1000)]
        ends.append(BootstrapResult(again, result.original, "parametric", 0, result.acceleration).conf_int())
    error = np.std(ends, axis=0, ddof=1)
    assert (np.abs(found - profile) < 3 * error).all(axis=None)
    assert (error < 0.2 * result.std_errors().to_numpy()[:, None]).all()  # or the test would say little


@pytest.mark.many_fits
def test_standard_errors_agree_with_the_information():
    model, rows = fit("contraception", "m_03")
    for resampling, vcov in (("parametric", model.vcov_), ("cluster", model.vcov("robust"))):
        se = np.sqrt(np.diagonal(vcov))
        result = model.bootstrap(**rows, n_resamples=300, resampling=resampling, random_state=1)
        assert result.n_failed == 0
        np.testing.assert_allclose(result.std_errors()[:5] / se, 1, atol=0.15)
        assert (np.abs(result.bias()[:5]) < 0.25 * se).all()
    assert result.original["sd_intercept|district"] == pytest.approx(
        np.sqrt(model.covariance_["district"].iloc[0, 0])
    )


def test_kinds_of_interval():
    rng = np.random.default_rng(0)
    values, original = rng.gamma(2.0, size=4000), 1.5
    result = BootstrapResult(
        pd.DataFrame({"x": values}), pd.Series({"x": original}), "cluster", 0, pd.Series({"x": 0.05})
    )
    low, high = np.quantile(values, [0.05, 0.95])
    assert result.conf_int(0.9, "percentile").loc["x"].tolist() == pytest.approx([low, high])
    assert result.conf_int(0.9, "basic").loc["x"].tolist() == pytest.approx([2 * 1.5 - high, 2 * 1.5 - low])
    z0 = norm.ppf(np.mean(values < original))
    for kind, a in (("bias-corrected", 0.0), ("bca", 0.05)):
        reach = z0 + norm.ppf([0.05, 0.95])
        expected = np.quantile(values, norm.cdf(z0 + reach / (1 - a * reach)))
        np.testing.assert_allclose(result.conf_int(0.9, kind).loc["x"], expected)
    assert result.conf_int(0.9).equals(result.conf_int(0.9, "bca"))
    without = BootstrapResult(result.estimates, result.original, "cluster", 0)
    assert without.conf_int().equals(result.conf_int(kind="bias-corrected"))
    with pytest.raises(ValueError, match="kind='bca' needs the influence of single"):
        without.conf_int(kind="bca")
    with pytest.raises(ValueError, match="kind must be one of"):
        result.conf_int(kind="normal")


def test_bca_of_a_mean_against_scipy():
    """The acceleration of a mean, whose influence is the deviations."""
    sample = np.random.default_rng(1).exponential(size=60)
    means = np.random.default_rng(2).choice(sample, (20_000, 60)).mean(axis=1)
    a = acceleration(sample - sample.mean(), np.ones(60))
    result = BootstrapResult(
        pd.DataFrame({"m": means}), pd.Series({"m": sample.mean()}), "cluster", 0, pd.Series({"m": a})
    )
    expected = scipy_bootstrap((sample,), np.mean, n_resamples=20_000, method="BCa", rng=3).confidence_interval
    np.testing.assert_allclose(result.conf_int().loc["m"], expected, rtol=0.02)
    assert acceleration(np.zeros(3), np.ones(3)) == 0
    counts = np.array([1.0, 2.0, 3.0])
    values = np.array([0.3, -1.0, 0.7])
    assert acceleration(values, counts) == pytest.approx(acceleration(np.repeat(values, [1, 2, 3]), np.ones(6)))


# --- what is drawn --------------------------------------------------------------------------------------------


def rows_of(n=12, weights=None):
    inner = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4], dtype=np.intp)
    outer = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2], dtype=np.intp)
    X = np.arange(n, dtype=float)[:, None]
    factors = [Coded(inner, 5, [-1], [(1, True)], "class"), Coded(outer, 3, [-1], [(1, True)], "school")]
    return model_of(X, np.arange(n, dtype=np.uint8) % 2, factors, sample_weight=weights)


def test_clusters_are_drawn_whole_with_their_inner_groups():
    rows, structure = rows_of(weights=np.arange(12.0))
    drawn, of_drawn = ClusterDraw(rows, structure)(np.random.default_rng(5))
    inner, outer = drawn.codes
    n_classes, n_schools = [factor.n_levels for factor in of_drawn.factors]
    assert n_schools == 3 and n_classes == inner.max() + 1
    for level in range(3):
        index = drawn.X[outer == level, 0].astype(int)
        original = rows.codes[1][index]
        assert len(set(original)) == 1  # one school, all of it, once
        np.testing.assert_array_equal(np.sort(index), np.flatnonzero(rows.codes[1] == original[0]))
        np.testing.assert_array_equal(drawn.weights[outer == level], index)
        np.testing.assert_array_equal(drawn.y[outer == level], rows.y[index])
        classes = pd.crosstab(inner[outer == level], rows.codes[0][index])
        assert (np.count_nonzero(classes, axis=0) == 1).all() and (np.count_nonzero(classes, axis=1) == 1).all()
    # the same school drawn twice is two schools, and its classes are others
    pairs = set(zip(inner, outer, strict=True))
    assert len(pairs) == n_classes


def test_crossed_factors_are_no_clusters():
    rows, structure = rows_of()
    rows.codes[1] = np.arange(12, dtype=np.intp) % 3
    structure.factors[1] = FactorStructure(3, [-1], [(1, True)], "rater")
    with pytest.raises(ValueError, match="independent clusters, but the factors class and rater are crossed"):
        independent_clusters(rows, structure, "it")


def test_new_outcomes_have_the_distribution_of_the_model():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(2000), 5)
    X = np.tile(np.arange(5.0), 2000)[:, None] - 2
    design = Coded(codes, 2000, [-1, 0], [(2, True)])
    draw = ParametricDraw(*model_of(X, None, [design]), np.array([0.3, 0.5]), [np.array([1.0, -0.4, 0.3])])
    y = draw(rng)[0].y
    b = np.random.default_rng(1).multivariate_normal([0, 0], [[1.0, -0.4], [-0.4, 0.25]], 400_000)
    for x in range(5):
        eta = 0.3 + b[:, 0] + (0.5 + b[:, 1]) * (x - 2)
        assert y[X[:, 0] == x - 2].mean() == pytest.approx(np.mean(1 / (1 + np.exp(-eta))), abs=0.035)
    # within a group rows go together
    table = y.reshape(2000, 5)
    both = 1 / (1 + np.exp(-(0.3 + b[:, 0]))) * 1 / (1 + np.exp(-(0.8 + b[:, 0] + b[:, 1])))
    assert np.mean(table[:, 2] * table[:, 3]) == pytest.approx(both.mean(), abs=0.035)


def test_counts_are_drawn_as_counts():
    weights = np.array([5.0, 3.0, 40.0])
    design = Coded(np.array([0, 0, 1]), 2, [-1], [(1, True)])
    counted = model_of(np.zeros((3, 1)), np.zeros(3, dtype=np.uint8), [design], sample_weight=weights)
    drawn, _ = ParametricDraw(*counted, np.array([0.0, 1.0]), [np.array([0.0])])(np.random.default_rng(0))
    for level in (0, 1):
        assert drawn.weights[drawn.codes[0] == level].sum() == [8, 40][level]
    assert (drawn.weights > 0).all() and set(drawn.y) == {0, 1}
    with pytest.raises(ValueError, match="no whole numbers; use resampling='cluster'"):
        ParametricDraw(*model_of(np.zeros((1, 1)), None, [], sample_weight=np.array([0.5])), np.zeros(2), [])


def test_weighted_rows_of_a_fit():
    model, rows = fit("cbpp", "main")
    result = model.bootstrap(**rows, n_resamples=60, random_state=0)
    assert (np.abs(result.bias()) < 0.5 * result.std_errors()).all()


# --- arguments and failures -----------------------------------------------------------------------------------


def test_resamples_that_fail_are_counted():
    rng = np.random.default_rng(0)
    y = np.zeros(40, dtype=int)
    y[:2] = 1  # in one group, which a resample may miss
    rows = dict(X=rng.normal(size=(40, 1)), y=y, groups=np.repeat(np.arange(8), 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLogisticRegression(n_threads=1).fit(**rows)
    with pytest.warns(ConvergenceWarning, match="resamples could not be fitted"):
        result = model.bootstrap(**rows, n_resamples=50, resampling="cluster", random_state=0)
    assert 5 < result.n_failed < 45  # (7/8)^8 = 0.34 of them have one class
    assert result.estimates["x0"].isna().sum() == result.n_failed


def test_without_groups_rows_are_drawn():
    X, y, _ = make_clustered_classification(400, 2, coef=[1.0, 0.0], covariance=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGroupsWarning)
        model = MixedLogisticRegression(n_threads=1).fit(X, y)
    result = model.bootstrap(X, y, n_resamples=200, resampling="cluster", random_state=0)
    np.testing.assert_allclose(result.std_errors(), np.sqrt(np.diagonal(model.vcov_)), rtol=0.2)


def test_progress_and_arguments(capsys):
    model, rows = fit("bacteria", "main")
    model.bootstrap(**rows, n_resamples=30, random_state=0, verbose=1)
    assert capsys.readouterr().out.splitlines() == [
        "[bootstrap] 25 of 30 resamples", "[bootstrap] 30 of 30 resamples"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="bootstrap needs the rows of the fit.*pass X=X, y=y, groups=groups"):
        model.conf_int(method="bootstrap")
    with pytest.raises(ValueError, match="resampling must be one of 'parametric', 'cluster'; got 'rows'"):
        model.bootstrap(**rows, resampling="rows")
    with pytest.raises(ValueError, match="n_resamples must be an integer >= 2, got 1"):
        model.bootstrap(**rows, n_resamples=1)
    with pytest.raises(TypeError, match="method='profile' takes no n_resamples"):
        model.conf_int(method="profile", **rows, n_resamples=10)


def test_columns_that_share_a_name():
    rows = dict(zip("Xy", make_clustered_classification(300, 2, n_groups=20, random_state=0)[:2], strict=True))
    rows["groups"] = np.repeat(np.arange(20), 15)
    model = MixedLogisticRegression(n_threads=1).fit(**rows)
    model._fitted = replace(model._fitted, fixed_names=["intercept", "x", "x"])
    found = model.conf_int(method="bootstrap", **rows, n_resamples=20, random_state=0)
    assert found.index.tolist() == ["intercept", "x", "x", "sd_intercept|group"]
    profile = model.conf_int(method="profile", **rows)
    assert profile.index.tolist() == found.index.tolist()
    assert profile.iloc[1, 0] != profile.iloc[2, 0] and found.iloc[1, 0] != found.iloc[2, 0]


# --- marginal models ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def marginal():
    X, wheeze, child = load_ohio(return_X_y=True, as_frame=True)
    rows = dict(X=X, y=wheeze, groups=child)
    return GEELogisticRegression("ar1", n_threads=1).fit(**rows, time=X["age"]), rows | {"time": X["age"]}


@pytest.mark.many_fits
def test_marginal_clusters_agree_with_the_sandwich(marginal):
    model, rows = marginal
    result = model.bootstrap(**rows, n_resamples=200, random_state=0)
    assert result.n_failed == 0 and result.acceleration is None
    np.testing.assert_allclose(result.std_errors(), np.sqrt(np.diagonal(model.vcov("robust"))), rtol=0.15)
    np.testing.assert_array_equal(result.original, [*model.intercept_, *model.coef_[0]])
    again = model.bootstrap(**rows, n_resamples=50, random_state=0, n_jobs=2)
    np.testing.assert_array_equal(again.estimates.to_numpy(), result.estimates.to_numpy()[:50])
    ends = model.conf_int(method="bootstrap", **rows, n_resamples=200, random_state=0)
    assert ends.equals(result.conf_int(kind="bias-corrected"))


def test_a_resample_is_a_fit_of_its_rows(marginal):
    """Whole children, those drawn twice as two: the estimates of fit for these rows and times."""
    model, rows = marginal
    found = model.bootstrap(**rows, n_resamples=2, random_state=3).estimates.iloc[0]
    plain = model._rows_of_fit("the test", rows["X"], rows["y"], rows["groups"], None, rows["time"])
    seed = np.random.SeedSequence(3).spawn(2)[0]
    index, clusters = ClusterDraw(*plain).index(np.random.default_rng(seed))
    again = GEELogisticRegression("ar1", n_threads=1)
    again.fit(rows["X"].iloc[index], rows["y"].iloc[index], groups=clusters, time=rows["time"].iloc[index])
    np.testing.assert_allclose(found, [*again.intercept_, *again.coef_[0]], rtol=1e-7)


def test_marginal_models_say_what_is_missing(marginal):
    model, rows = marginal
    with pytest.raises(ValueError, match="'profile' needs a likelihood, which estimating equations do not have"):
        model.conf_int(method="profile")
    with pytest.raises(ValueError, match="pass X=X, y=y, groups=groups, time=time"):
        model.conf_int(method="bootstrap")
    with pytest.raises(ValueError, match="method must be 'wald' or 'bootstrap', got 'exact'"):
        model.conf_int(method="exact")
    with pytest.raises(TypeError, match="method='wald' takes no n_resamples"):
        model.conf_int(n_resamples=10)
    fewer = {key: values[4:] for key, values in rows.items()}
    with pytest.raises(ValueError, match="it had 2,148 rows, here are 2,144"):
        model.bootstrap(**fewer)


def test_generators_are_seeds():
    X, y, groups = make_clustered_classification(200, 1, n_groups=20, random_state=0)
    rows = dict(X=X, y=y, groups=groups)
    for model in (MixedLogisticRegression().fit(**rows), GEELogisticRegression().fit(**rows)):
        for make in (np.random.RandomState, np.random.default_rng, np.random.SeedSequence):
            one, same, other = (
                model.bootstrap(**rows, n_resamples=3, random_state=make(seed)).estimates for seed in (1, 1, 2)
            )
            assert one.equals(same)
            assert not one.equals(other)
