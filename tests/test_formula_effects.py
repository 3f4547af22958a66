"""Terms as effects: the columns of a formula are sum-to-zero columns times the matrix of its effects."""

import numpy as np
import pandas as pd
import pytest
from formulaic import Formula

from sklmm.design.formula_design import FormulaDesign
from sklmm.design.formula_effects import effects_of_formula


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    n = 150
    return pd.DataFrame({
        "y": rng.normal(size=n), "f": rng.choice(["b", "a", "c c"], n), "h": rng.choice(["v:w", "u"], n),
        "year": rng.choice([2009, 2010, 2011], n), "t": rng.random(n) > 0.5, "one": "k",
        "x": rng.normal(size=n), "body mass": rng.random(n),
    })  # fmt: skip


def _sum_to_zero(key, data):
    """Columns of a factor: each level but the last, in the order of their names, less the last."""
    ((name,), levels) = key
    column = data[name].astype(str)
    return np.column_stack([(column == level) * 1.0 - (column == levels[-1]) for level in levels[:-1]])


def _numbers(text, design, data):
    frame = data.rename(columns=design.stand_ins.of)
    return np.asarray(Formula(f"0 + {text}").get_model_matrix(frame), dtype=float)


def _columns(effect, design, data):
    keys, numbers = effect
    parts = [_sum_to_zero(key, data) for key in sorted(keys, key=str)]
    parts += [_numbers(text, design, data) for text in sorted(numbers)]
    found = np.ones((len(data), 1))
    for part in parts:
        found = np.einsum("ni,nj->nij", found, part).reshape(len(data), -1)
    return found


@pytest.mark.parametrize(
    "formula",
    [
        "f*h*x",
        "0 + f + h",
        "f:h",
        "0 + f:x",
        "f + f:x + h",
        "C(f, contr.sum)*C(h, contr.poly) + f:x",
        "C(f, contr.helmert):C(h, contr.diff):x",
        "C(f, levels=['c c', 'b', 'a'])*h",
        "C(f, contr.treatment('b'))*C(year, contr.poly) + x:f",
        "C(f, contr.custom([[1, 0], [0, 2], [-1, 0.5]]))*h",
        "C(f, contr.custom([[1], [0], [-1]]))*h + x",
        "bs(x, df=4)*f + one",
        "bs(x, df=4):f:poly(`body mass`, 2)",
        "poly(x, 2):bs(`body mass`, df=3) + f:one:h",
        "2:x + f:t + I(x**2):f + `body mass`:h",
        "1",
    ],
)
def test_columns_are_effects_times_their_rows(data, formula):
    design, _, X, *_ = FormulaDesign.read(f"y ~ {formula}", data)
    k = int(design.fit_intercept)
    whole = np.column_stack([np.ones((len(X), k)), X.to_numpy()])
    effects = effects_of_formula(design, whole.shape[1], design.fit_intercept)
    parts = [_columns(effect, design, data) @ rows for effect, rows in effects.rows.items() if len(rows)]
    np.testing.assert_allclose(sum(parts), whole, atol=1e-12)
    columns = [j for own in effects.columns for j in own]
    assert columns == list(range(k, whole.shape[1]))


def test_who_contains_whom(data):
    design, _, X, *_ = FormulaDesign.read("y ~ f*h + C(f, contr.sum):x + x", data)
    effects = effects_of_formula(design, 1 + X.shape[1], True)
    assert effects.names == ["f", "h", "x", "f:h", "C(f, contr.sum):x"]
    assert [*map(effects.relatives, range(5))] == [[3, 4], [3], [4], [], []]
    assert [len(effects.contrasts(effects.owned(term))) for term in range(5)] == [2, 1, 1, 2, 2]
    assert len(effects.contrasts(effects.lost_without([0, 3, 4]))) == 2 + 2 + 2
