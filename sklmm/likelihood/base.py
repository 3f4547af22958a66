"""The contract between estimators and likelihood engines: designs in, a fitted model's numbers out."""

from dataclasses import dataclass, field, replace

import numpy as np

from sklmm.design.covariance import RelativeCovariance
from sklmm.likelihood import nested
from sklmm.likelihood.clustered import POLISH_ROWS, ClusteredLikelihood
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.nested import NestedLikelihood
from sklmm.likelihood.posterior import MAX_Q, posteriors_of_levels
from sklmm.likelihood.rows import multiply_in_place, row_products
from sklmm.optimize import FitReport, maximise, maximise_by_gradients

# A last Newton step this long, on the scale of a standardised feature, that gains no likelihood: separation.
SEPARATED = 1e-2


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
    vcov : inverse of the observed information of (beta, theta); NaN for aliased columns.
    modes, mode_cov : conditional modes (n_levels, q) and covariances (n_levels, q, q) of the random coefficients.
    aliased : columns of X that are constant or linear combinations of earlier ones.
    separated : columns of X (-1: intercept) along which the likelihood has no maximum.
    report : FitReport
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
    separated: list
    report: FitReport = field(default_factory=FitReport)
    is_singular: bool = False
    units: object = None
    effect_units: list = field(default_factory=list)
    posteriors: list = field(default_factory=list)
    posterior: object = None
    robust_vcov: np.ndarray | None = None
    influence: np.ndarray | None = None
    level_rows: np.ndarray | None = None


def _engine(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, units=None):
    """The likelihood for these factors: the place where more engines join."""
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
              n_threads=1, progress=None):
    """Maximum likelihood for a logistic model with normal random effects.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32, finite, any strides
    y : ndarray of shape (n,), uint8
    factors : list of FactorDesign
        Empty: plain logistic regression.
    sample_weight : ndarray of shape (n,), float64, or None
    fit_intercept : bool
    n_quadrature : int
    tol : float
        Newton decrement, in log-likelihood units.
    max_iter : int
    n_threads : int
    progress : callable or None
        Called with a row of the report's history after each evaluation.

    Returns
    -------
    MixedFit
    """
    engine = _engine(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads)
    k, covariance = engine.n_fixed, engine.covariance
    random = slice(k, None)
    x = np.zeros(engine.n_params)
    held = np.zeros(engine.n_params, dtype=bool)
    held[: engine.p] = engine.aliased
    if factors:
        x[random] = covariance.start()
    else:
        held[random] = True
    if fit_intercept:
        successes = y.sum() if sample_weight is None else sample_weight @ y
        share = successes / (y.size if sample_weight is None else sample_weight.sum())
        x[k - 1] = np.log(share / (1 - share))

    def snap(x):
        x = x.copy()
        x[random][covariance.on_boundary(x[random])] = 0.0
        return x

    common = dict(n_rows=engine.n_rows, n_fixed=k, held=held, snap=snap, tol=tol, max_iter=max_iter, progress=progress)
    if isinstance(engine, CrossedLikelihood):
        optimum = maximise_by_gradients(
            engine.evaluate, engine.information, engine.hessian, engine.move, x, **common
        )
        engine.evaluate(optimum.x)
        optimum.report.n_full_passes = engine.n_evaluations
    else:
        optimum = maximise(engine.evaluate, x, levels=engine.levels, polish=engine.n_rows <= POLISH_ROWS, **common)
    x = optimum.x
    information = _Information(engine, optimum, held)
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
    return MixedFit(
        beta=beta,
        theta=theta,
        lambda_=[RelativeCovariance(f.blocks).lambda_(part) for f, part in zip(factors, theta, strict=True)],
        log_likelihood=float(optimum.value),
        vcov=information.natural_inverse if factors else information.natural_inverse[:k, :k],
        modes=modes,
        mode_cov=mode_cov,
        aliased=np.flatnonzero(engine.aliased).tolist(),
        separated=_separated(engine, optimum),
        report=optimum.report,
        is_singular=bool(factors) and bool(covariance.on_boundary(x[random]).any()),
        units=engine.fit_units(x).with_covariance(information.inverse),
        effect_units=engine.effect_units(x, [len(f.columns) for f in factors]),
        posteriors=posteriors,
        posterior=posterior,
        robust_vcov=robust,
        influence=influence,
        level_rows=engine.by_level(engine.cluster_rows) if len(factors) == 1 else None,
    )


def posteriors_given_fit(X, y, *, factors, units, sample_weight=None, n_threads=1, priors=None):
    """What a fitted model's parameters and these rows say of the levels in them.

    Parameters
    ----------
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
        engine = _engine(X, y, factors, sample_weight, units.fit_intercept, 1, n_threads, units)
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


class _Information:
    """The inverse of the observed information of the parameters, and what it becomes in the user's units.

    Attributes
    ----------
    inverse : ndarray
        In internal parameters; 0 for those that are held.
    natural_inverse : ndarray
        In the user's units; NaN where a column is aliased.
    to_natural : ndarray
        What a gradient in internal parameters is multiplied by for its Newton step in the user's units.
    """

    def __init__(self, engine, optimum, held):
        active = ~held
        information = -optimum.hessian[np.ix_(active, active)]
        scale = 1.0 / np.sqrt(np.maximum(np.abs(np.diag(information)), 1e-300))
        scaled = information * scale[:, None] * scale
        try:
            root = np.linalg.inv(np.linalg.cholesky(scaled))
            inverse = root.T @ root
        except np.linalg.LinAlgError:
            inverse = np.linalg.pinv(scaled, hermitian=True)
        self.inverse = np.zeros_like(optimum.hessian)
        self.inverse[np.ix_(active, active)] = inverse * scale[:, None] * scale
        self._jacobian = engine.jacobian(optimum.x)
        # an aliased slope is exactly 0 and does not move the intercept
        self._lost = np.concatenate(
            [np.zeros(int(engine.fit_intercept), dtype=bool), held[: engine.p], held[engine.n_fixed :]]
        )
        self.natural_inverse = self.natural_covariance(self.inverse)
        self.to_natural = self.inverse @ self._jacobian.T

    def natural_covariance(self, covariance):
        """A covariance of internal parameters in the user's units; NaN where a column is aliased."""
        out = self._jacobian @ covariance @ self._jacobian.T
        out[self._lost, :] = out[:, self._lost] = np.nan
        return out


def _separated(engine, optimum):
    """Columns (-1: intercept) in which a step that gains nothing is long: the likelihood rises without end."""
    if not optimum.report.converged and np.abs(optimum.x[: engine.p]).max(initial=0.0) < 10:
        return []  # a long step is then just the way that is left
    step = np.abs(optimum.last_step[: engine.n_fixed])
    if step.max(initial=0.0) < SEPARATED:
        return []
    slopes = step[: engine.p]
    if slopes.max(initial=0.0) < SEPARATED:
        return [-1]
    return np.flatnonzero(slopes >= 0.3 * slopes.max()).tolist()
