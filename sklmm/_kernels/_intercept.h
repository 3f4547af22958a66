/* Clusters with a random intercept, a block of clusters at a time: eta = x'beta + theta u, one exp a row.
 *
 * This knows the logit, and gains by it: exp(eta + theta u) = E * B with E = exp(x'beta) by row and B = exp(theta u) by cluster
 * (and by node), so Newton steps and quadrature nodes cost a division, not an exponential. _slopes.h with one
 * coefficient finds the same for any family. Both exponents must be within +-350; a block where one is
 * beyond is `far`, and takes the exponential of each sum.
 *
 * Names follow docs/mathematics/clustered.md: w weight, wy = w y, mu probability, r = w (y - mu),
 * v = w mu (1 - mu), v1 and v2 its first and second derivatives in eta; R, V, V1 their sums over a cluster at the
 * conditional mode u; H = 1 + theta^2 V; C, c, k, kappa the adjoints, xi the curvature of Gamma(H).
 */
#ifndef SKLMM_INTERCEPT_H
#define SKLMM_INTERCEPT_H

#include "_response.h"
#include <math.h>

#define SKLMM_CLAMP 350.0

typedef struct { /* the rows of a block */
    ptrdiff_t nc;
    const int64_t *start; /* nc + 1 */
    const double *eta, *E, *w, *wy;
    int unweighted, far;
} sklmm_block;

/* Means over the nodes of one cluster with their posterior weights: of r, zeta r, v, zeta v, zeta^2 v, zeta, zeta^2, r u. */
typedef struct {
    double r, zr, v, zv, zzv, z, zz, ru;
} sklmm_node_means;

typedef struct { /* by cluster */
    double *u, *next, *B, *R, *V, *V1, *H, *C, *c, *k, *kappa, *xi, *N;
    sklmm_node_means *means; /* NULL: Laplace */
} sklmm_modes;

typedef struct {
    ptrdiff_t k, padded;   /* nodes, and rounded up to a multiple of 8 (padding has weight 0) */
    const double *zeta;    /* Gauss-Hermite nodes of exp(-z^2), padding 0 */
    const double *log_w;   /* log of (weight / sqrt(pi)) plus zeta^2, padding -inf */
} sklmm_nodes;

typedef struct { /* by cluster and node, each nc x padded */
    double *u, *B, *R, *V, *s, *pi;
    double *r, *v;              /* by row and node (rows of the tile x padded): r and v; NULL in a block beyond a tile */
    double *r_mean, *v_mean, *vz; /* by row: means over the nodes of r and v, and -mean zeta v */
} sklmm_node_values;

/* --- conditional modes -------------------------------------------------------------------------------------- */

/* exp(eta + shift) of rows j .. j + 7, B = exp(shift). v8_exp keeps it, and 1 over it, a number. */
SKLMM_INLINE v8d odds(const sklmm_block *b, ptrdiff_t j, double B, double shift, const int far)
{
    return far ? v8_exp(v8_load(b->eta + j) + shift) : v8_load(b->E + j) * B;
}

/* R, V and V1 of cluster i at theta u = shift. Returns its log-likelihood if asked for. */
SKLMM_INLINE double intercept_sums_of(const sklmm_block *b, ptrdiff_t i, double B, double shift, double *R, double *V,
                                      double *V1, const int far, const int likelihood)
{
    const ptrdiff_t end = b->start[i + 1];
    v8d sr = v8_set(0.0), sv = sr, s1 = sr, value = sr;
    for (ptrdiff_t j = b->start[i]; j < end; j += 8) {
        const v8l here = v8_first(end - j);
        const v8d e = odds(b, j, B, shift, far), weight = v8_keep(here, v8_load(b->w + j));
        const v8d inv = 1.0 / (1.0 + e), mu = e * inv, v = weight * mu * inv;
        const v8d success = v8_keep(here, v8_load(b->wy + j));
        sr += success * inv - (weight - success) * mu; /* not wy - w mu, which cancels where mu is near 1 */
        sv += v;
        s1 += v * (1.0 - 2.0 * mu);
        if (likelihood) value += logit_log_density(v8_load(b->eta + j) + shift, weight, success, v8_max(mu, inv));
    }
    *R = v8_sum(sr);
    *V = v8_sum(sv);
    *V1 = v8_sum(s1);
    return v8_sum(value);
}

