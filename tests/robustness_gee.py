"""Judges estimating equations: are the reported coefficients a solution at the reported working correlation, is that
the one that its moments give there, and are the covariances those of both?

Everything from the definitions, with dense matrices by cluster (a closed form for exchangeable ones).
"""

import numpy as np
from robustness_columns import FixedColumns, MoreColumnsThanRows, logistic_regression, separated
from scipy.optimize import brentq
from scipy.special import expit, log_expit

from sklmm import GEELogisticRegression
from sklmm.estimating import Fixed, MDependent

STEP_TOL = 1e-6  # of what Fisher scoring would still do, in standard errors
ALPHA_TOL = 1e-6
ERROR_TOL = 1e-4  # of standard errors, relative
QUASI_TOL = 1e-8  # relative to 1 + |value|
INSIDE = 1e-3  # how far inside its range a correlation is put


def fit_gee_design(design):
    params = dict(design.params)
    correlation, lags = params.pop("correlation"), params.pop("lags", 1)
    if correlation == "m-dependent":
        correlation = MDependent(lags)
    if correlation == "fixed":
        correlation = Fixed(design.matrix, np.arange(len(design.matrix)))
    model = GEELogisticRegression(correlation, **params, n_threads=1)
    return model.fit(design.X, design.y, groups=design.groups["a"], sample_weight=design.weights, time=design.time)


