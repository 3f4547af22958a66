/* Nested random intercepts, a block of whole trees at a time: eta = x'beta + sum_f theta_f u_f over a row's path.
 *
 * A tree is a top level with all below it; depth f = 0 are the leaves, whose rows stand side by side. The rows of a leaf share their
 * path, so a leaf enters by its sums R = sum r and V = sum v alone. Eliminating a node of depth f with curvature D = 1 +
 * theta^2 W leaves its parent with W / D:  W of a leaf is V, W of a parent the sum of W / D over its children, and
 * log|H| = sum log D. The names are those of _intercept.h and of docs/mathematics/nested.md.
 */
#ifndef SKLMM_NESTED_H
#define SKLMM_NESTED_H

#include "_intercept.h"
#include "_search.h"

#define SKLMM_MAX_DEPTH 8

typedef struct { /* the nodes of one depth that belong to a block */
    double theta;
    ptrdiff_t slot;        /* of theta in a vector of derivatives */
    const int64_t *parent; /* parent[first + i]: global, at the next depth; not for the top */
    ptrdiff_t first, n;    /* global index of the first node */
    double *u, *R, *W, *D, *s, *Y, *O, *x, *kappa, *rho, *lambda; /* by node */
    double *d, *base;      /* by node: a Newton step and where it started */
    double *A0, *G, *Yv, *Ov, *du, *dW; /* by node, ld each */
} sklmm_depth;

typedef struct {
    ptrdiff_t depths, ld;
    sklmm_depth at[SKLMM_MAX_DEPTH]; /* leaves first */
    const int64_t *span[SKLMM_MAX_DEPTH]; /* span[f][t]: global first node of tree t at depth f */
} sklmm_forest;

/* H^-1 s for trees whose nodes at depth f are lo[f] .. hi[f] - 1 of the block: `s` is overwritten, `x` receives. O of a leaf
 * ends as the sum of theta x along its path. */
SKLMM_APART void nested_solve(sklmm_forest *t, const ptrdiff_t *lo, const ptrdiff_t *hi, int eliminate)
{
    for (ptrdiff_t f = 0; f < t->depths; f++) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        const int top = f + 1 == t->depths;
        if (!top)
            for (ptrdiff_t i = lo[f + 1]; i < hi[f + 1]; i++) {
                up->Y[i] = 0.0;
                if (eliminate) up->W[i] = 0.0;
            }
        for (ptrdiff_t i = lo[f]; i < hi[f]; i++) {
            if (eliminate) a->D[i] = 1.0 + a->theta * a->theta * a->W[i];
            const double Y = f ? a->Y[i] : 0.0, share = a->W[i] / a->D[i];
            a->s[i] -= a->theta * Y;
            if (top) continue;
            const ptrdiff_t p = a->parent[a->first + i] - up->first;
            if (eliminate) up->W[p] += share;
            up->Y[p] += a->theta * share * a->s[i] + Y;
        }
    }
    for (ptrdiff_t f = t->depths - 1; f >= 0; f--) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        for (ptrdiff_t i = lo[f]; i < hi[f]; i++) {
            const double O = f + 1 == t->depths ? 0.0 : up->O[a->parent[a->first + i] - up->first];
            a->x[i] = (a->s[i] - a->theta * a->W[i] * O) / a->D[i];
            a->O[i] = O + a->theta * a->x[i];
        }
    }
}

/* Offsets theta'u of the leaves' paths into O, R, V, V1 of the leaves and R above at them, and s = theta R - u. Returns h(u)
 * if asked for, else -u'u/2. */
SKLMM_APART double nested_state(sklmm_block *b, sklmm_forest *t, const sklmm_modes *m, const ptrdiff_t *lo, const ptrdiff_t *hi,
                                int likelihood)
{
    double value = 0.0;
    for (ptrdiff_t f = t->depths - 1; f >= 0; f--) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        for (ptrdiff_t i = lo[f]; i < hi[f]; i++) {
            const double O = f + 1 == t->depths ? 0.0 : up->O[a->parent[a->first + i] - up->first];
            a->O[i] = O + a->theta * a->u[i];
            if (f) a->R[i] = 0.0;
            else if (fabs(a->O[i]) > SKLMM_CLAMP) b->far = 1;
        }
    }
    sklmm_depth *leaf = t->at;
    for (ptrdiff_t i = lo[0]; i < hi[0] && !b->far; i += 8) {
        const v8d B = v8_exp(v8_load(leaf->O + i));
        for (ptrdiff_t l = i; l < i + 8 && l < hi[0]; l++) m->B[l] = B[l - i];
    }
    for (ptrdiff_t i = lo[0]; i < hi[0]; i++)
        value += intercept_sums(b, i, m->B[i], leaf->O[i], leaf->R + i, leaf->W + i, m->V1 + i, likelihood);
    for (ptrdiff_t f = 0; f < t->depths; f++) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        for (ptrdiff_t i = lo[f]; i < hi[f]; i++) {
            if (f + 1 < t->depths) up->R[a->parent[a->first + i] - up->first] += a->R[i];
            a->s[i] = a->theta * a->R[i] - a->u[i];
            value -= 0.5 * a->u[i] * a->u[i];
        }
    }
    return value;
}

