/* A cluster with q random coefficients: eta = x'beta + z' Lambda u, u ~ N(0, I).
 *
 * The same quantities as _intercept.h, with vectors for scalars; one cluster at a time, lanes are rows. Notation as in
 * ARCHITECTURE.md, "Derivatives of a cluster".
 */
#ifndef SKLMM_SLOPES_H
#define SKLMM_SLOPES_H

#include "_rows.h"
#include "_search.h"
#include "_smallmat.h"
#include <math.h>
#include <string.h>

#define SKLMM_MAX_Q 16
#define SKLMM_MAX_D (SKLMM_MAX_Q * (SKLMM_MAX_Q + 1) / 2)

typedef struct {
    ptrdiff_t q, d, m;              /* random coefficients, packed entries, entries of theta */
    const int64_t *entry_row, *entry_col; /* theta[l] is Lambda[entry_row[l], entry_col[l]] */
    const double *Lambda;           /* q x q */
} sklmm_factor;

typedef struct { /* the rows of one cluster; z[a] at z + a * stride */
    ptrdiff_t n, stride;
    const double *eta, *w, *wy, *z;
} sklmm_cluster;

typedef struct {
    ptrdiff_t k;          /* nodes of the tensor grid; 1: Laplace */
    const double *zeta;   /* k x q */
    const double *log_w;  /* log of (weight / pi^(q/2)) plus |zeta|^2 */
} sklmm_grid;

typedef struct { /* one cluster at its mode */
    double u[SKLMM_MAX_Q], b[SKLMM_MAX_Q], R[SKLMM_MAX_Q], M[SKLMM_MAX_D];
    double H[SKLMM_MAX_Q * SKLMM_MAX_Q], L[SKLMM_MAX_Q * SKLMM_MAX_Q];
    double C[SKLMM_MAX_Q * SKLMM_MAX_Q], D[SKLMM_MAX_Q * SKLMM_MAX_Q]; /* Gamma_H and C Lambda' */
    double Ct[SKLMM_MAX_D];       /* Lambda C Lambda', off-diagonal entries doubled: row weight z'Ct z */
    double kappa[SKLMM_MAX_Q], kt[SKLMM_MAX_Q]; /* kappa and Lambda kappa */
    double rho[SKLMM_MAX_Q];
    double next[SKLMM_MAX_Q]; /* u after the last Newton step, which was below tol: a better start for next time */
} sklmm_mode;

typedef struct { /* quadrature of one cluster */
    double *u, *s, *R, *V, *pi;   /* by node: k x q, k x q, k x q, k x d, k */
    double *moment;               /* (q + 1)^2: mean of the products of (1, zeta) */
    double *V2;                   /* (q + 1)^2 x d: those products times V */
    double *R1;                   /* (q + 1) x q: mean of (1, zeta) R' */
    double *Xi;                   /* d x d: curvature of Gamma in the whitened A */
    double *Lt;                   /* q x q: inverse of L' */
} sklmm_quadrature;

/* --- rows ----------------------------------------------------------------------------------------------------- */

/* mu and 1 - mu from x, without overflow. Returns the larger one. */
SKLMM_INLINE v8d logistic(v8d x, v8d *mu, v8d *rest)
{
    const v8d e = v8_exp(-v8_max(x, -x)), inv = 1.0 / (1.0 + e);
    const v8l positive = x > 0.0;
    *mu = v8_select(positive, inv, e * inv);
    *rest = v8_select(positive, e * inv, inv);
    return inv;
}

SKLMM_INLINE v8d linear(const sklmm_cluster *c, ptrdiff_t j, const double *b, ptrdiff_t q)
{
    v8d x = v8_load(c->eta + j);
    for (ptrdiff_t a = 0; a < q; a++) x += v8_load(c->z + a * c->stride + j) * b[a];
    return x;
}

