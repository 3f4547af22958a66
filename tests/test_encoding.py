"""MixedEffectEncoder: its numbers, its cross-fitting, its columns."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklmm import MixedLogisticRegression
from sklmm.compose import make_grouped_pipeline
from sklmm.encoding import MixedEffectEncoder
from sklmm.exceptions import SeparationWarning

CROSS_FITS = "fit_transform cross-fits, so that it is not to equal transform, whose rows have seen their own outcomes"


def _expected_failures(encoder):
    # Where the folds are not fixed scikit-learn does not compare the two.
    names = ("check_transformer_general", "check_transformer_data_not_an_array")
    failures = {} if encoder.random_state is None else dict.fromkeys(names, CROSS_FITS)
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        failures["check_sample_weight_equivalence_on_dense_data"] = (
            "the check of scikit-learn 1.6 makes y binary by its first row, after shuffling one of the two fits' rows"
        )
    return failures


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SeparationWarning")
@parametrize_with_checks(
    [MixedEffectEncoder(), MixedEffectEncoder(random_state=0), MixedEffectEncoder("probability", cv=3, random_state=1)],
    expected_failed_checks=_expected_failures,
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    """A column of 60 shops of 1 to 40 rows, as strings, and the outcomes."""
    rng = np.random.default_rng(4)
    shop = rng.choice(60, size=900, p=rng.dirichlet(np.ones(60)))
    y = rng.random(900) < expit(-0.5 + 1.2 * rng.standard_normal(60)[shop])
    return pd.DataFrame({"shop": [f"s{label:02d}" for label in shop]}), np.where(y, "yes", "no")


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_quadrature", [1, 9])
def test_encodings_are_those_of_the_mixed_model(data, n_quadrature):
    X, y = data
    model = MixedLogisticRegression(n_quadrature=n_quadrature).fit(np.empty((len(y), 0)), y, groups=X["shop"])
    encoder = MixedEffectEncoder(n_quadrature=n_quadrature).fit(X, y)
    assert encoder.intercept_[0] == pytest.approx(model.intercept_[0], rel=1e-6)
    assert encoder.sd_[0] ** 2 == pytest.approx(model.covariance_["shop"].iloc[0, 0], rel=1e-6)
    modes = model.random_effects_["shop"]["intercept"]
    assert encoder.categories_[0].tolist() == modes.index.tolist()
    np.testing.assert_allclose(encoder.encodings_[0], model.intercept_[0] + modes, rtol=1e-6, atol=1e-7)
    new = pd.DataFrame({"shop": [*X["shop"][:50], "a new shop"]})
    np.testing.assert_allclose(
        encoder.transform(new)[:, 0],
        model.decision_function(np.empty((51, 0)), new["shop"], predict_effects="mode"),
        rtol=1e-6,
        atol=1e-7,
    )
    probability = MixedEffectEncoder("probability", n_quadrature=n_quadrature).fit(X, y)
    np.testing.assert_allclose(
        probability.transform(new)[:, 0], model.predict_proba(np.empty((51, 0)), new["shop"])[:, 1], rtol=1e-6
    )
    assert probability.classes_.tolist() == ["no", "yes"]


def test_small_categories_are_shrunk_more():
    X = np.repeat(np.arange(40), [2] * 20 + [50] * 20)[:, None]
    y = np.concatenate([np.tile([1, 1], 10), np.tile([0, 0], 10), np.repeat([1, 0] * 10, 50)])
    y[40::5] = 1 - y[40::5]  # the large ones have 4/5 or 1/5
    encoder = MixedEffectEncoder().fit(X, y)
    few, many = encoder.encodings_[0][0], encoder.encodings_[0][20]
    assert 0 < few < many < np.log(4)
    unshrunk = MixedEffectEncoder().fit(np.repeat(X, 100, axis=0), np.repeat(y, 100))
    assert unshrunk.encodings_[0][20] == pytest.approx(np.log(4), abs=0.01)


def test_pure_noise_is_shrunk_to_one_number():
    rng = np.random.default_rng(1)
    y = np.tile([0, 0, 1], 500)
    X = rng.permutation(np.repeat(np.arange(150), 10))[:, None]
    constant = np.tile([[5], [5], [5], [6], [6], [6]], (250, 1))  # categories with equal shares
    encoder = MixedEffectEncoder(random_state=0)
    encoded = encoder.fit_transform(np.hstack([X, constant]), y)
    assert encoder.sd_[1] == 0
    np.testing.assert_allclose(encoded[:, 1], np.log(0.5))
    assert np.ptp(encoded[:, 0]) < 0.3


def test_identifiers_are_all_one_number():
    """One row a category says nothing of the variance between categories, whatever the quadrature would find."""
    rng = np.random.default_rng(0)
    y = rng.random(500) < 0.3
    encoder = MixedEffectEncoder(random_state=0)
    encoded = encoder.fit_transform(np.arange(500)[:, None], y)
    np.testing.assert_allclose(encoded, np.log(y.mean() / (1 - y.mean())), rtol=1e-12)
    assert encoder.sd_[0] == 0


def test_quadrature_finds_the_variance_of_small_categories():
    rng = np.random.default_rng(5)
    X = np.repeat(np.arange(4000), 3)[:, None]
    y = rng.random(12_000) < expit(1.5 * rng.standard_normal(4000)[X[:, 0]])
    assert MixedEffectEncoder().fit(X, y).sd_[0] == pytest.approx(1.5, abs=0.1)
    assert MixedEffectEncoder(n_quadrature=1).fit(X, y).sd_[0] < 1.4


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], [-1.0, 1.0], [False, True], ["a", "b"]], ids=str)
def test_any_two_labels(data, labels):
    X, y = data
    found = MixedEffectEncoder().fit(X, np.array(labels)[(y == "yes").astype(int)])
    assert found.classes_.tolist() == labels
    np.testing.assert_array_equal(found.encodings_[0], MixedEffectEncoder().fit(X, y).encodings_[0])


def test_swapped_labels_swap_signs(data):
    X, y = data
    there, back = (MixedEffectEncoder(random_state=0).fit_transform(X, target) for target in (y == "yes", y == "no"))
    np.testing.assert_allclose(there, -back, atol=1e-6)


def test_sample_weight_counts_rows(data):
    X, y = data
    counts = np.random.default_rng(0).integers(0, 3, len(y))
    X, y = pd.concat([X, pd.DataFrame({"shop": ["weightless"]})]), np.append(y, "maybe")
    weighted = MixedEffectEncoder().fit(X, y, sample_weight=np.append(counts, 0))
    repeated = MixedEffectEncoder().fit(X.iloc[:-1].loc[X.index[:-1].repeat(counts)], y[:-1].repeat(counts))
    assert weighted.categories_[0].tolist() == repeated.categories_[0].tolist()
    np.testing.assert_allclose(weighted.encodings_[0], repeated.encodings_[0], rtol=1e-7)
    assert weighted.transform(X)[-1, 0] == weighted.intercept_[0]


@pytest.mark.parametrize("n_exceptions", [0, 3])
def test_categories_that_determine_the_target(n_exceptions):
    rng = np.random.default_rng(0)
    category = rng.integers(0, 100, 1000)
    X = pd.DataFrame({"noise": category, "leak": category})
    X["noise"] = rng.permutation(X["noise"])
    y = category < 10
    y[:n_exceptions] = ~y[:n_exceptions]
    encoder = MixedEffectEncoder(random_state=0)
    with pytest.warns(SeparationWarning, match="categories of 'leak' determine the target"):
        encoded = encoder.fit_transform(X, y)
    assert encoder.sd_[1] == 10
    assert np.sum((encoded[:, 1] > 0) != y) == n_exceptions
    new = pd.DataFrame({"noise": ["new"], "leak": ["new"]})
    assert encoder.transform(new)[0, 1] == pytest.approx(np.log(y.mean() / (1 - y.mean())))


# Cross-fitting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_a_row_is_encoded_by_the_other_folds(data, output):
    X, y = data
    cv = KFold(4, shuffle=True, random_state=0)
    encoder = MixedEffectEncoder(output, cv=cv)
    encoded = encoder.fit_transform(X, y)[:, 0]
    model = MixedLogisticRegression(n_quadrature=9).fit(np.empty((len(y), 0)), y, groups=X["shop"])
    for train, test in cv.split(X):
        # The model whose groups are known from the other folds alone, intercept and variance being those of all rows.
        fold = model.update_groups(np.empty((len(train), 0)), y[train], groups=X["shop"].iloc[train])
        others = set(X["shop"]) - set(X["shop"].iloc[train])
        (factor,) = fold._fitted.factors
        fold._fitted = replace(fold._fitted, factors=[factor_without(factor, others)])
        rows = np.empty((len(test), 0))
        if output == "logit":
            expected = fold.decision_function(rows, X["shop"].iloc[test], predict_effects="mode")
        else:
            expected = fold.predict_proba(rows, X["shop"].iloc[test])[:, 1]
        np.testing.assert_allclose(encoded[test], expected, rtol=1e-6)


def factor_without(factor, levels):
    """A fitted factor to which these levels are unknown."""
    unknown = factor.levels.isin(list(levels))
    factor.levels = factor.levels[~unknown]
    factor.posterior, factor.mode_cov = factor.posterior.take(~unknown), factor.mode_cov[~unknown]
    return factor


def test_cross_fitted_encodings_are_calibrated():
    """Log-odds that saw no outcome of their row have a slope of 1; those that did are trusted too much."""
    rng = np.random.default_rng(2)
    X = rng.integers(0, 2000, 20_000)[:, None]
    y = rng.random(20_000) < expit(rng.standard_normal(2000)[X[:, 0]])
    train, new = slice(0, 10_000), slice(10_000, None)
    encoder = MixedEffectEncoder(random_state=0)
    encoded = encoder.fit_transform(X[train], y[train])

    def slope(encoded, y):
        return LogisticRegression(C=np.inf).fit(encoded, y).coef_[0, 0]

    assert slope(encoded, y[train]) == pytest.approx(1.0, abs=0.1)
    assert slope(encoder.transform(X[new]), y[new]) == pytest.approx(1.0, abs=0.1)
    assert slope(encoder.transform(X[train]), y[train]) > 1.5


@pytest.mark.filterwarnings("ignore:.*TargetEncoder.random_state:FutureWarning")
def test_downstream_loss_is_not_worse_than_target_encoders():
    rng = np.random.default_rng(7)
    n = 20_000
    shop = rng.integers(0, 2000, n)
    z = rng.standard_normal((n, 2))
    y = rng.random(n) < expit(z @ [0.8, -0.5] + rng.standard_normal(2000)[shop])
    losses = []
    for encoder in (MixedEffectEncoder(random_state=0), TargetEncoder(random_state=0)):
        train = np.column_stack([z[: n // 2], encoder.fit_transform(shop[: n // 2, None], y[: n // 2])])
        test = np.column_stack([z[n // 2 :], encoder.transform(shop[n // 2 :, None])])
        losses.append(log_loss(y[n // 2 :], LogisticRegression().fit(train, y[: n // 2]).predict_proba(test)))
    assert losses[0] < losses[1] - 0.001


def test_folds(data):
    X, y = data
    fixed = MixedEffectEncoder(random_state=0)
    np.testing.assert_array_equal(fixed.fit_transform(X, y), clone(fixed).fit_transform(X, y))
    assert np.abs(fixed.fit_transform(X, y) - MixedEffectEncoder(random_state=1).fit_transform(X, y)).max() > 0
    as_given = MixedEffectEncoder(cv=3, shuffle=False).fit_transform(X, y)
    folds = list(StratifiedKFold(3).split(X, y))
    np.testing.assert_array_equal(as_given, MixedEffectEncoder(cv=folds).fit_transform(X, y))
    masks = [(np.isin(np.arange(len(y)), train), np.isin(np.arange(len(y)), test)) for train, test in folds]
    np.testing.assert_array_equal(as_given, MixedEffectEncoder(cv=masks).fit_transform(X, y))
    np.testing.assert_array_equal(
        MixedEffectEncoder(cv=None, random_state=0).fit_transform(X, y), fixed.fit_transform(X, y)
    )
    by_group = list(GroupKFold(5).split(X, y, X["shop"]))
    encoder = MixedEffectEncoder(cv=by_group)
    np.testing.assert_allclose(encoder.fit_transform(X, y), encoder.intercept_[0])  # every shop is unknown


def test_folds_that_leave_rows_out_or_repeat_them(data):
    X, y = data
    folds = list(StratifiedKFold(3).split(X, y))
    with pytest.raises(ValueError, match=r"must hold every row exactly once, but 300 of 900 rows"):
        MixedEffectEncoder(cv=folds[:2]).fit_transform(X, y)
    with pytest.raises(ValueError, match="in none or in several"):
        MixedEffectEncoder(cv=[*folds, folds[0]]).fit_transform(X, y)


def test_rows_of_weight_0_are_encoded_by_the_others(data):
    X, y = data
    counted = np.arange(len(y)) % 3 > 0
    folds = list(KFold(4).split(X))
    weighted = MixedEffectEncoder(cv=folds).fit_transform(X, y, sample_weight=counted)
    position = np.cumsum(counted) - 1
    without = [tuple(position[rows[counted[rows]]] for rows in fold) for fold in folds]
    alone = MixedEffectEncoder(cv=without).fit_transform(X[counted], y[counted])
    np.testing.assert_allclose(weighted[counted], alone, rtol=1e-7, atol=1e-9)
    assert np.isfinite(weighted).all()


def test_fit_transform_learns_what_fit_does(data):
    X, y = data
    encoder = MixedEffectEncoder(random_state=0)
    encoded = encoder.fit_transform(X, y)
    np.testing.assert_array_equal(encoder.transform(X), MixedEffectEncoder().fit(X, y).transform(X))
    assert np.abs(encoded - encoder.transform(X)).max() > 0.05


# Columns --------------------------------------------------------------------------------------------------------------


def test_every_column_has_its_own_model(data):
    X, y = data
    rng = np.random.default_rng(0)
    X = X.assign(month=rng.integers(1, 13, len(y)), weight=rng.integers(0, 4, len(y)) / 4)
    encoder = MixedEffectEncoder(random_state=0)
    encoded = encoder.fit_transform(X, y)
    for j, name in enumerate(X):
        alone = MixedEffectEncoder(random_state=0)
        np.testing.assert_array_equal(alone.fit_transform(X[[name]], y)[:, 0], encoded[:, j])
        np.testing.assert_array_equal(alone.transform(X[[name]])[:, 0], encoder.transform(X)[:, j])
    assert [len(categories) for categories in encoder.categories_] == [X[name].nunique() for name in X]
    assert encoder.get_feature_names_out().tolist() == ["shop", "month", "weight"]
    assert encoder.sd_.shape == encoder.intercept_.shape == encoder.unknown_encodings_.shape == (3,)


def test_containers_agree(data):
    polars = pytest.importorskip("polars")
    X, y = data
    X = X.assign(month=np.arange(len(y)) % 12)
    expected = MixedEffectEncoder().fit(X, y).transform(X)
    others = [
        X.astype("category"),
        X.to_numpy(dtype=object),
        X.to_numpy(dtype=object).tolist(),
        polars.DataFrame({name: X[name].tolist() for name in X}),
    ]
    for given in others:
        np.testing.assert_array_equal(MixedEffectEncoder().fit(given, y).transform(given), expected)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_values_are_a_category(data, missing):
    X, y = data
    named = X["shop"].to_numpy(dtype=object)
    with_missing = np.where(named == "s03", missing, named)[:, None]
    known, found = MixedEffectEncoder().fit(named[:, None], y), MixedEffectEncoder().fit(with_missing, y)
    np.testing.assert_allclose(found.transform(with_missing), known.transform(named[:, None]), rtol=1e-7)
    assert pd.isna(found.categories_[0][-1])
    assert len(found.categories_[0]) == len(known.categories_[0])
    assert found.transform([[None]])[0, 0] == found.transform(np.array([[np.nan]]))[0, 0] == found.encodings_[0][-1]
    # Where fit saw none they are unknown.
    assert known.transform([[None]])[0, 0] == known.intercept_[0]


def test_missing_numbers():
    polars = pytest.importorskip("polars")
    X = pd.DataFrame({"code": [1, 2, np.nan] * 40})
    y = np.tile([0, 0, 1, 1, 0, 1], 20)
    y[5] = 0
    encoder = MixedEffectEncoder().fit(X, y)
    np.testing.assert_array_equal(encoder.categories_[0], [1, 2, np.nan])
    assert encoder.encodings_[0][2] > encoder.encodings_[0][0] > encoder.encodings_[0][1]
    for given in (X.to_numpy(), X.astype("Int64"), polars.DataFrame({"code": [1, 2, None] * 40})):
        np.testing.assert_array_equal(encoder.fit(given, y).transform(given)[:3, 0], encoder.encodings_[0])
        np.testing.assert_array_equal(encoder.categories_[0], [1, 2, np.nan])


def test_labels_that_differ_in_type_differ():
    X = np.array([1, "1", 1, "1"] * 25, dtype=object)[:, None]
    y = np.array([1, 0, 1, 0] * 25)
    y[:2] = [0, 1]
    encoder = MixedEffectEncoder().fit(X, y)
    assert sorted(map(str, encoder.categories_[0])) == ["1", "1"]
    high, low = encoder.transform(X[:2])[:, 0]
    assert high > 1 > -1 > low
    assert encoder.transform([[1.0]])[0, 0] == high


def test_dates(data):
    _, y = data
    X = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=30).repeat(30)})
    encoder = MixedEffectEncoder().fit(X, y)
    assert encoder.transform(X).shape == (900, 1)
    X.loc[0, "day"] = pd.NaT
    encoder.fit(X, y)
    assert encoder.transform(X)[0, 0] == encoder.encodings_[0][30]


def test_set_output(data):
    polars = pytest.importorskip("polars")
    X, y = data
    X = X.set_index(np.arange(len(y))[::-1])
    encoder = MixedEffectEncoder(random_state=0)
    values = encoder.fit_transform(X, y)
    out = encoder.set_output(transform="pandas").fit_transform(X, y)
    pd.testing.assert_frame_equal(out, pd.DataFrame(values, columns=["shop"], index=X.index))
    assert isinstance(encoder.set_output(transform="polars").transform(X), polars.DataFrame)


# Among scikit-learn's estimators --------------------------------------------------------------------------------------


def test_pipelines_cross_fit(data):
    X, y = data
    pipeline = make_pipeline(MixedEffectEncoder(random_state=0), LogisticRegression(C=np.inf))
    pipeline.fit(X, y)
    by_hand = LogisticRegression(C=np.inf).fit(MixedEffectEncoder(random_state=0).fit_transform(X, y), y)
    np.testing.assert_array_equal(pipeline[-1].coef_, by_hand.coef_)
    grid = {"mixedeffectencoder__output": ["logit", "probability"]}
    assert GridSearchCV(pipeline, grid, cv=3, scoring="neg_log_loss").fit(X, y).best_score_ > -np.log(2)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_beside_groups(data):
    X, y = data
    X = X.assign(region=np.arange(len(y)) // 50)
    model = make_grouped_pipeline(
        MixedEffectEncoder(random_state=0), MixedLogisticRegression(), group_features="region"
    )
    scores = cross_val_score(model, X, y, cv=StratifiedKFold(3, shuffle=True, random_state=0), scoring="roc_auc")
    assert scores.min() > 0.6
    assert model.fit(X, y)[-1].n_groups_ == {"region": 18}


def test_sample_weight_by_routing(data):
    X, y = data
    weights = np.arange(len(y)) % 3.0
    expected = MixedEffectEncoder().fit(X, y, sample_weight=weights).encodings_[0]
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            MixedEffectEncoder().set_fit_request(sample_weight=True),
            LogisticRegression().set_fit_request(sample_weight=False),
        )
        pipeline.fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(pipeline[0].encodings_[0], expected)


def test_pickle_holds_categories_not_rows(data):
    X, y = data
    encoder = MixedEffectEncoder().fit(pd.concat([X] * 50), np.tile(y, 50))
    assert len(pickle.dumps(encoder)) < 20_000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(X), encoder.transform(X))


def test_no_warnings(data):
    X, y = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MixedEffectEncoder().fit_transform(X, y)


def test_cost_is_that_of_categories():
    """A hundred times the rows of the same categories: the model is fitted to as many counts."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, 200_000)[:, None]
    y = rng.random(200_000) < expit(rng.standard_normal(50)[X[:, 0]])
    encoder = MixedEffectEncoder().fit(X, y)
    counts = pd.crosstab(X[:, 0], y)
    rows = np.repeat(np.arange(50), 2)[:, None]
    counted = MixedEffectEncoder().fit(rows, np.tile([False, True], 50), sample_weight=counts.to_numpy().ravel())
    np.testing.assert_allclose(encoder.encodings_[0], counted.encodings_[0], rtol=1e-12)


