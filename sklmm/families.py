"""Distributions of an outcome given its linear predictor: all that inference and prediction know of a link.

The kernels' counterpart is ``_kernels/_response.h``, the log density of a row and its derivatives. A new link is a
class here and a case there. Measured outcomes have one link, and what is known of it is at the end.
"""

import numpy as np
from scipy.special import expit, lambertw, log_ndtr, logsumexp, ndtr, ndtri

from sklmm._kernels._expectations import cloglog_normal_means, logistic_normal_mean
from sklmm._kernels._gee import GAUSSIAN as _GAUSSIAN
from sklmm._kernels._response import CODES, averaged, derivatives, probabilities

_CHUNK = 1 << 13  # rows, so that rows times nodes stay in cache
_UNDERFLOW, _ABSOLUTE = 1e-300, 1e-7  # of means: below the second, cloglog's absolute errors count in logarithms
_FARTHEST = 700.0  # exponents beyond are no numbers
_NO_INFORMATION = 20.0  # cloglog's linear predictors beyond: exp(-exp(eta)) is 0


class Bernoulli:
    """Two classes, the probability of the second one being mu = h(eta), eta the linear predictor.

    Links are subclasses, of which there is one object each: ``bernoulli(link)``. All that holds for any is here.

    Attributes
    ----------
    has_classes : bool
        True.
    name : str
        Of the link.
    code : int
        Of the link, for the kernels.
    latent_variance : float
        Of the error on the latent scale, on which the second class is what lies above 0.
    ratio : str or None
        What exp of a coefficient is.
    regression : str
        What the model without groups is called.
    instead : str
        What to ask for in place of the other links' ratios.
    sharpness : float
        How much closer nodes on the scale of eta must lie than those of the logit for the same error.
    certain_step : float
        How far Newton's steps move a linear predictor on its way to infinity, where all but 1e-6 of the outcome is
        certain: of the logit 1, of the probit 1 / |eta|, of the cloglog 1 / exp(eta) towards the event.
    least_log : float
        Logarithms of predicted probabilities are no smaller. Those that fall faster than exp(-|eta|) end where doubles
        do: where classes are separated, logarithms of some -1e5 are no news, and scikit-learn compares them with those
        of the probabilities.
    curvature_fades : bool
        Whether that of a row's log density falls as exp(-|eta|) on both sides.
    shrinkage : float
        Coefficients of the population are about 1 / sqrt(1 + shrinkage v) of those with random effects of variance v.
    """

    has_classes = True
    name, ratio, regression, instead = None, None, None, ""
    latent_variance = sharpness = shrinkage = None
    certain_step, least_log = 1.0, np.log(5e-324)
    curvature_fades = False

    def __reduce__(self):
        return bernoulli, (self.name,)

    def __repr__(self):
        return f"Bernoulli(link={self.name!r})"

    def check_ratio(self, wanted):
        """A ValueError that says what to ask for, unless exp of a coefficient is what is `wanted`."""
        if self.ratio != wanted:
            raise ValueError(f"there are no {wanted}s with link={self.name!r}: {self.instead}")

    @property
    def code(self):
        return CODES[self.name]

    @property
    def scale(self):
        """Size of the latent error, that of the logit being 1."""
        return np.sqrt(self.latent_variance / LOGIT.latent_variance)

    # Of a linear predictor ---------------------------------------------------------------------------------------

    def mean(self, eta):
        """Probability of the second class."""
        raise NotImplementedError

    def link(self, mu):
        """The linear predictor of a probability."""
        raise NotImplementedError

    def start(self, share):
        """The intercept of the model that has no more, of a share of the second class."""
        return self.link(share)

    def slope(self, p, eta):
        """Derivative of the probability in the linear predictor, where they are p and eta."""
        raise NotImplementedError

    def log_means(self, eta):
        """Logarithms of the probabilities of the second class and of the first."""
        raise NotImplementedError

    def bend(self, eta):
        """log mu', the derivative of the mean, and its two derivatives in eta."""
        raise NotImplementedError

    def information(self, eta):
        """A row's expected information of its linear predictor, mu'^2 / (mu (1 - mu)), and two derivatives in eta."""
        log_slope, a, da = self.bend(eta)
        ones, zeros = self.log_means(eta)
        up, down = np.exp(log_slope - ones), np.exp(log_slope - zeros)  # mu' / mu, mu' / (1 - mu)
        w, first = np.exp(2.0 * log_slope - ones - zeros), 2.0 * a - up + down
        return w, w * first, w * (first**2 + 2.0 * da - up * (a - up) + down * (a + down))

    def log_density(self, eta, y):
        """Log density of each row."""
        return derivatives(self.code, eta, y)[0]

    def scores(self, eta, y):
        """Derivative of each row's log density in its linear predictor."""
        return derivatives(self.code, eta, y)[1]

    def draw(self, random, eta, weights=None):
        """Outcomes of a RandomState, True for the second class; with weights how often a row has it."""
        if weights is None:
            return random.uniform(size=eta.size) < self.mean(eta)
        return random.binomial(weights, self.mean(eta))

    # Of a normal linear predictor --------------------------------------------------------------------------------

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
        if sd is None and log:
            upper, lower = self.log_means(mean)
        elif sd is None:
            upper, lower = probabilities(self.code, mean)
        else:
            upper, lower = self._means(mean, sd, n_threads, log)
        return np.minimum(upper, lower), upper > lower

    def _means(self, mean, sd, n_threads, log):
        """Mean probabilities of the second class and of the first, or their logarithms."""
        raise NotImplementedError

    def log_tails(self, eta, weights):
        """Logarithms of the smaller means of both classes' probabilities over nodes, (n, n_nodes) each."""
        return np.minimum(*(logsumexp(log, b=weights, axis=1) for log in self.log_means(eta)))

    def mean_derivatives(self, eta, variance):
        """Means over normal linear predictors, for the delta method.

        Parameters
        ----------
        eta, variance : ndarray of shape (n,)

        Returns
        -------
        p, linked : ndarray of shape (n,)
            The mean probability and its linear predictor.
        first, second : ndarray of shape (n,)
            Means of the first two derivatives of the probability: of p in eta, and twice that in the variance.
        """
        raise NotImplementedError

    def averaged(self, mean, sd, y, n_threads=1):
        """Means of a row's score and weight, l' and -l'', over normal linear predictors.

        By the trapezoidal rule; their poles are as far from the real line as those of the probability.
        """
        r, v = np.empty_like(mean), np.empty_like(mean)
        for begin in range(0, mean.size, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            z, w = normal_rule(self.sharpness * sd[part].max(initial=0.0))
            r[part], v[part] = averaged(self.code, mean[part], sd[part], y[part], z, w)
        return r, v


class Logit(Bernoulli):
    """The logit: eta are log odds, the latent error is logistic."""

    name, ratio, latent_variance, sharpness, shrinkage = "logit", "odds ratio", np.pi**2 / 3.0, 1.0, 0.346
    least_log, curvature_fades = -np.inf, True
    regression, instead = "logistic regression", "exp of a coefficient is an odds ratio; see odds_ratios"

    def mean(self, eta):
        return expit(eta)

    def link(self, mu):
        return np.log(mu / (1 - mu))

    def slope(self, p, eta):
        return p * (1.0 - p)

    def log_means(self, eta):
        return [-np.logaddexp(0.0, sign * eta) for sign in (-1.0, 1.0)]

    def information(self, eta):
        p = expit(-np.abs(eta))
        w, turn = p * (1.0 - p), (1.0 - 2.0 * p) * -np.sign(eta)
        return w, w * turn, w * (1.0 - 6.0 * w)

    def scores(self, eta, y):
        return y - expit(eta)

    def tails(self, mean, sd=None, n_threads=1, log=False):
        lower, positive = -np.abs(mean), mean > 0  # averaging over a symmetric distribution does not cross 1/2
        if sd is None:
            return (-np.logaddexp(0.0, -lower) if log else expit(lower)), positive
        small = logistic_normal_mean(lower, sd, n_threads)
        if log:
            # Far out, expit is exp and its mean that of a lognormal: logarithms survive where numbers underflow.
            small = np.where(small > _UNDERFLOW, np.log(np.maximum(small, _UNDERFLOW)), sd**2 / 2 + lower)
        return small, positive

    def mean_derivatives(self, eta, variance):
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

    def averaged(self, mean, sd, y, n_threads=1):
        p, slope = logistic_normal_mean(mean, sd, n_threads, slopes=True)
        return y - p, slope


class Probit(Bernoulli):
    """The probit: the latent error is standard normal, so that means over normal linear predictors are closed forms."""

    name, latent_variance, sharpness, shrinkage = "probit", 1.0, 1.8, 1.0
    regression, certain_step = "probit regression", 0.2
    instead = "coefficients are in standard deviations of the latent error; see average_marginal_effects"

    def mean(self, eta):
        return ndtr(eta)

    def link(self, mu):
        return ndtri(mu)

    def slope(self, p, eta):
        return np.exp(-0.5 * eta**2) / np.sqrt(2.0 * np.pi)

    def log_means(self, eta):
        return [log_ndtr(eta), log_ndtr(-eta)]

    def bend(self, eta):
        return -0.5 * eta**2 - 0.5 * np.log(2.0 * np.pi), -eta, -np.ones_like(eta)

    def tails(self, mean, sd=None, n_threads=1, log=False):
        at = mean if sd is None else mean / np.hypot(1.0, sd)
        return (log_ndtr if log else ndtr)(-np.abs(at)), at > 0

    def mean_derivatives(self, eta, variance):
        size = np.sqrt(1.0 + variance)
        at = eta / size
        first = self.slope(None, at) / size
        return ndtr(at), at, first, -at * first / size


class Cloglog(Bernoulli):
    """The complementary log-log: mu = 1 - exp(-exp(eta)), of a hazard exp(eta) over one unit of time.

    The latent error is the smallest extreme value's (Gumbel's, mirrored), which is not symmetric.
    """

    name, ratio, latent_variance, sharpness, shrinkage = "cloglog", "hazard ratio", np.pi**2 / 6.0, 2.0, 0.85
    regression, certain_step = "complementary log-log regression", 0.07
    instead = "exp of a coefficient is a hazard ratio; see hazard_ratios"

    def mean(self, eta):
        return -np.expm1(-np.exp(np.minimum(eta, _FARTHEST)))

    def link(self, mu):
        return np.log(-np.log1p(-mu))

    def slope(self, p, eta):
        eta = np.minimum(eta, _FARTHEST)
        return np.exp(eta - np.exp(eta))

    def log_means(self, eta):
        hazard = np.exp(np.minimum(eta, _FARTHEST))
        with np.errstate(divide="ignore"):
            upper = np.where(hazard < 1e-300, eta, np.log(-np.expm1(-hazard)))
        return [upper, -hazard]

    def bend(self, eta):
        hazard = np.exp(eta)
        return eta - hazard, 1.0 - hazard, -hazard

    def information(self, eta):
        return super().information(np.minimum(eta, _NO_INFORMATION))

    def _means(self, mean, sd, n_threads, log):
        tails = cloglog_normal_means(mean, sd, n_threads)
        if not log:
            return tails
        logs = []
        for y, tail in zip((1, 0), tails, strict=True):
            far = np.flatnonzero(tail < _ABSOLUTE)
            logs.append(np.log(np.maximum(tail, _ABSOLUTE)))
            logs[-1][far] = self._log_far_means(mean[far], sd[far], y)
        return logs

    def _log_far_means(self, mean, sd, y):
        """Logarithms of small mean probabilities of an outcome: sums around the maximum of the integrand."""
        outcome = np.full(mean.size, y, dtype=np.uint8)
        z = np.zeros_like(mean)
        if not y:  # exp(eta) = -z / sd there
            z = -lambertw(sd**2 * np.exp(np.minimum(mean, _FARTHEST))).real / np.maximum(sd, 1e-9)
        for _ in range(30):
            _, r, v, _, _ = derivatives(self.code, mean + sd * z, outcome)
            z += (sd * r - z) / (1.0 + sd**2 * v)
        width = 1.0 / np.sqrt(1.0 + sd**2 * v)
        t = np.linspace(-15.0, 15.0, 301)
        z = z[:, None] + width[:, None] * t
        log_density = self.log_means(mean[:, None] + sd[:, None] * z)[1 - y] - 0.5 * z**2
        return logsumexp(log_density, axis=1) + np.log(width * (t[1] - t[0]) / np.sqrt(2.0 * np.pi))

    def mean_derivatives(self, eta, variance):
        p, linked, first, second = (np.empty_like(eta) for _ in range(4))
        for begin in range(0, eta.size, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            sd = np.sqrt(variance[part])
            z, w = normal_rule(self.sharpness * sd.max(initial=0.0))
            hazard = np.exp(np.minimum(eta[part, None] + sd[:, None] * z, _FARTHEST))
            rest = np.exp(-hazard)
            p[part], first[part] = -np.expm1(-hazard) @ w, (hazard * rest) @ w
            with np.errstate(invalid="ignore"):
                second[part] = np.where(rest > 0.0, hazard * rest * (1.0 - hazard), 0.0) @ w
            if z.size == 1:
                linked[part] = eta[part]
            else:
                with np.errstate(divide="ignore"):
                    lower = self.link(np.minimum(p[part], 0.5))
                    linked[part] = np.where(p[part] < 0.5, lower, np.log(-np.log(rest @ w)))
        return p, linked, first, second


class Gaussian:
    """A number whose mean is the linear predictor, with one variance for all rows; there is one object, `GAUSSIAN`.

    Attributes
    ----------
    has_classes : bool
        False: there are no probabilities, and nothing is ever certain (`certain_step`).
    name, code, ratio, regression, certain_step
        As `Bernoulli` has them.
    """

    has_classes = False
    name, code, ratio, regression = "identity", _GAUSSIAN, None, "linear regression"
    certain_step = np.inf

    def __reduce__(self):
        return "GAUSSIAN"

    def __repr__(self):
        return "Gaussian()"

    def check_ratio(self, wanted):
        """A ValueError: coefficients are no logarithms."""
        raise ValueError(f"there are no {wanted}s of a linear model: its coefficients are differences of the mean")

    def mean(self, eta):
        """The expected outcome."""
        return eta

    def slope(self, mean, eta):
        """See `Bernoulli.slope`."""
        return np.ones_like(eta)

    def mean_derivatives(self, eta, variance):
        """See `Bernoulli.mean_derivatives`: the mean is the linear predictor, whatever its variance."""
        return eta, eta, np.ones_like(eta), np.zeros_like(eta)


LOGIT, PROBIT, CLOGLOG = Logit(), Probit(), Cloglog()
GAUSSIAN = Gaussian()
_BY_NAME = {family.name: family for family in (LOGIT, PROBIT, CLOGLOG)}


def bernoulli(link):
    """The family of a link: "logit", "probit" or "cloglog".

    Raises
    ------
    ValueError
        For any other.
    """
    if not isinstance(link, str) or link not in _BY_NAME:
        raise ValueError(f"link must be one of {', '.join(map(repr, _BY_NAME))}; got {link!r}")
    return _BY_NAME[link]


def normal_rule(sd, most=50.0):
    """Nodes and weights of the standard normal for functions of expit(. + sd z): the trapezoidal rule.

    Standard deviations beyond `most` get no finer one. The error is about exp(-2 pi d / h), d = pi / sd the distance of
    the poles (Trefethen and Weideman, 2014). For other links `sd` is times their `sharpness`: exp(-exp) grows beyond
    pi / 2 from the real line, and the normal distribution function bends 1.8 times as sharply as the logistic.
    """
    if sd == 0:
        return np.zeros(1), np.ones(1)
    h = min(0.6, 0.6 / min(sd, most))
    z = h * np.arange(-np.ceil(8.0 / h), np.ceil(8.0 / h) + 1)
    w = np.exp(-0.5 * z * z)
    return z, w / w.sum()
