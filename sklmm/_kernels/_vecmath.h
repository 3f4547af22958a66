/* Eight doubles at a time: the vector type, exp and log, and run-time dispatch.
 *
 * GCC's and Clang's vector extensions lower `v8d` to whatever the target has (one AVX-512 register, two AVX,
 * four SSE2 or NEON), so there is one source and no intrinsics. SKLMM_CLONES compiles a function once per
 * x86-64 level and picks at load time; elsewhere, and in builds with bounds checks, it is empty.
 *
 * Conventions of every function on arrays: lengths are rounded up to multiples of 8 inside, so each array must
 * have room (and finite garbage) up to the next multiple of 8 behind its last element.
 */
#ifndef SKLMM_VECMATH_H
#define SKLMM_VECMATH_H

#if !defined(__GNUC__)
#error "sklmm's kernels need GCC or Clang (on Windows: clang-cl or MinGW-w64)"
#endif

#include <stdint.h>
#include <stddef.h>

#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* v8d crosses inlined calls only, so no ABI is at stake */
#endif

typedef double v8d __attribute__((vector_size(64)));
typedef int64_t v8l __attribute__((vector_size(64)));
typedef double v8d_unaligned __attribute__((vector_size(64), aligned(8), may_alias));

#define SKLMM_INLINE static inline __attribute__((always_inline, unused))
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12 && !SKLMM_DEBUG
#define SKLMM_CLONES static __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), unused))
#define SKLMM_WIDE static __attribute__((target("arch=x86-64-v4"), unused)) /* eight doubles are one register there */
#define SKLMM_HAS_WIDE                                                                                               \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && \
     __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
#else
#define SKLMM_CLONES static __attribute__((unused))
#define SKLMM_WIDE static __attribute__((unused))
#define SKLMM_HAS_WIDE 0
#endif

/* Compiled apart from its callers: inlined into each, it would take most of their compile time and no less of their run time. */
#define SKLMM_APART SKLMM_CLONES __attribute__((noinline))
#define SKLMM_RARE static __attribute__((noinline, cold, unused)) /* and once, for little code: extreme data alone takes it */

