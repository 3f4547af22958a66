"""The contract between estimators and likelihood engines: designs in, a fitted model's numbers out."""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import xlogy

from sklmm.design.aliasing import dependent
from sklmm.design.covariance import RelativeCovariance
from sklmm.likelihood import nested
from sklmm.likelihood.clustered import POLISH_ROWS, ClusteredLikelihood
from sklmm.likelihood.crossed import CrossedLikelihood
from sklmm.likelihood.nested import NestedLikelihood
from sklmm.likelihood.rows import multiply_in_place, row_products
from sklmm.likelihood.second_look import look_again
from sklmm.optimize import FLAT, FitReport, maximise, maximise_by_gradients

# Nodes that tell which of two maxima is the better one, by number of random coefficients.
FINE_NODES = {1: 51, 2: 15, 3: 7}


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
    is_singular : a variance on the boundary.
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
    is_singular: bool = False
    posterior: object = None
    robust_vcov: np.ndarray | None = None
    influence: np.ndarray | None = None
    level_rows: np.ndarray | None = None


def _engine(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, slopes_only=0):
    """The likelihood for these factors: the place where more engines join.

    The last `slopes_only` columns of X are no fixed effects: as of aliased columns, their coefficients are held at 0.
    """
    engine = _engine_for(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads)
    engine.aliased[engine.p - slopes_only :] = True
    return engine


def _engine_for(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads):
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
            X, y, factors, sample_weight=sample_weight, fit_intercept=fit_intercept, n_threads=n_threads
        )
    f = factors[0] if factors else FactorDesign(None, 1, [-1], [(1, True)])
    return ClusteredLikelihood(
        X, y, f.codes, f.n_levels, f.columns, f.blocks, sample_weight=sample_weight, fit_intercept=fit_intercept,
        n_quadrature=n_quadrature if factors else 1, n_threads=n_threads,
    )  # fmt: skip


