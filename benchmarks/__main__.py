"""``make bench``: what a fit costs, in units of scikit-learn's plain logistic or linear regression on the same data.

Ratios are of process time with one thread, of the whole public ``fit`` (validation and group encoding
included), taken in turns with the plain fit in one process: medians of the paired ratios, with their range.
"""

import argparse

import jobs
import report
import runners
from problems import Problem, several_factor_problems, standard_problems

# Fixing the threshold makes malloc hand freed arrays back, so that the peak counts live memory.
LIVE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}

WEIGHED_MODELS = ("Laplace, 1 | g", "GEE exchangeable", "REML, 1 | g", "linear GEE exchangeable")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="sizes up to 1e5 rows, few repeats, fits only")
    parser.add_argument("--n", type=float, nargs="+", help="only problems with these numbers of rows")
    parser.add_argument("--repeats", type=int, help="fits of each model (default: by size, 5 to 25)")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=runners.SKLMM_MODELS,
        default=runners.SKLMM_MODELS,
        metavar="MODEL",
        help=f"of {runners.SKLMM_MODELS}; default: all",
    )
    parser.add_argument("--peers-max-n", type=float, default=1e5, help="most rows for peers (default 1e5)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the speed-up (default 2)")
    parser.add_argument("--large", action="store_true", help="also time predict_proba on 1e7 rows")
    return parser.parse_args()


def find_peers(args):
    """Names of the peers that take part; says which libraries are here, and which are not."""
    peers, absent = runners.installed_peers() if args.peers_max_n > 0 else ([], [])
    libraries = dict.fromkeys(runners.PEERS[name].library for name in peers)
    missing = f"; not installed, skipped: {', '.join(absent)}" if absent else ""
    print("peers:", ", ".join(libraries) or "none", f"{missing}\n", flush=True)
    return peers


def time_fits(args, problems, peers):
    for problem in problems:
        models = runners.models_for(problem, args.models)
        if not models:
            continue
        repeats = args.repeats or min(25, max(5, 2_000_000 // problem.n_rows))
        result = jobs.run("fits", problem=problem.as_dict(), models=models, repeats=repeats)
        # The order of the rows is nothing to a peer: one fit suffices.
        asked = problem.n_rows <= args.peers_max_n and not problem.shuffled and not problem.slope_sd
        takers = [name for name in peers if asked and runners.PEERS[name].model in models]
        theirs = {name: jobs.run("peer", problem=problem.as_dict(), name=name) for name in takers}
        print(report.fits(problem, result, theirs), "\n", flush=True)


def time_several_factors(args, peers):
    print("Several factors")
    for problem in several_factor_problems():
        n_rows = problem.n_rows or 73_421
        if not runners.has_mixed_model(problem, args.models):
            continue
        if args.quick and n_rows > 100_000 or args.n and n_rows not in args.n:
            continue
        result = jobs.run("several", problem=problem.as_dict(), repeats=args.repeats or 5)
        space = jobs.run("several_memory", extra_env=LIVE_MEMORY, problem=problem.as_dict())
        takers = runners.peers_of_several_factors(problem, peers) if n_rows <= args.peers_max_n else []
        theirs = {name: jobs.run("several_peer", problem=problem.as_dict(), name=name) for name in takers}
        print(report.several(problem, result, space, theirs), "\n", flush=True)


def time_threads(args, problems):
    print("\nThreads")
    for problem, model in [(p, model) for p in problems for model in runners.models_for(p, args.models)]:
        result = jobs.run(
            "speedup",
            env_threads=args.threads,
            n_threads=args.threads,
            problem=problem.as_dict(),
            model=model,
            repeats=args.repeats or 5,
        )
        print(" ", report.speedup(problem, model, args.threads, result), flush=True)


def weigh(args, problems):
    print("\nPeak memory of a fit")
    for problem in problems:
        models = [model for model in runners.models_for(problem, args.models) if model in WEIGHED_MODELS]
        for model in ["plain", *models] if models else []:
            result = jobs.run("memory", extra_env=LIVE_MEMORY, problem=problem.as_dict(), model=model)
            print(" ", report.memory(problem, model, result), flush=True)


def after_the_fit(large):
    problem = Problem(1_000_000, 1_000)
    size = jobs.run("pickle_size", problem=problem.as_dict())
    print(f"\nPickle of a model of {problem}: {size.get('bytes', size):,} bytes")
    if not large:
        return
    print("\npredict_proba, 10,000,000 rows of known groups, one thread")
    for effects in ("posterior", "mode"):
        result = jobs.run("predict", problem=problem.as_dict(), n_rows=10_000_000, effects=effects)
        print(f"  {effects}: {result.get('seconds', result):.2f} s", flush=True)


def main():
    args = parse_arguments()
    problems = standard_problems()
    if args.quick:
        problems = [p for p in problems if p.n_rows <= 100_000]
        args.repeats = args.repeats or 3
    if args.n:
        problems = [p for p in problems if p.n_rows in args.n]
    print(report.machine())
    peers = find_peers(args)
    time_fits(args, problems, peers)
    time_several_factors(args, peers)
    million = [p for p in problems if p.n_rows == 1_000_000 and not p.slope_sd]
    if million:
        time_threads(args, [next(p for p in million if p.linear == linear) for linear in (False, True)])
        weigh(args, million)
        if "Laplace, 1 | g" in args.models:
            after_the_fit(args.large)


if __name__ == "__main__":
    main()