class Reference:
    """The equations of a design, its rows sorted by cluster and time."""

    def __init__(self, design, aliased):
        w = np.ones(len(design.y)) if design.weights is None else design.weights
        codes = design.groups["a"].to_numpy()
        time = np.zeros(len(codes)) if design.time is None else design.time
        rows = np.lexsort((time, codes))
        rows = rows[w[rows] > 0]
        self.w, self.y, self.time = w[rows], design.y[rows], time[rows]
        self.sign = 2.0 * self.y - 1
        fit_intercept = design.params.get("fit_intercept", True)
        self.fixed = FixedColumns(design.X[rows], np.flatnonzero(~aliased), fit_intercept)
        self.F, self.p = self.fixed.F, self.fixed.F.shape[1]
        _, self.start, self.sizes = np.unique(codes[rows], return_index=True, return_counts=True)
        self.code = np.repeat(np.arange(self.sizes.size), self.sizes)
        self.kind, self.ddof = design.params["correlation"], design.params["ddof_correction"]
        self.lags, self.matrix = design.params.get("lags", 1), design.matrix
        self.counts = self.ddof and self.kind in ("independence", "exchangeable")
        self.N = self.w.sum()
        self.batches = [np.flatnonzero(self.sizes == size) for size in np.unique(self.sizes)]
        self.unit = 1.0
        if self.kind == "m-dependent":
            gaps = np.diff(np.unique(self.time))
            self.unit = float(np.gcd.reduce(gaps.astype(int))) if gaps.size else 1.0
        self.times = np.unique(self.time)
        if self.kind in ("ar1", "unstructured", "m-dependent"):
            self._pair()

    def sums(self, values):
        return np.add.reduceat(values, self.start, axis=0)

    def _pair(self):
        """All pairs of rows of a cluster, the earlier one first."""
        first, second = [], []
        for clusters in self.batches:
            j, k = np.triu_indices(self.sizes[clusters[0]], 1)
            first.append((self.start[clusters][:, None] + j).ravel())
            second.append((self.start[clusters][:, None] + k).ravel())
        self.j, self.k = np.concatenate(first), np.concatenate(second)
        self.gap = self.time[self.k] - self.time[self.j]

    # ---- moments

    def residuals(self, gamma):
        eta = self.F @ gamma
        return np.sqrt(expit(eta) * expit(-eta)), self.sign * np.exp(-0.5 * self.sign * eta)

    def dispersion(self, e):
        spare = self.N - self.p * self.ddof
        return (self.w @ e**2) / (spare if spare > 0 else self.N), spare > 0

    def moments(self, gamma):
        """Dispersion, alpha by its definition, and whether the definition has positive divisors."""
        _, e = self.residuals(gamma)
        phi, defined = self.dispersion(e)
        w, p = self.w, self.p * self.ddof
        if self.kind in ("independence", "fixed"):
            return phi, np.zeros(0), defined
        if self.kind == "exchangeable":
            if self.ddof:
                sums, N = self.sums(w * e), self.sums(w)
                top, pairs = (sums**2).sum() - w @ e**2, (N * (N - 1)).sum()
                if self.sizes.max() == 1:
                    return phi, np.zeros(1), defined
                return (phi, *_ratio(top, phi * (pairs - 2 * p), top / (phi * pairs) if pairs > 0 else 0.0, defined))
            top = (self.sums(w * e) ** 2 - self.sums(w**2 * e**2)).sum()
            pairs = (self.sums(w) ** 2 - self.sums(w**2)).sum()
            return phi, np.array([top / (phi * pairs) if self.sizes.max() > 1 else 0.0]), defined
        if not self.j.size:
            return phi, None, defined
        ee, ww = e[self.j] * e[self.k], w[self.j] * w[self.k]
        ww = np.sqrt(ww) if self.ddof else ww
        if self.kind == "m-dependent":
            alpha = np.zeros(self.lags)
            for lag in range(1, self.lags + 1):
                at = np.round(self.gap / self.unit) == lag
                if at.any():
                    top, pairs = (ww * ee)[at].sum(), ww[at].sum()
                    defined &= pairs > p
                    alpha[lag - 1] = top / (phi * (pairs - p if pairs > p else pairs))
            return phi, alpha, defined
        if self.kind == "unstructured":
            scale = self.cluster_dispersion(e) if self.ddof else phi
            n = self.times.size
            place = np.searchsorted(self.times, self.time[self.j]) * n + np.searchsorted(self.times, self.time[self.k])
            top, pairs = np.bincount(place, ww * ee, n * n), np.bincount(place, ww, n * n)
            alpha = np.divide(top, scale * pairs, out=np.zeros(n * n), where=pairs > 0).reshape(n, n)
            return phi, alpha[np.triu_indices(n, 1)], defined
        return phi, self._ar1(e, ww, ee, phi), defined

    def cluster_dispersion(self, e):
        """The mean over clusters of their mean squared residuals."""
        return (self.sums(self.w * e**2) / self.sizes).sum() / (self.sums(self.w) / self.sizes).sum()

    def _ar1(self, e, ww, ee, phi):
        """The alphas that its definition allows: roots of the moment equation, or minima of the sum of squares."""
        whole = np.all(self.gap % 1 == 0)
        grid = np.linspace(-1 if whole else 0, 1, 1000)[1:-1]  # without 0
        if self.ddof:
            near = self.k == self.j + 1
            weight = ww[near] / (self.sizes[self.code[self.j[near]]] - 1)
            gaps, which = np.unique(self.gap[near], return_inverse=True)
            scale, counts = self.cluster_dispersion(e), np.bincount(which, weight)
            target = weight @ ee[near]

            def excess(alpha):
                return scale * (_powers(np.expand_dims(alpha, -1), gaps) @ counts) - target

            self.ar1_misfit = lambda alpha: abs(excess(alpha)) / (scale * counts.sum())
        else:
            gaps, which = np.unique(self.gap, return_inverse=True)
            counts, means = np.bincount(which, ww), np.bincount(which, ww * ee / phi)
            means = means / counts

            def excess(alpha):  # half the slope of the loss; alpha is not 0
                size = _powers(np.expand_dims(alpha, -1), gaps)
                return (gaps * size * (size - means)) @ counts / alpha

            loss = (means - _powers(grid[:, None], gaps)) ** 2 @ counts
            least = loss.min()
            total = counts @ means**2 + counts.sum()
            self.ar1_misfit = lambda alpha: max(counts @ (means - _powers(alpha, gaps)) ** 2 - least, 0.0) / total
        values = excess(grid)
        roots = [brentq(excess, grid[i], grid[i + 1], xtol=1e-14) for i in np.flatnonzero(values[:-1] * values[1:] < 0)]
        roots += list(grid[values == 0])
        if not self.ddof and roots:
            roots = [min(roots, key=self.ar1_misfit)]
        if not roots:
            return np.array([grid[np.argmin(np.abs(values))] if self.ddof else grid[np.argmin(loss)]])
        return np.array([min(roots, key=abs)])

    # ---- equations

    def score(self, gamma, alpha):
        """Each cluster's score, and the sensitivity; both without the dispersion."""
        s, e = self.residuals(gamma)
        root = np.sqrt(self.w)
        A, E = (s * root)[:, None] * self.F, root * e
        if self.kind == "independence" or alpha is None:
            inverse_A = A
        elif self.kind == "exchangeable":
            q = root if self.counts else np.ones(len(e))
            a = alpha[0]
            share = a / (1 - a + a * self.sums(q**2))
            inverse_A = (A - q[:, None] * (share[:, None] * self.sums(q[:, None] * A))[self.code]) / (1 - a)
        else:
            inverse_A = np.empty_like(A)
            for clusters in self.batches:
                rows = self.start[clusters][:, None] + np.arange(self.sizes[clusters[0]])
                inverse_A[rows] = np.linalg.solve(self.correlation(self.time[rows], alpha), A[rows])
        return self.sums(inverse_A * E[:, None]), A.T @ inverse_A

    def correlation(self, t, alpha):
        """Working correlations of clusters with these times, (n_clusters, n, n)."""
        gap = np.abs(t[:, :, None] - t[:, None, :])
        if self.kind == "ar1":
            return _powers(alpha[0], gap)
        if self.kind == "m-dependent":
            lag = np.round(gap / self.unit).astype(int)
            return np.concatenate([[1.0], alpha, [0.0]])[np.minimum(lag, len(alpha) + 1)]
        place = np.searchsorted(self.times, t)
        R = self.matrix
        if self.kind == "unstructured":
            R = np.eye(self.times.size)
            j, k = np.triu_indices(len(R), 1)
            R[j, k] = R[k, j] = alpha
        else:
            place = t.astype(int)
        return R[place[:, :, None], place[:, None, :]]

    def within_range(self, alpha):
        """alpha, put just inside its range where it is outside, and whether it was."""
        if alpha is None or self.kind in ("independence", "fixed"):
            return alpha, False
        if self.kind == "exchangeable":
            most = max(self.sums(self.w).max() if self.counts else 0.0, self.sizes.max())
            low, high = -1 / max(most - 1, 1), 1.0
            inside = np.clip(alpha, low * (1 - INSIDE), high * (1 - INSIDE))
        elif self.kind == "ar1":
            inside = np.clip(alpha, -1 + INSIDE, 1 - INSIDE)
        else:
            least = 1.0
            for clusters in self.batches:
                t = self.time[self.start[clusters][:, None] + np.arange(self.sizes[clusters[0]])]
                least = min(least, np.linalg.eigvalsh(self.correlation(t, alpha)).min())
            return (alpha, False) if least > INSIDE else (alpha * (1 - INSIDE) / (1 - least), True)
        return inside, bool(inside[0] != alpha[0])

    def solve(self, gamma, most=250):
        """Damped Fisher scoring in turn with moments. The solution and whether alpha is at its bound, or None."""
        try:
            return self._solve(gamma, most)
        except np.linalg.LinAlgError:  # probabilities of 0 and 1
            return None

    def _solve(self, gamma, most):
        scale, last = 1.0, np.inf
        alpha, bound = self.within_range(self.moments(gamma)[1])
        for _ in range(most):
            U, S = self.score(gamma, alpha)
            step = np.linalg.solve(S, U.sum(axis=0))
            length = np.sqrt(max(step @ S @ step, 0.0))
            if not np.isfinite(length) or np.linalg.norm(gamma) > 200:
                return None
            scale = max(scale / 2, 1 / 64) if length > 1.5 * last else min(1.0, 1.5 * scale)
            last = length
            gamma = gamma + scale * min(1.0, 3.0 * np.sqrt(self.N) / max(length, 1e-300)) * step
            new, bound = self.within_range(self.moments(gamma)[1])
            moved = 0.0 if new is None else np.abs(new - alpha).max(initial=0.0)
            alpha = new if new is None else alpha + scale * (new - alpha)
            still = np.linalg.norm(step) < 1e-6 * (1 + np.linalg.norm(gamma))
            if still and length < 1e-8 * np.sqrt(max(1.0, self.N / len(self.w))) and moved < 1e-8:
                return gamma, bound
        return None


