"""What must not change a marginal fit, how it must change where it does, and faults of other packages."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from dense_gee import make_problem
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from sklmm import GEELogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.estimating import AR1, Exchangeable, Fixed, MDependent, Unstructured, WorkingCorrelation
from sklmm.exceptions import NoGroupsWarning

COV_TYPES = ("robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel")
TIMES = (0, 1, 2, 4, 5)
R = 0.5 ** np.sqrt(np.abs(np.subtract.outer(TIMES, TIMES)))
STRUCTURES = {
    "independence": "independence",
    "exchangeable": "exchangeable",
    "ar1": "ar1",
    "unstructured": "unstructured",
    "2-dependent": MDependent(2),
    "fixed": Fixed(R, times=TIMES),
}


@pytest.fixture(scope="module")
def data():
    """90 groups with rows at some of five times, in no order; the second feature is far from zero."""
    return make_problem(0)


@pytest.fixture(params=STRUCTURES)
def correlation(request):
    return STRUCTURES[request.param]


def _fit(correlation, data, **parameters):
    model = GEELogisticRegression(correlation, **parameters)
    return model.fit(data.X, data.y, groups=data.groups, time=data.time)


CRITERIA = ("dispersion_", "qic_", "qicu_", "cic_", "quasi_likelihood_")


def _same(found, expected, rtol=1e-9, cov_types=COV_TYPES, names=CRITERIA):
    """All that the fits say is the same; covariances in units of the standard errors."""
    assert found.converged_ and expected.converged_
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.correlation_params_, expected.correlation_params_, rtol=rtol, atol=rtol)
    for name in names:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=rtol), name
    for cov_type in cov_types:
        vcov = expected.vcov(cov_type).to_numpy()
        se = np.sqrt(np.diag(vcov))
        assert np.abs((found.vcov(cov_type).to_numpy() - vcov) / np.outer(se, se)).max() < rtol, cov_type


# Rows, groups, classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_row_order(data, correlation, ddof_correction):
    expected = _fit(correlation, data, ddof_correction=ddof_correction)
    shuffled = np.random.default_rng(0).permutation(len(data.y))
    by_group = np.argsort(data.groups, kind="stable")
    for rows in (shuffled, by_group, np.lexsort((data.time, data.groups)), np.lexsort((-data.time, -data.groups))):
        model = GEELogisticRegression(correlation, ddof_correction=ddof_correction)
        model.fit(data.X[rows], data.y[rows], groups=data.groups[rows], time=data.time[rows])
        _same(model, expected)


def test_relabelled_groups(data, correlation):
    """Also where the labels' order is another; as numbers, strings, categories, dates."""
    expected = _fit(correlation, data)
    shuffled = np.random.default_rng(1).permutation(1000)[data.groups]
    text = np.char.add("child ", shuffled.astype(str))
    for labels in (
        -data.groups,
        shuffled,
        shuffled + 0.5,
        text,
        text.astype(object),
        pd.Categorical(text),
        pd.to_datetime("2020-01-01") + pd.to_timedelta(shuffled, "D"),
    ):
        model = GEELogisticRegression(correlation).fit(data.X, data.y, groups=labels, time=data.time)
        _same(model, expected)
        assert model.n_groups_ == {"group": 90}


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_swapped_classes(data, correlation, ddof_correction):
    expected = _fit(correlation, data, ddof_correction=ddof_correction)
    found = _fit(correlation, data._replace(y=1 - data.y), ddof_correction=ddof_correction)
    np.testing.assert_allclose(found.coef_, -expected.coef_, rtol=1e-9)
    np.testing.assert_allclose(found.intercept_, -expected.intercept_, rtol=1e-9)
    found.coef_, found.intercept_ = -found.coef_, -found.intercept_
    _same(found, expected)


# Weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dispersion", ["estimate", 1.0])
@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
def test_whole_weights_count_rows(data, structure, dispersion):
    """Weight 2 is the row twice in its group, 0 the row left out: everything, to 1e-10."""
    weights = np.random.default_rng(2).integers(0, 4, size=len(data.y))
    weights[data.groups == data.groups[0]] = 0
    model = GEELogisticRegression(structure, dispersion=dispersion)
    found = clone(model).fit(data.X, data.y, groups=data.groups, sample_weight=weights)
    rows = np.repeat(np.arange(len(data.y)), weights)
    expected = clone(model).fit(data.X[rows], data.y[rows], groups=data.groups[rows])
    _same(found, expected, rtol=1e-10)
    assert found.n_obs_ == expected.n_obs_ == weights.sum()
    assert found.n_groups_ == expected.n_groups_
    assert found.df_resid_ == expected.df_resid_


