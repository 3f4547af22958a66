"""What simulated studies are made of: rows of other sizes, correlated outcomes of marginal models, stated effects."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import ndtri

from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression, power
from sklmm.datasets import load_contraception, load_ohio, load_sleepstudy
from sklmm.design.sizes import Sample, read_sizes, resized, with_groups, with_rows_per_group
from sklmm.design.structure import FactorStructure
from sklmm.diagnostics.studies import changed_factors
from sklmm.estimating import AR1, Exchangeable, Fixed
from sklmm.exceptions import AliasedFeaturesWarning, ConvergenceWarning, NoGroupsWarning, SeparationWarning
from sklmm.families import CLOGLOG, GAUSSIAN, LOGIT
from sklmm.inference.marginal_draw import MarginalDraw, latent_correlation

# Sizes ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nested():
    """30 rows: 4 schools, classes nested in them, items crossed with both."""
    school = np.sort(np.random.default_rng(0).integers(0, 4, 30))
    classes = 2 * school + np.arange(30) % 2
    return Sample(np.arange(30), [school, classes, np.arange(30) % 5])


def test_more_groups_are_new_ones(nested):
    sample = with_groups(np.random.default_rng(1), nested, 0, 10)
    school, classes, item = sample.codes
    assert np.array_equal(np.unique(school), np.arange(10))
    assert classes.max() + 1 == 20
    assert item.max() + 1 == 5  # items are shared
    origin = nested.codes[0][sample.index]
    rows_of = {g: sorted(sample.index[school == g]) for g in range(10)}
    often = []
    for old in range(4):
        news = np.unique(school[origin == old])
        often.append(len(news))
        for new in news:  # each has all rows of the old one, once
            assert rows_of[new] == np.flatnonzero(nested.codes[0] == old).tolist()
    assert sorted(often) == [2, 2, 3, 3]
    for c in range(20):
        assert len(np.unique(school[classes == c])) == 1


def test_fewer_groups_are_a_subset(nested):
    subsets = set()
    for seed in range(40):
        sample = with_groups(np.random.default_rng(seed), nested, 0, 2)
        kept = np.unique(nested.codes[0][sample.index])
        assert np.array_equal(sample.index, np.flatnonzero(np.isin(nested.codes[0], kept)))
        subsets.add(tuple(kept))
    assert len(subsets) == 6
    same = with_groups(np.random.default_rng(0), nested, 0, 4)
    assert np.array_equal(same.index, nested.index)
    assert all(np.array_equal(one, other) for one, other in zip(same.codes, nested.codes, strict=True))


def test_more_inner_groups_stay_in_their_outer_ones(nested):
    school, classes, _ = with_groups(np.random.default_rng(1), nested, 1, 16).codes
    assert classes.max() + 1 == 16
    assert school.max() + 1 == 4
    assert all(len(np.unique(school[classes == c])) == 1 for c in range(16))


def test_rows_per_group(nested):
    for n in (1, 3, 20):
        sample = with_rows_per_group(np.random.default_rng(2), nested, 0, n)
        assert (np.bincount(sample.codes[0]) == n).all()
        often = np.bincount(sample.index, minlength=30)
        for g in range(4):
            own = often[nested.codes[0] == g]
            assert own.max() - own.min() <= 1


def test_sizes_are_combined():
    assert read_sizes(None, ["a"]) == [{}]
    found = read_sizes({"a": [3, 4], "rows_per_group": 2}, ["a"])
    assert found == [{"a": 3, "rows_per_group": 2}, {"a": 4, "rows_per_group": 2}]
    assert read_sizes({"rows_per_group|b": [5]}, ["a", "b"]) == [{"rows_per_group|b": 5}]
    with pytest.raises(ValueError, match="there are 'a', 'b', 'rows_per_group|a'"):
        read_sizes({"rows_per_group": [5]}, ["a", "b"])
    assert read_sizes({"rows": [5]}, []) == [{"rows": 5}]
    with pytest.raises(ValueError, match="of one factor only"):
        read_sizes({"rows_per_group|a": 5, "rows_per_group|b": 2}, ["a", "b"])


def test_sizes_that_contradict_each_other(nested):
    with pytest.raises(ValueError, match="of 4 groups of school 2 have rows"):
        resized(np.random.default_rng(0), nested, {"school": 4, "class": 2}, ["school", "class", "item"])
    sample = resized(np.random.default_rng(0), nested, {"school": 9, "item": 7}, ["school", "class", "item"])
    assert [code.max() + 1 for code in sample.codes] == [9, 18, 7]


# Outcomes of marginal models -----------------------------------------------------------------------------------------


def test_latent_correlations_give_the_classes_correlations():
    """Against scipy's bivariate normal distribution function."""
    mu = np.array([0.05, 0.3, 0.5, 0.72, 0.31])
    R = np.where(np.eye(5) == 1, 1.0, 0.15)
    R[1, 4] = R[4, 1] = 0.9
    R[0, 3] = R[3, 0] = -0.2
    R[1, 2] = R[2, 1] = 0.0
    latent, sd = latent_correlation(mu, R), np.sqrt(mu * (1 - mu))
    for i in range(5):
        for j in range(i):
            r = latent[i, j]
            both = stats.multivariate_normal.cdf(ndtri(mu[[i, j]]), cov=[[1, r], [r, 1]], abseps=1e-10, releps=1e-10)
            assert (both - mu[i] * mu[j]) / (sd[i] * sd[j]) == pytest.approx(R[i, j], abs=1e-7)
    assert latent[1, 2] == 0


