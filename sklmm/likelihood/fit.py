"""A mixed model's fit, in steps: an engine for the rows, its maximum, and the model's numbers from there."""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.special import xlogy

from sklmm.design.covariance import RelativeCovariance
from sklmm.design.separation import separating_direction
from sklmm.design.units import FitUnits
from sklmm.likelihood.engine import make_engine
from sklmm.likelihood.information import Information
from sklmm.likelihood.more_nodes import STILL, next_nodes, shift
from sklmm.likelihood.penalised import Penalised
from sklmm.likelihood.polar import Polar
from sklmm.likelihood.second_look import look_again
from sklmm.optimize.newton import FLAT, FitReport, Optimum, maximise
from sklmm.optimize.quasi_newton import maximise_by_gradients
from sklmm.passes.blocks import POLISH_ROWS
from sklmm.passes.offsets import intercept_beside
from sklmm.passes.tables import multiply_in_place, row_products

# Nodes that tell which of two maxima is the better one, by number of random coefficients.
FINE_NODES = {1: 51, 2: 15, 3: 7}
# So many numbers in X are few enough for a linear program, which is asked where standardised slopes are steeper, or a
# standard deviation between groups is larger, in units of the error on the latent scale: it may stand for a slope.
FEW_NUMBERS, STEEP, SPREAD_OUT = 20_000, 2.0, 4.0
AWAY = 0.1  # from 0, entries on the diagonal of a factor that a climb starts with: at 0 there is no way up