@pytest.mark.parametrize("structure", ["independence", "exchangeable"])
def test_whole_weights_count_rows_of_few_groups(structure):
    """Where leverages are large, and tests use t."""
    problem = make_problem(19, n_clusters=12, complete=True)
    weights = problem.sample_weight.astype(int)
    found = GEELogisticRegression(structure).fit(
        problem.X, problem.y, groups=problem.groups, sample_weight=weights
    )
    rows = np.repeat(np.arange(len(problem.y)), weights)
    expected = GEELogisticRegression(structure).fit(problem.X[rows], problem.y[rows], groups=problem.groups[rows])
    _same(found, expected, rtol=1e-10)
    pd.testing.assert_frame_equal(found.conf_int(), expected.conf_int(), rtol=1e-9)


# Not exchangeable: there a weight repeats the row within its group, as the tests above say.
@pytest.mark.parametrize("correlation", [name for name in STRUCTURES if name != "exchangeable"], indirect=True)
def test_weight_of_a_group_counts_the_group(data, correlation):
    """Under structures by time: one weight for all of a group is the group as often, under labels of its own.

    Only robust covariances tell the group with a weight from several. (Not with geepack's definitions: its moments
    take a product of residuals as often as the product of the weights says.)
    """
    weights = np.random.default_rng(3).integers(1, 4, size=1000)[data.groups]
    found = GEELogisticRegression(correlation)
    found.fit(data.X, data.y, groups=data.groups, time=data.time, sample_weight=weights)
    rows = np.repeat(np.arange(len(data.y)), weights)
    labels = data.groups[rows] * 10 + np.concatenate([np.arange(weight) for weight in weights])
    expected = GEELogisticRegression(correlation)
    expected.fit(data.X[rows], data.y[rows], groups=labels, time=data.time[rows])
    assert expected.n_groups_["group"] > 1.5 * found.n_groups_["group"]
    _same(found, expected, cov_types=["naive"], names=("dispersion_", "qicu_", "quasi_likelihood_"))


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_rows_without_weight_take_their_groups_times_and_classes_along(data, correlation, ddof_correction):
    labels = np.where(np.arange(len(data.y)) == 5, 2, data.y)  # a third class on one row
    time = np.where(np.arange(len(data.y)) == 5, np.nan, data.time)
    kept = (data.groups > 110) & (labels < 2)
    model = GEELogisticRegression(correlation, ddof_correction=ddof_correction)
    found = clone(model).fit(data.X, labels, groups=data.groups, time=time, sample_weight=kept.astype(float))
    expected = clone(model).fit(data.X[kept], data.y[kept], groups=data.groups[kept], time=time[kept])
    _same(found, expected)
    assert found.classes_.tolist() == [0, 1]
    assert found.n_groups_ == {"group": len(np.unique(data.groups[kept]))}


def test_unit_weights_are_none(data, correlation):
    for ddof_correction in (True, False):
        expected = _fit(correlation, data, ddof_correction=ddof_correction)
        found = GEELogisticRegression(correlation, ddof_correction=ddof_correction)
        found.fit(data.X, data.y, groups=data.groups, time=data.time, sample_weight=np.ones(len(data.y)))
        _same(found, expected, rtol=1e-11)


# Columns and times ------------------------------------------------------------------------------------------


