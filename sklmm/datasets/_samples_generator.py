"""Simulated grouped data whose truth is known."""

import numpy as np
from scipy.special import expit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_scalar


def make_clustered_classification(
    n_samples=1000,
    n_features=5,
    *,
    n_groups=None,
    n_informative=None,
    coef=None,
    intercept=0.0,
    covariance=1.0,
    size_variation=0.0,
    shuffle=True,
    random_state=None,
    return_truth=False,
):
    """Generate a binary classification problem with groups, from a mixed-effects logistic regression.

    Row j of group i, with features x, is of class 1 with probability ::

        expit(intercept + b_i[0] + (coef[0] + b_i[1]) x[0] + (coef[1] + b_i[2]) x[1] + ... + coef[-1] x[-1])

    Features are independent standard normal. The random effects b_i of a group are normal with mean zero
    and the given ``covariance``; its size says how many features have a slope that differs between groups.

    Parameters
    ----------
    n_samples : int or array-like of int, default=1000
        The number of rows. If array-like, the number of rows of each group.
    n_features : int, default=5
        The number of features.
    n_groups : int, default=None
        The number of groups, each of at least one row. None is one group for every 20 rows (at least one),
        or the length of ``n_samples``.
    n_informative : int, default=None
        The number of features with a non-zero coefficient: the first ones. None is all of them. Not used if
        ``coef`` is given.
    coef : array-like of shape (n_features,), default=None
        The coefficients of the features. None draws them from the standard normal distribution.
    intercept : float, default=0.0
        The log-odds of class 1 in a typical group where all features are zero.
    covariance : float, array-like of shape (q,) or (q, q), default=1.0
        The covariance of the random effects: a float is the variance of the random intercept (1.5**2 for a
        standard deviation of 1.5), a matrix the covariance of the intercept and of the slopes of the first
        q - 1 features, a vector their variances, uncorrelated. Zeros are allowed; 0 is data without group
        effects.
    size_variation : float, default=0.0
        The coefficient of variation of the group sizes, roughly. 0 is sizes that differ by at most one; 1
        is many small groups and a few large ones. Not used if ``n_samples`` is array-like.
    shuffle : bool, default=True
        Whether to shuffle the rows. If False, the rows of a group follow each other.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same data in every call.
    return_truth : bool, default=False
        Whether to return what the data were drawn from as well.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The features. The groups are not among them.
    y : ndarray of shape (n_samples,)
        The classes, 0 or 1.
    groups : ndarray of shape (n_samples,)
        The group of each row, from 0 to n_groups - 1.
    truth : :class:`~sklearn.utils.Bunch`, only if ``return_truth`` is True
        ``coef`` (n_features,), ``intercept``, ``covariance`` (q, q), ``random_effects`` (n_groups, q): the
        drawn effects of each group, and ``probabilities`` (n_samples,): the probability of class 1 of each
        row, its group's effects included.

    See Also
    --------
    sklearn.datasets.make_classification : Generate a classification problem without groups.

    Examples
    --------
    >>> from sklmm.datasets import make_clustered_classification
    >>> X, y, groups = make_clustered_classification(n_samples=200, n_features=3, n_groups=10, random_state=0)
    >>> X.shape, y.shape, len(set(groups.tolist()))
    ((200, 3), (200,), 10)

    A random intercept (sd 1) and a random slope of the first feature (sd 0.5), correlated by 0.4, with the
    truth:

    >>> covariance = [[1.0, 0.2], [0.2, 0.25]]
    >>> X, y, groups, truth = make_clustered_classification(
    ...     coef=[1.0, -1.0], n_features=2, covariance=covariance, random_state=0, return_truth=True)
    >>> truth.random_effects.shape
    (50, 2)
    >>> truth.coef
    array([ 1., -1.])
    """
    rng = check_random_state(random_state)
    X, groups, truth = _clustered_rows(
        n_samples, n_features, n_groups, n_informative, coef, intercept, covariance, size_variation, rng
    )
    probabilities = expit(_linear_predictor(X, groups, truth))
    y = (rng.uniform(size=len(X)) < probabilities).astype(np.int64)
    return _returned(X, y, groups, truth, {"probabilities": probabilities}, shuffle, return_truth, rng)


