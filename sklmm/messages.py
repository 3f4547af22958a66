"""Texts of messages: lists of names, labels, how wide they are on a terminal; and warnings at the user's line."""

import difflib
import sys
import unicodedata
import warnings

import numpy as np


def display_width(text):
    """Number of columns of a fixed-width terminal that `text` takes.

    Combining marks take none, East Asian wide and full-width characters take two.
    """
    if text.isascii():
        return len(text)
    width = 0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        width += 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
    return width


def listed(texts, most=10):
    """Texts with commas, those beyond `most` as their number: a table may have thousands of columns.

    Parameters
    ----------
    texts : iterable of str
        As they are to be shown.
    most : int

    Returns
    -------
    str
        "'a', 'b' and 37 more".
    """
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def joined(names, word="and"):
    """All of some names, as a sentence has them: "a, b and c"."""
    names = [str(name) for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def similar_names(name, known):
    """Those of the known names that `name` may have been meant for, the likeliest first; at most three.

    ColumnTransformer puts the name of a transformer before that of a column: "remainder__school".
    """
    prefixed = [k for k in known if k.endswith(f"__{name}")]
    folded = [k for k in known if k.casefold().strip() == name.casefold().strip()]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return list(dict.fromkeys([*prefixed, *folded, *close]))[:3]


def shown_label(label):
    """A label of a class or group for messages, as its user would write it: 1 and not 1.0, whatever NumPy calls it."""
    label = label.item() if isinstance(label, np.generic) else label
    return repr(int(label) if isinstance(label, float) and label.is_integer() else label)


def warn(message, category):
    """Warn at the user's line, the first one that is neither this package's nor scikit-learn's.

    Parameters
    ----------
    message : str
    category : type
    """
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("sklmm.", "sklearn.")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
