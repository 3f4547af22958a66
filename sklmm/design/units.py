"""The user's parameters and the engines': columns of X are centred and scaled, random-effect columns scaled, offsets
centred, so that neither conditioning nor starting values depend on units."""

from dataclasses import dataclass, field, replace

import numpy as np

from sklmm.design.aliasing import CHUNK_ROWS, SAMPLE_ROWS
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.structure import FactorStructure, Structure


@dataclass(frozen=True)
class EffectUnits:
    """The units in which one factor's random effects are independent standard normals: z'b = t'u.

    The loadings t = Lambda'z come from centred and scaled columns. From the user's, z'Cov(b)z would be a small
    difference of huge numbers wherever a feature is far from 0, as times in seconds are.

    Attributes
    ----------
    columns : list of int
        Column of X for each random coefficient, -1 for the intercept.
    center, inv_scale : ndarray of shape (q,)
        Of the columns.
    to_natural : ndarray of shape (q, q)
        Coefficients of the user's columns from those of these.
    Lambda : ndarray of shape (q, q)
        Relative covariance factor of the coefficients of these columns.
    """

    columns: list
    center: np.ndarray
    inv_scale: np.ndarray
    to_natural: np.ndarray
    Lambda: np.ndarray

    @property
    def natural(self):
        """The coefficients of the user's columns are natural @ u, (q, q)."""
        return self.to_natural @ self.Lambda

    def design(self, X):
        """The centred and scaled columns of rows of X, (n, q)."""
        Z = np.ones((X.shape[0], len(self.columns)))
        for a, column in enumerate(self.columns):
            if column >= 0:
                Z[:, a] = (X[:, column] - self.center[a]) * self.inv_scale[a]
        return Z

    def loadings(self, X):
        """t = Lambda'z of rows of X, (n, q)."""
        return self.design(X) @ self.Lambda


