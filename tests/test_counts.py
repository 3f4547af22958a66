"""Successes of trials: two weighted rows a line, made by a function or by a formula."""

import json

import numpy as np
import pandas as pd
import pytest
from reference_data import REFERENCE_DIR, reference
from scipy.special import gammaln

from sklmm import (
    GEELogisticRegression,
    MixedLogisticRegression,
    approximate_leave_group_out,
    cluster_influence,
    expand_counts,
    quantile_residuals,
)
from sklmm.datasets import load_cbpp, load_contraception
from sklmm.design.counts import rows_of_counts
from sklmm.design.formula import FormulaRecipe


@pytest.fixture(scope="module")
def lines():
    """The 56 lines of counts."""
    frame = load_cbpp(as_frame=True).frame
    return frame[frame["ill"] == 1].drop(columns=["ill", "animals"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def records():
    return json.loads((REFERENCE_DIR / "offsets_counts.json").read_text())


def numbers(model):
    """Every number that a summary shows."""
    return np.concatenate([
        model.summary().coefficients.to_numpy(dtype=float).ravel(),
        *(table.to_numpy().ravel() for table in getattr(model, "covariance_", {}).values()),
        [getattr(model, name, 0.0) for name in ("n_obs_", "log_likelihood_", "aic_", "bic_")],
    ])  # fmt: skip


def log_choose(successes, trials):
    return float(np.sum(gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)))


# ---- the rows ------------------------------------------------------------------------------------------------------


def test_lines_become_weighted_rows():
    lines = np.array([[1.0], [2.0], [3.0], [4.0]])
    X, y, groups, weights = expand_counts(lines, [1, 0, 3, 0], [3, 2, 3, 0], list("abcd"))
    np.testing.assert_array_equal(X.ravel(), [1, 1, 2, 3])
    np.testing.assert_array_equal(y, [0, 1, 0, 1])
    np.testing.assert_array_equal(weights, [2.0, 1.0, 2.0, 3.0])
    assert groups.tolist() == ["a", "a", "b", "c"] and weights.dtype == np.float64 and y.dtype.kind == "i"
    assert expand_counts([[1.0]], [1], [1])[2] is None


def test_frames_keep_what_they_are():
    X = pd.DataFrame(
        {"x": np.float32([1, 2]), "f": pd.Categorical(["b", "a"], categories=["b", "a", "c"]), "s": ["u", "v"]},
        index=["first", "second"],
    )
    groups = pd.DataFrame({"g": [1, 2], "h": pd.Categorical(["p", "q"])}, index=X.index)
    rows, y, both, weights = expand_counts(X, pd.Series([1, 2]), pd.Series([4, 2]), groups)
    assert rows.index.tolist() == ["first", "first", "second"]
    assert (rows.dtypes == X.dtypes).all() and (both.dtypes == groups.dtypes).all()
    assert rows["f"].cat.categories.tolist() == ["b", "a", "c"]
    assert y.tolist() == [0, 1, 1] and weights.tolist() == [3.0, 1.0, 2.0] and both["g"].tolist() == [1, 1, 2]
    named = expand_counts(X, [1, 2], [4, 2], groups["h"])[2]
    assert named.name == "h" and isinstance(named.dtype, pd.CategoricalDtype)


def test_frames_of_polars():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"x": [1.0, 2.0], "s": ["u", "v"]})
    rows, _, groups, _ = expand_counts(X, polars.Series([1, 2]), polars.Series([4, 2]), polars.Series("g", ["p", "q"]))
    assert rows["s"].to_list() == ["u", "u", "v"] and groups.to_list() == ["p", "p", "q"]
    lines = X.with_columns(polars.Series("k", [1, 2]), polars.Series("n", [4, 2]))
    _, found = FormulaRecipe("k | n ~ x").rows(lines)
    assert found.X["x"].tolist() == [1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("successes", "trials", "message"),
    [
        ([1, 5, 1], [3, 3, 3], "successes are more than trials in line 1: 5 of 3"),
        ([1, -1, -2], [3, 3, 3], r"successes are negative in 2 lines \(first: line 1\): -1"),
        ([1, 1, 0.5], [3, 3, 3], "successes are no whole numbers in line 2: 0.5.*multiply them by the trials"),
        ([1, 1, 1], [3, np.nan, 3], "trials are missing in line 1"),
        ([1, 1, None], [3, 3, 3], "successes are missing in line 2"),
        ([1, 1, 1], [3, np.inf, 3], "trials are infinite in line 1"),
        ([1, 1], [3, 3, 3], "successes must have a number for each of the 3 lines, but has 2"),
        (["a", "b", "c"], [3, 3, 3], "successes must be numbers, but hold 'a'"),
        ([0, 0, 0], [0, 0, 0], "there are no trials"),
    ],
)
def test_what_is_no_count(successes, trials, message):
    with pytest.raises(ValueError, match=message):
        expand_counts(np.zeros((3, 1)), successes, trials)


