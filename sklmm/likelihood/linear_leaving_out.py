"""Linear models without each cluster: of few clusters the fit to the others, of many one step of Newton's method.

The log-likelihood of theta alone, with beta and sigma at their best, is a function of n, log|V| and Q = E'V^-1 E (see
`linear_criterion`), which are sums over clusters: what a cluster adds to them, and to their derivatives in theta, is
taken off. So is what it adds to REML's penalty, -log|X'V^-1 X| / 2, which is no sum. For a given theta this is exact;
theta takes one step, or where clusters are so few that the sums cost little, as many as it needs.
"""

import copy
from dataclasses import dataclass

import numpy as np

from sklmm.likelihood.leaving_out import MOST_CHANGE
from sklmm.likelihood.linear_criterion import LinearCriterion
from sklmm.likelihood.linear_scores import Parts
from sklmm.likelihood.linear_search import best_theta

LEAST_LEFT = 1e-8  # the share of a direction's information that other clusters must have to tell a coefficient
NOTHING_KNOWN = 1e30  # variance, relative to that of the fit, in directions that they do not tell
NUMBERS_AT_ONCE = 1 << 18
MOST_EXACT = 300  # levels: 0.6 s, 3 s where variances are 0; four times as much for twice as many
MOST_STEPS, DONE = 8, 1e-12  # of Newton's method; in log-likelihood


@dataclass(frozen=True, eq=False)
class LinearWithout:
    """The parameters of a linear model without each level, as its products have them: the outcome is scaled.

    The last row is the model with all levels.

    Attributes
    ----------
    products : ClusterProducts
        Of all levels.
    precision_scale : float
        What the rows' precisions were divided by.
    beta : ndarray of shape (n_levels + 1, f)
        Of the estimated fixed effects. Of those that the other levels do not tell apart, the least slopes.
    theta : ndarray of shape (n_levels + 1, m)
    sigma : ndarray of shape (n_levels + 1,)
        NaN where the other levels leave no degrees of freedom.
    covariance : ndarray of shape (n_levels + 1, f, f)
        Of beta; next to infinite in directions that the other levels do not tell.
    """

    products: object
    precision_scale: float
    beta: np.ndarray
    theta: np.ndarray
    sigma: np.ndarray
    covariance: np.ndarray

    def natural(self):
        """Fixed effects, the intercept first, and factors of the random coefficients' covariance, in the user's
        units."""
        products = self.products
        beta = products.y_scale * (self.beta @ products.units.fixed_map()[:, products.kept].T)
        if products.units.fit_intercept:
            beta[:, 0] += products.y_center
        n_coefficients = products.n_fixed - products.structure.slopes_only
        return beta[:, :n_coefficients], products.units.random_map() @ self.factors()

    def sigma_of_outcome(self):
        """Residual standard deviations of rows with precision weight 1, in units of the outcome."""
        return self.products.y_scale * np.sqrt(self.precision_scale) * self.sigma

    def factors(self):
        """Factors of the covariance of the coefficients of centred and scaled columns, in units of the outcome."""
        covariance = self.products.covariance
        Lambda = np.zeros((len(self.theta), covariance.q, covariance.q))
        Lambda[:, covariance.row, covariance.col] = self.theta
        return self.products.y_scale * self.sigma[:, None, None] * Lambda


