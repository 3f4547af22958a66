"""The reference data are what the reference fits were made from."""

import numpy as np
import pytest
from reference_data import DATASETS, model_data, reference, reference_names
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

RECORDS = [(dataset, name) for dataset in DATASETS for name in reference_names(dataset)]


@pytest.mark.parametrize("dataset, name", RECORDS)
def test_columns_and_groups_are_those_of_the_fit(dataset, name):
    record, data = reference(dataset, name), model_data(dataset, name)
    assert ["intercept", *data.X.columns] == record["fixed_names"]
    assert len(data.X) == len(data.y) == len(data.groups)
    np.testing.assert_allclose(np.sqrt(np.diag(record["vcov"])), record["se"], rtol=1e-10)


@pytest.mark.parametrize(
    "dataset, name",
    [(dataset, name) for dataset in DATASETS for name in reference_names(dataset, mixed=True)],
)
def test_fitted_probabilities_follow_from_coefficients_and_modes(dataset, name):
    record, data = reference(dataset, name), model_data(dataset, name)
    assert data.groups.name == record["factor"]
    assert data.groups.nunique() == record["n_groups"]

    fixed = record["coef"][0] + data.X.to_numpy() @ record["coef"][1:]
    np.testing.assert_allclose(expit(fixed[:10]), record["population_first10"], rtol=1e-9)

    slopes = [column for column in record["random_names"] if column != "intercept"]
    Z = np.column_stack([np.ones(10), *(data.X[column].to_numpy()[:10] for column in slopes)])
    rows = [record["levels"].index(str(group)) for group in data.groups[:10]]
    random_part = np.sum(Z * record["modes"][rows], axis=1)
    np.testing.assert_allclose(expit(fixed[:10] + random_part), record["conditional_first10"], rtol=1e-9)


@pytest.mark.parametrize("name", reference_names("contraception", mixed=False))
def test_plain_fits_agree_with_scikit_learn(name):
    record, data = reference("contraception", name), model_data("contraception", name)
    plain = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10)
    plain.fit(data.X, data.y, sample_weight=data.sample_weight)
    error = np.r_[plain.intercept_, plain.coef_[0]] - record["coef"]
    assert np.max(np.abs(error) / record["se"]) < 1e-6
