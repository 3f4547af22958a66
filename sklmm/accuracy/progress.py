"""One line of progress: written anew in place on a terminal, now and then elsewhere."""

import sys

_LINES = 4  # of each stage, where lines stay


class Progress:
    """How far a stage is.

    Parameters
    ----------
    verbose : int
        0 shows nothing.
    name : str
        Who is at work.
    """

    def __init__(self, verbose, name):
        self.verbose, self.name = verbose, name
        self._shown, self._quarter = "", 0

    def __call__(self, done, total, what):
        """Say that `done` of `total` are done; `what` says of what, and what was the last."""
        if not self.verbose:
            return
        text = f"[{self.name}] {done:,} of {total:,} {what}"
        stream = sys.stdout
        if stream.isatty():
            end = "\n" if done == total else ""
            print(f"\r{text.ljust(len(self._shown))}", end=end, file=stream, flush=True)
            self._shown = "" if end else text
            return
        quarter = done * _LINES // total
        if quarter != self._quarter:
            print(text, file=stream, flush=True)
        self._quarter = 0 if done == total else quarter
