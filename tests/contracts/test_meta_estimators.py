"""Pipelines, searches, cross-validation and whatever else of scikit-learn takes an estimator.

The tests compare with fits and predictions made by hand, with groups and times passed as arguments: the numbers agree
only if these got to fit, and groups to the predictions that know them.
"""

import warnings

import numpy as np
import pytest
from contracts.estimators import entries
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklmm.exceptions import NoGroupsWarning, NoTimesWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")

FEATURES = ["a", "b"]
KNOWN, NEW = KFold(3, shuffle=True, random_state=0), GroupKFold(3)  # groups of the test rows


def fit_by_hand(entry, frame, y, train, **parameters):
    rows = frame.iloc[train]
    return entry.estimator(**entry.all_used | parameters).fit(rows[FEATURES], y[train], **entry.given(rows))


def by_hand(entry, frame, y, train, test, **parameters):
    """Predictions for some rows by a fit to others."""
    rows = frame.iloc[test]
    model = fit_by_hand(entry, frame, y, train, **parameters)
    return entry.predictions(model, rows[FEATURES], groups=rows["g"])


def scores_by_hand(entry, frame, y, cv, **parameters):
    loss = log_loss if entry.binary else mean_squared_error
    folds = cv.split(frame, y, frame["g"])
    return np.array([-loss(y[test], by_hand(entry, frame, y, train, test, **parameters)) for train, test in folds])


def model_and_table(entry, frame):
    """An estimator that takes groups and times from X, and its X."""
    return entry.by_columns(**entry.all_used), entry.table(frame)


def test_what_is_given_matters(entry, data):
    """Else the tests below could not tell a fit that got its groups and times from one that did not."""
    frame, y = data
    everything = np.arange(len(y))
    ((name, values),) = entry.grid.items()
    fits = [fit_by_hand(entry, frame, y, everything, **{name: value}).coef_ for value in values]
    for j, one in enumerate(fits):
        for other in fits[:j]:
            assert np.abs(one - other).max() > 1e-3
    fit = fit_by_hand(entry, frame, y, everything)
    for less in ({}, {"groups": frame["g"]})[: 1 + entry.takes_times]:
        lacking = entry.estimator(**entry.all_used).fit(frame[FEATURES], y, **less)
        assert np.abs(lacking.coef_ - fit.coef_).max() > 1e-3


@pytest.mark.parametrize("cv", [KNOWN, NEW], ids=["known groups", "new groups"])
def test_cross_val_score(entry, data, cv):
    frame, y = data
    model, X = model_and_table(entry, frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoGroupsWarning)
        warnings.simplefilter("error", NoTimesWarning)
        scores = cross_val_score(model, X, y, groups=frame["g"], cv=cv, scoring=entry.scoring)
    np.testing.assert_allclose(scores, scores_by_hand(entry, frame, y, cv), rtol=1e-9)
    if entry.predicts_groups and cv is KNOWN:  # knowing the groups pays off, by far
        typical = cross_val_score(model.set_params(predict_effects="zero"), X, y, scoring=entry.scoring, cv=cv)
        assert scores.mean() > typical.mean() + 0.05


def test_grid_search(entry, data):
    frame, y = data
    model, X = model_and_table(entry, frame)
    search = GridSearchCV(model, entry.grid, scoring=entry.scoring, cv=entry.cv).fit(X, y, groups=frame["g"])
    ((name, values),) = entry.grid.items()
    means = [scores_by_hand(entry, frame, y, entry.cv, **{name: value}).mean() for value in values]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], means, rtol=1e-9)
    assert len(set(means)) == len(values)
    best, everything = {name: values[int(np.argmax(means))]}, np.arange(len(y))
    np.testing.assert_allclose(
        search.best_estimator_.coef_, fit_by_hand(entry, frame, y, everything, **best).coef_, rtol=1e-9
    )
    np.testing.assert_allclose(
        entry.predictions(search, X), by_hand(entry, frame, y, everything, everything, **best), rtol=1e-9
    )


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_pipeline_with_column_transformer(entry, data, output):
    frame, y = data
    model, X = model_and_table(entry, frame)
    transformer = ColumnTransformer(
        [("scale", StandardScaler(), FEATURES)], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform=output)
    if output == "default":  # numbers, strings and times share an object array, with groups and times last
        model.set_params(group_features=2, **({"time_feature": 3} if entry.takes_times else {}))
    pipeline = make_pipeline(transformer, model)
    scores = cross_val_score(pipeline, X, y, groups=frame["g"], scoring=entry.scoring, cv=entry.cv)
    # The scaling is affine: it changes coefficients, not predictions.
    np.testing.assert_allclose(scores, scores_by_hand(entry, frame, y, entry.cv), rtol=1e-8)
    assert pipeline.fit(X, y)[-1].n_groups_ == {"g" if output == "pandas" else "x2": 50}


