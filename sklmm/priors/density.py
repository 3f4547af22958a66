"""What all densities have, and how their parameters are checked."""

from numbers import Real

import numpy as np
from scipy.special import gammaln


class Density:
    """Base of the densities.

    Attributes
    ----------
    of : {"number", "positive", "vector", "matrix", "correlation", "any"}
        What it is a density of.
    improper : bool
        Whether it does not integrate to 1.
    """

    of, improper = "number", False

    def log_density(self, value):
        """Logarithm of the density.

        Parameters
        ----------
        value : float, ndarray of numbers, of shape (k,) or of shape (q, q)
            What the density is of. Outside of where it lives the result is -inf.

        Returns
        -------
        log_density : float, or ndarray of the shape of an array of numbers
        """
        return self.derivatives(value)[0]

    def derivatives(self, value):
        """Log density, gradient and Hessian.

        Parameters
        ----------
        value : float, ndarray of numbers, of shape (k,) or of shape (q, q)

        Returns
        -------
        log_density : float or ndarray
        gradient : of the shape of the value
        hessian : of the shape of the value, twice; of numbers the second derivatives of each
        """
        raise NotImplementedError

    def rvs(self, size=None, random_state=None):
        """Draws.

        Parameters
        ----------
        size : int or None, default=None
            How many; None is one, without an axis of its own.
        random_state : int, SeedSequence, Generator or None, default=None

        Returns
        -------
        draws : float or ndarray

        Raises
        ------
        ValueError
            If the density is improper.
        """
        self._check_proper()
        return self._draw(size, np.random.default_rng(random_state))

    def _check_proper(self):
        if self.improper:
            raise ValueError(f"{self!r} is improper: there are no draws of it")

    def _set(self, least_of=None, **values):
        """Keep parameters as floats; a ValueError that names one unless it is a finite number above its bound.

        `least_of`: bounds by name; None is no bound, and one that is a tuple is allowed itself.
        """
        for name, value in values.items():
            least = (least_of or {}).get(name)
            itself, least = (True, least[0]) if isinstance(least, tuple) else (False, least)
            fits = isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(value)
            if not fits or (least is not None and (value < least or (value == least and not itself))):
                bound = "" if least is None else f" {'of at least' if itself else 'above'} {least:g}"
                raise ValueError(f"{name} of {type(self).__name__} must be a finite number{bound}, got {value!r}")
            object.__setattr__(self, name, float(value))


def t_constant(df, k):
    """Logarithm of what normalises a t density in k dimensions."""
    return gammaln(0.5 * (df + k)) - gammaln(0.5 * df) - 0.5 * k * np.log(df * np.pi)


def frozen(value, what, most_axes):
    """A number as a float, or nested tuples of floats; a ValueError for anything else."""
    try:
        values = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.ndim > most_axes or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{what} must hold finite numbers, got {value!r}")
    found = values.tolist()
    if values.ndim == 2:
        return tuple(map(tuple, found))
    return tuple(found) if values.ndim else found


def check_positive_definite(matrix, what):
    """A ValueError unless a matrix is symmetric and positive definite."""
    matrix = np.asarray(matrix)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not np.allclose(matrix, matrix.T) or np.linalg.eigvalsh(matrix)[0] <= 0:
        raise ValueError(f"{what} must be a symmetric, positive definite matrix, or a number above 0")
