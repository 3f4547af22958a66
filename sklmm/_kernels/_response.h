/* The response: the log density of a row's outcome at its linear predictor, and the derivatives of it.
 *
 * The formulas of every model need no more of a family than what stands here. A new one joins `probabilities`, `respond` and
 * SKLMM_BY_FAMILY. With y the outcome, w its weight, l = w log p(y | eta):
 *     r = l', v = -l'' (the observed one), v1 = v' = -l''', v2 = v'' = -l''''.
 * v must be positive: conditional modes are then unique. No derivative loses digits where eta is far out, up to what exp can hold.
 *
 * _intercept.h (with its quadrature and _nested.h) knows the logit alone, and says what it gains by it; _gee.h, _posterior.h and
 * _expectations.h have a way of their own for it.
 */
#ifndef SKLMM_RESPONSE_H
#define SKLMM_RESPONSE_H

#include "_cloglog.h"
#include "_probit.h"
#include "_vecmath.h"

#define SKLMM_LOGIT 0
#define SKLMM_PROBIT 1
#define SKLMM_CLOGLOG 2

/* FUNCTION(family, ...) with the family a constant, so that each has loops of its own. */
#define SKLMM_BY_FAMILY(FAMILY, FUNCTION, ...)                                                                       \
    ((FAMILY) == SKLMM_PROBIT    ? FUNCTION(SKLMM_PROBIT, __VA_ARGS__)                                               \
     : (FAMILY) == SKLMM_CLOGLOG ? FUNCTION(SKLMM_CLOGLOG, __VA_ARGS__)                                              \
                                 : FUNCTION(SKLMM_LOGIT, __VA_ARGS__))

typedef struct {
    v8d l, r, v, v1, v2;
} sklmm_response;

/* mu = P(y = 1) and `rest` = 1 - mu, without overflow or cancellation. Returns the larger one. */
SKLMM_INLINE v8d probabilities(const int family, v8d eta, v8d *mu, v8d *rest)
{
    if (family == SKLMM_PROBIT) {
        const v8d tail = probit_at(eta).tail, large = 1.0 - tail;
        *mu = v8_select(eta > 0.0, large, tail);
        *rest = v8_select(eta > 0.0, tail, large);
        return large;
    }
    if (family == SKLMM_CLOGLOG) {
        const cloglog_parts c = cloglog_at(eta);
        *mu = c.mu;
        *rest = c.rest;
        return v8_max(c.mu, c.rest);
    }
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
    if (family == SKLMM_PROBIT) {
        probit_respond(eta, w, wy, order, density, &at.l, &at.r, &at.v, &at.v1, &at.v2);
        return at;
    }
    if (family == SKLMM_CLOGLOG) {
        cloglog_respond(eta, w, wy, order, density, &at.l, &at.r, &at.v, &at.v1, &at.v2);
        return at;
    }
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
