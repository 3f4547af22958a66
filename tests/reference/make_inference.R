# Tests, intraclass correlations, R2 and confidence intervals of the contraception models by lme4, glmmTMB and performance:
# writes inference.json beside this file.
#
#   Rscript tests/reference/make_inference.R [directory to write to]
#
# glmmTMB's fits are brought by Newton steps on its exact gradient to a gradient of about 1e-9. The profile of glmer takes minutes.
# Without the package performance, what inference.json has from it is kept.
suppressPackageStartupMessages({ library(lme4); library(glmmTMB); library(numDeriv); library(jsonlite) })

here <- dirname(normalizePath(sub("--file=", "", grep("--file=", commandArgs(FALSE), value = TRUE))))
out_dir <- if (length(commandArgs(TRUE))) commandArgs(TRUE)[1] else here
contraception <- read.csv(gzfile(file.path(here, "../../sklmm/datasets/data/contraception.csv.gz")), check.names = FALSE,
                          colClasses = c(livch = "factor", urban = "factor", ch = "factor"))
contraception <- transform(contraception, district = factor(district), use = as.integer(use == "Y"), age2 = age^2)

nlminb_newton <- function(start, objective, gradient, ...) {
  fit <- nlminb(start, objective, gradient, control = list(iter.max = 1e4, eval.max = 1e5))
  par <- fit$par
  for (step in 1:10) {
    g <- drop(gradient(par))
    if (max(abs(g)) < 1e-10) break
    par <- par - solve(jacobian(gradient, par), g)
  }
  list(par = par, objective = objective(par), convergence = 0, message = "newton", iterations = fit$iterations)
}
exact <- function(formula) {
  glmmTMB(formula, contraception, family = binomial,
          control = glmmTMBControl(optimizer = nlminb_newton, optArgs = list()))
}
formulas <- list(
  m_01 = use ~ age + urban + livch + (1 | district),
  m_02 = use ~ age + age2 + urban + livch + (1 | district),
  m_03 = use ~ age + age2 + urban + ch + (1 | district),
  m_04 = use ~ age * ch + age2 + urban + (1 | district),
  m_slope_urban = use ~ age + age2 + urban + ch + (1 + urban | district),
  m_slope_age_uncorr = use ~ age + age2 + urban + ch + diag(1 + age | district))
fits <- lapply(formulas, exact)

lrt <- function(smaller, larger) {
  table <- anova(fits[[smaller]], fits[[larger]])
  list(chi2 = table$Chisq[2], df = table$`Chi Df`[2], p_value = table$`Pr(>Chisq)`[2])
}
partition <- function(name) {
  fit <- fits[[name]]
  variance <- insight::get_variance(fit)
  r2 <- performance::r2_nakagawa(fit)
  list(icc = performance::icc(fit)$ICC_adjusted, r2_marginal = unname(r2$R2_marginal),
       r2_conditional = unname(r2$R2_conditional), fixed = unname(variance$var.fixed), random = unname(variance$var.random))
}
partitions <- if (requireNamespace("performance", quietly = TRUE)) {
  c(list(packages = paste("performance", packageVersion("performance"), "insight", packageVersion("insight"))),
    sapply(names(fits), partition, simplify = FALSE))
} else {
  fromJSON(file.path(here, "inference.json"))$variance_partition
}
rows <- function(table, columns = 1:2) {
  names <- sub("(Intercept)", "intercept", rownames(table), fixed = TRUE)
  setNames(lapply(seq_len(nrow(table)), function(i) unname(table[i, columns])), names)
}

m_03 <- glmer(formulas$m_03, contraception, family = binomial)
wald <- confint(fits$m_03, method = "wald")
profiled <- confint(m_03, method = "profile")
profiled_by_glmmTMB <- confint(fits$m_03, method = "profile")

write(toJSON(list(
  versions = list(R = paste(R.version$major, R.version$minor, sep = "."), lme4 = as.character(packageVersion("lme4")),
                  glmmTMB = as.character(packageVersion("glmmTMB"))),
  likelihood_ratio = list("m_01/m_02" = lrt("m_01", "m_02"), "m_03/m_04" = lrt("m_03", "m_04"),
                          "m_03/m_02" = lrt("m_03", "m_02"), "m_03/m_slope_urban" = lrt("m_03", "m_slope_urban")),
  variance_partition = partitions,
  confint_m_03 = list(wald_glmmTMB = rows(wald), profile_glmer = rows(profiled),
                      profile_glmmTMB = rows(profiled_by_glmmTMB))),
  digits = I(13), auto_unbox = TRUE, pretty = TRUE), file.path(out_dir, "inference.json"))
