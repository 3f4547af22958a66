"""Models of counts after the fit: every method takes the lines, and says what it says of the rows they stand for."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold, cross_val_score

from sklmm import (
    GEELogisticRegression,
    MixedLogisticRegression,
    compare_models,
    expand_counts,
    likelihood_ratio_test,
    quantile_residuals,
)
from sklmm.datasets import load_cbpp, load_contraception
from sklmm.inference.bootstrap import acceleration, seed_sequence

pytest.importorskip("formulaic")
pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning")

COUNTS = "incidence | size ~ period"
MIXED = f"{COUNTS} + (1 | herd)"


@pytest.fixture(scope="module")
def lines():
    frame = load_cbpp(as_frame=True).frame
    return frame[frame["ill"] == 1].drop(columns=["ill", "animals"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def women():
    frame = load_contraception(as_frame=True).frame
    return frame.assign(use=np.where(frame["use"] == 1, "Y", "N"))


@pytest.fixture(scope="module")
def mixed(lines):
    return MixedLogisticRegression.from_formula(MIXED, lines)


@pytest.fixture(scope="module")
def rows(lines):
    """Weighted rows, with the columns of the formula's design."""
    periods = pd.get_dummies(lines["period"], prefix="period", prefix_sep="", drop_first=True, dtype=float)
    periods.columns = [f"period[T.{name[-1]}]" for name in periods.columns]
    return expand_counts(periods, lines["incidence"], lines["size"], lines["herd"])


def written_out(X, y, groups, weights):
    row = np.repeat(np.arange(len(y)), weights.astype(int))
    return X.iloc[row], y[row], groups.iloc[row]


# --- what the summary shows ---------------------------------------------------------------------------------


def shown(model):
    """A summary without what rounding decides, the last step."""
    return [line for line in str(model.summary()).splitlines() if not line.startswith("Converged")]


@pytest.mark.parametrize("correlation", ["exchangeable", "independence", None])
def test_formulas_weighted_rows_and_rows_written_out(lines, rows, correlation):
    """Of marginal models, and of a model without groups (None)."""
    X, y, herd, weights = rows
    if correlation is None:
        by_formula, model, own = MixedLogisticRegression.from_formula(COUNTS, lines), MixedLogisticRegression(), {}
    else:
        model, own = GEELogisticRegression(correlation), {"groups": herd}
        by_formula = GEELogisticRegression.from_formula(COUNTS, lines, groups="herd", correlation=correlation)
    weighted = model.fit(X, y, sample_weight=weights, **own)
    text, table, vcov = shown(weighted), weighted.summary().coefficients, weighted.vcov_
    row = written_out(*rows)
    model.fit(*row[:2], **({"groups": row[2]} if own else {}))
    for other in (by_formula, model):
        assert shown(other) == text
        np.testing.assert_allclose(other.summary().coefficients, table, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(other.vcov_, vcov, rtol=1e-8)
        for name in ("log_likelihood_", "aic_", "bic_", "qic_", "qicu_", "cic_", "dispersion_", "n_obs_"):
            if hasattr(model, name):
                assert getattr(other, name) == pytest.approx(getattr(weighted, name), rel=1e-8)


# --- fits and scores that find the outcome ------------------------------------------------------------------


def test_fit_and_score_find_the_response(women):
    model = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women)
    again = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women.iloc[::2]).fit(women)
    np.testing.assert_array_equal(again.coef_, model.coef_)
    assert model.score(women) == model.score(women, women["use"])
    assert model.score(women) == accuracy_score(women["use"], model.predict(women))
    folds = KFold(3, shuffle=True, random_state=0)
    found = cross_val_score(model, women, cv=folds)
    np.testing.assert_array_equal(found, cross_val_score(model, women, women["use"], cv=folds))
    train, test = next(folds.split(women))
    fold = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women.iloc[train])
    assert found[0] == pytest.approx(accuracy_score(women["use"].iloc[test], fold.predict(women.iloc[test])))


def test_scores_of_counts_weigh_trials(lines, mixed):
    """The share of trials whose outcome is the likelier one of their line."""
    folds, found = KFold(4, shuffle=True, random_state=1), []
    for train, test in folds.split(lines):
        fold, part = MixedLogisticRegression.from_formula(MIXED, lines.iloc[train]), lines.iloc[test]
        likelier = fold.predict_proba(part)[:, 1] > 0.5
        right = np.where(likelier, part["incidence"], part["size"] - part["incidence"])
        found.append(right.sum() / part["size"].sum())
    np.testing.assert_allclose(cross_val_score(mixed, lines, cv=folds), found)
    gee = GEELogisticRegression.from_formula(COUNTS, lines, groups="herd")
    assert gee.score(lines) == pytest.approx(1 - lines["incidence"].sum() / lines["size"].sum())
    w = np.arange(56) % 3
    right = np.where(mixed.predict(lines) == 1, lines["incidence"], lines["size"] - lines["incidence"])
    assert mixed.score(lines, sample_weight=w) == pytest.approx(w @ right / (w @ lines["size"]))


