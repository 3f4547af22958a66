"""What a formula makes of the columns of a data frame: names, types, dates, values that are missing or not defined."""

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from sklmm import (
    EffectDisplay,
    GEELogisticRegression,
    MixedLogisticRegression,
    approximate_leave_group_out,
    cluster_influence,
    quantile_residuals,
)
from sklmm.design.formula_text import StandIns, translate
from sklmm.exceptions import DroppedRowsWarning, LabelTypeWarning, NoGroupsWarning, NumbersAsLabelsWarning

pytest.importorskip("formulaic")
from_formula = MixedLogisticRegression.from_formula
FORMULA = "y ~ x + k + f + b + (1 + x | g)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    g = rng.integers(0, 25, 500)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=500), "k": rng.integers(1, 5, 500),
                          "f": rng.choice(list("abc"), 500), "b": rng.random(500) < 0.4})  # fmt: skip
    logit = (1 + rng.normal(size=25)[g]) * frame["x"] + rng.normal(size=25)[g] + (frame["f"] == "b") - 0.5 * frame["b"]
    return frame.assign(y=(rng.random(500) < 1 / (1 + np.exp(-logit))).astype(int))


@pytest.fixture(scope="module")
def model(data):
    return from_formula(FORMULA, data)


# Types ------------------------------------------------------------------------------------------------------

TYPES = {
    "nullable": lambda d: d.convert_dtypes(),
    "objects": lambda d: d.astype(object),
    "Decimals": lambda d: d.assign(x=[Decimal(repr(float(v))) for v in d["x"]]),
    "sparse": lambda d: d.assign(x=d["x"].astype(pd.SparseDtype(float))),
    "categories": lambda d: d.assign(f=d["f"].astype("string").astype("category")),
    "unused categories": lambda d: d.assign(f=pd.Categorical(d["f"], categories=list("zabcq"))),
    "ordered categories": lambda d: d.assign(f=pd.Categorical(d["f"], categories=list("abc"), ordered=True)),
    "floats": lambda d: d.astype({"k": float, "g": float, "y": float}),
    "labels as outcome": lambda d: d.assign(y=d["y"].map({0: "no", 1: "yes"}).astype("string")),
    "truth as outcome": lambda d: d.assign(y=d["y"].astype("boolean")),
    "rows in a heap": lambda d: d.set_axis(np.zeros(500, dtype=int)),
    "rows by date": lambda d: d.set_axis(pd.date_range("2024-01-01", periods=500)),
    "two levels of rows": lambda d: d.set_index([d["g"], d["k"]]),
    "an unused column twice": lambda d: pd.concat([d, d[["x", "k"]].set_axis(["q", "q"], axis=1)], axis=1),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_any_type_of_column(data, model, kind):
    frame = TYPES[kind](data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = from_formula(FORMULA, frame)
        assert list(found.vcov_.index) == list(model.vcov_.index)
        assert found.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)
        # by either model, rows of either kind
        np.testing.assert_allclose(found.predict_proba(frame), model.predict_proba(data), rtol=1e-9)
        np.testing.assert_allclose(model.predict_proba(frame), model.predict_proba(data), rtol=1e-9)
        np.testing.assert_allclose(found.predict_proba(data), model.predict_proba(data), rtol=1e-9)


@pytest.mark.parametrize("kind", ["numbers", "dictionary", "text"])
def test_arrow(data, model, kind):
    pa = pytest.importorskip("pyarrow")
    frame = data.convert_dtypes(dtype_backend="pyarrow")
    if kind != "numbers":
        text = pa.dictionary(pa.int32(), pa.string()) if kind == "dictionary" else pa.large_string()
        frame = data.assign(f=data["f"].astype(pd.ArrowDtype(text)))
    found = from_formula(FORMULA, frame)
    assert found.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)
    np.testing.assert_allclose(model.predict_proba(frame), model.predict_proba(data), rtol=1e-9)


def test_polars_keeps_the_order_of_levels(data):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({name: data[name].to_list() for name in data})
    frame = frame.with_columns(polars.col("f").cast(polars.Enum(["c", "b", "a"])))
    assert list(from_formula("y ~ f + (1 | g)", frame).vcov_.index) == ["intercept", "f[T.b]", "f[T.a]"]


