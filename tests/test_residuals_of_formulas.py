"""Residuals of models with a formula, which finds outcomes, groups and weights in a data frame."""

import numpy as np
import pandas as pd
import pytest

from sklmm import GEELogisticRegression, MixedLogisticRegression, ResidualsDisplay, quantile_residuals
from sklmm.datasets import load_contraception

pytest.importorskip("formulaic")


@pytest.fixture(scope="module")
def data():
    frame = load_contraception(as_frame=True).frame
    frame.loc[[3, 40], "age"] = np.nan
    return frame


@pytest.mark.parametrize("by", [None, "district"])
def test_outcomes_are_found_in_the_data(data, by):
    model = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", data, missing="drop")
    options = {"by": by, "random_state": 0, "n_simulations": 20}
    found = quantile_residuals(model, data, **options)
    pd.testing.assert_series_equal(found, quantile_residuals(model, data, data["use"], data["district"], **options))
    with pytest.raises(ValueError, match="X has no column 'use'"):
        quantile_residuals(model, data.drop(columns="use"), **options)


def test_outcomes_of_marginal_models_are_found_in_the_data(data):
    model = GEELogisticRegression.from_formula("use ~ age + urban", data, groups="district", missing="drop")
    found = quantile_residuals(model, data, random_state=0)
    pd.testing.assert_series_equal(found, quantile_residuals(model, data, data["use"], random_state=0))
    pytest.importorskip("matplotlib").use("Agg")
    assert ResidualsDisplay.from_estimator(model, data).ax_ is not None