@entries(binary=True)
@pytest.mark.parametrize("cv", [KNOWN, NEW], ids=["known groups", "new groups"])
def test_calibrated_classifier(entry, data, cv):
    frame, y = data
    model, X = model_and_table(entry, frame)
    splits = list(cv.split(frame, y, frame["g"]))
    calibrated = CalibratedClassifierCV(model, cv=splits, method="sigmoid").fit(X, y)
    for fold, (train, test) in zip(calibrated.calibrated_classifiers_, splits, strict=True):
        expected = fit_by_hand(entry, frame, y, train)
        assert fold.estimator.n_groups_["g"] == frame["g"].iloc[train].nunique()
        np.testing.assert_allclose(fold.estimator.coef_, expected.coef_, rtol=1e-10)
        for name, values in entry.numbers(expected).items():
            np.testing.assert_allclose(entry.numbers(fold.estimator)[name], values, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(
            entry.predictions(fold.estimator, X.iloc[test]),
            entry.predictions(expected, frame[FEATURES].iloc[test], groups=frame["g"].iloc[test]),
            rtol=1e-9,
        )
    assert calibrated.predict_proba(X).shape == (len(y), 2)
    change = calibrated.predict_proba(X) - calibrated.predict_proba(X.assign(g=np.roll(X["g"], 1)))
    assert np.abs(change).max() > 0.1 if entry.predicts_groups else not change.any()


@entries(binary=True)
def test_stacking_classifier(entry, data):
    frame, y = data
    model, X = model_and_table(entry, frame)
    levels = ColumnTransformer([("levels", OneHotEncoder(handle_unknown="ignore"), ["g"])], remainder="passthrough")
    plain = make_pipeline(levels, LogisticRegression())
    final = LogisticRegression(C=1e6)
    stack = StackingClassifier([("grouped", model), ("plain", plain)], final_estimator=final, cv=KNOWN).fit(X, y)
    everything = np.arange(len(y))
    full = by_hand(entry, frame, y, everything, everything)
    np.testing.assert_allclose(stack.transform(X)[:, 0], full, rtol=1e-9)
    # The final estimator was trained on out-of-fold probabilities, whose fits had the groups, too.
    out_of_fold, other = np.empty(len(y)), np.empty(len(y))
    for train, test in KNOWN.split(frame):
        out_of_fold[test] = by_hand(entry, frame, y, train, test)
        other[test] = clone(plain).fit(X.iloc[train], y[train]).predict_proba(X.iloc[test])[:, 1]
    expected = clone(final).fit(np.column_stack([out_of_fold, other]), y)
    np.testing.assert_allclose(stack.final_estimator_.coef_, expected.coef_, rtol=1e-4)


def test_permutation_importance(entry, data):
    """Who the group is matters to predictions that know it; when rows were seen, to none."""
    frame, y = data
    model, X = model_and_table(entry, frame.assign(noise=np.random.default_rng(0).normal(size=len(y))))
    found = permutation_importance(model.fit(X, y), X, y, scoring=entry.scoring, n_repeats=3, random_state=0)
    importance = dict(zip(X.columns, found.importances_mean, strict=True))
    assert importance["a"] > importance["b"] > 0
    assert importance["a"] > importance["noise"]
    if entry.predicts_groups:
        assert importance["g"] > importance["a"]
        assert importance["g"] > 0.2
    else:
        assert importance["g"] == 0
    if entry.takes_times:
        assert importance["t"] == 0


# Metadata routing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_features", [None, "g"])
@pytest.mark.parametrize("time_feature", [None, "t"])
def test_groups_and_times_are_requested_unless_they_are_in_X(entry, group_features, time_feature):
    times = {"time_feature": time_feature} if entry.takes_times else {}
    requests = entry.estimator(group_features=group_features, **times).get_metadata_routing()
    assert requests.fit.requests["groups"] is (group_features is None)
    if entry.takes_times:
        assert requests.fit.requests["time"] is (time_feature is None)
    for method in (*entry.predicting, "score"):
        asked = getattr(requests, method).requests
        assert "time" not in asked
        if entry.predicts_groups:
            assert asked["groups"] is (group_features is None)
        else:
            assert asked["groups"] is not True


def test_request_follows_the_parameters(entry, routing):
    expected = {"groups": True, "sample_weight": True} | ({"time": True} if entry.takes_times else {})
    model = entry.estimator().set_fit_request(sample_weight=True)
    doors = {"groups": "group_features"} | ({"time": "time_feature"} if entry.takes_times else {})
    assert model.get_metadata_routing().fit.requests == expected
    for argument, parameter in doors.items():
        model = clone(model.set_params(**{parameter: "c"}))
        assert model.get_metadata_routing().fit.requests == expected | {argument: False}
        model.set_params(**{parameter: None})
        assert model.get_metadata_routing().fit.requests == expected


@pytest.mark.parametrize("cv", [KNOWN, NEW], ids=["known groups", "new groups"])
def test_routing_reaches_fit_and_score(entry, data, routing, cv):
    frame, y = data
    X = frame[FEATURES]
    model = entry.estimator(**entry.all_used)
    if not entry.predicts_groups:  # their score has no use for groups, but takes them
        model.set_score_request(groups=False)
    found = cross_validate(model, X, y, params=entry.given(frame), cv=cv, return_estimator=True)
    for score, model, (train, test) in zip(
        found["test_score"], found["estimator"], cv.split(X, y, frame["g"]), strict=True
    ):
        assert model.n_groups_ == {"g": frame["g"].iloc[train].nunique()}
        expected = fit_by_hand(entry, frame, y, train)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10)
        assert score == expected.score(X.iloc[test], y[test], groups=frame["g"].iloc[test])


