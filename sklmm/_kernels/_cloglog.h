/* The complementary log-log's response: mu = 1 - exp(-E), E = exp(eta), so that exp(beta) is a ratio of hazards.
 *
 * Of the outcome 0, l = -E is all. Of the outcome 1 all follows from g = E / (exp(E) - 1) and a = g + E - 1, whose derivatives in eta are
 * -g a and E - g a:
 *     l = log(1 - exp(-E)), r = g, v = g a, v1 = g (E - v - a^2).
 * For E < 1, g = 1 - E / 2 + h and a = E / 2 + h, h = E coth(E / 2) / 2 - 1 by its series in E^2 (Bernoulli numbers).
 */
#ifndef SKLMM_CLOGLOG_H
#define SKLMM_CLOGLOG_H

#include "_vecmath.h"

/* B_2k / (2k)!, k = 1, ... */
static const double cloglog_series[12] = {
    8.33333333333333333e-02, -1.38888888888888889e-03, 3.30687830687830688e-05, -8.26719576719576720e-07,
    2.08767569878680990e-08, -5.28419013868749318e-10, 1.33825365306846788e-11, -3.38968029632258287e-13,
    8.58606205627784456e-15, -2.17486869855806187e-16, 5.50900282836022952e-18, -1.39544646858125233e-19,
};

#define SKLMM_LARGEST_HAZARD 300.0 /* of eta: squares of E are still numbers */

typedef struct {
    v8d E, rest;  /* exp(eta), exp(-E) = 1 - mu */
    v8d g, a, mu;
} cloglog_parts;

SKLMM_INLINE cloglog_parts cloglog_at(v8d eta)
{
    cloglog_parts c;
    c.E = v8_exp(v8_min(eta, v8_set(SKLMM_LARGEST_HAZARD)));
    const v8d near = v8_min(c.E, v8_set(1.0)), far = v8_min(c.E, v8_set(708.0));
    const v8l small = c.E < 1.0;
    const v8d h = near * near * v8_polynomial(cloglog_series, 12, near * near);
    c.rest = v8_exp(-far);
    const v8d odds = c.rest / (1.0 - v8_select(small, v8_set(0.0), c.rest));
    c.g = v8_select(small, 1.0 - 0.5 * near + h, far * odds);
    c.a = v8_select(small, 0.5 * near + h, c.g + (far - 1.0));
    c.mu = v8_select(small, c.rest * near / c.g, 1.0 - c.rest);
    return c;
}

/* As `respond` says. An outcome is 0 or 1, so that wy is 0 or w. */
SKLMM_INLINE void cloglog_respond(v8d eta, v8d w, v8d wy, const int order, int density, v8d *l, v8d *r, v8d *v, v8d *v1, v8d *v2)
{
    const cloglog_parts c = cloglog_at(eta);
    const v8l success = wy > 0.0;
    const v8d E = v8_min(c.E, v8_set(708.0)), wE = w * c.E, wg = w * c.g; /* E of successes: beyond all is certain */
    if (density) {
        /* log(1 - exp(-E)) = eta - E - log g where E is small */
        const v8l small = c.E < 1.0;
        const v8d log_of = v8_log(v8_select(small, c.g, 1.0 - c.rest));
        *l = v8_select(success, w * v8_select(small, eta - E - log_of, log_of), -wE);
    }
    *r = v8_select(success, wg, -wE);
    if (order < 2) return;
    const v8d bent = c.g * c.a;
    *v = v8_select(success, wg * c.a, wE);
    if (order < 3) return;
    const v8d left = E - bent, turn = left - c.a * c.a;
    *v1 = v8_select(success, wg * turn, wE);
    if (order < 4) return;
    *v2 = v8_select(success, wg * (E - c.g * turn - 2.0 * c.a * left - c.a * turn), wE);
}

#endif
