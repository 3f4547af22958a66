"""Reference fits with priors, their data, and blme's priors in the words of `sklmm.priors`."""

import json
from functools import cache
from pathlib import Path

import pandas as pd

from sklmm.datasets import load_contraception, load_verbagg
from sklmm.priors import Gamma, InverseGamma, InverseWishart, MultivariateT, Normal, Wishart

PATH = Path(__file__).parent / "reference" / "priors.json"
FORMULAS = {
    "sim_separation": "y ~ x1 + z + (1 | g)",
    "sim_few_groups": "y ~ x1 + (1 | g)",
    "contraception_m_03": "use ~ age10 + age2 + urban + ch + (1 | district)",
    "contraception_slope": "use ~ age10 + age2 + urban + ch + (1 + urban | district)",
    "verbagg60_crossed": "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)",
}
FIXED = {  # of k coefficients, the intercept's first
    "fixef_normal_2.5": lambda k: {"fixed": Normal(0, 2.5), "intercept": Normal(0, 2.5)},
    "fixef_normal_10": lambda k: {"fixed": Normal(0, 10), "intercept": Normal(0, 10)},
    "fixef_normal_default": lambda k: {"fixed": Normal(0, 2.5), "intercept": Normal(0, 10)},
    "fixef_t_default": lambda k: {"coefficients": MultivariateT(3, 0, [10.0] + [2.5] * (k - 1))},
    "fixef_t_7": lambda k: {"coefficients": MultivariateT(7, 0, 2.5)},
    "fixef_none": lambda k: {},
}
COVARIANCE = {  # of a term with d coefficients
    "cov_none": lambda d: {},
    "cov_wishart_default": lambda d: {"covariance": Wishart(d + 2.5)},
    "cov_wishart_proper": lambda d: {"covariance": Wishart(d + 3, 0.5)},
    "cov_invwishart_proper": lambda d: {"covariance": InverseWishart(d + 2, 0.5)},
    "cov_gamma_2_0.5": lambda d: {"sd": Gamma(2, 0.5)},
    "cov_gamma_var": lambda d: {"variance": Gamma(1.5, 1)},
    "cov_invgamma_2_1": lambda d: {"sd": InverseGamma(2, 1)},
    "cov_invgamma_default": lambda d: {"sd": InverseGamma(0.5, 100)},
}


@cache
def content():
    return json.loads(PATH.read_text())


def names():
    return list(content()["records"])


def record(name):
    """Numbers of one fit: log posterior and its parts, coefficients with errors, standard deviations by factor."""
    return content()["records"][name]


@cache
def data(dataset):
    """The data frame of a record's first part."""
    if dataset in content()["data"]:
        return pd.DataFrame(content()["data"][dataset])
    if dataset == "verbagg60_crossed":
        frame = load_verbagg(as_frame=True).frame
        return frame[frame["id"].isin(sorted(frame["id"].unique())[:60])]
    frame = load_contraception(as_frame=True).frame.copy()
    frame["age10"] = frame["age"] / 10.0
    frame["age2"] = frame["age10"] ** 2
    return frame


def priors(name):
    """The dict of priors of one record."""
    _, fixed, covariance = name.split("/")
    k, d = len(record(name)["coef"]), max(map(len, record(name)["sd"]))
    return FIXED[fixed](k) | COVARIANCE[covariance](d)