@pytest.mark.parametrize(
    ("family", "correlation", "alpha"),
    [
        (LOGIT, Exchangeable(), [0.3]),
        (CLOGLOG, AR1(), [0.4]),
        (GAUSSIAN, AR1(), [-0.6]),
        (LOGIT, Fixed([[1, 0.4, 0.1, 0], [0.4, 1, 0.2, 0], [0.1, 0.2, 1, -0.1], [0, 0, -0.1, 1]]), []),
    ],
)
def test_moments_of_drawn_outcomes(family, correlation, alpha):
    """20,000 groups of the rows at four times, the third of which half of the groups miss."""
    times, eta, n = np.arange(4.0), np.array([-1.0, 0.2, 0.5, -0.4]), 20_000
    time = np.tile(np.concatenate([times, times[[0, 1, 3]]]), n // 2)
    codes = np.repeat(np.arange(n), np.tile([4, 3], n // 2))
    draw = MarginalDraw(family, correlation, alpha, times, sigma=2.0)
    mean = eta[time.astype(int)]
    draw.prepare(mean[:14], codes[:14], time[:14], "abcd")
    assert len(draw.known) == 2
    order = np.random.default_rng(1).permutation(len(time))  # rows need not be in order
    y = np.empty(len(time))
    y[order] = draw(np.random.default_rng(0), mean[order], codes[order], time[order])
    wide = pd.DataFrame({"y": y, "time": time, "group": codes}).pivot(index="group", columns="time", values="y")
    mu = family.mean(eta)
    sd = np.sqrt(mu * (1 - mu)) if family.has_classes else np.full(4, 2.0)
    assert (np.abs(wide.mean() - mu) < 4 * sd / np.sqrt(n / 2)).all()
    found, wanted = wide.corr().to_numpy(), correlation.matrix(np.array(alpha), times)
    assert np.abs(found - wanted).max() < 4 / np.sqrt(n / 2)
    np.testing.assert_allclose(wide.std(), sd, rtol=0.05)


def test_correlations_that_no_classes_have():
    draw = MarginalDraw(LOGIT, Exchangeable(), [0.6], [])
    with pytest.raises(ValueError, match="group 'b'.* 0.047.* 0.5 .*0.6, but cannot beyond 0.223.*mixed model"):
        draw.prepare(np.array([0.0, 0.0, -3.0, 0.0]), np.array([0, 0, 1, 1]), None, ["a", "b"])
    with pytest.raises(ValueError, match="not positive definite in a group of 4 rows.*mixed model"):
        negative = MarginalDraw(GAUSSIAN, Exchangeable(), [-0.4], [])
        negative(np.random.default_rng(0), np.zeros(4), np.zeros(4, int), None)
    with pytest.raises(ValueError, match="has 2 times, and a group of 3 rows has others"):
        fixed = MarginalDraw(GAUSSIAN, Fixed(np.eye(2)), [], [0.0, 1.0])
        fixed(np.random.default_rng(0), np.zeros(3), np.zeros(3, int), None)


def test_gee_refits_find_what_was_drawn():
    """Of many groups of ohio: the fit of one large study is near the parameters."""
    X, y, child = load_ohio(return_X_y=True, as_frame=True)
    model = GEELogisticRegression("exchangeable").fit(X, y, groups=child)
    seen = []

    def test(fit, X, y, groups):
        seen.append((fit.coef_.ravel(), fit.correlation_params_[0], groups.nunique()))
        return 0.5

    power(model, test, X, y, child, sizes={"id": [2000]} if child.name == "id" else {child.name: [2000]},
          n_simulations=1, random_state=0)  # fmt: skip
    coef, alpha, n_groups = seen[0]
    assert n_groups == 2000
    error = np.sqrt(np.diag(model.vcov_))[1:] / np.sqrt(2000 / 537)
    assert (np.abs(coef - model.coef_.ravel()) < 4 * error).all()
    assert alpha == pytest.approx(model.correlation_params_[0], abs=0.05)


# Stated effects ------------------------------------------------------------------------------------------------------


def test_changed_factors():
    factor = FactorStructure(9, [-1, 0, 1], [(2, True), (1, True)])
    covariance = np.array([[4.0, 1.2, 0], [1.2, 1.0, 0], [0, 0, 9.0]])
    (Lambda,) = changed_factors([factor], [covariance], {(0,): ("sd", 3.0), (2,): ("sd", 0.0)})
    np.testing.assert_allclose(Lambda @ Lambda.T, [[9, 1.8, 0], [1.8, 1, 0], [0, 0, 0]], atol=1e-12)
    assert not np.triu(Lambda, 1).any()
    (Lambda,) = changed_factors([factor], [covariance], {(1, 0): ("cor", -1.0)})
    np.testing.assert_allclose(Lambda @ Lambda.T, [[4, -2, 0], [-2, 1, 0], [0, 0, 9]], atol=1e-7)
    with pytest.raises(ValueError, match="cor is a correlation"):
        changed_factors([factor], [covariance], {(1, 0): ("cor", 1.5)})
    three = FactorStructure(9, [-1, 0, 1], [(3, True)], "f")
    with pytest.raises(ValueError, match="of f contradict each other"):
        pairs = {(1, 0): ("a", 0.9), (2, 0): ("b", 0.9), (2, 1): ("c", -0.9)}
        changed_factors([three], [np.eye(3)], pairs)


def test_studies_have_the_stated_effects():
    """A large study of each mixed model, fitted: it finds what was stated."""
    data = load_sleepstudy(as_frame=True).frame
    model = MixedLinearRegression.from_formula("Reaction ~ Days + (Days | Subject)", data)
    effects = {"intercept": 200.0, "Days": 4.0, "sd_Days|Subject": 3.0, "cor_Days.intercept|Subject": -0.5}
    effects["sigma"] = 9.0
    seen = []

    def test(fit, X, y, groups):
        seen.append(fit)
        return 0.5

    found = power(model, test, data, sizes={"Subject": [1500]}, effects=effects, n_simulations=1, random_state=0)
    (fit,) = seen
    assert fit.n_groups_ == {"Subject": 1500}
    assert fit.intercept_ == pytest.approx(200, abs=3)
    assert fit.coef_[0] == pytest.approx(4, abs=0.3)
    covariance = fit.covariance_["Subject"].to_numpy()
    assert np.sqrt(covariance[1, 1]) == pytest.approx(3, rel=0.06)
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) == pytest.approx(-0.5, abs=0.08)
    assert fit.sigma_ == pytest.approx(9, rel=0.03)
    assert found.parameters[list(effects)].to_dict() == pytest.approx(effects)
    sd = model.conf_int(method="wald").index  # the fit is left as it was
    assert sd.tolist() == ["intercept", "Days"]
    assert model.coef_[0] == pytest.approx(10.467, abs=1e-3)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.LaplaceWarning")
@pytest.mark.parametrize("effects", [{}, {"sd_x1|group": 0.8, "cor_x1.intercept|group": -0.9}])
def test_random_slopes_of_classes(effects):
    """A large study finds the covariance of intercepts and slopes, of the fit or stated; the feature is far from 0."""
    rng, group = np.random.default_rng(0), np.repeat(np.arange(60), 20)
    X = rng.normal(size=(1200, 2)) + [0.0, 1.5]
    eta = X[:, 0] + rng.normal(size=60)[group] + (rng.normal(size=60) - 0.5)[group] * X[:, 1]
    y = rng.random(1200) < 1 / (1 + np.exp(-eta))
    model = MixedLogisticRegression("1 + x1 | group").fit(X, y, groups=group)
    seen = []

    def test(fit, X, y, groups):
        seen.append(fit.covariance_["group"].to_numpy())
        return 0.5

    arguments = dict(effects=effects, sizes={"group": [2000]}, n_simulations=1, random_state=0)
    found = power(model, test, X, y, group, **arguments).parameters
    assert found[list(effects)].to_dict() == pytest.approx(effects)
    sd = found[["sd_intercept|group", "sd_x1|group"]].to_numpy()
    covariance = np.outer(sd, sd)
    covariance[0, 1] = covariance[1, 0] = sd.prod() * found["cor_x1.intercept|group"]
    if not effects:
        np.testing.assert_allclose(covariance, model.covariance_["group"], rtol=1e-9)
    for at in (np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([1.0, 1.5])):
        assert at @ seen[0] @ at == pytest.approx(at @ covariance @ at, rel=0.15)


# Doors and kinds of rows ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def women():
    frame = load_contraception(as_frame=True).frame
    return frame[frame["district"] <= 20].reset_index(drop=True)


def both(model, test, *rows, **arguments):
    """p-values of refits and of whole fits of the same studies."""
    arguments |= {"n_simulations": 3, "random_state": 0}
    quick = power(model, test, *rows, **arguments)
    whole = power(model, lambda fit, X, y, groups: fit.wald_test(test), *rows, **arguments)
    assert quick.p_values.notna().all(axis=None)
    np.testing.assert_allclose(quick.p_values, whole.p_values, rtol=0, atol=1e-6)
    return quick


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_arrays_groups_and_offsets(women):
    X, y = women[["age"]].to_numpy(), women["use"].map({0: "no", 1: "yes"}).to_numpy()
    offset, district = np.linspace(-1, 1, len(y)), women["district"]
    settings = {"positive": "no", "tol": 1e-14}
    model = MixedLogisticRegression(**settings).fit(X, y, groups=district, offset=offset)
    both(model, "x0", X, y, district, offset=offset, sizes={"district": [8, 30]})
    two = pd.DataFrame({"half": np.arange(len(y)) % 7, "district": district})
    crossed = MixedLogisticRegression(**settings).fit(X, y, groups=two)
    both(crossed, "x0", X, y, two[["district", "half"]], sizes={"district": [8, 30]})
    held = np.column_stack([X, district, offset])
    in_X = MixedLogisticRegression(group_features=[1], offset_feature=2, **settings).fit(held, y)
    both(in_X, "x0", held, y, sizes={"x1": [8, 30], "rows_per_group": 10})
    without = GEELogisticRegression(fit_intercept=False)
    with pytest.warns(NoGroupsWarning):
        without.fit(X, y)
    both(without, "x0", X, y, sizes={"rows": [100, 900]})
    before = without.coef_.copy()
    power(without, "x0", X, y, effects={"x0": 0.1}, n_simulations=1)
    np.testing.assert_array_equal(without.coef_, before)


def test_weights_count_rows(women):
    weights = 1.0 + np.arange(len(women)) % 2
    women = women.assign(w=weights)
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women, sample_weight="w", tol=1e-14)
    found = power(model, "age", women, n_simulations=3, random_state=0)
    assert found.p_values.notna().all(axis=None)
    gee = GEELogisticRegression.from_formula("use ~ age", women, groups="district", sample_weight="w")
    both(gee, "age", women, sizes={"rows_per_group": 15})
    with pytest.raises(ValueError, match="no whole numbers"):
        half = women.assign(w=weights / 2)
        model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", half, sample_weight="w")
        power(model, "age", half)


def test_counts(women):
    table = women.groupby(["district", "urban"], as_index=False, observed=True).agg(
        yes=("use", "sum"), n=("use", "size"), age=("age", "mean")
    )
    model = MixedLogisticRegression.from_formula("yes | n ~ age + urban + (1 | district)", table)
    found = power(model, "urban", table, n_simulations=5, random_state=0, sizes={"district": [40]})
    assert found.p_values.notna().all(axis=None)
    with pytest.raises(ValueError, match="needs a row a trial"):
        power(model, lambda fit, X, y, groups: 0.5, table)


def test_rows_left_out_and_aliased_columns(women):
    women = women.assign(double=2 * women["age"])
    women.loc[[3, 9], "age"] = np.nan
    women.loc[5, "district"] = np.nan
    with pytest.warns(AliasedFeaturesWarning):
        model = MixedLogisticRegression.from_formula(
            "use ~ age + double + urban + (1 | district)", women, missing="drop", tol=1e-14
        )
    found = both(model, "age", women, sizes={"district": [12]})
    assert found.parameters["double"] == 0 or np.isnan(found.parameters["double"])
    with pytest.raises(ValueError, match="no standard error for 'double'"):
        power(model, "double", women)
    with pytest.raises(ValueError, match="double is not identified"):
        power(model, "age", women, effects={"double": 1.0})


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_several_factors(women):
    nested = MixedLogisticRegression.from_formula(
        "use ~ age + (1 | district) + (1 | urban:district)", women, tol=1e-14
    )
    both(nested, "age", women, sizes={"district": [30]})
    sizes = {"urban:district": 50, "rows_per_group|urban:district": 8}
    found = power(nested, "age", women, sizes=sizes, n_simulations=2)
    assert found.p_values.notna().all(axis=None)
    with pytest.raises(ValueError, match="made of several columns"):
        power(nested, lambda fit, X, y, groups: 0.5, women, sizes={"urban:district": [50]})


def test_times_and_linear_models_with_precision():
    data = load_sleepstudy(as_frame=True).frame
    gee = GEELinearRegression.from_formula("Reaction ~ Days", data, groups="Subject", time="Days", correlation="ar1")
    both(gee, "Days", data, sizes={"Subject": [9], "rows_per_group": [4, 10]})
    with pytest.raises(ValueError, match="at most 10, the rows of the smallest group"):
        power(gee, "Days", data, sizes={"rows_per_group": 11})
    w = np.linspace(0.5, 2, len(data))
    X, y, subject = data[["Days"]], data["Reaction"], data["Subject"]
    model = MixedLinearRegression(tol=1e-14).fit(X, y, groups=subject, precision_weight=w)
    both(model, "Days", X, y, subject, precision_weight=w, sizes={"Subject": [25]})


def test_fits_that_say_nothing(women):
    separated = women.assign(never=(women["use"] == 1) & (women["age"] > 0))
    with pytest.warns(SeparationWarning):
        model = MixedLogisticRegression.from_formula("use ~ urban + never + (1 | district)", separated)
    with pytest.raises(ValueError, match="separated by.*Or state effects of 'never"):
        power(model, "urban", separated)
    with pytest.warns(ConvergenceWarning):
        model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women, max_iter=1)
    with pytest.raises(ValueError, match="did not converge"):
        power(model, "age", women)
