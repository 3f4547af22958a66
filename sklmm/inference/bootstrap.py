"""Bootstrap of a fitted model: new outcomes from the fit, or the clusters drawn anew; each time a fit.

Every resample has a generator of its own, spawned from the seed, so that the results are bitwise the same however the
resamples are spread over processes.

References
----------
Davison AC, Hinkley DV (1997). Bootstrap Methods and their Application. Cambridge University Press, chapters 3 and 5.

Efron B (1987). Better bootstrap confidence intervals. Journal of the American Statistical Association 82, 171-185.
"""

from dataclasses import dataclass, replace

import joblib
import numpy as np
import pandas as pd
from scipy import stats

from sklmm.design.covariance import RelativeCovariance
from sklmm.estimating.scoring import fit_gee
from sklmm.exceptions import ConvergenceWarning
from sklmm.inference.tables import Table
from sklmm.inference.wald import check_level
from sklmm.likelihood.fit import fit_mixed
from sklmm.messages import warn

RESAMPLINGS = ("parametric", "cluster")
KINDS = ("percentile", "basic", "bias-corrected", "bca")
_TASK = 25  # resamples a process does before it reports: data travel once a task


@dataclass(frozen=True)
class BootstrapResult:
    """Estimates from resamples.

    Attributes
    ----------
    estimates : DataFrame
        A row a resample, a column a parameter, named as in ``conf_int(method="bootstrap")``. NaN where a resample could
        not be fitted, or does not identify the parameter.
    original : Series
        The fit's own estimates.
    resampling : {"parametric", "cluster"}
    n_failed : int
        Resamples that could not be fitted.
    acceleration : Series or None
        How fast each estimate's standard error changes with the parameter, from the clusters' influence on it; None
        for several grouping factors, and of marginal models.
    """

    estimates: pd.DataFrame
    original: pd.Series
    resampling: str
    n_failed: int
    acceleration: pd.Series | None = None

    def std_errors(self):
        """Standard deviations of the estimates over the resamples."""
        return self.estimates.std()

    def bias(self):
        """Mean of the estimates over the resamples less the fit's own."""
        return self.estimates.mean() - self.original

    def to_frame(self, level=0.95):
        """A row a parameter: the fit's "estimate", "bias", "std_error", "lower" and "upper".

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        frame : Table
        """
        columns = {"estimate": self.original, "bias": self.bias(), "std_error": self.std_errors()}
        table = Table({name: column.to_numpy() for name, column in columns.items()}, index=self.original.index)
        table[["lower", "upper"]] = self.conf_int(level).to_numpy()
        failed = f"; {self.n_failed:,} could not be fitted" if self.n_failed else ""
        return table.with_note(f"{len(self.estimates):,} resamples ({self.resampling}){failed}.")

    def __repr__(self):
        return f"BootstrapResult\n{self.to_frame()!r}"

    def _repr_html_(self):
        return self.to_frame()._repr_html_()

    def conf_int(self, level=0.95, kind=None):
        """Confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
        kind : None or {"bca", "bias-corrected", "percentile", "basic"}, default=None
            "percentile": quantiles of the resamples' estimates. "basic": these mirrored at the fit's estimate.
            "bias-corrected": quantiles at levels that make up for the estimates' median bias. "bca" (bias-corrected and
            accelerated, Efron 1987): also for a standard error that changes with the parameter; for mixed models
            with a single grouping factor. None is "bca" where it is defined, else "bias-corrected".

        Returns
        -------
        intervals : DataFrame
            A row a parameter, columns "lower" and "upper"; NaN for parameters that the fit does not identify.
        """
        level = check_level(level)
        if kind is None:
            kind = "bias-corrected" if self.acceleration is None else "bca"
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
        if kind == "bca" and self.acceleration is None:
            raise ValueError(
                "kind='bca' needs the influence of single, independent clusters, which is known for mixed models with "
                "a single grouping factor; use 'bias-corrected'"
            )
        # By position: two columns of X may share a name.
        ends = [self._ends(j, level, kind) for j in range(len(self.original))]
        return pd.DataFrame(ends, index=self.original.index, columns=["lower", "upper"])

    def _ends(self, j, level, kind):
        values, original = self.estimates.iloc[:, j].dropna(), self.original.iloc[j]
        if len(values) < 2 or np.isnan(original):
            return np.nan, np.nan
        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        if kind in ("bias-corrected", "bca"):
            below = np.mean(values < original) + np.mean(values == original) / 2
            shift = stats.norm.ppf(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
            reach = shift + stats.norm.ppf(tails)
            tails = stats.norm.cdf(shift + reach / (1 - (self.acceleration.iloc[j] if kind == "bca" else 0.0) * reach))
        lower, upper = np.quantile(values, tails)
        return (2 * original - upper, 2 * original - lower) if kind == "basic" else (lower, upper)


def acceleration(influence, counts):
    """Efron's acceleration from clusters' influence on an estimate; 0 where there is no influence.

    Parameters
    ----------
    influence : ndarray of shape (n_clusters,)
    counts : ndarray of shape (n_clusters,)
        How often each cluster is there.
    """
    size = np.sqrt(counts @ influence**2)
    return float(counts @ influence**3 / (6 * size**3)) if size > 0 else 0.0


def check_resampling(resampling, n_resamples):
    """An error unless these say how and how often to resample."""
    if resampling not in RESAMPLINGS:
        raise ValueError(f"resampling must be one of {', '.join(map(repr, RESAMPLINGS))}; got {resampling!r}")
    if isinstance(n_resamples, bool) or not isinstance(n_resamples, (int, np.integer)) or n_resamples < 2:
        raise ValueError(f"n_resamples must be an integer >= 2, got {n_resamples!r}")


def bootstrap(
    refit, original, resampling, *, n_resamples, random_state=None, n_jobs=None, verbose=0, accelerations=None
):
    """Estimates from resamples, with a warning, on behalf of the caller's caller, of those that gave none.

    Parameters
    ----------
    refit : callable Generator -> ndarray of shape (n_parameters,), or None where the resample cannot be fitted
        Must be picklable.
    original : Series of length n_parameters
        The fit's own estimates.
    resampling : {"parametric", "cluster"}
        What `refit` does.
    n_resamples : int
    random_state : int, SeedSequence, Generator, RandomState or None
    n_jobs : int or None
    verbose : int
    accelerations : Series or None

    Returns
    -------
    BootstrapResult
    """
    seeds = seed_sequence(random_state).spawn(n_resamples)
    found = resample(refit, len(original), seeds, n_jobs, "[bootstrap] {} of {} resamples" if verbose else None)
    n_failed = int(np.isnan(found).all(axis=1).sum())
    if n_failed:
        warn(
            f"{n_failed} of {n_resamples} resamples could not be fitted (an outcome without variation, or no "
            "convergence) and are left out",
            ConvergenceWarning,
        )
    estimates = pd.DataFrame(found, columns=original.index)
    return BootstrapResult(estimates, original, resampling, n_failed, accelerations)


def resample(refit, n_values, seeds, n_jobs=None, told=None):
    """What a function gives for every seed, bitwise the same however the seeds are spread over processes.

    Parameters
    ----------
    refit : callable Generator -> sequence of n_values numbers, or None
        Must be picklable.
    n_values : int
    seeds : list of SeedSequence
    n_jobs : int or None
    told : str or None
        What is printed meanwhile, with places for how many are done and how many there are.

    Returns
    -------
    ndarray of shape (n_seeds, n_values)
        NaN where there is no result.
    """
    tasks = [seeds[start : start + _TASK] for start in range(0, len(seeds), _TASK)]
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    results, done = [np.empty((0, n_values))], 0
    for part in parallel(joblib.delayed(_refit_some)(refit, n_values, task) for task in tasks):
        results.append(part)
        done += len(part)
        if told is not None:
            print(told.format(done, len(seeds)), flush=True)
    return np.concatenate(results)


def seed_sequence(random_state):
    if isinstance(random_state, np.random.SeedSequence):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**32, size=4, dtype=np.uint32)
    elif isinstance(random_state, np.random.Generator):
        random_state = random_state.integers(2**32, size=4, dtype=np.uint32)
    return np.random.SeedSequence(random_state)


