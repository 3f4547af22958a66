"""Working correlations: one stateless class each. Estimates are kept by the fitted estimator, never here.

A class says which products of residuals it needs (`moments`), how it estimates its parameters from their sums
(`estimate`), and what correlation matrix these give for some times (`matrix`). That is all for a class of your own.
Independence, exchangeability and AR(1) have closed-form inverses, so that the compiled passes never form their
matrices (`whitening`).
"""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.optimize import brentq, minimize_scalar

# How close to the end of its range a parameter is put where its estimate is outside.
MARGIN = 1e-3


@dataclass
class ResidualMoments:
    """Sums of products of Pearson residuals, and what they are divided by.

    With ``ddof_correction=False`` these are geepack's definitions, else those of R's gee. They differ in how weights
    enter: there each product of two residuals counts as the product of the rows' weights, here as its square root
    (for "pairs": as often as there are pairs of rows when each row is repeated as its weight says).

    Attributes
    ----------
    products : ndarray
        Sums of products; of shape () for "pairs" and "adjacent", (n_lags,) for "lags" (lag 1 first), (n_times,
        n_times) for "times" (upper triangle).
    counts : ndarray
        The same sums with 1 for every product.
    scale : float
        The dispersion that products are divided by.
    cluster_scale : float
        The mean over clusters of their mean squared residuals.
    n_coefficients : int
        How many coefficients the residuals have been fitted with.
    ddof_correction : bool
    gaps : ndarray or None
        For "adjacent": the distinct gaps, `counts` being theirs.
    times : ndarray or None
        For "times": the distinct times. For "lags": the distance of each lag.
    """

    products: np.ndarray
    counts: np.ndarray
    scale: float
    cluster_scale: float
    n_coefficients: int
    ddof_correction: bool
    gaps: np.ndarray | None = None
    times: np.ndarray | None = None

    def less_coefficients(self, counts):
        """`counts` less the number of coefficients, where R's gee corrects for these and enough is left."""
        corrected = counts - self.n_coefficients
        return np.where(self.ddof_correction & (corrected > 0), corrected, counts)

    def remark_on_few_pairs(self):
        """In words, where `less_coefficients` leaves counts as they are; else None."""
        few = self.ddof_correction & (self.counts > 0) & (self.counts <= self.n_coefficients)
        if np.any(few):
            where = "" if np.ndim(self.counts) == 0 else " at some distances in time"
            return (
                f"rests on few pairs of rows: {np.max(self.counts[few]):g}{where}, not more than the "
                f"{self.n_coefficients} coefficients that ddof_correction=True takes off; their plain mean is used"
            )


class WorkingCorrelation:
    """Base class of working correlations.

    A subclass of your own sets `name` and defines `estimate` and `matrix`; it gets `moments = "times"` and `whitening
    = "dense"`, which hold for any structure.

    Attributes
    ----------
    name : str
        In words, for summaries.
    moments : {None, "pairs", "adjacent", "lags", "times"}
        The products of residuals that `estimate` gets: none; all pairs of a cluster; neighbours in time; by their
        distance in time; by their pair of times.
    whitening : {"independent", "exchangeable", "autoregressive", "dense"}
        How the inverse is applied: in closed form, or through a factorisation for each pattern of times.
    uses_time : bool
        Whether it matters when (or where in its cluster) a row was observed.
    order_suffices : bool
        Whether the order of the rows can stand in for times even where clusters differ in size.
    """

    name = "user-defined"
    moments = "times"
    whitening = "dense"
    uses_time = True
    order_suffices = False

    def moments_for(self, ddof_correction):
        """The kind of moments; one class needs others for each family of definitions."""
        return self.moments

    def estimate(self, moments):
        """Parameters from residuals.

        Parameters
        ----------
        moments : ResidualMoments

        Returns
        -------
        alpha : ndarray of shape (n_parameters,)
        """
        raise NotImplementedError(f"{type(self).__name__} must define estimate(moments)")

    def remark(self, alpha, moments):
        """What a user should know of an estimate that is not as defined, after "the working correlation", or None."""

    def matrix(self, alpha, times):
        """Correlation matrix of rows observed at these times.

        Parameters
        ----------
        alpha : ndarray of shape (n_parameters,)
        times : ndarray of shape (n_times,)

        Returns
        -------
        R : ndarray of shape (n_times, n_times)
        """
        raise NotImplementedError(f"{type(self).__name__} must define matrix(alpha, times)")

    def shrink(self, alpha, share):
        """Parameters of the matrix whose off-diagonal entries are multiplied by `share`."""
        return alpha * share

    def __repr__(self):
        parameters = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({parameters})"


