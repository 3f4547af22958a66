"""Fits of marginal models, as their tests make and judge them."""

from functools import cache

import numpy as np
from contracts.estimators import COV_TYPES, GEE, assert_close

from sklmm import GEELogisticRegression

NAMES = ("independence", "exchangeable", "ar1", "unstructured", "m-dependent")
STRUCTURES = {  # for the rows of GEE.rows
    name: parameters["correlation"]
    for name, parameters in GEE.variants.items()
    if not {"link", "penalty"} & set(parameters)
}


def fit(correlation, data, **parameters):
    model = GEELogisticRegression(correlation, **parameters)
    return model.fit(data.X, data.y, groups=data.groups, time=data.time)


@cache
def fitted(structure, ddof_correction=True):
    """The fit of a structure to GEE.rows, made once: tests must leave it as it is."""
    return fit(STRUCTURES[structure], GEE.rows, ddof_correction=ddof_correction)


def assert_same(found, expected, rtol=1e-9, leave_out=()):
    """All that the fits say is the same, but for what is left out by name."""
    assert found.converged_ and expected.converged_
    assert_close(GEE.numbers(found), GEE.numbers(expected), rtol, leave_out)


def assert_finite(model, cov_types=COV_TYPES):
    """Everything that a fit gives is a finite number, whatever it warned of."""
    numbers = [model.coef_, model.intercept_, model.correlation_params_, model.working_correlation_]
    numbers += [model.dispersion_, model.quasi_likelihood_, model.qic_, model.qicu_, model.cic_]
    numbers += [model.vcov(cov_type).to_numpy() for cov_type in cov_types]
    assert all(np.isfinite(number).all() for number in numbers)
    assert model.dispersion_ > 0
    assert np.linalg.eigvalsh(model.working_correlation_)[0] > 0
    assert np.abs(model.coef_).max(initial=0.0) < 1e4
