/* The response: the log density of a row's outcome at its linear predictor, and the derivatives of it.
 *
 * The formulas of every model need no more of a family than what stands here. A new one joins `probabilities`, `respond` and
 * SKLMM_BY_FAMILY. With y the outcome, w its weight, l = w log p(y | eta):
 *     r = l', v = -l'' (the observed one), v1 = v' = -l''', v2 = v'' = -l''''.
 * v must be positive: conditional modes are then unique.
 *
 * _intercept.h (with its quadrature and _nested.h), _gee.h, _posterior.h and _expectations.h know the logit, and say what they
 * gain by it.
 */
#ifndef SKLMM_RESPONSE_H
#define SKLMM_RESPONSE_H

#include "_vecmath.h"

#define SKLMM_LOGIT 0

/* FUNCTION(family, ...) with the family a constant, so that each has loops of its own. */
#define SKLMM_BY_FAMILY(FAMILY, FUNCTION, ...) ((void)(FAMILY), FUNCTION(SKLMM_LOGIT, __VA_ARGS__))

typedef struct {
    v8d l, r, v, v1, v2;
} sklmm_response;

/* mu = P(y = 1) and `rest` = 1 - mu, without overflow or cancellation. Returns the larger one. */
SKLMM_INLINE v8d probabilities(const int family, v8d eta, v8d *mu, v8d *rest)
{
    (void)family;
    const v8d e = v8_exp(-v8_max(eta, -eta)), inv = 1.0 / (1.0 + e);
    const v8l positive = eta > 0.0;
    *mu = v8_select(positive, inv, e * inv);
    *rest = v8_select(positive, e * inv, inv);
    return inv;
}

/* The logit's wy log mu + (w - wy) log(1 - mu), `larger` being max(mu, 1 - mu): without wy eta - w log(1 + exp(eta)), whose
 * rounding error is that of w eta. */
SKLMM_INLINE v8d logit_log_density(v8d eta, v8d w, v8d wy, v8d larger)
{
    const v8d zero = v8_set(0.0);
    return wy * v8_min(eta, zero) - (w - wy) * v8_max(eta, zero) + w * v8_log(larger);
}

/* l if `density`, and the derivatives up to `order`, both constants best; what is not asked for is 0. */
SKLMM_INLINE sklmm_response respond(const int family, v8d eta, v8d w, v8d wy, const int order, int density)
{
    const v8d zero = v8_set(0.0);
    sklmm_response at = {zero, zero, zero, zero, zero};
    v8d mu, rest;
    const v8d larger = probabilities(family, eta, &mu, &rest);
    if (density) at.l = logit_log_density(eta, w, wy, larger);
    at.r = wy * rest - (w - wy) * mu; /* not wy - w mu, which cancels where mu is near 1 */
    if (order >= 2) at.v = w * mu * rest;
    if (order >= 3) at.v1 = at.v * (rest - mu);
    if (order >= 4) at.v2 = at.v * (1.0 - 6.0 * mu * rest);
    return at;
}

#endif
