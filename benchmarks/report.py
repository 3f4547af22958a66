"""Plain-text lines from the results of the jobs."""

import os
import platform
from statistics import median

import numpy
import sklearn

import sklmm
from runners import MARGINAL_MODELS, MIXED_MODELS, PEERS

COLUMNS = ["ratio", "spread", "seconds", "passes"]
# Of each kind of model: what it arrives at, and how far peers are from ours by the same definitions: of the
# likelihood the difference, of the estimates the largest relative one.
KINDS = [
    (MIXED_MODELS, ["log-likelihood", "less ours"]),
    (MARGINAL_MODELS, ["alpha", "coef. off by", "alpha off by"]),
]
WIDTHS = [8, 17, 10, 8, 20, 14, 14]


def machine():
    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in (sklmm, sklearn, numpy))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}"


def _row(label, *cells):
    return f"  {label:<32}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=False))


def _arrived(result):
    if "log_likelihood" in result:
        return f"{result['log_likelihood']:.7f}"
    low, high = min(result["alpha"]), max(result["alpha"])
    return f"{low:.7f}" if low == high else f"{low:.4f} to {high:.4f}"


def _ours(model, seconds, plain, reached):
    ratios = [ours / theirs for ours, theirs in zip(seconds, plain, strict=True)]
    row = _row(
        f"sklmm {model}",
        f"{median(ratios):.3f}",
        f"{min(ratios):.2f} - {max(ratios):.2f}",
        f"{median(seconds):.3f}",
        reached["n_full_passes"],
        _arrived(reached),
    )
    return row + "  (singular)" * reached["singular"] + "  (did not converge)" * (not reached["converged"])


def _theirs(name, peer, plain):
    if "error" in peer:
        return f"  {name:<32}  failed: {peer['error']}"
    seconds = peer["process"]
    differences = [f"{difference:+.1e}" for difference in peer["less_ours"].values()]
    ratio = f"{seconds / median(plain):.1f}"
    return _row(name, ratio, "", f"{seconds:.3f}", "", _arrived(peer), *differences)


def fits(problem, result, peers):
    """Tables of one problem. `peers`: name -> result of the peer job."""
    lines = [str(problem)]
    if "error" in result:
        return "\n".join([*lines, f"  failed: {result['error']}"])
    plain = result["seconds"].pop("plain")
    unit = _row(f"plain fit (median of {len(plain)})", "1", "", f"{median(plain):.3f}")
    for models, columns in KINDS:
        ours = [model for model in result["seconds"] if model in models]
        theirs = [name for name in peers if PEERS[name].model in models]
        if ours:
            lines += [_row("model", *COLUMNS, *columns), unit]
            lines += [
                _ours(model, result["seconds"][model], plain, result["reached"][model]) for model in ours
            ]
            lines += [_theirs(name, peers[name], plain) for name in theirs]
    return "\n".join(lines)


def several(problem, result, space, peers):
    for part in (result, space):
        if "error" in part:
            return f"{problem}\n  failed: {part['error']}"
    ours, one = median(result["seconds"]["all"]), median(result["seconds"]["one factor"])
    lines = [
        str(problem),
        f"  sklmm: {ours:.2f} s of process time, {ours / one:.2f} times the first factor alone; "
        f"{result['evaluations']} evaluations, log-likelihood {result['log_likelihood']:.7f}"
        + "  (did not converge)" * (not result["converged"]),
        f"  peak memory {space['above'] / 2**20:.0f} MiB above X, y, groups ({space['data'] / 2**20:.0f} MiB of X); "
        f"pickle {result['pickle'] / 2**20:.2f} MiB",
    ]
    for name, peer in peers.items():
        if "error" in peer:
            lines.append(f"  {name}: failed: {peer['error']}")
            continue
        less = peer["log_likelihood"] - result["log_likelihood"]
        lines.append(
            f"  {name}: {peer['process']:.2f} s, {peer['process'] / ours:.0f} times ours, log-likelihood {less:+.1e}"
        )
    return "\n".join(lines)


def speedup(problem, model, n_threads, result):
    if "error" in result:
        return f"{problem}, {model}: failed: {result['error']}"
    one, several = median(result["one"]), median(result["several"])
    return (
        f"{problem}, {model}: wall time {one:.3f} s with 1 thread, {several:.3f} s with {n_threads}: "
        f"{one / several:.2f} times faster"
    )


def memory(problem, model, result):
    if "error" in result:
        return f"{problem}, {model}: failed: {result['error']}"
    return (
        f"{problem}, {model}: {result['above'] / 2**20:.0f} MiB above the rows: "
        f"{result['above'] / result['data']:.2f} times the bytes of X"
    )
