"""The data sets that come with the package, and the generator of grouped data."""

import gzip
import inspect
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from sklmm import datasets
from sklmm.datasets import (
    load_bacteria,
    load_cbpp,
    load_contraception,
    load_guimmun,
    load_insteval,
    load_ohio,
    load_pastes,
    load_penicillin,
    load_sleepstudy,
    load_verbagg,
    make_clustered_classification,
    make_clustered_regression,
)
from sklmm.datasets._data_sets import DATA_SETS

# loader, rows, ones, groups, response, group, features, sum of a numeric column
LOADERS = [
    (load_contraception, 1934, 759, 60, "use", "district", ["livch", "age", "urban", "ch"], ("age", 4.2507)),
    (load_bacteria, 220, 177, 50, "y", "ID", ["ap", "hilo", "week", "trt"], ("week", 980)),
    (load_ohio, 2148, 326, 537, "resp", "id", ["age", "smoke"], ("smoke", 748)),
    (load_cbpp, 112, 56, 15, "ill", "herd", ["period"], None),
]

# the same with several factors: lists of groups
IMMUNISATION = ["kid2p", "mom25p", "ord", "ethn", "momEd", "husEd", "momWork", "rural", "pcInd81"]
SEVERAL = [
    (load_verbagg, 7584, 3611, [316, 24], "r2", ["id", "item"], ["Anger", "Gender", "btype", "situ", "mode"],
     ("Anger", 151704)),
    (load_guimmun, 2159, 964, [1595, 161], "immun", ["mom", "comm"], IMMUNISATION, ("pcInd81", 1007.2848896)),
    (load_insteval, 73421, 32675, [2972, 1128, 14], "y4", ["s", "d", "dept"], ["studage", "lectage", "service"],
     ("lectage", 218182)),
]  # fmt: skip
# loader, rows, sum of the target, groups, response, group, features; outcomes are numbers
NUMERIC = [
    (load_sleepstudy, 180, 53731.4205, 18, "Reaction", "Subject", ["Days"]),
    (load_penicillin, 144, 3308, [24, 6], "diameter", ["plate", "sample"], []),
    (load_pastes, 60, 3603.2, [10, 30], "strength", ["batch", "sample"], []),
]
ALL_LOADERS = [row[0] for row in LOADERS + SEVERAL + NUMERIC]


@pytest.mark.parametrize("loader, rows, ones, n_groups, response, group, features, checksum", LOADERS + SEVERAL)
def test_loader_as_frame(loader, rows, ones, n_groups, response, group, features, checksum):
    bunch = loader(as_frame=True)
    assert bunch.data.shape == (rows, len(features))
    assert bunch.data.columns.tolist() == features == bunch.feature_names
    assert bunch.target.name == response
    assert bunch.target.sum() == ones
    assert set(bunch.target) == {0, 1}
    if isinstance(group, str):
        assert bunch.groups.name == group
        assert bunch.group_names == [group]
        assert bunch.groups.nunique() == n_groups
    else:
        assert bunch.groups.columns.tolist() == group == bunch.group_names
        assert bunch.groups.nunique().tolist() == n_groups
    assert len(bunch.target_names) == 2
    if checksum is not None:
        column, total = checksum
        assert bunch.data[column].sum() == pytest.approx(total)
    assert not bunch.frame.isna().any(axis=None)

    for name in features:
        pd.testing.assert_series_equal(bunch.frame[name], bunch.data[name])
    pd.testing.assert_series_equal(bunch.frame[response], bunch.target)
    np.testing.assert_array_equal(bunch.frame[group], bunch.groups)
    for name, levels in bunch.categories.items():
        assert bunch.data[name].cat.categories.tolist() == levels
        assert set(bunch.data[name]) == set(levels)


@pytest.mark.parametrize("loader", ALL_LOADERS)
def test_arrays_hold_the_frame_with_categories_as_codes(loader):
    arrays, frames = loader(), loader(as_frame=True)
    assert arrays.data.dtype == np.float64
    assert arrays.frame is None
    for j, name in enumerate(arrays.feature_names):
        column = frames.data[name]
        expected = column.cat.codes if name in frames.categories else column
        np.testing.assert_array_equal(arrays.data[:, j], expected)
    np.testing.assert_array_equal(arrays.target, frames.target)
    np.testing.assert_array_equal(arrays.groups, frames.groups)


