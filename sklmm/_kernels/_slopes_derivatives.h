/* Derivatives of the log-likelihood of a cluster with q random coefficients, from its mode and quadrature in _slopes.h: weights of its
 * rows, and what the sums over rows with these weights lack of its gradient and Hessian.
 */
#ifndef SKLMM_SLOPES_DERIVATIVES_H
#define SKLMM_SLOPES_DERIVATIVES_H

#include "_slopes.h"

/* --- row weights ---------------------------------------------------------------------------------------------- */

/* Rows at the mode: weights of the sums by cluster W = [v z_a | v1 z_a z_b | (space for omega z_a ...)] apart by `apart`, and
 * omega = v2 z'Ct z - v1 z'kt, g = v1 z'Ct z - v z'kt, for Laplace (own = 1) with -v and +r added. Returns the rows' log-likelihood
 * for Laplace. */
SKLMM_INLINE double slopes_rows_of(const int family, const sklmm_cluster *c, const sklmm_factor *f, const sklmm_mode *t,
                                   int laplace, double *W, ptrdiff_t apart, double *omega, double *g)
{
    const ptrdiff_t q = f->q;
    const double own = laplace ? 1.0 : 0.0;
    v8d value = v8_set(0.0);
    for (ptrdiff_t j = 0; j < c->n; j += 8) {
        const v8l here = v8_first(c->n - j);
        const v8d x = linear(c, j, t->b, q), w = v8_load(c->w + j), wy = v8_load(c->wy + j);
        const sklmm_response at = respond(family, x, w, wy, 4, laplace);
        const v8d cc = quadratic(c, j, t->Ct, q);
        v8d zk = v8_set(0.0);
        if (laplace) value += v8_keep(here, at.l);
        for (ptrdiff_t a = 0; a < q; a++) {
            const v8d z = v8_load(c->z + a * c->stride + j);
            zk += z * t->kt[a];
            v8_store(W + a * apart + j, at.v * z);
            for (ptrdiff_t b = 0; b <= a; b++)
                v8_store(W + (q + a * (a + 1) / 2 + b) * apart + j, at.v1 * z * v8_load(c->z + b * c->stride + j));
        }
        v8_store(omega + j, at.v2 * cc - at.v1 * zk - own * at.v);
        v8_store(g + j, at.v1 * cc - at.v * zk + own * at.r);
    }
    return v8_sum(value);
}

SKLMM_CLONES double slopes_rows(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_mode *t, int laplace, double *W,
                                ptrdiff_t apart, double *omega, double *g)
{
    return SKLMM_BY_FAMILY(c->family, slopes_rows_of, c, f, t, laplace, W, apart, omega, g);
}

/* Nodes k0 .. k0 + nk - 1 (nk <= 8): r_jk to r (nk arrays apart by `apart`), omega -= pi v, g += pi r, and
 * vz[b] -= pi zeta_b v (q arrays). */
SKLMM_INLINE void slopes_node_rows_of(const int family, const sklmm_cluster *c, const sklmm_factor *f, const sklmm_grid *grid,
                                      const sklmm_quadrature *v, ptrdiff_t k0, ptrdiff_t nk, double *r, ptrdiff_t apart,
                                      double *omega, double *g, double *vz)
{
    const ptrdiff_t q = f->q;
    for (ptrdiff_t k = k0; k < k0 + nk; k++) {
        const double pi = v->pi[k];
        double b[SKLMM_MAX_Q];
        for (ptrdiff_t a = 0; a < q; a++) {
            b[a] = 0.0;
            for (ptrdiff_t e = 0; e < q; e++) b[a] += f->Lambda[a * q + e] * v->u[k * q + e];
        }
        for (ptrdiff_t j = 0; j < c->n; j += 8) {
            const v8l here = v8_first(c->n - j);
            const sklmm_response at = respond(family, linear(c, j, b, q), v8_load(c->w + j), v8_load(c->wy + j), 2, 0);
            const v8d pv = v8_keep(here, pi * at.v);
            v8_store(r + (k - k0) * apart + j, at.r);
            v8_store(omega + j, v8_load(omega + j) - pv);
            v8_store(g + j, v8_load(g + j) + v8_keep(here, pi * at.r));
            for (ptrdiff_t a = 0; a < q; a++)
                v8_store(vz + a * apart + j, v8_load(vz + a * apart + j) - grid->zeta[k * q + a] * pv);
        }
    }
}