def test_affine_changes_of_X(data, correlation):
    """Fay and Graubard's covariance belongs to the coordinates; it transforms where columns are only scaled."""
    expected = _fit(correlation, data)
    scale, shift = np.array([50.0, 0.01, -3.0]), np.array([-3.0, 1000.0, 7.0])
    for moved in (np.zeros(3), shift):
        found = _fit(correlation, data._replace(X=data.X * scale + moved))
        # raw intercept and slopes as functions of the new ones
        J = np.diag(np.r_[1.0, scale])
        J[0, 1:] = moved
        beta, expected_beta = (np.r_[model.intercept_, model.coef_[0]] for model in (found, expected))
        np.testing.assert_allclose(J @ beta, expected_beta, rtol=1e-7)
        np.testing.assert_allclose(found.correlation_params_, expected.correlation_params_, rtol=1e-8, atol=1e-9)
        assert found.qic_ == pytest.approx(expected.qic_, rel=1e-9)
        assert found.cic_ == pytest.approx(expected.cic_, rel=1e-8)
        for cov_type in COV_TYPES:
            if cov_type == "fay-graubard" and moved.any():
                continue
            vcov = expected.vcov(cov_type).to_numpy()
            se = np.sqrt(np.diag(vcov))
            moved_back = J @ found.vcov(cov_type).to_numpy() @ J.T
            assert np.abs((moved_back - vcov) / np.outer(se, se)).max() < 1e-6, cov_type
        np.testing.assert_allclose(
            found.predict_proba(data.X * scale + moved), expected.predict_proba(data.X), rtol=1e-8
        )


def test_another_basis_of_the_columns(data, correlation):
    A = np.array([[1.0, 0.3, 0.0], [0.2, 1.0, -0.5], [0.0, 0.1, 2.0]])
    expected = _fit(correlation, data)
    found = _fit(correlation, data._replace(X=data.X @ A))
    np.testing.assert_allclose(A @ found.coef_[0], expected.coef_[0], rtol=1e-7)
    for cov_type in ("robust", "naive", "kauermann-carroll", "mancl-derouen", "morel"):
        slopes = found.vcov(cov_type).to_numpy()[1:, 1:]
        np.testing.assert_allclose(A @ slopes @ A.T, expected.vcov(cov_type).to_numpy()[1:, 1:], rtol=1e-6)


def test_a_constant_column_is_an_intercept(data, correlation):
    expected = _fit(correlation, data)
    X = np.column_stack([np.ones(len(data.y)), data.X])
    found = _fit(correlation, data._replace(X=X), fit_intercept=False)
    assert found.intercept_.tolist() == [0.0]
    np.testing.assert_allclose(found.coef_[0], np.r_[expected.intercept_, expected.coef_[0]], rtol=1e-8)
    for cov_type in COV_TYPES:
        np.testing.assert_allclose(found.vcov(cov_type), expected.vcov(cov_type), rtol=1e-6)


def test_memory_layout_and_precision(data, correlation):
    expected = _fit(correlation, data)
    wide = np.zeros((len(data.y), 7))
    wide[:, 1:6:2] = data.X
    read_only = data.X.copy()
    read_only.flags.writeable = False
    frame = pd.DataFrame(data.X)
    unaligned = np.zeros(data.X.nbytes + 1, dtype=np.uint8)[1:].view(float).reshape(data.X.shape)
    unaligned[:] = data.X
    views = (
        np.asfortranarray(data.X),
        wide[:, 1:6:2],
        data.X[::-1][::-1],
        read_only,
        data.X.tolist(),
        frame.rename(columns=str),
        unaligned,
        data.X.astype(">f8"),
    )
    for X in views:
        _same(_fit(correlation, data._replace(X=X)), expected, rtol=1e-11)
    single = data.X.astype(np.float32)
    doubled = _fit(correlation, data._replace(X=single.astype(np.float64)))
    for X in (single, np.asfortranarray(single), np.repeat(single, 2, axis=0)[::2]):
        _same(_fit(correlation, data._replace(X=X)), doubled, rtol=1e-11)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("structure", ["exchangeable", "ar1", "unstructured", "2-dependent"])
def test_shifted_times(data, structure, ddof_correction):
    correlation = STRUCTURES[structure]
    expected = _fit(correlation, data, ddof_correction=ddof_correction)
    for shift in (-3.0, 0.5, 2020.0, 1e6):
        _same(_fit(correlation, data._replace(time=data.time + shift), ddof_correction=ddof_correction), expected)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("unit", [3.0, 0.25, 1 / 12, 86_400.0])
def test_unit_of_time(data, unit, ddof_correction):
    """The same correlation over the same time: alpha is that over one of the new units."""
    for structure in ("ar1", "unstructured", "2-dependent"):
        correlation = STRUCTURES[structure]
        expected = _fit(correlation, data, ddof_correction=ddof_correction)
        found = _fit(correlation, data._replace(time=data.time * unit), ddof_correction=ddof_correction)
        if structure == "ar1":
            assert 0 < expected.correlation_params_[0] < 1
            found.correlation_params_ = found.correlation_params_**unit
        _same(found, expected, rtol=1e-7)


