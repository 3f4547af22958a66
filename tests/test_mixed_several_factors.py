"""MixedLogisticRegression with several grouping factors: published fits, predictions, updates."""

import copy
import json
import pickle
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import expit, log_expit

from sklmm import MixedLogisticRegression
from sklmm.datasets import load_contraception, load_guimmun, load_insteval, load_verbagg
from sklmm.exceptions import SingularFitWarning

REFERENCE = json.loads(Path(__file__).with_name("reference").joinpath("several_factors.json").read_text())

RANDOM_EFFECTS = {
    "contraception/interaction": "1 | urban:district",
    "contraception/nested": "1 | district/urban",
    "verbagg/id_item": ["1 | id", "1 | item"],
    "verbagg/slope": ["1 + situself | id", "1 | item"],
    "guimmun/mom_comm": ["1 | mom", "1 | comm"],
    "insteval/s_d": ["1 | s", "1 | d"],
    "insteval/s_d_dept": ["1 | s", "1 | d", "1 | dept"],
}


@cache
def frames(name):
    """Numeric features named as in R, y, and the groups."""
    loader = {"contraception": load_contraception, "verbagg": load_verbagg, "guimmun": load_guimmun,
              "insteval": load_insteval}[name]  # fmt: skip
    bunch = loader(as_frame=True)
    parts = []
    for column in bunch.data:
        values = bunch.data[column]
        if column not in bunch.categories:
            parts.append(values.astype(float))
            continue
        for level in bunch.categories[column][1:]:
            parts.append((values == level).astype(float).rename(f"{column}{level}"))
    X, groups = pd.concat(parts, axis=1), pd.DataFrame(bunch.groups)
    if name == "contraception":
        X["age2"] = X["age"] ** 2
        groups = groups.assign(urban=bunch.data["urban"].astype(str))
    return X, bunch.target, groups


@cache
def fitted(name):
    X, y, groups = frames(name.split("/")[0])
    features = REFERENCE[name]["fixed_names"][1:]
    model = MixedLogisticRegression(RANDOM_EFFECTS[name]).fit(X[features], y, groups=groups)
    return model, X[features], y, groups


@pytest.mark.parametrize("name", REFERENCE)
def test_fits_of_glmmtmb(name):
    """As near as the reference is known itself: a gradient below 1e-6."""
    expected = REFERENCE[name]
    model, *_ = fitted(name)
    assert model.converged_ and not model.is_singular_
    assert model.log_likelihood_ == pytest.approx(expected["log_likelihood"], abs=1e-7)
    coef = np.append(model.intercept_, model.coef_)
    assert np.abs((coef - expected["coef"]) / expected["se"]).max() < 1e-5
    np.testing.assert_allclose(np.sqrt(np.diag(model.vcov_)), expected["se"], rtol=5e-6)  # differences of 1e-4 in R
    assert len(model.covariance_) == len(expected["factors"])
    for term, covariance in model.covariance_.items():
        factor = expected["factors"].get(term) or expected["factors"][":".join(term.split(":")[::-1])]
        np.testing.assert_allclose(covariance, factor["cov"], rtol=1e-5, atol=1e-8)
        modes = model.random_effects_[term]
        assert [len(modes)] == factor["n_groups"] == [model.n_groups_[term]]
        np.testing.assert_allclose(modes.sum(), factor["modes_sum"], rtol=0, atol=1e-6 * len(modes))
        np.testing.assert_allclose((modes**2).sum(), factor["modes_sumsq"], rtol=1e-5, atol=1e-6)
        labels = modes.index.astype(str)
        if set(factor["levels"]) <= set(labels):
            shown = modes.set_axis(labels).loc[factor["levels"]]
            np.testing.assert_allclose(shown, factor["modes"], rtol=0, atol=1e-5)


