"""Fitted models that nobody fitted: numbers by hand, for tests of what is said of them."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np

from sklmm.families import LOGIT
from sklmm.fitted import FittedMarginal


def imagined(kind, attributes):
    """A model with these attributes; those that begin with an underscore and are fields of `kind` are its fit's."""
    lists = ("separated", "large_variances", "nesting")
    state = {f.name: attributes.pop(f"_{f.name}", [] if f.name in lists else None) for f in fields(kind)}
    state |= {"family": LOGIT, "event": 1, "n_groups": attributes["n_groups_"]}
    state["positions"] = dict.fromkeys(("group_features", "time_feature", "offset_feature"))
    state["value"] = attributes.get("log_likelihood_", attributes.get("quasi_likelihood_", -100.0))
    model = SimpleNamespace(_fitted=kind(**state), **attributes)
    model._outcome_facts = lambda: {"classes": str(model.classes_.tolist())}
    return model


def marginal(cov_type="robust", df=None, vcov=None, coef=(-1.88, -0.1134, 0.2651), **changes):
    """A fit to four years of 537 children, as far as a summary looks at one."""
    names = ["intercept", "age", "smoke"]
    vcov = np.diag([0.114, 0.0439, 0.178]) ** 2 if vcov is None else vcov
    model = {
        "classes_": np.array([0, 1]),
        "n_obs_": 2148.0,
        "n_groups_": {"child": 537},
        "cluster_sizes_": (4, 4),
        "correlation_name_": "exchangeable",
        "correlation_params_": np.array([0.35445]),
        "correlation_times_": None,
        "working_correlation_": np.full((4, 4), 0.35445) + 0.64555 * np.eye(4),
        "dispersion_": 0.99963,
        "_dispersion_is_fixed": False,
        "cov_type_": cov_type,
        "df_resid_": df,
        "qic_": 1831.7541,
        "qicu_": 1829.6,
        "cic_": 4.08,
        "_trouble": None,
        "fit_report_": SimpleNamespace(verdict="converged after 4 iterations"),
        "converged_": True,
        "_separated": [],
        "_inference_df": lambda: df,
        "_fixed_effects": lambda: (names, np.array(coef), vcov),
    }
    return imagined(FittedMarginal, model | changes)
