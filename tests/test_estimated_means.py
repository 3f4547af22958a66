"""Estimated means and their contrasts, against averages and definitions written out here."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from sklmm import (
    GEELinearRegression,
    GEELogisticRegression,
    MixedLinearRegression,
    MixedLogisticRegression,
    estimated_means,
)
from sklmm.datasets import load_contraception
from sklmm.exceptions import NotEstimableWarning, SeparationWarning
from sklmm.inference.multiplicity import Joint, adjusted, reach_of

pytest.importorskip("formulaic")
FORMULA = "use ~ age + I(age**2) + C(livch)*urban + (1 | district)"
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


@pytest.fixture(scope="module")
def data():
    return load_contraception(as_frame=True).frame


@pytest.fixture(scope="module")
def model(data):
    return MixedLogisticRegression.from_formula(FORMULA, data)


@pytest.fixture(scope="module")
def score(data):
    random = np.random.default_rng(0)
    effect = random.normal(size=61)[data["district"].astype("category").cat.codes]
    return data.assign(score=10.0 + data["age"] / 5 + 2 * (data["livch"] == "2") + effect + random.normal(size=1934))


def of_population(eta, sd):
    return (expit(np.asarray(eta)[..., None] + sd * NODES) * WEIGHTS).sum(axis=-1) / WEIGHTS.sum()


@pytest.mark.parametrize("effects", ["marginal", "zero"])
def test_means_over_rows_are_averages_of_predictions(model, data, effects):
    found = estimated_means(model, data, "livch", by="urban", predict_effects=effects)
    for (livch, urban), row in found.to_frame().iterrows():
        rows = data.assign(livch=pd.Categorical([livch] * len(data), data["livch"].cat.categories))
        rows["urban"] = pd.Categorical([urban] * len(data), data["urban"].cat.categories)
        p = model.predict_proba(rows, predict_effects=effects)[:, 1]
        assert row["estimate"] == pytest.approx(p.mean(), abs=1e-9)
    weights = np.random.default_rng(0).integers(0, 3, len(data))
    weighted = estimated_means(model, data, "livch", sample_weight=weights).to_frame()
    repeated = estimated_means(model, data.loc[data.index.repeat(weights)], "livch").to_frame()
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9)


def test_errors_are_those_of_the_delta_method(model, data):
    """By differences in the user's coefficients and standard deviation, whose covariance the profile's units have."""
    gee = GEELogisticRegression.from_formula(FORMULA.replace("(1 | district)", "1"), data, groups="district")
    for fit, effects in ((gee, "marginal"), (model, "zero")):
        names = list(fit.vcov_.index)
        beta = fit.summary().coefficients["estimate"].to_numpy()

        def design(livch, names=names):
            columns = {"intercept": 1.0, "age": data["age"], "I(age ** 2)": data["age"] ** 2}
            urban = (data["urban"] == "Y") * 1.0
            for name in names:
                if name not in columns:
                    level = name.split("[T.")[1].split("]")[0] if "livch" in name else None
                    columns[name] = (urban if "urban" in name else 1.0) * (1.0 if level in (None, livch) else 0.0)
            return np.column_stack([np.broadcast_to(columns[name], len(data)) for name in names])

        p = {level: expit(design(level) @ beta) for level in ("0", "1", "2", "3+")}
        G = np.array([(p[level] * (1 - p[level])) @ design(level) / len(data) for level in p])
        V = G @ fit.vcov_.to_numpy() @ G.T
        means = estimated_means(fit, data, "livch", predict_effects=effects)
        np.testing.assert_allclose(means.estimate, [each.mean() for each in p.values()], atol=1e-9)
        np.testing.assert_allclose(means.covariance, V, rtol=1e-6, atol=1e-9)
        table = means.to_frame()
        m, se = table["estimate"], table["std_error"]
        z = stats.norm.ppf(0.975)
        np.testing.assert_allclose(table["upper"], expit(logit(m) + z * se / (m * (1 - m))), rtol=1e-9)
        contrasts = means.contrasts("reference", adjust="none")
        np.testing.assert_allclose(contrasts["estimate"], m.to_numpy()[1:] - m.iloc[0], atol=1e-12)
        L = np.column_stack([-np.ones(3), np.eye(3)])
        se = np.sqrt(np.diagonal(L @ V @ L.T))
        np.testing.assert_allclose(contrasts["std_error"], se, rtol=1e-5)
        np.testing.assert_allclose(contrasts["upper"], contrasts["estimate"] + z * contrasts["std_error"], rtol=1e-9)
        log = L / m.to_numpy()
        np.testing.assert_allclose(contrasts["risk_ratio"], m.to_numpy()[1:] / m.iloc[0], rtol=1e-9)
        log_se = np.log(contrasts["risk_ratio_upper"] / contrasts["risk_ratio"]) / z
        np.testing.assert_allclose(log_se, np.sqrt(np.diagonal(log @ V @ log.T)), rtol=1e-5)


def test_means_over_a_grid_are_those_of_their_definition(model, data):
    """Linear predictors at the mean age, for all levels, averaged over urban; with and without the interaction."""
    plain = MixedLogisticRegression.from_formula("use ~ age + C(livch) + urban + (1 | district)", data)
    z = stats.norm.ppf(0.975)
    for fit in (model, plain):
        b, age = fit.summary().coefficients["estimate"], data["age"].mean()
        eta = np.empty((4, 2))
        gradient = np.zeros((4, 2, len(b)))
        for i, livch in enumerate(["0", "1", "2", "3+"]):
            for j, urban in enumerate("NY"):
                x = pd.Series(0.0, index=b.index)
                x["intercept"], x["age"] = 1.0, age
                if "I(age ** 2)" in x:
                    x["I(age ** 2)"] = age**2
                for name in b.index:
                    parts = name.split(":")
                    if all(part in (f"C(livch)[T.{livch}]", f"urban[T.{urban}]") for part in parts):
                        x[name] = 1.0
                eta[i, j], gradient[i, j] = x @ b, x
        average, G = eta.mean(axis=1), gradient.mean(axis=1)
        found = estimated_means(fit, data, "livch", over="grid", predict_effects="zero", scale="link")
        np.testing.assert_allclose(found.estimate, average, atol=1e-6)
        np.testing.assert_allclose(found.covariance, G @ fit.vcov_.to_numpy() @ G.T, rtol=1e-6, atol=1e-8)
        table = estimated_means(fit, data, "livch", over="grid", predict_effects="zero").to_frame()
        np.testing.assert_allclose(table["estimate"], expit(average), atol=1e-6)
        ends = expit(average - z * np.sqrt(np.diagonal(found.covariance)))
        np.testing.assert_allclose(table["lower"], ends, atol=1e-6)
        sd = np.sqrt(fit.covariance_["district"].iloc[0, 0])
        linked = logit(of_population(eta, sd)).mean(axis=1)
        marginal = estimated_means(fit, data, "livch", over="grid")
        np.testing.assert_allclose(marginal.estimate, expit(linked), atol=1e-6)
        odds = found.contrasts("reference", adjust="none")
        np.testing.assert_allclose(odds["odds_ratio"], np.exp(average[1:] - average[0]), rtol=1e-6)


def test_linear_models(score):
    """The mean of a linear model is x'b of the averaged row, by rows as by the grid of a model without interactions."""
    formula = "score ~ age + C(livch) + urban + (1 | district)"
    mixed = MixedLinearRegression.from_formula(formula, score)
    gee = GEELinearRegression.from_formula(formula.replace(" + (1 | district)", ""), score, groups="district")
    for fit in (mixed, gee):
        means = estimated_means(fit, score, "livch")
        b = fit.summary().coefficients["estimate"]
        share = (score["urban"] == "Y").mean()
        expected = b["intercept"] + b["age"] * score["age"].mean() + b["urban[T.Y]"] * share
        expected = expected + np.concatenate([[0.0], b[[f"C(livch)[T.{level}]" for level in ("1", "2", "3+")]]])
        np.testing.assert_allclose(means.estimate, expected, atol=1e-9)
        contrasts = means.contrasts("reference", adjust="none")
        of_fit = fit.summary().coefficients.loc[[f"C(livch)[T.{level}]" for level in ("1", "2", "3+")]]
        for column in ("estimate", "std_error", "p_value", "lower", "upper"):
            np.testing.assert_allclose(contrasts[column], of_fit[column], rtol=1e-6, err_msg=column)
        assert not any("ratio" in column for column in contrasts)
        by_grid = estimated_means(fit, score, "livch", over="grid").contrasts("reference", adjust="none")
        np.testing.assert_allclose(by_grid, contrasts, rtol=1e-7)