@pytest.mark.parametrize(
    "target, message",
    [
        (np.arange(900) % 3, "Only binary classification is supported. The type of the target is multiclass"),
        (np.linspace(0, 1, 900), "Unknown label type: continuous"),
        (np.zeros(900), "one class only"),
        (np.where(np.arange(900) == 3, np.nan, np.arange(900) % 2), "Input y contains NaN"),
        (np.arange(899) % 2, "y has 899 rows, but X has 900"),
        (None, "requires y to be passed"),
    ],
    ids=["multiclass", "continuous", "one class", "missing", "too short", "none"],
)
def test_targets_that_are_not_binary(data, target, message):
    for method in ("fit", "fit_transform"):
        with pytest.raises(ValueError, match=message):
            getattr(MixedEffectEncoder(), method)(data[0], target)


@pytest.mark.parametrize(
    "params, message",
    [({"output": "odds"}, "output must be one of 'logit', 'probability'; got 'odds'"),
     ({"n_quadrature": 0}, "n_quadrature must be an integer >= 1, got 0"),
     ({"cv": 1}, "at least one train/test split|n_splits"),
     ({"cv": "five"}, "cv")],
)  # fmt: skip
def test_bad_parameters(data, params, message):
    with pytest.raises(ValueError, match=message):
        MixedEffectEncoder(**params).fit_transform(*data)
