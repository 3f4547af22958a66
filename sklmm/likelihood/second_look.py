"""Whether a climb has ended at the highest of several maxima: other starts, where there is reason to doubt it.

The likelihood of a standard deviation may have a maximum at 0 beside another, and a climb ends at the one that it meets
first. A variance that is found to be 0 (or a correlation of 1) is tried again from 1 (or from none). For one that is
not clearly above 0 the model without it is fitted; where that is higher the climb goes on from there. Beyond a large
one there may be another, larger still, if quadrature has few nodes.
"""

import numpy as np

NEAR_ZERO = 1e-3  # entries on the diagonal of the relative covariance factor that may belong on the boundary
DOUBTFUL = 4.0  # standard errors from 0
LARGE = 8.0  # standard deviations from which on a maximum at a larger one may be higher: nodes miss more and more
MOST_ALONE = 3  # doubtful variances that are tried one by one, too
HIGHER = 1e-9  # relative to the log-likelihood: rounding errors
SHRINKAGE = 0.346  # coefficients without a random effect of variance v are about 1 / sqrt(1 + 0.346 v) of those with it


def look_again(optimum, climb, engine, held, null, max_iter):
    """The best of an optimum and those that other starts lead to.

    Parameters
    ----------
    optimum : Optimum
    climb : callable (x, report, held) -> Optimum
    engine : likelihood
    held : mask of parameters that stay
    null : (ndarray, float)
        The model of the intercept alone: parameters and log-likelihood, which no maximum is below.
    max_iter : int

    Returns
    -------
    Optimum
        With the report of all climbs. It has not converged where it is below the intercept alone.
    """
    report, best, last = optimum.report, optimum, optimum
    reached = report.converged, report.decrement, report.verdict

    def higher(value):
        return value > best.value + HIGHER * (1.0 + abs(best.value))

    for x, stay in [*_other_starts(optimum, engine, held), (null[0], held)]:
        if report.n_iter >= max_iter:
            break
        if x is null[0] and not higher(null[1]):
            continue
        last = climb(x, report, stay)
        if stay is not held:
            if not higher(last.value) or report.n_iter >= max_iter:
                continue
            last = climb(last.x, report, held)
        if higher(last.value) and (report.converged or not reached[0]):
            best, reached = last, (report.converged, report.decrement, report.verdict)
    report.converged, report.decrement, report.verdict = reached
    if higher(null[1]):
        report.converged = False
        report.verdict = f"stopped at a log-likelihood of {best.value:.6g}, below the intercept alone's {null[1]:.6g}"
    if last is not best:
        engine.evaluate(best.x)  # the modes are those of the last evaluation
        report.n_full_passes += 1
    return best


def _other_starts(optimum, engine, held):
    """Points that another maximum may be found from, and the parameters that stay there at first."""
    covariance, k = engine.covariance, engine.n_fixed
    theta, diagonal = optimum.x[k:], np.flatnonzero(engine.covariance.diagonal)
    zero = [j for j in diagonal if abs(theta[j]) < NEAR_ZERO]
    error = _standard_errors(optimum, held)[k:]
    small = [j for j in diagonal if j not in zero and not abs(theta[j]) > DOUBTFUL * error[j]]
    of_row = covariance.row[:, None] == covariance.row
    of_both = of_row | (covariance.col == covariance.row[:, None])
    for entries in _together_and_alone(zero):
        x = optimum.x.copy()
        for j in entries:
            x[k:][of_row[j]] = 0.0
            x[k + j] = max(1.0, np.linalg.norm(theta[of_row[j]]))
        yield x, held
    large = [j for j in diagonal if abs(theta[j]) > LARGE]
    if large:
        x = optimum.x.copy()
        x[:k] *= 4.0  # coefficients grow with it
        x[k:][large] *= 4.0
        yield x, held
    for entries in _together_and_alone(small):
        x, stay = optimum.x.copy(), held.copy()
        without = of_both[entries].any(axis=0)
        x[:k] /= np.sqrt(1.0 + SHRINKAGE * (theta[without] ** 2).sum())
        x[k:][without], stay[k:][without] = 0.0, True
        yield x, stay


def _together_and_alone(entries):
    if entries:
        yield entries
    if 1 < len(entries) <= MOST_ALONE:
        yield from ([j] for j in entries)


def _standard_errors(optimum, held):
    """Standard errors; infinite where the information has no inverse, NaN where it is not positive definite."""
    out = np.full(len(held), np.inf)
    active = ~held
    try:
        out[active] = np.sqrt(np.diag(np.linalg.inv(-optimum.hessian[np.ix_(active, active)])))
    except np.linalg.LinAlgError:
        pass
    return out
