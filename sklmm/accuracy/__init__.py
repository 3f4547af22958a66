"""Accuracy reports: how well classifiers and regressors predict rows that come in groups, and for whom."""

import importlib

__all__ = ["AccuracyReport", "accuracy_report"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".report", __name__), name)
