"""Models that are compared must have seen the same rows: what tells them apart, and what does not."""

import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from sklmm import GEELogisticRegression, MixedLogisticRegression, compare_models, likelihood_ratio_test
from sklmm.exceptions import DifferentRowsWarning, NestingWarning
from sklmm.inference.same_rows import _numbers, check_rows, compare_rows, row_signature

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklmm.exceptions.NoGroupsWarning"),
    pytest.mark.filterwarnings("ignore::sklmm.exceptions.SingularFitWarning"),
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    g = rng.integers(0, 40, 1200)
    frame = pd.DataFrame({"g": g, "x": rng.normal(2010, 3, size=1200), "u": rng.normal(size=1200)})
    frame["f"], frame["town"] = rng.choice(list("abc"), 1200), rng.integers(0, 2, 1200)
    eta = 0.3 * (frame["x"] - 2010) + 1.2 * (frame["f"] == "b") + rng.normal(size=40)[g]
    frame["y"] = (rng.random(1200) < expit(eta)).astype(int)
    frame["other"] = (rng.random(1200) < expit(eta)).astype(int)
    # another outcome with as many ones
    frame["swapped"] = frame["y"].to_numpy()[rng.permutation(1200)]
    return frame


@pytest.fixture(scope="module")
def subsets(data):
    """Two samples of as many rows, with as many ones, and as many ones in each group."""
    ones = data.index[data["y"] == 1]
    pairs = [rows[:2] for _, rows in data.loc[ones].groupby("g").groups.items() if len(rows) > 1]
    return data.drop([first for first, _ in pairs]), data.drop([second for _, second in pairs])


def _mixed(formula, frame, **options):
    return MixedLogisticRegression.from_formula(f"{formula} + (1 | g)", frame, n_threads=1, **options)


def _gee(formula, frame, **options):
    return GEELogisticRegression.from_formula(formula, frame, groups="g", n_threads=1, **options)


def _accepted(one, other):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DifferentRowsWarning)
        assert len(compare_models({"one": one, "other": other})) == 2
        assert len(compare_models({"other": other, "one": one})) == 2


def _refused(one, other, words):
    for models in ({"one": one, "other": other}, {"other": other, "one": one}):
        with pytest.raises(ValueError, match="only models of the same rows and outcomes can be compared.*" + words):
            compare_models(models)


@pytest.mark.parametrize("fit", [_mixed, _gee])
def test_the_same_rows(data, fit):
    first = fit("y ~ x + u", data)
    shuffled = data.sample(frac=1, random_state=0)
    for formula in ("y ~ x + u + f", "y ~ town", "y ~ poly(x, 2) + scale(u) + f", "y ~ 1"):
        _accepted(first, fit(formula, data))
        _accepted(first, fit(formula, shuffled))
    # transforms learn from the rows, in their order, and differ by rounding
    formula = "y ~ poly(x, 2) + bs(u, df=5)"
    _accepted(fit(formula, data), fit(f"{formula} + f", shuffled))
    typed = shuffled.astype({"g": str, "town": bool, "f": "category", "u": np.float64})
    _accepted(first, fit("y ~ x + u + town", typed))
    assert likelihood_ratio_test(_mixed("y ~ x", data), _mixed("y ~ x + f", typed)).df == 2


@pytest.mark.parametrize("fit", [_mixed, _gee])
def test_weights_stand_for_rows(data, fit):
    frame = data.assign(n=np.arange(1200) % 3)
    counted = fit("y ~ x + u", frame, sample_weight="n")
    one_by_one = fit("y ~ x + u + f", frame.loc[frame.index.repeat(frame["n"])].sample(frac=1, random_state=1))
    _accepted(counted, one_by_one)
    _refused(counted, fit("y ~ x", frame[frame["n"] == 2].loc[lambda f: f.index.repeat(2)]), "|number of rows")


@pytest.mark.parametrize("fit", [_mixed, _gee])
def test_other_rows(subsets, fit):
    one, other = subsets
    assert one["y"].sum() == other["y"].sum() and (one.groupby("g")["y"].mean() == other.groupby("g")["y"].mean()).all()
    smaller = fit("y ~ x + u", one)
    for formula in ("y ~ x + u + f", "y ~ x", "y ~ town + x"):
        _refused(smaller, fit(formula, other), "'x'.* do not hold the same values in them")
    if fit is _mixed:
        with pytest.raises(ValueError, match="smaller and larger have as many rows, but 'x', 'u' do not hold"):
            likelihood_ratio_test(smaller, fit("y ~ x + u + f", other))


@pytest.mark.parametrize("fit", [_mixed, _gee])
def test_other_groups_of_as_many_rows(data, fit):
    moved = data.assign(g=data["g"].sample(frac=1, random_state=3).to_numpy()).sample(frac=1, random_state=4)
    _refused(fit("y ~ x", data), fit("y ~ x + u", moved), "'g'")


