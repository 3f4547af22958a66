"""Whether a climb has ended at the highest of several maxima: other starts, where there is reason to doubt it.

The likelihood of a standard deviation may have a maximum at 0 beside another, and a climb ends at the one that it meets
first. A variance that is found to be 0 (or a correlation of 1) is tried again from 1 (or from none). For one that is
not clearly above 0 the model without it is fitted; where that is higher the climb goes on from there. Far out,
approximations of the integrals over random effects err more and more, so that there may be a maximum which is higher
and yet worse: where groups are tiny or a standard deviation is large or 0 it is looked for, and a better approximation
decides; with several factors it is looked for in each alone, too. Few rows leave room for several maxima of several
coefficients, and sums over few nodes have some of their own: there a climb costs next to nothing, and starts of all
sizes and correlations are tried. The sum over the nodes of one coefficient ripples where its standard deviation is very
large: the likelihood of a group with many rows, or rows of large weights, is a step to that. Starts next to the optimum
find the tops of other ripples.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

NEAR_ZERO = 1e-3  # entries on the diagonal of the relative covariance factor that may belong on the boundary
DOUBTFUL = 4.0  # standard errors from 0
# Standard deviations above it (times the link's scale), rows a level below it: there may be a maximum farther out.
LARGE, TINY_GROUPS = 3.0, 3.0
FAR_OUT, TIMES = 10.0, 4.0  # where it is looked for: there, or at so many times what was found
FEW_ROWS = 5_000  # up to here few rows of the rarer outcome are, too, and it is looked for twice as far
FEW_ROWS_OF_SEVERAL = 300  # with several factors a climb is dear
VERY_FEW_ROWS = 1_000  # up to here a doubtful variance or few nodes are reason enough to look anywhere
RIPPLES = 6.0  # standard deviations above it (times the link's scale): sums over nodes ripple
NEXT_RIPPLE = (0.5, 0.8, 1.25, 1.6)  # where others begin, in standard deviations found
OTHER_SLOPES = 3.0  # likewise, with slopes as they are: the sum ripples in the fixed effects, too
CHEAP_ROWS = 50_000  # up to here tiny groups are reason enough to look
PATIENCE = 25
FEW_NODES, FEW_NODES_OF_SEVERAL = 3, 7  # of one or several coefficients: sums over so few have maxima of their own
SPREAD = (0.3, 3.0, 10.0)  # standard deviations of all, tried where several coefficients may have several maxima
ANYWHERE = (1.0, 3.0, 10.0, 30.0) * 2  # standard deviations of random ones after them, always the same
MOST_ALONE = 3  # doubtful variances that are tried one by one, too
CERTAIN = 1e-4  # log-likelihood units that are left to gain where all outcomes are certain
HIGHER = 1e-9  # relative to the log-likelihood: rounding errors


@dataclass
class OtherStart:
    """A point that another maximum may be found from.

    Attributes
    ----------
    x : ndarray
    held : mask of parameters that stay there at first
    beyond : ndarray or None
        Entries of x, one of which shall stay above this: the maximum looked for is farther out. NaN: any size.
    """

    x: np.ndarray
    held: np.ndarray
    beyond: np.ndarray | None = None


def look_again(optimum, climb, engine, held, null, better=None):
    """The best of an optimum and those that other starts lead to.

    Parameters
    ----------
    optimum : Optimum
    climb : callable (x, report, held, give_up) -> Optimum
    engine : Engine
    held : mask of parameters that stay
    null : (ndarray, float)
        The model of the intercept alone: parameters and log-likelihood, which no maximum is below.
    better : callable x -> float, or None
        A better approximation of the log-likelihood.

    Returns
    -------
    best : Optimum
        With the report of all climbs. It has not converged where it is below the intercept alone.
    rejected : Optimum or None
        A maximum farther out that is higher, and that a better approximation does not confirm.
    """
    if optimum.value > engine.most - CERTAIN:
        return optimum, None
    report, best, last, rejected = optimum.report, optimum, optimum, None
    reached = report.converged, report.decrement, report.verdict
    patience = max(PATIENCE, report.n_iter)  # iterations until a climb should be higher than the optimum

    def higher(value):
        return value > best.value + HIGHER * (1.0 + abs(best.value))

    n_obs = engine.observations.n_counted
    share = engine.observations.n_successes / n_obs if engine.units.fit_intercept else 0.5
    others = _other_starts(optimum, engine, held, n_obs, n_obs * min(share, 1.0 - share))
    for other in [*others, OtherStart(null[0], held)]:
        if other.x is null[0] and not higher(null[1]):
            continue

        def give_up(x, value, beyond=other.beyond, last_iter=report.n_iter + patience):
            near = beyond is not None and not (np.abs(x) >= beyond).any()
            return not higher(value) and (near or report.n_iter >= last_iter)

        try:
            last = climb(other.x, report, other.held, give_up)
            if other.held is not held and higher(last.value):
                last = climb(last.x, report, held, None)
        except FloatingPointError:  # so far out that there are no numbers
            last = None
            continue
        if not higher(last.value):
            continue
        sds, before = (np.abs(x[engine.n_fixed :]).max(initial=0.0) for x in (last.x, best.x))
        farther = other.beyond is not None or sds > max(LARGE * engine.structure.family.scale, 2.0 * before)
        if farther and not (report.converged and better and better(last.x) > better(best.x)):
            rejected = last if rejected is None or last.value > rejected.value else rejected
            continue
        best, reached = last, (report.converged, report.decrement, report.verdict)
    report.converged, report.decrement, report.verdict = reached
    if higher(null[1]):
        _tell_that_it_is_below(report, f"{best.value:.6g}", f"{null[1]:.6g}")
    if last is not best:
        engine.evaluate(best.x)  # the modes are those of the last evaluation
        report.n_full_passes += 1
    return best, rejected


def _tell_that_it_is_below(report, value, null):
    below = f"at a log-likelihood of {value}, below the intercept alone's {null}"
    report.verdict = f"stopped {below}" if report.converged else f"{report.verdict}; it is {below}"
    report.converged = False


def _other_starts(optimum, engine, held, n_obs, n_rarer):
    """Points that another maximum may be found from."""
    covariance, k, factors = engine.covariance, engine.n_fixed, engine.structure.factors
    family = engine.structure.family
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
        yield OtherStart(x, held)
    for entries in _together_and_alone(small):
        x, stay = optimum.x.copy(), held.copy()
        without = of_both[entries].any(axis=0)
        x[k:][without], stay[k:][without] = 0.0, True
        yield OtherStart(_rescaled(x, optimum.x, k, family), stay)
    for j in small:
        if np.count_nonzero(of_row[j]) > 1:  # a correlation of 1 with the coefficients before it
            x, stay = optimum.x.copy(), held.copy()
            x[k + j], stay[k + j] = 0.0, True
            yield OtherStart(x, stay)
    n_least = TINY_GROUPS * max(factor.n_levels for factor in factors)
    tiny = n_obs < min(CHEAP_ROWS, n_least) or (n_obs < FEW_ROWS and n_rarer < n_least)
    very_few = engine.n_rows < VERY_FEW_ROWS
    few_nodes = 1 < engine.n_quadrature <= (FEW_NODES_OF_SEVERAL if covariance.q > 1 and very_few else FEW_NODES)
    doubtful = covariance.q > 1 and (zero or tiny or (small and very_few))
    most = FEW_ROWS if len(factors) == 1 else FEW_ROWS_OF_SEVERAL * any(len(f.columns) > 1 for f in factors)
    if engine.n_rows < most and (few_nodes or doubtful):
        for tried in _spread_out(theta, covariance):
            yield OtherStart(_rescaled(np.concatenate([optimum.x[:k], tried]), optimum.x, k, family), held)
    ripples = covariance.q == 1 < engine.n_quadrature and abs(theta[0]) > RIPPLES * family.scale
    if ripples and not tiny and engine.n_rows < FEW_ROWS:
        for times in (*NEXT_RIPPLE, OTHER_SLOPES):
            x = _rescaled(np.append(optimum.x[:k], times * theta), optimum.x, k, family)
            if times == OTHER_SLOPES:
                x[: engine.units.p] = optimum.x[: engine.units.p]
            yield OtherStart(x, held)
    far = [j for j in diagonal if abs(theta[j]) > LARGE * family.scale or tiny or (j in zero and n_obs < CHEAP_ROWS)]
    several = len(factors) > 1  # nothing better decides there: what is found farther out is told of
    cheap = engine.n_rows < (FEW_ROWS_OF_SEVERAL if engine.costly_curvature else FEW_ROWS)
    places = [(FAR_OUT, entries) for entries in _together_and_alone(far)] if several and cheap else [(FAR_OUT, far)]
    places += [(4.0 * FAR_OUT, far)] if tiny and n_obs < FEW_ROWS else []
    for out, entries in places if far else ():
        x, beyond = optimum.x.copy(), np.full(len(optimum.x), np.nan)
        x[k:][entries] = np.copysign(np.maximum(out * family.scale, TIMES * np.abs(theta[entries])), theta[entries])
        beyond[k:][entries] = 0.75 * np.sqrt(np.abs(x[k:][entries]) * np.maximum(1.0, np.abs(theta[entries])))
        if tiny or not several or entries is not far:
            x = _far_start(x, optimum.x, engine, tiny and cheap and engine.units.fit_intercept)
        yield OtherStart(x, held, beyond)


def _far_start(x, before, engine, is_cheap):
    """x with fixed effects changed as its variances have; or the intercept alone, if that is better: one large group
    can fix slopes whatever the variance is, and its intercept is free."""
    k = engine.n_fixed
    rescaled = _rescaled(x.copy(), before, k, engine.structure.family)
    if not is_cheap:
        return rescaled
    x[k - 1] = rescaled[k - 1]
    aside = engine.with_nodes(engine.n_quadrature) if engine.has_clusters else engine  # with modes of its own
    return max((rescaled, x), key=partial(_value, aside))


def _value(engine, x):
    try:
        return engine.evaluate(x, rough=True)[0]
    except FloatingPointError:  # so far out that there are no numbers
        return -np.inf


def _spread_out(theta, covariance):
    """The same variances without correlations or with the opposite ones; small and large ones; some anywhere."""
    diagonal = covariance.diagonal
    if not diagonal.all():
        sds = np.sqrt([theta[covariance.row == row] @ theta[covariance.row == row] for row in range(covariance.q)])
        yield diagonal * sds[covariance.row]
        yield np.where(diagonal, theta, -theta)
    for sd in SPREAD:
        yield sd * covariance.start()
    random = np.random.default_rng(0)
    yield from (random.normal(scale=sd, size=covariance.m) for sd in ANYWHERE)


def _rescaled(x, before, k, family):
    """x with its k fixed effects changed as its variances have."""
    shrinkage = family.shrinkage
    x[:k] *= np.sqrt((1.0 + shrinkage * x[k:] @ x[k:]) / (1.0 + shrinkage * before[k:] @ before[k:]))
    return x


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
        with np.errstate(invalid="ignore"):
            out[active] = np.sqrt(np.diag(np.linalg.inv(-optimum.hessian[np.ix_(active, active)])))
    except np.linalg.LinAlgError:
        pass
    return out
