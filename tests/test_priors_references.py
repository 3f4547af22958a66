"""Fits with priors against the modes of glmmTMB's Laplace likelihood and blme's priors."""

import numpy as np
import pytest
from priors_reference import FORMULAS, data, names, priors, record

from sklmm import MixedLogisticRegression


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.LargeVarianceWarning")
@pytest.mark.parametrize("name", names())
def test_modes(name):
    expected, dataset = record(name), name.split("/")[0]
    model = MixedLogisticRegression.from_formula(FORMULAS[dataset], data(dataset), priors=priors(name), n_threads=1)
    coef, se = np.append(model.intercept_, model.coef_), np.array(expected["se"])
    assert model.converged_
    assert model.log_posterior_ == pytest.approx(expected["log_posterior"], abs=1e-8)
    assert model.log_likelihood_ == pytest.approx(expected["log_likelihood"], abs=1e-6)
    log_prior = expected["log_prior_fixed"] + expected["log_prior_covariance"]
    assert model.log_prior_ == pytest.approx(log_prior, abs=1e-6)
    assert (np.abs(coef - expected["coef"]) / se).max() < 1e-7
    np.testing.assert_allclose(np.sqrt(np.diag(model.vcov_)), se, rtol=5e-6)
    for matrix, sd in zip(model.covariance_.values(), expected["sd"], strict=True):
        np.testing.assert_allclose(np.sqrt(np.diag(matrix)), sd, rtol=1e-7)
