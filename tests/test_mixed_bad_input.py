"""Bad input: errors that name the culprit, warnings that say what the fit could not do, earlier fits kept."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
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
    AliasedFeaturesWarning,
    ConvergenceWarning,
    LargeVarianceWarning,
    NoGroupsWarning,
    SeparationWarning,
    SingularFitWarning,
    SklmmWarning,
    UnidentifiedEffectsWarning,
)


@pytest.fixture(scope="module")
def data():
    X, y, groups = make_clustered_classification(300, 3, n_groups=15, covariance=1.0, random_state=2)
    return pd.DataFrame(X, columns=["age", "dose", "b"]), y, pd.Series(groups, name="clinic")


def _with(values, position, value):
    values = values.copy() if hasattr(values, "iloc") else np.array(values, dtype=float)
    if getattr(values, "ndim", 1) == 2:
        values.iloc[position, 0] = value
    elif hasattr(values, "iloc"):
        values = values.astype(object)
        values.iloc[position] = value
    else:
        values[position] = value
    return values


# Each case: parameters, changes to (X, y, groups, sample_weight), error, message.
BAD = {
    "NaN in X": ({}, {"X": lambda X, y, g: _with(X, 3, np.nan)}, ValueError, "Input X contains NaN"),
    "inf in X": ({}, {"X": lambda X, y, g: _with(X, 3, np.inf)}, ValueError, "Input X contains infinity"),
    "NaN in y": ({}, {"y": lambda X, y, g: _with(y, 3, np.nan)}, ValueError, "Input y contains NaN"),
    "inf in y": ({}, {"y": lambda X, y, g: _with(y, 3, np.inf)}, ValueError, "Input y contains infinity"),
    "None in y": (
        {},
        {"y": lambda X, y, g: np.array(["a", None, *["b"] * 298], dtype=object)},
        ValueError,
        "Input y contains NaN: 1 label",
    ),
    "NaN in weights": (
        {},
        {"sample_weight": lambda X, y, g: _with(np.ones(300), 3, np.nan)},
        ValueError,
        "Input sample_weight contains NaN",
    ),
    "inf in weights": (
        {},
        {"sample_weight": lambda X, y, g: _with(np.ones(300), 3, np.inf)},
        ValueError,
        "Input sample_weight contains infinity",
    ),
    "negative weights": (
        {},
        {"sample_weight": lambda X, y, g: _with(np.ones(300), 3, -1.0)},
        ValueError,
        "sample_weight counts rows and can't be negative; 1 of",
    ),
    "zero weights": (
        {},
        {"sample_weight": lambda X, y, g: np.zeros(300)},
        ValueError,
        "sample_weight is zero for every row",
    ),
    **{
        f"weights of {weight:g}": (
            {},
            {"sample_weight": lambda X, y, g, weight=weight: np.full(300, weight)},
            ValueError,
            f"sample_weight counts rows, and these add up to .*; {trouble}",
        )
        for trouble, weights in {
            r"beyond 1e\+13, double precision": (1e11, 1e15, 1e100, 1e306, 1e308),
            "fewer than 0.001 are too few": (1e-6, 1e-10),
            "numbers so small underflow": (1e-300, 1e-320),
        }.items()
        for weight in weights
    },
    "dates": (
        {},
        {"X": lambda X, y, g: pd.DataFrame({"admitted": pd.date_range("2020", periods=300)})},
        ValueError,
        "column 'admitted' of X holds dates",
    ),
    "dates with groups in X": (
        {"group_features": "g"},
        {"X": lambda X, y, g: X.assign(g=g, admitted=pd.date_range("2020", periods=300, tz="UTC")), "groups": None},
        ValueError,
        "column 'admitted' of X holds dates",
    ),
    "dates of Python's": (
        {},
        {"X": lambda X, y, g: X.assign(admitted=pd.date_range("2020", periods=300).date)},
        ValueError,
        "column 'admitted' of X holds dates",
    ),
    "an array of dates": (
        {},
        {"X": lambda X, y, g: pd.date_range("2020", periods=300).to_numpy()[:, None]},
        ValueError,
        "column 'x0' of X holds dates",
    ),
    "lists of dates": (
        {},
        {"X": lambda X, y, g: [[date] for date in pd.date_range("2020", periods=300).to_numpy()]},
        ValueError,
        "column 'x0' of X holds dates",
    ),
    "lengths of time": (
        {},
        {"X": lambda X, y, g: pd.DataFrame({"stay": pd.to_timedelta(np.arange(300), "h")})},
        ValueError,
        r"column 'stay' of X holds lengths of time: .* X\['stay'\] / pd.Timedelta",
    ),
    "missing group labels": (
        {},
        {"groups": lambda X, y, g: g.where(g > 0, None)},
        ValueError,
        "(?s)(clinic.*20|20.*clinic)",
    ),
    "missing group labels in X": (
        {"group_features": "g"},
        {"X": lambda X, y, g: X.assign(g=g.where(g > 0)), "groups": None},
        ValueError,
        r"(?s)(\bg\b.*20|20.*\bg\b)",
    ),
    "short y": ({}, {"y": lambda X, y, g: y[:-1]}, ValueError, "y has 299 rows, but X has 300"),
    "short groups": ({}, {"groups": lambda X, y, g: g[:-1]}, ValueError, "groups.*299"),
    "short weights": (
        {},
        {"sample_weight": lambda X, y, g: np.ones(299)},
        ValueError,
        "sample_weight has 299 rows, but X has 300",
    ),
    "no y": ({}, {"y": None}, ValueError, "requires y to be passed, but the target y is None"),
    "one class": ({}, {"y": lambda X, y, g: np.ones(300)}, ValueError, "one class only"),
    "one class with a weight": (
        {},
        {"sample_weight": lambda X, y, g: (y == 1).astype(float)},
        ValueError,
        "one class only",
    ),
    "three classes": (
        {},
        {"y": lambda X, y, g: np.arange(300) % 3},
        ValueError,
        r"Only binary classification is supported. The type of the target is multiclass.",
    ),
    "a measurement as y": ({}, {"y": lambda X, y, g: X["age"]}, ValueError, "Unknown label type: continuous"),
    "two-column y": (
        {},
        {"y": lambda X, y, g: np.column_stack([y, y])},
        ValueError,
        "y should be a 1d array",
    ),
    "no rows": (
        {},
        {"X": lambda X, y, g: X[:0], "y": lambda X, y, g: y[:0], "groups": lambda X, y, g: g[:0]},
        ValueError,
        r"0 sample\(s\)",
    ),
    "no rows, groups in X": (
        {"group_features": 0},
        {"X": lambda X, y, g: X[["age"]][:0], "y": lambda X, y, g: y[:0], "groups": None},
        ValueError,
        r"0 sample\(s\)",
    ),
    "one-dimensional X": ({}, {"X": lambda X, y, g: X["age"].to_numpy()}, ValueError, "Expected 2D array"),
    "one-dimensional X with groups in it": (
        {"group_features": 0},
        {"X": lambda X, y, g: X["age"].to_numpy(), "groups": None},
        ValueError,
        "Expected 2D array",
    ),
    "sparse X": ({}, {"X": lambda X, y, g: sparse.csr_array(X.to_numpy())}, TypeError, "[Ss]parse"),
    "sparse X with groups in it": (
        {"group_features": 0},
        {"X": lambda X, y, g: sparse.csr_array(X.to_numpy()), "groups": None},
        TypeError,
        "[Ss]parse",
    ),
    "text among the features": (
        {},
        {"X": lambda X, y, g: X.assign(urban="Y")},
        ValueError,
        "column 'urban' of X is not numeric",
    ),
    "text among the features beside groups": (
        {"group_features": "g"},
        {"X": lambda X, y, g: X.assign(urban="Y", g=g), "groups": None},
        ValueError,
        "column 'urban' of X is not numeric",
    ),
    "both doors": (
        {"group_features": "age"},
        {},
        ValueError,
        "both doors",
    ),
    "unknown column in group_features": (
        {"group_features": "clinik"},
        {"groups": None},
        ValueError,
        "group_features names 'clinik', which is no column of X",
    ),
    "position out of range": (
        {"group_features": 3},
        {"groups": None},
        ValueError,
        "group_features asks for column 3 of X, which has 3 columns",
    ),
    "a column named twice": (
        {"group_features": ["age", 0]},
        {"groups": None},
        ValueError,
        "names a column twice",
    ),
    "group_features of a wrong type": (
        {"group_features": [1.5]},
        {"groups": None},
        TypeError,
        "group_features must be",
    ),
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
        ("tol", 0),
        ("tol", "tight"),
        ("max_iter", 0),
        ("n_threads", 0),
        ("n_threads", -1),
        ("verbose", -1),
        ("fit_intercept", "yes"),
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


def test_bad_input_of_predict(data):
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="groups.*299"):
        model.predict_proba(X, groups=groups[:-1])
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_proba(X.rename(columns={"age": "years"}), groups=groups)
    with pytest.raises(ValueError, match="X has 2 features"):
        model.predict_proba(X.to_numpy()[:, :2], groups=groups)
    with pytest.raises(ValueError, match="NaN"):
        model.predict_proba(_with(X, 0, np.nan), groups=groups)
    in_X = MixedLogisticRegression(group_features="clinic").fit(X.assign(clinic=groups), y)
    with pytest.raises(ValueError, match="both doors"):
        in_X.predict_proba(X.assign(clinic=groups), groups=groups)
    with pytest.raises(ValueError, match="both doors"):
        in_X.update_groups(X.assign(clinic=groups), y, groups=groups)


@pytest.mark.parametrize("bad", ["X", "y", "groups", "names", "weights", "random_effects"])
def test_failed_refit_leaves_the_earlier_fit(data, bad):
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    before, state = model.predict_proba(X, groups=groups), vars(model).copy()
    with pytest.raises((ValueError, TypeError)):
        if bad == "X":
            model.fit(_with(X, 0, np.nan).to_numpy()[:, :2], y, groups=groups)
        elif bad == "y":
            model.fit(X[["age"]], np.arange(300) % 3, groups=groups)
        elif bad == "groups":
            model.fit(X.rename(columns={"age": "years"}), y, groups=groups[1:])
        elif bad == "names":
            model.fit(X.assign(more=1.0).set_axis(["a", 1, "c", "d"], axis=1), y, groups=groups)
        elif bad == "weights":
            model.fit(X.iloc[:, :1], y, groups=groups, sample_weight=-np.ones(300))
        else:
            model.set_params(random_effects="1 + nothing | clinic").fit(X.to_numpy(), y, groups=groups)
    model.set_params(random_effects=None)
    assert vars(model) == state
    np.testing.assert_array_equal(model.predict_proba(X, groups=groups), before)


def test_warning_turned_into_an_error_leaves_the_earlier_fit(data):
    X, y, groups = data
    model = MixedLogisticRegression().fit(X, y, groups=groups)
    before = model.coef_
    with warnings.catch_warnings():
        warnings.simplefilter("error", SklmmWarning)
        with pytest.raises(AliasedFeaturesWarning):
            model.fit(X.assign(c=1.0), y, groups=groups)
    assert model.coef_ is before
    assert model.n_features_in_ == 3


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


def test_separation(data):
    X, _, groups = data
    y = (X["dose"] > 0.2).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.warns(SeparationWarning, match="separated by 'dose'"):
            model = MixedLogisticRegression().fit(X, y, groups=groups)
    assert np.isfinite(model.coef_).all()
    assert -1 < model.log_likelihood_ <= 0
    assert model.score(X, y, groups=groups) == 1.0
    assert np.isfinite(model.predict_proba(X, groups=groups)).all()


@pytest.mark.parametrize("door", [None, "clinic"])
def test_constant_and_collinear_columns(data, door):
    X, y, groups = data
    more = X.assign(same=2.5, total=X["age"] + 2 * X["dose"])
    arguments = {"groups": groups}
    if door:
        more, X, arguments = more.assign(clinic=groups), X.assign(clinic=groups), {}
    model = MixedLogisticRegression(group_features=door)
    with pytest.warns(
        AliasedFeaturesWarning, match=r"constant: 'same'; collinear with other columns: 'total'"
    ):
        model.fit(more, y, **arguments)
    clean = MixedLogisticRegression(group_features=door).fit(X, y, **arguments)
    assert model.log_likelihood_ == pytest.approx(clean.log_likelihood_, rel=1e-10)
    np.testing.assert_allclose(model.coef_[0, :3], clean.coef_[0], rtol=1e-5)
    np.testing.assert_array_equal(model.coef_[0, 3:], 0)
    se = np.sqrt(np.diagonal(model.vcov_))
    names = model.vcov_.index.tolist()
    assert [name for name, value in zip(names, se, strict=True) if np.isnan(value)] == ["same", "total"]
    np.testing.assert_allclose(se[:4], np.sqrt(np.diagonal(clean.vcov_)), rtol=1e-4)
    assert model.aic_ == pytest.approx(clean.aic_)


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


def test_no_convergence_is_scikit_learns_warning(data):
    X, y, groups = data
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model = MixedLogisticRegression(max_iter=1).fit(X, y, groups=groups)
    assert not model.converged_
    assert np.isfinite(model.coef_).all()


def test_warnings_point_at_the_caller(data):
    X, y, groups = data
    with pytest.warns(NoGroupsWarning) as record:
        model = MixedLogisticRegression().fit(X, y)
    with pytest.warns(AliasedFeaturesWarning) as aliased:
        model.fit(X.assign(c=0.0), y, groups=groups)
    assert record[0].filename == aliased[0].filename == __file__


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
