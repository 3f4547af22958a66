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


def _warm_up(models):
    """First calls pay for imports; let a small problem pay."""
    X, y, groups = Problem(2_000, 40).make()
    runners.plain_fit(X, y)
    for model in models:
        runners.sklmm_fit(X, y, groups, model)


def fits(problem, models, repeats):
    """Process time of every model's whole public fit and of the plain fit, taken in turns."""
    X, y, groups = Problem(**problem).make()
    _warm_up(models)
    seconds = {"plain": [], **{model: [] for model in models}}
    reached = {}
    for _ in range(repeats):
        seconds["plain"].append(_timed(time.process_time, runners.plain_fit, X, y)[0])
        for model in models:
            spent, fitted = _timed(time.process_time, runners.sklmm_fit, X, y, groups, model)
            seconds[model].append(spent)
            reached[model] = dict(
                log_likelihood=float(fitted.log_likelihood_),
                n_full_passes=fitted.fit_report_.n_full_passes,
                converged=bool(fitted.converged_),
                singular=bool(fitted.is_singular_),
            )
    return dict(seconds=seconds, reached=reached)


def peer(problem, name):
    return runners.peer_fit(name, *Problem(**problem).make())


def speedup(problem, model, repeats, n_threads):
    """Wall times with one thread and with `n_threads`, taken in turns."""
    X, y, groups = Problem(**problem).make()
    _warm_up([model])
    seconds = {1: [], n_threads: []}
    for _ in range(repeats):
        for k, spent in seconds.items():
            spent.append(_timed(time.perf_counter, runners.sklmm_fit, X, y, groups, model, n_threads=k)[0])
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
    """Peak bytes of a fit above what X, y and groups (and the imported libraries) hold already."""
    X, y, groups = Problem(**problem).make()
    _warm_up([] if model == "plain" else [model])
    gc.collect()
    _reset_peak()
    before = _peak_bytes()
    if model == "plain":
        runners.plain_fit(X, y)
    else:
        runners.sklmm_fit(X, y, groups, model)
    return dict(above=_peak_bytes() - before, data=X.nbytes)


def several(problem, repeats):
    """Process time of fits with several factors, in turns with one factor alone, the first."""
    X, y, groups = SeveralFactors(**problem).make()
    _warm_up([])
    runners.several_fit(X[:500], y[:500], groups[:500])
    seconds = {"one factor": [], "all": []}
    for _ in range(repeats):
        seconds["one factor"].append(_timed(time.process_time, runners.several_fit, X, y, groups.iloc[:, :1])[0])
        spent, fitted = _timed(time.process_time, runners.several_fit, X, y, groups)
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
    X, y, groups = SeveralFactors(**problem).make()
    runners.several_fit(X[:500], y[:500], groups[:500])
    gc.collect()
    _reset_peak()
    before = _peak_bytes()
    runners.several_fit(X, y, groups)
    return dict(above=_peak_bytes() - before, data=X.nbytes)


def several_peer(problem, name):
    return runners.peer_fit(name, *SeveralFactors(**problem).make())


def pickle_size(problem):
    X, y, groups = Problem(**problem).make()
    return dict(bytes=len(pickle.dumps(runners.sklmm_fit(X, y, groups, "Laplace, 1 | g"))))


def predict(problem, n_rows, effects):
    """Process time of predict_proba for `n_rows` rows of known groups."""
    problem = Problem(**problem)
    fitted = runners.sklmm_fit(*problem.make(), "Laplace, 1 | g")
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
