/* Posteriors of groups on nodes: for each group the weights of a few values of its random effects, and means of the logistic
 * function over them.
 *
 * u are the effects as independent standard normals, t = Lambda'z a row's loadings: eta = x'beta + t'u. Lanes are nodes, so
 * that a group of any size fills them.
 */
#ifndef SKLMM_POSTERIOR_H
#define SKLMM_POSTERIOR_H

#include "_smallmat.h"
#include "_vecmath.h"
#include <math.h>

#define SKLMM_NODE_Q 4     /* random coefficients of a group, at most */
#define SKLMM_CLAMP 350.0  /* of exponents, beyond which probabilities have long been 0 or 1 */
#define SKLMM_FACTORS 512  /* of numbers in (1, 2], whose product is then still a number */

typedef float v8f_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct { /* the rows of one group; t[a] at t + a * stride */
    ptrdiff_t n, q, stride;
    const double *eta, *E, *w, *t; /* w may be NULL: all ones; E = exp(eta) where t is the same in all rows, else NULL */
    const uint8_t *y;
    double linear, slope[SKLMM_NODE_Q], largest; /* sums over the successes of eta and t; the largest eta */
} sklmm_group;

/* eta <- eta within +-SKLMM_CLAMP, E = exp(eta); n rounded up to whole vectors. */
SKLMM_CLONES void exponentials(double *E, double *eta, ptrdiff_t n)
{
    const v8d clamp = v8_set(SKLMM_CLAMP);
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const v8d x = v8_min(v8_max(v8_load(eta + j), -clamp), clamp);
        v8_store(eta + j, x);
        v8_store(E + j, v8_exp(x));
    }
}

SKLMM_INLINE void group_sums(sklmm_group *g)
{
    g->linear = g->largest = 0.0;
    for (ptrdiff_t a = 0; a < g->q; a++) g->slope[a] = 0.0;
    for (ptrdiff_t j = 0; j < g->n; j++) {
        const double success = g->y[j] ? (g->w ? g->w[j] : 1.0) : 0.0;
        g->linear += success * g->eta[j];
        g->largest = g->eta[j] > g->largest ? g->eta[j] : g->largest;
        for (ptrdiff_t a = 0; a < g->q; a++) g->slope[a] += success * g->t[g->E ? a : a * g->stride + j];
    }
}

/* Sum over rows of w log(1 + exp(eta + t u)) where t is one number: exp(eta + t u) = E B, and a product of many factors needs
 * one logarithm. */
SKLMM_INLINE v8d softplus_sum_of_intercept(const sklmm_group *g, v8d u)
{
    const v8d clamp = v8_set(SKLMM_CLAMP), tu = v8_min(v8_max(*g->t * u, -clamp), clamp), B = v8_exp(tu);
    const double growth = g->largest + v8_largest(v8_max(tu, -tu)) + 0.7;
    const ptrdiff_t limit = growth > SKLMM_CLAMP ? 1 : (ptrdiff_t)(700.0 / growth);
    v8d total = v8_set(0.0), product = v8_set(1.0);
    ptrdiff_t factors = 0;
    for (ptrdiff_t j = 0; j < g->n; j++) {
        const v8d factor = 1.0 + g->E[j] * B;
        if (g->w) total += g->w[j] * v8_log(factor);
        else {
            product *= factor;
            if (++factors == limit) {
                total += v8_log(product);
                product = v8_set(1.0);
                factors = 0;
            }
        }
    }
    return total + v8_log(product);
}