/* The mode of the tree whose nodes at depth f are lo[f] .. hi[f] - 1: Newton's method, see _search.h. On return everything
 * belongs to u, and d holds the pending step. Fails where something is not a number. */
SKLMM_INLINE int nested_mode(sklmm_block *b, sklmm_forest *t, const sklmm_modes *m, const ptrdiff_t *lo, const ptrdiff_t *hi,
                             double tol)
{
    sklmm_depth *leaf = t->at;
    double last = INFINITY;
    nested_state(b, t, m, lo, hi, 0);
    for (int evaluations = 1; evaluations < SKLMM_MAX_EVALUATIONS;) {
        double size = 0.0, largest = 0.0, slope = 0.0, length = 0.0, reach = 0.0; /* reach: how far a row moves */
        for (ptrdiff_t f = 0; f < t->depths; f++)
            for (ptrdiff_t i = lo[f]; i < hi[f]; i++) t->at[f].base[i] = t->at[f].s[i]; /* the solver overwrites s */
        nested_solve(t, lo, hi, 1);
        for (ptrdiff_t f = 0; f < t->depths; f++) {
            sklmm_depth *a = t->at + f;
            for (ptrdiff_t i = lo[f]; i < hi[f]; i++) {
                a->d[i] = a->x[i];
                slope += a->base[i] * a->d[i];
                length += a->d[i] * a->d[i];
                size = fmax(size, fabs(a->d[i]));
                largest = fmax(largest, fabs(a->u[i]));
                a->base[i] = a->u[i];
            }
        }
        for (ptrdiff_t i = lo[0]; i < hi[0]; i++) {
            leaf->Y[i] = leaf->O[i]; /* of the step, along the path */
            reach = fmax(reach, fabs(leaf->Y[i]));
        }
        if (!(slope < INFINITY)) return 1;
        if (size <= tol * (1.0 + largest) || (reach < SKLMM_SETTLED_STEP && size > 0.5 * last)) return 0;
        last = size;
        sklmm_search search = search_from(slope);
        double height = 0.0;
        if (reach > SKLMM_SHORT_STEP) {
            height = nested_state(b, t, m, lo, hi, 1);
            evaluations++;
        }
        for (;; evaluations++) {
            const int is_long = search.share * reach > SKLMM_SHORT_STEP;
            double h, along = 0.0, curvature = length;
            for (ptrdiff_t f = 0; f < t->depths; f++) {
                sklmm_depth *a = t->at + f;
                for (ptrdiff_t i = lo[f]; i < hi[f]; i++) a->u[i] = a->base[i] + search.share * a->d[i];
            }
            h = nested_state(b, t, m, lo, hi, is_long);
            if (!is_long) break;
            for (ptrdiff_t f = 0; f < t->depths; f++)
                for (ptrdiff_t i = lo[f]; i < hi[f]; i++) along += t->at[f].s[i] * t->at[f].d[i];
            for (ptrdiff_t i = lo[0]; i < hi[0]; i++) curvature += leaf->W[i] * leaf->Y[i] * leaf->Y[i];
            if (search_accepts(&search, h - height, along, curvature)) break;
        }
        evaluations++;
    }
    return 1;
}

/* Conditional modes of the trees first .. first + n - 1, tree by tree. */
SKLMM_CLONES int nested_modes(sklmm_block *b, sklmm_forest *t, const sklmm_modes *m, ptrdiff_t first, ptrdiff_t n, double tol)
{
    for (ptrdiff_t tree = first; tree < first + n; tree++) {
        ptrdiff_t lo[SKLMM_MAX_DEPTH], hi[SKLMM_MAX_DEPTH];
        for (ptrdiff_t f = 0; f < t->depths; f++) {
            lo[f] = t->span[f][tree] - t->at[f].first;
            hi[f] = t->span[f][tree + 1] - t->at[f].first;
        }
        if (nested_mode(b, t, m, lo, hi, tol)) return 1;
    }
    return 0;
}

/* Adjoints of log|H| and of the modes: lambda = dGamma/dW, c, k = sum of theta kappa along the path; and in m->u the leaves'
 * offsets. Returns -u'u/2 - log|H|/2. */