def _refit_some(refit, n_parameters, seeds):
    out = np.full((len(seeds), n_parameters), np.nan)
    for i, seed in enumerate(seeds):
        try:
            estimates = refit(np.random.default_rng(seed))
        except (FloatingPointError, np.linalg.LinAlgError):
            continue
        if estimates is not None:
            out[i] = estimates
    return out


class MixedRefit:
    """Draws rows and fits the mixed model to them.

    Parameters
    ----------
    draw : callable Generator -> (Observations, Structure)
        `ParametricDraw` or `ClusterDraw`.
    settings : dict
        Arguments of `fit_mixed` besides rows and structure.
    estimates_of : callable MixedFit -> ndarray
    """

    def __init__(self, draw, settings, estimates_of):
        self.draw, self.settings, self.estimates_of = draw, settings, estimates_of

    def __call__(self, rng):
        rows, structure = self.draw(rng)
        if rows.y.min() == rows.y.max():
            return None
        fit = fit_mixed(rows, structure, **self.settings)
        return self.estimates_of(fit) if fit.report.converged else None


class MarginalRefit:
    """Draws whole clusters and solves the estimating equations for them.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    settings : dict
        Arguments of `fit_gee` besides the rows.
    """

    def __init__(self, observations, structure, settings):
        self.settings, self.has_groups = settings, bool(structure.factors)
        self.draw = ClusterDraw(observations, structure)

    def __call__(self, rng):
        index, clusters = self.draw.index(rng)
        rows = self.draw.observations.take(index)
        if self.draw.structure.family.has_classes and rows.y.min() == rows.y.max():
            return None
        groups = {"codes": clusters.astype(np.intp), "n_clusters": self.draw.n_clusters} if self.has_groups else {}
        own = {"times": rows.times, "sample_weight": rows.weights, "offset": rows.offset}
        settings = {"family": self.draw.structure.family, **self.settings}
        fit = fit_gee(rows.X, rows.y, **own, **groups, **settings)
        beta = fit.beta.copy()
        beta[[j + int(self.settings["fit_intercept"]) for j in fit.aliased]] = np.nan
        return beta if fit.report.converged else None


