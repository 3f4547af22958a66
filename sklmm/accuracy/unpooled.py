"""Plain, group-wise and fixed-effects regression: what partial pooling is to be compared with.

Here of two classes, logistic; of measured outcomes in `unpooled_of_numbers`. What differs is the outcome, an object
that says the log-likelihood of rows, its derivatives, and where to begin.

Fitted by Newton's method on the penalised log-likelihood, which is strictly concave: one number a group is eliminated
from the Newton system of fixed effects, and the systems of separate models are solved in one batch, so that 10,000
groups cost little more than ten.
"""

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin

from sklmm.design.grouping import as_group_frame, encode_groups, lookup_codes
from sklmm.design.observations import read_offset
from sklmm.design.outcomes import encode_target

# Precision of a prior that only makes the maximum exist where features are collinear or separate the classes.
_NEXT_TO_NOTHING = 1e-6
_MOST_COUPLINGS = 2 * 10**8
_TOL = 1e-9  # what a Newton step may still promise in log-likelihood
_MAX_ITER = 100


class LogitOutcome:
    """Outcomes 0 and 1 whose log odds are the linear predictor."""

    @staticmethod
    def log_likelihood(y, eta):
        """Of each row."""
        return y * eta - np.logaddexp(0.0, eta)

    @staticmethod
    def mean(eta):
        """The expected outcome."""
        return expit(eta)

    @staticmethod
    def curvature(mean, weights):
        """Of each row's log-likelihood, times its weight, by its expected outcome."""
        return weights * mean * (1.0 - mean)

    @staticmethod
    def intercept(y, weights, offset):
        """Where to begin: the intercept of rows whose offsets are all at their mean."""
        return logit(np.average(y, weights=weights)) - np.average(offset, weights=weights)


class Unpooled(BaseEstimator):
    """A regression with a linear predictor of its own, on standardised features.

    The kind of outcome says `_outcome`, and `_read_outcomes(y, weights, offset)`: outcomes as numbers, and offsets.

    An offset, in `fit` and in predictions, is added to the linear predictor: a feature whose coefficient is 1, and that
    no prior shrinks.
    """

    def _start(self, X, y, sample_weight, offset):
        """Standardised features with a leading 1, outcomes as numbers, counts of rows, all positive, and offsets."""
        X = np.asarray(X, dtype=np.float64)
        weights = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._center = np.average(X, axis=0, weights=weights)
        scale = np.sqrt(np.average((X - self._center) ** 2, axis=0, weights=weights))
        self._scale = np.where(scale > 1e-12 * np.abs(self._center), scale, np.inf)  # a constant is no feature
        offset = np.zeros(len(X)) if offset is None else read_offset(offset, len(X))
        target, offset = self._read_outcomes(y, weights, offset)
        return self._columns(X), target, weights, offset

    def _columns(self, X):
        X = np.asarray(X, dtype=np.float64)
        Z = np.empty((len(X), X.shape[1] + 1))
        Z[:, 0] = 1.0
        np.divide(X - self._center, self._scale, out=Z[:, 1:])
        return Z


class Pooled(Unpooled):
    """Plain regression by maximum likelihood, as if there were no groups."""

    def fit(self, X, y, sample_weight=None, offset=None):
        """Fit the model to rows X with outcomes y."""
        self._theta = _pooled(*self._start(X, y, sample_weight, offset), self._outcome)
        return self

    def _linear_predictor(self, Z, groups):
        return Z @ self._theta