class Independence(WorkingCorrelation):
    """No correlation: the estimates of plain logistic regression; only their covariance allows for clusters."""

    name = "independence"
    moments = None
    whitening = "independent"
    uses_time = False

    def estimate(self, moments):
        return np.empty(0)

    def matrix(self, alpha, times):
        return np.eye(len(times))


class Exchangeable(WorkingCorrelation):
    """The same correlation for every two rows of a cluster (compound symmetry)."""

    name = "exchangeable"
    moments = "pairs"
    whitening = "exchangeable"
    uses_time = False

    def estimate(self, moments):
        if moments.counts <= 0:
            return np.zeros(1)
        return np.atleast_1d(moments.products / (moments.scale * moments.less_coefficients(moments.counts)))

    def remark(self, alpha, moments):
        return moments.remark_on_few_pairs()

    def matrix(self, alpha, times):
        n = len(times)
        return np.full((n, n), alpha[0]) + (1.0 - alpha[0]) * np.eye(n)

    @staticmethod
    def bounds(largest):
        """Where the matrix of a cluster of `largest` rows (their weights' sum) is positive definite."""
        return (-1.0 / (largest - 1.0) if largest > 1 else -1.0), 1.0


class AR1(WorkingCorrelation):
    """Correlation alpha^|t_j - t_k|, a first-order autoregression with real times.

    With ``ddof_correction=True`` alpha solves a moment equation for neighbours in time (R's gee, generalised to
    gaps): the mean over clusters of their mean products of neighbours. With False it fits the products of all pairs
    by least squares (geepack).
    """

    name = "AR(1)"
    moments = "adjacent"
    whitening = "autoregressive"
    order_suffices = True

    def moments_for(self, ddof_correction):
        return "adjacent" if ddof_correction else "lags"

    def estimate(self, moments):
        if not np.any(moments.counts > 0):
            return np.zeros(1)
        by_lag = moments.gaps is None
        seen, gaps = moments.counts > 0, moments.times if by_lag else moments.gaps
        counts, gaps = moments.counts[seen], gaps[seen]
        # in a unit of the data's own, so that it does not matter whether times are in years or in seconds
        signed = _may_be_negative(gaps)
        unit = np.gcd.reduce(gaps.astype(np.int64)) if signed else gaps.min()
        if by_lag:
            means = moments.products[seen] / (moments.scale * counts)
            rho = _power_least_squares(gaps / unit, counts, means, signed)
        else:
            rho = _power_sum_root(gaps / unit, counts, float(moments.products) / moments.cluster_scale, signed)
        return np.atleast_1d(np.copysign(np.abs(rho) ** (1.0 / unit), rho))

    def remark(self, alpha, moments):
        if moments.gaps is not None and np.any(moments.counts > 0):
            found = np.average(self.powers(alpha[0], moments.gaps), weights=moments.counts)
            target = float(moments.products) / (moments.cluster_scale * moments.counts.sum())
            if abs(found - target) > 1e-6:
                return (
                    f"has no value with which neighbours in time correlate as they do, {target:.4g} on the average; "
                    f"the nearest is used, which makes it {found:.4g}"
                )

    def matrix(self, alpha, times):
        times = np.asarray(times, dtype=float)
        return self.powers(alpha[0], np.abs(times[:, None] - times))

    @staticmethod
    def powers(alpha, gaps):
        """alpha^gaps; a negative alpha needs whole gaps."""
        gaps = np.asarray(gaps, dtype=float)
        sign = np.where((alpha < 0) & (gaps % 2 == 1), -1.0, 1.0)
        return sign * np.abs(alpha) ** gaps

    @staticmethod
    def bounds(gaps):
        """Where the correlation is defined and positive definite: negative values need whole gaps, not all even."""
        return (-1.0 if _may_be_negative(np.asarray(gaps)) else 0.0), 1.0


def _may_be_negative(gaps):
    """Whether alpha^gaps is defined for a negative alpha, and another thing than for a positive one."""
    return bool(np.all(gaps % 1 == 0) and np.any(gaps % 2 == 1))


