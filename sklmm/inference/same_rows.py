"""Were two models fitted to the same rows? What a fit keeps of its rows to tell.

A fit keeps moments, and no row: of each column its mean and standard deviation, its mean product with the outcome, and
with a number that is drawn for each group by a hash of its label. Sums do not depend on the order of the rows, weights
count rows in them, and they change little by rounding, as when a formula standardises a column again, but by about 1/n
where one row of n is another. Columns that both models have are compared by name; where X had no names, any column may
be found again anywhere. Products with a fixed sequence of numbers tell, last, whether rows came in the same order: then
they are the same rows, whatever became of a column in the meantime.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sklmm._kernels._moments import add_products
from sklmm.exceptions import DifferentRowsWarning
from sklmm.messages import listed, warn

_CHUNK = 1 << 12  # rows whose features stay in cache, and for which BLAS wakes no threads
_GOLDEN = 0.6180339887498949  # whose multiples' fractional parts are spread evenly, and repeat nowhere
_SAME = 1e-8  # of a column's standard deviation: more than rounding, less than one row of ten million
_ROUNDING = 1e-13  # of its mean
_ALIKE = 1e-6  # of a standard deviation: rows in another order
_SWITCHES = 32  # so often an outcome or a group must change from row to row for their order to tell anything


@dataclass(frozen=True)
class RowSignature:
    """Moments of the rows of a fit, by which they are known again.

    Attributes
    ----------
    names : list of str
        Of the features.
    named : bool
        Whether X had names; else those are positions.
    columns : ndarray of shape (p, 3 + n_factors)
        Mean, standard deviation, and the mean products of the standardised column with the outcome and with each
        factor's numbers.
    factors : dict of str -> (float, float)
        Means of the factor's numbers over the rows, and over those of the second class.
    share : float
        Of rows of the second class; of a measured outcome 0.
    order : ndarray of shape (1 + n_factors,)
        The mean products of the sequence with the outcome and with each factor's numbers.
    switches : ndarray of shape (1 + n_factors,), int
        How often the outcome, and the group, changes from one row to the next.
    offset : (float, float)
        Standard deviation of the offset, 0 without one, and its mean product, centred, with the outcome. A constant is
        part of the intercept.
    outcome : (float, float)
        Mean and standard deviation of a measured outcome, which is standardised in all of the above; (0, 1) of classes.
    """

    names: list
    named: bool
    columns: np.ndarray
    factors: dict
    share: float
    order: np.ndarray
    switches: np.ndarray
    offset: tuple = (0.0, 0.0)
    outcome: tuple = (0.0, 1.0)


def row_signature(X, names, named, y, sample_weight, factors, offset=None):
    """The signature of the rows of a fit.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32
    names : list of str
    named : bool
    y : ndarray of shape (n,), uint8, or of a measured outcome float64
    sample_weight : ndarray of shape (n,) or None
    factors : dict of str -> (codes, levels)
        Groups of each row, and their labels.
    offset : ndarray of shape (n,) or None

    Returns
    -------
    RowSignature
    """
    n, p = X.shape
    y, outcome = _standardised(y, sample_weight)
    numbers = [_numbers(levels) for _, levels in factors.values()]
    center = np.asarray(X[:_CHUNK], dtype=np.float64).mean(axis=0)
    m = 2 + len(factors)
    products, squares, order, total, among_ones = np.zeros((m, p)), np.zeros(p), np.zeros(m), np.zeros(m), np.zeros(m)
    steps, labels_ = np.arange(_CHUNK) * _GOLDEN, np.empty((m, _CHUNK))
    for start in range(0, n, _CHUNK):
        part = slice(start, min(start + _CHUNK, n))
        size = part.stop - start
        labels = labels_[:, :size]  # of each row the weight, times: 1, outcome, number of its group
        labels[0] = 1.0 if sample_weight is None else sample_weight[part]
        np.multiply(labels[0], y[part], out=labels[1])
        for f, ((codes, _), number) in enumerate(zip(factors.values(), numbers, strict=True), start=2):
            np.multiply(labels[0], number[codes[part]], out=labels[f])
        add_products(X[part], center, labels, squares, products)
        place = steps[:size] + start * _GOLDEN % 1.0
        order += labels @ (place - np.floor(place) - 0.5)
        total += labels.sum(axis=1)
        among_ones += labels @ y[part].astype(np.float64)
    shift = products[0] / total[0]
    mean, variance = center + shift, np.maximum(squares / total[0] - shift**2, 0.0)
    sd = np.where(variance > (1e-12 * np.abs(mean)) ** 2, np.sqrt(variance), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        crosses = np.where(sd > 0, (products[1:] - np.outer(total[1:], shift)) / total[0] / sd, 0.0)
    return RowSignature(
        names=list(names),
        named=bool(named),
        columns=np.column_stack([mean, sd, crosses.T]),
        factors={name: (total[f] / total[0], among_ones[f] / total[0]) for f, name in enumerate(factors, start=2)},
        share=float(total[1] / total[0]),
        order=order[1:] / total[0],
        switches=np.array([np.count_nonzero(v[1:] != v[:-1]) for v in (y, *(codes for codes, _ in factors.values()))]),
        offset=_offset_moments(offset, y, sample_weight),
        outcome=outcome,
    )


def _standardised(y, sample_weight):
    """Outcomes of about the size of classes, and what was done to them: a mean and a standard deviation."""
    if y.dtype.kind != "f":
        return y, (0.0, 1.0)
    first, y = float(y[0]), y - y[0]  # so that sums lose no digits where outcomes are far from 0
    mean = float(np.average(y, weights=sample_weight))
    y -= mean
    if sample_weight is None:
        sd = float(np.sqrt(np.einsum("i,i->", y, y) / len(y)))
    else:
        sd = float(np.sqrt(np.einsum("i,i,i->", sample_weight, y, y) / sample_weight.sum()))
    if sd <= _ROUNDING * abs(first + mean):
        return np.zeros_like(y), (first + mean, 0.0)
    y /= sd
    return y, (first + mean, sd)


def _offset_moments(offset, y, sample_weight):
    """Standard deviation of an offset and its mean product with the outcome."""
    if offset is None:
        return 0.0, 0.0
    center = np.average(offset, weights=sample_weight)
    sd = float(np.sqrt(np.average((offset - center) ** 2, weights=sample_weight)))
    if sd <= 1e-12 * abs(center):
        return 0.0, 0.0
    return sd, float(np.average((offset - center) * y, weights=sample_weight))


def _numbers(levels):
    """A number between -1/2 and 1/2 for each label, the same for 7, 7.0 and "7", in every process."""
    values = pd.Series(np.asarray(levels))
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        values = values.astype(str)
        if pd.to_numeric(values[:100], errors="coerce").notna().all():
            numbers = pd.to_numeric(values, errors="coerce")
            values = numbers if numbers.notna().all() else values
    if pd.api.types.is_numeric_dtype(values):
        keys = values.to_numpy(dtype=np.float64) + 0.0  # no -0
    else:
        keys = values.to_numpy(dtype=object)
    return (pd.util.hash_array(keys, categorize=False) >> np.uint64(11)) * 2.0**-53 - 0.5


def compare_rows(one, other):
    """Whether two fits saw the same rows and outcomes.

    Parameters
    ----------
    one, other : RowSignature

    Returns
    -------
    verdict : {"same", "changed", "outcome", "rows", "unknown"}
        "changed": the same rows, but columns or labels of one name hold other values. "unknown": there is nothing that
        both fits know.
    what : list of str
        The columns and factors that show it.
    """
    changed, outcome, agree = [], [], []
    for name in one.factors:
        if name in other.factors:
            (u, yu), (v, yv) = one.factors[name], other.factors[name]
            (changed if abs(u - v) > _SAME else outcome if abs(yu - yv) > _SAME else agree).append(name)
    both = [name for name in one.factors if name in other.factors]
    a, b = _common_columns(one, both), _common_columns(other, both)
    if one.named and other.named:
        for name in a.index.intersection(b.index):
            found = _alike(a.loc[name].to_numpy(), b.loc[name].to_numpy())
            regrouped = [factor for factor, same in zip(both, found[3:], strict=True) if not same]
            if not found[:2].all():
                changed.append(name)
            elif regrouped:
                changed += [factor for factor in regrouped if factor not in changed]
            else:
                (agree if found[2] else outcome).append(name)
    elif len(a) and len(b):
        few, many = (a, b) if len(a) <= len(b) else (b, a)
        known = many.to_numpy()
        lost = [name for name, column in few.iterrows() if not _alike(column.to_numpy(), known).all(axis=1).any()]
        if not lost:
            agree += list(few.index)
        elif not agree:
            changed += lost
    at = [[0, *(1 + list(signature.factors).index(name) for name in both)] for signature in (one, other)]
    switches = one.switches[at[0]]
    ordered = (np.abs(one.order[at[0]] - other.order[at[1]]) <= _SAME).all() and (
        switches == other.switches[at[1]]
    ).all()
    if ordered and switches.max() >= _SWITCHES:
        return ("changed", changed) if changed else ("same", [])
    if changed:
        return "rows", changed
    if outcome:
        return "outcome", outcome
    return ("same", []) if agree or ordered else ("unknown", [])


def _common_columns(signature, factors):
    """A row a feature: its moments, products with these factors' numbers among them; one of several of a name."""
    kept = [0, 1, 2, *(3 + list(signature.factors).index(name) for name in factors)]
    table = pd.DataFrame(signature.columns[:, kept], index=pd.Index(signature.names, dtype=object))
    return table[~table.index.duplicated()]