@pytest.mark.parametrize("loader", ALL_LOADERS)
@pytest.mark.parametrize("as_frame", [False, True])
def test_return_X_y_adds_groups(loader, as_frame):
    bunch = loader(as_frame=as_frame)
    X, y, groups, *weights = loader(return_X_y=True, as_frame=as_frame)
    assert len(weights) == ("sample_weight" in bunch)
    assert type(X) is type(bunch.data)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
    np.testing.assert_array_equal(groups, bunch.groups)


@pytest.mark.parametrize("loader, rows, total, n_groups, response, group, features", NUMERIC)
def test_loader_of_numeric_outcomes(loader, rows, total, n_groups, response, group, features):
    bunch = loader(as_frame=True)
    assert bunch.data.shape == (rows, len(features)) and bunch.data.columns.tolist() == features == bunch.feature_names
    assert (bunch.target.name, bunch.target.dtype) == (response, np.float64)
    assert bunch.target.sum() == pytest.approx(total)
    assert np.all(bunch.groups.nunique() == n_groups)
    assert "target_names" not in bunch and bunch.categories == {}
    pd.testing.assert_series_equal(bunch.frame[response], bunch.target)
    np.testing.assert_array_equal(bunch.frame[group], bunch.groups)


def test_ratings_of_lectures_as_numbers():
    bunch = load_insteval(as_frame=True, target="y")
    assert bunch.target.dtype == np.float64 and set(bunch.target) == {1.0, 2.0, 3.0, 4.0, 5.0}
    np.testing.assert_array_equal(bunch.target >= 4, load_insteval().target)
    with pytest.raises(ValueError, match="target must be 'y4' or 'y', got 'rating'"):
        load_insteval(target="rating")


@pytest.mark.parametrize("loader", [loader for loader in ALL_LOADERS if loader not in (load_penicillin, load_pastes)])
def test_loads_are_independent(loader):
    first = loader(as_frame=True)
    first.data.iloc[:, -1] = first.data.iloc[0, -1]
    first.categories["new"] = []
    second = loader(as_frame=True)
    assert second.data.iloc[:, -1].nunique() > 1
    assert "new" not in second.categories


@pytest.mark.parametrize("loader", ALL_LOADERS)
def test_description_names_source_and_licence(loader):
    bunch = loader()
    assert "R package" in bunch.DESCR
    assert "licence GPL" in bunch.DESCR
    assert "Returns" not in bunch.DESCR
    path = resources.files(bunch.data_module) / bunch.filename
    assert path.is_file()


@pytest.mark.parametrize("loader", ALL_LOADERS)
def test_data_files_are_deterministic(loader):
    """No time stamp and no file name in the gzip header: the same data give the same bytes."""
    bunch = loader()
    packed = (resources.files(bunch.data_module) / bunch.filename).read_bytes()
    has_name, time_stamp = packed[3] & 8, packed[4:8]
    assert (has_name, time_stamp) == (0, b"\0\0\0\0")
    rows_a_line = 2 if "sample_weight" in bunch else 1
    assert rows_a_line * (len(gzip.decompress(packed).splitlines()) - 1) == len(bunch.target)


def test_every_data_set_of_the_table_is_public_tested_and_described():
    loaders = [getattr(datasets, f"load_{name}") for name in DATA_SETS]
    assert {loader.__name__ for loader in loaders} == {name for name in datasets.__all__ if name.startswith("load_")}
    assert set(loaders) == set(ALL_LOADERS)
    for loader in loaders:
        text, first_line = inspect.getdoc(loader), loader().DESCR.partition("\n")[0]
        assert text.startswith(loader().DESCR + "\nParameters\n")
        assert f'    """{first_line}\n' in inspect.getsource(loader)  # what is read without importing


def test_reference_levels_of_bacteria_are_not_alphabetical():
    assert load_bacteria().categories["trt"] == ["placebo", "drug", "drug+"]


def test_mothers_are_nested_in_communities_and_answers_are_crossed():
    mothers = load_guimmun(as_frame=True).groups
    assert mothers.groupby("mom")["comm"].nunique().eq(1).all()
    answers = load_verbagg(as_frame=True).frame
    assert answers.groupby(["id", "item"]).size().eq(1).all() and len(answers) == 316 * 24
    np.testing.assert_array_equal(answers["r2"], answers["resp"] != "no")
    ratings = load_insteval(as_frame=True).frame
    np.testing.assert_array_equal(ratings["y4"], ratings["y"] >= 4)
    assert set(ratings["dept"]) == set(range(1, 16)) - {13}


