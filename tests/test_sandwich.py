"""Covariances of estimating equations from their sums, against dense matrices cluster by cluster."""

import numpy as np
import pytest
from scipy.linalg import block_diag, fractional_matrix_power

from sklmm.inference.sandwich import COV_TYPES, Meats, check_cov_type, covariance

PHI = 1.7
SIZES = [1, 4, 2, 5, 3, 4, 2]


@pytest.fixture(scope="module")
def clusters():
    """For each cluster D, S R S and y - mu, of an exchangeable model that fits the data about."""
    rng = np.random.default_rng(3)
    parts = []
    for n in SIZES:
        X = np.column_stack([np.ones(n), rng.normal(size=n), rng.normal(size=n) * 3 + 1])
        mu = 1 / (1 + np.exp(-X @ [0.3, 0.8, -0.2]))
        s = np.sqrt(mu * (1 - mu))
        R = np.full((n, n), 0.35) + 0.65 * np.eye(n)
        parts.append((s[:, None] ** 2 * X, s[:, None] * R * s, (rng.random(n) < mu) - mu))
    return parts


def inputs(clusters):
    """What `covariance` is given: p x p matrices free of phi."""
    M = [D.T @ np.linalg.solve(V, D) for D, V, _ in clusters]
    U = [D.T @ np.linalg.solve(V, r) for D, V, r in clusters]
    bread = np.linalg.inv(sum(M))
    left = [np.eye(len(bread)) - m @ bread for m in M]
    scores = {
        "robust": U,
        "kauermann_carroll": [fractional_matrix_power(rest, -0.5) @ u for rest, u in zip(left, U, strict=True)],
        "mancl_derouen": [np.linalg.solve(rest, u) for rest, u in zip(left, U, strict=True)],
        "fay_graubard": [u / np.sqrt(np.maximum(0.25, np.diag(rest))) for rest, u in zip(left, U, strict=True)],
    }
    meats = Meats(**{name: sum(np.outer(u, u) for u in each) for name, each in scores.items()})
    n_obs = sum(len(r) for *_, r in clusters)
    return {
        "bread": bread,
        "dispersion": PHI,
        "meats": meats,
        "n_obs": n_obs,
        "n_clusters": len(clusters),
        "n_coefficients": len(bread),
    }


def direct(cov_type, clusters):
    """The definitions, with V_i = phi S R S, corrections applied to the residuals of all rows at once."""
    D = np.vstack([d for d, _, _ in clusters])
    V = block_diag(*(PHI * v for _, v, _ in clusters))
    residuals = block_diag(*(r[:, None] for *_, r in clusters))  # a column a cluster
    n_obs, n_clusters, p = D.shape[0], len(clusters), D.shape[1]
    naive = np.linalg.inv(D.T @ np.linalg.inv(V) @ D)
    H = D @ naive @ D.T @ np.linalg.inv(V)
    H *= block_diag(*(np.ones((len(r), len(r))) for *_, r in clusters))
    power = {"kauermann-carroll": -0.5, "mancl-derouen": -1.0}.get(cov_type, 0.0)
    U = D.T @ np.linalg.inv(V) @ fractional_matrix_power(np.eye(n_obs) - H, power) @ residuals
    if cov_type == "fay-graubard":
        for i, (d, v, _) in enumerate(clusters):
            U[:, i] *= (1 - np.minimum(0.75, np.diag(d.T @ np.linalg.inv(PHI * v) @ d @ naive))) ** -0.5
    robust = naive @ U @ U.T @ naive
    if cov_type == "naive":
        return naive
    if cov_type == "morel":
        k = (n_obs - 1) / (n_obs - p) * n_clusters / (n_clusters - 1)
        delta = min(0.5, p / (n_clusters - p)) if n_clusters > p else 0.5
        return k * robust + delta * max(1, k * np.trace(naive @ U @ U.T) / p) * naive
    return robust


@pytest.mark.parametrize("cov_type", COV_TYPES)
def test_against_dense_matrices(cov_type, clusters):
    vcov = covariance(cov_type, **inputs(clusters))
    np.testing.assert_allclose(vcov, direct(cov_type, clusters), rtol=1e-10, atol=0)
    np.testing.assert_array_equal(vcov, vcov.T)


def test_the_six_differ(clusters):
    first = [covariance(cov_type, **inputs(clusters))[1, 1] for cov_type in COV_TYPES]
    gaps = np.abs(np.subtract.outer(first, first))[np.triu_indices(6, 1)]
    assert gaps.min() > 1e-3 * min(first)