def make_clustered_regression(
    n_samples=1000,
    n_features=5,
    *,
    n_groups=None,
    n_informative=None,
    coef=None,
    intercept=0.0,
    covariance=1.0,
    noise=1.0,
    size_variation=0.0,
    shuffle=True,
    random_state=None,
    return_truth=False,
):
    """Generate a regression problem with groups, from a linear mixed-effects model.

    Row j of group i, with features x, has the outcome ::

        intercept + b_i[0] + (coef[0] + b_i[1]) x[0] + (coef[1] + b_i[2]) x[1] + ... + coef[-1] x[-1] + e

    with e normal of standard deviation ``noise``. Features are independent standard normal. The random
    effects b_i of a group are normal with mean zero and the given ``covariance``; its size says how many
    features have a slope that differs between groups.

    Parameters
    ----------
    n_samples, n_features, n_groups, n_informative, coef
        As in :func:`make_clustered_classification`.
    intercept : float, default=0.0
        The mean outcome of a typical group where all features are zero.
    covariance : float, array-like of shape (q,) or (q, q), default=1.0
        The covariance of the random effects, as in :func:`make_clustered_classification`.
    noise : float, default=1.0
        The residual standard deviation.
    size_variation, shuffle, random_state, return_truth
        As in :func:`make_clustered_classification`.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The features. The groups are not among them.
    y : ndarray of shape (n_samples,)
        The outcomes.
    groups : ndarray of shape (n_samples,)
        The group of each row, from 0 to n_groups - 1.
    truth : :class:`~sklearn.utils.Bunch`, only if ``return_truth`` is True
        ``coef`` (n_features,), ``intercept``, ``covariance`` (q, q), ``random_effects`` (n_groups, q): the
        drawn effects of each group, ``noise``, and ``means`` (n_samples,): the mean of each row, its group's
        effects included.

    See Also
    --------
    sklearn.datasets.make_regression : Generate a regression problem without groups.

    Examples
    --------
    >>> from sklmm.datasets import make_clustered_regression
    >>> X, y, groups = make_clustered_regression(n_samples=200, n_features=3, n_groups=10, random_state=0)
    >>> X.shape, y.shape, len(set(groups.tolist()))
    ((200, 3), (200,), 10)
    """
    check_scalar(noise, "noise", (int, float, np.number), min_val=0)
    rng = check_random_state(random_state)
    X, groups, truth = _clustered_rows(
        n_samples, n_features, n_groups, n_informative, coef, intercept, covariance, size_variation, rng
    )
    means = _linear_predictor(X, groups, truth)
    y, truth["noise"] = means + noise * rng.standard_normal(len(X)), float(noise)
    return _returned(X, y, groups, truth, {"means": means}, shuffle, return_truth, rng)


def _clustered_rows(n_samples, n_features, n_groups, n_informative, coef, intercept, covariance, size_variation, rng):
    """Features, groups, and what was drawn for them."""
    check_scalar(n_features, "n_features", (int, np.integer), min_val=0)
    check_scalar(intercept, "intercept", (int, float, np.number))
    if not np.isfinite(intercept):
        raise ValueError(f"intercept must be finite, got {intercept}.")
    if np.ndim(n_samples) > 0:
        sizes = _given_sizes(n_samples, n_groups)
    else:
        sizes = _draw_sizes(n_samples, n_groups, size_variation, rng)
    coef = _coefficients(coef, n_features, n_informative, rng)
    covariance = _covariance_matrix(covariance, n_features)
    random_effects = rng.standard_normal((len(sizes), len(covariance))) @ _square_root(covariance).T
    X = rng.standard_normal((sizes.sum(), n_features))
    truth = dict(coef=coef, intercept=float(intercept), covariance=covariance, random_effects=random_effects)
    return X, np.repeat(np.arange(len(sizes)), sizes), truth


