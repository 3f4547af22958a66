/* A cluster with q random coefficients: eta = x'beta + z' Lambda u, u ~ N(0, I).
 *
 * The same quantities as _intercept.h, with vectors for scalars; one cluster at a time, lanes are rows. Notation as in
 * docs/mathematics/clustered.md.
 */
#ifndef SKLMM_SLOPES_H
#define SKLMM_SLOPES_H

#include "_response.h"
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
    int family;
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

SKLMM_INLINE v8d linear(const sklmm_cluster *c, ptrdiff_t j, const double *b, ptrdiff_t q)
{
    v8d x = v8_load(c->eta + j);
    for (ptrdiff_t a = 0; a < q; a++) x += v8_load(c->z + a * c->stride + j) * b[a];
    return x;
}

/* R = sum r z, M = sum v z z' (packed) at b; the log-likelihood if asked for. */
SKLMM_INLINE double slopes_sums_q(const int family, const sklmm_cluster *c, const double *b, const ptrdiff_t q, double *R,
                                  double *M, int likelihood)
{
    v8d sr[SKLMM_MAX_Q], sm[SKLMM_MAX_D], value = v8_set(0.0);
    for (ptrdiff_t a = 0; a < q; a++) sr[a] = v8_set(0.0);
    for (ptrdiff_t e = 0; e < q * (q + 1) / 2; e++) sm[e] = v8_set(0.0);
    for (ptrdiff_t j = 0; j < c->n; j += 8) {
        const v8l here = v8_first(c->n - j);
        const v8d x = linear(c, j, b, q), w = v8_keep(here, v8_load(c->w + j)), wy = v8_keep(here, v8_load(c->wy + j));
        const sklmm_response at = respond(family, x, w, wy, 2, likelihood);
        if (likelihood) value += at.l;
        for (ptrdiff_t a = 0; a < q; a++) {
            const v8d za = v8_keep(here, v8_load(c->z + a * c->stride + j)), vz = at.v * za;
            sr[a] += at.r * za;
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
    case 1: return SKLMM_BY_FAMILY(c->family, slopes_sums_q, c, b, 1, R, M, likelihood);
    case 2: return SKLMM_BY_FAMILY(c->family, slopes_sums_q, c, b, 2, R, M, likelihood);
    case 3: return SKLMM_BY_FAMILY(c->family, slopes_sums_q, c, b, 3, R, M, likelihood);
    default: return SKLMM_BY_FAMILY(c->family, slopes_sums_q, c, b, q, R, M, likelihood);
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

/* sum v1 (z'Ct z) z */
SKLMM_INLINE void adjoint_sums(const int family, const sklmm_cluster *c, const sklmm_mode *t, ptrdiff_t q, double *gamma)
{
    v8d sums[SKLMM_MAX_Q];
    for (ptrdiff_t a = 0; a < q; a++) sums[a] = v8_set(0.0);
    for (ptrdiff_t j = 0; j < c->n; j += 8) {
        const v8l here = v8_first(c->n - j);
        const sklmm_response at = respond(family, linear(c, j, t->b, q), v8_load(c->w + j), v8_load(c->wy + j), 3, 0);
        const v8d weight = v8_keep(here, at.v1 * quadratic(c, j, t->Ct, q));
        for (ptrdiff_t a = 0; a < q; a++) sums[a] += v8_keep(here, weight * v8_load(c->z + a * c->stride + j));
    }
    for (ptrdiff_t a = 0; a < q; a++) gamma[a] = v8_sum(sums[a]);
}

/* kappa = H^-1 (m0 + Lambda' gamma), gamma = sum v1 (z'Ct z) z, and rho = gamma - sum v z'Lambda kappa z. */
SKLMM_CLONES void slopes_adjoint(const sklmm_cluster *c, const sklmm_factor *f, sklmm_mode *t, const double *m0)
{
    const ptrdiff_t q = f->q;
    double gamma[SKLMM_MAX_Q];
    SKLMM_BY_FAMILY(c->family, adjoint_sums, c, t, q, gamma);
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

#endif