def test_scores_weigh_rows_as_the_formula_says(women):
    data = women.assign(w=np.arange(len(women)) % 3)
    model = GEELogisticRegression.from_formula("use ~ age", data, groups="district", sample_weight="w")
    expected = accuracy_score(data["use"], model.predict(data), sample_weight=data["w"])
    assert model.score(data) == pytest.approx(expected)


def test_scores_leave_out_what_fits_do(women):
    gone = women.assign(age=women["age"].where(np.arange(len(women)) % 50 > 0))
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", gone, missing="drop")
    complete = gone.dropna()
    assert model.score(gone) == accuracy_score(complete["use"], model.predict(complete))


def test_without_an_outcome(women, lines, mixed):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    for method in (model.score, model.update_groups):
        with pytest.raises(ValueError, match="the target y is None: X has no column 'use'"):
            method(women.drop(columns="use"))
    plain = MixedLogisticRegression().fit(women[["age"]], women["use"], groups=women["district"])
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        plain.score(women[["age"]], groups=women["district"])
    with pytest.raises(ValueError, match="X has no column 'incidence | size'"):
        mixed.score(lines.drop(columns="size"))


# --- groups ---------------------------------------------------------------------------------------------------


def test_groups_are_updated_from_lines(lines, mixed, rows):
    by_hand = MixedLogisticRegression().fit(rows[0], rows[1], groups=rows[2], sample_weight=rows[3])
    new = lines.assign(herd=99).iloc[:8]
    line = rows[0].index
    X, y, weights, line = (part[line < 8] for part in (rows[0], rows[1], rows[3], line))
    for w in (None, np.arange(8.0)):
        found = mixed.update_groups(new, sample_weight=w)
        counts = weights if w is None else weights * w[line]
        expected = by_hand.update_groups(X, y, groups=np.full(len(y), 99), sample_weight=counts)
        np.testing.assert_allclose(
            found.random_effects_["herd"].loc[99], expected.random_effects_["herd"].loc[99], rtol=1e-6
        )


def test_groups_are_updated_from_the_response(women):
    model = MixedLogisticRegression.from_formula("use ~ age + (1 | district)", women)
    new = women.iloc[:40].assign(district=99)
    found, given = model.update_groups(new), model.update_groups(new, new["use"])
    np.testing.assert_array_equal(found.predict_proba(new), given.predict_proba(new))
    assert np.abs(found.predict_proba(new) - model.predict_proba(new)).max() > 0.01


# --- the bootstrap ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MixedLogisticRegression, GEELogisticRegression])
def test_lines_are_resampled_whole(lines, kind):
    """Without groups: each resample is the fit to lines drawn with replacement."""
    data = lines.assign(w=1.0 + np.arange(56) % 2)
    model = kind.from_formula(COUNTS, data, sample_weight="w")
    found = model.bootstrap(data, resampling="cluster", n_resamples=5, random_state=3)
    for k, seed in enumerate(seed_sequence(3).spawn(5)):
        drawn = np.random.default_rng(seed).integers(0, 56, 56)
        again = kind.from_formula(COUNTS, data.iloc[drawn], sample_weight="w")
        np.testing.assert_allclose(found.estimates.iloc[k], np.append(again.intercept_, again.coef_), rtol=1e-6)
    table = model.conf_int(method="bootstrap", X=data, resampling="cluster", n_resamples=20, random_state=0)
    assert table.index.tolist() == ["intercept", "period[T.2]", "period[T.3]", "period[T.4]"]
    assert (table["lower"] < table["upper"]).all()


def test_acceleration_is_of_lines(lines):
    """From how the estimates move with the weight of each line."""
    lines, moves, step = lines.iloc[:20], [], 1e-4
    model = MixedLogisticRegression.from_formula(COUNTS, lines)
    found = model.bootstrap(lines, resampling="cluster", n_resamples=2, random_state=0).acceleration
    for line in range(20):
        weights = np.ones(20)
        weights[line] += step
        moved = MixedLogisticRegression.from_formula(COUNTS, lines, sample_weight=weights)
        moves.append((np.append(moved.intercept_, moved.coef_) - np.append(model.intercept_, model.coef_)) / step)
    expected = [acceleration(column, np.ones(20)) for column in np.transpose(moves)]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_groups_of_lines_are_resampled_whole(lines):
    model = GEELogisticRegression.from_formula(COUNTS, lines, groups="herd", correlation="independence")
    found = model.bootstrap(lines, n_resamples=3, random_state=3).estimates
    names = sorted(lines["herd"].unique())
    for k, seed in enumerate(seed_sequence(3).spawn(3)):
        drawn = np.random.default_rng(seed).integers(0, 15, 15)
        parts = [lines[lines["herd"] == names[i]].assign(herd=number) for number, i in enumerate(drawn)]
        again = GEELogisticRegression.from_formula(
            COUNTS, pd.concat(parts), groups="herd", correlation="independence"
        )
        np.testing.assert_allclose(found.iloc[k], np.append(again.intercept_, again.coef_), rtol=1e-6)


