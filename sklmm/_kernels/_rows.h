/* Primitives on a tile of rows: load, linear predictor, weighted sums and rank updates.
 *
 * A tile holds rows of `ld` doubles, `ld` a multiple of 8: [x standardised (p) | 1 if intercept | 0 for each theta |
 * z scaled (q) | 0 ...]. The zeros under theta let every vector of derivatives share one length and one layout.
 */
#ifndef SKLMM_ROWS_H
#define SKLMM_ROWS_H

#include "_vecmath.h"

/* --- loading ------------------------------------------------------------------------------------------------ */

typedef struct {
    const void *data;        /* X as the user gave it, float64 or float32, any strides */
    ptrdiff_t row, col;      /* strides in elements */
    ptrdiff_t n, p;
    int is_float32;
    const double *center;    /* p, then zeros up to a multiple of 8 */
    const double *inv_scale; /* likewise */
    int intercept;           /* slot p holds 1 */
    ptrdiff_t q, z_slot;     /* z columns start at this slot */
    const int64_t *z_column; /* column of X, or -1 for the constant 1 */
    const double *z_center, *z_inv_scale;
} sklmm_source;

SKLMM_INLINE double source_at(const sklmm_source *s, ptrdiff_t i, ptrdiff_t c)
{
    ptrdiff_t k = i * s->row + c * s->col;
    return s->is_float32 ? (double)((const float *)s->data)[k] : ((const double *)s->data)[k];
}

/* Rows first .. first + n - 1 into the tile T (n x ld). */
SKLMM_CLONES void rows_load(double *T, ptrdiff_t ld, const sklmm_source *s, ptrdiff_t first, ptrdiff_t n)
{
    const ptrdiff_t p = s->p, whole = s->n - 8; /* reading up to 7 elements past a row stays inside X before this row */
    const int contiguous = s->col == 1 && s->row >= 1 && !s->is_float32;
    if (!contiguous) /* column by column: the friendly direction of a Fortran-ordered X */
        for (ptrdiff_t c = 0; c < p; c++) {
            const double m = s->center[c], f = s->inv_scale[c];
            if (s->is_float32) {
                const float *x = (const float *)s->data + first * s->row + c * s->col;
                for (ptrdiff_t r = 0; r < n; r++) T[r * ld + c] = (x[r * s->row] - m) * f;
            } else {
                const double *x = (const double *)s->data + first * s->row + c * s->col;
                for (ptrdiff_t r = 0; r < n; r++) T[r * ld + c] = (x[r * s->row] - m) * f;
            }
        }
    for (ptrdiff_t r = 0; r < n; r++) {
        const ptrdiff_t i = first + r;
        double *t = T + r * ld;
        if (contiguous && i < whole) {
            const double *x = (const double *)s->data + i * s->row;
            for (ptrdiff_t c = 0; c < p; c += 8) {
                v8d v = (v8_load(x + c) - v8_load(s->center + c)) * v8_load(s->inv_scale + c);
                v8_store(t + c, v8_keep(v8_first(p - c), v));
            }
        } else if (contiguous) {
            for (ptrdiff_t c = 0; c < p; c++) t[c] = (source_at(s, i, c) - s->center[c]) * s->inv_scale[c];
        }
        if (s->intercept) t[p] = 1.0;
        for (ptrdiff_t a = 0; a < s->q; a++)
            t[s->z_slot + a] = s->z_column[a] < 0 ? 1.0 : (source_at(s, i, s->z_column[a]) - s->z_center[a]) * s->z_inv_scale[a];
    }
}

/* out[i, :] = X[order[i], :] for rows of `bytes` bytes apart by `stride` bytes: fetched well ahead, since they lie anywhere. */
SKLMM_INLINE void rows_gather(char *out, const char *X, ptrdiff_t stride, ptrdiff_t bytes, const int64_t *order, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        if (i + 24 < n) {
            const char *ahead = X + order[i + 24] * stride;
            for (ptrdiff_t b = 0; b < bytes; b += 64) __builtin_prefetch(ahead + b);
            __builtin_prefetch(ahead + bytes - 1);
        }
        __builtin_memcpy(out + i * bytes, X + order[i] * stride, bytes);
    }
}

/* Rows that the next block will load: fetched into cache while this one computes. */
typedef struct {
    const char *base;        /* NULL: nothing */
    ptrdiff_t stride, bytes; /* of a row */
    ptrdiff_t first, n;
} sklmm_ahead;