def test_integers_too_large_for_integers(data, model):
    huge = data.assign(k=[(int(v) - 2) * 10**25 for v in data["k"]])
    found = from_formula(FORMULA, huge)
    assert list(found.vcov_.index) == list(model.vcov_.index)
    assert found.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-8)


def test_kinds_that_change_after_the_fit(data, model):
    with pytest.raises(ValueError, match="column 'k' held numbers at the fit, but holds '[1-4]' here"):
        model.predict_proba(data.assign(k=data["k"].astype(str)))
    coded = data.assign(f=data["f"].map({"a": 1, "b": 2, "c": 3}))
    with pytest.raises(ValueError, match="column 'f' holds .*, which the fit did not see; its levels are 'a', 'b'"):
        model.predict_proba(coded)
    factor = from_formula("y ~ f + (1 | g)", coded.astype({"f": "category"}))
    by_text = from_formula("y ~ f + (1 | g)", data)
    np.testing.assert_allclose(factor.predict_proba(coded), by_text.predict_proba(data), rtol=1e-9)
    with pytest.warns(LabelTypeWarning):
        model.predict_proba(data.assign(g=data["g"].astype(str)))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (lambda d: d["x"].where(d.index != 3, np.inf), "column 'x' is infinite in 1 rows"),
        (lambda d: d["x"] + 1j, "column 'x' holds complex numbers"),
        (lambda d: pd.date_range("2024-01-01", periods=500), "column 'x' holds dates or durations: make it .* numbers"),
        (lambda d: pd.date_range("2024-01-01", periods=500, tz="UTC"), "column 'x' holds dates or durations"),
        (lambda d: pd.date_range("2024-01-01", periods=500).date, "column 'x' holds dates or durations.*dt.month"),
        (lambda d: pd.to_timedelta(d["k"], unit="D"), "column 'x' holds dates or durations"),
        (lambda d: pd.period_range("2024-01", periods=500, freq="D"), "column 'x' holds dates or durations"),
    ],
)
def test_columns_that_are_no_features(data, column, message):
    for formula in ("y ~ x + (1 | g)", "y ~ k + (1 + x | g)", "y ~ x:k + (1 | g)"):
        with pytest.raises(ValueError, match=message):
            from_formula(formula, data.assign(x=column(data)))


def test_parts_of_dates(data):
    dated = data.assign(day=pd.Timestamp("2024-01-15") + pd.to_timedelta(31 * data["k"], unit="D"))
    by_month = from_formula("y ~ C(day.dt.month) + (1 | g)", dated)
    assert by_month.log_likelihood_ == pytest.approx(from_formula("y ~ C(k) + (1 | g)", data).log_likelihood_)


def test_dates_of_polars(data):
    polars = pytest.importorskip("polars")
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(int(k)) for k in data["k"]]
    frame = polars.DataFrame({"y": data["y"].to_list(), "g": data["g"].to_list(), "day": days})
    with pytest.raises(ValueError, match="column 'day' holds dates"):
        from_formula("y ~ day + (1 | g)", frame)
    visits = np.arange(500)
    dated = data.assign(day=[datetime.date(2024, 1, 1) + datetime.timedelta(7 * int(v)) for v in visits])
    in_polars = polars.DataFrame({name: dated[name].to_list() for name in ("y", "g", "x", "day")})
    models = [
        GEELogisticRegression.from_formula("y ~ x", frame, groups="g", time="day", correlation="ar1")
        for frame in (dated, in_polars, dated.assign(day=7 * visits))
    ]
    for model in models[:2]:
        np.testing.assert_allclose(model.coef_, models[2].coef_, rtol=1e-9)