# --- simulations, residuals, the event ----------------------------------------------------------------------------


def test_simulations_are_counts(lines, mixed):
    found = mixed.simulate(lines, n=400, random_state=0)
    assert found.shape == (400, 56) and found.dtype.kind == "i"
    assert (found >= 0).all() and (found <= lines["size"].to_numpy()).all()
    p = mixed.predict_proba(lines, predict_effects="marginal")[:, 1]
    error = found.std(axis=0) / 20
    assert (np.abs(found.mean(axis=0) - p * lines["size"]) < 5 * error).all()
    # lines of a herd share its effect: sums of herds vary more than binomial numbers
    zero = mixed.simulate(lines, n=400, random_state=0, predict_effects="zero")
    herd = pd.get_dummies(lines["herd"], dtype=float).to_numpy()
    assert ((found @ herd).var(axis=0) > (zero @ herd).var(axis=0)).mean() > 0.9
    without = lines.drop(columns="incidence")  # trials are enough
    np.testing.assert_array_equal(mixed.simulate(without, random_state=1), mixed.simulate(lines, random_state=1))
    more = lines.assign(size=lines["size"] * 10)
    assert mixed.simulate(more, random_state=0).sum() > 5 * lines["incidence"].sum()
    with pytest.raises(ValueError, match="'size'"):
        mixed.simulate(lines.drop(columns="size"))


def test_the_event_may_be_the_failure(lines, mixed):
    turned = MixedLogisticRegression.from_formula(MIXED, lines, positive=0)
    np.testing.assert_allclose(turned.coef_, -mixed.coef_, rtol=1e-6)
    np.testing.assert_allclose(turned.predict_proba(lines), mixed.predict_proba(lines), rtol=1e-6)
    assert turned.score(lines) == pytest.approx(mixed.score(lines))
    healthy = lines.assign(healthy=lines["size"] - lines["incidence"])
    other = MixedLogisticRegression.from_formula("healthy | size ~ period + (1 | herd)", healthy)
    settings = dict(n=50, random_state=0, predict_effects="zero")
    drawn = turned.simulate(lines, **settings)
    np.testing.assert_array_equal(lines["size"].to_numpy() - drawn, other.simulate(healthy, **settings))
    for effects in ("marginal", "posterior"):
        found = quantile_residuals(turned, lines, predict_effects=effects, random_state=0)
        expected = quantile_residuals(other, healthy, predict_effects=effects, random_state=0)
        np.testing.assert_allclose(found, expected, atol=1e-6)


# --- comparisons ----------------------------------------------------------------------------------------------------


def test_models_of_lines_and_of_rows_are_compared(lines, mixed, rows):
    X, y, herd, weights = rows
    smaller = MixedLogisticRegression.from_formula("incidence | size ~ 1 + (1 | herd)", lines)
    by_hand = MixedLogisticRegression().fit(X, y, groups=herd, sample_weight=weights)
    expected = likelihood_ratio_test(
        MixedLogisticRegression().fit(X.iloc[:, :0], y, groups=herd, sample_weight=weights), by_hand
    )
    for test in (likelihood_ratio_test(smaller, mixed), likelihood_ratio_test(smaller, by_hand)):
        assert test.statistic == pytest.approx(expected.statistic, rel=1e-6) and test.df == 3
    table = compare_models({"periods": mixed, "none": smaller, "by hand": by_hand})
    assert table.loc["periods", "aic"] == pytest.approx(table.loc["by hand", "aic"], rel=1e-10)
    other = lines.assign(incidence=lines["incidence"].to_numpy()[::-1].clip(max=lines["size"]))
    elsewhere = MixedLogisticRegression.from_formula("incidence | size ~ 1 + (1 | herd)", other)
    with pytest.raises(ValueError, match="same rows"):
        likelihood_ratio_test(elsewhere, mixed)
    gees = {name: GEELogisticRegression.from_formula(COUNTS, lines, groups="herd", correlation=name)
            for name in ("independence", "exchangeable")}  # fmt: skip
    assert np.isfinite(compare_models(gees)["qic"]).all()
