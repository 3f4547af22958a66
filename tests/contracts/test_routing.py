"""Groups and times as metadata: what is requested by whom, and that it gets there."""

import warnings

import numpy as np
import pytest
import sklearn
from contracts.by_hand import FEATURES, KNOWN, NEW, by_hand, fit_by_hand, scores_by_hand
from contracts.estimators import entries
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklmm.exceptions import NoGroupsWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


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
    expected = {"groups": True, "offset": True, "sample_weight": True} | ({"time": True} if entry.takes_times else {})
    expected |= {"precision_weight": True} if entry.predicts_groups and not entry.binary else {}
    model = entry.estimator().set_fit_request(sample_weight=True)
    doors = {"groups": "group_features", "offset": "offset_feature"}
    doors |= {"time": "time_feature"} if entry.takes_times else {}
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
    np.testing.assert_allclose(found["test_score"], scores_by_hand(entry, frame, y, NEW), rtol=1e-10)


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