def test_interaction_with_a_feature_is_the_interaction_with_its_labels():
    X, y, groups = frames("contraception")
    by_feature = MixedLogisticRegression("1 | urbanY:district").fit(X, y, groups=groups["district"])
    labels = groups["district"].astype(str) + "/" + groups["urban"]
    by_label = MixedLogisticRegression().fit(X, y, groups=labels)
    assert by_feature.log_likelihood_ == pytest.approx(by_label.log_likelihood_, abs=1e-9)
    assert list(by_feature.n_groups_) == ["urbanY:district"]
    table = by_feature.random_effects_["urbanY:district"]["intercept"]
    assert table["1:35"] == pytest.approx(by_label.random_effects_["group"]["intercept"]["35/Y"], abs=1e-7)


# ---- the doors ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verbagg():
    return fitted("verbagg/slope")


def test_groups_as_columns_and_as_metadata(verbagg):
    model, X, y, groups = verbagg
    joined = X.join(groups)
    by_column = MixedLogisticRegression(RANDOM_EFFECTS["verbagg/slope"], group_features=["id", "item"]).fit(joined, y)
    assert by_column.log_likelihood_ == model.log_likelihood_
    np.testing.assert_array_equal(by_column.predict_proba(joined), model.predict_proba(X, groups=groups))
    swapped = MixedLogisticRegression(["1 | item", "1 + situself | id"]).fit(X, y, groups=groups[["item", "id"]])
    assert swapped.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)
    np.testing.assert_allclose(
        swapped.predict_proba(X, groups=groups), model.predict_proba(X, groups=groups), atol=1e-7
    )


def test_all_factors_by_default():
    X, y, groups = frames("verbagg")
    columns = ["Anger", "GenderM"]
    every = MixedLogisticRegression().fit(X[columns], y, groups=groups)
    assert list(every.random_effects_) == ["id", "item"]
    named = MixedLogisticRegression(["1 | id", "1 | item"]).fit(X[columns], y, groups=groups)
    assert every.log_likelihood_ == named.log_likelihood_


# ---- predictions -------------------------------------------------------------------------------------------------


