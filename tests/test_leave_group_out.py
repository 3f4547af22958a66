"""Leave-one-group-out predictions from one fit, against refits without each group."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline

from sklmm import GEELogisticRegression, MixedLogisticRegression, approximate_leave_group_out
from sklmm.datasets import load_contraception, make_clustered_classification
from sklmm.exceptions import NoGroupsWarning


@pytest.fixture(scope="module")
def women():
    X, y, groups = load_contraception(return_X_y=True, as_frame=True)
    X = pd.DataFrame({"age": X["age"], "age2": X["age"] ** 2 / 100, "urban": (X["urban"] == "Y").astype(float)})
    return X, y, groups


def refits(model, X, y, groups):
    """Probabilities of each group's rows, and coefficients, by models that never saw it."""
    probabilities, coefficients = np.empty(len(y)), {}
    for level in np.unique(groups):
        kept = (groups != level).to_numpy()
        one = type(model)(**model.get_params()).fit(X[kept], y[kept], groups=groups[kept])
        probabilities[~kept] = one.predict_proba(X[~kept], groups=groups[~kept])[:, 1]
        coefficients[level] = np.append(one.intercept_, one.coef_[0])
    return probabilities, pd.DataFrame.from_dict(coefficients, orient="index")


@pytest.mark.many_fits
@pytest.mark.parametrize(
    "model",
    [
        MixedLogisticRegression("1 | district", n_threads=1),
        MixedLogisticRegression("1 + urban | district", n_threads=1),
        MixedLogisticRegression("1 + urban | district", n_quadrature=5, n_threads=1),
        MixedLogisticRegression("1 | district", predict_effects="zero", n_threads=1),
        MixedLogisticRegression("0 + urban | district", fit_intercept=False, n_threads=1),
        GEELogisticRegression(n_threads=1),
        GEELogisticRegression("independence", n_threads=1),
    ],
    ids=str,
)
def test_against_refits(women, model):
    X, y, groups = women
    model.fit(X, y, groups=groups)
    found = approximate_leave_group_out(model, X, y, groups)
    exact, coefficients = refits(model, X, y, groups)
    ours, theirs = log_loss(y, found.probabilities), log_loss(y, exact)
    in_sample = log_loss(y, model.predict_proba(X)[:, 1]) if isinstance(model, GEELogisticRegression) else log_loss(
        y, model.predict_proba(X, groups=groups, predict_effects="marginal")
    )  # fmt: skip
    assert abs(ours - theirs) < 0.001 * theirs
    assert abs(ours - theirs) < 0.2 * (theirs - in_sample)  # it is the optimism that is to be found
    assert np.corrcoef(found.probabilities[:, 1], exact)[0, 1] > 0.9999
    se = np.sqrt(np.diag(model.vcov_))
    columns = slice(0 if model.fit_intercept else 1, None)
    errors = (found.coefficients.to_numpy() - coefficients.to_numpy()[:, columns]) / se
    moves = (coefficients.to_numpy()[:, columns] - np.append(model.intercept_, model.coef_[0])[columns]) / se
    assert np.linalg.norm(errors) < 0.1 * np.linalg.norm(moves)


def test_covariances_without_each_group(women):
    X, y, groups = women
    model = MixedLogisticRegression("1 + urban | district", n_threads=1).fit(X, y, groups=groups)
    found = approximate_leave_group_out(model, X, y, groups)
    full = model.covariance_["district"].to_numpy()
    errors, moves = [], []
    for level in (1, 14, 30):
        kept = groups != level
        other = MixedLogisticRegression("1 + urban | district", n_threads=1).fit(X[kept], y[kept], groups=groups[kept])
        exact = other.covariance_["district"].to_numpy()
        moves.append(exact - full)
        errors.append(found.covariances[found.coefficients.index.get_loc(level)] - exact)
    assert np.linalg.norm(errors) < 0.25 * np.linalg.norm(moves)


def test_weights_count_rows_and_order_and_labels_do_not_matter(women):
    X, y, groups = women
    weights = 1.0 + np.arange(len(y)) % 2
    weights[::17] = 0
    repeated = np.repeat(np.arange(len(y)), weights.astype(int))
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups, sample_weight=weights)
    found = approximate_leave_group_out(model, X, y, groups, weights)
    rows = X.iloc[repeated], y.iloc[repeated], ("d" + groups.astype(str)).iloc[repeated]
    shuffled = np.random.default_rng(0).permutation(len(repeated))
    rows = [part.iloc[shuffled] for part in rows]
    other = MixedLogisticRegression(n_threads=1).fit(rows[0], rows[1], groups=rows[2])
    again = approximate_leave_group_out(other, *rows)
    np.testing.assert_allclose(again.probabilities, found.probabilities[repeated][shuffled], rtol=1e-7)


