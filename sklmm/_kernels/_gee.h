/* Generalized estimating equations: rows whitened by the working correlation.
 *
 * A tile row is [x standardised (p) | 1 if intercept | e | 0 ...]: the covariates with the Pearson residual beside them. Scaled by
 * s = sqrt(w) mu' / sqrt(mu (1 - mu)) and multiplied by the inverse root of their cluster's working correlation, the rows X* of all
 * clusters give the sensitivity X*'X* and, in the column of the residuals, the estimating function X*'e*: one rank update has both.
 *
 * gee_rows knows the logit, and gains by it: s and the residual are powers of exp(eta / 2). gee_rows_of_link serves the others,
 * and measured outcomes, of the identity link and the variance function 1.
 */
#ifndef SKLMM_GEE_H
#define SKLMM_GEE_H

#include "_response.h"
#include "_rows.h"
#include <math.h>

#define SKLMM_GAUSSIAN 3 /* a family beside those of _response.h, which have two classes */
#define SKLMM_HALF_ETA 100.0 /* |eta| / 2 at most: a Pearson residual is exp of it, its powers must not overflow */

/* From half = eta / 2 and h = exp(half), half within +-SKLMM_HALF_ETA: s = sqrt(w) sqrt(mu (1 - mu)) = sqrt(w) h / (1 + h^2) and
 * the residual e = sqrt(w) (y - mu) / sqrt(mu (1 - mu)) = sqrt(w) / h or -sqrt(w) h. root_w may be NULL. Returns sum w log p(y | eta); adds sum
 * log p(y | eta) to `plain`, which may be NULL. */
SKLMM_CLONES double gee_rows(const double *half, const double *h, const double *y, const double *root_w, double *s, double *e,
                             double *plain, ptrdiff_t n)
{
    v8d value = v8_set(0.0), unweighted = v8_set(0.0);
    for (ptrdiff_t r = 0; r < n; r += 8) {
        const v8l here = v8_first(n - r);
        const v8d a = v8_load(h + r), hit = v8_load(y + r), q = root_w ? v8_load(root_w + r) : v8_set(1.0);
        const v8d square = a * a, rest = 1.0 / (1.0 + square), inverse = 1.0 / a;
        const v8d log_p = logit_log_density(2.0 * v8_load(half + r), v8_set(1.0), hit, v8_max(rest, square * rest));
        unweighted += v8_keep(here, log_p);
        value += v8_keep(here, q * q * log_p);
        v8_store(s + r, q * a * rest);
        v8_store(e + r, q * (hit * inverse - (1.0 - hit) * a));
    }
    if (plain) *plain += v8_sum(unweighted);
    return v8_sum(value);
}

/* The same of other links, from half = eta / 2: s = sqrt(w) mu' / sqrt(mu (1 - mu)) and e = sqrt(w) (y - mu) / sqrt(mu (1 - mu)), with eta
 * where the odds are within about exp(+-2 SKLMM_HALF_ETA). */
SKLMM_INLINE double gee_rows_of_family(const int family, const double *half, const double *y, const double *root_w, double *s,
                                       double *e, double *plain, ptrdiff_t n)
{
    const double low = family == SKLMM_PROBIT ? -20.0 : -200.0, high = family == SKLMM_PROBIT ? 20.0 : 5.298; /* log 200 */
    v8d value = v8_set(0.0), unweighted = v8_set(0.0);
    for (ptrdiff_t r = 0; r < n; r += 8) {
        const v8l here = v8_first(n - r);
        const v8d eta = 2.0 * v8_load(half + r), hit = v8_load(y + r), q = root_w ? v8_load(root_w + r) : v8_set(1.0);
        const v8d at = v8_min(v8_max(eta, v8_set(low)), v8_set(high));
        const v8d log_p = respond(family, eta, v8_set(1.0), hit, 1, 1).l;
        v8d mu, rest, slope;
        probabilities(family, at, &mu, &rest);
        if (family == SKLMM_PROBIT) slope = v8_exp(-0.5 * at * at) * (1.0 / SKLMM_ROOT_2PI);
        else slope = v8_exp(at) * rest;
        unweighted += v8_keep(here, log_p);
        value += v8_keep(here, q * q * log_p);
        v8_store(s + r, q * slope / v8_sqrt(mu * rest));
        v8_store(e + r, q * v8_select(hit > 0.0, v8_sqrt(rest / mu), -v8_sqrt(mu / rest)));
    }
    if (plain) *plain += v8_sum(unweighted);
    return v8_sum(value);
}

