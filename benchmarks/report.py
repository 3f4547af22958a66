"""Plain-text lines from the results of the jobs."""

import os
import platform
from importlib import metadata
from statistics import median

COLUMNS = ["ratio", "spread", "seconds", "passes", "log-likelihood", "less ours"]
WIDTHS = [8, 17, 10, 8, 20, 12]


def machine():
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("sklmm", "scikit-learn", "numpy"))
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}"


def _row(label, *cells):
    return f"  {label:<26}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=False))


def fits(problem, result, peers):
    """Table of one problem. `peers`: name -> result of the peer job."""
    lines = [str(problem)]
    if "error" in result:
        return "\n".join([*lines, f"  failed: {result['error']}"])
    plain = result["seconds"].pop("plain")
    lines.append(_row("model", *COLUMNS))
    lines.append(_row(f"plain fit (median of {len(plain)})", "1", "", f"{median(plain):.3f}"))
    for model, seconds in result["seconds"].items():
        ratios = [ours / theirs for ours, theirs in zip(seconds, plain, strict=True)]
        reached = result["reached"][model]
        lines.append(
            _row(
                f"sklmm {model}",
                f"{median(ratios):.3f}",
                f"{min(ratios):.2f} - {max(ratios):.2f}",
                f"{median(seconds):.3f}",
                reached["n_full_passes"],
                f"{reached['log_likelihood']:.7f}",
            )
        )
        lines[-1] += "  (singular)" * reached["singular"]
        lines[-1] += "  (did not converge)" * (not reached["converged"])
    ours = result["reached"].get("Laplace, 1 | g")
    for name, peer in peers.items():
        if "error" in peer:
            lines.append(f"  {name:<26}  failed: {peer['error']}")
            continue
        lines.append(
            _row(
                name,
                f"{peer['process'] / median(plain):.1f}",
                "",
                f"{peer['process']:.3f}",
                "",
                f"{peer['log_likelihood']:.7f}",
                f"{peer['log_likelihood'] - ours['log_likelihood']:+.1e}" if ours else "",
            )
        )
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
        f"{problem}, {model}: {result['above'] / 2**20:.0f} MiB above X, y, groups: "
        f"{result['above'] / result['data']:.2f} times the bytes of X"
    )
