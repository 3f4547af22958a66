"""``python -m sklmm report``: from a file to a report, on stdout and as a page; errors for people."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sklmm
from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression
from sklmm.command.line import main
from sklmm.datasets import load_contraception, load_ohio, load_sleepstudy

ODD = 'bmi <b>& "x"</b>'  # a name that a page must escape


@pytest.fixture(scope="module")
def women():
    frame = load_contraception(as_frame=True).frame
    return frame.assign(use=np.where(frame["use"] == 1, "Y", "N"))


@pytest.fixture
def table(tmp_path, women):
    women.to_csv(tmp_path / "women.csv", index=False)
    return tmp_path / "women.csv"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["report", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


WOMEN = ("--target", "use", "--groups", "district", "--exclude", "ch")


def test_models_are_those_of_the_package(run, table, women):
    slopes = ("--random-effects", "1 + urban | district")
    status, out, err = run(table, *WOMEN, *slopes, "--cv", 0)
    assert status == 0
    X = pd.DataFrame(
        {
            "livch[1]": women["livch"] == "1",
            "livch[2]": women["livch"] == "2",
            "livch[3+]": women["livch"] == "3+",
            "age": women["age"],
            "urban[Y]": women["urban"] == "Y",
        },
        dtype=float,
    )
    mixed = MixedLogisticRegression("1 + `urban[Y]` | district", n_quadrature="auto")
    mixed.fit(X, women["use"], groups=women["district"])
    gee = GEELogisticRegression().fit(X, women["use"], groups=women["district"])
    for model in (mixed, gee):
        text = str(model.summary())
        table_of_coefficients = text[text.index("livch[1]") : text.index("Converged")]
        assert table_of_coefficients in out
    assert "probability of use = 'Y' (against 'N')" in out
    assert "Column 'woman' is left out: it numbers the rows" in out
    assert "fitting the mixed model to 1,934 rows" in err and "fitting the GEE" in err


def test_time_gives_the_gee_an_ar1_correlation(run, tmp_path):
    visits = load_ohio(as_frame=True).frame
    visits.sample(frac=1, random_state=0).to_csv(tmp_path / "ohio.csv", index=False)
    status, out, _ = run(tmp_path / "ohio.csv", "--target", "resp", "--groups", "id", "--time", "age", "--cv", 0)
    gee = GEELogisticRegression("ar1").fit(
        visits[["age", "smoke"]], visits["resp"], groups=visits["id"], time=visits["age"]
    )
    assert status == 0
    assert f"AR(1), {gee.correlation_params_[0]:.3f} at a distance of 1 in time" in out


def test_the_positive_label_turns_signs_round(run, table, women):
    _, out, _ = run(table, *WOMEN, "--positive", "N", "--cv", 0, "--features", "age")
    model = MixedLogisticRegression(n_quadrature="auto")
    model.fit(women[["age"]], women["use"] == "N", groups=women["district"])
    assert "probability of use = 'N' (against 'Y')" in out
    (line,) = [line.split() for line in str(model.summary()).splitlines() if line.startswith("age ")]
    assert line in [line.split() for line in out.splitlines()]


def test_nodes_of_the_mixed_model(run, table, women, capsys):
    for nodes in (1, 7):
        _, out, _ = run(table, *WOMEN, "--cv", 0, "--n-quadrature", nodes, "--features", "age")
        model = MixedLogisticRegression(n_quadrature=nodes)
        model.fit(women[["age"]], women["use"], groups=women["district"])
        text = str(model.summary())
        assert text[text.index("age ") : text.index("Converged")] in out
        assert ("Laplace approximation" if nodes == 1 else "7 nodes") in out
    for wrong in ("0", "many"):
        with pytest.raises(SystemExit, match="2"):
            main(["report", str(table), *WOMEN, "--n-quadrature", wrong])
        assert "--n-quadrature" in capsys.readouterr().err


def test_warnings_of_fits_are_in_the_report(run, table):
    status, out, err = run(table, "--target", "use", "--groups", "district", "--cv", 0)
    assert status == 0
    assert out.count("not identified (collinear with other columns: 'ch[Y]'") == 2
    assert err.count("warning:") == 2


def test_accuracy(run, table):
    options = ("--cv", 3, "--estimators", "mixed", "pooled", "--scenarios", "known-groups", "--features", "age")
    status, out, err = run(table, *WOMEN[:4], *options)
    assert status == 0
    assert "Predictive accuracy" in out and "log loss" in out
    assert "New groups" not in out and "separate" not in out
    assert "6 of 6 fits: pooled" in err and "1,000 of 1,000 resamples of groups: known groups" in err
    assert err.count("fits:") <= 4
    assert run(table, *WOMEN[:4], *options)[1] == out  # --random-state has a default


def test_weights_count_rows_in_the_accuracy_too(run, table, women):
    women.assign(times=np.arange(len(women)) % 3).to_csv(table, index=False)
    options = ("--sample-weight", "times", "--cv", 2, "--estimators", "mixed", "dummies", "--features", "age")
    status, out, _ = run(table, *WOMEN[:4], *options)
    assert status == 0 and "1,934 in 60 groups of district, which count for 1,933" in out
    twice = women.loc[women.index.repeat(np.arange(len(women)) % 3)]
    assert f"which {(twice['use'] == 'Y').mean():.1%} of the rows have" in out


def test_a_target_of_numbers(run, tmp_path):
    sleep = load_sleepstudy(as_frame=True).frame
    sleep.to_csv(tmp_path / "sleep.csv", index=False)
    roles = ("--target", "Reaction", "--groups", "Subject", "--random-effects", "1 + Days | Subject")
    cv = ("--cv", 2, "--estimators", "mixed", "pooled", "--scenarios", "known groups", "--out", tmp_path / "page.html")
    status, out, _ = run(tmp_path / "sleep.csv", *roles, *cv)
    assert status == 0
    for model in (
        MixedLinearRegression("1 + Days | Subject").fit(sleep[["Days"]], sleep["Reaction"], groups=sleep["Subject"]),
        GEELinearRegression().fit(sleep[["Days"]], sleep["Reaction"], groups=sleep["Subject"]),
    ):
        text = str(model.summary())
        assert text[text.index("Days ") : text.index("Converged")] in out
    assert out.count("Outcome:  Reaction") + out.count("Outcome:     Reaction") == 2
    assert "RMSE" in out and "coverage" in out and "log loss" not in out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    # of the accuracy four; of the mixed model coefficients, the feature, groups; of the GEE the first two
    assert page.count("<img") == 9 and "RMSE" in page and "Mixed model" in page
    places = re.findall("""(?:src|href)=["'](data:|.)""", page)
    assert set(places) == {"data:", "#"} and "url(" not in page and "@import" not in page
    status, _, err = run(tmp_path / "sleep.csv", *roles, "--n-quadrature", 3)
    assert status == 2 and "--n-quadrature is for a target of two classes" in err
    status, _, err = run(tmp_path / "sleep.csv", *roles, "--kind", "classes")
    assert status == 2 and "needs two values" in err