/* The same of the linear model: s = sqrt(w), e = sqrt(w) (y - eta), and -(y - eta)^2 / 2 in the place of log p(y | eta). */
SKLMM_INLINE double gee_rows_of_numbers(const double *half, const double *y, const double *root_w, double *s, double *e,
                                        double *plain, ptrdiff_t n)
{
    v8d value = v8_set(0.0), unweighted = v8_set(0.0);
    for (ptrdiff_t r = 0; r < n; r += 8) {
        const v8l here = v8_first(n - r);
        const v8d q = root_w ? v8_load(root_w + r) : v8_set(1.0), residual = v8_load(y + r) - 2.0 * v8_load(half + r);
        const v8d loss = -0.5 * residual * residual;
        unweighted += v8_keep(here, loss);
        value += v8_keep(here, q * q * loss);
        v8_store(s + r, q);
        v8_store(e + r, q * residual);
    }
    if (plain) *plain += v8_sum(unweighted);
    return v8_sum(value);
}

SKLMM_CLONES double gee_rows_of_link(int family, const double *half, const double *y, const double *root_w, double *s, double *e,
                                     double *plain, ptrdiff_t n)
{
    if (family == SKLMM_GAUSSIAN) return gee_rows_of_numbers(half, y, root_w, s, e, plain, n);
    return family == SKLMM_PROBIT ? gee_rows_of_family(SKLMM_PROBIT, half, y, root_w, s, e, plain, n)
                                  : gee_rows_of_family(SKLMM_CLOGLOG, half, y, root_w, s, e, plain, n);
}

/* Rows times s, with the residual in column `slot`, fetching `ahead` meanwhile. */
SKLMM_CLONES void gee_scale(double *T, ptrdiff_t ld, ptrdiff_t slot, const double *s, const double *e, ptrdiff_t n,
                            const sklmm_ahead *ahead)
{
    for (ptrdiff_t r = 0; r < n; r++) {
        if (r < ahead->n)
            for (ptrdiff_t b = 0; b < ahead->bytes; b += 64)
                __builtin_prefetch(ahead->base + (ahead->first + r) * ahead->stride + b);
        for (ptrdiff_t c = 0; c < ld; c += 8) v8_store(T + r * ld + c, v8_load(T + r * ld + c) * s[r]);
        T[r * ld + slot] = e[r];
    }
}

/* --- exchangeable: R = (1 - alpha) I + alpha q q', q = sqrt(w) where weights are counts, else 1 --------------------- */

/* t += sum of q_r T[r, :]. q may be NULL. */
SKLMM_CLONES void gee_cluster_sum(double *t, const double *T, ptrdiff_t ld, const double *q, ptrdiff_t n)
{
    for (ptrdiff_t c = 0; c < ld; c += 8) {
        v8d a = v8_load(t + c);
        for (ptrdiff_t r = 0; r < n; r++) a += q ? q[r] * v8_load(T + r * ld + c) : v8_load(T + r * ld + c);
        v8_store(t + c, a);
    }
}

/* R^-1/2 T = (T - shift q t') scale, for the sums t of the whole cluster. */
SKLMM_CLONES void gee_exchangeable(double *T, ptrdiff_t ld, const double *q, ptrdiff_t n, const double *t, double shift,
                                   double scale)
{
    for (ptrdiff_t c = 0; c < ld; c += 8) {
        const v8d a = v8_load(t + c) * (shift * scale);
        for (ptrdiff_t r = 0; r < n; r++)
            v8_store(T + r * ld + c, v8_load(T + r * ld + c) * scale - (q ? q[r] * a : a));
    }
}

/* --- AR(1): innovations (row - rho last row) / sqrt(1 - rho^2), rho of each row's gap from the table ---------------- */

