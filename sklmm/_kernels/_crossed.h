/* Several grouping factors: the response at every row, eight rows at a time. */
#ifndef SKLMM_CROSSED_H
#define SKLMM_CROSSED_H

#include "_response.h"

SKLMM_INLINE void crossed_response_of(const int family, double *r, double *v, double *v1, const double *eta, const double *w,
                                      const uint8_t *y, ptrdiff_t n, double *values)
{
    v8d value = v8_set(0.0), bent = value, moved = value;
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        double x[8] = {0}, weight[8] = {0}, success[8] = {0}, change[8] = {0};
        for (ptrdiff_t i = 0; i < k; i++) {
            x[i] = eta[j + i];
            weight[i] = w ? w[j + i] : 1.0;
            success[i] = y[j + i] ? weight[i] : 0.0;
            change[i] = v1[j + i];
        }
        const v8d at = v8_load(x), wt = v8_load(weight), wy = v8_load(success), by = v8_load(change);
        const sklmm_response here = respond(family, at, wt, wy, 3, 1);
        value += here.l;
        bent += here.v * by * by;
        moved = v8_max(moved, v8_max(by, -by));
        v8_store(x, here.r);
        v8_store(weight, here.v);
        v8_store(change, here.v1);
        for (ptrdiff_t i = 0; i < k; i++) {
            r[j + i] = x[i];
            v[j + i] = weight[i];
            v1[j + i] = change[i];
        }
    }
    values[0] = v8_sum(value);
    values[1] = v8_sum(bent);
    values[2] = v8_largest(moved);
}

/* r, v and v1 from linear predictors, counts w and responses y (0 or 1). On entry v1 holds changes of the linear predictors.
 * `values` receives the log-likelihood, the sum of v change^2, and the largest abs(change). w may be NULL (all ones); nothing is
 * read or written past n. */
SKLMM_CLONES void crossed_response(int family, double *r, double *v, double *v1, const double *eta, const double *w,
                                   const uint8_t *y, ptrdiff_t n, double *values)
{
    SKLMM_BY_FAMILY(family, crossed_response_of, r, v, v1, eta, w, y, n, values);
}

#endif
