"""Judges fits of :mod:`robustness_designs`: is what was reported the maximum, and does the fit say so where it is not?

``run(design)`` fits, judges, and returns a :class:`Verdict`. The judge of mixed models has a likelihood of its own
(:mod:`robustness_likelihood`), maximises it from several starts with SciPy, and looks at the fit only to compare.
Estimating equations are judged by :mod:`robustness_gee`.
"""

import time
import warnings
from dataclasses import dataclass, field

import numpy as np
from robustness_columns import FixedColumns, MoreColumnsThanRows, logistic_regression, separated
from robustness_gee import fit_gee_design, judge_gee
from robustness_likelihood import LogLikelihood, Term
from scipy.optimize import minimize

from sklmm import MixedLogisticRegression

HIGHER = 1e-4  # log-likelihood units
VALUE_TOL = 1e-6  # of a reported log-likelihood, relative to 1 + |value|
ERROR_TOL = 1e-3  # of standard errors, relative
LARGE = 5000  # rows of designs with fewer starts
# A maximum with a standard deviation beyond this is one of approximations to groups that are told apart perfectly. A
# fit that is at another maximum is left alone unless it misses much.
REMOTE = 20.0
MOST_CLIMBS, FEW_CLIMBS = 200, 15  # iterations of a climb
NO_END = 600.0  # where climbing is given up
COARSE_NODES = 9  # where starts are tried before the nodes of the fit are
FAR = 60.0  # a standard deviation, or a linear predictor in its rows' root mean square, that counts as infinite
STARTS = {"one": (0.5, 2.0, 8.0), "several": (0.7, 6.0), "thorough": (0.3, 1.0, 3.0, 10.0), "large": (2.0,)}  # sds
DEEP_SHARE = 10  # one design in so many is judged deeply whatever it looks like
EXACT = 1e-10  # Newton decrement of the judge's maxima


@dataclass
class Verdict:
    """What the judge says of a design.

    Attributes
    ----------
    faults : list of (kind of fault, diagnosis)
    state : str
        In a word or two, for counts of those without fault.
    log : list of str
        What was done, for ``--verbose``.
    """

    name: str
    faults: list = field(default_factory=list)
    state: str = "ok"
    log: list = field(default_factory=list)
    fit_seconds: float = 0.0
    judge_seconds: float = 0.0

    def fault(self, kind, text):
        self.faults.append((kind, text))

    def note(self, text):
        self.log.append(text)


class Caught:
    """The warnings of a fit."""

    def __init__(self, records):
        self.names = [w.category.__name__ for w in records]
        self.texts = [str(w.message) for w in records]

    def __contains__(self, name):
        return name in self.names

    def mentions(self, *words):
        return any(word in text for text in self.texts for word in words)


def run(design, deep=None, fitted=lambda: None):
    """Fit and judge. ``fitted`` is called between the two."""
    verdict = Verdict(design.name)
    began = time.process_time()
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        try:
            fit = fit_gee_design(design) if design.kind == "gee" else fit_mixed_design(design)
            error = None
        except Exception as problem:  # any exception is a verdict
            fit, error = None, problem
    verdict.fit_seconds = time.process_time() - began
    fitted()
    caught = Caught(records)
    verdict.note(f"fit: {verdict.fit_seconds:.3f} s, warnings {caught.names}")
    for text in caught.texts:
        verdict.note(f"  {text[:300]}")
    if isinstance(error, ValueError) and "regular grid" in str(error):  # lags are not counted on such times
        verdict.state = "refused"
        return verdict
    if error is not None:
        verdict.fault("exception", f"{type(error).__name__}: {str(error)[:160]}")
        verdict.state = "exception"
        return verdict
    judge = judge_gee if design.kind == "gee" else judge_mixed
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        judge(design, fit, caught, verdict, int(design.name.split(":")[-1]) % DEEP_SHARE == 0 if deep is None else deep)
    verdict.judge_seconds = time.process_time() - began - verdict.fit_seconds
    return verdict


