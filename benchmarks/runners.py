"""One function a library: fit a model to Rows and say what was reached.

Only peers with the same aim take part: to maximise the same marginal likelihood, or to solve the same estimating
equations. (statsmodels' `BinomialBayesMixedGLM` puts priors on the parameters and reports a posterior: there is
no likelihood to compare.)
"""

import importlib.util
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LOGISTIC_MODELS = {
    "Laplace, 1 | g": dict(random_effects="1 | group", n_quadrature=1),
    "AGHQ 10, 1 | g": dict(random_effects="1 | group", n_quadrature=10),
    "Laplace, 1 + x0 | g": dict(random_effects="1 + x0 | group", n_quadrature=1),
}
LINEAR_MODELS = {
    "REML, 1 | g": dict(random_effects="1 | group"),
    "ML, 1 | g": dict(random_effects="1 | group", method="ml"),
    "REML, 1 + x0 | g": dict(random_effects="1 + x0 | group"),
}
MIXED_MODELS = LOGISTIC_MODELS | LINEAR_MODELS
LOGISTIC_GEE = {  # all with the sandwich covariance
    "GEE exchangeable": dict(correlation="exchangeable"),
    "GEE AR(1)": dict(correlation="ar1"),
    "GEE unstructured": dict(correlation="unstructured"),
}
LINEAR_GEE = {name.replace("GEE", "linear GEE"): options for name, options in LOGISTIC_GEE.items()}
MARGINAL_MODELS = LOGISTIC_GEE | LINEAR_GEE
LINEAR = {*LINEAR_MODELS, *LINEAR_GEE}
SKLMM_MODELS = [*MIXED_MODELS, *MARGINAL_MODELS]
R_SCRIPT = Path(__file__).with_name("peers.R")


def models_for(problem, models):
    """Those of `models` that suit a problem."""
    unsuitable = {model for model in models if (model in LINEAR) != problem.linear}
    if problem.slope_sd:  # made for mixed models with slopes
        unsuitable |= MARGINAL_MODELS.keys()
    if (
        problem.group_size is None
    ):  # a correlation for every two times is meant for a few times that all groups have
        unsuitable |= {"GEE unstructured", "linear GEE unstructured"}
    return [model for model in models if model not in unsuitable]


def has_mixed_model(problem, models):
    """Whether some of the models is a mixed one for such outcomes."""
    return any(model in (LINEAR_MODELS if problem.linear else LOGISTIC_MODELS) for model in models)


def has_numbers(rows):
    """Whether outcomes are numbers, and models linear."""
    return rows.y.dtype.kind == "f"


def plain_fit(rows):
    """scikit-learn's unpenalised logistic or linear regression: the unit of every ratio."""
    from sklearn.linear_model import LinearRegression, LogisticRegression

    plain = LinearRegression() if has_numbers(rows) else LogisticRegression(solver="newton-cholesky", C=np.inf)
    return plain.fit(rows.X, rows.y)


def sklmm_fit(rows, model, n_threads=1, **definitions):
    import sklmm

    kind = "Linear" if model in LINEAR else "Logistic"
    if model in MIXED_MODELS:
        estimator = getattr(sklmm, f"Mixed{kind}Regression")(**MIXED_MODELS[model], n_threads=n_threads)
        return estimator.fit(rows.X, rows.y, groups=rows.groups)
    estimator = getattr(sklmm, f"GEE{kind}Regression")(**MARGINAL_MODELS[model], n_threads=n_threads, **definitions)
    when = {} if "exchangeable" in model else {"time": rows.time}
    return estimator.fit(rows.X, rows.y, groups=rows.groups, **when)


def several_fit(rows, n_threads=1):
    """A random intercept for every column of `groups`."""
    from sklmm import MixedLinearRegression, MixedLogisticRegression

    model = MixedLinearRegression if has_numbers(rows) else MixedLogisticRegression
    return model(n_threads=n_threads).fit(rows.X, rows.y, groups=rows.groups)


def reached(fitted):
    """What a fitted model of ours arrived at, in the terms of `peer_fit`."""
    if hasattr(fitted, "log_likelihood_"):
        return dict(log_likelihood=float(fitted.log_likelihood_))
    return dict(
        coefficients=[*np.ravel(fitted.intercept_).tolist(), *np.ravel(fitted.coef_).tolist()],
        alpha=fitted.correlation_params_.tolist(),
    )


# Peers. Times are of the fit alone, measured inside the peer's process.


def _gpboost(rows):
    import gpboost

    Xc = np.column_stack([np.ones(len(rows.y)), rows.X])
    start = time.process_time()
    groups = np.asarray(rows.groups)
    model = gpboost.GPModel(likelihood="bernoulli_logit", group_data=groups, num_parallel_threads=1)
    # Tight enough to reach the optimum to 1e-6 in the log-likelihood; the default stops earlier.
    model.fit(y=rows.y.astype(float), X=Xc, params={"delta_rel_conv": 1e-10, "trace": False})
    seconds = time.process_time() - start
    return dict(log_likelihood=-float(model.get_current_neg_log_likelihood()), process=seconds)


def _glmm(rows):
    import glmm

    groups = np.asarray(rows.groups).reshape(len(rows.y), -1)
    columns = {f"x{j}": np.ascontiguousarray(x) for j, x in enumerate(rows.X.T)}
    factors = {f"g{f}": np.ascontiguousarray(codes) for f, codes in enumerate(groups.T)}
    formula = " + ".join(["y ~ 1", *columns, *(f"(1 | {name})" for name in factors)])
    start = time.process_time()
    fitted = glmm.fit(columns | factors | {"y": rows.y}, formula, reml=True)
    return dict(log_likelihood=float(fitted.loglik), process=time.process_time() - start)


