"""``python -m sklmm report`` with an offset, with counts of successes, with other links: the package's own fits."""

import numpy as np
import pandas as pd
import pytest

from sklmm import GEELogisticRegression, MixedLogisticRegression, expand_counts
from sklmm.command.line import main
from sklmm.datasets import load_cbpp, load_contraception


@pytest.fixture
def women():
    frame = load_contraception(as_frame=True).frame[["use", "age", "district"]]
    years = np.random.default_rng(0).uniform(1, 5, len(frame))
    return frame.assign(use=np.where(frame["use"] == 1, "Y", "N"), log_years=np.log(years))


@pytest.fixture
def herds():
    frame = load_cbpp(as_frame=True).frame
    return frame[frame["ill"] == 1].drop(columns=["ill", "animals"]).reset_index(drop=True)


@pytest.fixture
def run(capsys, tmp_path):
    def run(frame, *arguments):
        frame.to_csv(tmp_path / "table.csv", index=False)
        status = main(["report", str(tmp_path / "table.csv"), *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


WOMEN = ("--target", "use", "--groups", "district")
HERDS = ("--target", "incidence", "--trials", "size", "--groups", "herd", "--categorical", "period")


def numbers_of(model):
    """The lines of coefficients of a summary, without their widths."""
    text = str(model.summary())
    return [line.split() for line in text[text.index("intercept") : text.index("Fit:")].splitlines()]


def assert_shown(model, out):
    shown = [line.split() for line in out.splitlines()]
    for line in numbers_of(model):
        assert line in shown


def test_an_offset(run, women):
    status, out, err = run(women, *WOMEN, "--offset", "log_years", "--cv", 2, "--estimators", "mixed", "pooled")
    assert status == 0, err
    data = dict(X=women[["age"]], y=women["use"], groups=women["district"], offset=women["log_years"])
    assert_shown(MixedLogisticRegression(n_quadrature="auto").fit(**data), out)
    assert_shown(GEELogisticRegression().fit(**data), out)
    assert "log_years, 0.0" in out and "log loss" in out  # the description, and the accuracy
    without = run(women.drop(columns="log_years"), *WOMEN, "--cv", 2, "--estimators", "mixed", "pooled")[1]
    assert without[without.index("log loss") :] != out[out.index("log loss") :]


def test_links_are_of_the_event(run, women):
    options = ("--link", "cloglog", "--positive", "N", "--exclude", "log_years", "--n-quadrature", 1, "--cv", 0)
    status, out, err = run(women, *WOMEN, *options)
    assert status == 0, err
    data = dict(X=women[["age"]], y=women["use"], groups=women["district"])
    assert_shown(MixedLogisticRegression(link="cloglog", positive="N").fit(**data), out)
    assert_shown(GEELogisticRegression(link="cloglog", positive="N").fit(**data), out)
    assert "probability of use = 'N' (against 'Y')" in out and "hazard ratio" in out


def test_counts(run, herds):
    shuffled = herds.assign(w=1 + np.arange(56) % 2)
    options = ("--sample-weight", "w", "--cv", 2, "--estimators", "mixed", "dummies", "--scenarios", "known-groups")
    status, out, err = run(shuffled, *HERDS, *options)
    assert status == 0, err
    X = pd.get_dummies(herds["period"], prefix="period", prefix_sep="[", drop_first=True, dtype=float)
    X.columns = [f"{name}]" for name in X.columns]
    rows, y, herd, weights = expand_counts(X, herds["incidence"], herds["size"], herds["herd"])
    data = dict(X=rows, y=y, groups=herd, sample_weight=weights * shuffled["w"].to_numpy()[rows.index])
    assert_shown(MixedLogisticRegression(n_quadrature="auto").fit(**data), out)
    assert_shown(GEELogisticRegression().fit(**data), out)
    assert "99 successes of 842 trials, size (11.8 %)" in out
    assert "probability of success in a trial: incidence of size" in out
    assert "(56 lines of 15 groups)" in out and "against 'failure'" in out


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ("--positive", "1"), "--positive is a label of the target, but with --trials"),
        ({"size": 0}, (), "--target 'incidence' are more than --trials 'size' in"),
        ({"size": "many"}, (), "--trials 'size' needs numbers, but holds 'many'"),
        ({"incidence": 0.5}, (), "--target 'incidence' are no whole numbers in"),
        ({"incidence": 0}, (), "every trial has the same outcome"),
        ({"days": "few"}, ("--offset", "days"), "--offset 'days' needs numbers, but holds 'few'"),
        ({}, ("--offset", "size"), "column 'size' is named in --offset and in --trials"),
        ({}, ("--offset", "dais"), "--offset"),
    ],
)
def test_errors(run, herds, change, options, message):
    status, out, err = run(herds.assign(**change), *HERDS, *options, "--cv", 0)
    assert (status, out) == (2, "") and message in err
