"""Outcomes of a marginal model: drawn so that their means and their correlations within groups are the model's.

Measured outcomes are normal. Classes are signs of normal variables, whose correlation r is, for each pair of rows, such
that the classes correlate as the model says (Emrich and Piedmonte 1991): with thresholds a and b and means P(Z < a) and
P(Z < b)

    Phi2(a, b; r) - Phi(a) Phi(b) = rho sqrt(var_1 var_2),

and with r = sin(theta) the left side is (Plackett 1954; Drezner and Wesolowsky 1990)

    G(theta) = 1 / (2 pi) times the integral over t from 0 to theta of
               exp(-(a^2 + b^2 - 2 a b sin t) / (2 cos^2 t)),

which rises with theta. Where it does not rise as far as rho asks, classes of these means cannot correlate so much,
whatever draws them (Prentice 1988).

References
----------
Emrich LJ, Piedmonte MR (1991). A method for generating high-dimensional multivariate binary variates. The American
Statistician 45, 302-304.

Drezner Z, Wesolowsky GO (1990). On the computation of the bivariate normal integral. Journal of Statistical Computation
and Simulation 35, 101-107.

Prentice RL (1988). Correlated binary regression with covariates specific to each binary observation. Biometrics 44,
1033-1048.
"""

import numpy as np
from scipy.special import ndtri

from sklmm.messages import shown_label

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_FARTHEST = 0.5 * np.pi - 1e-6  # of theta: a latent correlation of 1
_STEPS = 60
_PAIRS = 4096  # of rows, at a time
_MOST_KNOWN = 2000  # factors of groups that are kept
_CLOSE = 1e-10  # of a covariance
INSTEAD = (
    "Simulate from a mixed model of the same rows, whose outcomes can always be drawn, or take another working "
    "correlation"
)


class MarginalDraw:
    """Draws outcomes of rows in groups.

    Parameters
    ----------
    family : Bernoulli or Gaussian
    correlation : WorkingCorrelation
    alpha : ndarray
        Its parameters.
    times : ndarray
        The distinct times of the fit, in order: of structures that have a matrix over them.
    sigma : float
        Standard deviation of a measured outcome.
    """

    def __init__(self, family, correlation, alpha, times, sigma=1.0):
        self.family, self.correlation, self.sigma = family, correlation, sigma
        self.alpha, self.times = np.asarray(alpha, dtype=float), np.asarray(times, dtype=float)
        self.independent = correlation.whitening == "independent" or (
            self.alpha.size == 0 and correlation.moments is not None
        )
        self.known = {}

    def prepare(self, mean, codes, times, labels):
        """Find what the groups of the fit need, which other samples have again; errors name the groups.

        Parameters
        ----------
        mean : ndarray of shape (n,)
            Linear predictors.
        codes : ndarray of shape (n,), intp, or None
            None: every row is a group of its own.
        times : ndarray of shape (n,) or None
        labels : sequence
            Of the groups.
        """
        if self.independent or codes is None:
            return
        for rows in _groups(codes):
            key, where, mu = self._of_group(mean[rows], None if times is None else times[rows])
            if key not in self.known:
                self.known[key] = self._factor(where, mu, f"group {shown_label(labels[codes[rows[0]]])}")

    def __call__(self, rng, mean, codes, times):
        """Outcomes of rows; arguments as in `prepare`."""
        z = rng.standard_normal(len(mean))
        if not self.independent and codes is not None:
            for rows in _groups(codes):
                if rows.size > 1:
                    key, where, mu = self._of_group(mean[rows], None if times is None else times[rows])
                    factor = self.known.get(key)
                    if factor is None:
                        factor = self._factor(where, mu, f"a group of {rows.size} rows")
                        if len(self.known) < _MOST_KNOWN:
                            self.known[key] = factor
                    z[rows] = factor @ z[rows]
        if not self.family.has_classes:
            return mean + self.sigma * z
        return (z < ndtri(self.family.mean(mean))).astype(np.uint8)

    def _of_group(self, mean, times):
        """By what a group's factor is known again, and what it is made of."""
        where = np.arange(len(mean), dtype=float) if times is None else times
        if not self.family.has_classes:
            return where.tobytes(), where, None
        return where.tobytes() + mean.tobytes(), where, self.family.mean(mean)

    def _factor(self, where, mu, name):
        """L, so that L z has the group's correlations, of z that has none."""
        R = self._matrix(where, name)
        what = "the working correlation"
        if mu is not None:
            R, what = latent_correlation(mu, R, name), "what draws such classes, a correlation of normal variables,"
        try:
            return np.linalg.cholesky(R)
        except np.linalg.LinAlgError:
            text = f"outcomes cannot be drawn: {what} is not positive definite in {name}. {INSTEAD}"
            raise ValueError(text) from None

    def _matrix(self, where, name):
        """The working correlation of a group with rows at these times, or places."""
        correlation = self.correlation
        if correlation.whitening != "dense" or correlation.order_suffices and where.size > self.times.size:
            return correlation.matrix(self.alpha, where)
        at = np.searchsorted(self.times, where)
        if (at >= self.times.size).any() or (self.times[at] != where).any():
            raise ValueError(
                f"outcomes cannot be drawn: the {correlation.name} working correlation has {self.times.size} times, "
                f"and {name} has others. {INSTEAD}"
            )
        return correlation.matrix(self.alpha, self.times)[np.ix_(at, at)]


