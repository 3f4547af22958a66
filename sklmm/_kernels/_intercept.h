/* Clusters with a random intercept, a block of clusters at a time: eta = x'beta + theta u, one exp a row.
 *
 * exp(eta + theta u) = E * B with E = exp(x'beta) by row and B = exp(theta u) by cluster (and by node), so Newton steps and
 * quadrature nodes cost a division, not an exponential. Both exponents are clamped to +-350, beyond which the
 * probabilities have long been 0 or 1 in double precision.
 *
 * Names follow ARCHITECTURE.md, "Derivatives of a cluster": w weight, wy = w y, mu probability, r = w (y - mu),
 * v = w mu (1 - mu), v1 and v2 its first and second derivatives in eta; R, V, V1 their sums over a cluster at the
 * conditional mode u; H = 1 + theta^2 V; C, c, k, kappa the adjoints, xi the curvature of Gamma(H).
 */
#ifndef SKLMM_INTERCEPT_H
#define SKLMM_INTERCEPT_H

#include "_rows.h"
#include <math.h>

#define SKLMM_CLAMP 350.0

typedef struct { /* the rows of a block */
    ptrdiff_t nc;
    const int64_t *start; /* nc + 1 */
    const double *eta, *E, *w, *wy;
    int unweighted;
} sklmm_block;

/* Means over the nodes of one cluster with their posterior weights: of r, zeta r, v, zeta v, zeta^2 v, zeta, zeta^2, r u. */
typedef struct {
    double r0, r1, v0, v1, v2, z1, z2, ru;
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

SKLMM_INLINE void intercept_sums(ptrdiff_t n, const double *E, const double *w, const double *wy, double B, double *R,
                                 double *V, double *V1)
{
    v8d sr = v8_set(0.0), sv = sr, s1 = sr;
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const v8l here = v8_first(n - j);
        const v8d e = v8_load(E + j) * B, weight = v8_keep(here, v8_load(w + j));
        const v8d inv = 1.0 / (1.0 + e), mu = e * inv, v = weight * mu * inv;
        const v8d success = v8_keep(here, v8_load(wy + j));
        sr += success * inv - (weight - success) * mu; /* not wy - w mu, which cancels where mu is near 1 */
        sv += v;
        s1 += v * (1.0 - 2.0 * mu);
    }
    *R = v8_sum(sr);
    *V = v8_sum(sv);
    *V1 = v8_sum(s1);
}

/* Eight clusters of up to this many rows are summed with a lane each; in longer ones lanes are rows. */
#define SKLMM_SMALL 16

/* Newton on s(u) = theta R(u) - u, which decreases strictly, inside a bracket that each evaluation narrows: it cannot fail.
 * One step of it: narrows [lo, hi], says in `done` which lanes are within tol, and moves the others. */
SKLMM_INLINE void newton_in_bracket(v8d s, v8d slope, double tol, v8d *u, v8d *lo, v8d *hi, v8d *next, v8l *done)
{
    const v8d step = s / slope, small = tol * (1.0 + v8_max(*u, -*u));
    *lo = v8_select(s > 0.0, *u, *lo);
    *hi = v8_select(s > 0.0, *hi, *u);
    *next = *u + step;
    *done |= (v8_max(step, -step) <= small) | (*hi - *lo <= small);
    const v8d moved = v8_select((*next > *lo) & (*next < *hi), *next, 0.5 * (*lo + *hi));
    *u = v8_select(*done, *u, moved);
}

/* Modes of clusters i .. i + k - 1 (k <= 8), of at most `rows` <= SKLMM_SMALL rows, or longer ones if rows is 0. They step
 * together, a lane each, so that latencies overlap. */
