"""Power by simulation: the refits are those of full fits, and the same whatever n_jobs."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    power,
)
from sklmm.datasets import load_contraception, load_sleepstudy
from sklmm.exceptions import ConvergenceWarning, SklmmWarning


@pytest.fixture(scope="module")
def women():
    frame = load_contraception(as_frame=True).frame
    return frame[frame["district"] <= 25].reset_index(drop=True)


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(as_frame=True).frame


@pytest.fixture(scope="module")
def mixed(women):
    return MixedLogisticRegression.from_formula("use ~ age + urban + livch + (1 | district)", women, tol=1e-14)


def wald_of(name):
    def test(model, X, y, groups):
        return model.wald_test(name)

    return test


def model_of(kind, women, sleep):
    """A fitted model, its data, and a test."""
    if kind == "mixed":
        formula = "use ~ age + urban + livch + (1 + urban | district)"
        return MixedLogisticRegression.from_formula(formula, women, tol=1e-14), women, "livch"
    if kind == "quadrature":
        given = {"link": "probit", "n_quadrature": 5, "tol": 1e-14}
        return MixedLogisticRegression.from_formula("use ~ age + urban + (1 | district)", women, **given), women, "age"
    if kind == "gee":
        given = {"groups": "district", "cov_type": "mancl-derouen"}
        return GEELogisticRegression.from_formula("use ~ age + urban + livch", women, **given), women, "livch"
    if kind == "gee cloglog ar1":
        given = {"groups": "district", "link": "cloglog", "correlation": "ar1", "time": "woman"}
        return GEELogisticRegression.from_formula("use ~ age + urban", women, **given), women, ["age", "urban"]
    if kind == "gee linear":
        given = {"groups": "Subject", "correlation": "unstructured", "time": "Days", "cov_type": "naive"}
        return GEELinearRegression.from_formula("Reaction ~ Days", sleep, **given), sleep, "Days"
    df = kind.partition(" ")[2]
    given = {"df": df, "tol": 1e-14} if df != "none" else {"df": None, "method": "ml", "tol": 1e-14}
    return MixedLinearRegression.from_formula("Reaction ~ Days + (Days | Subject)", sleep, **given), sleep, "Days"


@pytest.mark.filterwarnings("ignore::sklmm.exceptions.WorkingCorrelationWarning")
@pytest.mark.parametrize(
    "kind",
    ["mixed", "quadrature", "gee", "gee cloglog ar1", "gee linear", "linear satterthwaite", "linear kenward-roger",
     "linear none"],
)  # fmt: skip
def test_refits_are_full_fits(kind, women, sleep):
    """The p-values of the same studies, fitted by the estimators' own `fit` and tested by their `wald_test`."""
    model, data, test = model_of(kind, women, sleep)
    group = next(iter(model.n_groups_))
    arguments = dict(sizes={group: [10, 20]}, n_simulations=2, random_state=3)
    quick = power(model, test, data, **arguments)
    whole = power(model, wald_of(test), data, **arguments)
    assert quick.p_values.notna().all(axis=None)
    np.testing.assert_allclose(quick.p_values, whole.p_values, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(quick.singular, whole.singular)


def test_default_tolerance_leaves_little(women):
    model = MixedLogisticRegression.from_formula("use ~ age + urban + livch + (1 | district)", women)
    quick = power(model, "urban", women, n_simulations=15, random_state=0)
    whole = power(model, wald_of("urban"), women, n_simulations=15, random_state=0)
    np.testing.assert_allclose(quick.p_values, whole.p_values, rtol=0, atol=1e-5)


def test_bitwise_the_same_whatever_n_jobs_and_where_it_is_resumed(mixed, women):
    arguments = dict(sizes={"district": [12, 30]}, random_state=7)
    whole = power(mixed, "livch", women, n_simulations=12, **arguments)
    two = power(mixed, "livch", women, n_simulations=12, n_jobs=2, **arguments)
    pd.testing.assert_frame_equal(whole.p_values, two.p_values, check_exact=True)
    part = power(mixed, "livch", women, n_simulations=5, **arguments)
    pd.testing.assert_frame_equal(part.p_values, whole.p_values.iloc[:5], check_exact=True)
    for again in (arguments, arguments | {"random_state": None}):
        resumed = power(mixed, "livch", women, n_simulations=12, resume=part, **again)
        pd.testing.assert_frame_equal(resumed.p_values, whole.p_values, check_exact=True)
        pd.testing.assert_frame_equal(resumed.table, whole.table, check_exact=True)
    other = power(mixed, "livch", women, n_simulations=12, **arguments | {"random_state": 8})
    assert not other.p_values.equals(whole.p_values)
    drawn = power(mixed, "livch", women, n_simulations=2, random_state=np.random.default_rng(0))
    resumed = power(mixed, "livch", women, n_simulations=3, resume=drawn)
    assert resumed.p_values.iloc[:2].equals(drawn.p_values)
    for change, message in [
        ({"random_state": 8}, "leave out random_state"),
        ({"sizes": {"district": [12]}}, "has the sizes"),
        ({"effects": {"age": 0.0}}, "another model, or of other effects"),
        ({"n_simulations": 4}, "5 studies"),
    ]:
        with pytest.raises(ValueError, match=message):
            power(mixed, "livch", women, **{"n_simulations": 12} | arguments | change, resume=part)
    with pytest.raises(ValueError, match="and this is of age = 0"):
        power(mixed, "age", women, n_simulations=12, **arguments, resume=part)
    with pytest.raises(TypeError, match="earlier result"):
        power(mixed, "livch", women, **arguments, resume=part.table)


def test_singular_fits_count(mixed, women):
    effects = {"sd_intercept|district": 0.0, "age": 0.1}
    found = power(mixed, "age", women, effects=effects, n_simulations=60, random_state=0)
    row = found.table.iloc[0]
    assert 15 < row["n_singular"] < 55
    assert row["n_failed"] == 0
    of_singular = found.p_values[found.singular == 1].stack()
    assert row["n_rejected"] == (found.p_values < 0.05).sum().iloc[0]
    assert 0 < (of_singular < 0.05).sum() < row["n_rejected"]


def test_studies_without_a_test_count_as_not_rejected():
    """Few rows: outcomes are all the same, or separated."""
    rng = np.random.default_rng(0)
    X, group = np.repeat([0.0, 1.0], 30)[:, None], np.tile(np.arange(10), 6)
    y = (rng.random(60) < 0.2 + 0.3 * X[:, 0]).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SklmmWarning)
        model = MixedLogisticRegression().fit(X, y, groups=group)
    effects = {"intercept": -3.0, "x0": -0.5, "sd_intercept|group": 0.1}
    with pytest.warns(ConvergenceWarning, match="of 40 simulated studies gave no test"):
        found = power(model, "x0", X, y, group, effects=effects, n_simulations=40, random_state=0)
    row = found.table.iloc[0]
    assert row["n_failed"] == found.p_values.isna().sum().iloc[0] > 5
    assert row["power"] == (found.p_values < 0.05).sum().iloc[0] / 40
    assert "count as not rejected" in repr(found)
    assert "count as not rejected" in found._repr_html_()
    with pytest.warns(ConvergenceWarning):
        steep = power(model, "x0", X, y, group, effects=effects | {"x0": 40.0}, n_simulations=10, random_state=0)
    assert steep.table["n_failed"].iloc[0] == 10  # every one separated


