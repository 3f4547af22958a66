"""Labels of groups at prediction: of another type, absent, of a partition that is there twice."""


import numpy as np
import pandas as pd
import pytest

from sklmm import (
    MixedEffectEncoder,
    MixedLogisticRegression,
    approximate_leave_group_out,
    cluster_influence,
)
from sklmm.design.grouping import encode_groups, interact, lookup_codes, other_type
from sklmm.exceptions import LabelTypeWarning, NoGroupsWarning, UnidentifiedEffectsWarning

DAYS = pd.date_range("2024-01-01", periods=3)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    school, rater = np.repeat(np.arange(30), 20), rng.integers(0, 12, 600)
    X = rng.normal(size=(600, 2))
    logit = X[:, 0] + 1.5 * rng.normal(size=30)[school] + rng.normal(size=12)[rater]
    y = (rng.random(600) < 1 / (1 + np.exp(-logit))).astype(int)
    return X, y, pd.DataFrame({"school": school, "rater": rater})


@pytest.fixture(scope="module")
def model(data):
    X, y, groups = data
    return MixedLogisticRegression().fit(X, y, groups=groups)


# Labels of another type -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "given", "said"),
    [
        ([7, 8], ["7", "8"], r"text here \('7'\), but were numbers at the fit \(7\)"),
        (["7", "8"], [7.0, np.nan], r"numbers here \(7\), but were text"),
        (pd.Categorical(["7", "8"]), pd.Categorical([7, 8]), "numbers here .* text"),
        ([7, 8], pd.Series(["7", None], dtype="string"), "text here"),
        (DAYS, DAYS.date, "dates here .* timestamps at the fit"),
        (DAYS, DAYS.strftime("%Y-%m-%d"), "text here .* timestamps"),
        (DAYS, DAYS.tz_localize("UTC"), "timestamps with a time zone here .* were timestamps at"),
        (DAYS.to_period("D"), DAYS, "timestamps here .* periods"),
        ([b"a"], ["a"], "text here .* bytes"),
        ([7, 8], [9, 10.5], None),
        ([7, 8], [True, False], None),
        ([7, 8], [None, np.nan], None),
        ([7, "8"], ["9"], None),  # several types: nothing can be said
        (["a"], [9, "b"], None),
        (["a"], [], None),
    ],
)
def test_types_that_cannot_be_equal(known, given, said):
    _, levels = encode_groups(known, "g")
    given = np.array(given, dtype=object) if isinstance(given, list) else given
    found = other_type(levels, given)
    if said is None:
        assert found is None
    else:
        assert pd.Series([found]).str.contains(said).all(), found
        assert (lookup_codes(levels, given) < 0).all()


def test_numbers_given_as_text(data):
    X, y, groups = data
    school = groups["school"]
    model = MixedLogisticRegression().fit(X, y, groups=school)
    population = model.predict_proba(X, groups=school, predict_effects="marginal")
    message = "none of the labels of 'school' is known: they are text here .*, but were numbers .* unknown group"
    for predict in (model.predict_proba, model.predict, model.decision_function, model.predict_interval):
        with pytest.warns(LabelTypeWarning, match=message) as told:
            found = predict(X, groups=school.astype(str))
        assert len(told) == 1 and told[0].filename == __file__
        if predict == model.predict_proba:
            np.testing.assert_array_equal(found, population)
    with pytest.warns(LabelTypeWarning, match=message):
        model.simulate(X, groups=school.astype(str), predict_effects="mode")


def test_what_is_unknown_by_design_stays_silent(data, model, recwarn):
    X, _, groups = data
    model.predict_proba(X, groups=groups + 100)
    model.predict_proba(X, groups=groups.astype(float).mask(groups >= 0))
    one_known = groups.astype(object)
    one_known.iloc[1:] = one_known.iloc[1:].astype(str)
    model.predict_proba(X, groups=one_known)
    model.predict_proba(X, groups=groups.astype(str), predict_effects="zero")
    assert not recwarn.list


def test_each_factor_on_its_own(data, model):
    X, _, groups = data
    expected = model.predict_proba(X, groups=groups.assign(rater=None))
    with pytest.warns(LabelTypeWarning, match="'rater'") as told:
        found = model.predict_proba(X, groups=groups.astype({"rater": str}))
    assert len(told) == 1
    np.testing.assert_array_equal(found, expected)
    with pytest.warns(LabelTypeWarning) as told:
        model.predict_proba(X, groups=groups.astype(str))
    assert ["school" in str(w.message) for w in told] == [True, False]


def test_interactions_compare_texts(data):
    """The labels of school:rater are texts, of whatever they are made."""
    X, y, groups = data
    model = MixedLogisticRegression("1 | school:rater").fit(X, y, groups=groups)
    expected = model.predict_proba(X, groups=groups)
    np.testing.assert_array_equal(model.predict_proba(X, groups=groups.astype(str)), expected)
    mixed = groups.astype(float)
    mixed.iloc[0] = 0.5  # a fraction in the table does not change the texts of the whole numbers
    np.testing.assert_allclose(model.predict_proba(X, groups=mixed)[1:], expected[1:], rtol=1e-9)