def fit_mixed_design(design):
    model = MixedLogisticRegression(**design.params, n_threads=1)
    return model.fit(design.X, design.y, groups=design.groups, sample_weight=design.weights)


# ---- mixed models


class MixedJudge:
    """The likelihood of a design and the fit's place in it."""

    def __init__(self, design, fit, caught):
        counted = np.ones(len(design.y), dtype=bool) if design.weights is None else design.weights > 0
        self.w = np.ones(len(design.y))[counted] if design.weights is None else design.weights[counted]
        X, self.y = design.X[counted], design.y[counted]
        self.intercept = design.params.get("fit_intercept", True)
        first = int(self.intercept)
        self.vcov = fit.vcov_.to_numpy()
        nan = np.isnan(np.diag(self.vcov))[first:]
        self.aliased = nan & (fit.coef_[0] == 0) if "AliasedFeaturesWarning" in caught else np.zeros_like(nan)
        self.fixed = FixedColumns(X, np.flatnonzero(~self.aliased), self.intercept)
        terms, self.maps = [], []
        for factor, intercept, slopes, correlated in design.terms:
            codes = np.unique(design.groups[factor].to_numpy()[counted], return_inverse=True)[1]
            Z, T = self._columns(X, intercept, slopes, correlated)
            terms.append(Term(codes, Z, correlated))
            self.maps.append(T)
        self.nodes = design.params.get("n_quadrature", 1)
        self.likelihood = LogLikelihood(self.y, self.w, self.fixed.F, terms, self.nodes)
        self.coarse = self.likelihood
        coarse = COARSE_NODES if self.likelihood.q == 1 else 1
        if self.nodes > coarse:
            self.coarse = LogLikelihood(self.y, self.w, self.fixed.F, terms, coarse)
        self.terms = terms
        self.design = design
        self.sign = 2.0 * self.y - 1

    def _columns(self, X, intercept, slopes, correlated):
        """Columns of the random effects, centred beside a correlated intercept and scaled, and coefficients' map."""
        n, q = len(X), intercept + len(slopes)
        Z, T = np.ones((n, q)), np.eye(q)
        for a, j in enumerate(slopes, start=int(intercept)):
            x = X[:, j].astype(float)
            center = np.average(x, weights=self.w) if intercept and correlated else 0.0
            scale = np.sqrt(np.mean((x - center) ** 2))
            scale = scale if scale > 0 else 1.0
            Z[:, a] = (x - center) / scale
            T[a, a] = scale
            if intercept:
                T[0, a] = center
        return Z, T

    def point(self, fit):
        """The reported parameters as the judge's."""
        parts = [self.fixed.gamma(fit.intercept_[0], fit.coef_[0])]
        for term, T, (factor, *_) in zip(self.terms, self.maps, self.design.terms, strict=True):
            C = T @ fit.covariance_[factor].to_numpy() @ T.T
            Lambda = _semidefinite_cholesky(C)
            parts.append(Lambda[term.row, term.col])
        return np.concatenate(parts)

    def is_far(self, x):
        """Whether parameters are so large that they count as infinite."""
        return np.abs(x[self.fixed.F.shape[1] :]).max() > FAR or np.sqrt((x[: self.fixed.F.shape[1]] ** 2).sum()) > FAR

    # ---- climbing

    def climb(self, x, most, known=(), coarse=False):
        """BFGS. The best point, its value. Stops next to ends that are ``known``: (x, value)."""
        lik = self.coarse if coarse else self.likelihood
        best = [None, -np.inf]

        def check(intermediate_result):
            at, value = intermediate_result.x, -intermediate_result.fun
            close = (np.abs(at - x).max() < 1e-4 * (1 + np.abs(x).max()) and value > v - 1e-6 for x, v in known)
            if np.abs(at).max() > NO_END or any(close):
                raise StopIteration

        def negative(x):
            if np.abs(x).max() > 2 * NO_END:
                return 1e100, np.zeros(x.size)
            try:
                value, gradient = lik.value_and_gradient(x)
            except ArithmeticError:  # too far out for the judge's modes
                return 1e100, np.zeros(x.size)
            if not (np.isfinite(value) and np.isfinite(gradient).all()):
                return 1e100, np.zeros(x.size)
            if value > best[1]:
                best[:] = x.copy(), value
            return -value, -gradient

        scale = np.full(x.size, 1.0 / (4 + 0.1 * self.w.sum()))
        scale[lik.k :] = 1.0 / (2 + 0.1 * len(lik.start))
        options = {"maxiter": most, "gtol": 1e-6, "hess_inv0": np.diag(scale)}
        minimize(negative, x, jac=True, method="BFGS", callback=check, options=options)
        return (x, -np.inf) if best[0] is None else tuple(best)

    def polish(self, x, value):
        """Newton steps with differences of the gradient. The point, its value, decrement and Hessian."""
        lik = self.likelihood
        for _ in range(12):
            value, g = lik.value_and_gradient(x)
            H = lik.hessian(x, g)
            step, decrement, definite = _newton(g, H)
            if decrement < EXACT:
                break
            a = 1.0
            while a > 1e-4 and not lik.value(x + a * step) >= value:
                a /= 4
            if a <= 1e-4:
                break
            x = x + a * step
        return x, value, decrement, H, definite

    def starts(self, thorough):
        """From pooled coefficients, by standard deviation; 0 itself is plain logistic regression: it needs no climb."""
        lik = self.likelihood
        gamma, _ = logistic_regression(self.fixed.F, self.y, self.w)
        yield "sd 0", np.append(gamma, np.zeros(lik.n_params - lik.k))
        gamma = gamma * min(1.0, 30.0 / max(np.sqrt(gamma @ gamma), 1e-300))
        kind = "thorough" if thorough else "one" if lik.n_params - lik.k == 1 else "several"
        for sd in STARTS["large" if len(self.y) >= LARGE else kind]:
            theta = np.concatenate([sd * (term.row == term.col) for term in self.terms])
            yield f"sd {sd:g}", np.append(gamma * np.sqrt(1 + 0.346 * sd**2), theta)
        if thorough and lik.n_params - lik.k > 1 and len(self.y) < LARGE:
            for j in range(lik.n_params - lik.k):
                if np.concatenate([t.row == t.col for t in self.terms])[j]:
                    theta = np.zeros(lik.n_params - lik.k)
                    theta[j] = 2.0
                    yield f"only sd {j}", np.append(gamma, theta)


    def highest(self, x, here, settled, thorough, enough, note):
        """The highest point from all starts, if it is higher than the fit's: value, point, start.

        ``settled``: the fit's is a maximum, so that climbs that come near are there; ``enough``: any higher point will
        do.
        """
        best, best_x, where = here, x, "the fit's point"
        known = [(x, here)] if settled else []
        for name, at in self.starts(thorough):
            if not at[self.likelihood.k :].any():
                value = self.likelihood.value(at)
                note(f"from {name}: {value:.8f}")
                if value > best + HIGHER / 10:
                    best, best_x, where = value, at, name
                continue
            if self.coarse is not self.likelihood:
                at, _ = self.climb(at, 60 if thorough else FEW_CLIMBS, known, coarse=True)
            at, value = self.climb(at, MOST_CLIMBS if thorough else FEW_CLIMBS, known)
            while not thorough and value < here and np.linalg.norm(at - x) > 0.05 * (1 + np.linalg.norm(x)):
                before = value  # stopped elsewhere: on, while it gets higher
                at, value = self.climb(at, FEW_CLIMBS, known)
                if value < before + 1e-2:
                    break
            note(f"from {name}: {value:.8f} at {np.array2string(at, precision=4)}")
            known.append((at, value))
            if value > best + HIGHER / 10:
                best, best_x, where = value, at, name
            if enough and best > here + HIGHER and not self.is_far(best_x):
                break
        return best, best_x, where


