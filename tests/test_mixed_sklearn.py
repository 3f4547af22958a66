"""MixedLogisticRegression among scikit-learn's estimators: checks, meta-estimators, routing, callbacks.

The tests of meta-estimators compare with fits and predictions made by hand, with the groups passed to both:
the numbers agree only if the groups reached fit *and* predict.
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
from sklearn.ensemble import StackingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import (
    check_classifiers_train,
    check_estimator_repr,
    parametrize_with_checks,
)

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import NoGroupsWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


def _expected_failures(estimator):
    failures = {}
    if estimator.group_features is not None:
        failures["check_classifiers_train"] = (
            "the column that separates the check's two classes is the one that is taken out of X as groups, "
            "so that no fit can reach the accuracy it asks for"
        )
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        failures["check_sample_weight_equivalence_on_dense_data"] = (
            "the check of scikit-learn 1.6 gives the two fits different classes: it makes y binary by its "
            "first row, after shuffling one of them"
        )
    return failures


@parametrize_with_checks(
    [MixedLogisticRegression(), MixedLogisticRegression(group_features=-1)],
    expected_failed_checks=_expected_failures,
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("readonly", [False, True])
def test_rest_of_the_check_that_fails_for_its_accuracy(readonly, dtype):
    class LowAccuracy(MixedLogisticRegression):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.classifier_tags.poor_score = True
            return tags

    check_classifiers_train("LowAccuracy", LowAccuracy(group_features=-1), readonly, dtype)


@pytest.fixture(scope="module")
def data():
    """Rows of 30 groups that differ a lot, with the groups as strings in the middle of a data frame."""
    X, y, groups = make_clustered_classification(
        600, 2, n_groups=30, coef=[0.7, -0.4], covariance=[[2.0, 0.3], [0.3, 0.8]], random_state=3
    )
    frame = pd.DataFrame({"a": X[:, 0], "g": [f"g{label:02d}" for label in groups], "b": X[:, 1]})
    return frame, y


def _by_hand(frame, y, train, test, random_effects=None):
    """Probabilities of the test rows, every argument passed explicitly."""
    X, groups = frame[["a", "b"]], frame["g"]
    model = MixedLogisticRegression(random_effects).fit(X.iloc[train], y[train], groups=groups.iloc[train])
    return model.predict_proba(X.iloc[test], groups=groups.iloc[test])


def _losses_by_hand(frame, y, cv, random_effects=None):
    return np.array(
        [
            -log_loss(y[test], _by_hand(frame, y, train, test, random_effects))
            for train, test in cv.split(frame, y, frame["g"])
        ]
    )


def test_cross_val_score(data):
    frame, y = data
    model = MixedLogisticRegression(group_features="g")
    cv = KFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(model, frame, y, scoring="neg_log_loss", cv=cv)
    np.testing.assert_allclose(scores, _losses_by_hand(frame, y, cv), rtol=1e-7)
    # Knowing the groups pays off, by far.
    typical = cross_val_score(
        model.set_params(predict_effects="zero"), frame, y, scoring="neg_log_loss", cv=cv
    )
    assert scores.mean() > typical.mean() + 0.05


def test_cross_val_score_on_new_groups_is_silent(data):
    frame, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoGroupsWarning)
        scores = cross_val_score(
            MixedLogisticRegression(group_features="g"),
            frame,
            y,
            groups=frame["g"],
            cv=GroupKFold(3),
            scoring="neg_log_loss",
        )
    np.testing.assert_allclose(scores, _losses_by_hand(frame, y, GroupKFold(3)), rtol=1e-7)


def test_grid_search_over_random_effects(data):
    frame, y = data
    grid = {"random_effects": ["1 | g", "1 + a | g"]}
    cv = KFold(3, shuffle=True, random_state=1)
    search = GridSearchCV(MixedLogisticRegression(group_features="g"), grid, scoring="neg_log_loss", cv=cv)
    search.fit(frame, y)
    by_hand = [_losses_by_hand(frame, y, cv, spec).mean() for spec in grid["random_effects"]]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], by_hand, rtol=1e-6)
    assert search.best_params_ == {"random_effects": "1 + a | g"}
    assert search.best_estimator_.covariance_["g"].shape == (2, 2)
    everything = np.arange(len(y))
    np.testing.assert_allclose(
        search.predict_proba(frame), _by_hand(frame, y, everything, everything, "1 + a | g"), rtol=1e-5
    )


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_pipeline_with_column_transformer(data, output):
    frame, y = data
    transformer = ColumnTransformer(
        [("scale", StandardScaler(), ["a", "b"])], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform=output)
    # As NumPy, the numbers and the strings share an object array whose last column the groups are.
    model = MixedLogisticRegression(group_features="g" if output == "pandas" else -1)
    pipeline = make_pipeline(transformer, model)
    cv = KFold(3, shuffle=True, random_state=2)
    scores = cross_val_score(pipeline, frame, y, scoring="neg_log_loss", cv=cv)
    # The scaling is affine: it changes coefficients, not predictions.
    np.testing.assert_allclose(scores, _losses_by_hand(frame, y, cv), rtol=1e-6)
    factor = "g" if output == "pandas" else "x2"
    assert pipeline.fit(frame, y)[-1].n_groups_ == {factor: 30}


def test_calibrated_classifier(data):
    frame, y = data
    cv = KFold(3, shuffle=True, random_state=0)
    calibrated = CalibratedClassifierCV(MixedLogisticRegression(group_features="g"), cv=cv, method="sigmoid")
    calibrated.fit(frame, y)
    for fold, (train, test) in zip(calibrated.calibrated_classifiers_, cv.split(frame), strict=True):
        assert fold.estimator.n_groups_["g"] == frame["g"].iloc[train].nunique()
        np.testing.assert_allclose(
            fold.estimator.predict_proba(frame.iloc[test]), _by_hand(frame, y, train, test), rtol=1e-6
        )
    other_groups = frame.assign(g=np.roll(frame["g"], 1))
    assert np.abs(calibrated.predict_proba(frame) - calibrated.predict_proba(other_groups)).max() > 0.1


def test_stacking_classifier(data):
    frame, y = data
    plain = make_pipeline(
        ColumnTransformer([("levels", OneHotEncoder(), ["g"])], remainder="passthrough"), LogisticRegression()
    )
    cv = KFold(3, shuffle=True, random_state=0)
    stack = StackingClassifier(
        [("mixed", MixedLogisticRegression(group_features="g")), ("plain", plain)],
        final_estimator=LogisticRegression(C=1e6),
        cv=cv,
    )
    stack.fit(frame, y)
    everything = np.arange(len(y))
    full = _by_hand(frame, y, everything, everything)[:, 1]
    np.testing.assert_allclose(stack.transform(frame)[:, 0], full, rtol=1e-6)
    # The final estimator was trained on out-of-fold probabilities, which had the groups too.
    out_of_fold = np.empty(len(y))
    other = np.empty(len(y))
    for train, test in cv.split(frame):
        out_of_fold[test] = _by_hand(frame, y, train, test)[:, 1]
        other[test] = clone(plain).fit(frame.iloc[train], y[train]).predict_proba(frame.iloc[test])[:, 1]
    final = LogisticRegression(C=1e6).fit(np.column_stack([out_of_fold, other]), y)
    np.testing.assert_allclose(stack.final_estimator_.coef_, final.coef_, rtol=1e-4)


def test_permutation_importance(data):
    frame, y = data
    frame = frame.assign(noise=np.random.default_rng(0).normal(size=len(y)))
    model = MixedLogisticRegression(group_features="g").fit(frame, y)
    found = permutation_importance(model, frame, y, scoring="neg_log_loss", n_repeats=3, random_state=0)
    importance = dict(zip(frame.columns, found.importances_mean, strict=True))
    assert importance["g"] > importance["a"] > importance["noise"]
    assert importance["g"] > 0.2


# Metadata routing -------------------------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


METHODS = ("fit", "predict", "predict_proba", "predict_log_proba", "decision_function", "score")


def test_groups_are_requested_unless_they_are_in_X():
    by_metadata = MixedLogisticRegression().get_metadata_routing()
    in_X = MixedLogisticRegression(group_features="g").get_metadata_routing()
    for method in METHODS:
        assert getattr(by_metadata, method).requests["groups"] is True
        assert getattr(in_X, method).requests["groups"] is False


def test_request_follows_the_parameter(routing):
    model = MixedLogisticRegression().set_fit_request(sample_weight=True)
    model = clone(model.set_params(group_features="g"))
    assert model.get_metadata_routing().fit.requests == {"groups": False, "sample_weight": True}
    model.set_params(group_features=None)
    assert model.get_metadata_routing().fit.requests == {"groups": True, "sample_weight": True}


def test_routing_reaches_fit_and_score(data, routing):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    cv = KFold(3, shuffle=True, random_state=0)
    found = cross_validate(
        MixedLogisticRegression(), X, y, params={"groups": groups}, cv=cv, return_estimator=True
    )
    for score, model, (train, test) in zip(found["test_score"], found["estimator"], cv.split(X), strict=True):
        assert model.n_groups_ == {"g": groups.iloc[train].nunique()}
        by_hand = _by_hand(frame, y, train, test)
        assert score == np.mean((by_hand[:, 1] > 0.5) == y[test])


def test_routing_through_a_pipeline(data, routing):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    pipeline = make_pipeline(StandardScaler(), MixedLogisticRegression()).fit(X, y, groups=groups)
    everything = np.arange(len(y))
    expected = _by_hand(frame, y, everything, everything)
    np.testing.assert_allclose(pipeline.predict_proba(X, groups=groups), expected, rtol=1e-6)
    assert pipeline.score(X, y, groups=groups) == np.mean((expected[:, 1] > 0.5) == y)


def test_groups_for_the_splitter_only(data, routing):
    frame, y = data
    model = MixedLogisticRegression(group_features="g")
    found = cross_validate(
        model, frame, y, params={"groups": frame["g"]}, cv=GroupKFold(3), scoring="neg_log_loss"
    )
    np.testing.assert_allclose(found["test_score"], _losses_by_hand(frame, y, GroupKFold(3)), rtol=1e-6)


def test_without_routing_a_pipeline_takes_groups_for_its_last_step(data):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    pipeline = make_pipeline(StandardScaler(), MixedLogisticRegression())
    pipeline.fit(X, y, mixedlogisticregression__groups=groups)
    everything = np.arange(len(y))
    np.testing.assert_allclose(
        pipeline.predict_proba(X, groups=groups), _by_hand(frame, y, everything, everything), rtol=1e-6
    )


# Fitted models as objects -----------------------------------------------------------------------------------


def test_clone_and_pickle(data):
    frame, y = data
    model = MixedLogisticRegression("1 + a | g", group_features="g", n_quadrature=3, predict_effects="mode")
    model.fit(frame, y)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert not hasattr(copied, "coef_")
    assert not hasattr(copied, "random_effects_")
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    pd.testing.assert_frame_equal(loaded.random_effects_["g"], model.random_effects_["g"])
    pd.testing.assert_frame_equal(loaded.vcov_, model.vcov_)


def test_pickle_holds_no_rows():
    X, y, groups = make_clustered_classification(50_000, 5, n_groups=200, random_state=0)
    labels = np.char.add("district ", groups.astype(str))
    model = MixedLogisticRegression().fit(X, y, groups=labels)
    model.predict_proba(X, groups=labels)  # leaves no tables behind
    assert len(pickle.dumps(model)) < 40_000
    with_X = pd.DataFrame(X).add_prefix("x").assign(g=labels)
    assert len(pickle.dumps(MixedLogisticRegression(group_features="g").fit(with_X, y))) < 40_000


def test_repr():
    model = MixedLogisticRegression("1 + a | g", group_features="g")
    assert repr(model) == "MixedLogisticRegression(group_features='g', random_effects='1 + a | g')"
    assert "MixedLogisticRegression" in model._repr_html_()
    check_estimator_repr("MixedLogisticRegression", model)


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
    model = MixedLogisticRegression(group_features="g").set_callbacks(recorder)
    model.fit(frame, y, sample_weight=weights)
    assert recorder.events[:3] == ["setup", "begin fit", "begin outer iteration"]
    assert recorder.events[-2:] == ["end fit", "teardown"]
    # One iteration is announced that, on convergence, never comes.
    assert recorder.events.count("end outer iteration") == len(model.fit_report_.history) + 1
    assert recorder.events.count("begin outer iteration") == recorder.events.count("end outer iteration")
    assert recorder.shape == frame.shape
    assert recorder.metadata["sample_weight"] is weights


def test_callback_that_raises_leaves_the_earlier_fit(data):
    pytest.importorskip("sklearn.callback")
    frame, y = data
    model = MixedLogisticRegression(group_features="g").fit(frame, y)
    before = model.predict_proba(frame)
    recorder = Recorder(fail_after=0)
    model.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="stopped by the user"):
        model.fit(frame, 1 - y)
    assert recorder.events[-1] == "teardown"
    np.testing.assert_array_equal(model.predict_proba(frame), before)


def test_verbose_prints_a_line_an_iteration(data, capsys):
    frame, y = data
    model = MixedLogisticRegression(group_features="g", verbose=1).fit(frame, y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(model.fit_report_.history)
    assert all(line.startswith("[MixedLogisticRegression] iteration") for line in lines)
    assert f"log-likelihood {model.log_likelihood_:.4f}"[:-1] in lines[-1]
    MixedLogisticRegression(group_features="g").fit(frame, y)
    assert capsys.readouterr().out == ""