def _linear_predictor(X, groups, truth):
    """The linear predictor of each row, its group's effects included."""
    effects = truth["random_effects"][groups]
    fixed = truth["intercept"] + X @ truth["coef"] + effects[:, 0]
    return fixed + np.sum(effects[:, 1:] * X[:, : effects.shape[1] - 1], axis=1)


def _returned(X, y, groups, truth, by_row, shuffle, return_truth, rng):
    """What a generator returns, its rows in another order if they are to be shuffled."""
    if shuffle:
        order = rng.permutation(len(X))
        X, y, groups = X[order], y[order], groups[order]
        by_row = {name: values[order] for name, values in by_row.items()}
    return (X, y, groups, Bunch(**truth, **by_row)) if return_truth else (X, y, groups)


def _given_sizes(n_samples, n_groups):
    sizes = np.asarray(n_samples)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or len(sizes) == 0 or np.any(sizes < 1):
        raise ValueError(
            "n_samples must be an int or a 1-D array-like of positive ints, the rows of each group; "
            f"got {n_samples!r}."
        )
    if n_groups is not None and n_groups != len(sizes):
        raise ValueError(
            f"n_groups is {n_groups}, but n_samples gives the sizes of {len(sizes)} groups: leave it out."
        )
    return sizes


def _draw_sizes(n_samples, n_groups, size_variation, rng):
    check_scalar(n_samples, "n_samples", (int, np.integer), min_val=1)
    if n_groups is None:
        n_groups = max(1, n_samples // 20)
    check_scalar(n_groups, "n_groups", (int, np.integer), min_val=1)
    if n_groups > n_samples:
        raise ValueError(f"{n_groups} groups need at least as many rows, but n_samples is {n_samples}.")
    check_scalar(size_variation, "size_variation", (int, float, np.number), min_val=0)
    if size_variation == 0:
        sizes = np.full(n_groups, n_samples // n_groups)
        sizes[: n_samples % n_groups] += 1
        return sizes
    # a row for each group; the others fall on groups in proportion to gamma variates of the asked variation
    shares = rng.gamma(1 / size_variation**2, size=n_groups) + np.finfo(float).tiny
    return 1 + rng.multinomial(n_samples - n_groups, shares / shares.sum())


def _coefficients(coef, n_features, n_informative, rng):
    if coef is not None:
        coef = np.array(coef, dtype=np.float64)
        if coef.shape != (n_features,) or not np.all(np.isfinite(coef)):
            raise ValueError(
                f"coef must hold a finite number for each of the {n_features} features; got {coef.tolist()}."
            )
        return coef
    if n_informative is None:
        n_informative = n_features
    check_scalar(n_informative, "n_informative", (int, np.integer), min_val=0, max_val=n_features)
    coef = rng.standard_normal(n_features)
    coef[n_informative:] = 0.0
    return coef


def _covariance_matrix(covariance, n_features):
    matrix = np.array(covariance, dtype=np.float64)
    if matrix.ndim < 2:
        matrix = np.diag(np.atleast_1d(matrix))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(
            "covariance must be a variance, a vector of variances or a square matrix; "
            f"got an array of shape {np.shape(covariance)}."
        )
    if len(matrix) - 1 > n_features:
        raise ValueError(
            f"covariance has {len(matrix)} random effects, an intercept and {len(matrix) - 1} slopes, "
            f"but there are only {n_features} features."
        )
    if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T):
        raise ValueError("covariance must be finite and symmetric.")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if smallest < -1e-10 * np.trace(matrix) or np.trace(matrix) < 0:
        raise ValueError(f"covariance must be positive semi-definite; it has the eigenvalue {smallest:.3g}.")
    return matrix


def _square_root(matrix):
    """R with R R' = matrix, which may be singular: a Cholesky factor would not do."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