@pytest.mark.parametrize("link", ["probit", "cloglog"])
def test_other_links_and_events(data, link):
    model = MixedLogisticRegression.from_formula(
        "use ~ age + urban + (1 | district)", data, link=link, positive=0
    )
    found = estimated_means(model, data, "urban")
    for level, estimate in zip("NY", found.estimate, strict=True):
        rows = data.assign(urban=pd.Categorical([level] * len(data), data["urban"].cat.categories))
        assert estimate == pytest.approx(model.predict_proba(rows, predict_effects="marginal")[:, 0].mean(), abs=1e-9)
    columns = estimated_means(model, data, "urban", scale="link").contrasts().columns
    assert ("hazard_ratio" in columns) == (link == "cloglog") and "odds_ratio" not in columns


def test_predictions_at_values(model, data):
    table = model.predictions(data, at={"age": [-10.0, 5.0], "livch": "2"}, level=0.9)
    assert list(table.columns) == ["age", "livch", "estimate", "std_error", "lower", "upper"]
    rows = data.assign(age=5.0, livch=pd.Categorical(["2"] * len(data), data["livch"].cat.categories))
    assert table["estimate"][1] == pytest.approx(model.predict_proba(rows, predict_effects="marginal")[:, 1].mean())
    p = model.predict_proba(data, predict_effects="marginal")[:, 1]
    assert model.predictions(data)["estimate"][0] == pytest.approx(p.mean())
    by = model.predictions(data, by=["urban", "district"])
    expected = pd.Series(p).groupby([data["urban"], data["district"]], observed=True).mean()
    np.testing.assert_allclose(by["estimate"], expected, atol=1e-12)
    arrays = GEELogisticRegression().fit(data[["age"]].assign(two=np.arange(1934) % 2), data["use"], data["district"])
    X = data[["age"]].assign(two=np.arange(1934) % 2)
    np.testing.assert_allclose(
        arrays.predictions(X, at={"two": [0, 1]})["estimate"], estimated_means(arrays, X, "two").estimate
    )
    shifted = MixedLogisticRegression(offset_feature="shift").fit(X.assign(shift=0.3), data["use"], data["district"])
    found = shifted.predictions(X.assign(shift=1.0), at={"two": 1})["estimate"]
    rows = X.assign(shift=1.0, two=1)
    assert found[0] == pytest.approx(shifted.predict_proba(rows, predict_effects="marginal")[:, 1].mean())
    grid = estimated_means(shifted, X.assign(shift=1.0), "two", over="grid", predict_effects="zero", scale="link")
    typical = shifted.intercept_[0] + shifted.coef_[0] @ [data["age"].mean(), 0.0] + 1.0
    assert grid.estimate[0] == pytest.approx(typical, abs=1e-9)


