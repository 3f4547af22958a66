"""Densities for priors: of coefficients, standard deviations, covariance matrices and correlations.

A density knows nothing of models. Each is frozen, checked when it is made, and equal to another with the same numbers.
It has ``log_density(value)`` and ``derivatives(value)`` -> log density, gradient and Hessian in the value: a number (or
an array of numbers, each for itself), a vector, or a symmetric matrix, whose gradient has the shape of the value and
whose Hessian that shape twice. Improper ones have no constant of normalisation; ``improper`` says which they are.
`Gamma` with rate 0 and `Wishart` with an infinite scale are what R's blme has by default (Chung et al. 2013, 2015).

References
----------
Chung Y, Gelman A, Rabe-Hesketh S, Liu J, Dorie V (2015). Weakly informative prior for point estimation of covariance
matrices in hierarchical models. Journal of Educational and Behavioral Statistics 40, 136-157.

Chung Y, Rabe-Hesketh S, Dorie V, Gelman A, Liu J (2013). A nondegenerate penalized likelihood estimator for variance
parameters in multilevel models. Psychometrika 78, 685-709.

Lewandowski D, Kurowicka D, Joe H (2009). Generating random correlation matrices based on vines and extended onion
method. Journal of Multivariate Analysis 100, 1989-2001.
"""

from sklmm.priors.coefficients import MultivariateT, Normal, StudentT
from sklmm.priors.matrices import LKJ, InverseWishart, Wishart
from sklmm.priors.positive import Exponential, Flat, Gamma, HalfNormal, HalfStudentT, InverseGamma

__all__ = ["Exponential", "Flat", "Gamma", "HalfNormal", "HalfStudentT", "InverseGamma", "InverseWishart", "LKJ",
           "MultivariateT", "Normal", "StudentT", "Wishart"]  # fmt: skip
