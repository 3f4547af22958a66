/* Newton's method on a strictly concave h(u) = log-likelihood - |u|^2 / 2: how far along its step to go.
 *
 * The log-likelihood of a row changes its curvature by a factor of e at most where its linear predictor moves by 1 (it is
 * self-concordant in the sense of Bach, 2010). From that a Newton step that moves no row by more than 1 raises h by
 * a quarter of its slope at least: it is taken without looking, and rounding errors, which matter in short steps only,
 * decide nothing. A longer step is judged by h and by its slope where it leads, and shortened by Newton's method along it.
 */
#ifndef SKLMM_SEARCH_H
#define SKLMM_SEARCH_H

#include "_vecmath.h"
#include <math.h>

#define SKLMM_SHORT_STEP 1.0   /* of a row's linear predictor */
#define SKLMM_SETTLED_STEP 1e-3 /* steps that are shorter and do not shrink are rounding errors: Newton's method squares them */
#define SKLMM_MAX_EVALUATIONS 20000 /* a bound for what can't be: hard problems take a few hundred */

typedef struct {
    double slope;  /* of h along the step at its start */
    double lo, hi; /* shares of the step known to be short of the maximum, and beyond it */
    double share;  /* that is tried */
} sklmm_search;

SKLMM_INLINE sklmm_search search_from(double slope) { return (sklmm_search){slope, 0.0, INFINITY, 1.0}; }

/* Whether to stay at `share`, where h is higher by `rise`, has the slope `along` and minus the curvature `curvature`; if not,
 * the share to try next. */
SKLMM_INLINE int search_accepts(sklmm_search *t, double rise, double along, double curvature)
{
    if (along < -0.5 * t->slope || (along < 0.0 && rise < 1e-4 * t->share * t->slope)) t->hi = t->share;
    else if (along <= 0.5 * t->slope || t->hi <= 2.0 * t->share || !(t->hi < INFINITY)) return 1;
    else t->lo = t->share;
    const double width = t->hi - t->lo;
    t->share += along / curvature;
    if (!(t->share > t->lo + 0.1 * width && t->share < t->hi - 0.1 * width))
        t->share = t->lo > 0.0 ? sqrt(t->lo * t->hi) : 0.1 * t->hi;
    return 0;
}

#endif
