"""Displays of linear models: what their artists show, in words of a measured outcome."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklmm import (
    CoefficientDisplay,
    EffectDisplay,
    GEELinearRegression,
    GroupCurvesDisplay,
    MixedLinearRegression,
    MixedLogisticRegression,
    RandomEffectsDisplay,
    ResidualsDisplay,
)
from sklmm.datasets import load_penicillin, load_sleepstudy, make_clustered_classification

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy(as_frame=True).frame


@pytest.fixture(scope="module")
def model(sleep):
    return MixedLinearRegression.from_formula("Reaction ~ Days + (1 + Days | Subject)", sleep)


@pytest.fixture(scope="module")
def gee(sleep):
    return GEELinearRegression.from_formula("Reaction ~ Days", sleep, groups="Subject")


def words(display):
    """All text of a display."""
    legend = display.ax_.get_legend()
    texts = [] if legend is None else [text.get_text() for text in legend.get_texts()]
    return " ".join([display.ax_.get_xlabel(), display.ax_.get_ylabel(), display.ax_.get_title(), *texts])


def test_no_words_of_classes(sleep, model, gee):
    rows, fields = sleep.drop(columns="Reaction"), dict(X=sleep, y=sleep["Reaction"])
    shown = [
        *(CoefficientDisplay.from_estimator(each) for each in (model, gee)),
        *(EffectDisplay.from_estimator(each, rows, "Days") for each in (model, gee)),
        GroupCurvesDisplay.from_estimator(model, rows, "Days"),
        *(RandomEffectsDisplay.from_estimator(model, kind=kind) for kind in ("caterpillar", "qq")),
        *(ResidualsDisplay.from_estimator(each, **fields, kind=kind)
          for each in (model, gee) for kind in ("qq", "predicted")),
    ]  # fmt: skip
    for display in shown:
        for word in ("robability", "odds", "P(", "hazard", "logit"):
            assert word not in words(display), words(display)


def test_coefficients_are_no_logarithms(model, gee, sleep):
    display = CoefficientDisplay.from_estimators({"mixed": model, "GEE": gee})
    assert display.ratio is None and display.ax_.get_xscale() == "linear"
    assert display.ax_.get_xlabel() == "coefficient (95 % confidence interval)"
    lower, upper = model.conf_int().loc["Days"]  # Satterthwaite's degrees of freedom
    assert display.tables["mixed"].loc["Days", ["lower", "upper"]].tolist() == [lower, upper]
    with pytest.raises(ValueError, match="no odds ratios of a linear model"):
        CoefficientDisplay.from_estimator(model, odds_ratios=True)


def test_effect_is_the_mean_with_its_interval(sleep, model, gee):
    display = EffectDisplay.from_estimator(model, sleep, "Days", level=0.9)
    curve, grid = display.curves[None], pd.DataFrame({"Days": display.values})
    np.testing.assert_allclose(curve["mean"], model.predict(grid, predict_effects="zero"), rtol=1e-10)
    ends = model.predict_interval(grid, level=0.9, predict_effects="zero")
    np.testing.assert_allclose(np.column_stack([curve["lower"], curve["upper"]]), ends, rtol=1e-10)
    assert display.ax_.get_ylabel() == "expected Reaction"
    assert display.ax_.get_ylim()[1] > 300  # the axis is not that of probabilities
    display = EffectDisplay.from_estimator(gee, sleep, "Days")
    E = np.column_stack([np.ones(len(display.values)), display.values])
    mean = E @ [gee.intercept_, *gee.coef_]
    se = np.sqrt(np.einsum("ij,jk,ik->i", E, gee.vcov_.to_numpy(), E))
    np.testing.assert_allclose(display.curves[None]["mean"], mean, rtol=1e-10)
    reach = stats.t.ppf(0.975, gee.df_resid_) * se
    np.testing.assert_allclose(display.curves[None]["lower"], mean - reach, rtol=1e-9)


def test_effects_by_another_feature_and_of_labels(sleep):
    frame = sleep.assign(shift=np.where(sleep["Subject"].astype(int) % 2, "day", "night"))
    model = MixedLinearRegression.from_formula("Reaction ~ Days * shift + (1 | Subject)", frame)
    display = EffectDisplay.from_estimator(model, frame, "Days", by="shift")
    grid = pd.DataFrame({"Days": display.values, "shift": "night"})
    np.testing.assert_allclose(display.curves["night"]["mean"], model.predict(grid, predict_effects="zero"))
    display = EffectDisplay.from_estimator(model, frame, "shift", at={"Days": 3})
    grid = pd.DataFrame({"Days": 3.0, "shift": ["day", "night"]})
    ends = model.predict_interval(grid, predict_effects="zero")
    np.testing.assert_allclose(display.curves[None]["upper"], ends[:, 1])


def test_curves_of_groups_are_predictions(sleep, model):
    display = GroupCurvesDisplay.from_estimator(model, sleep, "Days")
    subjects = model.random_effects_["Subject"].index
    for curve, subject in zip(display.curves, subjects, strict=True):
        grid = pd.DataFrame({"Days": display.values, "Subject": subject})
        np.testing.assert_allclose(curve, model.predict(grid), rtol=1e-10)
    grid = pd.DataFrame({"Days": display.values})
    np.testing.assert_allclose(display.population, model.predict(grid, predict_effects="zero"), rtol=1e-10)
    assert display.ax_.get_ylabel() == "expected Reaction" and display.ax_.get_ylim()[1] > 400
    arrays = MixedLinearRegression("1 + x0 | group").fit(sleep[["Days"]].to_numpy(), sleep["Reaction"],
                                                         groups=sleep["Subject"].to_numpy())  # fmt: skip
    other = GroupCurvesDisplay.from_estimator(arrays, sleep[["Days"]].to_numpy(), "x0", groups=[subjects[0]])
    np.testing.assert_allclose(other.curves[0], display.curves[0], rtol=1e-7)
    assert other.ax_.get_ylabel() == "expected outcome"


def test_quantiles_of_random_effects_have_a_band_without_rows(sleep, model):
    display = RandomEffectsDisplay.from_estimator(model, kind="qq", coefficient="Days")
    assert display.band_ is not None and display.ax_.get_xlabel() == "normal quantile"
    again = RandomEffectsDisplay.from_estimator(model, sleep, kind="qq", coefficient="Days", n_simulations=30)
    assert len(again.simulated) == 30
    bands = [each.band_.get_paths()[0].vertices[:, 1] for each in (display, again)]
    assert np.abs(bands[0] - bands[1]).max() < 1.2  # the same band, but for the noise of simulations
    data = load_penicillin(as_frame=True).frame
    crossed = MixedLinearRegression.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    assert RandomEffectsDisplay.from_estimator(crossed, kind="qq").band_ is None
    assert RandomEffectsDisplay.from_estimator(crossed, data, kind="qq", n_simulations=19).band_ is not None


@pytest.mark.parametrize("effects, kind", [("marginal", "marginal"), ("posterior", "conditional")])
def test_residuals(sleep, model, effects, kind):
    words = {"marginal": "standardised", "conditional": "studentised"}[kind]
    left = model.residuals(sleep, kind=kind, standardise=True if kind == "marginal" else words).to_numpy()
    display = ResidualsDisplay.from_estimator(model, sleep, predict_effects=effects)
    x, y = display.points_.get_data()
    np.testing.assert_allclose(y, np.sort(left), rtol=1e-12)
    np.testing.assert_allclose(x, stats.norm.ppf((np.arange(180) + 0.5) / 180), rtol=1e-12)
    assert display.ax_.get_ylabel() == f"{kind} {words} residual (180 rows)"
    assert display.ax_.get_xlabel() == "normal quantile" and display.ax_.get_ylim()[0] < -2
    display = ResidualsDisplay.from_estimator(model, sleep, kind="predicted", predict_effects=effects)
    x, y = display.points_.get_data()
    mean = model.predict(sleep, predict_effects="zero" if kind == "marginal" else "posterior")
    np.testing.assert_allclose(np.sort(x), np.sort(mean))
    assert display.ax_.get_xlabel() == "expected Reaction" and display.ax_.get_ylim()[1] > 2


def test_residuals_of_sums_and_extremes(sleep, model):
    display = ResidualsDisplay.from_estimator(model, sleep, by="Subject")
    assert display.ax_.get_ylabel() == "marginal standardised residual (18 levels of Subject)"
    wild = sleep.assign(Reaction=sleep["Reaction"].where(sleep.index != 3, 1e5))
    display = ResidualsDisplay.from_estimator(model, wild)
    assert np.isfinite(display.points_.get_ydata()).all() and display.points_.get_ydata()[-1] > 1000


def test_what_marginal_models_do_not_have(sleep, gee):
    for draw in (lambda: RandomEffectsDisplay.from_estimator(gee),
                 lambda: GroupCurvesDisplay.from_estimator(gee, sleep, "Days")):  # fmt: skip
        with pytest.raises(TypeError, match="which a GEELinearRegression does not have"):
            draw()


def test_curves_take_in_the_offset():
    """Held at its mean, as other columns are: the curves are predictions of such rows."""
    X, y, groups = make_clustered_classification(400, 2, n_groups=20, random_state=0)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(o=2.0 + X[:, 1] ** 2, g=groups)
    settings = {"group_features": "g", "offset_feature": "o"}
    classes = MixedLogisticRegression(**settings).fit(frame, y)
    measured = y + X[:, 0] + (groups % 3)
    numbers = MixedLinearRegression(**settings).fit(frame, measured)
    for model, column, predict in (
        (classes, "probability", lambda rows: classes.predict_proba(rows, predict_effects="zero")[:, 1]),
        (numbers, "mean", lambda rows: numbers.predict(rows, predict_effects="zero")),
    ):
        display = EffectDisplay.from_estimator(model, frame, "a", predict_effects="zero")
        rows = pd.DataFrame({"a": display.values, "b": X[:, 1].mean(), "o": frame["o"].mean(), "g": groups[0]})
        np.testing.assert_allclose(display.curves[None][column], predict(rows), rtol=1e-9)
        curves = GroupCurvesDisplay.from_estimator(model, frame, "a", population="zero")
        np.testing.assert_allclose(curves.population, predict(rows), rtol=1e-9)
    passed = MixedLinearRegression().fit(frame[["a", "b"]], measured, groups=groups, offset=frame["o"])
    for display in (EffectDisplay, GroupCurvesDisplay):
        with pytest.raises(ValueError, match="fitted with offset= as an array.*name its column of X in offset"):
            display.from_estimator(passed, frame[["a", "b"]], "a")
        shown = [display.from_estimator(numbers, frame, "a", at={"o": value}) for value in (0.0, 1.5)]
        curves = [each.curves[None]["mean"] if display is EffectDisplay else each.population for each in shown]
        np.testing.assert_allclose(curves[1] - curves[0], 1.5, rtol=1e-9)