SKLMM_CLONES void slopes_node_rows(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_grid *grid,
                                   const sklmm_quadrature *v, ptrdiff_t k0, ptrdiff_t nk, double *r, ptrdiff_t apart,
                                   double *omega, double *g, double *vz)
{
    SKLMM_BY_FAMILY(c->family, slopes_node_rows_of, c, f, grid, v, k0, nk, r, apart, omega, g, vz);
}

/* out[a] = x * z_a for the q arrays behind it. */
SKLMM_CLONES void slopes_times_z(const sklmm_cluster *c, ptrdiff_t q, const double *x, double *out, ptrdiff_t apart)
{
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t j = 0; j < c->n; j += 8)
            v8_store(out + a * apart + j, v8_load(x + j) * v8_load(c->z + a * c->stride + j));
}

/* --- second derivatives --------------------------------------------------------------------------------------- */

/* y (ld) += a x */
SKLMM_INLINE void axpy(ptrdiff_t ld, double a, const double *x, double *y)
{
    if (a == 0.0) return;
    for (ptrdiff_t c = 0; c < ld; c += 8) v8_store(y + c, v8_load(y + c) + a * v8_load(x + c));
}

/* What sum_r omega x x' lacks of one cluster's Hessian: rows of left and right (F += left' right), and `theta_rows` (m x ld) added
 * to rows slot .. slot + m - 1 of F. `sums` (nw x ld): of v z_a (q), v1 z_a z_b (d), omega z_a (q) and, with quadrature,
 * -mean(zeta_b v) z_a (q x q, b outer), each times [x | 0 | z]. `moves` ((q + 1) q x ld) receives the derivatives of
 * u and of the nodes' spread. `work` holds (2 d + (q + 1) q + 1) ld. Adds to gradient; returns the number of rows. */