SKLMM_INLINE sklmm_ahead rows_ahead(const sklmm_source *s, ptrdiff_t first, ptrdiff_t n)
{
    sklmm_ahead a = {NULL, s->row * 8, s->p * 8, first, 0};
    if (s->col == 1 && s->row >= 1 && !s->is_float32 && first < s->n) {
        a.base = (const char *)s->data;
        a.n = n < s->n - first ? n : s->n - first;
    }
    return a;
}

/* --- products ----------------------------------------------------------------------------------------------- */

/* out[r] = T[r, :] . beta, beta zero behind the fixed effects. */
SKLMM_CLONES void rows_dot(double *out, const double *T, ptrdiff_t ld, const double *beta, ptrdiff_t n)
{
    if (ld == 16) {
        const v8d b0 = v8_load(beta), b1 = v8_load(beta + 8);
        for (ptrdiff_t r = 0; r < n; r++) out[r] = v8_sum(v8_load(T + r * 16) * b0 + v8_load(T + r * 16 + 8) * b1);
        return;
    }
    for (ptrdiff_t r = 0; r < n; r++) {
        v8d a = v8_load(T + r * ld) * v8_load(beta);
        for (ptrdiff_t c = 8; c < ld; c += 8) a += v8_load(T + r * ld + c) * v8_load(beta + c);
        out[r] = v8_sum(a);
    }
}

/* F[a, c0:c0+8 nc] += sum_r w[r] L[r, a] R[r, ...] for na <= 8 rows of F, nc <= 2 vectors, and G[c0:...] += sum_r g[r] R[r, ...];
 * accumulators in registers. L is read at L[r * row + a * col]; w, g and `ahead` may be NULL. */
SKLMM_INLINE void tile_update(double *F, ptrdiff_t ldf, const double *L, ptrdiff_t row, ptrdiff_t col,
                              const double *R, ptrdiff_t ldr, const double *w, const double *g, double *G, ptrdiff_t n,
                              const sklmm_ahead *ahead, ptrdiff_t offset, const int na, const int nc)
{
    v8d acc[8][2], sum[2];
#pragma GCC unroll 2
    for (int c = 0; c < nc; c++) {
        sum[c] = g ? v8_load(G + 8 * c) : v8_set(0.0);
#pragma GCC unroll 8
        for (int a = 0; a < na; a++) acc[a][c] = v8_load(F + a * ldf + 8 * c);
    }
    for (ptrdiff_t r = 0; r < n; r++) {
        v8d x[2];
        if (ahead && r < ahead->n) {
            const char *next = ahead->base + (ahead->first + r) * ahead->stride + offset;
            __builtin_prefetch(next);
            __builtin_prefetch(next + 64);
        }
#pragma GCC unroll 2
        for (int c = 0; c < nc; c++) {
            x[c] = v8_load(R + r * ldr + 8 * c);
            if (g) sum[c] += g[r] * x[c];
            if (w) x[c] *= w[r];
        }
#pragma GCC unroll 8
        for (int a = 0; a < na; a++) {
            const double l = L[r * row + a * col];
#pragma GCC unroll 2
            for (int c = 0; c < nc; c++) acc[a][c] += l * x[c];
        }
    }
#pragma GCC unroll 2
    for (int c = 0; c < nc; c++) {
        if (g) v8_store(G + 8 * c, sum[c]);
#pragma GCC unroll 8
        for (int a = 0; a < na; a++) v8_store(F + a * ldf + 8 * c, acc[a][c]);
    }
}

SKLMM_INLINE void tile_update_any(double *F, ptrdiff_t ldf, const double *L, ptrdiff_t row, ptrdiff_t col,
                                  const double *R, ptrdiff_t ldr, const double *w, const double *g, double *G,
                                  ptrdiff_t n, const sklmm_ahead *ahead, ptrdiff_t offset, int na, int nc)
{
#define SKLMM_CASE(A)                                                                                                \
    case A:                                                                                                          \
        if (nc == 2) tile_update(F, ldf, L, row, col, R, ldr, w, g, G, n, ahead, offset, A, 2);                      \
        else tile_update(F, ldf, L, row, col, R, ldr, w, g, G, n, ahead, offset, A, 1);                              \
        break;
    switch (na) {
        SKLMM_CASE(1)
        SKLMM_CASE(2)
        SKLMM_CASE(3)
        SKLMM_CASE(4)
        SKLMM_CASE(5)
        SKLMM_CASE(6)
        SKLMM_CASE(7)
        SKLMM_CASE(8)
    }
#undef SKLMM_CASE
}

