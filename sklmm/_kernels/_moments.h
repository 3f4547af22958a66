/* Sums over rows of columns and of their products with labels, in one pass over the rows. */
#ifndef SKLMM_MOMENTS_H
#define SKLMM_MOMENTS_H

#include "_vecmath.h"

/* add_products_of_*: squares[j] += l_0 z_j z_j and products[f, j] += l_f z_j, z = x - center, over n rows; row i begins
 * at x + i * stride and has p columns next to each other, label f of row i is labels[f * ld + i].
 *
 * *_part does so for `width` columns, at most 4, and k labels, a constant of at most 4, with its sums in registers;
 * squares may be NULL. */
#define SKLMM_ADD_PRODUCTS(NAME, NUMBER)                                                                               \
    SKLMM_INLINE void NAME##_part(const NUMBER *x, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t width,                     \
                                  const double *center, const double *labels, ptrdiff_t ld, const int k,               \
                                  double *squares, double *products, ptrdiff_t p)                                      \
    {                                                                                                                  \
        v4d middle = {0.0, 0.0, 0.0, 0.0}, square = middle, sum[4] = {middle, middle, middle, middle};                 \
        for (ptrdiff_t j = 0; j < width; j++) middle[j] = center[j];                                                   \
        for (ptrdiff_t i = 0; i < n; i++, x += stride) {                                                               \
            v4d z;                                                                                                     \
            if (width == 4) z = (v4d){x[0], x[1], x[2], x[3]} - middle;                                                \
            else z = (v4d){x[0], width > 1 ? x[1] : 0.0, width > 2 ? x[2] : 0.0, 0.0} - middle;                        \
            if (squares) square += labels[i] * z * z;                                                                  \
            for (int f = 0; f < k; f++) sum[f] += labels[f * ld + i] * z;                                              \
        }                                                                                                              \
        for (ptrdiff_t j = 0; j < width; j++) {                                                                        \
            if (squares) squares[j] += square[j];                                                                      \
            for (int f = 0; f < k; f++) products[f * p + j] += sum[f][j];                                              \
        }                                                                                                              \
    }                                                                                                                  \
    SKLMM_CLONES void NAME(const NUMBER *restrict x, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t p,                       \
                           const double *restrict center, const double *restrict labels, ptrdiff_t ld, ptrdiff_t m,    \
                           double *restrict squares, double *restrict products)                                        \
    {                                                                                                                  \
        for (ptrdiff_t c = 0; c < p; c += 4)                                                                           \
            for (ptrdiff_t f = 0; f < m; f += 4) {                                                                     \
                const ptrdiff_t width = p - c < 4 ? p - c : 4;                                                         \
                double *S = f ? NULL : squares + c, *P = products + f * p + c;                                         \
                const double *l = labels + f * ld;                                                                     \
                if (m - f >= 4) NAME##_part(x + c, stride, n, width, center + c, l, ld, 4, S, P, p);                   \
                else if (m - f == 3) NAME##_part(x + c, stride, n, width, center + c, l, ld, 3, S, P, p);              \
                else if (m - f == 2) NAME##_part(x + c, stride, n, width, center + c, l, ld, 2, S, P, p);              \
                else NAME##_part(x + c, stride, n, width, center + c, l, ld, 1, S, P, p);                              \
            }                                                                                                          \
    }

SKLMM_ADD_PRODUCTS(add_products_of_doubles, double)
SKLMM_ADD_PRODUCTS(add_products_of_floats, float)

#endif