SKLMM_RARE double intercept_sums_far(const sklmm_block *b, ptrdiff_t i, double shift, double *R, double *V, double *V1,
                                     int likelihood)
{
    return intercept_sums_of(b, i, 0.0, shift, R, V, V1, 1, likelihood);
}

SKLMM_APART double intercept_sums(const sklmm_block *b, ptrdiff_t i, double B, double shift, double *R, double *V,
                                  double *V1, int likelihood)
{
    if (b->far) return intercept_sums_far(b, i, shift, R, V, V1, likelihood);
    if (likelihood) return intercept_sums_of(b, i, B, shift, R, V, V1, 0, 1);
    return intercept_sums_of(b, i, B, shift, R, V, V1, 0, 0);
}

/* Eight clusters of up to this many rows are summed with a lane each; in longer ones lanes are rows. */
#define SKLMM_SMALL 16

/* Newton on s(u) = theta R(u) - u, which decreases strictly, inside a bracket that each evaluation narrows, and bisection where
 * a step leaves the bracket or is not half as long as the last: it cannot fail. One step of it: narrows [lo, hi], says in
 * `done` which lanes are within tol, and moves the others. `last` is the length of the step before, at first infinite. */
SKLMM_INLINE void newton_in_bracket(v8d s, v8d slope, double tol, v8d *u, v8d *lo, v8d *hi, v8d *next, v8d *last,
                                    v8l *done)
{
    const v8d step = s / slope, small = tol * (1.0 + v8_max(*u, -*u));
    *lo = v8_select(s > 0.0, *u, *lo);
    *hi = v8_select(s > 0.0, *hi, *u);
    *next = *u + step;
    const v8d length = v8_max(step, -step), width = *hi - *lo;
    *done |= (length <= small) | (width <= small);
    const v8l fast = (*next > *lo) & (*next < *hi) & ((length <= 0.5 * *last) | ~(width < INFINITY));
    *last = v8_select(fast, length, 0.5 * width);
    *u = v8_select(*done, *u, v8_select(fast, *next, 0.5 * (*lo + *hi)));
}

/* Modes of clusters i .. i + k - 1 (k <= 8), of at most `rows` <= SKLMM_SMALL rows, or longer ones if rows is 0. They step
 * together, a lane each, so that latencies overlap. Returns 1 where there is none, or SKLMM_FAR, having done nothing, where
 * theta u gets too large for a block that is not far. */