def test_relabelled_times(data):
    """To an unstructured or exchangeable correlation times are names: they may come in another order."""
    other = np.array([7.0, -1.0, 3.5, 100.0, 2.0])  # instead of 0, 1, 2, 4, 5
    renamed = data._replace(time=other[np.searchsorted(TIMES, data.time)])
    expected, found = (_fit("exchangeable", d) for d in (data, renamed))
    np.testing.assert_array_equal(found.vcov_, expected.vcov_)
    expected, found = (_fit("unstructured", d) for d in (data, renamed))
    rank = np.argsort(other)
    np.testing.assert_array_equal(found.correlation_times_, other[rank])
    np.testing.assert_allclose(
        found.working_correlation_, expected.working_correlation_[np.ix_(rank, rank)], rtol=1e-9, atol=1e-10
    )
    found.correlation_params_ = expected.correlation_params_
    _same(found, expected)


def test_reversed_times(data):
    """Correlations do not know the arrow of time."""
    expected, found = (_fit("ar1", d) for d in (data, data._replace(time=-data.time)))
    _same(found, expected)
    expected, found = (_fit(MDependent(2), d) for d in (data, data._replace(time=-data.time)))
    _same(found, expected)


# Special cases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1", "unstructured", "m-dependent"])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_row_a_group_is_plain_logistic_regression(data, structure, weighted):
    weights = data.sample_weight if weighted else np.ones(len(data.y))
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(data.X, data.y, weights)
    Z = np.column_stack([np.ones(len(data.y)), data.X])
    mu = plain.predict_proba(data.X)[:, 1]
    bread = np.linalg.inv(Z.T @ (Z * (weights * mu * (1 - mu))[:, None]))
    meat = Z.T @ (Z * (weights * (data.y - mu))[:, None] ** 2)
    phi = weights @ ((data.y - mu) ** 2 / (mu * (1 - mu))) / (weights.sum() - 4)
    with pytest.warns(NoGroupsWarning):
        without = GEELogisticRegression(structure).fit(data.X, data.y, sample_weight=weights)
    rows = np.random.default_rng(0).permutation(len(data.y))
    arguments = dict(time=data.time if structure == "unstructured" else rows, sample_weight=weights)
    with_groups = GEELogisticRegression(structure).fit(data.X, data.y, groups=rows, **arguments)
    for model in (without, with_groups):
        np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-8)
        np.testing.assert_allclose(model.intercept_, plain.intercept_, rtol=1e-8)
        np.testing.assert_allclose(model.vcov("robust"), bread @ meat @ bread, rtol=1e-8)
        np.testing.assert_allclose(model.vcov("naive"), phi * bread, rtol=1e-8)
        assert model.dispersion_ == pytest.approx(phi, rel=1e-9)
        assert not model.correlation_params_.any()
        np.testing.assert_array_equal(model.working_correlation_, [[1.0]])


def test_independence_is_plain_logistic_regression(data):
    """Groups of any kind change its covariance only."""
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(data.X, data.y)
    model = _fit("independence", data)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-8)
    Z = np.column_stack([np.ones(len(data.y)), data.X])
    mu = plain.predict_proba(data.X)[:, 1]
    scores = pd.DataFrame(Z * (data.y - mu)[:, None]).groupby(data.groups).sum().to_numpy()
    bread = np.linalg.inv(Z.T @ (Z * (mu * (1 - mu))[:, None]))
    np.testing.assert_allclose(model.vcov_, bread @ scores.T @ scores @ bread, rtol=1e-7)