def test_groups_of_another_length():
    with pytest.raises(ValueError, match="groups has 2 rows, but X has 3"):
        expand_counts(np.zeros((3, 1)), [1, 1, 1], [2, 2, 2], [1, 2])


def test_whole_numbers_up_to_rounding():
    shares, trials = np.array([0.1, 0.7, 0.3]), np.array([30, 10, 90])
    *_, weights = expand_counts(np.zeros((3, 1)), shares * trials, trials)
    np.testing.assert_array_equal(weights, [27.0, 3.0, 3.0, 7.0, 63.0, 27.0])


def test_empty_rows_may_stay():
    line, y, weights = rows_of_counts(np.array([2, 0]), np.array([0, 3]), empty=True)
    assert line.tolist() == [0, 0, 1, 1] and y.tolist() == [0, 1, 0, 1] and weights.tolist() == [2, 0, 0, 3]


# ---- fits ------------------------------------------------------------------------------------------------------------


def _ways(lines, random_effects="1 | herd", **parameters):
    """The same model from a formula of each kind, from expanded counts, and from rows written out."""
    formulas = ["incidence | size", "cbind(incidence, size - incidence)", "cbind(`incidence`, healthy)"]
    data = lines.assign(healthy=lines["size"] - lines["incidence"])
    for left in formulas:
        yield MixedLogisticRegression.from_formula(f"{left} ~ period + ({random_effects})", data, **parameters)
    periods = pd.get_dummies(lines["period"], prefix="period", prefix_sep="", drop_first=True, dtype=float)
    periods.columns = [f"period[T.{name[-1]}]" for name in periods.columns]
    X, y, herd, weights = expand_counts(periods, lines["incidence"], lines["size"], lines["herd"])
    model = MixedLogisticRegression(random_effects, **parameters)
    yield model.fit(X, y, groups=herd, sample_weight=weights)
    animal = np.repeat(np.arange(len(y)), weights.astype(int))
    model = MixedLogisticRegression(random_effects, **parameters)
    yield model.fit(X.iloc[animal], y[animal], groups=herd.iloc[animal])


@pytest.mark.parametrize("nodes", [1, 15])
def test_two_weighted_rows_rows_written_out_and_formulas_agree(lines, nodes):
    first, *others = _ways(lines, n_quadrature=nodes)
    assert first.n_obs_ == lines["size"].sum()
    for other in others:
        np.testing.assert_allclose(numbers(other), numbers(first), rtol=1e-8, atol=1e-8)


def test_cbpp_as_others_fit_it(lines):
    expected = reference("cbpp", "main/glmmTMB_laplace")
    model = MixedLogisticRegression.from_formula("cbind(incidence, size - incidence) ~ period + (1 | herd)", lines)
    assert model.log_likelihood_ == pytest.approx(expected["log_likelihood"], abs=1e-6)
    found = np.append(model.intercept_, model.coef_[0])
    np.testing.assert_allclose((found - expected["coef"]) / expected["se"], 0.0, atol=1e-4)
    np.testing.assert_allclose(np.sqrt(np.diag(model.vcov_)), expected["se"], rtol=1e-4)


def test_cells_of_contraception_as_others_fit_them(records):
    """Cells, and the rows that they count: one model, whose log-likelihoods differ by binomial coefficients."""
    women = load_contraception(as_frame=True).frame
    cells = women.groupby(["district", "urban", "ch"], observed=True)["use"].agg(uses="sum", women="size").reset_index()
    for name, formula, data in (
        ("counts/contraception_cells/glmmTMB_laplace_counts", "cbind(uses, women - uses) ~ urban + ch", cells),
        ("counts/contraception_rows/glmmTMB_laplace_rows", "use ~ urban + ch", women),
    ):
        expected = records[name]
        model = MixedLogisticRegression.from_formula(f"{formula} + (1 | district)", data)
        choose = 0.0 if data is women else log_choose(cells["uses"], cells["women"])
        assert choose == pytest.approx(expected.get("sum_log_choose", 0.0), abs=1e-8)
        assert model.log_likelihood_ + choose == pytest.approx(expected["log_likelihood"], abs=1e-6)
        found = np.append(model.intercept_, model.coef_[0])
        np.testing.assert_allclose((found - expected["coef"]) / expected["se"], 0.0, atol=1e-4)
        np.testing.assert_allclose(np.sqrt(np.diag(model.vcov_)), expected["se"], rtol=1e-4)
        sd = np.sqrt(model.covariance_["district"].iloc[0, 0])
        assert sd == pytest.approx(expected["sd"][0], rel=1e-5)
        first = model.predict_proba(data.head(10), predict_effects="zero")[:, 1]
        np.testing.assert_allclose(first, expected["population_first10"], rtol=1e-5)


