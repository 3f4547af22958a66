"""Judges fits of mixed models: is the reported point the highest, is its value right, are its standard errors?

The judge's likelihood is that of :mod:`robustness_likelihood`, in coordinates of its own: orthogonal columns for
the fixed effects, standardised columns for the random ones. SciPy's BFGS climbs from several starts; what it finds
is polished by Newton's method with differences of the exact gradient.
"""

from dataclasses import dataclass

import numpy as np
from robustness_columns import FixedColumns, MoreColumnsThanRows, logistic_regression, separated
from robustness_likelihood import LogLikelihood, Term
from scipy.optimize import minimize

from sklmm import MixedLogisticRegression

HIGHER = 1e-4  # log-likelihood units
SHORT = HIGHER / 10  # what makes the judge look again
VALUE_TOL = 1e-6  # of a reported log-likelihood, relative to 1 + |value|
ERROR_TOL = 1e-3  # of standard errors, relative
EXACT = 1e-10  # Newton decrement of the judge's maxima

# A maximum with a standard deviation beyond REMOTE is one of approximations to groups that are told apart
# perfectly. A fit that is at another maximum is left alone unless it misses more than LITTLE. What is beyond FAR (a
# standard deviation, or the fixed part of the linear predictor, in its root mean square) counts as infinite.
REMOTE, LITTLE, FAR = 20.0, 1.0, 60.0
NO_END = 200.0  # where climbing is given up

STARTS = {"one": (0.5, 2.0, 8.0), "several": (0.7, 6.0), "thorough": (0.3, 1.0, 3.0, 10.0), "large": (2.0,)}  # sds
LARGE = 5000  # rows of designs with fewer starts
MOST_CLIMBS, FEW_CLIMBS = 200, 15  # iterations of a climb
NEARLY = 20.0  # a short climb that ended less than this below the fit is continued
COARSE_NODES = 9  # where starts are tried before the nodes of the fit are


def fit_mixed_design(design):
    model = MixedLogisticRegression(**design.params, n_threads=1)
    return model.fit(design.X, design.y, groups=design.groups, sample_weight=design.weights)


@dataclass(eq=False)
class Peak:
    """Where a climb ended."""

    x: np.ndarray
    value: float
    start: str
    decrement: float = np.inf
    definite: bool = False


