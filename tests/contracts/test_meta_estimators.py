"""Pipelines, searches, cross-validation and whatever else of scikit-learn takes an estimator.

The tests compare with fits and predictions made by hand, with groups and times passed as arguments: the numbers agree
only if these got to fit, and groups to the predictions that know them.
"""

import warnings

import numpy as np
import pytest
from contracts.by_hand import FEATURES, KNOWN, NEW, by_hand, fit_by_hand, model_and_table, scores_by_hand
from contracts.estimators import assert_same, entries
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor, StackingClassifier, StackingRegressor, VotingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklmm.exceptions import LaplaceWarning, SklmmWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


def test_what_is_given_matters(entry, data):
    """Else the tests below could not tell a fit that got its groups and times from one that did not."""
    frame, y = data
    everything = np.arange(len(y))
    y = y if entry.binary else 10.0 * y
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
        warnings.simplefilter("error", SklmmWarning)
        warnings.simplefilter("ignore", LaplaceWarning)
        scores = cross_val_score(model, X, y, groups=frame["g"], cv=cv, scoring=entry.scoring)
    np.testing.assert_allclose(scores, scores_by_hand(entry, frame, y, cv), rtol=1e-10)
    if entry.predicts_groups and cv is KNOWN:  # knowing the groups pays off, by far
        typical = cross_val_score(model.set_params(predict_effects="zero"), X, y, scoring=entry.scoring, cv=cv)
        assert scores.mean() > typical.mean() + 0.05


def test_grid_search(entry, data):
    frame, y = data
    model, X = model_and_table(entry, frame)
    search = GridSearchCV(model, entry.grid, scoring=entry.scoring, cv=entry.cv).fit(X, y, groups=frame["g"])
    ((name, values),) = entry.grid.items()
    means = [scores_by_hand(entry, frame, y, entry.cv, **{name: value}).mean() for value in values]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], means, rtol=1e-10)
    assert len(set(means)) == len(values)
    best, everything = {name: values[int(np.argmax(means))]}, np.arange(len(y))
    np.testing.assert_allclose(
        search.best_estimator_.coef_, fit_by_hand(entry, frame, y, everything, **best).coef_, rtol=1e-10
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
        assert_same(entry, fold.estimator, expected, rtol=1e-10)
        np.testing.assert_allclose(
            entry.predictions(fold.estimator, X.iloc[test]),
            entry.predictions(expected, frame[FEATURES].iloc[test], groups=frame["g"].iloc[test]),
            rtol=1e-9,
        )
    assert calibrated.predict_proba(X).shape == (len(y), 2)
    change = calibrated.predict_proba(X) - calibrated.predict_proba(X.assign(g=np.roll(X["g"], 1)))
    assert np.abs(change).max() > 0.1 if entry.predicts_groups else not change.any()


def test_stacking(entry, data):
    frame, y = data
    model, X = model_and_table(entry, frame)
    levels = ColumnTransformer([("levels", OneHotEncoder(handle_unknown="ignore"), ["g"])], remainder="passthrough")
    plain = make_pipeline(levels, LogisticRegression() if entry.binary else Ridge())
    final, stacking = (
        (LogisticRegression(C=1e6), StackingClassifier) if entry.binary else (LinearRegression(), StackingRegressor)
    )
    stack = stacking([("grouped", model), ("plain", plain)], final_estimator=final, cv=KNOWN).fit(X, y)
    everything = np.arange(len(y))
    full = by_hand(entry, frame, y, everything, everything)
    np.testing.assert_allclose(stack.transform(X)[:, 0], full, rtol=1e-9, atol=entry.zero)
    # The final estimator was trained on out-of-fold predictions, whose fits had the groups, too.
    out_of_fold, other = np.empty(len(y)), np.empty(len(y))
    for train, test in KNOWN.split(frame):
        out_of_fold[test] = by_hand(entry, frame, y, train, test)
        other[test] = entry.predictions(clone(plain).fit(X.iloc[train], y[train]), X.iloc[test])
    expected = clone(final).fit(np.column_stack([out_of_fold, other]), y)
    np.testing.assert_allclose(stack.final_estimator_.coef_, expected.coef_, rtol=1e-4)


@entries(binary=False)
def test_what_regressors_are_put_into(entry, data):
    """A transformed outcome, votes, bags of rows with the groups by position, and several outcomes, each with a fit."""
    frame, y = data
    y = y + 0.1 * np.arange(len(y)) % 7
    model, X = model_and_table(entry, frame)
    direct = clone(model).fit(X, y).predict(X)
    scaled = TransformedTargetRegressor(clone(model), transformer=StandardScaler()).fit(X, y)
    np.testing.assert_allclose(scaled.predict(X), direct, rtol=1e-8, atol=1e-8)
    votes = VotingRegressor([("one", clone(model)), ("two", clone(model))]).fit(X, y)
    np.testing.assert_allclose(votes.predict(X), direct, rtol=1e-12)
    both = MultiOutputRegressor(clone(model)).fit(X, np.column_stack([y, -y]))
    np.testing.assert_allclose(both.predict(X), np.column_stack([direct, -direct]), rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        clone(model).fit(X, np.column_stack([y, y]))
    codes = X.assign(g=np.unique(X["g"], return_inverse=True)[1])
    places = {"group_features": codes.columns.get_loc("g")}
    places |= {"time_feature": codes.columns.get_loc("t")} if entry.takes_times else {}
    bag = BaggingRegressor(clone(model).set_params(**places), n_estimators=2, random_state=0).fit(codes, y)
    for fitted, rows in zip(bag.estimators_, bag.estimators_samples_, strict=True):
        assert fitted.n_groups_ == {"x1" if places["group_features"] == 1 else "g": len(set(codes["g"].iloc[rows]))}


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
        assert importance["g"] > (0.2 if entry.binary else 0.1)
    else:
        assert importance["g"] == 0
    if entry.takes_times:
        assert importance["t"] == 0
