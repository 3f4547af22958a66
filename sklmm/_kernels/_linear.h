/* Linear models of one grouping factor: what a cluster adds to the likelihood, from its cross-products A = Z'WZ (q x q) and
 * B = Z'WE (q x k) and the covariance G = Lambda Lambda' of its random coefficients. docs/mathematics/linear.md has the formulas.
 */
#ifndef SKLMM_LINEAR_H
#define SKLMM_LINEAR_H

#include "_smallmat.h"

#define SKLMM_MOST_Q 64

/* T = C^-1 Lambda'B with C C' = H = I + Lambda'A Lambda, rows `apart` doubles from each other; work has room for 3 q^2 doubles.
 * Returns log|H|, NaN where it has none. */
SKLMM_CLONES double linear_whitened(ptrdiff_t q, ptrdiff_t k, const double *Lambda, const double *A, const double *B, double *T,
                                    ptrdiff_t apart, double *work)
{
    if (q == 1) {
        const double H = 1.0 + Lambda[0] * Lambda[0] * A[0], share = Lambda[0] / sqrt(H);
        for (ptrdiff_t j = 0; j < k; j++) T[j] = share * B[j];
        return log(H);
    }
    double *H = work, *C = work + q * q, *AL = work + 2 * q * q, sum = 0.0;
    multiply(q, A, 0, Lambda, 0, AL);
    multiply(q, Lambda, 1, AL, 0, H);
    for (ptrdiff_t a = 0; a < q; a++) H[a * q + a] += 1.0;
    if (cholesky(q, H, C)) return NAN;
    for (ptrdiff_t a = 0; a < q; a++) {
        double *t = T + a * apart;
        const double inv = 1.0 / C[a * q + a];
        for (ptrdiff_t j = 0; j < k; j++) t[j] = 0.0;
        for (ptrdiff_t b = 0; b < q; b++) {
            const double f = Lambda[b * q + a];
            if (f != 0.0)
                for (ptrdiff_t j = 0; j < k; j++) t[j] += f * B[b * k + j];
        }
        for (ptrdiff_t b = 0; b < a; b++) {
            const double f = C[a * q + b];
            for (ptrdiff_t j = 0; j < k; j++) t[j] -= f * T[b * apart + j];
        }
        for (ptrdiff_t j = 0; j < k; j++) t[j] *= inv;
        sum += log(C[a * q + a]);
    }
    return 2.0 * sum;
}

/* b = (I + AG)^-1 B, rows apart, and R = (I + AG)^-1 A: Z'V^-1 E and Z'V^-1 Z. By elimination with pivots, since with G singular
 * nothing is to be divided by. work has room for q^2 doubles. */
