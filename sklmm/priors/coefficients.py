"""Densities of coefficients: of one, and of all of them jointly."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from sklmm.priors.density import Density, check_positive_definite, frozen, t_constant


@dataclass(frozen=True)
class Normal(Density):
    """Normal density, ``scipy.stats.norm(loc, scale)``.

    Parameters
    ----------
    loc : float, default=0.0
    scale : float, default=1.0
        Standard deviation.

    Examples
    --------
    >>> from sklmm.priors import Normal
    >>> Normal(0, 2.5)
    Normal(loc=0.0, scale=2.5)
    >>> print(Normal(0, 2.5).log_density(1.0).round(4))
    -1.9152
    """

    loc: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        self._set({"scale": 0.0}, loc=self.loc, scale=self.scale)

    def log_density(self, value):
        z = (np.asarray(value) - self.loc) / self.scale
        return -0.5 * z**2 - np.log(self.scale) - 0.5 * np.log(2.0 * np.pi)

    def derivatives(self, value):
        z = (np.asarray(value) - self.loc) / self.scale
        return self.log_density(value), -z / self.scale, -(self.scale**-2) + 0.0 * z

    def _draw(self, size, rng):
        return rng.normal(self.loc, self.scale, size)


@dataclass(frozen=True)
class StudentT(Density):
    """Student's t density, ``scipy.stats.t(df, loc, scale)``.

    Parameters
    ----------
    df : float
    loc : float, default=0.0
    scale : float, default=1.0
        Not the standard deviation, which is scale * sqrt(df / (df - 2)) where df is above 2.
    """

    df: float
    loc: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        self._set({"df": 0.0, "scale": 0.0}, df=self.df, loc=self.loc, scale=self.scale)

    def log_density(self, value):
        z = (np.asarray(value) - self.loc) / self.scale
        return t_constant(self.df, 1) - np.log(self.scale) - 0.5 * (self.df + 1.0) * np.log1p(z**2 / self.df)

    def derivatives(self, value):
        z = (np.asarray(value) - self.loc) / self.scale
        size, times = self.df + z**2, -(self.df + 1.0)
        return self.log_density(value), times * z / size / self.scale, (
            times * (self.df - z**2) / size**2 / self.scale**2
        )  # fmt: skip

    def _draw(self, size, rng):
        return self.loc + self.scale * rng.standard_t(self.df, size)


@dataclass(frozen=True)
class MultivariateT(Density):
    """Joint t density of several coefficients, ``scipy.stats.multivariate_t(loc, diag(scale**2), df)``.

    Coefficients are uncorrelated, but not independent: they have their heavy tails together. R's blme has this density,
    with the squares of `scale`.

    Parameters
    ----------
    df : float
    loc : float or sequence of float, default=0.0
        One number for all, or a number a coefficient, the intercept's first.
    scale : float, sequence of float or nested sequences, default=1.0
        Likewise; two-dimensional ones are the scale matrix itself (scipy's ``shape``).

    Examples
    --------
    >>> from sklmm.priors import MultivariateT
    >>> MultivariateT(3, 0, [10, 2.5])
    MultivariateT(df=3.0, loc=0.0, scale=(10.0, 2.5))
    """

    df: float
    loc: float | tuple = 0.0
    scale: float | tuple = 1.0
    of = "vector"

    def __post_init__(self):
        self._set({"df": 0.0}, df=self.df)
        object.__setattr__(self, "loc", frozen(self.loc, "loc of MultivariateT", 1))
        object.__setattr__(self, "scale", frozen(self.scale, "scale of MultivariateT", 2))
        if np.ndim(self.scale) == 2:
            check_positive_definite(self.scale, "scale of MultivariateT")
        elif np.min(self.scale) <= 0:
            raise ValueError(f"scale of MultivariateT must be above 0, got {self.scale!r}")
        self.check_size(max([1, *self._sizes()]) if self._sizes() else 1)

    def _sizes(self):
        return [len(part) for part in (self.loc, self.scale) if np.ndim(part)]

    def check_size(self, k):
        """A ValueError unless the density can be one of k coefficients."""
        for size in self._sizes():
            if size != k:
                raise ValueError(
                    f"{self!r} has numbers for {size} coefficients, but there are {k}, the intercept included"
                )

    def _shape(self, k):
        scale = np.asarray(self.scale)
        return scale if scale.ndim == 2 else np.diag(np.broadcast_to(scale, k) ** 2)

    def derivatives(self, value):
        value = np.asarray(value, dtype=float)
        k, df = value.size, self.df
        self.check_size(k)
        shape, rest = self._shape(k), value - self.loc
        along = np.linalg.solve(shape, rest)
        squares, times = rest @ along, -(df + k)
        log_density = t_constant(df, k) - 0.5 * np.linalg.slogdet(shape)[1] + 0.5 * times * np.log1p(squares / df)
        size = df + squares
        hessian = times * (np.linalg.inv(shape) / size - 2.0 * np.outer(along, along) / size**2)
        return float(log_density), times * along / size, hessian

    def rvs(self, size=None, random_state=None, dim=1):
        """Draws, as `Normal.rvs`; `dim` is the number of coefficients where loc and scale do not tell."""
        k = max(self._sizes() or [dim])
        law = stats.multivariate_t(np.broadcast_to(self.loc, k), self._shape(k), self.df)
        drawn = law.rvs(1 if size is None else size, np.random.default_rng(random_state))
        return drawn.reshape((k,) if size is None else (size, k))
