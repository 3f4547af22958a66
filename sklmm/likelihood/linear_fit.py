"""Fits of linear mixed models: cross-products of one pass, the best theta, and the fitted model's numbers."""

from dataclasses import dataclass, field, replace

import numpy as np

from sklmm.design.covariance import RelativeCovariance
from sklmm.design.units import FitUnits
from sklmm.likelihood.linear import LinearLikelihood
from sklmm.likelihood.linear_criterion import LinearCriterion
from sklmm.likelihood.linear_crossproducts import ClusterProducts
from sklmm.likelihood.linear_kenward_roger import kenward_roger as kenward_roger_parts
from sklmm.likelihood.linear_limits import exactly_with, exactly_without, unidentified, without_residuals
from sklmm.likelihood.linear_priors import LinearPosterior, Mode
from sklmm.likelihood.linear_scores import fixed_scores
from sklmm.likelihood.linear_search import best_theta, without_random_effects
from sklmm.likelihood.linear_several import SeveralProducts
from sklmm.likelihood.posterior import NormalPosterior
from sklmm.optimize.newton import FitReport


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A fitted linear model in numbers; lists have one entry per grouping factor.

    Parameters are in the user's units, the intercept (if any) first; `fixed_covariance` and `effect_slopes` are of the
    standardised columns of `FitUnits.design` and of the effects u of `EffectUnits`, which are independent standard
    normals: predictions from the user's own columns would be small differences of huge numbers.

    Attributes
    ----------
    beta : ndarray
        0 for aliased columns.
    vcov : ndarray
        sigma^2 (X'V^-1 X)^-1, V in units of sigma^2; NaN for aliased columns.
    sigma : float
        Residual standard deviation, of rows with precision 1.
    precision_scale : float
        Mean precision of the rows; theta and log sigma of `units` and `variance_vcov` are of rows with this precision.
    theta : list of ndarray
        Entries of the covariance factors relative to sigma, as lme4 has them.
    lambda_ : list of ndarray of shape (q, q)
        Covariance factors: the random coefficients' covariance is lambda_ lambda_'.
    log_likelihood, ml_log_likelihood : float
        Of the method of the fit; the expression of maximum likelihood at the same estimates.
    reml : bool
    n_counted : float
        Rows, as often as weights count them.
    rank : int
        Number of estimated fixed effects.
    modes, mode_cov : list of ndarray
        Conditional means (n_levels, q) and covariances (n_levels, q, q) of the random coefficients, beta being known.
    posteriors : list of NormalPosterior
        Of the effects u, beta being known.
    posterior : JointPosterior or None
        For several factors.
    effect_slopes : list of ndarray of shape (n_levels, q, f)
        d(mode of u) / d(beta), in standardised columns; see `prediction_variance`.
    fixed_covariance : ndarray of shape (f, f)
        Of the estimated fixed effects, in the order of `fixed_positions`.
    fixed_gradient : ndarray of shape (m + 1, f, f)
        Its derivatives in (theta, log sigma), those of `variance_vcov`.
    fixed_positions : ndarray of shape (f,)
        Columns of `FitUnits.design` that are estimated.
    aliased : list of int
        Columns of X that are constant or linear combinations of earlier ones.
    is_singular : bool
        A variance or a correlation on the boundary.
    report : FitReport
    units : FitUnits
        x are the fixed effects of standardised columns, in units of the outcome; theta; log sigma.
    effect_units : list of EffectUnits
    variance_vcov : ndarray of shape (m + 1, m + 1)
        Inverse of the observed information of (theta, log sigma), of the standardised columns.
    vcov_gradient : ndarray of shape (m + 1, n_fixed, n_fixed)
        Derivatives of vcov in them.
    robust_vcov : ndarray of shape (n_fixed, n_fixed), or None
        The cluster sandwich of beta with the levels of the one factor as clusters, rows without a factor: vcov, times
        the sum of the products of their scores, times vcov. None for several factors.
    influence : ndarray of shape (n_levels, n_fixed), float32, or None
        What each level of the one factor adds to beta, to first order.
    level_rows : ndarray of shape (n_levels,) or None
        Rows of the one factor's levels, as often as they count.
    kenward_roger : tuple or None
        Where it was asked for, the adjusted covariance of beta, the plain one, its derivatives in the variances, and
        their covariance, see `sklmm.likelihood.linear_kenward_roger`.
    row_moments : RowMoments or None
        See `LinearRows.row_moments`.
    trouble : list of str
        Where the rows do not tell variances.
    no_residuals : bool
        Whether features or random effects reproduce the outcome exactly.
    log_prior : float or None
        Of a fit with priors, at the estimates.
    """

    beta: np.ndarray
    vcov: np.ndarray
    sigma: float
    precision_scale: float
    theta: list
    lambda_: list
    log_likelihood: float
    ml_log_likelihood: float
    reml: bool
    n_counted: float
    rank: int
    modes: list
    mode_cov: list
    posteriors: list
    posterior: object
    effect_slopes: list
    fixed_covariance: np.ndarray
    fixed_gradient: np.ndarray
    fixed_positions: np.ndarray
    aliased: list
    is_singular: bool
    report: FitReport
    units: FitUnits
    effect_units: list
    variance_vcov: np.ndarray
    vcov_gradient: np.ndarray
    robust_vcov: np.ndarray | None = None
    influence: np.ndarray | None = None
    level_rows: np.ndarray | None = None
    kenward_roger: tuple | None = None
    row_moments: object = None
    trouble: list = field(default_factory=list)
    no_residuals: bool = False
    log_prior: float | None = None

    separated = ()  # there are no classes

    def joint_vcov(self):
        """Covariance of (beta, theta), in the user's units; both are independent, but for REML's slight dependence."""
        units, n, m = self.units.units, len(self.beta), len(self.variance_vcov) - 1
        moves = [units.natural(np.append(np.zeros(units.n_fixed), step))[1] for step in np.eye(m)]
        out = np.zeros((n + m, n + m))
        out[:n, :n] = self.vcov
        if self.theta:
            J = np.array(moves).T
            out[n:, n:] = J @ self.variance_vcov[:m, :m] @ J.T
        return out if self.theta else out[:n, :n]


def linear_products(observations, structure, *, n_threads=1, **settings):
    """The cross-products of the rows: the place that chooses how they are held. Settings are those of `LinearRows`;
    what they do not say of offset and precision the observations do."""
    for name in ("offset", "precision"):
        if settings.get(name) is None:
            settings[name] = getattr(observations, name)
    observations = replace(observations, offset=None, precision=None)  # the offset is taken off the outcome
    serves = SeveralProducts if len(structure.factors) > 1 else ClusterProducts
    return serves(observations, structure, n_threads, **settings)


def linear_likelihood(observations, structure, **settings):
    """The likelihood of the rows, not restricted; settings as of `linear_products`."""
    return LinearLikelihood(linear_products(observations, structure, **settings))


def fit_linear(observations, structure, *, reml=True, offset=None, precision=None, tol=1e-10, max_iter=100, n_threads=1,
               progress=None, kenward_roger=False, priors=None):
    """Fit a linear model with normal random effects, by REML or maximum likelihood, or the mode with priors.

    Parameters
    ----------
    observations : Observations
        y : ndarray of float64.
    structure : Structure
    reml : bool
    offset : ndarray of shape (n,), float64, or None
        Added to the linear predictor.
    precision : ndarray of shape (n,), float64, positive, or None
        The residual variance of a row is sigma^2 / precision.
    tol : float
        Newton decrement, in log-likelihood units.
    max_iter : int
    n_threads : int
    progress : callable or None
        Called with a row of the report's history after each evaluation.
    kenward_roger : bool
        Whether to find what Kenward and Roger's tests need: for REML.
    priors : ModelPriors or None

    Returns
    -------
    LinearFit

    Raises
    ------
    ValueError
        Where the data do not tell the residual variance.
    """
    if kenward_roger and not reml:
        raise ValueError("Kenward and Roger's method is for REML fits, this one is by maximum likelihood")
    scale = 1.0
    if precision is not None:
        if not (np.isfinite(precision).all() and (precision > 0).all()):
            raise ValueError("precision weights must be positive and finite: the residual variance is sigma^2 / weight")
        # relative standard deviations are those to a usual row's
        scale = float(np.average(precision, weights=observations.weights))
        precision = precision / scale
    units = None
    if priors is not None:  # the offset is taken off the outcome
        units = priors.units(replace(observations, offset=None), structure)
    products = linear_products(
        observations, structure, n_threads=n_threads, units=units, offset=offset, precision=precision
    )
    exact = exactly_without(LinearCriterion(products, False))
    mode = None
    if priors is not None and exact is None:
        posterior = LinearPosterior(products, reml, priors, scale)
        found = posterior.mode(tol=tol, max_iter=max_iter, progress=progress)
        theta, mode = found.x[products.n_fixed : -1], Mode.of(posterior, found.x)
        with_priors = replace(found, x=theta, hessian=np.zeros((theta.size, theta.size)))
        if found.report.converged and exactly_with(posterior.criterion, theta) is None:
            return conclude(posterior.criterion, with_priors, False, scale, mode)
    held, trouble = unidentified(products, reml) if exact is None else (None, [exact])
    criterion = LinearCriterion(products, reml and exact is None)
    if exact is None and not held.all():
        optimum = best_theta(criterion, tol=tol, max_iter=max_iter, progress=progress, held=held)
        exact = exactly_with(criterion, optimum.x)
        if exact is not None:
            optimum, trouble = without_residuals(criterion, optimum, held), [*trouble, exact]
        elif mode is not None:
            return conclude(posterior.criterion, with_priors, False, scale, mode)
    else:
        optimum = without_random_effects(criterion)
    if priors is not None:
        trouble = [*trouble, "where the outcome is reproduced exactly its density is infinite, and priors do not count"]
    fit = conclude(criterion, optimum, kenward_roger and exact is None, scale)
    return replace(fit, trouble=trouble, no_residuals=exact is not None)


def effects_given_fit(observations, structure, fit, *, offset=None, precision=None, n_threads=1, priors=None):
    """What a fitted model's parameters and these rows say of the levels in them.

    Parameters
    ----------
    observations : Observations
        With the columns of the fit, those included that have random slopes only.
    structure : Structure
    fit : LinearFit
    offset, precision, n_threads
        As in `fit_linear`.
    priors : list of (NormalPosterior, ndarray), or None
        For each factor the posteriors and `effect_slopes` that earlier rows have given to these levels.

    Returns
    -------
    dict
        modes, mode_cov, posteriors, posterior, effect_slopes, effect_units, as in `LinearFit`.
    """
    units, x = fit.units.units, fit.units.x
    center, sigma = float(x[units.p : units.n_fixed].sum()), float(np.exp(x[-1]))
    if precision is not None or fit.precision_scale != 1.0:
        precision = (np.ones(observations.y.size) if precision is None else precision) / fit.precision_scale
    products = linear_products(
        observations, structure, n_threads=n_threads, units=units, offset=offset, precision=precision,
        y_units=(center, sigma), keep_all=True,
    )  # fmt: skip
    beta = x[: units.n_fixed].copy()
    beta[units.p :] -= center
    beta /= sigma
    positions = fit.fixed_positions + np.where(fit.fixed_positions < fit.units.n_slopes, 0, structure.slopes_only)
    return _random_effects(products, beta, x[units.n_fixed : -1], 1.0, positions, priors)


def conclude(criterion, optimum, kenward_roger=False, precision_scale=1.0, mode=None):
    """The numbers of a fitted model, at the best theta; the products are of no use any more.

    Parameters
    ----------
    criterion : LinearCriterion
    optimum : Optimum
    kenward_roger : bool
    precision_scale : float
        What the rows' precisions were divided by.
    mode : Mode or None
        With priors, the other parameters at their mode.

    Returns
    -------
    LinearFit
    """
    top = _Top(criterion, optimum, mode)
    products, point, units, s, sigma = top.products, top.point, top.units, top.products.y_scale, top.sigma
    factors, beta = products.structure.factors, products.beta(point.beta)
    x = np.concatenate([s * beta, point.theta, [np.log(s * sigma)]])
    x[units.p : units.n_fixed] += products.y_center
    theta = units.natural(np.append(beta, point.theta))[1]
    entries = np.cumsum([RelativeCovariance(factor.blocks).m for factor in factors])
    theta = np.split(theta, entries[:-1]) if factors else []
    held = np.append(np.full(point.theta.size, not factors), False)
    gradient = top.inner_gradient()
    return LinearFit(
        beta=products.natural_beta(beta)[: top.n_fixed],
        vcov=top.in_user_units(top.inner),
        sigma=float(s * sigma * np.sqrt(precision_scale)),
        precision_scale=precision_scale,
        theta=[part / np.sqrt(precision_scale) for part in theta],
        lambda_=[s * sigma * RelativeCovariance(each.blocks).lambda_(part)
                 for each, part in zip(factors, theta, strict=True)],
        log_likelihood=top.value,
        log_prior=None if mode is None else mode.log_prior,
        ml_log_likelihood=LinearCriterion(products, False).value(point, point.squares, top.tau),
        reml=criterion.reml,
        n_counted=products.n_counted,
        rank=products.f,
        fixed_covariance=s**2 * top.inner,
        fixed_positions=np.where(
            products.kept < top.n_slopes, products.kept, products.kept - products.structure.slopes_only
        ),
        aliased=top.aliased.tolist(),
        is_singular=bool(factors) and bool(products.covariance.on_boundary(point.theta).any()),
        report=optimum.report,
        units=FitUnits(units, x, top.n_slopes),
        variance_vcov=variance_covariance(top.hessian, products.f, held),
        fixed_gradient=s**2 * gradient,
        vcov_gradient=np.array([top.in_user_units(each) for each in gradient]),
        kenward_roger=top.kenward_roger() if kenward_roger else None,
        row_moments=products.row_moments(point.beta),
        **_by_clusters(top),
        **_random_effects(products, beta, point.theta, sigma, products.kept, last=True),
    )  # fmt: skip


class _Top:
    """Everything where the likelihood is highest.

    Attributes
    ----------
    point, tau, sigma : Point, float, float
        Of the scaled outcome.
    value, hessian, derivatives
        Of the criterion in (beta, theta, log sigma).
    inner : ndarray of shape (f, f)
        Covariance of the estimated fixed effects.
    n_slopes, n_fixed : int
        Columns of X that are fixed effects, and coefficients of the user.
    aliased : ndarray
        Columns of X.
    """

    def __init__(self, criterion, optimum, mode=None):
        self.products = products = criterion.products
        self.units, f, m = products.units, products.f, optimum.x.size
        point = criterion.at(optimum.x)
        gap = None
        if mode is not None:
            gap, point = _lacking(criterion, point), mode.at(point)
        self.point = point
        self.tau = criterion.log_sigma(point) if mode is None else mode.tau
        self.sigma = np.exp(self.tau)
        self.residual = np.append(-point.beta, 1.0)
        self.derivatives = products.derivatives(point.theta, self.residual, point.root)
        self.value, _, self.hessian, _ = criterion.joint(point, point.beta, self.tau, self.derivatives)
        if gap is not None:
            self.hessian[f : f + m, f : f + m] += gap
        elif not self.derivatives.exact:
            average = criterion.of_theta(self.hessian)
            of_theta = optimum.hessian
            if of_theta.any():  # else there was no climb
                of_theta = criterion.nearly_exact(optimum.x, average, self.derivatives)
            self.hessian[f : f + m, f : f + m] += of_theta - average
        if mode is None:
            self.inner = self.sigma**2 * (point.root @ point.root.T)
        else:
            self.hessian += mode.curvature
            self.inner = np.linalg.inv(-self.hessian[:f, :f])
        self.has_priors = mode is not None
        self.n_slopes = self.units.p - products.structure.slopes_only
        self.n_fixed = self.n_slopes + int(self.units.fit_intercept)
        self.aliased = np.flatnonzero(products.aliased[: self.n_slopes])
        self.to_user = products.y_scale * self.units.fixed_map()[:, products.kept]

    def in_user_units(self, matrix):
        """A covariance of the estimated fixed effects; NaN for those that are not."""
        out = (self.to_user @ matrix @ self.to_user.T)[: self.n_fixed, : self.n_fixed]
        lost = int(self.units.fit_intercept) + self.aliased
        out[lost, :] = out[:, lost] = np.nan
        return out

    def inner_gradient(self):
        """Derivatives of `inner` in (theta, log sigma)."""
        of_theta = (-(self.inner @ change @ self.inner) / self.sigma**2 for change in self.derivatives.products)
        last = 2.0 * self.inner
        if self.has_priors:  # whose information does not depend on sigma
            f = len(self.inner)
            last = 2.0 / self.sigma**2 * self.inner @ self.point.Q[:f, :f] @ self.inner
        return np.array([*of_theta, last])

    def kenward_roger(self):
        covariance, plain, changes, W = kenward_roger_parts(self.products, self.point.theta, self.sigma)
        changes = np.array([self.in_user_units(change) for change in changes])
        return self.in_user_units(covariance), self.in_user_units(plain), changes, W


def _lacking(criterion, point):
    """What the average second derivatives in theta lack, at its best coefficients; None where all are exact."""
    theta, residual = point.theta, np.append(-point.beta, 1.0)
    derivatives = criterion.products.derivatives(theta, residual, point.root)
    if derivatives.exact or not theta.size or not criterion.products.structure.factors:
        return None
    average = criterion.of_theta(criterion.joint(point, point.beta, criterion.log_sigma(point), derivatives)[2])
    return criterion.exact_hessian(theta, derivatives) - average


def _random_effects(products, beta, theta, sigma, positions, priors=None, last=False):
    """What is known of the random effects at these parameters, those of the scaled outcome.

    `positions`: of the fixed effects that were estimated, and err, among all of the engine's. `last`: nothing else is
    asked of the products any more.
    """
    s, f, sizes = products.y_scale, products.f, [len(factor.columns) for factor in products.structure.factors]
    units = products.units.effect_units(np.append(beta, theta), sizes)
    units = [replace(each, Lambda=s * sigma * each.Lambda) for each in units]
    err = np.searchsorted(products.kept, positions)
    combinations = np.zeros((f + 1, 1 + err.size))
    combinations[:f, 0], combinations[f, 0] = -beta[products.kept] / sigma, 1.0 / sigma
    combinations[err, 1 + np.arange(err.size)] = -1.0 / (s * sigma)
    if priors is not None:
        priors = [
            (np.concatenate([posterior.modes[:, :, None], slopes], axis=2), np.linalg.inv(posterior.cov))
            for posterior, slopes in priors
        ]
    effects, blocks, joint = products.effects(theta, combinations, priors, last)
    modes, scales = [u[:, :, 0] for u in effects], [each.natural for each in units]
    return dict(
        modes=[u @ scale.T for u, scale in zip(modes, scales, strict=True)],
        mode_cov=[scale**2 * block if len(scale) == 1 else scale @ block @ scale.T
                  for block, scale in zip(blocks, scales, strict=True)],
        posteriors=[NormalPosterior(u, u, block) for u, block in zip(modes, blocks, strict=True)],
        posterior=joint,
        effect_slopes=[u[:, :, 1:] for u in effects],
        effect_units=units,
    )  # fmt: skip


def _by_clusters(top):
    """The cluster sandwich and the clusters' influence, of one factor or none."""
    products, inner, beta = top.products, top.inner, top.point.beta
    if len(products.structure.factors) > 1:
        return {}
    effects = products.effects(top.point.theta, np.append(-beta, 1.0)[:, None])[0]
    to_influence = top.to_user[: top.n_fixed] @ inner
    meat, influence = fixed_scores(
        products, top.point.theta, beta, top.tau, [u[:, :, 0] for u in effects], to_influence
    )  # fmt: skip
    robust = top.in_user_units(inner @ meat @ inner)
    if influence is None:
        return dict(robust_vcov=robust)
    return dict(
        robust_vcov=robust,
        influence=products.by_level(influence),
        level_rows=products.by_level(products.counted_rows()),
    )


def variance_covariance(hessian, f, held):
    """Covariance of (theta, log sigma): the inverse of their information where the fixed effects are at their best.

    0 for what is held, and in directions in which the likelihood is flat or curves upwards, as rounding may have it at
    a boundary.
    """
    inside = f + np.flatnonzero(~held)
    information = -hessian[np.ix_(inside, inside)]
    if f:
        across = hessian[np.ix_(inside, np.arange(f))]
        information += across @ np.linalg.solve(hessian[:f, :f], across.T)
    scale = 1.0 / np.sqrt(np.maximum(np.abs(information.diagonal()), 1e-300))
    w, vectors = np.linalg.eigh(information * scale[:, None] * scale)
    keep = w > 1e-10
    root = (vectors[:, keep] * scale[:, None]) / np.sqrt(w[keep])
    out = np.zeros((held.size, held.size))
    out[np.ix_(~held, ~held)] = root @ root.T
    return out