SKLMM_INLINE v8d softplus_sum(const sklmm_group *g, const v8d *u, const ptrdiff_t q)
{
    v8d total = v8_set(0.0), product = v8_set(1.0);
    ptrdiff_t factors = 0;
    for (ptrdiff_t j = 0; j < g->n; j++) {
        v8d x = v8_set(g->eta[j]);
        for (ptrdiff_t a = 0; a < q; a++) x += g->t[a * g->stride + j] * u[a];
        const v8d factor = 1.0 + v8_exp(-v8_max(x, -x)), above = v8_max(x, v8_set(0.0));
        if (g->w) total += g->w[j] * (above + v8_log(factor));
        else {
            total += above;
            product *= factor;
            if (++factors == SKLMM_FACTORS) {
                total += v8_log(product);
                product = v8_set(1.0);
                factors = 0;
            }
        }
    }
    return total + v8_log(product);
}

/* Log of the posterior density, up to a constant, at n values of u, a multiple of 8: u[a] at u + a * n. */
SKLMM_CLONES void log_densities(const sklmm_group *g, ptrdiff_t n, const double *u, double *out)
{
    for (ptrdiff_t i = 0; i < n; i += 8) {
        v8d at[SKLMM_NODE_Q], value = v8_set(g->linear), total;
        for (ptrdiff_t a = 0; a < g->q; a++) {
            at[a] = v8_load(u + a * n + i);
            value += at[a] * (g->slope[a] - 0.5 * at[a]);
        }
        if (g->E) total = softplus_sum_of_intercept(g, at[0]);
        else if (g->q == 1) total = softplus_sum(g, at, 1);
        else if (g->q == 2) total = softplus_sum(g, at, 2);
        else total = softplus_sum(g, at, g->q);
        v8_store(out + i, value - total);
    }
}

/* --- where the nodes lie ---------------------------------------------------------------------------------------- */

/* How far from the mode u, in the direction `side` (+-1), the density has fallen by exp(-drop). The prior alone makes it fall so
 * far within sqrt(2 drop), and the curvature is at most `steepest`. The root of the fall is nearly linear in the distance. */
static double reach(const sklmm_group *g, double u, double side, double drop, double steepest)
{
    const double far = sqrt(2.0 * drop), near = far / sqrt(steepest);
    double x[8] = {0.0}, at[8], value[8], before = 0.0;
    for (int l = 1; l < 8; l++) x[l] = near * pow(far / near, (l - 1) / 6.0);
    for (int l = 0; l < 8; l++) at[l] = u + side * x[l];
    log_densities(g, 8, at, value);
    for (int l = 1; l < 8; l++) {
        const double fall = sqrt(fmax(value[0] - value[l], 0.0));
        if (fall >= sqrt(drop)) return x[l - 1] + (sqrt(drop) - before) / (fall - before) * (x[l] - x[l - 1]);
        before = fall;
    }
    return far;
}

/* Centre and factor (q x q) of the nodes centre + factor grid_k. With one coefficient they are even steps over the interval in
 * which the density is not negligible: the trapezoidal rule. Else Gauss-Hermite's at the mode u, the factor being
 * that of the inverse curvature there. */
static int place_nodes(const sklmm_group *g, const double *u, double drop, double *center, double *factor)
{
    const ptrdiff_t q = g->q;
    if (q == 1) {
        double steepest = 1.0;
        for (ptrdiff_t j = 0; j < g->n; j++) {
            const double t = g->t[g->E ? 0 : j];
            steepest += 0.25 * (g->w ? g->w[j] : 1.0) * t * t;
        }
        const double below = reach(g, *u, -1.0, drop, steepest), above = reach(g, *u, 1.0, drop, steepest);
        *center = *u + 0.5 * (above - below);
        *factor = 0.5 * (above + below);
        return 0;
    }
    double H[SKLMM_NODE_Q * SKLMM_NODE_Q] = {0}, L[SKLMM_NODE_Q * SKLMM_NODE_Q];
    for (ptrdiff_t j = 0; j < g->n; j++) {
        double x = g->eta[j];
        for (ptrdiff_t a = 0; a < q; a++) x += g->t[a * g->stride + j] * u[a];
        const double e = exp(-fabs(x)), v = (g->w ? g->w[j] : 1.0) * e / ((1.0 + e) * (1.0 + e));
        for (ptrdiff_t a = 0; a < q; a++)
            for (ptrdiff_t b = 0; b <= a; b++) H[a * q + b] += v * g->t[a * g->stride + j] * g->t[b * g->stride + j];
    }
    for (ptrdiff_t a = 0; a < q; a++) H[a * q + a] += 1.0;
    if (cholesky(q, H, L)) return 1;
    for (ptrdiff_t a = 0; a < q; a++) {
        center[a] = u[a];
        for (ptrdiff_t b = 0; b < q; b++) factor[a * q + b] = a == b;
    }
    solve_upper(q, L, factor, q);
    return 0;
}