/* R = sum r z, M = sum v z z' (packed) at b; the log-likelihood if asked for. */
SKLMM_INLINE double slopes_sums_q(const sklmm_cluster *c, const double *b, const ptrdiff_t q, double *R, double *M,
                                  int likelihood)
{
    v8d sr[SKLMM_MAX_Q], sm[SKLMM_MAX_D], value = v8_set(0.0);
    for (ptrdiff_t a = 0; a < q; a++) sr[a] = v8_set(0.0);
    for (ptrdiff_t e = 0; e < q * (q + 1) / 2; e++) sm[e] = v8_set(0.0);
    for (ptrdiff_t j = 0; j < c->n; j += 8) {
        const v8l here = v8_first(c->n - j);
        const v8d x = linear(c, j, b, q), w = v8_keep(here, v8_load(c->w + j)), wy = v8_keep(here, v8_load(c->wy + j));
        v8d mu, rest;
        const v8d larger = logistic(x, &mu, &rest), r = wy * rest - (w - wy) * mu, v = w * mu * rest;
        if (likelihood) value += v8_log_likelihood(x, w, wy, larger);
        for (ptrdiff_t a = 0; a < q; a++) {
            const v8d za = v8_keep(here, v8_load(c->z + a * c->stride + j)), vz = v * za;
            sr[a] += r * za;
            for (ptrdiff_t k = 0; k <= a; k++)
                sm[a * (a + 1) / 2 + k] += vz * v8_keep(here, v8_load(c->z + k * c->stride + j));
        }
    }
    for (ptrdiff_t a = 0; a < q; a++) R[a] = v8_sum(sr[a]);
    for (ptrdiff_t e = 0; e < q * (q + 1) / 2; e++) M[e] = v8_sum(sm[e]);
    return v8_sum(value);
}

SKLMM_APART double slopes_sums(const sklmm_cluster *c, const double *b, ptrdiff_t q, double *R, double *M, int likelihood)
{
    switch (q) { /* the common sizes with their accumulators in registers */
    case 1: return slopes_sums_q(c, b, 1, R, M, likelihood);
    case 2: return slopes_sums_q(c, b, 2, R, M, likelihood);
    case 3: return slopes_sums_q(c, b, 3, R, M, likelihood);
    default: return slopes_sums_q(c, b, q, R, M, likelihood);
    }
}

/* --- conditional mode ----------------------------------------------------------------------------------------- */

/* b = Lambda u and the sums there; h(u) if asked for. s = Lambda'R - u is its gradient. */
SKLMM_INLINE double mode_state(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t, double *s, int likelihood)
{
    const ptrdiff_t q = f->q;
    for (ptrdiff_t a = 0; a < q; a++) {
        t->b[a] = 0.0;
        for (ptrdiff_t k = 0; k < q; k++) t->b[a] += f->Lambda[a * q + k] * t->u[k];
    }
    double h = slopes_sums(c, t->b, q, t->R, t->M, likelihood);
    for (ptrdiff_t a = 0; a < q; a++) {
        h -= 0.5 * t->u[a] * t->u[a];
        s[a] = -t->u[a];
        for (ptrdiff_t k = 0; k < q; k++) s[a] += f->Lambda[k * q + a] * t->R[k];
    }
    return h;
}

/* H = I + Lambda'M Lambda = L L'. Rounding errors may take away the I beside a large M: it is raised by as little as helps. */
SKLMM_INLINE int mode_curvature(const sklmm_factor *f, sklmm_mode *t)
{
    const ptrdiff_t q = f->q;
    double full[SKLMM_MAX_Q * SKLMM_MAX_Q], work[SKLMM_MAX_Q * SKLMM_MAX_Q], largest = 0.0;
    unpack(q, t->M, full);
    multiply(q, full, 0, f->Lambda, 0, work);
    multiply(q, f->Lambda, 1, work, 0, t->H);
    for (ptrdiff_t a = 0; a < q; a++) {
        t->H[a * q + a] += 1.0;
        largest = fmax(largest, t->H[a * q + a]);
    }
    for (double ridge = 1e-16 * largest; cholesky(q, t->H, t->L); ridge *= 4.0) {
        if (!(ridge < largest)) return 1;
        for (ptrdiff_t a = 0; a < q; a++) t->H[a * q + a] += ridge;
    }
    return 0;
}

