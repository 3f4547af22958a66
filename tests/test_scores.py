"""Derivatives of single clusters, and the cluster sandwich of the mixed model that is made of their scores."""

import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from designs import Coded, clustered, engine_of
from reference_data import model_data

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import FewClustersWarning, NoGroupsWarning
from sklmm.likelihood.leaving_out import influence
from sklmm.likelihood.objective import MixedObjective

TERMS = {
    "intercept": ([-1], [(1, True)]),
    "slope": ([1], [(1, True)]),
    "correlated": ([-1, 0], [(2, True)]),
    "uncorrelated": ([-1, 0], [(1, True), (1, True)]),
    "three": ([-1, 0, 2], [(3, True)]),
}


@pytest.mark.parametrize("n_quadrature", [1, 5])
@pytest.mark.parametrize("term", list(TERMS))
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_derivatives_of_single_clusters(term, n_quadrature, fit_intercept):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 12, 150).astype(np.intp)
    codes[codes == 5] = 6  # a level without rows
    X = rng.normal(size=(150, 3)) * [1, 2, 0.5] + [0, 1, 1]
    y, weights = (rng.random(150) < 0.4).astype(np.uint8), rng.integers(1, 4, 150).astype(float)
    columns, blocks = TERMS[term]

    def engine_of(kept):  # in the users' units, so that the same point is the same model
        return clustered(
            X[kept], y[kept], codes[kept], 12, columns, blocks, sample_weight=weights[kept], standardise=False,
            fit_intercept=fit_intercept, n_quadrature=n_quadrature,
        )  # fmt: skip

    engine = engine_of(codes >= 0)
    x = 0.5 * rng.normal(size=engine.n_params)
    engine.evaluate(x)
    total = engine.evaluate(x)  # the modes are exact now
    ((levels, *found),) = engine.by_cluster(x)
    found = [engine.by_level(part) for part in found]
    assert sorted(levels) == list(range(12))
    for part, whole in zip(found, total, strict=True):
        np.testing.assert_allclose(part.sum(axis=0), whole, rtol=1e-8, atol=1e-7)
        np.testing.assert_allclose(part[5], 0, atol=1e-12)
    for level in (0, 7):
        other = engine_of(codes == level)
        other.evaluate(x)
        alone = other.evaluate(x)
        for part, expected in zip(found, alone, strict=True):
            np.testing.assert_allclose(part[level], expected, rtol=1e-7, atol=1e-8)
    gradients = found[1]
    np.testing.assert_allclose(engine.by_level(engine.cluster_gradients), gradients, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(engine.gradient_products, gradients.T @ gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_quadrature", [1, 5])
@pytest.mark.parametrize("term", ["intercept", "correlated"])
def test_clusters_longer_than_a_tile_and_any_number_of_threads(term, n_quadrature):
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(40), np.append(np.full(39, 25), 4000)).astype(np.intp)
    X, y = rng.normal(size=(codes.size, 3)), (rng.random(codes.size) < 0.4).astype(np.uint8)
    columns, blocks = TERMS[term]
    kept = []
    for n_threads in (1, 2):
        engine = clustered(X, y, codes, 40, columns, blocks, n_quadrature=n_quadrature, n_threads=n_threads)
        x = np.full(engine.n_params, 0.4)
        engine.evaluate(x)
        engine.evaluate(x)  # the modes are exact now
        ((_, *found),) = engine.by_cluster(x)
        kept.append([*found, engine.cluster_gradients, engine.gradient_products])
    for one, two in zip(*kept, strict=True):
        np.testing.assert_array_equal(one, two)
    _, gradients, _, single, products = kept[0]
    np.testing.assert_allclose(single, gradients, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(products, gradients.T @ gradients, rtol=1e-9, atol=1e-9)


def test_batches_of_clusters(monkeypatch):
    monkeypatch.setattr("sklmm.likelihood.clustered.BATCH_BYTES", 5000)
    X, y, groups = make_clustered_classification(300, 2, n_groups=30, random_state=0)
    engine = clustered(X, y.astype(np.uint8), groups.astype(np.intp), 30, [-1], [(1, True)])
    x = np.full(engine.n_params, 0.3)
    value, gradient, hessian = engine.evaluate(x)
    levels, *found = map(np.concatenate, zip(*engine.by_cluster(x), strict=True))
    np.testing.assert_array_equal(levels, np.arange(30))
    for part, whole in zip(found, (value, gradient, hessian), strict=True):
        np.testing.assert_allclose(part.sum(axis=0), whole, rtol=1e-9, atol=1e-9)


def _design(model, data):
    factor = model._fitted.factors[0]
    codes = pd.Index(factor.levels).get_indexer(data.groups).astype(np.intp)
    return Coded(codes, len(factor.levels), factor.columns, factor.blocks, factor.name)


def test_robust_covariance_is_the_sandwich():
    data = model_data("contraception", "m_slope_urban")
    rows = dict(X=data.X, y=data.y, groups=data.groups)
    model = MixedLogisticRegression(data.random_effects, n_threads=1).fit(**rows)
    robust = model.vcov("robust")
    assert list(robust.index) == list(model.vcov_.index)
    y = data.y.to_numpy().astype(np.uint8)
    engine = engine_of(data.X.to_numpy(), y, [_design(model, data)])
    change, _ = influence(MixedObjective(engine, np.append(model.intercept_, model.coef_[0]), model._fitted.theta))
    natural = change[:, : engine.n_fixed] @ engine.units.fixed_map().T
    np.testing.assert_allclose(robust, natural.T @ natural, rtol=1e-6, atol=1e-12)
    # by leaving out groups: the jackknife is the same to first order
    left_out = []
    for district in np.unique(data.groups):
        kept = (data.groups != district).to_numpy()
        one = MixedLogisticRegression(data.random_effects, n_threads=1)
        one.fit(data.X[kept], data.y[kept], groups=data.groups[kept])
        left_out.append(np.concatenate([one.intercept_, one.coef_[0]]))
    change = np.array(left_out) - np.concatenate([model.intercept_, model.coef_[0]])
    np.testing.assert_allclose(np.diagonal(robust), np.sum(change**2, axis=0), rtol=0.15)
    assert np.abs(np.diagonal(robust) / np.diagonal(model.vcov_) - 1).max() > 0.15
    assert model.vcov().equals(model.vcov_)


def test_right_where_the_model_is_wrong():
    """Rows of a group that go together as no random intercept knows: the sandwich is right, the information is not."""
    estimates, robust, naive = [], [], []
    for seed in range(60):
        X, y, groups = make_clustered_classification(
            1500, 1, n_groups=100, coef=[0.5], covariance=[[0.3, 0.0], [0.0, 1.5]], random_state=seed
        )
        model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
        estimates.append(model.coef_[0, 0])
        robust.append(model.vcov("robust").iloc[-1, -1])
        naive.append(model.vcov_.iloc[-1, -1])
    spread = np.std(estimates, ddof=1)
    assert np.sqrt(np.mean(robust)) / spread == pytest.approx(1, abs=0.25)
    assert np.sqrt(np.mean(naive)) / spread < 0.65


def test_without_groups_rows_are_clusters():
    data = model_data("contraception", "m_03")
    weights = 1.0 + np.arange(len(data.y)) % 3
    repeated = np.repeat(np.arange(len(data.y)), weights.astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGroupsWarning)
        model = MixedLogisticRegression(n_threads=1).fit(data.X, data.y, sample_weight=weights)
        other = GEELogisticRegression("independence").fit(data.X.iloc[repeated], data.y.iloc[repeated])
    robust = model.vcov("robust")
    np.testing.assert_allclose(robust, other.vcov("robust"), rtol=1e-6)


def test_errors_and_warnings():
    X, y, groups = make_clustered_classification(200, 4, n_groups=5, random_state=0)
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="cov_type must be 'model' or 'robust', got 'hc3'"):
        model.vcov("hc3")
    with pytest.warns(FewClustersWarning, match="5 groups for 5 coefficients"):
        model.vcov("robust")
    doubled = {**model._fitted.n_groups, "other": 5}
    model._fitted = replace(model._fitted, factors=model._fitted.factors * 2, n_groups=doubled)
    with pytest.raises(ValueError, match="independent clusters, but the model has several grouping factors: group"):
        model.vcov("robust")


def test_columns_that_are_left_out():
    X, y, groups = make_clustered_classification(300, 2, n_groups=20, random_state=0)
    X = np.column_stack([X, X[:, 0]])
    with pytest.warns(UserWarning, match="collinear"):
        model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    robust = model.vcov("robust")
    assert robust.isna().all(axis=1).tolist() == [False, False, False, True]
    assert robust.iloc[:3, :3].notna().all(axis=None)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize(
    "estimator, share",
    [(MixedLogisticRegression(n_threads=1), 0.55 + 0.18), (GEELogisticRegression(n_threads=1), 0.55)],
)
def test_what_is_kept_of_many_clusters_takes_little_memory(estimator, share):
    """Rows of 4 come to 80 bytes each; posteriors on 8 nodes, which the mixed model keeps, to 56 bytes a cluster."""
    n = 600_000  # so many that what any fit needs does not count
    X, y, _ = make_clustered_classification(n, 10, n_groups=100, random_state=0)
    groups = np.repeat(np.arange(n // 4), 4)
    tracemalloc.start()
    try:
        estimator.fit(X, y, groups=groups)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < share * X.nbytes
