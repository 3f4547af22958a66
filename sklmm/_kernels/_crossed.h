/* Several grouping factors: the link at every row, eight rows at a time. */
#ifndef SKLMM_CROSSED_H
#define SKLMM_CROSSED_H

#include "_vecmath.h"

/* From linear predictors, counts w and responses y (0 or 1): r = w (y - mu), v = w mu (1 - mu), d = v (1 - 2 mu). On entry d
 * holds changes of the linear predictors. `values` receives the log-likelihood, the sum of v change^2, and the largest
 * abs(change). w may be NULL (all ones); nothing is read or written past n. */
SKLMM_CLONES void crossed_link(double *r, double *v, double *d, const double *eta, const double *w, const uint8_t *y,
                               ptrdiff_t n, double *values)
{
    v8d value = v8_set(0.0), bent = value, moved = value;
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        double x[8] = {0}, weight[8] = {0}, hit[8] = {0}, change[8] = {0};
        for (ptrdiff_t i = 0; i < k; i++) {
            x[i] = eta[j + i];
            weight[i] = w ? w[j + i] : 1.0;
            hit[i] = y[j + i] ? 1.0 : 0.0;
            change[i] = d[j + i];
        }
        const v8d t = v8_load(x), wt = v8_load(weight), yt = v8_load(hit);
        const v8d e = v8_exp(-v8_max(t, -t)), inv = 1.0 / (1.0 + e);
        const v8l positive = t > 0.0;
        const v8d mu = v8_select(positive, inv, e * inv), rest = v8_select(positive, e * inv, inv);
        value += v8_log_likelihood(t, wt, wt * yt, inv);
        const v8d vt = wt * mu * rest, by = v8_load(change);
        bent += vt * by * by;
        moved = v8_max(moved, v8_max(by, -by));
        /* y - mu without cancellation: 1 - mu where y = 1, -mu where y = 0 */
        v8_store(x, wt * v8_select(yt > 0.5, rest, -mu));
        v8_store(weight, vt);
        v8_store(hit, vt * (rest - mu));
        for (ptrdiff_t i = 0; i < k; i++) {
            r[j + i] = x[i];
            v[j + i] = weight[i];
            d[j + i] = hit[i];
        }
    }
    values[0] = v8_sum(value);
    values[1] = v8_sum(bent);
    values[2] = v8_largest(moved);
}

#endif