/* Newton's method from t->u, see _search.h. Leaves b, R, M, H = L L' at u. Fails where something is not a number. */
SKLMM_CLONES int slopes_mode(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t, double tol)
{
    const ptrdiff_t q = f->q;
    double s[SKLMM_MAX_Q], step[SKLMM_MAX_Q], base[SKLMM_MAX_Q], move[SKLMM_MAX_Q], widest[SKLMM_MAX_Q];
    double last = INFINITY;
    for (ptrdiff_t a = 0; a < q; a++) {
        v8d top = v8_set(0.0);
        for (ptrdiff_t j = 0; j < c->n; j += 8) {
            const v8d z = v8_keep(v8_first(c->n - j), v8_load(c->z + a * c->stride + j));
            top = v8_max(top, v8_max(z, -z));
        }
        widest[a] = v8_largest(top);
    }
    mode_state(c, f, t, s, 0);
    for (int evaluations = 1; evaluations < SKLMM_MAX_EVALUATIONS;) {
        if (mode_curvature(f, t)) return 1;
        memcpy(step, s, q * sizeof(double));
        solve_lower(q, t->L, step, 1);
        solve_upper(q, t->L, step, 1);
        double largest = 0.0, size = 1.0, slope = 0.0, reach = 0.0; /* reach: how far a row may move */
        for (ptrdiff_t a = 0; a < q; a++) {
            move[a] = 0.0;
            for (ptrdiff_t k = 0; k < q; k++) move[a] += f->Lambda[a * q + k] * step[k];
            reach += fabs(move[a]) * widest[a];
            largest = fmax(largest, fabs(step[a]));
            size = fmax(size, 1.0 + fabs(t->u[a]));
            slope += s[a] * step[a];
        }
        if (!(slope < INFINITY)) return 1;
        if (largest <= tol * size || (reach < SKLMM_SETTLED_STEP && largest > 0.5 * last)) {
            for (ptrdiff_t a = 0; a < q; a++) t->next[a] = t->u[a] + step[a];
            return 0;
        }
        last = largest;
        sklmm_search search = search_from(slope);
        double height = 0.0;
        if (reach > SKLMM_SHORT_STEP) {
            height = mode_state(c, f, t, s, 1);
            evaluations++;
        }
        memcpy(base, t->u, q * sizeof(double));
        for (;; evaluations++) {
            const int is_long = search.share * reach > SKLMM_SHORT_STEP;
            for (ptrdiff_t a = 0; a < q; a++) t->u[a] = base[a] + search.share * step[a];
            const double h = mode_state(c, f, t, s, is_long);
            if (!is_long) break;
            double along = 0.0, curvature = 0.0;
            for (ptrdiff_t a = 0; a < q; a++) {
                along += s[a] * step[a];
                curvature += step[a] * step[a];
                for (ptrdiff_t k = 0; k < q; k++) curvature += move[a] * move[k] * t->M[packed(a, k)];
            }
            if (search_accepts(&search, h - height, along, curvature)) break;
        }
        evaluations++;
    }
    return 1;
}

/* --- Gamma(H) and its adjoints -------------------------------------------------------------------------------- */

/* C = L'^-1 W L^-1 from the whitened W; then D and Ct. */
SKLMM_INLINE void set_gamma(const sklmm_factor *f, sklmm_mode *t, double *W)
{
    const ptrdiff_t q = f->q;
    double work[SKLMM_MAX_Q * SKLMM_MAX_Q], full[SKLMM_MAX_Q * SKLMM_MAX_Q];
    solve_upper(q, t->L, W, q);
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b < q; b++) work[a * q + b] = W[b * q + a];
    solve_upper(q, t->L, work, q);
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b < q; b++) t->C[a * q + b] = 0.5 * (work[a * q + b] + work[b * q + a]);
    multiply(q, t->C, 0, f->Lambda, 1, t->D);
    multiply(q, f->Lambda, 0, t->D, 0, full);
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++) t->Ct[packed(a, b)] = (a == b ? 1.0 : 2.0) * full[a * q + b];
}

