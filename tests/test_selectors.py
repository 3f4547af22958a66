"""Meta-estimators that leave columns out: the right features, or an error; and names that are lost on the way."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_selection import RFE, RFECV, SelectFromModel, SequentialFeatureSelector
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklmm import GEELogisticRegression, MixedLogisticRegression, make_grouped_pipeline

FEATURES = ["strong", "noise", "middling", "more noise"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    X = pd.DataFrame(rng.normal(size=(600, 4)), columns=FEATURES)
    logit = 2 * X["strong"] + 0.8 * X["middling"] + rng.normal(size=30)[groups]
    return X, (rng.random(600) < 1 / (1 + np.exp(-logit))).astype(int), groups


def with_groups(X, groups, position):
    X = X.copy()
    X.insert(position, "school", groups)
    return X


@pytest.fixture(params=[MixedLogisticRegression, GEELogisticRegression], ids=["mixed", "marginal"])
def kind(request):
    return request.param


@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize("selector", [RFE, RFECV])
def test_elimination_by_coefficients(data, kind, selector, position):
    """Coefficients of features are taken for those of columns: right where the grouping column is the last."""
    X, y, groups = data
    table = with_groups(X, groups, position)
    if position < 4:
        with pytest.raises(ValueError, match="RFE takes coef_ for .* it would select the wrong .* pass the groups as"):
            selector(kind(group_features=position)).fit(table, y)
        return
    ranking = selector(kind(group_features=-1), **({"n_features_to_select": 1} if selector is RFE else {}))
    ranking = ranking.fit(table, y).ranking_
    assert ranking[4] == 1 and ranking[0] <= ranking[2] <= min(ranking[1], ranking[3])
    with pytest.raises(ValueError, match="asks for column 4 of X, which has 4 columns; .* count from the end"):
        selector(kind(group_features=4)).fit(table, y)


def test_elimination_within_a_pipeline_that_moves_groups(data, kind):
    X, y, groups = data
    steps = make_grouped_pipeline(StandardScaler(), kind(), group_features=0)
    getter = f"named_steps.{kind.__name__.lower()}.coef_"
    with pytest.raises(ValueError, match="it would select the wrong columns"):
        RFE(steps, importance_getter=getter).fit(with_groups(X, groups, 0), y)


@pytest.mark.parametrize("position", [0, -1, "school"])
def test_selectors_that_try_sets_of_columns(data, kind, position):
    X, y, groups = data
    table = with_groups(X, groups, 4 if position == -1 else 0)
    model = kind(group_features=position)
    for meta in (SequentialFeatureSelector(model, n_features_to_select=2, cv=2),
                 BaggingClassifier(model, n_estimators=2, max_features=0.6),
                 BaggingClassifier(model, n_estimators=2, bootstrap_features=True)):  # fmt: skip
        with pytest.raises(ValueError, match="fits to some of the columns of X at a time.* pass the groups as"):
            meta.fit(table, y)
    assert clone(kind(group_features=position)).group_features == position


def test_a_time_column_has_no_coefficient_either(data):
    X, y, groups = data
    table = X.assign(when=np.tile(np.arange(20), 30), school=groups)[["when", *FEATURES, "school"]]
    model = GEELogisticRegression("ar1", group_features=-1, time_feature=0)
    with pytest.raises(ValueError, match="columns of groups or times have none"):
        RFE(model).fit(table, y)


@pytest.mark.parametrize("position", [0, 4])
def test_select_from_model(data, kind, position):
    X, y, groups = data
    table = with_groups(X, groups, position)
    selector = SelectFromModel(kind(group_features="school")).fit(table, y)
    assert selector.estimator_.n_groups_ == {"school": 30}
    with pytest.raises(ValueError, match="SelectFromModel takes coef_ for .*'school'.* pass the groups as groups="):
        selector.transform(table)
    with sklearn.config_context(enable_metadata_routing=True):
        selected = SelectFromModel(kind(), threshold="median").set_output(transform="pandas").fit(X, y, groups=groups)
    assert list(selected.transform(X)) == ["strong", "middling"]


def test_bagging_of_all_columns(data, kind):
    X, y, groups = data
    model = BaggingClassifier(kind(group_features=0), n_estimators=3, random_state=0)
    assert model.fit(with_groups(X, groups, 0), y).estimators_[0].n_groups_["x0"] <= 30


# Names ------------------------------------------------------------------------------------------------------


def test_names_lost_in_an_array(data, kind):
    X, y, groups = data
    table = with_groups(X, groups, 0)
    lost = "'school', which is no column of X: its 5 columns came without names.* positions?.* groups= with metadata "
    lost += "routing.* make_grouped_pipeline"
    for meta in (RFE(kind(group_features="school")), BaggingClassifier(kind(group_features="school")),
                 make_pipeline(StandardScaler(), kind(group_features="school"))):  # fmt: skip
        with pytest.raises(ValueError, match=lost):
            meta.fit(table, y)


def test_prefixes_of_column_transformers(data, kind):
    X, y, groups = data
    table = with_groups(X, groups, 0)
    transformer = make_column_transformer((StandardScaler(), FEATURES), remainder="passthrough")
    model = make_pipeline(transformer.set_output(transform="pandas"), kind(group_features="school"))
    with pytest.raises(ValueError, match="did you mean 'remainder__school'.*verbose_feature_names_out=False.*make_g"):
        model.fit(table, y)
    model.set_params(**{f"{kind.__name__.lower()}__group_features": "remainder__school"}).fit(table, y)
    keep = ColumnTransformer([("keep", "passthrough", ["school"]), ("scale", StandardScaler(), FEATURES)])
    with pytest.raises(ValueError, match="did you mean 'keep__school'"):
        make_pipeline(keep.set_output(transform="pandas"), kind(group_features="school")).fit(table, y)
    with pytest.raises(ValueError, match=r"'schol', which is no column of X; did you mean 'school'\?$"):
        kind(group_features="schol").fit(table, y)
    wide = pd.concat([table, pd.DataFrame(np.ones((600, 900)), columns=[f"c{j}" for j in range(900)])], axis=1)
    with pytest.raises(ValueError, match="its columns are 'school', 'strong'.* and 895 more$"):
        kind(group_features="?").fit(wide, y)