def test_cells_without_data_are_told_of(data):
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"a": random.choice(list("pq"), 400), "b": random.choice(list("rst"), 400)})
    frame = frame[~((frame["a"] == "q") & (frame["b"] == "t"))].reset_index(drop=True)
    frame["g"] = np.arange(len(frame)) % 20
    frame["y"] = random.integers(0, 2, len(frame))
    frame["number"] = random.normal(size=len(frame)) + frame["g"] / 10
    for kind, outcome in ((MixedLogisticRegression, "y"), (MixedLinearRegression, "number")):
        with pytest.warns(Warning):
            model = kind.from_formula(f"{outcome} ~ a * b + (1 | g)", frame)
        with pytest.warns(NotEstimableWarning, match="means"):
            means = estimated_means(model, frame, "b", by="a")
        table = means.to_frame()
        assert np.isnan(table.loc[("t", "q"), "estimate"]) and table["estimate"].notna().sum() == 5
        contrasts = means.contrasts()
        lost = contrasts["estimate"].isna()
        assert list(contrasts.index[lost]) == [("q", "t - r"), ("q", "t - s")]
        assert contrasts.loc[~lost].notna().all(axis=None) and "not estimable" in repr(contrasts)
        with pytest.warns(NotEstimableWarning):
            assert estimated_means(model, frame, "b", over="grid").to_frame()["estimate"].isna().sum() == 1
        assert model.predictions(frame, by=["a", "b"])["estimate"].notna().all()


