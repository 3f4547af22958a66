"""Mixed fits whose numbers are known otherwise."""

import numpy as np
import pytest
from contracts.estimators import MIXED
from sklearn.linear_model import LogisticRegression

from sklmm import MixedLogisticRegression
from sklmm.exceptions import NoGroupsWarning, SingularFitWarning


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


def test_no_groups_no_random_effects():
    X, y, _, _ = MIXED.rows
    with pytest.warns(NoGroupsWarning, match="plain logistic regression"):
        model = MixedLogisticRegression().fit(X, y)
    assert model.random_effects_ == model.covariance_ == model.n_groups_ == {}
    assert not model.is_singular_


def test_one_node_is_laplace():
    X, y, groups, _ = MIXED.rows
    laplace = MixedLogisticRegression().fit(X, y, groups=groups)
    one = MixedLogisticRegression(n_quadrature=1).fit(X, y, groups=groups)
    assert one.log_likelihood_ == laplace.log_likelihood_
    many = [
        MixedLogisticRegression(n_quadrature=k).fit(X, y, groups=groups).log_likelihood_ for k in (1, 15, 25)
    ]
    assert abs(many[1] - many[2]) < 1e-6 < abs(many[0] - many[2])
