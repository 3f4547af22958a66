"""How many threads the passes over rows use."""

import os

import joblib

FEW_ROWS = 20_000  # take less time on one thread than threads take to meet
_is_forked = False


def _note_fork():
    global _is_forked
    _is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def effective_threads(n_threads, n_rows=FEW_ROWS):
    """The number of threads to use: all CPUs this process may use, or what OMP_NUM_THREADS says; one for few rows.

    One in a forked process: OpenMP's threads are not forked with it, and gcc's library would wait for them for ever.
    """
    if _is_forked:
        return 1
    if n_threads is not None:
        return int(n_threads)
    if n_rows < FEW_ROWS:
        return 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) else joblib.cpu_count()
