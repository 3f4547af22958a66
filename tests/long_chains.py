"""Posteriors of small models of a random intercept by many Metropolis chains, the likelihood by a grid: an independent
reference, slow and plain. Also the linear model's, by a grid over the standard deviations."""

import numpy as np
from scipy import stats
from scipy.special import logsumexp

U = np.linspace(-5.0, 5.0, 33)  # of a standard normal: the trapezoidal rule
LOG_W = stats.norm.logpdf(U) + np.log(U[1] - U[0])


def log_likelihood(x, y, groups, beta, sd):
    """Of several parameter vectors, a row each: logistic regression on x (n, p) with random intercepts, (m,)."""
    eta = (beta[:, :1] + beta[:, 1:] @ x.T)[:, :, None] + sd[:, None, None] * U
    rows = -np.logaddexp(0.0, np.where(y[:, None] == 1, -eta, eta))
    start = np.flatnonzero(np.append(True, np.diff(groups) != 0))
    return logsumexp(np.add.reduceat(rows, start, axis=1) + LOG_W, axis=2).sum(axis=1)


def metropolis(log_density, start, scale, n_chains=32, n_steps=320, burn=80, seed=0):
    """Random walks in (beta, log sd), all at once: draws (n_chains, n_steps - burn, d)."""
    rng = np.random.default_rng(seed)
    z = start + scale * rng.normal(size=(n_chains, len(start)))
    here, out = log_density(z), []
    for step in range(n_steps):
        trial = z + 2.0 / np.sqrt(len(start)) * scale * rng.standard_normal(z.shape)
        there = log_density(trial)
        moved = np.log(rng.random(n_chains)) < there - here
        z, here = np.where(moved[:, None], trial, z), np.where(moved, there, here)
        if step >= burn:
            out.append(z)
    return np.array(out).transpose(1, 0, 2)


def grid_of_linear(x, y, groups, sds, sigmas, prior_sd, log_prior):
    """The linear model with a random intercept, coefficients normal around 0 a priori and integrated out exactly.

    Returns
    -------
    log_evidence, mean and standard deviation of (coefficients, sd, sigma)
    """
    n, p = x.shape
    same, weights, means, seconds = groups[:, None] == groups, [], [], []
    for sd in sds:
        for sigma in sigmas:
            V = sigma**2 * np.eye(n) + sd**2 * same
            total = V + x @ np.diag(prior_sd**2) @ x.T
            weights.append(stats.multivariate_normal.logpdf(y, cov=total) + log_prior(sd, sigma))
            precision = np.linalg.inv(V)
            covariance = np.linalg.inv(x.T @ precision @ x + np.diag(prior_sd**-2.0))
            mean = covariance @ (x.T @ precision @ y)
            means.append(np.concatenate([mean, [sd, sigma]]))
            seconds.append(np.concatenate([np.diagonal(covariance) + mean**2, [sd**2, sigma**2]]))
    weights = np.array(weights)
    evidence = logsumexp(weights) + np.log((sds[1] - sds[0]) * (sigmas[1] - sigmas[0]))
    share = np.exp(weights - logsumexp(weights))
    mean = share @ np.array(means)
    return evidence, mean, np.sqrt(share @ np.array(seconds) - mean**2)
