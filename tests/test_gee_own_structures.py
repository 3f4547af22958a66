"""Working correlations of a user's own: such as imitate built-in ones, and such as do not keep to the contract."""

import numpy as np
import pytest
from contracts.estimators import GEE, clinics
from dense_gee import make_problem
from gee_fits import assert_same, fit

from sklmm import GEELogisticRegression
from sklmm.estimating import AR1, Exchangeable, MDependent, Unstructured, WorkingCorrelation

# Imitations -----------------------------------------------------------------------------------------------------------


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
        (SquareRoot(), GEE.variants["fixed"]["correlation"]),
        (DenseAR1(), "ar1"),
        (type("Own", (Unstructured,), {})(), "unstructured"),
    ],
    ids=["Toeplitz", "exchangeable", "fixed", "ar1", "unstructured"],
)
def test_structure_of_ones_own_is_the_one_it_imitates(own, built_in, ddof_correction):
    data = GEE.rows
    if isinstance(own, Toeplitz):  # five lags of few groups are no correlation matrix
        data = make_problem(2, times=(0, 1, 2, 3, 4, 5), n_clusters=200)
    found, expected = (fit(correlation, data, ddof_correction=ddof_correction) for correlation in (own, built_in))
    assert expected.working_correlation_[0, 1] > 0.05
    assert_same(found, expected)


# Such as do not keep to the contract ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return clinics()


class _Custom(WorkingCorrelation):
    def __init__(self, alpha=0.2, R=None):
        self.alpha, self.R = alpha, R

    def estimate(self, moments):
        return self.alpha

    def matrix(self, alpha, times):
        return np.eye(4) if self.R is None else self.R

ESTIMATES = (np.nan, [0.1, np.inf], None, "much", np.zeros((2, 2)))


MATRICES = {
    "another shape": np.eye(3),
    "a vector": np.ones(4),
    "asymmetric": np.eye(4) + 0.1 * np.eye(4, k=1),
    "a covariance": 2 * np.eye(4),
    "NaN": np.where(np.eye(4), 1.0, np.nan),
    "inf": np.where(np.eye(4), 1.0, np.inf),
    "nothing": None,
    "words": "AR(1)",
}


@pytest.mark.parametrize("alpha", ESTIMATES, ids=str)
def test_estimate_that_gives_garbage(data, alpha):
    X, y, groups, time = data
    if alpha is None:
        alpha = [None]
    with pytest.raises(ValueError, match="estimate must give a 1-D array of finite parameters, got"):
        GEELogisticRegression(_Custom(alpha)).fit(X, y, groups=groups, time=time)


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_that_is_garbage(data, name):
    X, y, groups, time = data
    correlation = _Custom()
    correlation.matrix = lambda alpha, times: MATRICES[name]
    with pytest.raises(ValueError, match=r"matrix must give a symmetric matrix of shape \(4, 4\) with ones on its"):
        GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)


def test_matrix_that_is_not_positive_definite_whatever_its_parameters(data):
    X, y, groups, time = data
    with pytest.raises(ValueError, match=r"is not positive definite.*shrink\(alpha, 0.\d+\) did not mend it"):
        GEELogisticRegression(_Custom(R=np.where(np.eye(4), 1, -0.9))).fit(X, y, groups=groups, time=time)


def test_incomplete_structures(data):
    X, y, groups, time = data

    class Nothing(WorkingCorrelation):
        pass

    class Nonsense(_Custom):
        moments = "triples"

    class Quack:
        def estimate(self, moments): ...

        def matrix(self, alpha, times): ...

    for correlation, error, message in (
        (Nothing(), NotImplementedError, r"Nothing must define estimate\(moments\)"),
        (Nonsense(), ValueError, "Nonsense.moments must be one of None, 'pairs', .*got 'triples'"),
        (Quack(), ValueError, "must derive from sklmm.estimating.WorkingCorrelation"),
    ):
        with pytest.raises(error, match=message):
            GEELogisticRegression(correlation).fit(X, y, groups=groups, time=time)
