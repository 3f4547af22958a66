"""accuracy_report with offsets, counts of successes, other links and events: as the same fits by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklmm import GEELogisticRegression, MixedLogisticRegression, expand_counts
from sklmm.accuracy import accuracy_report
from sklmm.accuracy.baselines import resolve_estimators
from sklmm.accuracy.scenarios import SCENARIOS
from sklmm.accuracy.unpooled import GroupDummiesClassifier, PooledClassifier, SeparateClassifier
from sklmm.datasets import load_cbpp
from sklmm.exceptions import FewClustersWarning

FAST = {"metrics": "log loss", "n_resamples": 2, "random_state": 0}
NAMES = ["mixed", "mixed, u = 0", "gee", "pooled", "dummies", "separate"]

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.FewClustersWarning")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 15)
    table = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    exposure = rng.normal(-1.0, 1.5, 300)
    y = rng.random(300) < expit(table["a"] - 0.5 * table["b"] + rng.normal(size=20)[groups] + exposure)
    return table, y.astype(int), groups, exposure


@pytest.fixture(scope="module")
def lines():
    frame = load_cbpp(as_frame=True).frame
    return frame[frame["ill"] == 1].drop(columns=["ill", "animals"]).reset_index(drop=True)


# --- offsets of baselines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [PooledClassifier(), SeparateClassifier(), GroupDummiesClassifier()], ids=str)
def test_baselines_have_offsets(rows, model):
    """The score vanishes beside the offset, less what priors pull; a constant one is the intercept's affair."""
    X, y, groups, offset = rows
    given = [] if isinstance(model, PooledClassifier) else [groups]
    plain = clone(model).fit(X, y, *given)
    moved = clone(model).fit(X, y, *given, offset=np.full(300, 30.0))
    expected = plain.predict_proba(X, *given)
    np.testing.assert_allclose(moved.predict_proba(X, *given, offset=np.full(300, 30.0)), expected, atol=1e-7)
    found = clone(model).fit(X, y, *given, offset=offset)
    p = found.predict_proba(X, *given, offset=offset)[:, 1]
    np.testing.assert_array_equal(found.predict(X, *given, offset=offset), (p > 0.5).astype(int))
    rest = y - p
    if isinstance(model, PooledClassifier):
        np.testing.assert_allclose(np.column_stack([np.ones(300), X]).T @ rest, 0.0, atol=1e-3)
    elif isinstance(model, GroupDummiesClassifier):
        effects, pull = found._effects["group"], np.bincount(groups, rest)
        np.testing.assert_allclose(pull, effects / 10.0**2, atol=1e-6)
        np.testing.assert_allclose(X.T @ rest, 0.0, atol=1e-3)


def test_separate_models_with_offsets_are_posterior_modes(rows):
    X, y, groups, offset = rows
    model = SeparateClassifier(slope_sd=1.5, intercept_sd=4.0).fit(X, y, groups, offset=offset)
    Z = ((X - X.mean()) / X.std(ddof=0)).to_numpy()

    def loss(theta, rows, center=0.0, intercept=0.0, slopes=0.0):
        eta = theta[0] + Z[rows] @ theta[1:] + offset[rows]
        prior = intercept * (theta[0] - center) ** 2 + slopes * (theta[1:] ** 2).sum()
        return np.logaddexp(0, eta).sum() - y[rows] @ eta + prior / 2

    everyone = np.arange(300)
    pooled = minimize(loss, np.zeros(3), args=(everyone,), options={"gtol": 1e-8}).x
    for group in (0, 7):
        own = np.flatnonzero(groups == group)
        theta = minimize(loss, np.zeros(3), args=(own, pooled[0], 4.0**-2, 1.5**-2), options={"gtol": 1e-8}).x
        found = model.predict_proba(X.iloc[own], groups[own], offset[own])[:, 1]
        np.testing.assert_allclose(found, expit(theta[0] + Z[own] @ theta[1:] + offset[own]), atol=1e-5)
    found = model.predict_proba(X, None, offset)[:, 1]
    np.testing.assert_allclose(found, expit(pooled[0] + Z @ pooled[1:] + offset), atol=1e-5)


