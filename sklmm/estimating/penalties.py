"""Estimating equations with a penalty: finite coefficients where classes are separated.

"firth": to the estimating function is added the gradient of log|S| / 2, S = sum D_i' V_i^-1 D_i at the working
correlation, and V_i free of the dispersion (Mondol and Rahman 2019). Of independent rows of a logit it is Firth's
(1993) score, the gradient of the log-likelihood with Jeffreys' prior; log|S| falls without end as coefficients grow.
The gradient of independent rows is exact; that of others is by central differences of S, to the fourth order: four
passes a coefficient, for any working correlation.

A number: a ridge. The quasi-likelihood less so much times half the sum of squared slopes of standardised columns.

Steps are with S less the penalty's Hessian, with a working correlation that of independent rows: S alone converges
slowly where classes are separated, as S is then of the penalty's size. Covariances are made from S, or S and the ridge.

References
----------
Firth D (1993). Bias reduction of maximum likelihood estimates. Biometrika 80, 27-38.

Mondol MH, Rahman MS (2019). Bias-reduced and separation-proof GEE with small or sparse longitudinal binary data.
Statistics in Medicine 38, 2544-2560.
"""

import numpy as np

from sklmm.estimating.equations import VALUE, Equations
from sklmm.passes.log_determinant import LogDeterminant

# What a difference moves a row's linear predictor by at most: it is off by its fourth power, and loses digits below.
MOVE = 3e-3
LEAST = 1e-3  # of S, that the sensitivity with the penalty must be in any direction


class PenalisedEquations(Equations):
    """Sums over clusters with a penalty in the estimating function; see `Equations`.

    Parameters
    ----------
    penalty : "firth" or float
    *rows_and_settings
        As `Equations` takes them.
    """

    bounded = True

    def __init__(self, penalty, *rows_and_settings):
        super().__init__(*rows_and_settings)
        self.penalty, p = penalty, self.p
        moments = np.array([self._column_moments(j) for j in range(p)]).reshape(p, 2)
        self._steps = np.append(MOVE / np.maximum(moments[:, 0], 1.0), np.full(self.m - p, MOVE))
        self._of_independent_rows = LogDeterminant(
            self.X, self._center, self._inv_scale, self.active, self.family, self.clusters.w, self.offset
        )
        size = 0.0 if penalty == "firth" else float(penalty)
        self.ridge = np.append(size * moments[:, 1], np.zeros(self.m - p))

    def _column_moments(self, j):
        """Largest size, and variance, of a standardised column."""
        z = (self.X[:, j].astype(np.float64) - self._center[j]) * self._inv_scale[j]
        mean = np.average(z, weights=self.clusters.w)
        return np.abs(z).max(initial=0.0), np.average((z - mean) ** 2, weights=self.clusters.w)

    def evaluate(self, beta, alpha, stride=1, beside_offset=True):
        scalars, moments, S, U = super().evaluate(beta, alpha, stride, beside_offset)
        scalars = np.array(scalars, dtype=float)
        value, gradient, hessian = self._added(S, beta, alpha, stride, beside_offset)
        scalars[VALUE] += value
        return scalars, moments, self._sensitivity(S, hessian), U + gradient

    def correct(self, beta, alpha, bread):
        S = super().evaluate(beta, alpha)[2] + np.diag(self.ridge)
        scalars, moments, S, U, meats, without = super().correct(beta, alpha, self.bread(S))
        _, gradient, _ = self._added(S, beta, alpha)
        return scalars, moments, S + np.diag(self.ridge), U + gradient, meats, without

    def information(self, point):
        return super().evaluate(point.beta, point.alpha)[2]

    def _sensitivity(self, S, hessian):
        """What steps are made with: S less the penalty's curvature, where that leaves it positive definite."""
        on = np.ix_(self.active, self.active)
        size = np.sqrt(S[on].diagonal())
        whole = S - hessian
        if (size > 0.0).all() and np.linalg.eigvalsh(whole[on] / size[:, None] / size)[0] > LEAST:
            return whole
        return S

    def _added(self, S, beta, alpha, stride=1, beside_offset=True):
        """The penalty, its gradient, and its Hessian or, with a working correlation, that of independent rows."""
        if self.penalty != "firth":
            size = self.share(stride) * self.ridge
            return -0.5 * float(size @ beta**2), -size * beta, -np.diag(size)
        gradient, hessian, on = np.zeros(self.m), np.zeros((self.m, self.m)), self.active
        if not beside_offset:  # asked for its sensitivity alone
            return 0.0, gradient, hessian
        try:
            value, gradient[on], hessian[np.ix_(on, on)] = self._of_independent_rows(beta[on])
        except FloatingPointError:
            return -np.inf, gradient, hessian
        if alpha is None:
            return value, gradient, hessian

        def half_log_determinant(move):
            return self._half_log_determinant(super(PenalisedEquations, self).evaluate(beta + move, alpha, stride)[2])

        for j in np.flatnonzero(on):
            move = self._steps[j] * np.eye(self.m)[j]
            around = np.array([half_log_determinant(k * move) for k in (-2.0, -1.0, 1.0, 2.0)])
            if not np.isfinite(around).all():
                return -np.inf, np.zeros(self.m), np.zeros_like(hessian)
            gradient[j] = around @ [1.0, -8.0, 8.0, -1.0] / (12.0 * self._steps[j])
        return self._half_log_determinant(S), gradient, hessian

    def _half_log_determinant(self, S):
        S = S[np.ix_(self.active, self.active)]
        size = S.diagonal()
        if not (size > 0.0).all():
            return -np.inf
        sign, value = np.linalg.slogdet(S / np.sqrt(size[:, None] * size))
        return 0.5 * (value + np.log(size).sum()) if sign > 0 else -np.inf


def check_penalty(penalty):
    """A ValueError unless a penalty is None, "firth" or a number above 0."""
    is_number = isinstance(penalty, (int, float, np.integer, np.floating)) and not isinstance(penalty, bool)
    if penalty is None or (isinstance(penalty, str) and penalty == "firth") or (is_number and 0 < penalty < np.inf):
        return
    raise ValueError(f"penalty must be None, 'firth' or a number above 0, got {penalty!r}")
