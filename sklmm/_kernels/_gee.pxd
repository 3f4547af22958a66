"""Rows of estimating equations: scaled, whitened, corrected for leverage; see _gee.h."""
from libc.stdint cimport int32_t

from sklmm._kernels._rows cimport sklmm_ahead


cdef extern from "_gee.h" nogil:
    double SKLMM_HALF_ETA
    int SKLMM_LOGIT, SKLMM_GAUSSIAN
    ctypedef struct sklmm_bread:
        ptrdiff_t ld, m
        const double *bread
        const double *origin
        double bound
    double gee_rows(const double *half, const double *h, const double *y, const double *root_w, double *s, double *e,
                    double *plain, ptrdiff_t n)
    double gee_rows_of_link(int family, const double *half, const double *y, const double *root_w, double *s, double *e,
                            double *plain, ptrdiff_t n)
    void gee_scale(double *T, ptrdiff_t ld, ptrdiff_t slot, const double *s, const double *e, ptrdiff_t n,
                   const sklmm_ahead *ahead)
    void gee_cluster_sum(double *t, const double *T, ptrdiff_t ld, const double *q, ptrdiff_t n)
    void gee_exchangeable(double *T, ptrdiff_t ld, const double *q, ptrdiff_t n, const double *t, double shift, double scale)
    void gee_ar1(double *T, ptrdiff_t ld, ptrdiff_t n, const int32_t *gap, const double *rho, const double *inverse,
                 const double *before, double *carry)
    int gee_factor(double *L, const double *R, ptrdiff_t ldr, const int32_t *codes, ptrdiff_t n)
    void gee_solve(double *T, ptrdiff_t ld, ptrdiff_t n, const double *L)
    void gee_add(double *to, double *u, const double *M, ptrdiff_t ld, ptrdiff_t m, ptrdiff_t slot)
    double gee_correct(const sklmm_bread *b, const double *M, const double *u, double *md, double *kc, double *fg, double *work)
