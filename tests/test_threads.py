"""How many threads a process uses, and that those forked from it do not wait for threads that were not."""

import multiprocessing
import subprocess
import sys

import pytest

from sklmm.passes.threads import FEW_ROWS, effective_threads

CHILD_FITS = """
import multiprocessing
import sys
import warnings

import numpy as np

from sklmm import GEELogisticRegression, MixedEffectEncoder, MixedLogisticRegression
from sklmm.passes.threads import effective_threads

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
groups, X = rng.integers(0, 800, 24_000), rng.normal(size=(24_000, 2))
y = (rng.random(24_000) < 1 / (1 + np.exp(-X[:, 0] - rng.normal(size=800)[groups]))).astype(int)


def results(queue=None):
    mixed = MixedLogisticRegression(n_threads=2).fit(X, y, groups=groups)
    gee = GEELogisticRegression(n_threads=2).fit(X, y, groups=groups)
    slopes = MixedLogisticRegression("1 + x0 | group", n_threads=2).fit(X, y, groups=groups)
    updated = mixed.update_groups(X[::2], y[::2], groups[::2])
    encoded = MixedEffectEncoder().fit(groups[:, None], y).transform(groups[:, None])
    arrays = [mixed.coef_, updated.predict_proba(X, groups), gee.coef_, gee.predict_proba(X), slopes.coef_, encoded]
    found = [np.ascontiguousarray(a).tobytes() for a in arrays]
    if queue is None:
        return found
    queue.put((found, effective_threads(2)))


expected = results()
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=results, args=(queue,), daemon=True)
child.start()
found, n_threads = queue.get(timeout=60)
sys.exit(found != expected or n_threads != 1)
"""


def test_number_of_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert effective_threads(2) == 2
    assert effective_threads(None) == 3
    assert effective_threads(None, FEW_ROWS - 1) == 1


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_fits_what_its_parent_does():
    """In a process of its own: in one with threads of other libraries a fork may meet their locks."""
    subprocess.run([sys.executable, "-c", CHILD_FITS], check=True, timeout=120)


def test_a_spawned_process_has_its_own_threads():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(effective_threads, (2,)) == 2
