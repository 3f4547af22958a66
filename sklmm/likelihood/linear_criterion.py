"""The log-likelihood of a linear model in (beta, theta, log sigma), and that of theta alone, all else at its best.

With r = (-beta, 1), so that E r are residuals, and everything in units of sigma^2 (see `linear_crossproducts`),

    -2 l = n log(2 pi) + 2 n log sigma - sum log precision + log|V| + r'Q r / sigma^2

REML adds log|X'V^-1 X / sigma^2| - f log(2 pi), where X has the user's columns, as lme4 has it (Bates, Maechler, Bolker
and Walker, 2015, equation 40; Patterson and Thompson, 1971). The likelihood of theta alone is this one where beta and
sigma are best, and its Hessian the Schur complement of theta.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from sklmm.likelihood.linear_crossproducts import ClusterProducts
from sklmm.likelihood.linear_several import SMALLEST
from sklmm.passes.blocks import POLISH_ROWS

LOG_2PI = np.log(2.0 * np.pi)
NEAR = 1e-3  # log-likelihood units from the maximum, within which a Hessian is worth its price
SAME_GAP = 1e-3  # relative change of theta, in which what average information lacks changes by a thousandth, too
DIFFERENCE = 1e-4  # in theta, or its largest entry
LEAST_LEFT = 1e-24
NOTHING_LEFT = 1e-13  # of the outcome's variation: what is left is rounding error


@dataclass
class Point:
    """A linear model at a theta.

    Attributes
    ----------
    theta : ndarray
    log_det : float
    Q : ndarray of shape (k, k)
    root : ndarray of shape (f, f)
        root root' is the inverse of the fixed effects' part of Q.
    log_fixed : float
        log|X'V^-1 X|, of the user's columns.
    beta : ndarray of shape (f,)
        At its best.
    squares : float
        r'Q r there.
    """

    theta: np.ndarray
    log_det: float
    Q: np.ndarray
    root: np.ndarray
    log_fixed: float
    beta: np.ndarray
    squares: float


class LinearCriterion:
    """The log-likelihood of the rows behind some cross-products, by maximum likelihood or REML.

    Parameters
    ----------
    products : ClusterProducts or SeveralProducts
    reml : bool
    """

    def __init__(self, products, reml):
        self.products, self.reml = products, reml
        self.n, self.f = products.n_counted, products.f
        self.nu = self.n - self.f if reml else self.n  # degrees of freedom of sigma
        self._gap = None

    def at(self, theta):
        """Everything at theta but derivatives.

        Raises
        ------
        FloatingPointError
            Where theta is too far out.
        """
        log_det, Q = self.products.evaluate(theta)
        f = self.f
        factor, failed = lapack.dpotrf(Q[:f, :f], lower=1) if f else (np.zeros((0, 0)), 0)
        if failed or not np.isfinite(log_det):
            raise FloatingPointError("the fixed effects' information is not positive definite")
        inverse = lapack.dtrtri(factor, lower=1)[0] if f else factor
        along = inverse @ Q[:f, f]
        squares = max(float(Q[f, f] - along @ along), 0.0)
        log_fixed = 2.0 * np.log(factor.diagonal()).sum() - 2.0 * self.products.log_scales
        return Point(theta, log_det, Q, np.ascontiguousarray(inverse.T), log_fixed, inverse.T @ along, squares)

    def log_sigma(self, point):
        """log sigma at its best, of the scaled outcome; that of rounding errors where nothing is left."""
        least = LEAST_LEFT * max(self.products.C[-1, -1], 1.0)
        return 0.5 * np.log(max(point.squares, least) / self.nu)

    def value(self, point, squares, tau):
        """The log-likelihood with the residual sum of squares `squares` and log sigma tau."""
        total = self.n * LOG_2PI + 2.0 * self.nu * tau + point.log_det + squares * np.exp(-2.0 * tau)
        if self.reml:
            total += point.log_fixed - self.f * LOG_2PI
        return -0.5 * float(total) + 0.5 * self.products.log_precision - (
            self.nu * np.log(self.products.y_scale)
        )  # fmt: skip

    def joint(self, point, beta, tau, derivatives=None):
        """Value, gradient and Hessian in (beta, theta, log sigma) with the fixed effects beta, and the derivatives.

        `derivatives`: of the point at this beta, if they are known.
        """
        f, Q, m = self.f, point.Q, point.theta.size
        residual = np.append(-beta, 1.0)
        along = Q @ residual
        squares, scale = float(residual @ along), np.exp(-2.0 * tau)
        if derivatives is None:
            derivatives = self.products.derivatives(point.theta, residual, point.root if self.reml else None)
        d, random, last = derivatives, slice(f, f + m), f + m
        first = d.Q @ residual
        gradient, hessian = np.empty(f + m + 1), np.empty((f + m + 1, f + m + 1))
        gradient[:f] = scale * along[:f]
        gradient[random] = -0.5 * (d.log_det + scale * first)
        gradient[last] = scale * squares - self.nu
        hessian[:f, :f] = -scale * Q[:f, :f]
        hessian[:f, random] = scale * d.Q[:, :f].T
        hessian[:f, last] = -2.0 * scale * along[:f]
        hessian[random, random] = -0.5 * (d.log_det2 + scale * d.quadratic2)
        hessian[random, last] = scale * first
        hessian[last, last] = -2.0 * scale * squares
        if self.reml:
            gradient[random] -= 0.5 * d.penalty
            hessian[random, random] -= 0.5 * d.penalty2
        upper = np.triu(hessian)
        return self.value(point, squares, tau), gradient, upper + np.triu(upper, 1).T, derivatives

    def profile(self, theta):
        """Value, gradient and Hessian of the log-likelihood of theta alone.

        Where a Hessian costs more than the rest it is exact beside the maximum, and far from it what it is on average.

        Raises
        ------
        FloatingPointError
        """
        point = self._with_residuals(theta)
        value, gradient, hessian, derivatives = self.joint(point, point.beta, self.log_sigma(point))
        gradient, hessian = gradient[self.f : -1], self.of_theta(hessian)
        # beside a variance of 0 averages are wrong: they are divided by it
        if not derivatives.exact and (self._away(theta) is not theta or self._is_near(gradient, hessian)):
            hessian = self.nearly_exact(theta, hessian, derivatives)
        return value, gradient, hessian

    def profile_value(self, theta):
        """Value of the log-likelihood of theta alone."""
        point = self._with_residuals(theta)
        return self.value(point, point.squares, self.log_sigma(point))

    def nearly_exact(self, theta, average, derivatives):
        """The Hessian of theta alone: the average one and what that lacked next to here, or the exact one."""
        near = SAME_GAP if self.products.n_rows > POLISH_ROWS else 0.0
        if self._gap is None or (np.abs(theta - self._gap[0]) > near * np.abs(theta)).any():
            self._gap = theta.copy(), self.exact_hessian(theta, derivatives) - average
        return average + self._gap[1]

    def exact_hessian(self, theta, derivatives=None):
        """Of the log-likelihood of theta alone. Of nested factors by differences of gradients, which cost little.

        `derivatives`: those there, if they were found last.
        """
        products = self.products
        if isinstance(products, ClusterProducts):
            return self.profile(theta)[2]
        if products.nested:
            return _differences(lambda z: self._gradient(z), theta)
        away = self._away(theta)
        point = self._with_residuals(away)
        if derivatives is None or away is not theta:
            root, residual = point.root if self.reml else None, np.append(-point.beta, 1.0)
            derivatives = products.derivatives(away, residual, root)
        derivatives = products.exact_derivatives(derivatives)
        return self.of_theta(self.joint(point, point.beta, self.log_sigma(point), derivatives)[2])

    def _away(self, theta):
        """theta, or with small numbers for standard deviations of 0."""
        zero = self.products.covariance.diagonal & (np.abs(theta) < SMALLEST)
        return np.where(zero, SMALLEST, theta) if zero.any() else theta

    def _with_residuals(self, theta):
        point = self.at(theta)
        if not point.squares > 0.0:
            raise FloatingPointError("no residual variance is left")
        return point

    def _gradient(self, theta):
        point = self._with_residuals(theta)
        return self.joint(point, point.beta, self.log_sigma(point))[1][self.f : -1]

    def of_theta(self, hessian):
        """The Hessian of theta alone, from that in (beta, theta, log sigma)."""
        inside = np.arange(self.f, len(hessian) - 1)
        return without(hessian, inside, np.append(np.arange(self.f), len(hessian) - 1))

    @staticmethod
    def _is_near(gradient, hessian):
        """Whether a Newton step gains next to nothing: it is worth a better Hessian."""
        w, vectors = np.linalg.eigh(-hessian)
        return bool(w[0] > 0.0 and 0.5 * np.sum((vectors.T @ gradient) ** 2 / w) < NEAR)


def _differences(gradient, theta):
    """The Hessian by central differences of a gradient."""
    rows, step = [], DIFFERENCE * max(1.0, np.abs(theta).max())
    for unit in np.eye(theta.size):
        rows.append((gradient(theta + step * unit) - gradient(theta - step * unit)) / (2.0 * step))
    out = np.array(rows)
    return 0.5 * (out + out.T)


def without(hessian, inside, others):
    """The Hessian of some parameters where all others are at their best: a Schur complement."""
    across = hessian[np.ix_(inside, others)]
    return hessian[np.ix_(inside, inside)] - across @ np.linalg.solve(hessian[np.ix_(others, others)], across.T)
