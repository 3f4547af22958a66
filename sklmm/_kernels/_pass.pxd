"""Passes over rows that are sorted by cluster; see _pass.pyx."""
from libc.stdint cimport int64_t, uint8_t

from sklmm._kernels._rows cimport sklmm_ahead, sklmm_source


cdef struct Rows:
    sklmm_source source          # the features
    const uint8_t *y
    const double *w              # weights, or NULL: all ones
    const double *offset         # of the linear predictors, or NULL: 0
    const int64_t *start         # first row of each cluster
    ptrdiff_t ld                 # doubles of a row in a tile, see _rows.h
    ptrdiff_t tile               # rows of a tile
    ptrdiff_t rows, tile_rows    # of the longest block and its tile, in whole vectors


cdef class RowKernel:
    cdef:
        Rows data
        object keep              # every array that the pointers look into
        const int64_t[::1] block, chunk
        double[:, ::1] arenas, scratches
        int64_t[:, ::1] starts
        ptrdiff_t most_clusters  # of a block
        readonly ptrdiff_t n_blocks, n_chunks
        readonly int n_threads
    cdef read(self, X, const double[::1] center, const double[::1] inv_scale, bint intercept, const uint8_t[::1] y,
              const double[::1] w, const int64_t[::1] start, const int64_t[::1] block, const int64_t[::1] chunk,
              ptrdiff_t tile, int n_threads)
    cdef allocate(self, ptrdiff_t size, size_t scratch)
    cdef sums(self, ptrdiff_t size, const void *at, const int64_t[::1] rank, ptrdiff_t n_sampled)
    cdef int run_chunk(self, ptrdiff_t i, double *totals, const void *at, const int64_t *rank,
                       ptrdiff_t n_sampled) noexcept nogil
    cdef int add_block(self, ptrdiff_t i, double *totals, const void *at, ptrdiff_t n_ahead) noexcept nogil


cdef void load_block(const Rows *p, ptrdiff_t c0, ptrdiff_t c1, const double *beta, double *tile, int64_t *start, double *w,
                     double *wy, double *eta, double *z) noexcept nogil
cdef void add_second_order(const Rows *p, double *S, double *G, ptrdiff_t m, const double *T, const double *w, const double *g,
                           ptrdiff_t first, ptrdiff_t n, ptrdiff_t n_ahead) noexcept nogil
cdef hessian_of(const double *symmetric, const double *half, ptrdiff_t m, ptrdiff_t ld)

# the functions of _rows.h
cdef void rows_load(double *T, ptrdiff_t ld, const sklmm_source *s, ptrdiff_t first, ptrdiff_t n) noexcept nogil
cdef void rows_dot(double *out, const double *T, ptrdiff_t ld, const double *beta, ptrdiff_t n) noexcept nogil
cdef int rows_exp(double *out, const double *x, double limit, ptrdiff_t n) noexcept nogil
cdef void rows_update(double *F, ptrdiff_t ld, const double *L, ptrdiff_t row, ptrdiff_t col, ptrdiff_t na, const double *R,
                      ptrdiff_t n) noexcept nogil
cdef void rows_square(double *S, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w, ptrdiff_t n) noexcept nogil
cdef void rows_cluster_sums(double *S, ptrdiff_t ld, ptrdiff_t nc, const int64_t *start, const double *W, ptrdiff_t row,
                            ptrdiff_t col, ptrdiff_t nw, const double *R) noexcept nogil
cdef sklmm_ahead rows_ahead(const sklmm_source *s, ptrdiff_t first, ptrdiff_t n) noexcept nogil