def test_whole_numbers_beside_fractions():
    assert list(interact([np.array([1.0, 2.5]), ["a", "b"]])) == ["1:a", "2.5:b"]


def test_updates_refuse_labels_of_another_type(data, model):
    X, y, groups = data
    with pytest.raises(ValueError, match="labels of 'school' would be groups of their own beside .* text here"):
        model.update_groups(X, y, groups=groups.astype({"school": str}))
    updated = model.update_groups(X[:40], y[:40], groups=groups[:40] + 500)
    assert updated.n_groups_["school"] == 32


def test_rows_of_the_fit_with_labels_of_another_type(data):
    """Sorted as text, groups are in another order, and results would be those of other groups."""
    X, y, groups = data
    school = groups["school"]
    model = MixedLogisticRegression().fit(X, y, groups=school)
    for ask in (cluster_influence, approximate_leave_group_out):
        with pytest.raises(ValueError, match="needs the rows of the fit: 600 rows are .* text here"):
            ask(model, X, y, groups=school.astype(str))
    expected = cluster_influence(model, X, y, school)
    backwards = pd.Categorical(school, categories=np.arange(29, -1, -1))
    pd.testing.assert_frame_equal(cluster_influence(model, X, y, backwards), expected)


def test_categories_of_another_type():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"shop": rng.integers(0, 20, 500), "town": rng.choice(list("abc"), 500)})
    encoder = MixedEffectEncoder(random_state=0).fit(frame, rng.integers(0, 2, 500))
    with pytest.warns(LabelTypeWarning, match="'shop' .* number of unknown categories") as told:
        encoded = encoder.transform(frame.astype({"shop": str}))
    assert len(told) == 1 and told[0].filename == __file__
    assert (encoded[:, 0] == encoder.unknown_encodings_[0]).all()
    np.testing.assert_array_equal(encoded[:, 1], encoder.transform(frame)[:, 1])


# Some of the grouping columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("present", ["school", "rater"])
def test_some_of_the_factors(data, model, present):
    X, y, groups = data
    absent = "rater" if present == "school" else "school"
    expected = model.predict_proba(X, groups=groups.assign(**{absent: None}))
    for given in (groups[[present]], groups[present]):
        with pytest.warns(NoGroupsWarning, match=f"no column '{absent}': .* unknown group of {absent}") as told:
            found = model.predict_proba(X, groups=given)
        assert len(told) == 1 and told[0].filename == __file__
        np.testing.assert_array_equal(found, expected)
    with pytest.warns(NoGroupsWarning, match=f"got none of '{absent}'"):
        model.simulate(X, groups=groups[[present]])


def test_groups_play_no_part(data, model, recwarn):
    X, _, groups = data
    for effects in ("zero", "marginal"):
        expected = model.predict_proba(X, groups=groups, predict_effects=effects)
        for given in (groups[["school"]], groups["rater"], None):
            np.testing.assert_array_equal(model.predict_proba(X, groups=given, predict_effects=effects), expected)
    assert not recwarn.list


# One partition under two names ------------------------------------------------------------------------------


def test_one_partition_under_two_names(data):
    X, y, groups = data
    twice = groups[["school"]].assign(name=[f"school {label}" for label in groups["school"]])
    with pytest.warns(UnidentifiedEffectsWarning, match="school and name part the rows into the same .*'intercept'"):
        model = MixedLogisticRegression().fit(X, y, groups=twice)
    once = MixedLogisticRegression().fit(X, y, groups=groups["school"])
    assert model.log_likelihood_ == pytest.approx(once.log_likelihood_, abs=1e-6)
    total = sum(table.iloc[0, 0] for table in model.covariance_.values())
    assert total == pytest.approx(once.covariance_["school"].iloc[0, 0], rel=1e-3)


def test_an_interaction_that_adds_nothing(data):
    X, y, groups = data
    half = groups.assign(half=groups["school"] % 2)
    with pytest.warns(UnidentifiedEffectsWarning, match="school and half:school part"):
        MixedLogisticRegression(["1 | school", "1 | half:school"]).fit(X, y, groups=half)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning")
def test_the_same_partition_with_other_coefficients(data, recwarn):
    """A slope by one name and an intercept by the other are two variances."""
    X, y, groups = data
    twice = groups[["school"]].assign(name=groups["school"].astype(str) + " school")
    MixedLogisticRegression(["1 | school", "0 + x0 | name"]).fit(X, y, groups=twice)
    assert not [w for w in recwarn if issubclass(w.category, UnidentifiedEffectsWarning)]


# Labels that a column cannot hold ---------------------------------------------------------------------------


def test_masked_labels_are_missing_ones(data):
    X, y, groups = data
    school = np.ma.masked_array(groups["school"], mask=groups["school"] == 3)
    model = MixedLogisticRegression().fit(X, y, groups=groups["school"])
    expected = model.predict_proba(X, groups=groups["school"].where(groups["school"] != 3))
    np.testing.assert_array_equal(model.predict_proba(X, groups=school), expected)
