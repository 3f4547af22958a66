"""Models of a few factors in one line: a factor with its codes, and what engines and fits are made of from these."""

from dataclasses import dataclass

import numpy as np

from sklmm.design.structure import FactorStructure, Observations, Structure
from sklmm.design.units import Units
from sklmm.families import LOGIT
from sklmm.likelihood.clustered import ClusteredLikelihood
from sklmm.likelihood.engine import make_engine
from sklmm.likelihood.fit import fit_mixed, posteriors_given_fit


@dataclass
class Coded:
    """Codes of one factor by row, and its random coefficients as in `FactorStructure`."""

    codes: np.ndarray
    n_levels: int
    columns: list
    blocks: list
    name: str = "group"


def model(X, y, factors, *, sample_weight=None, offset=None, **structure):
    """Observations and structure of these factors."""
    parts = [FactorStructure(f.n_levels, f.columns, f.blocks, f.name) for f in factors]
    return Observations(X, y, [f.codes for f in factors], sample_weight, offset=offset), Structure(parts, **structure)


def split(keywords):
    """What belongs to the model, and all the rest."""
    own = ("sample_weight", "offset", "fit_intercept", "n_quadrature", "slopes_only", "family")
    ours = {key: value for key, value in keywords.items() if key in own}
    return ours, {key: value for key, value in keywords.items() if key not in own}


def engine_of(X, y, factors, *, standardise=True, engine=make_engine, **keywords):
    """An engine; not `standardise`: in the user's own units."""
    ours, rest = split(keywords)
    rows, structure = model(X, y, factors, **ours)
    return engine(rows, structure, units=None if standardise else Units.plain(X.shape[1], structure), **rest)


def clustered(X, y, codes, n_levels, columns, blocks, **keywords):
    """The engine of one factor, or without codes that of none."""
    factors = [] if codes is None else [Coded(codes, n_levels, columns, blocks)]
    return engine_of(X, y, factors, engine=ClusteredLikelihood, **keywords)


def fitted(X, y, *, factors, **keywords):
    """The fit of these factors."""
    ours, rest = split(keywords)
    return fit_mixed(*model(X, y, factors, **ours), **rest)


def posteriors(X, y, *, factors, units, sample_weight=None, offset=None, family=LOGIT, **keywords):
    """What these rows say of levels, given a fit."""
    own = {"sample_weight": sample_weight, "offset": offset, "fit_intercept": units.fit_intercept, "family": family}
    rows, structure = model(X, y, factors, **own)
    return posteriors_given_fit(rows, structure, units, **keywords)