def dense_posterior(model, X, y, groups):
    """Modes and covariance of all random coefficients of persons and items, from the model's parameters alone; where
    they stand; and the mean and covariance that predictions take."""
    Z, blocks, columns = [], [], {}
    for factor in model._fitted.factors:
        z = np.column_stack([np.ones(len(X)) if c < 0 else X.iloc[:, c] for c in factor.columns])
        for level in factor.levels:
            columns[factor.name, level] = np.arange(sum(a.shape[1] for a in Z), sum(a.shape[1] for a in Z) + z.shape[1])
            Z.append(z * (groups[factor.name] == level).to_numpy()[:, None])
            blocks.append(factor.covariance)
    Z = np.concatenate(Z, axis=1)
    prior = np.zeros((Z.shape[1], Z.shape[1]))
    at = 0
    for block in blocks:
        prior[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    precision = np.linalg.inv(prior)
    fixed = X.to_numpy() @ model.coef_[0] + model.intercept_[0]
    b = np.zeros(Z.shape[1])
    for _ in range(30):
        mu = expit(fixed + Z @ b)
        H = (Z * (mu * (1 - mu))[:, None]).T @ Z + precision
        step = np.linalg.solve(H, Z.T @ (y - mu) - precision @ b)
        b += step
        if np.abs(step).max() < 1e-12:
            break
    Sigma = np.linalg.inv(H)
    # a step of the Gaussian variational approximation: a row's residual and weight are means over its linear predictor
    z = np.linspace(-8, 8, 401)
    density = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    mu = expit((fixed + Z @ b)[:, None] + np.sqrt(np.sum(Z @ Sigma * Z, axis=1))[:, None] * z)
    H = (Z * ((mu * (1 - mu)) @ density)[:, None]).T @ Z + precision
    smoothed = b + np.linalg.solve(H, Z.T @ (y - mu @ density) - precision @ b), np.linalg.inv(H)
    return b, Sigma, columns, smoothed


@pytest.fixture(scope="module")
def small():
    """Forty persons and some items each, so that many pairs never met."""
    X, y, groups = frames("verbagg")
    rng = np.random.default_rng(0)
    keep = (groups["id"] <= 40).to_numpy() & (rng.random(len(X)) < 0.6)
    X, y, groups = X.loc[keep, ["Anger", "situself"]], y[keep], groups[keep]
    model = MixedLogisticRegression(["1 + situself | id", "1 | item"]).fit(X, y, groups=groups)
    return model, X, y, groups, dense_posterior(model, X, y, groups)


def expected_probability(model, posterior, x, known):
    """E expit over the normal linear predictor of one row, by quadrature; unknown factors have their prior."""
    _, _, columns, (b, Sigma) = posterior
    mean, variance = float(x @ model.coef_[0] + model.intercept_[0]), 0.0
    index, weights = [], []
    for factor in model._fitted.factors:
        z = np.array([1.0 if c < 0 else x[c] for c in factor.columns])
        if factor.name not in known:
            variance += z @ factor.covariance @ z
            continue
        index.append(columns[factor.name, known[factor.name]])
        weights.append(z)
    if index:
        index, weights = np.concatenate(index), np.concatenate(weights)
        mean += weights @ b[index]
        variance += weights @ Sigma[np.ix_(index, index)] @ weights
    sd = np.sqrt(variance)

    def density(z):
        return expit(mean + sd * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    return quad(density, -12, 12, epsabs=1e-13)[0]


def test_posterior_predictions_for_any_subset_of_known_factors(small):
    model, X, y, groups, posterior = small
    items = sorted(groups["item"].unique())
    met = set(zip(groups["id"], groups["item"], strict=True))
    rows, labels = [], []
    for person in (1, 17, 40, "nobody", None):
        for item in (*items[:6], "S9", None):
            for situ in (0.0, 1.0):
                rows.append([25.0, situ])
                labels.append([person, item])
    assert any((p, i) not in met for p, i in labels if p in (1, 17, 40) and i in items)
    new = pd.DataFrame(rows, columns=X.columns)
    new_groups = pd.DataFrame(labels, columns=["id", "item"], dtype=object)
    got = model.predict_proba(new, groups=new_groups)[:, 1]
    for row, (person, item), p in zip(np.array(rows), labels, got, strict=True):
        known = {}
        if person in (1, 17, 40):
            known["id"] = person
        if item in items:
            known["item"] = item
        assert p == pytest.approx(expected_probability(model, posterior, row, known), abs=1e-8)


def sampled_probabilities(model, X, y, groups, n_draws=60_000):
    """Predictions of these rows by importance sampling of all random effects from a normal distribution."""
    b, Sigma, columns, (mean, _) = dense_posterior(model, X, y, groups)
    D = np.zeros((b.size, b.size))
    Z = np.zeros((len(X), b.size))
    for factor in model._fitted.factors:
        z = np.column_stack([np.ones(len(X)) if c < 0 else X.iloc[:, c] for c in factor.columns])
        for level in factor.levels:
            index = columns[factor.name, level]
            D[np.ix_(index, index)] = np.linalg.inv(factor.covariance)
            rows = (groups[factor.name] == level).to_numpy()
            Z[np.ix_(rows, index)] = z[rows]
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(n_draws // 2, b.size))
    normals = np.concatenate([normals, -normals])
    draws = mean + 1.15 * normals @ np.linalg.cholesky(Sigma).T
    fixed = X.to_numpy() @ model.coef_[0] + model.intercept_[0]
    eta = fixed + draws @ Z.T
    log_weight = log_expit((2 * y - 1) * eta).sum(axis=1) - 0.5 * np.einsum("na,ab,nb->n", draws, D, draws)
    log_weight += 0.5 * np.sum(normals**2, axis=1)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    assert 1 / np.sum(weight**2) > 5000  # draws that count
    return weight @ expit(eta)


@pytest.mark.parametrize(
    "factors, bound", [(["1 | a", "1 | b"], 3e-3), ("1 | a/b", 3e-3), (["1 + x | a", "1 | b"], 6e-3)]
)
def test_posterior_means_of_brute_force(factors, bound):
    """Within a few thousandths of the true posterior, where a normal at the modes is some hundredths off."""
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 8, 220), rng.integers(0, 5, 220)
    X = pd.DataFrame({"x": rng.normal(size=220)})
    effects = 1.3 * rng.normal(size=8)[a] + np.linspace(-1.5, 1.5, 5)[b] + rng.normal(size=8)[a] * X["x"]
    y = (rng.random(220) < expit(0.5 * X["x"] + effects)).astype(int).to_numpy()
    groups = pd.DataFrame({"a": a, "b": b})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model = MixedLogisticRegression(factors).fit(X, y, groups=groups)
    assert all(np.linalg.eigvalsh(factor.covariance)[0] > 1e-3 for factor in model._fitted.factors)
    labels = groups.assign(**{"a:b": groups["a"].astype(str) + ":" + groups["b"].astype(str)})
    exact = sampled_probabilities(model, X, y, labels)
    found = model.predict_proba(X, groups=groups)[:, 1]
    at_modes = np.abs(model.predict_proba(X, groups=groups, predict_effects="mode")[:, 1] - exact)
    assert np.abs(found - exact).max() < bound and np.abs(found - exact).mean() < 0.15 * at_modes.mean()


def test_covariance_across_factors_matters(small):
    """Persons and items that met are negatively correlated: leaving that out would change predictions."""
    model, X, y, groups, _ = small
    joint = model.predict_proba(X, groups=groups)[:, 1]
    without = copy.copy(model)
    without._fitted = replace(model._fitted, posterior=None)
    apart = without.predict_proba(X, groups=groups)[:, 1]
    assert np.abs(joint - apart).max() > 1e-4


def test_standard_deviations_of_the_modes(small):
    model, X, y, groups, (b, Sigma, columns, _) = small
    for term in ("id", "item"):
        table, sd = model.random_effects_[term], model.random_effects_sd_[term]
        index = np.array([columns[term, level] for level in table.index])
        np.testing.assert_allclose(table, b[index], atol=1e-7)
        np.testing.assert_allclose(sd, np.sqrt(np.diag(Sigma)[index]), atol=1e-8)


def test_other_predictions(small):
    model, X, y, groups, (b, _, columns, _) = small
    row, labels = X.iloc[:1], groups.iloc[:1]
    eta = float(row.to_numpy()[0] @ model.coef_[0] + model.intercept_[0])
    z = np.array([1.0, row["situself"].iloc[0]])
    mode = eta + z @ b[columns["id", labels["id"].iloc[0]]] + b[columns["item", labels["item"].iloc[0]]][0]
    assert model.decision_function(row, groups=labels, predict_effects="mode")[0] == pytest.approx(mode, abs=1e-7)
    assert model.decision_function(row, groups=labels, predict_effects="zero")[0] == pytest.approx(eta, abs=1e-12)
    nobody = pd.DataFrame({"id": ["nobody"], "item": ["nothing"]})
    assert model.predict_proba(row, groups=labels, predict_effects="marginal")[0, 1] == pytest.approx(
        model.predict_proba(row, groups=nobody)[0, 1], abs=1e-14
    )


def nested_data(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    school = rng.integers(0, 20, n)
    room = rng.integers(0, 6, n)
    effects = rng.normal(size=20)[school] + rng.normal(size=120)[school * 6 + room]
    X = pd.DataFrame({"x": rng.normal(size=n)})
    y = (rng.random(n) < expit(0.7 * X["x"] + effects)).astype(int)
    return X, y, pd.DataFrame({"school": school, "class": room})


def test_nested_predictions():
    """New classes of known schools, and classes that turn up in another school, are new classes."""
    X, y, groups = nested_data()
    slash = MixedLogisticRegression("1 | school/class").fit(X, y, groups=groups)
    assert list(slash.n_groups_.items()) == [("school", 20), ("school:class", 120)]
    labels = groups.assign(room=groups["school"] * 6 + groups["class"])[["school", "room"]]
    apart = MixedLogisticRegression(["1 | room", "1 | school"]).fit(X, y, groups=labels)
    assert apart.log_likelihood_ == pytest.approx(slash.log_likelihood_, abs=1e-8)
    np.testing.assert_allclose(slash.predict_proba(X, groups=groups), apart.predict_proba(X, groups=labels), atol=1e-7)
    posterior = dense_posterior(apart, X, y, labels)
    rows = [(3, 18), (3, 40), (3, 999), (99, 18), (99, 999)]  # room 40 belongs to another school
    got = apart.predict_proba(X.iloc[:5], groups=pd.DataFrame(rows, columns=["school", "room"]))[:, 1]
    for x, (school, room), p in zip(X.to_numpy()[:5], rows, got, strict=True):
        known = {"school": school} if school < 20 else {}
        known |= {"room": room} if room < 120 else {}
        # the fit's modes are those before its last step, which is shorter than this
        assert p == pytest.approx(expected_probability(apart, posterior, x, known), abs=1e-6)


def test_summary_says_what_is_nested():
    X, y, groups = nested_data(800)
    assert "20 of school, 120 of class within school" in str(
        MixedLogisticRegression("1 | school/class").fit(X, y, groups=groups).summary()
    )
    room = groups["school"] * 6 + groups["class"]
    labels = groups.assign(room=room, rater=np.arange(800) % 7)[["room", "school", "rater"]]
    text = str(MixedLogisticRegression().fit(X, y, groups=labels).summary())
    assert "120 of room within school, 20 of school, 7 of rater" in text
    rows = str(MixedLogisticRegression(["1 | school", "1 | class"]).fit(X, y, groups=groups).summary())
    assert "within" not in rows


# ---- updates and storage -----------------------------------------------------------------------------------------


def test_update_with_the_training_rows_changes_nothing(small):
    model, X, y, groups, _ = small
    updated = model.update_groups(X, y, groups=groups)
    np.testing.assert_allclose(
        updated.predict_proba(X, groups=groups), model.predict_proba(X, groups=groups), atol=1e-8
    )
    for term in ("id", "item"):
        pd.testing.assert_frame_equal(updated.random_effects_[term], model.random_effects_[term], atol=1e-7)


def test_update_learns_new_levels_and_keeps_the_others(small):
    model, X, y, groups, _ = small
    before = pickle.dumps(model)
    renamed = groups.assign(id=groups["id"] + 1000, item="new " + groups["item"])
    both = model.update_groups(X, y, groups=renamed)
    assert pickle.dumps(model) == before, "the model itself is left as it was"
    assert both.n_groups_ == {"id": 80, "item": 48}
    expected = model.predict_proba(X, groups=groups)
    np.testing.assert_allclose(both.predict_proba(X, groups=groups), expected, atol=1e-8)
    np.testing.assert_allclose(both.predict_proba(X, groups=renamed), expected, atol=1e-8)
    # a new person with an old item: learnt from different rows, so independent
    mixed = groups.assign(id=renamed["id"])
    m, v = [], []
    for f, column in zip(both._fitted.factors, ("id", "item"), strict=True):
        code = f.levels.get_indexer(mixed[column])
        t = f.units.loadings(X.to_numpy())
        m.append(np.einsum("na,na->n", t, f.posterior.mean[code]))
        v.append(np.einsum("na,nab,nb->n", t, f.posterior.cov[code], t))
    mean = X.to_numpy() @ model.coef_[0] + model.intercept_ + sum(m)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = expit(mean[:, None] + np.sqrt(sum(v))[:, None] * nodes) @ weights / weights.sum()
    np.testing.assert_allclose(both.predict_proba(X, groups=mixed)[:, 1], p, atol=1e-9)


def test_update_of_some_levels(small):
    """Known levels that occur are learnt anew from the rows given, all others keep what they had."""
    model, X, y, groups, _ = small
    part = (groups["id"] <= 10).to_numpy()
    updated = model.update_groups(X[part], y[part], groups=groups[part])
    alone = dense_posterior(
        updated, X[part], y[part], groups[part]
    )
    b, _, columns, _ = alone
    for term in ("id", "item"):
        table, old = updated.random_effects_[term], model.random_effects_[term]
        for level in table.index:
            if (groups.loc[part, term] == level).any():
                np.testing.assert_allclose(table.loc[level], b[columns[term, level]], atol=1e-7)
            else:
                np.testing.assert_array_equal(table.loc[level], old.loc[level])
    weights = np.where(part, 1.0, 0.0)
    by_weight = model.update_groups(X, y, groups=groups, sample_weight=weights)
    np.testing.assert_allclose(
        by_weight.predict_proba(X, groups=groups), updated.predict_proba(X, groups=groups), atol=1e-9
    )


def test_a_fitted_model_holds_no_rows():
    """Doubling the rows of the same groups leaves the pickle as it is, nested or crossed."""
    X, y, groups = nested_data(6000)
    for random_effects in ("1 | school/class", ["1 | school", "1 | class"]):
        sizes = []
        for k in (1, 2):
            twice = [pd.concat([a] * k, ignore_index=True) for a in (X, pd.Series(y), groups)]
            model = MixedLogisticRegression(random_effects).fit(twice[0], twice[1], groups=twice[2])
            sizes.append(len(pickle.dumps(model)))
        assert abs(sizes[1] - sizes[0]) < 2000  # a longer history
        assert sizes[0] < 60_000


def test_predictions_of_a_pickled_model(small):
    model, X, y, groups, _ = small
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X, groups=groups), model.predict_proba(X, groups=groups))


# ---- bad input ---------------------------------------------------------------------------------------------------


def test_missing_labels_are_named():
    X, y, groups = nested_data(300)
    broken = groups.astype(object)
    broken.iloc[:4, 1] = None
    with pytest.raises(ValueError, match="school:class.*4"):
        MixedLogisticRegression("1 | school/class").fit(X, y, groups=broken)
    with pytest.raises(ValueError, match="class.*4"):
        MixedLogisticRegression().fit(X, y, groups=broken)


def test_standard_errors_of_nearly_collinear_features():
    """The same model in other columns: errors of a sum and a difference, whose correlation is 1 but for 1e-8."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 60, 1500), rng.integers(0, 12, 1500)
    x, z = rng.normal(size=(2, 1500))
    eta = 0.5 * x + 0.8 * rng.normal(size=60)[a] + 0.8 * rng.normal(size=12)[b]
    y = (rng.random(1500) < expit(eta)).astype(int)
    groups = pd.DataFrame({"a": a, "b": b})
    effects = ["1 | a", "1 | b"]
    apart = MixedLogisticRegression(effects).fit(np.column_stack([x, z]), y, groups=groups)
    together = MixedLogisticRegression(effects).fit(np.column_stack([x, x + 1e-4 * z]), y, groups=groups)
    T = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, -1e4], [0.0, 0.0, 1e4]])  # coefficients of the second from the first's
    expected = T @ apart.vcov_.to_numpy() @ T.T
    errors = np.sqrt(np.diag(expected))
    scale = np.outer(errors, errors)
    np.testing.assert_allclose(together.vcov_ / scale, expected / scale, atol=1e-5)
