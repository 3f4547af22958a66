"""Numbers by row, made of columns as a formula writes them: what stands in offset(...), and counts of successes."""

import numpy as np
import pandas as pd

from sklmm.design.counts import read_counts, rows_of_counts
from sklmm.design.formula_columns import plain_columns, take_columns
from sklmm.design.formula_text import translate


class Expression:
    """What a call or a sum of columns is for each row; it remembers what transforms learnt from the rows of the fit.

    Parameters
    ----------
    text : str
        As the user wrote it: "log(exposure)", "size - incidence".
    data : DataFrame
    stand_ins : StandIns
    called : str
        What the whole is called, for messages: "offset(log(exposure))".

    Attributes
    ----------
    names : list of str
        The columns in it.
    """

    def __init__(self, text, data, stand_ins, called):
        self.text, self.called, self._stand_ins, self._spec = text, called, stand_ins, None
        self._translated, names = translate(text, list(getattr(data, "columns", ())), stand_ins)
        self.names = list(dict.fromkeys(names))
        take_columns(data, self.names, "formula")

    def learn(self, frame):
        """Values for the rows of the fit, plain columns of a frame."""
        from formulaic import Formula

        return self._values(frame, lambda: Formula(f"0 + I({self._translated})"))

    def of(self, frame):
        """Values for other rows."""
        return self._values(frame, lambda: self._spec)

    def _values(self, frame, source):
        named = frame.rename(columns=self._stand_ins.of)
        try:
            with np.errstate(all="ignore"):  # what is not defined is told of by its name
                matrix = source().get_model_matrix(named, context={}, na_action="ignore")
        except Exception as error:  # formulaic's own errors are not ValueErrors
            raise ValueError(f"formula: can't evaluate {self.called} ({self._stand_ins.back(str(error))})") from error
        self._spec = matrix.model_spec
        if matrix.shape[1] != 1 or self._spec.factor_contrasts:
            raise ValueError(f"formula: {self.called} must be one number for each row")
        return pd.DataFrame(matrix).iloc[:, 0].to_numpy(dtype=np.float64)


class LinesOfCounts:
    """Counts left of the tilde: numbers of successes, and of trials or failures, of each line.

    Parameters
    ----------
    successes, other : str
    are_failures : bool
        Whether `other` is the failures, not the trials.
    data, stand_ins
        As for `Expression`.

    Attributes
    ----------
    names : list of str
        The columns in them.
    """

    def __init__(self, successes, other, are_failures, data, stand_ins):
        self.are_failures = are_failures
        self.parts = [Expression(text, data, stand_ins, repr(text)) for text in (successes, other)]
        self.names = list(dict.fromkeys(name for part in self.parts for name in part.names))

    def trials(self, data):
        """Numbers of trials of the lines of a data frame, for which the columns of successes may be absent."""
        if self.are_failures:
            line, _, weights = self.rows(data)
            return np.bincount(line, weights=weights, minlength=len(data))
        part = self.parts[1]
        columns = plain_columns(take_columns(data, part.names, "the model's formula"))
        numbers = part.learn(columns)
        return read_counts(np.zeros(len(columns)), numbers, len(columns), ("successes", part.text))[1]

    def rows(self, data):
        """The rows that the lines of a data frame stand for, see `rows_of_counts`: line, y and weights of each.

        Raises
        ------
        ValueError
            If these are no counts.
        """
        columns = plain_columns(take_columns(data, self.names, "the model's formula"))
        numbers, texts = ([part.learn(columns) for part in self.parts], [part.text for part in self.parts])
        successes, trials = read_counts(*numbers, len(columns), texts, self.are_failures)
        return rows_of_counts(trials - successes, successes)
