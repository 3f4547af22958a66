"""Which columns of X say nothing new."""

import numpy as np
import pytest

from sklmm import MixedLogisticRegression
from sklmm.design.aliasing import aliased_columns, dependent
from sklmm.exceptions import AliasedFeaturesWarning

COLUMNS = {  # from independent columns a, b, c; the expected aliased ones beside an intercept, and without one
    "none": (lambda a, b, c: [a, b, c], [], []),
    "twice": (lambda a, b, c: [a, b, a, c], [2], [2]),
    "the later of two": (lambda a, b, c: [c, a, b, a], [3], [3]),
    "sum": (lambda a, b, c: [a, a + b, b, c], [2], [2]),
    "constant": (lambda a, b, c: [a, 0 * a + 3, b], [1], []),
    "two constants": (lambda a, b, c: [0 * a + 3, a, 0 * a - 0.1, b], [0, 2], [2]),
    "shifted": (lambda a, b, c: [a, a + 5, b], [1], []),
    "zero": (lambda a, b, c: [0 * a, b, c], [0], [0]),
    "all zero but one": (lambda a, b, c: [0 * a, 0 * b, c], [0, 1], [0, 1]),
    "several": (lambda a, b, c: [a, b, a - 2 * b, c, c + 1, a + c], [2, 4, 5], [2, 5]),
    "other units": (lambda a, b, c: [1e6 * a, 1e-3 * b, 1e6 * a + 1e2 * b, c], [2], [2]),
    "far from zero": (lambda a, b, c: [a + 100, b, 2 * (a + 100) - b + 7, c], [2], []),
    "heavy tails": (lambda a, b, c: [np.exp(4 * a), np.exp(4 * b), c], [], []),
    "nearly the same": (lambda a, b, c: [a, a + 1e-4 * b, c], [], []),
    "indicators that add up to 1": (lambda a, b, c: [1.0 * (a > 0), b, 1.0 * (a <= 0)], [2], []),
    "rare": (lambda a, b, c: [a, 1.0 * (np.arange(a.size) == 5), b], [], []),
}


def _scales(X, intercept):
    center = X[::3].mean(axis=0) if intercept else np.zeros(X.shape[1])
    spread = np.sqrt(np.mean((X - center) ** 2, axis=0))
    return center, 1 / np.where(spread > 1e-12 * np.abs(X).max(axis=0), spread, np.maximum(1, np.abs(X).max(axis=0)))


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("n", [50, 3000, 140_000])
@pytest.mark.parametrize("intercept", [True, False])
def test_aliased_columns(name, n, intercept):
    make, with_intercept, without = COLUMNS[name]
    X = np.column_stack(make(*np.random.default_rng(0).normal(size=(3, n))))
    found = aliased_columns(X, *_scales(X, intercept), fit_intercept=intercept)
    assert np.flatnonzero(found).tolist() == (with_intercept if intercept else without)


def test_dependence_in_the_sample_only():
    """A column that is constant in the rows looked at first, but not in all."""
    X = np.random.default_rng(1).normal(size=(50_000, 2))
    X[:, 1] = 0.0
    X[[11, 30_001], 1] = 1.0, 2.0
    assert not aliased_columns(X, np.zeros(2), np.ones(2)).any()


@pytest.mark.parametrize("n", [300, 20_000])
def test_rows_without_weight_are_not_there(n):
    X = np.random.default_rng(2).normal(size=(n, 2))
    w = np.arange(n) % 3.0
    X[w > 0, 1] = 2 * X[w > 0, 0] - 1
    arguments = np.zeros(2), np.ones(2)
    assert aliased_columns(X, *arguments, sample_weight=w).tolist() == [False, True]
    assert not aliased_columns(X, *arguments).any()


@pytest.mark.parametrize("dtype, order", [(np.float32, "C"), (np.float32, "F"), (np.float64, "F")])
def test_layouts(dtype, order):
    X = np.random.default_rng(3).integers(-50, 50, size=(4000, 3)).astype(float)
    X[:, 2] = X[:, 0] - X[:, 1]
    X = np.array(X, dtype=dtype, order=order)
    assert aliased_columns(X, np.zeros(3), np.ones(3)).tolist() == [False, False, True]


def test_no_columns():
    assert aliased_columns(np.zeros((10, 0)), np.zeros(0), np.zeros(0)).shape == (0,)


def test_first_of_each_dependent_set_is_kept():
    """The kept columns span what all do, and are independent: checked through ranks."""
    rng = np.random.default_rng(4)
    for _ in range(100):
        p = int(rng.integers(1, 9))
        Z = rng.normal(size=(40, p)) @ np.diag(rng.random(p) > 0.2) @ rng.integers(-1, 2, (p, p))
        rank = [0, *(np.linalg.matrix_rank(Z[:, : j + 1]) for j in range(p))]
        expected = np.equal(rank[1:], rank[:-1]).tolist()
        assert dependent(Z.T @ Z).tolist() == expected


def test_columns_after_a_nearly_dependent_one():
    """The pivots of a Gram matrix after a small one are rounding errors: columns that are far from zero."""
    group = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    X = np.column_stack([1e5 + group, np.full(5, 263.2), group, group + [0.0, 1.0, 0.0, 0.0, 2.0]])
    found = aliased_columns(X, np.zeros(4), 1.0 / np.linalg.norm(X, axis=0), fit_intercept=False)
    assert found.tolist() == [False, False, True, False]


def test_a_constant_but_for_its_last_digit_is_constant():
    """Rows that were computed in two ways: 2.55 in some, its neighbour among the doubles in others."""
    rng = np.random.default_rng(4)
    X = np.column_stack([np.full(60, 2.55), rng.normal(size=60)])
    X[::7, 0] = np.nextafter(2.55, 3.0)
    groups, y = np.repeat(np.arange(12), 5), rng.random(60) < 0.5
    with pytest.warns(AliasedFeaturesWarning, match="x0"):
        model = MixedLogisticRegression().fit(X, y, groups)
    alone = MixedLogisticRegression().fit(X[:, 1:], y, groups)
    assert model.coef_[0, 0] == 0
    assert model.log_likelihood_ == pytest.approx(alone.log_likelihood_, abs=1e-9)
    np.testing.assert_allclose(model.coef_[0, 1:], alone.coef_[0], rtol=1e-6)