def test_numbers_as_text(data):
    text = data["x"].round(2).astype(str)
    with pytest.warns(NumbersAsLabelsWarning, match=r"'x' holds numbers as text, and among them '\?': .*to_numeric"):
        from_formula("y ~ x + (1 | g)", data.assign(x=text.where(data.index != 7, "?")), max_iter=3)
    with pytest.warns(NumbersAsLabelsWarning, match="'x' holds numbers as text: each of its") as told:
        from_formula("y ~ x + (1 | g)", data.assign(x=text), max_iter=3)
    assert max(len(str(warning.message)) for warning in told) < 1000
    with warnings.catch_warnings():
        warnings.simplefilter("error", NumbersAsLabelsWarning)
        from_formula("y ~ x + (1 | g)", data.assign(x=(10_000 + data["g"]).astype(str)), max_iter=3)
        from_formula("y ~ C(x) + (1 | g)", data.assign(x=text), max_iter=3)
        from_formula("y ~ f + (1 | g)", data.assign(f=data["f"].replace("c", "1.5")))
    numbers = from_formula("y ~ x + (1 | g)", data.assign(x=data["x"].astype(object)))
    assert list(numbers.vcov_.index) == ["intercept", "x"]


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["sys.bp", "body mass", "class", "C", "log", "np", "1st", "a:b", "x|y", "größe", "column_0_", "if", "Q", "scale",
     "df", "a+b", "None", ".x", "_", "x.", "a..b", 'a"b', "Intercept", "T", "(1 | g)"],
)  # fmt: skip
def test_any_name_in_back_quotes(data, model, name):
    frame = data.rename(columns={"x": name})
    found = from_formula(f"y ~ `{name}` + k + f + b + (1 + `{name}` | g)", frame)
    assert list(found.vcov_.index) == ["intercept", name, *model.vcov_.index[2:]]
    assert list(found.covariance_["g"].index) == ["intercept", name]
    assert found.log_likelihood_ == model.log_likelihood_
    np.testing.assert_array_equal(found.predict_proba(frame), model.predict_proba(data))
    effects, expected = found.average_marginal_effects(frame), model.average_marginal_effects(data)
    np.testing.assert_array_equal(effects.loc[name], expected.loc["x"])


@pytest.mark.parametrize("name", ["sys.bp", ".x", "a..b", "größe", "class", "Intercept", "log"])
def test_bare_names(data, model, name):
    frame = data.rename(columns={"x": name})
    found = from_formula(f"y ~ {name} + k + f + b + (1 + {name} | g)", frame)
    assert found.log_likelihood_ == model.log_likelihood_


def test_names_within_calls(data):
    expected = from_formula("y ~ log(x + 9)*k + scale(x) + (1 + log(x + 9) | g)", data)
    frame = data.rename(columns={"x": "sys.bp", "k": "body mass"})
    for bp in ("sys.bp", "`sys.bp`", "Q('sys.bp')", 'Q("sys.bp")'):
        formula = f"y ~ log({bp} + 9)*`body mass` + scale({bp}) + (1 + log({bp} + 9) | g)"
        found = from_formula(formula, frame)
        assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, abs=1e-9)
        assert list(found.vcov_.index) == ["intercept", "log(sys.bp + 9)", "body mass", "scale(sys.bp)",
                                           "log(sys.bp + 9):body mass"]  # fmt: skip
        np.testing.assert_allclose(found.predict_proba(frame.iloc[:3]), expected.predict_proba(data[:3]), rtol=1e-9)
    with pytest.raises(ValueError, match=r"missing values, in 'sys.bp' \(1\)"):
        from_formula("y ~ scale(sys.bp) + (1 | g)", frame.assign(**{"sys.bp": frame["sys.bp"].where(data.index != 1)}))


def test_other_sides_of_a_formula_with_odd_names(data, model):
    frame = data.rename(columns={"y": "out.come", "g": "clinic.id"})
    found = from_formula("out.come ~ x + k + f + b + (1 + x | clinic.id)", frame)
    assert found.log_likelihood_ == model.log_likelihood_ and found.n_groups_ == {"clinic.id": 25}
    frame = data.rename(columns={"y": "the y", "g": "my group"})
    found = from_formula("`the y` ~ x + k + f + b + (1 + x | `my group`)", frame)
    np.testing.assert_array_equal(found.predict_proba(frame), model.predict_proba(data))