def _newton(gradient, hessian):
    """A step uphill, what it gains to second order, and whether the Hessian is negative definite."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    values, vectors = np.linalg.eigh(-hessian * scale[:, None] * scale)
    definite = bool(values[0] > 1e-9)
    size = np.maximum(np.abs(values), 1e-9)
    inner = vectors.T @ (scale * gradient)
    return scale * (vectors @ (inner / size)), 0.5 * float((inner**2 / size).sum()), definite


def _curves_down(hessian):
    """Whether no direction curves upwards by more than the error of differences."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-8))
    return bool(np.linalg.eigvalsh(hessian * scale[:, None] * scale)[-1] < 1e-3)


def _semidefinite_cholesky(C):
    """Lower triangular factor; a pivot that is rounding error is 0, with what is below it."""
    q = len(C)
    L, C = np.zeros((q, q)), C.copy()
    for j in range(q):
        pivot = C[j, j]
        if pivot > 1e-14 * max(np.abs(C).max(), 1e-300):
            L[j:, j] = C[j:, j] / np.sqrt(pivot)
            C[j:, j:] -= np.outer(L[j:, j], L[j:, j])
    return L


def judge_mixed(design, fit, caught, verdict, deep):
    """Compare a fit with what the judge finds."""
    numbers = [fit.coef_, fit.intercept_, fit.log_likelihood_, *(c.to_numpy() for c in fit.covariance_.values())]
    if not all(np.isfinite(part).all() for part in numbers):
        verdict.fault("non-finite", f"coef {fit.coef_}, log-likelihood {fit.log_likelihood_}")
        return
    try:
        judge = MixedJudge(design, fit, caught)
    except MoreColumnsThanRows as error:
        verdict.fault("aliasing", str(error))
        return
    lik, first = judge.likelihood, int(judge.intercept)
    warned = {name: f"{name}Warning" in caught for name in ("Separation", "SingularFit", "Convergence", "Laplace")}
    x = judge.point(fit)
    here = lik.value(x)
    verdict.note(f"reported {fit.log_likelihood_:.9f}, the judge's at the reported parameters {here:.9f}")
    point = np.array2string(x, precision=5)
    verdict.note(f"the fit's point {point}, converged {fit.converged_}, {fit.n_iter_} iterations")

    # few nodes in several dimensions: the value depends on the factor of a singular covariance
    comparable = judge.nodes == 1 or lik.q == 1 or not fit.is_singular_
    if comparable and abs(here - fit.log_likelihood_) > VALUE_TOL * (1 + abs(here)):
        verdict.fault("value", f"log_likelihood_ {fit.log_likelihood_:.8f}, at the reported parameters {here:.8f}")
    if not comparable:
        here = max(here, fit.log_likelihood_)

    fine = ~np.append(np.zeros(first, dtype=bool), judge.aliased)
    errors = np.diag(judge.vcov)[fine]
    bad_errors = not (np.isfinite(errors).all() and (errors > 0).all())
    if bad_errors and not (warned["Separation"] or warned["Convergence"] or caught.mentions("standard error")):
        verdict.fault("standard errors", f"variances of coefficients are {errors}, without a warning")

    apart = separated(judge.fixed.F, judge.sign)
    value, g = lik.value_and_gradient(x)
    H = lik.hessian(x, g)
    step, decrement, definite = _newton(g, H)
    verdict.note(f"at the fit's point: decrement {decrement:.2e}, definite {definite}; separated {apart}")
    short = HIGHER / 10
    suspicious = not apart and (not fit.converged_ or warned["Separation"] or not definite or decrement > short)

    settled = definite and decrement < 1e-8
    locally_best = decrement < 1e-6 and _curves_down(H)
    best, best_x, where = judge.highest(x, here, settled, deep or suspicious, not deep, verdict.note)
    if suspicious or best > here + short:
        ahead_x, ahead = judge.climb(x, MOST_CLIMBS)
        verdict.note(f"from the fit's point: {ahead:.8f} at {np.array2string(ahead_x, precision=4)}")
        if ahead > best + 1e-3 * short:
            best, best_x, where = ahead, ahead_x, "the fit's point"
    inside = definite and not judge.is_far(x) and not apart
    if suspicious or best > here + short:
        best_x, best, best_decrement, best_H, best_definite = judge.polish(best_x, best)
        inside = best_definite and best_decrement < 1e-6 and not judge.is_far(best_x) and not apart
        verdict.note(
            f"best {best:.9f} from {where}, decrement {best_decrement:.1e}, definite {best_definite}, at "
            f"{np.array2string(best_x, precision=5)}; a finite maximum: {inside}"
        )
    lower = best - here
    sds, best_sds = x[lik.k :], best_x[lik.k :]
    what = (
        f"{lower:.3g} below {best:.6f} at {np.array2string(best_sds, precision=3)}, the fit's "
        f"{np.array2string(sds, precision=3)}"
    )
    there = np.abs(best_sds).max()
    far_out = there > FAR or (there > REMOTE and (np.abs(sds).max() > REMOTE or lower < 1.0))
    if lower > HIGHER and locally_best and far_out:
        verdict.note(f"not held against the fit: {what}")
        verdict.state, lower = "maximum, a higher one far out", 0.0
    if lower > HIGHER and locally_best and warned["Laplace"]:
        verdict.note(f"told by a warning: {what}")
        verdict.state, lower = "maximum, a higher one told of", 0.0
    if not fit.converged_ or warned["Convergence"]:
        verdict.state = "not converged"
        if not warned["Convergence"]:
            verdict.fault("silent", "converged_ is False without a ConvergenceWarning")
        if inside:
            verdict.fault("not converged", f"a finite maximum exists; {what}; {fit.n_iter_} iterations")
    elif warned["Separation"]:
        verdict.state = "separated"
        if inside:
            verdict.fault("false separation", f"the maximum is finite; {what}")
        elif lower > HIGHER:
            verdict.fault("separated and lower", what)
    else:
        if verdict.state == "ok":
            verdict.state = "singular" if warned["SingularFit"] else "converged"
        if lower > HIGHER:
            verdict.fault("false singular" if warned["SingularFit"] else "lower", what)
        elif apart:
            verdict.fault("silent infinity", f"the classes are separated; coefficients {fit.coef_[0]}")
        elif not inside and not locally_best and rises(judge, x):
            verdict.fault("silent infinity", f"the likelihood rises without end; the fit's {what}")
    if fit.is_singular_ != warned["SingularFit"]:
        verdict.fault("silent", f"is_singular_ {fit.is_singular_}, SingularFitWarning {warned['SingularFit']}")

    ordinary = definite and lower < HIGHER and not apart and np.abs(sds).max(initial=0.0) < REMOTE
    if fit.converged_ and not warned["Separation"] and ordinary and not bad_errors:
        compare_errors(judge, fine, H, decrement, verdict)