SKLMM_CLONES double nested_adjoints(sklmm_forest *t, const sklmm_modes *m)
{
    ptrdiff_t lo[SKLMM_MAX_DEPTH] = {0}, hi[SKLMM_MAX_DEPTH];
    double value = 0.0;
    for (ptrdiff_t f = t->depths - 1; f >= 0; f--) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        hi[f] = a->n;
        for (ptrdiff_t i = 0; i < a->n; i++) {
            const double above = f + 1 == t->depths ? 0.0 : up->lambda[a->parent[a->first + i] - up->first];
            a->lambda[i] = -0.5 * a->theta * a->theta / a->D[i] + above / (a->D[i] * a->D[i]);
            a->s[i] = 0.0;
            a->O[i] = (f + 1 == t->depths ? 0.0 : up->O[a->parent[a->first + i] - up->first]) + a->theta * a->u[i];
        }
        for (ptrdiff_t i = 0; i < a->n; i += 8) {
            const v8l here = v8_first(a->n - i);
            const v8d u = v8_load(a->u + i), D = v8_select(here, v8_load(a->D + i), v8_set(1.0));
            value -= v8_sum(v8_keep(here, 0.5 * u * u + 0.5 * v8_log(D)));
        }
    }
    for (ptrdiff_t i = 0; i < t->at[0].n; i++) {
        m->u[i] = t->at[0].O[i];
        m->c[i] = t->at[0].lambda[i];
        t->at[0].s[i] = m->c[i] * m->V1[i];
    }
    for (ptrdiff_t f = 0; f < t->depths; f++) { /* s is sum c V1 below the node, then theta times that */
        sklmm_depth *a = t->at + f, *up = a + 1;
        for (ptrdiff_t i = 0; i < a->n; i++) {
            if (f + 1 < t->depths) up->s[a->parent[a->first + i] - up->first] += a->s[i];
            a->s[i] *= a->theta;
        }
    }
    nested_solve(t, lo, hi, 0);
    for (ptrdiff_t f = 0; f < t->depths; f++)
        for (ptrdiff_t i = 0; i < t->at[f].n; i++) t->at[f].kappa[i] = t->at[f].x[i];
    for (ptrdiff_t i = 0; i < t->at[0].n; i++) m->k[i] = t->at[0].O[i];
    return value;
}

SKLMM_INLINE void add_to(double *out, const double *v, double f, ptrdiff_t ld)
{
    for (ptrdiff_t a = 0; a < ld; a += 8) v8_store(out + a, v8_load(out + a) + f * v8_load(v + a));
}

/* What sum_r omega x x' lacks of the block's Hessian, as pairs of rows, plus `theta_rows` (ld each, in the rows of theta from
 * `slot` on). `sums` has by leaf the sums of v x, v1 x, omega x. Adds the derivatives of the value in theta to
 * gradient[slot + f]. Returns the number of pairs. */
