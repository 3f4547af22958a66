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
            for (ptrdiff_t c = 0; c < (p + 7) / 8 * 8; c += 4) {
                const v4d v = (v4_load(x + c) - v4_load(s->center + c)) * v4_load(s->inv_scale + c);
                v4_store(t + c, v4_keep_first(p - c, v));
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
    for (ptrdiff_t r = 0; r < n; r++) {
        v4d lo = v4_load(T + r * ld) * v4_load(beta), hi = v4_load(T + r * ld + 4) * v4_load(beta + 4);
        for (ptrdiff_t c = 8; c < ld; c += 8) {
            lo += v4_load(T + r * ld + c) * v4_load(beta + c);
            hi += v4_load(T + r * ld + c + 4) * v4_load(beta + c + 4);
        }
        lo += hi;
        out[r] = (lo[0] + lo[2]) + (lo[1] + lo[3]);
    }
}

/* F[a, c] += sum_r w[r] L[r, a] R[r, c] and G[c] += sum_r g[r] R[r, c] for a tile of F. L is read at L[r * row + a * col]; w and
 * (g, G) may be NULL, and ahead->base, too. */
typedef struct {
    double *F, *G;
    const double *L, *R, *w, *g;
    ptrdiff_t ldf, ldr, row, col, n;
    const sklmm_ahead *ahead; /* or NULL */
    ptrdiff_t offset;         /* of the columns in the rows that are fetched ahead, in bytes */
} sklmm_update;

/* The loop over rows for a tile of NA rows and NC vectors of LANES, with its sums in registers. */
#define SKLMM_TILE(VECTOR, LOAD, STORE, LANES, NA, NC)                                                               \
    do {                                                                                                             \
        VECTOR acc[NA][NC], sum[NC];                                                                                 \
        for (int c = 0; c < NC; c++) {                                                                               \
            if (has_g) sum[c] = LOAD(G + LANES * c);                                                                 \
            for (int a = 0; a < NA; a++) acc[a][c] = LOAD(F + a * u->ldf + LANES * c);                               \
        }                                                                                                            \
        for (ptrdiff_t r = 0; r < u->n; r++) {                                                                       \
            VECTOR x[NC];                                                                                            \
            if (fetch && r < fetch->n) {                                                                             \
                const char *next = fetch->base + (fetch->first + r) * fetch->stride + u->offset;                     \
                __builtin_prefetch(next);                                                                            \
                __builtin_prefetch(next + 64);                                                                       \
            }                                                                                                        \
            for (int c = 0; c < NC; c++) {                                                                           \
                x[c] = LOAD(R + r * u->ldr + LANES * c);                                                             \
                if (has_g) sum[c] += u->g[r] * x[c];                                                                 \
                if (has_w) x[c] *= u->w[r];                                                                          \
            }                                                                                                        \
            for (int a = 0; a < NA; a++) {                                                                           \
                const double l = L[r * u->row + a * u->col];                                                         \
                for (int c = 0; c < NC; c++) acc[a][c] += l * x[c];                                                  \
            }                                                                                                        \
        }                                                                                                            \
        for (int c = 0; c < NC; c++) {                                                                               \
            if (has_g) STORE(G + LANES * c, sum[c]);                                                                 \
            for (int a = 0; a < NA; a++) STORE(F + a * u->ldf + LANES * c, acc[a][c]);                               \
        }                                                                                                            \
    } while (0)

