"""Numbers as a summary writes them: a dash for NaN, no digits that mean nothing."""

from functools import partial

import numpy as np


def column_decimals(scales):
    """Decimals that show four digits of the smallest of some scales, between 2 and 5."""
    scales = np.asarray(scales, dtype=float)
    scales = scales[np.isfinite(scales) & (scales > 0)]
    return int(np.clip(3 - np.floor(np.log10(scales.min())), 2, 5)) if scales.size else 4


def writer(scale, decimals):
    """How to write a row's numbers: a scale too fine for the column's decimals gets exponents."""
    return _scientific if 0 < scale < 10.0 ** (1 - decimals) else partial(fixed, decimals=decimals)


def fixed(value, decimals):
    """A number with so many decimals; a large one with an exponent."""
    if not np.isfinite(value):
        return _special(value)
    if abs(value) >= 1e7:
        return _scientific(value)
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text  # no "-0.00"


def p_value(value):
    """A p-value; below what double precision tells from 0, that bound."""
    if np.isnan(value):
        return "-"
    if value < 2e-16:
        return "<2e-16"
    return f"{value:.1e}" if value < 1e-4 else f"{value:.4f}"


def ratio(value):
    """An odds ratio or one of its limits."""
    if not np.isfinite(value):
        return _special(value)
    return f"{value:.3f}" if 0.01 <= value < 1e4 else f"{value:.2e}"


def count(value):
    """A count with thousands separated; sums of weights may have a fraction."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.10g}"


def _scientific(value):
    return f"{value:.3e}" if np.isfinite(value) else _special(value)


def _special(value):
    return "-" if np.isnan(value) else f"{value:g}"