class Separate(Unpooled):
    """A regression for each group; rows of unknown groups are predicted by the pooled one.

    Groups have few rows, and often one outcome only, so that maximum likelihood has no finite answer. Coefficients are
    posterior modes under weakly informative priors: normal with standard deviation `slope_sd` for the slopes of
    features with standard deviation 1, and `intercept_sd` for the intercept, about that of the pooled model. Every
    group has such a mode, however few its rows.

    Parameters
    ----------
    slope_sd : float, default=2.5
        The scale of Gelman et al. (2008).
    intercept_sd : float, default=10.0
        So wide that it tells nothing except where all rows of a group have one outcome.

    References
    ----------
    Gelman A, Jakulin A, Pittau MG, Su YS (2008). A weakly informative default prior distribution for logistic and other
    regression models. Annals of Applied Statistics 2, 1360-1383.
    """

    def __init__(self, slope_sd=2.5, intercept_sd=10.0):
        self.slope_sd = slope_sd
        self.intercept_sd = intercept_sd

    def fit(self, X, y, groups, sample_weight=None, offset=None):
        """Fit the models to rows X with outcomes y; `groups` is one factor."""
        Z, target, weights, offset = self._start(X, y, sample_weight, offset)
        (name, labels), *others = as_group_frame(groups, len(Z)).items()
        if others:
            raise ValueError("separate models are of one grouping factor")
        codes, self._levels = encode_groups(labels, name)
        pooled = _pooled(Z, target, weights, offset, self._outcome)
        mean = np.zeros(Z.shape[1])
        mean[0] = pooled[0]
        precision = np.full(Z.shape[1], self.slope_sd**-2.0)
        precision[0] = self.intercept_sd**-2.0
        each = _fit_each(Z, target, weights, offset, codes, len(self._levels), mean, precision, self._outcome)
        self._theta = np.vstack([each, pooled])  # code -1 is the last row
        return self

    def _linear_predictor(self, Z, groups):
        codes = -1
        if groups is not None:
            ((_, labels),) = as_group_frame(groups, len(Z)).items()
            codes = lookup_codes(self._levels, labels)
        return np.einsum("ij,ij->i", Z, np.broadcast_to(self._theta[codes], Z.shape))


class GroupDummies(Unpooled):
    """Regression with a fixed effect for every group: no pooling of their levels.

    The effect of a group whose rows have one outcome is infinite under maximum likelihood. Effects therefore have a
    normal prior about their average, so wide that it matters to such groups only: with the default standard deviation,
    a group of 20 rows without an event gets a probability of about 0.003. Features that are constant within groups are
    told from the groups' effects by the same prior: what they explain of the effects is theirs. A row of an unknown
    group is predicted with the average of the effects, which is what the intercept is.

    Parameters
    ----------
    effect_sd : float, default=10.0
        Standard deviation of that prior, on the logit scale.
    """

    def __init__(self, effect_sd=10.0):
        self.effect_sd = effect_sd

    def fit(self, X, y, groups, sample_weight=None, offset=None):
        """Fit the model to rows X with outcomes y; `groups` may have several columns, each a factor."""
        Z, target, weights, offset = self._start(X, y, sample_weight, offset)
        factors = as_group_frame(groups, len(Z))
        codes, self._levels = {}, {}
        for name, labels in factors.items():
            codes[name], self._levels[name] = encode_groups(labels, name)
        # The factor with the most levels is eliminated; the dummies of the others are columns beside the features.
        lead, *others = sorted(codes, key=lambda name: -len(self._levels[name]))
        precision = self.effect_sd**-2.0
        border, penalty = Z, np.full(Z.shape[1], _NEXT_TO_NOTHING)
        penalty[0] = 0.0
        if others:
            dummies = [_indicators(codes[name], len(self._levels[name])) for name in others]
            border = scipy.sparse.hstack([scipy.sparse.csr_array(Z), *dummies], format="csr")
            penalty = np.append(penalty, np.full(border.shape[1] - Z.shape[1], precision))
        n_levels = len(self._levels[lead])
        if n_levels * border.shape[1] > _MOST_COUPLINGS:
            raise ValueError(
                f"fixed effects for {n_levels} levels of {lead} beside {border.shape[1]} columns take too much memory; "
                "leave out 'dummies'"
            )
        given = target, weights, offset, codes[lead]
        effects, beta = _fit_with_effects(border, *given, n_levels, precision, penalty, self._outcome)
        ends = np.cumsum([Z.shape[1], *(len(self._levels[name]) for name in others)])
        self._beta = beta[: Z.shape[1]]
        self._effects = dict(zip(others, np.split(beta, ends)[1:], strict=False))
        self._effects[lead] = effects
        return self

    def _linear_predictor(self, Z, groups):
        eta = Z @ self._beta
        given = {} if groups is None else as_group_frame(groups, len(Z))
        for name, labels in given.items():
            eta += np.append(self._effects[name], 0.0)[lookup_codes(self._levels[name], labels)]
        return eta