@dataclass
class MixedFit:
    """A fitted mixed model in numbers; lists have one entry per grouping factor. Parameters are in the user's units.

    Attributes
    ----------
    beta : intercept (if any) and slopes; 0 for aliased columns.
    theta, lambda_ : entries and matrix (q, q) of the relative covariance factors.
    log_likelihood : float
    log_prior : float or None
        Of a fit with priors or another penalty, what that adds at these parameters: the fit is the maximum of both.
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
    log_prior: float | None = None
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


def fit_mixed(observations, structure, *, tol=1e-10, max_iter=100, n_threads=1, progress=None, compare=False,
              start=None, priors=None):
    """Maximum likelihood for a logistic model with normal random effects, or the mode with priors.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    tol : float
        Newton decrement, in log-likelihood units.
    max_iter : int
    n_threads : int
    progress : callable or None
        Called with a row of the report's history after each evaluation.
    compare : bool
        Whether to find out what more nodes would change, if the fit is by Laplace's approximation.
    start : (beta, list of theta) or None
        Where to begin, in the user's units, as a `MixedFit` has them: near the maximum. None: far from any.
    priors : object with ``penalty(engine)``, or None
        See `engine_with_priors`.

    Returns
    -------
    MixedFit
        Without anything for columns that are no fixed effects.
    """
    engine = engine_with_priors(observations, structure, priors, n_threads)
    return conclude(maximum(engine, tol=tol, max_iter=max_iter, progress=progress, compare=compare, start=start))


def engine_with_priors(observations, structure, priors, n_threads=1):
    """The engine of a fit: of the likelihood, or with priors around it.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    priors : object or None
        Its ``penalty(engine)`` is what is added to the log-likelihood, see `Penalised`; ``units(observations,
        structure)`` the engine's units, or None; ``information`` "with priors" or "likelihood": what standard errors
        are from.
    n_threads : int

    Returns
    -------
    Engine
    """
    if priors is None:
        return make_engine(observations, structure, n_threads)
    engine = make_engine(observations, structure, n_threads, priors.units(observations, structure))
    return Penalised(engine, [priors.penalty(engine)])


def posteriors_given_fit(observations, structure, units, *, n_threads=1, priors=None):
    """What a fitted model's parameters and these rows say of the levels in them.

    Parameters
    ----------
    observations : Observations
        With the columns of the fit, those included that have random slopes only.
    structure : Structure
    units : FitUnits
        Of the fit.
    n_threads : int
    priors : list of (mean, precision) or None
        See `make_engine`; None: those of the model. For posteriors that are normal.

    Returns
    -------
    modes, mode_cov : list
        In the user's units, as in `MixedFit`.
    posteriors : list
    posterior : JointPosterior or None
    """
    engine = make_engine(observations, structure, n_threads, units.units, priors)
    engine.evaluate(units.x)
    return *engine.random_effects(units.x), *engine.posteriors(units.x)


# From the engine to its maximum ------------------------------------------------------------------------------------


@dataclass
class Maximum:
    """Where a model's likelihood is highest.

    Attributes
    ----------
    engine : Engine
        With the nodes that the fit ended with; it was evaluated last where the optimum is.
    optimum : Optimum
    held : mask of the parameters that are not estimated.
    information : Information
    rejected : Optimum or None
        A higher maximum that is not to be believed.
    more_nodes : Shift or None
    """

    engine: object
    optimum: Optimum
    held: np.ndarray
    information: Information
    rejected: Optimum | None
    more_nodes: object = None


def maximum(engine, *, tol=1e-10, max_iter=100, progress=None, compare=False, start=None):
    """The highest maximum, with as many nodes as the structure asks for.

    Parameters
    ----------
    engine : Engine
    tol, max_iter, progress, compare, start
        As in `fit_mixed`.

    Returns
    -------
    Maximum
    """
    ascent, auto = Ascent(engine, tol, max_iter, progress), engine.structure.n_quadrature == "auto"
    begin, strides = (ascent.start(), engine.strides) if start is None else (ascent.near(engine.units, *start), (1,))
    found, moved = ascent.arrive(engine, begin, strides), None
    while engine.has_clusters and found.optimum.report.converged and not found.optimum.runs_away:
        nodes = next_nodes(engine.covariance.q, engine.n_quadrature)
        if nodes is None or not (auto or (compare and engine.structure.n_quadrature == 1)):
            break
        moved = shift(engine, found.optimum.x, found.information, nodes)
        if not auto or moved is None or moved.largest <= STILL:
            break
        engine = engine.with_nodes(nodes)
        found = ascent.arrive(engine, found.optimum.x, report=found.optimum.report)
    if engine.costly_curvature:
        engine.evaluate(found.optimum.x)
        found.optimum.report.n_full_passes = engine.n_evaluations
    if engine.has_clusters and engine.cluster_gradients is None:
        engine.evaluate(found.optimum.x)  # max_iter was too low for a pass over all rows
    found.more_nodes = moved
    return found


class Ascent:
    """What the climbs of one model have in common, whatever their start and number of nodes.

    Attributes
    ----------
    null : (ndarray, float)
        The model of the intercept alone, see `null_model`.
    held : mask of the parameters that are not estimated.
    """

    def __init__(self, engine, tol, max_iter, progress):
        self.covariance, self.random, self.max_iter = engine.covariance, slice(engine.n_fixed, None), max_iter
        self.has_factors = bool(engine.structure.factors)
        self.null, self.penalised = null_model(engine), isinstance(engine, Penalised)
        self.held = np.zeros(engine.n_params, dtype=bool)
        self.held[: engine.aliased.size] = engine.aliased
        self.held[self.random] = not self.has_factors
        self.settings = dict(
            n_rows=engine.n_rows, n_fixed=engine.n_fixed, tol=tol, progress=progress,
            farthest=partial(_farthest, engine.units, engine.observations.X, engine.structure.family),
            most=engine.most, bounded=engine.bounded,
        )  # fmt: skip

    def start(self):
        x = self.null[0].copy()
        if self.has_factors:
            x[self.random] = self.covariance.start()
        return x

    def near(self, units, beta, theta):
        """Internal parameters of (beta, theta), but for variances of next to 0."""
        beta = np.append(beta, np.zeros(units.n_fixed - len(beta)))  # columns for random coefficients alone have none
        x = units.internal(beta, np.concatenate(theta or [np.zeros(units.covariance.m)]))
        x[self.held] = 0.0
        if self.has_factors:
            x[self.random][self.covariance.diagonal & (np.abs(x[self.random]) < AWAY)] = AWAY
        return x

    def snap(self, x):
        """x with variances of next to 0 at 0."""
        x = x.copy()
        x[self.random][self.covariance.on_boundary(x[self.random])] = 0.0
        return x

    def climb(self, engine, x, report=None, held=None, give_up=None, strides=(1,)):
        """The optimum that one climb from x leads to."""
        iterations = self.max_iter if report is None else report.n_iter + self.max_iter  # each climb gets as many
        held = self.held if held is None else held
        snap = engine.snap if self.penalised else self.snap
        settings = dict(held=held, report=report, give_up=give_up, max_iter=iterations, snap=snap, **self.settings)
        polar = Polar.of(engine) if self.penalised and self.has_factors else None
        if polar is not None:
            return polar.climb(x, partial(_climb, strides=strides), engine, settings)
        return _climb(engine, x, settings, strides)

    def arrive(self, engine, x, strides=(1,), report=None):
        """The maximum from x with this engine, after a look at others."""
        optimum, rejected = self.climb(engine, x, report, strides=strides), None
        if self.has_factors:
            optimum, rejected = look_again(optimum, partial(self.climb, engine), engine, self.held, self.null,
                                           self.better(engine))  # fmt: skip
        information = Information(engine, self.with_errors(engine, optimum), self.held)
        return Maximum(engine, optimum, self.held, information, rejected)

    def with_errors(self, engine, optimum):
        """The optimum with the Hessian that errors are from: of some penalties without what they add.

        Where that has a direction in which the likelihood does not curve down, the penalties' part stays.
        """
        silent = [penalty for penalty in engine.penalties if not penalty.informs] if self.penalised else []
        hessian, on = optimum.hessian, ~self.held
        for penalty in silent:
            hessian = hessian - penalty.derivatives(optimum.x)[2]
        size = hessian.diagonal()[on]
        if not silent or not (size < 0.0).all():
            return optimum
        scaled = -hessian[np.ix_(on, on)] / np.sqrt(size[:, None] * size)
        return replace(optimum, hessian=hessian) if np.linalg.eigvalsh(scaled)[0] > 0.0 else optimum

    def better(self, engine):
        """A better approximation of the log-likelihood as a function of x, or None."""
        nodes = FINE_NODES.get(self.covariance.q)
        if nodes is None or not engine.has_clusters:
            return None
        return lambda x: engine.with_nodes(max(engine.n_quadrature, nodes)).evaluate(x, rough=True)[0]


def _climb(engine, x, settings, strides):
    if engine.costly_curvature:
        curvature = engine.information, engine.hessian, engine.move
        return maximise_by_gradients(engine.evaluate, *curvature, x, **settings)
    return maximise(engine.evaluate, x, strides=strides, polish=engine.n_rows <= POLISH_ROWS, **settings)


def _farthest(units, X, family, step):
    """How far a step in the fixed effects moves the linear predictor of some row, in the steps that the link has on
    the way to infinity."""
    return units.farthest(X, step) / family.certain_step


def null_model(engine):
    """The model of the intercept alone, and its value: of the engine, with penalties where it has them."""
    x, value = intercept_alone(engine)
    return x, value + engine.log_penalty(x) if isinstance(engine, Penalised) else value


def intercept_alone(engine):
    """The model with the right share of successes and nothing else but the offset: parameters and log-likelihood."""
    if engine.offset is not None:
        x, rows = np.zeros(engine.n_params), engine.observations
        intercept, value = intercept_beside(
            engine.structure.family, engine.offset, rows.y, rows.weights, engine.units.fit_intercept
        )
        x[engine.units.p : engine.n_fixed] = intercept
        return x, value
    x, n, successes = np.zeros(engine.n_params), engine.observations.n_counted, engine.observations.n_successes
    if not engine.units.fit_intercept:
        ones, zeros = engine.structure.family.log_means(np.zeros(1))
        return x, float(successes * ones[0] + (n - successes) * zeros[0])
    share = successes / n
    x[engine.n_fixed - 1] = engine.structure.family.start(share)
    return x, float(xlogy(successes, share) + xlogy(n - successes, 1 - share))


# From the maximum to a fitted model's numbers ----------------------------------------------------------------------


def conclude(found):
    """The numbers of a fitted model.

    Parameters
    ----------
    found : Maximum

    Returns
    -------
    MixedFit
    """
    engine, optimum, information, x = found.engine, found.optimum, found.information, found.optimum.x
    units, factors, slopes_only = engine.units, engine.structure.factors, engine.structure.slopes_only
    n_slopes = units.p - slopes_only
    modes, mode_cov = engine.random_effects(x)
    posteriors, posterior = engine.posteriors(x)
    beta, theta = units.natural(x)
    robust, influence = _by_clusters(engine, beta, information)
    vcov = information.natural_inverse
    log_prior = engine.log_penalty(x) if isinstance(engine, Penalised) else None
    if not factors:
        theta, vcov = [], vcov[: engine.n_fixed, : engine.n_fixed]
    else:
        theta = np.split(theta, np.cumsum([RelativeCovariance(factor.blocks).m for factor in factors])[:-1])
    no_effect = np.arange(engine.n_fixed - slopes_only, engine.n_fixed)
    return MixedFit(
        beta=np.delete(beta, no_effect),
        theta=theta,
        lambda_=[RelativeCovariance(f.blocks).lambda_(part) for f, part in zip(factors, theta, strict=True)],
        log_likelihood=float(optimum.value) - (log_prior or 0.0),
        log_prior=log_prior,
        vcov=_without(vcov, no_effect),
        modes=modes,
        mode_cov=mode_cov,
        aliased=np.flatnonzero(engine.aliased[:n_slopes]).tolist(),
        unidentified=[-1 if j == units.p else int(j) for j in information.unidentified],
        separated=_separated(engine, optimum),
        report=optimum.report,
        far_maximum=None if found.rejected is None else (
            found.rejected.value - (log_prior or 0.0), units.standard_deviations(found.rejected.x)
        ),
        n_quadrature=engine.n_quadrature,
        more_nodes=found.more_nodes,
        is_singular=bool(factors) and _is_singular(engine, x),
        units=FitUnits(units, x, n_slopes, _without(information.inverse, np.arange(n_slopes, units.p))),
        effect_units=units.effect_units(x, [len(factor.columns) for factor in factors]),
        posteriors=posteriors,
        posterior=posterior,
        robust_vcov=None if robust is None else _without(robust, no_effect),
        influence=influence if not slopes_only or influence is None else np.delete(influence, no_effect, axis=1),
        level_rows=engine.by_level(engine.cluster_rows) if engine.has_clusters else None,
    )  # fmt: skip


def _by_clusters(engine, beta, information):
    """The cluster sandwich and the clusters' influence; None where the clusters are unknown, and too many to keep."""
    if engine.has_clusters:
        inverse = information.inverse
        robust = information.natural_covariance(inverse @ engine.gradient_products @ inverse)
        return robust, engine.by_level(multiply_in_place(engine.cluster_gradients, information.to_natural))
    if engine.structure.factors:
        return None, None
    rows, k = engine.observations, engine.n_fixed
    bread = np.nan_to_num(vcov := information.natural_inverse[:k, :k])
    family = engine.structure.family
    products = row_products(rows.X, rows.y, beta, engine.units.fit_intercept, rows.weights, family, rows.offset)
    robust = bread @ products @ bread
    robust[np.isnan(vcov)] = np.nan
    return robust, None


