"""Distributions of an outcome given its linear predictor: all that inference and prediction know of a link.

The kernels' counterpart is ``_kernels/_response.h``, the log density of a row and its derivatives. A new link is a
class here and a case there.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp

from sklmm._kernels._expectations import logistic_normal_mean

_CHUNK = 1 << 13  # rows, so that rows times nodes stay in cache


@dataclass(frozen=True)
class Bernoulli:
    """Two classes, the logit of the second one's probability being the linear predictor eta.

    Attributes
    ----------
    latent_variance : float
        Of the error on the latent scale, on which the second class is what lies above 0: the logistic distribution's.
    """

    latent_variance: float = np.pi**2 / 3.0

    def mean(self, eta):
        """Probability of the second class."""
        return expit(eta)

    def draw(self, random, eta, weights=None):
        """Outcomes of a RandomState, True for the second class; with weights how often a row has it."""
        if weights is None:
            return random.uniform(size=eta.size) < expit(eta)
        return random.binomial(weights, expit(eta))

    def tails(self, mean, sd=None, n_threads=1, log=False):
        """Probability of the less likely class, and whether the second is the likelier, of normal linear predictors.

        It is computed in the lower tail, where it is small without being the difference of two numbers near 1.

        Parameters
        ----------
        mean : ndarray of shape (n,)
        sd : ndarray of shape (n,) or None
            Of the linear predictors; None is 0.
        n_threads : int
        log : bool
            Whether to return logarithms.
        """
        lower, positive = -np.abs(mean), mean > 0  # averaging over a symmetric distribution does not cross 1/2
        if sd is None:
            return (-np.logaddexp(0.0, -lower) if log else expit(lower)), positive
        small = logistic_normal_mean(lower, sd, n_threads)
        if log:
            # Far out, expit is exp and its mean that of a lognormal: logarithms survive where numbers underflow.
            small = np.where(small > 1e-300, np.log(np.maximum(small, 1e-300)), sd**2 / 2 + lower)
        return small, positive

    def log_tails(self, eta, weights):
        """Logarithms of the smaller means of both classes' probabilities over nodes, (n, n_nodes) each."""
        logs = [logsumexp(-np.logaddexp(0.0, sign * eta), b=weights, axis=1) for sign in (-1.0, 1.0)]
        return np.minimum(*logs)

    def mean_derivatives(self, eta, variance):
        """Means over normal linear predictors, for the delta method.

        Parameters
        ----------
        eta, variance : ndarray of shape (n,)

        Returns
        -------
        p, logit : ndarray of shape (n,)
            The mean probability and its logit.
        first, second : ndarray of shape (n,)
            Means of the first two derivatives of the probability: of p in eta, and twice that in the variance.
        """
        p, first, second = (np.empty_like(eta) for _ in range(3))
        logit = np.empty_like(eta)
        for begin in range(0, eta.size, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            sd = np.sqrt(variance[part])
            z, w = normal_rule(sd.max(initial=0.0))
            at = eta[part, None] + sd[:, None] * z
            mu = expit(at)
            slope = mu * (1.0 - mu)
            p[part], first[part] = mu @ w, slope @ w
            second[part] = (slope * (1.0 - 2.0 * mu)) @ w
            if z.size == 1:
                logit[part] = eta[part]
            else:
                with np.errstate(divide="ignore"):  # beyond about 745 both are infinite
                    logit[part] = np.log(p[part]) - np.log(expit(-at) @ w)
        return p, logit, first, second


LOGIT = Bernoulli()


def normal_rule(sd, most=50.0):
    """Nodes and weights of the standard normal for functions of expit(. + sd z): the trapezoidal rule.

    Standard deviations beyond `most` get no finer one. The error is about exp(-2 pi d / h), d = pi / sd the distance of
    the poles (Trefethen and Weideman, 2014).
    """
    if sd == 0:
        return np.zeros(1), np.ones(1)
    h = min(0.6, 0.6 / min(sd, most))
    z = h * np.arange(-np.ceil(8.0 / h), np.ceil(8.0 / h) + 1)
    w = np.exp(-0.5 * z * z)
    return z, w / w.sum()