def fit_mixed(X, y, *, factors, sample_weight=None, fit_intercept=True, n_quadrature=1, tol=1e-10, max_iter=100,
              n_threads=1, progress=None, slopes_only=0):
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
    slopes_only : int
        So many columns, the last ones of X, are there for random coefficients alone: they are no fixed effects.

    Returns
    -------
    MixedFit
        Without anything for columns that are no fixed effects.
    """
    engine = _engine(X, y, factors, sample_weight, fit_intercept, n_quadrature, n_threads, slopes_only)
    k, covariance = engine.n_fixed, engine.covariance
    random = slice(k, None)
    null = _intercept_alone(engine, y, sample_weight)
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
        n_rows=engine.n_rows, n_fixed=k, snap=snap, farthest=engine.farthest, tol=tol, max_iter=max_iter,
        progress=progress,
    )  # fmt: skip

    def climb(x, report=None, held=held, give_up=None, levels=(1,)):
        settings = dict(held=held, report=report, give_up=give_up, **common)
        if isinstance(engine, CrossedLikelihood):
            return maximise_by_gradients(
                engine.evaluate, engine.information, engine.hessian, engine.move, x, **settings
            )
        return maximise(engine.evaluate, x, levels=levels, polish=engine.n_rows <= POLISH_ROWS, **settings)

    def better(x):
        nodes = max(n_quadrature, FINE_NODES[covariance.q])
        return _engine(X, y, factors, sample_weight, fit_intercept, nodes, n_threads, slopes_only).evaluate(x)[0]

    optimum, far = climb(x, levels=getattr(engine, "levels", (1,))), None
    if factors:
        fine = len(factors) == 1 and covariance.q in FINE_NODES
        n_obs = y.size if sample_weight is None else sample_weight.sum()
        optimum, far = look_again(optimum, climb, engine, held, null, max_iter, better if fine else None, n_obs)
    if isinstance(engine, CrossedLikelihood):
        engine.evaluate(optimum.x)
        optimum.report.n_full_passes = engine.n_evaluations
    x = optimum.x
    information = _Information(engine, optimum, held)
    if len(factors) == 1 and engine.cluster_gradients is None:
        engine.evaluate(x)  # max_iter was too low for a pass over all rows
    modes, mode_cov, posterior = _random_effects(engine, x, factors)
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
        separated=_separated(engine, optimum),
        report=optimum.report,
        far_maximum=None if far is None else (far.value, _standard_deviations(engine, far.x)),
        is_singular=bool(factors) and bool(covariance.on_boundary(x[random]).any()),
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


def posterior_modes(X, y, *, factors, sample_weight=None, beta, theta, fit_intercept=True, n_threads=1):
    """Conditional modes and covariances of the random coefficients given parameters: lists, one entry per factor.

    Columns of X that `beta` has no coefficient for, the last ones, have random slopes only.

    Returns
    -------
    modes, mode_cov : list
    posterior : JointPosterior or None
        For several factors.
    """
    engine = _engine(X, y, factors, sample_weight, fit_intercept, 1, n_threads)
    x = engine.internal(np.append(beta, np.zeros(engine.n_fixed - len(beta))), np.concatenate(theta))
    engine.evaluate(x)
    return _random_effects(engine, x, factors)


def _random_effects(engine, x, factors):
    """Modes, covariances and joint posterior at x, where the engine was evaluated last."""
    if len(factors) > 1:
        return engine.random_effects(x)
    if not factors:
        return [], [], None
    modes, mode_cov = engine.random_effects(x)
    return [modes], [mode_cov], None


def _standard_deviations(engine, x):
    """Of all random coefficients, in the user's units."""
    return np.linalg.norm(engine._random_map() @ engine.covariance.lambda_(x[engine.n_fixed :]), axis=1)


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
        In internal parameters; 0 for those that are held or of which the information says nothing.
    unidentified : ndarray
        Fixed effects that are not held, and of which the information says nothing.
    natural_inverse : ndarray
        In the user's units; NaN where a column is aliased or unidentified.
    to_natural : ndarray
        What a gradient in internal parameters is multiplied by for its Newton step in the user's units.
    """

    def __init__(self, engine, optimum, held):
        # the intercept first: of parameters that the information cannot tell apart the later ones are lost
        k, p = engine.n_fixed, engine.p
        order = np.concatenate([np.arange(p, k), np.arange(p), np.arange(k, engine.n_params)])
        order = order[~held[order]]
        without = np.zeros(engine.n_params, dtype=bool)
        without[order] = dependent(-optimum.hessian[np.ix_(order, order)])
        self.unidentified = np.flatnonzero(without[:k])
        kept = np.flatnonzero(~(held | without))
        information = -optimum.hessian[np.ix_(kept, kept)]
        scale = 1.0 / np.sqrt(information.diagonal())
        root = np.linalg.inv(np.linalg.cholesky(information * scale[:, None] * scale)) * scale
        self.inverse = np.zeros_like(optimum.hessian)
        self.inverse[np.ix_(kept, kept)] = root.T @ root
        held = held | (without & (np.arange(engine.n_params) < k))
        self._jacobian = engine.jacobian(optimum.x)
        # an aliased slope is exactly 0 and does not move the intercept
        self._lost = np.concatenate([without[p:k], held[:p], held[k:]])
        self.natural_inverse = self.natural_covariance(self.inverse)
        self.to_natural = self.inverse @ self._jacobian.T

    def natural_covariance(self, covariance):
        """A covariance of internal parameters in the user's units; NaN for what is not identified."""
        out = self._jacobian @ covariance @ self._jacobian.T
        out[self._lost, :] = out[:, self._lost] = np.nan
        return out


def _separated(engine, optimum):
    """Columns (-1: intercept) along which the likelihood rises without end: steps that gain nothing move rows far, or
    all outcomes are certain already."""
    if not optimum.runs_away:
        return []
    spread = engine.spread(optimum.last_step if optimum.value < -FLAT else optimum.x)
    return np.flatnonzero(spread >= 0.3 * spread.max(initial=0.0)).tolist() or [-1]
