"""Tests of terms: against analyses of variance written out, under every coding, in words where there is none."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    likelihood_ratio_test,
    term_tests,
)
from sklmm.datasets import load_contraception
from sklmm.exceptions import AliasedFeaturesWarning, ConvergenceWarning, NotEstimableWarning, SeparationWarning

CODINGS = [
    ("f", "h"),
    ("C(f, contr.sum)", "C(h, contr.sum)"),
    ("C(f, contr.treatment('c'))", "C(h, contr.treatment('v'))"),
    ("C(f, contr.poly)", "h"),
    ("C(f, levels=['b', 'c', 'a'])", "C(h, contr.SAS)"),
    ("C(f, contr.helmert)", "C(h, contr.diff)"),
]


def _data(n=300, seed=0):
    """Unbalanced: a factor of three levels, one of two, a number, groups; outcomes that depend on all of them."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({
        "f": rng.choice(list("abc"), n, p=[0.5, 0.3, 0.2]), "h": rng.choice(["u", "v"], n, p=[0.6, 0.4]),
        "x": rng.normal(2.0, 1.0, n), "g": rng.integers(0, 60, n),
    })  # fmt: skip
    effects = rng.normal(size=60)
    mean = 1.2 * effects[data.g] + 0.3 * data.x + (data.f == "b") * (0.5 + 0.4 * data.x * (data.h == "u")) - 1.0
    data["r"] = mean + rng.normal(size=n)
    data["y"] = (data.r + rng.logistic(size=n) > 0).astype(int)
    return data


@pytest.fixture(scope="module")
def data():
    return _data()


def _sums(column):
    """Sum-to-zero columns of a factor."""
    levels = sorted(column.unique())
    return np.column_stack([(column == level) * 1.0 - (column == levels[-1]) for level in levels[:-1]])


def _products(*factors):
    return np.column_stack([np.prod(own, axis=0) for own in product(*(factor.T for factor in factors))])


def _columns(data):
    """Columns of the terms of f*h + x + f:x, coded to sum to zero."""
    f, h, x = _sums(data.f), _sums(data.h), data[["x"]].to_numpy()
    return {"1": np.ones((len(data), 1)), "f": f, "h": h, "x": x, "f:h": _products(f, h), "f:x": _products(f, x)}


def _rss(y, columns):
    X = np.column_stack(list(columns))
    beta, *_ = np.linalg.lstsq(X, y, rcond=None)
    return np.sum((y - X @ beta) ** 2), np.linalg.matrix_rank(X)


CONTAINING = {"f": ["f:h", "f:x"], "h": ["f:h"], "x": ["f:x"], "f:h": [], "f:x": []}


def _anova(data, type):
    """F tests by comparing sums of squares of least squares fits."""
    columns, y = _columns(data), data.r.to_numpy()
    full, rank = _rss(y, columns.values())
    found = {}
    for term, containing in CONTAINING.items():
        if type == "drop" and containing:
            continue
        apart = containing if type == 2 else []
        larger, more = _rss(y, [own for name, own in columns.items() if name not in apart])
        smaller, fewer = _rss(y, [own for name, own in columns.items() if name not in [*apart, term]])
        df, left = more - fewer, len(y) - rank
        F = (smaller - larger) / df / (full / left)
        found[term] = (F, df, left, stats.f.sf(F, df, left))
    return pd.DataFrame(found, index=["F", "df", "df_resid", "p_value"]).T


@pytest.mark.parametrize("type", [2, 3, "drop"])
def test_least_squares_against_an_analysis_of_variance_by_hand(data, type):
    plain = data.drop(columns="g")
    with pytest.warns(UserWarning, match="no groups"):
        model = MixedLinearRegression.from_formula("r ~ f*h + x + f:x", plain, df="residual")
    table, expected = term_tests(model, type), _anova(data, type)
    assert list(table.index) == list(expected.index)
    np.testing.assert_allclose(table.to_numpy(dtype=float), expected.to_numpy(), rtol=1e-7)


@pytest.mark.parametrize("type", [2, "drop"])
def test_a_cell_without_data_against_ranks_and_sums_of_squares(data, type):
    rows = data[~((data.f == "c") & (data.h == "v"))]
    with pytest.warns(AliasedFeaturesWarning):
        model = GEELinearRegression.from_formula(
            "r ~ f*h + x + f:x", rows.assign(g=range(len(rows))), groups="g", cov_type="naive"
        )
    table, expected = term_tests(model, type), _anova(rows, type)
    np.testing.assert_allclose(table.chi2, expected.F * expected.df, rtol=1e-7)
    assert table.df.tolist() == expected.df.tolist()
    assert table.loc["f:h", "df"] == 1
    assert "'f:h': 1 of 2 columns are estimable." in table.attrs["notes"]


