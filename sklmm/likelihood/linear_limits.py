"""Linear models where the rows do not tell variances: levels that nothing tells apart, outcomes without residuals."""

from dataclasses import replace

import numpy as np

from sklmm.design.covariance import RelativeCovariance
from sklmm.likelihood.linear_criterion import NOTHING_LEFT, LinearCriterion
from sklmm.optimize.newton import maximise

LARGEST = 1e7  # a relative standard deviation beyond it: the residuals are rounding errors
FAR = 3e3  # a relative standard deviation that is as good as infinite, and costs no digits
SAME = 1e-9  # relative differences of likelihoods that are rounding errors


def unidentified(products, reml):
    """Entries of theta that the rows say nothing of, whose variances stay at 0, and a sentence for each factor."""
    held, sentences, first = np.zeros(products.covariance.m, dtype=bool), [], 0
    weights = products.observations.weights
    for factor, codes in zip(products.structure.factors, products.observations.codes, strict=True):
        entries, n_levels, largest = RelativeCovariance(factor.blocks), factor.n_levels, np.inf
        own, first = np.arange(first, first + entries.m), first + entries.m
        if weights is not None or codes.size <= n_levels:
            counts = np.bincount(codes, weights=weights, minlength=n_levels)
            n_levels, largest = np.count_nonzero(counts), counts.max()
        lost = np.zeros(entries.q, dtype=bool)
        if reml and n_levels <= products.f:
            lost[:] = [_is_flat(products, entry) for entry in own[entries.diagonal]]
        if lost.any():
            sentences.append(
                f"the features and the intercept tell the levels of {factor.name!r} apart already, as where there is "
                "one level: what varies between levels can't be estimated, and its variance is taken to be 0"
            )
        elif largest <= 1.0 and products.precision is None and -1 in factor.columns:
            lost = np.array(factor.columns) == -1
            sentences.append(
                f"no level of {factor.name!r} has more than one row: the variance between levels can't be told from "
                "the residual variance, and is taken for it"
            )
        held[own] = lost[entries.row] | lost[entries.col]
    return held, sentences


def _is_flat(products, entry):
    """Whether REML's likelihood does not depend on an entry of theta, all others being 0."""
    criterion = LinearCriterion(products, True)
    none, one = (criterion.at(size * (np.arange(products.covariance.m) == entry)) for size in (0.0, 1.0))
    changes = np.array([one.log_det + one.log_fixed - none.log_fixed, one.squares - none.squares])
    return bool((np.abs(changes) <= SAME * np.array([1.0 + one.log_det, none.squares])).all())


def exactly_without(criterion):
    """Says that the features alone reproduce the outcome; None if they do not."""
    products = criterion.products
    if products.n_counted <= 1 and products.n_rows <= 1:
        raise ValueError("there is 1 sample (n_samples = 1): a residual variance takes more than one row")
    plain, total = criterion.at(np.zeros(products.covariance.m)).squares, products.C[-1, -1]
    if products.n_counted > products.f and plain > NOTHING_LEFT * total:
        return None
    if np.ptp(products.observations.y) == 0:
        reason = "the outcome is constant"
    else:
        reason = f"{products.f} coefficients reproduce the outcome of {products.n_counted:g} rows exactly"
    return (
        f"{reason}: there is no residual variance to estimate, standard errors are next to 0, and tests and "
        "likelihoods mean nothing"
    )


def exactly_with(criterion, theta):
    """Says that no residuals are left beside the random effects, so that the likelihood has no maximum; None if some
    are."""
    plain = criterion.at(np.zeros_like(theta)).squares
    if criterion.at(theta).squares > NOTHING_LEFT * plain and np.abs(theta).max(initial=0.0) <= LARGEST:
        return None
    names = " and ".join(repr(factor.name) for factor in criterion.products.structure.factors)
    return (
        f"the random effects of {names} reproduce the outcome exactly, as where each group has one value: there is no "
        "residual variance to estimate, and likelihoods mean nothing. Coefficients and variances are those of the "
        "groups' values, one a group"
    )


def without_residuals(criterion, optimum, held):
    """The optimum in the limit of no residuals, where the random effects' covariance is what the levels' values say.

    Along theta = c direction the log determinants grow by 2 r log c for large c, r being the number of independent
    differences between levels. With r degrees of freedom for sigma, where the criterion itself counts rows, likelihoods
    depend on the direction alone, and sigma c is what it is best.
    """
    covariance = criterion.products.covariance
    theta = np.where(held, 0.0, FAR * covariance.start())
    near, far = (point.log_det + criterion.reml * point.log_fixed for point in map(criterion.at, (theta, 2.0 * theta)))
    criterion.nu = max((far - near) / (2.0 * np.log(2.0)), SAME)
    held = held | (np.arange(theta.size) == np.argmax(np.where(covariance.diagonal, np.abs(optimum.x), -1.0)))
    report = optimum.report
    if held.all():
        optimum = replace(optimum, x=theta)
    else:
        n_rows = criterion.products.n_rows
        optimum = maximise(lambda x, *_: criterion.profile(x), theta, strides=(1,), n_rows=n_rows, n_fixed=0, held=held,
                           snap=lambda x: x, polish=False)  # fmt: skip
    return replace(optimum, report=replace(report, converged=True, verdict="converged: no residual variance is left"))
