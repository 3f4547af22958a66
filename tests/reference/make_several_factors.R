# Fits the reference models with several grouping factors with glmmTMB and writes several_factors.json beside this file.
#
#   Rscript tests/reference/make_several_factors.R [directory to write to]
#
# As in make_mixed.R, nlminb is followed by Newton steps on TMB's exact gradient. The two models of the lecture evaluations
# take most of the five minutes.
suppressPackageStartupMessages({ library(glmmTMB); library(numDeriv); library(jsonlite) })

here <- dirname(normalizePath(sub("--file=", "", grep("--file=", commandArgs(FALSE), value = TRUE))))
out_dir <- if (length(commandArgs(TRUE))) commandArgs(TRUE)[1] else here
shipped <- function(name, ...) {
  read.csv(gzfile(file.path(here, "../../sklmm/datasets/data", paste0(name, ".csv.gz"))), check.names = FALSE, ...)
}
first_levels_shown <- 20

verbagg <- shipped("verbagg", colClasses = c(Gender = "factor", btype = "factor", situ = "factor", id = "factor", item = "factor"))
verbagg$r2 <- as.integer(verbagg$r2 == "Y")
guimmun <- shipped("guimmun", colClasses = c(ord = "factor", ethn = "factor", momEd = "factor", husEd = "factor",
                                             mom = "factor", comm = "factor"))
guimmun$immun <- as.integer(guimmun$immun == "Y")
insteval <- shipped("insteval", colClasses = c(s = "factor", d = "factor", dept = "factor"))
contraception <- shipped("contraception", colClasses = c(livch = "factor", urban = "factor", ch = "factor"))
contraception <- transform(contraception, district = factor(district), use = as.integer(use == "Y"), age2 = age^2)

newton <- function(start, objective, gradient, ...) {
  fit <- nlminb(start, objective, gradient, control = list(iter.max = 1e4, eval.max = 1e5))
  par <- fit$par
  for (step in 1:6) {
    g <- drop(gradient(par))
    if (max(abs(g)) < 1e-8) break
    par <- par - solve(jacobian(gradient, par, method = "simple"), g)
  }
  gradient_size <- max(abs(gradient(par)))
  list(par = setNames(par, names(start)), objective = objective(par),
       convergence = as.integer(gradient_size > 1e-6), message = paste("largest gradient", gradient_size))
}

central <- function(gradient, par) { # accurate to about 1e-8 at a quarter of the cost of Richardson's extrapolation
  columns <- lapply(seq_along(par), function(i) {
    h <- 1e-4 * max(1, abs(par[i]))
    step <- replace(0 * par, i, h)
    drop(gradient(par + step) - gradient(par - step)) / (2 * h)
  })
  do.call(cbind, columns)
}

fit_one <- function(name, formula, data) {
  fit <- glmmTMB(formula, data = data, family = binomial, control = glmmTMBControl(optimizer = newton))
  stopifnot(fit$fit$convergence == 0)
  par <- fit$fit$par
  hessian <- central(fit$obj$gr, par)
  fixed <- names(par) == "beta"
  vcov <- solve((hessian + t(hessian)) / 2)[fixed, fixed]
  invisible(fit$obj$fn(par))
  effects <- ranef(fit)$cond
  factors <- lapply(names(effects), function(factor_name) {
    modes <- as.matrix(effects[[factor_name]])
    shown <- seq_len(min(nrow(modes), first_levels_shown))
    list(n_groups = nrow(modes), cov = unname(matrix(VarCorr(fit)$cond[[factor_name]], ncol(modes))),
         levels = rownames(modes)[shown], modes = unname(modes[shown, , drop = FALSE]),
         modes_sum = unname(colSums(modes)), modes_sumsq = unname(colSums(modes^2)))
  })
  message(sprintf("%-34s %17.9f  %s", name, as.numeric(logLik(fit)), fit$fit$message))
  coef <- fixef(fit)$cond
  list(engine = paste("glmmTMB", packageVersion("glmmTMB")), formula = deparse1(formula),
       log_likelihood = as.numeric(logLik(fit)), fixed_names = c("intercept", names(coef)[-1]), coef = unname(coef),
       se = unname(sqrt(diag(vcov))), factors = setNames(factors, names(effects)))
}

fits <- list(
  "contraception/interaction" = fit_one("contraception/interaction", use ~ age + age2 + urban + livch + (1 | urban:district),
                                        contraception),
  "contraception/nested" = fit_one("contraception/nested", use ~ age + age2 + urban + livch + (1 | district / urban),
                                   contraception),
  "verbagg/id_item" = fit_one("verbagg/id_item", r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item), verbagg),
  "verbagg/slope" = fit_one("verbagg/slope", r2 ~ Anger + Gender + btype + situ + (1 + situ | id) + (1 | item), verbagg),
  "guimmun/mom_comm" = fit_one("guimmun/mom_comm", immun ~ kid2p + mom25p + ord + ethn + momEd + husEd + momWork + rural +
                                 pcInd81 + (1 | mom) + (1 | comm), guimmun),
  "insteval/s_d" = fit_one("insteval/s_d", y4 ~ service + lectage + studage + (1 | s) + (1 | d), insteval),
  "insteval/s_d_dept" = fit_one("insteval/s_d_dept", y4 ~ service + lectage + studage + (1 | s) + (1 | d) + (1 | dept), insteval))
lines <- vapply(names(fits), function(name) {
  entries <- vapply(names(fits[[name]]), function(key) {
    value <- toJSON(fits[[name]][[key]], digits = I(13), auto_unbox = key %in% c("engine", "formula", "log_likelihood"))
    sprintf("  %s: %s", toJSON(unbox(key)), value)
  }, "")
  paste0(" ", toJSON(unbox(name)), ": {\n", paste(entries, collapse = ",\n"), "\n }")
}, "")
writeLines(c("{", paste(lines, collapse = ",\n"), "}"), file.path(out_dir, "several_factors.json"))
