"""Densities of positive numbers: standard deviations and variances."""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from sklmm.priors.coefficients import StudentT
from sklmm.priors.density import Density

KINK = 1e-6  # of a density's own scale: what is rounded off a density of roots, where it has a kink at 0


class Positive(Density):
    """Base of the densities of positive numbers.

    Attributes
    ----------
    has_mode : bool
        Whether the density is finite at 0.
    """

    of, has_mode = "positive", True

    def log_density(self, value):
        value = np.asarray(value, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(value >= 0, self._log(np.abs(value)), -np.inf)[()]

    def of_square(self, v):
        """Log density of sqrt(v), and its two derivatives in v: a standard deviation's in terms of its variance.

        Where the density has a slope at 0 this has a kink there as a function of signed standard deviations, which is
        rounded off: over 1e-6 of the density's scale.

        Parameters
        ----------
        v : float, not below 0

        Returns
        -------
        log_density, first, second : float
        """
        raise NotImplementedError


@dataclass(frozen=True)
class HalfNormal(Positive):
    """Normal density of positive numbers, ``scipy.stats.halfnorm(scale=scale)``.

    Parameters
    ----------
    scale : float, default=1.0
    """

    scale: float = 1.0

    def __post_init__(self):
        self._set({"scale": 0.0}, scale=self.scale)

    def _log(self, value):
        return 0.5 * np.log(2.0 / np.pi) - np.log(self.scale) - 0.5 * (value / self.scale) ** 2

    def derivatives(self, value):
        value = np.asarray(value, dtype=float)
        return self.log_density(value), -value / self.scale**2, -(self.scale**-2) + 0.0 * value

    def of_square(self, v):
        return float(self._log(np.sqrt(v))), -0.5 / self.scale**2, 0.0

    def _draw(self, size, rng):
        return np.abs(rng.normal(0.0, self.scale, size))


@dataclass(frozen=True)
class HalfStudentT(Positive):
    """Student's t density of positive numbers: twice ``scipy.stats.t(df, scale=scale)`` above 0.

    Parameters
    ----------
    df : float
    scale : float, default=1.0
    """

    df: float
    scale: float = 1.0

    def __post_init__(self):
        self._set({"df": 0.0, "scale": 0.0}, df=self.df, scale=self.scale)

    @property
    def _whole(self):
        return StudentT(self.df, 0.0, self.scale)

    def _log(self, value):
        return np.log(2.0) + self._whole.log_density(value)

    def derivatives(self, value):
        return self.log_density(value), *self._whole.derivatives(value)[1:]

    def of_square(self, v):
        size, half = self.df * self.scale**2 + v, 0.5 * (self.df + 1.0)
        return float(self._log(np.sqrt(v))), -half / size, half / size**2

    def _draw(self, size, rng):
        return self.scale * np.abs(rng.standard_t(self.df, size))


@dataclass(frozen=True)
class Gamma(Positive):
    """Gamma density, ``scipy.stats.gamma(shape, scale=1 / rate)``.

    Parameters
    ----------
    shape : float
        Above 1 the density vanishes at 0: a standard deviation's mode is then above 0.
    rate : float, default=0.0
        0 is the improper density value ** (shape - 1), without a constant.
    """

    shape: float
    rate: float = 0.0

    def __post_init__(self):
        self._set({"shape": 0.0, "rate": (0.0,)}, shape=self.shape, rate=self.rate)

    @property
    def improper(self):
        return self.rate == 0.0

    @property
    def has_mode(self):
        return self.shape >= 1.0

    @property
    def _constant(self):
        return 0.0 if self.improper else self.shape * np.log(self.rate) - gammaln(self.shape)

    def _log(self, value):
        power = (self.shape - 1.0) * np.log(value) if self.shape != 1.0 else 0.0
        return self._constant + power - self.rate * value

    def derivatives(self, value):
        value, power = np.asarray(value, dtype=float), self.shape - 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            slope, curvature = (power / value, -power / value**2) if power else (0.0 * value, 0.0 * value)
        return self.log_density(value), slope - self.rate, curvature

    def of_square(self, v):
        value, first, second, power = self._constant, 0.0, 0.0, 0.5 * (self.shape - 1.0)
        if power:
            if v <= 0.0:
                return -np.inf * power, np.inf * power, -np.inf * power
            value, first, second = value + power * np.log(v), power / v, -power / v**2
        if self.rate:
            root = np.sqrt(v + (KINK / self.rate) ** 2)
            value, first = value - self.rate * root, first - 0.5 * self.rate / root
            second += 0.25 * self.rate / root**3
        return float(value), first, second

    def _draw(self, size, rng):
        return rng.gamma(self.shape, 1.0 / self.rate, size)


@dataclass(frozen=True)
class Exponential(Positive):
    """Exponential density, ``scipy.stats.expon(scale=1 / rate)``.

    Parameters
    ----------
    rate : float, default=1.0
    """

    rate: float = 1.0

    def __post_init__(self):
        self._set({"rate": 0.0}, rate=self.rate)

    def log_density(self, value):
        return Gamma(1.0, self.rate).log_density(value)

    def derivatives(self, value):
        return Gamma(1.0, self.rate).derivatives(value)

    def of_square(self, v):
        return Gamma(1.0, self.rate).of_square(v)

    def _draw(self, size, rng):
        return rng.exponential(1.0 / self.rate, size)


@dataclass(frozen=True)
class InverseGamma(Positive):
    """Inverse gamma density, ``scipy.stats.invgamma(shape, scale=scale)``.

    Parameters
    ----------
    shape : float
    scale : float, default=1.0
    """

    shape: float
    scale: float = 1.0

    def __post_init__(self):
        self._set({"shape": 0.0, "scale": 0.0}, shape=self.shape, scale=self.scale)

    def _log(self, value):
        constant = self.shape * np.log(self.scale) - gammaln(self.shape)
        found = constant - (self.shape + 1.0) * np.log(value) - self.scale / value
        return np.where(value > 0.0, found, -np.inf)

    def derivatives(self, value):
        value, power = np.asarray(value, dtype=float), self.shape + 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            first = -power / value + self.scale / value**2
            return self.log_density(value), first, power / value**2 - 2.0 * self.scale / value**3

    def of_square(self, v):
        if v <= 0.0:
            return -np.inf, np.inf, -np.inf
        half, root = 0.5 * (self.shape + 1.0), np.sqrt(v)
        first = -half / v + 0.5 * self.scale / root**3
        return float(self._log(root)), first, half / v**2 - 0.75 * self.scale / root**5

    def _draw(self, size, rng):
        return 1.0 / rng.gamma(self.shape, 1.0 / self.scale, size)


@dataclass(frozen=True)
class Flat(Positive):
    """The improper density 1, of anything: what is without a prior has it."""

    of, improper = "any", True

    def log_density(self, value):
        return 0.0

    def derivatives(self, value):
        value = np.asarray(value, dtype=float)
        return 0.0, np.zeros(value.shape), np.zeros(value.shape * 2)

    def of_square(self, v):
        return 0.0, 0.0, 0.0
