"""Several tests at once: p-values and intervals that allow for their number, and for how they go together.

References
----------
Holm S (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 65-70.

Hothorn T, Bretz F, Westfall P (2008). Simultaneous inference in general parametric models. Biometrical Journal 50,
346-363.

Owen AB, Maximov Y, Chertkov M (2019). Importance sampling the union of rare events with an application to power systems
analysis. Electronic Journal of Statistics 13, 231-254.

Sidak Z (1967). Rectangular confidence regions for the means of multivariate normal distributions. Journal of the
American Statistical Association 62, 626-633.
"""

import numpy as np
from scipy import optimize, special, stats

from sklmm.inference.wald import reference_distribution

ADJUSTMENTS = ("holm", "tukey", "sidak", "none")
_RANDOM_STATE = 0  # of the integration points: the same answer every time
_MOST_POINTS, _LEAST_POINTS = 13, 11  # powers of 2: probabilities are right to 3e-4, or 2e-3, of themselves
_WORK = 21  # a power of 2, of points and pairs of variables: 0.05 s


def adjusted(ratio, correlation, df, method):
    """P-values of several tests.

    Parameters
    ----------
    ratio : ndarray of shape (m,)
        Estimates over standard errors.
    correlation : ndarray of shape (m, m)
        Of the estimates.
    df : ndarray of shape (m,) or None
        Degrees of freedom of each; None: normal.
    method : {"holm", "tukey", "sidak", "none"}

    Returns
    -------
    p_values : ndarray of shape (m,)
    """
    m = ratio.size
    single = np.minimum(2.0 * reference_distribution(df).sf(np.abs(ratio)), 1.0)
    if method == "none" or m < 2:
        return single
    if method == "sidak":
        return -np.expm1(m * np.log1p(-np.minimum(single, 1.0 - 1e-16)))
    if method == "holm":
        order = np.argsort(single)
        out = np.empty(m)
        out[order] = np.minimum(np.maximum.accumulate((m - np.arange(m)) * single[order]), 1.0)
        return out
    joints = _joints(correlation, df)
    joint = [joints[own].beyond(abs(value)) for value, own in zip(ratio, _each(df, m), strict=True)]
    # Whatever the errors of integration: at least one test's probability, and at most the sum of all.
    return np.clip(joint, single, np.minimum(m * single, 1.0))


def reach_of(level, correlation, df, method):
    """How many standard errors an interval reaches to both sides, (m,); see `adjusted`.

    Holm's method has no intervals of its own: each holds by itself.
    """
    m = len(correlation)
    alone = np.broadcast_to(reference_distribution(df).ppf((1 + level) / 2), m)
    if method in ("none", "holm") or m < 2:
        return alone
    each = reference_distribution(df).ppf((1 + level ** (1 / m)) / 2)  # of independent ones, which is too far
    if method == "sidak":
        return np.broadcast_to(each, m)
    ends = dict(zip(_each(df, m), zip(alone, np.broadcast_to(each, m), strict=True), strict=True))
    found = {
        own: optimize.brentq(lambda q, joint=joint: joint.beyond(q) + level - 1.0, 0.99 * ends[own][0],
                             1.01 * ends[own][1], xtol=1e-6)
        for own, joint in _joints(correlation, df).items()
    }  # fmt: skip
    return np.array([found[own] for own in _each(df, m)])


def _each(df, m):
    """Degrees of freedom of each variable, to three digits, so that few differ."""
    return [None] * m if df is None else [float(f"{own:.3g}") for own in df]


def _joints(correlation, df):
    """The joint distribution for each of the degrees of freedom that occur."""
    return {own: Joint(correlation, own) for own in set(_each(df, len(correlation)))}


class Joint:
    """Normal or t variables with a correlation, and the probability that any of them is far from 0.

    P(any |T_j| > q) is the sum of all P(|T_j| > q) times the mean of 1 / S, where S counts the variables beyond q, and
    T is drawn with one j, each as often, known to be beyond (Owen, Maximov and Chertkov 2019): small probabilities are
    as precise as large ones. Given T_j the others are normal, or t with a degree of freedom more. (SciPy 1.17 has
    multivariate_t.cdf, which gives 0.12 in place of 0.053 for the three differences of three means, df = 20, q = 2.5.)
    """

    def __init__(self, correlation, df):
        values, vectors = np.linalg.eigh(np.clip(correlation, -1.0, 1.0))
        kept = values > 1e-10 * values[-1]
        self.correlation, self.df = correlation, None if df is None or not np.isfinite(df) else float(df)
        log2_points = int(np.clip(_WORK - 2.0 * np.log2(len(values)), _LEAST_POINTS, _MOST_POINTS))
        points = stats.qmc.Sobol(kept.sum() + 2, rng=_RANDOM_STATE).random_base2(log2_points)
        points = np.clip(points, 1e-12, 1.0 - 1e-12)
        self.tail = points[:, 0]
        self.draws = special.ndtri(points[:, 2:]) @ (vectors[:, kept] * np.sqrt(values[kept])).T
        if self.df is not None:
            self.draws /= np.sqrt(stats.chi2.ppf(points[:, 1], self.df + 1.0) / (self.df + 1.0))[:, None]

    def beyond(self, q):
        """Probability that any variable is below -q or above q."""
        reference = reference_distribution(self.df)
        sf = reference.sf(q)
        t, total = reference.isf(self.tail * sf), 0.0
        spread = 1.0 if self.df is None else np.sqrt((self.df + t**2) / (self.df + 1.0))[:, None]
        for j, rho in enumerate(self.correlation):
            T = t[:, None] * rho + spread * (self.draws - self.draws[:, [j]] * rho)
            total += (1.0 / np.maximum((np.abs(T) >= q).sum(axis=1), 1)).mean()
        return 2.0 * sf * total