class _Classifier(ClassifierMixin):
    """Mixin: outcomes are two classes."""

    _outcome = LogitOutcome

    def _read_outcomes(self, y, weights, offset):
        target, self.classes_ = encode_target(y)
        return target.astype(np.float64), offset

    def predict_proba(self, X, groups=None, offset=None):
        """Probabilities of the two classes; `groups` and `offset` as in `fit`, groups None for unknown ones."""
        eta = self._linear_predictor(self._columns(X), groups)
        if offset is not None:
            eta = eta + read_offset(offset, len(eta))
        return np.column_stack([expit(-eta), expit(eta)])

    def predict(self, X, groups=None, offset=None):
        """The more likely class."""
        return self.classes_[(self.predict_proba(X, groups, offset)[:, 1] > 0.5).astype(np.intp)]


class PooledClassifier(_Classifier, Pooled):
    """See `Pooled`."""


class SeparateClassifier(_Classifier, Separate):
    """See `Separate`."""


class GroupDummiesClassifier(_Classifier, GroupDummies):
    """See `GroupDummies`."""


# --- Newton's method ----------------------------------------------------------------------------------------


def _indicators(codes, n_levels):
    return scipy.sparse.csr_array((np.ones(len(codes)), codes, np.arange(len(codes) + 1)), (len(codes), n_levels))


def _pooled(Z, y, weights, offset, outcome):
    """Coefficients of one model for all rows."""
    mean, precision = np.zeros(Z.shape[1]), np.full(Z.shape[1], _NEXT_TO_NOTHING)
    precision[0] = 0.0
    return _fit_each(Z, y, weights, offset, np.zeros(len(y), dtype=np.intp), 1, mean, precision, outcome)[0]


def _fit_each(Z, y, weights, offset, codes, n_groups, mean, precision, outcome):
    """Posterior modes of a model a group, by Newton's method with steps halved group by group until they rise.

    Parameters
    ----------
    Z : ndarray of shape (n, k)
        Features, a 1 first.
    y, weights, offset : ndarray of shape (n,)
    codes : ndarray of shape (n,)
    n_groups : int
    mean, precision : ndarray of shape (k,)
        Of the coefficients' independent normal priors.
    outcome : see `LogitOutcome`

    Returns
    -------
    theta : ndarray of shape (n_groups, k)
    """
    k = Z.shape[1]
    order = np.argsort(codes, kind="stable")  # rows of a group side by side: sums over groups are sums of slices
    columns, y, weights, offset = np.ascontiguousarray(Z[order].T), y[order], weights[order], offset[order]
    sizes = np.bincount(codes, minlength=n_groups)
    theta = np.tile(mean, (n_groups, 1))
    if precision[0] == 0:
        theta[:, 0] = outcome.intercept(y, weights, offset)

    def rise(part, columns, y, weights, offset, sizes):
        """One Newton step of some groups: their new coefficients, and what the step promised in log-likelihood."""
        starts = np.cumsum(sizes) - sizes

        def sums(values):
            return np.add.reduceat(values, starts)

        def linear_predictor(theta):
            if len(theta) == 1:
                return theta[0] @ columns + offset
            return np.einsum("ij,ji->i", theta.repeat(sizes, axis=0), columns) + offset

        def objective(theta, eta):
            return sums(weights * outcome.log_likelihood(y, eta)) - 0.5 * ((theta - mean) ** 2) @ precision

        eta = linear_predictor(part)
        mu = outcome.mean(eta)
        gradient = np.column_stack([sums(weights * (y - mu) * column) for column in columns])
        gradient -= precision * (part - mean)
        hessian = np.empty((len(part), k, k))
        weight = outcome.curvature(mu, weights)
        if len(part) == 1:
            hessian[0] = (weight * columns) @ columns.T
        else:
            for i in range(k):
                weighted = weight * columns[i]
                for j in range(i, k):
                    hessian[:, i, j] = hessian[:, j, i] = sums(weighted * columns[j])
        hessian[:, np.arange(k), np.arange(k)] += precision
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        value, length = objective(part, eta), np.ones((len(part), 1))
        for _ in range(30):
            moved = part + length * step
            worse = objective(moved, linear_predictor(moved)) < value - 1e-12 * np.abs(value)
            if not worse.any():
                break
            length[worse] /= 2
        return moved, np.einsum("ij,ij->i", gradient, step)

    left = np.arange(n_groups)
    for _ in range(_MAX_ITER):
        theta[left], promise = rise(theta[left], columns, y, weights, offset, sizes)
        unfinished = promise >= _TOL
        if not unfinished.any():
            break
        if not unfinished.all():  # a few groups with extreme coefficients take many steps: go on with these alone
            rows = np.repeat(unfinished, sizes)
            columns, y, weights, offset = columns[:, rows], y[rows], weights[rows], offset[rows]
            sizes, left = sizes[unfinished], left[unfinished]
    return theta


