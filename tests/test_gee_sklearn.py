"""GEELogisticRegression among scikit-learn's estimators: checks, meta-estimators, routing, callbacks.

The tests of meta-estimators compare with fits made by hand, with groups and times passed to fit: the numbers agree
only if both got there.
"""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_classifiers_train, check_estimator_repr, parametrize_with_checks

from sklmm import GEELogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.estimating import AR1, Exchangeable, Fixed, MDependent
from sklmm.exceptions import SklmmWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


def _expected_failures(estimator):
    failures = {}
    if estimator.group_features is not None or estimator.time_feature is not None:
        failures["check_classifiers_train"] = (
            "the column that separates the check's two classes is the one that is taken out of X, so that no fit can "
            "reach the accuracy it asks for"
        )
    if estimator.time_feature == -2:
        failures["check_fit2d_1feature"] = "there is no column but one, and two have been named"
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        failures["check_sample_weight_equivalence_on_dense_data"] = (
            "the check of scikit-learn 1.6 gives the two fits different classes: it makes y binary by its first row, "
            "after shuffling one of them"
        )
    return failures


@parametrize_with_checks(
    [
        GEELogisticRegression(),
        GEELogisticRegression("independence"),
        GEELogisticRegression("ar1"),
        GEELogisticRegression("unstructured"),
        GEELogisticRegression("m-dependent"),
        GEELogisticRegression(Fixed([[1.0]])),
        GEELogisticRegression(group_features=-1),
        GEELogisticRegression("ar1", time_feature=-1),
        GEELogisticRegression(group_features=-1, time_feature=-2),
    ],
    expected_failed_checks=_expected_failures,
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("parameters", [{"group_features": -1}, {"correlation": "ar1", "time_feature": -1}])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("readonly", [False, True])
def test_rest_of_the_check_that_fails_for_its_accuracy(readonly, dtype, parameters):
    class LowAccuracy(GEELogisticRegression):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.classifier_tags.poor_score = True
            return tags

    check_classifiers_train("LowAccuracy", LowAccuracy(**parameters), readonly, dtype)


@pytest.fixture(scope="module")
def data():
    """50 groups seen up to 12 times, in no order; groups are strings in the middle of a data frame, times its end."""
    X, y, groups = make_clustered_classification(
        500, 2, n_groups=50, coef=[0.7, -0.4], covariance=[[2.0, 0.3], [0.3, 0.8]], random_state=3
    )
    frame = pd.DataFrame({"a": X[:, 0], "g": [f"g{label:02d}" for label in groups], "b": X[:, 1]})
    frame["t"] = frame.groupby("g").cumcount() * 2.0
    order = np.random.default_rng(0).permutation(len(y))
    return frame.iloc[order].reset_index(drop=True), y[order]


def _model(correlation="ar1", **parameters):
    return GEELogisticRegression(correlation, group_features="g", time_feature="t", **parameters)


def _by_hand(frame, y, train, correlation="ar1"):
    """A fit to some rows, every argument passed explicitly."""
    rows = frame.iloc[train]
    model = GEELogisticRegression(correlation)
    return model.fit(rows[["a", "b"]], y[train], groups=rows["g"], time=rows["t"])


def _losses_by_hand(frame, y, cv, correlation="ar1"):
    losses = []
    for train, test in cv.split(frame, y, frame["g"]):
        probabilities = _by_hand(frame, y, train, correlation).predict_proba(frame[["a", "b"]].iloc[test])
        losses.append(-log_loss(y[test], probabilities))
    return np.array(losses)


CV = GroupKFold(3)


def test_the_structures_differ(data):
    """Else the tests below could not tell a fit that got its groups and times from one that did not."""
    frame, y = data
    everything = np.arange(len(y))
    fits = [_by_hand(frame, y, everything, name).coef_ for name in ("ar1", "exchangeable", "independence")]
    no_times = GEELogisticRegression("ar1").fit(frame[["a", "b"]], y, groups=frame["g"]).coef_
    for j, one in enumerate([*fits, no_times]):
        for other in fits[:j]:
            assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("correlation", ["ar1", "exchangeable"])
def test_cross_val_score(data, correlation):
    frame, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error", SklmmWarning)
        scores = cross_val_score(
            _model(correlation), frame, y, groups=frame["g"], cv=CV, scoring="neg_log_loss"
        )
    np.testing.assert_allclose(scores, _losses_by_hand(frame, y, CV, correlation), rtol=1e-10)


def test_grid_search_over_correlations(data):
    frame, y = data
    grid = {"correlation": ["independence", "exchangeable", AR1(), MDependent(2)]}
    search = GridSearchCV(_model(), grid, scoring="neg_log_loss", cv=CV).fit(frame, y, groups=frame["g"])
    by_hand = [_losses_by_hand(frame, y, CV, correlation).mean() for correlation in grid["correlation"]]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand, rtol=1e-10)
    assert len(set(by_hand)) == 4
    best = _by_hand(frame, y, np.arange(len(y)), grid["correlation"][int(np.argmax(by_hand))])
    np.testing.assert_allclose(search.best_estimator_.coef_, best.coef_, rtol=1e-10)


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_pipeline_with_column_transformer(data, output):
    frame, y = data
    transformer = ColumnTransformer(
        [("scale", StandardScaler(), ["a", "b"])], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform=output)
    # As NumPy, the numbers, the strings and the times share an object array, with groups and times last.
    model = _model() if output == "pandas" else GEELogisticRegression("ar1", group_features=2, time_feature=3)
    pipeline = make_pipeline(transformer, model)
    scores = cross_val_score(pipeline, frame, y, groups=frame["g"], scoring="neg_log_loss", cv=CV)
    # The scaling is affine: it changes coefficients, not predictions.
    np.testing.assert_allclose(scores, _losses_by_hand(frame, y, CV), rtol=1e-8)
    assert pipeline.fit(frame, y)[-1].n_groups_ == {"g" if output == "pandas" else "x2": 50}


