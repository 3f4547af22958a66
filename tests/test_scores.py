"""Scores of single clusters, and the cluster sandwich of the mixed model that is made of them."""

import warnings

import numpy as np
import pytest
from reference_data import model_data

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import FewClustersWarning, NoGroupsWarning
from sklmm.likelihood.clustered import ClusteredLikelihood
from sklmm.likelihood.scores import cluster_scores

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
def test_each_score_is_the_gradient_of_its_cluster(term, n_quadrature, fit_intercept):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 12, 150).astype(np.intp)
    codes[codes == 5] = 6  # a level without rows
    X = rng.normal(size=(150, 3)) * [1, 2, 0.5] + [0, 1, 1]
    y, weights = (rng.random(150) < 0.4).astype(np.uint8), rng.integers(1, 4, 150).astype(float)
    arguments = dict(fit_intercept=fit_intercept, n_quadrature=n_quadrature)
    columns, blocks = TERMS[term]
    engine = ClusteredLikelihood(X, y, codes, 12, columns, blocks, sample_weight=weights, **arguments)
    x = 0.5 * rng.normal(size=engine.n_params)
    _, gradient, _ = engine.evaluate(x)
    scores = cluster_scores(engine, x, X, y, codes, weights, n_quadrature)
    np.testing.assert_allclose(scores.sum(axis=0), gradient, rtol=1e-8, atol=1e-8)
    assert not scores[5].any()

    def gradient_of(kept):  # in the users' units, so that the same point is the same model
        some = ClusteredLikelihood(
            X[kept], y[kept], codes[kept], 12, columns, blocks, sample_weight=weights[kept], standardise=False,
            **arguments,
        )  # fmt: skip
        return some, some.evaluate(x)[1]

    engine, _ = gradient_of(codes >= 0)
    scores = cluster_scores(engine, x, X, y, codes, weights, n_quadrature)
    for level in (0, 7):
        _, alone = gradient_of(codes == level)
        np.testing.assert_allclose(scores[level], alone, rtol=1e-7, atol=1e-8)


def test_robust_covariance_is_the_sandwich():
    data = model_data("contraception", "m_slope_urban")
    rows = dict(X=data.X, y=data.y, groups=data.groups)
    model = MixedLogisticRegression(data.random_effects, n_threads=1).fit(**rows)
    robust = model.vcov("robust", **rows)
    assert list(robust.index) == list(model.vcov_.index)
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
        robust.append(model.vcov("robust", X=X, y=y, groups=groups).iloc[-1, -1])
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
    robust = model.vcov("robust", X=data.X, y=data.y, sample_weight=weights)
    np.testing.assert_allclose(robust, other.vcov("robust"), rtol=1e-6)


def test_errors_and_warnings():
    X, y, groups = make_clustered_classification(200, 4, n_groups=5, random_state=0)
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="cov_type='robust' needs the rows of the fit.*pass X=X, y=y, groups=groups"):
        model.vcov("robust")
    with pytest.raises(ValueError, match="cov_type must be 'model' or 'robust', got 'hc3'"):
        model.vcov("hc3")
    with pytest.warns(FewClustersWarning, match="5 groups for 5 coefficients"):
        model.vcov("robust", X=X, y=y, groups=groups)
    model._factors = model._factors * 2
    with pytest.raises(ValueError, match="independent clusters, but the model has several grouping factors: group"):
        model.vcov("robust", X=X, y=y, groups=groups)


def test_columns_that_are_left_out():
    X, y, groups = make_clustered_classification(300, 2, n_groups=20, random_state=0)
    X = np.column_stack([X, X[:, 0]])
    with pytest.warns(UserWarning, match="collinear"):
        model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    robust = model.vcov("robust", X=X, y=y, groups=groups)
    assert robust.isna().all(axis=1).tolist() == [False, False, False, True]
    assert robust.iloc[:3, :3].notna().all(axis=None)
