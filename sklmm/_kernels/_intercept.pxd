"""Clusters with a random intercept."""
from libc.stdint cimport int64_t


cdef extern from "_intercept_quadrature.h" nogil:  # includes _intercept.h
    double SKLMM_CLAMP
    ctypedef struct sklmm_block:
        ptrdiff_t nc
        const int64_t *start
        const double *eta
        const double *E
        const double *w
        const double *wy
        int unweighted, far
    ctypedef struct sklmm_node_means:
        double r0, r1, v0, v1, v2, z1, z2, ru
    ctypedef struct sklmm_modes:
        double *u
        double *B
        double *R
        double *V
        double *V1
        double *H
        double *C
        double *c
        double *k
        double *kappa
        double *xi
        double *N
        double *next
        sklmm_node_means *means
    ctypedef struct sklmm_nodes:
        ptrdiff_t k, padded
        const double *zeta
        const double *log_w
    ctypedef struct sklmm_node_values:
        double *u
        double *B
        double *R
        double *V
        double *s
        double *pi
        double *r
        double *v
        double *r_mean
        double *v_mean
        double *vz
    int intercept_modes(sklmm_block *b, const sklmm_modes *m, double theta, double tol)
    double intercept_laplace(ptrdiff_t nc, const sklmm_modes *m, double theta)
    double intercept_quadrature(sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                const sklmm_node_values *values, double theta)
    double intercept_rows(const sklmm_block *b, const sklmm_modes *m, const sklmm_node_values *values, double theta,
                          double *v, double *v1, double *omega, double *g, double *q)
    void intercept_node_residuals(const sklmm_block *b, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n,
                                  const sklmm_nodes *nodes, const sklmm_node_values *values, double theta, double *r)
    double intercept_assemble(ptrdiff_t nc, ptrdiff_t ld, ptrdiff_t slot, const sklmm_modes *m, double theta,
                              const double *sums, double *left, double *right, double *theta_row, double *moves,
                              double *scores)
    void intercept_node_gradients(ptrdiff_t i0, ptrdiff_t i1, ptrdiff_t ld, ptrdiff_t slot, const sklmm_nodes *nodes,
                                  const sklmm_node_values *values, const double *moves, double *rx, double *weights)


cdef extern from "_intercept_value.h" nogil:
    double intercept_quadrature_value(sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                      const sklmm_node_values *values, double theta)