def test_calibrated_classifier(data):
    frame, y = data
    splits = list(CV.split(frame, y, frame["g"]))
    calibrated = CalibratedClassifierCV(_model(), cv=splits, method="sigmoid").fit(frame, y)
    for fold, (train, _) in zip(calibrated.calibrated_classifiers_, splits, strict=True):
        by_hand = _by_hand(frame, y, train)
        np.testing.assert_allclose(fold.estimator.coef_, by_hand.coef_, rtol=1e-10)
        np.testing.assert_allclose(fold.estimator.correlation_params_, by_hand.correlation_params_, rtol=1e-10)
    assert calibrated.predict_proba(frame).shape == (len(y), 2)


def test_permutation_importance(data):
    """The predictions are population averages: who the group is, and when, does not enter them."""
    frame, y = data
    model = _model().fit(frame, y)
    found = permutation_importance(model, frame, y, scoring="neg_log_loss", n_repeats=3, random_state=0)
    importance = dict(zip(frame.columns, found.importances_mean, strict=True))
    assert importance["a"] > importance["b"] > 0
    assert importance["g"] == importance["t"] == 0


# Metadata routing -------------------------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score")


@pytest.mark.parametrize("time_feature", [None, "t"])
@pytest.mark.parametrize("group_features", [None, "g"])
def test_groups_and_times_are_requested_unless_they_are_in_X(group_features, time_feature):
    model = GEELogisticRegression(group_features=group_features, time_feature=time_feature)
    requests = model.get_metadata_routing()
    assert requests.fit.requests["groups"] is (group_features is None)
    assert requests.fit.requests["time"] is (time_feature is None)
    for method in PREDICTING:
        asked = getattr(requests, method).requests
        assert "time" not in asked
        assert asked["groups"] is not True


def test_request_follows_the_parameters(routing):
    model = GEELogisticRegression().set_fit_request(sample_weight=True)
    model = clone(model.set_params(time_feature="t"))
    assert model.get_metadata_routing().fit.requests == {"groups": True, "time": False, "sample_weight": True}
    model.set_params(time_feature=None, group_features="g")
    assert model.get_metadata_routing().fit.requests == {"groups": False, "time": True, "sample_weight": True}


