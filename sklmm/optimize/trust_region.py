"""The step of a trust-region method: the maximum of a quadratic model where the model is believed."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import brentq

# The largest step in a relative standard deviation, in which the likelihood is far from quadratic; or twice its size.
MAX_STEP = 2.0
# On the scale of a unit diagonal: curvatures below the first share of the largest are no information, and a direction
# curves upwards beyond rounding errors from the second on.
LEAST_CURVATURE, UPWARD = 1e-12, 1e-8
# Where a direction curves upwards, curvatures below this share of the largest are not believed to be so small.
FLAT_CURVATURE = 0.1
NOTHING = 1e-30  # a parameter with this share of another's information has none


@dataclass
class Step:
    """A step of the quadratic model.

    Attributes
    ----------
    step : ndarray
    gain : float
        What the model promises.
    decrement : float
        What it promises where nothing bounds the step, but for directions that curve upwards.
    slope : float
        What the gradient alone promises: the decrement, if nothing curves upwards.
    length : float
        In the metric of the information: its square is about twice the log-likelihood that it is about.
    newton : bool
        It is Newton's, and the Hessian is negative definite.
    """

    step: np.ndarray
    gain: float
    decrement: float
    slope: float
    length: float
    newton: bool


def newton_step(gradient, information, active, n_fixed, x=None, radius=np.inf):
    """The step that maximises the quadratic model within a trust region.

    The region is an ellipsoid in the metric of the information, with the absolute values of its eigenvalues (and none
    below FLAT_CURVATURE of the largest) where it is indefinite; parameters behind the n_fixed first ones, in which the
    likelihood is far from quadratic, move by
    MAX_STEP or twice their size at most. Within it the problem is solved exactly (More and Sorensen 1983), by the
    eigenvalues of the information in that metric. A direction that curves upwards is followed to the edge, so that the
    step leaves saddle points, such as a variance of 0 that should not be.

    Parameters
    ----------
    gradient : ndarray of shape (n,)
    information : ndarray of shape (n, n)
        Minus the Hessian.
    active : mask of the parameters that may move
    n_fixed : int
    x : ndarray of shape (n,) or None
        Where the step begins.
    radius : float

    Returns
    -------
    Step

    References
    ----------
    More JJ, Sorensen DC (1983). Computing a trust region step. SIAM Journal on Scientific and Statistical Computing 4.
    """
    g, A = (gradient, information) if active.all() else (gradient[active], information[np.ix_(active, active)])
    scale = np.abs(A.diagonal())
    scale = 1.0 / np.sqrt(np.maximum(scale, max(NOTHING * scale.max(initial=0.0), np.finfo(float).tiny)))
    A, g = A * (scale[:, None] * scale), g * scale
    random = np.flatnonzero(active) >= n_fixed
    most = np.full(int(random.sum()), MAX_STEP)
    if x is not None:
        most = np.maximum(most, 2.0 * np.abs(x[active][random]))

    def result(direction, gain, decrement, slope, length, newton):
        step = np.zeros_like(gradient)
        step[active] = direction * scale
        return Step(step, float(gain), float(decrement), float(slope), float(length), newton)

    if not g.size:  # all parameters are held, and LAPACK refuses empty matrices
        return result(g, 0.0, 0.0, 0.0, 0.0, True)
    factor, failed = lapack.dpotrf(A, lower=1)
    if not failed and factor.diagonal().min(initial=1.0) ** 2 > LEAST_CURVATURE:
        direction = lapack.dpotrs(factor, g, lower=1)[0]
        length = np.sqrt(max(g @ direction, 0.0))
        if length <= radius and (np.abs(direction * scale)[random] <= most).all():
            return result(direction, 0.5 * length**2, 0.5 * length**2, 0.5 * length**2, length, True)
        metric, decrement, slope = A, 0.5 * length**2, 0.5 * length**2
    else:
        w, V = _eigen(*lapack.dsyevd(A))
        least = FLAT_CURVATURE if w[0] < -UPWARD else LEAST_CURVATURE
        size = np.maximum(np.abs(w), least * max(np.abs(w).max(), 1.0))
        metric, along = (V * size) @ V.T, V.T @ g
        length = np.sqrt(along**2 @ (1.0 / size))
        slope = 0.5 * length**2
        if w[0] < -UPWARD:
            length = max(length, 1.0)
        decrement = _solve(A, g, metric, length)[1] if length > 0.0 else 0.0
    rho = min(radius, length)
    if rho == 0.0:
        return result(np.zeros_like(g), 0.0, 0.0, 0.0, 0.0, False)
    bounded = metric.copy()
    bounded[random, random] += (rho / (most / scale[random])) ** 2
    direction, gain = _solve(A, g, bounded, np.sqrt(2.0) * rho)
    return result(direction, gain, max(decrement, gain), slope, np.sqrt(direction @ metric @ direction), False)


def _solve(A, g, metric, radius):
    """The maximum of g's - s'As / 2 where s'(metric)s <= radius^2: s, and the value there."""
    w, V = _eigen(*lapack.dsygvd(A, metric))
    along = V.T @ g

    def length(ridge):
        return np.sqrt(((along / (w + ridge)) ** 2).sum())

    near = 0.0 if w[0] > 0.0 else 1e-10 - (1.0 + 1e-10) * w[0]  # the least ridge that makes the model concave
    step = along / (w + near)
    if length(near) > radius:
        far = max(1.001 * (max(0.0, -w[0]) + np.linalg.norm(along) / radius), 2.0 * near)
        step = along / (w + brentq(lambda ridge: 1.0 / radius - 1.0 / length(ridge), near, far, disp=False))
    elif w[0] <= 0.0:  # it is short, and goes on to the edge, upwards
        step[0] += np.copysign(np.sqrt(max(radius**2 - step @ step, 0.0)), along[0])
    return V @ step, along @ step - 0.5 * (w * step) @ step


def _eigen(w, V, info):
    """What LAPACK has found, or numpy's error that it has not."""
    if info:
        raise np.linalg.LinAlgError("the eigenvalues of the information were not found")
    return w, V
