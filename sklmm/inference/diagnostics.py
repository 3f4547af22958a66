"""Does the model fit? Quantile residuals, influence of clusters, normality of random effects.

A fitted model holds no rows: what looks at them takes them as arguments.

References
----------
Dunn PK, Smyth GK (1996). Randomized quantile residuals. Journal of Computational and Graphical Statistics 5, 236-244.

Preisser JS, Qaqish BF (1996). Deletion diagnostics for generalised estimating equations. Biometrika 83, 551-562.

Goldstein H (2011). Multilevel Statistical Models, 4th ed. Wiley.
"""

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, softmax
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklmm._base import one_dimensional
from sklmm._progress import effective_threads
from sklmm.design.covariance import RelativeCovariance
from sklmm.design.grouping import encode_groups
from sklmm.likelihood.base import FactorDesign, posterior_modes
from sklmm.likelihood.quadrature import hermite_grid
from sklmm.simulation import simulate_codes

from .marginal import parameter_covariance

__all__ = ["cluster_influence", "quantile_residuals", "random_effects_normality", "standardised_effects"]

MOST_SHAPIRO = 5000  # scipy's Shapiro-Wilk p-values are for samples up to this size


def read_outcome(estimator, y, n_rows):
    """The rows of the second class, as booleans."""
    y = np.asarray(one_dimensional(y, "y", n_rows))
    position = pd.Index(estimator.classes_).get_indexer(y)
    if (position < 0).any():
        raise ValueError(f"y holds labels that fit did not see; the classes are {estimator.classes_.tolist()}")
    return position == 1


# Quantile residuals ------------------------------------------------------------------------------------------


def quantile_residuals(
    estimator, X, y, groups=None, *, by=None, n_simulations=500, predict_effects="marginal", random_state=None
):
    """Where outcomes lie among those that the model would produce: uniform between 0 and 1 if it is right.

    A residual is the share of simulated outcomes below the observed one; ties, which 0 and 1 are full of, are broken at
    random. Without `by` there is a residual a row, which needs no simulation: the distribution of a row is its
    probability (Dunn and Smyth 1996). With `by` outcomes are summed first: sums of a group tell whether groups
    differ as the model says, which single rows cannot.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression or GEELogisticRegression
    X, y, groups
        As in `fit`: as a rule the rows of the fit.
    by : None, str or array-like of shape (n_samples,), default=None
        Labels to sum outcomes by; a str is a grouping factor of the model. Mixed models only: a marginal model does
        not say how the rows of a group are distributed together.
    n_simulations : int, default=500
        For `by`.
    predict_effects : {"marginal", "posterior", "mode", "zero"}, default="marginal"
        As in `MixedLogisticRegression.simulate`; "marginal" draws the random effects anew.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same residuals in every call.

    Returns
    -------
    residuals : Series
        By row, or by label. Residuals of different groups are independent; those of rows in one group are not, where
        random effects are averaged over ("marginal").
    """
    check_is_fitted(estimator)
    random = check_random_state(random_state)
    mixed = hasattr(estimator, "simulate")
    if by is None:
        p = _probability(estimator, X, groups, predict_effects)
        outcome = read_outcome(estimator, y, p.size)
        u = random.uniform(size=p.size)
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.Series(np.where(outcome, 1.0 - p * (1.0 - u), (1.0 - p) * u), index=index, name="quantile_residual")
    if not mixed:
        raise ValueError(
            "a marginal model does not say how the rows of a group are distributed together, so that their sums have "
            "no residuals: leave out by, or fit a MixedLogisticRegression"
        )
    if isinstance(n_simulations, bool) or not isinstance(n_simulations, (int, np.integer)) or n_simulations < 1:
        raise ValueError(f"n_simulations must be an integer >= 1, got {n_simulations!r}")
    rows = estimator._read_new_rows(X, groups)
    outcome = read_outcome(estimator, y, rows.X.shape[0])
    code, levels = labels_of_rows(estimator, rows, by)

    def sums(values):
        return np.bincount(code, weights=values, minlength=len(levels))

    observed = sums(outcome)
    below, equal = np.zeros(len(levels)), np.zeros(len(levels))
    for simulated in simulate_codes(estimator, rows, int(n_simulations), random, predict_effects):
        total = sums(simulated)
        below += total < observed
        equal += total == observed
    # The observed sum is one of n + 1 that are alike if the model is right: its rank, ties broken, is uniform.
    residuals = (below + random.uniform(size=len(levels)) * (equal + 1.0)) / (n_simulations + 1.0)
    return pd.Series(residuals, index=levels, name="quantile_residual")