def test_routing_reaches_fit(data, routing):
    frame, y = data
    X = frame[["a", "b"]]
    found = cross_validate(
        GEELogisticRegression("ar1"),
        X,
        y,
        params={"groups": frame["g"], "time": frame["t"]},
        cv=CV,
        scoring="neg_log_loss",
        return_estimator=True,
    )
    np.testing.assert_allclose(found["test_score"], _losses_by_hand(frame, y, CV), rtol=1e-10)
    for model, (train, _) in zip(found["estimator"], CV.split(X, y, frame["g"]), strict=True):
        assert model.n_groups_ == {"g": frame["g"].iloc[train].nunique()}


def test_routing_of_times_alone(data, routing):
    frame, y = data
    model = GEELogisticRegression("ar1", group_features="g")
    found = cross_validate(
        model, frame.drop(columns="t"), y, params={"time": frame["t"], "groups": frame["g"]}, cv=CV,
        scoring="neg_log_loss",
    )  # fmt: skip
    np.testing.assert_allclose(found["test_score"], _losses_by_hand(frame, y, CV), rtol=1e-10)


def test_routing_through_a_pipeline(data, routing):
    frame, y = data
    X = frame[["a", "b"]]
    pipeline = make_pipeline(StandardScaler(), GEELogisticRegression("ar1"))
    pipeline.fit(X, y, groups=frame["g"], time=frame["t"])
    expected = _by_hand(frame, y, np.arange(len(y)))
    np.testing.assert_allclose(pipeline.predict_proba(X), expected.predict_proba(X), rtol=1e-9)
    assert pipeline.score(X, y) == expected.score(X, y)


def test_without_routing_a_pipeline_takes_them_for_its_last_step(data):
    frame, y = data
    X = frame[["a", "b"]]
    pipeline = make_pipeline(StandardScaler(), GEELogisticRegression("ar1"))
    pipeline.fit(
        X, y, geelogisticregression__groups=frame["g"], geelogisticregression__time=frame["t"]
    )
    expected = _by_hand(frame, y, np.arange(len(y)))
    np.testing.assert_allclose(pipeline.predict_proba(X), expected.predict_proba(X), rtol=1e-9)


def test_predicting_takes_groups_and_does_without(data):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    model = _by_hand(frame, y, np.arange(len(y)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            alone, given = getattr(model, method)(X), getattr(model, method)(X, groups=groups)
            np.testing.assert_array_equal(alone, given)
        assert model.score(X, y) == model.score(X, y, groups=groups) == np.mean(model.predict(X) == y)
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities), rtol=1e-12)
    expected = X.to_numpy() @ model.coef_[0] + model.intercept_
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-12, atol=1e-12)


# Fitted models as objects -----------------------------------------------------------------------------------


def test_clone_with_a_correlation_instance(data):
    frame, y = data
    correlation = MDependent(2)
    model = _model(correlation, cov_type="mancl-derouen", dispersion=1.0, ddof_correction=False).fit(frame, y)
    copied = clone(model)
    assert copied.correlation is not correlation and copied.correlation.m == 2
    parameters, expected = copied.get_params(), model.get_params()
    assert parameters.pop("correlation") is not expected.pop("correlation")
    assert parameters == expected
    assert not hasattr(copied, "coef_")
    assert not hasattr(copied, "vcov_")
    assert not hasattr(copied, "working_correlation_")
    np.testing.assert_array_equal(copied.fit(frame, y).vcov_, model.vcov_)