def _statsmodels_mixed(rows):
    import statsmodels.api as sm

    start = time.process_time()
    fitted = sm.MixedLM(rows.y, np.column_stack([np.ones(len(rows.y)), rows.X]), rows.groups).fit(reml=True)
    return dict(log_likelihood=float(fitted.llf), process=time.process_time() - start)


def _statsmodels(structure, family):
    def fit(rows):
        import statsmodels.api as sm

        correlations = {
            "exchangeable": sm.cov_struct.Exchangeable,
            "ar1": lambda: sm.cov_struct.Autoregressive(grid=True),
            "unstructured": sm.cov_struct.Unstructured,
        }
        Xc = np.column_stack([np.ones(len(rows.y)), rows.X])
        start = time.process_time()
        correlation = correlations[structure]()
        model = sm.GEE(rows.y, Xc, rows.groups, rows.time, getattr(sm.families, family)(), correlation)
        result = model.fit(ctol=1e-8)
        seconds = time.process_time() - start
        alpha = np.asarray(correlation.dep_params)
        if structure == "unstructured":
            alpha = alpha[np.triu_indices_from(alpha, 1)]
        return dict(coefficients=result.params.tolist(), alpha=np.ravel(alpha).tolist(), process=seconds)

    return fit


def _through_R(package, structure=None):
    def fit(rows):
        with tempfile.TemporaryDirectory() as folder:
            groups = np.asarray(rows.groups).reshape(len(rows.y), -1)
            table = np.column_stack([rows.y, groups, rows.X])
            # column-major doubles: what readBin takes as a matrix
            Path(folder, "table").write_bytes(table.tobytes(order="F"))
            arguments = [package, f"{folder}/table", *map(str, table.shape), str(groups.shape[1])]
            command = ["Rscript", "--vanilla", str(R_SCRIPT), *arguments, *([structure] if structure else [])]
            run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            lines = [line.strip() for line in run.stderr.splitlines() if line.strip() != "Execution halted"]
            raise RuntimeError(lines[-1])
        # a line a result: its name and its numbers
        lines = {name: list(map(float, values)) for name, *values in map(str.split, run.stdout.splitlines())}
        return {name: v[0] if name in ("log_likelihood", "process") else v for name, v in lines.items()}

    return fit


def _has_module(name):
    return importlib.util.find_spec(name) is not None


def _has_R_package(name):
    if shutil.which("Rscript") is None:
        return False
    check = ["Rscript", "--vanilla", "-e", f"quit(status = !requireNamespace('{name}', quietly = TRUE))"]
    return subprocess.run(check, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Peer:
    """A fit of `model` by another library; `definitions` make ours the same."""

    model: str
    fit: Callable
    library: str
    is_installed: Callable[[str], bool]
    definitions: dict = field(default_factory=dict)


PEERS = {
    "gpboost (tight)": Peer("Laplace, 1 | g", _gpboost, "gpboost", _has_module),
    "glmmTMB": Peer("Laplace, 1 | g", _through_R("glmmTMB"), "glmmTMB", _has_R_package),
    "lme4 glmer (nloptwrap)": Peer("Laplace, 1 | g", _through_R("lme4"), "lme4", _has_R_package),
}
PEERS |= {
    "glmm": Peer("REML, 1 | g", _glmm, "glmm", _has_module),
    "statsmodels MixedLM": Peer("REML, 1 | g", _statsmodels_mixed, "statsmodels", _has_module),
}
for _model, _options in LINEAR_GEE.items():
    _structure = _options["correlation"]
    _fit = _statsmodels(_structure, "Gaussian")
    PEERS[f"statsmodels linear {_structure}"] = Peer(_model, _fit, "statsmodels", _has_module)
for _model, _options in LOGISTIC_GEE.items():
    _structure = _options["correlation"]
    PEERS |= {
        # By definitions of its own: unstructured (divided by groups - p, rescaled); AR(1) with groups of one row.
        f"statsmodels {_structure}": Peer(_model, _statsmodels(_structure, "Binomial"), "statsmodels", _has_module),
        f"gee {_structure}": Peer(_model, _through_R("gee", _structure), "gee", _has_R_package),
        f"geepack {_structure}": Peer(
            _model, _through_R("geepack", _structure), "geepack", _has_R_package, dict(ddof_correction=False)
        ),
    }


def installed_peers():
    """Names of the peers that are here, and the libraries that are not."""
    found = {peer.library: peer.is_installed for peer in PEERS.values()}
    found = {library: is_installed(library) for library, is_installed in found.items()}
    here = [name for name, peer in PEERS.items() if found[peer.library]]
    return here, [library for library, is_here in found.items() if not is_here]


def peers_of_several_factors(problem, names):
    """Those of the peers that take several crossed factors. (lme4's hundreds of evaluations take minutes.)"""
    models = LINEAR_MODELS if problem.linear else LOGISTIC_MODELS
    return [name for name in names if PEERS[name].model in models and not name.startswith(("lme4", "statsmodels"))]


def peer_fit(name, rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PEERS[name].fit(rows)


def less_ours(name, rows, theirs):
    """How far a peer is from our fit by the same definitions."""
    peer = PEERS[name]
    ours = reached(sklmm_fit(rows, peer.model, **peer.definitions))
    if "log_likelihood" in ours:
        return dict(log_likelihood=theirs["log_likelihood"] - ours["log_likelihood"])
    return {
        what: float(np.abs(np.divide(theirs[what], ours[what]) - 1).max())
        for what in ("coefficients", "alpha")
    }