@dataclass(frozen=True, eq=False)
class Units:
    """Parameters as engines have them, and as users know them.

    Internal parameters are the slopes, the intercept if there is one, and theta, all of centred and scaled columns;
    natural ones are the intercept if any, the slopes and theta, in the user's units. What the rows have to do with it
    is in the centres and scales: parts of the rows, or other rows, can be given the units of all.

    Attributes
    ----------
    p : int
        Columns of X.
    fit_intercept : bool
    columns : ndarray of int
        Column of X for each random coefficient, over all factors; -1 for the intercept.
    covariance : RelativeCovariance
        Of all factors; without factors that of an intercept, whose theta is held at 0.
    center, inv_scale : ndarray
        Of the columns of X, padded to whole vectors.
    z_center, z_inv_scale : ndarray
        Of the columns of all random coefficients.
    offset_center : float
        Of the offset: the internal intercept has taken it in, so that what is common to all rows costs no digits. 0
        without an intercept.
    """

    p: int
    fit_intercept: bool
    columns: np.ndarray
    covariance: RelativeCovariance
    center: np.ndarray
    inv_scale: np.ndarray
    z_center: np.ndarray
    z_inv_scale: np.ndarray
    offset_center: float = 0.0

    @classmethod
    def plain(cls, p, structure):
        """The user's own units, for p columns of X."""
        factors = structure.factors or [FactorStructure(1, [-1], [(1, True)])]
        columns = np.array([column for factor in factors for column in factor.columns], dtype=np.int64)
        covariance = RelativeCovariance([block for factor in factors for block in factor.blocks])
        padded = max(8, (p + 7) // 8 * 8)
        inv_scale = np.append(np.ones(p), np.zeros(padded - p))
        own = np.zeros(padded), inv_scale, np.zeros(columns.size), np.ones(columns.size)
        return cls(p, bool(structure.fit_intercept), columns, covariance, *own)

    @classmethod
    def of(cls, observations, structure):
        """Units that suit these rows."""
        X, weights = observations.X, observations.weights
        plain = cls.plain(X.shape[1], structure)
        offset_center = center_of_offset(observations.offset, weights, plain.fit_intercept)
        if plain.p == 0:
            return replace(plain, offset_center=offset_center)
        sample, share = row_sample(X, weights)
        scales = column_scales(sample, share, plain.fit_intercept, X, weights)
        z_center, z_inv_scale = plain.z_center.copy(), plain.z_inv_scale.copy()
        size = np.sqrt(share @ sample**2)
        for block, correlated in plain.covariance.blocks:
            columns = plain.columns[block]
            # beside a correlated intercept a slope may be counted from anywhere: it is the same model
            # (from the mean of all rows: quadrature's error, though not the model, depends on it)
            centred = correlated and (columns < 0).any()
            for a, column in enumerate(columns, start=block.start):
                if column < 0:
                    continue
                center = np.average(X[:, column], weights=weights) if centred else 0.0
                scale = np.sqrt(share @ (sample[:, column] - center) ** 2)
                if scale > 1e-12 * size[column]:
                    z_center[a], z_inv_scale[a] = center, 1.0 / scale
        return cls(plain.p, plain.fit_intercept, plain.columns, plain.covariance, *scales, z_center, z_inv_scale,
                   offset_center)  # fmt: skip

    @property
    def n_fixed(self):
        return self.p + self.fit_intercept

    @property
    def n_params(self):
        return self.n_fixed + self.covariance.m

    def farthest(self, X, step):
        """How far a step in the fixed effects moves the linear predictor of some row of X at most."""
        return largest_move(X, self.center, self.inv_scale, step)

    def spread(self, X, step):
        """How far apart a step in the fixed effects moves linear predictors along each column of X."""
        return np.ptp(X, axis=0) * np.abs(self.inv_scale[: self.p] * step[: self.p])

    def fixed_map(self):
        """d(natural)/d(internal) of the fixed effects."""
        return natural_map(self.center, self.inv_scale, self.p, self.fit_intercept)

    def fixed_shift(self):
        """What fixed_map() @ internal is above the natural fixed effects: the centre of the offset, in the
        intercept."""
        shift = np.zeros(self.n_fixed)
        shift[: int(self.fit_intercept)] = self.offset_center
        return shift

    def centred(self, offset, n_rows):
        """The offset of rows (None: 0) as it stands beside internal parameters; None where that is 0 in all of them."""
        if offset is None:
            return np.full(n_rows, -self.offset_center) if self.offset_center else None
        return offset - self.offset_center

    def random_map(self):
        """Natural random coefficients from internal ones, (q, q)."""
        T = np.diag(self.z_inv_scale)
        for block, _ in self.covariance.blocks:
            intercept = block.start + np.flatnonzero(self.columns[block] < 0)
            T[intercept, block] -= (self.z_center * self.z_inv_scale)[block]
        return T

    def standard_deviations(self, x):
        """Of all random coefficients, in the user's units."""
        return np.linalg.norm(self.random_map() @ self.covariance.lambda_(x[self.n_fixed :]), axis=1)

    def jacobian(self, x):
        """d(natural)/d(internal) at x; natural are the intercept if any, the slopes and theta, in the user's units."""
        J = np.zeros((self.n_params, self.n_params))
        J[: self.n_fixed, : self.n_fixed] = self.fixed_map()
        T = self.random_map()
        factor = T @ self.covariance.lambda_(x[self.n_fixed :])
        for entry in range(self.covariance.m):
            change = T @ self.covariance.lambda_(np.eye(self.covariance.m)[entry])
            J[self.n_fixed :, self.n_fixed + entry] = self.covariance.normal_jacobian(factor, change)
        return J

    def natural(self, x):
        """(beta, theta) in the user's units."""
        covariance, T = self.covariance, self.random_map()
        Lambda = covariance.lambda_(x[self.n_fixed :])
        if np.triu(T, 1).any():  # quadrature's value depends on the factor, which `internal` is to find again
            Lambda = covariance.with_pivots(Lambda)
        Lambda = covariance.normal_form(T @ Lambda)
        beta = self.fixed_map() @ x[: self.n_fixed] - self.fixed_shift()
        return beta, Lambda[covariance.row, covariance.col]

    def internal(self, beta, theta):
        """Internal parameters of (beta, theta)."""
        covariance = self.covariance
        Lambda = covariance.normal_form(np.linalg.solve(self.random_map(), covariance.lambda_(theta)))
        fixed = np.linalg.solve(self.fixed_map(), beta + self.fixed_shift())
        return np.append(fixed, Lambda[covariance.row, covariance.col])

    def effect_units(self, x, sizes):
        """`EffectUnits` of each factor; `sizes` are their numbers of coefficients."""
        Lambda, T, found, first = self.covariance.lambda_(x[self.n_fixed :]), self.random_map(), [], 0
        for size in sizes:
            own = slice(first, first + size)
            scales = self.z_center[own], self.z_inv_scale[own]
            found.append(EffectUnits(self.columns[own].tolist(), *scales, T[own, own], Lambda[own, own]))
            first += size
        return found


@dataclass(frozen=True, eq=False)
class FitUnits:
    """The units and the parameters of a fit, as the engines have them.

    Attributes
    ----------
    units : Units
    x : ndarray
        Slopes of all columns, the intercept if there is one, and theta.
    n_slopes : int
        Columns of X that are fixed effects: the first ones.
    covariance : ndarray or None
        Of x without the slopes of columns that are no fixed effects; 0 for parameters that are held.
    """

    units: Units
    x: np.ndarray
    n_slopes: int
    covariance: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of_intercepts(cls, intercept, sd):
        """Of a model of a random intercept without features."""
        return cls(Units.plain(0, Structure([])), np.array([intercept, sd]), 0)

    @property
    def fit_intercept(self):
        return self.units.fit_intercept

    def linear_predictor(self, X, offset=None):
        """Fixed part of the linear predictor of rows of X."""
        eta, centred = self.design(X) @ self.beta, self.units.centred(offset, len(X))
        return eta if centred is None else eta + centred

    @property
    def beta(self):
        """Of x, the slopes of columns that are fixed effects, and the intercept."""
        return np.delete(self.x[: self.units.n_fixed], np.arange(self.n_slopes, self.units.p))

    def natural_map(self):
        """d(natural)/d(internal) of the fixed effects; natural ones begin, internal ones end with the intercept."""
        return natural_map(self.units.center, self.units.inv_scale, self.n_slopes, self.fit_intercept)

    def design(self, X):
        """Centred and scaled columns of rows of X that are fixed effects, and the intercept's."""
        p, units = self.n_slopes, self.units
        E = np.ones((X.shape[0], p + self.fit_intercept))
        E[:, :p] = (X[:, :p] - units.center[:p]) * units.inv_scale[:p]
        return E


def row_sample(X, sample_weight):
    """About 1,000 rows and their shares of the weight: as counts here, too, as the path of a fit depends on them."""
    every = max(1, X.shape[0] // SAMPLE_ROWS)
    sample = X[::every].astype(np.float64)
    share = np.ones(len(sample)) if sample_weight is None else sample_weight[::every]
    return sample, share / share.sum() if share.any() else np.full(len(share), 1 / len(share))


def column_scales(sample, share, fit_intercept, X, sample_weight):
    """Centre (0 without an intercept to absorb it) and inverse scale of each column, padded to a multiple of 8.

    Columns without spread in the sample, such as indicators of rare categories, are looked at in all rows of X.
    """
    p = sample.shape[1]
    padded = max(8, (p + 7) // 8 * 8)
    center, inv_scale = np.zeros(padded), np.zeros(padded)

    def moments(rows, weight):
        middle = weight @ rows if fit_intercept else np.zeros(rows.shape[1])
        return middle, np.sqrt(weight @ (rows - middle) ** 2), np.sqrt(weight @ rows**2)

    center[:p], spread, size = moments(sample, share)
    for j in np.flatnonzero(spread <= 1e-12 * size) if len(sample) < X.shape[0] else ():
        weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        column = X[:, j : j + 1].astype(np.float64)
        (center[j],), (spread[j],), (size[j],) = moments(column, weight / weight.sum())
    # a constant column has no spread but rounding error; its size keeps it from being blown up
    spread = np.where(spread > 1e-12 * size, spread, size)
    inv_scale[:p] = 1.0 / np.where(spread > 0, spread, 1.0)
    return center, inv_scale


def center_of_offset(offset, sample_weight, fit_intercept):
    """What an intercept takes in of an offset: its mean; 0 without either."""
    return 0.0 if offset is None or not fit_intercept else float(np.average(offset, weights=sample_weight))


def natural_map(center, inv_scale, p, fit_intercept):
    """d(natural)/d(internal) of the fixed effects: internal are the standardised slopes and then the intercept, natural
    the intercept and then the slopes in the user's units."""
    k = int(fit_intercept)
    J = np.zeros((p + k, p + k))
    J[k:, :p] = np.diag(inv_scale[:p])
    if k:
        J[0, :p] = -inv_scale[:p] * center[:p]
        J[0, p] = 1.0
    return J


def largest_move(X, center, inv_scale, step):
    """How far a step in standardised coefficients, that of the intercept (if any) behind the slopes, moves the linear
    predictor of some row at most."""
    p = X.shape[1]
    slopes = inv_scale[:p] * step[:p]
    shift = step[p:].sum() - slopes @ center[:p]
    return max((np.abs(X[first : first + CHUNK_ROWS] @ slopes + shift).max() for first in range(0, len(X), CHUNK_ROWS)),
               default=0.0)