def test_contraception_relations_between_columns():
    frame = load_contraception(as_frame=True).frame
    np.testing.assert_array_equal(frame["woman"], np.arange(1, 1935))
    np.testing.assert_array_equal(frame["ch"] == "Y", frame["livch"] != "0")
    assert set(range(1, 62)) - set(frame["district"]) == {54}


def test_counts_of_cbpp_are_the_weights_of_two_rows():
    bunch = load_cbpp(as_frame=True)
    frame, weight = bunch.frame, bunch.sample_weight
    assert (weight.name, weight.dtype) == ("animals", np.float64)
    assert (weight[bunch.target == 1].sum(), weight.sum()) == (99, 842)
    expected = np.where(frame["ill"] == 1, frame["incidence"], frame["size"] - frame["incidence"])
    np.testing.assert_array_equal(weight, expected)
    lines = frame.groupby(["herd", "period"], observed=True)
    assert (lines.ngroups, set(lines.size())) == (56, {2})
    np.testing.assert_array_equal(lines["animals"].sum(), lines["size"].first())

    arrays = load_cbpp()
    assert type(arrays.sample_weight) is np.ndarray
    np.testing.assert_array_equal(arrays.sample_weight, weight)
    np.testing.assert_array_equal(load_cbpp(return_X_y=True)[3], weight)


def test_loader_options_are_checked():
    with pytest.raises(TypeError, match="load_ohio: as_frame must be True or False, got 'yes'"):
        load_ohio(as_frame="yes")


# ---- make_clustered_classification


def test_shapes_and_defaults():
    X, y, groups = make_clustered_classification(random_state=0)
    assert X.shape == (1000, 5)
    assert set(y) == {0, 1}
    np.testing.assert_array_equal(np.bincount(groups), np.full(50, 20))
    assert np.any(np.diff(groups) < 0), "rows are shuffled"


def test_same_seed_same_data():
    options = dict(n_samples=100, covariance=[1.0, 0.5], size_variation=1.0, return_truth=True)
    X, y, groups, truth = make_clustered_classification(random_state=3, **options)
    X2, y2, groups2, truth2 = make_clustered_classification(random_state=np.random.RandomState(3), **options)
    X3, *_ = make_clustered_classification(random_state=4, **options)
    for first, second in [(X, X2), (y, y2), (groups, groups2), *((truth[key], truth2[key]) for key in truth)]:
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(X, X3)


@pytest.mark.parametrize("shuffle", [False, True])
def test_truth_gives_the_probabilities(shuffle):
    covariance = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.2]])
    X, y, groups, truth = make_clustered_classification(
        n_samples=500,
        n_features=4,
        intercept=-0.5,
        covariance=covariance,
        shuffle=shuffle,
        random_state=1,
        return_truth=True,
    )
    effects = truth.random_effects[groups]
    log_odds = (
        truth.intercept + X @ truth.coef + effects[:, 0] + effects[:, 1] * X[:, 0] + effects[:, 2] * X[:, 1]
    )
    np.testing.assert_allclose(truth.probabilities, expit(log_odds), rtol=1e-12)
    np.testing.assert_array_equal(truth.covariance, covariance)
    assert truth.intercept == -0.5
    if not shuffle:
        assert np.all(np.diff(groups) >= 0)


def test_outcomes_of_the_regression_are_those_of_its_truth():
    options = dict(n_samples=20_000, n_features=3, covariance=[[1.0, 0.3], [0.3, 0.5]], intercept=2.0, noise=0.5)
    X, y, groups, truth = make_clustered_regression(random_state=0, return_truth=True, **options)
    effects = truth.random_effects[groups]
    means = truth.intercept + X @ truth.coef + effects[:, 0] + effects[:, 1] * X[:, 0]
    np.testing.assert_allclose(truth.means, means, rtol=1e-12)
    assert (y - means).std() == pytest.approx(0.5, rel=0.02) and truth.noise == 0.5
    again = make_clustered_regression(random_state=0, **options)
    for first, second in zip((X, y, groups), again, strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="noise == -1, must be >= 0"):
        make_clustered_regression(noise=-1)