def rises(judge, x):
    """Whether the likelihood does not fall along the ray through x, to twenty times as far."""
    lik = judge.likelihood
    try:
        values = [lik.value(x * t) for t in (1, 2, 5, 20)]
    except ArithmeticError:  # too far out for the judge's modes
        return False
    return bool(np.all(np.diff(values) > -1e-9 * (1 + np.abs(values[0]))))


def compare_errors(judge, fine, hessian, decrement, verdict):
    """Standard errors of coefficients against the inverse of the judge's information."""
    k = judge.likelihood.k
    scale = 1 / np.sqrt(np.diag(-hessian))
    scaled = -hessian * scale[:, None] * scale
    values = np.linalg.eigvalsh(scaled)
    if values[0] < 1e-4 or decrement > 1e-7:
        return
    covariance = np.linalg.inv(scaled) * scale[:, None] * scale
    J = judge.fixed.to_natural
    mine = np.sqrt(np.diag(J @ covariance[:k, :k] @ J.T))
    theirs = np.sqrt(np.diag(judge.vcov)[fine])
    off = np.abs(theirs / mine - 1).max()
    verdict.note(f"standard errors differ by {off:.1e} (relative)")
    if off > ERROR_TOL:
        verdict.fault("standard errors", f"reported {theirs}, by the judge's information {mine}")
