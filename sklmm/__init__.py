"""sklmm: mixed-effects and marginal regression of clustered data with a scikit-learn interface."""

import importlib
import importlib.util

__version__ = "0.1.0"

# Public name -> module that defines it. Resolved on first use, which keeps `import sklmm` cheap.
_PUBLIC = {
    "ByPosterior": "sklmm.estimators.by_posterior",
    "CoefficientDisplay": "sklmm.reporting.displays",
    "EffectDisplay": "sklmm.reporting.displays",
    "AccuracyReport": "sklmm.accuracy",
    "GEELinearRegression": "sklmm.linear",
    "GEELogisticRegression": "sklmm.gee",
    "GroupCurvesDisplay": "sklmm.reporting.displays",
    "KeepGroups": "sklmm.compose",
    "MixedEffectEncoder": "sklmm.encoding",
    "MixedLinearRegression": "sklmm.linear",
    "MixedLogisticRegression": "sklmm.mixed",
    "PosteriorDisplay": "sklmm.reporting.displays",
    "PowerDisplay": "sklmm.reporting.displays",
    "RandomEffectsDisplay": "sklmm.reporting.displays",
    "ResidualsDisplay": "sklmm.reporting.displays",
    "WithinBetween": "sklmm.estimators.within_between",
    "accuracy_report": "sklmm.accuracy",
    "approximate_leave_group_out": "sklmm.diagnostics.leave_group_out",
    "bayes_factor": "sklmm.posterior.evidence",
    "cluster_influence": "sklmm.diagnostics.influence",
    "compare_models": "sklmm.inference.comparison",
    "estimated_means": "sklmm.prediction.estimated_means",
    "expand_counts": "sklmm.design.counts",
    "grouped_scorer": "sklmm.scorers",
    "likelihood_ratio_test": "sklmm.inference.likelihood_ratio",
    "make_grouped_pipeline": "sklmm.compose",
    "pool": "sklmm.inference.pooling",
    "power": "sklmm.diagnostics.power",
    "quantile_residuals": "sklmm.diagnostics.residuals",
    "random_effects_normality": "sklmm.diagnostics.normality",
    "term_tests": "sklmm.inference.term_tests",
}
_PUBLIC_MODULES = ("datasets", "estimating", "exceptions", "priors")

__all__ = ["__version__", *_PUBLIC, *_PUBLIC_MODULES]

if importlib.util.find_spec("sklmm._kernels._cluster") is None:
    raise ImportError(
        f"sklmm's compiled kernels are missing from {__path__[0]!r}: this looks like sklmm's source tree, "
        "not an installed copy. In the folder that holds pyproject.toml, run one of\n"
        "    pip install .                                # then import sklmm from outside that folder\n"
        "    pip install -e . --no-build-isolation        # to develop; needs setuptools, Cython and numpy\n"
        "    python setup.py build_ext --inplace          # the same without pip"
    )


def __getattr__(name):
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _PUBLIC_MODULES:
        value = importlib.import_module(f"sklmm.{name}")
    else:
        raise AttributeError(f"module 'sklmm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