@pytest.mark.parametrize("fit", [_mixed, _gee])
def test_other_outcomes(data, fit):
    first = fit("y ~ x + u", data)
    _refused(first, fit("other ~ x + u", data), r"differ in their outcomes: shares of .* of the rows are 1")
    for formula in ("swapped ~ x + u", "swapped ~ x", "swapped ~ f"):
        _refused(first, fit(formula, data), "their outcomes: 'g'.* hold the same values, but other rows are 1")


def test_groups_of_another_name_do_not_hide_other_rows(data, subsets):
    renamed = MixedLogisticRegression.from_formula("y ~ x + (1 | h)", subsets[1].rename(columns={"g": "h"}))
    _refused(_mixed("y ~ x", subsets[0]), renamed, "'x'")
    blocks = data.assign(h=np.arange(1200) // 30).sample(frac=1, random_state=0)
    _accepted(_mixed("y ~ x", data), MixedLogisticRegression.from_formula("y ~ x + (1 | h)", blocks))


def test_columns_without_names(data, subsets):
    """Positions are no names: the same column may be there anywhere, and another one in its place."""

    def fit(frame, *columns, groups=True):
        rows = frame.assign(b=(frame["f"] == "b").astype(float), c=(frame["f"] == "c").astype(float))
        X = ((rows - rows.mean(numeric_only=True)) / rows.std(numeric_only=True))[list(columns)].to_numpy(dtype=float)
        return MixedLogisticRegression(n_threads=1).fit(X, frame["y"], groups=frame["g"] if groups else None)

    shuffled = data.sample(frac=1, random_state=0)
    for groups in (True, False):
        _accepted(fit(data, "x", "u", groups=groups), fit(shuffled, "b", "u", "x", groups=groups))
        _accepted(fit(data, "x", groups=groups), fit(data, "u", "b", groups=groups))
    _refused(fit(subsets[0], "x", "u", groups=False), fit(subsets[1], "x", "u", "b", groups=False), "'x0', 'x1' do not")
    _accepted(fit(data, "x"), fit(shuffled, "u", "b"))  # their groups are the same


def test_a_column_that_was_changed(data):
    """In the order in which they came the rows are the same, whatever a column holds now."""
    first, larger = _mixed("y ~ x + u", data), _mixed("y ~ x + u + f", data.assign(x=np.exp(data["x"] / 100)))
    _accepted(first, larger)
    with pytest.warns(NestingWarning, match="same rows, but 'x' held other values.*pass nested=True") as record:
        test = likelihood_ratio_test(first, larger)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert likelihood_ratio_test(first, larger, nested=True) == test
    with pytest.raises(ValueError, match="held other values: the models are not nested"):
        likelihood_ratio_test(first, larger, nested=False)


def test_a_column_that_was_changed_in_rows_that_are_sorted(data):
    """The order of outcomes then says nothing, that of groups does."""
    rows = data.sort_values("y")
    changed = rows.assign(x=np.exp(rows["x"] / 100))
    _accepted(_mixed("y ~ x", rows), _mixed("y ~ x + u", changed))
    one, other = (MixedLogisticRegression(n_threads=1).fit(frame[["x"]], frame["y"]) for frame in (rows, changed))
    _refused(one, other, "'x' do not hold the same values")


def test_nothing_in_common(data):
    def fit(frame, column):
        return MixedLogisticRegression(n_threads=1).fit(frame[[column]], frame["y"])

    _accepted(fit(data, "x"), fit(data, "u"))  # the order of outcomes is the same
    models = {"one": fit(data, "x"), "other": fit(data.sample(frac=1, random_state=0), "u")}
    with pytest.warns(DifferentRowsWarning, match="'one' and 'other' have no column or grouping factor in common") as w:
        compare_models(models)
    assert w[0].filename == __file__


def test_one_row_of_many_and_single_precision():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100_000, 2)), (np.arange(100_000) % 3 == 0).astype(np.uint8)
    first = row_signature(X, ["a", "b"], True, y, None, {})
    other = X.copy()
    other[y.argmax(), 0] += 0.01
    order = rng.permutation(len(X))
    shuffled = row_signature(other[order], ["a", "b"], True, y[order], None, {})
    assert compare_rows(first, shuffled) == ("rows", ["a"])
    assert compare_rows(first, row_signature(X[order], ["a", "b"], True, y[order], None, {})) == ("same", [])
    single = row_signature(X.astype(np.float32), ["a", "b"], True, y, None, {})
    assert compare_rows(first, single)[0] in ("same", "changed")
    repeated = row_signature(np.tile(X, (2, 1)), ["a", "b"], True, np.tile(y, 2), np.full(200_000, 0.5), {})
    assert compare_rows(first, repeated) == ("same", [])


