/* The probit's response: mu = Phi(eta), the standard normal distribution function.
 *
 * Of a row with the outcome 1 and t = eta, or the outcome 0 and t = -eta, l = log Phi(t). Where t < 0, x = -t, all follows from the
 * inverse Mills ratio x + M(x) = phi(x) / Phi(-x): with D = 1 - v = 1 - M (x + M) the derivatives of v in t are D' and -D''. Of these M,
 * D' and D'' fall as 1 / x, 1 / x^3 and 1 / x^4, and the formulas for the last two would lose all digits far out: each times a power of
 * x + 4 is a polynomial in (x - 4) / (x + 4), as Shepherd and Laframboise (1981, Mathematics of Computation 36, 249-253) have the scaled
 * complementary error function. The coefficients are from Chebyshev interpolation in 60 digits; relative errors are 5e-16, 9e-16 and
 * 2e-15 for all x >= 0.
 */
#ifndef SKLMM_PROBIT_H
#define SKLMM_PROBIT_H

#include "_vecmath.h"

static const double probit_mills[32] = {
    1.8048571559157687, -1.1822045015192792, 0.40195670380622867, 0.06751792792276659, -0.13822449147872357,
    0.03370366765351547, 0.0316565274787675, -0.02080045431159896, -0.004488589743543901, 0.007961411150203152,
    -0.00037358714601773955, -0.00248579224219354, 0.0005948620881901877, 0.0006654957847153117,
    -0.0002893132406301709, -0.0001503312905080569, 0.00010494007142868227, 2.5598410718239395e-05,
    -3.179922158521809e-05, -1.4565187827615587e-06, 8.223879713112212e-06, -1.1267471643798478e-06,
    -1.7817484123445418e-06, 5.605918542801535e-07, 3.0524847781110937e-07, -1.3529413081994808e-07,
    -3.6569395544138774e-08, 1.4804154022563544e-08, 2.2654646733362437e-09, 0.0, 0.0, 0.0
};
static const double probit_third[36] = {
    -9.142445725521114, 11.511599887253334, -1.5443562777815512, -7.553411570607608, 5.219258978991943,
    2.1172133451621815, -3.8510553881467993, 0.27805423408832824, 1.8706497854578354, -0.684507754816438,
    -0.685455984971943, 0.4695663208048018, 0.18662107734398636, -0.22970831074893525, -0.027868175916731568,
    0.09104569578916225, -0.006838810970121177, -0.030055552715885867, 0.008113418412297587, 0.00802964320615041,
    -0.00440840819361328, -0.0015020779000357509, 0.001844426181877208, 4.497329550790262e-05, -0.0006472011038904256,
    0.00010472187613995467, 0.00019037506898698258, -4.762097485163527e-05, -4.431442362987119e-05,
    1.0820971768343725e-05, 7.1632936843310764e-06, -1.1020439354067e-06, -5.903609014987218e-07, 0.0, 0.0, 0.0
};
static const double probit_fourth[36] = {
    38.93893706381668, -49.13511210457643, -14.938453322916862, 66.19750533961236, -25.948746126967905,
    -40.044039090167345, 36.60587812596755, 12.184655943662712, -26.737717319743297, 1.3595331785694504,
    14.076156024994837, -4.334475139249719, -5.785514294740936, 3.285174926460847, 1.8393924797710737,
    -1.7482236317311812, -0.38081171459505875, 0.7470762220957257, -0.018356082452538346, -0.26461068357171963,
    0.07094602344571577, 0.07621014794254057, -0.04673826289772282, -0.016099165356724215, 0.021955195535487134,
    0.0013905400629283325, -0.008325476316631577, 0.0006447063307771301, 0.0025609188993848202, -0.000352752366977247,
    -0.0006050906951602391, 8.263183987211312e-05, 9.695658227221758e-05, -8.37249714121665e-06,
    -7.79474687437075e-06, 0.0
};

#define SKLMM_ROOT_2PI 2.50662827463100050242
#define SKLMM_OUT_OF_SIGHT 1e150 /* of |eta|, whose square is then a number */

typedef struct { /* of |eta| = x */
    v8d x, inverse, s; /* 1 / (x + 4), (x - 4) / (x + 4) */
    v8d mills;         /* M */
    v8d density, tail; /* phi(x), Phi(-x) */
} probit_sides;

SKLMM_INLINE probit_sides probit_at(v8d eta)
{
    probit_sides p;
    p.x = v8_min(v8_max(eta, -eta), v8_set(SKLMM_OUT_OF_SIGHT));
    p.inverse = 1.0 / (p.x + 4.0);
    p.s = (p.x - 4.0) * p.inverse;
    p.mills = p.inverse * v8_polynomial(probit_mills, 32, p.s);
    p.density = v8_exp(-0.5 * p.x * p.x) * (1.0 / SKLMM_ROOT_2PI);
    p.tail = p.density / (p.x + p.mills);
    return p;
}

/* As `respond` says. An outcome is 0 or 1, so that wy is 0 or w. */
SKLMM_INLINE void probit_respond(v8d eta, v8d w, v8d wy, const int order, int density, v8d *l, v8d *r, v8d *v, v8d *v1, v8d *v2)
{
    const probit_sides p = probit_at(eta);
    const v8l success = wy > 0.0, wrong = (eta > 0.0) ^ success; /* the outcome is the less likely one */
    const v8d signed_w = v8_select(success, w, -w);
    const v8d far = p.x + p.mills, near = p.density / (1.0 - p.tail);
    if (density) {
        const v8d log_of = v8_log(v8_select(wrong, SKLMM_ROOT_2PI * far, 1.0 - p.tail));
        *l = w * v8_select(wrong, -0.5 * p.x * p.x - log_of, log_of);
    }
    *r = signed_w * v8_select(wrong, far, near);
    if (order < 2) return;
    const v8d reach = near + p.x, twice = near + reach, bent = near * reach, turn = 1.0 - reach * twice;
    *v = w * v8_select(wrong, far * p.mills, bent);
    if (order < 3) return;
    const v8d cubed = p.inverse * p.inverse * p.inverse;
    *v1 = signed_w * v8_select(wrong, cubed * v8_polynomial(probit_third, 36, p.s), near * turn);
    if (order < 4) return;
    const v8d fourth = -cubed * p.inverse * v8_polynomial(probit_fourth, 36, p.s);
    *v2 = w * v8_select(wrong, fourth, -bent * turn - near * ((1.0 - bent) * twice + reach * (1.0 - 2.0 * bent)));
}

#endif