def test_groups_as_a_column_of_X(women):
    X, y, groups = women
    frame = X.assign(district=groups)
    model = MixedLogisticRegression(group_features="district", n_threads=1).fit(frame, y)
    other = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    np.testing.assert_array_equal(
        approximate_leave_group_out(model, frame, y).probabilities,
        approximate_leave_group_out(other, X, y, groups).probabilities,
    )


def test_formula(women):
    data = load_contraception(as_frame=True).frame
    model = MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", data)
    found = approximate_leave_group_out(model, data, data["use"])
    assert found.probabilities.shape == (len(data), 2)
    assert list(found.coefficients.columns) == list(model.vcov_.index)


def test_a_group_without_weight_is_predicted_by_the_fit():
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, random_state=0)
    weights = np.where(groups == 3, 0.0, 1.0)
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups, sample_weight=weights)
    found = approximate_leave_group_out(model, X, y, groups, weights)
    expected = model.predict_proba(X, groups=groups)
    np.testing.assert_allclose(found.probabilities[groups == 3], expected[groups == 3], rtol=1e-12)


def test_a_category_of_one_group_alone_does_not_break_it():
    """Without the group the column is constant: no coefficient, no concave likelihood."""
    X, y, groups = make_clustered_classification(600, 2, n_groups=30, random_state=0)
    X = np.column_stack([X, groups == 7])
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    found = approximate_leave_group_out(model, X, y, groups)
    assert np.isfinite(found.probabilities).all()
    others = MixedLogisticRegression(n_threads=1).fit(X[:, :2], y, groups=groups)
    expected = approximate_leave_group_out(others, X[:, :2], y, groups)
    np.testing.assert_allclose(found.probabilities[groups != 7], expected.probabilities[groups != 7], atol=0.05)


def test_bad_input(women):
    X, y, groups = women
    model = MixedLogisticRegression(n_threads=1).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match="approximate_leave_group_out needs the rows of the fit.*groups=groups"):
        approximate_leave_group_out(model, X, y)
    with pytest.raises(ValueError, match="it had 1,934 rows, here are 1,933"):
        approximate_leave_group_out(model, X[1:], y[1:], groups[1:])
    with pytest.raises(ValueError, match="needs the groups"):
        approximate_leave_group_out(GEELogisticRegression().fit(X, y, groups=groups), X, y)
    marginal = GEELogisticRegression().fit(X, y, groups=groups, sample_weight=(groups != 3).astype(float))
    with pytest.raises(ValueError, match="2 rows are of groups that the fit did not see.*sample_weight"):
        approximate_leave_group_out(marginal, X, y, groups)
    approximate_leave_group_out(marginal, X, y, groups, groups != 3)
    with pytest.raises(TypeError, match="of a pipeline the last step.*got Pipeline"):
        approximate_leave_group_out(make_pipeline(marginal), X, y, groups)
    both = MixedLogisticRegression().fit(X, y, groups=pd.DataFrame({"district": groups, "half": np.arange(len(y)) % 9}))
    with pytest.raises(ValueError, match="several grouping factors \\(district, half\\)"):
        approximate_leave_group_out(both, X, y, groups)
    with pytest.warns(NoGroupsWarning):
        plain = MixedLogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="without groups"):
        approximate_leave_group_out(plain, X, y)


@pytest.mark.many_fits
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
@pytest.mark.parametrize(
    ("random_effects", "sd", "seed", "is_singular"),
    [
        ("1 | group", 0.2, 1, True),  # a variance of 0
        ("1 + x0 | group", 0.2, 0, True),  # a correlation of -1
        ("1 + x0 | group", 0.2, 3, False),  # a correlation next to it
        ("1 + x0 || group", 0.5, 4, True),  # a variance next to 0
    ],
)
def test_variances_and_correlations_at_the_ends_of_their_ranges(random_effects, sd, seed, is_singular):
    """Without a group the likelihood may curve upwards there: a step in a standard deviation would lead anywhere."""
    rng = np.random.default_rng(seed)
    groups = pd.Series(np.repeat(np.arange(60), 15))
    X = rng.normal(size=(900, 3))
    eta = -0.3 + X @ [1, -0.7, 0.4] + rng.normal(0, 1, 60)[groups] * sd
    y = (rng.random(900) < 1 / (1 + np.exp(-eta))).astype(int)
    model = MixedLogisticRegression(random_effects, n_threads=1).fit(X, y, groups=groups)
    assert model.is_singular_ == is_singular
    found = approximate_leave_group_out(model, X, y, groups)
    exact, coefficients = refits(model, X, y, groups)
    np.testing.assert_allclose(found.probabilities[:, 1], exact, atol=0.01)
    np.testing.assert_allclose(log_loss(y, found.probabilities), log_loss(y, exact), rtol=5e-4)
    moves = coefficients.to_numpy() - np.append(model.intercept_, model.coef_[0])
    errors = found.coefficients.to_numpy() - coefficients.to_numpy()
    assert np.linalg.norm(errors) < 0.2 * np.linalg.norm(moves)
