"""grouped_scorer: cross-validation that predicts known groups as known, with the groups as metadata."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, get_scorer_names, log_loss, make_scorer, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression
from sklmm.compose import make_grouped_pipeline
from sklmm.datasets import load_sleepstudy, make_clustered_classification
from sklmm.exceptions import NoGroupsWarning
from sklmm.scorers import grouped_scorer

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklmm.exceptions.SingularFitWarning",
    "ignore:The groups parameter is ignored",
    "ignore:'k' .2. greater than or equal",
)


@pytest.fixture(scope="module")
def data():
    """Rows of 20 groups that differ a lot; the group stands in the middle of the columns."""
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, covariance=3.0, random_state=3)
    return pd.DataFrame({"a": X[:, 0], "g": [f"g{label:02d}" for label in groups], "b": X[:, 1]}), y


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _losses_by_hand(model, frame, y, cv, metric=log_loss):
    X, groups = frame[["a", "b"]], frame["g"]
    losses = []
    for train, test in cv.split(X, y, groups):
        fitted = clone(model).fit(X.iloc[train], y[train], groups=groups.iloc[train])
        predicted = fitted.predict_proba(X.iloc[test], groups=groups.iloc[test])[:, 1]
        losses.append(metric(y[test], predicted))
    return np.array(losses)


@pytest.mark.parametrize("cv", [StratifiedKFold(3), GroupKFold(3)], ids=repr)
def test_cross_validation_with_groups_as_metadata(data, routing, cv):
    frame, y = data
    found = cross_validate(
        MixedLogisticRegression(), frame[["a", "b"]], y, cv=cv,
        scoring=grouped_scorer("neg_log_loss"), params={"groups": frame["g"]},
    )["test_score"]  # fmt: skip
    np.testing.assert_allclose(found, -_losses_by_hand(MixedLogisticRegression(), frame, y, cv), rtol=1e-10)


def test_known_groups_score_better_with_their_groups_than_without(data, routing):
    """What scikit-learn's own scorer lacks: it predicts every row as one of an unknown group."""
    frame, y = data
    common = dict(X=frame[["a", "b"]], y=y, cv=StratifiedKFold(3), params={"groups": frame["g"]})
    with pytest.warns(NoGroupsWarning):
        without = cross_val_score(MixedLogisticRegression(), scoring="neg_log_loss", **common)
    with_groups = cross_val_score(MixedLogisticRegression(), scoring=grouped_scorer("neg_log_loss"), **common)
    assert (with_groups > without + 0.05).all()


def test_several_metrics_pipelines_and_searches(data, routing):
    frame, y = data
    X, groups, cv = frame[["a", "b"]], frame["g"], StratifiedKFold(3)
    pipeline = make_pipeline(StandardScaler(), MixedLogisticRegression())
    scoring = {name: grouped_scorer(name) for name in ("neg_log_loss", "roc_auc")}
    losses = _losses_by_hand(pipeline[-1], frame, y, cv)
    areas = _losses_by_hand(pipeline[-1], frame, y, cv, roc_auc_score)
    found = cross_validate(pipeline, X, y, cv=cv, scoring=scoring, params={"groups": groups})
    np.testing.assert_allclose(found["test_neg_log_loss"], -losses, rtol=1e-6)
    np.testing.assert_allclose(found["test_roc_auc"], areas, rtol=1e-6)
    grid = {"mixedlogisticregression__predict_effects": ["posterior", "zero"]}
    search = GridSearchCV(pipeline, grid, cv=cv, scoring=grouped_scorer("neg_log_loss"))
    search.fit(X, y, groups=groups)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"][0], -losses.mean(), rtol=1e-6)
    assert search.best_params_["mixedlogisticregression__predict_effects"] == "posterior"
    fitted = search.best_estimator_.predict_proba(X, groups=groups)
    np.testing.assert_allclose(search.score(X, y, groups=groups), -log_loss(y, fitted), rtol=1e-12)


def test_models_that_take_no_groups_are_scored_as_usual(data, routing):
    frame, y = data
    X, groups, cv = frame[["a", "b"]], frame["g"], GroupKFold(3)
    for model in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression()), GEELogisticRegression()):
        found, expected = (
            cross_val_score(model, X, y, cv=cv, scoring=scoring, params={"groups": groups})
            for scoring in (grouped_scorer("neg_log_loss"), "neg_log_loss")
        )
        np.testing.assert_array_equal(found, expected)
    in_X = MixedLogisticRegression(group_features="g")
    pipeline = make_grouped_pipeline(StandardScaler(), in_X.set_params(group_features=None), group_features="g")
    for model in (in_X.set_params(group_features="g"), pipeline):
        found = cross_val_score(
            model, frame, y, cv=cv, scoring=grouped_scorer("neg_log_loss"), params={"groups": groups}
        )
        np.testing.assert_allclose(found, -_losses_by_hand(MixedLogisticRegression(), frame, y, cv), rtol=1e-6)


def test_sample_weight_is_for_the_metric(data, routing):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    weights = np.arange(1.0, len(y) + 1)
    model = MixedLogisticRegression().set_fit_request(sample_weight=False)
    scorer = grouped_scorer("neg_log_loss").set_score_request(sample_weight=True)
    found = cross_val_score(
        model, X, y, cv=StratifiedKFold(3), scoring=scorer, params={"groups": groups, "sample_weight": weights}
    )
    expected = []
    for train, test in StratifiedKFold(3).split(X, y):
        fitted = clone(model).fit(X.iloc[train], y[train], groups=groups.iloc[train])
        predicted = fitted.predict_proba(X.iloc[test], groups=groups.iloc[test])
        expected.append(-log_loss(y[test], predicted, sample_weight=weights[test]))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_groups_of_several_factors(data, routing):
    frame, y = data
    X, groups = frame[["a", "b"]], frame[["g"]].assign(year=np.arange(len(y)) % 4)
    found = cross_val_score(
        MixedLogisticRegression(), X, y, cv=3, scoring=grouped_scorer("accuracy"), params={"groups": groups}
    )
    in_X = MixedLogisticRegression(group_features=["g", "year"])
    np.testing.assert_allclose(found, cross_val_score(in_X, X.join(groups), y, cv=3), rtol=1e-12)