SKLMM_INLINE void tile_wide(const sklmm_update *u, double *F, double *G, const double *L, const double *R,
                            const sklmm_ahead *fetch, int na, int nc, const int has_w, const int has_g)
{
#define SKLMM_CASE(A)                                                                                                \
    case A:                                                                                                          \
        if (nc == 2) SKLMM_TILE(v8d, v8_load, v8_store, 8, A, 2);                                                    \
        else SKLMM_TILE(v8d, v8_load, v8_store, 8, A, 1);                                                            \
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

SKLMM_INLINE void tile_narrow(const sklmm_update *u, double *F, double *G, const double *L, const double *R,
                              const sklmm_ahead *fetch, int na, const int has_w, const int has_g)
{
    switch (na) {
    case 1: SKLMM_TILE(v4d, v4_load, v4_store, 4, 1, 2); break;
    case 2: SKLMM_TILE(v4d, v4_load, v4_store, 4, 2, 2); break;
    case 3: SKLMM_TILE(v4d, v4_load, v4_store, 4, 3, 2); break;
    default: SKLMM_TILE(v4d, v4_load, v4_store, 4, 4, 2);
    }
}

#define SKLMM_BY_KIND(TILE, ...)                                                                                     \
    do {                                                                                                             \
        if (u->g && !a) TILE(__VA_ARGS__, 1, 1);                                                                     \
        else if (u->w) TILE(__VA_ARGS__, 1, 0);                                                                      \
        else TILE(__VA_ARGS__, 0, 0);                                                                                \
    } while (0)

/* F (na x nc), nc a multiple of 8, in tiles of 8 rows and 16 columns. */
SKLMM_WIDE void update_wide(const sklmm_update *u, ptrdiff_t na, ptrdiff_t nc)
{
    for (ptrdiff_t a = 0; a < na; a += 8)
        for (ptrdiff_t c = 0; c < nc; c += 16)
            SKLMM_BY_KIND(tile_wide, u, u->F + a * u->ldf + c, u->G ? u->G + c : NULL, u->L + a * u->col, u->R + c,
                          a || c ? NULL : u->ahead, (int)(na - a < 8 ? na - a : 8), nc - c < 16 ? 1 : 2);
}

/* The same in tiles of 4 rows and 8 columns. Each entry's sum has the same terms in the same order. */
SKLMM_CLONES void update_narrow(const sklmm_update *u, ptrdiff_t na, ptrdiff_t nc)
{
    for (ptrdiff_t a = 0; a < na; a += 4)
        for (ptrdiff_t c = 0; c < nc; c += 8)
            SKLMM_BY_KIND(tile_narrow, u, u->F + a * u->ldf + c, u->G ? u->G + c : NULL, u->L + a * u->col, u->R + c,
                          a || c ? NULL : u->ahead, (int)(na - a < 4 ? na - a : 4));
}

SKLMM_INLINE void update(const sklmm_update *u, ptrdiff_t na, ptrdiff_t nc)
{
    if (SKLMM_HAS_WIDE) update_wide(u, na, nc);
    else update_narrow(u, na, nc);
}

/* F (na x ld) += L' R over n rows. */
SKLMM_INLINE void rows_update(double *F, ptrdiff_t ld, const double *L, ptrdiff_t row, ptrdiff_t col, ptrdiff_t na,
                              const double *R, ptrdiff_t n)
{
    const sklmm_update u = {F, NULL, L, R, NULL, NULL, ld, ld, row, col, n, NULL, 0};
    update(&u, na, ld);
}

/* S += R' diag(w) R, the 8-column blocks on and right of the diagonal; G += R' g; w and (g, G) may be NULL. Fetches `ahead`
 * meanwhile. */
SKLMM_INLINE void rows_second_order(double *S, double *G, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w,
                                    const double *g, ptrdiff_t n, const sklmm_ahead *ahead)
{
    for (ptrdiff_t a = 0; a < na; a += 8) {
        const ptrdiff_t ka = na - a < 8 ? na - a : 8;
        for (ptrdiff_t c = a; c < ld; c += 16) {
            const int fetches = !a && ahead && ahead->base && c * 8 < ahead->bytes;
            const sklmm_update u = {S + a * ld + c, a || !g ? NULL : G + c, R + a, R + c, w, a ? NULL : g, ld, ld, ld, 1, n,
                                    fetches ? ahead : NULL, c * 8};
            update(&u, ka, ld - c < 16 ? 8 : 16);
        }
    }
}

SKLMM_INLINE void rows_square(double *S, ptrdiff_t ld, ptrdiff_t na, const double *R, const double *w, ptrdiff_t n)
{
    rows_second_order(S, NULL, ld, na, R, w, NULL, n, NULL);
}

/* For each cluster i of nc: S[i] (nw x ld) = sum over its rows of W[r * row + a * col] R[r, :]. */
SKLMM_INLINE void rows_cluster_sums(double *S, ptrdiff_t ld, ptrdiff_t nc, const int64_t *start, const double *W,
                                    ptrdiff_t row, ptrdiff_t col, ptrdiff_t nw, const double *R)
{
    __builtin_memset(S, 0, nc * nw * ld * sizeof(double));
    for (ptrdiff_t i = 0; i < nc; i++) {
        const ptrdiff_t s = start[i];
        const sklmm_update u = {S + i * nw * ld, NULL, W + s * row, R + s * ld, NULL, NULL, ld, ld, row, col,
                                start[i + 1] - s, NULL, 0};
        update(&u, nw, ld);
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