def _probability(estimator, X, groups, effects):
    if hasattr(estimator, "simulate"):
        return estimator.predict_proba(X, groups=groups, predict_effects=effects)[:, 1]
    return estimator.predict_proba(X)[:, 1]


def labels_of_rows(estimator, rows, by):
    """Codes and levels of the labels that `by` stands for."""
    if not isinstance(by, str):
        return encode_groups(one_dimensional(by, "by", rows.X.shape[0]), "by")
    for factor in estimator._factors:
        if factor.name == by:
            if not rows.groups:
                raise ValueError(f"by={by!r} needs the groups of the rows: pass groups, as to fit")
            return encode_groups(factor.labels(rows.column), by)
    raise ValueError(f"{by!r} is no grouping factor of the model; there are {list(estimator.n_groups_)}")


# Influence of clusters ---------------------------------------------------------------------------------------


def cluster_influence(estimator, X, y, groups=None, *, time=None):
    """What each cluster does to the fixed effects: the change when it is left out, by one step from the full fit.

    One step of Newton's method (of Fisher scoring, for a marginal model) without the cluster, from the estimates with
    it: no refits. Covariance parameters move along, to first order. In a mixed model clusters are the groups of its one
    factor.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression or GEELogisticRegression
    X, y, groups
        The rows of the fit, each of weight 1.
    time : array-like of shape (n_samples,), default=None
        For a marginal model that was fitted with times as metadata.

    Returns
    -------
    influence : DataFrame
        A row a cluster. "n_rows"; "cooks_distance": the change d of the identified fixed effects as d'V^-1 d / p, with
        their covariance V, so that values near 1 move all estimates by about a standard error; and a column a
        coefficient with its change, estimate without the cluster less estimate with it.
    """
    check_is_fitted(estimator)
    rows = estimator._read_new_rows(X, groups)
    outcome = read_outcome(estimator, y, rows.X.shape[0])
    names, beta, vcov = estimator._fixed_effects()
    kept = np.isfinite(np.diagonal(vcov))
    design = np.asarray(rows.X, dtype=np.float64)
    if len(names) > design.shape[1]:
        design = np.column_stack([np.ones(len(design)), design])
    if not estimator.n_groups_:
        raise ValueError("the model was fitted without groups: there are no clusters to leave out")
    if hasattr(estimator, "_factors"):
        levels, sizes, change = _mixed_changes(estimator, rows, design, outcome, beta, kept)
    else:
        levels, sizes, change = _gee_changes(estimator, rows, design, outcome, beta, kept, time)
    table = pd.DataFrame(0.0, index=levels, columns=names)
    table.iloc[:, np.flatnonzero(kept)] = change
    solved = np.linalg.solve(vcov[np.ix_(kept, kept)], change.T).T
    table.insert(0, "cooks_distance", np.sum(change * solved, axis=1) / kept.sum())
    table.insert(0, "n_rows", sizes)
    return table


def _sums(code, n_levels, values):
    """Sums by cluster of the rows of an array with any number of dimensions."""
    flat = values.reshape(len(values), -1)
    out = np.stack([np.bincount(code, weights=column, minlength=n_levels) for column in flat.T], axis=1)
    return out.reshape(n_levels, *values.shape[1:])


def _mixed_changes(estimator, rows, design, outcome, beta, kept):
    if len(estimator._factors) > 1:
        raise ValueError(
            "with several grouping factors the likelihood is no sum over clusters: there is none to leave out alone"
        )
    factor, theta = estimator._factors[0], estimator._theta[0]
    if not rows.groups:
        raise ValueError("cluster_influence needs the groups of the rows, as fit did")
    code, levels = encode_groups(factor.labels(rows.column), factor.name)
    n_levels = len(levels)
    structure = RelativeCovariance(factor.blocks)
    Lambda = structure.lambda_(theta)
    has_intercept = design.shape[1] > rows.X.shape[1]
    modes, mode_cov = (
        part[0]
        for part in posterior_modes(
            rows.X,
            outcome.astype(np.uint8),
            factors=[FactorDesign(code, n_levels, factor.columns, factor.blocks)],
            beta=beta,
            theta=estimator._theta,
            fit_intercept=has_intercept,
            n_threads=effective_threads(estimator.n_threads),
        )[:2]
    )
    Z = np.column_stack([np.ones(len(design)) if c < 0 else np.asarray(rows.X[:, c], float) for c in factor.columns])
    cluster = _Cluster(code, n_levels, design, Z, outcome, beta, modes, mode_cov, Lambda, structure)
    score, information = cluster.scores(estimator._n_quadrature), cluster.information()
    V = parameter_covariance(estimator)
    active = np.concatenate([kept, np.diagonal(V)[len(kept) :] > 0])
    precision = np.linalg.inv(V[np.ix_(active, active)])
    n_kept = kept.sum()
    full = np.broadcast_to(precision, (n_levels, *precision.shape)).copy()
    full[:, :n_kept, :n_kept] -= information[:, kept][:, :, kept]
    step = np.linalg.solve(full, score[:, active, None])[:, :, 0]
    return levels, np.bincount(code, minlength=n_levels), -step[:, :n_kept]