class MixedJudge:
    """The likelihood of a design and the fit's place in it.

    Attributes
    ----------
    x : the reported parameters in the judge's coordinates: gamma, then the entries of Lambda.
    here : the judge's log-likelihood there.
    gradient, hessian, decrement : likewise; the decrement is what a Newton step would gain.
    definite : whether the Hessian is negative definite.
    locally_best : whether the point is a maximum, or nowhere curves upwards.
    apart : whether the classes are separated.
    """

    def __init__(self, design, fit, caught):
        counted = np.ones(len(design.y), dtype=bool) if design.weights is None else design.weights > 0
        self.w = np.ones(len(design.y))[counted] if design.weights is None else design.weights[counted]
        X, self.y = design.X[counted], design.y[counted]
        self.intercept = design.params.get("fit_intercept", True)
        self.vcov = fit.vcov_.to_numpy()
        lost = np.isnan(np.diag(self.vcov))[int(self.intercept) :] & (fit.coef_[0] == 0)
        aliased = lost & ("AliasedFeaturesWarning" in caught)
        self.identified = ~np.append(np.zeros(int(self.intercept), dtype=bool), aliased)
        self.fixed = FixedColumns(X, np.flatnonzero(~aliased), self.intercept)
        self.terms, self.maps = [], []
        for factor, intercept, slopes, correlated in design.terms:
            codes = np.unique(design.groups[factor].to_numpy()[counted], return_inverse=True)[1]
            Z, T = self._columns(X, intercept, slopes, correlated)
            self.terms.append(Term(codes, Z, correlated))
            self.maps.append(T)
        nodes = design.params.get("n_quadrature", 1)
        self.likelihood = self.coarse = LogLikelihood(self.y, self.w, self.fixed.F, self.terms, nodes)
        coarse = COARSE_NODES if self.likelihood.q == 1 else 1
        if nodes > coarse:
            self.coarse = LogLikelihood(self.y, self.w, self.fixed.F, self.terms, coarse)
        # few nodes in several dimensions: the value depends on which factor of a singular covariance is taken
        self.comparable = nodes == 1 or self.likelihood.q == 1 or not fit.is_singular_
        self.k = self.likelihood.k
        self.apart = separated(self.fixed.F, 2.0 * self.y - 1)
        self._look_at(fit, design)
        # A covariance matrix has half the digits of its factor: predictors that such sds make are wrong by 1e-4.
        self.comparable &= self.likelihood.q == 1 or self.sds(self.x) < 1e4

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

    def _look_at(self, fit, design):
        parts = [self.fixed.gamma(fit.intercept_[0], fit.coef_[0])]
        for term, T, (factor, *_) in zip(self.terms, self.maps, design.terms, strict=True):
            Lambda = _semidefinite_cholesky(T @ fit.covariance_[factor].to_numpy() @ T.T)
            parts.append(Lambda[term.row, term.col])
        self.x = np.concatenate(parts)
        self.here = self.likelihood.value(self.x)
        self.gradient = self.likelihood.value_and_gradient(self.x)[1]
        self.hessian = self.likelihood.hessian(self.x, self.gradient)
        _, self.decrement, self.definite = _newton(self.gradient, self.hessian)
        self.locally_best = self.decrement < 1e-6 and _curves_down(self.hessian)

    def sds(self, x):
        """The largest entry of a covariance factor."""
        return np.abs(x[self.k :]).max()

    def is_far(self, x):
        """Whether parameters are so large that they count as infinite."""
        return self.sds(x) > FAR or np.sqrt(x[: self.k] @ x[: self.k]) > FAR

    def is_excused(self, peak):
        """Whether a fit that is at a maximum need not know of this one."""
        remote = self.sds(peak.x) > REMOTE and (self.sds(self.x) > REMOTE or peak.value < self.here + LITTLE)
        return self.locally_best and (remote or self.sds(peak.x) > FAR)

    def is_finite(self, peak):
        """Whether a polished peak is a maximum of finite parameters."""
        return peak.definite and peak.decrement < 1e-6 and not self.is_far(peak.x) and not self.apart

    # ---- climbing

    def climb(self, x, start, most, known=(), coarse=False):
        """BFGS. Stops next to ends that are ``known``."""
        likelihood = self.coarse if coarse else self.likelihood
        best = Peak(x, -np.inf, start)

        def check(intermediate_result):
            at, value = intermediate_result.x, -intermediate_result.fun
            near = (np.abs(at - p.x).max() < 1e-4 * (1 + np.abs(p.x).max()) and value > p.value - 1e-6 for p in known)
            if np.abs(at).max() > NO_END or any(near):
                raise StopIteration

        def negative(x):
            if np.abs(x).max() > 2 * NO_END:
                return 1e100, np.zeros(x.size)
            try:
                value, gradient = likelihood.value_and_gradient(x)
            except ArithmeticError:  # too far out for the judge's modes
                return 1e100, np.zeros(x.size)
            if not (np.isfinite(value) and np.isfinite(gradient).all()):
                return 1e100, np.zeros(x.size)
            if value > best.value:
                best.x, best.value = x.copy(), value
            return -value, -gradient

        options = {"maxiter": most, "gtol": 1e-6, "hess_inv0": self._inverse_curvature(likelihood, x)}
        minimize(negative, x, jac=True, method="BFGS", callback=check, options=options)
        return best

    @staticmethod
    def _inverse_curvature(likelihood, x):
        """Inverse of the Hessian without its signs, exactly symmetric."""
        try:
            values, vectors = np.linalg.eigh(likelihood.hessian(x, likelihood.value_and_gradient(x)[1]))
        except (ArithmeticError, np.linalg.LinAlgError):  # too far out for the judge
            return np.eye(x.size)
        size = np.abs(values)
        root = vectors / np.sqrt(np.maximum(size, 1e-4 * size.max() + 1e-2))
        return root @ root.T

    def polish(self, peak):
        """Newton steps with differences of the gradient, while they lead up."""
        try:
            for _ in range(12):
                peak.value, g = self.likelihood.value_and_gradient(peak.x)
                step, peak.decrement, peak.definite = _newton(g, self.likelihood.hessian(peak.x, g))
                lengths = (a for a in 0.25 ** np.arange(7) if self.likelihood.value(peak.x + a * step) >= peak.value)
                if peak.decrement < EXACT or (a := next(lengths, None)) is None:
                    break
                peak.x = peak.x + a * step
        except ArithmeticError:  # too far out for the judge's modes
            peak.decrement = 1e10

    def starts(self, thorough):
        """From pooled coefficients, by standard deviation; 0 itself is plain logistic regression and needs no climb."""
        n_theta = self.likelihood.n_params - self.k
        diagonal = np.concatenate([term.row == term.col for term in self.terms])
        gamma, _ = logistic_regression(self.fixed.F, self.y, self.w)
        yield "sd 0", np.append(gamma, np.zeros(n_theta))
        gamma = gamma * min(1.0, 30.0 / max(np.sqrt(gamma @ gamma), 1e-300))
        kind = "thorough" if thorough else "one" if n_theta == 1 else "several"
        for sd in STARTS["large" if len(self.y) >= LARGE else kind]:
            yield f"sd {sd:g}", np.append(gamma * np.sqrt(1 + 0.346 * sd**2), sd * diagonal)
        if (thorough or len(self.terms) > 1) and n_theta > 1 and len(self.y) < LARGE:
            for j in np.flatnonzero(diagonal):
                yield f"sd {j} alone", np.append(gamma, 2.0 * (np.arange(n_theta) == j))

    def peaks(self, thorough):
        """Ends of climbs from all starts; unless ``thorough``, climbs are left off where they lead nowhere new."""
        known = [Peak(self.x, self.here, "the fit's point")] if self.definite and self.decrement < 1e-8 else []
        for start, at in self.starts(thorough):
            if not at[self.k :].any():
                peak = Peak(at, self.likelihood.value(at), start)
            else:
                if self.coarse is not self.likelihood:
                    at = self.climb(at, start, 60 if thorough else FEW_CLIMBS, known, coarse=True).x
                peak = self.climb(at, start, MOST_CLIMBS if thorough else FEW_CLIMBS, known)
                if not (thorough or self.apart) and self._elsewhere(peak) and peak.value > self.here - NEARLY:
                    peak = self.climb(peak.x, start, 2 * FEW_CLIMBS, known)
            known.append(peak)
            yield peak

    def _elsewhere(self, peak):
        """Whether a climb ended short of the fit's point."""
        return peak.value < self.here and np.linalg.norm(peak.x - self.x) > 0.05 * (1 + np.linalg.norm(self.x))

    def highest(self, suspicious, deep, note):
        """The peak to hold against the fit, polished if it is another point; and one that is excused, or None."""
        fitted = Peak(self.x, self.here, "the fit's point", self.decrement, self.definite)
        higher, excused = [], None

        def take(peak):
            """Keep what is higher. Returns whether that settles it."""
            nonlocal excused
            note(f"from {peak.start}: {peak.value:.8f} at {np.array2string(peak.x, precision=4)}")
            if peak.value <= self.here + SHORT or self.is_excused(peak):
                excused = peak if peak.value > self.here + HIGHER else excused
                return False
            higher.append(peak)
            return not deep and peak.value > self.here + HIGHER and not self.is_far(peak.x)

        def polished():
            """The highest peak that is not excused after all."""
            nonlocal excused
            while higher:
                peak = max(higher, key=lambda peak: peak.value)
                if not np.isfinite(peak.decrement):
                    self.polish(peak)
                    note(f"polished: {peak.value:.9f}, decrement {peak.decrement:.1e}, definite {peak.definite}")
                if not self.is_excused(peak):
                    return peak
                excused = peak
                higher.remove(peak)
            return None

        if suspicious:
            peak = self.climb(self.x, "the fit's point", MOST_CLIMBS)
            self.polish(peak)
            if take(peak) or (self.is_finite(peak) and not deep):
                return peak, excused
            if peak.value >= self.here:
                fitted = peak
            suspicious = not self.is_far(peak.x)  # what leads to infinity is not looked at long
        for peak in self.peaks(deep or suspicious):
            if take(peak) and polished() is not None:
                break
        return polished() or fitted, excused

    def rises(self):
        """Whether the likelihood does not fall along the ray through the fit's point, to twenty times as far."""
        try:
            values = [self.likelihood.value(self.x * t) for t in (1, 2, 5, 20)]
        except ArithmeticError:  # too far out for the judge's modes
            return False
        return bool(np.all(np.diff(values) > -1e-9 * (1 + np.abs(values[0]))))

    def standard_errors(self):
        """Of the identified coefficients, from the information at the fit's point; None if that is ill conditioned."""
        hessian = self.likelihood.hessian(self.x)
        scale = 1 / np.sqrt(np.abs(np.diag(hessian)))
        scaled = -hessian * scale[:, None] * scale
        if np.linalg.eigvalsh(scaled)[0] < 1e-4 or self.decrement > 1e-7:
            return None
        covariance = (np.linalg.inv(scaled) * scale[:, None] * scale)[: self.k, : self.k]
        return np.sqrt(np.diag(self.fixed.to_natural @ covariance @ self.fixed.to_natural.T))