/* F (na x ld) += L' R over n rows. */
SKLMM_CLONES void rows_update(double *F, ptrdiff_t ld, const double *L, ptrdiff_t row, ptrdiff_t col, ptrdiff_t na,
                              const double *R, ptrdiff_t n)
{
    for (ptrdiff_t a = 0; a < na; a += 8) {
        const int ka = na - a < 8 ? (int)(na - a) : 8;
        for (ptrdiff_t c = 0; c < ld; c += 16)
            tile_update_any(F + a * ld + c, ld, L + a * col, row, col, R + c, ld, NULL, NULL, NULL, n, NULL, 0, ka,
                            ld - c < 16 ? 1 : 2);
    }
}

/* S += R' diag(w) R, the 8-column blocks on and right of the diagonal. */
SKLMM_CLONES void rows_square(double *S, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w, ptrdiff_t n)
{
    for (ptrdiff_t a = 0; a < na; a += 8) {
        const int ka = na - a < 8 ? (int)(na - a) : 8;
        for (ptrdiff_t c = a; c < ld; c += 16)
            tile_update_any(S + a * ld + c, ld, R + a, ld, 1, R + c, ld, w, NULL, NULL, n, NULL, 0, ka, ld - c < 16 ? 1 : 2);
    }
}

/* As rows_square, with G += R' g, fetching `ahead` meanwhile. */
SKLMM_CLONES void rows_second_order(double *S, double *G, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w,
                                    const double *g, ptrdiff_t n, const sklmm_ahead *ahead)
{
    for (ptrdiff_t a = 0; a < na; a += 8) {
        const int ka = na - a < 8 ? (int)(na - a) : 8;
        for (ptrdiff_t c = a; c < ld; c += 16) {
            const int kc = ld - c < 16 ? 1 : 2;
            double *F = S + a * ld + c;
            if (a) tile_update_any(F, ld, R + a, ld, 1, R + c, ld, w, NULL, NULL, n, NULL, 0, ka, kc);
            else if (ahead->base && c * 8 < ahead->bytes)
                tile_update_any(F, ld, R, ld, 1, R + c, ld, w, g, G + c, n, ahead, c * 8, ka, kc);
            else tile_update_any(F, ld, R, ld, 1, R + c, ld, w, g, G + c, n, NULL, 0, ka, kc);
        }
    }
}

/* For each cluster i of nc: S[i] (nw x ld) = sum over its rows of W[r * row + a * col] R[r, :]. */
SKLMM_CLONES void rows_cluster_sums(double *S, ptrdiff_t ld, ptrdiff_t nc, const int64_t *start, const double *W,
                                    ptrdiff_t row, ptrdiff_t col, ptrdiff_t nw, const double *R)
{
    for (ptrdiff_t k = 0; k < nc * nw * ld; k += 8) v8_store(S + k, v8_set(0.0));
    for (ptrdiff_t i = 0; i < nc; i++) {
        const ptrdiff_t s = start[i], n = start[i + 1] - s;
        for (ptrdiff_t a = 0; a < nw; a += 8) {
            const int ka = nw - a < 8 ? (int)(nw - a) : 8;
            for (ptrdiff_t c = 0; c < ld; c += 16)
                tile_update_any(S + (i * nw + a) * ld + c, ld, W + s * row + a * col, row, col, R + s * ld + c, ld, NULL,
                                NULL, NULL, n, NULL, 0, ka, ld - c < 16 ? 1 : 2);
        }
    }
}

/* --- elementwise -------------------------------------------------------------------------------------------- */

/* out = exp(x), x within +-limit. Returns whether some x is beyond. */
SKLMM_CLONES int rows_exp(double *out, const double *x, double limit, ptrdiff_t n)
{
    const v8d hi = v8_set(limit), lo = -hi;
    v8d largest = v8_set(0.0);
    for (ptrdiff_t r = 0; r < n; r += 8) {
        const v8d a = v8_load(x + r);
        largest = v8_max(largest, v8_keep(v8_first(n - r), v8_max(a, -a)));
        v8_store(out + r, v8_exp(v8_min(v8_max(a, lo), hi)));
    }
    return v8_largest(largest) > limit;
}

#endif
