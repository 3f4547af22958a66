"""Resampling of groups: against resamples whose rows are copied one by one, and against simulation."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from sklmm.accuracy import _calibration_of_counts, concordance, resampling
from sklmm.accuracy._calibration_of_counts import CalibrationOfCounts
from sklmm.accuracy._of_counts import MetricsOfCounts
from sklmm.accuracy.calibration import calibration_bins
from sklmm.accuracy.metrics import compute_metrics, metric_columns
from sklmm.accuracy.resampling import resample_metrics
from sklmm.accuracy.rows import read_rows
from sklmm.exceptions import FewClustersWarning

CALIBRATION = ("calibration slope", "calibration intercept")


def _data(n=300, n_groups=25, seed=0, sd=1.0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_groups, n)
    eta = rng.normal(size=n) + sd * rng.normal(size=n_groups)[codes] - 0.5
    y = (rng.random(n) < expit(eta)).astype(int)
    return y, eta, codes, rng


def _by_copying(y, p, codes, w, counts, threshold=0.5, folds=None):
    """Metrics of resamples made row by row: each copy of a group is a group of its own."""
    bins = calibration_bins(p, w)
    folds = np.zeros(len(y)) if folds is None else folds
    levels = np.unique(codes)
    values = []
    for count in counts.T.astype(int):
        rows, group = [], []
        for level, copies in zip(levels, count, strict=True):
            here = np.flatnonzero(codes == level)
            for _ in range(copies):
                rows.append(here)
                group.append(np.full(len(here), len(rows)))
        rows, group = np.concatenate(rows), np.concatenate(group)
        found = compute_metrics(
            y[rows], p[rows], group, w[rows], bins=bins[rows], threshold=threshold, folds=folds[rows]
        )
        values.append(list(found.values()))
    return np.array(values)


def _counts(n_groups, n_resamples, seed=0):
    return np.concatenate([counts for _, counts in resampling._draw(n_groups, n_resamples, seed)], axis=1)


def _metrics_of(y, p, codes, w=None, *, columns=None, threshold=0.5, folds=None):
    return MetricsOfCounts(read_rows(y, p, codes, w, threshold=threshold, folds=folds), metric_columns(columns))


def _assert_same(found, expected, spread):
    """Equal to rounding, calibration to a thousandth of its standard error; undefined in the same places."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    for j, column in enumerate(metric_columns()):
        if column in CALIBRATION:
            np.testing.assert_allclose(found[:, j], expected[:, j], rtol=1e-9, atol=1e-3 * spread[j], err_msg=column)
        else:
            np.testing.assert_allclose(found[:, j], expected[:, j], rtol=1e-10, atol=1e-13, err_msg=column)


PREDICTIONS = {
    "smooth": lambda eta, rng: expit(1.3 * eta + rng.normal(scale=0.7, size=len(eta))),
    "ties": lambda eta, rng: np.round(expit(eta), 1).clip(0.05, 0.95),
    "zeros and ones": lambda eta, rng: np.where(np.abs(eta) > 1.5, np.round(expit(eta)), expit(eta)),
    "constant": lambda eta, rng: np.full(len(eta), 0.4),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_resamples_equal_those_made_by_copying_rows(kind, weighted):
    y, eta, codes, rng = _data()
    p = PREDICTIONS[kind](eta, rng)
    w = rng.gamma(2.0, size=len(y)) * (rng.random(len(y)) < 0.9) if weighted else np.ones(len(y))
    folds = rng.integers(1, 4, len(y))
    metrics_of = _metrics_of(y, p, codes, w, folds=folds, threshold=0.4)
    counts = _counts(metrics_of.n_groups, 20)
    expected = _by_copying(y, p, codes, w, counts, threshold=0.4, folds=folds)
    _assert_same(metrics_of(counts), expected, np.nanstd(expected, axis=0) if kind != "constant" else np.ones(13))


def test_resamples_without_both_classes_or_with_separated_ones():
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(6), [1, 1, 3, 4, 5, 8])
    y = np.repeat([0, 0, 0, 0, 1, 1], [1, 1, 3, 4, 5, 8])
    y[[3, 16]] = 1 - y[[3, 16]]
    p = expit(2 * y - 1 + rng.normal(size=len(y)))
    w = np.ones(len(y))
    counts = _counts(6, 70)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _metrics_of(y, p, codes, w)(counts)
    expected = _by_copying(y, p, codes, w, counts)
    missing = dict(zip(metric_columns(), np.isnan(expected).sum(axis=0), strict=True))
    assert 0 < missing["ROC AUC"] < missing["calibration slope"] < 65  # the data have what this is about
    _assert_same(found, expected, np.nanstd(expected, axis=0))