FULL = 1e-14  # steps are taken until rounding is all that is left
FITS = {
    "mixed logistic": lambda text, data: MixedLogisticRegression.from_formula(f"y ~ {text} + (1 | g)", data, tol=FULL),
    "mixed linear": lambda text, data: MixedLinearRegression.from_formula(f"r ~ {text} + (1 | g)", data, tol=FULL),
    "marginal logistic": lambda text, data: GEELogisticRegression.from_formula(f"y ~ {text}", data, groups="g"),
    "marginal linear": lambda text, data: GEELinearRegression.from_formula(f"r ~ {text}", data, groups="g"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FITS)
@pytest.mark.parametrize(
    "formula",
    ["{f}*{h} + x + {f}:x", "{f}:{h}", "0 + {f} + {h}", "{f} + {f}:x", "bs(x, df=4)*{f}"],
    ids=["marginality", "one product", "no intercept", "slopes by level", "curves"],
)
def test_the_same_under_every_coding(data, kind, formula):
    """To 1e-8, by which fits of two codings may differ."""
    codings = CODINGS if formula.startswith("{f}*{h}") else CODINGS[:3]
    fits = [FITS[kind](formula.format(f=f, h=h), data) for f, h in codings]
    for type in (2, 3):
        one, *others = [term_tests(model, type) for model in fits]
        assert (one.df > 0).all()
        for other in others:
            for column in one.columns:
                np.testing.assert_allclose(other[column], one[column], rtol=1e-8 if column != "df_resid" else 1e-6)
    if formula.startswith("{f}*{h}"):  # not so what "all coefficients are 0" says
        treated, summed = (fits[i].wald_test(codings[i][0]).statistic for i in (0, 1))
        assert abs(treated - summed) > 1e-3 * summed
        assert one.iloc[0, 0] == pytest.approx(summed, rel=1e-8)


@pytest.mark.parametrize("kind", ["mixed logistic", "marginal logistic"])
def test_type_3_is_about_means_of_cells(data, kind):
    """Of the model with a coefficient a cell: averages over the other factor, with equal weight, are equal."""
    cells = data.assign(cell=data.f + data.h)
    order = [a + b for a in "abc" for b in "uv"]
    means = FITS[kind]("0 + cell + x", cells)
    names = [f"cell[{cell}]" for cell in order]
    table = term_tests(FITS[kind]("f*h + x", data), type=3)
    of_f = pd.DataFrame([[0.5, 0.5, -0.5, -0.5, 0, 0], [0.5, 0.5, 0, 0, -0.5, -0.5]], columns=names)
    of_h = pd.DataFrame([[1, -1] * 3], columns=names)
    for term, contrast in (("f", of_f), ("h", of_h)):
        test = means.wald_test(contrast)
        assert table.loc[term, "df"] == test.df
        assert table.loc[term, "chi2" if "chi2" in table else "F"] == pytest.approx(test.statistic, rel=1e-7)


def test_satterthwaite_and_kenward_roger(data):
    """A type 2 test without relatives is that of the term's coefficients, whatever the degrees of freedom."""
    model = MixedLinearRegression.from_formula("r ~ f + x + (1 | g)", data, df="kenward-roger")
    for df in ("fit", "satterthwaite", "residual", None):
        table = term_tests(model, df=df)
        test = model.wald_test("x", df=df)
        assert table.p_value["x"] == pytest.approx(test.p_value, rel=1e-10)
        both = model.wald_test("f", df=df)
        # Fai and Cornelius' denominators depend a little on how a hypothesis is written
        assert table.p_value["f"] == pytest.approx(both.p_value, rel=1e-3 if df == "satterthwaite" else 1e-8)
        assert ("F" in table) == (df is not None)


# --- likelihood ratios --------------------------------------------------------------------------------------------


def test_likelihood_ratios_are_those_of_refits(data):
    def fit(formula, bar="(1 | g)"):
        return MixedLogisticRegression.from_formula(f"y ~ {formula} + {bar}", data)

    model = fit("f*h + x + f:x")
    dropped = term_tests(model, "drop", method="lr", X=data)
    assert list(dropped.index) == ["f:h", "f:x"]
    for term, formula in (("f:h", "f + h + x + f:x"), ("f:x", "f*h + x")):
        assert tuple(dropped.loc[term]) == pytest.approx(tuple(likelihood_ratio_test(fit(formula), model)), abs=1e-5)
    slopes = fit("h + x", "(1 + x | g)")  # which stay where their fixed effect is left out
    by_hand = likelihood_ratio_test(fit("h", "(1 + x | g)"), slopes)
    assert tuple(term_tests(slopes, method="lr", X=data).loc["x"]) == pytest.approx(tuple(by_hand), abs=1e-5)
    second = term_tests(model, 2, method="lr", X=data)
    of_f = likelihood_ratio_test(fit("h + x"), fit("f + h + x"))
    assert tuple(second.loc["f"]) == pytest.approx(tuple(of_f), abs=1e-5)
    summed = fit("C(f, contr.sum)*h + x + C(f, contr.sum):x")
    third = [term_tests(one, 3, method="lr", X=data) for one in (model, summed)]
    np.testing.assert_allclose(third[0].to_numpy(), third[1].to_numpy(), atol=1e-6)


def test_likelihood_ratios_of_linear_models(data):
    def fit(formula, **how):
        return MixedLinearRegression.from_formula(f"r ~ {formula} + (1 | g)", data, **how)

    larger, smaller = fit("f + x", method="ml"), fit("x", method="ml")
    table = term_tests(larger, method="lr", X=data)
    assert tuple(table.loc["f"]) == pytest.approx(tuple(likelihood_ratio_test(smaller, larger)), abs=1e-6)
    with pytest.raises(ValueError, match="REML.*method='ml'"):
        term_tests(fit("f + x"), method="lr", X=data)
    with pytest.raises(ValueError, match="these are not the rows of the fit"):
        term_tests(larger, method="lr", X=data.assign(r=data.r + np.sin(data.x)))


def test_contraception_against_lme4():
    """anova(m_01, m_02) of lme4 1.1: the square of age."""
    women = load_contraception(as_frame=True).frame
    model = MixedLogisticRegression.from_formula("use ~ age + I(age**2) + urban + livch + (1 | district)", women)
    table = term_tests(model, method="lr", X=women)
    assert table.loc["I(age ** 2)", "chi2"] == pytest.approx(40.8871072085749, abs=2e-3)
    assert table.df.tolist() == [1, 1, 1, 3]


def test_without_a_formula_each_feature_is_a_term(data):
    X = data[["x"]].assign(b=data.f == "b", c=1.0 * (data.f == "c"), w=np.arange(len(data)) % 3 + 1).astype(float)
    groups, offset = data.g, data.x / 10
    model = MixedLogisticRegression("1 | g").fit(X, data.y, groups=groups, offset=offset, sample_weight=X.w)
    table = term_tests(model)
    assert list(table.index) == ["x", "b", "c", "w"]
    assert table.p_value["b"] == pytest.approx(model.wald_test("b").p_value, rel=1e-9)
    rows = {"X": X, "y": data.y, "groups": groups, "offset": offset, "sample_weight": X.w}
    smaller = MixedLogisticRegression("1 | g").fit(
        X.drop(columns="b"), data.y, groups=groups, offset=offset, sample_weight=X.w
    )
    ratio = term_tests(model, method="lr", **rows).loc["b"]
    assert tuple(ratio) == pytest.approx(tuple(likelihood_ratio_test(smaller, model)), abs=1e-5)


# --- what can't be tested -----------------------------------------------------------------------------------------


def test_type_3_leaves_out_what_is_not_estimable(data):
    rows = data[~((data.f == "c") & (data.h == "v"))]
    with pytest.warns(AliasedFeaturesWarning):
        model = MixedLogisticRegression.from_formula("y ~ f*h + x + (1 | g)", rows)
    with pytest.warns(NotEstimableWarning, match="not tested, and NaN: 'h'"):
        table = term_tests(model, 3)
    assert table.df.tolist() == [1, 0, 1, 1]
    assert np.isnan(table.p_value["h"])
    assert "NaN for 'h': nothing of 'h' is estimable" in str(table)
    # what is left of f: a against b, over both levels of h
    with_data = model.linear_combination("f[T.b] + f[T.b]:h[T.v] / 2")
    assert table.chi2["f"] == pytest.approx(with_data.z.iloc[0] ** 2, rel=1e-8)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_do_not_matter(data, unit):
    """Neither do they where a cell is empty."""
    for rows in (data, data[~((data.f == "c") & (data.h == "v"))]):
        rows = rows.assign(g=range(len(rows)))
        for type in (2, 3):
            one, other = (
                term_tests(GEELinearRegression.from_formula("r ~ f*h + f*x", table, groups="g"), type)
                for table in (rows, rows.assign(x=rows.x * unit))
            )
            np.testing.assert_allclose(one, other, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.SklmmWarning")
def test_columns_that_depend_on_others_leave_the_rest_alone(data):
    """Indicators of all levels beside an intercept, one of which is left out."""
    plain = MixedLogisticRegression.from_formula("y ~ f*x + h + (1 | g)", data)
    whole = MixedLogisticRegression.from_formula("y ~ 0 + f + x + f:x + h + (1 | g)", data, fit_intercept=True)
    for type in (2, 3, "drop"):
        np.testing.assert_allclose(
            term_tests(whole, type).to_numpy(), term_tests(plain, type).loc[term_tests(whole, type).index], rtol=1e-6
        )
    X = pd.get_dummies(data.f).astype(float).assign(x=data.x * 1e3 + 7e4, u=np.sin(data.x))
    model = GEELogisticRegression().fit(X, data.y, groups=data.g)
    assert term_tests(model).df.tolist() == [0, 0, 0, 1, 1]
    table = model.linear_combination(["a - b", "x", "u"])
    assert len(table.attrs["notes"]) == 1 and table.p_value.notna().all()


def test_collinear_features_and_factors_of_one_level(data):
    X = data[["x"]].assign(z=np.sin(data.x), s=data.x + np.sin(data.x))
    with pytest.warns(AliasedFeaturesWarning):
        model = MixedLogisticRegression("1 | g").fit(X, data.y, groups=data.g)
    with pytest.warns(NotEstimableWarning):
        table = term_tests(model)
    assert table.df.tolist() == [0, 0, 0] and table.p_value.isna().all()
    model = GEELogisticRegression.from_formula("y ~ one + x", data.assign(one="k"), groups="g")
    with pytest.warns(NotEstimableWarning):
        table = term_tests(model)
    assert "'one' took one value in the fit" in str(table)
    assert table.p_value["x"] == pytest.approx(model.wald_test("x").p_value)


def test_separated_and_unfinished_fits(data):
    separated = data.assign(y=np.where(data.f == "c", 1, data.y))
    with pytest.warns(SeparationWarning):
        model = MixedLogisticRegression.from_formula("y ~ f + x + (1 | g)", separated)
    table = term_tests(model)
    assert np.isnan(table.p_value["f"]) and table.p_value["x"] == pytest.approx(model.wald_test("x").p_value)
    assert "separated by 'f[T.c]'" in str(table) and "Type 2" in str(table)
    assert term_tests(model, method="lr", X=separated).p_value["f"] < 1e-6
    with pytest.warns(ConvergenceWarning):
        model = MixedLogisticRegression.from_formula("y ~ f + x + (1 | g)", data, max_iter=1)
    table = term_tests(model)
    assert table.p_value.isna().all() and "did not converge" in str(table)


def test_fewer_clusters_than_coefficients(data):
    with pytest.warns(UserWarning):
        model = GEELinearRegression.from_formula("r ~ f*h + x", data.assign(g=data.g % 4), groups="g")
    table = term_tests(model)
    assert table.p_value.isna().all() and "no residual degrees of freedom are left" in str(table)


def test_remarks_say_what_is_tested(data):
    table = term_tests(FITS["mixed logistic"]("f*x + h", data), 3)
    assert table.attrs["notes"] == [
        "Type 3: each term adjusted for all others; Wald tests.", "'f' is tested where x is 0."
    ]  # fmt: skip
    table = term_tests(FITS["marginal linear"]("0 + f + f:x", data), 3)
    assert "The model has no intercept: of 'f' all means are tested to be 0." in str(table)
    assert "'f:x' stands for terms within it, too" in str(table)
    assert term_tests(FITS["marginal linear"]("1", data)).empty


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"type": 1}, ValueError, "type must be 2, 3 or 'drop', got 1"),
        ({"type": True}, ValueError, "type must be"),
        ({"method": "score"}, ValueError, "method must be 'wald' or 'lr'"),
        ({"X": [[1.0]]}, ValueError, "takes no rows"),
        ({"method": "lr"}, ValueError, "needs a likelihood, which estimating equations do not have"),
        ({"df": "residual"}, ValueError, "is for linear mixed models"),
    ],
)
def test_bad_arguments(data, options, error, words):
    with pytest.raises(error, match=words):
        term_tests(FITS["marginal linear"]("x", data), **options)


def test_what_is_no_fitted_model():
    with pytest.raises(ValueError, match="not fitted"):
        term_tests(MixedLogisticRegression())
    with pytest.raises(TypeError):
        term_tests("model")