/* `before` is the (unwhitened) row before the first, or NULL at the start of a cluster; the last row is left there in `carry`. */
SKLMM_CLONES void gee_ar1(double *T, ptrdiff_t ld, ptrdiff_t n, const int32_t *gap, const double *rho, const double *inverse,
                          const double *before, double *carry)
{
    for (ptrdiff_t c = 0; c < ld; c += 8) {
        v8d last = before ? v8_load(before + c) : v8_set(0.0);
        for (ptrdiff_t r = 0; r < n; r++) {
            const v8d x = v8_load(T + r * ld + c);
            const ptrdiff_t g = gap ? gap[r] : 0;
            if (r || before) v8_store(T + r * ld + c, (x - rho[g] * last) * inverse[g]);
            last = x;
        }
        v8_store(carry + c, last);
    }
}

/* --- any correlation matrix: a Cholesky factor for each pattern of positions ---------------------------------------- */

/* Lower factor (n x n, row-major, inverse diagonal) of R[codes, codes]. Returns 1 if that is not positive definite. */
SKLMM_CLONES int gee_factor(double *L, const double *R, ptrdiff_t ldr, const int32_t *codes, ptrdiff_t n)
{
    for (ptrdiff_t a = 0; a < n; a++)
        for (ptrdiff_t b = 0; b <= a; b++) {
            double s = R[codes[a] * ldr + codes[b]];
            for (ptrdiff_t c = 0; c < b; c++) s -= L[a * n + c] * L[b * n + c];
            if (a > b) L[a * n + b] = s * L[b * n + b];
            else if (s > 0.0) L[a * n + a] = 1.0 / sqrt(s);
            else return 1;
        }
    return 0;
}

SKLMM_CLONES void gee_solve(double *T, ptrdiff_t ld, ptrdiff_t n, const double *L)
{
    for (ptrdiff_t c = 0; c < ld; c += 8)
        for (ptrdiff_t r = 0; r < n; r++) {
            v8d x = v8_load(T + r * ld + c);
            for (ptrdiff_t k = 0; k < r; k++) x -= L[r * n + k] * v8_load(T + k * ld + c);
            v8_store(T + r * ld + c, x * L[r * n + r]);
        }
}

/* --- leverage corrections --------------------------------------------------------------------------------------- */

/* out = A x for a symmetric A of m rows. */
SKLMM_INLINE void symmetric_product(double *out, const double *A, ptrdiff_t ld, ptrdiff_t m, const double *x)
{
    ptrdiff_t c = 0;
    for (; c + 16 <= ld; c += 16) { /* two vectors at once, two sums each: additions wait for each other */
        v8d even0 = v8_set(0.0), even1 = even0, odd0 = even0, odd1 = even0;
        ptrdiff_t a = 0;
        for (; a + 1 < m; a += 2) {
            even0 += x[a] * v8_load(A + a * ld + c);
            even1 += x[a] * v8_load(A + a * ld + c + 8);
            odd0 += x[a + 1] * v8_load(A + (a + 1) * ld + c);
            odd1 += x[a + 1] * v8_load(A + (a + 1) * ld + c + 8);
        }
        if (a < m) {
            even0 += x[a] * v8_load(A + a * ld + c);
            even1 += x[a] * v8_load(A + a * ld + c + 8);
        }
        v8_store(out + c, even0 + odd0);
        v8_store(out + c + 8, even1 + odd1);
    }
    for (; c < ld; c += 8) {
        v8d sum = v8_set(0.0);
        for (ptrdiff_t a = 0; a < m; a++) sum += x[a] * v8_load(A + a * ld + c);
        v8_store(out + c, sum);
    }
}

/* to += M, and the column `slot` of M into u. */
SKLMM_CLONES void gee_add(double *to, double *u, const double *M, ptrdiff_t ld, ptrdiff_t m, ptrdiff_t slot)
{
    for (ptrdiff_t c = 0; c < ld; c += 8) v8_store(u + c, v8_set(0.0));
    for (ptrdiff_t a = 0; a < m; a++) {
        for (ptrdiff_t c = 0; c < ld; c += 8) v8_store(to + a * ld + c, v8_load(to + a * ld + c) + v8_load(M + a * ld + c));
        u[a] = M[a * ld + slot];
    }
}

