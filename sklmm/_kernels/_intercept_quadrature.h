/* Adaptive Gauss-Hermite quadrature for clusters with a random intercept; notation as in _intercept.h.
 *
 * Short clusters are taken eight at a time, a lane each; in longer ones lanes are nodes.
 */
#ifndef SKLMM_INTERCEPT_QUADRATURE_H
#define SKLMM_INTERCEPT_QUADRATURE_H

#include "_intercept.h"

/* Sums over the rows of cluster i of r, v and the log-likelihood at eight nodes with theta u = shift and B = exp(shift). With unit
 * weights the latter is shift wy + linear - log of the product of q = 1 + E B, of which `limit` can be multiplied before a
 * logarithm is due. The rows' r and v are kept, K apart, unless r_out is NULL. */
SKLMM_INLINE v8d node_sums(const sklmm_block *b, ptrdiff_t i, v8d B, v8d shift, double wy_sum, double linear, ptrdiff_t limit,
                           v8d *r_sum, v8d *v_sum, ptrdiff_t K, double *r_out, double *v_out, const int far)
{
    const ptrdiff_t first = b->start[i], n = b->start[i + 1] - first;
    const double *E = b->E + first, *eta = b->eta + first, *w = b->w + first, *wy = b->wy + first;
    const int products = b->unweighted && !far;
    v8d r = v8_set(0.0), v = r, l = r, product = v8_set(1.0);
    ptrdiff_t factors = 0;
    for (ptrdiff_t j = 0; j < n; j++) {
        const v8d e = far ? v8_exp(eta[j] + shift) : E[j] * B, q = 1.0 + e, inv = 1.0 / q, mu = e * inv;
        const v8d rj = wy[j] * inv - (w[j] - wy[j]) * mu, vj = w[j] * mu * inv;
        r += rj;
        v += vj;
        if (r_out) {
            v8_store(r_out + j * K, rj);
            v8_store(v_out + j * K, vj);
        }
        if (!products) {
            l += logit_log_density(eta[j] + shift, v8_set(w[j]), v8_set(wy[j]), v8_max(mu, inv));
            continue;
        }
        product *= q;
        if (++factors == limit) {
            l -= v8_log(product);
            product = v8_set(1.0);
            factors = 0;
        }
    }
    *r_sum = r;
    *v_sum = v;
    return products ? shift * wy_sum + linear + (l - v8_log(product)) : l;
}

SKLMM_RARE void node_sums_far(const sklmm_block *b, ptrdiff_t i, const double *shift, double *sums, ptrdiff_t K, double *r_out,
                              double *v_out)
{
    v8d r, v;
    v8_store(sums, node_sums(b, i, v8_set(0.0), v8_load(shift), 0.0, 0.0, 1, &r, &v, K, r_out, v_out, 1));
    v8_store(sums + 8, r);
    v8_store(sums + 16, v);
}

/* Means over the nodes of what cluster i's rows first .. first + n - 1 hold; without kept r and v they are found again, and r
 * written to `again` (n x padded) unless that is NULL. */