def test_quiet(run, table):
    status, out, err = run(table, *WOMEN, "--cv", 2, "--estimators", "pooled", "--scenarios", "known groups", "--quiet")
    assert status == 0 and err == "" and "log loss" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--target", "usee", "--groups", "district"), "--target: there is no column 'usee'; did you mean 'use'?"),
        (("--target", "livch", "--groups", "district"), "needs two values, but has 4 values: '3+' (743 rows)"),
        ((*WOMEN, "--time", "urban"), "--time 'urban' needs numbers"),
        ((*WOMEN, "--correlation", "unstructured", "--time", "age"), "the GEE can't be fitted"),
        ((*WOMEN, "--sample-weight", "urban"), "--sample-weight 'urban' needs numbers"),
        ((*WOMEN, "--cv", "61", "--estimators", "pooled"), "accuracy: "),
        ((*WOMEN, "--out", "nowhere/report.html"), "there is no folder"),
    ],
)
def test_errors(run, table, arguments, expected):
    status, out, err = run(table, *arguments, "--quiet")
    assert status == 2 and out == ""
    assert err.startswith("sklmm: error: ") and err.count("\n") == 1 and expected in err


def test_errors_of_files(run, tmp_path):
    assert run(tmp_path / "none.csv", *WOMEN)[0] == 2
    (tmp_path / "empty.csv").write_text("")
    status, _, err = run(tmp_path / "empty.csv", *WOMEN)
    assert status == 2 and "empty.csv is empty" in err