def test_marginal_models_of_counts(lines, records):
    """Under independence as geepack's of proportions."""
    expected = records["gee/cbpp_counts/geeglm/independence/scale_fix_FALSE"]
    model = GEELogisticRegression.from_formula(
        "incidence | size ~ period", lines, groups="herd", correlation="independence", ddof_correction=False
    )
    np.testing.assert_allclose(np.append(model.intercept_, model.coef_[0]), expected["coef"], rtol=1e-7)
    np.testing.assert_allclose(model.vcov_, expected["vcov_robust"], rtol=1e-6)


# ---- formulas of counts ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(lines):
    return MixedLogisticRegression.from_formula("incidence | size ~ period + (1 | herd)", lines)


def test_predictions_have_a_row_a_line(model, lines):
    found = model.predict_proba(lines)
    assert found.shape == (len(lines), 2)
    without = lines[["period", "herd"]]  # new lines have no counts
    np.testing.assert_array_equal(model.predict_proba(without), found)
    assert model.classes_.tolist() == [0, 1]


def test_rows_of_the_fit_are_found_again(model, lines):
    """Methods that see the rows of the fit again take the lines."""
    X, y, _, weights, _ = model._recipe.rows_of_fit(model._fitted.formula, lines, None, None, None, None)
    assert weights.sum() == lines["size"].sum() and weights @ y == lines["incidence"].sum()
    assert X["period"].dtype == lines["period"].dtype
    by_hand = list(_ways(lines))[3]
    rows = expand_counts(lines, lines["incidence"], lines["size"])
    X = pd.get_dummies(rows[0]["period"], drop_first=True, dtype=float).set_axis(by_hand.feature_names_in_, axis=1)
    arguments = dict(X=X, y=rows[1], groups=rows[0]["herd"], sample_weight=rows[3])
    found = model.conf_int(method="profile", X=lines)
    np.testing.assert_allclose(found, by_hand.conf_int(method="profile", **arguments), rtol=1e-6)
    found = model.bootstrap(lines, n_resamples=4, random_state=0).estimates
    expected = by_hand.bootstrap(**arguments, n_resamples=4, random_state=0).estimates
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_averages_over_lines_weigh_trials(model, lines):
    X, _, _, weights, _ = model._recipe.rows_of_fit(model._fitted.formula, lines, None, None, None, None)
    rows = X.drop(columns=["incidence", "size"])
    expected = model.average_marginal_effects(rows, sample_weight=weights)
    np.testing.assert_allclose(model.average_marginal_effects(lines), expected, rtol=1e-12)
    expected = model.marginal_coefficients(rows, sample_weight=weights)
    np.testing.assert_allclose(model.marginal_coefficients(lines), expected, rtol=1e-12)


def test_weights_of_lines_multiply(lines):
    twice = MixedLogisticRegression.from_formula(
        "incidence | size ~ period + (1 | herd)", lines.assign(w=2.0), sample_weight="w"
    )
    doubled = lines.assign(incidence=2 * lines["incidence"], size=2 * lines["size"])
    once = MixedLogisticRegression.from_formula("incidence | size ~ period + (1 | herd)", doubled)
    np.testing.assert_allclose(numbers(twice), numbers(once), rtol=1e-10)


def test_missing_counts(lines):
    gone = lines.assign(incidence=lines["incidence"].astype(float).where(lines.index != 3))
    with pytest.raises(ValueError, match=r"1 of 56 rows have missing values, in 'incidence' \(1\)"):
        FormulaRecipe("incidence | size ~ period").rows(gone)
    recipe = FormulaRecipe("incidence | size ~ period", missing="drop")
    design, rows = recipe.rows(gone)
    assert design.n_dropped == 1 and 3 not in rows.line and set(rows.line) == set(range(56)) - {3}
    again = recipe.rows_of_fit(design, gone, None, None, None, None)
    np.testing.assert_array_equal(again[3], rows.sample_weight)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("incidence | siz ~ period", "names 'siz', which is no column of the data; did you mean 'size'"),
        ("size | incidence ~ period", "size are more than incidence in"),
        ("cbind(incidence, size, herd) ~ period", r"written 'successes \| trials ~ ...'"),
        ("incidence / size ~ period", r"written 'successes \| trials ~ ...'"),
        ("incidence | ~ period", r"written 'successes \| trials ~ ...'"),
        ("period | size ~ herd", "'period' must be one number for each row"),
        ("incidence | size / 2 ~ period", "size / 2 are no whole numbers in"),
    ],
)
def test_formulas_that_hold_no_counts(lines, formula, message):
    with pytest.raises(ValueError, match=message):
        FormulaRecipe(formula).rows(lines)