def test_estimates_are_those_of_compute_metrics():
    y, eta, codes, rng = _data()
    w = rng.gamma(2.0, size=len(y))
    p = expit(0.8 * eta)
    table = resample_metrics(y, {"a": p}, codes, w, threshold=0.3, n_resamples=20, random_state=0)
    expected = compute_metrics(y, p, codes, w, threshold=0.3)
    assert table["metric"].tolist() == list(expected)
    np.testing.assert_allclose(table["estimate"], list(expected.values()), rtol=1e-10)


def test_rows_without_weight_may_be_all_of_a_group_in_a_fold():
    y, eta, codes, rng = _data(n=500, n_groups=400)
    folds, w = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    settings = dict(n_resamples=20, random_state=0)
    table = resample_metrics(y, {"a": expit(eta)}, codes, w, folds=folds, **settings)
    keep = w > 0
    expected = resample_metrics(y[keep], {"a": expit(eta[keep])}, codes[keep], w[keep], folds=folds[keep], **settings)
    pd.testing.assert_frame_equal(table, expected)


def test_table_from_resamples_made_by_copying_rows():
    y, eta, codes, rng = _data()
    probabilities = {"a": expit(eta), "b": expit(2 * eta + rng.normal(size=len(eta)))}
    table = resample_metrics(y, probabilities, codes, n_resamples=40, level=0.9, random_state=5)
    assert list(table.columns[:3]) == ["estimator", "metric", "estimate"]
    assert table.attrs == {"n_groups": 25, "n_resamples": 40}
    counts, w = _counts(25, 40, seed=5), np.ones(len(y))
    copied = {name: _by_copying(y, p, codes, w, counts) for name, p in probabilities.items()}
    # Tails for which the interval of a mean of 25 independent numbers is the t interval.
    tail = stats.norm.cdf(-np.sqrt(25 / 24) * stats.t.ppf(0.95, 24))
    for name, part in table.groupby("estimator"):
        for values, prefix in ((copied[name], ""), (copied["b"] - copied["a"], "difference_")):
            if prefix and name == "a":
                assert part.filter(like="difference").isna().all(axis=None)
                continue
            centre = part["difference" if prefix else "estimate"].to_numpy()
            spread = values.std(axis=0, ddof=1)
            shift = np.where(part["metric"] == "expected calibration error", centre - values.mean(axis=0), 0)
            for column, expected in (
                ("std_error", spread),
                ("lower", np.quantile(values, tail, axis=0) + shift),
                ("upper", np.quantile(values, 1 - tail, axis=0) + shift),
            ):
                tolerance = np.where(part["metric"].isin(CALIBRATION), 2e-3 * spread, 1e-10)
                assert np.all(np.abs(part[prefix + column] - expected) <= tolerance), prefix + column
    a, b = (table[table["estimator"] == name].set_index("metric") for name in "ab")
    np.testing.assert_allclose(b["difference"], b["estimate"] - a["estimate"], atol=1e-14)


def test_resamples_are_the_same_whoever_is_beside(monkeypatch):
    y, eta, codes, rng = _data()
    p = {"a": expit(eta), "b": expit(eta / 2), "again": expit(eta)}
    every = resample_metrics(y, p, codes, n_resamples=90, random_state=1)
    alone = resample_metrics(y, {"b": p["b"]}, codes, metrics=["ROC AUC", "Brier"], n_resamples=90, random_state=1)
    columns = ["estimate", "std_error", "lower", "upper"]
    beside = every[every["estimator"] == "b"].set_index("metric").loc[["ROC AUC", "Brier"], columns]
    pd.testing.assert_frame_equal(alone.set_index("metric")[columns], beside)
    again = every[every["estimator"] == "again"].filter(like="difference")
    assert np.all(again == 0)  # paired: the same predictions never differ
    # Nor does it matter how many resamples are done at a time.
    monkeypatch.setattr(resampling, "_WIDTH", 17)
    pd.testing.assert_frame_equal(every, resample_metrics(y, p, codes, n_resamples=90, random_state=1), rtol=1e-9)
    other = resample_metrics(y, p, codes, n_resamples=90, random_state=2)
    assert not np.any(other["std_error"] == every["std_error"])