SKLMM_CLONES ptrdiff_t nested_assemble(sklmm_forest *t, const sklmm_modes *m, const double *sums, double *left, double *right,
                                       double *theta_rows, ptrdiff_t slot, double *gradient)
{
    const ptrdiff_t ld = t->ld, bytes = ld * sizeof(double);
    ptrdiff_t pairs = 0;
    /* up: sums of v e at fixed u, and the first half of the solution for the moves of the modes */
    for (ptrdiff_t f = 1; f < t->depths; f++) {
        sklmm_depth *a = t->at + f;
        for (ptrdiff_t i = 0; i < a->n * ld; i++) a->A0[i] = a->G[i] = a->Yv[i] = a->dW[i] = 0.0;
        for (ptrdiff_t i = 0; i < a->n; i++) a->rho[i] = 0.0;
    }
    for (ptrdiff_t i = 0; i < t->at[0].n; i++) {
        double *A0 = t->at[0].A0 + i * ld;
        __builtin_memcpy(A0, sums + 3 * i * ld, bytes);
        for (ptrdiff_t f = 0, node = i; f < t->depths; f++) {
            sklmm_depth *a = t->at + f;
            A0[a->slot] += t->at[0].W[i] * a->u[node];
            if (f + 1 < t->depths) node = a->parent[a->first + node] - a[1].first;
        }
        t->at[0].rho[i] = t->at[0].R[i] + m->c[i] * m->V1[i] - m->k[i] * t->at[0].W[i];
    }
    for (ptrdiff_t f = 0; f < t->depths; f++) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        for (ptrdiff_t i = 0; i < a->n; i++) {
            double *s = a->du + i * ld; /* for now the right-hand side */
            for (ptrdiff_t c = 0; c < ld; c += 8) {
                v8d v = -a->theta * v8_load(a->A0 + i * ld + c);
                if (f) v -= a->theta * v8_load(a->Yv + i * ld + c);
                v8_store(s + c, v);
            }
            s[a->slot] += a->R[i];
            if (f + 1 == t->depths) continue;
            const ptrdiff_t p = a->parent[a->first + i] - up->first;
            add_to(up->A0 + p * ld, a->A0 + i * ld, 1.0, ld);
            add_to(up->Yv + p * ld, s, a->theta * a->W[i] / a->D[i], ld);
            if (f) add_to(up->Yv + p * ld, a->Yv + i * ld, 1.0, ld);
            up->rho[p] += a->rho[i];
        }
    }
    /* down: the moves, and in Ov those of the linear predictor */
    for (ptrdiff_t f = t->depths - 1; f >= 0; f--) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        for (ptrdiff_t i = 0; i < a->n; i++) {
            const double *above = f + 1 == t->depths ? NULL : up->Ov + (a->parent[a->first + i] - up->first) * ld;
            double *du = a->du + i * ld, *O = a->Ov + i * ld;
            const double fw = a->theta * a->W[i], inverse = 1.0 / a->D[i];
            for (ptrdiff_t c = 0; c < ld; c += 8) {
                const v8d o = above ? v8_load(above + c) : v8_set(0.0), x = (v8_load(du + c) - fw * o) * inverse;
                v8_store(du + c, x);
                v8_store(O + c, o + a->theta * x);
            }
        }
    }
    /* up: changes of W, and everything that is a sum over nodes */
    for (ptrdiff_t i = 0; i < t->at[0].n; i++) {
        const double *S = sums + 3 * i * ld;
        double *q = t->at[0].Ov + i * ld; /* derivatives of theta'u along the path */
        for (ptrdiff_t f = 0, node = i; f < t->depths; f++) {
            sklmm_depth *a = t->at + f;
            q[a->slot] += a->u[node];
            if (f + 1 < t->depths) node = a->parent[a->first + node] - a[1].first;
        }
        double *l = left + pairs * ld, *r = right + pairs * ld;
        for (ptrdiff_t c = 0; c < ld; c += 8) {
            const v8d Q = v8_load(q + c);
            v8_store(t->at[0].G + i * ld + c, v8_load(S + c) + t->at[0].W[i] * Q);
            v8_store(t->at[0].dW + i * ld + c, v8_load(S + ld + c) + m->V1[i] * Q);
            v8_store(l + c, Q);
            v8_store(r + c, v8_load(S + 2 * ld + c) + 0.5 * m->N[i] * Q);
        }
        pairs++;
    }
    for (ptrdiff_t f = 0; f < t->depths; f++) {
        sklmm_depth *a = t->at + f, *up = a + 1;
        const double h = a->theta;
        double *row = theta_rows + (a->slot - slot) * ld;
        for (ptrdiff_t i = 0; i < a->n; i++) {
            const ptrdiff_t p = f + 1 == t->depths ? -1 : a->parent[a->first + i] - up->first;
            const double above = p < 0 ? 0.0 : up->lambda[p], W = a->W[i], D = a->D[i], W2 = W * W, D2 = D * D, D3 = D2 * D;
            const double phi_theta = -2.0 * h * W2 / D2;
            const double ww = 0.5 * h * h * h * h / D2 - above * 2.0 * h * h / D3;
            const double wt = -2.0 * h / D2 - above * 8.0 * h * W / D3;
            const double tt = -W / D + 2.0 * h * h * W2 / D2 + above * (-2.0 * W2 / D2 + 8.0 * h * h * W2 * W / D3);
            const double *dW = a->dW + i * ld, *du = a->du + i * ld, *G = a->G + i * ld;
            double *l = left + pairs * ld, *r = right + pairs * ld;
            for (ptrdiff_t c = 0; c < ld; c += 8) {
                const v8d w = v8_load(dW + c), d = v8_load(du + c);
                v8_store(l + c, w);
                v8_store(r + c, (0.5 * ww) * w);
                v8_store(l + ld + c, d);
                v8_store(r + ld + c, -0.5 * d);
                v8_store(row + c, v8_load(row + c) + a->rho[i] * d + (0.5 * wt) * w - a->kappa[i] * v8_load(G + c));
            }
            row[a->slot] += 0.5 * tt;
            pairs += 2;
            gradient[a->slot] += a->rho[i] * a->u[i] + a->kappa[i] * a->R[i] - h * W / D + above * phi_theta;
            if (p < 0) continue;
            add_to(up->dW + p * ld, dW, 1.0 / D2, ld);
            up->dW[p * ld + a->slot] += phi_theta;
            add_to(up->G + p * ld, G, 1.0, ld);
        }
    }
    return pairs;
}

#endif