def test_moments_are_those_of_the_rows():
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(50, 3, size=(5000, 3)), rng.integers(0, 2, 5000).astype(np.uint8), rng.random(5000)
    X[:, 2] = 4.0
    codes, levels = rng.integers(0, 7, 5000), pd.Index(list("abcdefg"))
    found = row_signature(X, list("pqr"), True, y, w, {"g": (codes, levels)})
    u, mean = _numbers(levels)[codes], np.average(X, axis=0, weights=w)
    sd = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))
    Z = (X - mean)[:, :2] / sd[:2]
    expected = np.column_stack([mean[:2], sd[:2], w @ (Z * y[:, None]) / w.sum(), w @ (Z * u[:, None]) / w.sum()])
    np.testing.assert_allclose(found.columns[:2], expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(found.columns[2], [4.0, 0, 0, 0], rtol=1e-14)
    np.testing.assert_allclose(found.factors["g"], [w @ u / w.sum(), w @ (u * y) / w.sum()], rtol=1e-12)
    assert found.share == pytest.approx(w @ y / w.sum(), rel=1e-13)


def test_labels_whatever_their_type():
    numbers = _numbers(pd.Index([7, 12, -3]))
    for labels in ([7.0, 12.0, -3.0], ["7", "12", "-3"], pd.Categorical([7, 12, -3]), pd.array([7, 12, -3], "Int64")):
        np.testing.assert_array_equal(_numbers(labels), numbers)
    assert len(set(_numbers(["a", "b", "7"]))) == 3 and np.abs(_numbers(np.arange(1000))).max() <= 0.5
    dates = pd.date_range("2020-01-01", periods=3)
    np.testing.assert_array_equal(_numbers(dates), _numbers(dates.to_numpy()))


def test_numbers_do_not_depend_on_the_process():
    code = "from sklmm.inference.same_rows import _numbers; print(*_numbers(['a', 'b']), *_numbers([1, 2]))"
    command, options = [sys.executable, "-c", code], {"capture_output": True, "text": True, "check": True}
    seeds = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("0", "1")]
    said = [subprocess.run(command, env=seed, **options).stdout.split() for seed in seeds]
    assert said[0] == said[1] == [str(number) for number in (*_numbers(["a", "b"]), *_numbers([1, 2]))]


# --- what the table says ----------------------------------------------------------------------------------------


def test_a_comparison_is_printed_whole(data):
    fits = {name: _gee("y ~ x + u + f", data, correlation=name) for name in ("independence", "exchangeable")}
    table = compare_models(fits)
    for text in (str(table), repr(table), table._repr_html_()):
        assert all(column in text for column in table.columns) and "..." not in text
    assert isinstance(table, pd.DataFrame) and type(table.to_frame()) is pd.DataFrame


def test_why_there_is_no_test(data):
    models = {
        "laplace": _mixed("y ~ x", data),
        "nodes": _mixed("y ~ x + u", data, n_quadrature=5),
        "apart": _mixed("y ~ f + u", data, n_quadrature=5),
    }
    table = compare_models(models, likelihood_ratio=True)
    assert table.columns[-4:].tolist() == ["statistic", "df", "p_value", "note"]
    assert table.loc["laplace", "note"] == ""
    assert table.loc["nodes", "note"] == "n_quadrature differs: 1 and 5"
    assert "'nodes': the smaller model has fixed effects that the larger one has not: 'x'" in table.loc["apart", "note"]
    words = "Likelihoods of different n_quadrature ('laplace' 1, 'nodes' 5, 'apart' 5) differ by the error"
    assert words in str(table) and words in str(compare_models(models))
    del models["laplace"]
    assert "n_quadrature" not in str(compare_models(models))
    stopped = MixedLogisticRegression("1 | g", max_iter=1)
    with pytest.warns(UserWarning, match="did not converge"):
        stopped.fit(data[["x"]], data["y"], groups=data[["g"]])
    assert "'stopped' did not converge: its criteria" in str(compare_models({**models, "stopped": stopped}))


def test_offsets_that_differ_in_more_than_a_constant():
    """They are told of as a column that held other values is."""
    rng = np.random.default_rng(0)
    X, y, offset = rng.normal(size=(300, 2)), rng.integers(0, 2, 300).astype(np.uint8), rng.normal(size=300)

    def signature(offset, rows=slice(None)):
        own = None if offset is None else offset[rows]
        return row_signature(X[rows], ["a", "b"], True, y[rows], None, {}, own)

    def changed(one, other):
        fits = [SimpleNamespace(row_signature=each) for each in (one, other)]
        models = [SimpleNamespace(_fitted=fit, classes_=[0, 1]) for fit in fits]
        return check_rows(*models, "one", "other")

    assert changed(signature(offset), signature(offset)) == []
    assert changed(signature(offset), signature(offset + 5.0, rng.permutation(300))) == []
    assert changed(signature(None), signature(np.full(300, 0.1))) == []
    for other in (None, 2.0 * offset, offset[::-1], offset**2):
        assert changed(signature(offset), signature(other)) == ["offset"]
