"""The contract between estimators and likelihood engines: designs in, a fitted model's numbers out."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import xlogy

from sklmm.design.covariance import RelativeCovariance
from sklmm.design.separation import separating_direction
from sklmm.likelihood import nested
from sklmm.likelihood.clustered import ClusteredLikelihood
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.information import Information
from sklmm.likelihood.more_nodes import STILL, next_nodes, shift
from sklmm.likelihood.nested import NestedLikelihood
from sklmm.likelihood.posterior import MAX_Q, posteriors_of_levels
from sklmm.likelihood.second_look import look_again
from sklmm.optimize.newton import FLAT, FitReport, maximise
from sklmm.optimize.quasi_newton import maximise_by_gradients
from sklmm.passes.blocks import POLISH_ROWS
from sklmm.passes.tables import multiply_in_place, row_products

# Nodes that tell which of two maxima is the better one, by number of random coefficients.
FINE_NODES = {1: 51, 2: 15, 3: 7}
# So many numbers in X are few enough for a linear program, which is asked where standardised slopes are steeper.
FEW_NUMBERS, STEEP = 20_000, 2.0


@dataclass
class FactorDesign:
    """Random coefficients of one grouping factor.

    Attributes
    ----------
    codes : ndarray of shape (n,), intp
    n_levels : int
    columns : list of int
        Column of X for each coefficient, -1 for the intercept.
    blocks : list of (size, correlated)
        One per term.
    name : str
        For messages.
    """

    codes: np.ndarray
    n_levels: int
    columns: list
    blocks: list
    name: str = "group"


@dataclass
class MixedFit:
    """A fitted mixed model in numbers; lists have one entry per grouping factor. Parameters are in the user's units.

    Attributes
    ----------
    beta : intercept (if any) and slopes; 0 for aliased columns.
    theta, lambda_ : entries and matrix (q, q) of the relative covariance factors.
    log_likelihood : float
    vcov : inverse of the observed information of (beta, theta); NaN for aliased and unidentified columns.
    modes, mode_cov : conditional modes (n_levels, q) and covariances (n_levels, q, q) of the random coefficients.
    aliased : columns of X that are constant or linear combinations of earlier ones.
    unidentified : columns of X (-1: intercept) of which the information says nothing that others do not say, too.
    separated : columns of X (-1: intercept) along which the likelihood has no maximum.
    report : FitReport
    far_maximum : log-likelihood and standard deviations, in the user's units, of a maximum that is higher than this one
        and was rejected, as it is where the approximation of the likelihood is not to be believed; else None.
    n_quadrature : nodes a dimension that the fit used in the end.
    more_nodes : Shift, what more nodes would change; None where that was not looked at. If its nodes are those of the
        fit, it is how these changed the one before: there are no more of them.
    is_singular : a variance on the boundary.
    units : FitUnits.
    effect_units : EffectUnits of each factor.
    posteriors : posterior of the effects of each factor's levels, see `sklmm.likelihood.posterior`.
    posterior : JointPosterior, for several factors.
    robust_vcov : the cluster sandwich of (beta, theta), rows being clusters without factors; None for several factors.
    influence : what each level of the one factor adds to (beta, theta), to first order: (n_levels, n_params), float32.
    level_rows : number of rows of these levels.
    """

    beta: np.ndarray
    theta: list
    lambda_: list
    log_likelihood: float
    vcov: np.ndarray
    modes: list
    mode_cov: list
    aliased: list
    unidentified: list
    separated: list
    report: FitReport = field(default_factory=FitReport)
    far_maximum: tuple | None = None
    n_quadrature: int = 1
    more_nodes: object = None
    is_singular: bool = False
    units: object = None
    effect_units: list = field(default_factory=list)
    posteriors: list = field(default_factory=list)
    posterior: object = None
    robust_vcov: np.ndarray | None = None
    influence: np.ndarray | None = None
    level_rows: np.ndarray | None = None


def _engine(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, slopes_only=0, units=None):
    """The likelihood for these factors: the place where more engines join.

    The last `slopes_only` columns of X are no fixed effects: as of aliased columns, their coefficients are held at 0.
    """
    engine = _engine_for(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, units)
    engine.aliased[engine.p - slopes_only :] = True
    return engine


def _engine_for(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, units):
    if len(factors) > 1:
        if n_quadrature > 1:
            names = ", ".join(repr(f.name) for f in factors)
            raise ValueError(
                f"n_quadrature={n_quadrature} needs a single grouping factor, but there are {len(factors)} ({names}): "
                "their random effects are integrated out together, for which there is the Laplace approximation only, "
                "n_quadrature=1"
            )
        engine = NestedLikelihood if nested.serves(factors) else CrossedLikelihood
        return engine(
            X, y, factors, sample_weight=sample_weight, fit_intercept=fit_intercept, n_threads=n_threads, units=units
        )
    f = factors[0] if factors else FactorDesign(None, 1, [-1], [(1, True)])
    return ClusteredLikelihood(
        X, y, f.codes, f.n_levels, f.columns, f.blocks, sample_weight=sample_weight, fit_intercept=fit_intercept,
        n_quadrature=n_quadrature if factors else 1, n_threads=n_threads, units=units,
    )  # fmt: skip


def fit_mixed(X, y, *, factors, sample_weight=None, fit_intercept=True, n_quadrature=1, tol=1e-10, max_iter=100,
              n_threads=1, progress=None, slopes_only=0, compare=False):
    """Maximum likelihood for a logistic model with normal random effects.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32, finite, any strides
    y : ndarray of shape (n,), uint8
    factors : list of FactorDesign
        Empty: plain logistic regression.
    sample_weight : ndarray of shape (n,), float64, or None
    fit_intercept : bool
    n_quadrature : int or "auto"
        Nodes a dimension; "auto": as many as make the estimates stand still, one (Laplace) with several factors.
    tol : float
        Newton decrement, in log-likelihood units.
    max_iter : int
    n_threads : int
    progress : callable or None
        Called with a row of the report's history after each evaluation.
    slopes_only : int
        So many columns, the last ones of X, are there for random coefficients alone: they are no fixed effects.
    compare : bool
        Whether to find out what more nodes would change, if the fit is by Laplace's approximation.

    Returns
    -------
    MixedFit
        Without anything for columns that are no fixed effects.
    """
    nodes = 1 if n_quadrature == "auto" else n_quadrature
    engine = _engine(X, y, factors, sample_weight, fit_intercept, nodes, n_threads, slopes_only)
    k, covariance = engine.n_fixed, engine.covariance
    random = slice(k, None)
    null = _intercept_alone(engine, y, sample_weight)
    n_obs = y.size if sample_weight is None else sample_weight.sum()
    x = null[0].copy()
    held = np.zeros(engine.n_params, dtype=bool)
    held[: engine.p] = engine.aliased
    if factors:
        x[random] = covariance.start()
    else:
        held[random] = True

    def snap(x):
        x = x.copy()
        x[random][covariance.on_boundary(x[random])] = 0.0
        return x

    common = dict(
        n_rows=engine.n_rows, n_fixed=k, snap=snap, farthest=engine.farthest, tol=tol, progress=progress
    )

    def arrive(engine, x, levels=(1,), report=None):
        """The optimum from x with this engine, and a higher one that was rejected."""

        def climb(x, report=None, held=held, give_up=None, levels=(1,)):
            iterations = max_iter if report is None else report.n_iter + max_iter  # each climb gets as many
            settings = dict(held=held, report=report, give_up=give_up, max_iter=iterations, **common)
            if isinstance(engine, CrossedLikelihood):
                return maximise_by_gradients(
                    engine.evaluate, engine.information, engine.hessian, engine.move, x, **settings
                )
            return maximise(engine.evaluate, x, levels=levels, polish=engine.n_rows <= POLISH_ROWS, **settings)

        def better(x):
            return engine.with_nodes(max(engine.n_quadrature, FINE_NODES[covariance.q])).evaluate(x, rough=True)[0]

        optimum = climb(x, report, levels=levels)
        if not factors:
            return optimum, None
        fine = len(factors) == 1 and covariance.q in FINE_NODES
        return look_again(optimum, climb, engine, held, null, better if fine else None, n_obs)

    optimum, far = arrive(engine, x, getattr(engine, "levels", (1,)))
    information, moved = Information(engine, optimum, held), None
    while len(factors) == 1 and optimum.report.converged and not optimum.runs_away:
        nodes = next_nodes(covariance.q, engine.n_quadrature)
        if nodes is None or not (n_quadrature == "auto" or (n_quadrature == 1 and compare)):
            break
        moved = shift(engine, optimum.x, information, nodes)
        if n_quadrature != "auto" or moved is None or moved.largest <= STILL:
            break
        engine = engine.with_nodes(nodes)
        optimum, far = arrive(engine, optimum.x, report=optimum.report)
        information = Information(engine, optimum, held)
    if isinstance(engine, CrossedLikelihood):
        engine.evaluate(optimum.x)
        optimum.report.n_full_passes = engine.n_evaluations
    x = optimum.x
    if len(factors) == 1 and engine.cluster_gradients is None:
        engine.evaluate(x)  # max_iter was too low for a pass over all rows
    modes, mode_cov = _random_effects(engine, x, factors)
    posteriors, posterior = _posteriors(engine, x, factors)
    beta, theta = engine.natural(x)
    theta = _by_factor(theta, factors)
    robust = influence = None
    if not factors:
        bread = np.nan_to_num(vcov := information.natural_inverse[:k, :k])
        robust = bread @ row_products(X, y, beta, fit_intercept, sample_weight) @ bread
        robust[np.isnan(vcov)] = np.nan
    elif len(factors) == 1:
        robust = information.natural_covariance(information.inverse @ engine.gradient_products @ information.inverse)
        influence = engine.by_level(multiply_in_place(engine.cluster_gradients, information.to_natural))
    vcov = information.natural_inverse if factors else information.natural_inverse[:k, :k]
    internal = _without(information.inverse, np.arange(engine.p - slopes_only, engine.p))
    if slopes_only:
        no_effect = np.arange(k - slopes_only, k)
        beta = np.delete(beta, no_effect)
        vcov, robust = (None if m is None else _without(m, no_effect) for m in (vcov, robust))
        influence = None if influence is None else np.delete(influence, no_effect, axis=1)
    return MixedFit(
        beta=beta,
        theta=theta,
        lambda_=[RelativeCovariance(f.blocks).lambda_(part) for f, part in zip(factors, theta, strict=True)],
        log_likelihood=float(optimum.value),
        vcov=vcov,
        modes=modes,
        mode_cov=mode_cov,
        aliased=np.flatnonzero(engine.aliased[: engine.p - slopes_only]).tolist(),
        unidentified=[-1 if j == engine.p else int(j) for j in information.unidentified],
        separated=_separated(engine, optimum, X, y, sample_weight),
        report=optimum.report,
        far_maximum=None if far is None else (far.value, engine.standard_deviations(far.x)),
        n_quadrature=getattr(engine, "n_quadrature", 1),
        more_nodes=moved,
        is_singular=bool(factors) and bool(covariance.on_boundary(x[random]).any()),
        units=engine.fit_units(x, slopes_only).with_covariance(internal),
        effect_units=engine.effect_units(x, [len(f.columns) for f in factors]),
        posteriors=posteriors,
        posterior=posterior,
        robust_vcov=robust,
        influence=influence,
        level_rows=engine.by_level(engine.cluster_rows) if len(factors) == 1 else None,
    )


def _intercept_alone(engine, y, sample_weight):
    """The model with the right share of successes and nothing else: parameters and log-likelihood."""
    x = np.zeros(engine.n_params)
    n = y.size if sample_weight is None else sample_weight.sum()
    successes = y.sum() if sample_weight is None else sample_weight @ y
    if not engine.fit_intercept:
        return x, -n * np.log(2.0)
    share = successes / n
    x[engine.n_fixed - 1] = np.log(share / (1 - share))
    return x, float(xlogy(successes, share) + xlogy(n - successes, 1 - share))


def _without(matrix, positions):
    return np.delete(np.delete(matrix, positions, axis=0), positions, axis=1)


def posteriors_given_fit(X, y, *, factors, units, sample_weight=None, n_threads=1, priors=None):
    """What a fitted model's parameters and these rows say of the levels in them.

    Parameters
    ----------
    X : ndarray
        With the columns of the fit, those included that have random slopes only.
    units : FitUnits
        Of the fit.
    priors : list of (mean, precision) or None
        Of the effects of each factor's levels, (n_levels, q) and (n_levels, q, q); None: those of the model. For
        posteriors that are normal.

    Returns
    -------
    modes, mode_cov : list
        In the user's units, as in `MixedFit`.
    posteriors : list
    posterior : JointPosterior or None
    """
    if priors is None:
        engine = _engine_for(X, y, factors, sample_weight, units.fit_intercept, 1, n_threads, units)
    else:
        engine = CrossedLikelihood(
            X, y, factors, sample_weight=sample_weight, fit_intercept=units.fit_intercept, n_threads=n_threads,
            units=units,
        )  # fmt: skip
        engine.set_prior(*zip(*priors, strict=True))
    engine.evaluate(units.x)
    return *_random_effects(engine, units.x, factors), *_posteriors(engine, units.x, factors)


def _random_effects(engine, x, factors):
    """Modes and covariances at x, where the engine was evaluated last."""
    if not factors:
        return [], []
    if isinstance(engine, ClusteredLikelihood):
        modes, mode_cov = engine.random_effects(x)
        return [modes], [mode_cov]
    return engine.random_effects(x)


def _posteriors(engine, x, factors):
    """Posteriors of each factor's levels, and the joint one of several factors; `_random_effects` comes first."""
    if not factors:
        return [], None
    if not isinstance(engine, ClusteredLikelihood):
        return engine.posteriors(x)
    if engine.covariance.q <= MAX_Q:
        return [posteriors_of_levels(engine, x)], None
    X, y, w, start = engine.rows
    general = CrossedLikelihood(
        X, y, [replace(factors[0], codes=np.repeat(engine.level_of_cluster, np.diff(start)))], sample_weight=w,
        fit_intercept=engine.fit_intercept, n_threads=engine.n_threads, units=engine.fit_units(x),
    )  # fmt: skip
    general.u = engine.by_level(engine.modes)
    general.evaluate(x)
    general.random_effects(x)
    return general.posteriors(x)[0], None