def test_the_models_own_names(data):
    named = data.rename(columns={"x": "intercept"})
    with pytest.raises(ValueError, match="column of X is named 'intercept', as the model's own intercept is: rename"):
        from_formula("y ~ intercept + (1 | g)", named)
    for kind in (MixedLogisticRegression, GEELogisticRegression):
        with pytest.raises(ValueError, match="column of X is named 'intercept'"):
            kind().fit(named[["intercept"]], data["y"], groups=data["g"])
        alone = kind(fit_intercept=False).fit(named[["intercept"]], data["y"], groups=data["g"])
        assert list(alone.vcov_.index) == ["intercept"]
    both = data.assign(**{"x:k": 1.0 * data["k"] ** 2})
    with pytest.raises(ValueError, match="two columns of the design would be named 'x:k': rename"):
        from_formula("y ~ x:k + `x:k` + (1 | g)", both)


def test_a_dot_is_all_other_columns(data):
    expected = from_formula("y ~ x + k + f + b + (1 | g)", data)
    found = from_formula("y ~ . + (1 | g)", data)
    assert sorted(found.vcov_.index) == sorted(expected.vcov_.index)
    assert found.log_likelihood_ == pytest.approx(expected.log_likelihood_, abs=1e-8)
    assert list(from_formula("y ~ . - f - b + (1 | g)", data).vcov_.index) == ["intercept", "x", "k"]
    holes = data.assign(b=None)
    assert from_formula("y ~ . - b + (1 | g)", holes).n_obs_ == 500  # what is taken away may be missing
    assert "x:f[T.b]" in from_formula("y ~ .**2 + (1 | g)", data).vcov_
    dotted = data[["y", "g", "x"]].rename(columns={"x": "sys.bp"})
    assert list(from_formula("y ~ . + (1 | g)", dotted).vcov_.index) == ["intercept", "sys.bp"]
    assert from_formula("y ~ . + (1 | g)", data[["y", "g"]]).coef_.size == 0
    gee = GEELogisticRegression.from_formula("y ~ .", data.assign(w=1.0), groups="g", sample_weight="w")
    assert sorted(gee.vcov_.index) == sorted(expected.vcov_.index)
    again = clone(gee).fit(data.assign(w=1.0))
    np.testing.assert_array_equal(again.coef_, gee.coef_)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ ns(x, df=4) + (1 | g)", r"ns\(...\) is R's: natural cubic splines are cr\(x, df=4\)"),
        ("y ~ s(x) + (1 | g)", r"s\(...\) is mgcv's"),
        ("y ~ x + (1 + factor(k) | g)", r"factors are C\(x\)"),
        ("cbind(k, n) ~ x + (1 | g)", "names 'n', which is no column"),
        ("cbind(k) ~ x + (1 | g)", r"name of one column.*written 'successes \| trials ~ ...'"),
        ("k / n ~ x + (1 | g)", r"name of one column.*written 'successes \| trials ~ ...' or 'cbind\("),
        ("k ~ x + (1 | g)", "Only binary classification.*successes among trials"),
        ("y ~ scale(xx) + (1 | g)", "names 'xx', which is no column"),
        ("y ~ `x y` + (1 | g)", "names 'x y', which is no column"),
        ("y ~ sys.bp + (1 | g)", "names 'sys.bp', which is no column"),
        ("y ~ x + (1 + k:zz | g)", "names 'zz', which is no column"),
    ],
)
def test_what_formulas_cannot_say(data, formula, message):
    with pytest.raises(ValueError, match=message):
        from_formula(formula, data)


def test_a_column_twice(data):
    with pytest.raises(ValueError, match="names 'x', but the data have 2 columns of that name"):
        from_formula("y ~ x + (1 | g)", pd.concat([data, data[["x"]]], axis=1))


def test_texts_are_translated_outside_of_strings():
    stand_ins = StandIns({"C", "contr", "bs", "np"})
    text = "a.b + C(f, contr.treatment('a.b')) + bs(x, df=4, knots=[.5, 1.5]) + np.log(a.b) + day.dt.month + x.1"
    translated, names = translate(text, ["a.b", "f", "x", "df", "day", "x.1"], stand_ins)
    assert translated == (
        "column_0_ + C(f, contr.treatment('a.b')) + bs(x, df=4, knots=[.5, 1.5]) + np.log(column_0_) + day.dt.month + "
        "column_1_"
    )
    assert names == ["a.b", "f", "x", "a.b", "day", "x.1"]
    assert stand_ins.back(translated) == text


