/* Means of probabilities of a normal linear predictor, eight rows at a time: for the logit the poles of the logistic function
 * decide how fine the rule must be, for the complementary log-log how far from the real line exp(-exp) begins to grow. */
#ifndef SKLMM_EXPECTATIONS_H
#define SKLMM_EXPECTATIONS_H

#include "_cloglog.h"
#include "_vecmath.h"

/* out = sum_k w_k expit(m + s z_k), and its derivative in m unless `slope` is NULL, with the trapezoidal rule (z, w) that the largest s
 * of each eight rows calls for: rule l serves s <= reach[l], nodes first[l] .. first[l + 1] - 1. Returns 0, or 1 if a row's s is
 * beyond the last rule. */
SKLMM_CLONES int logistic_normal_rows(double *out, double *slope, const double *m, const double *s, ptrdiff_t n,
                                      const double *reach, ptrdiff_t rules, const int64_t *first, const double *z,
                                      const double *w)
{
    int beyond = 0;
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        double mean[8] = {0}, sd[8] = {0}, top = 0.0;
        for (ptrdiff_t i = 0; i < k; i++) {
            mean[i] = m[j + i];
            sd[i] = s[j + i];
            top = sd[i] > top ? sd[i] : top;
        }
        ptrdiff_t rule = 0;
        while (rule < rules && top > reach[rule]) rule++;
        if (rule == rules) {
            beyond = 1;
            rule--;
        }
        const v8d mu = v8_load(mean), sigma = v8_load(sd);
        v8d total = v8_set(0.0), slopes = total;
        for (int64_t i = first[rule]; i < first[rule + 1]; i++) {
            const v8d e = v8_exp(-(mu + sigma * z[i])), p = 1.0 / (1.0 + e);
            total += w[i] * p;
            if (slope) slopes += w[i] * p * (e * p);
        }
        v8_store(mean, total);
        v8_store(sd, slopes);
        for (ptrdiff_t i = 0; i < k; i++) {
            out[j + i] = mean[i];
            if (slope) slope[j + i] = sd[i];
        }
    }
    return beyond;
}

/* upper = sum_k w_k mu(m + s z_k), mu = 1 - exp(-exp), and lower = sum_k w_k (1 - mu), with the rules of `logistic_normal_rows`: one
 * for s serves s / 2 here. */
SKLMM_CLONES int cloglog_normal_rows(double *upper, double *lower, const double *m, const double *s, ptrdiff_t n,
                                     const double *reach, ptrdiff_t rules, const int64_t *first, const double *z, const double *w)
{
    int beyond = 0;
    for (ptrdiff_t j = 0; j < n; j += 8) {
        const ptrdiff_t k = n - j < 8 ? n - j : 8;
        double mean[8] = {0}, sd[8] = {0}, top = 0.0;
        for (ptrdiff_t i = 0; i < k; i++) {
            mean[i] = m[j + i];
            sd[i] = s[j + i];
            top = sd[i] > top ? sd[i] : top;
        }
        ptrdiff_t rule = 0;
        while (rule < rules && 2.0 * top > reach[rule]) rule++;
        if (rule == rules) {
            beyond = 1;
            rule--;
        }
        const v8d mu = v8_load(mean), sigma = v8_load(sd);
        v8d up = v8_set(0.0), down = up;
        for (int64_t i = first[rule]; i < first[rule + 1]; i++) {
            const cloglog_parts c = cloglog_at(mu + sigma * z[i]);
            up += w[i] * c.mu;
            down += w[i] * c.rest;
        }
        v8_store(mean, up);
        v8_store(sd, down);
        for (ptrdiff_t i = 0; i < k; i++) {
            upper[j + i] = mean[i];
            lower[j + i] = sd[i];
        }
    }
    return beyond;
}

#endif
