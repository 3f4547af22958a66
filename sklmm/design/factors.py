"""From random-effects terms to what the engine works on, and the fitted random effects of one factor.

A *factor* is one partition of the rows (``district``, ``urban:district``); all terms on it share its codes.
Everything here handles a list of factors: how many the engine can fit is the engine's business.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sklmm.design.grouping import interact
from sklmm.design.random_effects import parse_random_effects, term_names, unknown_name_error
from sklmm.design.structure import FactorStructure


@dataclass
class Factor:
    """One grouping factor of a model; after the fit also its levels and their random effects.

    Attributes
    ----------
    name : str
        The factor as written, "urban:district".
    sources : tuple of str
        The columns whose labels make the factor.
    terms : list of (str, list of str)
        Name and coefficient names of each term on the factor.
    blocks : list of (int, bool)
        Size and "is correlated" of each term's covariance.
    columns : list of int
        The column of X that multiplies each random coefficient, over all terms; -1 is the intercept.
    levels : pandas.Index
        Labels, in the order of the rows of `mode_cov` and of the posterior.
    units : EffectUnits
    posterior : NodePosterior or NormalPosterior
        Of each level's effects, in these units.
    mode_cov : ndarray of shape (n_levels, q, q)
        Inverse of the curvature at the conditional modes, in the units of the columns of X.
    covariance : ndarray of shape (q, q)
        Covariance of the random coefficients, block diagonal over the terms.
    """

    name: str
    sources: tuple
    terms: list = field(default_factory=list)
    blocks: list = field(default_factory=list)
    columns: list = field(default_factory=list)
    levels: pd.Index | None = None
    units: object = None
    posterior: object = None
    mode_cov: np.ndarray | None = None
    covariance: np.ndarray | None = None

    @property
    def modes(self):
        """Conditional modes of each level's random coefficients, (n_levels, q), in the units of the columns of X."""
        return self.posterior.modes @ self.units.natural.T

    def labels(self, column):
        """Labels of the rows, from a function that gives a column by its name."""
        labels = [column(source) for source in self.sources]
        return labels[0] if len(labels) == 1 else interact(labels)

    def structure(self, n_levels=None):
        """What an engine knows of the factor; `n_levels` where they are not those of the fit."""
        n_levels = len(self.levels) if n_levels is None else n_levels
        return FactorStructure(n_levels, self.columns, self.blocks, self.name)

    def names_by_column(self):
        """Names of the random coefficients by the column of X that multiplies them."""
        return dict(zip(self.columns, [name for _, names in self.terms for name in names], strict=True))

    def learn(self, lambda_, units, posterior, mode_cov):
        """Take what a fit found: the relative covariance factor and what is known of each level."""
        self.covariance = lambda_ @ lambda_.T
        self.units, self.posterior, self.mode_cov = units, posterior, mode_cov

    def effect_names(self):
        """Names of the random coefficients with that of their term."""
        return [f"{coefficient!r} of {name}" for name, names in self.terms for coefficient in names]

    def term_slices(self):
        """Yield (term name, coefficient names, slice of the coefficients)."""
        start = 0
        for name, coefficients in self.terms:
            stop = start + len(coefficients)
            yield name, coefficients, slice(start, stop)
            start = stop


def plan_factors(random_effects, group_names, feature_names):
    """Check a `random_effects` specification against the columns there are.

    Parameters
    ----------
    random_effects : None, str or list of str
        As in `MixedLogisticRegression`.
    group_names, feature_names : list of str
        The grouping columns, and the features left in X.

    Returns
    -------
    factors : list of Factor
        In the order in which the factors are first written; without levels.
    products : dict of str -> tuple of int
        Slopes that are products of features, with the columns that are multiplied. Random coefficients refer to them
        as to columns behind those of X, in this order.
    """
    terms = parse_random_effects(random_effects, group_names)
    position = {name: j for j, name in enumerate(feature_names)}
    factors, products = {}, {}
    for name, term in zip(term_names(terms), terms, strict=True):
        _check_sources(term, group_names, position)
        columns = [-1] if term.intercept else []
        for feature in term.features:
            # a feature may have the very name of a product
            multiplied = (feature,) if feature in position else term.multiplied(feature)
            for own in multiplied:
                if own not in position:
                    error = unknown_name_error(term, own, feature_names, "feature")
                    if own in group_names:
                        error = _explained(error, f"{own!r} holds groups, no numbers: it can't have a random slope")
                    raise error
            if len(multiplied) > 1:
                products.setdefault(feature, tuple(position[own] for own in multiplied))
                columns.append(len(position) + list(products).index(feature))
            else:
                columns.append(position[feature])
        factor = factors.setdefault(term.factor, Factor(term.factor_name, tuple(term.factor)))
        factor.terms.append((name, list(term.coefficient_names)))
        factor.blocks.append((len(columns), term.correlated))
        factor.columns.extend(columns)
    return list(factors.values()), products


def parents_of(inner, n_levels, outer):
    """Level of `outer` to which each level of `inner` belongs, or None if one belongs to several.

    Parameters
    ----------
    inner, outer : ndarray of shape (n,), intp
        Codes of two factors.
    n_levels : int
        Levels of `inner`; those without rows get 0.
    """
    parent = np.zeros(n_levels, dtype=np.intp)
    parent[inner] = outer
    return parent if np.array_equal(parent[inner], outer) else None


def nested_pairs(factors, codes):
    """(inner, outer) names of the factors of which one is nested in the other; each inner one with its nearest outer.

    Parameters
    ----------
    factors : list of FactorStructure
    codes : list of ndarray
        Of each factor's levels, by row.
    """
    pairs, both = [], list(zip(factors, codes, strict=True))
    for inner, code in both:
        outers = [pair for pair in both if pair[0].n_levels < inner.n_levels]
        for outer, above in sorted(outers, key=lambda pair: -pair[0].n_levels):  # the nearest ancestor
            if parents_of(code, inner.n_levels, above) is not None:
                pairs.append((inner.name, outer.name))
                break
    return pairs


def _check_sources(term, group_names, features):
    """Right of the bar stand grouping columns, and in an interaction with one also features of X."""
    interaction = any(source in group_names for source in term.factor)
    for source in term.factor:
        if source in group_names or (interaction and source in features):
            continue
        known = [*group_names, *features] if interaction else group_names
        error = unknown_name_error(term, source, known, "group")
        if source in features:
            hint = "name it in group_features, or pass it as groups"
            error = _explained(error, f"{source!r} is a feature of X: to group by it, {hint}")
        raise error


def _explained(error, hint):
    return ValueError(f"{error}\n{hint}")
