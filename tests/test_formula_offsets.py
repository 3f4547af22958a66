"""offset(...) in a formula: expressions of columns, added to the linear predictor of the fit and of new rows."""

import pickle

import numpy as np
import pandas as pd
import pytest

from sklmm import MixedLogisticRegression
from sklmm.design.formula import FormulaRecipe
from sklmm.design.formula_text import split_formula
from sklmm.exceptions import DroppedRowsWarning
from sklmm.prediction.population import average_marginal_effects

pytest.importorskip("formulaic")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    n = 200
    return pd.DataFrame(
        {
            "y": rng.integers(0, 2, n), "x": rng.normal(size=n), "exposure": rng.uniform(0.5, 3.0, n),
            "log pop": rng.normal(size=n), "f": rng.choice(list("ab"), n), "g": rng.integers(0, 10, n),
            "flag": rng.random(n) < 0.5,
        }
    )  # fmt: skip


def read(formula, data, **parameters):
    return FormulaRecipe(formula, **parameters).rows(data)


@pytest.mark.parametrize(
    ("formula", "offsets", "fixed"),
    [
        ("y ~ a + offset(log(x)) + (1 | g)", ["log(x)"], "a"),
        ("y ~ offset(x)", ["x"], "1"),
        ("y ~ offset(x) + a", ["x"], "a"),
        ("y ~ offset(x) - 1 + a", ["x"], "- 1 + a"),
        ("y ~ a + offset (x - (z)) + offset(`b c`) + b", ["x - (z)", "`b c`"], "a + b"),
        ("y ~ (1 | g) + offset(x)", ["x"], "1"),
        ("y ~ offset", [], "offset"),
    ],
)
def test_offsets_are_split_off(formula, offsets, fixed):
    parts = split_formula(formula)
    assert parts.offsets == offsets and parts.fixed == fixed


@pytest.mark.parametrize(
    ("term", "value"),
    [
        ("offset(log(exposure))", lambda d: np.log(d["exposure"])),
        ("offset(`log pop`)", lambda d: d["log pop"]),
        ("offset(log(exposure) + 2 * `log pop` - 1)", lambda d: np.log(d["exposure"]) + 2 * d["log pop"] - 1),
        ("offset(exposure) + offset(x ** 2)", lambda d: d["exposure"] + d["x"] ** 2),
        ("offset(np.log1p(exposure))", lambda d: np.log1p(d["exposure"])),
    ],
)
def test_any_expression(data, term, value):
    design, rows = read(f"y ~ x + {term} + (1 | g)", data)
    np.testing.assert_allclose(rows.offset, value(data), rtol=1e-14)
    assert list(rows.X.columns) == ["x"] and design.has_offset
    new = data.drop(columns="y").iloc[[5, 3]]
    np.testing.assert_allclose(design.offset(new), value(new), rtol=1e-14)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(design)).offset(new), value(new), rtol=1e-14)
    X, _ = design.new_rows(new)
    assert X["x"].tolist() == new["x"].tolist()


def test_transforms_remember_the_rows_of_the_fit(data):
    design, rows = read("y ~ x + offset(center(exposure))", data)
    assert abs(rows.offset.mean()) < 1e-12
    np.testing.assert_allclose(design.offset(data.head(3)), data["exposure"].head(3) - data["exposure"].mean())


def test_without_an_offset(data):
    design, rows = read("y ~ x", data)
    assert rows.offset is None and design.offset(data) is None and not design.has_offset
    assert design.offset_of(design.variables(data)) is None


def test_two_rows_of_a_line_of_counts_have_its_offset(data):
    lines = data.assign(k=1, n=3)
    _, rows = read("k | n ~ x + offset(log(exposure))", lines)
    np.testing.assert_allclose(rows.offset, np.repeat(np.log(data["exposure"]), 2))
    np.testing.assert_array_equal(rows.line, np.repeat(np.arange(200), 2))


def test_a_dot_leaves_the_offsets_columns_out(data):
    design, _ = read("y ~ . + offset(log(exposure) + `log pop`)", data, groups="g")
    assert sorted(design.variable_names) == ["exposure", "f", "flag", "log pop", "x"]
    assert {name for _, columns in design.terms() for name in columns} == {"f[T.b]", "flag", "x"}
    assert design.offset_only == ["exposure", "log pop"]
    again, _ = read("y ~ exposure + offset(log(exposure))", data)
    assert again.offset_only == []


def test_missing_and_undefined(data):
    gone = data.assign(exposure=data["exposure"].where(data.index != 7))
    zero = data.assign(exposure=data["exposure"].where(data.index != 7, 0.0))
    with pytest.raises(ValueError, match=r"1 of 200 rows have missing values, in 'exposure' \(1\)"):
        read("y ~ x + offset(log(exposure))", gone)
    with pytest.raises(ValueError, match=r"'offset\(log\(exposure\)\)' is not defined in 1 of 200 rows"):
        read("y ~ x + offset(log(exposure))", zero)
    design, rows = read("y ~ x + offset(log(exposure))", gone, missing="drop")
    assert 7 not in rows.line and np.isfinite(rows.offset).all() and len(rows.X) == 199
    with pytest.warns(DroppedRowsWarning, match=r"'offset\(log\(exposure\)\)' \(1\)"):
        _, rows = read("y ~ x + offset(log(exposure))", zero, missing="drop")
    assert 7 not in rows.line and len(rows.offset) == len(rows.X) == 199
    with pytest.raises(ValueError, match=r"missing values, in 'exposure' \(1\)"):
        design.offset(gone)
    with pytest.raises(ValueError, match=r"'offset\(log\(exposure\)\)' is not defined in 1 of 200 rows"):
        design.offset(zero)
    with pytest.raises(ValueError, match="names 'exposure', which is no column"):
        design.offset(data.drop(columns="exposure"))
    for frame in (gone, zero):
        assert design.defined_rows(frame).sum() == 199 and not design.defined_rows(frame)[7]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ x * offset(exposure)", "an offset is added to the rest with"),
        ("y ~ x - offset(exposure)", "an offset is added to the rest with"),
        ("y ~ offset(exposure):x", "expected '\\+' after 'offset"),
        ("y ~ (x + offset(exposure))", r"offset\(...\) stands by itself"),
        ("y ~ x + offset(f)", r"offset\(f\) must be one number for each row"),
        ("y ~ x + offset(log(nothing))", "names 'nothing', which is no column"),
        ("y ~ x + offset(bs(exposure, df=4))", "must be one number for each row"),
        ("y ~ x + offset()", r"can't evaluate offset\(\)"),
    ],
)
def test_what_is_no_offset(data, formula, message):
    with pytest.raises(ValueError, match=message):
        read(formula, data)


def test_effects_move_offsets_along(data):
    """A variable that is in an offset, too, moves both; one that is there alone is no default."""
    model = MixedLogisticRegression.from_formula("y ~ x + exposure + offset(2.0 * exposure) + (1 | g)", data)
    table = average_marginal_effects(model, data, predict_effects="zero")
    assert list(table.index) == ["exposure", "x"]
    eta = model.intercept_[0] + data[["x", "exposure"]] @ np.array(
        [model.coef_[0][list(model.vcov_.index[1:]).index(name)] for name in ("x", "exposure")]
    ) + 2.0 * data["exposure"]  # fmt: skip
    slope = np.exp(-eta) / (1 + np.exp(-eta)) ** 2
    coefficient = model.coef_[0][list(model.vcov_.index[1:]).index("exposure")] + 2.0
    assert table.loc["exposure", "estimate"] == pytest.approx(np.mean(slope) * coefficient, rel=1e-7)
