"""Working correlations: parameters from sums of products, matrices from parameters."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from sklmm.estimating import AR1, Exchangeable, Fixed, Independence, MDependent, Unstructured, WorkingCorrelation
from sklmm.estimating.correlation import ResidualMoments, grid_positions, resolve_correlation


def _moments(products, counts, **others):
    settings = dict(scale=1.0, cluster_scale=1.0, n_coefficients=0, ddof_correction=True, gaps=None, times=None)
    products, counts = np.asarray(products, dtype=float), np.asarray(counts, dtype=float)
    return ResidualMoments(products=products, counts=counts, **(settings | others))


def _adjacent(product, counts, gaps, **others):
    return _moments(product, counts, gaps=np.asarray(gaps, dtype=float), **others)


def _by_lag(products, counts, lags, **others):
    others = dict(ddof_correction=False) | others
    return _moments(products, counts, times=np.asarray(lags, dtype=float), **others)


# Divisors ---------------------------------------------------------------------------------------------------


def test_coefficients_are_taken_off_where_enough_is_left():
    gee = _moments(0.0, 0.0, n_coefficients=3)
    np.testing.assert_array_equal(gee.less_coefficients(np.array([10.0, 3.5, 3.0, 0.0])), [7.0, 0.5, 3.0, 0.0])
    geepack = _moments(0.0, 0.0, n_coefficients=3, ddof_correction=False)
    np.testing.assert_array_equal(geepack.less_coefficients(np.array([10.0, 3.0])), [10.0, 3.0])


# Estimates --------------------------------------------------------------------------------------------------


def test_independence_has_no_parameters():
    assert Independence().estimate(_moments(1.0, 2.0)).shape == (0,)
    np.testing.assert_array_equal(Independence().matrix(np.empty(0), [3.0, 7.0]), np.eye(2))


def test_exchangeable_is_the_mean_product():
    moments = _moments(6.0, 23.0, scale=1.5, n_coefficients=3)
    np.testing.assert_allclose(Exchangeable().estimate(moments), [6.0 / (1.5 * 20.0)])
    moments.ddof_correction = False
    np.testing.assert_allclose(Exchangeable().estimate(moments), [6.0 / (1.5 * 23.0)])
    for none in (0.0, -4.0):  # groups of one row; groups whose weights sum to less than 1
        assert Exchangeable().estimate(_moments(1.0, none)).tolist() == [0.0]


def test_unstructured_divides_each_pair_of_times_by_its_count():
    products, counts = np.zeros((3, 3)), np.zeros((3, 3))
    products[0, 1], products[0, 2], products[1, 2] = 3.0, -1.0, 0.0
    counts[0, 1], counts[0, 2] = 10.0, 4.0  # nobody was seen at both of the last two times
    others = dict(scale=2.0, cluster_scale=5.0, times=np.arange(3.0), n_coefficients=2)
    gee = Unstructured().estimate(_moments(products, counts, **others))
    np.testing.assert_allclose(gee, [3 / 50, -1 / 20, 0.0])
    geepack = Unstructured().estimate(_moments(products, counts, ddof_correction=False, **others))
    np.testing.assert_allclose(geepack, [3 / 20, -1 / 8, 0.0])


def test_m_dependent_divides_each_lag_by_its_count():
    moments = _by_lag([8.0, 3.0], [10.0, 0.0], [1.0, 2.0], scale=2.0, ddof_correction=True, n_coefficients=6)
    np.testing.assert_allclose(MDependent(2).estimate(moments), [1.0, 0.0])
    # Lags that the data do not span have parameters, too.
    np.testing.assert_allclose(MDependent(4).estimate(moments), [1.0, 0.0, 0.0, 0.0])


def test_fixed_estimates_nothing():
    assert Fixed(np.eye(2)).estimate(_moments(0.0, 0.0)).shape == (0,)


@pytest.mark.parametrize("target, expected", [(6.0, 0.6), (-6.0, -0.6), (0.0, 0.0), (14.0, 1.4), (-20.0, -2.0)])
def test_ar1_of_equal_gaps_is_a_ratio(target, expected):
    """Also outside the range: that is for the fit to see."""
    assert AR1().estimate(_adjacent(target, [10.0], [1.0])) == pytest.approx(expected, rel=1e-14)
    assert AR1().estimate(_adjacent(3 * target, [10.0], [1.0], cluster_scale=3.0)) == pytest.approx(expected)


@pytest.mark.parametrize("gap", [2.0, 3.0, 0.5, 1 / 12, 365.0])
def test_ar1_of_equal_gaps_is_a_root(gap):
    assert AR1().estimate(_adjacent(6.0, [10.0], [gap])) == pytest.approx(0.6 ** (1 / gap), rel=1e-13)
    negative = AR1().estimate(_adjacent(-6.0, [10.0], [gap]))[0]
    assert negative == pytest.approx(-(0.6 ** (1 / gap)), rel=1e-13)
    if gap % 2 == 1:
        assert AR1.powers(negative, gap) == pytest.approx(-0.6)
    else:  # no alpha gives it: outside the range
        assert negative < AR1.bounds([gap])[0] == 0


@pytest.mark.parametrize("gaps", [[1.0, 2.0, 5.0], [0.3, 1.0, 1.7], [30.0, 61.0, 92.0], [2.0, 4.0, 6.0]])
@pytest.mark.parametrize("alpha", [0.02, 0.5, 0.97])
def test_ar1_of_several_gaps_solves_the_moment_equation(alpha, gaps):
    counts, rho = np.array([4.0, 2.5, 1.0]), alpha ** (1 / gaps[0])
    target = counts @ rho ** np.array(gaps)
    assert AR1().estimate(_adjacent(target, counts, gaps)) == pytest.approx(rho, rel=1e-10)
    # A gap that no cluster has does not count.
    seen = AR1().estimate(_adjacent(target, [*counts, 0.0], [*gaps, 7.5]))
    assert seen == pytest.approx(rho, rel=1e-10)
    assert AR1().estimate(_adjacent(counts.sum() + 1, counts, gaps)) == pytest.approx(1.0)


@pytest.mark.parametrize("alpha", [-0.05, -0.3])
def test_ar1_of_several_whole_gaps_may_be_negative(alpha):
    gaps, counts = np.array([1.0, 2.0, 3.0]), np.array([5.0, 1.0, 1.0])
    target = counts @ alpha**gaps
    assert AR1().estimate(_adjacent(target, counts, gaps)) == pytest.approx(alpha, rel=1e-9)
    assert AR1().estimate(_adjacent(target, counts, 5 * gaps)) == pytest.approx(-((-alpha) ** 0.2), rel=1e-9)
    # Not over real or even distances: outside the range, which is for the fit to see.
    for other in (0.5 * gaps, 2 * gaps):
        assert AR1().estimate(_adjacent(target, counts, other))[0] < 0 == AR1.bounds(other)[0]


def test_ar1_where_no_alpha_gives_the_products():
    """The sum a + 2 a^2 is least at a = -1/4, where it is -1/8."""
    found = AR1().estimate(_adjacent(-0.5, [1.0, 2.0], [1.0, 2.0]))
    assert found == pytest.approx(-0.25, rel=1e-6)


def _least_squares_by_brute_force(lags, counts, means, low):
    """The best of the minima between neighbours on a grid much finer than what they could lie apart."""
    lags, counts, means = map(np.asarray, (lags, counts, means))

    def misfit(alpha):
        powers = np.where((alpha < 0) & (lags % 2 == 1), -1.0, 1.0) * np.abs(alpha) ** lags
        return counts @ (means - powers) ** 2

    grid = np.linspace(low, 1.0, 20_001)
    values = np.array([misfit(alpha) for alpha in grid])
    best = int(np.argmin(values))
    around = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    refined = minimize_scalar(misfit, bounds=around, method="bounded", options={"xatol": 1e-12})
    return refined.x if refined.fun < values[best] else grid[best]


@pytest.mark.parametrize("seed", range(12))
def test_ar1_fits_all_lags_by_least_squares(seed):
    rng = np.random.default_rng(seed)
    lags = np.arange(1.0, rng.integers(2, 8))
    counts = rng.integers(1, 100, lags.size).astype(float)
    truth = rng.uniform(-0.9, 0.9)
    means = np.sign(truth) ** lags * np.abs(truth) ** lags + rng.normal(0, 0.1, lags.size)
    found = AR1().estimate(_by_lag(1.3 * counts * means, counts, lags, scale=1.3))
    assert found == pytest.approx(_least_squares_by_brute_force(lags, counts, means, -1.0), abs=1e-6)


@pytest.mark.parametrize("unit", [0.5, 2.0, 1 / 3, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_ar1_least_squares_of_real_lags(seed, unit):
    rng = np.random.default_rng(seed)
    lags = unit * np.array([1.0, 2.0, 4.0, 7.0])
    counts = rng.integers(1, 100, 4).astype(float)
    rho = rng.uniform(0.1, 0.9)
    means = rho ** (lags / unit) + rng.normal(0, 0.05, 4)
    expected = _least_squares_by_brute_force(lags / unit, counts, means, 0.0) ** (1 / unit)
    assert AR1().estimate(_by_lag(counts * means, counts, lags)) == pytest.approx(expected, abs=1e-6)


def test_ar1_least_squares_without_noise_is_exact():
    for alpha, lags in ((0.7, [1, 2, 3]), (-0.4, [1, 3, 4]), (0.999, [30, 60, 365]), (0.2, [0.25, 0.5, 3.0])):
        lags, counts = np.array(lags, dtype=float), np.array([3.0, 2.0, 1.0])
        means = AR1.powers(alpha, lags)
        assert AR1().estimate(_by_lag(counts * means, counts, lags)) == pytest.approx(alpha, rel=1e-9)
    # Lags that no pair has do not count.
    found = AR1().estimate(_by_lag([0.5, 0.0, 0.25], [1.0, 0.0, 1.0], [1.0, 2.0, 2.0]))
    assert found == pytest.approx(0.5)


def test_ar1_least_squares_of_negative_products():
    """Over lags that allow no negative alpha 0 would be best: reported as out of range."""
    for lags in ([2.0, 4.0], [0.5, 1.0]):
        found = AR1().estimate(_by_lag([-5.0, -2.0], [10.0, 10.0], lags))
        assert found[0] < 0 == AR1.bounds(lags)[0]
    assert AR1().estimate(_by_lag([0.0, 0.0], [10.0, 10.0], [2.0, 4.0])) == pytest.approx(0.0)


def test_ar1_of_groups_of_one_row():
    assert AR1().estimate(_adjacent(0.0, [0.0], [1.0])).tolist() == [0.0]
    assert AR1().estimate(_by_lag([0.0], [0.0], [1.0])).tolist() == [0.0]


# Matrices and bounds ----------------------------------------------------------------------------------------


def test_matrices():
    times = np.array([0.0, 1.0, 3.0])
    np.testing.assert_array_equal(
        Exchangeable().matrix([0.3], times), [[1, 0.3, 0.3], [0.3, 1, 0.3], [0.3, 0.3, 1]]
    )
    np.testing.assert_allclose(AR1().matrix([0.5], times), [[1, 0.5, 0.125], [0.5, 1, 0.25], [0.125, 0.25, 1]])
    np.testing.assert_allclose(AR1().matrix([-0.5], times), [[1, -0.5, -0.125], [-0.5, 1, 0.25], [-0.125, 0.25, 1]])
    np.testing.assert_array_equal(
        Unstructured().matrix([0.1, 0.2, 0.3], times), [[1, 0.1, 0.2], [0.1, 1, 0.3], [0.2, 0.3, 1]]
    )
    np.testing.assert_array_equal(
        MDependent(2).matrix([0.4, 0.2], times), [[1, 0.4, 0], [0.4, 1, 0.2], [0, 0.2, 1]]
    )
    np.testing.assert_array_equal(MDependent(1).matrix([0.4], [5.0]), [[1.0]])


@pytest.mark.parametrize("size", [2, 3, 10])
def test_bounds_of_the_exchangeable_correlation_are_sharp(size):
    low, high = Exchangeable.bounds(size)
    for alpha, definite in ((low + 1e-6, True), (low - 1e-6, False), (high - 1e-6, True), (high + 1e-6, False)):
        smallest = np.linalg.eigvalsh(Exchangeable().matrix([alpha], np.arange(size)))[0]
        assert bool(smallest > 0) is definite
    assert Exchangeable.bounds(1) == (-1.0, 1.0)


@pytest.mark.parametrize(
    "gaps, low", [([1.0], -1), ([1.0, 2.0], -1), ([2.0], 0), ([2.0, 6.0], 0), ([0.5], 0), ([1.0, 1.5], 0), ([7.0], -1)]
)
def test_bounds_of_ar1(gaps, low):
    assert AR1.bounds(gaps) == (low, 1.0)
    if low:
        times = np.cumsum([0.0, *gaps, *gaps])
        assert np.linalg.eigvalsh(AR1().matrix([-0.99], times))[0] > 0


def test_shrinking_multiplies_the_correlations():
    times = np.arange(4.0)
    for correlation, alpha in ((Unstructured(), np.linspace(0.1, 0.6, 6)), (MDependent(2), np.array([0.7, -0.3]))):
        full, half = correlation.matrix(alpha, times), correlation.matrix(correlation.shrink(alpha, 0.5), times)
        np.testing.assert_allclose(half, 0.5 * full + 0.5 * np.eye(4))


def test_fixed_finds_its_times():
    R = 0.5 ** np.abs(np.subtract.outer([0, 1, 4, 9], [0, 1, 4, 9]))
    np.testing.assert_array_equal(Fixed(R, times=[0, 1, 4, 9]).matrix([], [4.0, 0.0]), R[np.ix_([2, 0], [2, 0])])
    np.testing.assert_array_equal(Fixed(R).matrix([], [10.0, 11.0]), R[:2, :2])
    by_index = Fixed(pd.DataFrame(R, index=[9, 4, 1, 0]))
    np.testing.assert_array_equal(by_index.times, [9, 4, 1, 0])
    np.testing.assert_array_equal(by_index.matrix([], [9.0]), [[1.0]])
    given = R.copy()
    fixed = Fixed(given)
    given[0, 1] = 7.0  # the caller's
    np.testing.assert_array_equal(fixed.R, R)
    # rounding error is no asymmetry
    np.testing.assert_array_equal(Fixed(R + 1e-12 * np.tri(4)).R, Fixed(R + 1e-12 * np.tri(4)).R.T)


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, kind",
    [
        ("independence", Independence),
        ("exchangeable", Exchangeable),
        ("ar1", AR1),
        ("unstructured", Unstructured),
        ("m-dependent", MDependent),
    ],
)
def test_names(name, kind):
    assert type(resolve_correlation(name)) is kind
    assert isinstance(resolve_correlation(name), WorkingCorrelation)


def test_instances_are_taken_as_they_are():
    correlation = MDependent(3)
    assert resolve_correlation(correlation) is correlation
    assert resolve_correlation(np.eye(3)).R.shape == (3, 3)


def test_structures_are_values():
    for correlation in (AR1(), MDependent(3), Fixed(np.eye(2), times=[1, 2])):
        for copied in (copy.deepcopy(correlation), pickle.loads(pickle.dumps(correlation))):
            assert repr(copied) == repr(correlation)
    assert repr(MDependent(3)) == "MDependent(m=3)"
    assert repr(AR1()) == "AR1()"


# The grid of times ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times, positions, unit",
    [
        ([0, 1, 2, 4], [0, 1, 2, 4], 1.0),
        ([4, 0, 2, 2], [2, 0, 1, 1], 2.0),
        ([10, 16, 25], [0, 2, 5], 3.0),
        ([8, 20, 50], [0, 2, 7], 6.0),
        ([0.1, 0.2, 0.3, 0.7], [0, 1, 2, 6], 0.1),
        ([-1.5, 0, 0.75], [0, 2, 3], 0.75),
        ([1 / 3, 2 / 3, 5 / 3], [0, 1, 4], 1 / 3),
        ([2020 + 1 / 12, 2020 + 3 / 12, 2020.5], [0, 2, 5], 1 / 12),
        ([1e9, 1e9 + 60, 1e9 + 3600], [0, 1, 60], 60.0),
        ([5, 5, 5], [0, 0, 0], 1.0),
        ([], [], 1.0),
    ],
)
def test_grid_positions(times, positions, unit):
    found, found_unit = grid_positions(times)
    np.testing.assert_array_equal(found, positions)
    assert found_unit == pytest.approx(unit, rel=1e-6)


@pytest.mark.parametrize("times", [np.sqrt(np.arange(20)), [0.0, 1.0, np.pi], [0, 1, 1 + 1e-7, 5]])
def test_times_on_no_grid(times):
    with pytest.raises(ValueError, match="the times lie on no regular grid, which lags are counted on: round them"):
        grid_positions(times)