#define SKLMM_FAR 2
SKLMM_INLINE int intercept_modes_of_eight(const sklmm_block *b, const sklmm_modes *m, ptrdiff_t i, ptrdiff_t k,
                                          ptrdiff_t rows, double theta, double tol, const int far)
{
    double x[8 * SKLMM_SMALL], w[8 * SKLMM_SMALL], wy[8 * SKLMM_SMALL], r_sum[8] = {0}, v_sum[8] = {0}, v1_sum[8] = {0};
    const double *from = far ? b->eta : b->E;
    for (ptrdiff_t l = 0; rows && l < 8; l++) {
        const ptrdiff_t first = l < k ? b->start[i + l] : 0, n = l < k ? b->start[i + l + 1] - first : 0;
        for (ptrdiff_t j = 0; j < rows; j++) {
            x[j * 8 + l] = j < n ? from[first + j] : 1.0;
            w[j * 8 + l] = j < n ? b->w[first + j] : 0.0;
            wy[j * 8 + l] = j < n ? b->wy[first + j] : 0.0;
        }
    }
    v8d u = v8_keep(v8_first(k), v8_load(m->u + i)), lo = v8_set(-INFINITY), hi = v8_set(INFINITY), next = u;
    v8d last = hi;
    v8l done = ~v8_first(k);
    for (int round = 0; round < 1000; round++) { /* so many only if something is not a number */
        const v8d shift = theta * u, B = v8_exp(shift);
        v8d R = v8_set(0.0), V = R, V1 = R;
        for (ptrdiff_t j = 0; j < rows; j++) {
            const v8d xj = v8_load(x + 8 * j), weight = v8_load(w + 8 * j), success = v8_load(wy + 8 * j);
            const v8d e = far ? v8_exp(xj + shift) : xj * B;
            const v8d inv = 1.0 / (1.0 + e), mu = e * inv, v = weight * mu * inv;
            R += success * inv - (weight - success) * mu;
            V += v;
            V1 += v * (1.0 - 2.0 * mu);
        }
        if (!rows) {
            for (ptrdiff_t l = 0; l < k; l++)
                if (!done[l]) intercept_sums(b, i + l, B[l], shift[l], r_sum + l, v_sum + l, v1_sum + l, 0);
            R = v8_load(r_sum);
            V = v8_load(v_sum);
            V1 = v8_load(v1_sum);
        }
        const v8d at = u;
        const v8l beyond = ~done & (v8_max(shift, -shift) > SKLMM_CLAMP);
        newton_in_bracket(theta * R - u, 1.0 + theta * theta * V, tol, &u, &lo, &hi, &next, &last, &done);
        int64_t open = 0, out = 0;
        for (int l = 0; l < 8; l++) {
            open |= ~done[l];
            out |= beyond[l];
        }
        if (!far && out) return SKLMM_FAR;
        if (open) continue;
        for (ptrdiff_t l = 0; l < k; l++) {
            m->u[i + l] = at[l];
            m->B[i + l] = B[l];
            m->R[i + l] = R[l];
            m->V[i + l] = V[l];
            m->V1[i + l] = V1[l];
            m->next[i + l] = next[l];
        }
        return 0;
    }
    return 1;
}

SKLMM_RARE int intercept_modes_far(const sklmm_block *b, const sklmm_modes *m, ptrdiff_t i, ptrdiff_t k, ptrdiff_t rows,
                                   double theta, double tol)
{
    return intercept_modes_of_eight(b, m, i, k, rows, theta, tol, 1);
}

/* Conditional modes: on return R, V, V1 and B belong to u, and `next` holds u after the last Newton step, which was below
 * tol: a better start for next time. */
SKLMM_CLONES int intercept_modes(sklmm_block *b, const sklmm_modes *m, double theta, double tol)
{
    for (ptrdiff_t i = 0, k; i < b->nc; i += k) {
        const int small = b->start[i + 1] - b->start[i] <= SKLMM_SMALL;
        ptrdiff_t rows = 1;
        for (k = 0; k < 8 && i + k < b->nc; k++) {
            const ptrdiff_t n = b->start[i + k + 1] - b->start[i + k];
            if ((n <= SKLMM_SMALL) != small) break;
            rows = n > rows ? n : rows;
        }
        if (!small) rows = 0;
        int failed = b->far ? SKLMM_FAR : intercept_modes_of_eight(b, m, i, k, rows, theta, tol, 0);
        if (failed == SKLMM_FAR) {
            b->far = 1;
            failed = intercept_modes_far(b, m, i, k, rows, theta, tol);
        }
        if (failed) return 1;
    }
    return 0;
}

/* --- adjoints ----------------------------------------------------------------------------------------------- */

