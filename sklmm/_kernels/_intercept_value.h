/* The log-likelihood of clusters with a random intercept by quadrature, without what derivatives need: products of
 * 1 + exp(x), and no division. Posteriors are sampled by it, where the value is all that is asked for: on 1,900 rows with 9
 * nodes a fifth of the time of _intercept_quadrature.h. */
#ifndef SKLMM_INTERCEPT_VALUE_H
#define SKLMM_INTERCEPT_VALUE_H

#include "_intercept_quadrature.h"

/* As intercept_quadrature, the value and H alone; `values->pi` is room for a number a node. Rows with weights, and linear predictors
 * far out, take its way. */
SKLMM_CLONES double intercept_quadrature_value(sklmm_block *b, const sklmm_modes *m, const sklmm_nodes *nodes,
                                               const sklmm_node_values *values, double theta)
{
    const ptrdiff_t K = nodes->padded;
    double value = 0.0, largest_u = 0.0;
    for (ptrdiff_t i = 0; i < b->nc; i++) largest_u = fmax(largest_u, fabs(m->u[i]));
    const int near = fabs(theta) * (largest_u + M_SQRT2 * nodes->zeta[nodes->k - 1]) <= SKLMM_CLAMP;
    if (!near || b->far || !b->unweighted) return intercept_quadrature(b, m, nodes, values, theta);
    for (ptrdiff_t i = 0; i < b->nc; i++) {
        const ptrdiff_t first = b->start[i], n = b->start[i + 1] - first;
        const double u = m->u[i], H = m->H[i] = 1.0 + theta * theta * m->V[i], spread = M_SQRT2 / sqrt(H);
        double eta_max = 0.0, wy_sum = 0.0, linear = 0.0;
        for (ptrdiff_t j = first; j < first + n; j++) {
            eta_max = b->eta[j] > eta_max ? b->eta[j] : eta_max;
            wy_sum += b->wy[j];
            linear += b->wy[j] * b->eta[j];
        }
        const double growth = eta_max + fabs(theta) * (fabs(u) + spread * nodes->zeta[nodes->k - 1]) + 0.7;
        const ptrdiff_t limit = growth > 350.0 ? 1 : (ptrdiff_t)(700.0 / growth);
        v8d top = v8_set(-INFINITY), sum = v8_set(0.0);
        for (ptrdiff_t a = 0; a < K; a += 8) {
            const v8d uk = u + spread * v8_load(nodes->zeta + a), shift = theta * uk, B = v8_exp(shift);
            v8d l = shift * wy_sum + linear;
            for (ptrdiff_t j = first; j < first + n; j += limit) {
                const ptrdiff_t last = j + limit < first + n ? j + limit : first + n;
                v8d product = v8_set(1.0);
                for (ptrdiff_t row = j; row < last; row++) product *= 1.0 + b->E[row] * B;
                l -= v8_log(product);
            }
            const v8d F = l - 0.5 * uk * uk + v8_load(nodes->log_w + a);
            v8_store(values->pi + a, F);
            top = v8_max(top, F);
        }
        const double largest = v8_largest(top);
        for (ptrdiff_t a = 0; a < K; a += 8)
            sum += v8_keep(v8_first(nodes->k - a), v8_exp(v8_load(values->pi + a) - largest));
        value += largest + log(v8_sum(sum)) - 0.5 * log(H);
    }
    return value;
}

#endif