@pytest.mark.parametrize("model", [PooledClassifier(), SeparateClassifier(), GroupDummiesClassifier()], ids=str)
def test_offsets_far_apart(rows, model):
    """Rows with linear predictors near -40 and 40 beside others."""
    X, y, groups, _ = rows
    far = np.where(y == 1, 40.0, -40.0) * (np.arange(300) % 3 == 0)
    given = [] if isinstance(model, PooledClassifier) else [groups]
    p = clone(model).fit(X, y, *given, offset=far).predict_proba(X, *given, offset=far)
    assert np.isfinite(p).all()
    near = far == 0
    alone = clone(model).fit(X[near], y[near], *(labels[near] for labels in given))
    if isinstance(model, PooledClassifier):  # those rows say nothing
        np.testing.assert_allclose(p[near], alone.predict_proba(X[near]), atol=1e-5)


# --- offsets in a report ------------------------------------------------------------------------------------


def by_row(report, estimator, unit="row"):
    table = report.predictions.query("estimator == @estimator").set_index(unit)
    return table["probability"].sort_index()


@pytest.fixture(scope="module")
def report(rows):
    X, y, groups, offset = rows
    return accuracy_report(NAMES, X, y, groups=groups, offset=offset, scenarios="new groups", cv=2, **FAST)


def test_named_estimators_get_the_offset(rows, report):
    X, y, groups, offset = rows
    fold = report.predictions.query("estimator == 'mixed' and fold == 1")["row"].to_numpy()
    train = np.setdiff1d(np.arange(300), fold)
    models = {
        "mixed": MixedLogisticRegression(),
        "mixed, u = 0": MixedLogisticRegression(predict_effects="zero"),
        "gee": GEELogisticRegression(cov_type="naive"),
        "pooled": PooledClassifier(),
        "dummies": GroupDummiesClassifier(),
        "separate": SeparateClassifier(),
    }
    for name, model in models.items():
        known = {} if name == "pooled" else {"groups": groups[train]}
        model.fit(X.iloc[train], y[train], **known, offset=offset[train])
        given = {"groups": groups[fold]} if known else {}
        expected = model.predict_proba(X.iloc[fold], **given, offset=offset[fold])[:, 1]
        np.testing.assert_allclose(by_row(report, name).loc[fold], expected, rtol=1e-8, err_msg=name)


def test_a_column_of_x_is_the_offset(rows, report):
    X, y, groups, offset = rows
    table = X.assign(log_size=offset, g=groups)
    found = accuracy_report(
        NAMES, table, y, group_features="g", offset_feature="log_size", scenarios="new groups", cv=2, **FAST
    )
    assert (found.predictions["probability"] == report.predictions["probability"]).all()
    as_array = accuracy_report(
        "pooled", table.to_numpy(), y, group_features=3, offset_feature=2, scenarios="new groups", cv=2, **FAST
    )
    np.testing.assert_array_equal(by_row(as_array, "pooled"), by_row(report, "pooled"))


class Recorder(ClassifierMixin, BaseEstimator):
    """Remembers what it saw."""

    seen = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.seen.append(list(X.columns))
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_others_see_the_column_or_nothing(rows):
    X, y, groups, offset = rows
    table = X.assign(log_size=offset, g=groups)
    settings = dict(scenarios="new groups", cv=2, **FAST)
    Recorder.seen.clear()
    accuracy_report(Recorder(), table, y, group_features="g", offset_feature="log_size", **settings)
    accuracy_report(Recorder(), X, y, groups=groups, offset=offset, **settings)
    accuracy_report(Recorder(), X.assign(log_size=offset), y, groups=groups, offset_feature="log_size", **settings)
    assert Recorder.seen[::2] == [["a", "b", "log_size", "g"], ["a", "b"], ["a", "b", "log_size"]]


def test_whoever_takes_an_offset_is_handed_it(rows, report):
    X, y, groups, offset = rows
    table = X.assign(log_size=offset, g=groups)
    estimators = {
        "by metadata": MixedLogisticRegression(),
        "last step": make_pipeline(StandardScaler(), MixedLogisticRegression()),
        "own column": MixedLogisticRegression(offset_feature="log_size"),
        "own groups": MixedLogisticRegression(group_features="g"),
        "both": MixedLogisticRegression(group_features="g", offset_feature="log_size"),
        "formula": MixedLogisticRegression.from_formula("y ~ a + b + offset(log_size) + (1 | g)", table.assign(y=y)),
    }
    settings = dict(group_features="g", offset_feature="log_size", scenarios="new groups", cv=2, **FAST)
    found = accuracy_report(estimators, table, y, **settings)
    for name in estimators:
        np.testing.assert_allclose(by_row(found, name), by_row(report, "mixed"), rtol=1e-6, err_msg=name)