/* Laplace: Gamma(H) = -log(H) / 2. Returns the value less the rows' log-likelihood. */
SKLMM_CLONES double intercept_laplace(ptrdiff_t nc, const sklmm_modes *m, double theta)
{
    v8d value = v8_set(0.0);
    for (ptrdiff_t i = 0; i < nc; i += 8) {
        const v8l here = v8_first(nc - i);
        const v8d H = 1.0 + theta * theta * v8_load(m->V + i), u = v8_load(m->u + i);
        const v8d C = -0.5 / H, c = theta * theta * C, kappa = theta * c * v8_load(m->V1 + i) / H;
        v8_store(m->H + i, H);
        v8_store(m->C + i, C);
        v8_store(m->c + i, c);
        v8_store(m->kappa + i, kappa);
        v8_store(m->k + i, theta * kappa);
        v8_store(m->xi + i, v8_set(0.5));
        value -= v8_keep(here, 0.5 * u * u + 0.5 * v8_log(v8_select(here, H, v8_set(1.0))));
    }
    return v8_sum(value);
}

/* --- row weights -------------------------------------------------------------------------------------------- */

/* Rows at the mode: writes v, v1, omega = v2 c - v1 k - v and g = v1 c - v k + r, the last terms of quadrature (`values`, else
 * NULL) being means over the nodes. Returns for Laplace the rows' log-likelihood, in which the logs of unit weights are
 * taken of products of 8; max(mu, 1 - mu) goes through q. A vector may reach into the next cluster's rows: those are
 * written after it. */
SKLMM_INLINE double intercept_rows_of(const sklmm_block *b, const sklmm_modes *m, const sklmm_node_values *values,
                                      double theta, double *v_out, double *v1_out, double *omega, double *g, double *q,
                                      const int far)
{
    const ptrdiff_t n = b->start[b->nc];
    const v8d zero = v8_set(0.0);
    v8d value = zero;
    for (ptrdiff_t i = 0; i < b->nc; i++) {
        const double shift = theta * m->u[i], B = m->B[i], c = m->c[i], k = m->k[i];
        for (ptrdiff_t j = b->start[i]; j < b->start[i + 1]; j += 8) {
            const v8l here = v8_first(b->start[i + 1] - j);
            const v8d e = odds(b, j, B, shift, far), w = v8_load(b->w + j), wy = v8_load(b->wy + j);
            const v8d x = v8_load(b->eta + j) + shift, inv = 1.0 / (1.0 + e), mu = e * inv, v = w * mu * inv;
            const v8d v1 = v * (1.0 - 2.0 * mu), v2 = v * (1.0 - 6.0 * mu * inv);
            value += v8_keep(here, wy * v8_min(x, zero) - (w - wy) * v8_max(x, zero));
            v8_store(q + j, v8_max(mu, inv));
            v8_store(v_out + j, v);
            v8_store(v1_out + j, v1);
            const v8d r = values ? v8_load(values->r_mean + j) : wy * inv - (w - wy) * mu;
            v8_store(omega + j, v2 * c - v1 * k - (values ? v8_load(values->v_mean + j) : v));
            v8_store(g + j, v1 * c - v * k + r);
        }
    }
    if (values) return 0.0; /* quadrature has the value */
    for (ptrdiff_t j = n; j < n + 8; j++) q[j] = 1.0;
    if (b->unweighted) {
        for (ptrdiff_t j = 0; j < n; j += 64) {
            v8d product = v8_load(q + j);
            for (ptrdiff_t l = j + 8; l < n && l < j + 64; l += 8) product *= v8_load(q + l);
            value += v8_log(product);
        }
    } else {
        for (ptrdiff_t j = 0; j < n; j += 8) value += v8_keep(v8_first(n - j), v8_load(b->w + j) * v8_log(v8_load(q + j)));
    }
    return v8_sum(value);
}

SKLMM_RARE double intercept_rows_far(const sklmm_block *b, const sklmm_modes *m, const sklmm_node_values *values,
                                     double theta, double *v_out, double *v1_out, double *omega, double *g, double *q)
{
    return intercept_rows_of(b, m, values, theta, v_out, v1_out, omega, g, q, 1);
}

SKLMM_CLONES double intercept_rows(const sklmm_block *b, const sklmm_modes *m, const sklmm_node_values *values,
                                   double theta, double *v_out, double *v1_out, double *omega, double *g, double *q)
{
    if (b->far) return intercept_rows_far(b, m, values, theta, v_out, v1_out, omega, g, q);
    return intercept_rows_of(b, m, values, theta, v_out, v1_out, omega, g, q, 0);
}