SKLMM_CLONES ptrdiff_t slopes_assemble(const sklmm_factor *f, const sklmm_mode *t, const sklmm_quadrature *v, ptrdiff_t ld,
                                       ptrdiff_t slot, ptrdiff_t z_slot, const double *sums, double *left, double *right,
                                       double *theta_rows, double *moves, double *work, double *gradient)
{
    const ptrdiff_t q = f->q, d = f->d, m = f->m, q1 = v ? q + 1 : 1, nu = q1 * q;
    const double *Mx = sums, *Tx = sums + q * ld, *Ox = Tx + d * ld, *Zx = Ox + q * ld;
    const int64_t *row = f->entry_row, *col = f->entry_col;
    double *U = moves, *Q = work, *dM = Q + nu * ld, *A = dM + d * ld, *G = A + d * ld;
    double M[SKLMM_MAX_Q * SKLMM_MAX_Q], ML[SKLMM_MAX_Q * SKLMM_MAX_Q];
    unpack(q, t->M, M);
    multiply(q, M, 0, f->Lambda, 0, ML);
    /* U[0] = du = H^-1 s_psi: in beta -Lambda' Mx, in theta_l e_col R_row - Lambda' M[:, row] u_col */
    memset(U, 0, nu * ld * sizeof(double));
    for (ptrdiff_t a = 0; a < q; a++) {
        for (ptrdiff_t k = 0; k < q; k++) axpy(ld, -f->Lambda[k * q + a], Mx + k * ld, U + a * ld);
        for (ptrdiff_t l = 0; l < m; l++)
            U[a * ld + slot + l] = (col[l] == a ? t->R[row[l]] : 0.0) - ML[row[l] * q + a] * t->u[col[l]];
    }
    solve_lower(q, t->L, U, ld);
    solve_upper(q, t->L, U, ld);
    /* Q = Lambda U + K: derivative of Lambda u (and of Lambda times the nodes' spread, below) */
#define SKLMM_LAMBDA_U(B, UNIT)                                                                                      \
    for (ptrdiff_t a = 0; a < q; a++) {                                                                              \
        double *out = Q + ((B) * q + a) * ld;                                                                        \
        memset(out, 0, ld * sizeof(double));                                                                         \
        for (ptrdiff_t k = 0; k < q; k++) axpy(ld, f->Lambda[a * q + k], U + ((B) * q + k) * ld, out);               \
        for (ptrdiff_t l = 0; l < m; l++)                                                                            \
            if (row[l] == a) out[slot + l] += (UNIT);                                                                \
    }
    SKLMM_LAMBDA_U(0, t->u[col[l]])
    /* dM = d sum v z z' */
    for (ptrdiff_t e = 0; e < d; e++) {
        memcpy(dM + e * ld, Tx + e * ld, ld * sizeof(double));
        for (ptrdiff_t k = 0; k < q; k++) axpy(ld, Tx[e * ld + z_slot + k], Q + k * ld, dM + e * ld);
    }
    /* A = L^-1 (Lambda' dM Lambda + explicit) L'^-1; P = Lambda L'^-1 whitens in one go */
    double P[SKLMM_MAX_Q * SKLMM_MAX_Q], Li[SKLMM_MAX_Q * SKLMM_MAX_Q], LiMLt[SKLMM_MAX_Q * SKLMM_MAX_Q];
    memset(Li, 0, q * q * sizeof(double));
    for (ptrdiff_t a = 0; a < q; a++) Li[a * q + a] = 1.0;
    solve_lower(q, t->L, Li, q);
    multiply(q, f->Lambda, 0, Li, 1, P);
    multiply(q, M, 0, P, 0, LiMLt); /* M Lambda L'^-1 */
    memset(A, 0, d * ld * sizeof(double));
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++) {
            double *out = A + packed(a, b) * ld;
            for (ptrdiff_t k = 0; k < q; k++)
                for (ptrdiff_t k2 = 0; k2 < q; k2++) axpy(ld, P[k * q + a] * P[k2 * q + b], dM + packed(k, k2) * ld, out);
            for (ptrdiff_t l = 0; l < m; l++)
                out[slot + l] += Li[a * q + col[l]] * LiMLt[row[l] * q + b] + Li[b * q + col[l]] * LiMLt[row[l] * q + a];
        }
    /* spread of the nodes: u_k = u + sum_b zeta_b sqrt(2) Lt e_b; its derivative is U[1 + b] */
    for (ptrdiff_t b = 0; b + 1 < q1; b++) {
        for (ptrdiff_t a = 0; a < q; a++)
            for (ptrdiff_t k = 0; k <= b; k++)
                axpy(ld, -M_SQRT2 * v->Lt[a * q + k] * (k == b ? 0.5 : 1.0), A + packed(b, k) * ld, U + ((b + 1) * q + a) * ld);
        SKLMM_LAMBDA_U(b + 1, M_SQRT2 * v->Lt[col[l] * q + b])
    }
