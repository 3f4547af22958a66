"""``make bench``: what a fit costs, in units of scikit-learn's plain logistic regression on the same data.

Ratios are of process time with one thread, of the whole public ``fit`` (validation and group encoding
included), taken in turns with the plain fit in one process: medians of the paired ratios, with their range.
"""

import argparse

import jobs
import report
import runners
from problems import Problem, standard_problems

WEIGHED_MODELS = ("Laplace, 1 | g", "GEE exchangeable")


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


def time_fits(args, problems):
    peers = runners.installed_peers() if args.peers_max_n > 0 else []
    libraries = dict.fromkeys(runners.PEERS[name].library for name in peers)
    print("peers:", ", ".join(libraries) or "none", "\n", flush=True)
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


def time_threads(args, problem):
    print("\nThreads")
    for model in runners.models_for(problem, args.models):
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
    # Fixing the threshold makes malloc hand freed arrays back, so that the peak counts live memory.
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    for problem in problems:
        for model in ("plain", *(model for model in WEIGHED_MODELS if model in args.models)):
            result = jobs.run("memory", extra_env=environment, problem=problem.as_dict(), model=model)
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
    time_fits(args, problems)
    million = [p for p in problems if p.n_rows == 1_000_000 and not p.slope_sd]
    if million:
        time_threads(args, million[0])
        weigh(args, million)
        if "Laplace, 1 | g" in args.models:
            after_the_fit(args.large)


if __name__ == "__main__":
    main()
