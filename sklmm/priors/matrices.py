"""Densities of covariance matrices and of correlations."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import betaln, multigammaln

from sklmm.priors.density import Density, check_positive_definite, frozen


class Matrix(Density):
    """Base of the densities of covariance matrices: a log|S| - tr(B S) / 2 - tr(C S^-1) / 2 and a constant."""

    of = "matrix"

    def _parts(self, q):
        """a, the matrix B or 0, the matrix C or 0, and the constant."""
        raise NotImplementedError

    def _scale(self, q):
        """The scale matrix of q coefficients."""
        if self.df <= q - 1:
            raise ValueError(f"{self!r} is no density of {q} x {q} matrices: df must be above {q - 1}")
        scale = np.asarray(self.scale)
        if scale.ndim and len(scale) != q:
            raise ValueError(f"scale of {self!r} has {len(scale)} rows, but the matrix is of {q} coefficients")
        return scale if scale.ndim else scale * np.eye(q)

    def _keep_scale(self):
        what = f"scale of {type(self).__name__}"
        object.__setattr__(self, "scale", frozen(self.scale, what, 2))
        if np.ndim(self.scale) == 1:
            raise ValueError(f"{what} must be a number or a symmetric matrix, got {self.scale!r}")
        check_positive_definite(np.atleast_2d(self.scale), what)

    def check_size(self, q):
        """A ValueError unless the density can be one of q x q matrices."""
        self._parts(q)

    def has_mode_of(self, q):
        """Whether the density of q x q matrices is finite where they are singular."""
        a, _, C, _ = self._parts(q)
        return bool(a >= 0.0 or np.any(C))

    def derivatives(self, value):
        S = np.atleast_2d(np.asarray(value, dtype=float))
        q = len(S)
        a, B, C, constant = self._parts(q)
        sign, log_det = np.linalg.slogdet(S)
        if sign <= 0:
            limit = -np.inf if a > 0 or np.any(C) else np.inf if a < 0 else constant - 0.5 * np.sum(B * S)
            return limit, np.full((q,) * 2, np.nan), np.full((q,) * 4, np.nan)
        inverse = np.linalg.inv(S)
        middle = inverse @ C @ inverse if np.ndim(C) else np.zeros((q, q))
        log_density = constant + a * log_det - 0.5 * np.sum(B * S) - 0.5 * np.sum(C * inverse)
        gradient = a * inverse - 0.5 * B + 0.5 * middle
        hessian = -a * _pairs(inverse, inverse) - 0.5 * (_pairs(inverse, middle) + _pairs(middle, inverse))
        return float(log_density), gradient, hessian

    def rvs(self, size=None, random_state=None, dim=1):
        """Draws of shape (dim, dim), as `Normal.rvs`; `dim` where the scale is a number."""
        self._check_proper()
        q = len(self.scale) if np.ndim(self.scale) else dim
        drawn = self._law(self.df, self._scale(q)).rvs(1 if size is None else size, np.random.default_rng(random_state))
        return np.reshape(drawn, (q, q) if size is None else (size, q, q))


@dataclass(frozen=True)
class Wishart(Matrix):
    """Wishart density of a covariance matrix, ``scipy.stats.wishart(df, scale)``.

    Parameters
    ----------
    df : float
        Above the number of coefficients + 1 the density vanishes at singular matrices. A proper one has df above the
        number of coefficients less 1.
    scale : float, array-like of shape (q, q) or inf, default=inf
        A number is that times the identity. inf is the improper density |S| ** ((df - q - 1) / 2), without a constant,
        blme's default with df = q + 2.5.

    Examples
    --------
    >>> from sklmm.priors import Wishart
    >>> print(round(Wishart(4, 0.5).log_density([[1.0, 0.2], [0.2, 1.0]]), 4))
    -2.472
    """

    df: float
    scale: float | tuple = np.inf
    _law = staticmethod(stats.wishart)

    def __post_init__(self):
        self._set({"df": 0.0}, df=self.df)
        if not self.improper:
            self._keep_scale()

    @property
    def improper(self):
        return np.ndim(self.scale) == 0 and self.scale == np.inf

    def _parts(self, q):
        a = 0.5 * (self.df - q - 1.0)
        if self.improper:
            return a, 0.0, 0.0, 0.0
        V = self._scale(q)
        constant = -0.5 * self.df * (q * np.log(2.0) + np.linalg.slogdet(V)[1]) - multigammaln(0.5 * self.df, q)
        return a, np.linalg.inv(V), 0.0, constant


@dataclass(frozen=True)
class InverseWishart(Matrix):
    """Inverse Wishart density of a covariance matrix, ``scipy.stats.invwishart(df, scale)``.

    Parameters
    ----------
    df : float
        Above the number of coefficients less 1.
    scale : float or array-like of shape (q, q), default=1.0
        A number is that times the identity.
    """

    df: float
    scale: float | tuple = 1.0
    _law = staticmethod(stats.invwishart)

    def __post_init__(self):
        self._set({"df": 0.0}, df=self.df)
        self._keep_scale()

    def _parts(self, q):
        V = self._scale(q)
        constant = 0.5 * self.df * (np.linalg.slogdet(V)[1] - q * np.log(2.0)) - multigammaln(0.5 * self.df, q)
        return -0.5 * (self.df + q + 1.0), 0.0, V, constant


@dataclass(frozen=True)
class LKJ(Density):
    """Density of correlation matrices, proportional to |R| ** (eta - 1) (Lewandowski, Kurowicka and Joe 2009).

    Of a covariance matrix it is that of its correlations, with the derivatives in the covariances. Coefficients whose
    variance is 0 have no correlations: they count as uncorrelated, where the density is highest.

    Parameters
    ----------
    eta : float, default=1.0
        1 is uniform; above 1 correlations are drawn to 0, and the density vanishes at -1 and 1.

    Examples
    --------
    >>> from sklmm.priors import LKJ
    >>> print(round(LKJ(2).log_density([[1.0, 0.5], [0.5, 1.0]]), 4))
    -0.5754
    """

    eta: float = 1.0
    of = "correlation"

    def __post_init__(self):
        self._set({"eta": 0.0}, eta=self.eta)

    def _constant(self, q):
        k = np.arange(1, q)
        half = self.eta + 0.5 * (q - k - 1.0)
        return -float(np.sum((q - k) * ((2.0 * self.eta - 2.0 + q - k) * np.log(2.0) + betaln(half, half))))

    def derivatives(self, value):
        S = np.asarray(value, dtype=float)
        q, power = len(S), self.eta - 1.0
        gradient, hessian = np.zeros((q,) * 2), np.zeros((q,) * 4)
        on = np.flatnonzero(S.diagonal() > 0)
        if on.size < 2 or power == 0.0:
            return self._constant(q), gradient, hessian
        variance = S.diagonal()[on]
        sd = np.sqrt(variance)
        sign, log_det = np.linalg.slogdet(S[np.ix_(on, on)] / sd[:, None] / sd)
        if sign <= 0:
            return -np.inf * power, np.full_like(gradient, np.nan), np.full_like(hessian, np.nan)
        inverse = np.linalg.inv(S[np.ix_(on, on)] / sd[:, None] / sd) / sd[:, None] / sd
        gradient[np.ix_(on, on)] = power * (inverse - np.diag(1.0 / variance))
        hessian[np.ix_(on, on, on, on)] = -power * _pairs(inverse, inverse)
        hessian[on, on, on, on] += power / variance**2
        return float(self._constant(q) + power * log_det), gradient, hessian

    def rvs(self, size=None, random_state=None, dim=2):
        """Draws of correlation matrices of shape (dim, dim), as `Normal.rvs`, by their partial correlations."""
        rng, n = np.random.default_rng(random_state), 1 if size is None else size
        L = np.zeros((n, dim, dim))
        L[:, 0, 0] = 1.0
        for i in range(1, dim):
            left = np.ones(n)  # of the row's squares
            for j in range(i):
                half = self.eta + 0.5 * (dim - 2 - j)
                L[:, i, j] = (2.0 * rng.beta(half, half, n) - 1.0) * np.sqrt(left)
                left = left - L[:, i, j] ** 2
            L[:, i, i] = np.sqrt(left)
        R = L @ L.transpose(0, 2, 1)
        return R[0] if size is None else R


def _pairs(A, B):
    """The bilinear form (X, Y) -> tr(A X B Y) of symmetric matrices, as an array of four indices."""
    return 0.5 * (np.einsum("ik,jl->ijkl", A, B) + np.einsum("il,jk->ijkl", A, B))