def without_linear_clusters(products, theta, reml, held=None, precision_scale=1.0, exact=None):
    """The parameters without each level of the one factor; those of the fit for levels without rows.

    Where theta takes one step, columns of 0 in the covariance factor stay: to first order the likelihood does not
    depend on them. Where the step would change one of the others by more than half, or has no maximum ahead, theta
    stays: what one level says of it is little, as a rule.

    Parameters
    ----------
    products : ClusterProducts
        With a factor.
    theta : ndarray of shape (m,)
        Of the fit.
    reml : bool
    held : mask of the entries of theta that stay at 0, or None
    precision_scale : float
    exact : bool or None
        Whether theta goes to its maximum; None: of up to 300 levels.

    Returns
    -------
    LinearWithout
    """
    point = LinearCriterion(products, reml).at(theta)
    f, n_levels = products.f, products.n_levels[0]
    nu = products.n_counted - (f if reml else 0)
    first, sigma = point.root @ point.root.T, np.sqrt(point.squares / nu)
    found = LinearWithout(
        products,
        precision_scale,
        np.tile(point.beta, (n_levels + 1, 1)),
        np.tile(theta, (n_levels + 1, 1)),
        np.full(n_levels + 1, sigma),
        np.tile(sigma**2 * first, (n_levels + 1, 1, 1)),
    )
    q, m, k = products.covariance.q, products.covariance.m, products.k
    step = max(1, NUMBERS_AT_ONCE // (m * k * k))
    parts = [slice(at, min(at + step, len(products.A))) for at in range(0, len(products.A), step)]
    total = _Sums(m, k)
    for part in parts:
        total.add(Parts(products, part, theta, np.append(-point.beta, 1.0)))
    rows, counts = products.row_products(np.arange(q), products.order), products.counted_rows()
    exact = n_levels <= MOST_EXACT if exact is None else exact
    for part in parts:
        C = rows.squares(products.start, part.start, part.stop)
        level = products.level_of_cluster[part]
        of_level, told = _without(products, point, part, C, total, nu - counts[part], reml)
        for name, values in of_level.items():
            getattr(found, name)[level] = values
        for at in np.flatnonzero(told) if exact else ():
            cluster = part.start + at
            start = of_level["theta"][at]
            best = _maximum(products, cluster, C[at], counts[cluster], reml, held, start)
            for name, values in best.items():
                getattr(found, name)[level[at]] = values
    return found


def _maximum(products, cluster, C, count, reml, held, theta):
    """Members of `LinearWithout` for the maximum of the likelihood without a cluster; none where it has none."""
    others = copy.copy(products)
    others.A, others.B, others.C = products.A.copy(), products.B.copy(), products.C - C
    others.A[cluster], others.B[cluster], others.n_counted = 0.0, 0.0, products.n_counted - count
    criterion = LinearCriterion(others, reml)
    try:
        if criterion.nu <= 0:
            return {}
        point = criterion.at(_best_theta(criterion, theta, held))
    except (FloatingPointError, np.linalg.LinAlgError):
        return {}
    variance = point.squares / criterion.nu
    covariance = variance * (point.root @ point.root.T)
    return {"beta": point.beta, "theta": point.theta, "sigma": np.sqrt(variance), "covariance": covariance}


def _best_theta(criterion, theta, held):
    """The best theta, which is near this one as a rule; else it is climbed to from afar."""
    covariance = criterion.products.covariance
    for _ in range(MOST_STEPS):
        if covariance.on_boundary(theta).any():
            break
        _, gradient, hessian = criterion.profile(theta)
        if np.linalg.eigvalsh(hessian)[-1] >= 0.0:
            break
        step = np.linalg.solve(-hessian, gradient)
        theta = theta + step
        if gradient @ step < DONE:
            return theta
    return best_theta(criterion, held=held).x


class _Sums:
    """Derivatives of log|V| and of Q, summed over clusters."""

    def __init__(self, m, k):
        self.log_det, self.log_det2 = np.zeros(m), np.zeros((m, m))
        self.Q, self.Q2 = np.zeros((m, k, k)), np.zeros((m, m, k, k))

    def add(self, parts):
        log_det, log_det2 = parts.log_det_derivatives()
        self.log_det += log_det.sum(axis=0)
        self.log_det2 += log_det2.sum(axis=0)
        turned = np.einsum("rab,nbx->nrax", parts.dG, parts.b)
        self.Q -= np.einsum("nax,nray->rxy", parts.b, turned, optimize=True)
        second = 2.0 * np.einsum("nrax,nab,nsby->rsxy", turned, parts.R, turned, optimize=True)
        along = np.einsum("nrx,nsy->rsxy", parts.b[:, parts.row], parts.b[:, parts.row], optimize=True)
        self.Q2 += second - parts.same[:, :, None, None] * along


def _without(products, point, part, C, total, nu, reml):
    """Members of `LinearWithout` for some clusters, and of which the others tell every coefficient.

    `C` is E'E of each cluster, `nu` the degrees of freedom without it.
    """
    f, covariance, theta = products.f, products.covariance, point.theta
    own = Parts(products, part, theta, np.append(-point.beta, 1.0))
    Q = point.Q - C + np.swapaxes(own.B, 1, 2) @ (own.G @ own.b)
    inverse, lost = _inverses(Q[:, :f, :f], point)
    n_lost = np.count_nonzero(lost.any(axis=1), axis=1)
    nu = nu + n_lost if reml else nu
    beta = point.beta + np.einsum("nij,nj->ni", inverse, Q[:, :f, f] - Q[:, :f, :f] @ point.beta)
    slopes = products.kept < products.units.p
    for n in np.flatnonzero(n_lost):
        beta[n] -= lost[n] @ np.linalg.lstsq(lost[n][slopes], beta[n][slopes])[0]
    residual = np.column_stack([-beta, np.ones(len(beta))])
    squares = np.einsum("ni,nij,nj->n", residual, Q, residual)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(nu > 0, np.maximum(squares, 0.0) / nu, np.nan)
        scale = 1.0 / variance
    turned = np.einsum("rab,nbx->nrax", own.dG, own.b)
    dQ = total.Q + np.einsum("nax,nray->nrxy", own.b, turned)
    along = np.einsum("nrij,nj->nri", dQ, residual)
    slope = np.einsum("nrk,nk->nr", along, residual)  # of the squares
    log_det, log_det2 = own.log_det_derivatives()
    gradient = total.log_det - log_det + scale[:, None] * slope
    e = np.einsum("nak,nk->na", own.b, residual)
    de = np.einsum("rab,nb->nra", own.dG, e)
    second = np.einsum("ni,rsij,nj->nrs", residual, total.Q2, residual, optimize=True)
    second -= 2.0 * np.einsum("nra,nab,nsb->nrs", de, own.R, de, optimize=True)
    second += own.same * e[:, own.row, None] * e[:, None, own.row]
    across = along[:, :, :f]
    information = total.log_det2 - log_det2 + scale[:, None, None] * second
    information -= 2.0 * scale[:, None, None] * np.einsum("nri,nij,nsj->nrs", across, inverse, across, optimize=True)
    information -= (scale**2 / nu)[:, None, None] * slope[:, :, None] * slope[:, None, :]
    if reml:
        M = inverse[:, None] @ dQ[:, :, :f, :f]
        K = own.b[:, :, :f] @ inverse @ np.swapaxes(own.b[:, :, :f], 1, 2)
        gradient += np.trace(M, axis1=2, axis2=3)
        information += np.einsum("nij,rsji->nrs", inverse, total.Q2[:, :, :f, :f], optimize=True)
        information -= 2.0 * np.einsum("rab,nbc,scd,nda->nrs", own.dG, own.R, own.dG, K, optimize=True)
        information += own.same * K[:, own.row[:, None], own.row] - np.einsum("nrij,nsji->nrs", M, M, optimize=True)
    step = _steps(covariance, theta, gradient, information)
    moved = np.einsum("nr,nrij->nij", step, dQ[:, :, :f, :f])
    with np.errstate(over="ignore", invalid="ignore"):
        variance = variance * np.exp(np.einsum("nr,nr->n", step, slope) / squares)
    found = {
        "beta": beta + np.einsum("nij,nrj,nr->ni", inverse, across, step, optimize=True),
        "theta": theta + step,
        "sigma": np.sqrt(variance),
        "covariance": variance[:, None, None]
        * (inverse - inverse @ moved @ inverse + NOTHING_KNOWN * lost @ np.swapaxes(lost, 1, 2)),
    }
    return found, n_lost == 0


def _inverses(information, point):
    """Inverses of the fixed effects' information without each cluster, that of the fit being root'^-1 root^-1.

    Returns
    -------
    inverse : ndarray of shape (n, f, f)
    lost : ndarray of shape (n, f, f)
        Columns are directions that the other clusters do not tell, in which `inverse` is 0; 0 are the others.
    """
    share = point.root.T @ information @ point.root
    try:
        np.linalg.cholesky(share - LEAST_LEFT * np.eye(len(point.root)))
        return point.root @ np.linalg.inv(share) @ point.root.T, np.zeros_like(share)
    except np.linalg.LinAlgError:  # some direction is told by one cluster alone
        w, vectors = np.linalg.eigh(share)
    turned, told = point.root @ vectors, w > LEAST_LEFT
    inverse = (turned * np.where(told, 1.0 / np.where(told, w, 1.0), 0.0)[:, None, :]) @ np.swapaxes(turned, 1, 2)
    return inverse, np.where(told[:, None, :], 0.0, turned)


def _steps(covariance, theta, gradient, information):
    """Newton's steps in theta, from minus twice its log-likelihoods; 0 for those that lead too far."""
    same_column = covariance.col[:, None] == covariance.col
    length = np.sqrt(same_column @ theta**2)  # of the column of each entry
    on = length > 0
    steps = np.zeros_like(gradient)
    good = np.isfinite(information).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1)
    if not on.any() or not good.any():
        return steps
    inner = information[np.ix_(good, on, on)]
    ahead = np.linalg.eigvalsh(inner)[:, 0] > 0.0
    good[good] = ahead
    steps[np.ix_(good, on)] = -np.linalg.solve(inner[ahead], gradient[np.ix_(good, on)][:, :, None])[:, :, 0]
    far = (np.sqrt(steps**2 @ same_column) > MOST_CHANGE * length).any(axis=1)
    steps[far] = 0.0
    return steps