def _ratio(top, bottom, otherwise, defined):
    """An alpha that is top / bottom, if that is defined."""
    return (np.array([top / bottom]), defined) if bottom > 0 else (np.array([otherwise]), False)


def _powers(alpha, gaps):
    sign = np.where((alpha < 0) & (np.round(gaps) % 2 == 1), -1.0, 1.0)
    return sign * np.abs(alpha) ** gaps


def judge_gee(design, fit, caught, verdict, deep):
    """Compare a fit with the equations' definitions."""
    numbers = [fit.coef_, fit.intercept_, fit.correlation_params_, [fit.dispersion_, fit.quasi_likelihood_]]
    if not all(np.isfinite(part).all() for part in numbers):
        verdict.fault("non-finite", f"coef {fit.coef_}, alpha {fit.correlation_params_}, {fit.quasi_likelihood_}")
        return
    first = int(design.params.get("fit_intercept", True))
    naive, robust = fit.vcov("naive").to_numpy(), fit.vcov("robust").to_numpy()
    nan = np.isnan(np.diag(naive))[first:]
    aliased = nan & (fit.coef_[0] == 0) if "AliasedFeaturesWarning" in caught else np.zeros_like(nan)
    try:
        reference = Reference(design, aliased)
    except MoreColumnsThanRows as error:
        verdict.fault("aliasing", str(error))
        return
    fine = ~np.append(np.zeros(first, dtype=bool), aliased)
    variances = np.concatenate([np.diag(naive)[fine], np.diag(robust)[fine]])
    apart = separated(reference.F, reference.sign)
    kinds = "Separation", "Convergence", "WorkingCorrelation", "FewClusters"
    warned = {name: f"{name}Warning" in caught for name in kinds}
    spoken = warned["Separation"] or warned["Convergence"] or caught.mentions("standard error")
    if not (np.isfinite(variances).all() and (variances > 0).all()) and not (spoken or warned["FewClusters"]):
        verdict.fault("standard errors", f"variances are {variances}, without a warning")

    gamma = reference.fixed.gamma(fit.intercept_[0], fit.coef_[0])
    alpha = fit.correlation_params_
    alpha = None if alpha.size == 0 and reference.kind in ("unstructured", "m-dependent") else alpha
    verdict.note(f"the fit's point {np.array2string(gamma, precision=5)}, alpha {alpha}, converged {fit.converged_}, "
                 f"{fit.n_iter_} iterations; separated {apart}")  # fmt: skip
    independent, value = logistic_regression(reference.F, reference.y, reference.w)
    verdict.note(f"plain logistic regression {value:.8f} at {np.array2string(independent, precision=4)}")

    if not fit.converged_ or warned["Convergence"]:
        verdict.state = "not converged"
        if not warned["Convergence"]:
            verdict.fault("silent", "converged_ is False without a ConvergenceWarning")
    else:
        verdict.state = "separated" if warned["Separation"] else "converged"
    if verdict.state != "converged":
        if apart:
            return
        for name, start in (("independence", independent), ("the fit's point", gamma), ("0", 0 * gamma)):
            found = reference.solve(start)
            if found is not None and np.abs(found[0]).max() < 1e6:
                kind = "false separation" if warned["Separation"] else "not converged"
                kind += ", alpha at its bound" if found[1] else ""
                at = np.array2string(found[0][:8], precision=4)
                verdict.fault(kind, f"scoring finds a solution from {name}, {at}")
                return
        return
    if apart:
        verdict.fault("silent infinity", f"the classes are separated; coefficients {fit.coef_[0]}")
        return
    judge_solution(reference, fit, caught, verdict, gamma, alpha, warned)
    J = reference.fixed.to_natural
    U, S = reference.score(gamma, alpha)
    bread = np.linalg.inv(S)
    for name, mine, theirs in (
        ("naive", fit.dispersion_ * bread, naive),
        ("robust", bread @ (U.T @ U) @ bread, robust),
    ):
        mine, theirs = (np.sqrt(np.diag(V)) for V in (J @ mine @ J.T, theirs[np.ix_(fine, fine)]))
        off = np.abs(theirs / mine - 1).max(initial=0.0)
        verdict.note(f"{name} standard errors differ by {off:.1e} (relative)")
        if off > ERROR_TOL and not (name == "robust" and warned["FewClusters"]):
            verdict.fault("standard errors", f"{name}: reported {theirs}, by definition {mine}")
    if reference.kind == "independence":
        mine = value
        if not reference.ddof:
            mine = log_expit(reference.sign * (reference.F @ independent)).sum()
        if abs(mine - fit.quasi_likelihood_) > QUASI_TOL * (1 + abs(mine)):
            verdict.fault("value", f"quasi_likelihood_ {fit.quasi_likelihood_:.9f}, by Newton's method {mine:.9f}")


