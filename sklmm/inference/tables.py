"""Data frames that are printed whole."""

import html

import pandas as pd


class Table(pd.DataFrame):
    """A data frame that shows all of its columns, however wide, and sentences below them.

    In all else it is a data frame. The sentences are in ``attrs["notes"]``.
    """

    @property
    def _constructor(self):
        return Table

    def with_note(self, sentence):
        """The table with a sentence below it."""
        if sentence not in self.attrs.get("notes", ()):
            self.attrs["notes"] = [*self.attrs.get("notes", ()), sentence]
        return self

    def to_frame(self):
        """A plain data frame."""
        return pd.DataFrame(self)

    def __repr__(self):
        table = pd.DataFrame(self).to_string(max_rows=pd.get_option("display.max_rows"))
        return "\n".join([table, *self.attrs.get("notes", ())])

    def _repr_html_(self):
        with pd.option_context("display.max_columns", None):
            table = pd.DataFrame(self)._repr_html_()
        return "\n".join([table, *(f"<p>{html.escape(note, quote=False)}</p>" for note in self.attrs.get("notes", ()))])