# Rows that are left out -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holes(data):
    """z below 0 or at it, where it has no logarithm; missing features, outcomes and groups."""
    frame = data.assign(z=data["x"] + 0.8, y=data["y"].astype(object), f=data["f"].where(data.index % 17 != 0))
    frame.loc[5, "z"] = 0.0
    frame.loc[::19, "y"] = None
    frame["g"] = frame["g"].astype("Int64").mask(frame.index % 23 == 0)
    return frame


LOG = "y ~ log(z)*b + f + (1 | g)"


@pytest.fixture(scope="module")
def kept(holes):
    return (holes["z"] > 0).to_numpy() & holes[["y", "f", "g"]].notna().all(axis=1).to_numpy()


@pytest.fixture(scope="module")
def both(holes, kept):
    """The model of all rows, and that of the complete ones."""
    with pytest.warns(DroppedRowsWarning, match=r"\d+ rows are left out, in which .* not defined: 'log\(z\)' \("):
        dropped = from_formula(LOG, holes, missing="drop")
    return dropped, from_formula(LOG, holes[kept].astype({"y": int, "g": int}))


def test_terms_that_are_not_defined(holes, kept, both):
    dropped, complete = both
    assert dropped.n_obs_ == kept.sum() and dropped._fitted.formula.n_dropped == 500 - kept.sum()
    assert dropped.log_likelihood_ == complete.log_likelihood_
    assert dropped.classes_.tolist() == [0, 1]
    assert f"{500 - kept.sum()} more are left out" in str(dropped.summary())
    full = holes[holes[["y", "f", "g"]].notna().all(axis=1)]
    n = (full["z"] <= 0).sum()
    with pytest.raises(ValueError, match=rf"'log\(z\)' is not defined in {n} of {len(full)} rows.*missing='drop'"):
        from_formula(LOG, full)
    with pytest.raises(ValueError, match=r"'scale\(log\(z\)\)' is not defined in \d+ of .* make the inner ones"):
        from_formula("y ~ scale(log(z)) + (1 | g)", full, missing="drop")
    with pytest.raises(ValueError, match=r"'log\(z\)' is not defined in 1 of 2 rows"):
        complete.predict_proba(pd.DataFrame({"z": [1.0, -1.0], "f": "a", "b": True, "g": 1}))