def test_every_scorer_of_binary_classifiers(data):
    """Groups as metadata score as groups in X do, by every scorer that can score the latter."""
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    by_metadata = MixedLogisticRegression().fit(X, y, groups=groups)
    in_X = MixedLogisticRegression(group_features="g").fit(frame, y)
    n_tested = 0
    for name in get_scorer_names():
        try:
            expected = get_scorer(name)(in_X, frame, y)
        except ValueError:
            assert name.endswith("_samples") or name in ("neg_mean_gamma_deviance", "neg_mean_poisson_deviance")
            continue
        found = grouped_scorer(name)(by_metadata, X, y, groups=groups)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12, err_msg=name)
        n_tested += 1
    assert n_tested > 40


def test_scorer_by_hand_without_routing(data):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    weights = np.arange(1.0, len(y) + 1)
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    known = model.predict_proba(X, groups=groups)
    scorer = grouped_scorer("neg_log_loss")
    assert scorer(model, X, y, groups=groups) == pytest.approx(-log_loss(y, known), rel=1e-12)
    assert scorer(model, X, y, groups=groups, sample_weight=weights) == pytest.approx(
        -log_loss(y, known, sample_weight=weights), rel=1e-12
    )
    pipeline = make_pipeline(StandardScaler(), MixedLogisticRegression())
    pipeline.fit(X, y, mixedlogisticregression__groups=groups)
    assert scorer(pipeline, X, y, groups=groups) == pytest.approx(-log_loss(y, known), rel=1e-6)
    with pytest.warns(NoGroupsWarning):
        assert scorer(model, X, y) < -log_loss(y, known)


def test_scorer_without_routing_in_cross_validation(data):
    frame, y = data
    cv = StratifiedKFold(3)
    expected = -_losses_by_hand(MixedLogisticRegression(), frame, y, cv)
    in_X = MixedLogisticRegression(group_features="g")
    scoring = {"loss": grouped_scorer("neg_log_loss"), "plain": "neg_log_loss"}
    found = cross_validate(in_X, frame, y, cv=cv, scoring=scoring)
    np.testing.assert_allclose(found["test_loss"], expected, rtol=1e-6)
    np.testing.assert_array_equal(found["test_loss"], found["test_plain"])


def test_scorer_objects_and_functions(data):
    frame, y = data
    X, groups = frame[["a", "b"]], frame["g"]
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    worst = make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", normalize=False)
    known = model.predict_proba(X, groups=groups)
    assert grouped_scorer(worst)(model, X, y, groups=groups) == pytest.approx(-log_loss(y, known, normalize=False))

    def mean_probability(estimator, X, y):
        return estimator.predict_proba(X)[:, 1].mean()

    scorer = grouped_scorer(mean_probability)
    assert scorer(model, X, y, groups=groups) == pytest.approx(known[:, 1].mean())
    assert "mean_probability" in repr(scorer)
    assert repr(grouped_scorer("roc_auc")) == "grouped_scorer('roc_auc')"
    loaded = pickle.loads(pickle.dumps(grouped_scorer("roc_auc")))
    assert loaded(model, X, y, groups=groups) == pytest.approx(roc_auc_score(y, known[:, 1]))


def test_regressors_are_scored_with_their_groups(routing):
    X, y, groups = load_sleepstudy(return_X_y=True, as_frame=True)
    names = {name: grouped_scorer(name) for name in ("neg_root_mean_squared_error", "neg_mean_absolute_error", "r2")}
    cv = KFold(3, shuffle=True, random_state=0)
    pipeline = make_pipeline(StandardScaler(), MixedLinearRegression())
    for model in (MixedLinearRegression(), pipeline, GEELinearRegression()):
        found = cross_validate(model, X, y, cv=cv, scoring=names, params={"groups": groups})
        for k, (train, test) in enumerate(cv.split(X)):
            fitted = clone(model[-1] if model is pipeline else model)
            fitted.fit(X.iloc[train], y.iloc[train], groups=groups.iloc[train])
            predicted = fitted.predict(X.iloc[test], groups=groups.iloc[test])
            for name in names:
                expected = get_scorer(name)._sign * get_scorer(name)._score_func(y.iloc[test], predicted)
                assert found[f"test_{name}"][k] == pytest.approx(expected, rel=1e-6)
    with pytest.warns(NoGroupsWarning):
        plain = cross_val_score(pipeline, X, y, cv=cv, scoring="r2", params={"groups": groups})
    known = cross_val_score(pipeline, X, y, cv=cv, scoring=grouped_scorer("r2"), params={"groups": groups})
    assert (known > plain + 0.2).all()


def test_scorers_that_are_none():
    with pytest.raises(ValueError, match="no_such_score"):
        grouped_scorer("no_such_score")
    with pytest.raises(ValueError, match="metric function rather than a scorer"):
        grouped_scorer(log_loss)
    with pytest.raises(ValueError, match="scoring must be the name of a scorer or a scorer"):
        grouped_scorer(["roc_auc"])
    with pytest.raises(RuntimeError, match="enable_metadata_routing"):
        grouped_scorer("roc_auc").set_score_request(sample_weight=True)