def _by_factor(theta, factors):
    """Entries of theta that belong to each factor."""
    if not factors:
        return []
    sizes = [RelativeCovariance(f.blocks).m for f in factors]
    return np.split(theta, np.cumsum(sizes)[:-1])


def _separated(engine, optimum, X, y, sample_weight):
    """Columns (-1: intercept) along which the likelihood rises without end: steps that gain nothing move rows far, or
    all outcomes are certain already. Approximations may have a maximum where the likelihood has none: of few rows a
    linear program tells."""
    slopes = optimum.x[: engine.p]
    if optimum.runs_away:
        direction = optimum.last_step if optimum.value < -FLAT else optimum.x
    elif X.shape[0] * engine.n_fixed <= FEW_NUMBERS and np.abs(slopes).max(initial=0.0) > STEEP:
        counted = np.ones(len(y), dtype=bool) if sample_weight is None else sample_weight > 0
        active = np.append(~engine.aliased, np.ones(int(engine.fit_intercept), dtype=bool))
        found = separating_direction(engine.fit_units(optimum.x).design(X[counted])[:, active], y[counted])
        if found is None:
            return []
        direction = np.zeros(engine.n_fixed)
        direction[active] = found
    else:
        return []
    spread = engine.spread(direction)
    return np.flatnonzero(spread >= 0.3 * spread.max(initial=0.0)).tolist() or [-1]