def test_weight_two_is_the_row_twice():
    y, eta, codes, rng = _data()
    w = rng.integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), w)
    p = expit(eta)
    weighted = resample_metrics(y, {"a": p}, codes, w, n_resamples=50, random_state=0)
    repeated = resample_metrics(y[again], {"a": p[again]}, codes[again], n_resamples=50, random_state=0)
    pd.testing.assert_frame_equal(weighted, repeated, rtol=1e-7)


# --- what it says of the truth ------------------------------------------------------------------------------


def test_standard_error_and_interval_against_simulation():
    """Over new samples of groups: the spread of estimates, and how often intervals hold the truth."""
    rng = np.random.default_rng(0)
    names = ["log loss", "AUC within groups"]

    def sample(n_groups):
        size = rng.integers(3, 15, n_groups)
        codes = np.repeat(np.arange(n_groups), size)
        x = rng.normal(size=len(codes))
        y = (rng.random(len(codes)) < expit(x + 1.5 * rng.normal(size=n_groups)[codes])).astype(int)
        return y, expit(0.7 * x), codes

    truth = compute_metrics(*sample(40_000), metrics=names)
    tables = [
        resample_metrics(y, {"a": p}, codes, metrics=names, n_resamples=200, random_state=0).set_index("metric")
        for y, p, codes in (sample(40) for _ in range(300))
    ]
    for name in names:
        rows = pd.DataFrame([table.loc[name] for table in tables])
        spread = rows["estimate"].astype(float).std()
        # Of 300 samples the spread is known to 4 %; rows taken for independent would be off by 30 % for the log loss.
        assert rows["std_error"].mean() == pytest.approx(spread, rel=0.12), name
        covered = ((rows["lower"] < truth[name]) & (rows["upper"] > truth[name])).mean()
        assert 0.91 <= covered <= 0.98, (name, covered)


def test_groups_matter_to_the_standard_error():
    y, _, codes, rng = _data(n=2000, n_groups=30, sd=2.0)
    p = np.full(len(y), 0.4)
    by_group = resample_metrics(y, {"a": p}, codes, metrics="Brier", n_resamples=300, random_state=0)
    by_row = resample_metrics(y, {"a": p}, np.arange(len(y)), metrics="Brier", n_resamples=300, random_state=0)
    assert by_row["std_error"][0] == pytest.approx(np.std((y - p) ** 2) / np.sqrt(len(y)), rel=0.15)
    assert by_group["std_error"][0] > 3 * by_row["std_error"][0]


def test_interval_of_calibration_error_holds_the_estimate():
    """Resamples' calibration errors exceed that of calibrated predictions, by noise alone."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 1000)
    y = (rng.random(1000) < p).astype(int)
    codes = np.repeat(np.arange(50), 20)
    table = resample_metrics(y, {"a": p}, codes, metrics="expected calibration error", random_state=0)
    assert table["lower"][0] < table["estimate"][0] < table["upper"][0]


# --- large and small data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rare", [False, True])
def test_neighbours_taken_for_equal_move_ranks_little(rare, monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 200, 30_000)
    eta = rng.normal(size=30_000) + rng.normal(size=200)[codes] - (5 if rare else 0)
    y = (rng.random(30_000) < expit(eta)).astype(int)
    p, w, counts = expit(eta + 0.5 * rng.normal(size=30_000)), np.ones(30_000), _counts(200, 64)
    names = ["ROC AUC", "AUC between groups", "average precision"]
    monkeypatch.setattr(concordance, "MOST_VALUES", 5000)
    binned = _metrics_of(y, p, codes, w, columns=names)
    assert sum(ones.shape[0] for ones, _ in binned.rows.ranks.blocks) <= 5000
    assert rare or binned.rows.ranks.auc_shift != 0
    found = binned(counts)
    monkeypatch.setattr(concordance, "MOST_VALUES", 30_001)
    expected = _metrics_of(y, p, codes, w, columns=names)(counts)
    error = np.abs(found - expected).max(axis=0)
    assert np.all(error[:2] < 1e-4)
    assert np.all(error < 0.02 * expected.std(axis=0))
    ones = np.ones((200, 1))
    np.testing.assert_allclose(binned(ones)[0], list(compute_metrics(y, p, codes, metrics=names).values()), rtol=1e-10)


@pytest.mark.parametrize("points", [4000, 1000])
@pytest.mark.parametrize("slope", [True, False])
def test_calibration_of_resamples_that_differ_much(slope, points, monkeypatch):
    """The equations must be solved: at the rows' own values, and on a grid of fewer."""
    y, eta, codes, rng = _data(n=3000, n_groups=4, sd=2.0)
    x = eta * np.array([0.3, 1.0, 2.0, -0.5])[codes]  # of groups that differ much
    rows, counts = (x, y.astype(float), 1.0 - y, codes, 4), _counts(4, 64)
    monkeypatch.setattr(_calibration_of_counts, "POINTS", points)
    calibration = CalibrationOfCounts(*rows, slope=slope)
    expected, solved = np.array([calibration._exact(count) for count in counts.T]), []
    solve = calibration._solved
    calibration._solved = lambda counts: solved.append(counts) or solve(counts)
    calibration._exact = None  # not needed
    np.testing.assert_allclose(calibration(counts), expected, atol=(1e-4 if points == 4000 else 1e-3) * expected.std())
    assert solved[0].shape[1] > 20
    grid, apart, weights = calibration._grid
    assert len(grid) == min(points, 3000)
    np.testing.assert_allclose(weights.sum(axis=0), np.bincount(codes))
    np.testing.assert_allclose(grid @ weights, np.bincount(codes, x))