SKLMM_INLINE int intercept_modes_of_eight(const sklmm_block *b, const sklmm_modes *m, ptrdiff_t i, ptrdiff_t k,
                                          ptrdiff_t rows, double theta, double tol)
{
    double E[8 * SKLMM_SMALL], w[8 * SKLMM_SMALL], wy[8 * SKLMM_SMALL], r_sum[8] = {0}, v_sum[8] = {0}, v1_sum[8] = {0};
    for (ptrdiff_t l = 0; rows && l < 8; l++) {
        const ptrdiff_t first = l < k ? b->start[i + l] : 0, n = l < k ? b->start[i + l + 1] - first : 0;
        for (ptrdiff_t j = 0; j < rows; j++) {
            E[j * 8 + l] = j < n ? b->E[first + j] : 1.0;
            w[j * 8 + l] = j < n ? b->w[first + j] : 0.0;
            wy[j * 8 + l] = j < n ? b->wy[first + j] : 0.0;
        }
    }
    const v8d clamp = v8_set(SKLMM_CLAMP);
    v8d u = v8_keep(v8_first(k), v8_load(m->u + i)), lo = v8_set(-INFINITY), hi = v8_set(INFINITY), next = u;
    v8l done = ~v8_first(k);
    for (int round = 0; round < 200; round++) {
        const v8d B = v8_exp(v8_min(v8_max(theta * u, -clamp), clamp));
        v8d R = v8_set(0.0), V = R, V1 = R;
        for (ptrdiff_t j = 0; j < rows; j++) {
            const v8d e = v8_load(E + 8 * j) * B, weight = v8_load(w + 8 * j), success = v8_load(wy + 8 * j);
            const v8d inv = 1.0 / (1.0 + e), mu = e * inv, v = weight * mu * inv;
            R += success * inv - (weight - success) * mu;
            V += v;
            V1 += v * (1.0 - 2.0 * mu);
        }
        if (!rows) {
            for (ptrdiff_t l = 0; l < k; l++) {
                if (done[l]) continue;
                const ptrdiff_t first = b->start[i + l];
                intercept_sums(b->start[i + l + 1] - first, b->E + first, b->w + first, b->wy + first, B[l], r_sum + l,
                               v_sum + l, v1_sum + l);
            }
            R = v8_load(r_sum);
            V = v8_load(v_sum);
            V1 = v8_load(v1_sum);
        }
        const v8d at = u;
        newton_in_bracket(theta * R - u, 1.0 + theta * theta * V, tol, &u, &lo, &hi, &next, &done);
        int64_t open = 0;
        for (int l = 0; l < 8; l++) open |= ~done[l];
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

/* Conditional modes: on return R, V, V1 and B belong to u, and `next` holds u after the last Newton step, which was below
 * tol: a better start for next time. */
SKLMM_CLONES int intercept_modes(const sklmm_block *b, const sklmm_modes *m, double theta, double tol)
{
    for (ptrdiff_t i = 0, k; i < b->nc; i += k) {
        const int small = b->start[i + 1] - b->start[i] <= SKLMM_SMALL;
        ptrdiff_t rows = 1;
        for (k = 0; k < 8 && i + k < b->nc; k++) {
            const ptrdiff_t n = b->start[i + k + 1] - b->start[i + k];
            if ((n <= SKLMM_SMALL) != small) break;
            rows = n > rows ? n : rows;
        }
        if (intercept_modes_of_eight(b, m, i, k, small ? rows : 0, theta, tol)) return 1;
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

/* Sums over one cluster's rows of r, v and log q at eight nodes; `limit` factors q = 1 + E B can be multiplied before a
 * logarithm is due. The rows' r and v are kept, K apart, unless r_out is NULL. */
SKLMM_INLINE void node_sums(ptrdiff_t n, const double *E, const double *w, const double *wy, v8d B, int unweighted,
                            ptrdiff_t limit, v8d *r_sum, v8d *v_sum, v8d *log_sum, ptrdiff_t K, double *r_out,
                            double *v_out)
{
    v8d r = v8_set(0.0), v = r, l = r, product = v8_set(1.0);
    ptrdiff_t factors = 0;
    for (ptrdiff_t j = 0; j < n; j++) {
        const v8d e = E[j] * B, q = 1.0 + e, inv = 1.0 / q, mu = e * inv;
        const v8d rj = wy[j] * inv - (w[j] - wy[j]) * mu, vj = w[j] * mu * inv;
        r += rj;
        v += vj;
        if (r_out) {
            v8_store(r_out + j * K, rj);
            v8_store(v_out + j * K, vj);
        }
        if (!unweighted) {
            l += w[j] * v8_log(q);
            continue;
        }
        product *= q;
        if (++factors == limit) {
            l += v8_log(product);
            product = v8_set(1.0);
            factors = 0;
        }
    }
    *r_sum = r;
    *v_sum = v;
    *log_sum = l + v8_log(product);
}

/* Means over the nodes of what cluster i's rows first .. first + n - 1 hold; without kept r and v they are found again, and r
 * written to `again` (n x padded) unless that is NULL. */
SKLMM_INLINE void node_row_means(const sklmm_block *b, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n, const sklmm_nodes *nodes,
                                 const sklmm_node_values *values, double *again)
{
    const ptrdiff_t K = nodes->padded;
    const double *B_k = values->B + i * K, *pi_k = values->pi + i * K;
    for (ptrdiff_t j = first; j < first + n; j++) {
        v8d v0 = v8_set(0.0), v1 = v0, r0 = v0;
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d pi = v8_load(pi_k + a);
            v8d r, v;
            if (values->r) {
                r = v8_load(values->r + j * K + a);
                v = v8_load(values->v + j * K + a);
            } else {
                const v8d e = b->E[j] * v8_load(B_k + a), inv = 1.0 / (1.0 + e), mu = e * inv;
                r = b->wy[j] * inv - (b->w[j] - b->wy[j]) * mu;
                v = b->w[j] * mu * inv;
                if (again) v8_store(again + (j - first) * K + a, r);
            }
            r0 += pi * r;
            v0 += pi * v;
            v1 += pi * v * v8_load(nodes->zeta + a);
        }
        values->v_mean[j] = v8_sum(v0);
        values->r_mean[j] = v8_sum(r0);
        values->vz[j] = -v8_sum(v1);
    }
}

/* Adjoints of a cluster (or of eight, a lane each): C, c, kappa and xi from the sums S0 = sum pi s, S1 = sum pi s zeta. */
SKLMM_INLINE void node_adjoints(v8d S0, v8d S1, v8d H, v8d V1, double theta, v8d *C, v8d *c, v8d *kappa, v8d *xi)
{
    const v8d Y = S1 / v8_sqrt(H);
    *C = (-M_SQRT1_2 * Y - 0.5) / H;
    *c = theta * theta * *C;
    *kappa = (S0 + theta * *c * V1) / H;
    *xi = 0.5 + 0.75 * M_SQRT2 * Y;
}

/* Clusters i .. i + k - 1 (k <= 8) of at most `rows` <= SKLMM_SHORT rows, a lane each; see intercept_quadrature. */
#define SKLMM_SHORT 8
#define SKLMM_FEW_NODES 32
SKLMM_INLINE double quadrature_of_eight(const sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                        const sklmm_node_values *values, ptrdiff_t i, ptrdiff_t k, ptrdiff_t rows,
                                        double theta)
{
    const ptrdiff_t n_nodes = nodes->k, K = nodes->padded;
    const v8l here = v8_first(k);
    const v8d clamp = v8_set(SKLMM_CLAMP);
    double E[8 * SKLMM_SHORT], w[8 * SKLMM_SHORT], wy[8 * SKLMM_SHORT];
    v8d r[SKLMM_FEW_NODES * SKLMM_SHORT], v[SKLMM_FEW_NODES * SKLMM_SHORT], block[8];
    v8d u_k[SKLMM_FEW_NODES], R_k[SKLMM_FEW_NODES], V_k[SKLMM_FEW_NODES], s_k[SKLMM_FEW_NODES], pi_k[SKLMM_FEW_NODES];
    v8d linear = v8_set(0.0), wy_sum = linear, top = v8_set(-INFINITY), total = linear;
    double eta_max = 0.0;
    for (ptrdiff_t l = 0; l < 8; l++) {
        const ptrdiff_t first = l < k ? b->start[i + l] : 0, n = l < k ? b->start[i + l + 1] - first : 0;
        for (ptrdiff_t j = 0; j < rows; j++) {
            const int in = j < n;
            const double eta = in ? b->eta[first + j] : 0.0;
            E[j * 8 + l] = in ? b->E[first + j] : 0.0; /* E = 0: the factor 1 + E B of a row that is not there is 1 */
            w[j * 8 + l] = in ? b->w[first + j] : 0.0;
            wy[j * 8 + l] = in ? b->wy[first + j] : 0.0;
            linear[l] += wy[j * 8 + l] * eta;
            eta_max = eta > eta_max ? eta : eta_max;
        }
    }
    for (ptrdiff_t j = 0; j < rows; j++) wy_sum += v8_load(wy + 8 * j);
    const v8d u = v8_keep(here, v8_load(m->u + i)), V = v8_keep(here, v8_load(m->V + i));
    const v8d H = 1.0 + theta * theta * V, spread = M_SQRT2 / v8_sqrt(H);
    const v8d reach = fabs(theta) * (v8_max(u, -u) + spread * nodes->zeta[n_nodes - 1]);
    const double growth = eta_max + v8_largest(reach) + 0.7;
    const ptrdiff_t limit = growth > 350.0 ? 1 : (ptrdiff_t)(700.0 / growth);
    for (ptrdiff_t a = 0; a < n_nodes; a++) {
        const v8d uk = u + spread * nodes->zeta[a], tu = v8_min(v8_max(theta * uk, -clamp), clamp), B = v8_exp(tu);
        v8d r_sum = v8_set(0.0), v_sum = r_sum, logs = r_sum, product = v8_set(1.0);
        for (ptrdiff_t j = 0; j < rows; j++) {
            const v8d e = v8_load(E + 8 * j) * B, weight = v8_load(w + 8 * j), success = v8_load(wy + 8 * j);
            const v8d q = 1.0 + e, inv = 1.0 / q, mu = e * inv;
            r_sum += r[a * rows + j] = success * inv - (weight - success) * mu;
            v_sum += v[a * rows + j] = weight * mu * inv;
            if (!b->unweighted) logs += weight * v8_log(q);
            else {
                product *= q;
                if ((j + 1) % limit == 0) {
                    logs += v8_log(product);
                    product = v8_set(1.0);
                }
            }
        }
        u_k[a] = uk;
        R_k[a] = r_sum;
        V_k[a] = v_sum;
        s_k[a] = theta * r_sum - uk;
        pi_k[a] = tu * wy_sum - logs - v8_log(product) - 0.5 * uk * uk + nodes->log_w[a];
        top = v8_max(top, pi_k[a]);
    }
    for (ptrdiff_t a = 0; a < n_nodes; a++) total += pi_k[a] = v8_exp(pi_k[a] - top);
    v8d r0 = v8_set(0.0), r1 = r0, v0 = r0, v1 = r0, v2 = r0, z1 = r0, z2 = r0, ru = r0, s0 = r0, s1 = r0;
    const v8d scale = 1.0 / total;
    for (ptrdiff_t a = 0; a < n_nodes; a++) {
        const v8d pi = pi_k[a] *= scale, pz = pi * nodes->zeta[a];
        r0 += pi * R_k[a];
        r1 += pz * R_k[a];
        v0 += pi * V_k[a];
        v1 += pz * V_k[a];
        v2 += pz * nodes->zeta[a] * V_k[a];
        z1 += pz;
        z2 += pz * nodes->zeta[a];
        ru += pi * R_k[a] * u_k[a];
        s0 += pi * s_k[a];
        s1 += pz * s_k[a];
    }
    v8d C, c, kappa, xi;
    node_adjoints(s0, s1, H, v8_load(m->V1 + i), theta, &C, &c, &kappa, &xi);
    /* lanes from k on belong to clusters that are written later, or to none */
    v8_store(m->H + i, H);
    v8_store(m->C + i, C);
    v8_store(m->c + i, c);
    v8_store(m->kappa + i, kappa);
    v8_store(m->k + i, theta * kappa);
    v8_store(m->xi + i, xi);
    for (ptrdiff_t l = 0; l < k; l++)
        m->means[i + l] = (sklmm_node_means){r0[l], r1[l], v0[l], v1[l], v2[l], z1[l], z2[l], ru[l]};
    for (ptrdiff_t j = 0; j < rows; j++) {
        v8d rj = v8_set(0.0), vj = rj, zj = rj;
        for (ptrdiff_t a = 0; a < n_nodes; a++) {
            const v8d pv = pi_k[a] * v[a * rows + j];
            rj += pi_k[a] * r[a * rows + j];
            vj += pv;
            zj -= nodes->zeta[a] * pv;
        }
        for (ptrdiff_t l = 0; l < k; l++)
            if (b->start[i + l] + j < b->start[i + l + 1]) {
                values->r_mean[b->start[i + l] + j] = rj[l];
                values->v_mean[b->start[i + l] + j] = vj[l];
                values->vz[b->start[i + l] + j] = zj[l];
            }
    }
    /* lanes back to nodes, for the sums over rows and nodes that follow */
#define SKLMM_BY_CLUSTER(FROM, TO)                                                                                   \
    for (ptrdiff_t a = 0; a < n_nodes; a += 8) {                                                                     \
        for (ptrdiff_t l = 0; l < 8; l++) block[l] = a + l < n_nodes ? (FROM) : v8_set(0.0);                          \
        v8_transpose(block);                                                                                         \
        for (ptrdiff_t l = 0; l < k; l++) v8_store((TO) + (i + l) * K + a, block[l]);                                 \
    }
    SKLMM_BY_CLUSTER(u_k[a + l], values->u)
    SKLMM_BY_CLUSTER(R_k[a + l], values->R)
    SKLMM_BY_CLUSTER(s_k[a + l], values->s)
    SKLMM_BY_CLUSTER(pi_k[a + l], values->pi)
#undef SKLMM_BY_CLUSTER
    for (ptrdiff_t j = 0; j < rows; j++)
        for (ptrdiff_t a = 0; a < n_nodes; a += 8) {
            for (ptrdiff_t l = 0; l < 8; l++) block[l] = a + l < n_nodes ? r[(a + l) * rows + j] : v8_set(0.0);
            v8_transpose(block);
            for (ptrdiff_t l = 0; l < k; l++)
                if (b->start[i + l] + j < b->start[i + l + 1]) v8_store(values->r + (b->start[i + l] + j) * K + a, block[l]);
        }
    return v8_sum(v8_keep(here, linear + top + 0.5 * v8_log(v8_select(here, total * total / H, v8_set(1.0)))));
}

/* Adaptive Gauss-Hermite: nodes u_k = u + sqrt(2) zeta_k / sqrt(H), their posterior weights pi_k, the means and the adjoints.
 * Returns the sum of the clusters' log-likelihoods. */
SKLMM_CLONES double intercept_quadrature(const sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                         const sklmm_node_values *values, double theta)
{
    const ptrdiff_t K = nodes->padded;
    const v8d clamp = v8_set(SKLMM_CLAMP);
    double value = 0.0;
    for (ptrdiff_t i = 0; i < b->nc; i++) {
        ptrdiff_t rows = 0, k = 0;
        for (; k < 8 && i + k < b->nc && nodes->k <= SKLMM_FEW_NODES; k++) {
            const ptrdiff_t n = b->start[i + k + 1] - b->start[i + k];
            if (n > SKLMM_SHORT) break;
            rows = n > rows ? n : rows;
        }
        if (k) {
            value += quadrature_of_eight(b, m, nodes, values, i, k, rows, theta);
            i += k - 1;
            continue;
        }
        const ptrdiff_t first = b->start[i], n = b->start[i + 1] - first;
        const double u = m->u[i], H = m->H[i] = 1.0 + theta * theta * m->V[i], root = sqrt(H), spread = M_SQRT2 / root;
        double *u_k = values->u + i * K, *B_k = values->B + i * K, *R_k = values->R + i * K, *V_k = values->V + i * K;
        double *s_k = values->s + i * K, *pi_k = values->pi + i * K;
        double eta_max = 0.0, wy_sum = 0.0, linear = 0.0;
        v8d top = v8_set(-INFINITY), sum = v8_set(0.0);
        for (ptrdiff_t j = first; j < first + n; j++) {
            eta_max = b->eta[j] > eta_max ? b->eta[j] : eta_max;
            wy_sum += b->wy[j];
            linear += b->wy[j] * b->eta[j];
        }
        const double growth = eta_max + fabs(theta) * (fabs(u) + spread * nodes->zeta[nodes->k - 1]) + 0.7;
        const ptrdiff_t limit = growth > 350.0 ? 1 : (ptrdiff_t)(700.0 / growth);
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d uk = u + spread * v8_load(nodes->zeta + a);
            const v8d tu = v8_min(v8_max(theta * uk, -clamp), clamp), B = v8_exp(tu);
            v8d r, v, l;
            node_sums(n, b->E + first, b->w + first, b->wy + first, B, b->unweighted, limit, &r, &v, &l, K,
                      values->r ? values->r + first * K + a : NULL, values->v + first * K + a);
            const v8d F = tu * wy_sum - l - 0.5 * uk * uk + v8_load(nodes->log_w + a);
            v8_store(u_k + a, uk);
            v8_store(B_k + a, B);
            v8_store(R_k + a, r);
            v8_store(V_k + a, v);
            v8_store(s_k + a, theta * r - uk);
            v8_store(pi_k + a, F);
            top = v8_max(top, F);
        }
        const double largest = v8_largest(top);
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d weight = v8_exp(v8_load(pi_k + a) - largest);
            const v8d pi = v8_keep(v8_first(nodes->k - a), weight);
            v8_store(pi_k + a, pi);
            sum += pi;
        }
        const double total = v8_sum(sum);
        v8d r0 = v8_set(0.0), r1 = r0, v0 = r0, v1 = r0, v2 = r0, z1 = r0, z2 = r0, ru = r0, s0 = r0, s1 = r0;
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d pi = v8_load(pi_k + a) / total, z = v8_load(nodes->zeta + a);
            const v8d r = pi * v8_load(R_k + a), v = pi * v8_load(V_k + a), s = pi * v8_load(s_k + a);
            v8_store(pi_k + a, pi);
            r0 += r;
            r1 += r * z;
            v0 += v;
            v1 += v * z;
            v2 += v * z * z;
            z1 += pi * z;
            z2 += pi * z * z;
            ru += r * v8_load(u_k + a);
            s0 += s;
            s1 += s * z;
        }
        m->means[i] = (sklmm_node_means){v8_sum(r0), v8_sum(r1), v8_sum(v0), v8_sum(v1),
                                         v8_sum(v2), v8_sum(z1), v8_sum(z2), v8_sum(ru)};
        v8d C, c, kappa, xi;
        node_adjoints(v8_set(v8_sum(s0)), v8_set(v8_sum(s1)), v8_set(H), v8_set(m->V1[i]), theta, &C, &c, &kappa, &xi);
        m->C[i] = C[0];
        m->c[i] = c[0];
        m->kappa[i] = kappa[0];
        m->k[i] = theta * kappa[0];
        m->xi[i] = xi[0];
        node_row_means(b, i, first, n, nodes, values, NULL);
        value += linear + largest + log(total) - 0.5 * log(H);
    }
    return value;
}