def _alike(column, columns):
    """Which moments of one column, and of others, agree to rounding."""
    mean, sd = abs(column[0]), column[1]
    if sd == 0:
        room = np.full(len(column), _SAME * mean)
    else:
        room = np.full(len(column), _SAME + _ROUNDING * mean / sd)
        room[:2] *= sd
    return np.abs(columns - column) <= room


def _other_outcomes(one, other):
    """In words how outcomes differ, whatever their rows; None if they do not."""
    if abs(one.share - other.share) > _SAME:
        return f"shares of {one.share:.6g} and {other.share:.6g}"
    (mean, sd), (mean2, sd2) = one.outcome, other.outcome
    if max(abs(mean - mean2), abs(sd - sd2)) > _SAME * sd + _ROUNDING * abs(mean):
        return f"means of {mean:.10g} and {mean2:.10g}, standard deviations of {sd:.10g} and {sd2:.10g}"
    return None


def not_the_rows(signature, X, y, sample_weight, factors, offset=None):
    """In words how rows differ from those of a signature; None if they do not, as far as can be seen.

    Parameters
    ----------
    signature : RowSignature
        Of the rows of a fit.
    X, y, sample_weight, factors, offset
        As in `row_signature`; factors that the fit had not are left out.
    """
    factors = {name: factor for name, factor in factors.items() if name in signature.factors}
    signature = replace(signature, named=True)  # columns of arrays are in their places, too
    again = row_signature(X, signature.names, True, y, sample_weight, factors, offset)
    if (differ := _other_outcomes(signature, again)) is not None:
        return f"their outcomes have {differ}"
    verdict, what = compare_rows(signature, again)
    return None if verdict in ("same", "unknown") else f"{listed(map(repr, what))} differ, or go with other outcomes"


