"""The data the libraries are timed on: seeded, with known truth."""

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

N_FEATURES = 10


class Rows(NamedTuple):
    X: np.ndarray  # (n_rows, n_features)
    y: np.ndarray  # in {0, 1}, or numbers
    groups: np.ndarray  # integer codes
    time: np.ndarray  # 0, 1, ... in each group


@dataclass(frozen=True)
class Problem:
    """Rows of a logistic or a linear model with a standard normal intercept for each group.

    `group_size` rows a group exactly, or None: every row draws its group, so that sizes vary. `slope_sd` is
    the standard deviation over groups of the slope of x0. `linear`: outcomes are numbers, with residuals of sd 1.
    """

    n_rows: int
    n_groups: int
    group_size: int | None = None
    shuffled: bool = False
    slope_sd: float = 0.0
    n_features: int = N_FEATURES
    linear: bool = False

    def __str__(self):
        order = "shuffled rows" if self.shuffled else "rows sorted by group"
        slopes = f", slopes of sd {self.slope_sd:g}" if self.slope_sd else ""
        outcome = ", measured outcome" if self.linear else ""
        return f"{self.n_rows:,} rows x {self.n_features} features, {self.n_groups:,} groups, {order}{slopes}{outcome}"

    def as_dict(self):
        return asdict(self)

    def make(self, seed=20240607):
        """The Rows. Sorted by group, they are sorted by time, too; shuffled, by neither."""
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((self.n_rows, self.n_features))
        beta = 0.3 * rng.standard_normal(self.n_features)
        if self.group_size is None:
            groups = np.sort(rng.integers(0, self.n_groups, self.n_rows))
        else:
            groups = np.arange(self.n_rows) // self.group_size
        time = np.arange(self.n_rows) - np.searchsorted(groups, groups)
        if self.shuffled:  # X is exchangeable: shuffling the groups and times shuffles the rows
            order = rng.permutation(self.n_rows)
            groups, time = groups[order], time[order]
        eta = X @ beta + rng.standard_normal(self.n_groups)[groups]
        if self.slope_sd:
            eta += self.slope_sd * rng.standard_normal(self.n_groups)[groups] * X[:, 0]
        return Rows(X, _outcomes(rng, eta, self.linear), groups, time)


@dataclass(frozen=True)
class SeveralFactors:
    """Rows of a logistic or linear model with normal intercepts for two factors, crossed or nested, or the lecture
    evaluations.

    `kind`: "crossed" (every row draws a level of each), "nested" (rows sorted, the second factor within the first,
    `group_sizes` the levels of the first and of the second within one of it) or "lectures".
    """

    kind: str
    n_rows: int = 0
    group_sizes: tuple = ()
    factors: tuple = ("first", "second")
    n_features: int = N_FEATURES
    linear: bool = False

    def __str__(self):
        if self.kind == "lectures":
            what = "ratings" if self.linear else "rows"
            return f"InstEval: 73,421 {what} x 3 features, {' + '.join(f'(1 | {f})' for f in self.factors)}"
        between = " x " if self.kind == "crossed" else " schools x "
        sizes = between.join(f"{k:,}" for k in self.group_sizes)
        words = f"{sizes} crossed levels" if self.kind == "crossed" else f"{sizes} classes"
        outcome = ", measured outcome" if self.linear else ""
        return f"{self.n_rows:,} rows x {self.n_features} features, {words}{outcome}"

    def as_dict(self):
        return asdict(self)

    def make(self, seed=20240607):
        """The Rows, without times; `groups` is a data frame of codes."""
        if self.kind == "lectures":
            from sklmm.datasets import load_insteval

            X, y, groups = load_insteval(return_X_y=True, as_frame=True, target="y" if self.linear else "y4")
            return Rows(X.to_numpy(dtype=float), y.to_numpy(), groups[list(self.factors)], None)
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((self.n_rows, self.n_features))
        first, second = self.group_sizes
        if self.kind == "crossed":
            codes = [rng.integers(0, first, self.n_rows), rng.integers(0, second, self.n_rows)]
        else:
            inner = np.arange(self.n_rows) * (first * second) // self.n_rows
            codes = [inner // second, inner]
        eta = X @ (0.3 * rng.standard_normal(self.n_features))
        for code, sd in zip(codes, (0.8, 0.5), strict=True):
            eta += sd * rng.standard_normal(int(code.max()) + 1)[code]
        groups = pd.DataFrame(dict(zip(self.factors, codes, strict=True)))
        return Rows(X, _outcomes(rng, eta, self.linear), groups, None)


def _outcomes(rng, eta, linear):
    if linear:
        return eta + rng.standard_normal(eta.size)
    return (rng.random(eta.size) * (1 + np.exp(-eta)) < 1).astype(np.int64)


def several_factor_problems():
    lectures = [("s", "d"), ("s", "d", "dept")]
    return [
        *(SeveralFactors("lectures", factors=factors) for factors in lectures),
        SeveralFactors("crossed", 200_000, (5_000, 300)),
        SeveralFactors("nested", 1_000_000, (2_000, 10)),
        *(SeveralFactors("lectures", factors=factors, linear=True) for factors in lectures),
        SeveralFactors("crossed", 200_000, (5_000, 500), linear=True),
        SeveralFactors("nested", 1_000_000, (2_000, 10), linear=True),
    ]


def standard_problems():
    """50 rows a group on average, small groups, random slopes, and both orders of the rows.

    Without random slopes in the data a model with slopes meets a variance near 0: hard for its optimiser.
    """
    sorted_rows = [
        Problem(10_000, 200),
        Problem(10_000, 2_000),
        Problem(100_000, 2_000),
        Problem(100_000, 2_000, slope_sd=0.5),
        Problem(100_000, 25_000, group_size=4),
        Problem(1_000_000, 20_000),
        Problem(1_000_000, 20_000, slope_sd=0.5),
        Problem(1_000_000, 250_000, group_size=4),
    ]
    linear = [
        Problem(100_000, 2_000),
        Problem(1_000_000, 20_000),
        Problem(1_000_000, 20_000, slope_sd=0.5),
        Problem(1_000_000, 250_000, group_size=4),
    ]
    return [
        replace(problem, shuffled=shuffled, linear=is_linear)
        for is_linear, problems in ((False, sorted_rows), (True, linear))
        for problem in problems
        for shuffled in (False, True)
    ]