@pytest.mark.parametrize("arguments", [(), ("--cv", "1"), ("--cv", "many"), ("--sep", "::"), ("--estimators", "best")])
def test_errors_of_options(table, arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(["report", str(table), *(WOMEN if arguments else ()), *arguments])
    assert error.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_missing_values(run, tmp_path, women):
    gaps = women.astype({"district": float})
    gaps.loc[:4, "district"] = np.nan
    gaps.loc[3:9, "age"] = np.nan
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    status, _, err = run(tmp_path / "gaps.csv", *WOMEN, "--cv", 0)
    assert status == 2
    assert "10 of 1,934 rows miss values: 'district' in 5 rows (empty 5); 'age' in 7 rows (empty 7)" in err
    status, out, _ = run(tmp_path / "gaps.csv", *WOMEN, "--cv", 0, "--drop-missing")
    assert status == 0 and "1,924 of 1,934; 10 with missing values are left out" in out


def test_the_page(run, tmp_path, women):
    women.assign(**{ODD: women["age"]}).to_csv(tmp_path / "women.csv", index=False)
    out = tmp_path / "report.html"
    status, text, _ = run(
        *(tmp_path / "women.csv", *WOMEN[:4], "--features", ODD, "urban", "--out", out),
        *("--cv", 2, "--estimators", "mixed", "pooled", "--scenarios", "known groups"),
    )
    page = out.read_text(encoding="utf-8")
    assert status == 0 and ODD in text
    assert page.startswith("<!DOCTYPE html>") and "<title>use by district</title>" in page
    assert re.findall("<h2>(.*?)</h2>", page)[:4] == [
        "What was found",
        "How good predictions are",
        "The effects, in words and pictures",
        "How good the predictions are",
    ]
    assert "Where urban is Y, use = &#x27;Y&#x27; in" in page and "For a district that is in the data" in page
    assert "Share with use = &#x27;Y&#x27; over urban" in page
    assert [s for s in re.findall("<summary>(.*?)</summary>", page) if s in ("Mixed model", "Columns and rows")] == [
        "Mixed model",
        "Columns and rows",
    ]
    assert "bmi &lt;b&gt;&amp; &quot;x&quot;&lt;/b&gt;" in page and "<b>" not in page
    places = re.findall("""(?:src|href)=["'](data:|.)""", page)
    assert set(places) == {"data:", "#"} and "url(" not in page and "@import" not in page
    assert [path.name for path in tmp_path.iterdir() if path.name != "women.csv"] == ["report.html"]


def test_the_page_without_accuracy(run, table, tmp_path):
    assert run(table, *WOMEN, "--cv", 0, "--out", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Random effects" in page and "log loss" not in page


def test_an_interrupted_write_leaves_what_was_there(run, table, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("an earlier report")
    write_text = Path.write_text

    def write_half(path, text, **options):
        write_text(path, text[: len(text) // 2], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", write_half)
    status, text, err = run(table, *WOMEN, "--cv", 0, "--out", out, "--quiet")
    assert status == 2 and text == "" and "No space left on device" in err
    assert out.read_text() == "an earlier report"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "women.csv"]


def test_places_that_cannot_be_written_to(run, table, tmp_path):
    nowhere = tmp_path / "nowhere" / "report.html"
    for out, expected in ((tmp_path, "is a folder"), (table, "is the table itself"), (nowhere, "there is no folder")):
        status, _, err = run(table, *WOMEN, "--out", out)
        assert status == 2 and expected in err and "fitting" not in err
    assert table.read_text().startswith("woman,")


def test_version_and_help(capsys):
    for arguments, expected in (
        (["--version"], f"sklmm {sklmm.__version__}\n"),
        (["report", "--help"], "--random-effects"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0 and expected in capsys.readouterr().out
    assert main([]) == 0 and "report" in capsys.readouterr().out


def test_as_a_module(table, tmp_path):
    command = [sys.executable, "-m", "sklmm", "report"]
    done = subprocess.run([*command, str(tmp_path / "x.csv"), *WOMEN], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 2 and "Traceback" not in done.stderr


def coefficients(out):
    """Names of the fixed effects of the mixed model."""
    lines = out[out.index("Fixed effects") :].splitlines()[2:]
    return [line.split()[0] for line in lines[: [bool(line.strip()) for line in lines].index(False)]]


def test_options_given_twice_add_up(run, table):
    """argparse would take the last one, and keep the column that is to be left out."""
    both = ("--target", "use", "--groups", "district", "--cv", 0, "--exclude", "ch", "--exclude", "livch")
    _, out, _ = run(table, *both)
    assert coefficients(out) == ["intercept", "age", "urban[Y]"]
    _, out, _ = run(table, *WOMEN[:4], "--cv", 0, "--features", "age", "--features", "urban", "--categorical", "age",
                    "--categorical", "urban")  # fmt: skip
    assert "age[-0.56]" in coefficients(out) and "urban[Y]" in coefficients(out)
    _, out, _ = run(table, *WOMEN[:4], "--groups", "livch", "--features", "age", "--cv", 0)
    assert "60 of district, 4 of livch" in out
    terms = ("--random-effects", "1 | district", "--random-effects", "0 + age | district")
    _, out, _ = run(table, *WOMEN[:4], *terms, "--features", "age", "--cv", 0)
    assert "district.1" in out
    chosen = ("--estimators", "mixed", "--estimators", "pooled", "--scenarios", "new-groups", "--scenarios",
              "known-groups", "--cv", 2, "--features", "age")  # fmt: skip
    _, out, err = run(table, *WOMEN[:4], *chosen)
    assert "cross-validation of mixed, pooled in 2 folds: new groups, known groups" in err


def test_a_role_is_named_once(capsys, table):
    with pytest.raises(SystemExit):
        main(["report", str(table), "--target", "use", "--target", "ch", "--groups", "district"])
    assert "--target: given twice, as 'use' and as 'ch'" in capsys.readouterr().err


def test_max_iter(run, table):
    _, out, err = run(table, *WOMEN, "--cv", 2, "--max-iter", 1, "--estimators", "mixed", "gee")
    assert out.count("NOT CONVERGED") == 4  # at the head of each model's summary, and among its notes
    assert "did not converge" in err[err.index("cross-validation") :]
    with pytest.raises(SystemExit):
        main(["report", str(table), *WOMEN, "--max-iter", "0"])
