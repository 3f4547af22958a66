"""Tiles of rows: loading, weighted sums, rank updates."""
from libc.stdint cimport int64_t


cdef extern from "_rows.h" nogil:
    ctypedef struct sklmm_source:
        const void *data
        ptrdiff_t row, col, n, p
        int is_float32
        const double *center
        const double *inv_scale
        int intercept
        ptrdiff_t q, z_slot
        const int64_t *z_column
        const double *z_center
        const double *z_inv_scale
    void rows_load(double *T, ptrdiff_t ld, const sklmm_source *s, ptrdiff_t first, ptrdiff_t n)
    void rows_dot(double *out, const double *T, ptrdiff_t ld, const double *beta, ptrdiff_t n)
    int rows_exp(double *out, const double *x, double limit, ptrdiff_t n)
    void rows_update(double *F, ptrdiff_t ld, const double *L, ptrdiff_t row, ptrdiff_t col, ptrdiff_t na,
                     const double *R, ptrdiff_t n)
    void rows_square(double *S, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w, ptrdiff_t n)
    ctypedef struct sklmm_ahead:
        pass
    sklmm_ahead rows_ahead(const sklmm_source *s, ptrdiff_t first, ptrdiff_t n)
    void rows_second_order(double *S, double *G, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w,
                           const double *g, ptrdiff_t n, const sklmm_ahead *ahead)
    void rows_cluster_sums(double *S, ptrdiff_t ld, ptrdiff_t nc, const int64_t *start, const double *W,
                           ptrdiff_t row, ptrdiff_t col, ptrdiff_t nw, const double *R)
    void rows_gather(char *out, const char *X, ptrdiff_t stride, ptrdiff_t bytes, const int64_t *order, ptrdiff_t n)
