"""Groups through transformers and pipelines: KeepGroups, make_grouped_pipeline."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.compose import KeepGroups, make_grouped_pipeline
from sklmm.datasets import load_ohio, make_clustered_classification
from sklmm.encoding import MixedEffectEncoder

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")


@parametrize_with_checks(
    [
        KeepGroups(StandardScaler()),
        KeepGroups(StandardScaler(), group_features=-1),
        KeepGroups("passthrough", group_features=0),
        KeepGroups(None),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    """Rows of 20 groups that differ a lot; the group stands in the middle of the columns."""
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, covariance=3.0, random_state=3)
    frame = pd.DataFrame({"a": 5 + 3 * X[:, 0], "g": [f"g{label:02d}" for label in groups], "b": X[:, 1]})
    return frame.set_index(np.arange(400)[::-1]), y


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _scaled(frame):
    return StandardScaler().fit_transform(frame[["a", "b"]])


# KeepGroups: containers -----------------------------------------------------------------------------------------------


def test_data_frame_keeps_names_types_and_index(data):
    frame, _ = data
    frame = frame.assign(g=frame["g"].astype("category"))
    keep = KeepGroups(StandardScaler(), group_features="g")
    for out in (keep.fit_transform(frame), keep.transform(frame)):
        assert out.columns.tolist() == ["a", "b", "g"] == keep.get_feature_names_out().tolist()
        np.testing.assert_array_equal(out[["a", "b"]], _scaled(frame))
        pd.testing.assert_series_equal(out["g"], frame["g"])
        assert (out.dtypes[["a", "b"]] == np.float64).all()
    assert keep.group_columns_ == [1]
    assert keep.n_features_in_ == 3


def test_object_array_keeps_strings_and_finds_the_numbers(data):
    frame, _ = data
    X = frame.to_numpy(dtype=object)
    keep = KeepGroups(make_pipeline(SimpleImputer(), StandardScaler()), group_features=1)
    out = keep.fit_transform(X)
    assert out.dtype == object
    np.testing.assert_array_equal(out[:, :2].astype(float), _scaled(frame))
    assert out[:, 2].tolist() == frame["g"].tolist()
    np.testing.assert_array_equal(keep.transform(X), out)
    assert keep.get_feature_names_out().tolist() == ["x0", "x2", "x1"]
    # NumPy has no tanh of an object array, though its entries be floats.
    out = KeepGroups(FunctionTransformer(np.tanh), group_features=1).fit_transform(X)
    np.testing.assert_array_equal(out[:, :2].astype(float), np.tanh(frame[["a", "b"]]))


def test_object_columns_that_are_not_all_numbers_stay_as_they_are():
    X = np.array([["1", 2.0, "u"], ["2", 3.0, "v"]], dtype=object)
    out = KeepGroups("passthrough", group_features=2).fit_transform(X)
    assert out.tolist() == X.tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_numeric_array_stays_numeric(dtype):
    X = np.column_stack([np.arange(6), [7, 7, 8, 8, 9, 9]]).astype(dtype)
    out = KeepGroups(StandardScaler(), group_features=-1).fit_transform(X)
    assert out.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_array_equal(out[:, 1], X[:, 1])


def test_integer_labels_that_floats_confuse_stay_apart():
    X = np.column_stack([np.arange(4), np.array([2**53, 2**53 + 1, 2**53, 2**53 + 1])])
    out = KeepGroups(StandardScaler(), group_features=1).fit_transform(X)
    assert out[:, 1].tolist() == X[:, 1].tolist()
    assert len(set(out[:, 1].tolist())) == 2
    np.testing.assert_allclose(out[:, 0].astype(float), StandardScaler().fit_transform(X[:, :1])[:, 0])


def test_several_groups_stand_last_in_the_order_they_are_named(data):
    frame, _ = data
    frame = frame.assign(year=np.arange(len(frame)) % 4)
    for named in (["year", "g"], [3, 1], [-1, "g"], np.array([3, 1])):
        out = KeepGroups(StandardScaler(), group_features=named).fit_transform(frame)
        assert out.columns.tolist() == ["a", "b", "year", "g"]
        assert out["year"].dtype == frame["year"].dtype


def test_callable_selector(data):
    frame, y = data
    selector = make_column_selector(dtype_exclude=np.number)
    out = KeepGroups(StandardScaler(), group_features=selector).fit_transform(frame)
    assert out.columns.tolist() == ["a", "b", "g"]
    assert make_grouped_pipeline(
        StandardScaler(), PCA(), MixedLogisticRegression(), group_features=selector
    ).fit(frame, y)[-1].n_groups_ == {"g": 20}


def test_set_output(data):
    polars = pytest.importorskip("polars")
    frame, _ = data
    X = frame.to_numpy(dtype=object)
    for given, group in ((frame, "g"), (X, 1)):
        keep = KeepGroups(StandardScaler(), group_features=group)
        as_pandas = keep.set_output(transform="pandas").fit_transform(given)
        assert as_pandas.columns.tolist() == keep.get_feature_names_out().tolist()
        assert [dtype.kind for dtype in as_pandas.dtypes[:2]] == ["f", "f"]
        assert as_pandas.iloc[:, 2].tolist() == frame["g"].tolist()
        as_polars = keep.set_output(transform="polars").transform(given)
        assert as_polars.columns == keep.get_feature_names_out().tolist()
        assert as_polars.dtypes == [polars.Float64, polars.Float64, polars.String]
        np.testing.assert_array_equal(as_polars[:, :2].to_numpy(), as_pandas.iloc[:, :2].to_numpy())
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(KeepGroups(StandardScaler(), group_features=1).fit_transform(X), pd.DataFrame)


def test_polars(data):
    polars = pytest.importorskip("polars")
    frame, y = data
    given = polars.DataFrame({name: frame[name].to_numpy() for name in ("a", "b")} | {"g": frame["g"].tolist()})
    given = given.select("a", "g", "b")
    if not hasattr(StandardScaler().fit(given.drop("g")), "feature_names_in_"):
        pytest.skip("this scikit-learn does not know the columns of this polars")
    keep = KeepGroups(StandardScaler(), group_features="g")
    out = keep.fit_transform(given)
    assert isinstance(out, polars.DataFrame)
    assert out.columns == ["a", "b", "g"]
    assert out["g"].equals(given["g"])
    np.testing.assert_array_equal(out[["a", "b"]].to_numpy(), _scaled(frame))
    back = keep.inverse_transform(out)
    assert back.columns == given.columns
    pandas_out = keep.set_output(transform="pandas").transform(given)
    assert pandas_out["g"].tolist() == frame["g"].tolist()
    pipeline = make_grouped_pipeline(StandardScaler(), MixedLogisticRegression(), group_features="g")
    np.testing.assert_allclose(
        pipeline.fit(given, y).predict_proba(given), clone(pipeline).fit(frame, y).predict_proba(frame), rtol=1e-12
    )


def test_sparse_output_is_made_dense(data):
    frame, _ = data
    frame = frame.assign(b=np.where(frame["b"] > 0, "high", "low"))
    encode = ColumnTransformer([("b", OneHotEncoder(), ["b"])], remainder="passthrough", sparse_threshold=1.0)
    assert sparse.issparse(clone(encode).fit_transform(frame[["a", "b"]]))
    keep = KeepGroups(encode, group_features="g")
    out = keep.fit_transform(frame)
    assert out.columns.tolist() == ["b__b_high", "b__b_low", "remainder__a", "g"]
    np.testing.assert_array_equal(out["b__b_high"], frame["b"] == "high")
    only_groups_as_numbers = np.column_stack([[0, 1, 0], [5, 6, 5]])
    out = KeepGroups(OneHotEncoder(), group_features=1).fit_transform(only_groups_as_numbers)
    np.testing.assert_array_equal(out, [[1, 0, 5], [0, 1, 6], [1, 0, 5]])


def test_columns_of_a_transformer_that_names_none(data):
    frame, _ = data
    keep = KeepGroups(FunctionTransformer(lambda X: np.asarray(X)[:, :1]), group_features="g")
    assert not hasattr(keep, "get_feature_names_out")
    assert keep.fit_transform(frame).columns.tolist() == ["functiontransformer0", "g"]
    keep = KeepGroups(FunctionTransformer(np.abs), group_features="g")
    assert keep.fit_transform(frame).columns.tolist() == ["a", "b", "g"]


def test_inverse_transform(data):
    frame, _ = data
    keep = KeepGroups(StandardScaler(), group_features="g")
    back = keep.inverse_transform(keep.fit_transform(frame))
    pd.testing.assert_frame_equal(back, frame)
    X = frame.to_numpy(dtype=object)
    keep = KeepGroups(StandardScaler(), group_features=1)
    back = keep.inverse_transform(keep.fit_transform(X))
    assert back[:, 1].tolist() == X[:, 1].tolist()
    np.testing.assert_allclose(back[:, [0, 2]].astype(float), X[:, [0, 2]].astype(float))
    assert not hasattr(KeepGroups(OneToRule()), "inverse_transform")


class OneToRule(TransformerMixin, BaseEstimator):
    """A transformer that records what reached it, and has no more than it must."""

    def fit(self, X, y=None, sample_weight=None):
        self.seen_ = (X, y, sample_weight)
        return self

    def transform(self, X, offset=0.0):
        return np.asarray(X) + offset


# KeepGroups: as a meta-estimator --------------------------------------------------------------------------------------


def test_only_groups(data):
    frame, y = data
    for given in (frame[["g"]], frame[["g"]].to_numpy(dtype=object)):
        out = KeepGroups(StandardScaler(), group_features=0).fit_transform(given)
        assert np.asarray(out).tolist() == frame[["g"]].to_numpy().tolist()
    pipeline = make_grouped_pipeline(StandardScaler(), MixedLogisticRegression(), group_features="g")
    assert pipeline.fit(frame[["g"]], y)[-1].coef_.shape == (1, 0)


def test_no_groups_is_the_transformer_alone(data):
    frame, _ = data
    np.testing.assert_array_equal(KeepGroups(StandardScaler()).fit_transform(frame[["a", "b"]]), _scaled(frame))
    X = frame[["a", "b"]].to_numpy()
    np.testing.assert_array_equal(KeepGroups("passthrough").fit_transform(X), X)


def test_supervised_transformer_uses_its_own_fit_transform(data):
    frame, y = data
    frame = frame.assign(b=frame["g"].str[-1])  # groups differ, so that their last digits do
    encoder = MixedEffectEncoder(random_state=0)
    keep = KeepGroups(encoder, group_features="g")
    out = keep.fit_transform(frame, y)
    np.testing.assert_array_equal(out[["a", "b"]], clone(encoder).fit_transform(frame[["a", "b"]], y))
    assert np.abs(out["b"] - keep.transform(frame)["b"]).max() > 1e-3  # cross-fitted
    assert not hasattr(encoder, "encodings_")  # a clone was fitted


def test_sample_weight_reaches_the_transformer(data):
    frame, y = data
    weights = np.arange(1.0, len(y) + 1)
    expected = StandardScaler().fit(frame[["a", "b"]], sample_weight=weights).mean_
    keep = KeepGroups(StandardScaler(), group_features="g")
    np.testing.assert_array_equal(keep.fit(frame, sample_weight=weights).transformer_.mean_, expected)
    keep.fit_transform(frame, y, sample_weight=weights)
    np.testing.assert_array_equal(keep.transformer_.mean_, expected)
    keep = KeepGroups(OneToRule(), group_features="g")
    keep.fit_transform(frame, y, sample_weight=weights)
    X, seen_y, seen_weights = keep.transformer_.seen_
    assert X.columns.tolist() == ["a", "b"]
    assert seen_y is y
    assert seen_weights is weights
    np.testing.assert_array_equal(keep.transform(frame, offset=1.0).iloc[:, 0], frame["a"] + 1)


def test_metadata_routing(data, routing):
    frame, y = data
    weights = np.arange(1.0, len(y) + 1)
    scaler = StandardScaler().set_fit_request(sample_weight=True)
    expected = StandardScaler().fit(frame[["a", "b"]], sample_weight=weights).mean_
    pipeline = make_pipeline(
        KeepGroups(scaler, group_features="g"),
        MixedLogisticRegression(group_features="g").set_fit_request(sample_weight=True),
    )
    pipeline.fit(frame, y, sample_weight=weights)
    np.testing.assert_array_equal(pipeline[0].transformer_.mean_, expected)
    assert pipeline[-1].n_obs_ == weights.sum()
    unasked = make_pipeline(
        KeepGroups(StandardScaler().set_fit_request(sample_weight=False), group_features="g"), pipeline[-1]
    )
    unasked.fit(frame, y, sample_weight=weights)
    np.testing.assert_allclose(unasked[0].transformer_.mean_, frame[["a", "b"]].mean())
    own = KeepGroups(OneToRule().set_transform_request(offset=True), group_features="g").fit(frame)
    np.testing.assert_array_equal(own.transform(frame, offset=1.0).iloc[:, 0], frame["a"] + 1)
    for plain in ("passthrough", None):
        KeepGroups(plain, group_features="g").fit_transform(frame)


def test_parameters_are_nested(data):
    frame, y = data
    keep = KeepGroups(StandardScaler(), group_features="g")
    pipeline = make_pipeline(keep, MixedLogisticRegression(group_features="g"))
    pipeline.set_params(keepgroups__transformer__with_mean=False)
    assert keep.transformer.with_mean is False
    copied = clone(pipeline)
    assert copied.get_params()["keepgroups__transformer__with_mean"] is False
    assert copied[0].transformer is not keep.transformer
    search = GridSearchCV(pipeline, {"keepgroups__transformer": [StandardScaler(), PCA(1)]}, cv=2, scoring="roc_auc")
    search.fit(frame, y)
    scaled, projected = search.cv_results_["mean_test_score"]
    assert scaled == pytest.approx(cross_val_score(pipeline, frame, y, cv=2, scoring="roc_auc").mean(), rel=1e-6)
    assert scaled != pytest.approx(projected, rel=1e-3)
    assert pickle.loads(pickle.dumps(pipeline.fit(frame, y))).predict(frame).tolist() == (
        pipeline.predict(frame).tolist()
    )
    assert not hasattr(keep.transformer, "mean_")  # a clone was fitted


@pytest.mark.parametrize("transformer", ["drop", StandardScaler, 3])
def test_what_is_no_transformer(data, transformer):
    with pytest.raises(TypeError, match="transformer must be a transformer"):
        KeepGroups(transformer, group_features="g").fit(data[0])


def test_errors_say_what_is_wrong(data):
    frame, _ = data
    with pytest.raises(ValueError, match="group_features names 'h', which is no column of X"):
        KeepGroups(StandardScaler(), group_features="h").fit(frame)
    with pytest.raises(ValueError, match="names a column 'pca0', which is the name of a grouping column"):
        KeepGroups(PCA(), group_features="pca0").fit_transform(frame.rename(columns={"g": "pca0"}))
    with pytest.raises(ValueError, match="FunctionTransformer made 399 rows of 400"):
        KeepGroups(FunctionTransformer(lambda X: X.iloc[1:]), group_features="g").fit_transform(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        KeepGroups(StandardScaler(), group_features="g").fit(frame).transform(frame[["g", "a", "b"]])


# Pipelines ------------------------------------------------------------------------------------------------------------


def test_pipeline_predicts_as_the_model_by_hand(data):
    frame, y = data
    # Scaling is affine: it changes coefficients, not predictions.
    expected = MixedLogisticRegression(group_features="g").fit(frame, y).predict_proba(frame)
    by_hand = make_pipeline(
        KeepGroups(StandardScaler(), group_features="g"), MixedLogisticRegression("1 | g", group_features="g")
    )
    np.testing.assert_allclose(by_hand.fit(frame, y).predict_proba(frame), expected, rtol=1e-6)
    X = frame.to_numpy(dtype=object)
    for given, group in ((frame, "g"), (frame, 1), (frame, -2), (X, 1), (X, [1])):
        model = make_grouped_pipeline(StandardScaler(), PCA(), MixedLogisticRegression(), group_features=group)
        np.testing.assert_allclose(model.fit(given, y).predict_proba(given), expected, rtol=1e-6)
    assert model[-1].group_features == [-1]
    assert [name for name, _ in model.steps] == ["standardscaler", "pca", "mixedlogisticregression"]


def test_two_groups_by_position(data):
    frame, y = data
    frame = frame.assign(year=np.arange(len(y)) % 4)
    model = make_grouped_pipeline(
        "passthrough", StandardScaler(), MixedLogisticRegression(), group_features=[3, 1]
    ).fit(frame, y)
    assert model[-1].n_groups_ == {"year": 4, "g": 20}
    assert model[-1].feature_names_in_.tolist() == ["a", "b", "year", "g"]


def test_groups_by_mask(data):
    frame, y = data
    model = make_grouped_pipeline(
        StandardScaler(), PCA(), MixedLogisticRegression(), group_features=np.array([False, True, False])
    )
    assert model.fit(frame, y)[-1].n_groups_ == {"g": 20}


def test_times_are_left_alone(data):
    visits, wheezes, child = load_ohio(return_X_y=True, as_frame=True)
    visits = visits.assign(child=child)
    age = visits.columns.get_loc("age")
    features = visits.drop(columns=["age", "child"])
    expected = GEELogisticRegression("ar1").fit(features, wheezes, child, time=visits["age"])
    for group, time in (("child", "age"), (-1, age), (["child"], age)):
        model = make_grouped_pipeline(
            StandardScaler(), PCA(), GEELogisticRegression("ar1", time_feature=time), group_features=group
        ).fit(visits, wheezes)
        np.testing.assert_allclose(model[-1].correlation_params_, expected.correlation_params_, rtol=1e-6)
    with pytest.raises(ValueError, match="by name or position, not as callables"):
        make_grouped_pipeline(GEELogisticRegression(time_feature="age"), group_features=lambda X: ["child"])


def test_random_slopes_find_their_features_by_name(data):
    frame, y = data
    model = make_grouped_pipeline(
        StandardScaler(), MixedLogisticRegression("1 + a | g"), group_features="g"
    ).fit(frame, y)
    assert model[-1].covariance_["g"].columns.tolist() == ["intercept", "a"]


def test_grouped_pipeline_leaves_its_steps_alone(data):
    frame, y = data
    scaler, model = StandardScaler(), GEELogisticRegression()
    pipeline = make_grouped_pipeline(scaler, model, group_features="g").fit(frame, y)
    assert model.group_features is None
    assert not hasattr(scaler, "mean_")
    assert pipeline[-1].feature_names_in_.tolist() == ["a", "b", "g"]
    alone = make_grouped_pipeline(MixedLogisticRegression(), group_features=1)
    assert alone[-1].group_features == 1


def test_grouped_pipeline_needs_an_estimator_of_groups():
    with pytest.raises(ValueError, match=r"the last step must be .* group_features.*got LogisticRegression\(\)"):
        make_grouped_pipeline(StandardScaler(), LogisticRegression(), group_features="g")
    with pytest.raises(ValueError, match="set already"):
        make_grouped_pipeline(MixedLogisticRegression(group_features="h"), group_features="g")
    with pytest.raises(ValueError, match="at least one step"):
        make_grouped_pipeline(group_features="g")
