"""The measurements, each run in a child process so that threads, memory and caches are its own.

``python benchmarks/jobs.py '{"job": "fits", ...}'`` prints one JSON object as its last line; `run` calls it.
"""

import gc
import json
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import runners
from problems import Problem, SeveralFactors

THREAD_VARIABLES = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"]


def run(job, env_threads=1, extra_env=(), **arguments):
    """Result of `job` in a child process limited to `env_threads`, or {"error": last line of its stderr}."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(env_threads)), **dict(extra_env)}
    environment.pop("PYTHONSAFEPATH", None)  # the child finds its sibling modules beside its script
    command = [sys.executable, __file__, json.dumps({"job": job, **arguments})]
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode:
        return {"error": (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]}
    return json.loads(child.stdout.splitlines()[-1])


def _timed(clock, function, *args, **kwargs):
    gc.collect()
    start = clock()
    result = function(*args, **kwargs)
    return clock() - start, result


def _warm_up(models, linear):
    """First calls pay for imports; let a small problem pay."""
    rows = Problem(2_000, 500, group_size=4, linear=linear).make()
    runners.plain_fit(rows)
    for model in models:
        runners.sklmm_fit(rows, model)


def fits(problem, models, repeats):
    """Process time of every model's whole public fit and of the plain fit, taken in turns."""
    rows = Problem(**problem).make()
    _warm_up(models, runners.has_numbers(rows))
    seconds = {"plain": [], **{model: [] for model in models}}
    reached = {}
    for _ in range(repeats):
        seconds["plain"].append(_timed(time.process_time, runners.plain_fit, rows)[0])
        for model in models:
            spent, fitted = _timed(time.process_time, runners.sklmm_fit, rows, model)
            seconds[model].append(spent)
            reached[model] = runners.reached(fitted) | dict(
                n_full_passes=fitted.fit_report_.n_full_passes,
                converged=bool(fitted.converged_),
                singular=bool(getattr(fitted, "is_singular_", False)),
            )
    return dict(seconds=seconds, reached=reached)


def peer(problem, name):
    """A peer's fit, and how far it is from ours."""
    rows = Problem(**problem).make()
    theirs = runners.peer_fit(name, rows)
    return theirs | dict(less_ours=runners.less_ours(name, rows, theirs))


def speedup(problem, model, repeats, n_threads):
    """Wall times with one thread and with `n_threads`, taken in turns."""
    rows = Problem(**problem).make()
    _warm_up([model], runners.has_numbers(rows))
    seconds = {1: [], n_threads: []}
    for _ in range(repeats):
        for k, spent in seconds.items():
            spent.append(_timed(time.perf_counter, runners.sklmm_fit, rows, model, n_threads=k)[0])
    return dict(one=seconds[1], several=seconds[n_threads])


def _reset_peak():
    """Forget the peak so far; True where the platform can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak_bytes():
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(problem, model):
    """Peak bytes of a fit above what the rows (and the imported libraries) hold already."""
    rows = Problem(**problem).make()
    _warm_up([] if model == "plain" else [model], runners.has_numbers(rows))
    gc.collect()
    _reset_peak()
    before = _peak_bytes()
    if model == "plain":
        runners.plain_fit(rows)
    else:
        runners.sklmm_fit(rows, model)
    return dict(above=_peak_bytes() - before, data=rows.X.nbytes)


def _first(rows, n=500):
    """A small problem, so that first calls have paid for imports."""
    return rows._replace(X=rows.X[:n], y=rows.y[:n], groups=rows.groups[:n])


def several(problem, repeats):
    """Process time of fits with several factors, in turns with one factor alone, the first."""
    rows = SeveralFactors(**problem).make()
    alone = rows._replace(groups=rows.groups.iloc[:, :1])
    runners.several_fit(_first(rows))
    seconds = {"one factor": [], "all": []}
    for _ in range(repeats):
        seconds["one factor"].append(_timed(time.process_time, runners.several_fit, alone)[0])
        spent, fitted = _timed(time.process_time, runners.several_fit, rows)
        seconds["all"].append(spent)
    return dict(
        seconds=seconds,
        log_likelihood=float(fitted.log_likelihood_),
        converged=bool(fitted.converged_),
        evaluations=fitted.fit_report_.n_full_passes,
        pickle=len(pickle.dumps(fitted)),
    )


def several_memory(problem):
    """As `memory`."""
    rows = SeveralFactors(**problem).make()
    runners.several_fit(_first(rows))
    gc.collect()
    _reset_peak()
    before = _peak_bytes()
    runners.several_fit(rows)
    return dict(above=_peak_bytes() - before, data=rows.X.nbytes)


def several_peer(problem, name):
    return runners.peer_fit(name, SeveralFactors(**problem).make())


def pickle_size(problem):
    rows = Problem(**problem).make()
    return dict(bytes=len(pickle.dumps(runners.sklmm_fit(rows, "Laplace, 1 | g"))))


def predict(problem, n_rows, effects):
    """Process time of predict_proba for `n_rows` rows of known groups."""
    problem = Problem(**problem)
    fitted = runners.sklmm_fit(problem.make(), "Laplace, 1 | g")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, problem.n_features))
    groups = rng.integers(0, problem.n_groups, n_rows)
    spent, _ = _timed(time.process_time, fitted.predict_proba, X, groups=groups, predict_effects=effects)
    return dict(seconds=spent)


ALL_JOBS = (fits, peer, speedup, memory, several, several_memory, several_peer, pickle_size, predict)
JOBS = {job.__name__: job for job in ALL_JOBS}

if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    print(json.dumps(JOBS[arguments.pop("job")](**arguments)))
