"""The data the libraries are timed on: seeded, with known truth."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

N_FEATURES = 10


class Rows(NamedTuple):
    X: np.ndarray  # (n_rows, n_features)
    y: np.ndarray  # in {0, 1}
    groups: np.ndarray  # integer codes
    time: np.ndarray  # 0, 1, ... in each group


@dataclass(frozen=True)
class Problem:
    """Rows of a logistic model with a standard normal intercept for each group.

    `group_size` rows a group exactly, or None: every row draws its group, so that sizes vary. `slope_sd` is
    the standard deviation over groups of the slope of x0.
    """

    n_rows: int
    n_groups: int
    group_size: int | None = None
    shuffled: bool = False
    slope_sd: float = 0.0
    n_features: int = N_FEATURES

    def __str__(self):
        order = "shuffled rows" if self.shuffled else "rows sorted by group"
        slopes = f", slopes of sd {self.slope_sd:g}" if self.slope_sd else ""
        return f"{self.n_rows:,} rows x {self.n_features} features, {self.n_groups:,} groups, {order}{slopes}"

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
        y = (rng.random(self.n_rows) * (1 + np.exp(-eta)) < 1).astype(np.int64)
        return Rows(X, y, groups, time)


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
    return [Problem(**{**p.as_dict(), "shuffled": order}) for p in sorted_rows for order in (False, True)]