/* Places the nodes of one group and weighs them; the weights sum to 1. `grid` is q x padded, padding with log_w = -inf; `work` has
 * room for (q + 1) x padded. */
static int group_nodes(sklmm_group *g, const double *u, ptrdiff_t k, ptrdiff_t padded, const double *grid,
                       const double *log_w, double drop, double *work, double *center, double *factor, float *weights)
{
    const ptrdiff_t q = g->q;
    double *value = work + q * padded, top = -INFINITY, total = 0.0;
    group_sums(g);
    if (place_nodes(g, u, drop, center, factor)) return 1;
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t i = 0; i < padded; i++) {
            work[a * padded + i] = center[a];
            for (ptrdiff_t b = 0; b < q; b++) work[a * padded + i] += factor[a * q + b] * grid[b * padded + i];
        }
    log_densities(g, padded, work, value);
    for (ptrdiff_t i = 0; i < k; i++) {
        value[i] += log_w[i];
        top = value[i] > top ? value[i] : top;
    }
    for (ptrdiff_t i = 0; i < k; i++) total += value[i] = exp(value[i] - top);
    for (ptrdiff_t i = 0; i < k; i++) weights[i] = (float)(value[i] / total);
    return !(total > 0.0 && total < INFINITY);
}

/* --- means over the nodes --------------------------------------------------------------------------------------- */

/* Probability of the less likely outcome of each row, sum_k w_k expit(eta + t'u_k) or one less it, computed where it is small; and
 * whether the outcome 1 is the likelier. level[j] is the row's group, t (n x q) its loadings. */
SKLMM_CLONES void node_tails(double *small, uint8_t *positive, ptrdiff_t n, const double *eta, const double *t,
                             const int64_t *level, ptrdiff_t q, ptrdiff_t k, ptrdiff_t padded, const double *grid,
                             const double *center, const double *factor, const float *weights)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        const double *c = center + level[j] * q, *F = factor + level[j] * q * q, *tj = t + j * q;
        const float *w = weights + level[j] * k;
        double at = eta[j], along[SKLMM_NODE_Q];
        v8d upper = v8_set(0.0), lower = upper;
        for (ptrdiff_t a = 0; a < q; a++) {
            at += tj[a] * c[a];
            along[a] = 0.0;
            for (ptrdiff_t b = 0; b < q; b++) along[a] += tj[b] * F[b * q + a];
        }
        for (ptrdiff_t i = 0; i < padded; i += 8) {
            v8d x = v8_set(at), weight = v8_set(0.0);
            for (ptrdiff_t a = 0; a < q; a++) x += along[a] * v8_load(grid + a * padded + i);
            if (i + 8 <= k) weight = __builtin_convertvector(*(const v8f_unaligned *)(w + i), v8d);
            else
                for (ptrdiff_t l = 0; i + l < k; l++) weight[l] = w[i + l];
            const v8d e = v8_exp(-v8_max(x, -x)), inv = weight / (1.0 + e);
            const v8l above = x > 0.0;
            upper += v8_select(above, inv, e * inv);
            lower += v8_select(above, e * inv, inv);
        }
        const double up = v8_sum(upper), down = v8_sum(lower);
        positive[j] = up > down;
        small[j] = fmin(up, down) / (up + down);
    }
}

#endif