SKLMM_INLINE v8d quadratic(const sklmm_cluster *c, ptrdiff_t j, const double *Ct, ptrdiff_t q)
{
    v8d sum = v8_set(0.0);
    for (ptrdiff_t a = 0; a < q; a++) {
        v8d inner = v8_set(0.0);
        for (ptrdiff_t b = 0; b <= a; b++) inner += Ct[a * (a + 1) / 2 + b] * v8_load(c->z + b * c->stride + j);
        sum += inner * v8_load(c->z + a * c->stride + j);
    }
    return sum;
}

/* kappa = H^-1 (m0 + Lambda' sum v1 (z'Ct z) z), and rho = sum (v1 z'Ct z - v z'Lambda kappa) z. */
SKLMM_CLONES void slopes_adjoint(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t, const double *m0)
{
    const ptrdiff_t q = f->q;
    v8d sums[SKLMM_MAX_Q];
    double gamma[SKLMM_MAX_Q];
    for (ptrdiff_t a = 0; a < q; a++) sums[a] = v8_set(0.0);
    for (ptrdiff_t j = 0; j < c->n; j += 8) {
        const v8l here = v8_first(c->n - j);
        v8d mu, rest;
        logistic(linear(c, j, t->b, q), &mu, &rest);
        const v8d v1 = v8_load(c->w + j) * mu * rest * (rest - mu);
        const v8d weight = v8_keep(here, v1 * quadratic(c, j, t->Ct, q));
        for (ptrdiff_t a = 0; a < q; a++) sums[a] += v8_keep(here, weight * v8_load(c->z + a * c->stride + j));
    }
    for (ptrdiff_t a = 0; a < q; a++) gamma[a] = v8_sum(sums[a]);
    for (ptrdiff_t a = 0; a < q; a++) {
        t->kappa[a] = m0 ? m0[a] : 0.0;
        for (ptrdiff_t k = 0; k < q; k++) t->kappa[a] += f->Lambda[k * q + a] * gamma[k];
    }
    solve_lower(q, t->L, t->kappa, 1);
    solve_upper(q, t->L, t->kappa, 1);
    for (ptrdiff_t a = 0; a < q; a++) {
        t->kt[a] = 0.0;
        for (ptrdiff_t k = 0; k < q; k++) t->kt[a] += f->Lambda[a * q + k] * t->kappa[k];
    }
    for (ptrdiff_t a = 0; a < q; a++) {
        t->rho[a] = gamma[a];
        for (ptrdiff_t k = 0; k < q; k++) t->rho[a] -= t->M[packed(a, k)] * t->kt[k];
    }
}

/* Laplace: Gamma = -log|H| / 2. Returns it. */
SKLMM_CLONES double slopes_laplace(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t)
{
    const ptrdiff_t q = f->q;
    double W[SKLMM_MAX_Q * SKLMM_MAX_Q], value = 0.0;
    memset(W, 0, q * q * sizeof(double));
    for (ptrdiff_t a = 0; a < q; a++) {
        W[a * q + a] = -0.5;
        value -= log(t->L[a * q + a]) + 0.5 * t->u[a] * t->u[a];
    }
    set_gamma(f, t, W);
    slopes_adjoint(c, f, t, NULL);
    return value;
}

