"""The theta at which a linear model's likelihood is highest; variances of 0 are points like others."""

import numpy as np

from sklmm.optimize.newton import FitReport, Optimum, maximise
from sklmm.passes.blocks import POLISH_ROWS

TRIED = (0.1, 1.0, 10.0)  # relative standard deviations that are tried where one ends at 0
SAME = 1e-6  # of theta: the same to six digits
HIGHER = 1e-8  # log-likelihood units, and as a share of the log-likelihood 1e-12: rounding errors


def best_theta(criterion, *, tol=1e-10, max_iter=100, progress=None, held=None):
    """The highest maximum in theta, after a second look where a variance is 0 or a correlation 1.

    Parameters
    ----------
    criterion : LinearCriterion
    tol, max_iter, progress
        As in `fit_linear`.
    held : mask of the entries of theta that stay at 0, or None

    Returns
    -------
    Optimum
    """
    products, covariance = criterion.products, criterion.products.covariance
    if not products.structure.factors:
        return without_random_effects(criterion)
    held = np.zeros(covariance.m, dtype=bool) if held is None else held
    settings = dict(n_rows=products.n_rows, n_fixed=0, held=held, tol=tol, progress=progress)

    def snap(theta):
        boundary, known = covariance.on_boundary(theta), products.factorised
        if known is not None and not boundary.any() and np.abs(theta - known).max() <= SAME * np.abs(theta).max():
            return known  # a last step so short is not worth a factorisation
        return np.where(boundary, 0.0, theta)

    def climb(theta, report=None):
        iterations = max_iter if report is None else report.n_iter + max_iter
        common = dict(settings, snap=snap, max_iter=iterations, report=report)
        return maximise(lambda x, *_: criterion.profile(x), theta, strides=(1,),
                        polish=products.n_rows <= POLISH_ROWS, **common)  # fmt: skip

    best = climb(np.where(held, 0.0, products.first_theta()))
    report = best.report
    while True:
        verdict = report.converged, report.decrement, report.verdict
        other = _higher_start(criterion, best, held)
        if other is None:
            break
        found = climb(other, report)
        if found.value <= best.value + _noise(best.value):
            report.converged, report.decrement, report.verdict = verdict
            break
        best = found
    return best


def without_random_effects(criterion):
    """Least squares: theta, which is 0, is no parameter."""
    theta = np.zeros(criterion.products.covariance.m)
    point = criterion.at(theta)
    value = criterion.value(point, point.squares, criterion.log_sigma(point))
    report = FitReport(n_full_passes=1, n_iter=1, decrement=0.0, converged=True, verdict="converged: least squares")
    return Optimum(theta, value, np.zeros((theta.size, theta.size)), np.zeros_like(theta), False, report)


def _noise(value):
    return HIGHER + 1e-12 * abs(value)


def _higher_start(criterion, optimum, held):
    """A theta with a higher likelihood than the optimum's, in which a variance that is 0 there is not; None if none is
    found."""
    covariance, theta = criterion.products.covariance, optimum.x
    zero = covariance.diagonal & covariance.on_boundary(theta) & ~held
    if not zero.any():
        return None
    best, height = None, optimum.value + _noise(optimum.value)
    signs = (1.0, -1.0) if (~covariance.diagonal).any() else (1.0,)
    for size in TRIED:
        for sign in signs:
            trial = np.where(zero, size, np.where(covariance.diagonal, theta, sign * theta))
            try:
                value = criterion.profile_value(trial)
            except FloatingPointError:
                continue
            if value > height:
                best, height = trial, value
    return best

