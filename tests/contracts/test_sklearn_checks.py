"""scikit-learn's own checks of estimators."""

import pytest
import sklearn
from contracts.estimators import ENTRIES
from sklearn.utils.estimator_checks import (
    check_classifiers_train,
    check_estimator_repr,
    check_regressors_train,
    parametrize_with_checks,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")


def _takes_columns(estimator):
    return estimator.group_features is not None or getattr(estimator, "time_feature", None) is not None


def _expected_failures(estimator):
    failures = {}
    if _takes_columns(estimator):
        for kind in ("classifiers",):
            failures[f"check_{kind}_train"] = (
                "the column that decides the check's outcome is the one that is taken out of X, so that no fit can "
                "reach the accuracy it asks for"
            )
    if getattr(estimator, "time_feature", None) == -2:
        failures["check_fit2d_1feature"] = "there is no column but one, and two have been named"
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        failures["check_sample_weight_equivalence_on_dense_data"] = (
            "the check of scikit-learn 1.6 gives the two fits different classes: it makes y binary by its first row, "
            "after shuffling one of them"
        )
    return failures


@parametrize_with_checks(
    [entry.estimator(**parameters) for entry in ENTRIES for parameters in ({}, *entry.checked)],
    expected_failed_checks=_expected_failures,
)
def test_estimator_checks(estimator, check):
    check(estimator)


COLUMNS_TAKEN = [
    (entry, parameters)
    for entry in ENTRIES
    for parameters in entry.checked
    if _takes_columns(entry.estimator(**parameters))
]


@pytest.mark.parametrize("entry, parameters", COLUMNS_TAKEN, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("readonly", [False, True])
def test_rest_of_the_check_that_fails_for_its_accuracy(readonly, dtype, entry, parameters):
    class LowAccuracy(entry.estimator):
        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            (tags.classifier_tags or tags.regressor_tags).poor_score = True
            return tags

    check = check_classifiers_train if entry.binary else check_regressors_train
    check("LowAccuracy", LowAccuracy(**parameters), readonly, dtype)


def test_repr(entry):
    parameters, text = entry.example
    model = entry.estimator(**parameters)
    assert repr(model) == text
    assert str(entry) in model._repr_html_()
    check_estimator_repr(str(entry), model)
