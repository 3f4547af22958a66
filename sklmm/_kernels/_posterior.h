/* Posteriors of groups on nodes: for each group the weights of a few values of its random effects, and means of probabilities over
 * them.
 *
 * Any link will do; the logit has ways of its own, and gains by them: log(1 + exp(eta + t u)) of many rows are one logarithm of a
 * product, and for an intercept exp(eta + t u) = exp(eta) exp(t u).
 *
 * u are the effects as independent standard normals, t = Lambda'z a row's loadings: eta = x'beta + t'u. Lanes are nodes, so
 * that a group of any size fills them.
 */
#ifndef SKLMM_POSTERIOR_H
#define SKLMM_POSTERIOR_H

#include "_response.h"
#include "_smallmat.h"
#include <math.h>

#define SKLMM_NODE_Q 4     /* random coefficients of a group, at most */
#define SKLMM_MOST_NODES 16 /* of two coefficients, a dimension */
#define SKLMM_CLAMP 350.0  /* of exponents, beyond which probabilities have long been 0 or 1 */
#define SKLMM_FACTORS 512  /* of numbers in (1, 2], whose product is then still a number */

typedef float v8f_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct { /* the rows of one group; t[a] at t + a * stride */
    int family;
    ptrdiff_t n, q, stride;
    const double *eta, *E, *w, *t; /* w may be NULL: all ones; the logit's E = exp(eta) where t is the same in all rows, else NULL */
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

/* Sums over rows of w log(1 + exp(eta + t u)) at 8 or 16 values of u, where t is one number: exp(eta + t u) = E B, and a product of
 * many factors needs one logarithm. Four vectors of four are multiplied side by side: 16 values, or 8 in every other row. */
SKLMM_INLINE void softplus_sums_of_intercept(const sklmm_group *g, const double *u, double *out, const int lanes)
{
    const v8d clamp = v8_set(SKLMM_CLAMP);
    const ptrdiff_t ways = 16 / lanes, vectors = lanes / 4;
    double B[16], growth = g->largest + 0.7;
    for (int i = 0; i < lanes; i += 8) {
        const v8d tu = v8_min(v8_max(*g->t * v8_load(u + i), -clamp), clamp);
        v8_store(B + i, v8_exp(tu));
        growth = fmax(growth, g->largest + v8_largest(v8_max(tu, -tu)) + 0.7);
        v8_store(out + i, v8_set(0.0));
    }
    if (g->w) {
        for (ptrdiff_t j = 0; j < g->n; j++)
            for (int i = 0; i < lanes; i += 8)
                v8_store(out + i, v8_load(out + i) + g->w[j] * v8_log(1.0 + g->E[j] * v8_load(B + i)));
        return;
    }
    const ptrdiff_t limit = growth > SKLMM_CLAMP ? 1 : (ptrdiff_t)(700.0 / growth);
    v4d b[4];
    for (ptrdiff_t i = 0; i < 4; i++) b[i] = v4_load(B + 4 * (i % vectors));
    for (ptrdiff_t first = 0; first < g->n; first += ways * limit) {
        const ptrdiff_t last = first + ways * limit < g->n ? first + ways * limit : g->n;
        const v4d one = {1.0, 1.0, 1.0, 1.0};
        v4d product[4] = {one, one, one, one};
        double products[16];
        ptrdiff_t j = first;
        for (; j + ways <= last; j += ways) {
            const double E0 = g->E[j], E1 = g->E[j + ways - 1];
            product[0] *= one + E0 * b[0];
            product[1] *= one + E0 * b[1];
            product[2] *= one + E1 * b[2];
            product[3] *= one + E1 * b[3];
        }
        if (j < last) { /* one row is left, of two ways */
            product[0] *= one + g->E[j] * b[0];
            product[1] *= one + g->E[j] * b[1];
        }
        for (ptrdiff_t i = 0; i < 4; i++) v4_store(products + 4 * i, product[i]);
        for (int i = 0; i < 16; i += 8) {
            double *sum = out + (lanes == 16 ? i : 0);
            v8_store(sum, v8_load(sum) + v8_log(v8_load(products + i)));
        }
    }
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

SKLMM_INLINE void log_densities_of(const int family, const sklmm_group *g, ptrdiff_t n, const double *u, double *out)
{
    for (ptrdiff_t i = 0; i < n; i += 8) {
        v8d value = v8_set(0.0);
        for (ptrdiff_t a = 0; a < g->q; a++) value -= 0.5 * v8_load(u + a * n + i) * v8_load(u + a * n + i);
        for (ptrdiff_t j = 0; j < g->n; j++) {
            const double w = g->w ? g->w[j] : 1.0;
            v8d x = v8_set(g->eta[j]);
            for (ptrdiff_t a = 0; a < g->q; a++) x += g->t[a * g->stride + j] * v8_load(u + a * n + i);
            if (family == SKLMM_CLOGLOG && !g->y[j]) value -= w * v8_exp(v8_min(x, v8_set(SKLMM_LARGEST_HAZARD)));
            else value += respond(family, x, v8_set(w), v8_set(g->y[j] ? w : 0.0), 1, 1).l;
        }
        v8_store(out + i, value);
    }
}

SKLMM_INLINE void add_curvature_of(const int family, const sklmm_group *g, const double *u, double *H)
{
    for (ptrdiff_t first = 0; first < g->n; first += 8) { /* lanes are rows here */
        const ptrdiff_t k = g->n - first < 8 ? g->n - first : 8;
        double x[8] = {0}, w[8] = {0}, wy[8] = {0}, v[8];
        for (ptrdiff_t i = 0; i < k; i++) {
            const ptrdiff_t j = first + i;
            x[i] = g->eta[j];
            for (ptrdiff_t a = 0; a < g->q; a++) x[i] += g->t[a * g->stride + j] * u[a];
            w[i] = g->w ? g->w[j] : 1.0;
            wy[i] = g->y[j] ? w[i] : 0.0;
        }
        v8_store(v, respond(family, v8_load(x), v8_load(w), v8_load(wy), 2, 0).v);
        for (ptrdiff_t i = 0; i < k; i++)
            for (ptrdiff_t a = 0; a < g->q; a++)
                for (ptrdiff_t b = 0; b <= a; b++)
                    H[a * g->q + b] += v[i] * g->t[a * g->stride + first + i] * g->t[b * g->stride + first + i];
    }
}

/* H (q x q, lower triangle) += sum over the rows of v t t' at u, of any link but the logit. */
SKLMM_CLONES void add_curvature(const sklmm_group *g, const double *u, double *H)
{
    if (g->family == SKLMM_PROBIT) add_curvature_of(SKLMM_PROBIT, g, u, H);
    else add_curvature_of(SKLMM_CLOGLOG, g, u, H);
}

/* Log of the posterior density, up to a constant, at n values of u, a multiple of 8: u[a] at u + a * n. */
SKLMM_CLONES void log_densities(const sklmm_group *g, ptrdiff_t n, const double *u, double *out)
{
    if (g->family == SKLMM_PROBIT) {
        log_densities_of(SKLMM_PROBIT, g, n, u, out);
        return;
    }
    if (g->family == SKLMM_CLOGLOG) {
        log_densities_of(SKLMM_CLOGLOG, g, n, u, out);
        return;
    }
    if (g->E) {
        ptrdiff_t i = 0;
        for (; i + 16 <= n; i += 16) softplus_sums_of_intercept(g, u + i, out + i, 16);
        if (i < n) softplus_sums_of_intercept(g, u + i, out + i, 8);
    }
    for (ptrdiff_t i = 0; i < n; i += 8) {
        v8d at[SKLMM_NODE_Q], value = v8_set(g->linear), total;
        for (ptrdiff_t a = 0; a < g->q; a++) {
            at[a] = v8_load(u + a * n + i);
            value += at[a] * (g->slope[a] - 0.5 * at[a]);
        }
        if (g->E) total = v8_load(out + i);
        else if (g->q == 1) total = softplus_sum(g, at, 1);
        else if (g->q == 2) total = softplus_sum(g, at, 2);
        else total = softplus_sum(g, at, g->q);
        v8_store(out + i, value - total);
    }
}

/* exp(x) for |x| < 700, as `v8_exp`, in a vector that is one register everywhere. */
SKLMM_INLINE v4d v4_exp(v4d x)
{
    const double shift = 6755399441055744.0;
    v4d k = x * 1.4426950408889634 + shift;
    const v4l bits = (v4l)k;
    k -= shift;
    const v4d r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    const v4d r2 = r * r, r4 = r2 * r2;
    const v4d a = (1.0 + r) + r2 * (1.0 / 2 + r * (1.0 / 6));
    const v4d b = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    const v4d c = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
    const v4d d = 1.0 / 479001600 + r * (1.0 / 6227020800.0);
    return (v4d)((v4l)(a + r4 * (b + r4 * (c + r4 * d))) + (bits << 52));
}

/* The same at the m x m nodes center + factor (p_i, p_j), of two coefficients without weights, given in u: exp(eta + t'u) is a
 * product of a number for i and one for j, so that a row takes 2 m exponentials and not m^2. Returns 1, and has done nothing, where
 * an exponent is so large that the products could leave the numbers. */
SKLMM_INLINE int densities_of_two(const sklmm_group *g, ptrdiff_t m, ptrdiff_t n, const double *u, const double *p,
                                  const double *center, const double *F, double *out, const ptrdiff_t wide)
{
    const v4d one = {1.0, 1.0, 1.0, 1.0};
    const double ends = fabs(p[0]) > fabs(p[m - 1]) ? fabs(p[0]) : fabs(p[m - 1]);
    v4d product[SKLMM_MOST_NODES * SKLMM_MOST_NODES / 4], nodes[SKLMM_MOST_NODES / 4];
    double bound = 0.0, buffer[SKLMM_MOST_NODES + 4], total[SKLMM_MOST_NODES * SKLMM_MOST_NODES] = {0.0};
    for (ptrdiff_t i = 0; i < m * wide; i++) product[i] = one;
    for (ptrdiff_t l = 0; l < 4 * wide; l++) buffer[l] = l < m ? p[l] : 0.0;
    for (ptrdiff_t l = 0; l < wide; l++) nodes[l] = v4_load(buffer + 4 * l);
    for (ptrdiff_t j = 0; j <= g->n; j++) {
        double base = 0.0, a = 0.0, b = 0.0, growth = INFINITY; /* behind the last row only the logarithms are due */
        if (j < g->n) {
            const double t0 = g->t[j], t1 = g->t[g->stride + j];
            base = g->eta[j] + t0 * center[0] + t1 * center[1];
            a = t0 * F[0] + t1 * F[2];
            b = t0 * F[1] + t1 * F[3];
            const double reach = (fabs(a) + fabs(b)) * ends;
            if (!(fabs(base) + reach < SKLMM_CLAMP)) return 1;
            growth = (base + reach > 0.0 ? base + reach : 0.0) + 0.7;
        }
        if (bound + growth > 700.0) {
            for (ptrdiff_t i = 0; i < m; i++) {
                double logs[SKLMM_MOST_NODES];
                for (ptrdiff_t l = 0; l < wide; l++) {
                    v4_store(logs + 4 * l, product[i * wide + l]);
                    product[i * wide + l] = one;
                }
                if (wide & 1) v4_store(logs + 4 * wide, one);
                for (ptrdiff_t l = 0; l < 4 * wide; l += 8) v8_store(logs + l, v8_log(v8_load(logs + l)));
                for (ptrdiff_t l = 0; l < m; l++) total[i * m + l] += logs[l];
            }
            if (j == g->n) break;
            bound = 0.0;
        }
        bound += growth;
        v4d B[SKLMM_MOST_NODES / 4];
        for (ptrdiff_t l = 0; l < wide; l++) {
            v4_store(buffer + 4 * l, v4_exp(base + a * nodes[l]));
            B[l] = v4_exp(b * nodes[l]);
        }
        for (ptrdiff_t i = 0; i < m; i++)
            for (ptrdiff_t l = 0; l < wide; l++) product[i * wide + l] *= one + buffer[i] * B[l];
    }
    for (ptrdiff_t k = 0; k < m * m; k++) {
        const double u0 = u[k], u1 = u[n + k];
        out[k] = g->linear + u0 * (g->slope[0] - 0.5 * u0) + u1 * (g->slope[1] - 0.5 * u1) - total[k];
    }
    return 0;
}

SKLMM_CLONES int log_densities_of_two(const sklmm_group *g, ptrdiff_t m, ptrdiff_t n, const double *u, const double *p,
                                      const double *center, const double *F, double *out)
{
    if (m <= 4) return densities_of_two(g, m, n, u, p, center, F, out, 1);
    if (m <= 8) return densities_of_two(g, m, n, u, p, center, F, out, 2);
    return densities_of_two(g, m, n, u, p, center, F, out, (m + 3) / 4);
}

/* --- where the nodes lie ---------------------------------------------------------------------------------------- */

/* The same as `reach` of other links, whose density may fall off a cliff, as that of cloglog does: from four points on each side, and
 * where it falls far between two of them from points that are spread anew there, twice. */
static void reach_of_link(const sklmm_group *g, double u, double drop, double steepest, double *found)
{
    const double far = sqrt(2.0 * drop), near = far / sqrt(steepest), x[4] = {0.0, near, fmin(2.0 * near, far), far};
    double low[2] = {0.0, 0.0}, high[2] = {far, far}, at[16], value[16], top;
    int steep[2] = {0, 0};
    for (int l = 0; l < 8; l++) at[l] = u + (l / 4 ? x[l % 4] : -x[l % 4]);
    log_densities(g, 8, at, value);
    top = value[0];
    for (int side = 0; side < 2; side++) {
        double before = 0.0;
        found[side] = far;
        for (int l = 1; l < 4; l++) {
            const double fall = sqrt(fmax(top - value[4 * side + l], 0.0));
            high[side] = x[l];
            if (fall >= sqrt(drop)) {
                found[side] = low[side] + (sqrt(drop) - before) / (fall - before) * (high[side] - low[side]);
                steep[side] = !(fall - before < sqrt(drop));
                break;
            }
            low[side] = x[l];
            before = fall;
        }
    }
    for (int round = 0; round < 2 && (steep[0] || steep[1]); round++) {
        for (int l = 0; l < 16; l++) {
            const double distance = low[l / 8] + (1 + l % 8) / 8.0 * (high[l / 8] - low[l / 8]);
            at[l] = u + (l / 8 ? distance : -distance);
        }
        log_densities(g, 16, at, value);
        for (int l = 0; l < 16; l++) {
            const double distance = fabs(at[l] - u);
            if (top - value[l] < drop) low[l / 8] = fmax(low[l / 8], distance);
            else high[l / 8] = fmin(high[l / 8], distance);
        }
    }
    for (int side = 0; side < 2; side++)
        if (steep[side]) found[side] = high[side];
}

/* How far from the mode u the density has fallen by exp(-drop), below it and above. The prior alone makes it fall so far within
 * sqrt(2 drop), and the curvature is at most `steepest`. The root of the fall is nearly linear in the distance. */
static void reach(const sklmm_group *g, double u, double drop, double steepest, double *found)
{
    const double far = sqrt(2.0 * drop), near = far / sqrt(steepest);
    double x[8] = {0.0}, at[16], value[16];
    for (int l = 1; l < 8; l++) x[l] = near * pow(far / near, (l - 1) / 6.0);
    for (int l = 0; l < 8; l++) {
        at[l] = u - x[l];
        at[8 + l] = u + x[l];
    }
    log_densities(g, 16, at, value);
    for (int side = 0; side < 2; side++) {
        const double *v = value + 8 * side;
        double before = 0.0;
        found[side] = far;
        for (int l = 1; l < 8; l++) {
            const double fall = sqrt(fmax(v[0] - v[l], 0.0));
            if (fall >= sqrt(drop)) {
                found[side] = x[l - 1] + (sqrt(drop) - before) / (fall - before) * (x[l] - x[l - 1]);
                break;
            }
            before = fall;
        }
    }
}

/* Centre and factor (q x q) of the nodes centre + factor grid_k. With one coefficient they are even steps over the interval in
 * which the density is not negligible: the trapezoidal rule. Else Gauss-Hermite's at the mode u, the factor being
 * that of the inverse curvature there. */
static int place_nodes(const sklmm_group *g, const double *u, double drop, double *center, double *factor)
{
    const ptrdiff_t q = g->q;
    if (q == 1) {
        double steepest = 1.0, side[2];
        if (g->family != SKLMM_LOGIT) { /* which need not bound it: the search begins near enough */
            add_curvature(g, u, &steepest);
            steepest *= 2.0;
        } else if (g->E && !g->w) steepest += 0.25 * g->n * *g->t * *g->t;
        else
            for (ptrdiff_t j = 0; j < g->n; j++) {
                const double t = g->t[g->E ? 0 : j];
                steepest += 0.25 * (g->w ? g->w[j] : 1.0) * t * t;
            }
        if (g->family == SKLMM_LOGIT) reach(g, *u, drop, steepest, side);
        else reach_of_link(g, *u, drop, steepest, side);
        *center = *u + 0.5 * (side[1] - side[0]);
        *factor = 0.5 * (side[1] + side[0]);
        return 0;
    }
    double H[SKLMM_NODE_Q * SKLMM_NODE_Q] = {0}, L[SKLMM_NODE_Q * SKLMM_NODE_Q];
    if (g->family != SKLMM_LOGIT) add_curvature(g, u, H);
    for (ptrdiff_t j = 0; g->family == SKLMM_LOGIT && j < g->n; j++) {
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
    ptrdiff_t m = 1;
    while (m * m < k) m++;
    if (q != 2 || g->w || g->family != SKLMM_LOGIT || m * m != k || m > SKLMM_MOST_NODES ||
        log_densities_of_two(g, m, padded, work, grid + padded, center, factor, value))
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

SKLMM_INLINE void node_tails_of(const int family, double *small, uint8_t *positive, ptrdiff_t n, const double *eta,
                                const double *t, const int64_t *level, ptrdiff_t q, ptrdiff_t k, ptrdiff_t padded,
                                const double *grid, const double *center, const double *factor, const float *weights)
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
            if (family != SKLMM_LOGIT) {
                v8d mu, rest;
                probabilities(family, x, &mu, &rest);
                upper += weight * mu;
                lower += weight * rest;
                continue;
            }
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

/* Probability of the less likely outcome of each row, the mean of mu(eta + t'u_k) or of 1 - mu, computed where it is small; and
 * whether the outcome 1 is the likelier. level[j] is the row's group, t (n x q) its loadings. */
SKLMM_CLONES void node_tails(int family, double *small, uint8_t *positive, ptrdiff_t n, const double *eta, const double *t,
                             const int64_t *level, ptrdiff_t q, ptrdiff_t k, ptrdiff_t padded, const double *grid,
                             const double *center, const double *factor, const float *weights)
{
    SKLMM_BY_FAMILY(family, node_tails_of, small, positive, n, eta, t, level, q, k, padded, grid, center, factor, weights);
}

#endif
