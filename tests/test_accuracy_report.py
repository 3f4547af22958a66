"""accuracy_report: the same answer however it is asked, and the answers that statistics promises."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.accuracy import AccuracyReport, accuracy_report
from sklmm.accuracy.metrics import compute_metrics
from sklmm.accuracy.scenarios import SCENARIOS
from sklmm.datasets import load_contraception, load_verbagg, make_clustered_classification
from sklmm.exceptions import FewClustersWarning, SingularFitWarning

NAMES = ["mixed", "mixed, u = 0", "gee", "pooled", "dummies", "separate"]
FAST = {"n_resamples": 20, "random_state": 0}
FASTER = {**FAST, "metrics": "log loss"}  # where predictions are what matters


@pytest.fixture(scope="module")
def rows():
    X, y, groups = make_clustered_classification(500, 3, n_groups=25, covariance=2.0, random_state=0)
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table["size"] = pd.cut(table["c"], [-np.inf, -0.5, 0.5, np.inf], labels=["small", "middle", "large"])
    return table, y, groups


@pytest.fixture(scope="module")
def report(rows):
    X, y, groups = rows
    return accuracy_report(NAMES, X, y, groups=groups, scenarios=SCENARIOS, cv=3, **FAST)


def probabilities(report):
    """By estimator, scenario and row."""
    return report.predictions.set_index(["estimator", "scenario", "row"])["probability"].sort_index()


def test_predictions(report, rows):
    X, y, groups = rows
    table = report.predictions
    assert list(table) == ["estimator", "scenario", "fold", "row", "group", "y", "probability"]
    assert list(table["estimator"].cat.categories) == NAMES
    assert list(table["scenario"].cat.categories) == list(SCENARIOS)
    assert not table.duplicated(["estimator", "scenario", "row"]).any()
    assert np.array_equal(table["y"], y[table["row"]])
    assert np.array_equal(table["group"].to_numpy(), groups[table["row"]])
    counts = table.groupby("scenario", observed=True).size() / len(NAMES)
    assert counts["new groups"] == counts["known groups"] == 500 and counts["updated groups"] == 500 - 25 * 5


def test_scores_are_those_of_the_folds(report):
    assert len(report.scores) == len(NAMES) * 3 * 3
    some = report.scores.query("estimator == 'gee' and scenario == 'known groups' and fold == 2").iloc[0]
    here = report.predictions.query("estimator == 'gee' and scenario == 'known groups' and fold == 2")
    assert some["n_test"] == len(here) and some["n_train"] == 500 - len(here)
    assert some["log loss"] == pytest.approx(log_loss(here["y"], here["probability"]))
    assert (report.scores[["fit_time", "predict_time"]] > 0).all(axis=None)


def test_summary_is_of_the_pooled_predictions(report):
    table = report.summary.set_index(["scenario", "estimator", "metric"])
    here = report.predictions.query("estimator == 'mixed' and scenario == 'new groups'")
    row = table.loc[("new groups", "mixed", "log loss")]
    assert row["estimate"] == pytest.approx(log_loss(here["y"], here["probability"]))
    assert row["lower"] < row["estimate"] < row["upper"] and np.isnan(row["difference"])
    other = table.loc[("new groups", "pooled", "log loss")]
    assert other["difference"] == pytest.approx(other["estimate"] - row["estimate"])


def test_text_markdown_and_html(report):
    text = str(report)
    assert "500 in 25 groups of group" in text and "New groups (500 rows of 25 groups)" in text
    assert repr(report) == text
    estimate = report.summary.set_index(["scenario", "metric", "estimator"]).loc[
        ("known groups", "log loss", "separate"), "estimate"
    ]
    for shown in (text, report.to_markdown(), report._repr_html_(), report.to_latex()):
        assert f"{estimate:.4f}"[:5] in shown and "calibration slope" in shown
    lines = report.to_markdown().splitlines()
    assert "|  | mixed | mixed, u = 0 | gee | pooled | dummies | separate |" in lines
    assert "difference to mixed: 95 % interval" in text


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("plot_roc", {"scenario": "known groups"}),
        ("plot_calibration", {"scenario": "known groups", "n_bins": 4}),
        ("plot_comparison", {"scenario": "known groups", "metric": "Brier", "difference": True}),
    ],
)
def test_pictures(report, method, options):
    figure = Figure()
    ax = figure.subplots()
    assert getattr(report, method)(ax=ax, **options) is ax
    assert ax.has_data()


def test_page(rows, tmp_path):
    X, y, groups = rows
    report = accuracy_report("pooled", X, y, groups=groups, scenarios="new groups", metrics="Brier", **FAST)
    report.save_html(tmp_path / "report.html", title="Älter & <weiser>")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Älter &amp; &lt;weiser&gt;" in page and "data:image/png;base64," in page


def test_one_estimator_has_nothing_to_be_compared_with(rows):
    X, y, groups = rows
    report = accuracy_report("pooled", X, y, groups=groups, scenarios="new groups", level=0.9, metrics="Brier", **FAST)
    assert isinstance(report, AccuracyReport) and report.estimators == ["pooled"] and report.metrics == ["Brier"]
    assert "difference" not in str(report)


def test_a_report_holds_no_features_and_can_be_stored(report):
    again = pickle.loads(pickle.dumps(report))
    assert str(again) == str(report) and again.summary.equals(report.summary)
    assert not any(isinstance(value, pd.DataFrame) and "a" in value for value in vars(report).values())


def test_seeded_and_not_by_n_jobs(rows, report):
    X, y, groups = rows
    parallel = accuracy_report(NAMES, X, y, groups=groups, scenarios=SCENARIOS, cv=3, n_jobs=2, **FAST)
    assert np.array_equal(parallel.predictions["probability"], report.predictions["probability"])
    assert parallel.summary.equals(report.summary)
    other = accuracy_report("pooled", X, y, groups=groups, cv=3, n_resamples=20, random_state=1)
    assert not other.predictions["fold"].equals(report.predictions.query("estimator == 'pooled'")["fold"])


def test_order_of_rows_does_not_matter(rows):
    X, y, groups = rows
    order = np.random.default_rng(0).permutation(500)
    position = np.argsort(order)
    splits = [(np.flatnonzero(groups % 3 != k), np.flatnonzero(groups % 3 == k)) for k in range(3)]
    moved = [(position[train], position[test]) for train, test in splits]
    one = accuracy_report(NAMES, X, y, groups=groups, cv=splits, scenarios="new groups", **FASTER)
    two = accuracy_report(
        NAMES, X.iloc[order], y[order], groups=groups[order], cv=moved, scenarios="new groups", **FASTER
    )
    one, two = (table.predictions.pivot(index="row", columns="estimator", values="probability") for table in (one, two))
    assert two.to_numpy()[position] == pytest.approx(one.to_numpy(), abs=1e-6)


def test_names_of_classes_groups_and_rows_do_not_matter(rows, report):
    X, y, groups = rows
    labels = pd.Series([f"g{group:02d}" for group in groups], name="clinic")
    named = accuracy_report(
        NAMES,
        X.set_index(np.arange(500)[::-1]),
        pd.Series(np.where(y == 1, "well", "ill")).where(y == 0, "well").astype("category"),
        groups=labels,
        scenarios=SCENARIOS,
        cv=3,
        **FASTER,
    )
    assert named.classes.tolist() == ["ill", "well"] and named.factor == "clinic"
    assert np.array_equal(named.predictions["probability"], report.predictions["probability"])
    assert "probability of 'well' (against 'ill')" in str(named)


def test_either_door_and_any_container(rows, report):
    X, y, groups = rows
    expected = probabilities(report)
    in_X = accuracy_report(
        NAMES, X.assign(clinic=groups), y, group_features="clinic", scenarios=SCENARIOS, cv=3, **FASTER
    )
    assert np.array_equal(probabilities(in_X), expected)
    in_order = X["size"].astype(str).map({"small": "1", "middle": "2", "large": "3"})  # text has no order of its own
    table = pl.DataFrame(X.assign(size=in_order).to_dict("list"))
    from_polars = accuracy_report(NAMES, table, y, groups=pl.Series("g", groups), scenarios=SCENARIOS, cv=3, **FASTER)
    assert np.array_equal(probabilities(from_polars), expected)


def test_known_by_name_or_given_is_the_same(rows, report):
    X, y, groups = rows
    numbers = pd.get_dummies(X, drop_first=True, dtype=float)
    given = {
        "mixed": MixedLogisticRegression(),
        "mixed, u = 0": make_pipeline("passthrough", MixedLogisticRegression(predict_effects="zero")),
        "gee": GEELogisticRegression(),
        "pooled": LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10),
    }
    other = accuracy_report(given, numbers, y, groups=groups, scenarios=SCENARIOS, cv=3, **FASTER)
    named = probabilities(report).loc[list(given)]
    assert probabilities(other).to_numpy() == pytest.approx(named.to_numpy(), abs=1e-7)


def test_a_model_that_finds_its_groups_in_X(rows, report):
    X, y, groups = rows
    table = pd.get_dummies(X, drop_first=True, dtype=float).assign(clinic=[f"clinic {group:02d}" for group in groups])
    model = MixedLogisticRegression("1 | clinic", group_features="clinic")
    other = accuracy_report(
        {"mixed": model, "in a pipeline": make_pipeline(model)},
        table, y, group_features="clinic", scenarios=SCENARIOS, cv=3, **FASTER,
    )  # fmt: skip
    found = probabilities(other)
    for name in ("mixed", "in a pipeline"):
        assert found[name].to_numpy() == pytest.approx(probabilities(report)["mixed"].to_numpy(), abs=1e-9)


def test_metadata_routing_may_be_on(rows):
    X, y, groups = rows
    table = X[["a", "b"]]
    models = {"mixed": MixedLogisticRegression(), "pipeline": make_pipeline("passthrough", MixedLogisticRegression())}
    off = accuracy_report(models, table, y, groups=groups, cv=2, **FASTER)
    with sklearn.config_context(enable_metadata_routing=True):
        on = accuracy_report(models, table, y, groups=groups, cv=2, **FASTER)
    assert np.array_equal(on.predictions["probability"], off.predictions["probability"])
    assert np.array_equal(probabilities(on)["pipeline"], probabilities(on)["mixed"])


def test_predictions_are_those_of_scikit_learn(rows):
    X, y, groups = rows
    splits = [(np.flatnonzero(groups % 4 != k), np.flatnonzero(groups % 4 == k)) for k in range(4)]
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=5, random_state=0))
    features = X[["a", "b", "c"]]
    report = accuracy_report(model, features, y, groups=groups, cv=splits, scenarios="new groups", **FASTER)
    expected = cross_val_predict(model, features, y, cv=splits, method="predict_proba")[:, 1]
    assert np.array_equal(report.predictions.sort_values("row")["probability"], expected)


# --- what statistics promises -------------------------------------------------------------------------------


def test_averaging_over_groups_calibrates_predictions_for_new_groups():
    X, y, groups = make_clustered_classification(6000, 4, n_groups=300, covariance=4.0, random_state=0)
    report = accuracy_report(
        ["mixed", "mixed, u = 0", "pooled", "dummies", "separate"],
        X, y, groups=groups, metrics=["log loss", "calibration slope"], n_resamples=50, random_state=0,
    )  # fmt: skip
    estimates = report.summary.set_index(["scenario", "metric", "estimator"])["estimate"].sort_index()
    slopes = estimates["new groups", "calibration slope"]
    assert slopes["mixed"] == pytest.approx(1, abs=0.1)
    # Zeger et al. (1988): 1 / sqrt(1 + 0.346 * 4) = 0.65
    assert slopes["mixed, u = 0"] == pytest.approx(0.65, abs=0.08)
    known = estimates["known groups", "log loss"]
    assert known["mixed"] < known[["pooled", "dummies", "separate"]].min() - 0.01


def test_order_within_known_groups_is_that_of_new_rows():
    """All these models have one slope for all groups: within a group they put rows in the same order, but for noise."""
    X, y, groups = make_clustered_classification(6000, 3, n_groups=300, coef=[0.5] * 3, covariance=4.0, random_state=0)
    report = accuracy_report(
        ["pooled", "mixed", "dummies"], X, y, groups=groups, scenarios="known groups", metrics="AUC within groups",
        cv=3, n_resamples=200, random_state=0,
    )  # fmt: skip
    table = report.summary.set_index("estimator")
    assert np.ptp(table["estimate"]) < 0.01 and table["estimate"].min() > 0.68
    assert (table["difference_std_error"].drop("pooled") < 0.01).all()
    here = report.predictions.query("estimator == 'dummies'")
    across = compute_metrics(here["y"], here["probability"], here["group"], metrics="AUC within groups")
    assert across["AUC within groups"] < 0.6  # what pairs across folds would say


def test_partial_pooling_wins_on_the_contraception_data():
    women, uses, district = load_contraception(return_X_y=True, as_frame=True)
    X = women[["age", "urban", "ch"]].assign(age2=women["age"] ** 2 / 100)
    report = accuracy_report(
        None, X, uses, groups=district, metrics=["log loss", "calibration slope"], n_resamples=200, random_state=0
    )
    table = report.summary.set_index(["scenario", "metric", "estimator"]).sort_index()
    losses = table.loc[("known groups", "log loss")]
    assert (losses["difference_lower"].drop("mixed") > 0).all()
    assert table.loc[("new groups", "calibration slope", "mixed"), "estimate"] == pytest.approx(1, abs=0.1)


def test_known_items_help_with_updated_persons():
    """With crossed factors, what the fit knows of the items stays known when persons are updated."""
    answers, aggressive, who = load_verbagg(return_X_y=True, as_frame=True)
    report = accuracy_report(
        ["mixed", "gee"], answers[["Anger", "Gender"]], aggressive, groups=who, split_by="id",
        scenarios=["new groups", "updated groups"], cv=2, metrics="log loss", **FAST,
    )  # fmt: skip
    losses = report.summary.set_index(["scenario", "estimator"])["estimate"]
    assert losses["updated groups", "mixed"] < losses["new groups", "mixed"] - 0.03
    assert losses["new groups", "mixed"] < losses["new groups", "gee"] - 0.03  # which has no items


# --- warnings and errors ------------------------------------------------------------------------------------


def test_warnings_come_once(rows):
    X, y, _ = rows
    groups = np.arange(500) % 50  # without an effect: the variance is 0 in most fits
    y = np.random.default_rng(0).integers(0, 2, 500)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = accuracy_report(["mixed", "pooled"], X, y, groups=groups, **FAST)
    (singular,) = [message for message in caught if message.category is SingularFitWarning]
    assert "estimator 'mixed', in" in str(singular.message) and "of 10 fits" in str(singular.message)
    assert singular.filename == __file__
    assert [name for name, category, _ in report.warnings if category is SingularFitWarning] == ["mixed"]
    assert "mixed, SingularFitWarning in" in str(report)


def test_few_groups_are_warned_of_once(rows):
    X, y, _ = rows
    with pytest.warns(FewClustersWarning, match="resampling 6 groups") as caught:
        report = accuracy_report("pooled", X, y, groups=np.arange(500) % 6, cv=3, **FAST)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "resampling 6 groups" in str(report)


def test_folds_of_one_class_have_no_score_where_none_is_defined(rows):
    X, y, groups = rows
    y = np.where(groups == 3, 1, y)
    report = accuracy_report("pooled", X, y, groups=groups, cv=LeaveOneGroupOut(), scenarios="new groups", **FAST)
    one_class = report.scores.loc[report.scores["fold"] == 4].iloc[0]
    assert np.isnan(one_class["ROC AUC"]) and one_class["log loss"] > 0
    assert report.summary["estimate"].notna().all()


class Stubborn(ClassifierMixin, BaseEstimator):
    """Does as it is told, badly."""

    def __init__(self, wrong="nothing"):
        self.wrong = wrong

    def fit(self, X, y):
        if self.wrong == "fit":
            raise ArithmeticError("I will not")
        if self.wrong == "warn":
            warnings.warn("so-so", ConvergenceWarning, stacklevel=1)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        p = np.full((len(X), 2), np.nan if self.wrong == "nan" else 0.5)
        return p[:, :1] if self.wrong == "shape" else p


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ("fit", RuntimeError, "estimator 'mine', new groups, fold 1: ArithmeticError: I will not"),
        ("nan", ValueError, "estimator 'mine', new groups, fold 1: predict_proba gives values that are no prob"),
        ("shape", ValueError, r"predict_proba gives an array of shape \(\d+, 1\) in place of"),
    ],
)
def test_errors_say_whose_and_where(rows, wrong, error, message):
    X, y, groups = rows
    estimators = {"pooled": "pooled", "mine": Stubborn(wrong)}
    with pytest.raises(error, match=message):
        accuracy_report(estimators, X, y, groups=groups, scenarios="new groups", **FAST)


def test_weights_count_rows(rows):
    """The same report from rows with counts and from repeated rows, in the same folds."""
    X, y, groups = rows
    counts = np.arange(len(y)) % 3
    more = np.repeat(np.arange(len(y)), counts)
    fold = np.random.default_rng(0).integers(3, size=len(y))
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    estimators = {**{name: name for name in NAMES if name != "gee"}, "given": scaled}
    tables = []
    for rows_of, weights in ((np.arange(len(y)), counts), (more, None)):
        cv = {
            scenario: [(parts[rows_of] != k, parts[rows_of] == k) for k in range(3)]
            for scenario, parts in (("new groups", groups % 3), ("known groups", fold))
        }
        tables.append(
            accuracy_report(
                estimators, X[["a", "b"]].iloc[rows_of], y[rows_of], groups=groups[rows_of], sample_weight=weights,
                cv=cv, **FAST,
            )
        )  # fmt: skip
    weighted, repeated = tables
    columns = ["estimate", "std_error", "difference", "difference_upper"]
    ours, theirs = (
        report.summary[report.summary["estimator"] != "given"].set_index(["scenario", "estimator", "metric"])[columns]
        for report in tables
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=5e-5)
    of_scaled = [report.summary.query("estimator == 'given' and metric == 'log loss'")["estimate"] for report in tables]
    np.testing.assert_allclose(*of_scaled, rtol=2e-3)  # its scaler knows no weights
    assert set(weighted.predictions["row"]) == set(np.flatnonzero(counts))
    assert (weighted.predictions["weight"] == counts[weighted.predictions["row"]]).all()
    assert "weight" not in repeated.predictions
    np.testing.assert_allclose(weighted.scores["log loss"].iloc[:6], repeated.scores["log loss"].iloc[:6], rtol=1e-5)
    assert f"{len(y):,} in 25 groups of group, which count for {len(more):,}" in str(weighted)
    share = f"which {y[more].mean():.1%} of the rows have"
    assert share in str(weighted) and share in str(repeated)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.FewClustersWarning")
def test_weights_count_in_updates(rows):
    X, y, groups = rows
    X, weights = X[["a", "b"]], 1.0 + np.arange(len(y)) % 4
    train, test = np.flatnonzero(groups >= 8), np.flatnonzero(groups < 8)
    report = accuracy_report(
        make_pipeline(StandardScaler(), MixedLogisticRegression()), X, y, groups=groups, sample_weight=weights,
        scenarios="updated groups", cv=[(train, test)], update_rows=3, **FASTER,
    )  # fmt: skip
    is_first = pd.Series(groups[test]).groupby(groups[test]).cumcount() < 3
    shown, tested = test[is_first], test[~is_first]
    scaler = StandardScaler().fit(X.iloc[train])
    Z = scaler.transform(X)
    model = MixedLogisticRegression().fit(Z[train], y[train], groups=groups[train], sample_weight=weights[train])
    model = model.update_groups(Z[shown], y[shown], groups=groups[shown], sample_weight=weights[shown])
    expected = model.predict_proba(Z[tested], groups=groups[tested])[:, 1]
    np.testing.assert_allclose(report.predictions.set_index("row")["probability"].loc[tested], expected, rtol=1e-9)


def test_weights_that_cannot_be_used(rows):
    X, y, groups = rows
    with pytest.raises(TypeError, match="'KNeighborsClassifier' takes no sample_weight in fit.*leave it out"):
        accuracy_report(["mixed", KNeighborsClassifier()], X, y, groups=groups, sample_weight=np.ones(500), **FASTER)
    with pytest.raises(ValueError, match="sample_weight leaves rows of one class only"):
        accuracy_report("mixed", X, y, groups=groups, sample_weight=y, **FASTER)
    with pytest.raises(ValueError, match="sample_weight has 3 rows, but X has 500"):
        accuracy_report("mixed", X, y, groups=groups, sample_weight=[1, 2, 3], **FASTER)


def test_searches_are_fitted_and_updated_like_the_best_they_find(rows):
    X, y, groups = rows
    table = X[["a", "b"]].assign(site=np.char.add("site ", groups.astype(str)))
    model = MixedLogisticRegression(group_features="site")
    search = GridSearchCV(model, {"n_quadrature": [5]}, cv=GroupKFold(3), scoring="neg_log_loss")
    options = {**FASTER, "scenarios": ["known groups", "updated groups"], "cv": 3}
    report = accuracy_report(
        {"search": search, "best": clone(model).set_params(n_quadrature=5)}, table, y, group_features="site", **options
    )
    found = report.predictions.set_index(["estimator", "scenario"])["probability"]
    for scenario in report.scenarios:
        np.testing.assert_array_equal(found["search", scenario], found["best", scenario])


def test_estimators_that_stumble_over_the_groups_in_X(rows):
    X, y, groups = rows
    table = X[["a", "b"]].assign(site=np.char.add("site ", groups.astype(str)))
    with pytest.raises(ValueError, match=r"(?s)could not convert.*It sees X with its grouping columns.*pass groups="):
        accuracy_report(["mixed", LogisticRegression()], table, y, group_features="site", **FASTER)


def test_probabilities_are_those_of_the_second_class(rows):
    X, y, groups = rows
    constant = DummyClassifier(strategy="prior")
    for labels in (y, np.where(y == 1, "a", "b")):
        report = accuracy_report(constant, X, labels, groups=groups, scenarios="new groups", **FAST)
        second = np.unique(labels)[1]
        assert report.classes[1] == second
        assert report.predictions["probability"].mean() == pytest.approx((labels == second).mean(), abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "deviance"}, "unknown metric 'deviance'"),
        ({"threshold": 1.5}, "threshold must be a number between 0 and 1, got 1.5"),
        ({"level": 95}, "level must be a number between 0 and 1, got 95"),
        ({"n_resamples": 1}, "n_resamples must be an integer >= 2"),
        ({"scenarios": "old groups"}, "unknown scenario 'old groups'"),
        ({"cv": 30}, "at least 30 groups, but group has 25"),
        ({"random_effects": "1 + age | group"}, "estimator 'mixed', new groups, fold 1: .*age"),
    ],
)
def test_settings_are_checked(rows, options, message):
    X, y, groups = rows
    with pytest.raises(ValueError, match=message):
        accuracy_report("mixed", X, y, **{"groups": groups, **FAST, **options})


def test_targets_are_checked(rows):
    X, y, groups = rows
    with pytest.raises(ValueError, match="Only binary classification is supported"):
        accuracy_report("mixed", X, np.arange(500) % 3, groups=groups, kind="classes")
    with pytest.raises(ValueError, match="one class only"):
        accuracy_report("mixed", X, np.zeros(500), groups=groups)
    with pytest.raises(ValueError, match="needs groups"):
        accuracy_report("mixed", X, y)


def test_models_of_formulas_read_each_fold():
    pytest.importorskip("formulaic")
    women = load_contraception(as_frame=True).frame[["use", "age", "urban", "district"]]
    X, y = women.drop(columns="use"), women["use"]
    by_formula = {
        "mixed": MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women),
        "gee": GEELogisticRegression.from_formula("use ~ age + urban", women, groups="district"),
    }
    settings = dict(metrics="log loss", n_resamples=2, random_state=0)
    report = accuracy_report(by_formula, X, y, group_features="district", **settings)
    known = accuracy_report(["mixed", "gee"], X, y, group_features="district", **settings)
    np.testing.assert_allclose(report.summary["estimate"], known.summary["estimate"], rtol=1e-6)