QUESTIONS = {
    "effects": lambda m, d: m.average_marginal_effects(d),
    "weighted effects": lambda m, d: m.average_marginal_effects(d, sample_weight=1.0 + d["k"]),
    "marginal coefficients": lambda m, d: m.marginal_coefficients(d),
    "profile": lambda m, d: m.conf_int(method="profile", X=d, parameters=["log(z)"]),
    "residuals": lambda m, d: quantile_residuals(m, d, d["y"], random_state=0),
    "residuals by group": lambda m, d: quantile_residuals(m, d, d["y"], by="g", n_simulations=20, random_state=0),
    "score": lambda m, d: m.score(d, d["y"]),
    "weighted score": lambda m, d: m.score(d, d["y"], sample_weight=d["k"]),
    "updated groups": lambda m, d: m.update_groups(d, d["y"]).random_effects_["g"],
    "influence": lambda m, d: cluster_influence(m, d),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_later_questions_leave_the_same_rows_out(holes, kept, both, question):
    complete = holes[kept].astype({"y": int, "g": int})
    found, expected = QUESTIONS[question](both[0], holes), QUESTIONS[question](both[1], complete)
    np.testing.assert_allclose(np.asarray(found, dtype=float), np.asarray(expected, dtype=float), rtol=1e-9)
    if question == "residuals":
        assert list(found.index) == list(complete.index)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba", "decision_function", "predict_interval"])
def test_predictions_of_incomplete_rows_are_nan(holes, both, method):
    """Rows without an outcome have predictions, those without a group are of an unknown one."""
    found = getattr(both[0], method)(holes)
    defined = ((holes["z"] > 0) & holes["f"].notna()).to_numpy()
    assert np.isnan(found).reshape(500, -1).all(axis=1).tolist() == (~defined).tolist()
    np.testing.assert_array_equal(found[defined], getattr(both[1], method)(holes[defined]))
    assert np.isnan(getattr(both[0], method)(holes.assign(f=None))).all()
    if method != "predict_interval":
        with pytest.warns(NoGroupsWarning) as told:
            getattr(both[0], method)(holes.drop(columns="g"))
        assert told[0].filename == __file__
    with pytest.raises(ValueError, match="missing values"):
        both[0].predict(holes)
    with pytest.raises(ValueError, match="missing values"):
        both[1].predict_proba(holes)


def test_leaving_groups_out_of_incomplete_rows(holes, kept, both):
    found = approximate_leave_group_out(both[0], holes)
    expected = approximate_leave_group_out(both[1], holes[kept].astype({"y": int, "g": int}))
    assert np.isnan(found.probabilities).all(axis=1).tolist() == (~kept).tolist()
    np.testing.assert_array_equal(found.probabilities[kept], expected.probabilities)
    assert repr(found) == (
        "LeaveGroupOut: probabilities of 500 rows, each from a fit without its group; coefficients (25 x 6) and "
        "covariances (25, 1, 1) without each group"
    )


def test_a_marginal_model_with_incomplete_rows(holes, kept):
    complete = holes[kept].astype({"y": int, "g": int})
    with pytest.warns(DroppedRowsWarning):
        found = GEELogisticRegression.from_formula("y ~ log(z) + f", holes, groups="g", missing="drop")
    expected = GEELogisticRegression.from_formula("y ~ log(z) + f", complete, groups="g")
    np.testing.assert_array_equal(found.coef_, expected.coef_)
    np.testing.assert_array_equal(found.predict_proba(holes)[kept], expected.predict_proba(complete))
    assert found.score(holes, holes["y"]) == expected.score(complete, complete["y"])
    pd.testing.assert_frame_equal(found.average_marginal_effects(holes), expected.average_marginal_effects(complete))
    left_out = approximate_leave_group_out(found, holes)
    np.testing.assert_array_equal(
        left_out.probabilities[kept], approximate_leave_group_out(expected, complete).probabilities
    )
    bootstrap = dict(method="bootstrap", n_resamples=5, random_state=0)
    pd.testing.assert_frame_equal(found.conf_int(X=holes, **bootstrap), expected.conf_int(X=complete, **bootstrap))


def test_a_display_of_incomplete_rows(holes, both):
    plt = pytest.importorskip("matplotlib.pyplot")
    EffectDisplay.from_estimator(both[0], holes, "b")
    plt.close("all")


def test_fit_reads_the_formula_again(data, model):
    """As scikit-learn's users call it: the outcome is the formula's, if none is passed."""
    part = from_formula(FORMULA, data[:300])
    for again in (clone(model).fit(data), clone(model).fit(data, data["y"]), part.fit(data)):
        assert again.log_likelihood_ == model.log_likelihood_
    other = clone(model).fit(data, 1 - data["y"])
    np.testing.assert_allclose(other.coef_, -model.coef_, atol=1e-6)
    gee = GEELogisticRegression.from_formula("y ~ x", data, groups="g")
    np.testing.assert_array_equal(clone(gee).fit(data).coef_, gee.coef_)
    assert np.isfinite(cross_val_score(model, data, data["y"], cv=3)).all()
    with pytest.raises(ValueError, match="requires y to be passed"):
        MixedLogisticRegression().fit(data[["x"]], groups=data["g"])


@pytest.mark.parametrize("dtype", [object, "boolean", float, "Int64"])
def test_outcomes_with_missing_values(data, dtype):
    outcome = data["y"].astype(bool).astype(dtype).mask(data.index % 10 == 0)
    found = from_formula("y ~ x + (1 | g)", data.assign(y=outcome), missing="drop")
    expected = from_formula("y ~ x + (1 | g)", data[data.index % 10 != 0])
    assert found.log_likelihood_ == expected.log_likelihood_
    truth = dtype in (object, "boolean")
    assert found.classes_.tolist() == ([False, True] if truth else [0, 1])
    assert ("probability of True (against False)" if truth else "probability of 1 (against 0)") in str(found.summary())
