"""The list of estimators that keep the promises of this folder: a new one is tested by an entry in ``ENTRIES``.

Each test of the folder states one promise and runs for every entry (fixture ``entry``), or for every entry with each of
its variants, which are parameters that lead through other code (fixtures ``case`` and, for the main ones,
``main_case``). Promises that not every estimator makes select by what an entry is: ``entries(binary=True)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from dense_gee import make_problem
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GroupKFold, KFold

from sklmm import GEELinearRegression, GEELogisticRegression, MixedLinearRegression, MixedLogisticRegression
from sklmm.datasets import make_clustered_classification, make_clustered_regression
from sklmm.estimating import AR1, Fixed, MDependent

COV_TYPES = ("robust", "naive", "kauermann-carroll", "mancl-derouen", "fay-graubard", "morel")
TIMES = (0, 1, 2, 4, 5)


class Rows(NamedTuple):
    """What fits are given; estimators without times leave them alone."""

    X: object
    y: np.ndarray
    groups: np.ndarray
    time: np.ndarray

    def take(self, rows):
        """Some of the rows, in another order, or several times."""
        return Rows(*(part.iloc[rows] if hasattr(part, "iloc") else part[rows] for part in self))

    def in_one_table(self):
        """X with the groups as its column "g" and the times as its column "t"."""
        return self._replace(X=self.X.assign(g=np.asarray(self.groups), t=np.asarray(self.time)))


@dataclass(frozen=True, eq=False)
class Entry:
    """An estimator and what its promises depend on."""

    estimator: type
    binary: bool  # the outcome is one of two classes, so that there are probabilities; else a number
    takes_times: bool
    by_likelihood: bool  # there is a likelihood, of all the rows that weights stand for
    predicts_groups: bool  # predictions know the groups of the fit; else they are averages over the population
    some_rows: Callable  # makes the rows that all the variants can be fitted to
    variants: dict  # name -> parameters
    usual: tuple  # names of variants for promises that are the same for all of them, and dear to test
    more_variants: dict  # further ones, for the promises that are likeliest to fail
    all_used: dict  # parameters of a fit in which groups and times, where there are any, matter
    grid: dict  # for a search: parameters whose fits differ
    cv: object  # how such a search splits the rows
    numbers: Callable  # model, order of groups -> all that a fit says, by name
    tables: Callable  # model -> functions that hand out tables, besides vcov_
    stored_a_group: dict  # variant -> bytes that a fit keeps of each group at most, with labels of some 14 letters
    rounding: float  # relative differences between fits whose rows are held in other precision
    objective: tuple  # what is maximised, in words, and the attribute that holds it
    wrong_with_clinics: dict  # parameters of a right form that do not suit the data of `clinics`
    checked: list  # parameters besides the defaults that scikit-learn's checks see
    example: tuple  # parameters, and how an estimator with them is printed

    def __str__(self):
        return self.estimator.__name__

    def given(self, rows):
        """Groups, and times where they are taken, as arguments of fit, of rows or of a table with columns g and t."""
        groups, time = (rows["g"], rows["t"]) if isinstance(rows, pd.DataFrame) else (rows.groups, rows.time)
        return {"groups": groups} | ({"time": time} if self.takes_times else {})

    def fit(self, rows, sample_weight=None, **parameters):
        model = self.estimator(**parameters)
        return model.fit(rows.X, rows.y, sample_weight=sample_weight, **self.given(rows))

    def by_columns(self, **parameters):
        """An estimator that finds groups and times in X, as columns g and t."""
        times = {"time_feature": "t"} if self.takes_times else {}
        return self.estimator(group_features="g", **times, **parameters)

    def table(self, frame, *columns):
        """Columns of a frame, and those of groups and times that a fit by columns takes."""
        doors = {"g", "t"} if self.takes_times else {"g"}
        return frame[[name for name in frame if name in doors.union(columns or set(frame) - {"g", "t"})]]

    def predictions(self, model, X, **given):
        """Probabilities of the second class, or expected numbers."""
        return model.predict_proba(X, **given)[:, 1] if self.binary else model.predict(X, **given)

    def predict(self, model, rows):
        return self.predictions(model, rows.X, groups=rows.groups)

    @property
    def zero(self):
        """Numbers that are no larger are 0: predicted numbers, unlike probabilities, may be anything beside it."""
        return 0.0 if self.binary else 1e-8

    @property
    def scoring(self):
        return "neg_log_loss" if self.binary else "neg_mean_squared_error"

    @property
    def plain(self):
        """The model without groups, of scikit-learn."""
        return LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12) if self.binary else LinearRegression()

    @property
    def predicting(self):
        """Methods that take new rows."""
        return ("predict", *(("predict_proba", "predict_log_proba", "decision_function") if self.binary else ()))

    @cached_property
    def rows(self):
        return self.some_rows()


@dataclass(frozen=True, eq=False)
class Case:
    """An entry with the parameters of one of its variants."""

    entry: Entry
    name: str
    parameters: dict

    def __str__(self):
        return f"{self.entry}, {self.name}"

    @property
    def rows(self):
        return self.entry.rows

    def fit(self, rows, sample_weight=None, **more):
        return self.entry.fit(rows, sample_weight, **self.parameters, **more)

    def by_columns(self, **more):
        """An estimator that finds groups and times in X, as columns g and t."""
        renamed = {
            name: value.replace("| group", "| g") if isinstance(value, str) else value
            for name, value in self.parameters.items()
        }
        return self.entry.by_columns(**renamed, **more)

    @cached_property
    def fitted(self):
        """The fit to `rows`, made once: tests must leave it as it is."""
        return self.fit(self.rows)


# All that a fit says --------------------------------------------------------------------------------------------------


def coefficients(model):
    return np.r_[np.ravel(model.intercept_), np.ravel(model.coef_)]


def _mixed_numbers(model, groups=None):
    numbers = {"coefficients": coefficients(model), "log-likelihood": model.log_likelihood_, "BIC": model.bic_}
    numbers |= {"vcov": model.vcov_.to_numpy(), "vcov robust": model.vcov("robust").to_numpy()}
    (covariance,), (effects,) = model.covariance_.values(), model.random_effects_.values()
    (sds,) = model.random_effects_sd_.values()
    groups = effects.index if groups is None else groups
    effects, sds = (table.loc[groups].to_numpy() for table in (effects, sds))
    return numbers | {"covariance": covariance.to_numpy(), "effects": effects, "sds of effects": sds}


def _linear_numbers(model, groups=None):
    """Restricted likelihoods depend on the units of the features."""
    numbers = _mixed_numbers(model, groups) | {"sigma": model.sigma_, "log-likelihood": model.ml_log_likelihood_}
    return {name: value for name, value in numbers.items() if name != "BIC"}


def _gee_numbers(model, groups=None):
    numbers = {"coefficients": coefficients(model), "correlation": model.correlation_params_}
    for name in ("dispersion_", "qic_", "qicu_", "cic_", "quasi_likelihood_", "df_resid_"):
        numbers[name] = np.array(getattr(model, name), dtype=float)  # there may be none
    return numbers | {f"vcov {cov_type}": model.vcov(cov_type).to_numpy() for cov_type in COV_TYPES}


def _mixed_tables(model):
    attributes = ("random_effects_", "random_effects_sd_", "covariance_")
    return [lambda name=name: getattr(model, name)["group"] for name in attributes] + [lambda: model.vcov("robust")]


def _gee_tables(model):
    by_type = [lambda cov_type=cov_type: model.vcov(cov_type) for cov_type in COV_TYPES]
    return [*by_type, lambda: model.working_correlation_]


def assert_close(found, expected, rtol, leave_out=()):
    """Numbers of two fits are the same; covariances in units of the standard errors."""
    assert found.keys() == expected.keys()
    for name in expected.keys() - set(leave_out):
        if name.startswith("vcov"):
            se = np.sqrt(np.diag(expected[name]))
            assert np.abs((found[name] - expected[name]) / np.outer(se, se)).max() < rtol, name
        else:
            atol = 0.0 if np.ndim(expected[name]) == 0 else rtol
            np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=atol, err_msg=name)


def assert_same(entry, found, expected, rtol=1e-9, groups=None):
    """Both fits converged to the same numbers; `groups` are the labels that `found` has for those of `expected`."""
    assert found.converged_ and expected.converged_
    assert_close(entry.numbers(found, groups), entry.numbers(expected), rtol)


# The list -------------------------------------------------------------------------------------------------------------


def _mixed_rows():
    """Groups of 1 to some 30 rows, a few of them all zeros or all ones."""
    X, y, groups = make_clustered_classification(
        700, 2, n_groups=45, coef=[0.8, -0.5], covariance=[[1.5, 0.4], [0.4, 1.0]], size_variation=0.6, random_state=8
    )
    share = np.bincount(groups, weights=y) / np.bincount(groups)
    assert {0.0, 1.0} <= set(share)
    return Rows(X, y, groups, np.arange(700.0))


def _linear_rows():
    """Groups of 1 to some 30 rows."""
    X, y, groups = make_clustered_regression(
        700, 2, n_groups=45, coef=[0.8, -0.5], covariance=[[1.5, 0.4], [0.4, 1.0]], size_variation=0.6, random_state=8
    )
    return Rows(X, y, groups, np.arange(700.0))


def _linear_gee_rows():
    """The rows of the logistic ones, with numbers that go along with their outcomes."""
    rows = _gee_rows()
    noise = np.random.default_rng(1).normal(size=len(rows.y))
    return rows._replace(y=2.0 * rows.y + 0.5 * rows.X[:, 0] + noise)


def _gee_rows():
    """90 groups with rows at some of five times, in no order; the second feature is far from zero."""
    problem = make_problem(0)
    return Rows(problem.X, problem.y, problem.groups, problem.time)


_STRUCTURES = {
    "independence": "independence",
    "exchangeable": "exchangeable",
    "ar1": "ar1",
    "unstructured": "unstructured",
    "2-dependent": MDependent(2),
    "fixed": Fixed(0.5 ** np.sqrt(np.abs(np.subtract.outer(TIMES, TIMES))), times=TIMES),
}

MIXED = Entry(
    estimator=MixedLogisticRegression,
    binary=True,
    takes_times=False,
    by_likelihood=True,
    predicts_groups=True,
    some_rows=_mixed_rows,
    variants={
        "intercept": dict(random_effects=None),
        "quadrature": dict(random_effects=None, n_quadrature=5),
        "slope": dict(random_effects="1 + x0 | group"),
        "uncorrelated": dict(random_effects="1 + x0 || group"),
        "slope, quadrature": dict(random_effects="1 + x0 | group", n_quadrature=3),
        "no intercept": dict(random_effects="0 + x0 | group", fit_intercept=False),
        "cloglog": dict(random_effects=None, link="cloglog"),
        "probit, quadrature": dict(random_effects=None, n_quadrature=3, link="probit", tol=1e-13),
        "soft penalties": dict(random_effects=None, priors="soft"),
    },
    usual=("slope",),
    more_variants={
        "unusual parameters": dict(random_effects="1 + x0 | group", n_quadrature=3, predict_effects="mode", tol=1e-9),
        "weak priors": dict(random_effects="1 + x0 | group", priors="weak"),  # which depend on the columns
    },
    all_used={},
    grid={"random_effects": ["1 | g", "1 + a | g"]},
    cv=KFold(3, shuffle=True, random_state=1),
    numbers=_mixed_numbers,
    tables=_mixed_tables,
    stored_a_group={"intercept": 160, "quadrature": 160, "no intercept": 160},
    rounding=1e-9,
    objective=("log-likelihood", "log_likelihood_"),
    wrong_with_clinics={"random_effects": "1 + nothing | clinic"},
    checked=[{"group_features": -1}, {"link": "probit"}, {"link": "cloglog"}, {"priors": "weak"}, {"priors": "soft"}],
    example=(
        {"random_effects": "1 + a | g", "group_features": "g"},
        "MixedLogisticRegression(group_features='g', random_effects='1 + a | g')",
    ),
)

GEE = Entry(
    estimator=GEELogisticRegression,
    binary=True,
    takes_times=True,
    by_likelihood=False,
    predicts_groups=False,
    some_rows=_gee_rows,
    variants={name: {"correlation": correlation} for name, correlation in _STRUCTURES.items()}
    | {"cloglog": {"correlation": "exchangeable", "link": "cloglog"}}
    | {"probit": {"correlation": "ar1", "link": "probit"}}
    | {"firth": {"correlation": "exchangeable", "penalty": "firth"}},
    usual=("exchangeable",),
    more_variants={
        f"{name}, geepack's moments": {"correlation": correlation, "ddof_correction": False}
        for name, correlation in _STRUCTURES.items()
    }
    | {f"{name}, dispersion 1": {"correlation": name, "dispersion": 1.0} for name in ("independence", "exchangeable")}
    | {"ridge": {"correlation": "independence", "penalty": 2.0}}
    | {
        "unusual parameters": dict(
            correlation=MDependent(3), cov_type="mancl-derouen", dispersion=1.0, ddof_correction=False, tol=1e-9
        )
    },
    all_used={"correlation": "ar1"},
    grid={"correlation": ["independence", "exchangeable", AR1(), MDependent(2)]},
    cv=GroupKFold(3),
    numbers=_gee_numbers,
    tables=_gee_tables,
    # label, influence on each of six coefficients in single precision, number of rows
    stored_a_group=dict.fromkeys(_STRUCTURES, 20 + 4 * 6 + 8),
    rounding=1e-11,
    objective=("quasi-likelihood", "quasi_likelihood_"),
    wrong_with_clinics={"correlation": Fixed(np.eye(3))},
    checked=[
        {"correlation": "independence"},
        {"correlation": "ar1"},
        {"correlation": "unstructured"},
        {"correlation": "m-dependent"},
        {"correlation": Fixed([[1.0]])},
        {"penalty": "firth"},
        {"link": "probit"},
        {"link": "cloglog"},
        {"group_features": -1},
        {"correlation": "ar1", "time_feature": -1},
        {"group_features": -1, "time_feature": -2},
    ],
    example=(
        {"correlation": MDependent(2), "group_features": "g"},
        "GEELogisticRegression(correlation=MDependent(m=2), group_features='g')",
    ),
)

MIXED_LINEAR = Entry(
    estimator=MixedLinearRegression,
    binary=False,
    takes_times=False,
    by_likelihood=True,
    predicts_groups=True,
    some_rows=_linear_rows,
    variants={
        "intercept": dict(random_effects=None),
        "slope": dict(random_effects="1 + x0 | group"),
        "uncorrelated, maximum likelihood": dict(random_effects="1 + x0 || group", method="ml"),
        "no intercept": dict(random_effects="0 + x0 | group", fit_intercept=False),
    },
    usual=("slope",),
    more_variants={
        "unusual parameters": dict(
            random_effects="1 + x0 | group", df="kenward-roger", predict_effects="zero", tol=1e-9
        ),
        "weak priors": dict(random_effects="1 + x0 | group", priors="weak"),
    },
    all_used={},
    grid={"random_effects": ["1 | g", "1 + a | g"]},
    cv=KFold(3, shuffle=True, random_state=1),
    numbers=_linear_numbers,
    tables=_mixed_tables,
    stored_a_group={"intercept": 200, "no intercept": 200},
    rounding=1e-9,
    objective=("log-likelihood", "log_likelihood_"),
    wrong_with_clinics={"random_effects": "1 + nothing | clinic"},
    checked=[{"group_features": -1}, {"method": "ml"}, {"priors": "weak"}],
    example=(
        {"random_effects": "1 + a | g", "group_features": "g"},
        "MixedLinearRegression(group_features='g', random_effects='1 + a | g')",
    ),
)

GEE_LINEAR = Entry(
    estimator=GEELinearRegression,
    binary=False,
    takes_times=True,
    by_likelihood=False,
    predicts_groups=False,
    some_rows=_linear_gee_rows,
    variants={
        name: {"correlation": _STRUCTURES[name]} for name in ("exchangeable", "ar1", "unstructured", "2-dependent")
    },
    usual=("exchangeable",),
    more_variants={"geepack's moments": {"correlation": "exchangeable", "ddof_correction": False}},
    all_used={"correlation": "ar1"},
    grid=GEE.grid,
    cv=GroupKFold(3),
    numbers=_gee_numbers,
    tables=_gee_tables,
    stored_a_group={"exchangeable": 20 + 4 * 6 + 8},
    rounding=1e-11,
    objective=GEE.objective,
    wrong_with_clinics={"correlation": Fixed(np.eye(3))},
    checked=[{"correlation": "ar1"}, {"group_features": -1}],
    example=(
        {"correlation": MDependent(2), "group_features": "g"},
        "GEELinearRegression(correlation=MDependent(m=2), group_features='g')",
    ),
)

ENTRIES = [MIXED, GEE, MIXED_LINEAR, GEE_LINEAR]
MAIN_CASES = [Case(entry, *variant) for entry in ENTRIES for variant in entry.variants.items()]
CASES = MAIN_CASES + [Case(entry, *variant) for entry in ENTRIES for variant in entry.more_variants.items()]


def entries(**properties):
    """Decorate a test to run for the entries with these properties alone."""
    chosen = [entry for entry in ENTRIES if all(getattr(entry, name) == value for name, value in properties.items())]
    return pytest.mark.parametrize("entry", chosen, ids=str)


# Data of several tests ------------------------------------------------------------------------------------------------


@cache
def clinics():
    """75 clinics that were seen at the times 0, 1, 2, 3. Shared: copy before changing anything."""
    X, y, groups = make_clustered_classification(
        300, 3, n_groups=75, covariance=1.0, size_variation=0.0, random_state=2
    )
    time = pd.Series(groups).groupby(groups).cumcount().rename("visit")
    assert (np.bincount(groups) == 4).all()
    return Rows(pd.DataFrame(X, columns=["age", "dose", "b"]), y, pd.Series(groups, name="clinic"), time)


@cache
def visits():
    """A table of 50 groups seen up to 12 times, in no order, and the outcome.

    The groups are strings in the middle of the table, and the times are its end.
    """
    X, y, groups = make_clustered_classification(
        500, 2, n_groups=50, coef=[0.7, -0.4], covariance=[[2.0, 0.3], [0.3, 0.8]], random_state=3
    )
    frame = pd.DataFrame({"a": X[:, 0], "g": [f"g{label:02d}" for label in groups], "b": X[:, 1]})
    frame["t"] = frame.groupby("g").cumcount() * 2.0
    order = np.random.default_rng(0).permutation(len(y))
    return frame.iloc[order].reset_index(drop=True), y[order]