def test_levels_of_one_class_have_no_errors(data):
    frame = data.assign(use=np.where(data["livch"] == "2", 1, data["use"]))
    with pytest.warns(SeparationWarning):
        model = MixedLogisticRegression.from_formula("use ~ age + C(livch) + (1 | district)", frame)
    means = estimated_means(model, frame, "livch")
    table = means.to_frame()
    assert list(table.index[table["std_error"].isna()]) == ["2"] and table.loc["2", "estimate"] > 0.99
    contrasts = means.contrasts(adjust="tukey")
    assert contrasts["p_value"].isna().tolist() == ["2" in name for name in contrasts.index]
    assert "separated" in repr(means)


def test_bad_input(model, data):
    for arguments, message in (
        (("age",), r"write C\(age\).*model.predictions\(X, at=\{'age'"),
        (("region",), "'region' is no variable of the model"),
        (("livch", "livch"), "different variables"),
    ):
        with pytest.raises(ValueError, match=message):
            estimated_means(model, data, *arguments)
    for options, message in (
        ({"over": "all"}, "over must be one of"),
        ({"scale": "logit"}, "scale must be one of"),
        ({"predict_effects": "posterior"}, "'marginal' or 'zero'"),
        ({"level": 95}, "level"),
    ):
        with pytest.raises(ValueError, match=message):
            estimated_means(model, data, "livch", **options)
    means = estimated_means(model, data, "livch")
    for method, message in (("tukey", "method must be"), ([[1.0, -1.0]], "weight for each of 4 levels")):
        with pytest.raises(ValueError, match=message):
            means.contrasts(method)
    with pytest.raises(ValueError, match="adjust must be one of"):
        means.contrasts(adjust="scheffe")
    for at, message in (("9", "is no level of 'livch'"), ([], "there are no values")):
        with pytest.raises(ValueError, match=message):
            model.predictions(data, at={"livch": at})
    with pytest.raises(ValueError, match="finite numbers"):
        model.predictions(data, at={"age": "x"})
    with pytest.raises(ValueError, match="neither a variable"):
        model.predictions(data, by="region")


# Several tests at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [None, 3.0, 20.0])
@pytest.mark.parametrize("k", [3, 5])
def test_tukeys_is_the_studentised_range_of_independent_means(k, df):
    L = np.array([np.eye(k)[j] - np.eye(k)[i] for i in range(k) for j in range(i + 1, k)])
    correlation = L @ L.T / 2
    exact_df = np.inf if df is None else df
    for q in (1.0, 2.5, 4.0, 8.0):
        exact = stats.studentized_range.sf(q * np.sqrt(2), k, exact_df)
        assert Joint(correlation, df).beyond(q) == pytest.approx(exact, rel=3e-3)
    own = None if df is None else np.full(len(L), df)
    reach = reach_of(0.95, correlation, own, "tukey")
    np.testing.assert_allclose(reach, stats.studentized_range.ppf(0.95, k, exact_df) / np.sqrt(2), rtol=1e-3)


def test_adjusted_p_values():
    z = stats.norm.isf(np.array([0.01, 0.04, 0.03, 0.005]) / 2)
    np.testing.assert_allclose(adjusted(z, np.eye(4), None, "holm"), [0.03, 0.06, 0.06, 0.02])
    sidak = 1 - (1 - np.array([0.01, 0.04, 0.03, 0.005])) ** 4
    np.testing.assert_allclose(adjusted(z, np.eye(4), None, "sidak"), sidak)
    np.testing.assert_allclose(adjusted(z, np.eye(4), None, "tukey"), sidak, rtol=3e-3)
    np.testing.assert_allclose(adjusted(z, np.eye(4), None, "none"), [0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(reach_of(0.9, np.eye(3), None, "sidak"), stats.norm.ppf((1 + 0.9 ** (1 / 3)) / 2))
    same = np.ones((3, 3))  # one test three times
    np.testing.assert_allclose(adjusted(z[:3] * 0 + 2, same, None, "tukey"), 2 * stats.norm.sf(2))