def _fit_with_effects(B, y, weights, offset, codes, n_levels, precision, penalty, outcome):
    """Mode of a model with an effect for each level and coefficients of the columns of B.

    The Newton system is an arrow: diagonal for the effects a, dense for the coefficients b. Eliminating the effects
    leaves the system of the coefficients alone.

    Parameters
    ----------
    B : ndarray or sparse array of shape (n, q)
        A 1 first.
    y, weights, offset : ndarray of shape (n,)
    codes : ndarray of shape (n,)
    n_levels : int
    precision : float
        Of the effects' prior.
    penalty : ndarray of shape (q,)
        Precisions of the coefficients' priors.
    outcome : see `LogitOutcome`

    Returns
    -------
    effects : ndarray of shape (n_levels,)
    coefficients : ndarray of shape (q,)
    """
    sum_rows = _indicators(codes, n_levels).T.tocsr()
    a, b = np.zeros(n_levels), np.zeros(B.shape[1])
    b[0] = outcome.intercept(y, weights, offset)

    def objective(a, b, eta):
        return weights @ outcome.log_likelihood(y, eta) - 0.5 * (precision * (a @ a) + penalty @ b**2)

    eta = a[codes] + B @ b + offset
    value = objective(a, b, eta)
    for _ in range(_MAX_ITER):
        mu = outcome.mean(eta)
        weight, residual = outcome.curvature(mu, weights), weights * (y - mu)
        gradient_a = np.bincount(codes, residual, n_levels) - precision * a
        gradient_b = B.T @ residual - penalty * b
        diagonal = np.bincount(codes, weight, n_levels) + precision
        if scipy.sparse.issparse(B):
            weighted = scipy.sparse.diags_array(weight) @ B
            coupling, dense = (sum_rows @ weighted).toarray(), (B.T @ weighted).toarray()
        else:
            weighted = weight[:, None] * B
            coupling, dense = sum_rows @ weighted, B.T @ weighted
        system = dense - coupling.T @ (coupling / diagonal[:, None])
        system[np.diag_indices_from(system)] += penalty
        step_b = scipy.linalg.solve(system, gradient_b - coupling.T @ (gradient_a / diagonal), assume_a="pos")
        step_a = (gradient_a - coupling @ step_b) / diagonal
        promise = gradient_a @ step_a + gradient_b @ step_b
        length = 1.0
        for _ in range(30):
            moved_a, moved_b = a + length * step_a, b + length * step_b
            eta = moved_a[codes] + B @ moved_b + offset
            reached = objective(moved_a, moved_b, eta)
            if reached >= value - 1e-12 * abs(value):
                break
            length /= 2
        a, b, value = moved_a, moved_b, reached
        if promise < _TOL:
            break
    return a, b
