"""Sums over rows of columns and their products, in one pass; see `sklmm.inference.same_rows`."""
import numpy as np


cdef extern from "_moments.h" nogil:
    void add_products_of_doubles(const double *x, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t p, const double *center,
                                 const double *labels, ptrdiff_t ld, ptrdiff_t m, double *squares, double *products)
    void add_products_of_floats(const float *x, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t p, const double *center,
                                const double *labels, ptrdiff_t ld, ptrdiff_t m, double *squares, double *products)


ctypedef fused number:
    float
    double


def add_products(X, const double[::1] center, const double[:, :] labels, double[::1] squares, double[:, ::1] products):
    """Add the sums over rows of z z and of labels times z, z being X less its centre.

    Parameters
    ----------
    X : ndarray of shape (n, p), float64 or float32
    center : ndarray of shape (p,)
    labels : ndarray of shape (m, n)
        The first is the row's weight, by which z z counts.
    squares : ndarray of shape (p,)
    products : ndarray of shape (m, p)
    """
    if X.shape[1] and X.strides[1] != X.itemsize or X.strides[0] % X.itemsize or X.strides[0] < 0:
        X = np.ascontiguousarray(X)
    if X.dtype == np.float32:
        _add[float](X, center, labels, squares, products)
    else:
        _add[double](X, center, labels, squares, products)


cdef _add(const number[:, :] X, const double[::1] center, const double[:, :] labels, double[::1] squares,
          double[:, ::1] products):
    cdef Py_ssize_t n = X.shape[0], p = X.shape[1], m = labels.shape[0]
    if center.shape[0] != p or labels.shape[1] != n or squares.shape[0] != p or products.shape[0] != m or \
            products.shape[1] != p or (n > 1 and labels.strides[1] != sizeof(double)):
        raise ValueError("the shapes of X, center, labels and sums do not fit together")
    if not n or not p or not m:
        return
    if number is float:
        add_products_of_floats(&X[0, 0], X.strides[0] // <Py_ssize_t>sizeof(float), n, p, &center[0], &labels[0, 0],
                                labels.strides[0] // <Py_ssize_t>sizeof(double), m,
                               &squares[0], &products[0, 0])
    else:
        add_products_of_doubles(&X[0, 0], X.strides[0] // <Py_ssize_t>sizeof(double), n, p, &center[0], &labels[0, 0],
                                labels.strides[0] // <Py_ssize_t>sizeof(double), m,
                                &squares[0], &products[0, 0])