def test_likelihood_ratio(mixed, women):
    smaller = MixedLogisticRegression.from_formula("use ~ urban + livch + (1 | district)", women)
    lr = power(mixed, ("lr", smaller), women, n_simulations=12, random_state=0)
    wald = power(mixed, "age", women, n_simulations=12, random_state=0)
    np.testing.assert_allclose(lr.p_values, wald.p_values, atol=0.02)
    assert "use ~ urban" in lr.hypothesis
    with pytest.raises(TypeError, match='"lr", smaller'):
        power(mixed, ("lr", "age"), women)


def test_the_result(mixed, women):
    found = power(mixed, "urban", women, sizes={"district": [10, 20]}, n_simulations=20, random_state=0, alpha=0.1)
    text = repr(found)
    assert "urban[T.Y] = 0" in text
    assert "alpha = 0.1" in text
    assert "90" not in text.splitlines()[0]
    frame = found.to_frame()
    assert type(frame) is pd.DataFrame
    assert frame["district"].tolist() == [10, 20]
    np.testing.assert_array_equal(frame["power"], (found.p_values < 0.1).mean())
    np.testing.assert_allclose(frame["std_error"] ** 2, frame["power"] * (1 - frame["power"]) / 20)
    assert "<table" in found._repr_html_()
    with pytest.raises(AttributeError):
        found.alpha = 0.05