def test_the_same_data_twice(data, correlation):
    """With other labels: half the covariances; where no degrees of freedom are taken off nothing else changes."""
    twice = data._replace(
        X=np.tile(data.X, (2, 1)), y=np.tile(data.y, 2), time=np.tile(data.time, 2),
        groups=np.r_[data.groups, data.groups + 1000],
    )  # fmt: skip
    expected, found = (_fit(correlation, d, ddof_correction=False) for d in (data, twice))
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9)
    np.testing.assert_allclose(found.correlation_params_, expected.correlation_params_, rtol=1e-9)
    np.testing.assert_allclose(found.vcov("robust"), expected.vcov("robust") / 2, rtol=1e-8)
    np.testing.assert_allclose(found.vcov("naive"), expected.vcov("naive") / 2, rtol=1e-8)
    assert found.quasi_likelihood_ == pytest.approx(2 * expected.quasi_likelihood_, rel=1e-10)
    assert found.cic_ == pytest.approx(expected.cic_, rel=1e-9)


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_groups_of_two_have_one_correlation(ddof_correction):
    """Whatever it is called; gee's AR(1) is a ratio of other means than its exchangeable one."""
    problem = make_problem(5, times=(0, 1), complete=True)
    weights = np.random.default_rng(0).integers(1, 3, size=1000)[problem.groups] if not ddof_correction else None
    fits = [
        GEELogisticRegression(correlation, ddof_correction=ddof_correction).fit(
            problem.X, problem.y, groups=problem.groups, time=problem.time, sample_weight=weights
        )
        for correlation in ("exchangeable", "m-dependent", "ar1", "unstructured")
    ]
    if ddof_correction:
        _same(fits[1], fits[0])
        _same(fits[3], fits[2])
    else:
        for other in fits[1:]:
            _same(other, fits[0])


# A structure of one's own that imitates a built-in one ------------------------------------------------------


class Toeplitz(WorkingCorrelation):
    """A correlation for each distance of the equally spaced times: what MDependent is with every lag."""

    name = "Toeplitz"

    def _lags(self, times):
        return np.abs(np.subtract.outer(times, times))

    def estimate(self, moments):
        lags, upper = self._lags(moments.times), np.triu_indices(len(moments.times), 1)
        products, counts = moments.products[upper], moments.counts[upper]
        alpha = []
        for lag in range(1, int(lags.max()) + 1):
            chosen = lags[upper] == lag
            count = moments.less_coefficients(counts[chosen].sum())
            alpha.append(products[chosen].sum() / (moments.scale * count))
        return alpha

    def matrix(self, alpha, times):
        return np.concatenate([[1.0], alpha])[self._lags(times).astype(int)]


class OneForAll(WorkingCorrelation):
    """Exchangeable by a factorisation of each pattern."""

    def estimate(self, moments):
        count = moments.less_coefficients(moments.counts.sum())
        return moments.products.sum() / (moments.scale * count)

    def matrix(self, alpha, times):
        return Exchangeable().matrix(alpha, times)


class SquareRoot(WorkingCorrelation):
    """Given by a function of the distance: what Fixed is with its values."""

    moments = None

    def estimate(self, moments):
        return []

    def matrix(self, alpha, times):
        return 0.5 ** np.sqrt(np.abs(np.subtract.outer(times, times)))


class DenseAR1(AR1):
    whitening = "dense"


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize(
    "own, built_in",
    [
        (Toeplitz(), MDependent(5)),
        (OneForAll(), "exchangeable"),
        (SquareRoot(), Fixed(R)),
        (DenseAR1(), "ar1"),
        (type("Own", (Unstructured,), {})(), "unstructured"),
    ],
    ids=["Toeplitz", "exchangeable", "fixed", "ar1", "unstructured"],
)
def test_structure_of_ones_own_is_the_one_it_imitates(data, own, built_in, ddof_correction):
    if isinstance(own, Toeplitz):  # five lags of few groups are no correlation matrix
        data = make_problem(2, times=(0, 1, 2, 3, 4, 5), n_clusters=200)
    found, expected = (_fit(correlation, data, ddof_correction=ddof_correction) for correlation in (own, built_in))
    assert expected.working_correlation_[0, 1] > 0.05
    _same(found, expected)


# Large data -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "structure, n_groups",
    [
        ("exchangeable", 2_500),
        ("exchangeable", 62_500),
        ("ar1", 2_500),
        ("ar1", 62_500),
        ("unstructured", 62_500),
        ("2-dependent", 62_500),
        ("independence", 2_500),
    ],
)
def test_large_data_stop_within_the_tolerance(structure, n_groups):
    """Fits of more than 200,000 rows do not go on to rounding error."""
    structure = STRUCTURES[structure]
    X, y, groups = make_clustered_classification(
        250_000, 6, n_groups=n_groups, covariance=1.0, size_variation=0.0, random_state=0
    )
    time = pd.Series(groups).groupby(groups).cumcount().to_numpy()
    found, exact = (
        GEELogisticRegression(structure, **options).fit(X, y, groups=groups, time=time)
        for options in ({}, {"tol": 1e-10})
    )
    assert found.converged_ and exact.converged_
    assert found.fit_report_.n_full_passes <= 5
    se = np.sqrt(np.diag(exact.vcov_))
    error = np.r_[found.intercept_ - exact.intercept_, found.coef_[0] - exact.coef_[0]] / se
    assert np.abs(error).max() < 1e-4
    np.testing.assert_allclose(np.sqrt(np.diag(found.vcov_)), se, rtol=1e-3)
    np.testing.assert_allclose(found.correlation_params_, exact.correlation_params_, atol=1e-4)
    assert found.dispersion_ == pytest.approx(exact.dispersion_, rel=1e-4)
    assert found.qic_ == pytest.approx(exact.qic_, rel=1e-6)


