/* Responses of rows in arrays: nothing is read or written past the last row. */
#ifndef SKLMM_RESPONSES_H
#define SKLMM_RESPONSES_H

#include "_response.h"

SKLMM_INLINE v8d some(const double *from, ptrdiff_t k)
{
    double x[8] = {0};
    for (ptrdiff_t i = 0; i < k; i++) x[i] = from[i];
    return v8_load(x);
}

SKLMM_INLINE v8d outcomes(const uint8_t *y, ptrdiff_t k)
{
    double x[8] = {0};
    for (ptrdiff_t i = 0; i < k; i++) x[i] = y[i] ? 1.0 : 0.0;
    return v8_load(x);
}

SKLMM_INLINE void put(double *to, ptrdiff_t k, v8d value)
{
    double x[8];
    v8_store(x, value);
    for (ptrdiff_t i = 0; i < k; i++) to[i] = x[i];
}

SKLMM_INLINE void responses_of(const int family, ptrdiff_t n, const double *eta, const uint8_t *y, double *l, double *r, double *v,
                               double *v1, double *v2)
{
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        const sklmm_response at = respond(family, some(eta + j, k), v8_set(1.0), outcomes(y + j, k), 4, 1);
        put(l + j, k, at.l);
        put(r + j, k, at.r);
        put(v + j, k, at.v);
        put(v1 + j, k, at.v1);
        put(v2 + j, k, at.v2);
    }
}

SKLMM_CLONES void responses(int family, ptrdiff_t n, const double *eta, const uint8_t *y, double *l, double *r, double *v,
                            double *v1, double *v2)
{
    SKLMM_BY_FAMILY(family, responses_of, n, eta, y, l, r, v, v1, v2);
}

SKLMM_INLINE void sides_of(const int family, ptrdiff_t n, const double *eta, double *mu, double *rest)
{
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        v8d up, down;
        probabilities(family, some(eta + j, k), &up, &down);
        put(mu + j, k, up);
        put(rest + j, k, down);
    }
}

SKLMM_CLONES void sides(int family, ptrdiff_t n, const double *eta, double *mu, double *rest)
{
    SKLMM_BY_FAMILY(family, sides_of, n, eta, mu, rest);
}

SKLMM_INLINE void averaged_of(const int family, ptrdiff_t n, const double *m, const double *s, const uint8_t *y, ptrdiff_t nodes,
                              const double *z, const double *w, double *r, double *v)
{
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        const v8d mean = some(m + j, k), sd = some(s + j, k), success = outcomes(y + j, k);
        v8d first = v8_set(0.0), second = first;
        for (ptrdiff_t i = 0; i < nodes; i++) {
            const sklmm_response at = respond(family, mean + sd * z[i], v8_set(w[i]), w[i] * success, 2, 0);
            first += at.r;
            second += at.v;
        }
        put(r + j, k, first);
        put(v + j, k, second);
    }
}

/* Sums over the nodes of w_i l' and -w_i l'' at m + s z_i. */
SKLMM_CLONES void averaged_responses(int family, ptrdiff_t n, const double *m, const double *s, const uint8_t *y, ptrdiff_t k,
                                     const double *z, const double *w, double *r, double *v)
{
    SKLMM_BY_FAMILY(family, averaged_of, n, m, s, y, k, z, w, r, v);
}

#endif
