"""Quantities of a linear mixed model, as functions of its engine's parameters (beta, theta, log sigma).

They are those of `sklmm.inference.parameters`, which are of (beta, theta): scaled by the outcome's units, standard
deviations also by sigma.
"""

import numpy as np

from sklmm.inference.parameters import Correlation, FixedEffect, StandardDeviation


class OfLinearModel:
    """A quantity c of (beta, theta) as one of (beta, theta, log sigma): shift + scale c, or shift + scale sigma c.

    Parameters
    ----------
    quantity : FixedEffect, StandardDeviation or Correlation
    scale, shift : float
    times_sigma : bool
    """

    def __init__(self, quantity, scale=1.0, shift=0.0, times_sigma=False):
        self.quantity, self.scale, self.shift, self.times_sigma = quantity, scale, shift, times_sigma
        self.lowest, self.highest = quantity.lowest, quantity.highest
        self.limits, self.fades = quantity.limits, quantity.fades
        self.parts = ()

    def _factor(self, x):
        return self.scale * (np.exp(x[-1]) if self.times_sigma else 1.0)

    def at(self, x):
        """Value, gradient and Hessian."""
        c, dc, ddc = self.quantity.at(x[:-1])
        factor, along = self._factor(x), float(self.times_sigma)
        gradient, hessian = np.zeros(x.size), np.zeros((x.size, x.size))
        gradient[:-1], gradient[-1] = dc, along * c
        hessian[:-1, :-1] = ddc
        hessian[-1, :-1] = hessian[:-1, -1] = along * dc
        hessian[-1, -1] = along * c
        return self.shift + factor * c, factor * gradient, factor * hessian

    def off_boundary(self, x, value):
        """A point near x from which the quantity is smooth."""
        inner = self.quantity.off_boundary(x[:-1], (value - self.shift) / self._factor(x))
        return np.append(inner, x[-1])

    def to_user(self, value):
        """The value as users know it."""
        return self.quantity.to_user(value)


class ResidualDeviation:
    """sigma, the residual standard deviation."""

    lowest, highest = 0.0, np.inf
    limits = (0.0, np.inf)
    fades, parts = np.inf, ()

    def __init__(self, scale):
        self.scale = scale

    def at(self, x):
        """Value, gradient and Hessian."""
        value, unit = self.scale * np.exp(x[-1]), np.zeros(x.size)
        unit[-1] = 1.0
        return value, value * unit, value * np.outer(unit, unit)

    def off_boundary(self, x, value):
        """A point near x from which the quantity is smooth."""
        return x

    def to_user(self, value):
        """The value as users know it."""
        return value


def linear_quantity(kind, positions, units):
    """A parameter in the user's terms, as `Parameter.quantity` has it.

    Parameters
    ----------
    kind : {"fixed", "random", "sigma"}
    positions : tuple of int
        Of a fixed effect, of one random coefficient (its standard deviation) or of two (their correlation).
    units : LinearUnits
    """
    inner, scale = units.units, units.y_scale
    if kind == "sigma":
        return ResidualDeviation(scale)
    if kind == "fixed":
        shift = units.y_center if inner.fit_intercept and positions[0] == 0 else 0.0
        return OfLinearModel(FixedEffect(inner, *positions), scale, shift)
    if len(positions) == 1:
        return OfLinearModel(StandardDeviation(inner, *positions), scale, times_sigma=True)
    found = OfLinearModel(Correlation(inner, *positions))
    found.parts = tuple(linear_quantity(kind, (position,), units) for position in positions)
    return found
