"""Quantile residuals, influence of clusters, normality of random effects."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.base import clone

from sklmm import (
    GEELogisticRegression,
    MixedLogisticRegression,
    cluster_influence,
    quantile_residuals,
    random_effects_normality,
)
from sklmm.datasets import load_contraception, load_ohio, make_clustered_classification
from sklmm.diagnostics.normality import standardised_effects
from sklmm.diagnostics.residuals import _binomial_cdf
from sklmm.exceptions import NoGroupsWarning, SingularFitWarning
from sklmm.families import LOGIT


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(
        4000, 2, n_groups=200, coef=[0.8, -0.5], covariance=2.0, random_state=8
    )
    return pd.DataFrame(X, columns=["dose", "age"]), y, pd.Series(groups, name="clinic")


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    return MixedLogisticRegression().fit(X, y, groups=groups)


# Quantile residuals ------------------------------------------------------------------------------------------


def test_a_row_lies_on_its_side_of_its_probability(data, model):
    X, y, groups = data
    for effects in ("marginal", "posterior"):
        p = model.predict_proba(X, groups=groups, predict_effects=effects)[:, 1]
        residuals = quantile_residuals(model, X, y, groups, predict_effects=effects, random_state=0)
        assert np.all(residuals[y == 1] >= 1 - p[y == 1]) and np.all(residuals[y == 0] <= 1 - p[y == 0])
        assert residuals.index.equals(X.index)
    wanted = np.where(y == 1, 1 - p / 2, (1 - p) / 2)  # in the middle of its interval, on average
    assert np.mean(residuals - wanted) == pytest.approx(0, abs=4 * np.sqrt(1 / 12 / len(y)))


def test_uniform_where_the_model_is_right(data, model):
    X, y, groups = data
    by_group = quantile_residuals(model, X, y, groups, by="clinic", random_state=0)
    assert list(by_group.index) == sorted(set(groups))
    assert stats.kstest(by_group, "uniform").pvalue > 0.01
    by_tenth = quantile_residuals(model, X, y, groups, by=pd.qcut(X["dose"], 10).cat.codes, random_state=0)
    assert len(by_tenth) == 10 and by_tenth.between(0.001, 0.999).all()


def test_sums_of_groups_show_what_single_rows_hide(data):
    """Without random effects every row has the right probability, but groups differ far too much."""
    X, y, groups = data
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    assert stats.kstest(quantile_residuals(plain, X, y, random_state=0), "uniform").pvalue > 0.01
    by_group = quantile_residuals(plain, X, y, by=groups, random_state=0)
    assert stats.kstest(by_group, "uniform").pvalue < 1e-10
    assert ((by_group < 0.05) | (by_group > 0.95)).mean() > 0.4


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_a_wrong_curve_shows(data):
    X, _, groups = data
    rng = np.random.default_rng(0)
    bent = rng.random(len(X)) < expit(1.5 * X["dose"] ** 2 - 1.5)
    model = MixedLogisticRegression().fit(X, bent, groups=groups)
    tenths = pd.qcut(X["dose"], 10).cat.codes
    by_tenth = quantile_residuals(model, X, bent, groups, by=tenths, random_state=0)
    assert by_tenth[0] > 0.99 and by_tenth[9] > 0.99 and by_tenth[5] < 0.01


def test_seeds_and_labels(data, model):
    X, y, groups = data
    named = np.where(y == 1, "yes", "no")
    again = MixedLogisticRegression().fit(X, named, groups=groups)
    pd.testing.assert_series_equal(
        quantile_residuals(model, X, y, groups, by="clinic", random_state=3),
        quantile_residuals(again, X, named, groups, by="clinic", random_state=3),
    )


def test_marginal_models_have_residuals_of_rows(data):
    X, y, groups = data
    gee = GEELogisticRegression().fit(X, y, groups=groups)
    residuals = quantile_residuals(gee, X, y, random_state=0)
    assert stats.kstest(residuals, "uniform").statistic < 0.05
    with pytest.raises(ValueError, match="does not say how the rows of a group are distributed together"):
        quantile_residuals(gee, X, y, groups, by=groups)


def test_residuals_bad_input(data, model):
    X, y, groups = data
    with pytest.raises(ValueError, match="'ward' is no grouping factor"):
        quantile_residuals(model, X, y, groups, by="ward")
    with pytest.raises(ValueError, match="needs the groups"):
        quantile_residuals(model, X, y, by="clinic")
    with pytest.raises(ValueError, match="labels that fit did not see"):
        quantile_residuals(model, X, y + 1, groups)
    with pytest.raises(ValueError, match="n_simulations must be"):
        quantile_residuals(model, X, y, groups, by="clinic", n_simulations=0)


# Residuals of counts -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def herds():
    """Successes of trials from a mixed model: as they are, as two weighted rows each, and row by row."""
    rng = np.random.default_rng(0)
    herd, period = np.repeat(np.arange(150), 4), np.tile(np.arange(4.0), 150)
    trials = rng.integers(0, 30, herd.size)
    successes = rng.binomial(trials, expit(-1 - 0.3 * period + rng.normal(size=150)[herd]))
    counts = pd.DataFrame({"herd": herd, "period": period})
    counted = pd.concat(
        [counts.assign(y="ill", n=successes), counts.assign(y="healthy", n=trials - successes)], ignore_index=True
    ).sample(frac=1, random_state=0)
    counted["y"] = counted["y"].astype(pd.CategoricalDtype(["healthy", "ill"])).cat.codes
    single = counted.loc[counted.index.repeat(counted["n"])].reset_index(drop=True)
    return counted, single


@pytest.mark.parametrize("door", ["formula", "array"])
def test_residuals_of_counts_are_uniform_where_the_model_is_right(herds, door):
    counted, single = herds
    if door == "formula":
        model = MixedLogisticRegression.from_formula("y ~ period + (1 | herd)", counted, sample_weight="n")
        X, again, options = counted, single, {}
    else:
        model = MixedLogisticRegression(group_features="herd")
        X, again, options = counted[["period", "herd"]], single[["period", "herd"]], {"sample_weight": counted["n"]}
        model.fit(X, counted["y"], **options)
        with pytest.raises(ValueError, match="here are 1,200 rows, as many as it had: pass sample_weight"):
            quantile_residuals(model, X, counted["y"])
    options["random_state"] = 1
    by_herd = quantile_residuals(model, X, counted["y"], by="herd", **options)
    assert len(by_herd) == 150 and stats.kstest(by_herd, "uniform").pvalue > 0.01
    by_count = quantile_residuals(model, X, counted["y"], **options)
    assert len(by_count) == (counted.groupby(["herd", "period"])["n"].sum() > 0).sum()
    assert stats.kstest(by_count, "uniform").pvalue > 0.01
    assert set(by_count.index) <= set(counted.index[counted["n"] > 0])
    posterior = quantile_residuals(model, X, counted["y"], predict_effects="posterior", **options)
    assert len(posterior) == len(by_count) and abs(posterior.mean() - 0.5) < 0.03  # it has seen the outcomes
    period = quantile_residuals(model, X, counted["y"], by=counted["period"].to_numpy(), **options)
    assert period.between(0.001, 0.999).all() and len(period) == 4
    # the same data row by row
    options["sample_weight"] = np.ones(len(single))
    assert len(quantile_residuals(model, again, single["y"], **options)) == len(single)
    singly = quantile_residuals(model, again, single["y"], by="herd", **options)
    assert np.corrcoef(singly, by_herd[singly.index])[0, 1] > 0.99


def test_wrong_counts_show(herds):
    """A curve with a peak at the third period, fitted by a straight line; and herds that differ, as if they did not."""
    _, single = herds
    rng = np.random.default_rng(1)
    peak = 2.0 * (single["period"] == 2) + rng.normal(size=150)[single["herd"]]
    frame = single.assign(y=(rng.random(len(single)) < expit(peak - 1)).astype(int), n=1)
    counted = frame.groupby(["herd", "period", "y"], as_index=False)["n"].sum()
    model = MixedLogisticRegression.from_formula("y ~ period + (1 | herd)", counted, sample_weight="n")
    residuals = quantile_residuals(model, counted, counted["y"], random_state=0)
    mean = residuals.groupby(counted.loc[residuals.index, "period"]).mean()
    assert mean[2] > 0.65 and mean[3] < 0.4
    plain = MixedLogisticRegression.from_formula("y ~ C(period)", counted, sample_weight="n")
    residuals = quantile_residuals(plain, counted, counted["y"], by=counted["herd"].to_numpy(), random_state=0)
    assert stats.kstest(residuals, "uniform").pvalue < 1e-6


def test_counts_against_the_integral():
    """Binomial counts whose logit is normal: their distribution function by adaptive quadrature."""
    k, n = np.array([0, 3, 17, 400, 1]), np.array([1, 9, 20, 1000, 30])
    mean, sd = np.array([0.3, -1.0, 2.0, -0.5, -3.0]), np.array([1.0, 0.2, 3.0, 1.5, 0.0])
    found = _binomial_cdf(k, n, mean, sd, LOGIT)
    for j in range(5):
        for at, value in ((0, k[j] - 1), (1, k[j])):
            if sd[j] == 0:
                expected = stats.binom.cdf(value, n[j], expit(mean[j]))
            else:
                z = np.linspace(-9, 9, 200_001)
                density = stats.norm.pdf(z)
                expected = stats.binom.cdf(value, n[j], expit(mean[j] + sd[j] * z)) @ density / density.sum()
            assert found[at][j] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(_binomial_cdf(k, n, mean, None, LOGIT)[1], stats.binom.cdf(k, n, expit(mean)))


def test_residuals_of_counts_of_marginal_models(herds):
    counted, single = herds
    kept = counted[counted["n"] > 0]
    model = GEELogisticRegression.from_formula("y ~ period", kept, groups="herd", sample_weight="n")
    with pytest.raises(ValueError, match="those which a weight counts have no residuals"):
        quantile_residuals(model, kept, kept["y"])
    assert len(quantile_residuals(model, single, single["y"], sample_weight=np.ones(len(single)))) == len(single)
    with pytest.warns(NoGroupsWarning):
        ungrouped = GEELogisticRegression().fit(kept[["period"]], kept["y"], sample_weight=kept["n"])
    residuals = quantile_residuals(ungrouped, kept[["period"]], kept["y"], sample_weight=kept["n"], random_state=0)
    assert len(residuals) == 4  # one count a period, and their rows are independent


def test_weights_of_residuals(data, model):
    X, y, groups = data
    zero = np.arange(len(y)) % 3 == 0
    weights = np.where(zero, 0.0, 1.0)
    residuals = quantile_residuals(model, X, y, groups, sample_weight=weights, random_state=0)
    np.testing.assert_array_equal(residuals.index, X.index[~zero])
    expected = quantile_residuals(model, X[~zero], y[~zero], groups[~zero], random_state=0)
    pd.testing.assert_series_equal(residuals, expected)
    with pytest.raises(ValueError, match="some sample_weight are no whole numbers"):
        quantile_residuals(model, X, y, groups, sample_weight=weights + 0.5)
    labels = pd.Series(np.where(zero, "none", groups.astype(str)))
    by = quantile_residuals(model, X, y, groups, sample_weight=weights, by=labels, random_state=0)
    assert "none" not in by.index
    twice = quantile_residuals(model, X, y, groups, sample_weight=np.full(len(y), 2), random_state=0)
    p = model.predict_proba(X, groups=groups, predict_effects="marginal")[:, 1]
    assert (twice[y == 1] > 1 - p[y == 1]).all() and (twice[y == 0] < 1 - p[y == 0]).all()


@pytest.mark.parametrize("method", ["average_marginal_effects", "marginal_coefficients"])
def test_averages_count_rows_as_the_fit_did(herds, method):
    counted, single = herds
    model = MixedLogisticRegression.from_formula("y ~ period + I(period**2) + (1 | herd)", counted, sample_weight="n")
    ask = getattr(model, method)
    expected = ask(single, sample_weight=np.ones(len(single)))
    for table in (ask(counted), ask(counted.drop(columns="n"), sample_weight=counted["n"])):
        np.testing.assert_allclose(table.drop(columns="p_value"), expected.drop(columns="p_value"), rtol=1e-9)
    once = ask(counted, sample_weight=np.ones(len(counted)))
    assert abs(once["estimate"].iloc[0] - expected["estimate"].iloc[0]) > 1e-6


# Influence ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def women():
    X, uses, district = load_contraception(return_X_y=True, as_frame=True)
    features = pd.DataFrame({"age": X["age"], "urban": X["urban"] == "Y", "children": X["ch"] == "Y"}, dtype=float)
    return features, uses, district


def _estimates(model):
    return np.r_[model.intercept_, model.coef_[0]]


@pytest.mark.parametrize(
    ("random_effects", "nodes", "close"),
    [("1 | district", 1, 0.015), ("1 + urban | district", 1, 0.04), ("1 | district", 9, 0.015)],
)
def test_changes_are_those_of_refits(women, random_effects, nodes, close):
    X, y, groups = women
    model = MixedLogisticRegression(random_effects, n_quadrature=nodes).fit(X, y, groups=groups)
    influence = cluster_influence(model, X, y, groups)
    assert influence["n_rows"].sum() == len(X)
    changes = []
    for level in influence.index:
        kept = groups != level
        again = MixedLogisticRegression(random_effects, n_quadrature=nodes).fit(X[kept], y[kept], groups=groups[kept])
        changes.append(_estimates(again) - _estimates(model))
    changes, predicted, se = np.array(changes), influence.iloc[:, 2:].to_numpy(), np.sqrt(np.diag(model.vcov_))
    assert np.abs((predicted - changes) / se).sum() < close * np.abs(changes / se).sum()
    distances = np.einsum("ij,jk,ik->i", changes, np.linalg.inv(model.vcov_), changes) / 4
    assert stats.spearmanr(influence["cooks_distance"], distances).statistic > 0.99
    assert influence["cooks_distance"].sum() == pytest.approx(distances.sum(), rel=5 * close)


@pytest.mark.parametrize("random_effects", ["1 | district", "1 + urban | district"])
@pytest.mark.parametrize("nodes", [1, 5])
def test_what_the_fit_keeps_is_the_change_to_first_order(women, random_effects, nodes):
    X, y, groups = women
    model = MixedLogisticRegression(random_effects, n_quadrature=nodes).fit(X, y, groups=groups)
    influence = cluster_influence(model)
    for level in influence["cooks_distance"].nlargest(3).index:
        # the group left out and the group there twice, as two groups: the mean change is the first-order one
        copies = pd.concat([X, X[groups == level]]), pd.concat([y, y[groups == level]])
        both = pd.concat([groups.astype(str), groups[groups == level].astype(str) + " again"])
        more = _estimates(MixedLogisticRegression(random_effects, n_quadrature=nodes).fit(*copies, groups=both))
        kept = groups != level
        less = _estimates(
            MixedLogisticRegression(random_effects, n_quadrature=nodes).fit(X[kept], y[kept], groups=groups[kept])
        )
        change, se = (less - more) / 2, np.sqrt(np.diag(model.vcov_))  # second-order terms cancel
        found = influence.loc[level].iloc[2:].to_numpy()
        assert np.linalg.norm((found - change) / se) < 0.1 * np.linalg.norm(change / se)


@pytest.mark.parametrize("correlation", ["independence", "exchangeable", "ar1", "unstructured"])
def test_changes_of_marginal_models(correlation):
    X, wheeze, child = load_ohio(return_X_y=True, as_frame=True)
    some = child % 4 == 0
    X, wheeze, child = X[some], wheeze[some], child[some]
    time = X["age"]
    model = GEELogisticRegression(correlation).fit(X, wheeze, groups=child, time=time)
    influence = cluster_influence(model)
    se = np.sqrt(np.diag(model.vcov_))
    errors, changes = [], []
    for level in influence["cooks_distance"].nlargest(5).index:
        kept = child != level
        again = GEELogisticRegression(correlation).fit(X[kept], wheeze[kept], groups=child[kept], time=time[kept])
        changes.append((_estimates(again) - _estimates(model)) / se)
        errors.append(influence.loc[level, ["intercept", *X.columns]].to_numpy(dtype=float) / se - changes[-1])
    assert np.linalg.norm(errors) < 0.15 * np.linalg.norm(changes)


def test_an_outlying_cluster_stands_out(data):
    X, y, groups = data
    turned = np.where(groups == 17, (X["dose"] < 0).astype(y.dtype), y)
    for estimator in (MixedLogisticRegression(), GEELogisticRegression()):
        model = estimator.fit(X, turned, groups=groups)
        influence = cluster_influence(model)
        assert influence["cooks_distance"].idxmax() == 17
        assert influence.loc[17, "dose"] > 0  # without it the slope is steeper


def test_aliased_columns_do_not_change(data):
    X, y, groups = data
    twice = X.assign(twice=2 * X["dose"])
    with pytest.warns(UserWarning, match="twice"):
        model = MixedLogisticRegression().fit(twice, y, groups=groups)
    with_it = cluster_influence(model, twice, y, groups)
    assert (with_it["twice"] == 0).all()
    without = cluster_influence(MixedLogisticRegression().fit(X, y, groups=groups), X, y, groups)
    np.testing.assert_allclose(with_it["cooks_distance"], without["cooks_distance"], rtol=1e-5)


def test_singular_fits():
    """Groups that are more alike than chance would make them."""
    groups, y = np.repeat(np.arange(30), 10), np.tile([0, 1], 150)
    X = np.random.default_rng(1).normal(size=(300, 1))
    model = MixedLogisticRegression()
    with pytest.warns(SingularFitWarning):
        model.fit(X, y, groups=groups)
    influence = cluster_influence(model, X, y, groups)
    assert np.isfinite(influence.to_numpy()).all()
    table = random_effects_normality(model)
    assert table["n_groups"].tolist() == [0] and table["p_value"].isna().all()


def test_influence_is_that_of_the_fit_whatever_was_learnt_since(data, model):
    X, y, groups = data
    updated = model.update_groups(X[:40], y[:40], pd.Series(np.repeat([1000, groups.iloc[0]], 20), name="clinic"))
    pd.testing.assert_frame_equal(cluster_influence(updated), cluster_influence(model))


def test_influence_bad_input(data, model):
    X, y, groups = data
    with pytest.raises(ValueError, match="needs the rows of the fit.*pass groups=groups"):
        cluster_influence(model, X, y)
    with pytest.raises(ValueError, match="not the rows of the fit"):
        cluster_influence(model, X, 1 - y, groups)
    with pytest.raises(ValueError, match="leave out the rows"):
        cluster_influence(GEELogisticRegression().fit(X, y, groups=groups), X, y, groups)
    with pytest.raises(ValueError, match="several grouping factors"):
        cluster_influence(MixedLogisticRegression().fit(X, y, groups=np.column_stack([groups, np.arange(len(y)) % 7])))
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="without groups"):
        cluster_influence(plain)


# Normality ---------------------------------------------------------------------------------------------------


@pytest.mark.many_fits
def test_normality_of_random_effects():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(150), 60)
    x = rng.normal(size=groups.size)
    tables = {}
    for name, effects in {"normal": rng.normal(size=150), "skewed": rng.exponential(size=150) * 1.5}.items():
        y = rng.random(groups.size) < expit(x + effects[groups] - effects.mean())
        tables[name] = random_effects_normality(MixedLogisticRegression().fit(x[:, None], y, groups=groups))
    assert tables["normal"].loc[("group", "intercept"), "p_value"] > 0.05
    assert tables["skewed"].loc[("group", "intercept"), "p_value"] < 1e-4
    assert tables["skewed"].loc[("group", "intercept"), "skewness"] > 0.5
    assert tables["normal"].loc[("group", "intercept"), "n_groups"] == 150


@pytest.mark.many_fits
def test_normality_is_that_of_data_which_the_model_makes():
    """Six binary rows a group: their modes are never normal, and the test must not say so of a right model."""
    rng = np.random.default_rng(5)
    groups, X = np.repeat(np.arange(160), 6), rng.normal(size=(960, 1))
    y = rng.random(960) < expit(X[:, 0] + 2 * rng.normal(size=160)[groups])
    first = MixedLogisticRegression(n_threads=1, n_quadrature=9).fit(X, y, groups=groups)
    modes, sd = first.random_effects_["group"]["intercept"], first.random_effects_sd_["group"]["intercept"]
    values = standardised_effects(modes.to_numpy(), sd.to_numpy(), np.sqrt(first.covariance_["group"].iloc[0, 0]))
    assert stats.shapiro(values).pvalue < 0.01
    rejected = {"kept": [], "rows": []}
    for simulated in first.simulate(X, groups=groups, n=8, random_state=0):
        model = clone(first).fit(X, simulated, groups=groups)
        for name, rows in (("kept", ()), ("rows", (X, simulated, groups))):
            p_value = random_effects_normality(model, *rows, n_simulations=19)["p_value"].iloc[0]
            rejected[name].append(p_value <= 0.05)
    assert max(map(sum, rejected.values())) <= 2  # 0.4 expected; 3 of 8 have a probability of 0.006


@pytest.mark.many_fits
def test_normality_of_skewed_effects_of_few_rows():
    rng = np.random.default_rng(6)
    groups, X = np.repeat(np.arange(150), 15), rng.normal(size=(2250, 1))
    y = rng.random(2250) < expit(X[:, 0] + 1.5 * (rng.exponential(size=150) - 1)[groups])
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    for rows in ((), (X, y, groups)):
        assert random_effects_normality(model, *rows, n_simulations=39)["p_value"].iloc[0] < 0.01


@pytest.mark.many_fits
def test_normality_asks_for_rows_where_it_needs_them(data):
    X, y, groups = data
    slopes = MixedLogisticRegression("1 + dose | clinic").fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="random_effects_normality needs the rows of the fit.*pass X=X, y=y, groups="):
        random_effects_normality(slopes)
    few = groups.isin(groups.unique()[:60])
    rows = X[few], y[few], groups[few]
    rows = MixedLogisticRegression("1 + dose | clinic").fit(*rows[:2], groups=rows[2]), *rows
    table, again = (random_effects_normality(*rows, n_simulations=19, random_state=3) for _ in range(2))
    assert list(table.index) == [("clinic", "intercept"), ("clinic", "dose")]
    assert table["p_value"].between(0.05, 1).all()
    pd.testing.assert_frame_equal(table, again)
    both = groups.to_frame().assign(day=np.arange(len(y)) % 25)
    with pytest.warns(SingularFitWarning):
        crossed = MixedLogisticRegression().fit(X.iloc[:1000], y[:1000], groups=both.iloc[:1000])
    with pytest.raises(ValueError, match="needs the rows of the fit"):
        random_effects_normality(crossed)
    table = random_effects_normality(crossed, X.iloc[:1000], y[:1000], both.iloc[:1000], n_simulations=19)
    assert np.isfinite(table.loc[("clinic", "intercept"), "p_value"])
    with pytest.raises(ValueError, match="n_simulations must be an integer >= 19"):
        random_effects_normality(slopes, X, y, groups, n_simulations=5)


def test_normality_is_that_of_the_fit(data, model):
    X, y, groups = data
    updated = model.update_groups(X[:40], y[:40], pd.Series(np.repeat([1000, 2000], 20), name="clinic"))
    with pytest.raises(ValueError, match="has learnt of other groups since its fit"):
        random_effects_normality(updated)
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(
        random_effects_normality(again, n_simulations=19), random_effects_normality(model, n_simulations=19)
    )
    with pytest.warns(NoGroupsWarning):
        assert random_effects_normality(MixedLogisticRegression().fit(X, y)).empty
    # nothing but groups; and rows that are counted
    counts = pd.DataFrame({"y": y, "g": groups}).value_counts().reset_index()
    weighted = MixedLogisticRegression().fit(
        np.empty((len(counts), 0)), counts["y"], groups=counts["g"], sample_weight=counts["count"]
    )
    single = MixedLogisticRegression().fit(np.empty((len(y), 0)), y, groups=groups.rename("g"))
    tables = [random_effects_normality(fit, n_simulations=19) for fit in (weighted, single)]
    np.testing.assert_allclose(*tables, rtol=1e-4)


def test_standardised_effects_have_unit_variance(data, model):
    modes, sd = (table["clinic"]["intercept"].to_numpy() for table in (model.random_effects_, model.random_effects_sd_))
    prior = np.sqrt(model.covariance_["clinic"].iloc[0, 0])
    assert np.var(standardised_effects(modes, sd, prior)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("estimator", [MixedLogisticRegression(), GEELogisticRegression()])
def test_weights_count_rows_in_the_influence_of_clusters(data, estimator):
    X, y, groups = data
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    repeated = np.repeat(np.arange(len(y)), weights)
    weighted = cluster_influence(estimator.fit(X, y, groups=groups, sample_weight=weights))
    rows = cluster_influence(estimator.fit(X.iloc[repeated], y[repeated], groups=groups.iloc[repeated]))
    np.testing.assert_allclose(weighted, rows, rtol=1e-4, atol=1e-7)


def test_marginal_models_have_no_random_effects(data):
    X, y, groups = data
    with pytest.raises(TypeError, match="a GEELogisticRegression has no random effects"):
        random_effects_normality(GEELogisticRegression().fit(X, y, groups=groups))