@pytest.mark.parametrize(
    "n_clusters, share",
    [(3, 0.5), (2, 0.5), (4, 0.5), (9, 0.5), (10, 3 / 7), (100, 3 / 97)],
)
def test_morel_share_of_the_naive_covariance(n_clusters, share):
    # With meat of 0 only the naive part is left, and its factor is 1.
    meats = Meats(*[np.zeros((3, 3))] * 4)
    vcov = covariance("morel", np.eye(3), 2.0, meats, 200, n_clusters, 3)
    np.testing.assert_allclose(vcov, share * 2.0 * np.eye(3), rtol=1e-14)


def test_morel_design_effect_counts_the_dispersion():
    meats = Meats(*[8.0 * np.eye(2)] * 4)
    k = (100 - 1) / (100 - 2) * 50 / 49
    for dispersion in (0.5, 2.0, 20.0):
        vcov = covariance("morel", np.eye(2), dispersion, meats, 100, 50, 2)
        effect = max(1.0, k * 8.0 / dispersion)
        np.testing.assert_allclose(vcov, (k * 8.0 + 2 / 48 * effect * dispersion) * np.eye(2), rtol=1e-14)


@pytest.mark.parametrize("cov_type", ["robust", "kauermann-carroll", "mancl-derouen", "fay-graubard"])
def test_sandwiches_do_not_depend_on_the_dispersion(cov_type, clusters):
    arguments = inputs(clusters)
    expected = covariance(cov_type, **arguments)
    np.testing.assert_array_equal(covariance(cov_type, **(arguments | {"dispersion": 1e6})), expected)


@pytest.mark.parametrize("cov_type", COV_TYPES)
def test_coefficients_that_are_not_identified_are_nan_and_others_as_without_them(cov_type, clusters):
    arguments = inputs(clusters)
    meats = arguments["meats"]
    where = np.ix_([0, 2, 3], [0, 2, 3])

    def widened(matrix, fill):
        out = np.full((4, 4), fill)
        out[where] = matrix
        return out

    wide = Meats(*(widened(getattr(meats, name), np.nan) for name in vars(meats)))
    for meats in (wide, Meats(*(widened(arguments["meats"].robust, 5.0),) * 4)):
        found = covariance(cov_type, **(arguments | {"bread": widened(arguments["bread"], np.nan), "meats": meats}))
        assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
        assert not np.isnan(found[where]).any()
        if meats is wide:
            np.testing.assert_array_equal(found[where], covariance(cov_type, **arguments))


@pytest.mark.parametrize("cov_type", ["kauermann-carroll", "mancl-derouen"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_leverage_of_one_is_an_error_that_says_what_to_use(cov_type, value, clusters):
    arguments = inputs(clusters)
    meats = vars(arguments["meats"]) | {cov_type.replace("-", "_"): np.full((3, 3), value)}
    arguments["meats"] = Meats(**meats)
    words = f"cov_type='{cov_type}' is undefined .* leverage of 1 .*use cov_type='fay-graubard'"
    with pytest.raises(ValueError, match=words):
        covariance(cov_type, **arguments)
    for other in set(COV_TYPES) - {cov_type}:
        assert np.isfinite(covariance(other, **arguments)).all()


@pytest.mark.parametrize(
    "sizes, words",
    [((100, 1, 3), "there is 1 cluster only"), ((3, 3, 3), "3 rows leave nothing for 3 coefficients")],
)
def test_morel_without_degrees_of_freedom(sizes, words, clusters):
    arguments = inputs(clusters) | dict(zip(["n_obs", "n_clusters", "n_coefficients"], sizes, strict=True))
    with pytest.raises(ValueError, match=f"cov_type='morel' is undefined .*{words}.*use cov_type='naive'"):
        covariance("morel", **arguments)
    assert np.isfinite(covariance("robust", **arguments)).all()


@pytest.mark.parametrize("cov_type", ["HC1", "Robust", "mancl_derouen", None, 1, ["robust"]])
def test_unknown_kinds(cov_type, clusters):
    for call in (check_cov_type, lambda kind: covariance(kind, **inputs(clusters))):
        with pytest.raises(ValueError, match="must be one of 'robust', 'naive', .*, 'morel'; got") as error:
            call(cov_type)
        assert repr(cov_type) in str(error.value)


def test_known_kinds():
    for cov_type in COV_TYPES:
        assert check_cov_type(cov_type) is None