class ParametricDraw:
    """New outcomes: random effects drawn from their distribution, classes from the rows' probabilities."""

    def __init__(self, observations, structure, beta, theta):
        rows = self.observations = observations
        self.structure = structure
        if rows.weights is not None and np.any(rows.weights != np.rint(rows.weights)):
            raise ValueError(
                "resampling='parametric' simulates rows, but some sample_weight are no whole numbers; use "
                "resampling='cluster'"
            )
        slopes = beta[int(structure.fit_intercept) :]
        self.mean = rows.X[:, : slopes.size] @ slopes + (beta[0] if structure.fit_intercept else 0.0)
        if rows.offset is not None:
            self.mean = self.mean + rows.offset
        self.lambdas = [
            RelativeCovariance(factor.blocks).lambda_(part)
            for factor, part in zip(structure.factors, theta, strict=True)
        ]

    def __call__(self, rng):
        rows, eta = self.observations, self.mean.copy()
        for factor, codes, Lambda in zip(self.structure.factors, rows.codes, self.lambdas, strict=True):
            b = rng.standard_normal((factor.n_levels, len(Lambda))) @ Lambda.T
            for a, column in enumerate(factor.columns):
                effect = b[codes, a]
                eta += effect if column < 0 else effect * rows.X[:, column]
        if rows.weights is None:
            y = rng.random(len(eta)) < self.structure.family.mean(eta)
            return replace(rows, y=y.astype(np.uint8)), self.structure
        ones = rng.binomial(rows.weights.astype(np.int64), self.structure.family.mean(eta))
        weights = np.concatenate([ones, rows.weights - ones])
        y = np.repeat(np.array([1, 0], dtype=np.uint8), len(eta))
        kept = np.flatnonzero(weights > 0)
        drawn = replace(rows.take(kept % len(eta)), y=y[kept], weights=weights[kept].astype(np.float64))
        return drawn, self.structure


class ClusterDraw:
    """Whole clusters, drawn with replacement; each draw is a cluster of its own."""

    def __init__(self, observations, structure):
        self.observations, self.structure = observations, structure
        outer = independent_clusters(observations, structure, "resampling='cluster'")
        self.order = np.argsort(outer, kind="stable")
        self.start = np.append(0, np.cumsum(np.bincount(outer)))
        self.n_clusters = len(self.start) - 1

    def index(self, rng):
        """Rows drawn, and the cluster that each is in now."""
        drawn = rng.integers(0, self.n_clusters, self.n_clusters)
        sizes = np.diff(self.start)[drawn]
        copy = np.repeat(np.arange(self.n_clusters), sizes)
        within = np.arange(len(copy)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.order[self.start[drawn][copy] + within], copy

    def __call__(self, rng):
        index, copy = self.index(rng)
        rows, codes, factors = self.observations.take(index), [], []
        for factor, code in zip(self.structure.factors, rows.codes, strict=True):
            code, found = pd.factorize(copy * np.int64(factor.n_levels) + code)
            codes.append(code.astype(np.intp))
            factors.append(replace(factor, n_levels=len(found)))
        return replace(rows, codes=codes), replace(self.structure, factors=factors)


def independent_clusters(observations, structure, what):
    """Codes of the coarsest factor, in which all others must be nested; without factors every row, or line of counts,
    is a cluster of its own.

    Parameters
    ----------
    observations : Observations
    structure : Structure
    what : str
        Who needs them, for the error.

    Raises
    ------
    ValueError
        If factors are crossed: then no partition of the rows is into independent clusters.
    """
    if not structure.factors:
        if observations.lines is not None:
            return np.unique(observations.lines, return_inverse=True)[1]
        return np.arange(len(observations.y))
    factors = list(zip(structure.factors, observations.codes, strict=True))
    outer, outer_codes = min(factors, key=lambda pair: pair[0].n_levels)
    for factor, codes in factors:
        pairs = len(np.unique(codes * np.int64(outer.n_levels) + outer_codes))
        if pairs > len(np.unique(codes)):
            raise ValueError(
                f"{what} needs independent clusters, but the factors {factor.name} and {outer.name} are crossed: rows "
                f"of different groups of {outer.name} share groups of {factor.name}"
            )
    return outer_codes
