/* Dense q x q matrices of a few random coefficients: row-major and full; symmetric ones that come in bulk are packed, entry
 * (a, b), a >= b, at a (a + 1) / 2 + b, d = q (q + 1) / 2 of them.
 */
#ifndef SKLMM_SMALLMAT_H
#define SKLMM_SMALLMAT_H

#include "_vecmath.h"
#include <math.h>

SKLMM_INLINE ptrdiff_t packed(ptrdiff_t a, ptrdiff_t b) { return a >= b ? a * (a + 1) / 2 + b : b * (b + 1) / 2 + a; }

SKLMM_APART int cholesky(ptrdiff_t q, const double *A, double *L)
{
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++) {
            double s = A[a * q + b];
            for (ptrdiff_t c = 0; c < b; c++) s -= L[a * q + c] * L[b * q + c];
            if (a == b) {
                if (!(s > 0)) return 1;
                L[a * q + a] = sqrt(s);
            } else {
                L[a * q + b] = s / L[b * q + b];
                L[b * q + a] = 0.0;
            }
        }
    return 0;
}

/* x <- L^-1 x and x <- L'^-1 x for nrhs columns apart by 1 (x is q x nrhs). */
SKLMM_APART void solve_lower(ptrdiff_t q, const double *L, double *x, ptrdiff_t nrhs)
{
    for (ptrdiff_t a = 0; a < q; a++) {
        const double inv = 1.0 / L[a * q + a];
        for (ptrdiff_t c = 0; c < a; c++)
            for (ptrdiff_t j = 0; j < nrhs; j++) x[a * nrhs + j] -= L[a * q + c] * x[c * nrhs + j];
        for (ptrdiff_t j = 0; j < nrhs; j++) x[a * nrhs + j] *= inv;
    }
}

SKLMM_APART void solve_upper(ptrdiff_t q, const double *L, double *x, ptrdiff_t nrhs)
{
    for (ptrdiff_t a = q - 1; a >= 0; a--) {
        const double inv = 1.0 / L[a * q + a];
        for (ptrdiff_t c = a + 1; c < q; c++)
            for (ptrdiff_t j = 0; j < nrhs; j++) x[a * nrhs + j] -= L[c * q + a] * x[c * nrhs + j];
        for (ptrdiff_t j = 0; j < nrhs; j++) x[a * nrhs + j] *= inv;
    }
}

/* C = op(A) B, op the transpose if `ta`; square. */
SKLMM_APART void multiply(ptrdiff_t q, const double *A, int ta, const double *B, int tb, double *C)
{
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b < q; b++) {
            double s = 0.0;
            for (ptrdiff_t c = 0; c < q; c++) s += (ta ? A[c * q + a] : A[a * q + c]) * (tb ? B[b * q + c] : B[c * q + b]);
            C[a * q + b] = s;
        }
}

SKLMM_INLINE void unpack(ptrdiff_t q, const double *P, double *A)
{
    for (ptrdiff_t a = 0; a < q; a++)
        for (ptrdiff_t b = 0; b <= a; b++) A[a * q + b] = A[b * q + a] = P[a * (a + 1) / 2 + b];
}

#endif
