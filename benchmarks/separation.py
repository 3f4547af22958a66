"""Finite estimates of separated classes: 500 random designs, by each of the fits that promise them.

    python benchmarks/separation.py [--designs 500]

prints a Markdown table: fits that converged with finite coefficients and errors, the most iterations that one took, the
largest coefficient of a standardised column, and warnings by class.
"""

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from sklmm import GEELogisticRegression, MixedLogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from separated_designs import separated_design

FITS = {
    'mixed, `priors="soft"`': lambda terms: MixedLogisticRegression(terms, priors="soft", n_threads=1),
    'mixed, `priors="weak"`': lambda terms: MixedLogisticRegression(terms, priors="weak", n_threads=1),
    'GEE, independence, `penalty="firth"`': lambda terms: GEELogisticRegression(
        "independence", penalty="firth", cov_type="naive", n_threads=1
    ),
    'GEE, exchangeable, `penalty="firth"`': lambda terms: GEELogisticRegression(
        "exchangeable", penalty="firth", cov_type="naive", n_threads=1
    ),
    "GEE, exchangeable, `penalty=1.0`": lambda terms: GEELogisticRegression(
        "exchangeable", penalty=1.0, cov_type="naive", n_threads=1
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", type=int, default=500)
    designs = [separated_design(seed) for seed in range(parser.parse_args().designs)]
    print("| | finite | most iterations | largest coefficient | warnings |\n|---|---:|---:|---:|---|")
    for name, make in FITS.items():
        finite, iterations, largest, told = 0, 0, 0.0, Counter()
        for X, y, groups, terms in designs:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model = make(terms).fit(X, y, groups=groups)
            told.update({warning.category.__name__ for warning in caught})
            errors = np.sqrt(np.diag(model.vcov_))
            finite += bool(model.converged_ and np.isfinite(model.coef_).all() and np.isfinite(errors).all())
            iterations = max(iterations, model.n_iter_)
            largest = max(largest, float((np.abs(model.coef_[0]) * X.std(axis=0)).max()))
        listed = ", ".join(f"{kind} {count}" for kind, count in told.most_common()) or "none"
        print(f"| {name} | {finite} of {len(designs)} | {iterations} | {largest:.3g} | {listed} |", flush=True)


if __name__ == "__main__":
    main()