@entries(predicts_groups=False)
def test_routing_reaches_fit_for_any_scorer(entry, data, routing):
    """Scorers pass no groups; predictions that do without need none."""
    frame, y = data
    model = entry.estimator(**entry.all_used)
    found = cross_validate(model, frame[FEATURES], y, params=entry.given(frame), cv=NEW, scoring=entry.scoring)
    np.testing.assert_allclose(found["test_score"], scores_by_hand(entry, frame, y, NEW), rtol=1e-10)


def test_groups_for_the_splitter_and_times_for_fit(entry, data, routing):
    frame, y = data
    model = entry.estimator(group_features="g", **entry.all_used)
    found = cross_validate(model, frame[["a", "g", "b"]], y, params=entry.given(frame), cv=NEW, scoring=entry.scoring)
    np.testing.assert_allclose(found["test_score"], scores_by_hand(entry, frame, y, NEW), rtol=1e-9)


def assert_piped(entry, pipeline, frame, y, **given):
    everything = np.arange(len(y))
    expected = by_hand(entry, frame, y, everything, everything)
    np.testing.assert_allclose(entry.predictions(pipeline, frame[FEATURES], **given), expected, rtol=1e-9)


def test_routing_through_a_pipeline(entry, data, routing):
    frame, y = data
    X = frame[FEATURES]
    pipeline = make_pipeline(StandardScaler(), entry.estimator(**entry.all_used)).fit(X, y, **entry.given(frame))
    given = {"groups": frame["g"]} if entry.predicts_groups else {}
    assert_piped(entry, pipeline, frame, y, **given)
    expected = fit_by_hand(entry, frame, y, np.arange(len(y)))
    assert pipeline.score(X, y, **given) == pytest.approx(expected.score(X, y, groups=frame["g"]), rel=1e-12)


