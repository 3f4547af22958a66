"""Fits and predictions made by hand, with groups and times passed as arguments, of the table of `visits`."""

import numpy as np
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import GroupKFold, KFold

FEATURES = ["a", "b"]
KNOWN, NEW = KFold(3, shuffle=True, random_state=0), GroupKFold(3)  # groups of the test rows


def fit_by_hand(entry, frame, y, train, **parameters):
    rows = frame.iloc[train]
    return entry.estimator(**entry.all_used | parameters).fit(rows[FEATURES], y[train], **entry.given(rows))


def by_hand(entry, frame, y, train, test, **parameters):
    """Predictions for some rows by a fit to others."""
    rows = frame.iloc[test]
    model = fit_by_hand(entry, frame, y, train, **parameters)
    return entry.predictions(model, rows[FEATURES], groups=rows["g"])


def scores_by_hand(entry, frame, y, cv, **parameters):
    loss = log_loss if entry.binary else mean_squared_error
    folds = cv.split(frame, y, frame["g"])
    return np.array([-loss(y[test], by_hand(entry, frame, y, train, test, **parameters)) for train, test in folds])


def model_and_table(entry, frame):
    """An estimator that takes groups and times from X, and its X."""
    return entry.by_columns(**entry.all_used), entry.table(frame)
