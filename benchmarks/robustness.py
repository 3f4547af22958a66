"""Fits random hard designs and judges them with likelihoods and optimisers that the package has no part in.

    python benchmarks/robustness.py [--designs 3000] [--seed 0] [--kind one] [--jobs 1] [--seconds 60] [--small]
    python benchmarks/robustness.py --only one:0:17 --verbose

prints what was found by kind of design, and each fault with the name of its design, which ``--only`` runs alone. Exits
with 1 if there is a fault. The designs and the judge are in tests/robustness_*.py.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from robustness_designs import KINDS, draw
from robustness_judge import Verdict, run

WAITING = 30  # times the limit, which counts the processor's time, is how long a process may take on a busy machine
SHARES = {"one": 0.3, "slopes": 0.16, "nested": 0.12, "crossed": 0.14, "gee": 0.28}


def work(connection, seconds):
    """A worker: designs in, "fitted" and verdicts out. A fit, or its judge, that takes too long ends the process."""

    def fitted():
        connection.send("fitted")
        signal.setitimer(signal.ITIMER_PROF, seconds)

    while (task := connection.recv()) is not None:
        design = draw(*task)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            verdict = run(design, fitted=fitted)
        except Exception as error:  # of the judge: what it does to fits is in the verdict
            verdict = Verdict(design.name, state=f"the judge failed: {type(error).__name__}: {str(error)[:100]}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(verdict)


class Worker:
    """A process that can be ended when a design takes too long."""

    def __init__(self, seconds):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, seconds), daemon=True)
        self.process.start()
        other.close()
        self.name = None

    def give(self, task):
        self.name, self.began, self.fitted = "{}:{}:{}".format(*task), time.monotonic(), False
        self.connection.send(task)

    def ended(self, kind, text):
        self.process.kill()
        self.process.join()
        verdict = Verdict(self.name, state=kind)
        if self.fitted:
            verdict.state = f"the judge failed: {text}"
        else:
            verdict.fault(kind, text)
        return verdict

    def result(self):
        """The verdict, if there is one now."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            if code == -signal.SIGPROF:
                return self.ended("hang", "the time limit is over")
            return self.ended("crash", f"the process ended with code {code}")
        if message == "fitted":
            self.fitted = True
            return None
        self.name = None
        return message


def verdicts(tasks, n_jobs, seconds):
    """Judge designs in processes of their own; in no order."""
    tasks = iter(tasks)
    workers = [Worker(seconds) for _ in range(n_jobs)]
    while True:
        for worker in workers:
            if worker.name is None and (task := next(tasks, None)) is not None:
                worker.give(task)
        busy = [worker for worker in workers if worker.name is not None]
        if not busy:
            break
        ready = wait([worker.connection for worker in busy], timeout=1.0)
        for worker in busy:
            verdict = worker.result() if worker.connection in ready else None
            if verdict is None and time.monotonic() - worker.began > WAITING * seconds:
                verdict = worker.ended("hang", f"no result after {WAITING * seconds:g} s, waiting for something")
            if verdict is not None:
                if not worker.process.is_alive():
                    workers[workers.index(worker)] = Worker(seconds)
                yield verdict
    for worker in workers:
        worker.connection.send(None)
        worker.process.join()


def tasks_of(options):
    """Kinds in turn, so that a run that is stopped has seen all of them."""
    kinds = [options.kind] if options.kind else list(KINDS)
    share = {kind: SHARES[kind] / sum(SHARES[k] for k in kinds) for kind in kinds}
    done = Counter()
    for i in range(1, options.designs + 1):
        kind = max(kinds, key=lambda k: share[k] * i - done[k])
        yield kind + options.small * "-small", options.seed, options.first + done[kind]
        done[kind] += 1


def run_one(name, verbose):
    kind, seed, index = name.split(":")
    design = draw(kind, int(seed), int(index))
    verdict = run(design, deep=True if verbose else None)
    if verbose:
        print(design.describe())
        print("\n".join(verdict.log))
    print(f"{name}: {verdict.state}")
    for kind, text in verdict.faults:
        print(f"{name}: {kind}: {text}")
    return bool(verdict.faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--designs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of each kind's first design")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, for one fit or judgement")
    parser.add_argument("--small", action="store_true", help="a few hundred rows at most")
    parser.add_argument("--only", metavar="KIND:SEED:INDEX")
    parser.add_argument("--verbose", action="store_true", help="with --only: data, fit, the judge's points")
    options = parser.parse_args()
    if options.only:
        sys.exit(run_one(options.only, options.verbose))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    states, faults, began, in_fits, in_judge = Counter(), Counter(), time.monotonic(), 0.0, 0.0
    for verdict in verdicts(tasks_of(options), options.jobs, options.seconds):
        kind = verdict.name.partition(":")[0]
        states[kind, verdict.state] += 1
        in_fits, in_judge = in_fits + verdict.fit_seconds, in_judge + verdict.judge_seconds
        for fault, text in verdict.faults:
            faults[kind, fault] += 1
            print(f"{verdict.name}: {fault}: {text}", flush=True)
        if verdict.state.startswith("the judge failed"):
            print(f"{verdict.name}: {verdict.state}", flush=True)
    seconds = time.monotonic() - began
    print(f"\n{options.designs:,} designs in {seconds:.0f} s: fits {in_fits:.0f} s, judge {in_judge:.0f} s")
    for title, counts in (("ends", states), ("faults", faults)):
        print(f"\n{title}")
        for (kind, what), count in sorted(counts.items()):
            print(f"  {kind:8s} {what.split(':')[0]:40s} {count:6,d}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