def check_rows(one, other, name, its):
    """An error unless two fitted models saw the same rows, a warning where that can't be told.

    Parameters
    ----------
    one, other : fitted estimators
    name, its : str
        What they are called in messages.

    Returns
    -------
    changed : list of str
        Columns that hold other values, although the rows are the same; "offset", where the offsets differ in more than
        a constant, or one has none.
    """
    signatures = [model._fitted.row_signature for model in (one, other)]
    if None in signatures:
        return []
    both = f"only models of the same rows and outcomes can be compared: {name} and {its}"
    if (differ := _other_outcomes(*signatures)) is not None:
        of_rows = f" of the rows are {one.classes_[1]!s}" if hasattr(one, "classes_") else ""
        raise ValueError(f"{both} differ in their outcomes: {differ}{of_rows}")
    verdict, what = compare_rows(*signatures)
    if verdict == "rows":
        raise ValueError(
            f"{both} have as many rows, but {listed(map(repr, what))} do not hold the same values in them. Fit both to "
            "the same rows: those without missing values in any column that one of them uses"
        )
    if verdict == "outcome":
        but = f"other rows are {one.classes_[1]!s}" if hasattr(one, "classes_") else "beside other outcomes"
        raise ValueError(
            f"{both} differ in their outcomes: {listed(map(repr, what))} hold the same values, but {but}"
        )
    if verdict == "unknown":
        warn(
            f"{name} and {its} have no column or grouping factor in common that would show that they were fitted to "
            "the same rows: the comparison is right only if they were",
            DifferentRowsWarning,
        )
    changed = what if verdict == "changed" else []
    (sd, _), (sd2, _) = offsets = [signature.offset for signature in signatures]
    same = np.abs(np.subtract(*offsets)).max() <= _SAME * max(sd, sd2)
    return changed if same else [*changed, "offset"]


def check_same_columns(signature, X, y, sample_weight):
    """An error unless rows have the moments of a fit's: means, spreads, and how features go with the outcome.

    Parameters
    ----------
    signature : RowSignature
        Of the fit.
    X, y, sample_weight
        As to `row_signature`.
    """
    again = row_signature(X, signature.names, signature.named, y, sample_weight, {})
    scale = np.ones_like(again.columns)
    scale[:, :2] = np.where(again.columns[:, 1:2] > 0, again.columns[:, 1:2], 1.0 + np.abs(again.columns[:, :1]))
    other = (np.abs(again.columns - signature.columns[:, :3]) > _ALIKE * scale).any(axis=1)
    if other.any():
        names = [repr(name) for name, differs in zip(signature.names, other, strict=True) if differs]
        raise ValueError(f"these are not the rows of the fit: its {listed(names)} had other values")
    (mean, sd), (mean_of_fit, sd_of_fit) = again.outcome, signature.outcome
    if abs(again.share - signature.share) > _ALIKE or abs(mean - mean_of_fit) + abs(sd - sd_of_fit) > _ALIKE * sd:
        raise ValueError("these are not the rows of the fit: it had other outcomes")
