"""Random hard designs: data sets and models at which fits of clustered binary outcomes tend to fail.

``draw(kind, seed, index)`` depends on nothing but its arguments, which are a design's name: "one:0:17". Kinds are
"one" (a random intercept of one factor), "slopes" (random slopes), "nested", "crossed" and "gee". What makes them
hard is drawn separately, so that it meets in all combinations: sizes of groups, features, standard deviations, base
rates, weights, the order of the rows.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit

KINDS = ("one", "slopes", "nested", "crossed", "gee")
NODES = (3, 5, 7, 9, 15, 25, 51)
LARGE_SHARE = 0.02  # of designs with several blocks of rows, through which fits climb from samples of them
SDS = (0.0, 0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0)


@dataclass
class Design:
    """Data and model.

    Attributes
    ----------
    kind : str
        One of KINDS.
    groups : DataFrame with a column a factor, the finest first: a, b, c.
    weights, time : ndarray or None
    terms : list of (factor, intercept, slopes, correlated)
        Random effects of a mixed model, one a factor; slopes are columns of X.
    params : dict
        Of the estimator.
    matrix : ndarray or None
        Fixed working correlation over the times 0, 1, 2, ...
    traits : list of str
        What was drawn, in words.
    """

    kind: str
    X: np.ndarray
    y: np.ndarray
    groups: pd.DataFrame
    weights: np.ndarray | None
    time: np.ndarray | None
    terms: list
    params: dict
    matrix: np.ndarray | None = None
    traits: list = field(default_factory=list)
    name: str = ""

    def describe(self):
        w = np.ones(len(self.y)) if self.weights is None else self.weights
        sizes = [self.groups[name].value_counts().to_numpy() for name in self.groups]
        lines = [f"{self.name}: {self.params}"]
        lines += [f"  {trait}" for trait in self.traits]
        for name, size in zip(self.groups, sizes, strict=True):
            lines.append(f"  factor {name}: {len(size)} levels of {size.min()} to {size.max()} rows")
        lines.append(f"  {len(self.y)} rows, {(w * self.y).sum():g} successes of {w.sum():g} (weights)")
        for j, column in enumerate(self.X.T.astype(float)):
            n_distinct = len(np.unique(column))
            lines.append(f"  x{j}: mean {column.mean():.4g}, sd {column.std():.3g}, {n_distinct} distinct values")
        return "\n".join(lines)


def draw(kind, seed, index):
    """The design of this kind and number; those of "one-small" and so on have a few hundred rows at most."""
    name, _, size = kind.partition("-")
    rng = np.random.default_rng([KINDS.index(name), seed, index, *([1] if size else [])])
    design = _gee(rng, bool(size)) if name == "gee" else _mixed(rng, name, bool(size))
    design.name = f"{kind}:{seed}:{index}"
    return design


# ---- parts


def _log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _number_of_rows(rng, small, most=3000):
    if small:
        return int(_log_uniform(rng, 10, 300))
    if rng.random() < LARGE_SHARE:
        return int(_log_uniform(rng, 9000, 16000))
    return int(_log_uniform(rng, 10, most))


def _sizes(rng, n, largest=2000):
    """Sizes of groups of about n rows together, and their pattern in words."""
    pattern = rng.choice(
        ["pairs", "few", "balanced", "pareto", "giant", "giant and singletons", "singletons", "mixed"],
        p=[0.15, 0.15, 0.2, 0.15, 0.12, 0.05, 0.04, 0.14],
    )
    if pattern == "pairs":
        sizes = np.full(max(n // 2, 2), 2)
    elif pattern == "few":
        sizes = np.full(rng.integers(2, 11), 0) + max(n // 6, 1)
        sizes = np.maximum((sizes * rng.uniform(0.3, 1.7, sizes.size)).astype(int), 1)
    elif pattern == "balanced":
        size = int(min(_log_uniform(rng, 2, 40), max(n // 2, 1)))
        sizes = np.full(max(n // size, 2), size)
    elif pattern == "pareto":
        sizes = _pareto(rng, n)
    elif pattern == "giant":
        sizes = np.append(max(n // 2, 1), rng.integers(1, 8, max(n // 8, 2)))
    elif pattern == "giant and singletons":
        sizes = np.append(max(n // 2, 1), np.ones(max(n // 2, 2), dtype=int))
    elif pattern == "singletons":
        sizes = np.where(rng.random(max(2 * n // 3, 3)) < 0.7, 1, rng.integers(2, 4, max(2 * n // 3, 3)))
    else:
        sizes = np.ceil(np.exp(rng.normal(1.5, 1.2, max(n // 8, 2)))).astype(int)
    return np.clip(sizes, 1, largest), pattern


def _pareto(rng, n):
    sizes = np.ceil(rng.pareto(1.1, max(n, 3)) + 0.01)
    sizes = np.minimum(sizes, 2000).astype(int)
    return sizes[: max(int(np.searchsorted(np.cumsum(sizes), n)) + 1, 2)]


def _one_feature(rng, codes, kind):
    n = codes.size
    if kind == "normal":
        return rng.normal(size=n)
    if kind == "heavy":
        return rng.standard_t(2, n)
    if kind == "lognormal":
        return np.exp(2 * rng.normal(size=n))
    if kind == "rare":
        return (rng.random(n) < rng.choice([0.003, 0.01, 0.03])).astype(float)
    if kind == "dummy":
        return (rng.random(n) < rng.uniform(0.1, 0.9)).astype(float)
    if kind == "count":
        return rng.integers(0, 25, n).astype(float)
    if kind == "of the group":
        return rng.normal(size=codes.max() + 1)[codes]
    return (rng.random(codes.max() + 1) < 0.3).astype(float)[codes]  # a dummy of the group


def _zipf(rng, n, k):
    """One-hot columns of k categories of very different shares, without the first."""
    share = 1 / np.arange(1, k + 1) ** rng.uniform(0.8, 1.6)
    label = rng.choice(k, n, p=share / share.sum())
    return (label[:, None] == np.unique(label)[1:]).astype(float)


def _features(rng, codes, small, slopes=0):
    """Columns, and what they are in words; the first ``slopes`` vary within groups and stay on a moderate scale."""
    n, words = codes.size, []
    columns = []
    for j in range(max(int(rng.integers(1, 6)), slopes)):
        kind = rng.choice(
            ["normal", "heavy", "lognormal", "rare", "dummy", "count", "of the group", "dummy of the group"],
            p=[0.34, 0.12, 0.08, 0.12, 0.1, 0.08, 0.1, 0.06],
        )
        if j < slopes:
            kind = rng.choice(["normal", "heavy", "dummy", "count"], p=[0.6, 0.12, 0.14, 0.14])
        x = _one_feature(rng, codes, kind)
        words.append(str(kind))
        if columns and j >= slopes and rng.random() < 0.12:
            noise = _log_uniform(rng, 1e-4, 0.3)
            other = columns[rng.integers(len(columns))]
            x = other + noise * max(other.std(), 1e-300) * rng.normal(size=n)
            words[-1] = f"nearly collinear (1 - r2 about {noise**2:.1e})"
        spread = x.std() if x.std() > 0 else 1.0
        if rng.random() < 0.15:
            ratio = _log_uniform(rng, 1, 1e3 if j < slopes else 1e6)
            x = x + ratio * spread * rng.choice([-1, 1])
            words[-1] += f", mean/sd {ratio:.1e}"
        if rng.random() < 0.15:
            scale = 10.0 ** rng.uniform(-8, 8) / spread
            x = x * scale
            words[-1] += f", scale {scale * spread:.1e}"
        columns.append(x)
    X = np.column_stack(columns)
    if rng.random() < 0.03:
        k = int(rng.integers(3, 8 if small or n < 500 else 20))
        X = np.column_stack([X, _zipf(rng, n, k)])
        words.append(f"one-hot of {k} categories")
    return X, words


def _predictor(rng, X):
    """Fixed part of the linear predictor: slopes of standardised features, centred, and its size in words."""
    spread = X.std(axis=0)
    Z = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    size = rng.choice([0.0, 0.5, 1.0, 2.0, 4.0], p=[0.1, 0.35, 0.35, 0.15, 0.05])
    return Z @ (size * rng.normal(size=X.shape[1]) / np.sqrt(X.shape[1])), size


def _base_rate(rng):
    rate = _log_uniform(rng, 0.001, 0.5) if rng.random() < 0.3 else rng.uniform(0.1, 0.5)
    return float(1 - rate if rng.random() < 0.5 else rate)


def _weights(rng, n):
    kind = rng.choice(["none", "counts 0-4", "hundreds", "fractions", "some zeros"], p=[0.62, 0.12, 0.1, 0.08, 0.08])
    w = {
        "none": lambda: None,
        "counts 0-4": lambda: rng.integers(0, 5, n).astype(float),
        "hundreds": lambda: rng.integers(1, 1000, n).astype(float),
        "fractions": lambda: rng.uniform(0.01, 1, n),
        "some zeros": lambda: (rng.random(n) > 0.05).astype(float),
    }[kind]()
    return w, str(kind)


def _both_classes(rng, y, weights):
    """Outcomes of which both classes have a row that counts."""
    w = np.ones(y.size) if weights is None else weights
    counted = np.flatnonzero(w > 0)
    if counted.size < 2:
        weights[:2] = 1.0
        counted = np.array([0, 1])
    if np.ptp(y[counted]) == 0:
        y[rng.choice(counted)] ^= 1
    return y


def _order(rng, codes, X, y, likely=None):
    """An order of the rows, new numbers of the groups, and both in words."""
    kind = rng.choice(["shuffled", "by group", "by pattern", "by feature", "by outcome"], p=[0.4, 0.25, 0.2, 0.1, 0.05])
    if likely and rng.random() < 0.5:
        kind = likely
    n_groups = codes.max() + 1
    if kind == "shuffled":
        return rng.permutation(y.size), rng.permutation(n_groups), kind
    if kind == "by group":
        return np.argsort(codes, kind="stable"), np.arange(n_groups), kind
    if kind == "by pattern":  # groups by size and successes, and their labels in that order
        place = np.empty(n_groups, dtype=int)
        place[np.lexsort((np.bincount(codes, y), np.bincount(codes)))] = np.arange(n_groups)
        return np.argsort(place[codes], kind="stable"), place, kind
    if kind == "by feature":
        return np.argsort(X[:, 0], kind="stable"), rng.permutation(n_groups), kind
    return np.argsort(y, kind="stable"), rng.permutation(n_groups), kind


def _finish(rng, design, order):
    """Rows in their order; float32 and no intercept now and then."""
    design.X, design.y, design.groups = design.X[order], design.y[order], design.groups.iloc[order]
    design.groups = design.groups.reset_index(drop=True)
    design.weights = None if design.weights is None else design.weights[order]
    design.time = None if design.time is None else design.time[order]
    if rng.random() < 0.05 and np.abs(design.X).max() < 1e30:
        single = design.X.astype(np.float32)
        if np.isfinite(single).all():
            design.X = single
            design.traits.append("float32")
    if rng.random() < 0.04:
        design.params["fit_intercept"] = False
    return design


# ---- mixed models


def _mixed(rng, kind, small):
    n = _number_of_rows(rng, small, 1500 if kind in ("nested", "crossed") else 3000)
    sizes, pattern = _sizes(rng, n)
    if kind in ("nested", "crossed") and sizes.size < 5:
        sizes, pattern = np.full(max(n // 2, 6), 2), "pairs"
    if kind == "one" and n > 8000 and rng.random() < 0.4:
        sizes, pattern = rng.integers(1, 4, n // 2), "visits"
    a = np.repeat(np.arange(sizes.size), sizes)
    n = a.size
    factors, traits = {"a": a}, [f"sizes: {pattern}"]
    n_slopes = {"slopes": 1 + (rng.random() < 0.2), "crossed": int(rng.random() < 0.3)}.get(kind, 0)
    X, words = _features(rng, a, small, n_slopes)
    fixed, effect = _predictor(rng, X)
    rate = _base_rate(rng)
    sds = [float(rng.choice(SDS))]
    eta = np.log(rate / (1 - rate)) + fixed + sds[0] * rng.normal(size=sizes.size)[a]

    if kind == "nested":
        below = a
        for name in "bc"[: 1 + (rng.random() < 0.25)]:
            n_below = below.max() + 1
            n_above = int(np.clip(n_below / _log_uniform(rng, 2, 40), 2, min(n_below - 1, 120 if n < 5000 else 40)))
            above = np.arange(n_below) * n_above // n_below
            if rng.random() < 0.3:  # sizes that differ
                above[n_above:] = rng.integers(0, n_above, n_below - n_above)
                above[:n_above] = np.arange(n_above)
            if n_below > 2:
                below = factors[name] = above[below]
    elif kind == "crossed":
        n_other = int(_log_uniform(rng, 2, min(60, max(n // 2, 3))))
        share = rng.pareto(1.1, n_other) + 0.05 if rng.random() < 0.3 else np.ones(n_other)
        b = rng.choice(n_other, n, p=share / share.sum())
        b[: n_other + 1] = np.arange(n_other + 1) % n_other  # two rows of a level are in different ones of the other
        factors["b"] = b
    for name in list(factors)[1:]:
        sds.append(float(rng.choice(SDS)))
        eta = eta + sds[-1] * rng.normal(size=factors[name].max() + 1)[factors[name]]

    slopes, correlated, intercept = list(range(n_slopes)), bool(rng.random() < 0.6), True
    if kind == "slopes" and rng.random() < 0.2:
        intercept = False
    for j in slopes:
        sd = float(rng.choice(SDS[:9]))
        spread = X[:, j].std()
        eta = eta + sd * rng.normal(size=sizes.size)[a] * (X[:, j] - X[:, j].mean()) / (spread if spread > 0 else 1.0)
        sds.append(sd)
    terms = [("a", intercept, slopes, correlated)]
    terms += [(name, True, [], True) for name in list(factors)[1:]]

    y = (rng.random(n) < expit(eta)).astype(int)
    weights, weighting = _weights(rng, n)
    y = _both_classes(rng, y, weights)
    order, labels, ordering = _order(rng, a, X, y, likely="by pattern" if n > 8000 else None)
    groups = pd.DataFrame({name: labels[codes] if name == "a" else codes for name, codes in factors.items()})
    params = {"random_effects": [_term(*term) for term in terms]}
    if kind == "one" and rng.random() < 0.5:
        params["n_quadrature"] = int(rng.choice(NODES))
    if kind == "slopes" and rng.random() < 0.2:
        q = intercept + n_slopes
        params["n_quadrature"] = int(rng.choice(NODES if q == 1 else (2, 3, 5, 7)[: 4 if q == 2 else 2]))
    traits += [
        f"features: {'; '.join(words)}; effects of size {effect:g}",
        f"sds {sds}, base rate {rate:.4f}",
        f"weights: {weighting}; rows: {ordering}",
    ]
    design = Design(kind, X, y, groups, weights, None, terms, params, None, traits)
    return _finish(rng, design, order)


def _term(factor, intercept, slopes, correlated):
    names = [f"x{j}" for j in slopes]
    bar = "|" if correlated else "||"
    return f"{' + '.join(['1' if intercept else '0', *names])} {bar} {factor}"


# ---- estimating equations


def _gee(rng, small):
    correlation = str(
        rng.choice(
            ["independence", "exchangeable", "ar1", "unstructured", "m-dependent", "fixed"],
            p=[0.2, 0.26, 0.2, 0.12, 0.14, 0.08],
        )
    )
    n = _number_of_rows(rng, small, 2000)
    many = not small and correlation in ("independence", "exchangeable", "ar1") and rng.random() < 0.04
    n = int(rng.integers(8000, 14000)) if many else n
    largest = {"unstructured": 5, "fixed": 6, "m-dependent": 40, "ar1": 60}.get(correlation, 1000)
    sizes, pattern = _sizes(rng, n, largest)
    if correlation in ("unstructured", "fixed"):
        sizes = np.minimum(np.resize(sizes, max(n // 3, 4)), largest)
        sizes[rng.integers(sizes.size)] = largest
    a = np.repeat(np.arange(sizes.size), sizes)
    n = a.size
    X, words = _features(rng, a, small)
    if many:
        k = int(rng.integers(50, 90))
        X, words = np.column_stack([X, _zipf(rng, n, k)]), [*words, f"one-hot of {k} categories"]
    fixed, effect = _predictor(rng, X)
    rate, sd = _base_rate(rng), float(rng.choice(SDS))
    eta = np.log(rate / (1 - rate)) + fixed + sd * rng.normal(size=sizes.size)[a]
    y = (rng.random(n) < expit(eta)).astype(int)
    if rng.random() < 0.15:  # rows unlike the row before
        first = np.flatnonzero(np.diff(a, prepend=-1) == 0)
        for row in first[rng.random(first.size) < 0.5]:
            y[row] = 1 - y[row - 1]
    time, timing = None, "none"
    if correlation in ("ar1", "unstructured", "m-dependent", "fixed"):
        place = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        time, timing = place.astype(float), "0, 1, 2, ..."
        if correlation in ("unstructured", "fixed"):
            time = np.concatenate([np.sort(rng.choice(largest, size, replace=False)) for size in sizes]).astype(float)
            timing = f"some of 0 to {largest - 1}"
        elif rng.random() < 0.5:
            gaps = rng.choice([1, 1, 1, 2, 3, 7], n).astype(float)
            tenths = correlation == "ar1" and rng.random() < 0.3
            if tenths:
                gaps = rng.integers(2, 30, n) / 10
            total = np.cumsum(gaps)
            time, timing = total - np.repeat(total[np.cumsum(sizes) - sizes], sizes), "with gaps"
            if tenths:
                timing = "with gaps of tenths, to rounding error"
                if rng.random() < 0.9:
                    time, timing = np.round(time, 1), "with gaps of tenths"
    weights, weighting = _weights(rng, n)
    y = _both_classes(rng, y, weights)
    order, labels, ordering = _order(rng, a, X, y)
    params = {"correlation": correlation, "ddof_correction": bool(rng.random() < 0.6)}
    matrix = None
    if correlation == "m-dependent":
        params["lags"] = int(rng.choice([1, 1, 2, 3]))
    if correlation == "fixed":
        root = rng.normal(size=(largest, largest)) + 1.0
        matrix = root @ root.T + np.eye(largest)
        matrix /= np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
        matrix = (matrix + matrix.T) / 2
    traits = [
        f"sizes: {pattern}; times: {timing}",
        f"features: {'; '.join(words)}; effects of size {effect:g}",
        f"sd {sd:g}, base rate {rate:.4f}",
        f"weights: {weighting}; rows: {ordering}",
    ]
    groups = pd.DataFrame({"a": labels[a]})
    design = Design("gee", X, y, groups, weights, time, [], params, matrix, traits)
    return _finish(rng, design, order)