SKLMM_CLONES void linear_residuals(ptrdiff_t q, ptrdiff_t k, const double *G, const double *A, const double *B, double *b,
                                   ptrdiff_t apart, double *R, double *work)
{
    if (q == 1) {
        const double W = 1.0 / (1.0 + A[0] * G[0]);
        for (ptrdiff_t j = 0; j < k; j++) b[j] = W * B[j];
        R[0] = W * A[0];
        return;
    }
    double *M = work;
    if (q == 2) { /* the same by Cramer's rule */
        const double a = 1.0 + A[0] * G[0] + A[1] * G[2], d = 1.0 + A[2] * G[1] + A[3] * G[3];
        const double o = A[0] * G[1] + A[1] * G[3], u = A[2] * G[0] + A[3] * G[2], inv = 1.0 / (a * d - o * u);
        const double W0 = d * inv, W1 = -o * inv, W2 = -u * inv, W3 = a * inv;
        for (ptrdiff_t j = 0; j < k; j++) {
            b[j] = W0 * B[j] + W1 * B[k + j];
            b[apart + j] = W2 * B[j] + W3 * B[k + j];
        }
        R[0] = W0 * A[0] + W1 * A[2], R[1] = W0 * A[1] + W1 * A[3];
        R[2] = W2 * A[0] + W3 * A[2], R[3] = W2 * A[1] + W3 * A[3];
        return;
    }
    multiply(q, A, 0, G, 0, M);
    for (ptrdiff_t a = 0; a < q; a++) {
        M[a * q + a] += 1.0;
        for (ptrdiff_t c = 0; c < q; c++) R[a * q + c] = A[a * q + c];
        for (ptrdiff_t j = 0; j < k; j++) b[a * apart + j] = B[a * k + j];
    }
    for (ptrdiff_t a = 0; a < q; a++) {
        ptrdiff_t pivot = a;
        for (ptrdiff_t c = a + 1; c < q; c++)
            if (fabs(M[c * q + a]) > fabs(M[pivot * q + a])) pivot = c;
        if (pivot != a) {
            for (ptrdiff_t c = 0; c < q; c++) {
                const double m = M[a * q + c], r = R[a * q + c];
                M[a * q + c] = M[pivot * q + c], M[pivot * q + c] = m;
                R[a * q + c] = R[pivot * q + c], R[pivot * q + c] = r;
            }
            for (ptrdiff_t j = 0; j < k; j++) {
                const double x = b[a * apart + j];
                b[a * apart + j] = b[pivot * apart + j], b[pivot * apart + j] = x;
            }
        }
        for (ptrdiff_t c = a + 1; c < q; c++) {
            const double f = M[c * q + a] / M[a * q + a];
            if (f == 0.0) continue;
            for (ptrdiff_t d = a; d < q; d++) M[c * q + d] -= f * M[a * q + d];
            for (ptrdiff_t d = 0; d < q; d++) R[c * q + d] -= f * R[a * q + d];
            for (ptrdiff_t j = 0; j < k; j++) b[c * apart + j] -= f * b[a * apart + j];
        }
    }
    for (ptrdiff_t a = q - 1; a >= 0; a--) {
        for (ptrdiff_t c = a + 1; c < q; c++) {
            const double f = M[a * q + c];
            for (ptrdiff_t d = 0; d < q; d++) R[a * q + d] -= f * R[c * q + d];
            for (ptrdiff_t j = 0; j < k; j++) b[a * apart + j] -= f * b[c * apart + j];
        }
        const double inv = 1.0 / M[a * q + a];
        for (ptrdiff_t d = 0; d < q; d++) R[a * q + d] *= inv;
        for (ptrdiff_t j = 0; j < k; j++) b[a * apart + j] *= inv;
    }
}

/* Sums over clusters: R, ee', cc' (q x q each), R x R, R x ee', R x cc' (q^2 x q^2 each), and e b (q x q x k), where e = b residual and
 * c = b[:, :f] root. The c parts only with a root (f x f, row-major). work has room for q + f + 2 q^2 doubles. */
SKLMM_CLONES void linear_add(ptrdiff_t q, ptrdiff_t k, ptrdiff_t f, const double *R, const double *b, ptrdiff_t apart,
                             const double *residual, const double *root, double *sums, double *work)
{
    const ptrdiff_t qq = q * q;
    double *e = work, *c = work + q, *ee = c + q * f, *cc = ee + qq;
    for (ptrdiff_t a = 0; a < q; a++) {
        const double *row = b + a * apart;
        double sum = 0.0;
        for (ptrdiff_t j = 0; j < k; j++) sum += row[j] * residual[j];
        e[a] = sum;
        if (!root) continue;
        double *out = c + a * f;
        for (ptrdiff_t j = 0; j < f; j++) out[j] = 0.0;
        for (ptrdiff_t i = 0; i < f; i++) {
            const double x = row[i];
            for (ptrdiff_t j = 0; j < f; j++) out[j] += x * root[i * f + j];
        }
    }
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t d = 0; d < q; d++) {
            double sum = 0.0;
            if (root)
                for (ptrdiff_t j = 0; j < f; j++) sum += c[a * f + j] * c[d * f + j];
            ee[a * q + d] = e[a] * e[d];
            cc[a * q + d] = sum;
        }
    double *RR = sums + 3 * qq, *Re = RR + qq * qq, *Rc = Re + qq * qq, *eb = Rc + qq * qq;
    for (ptrdiff_t a = 0; a < qq; a++) {
        sums[a] += R[a];
        sums[qq + a] += ee[a];
        sums[2 * qq + a] += cc[a];
        for (ptrdiff_t d = 0; d < qq; d++) {
            RR[a * qq + d] += R[a] * R[d];
            Re[a * qq + d] += R[a] * ee[d];
            Rc[a * qq + d] += R[a] * cc[d];
        }
    }
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t d = 0; d < q; d++)
            for (ptrdiff_t j = 0; j < k; j++) eb[(a * q + d) * k + j] += e[a] * b[d * apart + j];
}

#endif
