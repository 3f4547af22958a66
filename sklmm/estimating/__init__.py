"""Generalized estimating equations: working correlations, and the equations they enter.

The classes of working correlations are public: an instance may be given as `GEELogisticRegression(correlation=...)`,
also one of a subclass of your own.
"""

from .correlation import AR1, Exchangeable, Fixed, Independence, MDependent, Unstructured, WorkingCorrelation

__all__ = ["AR1", "Exchangeable", "Fixed", "Independence", "MDependent", "Unstructured", "WorkingCorrelation"]