def test_curve(mixed, women):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    sizes = {"district": [20, 10], "rows_per_group": [5, 10]}
    found = power(mixed, "urban", women, sizes=sizes, n_simulations=5, random_state=0)
    display = found.plot()
    assert len(display.errorbars_) == 2
    line = display.errorbars_[0].lines[0]
    frame = display.to_frame()
    first = frame[frame["rows_per_group"] == 5].sort_values("district")
    np.testing.assert_array_equal(line.get_xdata(), [10, 20])
    np.testing.assert_array_equal(line.get_ydata(), first["power"])
    assert display.ax_.get_legend().get_texts()[0].get_text() == "rows a group: 5"
    assert display.ax_.get_xlabel() == "groups of district"
    alone = power(mixed, "urban", women, n_simulations=5, random_state=0).plot(plt.subplots()[1])
    assert alone.errorbars_[0].lines[0].get_ydata().size == 1
    plt.close("all")


def test_errors(mixed, women):
    with pytest.raises(NotFittedError):
        power(MixedLogisticRegression(), "age", women)
    for arguments, message in [
        ({"test": "agee"}, "agee"),
        ({"effects": {"sd_intercept": 1.0}}, "there is no parameter 'sd_intercept'"),
        ({"effects": {"age": np.nan}}, "must be a finite number"),
        ({"effects": {"sd_intercept|district": -1.0}}, "must be >= 0"),
        ({"sizes": {"school": [3]}}, "'school' is nothing that can be changed; there are 'district'"),
        ({"sizes": {"district": [0]}}, "integers >= 1"),
        ({"sizes": {"district": [4, 4]}}, "different numbers"),
        ({"sizes": [4, 4]}, "must be a dict"),
        ({"n_simulations": 0}, "integer >= 1"),
        ({"alpha": 5}, "alpha must be"),
        ({"X": women.iloc[:-1]}, "needs the rows of the fit"),
        ({"X": women.assign(use=1 - women["use"])}, "not the rows of the fit"),
    ]:
        given = {"X": women, "test": "age"} | arguments
        with pytest.raises(ValueError, match=message):
            power(mixed, **given)
    gee = GEELogisticRegression.from_formula("use ~ age", women, groups="district")
    for other in ({"age": women["age"][::-1].to_numpy()}, {"use": 1 - women["use"]}):
        with pytest.raises(ValueError, match="not the rows of the fit: its 'age' had other values"):
            power(gee, "age", women.assign(**other))
    null = GEELogisticRegression.from_formula("use ~ 1", women, groups="district")
    with pytest.raises(ValueError, match="it had other outcomes"):
        power(null, "intercept", women.assign(use=1 - women["use"]))
    assert len(power(null, "intercept", women[::-1], n_simulations=2).p_values) == 2
    with pytest.raises(ValueError, match="must return a p-value"):
        power(mixed, lambda model, X, y, groups: 7.0, women, n_simulations=1)