def _groups(codes):
    """Rows of each group."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def latent_correlation(mu, R, name="a group"):
    """Correlations of normal variables whose signs have the means `mu` and the correlations `R`.

    Parameters
    ----------
    mu : ndarray of shape (n,)
        Between 0 and 1.
    R : ndarray of shape (n, n)
    name : str
        Whose they are, for errors.

    Returns
    -------
    ndarray of shape (n, n)

    Raises
    ------
    ValueError
        If classes of these means cannot correlate so.
    """
    i, j = np.triu_indices(len(mu), 1)
    sd = np.sqrt(mu * (1.0 - mu))
    wanted = R[i, j] * sd[i] * sd[j]
    most = np.minimum(mu[i], mu[j]) - mu[i] * mu[j]
    least = np.maximum(mu[i] + mu[j] - 1.0, 0.0) - mu[i] * mu[j]
    beyond = (wanted > most - _CLOSE) | (wanted < least + _CLOSE)
    beyond &= wanted != 0.0
    if beyond.any():
        k = np.flatnonzero(beyond)[0]
        limit = (most if wanted[k] > 0 else least)[k] / (sd[i[k]] * sd[j[k]])
        raise ValueError(
            f"outcomes cannot be drawn: in {name} two rows with the probabilities {mu[i[k]]:.3g} and {mu[j[k]]:.3g} "
            f"are to correlate by {R[i[k], j[k]]:.3g}, but cannot beyond {limit:.3g}. {INSTEAD}"
        )
    out = np.eye(len(mu))
    a = ndtri(mu)
    out[i, j] = out[j, i] = np.sin(_solve(a[i], a[j], wanted))
    return out


def _solve(a, b, wanted):
    """theta with G(theta) = wanted, by Newton's method, kept between ends that are moved in."""
    low, high = np.full(wanted.shape, -_FARTHEST), np.full(wanted.shape, _FARTHEST)
    theta = np.zeros_like(wanted)
    for _ in range(_STEPS):
        excess = orthant_gain(a, b, theta) - wanted
        if np.abs(excess).max(initial=0.0) < _CLOSE * 1e-3:
            break
        low, high = np.where(excess < 0, theta, low), np.where(excess > 0, theta, high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = theta - excess / _density(a, b, theta)
        inside = (step > low) & (step < high)  # not where it is NaN
        theta = np.where(inside, step, 0.5 * (low + high))
    return theta


def orthant_gain(a, b, theta):
    """G: P(Z1 < a, Z2 < b) of normal variables that correlate by sin(theta), less that of independent ones."""
    gain = np.empty_like(theta)
    for begin in range(0, theta.size, _PAIRS):
        part = slice(begin, begin + _PAIRS)
        half = 0.5 * theta[part]
        gain[part] = half * (_WEIGHTS @ _density(a[part], b[part], half * (1.0 + _NODES[:, None])))
    return gain


def _density(a, b, theta):
    """G'."""
    return np.exp(-0.5 * (a * a + b * b - 2.0 * a * b * np.sin(theta)) / np.cos(theta) ** 2) / (2.0 * np.pi)