/* Adaptive Gauss-Hermite on the tensor grid. Returns the cluster's log-likelihood. */
SKLMM_CLONES double slopes_quadrature(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_grid *grid, sklmm_mode *t,
                                      sklmm_quadrature *v)
{
    const ptrdiff_t q = f->q, d = f->d, q1 = q + 1;
    double W[SKLMM_MAX_Q * SKLMM_MAX_Q], Y[SKLMM_MAX_Q * SKLMM_MAX_Q], S1[SKLMM_MAX_Q * SKLMM_MAX_Q];
    double m0[SKLMM_MAX_Q], largest = -INFINITY, total = 0.0, logdet = 0.0;
    memset(v->Lt, 0, q * q * sizeof(double));
    for (ptrdiff_t a = 0; a < q; a++) {
        v->Lt[a * q + a] = 1.0;
        logdet += log(t->L[a * q + a]);
    }
    solve_upper(q, t->L, v->Lt, q);
    for (ptrdiff_t k = 0; k < grid->k; k++) {
        const double *zeta = grid->zeta + k * q;
        double *u = v->u + k * q, *s = v->s + k * q, b[SKLMM_MAX_Q], F = grid->log_w[k];
        for (ptrdiff_t a = 0; a < q; a++) {
            u[a] = t->u[a];
            for (ptrdiff_t e = a; e < q; e++) u[a] += M_SQRT2 * v->Lt[a * q + e] * zeta[e];
            F -= 0.5 * u[a] * u[a];
        }
        for (ptrdiff_t a = 0; a < q; a++) {
            b[a] = 0.0;
            for (ptrdiff_t e = 0; e < q; e++) b[a] += f->Lambda[a * q + e] * u[e];
        }
        F += slopes_sums(c, b, q, v->R + k * q, v->V + k * d, 1);
        for (ptrdiff_t a = 0; a < q; a++) {
            s[a] = -u[a];
            for (ptrdiff_t e = 0; e < q; e++) s[a] += f->Lambda[e * q + a] * v->R[k * q + e];
        }
        v->pi[k] = F;
        largest = F > largest ? F : largest;
    }
    for (ptrdiff_t k = 0; k < grid->k; k++) total += v->pi[k] = exp(v->pi[k] - largest);
    memset(v->moment, 0, q1 * q1 * sizeof(double));
    memset(v->V2, 0, q1 * q1 * d * sizeof(double));
    memset(v->R1, 0, q1 * q * sizeof(double));
    memset(m0, 0, sizeof(m0));
    memset(S1, 0, sizeof(S1));
    for (ptrdiff_t k = 0; k < grid->k; k++) {
        const double *zeta = grid->zeta + k * q, pi = v->pi[k] /= total;
        for (ptrdiff_t a = 0; a < q1; a++) {
            const double za = pi * (a ? zeta[a - 1] : 1.0);
            for (ptrdiff_t b = 0; b < q1; b++) {
                const double zz = za * (b ? zeta[b - 1] : 1.0);
                v->moment[a * q1 + b] += zz;
                for (ptrdiff_t e = 0; e < d; e++) v->V2[(a * q1 + b) * d + e] += zz * v->V[k * d + e];
            }
            for (ptrdiff_t b = 0; b < q; b++) v->R1[a * q + b] += za * v->R[k * q + b];
        }
        for (ptrdiff_t a = 0; a < q; a++) {
            m0[a] += pi * v->s[k * q + a];
            for (ptrdiff_t b = 0; b < q; b++) S1[a * q + b] += pi * v->s[k * q + a] * zeta[b];
        }
    }
    memcpy(Y, S1, q * q * sizeof(double));
    solve_lower(q, t->L, Y, q);
    double Psi[SKLMM_MAX_Q * SKLMM_MAX_Q];
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++) Psi[a * q + b] = Psi[b * q + a] = 0.5 * Y[b * q + a];
    for (ptrdiff_t a = 0; a < q * q; a++) W[a] = -M_SQRT2 * Psi[a];
    for (ptrdiff_t a = 0; a < q; a++) W[a * q + a] -= 0.5;
    set_gamma(f, t, W);
    slopes_adjoint(c, f, t, m0);
    /* Xi over pairs of basis matrices E = e_a e_b' + e_b e_a' (or e_a e_a'), Phi(E) = e_a e_b' (or half e_a e_a') */
    for (ptrdiff_t a = 0, e = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++, e++)
            for (ptrdiff_t a2 = 0, e2 = 0; a2 < q; a2++)
                for (ptrdiff_t b2 = 0; b2 <= a2; b2++, e2++) {
                    const double h1 = a == b ? 0.5 : 1.0, h2 = a2 == b2 ? 0.5 : 1.0;
                    /* tr(Phi1 Phi2 Y) = h1 h2 [b == a2] Y[b2, a]; tr(Psi Phi1 E2) with E2 = Phi2 + Phi2' */
                    double products = 0.5 * h1 * h2 * ((b == a2) * Y[b2 * q + a] + (b2 == a) * Y[b * q + a2]);
                    products += h1 * h2 * ((b == a2) * Psi[b2 * q + a] + (b == b2) * Psi[a2 * q + a]);
                    products += h1 * h2 * ((b2 == a) * Psi[b * q + a2] + (b == b2) * Psi[a * q + a2]);
                    v->Xi[e * d + e2] = (e == e2 ? (a == b ? 0.5 : 1.0) : 0.0) + M_SQRT2 * products;
                }
    return largest + log(total) - logdet;
}