@pytest.mark.parametrize(
    "correlation", ["independence", "exchangeable", "ar1", "unstructured", MDependent(2), Fixed(np.eye(20))]
)
def test_pickle_round_trip(data, correlation):
    frame, y = data
    model = _model(correlation).fit(frame, y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    np.testing.assert_array_equal(loaded.working_correlation_, model.working_correlation_)
    for cov_type in ("robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"):
        pd.testing.assert_frame_equal(loaded.vcov(cov_type), model.vcov(cov_type))
    assert str(loaded.summary()) == str(model.summary())
    np.testing.assert_array_equal(loaded.fit(frame, y).coef_, model.coef_)


@pytest.mark.parametrize("correlation", ["exchangeable", "ar1", "unstructured"])
def test_pickle_holds_no_rows(correlation):
    """What is stored is of the size of the coefficients' covariance, and a number a group and coefficient."""
    X, y, groups = make_clustered_classification(20_000, 5, n_groups=5_000, random_state=0)
    labels = np.char.add("household ", groups.astype(str))
    time = pd.Series(groups).groupby(groups).cumcount().to_numpy() % 3 if correlation == "unstructured" else None
    keep = np.ones(len(y), dtype=bool) if time is None else ~pd.DataFrame({"g": groups, "t": time}).duplicated()
    time = None if time is None else time[keep]
    model = GEELogisticRegression(correlation).fit(X[keep], y[keep], groups=labels[keep], time=time)
    model.predict_proba(X)
    model.summary()
    of_groups = len(pickle.dumps((model._levels, model._influence, model._level_rows)))
    assert of_groups < 5_000 * (20 + 4 * 6 + 8) and model._influence.dtype == np.float32
    assert len(pickle.dumps(model)) < 8_000 + of_groups
    with_X = pd.DataFrame(X[keep]).add_prefix("x").assign(g=labels[keep])
    with_X["t"] = np.arange(keep.sum()) if time is None else time
    in_X = GEELogisticRegression(correlation, group_features="g", time_feature="t").fit(with_X, y[keep])
    assert len(pickle.dumps(in_X)) < 12_000 + of_groups


def test_repr():
    model = GEELogisticRegression(MDependent(2), group_features="g")
    assert repr(model) == "GEELogisticRegression(correlation=MDependent(m=2), group_features='g')"
    assert "GEELogisticRegression" in model._repr_html_()
    check_estimator_repr("GEELogisticRegression", model)


# Threads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", ["exchangeable", "ar1", "unstructured", MDependent(2)])
def test_thread_count_changes_no_bit(correlation):
    X, y, groups = make_clustered_classification(20_000, 4, n_groups=4_000, covariance=1.0, random_state=0)
    time = pd.Series(groups).groupby(groups).cumcount().to_numpy()
    fits = [
        GEELogisticRegression(correlation, n_threads=n).fit(X, y, groups=groups, time=time) for n in (1, 2, 4)
    ]
    for other in fits[1:]:
        for attribute in ("coef_", "intercept_", "vcov_", "correlation_params_", "dispersion_", "qic_", "n_iter_"):
            np.testing.assert_array_equal(getattr(other, attribute), getattr(fits[0], attribute))
        for cov_type in ("naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel"):
            np.testing.assert_array_equal(other.vcov(cov_type), fits[0].vcov(cov_type))
        np.testing.assert_array_equal(other.predict_proba(X), fits[0].predict_proba(X))


# Long fits --------------------------------------------------------------------------------------------------


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


def test_callbacks_see_every_iteration(data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    recorder = Recorder()
    weights = np.ones(len(y))
    model = GEELogisticRegression("ar1", group_features="g").set_callbacks(recorder)
    model.fit(frame.drop(columns="t"), y, sample_weight=weights, time=frame["t"])
    assert recorder.events[:3] == ["setup", "begin fit", "begin outer iteration"]
    assert recorder.events[-2:] == ["end fit", "teardown"]
    # One iteration is announced that, on convergence, never comes.
    assert recorder.events.count("end outer iteration") == len(model.fit_report_.history) + 1
    assert recorder.events.count("begin outer iteration") == recorder.events.count("end outer iteration")
    assert recorder.shape == (len(y), 3)
    assert recorder.metadata["sample_weight"] is weights
    assert recorder.metadata["time"] is not None
    assert "groups" not in recorder.metadata


def test_callback_that_raises_leaves_the_earlier_fit(data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    model = _model().fit(frame, y)
    before = model.predict_proba(frame)
    recorder = Recorder(fail_after=0)
    model.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="stopped by the user"):
        model.fit(frame, 1 - y)
    assert recorder.events[-1] == "teardown"
    np.testing.assert_array_equal(model.predict_proba(frame), before)


def test_verbose_prints_a_line_an_iteration(data, capsys):
    frame, y = data
    model = _model(verbose=1).fit(frame, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.fit_report_.history)
    assert all(line.startswith("[GEELogisticRegression] iteration") for line in lines)
    assert f"quasi-likelihood {model.quasi_likelihood_:.4f}"[:-1] in lines[-1]
    _model(Exchangeable()).fit(frame, y)
    assert capsys.readouterr().out == ""