def test_an_outcome_beside_counts(lines):
    with pytest.raises(ValueError, match="finds its counts, 'incidence | size', in the data: leave out y"):
        FormulaRecipe("incidence | size ~ period").rows(lines, np.zeros(len(lines)))


def test_a_dot_leaves_the_counts_out(lines):
    design, _ = FormulaRecipe("cbind(incidence, size - incidence) ~ .", groups="herd").rows(lines)
    assert design.variable_names == ["period"] and design.response_names == ["incidence", "size"]


def test_odd_names_of_counts(lines):
    odd = lines.rename(columns={"incidence": "ill cows", "size": "class"})
    _, rows = FormulaRecipe("`ill cows` | `class` ~ period").rows(odd)
    assert rows.sample_weight.sum() == lines["size"].sum()


# ---- outcomes that are no counts ---------------------------------------------------------------------------------


def test_messages_name_the_way():
    way = r"sklmm.expand_counts\(X, successes, trials, groups\).*'successes \| trials"
    for y in (np.arange(6), np.linspace(0.1, 0.9, 6)):
        with pytest.raises(ValueError, match=way):
            MixedLogisticRegression().fit(np.zeros((6, 1)), y, groups=[1, 1, 2, 2, 3, 3])


def test_an_ordered_outcome_has_an_event(lines):
    health = pd.Categorical(["well", "ill"] * 28, categories=["unknown", "ill", "well"], ordered=True)
    design, _ = FormulaRecipe("health ~ period").rows(lines.assign(health=health))
    assert design.positive == "well"
    turned = pd.Categorical(health, categories=["well", "ill"], ordered=True)
    assert FormulaRecipe("health ~ period").rows(lines.assign(health=turned))[0].positive == "ill"
    plain = lines.assign(health=np.asarray(health))
    assert FormulaRecipe("health ~ period").rows(plain)[0].positive is None


# ---- residuals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effects", ["marginal", "posterior"])
def test_a_line_has_a_residual(model, lines, effects):
    """As with the rows of the line alone, where no other line has its features and its herd."""
    labelled = lines.set_index(np.arange(100, 156))
    settings = dict(predict_effects=effects, random_state=0)
    found = quantile_residuals(model, labelled, **settings)
    assert found.index.tolist() == labelled.index.tolist() and found.between(0, 1).all()
    X, y, _, weights = expand_counts(labelled, lines["incidence"], lines["size"])
    alike = quantile_residuals(model, X, y, sample_weight=weights, **settings)
    np.testing.assert_allclose(found, alike, rtol=1e-12)
    half = pd.concat([labelled.assign(size=labelled["size"] + 2), labelled])
    assert len(quantile_residuals(model, half, **settings)) == 112  # lines that are alike stay apart


def test_residuals_of_herds(model, lines):
    by_herd = dict(by="herd", n_simulations=50, random_state=0)
    found = quantile_residuals(model, lines, **by_herd)
    assert found.size == 15 and found.between(0, 1).all()
    doubled = quantile_residuals(model, lines, sample_weight=np.full(56, 2), **by_herd)
    assert (found != doubled).any()


def test_groups_left_out_line_by_line(model, lines):
    """Probabilities of each line, from the rows of the others."""
    found = approximate_leave_group_out(model, lines)
    X, y, _, weights = expand_counts(lines.drop(columns=["incidence", "size"]), lines["incidence"], lines["size"])
    expected = approximate_leave_group_out(model, X, y, sample_weight=weights)
    np.testing.assert_allclose(found.coefficients, expected.coefficients, rtol=1e-10)
    assert found.probabilities.shape == (56, 2)
    np.testing.assert_allclose(found.probabilities[X.index], expected.probabilities, rtol=1e-10)
    np.testing.assert_allclose(
        cluster_influence(model, lines), cluster_influence(model, X, y, sample_weight=weights), rtol=1e-8, atol=1e-12
    )