#undef SKLMM_LAMBDA_U
    /* rows: -U'(moments)U/2, Q'(sums + V Q/2), A' Xi A/2 */
    ptrdiff_t rows = 0;
    for (ptrdiff_t i = 0; i < nu; i++, rows++) {
        double *out = right + rows * ld;
        memcpy(left + rows * ld, U + i * ld, ld * sizeof(double));
        memset(out, 0, ld * sizeof(double));
        if (!v) axpy(ld, -0.5, U + i * ld, out);
        else
            for (ptrdiff_t b = 0; b < q1; b++)
                axpy(ld, -0.5 * v->moment[(i / q) * q1 + b], U + (b * q + i % q) * ld, out);
    }
    for (ptrdiff_t i = 0; i < nu; i++, rows++) {
        const ptrdiff_t b = i / q, a = i % q;
        double *out = right + rows * ld;
        memcpy(left + rows * ld, Q + i * ld, ld * sizeof(double));
        memcpy(out, (b ? Zx + ((b - 1) * q + a) * ld : Ox + a * ld), ld * sizeof(double));
        for (ptrdiff_t b2 = 0; b2 < q1; b2++)
            for (ptrdiff_t k = 0; k < q; k++)
                axpy(ld, 0.5 * (b || b2 ? -v->V2[(b * q1 + b2) * d + packed(a, k)] : Ox[a * ld + z_slot + k]),
                     Q + (b2 * q + k) * ld, out);
    }
    for (ptrdiff_t a = 0, e = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++, e++, rows++) {
            double *out = right + rows * ld;
            memcpy(left + rows * ld, A + e * ld, ld * sizeof(double));
            memset(out, 0, ld * sizeof(double));
            if (!v) axpy(ld, a == b ? 0.25 : 0.5, A + e * ld, out);
            else
                for (ptrdiff_t e2 = 0; e2 < d; e2++) axpy(ld, 0.5 * v->Xi[e * d + e2], A + e2 * ld, out);
        }
    /* rows of theta, and its gradient */
    for (ptrdiff_t l = 0; l < m; l++) {
        const ptrdiff_t a = row[l], b = col[l];
        double *out = theta_rows + l * ld, g = t->rho[a] * t->u[b] + t->kappa[b] * t->R[a];
        axpy(ld, t->rho[a] + (v ? v->R1[a] : t->R[a]), U + b * ld, out);
        for (ptrdiff_t k = 1; k < q1; k++) axpy(ld, v->R1[k * q + a], U + (k * q + b) * ld, out);
        memcpy(G, Mx + a * ld, ld * sizeof(double));
        for (ptrdiff_t k = 0; k < q; k++) {
            axpy(ld, M[a * q + k], Q + k * ld, G);
            axpy(ld, 2.0 * t->D[b * q + k], dM + packed(a, k) * ld, out);
            g += 2.0 * M[a * q + k] * t->D[b * q + k];
        }
        axpy(ld, -t->kappa[b], G, out);
        for (ptrdiff_t l2 = 0; l2 < m; l2++) out[slot + l2] += t->C[b * q + col[l2]] * M[a * q + row[l2]];
        if (!v) g += t->R[a] * t->u[b];
        gradient[slot + l] += g;
    }
    return rows;
}

/* Nodes k0 .. k0 + nk - 1: rx (nk x ld) holds sum_j r_jk x_j; adds the theta entries and the moves. Also the theta
 * gradient's pi R u, and the mean (ld) of the rows. */
SKLMM_CLONES void slopes_node_gradients(const sklmm_factor *f, const sklmm_grid *grid, const sklmm_quadrature *v,
                                        ptrdiff_t ld, ptrdiff_t slot, const double *moves, double *rx, double *mean,
                                        double *gradient)
{
    const ptrdiff_t q = f->q;
    memset(mean, 0, ld * sizeof(double));
    for (ptrdiff_t k = 0; k < grid->k; k++) {
        double *out = rx + k * ld;
        for (ptrdiff_t l = 0; l < f->m; l++) {
            const double ru = v->R[k * q + f->entry_row[l]] * v->u[k * q + f->entry_col[l]];
            out[slot + l] = ru;
            gradient[slot + l] += v->pi[k] * ru;
        }
        for (ptrdiff_t a = 0; a < q; a++) {
            const double s = v->s[k * q + a];
            axpy(ld, s, moves + a * ld, out);
            for (ptrdiff_t b = 0; b < q; b++) axpy(ld, s * grid->zeta[k * q + b], moves + ((b + 1) * q + a) * ld, out);
        }
        axpy(ld, v->pi[k], out, mean);
    }
    for (ptrdiff_t k = 0; k < grid->k; k++) axpy(ld, -1.0, mean, rx + k * ld);
}

#endif
