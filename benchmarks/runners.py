"""One function a library: fit a model to (X, y, groups) and say what was reached.

Only peers that maximise the same marginal likelihood take part. (statsmodels' `BinomialBayesMixedGLM` puts
priors on the parameters and reports a posterior: there is no likelihood to compare.)
"""

import importlib.util
import shutil
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

SKLMM_MODELS = {
    "Laplace, 1 | g": dict(random_effects="1 | group", n_quadrature=1),
    "AGHQ 10, 1 | g": dict(random_effects="1 | group", n_quadrature=10),
    "Laplace, 1 + x0 | g": dict(random_effects="1 + x0 | group", n_quadrature=1),
}
R_SCRIPT = Path(__file__).with_name("peers.R")


def plain_fit(X, y):
    """scikit-learn's unpenalised logistic regression: the unit of every ratio."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="newton-cholesky", C=np.inf).fit(X, y)


def sklmm_fit(X, y, groups, model, n_threads=1):
    from sklmm import MixedLogisticRegression

    return MixedLogisticRegression(**SKLMM_MODELS[model], n_threads=n_threads).fit(X, y, groups=groups)


def several_fit(X, y, groups, n_threads=1):
    """A random intercept for every column of `groups`."""
    from sklmm import MixedLogisticRegression

    return MixedLogisticRegression(n_threads=n_threads).fit(X, y, groups=groups)


def _gpboost(X, y, groups):
    import gpboost

    Xc = np.column_stack([np.ones(len(y)), X])
    start, wall = time.process_time(), time.perf_counter()
    groups = np.asarray(groups)
    model = gpboost.GPModel(likelihood="bernoulli_logit", group_data=groups, num_parallel_threads=1)
    # Tight enough to reach the optimum to 1e-6 in the log-likelihood; the default stops earlier.
    model.fit(y=y.astype(float), X=Xc, params={"delta_rel_conv": 1e-10, "trace": False})
    seconds = time.process_time() - start
    return dict(
        log_likelihood=-float(model.get_current_neg_log_likelihood()),
        process=seconds,
        wall=time.perf_counter() - wall,
    )


def _through_R(package):
    def fit(X, y, groups):
        with tempfile.TemporaryDirectory() as folder:
            groups = np.asarray(groups).reshape(len(y), -1)
            table = np.column_stack([y, groups, X])  # column-major doubles: what readBin takes as a matrix
            Path(folder, "table").write_bytes(table.tobytes(order="F"))
            arguments = [package, f"{folder}/table", *map(str, table.shape), str(groups.shape[1])]
            command = ["Rscript", "--vanilla", str(R_SCRIPT), *arguments]
            run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr.strip().splitlines()[-1])
        log_likelihood, process, wall = map(float, run.stdout.split()[-3:])
        return dict(log_likelihood=log_likelihood, process=process, wall=wall)

    return fit


# Name -> fit of the Laplace random intercept. Times are of the fit alone, measured inside the peer's process.
PEERS = {
    "gpboost (tight)": _gpboost,
    "glmmTMB": _through_R("glmmTMB"),
    "lme4 glmer (nloptwrap)": _through_R("lme4"),
}


def _has_R_package(name):
    if shutil.which("Rscript") is None:
        return False
    check = ["Rscript", "--vanilla", "-e", f"quit(status = !requireNamespace('{name}', quietly = TRUE))"]
    return subprocess.run(check, capture_output=True).returncode == 0


def installed_peers():
    available = {
        "gpboost (tight)": importlib.util.find_spec("gpboost") is not None,
        "glmmTMB": _has_R_package("glmmTMB"),
        "lme4 glmer (nloptwrap)": _has_R_package("lme4"),
    }
    return [name for name in PEERS if available[name]]


def peer_fit(name, X, y, groups):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PEERS[name](X, y, groups)
