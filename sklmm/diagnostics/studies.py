"""Simulated studies: rows of some size, outcomes drawn for them, a fit and its test."""

from dataclasses import dataclass, replace

import numpy as np

from sklmm.design.covariance import RelativeCovariance
from sklmm.design.sizes import Sample, resized
from sklmm.design.structure import Observations, Structure
from sklmm.inference.bootstrap import ParametricDraw
from sklmm.inference.linear_bootstrap import NumbersDraw
from sklmm.inference.marginal_draw import MarginalDraw


@dataclass(frozen=True)
class Study:
    """A generator of random numbers to the p-value of one simulated study, and whether its fit is singular.

    Attributes
    ----------
    observations : Observations
        The rows that studies are made of.
    structure : Structure
    draw : callable (rng, observations, structure, index) -> (observations, structure)
        Draws outcomes; `index` says which of the rows these are.
    test : callable (observations, structure, sample) -> (p-value, singular)
    size : dict of str -> int
        See `sklmm.design.sizes`.
    """

    observations: Observations
    structure: Structure
    draw: object
    test: object
    size: dict

    def __call__(self, rng):
        rows, structure, factors = self.observations, self.structure, self.structure.factors
        every = np.arange(len(rows.y))
        sample = Sample(every, rows.codes if factors else [every])
        if self.size:
            sample = resized(rng, sample, self.size, [factor.name for factor in factors])
            codes = sample.codes[: len(factors)]
            rows = replace(rows.take(sample.index), codes=codes)
            of_each = zip(factors, codes, strict=True)
            structure = replace(structure, factors=[replace(f, n_levels=int(c.max()) + 1) for f, c in of_each])
        rows, structure = self.draw(rng, rows, structure, sample.index)
        if structure.family.has_classes and rows.y.min() == rows.y.max():
            return None
        return self.test(rows, structure, sample)


@dataclass(frozen=True)
class Truth:
    """The parameters that outcomes are drawn with.

    Attributes
    ----------
    values : Series
        All of them, as users know them.
    beta : ndarray of shape (n_fixed,)
    lambdas : list of ndarray of shape (q, q)
        Factors of the covariances of the random coefficients.
    sigma : float or None
        Residual standard deviation.
    """

    values: object
    beta: np.ndarray
    lambdas: list
    sigma: float | None = None

    def thetas(self, factors):
        """Entries of the covariance factors that are triangular: those of a fit, in the user's units, need not be."""
        covariances = [RelativeCovariance(factor.blocks) for factor in factors]
        pairs = zip(covariances, self.lambdas, strict=True)
        return [cov.normal_form(Lambda)[cov.row, cov.col] for cov, Lambda in pairs]


# How outcomes are drawn --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassesDraw:
    """Of a mixed model of classes: random effects anew, then classes."""

    beta: np.ndarray
    theta: list

    def __call__(self, rng, rows, structure, index):
        return ParametricDraw(rows, structure, self.beta, self.theta)(rng)


@dataclass(frozen=True)
class MeasuredDraw:
    """Of a linear mixed model: random effects and residuals anew; `mean` is of all rows."""

    mean: np.ndarray
    lambdas: list
    sigma: float

    def __call__(self, rng, rows, structure, index):
        return NumbersDraw(rows, structure, self.mean[index], self.lambdas, self.sigma)(rng)


@dataclass(frozen=True)
class CorrelatedDraw:
    """Of a marginal model: correlated outcomes of each group; `mean`, the linear predictor, is of all rows."""

    mean: np.ndarray
    draw: MarginalDraw

    def __call__(self, rng, rows, structure, index):
        codes = rows.codes[0] if structure.factors else None
        return replace(rows, y=self.draw(rng, self.mean[index], codes, rows.times)), structure


def changed_factors(factors, covariances, changes):
    """Factors of covariance matrices in which standard deviations and correlations are replaced.

    Parameters
    ----------
    factors : list of FactorStructure
    covariances : list of ndarray of shape (q, q)
    changes : dict of tuple of int -> (str, float)
        By the position of one random coefficient, counted over the factors (a standard deviation), or of two (a
        correlation): its name and value.

    Returns
    -------
    lambdas : list of ndarray of shape (q, q)

    Raises
    ------
    ValueError
        If these are no standard deviations and correlations, or there is no covariance matrix with them.
    """
    lambdas, first = [], 0
    for factor, covariance in zip(factors, covariances, strict=True):
        q = len(covariance)
        own = {tuple(at - first for at in key): given for key, given in changes.items() if first <= key[0] < first + q}
        first += q
        structure, sd = RelativeCovariance(factor.blocks), np.sqrt(covariance.diagonal())
        scale = np.where(sd > 0, sd, 1.0)
        correlation = covariance / scale / scale[:, None]
        np.fill_diagonal(correlation, 1.0)
        for key, (name, value) in own.items():
            if len(key) == 1 and not value >= 0:
                raise ValueError(f"effects: {name} is a standard deviation, which must be >= 0, got {value!r}")
            if len(key) == 2 and not -1 <= value <= 1:
                raise ValueError(f"effects: {name} is a correlation, which must lie between -1 and 1, got {value!r}")
            if len(key) == 1:
                sd[key] = value
            else:
                correlation[key] = correlation[key[::-1]] = value
        Lambda = np.zeros((q, q))
        for block, correlated in structure.blocks:
            values, vectors = np.linalg.eigh(correlation[block, block])
            if values[0] < -1e-10:
                raise ValueError(
                    f"effects: the correlations of the random coefficients of {factor.name} contradict each other: no "
                    "random coefficients have all of them"
                )
            root = vectors * np.sqrt(np.maximum(values, 0.0)) if correlated else np.eye(len(values))
            Lambda[block, block] = sd[block, None] * root
        lambdas.append(structure.normal_form(Lambda))
    return lambdas
