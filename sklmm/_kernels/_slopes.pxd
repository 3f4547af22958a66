"""Clusters with several random coefficients."""
from libc.stdint cimport int64_t


cdef extern from "_slopes_derivatives.h" nogil:
    int SKLMM_LOGIT
    int SKLMM_MAX_Q
    ctypedef struct sklmm_factor:
        ptrdiff_t q, d, m
        const int64_t *entry_row
        const int64_t *entry_col
        const double *Lambda
    ctypedef struct sklmm_cluster:
        ptrdiff_t n, stride
        const double *eta
        const double *w
        const double *wy
        const double *z
        int family
    ctypedef struct sklmm_grid:
        ptrdiff_t k
        const double *zeta
        const double *log_w
    ctypedef struct sklmm_mode:
        double *u
        double *next
        double *H
    ctypedef struct sklmm_quadrature:
        double *u
        double *s
        double *R
        double *V
        double *pi
        double *moment
        double *V2
        double *R1
        double *Xi
        double *Lt
    int slopes_mode(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t, double tol)
    double slopes_laplace(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t)
    double slopes_quadrature(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_grid *grid, sklmm_mode *t,
                             sklmm_quadrature *v)
    double slopes_rows(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_mode *t, int laplace, double *W,
                       ptrdiff_t apart, double *omega, double *g)
    void slopes_node_rows(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_grid *grid,
                          const sklmm_quadrature *v, ptrdiff_t k0, ptrdiff_t nk, double *r, ptrdiff_t apart,
                          double *omega, double *g, double *vz)
    void slopes_times_z(const sklmm_cluster *c, ptrdiff_t q, const double *x, double *out, ptrdiff_t apart)
    ptrdiff_t slopes_assemble(const sklmm_factor *f, const sklmm_mode *t, const sklmm_quadrature *v, ptrdiff_t ld,
                              ptrdiff_t slot, ptrdiff_t z_slot, const double *sums, double *left, double *right,
                              double *theta_rows, double *moves, double *work, double *gradient)
    void slopes_node_gradients(const sklmm_factor *f, const sklmm_grid *grid, const sklmm_quadrature *v, ptrdiff_t ld,
                               ptrdiff_t slot, const double *moves, double *rx, double *mean, double *gradient)