def _power_sum_root(gaps, counts, target, signed):
    """alpha with sum counts alpha^gaps = target; what comes closest if there is none.

    Where products are negative and alpha cannot be (it is not `signed`), it is minus the alpha for products as large:
    out of range, so that the fit says so.
    """
    if target < 0 and not signed:
        return -_power_sum_root(gaps, counts, -target, signed)
    if np.all(gaps == 1):
        return target / counts.sum()

    def excess(alpha):
        return float(counts @ AR1.powers(alpha, gaps)) - target

    if target >= 0:
        return brentq(excess, 0.0, 1.0, xtol=1e-15) if excess(1.0) > 0 else 1.0
    grid = -np.linspace(0.0, 1.0, 257)
    values = np.array([excess(alpha) for alpha in grid])
    below = np.flatnonzero(values <= 0)
    if below.size:  # the root next to 0
        return brentq(excess, grid[below[0]], grid[below[0] - 1], xtol=1e-15)
    least = int(np.argmin(values))
    low, high = grid[min(least + 1, 256)], grid[max(least - 1, 0)]
    nearest = minimize_scalar(excess, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return nearest if excess(nearest) >= 0 else brentq(excess, nearest, high, xtol=1e-15)


def _power_least_squares(lags, counts, means, signed):
    """alpha, only if `signed` a negative one, that minimises sum counts (means - alpha^lags)^2.

    Where alpha cannot be negative and 0 is best, it is minus the alpha for negated means: out of range, so that the fit
    says so.
    """
    grid = np.linspace(-1.0 if signed else 0.0, 1.0, 1025)
    misfit = ((means - AR1.powers(grid[:, None], lags)) ** 2) @ counts

    def slope(alpha):  # half the derivative; alpha^(lag - 1) has the other parity
        size = np.abs(alpha) ** (lags - 1) if alpha else np.where(lags == 1, 1.0, 0.0)
        sign = np.where((alpha < 0) & (lags % 2 == 0), -1.0, 1.0)
        return float(counts @ (lags * sign * size * (AR1.powers(alpha, lags) - means)))

    best = int(np.argmin(misfit))
    if best == 0 and not signed and np.any(means < 0):
        return -_power_least_squares(lags, counts, np.maximum(-means, 0.0), signed)
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    if slope(low) < 0 < slope(high):
        return brentq(slope, low, high, xtol=1e-15)
    return grid[best]  # an end of the range, or 0 between two lags' turning points


class Unstructured(WorkingCorrelation):
    """A correlation of its own for every two times. Clusters may miss times.

    The parameters are the upper triangle, row by row. Two times that no cluster has both of get 0.
    """

    name = "unstructured"

    def estimate(self, moments):
        scale = moments.cluster_scale if moments.ddof_correction else moments.scale
        upper = np.triu_indices(len(moments.times), 1)
        products, counts = moments.products[upper], moments.counts[upper]
        return np.divide(products, scale * counts, out=np.zeros(products.size), where=counts > 0)

    def matrix(self, alpha, times):
        R = np.eye(len(times))
        upper = np.triu_indices(len(times), 1)
        R[upper] = alpha
        return R + np.triu(R, 1).T


class MDependent(WorkingCorrelation):
    """Stationary: a correlation for each of the first m lags, 0 beyond.

    Parameters
    ----------
    m : int, default=1
        Lags are counted on the grid of times, in units of their greatest common spacing.
    """

    name = "m-dependent"
    moments = "lags"
    order_suffices = True

    def __init__(self, m=1):
        if isinstance(m, bool) or not isinstance(m, Integral) or m < 1:
            raise ValueError(f"m must be an integer >= 1, got {m!r}")
        self.m = int(m)

    def estimate(self, moments):
        counts = moments.less_coefficients(moments.counts)
        alpha = np.divide(moments.products, moments.scale * counts, out=np.zeros(counts.size), where=moments.counts > 0)
        return np.append(alpha, np.zeros(self.m - alpha.size))

    def remark(self, alpha, moments):
        return moments.remark_on_few_pairs()

    def matrix(self, alpha, times):
        lags = np.abs(np.subtract.outer(grid_positions(times)[0], grid_positions(times)[0]))
        return np.concatenate([[1.0], alpha, [0.0]])[np.minimum(lags, len(alpha) + 1)]


class Fixed(WorkingCorrelation):
    """A correlation matrix that is given and not estimated.

    Parameters
    ----------
    matrix : array-like or DataFrame of shape (n_times, n_times)
        Symmetric, positive definite, with a diagonal of ones. A DataFrame's index are the times.
    times : array-like of shape (n_times,), default=None
        The times of its rows. None: the distinct times of the data (or the positions in a cluster) in their order.

    Raises
    ------
    ValueError
        If `matrix` is not a correlation matrix.
    """

    name = "fixed"
    moments = None

    def __init__(self, matrix, times=None):
        if times is None and hasattr(matrix, "columns"):
            times = matrix.index
        try:
            R = np.array(matrix, dtype=float)
        except (ValueError, TypeError) as error:
            raise ValueError(f"a fixed correlation must be a square matrix of numbers ({error})") from error
        if R.ndim != 2 or R.shape[0] != R.shape[1] or not R.size:
            raise ValueError(f"a fixed correlation must be a square matrix, got an array of shape {R.shape}")
        if not np.isfinite(R).all():
            raise ValueError("the fixed correlation matrix holds values that are not finite")
        if not np.allclose(R, R.T, rtol=0, atol=1e-8):
            raise ValueError("the fixed correlation matrix is not symmetric")
        if not np.allclose(np.diag(R), 1.0, rtol=0, atol=1e-8):
            raise ValueError(
                f"the diagonal of the fixed correlation matrix must be 1, got {np.diag(R)}; divide a covariance "
                "matrix by its standard deviations first"
            )
        smallest = np.linalg.eigvalsh(R)[0]
        if smallest <= 1e-10:
            raise ValueError(
                f"the fixed correlation matrix is not positive definite: its smallest eigenvalue is {smallest:.3g}"
            )
        self.R = (R + R.T) / 2
        try:
            self.times = None if times is None else np.asarray(times, dtype=float)
        except (ValueError, TypeError) as error:
            raise ValueError(f"the times of a fixed correlation matrix must be numbers ({error})") from error
        if self.times is not None and self.times.shape != (len(R),):
            raise ValueError(f"the fixed correlation matrix has {len(R)} rows, but there are {self.times.size} times")

    def estimate(self, moments):
        return np.empty(0)

    def matrix(self, alpha, times):
        times = np.asarray(times, dtype=float)
        if self.times is None:
            if len(times) > len(self.R):
                raise ValueError(
                    f"the fixed correlation matrix has {len(self.R)} rows, but the data have {len(times)} times"
                )
            return self.R[: len(times), : len(times)]
        at = [np.flatnonzero(self.times == time) for time in times]
        missing = [time for time, found in zip(times, at, strict=True) if found.size != 1]
        if missing:
            raise ValueError(f"the fixed correlation matrix has no row (or several) for the times {missing[:5]}")
        at = np.concatenate(at)
        return self.R[np.ix_(at, at)]


def grid_positions(times):
    """Places of times on a grid with their greatest common spacing, and that spacing.

    Raises
    ------
    ValueError
        If the times lie on no grid of at most a million places.
    """
    times = np.asarray(times, dtype=float)
    distinct = np.unique(times)
    if distinct.size < 2:
        return np.zeros(times.shape, dtype=np.int64), 1.0
    gaps = np.diff(distinct)
    noise = 1e-9 * np.abs(distinct).max()  # well above the rounding error of times, which the algorithm adds up
    unit = gaps.min()
    while (distinct[-1] - distinct[0]) / unit <= 1e6:  # Euclid's algorithm, on all gaps at once
        rest = gaps - np.round(gaps / unit) * unit
        rest = np.abs(rest[np.abs(rest) > noise])
        if rest.size == 0:
            break
        unit = rest.min()
    else:
        raise ValueError(
            "the times lie on no regular grid, which lags are counted on: round them, or use another working "
            "correlation (AR(1) counts no lags with ddof_correction=True)"
        )
    position = np.round((times - distinct[0]) / unit).astype(np.int64)
    return position, float(unit)


_MOMENTS = (None, "pairs", "adjacent", "lags", "times")
_WHITENING = ("independent", "exchangeable", "autoregressive", "dense")
_BY_NAME = {
    "independence": Independence,
    "exchangeable": Exchangeable,
    "ar1": AR1,
    "unstructured": Unstructured,
    "m-dependent": MDependent,
}


def resolve_correlation(correlation):
    """The `WorkingCorrelation` that a parameter's value stands for: an instance, a name, or a matrix (fixed)."""
    if isinstance(correlation, WorkingCorrelation):
        for attribute, known in (("moments", _MOMENTS), ("whitening", _WHITENING)):
            if getattr(correlation, attribute) not in known:
                raise ValueError(
                    f"{type(correlation).__name__}.{attribute} must be one of {', '.join(map(repr, known))}; got "
                    f"{getattr(correlation, attribute)!r}"
                )
        return correlation
    if isinstance(correlation, str):
        if correlation in _BY_NAME:
            return _BY_NAME[correlation]()
        if correlation == "fixed":
            raise ValueError(
                "correlation='fixed' needs its matrix: give correlation=sklmm.estimating.Fixed(matrix, times), or "
                "the matrix itself"
            )
        raise ValueError(
            f"correlation must be one of {', '.join(map(repr, _BY_NAME))}, a correlation matrix, or an instance of a "
            f"class of sklmm.estimating; got {correlation!r}"
        )
    if isinstance(correlation, type) and issubclass(correlation, WorkingCorrelation):
        raise ValueError(f"correlation must be an instance: write {correlation.__name__}()")
    if hasattr(correlation, "__array__") or isinstance(correlation, (list, tuple)):
        return Fixed(correlation)
    if hasattr(correlation, "matrix") and hasattr(correlation, "estimate"):
        raise ValueError("a working correlation of your own must derive from sklmm.estimating.WorkingCorrelation")
    raise ValueError(f"correlation must be a name, a matrix or a WorkingCorrelation; got {correlation!r}")
