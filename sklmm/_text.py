"""Columns a text takes on a terminal: what a caret line and a padded table both need."""

import unicodedata

__all__ = ["display_width"]


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