def _newton(gradient, hessian):
    """A step uphill, what it gains to second order, and whether the Hessian is negative definite."""
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    scaled = -hessian * scale[:, None] * scale
    if not np.abs(scaled).max() < 1e100:  # where all outcomes are certain
        return np.zeros_like(gradient), np.inf, False
    values, vectors = np.linalg.eigh(scaled)
    size = np.maximum(np.abs(values), 1e-9)
    inner = vectors.T @ (scale * gradient)
    return scale * (vectors @ (inner / size)), 0.5 * float((inner**2 / size).sum()), bool(values[0] > 1e-9)


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
    x, here, reported = judge.x, judge.here, float(fit.log_likelihood_)
    verdict.note(f"reported {reported:.9f}, the judge's at the reported parameters {here:.9f}")
    at = np.array2string(x, precision=5)
    verdict.note(f"the fit's point {at}, converged {fit.converged_}, {fit.n_iter_} iterations")
    verdict.note(f"there: decrement {judge.decrement:.2e}, definite {judge.definite}; separated {judge.apart}")
    if not judge.comparable:
        judge.here = max(here, reported)
    elif abs(here - reported) > VALUE_TOL * (1 + abs(here)):
        verdict.fault("value", f"log_likelihood_ {reported:.8f}, at the reported parameters {here:.8f}")
    if fit.is_singular_ != ("SingularFitWarning" in caught):
        verdict.fault("silent", f"is_singular_ {fit.is_singular_} and SingularFitWarning do not agree")
    if (not fit.converged_) != ("ConvergenceWarning" in caught):
        verdict.fault("silent", f"converged_ {fit.converged_} and ConvergenceWarning do not agree")

    separation = "SeparationWarning" in caught
    suspicious = not fit.converged_ or separation or not judge.definite or judge.decrement > SHORT
    best, excused = judge.highest(suspicious and not judge.apart, deep, verdict.note)
    lower = best.value - judge.here
    what = (
        f"{lower:.3g} below {best.value:.6f} at {np.array2string(best.x[judge.k :], precision=3)}, the fit's "
        f"{np.array2string(x[judge.k :], precision=3)}"
    )
    if not fit.converged_:
        verdict.state = "not converged"
        if judge.is_finite(best):
            verdict.fault("not converged", f"a finite maximum exists; {what}; {fit.n_iter_} iterations")
    elif separation:
        verdict.state = "separated"
        if judge.is_finite(best):
            verdict.fault("false separation", f"the maximum is finite; {what}")
        elif lower > HIGHER:
            verdict.state += ", a higher point elsewhere"
            verdict.note(f"not held against a fit that says where it stopped: {what}")
    else:
        verdict.state = "singular" if fit.is_singular_ else "converged"
        told = caught.mentions("has another maximum") or caught.mentions("off by more than a standard error")
        if lower > HIGHER and judge.locally_best and told:
            verdict.state += ", a higher maximum told of"
            verdict.note(f"told of by a warning: {what}")
        elif lower > HIGHER:
            verdict.fault("false singular" if fit.is_singular_ else "lower", what)
        elif judge.apart:
            verdict.fault("silent infinity", f"the classes are separated; coefficients {fit.coef_[0]}")
        elif not judge.locally_best and judge.rises():
            verdict.fault("silent infinity", f"the likelihood rises without end; {what}")
    if excused is not None:
        verdict.state += ", a higher maximum far out"
        verdict.note(f"not held against the fit: {excused.value - here:.3g} higher at {excused.x[judge.k :]}")
    ordinary = judge.sds(x) < REMOTE and not judge.apart and lower < HIGHER
    judge_errors(judge, caught, verdict, fit.converged_ and not separation and ordinary)


def judge_errors(judge, caught, verdict, is_maximum):
    """Standard errors are numbers; at a maximum they are those of the judge's information."""
    variances = np.diag(judge.vcov)[judge.identified]
    if not (np.isfinite(variances).all() and (variances > 0).all()):
        if not ("SeparationWarning" in caught or "ConvergenceWarning" in caught or caught.mentions("standard error")):
            verdict.fault("standard errors", f"variances of coefficients are {variances}, without a warning")
        return
    if not (is_maximum and judge.definite) or (mine := judge.standard_errors()) is None:
        return
    off = np.abs(np.sqrt(variances) / mine - 1).max(initial=0.0)
    verdict.note(f"standard errors differ by {off:.1e} (relative)")
    if off > ERROR_TOL:
        verdict.fault("standard errors", f"reported {np.sqrt(variances)}, by the judge's information {mine}")