/* --- row weights -------------------------------------------------------------------------------------------- */

/* Rows at the mode: writes v, v1, omega = v2 c - v1 k - v and g = v1 c - v k + r, the last terms of quadrature (`values`, else
 * NULL) being means over the nodes. Returns for Laplace sum wy (eta + theta u) - w log q, where unit weights let the logs be
 * taken of products of 8. A vector may reach into the next cluster's rows: those are written after it. */
SKLMM_CLONES double intercept_rows(const sklmm_block *b, const sklmm_modes *m, const sklmm_node_values *values,
                                   double theta, double *v_out, double *v1_out, double *omega, double *g, double *q)
{
    const ptrdiff_t n = b->start[b->nc];
    v8d value = v8_set(0.0), largest = v8_set(0.0);
    for (ptrdiff_t i = 0; i < b->nc; i++) {
        const double raw = theta * m->u[i], shift = fmin(fmax(raw, -SKLMM_CLAMP), SKLMM_CLAMP);
        const double B = m->B[i], c = m->c[i], k = m->k[i];
        for (ptrdiff_t j = b->start[i]; j < b->start[i + 1]; j += 8) {
            const v8l here = v8_first(b->start[i + 1] - j);
            const v8d e = v8_load(b->E + j) * B, w = v8_load(b->w + j), wy = v8_load(b->wy + j);
            const v8d one = 1.0 + e, inv = 1.0 / one, mu = e * inv, v = w * mu * inv;
            const v8d v1 = v * (1.0 - 2.0 * mu), v2 = v * (1.0 - 6.0 * mu * inv);
            value += v8_keep(here, wy * (v8_load(b->eta + j) + shift));
            largest = v8_max(largest, v8_keep(here, one));
            v8_store(q + j, one);
            v8_store(v_out + j, v);
            v8_store(v1_out + j, v1);
            const v8d r = values ? v8_load(values->r_mean + j) : wy * inv - (w - wy) * mu;
            v8_store(omega + j, v2 * c - v1 * k - (values ? v8_load(values->v_mean + j) : v));
            v8_store(g + j, v1 * c - v * k + r);
        }
    }
    if (values) return 0.0; /* quadrature has the value */
    double top = 0.0;
    for (int l = 0; l < 8; l++) top = largest[l] > top ? largest[l] : top;
    if (b->unweighted && top < 1e38) {
        for (ptrdiff_t j = n; j < n + 8; j++) q[j] = 1.0;
        for (ptrdiff_t j = 0; j < n; j += 64) {
            v8d product = v8_load(q + j);
            for (ptrdiff_t l = j + 8; l < n && l < j + 64; l += 8) product *= v8_load(q + l);
            value -= v8_log(product);
        }
    } else {
        for (ptrdiff_t j = 0; j < n; j += 8) {
            const v8l here = v8_first(n - j);
            value -= v8_keep(here, v8_load(b->w + j) * v8_log(v8_select(here, v8_load(q + j), v8_set(1.0))));
        }
    }
    return v8_sum(value);
}