def test_who_takes_an_offset():
    model, search = MixedLogisticRegression(), GridSearchCV(MixedLogisticRegression(), {"n_quadrature": [1, 3]})

    def taken(*estimators):
        return [candidate.takes_offset for candidate in resolve_estimators(list(estimators))]

    assert taken(*NAMES) == [True] * 6
    own = MixedLogisticRegression(offset_feature="x")
    assert taken(model, make_pipeline(StandardScaler(), model), own, search, LogisticRegression()) == [
        True, True, False, False, False,
    ]  # fmt: skip
    with sklearn.config_context(enable_metadata_routing=True):
        assert taken(search, make_pipeline(StandardScaler(), model), own, LogisticRegression()) == [
            False, True, False, False,
        ]  # fmt: skip


def test_updates_have_the_offset(rows):
    X, y, groups, offset = rows
    train, test = np.flatnonzero(groups >= 8), np.flatnonzero(groups < 8)
    settings = dict(scenarios="updated groups", cv=[(train, test)], update_rows=4, **FAST)
    report = accuracy_report(["mixed"], X, y, groups=groups, offset=offset, **settings)
    is_first = pd.Series(groups[test]).groupby(groups[test]).cumcount() < 4
    shown, tested = test[is_first], test[~is_first]
    model = MixedLogisticRegression().fit(X.iloc[train], y[train], groups=groups[train], offset=offset[train])
    model = model.update_groups(X.iloc[shown], y[shown], groups=groups[shown], offset=offset[shown])
    expected = model.predict_proba(X.iloc[tested], groups=groups[tested], offset=offset[tested])[:, 1]
    np.testing.assert_allclose(by_row(report, "mixed").loc[tested], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": np.zeros(3)}, "offset has 3 rows, but X has 300"),
        ({"offset": np.full(300, np.nan)}, "offset is missing"),
        ({"offset_feature": "c"}, "'c'"),
        ({"offset_feature": ["a", "b"]}, r"must name one column of X, but \['a', 'b'\] names 2"),
        ({"offset_feature": "a", "offset": np.zeros(300)}, "both doors: offset_feature"),
        ({"offset_feature": "gap"}, "offset_feature: column 'gap' is missing"),
        ({"link": "cauchit"}, "cauchit"),
        ({"positive": "yes"}, "positive='yes' is none of the classes"),
    ],
)
def test_what_cannot_be_read(rows, options, message):
    X, y, groups, _ = rows
    gap = np.where(np.arange(300) == 5, np.nan, 0.0)
    with pytest.raises(ValueError, match=message):
        accuracy_report("mixed", X.assign(gap=gap)[["a", "b", "gap"]] if "gap" in str(options) else X, y,
                        groups=groups, **FAST, **options)  # fmt: skip


def test_a_column_is_not_groups_and_offset(rows):
    X, y, groups, _ = rows
    with pytest.raises(ValueError, match="column 'g' of X is named in group_features and in offset_feature"):
        accuracy_report("mixed", X.assign(g=groups), y, group_features="g", offset_feature="g", **FAST)


# --- links and events ---------------------------------------------------------------------------------------


def test_link_and_event_of_the_named_models(rows):
    X, y, groups, _ = rows
    settings = dict(groups=groups, scenarios="new groups", cv=2, **FAST)
    named = accuracy_report(["mixed", "gee", "pooled"], X, y, link="cloglog", positive=0, **settings)
    given = {
        "mixed": MixedLogisticRegression(link="cloglog", positive=0),
        "gee": GEELogisticRegression(link="cloglog", positive=0, cov_type="naive"),
        "pooled": "pooled",
    }
    found = accuracy_report(given, X, y, **settings)
    assert (named.predictions["probability"] == found.predictions["probability"]).all()
    other = accuracy_report(["mixed", "pooled"], X, y, link="cloglog", **settings)
    assert np.abs(by_row(other, "mixed") - by_row(named, "mixed")).max() > 1e-3
    assert (by_row(other, "pooled") == by_row(named, "pooled")).all()
    turned, straight = (accuracy_report("mixed", X, y, positive=label, **settings) for label in (0, 1))
    np.testing.assert_allclose(by_row(turned, "mixed"), by_row(straight, "mixed"), rtol=1e-6)


