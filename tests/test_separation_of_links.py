"""Where classes are separated every model and link says so, and none where they are not."""

import warnings

import numpy as np
import pytest
from scipy.special import expit

from sklmm import GEELogisticRegression, MixedLogisticRegression
from sklmm.exceptions import SeparationWarning

MODELS = {
    "Laplace": lambda link: MixedLogisticRegression(link=link),
    "quadrature": lambda link: MixedLogisticRegression(link=link, n_quadrature=5),
    "exchangeable": lambda link: GEELogisticRegression(link=link),
    "independence": lambda link: GEELogisticRegression("independence", link=link),
}


def _rows(kind, n=200):
    rng = np.random.default_rng(1)
    X, groups = rng.normal(size=(n, 2)), rng.integers(0, 20, n)
    y = (rng.random(n) < expit(X[:, 0])).astype(int)
    if kind == "complete":
        y = (X[:, 0] > 0.1).astype(int)
    elif kind != "none":
        X[:, 1] = np.arange(n) < 6
        y[:6] = kind == "a rare category of successes"
    return X, y, groups


@pytest.mark.parametrize("kind", ["complete", "a rare category of successes", "a rare category of failures", "none"])
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
@pytest.mark.parametrize("model", MODELS)
def test_separation(kind, link, model):
    X, y, groups = _rows(kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = MODELS[model](link).fit(X, y, groups=groups)
    assert fit.converged_
    assert any(w.category is SeparationWarning for w in caught) == (kind != "none")
    assert np.isfinite(fit.predict_proba(X, groups)).all()
