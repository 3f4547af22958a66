"""Random designs whose classes are separated by the features, completely or in part, with random effects of groups."""

import numpy as np

from sklmm.design.separation import separating_direction

KINDS = ("rare category", "threshold", "combination", "all rows", "groups")


def separated_design(seed):
    """Features, outcomes, groups and the random effects of one design; the kind is one of KINDS, in turn.

    Returns
    -------
    X : ndarray of shape (n, p)
    y, groups : ndarray of shape (n,)
    random_effects : str
    """
    rng, kind = np.random.default_rng(seed), KINDS[seed % len(KINDS)]
    while True:
        n_groups, size, p = rng.integers(4, 40), rng.integers(2, 25), rng.integers(1, 4)
        n = int(n_groups * size)
        groups = rng.permutation(np.repeat(np.arange(n_groups), size))
        X = rng.normal(size=(n, p + 1)) * 10.0 ** rng.integers(-3, 4, p + 1) + rng.normal(size=p + 1)
        effects = rng.normal(scale=rng.choice([0.0, 0.5, 2.0]), size=n_groups)[groups]
        z = (X[:, :p] - X[:, :p].mean(axis=0)) / X[:, :p].std(axis=0)
        y = (rng.random(n) < 1 / (1 + np.exp(-(z @ rng.normal(size=p) + effects + rng.normal())))).astype(int)
        if kind == "rare category":  # all of its rows have one outcome
            X[:, p] = rng.random(n) < 0.15
            y[X[:, p] > 0] = rng.integers(2)
        elif kind == "threshold":  # above it all rows have the outcome 1, below it 0
            y = (X[:, p] > np.quantile(X[:, p], rng.uniform(0.1, 0.9))).astype(int)
        elif kind == "combination":
            eta = (X - X.mean(axis=0)) / X.std(axis=0) @ rng.normal(size=p + 1)
            y = (eta > np.quantile(eta, rng.uniform(0.2, 0.8))).astype(int)
        elif kind == "all rows":  # but one
            y = np.zeros(n, dtype=int)
            y[rng.integers(n)] = 1
            X[:, p] = y
        else:  # a feature of groups, all of whose rows have one outcome
            of_group = rng.integers(0, 2, n_groups)
            X[:, p] = of_group[groups]
            y = of_group[groups]
        Z = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
        if 0 < y.sum() < n and (X.std(axis=0) > 0).all() and separating_direction(
            np.column_stack([Z, np.ones(n)]), y
        ) is not None:  # fmt: skip
            break
    return X, y, groups, "1 + x0 | group" if rng.random() < 0.3 else "1 | group"
