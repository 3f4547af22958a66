"""The priors of a model: log density, gradient and Hessian at coefficients, covariances and a residual deviation.

`ModelPriors` is a function of the user's parameters, in the user's units: beta, the covariance matrix D of the random
coefficients (block diagonal over all terms of all factors), and sigma, of linear models. Its log density is that of
the quantities that the densities are of, a standard deviation, a variance, a matrix, without any Jacobian: the mode of
likelihood times prior is that of R's blme. `PriorPenalty` is the same as a function of an engine's parameters.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sklmm.design.units import Units


@dataclass(frozen=True, eq=False)
class OfEffects:
    """A density of linear combinations of the fixed effects.

    Attributes
    ----------
    name : str
        Of what it is a density, such as "age".
    density : Density
        Of a number, or of a vector.
    weights : ndarray of shape (k, n_fixed)
        The combinations are weights @ beta; k is 1 for a number.
    """

    name: str
    density: object
    weights: np.ndarray

    def derivatives(self, beta):
        """Log density, gradient and Hessian in beta."""
        W, value = self.weights, self.weights @ beta
        if self.density.of == "vector":
            found, slope, curvature = self.density.derivatives(value)
            return found, W.T @ slope, W.T @ curvature @ W
        found, slope, curvature = self.density.derivatives(float(value[0]))
        return float(found), float(slope) * W[0], float(curvature) * np.outer(W[0], W[0])


@dataclass(frozen=True, eq=False)
class OfTerm:
    """A density of the covariance of random coefficients.

    Attributes
    ----------
    name : str
        Of what, such as "sd_age|district".
    kind : {"sd", "variance", "covariance", "correlation"}
    density : Density
    positions : tuple of int
        Of the coefficients, counted over all factors; one for standard deviations and variances.
    """

    name: str
    kind: str
    density: object
    positions: tuple

    def derivatives(self, D):
        """Log density, gradient and Hessian in the part of the covariance matrix D at the positions."""
        part = D[np.ix_(self.positions, self.positions)]
        if self.kind in ("covariance", "correlation"):
            return self.density.derivatives(part)
        v = float(part[0, 0])
        found = self.density.derivatives(v) if self.kind == "variance" else self.density.of_square(v)
        return float(found[0]), np.full((1, 1), float(found[1])), np.full((1, 1, 1, 1), float(found[2]))

    def log_density(self, D):
        part = D[np.ix_(self.positions, self.positions)]
        if self.kind in ("covariance", "correlation"):
            return self.density.log_density(part)
        v = part[0, 0]
        return float(self.density.log_density(v if self.kind == "variance" else np.sqrt(v)))

    def log_jacobian(self, sds):
        """log |d(what the density is of) / d(standard deviations, correlations)|."""
        if self.kind in ("sd", "correlation"):
            return 0.0
        q = len(self.positions)
        with np.errstate(divide="ignore"):
            return q * np.log(2.0) + q * float(np.log(sds[list(self.positions)]).sum())


@dataclass(frozen=True)
class PriorPoint:
    """The priors at a point: log density, and its derivatives in the user's parameters, which do not mix.

    Attributes
    ----------
    value : float
    beta, beta2 : ndarray of shape (n,), (n, n)
    covariance, covariance2 : ndarray of shape (q, q), (q, q, q, q)
        In the entries of the covariance matrix D: of a symmetric change E the first derivative is sum(covariance * E).
    sigma, sigma2 : float
    """

    value: float
    beta: np.ndarray
    beta2: np.ndarray
    covariance: np.ndarray
    covariance2: np.ndarray
    sigma: float = 0.0
    sigma2: float = 0.0


@dataclass(frozen=True, eq=False)
class ModelPriors:
    """All priors of one model; what has none has a flat one.

    Attributes
    ----------
    chosen : str or dict
        As the user wrote it: "weak", or a dict of densities.
    effects : tuple of OfEffects
    terms : tuple of OfTerm
    residual : Density or None
        Of sigma, the residual standard deviation.
    flat : tuple of str
        Parameters, by the names of `conf_int`, whose prior is improper: there is no evidence of such a model.
    """

    chosen: object
    effects: tuple = ()
    terms: tuple = ()
    residual: object = None
    flat: tuple = ()

    @property
    def improper(self):
        """Whether some parameter has no proper prior."""
        return bool(self.flat)

    def log_density(self, beta, D, sigma=None, *, of_deviations=False):
        """Logarithm of the prior density.

        Parameters
        ----------
        beta : ndarray of shape (n_fixed,)
            Fixed effects in the user's units, the intercept first.
        D : ndarray of shape (q, q)
            Covariance of the random coefficients, block diagonal over terms, in the order of `conf_int`'s names.
        sigma : float or None
            Residual standard deviation of a linear model.
        of_deviations : bool, default=False
            Whether as a density of (beta, standard deviations, correlations, sigma), with the Jacobians that priors of
            variances and covariance matrices need for it; else of what each density is of, whose mode a fit is.

        Returns
        -------
        float
        """
        total = sum(_number(each.density.log_density(_value(each, beta))) for each in self.effects)
        total += sum(each.log_density(D) for each in self.terms)
        if self.residual is not None:
            total += _number(self.residual.log_density(sigma))
        if of_deviations:
            sds = np.sqrt(np.diagonal(D))
            total += sum(each.log_jacobian(sds) for each in self.terms)
        return float(total)

    def at(self, beta, D, sigma=None):
        """Log density and derivatives, without Jacobians: `PriorPoint`.

        Standard deviations of 0 are ordinary points of densities that are finite there. What is rounded off where a
        density of a standard deviation has a slope at 0 is below 1e-6.
        """
        n, q, value = len(beta), len(D), 0.0
        gradient, hessian = np.zeros(n), np.zeros((n, n))
        of_D, of_D2 = np.zeros((q, q)), np.zeros((q,) * 4)
        for each in self.effects:
            found, slope, curvature = each.derivatives(beta)
            value, gradient, hessian = value + found, gradient + slope, hessian + curvature
        for each in self.terms:
            found, slope, curvature = each.derivatives(D)
            at = each.positions
            value += found
            of_D[np.ix_(at, at)] += slope
            of_D2[np.ix_(at, at, at, at)] += curvature
        found = (0.0, 0.0, 0.0) if self.residual is None else map(float, self.residual.derivatives(sigma))
        of_sigma = list(found)
        return PriorPoint(value + of_sigma[0], gradient, hessian, of_D, of_D2, *of_sigma[1:])

    def bounds(self, n_fixed):
        """Mask of the fixed effects that a proper prior keeps from infinity."""
        proper = [each.weights for each in self.effects if not each.density.improper]
        if not proper:
            return np.zeros(n_fixed, dtype=bool)
        W = np.vstack(proper)
        inside = W.T @ np.linalg.pinv(W.T, rcond=1e-12)  # the projection on what the priors tell
        return np.abs(np.diagonal(inside) - 1.0) < 1e-8

    def without_effects(self, positions):
        """The priors of the model without some fixed effects, which are held at 0 since the data do not tell them."""
        held = np.zeros(0, dtype=bool) if not self.effects else np.zeros(self.effects[0].weights.shape[1], dtype=bool)
        held[[j for j in positions if held.size]] = True
        kept = tuple(each for each in self.effects if each.weights[:, ~held].any())
        return replace(self, effects=kept)

    def check_mode(self):
        """A ValueError where a density is infinite at the end of its range: then that would be the mode."""
        for each in self.terms:
            q, density = len(each.positions), each.density
            lost = density.eta < 1.0 if density.of == "correlation" else (
                not density.has_mode_of(q) if density.of == "matrix" else not density.has_mode
            )  # fmt: skip
            if lost:
                where = "-1 and 1" if density.of == "correlation" else "0"
                raise ValueError(
                    f"{density!r}, the prior of {each.name}, is infinite at {where}, which would be the mode whatever "
                    "the data are. Take a shape, df or eta that is larger"
                )

    def units(self, observations, structure):
        """The units of an engine: any (None), but for priors of correlations, which are not those of centred columns.

        A random intercept's correlation depends on where the slope's column is counted from.
        """
        if not any(each.kind == "correlation" for each in self.terms):
            return None
        units = Units.of(observations, structure)
        centred, scale = units.z_center != 0.0, units.z_inv_scale.copy()
        if not centred.any():
            return units
        X, weights = observations.X[:, units.columns[centred]].astype(np.float64), observations.weights
        scale[centred] = 1.0 / np.sqrt(np.average(X**2, axis=0, weights=weights))
        return replace(units, z_center=np.zeros_like(units.z_center), z_inv_scale=scale)

    def penalty(self, engine):
        """The priors as a penalty of an engine, see `Penalised`."""
        return PriorPenalty(self, engine)

    def to_frame(self):
        """What each density is of, in a data frame: a row a prior."""
        rows = [(each.name, repr(each.density)) for each in (*self.effects, *self.terms)]
        rows += [] if self.residual is None else [("sigma", repr(self.residual))]
        return pd.DataFrame(rows, columns=["of", "density"]).set_index("of")

    def __repr__(self):
        return self.to_frame().to_string()

    def told(self):
        """The priors in words, for a summary."""
        if isinstance(self.chosen, str):
            return f"{self.chosen!r}, see priors_"
        return "; ".join(f"{name}: {density!r}" for name, density in self.chosen.items())


def _value(effect, beta):
    value = effect.weights @ beta
    return value if effect.density.of == "vector" else float(value[0])


def _number(value):
    return float(np.asarray(value))


class PriorPenalty:
    """The priors as a penalty: a function of an engine's parameters x, through the user's.

    Parameters
    ----------
    priors : ModelPriors
    engine : Engine
        Of a linear model with log sigma as its last parameter.

    Attributes
    ----------
    sigma_factor : float
        What the user's residual standard deviation is of the engine's.
    """

    informs, constant, sigma_factor = True, 0.0, 1.0

    def __init__(self, priors, engine):
        units = engine.units
        self.linear = hasattr(units, "y_scale")
        inner = units.units if self.linear else units
        self.scale = units.y_scale if self.linear else 1.0
        n_effects = inner.n_fixed - engine.structure.slopes_only
        n_slopes, self.n_fixed = inner.p - engine.structure.slopes_only, inner.n_fixed
        first = int(inner.fit_intercept)
        self.priors = priors.without_effects(first + np.flatnonzero(engine.aliased[:n_slopes]))
        self.to_beta = self.scale * inner.fixed_map()[:n_effects]
        shift = -self.scale * inner.fixed_shift()[:n_effects]
        if self.linear and first:
            shift[0] += units.y_center
        self.shift, self.n_params = shift, engine.n_params
        proper = [each.weights for each in self.priors.effects if not each.density.improper]
        self.held_back = np.vstack(proper) @ self.to_beta if proper else None
        self.has_factors = bool(engine.structure.factors)
        covariance, T = inner.covariance, inner.random_map()
        self.powers = self._powers(covariance) if self.has_factors else None
        self.T, self.lambda_, self.m = T, covariance.lambda_, covariance.m
        self.moves = np.zeros((covariance.m, covariance.q, covariance.q))  # d(factor of D) / d(theta)
        self.moves[np.arange(covariance.m), :, covariance.col] = T[:, covariance.row].T
        self.second = np.einsum("lac,mbc->lmab", self.moves, self.moves)
        self.second = self.second + self.second.transpose(0, 1, 3, 2)

    def _powers(self, covariance):
        """eta - 1 of the entries of theta that correlations with a prior are made of, see `Polar`; None without."""
        powers = np.full(covariance.m, np.nan)
        for each in self.priors.terms:
            if each.kind == "correlation":
                of_term = np.isin(covariance.row, each.positions)
                powers[of_term] = np.where(covariance.diagonal, 0.0, each.density.eta - 1.0)[of_term]
        return None if np.isnan(powers).all() else powers

    @property
    def without_correlations(self):
        """The penalty of all but the correlations."""
        other = copy.copy(self)
        kept = tuple(each for each in self.priors.terms if each.kind != "correlation")
        constants = [each.density.log_density(np.eye(len(each.positions))) for each in self.priors.terms
                     if each.kind == "correlation"]  # fmt: skip
        other.priors = replace(self.priors, terms=kept)
        other.constant, other.powers = float(np.sum(constants)), None
        return other

    def of_user(self, x):
        """beta, D and sigma (None of other than linear models) at x."""
        theta = x[self.n_fixed : self.n_fixed + self.m]
        size = self.scale * np.exp(x[-1]) if self.linear else 1.0
        factor = size * (self.T @ self.lambda_(theta))
        D = factor @ factor.T if self.has_factors else np.zeros((0, 0))
        sigma = self.sigma_factor * size if self.linear else None
        return self.to_beta @ x[: self.n_fixed] + self.shift, D, sigma

    def derivatives(self, x):
        """Log density, gradient and Hessian at x.

        Raises
        ------
        FloatingPointError
            Where the density is 0.
        """
        beta, D, sigma = self.of_user(x)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            point = self.priors.at(beta, D, sigma)
        if not np.isfinite(point.value):
            raise FloatingPointError("the prior density has no logarithm here")
        gradient, hessian = np.zeros(self.n_params), np.zeros((self.n_params, self.n_params))
        fixed, to_beta = slice(0, self.n_fixed), self.to_beta
        gradient[fixed] = to_beta.T @ point.beta
        hessian[fixed, fixed] = to_beta.T @ point.beta2 @ to_beta
        if self.has_factors:
            self._add_covariance(x, point, D, gradient, hessian)
        if self.linear:  # d sigma / d log sigma = sigma
            gradient[-1] += point.sigma * sigma
            hessian[-1, -1] += point.sigma2 * sigma**2 + point.sigma * sigma
        return point.value + self.constant, gradient, hessian

    def _add_covariance(self, x, point, D, gradient, hessian):
        """The part of D, which is quadratic in theta, and exp(2 log sigma) times that in a linear model."""
        theta = slice(self.n_fixed, self.n_fixed + self.m)
        size = (self.scale * np.exp(x[-1])) ** 2 if self.linear else 1.0
        half = size * np.einsum("lac,bc->lab", self.moves, self.T @ self.lambda_(x[theta]))
        first = half + half.transpose(0, 2, 1)
        second = np.einsum("ab,lmab->lm", point.covariance, size * self.second)
        along = np.einsum("lab,abcd->lcd", first, point.covariance2)
        gradient[theta] = np.einsum("ab,lab->l", point.covariance, first)
        hessian[theta, theta] = second + np.einsum("lcd,mcd->lm", along, first)
        if self.linear:
            gradient[-1] += 2.0 * np.sum(point.covariance * D)
            hessian[-1, -1] += 4.0 * np.sum(point.covariance * D) + 4.0 * np.einsum(
                "ab,abcd,cd->", D, point.covariance2, D
            )
            across = 2.0 * gradient[theta] + 2.0 * np.einsum("lcd,cd->l", along, D)
            hessian[theta, -1] = hessian[-1, theta] = across

    def added(self, x, value, gradient, hessian, share):
        """A function's value, gradient and Hessian at x, or None for the last, with a share of the priors added."""
        found, slope, curvature = self.derivatives(x)
        if hessian is not None:
            hessian = hessian + share * curvature
        return value + share * found, gradient + share * slope, hessian