def test_classes_follow_the_probabilities():
    _, y, _, truth = make_clustered_classification(n_samples=200_000, random_state=0, return_truth=True)
    bins = np.digitize(truth.probabilities, np.linspace(0, 1, 11)[1:-1])
    for b in range(10):
        p = truth.probabilities[bins == b]
        standard_error = np.sqrt(np.sum(p * (1 - p))) / len(p)
        assert abs(y[bins == b].mean() - p.mean()) < 4.5 * standard_error


@pytest.mark.parametrize(
    "covariance, expected",
    [
        (2.0, [[2.0]]),
        ([2.0, 0.5], [[2.0, 0.0], [0.0, 0.5]]),
        ([[2.0, 0.9], [0.9, 0.5]], [[2.0, 0.9], [0.9, 0.5]]),
        ([[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]),  # singular: the slope is the intercept
        (0, [[0.0]]),
    ],
)
def test_random_effects_have_the_covariance(covariance, expected):
    *_, truth = make_clustered_classification(
        n_samples=40_000, n_groups=40_000, covariance=covariance, random_state=0, return_truth=True
    )
    drawn = np.cov(truth.random_effects.T, ddof=0).reshape(np.shape(expected))
    np.testing.assert_array_equal(truth.covariance, expected)
    np.testing.assert_allclose(drawn, expected, atol=0.05)


def test_group_sizes():
    _, _, groups = make_clustered_classification(n_samples=103, n_groups=10, random_state=0)
    assert sorted(np.bincount(groups)) == [10] * 7 + [11] * 3

    _, _, groups = make_clustered_classification(n_samples=[3, 1, 5], random_state=0)
    assert np.bincount(groups).tolist() == [3, 1, 5]

    _, _, groups = make_clustered_classification(
        n_samples=50_000, n_groups=500, size_variation=1.0, random_state=0
    )
    sizes = np.bincount(groups)
    assert (len(sizes), sizes.sum()) == (500, 50_000)
    assert sizes.min() >= 1
    assert 0.85 < sizes.std() / sizes.mean() < 1.15


def test_informative_features_and_given_coefficients():
    options = dict(random_state=0, return_truth=True)
    *_, truth = make_clustered_classification(n_features=4, n_informative=2, **options)
    assert np.flatnonzero(truth.coef).tolist() == [0, 1]
    *_, truth = make_clustered_classification(n_features=2, coef=[1, -2], **options)
    assert truth.coef.tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(n_samples=0), ValueError, "n_samples == 0, must be >= 1"),
        (dict(n_samples=2.5), TypeError, "n_samples must be an instance of"),
        (dict(n_samples=[3, 0]), ValueError, "n_samples must be an int or a 1-D array-like of positive ints"),
        (dict(n_samples=[3, 2], n_groups=3), ValueError, "n_groups is 3, but n_samples gives the sizes of 2"),
        (
            dict(n_samples=5, n_groups=6),
            ValueError,
            "6 groups need at least as many rows, but n_samples is 5",
        ),
        (
            dict(n_features=2, coef=[1.0]),
            ValueError,
            "coef must hold a finite number for each of the 2 features",
        ),
        (dict(n_features=2, n_informative=3), ValueError, "n_informative == 3, must be <= 2"),
        (dict(intercept=np.nan), ValueError, "intercept must be finite"),
        (dict(size_variation=-1), ValueError, "size_variation == -1, must be >= 0"),
        (dict(n_features=1, covariance=np.eye(3)), ValueError, "2 slopes, but there are only 1 features"),
        (dict(covariance=np.ones((2, 3))), ValueError, r"got an array of shape \(2, 3\)"),
        (dict(covariance=[[1.0, 0.2], [0.3, 1.0]]), ValueError, "finite and symmetric"),
        (
            dict(covariance=[[1.0, 2.0], [2.0, 1.0]]),
            ValueError,
            "positive semi-definite; it has the eigenvalue -1",
        ),
        (dict(covariance=-1.0), ValueError, "positive semi-definite"),
    ],
)
def test_generator_names_what_is_wrong(options, error, message):
    with pytest.raises(error, match=message):
        make_clustered_classification(**options)