/* Residuals of rows first .. first + n - 1 of cluster i at its nodes (n x padded), where they have not been kept. */
SKLMM_CLONES void intercept_node_residuals(const sklmm_block *b, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n,
                                           const sklmm_nodes *nodes, const sklmm_node_values *values, double *r)
{
    node_row_means(b, i, first, n, nodes, values, r);
}

/* --- second derivatives ------------------------------------------------------------------------------------- */

/* What sum_r omega x x' lacks of the block's Hessian, as pairs of rows: Hessian = S + F + F', F = left' right, plus theta_row
 * in row `slot`. `sums` has by cluster the sums of v x, v1 x, omega x (and vz x with quadrature): nw x ld. Writes 2 (3) pairs a
 * cluster; with quadrature also the derivatives of u and of the nodes' spread into `moves` (2 x ld a cluster). Returns
 * the derivative of the value in theta. */
SKLMM_CLONES double intercept_assemble(ptrdiff_t nc, ptrdiff_t ld, ptrdiff_t slot, const sklmm_modes *m, double theta,
                                       const double *sums, double *left, double *right, double *theta_row,
                                       double *moves)
{
    const ptrdiff_t nw = m->means ? 4 : 3, pairs = m->means ? 3 : 2;
    double gradient = 0.0, corner = 0.0;
    for (ptrdiff_t i = 0; i < nc; i++) {
        const double *M = sums + nw * i * ld, *T = M + ld, *O = T + ld, *Z = O + ld;
        const double u = m->u[i], R = m->R[i], V = m->V[i], V1 = m->V1[i], kappa = m->kappa[i], c = m->c[i];
        const double ih = 1.0 / m->H[i], D = m->C[i] * theta, rho = c * V1 - m->k[i] * V;
        const double du_theta = (R - theta * V * u) * ih, spread = M_SQRT2 * sqrt(ih), half_n = 0.5 * m->N[i];
        const sklmm_node_means *mean = m->means ? m->means + i : NULL;
        const double residual = (mean ? mean->r0 : R) + rho, half_xi = 0.5 * m->xi[i];
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
                const v8d partner1 = v8_load(Z + a) - (0.5 * mean->v2) * Q1;
                partner -= mean->v1 * Q1;
                with_u -= mean->z1 * dz;
                row += mean->r1 * dz + spread * partner1;
                v8_store(l + 2 * ld + a, dz);
                v8_store(r + 2 * ld + a, theta * partner1 - (0.5 * mean->z2) * dz);
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
        gradient += (mean ? mean->ru : R * u) + rho * u + 2.0 * V * D + kappa * R;
    }
    theta_row[slot] += corner;
    return gradient;
}

