"""Whether classes are separated by the features: then no coefficients are the maximum of a likelihood.

References
----------
Albert A, Anderson JA (1984). On the existence of maximum likelihood estimates in logistic regression models. Biometrika
71, 1-10.
"""

import numpy as np
from scipy.optimize import linprog

MOVED = 1e-4  # of coefficients within +-1 of standardised columns: less is rounding error


def separating_direction(Z, y):
    """Coefficients with which no row's linear predictor is on the wrong side and not all are 0; None if there are none.

    Parameters
    ----------
    Z : ndarray of shape (n, m)
        Standardised columns, and that of the intercept if there is one.
    y : ndarray of shape (n,)
        0 or 1.
    """
    if not Z.shape[1]:
        return None
    Z = Z * np.where(y > 0, 1.0, -1.0)[:, None]
    found = linprog(-Z.sum(axis=0), A_ub=-Z, b_ub=np.zeros(len(Z)), bounds=(-1.0, 1.0))
    if found.status == 0 and (Z @ found.x).max(initial=0.0) > MOVED:
        return found.x
    return None
