"""Predicted probabilities of new rows: means over what is known of each row's groups.

Given a row's groups its linear predictor is normal, except in a known group of a single factor, whose posterior stands
on nodes (`NodePosterior`). The first is an integral over one dimension, E h(m + s z), h the inverse link, whatever the
number of factors and random coefficients; the second is a weighted sum.
"""

from dataclasses import dataclass

import numpy as np

from sklmm.families import LOGIT
from sklmm.likelihood.posterior import NodePosterior

EFFECTS = ("posterior", "mode", "zero", "marginal")

_CHUNK = 1 << 16  # rows whose temporaries stay in cache
_UNDERFLOW = 1e-290  # below, logarithms of probabilities are found another way


def check_effects(value):
    """Raise unless `value` is one of the four kinds of prediction."""
    if not isinstance(value, str) or value not in EFFECTS:
        raise ValueError(f"predict_effects must be one of {', '.join(map(repr, EFFECTS))}; got {value!r}")


@dataclass
class Predictor:
    """What a fitted model needs to predict rows of numbers.

    Attributes
    ----------
    coef : ndarray
        Of the first columns of X; others have random slopes only.
    intercept : float
    factors : list of Factor
    joint : JointPosterior or None
        Covariances across factors, for rows whose groups are known in several.
    n_threads : int
    family : Bernoulli
    """

    coef: np.ndarray
    intercept: float
    factors: list
    joint: object = None
    n_threads: int = 1
    family: object = LOGIT

    @classmethod
    def of(cls, estimator, n_threads):
        """The predictor of a fitted `MixedLogisticRegression`."""
        fit = estimator._fitted
        return cls(estimator.coef_[0], estimator.intercept_[0], fit.factors, fit.posterior, n_threads, fit.family)

    def fixed(self, X):
        """Fixed part of the linear predictor."""
        return X[:, : self.coef.size] @ self.coef + self.intercept

    def linear_predictor(self, X, codes, effects, offset=None):
        """Normal linear predictors of rows; those on nodes are left with the fixed part.

        Parameters
        ----------
        X : ndarray of shape (n, p), float64
        codes : list of ndarray of shape (n,)
            Level of each factor by row, -1 where the group is unknown. Not needed for "zero" and "marginal".
        effects : {"posterior", "mode", "zero", "marginal"}
        offset : ndarray of shape (n,) or None
            Added to the linear predictors, here and in the methods below.

        Returns
        -------
        mean : ndarray of shape (n,)
        sd : ndarray of shape (n,) or None
            None where nothing is to be integrated.
        nodes : tuple or None
            Which rows' group has a posterior on nodes (a mask, or a slice of all), their loadings and levels.
        """
        mean = self.fixed(X) if offset is None else self.fixed(X) + offset
        if effects == "zero" or not self.factors:
            return mean, None, None
        t = [factor.units.loadings(X) for factor in self.factors]
        if effects == "mode":
            for factor, loadings, code in zip(self.factors, t, codes, strict=True):
                _add(mean, code, loadings, factor.posterior.modes)
            return mean, None, None
        variance, nodes = sum(np.einsum("na,na->n", loadings, loadings) for loadings in t), None
        if effects == "posterior":
            if isinstance(self.factors[0].posterior, NodePosterior):
                known = codes[0] >= 0
                if known.any():
                    known = slice(None) if known.all() else known
                    nodes = known, t[0][known], codes[0][known]
            else:
                self._add_posteriors(mean, variance, t, codes)
        return mean, np.sqrt(np.maximum(variance, 0.0, out=variance), out=variance), nodes

    def _add_posteriors(self, mean, variance, t, codes):
        """Known groups in the place of the prior."""
        for factor, loadings, code in zip(self.factors, t, codes, strict=True):
            known = np.flatnonzero(code >= 0)
            _add(mean, code, loadings, factor.posterior.mean)
            left = loadings[known]
            change = factor.posterior.cov[code[known]] - np.eye(left.shape[1])
            variance[known] += np.einsum("na,nab,nb->n", left, change, left)
        for f in range(len(t) if self.joint is not None else 0):
            for g in range(f):
                known = np.flatnonzero((codes[f] >= 0) & (codes[g] >= 0))
                if known.size:
                    block = self.joint.covariance(f, codes[f][known], g, codes[g][known])
                    variance[known] += 2.0 * np.einsum("na,nab,nb->n", t[f][known], block, t[g][known])

    def chunks(self, X, codes, offset=None):
        """(slice, rows as float64, codes, offset) of parts of the rows."""
        step = _CHUNK * self.n_threads
        for start in range(0, X.shape[0], step):
            part = slice(start, start + step)
            own = None if offset is None else offset[part]
            yield part, np.asarray(X[part], dtype=np.float64), [code[part] for code in codes], own

    def tails(self, X, codes, effects, log=False, offset=None):
        """Probability of the less likely class of each row, or its logarithm, and whether the second is the likelier.

        It is computed in the lower tail, where it is small without being the difference of two numbers near 1.
        """
        small, positive = np.empty(X.shape[0]), np.empty(X.shape[0], dtype=bool)
        for part, rows, code, own in self.chunks(X, codes, offset):
            mean, sd, nodes = self.linear_predictor(rows, code, effects, own)
            if nodes is None:
                small[part], positive[part] = self.family.tails(mean, sd, self.n_threads, log)
                continue
            known, t, levels = nodes
            if not isinstance(known, slice):
                rest = ~known
                small[part][rest], positive[part][rest] = self.family.tails(mean[rest], sd[rest], self.n_threads, log)
            small[part][known], positive[part][known] = self._node_tails(mean[known], t, levels, log)
        return small, positive

    def _node_tails(self, fixed, t, levels, log):
        posterior = self.factors[0].posterior
        small, positive = posterior.tails(fixed, t, levels, self.n_threads)
        if log:
            small = np.log(np.maximum(small, 1e-300))
            far = np.flatnonzero(small < np.log(_UNDERFLOW))
            small[far] = self.family.log_tails(*posterior.predictors(fixed[far], t[far], levels[far]))
        return small, positive

    def means(self, X, codes, effects, offset=None):
        """Linear predictors where nothing is to be integrated: at 0, or at the modes."""
        found = np.empty(X.shape[0])
        for part, rows, code, own in self.chunks(X, codes, offset):
            found[part] = self.linear_predictor(rows, code, effects, own)[0]
        return found

    def moments(self, X, codes, offset=None):
        """Mean, variance, and third and fourth cumulants of each row's linear predictor, given its groups, (4, n)."""
        found = np.zeros((4, X.shape[0]))
        for part, rows, code, own in self.chunks(X, codes, offset):
            mean, sd, nodes = self.linear_predictor(rows, code, "posterior", own)
            found[0, part], found[1, part] = mean, 0.0 if sd is None else sd**2
            if nodes is None:
                continue
            known, t, levels = nodes
            eta, weights = self.factors[0].posterior.predictors(mean[known], t, levels)
            weights /= weights.sum(axis=1, keepdims=True)
            center = np.einsum("nk,nk->n", weights, eta)
            eta -= center[:, None]
            second, third, fourth = (np.einsum("nk,nk->n", weights, eta**k) for k in (2, 3, 4))
            found[:, part][:, known] = center, second, third, fourth - 3.0 * second**2
        return found


def _add(mean, code, loadings, effects):
    """Add t'u of the rows whose group is known."""
    known = np.flatnonzero(code >= 0)
    mean[known] += np.einsum("na,na->n", loadings[known], effects[code[known]])


def probabilities(small, positive):
    """Probabilities of both classes, of shape (n, 2), from that of the less likely one."""
    large = 1.0 - small
    result = np.empty((small.size, 2))
    np.copyto(result[:, 0], np.where(positive, small, large))
    np.copyto(result[:, 1], np.where(positive, large, small))
    return result


def log_probabilities(log_small, positive):
    """Logarithms of both classes' probabilities, exact for small ones too."""
    log_large = np.log1p(-np.exp(log_small))
    return np.column_stack([np.where(positive, log_small, log_large), np.where(positive, log_large, log_small)])


def logits(log_small, positive):
    """Logit of the probability of the second class."""
    size = np.log1p(-np.exp(log_small)) - log_small
    return np.where(positive, size, -size)
