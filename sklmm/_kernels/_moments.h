/* Sums over rows of columns and of their products with labels, in one pass over the rows. */
#ifndef SKLMM_MOMENTS_H
#define SKLMM_MOMENTS_H

#include "_vecmath.h"

/* squares[j] += l_0 z_j z_j and products[f, j] += l_f z_j, z = x - center, over n rows; row i begins at x + i * stride and has p
 * columns next to each other, label f of row i is labels[f * ld + i]. Four rows at a time: sums are loaded and stored once for them. */
#define SKLMM_ADD_PRODUCTS(NAME, NUMBER)                                                                              \
    SKLMM_CLONES void NAME(const NUMBER *restrict x, ptrdiff_t stride, ptrdiff_t n, ptrdiff_t p,                       \
                           const double *restrict center, const double *restrict labels, ptrdiff_t ld, ptrdiff_t m,   \
                           double *restrict squares, double *restrict products)                                       \
    {                                                                                                                 \
        ptrdiff_t i = 0;                                                                                              \
        for (; i + 4 <= n; i += 4) {                                                                                  \
            const NUMBER *x0 = x + i * stride, *x1 = x0 + stride, *x2 = x1 + stride, *x3 = x2 + stride;               \
            const double *w = labels + i;                                                                             \
            for (ptrdiff_t j = 0; j < p; j++) {                                                                       \
                const double c = center[j], z0 = x0[j] - c, z1 = x1[j] - c, z2 = x2[j] - c, z3 = x3[j] - c;           \
                squares[j] += w[0] * z0 * z0 + w[1] * z1 * z1 + w[2] * z2 * z2 + w[3] * z3 * z3;                      \
            }                                                                                                         \
            for (ptrdiff_t f = 0; f < m; f++, w += ld)                                                                \
                for (ptrdiff_t j = 0; j < p; j++) {                                                                   \
                    const double c = center[j];                                                                       \
                    products[f * p + j] += w[0] * (x0[j] - c) + w[1] * (x1[j] - c) + w[2] * (x2[j] - c) +             \
                                           w[3] * (x3[j] - c);                                                        \
                }                                                                                                     \
        }                                                                                                             \
        for (; i < n; i++)                                                                                            \
            for (ptrdiff_t j = 0; j < p; j++) {                                                                       \
                const double z = x[i * stride + j] - center[j];                                                       \
                squares[j] += labels[i] * z * z;                                                                  \
                for (ptrdiff_t f = 0; f < m; f++) products[f * p + j] += labels[f * ld + i] * z;                      \
            }                                                                                                         \
    }

SKLMM_ADD_PRODUCTS(add_products_of_doubles, double)
SKLMM_ADD_PRODUCTS(add_products_of_floats, float)

#endif
