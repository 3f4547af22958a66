"""Bad input that only mixed models know, and warnings of what a fit could not say about its random effects."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sklmm import (
    GEELogisticRegression,
    MixedEffectEncoder,
    MixedLogisticRegression,
    accuracy_report,
    approximate_leave_group_out,
)
from sklmm.datasets import make_clustered_classification
from sklmm.exceptions import (
    ConvergenceWarning,
    LargeVarianceWarning,
    SingularFitWarning,
    UnidentifiedEffectsWarning,
)


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(300, 3, n_groups=15, covariance=1.0, random_state=2)
    return pd.DataFrame(X, columns=["age", "dose", "b"]), y, pd.Series(groups, name="clinic")


# Each case: parameters, changes to (X, y, groups, sample_weight), error, message.
BAD = {
    "random effects without groups": (
        {"random_effects": "1 | clinic"},
        {"groups": None},
        ValueError,
        "needs groups, but fit got none",
    ),
    "quadrature of two factors": (
        {"n_quadrature": 5},
        {"groups": lambda X, y, g: pd.DataFrame({"clinic": g, "rater": np.arange(300) % 7})},
        ValueError,
        "n_quadrature=5 needs a single grouping factor.*'clinic', 'rater'.*Laplace",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data(data, case):
    parameters, changes, error, message = BAD[case]
    X, y, groups = data
    arguments = {"X": X, "y": y, "groups": groups}
    for name, change in changes.items():
        arguments[name] = change if change is None else change(X, y, groups)
    model = MixedLogisticRegression(**parameters)
    with pytest.raises(error, match=message):
        model.fit(**arguments)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize(
    "spec, message, column",
    [
        ("1 + agee | clinic", "(?s)unknown feature.*'agee'.*'age'", 4),
        ("1 + age | klinic", "(?s)unknown grouping column.*'klinic'.*'clinic'", 10),
        ("1 | age", "(?s)unknown grouping column 'age'.*name it in group_features", 4),
        ("1 | agee:clinic", "(?s)'agee'.*'age'", 4),
        ("1 + clinic | clinic", "(?s)'clinic'.*can't have a random slope", 4),
        ("1 + age", "(?s)random_effects", None),
        ("1 + | clinic", "(?s)random_effects", 4),
        ("1 + age ^ 2 | clinic", "(?s)random_effects.*powers are not supported", 8),
        ("1 + age * dosage | clinic", "(?s)unknown feature.*'dosage'.*'dose'", 10),
        ("1 + age:clinic | clinic", "(?s)'clinic'.*can't have a random slope", 8),
    ],
)
def test_random_effects_errors_point_at_the_place(data, spec, message, column):
    X, y, groups = data
    with pytest.raises(ValueError, match=message) as caught:
        MixedLogisticRegression(spec).fit(X, y, groups=groups)
    lines = str(caught.value).splitlines()
    place = next(i for i, line in enumerate(lines) if line.strip() == spec)
    indent = lines[place].index(spec)
    assert lines[place + 1].strip() == "^"
    if column is not None:
        assert lines[place + 1].index("^") - indent == column


@pytest.mark.parametrize("weight", [1e306, 1e-300])
def test_weights_beyond_numbers_wherever_rows_have_weights(data, weight):
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    weights = {"sample_weight": np.full(300, weight)}
    rows = {"X": X, "y": y, "groups": groups}
    calls = [
        lambda: GEELogisticRegression().fit(**rows, **weights),
        lambda: MixedEffectEncoder().fit(groups.to_frame(), y, **weights),
        lambda: model.update_groups(**rows, **weights),
        lambda: model.average_marginal_effects(X, **weights),
        lambda: approximate_leave_group_out(model, **rows, **weights),
        lambda: model.conf_int(method="profile", **rows, **weights),
        lambda: accuracy_report("mixed", **rows, **weights),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="sample_weight counts rows, and these add up to"):
            call()


@pytest.mark.parametrize(
    "parameter, value",
    [
        ("predict_effects", "median"),
        ("predict_effects", None),
        ("n_quadrature", 0),
        ("n_quadrature", 2.0),
        ("n_quadrature", True),
    ],
)
def test_bad_parameters(data, parameter, value):
    X, y, groups = data
    model = MixedLogisticRegression(**{parameter: value})
    with pytest.raises(ValueError, match=f"{parameter} must be"):
        model.fit(X, y, groups=groups)


def test_wrong_predict_effects_lists_the_right_ones(data):
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="'posterior', 'mode', 'zero', 'marginal'; got 'modal'"):
        model.predict_proba(X, groups=groups, predict_effects="modal")


# Warnings ---------------------------------------------------------------------------------------------------


def test_as_many_groups_as_rows(data):
    X, y, _ = data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(
            UnidentifiedEffectsWarning, match="group has as many groups .300. as there are rows"
        ):
            model = MixedLogisticRegression().fit(X, y, groups=np.arange(300))
    assert np.isfinite(model.coef_).all()
    # Rows count by their weights: with two rows a group there is something to learn.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnidentifiedEffectsWarning)
        MixedLogisticRegression().fit(X, y, groups=np.arange(300), sample_weight=np.full(300, 2))


def test_more_coefficients_than_rows(data):
    X, y, _ = data
    pairs = np.arange(300) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(
            UnidentifiedEffectsWarning, match="150 groups with 2 random coefficients each.* 300 rows"
        ):
            model = MixedLogisticRegression("1 + age | group").fit(X, y, groups=pairs)
    assert np.isfinite(model.coef_).all()


def test_singular_fit_says_so_and_nothing_else():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(400, 2)), np.repeat(np.arange(40), 10)
    y = np.tile([0, 1], 200)  # every group has exactly as many ones as zeros
    with pytest.warns(SingularFitWarning, match="variance") as record:
        model = MixedLogisticRegression().fit(X, y, groups=groups)
    assert [w.category for w in record] == [SingularFitWarning]
    assert model.is_singular_
    assert model.converged_
    assert model.covariance_["group"].iloc[0, 0] == 0


# Variances without bound ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_quadrature", [1, 9])
def test_an_outcome_of_groups_has_no_variance_between_them(n_quadrature):
    """The same outcome in all rows of each group: the larger the variance, the likelier the data."""
    rng = np.random.default_rng(13)
    label, groups = rng.integers(0, 2, 60), np.repeat(np.arange(60), 8)
    X = rng.normal(size=(480, 1))
    with pytest.warns(LargeVarianceWarning, match="all rows of a group of group have the same .*fit one row a") as w:
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MixedLogisticRegression(n_quadrature=n_quadrature).fit(X, label[groups], groups=groups)
    assert w[0].filename == __file__
    assert model.summary().verdict[-1].startswith("LARGE VARIANCE: all rows of a group")
    weights = np.ones(480)
    mixture = label[groups].copy()
    mixture[0] = 1 - mixture[0]
    weights[0] = 0.0  # a row that is not there
    with pytest.warns(LargeVarianceWarning, match="all rows of a group"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        MixedLogisticRegression(n_quadrature=n_quadrature).fit(X, mixture, groups=groups, sample_weight=weights)


def test_a_variance_with_next_to_no_upper_bound():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(100), 6)
    x = rng.normal(size=600)
    y = (rng.random(600) < 1 / (1 + np.exp(-30 * rng.normal(size=100)[groups] - x))).astype(int)
    constant = np.isin(np.bincount(groups, weights=y), (0, 6)).sum()
    assert 50 < constant < 100
    with pytest.warns(LargeVarianceWarning, match=f"{constant} of 100 groups of group have one outcome in all their"):
        MixedLogisticRegression().fit(x[:, None], y, groups=groups)
    # a slope's variance counts in the units of its feature
    with pytest.warns(LargeVarianceWarning, match="standard deviation between groups is"):
        warnings.simplefilter("ignore", SingularFitWarning)
        slope = (rng.random(600) < 1 / (1 + np.exp(-30 * rng.normal(size=100)[groups] * x))).astype(int)
        MixedLogisticRegression("0 + x0 | group").fit(1e-6 * x[:, None], slope, groups=groups)


def test_ordinary_variances_are_not_large(data):
    X, y, groups = data
    with warnings.catch_warnings():
        warnings.simplefilter("error", LargeVarianceWarning)
        warnings.simplefilter("ignore", SingularFitWarning)
        model = MixedLogisticRegression("1 + age | clinic").fit(1e-6 * X, y, groups=groups)
    assert model.summary().verdict == []
