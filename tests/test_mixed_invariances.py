"""What must not change a fit, and how it must change where it does."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from sklmm import MixedLogisticRegression
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import SingularFitWarning

SPECS = {
    "intercept": dict(random_effects=None),
    "quadrature": dict(random_effects=None, n_quadrature=5),
    "slope": dict(random_effects="1 + x0 | group"),
    "uncorrelated": dict(random_effects="1 + x0 || group"),
    "slope, quadrature": dict(random_effects="1 + x0 | group", n_quadrature=3),
    "no intercept": dict(random_effects="0 + x0 | group", fit_intercept=False),
}


@pytest.fixture(scope="module")
def data():
    """Groups of 1 to some 30 rows, a few of them all zeros or all ones."""
    X, y, groups = make_clustered_classification(
        700,
        2,
        n_groups=45,
        coef=[0.8, -0.5],
        covariance=[[1.5, 0.4], [0.4, 1.0]],
        size_variation=0.6,
        random_state=8,
    )
    share = np.bincount(groups, weights=y) / np.bincount(groups)
    assert {0.0, 1.0} <= set(share)
    return X, y, groups


@pytest.fixture(params=SPECS)
def model(request):
    return MixedLogisticRegression(**SPECS[request.param])


def _fit(model, X, y, groups, **keywords):
    return clone(model).fit(X, y, groups=groups, **keywords)


def _same(found, expected, rtol=1e-6):
    assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=rtol, atol=1e-8)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=rtol, atol=1e-8)
    np.testing.assert_allclose(
        found.covariance_["group"], expected.covariance_["group"], rtol=rtol, atol=1e-8
    )
    np.testing.assert_allclose(found.vcov_, expected.vcov_, rtol=1e-4, atol=1e-8)
    for table in ("random_effects_", "random_effects_sd_"):
        left, right = getattr(found, table)["group"], getattr(expected, table)["group"]
        assert left.index.tolist() == right.index.tolist()
        np.testing.assert_allclose(left, right, rtol=rtol, atol=1e-7)


def test_row_order(data, model):
    X, y, groups = data
    order = np.random.default_rng(0).permutation(len(y))
    _same(_fit(model, X[order], y[order], groups[order]), _fit(model, X, y, groups))
    sorted_rows = np.argsort(groups, kind="stable")
    _same(_fit(model, X[sorted_rows], y[sorted_rows], groups[sorted_rows]), _fit(model, X, y, groups))


def test_relabelled_groups(data, model):
    X, y, groups = data
    labels = np.random.default_rng(1).permutation(45)
    found, expected = _fit(model, X, y, labels[groups]), _fit(model, X, y, groups)
    assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        found.random_effects_["group"].loc[labels[: len(labels)]],
        expected.random_effects_["group"].loc[: len(labels)],
        rtol=1e-6,
        atol=1e-7,
    )


def test_swapped_classes(data, model):
    X, y, groups = data
    found, expected = _fit(model, X, 1 - y, groups), _fit(model, X, y, groups)
    assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(found.coef_, -expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(found.intercept_, -expected.intercept_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        found.covariance_["group"], expected.covariance_["group"], rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(
        found.random_effects_["group"], -expected.random_effects_["group"], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        found.predict_proba(X, groups=groups), expected.predict_proba(X, groups=groups)[:, ::-1], rtol=1e-6
    )


def test_weights_count_rows(data, model):
    X, y, groups = data
    weights = np.random.default_rng(2).integers(0, 4, size=len(y))
    found = _fit(model, X, y, groups, sample_weight=weights)
    expected = _fit(model, np.repeat(X, weights, axis=0), np.repeat(y, weights), np.repeat(groups, weights))
    _same(found, expected, rtol=1e-6)
    assert found.n_obs_ == expected.n_obs_ == weights.sum()
    assert found.bic_ == pytest.approx(expected.bic_, rel=1e-12)
    np.testing.assert_allclose(
        found.predict_proba(X, groups=groups), expected.predict_proba(X, groups=groups), rtol=1e-7
    )


def test_rows_without_weight_take_their_groups_and_classes_along(data, model):
    X, y, groups = data
    labels = np.where(np.arange(len(y)) == 5, 2, y)  # a third class on one row
    weights = ((groups > 2) & (labels < 2)).astype(float)
    found = _fit(model, X, labels, groups, sample_weight=weights)
    kept = weights > 0
    _same(found, _fit(model, X[kept], y[kept], groups[kept]))
    assert found.classes_.tolist() == [0, 1]
    assert found.n_groups_ == {"group": 42}


@pytest.mark.parametrize("spec", ["1 | group", "1 + x0 | group"])
def test_affine_changes_of_X(data, spec):
    X, y, groups = data
    model = MixedLogisticRegression(spec)
    scale, shift = np.array([50.0, 0.01]), np.array([-3.0, 1000.0])
    found, expected = _fit(model, X * scale + shift, y, groups), _fit(model, X, y, groups)
    assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-9)
    np.testing.assert_allclose(found.coef_ * scale, expected.coef_, rtol=1e-5)
    np.testing.assert_allclose(
        found.intercept_ + found.coef_[0] @ shift, expected.intercept_, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        found.predict_proba(X * scale + shift, groups=groups),
        expected.predict_proba(X, groups=groups),
        rtol=1e-5,
    )


def test_memory_layout_and_precision(data, model):
    X, y, groups = data
    expected = _fit(model, X, y, groups)
    wide = np.zeros((len(y), 5))
    wide[:, 1:3] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(X), wide[:, 1:3], X[::-1][::-1], read_only, X.tolist()):
        _same(_fit(model, same, y, groups), expected)
    single = X.astype(np.float32)
    _same(_fit(model, single, y, groups), _fit(model, single.astype(np.float64), y, groups))


def test_thread_count_changes_no_bit():
    X, y, groups = make_clustered_classification(
        20_000, 4, n_groups=1500, covariance=[[1.0, 0.2], [0.2, 0.5]], random_state=0
    )
    for parameters in SPECS.values():
        fits = [
            MixedLogisticRegression(**parameters, n_threads=n).fit(X, y, groups=groups) for n in (1, 2, 4)
        ]
        for other in fits[1:]:
            assert other.log_likelihood_ == fits[0].log_likelihood_
            for attribute in ("coef_", "intercept_", "vcov_"):
                np.testing.assert_array_equal(getattr(other, attribute), getattr(fits[0], attribute))
            for table in ("covariance_", "random_effects_", "random_effects_sd_"):
                np.testing.assert_array_equal(
                    getattr(other, table)["group"], getattr(fits[0], table)["group"]
                )
            np.testing.assert_array_equal(
                other.predict_proba(X, groups=groups), fits[0].predict_proba(X, groups=groups)
            )


def test_zero_variance_is_the_plain_model():
    rng = np.random.default_rng(3)
    X, groups = rng.normal(size=(400, 2)), np.repeat(np.arange(40), 10)
    y = np.tile([0, 1], 200)
    with pytest.warns(SingularFitWarning):
        model = MixedLogisticRegression().fit(X, y, groups=groups)
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.intercept_, plain.intercept_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X, groups=groups), plain.predict_proba(X), rtol=1e-6)
    assert not model.random_effects_["group"].any(axis=None)


def test_one_node_is_laplace(data):
    X, y, groups = data
    laplace = MixedLogisticRegression().fit(X, y, groups=groups)
    one = MixedLogisticRegression(n_quadrature=1).fit(X, y, groups=groups)
    assert one.log_likelihood_ == laplace.log_likelihood_
    many = [
        MixedLogisticRegression(n_quadrature=k).fit(X, y, groups=groups).log_likelihood_ for k in (1, 15, 25)
    ]
    assert abs(many[1] - many[2]) < 1e-6 < abs(many[0] - many[2])


def test_refit_leaves_earlier_copies_alone(data, model):
    X, y, groups = data
    fitted = _fit(model, X, y, groups)
    expected = fitted.predict_proba(X, groups=groups)
    pickled, shallow, cloned = pickle.dumps(fitted), copy.copy(fitted), clone(fitted)
    modes, vcov = fitted.random_effects_["group"], fitted.vcov_
    modes_before, vcov_before = modes.copy(), vcov.copy()
    fitted.fit(X[:400, ::-1], 1 - y[:400], groups=groups[:400])
    assert not np.array_equal(fitted.predict_proba(X, groups=groups), expected)
    for earlier in (pickle.loads(pickled), shallow):
        np.testing.assert_array_equal(earlier.predict_proba(X, groups=groups), expected)
    np.testing.assert_array_equal(modes, modes_before)
    np.testing.assert_array_equal(vcov, vcov_before)
    assert not hasattr(cloned, "coef_")


def test_refit_is_a_fresh_fit(data, model):
    X, y, groups = data
    fresh = _fit(model, X, y, groups)
    used = _fit(model, X[:300], 1 - y[:300], groups[:300]).fit(X, y, groups=groups)
    np.testing.assert_array_equal(used.coef_, fresh.coef_)
    np.testing.assert_array_equal(used.random_effects_["group"], fresh.random_effects_["group"])
    assert vars(used).keys() == vars(fresh).keys()


def test_tables_are_copies(data):
    """What a user does to a table that was handed out does not reach the model."""
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    expected = model.predict_proba(X, groups=groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for table in (model.random_effects_["group"], model.covariance_["group"], model.vcov_, model.vcov("robust")):
            table.iloc[:, :] = 7.0
    np.testing.assert_array_equal(model.predict_proba(X, groups=groups), expected)
    assert model.vcov_.iloc[0, 0] != 7.0 and model.vcov("robust").iloc[0, 0] != 7.0