def test_climbing_samples_changes_the_path_only():
    """Many rows climb samples of blocks of groups. Listed by their outcomes or not, they end at one point."""
    X, y, groups = make_clustered_classification(220_000, 2, n_groups=22_000, covariance=1.0, random_state=1)
    model = GEELogisticRegression(tol=1e-10).fit(X, y, groups=groups)
    levels = [row["level"] for row in model.fit_report_.history]
    assert levels[0] > 1 and levels[-1] == 1
    by_successes = np.argsort(np.argsort(np.bincount(groups, y), kind="stable"))
    other = GEELogisticRegression(tol=1e-10).fit(X, y, groups=by_successes[groups])
    _same(other, model, rtol=1e-8, names=("dispersion_", "qicu_", "quasi_likelihood_"))


# Faults of statsmodels that this package does not have ------------------------------------------------------


def test_qic_weighs_by_the_variance_function():
    """Its trace leaves out 1 / v(mu): on independent rows CIC is near the number of coefficients, not a fraction."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    y = (rng.random(4000) < 1 / (1 + np.exp(-0.5 - X[:, 0]))).astype(int)
    model = GEELogisticRegression("independence").fit(X, y, groups=np.arange(4000) // 4)
    assert model.cic_ == pytest.approx(3, abs=0.2)
    # with 1 / v(mu) naive and model-based covariance cancel exactly
    A = np.linalg.inv(model.vcov("naive"))
    assert model.cic_ == pytest.approx(np.trace(A @ model.vcov("robust")), rel=1e-8)


@pytest.mark.parametrize("ddof_correction", [True, False])
@pytest.mark.parametrize("structure", ["exchangeable", "unstructured"])
def test_weighted_correlation_does_not_know_the_labels_of_groups(data, structure, ddof_correction):
    """Row weights are looked up by group there, so that another order of labels gives another correlation."""
    weights = np.where(data.groups % 3 == 0, 4.0, 1.0)
    labels = np.random.default_rng(4).permutation(1000)
    fits = [
        GEELogisticRegression(structure, ddof_correction=ddof_correction).fit(
            data.X, data.y, groups=groups, time=data.time, sample_weight=weights
        )
        for groups in (data.groups, labels[data.groups])
    ]
    _same(*fits)
    unweighted = _fit(structure, data, ddof_correction=ddof_correction)
    assert np.abs(unweighted.correlation_params_ - fits[0].correlation_params_).max() > 0.005


@pytest.mark.parametrize("ddof_correction", [True, False])
def test_autoregression_estimates_and_applies_the_same_times(ddof_correction):
    """Its parameter is estimated from times and applied to positions."""
    problem = make_problem(8, times=(0, 1, 7, 30), n_clusters=200, complete=True)
    model = _fit("ar1", problem, ddof_correction=ddof_correction)
    alpha = model.correlation_params_[0]
    np.testing.assert_allclose(model.working_correlation_[0], alpha ** np.array([0, 1, 7, 30]), rtol=1e-12)
    # The coefficients solve the equations of that matrix.
    fixed = _fit(Fixed(model.working_correlation_), problem, ddof_correction=ddof_correction)
    np.testing.assert_allclose(model.coef_, fixed.coef_, rtol=1e-8)
    by_position = _fit("ar1", problem._replace(time=np.searchsorted([0, 1, 7, 30], problem.time)))
    assert abs(by_position.correlation_params_[0] - alpha) > 0.01
    assert np.abs(by_position.coef_ - model.coef_).max() > 1e-4


@pytest.mark.parametrize("structure", [Exchangeable, AR1, Unstructured, MDependent, lambda: Fixed(R, times=TIMES)])
def test_structure_used_twice_does_not_rewrite_the_first_result(data, structure):
    shared = structure()
    state = copy.deepcopy(vars(shared))
    first = _fit(shared, data)
    before, vcov, R_before = first.correlation_params_.copy(), first.vcov_, first.working_correlation_
    summary = str(first.summary())
    rng = np.random.default_rng(0)
    second = GEELogisticRegression(shared).fit(
        rng.normal(size=data.X.shape), rng.permutation(data.y), groups=data.groups, time=data.time
    )
    if before.size:
        assert np.abs(second.correlation_params_ - before).max() > 0.05
    np.testing.assert_array_equal(first.correlation_params_, before)
    np.testing.assert_array_equal(first.working_correlation_, R_before)
    np.testing.assert_array_equal(first.vcov_, vcov)
    assert str(first.summary()) == summary
    assert vars(shared).keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(vars(shared)[name], value)


@pytest.mark.parametrize("labels", [(1, 2), ("no", "yes"), (True, False), (2.0, 5.0)])
def test_labels_of_classes_are_any_two(data, labels):
    """{1, 2} give NaN there, and strings an error."""
    low, high = sorted(labels)
    expected = _fit("exchangeable", data)
    model = GEELogisticRegression().fit(data.X, np.where(data.y == 1, high, low), groups=data.groups)
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    assert np.isfinite(model.coef_).all()
    assert model.classes_.tolist() == [low, high]
    np.testing.assert_array_equal(model.predict(data.X) == high, expected.predict(data.X) == 1)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NaT])
def test_missing_group_labels_are_named(data, missing):
    """A KeyError there. Here: which factor, how many rows, and what to do."""
    groups = data.groups.astype(object)
    groups[[4, 9, 11]] = missing
    with pytest.raises(ValueError, match="factor 'group': 3 rows have a missing group label .first at row 4.; drop"):
        GEELogisticRegression().fit(data.X, data.y, groups=groups)


# Fits as objects --------------------------------------------------------------------------------------------


def test_refit_leaves_earlier_copies_alone(data, correlation):
    fitted = _fit(correlation, data)
    expected = fitted.predict_proba(data.X)
    pickled, shallow, cloned = pickle.dumps(fitted), copy.copy(fitted), clone(fitted)
    vcov, params, matrix = fitted.vcov_, fitted.correlation_params_, fitted.working_correlation_
    vcov_before, params_before, matrix_before = vcov.copy(), params.copy(), matrix.copy()
    fitted.fit(data.X[:200, ::-1], 1 - data.y[:200], groups=data.groups[:200], time=data.time[:200])
    assert not np.array_equal(fitted.predict_proba(data.X), expected)
    for earlier in (pickle.loads(pickled), shallow):
        np.testing.assert_array_equal(earlier.predict_proba(data.X), expected)
        np.testing.assert_array_equal(earlier.vcov_, vcov_before)
        np.testing.assert_array_equal(earlier.working_correlation_, matrix_before)
    np.testing.assert_array_equal(vcov, vcov_before)
    np.testing.assert_array_equal(params, params_before)
    np.testing.assert_array_equal(matrix, matrix_before)
    assert not hasattr(cloned, "coef_")


def test_refit_is_a_fresh_fit(data, correlation):
    fresh = _fit(correlation, data)
    used = GEELogisticRegression(correlation).fit(
        data.X[:200], 1 - data.y[:200], groups=data.groups[:200], time=data.time[:200]
    )
    used.fit(data.X, data.y, groups=data.groups, time=data.time)
    np.testing.assert_array_equal(used.coef_, fresh.coef_)
    np.testing.assert_array_equal(used.vcov_, fresh.vcov_)
    assert vars(used).keys() == vars(fresh).keys()


def test_what_is_handed_out_does_not_reach_the_model(data, correlation):
    model = _fit(correlation, data)
    expected = model.vcov_.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.vcov_.iloc[:, :] = 7.0
        model.vcov("naive").iloc[:, :] = 7.0
        model.working_correlation_[:] = 7.0
    np.testing.assert_array_equal(model.vcov_, expected)
    assert model.vcov("naive").iloc[0, 0] != 7.0
    assert model.working_correlation_[0, 0] == 1.0