typedef struct { /* what the corrections of every cluster share */
    ptrdiff_t ld, m;      /* coefficients: m, padded to ld */
    const double *bread;  /* S^-1, m x ld */
    const double *origin; /* ld: centres of the features over their scales, then zeros; NULL without an intercept (slot m - 1) */
    double bound;         /* of the leverage in Fay and Graubard's correction */
} sklmm_bread;

/* One cluster: from M (m x ld, its columns behind m are not read) and u its corrected scores. md = (I - M S^-1)^-1 u and
 * kc = (I - M S^-1)^-1/2 u by their power series in M S^-1, whose largest eigenvalue is below its trace, to 1e-12; fg after Fay and Graubard
 * (2001), whose diagonal scaling belongs to the user's coordinates: beta_0 there is beta_m - origin'beta here. work: 4 x ld.
 * Returns the trace; where that is 1/2 or more md and kc are left alone. */
SKLMM_CLONES double gee_correct(const sklmm_bread *b, const double *M, const double *u, double *md, double *kc, double *fg,
                                double *work)
{
    const ptrdiff_t ld = b->ld, m = b->m;
    double *leverage = work, *through = work + ld, *v = work + 2 * ld, *next = work + 3 * ld;
    double trace = 0.0;
    for (ptrdiff_t c = 0; c < ld; c += 8) {
        v8d even = v8_set(0.0), odd = even;
        ptrdiff_t a = 0;
        for (; a + 1 < m; a += 2) {
            even += v8_load(M + a * ld + c) * v8_load(b->bread + a * ld + c);
            odd += v8_load(M + (a + 1) * ld + c) * v8_load(b->bread + (a + 1) * ld + c);
        }
        if (a < m) even += v8_load(M + a * ld + c) * v8_load(b->bread + a * ld + c);
        v8_store(leverage + c, v8_keep(v8_first(m - c), even + odd));
        trace += v8_sum(v8_load(leverage + c));
    }
    const ptrdiff_t zero = m - 1;
    double moved = 0.0;
    if (b->origin) {
        symmetric_product(through, b->bread, ld, m, M + zero * ld);
        for (ptrdiff_t c = 0; c < ld; c += 8) {
            const v8d move = v8_load(b->origin + c) * v8_load(through + c);
            v8_store(leverage + c, v8_load(leverage + c) + move);
            moved += v8_sum(move);
        }
        leverage[zero] -= moved;
    }
    for (ptrdiff_t c = 0; c < ld; c += 8)
        v8_store(leverage + c, 1.0 / v8_sqrt(1.0 - v8_min(v8_load(leverage + c), v8_set(b->bound))));
    for (ptrdiff_t c = 0; c < ld; c += 8) {
        v8d score = v8_load(leverage + c) * v8_load(u + c);
        if (b->origin) score += v8_load(b->origin + c) * ((v8_load(leverage + c) - leverage[zero]) * u[zero]);
        v8_store(fg + c, score);
    }
    if (!(trace < 0.5)) return trace;
    double power = 1.0, share = 1.0;
    for (ptrdiff_t c = 0; c < ld; c += 8) {
        const v8d start = v8_keep(v8_first(m - c), v8_load(u + c));
        v8_store(md + c, start);
        v8_store(kc + c, start);
        v8_store(v + c, start);
    }
    for (int k = 1; k < 50 && power * trace > 1e-12; k++) {
        power *= trace;
        share *= (2.0 * k - 1.0) / (2.0 * k);
        symmetric_product(next, b->bread, ld, m, v);
        symmetric_product(v, M, ld, m, next);
        for (ptrdiff_t c = 0; c < ld; c += 8) {
            const v8d term = v8_keep(v8_first(m - c), v8_load(v + c));
            v8_store(md + c, v8_load(md + c) + term);
            v8_store(kc + c, v8_load(kc + c) + share * term);
        }
    }
    return trace;
}

#endif