class _Cluster:
    """Sums over the rows of each cluster at the conditional modes, in the notation of ARCHITECTURE.md."""

    def __init__(self, code, n_levels, X, Z, y, beta, modes, mode_cov, Lambda, structure):
        self.code, self.n_levels, self.X, self.Z, self.y = code, n_levels, X, Z, y
        self.modes, self.mode_cov, self.Lambda, self.structure = modes, mode_cov, Lambda, structure
        self.eta = X @ beta
        mu = expit(self.eta + np.sum(Z * modes[code], axis=1))
        self.r, self.v = y - mu, mu * (1.0 - mu)
        self.third = self.v * (1.0 - 2.0 * mu)

    def sum(self, values):
        return _sums(self.code, self.n_levels, values)

    def information(self):
        """Of each cluster on beta: X'WX less what its random effects take up."""
        X, Z, v = self.X, self.Z, self.v
        p = X.shape[1]
        out = np.empty((self.n_levels, p, p))
        for j in range(p):
            out[:, j] = self.sum((v * X[:, j])[:, None] * X)
        cross = np.stack([self.sum((v * Z[:, a])[:, None] * X) for a in range(Z.shape[1])], axis=1)
        return out - np.einsum("gap,gab,gbr->gpr", cross, self.mode_cov, cross)

    def scores(self, n_quadrature):
        """Gradient of each cluster's log-likelihood in (beta, theta)."""
        return self._laplace() if n_quadrature == 1 else self._quadrature(n_quadrature)

    def _laplace(self):
        row, col, Z, Lambda = self.structure.row, self.structure.col, self.Z, self.Lambda
        c = -0.5 * np.einsum("na,nab,nb->n", Z, self.mode_cov[self.code], Z)
        S = self.sum((self.third * c)[:, None] * Z)
        pull = np.einsum("gab,gb->ga", self.mode_cov, S)  # Lambda kappa
        g = self.r + self.third * c - self.v * np.sum(Z * pull[self.code], axis=1)
        R, sum_gz = self.sum(self.r[:, None] * Z), self.sum(g[:, None] * Z)
        M = np.stack([self.sum((self.v * Z[:, a])[:, None] * Z) for a in range(Z.shape[1])], axis=1)
        u = R @ Lambda
        H = Lambda.T @ M @ Lambda + np.eye(len(Lambda))
        kappa = np.linalg.solve(H, (S @ Lambda)[:, :, None])[:, :, 0]
        MD = -0.5 * np.swapaxes(np.linalg.solve(H, np.swapaxes(M @ Lambda, 1, 2)), 1, 2)
        theta = sum_gz[:, row] * u[:, col] + 2.0 * MD[:, row, col] + kappa[:, col] * R[:, row]
        return np.concatenate([self.sum(g[:, None] * self.X), theta], axis=1)

    def _quadrature(self, k):
        """By Fisher's identity: the mean over the posterior of the gradient for known random effects."""
        Z, Lambda, row, col = self.Z, self.Lambda, self.structure.row, self.structure.col
        zeta, log_w = hermite_grid(k, len(Lambda))
        M = np.stack([self.sum((self.v * Z[:, a])[:, None] * Z) for a in range(Z.shape[1])], axis=1)
        H = Lambda.T @ M @ Lambda + np.eye(len(Lambda))
        whiten = np.linalg.inv(np.linalg.cholesky(H))
        center = self.sum(self.r[:, None] * Z) @ Lambda
        sign = np.where(self.y, 1.0, -1.0)
        u = center[:, None, :] + np.sqrt(2.0) * np.einsum("gba,kb->gka", whiten, zeta)
        h = np.empty(u.shape[:2])
        for j in range(len(zeta)):
            eta = self.eta + np.sum(Z * (u[:, j] @ Lambda.T)[self.code], axis=1)
            h[:, j] = self.sum(-np.logaddexp(0.0, -sign * eta)[:, None])[:, 0] - 0.5 * np.sum(u[:, j] ** 2, axis=1)
        weight = softmax(h + log_w, axis=1)
        total = 0.0
        for j in range(len(zeta)):
            r = self.y - expit(self.eta + np.sum(Z * (u[:, j] @ Lambda.T)[self.code], axis=1))
            beta, R = self.sum(r[:, None] * self.X), self.sum(r[:, None] * Z)
            total = total + weight[:, j, None] * np.concatenate([beta, R[:, row] * u[:, j, col]], axis=1)
        return total