SKLMM_APART void node_row_means(const sklmm_block *b, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n, const sklmm_nodes *nodes,
                                 const sklmm_node_values *values, double theta, double *again)
{
    const ptrdiff_t K = nodes->padded;
    const double *B_k = values->B + i * K, *u_k = values->u + i * K, *pi_k = values->pi + i * K;
    for (ptrdiff_t j = first; j < first + n; j++) {
        v8d v_mean = v8_set(0.0), zv_mean = v_mean, r_mean = v_mean;
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d pi = v8_load(pi_k + a);
            v8d r, v;
            if (values->r) {
                r = v8_load(values->r + j * K + a);
                v = v8_load(values->v + j * K + a);
            } else {
                const v8d e = b->far ? v8_exp(b->eta[j] + theta * v8_load(u_k + a)) : b->E[j] * v8_load(B_k + a);
                const v8d inv = 1.0 / (1.0 + e), mu = e * inv;
                r = b->wy[j] * inv - (b->w[j] - b->wy[j]) * mu;
                v = b->w[j] * mu * inv;
                if (again) v8_store(again + (j - first) * K + a, r);
            }
            r_mean += pi * r;
            v_mean += pi * v;
            zv_mean += pi * v * v8_load(nodes->zeta + a);
        }
        values->v_mean[j] = v8_sum(v_mean);
        values->r_mean[j] = v8_sum(r_mean);
        values->vz[j] = -v8_sum(zv_mean);
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
                                        double theta, const int far)
{
    const ptrdiff_t n_nodes = nodes->k, K = nodes->padded;
    const int products = b->unweighted && !far;
    const v8l here = v8_first(k);
    double E[8 * SKLMM_SHORT], x[8 * SKLMM_SHORT], w[8 * SKLMM_SHORT], wy[8 * SKLMM_SHORT];
    v8d r[SKLMM_FEW_NODES * SKLMM_SHORT], v[SKLMM_FEW_NODES * SKLMM_SHORT], block[8];
    v8d u_k[SKLMM_FEW_NODES], R_k[SKLMM_FEW_NODES], V_k[SKLMM_FEW_NODES], s_k[SKLMM_FEW_NODES], pi_k[SKLMM_FEW_NODES];
    v8d linear = v8_set(0.0), wy_sum = linear, top = v8_set(-INFINITY), total = linear;
    double eta_max = 0.0;
    for (ptrdiff_t l = 0; l < 8; l++) {
        const ptrdiff_t first = l < k ? b->start[i + l] : 0, n = l < k ? b->start[i + l + 1] - first : 0;
        for (ptrdiff_t j = 0; j < rows; j++) {
            const int in = j < n;
            const double eta = in ? b->eta[first + j] : 0.0;
            x[j * 8 + l] = eta;
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
        const v8d uk = u + spread * nodes->zeta[a], shift = theta * uk, B = v8_exp(shift);
        v8d r_sum = v8_set(0.0), v_sum = r_sum, logs = r_sum, product = v8_set(1.0);
        for (ptrdiff_t j = 0; j < rows; j++) {
            const v8d xj = v8_load(x + 8 * j) + shift, weight = v8_load(w + 8 * j), success = v8_load(wy + 8 * j);
            const v8d e = far ? v8_exp(xj) : v8_load(E + 8 * j) * B, q = 1.0 + e, inv = 1.0 / q, mu = e * inv;
            r_sum += r[a * rows + j] = success * inv - (weight - success) * mu;
            v_sum += v[a * rows + j] = weight * mu * inv;
            if (!products) logs += logit_log_density(xj, weight, success, v8_max(mu, inv));
            else {
                product *= q;
                if ((j + 1) % limit == 0) {
                    logs -= v8_log(product);
                    product = v8_set(1.0);
                }
            }
        }
        u_k[a] = uk;
        R_k[a] = r_sum;
        V_k[a] = v_sum;
        s_k[a] = theta * r_sum - uk;
        if (products) logs += shift * wy_sum + linear - v8_log(product);
        pi_k[a] = logs - 0.5 * uk * uk + nodes->log_w[a];
        top = v8_max(top, pi_k[a]);
    }
    for (ptrdiff_t a = 0; a < n_nodes; a++) total += pi_k[a] = v8_exp(pi_k[a] - top);
    const v8d zero = v8_set(0.0);
    v8d r_mean = zero, zr_mean = zero, v_mean = zero, zv_mean = zero, zzv_mean = zero, z_mean = zero, zz_mean = zero;
    v8d ru_mean = zero, s0 = zero, s1 = zero;
    const v8d scale = 1.0 / total;
    for (ptrdiff_t a = 0; a < n_nodes; a++) {
        const v8d pi = pi_k[a] *= scale, pz = pi * nodes->zeta[a];
        r_mean += pi * R_k[a];
        zr_mean += pz * R_k[a];
        v_mean += pi * V_k[a];
        zv_mean += pz * V_k[a];
        zzv_mean += pz * nodes->zeta[a] * V_k[a];
        z_mean += pz;
        zz_mean += pz * nodes->zeta[a];
        ru_mean += pi * R_k[a] * u_k[a];
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
        m->means[i + l] = (sklmm_node_means){r_mean[l], zr_mean[l], v_mean[l], zv_mean[l],
                                             zzv_mean[l], z_mean[l], zz_mean[l], ru_mean[l]};
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
    return v8_sum(v8_keep(here, top + 0.5 * v8_log(v8_select(here, total * total / H, v8_set(1.0)))));
}

SKLMM_RARE double quadrature_of_eight_far(const sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                          const sklmm_node_values *values, ptrdiff_t i, ptrdiff_t k, ptrdiff_t rows,
                                          double theta)
{
    return quadrature_of_eight(b, m, nodes, values, i, k, rows, theta, 1);
}

/* Adaptive Gauss-Hermite: nodes u_k = u + sqrt(2) zeta_k / sqrt(H), their posterior weights pi_k, the means and the adjoints.
 * Returns the sum of the clusters' log-likelihoods. */
SKLMM_CLONES double intercept_quadrature(sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                         const sklmm_node_values *values, double theta)
{
    const ptrdiff_t K = nodes->padded;
    double value = 0.0, largest_u = 0.0;
    for (ptrdiff_t i = 0; i < b->nc; i++) largest_u = fmax(largest_u, fabs(m->u[i]));
    if (!(fabs(theta) * (largest_u + M_SQRT2 * nodes->zeta[nodes->k - 1]) <= SKLMM_CLAMP)) b->far = 1;
    for (ptrdiff_t i = 0; i < b->nc; i++) {
        ptrdiff_t rows = 0, k = 0;
        for (; k < 8 && i + k < b->nc && nodes->k <= SKLMM_FEW_NODES; k++) {
            const ptrdiff_t n = b->start[i + k + 1] - b->start[i + k];
            if (n > SKLMM_SHORT) break;
            rows = n > rows ? n : rows;
        }
        if (k) {
            value += b->far ? quadrature_of_eight_far(b, m, nodes, values, i, k, rows, theta)
                            : quadrature_of_eight(b, m, nodes, values, i, k, rows, theta, 0);
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
            const v8d shift = theta * uk, B = v8_exp(shift);
            double *r_out = values->r ? values->r + first * K + a : NULL, *v_out = values->v + first * K + a;
            v8d r, v, l;
            if (b->far) {
                double sums[24];
                v8_store(B_k + a, shift);
                node_sums_far(b, i, B_k + a, sums, K, r_out, v_out);
                l = v8_load(sums);
                r = v8_load(sums + 8);
                v = v8_load(sums + 16);
            } else l = node_sums(b, i, B, shift, wy_sum, linear, limit, &r, &v, K, r_out, v_out, 0);
            const v8d F = l - 0.5 * uk * uk + v8_load(nodes->log_w + a);
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
        const v8d zero = v8_set(0.0);
        v8d r_mean = zero, zr_mean = zero, v_mean = zero, zv_mean = zero, zzv_mean = zero, z_mean = zero, zz_mean = zero;
        v8d ru_mean = zero, s0 = zero, s1 = zero;
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d pi = v8_load(pi_k + a) / total, z = v8_load(nodes->zeta + a);
            const v8d r = pi * v8_load(R_k + a), v = pi * v8_load(V_k + a), s = pi * v8_load(s_k + a);
            v8_store(pi_k + a, pi);
            r_mean += r;
            zr_mean += r * z;
            v_mean += v;
            zv_mean += v * z;
            zzv_mean += v * z * z;
            z_mean += pi * z;
            zz_mean += pi * z * z;
            ru_mean += r * v8_load(u_k + a);
            s0 += s;
            s1 += s * z;
        }
        m->means[i] = (sklmm_node_means){v8_sum(r_mean), v8_sum(zr_mean), v8_sum(v_mean), v8_sum(zv_mean),
                                         v8_sum(zzv_mean), v8_sum(z_mean), v8_sum(zz_mean), v8_sum(ru_mean)};
        v8d C, c, kappa, xi;
        node_adjoints(v8_set(v8_sum(s0)), v8_set(v8_sum(s1)), v8_set(H), v8_set(m->V1[i]), theta, &C, &c, &kappa, &xi);
        m->C[i] = C[0];
        m->c[i] = c[0];
        m->kappa[i] = kappa[0];
        m->k[i] = theta * kappa[0];
        m->xi[i] = xi[0];
        node_row_means(b, i, first, n, nodes, values, theta, NULL);
        value += largest + log(total) - 0.5 * log(H);
    }
    return value;
}

/* Residuals of rows first .. first + n - 1 of cluster i at its nodes (n x padded), where they have not been kept. */
SKLMM_CLONES void intercept_node_residuals(const sklmm_block *b, ptrdiff_t i, ptrdiff_t first, ptrdiff_t n,
                                           const sklmm_nodes *nodes, const sklmm_node_values *values, double theta,
                                           double *r)
{
    node_row_means(b, i, first, n, nodes, values, theta, r);
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