/* --- second derivatives ------------------------------------------------------------------------------------- */

/* What sum_r omega x x' lacks of the block's Hessian, as pairs of rows: Hessian = S + F + F', F = left' right, plus theta_row
 * in row `slot`. `sums` has by cluster the sums of v x, v1 x, omega x (and vz x with quadrature): nw x ld. Writes 2 (3) pairs a
 * cluster; with quadrature also the derivatives of u and of the nodes' spread into `moves` (2 x ld a cluster). Returns
 * the derivative of the value in theta. */
SKLMM_CLONES double intercept_assemble(ptrdiff_t nc, ptrdiff_t ld, ptrdiff_t slot, const sklmm_modes *m, double theta,
                                       const double *sums, double *left, double *right, double *theta_row,
                                       double *moves, double *scores)
{
    const ptrdiff_t nw = m->means ? 4 : 3, pairs = m->means ? 3 : 2;
    double gradient = 0.0, corner = 0.0;
    for (ptrdiff_t i = 0; i < nc; i++) {
        const double *M = sums + nw * i * ld, *T = M + ld, *O = T + ld, *Z = O + ld;
        const double u = m->u[i], R = m->R[i], V = m->V[i], V1 = m->V1[i], kappa = m->kappa[i], c = m->c[i];
        const double ih = 1.0 / m->H[i], D = m->C[i] * theta, rho = c * V1 - m->k[i] * V;
        const double du_theta = (R - theta * V * u) * ih, spread = M_SQRT2 * sqrt(ih), half_n = 0.5 * m->N[i];
        const sklmm_node_means *mean = m->means ? m->means + i : NULL;
        const double residual = (mean ? mean->r : R) + rho, half_xi = 0.5 * m->xi[i];
        double *l = left + pairs * i * ld, *r = right + pairs * i * ld;
        for (ptrdiff_t a = 0; a < ld; a += 8) {
            const v8l here = v8_first(slot + 1 - a);
            v8d du = v8_load(M + a) * (-theta * ih), K = v8_set(0.0);
            if (slot >= a && slot < a + 8) {
                du[slot - a] = du_theta;
                K[slot - a] = 1.0;
            }
            const v8d Q = theta * du + u * K, dM = v8_load(T + a) + V1 * Q;
            const v8d A = v8_keep(here, (theta * theta * dM + (2.0 * theta * V) * K) * ih);
            v8d row = residual * du + (2.0 * D) * dM - kappa * (v8_load(M + a) + V * Q);
            v8d partner = v8_load(O + a) + half_n * Q, with_u = -0.5 * du;
            if (mean) {
                const v8d dz = (-0.5 * spread) * A, Q1 = theta * dz + spread * K; /* d (u_k - u) = zeta_k dz */
                const v8d partner1 = v8_load(Z + a) - (0.5 * mean->zzv) * Q1;
                partner -= mean->zv * Q1;
                with_u -= mean->z * dz;
                row += mean->zr * dz + spread * partner1;
                v8_store(l + 2 * ld + a, dz);
                v8_store(r + 2 * ld + a, theta * partner1 - (0.5 * mean->zz) * dz);
                v8_store(moves + 2 * i * ld + a, v8_keep(here, du));
                v8_store(moves + (2 * i + 1) * ld + a, dz);
            }
            v8_store(l + a, v8_keep(here, du));
            v8_store(r + a, theta * partner + with_u);
            v8_store(l + ld + a, A);
            v8_store(r + ld + a, half_xi * A);
            v8_store(theta_row + a, v8_load(theta_row + a) + row + u * partner);
        }
        corner += m->C[i] * V;
        const double own = (mean ? mean->ru : R * u) + rho * u + 2.0 * V * D + kappa * R;
        if (scores) scores[i * ld + slot] = own;
        gradient += own;
    }
    theta_row[slot] += corner;
    return gradient;
}

#endif