def _is_singular(engine, x):
    """Whether a variance is 0, or a correlation 1; with priors exactly so, as they may keep it off by very little."""
    theta, covariance = x[engine.n_fixed :], engine.covariance
    if isinstance(engine, Penalised):
        return bool((theta[covariance.diagonal] == 0.0).any())
    return bool(covariance.on_boundary(theta).any())


def _without(matrix, positions):
    return np.delete(np.delete(matrix, positions, axis=0), positions, axis=1)


def _separated(engine, optimum):
    """Columns (-1: intercept) along which the likelihood rises without end: steps that gain nothing move rows far, or
    all outcomes are certain already. Approximations may have a maximum where the likelihood has none: of few rows a
    linear program tells."""
    rows, units = engine.observations, engine.units
    if engine.bounded:
        return []
    steep = np.abs(optimum.x[: units.p]).max(initial=0.0) > STEEP
    spread_out = np.abs(optimum.x[engine.n_fixed :]).max(initial=0.0) > SPREAD_OUT * engine.structure.family.scale
    if optimum.runs_away:
        direction = optimum.last_step if optimum.value < engine.most - FLAT else optimum.x
    elif engine.n_rows * engine.n_fixed <= FEW_NUMBERS and (steep or spread_out):
        counted = np.ones(len(rows.y), dtype=bool) if rows.weights is None else rows.weights > 0
        active = np.append(~engine.aliased, np.ones(int(units.fit_intercept), dtype=bool))
        design = FitUnits(units, optimum.x, units.p).design(rows.X[counted])
        if isinstance(engine, Penalised):  # in the directions in which no prior bounds coefficients
            found = separating_direction(design @ engine.free, rows.y[counted])
        else:
            found = separating_direction(design[:, active], rows.y[counted])
        if found is None:
            return []
        direction = np.zeros(engine.n_fixed)
        direction[active] = (engine.free @ found)[active] if isinstance(engine, Penalised) else found
    else:
        return []
    spread = units.spread(rows.X, direction)
    return np.flatnonzero(spread >= 0.3 * spread.max(initial=0.0)).tolist() or [-1]
