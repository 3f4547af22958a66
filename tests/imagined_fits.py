"""Fitted models that nobody fitted: numbers by hand, for tests of what is said of them."""

from dataclasses import fields
from types import SimpleNamespace

from sklmm.families import LOGIT


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