/* Derivatives of the log-likelihood of clusters i0 .. i1 - 1 at each node, centred: rx (nodes of each x ld) holds
 * sum_j r_jk x_j on entry. Their weights pi go to `weights`: rx' diag(weights) rx is the variance over the nodes. */
SKLMM_CLONES void intercept_node_gradients(ptrdiff_t i0, ptrdiff_t i1, ptrdiff_t ld, ptrdiff_t slot,
                                           const sklmm_nodes *nodes, const sklmm_node_values *values,
                                           const double *moves, double *rx, double *weights)
{
    const ptrdiff_t K = nodes->padded, n = nodes->k;
    for (ptrdiff_t i = i0; i < i1; i++, rx += n * ld, weights += n) {
        const double *s_k = values->s + i * K, *pi_k = values->pi + i * K;
        for (ptrdiff_t k = 0; k < n; k++) {
            rx[k * ld + slot] += values->R[i * K + k] * values->u[i * K + k];
            weights[k] = pi_k[k];
        }
        for (ptrdiff_t a = 0; a < ld; a += 8) {
            const v8d du = v8_load(moves + 2 * i * ld + a), dz = v8_load(moves + (2 * i + 1) * ld + a);
            v8d mean = v8_set(0.0);
            for (ptrdiff_t k = 0; k < n; k++) {
                const v8d d = v8_load(rx + k * ld + a) + s_k[k] * (du + nodes->zeta[k] * dz);
                v8_store(rx + k * ld + a, d);
                mean += pi_k[k] * d;
            }
            for (ptrdiff_t k = 0; k < n; k++) v8_store(rx + k * ld + a, v8_load(rx + k * ld + a) - mean);
        }
    }
}

#endif