def test_without_routing_a_pipeline_takes_them_for_its_last_step(entry, data):
    frame, y = data
    pipeline = make_pipeline(StandardScaler(), entry.estimator(**entry.all_used))
    step = pipeline.steps[-1][0]
    pipeline.fit(frame[FEATURES], y, **{f"{step}__{name}": value for name, value in entry.given(frame).items()})
    assert_piped(entry, pipeline, frame, y, **({"groups": frame["g"]} if entry.predicts_groups else {}))


@entries(predicts_groups=False)
def test_predicting_takes_groups_and_does_without(entry, data):
    frame, y = data
    X, groups = frame[FEATURES], frame["g"]
    model = fit_by_hand(entry, frame, y, np.arange(len(y)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in map(model.__getattribute__, entry.predicting):
            np.testing.assert_array_equal(method(X), method(X, groups=groups))
        assert model.score(X, y) == model.score(X, y, groups=groups)


@entries(predicts_groups=True)
def test_predicting_without_groups_warns_once_a_call(entry, data):
    frame, y = data
    X = frame[FEATURES]
    model = fit_by_hand(entry, frame, y, np.arange(len(y)))
    for method in map(model.__getattribute__, entry.predicting):
        with pytest.warns(NoGroupsWarning, match="unknown group") as told:
            method(X)
        assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(NoGroupsWarning) as told:
        model.score(X, y)
    assert len(told) == 1


# Long fits ------------------------------------------------------------------------------------------------------------


class Recorder:
    """A callback that writes down what it is told."""

    def __init__(self, fail_after=None):
        self.events = []
        self.fail_after = fail_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        if context.parent is None:
            self.shape, self.metadata = X.shape, metadata
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self.events.append(f"end {context.task_name}")
        if self.fail_after is not None and self.events.count("end outer iteration") > self.fail_after:
            raise RuntimeError("stopped by the user")


def test_callbacks_see_every_iteration(entry, data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    recorder, weights = Recorder(), np.ones(len(y))
    times = {name: value for name, value in entry.given(frame).items() if name != "groups"}
    model = entry.estimator(group_features="g", **entry.all_used).set_callbacks(recorder)
    model.fit(frame[["a", "g", "b"]], y, sample_weight=weights, **times)
    assert recorder.events[:3] == ["setup", "begin fit", "begin outer iteration"]
    assert recorder.events[-2:] == ["end fit", "teardown"]
    # One iteration is announced that, on convergence, never comes.
    assert recorder.events.count("end outer iteration") == len(model.fit_report_.history) + 1
    assert recorder.events.count("begin outer iteration") == recorder.events.count("end outer iteration")
    assert recorder.shape == (len(y), 3)
    assert recorder.metadata["sample_weight"] is weights
    assert recorder.metadata.keys() == {"sample_weight", *times}
    assert all(recorder.metadata[name] is not None for name in times)


def test_callback_that_raises_leaves_the_earlier_fit(entry, data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    model, X = model_and_table(entry, frame)
    model.fit(X, y)
    before = entry.predictions(model, X)
    recorder = Recorder(fail_after=0)
    model.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="stopped by the user"):
        model.fit(X, 1 - y)
    assert recorder.events[-1] == "teardown"
    np.testing.assert_array_equal(entry.predictions(model, X), before)


def test_verbose_prints_a_line_an_iteration(entry, data, capsys):
    frame, y = data
    model, X = model_and_table(entry, frame)
    model.set_params(verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.fit_report_.history)
    assert all(line.startswith(f"[{entry}] iteration") for line in lines)
    words, attribute = entry.objective
    assert f"{words} {getattr(model, attribute):.4f}"[:-1] in lines[-1]
    model.set_params(verbose=0).fit(X, y)
    assert capsys.readouterr().out == ""