# --- counts -------------------------------------------------------------------------------------------------


COUNTS = dict(metrics=["log loss", "Brier", "AUC within groups"], n_resamples=20, random_state=0, cv=3)


def test_lines_are_weighted_rows(lines):
    """New groups: as the expanded rows with their weights, metrics and errors, too."""
    X, herd = lines[["period"]], lines["herd"]
    by_line = accuracy_report(
        NAMES, X, lines["incidence"], trials=lines["size"], groups=herd, scenarios="new groups", **COUNTS
    )
    rows, y, herds, weights = expand_counts(X, lines["incidence"], lines["size"], herd)
    expanded = accuracy_report(NAMES, rows, y, groups=herds, sample_weight=weights, scenarios="new groups", **COUNTS)
    for name in ("estimate", "std_error", "difference"):
        np.testing.assert_allclose(by_line.summary[name], expanded.summary[name], rtol=1e-10, atol=1e-12)
    table = by_line.predictions.query("estimator == 'gee'")
    assert "row" not in table and table["weight"].sum() == lines["size"].sum()
    successes = (table["weight"] * table["y"]).groupby(table["line"]).sum()
    np.testing.assert_array_equal(successes.loc[range(56)], lines["incidence"])
    herd_of_line = table.groupby("line")["group"].first().astype(str)
    np.testing.assert_array_equal(herd_of_line.loc[range(56)], herd.astype(str))
    text = str(by_line)
    assert "56 in 15 groups of herd, 842 trials" in text and "(56 lines of 15 groups)" in text
    assert f"which {lines['incidence'].sum() / 842:.1%} of the trials have" in text
    assert by_line.scores["n_test"].iloc[:3].sum() == 56
    assert by_line.scores["n_train"].iloc[0] == 56 - by_line.scores["n_test"].iloc[0]
    assert "842" in by_line._repr_html_()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_line_is_split(lines, scenario):
    X, herd = lines[["period"]], lines["herd"]
    found = accuracy_report(
        "pooled", X, lines["incidence"], trials=lines["size"], groups=herd, scenarios=scenario, update_rows=2, **COUNTS
    )
    table = found.predictions
    assert (table.groupby("line")["fold"].nunique() == 1).all()
    n_rows = (lines["incidence"] > 0).astype(int) + (lines["incidence"] < lines["size"])
    size = table.groupby("line").size()
    np.testing.assert_array_equal(size, n_rows.loc[size.index])
    if scenario == "known groups":  # lines are dealt: of each herd they are spread over the folds
        per_fold = table.groupby([table["group"].astype(str), "fold"])["line"].nunique().unstack(fill_value=0)
        assert ((per_fold.max(axis=1) - per_fold.min(axis=1)) <= 1).all() and set(size.index) == set(range(56))
    if scenario == "updated groups":
        tested = set(lines.index[lines.groupby("herd").cumcount() >= 2])
        assert set(size.index) == tested
        sizes = lines.groupby("herd").size()
        assert f"Updated groups: {sizes[sizes < 3].sum()} lines are left out" in str(found) or (sizes > 2).all()


def test_updates_are_of_lines(lines):
    """By hand: the first two lines of each herd that is tested, in order of the periods."""
    herd = lines["herd"].astype(int)
    order = np.random.default_rng(0).permutation(56)
    mixed_up = lines.iloc[order].reset_index(drop=True)
    herds = herd.iloc[order].to_numpy()
    train, test = np.flatnonzero(herds > 5), np.flatnonzero(herds <= 5)
    found = accuracy_report(
        "mixed", mixed_up[["period"]], mixed_up["incidence"], trials=mixed_up["size"], groups=herds,
        time=mixed_up["period"].astype(int), scenarios="updated groups", cv=[(train, test)], update_rows=2, **FAST,
    )  # fmt: skip
    place = mixed_up.iloc[test].assign(time=mixed_up["period"].astype(int)).sort_values("time").groupby("herd")
    rank = place.cumcount().loc[test].to_numpy()
    X = pd.get_dummies(mixed_up["period"], drop_first=True, dtype=float)

    def expanded(index):
        return expand_counts(X.iloc[index], mixed_up["incidence"].iloc[index], mixed_up["size"].iloc[index],
                             herds[index])  # fmt: skip

    rows, y, labels, weights = expanded(train)
    model = MixedLogisticRegression().fit(rows, y, groups=labels, sample_weight=weights)
    rows, y, labels, weights = expanded(test[rank < 2])
    model = model.update_groups(rows, y, groups=labels, sample_weight=weights)
    kept = test[rank >= 2]
    expected = model.predict_proba(X.iloc[kept], groups=herds[kept])[:, 1]
    probability = found.predictions.groupby("line")["probability"].first()
    np.testing.assert_allclose(probability.loc[kept], expected, rtol=1e-8)