/* --- row weights ---------------------------------------------------------------------------------------------- */

/* Rows at the mode: weights of the sums by cluster W = [v z_a | v1 z_a z_b | (space for omega z_a ...)] apart by `apart`, and
 * omega = v2 z'Ct z - v1 z'kt, g = v1 z'Ct z - v z'kt, for Laplace (own = 1) with -v and +r added. Returns the rows' log-likelihood
 * for Laplace. */
SKLMM_CLONES double slopes_rows(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_mode *t, int laplace, double *W,
                                ptrdiff_t apart, double *omega, double *g)
{
    const ptrdiff_t q = f->q;
    const double own = laplace ? 1.0 : 0.0;
    v8d value = v8_set(0.0);
    for (ptrdiff_t j = 0; j < c->n; j += 8) {
        const v8l here = v8_first(c->n - j);
        const v8d x = linear(c, j, t->b, q), w = v8_load(c->w + j), wy = v8_load(c->wy + j);
        v8d mu, rest, zk = v8_set(0.0);
        const v8d larger = logistic(x, &mu, &rest), v = w * mu * rest, v1 = v * (rest - mu), v2 = v * (1.0 - 6.0 * mu * rest);
        const v8d cc = quadratic(c, j, t->Ct, q);
        if (laplace) value += v8_keep(here, v8_log_likelihood(x, w, wy, larger));
        for (ptrdiff_t a = 0; a < q; a++) {
            const v8d z = v8_load(c->z + a * c->stride + j);
            zk += z * t->kt[a];
            v8_store(W + a * apart + j, v * z);
            for (ptrdiff_t b = 0; b <= a; b++)
                v8_store(W + (q + a * (a + 1) / 2 + b) * apart + j, v1 * z * v8_load(c->z + b * c->stride + j));
        }
        v8_store(omega + j, v2 * cc - v1 * zk - own * v);
        v8_store(g + j, v1 * cc - v * zk + own * (wy * rest - (w - wy) * mu));
    }
    return v8_sum(value);
}

/* Nodes k0 .. k0 + nk - 1 (nk <= 8): r_jk to r (nk arrays apart by `apart`), omega -= pi v, g += pi r, and
 * vz[b] -= pi zeta_b v (q arrays). */
SKLMM_CLONES void slopes_node_rows(const sklmm_cluster *c, const sklmm_factor *f, const sklmm_grid *grid,
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
            v8d mu, rest;
            logistic(linear(c, j, b, q), &mu, &rest);
            const v8d w = v8_load(c->w + j), wy = v8_load(c->wy + j), residual = wy * rest - (w - wy) * mu;
            const v8d pv = v8_keep(here, pi * (w * mu * rest));
            v8_store(r + (k - k0) * apart + j, residual);
            v8_store(omega + j, v8_load(omega + j) - pv);
            v8_store(g + j, v8_load(g + j) + v8_keep(here, pi * residual));
            for (ptrdiff_t a = 0; a < q; a++)
                v8_store(vz + a * apart + j, v8_load(vz + a * apart + j) - grid->zeta[k * q + a] * pv);
        }
    }
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