/* Half as wide: where eight doubles are two registers GCC keeps them in memory, so that long sums are in these. */
typedef double v4d __attribute__((vector_size(32)));
typedef int64_t v4l __attribute__((vector_size(32)));
typedef double v4d_unaligned __attribute__((vector_size(32), aligned(8), may_alias));
typedef int64_t v4l_unaligned __attribute__((vector_size(32), aligned(8), may_alias));
SKLMM_INLINE v4d v4_load(const double *p) { return *(const v4d_unaligned *)p; }
SKLMM_INLINE void v4_store(double *p, v4d a) { *(v4d_unaligned *)p = a; }
/* The first n lanes, 0 in the others. The mask is loaded: comparisons of vectors of integers GCC makes lane by lane. */
SKLMM_INLINE v4d v4_keep_first(ptrdiff_t n, v4d a)
{
    static const int64_t lanes[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
    return (v4d)(*(const v4l_unaligned *)(lanes + 4 - (n < 0 ? 0 : n < 4 ? n : 4)) & (v4l)a);
}

SKLMM_INLINE v8d v8_load(const double *p) { return *(const v8d_unaligned *)p; }
SKLMM_INLINE void v8_store(double *p, v8d a) { *(v8d_unaligned *)p = a; }
SKLMM_INLINE v8d v8_set(double a) { return (v8d){a, a, a, a, a, a, a, a}; }
SKLMM_INLINE v8d v8_select(v8l mask, v8d a, v8d b) { return (v8d)((mask & (v8l)a) | (~mask & (v8l)b)); }
SKLMM_INLINE v8d v8_min(v8d a, v8d b) { return v8_select(a < b, a, b); }
SKLMM_INLINE v8d v8_max(v8d a, v8d b) { return v8_select(a > b, a, b); }
SKLMM_INLINE double v8_sum(v8d a)
{
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}
SKLMM_INLINE double v8_largest(v8d a)
{
    double m = a[0];
    for (int l = 1; l < 8; l++) m = a[l] > m ? a[l] : m;
    return m;
}
/* All ones in the first n lanes (n may exceed 8). */
SKLMM_INLINE v8l v8_first(ptrdiff_t n)
{
    const v8l lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return lane < (v8l){n, n, n, n, n, n, n, n};
}
SKLMM_INLINE v8d v8_keep(v8l mask, v8d a) { return (v8d)(mask & (v8l)a); }

SKLMM_INLINE v8d v8_sqrt(v8d a)
{
    for (int l = 0; l < 8; l++) a[l] = __builtin_sqrt(a[l]);
    return a;
}

#if defined(__clang__)
#define SKLMM_MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SKLMM_MIX(a, b, ...) __builtin_shuffle(a, b, (v8l){__VA_ARGS__})
#endif
/* x[i][j] <-> x[j][i] */
SKLMM_INLINE void v8_transpose(v8d x[8])
{
    v8d a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[2 * i] = SKLMM_MIX(x[2 * i], x[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        a[2 * i + 1] = SKLMM_MIX(x[2 * i], x[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            b[4 * i + j] = SKLMM_MIX(a[4 * i + j], a[4 * i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            b[4 * i + j + 2] = SKLMM_MIX(a[4 * i + j], a[4 * i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        x[i] = SKLMM_MIX(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        x[i + 4] = SKLMM_MIX(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* exp(x), x clamped to [-708, 708]: x = k log 2 + r, |r| <= log(2)/2, Taylor polynomial of degree 13 in r (remainder
 * below 5e-18 relative), scaled by 2^k through the exponent bits. Cody & Waite (1980), chapter 6. */
SKLMM_INLINE v8d v8_exp(v8d x)
{
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer in the low bits */
    x = v8_min(v8_max(x, v8_set(-708.0)), v8_set(708.0));
    v8d k = x * 1.4426950408889634 + shift;
    v8l bits = (v8l)k;
    k -= shift;
    v8d r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    v8d r2 = r * r, r4 = r2 * r2;
    v8d a = (1.0 + r) + r2 * (1.0 / 2 + r * (1.0 / 6));
    v8d b = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    v8d c = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
    v8d d = 1.0 / 479001600 + r * (1.0 / 6227020800.0);
    v8d p = a + r4 * (b + r4 * (c + r4 * d));
    return (v8d)((v8l)p + (bits << 52));
}

/* log(x) of a positive normal x: x = 2^k m, m in [sqrt(1/2), sqrt(2)), log m = 2 atanh(s), s = (m - 1)/(m + 1),
 * |s| <= 0.1716: odd series to s^21 (remainder below 1e-17). */
SKLMM_INLINE v8d v8_log(v8d x)
{
    v8l bits = (v8l)x;
    v8l k = (bits - 0x3fe6a09e667f3bcdLL) >> 52; /* arithmetic: floor of the exponent relative to sqrt(1/2) */
    v8d m = (v8d)(bits - (k << 52));
    v8d kd = (v8d)(k + 0x4338000000000000LL) - 6755399441055744.0; /* int to double through the same shift */
    v8d f = m - 1.0;
    v8d s = f / (2.0 + f);
    v8d z = s * s, z2 = z * z;
    v8d lo = (1.0 / 3 + z * (1.0 / 5)) + z2 * (1.0 / 7 + z * (1.0 / 9));
    v8d hi = (1.0 / 11 + z * (1.0 / 13)) + z2 * (1.0 / 15 + z * (1.0 / 17));
    v8d top = 1.0 / 19 + z * (1.0 / 21);
    v8d tail = lo + (z2 * z2) * (hi + (z2 * z2) * top);
    return kd * 6.93147180369123816490e-01 + (2.0 * s + (2.0 * s * z * tail + kd * 1.90821492927058770002e-10));
}

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1), n a constant and a multiple of 4: four sums side by side. */
SKLMM_INLINE v8d v8_polynomial(const double *c, const int n, v8d x)
{
    const v8d x2 = x * x, x4 = x2 * x2;
    v8d sum[4];
#pragma GCC unroll 4
    for (int a = 0; a < 4; a++) sum[a] = v8_set(c[n - 4 + a]);
#pragma GCC unroll 16
    for (int i = n - 8; i >= 0; i -= 4)
#pragma GCC unroll 4
        for (int a = 0; a < 4; a++) sum[a] = sum[a] * x4 + c[i + a];
    return (sum[0] + sum[1] * x) + x2 * (sum[2] + sum[3] * x);
}

#endif