def test_what_a_grid_does_not_say_is_solved_by_rows(monkeypatch):
    """Slopes so steep that predictions change much from a point to the next."""
    y, eta, codes, rng = _data(n=2000, n_groups=5, sd=2.0)
    x = np.where(rng.random(2000) < 0.002, 30.0, eta * np.array([0.05, 1.0, 2.0, 0.1, 1.0])[codes])
    monkeypatch.setattr(_calibration_of_counts, "POINTS", 100)
    calibration = CalibrationOfCounts(x, y.astype(float), 1.0 - y, codes, 5, slope=True)
    exact, by_rows, counts = calibration._exact, [], _counts(5, 64)
    expected = np.array([exact(count) for count in counts.T])
    calibration._exact = lambda count: by_rows.append(count) or exact(count)
    found = calibration(counts)
    assert 0 < len(by_rows) < 64
    np.testing.assert_allclose(found, expected, atol=0.05 * expected.std())


def test_expanded_equations_are_trusted_as_a_rule():
    y, eta, codes, _ = _data(n=6000, n_groups=300)
    for slope in (True, False):
        calibration = CalibrationOfCounts(eta, y.astype(float), 1.0 - y, codes, 300, slope=slope)
        solved, solve = [], calibration._solved
        calibration._solved = lambda counts, solved=solved, solve=solve: solved.append(counts) or solve(counts)
        assert np.isfinite(calibration(_counts(300, 200))).all()
        assert sum(counts.shape[1] for counts in solved) <= 4


@pytest.mark.parametrize("n_groups", [1, 9])
def test_few_groups_are_warned_of(n_groups):
    y, eta, codes, _ = _data(n_groups=n_groups)
    with pytest.warns(FewClustersWarning, match="one group" if n_groups == 1 else "resampling 9 groups") as caught:
        table = resample_metrics(y, {"a": expit(eta), "b": expit(eta / 2)}, codes, n_resamples=30, random_state=0)
    assert caught[0].filename == __file__
    assert np.isnan(table["std_error"]).all() == (n_groups == 1)
    between = table["metric"] == "AUC between groups"
    assert table["estimate"].isna().tolist() == (between & (n_groups == 1)).tolist()


def test_enough_groups_are_not_warned_of():
    y, eta, codes, _ = _data(n_groups=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resample_metrics(y, {"a": expit(eta)}, codes, n_resamples=30, random_state=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_resamples": 1}, ValueError, "n_resamples must be an integer >= 2, got 1"),
        ({"level": 95}, ValueError, "level must be between 0 and 1, got 95; for 95 % give 0.95"),
        ({"metrics": ["AUC"]}, ValueError, "unknown metric 'AUC'"),
        ({"predictions": {}}, ValueError, "predictions is empty"),
        ({"predictions": {"a": [0.1, 0.2]}}, ValueError, "probability has shape"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"y": [0, 1, 1], "predictions": {"a": [0.1, 0.2, 0.3]}, "group_codes": [0, 0, 1]} | change
    with pytest.raises(error, match=message):
        resample_metrics(**arguments)
