"""Hypotheses in words, and estimates of linear combinations."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression
from sklmm.exceptions import AliasedFeaturesWarning, ConvergenceWarning, NotEstimableWarning, SeparationWarning
from sklmm.inference.hypotheses import read_hypotheses
from sklmm.inference.wald import wald_test

NAMES = ["intercept", "x", "z", "x:z", "f[T.b]", "f[T.c]", "f[T.a - b]", "body mass", "body mass[T.x y]", "x2", "x - y",
         "y", "bs(x, df=4)[1]", "f[T.b]:x", "f[T.b=c]", "3", "2nd", "étude", "a.b", "1e3x", "%",
         "f[T.y]:z]", "f[T.= 0]", "f[T.2*x - z = 1]", "x (kg):x", "log(x + 1)"]  # fmt: skip


def _weights(text, names=NAMES, **how):
    matrix, right = read_hypotheses(names, text, **how)
    return [({names[j]: row[j] for j in np.flatnonzero(row)}, value) for row, value in zip(matrix, right, strict=True)]


@pytest.mark.parametrize(
    "text, weights, right",
    [
        ("x = 0", {"x": 1}, 0),
        ("x=1.5", {"x": 1}, 1.5),
        ("f[T.b] = f[T.c]", {"f[T.b]": 1, "f[T.c]": -1}, 0),
        ("2*x - z = 1", {"x": 2, "z": -1}, 1),
        ("1 = 2*x - z", {"x": -2, "z": 1}, -1),
        ("2 x + -3 * z == .5e1", {"x": 2, "z": -3}, 5),
        ("x*2/4 = z - 3 + x2", {"x": 0.5, "z": -1, "x2": -1}, -3),
        ("(f[T.b] + f[T.c]) / 2 = 1/3", {"f[T.b]": 0.5, "f[T.c]": 0.5}, 1 / 3),
        ("-(x - (z + 2)) * 3 = 0", {"x": -3, "z": 3}, -6),
        ("x:z = x", {"x:z": 1, "x": -1}, 0),
        ("f[T.b]:x = f[T.b]", {"f[T.b]:x": 1, "f[T.b]": -1}, 0),
        ("f[T.a - b] - f[T.b=c] = 0", {"f[T.a - b]": 1, "f[T.b=c]": -1}, 0),
        ("body mass = 2 body mass[T.x y]", {"body mass": 1, "body mass[T.x y]": -2}, 0),
        ("`body mass` - `body mass`[T.x y] = 0", {"body mass": 1, "body mass[T.x y]": -1}, 0),
        ("x - y = 0", {"x - y": 1}, 0),  # the longest name
        ("`x` - y = 0", {"x": 1, "y": -1}, 0),
        ("x-y = 0", {"x": 1, "y": -1}, 0),
        ("x - y - y = 0", {"x - y": 1, "y": -1}, 0),
        ("bs(x, df=4)[1] = 3", {"bs(x, df=4)[1]": 1}, 3),
        ("x = 3 `3`", {"x": 1, "3": -3}, 0),
        ("2nd = 2", {"2nd": 1}, 2),
        ("étude = 3 a.b", {"étude": 1, "a.b": -3}, 0),
        ("1e3x = 1e3", {"1e3x": 1}, 1000),
        ("% - f[T.= 0] = f[T.2*x - z = 1]", {"%": 1, "f[T.= 0]": -1, "f[T.2*x - z = 1]": -1}, 0),
        ("x (kg):x - log(x + 1)/2 = f[T.y]:z]", {"x (kg):x": 1, "log(x + 1)": -0.5, "f[T.y]:z]": -1}, 0),
        ("intercept + x = 0", {"intercept": 1, "x": 1}, 0),
    ],
)
def test_what_is_read(text, weights, right):
    ((found, value),) = _weights(text)
    assert found == pytest.approx(weights) and value == pytest.approx(right)


def test_several_hypotheses():
    assert _weights("x = z = 1") == [({"x": 1, "z": -1}, 0), ({"z": 1}, 1)]
    names = ["x", "f[T.b]", "f[T.c]", "z", "f[T.b]:x"]
    of_levels = [({"f[T.b]": 1}, 0), ({"f[T.c]": 1}, 0)]
    assert _weights(["x = 1", "f[T.*", "z"], names) == [({"x": 1}, 1), *of_levels, ({"z": 1}, 0)]
    assert _weights("f[T.* = 0.5", names) == [({"f[T.b]": 1}, 0.5), ({"f[T.c]": 1}, 0.5)]
    assert _weights("f = -1", names) == [({"f[T.b]": 1}, -1), ({"f[T.c]": 1}, -1)]
    assert _weights({"x": 2, "z": -1}) == [({"x": 2, "z": -1}, 0)]
    assert _weights("x2 - x", expressions=True) == [({"x2": 1, "x": -1}, 0)]
    assert _weights("bs(x, df=4)[1]") == [({"bs(x, df=4)[1]": 1}, 0)]  # a name, whatever is in it


@pytest.mark.parametrize(
    "text, words",
    [
        ("w = 0", "'w' is not a coefficient"),
        ("f[T.d] = 0", r"'f\[T.d\]' is not a coefficient; did you mean"),
        ("xz = 0", "'xz' is not a coefficient"),
        ("bs(x, df=5)[1] = 0", r"'bs\(x, df=5\)\[1\]' is not a coefficient"),
        ("a.b.c = 0", "'a.b.c' is not a coefficient"),
        ("x * z = 0", "must be linear"),
        ("1 / x = 0", "must be linear"),
        ("x / 0 = 1", "divides by 0"),
        ("x = ", "a coefficient or a number is missing"),
        ("= 0", "a coefficient or a number is missing"),
        ("x + = 0", "a coefficient or a number is missing before '= 0'"),
        ("(x = 0", "a bracket is never closed"),
        ("`x = 0", "a back-quote is never closed"),
        ("x = 0, z = 0", "as a list"),
        ("2 = 2", "says nothing of any coefficient"),
        ("x = x", "says nothing of any coefficient"),
        ("x = 0 > z", "two-sided"),
        ("x x2 = 0", "'x' is not a coefficient"),
    ],
)
def test_what_can_not_be_read(text, words):
    with pytest.raises(ValueError, match=words):
        read_hypotheses(NAMES, text)


def test_words_are_read_again():
    rng = np.random.default_rng(0)
    names = [name for name in NAMES if name not in ("3", "x - y")]
    for _ in range(50):
        matrix = rng.integers(-3, 4, size=(1, len(names))) * rng.choice([0, 1, 0.25], size=len(names))
        if matrix.any():
            right = rng.integers(-2, 3)
            coef, vcov = rng.normal(size=len(names)), np.eye(len(names))
            (text,) = wald_test(names, coef, vcov, matrix).hypotheses
            again, value = read_hypotheses(names, f"{text.removesuffix('0')}{right}")
            np.testing.assert_array_equal(again, matrix)
            assert value == right


def test_a_test_of_numbers_other_than_0():
    coef, vcov = np.array([1.0, 0.5, 0.2]), np.array([[0.04, -0.01, 0.0], [-0.01, 0.09, 0.02], [0.0, 0.02, 0.16]])
    names = ["intercept", "x", "z"]
    test = wald_test(names, coef, vcov, ["2*x - z = 1", "x = 0.1"], df=7)
    L, right = np.array([[0, 2.0, -1.0], [0, 1, 0]]), np.array([1.0, 0.1])
    left = L @ coef - right
    expected = left @ np.linalg.solve(L @ vcov @ L.T, left) / 2
    assert test.statistic == pytest.approx(expected, rel=1e-12)
    assert test.p_value == pytest.approx(stats.f.sf(expected, 2, 7), rel=1e-12)
    assert test.hypotheses == ["2 x - z = 1", "x = 0.1"]
    assert "hypotheses=['2 x - z = 1', 'x = 0.1']" in repr(test)
    row = test.to_frame().loc["2 x - z = 1, x = 0.1"]
    assert row.tolist() == [test.statistic, 2, 7, test.p_value] and row.index[2] == "df_resid"
    assert test.estimates.loc["2 x - z", "estimate"] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="linearly dependent"):
        wald_test(names, coef, vcov, ["x = 0", "2 x = 1"])


# --- of models ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    n = 300
    data = pd.DataFrame({
        "f": rng.choice(["a", "b", "c: d"], n), "h": rng.choice(["u", "v"], n), "body mass": rng.normal(size=n),
        "x": rng.normal(size=n), "g": rng.integers(0, 60, n),
    })  # fmt: skip
    data["r"] = rng.normal(size=60)[data.g] + data.x + (data.f == "b") + rng.normal(size=n)
    data["y"] = (data.r > 0.5).astype(int)
    return data


MODELS = {
    "mixed logistic": (MixedLogisticRegression, "y ~ f*x + `body mass` + (1 | g)", {}, "odds_ratio"),
    "cloglog": (MixedLogisticRegression, "y ~ f*x + `body mass` + (1 | g)", {"link": "cloglog"}, "hazard_ratio"),
    "probit": (MixedLogisticRegression, "y ~ f*x + `body mass` + (1 | g)", {"link": "probit"}, None),
    "the other event": (MixedLogisticRegression, "y ~ f*x + `body mass` + (1 | g)", {"positive": 0}, "odds_ratio"),
    "mixed linear": (MixedLinearRegression, "r ~ f*x + `body mass` + (1 | g)", {}, None),
    "marginal logistic": (GEELogisticRegression, "y ~ f*x + `body mass`", {"groups": "g"}, "odds_ratio"),
    "marginal linear": (GEELinearRegression, "r ~ f*x + `body mass`", {"groups": "g"}, None),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")
def test_estimates_of_combinations(data, kind):
    cls, formula, options, ratio = MODELS[kind]
    model = cls.from_formula(formula, data, **options)
    asked = ["f[T.b] - f[T.c: d] = 0", "f[T.b]:x - `body mass` / 2 = 1", "x"]
    table = model.linear_combination(asked, level=0.9)
    names = list(model.vcov_)
    L = np.zeros((3, len(names)))
    L[0, [names.index("f[T.b]"), names.index("f[T.c: d]")]] = 1, -1
    L[1, [names.index("f[T.b]:x"), names.index("body mass")]] = 1, -0.5
    L[2, names.index("x")] = 1
    coef = np.append(model.intercept_, np.ravel(model.coef_))
    errors = np.sqrt(np.diag(L @ model.vcov_.to_numpy() @ L.T))
    np.testing.assert_allclose(table.estimate, L @ coef, rtol=1e-12)
    np.testing.assert_allclose(table.std_error, errors, rtol=1e-10)
    for i, text in enumerate(asked):  # each is a test of its own
        test = model.wald_test(text if "=" in text else f"{text} = 0")
        assert table.p_value.iloc[i] == pytest.approx(test.p_value, rel=1e-7)
        statistic = table["t" if "t" in table else "z"].iloc[i]
        assert statistic**2 == pytest.approx(test.statistic, rel=1e-9)
        assert np.sign(statistic) == np.sign(table.estimate.iloc[i] - (i == 1))
    if "df" in table:
        reach = stats.t.isf(0.05, table.df) * errors
    else:
        reach = (stats.t.isf(0.05, model.df_resid_) if "t" in table else stats.norm.isf(0.05)) * errors
    np.testing.assert_allclose(table.lower, L @ coef - reach, rtol=1e-9)
    np.testing.assert_allclose(table.upper, L @ coef + reach, rtol=1e-9)
    found = [column for column in table if column.endswith("ratio")]
    assert found == ([] if ratio is None else [ratio])
    if ratio is not None:
        np.testing.assert_allclose(table[ratio], np.exp(L @ coef))
        np.testing.assert_allclose(table[f"{ratio}_upper"], np.exp(L @ coef + reach))
    assert "f[T.b] - f[T.c: d] = 0" in str(table) and "-0.5 body mass + f[T.b]:x = 1" in str(table)


def test_arrays_dicts_frames_and_terms(data):
    model = MixedLogisticRegression.from_formula("y ~ f + x + (1 | g)", data)
    one = model.linear_combination("x - 2 f[T.b]")
    row = [0, -2.0, 0, 1]
    for same in (row, [row], {"x": 1, "f[T.b]": -2}, pd.DataFrame({"x": [1], "f[T.b]": [-2]})):
        pd.testing.assert_frame_equal(model.linear_combination(same).to_frame(), one.to_frame())
    assert list(model.linear_combination("f").index) == ["f[T.b]", "f[T.c: d]"]
    assert list(model.linear_combination(["f[T.b]", "f"]).index) == ["f[T.b]", "f[T.b]", "f[T.c: d]"]
    summary = model.summary().coefficients
    np.testing.assert_allclose(model.linear_combination(["f", "x"]).p_value, summary.p_value.iloc[1:], rtol=1e-10)
    assert model.wald_test({"x": 1, "f[T.b]": -2}) == model.wald_test([row])
    for bad, words in (([0, 0, 0, 0], "not all of which are 0"), ([0, np.inf, 0, 0], "finite"), ("g", "'g' is not")):
        with pytest.raises(ValueError, match=words):
            model.linear_combination(bad)
    with pytest.raises(TypeError, match="linear_combination takes"):
        model.linear_combination(3)
    with pytest.raises(ValueError, match="level must be between"):
        model.linear_combination("x", level=95)


def test_degrees_of_freedom_of_linear_models(data):
    model = MixedLinearRegression.from_formula("r ~ f + x + (1 | g)", data, df="kenward-roger")
    for df in ("satterthwaite", "kenward-roger", "residual", None):
        table = model.linear_combination("f[T.b] = f[T.c: d]", df=df)
        test = model.wald_test("f[T.b] = f[T.c: d]", df=df)
        assert table.p_value.iloc[0] == pytest.approx(test.p_value, rel=1e-10)
        assert ("z" in table) == (df is None)


def test_what_is_not_estimable(data):
    rows = data[~((data.f == "b") & (data.h == "v"))]
    with pytest.warns(AliasedFeaturesWarning):
        model = GEELogisticRegression.from_formula("y ~ f*h", rows, groups="g")
    with pytest.warns(NotEstimableWarning, match=re.escape("'f[T.b]:h[T.v]'")):
        table = model.linear_combination(["f[T.b]:h[T.v]", "f[T.b]", "f[T.b] + f[T.b]:h[T.v] - h[T.v]"])
    assert table.estimate.isna().tolist() == [True, False, True]
    assert "not estimable, and NaN" in str(table)
    assert table.p_value.iloc[1] == pytest.approx(model.wald_test("f[T.b]").p_value)
    # what other columns are made of: estimable as a sum, and by itself only as the fit has it
    X = data[["x"]].assign(z=np.sin(data.x), s=data.x + np.sin(data.x))
    with pytest.warns(AliasedFeaturesWarning):
        model = MixedLinearRegression("1 | g").fit(X, data.r, groups=data.g)
    table = model.linear_combination(["x + s", "x"])
    with_s = MixedLinearRegression("1 | g").fit(X[["s", "z"]], data.r, groups=data.g)
    assert table.estimate.iloc[0] == pytest.approx(with_s.coef_[0], rel=1e-6)
    assert "'x': as if 's'" in str(table) and "'x + s'" not in str(table)


def test_separated_and_unfinished_fits(data):
    with pytest.warns(SeparationWarning):
        separated = data.assign(y=np.where(data.f == "b", 1, data.y))
        model = GEELogisticRegression.from_formula("y ~ f + x", separated, groups="g")
    with pytest.warns(SeparationWarning):
        table = model.linear_combination(["f[T.b] - x", "x"])
    assert table.p_value.isna().tolist() == [True, False] and "separated by 'f[T.b]'" in str(table)
    with pytest.warns(ConvergenceWarning):
        model = MixedLogisticRegression.from_formula("y ~ x + (1 | g)", data, max_iter=1)
        table = model.linear_combination("x")
    assert table.p_value.isna().all() and "did not converge" in str(table) and "Tested: x = 0." in str(table)
