"""Columns of a formula for new rows: tables of levels give what formulaic does."""

import pickle

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("formulaic")

from sklmm.design.formula_design import FormulaDesign


@pytest.fixture(scope="module")
def data():
    rng, n = np.random.default_rng(0), 300
    ordered = pd.CategoricalDtype(["lo", "mid", "hi", "never"], ordered=True)
    return pd.DataFrame(
        {
            "y": rng.integers(0, 2, n),
            "age": rng.normal(5, 1, n),
            "x.1": rng.random(n),
            "f": rng.choice(list("abc"), n),
            "g": pd.Categorical(rng.choice(["lo", "mid", "hi"], n), dtype=ordered),
            "year": rng.choice([2001, 2002, 2005], n),
            "b": rng.random(n) < 0.5,
            "two words": pd.Series(rng.choice(["p q", "r"], n), dtype="string"),
            "whole": pd.array(rng.integers(0, 5, n), dtype="Int64"),
            "school": rng.integers(0, 30, n),
        }
    )


@pytest.mark.parametrize(
    "right",
    ["1", "0 + age", "age*f", "f*g*age", "0 + f + g", "f:g", "age:f + f", "b*f + whole", "C(year)*age", "C(b):C(year)",
     "C(f, contr.sum)*g", "C(g, contr.poly)*age", "C(year, contr.treatment(base=2002))", "`two words`*`x.1`",
     "C(`two words`) + I(`x.1`**2)", "I(age**2)*f + np.log(age)", "bs(age, df=4)*f", "cr(age, df=4) + scale(age)*f",
     "poly(age, 2)", "age:`x.1`:f + age + `x.1`", "I(f == 'a') + C(f)", "I(age**2):f", "hashed(f, levels=5)",
     "age*f + (1 + I(age**2) | school) + (0 + f | school)"],
)  # fmt: skip
def test_tables_are_what_formulaic_makes(data, right):
    design, *_ = FormulaDesign.read(f"y ~ {right}", data)
    design = pickle.loads(pickle.dumps(design))
    assert all(design._tables)
    new = data.sample(77, random_state=1)
    expected = design._features(design._matrices(design.variables(new)))
    pd.testing.assert_frame_equal(design.new_rows(new, groups=0)[0], expected, rtol=1e-13, atol=0)
    one = design.new_rows(new.head(1), groups=0)[0]
    np.testing.assert_allclose(one, expected.head(1), rtol=1e-13)


@pytest.mark.parametrize("right", ["C(year % 2)", "poly(age, 2):f"])
def test_what_tables_do_not_say_is_left_to_formulaic(data, right):
    """Levels of a call, and products with what is no term of its own."""
    design, *_ = FormulaDesign.read(f"y ~ {right}", data)
    assert design._tables == [None]
    new = data.head(9)
    expected = design._features(design._matrices(design.variables(new)))
    pd.testing.assert_frame_equal(design.new_rows(new, groups=0)[0], expected)


def test_labels_of_other_types_are_levels_only_if_they_are_equal(data):
    design, *_ = FormulaDesign.read("y ~ C(year) + g", data)
    expected = design.new_rows(data, groups=0)[0]
    for column in (data.year.astype(float), data.year.astype("Int32")):
        pd.testing.assert_frame_equal(design.new_rows(data.assign(year=column), groups=0)[0], expected)
    for column in (data.g.astype(str), data.g.cat.reorder_categories(["never", "hi", "lo", "mid"])):
        pd.testing.assert_frame_equal(design.new_rows(data.assign(g=column), groups=0)[0], expected)
    for column in (data.year.replace(2005, 2004), data.year + 0.5):
        with pytest.raises(ValueError, match="which the fit did not see; its levels are 2001, 2002, 2005"):
            design.new_rows(data.assign(year=column), groups=0)
    for column in (data.year.astype(str), data.year.astype("category")):
        with pytest.raises(ValueError, match="'year' held numbers at the fit"):
            design.new_rows(data.assign(year=column), groups=0)
    with pytest.raises(ValueError, match="column 'g' holds 'none', which the fit did not see"):
        design.new_rows(data.assign(g="none"), groups=0)