def _gee_changes(estimator, rows, design, outcome, beta, kept, time):
    from sklmm.gee import read_times

    if time is not None:
        rows.time = one_dimensional(time, "time", len(design))
    if not rows.groups:
        raise ValueError("cluster_influence needs the groups of the rows, as fit did")
    name, labels = next(iter(rows.groups.items()))
    code, levels = encode_groups(labels, name)
    correlation, alpha = estimator._correlation, estimator.correlation_params_
    has_times = rows.time is not None and correlation.uses_time
    times = read_times(rows.time) if has_times else np.zeros(len(design))
    order = np.lexsort((times, code))
    bounds = np.append(0, np.cumsum(np.bincount(code, minlength=len(levels))))
    mu = expit(design @ beta)
    s = np.sqrt(mu * (1.0 - mu))
    scaled, residual = design[:, kept] * s[:, None], (outcome - mu) / s
    coordinates = estimator._coordinates @ np.nan_to_num(estimator._sandwich["bread"]) @ estimator._coordinates.T
    precision = np.linalg.inv(coordinates[np.ix_(kept, kept)])
    whole = estimator.working_correlation_ if correlation.whitening == "dense" else None
    change = np.empty((len(levels), kept.sum()))
    for i in range(len(levels)):
        members = order[bounds[i] : bounds[i + 1]]
        at = times[members] if has_times else np.arange(members.size, dtype=float)
        if members.size == 1:
            R = np.eye(1)
        elif whole is None:
            R = correlation.matrix(alpha, at)
        else:
            place = np.searchsorted(estimator.correlation_times_, at)
            R = whole[np.ix_(place, place)]
        D = np.linalg.solve(R, scaled[members])
        change[i] = -np.linalg.solve(precision - D.T @ scaled[members], D.T @ residual[members])
    return levels, np.diff(bounds), change


# Normality of random effects ---------------------------------------------------------------------------------


def random_effects_normality(estimator):
    """Are random effects normal? Tests on standardised conditional modes, term by term.

    A conditional mode is shrunk towards 0, so that over groups its variance is that of the random coefficient less the
    conditional one; divided by the root of it, modes are about standard normal where groups have many rows (Goldstein
    2011). With few rows a group they take after the normal distribution that was assumed, whatever the truth: a small
    p-value says something, a large one little.

    Parameters
    ----------
    estimator : fitted MixedLogisticRegression

    Returns
    -------
    tests : DataFrame
        A row a random coefficient, (term, coefficient); columns "n_groups", "skewness", "excess_kurtosis", "statistic"
        and "p_value" of Shapiro and Wilk's test, or with more than 5,000 groups of D'Agostino and Pearson's. NaN for a
        variance of 0, and for fewer than 8 groups.
    """
    check_is_fitted(estimator)
    found = {}
    for term, modes in estimator.random_effects_.items():
        for name in modes.columns:
            variance = estimator.covariance_[term].loc[name, name]
            sd = estimator.random_effects_sd_[term][name]
            values = standardised_effects(modes[name].to_numpy(), sd.to_numpy(), np.sqrt(variance))
            row = dict.fromkeys(("skewness", "excess_kurtosis", "statistic", "p_value"), np.nan)
            if values.size >= 8:
                test = (stats.shapiro if values.size <= MOST_SHAPIRO else stats.normaltest)(values)
                row = {
                    "skewness": stats.skew(values),
                    "excess_kurtosis": stats.kurtosis(values),
                    "statistic": test.statistic,
                    "p_value": test.pvalue,
                }
            found[term, name] = {"n_groups": values.size, **row}
    columns = ["n_groups", "skewness", "excess_kurtosis", "statistic", "p_value"]
    table = pd.DataFrame.from_dict(found, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(list(found), names=["term", "coefficient"])
    return table


def standardised_effects(modes, sd, prior_sd):
    """Modes in units of their standard deviation between groups, of which shrinkage leaves prior^2 - sd^2.

    Modes whose groups say nothing (all shrunk to 0) are left out.
    """
    spread = np.sqrt(np.maximum(prior_sd**2 - sd**2, 0.0))
    informed = spread > 1e-6 * max(prior_sd, np.finfo(float).tiny)
    return modes[informed] / spread[informed]
