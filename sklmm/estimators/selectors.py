"""Meta-estimators of scikit-learn that leave out columns of X, and what they do not know of grouping columns.

They hand on arrays, whose columns have no names, so that groups in X can only be named by position. RFE and
SelectFromModel then take `coef_` for one coefficient a column, though grouping columns have none; others leave out
grouping columns, too, whereupon their positions are those of features. Either goes wrong in silence, and nothing in
what an estimator gets tells of it: the callers are looked up instead.
"""

import sys

from sklmm.design.columns import column_names
from sklmm.messages import listed

_WAY_OUT = (
    "pass the groups as groups= (with metadata routing enabled; sklearn.set_config(enable_metadata_routing=True)) and "
    "leave them out of X"
)
_FRAMES = 4  # between a selector that asks for coefficients and `coef_`


def refuse_coefficients_by_position(estimator, columns):
    """Raise where a feature selector asks for coefficients as if every column of X had one.

    Parameters
    ----------
    estimator : fitted estimator
    columns : list of int
        The columns of X that have none: of groups and times.

    Raises
    ------
    ValueError
        Unless the selector is RFE (or RFECV), and these columns are the last ones: it then drops features alone.
    """
    frame = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame is None or frame.f_globals.get("__name__") == "sklearn.feature_selection._base":
            break
        frame = frame.f_back
    else:
        return
    if frame is None:
        return
    selector = type(frame.f_back.f_locals.get("self")).__name__
    n_features = estimator.n_features_in_ - len(columns)
    if selector in ("RFE", "RFECV") and frame.f_locals.get("estimator") is estimator and min(columns) >= n_features:
        return
    names = listed(repr(str(column_names(estimator)[j])) for j in columns)
    last = ", or put the grouping columns last and count from the end (group_features=-1)" if "RFE" in selector else ""
    raise ValueError(
        f"{selector} takes coef_ for a coefficient of each column of X, but columns of groups or times have none (here "
        f"{names}): it would select the wrong columns. For this {type(estimator).__name__} {_WAY_OUT}{last}"
    )


def refuse_leaving_out_groups(estimator):
    """Raise where a clone is made for fits to some of the columns, any of which may be left out.

    Raises
    ------
    ValueError
        Within the fit of a SequentialFeatureSelector, or of a BaggingClassifier that draws features.
    """
    doors = ("group_features", "time_feature", "offset_feature", "precision_weight_feature")
    named = [name for name in doors if getattr(estimator, name, None) is not None]
    if not named or any(callable(getattr(estimator, name)) for name in named):
        return
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("sklearn."):
            owner = frame.f_locals.get("self")
            kind = type(owner).__name__
            if kind == "SequentialFeatureSelector" and frame.f_code.co_name == "fit" or _draws_features(owner):
                raise ValueError(
                    f"{kind} fits to some of the columns of X at a time, without their names, and leaves out those of "
                    f"{' and '.join(named)}, too: for this {type(estimator).__name__} {_WAY_OUT}"
                )
        frame = frame.f_back


def _draws_features(owner):
    if type(owner).__name__ != "BaggingClassifier":
        return False
    all_columns = isinstance(owner.max_features, float) and owner.max_features == 1.0
    return bool(owner.bootstrap_features) or not all_columns
