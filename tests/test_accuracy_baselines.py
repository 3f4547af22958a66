"""Estimators of a report by name, and what the others get to see."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.accuracy.baselines import NAMES, resolve_estimators
from sklmm.accuracy.data import encode_features, read_data
from sklmm.accuracy.unpooled import GroupDummiesClassifier, PooledClassifier, SeparateClassifier
from sklmm.datasets import make_clustered_classification


@pytest.fixture(scope="module")
def rows():
    return make_clustered_classification(600, 3, n_groups=40, covariance=4.0, size_variation=0.7, random_state=0)


# --- without pooling ----------------------------------------------------------------------------------------


def test_pooled_is_maximum_likelihood(rows):
    X, y, _ = rows
    reference = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(X, y)
    assert PooledClassifier().fit(X, y).predict_proba(X) == pytest.approx(reference.predict_proba(X), abs=1e-7)


def test_pooled_bears_collinear_constant_and_no_features(rows):
    X, y, _ = rows
    plain = PooledClassifier().fit(X, y).predict_proba(X)
    more = np.column_stack([X, X[:, 0] - 2 * X[:, 1], np.full(len(y), 3.0)])
    assert PooledClassifier().fit(more, y).predict_proba(more) == pytest.approx(plain, abs=1e-7)
    nothing = X[:, :0]
    assert PooledClassifier().fit(nothing, y).predict_proba(nothing)[:, 1] == pytest.approx(y.mean())


@pytest.mark.parametrize("n_factors", [1, 2])
def test_dummies_are_a_logistic_regression_with_penalised_indicators(rows, n_factors):
    X, y, groups = rows
    factors = pd.DataFrame({"g": groups, "h": np.arange(len(y)) % 7}).iloc[:, :n_factors]
    model = GroupDummiesClassifier(effect_sd=3.0).fit(X, y, factors)
    # In units of the prior's standard deviation the penalty is scikit-learn's; features in tiny units have none.
    design = np.hstack([X * 1e4, *(3.0 * pd.get_dummies(factors[name]).to_numpy(float) for name in factors)])
    reference = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(design, y)
    assert model.predict_proba(X, factors) == pytest.approx(reference.predict_proba(design), abs=1e-6)


def test_dummies_of_unknown_groups_are_the_average(rows):
    X, y, groups = rows
    model = GroupDummiesClassifier().fit(X, y, groups)
    unknown = model.predict_proba(X[:1], groups=["new"])[0, 1]
    known = model.predict_proba(np.repeat(X[:1], 40, axis=0), groups=np.arange(40))[:, 1]
    assert np.log(unknown / (1 - unknown)) == pytest.approx(np.log(known / (1 - known)).mean(), abs=1e-8)


def test_dummies_of_groups_with_one_outcome_are_finite():
    groups = np.repeat(["never", "always", "half"], 20)
    y = np.concatenate([np.zeros(20), np.ones(20), np.tile([0, 1], 10)])
    X = np.zeros((60, 0))
    p = GroupDummiesClassifier().fit(X, y, groups).predict_proba(X[:3], groups=["never", "always", "half"])[:, 1]
    assert 0.001 < p[0] < 0.01 and p[1] == pytest.approx(1 - p[0]) and p[2] == pytest.approx(0.5)


def test_separate_models_are_posterior_modes_of_each_group(rows):
    X, y, groups = rows
    model = SeparateClassifier(slope_sd=1.5, intercept_sd=4.0).fit(X, y, groups)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    center = LogisticRegression(C=np.inf, tol=1e-10).fit(Z, y).intercept_[0]
    for group in (0, 7, np.bincount(groups).argmin()):
        own = groups == group

        def loss(theta, Z=Z[own], target=y[own]):
            eta = theta[0] + Z @ theta[1:]
            prior = ((theta[0] - center) / 4.0) ** 2 + ((theta[1:] / 1.5) ** 2).sum()
            return np.logaddexp(0, eta).sum() - target @ eta + prior / 2

        theta = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
        expected = 1 / (1 + np.exp(-(theta[0] + Z[own] @ theta[1:])))
        assert model.predict_proba(X[own], groups[own])[:, 1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("model", [PooledClassifier(), SeparateClassifier(), GroupDummiesClassifier()], ids=str)
def test_weights_count_rows(rows, model):
    X, y, groups = rows
    counts = 1 + np.arange(len(y)) % 3
    more = np.repeat(np.arange(len(y)), counts)
    given = [] if isinstance(model, PooledClassifier) else [groups]
    expected = clone(model).fit(X[more], y[more], *(labels[more] for labels in given)).predict_proba(X, *given)
    found = clone(model).fit(X, y, *given, sample_weight=counts).predict_proba(X, *given)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_separate_models_of_unknown_groups_are_the_pooled_one(rows):
    X, y, groups = rows
    model = SeparateClassifier().fit(X, y, groups)
    pooled = PooledClassifier().fit(X, y).predict_proba(X)
    assert model.predict_proba(X, groups + 100) == pytest.approx(pooled, abs=1e-12)
    assert model.predict_proba(X) == pytest.approx(pooled, abs=1e-12)


def test_class_labels_of_any_kind(rows):
    X, y, groups = rows
    for model in (PooledClassifier(), SeparateClassifier(), GroupDummiesClassifier()):
        more = [] if isinstance(model, PooledClassifier) else [groups]
        plain = model.fit(X, y, *more).predict_proba(X)
        named = model.fit(X, np.where(y == 1, "yes", "no"), *more)
        assert named.classes_.tolist() == ["no", "yes"] and np.array_equal(named.predict_proba(X), plain)
        assert set(named.predict(X)) == {"no", "yes"}


# --- features -----------------------------------------------------------------------------------------------


def test_labels_become_indicators():
    X = pd.DataFrame(
        {
            "age": [1, 2, 3, 4],
            "urban": pd.Categorical(["Y", "N", "N", "Y"], categories=["N", "Y"]),
            "size": ["s", "m", "l", "m"],
            "moved": [True, False, True, True],
            "same": ["a"] * 4,
        },
        index=[9, 9, 8, 8],
    )
    encoded = encode_features(X)
    assert list(encoded) == ["age", "urban", "size_m", "size_s", "moved"]
    assert encoded["urban"].tolist() == [1, 0, 0, 1] and encoded["size_s"].tolist() == [1, 0, 0, 0]
    assert (encoded.dtypes == np.float64).all()
    as_objects = encode_features(X.astype(object).to_numpy())
    assert np.array_equal(as_objects.to_numpy(), encoded.to_numpy())
    assert encode_features(pl.DataFrame(X.astype({"urban": str}).to_dict("list"))).equals(encoded)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, np.nan, 2.0, np.nan], r"missing values: a \(2\)"),
        (["x", None, "y", "z"], r"missing values: a \(1\)"),
        ([1.0, np.inf, 2.0, 3.0], "infinite values in a"),
        (pd.to_datetime(["2020-01-01"] * 4), "column 'a' of X holds datetime64"),
    ],
)
def test_columns_that_cannot_be_encoded(column, message):
    with pytest.raises(ValueError, match=message):
        encode_features(pd.DataFrame({"a": column}))


def test_a_column_of_names_is_no_feature():
    with pytest.raises(ValueError, match="'who' of X holds 100 different labels in 100 rows.*group_features"):
        encode_features(pd.DataFrame({"who": [f"person {i}" for i in range(100)]}))


def test_groups_from_either_door(rows):
    X, y, groups = rows
    table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(clinic=[f"clinic {g}" for g in groups])
    by_column = read_data(table, y, group_features="clinic")
    apart = read_data(table.drop(columns="clinic"), y, groups=table["clinic"])
    assert by_column.factor == apart.factor == "clinic" and by_column.encoded.equals(apart.encoded)
    assert np.array_equal(by_column.codes, apart.codes) and list(by_column.features) == ["a", "b", "c"]
    as_array = read_data(np.column_stack([X, groups]), y, group_features=-1)
    assert as_array.factor == "x3" and as_array.features.shape == (600, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs groups"),
        ({"groups": np.zeros(600), "group_features": 0}, "both doors"),
        ({"group_features": "clinic"}, "'clinic', which is no column of X"),
        ({"groups": np.where(np.arange(600) < 3, np.nan, 1.0)}, "3 rows have a missing group label"),
        ({"groups": np.zeros(5)}, "groups has 5 rows, but X has 600"),
        ({"groups": pd.Series(np.zeros(600), name="clinic"), "split_by": "town"}, "they are 'clinic'"),
        ({"groups": np.zeros(600), "time": [1.0]}, "time has 1 rows"),
    ],
)
def test_data_that_cannot_be_read(rows, options, message):
    X, y, _ = rows
    with pytest.raises(ValueError, match=message):
        read_data(X, y, **options)


# --- what is handed to whom ---------------------------------------------------------------------------------


def described(estimators, **options):
    return [
        (c.name, c.table, c.groups, c.fit_prefix, c.predicts_with_groups)
        for c in resolve_estimators(estimators, **options)
    ]


def test_known_by_name():
    assert described(list(NAMES)) == [
        ("mixed", "encoded", "all", "", True),
        ("mixed, u = 0", "encoded", "all", "", True),
        ("gee", "encoded", "split", "", True),
        ("pooled", "encoded", None, "", False),
        ("dummies", "encoded", "all", "", True),
        ("separate", "encoded", "split", "", True),
    ]
    one, other, *_ = resolve_estimators({"a": "mixed", "b": "mixed, u = 0"}, random_effects="1 + age | id")
    assert one.fit_key == other.fit_key and one.estimator.random_effects == "1 + age | id"


def test_groups_go_to_those_that_take_them():
    pipeline = make_pipeline(StandardScaler(), MixedLogisticRegression())
    estimators = [MixedLogisticRegression(), GEELogisticRegression(), pipeline, RandomForestClassifier()]
    expected = [
        ("MixedLogisticRegression", "features", "all", "", True),
        ("GEELogisticRegression", "features", "split", "", True),
        ("Pipeline", "features", "all", "mixedlogisticregression__", True),
    ]
    assert described(estimators) == [*expected, ("RandomForestClassifier", "features", None, "", False)]
    in_X = described(estimators, groups_in_X=True)
    assert in_X == [*expected, ("RandomForestClassifier", "X", None, "", False)]


def test_groups_that_an_estimator_finds_in_X_are_left_there():
    model = MixedLogisticRegression(group_features="district")
    for estimator in (model, make_pipeline(model), GridSearchCV(model, {"n_quadrature": [1, 3]})):
        ((_, table, groups, _, _),) = described(estimator, groups_in_X=True)
        assert (table, groups) == ("X", None)


def test_metadata_routing_is_followed_where_it_is_on():
    search = GridSearchCV(MixedLogisticRegression(), {"n_quadrature": [1, 3]})
    pipeline = make_pipeline(StandardScaler(), MixedLogisticRegression())
    assert described(search) == [("GridSearchCV", "features", None, "", False)]
    with sklearn.config_context(enable_metadata_routing=True):
        assert described(search)[0][1:4] == ("features", "all", "")
        assert described(pipeline) == [("Pipeline", "features", "all", "", True)]


def test_searches_get_the_groups_that_their_folds_hold_out():
    forest = GridSearchCV(RandomForestClassifier(), {"max_depth": [1, 2]}, cv=GroupKFold(3))
    aware = GridSearchCV(MixedLogisticRegression(group_features="id"), {"n_quadrature": [1, 3]}, cv=GroupKFold(3))
    scaled = make_pipeline(StandardScaler(), forest)
    assert described([forest, scaled]) == [
        ("GridSearchCV", "features", "split", "", False),
        ("Pipeline", "features", "split", "gridsearchcv__", False),
    ]
    assert described(aware, groups_in_X=True) == [("GridSearchCV", "X", "split", "", False)]
    with sklearn.config_context(enable_metadata_routing=True):
        assert described(forest) == [("GridSearchCV", "features", "split", "", False)]


def test_names_of_the_argument_for_weights():
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(scaled, {"logisticregression__C": [1, 2]})
    estimators = [*NAMES, RandomForestClassifier(), scaled, search, make_pipeline(search), KNeighborsClassifier()]
    key = "logisticregression__sample_weight"
    expected = [*["sample_weight"] * (len(NAMES) + 1), key, key, f"gridsearchcv__{key}", None]
    assert [c.weight_key for c in resolve_estimators(estimators)] == expected
    with sklearn.config_context(enable_metadata_routing=True):
        assert [c.weight_key for c in resolve_estimators([scaled, search, KNeighborsClassifier()])] == [None] * 3
        scaled[-1].set_fit_request(sample_weight=True)
        assert [c.weight_key for c in resolve_estimators([scaled, search])] == ["sample_weight"] * 2


def test_a_stack_has_probabilities_once_it_is_fitted():
    stack = StackingClassifier([("tree", RandomForestClassifier())])
    assert not hasattr(stack, "predict_proba")
    assert described([stack, make_pipeline(StandardScaler(), stack)]) == [
        ("StackingClassifier", "features", None, "", False),
        ("Pipeline", "features", None, "", False),
    ]


def test_names_of_estimators():
    forests = [RandomForestClassifier(max_depth=depth) for depth in (1, 2, 3)]
    assert [c.name for c in resolve_estimators([*forests, "gee"])] == [
        "RandomForestClassifier",
        "RandomForestClassifier 2",
        "RandomForestClassifier 3",
        "gee",
    ]
    assert [c.name for c in resolve_estimators("pooled")] == ["pooled"]


class NotAClassifier(BaseEstimator):
    def fit(self, X, y):
        return self


class NoProbabilities(ClassifierMixin, NotAClassifier):
    pass


@pytest.mark.parametrize(
    ("estimators", "error", "message"),
    [
        ("glmm", ValueError, "unknown estimator 'glmm'; known by name are 'mixed'"),
        ([], ValueError, "estimators is empty"),
        (["gee", "gee"], ValueError, "two estimators are named 'gee'"),
        (RandomForestClassifier, TypeError, "'RandomForestClassifier' is a class; give an instance"),
        (3, TypeError, "estimators must be classifiers, or names of 'mixed'.*; got 3"),
        ([("rf", RandomForestClassifier())], TypeError, "give pairs of a name and an estimator as a dict"),
        ({"a": 3}, TypeError, "'a' is neither an estimator nor one of 'mixed'"),
        (LinearRegression(), TypeError, "'LinearRegression' is no classifier"),
        (NoProbabilities(), TypeError, "has no predict_proba"),
        ({"svm": LinearSVC()}, TypeError, "'svm' has no predict_proba"),
        ({1: "gee"}, TypeError, "names of estimators are strings"),
        ({" ": "gee"}, TypeError, "names of estimators are strings, and not empty; got ' '"),
    ],
)
def test_estimators_that_cannot_be_reported(estimators, error, message):
    with pytest.raises(error, match=message):
        resolve_estimators(estimators)