def judge_solution(reference, fit, caught, verdict, gamma, alpha, warned):
    """The step that is left, the dispersion, the working correlation."""
    U, S = reference.score(gamma, alpha)
    total = U.sum(axis=0)
    per_row = reference.N / len(reference.w)
    left = np.sqrt(max(total @ np.linalg.solve(S, total), 0.0) / per_row)
    verdict.note(f"what scoring would still move: {left:.1e} standard errors")
    if not left < STEP_TOL:
        verdict.fault("no solution", f"converged, but scoring would move by {left:.2e} standard errors")
        return
    phi, defined_alpha, defined = reference.moments(gamma)
    if abs(phi / fit.dispersion_ - 1) > 1e-6:
        verdict.fault("dispersion", f"reported {fit.dispersion_}, by definition {phi}")
    spoken = warned["WorkingCorrelation"] or "LightWeightsWarning" in caught
    verdict.note(f"alpha {alpha}, by definition {defined_alpha}, defined {defined}")
    if not defined and not spoken:
        verdict.fault("alpha", f"{alpha}: the definition's divisor is not positive, and no warning says so")
    if spoken or not defined or alpha is None or defined_alpha is None:
        return
    if reference.kind == "ar1":
        off = reference.ar1_misfit(alpha[0]) - reference.ar1_misfit(defined_alpha[0])
    else:
        off = np.abs(alpha - defined_alpha).max(initial=0.0)
    if off > ALPHA_TOL:
        verdict.fault("alpha", f"reported {alpha}, by definition {defined_alpha}")