def test_splitters_split_lines(lines):
    X, herd = lines[["period"]], lines["herd"]
    data = dict(trials=lines["size"], groups=herd, **FAST)
    found = accuracy_report(
        "pooled", X, lines["incidence"], scenarios="new groups", cv=GroupKFold(3), **data
    ).predictions
    for _number, (_, test) in enumerate(GroupKFold(3).split(X, groups=herd), start=1):
        assert set(found.query("fold == @_number")["line"]) == set(test)
    mask = np.arange(56) % 4 == 0
    given = accuracy_report("pooled", X, lines["incidence"], scenarios="known groups", cv=[(~mask, mask)], **data)
    assert set(given.predictions["line"]) == set(np.flatnonzero(mask))
    with pytest.raises(ValueError, match="is a mask of shape .* but there are 56 lines"):
        accuracy_report("pooled", X, lines["incidence"], scenarios="known groups", cv=[(mask[:5], mask[:5])], **data)


def test_formulas_of_counts_read_lines(lines):
    pytest.importorskip("formulaic")
    w = 1.0 + np.arange(56) % 3
    formulas = {
        "mixed": MixedLogisticRegression.from_formula("incidence | size ~ period + (1 | herd)", lines),
        "gee": GEELogisticRegression.from_formula("incidence | size ~ period", lines, groups="herd"),
    }
    settings = dict(trials=lines["size"], sample_weight=w, cv=3, scenarios=SCENARIOS, update_rows=2, **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = accuracy_report(formulas, lines, lines["incidence"], group_features="herd", **settings)
        X = lines[["period"]]
        named = accuracy_report(["mixed", "gee"], X, lines["incidence"], groups=lines["herd"], **settings)
    np.testing.assert_allclose(found.predictions["probability"], named.predictions["probability"], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": 100}, r"successes \(y\) are more than trials in 56 lines"),
        ({"y": 0.5}, r"successes \(y\) are no whole numbers"),
        ({"y": 0}, "all trials failed"),
        ({"trials": np.nan}, "trials are missing"),
        ({"trials": -1}, "trials are negative"),
    ],
)
def test_what_is_no_count(lines, change, message):
    data = {"y": lines["incidence"], "trials": lines["size"]} | {k: np.full(56, v) for k, v in change.items()}
    with pytest.raises(ValueError, match=message):
        accuracy_report("pooled", lines[["period"]], groups=lines["herd"], **data, **FAST)


def test_counts_without_a_way(lines):
    X, counts = lines[["period"]], dict(groups=lines["herd"], **FAST)
    with pytest.raises(TypeError, match="takes no sample_weight in fit, and a line of counts is two weighted rows"):
        accuracy_report(KNeighborsClassifier(), X, lines["incidence"], trials=lines["size"], **counts)
    model = MixedLogisticRegression.from_formula("incidence | size ~ period + (1 | herd)", lines)
    with pytest.raises(ValueError, match="has a formula of successes and trials: pass y=.*trials="):
        accuracy_report({"m": model}, lines, lines["incidence"] > 0, group_features="herd", **FAST)


def test_lines_without_trials_are_nowhere(lines):
    more = pd.concat([lines.assign(incidence=0, size=0), lines], ignore_index=True)
    settings = dict(scenarios=["known groups", "updated groups"], cv=2, update_rows=2, **FAST)
    one, other = (
        accuracy_report("pooled", part[["period"]], part["incidence"], trials=part["size"], groups=part["herd"],
                        **settings)
        for part in (lines, more)
    )  # fmt: skip
    np.testing.assert_array_equal(other.predictions["line"] - 56, one.predictions["line"])
    assert other.notes == one.notes and FewClustersWarning is not None
