"""Gauss-Hermite nodes for the kernels."""

import functools
import itertools

import numpy as np

# A tensor grid larger than this would take hours and gigabytes; fewer nodes a dimension are needed as q grows.
MAX_GRID = 20_000


@functools.cache
def hermite_grid(k, q):
    """Tensor grid of k Gauss-Hermite nodes a dimension, with the weights of adaptive quadrature.

    The integral of exp(h(u)) over q dimensions is about sqrt(2)^q / det(L) times the sum over nodes of
    w exp(h(u + sqrt(2) L'^-1 zeta) + |zeta|^2) (Liu and Pierce, 1994; Pinheiro and Chao, 2006); dividing w by pi^(q/2)
    takes in the normal density's constant, so that one node is the Laplace approximation.

    Parameters
    ----------
    k, q : int

    Returns
    -------
    zeta : ndarray of shape (k**q, q)
    log_w : ndarray of shape (k**q,)
        log(w / pi^(q/2)) + |zeta|^2.

    Raises
    ------
    ValueError
        If the grid would have more than 20,000 nodes.
    """
    if k**q > MAX_GRID:
        raise ValueError(
            f"n_quadrature={k} with {q} random coefficients needs {k}**{q} nodes for each group, more than {MAX_GRID}; "
            f"use n_quadrature <= {int(MAX_GRID ** (1 / q) + 1e-9)}, or 1 (Laplace)"
        )
    node, weight = np.polynomial.hermite.hermgauss(k)
    with np.errstate(divide="ignore"):
        log_w = np.log(weight / np.sqrt(np.pi)) + node**2
    if not np.all(np.isfinite(log_w)):
        raise ValueError(f"n_quadrature={k} is too large: the outermost Gauss-Hermite weights underflow")
    zeta = np.array(list(itertools.product(node, repeat=q)), dtype=float).reshape(-1, q)
    grid = zeta, np.sum(list(itertools.product(log_w, repeat=q)), axis=1)
    for values in grid:
        values.flags.writeable = False  # the next caller gets the same
    return grid
